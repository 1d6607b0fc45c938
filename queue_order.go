package memberlist

import (
	"cmp"
	"slices"
)

// The order of the broadcast queue (P78): fewest transmissions first, among
// equals the longest message first, among equals the newest first.
//
//	queueOrder        levels by number of transmissions, ascending
//	  queueLevel      buckets by length of message, ascending
//	    queueBucket   broadcasts of one length, oldest to newest, cut into
//	      queueBlock  arrays of a fixed size
//
// Empty levels, buckets and blocks are removed at once, so a walk meets only
// what is queued. Few lengths are in use at a time, and few transmission
// counts, so "the longest that still fits" is a binary search in a short
// slice, after which the broadcast is at a known end of its bucket.
//
// A broadcast enters level 0 as the newest of its bucket. When it has been
// sent it goes one level up, where its age may place it anywhere: mostly at
// either end, which is quick, but it can be in the middle, and this is what the
// blocks are for. They bound the price of any insertion and removal, however
// deep the queue is, and hold pointers side by side, so that taking a packet's
// worth of broadcasts waits for memory once and not once per broadcast.
//
// Nothing in this file locks, or calls a broadcast.

// queueItem is a queued broadcast. A removed one is used again.
type queueItem struct {
	msg   []byte
	id    uint64 // age: grows with each broadcast queued
	block *queueBlock
	sent  int32    // transmissions so far
	plain int32    // 1 + place in the list of plain broadcasts; 0 if unique, or isNamed
	owner finisher // a Broadcast, if plain
	name  string   // key in the name index, if named
}

const isNamed = -1

// blockItems makes a block 512 bytes. Blocks are never merged, so that is what
// a queued broadcast costs at worst; usually it is a sixtieth of it.
const blockItems = 62

// queueBlock is a piece of a bucket. It has room at either end, since it grows
// mostly upwards in level 0 and mostly downwards in the others.
type queueBlock struct {
	bucket *queueBucket
	lo, hi int32
	items  [blockItems]*queueItem // items[lo:hi], oldest first
}

func (b *queueBlock) len() int           { return int(b.hi - b.lo) }
func (b *queueBlock) used() []*queueItem { return b.items[b.lo:b.hi] }
func (b *queueBlock) oldest() *queueItem { return b.items[b.lo] }
func (b *queueBlock) newest() *queueItem { return b.items[b.hi-1] }

// insert puts an item behind the i oldest ones. There must be room.
func (b *queueBlock) insert(i int, it *queueItem) {
	at := int(b.lo) + i
	if b.hi == blockItems || b.lo > 0 && i == 0 {
		b.lo--
		at--
		copy(b.items[b.lo:at], b.items[b.lo+1:])
	} else {
		copy(b.items[at+1:b.hi+1], b.items[at:])
		b.hi++
	}
	b.items[at] = it
	it.block = b
}

func (b *queueBlock) remove(it *queueItem) {
	i := int(b.lo) + slices.Index(b.used(), it)
	copy(b.items[i:], b.items[i+1:b.hi])
	b.hi--
	b.items[b.hi] = nil
	it.block = nil
}

// position returns how many of the block's items are older than id.
func (b *queueBlock) position(id uint64) int {
	switch {
	case id > b.newest().id:
		return b.len()
	case id < b.oldest().id:
		return 0
	}
	i, _ := slices.BinarySearchFunc(b.used(), id, func(it *queueItem, id uint64) int {
		return cmp.Compare(it.id, id)
	})
	return i
}

// queueBucket holds the broadcasts of one level whose messages are equally long.
type queueBucket struct {
	sent   int
	length int
	blocks []*queueBlock // oldest first
}

func (b *queueBucket) oldest() *queueItem { return b.blocks[0].oldest() }

// holds tells whether an item belongs here.
func (b *queueBucket) holds(it *queueItem) bool {
	return b.sent == int(it.sent) && b.length == len(it.msg)
}

// blockFor returns the index of the block into whose range id falls: the last
// one that begins with something older, or else the first.
func (b *queueBucket) blockFor(id uint64) int {
	last := len(b.blocks) - 1
	switch {
	case last <= 0 || b.blocks[last].oldest().id <= id:
		return last
	case id <= b.blocks[0].newest().id:
		return 0
	}
	i, found := slices.BinarySearchFunc(b.blocks, id, func(bl *queueBlock, id uint64) int {
		return cmp.Compare(bl.oldest().id, id)
	})
	if found {
		return i
	}
	return max(i-1, 0)
}

// queueLevel holds the broadcasts that have been sent equally often.
type queueLevel struct {
	sent    int
	buckets []*queueBucket // shortest first
}

// fitting returns how many buckets hold messages of at most the given length.
// These come first.
func (l *queueLevel) fitting(length int) int {
	lo, hi := 0, len(l.buckets)
	for lo < hi {
		mid := (lo + hi) / 2
		if l.buckets[mid].length <= length {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

type queueOrder struct {
	levels []*queueLevel // fewest transmissions first

	spareBlocks  spares[queueBlock]
	spareBuckets spares[queueBucket]
	spareLevels  spares[queueLevel]
}

// insert puts an item where its age says. The bucket is the one that bucketFor
// returned for it, and nothing was removed since: it may be empty till now.
func (o *queueOrder) insert(b *queueBucket, it *queueItem) {
	if len(b.blocks) == 0 {
		o.push(b, it)
		return
	}
	i := b.blockFor(it.id)
	bl := b.blocks[i]
	at := bl.position(it.id)
	switch {
	case bl.len() < blockItems:
		bl.insert(at, it)
	case at == 0:
		o.addBlock(b, i, true).insert(0, it)
	case at == blockItems && i+1 < len(b.blocks) && b.blocks[i+1].len() < blockItems:
		b.blocks[i+1].insert(0, it)
	case at == blockItems:
		o.addBlock(b, i+1, false).insert(0, it)
	default:
		o.split(b, i, at)
		bl.insert(at, it)
	}
}

// push is insert for an item that is newer than all in the bucket.
func (o *queueOrder) push(b *queueBucket, it *queueItem) {
	n := len(b.blocks)
	if n == 0 || b.blocks[n-1].len() == blockItems {
		o.addBlock(b, n, n == 0 && b.sent > 0)
		n++
	}
	bl := b.blocks[n-1]
	bl.insert(bl.len(), it)
}

// split moves the items of a full block from the given position on to a new
// block behind it.
func (o *queueOrder) split(b *queueBucket, i, at int) {
	older, newer := b.blocks[i], o.addBlock(b, i+1, false)
	for _, it := range older.items[at:] {
		newer.insert(newer.len(), it)
	}
	clear(older.items[at:])
	older.hi = int32(at)
}

// addBlock adds an empty block. One that fills downwards begins at its end.
func (o *queueOrder) addBlock(b *queueBucket, i int, downwards bool) *queueBlock {
	bl := o.spareBlocks.get()
	bl.bucket = b
	bl.lo = 0
	if downwards {
		bl.lo = blockItems
	}
	bl.hi = bl.lo
	b.blocks = slices.Insert(b.blocks, i, bl)
	return bl
}

// remove takes out an item, and whatever held nothing but it.
func (o *queueOrder) remove(it *queueItem) {
	bl := it.block
	if bl.len() > 1 {
		bl.remove(it)
		return
	}
	i := bl.bucket.blockFor(it.id)
	bl.remove(it)
	o.removeBlock(bl.bucket, i)
}

// removeNewest takes out the newest item of a bucket. It does not look into the
// item: one that was queued long ago is not in the processor's cache, and the
// caller, who collects several, need not wait for each in turn.
func (o *queueOrder) removeNewest(b *queueBucket) *queueItem {
	last := len(b.blocks) - 1
	bl := b.blocks[last]
	it := bl.newest()
	bl.hi--
	bl.items[bl.hi] = nil
	if bl.len() == 0 {
		o.removeBlock(b, last)
	}
	return it
}

func (o *queueOrder) removeBlock(b *queueBucket, i int) {
	o.spareBlocks.put(b.blocks[i])
	b.blocks = slices.Delete(b.blocks, i, i+1)
	if len(b.blocks) == 0 {
		o.removeBucket(b)
	}
}

func (o *queueOrder) removeBucket(b *queueBucket) {
	i := o.levelFrom(b.sent)
	l := o.levels[i]
	j := l.fitting(b.length) - 1
	l.buckets = slices.Delete(l.buckets, j, j+1)
	if cap(b.blocks) > maxSpares {
		b.blocks = nil
	}
	o.spareBuckets.put(b)
	if len(l.buckets) == 0 {
		if cap(l.buckets) > maxSpares {
			l.buckets = nil
		}
		o.levels = slices.Delete(o.levels, i, i+1)
		o.spareLevels.put(l)
	}
}

// levelFrom returns the index of the first level with at least that many
// transmissions. There are few, and mostly it is the first.
func (o *queueOrder) levelFrom(sent int) int {
	for i, l := range o.levels {
		if l.sent >= sent {
			return i
		}
	}
	return len(o.levels)
}

// bucketFor finds or makes the bucket for that many transmissions and that
// length.
func (o *queueOrder) bucketFor(sent, length int) *queueBucket {
	i := o.levelFrom(sent)
	if i == len(o.levels) || o.levels[i].sent != sent {
		l := o.spareLevels.get()
		l.sent = sent
		o.levels = slices.Insert(o.levels, i, l)
	}
	l := o.levels[i]
	j := l.fitting(length)
	if j > 0 && l.buckets[j-1].length == length {
		return l.buckets[j-1]
	}
	b := o.spareBuckets.get()
	b.sent, b.length = sent, length
	l.buckets = slices.Insert(l.buckets, j, b)
	return b
}

// take removes the broadcasts that the next packet carries and appends them to
// dst in the order in which they were chosen (P79). free is the room for
// messages, to which each adds its length and overhead.
func (o *queueOrder) take(dst []*queueItem, overhead, free int) []*queueItem {
	for i := 0; i < len(o.levels) && free > overhead; {
		l := o.levels[i]
		dst, free = o.takeFrom(l, dst, overhead, free)
		if i < len(o.levels) && o.levels[i] == l {
			i++ // else it ran empty, and the next one is at i now
		}
	}
	return dst
}

func (o *queueOrder) takeFrom(l *queueLevel, dst []*queueItem, overhead, free int) ([]*queueItem, int) {
	for free > overhead {
		n := l.fitting(free - overhead)
		if n == 0 {
			break
		}
		b := l.buckets[n-1]
		for len(b.blocks) > 0 && free > overhead && b.length <= free-overhead {
			dst = append(dst, o.removeNewest(b))
			free -= b.length + overhead
		}
	}
	return dst, free
}

// takeLonger removes the first item in the order whose message is longer than that,
// if there is one, and appends it to dst.
func (o *queueOrder) takeLonger(dst []*queueItem, above int) []*queueItem {
	for _, l := range o.levels {
		if b := l.buckets[len(l.buckets)-1]; b.length > above {
			return append(dst, o.removeNewest(b))
		}
	}
	return dst
}

// longer returns all items whose messages are longer than that.
func (o *queueOrder) longer(than int) []*queueItem {
	var found []*queueItem
	for _, l := range o.levels {
		for _, b := range l.buckets[l.fitting(than):] {
			for _, bl := range b.blocks {
				found = append(found, bl.used()...)
			}
		}
	}
	return found
}

// last returns the item at the end of the order, or nil.
func (o *queueOrder) last() *queueItem {
	if len(o.levels) == 0 {
		return nil
	}
	return o.levels[len(o.levels)-1].buckets[0].oldest()
}

// spares keeps a few removed objects for the next time one is needed: in a
// queue at work they come and go all the time. What is put must be emptied
// but for memory worth keeping.
type spares[T any] struct{ free []*T }

// maxSpares is how many spare levels, buckets and blocks are kept of each.
const maxSpares = 64

func (s *spares[T]) get() *T {
	n := len(s.free)
	if n == 0 {
		return new(T)
	}
	v := s.free[n-1]
	s.free[n-1] = nil
	s.free = s.free[:n-1]
	return v
}

// put keeps v unless there are enough already.
func (s *spares[T]) put(v *T) {
	if len(s.free) < maxSpares {
		s.free = append(s.free, v)
	}
}
