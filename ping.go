package memberlist

import "time"

// pendingPing is a ping whose ack is awaited. An ack or nack counts only while
// its ping is pending, and an ack only once (P59). Sequence numbers are drawn at
// random, so that an outsider cannot guess one that is pending.
//
// It is embedded in a struct for each kind of ping, which stands beside the feature
// that uses it.
type pendingPing struct {
	seq         uint32
	transmitted bool // the transport has taken the packet
	repeated    bool // it was sent more than once
	kind        pingKind
	pings       *pings
	sent        instant // when it was made, then when the packet went out

	m    *member // whom it concerns; nil if it is no member that is asked
	node *Node   // m as it was then
}

// pingKind is what an answer to a ping means, and its absence. The methods are called
// while the ping is pending. It is not pending any more when acked is called.
type pingKind interface {
	// acked takes in the ack.
	acked(now instant, payload []byte, arrived instant)
	// nacked takes in that a relay could not reach the target either. It returns when
	// the relays were asked, and whether the nack was expected.
	nacked() (asked instant, expected bool)
	// timedOut is called whenever a timer of the ping has gone off.
	timedOut(now instant)
	// unsent takes in that the packet could not be sent. If remote is true, the other
	// end may be to blame.
	unsent(now instant, remote bool)
	// streamAnswered takes in that the target answered the fallback ping on a stream.
	streamAnswered(now instant)
	// streamUnanswered takes in that the target was not asked on a stream after all.
	streamUnanswered()
}

func (p *pendingPing) nacked() (asked instant, expected bool) { return 0, false }

func (p *pendingPing) timedOut(instant) { p.forget() }

func (p *pendingPing) unsent(instant, bool) {}

func (p *pendingPing) streamAnswered(instant) {}

func (p *pendingPing) streamUnanswered() {}

// forget ends the wait for an answer.
func (p *pendingPing) forget() { delete(p.pings.pending, p.seq) }

// await begins the wait for an answer again.
func (p *pendingPing) await() { p.pings.pending[p.seq] = p }

// setTimer calls the kind's timedOut at the given time, if there was no answer until then.
func (p *pendingPing) setTimer(at instant) { p.pings.timers.set(at, p) }

func (p *pendingPing) expire(now instant) {
	if !p.stale() {
		p.kind.timedOut(now)
	}
}

func (p *pendingPing) stale() bool { return p.pings.pending[p.seq] != p }

// message is the encoded ping to the node of that name.
func (p *pendingPing) message(name string) []byte { return p.pings.pingMessage(p.seq, name) }

// pings are the pings whose answers are awaited.
type pings struct {
	*common
	pending map[uint32]*pendingPing
	heard   func(now instant, peer *member, sent instant) // takes in that a peer answered; nil is a relay
}

func newPings(c *common, heard func(now instant, peer *member, sent instant)) pings {
	return pings{common: c, pending: make(map[uint32]*pendingPing), heard: heard}
}

// register makes p pending as a ping of the given kind, under an unused sequence
// number.
func (ps *pings) register(now instant, p *pendingPing, kind pingKind) {
	p.seq, p.kind, p.pings, p.sent = ps.unusedSeq(), kind, ps, now
	ps.pending[p.seq] = p
}

// unusedSeq draws a sequence number that no pending ping has.
func (ps *pings) unusedSeq() uint32 {
	seq := ps.rng.Uint32()
	for seq == 0 || ps.pending[seq] != nil {
		seq = ps.rng.Uint32()
	}
	return seq
}

// sentAt takes in when the transport sent the packet of a ping.
func (ps *pings) sentAt(seq uint32, at instant) {
	if p := ps.pending[seq]; p != nil && !p.transmitted {
		p.sent, p.transmitted = at, true
	}
}

// unsent takes in that a ping could not be sent (P52).
func (ps *pings) unsent(now instant, seq uint32, remote bool) {
	p := ps.pending[seq]
	if p == nil {
		return
	}
	p.transmitted = p.transmitted || remote // it was tried: the silence that follows counts
	p.kind.unsent(now, remote)
}

// ack applies an ack that arrived at the given time.
func (ps *pings) ack(now instant, a *ack, arrived instant) {
	p := ps.pending[a.SeqNo]
	if p == nil {
		return // P59, W77
	}
	p.forget()
	if p.m != nil {
		ps.heard(now, p.m, p.sent)
	}
	p.kind.acked(now, a.Payload, arrived)
}

// nack applies a relay's word that it could not reach the target either (P58).
// It proves that this node is heard and hears.
func (ps *pings) nack(now instant, n *nack) {
	p := ps.pending[n.SeqNo]
	if p == nil {
		return
	}
	if asked, expected := p.kind.nacked(); expected {
		ps.heard(now, nil, asked)
	}
}

// streamAnswered takes in that the target of a ping answered on a stream (P55).
func (ps *pings) streamAnswered(now instant, seq uint32) {
	if p := ps.pending[seq]; p != nil {
		p.kind.streamAnswered(now)
	}
}

// streamUnanswered takes in that the target of a ping was not asked on a stream after all.
func (ps *pings) streamUnanswered(seq uint32) {
	if p := ps.pending[seq]; p != nil {
		p.kind.streamUnanswered()
	}
}

// pingMessage is an encoded ping to the node of that name, with this node as
// its source (P51).
func (c *common) pingMessage(seq uint32, name string) []byte {
	n := c.self.node
	const fixed = 80 // keys and numbers
	return c.appendPing(make([]byte, 0, fixed+len(name)+len(n.Addr)+len(n.Name)), seq, name)
}

func (c *common) appendPing(dst []byte, seq uint32, name string) []byte {
	n := c.self.node
	m := ping{SeqNo: seq, Node: borrow(name), SourceAddr: n.Addr, SourcePort: n.Port, SourceNode: borrow(n.Name)}
	return m.appendTo(dst)
}

// pingWithSuspicion is a ping together with what the target is suspected of (P50).
func (c *common) pingWithSuspicion(seq uint32, m *member) []byte {
	s := suspect{Incarnation: m.incarnation, Node: borrow(m.node.Name), From: borrow(c.cfg.Name)}
	return appendCompound(nil, [][]byte{c.pingMessage(seq, m.node.Name), s.appendTo(nil)})
}

// pingWaiter is a ping of a caller of Memberlist.Ping (P40). It can be used again after an
// answer.
type pingWaiter struct {
	pendingPing
	done     chan struct{} // gets the answer, for which it has room
	answered instant       // when that arrived
	msg      []byte        // memory for the message
}

// pingFor registers a ping for a caller, who sends it himself, waits as long as he
// likes, and forgets it if there was no answer.
func (ps *pings) pingFor(now instant, to destination, w *pingWaiter) outPacket {
	w.pendingPing = pendingPing{}
	ps.register(now, &w.pendingPing, w)
	w.msg = ps.appendPing(w.msg[:0], w.seq, to.name)
	return outPacket{to: to, msg: w.msg, piggyback: true}
}

func (w *pingWaiter) acked(_ instant, _ []byte, arrived instant) {
	w.answered = arrived
	w.pings.fx.answered = append(w.pings.fx.answered, w)
}

// rtt is the time from the sending of the ping to the answer. On one machine the
// answer can arrive before it is known when the ping was sent: then the time is
// counted from when it was made.
func (w *pingWaiter) rtt(sent instant) time.Duration {
	if sent >= w.answered {
		sent = w.pendingPing.sent
	}
	return max(w.answered.sub(sent), 0)
}
