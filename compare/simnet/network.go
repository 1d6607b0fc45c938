// Package simnet is the network in memory on which clusters run in virtual time.
//
// A [Network] carries packets and streams between [Endpoint]s with latency,
// loss, duplication, reordering, one-way cuts, partitions, bounded socket
// queues, and processes that stall. It knows nothing of any library: adapters
// turn an endpoint into the transport that a library wants. A network belongs
// to the testing/synctest bubble in which it was made.
package simnet

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Conditions say what the network does to everything that is sent over it.
// The zero value is a perfect network without delay; see [LAN] and [WAN].
type Conditions struct {
	// Latency is the one-way delay of a packet; nil means none.
	Latency Latency
	// Loss is the probability that a packet, or one try at a stream segment, is lost.
	Loss float64
	// Duplicate is the probability that a packet arrives twice.
	Duplicate float64
	// Reorder is the probability that a packet is held back by up to ReorderBy,
	// so that later ones overtake it.
	Reorder   float64
	ReorderBy time.Duration
	// SocketQueue is how many packets a socket holds before it drops the
	// arriving ones; 0 means DefaultSocketQueue.
	SocketQueue int
}

// DefaultSocketQueue is about what the usual 208 KiB of receive buffer hold.
const DefaultSocketQueue = 256

// LAN is a quiet local network: a fraction of a millisecond one way.
func LAN() Conditions {
	return Conditions{Latency: ExponentialTail{Base: 150 * time.Microsecond, Mean: 100 * time.Microsecond, Max: 5 * time.Millisecond}}
}

// WAN spreads the nodes over a plane whose diagonal takes 120 ms one way.
func WAN() Conditions {
	return Conditions{Latency: Plane{Base: 2 * time.Millisecond, Diagonal: 120 * time.Millisecond, Jitter: 0.1}}
}

// Network connects endpoints. One goroutine moves everything that is under way,
// driven by one queue of events in the order of their time, so that a packet
// costs neither a goroutine nor a timer. A Network belongs to the synctest
// bubble in which it was made.
type Network struct {
	start time.Time
	wake  chan struct{}
	done  chan struct{}

	mu         sync.Mutex // guards everything below, and the state of endpoints and streams
	rng        *rand.Rand
	conditions Conditions
	events     eventQueue
	sleepUntil time.Duration
	closed     bool
	endpoints  map[string]*Endpoint
	cuts       map[[2]*Endpoint]bool
	streams    map[*stream]struct{}
	filter     Filter
	taps       []Tap
}

// Filter reports whether something may pass from one address to another.
type Filter func(from, to netip.AddrPort, stream bool) bool

// Tap sees each packet that is sent, also those that are lost later. It must not
// block or call the network.
type Tap func(from, to netip.AddrPort, packet []byte)

// NewNetwork starts a network whose random choices come from seed.
// Close must be called before the bubble ends.
func NewNetwork(conditions Conditions, seed uint64) *Network {
	if conditions.SocketQueue == 0 {
		conditions.SocketQueue = DefaultSocketQueue
	}
	n := &Network{
		start:      time.Now(),
		wake:       make(chan struct{}, 1),
		done:       make(chan struct{}),
		rng:        rand.New(rand.NewPCG(seed, 0x6e6574776f726b)),
		conditions: conditions,
		endpoints:  make(map[string]*Endpoint),
		cuts:       make(map[[2]*Endpoint]bool),
		streams:    make(map[*stream]struct{}),
	}
	go n.run()
	return n
}

// Now is the virtual time since the network started.
func (n *Network) Now() time.Duration { return time.Since(n.start) }

// Listen opens an endpoint on the given address, replacing a closed one that
// was there before. An address in use is an error of the caller and panics.
func (n *Network) Listen(addr netip.AddrPort) *Endpoint {
	e, err := n.Open(addr)
	if err != nil {
		panic(err)
	}
	return e
}

// Open is Listen with the error that a system reports for an address in use.
func (n *Network) Open(addr netip.AddrPort) (*Endpoint, error) {
	e := newEndpoint(n, addr)
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.endpoints[e.text]; old != nil && !old.closed {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: e.tcp, Err: syscall.EADDRINUSE}
	}
	n.endpoints[e.text] = e
	return e, nil
}

// SetFilter puts a filter in place of the one before; nil lets everything pass.
func (n *Network) SetFilter(f Filter) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filter = f
}

// Watch adds a tap, which is called from any goroutine that sends.
func (n *Network) Watch(t Tap) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taps = append(n.taps, t)
}

// watch shows a packet to the taps; n.mu is held.
func (n *Network) watch(from *Endpoint, to string, packet []byte) error {
	if len(n.taps) == 0 {
		return nil
	}
	addr, err := netip.ParseAddrPort(to)
	if err != nil {
		return fmt.Errorf("simnet: send: %w", err)
	}
	for _, tap := range n.taps {
		tap(from.addr, addr, packet)
	}
	return nil
}

// Overflow is how many packets were lost because nobody read them in time.
func (n *Network) Overflow() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	sum := 0
	for _, e := range n.endpoints {
		sum += e.traffic.Overflow
	}
	return sum
}

// After has f called once after d, on the network's goroutine: f must not block.
func (n *Network) After(d time.Duration, f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.schedule(n.Now()+d, funcEvent(f))
}

// SetLoss changes the loss rate of the whole network.
func (n *Network) SetLoss(rate float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conditions.Loss = rate
}

// Cut stops (or, with on false, restores) whatever goes from one endpoint to another, in
// this direction only.
func (n *Network) Cut(from, to *Endpoint, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if on {
		n.cuts[[2]*Endpoint{from, to}] = true
	} else {
		delete(n.cuts, [2]*Endpoint{from, to})
	}
}

// Close takes the network down: every stream fails, nothing is delivered any
// more, and the network's goroutine has ended when Close returns.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	for s := range n.streams {
		s.fail(errNetworkDown)
	}
	for _, e := range n.endpoints {
		e.stallEnd.Broadcast()
	}
	n.poke()
	n.mu.Unlock()
	<-n.done
}

// run fires the events as their time comes.
func (n *Network) run() {
	defer close(n.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait, open := n.fireDue()
		if !open {
			return
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-n.wake:
		}
	}
}

// fireDue fires what is due and tells how long to sleep.
func (n *Network) fireDue() (wait time.Duration, open bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sleepUntil = 0 // awake: nobody needs to poke
	now := n.Now()
	for !n.closed && len(n.events.heap) > 0 && n.events.heap[0].at <= now {
		event := n.events.pop()
		if f, ok := event.(funcEvent); ok {
			n.mu.Unlock()
			f()
			n.mu.Lock()
			continue
		}
		event.fire(n, now)
	}
	if len(n.events.heap) == 0 {
		n.sleepUntil = now + time.Hour
	} else {
		n.sleepUntil = n.events.heap[0].at
	}
	return n.sleepUntil - now, !n.closed
}

// schedule queues an event; n.mu is held.
func (n *Network) schedule(at time.Duration, e event) {
	n.events.push(at, e)
	if at < n.sleepUntil {
		n.poke()
	}
}

func (n *Network) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// open tells whether anything can pass from one endpoint to another; n.mu is held.
func (n *Network) open(from, to *Endpoint, stream bool) bool {
	if n.filter != nil && !n.filter(from.addr, to.addr, stream) {
		return false
	}
	if from.cutOut || to.cutIn || from.side != to.side {
		return false
	}
	return len(n.cuts) == 0 || !n.cuts[[2]*Endpoint{from, to}]
}

// passes draws whether one packet, or one segment of a stream, makes it from one
// endpoint to another; n.mu is held.
func (n *Network) passes(from, to *Endpoint, stream bool) bool {
	if !n.open(from, to, stream) {
		return false
	}
	pass := (1 - n.conditions.Loss) * (1 - from.lossOut) * (1 - to.lossIn)
	return pass >= 1 || n.rng.Float64() < pass
}

// delay draws the one-way delay of one packet; n.mu is held.
func (n *Network) delay(from, to *Endpoint) time.Duration {
	if n.conditions.Latency == nil {
		return 0
	}
	return n.conditions.Latency.draw(n.rng, from, to)
}

// happens draws an event of the given probability; n.mu is held.
func (n *Network) happens(probability float64) bool {
	return probability > 0 && n.rng.Float64() < probability
}

// An event is something that happens to the network at a certain time.
type event interface {
	// fire is called with the network's mutex held.
	fire(n *Network, now time.Duration)
}

// funcEvent is called without the mutex.
type funcEvent func()

func (f funcEvent) fire(*Network, time.Duration) { f() }

// eventQueue is a binary heap, earliest first, and first queued among equals.
type eventQueue struct {
	heap   []queuedEvent
	queued uint64
}

type queuedEvent struct {
	at    time.Duration
	order uint64
	event event
}

func (a *queuedEvent) before(b *queuedEvent) bool {
	return a.at < b.at || a.at == b.at && a.order < b.order
}

func (q *eventQueue) push(at time.Duration, e event) {
	q.queued++
	q.heap = append(q.heap, queuedEvent{at, q.queued, e})
	h := q.heap
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(&h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func (q *eventQueue) pop() event {
	h := q.heap
	first := h[0].event
	last := len(h) - 1
	h[0], h[last] = h[last], queuedEvent{}
	h = h[:last]
	q.heap = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1].before(&h[child]) {
			child++
		}
		if !h[child].before(&h[i]) {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	return first
}
