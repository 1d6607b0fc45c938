package memberlist

import "time"

// awareness is Lifeguard's local health score: how much a node doubts its own
// ability to take part, 0 when healthy (P66; Lifeguard §IV-A). The doubt
// stretches the node's probes, so that a slow node accuses others later.
type awareness struct {
	score int
	limit int // the score stays below it; at least 1 (P68)
	out   *metricCounts
}

func newAwareness(limit int, out *metricCounts) awareness {
	return awareness{limit: max(limit, 1), out: out}
}

// apply adds delta to the score, clamped at both ends, and reports whether the
// score is another one now (P66, P67).
func (a *awareness) apply(delta int) bool {
	before := a.score
	a.score = min(max(a.score+delta, 0), a.limit-1)
	return a.score != before
}

// adjust is apply for the parts of the core: a score that has changed is reported.
func (a *awareness) adjust(delta int) {
	if a.apply(delta) {
		a.out.health, a.out.healthChanged = a.score, true
	}
}

// scale stretches d by the score (P48).
func (a *awareness) scale(d time.Duration) time.Duration {
	return times(d, a.score+1)
}
