package memberlist

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// engine runs the core: it gives it the time and the lock, takes its effects out,
// keeps the timer, and has the effects carried out after the lock is released.
type engine struct {
	events  *notifier
	perform func(*effects) // carries out effects; without the lock
	view    *memberView
	self    atomic.Pointer[Node]
	health  atomic.Int64
	spare   sync.Pool // *effects
	epoch   time.Time
	timer   *time.Timer

	// locked is everything that the mutex guards. No user code, I/O or waiting
	// while it is held; of other locks only those of the broadcast queue and of
	// the notifier's queue are taken inside.
	locked struct {
		sync.Mutex
		core  *core
		armed instant // when the timer goes off
	}
}

func newEngine(c *core, events *notifier) *engine {
	e := &engine{events: events, view: c.memberView(), epoch: time.Now(), timer: time.NewTimer(time.Hour)}
	e.timer.Stop()
	e.spare.New = func() any { return new(effects) }
	e.locked.core, e.locked.armed = c, never
	return e
}

// now is the time of the core.
func (e *engine) now() instant { return instant(time.Since(e.epoch)) }

// instantOf is a transport's timestamp on the core's clock. Transports that
// give none, or one that cannot be, get the time of handling.
func (e *engine) instantOf(now instant, t time.Time) instant {
	if at := instant(t.Sub(e.epoch)); !t.IsZero() && at > 0 && at < now {
		return at
	}
	return now
}

// step lets f change the core and carries out what it wants done. It returns
// the number of the last event so far, for notifier.wait.
func (e *engine) step(f func(c *core, now instant)) uint64 {
	e.locked.Lock()
	f(e.locked.core, e.now())
	fx, eventSeq := e.settle()
	e.locked.Unlock()
	if fx != nil {
		e.perform(fx)
		fx.reset()
		e.spare.Put(fx)
	}
	return eventSeq
}

// read lets f ask the core, which has nothing to be done then.
func (e *engine) read(f func(c *core, now instant)) {
	e.locked.Lock()
	defer e.locked.Unlock()
	f(e.locked.core, e.now())
}

// settle takes the effects out of the core, queues the events in the order of
// the transitions, and sets the timer (P126). The lock is held. fx is nil if there is
// nothing to do.
func (e *engine) settle() (fx *effects, eventSeq uint64) {
	c := e.locked.core
	e.arm(c)
	if own := c.ownNode(); own != nil && e.self.Load() != own {
		e.self.Store(own)
	}
	eventSeq = e.events.push(c.pendingEvents())
	if !c.hasEffects() {
		return nil, eventSeq
	}
	fx = e.spare.Get().(*effects)
	c.takeEffects(fx)
	e.health.Store(int64(c.healthScore()))
	return fx, eventSeq
}

// arm sets the timer to when the core has to be woken. The lock is held.
func (e *engine) arm(c *core) {
	now := e.now()
	next := c.nextDeadline(now)
	switch {
	case next == e.locked.armed:
	case next == never:
		e.timer.Stop()
	default:
		e.timer.Reset(max(next.sub(now), 0))
	}
	e.locked.armed = next
}

// run wakes the core whenever something is due, until ctx ends.
func (e *engine) run(ctx context.Context) {
	for {
		select {
		case <-e.timer.C:
			e.step(func(c *core, now instant) {
				e.locked.armed = never
				c.tick(now)
			})
		case <-ctx.Done():
			return
		}
	}
}

// nodeNamed is the node of that name in any state; nil if there is none.
func (e *engine) nodeNamed(name string) *Node {
	e.locked.Lock()
	defer e.locked.Unlock()
	return e.locked.core.nodeNamed(name)
}
