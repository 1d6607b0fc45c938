package memberlist

import (
	"context"
	"slices"
	"sync"
)

// eventKind says which delegate method an event goes to.
type eventKind uint8

const (
	eventNone eventKind = iota // only a change of state, for EventReasonDelegate
	eventJoin
	eventLeave
	eventUpdate
	eventConflict
)

// event is one thing to tell the user.
type event struct {
	kind   eventKind
	node   *Node
	other  *Node   // eventConflict: who claims the name
	change *Change // nil if nobody wants to know
	number uint64  // events count from 1
}

// notifier tells events to the delegates, one at a time, in the order in which
// they happened (P125). Events are queued under the core's lock and delivered
// without any, by a goroutine that exists while there are events. No event may be
// lost, but when many wait those of each node are merged.
type notifier struct {
	tasks    *taskGroup
	events   EventDelegate
	reasons  EventReasonDelegate
	conflict ConflictDelegate

	mu struct {
		sync.Mutex
		queue     []event
		mergeAt   int    // events that may wait before they are merged
		queued    uint64 // events queued since the start
		delivered uint64 // the events up to this number were delivered, or merged into such
		waiters   []eventWaiter
		busy      bool
		closed    bool
	}
}

// eventWaiter is a caller who wants all events up to a number delivered.
type eventWaiter struct {
	upTo uint64
	done chan struct{}
}

func newNotifier(c *taskGroup, cfg *Config) *notifier {
	n := &notifier{tasks: c, events: cfg.Events, conflict: cfg.Conflict}
	n.reasons, _ = cfg.Events.(EventReasonDelegate)
	n.mu.mergeAt = manyEvents
	return n
}

// push queues events and returns the number of the last one queued so far.
func (n *notifier) push(events []event) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.mu.queue) == 0 {
		n.mu.queue = slices.Grow(n.mu.queue, len(events))
	}
	for i := range events {
		if n.wanted(&events[i]) && !n.mu.closed {
			n.mu.queued++
			n.mu.queue = append(n.mu.queue, events[i])
			n.mu.queue[len(n.mu.queue)-1].number = n.mu.queued
		}
	}
	n.merge()
	if len(n.mu.queue) > 0 && !n.mu.busy {
		n.mu.busy = n.tasks.startLoop(n.work)
	}
	return n.mu.queued
}

// merge merges what waits if that is much: twice as much as the last time left, so
// that each event is looked at a few times at most. The lock is held.
func (n *notifier) merge() {
	if len(n.mu.queue) > n.mu.mergeAt {
		n.mu.queue = mergeEvents(n.mu.queue)
		n.mu.mergeAt = max(manyEvents, 2*len(n.mu.queue))
		if !n.mu.busy { // perhaps nothing is left
			n.mu.delivered = n.beforeNext()
			n.wake(n.mu.delivered)
		}
	}
}

// wanted reports whether anybody is to hear of an event (P128).
func (n *notifier) wanted(e *event) bool {
	switch e.kind {
	case eventConflict:
		return n.conflict != nil
	case eventNone:
		return n.reasons != nil
	}
	return n.events != nil
}

func (n *notifier) work() {
	for e, ok := n.next(false); ok; e, ok = n.next(true) {
		n.deliver(&e)
	}
}

// next takes the next event out of the queue. Before that it counts the one that
// was delivered, if there was one. Without a further one the work is over.
func (n *notifier) next(delivered bool) (e event, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if delivered {
		n.mu.delivered = n.beforeNext()
		n.wake(n.mu.delivered)
	}
	if len(n.mu.queue) == 0 || n.mu.closed {
		n.mu.busy, n.mu.queue, n.mu.mergeAt = false, nil, manyEvents
		return event{}, false
	}
	e = n.mu.queue[0]
	n.mu.queue[0] = event{}
	n.mu.queue = n.mu.queue[1:]
	return e, true
}

// beforeNext is the number before that of the next event, or the last one if none
// waits. The lock is held.
func (n *notifier) beforeNext() uint64 {
	if len(n.mu.queue) == 0 {
		return n.mu.queued
	}
	return n.mu.queue[0].number - 1
}

func (n *notifier) deliver(e *event) {
	if e.kind == eventConflict {
		n.conflict.NotifyConflict(e.node, e.other)
		return
	}
	if n.reasons != nil {
		n.reasons.NotifyChange(*e.change)
	}
	switch e.kind {
	case eventJoin:
		n.events.NotifyJoin(e.node)
	case eventLeave:
		n.events.NotifyLeave(e.node)
	case eventUpdate:
		n.events.NotifyUpdate(e.node)
	}
}

// wake releases those who wait for no more than the given number of events. The lock
// is held.
func (n *notifier) wake(upTo uint64) {
	if len(n.mu.waiters) == 0 {
		return
	}
	left := n.mu.waiters[:0]
	for _, w := range n.mu.waiters {
		if w.upTo <= upTo {
			close(w.done)
			continue
		}
		left = append(left, w)
	}
	n.mu.waiters = left
}

// wait returns when the events up to a number have been delivered, when ctx
// ends, or at once from inside a callback: an event cannot wait for those that
// are queued behind it.
func (n *notifier) wait(ctx context.Context, upTo uint64) error {
	if n.reached(upTo) || n.tasks.callers.inCallback() {
		return nil
	}
	done := n.waiter(upTo)
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		n.forget(done)
		return ctx.Err()
	}
}

// last is the number of the last event queued so far.
func (n *notifier) last() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.queued
}

// reached reports whether the events up to a number have been delivered.
func (n *notifier) reached(upTo uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.delivered >= upTo || n.mu.closed
}

// waiter returns what is closed when the events up to a number have been delivered.
func (n *notifier) waiter(upTo uint64) <-chan struct{} {
	w := eventWaiter{upTo: upTo, done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.delivered >= upTo || n.mu.closed {
		close(w.done)
		return w.done
	}
	n.mu.waiters = append(n.mu.waiters, w)
	return w.done
}

// forget gives up a waiter.
func (n *notifier) forget(done <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.waiters = slices.DeleteFunc(n.mu.waiters, func(w eventWaiter) bool { return w.done == done })
}

// close drops events that have not been delivered and releases who waits.
func (n *notifier) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.closed = true
	n.mu.queue = nil
	n.wake(n.mu.queued)
}
