package memberlist

import (
	"context"
	"sync"
	"sync/atomic"
)

// userMessages are the user messages of one packet, in its order. When the program
// has got them, the list is used again; the messages are the program's (P89).
type userMessages [][]byte

// userBatch is the user messages of one packet, to be delivered after the events up
// to a number: what a program hears of members it has heard before it gets a message
// that came with or after the news of them, as in the reference.
type userBatch struct {
	msgs  *userMessages
	after uint64
	size  int // bytes that the messages hold
}

// maxKept is how many bytes of user messages are kept until the end of a burst.
const maxKept = 1 << 20

// userDelivery hands user messages over to the Delegate, on a goroutine of its own.
type userDelivery struct {
	services
	config *Config
	events *notifier
	queue  *workQueue[userBatch]
	lists  sync.Pool     // *userMessages
	hung   atomic.Uint64 // events up to this number were waited for in vain
}

func newUserDelivery(s services, cfg *Config, events *notifier) *userDelivery {
	d := &userDelivery{services: s, config: cfg, events: events}
	d.lists.New = func() any { return new(userMessages) }
	d.queue = newWorkQueue(s.tasks, cfg.HandoffQueueDepth, d.deliver).
		bounded(cfg.queueBytes(), func(b *userBatch) int { return b.size })
	return d
}

// userBurst gathers the user messages of packets that came together, so that the
// goroutine that delivers them is woken once.
type userBurst struct {
	delivery *userDelivery
	batches  []userBatch
	senders  []sender // of batches
	kept     int      // bytes that batches hold
}

// hasRoom reports whether messages of that many bytes could be queued now.
func (b *userBurst) hasRoom(size int) bool { return b.delivery.queue.hasRoom(size) }

// list makes a list of messages that outlives their packet. lent says that they lie in
// memory that is only lent.
func (b *userBurst) list(msgs [][]byte, lent bool) *userMessages {
	u := b.delivery.lists.Get().(*userMessages)
	*u = append(*u, msgs...)
	if lent {
		u.copyTogether()
	}
	return u
}

// add adds the messages of a packet.
func (b *userBurst) add(batch userBatch, from sender) {
	b.batches = append(b.batches, batch)
	b.senders = append(b.senders, from)
	if b.kept += batch.size; b.kept > maxKept {
		b.handOver()
	}
}

// handOver queues what was gathered.
func (b *userBurst) handOver() {
	if len(b.batches) == 0 {
		return
	}
	taken := b.delivery.queue.putAll(b.batches)
	for i, batch := range b.batches[taken:] {
		b.delivery.drops.queueFull(userMsg, len(*batch.msgs), b.senders[taken+i])
	}
	clear(b.batches)
	clear(b.senders)
	b.batches, b.senders, b.kept = b.batches[:0], b.senders[:0], 0
}

// memoryOf is how many bytes messages and their list hold: copies of them, if they
// lie in memory that is only lent, else the whole packet.
func memoryOf(msgs [][]byte, lent bool, packetLen int) int {
	const listEntry = 24
	size := listEntry * len(msgs)
	if !lent {
		return size + packetLen
	}
	for _, msg := range msgs {
		size += len(msg)
	}
	return size
}

// copyTogether moves the messages out of memory that will be used again, into one
// piece of their own.
func (u userMessages) copyTogether() {
	size := 0
	for _, msg := range u {
		size += len(msg)
	}
	room := make([]byte, 0, size)
	for i, msg := range u {
		start := len(room)
		room = append(room, msg...)
		u[i] = room[start:len(room):len(room)]
	}
}

// keepMessages is for how many user messages a list is used again.
const keepMessages = 1024

// deliver tells the delegate of user messages that came in one packet,
// the last one first: broadcasts are drawn newest first (P78), so that this is the
// order in which the sender queued them (P88).
func (d *userDelivery) deliver(b userBatch) {
	d.awaitEventsBefore(d.life.ctx, b.after)
	msgs := *b.msgs
	for i := len(msgs) - 1; i >= 0 && !d.life.down.Load(); i-- {
		d.config.Delegate.NotifyMsg(msgs[i])
	}
	if cap(msgs) > keepMessages {
		return
	}
	clear(msgs)
	*b.msgs = msgs[:0]
	d.lists.Put(b.msgs)
}

// awaitEventsBefore waits for the delivery of events before user data that belongs behind
// them is handed over. A program whose events hang gets it all the same.
func (d *userDelivery) awaitEventsBefore(ctx context.Context, eventSeq uint64) {
	if eventSeq <= d.hung.Load() || d.events.reached(eventSeq) {
		return
	}
	timeout, cancel := context.WithTimeout(ctx, d.config.TCPTimeout)
	defer cancel()
	if d.events.wait(timeout, eventSeq) != nil && ctx.Err() == nil {
		d.hung.Store(eventSeq)
	}
}
