package memberlist

import (
	"bytes"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// inbound takes packets and streams from the transport, and hands their messages on.
type inbound struct {
	services
	config    *Config
	transport NodeAwareTransport
	engine    *engine
	events    *notifier
	admission *admission
	outbound  *outbound
	users     *userDelivery
	streams   func(net.Conn)          // serves a stream
	held      *workQueue[heldMessage] // only with an AliveDelegate
	slowSends atomic.Bool             // the transport has blocked in sending an answer
}

// holdBack makes the queue of membership messages that wait for the AliveDelegate, if
// there is one.
func (n *inbound) holdBack() {
	if n.config.Alive != nil {
		n.held = newWorkQueue(n.tasks, n.config.HandoffQueueDepth, n.handleHeld).
			bounded(n.config.queueBytes(), (*heldMessage).bytes)
		n.held.protocol = true
	}
}

// listen begins to take in packets and streams.
func (n *inbound) listen() error {
	if n.outbound.direct != nil {
		return n.listenDirect(n.outbound.direct)
	}
	return n.listenToChannels()
}

// listenDirect lets the goroutines of the transport bring what they read and accept
// straight to this node.
func (n *inbound) listenDirect(t directTransport) error {
	if !t.claim() {
		return errTransportInUse
	}
	t.receiveDirect(n.newReceiver)
	t.acceptDirect(n.streams)
	return nil
}

// listenToChannels starts the goroutines that read the channels of a transport.
func (n *inbound) listenToChannels() error {
	packet, open := tryReceive(n.transport.PacketCh())
	if !open {
		return errTransportClosed
	}
	conn, open := tryReceive(n.transport.StreamCh())
	if !open {
		return errTransportClosed
	}
	n.tasks.startLoop(func() { n.readPackets(packet) })
	n.tasks.startLoop(func() { n.acceptStreams(conn) })
	return nil
}

// acceptStreams takes streams from the transport until Shutdown. The first one may
// have been taken already.
func (n *inbound) acceptStreams(first net.Conn) {
	if first != nil {
		n.streams(first)
	}
	streams := n.transport.StreamCh()
	for {
		select {
		case conn, open := <-streams:
			if !open {
				return
			}
			if conn != nil {
				n.streams(conn)
			}
		case <-n.life.ctx.Done():
			return
		}
	}
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
func (n *inbound) readPackets(first *Packet) {
	in := newPacketHandler(n)
	packets := n.transport.PacketCh()
	in.burst(first, packets)
	for {
		select {
		case p, open := <-packets:
			if !open {
				return
			}
			in.burst(p, packets)
		case <-n.life.ctx.Done():
			return
		}
	}
}

// newReceiver makes a handler for the packets that a transport gets on the calling
// goroutine, which becomes one of the protocol's: for good, or while it is handling
// packets.
func (n *inbound) newReceiver(forGood bool) func([]datagram) {
	in := newPacketHandler(n)
	if forGood {
		n.tasks.callers.becomeLoop()
		return in.batch
	}
	return func(packets []datagram) { n.tasks.callers.asLoop(func() { in.batch(packets) }) }
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
func (n *inbound) hold(msg message, from sender) {
	if !n.held.hasRoom(len(msg)) || !n.held.put(heldMessage{msg: bytes.Clone(msg), from: from}) {
		n.drops.queueFull(msg.kind(), 1, from)
	}
}

// holdUsers queues user messages behind the membership messages that wait for the
// AliveDelegate, and reports whether it did. A flood of them leaves half of that
// queue to membership.
func (n *inbound) holdUsers(u *userMessages, size int, from sender) bool {
	if n.held == nil || n.held.waiting.Load() == 0 || !n.held.halfEmpty() {
		return false
	}
	return n.held.put(heldMessage{users: u, size: size, from: from})
}

// handleHeld lets one membership message be admitted and applied.
func (n *inbound) handleHeld(held heldMessage) {
	if held.users != nil {
		if !n.users.queue.put(userBatch{held.users, n.events.last(), held.size}) {
			n.drops.queueFull(userMsg, len(*held.users), held.from)
		}
		return
	}
	in := packetHandler{inbound: n}
	in.decode(held.msg, held.from)
	in.apply(time.Time{}, held.from)
}

// packetHandler takes packets apart and hands their messages on. Each goroutine that
// receives packets has its own, so that its buffers can be used again.
type packetHandler struct {
	*inbound
	reader       *packetReader
	items        []incoming
	pings        []message
	direct       int      // pings, indirect pings, acks and nacks in the packet
	userMessages [][]byte // user messages
	ack          []byte   // an encoded answer
	requester    string   // the source of the last ping; one copy of its name does for many pings

	out      *packetScratch // for answers to what was read together; nil if none
	answered instant        // when the last one was sent, or the first one started

	eventSeq  uint64 // the number of the last event that a packet caused
	userBurst userBurst
}

// maxBurst is how many packets that are there already are handled before their
// user messages are handed over. Waking the goroutine that delivers them once and
// not for each packet saves a third of what a user message costs.
const maxBurst = 16

// maxDirect is how many pings, indirect pings, acks and nacks of one packet count.
// Nodes put one of them into a packet, with broadcasts beside it. More would let a
// small packet ask for thousands of answers, or guess at thousands of acks.
const maxDirect = 2

func newPacketHandler(n *inbound) *packetHandler {
	return &packetHandler{inbound: n, reader: newPacketReader(n.outbound.wire), userBurst: userBurst{delivery: n.users}}
}

// batch handles packets that came together.
func (in *packetHandler) batch(packets []datagram) {
	for i := range packets {
		p := &packets[i]
		in.packet(p.buf, sender{addr: p.from, other: p.other}, p.at)
	}
	in.finish()
	for i := range packets {
		in.outbound.wire.used(packets[i].buf)
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
		in.outbound.giveBatching(in.out)
		in.out = nil
	}
	in.userBurst.handOver()
	in.reader.spent()
	in.trim()
}

// keepItems is for how many messages of a packet a handler keeps room: a few times
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
		in.logFault(fault, from)
	}
	if err != nil {
		in.logFault(err, from)
		return
	}
	in.items, in.pings, in.userMessages, in.direct = in.items[:0], in.pings[:0], in.userMessages[:0], 0
	for i := range msgs {
		in.classify(msgs[i], from)
	}
	if surplus := in.direct - maxDirect; surplus > 0 {
		in.drops.surplus(surplus, from)
	}
	in.apply(arrived, from)
	for i := range in.pings {
		in.answer(in.pings[i].body(), from)
	}
	in.keepUserMessages(from, len(buf))
}

// keepUserMessages keeps the user messages of a packet of that many bytes, for handing
// over at the end of the burst.
func (in *packetHandler) keepUserMessages(from sender, packetLen int) {
	if len(in.userMessages) == 0 || in.config.Delegate == nil {
		return
	}
	lent := from.other == nil || in.reader.copied
	size := memoryOf(in.userMessages, lent, packetLen)
	if !in.userBurst.hasRoom(size) {
		in.drops.queueFull(userMsg, len(in.userMessages), from) // before a copy is made
		return
	}
	msgs := in.userBurst.list(in.userMessages, lent)
	if !in.holdUsers(msgs, size, from) {
		in.userBurst.add(userBatch{msgs, in.eventSeq, size}, from)
	}
}

// logFault tells what is wrong with a packet. Damage on the way is a warning, what
// nobody should have sent is an error (P150).
func (in *packetHandler) logFault(err error, from sender) {
	level := levelError
	if errors.Is(err, errChecksum) || errors.Is(err, errTruncatedCompound) {
		level = levelWarn
	}
	in.log.log(level, "Invalid packet", logFields{addr: from.String(), err: err}, "%v %s", err, from.log())
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
		if in.held != nil {
			in.hold(msg, from)
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
		in.logUndecoded(msg.kind(), err, from)
		in.items = in.items[:len(in.items)-1]
		return
	}
	if canonical {
		item.raw = msg
	}
	if !in.admission.admitPacket(in.life.ctx, item, from) {
		in.items = in.items[:len(in.items)-1]
	}
}

// apply gives the messages of one packet to the core in one go.
func (in *packetHandler) apply(arrived time.Time, from sender) {
	if len(in.items) == 0 {
		return
	}
	in.eventSeq = in.engine.step(func(c *core, now instant) {
		at := in.engine.instantOf(now, arrived)
		for i := range in.items {
			in.receive(c, now, &in.items[i], at, from)
		}
	})
}

// receive applies one decoded message. The lock is held.
func (in *packetHandler) receive(c *core, now instant, item *incoming, arrived instant, from sender) {
	switch item.kind {
	case aliveMsg:
		c.alive(now, &item.alive, item.raw)
	case suspectMsg:
		c.suspect(now, &item.said, item.raw)
	case deadMsg:
		d := dead(item.said)
		c.dead(now, &d, item.raw)
	case ackMsg:
		c.ack(now, &item.ack, arrived)
	case nackMsg:
		c.nack(now, &item.nack)
	case indirectPingMsg:
		ind := &item.ind
		target := destination{addr: addrPortOf(ind.Target, in.config.knownPort(ind.Port)), name: ind.Node.own()}
		requester := answerTo(ind.SourceAddr, ind.SourcePort, from)
		requester.name = ind.SourceNode.own()
		c.relay(now, target, relayRequest{seq: ind.SeqNo, requester: requester, source: from.ip(), wantsNack: ind.Nack})
	}
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
// and so shorter than the ping.
func (in *packetHandler) answer(body []byte, from sender) {
	var p ping
	if !in.decodePing(&p, body, from) {
		return
	}
	reply := ack{SeqNo: p.SeqNo}
	to := answerTo(p.SourceAddr, p.SourcePort, from)
	if in.outbound.direct == nil || in.config.RequireNodeNames {
		in.requester = p.SourceNode.ownUnless(in.requester)
		to.name = in.requester
	}
	back := to.text != "" || to.addr.Addr() == from.ip()
	var payload, piggyback bool
	in.engine.read(func(c *core, now instant) {
		payload, piggyback = c.checkRequester(now, p.SourceNode, to, back)
	})
	if payload && in.config.Ping != nil {
		reply.Payload = in.config.Ping.AckPayload()
	}
	in.ack = reply.appendTo(in.ack[:0])
	in.reply(to, in.ack, piggyback)
}

// decodePing reads a ping, and reports whether it is to be answered.
func (in *packetHandler) decodePing(p *ping, body []byte, from sender) bool {
	if _, err := p.decode(body); err != nil {
		in.logUndecoded(pingMsg, err, from)
		return false
	}
	if err := p.checkBounds(); err != nil {
		in.drops.outOfBounds(pingMsg, err, from)
		return false
	}
	if !p.Node.empty() && !p.Node.is(in.config.Name) {
		in.log.warnf("Got a ping for another node", logFields{node: p.Node.own(), addr: from.String()},
			"Got ping for unexpected node '%s' %s", p.Node.own(), from.log())
		return false
	}
	return true
}

func (in *packetHandler) logUndecoded(kind messageType, err error, from sender) {
	in.log.errorf("Failed to decode a message", logFields{addr: from.String(), err: err, more: []logAttr{{"kind", kind.String()}}},
		"Failed to decode %s message: %v %s", kind, err, from.log())
}

// reply answers a packet on the goroutine that read it, until that has turned out
// to block; then through a queue. The message is the caller's again when it returns.
func (in *packetHandler) reply(to destination, msg []byte, piggyback bool) {
	if in.slowSends.Load() {
		in.outbound.send(&outPacket{to: to, msg: bytes.Clone(msg), piggyback: piggyback, urgent: urgentReply})
		return
	}
	if in.out == nil {
		in.out, in.answered = in.outbound.takeBatching(), in.engine.now()
	}
	in.outbound.reply(in.out, to, msg, piggyback)
	if in.outbound.mayBlock() {
		in.noteSlowness()
	}
}

// slowSend is how long sending a packet may take before the transport counts as one
// that blocks. A process that is merely short of processor time does not take as long.
const slowSend = 100 * time.Millisecond

// noteSlowness ends the sending of answers on goroutines that read if it turns out
// to block. What else was done since the answer before counts as part of it: to ask
// for the time once and not twice takes a tenth off an answer.
func (in *packetHandler) noteSlowness() {
	now := in.engine.now()
	if now.sub(in.answered) > slowSend {
		in.slowSends.Store(true)
	}
	in.answered = now
}
