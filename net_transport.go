package memberlist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-metrics"
)

const (
	// portAttempts is how often a port of the system's choice is tried, since
	// one that is free for TCP can be taken for UDP (P10).
	portAttempts = 10

	// ingestLimit bounds a packet that comes by IngestPacket. No datagram
	// is near it.
	ingestLimit = 1 << 20
)

// NetTransportConfig holds the settings of a NetTransport.
type NetTransportConfig struct {
	// BindAddrs are the IP addresses to listen on, at least one. The empty string,
	// "0.0.0.0" and "::" mean all interfaces. A host name, or an address with a
	// port, is an error.
	BindAddrs []string

	// BindPort is the UDP and TCP port for all addresses. Zero: the system chooses
	// a port that is free for all of them, and GetAutoBindPort returns it.
	BindPort int

	// Logger receives errors that no caller can be given, such as a failure to
	// accept a connection. Nil: log.Default().
	Logger *log.Logger

	// MetricLabels are attached to the metrics of the transport.
	MetricLabels []metrics.Label
}

// NetTransport carries packets over UDP and streams over TCP. Create makes one if
// Config.Transport is nil. Its methods are safe for concurrent use. A NetTransport
// must not be copied.
//
// It listens from NewNetTransport until Shutdown. While nobody receives from
// PacketCh, packets wait in the receive buffer of the socket and are lost when that
// is full.
type NetTransport struct {
	bindAddrs []string
	labels    []metrics.Label
	log       *logger

	tcp []*net.TCPListener
	udp []*udpSocket

	packets chan *Packet
	streams chan net.Conn

	// Closed when the library takes packets or streams without the
	// channels. The handlers are written before that and never again.
	packetsDirect     chan struct{}
	streamsDirect     chan struct{}
	packetsDirectOnce sync.Once
	streamsDirectOnce sync.Once
	newPacketHandler  func(forGood bool) func([]datagram)
	streamHandler     func(net.Conn)
	claimed           atomic.Bool // by a node

	ctx       context.Context // ends with Shutdown; gives up dials
	cancel    context.CancelFunc
	stopOnce  sync.Once
	stopErr   error
	listeners sync.WaitGroup // one per goroutine that reads or accepts
}

var (
	_ NodeAwareTransport      = (*NetTransport)(nil)
	_ IngestionAwareTransport = (*NetTransport)(nil)
)

// NewNetTransport opens a TCP and a UDP socket for each bind address and starts to
// listen. If one fails, it closes the others and returns the error. The caller ends
// the transport with Shutdown, unless a Memberlist does.
func NewNetTransport(config *NetTransportConfig) (*NetTransport, error) {
	classic := config.Logger
	if classic == nil {
		classic = log.Default()
	}
	logger, err := newLogger(&Config{Logger: classic})
	if err != nil {
		return nil, err
	}
	return openNetTransport(config, logger, newDatagramIO)
}

// openNetTransport is NewNetTransport with the logger of the library instead of
// config.Logger, and with a choice of how datagrams are read and written.
func openNetTransport(config *NetTransportConfig, log *logger, newIO newDatagramIOFunc) (*NetTransport, error) {
	if len(config.BindAddrs) == 0 {
		return nil, errors.New("at least one bind address is required")
	}
	t := &NetTransport{
		bindAddrs:     slices.Clone(config.BindAddrs),
		labels:        slices.Clip(slices.Clone(config.MetricLabels)),
		log:           log,
		packets:       make(chan *Packet), // unbuffered, as streams is (P133)
		streams:       make(chan net.Conn),
		packetsDirect: make(chan struct{}),
		streamsDirect: make(chan struct{}),
	}
	if err := t.open(config.BindPort, newIO); err != nil {
		return nil, err
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	for _, l := range t.tcp {
		t.listeners.Go(func() { t.acceptStreams(l) })
	}
	for _, s := range t.udp {
		t.listeners.Go(func() { t.readPackets(s) })
	}
	return t, nil
}

// open binds all sockets. A port that the system chose for the first of them can
// be taken for another one; then the next is tried.
func (t *NetTransport) open(port int, newIO newDatagramIOFunc) error {
	for attempt := 1; ; attempt++ {
		err := t.bind(port, newIO)
		if err == nil {
			return nil
		}
		chosen := port == 0 && len(t.tcp) > 0
		t.closeSockets()
		t.tcp, t.udp = nil, nil
		if !chosen || attempt == portAttempts {
			return err
		}
	}
}

// bind opens both sockets of each bind address (P129). What it opened before it
// failed is in t.
func (t *NetTransport) bind(port int, newIO newDatagramIOFunc) error {
	for _, addr := range t.bindAddrs {
		ip, err := bindIP(addr)
		if err != nil {
			return err
		}
		l, err := listenTCP(ip, port)
		if err != nil {
			return fmt.Errorf("failed to start TCP listener on %q port %d: %w", addr, port, err)
		}
		t.tcp = append(t.tcp, l)
		if port == 0 {
			port = l.Addr().(*net.TCPAddr).Port
		}
		s, err := openUDP(ip, port, newIO)
		if err != nil {
			return fmt.Errorf("failed to start UDP listener on %q port %d: %w", addr, port, err)
		}
		t.udp = append(t.udp, s)
	}
	return nil
}

// listenTCP listens for streams. They do not live long enough for keep-alives, and
// nobody opens them by multipath TCP; without these a stream takes a few system
// calls less.
func listenTCP(ip netip.Addr, port int) (*net.TCPListener, error) {
	host := ""
	if ip.IsValid() {
		host = ip.String()
	}
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// bindIP returns the address to bind to, which may be bracketed; the zero Addr means
// all interfaces. A name is refused: it was taken for all interfaces in the reference,
// so whoever wrote "localhost" was open to the world (P129).
func bindIP(addr string) (netip.Addr, error) {
	if addr == "" {
		return netip.Addr{}, nil
	}
	literal := addr
	if strings.HasPrefix(addr, "[") && strings.HasSuffix(addr, "]") {
		literal = addr[1 : len(addr)-1]
	}
	ip, err := netip.ParseAddr(literal)
	if err == nil {
		return ip.Unmap(), nil
	}
	wrong := "is no IP address"
	if _, _, err := net.SplitHostPort(addr); err == nil {
		wrong = "has a port, which belongs into BindPort"
	}
	return netip.Addr{}, fmt.Errorf("bind address %q %s: give an IP address, or nothing for all interfaces", addr, wrong)
}

// GetAutoBindPort returns the port that the transport listens on, whether it was
// configured or chosen by the system.
func (t *NetTransport) GetAutoBindPort() int {
	return t.boundAddr().Port
}

func (t *NetTransport) boundAddr() *net.TCPAddr {
	return t.tcp[0].Addr().(*net.TCPAddr)
}

// FinalAdvertiseAddr returns ip and port if ip is not empty. Otherwise it returns the
// address of the first listener. If that means all interfaces, it returns the address
// of this machine that others can most likely reach: a private address on an
// interface with a default route if there is one, else the first usable global
// unicast address. It fails after Shutdown.
//
// An IPv4 address has 4 bytes if it was configured, and 16 if it was found.
func (t *NetTransport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if t.stopped() {
		return nil, 0, errTransportClosed
	}
	if ip != "" {
		advertised := net.ParseIP(ip)
		if advertised == nil {
			return nil, 0, fmt.Errorf("failed to parse advertise address %q", ip)
		}
		if ip4 := advertised.To4(); ip4 != nil {
			advertised = ip4
		}
		return advertised, port, nil
	}
	bound := t.boundAddr()
	if !bound.IP.IsUnspecified() {
		return bound.IP, bound.Port, nil
	}
	found, err := findAdvertiseAddr()
	if err != nil {
		return nil, 0, err
	}
	return found, bound.Port, nil
}

// WriteTo sends b as one datagram. It uses the first socket that can send to the IP
// version of addr. It does not keep b.
func (t *NetTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := parseUDPAddr(addr)
	if err != nil {
		return time.Time{}, err
	}
	if err := t.sendDirect(b, to); err != nil {
		return time.Time{}, err
	}
	return time.Now(), nil
}

// WriteToAddress is WriteTo; the name is ignored.
func (t *NetTransport) WriteToAddress(b []byte, addr Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

// parseUDPAddr takes "ip:port", which costs some 30 ns and no allocation, and
// whatever else the net package understands.
func parseUDPAddr(addr string) (netip.AddrPort, error) {
	if parsed, err := netip.ParseAddrPort(addr); err == nil {
		return parsed, nil
	}
	resolved, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(resolved.IP) == 0 {
		return netip.AddrPort{}, &net.AddrError{Err: "missing host", Addr: addr}
	}
	return resolved.AddrPort(), nil
}

// sendDirect sends one datagram. buf may be used again when it returns.
func (t *NetTransport) sendDirect(buf []byte, to netip.AddrPort) error {
	to = unmapAddrPort(to)
	return t.socketFor(to.Addr()).send(buf, to)
}

// sendDirectBatch sends datagrams in as few system calls as the platform allows.
// All are tried; those that could not be sent have an error afterwards. The
// buffers may be used again when it returns.
func (t *NetTransport) sendDirectBatch(batch []outDatagram) {
	for len(batch) > 0 {
		// Mostly all leave from the same socket.
		s := t.socketFor(batch[0].to.Addr().Unmap())
		n := 1
		for n < len(batch) && t.socketFor(batch[n].to.Addr().Unmap()) == s {
			n++
		}
		s.io.send(batch[:n])
		batch = batch[n:]
	}
}

// socketFor returns the first socket that can send to addr (P134). If there is
// none, the first of all will say why.
func (t *NetTransport) socketFor(addr netip.Addr) *udpSocket {
	for _, s := range t.udp {
		if s.reaches(addr) {
			return s
		}
	}
	return t.udp[0]
}

// PacketCh returns the channel of received packets. It is unbuffered.
func (t *NetTransport) PacketCh() <-chan *Packet {
	return t.packets
}

// streamAddrs are the addresses at which streams are accepted.
func (t *NetTransport) streamAddrs() []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(t.tcp))
	for i, l := range t.tcp {
		addrs[i] = l.Addr().(*net.TCPAddr).AddrPort()
	}
	return addrs
}

// claim reports whether the caller is the first node that uses the transport.
func (t *NetTransport) claim() bool { return t.claimed.CompareAndSwap(false, true) }

// receiveDirect takes packets over from PacketCh: from now on each goroutine
// that reads a socket makes a handler of its own and calls it with what it read
// in one go, for good. A call of IngestPacket makes one for itself. Buffers and
// slice are lent until the handler returns. A packet that waits to be taken from
// the channel goes to a handler instead. Only the first call counts.
func (t *NetTransport) receiveDirect(newHandler func(forGood bool) func([]datagram)) {
	t.packetsDirectOnce.Do(func() {
		t.newPacketHandler = newHandler
		close(t.packetsDirect)
	})
}

// readPackets reads a socket until the transport is shut down.
func (t *NetTransport) readPackets(s *udpSocket) {
	in := packetInput{transport: t, forGood: true}
	take := in.take
	var delay retryDelay
	for {
		err := s.io.receive(take)
		if t.stopped() {
			return
		}
		if err == nil {
			delay.reset()
			continue
		}
		t.log.errorf("Error reading UDP packets", logFields{err: err}, "Error reading UDP packet: %v", err)
		if !t.pause(delay.next()) {
			return
		}
	}
}

// packetInput is one way for packets into the library: that of a goroutine that
// reads a socket, or of one call of IngestPacket.
type packetInput struct {
	transport *NetTransport
	forGood   bool             // its goroutine does nothing else
	handler   func([]datagram) // nil until packets go the direct way
}

// take passes on a batch of datagrams (P131).
func (in *packetInput) take(batch []datagram) {
	batch = in.transport.account(batch)
	for i := range batch {
		if in.direct() {
			in.handler(batch[i:])
			return
		}
		if in.offer(packetOf(batch[i])) {
			continue
		}
		if !in.direct() {
			return // shut down
		}
		in.handler(batch[i:])
		return
	}
}

// direct reports whether packets go to a handler, and sees to it that there is
// one.
func (in *packetInput) direct() bool {
	if in.handler != nil {
		return true
	}
	select {
	case <-in.transport.packetsDirect:
		in.handler = in.transport.newPacketHandler(in.forGood)
		return true
	default:
		return false
	}
}

// offer waits until p is taken from the channel, which it reports, until
// packets no longer go there, or until the transport is shut down.
func (in *packetInput) offer(p *Packet) bool {
	select {
	case in.transport.packets <- p:
		return true
	case <-in.transport.packetsDirect:
		return false
	case <-in.transport.ctx.Done():
		return false
	}
}

// packetOf copies a datagram, whose buffer is only lent, into a Packet, which
// belongs to the one that takes it.
func packetOf(d datagram) *Packet {
	return &Packet{
		Buf:       bytes.Clone(d.buf),
		From:      net.UDPAddrFromAddrPort(d.from),
		Timestamp: d.at,
	}
}

// account counts the bytes of each datagram (P147) and drops empty ones (P131).
func (t *NetTransport) account(batch []datagram) []datagram {
	kept := batch[:0]
	for _, d := range batch {
		metrics.IncrCounterWithLabels(metricUDPReceived, float32(len(d.buf)), t.labels)
		if len(d.buf) == 0 {
			from := d.from.String()
			t.log.errorf("Empty UDP packet", logFields{addr: from}, "UDP packet too short (0 bytes) %s", LogStringAddress(from))
			continue
		}
		kept = append(kept, d)
	}
	return kept
}

// DialTimeout opens a TCP connection. With a timeout of 0 the system decides when to
// give up. Shutdown cancels the attempt.
func (t *NetTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.dial(t.ctx, addr, timeout)
}

// dial is DialTimeout, given up when ctx ends. Streams do not live long enough for
// keep-alives, and setting them up takes three system calls.
func (t *NetTransport) dial(ctx context.Context, addr string, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout, KeepAlive: -1}
	return dialer.DialContext(ctx, "tcp", addr)
}

// DialAddressTimeout is DialTimeout; the name is ignored.
func (t *NetTransport) DialAddressTimeout(addr Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// StreamCh returns the channel of accepted connections. It is unbuffered.
func (t *NetTransport) StreamCh() <-chan net.Conn {
	return t.streams
}

// acceptDirect takes streams over from StreamCh: from now on handler is called
// with each, on a goroutine that accepts connections, so it must not block.
// A connection that waits to be taken from the channel goes to the handler
// instead. Only the first call counts.
func (t *NetTransport) acceptDirect(handler func(net.Conn)) {
	t.streamsDirectOnce.Do(func() {
		t.streamHandler = handler
		close(t.streamsDirect)
	})
}

// acceptStreams accepts connections until the transport is shut down.
func (t *NetTransport) acceptStreams(l *net.TCPListener) {
	var delay retryDelay
	for {
		conn, err := l.Accept()
		if err == nil {
			delay.reset()
			_ = t.passOn(conn) // fails only when the transport is shut down, which ends the loop
			continue
		}
		if t.stopped() {
			return
		}
		t.log.errorf("Error accepting TCP connections", logFields{err: err}, "Error accepting TCP connection: %v", err)
		if !t.pause(delay.next()) {
			return
		}
	}
}

// passOn gives a connection to the handler, or waits until it is taken from the
// channel. When the transport is shut down it closes the connection.
func (t *NetTransport) passOn(conn net.Conn) error {
	if t.stopped() {
		_ = conn.Close()
		return net.ErrClosed
	}
	select {
	case <-t.streamsDirect:
		t.streamHandler(conn)
		return nil
	default:
	}
	select {
	case t.streams <- conn:
		return nil
	case <-t.streamsDirect:
		t.streamHandler(conn)
		return nil
	case <-t.ctx.Done():
		_ = conn.Close()
		return net.ErrClosed
	}
}

// IngestPacket reads conn to its end and delivers the bytes as one packet from addr
// that was received at now. If shouldClose is set it closes conn, also after an
// error. It waits until the packet is received.
func (t *NetTransport) IngestPacket(conn net.Conn, addr net.Addr, now time.Time, shouldClose bool) error {
	packet, err := readIngested(conn, addr, now, shouldClose)
	if err != nil {
		return err
	}
	if t.stopped() {
		return net.ErrClosed
	}
	in := packetInput{transport: t}
	if in.offer(packet) {
		return nil
	}
	if !in.direct() {
		return net.ErrClosed
	}
	d := datagram{buf: packet.Buf, from: addrPortFrom(addr), at: now}
	if !d.from.IsValid() {
		d.other = addr
	}
	in.handler([]datagram{d})
	return nil
}

// IngestStream delivers conn as if it had been accepted. It waits until the stream is
// received, and closes conn if the transport is shut down.
func (t *NetTransport) IngestStream(conn net.Conn) error {
	return t.passOn(conn)
}

// readIngested reads the packet that a connection carries (P136).
func readIngested(conn net.Conn, addr net.Addr, now time.Time, shouldClose bool) (*Packet, error) {
	if shouldClose {
		defer conn.Close()
	}
	buf, err := io.ReadAll(io.LimitReader(conn, ingestLimit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("failed to read packet: %w", err)
	case len(buf) == 0:
		return nil, fmt.Errorf("packet is empty %s: %w", LogAddress(addr), ErrMalformed)
	case len(buf) > ingestLimit:
		return nil, fmt.Errorf("packet is longer than %d bytes %s: %w", ingestLimit, LogAddress(addr), ErrTooLarge)
	}
	return &Packet{Buf: buf, From: addr, Timestamp: now}, nil
}

// Shutdown closes all sockets and waits until nothing is read, accepted or delivered
// any more. It drops packets and streams that have not been received; connections
// that have been received stay open. It may be called more than once, and does not
// need a reader of the channels.
func (t *NetTransport) Shutdown() error {
	t.stopOnce.Do(func() {
		t.cancel()
		t.stopErr = t.closeSockets()
	})
	t.listeners.Wait()
	return t.stopErr
}

func (t *NetTransport) closeSockets() error { // P135
	var errs []error
	for _, l := range t.tcp {
		errs = append(errs, l.Close())
	}
	for _, s := range t.udp {
		errs = append(errs, s.conn.Close())
	}
	return errors.Join(errs...)
}

// stopped reports whether the transport has been shut down.
func (t *NetTransport) stopped() bool {
	return t.ctx.Err() != nil
}

// pause waits, and reports false if the transport is shut down meanwhile.
func (t *NetTransport) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ctx.Done():
		return false
	}
}

// retryDelay says how long to wait after an error that may persist, so that it
// neither spins nor stalls: 5 ms, doubled with each further error up to 1 s
// (P132).
type retryDelay struct {
	last time.Duration
}

func (d *retryDelay) next() time.Duration {
	d.last = min(max(5*time.Millisecond, 2*d.last), time.Second)
	return d.last
}

func (d *retryDelay) reset() {
	d.last = 0
}

// addrPortFrom returns the IP address and port of a UDP or TCP address, or the
// zero value for others.
func addrPortFrom(addr net.Addr) netip.AddrPort {
	if a, ok := addr.(interface{ AddrPort() netip.AddrPort }); ok {
		return unmapAddrPort(a.AddrPort())
	}
	return netip.AddrPort{}
}
