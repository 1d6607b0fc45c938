// Package simnet is a network in memory for clusters in virtual time. Endpoints
// have an IP address and a port, exchange datagrams and open streams, and the
// network between them can be cut. It knows nothing of any library: adapters
// dress an endpoint as the transport that a library wants.
//
// Everything waits on channels, timers and condition variables only, so a
// network that is made inside a testing/synctest bubble runs in its time.
package simnet

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// socketBuffer is how many datagrams wait at an endpoint before more are lost.
const socketBuffer = 4096

// Filter says whether something from one endpoint may reach another.
type Filter func(from, to netip.AddrPort, stream bool) bool

// Tap sees every datagram that is sent, also those that are lost later.
type Tap func(from, to netip.AddrPort, packet []byte)

// Network connects endpoints. Its zero value is ready and has no latency.
type Network struct {
	// Latency is how long datagrams and stream openings take.
	// It must not change once endpoints exist.
	Latency time.Duration

	mu        sync.Mutex
	endpoints map[netip.AddrPort]*Endpoint
	filter    Filter
	taps      []Tap
	overflow  int
}

// SetFilter puts a filter in place of the one before; nil lets everything pass.
func (n *Network) SetFilter(f Filter) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filter = f
}

// Watch adds a tap, which is called while datagrams are sent, from any goroutine.
func (n *Network) Watch(t Tap) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taps = append(n.taps, t)
}

// Overflow is how many datagrams were lost because nobody read them in time.
func (n *Network) Overflow() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.overflow
}

// Isolate lets nothing in or out of the given addresses, until the next
// SetFilter.
func (n *Network) Isolate(addrs ...netip.AddrPort) {
	apart := make(map[netip.AddrPort]bool)
	for _, a := range addrs {
		apart[a] = true
	}
	n.SetFilter(func(from, to netip.AddrPort, _ bool) bool { return !apart[from] && !apart[to] })
}

// Open attaches an endpoint. The address must be free.
func (n *Network) Open(addr netip.AddrPort) (*Endpoint, error) {
	e := &Endpoint{
		net:     n,
		addr:    addr,
		packets: make(chan Datagram, socketBuffer),
		streams: make(chan net.Conn, 128),
		closed:  make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.endpoints[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: syscall.EADDRINUSE}
	}
	if n.endpoints == nil {
		n.endpoints = make(map[netip.AddrPort]*Endpoint)
	}
	n.endpoints[addr] = e
	return e, nil
}

// reach finds the endpoint that a sender would reach now, or nil.
func (n *Network) reach(from, to netip.AddrPort, stream bool) (*Endpoint, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	open := n.filter == nil || n.filter(from, to, stream)
	return n.endpoints[to], open
}

// Datagram is one received packet.
type Datagram struct {
	Buf  []byte
	From net.Addr
	At   time.Time
}

// Endpoint is one host's place in the network.
type Endpoint struct {
	net       *Network
	addr      netip.AddrPort
	packets   chan Datagram
	streams   chan net.Conn
	closed    chan struct{}
	closeOnce sync.Once
}

// Addr is where others reach the endpoint.
func (e *Endpoint) Addr() netip.AddrPort { return e.addr }

// Packets and Streams are what arrives. They are never closed; see Closed.
func (e *Endpoint) Packets() <-chan Datagram { return e.packets }

// Streams are the connections that others opened.
func (e *Endpoint) Streams() <-chan net.Conn { return e.streams }

// Closed is closed by Close.
func (e *Endpoint) Closed() <-chan struct{} { return e.closed }

// Close detaches the endpoint; its address becomes free.
func (e *Endpoint) Close() {
	e.closeOnce.Do(func() {
		e.net.mu.Lock()
		delete(e.net.endpoints, e.addr)
		e.net.mu.Unlock()
		close(e.closed)
	})
}

func (e *Endpoint) isClosed() bool {
	select {
	case <-e.closed:
		return true
	default:
		return false
	}
}

// Send sends a datagram to "ip:port". Like UDP it tells nothing of its fate.
func (e *Endpoint) Send(packet []byte, to string) error {
	dst, err := netip.ParseAddrPort(to)
	if err != nil {
		return fmt.Errorf("simnet: send: %w", err)
	}
	buf := append([]byte(nil), packet...)
	e.net.mu.Lock()
	taps := e.net.taps
	e.net.mu.Unlock()
	for _, t := range taps {
		t(e.addr, dst, buf)
	}
	if e.isClosed() {
		return &net.OpError{Op: "write", Net: "udp", Err: net.ErrClosed}
	}
	if _, open := e.net.reach(e.addr, dst, false); !open {
		return nil
	}
	if e.net.Latency == 0 {
		e.deliver(buf, dst)
		return nil
	}
	time.AfterFunc(e.net.Latency, func() { e.deliver(buf, dst) })
	return nil
}

func (e *Endpoint) deliver(buf []byte, to netip.AddrPort) {
	dst, open := e.net.reach(e.addr, to, false)
	if dst == nil || !open {
		return
	}
	d := Datagram{Buf: buf, From: net.UDPAddrFromAddrPort(e.addr), At: time.Now()}
	select {
	case dst.packets <- d:
	default:
		e.net.mu.Lock()
		e.net.overflow++
		e.net.mu.Unlock()
	}
}

// Dial opens a stream to "ip:port". An address without endpoint refuses at
// once; a cut link swallows the attempt until the timeout is over.
func (e *Endpoint) Dial(to string, timeout time.Duration) (net.Conn, error) {
	dst, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, fmt.Errorf("simnet: dial: %w", err)
	}
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(dst), Err: err}
	}
	if e.isClosed() {
		return fail(net.ErrClosed)
	}
	time.Sleep(e.net.Latency)
	target, open := e.net.reach(e.addr, dst, true)
	if !open {
		time.Sleep(timeout)
		return fail(syscall.ETIMEDOUT)
	}
	if target == nil {
		return fail(syscall.ECONNREFUSED)
	}
	near, far := newConnPair(net.TCPAddrFromAddrPort(e.addr), net.TCPAddrFromAddrPort(dst))
	select {
	case target.streams <- far:
		return near, nil
	case <-target.closed:
	case <-e.closed:
	}
	near.Close()
	far.Close()
	return fail(syscall.ECONNREFUSED)
}
