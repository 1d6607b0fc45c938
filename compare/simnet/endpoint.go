package simnet

import (
	"bytes"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// StallMode says what becomes of a process's sends while it is stalled.
type StallMode int

const (
	// StallBlocks is the manner of the Lifeguard paper: whoever sends is
	// blocked just before it, until the stall ends.
	StallBlocks StallMode = iota
	// StallQueues lets the sender run on; what it sends leaves when the stall ends.
	StallQueues
)

// Traffic counts what an endpoint has sent and lost.
type Traffic struct {
	Packets, PacketBytes int // handed to the network, whether or not they arrived
	Streams, StreamBytes int // streams opened, and bytes written to streams
	Overflow             int // packets dropped because the socket queue was full
}

// Endpoint is one address on the network: a packet socket and a stream
// listener. Its faults are those of the host or process behind it.
type Endpoint struct {
	net   *Network
	addr  netip.AddrPort
	text  string
	udp   *net.UDPAddr
	tcp   *net.TCPAddr
	place [2]float64

	// receive takes a packet over and reports false when it has no room.
	// It is called with the network's mutex held and must not block.
	receive func(buf []byte, from net.Addr, at time.Time) bool
	accept  chan net.Conn
	done    chan struct{} // closed by Close

	// guarded by net.mu
	closed          bool
	cutIn, cutOut   bool
	side            int
	lossIn, lossOut float64
	traffic         Traffic
	stalled         bool
	stallMode       StallMode
	stalledUntil    time.Duration
	stallEnd        *sync.Cond
	heldIn          []heldPacket
	heldOut         []heldPacket
	heldStreams     []net.Conn
}

// heldPacket waits for the end of a stall, on its way in or out.
type heldPacket struct {
	buf  []byte
	peer *Endpoint
}

// acceptBacklog is how many streams wait to be accepted; further ones are not answered.
const acceptBacklog = 128

func newEndpoint(n *Network, addr netip.AddrPort) *Endpoint {
	hash := fnv.New64a()
	ip := addr.Addr().As16()
	hash.Write(ip[:])
	place := rand.New(rand.NewPCG(hash.Sum64(), 0))
	return &Endpoint{
		net:      n,
		addr:     addr,
		text:     addr.String(),
		udp:      net.UDPAddrFromAddrPort(addr),
		tcp:      net.TCPAddrFromAddrPort(addr),
		place:    [2]float64{place.Float64(), place.Float64()},
		accept:   make(chan net.Conn, acceptBacklog),
		done:     make(chan struct{}),
		stallEnd: sync.NewCond(&n.mu),
	}
}

// Addr is the endpoint's own address.
func (e *Endpoint) Addr() netip.AddrPort { return e.addr }

// Traffic is what was counted so far.
func (e *Endpoint) Traffic() Traffic {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	return e.traffic
}

// OnPacket sets where arriving packets go. The function is called from the
// network's goroutine, must not block, and reports false when it has no room.
func (e *Endpoint) OnPacket(receive func(buf []byte, from net.Addr, at time.Time) bool) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.receive = receive
}

// Streams is where accepted streams come out.
func (e *Endpoint) Streams() <-chan net.Conn { return e.accept }

// Closed is closed by Close.
func (e *Endpoint) Closed() <-chan struct{} { return e.done }

// Close takes the endpoint off the network as the death of its process does:
// packets to it vanish, its streams are reset, new ones are refused.
func (e *Endpoint) Close() {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.closed {
		return
	}
	e.closed = true
	close(e.done)
	e.heldIn, e.heldOut, e.heldStreams = nil, nil, nil
	for s := range e.net.streams {
		if s.local == e {
			s.abort()
		}
	}
	e.stallEnd.Broadcast()
}

// CutIn makes the endpoint deaf: nothing reaches it.
func (e *Endpoint) CutIn(on bool) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.cutIn = on
}

// CutOut makes the endpoint mute: nothing leaves it.
func (e *Endpoint) CutOut(on bool) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.cutOut = on
}

// SetSide puts the endpoint on one side of a partition; only endpoints of the
// same side reach each other. All start on side 0.
func (e *Endpoint) SetSide(side int) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.side = side
}

// SetLoss sets the endpoint's own loss rates, which add to those of the network.
func (e *Endpoint) SetLoss(in, out float64) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.lossIn, e.lossOut = in, out
}

// Stall blocks the process behind the endpoint just before each send and just
// after each receive, for d from now. Its timers go on. What arrives waits in
// the socket queue as far as there is room; streams are accepted on its behalf,
// but neither handed over nor read.
func (e *Endpoint) Stall(d time.Duration, mode StallMode) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.closed || e.net.closed {
		return
	}
	e.stalled = true
	e.stallMode = mode
	e.stalledUntil = e.net.Now() + d
	e.net.schedule(e.stalledUntil, (*stallOver)(e))
}

// stallOver is the event that ends an endpoint's stall.
type stallOver Endpoint

func (o *stallOver) fire(n *Network, now time.Duration) {
	e := (*Endpoint)(o)
	if !e.stalled || now < e.stalledUntil {
		return
	}
	e.stalled = false
	out, in, streams := e.heldOut, e.heldIn, e.heldStreams
	e.heldOut, e.heldIn, e.heldStreams = nil, nil, nil
	for _, p := range out {
		n.carry(e, p.peer, p.buf)
	}
	for _, p := range in {
		e.take(p.buf, p.peer)
	}
	for _, conn := range streams {
		e.handOver(conn)
	}
	for s := range n.streams {
		if s.local == e {
			s.changed.Broadcast()
		}
	}
	e.stallEnd.Broadcast()
}

// waitWhileBlocked returns when the endpoint may send; net.mu is held.
func (e *Endpoint) waitWhileBlocked() {
	for e.stalled && e.stallMode == StallBlocks && !e.closed && !e.net.closed {
		e.stallEnd.Wait()
	}
}

// Send sends one packet to an address. Like a socket, it succeeds whether or
// not anybody is there. The buffer is copied.
func (e *Endpoint) Send(buf []byte, to string) (time.Time, error) {
	n := e.net
	n.mu.Lock()
	defer n.mu.Unlock()
	e.waitWhileBlocked()
	if e.closed || n.closed {
		return time.Time{}, net.ErrClosed
	}
	e.traffic.Packets++
	e.traffic.PacketBytes += len(buf)
	peer := n.endpoints[to]
	if err := n.watch(e, to, buf); err != nil {
		return time.Time{}, err
	}
	switch {
	case peer == nil:
	case e.stalled:
		e.heldOut = append(e.heldOut, heldPacket{bytes.Clone(buf), peer})
	default:
		n.carry(e, peer, bytes.Clone(buf))
	}
	return time.Now(), nil
}

// carry puts a packet on its way; n.mu is held and buf is the network's own.
func (n *Network) carry(from, to *Endpoint, buf []byte) {
	if !n.passes(from, to, false) {
		return
	}
	copies := 1
	if n.happens(n.conditions.Duplicate) {
		copies = 2
	}
	for i := range copies {
		if i > 0 {
			buf = bytes.Clone(buf)
		}
		delay := n.delay(from, to)
		if n.happens(n.conditions.Reorder) {
			delay += time.Duration(n.rng.Float64() * float64(n.conditions.ReorderBy))
		}
		n.schedule(n.Now()+delay, &datagram{buf, from, to})
	}
}

// datagram is a packet under way.
type datagram struct {
	buf      []byte
	from, to *Endpoint
}

func (d *datagram) fire(n *Network, _ time.Duration) {
	if n.open(d.from, d.to, false) {
		d.to.take(d.buf, d.from)
	}
}

// take puts an arriving packet into the socket queue; net.mu is held.
func (e *Endpoint) take(buf []byte, from *Endpoint) {
	switch {
	case e.closed:
	case e.stalled && len(e.heldIn) < e.net.conditions.SocketQueue:
		e.heldIn = append(e.heldIn, heldPacket{buf, from})
	case e.stalled:
		e.traffic.Overflow++
	case e.receive == nil || !e.receive(buf, from.udp, time.Now()):
		e.traffic.Overflow++
	}
}

// QueueLength is how many packets the socket holds.
func (e *Endpoint) QueueLength() int { return e.net.conditions.SocketQueue }
