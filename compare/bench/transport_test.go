package bench

import (
	"bytes"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/seed-83836a96/memberlist/compare/bench/lib"
)

// The node under test and the one that talks to it.
var (
	selfIP   = net.IPv4(10, 255, 0, 1).To4()
	selfPort = 7946
	peerAddr = &net.UDPAddr{IP: net.IPv4(10, 255, 0, 2).To4(), Port: 7946}
)

// packetDepth is how many packets wait in front of the node. A few, so that
// handing one over does not cost a change of goroutines each time.
const packetDepth = 16

// memTransport is a transport without a network: the benchmark puts packets and
// connections in, and sees what comes out.
type memTransport struct {
	packets chan *lib.Packet
	streams chan net.Conn

	dial   func() net.Conn // what the node gets when it dials; nil: nobody is there
	onSend func([]byte)    // sees each packet; may be nil

	sent     atomic.Int64 // packets
	sentSize atomic.Int64 // length of the last one
	target   atomic.Int64
	reached  chan struct{} // told when sent gets to target
}

func newMemTransport() *memTransport {
	return &memTransport{
		packets: make(chan *lib.Packet, packetDepth),
		streams: make(chan net.Conn),
		reached: make(chan struct{}, 1),
	}
}

// expectSent arranges that reached tells when n more packets have been sent.
func (t *memTransport) expectSent(n int) {
	t.target.Store(t.sent.Load() + int64(n))
}

// newPacket makes what a transport hands over. The node owns the memory.
func newPacket(content []byte) *lib.Packet {
	return &lib.Packet{Buf: bytes.Clone(content), From: peerAddr, Timestamp: processStart}
}

// batch is packets that are fed over and over. Their memory is used again, which
// a real transport could not do, so that the benchmark makes no garbage of its
// own. It may only be used where nothing of a packet outlives its handling.
type batch struct {
	contents [][]byte
	memory   [][]byte
	packets  []*lib.Packet
}

func newBatch(contents [][]byte) *batch {
	b := &batch{contents: contents}
	for _, c := range contents {
		p := newPacket(c)
		b.memory = append(b.memory, p.Buf)
		b.packets = append(b.packets, p)
	}
	return b
}

// fresh restores the packets, which may have been decrypted in place.
func (b *batch) fresh() []*lib.Packet {
	for i, p := range b.packets {
		copy(b.memory[i], b.contents[i])
		*p = lib.Packet{Buf: b.memory[i], From: peerAddr, Timestamp: processStart}
	}
	return b.packets
}

// processStart stands for all times, since asking for the time is not the
// node's work.
var processStart = time.Now()

func (t *memTransport) WriteTo(b []byte, _ string) (time.Time, error) {
	if t.onSend != nil {
		t.onSend(b)
	}
	t.sentSize.Store(int64(len(b)))
	if t.sent.Add(1) == t.target.Load() {
		t.reached <- struct{}{}
	}
	return processStart, nil
}

func (t *memTransport) WriteToAddress(b []byte, a lib.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

func (t *memTransport) DialTimeout(string, time.Duration) (net.Conn, error) {
	if t.dial == nil {
		return nil, errors.New("nobody is there")
	}
	return t.dial(), nil
}

func (t *memTransport) DialAddressTimeout(a lib.Address, d time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, d)
}

func (t *memTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return selfIP, selfPort, nil
}

func (t *memTransport) PacketCh() <-chan *lib.Packet { return t.packets }
func (t *memTransport) StreamCh() <-chan net.Conn    { return t.streams }
func (t *memTransport) Shutdown() error              { return nil }

// memConn is a connection whose other end has written everything already and
// takes whatever comes.
type memConn struct {
	in     *bytes.Reader
	closed chan struct{} // told at Close; may be nil
}

func (c *memConn) Read(p []byte) (int, error) { return c.in.Read(p) }

func (c *memConn) Write(p []byte) (int, error) { return len(p), nil }

func (c *memConn) Close() error {
	if c.closed != nil {
		close(c.closed)
		c.closed = nil
	}
	return nil
}

func (c *memConn) LocalAddr() net.Addr              { return &net.TCPAddr{IP: selfIP, Port: selfPort} }
func (c *memConn) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: peerAddr.IP, Port: peerAddr.Port} }
func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
