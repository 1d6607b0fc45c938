package memberlist

import (
	"sync"
	"sync/atomic"
)

// workQueue is a bounded queue, first in first out, served one item at a time by a
// goroutine that exists only while there is work. What does not fit is refused.
// It is bounded in items and, if their size can be told, in bytes. An empty queue
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

func newWorkQueue[T any](tasks *taskGroup, limit int, serve func(T)) *workQueue[T] {
	q := &workQueue[T]{tasks: tasks, limit: limit, serve: serve}
	tasks.addQueue(q.close)
	return q
}

// bounded sets a bound in bytes.
func (q *workQueue[T]) bounded(bytes int, size func(*T) int) *workQueue[T] {
	q.byteLimit, q.size = int64(bytes), size
	return q
}

// hasRoom reports whether one more item of that many bytes would fit now.
func (q *workQueue[T]) hasRoom(size int) bool {
	waits, bytes := int(q.waiting.Load()), q.bytes.Load()
	return waits < q.limit && (bytes == 0 || bytes+int64(size) <= q.byteLimit)
}

// halfEmpty reports whether at least half of the queue is free.
func (q *workQueue[T]) halfEmpty() bool {
	return int(q.waiting.Load()) < q.limit/2 && q.bytes.Load() <= q.byteLimit/2
}

// fitting tells how many of the items fit, in order, and how many bytes they hold.
func (q *workQueue[T]) fitting(items []T) (n int, bytes int64) {
	most := max(0, min(len(items), q.limit-int(q.waiting.Load())))
	if q.size == nil {
		return most, 0
	}
	before := q.bytes.Load()
	for ; n < most; n++ {
		size := int64(q.size(&items[n]))
		if before+bytes > 0 && before+bytes+size > q.byteLimit {
			break
		}
		bytes += size
	}
	return n, bytes
}

// put queues an item and reports whether there was room.
func (q *workQueue[T]) put(item T) bool { return q.putAll([]T{item}) == 1 }

// putAll queues the items in order, as many as there is room for, and returns how
// many that were. A closed queue has room for all, and drops them.
func (q *workQueue[T]) putAll(items []T) (taken int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed.Load() {
		return len(items)
	}
	taken, bytes := q.fitting(items)
	if taken == 0 {
		return 0
	}
	q.mu.queue = append(q.mu.queue, items[:taken]...)
	q.waiting.Add(int64(taken))
	q.bytes.Add(bytes)
	if !q.mu.busy {
		q.mu.busy = q.startWork()
	}
	return taken
}

func (q *workQueue[T]) startWork() bool {
	if q.protocol {
		return q.tasks.startLoop(q.work)
	}
	return q.tasks.start(q.work)
}

// close drops what is queued and refuses, silently, what comes later.
func (q *workQueue[T]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed.Store(true)
	q.mu.queue = nil
}

func (q *workQueue[T]) work() {
	for batch := q.next(); batch != nil; batch = q.next() {
		for i := range batch {
			if q.closed.Load() {
				break
			}
			bytes := 0
			if q.size != nil {
				bytes = q.size(&batch[i])
			}
			q.serve(batch[i])
			q.waiting.Add(-1)
			q.bytes.Add(-int64(bytes))
		}
		q.giveBack(batch)
	}
}

// next takes all that is queued, nil if there is nothing.
func (q *workQueue[T]) next() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.queue) == 0 || q.closed.Load() {
		q.mu.busy = false
		return nil
	}
	batch := q.mu.queue
	q.mu.queue, q.mu.spare = q.mu.spare, nil
	return batch
}

// keepBatch is for how many items a queue keeps room.
const keepBatch = 1024

func (q *workQueue[T]) giveBack(batch []T) {
	if cap(batch) > keepBatch {
		return
	}
	clear(batch)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.spare = batch[:0]
}
