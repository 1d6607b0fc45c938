package hostile

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// heapLimit ends an experiment that has made a node hold so much.
const heapLimit = 2 << 30

// stage is where one experiment takes place: a network, the nodes that are
// attacked, and what the attacker has sent.
type stage struct {
	lib   Library
	quick bool
	heap  *sampler
	net   *simnet.Network
	nodes []*victim

	key []byte // of the nodes, if they have one
	in  int    // bytes that the attacker has sent
	cpu time.Duration
}

// victim is a node and where it is.
type victim struct {
	Node
	endpoint *simnet.Endpoint
	addr     string
}

func newStage(lib Library, quick bool, heap *sampler) *stage {
	return &stage{lib: lib, quick: quick, heap: heap, net: simnet.NewNetwork(simnet.Conditions{SocketQueue: 4096}, 1)}
}

// must ends the program: the libraries are not to blame for a stage that cannot be
// set up.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// count is how much input the experiment gets.
func (s *stage) count(full, quick int) int {
	if s.quick {
		return quick
	}
	return full
}

// node starts the n-th node of a cluster, which joins the first one.
func (s *stage) node(setup Setup) *victim {
	v := s.loner(setup, len(s.nodes)+1)
	if first := s.nodes[0]; first != v {
		must(v.Join(first.addr))
	}
	return v
}

// loner starts a node at 10.0.0.number that knows nobody.
func (s *stage) loner(setup Setup, number int) *victim {
	endpoint := s.net.Listen(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(number)}), 7946))
	setup.Endpoint = endpoint
	if setup.Name == "" {
		setup.Name = fmt.Sprintf("n%d", number)
	}
	node, err := s.lib.Start(setup)
	must(err)
	v := &victim{node, endpoint, endpoint.Addr().String()}
	s.nodes = append(s.nodes, v)
	return v
}

// close ends everything, and waits until what the libraries leave behind has ended.
func (s *stage) close() {
	for _, v := range s.nodes {
		v.endpoint.Close()
		v.Shutdown()
	}
	s.net.Close()
}

// source is an address of the attacker.
func (s *stage) source(number int) *source {
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(number >> 8), byte(number)}), 7946)
	f := &source{stage: s, endpoint: s.net.Listen(addr)}
	f.endpoint.OnPacket(func(buf []byte, _ net.Addr, _ time.Time) bool {
		f.packets.Add(1)
		f.bytes.Add(int64(len(buf)))
		return true
	})
	return f
}

// source sends as the attacker, and counts the packets that come to it.
type source struct {
	stage    *stage
	endpoint *simnet.Endpoint
	packets  atomic.Int64
	bytes    atomic.Int64
}

// send sends a packet and waits until it has been handled.
func (f *source) send(packet []byte, to *victim) {
	_, err := f.endpoint.Send(packet, to.addr)
	must(err)
	f.stage.in += len(packet)
	time.Sleep(time.Millisecond)
}

// sendAll sends packets until the heap is too large, and reports whether it is.
func (f *source) sendAll(packets [][]byte, to *victim) (stopped bool) {
	for _, p := range packets {
		f.send(p, to)
		if heapNow() > heapLimit {
			return true
		}
	}
	return false
}

// open opens a stream, writes to it and leaves it open.
func (f *source) open(bytes []byte, to *victim) net.Conn {
	conn, err := f.endpoint.Dial(to.addr, time.Minute)
	must(err)
	_, err = conn.Write(bytes)
	must(err)
	f.stage.in += len(bytes)
	return conn
}

// spend adds the processor time that f takes to the outcome.
func (s *stage) spend(f func()) {
	start := processTime()
	f()
	s.cpu += processTime() - start
}

// held is how much the heap has grown by what f does with the input.
func (s *stage) held(input [][]byte, f func()) float64 {
	before := heapLive()
	s.spend(f)
	after := heapLive()
	runtime.KeepAlive(input)
	return max(0, float64(after)-float64(before))
}

// peak is how much larger the heap was at most while f ran.
func (s *stage) peak(f func()) float64 {
	before := heapLive()
	s.heap.most.Store(before)
	s.spend(f)
	return float64(s.heap.most.Load() - before)
}

// sampler notes the largest size of the heap. It runs outside the bubble of virtual
// time, where nothing happens while a node is at work.
type sampler struct {
	most atomic.Uint64
	done chan struct{}
}

func startSampler() *sampler {
	s := &sampler{done: make(chan struct{})}
	go s.run()
	return s
}

func (s *sampler) run() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-tick.C:
			s.most.Store(max(s.most.Load(), heapNow()))
		}
	}
}

// heapNow is the size of all objects, dead ones included.
func heapNow() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// heapLive is the size of the objects that are in use. Pools give up their objects
// in the second collection.
func heapLive() uint64 {
	for range 3 {
		runtime.GC()
	}
	return heapNow()
}

// lists reports whether the node lists a member of that name.
func (v *victim) lists(name string) bool { return slices.Contains(v.Members(), name) }
