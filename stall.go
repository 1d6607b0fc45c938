package memberlist

import "time"

// stallGuard notices that the process stood still: its timers go off late, and what
// fell due meanwhile did so without anybody looking.
type stallGuard struct {
	*common
	health  *awareness
	stalled func(now instant, late, back time.Duration) // gives time back
}

func newStallGuard(c *common, h *awareness, stalled func(now instant, late, back time.Duration)) stallGuard {
	return stallGuard{common: c, health: h, stalled: stalled}
}

// check is called before timers are handled. After a stall the time is given back to the
// suspects and to the running probe, and a moment more, to read what has come in
// since; and it counts against the health of this node (P177).
func (g *stallGuard) check(now instant) {
	late := now.sub(g.timers.next())
	if late <= timerTolerance(g.cfg) || g.cfg.detector.noStallGuard {
		return
	}
	g.health.adjust(+1)
	g.stalled(now, late, late+timerTolerance(g.cfg))
}

// timerTolerance is the lateness of a timer that says nothing.
func timerTolerance(cfg *Config) time.Duration {
	return max(cfg.GossipInterval, 100*time.Millisecond)
}
