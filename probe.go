package memberlist

import "time"

// probePhase is how far a probe round has come (SWIM §3.1).
type probePhase uint8

const (
	probeIdle     probePhase = iota
	probeDirect              // waiting for the answer to the own ping
	probeIndirect            // relays and a stream are asked as well
)

// prober runs the probe rounds, one at a time, through the table in its random
// order (SWIM §4.3, round-robin probing).
type prober struct {
	phase        probePhase
	next         int  // place in the table of the next candidate (P45)
	pendingRound bool // a round fell due while another was running (P42)

	ping        *probe
	incarnation uint32 // of the target when the round began
	began       instant
	timeout     time.Duration // for the direct answer
	ends        instant       // of the stretched interval (P48)
	unsent      bool          // the ping could not be sent (P67)
}

// probeDue begins a round, or notes that one is owed when the previous one has
// not ended (P42).
func (c *core) probeDue(now instant) {
	c.timers.set(now.add(jitter(c.rng, c.cfg.ProbeInterval)), (*probeTimer)(c))
	if c.probing.phase != probeIdle {
		c.probing.pendingRound = true
		return
	}
	c.beginProbe(now)
}

// beginProbe pings the next member. One that is alive may get broadcasts along;
// one that is suspect gets the suspicion, so that it can refute at once (P49,
// P50; Lifeguard §IV-C, "buddy system").
func (c *core) beginProbe(now instant) {
	m := c.nextTarget(now)
	if m == nil {
		c.selfCheck.lastAnswer, c.streamSelfCheck.lastAnswer = now, now // nobody was asked, so nobody was silent
		return
	}
	interval := c.health.scale(c.cfg.ProbeInterval)
	if interval > c.cfg.ProbeInterval {
		c.fx.metrics.degradedProbe++
	}
	timeout := c.probeTimeout(m)
	interval += max(timeout-c.cfg.ProbeTimeout, 0) // so that the relays have their time
	timeout = min(timeout, interval)
	p := &probe{core: c}
	p.m, p.node = m, m.node
	c.pings.register(now, &p.pendingPing, p)
	p.setTimer(now.add(timeout))
	c.probing = prober{
		phase: probeDirect, next: c.probing.next, ping: p, incarnation: m.incarnation,
		began: now, timeout: timeout, ends: now.add(interval),
	}
	if !c.cfg.Detector.NoSecondPing {
		p.setTimer(now.add(timeout / 2))
	}
	to := toNode(m.node)
	if m.state() == StateAlive {
		to.node = nil // W25: a plain ping carries no checksum
		p.msg = p.message(m.node.Name)
		c.send(outPacket{to: to, msg: p.msg, piggyback: true, urgent: urgentProbe, seq: p.seq})
		return
	}
	p.msg = c.pingWithSuspicion(p.seq, m)
	c.send(outPacket{to: to, msg: p.msg, urgent: urgentProbe, seq: p.seq})
}

// nextTarget is the next member in table order that is worth a probe, nil if
// there is none (P45, P47). At the end of the table the dead are reaped and the
// order is shuffled (P46).
func (c *core) nextTarget(now instant) *member {
	for range len(c.table.order) + 1 {
		if c.probing.next >= len(c.table.order) {
			c.reap(now)
			c.probing.next = 0
		}
		m := c.table.order[c.probing.next]
		c.probing.next++
		if m != c.self && !m.gone() {
			return m
		}
	}
	return nil
}

// probe is the ping of a probe round. It stays pending after that while the self-check
// is awaited.
type probe struct {
	indirectProbe
	core *core
}

// unsent goes on with the relays if the other end may be to blame that the ping could
// not be sent (P52); else the round is void.
func (p *probe) unsent(now instant, remote bool) {
	c := p.core
	if !remote {
		p.forget()
		c.endProbe(now)
		return
	}
	c.probing.unsent = true
	if c.probing.phase == probeDirect {
		c.probeIndirectly(now)
	}
}

// timedOut goes on with a probe that has no answer yet: it asks again, then
// by other ways, and at the end of the interval comes to its verdict.
func (p *probe) timedOut(now instant) {
	c, pr := p.core, &p.core.probing
	switch {
	case p != pr.ping:
		c.verifyFailedProbe(now, p)
	case now >= pr.ends:
		p.forget()
		c.probeUnanswered(now)
	case pr.phase == probeDirect && now >= pr.began.add(pr.timeout):
		c.logf(levelDebug, "Failed UDP ping", logFields{node: p.node.Name, addr: p.node.Address()},
			"Failed UDP ping: %s (timeout reached)", p.node.Name)
		c.probeIndirectly(now)
	default:
		c.resendPing(p)
	}
}

// resendPing repeats an unanswered ping, so that the loss of a packet costs a few
// packets and not a suspicion that the whole cluster talks about (P168).
func (c *core) resendPing(p *probe) {
	if c.cfg.Detector.NoSecondPing || c.probing.unsent {
		return
	}
	p.repeated = true
	to := toNode(p.node)
	to.node = nil
	c.send(outPacket{to: to, msg: p.msg, urgent: urgentProbe})
}

// repeatsWhileIndirect is how often the own ping is repeated while the relays try.
const repeatsWhileIndirect = 3

// probeIndirectly asks by other ways as well, after the own ping was not answered (P168).
func (c *core) probeIndirectly(now instant) {
	pr := &c.probing
	pr.phase = probeIndirect
	rest := pr.ends.sub(now)
	pr.ping.setTimer(pr.ends)
	if !c.cfg.Detector.NoSecondPing {
		for i := range repeatsWhileIndirect {
			at := now.add(rest * time.Duration(i+1) / (repeatsWhileIndirect + 1))
			pr.ping.setTimer(at)
		}
	}
	c.resendPing(pr.ping)
	c.askOthers(now, &pr.ping.indirectProbe, rest)
}

// acked ends a round well (P53, P56).
func (p *probe) acked(now instant, payload []byte, arrived instant) {
	c, pr := p.core, &p.core.probing
	if p != pr.ping {
		return
	}
	rtt := max(arrived.sub(p.sent), 0)
	if p.repeated { // nobody knows which of the pings was answered (RFC 6298 §3)
		p.m.backOffRTT()
	} else if pr.phase == probeDirect {
		p.m.recordRTT(rtt)
	}
	if pr.phase == probeDirect {
		c.fx.rtts = append(c.fx.rtts, roundTrip{node: p.node, rtt: rtt, payload: payload})
	}
	c.probeSucceeded(now)
}

func (c *core) probeSucceeded(now instant) {
	if !c.probing.unsent {
		c.adjustHealth(-1)
	}
	c.endProbe(now)
}

// probeUnanswered ends a round without an ack: the target is suspected unless a
// stream reached it (P56, P57) or this node has no alibi. Missing nacks are a sign
// that the fault may be here (P67; Lifeguard §IV-A).
func (c *core) probeUnanswered(now instant) {
	pr := c.probing
	p := pr.ping
	name := p.node.Name
	if p.streamAck {
		c.logf(levelWarn, "UDP probes failed where a TCP connection succeeded", logFields{node: name, addr: p.node.Address()},
			"Was able to connect to %s over TCP but UDP probes failed, network may be misconfigured", name)
		c.probeSucceeded(now)
		return
	}
	switch {
	case p.nacksWanted == 0:
		c.adjustHealth(+1)
	case p.nacks < p.nacksWanted:
		c.adjustHealth(p.nacksWanted - p.nacks)
	}
	c.endProbe(now)
	a := failedProbe{
		m: p.m, incarnation: pr.incarnation, sent: p.sent, streamSent: p.streamSent,
		validUntil: now.add(c.cfg.ProbeInterval),
	}
	if !c.selfCheckPassed(now, &p.indirectProbe) {
		c.awaitSelfCheck(now, a, p)
		return
	}
	c.raiseSuspicion(now, a)
}

// endProbe closes the round, and begins the one that is owed.
func (c *core) endProbe(now instant) {
	c.fx.metrics.probeTook, c.fx.metrics.probeEnded = now.sub(c.probing.began), true
	owed := c.probing.pendingRound
	c.probing = prober{next: c.probing.next}
	if owed {
		c.beginProbe(now)
	}
}

// probeTimer begins the next probe round.
type probeTimer core

func (t *probeTimer) expire(now instant) { (*core)(t).probeDue(now) }

func (*probeTimer) stale() bool { return false }
