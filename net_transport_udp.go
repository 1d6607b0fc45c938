package memberlist

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// readBufferSize is more than a UDP datagram can hold.
	readBufferSize = 65536

	// socketBuffer is asked for as buffer of a UDP socket, in bytes (P130).
	socketBuffer = 2 << 20
)

// udpSocket is one bound UDP socket.
type udpSocket struct {
	conn *net.UDPConn
	io   datagramIO

	// What it can send to. A socket for all interfaces reaches both.
	ipv4, ipv6 bool
}

// datagramIO reads and writes the datagrams of a socket. One goroutine receives;
// any number of them send. Closing the socket ends both.
type datagramIO interface {
	// receive waits until something arrives and calls handle with it, once or
	// several times. What handle gets is lent until it returns. Senders are
	// unmapped.
	receive(handle func([]datagram)) error

	// send tries to send all of a batch, and sets the errors of those that it
	// could not send.
	send(batch []outDatagram)
}

// outDatagram is a datagram to send, and what went wrong with it.
type outDatagram struct {
	buf []byte
	to  netip.AddrPort
	err error
}

// newDatagramIOFunc makes the datagramIO of a socket.
type newDatagramIOFunc func(conn *net.UDPConn, ipv6 bool) (datagramIO, error)

// openUDP binds a socket and gives it large buffers. It closes the socket if it
// fails.
func openUDP(ip netip.Addr, port int, newIO newDatagramIOFunc) (*udpSocket, error) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: ip.AsSlice(), Port: port, Zone: ip.Zone()})
	if err != nil {
		return nil, err
	}
	s := &udpSocket{conn: conn}
	s.ipv4, s.ipv6 = protocolsOf(ip, conn.LocalAddr().(*net.UDPAddr).IP)
	if err := enlargeBuffers(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	s.io, err = newIO(conn, s.ipv6)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

// protocolsOf tells which protocols a socket speaks that was asked to bind to
// one address and says that it is bound to another: for all interfaces the
// system picks IPv6, which includes IPv4, where it has it.
func protocolsOf(asked netip.Addr, bound net.IP) (ipv4, ipv6 bool) {
	ipv6 = bound.To4() == nil
	ipv4 = !ipv6 || !asked.IsValid() || asked.IsUnspecified()
	return ipv4, ipv6
}

func (s *udpSocket) reaches(addr netip.Addr) bool {
	if addr.Is4() {
		return s.ipv4
	}
	return s.ipv6
}

func (s *udpSocket) send(buf []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteToUDPAddrPort(buf, to)
	return err
}

// enlargeBuffers makes the buffers of a socket as large as the system allows, up
// to socketBuffer, so that a burst is not lost while a node is busy. Without a
// receive buffer it fails (P130); the send buffer only makes writes wait less.
func enlargeBuffers(conn *net.UDPConn) error {
	if forceBuffers(conn) {
		return nil
	}
	if err := enlarge(conn.SetReadBuffer); err != nil {
		return fmt.Errorf("failed to set the UDP receive buffer: %w", err)
	}
	_ = enlarge(conn.SetWriteBuffer)
	return nil
}

// enlarge halves the size until the system accepts it.
func enlarge(set func(bytes int) error) (err error) {
	for size := socketBuffer; size > 0; size /= 2 {
		if err = set(size); err == nil {
			return nil
		}
	}
	return err
}

// datagramBuffers holds buffers of readBufferSize bytes for reading.
var datagramBuffers = sync.Pool{New: func() any { return new([readBufferSize]byte) }}

// plainIO reads and writes datagrams one by one, as every platform can.
type plainIO struct {
	conn *net.UDPConn
	one  [1]datagram
}

func newPlainIO(conn *net.UDPConn, _ bool) (datagramIO, error) {
	return &plainIO{conn: conn}, nil
}

func (p *plainIO) receive(handle func([]datagram)) error {
	buf := datagramBuffers.Get().(*[readBufferSize]byte)
	defer datagramBuffers.Put(buf)
	n, from, err := p.conn.ReadFromUDPAddrPort(buf[:])
	if err != nil {
		return err
	}
	p.one[0] = datagram{buf: buf[:n], from: unmapAddrPort(from), at: time.Now()}
	handle(p.one[:])
	return nil
}

func (p *plainIO) send(batch []outDatagram) {
	for i := range batch {
		d := &batch[i]
		_, d.err = p.conn.WriteToUDPAddrPort(d.buf, unmapAddrPort(d.to))
	}
}
