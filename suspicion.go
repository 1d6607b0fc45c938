package memberlist

import (
	"math"
	"slices"
	"time"
)

// suspicion is the case against one member: who accuses it and until when it
// may refute. Independent accusers bring the end nearer, from the longest to
// the shortest timeout (P62; Lifeguard §IV-B, "LHA-Suspicion"). It has no timer
// of its own: the core asks for the deadline and compares it with its clock.
type suspicion struct {
	start      instant
	shortest   time.Duration // with all confirmations
	longest    time.Duration // with none
	wanted     int           // confirmations that bring longest down to shortest; k of P61
	accusers   []string      // the one who began, then those that were counted
	finalProbe *finalProbe   // the last one, if there was any
	probes     []*finalProbe // all of them; any answer counts

	m           *member // the suspect
	suspicions  *suspicions
	finalProber *finalProber
}

func newSuspicion(start instant, from string, wanted int, shortest, longest time.Duration) *suspicion {
	return &suspicion{
		start:    start,
		shortest: shortest,
		longest:  longest,
		wanted:   max(wanted, 0),
		accusers: []string{from},
	}
}

// confirm counts another accuser and reports whether it counted: only one that
// has not been heard before, and at most as many as are wanted (P63).
func (s *suspicion) confirm(from borrowed) bool {
	if s.confirmations() >= s.wanted || slices.ContainsFunc(s.accusers, from.is) {
		return false
	}
	s.accusers = append(s.accusers, from.own())
	return true
}

// confirmations is how many accusers joined the first one.
func (s *suspicion) confirmations() int { return len(s.accusers) - 1 }

// deadline is when the accused counts as dead unless it refutes before.
func (s *suspicion) deadline() instant { return s.start.add(s.timeout()) }

// timeout is the total time of the suspicion with the confirmations so far (P62).
func (s *suspicion) timeout() time.Duration {
	if s.wanted < 1 {
		return s.shortest
	}
	part := math.Log(float64(s.confirmations()+1)) / math.Log(float64(s.wanted+1))
	total := s.longest - time.Duration(part*float64(s.longest-s.shortest))
	return max(total.Truncate(time.Millisecond), s.shortest)
}

// closed reports whether the suspicion is over.
func (s *suspicion) closed() bool { return s.m.suspicion() != s }

// shortestSuspicion and longestSuspicion bound the time that a suspect has in a
// cluster of this size (P61).
func (c *common) shortestSuspicion() time.Duration {
	return suspicionTimeout(c.cfg.SuspicionMult, len(c.table.order), c.cfg.ProbeInterval)
}

func (c *common) longestSuspicion() time.Duration {
	return times(c.shortestSuspicion(), c.cfg.SuspicionMaxTimeoutMult)
}
