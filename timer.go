package memberlist

import (
	"cmp"
	"slices"
)

// timerHandler is what a timer is set for. Each feature implements it beside its
// own code.
type timerHandler interface {
	// expire does what is due.
	expire(now instant)
	// stale reports whether nothing is left to do.
	stale() bool
}

// timer is a deadline of the core. Timers are never cancelled: the handler of one
// that has become stale knows it. When too many have gathered, the stale ones are
// swept out.
type timer struct {
	at      instant
	handler timerHandler
}

// timers is a binary heap of timers, the earliest first.
type timers struct {
	heap       []timer
	afterSweep int // how many the last sweep left
}

// minTimersToSweep is how many timers are kept without asking whether they are stale.
const minTimersToSweep = 1024

// next is when the earliest timer goes off.
func (t *timers) next() instant {
	if len(t.heap) == 0 {
		return never
	}
	return t.heap[0].at
}

// nextPending is next without the timers that are stale, as most of those of pings are
// before they go off: to be woken for nothing is most of what an idle node costs.
func (t *timers) nextPending() instant {
	for len(t.heap) > 0 && t.heap[0].handler.stale() {
		t.pop()
	}
	t.sweep()
	return t.next()
}

// expire calls the handlers of all timers that are due.
func (t *timers) expire(now instant) {
	for t.next() <= now {
		t.pop().handler.expire(now)
	}
}

// sweep removes stale timers once there are twice as many as there were after
// the last sweep. What is left is bounded by what is pending: a few for each
// suspicion and ping.
func (t *timers) sweep() {
	if len(t.heap) > max(minTimersToSweep, 2*t.afterSweep) {
		t.heap = slices.DeleteFunc(t.heap, func(a timer) bool { return a.handler.stale() })
		slices.SortFunc(t.heap, func(a, b timer) int { return cmp.Compare(a.at, b.at) }) // sorted is a heap
		t.afterSweep = len(t.heap)
	}
	if cap(t.heap) > minTimersToSweep && cap(t.heap) > 4*len(t.heap) {
		t.heap, t.afterSweep = slices.Clone(t.heap), len(t.heap)
	}
}

// set lets a handler expire at the given time.
func (t *timers) set(at instant, h timerHandler) {
	t.heap = append(t.heap, timer{at, h})
	heap := t.heap
	for i := len(heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if heap[parent].at <= heap[i].at {
			return
		}
		heap[parent], heap[i] = heap[i], heap[parent]
		i = parent
	}
}

// pop takes the earliest timer out.
func (t *timers) pop() timer {
	heap := t.heap
	first := heap[0]
	last := len(heap) - 1
	heap[0], heap[last] = heap[last], timer{}
	heap = heap[:last]
	t.heap = heap
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
