package memberlist

import (
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
	phase  probePhase
	next   int     // place in the table of the next candidate (P45)
	period instant // when the next round is due
	owed   bool    // a round fell due while another was running (P42)

	seq         uint32
	target      *member
	node        *Node // the target as it was when the round began
	incarnation uint32
	began       instant
	ends        instant // of the stretched interval (P48)
	unsent      bool    // the ping could not be sent (P67)
	nacksWanted int
	nacks       int
	contact     bool // the fallback ping on a stream was answered (P56)
}

// start sets the first alarms, each at a random moment of its first period (P42).
func (c *core) start(now instant) {
	if c.cfg.ProbeInterval > 0 {
		c.alarms.push(alarm{at: c.withinPeriod(now, c.cfg.ProbeInterval), kind: alarmProbe})
	}
	if c.cfg.GossipInterval > 0 && c.cfg.GossipNodes > 0 {
		c.alarms.push(alarm{at: c.withinPeriod(now, c.cfg.GossipInterval), kind: alarmGossip})
	}
	if c.cfg.PushPullInterval > 0 {
		wait := pushPullWait(c.cfg.PushPullInterval, len(c.table.order))
		c.alarms.push(alarm{at: c.withinPeriod(now, c.cfg.PushPullInterval).add(wait), kind: alarmSync})
	}
	if c.cfg.QueueCheckInterval > 0 {
		c.alarms.push(alarm{at: now.add(c.cfg.QueueCheckInterval), kind: alarmSample})
	}
}

func (c *core) withinPeriod(now instant, d time.Duration) instant {
	return now.add(time.Duration(c.rng.Int64N(int64(d)) + 1))
}

// tick does everything that has fallen due.
func (c *core) tick(now instant) {
	for c.alarms.next() <= now {
		a := c.alarms.pop()
		switch a.kind {
		case alarmProbe:
			c.probeDue(now)
		case alarmPing:
			c.pingOver(now, a.seq)
		case alarmSuspicion:
			c.suspicionOver(now, a.m)
		case alarmGossip:
			c.gossipDue(now)
		case alarmSync:
			c.syncDue(now)
		case alarmSample:
			c.fx.sample = true
			c.alarms.push(alarm{at: now.add(c.cfg.QueueCheckInterval), kind: alarmSample})
		case alarmLeave:
			c.spreadDeparture(now)
		}
	}
}

// probeDue begins a round, or notes that one is owed when the previous one has
// not ended (P42).
func (c *core) probeDue(now instant) {
	c.alarms.push(alarm{at: now.add(jitter(c.rng, c.cfg.ProbeInterval)), kind: alarmProbe})
	if c.probing.phase != probeIdle {
		c.probing.owed = true
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
		return
	}
	interval := c.health.scale(c.cfg.ProbeInterval)
	if interval > c.cfg.ProbeInterval {
		c.fx.metrics.degradedProbe++
	}
	patience := min(c.cfg.ProbeTimeout, interval)
	p := c.newPing(now, pingProbe, patience)
	c.probing = prober{
		phase: probeDirect, next: c.probing.next, seq: p.seq, target: m, node: m.node,
		incarnation: m.incarnation, began: now, ends: now.add(interval),
	}
	to := toNode(m.node)
	if m.state == StateAlive {
		to.node = nil // W25: a plain ping carries no checksum
		c.sendPing(p, to, urgentProbe)
		return
	}
	s := suspect{Incarnation: m.incarnation, Node: m.node.Name, From: c.cfg.Name}
	msg := appendCompound(nil, [][]byte{c.pingMessage(p.seq, m.node.Name), s.appendTo(nil)})
	c.fx.packets = append(c.fx.packets, outPacket{to: to, msg: msg, urgent: urgentProbe, seq: p.seq})
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
		c.table.remove(m)
		c.rumours.note(now, m.node.Name, rumour{incarnation: m.incarnation, state: m.state, from: c.cfg.Name})
	}
	c.table.shuffle(c.rng)
}

// probeUnsent handles a ping that could not be sent (P52): if the other end may
// be to blame the round goes on with the relays, else it is void.
func (c *core) probeUnsent(now instant, seq uint32, remote bool) {
	p := c.pings[seq]
	if p == nil {
		return
	}
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
		c.askRelays(now)
	}
}

// probeOverdue moves a probe without answer to its next phase, or to its verdict.
func (c *core) probeOverdue(now instant, p *pendingPing) {
	switch {
	case p.seq != c.probing.seq:
		delete(c.pings, p.seq)
	case c.probing.phase == probeDirect:
		c.askRelays(now)
	case now >= c.probing.ends:
		delete(c.pings, p.seq)
		c.probeUnanswered(now)
	}
}

// askRelays asks other members to ping the target, and tries it on a stream,
// since its packets may be lost by a misconfigured network (P54, P55).
func (c *core) askRelays(now instant) {
	pr := &c.probing
	pr.phase = probeIndirect
	c.alarms.push(alarm{at: pr.ends, kind: alarmPing, seq: pr.seq})
	relays := c.choose(c.cfg.IndirectChecks, func(m *member) bool {
		return m.state == StateAlive && m != c.self && m != pr.target
	})
	for _, r := range relays {
		c.askRelay(r)
	}
	if !c.cfg.DisableTcpPings && pr.node.PMax >= 3 { // W60
		c.fx.streams = append(c.fx.streams, streamTask{
			kind: streamProbe, node: pr.node, seq: pr.seq, timeout: pr.ends.sub(now),
		})
	}
}

func (c *core) askRelay(r *member) {
	pr, me := &c.probing, c.self.node
	wantsNack := r.node.PMax >= 4
	if wantsNack {
		pr.nacksWanted++
	}
	ind := indirectPing{
		SeqNo: pr.seq, Target: pr.node.Addr, Port: pr.node.Port, Node: pr.node.Name, Nack: wantsNack,
		SourceAddr: me.Addr, SourcePort: me.Port, SourceNode: me.Name,
	}
	to := toNode(r.node)
	to.node = nil
	c.fx.packets = append(c.fx.packets, outPacket{
		to: to, msg: ind.appendTo(nil), riders: true, urgent: urgentProbe,
	})
}

// probeAcked ends a round well (P53, P56).
func (c *core) probeAcked(now instant, p *pendingPing, payload []byte, arrived instant) {
	pr := &c.probing
	if p.seq != pr.seq {
		return
	}
	if pr.phase == probeDirect {
		rtt := max(arrived.sub(p.sent), 0)
		pr.target.measured(now, rtt)
		c.fx.rtts = append(c.fx.rtts, roundTrip{node: pr.node, rtt: rtt, payload: payload})
	}
	c.probeSucceeded(now)
}

func (c *core) probeSucceeded(now instant) {
	if !c.probing.unsent {
		c.adjustHealth(-1)
	}
	c.endProbe(now)
}

// streamAnswered notes that the target answered the fallback ping. It counts
// when the round ends without an ack (P56).
func (c *core) streamAnswered(seq uint32) {
	if c.probing.phase == probeIndirect && c.probing.seq == seq {
		c.probing.contact = true
	}
}

// probeUnanswered ends a round without an ack: the target is suspected unless a
// stream reached it (P56, P57). Missing nacks are a sign that the fault may be
// here (P67; Lifeguard §IV-A).
func (c *core) probeUnanswered(now instant) {
	pr := &c.probing
	name := pr.node.Name
	if pr.contact {
		c.logf(levelWarn, logFields{node: name, addr: pr.node.Address()},
			"Was able to connect to %s over TCP but UDP probes failed, network may be misconfigured", name)
		c.probeSucceeded(now)
		return
	}
	switch {
	case pr.nacksWanted == 0:
		c.adjustHealth(+1)
	case pr.nacks < pr.nacksWanted:
		c.adjustHealth(pr.nacksWanted - pr.nacks)
	}
	c.logf(levelInfo, logFields{node: name, addr: pr.node.Address(), incarnation: pr.incarnation},
		"Suspect %s has failed, no acks received", name)
	s := suspect{Incarnation: pr.incarnation, Node: name, From: c.cfg.Name}
	c.endProbe(now)
	c.suspect(now, &s, nil)
}

// endProbe closes the round, and begins the one that is owed.
func (c *core) endProbe(now instant) {
	c.fx.metrics.probeTook, c.fx.metrics.probeEnded = now.sub(c.probing.began), true
	owed := c.probing.owed
	c.probing = prober{next: c.probing.next}
	if owed {
		c.beginProbe(now)
	}
}

// measured takes a round trip time into the member's smoothed one (RFC 6298 §2).
func (m *member) measured(now instant, rtt time.Duration) {
	m.heard = max(now, 1)
	r := float64(rtt)
	if m.srtt == 0 {
		m.srtt, m.rttvar = r, r/2
		return
	}
	m.rttvar += (max(r-m.srtt, m.srtt-r) - m.rttvar) / 4
	m.srtt += (r - m.srtt) / 8
}

// choose picks up to k different records at random among those that fit (P71).
func (c *core) choose(k int, fits func(*member) bool) []*member {
	order := c.table.order
	if k <= 0 || len(order) == 0 {
		return nil
	}
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
		if !fits(m) || contains(chosen, m) {
			continue
		}
		if chosen = append(chosen, m); len(chosen) == k {
			break
		}
	}
	return chosen
}

func contains(list []*member, m *member) bool {
	for _, other := range list {
		if other == m {
			return true
		}
	}
	return false
}
