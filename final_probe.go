package memberlist

import "time"

// Before a suspicion runs out, the suspect is asked a last time: directly, through
// relays and on a stream. An answer clears it here, whatever the others said; and
// with the question it gets the accusation, so that it can refute it everywhere.
// Without an answer the question brings the alibi that the verdict needs. It is
// asked one ProbeTimeout before the earliest moment at which the suspicion can run
// out, so that the verdict is no later for it.

// scheduleFinalProbe sets the time of the last question to a new suspect (P173).
func (c *core) scheduleFinalProbe(now instant, m *member) {
	if c.cfg.Detector.NoLastQuestion {
		return
	}
	s := m.suspicion()
	at := s.start.add(s.shortest - c.answerTime())
	c.timers.set(max(at, now), (*finalProbeTimer)(m.suspicion()))
}

// finalProbeDue asks a suspect whose suspicion may run out soon.
func (c *core) finalProbeDue(now instant, m *member) {
	s := m.suspicion()
	if s == nil || now < s.start.add(s.shortest-c.answerTime()) {
		return
	}
	if s.finalProbe != nil && !c.finalProbeExpired(s.deadline(), s) {
		return
	}
	c.sendFinalProbe(now, m)
	c.scheduleFinalProbeRepeat(now, m)
}

// scheduleFinalProbeRepeat sets the time to put the last question anew, if at the deadline it would
// be out of date. It is called when the question was put and when the deadline has
// come nearer, so that the verdict need not wait for the answer.
func (c *core) scheduleFinalProbeRepeat(now instant, m *member) {
	s := m.suspicion()
	if s.finalProbe == nil || !c.finalProbeExpired(s.deadline(), s) {
		return
	}
	c.timers.set(max(s.deadline().add(-c.answerTime()), now), (*finalProbeTimer)(m.suspicion()))
}

// finalProbeExpired reports whether at the given time the last question was asked so long
// ago that the suspect may be back.
func (c *core) finalProbeExpired(at instant, s *suspicion) bool {
	return at.sub(s.finalProbe.sent) > max(s.shortest, 2*c.answerTime())
}

// finalProbeTimer asks a suspect once more.
type finalProbeTimer suspicion

func (t *finalProbeTimer) expire(now instant) {
	if !t.stale() {
		t.core.finalProbeDue(now, t.m)
	}
}

func (t *finalProbeTimer) stale() bool { return (*suspicion)(t).closed() }

// finalProbe is a ping to a suspect.
type finalProbe struct {
	indirectProbe
	core *core
}

func (p *finalProbe) acked(now instant, _ []byte, _ instant) { p.core.clearSuspicion(now, p.m) }

func (p *finalProbe) streamAnswered(now instant) {
	p.streamAck = true
	p.forget()
	p.core.clearSuspicion(now, p.m)
}

// sendFinalProbe puts the last question to a suspect (P173).
func (c *core) sendFinalProbe(now instant, m *member) {
	s := m.suspicion()
	p := &finalProbe{core: c}
	p.m, p.node, p.quiet = m, m.node, true
	c.pings.register(now, &p.pendingPing, p)
	p.setTimer(now.add(c.longestSuspicion()))
	p.msg = c.pingWithSuspicion(p.seq, m)
	s.finalProbe = p
	s.probes = append(s.probes, p)
	c.send(outPacket{
		to: toNode(m.node), msg: p.msg, urgent: urgentProbe, seq: p.seq,
	})
	c.indirect.askOthers(now, &p.indirectProbe, c.answerTime())
	if p.streamSent != 0 && c.selfCheck.packetsFail(now) {
		c.selfCheck.askByStream(m)
	}
	if !c.cfg.Detector.NoSecondPing {
		for i := range finalProbeRepeats {
			at := now.add(c.answerTime() * time.Duration(i+1) / (finalProbeRepeats + 1))
			p.setTimer(at)
		}
	}
}

// finalProbeRepeats is how often a last question is repeated while its answer is
// awaited.
const finalProbeRepeats = 2

// timedOut repeats a last question. It stays pending until the case is closed:
// after a stall its answer may still be unread.
func (p *finalProbe) timedOut(now instant) {
	c := p.core
	if now.sub(p.asked) >= c.longestSuspicion() {
		return
	}
	c.send(outPacket{to: toNode(p.node), msg: p.msg, urgent: urgentProbe})
	if asked := p.streamSent; asked != 0 && c.selfCheck.packetsFail(now) {
		c.indirect.sendStreamPing(now, &p.indirectProbe, c.answerTime())
		p.streamSent = asked
	}
}

// confirmedDead reports whether a suspicion that has run out may become a verdict: the
// suspect was asked, had time to answer, and this node has an alibi. If not, it
// sees to it that the answer is known soon (P173).
func (c *core) confirmedDead(now instant, m *member) bool {
	s := m.suspicion()
	if c.cfg.Detector.NoLastQuestion {
		return true
	}
	if s.finalProbe == nil || c.finalProbeExpired(now, s) {
		c.sendFinalProbe(now, m)
		c.recheckSuspicion(now.add(c.answerTime()), m)
		return false
	}
	if answerDue := s.finalProbe.sent.add(c.answerTime()); answerDue > now && s.finalProbe.transmitted {
		c.recheckSuspicion(answerDue, m)
		return false
	}
	if c.selfCheck.passed(now, &s.finalProbe.indirectProbe) || c.selfCheck.passedByStream(&s.finalProbe.indirectProbe) {
		return true
	}
	c.sendFinalProbe(now, m)
	c.recheckSuspicion(now.add(c.answerTime()), m)
	return false
}

func (c *core) recheckSuspicion(at instant, m *member) {
	c.timers.set(at, (*suspicionTimer)(m.suspicion()))
}

// clearSuspicion makes a suspect that answered the last question alive again, here. No
// incarnation has changed: it is up to the member to refute what others say (P173).
func (c *core) clearSuspicion(now instant, m *member) {
	if m.suspicion() == nil {
		return
	}
	change := c.change(now, m, StateAlive, c.cfg.Name)
	c.endSuspicion(m)
	m.detectorState().clearedAt = max(now, 1)
	c.table.setNode(m, m.node.withState(StateAlive), now)
	change.Node = m.node
	c.emit(eventNone, change)
}

// endSuspicion closes the case against m, and waits for no answer in it any more.
func (c *core) endSuspicion(m *member) {
	s := m.suspicion()
	if s == nil {
		return
	}
	for _, p := range s.probes {
		p.forget()
	}
	m.detector.suspicion = nil
}

// recentlyCleared reports whether m answered a last question so recently that an
// accusation with the same incarnation is old news (P174).
func (c *core) recentlyCleared(now instant, m *member, incarnation uint32) bool {
	at := m.detectorView().clearedAt
	if at == 0 || incarnation != m.incarnation {
		return false
	}
	return now.sub(at) < c.shortestSuspicion()
}

// untrustedAccuser reports whether an accuser is itself under suspicion or gone, or
// was so a moment ago. After a partition the two sides exchange what they believed
// of each other, and such words must not kill those who are here (P175).
func (c *core) untrustedAccuser(now instant, from borrowed, accused *member) bool {
	if c.cfg.Detector.NoWitnessCheck || accused.gone() {
		return false
	}
	accuser := c.table.find(from)
	switch {
	case accuser == nil:
		return c.lost.has(from)
	case accuser == accused || accuser == c.self:
		return false
	case accuser.state() != StateAlive:
		return true
	}
	past := accuser.detectorView()
	back := max(past.returnedAt, past.clearedAt)
	return back != 0 && now.sub(back) < c.shortestSuspicion()
}

// recentlyJoined reports whether a node has been known for less time than any suspicion
// takes, while this one has been here longer. What it says of the dead it concluded
// elsewhere, perhaps on the other side of a partition that lasted so long that it was
// forgotten here: that is a reason for suspicion, but no verdict (P176).
func (c *core) recentlyJoined(now instant, from borrowed) bool {
	accuser := c.table.find(from)
	if c.cfg.Detector.NoWitnessCheck || accuser == nil || accuser == c.self {
		return false
	}
	shortest := c.shortestSuspicion()
	return now.sub(accuser.knownSince()) < shortest && now.sub(c.self.knownSince()) >= shortest
}

// forwardToAccused sends an accusation to the one it concerns, so that it can refute it,
// at most once in a while (P166).
func (c *core) forwardToAccused(now instant, m *member, accusation []byte) {
	file := m.detectorState()
	if m == c.self || file.lastNotified != 0 && now.sub(file.lastNotified) < c.notifyInterval() {
		return
	}
	file.lastNotified = max(now, 1)
	c.send(outPacket{to: toNode(m.node), msg: accusation, urgent: urgentProbe})
}

// notifyInterval is the time between two tellings to one node.
func (c *core) notifyInterval() time.Duration {
	return max(c.cfg.ProbeInterval, 100*time.Millisecond)
}
