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
	c.timers.push(timer{at: max(at, now), kind: timerFinalProbe, m: m})
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
	c.timers.push(timer{at: max(s.deadline().add(-c.answerTime()), now), kind: timerFinalProbe, m: m})
}

// finalProbeExpired reports whether at the given time the last question was asked so long
// ago that the suspect may be back.
func (c *core) finalProbeExpired(at instant, s *suspicion) bool {
	return at.sub(s.finalProbe.sent) > max(s.shortest, 2*c.answerTime())
}

// sendFinalProbe puts the last question to a suspect (P173).
func (c *core) sendFinalProbe(now instant, m *member) {
	s := m.suspicion()
	p := c.newPing(now, pingFinalProbe, c.longestSuspicion())
	p.m, p.node = m, m.node
	p.indirect.msg = c.pingWithSuspicion(p.seq, m)
	s.finalProbe = p
	s.probeSeqs = append(s.probeSeqs, p.seq)
	c.fx.packets = append(c.fx.packets, outPacket{
		to: toNode(m.node), msg: p.indirect.msg, urgent: urgentProbe, seq: p.seq,
	})
	c.askOthers(now, p, c.answerTime())
	if p.indirect.streamSent != 0 && c.packetsFail(now) {
		c.selfCheckByStream(now, m)
	}
	if !c.cfg.Detector.NoSecondPing {
		for i := range finalProbeRepeats {
			at := now.add(c.answerTime() * time.Duration(i+1) / (finalProbeRepeats + 1))
			c.timers.push(timer{at: at, kind: timerPing, seq: p.seq})
		}
	}
}

// finalProbeRepeats is how often a last question is repeated while its answer is
// awaited.
const finalProbeRepeats = 2

// repeatFinalProbe repeats a last question. It stays pending until the case is closed:
// after a stall its answer may still be unread.
func (c *core) repeatFinalProbe(now instant, p *pendingPing) {
	if now.sub(p.indirect.sent) >= c.longestSuspicion() {
		return
	}
	c.fx.packets = append(c.fx.packets, outPacket{to: toNode(p.node), msg: p.indirect.msg, urgent: urgentProbe})
	if asked := p.indirect.streamSent; asked != 0 && c.packetsFail(now) {
		c.sendStreamPing(now, p, c.answerTime())
		p.indirect.streamSent = asked
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
	if c.selfCheckPassed(now, s.finalProbe) || c.streamSelfCheckPassed(s.finalProbe) {
		return true
	}
	c.sendFinalProbe(now, m)
	c.recheckSuspicion(now.add(c.answerTime()), m)
	return false
}

func (c *core) recheckSuspicion(at instant, m *member) {
	c.timers.push(timer{at: at, kind: timerSuspicion, m: m})
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
	for _, seq := range s.probeSeqs {
		delete(c.pings, seq)
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
	c.fx.packets = append(c.fx.packets, outPacket{to: toNode(m.node), msg: accusation, urgent: urgentProbe})
}

// notifyInterval is the time between two tellings to one node.
func (c *core) notifyInterval() time.Duration {
	return max(c.cfg.ProbeInterval, 100*time.Millisecond)
}
