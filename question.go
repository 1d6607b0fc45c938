package memberlist

import "time"

// Before a suspicion runs out, the suspect is asked a last time: directly, through
// relays and on a stream. An answer clears it here, whatever the others said; and
// with the question it gets the accusation, so that it can refute it everywhere.
// Without an answer the question brings the alibi that the verdict needs. It is
// asked one ProbeTimeout before the earliest moment at which the suspicion can run
// out, so that the verdict is no later for it.

// planQuestion sets the time of the last question to a new suspect.
func (c *core) planQuestion(now instant, m *member) {
	if c.cfg.Detector.NoLastQuestion {
		return
	}
	s := m.suspicion()
	at := s.start.add(s.shortest - c.answerTime())
	c.alarms.push(alarm{at: max(at, now), kind: alarmQuestion, m: m})
}

// questionDue asks a suspect whose suspicion may run out soon.
func (c *core) questionDue(now instant, m *member) {
	s := m.suspicion()
	if s == nil || now < s.start.add(s.shortest-c.answerTime()) {
		return
	}
	if s.question != nil && !c.outdated(s.deadline(), s) {
		return
	}
	c.ask(now, m)
	c.planRepeat(now, m)
}

// planRepeat sets the time to put the last question anew, if at the deadline it would
// be out of date. It is called when the question was put and when the deadline has
// come nearer, so that the verdict need not wait for the answer.
func (c *core) planRepeat(now instant, m *member) {
	s := m.suspicion()
	if s.question == nil || !c.outdated(s.deadline(), s) {
		return
	}
	c.alarms.push(alarm{at: max(s.deadline().add(-c.answerTime()), now), kind: alarmQuestion, m: m})
}

// outdated reports whether at the given time the last question was asked so long
// ago that the suspect may be back.
func (c *core) outdated(at instant, s *suspicion) bool {
	return at.sub(s.question.sent) > max(s.shortest, 2*c.answerTime())
}

// ask puts the last question to a suspect.
func (c *core) ask(now instant, m *member) {
	s := m.suspicion()
	p := c.newPing(now, pingQuestion, c.longestSuspicion())
	p.m, p.node = m, m.node
	p.inquiry.msg = c.pingWithSuspicion(p.seq, m)
	s.question = p
	s.asked = append(s.asked, p.seq)
	c.fx.packets = append(c.fx.packets, outPacket{
		to: toNode(m.node), msg: p.inquiry.msg, urgent: urgentProbe, seq: p.seq,
	})
	c.inquire(now, p, c.answerTime())
	if p.inquiry.onStream != 0 && c.packetsFail(now) {
		c.callWitnesses(now, m)
	}
	if !c.cfg.Detector.NoSecondPing {
		for i := range repeatsOfQuestion {
			at := now.add(c.answerTime() * time.Duration(i+1) / (repeatsOfQuestion + 1))
			c.alarms.push(alarm{at: at, kind: alarmPing, seq: p.seq})
		}
	}
}

// repeatsOfQuestion is how often a last question is repeated while its answer is
// awaited.
const repeatsOfQuestion = 2

// questionOverdue repeats a last question. It stays pending until the case is closed:
// after a stall its answer may still be unread.
func (c *core) questionOverdue(now instant, p *pendingPing) {
	if now.sub(p.inquiry.asked) >= c.longestSuspicion() {
		return
	}
	c.fx.packets = append(c.fx.packets, outPacket{to: toNode(p.node), msg: p.inquiry.msg, urgent: urgentProbe})
	if asked := p.inquiry.onStream; asked != 0 && c.packetsFail(now) {
		c.askOnStream(now, p, c.answerTime())
		p.inquiry.onStream = asked
	}
}

// proven reports whether a suspicion that has run out may become a verdict: the
// suspect was asked, had time to answer, and this node has an alibi. If not, it
// sees to it that the answer is known soon.
func (c *core) proven(now instant, m *member) bool {
	s := m.suspicion()
	if c.cfg.Detector.NoLastQuestion {
		return true
	}
	if s.question == nil || c.outdated(now, s) {
		c.ask(now, m)
		c.judgeLater(now.add(c.answerTime()), m)
		return false
	}
	if answerDue := s.question.sent.add(c.answerTime()); answerDue > now && s.question.out {
		c.judgeLater(answerDue, m)
		return false
	}
	if c.hasAlibi(now, s.question) || c.hasStreamAlibi(s.question) {
		return true
	}
	c.ask(now, m)
	c.judgeLater(now.add(c.answerTime()), m)
	return false
}

func (c *core) judgeLater(at instant, m *member) {
	c.alarms.push(alarm{at: at, kind: alarmSuspicion, m: m})
}

// acquit makes a suspect that answered the last question alive again, here. No
// incarnation has changed: it is up to the member to refute what others say.
func (c *core) acquit(now instant, m *member) {
	if m.suspicion() == nil {
		return
	}
	change := c.change(now, m, StateAlive, c.cfg.Name)
	c.endSuspicion(m)
	m.remember().acquitted = max(now, 1)
	c.table.setNode(m, m.node.withState(StateAlive), now)
	change.Node = m.node
	c.tell(eventNone, change)
}

// endSuspicion closes the case against m, and waits for no answer in it any more.
func (c *core) endSuspicion(m *member) {
	s := m.suspicion()
	if s == nil {
		return
	}
	for _, seq := range s.asked {
		delete(c.pings, seq)
	}
	m.file.suspicion = nil
}

// justAcquitted reports whether m answered a last question so recently that an
// accusation with the same incarnation is old news.
func (c *core) justAcquitted(now instant, m *member, incarnation uint32) bool {
	at := m.past().acquitted
	if at == 0 || incarnation != m.incarnation {
		return false
	}
	return now.sub(at) < c.shortestSuspicion()
}

// discredited reports whether an accuser is itself under suspicion or gone, or
// was so a moment ago. After a partition the two sides exchange what they believed
// of each other, and such words must not kill those who are here.
func (c *core) discredited(now instant, from borrowed, accused *member) bool {
	if c.cfg.Detector.NoWitnessCheck || accused.gone() {
		return false
	}
	witness := c.table.find(from)
	switch {
	case witness == nil:
		return c.lost.has(from)
	case witness == accused || witness == c.self:
		return false
	case witness.state() != StateAlive:
		return true
	}
	past := witness.past()
	back := max(past.cameBack, past.acquitted)
	return back != 0 && now.sub(back) < c.shortestSuspicion()
}

// newcomer reports whether a node has been known for less time than any suspicion
// takes, while this one has been here longer. What it says of the dead it concluded
// elsewhere, perhaps on the other side of a partition that lasted so long that it was
// forgotten here: that is a reason for suspicion, but no verdict.
func (c *core) newcomer(now instant, from borrowed) bool {
	witness := c.table.find(from)
	if c.cfg.Detector.NoWitnessCheck || witness == nil || witness == c.self {
		return false
	}
	shortest := c.shortestSuspicion()
	return now.sub(witness.knownSince()) < shortest && now.sub(c.self.knownSince()) >= shortest
}

// passOn sends an accusation to the one it concerns, so that it can refute it,
// at most once in a while.
func (c *core) passOn(now instant, m *member, accusation []byte) {
	file := m.remember()
	if m == c.self || file.told != 0 && now.sub(file.told) < c.tellingPause() {
		return
	}
	file.told = max(now, 1)
	c.fx.packets = append(c.fx.packets, outPacket{to: toNode(m.node), msg: accusation, urgent: urgentProbe})
}

// tellingPause is the time between two tellings to one node.
func (c *core) tellingPause() time.Duration {
	return max(c.cfg.ProbeInterval, 100*time.Millisecond)
}
