package memberlist

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// plainBroadcast is neither named nor unique. It invalidates those of its topic.
type plainBroadcast struct {
	msg      []byte
	topic    string
	finished func()
}

func (b *plainBroadcast) Message() []byte { return b.msg }
func (b *plainBroadcast) Finished() {
	if b.finished != nil {
		b.finished()
	}
}

func (b *plainBroadcast) Invalidates(other Broadcast) bool {
	o, ok := other.(*plainBroadcast)
	return ok && b.topic != "" && b.topic == o.topic
}

type namedBroadcast struct {
	plainBroadcast
	name string
}

func (b *namedBroadcast) Name() string               { return b.name }
func (b *namedBroadcast) Invalidates(Broadcast) bool { return true } // must not be asked

type uniqueBroadcast struct{ plainBroadcast }

func (b *uniqueBroadcast) UniqueBroadcast()           {}
func (b *uniqueBroadcast) Invalidates(Broadcast) bool { return true } // must not be asked

type namedUniqueBroadcast struct{ namedBroadcast }

func (b *namedUniqueBroadcast) UniqueBroadcast() {}

func newTestQueue(nodes, mult int) *TransmitLimitedQueue {
	return &TransmitLimitedQueue{NumNodes: func() int { return nodes }, RetransmitMult: mult}
}

func newPlain(s string) *plainBroadcast { return &plainBroadcast{msg: []byte(s)} }

// drawText is GetBroadcasts as text.
func drawText(q *TransmitLimitedQueue, overhead, limit int) []string {
	var texts []string
	for _, m := range q.GetBroadcasts(overhead, limit) {
		texts = append(texts, string(m))
	}
	return texts
}

// TestZeroValueIsUsable checks P76.
func TestZeroValueIsUsable(t *testing.T) {
	var q TransmitLimitedQueue
	require.Zero(t, q.NumQueued())
	require.Nil(t, q.GetBroadcasts(2, 1400), "NumNodes is not needed as long as the queue is empty")
	q.Reset()
	q.NumNodes = func() int { return 1 }
	q.RetransmitMult = 1
	q.QueueBroadcast(newPlain("x"))
	require.Equal(t, []string{"x"}, drawText(&q, 2, 1400))
	require.Zero(t, q.NumQueued())
}

// TestPruneOfAFreshQueueDoesNothing checks P83.
func TestPruneOfAFreshQueueDoesNothing(t *testing.T) {
	var q TransmitLimitedQueue
	q.Prune(0)
	q.Prune(5)
	q.Prune(-1)
	require.Zero(t, q.NumQueued())
}

// TestRetransmitLimit checks P77, P153.
func TestRetransmitLimit(t *testing.T) {
	for _, c := range []struct{ n, want int }{
		{-1, 0}, {0, 0}, {1, 4}, {9, 4}, {10, 8}, {99, 8}, {100, 12}, {999, 12}, {1000, 16}, {9999, 16}, {10000, 20},
	} {
		require.Equal(t, c.want, retransmitLimit(4, c.n), "n = %d", c.n)
	}
	for n := range 100_001 {
		if want := 3 * int(math.Ceil(math.Log10(float64(n)+1))); retransmitLimit(3, n) != want {
			t.Fatalf("n = %d: %d, want %d", n, retransmitLimit(3, n), want)
		}
	}
}

// TestBroadcastIsSentUpToItsLimit checks P77.
func TestBroadcastIsSentUpToItsLimit(t *testing.T) {
	for _, c := range []struct{ nodes, mult, want int }{{0, 4, 1}, {1, 1, 1}, {9, 4, 4}, {10, 4, 8}, {5, 0, 1}, {5, -3, 1}} {
		q := newTestQueue(c.nodes, c.mult)
		finished := 0
		q.QueueBroadcast(&plainBroadcast{msg: []byte("m"), finished: func() { finished++ }})
		for i := range c.want {
			require.Zero(t, finished)
			require.Equal(t, []string{"m"}, drawText(q, 0, 10), "draw %d of %+v", i, c)
		}
		require.Equal(t, 1, finished)
		require.Nil(t, q.GetBroadcasts(0, 10))
		require.Zero(t, q.NumQueued())
	}
}

// TestLimitIsTakenWhenDrawing checks P77.
func TestLimitIsTakenWhenDrawing(t *testing.T) {
	nodes := 1000
	q := &TransmitLimitedQueue{NumNodes: func() int { return nodes }, RetransmitMult: 2}
	q.QueueBroadcast(newPlain("m"))
	for range 3 {
		require.Len(t, q.GetBroadcasts(0, 10), 1)
	}
	nodes = 5 // the cluster shrank: the limit is 2 now, and this is the fourth time
	require.Len(t, q.GetBroadcasts(0, 10), 1)
	require.Zero(t, q.NumQueued())
}

// TestOrderOfTheQueue checks P78.
func TestOrderOfTheQueue(t *testing.T) {
	q := newTestQueue(10, 4)
	for _, s := range []string{"old", "older!", "new", "longest.."} {
		q.QueueBroadcast(newPlain(s))
	}
	require.Equal(t, []string{"longest..", "older!", "new", "old"}, drawText(q, 0, 100))
	q.QueueBroadcast(newPlain("late"))
	q.QueueBroadcast(newPlain("own"))
	require.Equal(t, []string{"late", "own", "longest..", "older!", "new", "old"}, drawText(q, 0, 100),
		"fewest transmissions first")
	require.Equal(t, []string{"late", "own", "longest..", "older!", "new", "old"}, drawText(q, 0, 100))
	require.Equal(t, []string{"late"}, drawText(q, 0, 6), "nothing else fits beside it")
	require.Equal(t, []string{"own", "new"}, drawText(q, 0, 6), "new had three transmissions, late as many but is longer than what is left")
}

// TestFillsWhatIsLeftWithShorterOnes checks P79.
func TestFillsWhatIsLeftWithShorterOnes(t *testing.T) {
	q := newTestQueue(10, 4)
	for _, n := range []int{50, 40, 30, 5} {
		q.QueueBroadcast(newPlain(strings.Repeat("x", n)))
	}
	msgs, used := q.drawInto(nil, 2, 100)
	require.Equal(t, []int{50, 40}, messageLengths(msgs))
	require.Equal(t, 94, used)
	msgs, used = q.drawInto(nil, 2, 99)
	require.Equal(t, []int{30, 5, 50}, messageLengths(msgs), "the untransmitted first, then the longest of the others that fits")
	require.Equal(t, 91, used)
}

// TestEachMessageOncePerCall checks P79.
func TestEachMessageOncePerCall(t *testing.T) {
	q := newTestQueue(10, 4)
	q.QueueBroadcast(newPlain("m"))
	require.Equal(t, []string{"m"}, drawText(q, 2, 1400))
}

// TestLimitsOfTheSpace checks P79.
func TestLimitsOfTheSpace(t *testing.T) {
	for _, c := range []struct {
		overhead, limit int
		fits            bool
	}{{0, 3, false}, {0, 4, true}, {2, 5, false}, {2, 6, true}, {0, 0, false}, {0, -1, false}, {10, 5, false}, {-2, 2, true}} {
		q := newTestQueue(10, 4)
		q.QueueBroadcast(newPlain("four"))
		got := q.GetBroadcasts(c.overhead, c.limit)
		if c.fits {
			require.Len(t, got, 1, "%+v", c)
		} else {
			require.Nil(t, got, "%+v", c)
		}
		require.Equal(t, 1, q.NumQueued())
	}
}

// TestEmptyMessageNeedsSomeSpace checks P79.
func TestEmptyMessageNeedsSomeSpace(t *testing.T) {
	q := newTestQueue(10, 4)
	q.QueueBroadcast(newPlain(""))
	require.Nil(t, q.GetBroadcasts(2, 2), "stop when nothing is left")
	require.Len(t, q.GetBroadcasts(2, 3), 1)
}

// TestNamedReplacesSameNameWithoutAsking checks P80.
func TestNamedReplacesSameNameWithoutAsking(t *testing.T) {
	q := newTestQueue(10, 4)
	var gone []string
	named := func(name, msg string) *namedBroadcast {
		return &namedBroadcast{plainBroadcast{msg: []byte(msg), finished: func() { gone = append(gone, msg) }}, name}
	}
	q.QueueBroadcast(named("a", "a1"))
	q.QueueBroadcast(named("b", "b1"))
	q.QueueBroadcast(newPlain("plain"))
	q.QueueBroadcast(&uniqueBroadcast{})
	require.Empty(t, gone)
	q.QueueBroadcast(named("a", "a2"))
	require.Equal(t, []string{"a1"}, gone)
	require.Equal(t, 4, q.NumQueued())
}

// TestUniqueReplacesNothing checks P80.
func TestUniqueReplacesNothing(t *testing.T) {
	q := newTestQueue(10, 4)
	for range 3 {
		q.QueueBroadcast(&uniqueBroadcast{})
		q.QueueBroadcast(&plainBroadcast{topic: "t"})
	}
	require.Equal(t, 4, q.NumQueued(), "three unique ones and the last of the plain ones")
}

// TestEmptyNameCountsAsPlain checks P80.
func TestEmptyNameCountsAsPlain(t *testing.T) {
	q := newTestQueue(10, 4)
	q.QueueBroadcast(&plainBroadcast{})
	q.QueueBroadcast(&uniqueBroadcast{})
	q.QueueBroadcast(&namedBroadcast{name: "x"})
	q.QueueBroadcast(&namedBroadcast{}) // invalidates all that is plain
	require.Equal(t, 3, q.NumQueued())
	q.QueueBroadcast(&namedBroadcast{}) // and the one before, itself plain
	require.Equal(t, 3, q.NumQueued())
}

// TestNamedAndUniqueCountsAsNamed checks P80.
func TestNamedAndUniqueCountsAsNamed(t *testing.T) {
	q := newTestQueue(10, 4)
	q.QueueBroadcast(&namedUniqueBroadcast{namedBroadcast{name: "x"}})
	q.QueueBroadcast(&namedUniqueBroadcast{namedBroadcast{name: "x"}})
	require.Equal(t, 1, q.NumQueued())
}

// TestPruneAndResetFinishEachOnce checks P82.
func TestPruneAndResetFinishEachOnce(t *testing.T) {
	q := newTestQueue(10, 4)
	finished := make([]int, 20)
	for i := range finished {
		q.QueueBroadcast(&plainBroadcast{msg: make([]byte, i%7), finished: func() { finished[i]++ }})
	}
	q.Prune(12)
	require.Equal(t, 12, q.NumQueued())
	require.Equal(t, 8, total(finished))
	q.Reset()
	require.Zero(t, q.NumQueued())
	for i, n := range finished {
		require.Equal(t, 1, n, "broadcast %d", i)
	}
	require.Nil(t, q.GetBroadcasts(0, 100))
}

// TestPruneDropsFromTheEnd checks P83.
func TestPruneDropsFromTheEnd(t *testing.T) {
	q := newTestQueue(10, 4)
	for _, s := range []string{"old", "new", "longer"} {
		q.QueueBroadcast(newPlain(s))
	}
	drawText(q, 0, 6) // longer
	q.QueueBroadcast(newPlain("x"))
	q.Prune(3)
	q.Prune(2) // longer, then x, then old
	require.Equal(t, []string{"new", "old"}, drawText(q, 0, 100))
	q.Prune(1)
	require.Equal(t, []string{"new"}, drawText(q, 0, 100))
}

// TestCallbacksMayUseTheQueue checks P76.
func TestCallbacksMayUseTheQueue(t *testing.T) {
	q := &TransmitLimitedQueue{RetransmitMult: 1}
	q.NumNodes = func() int { return 1 + q.NumQueued()*0 }
	chain := 0
	var again func()
	again = func() {
		if chain++; chain < 5 {
			q.QueueBroadcast(&plainBroadcast{msg: []byte("m"), finished: again})
			q.Prune(10)
			q.GetBroadcasts(0, 10)
		}
	}
	q.QueueBroadcast(&plainBroadcast{msg: []byte("m"), finished: again})
	q.Reset()
	require.Equal(t, 5, chain)
}

// panickyBroadcast cannot be asked.
type panickyBroadcast struct{ plainBroadcast }

func (*panickyBroadcast) Invalidates(Broadcast) bool { panic("asked") }

func TestPanicInInvalidatesLeavesTheQueueUsable(t *testing.T) {
	q := newTestQueue(10, 4)
	q.QueueBroadcast(newPlain("m"))
	require.PanicsWithValue(t, "asked", func() { q.QueueBroadcast(&panickyBroadcast{}) })
	require.Equal(t, []string{"m"}, drawText(q, 0, 10))
}

// A drained queue must not hold on to what it needed when it was deep.
func TestQueueReleasesMemoryWhenEmpty(t *testing.T) {
	q := newTestQueue(1, 1)
	for i := range 3 * deepQueue {
		q.QueueBroadcast(&namedBroadcast{plainBroadcast{msg: []byte("m")}, fmt.Sprint(i)})
	}
	q.GetBroadcasts(0, math.MaxInt)
	require.Zero(t, q.NumQueued())
	require.Equal(t, queueState{lastID: 3 * deepQueue}, q.mu.queueState)
}

func TestQueueDrawAllocatesNothing(t *testing.T) {
	q := newTestQueue(10_000, 100)
	for i := range 5000 {
		q.QueueBroadcast(&namedBroadcast{plainBroadcast{msg: make([]byte, 20+i%9)}, fmt.Sprint(i)})
	}
	dst := make([][]byte, 0, 100)
	step := func() { dst, _ = q.drawInto(dst[:0], 2, 1400) }
	step()
	require.Zero(t, testing.AllocsPerRun(100, step))
	require.Equal(t, 1.0, testing.AllocsPerRun(100, func() { q.GetBroadcasts(2, 1400) }), "only the result")
}

// modelQueue is the queue as P77 to P83 say it, and nothing more.
type modelQueue struct {
	limit  func() int
	nextID int
	items  []*modelItem
}

type modelItem struct {
	id, sent int
	b        Broadcast
	msg      []byte
	name     string
	named    bool
	plain    bool
}

func (m *modelQueue) sort() {
	slices.SortFunc(m.items, func(a, b *modelItem) int {
		if a.sent != b.sent {
			return a.sent - b.sent
		}
		if len(a.msg) != len(b.msg) {
			return len(b.msg) - len(a.msg)
		}
		return b.id - a.id
	})
}

// drop removes those that match and returns them.
func (m *modelQueue) drop(match func(*modelItem) bool) (dropped []Broadcast) {
	var kept []*modelItem
	for _, it := range m.items {
		if match(it) {
			dropped = append(dropped, it.b)
		} else {
			kept = append(kept, it)
		}
	}
	m.items = kept
	return dropped
}

func (m *modelQueue) queue(b Broadcast) (dropped []Broadcast) {
	it := &modelItem{b: b, msg: b.Message()}
	if n, ok := b.(NamedBroadcast); ok {
		if n.Name() != "" {
			return m.queueNamed(n.Name(), b)
		}
		it.plain = true
	} else if _, ok := b.(UniqueBroadcast); !ok {
		it.plain = true
	}
	if it.plain {
		dropped = m.drop(func(o *modelItem) bool { return o.plain && b.Invalidates(o.b) })
	}
	m.add(it)
	return dropped
}

func (m *modelQueue) queueNamed(name string, b Broadcast) (dropped []Broadcast) {
	dropped = m.drop(func(o *modelItem) bool { return o.named && o.name == name })
	m.add(&modelItem{b: b, msg: b.Message(), name: name, named: true})
	return dropped
}

func (m *modelQueue) add(it *modelItem) {
	it.id = m.nextID
	m.nextID++
	m.items = append(m.items, it)
}

func (m *modelQueue) draw(overhead, limit int) (msgs [][]byte, finished []Broadcast) {
	m.sort()
	used, most := 0, 0
	for _, it := range m.items {
		most = max(most, it.sent)
	}
	taken := map[*modelItem]bool{}
	for sent := 0; sent <= most; sent++ {
		for limit-used-overhead > 0 {
			i := slices.IndexFunc(m.items, func(it *modelItem) bool {
				return it.sent == sent && !taken[it] && len(it.msg) <= limit-used-overhead
			})
			if i < 0 {
				break
			}
			it := m.items[i]
			taken[it] = true
			msgs = append(msgs, it.msg)
			used += len(it.msg) + overhead
		}
	}
	for it := range taken {
		it.sent++
	}
	return msgs, m.drop(func(it *modelItem) bool { return taken[it] && it.sent >= m.limit() })
}

func (m *modelQueue) prune(k int) (dropped []Broadcast) {
	m.sort()
	for len(m.items) > max(k, 0) {
		last := len(m.items) - 1
		dropped = append(dropped, m.items[last].b)
		m.items = m.items[:last]
	}
	return dropped
}

// duel runs the queue and the model side by side.
type duel struct {
	t     *testing.T
	rng   *rand.Rand
	q     *TransmitLimitedQueue
	model *modelQueue
	nodes int
	made  int
	// profile of the run
	topics, maxLen int

	finished []Broadcast // by the queue in this step
	alive    map[Broadcast]bool
}

func newDuel(t *testing.T, seed uint64) *duel {
	d := &duel{t: t, rng: rand.New(rand.NewPCG(seed, 11)), nodes: 1, alive: map[Broadcast]bool{}}
	d.q = &TransmitLimitedQueue{NumNodes: func() int { return d.nodes }, RetransmitMult: d.rng.IntN(5)}
	d.model = &modelQueue{limit: func() int {
		return d.q.RetransmitMult * int(math.Ceil(math.Log10(float64(d.nodes)+1)))
	}}
	d.topics = 1 + d.rng.IntN(20)
	d.maxLen = 1 + d.rng.IntN(30)
	return d
}

func (d *duel) newBroadcast() Broadcast {
	msg := fmt.Appendf(nil, "%d/", d.made)
	msg = append(msg, make([]byte, d.rng.IntN(d.maxLen))...)
	if d.rng.IntN(50) == 0 {
		msg = make([]byte, d.rng.IntN(3000))
	}
	d.made++
	topic := fmt.Sprint(d.rng.IntN(d.topics))
	var b Broadcast
	base := plainBroadcast{msg: msg, finished: func() { d.finished = append(d.finished, b) }}
	switch d.rng.IntN(8) {
	case 0:
		b = &base
	case 1:
		base.topic = topic
		b = &base
	case 2, 3:
		b = &uniqueBroadcast{base}
	case 4:
		b = &namedUniqueBroadcast{namedBroadcast{base, topic}}
	default:
		b = &namedBroadcast{base, fmt.Sprint(d.rng.IntN(d.topics * 10))}
	}
	return b
}

// queue queues a broadcast, now and then as the library queues its own (P84).
func (d *duel) queue() (want []Broadcast) {
	b := d.newBroadcast()
	d.alive[b] = true
	if n, ok := b.(NamedBroadcast); ok && d.rng.IntN(3) == 0 {
		name := n.Name()
		if d.rng.IntN(20) == 0 {
			name = ""
		}
		d.q.queueNamed(name, b.Message(), b)
		return d.model.queueNamed(name, b)
	}
	d.q.QueueBroadcast(b)
	return d.model.queue(b)
}

func (d *duel) step() {
	d.finished = nil
	var want []Broadcast
	switch n := d.rng.IntN(100); {
	case n < 60:
		want = d.queue()
	case n < 95:
		overhead, limit := d.rng.IntN(4), d.rng.IntN(200)
		if d.rng.IntN(20) == 0 {
			limit = 10_000
		}
		var wantMsgs [][]byte
		wantMsgs, want = d.model.draw(overhead, limit)
		require.Equal(d.t, wantMsgs, d.q.GetBroadcasts(overhead, limit))
	case n < 98:
		d.nodes = d.rng.IntN(2000)
	case n < 99 || d.rng.IntN(10) > 0:
		k := d.rng.IntN(len(d.model.items)+10) - 2
		want = d.model.prune(k)
		d.q.Prune(k)
	default:
		want = d.model.prune(0)
		d.q.Reset()
	}
	d.check(want)
}

func (d *duel) check(want []Broadcast) {
	require.ElementsMatch(d.t, want, d.finished, "finished")
	for _, b := range d.finished {
		require.True(d.t, d.alive[b], "finished twice, or never queued")
		delete(d.alive, b)
	}
	require.Equal(d.t, len(d.model.items), d.q.NumQueued())
	require.Len(d.t, d.alive, d.q.NumQueued(), "a broadcast is neither queued nor finished")
	checkQueueInvariants(d.t, d.q)
}

// TestQueueAgreesWithNaiveModel checks P77 to P80, P82 and P83.
func TestQueueAgreesWithNaiveModel(t *testing.T) {
	sequences, steps := 2000, 60
	if testing.Short() {
		sequences = 300
	}
	for seed := range sequences {
		d := newDuel(t, uint64(seed))
		for range steps {
			d.step()
		}
	}
}

// Deep buckets, so that blocks split, fill and vanish in the middle (P78).
func TestDeepQueueAgreesWithNaiveModel(t *testing.T) {
	for seed := range 6 {
		d := newDuel(t, uint64(seed))
		d.topics, d.maxLen, d.q.RetransmitMult = 1000, 2, 4
		for range 400 {
			d.queue()
			for _, f := range d.finished {
				delete(d.alive, f)
			}
			d.finished = nil
		}
		for range 250 {
			d.step()
		}
	}
}

// checkQueueInvariants looks for an order that is not one and for bookkeeping
// that does not match it.
func checkQueueInvariants(t *testing.T, q *TransmitLimitedQueue) {
	t.Helper()
	items := orderedItems(t, q)
	named, plain := 0, 0
	for i, it := range items {
		if i > 0 && !inQueueOrder(items[i-1], it) {
			t.Fatalf("item %d is out of order: %+v before %+v", i, *items[i-1], *it)
		}
		if it.plain == isNamed {
			named++
			require.Same(t, it, q.mu.byName[it.name])
		}
		if it.plain > 0 {
			plain++
			require.Same(t, it, q.mu.plain[it.plain-1])
		}
	}
	require.Equal(t, q.NumQueued(), len(items))
	require.Equal(t, q.mu.len, len(items))
	require.Len(t, q.mu.byName, named)
	require.Len(t, q.mu.plain, plain)
}

// inQueueOrder is P78.
func inQueueOrder(a, b *queueItem) bool {
	switch {
	case a.sent != b.sent:
		return a.sent < b.sent
	case len(a.msg) != len(b.msg):
		return len(a.msg) > len(b.msg)
	}
	return a.id > b.id
}

// orderedItems walks through levels, buckets and blocks.
func orderedItems(t *testing.T, q *TransmitLimitedQueue) (items []*queueItem) {
	t.Helper()
	for _, l := range q.mu.order.levels {
		if len(l.buckets) == 0 {
			t.Fatal("empty level")
		}
		for _, b := range slices.Backward(l.buckets) {
			if len(b.blocks) == 0 || b.sent != l.sent {
				t.Fatalf("bucket %d/%d has no blocks or is in level %d", b.sent, b.length, l.sent)
			}
			for _, bl := range slices.Backward(b.blocks) {
				if bl.len() == 0 || bl.bucket != b {
					t.Fatal("empty block, or one of another bucket")
				}
				for i, it := range slices.Backward(bl.items[:]) {
					if (it != nil) != (i >= int(bl.lo) && i < int(bl.hi)) {
						t.Fatalf("block of items %d to %d, at %d is %v", bl.lo, bl.hi, i, it)
					}
					if it == nil {
						continue
					}
					if it.block != bl || int(it.sent) != b.sent || len(it.msg) != b.length {
						t.Fatalf("misplaced item %+v", *it)
					}
					items = append(items, it)
				}
			}
		}
	}
	return items
}

// TestConcurrentUseLosesNothing checks P82.
func TestConcurrentUseLosesNothing(t *testing.T) {
	q := newTestQueue(10, 2)
	const writers, each = 8, 500
	finished := make([]atomic.Int32, writers*each)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					q.GetBroadcasts(2, 200)
					q.NumQueued()
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 50 {
			q.Prune(1000 - 10*i)
		}
	})
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				n := w*each + i
				base := plainBroadcast{msg: make([]byte, 5+n%20), finished: func() { finished[n].Add(1) }}
				if i%2 == 0 {
					q.QueueBroadcast(&namedBroadcast{base, fmt.Sprint(i % 100)})
				} else {
					q.QueueBroadcast(&uniqueBroadcast{base})
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	wg.Wait()
	checkQueueInvariants(t, q)
	q.Reset()
	for n := range finished {
		require.EqualValues(t, 1, finished[n].Load(), "broadcast %d", n)
	}
}

func messageLengths(msgs [][]byte) (n []int) {
	for _, m := range msgs {
		n = append(n, len(m))
	}
	return n
}

func total(v []int) (n int) {
	for _, x := range v {
		n += x
	}
	return n
}

// The core's queue sends news in a small cluster to everybody, and twelve times at least in a
// larger one, unless it is to be sent once. Queues of programs do what their RetransmitMult says.
func TestNewsIsSentOftenEnoughForSmallClusters(t *testing.T) {
	for _, run := range []struct{ mult, nodes, want int }{
		{2, 1, 2}, {2, 2, 2}, {2, 3, 3}, {2, 6, 6}, {2, 8, 8}, {2, 9, 9}, {2, 12, 12}, {2, 99, 12}, {2, 9999, 12}, {2, 1000000, 14},
		{4, 3, 4}, {4, 6, 6}, {4, 9, 9}, {4, 10, 10}, {4, 99, 12}, {4, 100, 12}, {4, 1000, 16},
		{1, 6, 1}, {0, 6, 1},
	} {
		c := newTestCore(t, func(cfg *Config) { cfg.RetransmitMult = run.mult })
		c.gossip.queue.NumNodes = func() int { return run.nodes }
		c.gossip.broadcast("news", []byte("news"), nil)
		sent := 0
		for c.gossip.queue.GetBroadcasts(0, 100) != nil {
			sent++
		}
		require.Equal(t, run.want, sent, "%+v", run)
	}
}
