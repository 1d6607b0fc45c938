package memberlist

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"
)

// packetScratch is the memory for making packets: one after the other, or, if
// batching is set, several that NetTransport sends with one system call. That takes
// some 3 % off a gossip round and 15 % off the answers to a burst.
type packetScratch struct {
	messages [][]byte // messages that go out together
	user     []byte   // user broadcasts with their type byte
	msg      []byte   // a compound
	sealed   []byte   // room for the packet, behind those that wait
	text     addressText

	batching bool
	batched  []batchedPacket
	batch    []outDatagram
}

// addressText remembers the text of the last address: transports other than
// NetTransport want addresses as text, and much of what comes in a row comes from
// the same node.
type addressText struct {
	addr netip.AddrPort
	text string
}

func (t *addressText) of(addr netip.AddrPort) string {
	if t.addr != addr {
		t.addr, t.text = addr, addr.String()
	}
	return t.text
}

// compoundOverhead is the overhead of a message in a compound: its length (P72).
const compoundOverhead = 2

// userOverhead is perRider and the type byte of a user message (P74).
const userOverhead = 3

// slowSend is how long sending a packet may take before the transport counts as one
// that blocks. A process that is merely short of processor time does not take as long.
const slowSend = 100 * time.Millisecond

// sendsAtOnce reports whether sending a packet never waits for the network: true
// of the library's own transports. Others may be built on streams.
func sendsAtOnce(t Transport) bool {
	switch t.(type) {
	case *NetTransport, *MockTransport:
		return true
	}
	return false
}

// send lets a packet go out, on this goroutine if that does not block, else in
// the lane of its urgency.
func (m *Memberlist) send(p *outPacket) {
	l := m.outbox[p.urgent]
	if l == nil {
		m.sendNow(p)
		return
	}
	if !l.put(*p) {
		m.drops.outgoing(m.address(p.to))
	}
}

// outboxPatience bounds the wait for packets on transports whose sending may block.
const outboxPatience = 100 * time.Millisecond

// awaitSent waits, for a short time, until what is queued in the lane of probes was
// given to the transport, since Shutdown drops the rest.
func (m *Memberlist) awaitSent(ctx context.Context) {
	l := m.outbox[urgentProbe]
	passed := make(chan struct{})
	if l == nil || m.tasks.callers.inCallback() || !l.put(outPacket{passed: passed}) {
		return
	}
	timeout := time.NewTimer(outboxPatience)
	defer timeout.Stop()
	select {
	case <-passed:
	case <-timeout.C:
	case <-ctx.Done():
	case <-m.life.ctx.Done():
	}
}

// sendNow sends a packet, tells the core if there is a ping in it, and logs a
// failure.
func (m *Memberlist) sendNow(p *outPacket) {
	if p.passed != nil {
		close(p.passed)
		return
	}
	at, err := m.transmit(p)
	if p.seq != 0 {
		m.pingOut(p.seq, at, err)
	}
	if err != nil {
		m.logUnsent(p.to, err)
	}
}

// transmit makes a packet and sends it. One without a main message is gossip:
// as many queued broadcasts as fit.
func (m *Memberlist) transmit(p *outPacket) (time.Time, error) {
	s := m.takeScratch()
	defer m.giveScratch(s)
	switch {
	case p.msg == nil:
		return m.sendGossip(s, p.to)
	case p.piggyback:
		return m.sendWithBroadcasts(s, p.to, p.msg)
	}
	return m.write(s, p.to, p.msg)
}

// sendGossip sends as many queued broadcasts as fit into one packet, and what fits
// into none in packets of its own.
func (m *Memberlist) sendGossip(s *packetScratch, to destination) (time.Time, error) {
	s.clearMessages()
	space := m.wire.gossipSpace()
	m.addBroadcasts(s, space)
	if len(s.messages) == 0 {
		m.sendUserAlone(s, to, space)
	}
	at, err := m.sendTogether(s, to)
	m.sendAlone(s, to, space)
	return at, err
}

// sendWithBroadcasts sends a message and what broadcasts fit beside it (P75). Without
// gossip, broadcasts that do not fit beside it have no other way than this.
func (m *Memberlist) sendWithBroadcasts(s *packetScratch, to destination, msg []byte) (time.Time, error) {
	s.clearMessages()
	s.messages = append(s.messages, msg)
	space := m.wire.piggybackSpace(len(msg))
	m.addBroadcasts(s, space)
	at, err := m.sendTogether(s, to)
	if m.config.GossipInterval <= 0 || m.config.GossipNodes <= 0 {
		m.sendAlone(s, to, space)
	}
	return at, err
}

// sendAlone sends a membership broadcast that is too long for the space by itself, in
// a packet that is longer than others. There is one if UDPBufferSize is small (P197).
func (m *Memberlist) sendAlone(s *packetScratch, to destination, space int) {
	msg := m.broadcasts.drawAlone(space - compoundOverhead)
	if msg == nil {
		return
	}
	if _, err := m.write(s, to, msg); err != nil {
		m.logUnsent(to, err)
	}
}

// sendUserAlone sends user broadcasts that do not fit into the space, each in a packet
// of its own. The Delegate is asked for them when it has nothing that fits (P197).
func (m *Memberlist) sendUserAlone(s *packetScratch, to destination, space int) {
	longest := m.wire.longestMessage()
	if m.config.Delegate == nil || longest <= space {
		return
	}
	for _, msg := range m.config.Delegate.GetBroadcasts(userOverhead, longest+compoundOverhead) {
		s.user = append(append(s.user[:0], byte(userMsg)), msg...)
		if _, err := m.write(s, to, s.user); err != nil {
			m.logUnsent(to, err)
		}
	}
}

func (m *Memberlist) takeScratch() *packetScratch { return m.scratch.Get().(*packetScratch) }

func (m *Memberlist) giveScratch(s *packetScratch) {
	s.clearMessages()
	m.scratch.Put(s)
}

func (s *packetScratch) clearMessages() {
	clear(s.messages)
	s.messages = s.messages[:0]
}

// addBroadcasts draws broadcasts that fit into the space: membership first, then
// the user's (P74).
func (m *Memberlist) addBroadcasts(s *packetScratch, space int) {
	riders, used := m.broadcasts.drawInto(s.messages, compoundOverhead, space)
	s.messages = riders
	left := space - used
	if m.config.Delegate == nil || left <= userOverhead {
		return
	}
	s.user = s.user[:0]
	msgs := m.config.Delegate.GetBroadcasts(userOverhead, left)
	for _, msg := range msgs {
		s.user = append(append(s.user, byte(userMsg)), msg...)
	}
	rest := s.user
	for _, msg := range msgs {
		s.messages = append(s.messages, rest[:1+len(msg):1+len(msg)])
		rest = rest[1+len(msg):]
	}
}

// sendTogether sends the messages in s.riders in as few packets as their number
// allows: one alone is sent bare, more as compounds (W16, W17).
func (m *Memberlist) sendTogether(s *packetScratch, to destination) (at time.Time, err error) {
	switch {
	case len(s.messages) == 0:
		return at, nil
	case len(s.messages) == 1:
		return m.write(s, to, s.messages[0])
	case fitsOneCompound(s.messages):
		s.msg = appendCompound(s.msg[:0], s.messages)
		return m.write(s, to, s.msg)
	}
	for i, group := range splitCompounds(s.messages) {
		msg := group[0]
		if len(group) > 1 || len(msg) <= maxPartLen { // one that is left over goes as a compound too (W17)
			s.msg = appendCompound(s.msg[:0], group)
			msg = s.msg
		}
		sent, failed := m.write(s, to, msg)
		if i == 0 {
			at, err = sent, failed
		} else if failed != nil {
			m.logUnsent(to, failed)
		}
	}
	return at, err
}

// fitsOneCompound reports whether the messages can go into one compound.
func fitsOneCompound(msgs [][]byte) bool {
	if len(msgs) > maxCompoundParts {
		return false
	}
	for _, msg := range msgs {
		if len(msg) > maxPartLen {
			return false
		}
	}
	return true
}

// write seals a message and gives it to the transport. NetTransport does not keep
// the packet; others may, so they get a copy, which is as long as it has to be.
func (m *Memberlist) write(s *packetScratch, to destination, msg []byte) (time.Time, error) {
	if m.config.RequireNodeNames && to.name == "" { // P3
		return time.Time{}, ErrNodeNameRequired
	}
	waiting := len(s.sealed)
	sealed, err := m.wire.sealPacket(s.sealed, msg, m.wantsChecksum(to))
	if err != nil {
		return time.Time{}, err
	}
	s.sealed = sealed[:waiting]
	packet := sealed[waiting:]
	m.meter.count(metricUDPSent, len(packet)-m.wire.labelOverhead())
	var at time.Time
	switch {
	case to.text != "" || !to.addr.IsValid():
		at, err = m.transport.WriteToAddress(bytes.Clone(packet), m.address(to))
	case s.batching:
		m.addToBatch(s, to, len(packet))
	default:
		at, err = m.writeToAddr(s, to, packet)
	}
	return at, m.explainSize(err, len(packet))
}

// writeToAddr gives a packet for a known address to the transport.
func (m *Memberlist) writeToAddr(s *packetScratch, to destination, packet []byte) (time.Time, error) {
	if m.udp == nil {
		return m.transport.WriteToAddress(bytes.Clone(packet), Address{Addr: s.text.of(to.addr), Name: to.name})
	}
	if err := m.udp.sendDirect(packet, to.addr); err != nil {
		return time.Time{}, err
	}
	return time.Now(), nil
}

// longestDatagram is the longest packet that UDP carries over IPv4.
const longestDatagram = 65507

// explainSize adds to a failure to send a packet that it is too long, if so.
func (m *Memberlist) explainSize(err error, size int) error {
	if err == nil || m.udp == nil || size <= longestDatagram {
		return err
	}
	return newKindError(ErrTooLarge, "packet of %d bytes: %w", size, err)
}

// address is a destination as transports take it.
func (m *Memberlist) address(to destination) Address {
	text := to.text
	if text == "" && to.node != nil {
		text = to.node.Address()
	}
	if text == "" {
		text = to.addr.String()
	}
	return Address{Addr: text, Name: to.name}
}

// wantsChecksum reports whether the receiver is known to understand a checksum
// (W25): a member that the packet is meant for, or, by a quirk of the format, a
// member whose name is the bare address that the packet goes to.
func (m *Memberlist) wantsChecksum(to destination) bool {
	if to.node != nil {
		return to.node.PMax >= 5
	}
	if m.view.addressNames.Load() == 0 {
		return false
	}
	host := to.addr.Addr().String()
	if to.text != "" {
		host = hostOf(to.text)
	}
	m.locked.Lock()
	defer m.locked.Unlock()
	known := m.locked.core.table.get(host)
	return known != nil && known.node.PMax >= 5
}

func hostOf(hostPort string) string {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return hostPort
	}
	return host
}

// pingOut tells the core how sending a ping went.
func (m *Memberlist) pingOut(seq uint32, at time.Time, err error) {
	m.step(func(c *core, now instant) {
		if err != nil {
			c.pingUnsent(now, seq, remoteFailure(err))
			return
		}
		c.pingSent(seq, m.instantOf(now, at))
	})
}

func (m *Memberlist) logUnsent(to destination, err error) {
	if m.life.down.Load() {
		return
	}
	addr := m.address(to)
	m.log.errorf("Failed to send a packet", logFields{node: to.name, addr: addr.Addr, err: err},
		"Failed to send packet to %s: %v", addr.String(), err)
}

// remoteFailure reports whether a failure to send looks like the fault of the
// other end (P52).
func remoteFailure(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) {
		return false
	}
	switch {
	case strings.HasPrefix(op.Net, "tcp"):
		return op.Op == "dial" || op.Op == "read" || op.Op == "write"
	case strings.HasPrefix(op.Net, "udp"):
		return op.Op == "write"
	}
	return false
}

// gossip sends queued broadcasts to the targets of a gossip round (P69, P70).
func (m *Memberlist) gossip(fx *effects) {
	targets := fx.gossip
	if fx.selectGossip {
		targets = m.selectNodes(m.config.GossipNodes, (*core).gossipTargets)
	}
	if len(targets) == 0 {
		return
	}
	start := time.Now()
	s := m.takeBatching()
	for _, n := range targets {
		if m.config.Delegate == nil && m.broadcasts.NumQueued() == 0 {
			break
		}
		m.gossipTo(s, toNode(n))
	}
	m.giveBatching(s)
	m.meter.measureSince(metricGossip, start)
}

// gossipTo sends queued broadcasts, together with what goes to the other targets
// of the round where the transport can do that.
func (m *Memberlist) gossipTo(s *packetScratch, to destination) {
	if !s.batching {
		m.send(&outPacket{to: to, urgent: urgentGossip})
		return
	}
	if _, err := m.sendGossip(s, to); err != nil {
		m.logUnsent(to, err)
	}
}
