package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/seed-83836a96/memberlist/compare/bench/lib"
)

const deepQueue = 100_000

// rumour is a broadcast about a node, like those of the library itself.
type rumour struct {
	name string
	msg  []byte
}

func (r *rumour) Name() string                   { return r.name }
func (r *rumour) Message() []byte                { return r.msg }
func (r *rumour) Finished()                      {}
func (r *rumour) Invalidates(lib.Broadcast) bool { return false }

// notice is a broadcast that stands for itself, like those of programs.
type notice struct{ msg []byte }

func (n *notice) UniqueBroadcast()               {}
func (n *notice) Message() []byte                { return n.msg }
func (n *notice) Finished()                      {}
func (n *notice) Invalidates(lib.Broadcast) bool { return false }

// messages of 60 to 99 bytes, like alive messages with a little meta.
var rumourTexts = func() (texts [40][]byte) {
	for i := range texts {
		texts[i] = someText(60+i, i)
	}
	return texts
}()

func newRumour(name string) *rumour {
	return &rumour{name, rumourTexts[rand.IntN(len(rumourTexts))]}
}

// filledQueue holds one rumour about each of 100,000 nodes, and sends each
// broadcast the given number of times.
func filledQueue(transmits int) (q *lib.TransmitLimitedQueue, names []string) {
	q = &lib.TransmitLimitedQueue{NumNodes: func() int { return 1 }, RetransmitMult: transmits}
	names = make([]string, deepQueue)
	for i := range names {
		names[i] = fmt.Sprintf("node-%06d.dc1.example", i)
		q.QueueBroadcast(newRumour(names[i]))
	}
	runtime.GC()
	return q, names
}

// BenchmarkQueuePut queues newer rumours about nodes of which one is queued.
func BenchmarkQueuePut(b *testing.B) {
	q, names := filledQueue(24)
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	runtime.GC()
	m := newMeter(b)
	for i := range b.N {
		q.QueueBroadcast(newRumour(names[i%len(names)]))
	}
	m.report(b.N)
}

// BenchmarkQueueGet draws broadcasts for packet after packet.
func BenchmarkQueueGet(b *testing.B) {
	q, _ := filledQueue(1 << 20)
	m := newMeter(b)
	for range b.N {
		if len(q.GetBroadcasts(2, packetSize)) == 0 {
			b.Fatal("empty")
		}
	}
	m.report(b.N)
}

// BenchmarkQueueContended has eight writers and a reader at work on a deep
// queue. An operation is a put of each and one draw of not quite as many, which
// go out once: the queue grows slowly, by half as much again in 140,000
// operations of either library.
func BenchmarkQueueContended(b *testing.B) {
	const round = 500 // the reader keeps up with the writers from round to round
	q, _ := filledQueue(1)
	done := 0
	m := newMeter(b)
	for ; done < b.N; done += round {
		contend(q, round)
	}
	m.report(done)
}

func contend(q *lib.TransmitLimitedQueue, ops int) {
	const aboutEight = 660
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range ops {
				q.QueueBroadcast(&notice{rumourTexts[i%len(rumourTexts)]})
			}
		})
	}
	wg.Go(func() {
		for range ops {
			q.GetBroadcasts(2, aboutEight)
		}
	})
	wg.Wait()
}
