package memberlist

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// world makes up what happens to some nodes: joins, updates and leaves in an order
// that can be.
type world struct {
	rng     *rand.Rand
	names   []string
	present map[string]string // name → meta
	version int
}

func newWorld(nodes int, seed uint64) *world {
	return &world{rng: rand.New(rand.NewPCG(seed, 1)), names: nodeNames("n", nodes), present: map[string]string{}}
}

// next is one thing that happens, about a random node.
func (w *world) next() event {
	w.version++
	name := w.names[w.rng.IntN(len(w.names))]
	meta := strconv.Itoa(w.version)
	n := &Node{Name: name, Meta: []byte(meta)}
	_, here := w.present[name]
	switch {
	case !here:
		w.present[name] = meta
		return w.event(eventJoin, n, StateDead, StateAlive)
	case w.rng.IntN(3) == 0:
		delete(w.present, name)
		return w.event(eventLeave, n, StateAlive, StateDead)
	}
	w.present[name] = meta
	return w.event(eventUpdate, n, StateAlive, StateAlive)
}

func (w *world) event(kind eventKind, n *Node, from, to NodeStateType) event {
	return event{kind: kind, node: n, change: &Change{Node: n, From: from, To: to}}
}

// believer is a program that believes what it is told, and checks that it makes sense.
type believer struct {
	t    *testing.T
	gate chan struct{} // one for each event

	mu    sync.Mutex
	holds map[string]string
	calls int
}

func (b *believer) told(n *Node, was, is bool) {
	<-b.gate
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	before, here := b.holds[n.Name]
	if here != was {
		b.t.Errorf("%s: was here %v, expected %v", n.Name, here, was)
	}
	if newer, _ := strconv.Atoi(string(n.Meta)); here && newer <= atoi(before) {
		b.t.Errorf("%s: %d after %s", n.Name, newer, before)
	}
	if is {
		b.holds[n.Name] = string(n.Meta)
	} else {
		delete(b.holds, n.Name)
	}
}

func atoi(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

func (b *believer) NotifyJoin(n *Node)   { b.told(n, false, true) }
func (b *believer) NotifyUpdate(n *Node) { b.told(n, true, true) }
func (b *believer) NotifyLeave(n *Node)  { b.told(n, true, false) }

// However slow a program is, what waits for it is bounded, joins and leaves of a node
// alternate, news of it come in order, and in the end it knows what is true (P125, P200).
func TestSlowProgramHearsWhatItHasToHear(t *testing.T) {
	for _, nodes := range []int{3, 500, 20_000} {
		inBubble(t, func(t *testing.T) {
			w := newWorld(nodes, uint64(nodes))
			b := &believer{t: t, gate: make(chan struct{}), holds: map[string]string{}}
			n := newNotifier(new(taskGroup), &Config{Events: b})
			most := 0
			for i := range 100_000 {
				n.push([]event{w.next()})
				if i%300 == 0 {
					b.gate <- struct{}{}
				}
				n.mu.Lock()
				most = max(most, len(n.mu.queue))
				n.mu.Unlock()
			}
			require.LessOrEqual(t, most, max(manyEvents, 4*nodes)+1)
			close(b.gate)
			require.NoError(t, n.wait(context.Background(), n.last()))
			require.Equal(t, w.present, b.holds)
			require.Less(t, b.calls, max(manyEvents, 4*nodes)+400)
			endNotifier(n)
		})
	}
}

// Who waits for an event that was merged goes on when the program has heard of it, or
// of what came of it.
func TestWaitingForAMergedEvent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(100, 7)
		b := &believer{t: t, gate: make(chan struct{}), holds: map[string]string{}}
		n := newNotifier(new(taskGroup), &Config{Events: b})
		last := map[string]event{}
		for i := range 100_000 {
			e := w.next()
			eventSeq := n.push([]event{e})
			last[e.node.Name] = e
			if i%500 != 0 {
				continue
			}
			go func() {
				_ = n.wait(context.Background(), eventSeq)
				b.mu.Lock()
				defer b.mu.Unlock()
				if held, here := b.holds[e.node.Name]; here && atoi(held) < atoi(string(e.node.Meta)) {
					t.Errorf("%s: %s is not %s yet", e.node.Name, held, e.node.Meta)
				}
			}()
		}
		close(b.gate)
		synctest.Wait()
		require.True(t, n.reached(n.last()))
		endNotifier(n)
	})
}

// Nodes that come and go in one piece of news are no event when that many wait, and
// nobody waits for them.
func TestMergedToNothingIsDelivered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := &eventLog{t: t}
		n := newNotifier(new(taskGroup), &Config{Events: log})
		var events []event
		for i := range manyEvents {
			name := fmt.Sprint(i)
			events = append(events, eventOf(eventJoin, name), eventOf(eventLeave, name))
		}
		require.NoError(t, n.wait(context.Background(), n.push(events)))
		require.Empty(t, log.all())
		endNotifier(n)
	})
}

func TestMergedEvents(t *testing.T) { // P200
	for _, row := range []struct{ happened, told string }{
		{"join a, update a, update a", "join a: dead to alive 3"},
		{"join a, leave a", ""},
		{"join a, update a, leave a, join a", "join a: dead to alive 4"},
		{"update a, update b, update a", "update a: alive to alive 3, update b: alive to alive 2"},
		{"update a, leave a", "leave a: alive to dead 2"},
		{"leave a, join b, join a", "leave a: alive to dead 1, join b: dead to alive 2, join a: dead to alive 3"},
		{"leave a, join a, leave a, join a, update a", "leave a: alive to dead 3, join a: dead to alive 5"},
		{"leave a, join a, leave a", "leave a: alive to dead 3"},
		{"suspect a, acquit a", ""},
		{"suspect a, leave a", "leave a: alive to dead 2"},
		{"update a, suspect a", "update a: alive to suspect 2"},
		{"suspect a, acquit a, update a", "update a: alive to alive 3"},
		{"conflict a, join b, conflict a, leave a", "conflict a 3, join b: dead to alive 2, leave a: alive to dead 4"},
	} {
		require.Equal(t, row.told, inOneLine(mergeEvents(eventsOf(row.happened))), row.happened)
	}
}

// eventsOf makes events of words; the meta of their nodes counts them.
func eventsOf(text string) []event {
	kinds := map[string]event{
		"join":     {kind: eventJoin, change: &Change{From: StateDead, To: StateAlive}},
		"update":   {kind: eventUpdate, change: &Change{From: StateAlive, To: StateAlive}},
		"leave":    {kind: eventLeave, change: &Change{From: StateAlive, To: StateDead}},
		"suspect":  {kind: eventNone, change: &Change{From: StateAlive, To: StateSuspect}},
		"acquit":   {kind: eventNone, change: &Change{From: StateSuspect, To: StateAlive}},
		"conflict": {kind: eventConflict},
	}
	var events []event
	for i, words := range strings.Split(text, ", ") {
		kind, name, _ := strings.Cut(words, " ")
		e := kinds[kind]
		e.node, e.number = &Node{Name: name, Meta: fmt.Append(nil, i+1)}, uint64(i+1)
		events = append(events, e)
	}
	return events
}

func inOneLine(events []event) string {
	kinds := []string{"none", "join", "leave", "update", "conflict"}
	var list []string
	for _, e := range events {
		line := kinds[e.kind] + " " + e.node.Name
		if e.change != nil {
			line += fmt.Sprintf(": %s to %s", e.change.From, e.change.To)
		}
		list = append(list, line+" "+string(e.node.Meta))
	}
	return strings.Join(list, ", ")
}
