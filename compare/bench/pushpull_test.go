package bench

import (
	"bytes"
	"net"
	"runtime"
	"testing"

	"github.com/seed-83836a96/memberlist/compare/bench/lib"
	"github.com/seed-83836a96/memberlist/compare/bench/wire"
)

const manyMembers = 10_000

// BenchmarkPushPullIn is an exchange with a node that knows the same 10,000
// members: read its state, answer with the own, find that nothing is new.
func BenchmarkPushPullIn(b *testing.B) {
	for _, c := range []struct {
		name string
		variant
		meta int
	}{
		{"plain", plain, 0},
		{"meta+aes", aes, 100},
		{"meta+lzw", lzw, 100},
	} {
		b.Run(c.name, func(b *testing.B) {
			stream := c.openedStream(wire.PushPull(members(manyMembers, c.meta), false, []byte{1}))
			n := c.fixture(b, "pushpull", func() *node {
				n := c.newNode(b, nil)
				n.mergeMembers(b, stream)
				return n
			})
			m := newMeter(b)
			for range b.N {
				n.mergeMembers(b, stream)
			}
			m.report(b.N)
		})
	}
}

// dialledStream is what a node finds that dials: somebody who answers with these
// bytes.
func dialledStream(content []byte) func() net.Conn {
	return func() net.Conn { return &memConn{in: bytes.NewReader(content)} }
}

// BenchmarkJoin10k is a Join that learns of 10,000 members.
func BenchmarkJoin10k(b *testing.B) {
	state := wire.PushPull(members(manyMembers, 0), true, []byte{1})
	m := newMeter(b)
	for range b.N {
		m.pause()
		n := plain.newNode(b, nil)
		n.transport.dial = dialledStream(state)
		runtime.GC()
		m.resume()
		n.joinPeer(b)
		m.pause()
		n.stop(b)
		m.resume()
	}
	m.report(b.N)
}

func (n *node) joinPeer(b *testing.B) {
	b.Helper()
	if _, err := n.Join([]string{peer.Name + "/" + peerAddr.String()}); err != nil {
		b.Fatal(err)
	}
	await(b, n.delegate.merged, "the merge")
}

func (n *node) stop(b *testing.B) {
	b.Helper()
	if err := n.Shutdown(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkHeapPerMember grows a node to 10,000 members, lets it pass on all
// that it has to tell, and looks how much memory it then holds.
func BenchmarkHeapPerMember(b *testing.B) {
	for _, c := range []struct {
		name string
		meta int
	}{{"meta-0", 0}, {"meta-64", 64}} {
		b.Run(c.name, func(b *testing.B) {
			var perMember float64
			for range b.N {
				n := plain.newNode(b, func(c *lib.Config) { c.RetransmitMult = 0 })
				n.drain(b)
				before := heapInUse()
				n.transport.dial = dialledStream(wire.PushPull(members(manyMembers, c.meta), true, []byte{1}))
				n.joinPeer(b)
				n.transport.dial = nil
				n.drain(b)
				perMember += float64(heapInUse()-before) / manyMembers
				n.stop(b)
			}
			b.ReportMetric(perMember/float64(b.N), "heap-B/member")
		})
	}
}

// heapInUse returns what is reachable.
func heapInUse() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC() // the first one only empties the pools halfway
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// BenchmarkMembers, BenchmarkNumMembers and BenchmarkLocalNode ask a node that
// knows 10,000 others.
func BenchmarkMembers(b *testing.B) {
	n := bigNode(b)
	defer runtime.KeepAlive(newBallast())
	m := newMeter(b)
	for range b.N {
		if got := len(n.Members()); got != manyMembers+1 {
			b.Fatal(got)
		}
	}
	m.report(b.N)
}

func BenchmarkNumMembers(b *testing.B) {
	n := bigNode(b)
	m := newMeter(b)
	for range b.N {
		if got := n.NumMembers(); got != manyMembers+1 {
			b.Fatal(got)
		}
	}
	m.report(b.N)
}

func BenchmarkLocalNode(b *testing.B) {
	n := bigNode(b)
	m := newMeter(b)
	for range b.N {
		if n.LocalNode().Name != selfName {
			b.Fatal("not me")
		}
	}
	m.report(b.N)
}

// newBallast is memory that is held while slices of 80 KB are made and dropped. With
// a small heap nearly all the time would go to the collector, which the smaller one
// of two heaps calls more often.
func newBallast() []byte { return make([]byte, 64<<20) }

func bigNode(b *testing.B) *node {
	return plain.fixture(b, "big", func() *node {
		n := plain.newNode(b, nil)
		n.mergeMembers(b, wire.PushPull(members(manyMembers, 0), false, []byte{1}))
		return n
	})
}
