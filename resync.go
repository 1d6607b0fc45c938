package memberlist

// resync makes full exchanges after this node was cut off: it does not know what was
// said about it meanwhile, and has to refute it before the others declare it dead, or to
// come back if they did (P182).
type resync struct {
	*common
	leaving func() bool
}

func newResync(c *common, leaving func() bool) resync { return resync{common: c, leaving: leaving} }

// begin makes an exchange at once, with the node that was heard if possible, and one more
// later.
func (r *resync) begin(now instant, peer *member) {
	if !r.enabled() {
		return
	}
	if peer == nil || peer.gone() {
		chosen := r.choose(1, r.isPeer)
		if len(chosen) == 0 {
			return
		}
		peer = chosen[0]
	}
	r.exchange(peer)
	r.continueLater(now, peer)
}

func (r *resync) enabled() bool {
	return !r.cfg.detector.noResync && r.cfg.ProbeInterval > 0 && !r.leaving()
}

func (r *resync) exchange(m *member) {
	r.openStream(streamTask{kind: streamVisit, node: m.node})
}

// continueLater sets the time of one more exchange, with another member than the
// first, which may have been cut off itself.
func (r *resync) continueLater(now instant, first *member) {
	if r.enabled() {
		r.timers.set(now.add(r.cfg.ProbeInterval), &secondResync{r, first})
	}
}

// secondResync is the timer of that exchange.
type secondResync struct {
	*resync
	first *member
}

func (s *secondResync) expire(instant) {
	if s.leaving() {
		return
	}
	for _, m := range s.choose(1, func(m *member) bool { return m != s.first && s.isPeer(m) }) {
		s.exchange(m)
	}
}

func (*secondResync) stale() bool { return false }
