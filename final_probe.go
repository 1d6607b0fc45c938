package memberlist

import "time"

// Before a suspicion runs out, the suspect is asked a last time: directly, through
// relays and on a stream. An answer clears it here, whatever the others said; and
// the probe carries the accusation, so that the suspect can refute it everywhere.
// Without an answer the probe brings the self-check that the conclusion needs. It is
// sent one ProbeTimeout before the earliest moment at which the suspicion can run
// out, so that the conclusion is no later for it.

// finalProber asks suspects before they are declared dead.
type finalProber struct {
	*common
	pings     *pings
	indirect  *indirectPings
	selfCheck *selfCheck
	answered  func(now instant, m *member) // takes in that a suspect answered
}

func newFinalProber(c *common, p *pings, i *indirectPings, s *selfCheck, answered func(now instant, m *member)) finalProber {
	return finalProber{common: c, pings: p, indirect: i, selfCheck: s, answered: answered}
}

// schedule sets the time of the final probe of a new suspect (P173).
func (f *finalProber) schedule(now instant, s *suspicion) {
	if f.cfg.detector.noFinalProbe {
		return
	}
	at := s.start.add(s.shortest - f.answerTime())
	f.timers.set(max(at, now), (*finalProbeTimer)(s))
}

// due asks a suspect whose suspicion may run out soon.
func (f *finalProber) due(now instant, s *suspicion) {
	if now < s.start.add(s.shortest-f.answerTime()) {
		return
	}
	if s.finalProbe != nil && !f.expired(s.deadline(), s) {
		return
	}
	f.ask(now, s)
	f.scheduleRepeat(now, s)
}

// scheduleRepeat sets the time of another probe, if the last one would be out of date at
// the deadline. It is called after a probe and when the deadline has come nearer, so
// that the conclusion need not wait for the answer.
func (f *finalProber) scheduleRepeat(now instant, s *suspicion) {
	if s.finalProbe == nil || !f.expired(s.deadline(), s) {
		return
	}
	f.timers.set(max(s.deadline().add(-f.answerTime()), now), (*finalProbeTimer)(s))
}

// expired reports whether at the given time the last probe was sent so long
// ago that the suspect may be back.
func (f *finalProber) expired(at instant, s *suspicion) bool {
	return at.sub(s.finalProbe.sent) > max(s.shortest, 2*f.answerTime())
}

// finalProbeTimer asks a suspect once more.
type finalProbeTimer suspicion

func (t *finalProbeTimer) expire(now instant) {
	if !t.stale() {
		t.finalProber.due(now, (*suspicion)(t))
	}
}

func (t *finalProbeTimer) stale() bool { return (*suspicion)(t).closed() }

// finalProbe is a ping to a suspect.
type finalProbe struct {
	indirectProbe
	prober *finalProber
}

func (p *finalProbe) acked(now instant, _ []byte, _ instant) { p.prober.answered(now, p.m) }

func (p *finalProbe) streamAnswered(now instant) {
	p.streamAck = true
	p.forget()
	p.prober.answered(now, p.m)
}

// ask probes a suspect (P173).
func (f *finalProber) ask(now instant, s *suspicion) {
	m := s.m
	p := &finalProbe{prober: f}
	p.m, p.node, p.quiet = m, m.node, true
	f.pings.register(now, &p.pendingPing, p)
	p.setTimer(now.add(f.longestSuspicion()))
	p.msg = f.pingWithSuspicion(p.seq, m)
	s.finalProbe = p
	s.probes = append(s.probes, p)
	f.send(outPacket{
		to: toNode(m.node), msg: p.msg, urgent: urgentProbe, seq: p.seq,
	})
	f.indirect.askOthers(now, &p.indirectProbe, f.answerTime())
	if p.streamSent != 0 && f.selfCheck.packetsFail(now) {
		f.selfCheck.askByStream(&p.indirectProbe)
	}
	if !f.cfg.detector.noRepeatedPing {
		for i := range finalProbeRepeats {
			at := now.add(f.answerTime() * time.Duration(i+1) / (finalProbeRepeats + 1))
			p.setTimer(at)
		}
	}
}

// finalProbeRepeats is how often a final probe is repeated while its answer is
// awaited.
const finalProbeRepeats = 2

// timedOut repeats the probe. It stays pending until the suspicion is closed:
// after a stall its answer may still be unread.
func (p *finalProbe) timedOut(now instant) {
	f := p.prober
	if now.sub(p.asked) >= f.longestSuspicion() {
		return
	}
	f.send(outPacket{to: toNode(p.node), msg: p.msg, urgent: urgentProbe})
	if asked := p.streamSent; asked != 0 && f.selfCheck.packetsFail(now) {
		f.indirect.sendStreamPing(now, &p.indirectProbe, f.answerTime())
		p.streamSent = asked
	}
}

// confirms reports whether the suspect of a suspicion that has run out may be declared
// dead: it was asked, had time to answer, and this node passes its self-check. If not,
// the suspect is asked, and confirms is to be called again at the given time (P173).
func (f *finalProber) confirms(now instant, s *suspicion) (again instant, confirmed bool) {
	if f.cfg.detector.noFinalProbe {
		return 0, true
	}
	if s.finalProbe == nil || f.expired(now, s) {
		f.ask(now, s)
		return now.add(f.answerTime()), false
	}
	if answerDue := s.finalProbe.sent.add(f.answerTime()); answerDue > now && s.finalProbe.transmitted {
		return answerDue, false
	}
	if f.selfCheck.passed(now, &s.finalProbe.indirectProbe) || f.selfCheck.passedByStream(&s.finalProbe.indirectProbe) {
		return 0, true
	}
	f.ask(now, s)
	if p := &s.finalProbe.indirectProbe; p.streamSent != 0 && !f.selfCheck.packetsFail(now) {
		f.selfCheck.askByStream(p) // the check was not passed: perhaps packets begin to get lost
	}
	return now.add(f.answerTime()), false
}
