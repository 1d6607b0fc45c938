package transporttest

import (
	"bytes"
	"errors"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// memoryNetwork connects transports whose types are of no memberlist: the suite needs
// none, and a program that imports it must not need one for the suite's own tests.
type memoryNetwork struct {
	mu         sync.Mutex
	transports map[string]*memoryTransport
}

type (
	memoryPacket struct {
		Buf       []byte
		From      net.Addr
		Timestamp time.Time
	}

	memoryAddress struct{ Addr, Name string }

	memoryAddr string
)

func (a memoryAddr) Network() string { return "memory" }
func (a memoryAddr) String() string  { return string(a) }

type memoryTransport struct {
	network *memoryNetwork
	port    int
	addr    string
	packets chan *memoryPacket
	streams chan net.Conn
	done    chan struct{}
}

var errDown = errors.New("nobody is there")

func (n *memoryNetwork) open() *memoryTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.transports == nil {
		n.transports = map[string]*memoryTransport{}
	}
	m := &memoryTransport{network: n, port: len(n.transports) + 1}
	m.addr = "127.0.0.1:" + strconv.Itoa(m.port)
	m.packets, m.streams, m.done = make(chan *memoryPacket, 1024), make(chan net.Conn), make(chan struct{})
	n.transports[m.addr] = m
	return m
}

func (m *memoryTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(127, 0, 0, 1), m.port, nil
}

func (m *memoryTransport) PacketCh() <-chan *memoryPacket { return m.packets }
func (m *memoryTransport) StreamCh() <-chan net.Conn      { return m.streams }

func (m *memoryTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	m.network.mu.Lock()
	defer m.network.mu.Unlock()
	if to := m.network.transports[addr]; to != nil {
		select {
		case to.packets <- &memoryPacket{bytes.Clone(b), memoryAddr(m.addr), time.Now()}:
		default: // lost
		}
	}
	return time.Now(), nil
}

func (m *memoryTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	m.network.mu.Lock()
	to := m.network.transports[addr]
	m.network.mu.Unlock()
	if to == nil {
		return nil, errDown
	}
	near, far := net.Pipe()
	select {
	case to.streams <- far:
		return near, nil
	case <-to.done:
	case <-time.After(timeout):
	}
	return nil, errDown
}

func (m *memoryTransport) WriteToAddress(b []byte, addr memoryAddress) (time.Time, error) {
	return m.WriteTo(b, addr.Addr)
}

func (m *memoryTransport) DialAddressTimeout(addr memoryAddress, timeout time.Duration) (net.Conn, error) {
	return m.DialTimeout(addr.Addr, timeout)
}

func (m *memoryTransport) Shutdown() error {
	m.network.mu.Lock()
	defer m.network.mu.Unlock()
	delete(m.network.transports, m.addr)
	close(m.done)
	for range len(m.packets) {
		<-m.packets
	}
	return nil
}

// The names of nodes are looked for whatever the type of an address is.
func TestNodeAwarenessIsSeen(t *testing.T) {
	var network memoryNetwork
	m := network.open()
	if _, ok := nodeAwareOf(m); !ok {
		t.Error("a transport that takes names is taken for one that does not")
	}
	if _, ok := nodeAwareOf(struct{ calls }{m}); ok {
		t.Error("a transport without names is taken for one that takes them")
	}
}
