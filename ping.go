package memberlist

import (
	"net/netip"
	"time"
)

// pingPurpose says why a ping was sent and so what its ack means.
type pingPurpose uint8

const (
	pingProbe        pingPurpose = iota // the running probe round (SWIM §3.1)
	pingRelay                           // on behalf of another node (P58)
	pingCaller                          // Memberlist.Ping (P40)
	pingLeave                           // carries the own departure
	pingFinalProbe                      // the last question to a suspect
	pingAddressCheck                    // a node that is claimed to have moved: is it here?
	pingLost                            // is a node back that was dead?
)

// pendingPing is a ping whose ack is awaited. An ack or nack counts only while
// its ping is pending, and an ack only once (P59). Sequence numbers are drawn at
// random, so that an outsider cannot guess one that is pending.
type pendingPing struct {
	seq         uint32
	purpose     pingPurpose
	sent        instant // when it was made, then when the packet went out
	transmitted bool    // the transport has taken the packet
	repeated    bool    // it was sent more than once

	m    *member // whom it concerns; nil for pingRelay and pingCaller
	node *Node   // m as it was then

	indirect  indirectProbe // pingProbe, pingQuestion, pingClaim
	relay     relayRequest  // pingRelay
	waiter    *pingWaiter   // pingCaller
	departure *departure    // pingLeave
	claimed   *addressCheck // pingClaim
}

// indirectProbe is what else is done to reach the target of a ping, and what came of it.
type indirectProbe struct {
	msg         []byte  // the ping, for sending it again
	sent        instant // when the relays were asked
	streamSent  instant // when the target was asked on a stream; 0 = it was not
	nacksWanted int
	nacks       int
	streamAck   bool // the target answered on a stream (P56)
}

// relayRequest is the indirect ping that a relayed ping serves.
type relayRequest struct {
	seq       uint32
	requester destination
	source    netip.Addr // where the indirect ping came from; invalid if it has no IP
	wantsNack bool
	nacked    bool
}

// relays counts the pings that are pending on behalf of others, in all and by the
// source that asked for them.
type relays struct {
	pending  int
	bySource map[netip.Addr]int
}

// maxRelays bounds the pings that are pending on behalf of others.
const maxRelays = 4096

// take reserves a place for a source. Each source may have as many as are left
// free: one that asks for all gets half of them, two get a third each, and there is
// always room for one that has asked for little (Choudhury and Hahne, "Dynamic
// queue length thresholds", 1998) (P181).
func (r *relays) take(source netip.Addr) bool {
	if r.bySource[source] >= maxRelays-r.pending {
		return false
	}
	if r.bySource == nil {
		r.bySource = make(map[netip.Addr]int)
	}
	r.bySource[source]++
	r.pending++
	return true
}

// release gives a place back.
func (r *relays) release(source netip.Addr) {
	r.pending--
	r.bySource[source]--
	if r.bySource[source] == 0 {
		delete(r.bySource, source)
	}
}

// relaySource is the address under which the requests of one machine are counted:
// an IPv6 network is as easily had as an address.
func relaySource(ip netip.Addr) netip.Addr {
	ip = ip.Unmap()
	if ip.Is6() {
		network, _ := ip.Prefix(64)
		return network.Addr()
	}
	return ip
}

// pingWaiter is a caller of Ping. It can be used again after an answer.
type pingWaiter struct {
	done     chan struct{} // gets the answer, for which it has room
	answered instant       // when that arrived

	ping pendingPing
	msg  []byte // memory for the message
}

// rtt is the time from the sending of the ping to the answer. On one machine the
// answer can arrive before it is known when the ping was sent: then the time is
// counted from when it was made.
func (w *pingWaiter) rtt(sent instant) time.Duration {
	if sent >= w.answered {
		sent = w.ping.sent
	}
	return max(w.answered.sub(sent), 0)
}

// newPing registers a ping under an unused sequence number.
func (c *core) newPing(now instant, purpose pingPurpose, timeout time.Duration) *pendingPing {
	p := &pendingPing{purpose: purpose, sent: now}
	c.expectAck(p)
	c.timers.push(timer{at: now.add(timeout), kind: timerPing, seq: p.seq})
	return p
}

// expectAck gives a ping its sequence number.
func (c *core) expectAck(p *pendingPing) {
	p.seq = c.unusedSeq()
	c.pings[p.seq] = p
}

// unusedSeq draws a sequence number that no pending ping has.
func (c *core) unusedSeq() uint32 {
	seq := c.rng.Uint32()
	for seq == 0 || c.pings[seq] != nil {
		seq = c.rng.Uint32()
	}
	return seq
}

// pingMessage is an encoded ping to the node of that name, with this node as
// its source (P51).
func (c *core) pingMessage(seq uint32, name string) []byte {
	n := c.self.node
	const fixed = 80 // keys and numbers
	return c.appendPing(make([]byte, 0, fixed+len(name)+len(n.Addr)+len(n.Name)), seq, name)
}

func (c *core) appendPing(dst []byte, seq uint32, name string) []byte {
	n := c.self.node
	m := ping{SeqNo: seq, Node: borrow(name), SourceAddr: n.Addr, SourcePort: n.Port, SourceNode: borrow(n.Name)}
	return m.appendTo(dst)
}

// sendPing lets a ping packet go out; broadcasts may ride along.
func (c *core) sendPing(p *pendingPing, to destination, urgent urgency) {
	c.fx.packets = append(c.fx.packets, outPacket{
		to: to, msg: c.pingMessage(p.seq, to.name), piggyback: true, urgent: urgent, seq: p.seq,
	})
}

// pingSent tells when the transport sent the packet of a ping.
func (c *core) pingSent(seq uint32, at instant) {
	if p := c.pings[seq]; p != nil && !p.transmitted {
		p.sent, p.transmitted = at, true
	}
}

// ack applies an ack that arrived at the given time.
func (c *core) ack(now instant, a *ack, arrived instant) {
	p := c.pings[a.SeqNo]
	if p == nil {
		return // P59, W77
	}
	delete(c.pings, a.SeqNo)
	if p.m != nil {
		c.answerReceived(now, p.m, p.sent)
	}
	switch p.purpose {
	case pingProbe:
		c.probeAcked(now, p, a.Payload, arrived)
	case pingRelay:
		c.relays.release(p.relay.source)
		reply := ack{SeqNo: p.relay.seq}
		c.reply(now, p.relay.requester, reply.appendTo(nil))
	case pingCaller:
		p.waiter.answered = arrived
		c.fx.answered = append(c.fx.answered, p.waiter)
	case pingLeave:
		c.departureHeard(now, p)
	case pingFinalProbe:
		c.clearSuspicion(now, p.m)
	case pingAddressCheck:
		c.addressPingAnswered(now, p)
	case pingLost:
		c.lostNodeAnswered(p)
	}
}

// nack applies a relay's word that it could not reach the target either (P58).
// It proves that this node is heard and hears.
func (c *core) nack(now instant, n *nack) {
	p := c.pings[n.SeqNo]
	if p == nil || p.indirect.nacks >= p.indirect.nacksWanted {
		return
	}
	p.indirect.nacks++
	c.answerReceived(now, nil, p.indirect.sent)
}

// pingTimedOut ends the patience for a ping.
func (c *core) pingTimedOut(now instant, seq uint32) {
	p := c.pings[seq]
	if p == nil {
		return
	}
	switch p.purpose {
	case pingProbe:
		c.probeTimedOut(now, p)
	case pingRelay:
		c.relayTimedOut(now, p)
	case pingAddressCheck:
		c.addressPingTimedOut(now, p)
	case pingFinalProbe:
		c.repeatFinalProbe(now, p)
	default:
		delete(c.pings, seq)
	}
}

// relayTimedOut tells the requester that the target does not answer, early enough
// for it to know at the end of its probe, and waits a little longer for an answer
// that is late (P58).
func (c *core) relayTimedOut(now instant, p *pendingPing) {
	if p.relay.wantsNack && !p.relay.nacked {
		p.relay.nacked = true
		n := nack{SeqNo: p.relay.seq}
		c.reply(now, p.relay.requester, n.appendTo(nil))
		c.timers.push(timer{at: now.add(c.answerTime() - c.nackTimeout()), kind: timerPing, seq: p.seq})
		return
	}
	c.relays.release(p.relay.source)
	delete(c.pings, p.seq)
}

// nackTimeout is how long a relay waits before it sends a nack. The requester's
// round is over one ProbeTimeout after it asked, so that a nack after a full
// ProbeTimeout, as P58 has it, always came too late.
func (c *core) nackTimeout() time.Duration { return c.answerTime() * 4 / 5 }

// answerTime is how long the answer to a ping may take where somebody waits for it:
// ProbeTimeout, or without one, when probes ask relays at once, half a second.
func (c *core) answerTime() time.Duration {
	if c.cfg.ProbeTimeout > 0 {
		return c.cfg.ProbeTimeout
	}
	return 500 * time.Millisecond
}

// reply sends a message to a node that asked for it.
func (c *core) reply(now instant, to destination, msg []byte) {
	c.fx.packets = append(c.fx.packets, outPacket{to: to, msg: msg, piggyback: c.carries(now, to), urgent: urgentReply})
}

// Bounds of the packets that are sent to unknown nodes because somebody asked for
// them and that have broadcasts along.
const (
	answerBurst    = 32
	answerInterval = 500 * time.Millisecond
)

// answerAllowance is a token bucket for such packets. Anybody can send a ping in
// any name from any address: what is sent there may be more than was spent only as
// often as this allows, and uses up no more broadcasts.
type answerAllowance struct {
	full instant // when all tokens are back
}

// take takes a token, if there is one.
func (a *answerAllowance) take(now instant) bool {
	next := max(a.full, now).add(answerInterval)
	if next.sub(now) > answerBurst*answerInterval {
		return false
	}
	a.full = next
	return true
}

// carries reports whether broadcasts may ride on an answer to a destination, or on a
// relayed ping (P75, P196).
func (c *core) carries(now instant, to destination) bool {
	return c.knows(borrow(to.name), to) || c.unknownRequesters.take(now)
}

// knows reports whether a name and an address are those of a node in the table.
func (c *core) knows(name borrowed, to destination) bool {
	m := c.table.find(name)
	if m == nil {
		return false
	}
	if to.text != "" {
		return m.node.Address() == to.text
	}
	return addrPortOf(m.node.Addr, m.node.Port) == to.addr
}

// relay pings a target for a node that could not reach it, with a sequence number
// and a source of its own (P58, W71). It does not touch the own view.
func (c *core) relay(now instant, target destination, r relayRequest) {
	if c.self == nil {
		return // not introduced yet
	}
	r.source = relaySource(r.source)
	if !c.relays.take(r.source) {
		c.fx.metrics.relaysRefused++
		return
	}
	p := c.newPing(now, pingRelay, c.nackTimeout())
	p.relay = r
	c.fx.packets = append(c.fx.packets, outPacket{
		to: target, msg: c.pingMessage(p.seq, target.name), piggyback: c.carries(now, target), urgent: urgentReply, seq: p.seq,
	})
}

// pingFor registers a ping for a caller of Ping, who sends it himself (P40), waits
// as long as he likes, and forgets it if there was no answer.
func (c *core) pingFor(now instant, to destination, w *pingWaiter) outPacket {
	w.ping = pendingPing{purpose: pingCaller, sent: now, waiter: w}
	c.expectAck(&w.ping)
	w.msg = c.appendPing(w.msg[:0], w.ping.seq, to.name)
	return outPacket{to: to, msg: w.msg, piggyback: true}
}

// forgetPing drops a ping whose caller has gone.
func (c *core) forgetPing(seq uint32) { delete(c.pings, seq) }
