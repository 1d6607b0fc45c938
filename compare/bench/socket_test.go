package bench

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-83836a96/memberlist/compare/bench/lib"
)

// loopbackConfig is that of a node on real sockets.
func loopbackConfig(name string) *lib.Config {
	c := lib.DefaultLANConfig()
	c.Name = name
	c.BindAddr, c.BindPort = "127.0.0.1", 0
	c.LogOutput = io.Discard
	return c
}

func createNode(b *testing.B, c *lib.Config) *lib.Memberlist {
	b.Helper()
	m, err := lib.Create(c)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func addressOf(m *lib.Memberlist) string {
	n := m.LocalNode()
	return net.JoinHostPort(n.Addr.String(), fmt.Sprint(n.Port))
}

// pair is two nodes on loopback; what the first one sends the second counts.
type pair struct {
	from     *lib.Memberlist
	to       *lib.Node
	received *countingDelegate
}

// newPair makes a pair of nodes that do nothing on their own.
func newPair(b *testing.B, adjust func(*lib.Config)) *pair {
	b.Helper()
	p := &pair{received: newCountingDelegate()}
	quiet := func(name string) *lib.Config {
		c := loopbackConfig(name)
		c.ProbeInterval, c.GossipInterval, c.PushPullInterval = 0, 0, 0
		adjust(c)
		return c
	}
	receiver := quiet("receiver")
	receiver.Delegate = p.received
	to := createNode(b, receiver)
	p.from = createNode(b, quiet("sender"))
	p.to = to.LocalNode()
	b.Cleanup(func() {
		_ = p.from.Shutdown()
		_ = to.Shutdown()
	})
	return p
}

// BenchmarkUDP sends user messages of 512 bytes from node to node, a few at a
// time so that none is lost.
func BenchmarkUDP(b *testing.B) {
	for _, c := range []struct {
		name string
		lzw  bool
	}{{"default", true}, {"plain", false}} {
		b.Run(c.name, func(b *testing.B) {
			p := newPair(b, func(cfg *lib.Config) { cfg.EnableCompression = c.lzw })
			msg := someText(512, 1)
			m := newMeter(b)
			p.sendWindowed(b, msg)
			m.report(b.N)
		})
	}
}

func (p *pair) sendWindowed(b *testing.B, msg []byte) {
	const window = 16
	for sent := 0; sent < b.N; {
		n := min(window, b.N-sent)
		p.received.expect(n)
		for range n {
			if err := p.from.SendBestEffort(p.to, msg); err != nil {
				b.Fatal(err)
			}
		}
		await(b, p.received.reached, "messages")
		sent += n
	}
}

// BenchmarkUDPFlood sends without waiting, and tells how many messages a second
// arrive and how many get lost.
func BenchmarkUDPFlood(b *testing.B) {
	p := newPair(b, func(c *lib.Config) { c.EnableCompression = false })
	msg := someText(512, 1)
	m := newMeter(b)
	start := time.Now()
	for range b.N {
		if err := p.from.SendBestEffort(p.to, msg); err != nil {
			b.Fatal(err)
		}
	}
	arrived, last := awaitQuiet(&p.received.messages)
	m.report(b.N)
	reportFlood(b, arrived, last.Sub(start))
}

func reportFlood(b *testing.B, arrived int64, took time.Duration) {
	b.ReportMetric(float64(arrived)/took.Seconds(), "arrived/s")
	b.ReportMetric(100-100*float64(arrived)/float64(b.N), "lost-%")
}

// awaitQuiet waits until a count has not changed for 50 ms, and tells when it
// last did.
func awaitQuiet(count *atomic.Int64) (n int64, last time.Time) {
	last = time.Now()
	for {
		time.Sleep(time.Millisecond)
		now := time.Now()
		if c := count.Load(); c != n {
			n, last = c, now
		}
		if now.Sub(last) > 50*time.Millisecond {
			return n, last
		}
	}
}

// BenchmarkSendReliable sends user messages over TCP, one after the other.
func BenchmarkSendReliable(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
		lzw  bool
		key  []byte
	}{
		{"1KiB-default", 1 << 10, true, nil},
		{"1MiB-default", 1 << 20, true, nil},
		{"1MiB-aes", 1 << 20, false, keys[0]},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := newPair(b, func(cfg *lib.Config) {
				cfg.EnableCompression = c.lzw
				cfg.SecretKey = c.key
			})
			msg := someText(c.size, 1)
			m := newMeter(b)
			for range b.N {
				p.received.expect(1)
				if err := p.from.SendReliable(p.to, msg); err != nil {
					b.Fatal(err)
				}
				await(b, p.received.reached, "the message")
			}
			m.report(b.N)
		})
	}
}

// newCluster starts nodes on loopback and joins them through the first one.
func newCluster(b *testing.B, size int, adjust func(i int, c *lib.Config)) []*lib.Memberlist {
	b.Helper()
	nodes := startCluster(b, size, adjust)
	awaitMembers(b, nodes)
	return nodes
}

func startCluster(b *testing.B, size int, adjust func(i int, c *lib.Config)) []*lib.Memberlist {
	b.Helper()
	nodes := make([]*lib.Memberlist, size)
	for i := range nodes {
		c := loopbackConfig(fmt.Sprintf("node-%02d.dc1.example", i))
		if adjust != nil {
			adjust(i, c)
		}
		nodes[i] = createNode(b, c)
		if i > 0 {
			if _, err := nodes[i].Join([]string{addressOf(nodes[0])}); err != nil {
				b.Fatal(err)
			}
		}
	}
	return nodes
}

// awaitMembers waits until every node knows every other.
func awaitMembers(b *testing.B, nodes []*lib.Memberlist) {
	b.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for _, n := range nodes {
		for n.NumMembers() < len(nodes) {
			if time.Now().After(deadline) {
				b.Fatalf("%s: a node knows only %d of %d", lib.Name, n.NumMembers(), len(nodes))
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// awaitGossip waits until every node knows every other, or none has learned of
// another for a second: each message is sent a few times only, so that in a cluster
// of 64 one of the 4096 pieces of news often does not arrive before the next
// push/pull, a minute later. It returns the processor time at the last progress.
func awaitGossip(nodes []*lib.Memberlist) time.Duration {
	known, at, since := 0, processTime(), time.Now()
	for known < len(nodes)*len(nodes) && time.Since(since) < time.Second {
		time.Sleep(20 * time.Millisecond)
		sum := 0
		for _, n := range nodes {
			sum += n.NumMembers()
		}
		if sum != known {
			known, at, since = sum, processTime(), time.Now()
		}
	}
	return at
}

func shutDownAll(nodes []*lib.Memberlist) {
	for _, n := range nodes {
		_ = n.Shutdown()
	}
}

// spreader is the delegate of a program that spreads messages by gossip.
type spreader struct {
	*countingDelegate
	queue *lib.TransmitLimitedQueue
	seen  sync.Map
	first *atomic.Int64 // deliveries in the cluster that were the node's first
}

func (s *spreader) GetBroadcasts(overhead, limit int) [][]byte {
	return s.queue.GetBroadcasts(overhead, limit)
}

// NotifyMsg passes on what it has not seen yet.
func (s *spreader) NotifyMsg(msg []byte) {
	text := string(msg)
	if _, known := s.seen.LoadOrStore(text, true); known {
		return
	}
	s.first.Add(1)
	s.queue.QueueBroadcast(&notice{[]byte(text)})
}

// BenchmarkUserBroadcasts spreads user messages of 100 bytes in a cluster of 16
// nodes. An operation is one message reaching one node for the first time.
func BenchmarkUserBroadcasts(b *testing.B) {
	const size, burst = 16, 50
	var delivered atomic.Int64
	spreaders := make([]*spreader, size)
	nodes := newCluster(b, size, func(i int, c *lib.Config) {
		s := &spreader{countingDelegate: newCountingDelegate(), first: &delivered}
		s.queue = &lib.TransmitLimitedQueue{NumNodes: func() int { return size }, RetransmitMult: c.RetransmitMult}
		spreaders[i], c.Delegate = s, s
		c.GossipInterval = 20 * time.Millisecond
	})
	defer shutDownAll(nodes)
	m := newMeter(b)
	for done := 0; done < b.N; done += burst * (size - 1) {
		want := delivered.Load() + burst*(size-1)
		for i := range burst {
			s := spreaders[i%size]
			text := fmt.Sprintf("%d/%d %s", done, i, someText(100, done+i))[:100]
			s.seen.Store(text, true)
			s.queue.QueueBroadcast(&notice{[]byte(text)})
		}
		awaitSpread(b, &delivered, want)
	}
	m.report(int(delivered.Load()))
}

// awaitSpread waits until messages have come everywhere, or come no further:
// gossip reaches every node very probably, not surely.
func awaitSpread(b *testing.B, count *atomic.Int64, want int64) {
	b.Helper()
	last, since := int64(-1), time.Now()
	for n := count.Load(); n < want; n = count.Load() {
		if n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) > time.Second {
			b.Logf("%d of %d messages arrived", n, want)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// BenchmarkCluster64 starts 64 nodes with the LAN defaults and joins them by one of
// them and gossip; then, when all has been told, looks what they need for staying
// together.
func BenchmarkCluster64(b *testing.B) {
	const size, settle, watch = 64, 4 * time.Second, 10 * time.Second
	var joining, idle time.Duration
	for range b.N {
		start := processTime()
		nodes := startCluster(b, size, nil)
		joining += awaitGossip(nodes) - start
		time.Sleep(settle)
		start = processTime()
		time.Sleep(watch)
		idle += processTime() - start
		shutDownAll(nodes)
	}
	b.ReportMetric(float64(joining)/float64(b.N), "joining-cpu-ns")
	b.ReportMetric(float64(idle)/float64(b.N)/size/watch.Seconds(), "idle-cpu-ns/node-s")
}

// BenchmarkCreate starts a node on loopback and shuts it down.
func BenchmarkCreate(b *testing.B) {
	m := newMeter(b)
	for range b.N {
		n := createNode(b, loopbackConfig("one"))
		if err := n.Shutdown(); err != nil {
			b.Fatal(err)
		}
	}
	m.report(b.N)
}

// BenchmarkOneNode looks what a node holds: heap and goroutines.
func BenchmarkOneNode(b *testing.B) {
	const size = 20
	var heap, goroutines float64
	for range b.N {
		heapBefore, goroutinesBefore := heapInUse(), runtime.NumGoroutine()
		nodes := make([]*lib.Memberlist, size)
		for i := range nodes {
			nodes[i] = createNode(b, loopbackConfig(fmt.Sprint("node-", i)))
		}
		heap += float64(heapInUse()-heapBefore) / size
		goroutines += float64(runtime.NumGoroutine()-goroutinesBefore) / size
		shutDownAll(nodes)
		awaitGoroutines(goroutinesBefore)
	}
	b.ReportMetric(heap/float64(b.N), "heap-B/node")
	b.ReportMetric(goroutines/float64(b.N), "goroutines/node")
}

// awaitGoroutines gives goroutines some time to end. Some may not.
func awaitGoroutines(n int) {
	for range 100 {
		if runtime.NumGoroutine() <= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
