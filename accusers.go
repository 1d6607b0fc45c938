package memberlist

import "time"

// accusers are the rules about those who accuse a member.
type accusers struct {
	*common
	isLost func(name borrowed) bool // whether a node of that name died here and was forgotten
}

func newAccusers(c *common, isLost func(name borrowed) bool) accusers {
	return accusers{common: c, isLost: isLost}
}

// untrusted reports whether an accuser is itself under suspicion or gone, or
// was so a moment ago. After a partition the two sides exchange what they believed
// of each other, and such words must not kill those who are here (P175).
func (a *accusers) untrusted(now instant, from borrowed, accused *member) bool {
	if a.cfg.detector.noAccuserCheck || accused.gone() {
		return false
	}
	accuser := a.table.find(from)
	switch {
	case accuser == nil:
		return a.isLost(from)
	case accuser == accused || accuser == a.self:
		return false
	case accuser.state() != StateAlive:
		return true
	}
	past := accuser.detectorView()
	back := max(past.returnedAt, past.clearedAt)
	return back != 0 && now.sub(back) < a.shortestSuspicion()
}

// recentlyJoined reports whether a node has been known for less time than any suspicion
// takes, while this one has been here longer. What it says of the dead it concluded
// elsewhere, perhaps on the other side of a partition that lasted so long that it was
// forgotten here: that is a reason for suspicion, but no verdict (P176).
func (a *accusers) recentlyJoined(now instant, from borrowed) bool {
	accuser := a.table.find(from)
	if a.cfg.detector.noAccuserCheck || accuser == nil || accuser == a.self {
		return false
	}
	shortest := a.shortestSuspicion()
	return now.sub(accuser.knownSince()) < shortest && now.sub(a.self.knownSince()) >= shortest
}

// forward sends an accusation to the one it concerns, so that it can refute it,
// at most once in a while (P166).
func (a *accusers) forward(now instant, m *member, accusation []byte) {
	file := m.detectorState()
	if m == a.self || file.lastNotified != 0 && now.sub(file.lastNotified) < notifyInterval(a.cfg) {
		return
	}
	file.lastNotified = max(now, 1)
	a.send(outPacket{to: toNode(m.node), msg: accusation, urgent: urgentProbe})
}

// notifyInterval is the time between two accusations that are forwarded to one node.
func notifyInterval(cfg *Config) time.Duration {
	return max(cfg.ProbeInterval, 100*time.Millisecond)
}
