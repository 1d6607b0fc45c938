package memberlist

import (
	"cmp"
	"slices"
)

// alarmKind says what is due when an alarm goes off.
type alarmKind uint8

const (
	alarmProbe     alarmKind = iota // begin the next probe round
	alarmPing                       // a ping's patience is over
	alarmSuspicion                  // a suspicion has run out
	alarmGossip                     // a gossip round
	alarmSync                       // a push/pull
	alarmSample                     // the queue depth metric
	alarmLeave                      // tell more members of the own departure
	alarmQuestion                   // a suspect is to be asked once more
	alarmReconnect                  // a lost node is to be tried
	alarmVisit                      // a second full exchange after waking up
	alarmRejoin                     // the seeds are to be looked up
	alarmReunion                    // exchange state with one that came back
	alarmClaim                      // the answers to a claim are to be judged
)

// alarm is a deadline of the core. Alarms are never cancelled: one that has
// become stale is recognised when it goes off, by the sequence number of its
// ping or by the suspicion it was set for. When too many have gathered, the stale
// ones are swept out.
type alarm struct {
	at        instant
	kind      alarmKind
	seq       uint32     // alarmPing
	m         *member    // alarmSuspicion, alarmQuestion, alarmVisit, alarmClaim
	suspicion *suspicion // of m when the alarm was set
}

// alarms is a binary heap, the earliest alarm first.
type alarms []alarm

func (h alarms) next() instant {
	if len(h) == 0 {
		return never
	}
	return h[0].at
}

// fewAlarms is how many alarms are kept without asking whether they are stale.
const fewAlarms = 1024

// stale reports whether an alarm has nothing left to do.
func (c *core) stale(a *alarm) bool {
	switch a.kind {
	case alarmPing:
		return c.pings[a.seq] == nil
	case alarmSuspicion, alarmQuestion:
		return a.suspicion == nil || a.m.suspicion() != a.suspicion
	}
	return false
}

// sweepAlarms removes stale alarms once there are twice as many as there were after
// the last sweep. What is left is bounded by what is pending: a few for each
// suspicion and ping.
func (c *core) sweepAlarms() {
	if len(c.alarms) > max(fewAlarms, 2*c.swept) {
		c.alarms = slices.DeleteFunc(c.alarms, func(a alarm) bool { return c.stale(&a) })
		slices.SortFunc(c.alarms, func(a, b alarm) int { return cmp.Compare(a.at, b.at) }) // sorted is a heap
		c.swept = len(c.alarms)
	}
	if cap(c.alarms) > fewAlarms && cap(c.alarms) > 4*len(c.alarms) {
		c.alarms, c.swept = slices.Clone(c.alarms), len(c.alarms)
	}
}

// nextAlarm is when the core has to be woken next. It leaves out the alarms of
// pings that are answered already, as most are before they go off: to be woken for
// nothing is most of what an idle node costs.
func (c *core) nextAlarm(now instant) instant {
	if c.gossiping.asleep && c.queue.NumQueued() > 0 {
		c.wakeGossip(now)
	}
	for len(c.alarms) > 0 && c.alarms[0].kind == alarmPing && c.pings[c.alarms[0].seq] == nil {
		c.alarms.pop()
	}
	c.sweepAlarms()
	return c.alarms.next()
}

func (h *alarms) push(a alarm) {
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

func (h *alarms) pop() alarm {
	heap := *h
	first := heap[0]
	last := len(heap) - 1
	heap[0], heap[last] = heap[last], alarm{}
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
