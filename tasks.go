package memberlist

import (
	"bytes"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// taskGroup owns the goroutines of one node and joins them at Shutdown (P32).
type taskGroup struct {
	mu struct {
		sync.Mutex
		closed  bool
		running int
		ended   chan struct{} // closed when nothing runs any more; nil if nobody waits
	}

	// loops are the goroutines on which the protocol runs, by number. User code
	// on one of them is inside a callback, and must not be made to wait for what
	// only that goroutine can bring about.
	loops sync.Map
}

// start runs f on a new goroutine, unless the crew is closed.
func (c *taskGroup) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return false
	}
	c.mu.running++
	go func() {
		defer c.ended()
		f()
	}()
	return true
}

// ended counts a goroutine that has come to its end.
func (c *taskGroup) ended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.running--
	if c.mu.running == 0 && c.mu.ended != nil {
		close(c.mu.ended)
		c.mu.ended = nil
	}
}

// startLoop is start for a goroutine that the protocol needs to go on.
func (c *taskGroup) startLoop(f func()) bool {
	return c.start(func() { c.asLoop(f) })
}

// becomeLoop marks the calling goroutine as one of the protocol's as long as it lives.
func (c *taskGroup) becomeLoop() { c.loops.Store(goroutineID(), nil) }

// asLoop runs f here and marks this goroutine as one of the protocol's meanwhile.
func (c *taskGroup) asLoop(f func()) {
	id := goroutineID()
	if _, already := c.loops.LoadOrStore(id, nil); !already {
		defer c.loops.Delete(id)
	}
	f()
}

// inCallback reports whether the caller runs on a goroutine of the protocol,
// which for user code means inside a callback.
func (c *taskGroup) inCallback() bool {
	_, found := c.loops.Load(goroutineID())
	return found
}

// close lets no further goroutine start.
func (c *taskGroup) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.closed = true
}

// callbackGrace is how long Shutdown waits for user code that is running.
const callbackGrace = 250 * time.Millisecond

// join waits for all goroutines to end, but not for ever: one that is inside
// user code ends when that returns (P31).
func (c *taskGroup) join() {
	ended := c.lastEnd()
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
func (c *taskGroup) lastEnd() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.running > 0 && c.mu.ended == nil {
		c.mu.ended = make(chan struct{})
	}
	return c.mu.ended
}

// goroutineID is the number of the calling goroutine. The runtime tells it only
// in the first line of a stack trace, "goroutine 7 [running]:"; that takes
// about a microsecond, so it is asked for only where somebody is about to wait.
func goroutineID() uint64 {
	var buf [64]byte
	fields := bytes.Fields(buf[:runtime.Stack(buf[:], false)])
	if len(fields) < 2 {
		return 0
	}
	id, _ := strconv.ParseUint(string(fields[1]), 10, 64)
	return id
}

// workQueue is a bounded queue, first in first out, served one item at a time by a
// goroutine that exists only while there is work. What does not fit is refused.
// It is bounded in items and, if their size can be told, in bytes. An empty lane
// takes one item of any size.
type workQueue[T any] struct {
	tasks     *taskGroup
	limit     int
	byteLimit int64
	size      func(*T) int // bytes that an item holds; nil if that does not matter
	serve     func(T)
	protocol  bool         // the protocol waits for what is served
	waiting   atomic.Int64 // items that are not served yet
	bytes     atomic.Int64 // what these hold
	closed    atomic.Bool

	mu struct {
		sync.Mutex
		queue []T
		spare []T // a drained queue, for its room
		busy  bool
	}
}

func newWorkQueue[T any](c *taskGroup, limit int, serve func(T)) *workQueue[T] {
	return &workQueue[T]{tasks: c, limit: limit, serve: serve}
}

// bounded sets a bound in bytes.
func (l *workQueue[T]) bounded(bytes int, size func(*T) int) *workQueue[T] {
	l.byteLimit, l.size = int64(bytes), size
	return l
}

// hasRoom reports whether one more item of so many bytes would fit now.
func (l *workQueue[T]) hasRoom(size int) bool {
	waits, bytes := int(l.waiting.Load()), l.bytes.Load()
	return waits < l.limit && (bytes == 0 || bytes+int64(size) <= l.byteLimit)
}

// halfEmpty reports whether at least half of the lane is free.
func (l *workQueue[T]) halfEmpty() bool {
	return int(l.waiting.Load()) < l.limit/2 && l.bytes.Load() <= l.byteLimit/2
}

// fitting tells how many of the items fit, in order, and how many bytes they hold.
func (l *workQueue[T]) fitting(items []T) (n int, bytes int64) {
	most := max(0, min(len(items), l.limit-int(l.waiting.Load())))
	if l.size == nil {
		return most, 0
	}
	before := l.bytes.Load()
	for ; n < most; n++ {
		size := int64(l.size(&items[n]))
		if before+bytes > 0 && before+bytes+size > l.byteLimit {
			break
		}
		bytes += size
	}
	return n, bytes
}

// put queues an item and reports whether there was room.
func (l *workQueue[T]) put(item T) bool { return l.putAll([]T{item}) == 1 }

// putAll queues the items in order, as many as there is room for, and returns how
// many that were. A closed lane has room for all, and drops them.
func (l *workQueue[T]) putAll(items []T) (taken int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() {
		return len(items)
	}
	taken, bytes := l.fitting(items)
	if taken == 0 {
		return 0
	}
	l.mu.queue = append(l.mu.queue, items[:taken]...)
	l.waiting.Add(int64(taken))
	l.bytes.Add(bytes)
	if !l.mu.busy {
		l.mu.busy = l.startWork()
	}
	return taken
}

func (l *workQueue[T]) startWork() bool {
	if l.protocol {
		return l.tasks.startLoop(l.work)
	}
	return l.tasks.start(l.work)
}

// close drops what is queued and refuses, silently, what comes later.
func (l *workQueue[T]) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed.Store(true)
	l.mu.queue = nil
}

func (l *workQueue[T]) work() {
	for batch := l.next(); batch != nil; batch = l.next() {
		for i := range batch {
			if l.closed.Load() {
				break
			}
			bytes := 0
			if l.size != nil {
				bytes = l.size(&batch[i])
			}
			l.serve(batch[i])
			l.waiting.Add(-1)
			l.bytes.Add(-int64(bytes))
		}
		l.giveBack(batch)
	}
}

// next takes all that is queued, nil if there is nothing.
func (l *workQueue[T]) next() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.queue) == 0 || l.closed.Load() {
		l.mu.busy = false
		return nil
	}
	batch := l.mu.queue
	l.mu.queue, l.mu.spare = l.mu.spare, nil
	return batch
}

// keepBatch is for how many items a lane keeps room.
const keepBatch = 1024

func (l *workQueue[T]) giveBack(batch []T) {
	if cap(batch) > keepBatch {
		return
	}
	clear(batch)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.spare = batch[:0]
}
