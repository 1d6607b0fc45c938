package memberlist

import (
	"slices"
	"time"
)

// A verdict needs an alibi. A node that cannot hear, or whose packets do not get
// out, finds everybody else silent; what it says then is wrong, and the whole
// cluster pays for it. So a node accuses another, or declares it dead, only if a
// round trip with a third node shows that its own ears and voice work: an ack or
// a nack for something that it sent no earlier than the unanswered ping. Relays
// that cannot reach the target send nacks, so that where the target is really
// gone the alibi comes with the silence, and costs no time.
//
// A round trip on a stream is as good, but for streams only: where packets are
// blocked and streams are not, it says nothing about the silence of a member that
// was asked by packet alone. So the two kinds are kept apart.

// selfCheck holds the latest round trips with two different peers, so that one of
// them is always with somebody else than the accused.
type selfCheck struct {
	peers      [2]*member // nil is a relay that sent a nack
	sent       [2]instant // when the question went out that the peer answered
	lastAnswer instant    // when an answer came in

	recentPeers [16]*member // those who answered last, a ring
	nextRecent  int
}

// record takes in an answer of a peer to something sent at the given time.
func (a *selfCheck) record(now instant, peer *member, sent instant) {
	a.lastAnswer = now
	if peer != nil {
		a.recentPeers[a.nextRecent] = peer
		a.nextRecent = (a.nextRecent + 1) % len(a.recentPeers)
	}
	if a.peers[0] == peer {
		a.sent[0] = max(a.sent[0], sent)
		return
	}
	a.peers[1], a.sent[1] = a.peers[0], a.sent[0]
	a.peers[0], a.sent[0] = peer, sent
}

// heardSince reports whether somebody other than the accused answered something that
// was sent at the given time or later (P170).
func (a *selfCheck) heardSince(asked instant, accused *member) bool {
	for i, peer := range a.peers {
		if peer != accused && a.sent[i] >= asked && a.sent[i] > 0 {
			return true
		}
	}
	return false
}

// failedProbe is a probe without answer for which there is no alibi yet.
type failedProbe struct {
	m           *member
	seq         uint32 // of the ping
	incarnation uint32
	sent        instant // when the ping went out
	streamSent  instant // when it was asked on a stream; 0 = it was not
	validUntil  instant // an alibi that comes later does not count
}

// awaitSelfCheck keeps an accusation until it has an alibi or is too old. Until then the
// ping stays pending: a late nack is an alibi, and a late ack clears the target. The
// silence after a ping that did not go out is no reason to accuse (P171).
func (c *core) awaitSelfCheck(now instant, a failedProbe, p *probe) {
	p.quiet = true
	if !p.transmitted {
		return
	}
	if a.streamSent != 0 {
		a.streamSent = now
		c.sendStreamPing(now, &p.indirectProbe, c.answerTime())
		c.selfCheckByStream(now, a.m)
		p.setTimer(now.add(c.answerTime()))
	}
	a.seq = p.seq
	c.unverified = a
	p.await()
	p.setTimer(a.validUntil)
}

// verifyFailedProbe decides about the target of a ping that was asked once more on a
// stream, together with the witnesses, and has had its time to answer. Without that
// a network that begins to work again between the two would look like a dead member (P171).
func (c *core) verifyFailedProbe(now instant, p *probe) {
	a := c.unverified
	if a.seq == p.seq && a.streamSent != 0 && now <= a.validUntil && c.streamSelfCheck.heardSince(a.streamSent, a.m) {
		c.unverified = failedProbe{}
		c.raiseSuspicion(now, a)
	}
	if c.unverified.seq != p.seq || now >= a.validUntil {
		p.forget()
	}
}

// streamSelfChecks is how many members are asked on a stream for an alibi: one of
// them may be gone as well.
const streamSelfChecks = 2

// selfCheckByStream asks other members on a stream, when packets bring no alibi.
func (c *core) selfCheckByStream(now instant, accused *member) {
	for _, w := range c.chooseResponsive(&c.streamSelfCheck, streamSelfChecks, func(m *member) bool {
		return m.state() == StateAlive && m != c.self && m != accused && !c.underProbe(m) && m.node.PMax >= 3
	}) {
		c.openStream(streamTask{
			kind: streamProbe, node: w.node, seq: c.pings.unusedSeq(), timeout: c.answerTime(), quiet: true,
		})
	}
}

// chooseResponsive picks up to k members at random among those that answered last, and if
// they are too few among all (P169).
func (c *core) chooseResponsive(a *selfCheck, k int, fits func(*member) bool) []*member {
	var heard []*member
	for _, i := range c.rng.Perm(len(a.recentPeers)) {
		m := a.recentPeers[i]
		if len(heard) < k && m != nil && fits(m) && !slices.Contains(heard, m) {
			heard = append(heard, m)
		}
	}
	others := c.choose(k-len(heard), func(m *member) bool {
		return fits(m) && !slices.Contains(heard, m)
	})
	return append(heard, others...)
}

// underProbe reports whether m is silent so far and this node will have to judge that.
// As a relay it could give the alibi against itself, since a nack does not tell
// whose it is.
func (c *core) underProbe(m *member) bool {
	return m == c.unverified.m || c.probing.ping != nil && m == c.probing.ping.m
}

// answerReceived takes in that a peer answered something sent at the given time. nil
// is a relay. It may be the alibi for an accusation that waits for one, and the
// end of a time in which this node was cut off.
func (c *core) answerReceived(now instant, peer *member, sent instant) {
	silence := now.sub(c.selfCheck.lastAnswer)
	if peer != nil {
		peer.detectorState().lastAck = max(now, 1)
	}
	c.selfCheck.record(now, peer, sent)
	c.recheckFailedProbe(now, peer)
	if silence > c.isolatedAfter() {
		c.resync(now, peer)
	}
}

// streamAnswerReceived takes in that a member answered on a stream something that was sent
// there at the given time or later: a ping, or a full exchange.
func (c *core) streamAnswerReceived(now instant, n *Node, sent instant, exchanged bool) {
	peer := c.memberAt(n)
	if peer == nil {
		return
	}
	silence := now.sub(max(c.selfCheck.lastAnswer, c.streamSelfCheck.lastAnswer))
	peer.detectorState().lastAck = max(now, 1)
	c.streamSelfCheck.record(now, peer, sent)
	c.recheckFailedProbe(now, peer)
	switch {
	case silence <= c.isolatedAfter():
	case exchanged:
		c.scheduleSecondSync(now, peer)
	default:
		c.resync(now, peer)
	}
}

// memberAt is the record of a node, if it still lives at that address.
func (c *core) memberAt(n *Node) *member {
	m := c.table.get(n.Name)
	if m == nil || !m.node.at(n.Addr, n.Port) {
		return nil
	}
	return m
}

// recheckFailedProbe ends the wait for an alibi after an answer of peer, if that is what
// was waited for.
func (c *core) recheckFailedProbe(now instant, peer *member) {
	a := c.unverified
	switch {
	case a.m == nil:
	case peer == a.m || now > a.validUntil:
		c.unverified = failedProbe{}
	case c.selfCheck.heardSince(a.sent, a.m):
		c.unverified = failedProbe{}
		c.raiseSuspicion(now, a)
	}
}

// selfCheckPassed reports whether this node may hold the silence of a ping's target
// against it. With nobody else in the cluster there is no alibi to be had; and
// after a long time without any answer, about the longest suspicion when all is
// added up, the node takes it that it is the one who survived (P170).
func (c *core) selfCheckPassed(now instant, p *indirectProbe) bool {
	last := c.selfCheck.lastAnswer
	if p.streamSent != 0 {
		last = max(last, c.streamSelfCheck.lastAnswer)
	}
	if c.cfg.Detector.NoAlibi || c.others(p.m) == 0 || now.sub(last) > c.selfCheckWaivedAfter() {
		return true
	}
	return p.transmitted && c.selfCheck.heardSince(p.sent, p.m)
}

// streamSelfCheckPassed is hasAlibi for what the target was asked on a stream.
func (c *core) streamSelfCheckPassed(p *indirectProbe) bool {
	return p.transmitted && p.streamSent != 0 && c.streamSelfCheck.heardSince(p.streamSent, p.m)
}

// packetsFail reports whether no packet has been answered for so long that they seem
// to get lost, or to be blocked while streams are not.
func (c *core) packetsFail(now instant) bool {
	return c.cfg.ProbeInterval > 0 && now.sub(c.selfCheck.lastAnswer) > c.isolatedAfter()
}

// selfCheckWaivedAfter is how long nobody may answer before a node judges without alibi. The
// suspicions that begin then take the shortest time at least. A small SuspicionMult is
// meant to find the dead sooner, not to trust oneself more, so it does not shorten this (P172).
func (c *core) selfCheckWaivedAfter() time.Duration {
	const leastMult, leastMaxMult = 4, 6
	mult := max(c.cfg.SuspicionMult, leastMult)
	shortest := suspicionTimeout(mult, len(c.table.order), c.cfg.ProbeInterval)
	return times(shortest, max(c.cfg.SuspicionMaxTimeoutMult, leastMaxMult)-1)
}

// others counts the members besides this node and m.
func (c *core) others(m *member) int {
	n := c.table.live()
	if !c.self.gone() {
		n--
	}
	if !m.gone() {
		n--
	}
	return n
}

// shortestSuspicion and longestSuspicion bound the time that a suspect has in a
// cluster of this size (P61).
func (c *core) shortestSuspicion() time.Duration {
	return suspicionTimeout(c.cfg.SuspicionMult, len(c.table.order), c.cfg.ProbeInterval)
}

func (c *core) longestSuspicion() time.Duration {
	return times(c.shortestSuspicion(), c.cfg.SuspicionMaxTimeoutMult)
}

// raiseSuspicion makes m a suspect on the own word (P57), unless the table has moved on since
// the probe began: then the silence is old news.
func (c *core) raiseSuspicion(now instant, a failedProbe) {
	if a.m.gone() || a.incarnation < a.m.incarnation || !c.table.holds(a.m) {
		return
	}
	name := a.m.node.Name
	if check := a.m.detectorView().address; check != nil {
		check.movedAt = 0 // it was the new address that was asked
	}
	c.logf(levelInfo, "Suspecting a node that did not answer", logFields{node: name, addr: a.m.node.Address(), incarnation: a.incarnation},
		"Suspect %s has failed, no acks received", name)
	c.suspect(now, &suspect{Incarnation: a.incarnation, Node: borrow(name), From: borrow(c.cfg.Name)}, nil)
}

// isolatedAfter is how long nobody may answer before this node takes it that it was
// cut off.
func (c *core) isolatedAfter() time.Duration { return 3 * c.cfg.ProbeInterval }

// resync makes a full exchange at once, with the node that was heard if possible:
// a node that was cut off does not know what was said about it meanwhile, and has
// to refute it before the others bury it, or to come back if they did (P182).
func (c *core) resync(now instant, peer *member) {
	if !c.shouldResync() {
		return
	}
	if peer == nil || peer.gone() {
		chosen := c.choose(1, c.syncsWith)
		if len(chosen) == 0 {
			return
		}
		peer = chosen[0]
	}
	c.syncNow(peer)
	c.scheduleSecondSync(now, peer)
}

// shouldResync reports whether this node makes exchanges after it was cut off.
func (c *core) shouldResync() bool {
	return !c.cfg.Detector.NoWakeUp && c.cfg.ProbeInterval > 0 && !c.leaving
}

// secondSync is the timer of that exchange.
type secondSync struct {
	core  *core
	first *member
}

func (s *secondSync) expire(instant) { s.core.secondSyncDue(s.first) }

func (*secondSync) stale() bool { return false }

// syncNow makes a full exchange with m.
func (c *core) syncNow(m *member) {
	c.openStream(streamTask{kind: streamVisit, node: m.node})
}

// scheduleSecondSync sets the time of one more exchange, with another member than the
// first, which may have been cut off itself.
func (c *core) scheduleSecondSync(now instant, first *member) {
	if !c.shouldResync() {
		return
	}
	c.timers.set(now.add(c.cfg.ProbeInterval), &secondSync{c, first})
}

// secondSyncDue makes that exchange (P182).
func (c *core) secondSyncDue(first *member) {
	if c.leaving {
		return
	}
	for _, m := range c.choose(1, func(m *member) bool { return m != first && c.syncsWith(m) }) {
		c.syncNow(m)
	}
}

// noticeStall handles timers that go off late: the process stood still, and what
// fell due meanwhile did so without anybody looking. The time is given back to the
// suspects and to the running probe, and a moment more, to read what has come in
// since; and it counts against the own health (P177).
func (c *core) noticeStall(now instant) {
	late := now.sub(c.timers.next())
	if late <= c.timerTolerance() || c.cfg.Detector.NoStallGuard {
		return
	}
	c.adjustHealth(+1)
	c.selfCheck.lastAnswer = c.selfCheck.lastAnswer.add(late) // nobody listened meanwhile
	c.streamSelfCheck.lastAnswer = c.streamSelfCheck.lastAnswer.add(late)
	back := late + c.timerTolerance()
	for _, m := range c.table.order {
		if s := m.suspicion(); s != nil && s.deadline() <= now {
			s.start = s.start.add(back)
			c.timers.set(s.deadline(), (*suspicionTimer)(m.suspicion()))
			c.scheduleFinalProbe(now, m)
		}
	}
	if pr := &c.probing; pr.phase != probeIdle && pr.ends <= now {
		pr.ends = pr.ends.add(back)
		pr.ping.setTimer(pr.ends)
	}
	if late > c.isolatedAfter() {
		c.resync(now, nil)
	}
}

// timerTolerance is the lateness of a timer that says nothing.
func (c *core) timerTolerance() time.Duration {
	return max(c.cfg.GossipInterval, 100*time.Millisecond)
}
