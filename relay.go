package memberlist

import (
	"net/netip"
	"time"
)

// relays are the pings on behalf of nodes that could not reach a target themselves
// (P58). They are counted in all and by the source that asked for them.
type relays struct {
	*common
	pings    *pings
	pending  int
	bySource map[netip.Addr]int
	unknown  answerAllowance // for packets to nodes that are not in the table
}

func newRelays(c *common, p *pings) relays { return relays{common: c, pings: p} }

// relayRequest is an indirect ping that somebody asked for.
type relayRequest struct {
	seq       uint32
	requester destination
	source    netip.Addr // where the indirect ping came from; invalid if it has no IP
	wantsNack bool
}

// relayedPing is a ping that serves such a request.
type relayedPing struct {
	pendingPing
	request  relayRequest
	nackSent bool
	relays   *relays
}

// maxRelays bounds the pings that are pending on behalf of others.
const maxRelays = 4096

// relay pings a target for a node that could not reach it, with a sequence number
// and a source of its own (P58, W71). It does not change the member table.
func (r *relays) relay(now instant, target destination, request relayRequest) {
	if r.self == nil {
		return // not introduced yet
	}
	request.source = relaySource(request.source)
	if !r.take(request.source) {
		r.fx.metrics.relaysRefused++
		return
	}
	p := &relayedPing{request: request, relays: r}
	r.pings.register(now, &p.pendingPing, p)
	p.setTimer(now.add(r.nackTimeout()))
	r.send(outPacket{
		to: target, msg: p.message(target.name), piggyback: r.mayPiggyback(now, target), urgent: urgentReply, seq: p.seq,
	})
}

// acked passes the answer on.
func (p *relayedPing) acked(now instant, _ []byte, _ instant) {
	p.relays.release(p.request.source)
	reply := ack{SeqNo: p.request.seq}
	p.relays.reply(now, p.request.requester, reply.appendTo(nil))
}

// timedOut tells the requester that the target does not answer, early enough
// for it to know at the end of its probe, and waits a little longer for an answer
// that is late (P58).
func (p *relayedPing) timedOut(now instant) {
	r := p.relays
	if p.request.wantsNack && !p.nackSent {
		p.nackSent = true
		n := nack{SeqNo: p.request.seq}
		r.reply(now, p.request.requester, n.appendTo(nil))
		p.setTimer(now.add(r.answerTime() - r.nackTimeout()))
		return
	}
	r.release(p.request.source)
	p.forget()
}

// nackTimeout is how long a relay waits before it sends a nack. The requester's
// round is over one ProbeTimeout after it asked, so that a nack after a full
// ProbeTimeout, as P58 has it, always came too late.
func (r *relays) nackTimeout() time.Duration { return r.answerTime() * 4 / 5 }

// reply sends a message to a node that asked for it.
func (r *relays) reply(now instant, to destination, msg []byte) {
	r.send(outPacket{to: to, msg: msg, piggyback: r.mayPiggyback(now, to), urgent: urgentReply})
}

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

// mayPiggyback reports whether broadcasts may go along with an answer to a
// destination, or with a relayed ping (P75, P196).
func (r *relays) mayPiggyback(now instant, to destination) bool {
	return r.knows(borrow(to.name), to) || r.unknown.take(now)
}

// knows reports whether a name and an address are those of a node in the table.
func (c *common) knows(name borrowed, to destination) bool {
	m := c.table.find(name)
	if m == nil {
		return false
	}
	if to.text != "" {
		return m.node.Address() == to.text
	}
	return addrPortOf(m.node.Addr, m.node.Port) == to.addr
}
