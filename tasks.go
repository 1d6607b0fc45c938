package memberlist

import (
	"sync"
	"time"
)

// taskGroup owns the goroutines of one node and joins them at Shutdown (P32).
type taskGroup struct {
	mu struct {
		sync.Mutex
		closed  bool
		running int
		ended   chan struct{} // closed when nothing runs any more; nil if nobody waits
		queues  []func()      // close the work queues of the group
	}

	// callers are the goroutines of the group that are inside a callback.
	callers reentrancy
}

// start runs f on a new goroutine, unless the group is closed.
func (g *taskGroup) start(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.closed {
		return false
	}
	g.mu.running++
	go func() {
		defer g.ended()
		f()
	}()
	return true
}

// ended counts a goroutine that has come to its end.
func (g *taskGroup) ended() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.running--
	if g.mu.running == 0 && g.mu.ended != nil {
		close(g.mu.ended)
		g.mu.ended = nil
	}
}

// startLoop is start for a goroutine that the protocol needs to go on.
func (g *taskGroup) startLoop(f func()) bool {
	return g.start(func() { g.callers.asLoop(f) })
}

// close lets no further goroutine start.
func (g *taskGroup) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.closed = true
}

// addQueue tells how a work queue of the group is closed.
func (g *taskGroup) addQueue(closeQueue func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.queues = append(g.mu.queues, closeQueue)
}

// closeQueues closes the work queues of the group.
func (g *taskGroup) closeQueues() {
	g.mu.Lock()
	queues := g.mu.queues
	g.mu.Unlock()
	for _, closeQueue := range queues {
		closeQueue()
	}
}

// callbackGrace is how long Shutdown waits for user code that is running.
const callbackGrace = 250 * time.Millisecond

// join waits for all goroutines to end, but not for ever: one that is inside
// user code ends when that returns (P31).
func (g *taskGroup) join() {
	ended := g.lastEnd()
	if ended == nil {
		return
	}
	grace := time.NewTimer(callbackGrace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
	}
}

// lastEnd is closed when nothing runs any more; nil if that is so already.
func (g *taskGroup) lastEnd() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.running > 0 && g.mu.ended == nil {
		g.mu.ended = make(chan struct{})
	}
	return g.mu.ended
}
