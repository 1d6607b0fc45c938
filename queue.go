package memberlist

import (
	"math"
	"sync"
	"sync/atomic"
)

// TransmitLimitedQueue holds broadcasts and hands each one out for outgoing packets
// until it has been sent often enough for the size of the cluster. Broadcasts that
// were sent least often come first; among these the longest, so that packets are
// filled well; among these the newest.
//
// A broadcast that exceeds the limit of every one of several hundred calls of
// [TransmitLimitedQueue.GetBroadcasts] is given up: it is removed and finished
// without having been sent.
//
// The zero value is ready for use once NumNodes and RetransmitMult are set, which
// must not be changed afterwards. All methods are safe for concurrent use. They may
// be called from NumNodes and from the Finished, Message and Name methods of
// broadcasts, but not from Invalidates, which is called with the queue locked. A
// TransmitLimitedQueue must not be copied after first use.
type TransmitLimitedQueue struct {
	// NumNodes returns the number of nodes in the cluster. It is called each
	// time broadcasts are drawn from a queue that is not empty.
	NumNodes func() int

	// RetransmitMult scales the retransmit limit: each broadcast is sent
	// RetransmitMult × ⌈log₁₀(n + 1)⌉ times in a cluster of n nodes, and at least
	// once.
	RetransmitMult int

	// least is a lower bound of the retransmit limit: each broadcast is sent that many times,
	// or once to each node if they are fewer.
	least int

	sendsAlone bool // drawAlone is used as well, so that nothing is too long

	size    atomic.Int64 // len of the queue: written under mu, read by anybody
	longest atomic.Int64 // no message in the queue is longer; likewise

	mu struct {
		sync.Mutex
		queueState
	}
}

// QueueBroadcast adds a broadcast and removes those that it replaces. A
// [NamedBroadcast] replaces the queued one with the same name. A [UniqueBroadcast]
// replaces none. Any other replaces each queued broadcast that is neither named nor
// unique and for which b.Invalidates returns true.
func (q *TransmitLimitedQueue) QueueBroadcast(b Broadcast) {
	msg := b.Message()
	name, plain := replacementRule(b)
	switch {
	case name != "":
		q.queueNamed(name, msg, b)
	case plain:
		finishAll(q.queuePlain(b, msg))
	default:
		q.mu.Lock()
		q.mu.addUnique(msg, b)
		q.unlock()
	}
}

// replacementRule tells how a broadcast replaces others (P80): by its name, or, if
// plain, by asking it. A unique one has neither.
func replacementRule(b Broadcast) (name string, plain bool) {
	if named, ok := b.(NamedBroadcast); ok {
		name = named.Name()
		return name, name == ""
	}
	_, unique := b.(UniqueBroadcast)
	return "", !unique
}

// queueNamed queues a message that drops a queued one of the same name. An
// empty name is one like any other. It is for those who would need a
// [NamedBroadcast] for nothing else; owner hears when the message has left the
// queue.
func (q *TransmitLimitedQueue) queueNamed(name string, msg []byte, owner finisher) {
	q.mu.Lock()
	replaced := q.mu.addNamed(name, msg, owner)
	q.unlock()
	if replaced != nil {
		replaced.Finished()
	}
}

// queuePlain returns what the broadcast replaces. The lock is released even if
// Invalidates panics (P76).
func (q *TransmitLimitedQueue) queuePlain(b Broadcast, msg []byte) (replaced []finisher) {
	q.mu.Lock()
	defer q.unlock()
	replaced = q.mu.dropInvalidated(b)
	q.mu.addPlain(msg, b)
	return replaced
}

// GetBroadcasts returns messages for one packet, in queue order. Each message costs
// its length plus overhead bytes, and the sum does not exceed limit; messages that
// do not fit are skipped. The messages count as sent, and broadcasts that reach the
// retransmit limit are finished. The result is nil if there is nothing to send. The
// messages are not copies and must not be modified.
func (q *TransmitLimitedQueue) GetBroadcasts(overhead, limit int) [][]byte {
	msgs, _ := q.drawInto(nil, overhead, limit)
	return msgs
}

// drawInto is GetBroadcasts without allocating: it appends the messages to dst
// and returns how many bytes of the limit they and their overhead use.
func (q *TransmitLimitedQueue) drawInto(dst [][]byte, overhead, limit int) (out [][]byte, used int) {
	if q.size.Load() == 0 {
		return dst, 0
	}
	nodes := q.NumNodes()
	transmits := max(retransmitLimit(q.RetransmitMult, nodes), min(q.least, nodes))
	var scratch [32]finisher
	finished := scratch[:0]

	q.mu.Lock()
	taken := q.mu.take(overhead, limit)
	if !q.sendsAlone {
		finished = q.mu.dropHopeless(limit-overhead, finished)
	}
	if dst == nil && len(taken) > 0 {
		dst = make([][]byte, 0, len(taken))
	}
	for _, it := range taken {
		dst = append(dst, it.msg)
		used += len(it.msg) + overhead
	}
	finished = q.mu.putBack(taken, transmits, finished)
	q.unlock()

	finishAll(finished)
	return dst, used
}

// drawAlone draws one message that is longer than the given length: the first one in
// queue order. Such a message does not fit beside others and is to be sent alone. It
// counts as sent.
func (q *TransmitLimitedQueue) drawAlone(above int) []byte {
	if q.longest.Load() <= int64(above) {
		return nil
	}
	transmits := retransmitLimit(q.RetransmitMult, q.NumNodes())
	q.mu.Lock()
	taken := q.mu.takeLonger(above)
	if len(taken) == 0 {
		q.unlock()
		return nil
	}
	msg := taken[0].msg
	finished := q.mu.putBack(taken, transmits, nil)
	q.unlock()
	finishAll(finished)
	return msg
}

// NumQueued returns the number of broadcasts in the queue. It does not wait for
// anybody.
func (q *TransmitLimitedQueue) NumQueued() int {
	return int(q.size.Load())
}

// Prune drops broadcasts from the end of the queue order, those sent most often
// first, until at most maxRetain are left.
func (q *TransmitLimitedQueue) Prune(maxRetain int) {
	var finished []finisher
	q.mu.Lock()
	for q.mu.len > max(maxRetain, 0) { // P83
		finished = append(finished, q.mu.drop(q.mu.order.last()))
	}
	q.unlock()
	finishAll(finished)
}

// Reset drops all broadcasts.
func (q *TransmitLimitedQueue) Reset() {
	q.Prune(0)
}

// unlock publishes the size and releases the lock.
func (q *TransmitLimitedQueue) unlock() {
	if n := int64(q.mu.len); n != q.size.Load() {
		q.size.Store(n)
	}
	if n := int64(q.mu.longest); n != q.longest.Load() {
		q.longest.Store(n)
	}
	q.mu.Unlock()
}

// finisher is what the queue needs of a broadcast once it is queued.
type finisher interface{ Finished() }

// finishAll tells broadcasts that have left the queue (P82). The lock must not be held:
// what they do about it is their business.
func finishAll(broadcasts []finisher) {
	for _, b := range broadcasts {
		b.Finished()
	}
}

// leastSends is how often a broadcast about a member is sent at least in a cluster of at
// least that many nodes. With k sends by each node, one node in e^k misses a broadcast: with
// the two of the Local preset that is one in seven, with the eight of the LAN preset and 24
// nodes one move of six is missed by somebody in 2 % of all cases (3 of 160 measured, with
// twelve 0 of 160). A smaller cluster needs one send to each node, and one more, for pings
// carry some of them to nodes that gossip reaches too.
const leastSends = 12

// retransmitLimit returns how often a message is sent in a cluster of n nodes
// (P77): mult × ⌈log₁₀(n + 1)⌉. The logarithm is the number of digits of n.
func retransmitLimit(mult, n int) int {
	digits := 0
	for ; n > 0; n /= 10 {
		digits++
	}
	if digits > 0 && mult > math.MaxInt/digits {
		return math.MaxInt
	}
	return mult * digits
}

// queueState is what the lock of a TransmitLimitedQueue guards. An item is in
// order always, in byName if it has a name, and in plain if it is neither named
// nor unique.
type queueState struct {
	len     int
	deepest int // largest len since memory was released
	longest int // the longest message since the queue was empty

	widest int    // the most room that was ever offered to a message
	offers uint64 // how often it was, since something did not fit
	mark   uint64 // lastID, hopelessAfter offers ago or less
	lastID uint64
	order  queueOrder
	byName map[string]*queueItem
	plain  []*queueItem // in no order

	free  []*queueItem // for the next ones; given up when the queue has run empty
	taken []*queueItem // scratch of take
}

// addNamed queues a named message. One of the same name makes room for it: its
// owner is returned, and has to be told. The new one takes over its item, so
// that the index need not change.
func (s *queueState) addNamed(name string, msg []byte, owner finisher) (replaced finisher) {
	it, ok := s.byName[name]
	if ok {
		replaced = it.owner
		s.order.remove(it)
	} else {
		it = s.newItem()
		it.name, it.plain = name, isNamed
		if s.byName == nil {
			s.byName = make(map[string]*queueItem)
		}
		s.byName[name] = it
	}
	s.enter(it, msg, owner)
	return replaced
}

func (s *queueState) addUnique(msg []byte, owner finisher) {
	s.enter(s.newItem(), msg, owner)
}

func (s *queueState) addPlain(msg []byte, b Broadcast) {
	it := s.newItem()
	s.plain = append(s.plain, it)
	it.plain = int32(len(s.plain))
	s.enter(it, msg, b)
}

// Items are allocated many at once, as many again as there are up to a limit:
// less work for the garbage collector than that many alone (a tenth of the time of
// eight writers and a reader).
const (
	minItemsAtOnce = 8
	maxItemsAtOnce = 512
)

func (s *queueState) newItem() *queueItem {
	if len(s.free) == 0 {
		items := make([]queueItem, min(max(s.len, minItemsAtOnce), maxItemsAtOnce))
		for i := range items {
			s.free = append(s.free, &items[i])
		}
	}
	s.len++
	s.deepest = max(s.deepest, s.len)
	last := len(s.free) - 1
	it := s.free[last]
	s.free = s.free[:last]
	return it
}

// enter puts an item into the order as the newest one.
func (s *queueState) enter(it *queueItem, msg []byte, owner finisher) {
	s.lastID++
	s.longest = max(s.longest, len(msg))
	it.owner, it.msg, it.id, it.sent = owner, msg, s.lastID, 0
	s.order.push(s.order.bucketFor(0, len(msg)), it)
}

// take removes from the order what goes into the next packet. putBack must
// follow.
func (s *queueState) take(overhead, limit int) []*queueItem {
	s.taken = s.order.take(s.taken[:0], overhead, limit)
	return s.taken
}

// takeLonger removes from the order one item whose message is longer than that, if
// there is one. putBack must follow.
func (s *queueState) takeLonger(above int) []*queueItem {
	s.taken = s.order.takeLonger(s.taken[:0], above)
	return s.taken
}

// hopelessAfter is how often a message has to be too long for the most room that was
// ever offered before it is given up.
const hopelessAfter = 256

// dropHopeless gives up messages that are never going to be sent: those that were in
// the queue hopelessAfter times when the most room that there ever was has been
// offered again, and were too long for it. Their owners are appended to finished.
func (s *queueState) dropHopeless(room int, finished []finisher) []finisher {
	if room > s.widest {
		s.widest, s.offers, s.mark = room, 0, 0
	}
	if room < s.widest || s.longest <= room {
		return finished
	}
	s.offers++
	if s.offers%hopelessAfter != 0 {
		return finished
	}
	for _, it := range s.order.longer(s.widest) {
		if it.id <= s.mark {
			finished = append(finished, s.drop(it))
		}
	}
	s.mark = s.lastID
	return finished
}

// putBack returns taken items to the order with one more transmission, but
// those that have reached the limit: they are dropped and their owners appended
// to finished.
func (s *queueState) putBack(taken []*queueItem, transmits int, finished []finisher) []finisher {
	var to *queueBucket // mostly the same for several in a row
	for _, it := range taken {
		it.sent++
		if int(it.sent) >= transmits {
			finished = append(finished, s.forget(it))
			continue
		}
		if to == nil || !to.holds(it) {
			to = s.order.bucketFor(int(it.sent), len(it.msg))
		}
		s.order.insert(to, it)
	}
	clear(taken) // keeps nothing alive
	return finished
}

// dropInvalidated drops the plain broadcasts that b makes obsolete, and returns
// them. All are asked before the first one is dropped: should b panic, nothing
// has happened.
func (s *queueState) dropInvalidated(b Broadcast) (dropped []finisher) {
	var obsolete []*queueItem
	for _, it := range s.plain {
		if b.Invalidates(it.owner.(Broadcast)) {
			obsolete = append(obsolete, it)
		}
	}
	for _, it := range obsolete {
		dropped = append(dropped, s.drop(it))
	}
	return dropped
}

// drop removes a queued item.
func (s *queueState) drop(it *queueItem) finisher {
	s.order.remove(it)
	return s.forget(it)
}

// forget gives up an item that is not in the order any more, and returns its
// owner, who has to be told.
func (s *queueState) forget(it *queueItem) finisher {
	if it.plain == isNamed {
		delete(s.byName, it.name)
	}
	if it.plain > 0 {
		s.forgetPlain(it)
	}
	owner := it.owner
	*it = queueItem{}
	s.free = append(s.free, it)
	s.len--
	if s.len == 0 {
		s.longest = 0
		s.releaseMemory()
	}
	return owner
}

// forgetPlain takes an item out of the list of plain ones; the last one moves
// into the gap.
func (s *queueState) forgetPlain(it *queueItem) {
	last := len(s.plain) - 1
	moved := s.plain[last]
	s.plain[it.plain-1] = moved
	moved.plain = it.plain
	s.plain[last] = nil
	s.plain = s.plain[:last]
}

// deepQueue is where a queue is so long that its memory is not kept for the
// next time.
const deepQueue = 1024

// releaseMemory is called when the queue has run empty: what a long queue
// needed would otherwise stay, since maps and slices never shrink.
func (s *queueState) releaseMemory() {
	if s.deepest <= deepQueue {
		return
	}
	*s = queueState{lastID: s.lastID}
}
