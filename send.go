package memberlist

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"time"
)

// sendQueues are the queues of packets on transports whose sending may block. On others
// they are nil.
type sendQueues [urgencies]*workQueue[outPacket]

// queueOutgoing makes the queues if the transport needs them.
func (o *outbound) queueOutgoing() {
	if sendsAtOnce(o.transport) {
		return
	}
	for i := range o.queues {
		o.queues[i] = newWorkQueue(o.tasks, o.config.HandoffQueueDepth, func(p outPacket) { o.sendNow(&p) }).
			bounded(o.config.queueBytes(), func(p *outPacket) int { return len(p.msg) })
		o.queues[i].protocol = true
	}
}

// sendsAtOnce reports whether sending a packet never waits for the network: true
// of the library's own transports. Others may be built on streams.
func sendsAtOnce(t Transport) bool {
	switch t.(type) {
	case *NetTransport, *MockTransport:
		return true
	}
	return false
}

// mayBlock reports whether sending a packet may block.
func (o *outbound) mayBlock() bool { return o.queues[urgentReply] != nil }

// compoundOverhead is the overhead of a message in a compound: its length (P72).
const compoundOverhead = 2

// userOverhead is compoundOverhead and the type byte of a user message (P74).
const userOverhead = 3

// send lets a packet go out, on this goroutine if that does not block, else through
// the queue of its urgency.
func (o *outbound) send(p *outPacket) {
	q := o.queues[p.urgent]
	if q == nil {
		o.sendNow(p)
		return
	}
	if !q.put(*p) {
		o.drops.outgoing(o.address(p.to))
	}
}

// flushTimeout bounds the wait for packets on transports whose sending may block.
const flushTimeout = 100 * time.Millisecond

// flush waits, for a short time, until what is queued beside probes was given to the
// transport, since Shutdown drops the rest.
func (o *outbound) flush(ctx context.Context) {
	q := o.queues[urgentProbe]
	passed := make(chan struct{})
	if q == nil || o.tasks.callers.inCallback() || !q.put(outPacket{passed: passed}) {
		return
	}
	timeout := time.NewTimer(flushTimeout)
	defer timeout.Stop()
	select {
	case <-passed:
	case <-timeout.C:
	case <-ctx.Done():
	case <-o.life.ctx.Done():
	}
}

// sendNow sends a packet, tells the core if there is a ping in it, and logs a
// failure.
func (o *outbound) sendNow(p *outPacket) {
	if p.passed != nil {
		close(p.passed)
		return
	}
	at, err := o.transmit(p)
	if p.seq != 0 {
		o.reportPing(p.seq, at, err)
	}
	if err != nil {
		o.logUnsent(p.to, err)
	}
}

// transmit makes a packet and sends it. One without a main message is gossip:
// as many queued broadcasts as fit.
func (o *outbound) transmit(p *outPacket) (time.Time, error) {
	s := o.takeScratch()
	defer o.giveScratch(s)
	switch {
	case p.msg == nil:
		return o.sendGossip(s, p.to)
	case p.piggyback:
		return o.sendWithBroadcasts(s, p.to, p.msg)
	}
	return o.write(s, p.to, p.msg)
}

// sendUser sends a user message in a packet of its own.
func (o *outbound) sendUser(to destination, msg []byte) error {
	s := o.takeScratch()
	defer o.giveScratch(s)
	s.msg = append(append(s.msg[:0], byte(userMsg)), msg...)
	_, err := o.write(s, to, s.msg)
	return err
}

// reply sends the answer to a packet. It may wait in s for others until giveBatching.
func (o *outbound) reply(s *packetScratch, to destination, msg []byte, piggyback bool) {
	var err error
	if piggyback {
		_, err = o.sendWithBroadcasts(s, to, msg)
	} else {
		_, err = o.write(s, to, msg)
	}
	if err != nil {
		o.logUnsent(to, err)
	}
}

// sendGossip sends as many queued broadcasts as fit into one packet, and what fits
// into none in packets of its own.
func (o *outbound) sendGossip(s *packetScratch, to destination) (time.Time, error) {
	s.clearMessages()
	space := o.wire.gossipSpace()
	o.addBroadcasts(s, space)
	if len(s.messages) == 0 {
		o.sendUserAlone(s, to, space)
	}
	at, err := o.sendTogether(s, to)
	o.sendAlone(s, to, space)
	return at, err
}

// sendWithBroadcasts sends a message and what broadcasts fit beside it (P75). Without
// gossip, broadcasts that do not fit beside it have no other way than this.
func (o *outbound) sendWithBroadcasts(s *packetScratch, to destination, msg []byte) (time.Time, error) {
	s.clearMessages()
	s.messages = append(s.messages, msg)
	space := o.wire.piggybackSpace(len(msg))
	o.addBroadcasts(s, space)
	at, err := o.sendTogether(s, to)
	if o.config.GossipInterval <= 0 || o.config.GossipNodes <= 0 {
		o.sendAlone(s, to, space)
	}
	return at, err
}

// sendAlone sends a membership broadcast that is too long for the space by itself, in
// a packet that is longer than others. There is one if UDPBufferSize is small (P197).
func (o *outbound) sendAlone(s *packetScratch, to destination, space int) {
	msg := o.broadcasts.drawAlone(space - compoundOverhead)
	if msg == nil {
		return
	}
	if _, err := o.write(s, to, msg); err != nil {
		o.logUnsent(to, err)
	}
}

// sendUserAlone sends user broadcasts that do not fit into the space, each in a packet
// of its own. The Delegate is asked for them when it has nothing that fits (P197).
func (o *outbound) sendUserAlone(s *packetScratch, to destination, space int) {
	longest := o.wire.longestMessage()
	if o.config.Delegate == nil || longest <= space {
		return
	}
	for _, msg := range o.config.Delegate.GetBroadcasts(userOverhead, longest+compoundOverhead) {
		s.user = append(append(s.user[:0], byte(userMsg)), msg...)
		if _, err := o.write(s, to, s.user); err != nil {
			o.logUnsent(to, err)
		}
	}
}

// addBroadcasts draws broadcasts that fit into the space: membership first, then
// the user's (P74).
func (o *outbound) addBroadcasts(s *packetScratch, space int) {
	messages, used := o.broadcasts.drawInto(s.messages, compoundOverhead, space)
	s.messages = messages
	left := space - used
	if o.config.Delegate == nil || left <= userOverhead {
		return
	}
	s.user = s.user[:0]
	msgs := o.config.Delegate.GetBroadcasts(userOverhead, left)
	for _, msg := range msgs {
		s.user = append(append(s.user, byte(userMsg)), msg...)
	}
	rest := s.user
	for _, msg := range msgs {
		s.messages = append(s.messages, rest[:1+len(msg):1+len(msg)])
		rest = rest[1+len(msg):]
	}
}

// sendTogether sends the messages in s.messages in as few packets as their number
// allows: one alone is sent bare, more as compounds (W16, W17).
func (o *outbound) sendTogether(s *packetScratch, to destination) (at time.Time, err error) {
	switch {
	case len(s.messages) == 0:
		return at, nil
	case len(s.messages) == 1:
		return o.write(s, to, s.messages[0])
	case fitsOneCompound(s.messages):
		s.msg = appendCompound(s.msg[:0], s.messages)
		return o.write(s, to, s.msg)
	}
	for i, group := range splitCompounds(s.messages) {
		msg := group[0]
		if len(group) > 1 || len(msg) <= maxPartLen { // one that is left over goes as a compound too (W17)
			s.msg = appendCompound(s.msg[:0], group)
			msg = s.msg
		}
		sent, failed := o.write(s, to, msg)
		if i == 0 {
			at, err = sent, failed
		} else if failed != nil {
			o.logUnsent(to, failed)
		}
	}
	return at, err
}

// write seals a message and gives it to the transport. NetTransport does not keep
// the packet; others may, so they get a copy, which is as long as it has to be.
func (o *outbound) write(s *packetScratch, to destination, msg []byte) (time.Time, error) {
	if o.config.RequireNodeNames && to.name == "" { // P3
		return time.Time{}, ErrNodeNameRequired
	}
	waiting := len(s.sealed)
	sealed, err := o.wire.sealPacket(s.sealed, msg, o.wantsChecksum(to))
	if err != nil {
		return time.Time{}, err
	}
	s.sealed = sealed[:waiting]
	packet := sealed[waiting:]
	o.meter.count(metricUDPSent, len(packet)-o.wire.labelOverhead())
	var at time.Time
	switch {
	case to.text != "" || !to.addr.IsValid():
		at, err = o.transport.WriteToAddress(bytes.Clone(packet), o.address(to))
	case s.batching:
		o.addToBatch(s, to, len(packet))
	default:
		at, err = o.writeToAddr(s, to, packet)
	}
	return at, o.explainSize(err, len(packet))
}

// writeToAddr gives a packet for a known address to the transport.
func (o *outbound) writeToAddr(s *packetScratch, to destination, packet []byte) (time.Time, error) {
	if o.direct == nil {
		return o.transport.WriteToAddress(bytes.Clone(packet), Address{Addr: s.text.of(to.addr), Name: to.name})
	}
	if err := o.direct.sendDirect(packet, to.addr); err != nil {
		return time.Time{}, err
	}
	return time.Now(), nil
}

// wantsChecksum reports whether the receiver is known to understand a checksum
// (W25): a member that the packet is meant for, or, by a quirk of the format, a
// member whose name is the bare address that the packet goes to.
func (o *outbound) wantsChecksum(to destination) bool {
	if to.node != nil {
		return to.node.PMax >= 5
	}
	if o.engine.view.addressNames.Load() == 0 {
		return false
	}
	host := to.addr.Addr().String()
	if to.text != "" {
		host = hostOf(to.text)
	}
	n := o.engine.nodeNamed(host)
	return n != nil && n.PMax >= 5
}

// reportPing tells the core how sending a ping went.
func (o *outbound) reportPing(seq uint32, at time.Time, err error) {
	o.engine.step(func(c *core, now instant) {
		if err != nil {
			c.pingUnsent(now, seq, remoteFailure(err))
			return
		}
		c.pingSent(seq, o.engine.instantOf(now, at))
	})
}

// gossip sends queued broadcasts to the targets of a gossip round (P69, P70).
func (o *outbound) gossip(targets []*Node) {
	s := o.takeBatching()
	for _, n := range targets {
		if o.config.Delegate == nil && o.broadcasts.NumQueued() == 0 {
			break
		}
		o.gossipTo(s, toNode(n))
	}
	o.giveBatching(s)
}

// gossipTo sends queued broadcasts, together with what goes to the other targets
// of the round where the transport can do that.
func (o *outbound) gossipTo(s *packetScratch, to destination) {
	if !s.batching {
		o.send(&outPacket{to: to, urgent: urgentGossip})
		return
	}
	if _, err := o.sendGossip(s, to); err != nil {
		o.logUnsent(to, err)
	}
}

func hostOf(hostPort string) string {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return hostPort
	}
	return host
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
