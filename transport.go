package memberlist

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// Address is a network address and, optionally, the name of the node that is
// expected there.
type Address struct {
	// Addr is a "host:port" pair; an IPv6 host is bracketed. It must
	// not be empty.
	Addr string

	// Name is the name of the node. It can be empty, unless
	// Config.RequireNodeNames is set. Only a NodeAwareTransport receives it, and
	// may route by it.
	Name string
}

// String returns "name (host:port)", or "host:port" if there is no name.
func (a *Address) String() string {
	if a.Name == "" {
		return a.Addr
	}
	return a.Name + " (" + a.Addr + ")"
}

// Packet is a packet that was received.
type Packet struct {
	// Buf is the whole packet. It belongs to the receiver of the Packet, who may
	// keep and modify it. The transport must not use it any more.
	Buf []byte

	// From is the address of the sender as the transport sees it. Answers go
	// there if the packet does not name an address.
	From net.Addr

	// Timestamp is the time at which the packet arrived, taken as close to the
	// network as possible. Round trip times are computed from it, so it must come
	// from time.Now.
	Timestamp time.Time
}

// Transport provides unreliable packets and reliable streams between addresses of
// the form "host:port". NetTransport implements it with UDP and TCP. Set another
// implementation in Config.Transport.
//
// All methods must be safe for concurrent use. Package transporttest is a test
// suite for implementations.
type Transport interface {
	// FinalAdvertiseAddr returns the address and port that other nodes use to
	// reach this one. ip and port are Config.AdvertiseAddr and
	// Config.AdvertisePort, which can be empty and zero. It can be called several
	// times, so it must return the same result while nothing changes. It should
	// fail after Shutdown, so that Create can detect a transport that was shut
	// down.
	FinalAdvertiseAddr(ip string, port int) (net.IP, int, error)

	// WriteTo sends one packet to addr. It must not wait for more than the local
	// network stack. It returns the time at which the packet was sent, from
	// time.Now, as the start of a round trip measurement. A nil error does not
	// mean that the packet arrived.
	//
	// The library does not use b after the call. The transport may keep it but
	// must not modify it, since the same bytes can be passed again.
	WriteTo(b []byte, addr string) (time.Time, error)

	// PacketCh returns the channel of received packets, the same for each call.
	// One goroutine reads it until Shutdown has returned.
	PacketCh() <-chan *Packet

	// DialTimeout opens a stream to addr, giving up after timeout.
	DialTimeout(addr string, timeout time.Duration) (net.Conn, error)

	// StreamCh returns the channel of streams that others opened, the same for
	// each call. One goroutine reads it until Shutdown has returned. A connection
	// belongs to its receiver.
	StreamCh() <-chan net.Conn

	// Shutdown stops the transport and releases its resources. The library calls
	// it once and reads both channels until it returns, so it may wait for
	// goroutines that send to them. Nothing may be sent to the channels after it
	// has returned.
	Shutdown() error
}

// NodeAwareTransport is a Transport that also receives the names of the nodes it
// sends to. Other transports receive only addresses.
type NodeAwareTransport interface {
	Transport

	// WriteToAddress is WriteTo for an address with a name.
	WriteToAddress(b []byte, addr Address) (time.Time, error)

	// DialAddressTimeout is DialTimeout for an address with a name.
	DialAddressTimeout(addr Address, timeout time.Duration) (net.Conn, error)
}

// IngestionAwareTransport is a transport that takes packets and streams from a
// program that accepts connections itself.
//
// Deprecated: The library does not use it. It exists for compatibility.
type IngestionAwareTransport interface {
	// IngestPacket reads conn to its end and delivers the bytes as one packet
	// from addr that was received at now. If shouldClose is set it then closes
	// conn.
	IngestPacket(conn net.Conn, addr net.Addr, now time.Time, shouldClose bool) error

	// IngestStream delivers conn as if it had been accepted.
	IngestStream(conn net.Conn) error
}

// addressOnlyTransport gives a plain Transport the methods of a
// NodeAwareTransport by dropping the names (P11).
type addressOnlyTransport struct {
	Transport
}

func (t addressOnlyTransport) WriteToAddress(b []byte, addr Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

func (t addressOnlyTransport) DialAddressTimeout(addr Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// nodeAware returns t itself if it takes node names, else t wrapped so that it
// does; wrapped tells which, so that the caller can log it (P11).
func nodeAware(t Transport) (aware NodeAwareTransport, wrapped bool) {
	if aware, ok := t.(NodeAwareTransport); ok {
		return aware, false
	}
	return addressOnlyTransport{t}, true
}

// datagram is a received packet on the direct way from NetTransport into the
// library. buf is lent: it is valid until the handler returns.
type datagram struct {
	buf   []byte
	from  netip.AddrPort
	other net.Addr // the sender, if it is ingested and from cannot say who that is
	at    time.Time
}

// directTransport is a transport that hands over what it receives without a channel,
// in memory that it lends, and sends without keeping the packet. [NetTransport] is one.
type directTransport interface {
	// claim reports whether the caller is the first node that uses the transport.
	claim() bool

	// receiveDirect and acceptDirect bring packets and streams straight to handlers.
	receiveDirect(newHandler func(forGood bool) func([]datagram))
	acceptDirect(handler func(net.Conn))

	// sendDirect sends a packet, and sendDirectBatch several, without waiting for the
	// network.
	sendDirect(packet []byte, to netip.AddrPort) error
	sendDirectBatch(batch []outDatagram)

	// dial opens a stream, until ctx ends.
	dial(ctx context.Context, addr string, timeout time.Duration) (net.Conn, error)

	// streamAddrs are the addresses at which streams are accepted.
	streamAddrs() []netip.AddrPort
}

// asDirect returns t if it takes packets directly. A transport of a program that embeds
// a NetTransport has its methods too, but wants to see what is sent, so only the type
// itself counts.
func asDirect(t Transport) (direct directTransport, ok bool) {
	nt, ok := t.(*NetTransport)
	if !ok {
		return nil, false
	}
	return nt, true
}
