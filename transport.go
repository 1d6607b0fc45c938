package memberlist

import (
	"net"
	"net/netip"
	"time"
)

// Address says where to send: a network address and, optionally, the name of
// the node that is expected there.
type Address struct {
	// Addr is a "host:port" pair; an IPv6 host is bracketed. It must
	// not be empty.
	Addr string

	// Name is the name of the node. It may be empty, unless the
	// configuration requires node names. Only a NodeAwareTransport learns it,
	// and it is free to route by it.
	Name string
}

// String returns the address for people to read: "name (host:port)", or
// "host:port" if there is no name.
func (a *Address) String() string {
	if a.Name == "" {
		return a.Addr
	}
	return a.Name + " (" + a.Addr + ")"
}

// Packet is one packet as it came from the network.
type Packet struct {
	// Buf holds the whole packet. It belongs to whoever took the Packet from
	// the channel, who may keep and change it; the transport must neither
	// read nor write it any more.
	Buf []byte

	// From is the address of the sender, as the transport sees it. Answers
	// to a packet that does not say where to answer go there.
	From net.Addr

	// Timestamp is the time at which the packet arrived, taken as close to
	// the network as the transport can. Round-trip times are computed from
	// it, so it must come from the clock of this process (time.Now).
	Timestamp time.Time
}

// Transport is what the library needs from a network: unreliable packets and
// reliable streams between addresses of the form "host:port". NetTransport is
// the one for UDP and TCP; others are set in Config.Transport.
//
// All methods are called from several goroutines at once. The package
// transporttest holds a suite of tests that an implementation should pass.
type Transport interface {
	// FinalAdvertiseAddr returns the address and port that other nodes are
	// told to use. It is given the configured AdvertiseAddr and
	// AdvertisePort, which may be empty and zero, and is called at least
	// twice, so it must give the same answer while nothing changes.
	// It should fail after Shutdown: by that Create notices that it was given
	// a transport which cannot be used any more.
	FinalAdvertiseAddr(ip string, port int) (net.IP, int, error)

	// WriteTo sends one packet to addr without waiting for anything but
	// the local network stack, and returns the time as close as possible
	// after it was sent, the start of a round-trip measurement. Like
	// Packet.Timestamp it comes from time.Now. Nil does not mean that the
	// packet arrived.
	//
	// The library never touches b after the call, and the transport may
	// keep it, but must not change it: the same bytes can be handed over
	// again.
	WriteTo(b []byte, addr string) (time.Time, error)

	// PacketCh returns the channel of received packets, always the same.
	// One goroutine reads it until Shutdown has returned.
	PacketCh() <-chan *Packet

	// DialTimeout opens a stream to addr, giving up after timeout.
	DialTimeout(addr string, timeout time.Duration) (net.Conn, error)

	// StreamCh returns the channel of streams opened by others, always the
	// same. One goroutine reads it until Shutdown has returned. A
	// connection belongs to whoever took it from the channel.
	StreamCh() <-chan net.Conn

	// Shutdown stops the transport and releases what it holds. The library
	// calls it once, and goes on reading both channels until it returns, so
	// it may wait for its own senders. Nothing may be sent to the
	// channels after it has returned.
	Shutdown() error
}

// NodeAwareTransport is a Transport that is also told the names of the nodes
// it sends to. A transport without this is given the addresses alone.
type NodeAwareTransport interface {
	Transport

	// WriteToAddress is WriteTo for an address with a name.
	WriteToAddress(b []byte, addr Address) (time.Time, error)

	// DialAddressTimeout is DialTimeout for an address with a name.
	DialAddressTimeout(addr Address, timeout time.Duration) (net.Conn, error)
}

// IngestionAwareTransport is a transport that can be fed from outside, by a
// program that accepts connections itself.
//
// Deprecated: the library makes no use of it. It stays for programs that
// name it.
type IngestionAwareTransport interface {
	// IngestPacket reads conn to its end and delivers what came as one
	// packet from addr that was received at now. With shouldClose it closes
	// conn afterwards.
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
