package memberlist

import "time"

// probePhase is how far a probe round has come (SWIM §3.1).
type probePhase uint8

const (
	probeIdle     probePhase = iota
	probeDirect              // waiting for the answer to the ping
	probeIndirect            // relays and a stream are asked as well
)

// prober runs the probe rounds, one at a time, through the table in its random
// order (SWIM §4.3, round-robin probing).
type prober struct {
	*common
	pings     *pings
	indirect  *indirectPings
	selfCheck *selfCheck
	health    *awareness
	reap      func(now instant) // is called at the end of the table

	probeRound
	next int // place in the table of the next candidate (P45)
}

func newProber(c *common, p *pings, i *indirectPings, s *selfCheck, h *awareness, reap func(now instant)) prober {
	return prober{common: c, pings: p, indirect: i, selfCheck: s, health: h, reap: reap}
}

// probeRound is the running round.
type probeRound struct {
	phase        probePhase
	pendingRound bool // another round fell due meanwhile (P42)
	ping         *probe
	incarnation  uint32 // of the target when the round began
	began        instant
	timeout      time.Duration // for the direct answer
	ends         instant       // of the stretched interval (P48)
	pingUnsent   bool          // the ping could not be sent (P67)
}

// probe is the ping of a probe round. It stays pending after that while the self-check
// is awaited.
type probe struct {
	indirectProbe
	prober *prober
}

// start sets the time of the first round.
func (pr *prober) start(now instant) {
	if pr.cfg.ProbeInterval > 0 {
		pr.timers.set(pr.withinPeriod(now, pr.cfg.ProbeInterval), pr)
	}
}

func (pr *prober) stale() bool { return false }

// expire begins a round, or notes that one is owed when the previous one has
// not ended (P42).
func (pr *prober) expire(now instant) {
	pr.timers.set(now.add(jitter(pr.rng, pr.cfg.ProbeInterval)), pr)
	if pr.phase != probeIdle {
		pr.pendingRound = true
		return
	}
	pr.begin(now)
}

// begin pings the next member. One that is alive may get broadcasts along;
// one that is suspect gets the suspicion, so that it can refute at once (P49,
// P50; Lifeguard §IV-C, "buddy system").
func (pr *prober) begin(now instant) {
	m := pr.nextTarget(now)
	if m == nil {
		pr.selfCheck.nobodyAsked(now)
		return
	}
	p := pr.beginRound(now, m)
	to, suspected := toNode(m.node), m.state() != StateAlive
	if suspected {
		p.msg = pr.pingWithSuspicion(p.seq, m)
	} else {
		to.node = nil // W25: a plain ping carries no checksum
		p.msg = p.message(m.node.Name)
	}
	pr.send(outPacket{to: to, msg: p.msg, piggyback: !suspected, urgent: urgentProbe, seq: p.seq})
}

// beginRound registers the ping of a round, with its timers.
func (pr *prober) beginRound(now instant, m *member) *probe {
	interval := pr.health.scale(pr.cfg.ProbeInterval)
	if interval > pr.cfg.ProbeInterval {
		pr.fx.metrics.degradedProbe++
	}
	timeout := probeTimeout(pr.cfg, m)
	interval += max(timeout-pr.cfg.ProbeTimeout, 0) // so that the relays have their time
	timeout = min(timeout, interval)
	p := &probe{prober: pr}
	p.m, p.node = m, m.node
	pr.pings.register(now, &p.pendingPing, p)
	p.setTimer(now.add(timeout))
	pr.probeRound = probeRound{
		phase: probeDirect, ping: p, incarnation: m.incarnation,
		began: now, timeout: timeout, ends: now.add(interval),
	}
	if !pr.cfg.detector.noRepeatedPing {
		p.setTimer(now.add(timeout / 2))
	}
	return p
}

// nextTarget is the next member in table order that is worth a probe, nil if
// there is none (P45, P47). At the end of the table the dead are reaped and the
// order is shuffled (P46).
func (pr *prober) nextTarget(now instant) *member {
	for range len(pr.table.order) + 1 {
		if pr.next >= len(pr.table.order) {
			pr.reap(now)
			pr.next = 0
		}
		m := pr.table.order[pr.next]
		pr.next++
		if m != pr.self && !m.gone() {
			return m
		}
	}
	return nil
}

// probes reports whether m is the target of the running round.
func (pr *prober) probes(m *member) bool { return pr.ping != nil && m == pr.ping.m }

// unsent goes on with the relays if the other end may be to blame that the ping could
// not be sent (P52); else the round is void.
func (p *probe) unsent(now instant, remote bool) {
	pr := p.prober
	if !remote {
		p.forget()
		pr.end(now)
		return
	}
	pr.pingUnsent = true
	if pr.phase == probeDirect {
		pr.askIndirectly(now)
	}
}

// timedOut goes on with a probe that has no answer yet: it asks again, then
// by other ways, and at the end of the interval comes to its verdict.
func (p *probe) timedOut(now instant) {
	pr := p.prober
	switch {
	case p != pr.ping:
		pr.selfCheck.verify(now, &p.indirectProbe)
	case now >= pr.ends:
		p.forget()
		pr.unanswered(now)
	case pr.phase == probeDirect && now >= pr.began.add(pr.timeout):
		pr.logf(levelDebug, "Failed UDP ping", logFields{node: p.node.Name, addr: p.node.Address()},
			"Failed UDP ping: %s (timeout reached)", p.node.Name)
		pr.askIndirectly(now)
	default:
		pr.resend(p)
	}
}

// resend repeats an unanswered ping, so that the loss of a packet costs a few
// packets and not a suspicion that the whole cluster talks about (P168).
func (pr *prober) resend(p *probe) {
	if pr.cfg.detector.noRepeatedPing || pr.pingUnsent {
		return
	}
	p.repeated = true
	to := toNode(p.node)
	to.node = nil
	pr.send(outPacket{to: to, msg: p.msg, urgent: urgentProbe})
}

// repeatsWhileIndirect is how often the ping is repeated while the relays try.
const repeatsWhileIndirect = 3

// askIndirectly asks by other ways as well, after the ping was not answered (P168).
func (pr *prober) askIndirectly(now instant) {
	pr.phase = probeIndirect
	rest := pr.ends.sub(now)
	pr.ping.setTimer(pr.ends)
	if !pr.cfg.detector.noRepeatedPing {
		for i := range repeatsWhileIndirect {
			pr.ping.setTimer(now.add(rest * time.Duration(i+1) / (repeatsWhileIndirect + 1)))
		}
	}
	pr.resend(pr.ping)
	pr.indirect.askOthers(now, &pr.ping.indirectProbe, rest)
}

// acked ends a round well (P53, P56).
func (p *probe) acked(now instant, payload []byte, arrived instant) {
	pr := p.prober
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
		pr.fx.rtts = append(pr.fx.rtts, roundTrip{node: p.node, rtt: rtt, payload: payload})
	}
	pr.succeeded(now)
}

func (pr *prober) succeeded(now instant) {
	if !pr.pingUnsent {
		pr.health.adjust(-1)
	}
	pr.end(now)
}

// unanswered ends a round without an ack: the target is suspected unless a
// stream reached it (P56, P57) or this node does not pass its self-check.
func (pr *prober) unanswered(now instant) {
	p := pr.ping
	name := p.node.Name
	if p.streamAck {
		pr.logf(levelWarn, "UDP probes failed where a TCP connection succeeded", logFields{node: name, addr: p.node.Address()},
			"Was able to connect to %s over TCP but UDP probes failed, network may be misconfigured", name)
		pr.succeeded(now)
		return
	}
	pr.health.adjust(p.missingNacks())
	f := failedProbe{
		m: p.m, incarnation: pr.incarnation, sent: p.sent, streamSent: p.streamSent,
		validUntil: now.add(pr.cfg.ProbeInterval),
	}
	pr.end(now)
	pr.selfCheck.judge(now, f, &p.indirectProbe)
}

// missingNacks is how much a failed probe counts against the health of this node. Missing
// nacks are a sign that the fault may be here (P67; Lifeguard §IV-A).
func (p *probe) missingNacks() int {
	if p.nacksWanted == 0 {
		return 1
	}
	return p.nacksWanted - p.nacks
}

// end closes the round, and begins the one that is owed.
func (pr *prober) end(now instant) {
	pr.fx.metrics.probeTook, pr.fx.metrics.probeEnded = now.sub(pr.began), true
	owed := pr.pendingRound
	pr.probeRound = probeRound{}
	if owed {
		pr.begin(now)
	}
}

// abandon ends a probe of m without a verdict: m has moved, and its silence was that of
// another process.
func (pr *prober) abandon(now instant, m *member) {
	if p := pr.ping; pr.probes(m) {
		p.forget()
		pr.end(now)
	}
}

// stalled gives time back to a round that ended while nobody looked.
func (pr *prober) stalled(now instant, back time.Duration) {
	if pr.phase != probeIdle && pr.ends <= now {
		pr.ends = pr.ends.add(back)
		pr.ping.setTimer(pr.ends)
	}
}
