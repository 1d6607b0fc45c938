package memberlist

import (
	"bytes"
	"errors"
	"time"
)

// listen begins to take in packets and streams.
func (m *Memberlist) listen() error {
	if m.udp != nil {
		return m.listenDirect()
	}
	return m.listenToChannels()
}

// listenDirect lets the goroutines of NetTransport bring what they read and accept
// straight to this node.
func (m *Memberlist) listenDirect() error {
	if !m.udp.claim() {
		return errTransportInUse
	}
	m.udp.receiveDirect(m.newReceiver)
	m.udp.acceptDirect(m.takeStream)
	return nil
}

// listenToChannels starts the goroutines that read the channels of a transport.
func (m *Memberlist) listenToChannels() error {
	packet, open := tryReceive(m.transport.PacketCh())
	if !open {
		return errTransportClosed
	}
	conn, open := tryReceive(m.transport.StreamCh())
	if !open {
		return errTransportClosed
	}
	m.tasks.startLoop(func() { m.readPackets(packet) })
	m.tasks.startLoop(func() { m.acceptStreams(conn) })
	return nil
}

// tryReceive returns what waits in a channel, if anything does, and whether the
// channel is open.
func tryReceive[T any](ch <-chan T) (first T, open bool) {
	select {
	case first, open = <-ch:
		return first, open
	default:
		return first, true
	}
}

// readPackets takes packets from the transport's channel until Shutdown. The first
// one may have been taken already.
func (m *Memberlist) readPackets(first *Packet) {
	in := newPacketHandler(m)
	packets := m.transport.PacketCh()
	in.burst(first, packets)
	for {
		select {
		case p, open := <-packets:
			if !open {
				return
			}
			in.burst(p, packets)
		case <-m.life.ctx.Done():
			return
		}
	}
}

// packetHandler takes packets apart and hands their messages on. Each goroutine that
// receives packets has its own, so that its buffers can be used again.
type packetHandler struct {
	m            *Memberlist
	reader       *packetReader
	items        []incoming
	pings        []message
	direct       int      // pings, indirect pings, acks and nacks in the packet
	userMessages [][]byte // user messages
	ack          []byte   // an encoded answer
	requester    string   // the source of the last ping; one copy of its name does for many pings

	out      *packetScratch // for answers to what was read together; nil if none
	answered instant        // when the last one was sent, or the first one started

	eventSeq uint64 // the number of the last event that a packet caused
	users    []userBatch
	senders  []sender // of users
	kept     int      // bytes that users hold
}

// maxBurst is how many packets that are there already are handled before their
// user messages are handed over. Waking the goroutine that delivers them once and
// not for each packet saves a third of what a user message costs.
const maxBurst = 16

// maxDirect is how many pings, indirect pings, acks and nacks of one packet count.
// Nodes put one of them into a packet, with broadcasts beside it. More would let a
// small packet ask for thousands of answers, or guess at thousands of acks.
const maxDirect = 2

func newPacketHandler(m *Memberlist) *packetHandler {
	return &packetHandler{m: m, reader: newPacketReader(m.wire)}
}

// newReceiver makes a handler for the packets that NetTransport gets on the calling
// goroutine, which becomes one of the protocol's: for good, or while it is handling
// packets.
func (m *Memberlist) newReceiver(forGood bool) func([]datagram) {
	in := newPacketHandler(m)
	if forGood {
		m.tasks.callers.becomeLoop()
		return in.batch
	}
	return func(packets []datagram) { m.tasks.callers.asLoop(func() { in.batch(packets) }) }
}

// batch handles packets that came together.
func (in *packetHandler) batch(packets []datagram) {
	for i := range packets {
		p := &packets[i]
		in.packet(p.buf, sender{addr: p.from, other: p.other}, p.at)
	}
	in.finish()
	for i := range packets {
		in.m.wire.used(packets[i].buf)
	}
}

// burst handles a packet and those that wait behind it.
func (in *packetHandler) burst(p *Packet, packets <-chan *Packet) {
	for n := 0; p != nil && n < maxBurst; n++ {
		in.packet(p.Buf, sender{other: p.From}, p.Timestamp)
		p = nil
		if n+1 < maxBurst {
			select {
			case p = <-packets:
			default:
			}
		}
	}
	in.finish()
}

// finish lets go what packets that came together have led to.
func (in *packetHandler) finish() {
	if in.out != nil {
		in.m.giveBatching(in.out)
		in.out = nil
	}
	in.handOverUserMessages()
	in.reader.spent()
	in.trim()
}

// keepItems is for how many messages of a packet an intake keeps room: a few times
// what nodes put into one.
const keepItems = 1024

// trim gives back what an unusual packet has left.
func (in *packetHandler) trim() {
	if cap(in.items) > keepItems || cap(in.pings) > keepItems || cap(in.userMessages) > keepItems {
		in.items, in.pings, in.userMessages = nil, nil, nil
	}
	in.reader.trim()
}

// packet handles one packet: membership first, so that the answer to a ping can
// carry what it brought, then pings, then user messages. Nothing in here waits for
// user code but the ping delegate's payload (P86, P87).
func (in *packetHandler) packet(buf []byte, from sender, arrived time.Time) {
	msgs, err := in.reader.read(buf)
	for _, fault := range in.reader.faults {
		in.m.logFault(fault, from)
	}
	if err != nil {
		in.m.logFault(err, from)
		return
	}
	in.items, in.pings, in.userMessages, in.direct = in.items[:0], in.pings[:0], in.userMessages[:0], 0
	for i := range msgs {
		in.classify(msgs[i], from)
	}
	if surplus := in.direct - maxDirect; surplus > 0 {
		in.m.drops.surplus(surplus, from)
	}
	in.apply(arrived, from)
	for i := range in.pings {
		in.answer(in.pings[i].body(), from)
	}
	in.keepUserMessages(from, len(buf))
}

// logFault tells what is wrong with a packet. Damage on the way is a warning, what
// nobody should have sent is an error (P150).
func (m *Memberlist) logFault(err error, from sender) {
	level := levelError
	if errors.Is(err, errChecksum) || errors.Is(err, errTruncatedCompound) {
		level = levelWarn
	}
	m.log.log(level, "Invalid packet", logFields{addr: from.String(), err: err}, "%v %s", err, from.log())
}

// classify decodes a message and puts it where it will be handled.
func (in *packetHandler) classify(msg message, from sender) {
	switch msg.kind() {
	case pingMsg, indirectPingMsg, ackMsg, nackMsg:
		if in.direct++; in.direct > maxDirect {
			return
		}
		if msg.kind() == pingMsg {
			in.pings = append(in.pings, msg)
			return
		}
		in.decode(msg, from)
	case userMsg:
		in.userMessages = append(in.userMessages, msg.body()) // handed over at the end
	case aliveMsg, suspectMsg, deadMsg:
		if lane := in.m.memberQueue; lane != nil {
			in.m.hold(lane, msg, from)
			return
		}
		in.decode(msg, from)
	}
}

// decode adds a message to those for the core.
func (in *packetHandler) decode(msg message, from sender) {
	if len(in.items) < cap(in.items) {
		in.items = in.items[:len(in.items)+1]
	} else {
		in.items = append(in.items, incoming{})
	}
	item := &in.items[len(in.items)-1]
	item.kind, item.raw = msg.kind(), nil
	canonical, err := item.decode(msg)
	if err != nil {
		in.m.log.errorf("Failed to decode a message", logFields{addr: from.String(), err: err, more: []logAttr{{"kind", msg.kind().String()}}},
			"Failed to decode %s message: %v %s", msg.kind(), err, from.log())
		in.items = in.items[:len(in.items)-1]
		return
	}
	if canonical {
		item.raw = msg
	}
	if !in.m.admission.admitPacket(in.m.life.ctx, item, from) {
		in.items = in.items[:len(in.items)-1]
	}
}

// apply gives the messages of one packet to the core in one go.
func (in *packetHandler) apply(arrived time.Time, from sender) {
	if len(in.items) == 0 {
		return
	}
	m := in.m
	m.locked.Lock()
	now := m.now()
	for i := range in.items {
		m.receive(m.locked.core, now, &in.items[i], arrived, from)
	}
	fx, eventSeq := m.settle()
	m.locked.Unlock()
	in.eventSeq = eventSeq
	m.perform(fx)
}

// receive applies one decoded message. The lock is held.
func (m *Memberlist) receive(c *core, now instant, item *incoming, arrived time.Time, from sender) {
	switch item.kind {
	case aliveMsg:
		c.alive(now, &item.alive, item.raw)
	case suspectMsg:
		c.suspect(now, &item.said, item.raw)
	case deadMsg:
		d := dead(item.said)
		c.dead(now, &d, item.raw)
	case ackMsg:
		c.ack(now, &item.ack, m.instantOf(now, arrived))
	case nackMsg:
		c.nack(now, &item.nack)
	case indirectPingMsg:
		ind := &item.ind
		target := destination{addr: addrPortOf(ind.Target, m.config.knownPort(ind.Port)), name: ind.Node.own()}
		requester := answerTo(ind.SourceAddr, ind.SourcePort, from)
		requester.name = ind.SourceNode.own()
		c.relay(now, target, relayRequest{seq: ind.SeqNo, requester: requester, source: from.ip(), wantsNack: ind.Nack})
	}
}

// instantOf is a transport's timestamp on the core's clock. Transports that
// give none, or one that cannot be, get the time of handling.
func (m *Memberlist) instantOf(now instant, t time.Time) instant {
	if at := instant(t.Sub(m.epoch)); !t.IsZero() && at > 0 && at < now {
		return at
	}
	return now
}

// answerTo is where the answer to a ping or indirect ping goes: to the source
// that it names, else to where it came from (W69, W70).
func answerTo(ip []byte, port uint16, from sender) destination {
	if len(ip) > 0 && port > 0 {
		return destination{addr: addrPortOf(ip, port)}
	}
	return from.destination()
}

// answer replies to a ping packet, unless it is meant for another node (P60, W78).
// An answer to an unknown node elsewhere than where the packet came from is bare,
// and so shorter than the question.
func (in *packetHandler) answer(body []byte, from sender) {
	m := in.m
	var p ping
	if _, err := p.decode(body); err != nil {
		m.log.errorf("Failed to decode a message", logFields{addr: from.String(), err: err, more: []logAttr{{"kind", pingMsg.String()}}},
			"Failed to decode ping message: %v %s", err, from.log())
		return
	}
	if err := p.checkBounds(); err != nil {
		m.drops.outOfBounds(pingMsg, err, from)
		return
	}
	if !p.Node.empty() && !p.Node.is(m.config.Name) {
		m.log.warnf("Got a ping for another node", logFields{node: p.Node.own(), addr: from.String()},
			"Got ping for unexpected node '%s' %s", p.Node.own(), from.log())
		return
	}
	reply := ack{SeqNo: p.SeqNo}
	to := answerTo(p.SourceAddr, p.SourcePort, from)
	if m.udp == nil || m.config.RequireNodeNames {
		in.requester = p.SourceNode.ownUnless(in.requester)
		to.name = in.requester
	}
	back := to.text != "" || to.addr.Addr() == from.ip()
	payload, riders := m.checkRequester(p.SourceNode, to, back)
	if payload && m.config.Ping != nil {
		reply.Payload = m.config.Ping.AckPayload()
	}
	in.ack = reply.appendTo(in.ack[:0])
	in.reply(to, in.ack, riders)
}

// checkRequester tells whether the answer to a ping may have a payload and broadcasts.
// back says that it goes back to where the ping came from.
func (m *Memberlist) checkRequester(name borrowed, to destination, back bool) (payload, riders bool) {
	m.locked.Lock()
	defer m.locked.Unlock()
	return m.locked.core.checkRequester(m.now(), name, to, back)
}

// reply answers a packet on the goroutine that read it, until that has turned out
// to block; then in a lane. The message is the caller's again when it returns.
func (in *packetHandler) reply(to destination, msg []byte, riders bool) {
	m := in.m
	if m.slowSends.Load() {
		if !m.outbox[urgentReply].put(outPacket{to: to, msg: bytes.Clone(msg), piggyback: riders}) {
			m.drops.outgoing(m.address(to))
		}
		return
	}
	if in.out == nil {
		in.out, in.answered = m.takeBatching(), m.now()
	}
	send := m.write
	if riders {
		send = m.sendWithBroadcasts
	}
	if _, err := send(in.out, to, msg); err != nil {
		m.logUnsent(to, err)
	}
	if m.outbox[urgentReply] != nil {
		in.noteSlowness()
	}
}

// noteSlowness ends the sending of answers on goroutines that read if it turns out
// to block. What else was done since the answer before counts as part of it: to ask
// for the time once and not twice takes a tenth off an answer.
func (in *packetHandler) noteSlowness() {
	now := in.m.now()
	if now.sub(in.answered) > slowSend {
		in.m.slowSends.Store(true)
	}
	in.answered = now
}

// heldMessage is a membership message on its way to the AliveDelegate, or the user
// messages that came with such.
type heldMessage struct {
	msg   message
	users *userMessages
	size  int // bytes that users hold
	from  sender
}

func (h *heldMessage) bytes() int { return len(h.msg) + h.size }

// hold queues a membership message for the goroutine that may ask the
// AliveDelegate, so that its slowness does not hold up pings.
func (m *Memberlist) hold(l *workQueue[heldMessage], msg message, from sender) {
	if !l.hasRoom(len(msg)) || !l.put(heldMessage{msg: bytes.Clone(msg), from: from}) {
		m.drops.queueFull(msg.kind(), 1, from)
	}
}

// handleHeld lets one membership message pass the gates and apply.
func (m *Memberlist) handleHeld(held heldMessage) {
	if held.users != nil {
		if !m.userQueue.put(userBatch{held.users, m.notifier.last(), held.size}) {
			m.drops.queueFull(userMsg, len(*held.users), held.from)
		}
		return
	}
	in := packetHandler{m: m}
	in.decode(held.msg, held.from)
	in.apply(time.Time{}, held.from)
}

// queueRoundTrips tells the ping delegate of answered probes (P53), apart from
// the packets, since it may be slow.
func (m *Memberlist) queueRoundTrips(rtts []roundTrip) {
	if m.config.Ping == nil {
		return
	}
	for _, rt := range rtts {
		if !m.rttQueue.hasRoom(len(rt.payload)) {
			m.drops.roundTrip()
			continue
		}
		rt.payload = bytes.Clone(rt.payload)
		if !m.rttQueue.put(rt) {
			m.drops.roundTrip()
		}
	}
}

func (m *Memberlist) deliverRoundTrip(rt roundTrip) {
	m.config.Ping.NotifyPingComplete(rt.node, rt.rtt, rt.payload)
}
