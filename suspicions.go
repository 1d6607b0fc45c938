package memberlist

import "time"

// suspicions are the suspects and their deadlines. Each suspicion is kept with the record
// of the suspect.
type suspicions struct {
	*common
	finalProber *finalProber
	rules       suspicionRules
}

// suspicionRules are the rules of membership that conclusions about suspects go to.
type suspicionRules interface {
	suspect(now instant, s *suspect, raw []byte)
	dead(now instant, d *dead, raw []byte)
}

func newSuspicions(c *common, f *finalProber, rules suspicionRules) suspicions {
	return suspicions{common: c, finalProber: f, rules: rules}
}

// raise makes the target of a failed probe a suspect (P57), unless the table has moved on
// since the probe began: then the silence is old news.
func (s *suspicions) raise(now instant, f failedProbe) {
	if f.m.gone() || f.incarnation < f.m.incarnation || !s.table.holds(f.m) {
		return
	}
	name := f.m.node.Name
	f.m.silentAtNewAddress()
	s.logf(levelInfo, "Suspecting a node that did not answer", logFields{node: name, addr: f.m.node.Address(), incarnation: f.incarnation},
		"Suspect %s has failed, no acks received", name)
	s.rules.suspect(now, &suspect{Incarnation: f.incarnation, Node: borrow(name), From: borrow(s.cfg.Name)}, nil)
}

// open begins the suspicion of m.
func (s *suspicions) open(now instant, m *member, from string) {
	wanted := confirmationsWanted(s.cfg.SuspicionMult, len(s.table.order))
	opened := newSuspicion(now, from, wanted, s.shortestSuspicion(), s.longestSuspicion())
	opened.m, opened.suspicions, opened.finalProber = m, s, s.finalProber
	m.detectorState().suspicion = opened
	s.timers.set(opened.deadline(), (*suspicionTimer)(opened))
	s.finalProber.schedule(now, opened)
}

// confirm counts a further accuser of a suspect (P63, P64), and reports whether it counted.
func (s *suspicions) confirm(now instant, m *member, from borrowed) bool {
	confirmed := m.suspicion()
	if !confirmed.confirm(from) {
		return false
	}
	s.timers.set(max(confirmed.deadline(), now), (*suspicionTimer)(confirmed))
	s.finalProber.scheduleRepeat(now, confirmed)
	return true
}

// close ends the suspicion of m, if there is one, and waits for no answer to its probes
// any more.
func (s *suspicions) close(m *member) {
	closed := m.suspicion()
	if closed == nil {
		return
	}
	for _, p := range closed.probes {
		p.forget()
	}
	m.detector.suspicion = nil
}

// suspicionTimer is the deadline of a suspicion.
type suspicionTimer suspicion

func (t *suspicionTimer) expire(now instant) {
	if !t.stale() {
		t.suspicions.expired(now, (*suspicion)(t))
	}
}

func (t *suspicionTimer) stale() bool { return (*suspicion)(t).closed() }

// expired declares a suspect dead when its time is really up (P65).
func (s *suspicions) expired(now instant, over *suspicion) {
	if over.deadline() > now {
		return
	}
	if again, confirmed := s.finalProber.confirms(now, over); !confirmed {
		s.timers.set(again, (*suspicionTimer)(over))
		return
	}
	m, count := over.m, over.confirmations()
	if count < over.wanted {
		s.fx.metrics.degradedTimeout++
	}
	s.logf(levelInfo, "Declaring a suspect failed",
		logFields{node: m.node.Name, addr: m.node.Address(), incarnation: m.incarnation, more: []logAttr{{"confirmations", count}}},
		"Marking %s as failed, suspect timeout reached (%d peer confirmations)", m.node.Name, count)
	s.rules.dead(now, &dead{Incarnation: m.incarnation, Node: borrow(m.node.Name), From: borrow(s.cfg.Name)}, nil)
}

// stalled gives their time back to suspects whose time ran out while nobody looked.
func (s *suspicions) stalled(now instant, back time.Duration) {
	for _, m := range s.table.order {
		if late := m.suspicion(); late != nil && late.deadline() <= now {
			late.start = late.start.add(back)
			s.timers.set(late.deadline(), (*suspicionTimer)(late))
			s.finalProber.schedule(now, late)
		}
	}
}

// recentlyCleared reports whether m answered a final probe so recently that an
// accusation with the same incarnation is old news (P174).
func (s *suspicions) recentlyCleared(now instant, m *member, incarnation uint32) bool {
	at := m.detectorView().clearedAt
	if at == 0 || incarnation != m.incarnation {
		return false
	}
	return now.sub(at) < s.shortestSuspicion()
}
