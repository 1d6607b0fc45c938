package memberlist

import (
	"cmp"
	"slices"
)

// timerKind says what is due when an alarm goes off.
type timerKind uint8

const (
	timerProbe        timerKind = iota // begin the next probe round
	timerPing                          // a ping's patience is over
	timerSuspicion                     // a suspicion has run out
	timerGossip                        // a gossip round
	timerSync                          // a push/pull
	timerQueueSample                   // the queue depth metric
	timerDeparture                     // tell more members of the own departure
	timerFinalProbe                    // a suspect is to be asked once more
	timerReconnect                     // a lost node is to be tried
	timerSecondSync                    // a second full exchange after waking up
	timerRejoin                        // the seeds are to be looked up
	timerReunion                       // exchange state with one that came back
	timerAddressCheck                  // the answers to a claim are to be judged
)

// timer is a deadline of the core. Alarms are never cancelled: one that has
// become stale is recognised when it goes off, by the sequence number of its
// ping or by the suspicion it was set for. When too many have gathered, the stale
// ones are swept out.
type timer struct {
	at        instant
	kind      timerKind
	seq       uint32     // alarmPing
	m         *member    // alarmSuspicion, alarmQuestion, alarmVisit, alarmClaim
	suspicion *suspicion // of m when the alarm was set
}

// timerHeap is a binary heap, the earliest alarm first.
type timerHeap []timer

func (h timerHeap) next() instant {
	if len(h) == 0 {
		return never
	}
	return h[0].at
}

// minTimersToSweep is how many alarms are kept without asking whether they are stale.
const minTimersToSweep = 1024

// stale reports whether an alarm has nothing left to do.
func (c *core) stale(a *timer) bool {
	switch a.kind {
	case timerPing:
		return c.pings[a.seq] == nil
	case timerSuspicion, timerFinalProbe:
		return a.suspicion == nil || a.m.suspicion() != a.suspicion
	}
	return false
}

// sweepTimers removes stale alarms once there are twice as many as there were after
// the last sweep. What is left is bounded by what is pending: a few for each
// suspicion and ping.
func (c *core) sweepTimers() {
	if len(c.timers) > max(minTimersToSweep, 2*c.timersAfterSweep) {
		c.timers = slices.DeleteFunc(c.timers, func(a timer) bool { return c.stale(&a) })
		slices.SortFunc(c.timers, func(a, b timer) int { return cmp.Compare(a.at, b.at) }) // sorted is a heap
		c.timersAfterSweep = len(c.timers)
	}
	if cap(c.timers) > minTimersToSweep && cap(c.timers) > 4*len(c.timers) {
		c.timers, c.timersAfterSweep = slices.Clone(c.timers), len(c.timers)
	}
}

// nextDeadline is when the core has to be woken next. It leaves out the alarms of
// pings that are answered already, as most are before they go off: to be woken for
// nothing is most of what an idle node costs.
func (c *core) nextDeadline(now instant) instant {
	if c.gossiping.asleep && c.queue.NumQueued() > 0 {
		c.wakeGossip(now)
	}
	for len(c.timers) > 0 && c.timers[0].kind == timerPing && c.pings[c.timers[0].seq] == nil {
		c.timers.pop()
	}
	c.sweepTimers()
	return c.timers.next()
}

func (h *timerHeap) push(a timer) {
	if a.m != nil {
		a.suspicion = a.m.suspicion()
	}
	*h = append(*h, a)
	heap := *h
	for i := len(heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if heap[parent].at <= heap[i].at {
			return
		}
		heap[parent], heap[i] = heap[i], heap[parent]
		i = parent
	}
}

func (h *timerHeap) pop() timer {
	heap := *h
	first := heap[0]
	last := len(heap) - 1
	heap[0], heap[last] = heap[last], timer{}
	heap = heap[:last]
	*h = heap
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if heap[child].at < heap[least].at {
				least = child
			}
		}
		if least == i {
			return first
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}
