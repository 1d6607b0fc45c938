package memberlist

import (
	"math"
	"slices"
	"time"
)

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

	ping        *pendingPing
	incarnation uint32 // of the target when the round began
	began       instant
	timeout     time.Duration // for the direct answer
	ends        instant       // of the stretched interval (P48)
	unsent      bool          // the ping could not be sent (P67)
}

// start sets the first alarms, each at a random moment of its first period (P42).
func (c *core) start(now instant) {
	if c.cfg.ProbeInterval > 0 {
		c.timers.push(timer{at: c.withinPeriod(now, c.cfg.ProbeInterval), kind: timerProbe})
	}
	if c.cfg.GossipInterval > 0 && c.cfg.GossipNodes > 0 {
		c.timers.push(timer{at: c.withinPeriod(now, c.cfg.GossipInterval), kind: timerGossip})
	}
	if c.cfg.PushPullInterval > 0 {
		wait := pushPullWait(c.cfg.PushPullInterval, len(c.table.order))
		c.timers.push(timer{at: c.withinPeriod(now, c.cfg.PushPullInterval).add(wait), kind: timerSync})
	}
	if c.cfg.QueueCheckInterval > 0 {
		c.timers.push(timer{at: now.add(c.cfg.QueueCheckInterval), kind: timerQueueSample})
	}
	c.startReconnecting(now)
}

func (c *core) withinPeriod(now instant, d time.Duration) instant {
	return now.add(time.Duration(c.rng.Int64N(int64(d)) + 1))
}

// tick does everything that has fallen due.
func (c *core) tick(now instant) {
	c.noticeStall(now)
	for c.timers.next() <= now {
		a := c.timers.pop()
		switch a.kind {
		case timerProbe:
			c.probeDue(now)
		case timerPing:
			c.pingTimedOut(now, a.seq)
		case timerSuspicion:
			c.suspicionOver(now, a.m)
		case timerGossip:
			c.gossipDue(now)
		case timerSync:
			c.syncDue(now)
		case timerQueueSample:
			c.fx.sample = true
			c.timers.push(timer{at: now.add(c.cfg.QueueCheckInterval), kind: timerQueueSample})
		case timerDeparture:
			c.spreadDeparture(now)
		case timerFinalProbe:
			c.finalProbeDue(now, a.m)
		case timerReconnect:
			c.reconnectDue(now)
		case timerSecondSync:
			c.secondSyncDue(a.m)
		case timerRejoin:
			c.rejoinDue(now)
		case timerReunion:
			c.reunionDue(now)
		case timerAddressCheck:
			c.addressCheckDue(now, a.m)
		}
	}
}

// probeDue begins a round, or notes that one is owed when the previous one has
// not ended (P42).
func (c *core) probeDue(now instant) {
	c.timers.push(timer{at: now.add(jitter(c.rng, c.cfg.ProbeInterval)), kind: timerProbe})
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
	p := c.newPing(now, pingProbe, timeout)
	p.m, p.node = m, m.node
	c.probing = prober{
		phase: probeDirect, next: c.probing.next, ping: p, incarnation: m.incarnation,
		began: now, timeout: timeout, ends: now.add(interval),
	}
	if !c.cfg.Detector.NoSecondPing {
		c.timers.push(timer{at: now.add(timeout / 2), kind: timerPing, seq: p.seq})
	}
	to := toNode(m.node)
	if m.state() == StateAlive {
		to.node = nil // W25: a plain ping carries no checksum
		p.indirect.msg = c.pingMessage(p.seq, m.node.Name)
		c.fx.packets = append(c.fx.packets, outPacket{to: to, msg: p.indirect.msg, piggyback: true, urgent: urgentProbe, seq: p.seq})
		return
	}
	p.indirect.msg = c.pingWithSuspicion(p.seq, m)
	c.fx.packets = append(c.fx.packets, outPacket{to: to, msg: p.indirect.msg, urgent: urgentProbe, seq: p.seq})
}

// pingWithSuspicion is a ping together with what the target is suspected of (P50).
func (c *core) pingWithSuspicion(seq uint32, m *member) []byte {
	s := suspect{Incarnation: m.incarnation, Node: borrow(m.node.Name), From: borrow(c.cfg.Name)}
	return appendCompound(nil, [][]byte{c.pingMessage(seq, m.node.Name), s.appendTo(nil)})
}

// probeTimeout is how long a direct answer of m may take: ProbeTimeout, or with
// AdaptiveProbeTimeout what its round trips so far suggest (RFC 6298 §2). It is
// doubled while answers come after repeats only, and so cannot be measured (§5.5) (P178).
func (c *core) probeTimeout(m *member) time.Duration {
	timeout, past := c.cfg.ProbeTimeout, m.detectorView()
	if !c.cfg.AdaptiveProbeTimeout {
		return timeout
	}
	if past.srtt != 0 {
		timeout = time.Duration(past.srtt + 4*past.rttvar)
	}
	return min(max(timeout, c.cfg.ProbeTimeout/2)<<past.backoff, 4*c.cfg.ProbeTimeout)
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

// reap forgets nodes that have been gone for long, and shuffles the rest (P46).
// The own record stays, even after Leave (P26).
func (c *core) reap(now instant) {
	for i := len(c.table.order) - 1; i >= 0; i-- {
		m := c.table.order[i]
		if m == c.self || !m.gone() || now.sub(m.since) <= c.cfg.GossipToTheDeadTime {
			continue
		}
		c.verdicts.bury(now, m)
		c.table.remove(i)
	}
	c.table.shuffle(c.rng)
	c.table.turns.stale = true
}

// pingUnsent handles a ping that could not be sent (P52): if the other end may
// be to blame the round goes on with the relays, else it is void.
func (c *core) pingUnsent(now instant, seq uint32, remote bool) {
	p := c.pings[seq]
	if p == nil {
		return
	}
	p.transmitted = p.transmitted || remote // it was tried: the silence that follows counts
	if p.purpose != pingProbe {
		return
	}
	if !remote {
		delete(c.pings, seq)
		c.endProbe(now)
		return
	}
	c.probing.unsent = true
	if c.probing.phase == probeDirect {
		c.probeIndirectly(now)
	}
}

// probeTimedOut goes on with a probe that has no answer yet: it asks again, then
// by other ways, and at the end of the interval comes to its verdict.
func (c *core) probeTimedOut(now instant, p *pendingPing) {
	pr := &c.probing
	switch {
	case p != pr.ping:
		c.verifyFailedProbe(now, p)
	case now >= pr.ends:
		delete(c.pings, p.seq)
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
func (c *core) resendPing(p *pendingPing) {
	if c.cfg.Detector.NoSecondPing || c.probing.unsent {
		return
	}
	p.repeated = true
	to := toNode(p.node)
	to.node = nil
	c.fx.packets = append(c.fx.packets, outPacket{to: to, msg: p.indirect.msg, urgent: urgentProbe})
}

// repeatsWhileIndirect is how often the own ping is repeated while the relays try.
const repeatsWhileIndirect = 3

// probeIndirectly asks by other ways as well, after the own ping was not answered (P168).
func (c *core) probeIndirectly(now instant) {
	pr := &c.probing
	pr.phase = probeIndirect
	rest := pr.ends.sub(now)
	c.timers.push(timer{at: pr.ends, kind: timerPing, seq: pr.ping.seq})
	if !c.cfg.Detector.NoSecondPing {
		for i := range repeatsWhileIndirect {
			at := now.add(rest * time.Duration(i+1) / (repeatsWhileIndirect + 1))
			c.timers.push(timer{at: at, kind: timerPing, seq: pr.ping.seq})
		}
	}
	c.resendPing(pr.ping)
	c.askOthers(now, pr.ping, rest)
}

// askOthers asks other members to ping the target, and tries it on a stream, since
// its packets may be lost by a misconfigured network (P54, P55).
func (c *core) askOthers(now instant, p *pendingPing, timeout time.Duration) {
	p.indirect.sent = now
	for _, r := range c.chooseRelays(p.m) {
		c.askRelay(p, r)
	}
	c.pingByStream(now, p, timeout)
}

// pingByStream pings the target on a stream as well (P55).
func (c *core) pingByStream(now instant, p *pendingPing, timeout time.Duration) {
	if !c.cfg.DisableTcpPings && p.node.PMax >= 3 { // W60
		c.sendStreamPing(now, p, timeout)
	}
}

// sendStreamPing tries the target of a ping on a stream. A failure is told only once, in
// a probe round.
func (c *core) sendStreamPing(now instant, p *pendingPing, timeout time.Duration) {
	p.indirect.streamSent = now
	c.fx.streams = append(c.fx.streams, streamTask{
		kind: streamProbe, node: p.node, seq: p.seq, timeout: timeout, quiet: p != c.probing.ping,
	})
}

// chooseRelays picks members to ask for an indirect ping: at random among those
// that answered last, since their answers are what the verdict depends on, and if
// they are too few among all (P169).
func (c *core) chooseRelays(target *member) []*member {
	k := c.cfg.IndirectChecks
	fits := func(m *member) bool {
		return m.state() == StateAlive && m != c.self && m != target && !c.underProbe(m)
	}
	if c.cfg.Detector.NoHeardRelays {
		return c.choose(k, fits)
	}
	return c.chooseResponsive(&c.selfCheck, k, fits)
}

func (c *core) askRelay(p *pendingPing, r *member) {
	me := c.self.node
	wantsNack := r.node.PMax >= 4
	if wantsNack {
		p.indirect.nacksWanted++
	}
	ind := indirectPing{
		SeqNo: p.seq, Target: p.node.Addr, Port: p.node.Port, Node: borrow(p.node.Name), Nack: wantsNack,
		SourceAddr: me.Addr, SourcePort: me.Port, SourceNode: borrow(me.Name),
	}
	to := toNode(r.node)
	to.node = nil
	c.fx.packets = append(c.fx.packets, outPacket{
		to: to, msg: ind.appendTo(nil), piggyback: true, urgent: urgentProbe,
	})
}

// probeAcked ends a round well (P53, P56).
func (c *core) probeAcked(now instant, p *pendingPing, payload []byte, arrived instant) {
	pr := &c.probing
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

// streamUnanswered notes that the target of a ping was not asked on a stream after all.
func (c *core) streamUnanswered(seq uint32) {
	if p := c.pings[seq]; p != nil {
		p.indirect.streamSent = 0
	}
}

// streamAnswered notes that the target answered the fallback ping. For a probe it
// counts when the round ends without an ack (P56), for a last question at once.
func (c *core) streamAnswered(now instant, seq uint32) {
	p := c.pings[seq]
	if p == nil {
		return
	}
	p.indirect.streamAck = true
	switch p.purpose {
	case pingFinalProbe:
		delete(c.pings, seq)
		c.clearSuspicion(now, p.m)
	case pingAddressCheck:
		delete(c.pings, seq)
		c.addressPingAnswered(now, p)
	}
}

// probeUnanswered ends a round without an ack: the target is suspected unless a
// stream reached it (P56, P57) or this node has no alibi. Missing nacks are a sign
// that the fault may be here (P67; Lifeguard §IV-A).
func (c *core) probeUnanswered(now instant) {
	pr := c.probing
	p := pr.ping
	name := p.node.Name
	if p.indirect.streamAck {
		c.logf(levelWarn, "UDP probes failed where a TCP connection succeeded", logFields{node: name, addr: p.node.Address()},
			"Was able to connect to %s over TCP but UDP probes failed, network may be misconfigured", name)
		c.probeSucceeded(now)
		return
	}
	switch {
	case p.indirect.nacksWanted == 0:
		c.adjustHealth(+1)
	case p.indirect.nacks < p.indirect.nacksWanted:
		c.adjustHealth(p.indirect.nacksWanted - p.indirect.nacks)
	}
	c.endProbe(now)
	a := failedProbe{
		m: p.m, incarnation: pr.incarnation, sent: p.sent, streamSent: p.indirect.streamSent,
		validUntil: now.add(c.cfg.ProbeInterval),
	}
	if !c.selfCheckPassed(now, p) {
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

// recordRTT takes a round trip time into the member's smoothed one (RFC 6298 §2).
func (m *member) recordRTT(rtt time.Duration) {
	r, file := float64(rtt), m.detectorState()
	file.backoff = 0
	if file.srtt == 0 {
		file.srtt, file.rttvar = r, r/2
		return
	}
	file.rttvar += (math.Abs(r-file.srtt) - file.rttvar) / 4
	file.srtt += (r - file.srtt) / 8
}

// backOffRTT notes an answer whose round trip time is not known, since the ping was
// repeated.
func (m *member) backOffRTT() {
	const most = 3 // from the least patience to the longest
	file := m.detectorState()
	file.backoff = min(file.backoff+1, most)
}

// choose picks up to k different records at random among those that fit (P71).
func (c *core) choose(k int, fits func(*member) bool) []*member {
	order := c.table.order
	if k <= 0 || len(order) == 0 {
		return nil
	}
	k = min(k, len(order))
	chosen := make([]*member, 0, k)
	if len(order) < 3*k {
		for _, i := range c.rng.Perm(len(order)) {
			if len(chosen) < k && fits(order[i]) {
				chosen = append(chosen, order[i])
			}
		}
		return chosen
	}
	for range 3 * len(order) {
		m := order[c.rng.IntN(len(order))]
		if !fits(m) || slices.Contains(chosen, m) {
			continue
		}
		if chosen = append(chosen, m); len(chosen) == k {
			break
		}
	}
	return chosen
}
