package memberlist

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// mockQueue bounds the packets that wait to be taken from an endpoint,
	// and mockInFlight those that are still on their way to it.
	mockQueue    = 256
	mockInFlight = 4096

	// mockPatience is how long a full queue holds up a sender before the
	// packet is dropped, so that two nodes that wait for each other get on
	// again.
	mockPatience = 100 * time.Millisecond

	// mockDialLimit is when a dial without timeout gives up.
	mockDialLimit = 2 * time.Minute
)

// MockNetwork is a network in memory for tests of programs that use this package.
// Its endpoints, made by NewTransport, reach each other and nothing else. The zero
// value is ready for use. A MockNetwork must not be copied after first use.
//
// A new network is perfect: packets arrive at once and in order, and none is lost.
// SetLatency, SetLoss, Cut and Partition change that at any time. Random choices
// depend only on the seed and on the packets that an endpoint sends.
//
// A MockNetwork has no goroutines, and uses timers only while packets are delayed,
// so it works in a testing/synctest bubble if it is created there. Shutdown of
// either end releases a blocked sender. A test in virtual time looks like this:
//
//	synctest.Test(t, func(t *testing.T) {
//		var network memberlist.MockNetwork
//		a := startNode(t, &network, "a") // Config.Transport = network.NewTransport("a")
//		b := startNode(t, &network, "b")
//		b.Join([]string{a.LocalNode().Address()})
//		network.Partition([]string{"a"}, []string{"b"})
//		time.Sleep(time.Minute) // takes no time
//		// a.NumMembers() is 1
//	})
//
// The file example_synctest_test.go has the whole test.
type MockNetwork struct {
	dropped atomic.Uint64

	mu sync.RWMutex
	// All of the following is guarded by mu.
	byAddr  map[string]*MockTransport
	byName  map[string]*MockTransport
	seed    uint64
	streams map[*mockStream]struct{}
	latency time.Duration
	jitter  time.Duration
	loss    float64
	cuts    map[mockLink]struct{}
	sides   map[string]int // of a partition, by name; nil without one
}

// mockLink is one direction between two endpoints, by their names.
type mockLink struct{ from, to string }

// NewTransport adds an endpoint with the next port number: 127.0.0.1:1, then
// 127.0.0.1:2 and so on. If the name is in use, it moves to the new endpoint, as
// if the node had restarted.
func (n *MockNetwork) NewTransport(name string) *MockTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byAddr == nil {
		n.byAddr = make(map[string]*MockTransport)
		n.byName = make(map[string]*MockTransport)
	}
	port := len(n.byAddr) + 1
	t := &MockTransport{
		network: n,
		addr:    MockAddress{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), name: name},
		port:    port,
		packets: make(chan *Packet, mockQueue),
		streams: make(chan net.Conn),
		done:    make(chan struct{}),
	}
	t.random = t.newRandom(n.seed)
	n.byAddr[t.addr.addr] = t
	n.byName[name] = t
	return t
}

// SetLatency delays each packet, and each write to a stream, by latency plus a
// random time below jitter. With jitter, packets can overtake each other; streams
// stay in order. Opening a stream takes one round trip. Packets that are under way
// are not affected.
func (n *MockNetwork) SetLatency(latency, jitter time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.latency, n.jitter = bounded(latency, 0, longestPeriod), bounded(jitter, 0, longestPeriod)
}

// SetLoss has each packet lost with the given probability, between 0 and 1.
// Streams are reliable and lose nothing.
func (n *MockNetwork) SetLoss(probability float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = probability
}

// Seed restarts the random sequences of all endpoints, existing and future ones.
// The default seed is 0. Each endpoint has its own sequence for what it sends.
func (n *MockNetwork) Seed(seed uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seed = seed
	for _, t := range n.byAddr {
		t.reseed(seed)
	}
}

// Cut interrupts one direction: packets from the endpoint named from to the one
// named to are lost. A stream needs both directions, so streams between the two
// fail with ECONNRESET, and new ones time out, whichever side opens them.
func (n *MockNetwork) Cut(from, to string) {
	n.change(func() {
		if n.cuts == nil {
			n.cuts = make(map[mockLink]struct{})
		}
		n.cuts[mockLink{from, to}] = struct{}{}
	})
}

// Mend undoes a Cut of the same direction.
func (n *MockNetwork) Mend(from, to string) {
	n.change(func() {
		delete(n.cuts, mockLink{from, to})
	})
}

// Partition splits the network: endpoints reach only those in the same group.
// Endpoints that are in no group, including future ones, form one more group, so
// Partition([]string{"a"}) isolates a. It replaces an earlier partition. Cuts
// remain.
func (n *MockNetwork) Partition(groups ...[]string) {
	n.change(func() {
		n.sides = make(map[string]int)
		for i, group := range groups {
			for _, name := range group {
				n.sides[name] = i + 1
			}
		}
	})
}

// Heal ends the partition and mends all cuts. Latency and loss remain. Streams
// that failed are not restored.
func (n *MockNetwork) Heal() {
	n.change(func() {
		n.cuts, n.sides = nil, nil
	})
}

// Dropped returns the number of packets that were lost so far: by loss, cuts and
// partitions, because too many were waiting, or because the receiver was shut down.
func (n *MockNetwork) Dropped() uint64 {
	return n.dropped.Load()
}

// change applies a change of the links and breaks the streams that it cuts.
func (n *MockNetwork) change(apply func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	apply()
	for s := range n.streams {
		if n.severed(s.dialer, s.acceptor) {
			s.reset()
			delete(n.streams, s)
		}
	}
}

// cut reports whether packets of one endpoint do not reach another. n.mu is held.
func (n *MockNetwork) cut(from, to *MockTransport) bool {
	if n.sides[from.addr.name] != n.sides[to.addr.name] {
		return true
	}
	_, cut := n.cuts[mockLink{from.addr.name, to.addr.name}]
	return cut
}

// severed reports whether two endpoints can have no stream. n.mu is held.
func (n *MockNetwork) severed(a, b *MockTransport) bool {
	return n.cut(a, b) || n.cut(b, a)
}

// lookup returns the endpoint that is meant by an address: the one at that host and
// port if it is up, else the one of the name if there is one (P140).
func (n *MockNetwork) lookup(a Address) (*MockTransport, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	t := n.byAddr[a.Addr]
	if named := n.byName[a.Name]; named != nil && a.Name != "" && (t == nil || t.stopped()) {
		t = named
	}
	if t == nil {
		return nil, fmt.Errorf("no route to %s", a.String())
	}
	return t, nil
}

// fate decides what happens to a packet: whether it is lost, and if not, how long
// it takes.
func (n *MockNetwork) fate(from, to *MockTransport) (delay time.Duration, lost bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.cut(from, to) || from.chance(n.loss) {
		return 0, true
	}
	return from.delay(n.latency, n.jitter), false
}

// streamDelay is how long a write to a stream takes to get across.
func (n *MockNetwork) streamDelay(from *MockTransport) time.Duration {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return from.delay(n.latency, n.jitter)
}

// connect makes the two ends of a stream, unless the endpoints are severed.
func (n *MockNetwork) connect(dialer, acceptor *MockTransport) (dialed, accepted *mockConn, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.severed(dialer, acceptor) {
		return nil, nil, false
	}
	a, b := net.Pipe()
	s := &mockStream{dialer: dialer, acceptor: acceptor, ends: [2]net.Conn{a, b}, broken: make(chan struct{})}
	if n.streams == nil {
		n.streams = make(map[*mockStream]struct{})
	}
	n.streams[s] = struct{}{}
	return newMockConn(a, s, dialer, acceptor), newMockConn(b, s, acceptor, dialer), true
}

// forget removes a stream that an end has closed.
func (n *MockNetwork) forget(s *mockStream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.streams, s)
}

// MockAddress is the address of an endpoint of a MockNetwork.
type MockAddress struct {
	addr string
	name string
}

var _ net.Addr = (*MockAddress)(nil)

// Network returns "mock".
func (a *MockAddress) Network() string { return "mock" }

// String returns the address as "127.0.0.1:n".
func (a *MockAddress) String() string { return a.addr }

// MockTransport is an endpoint of a MockNetwork. Its methods may be called from
// several goroutines at once; it must not be copied.
type MockTransport struct {
	network *MockNetwork
	addr    MockAddress
	port    int

	packets chan *Packet
	streams chan net.Conn

	clogged atomic.Bool    // nobody seems to take packets
	done    chan struct{}  // closed when shut down
	senders sync.WaitGroup // those that deliver to this endpoint; joined by Shutdown

	mu sync.Mutex
	// All of the following is guarded by mu.
	closed   bool
	random   *rand.Rand
	inFlight []mockArrival // on their way to this endpoint, ordered by arrival

	// delivering is true while something is in flight: then either the timer
	// is set for the first arrival or deliverDue is running, and that counts
	// as one of the senders.
	delivering bool
	timer      *time.Timer
}

var (
	_ NodeAwareTransport      = (*MockTransport)(nil)
	_ IngestionAwareTransport = (*MockTransport)(nil)
)

// FinalAdvertiseAddr returns 127.0.0.1 in 16-byte form and the number of the
// endpoint as port, whatever is configured. After Shutdown it fails.
func (t *MockTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	if t.stopped() {
		return nil, 0, errTransportClosed
	}
	return net.IPv4(127, 0, 0, 1), t.port, nil
}

// WriteTo is WriteToAddress without a name.
func (t *MockTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, Address{Addr: addr})
}

// WriteToAddress sends a copy of b to another endpoint, found by its address, or by
// its name if there is no endpoint at that address that is up. An unknown one is an
// error, "no route to …". Like on a real network it is no error if the packet is lost, or if the
// endpoint was shut down.
//
// If 256 packets wait to be taken there, it waits too, until there is room or
// one of the two is shut down. After a tenth of a second the packet is lost, and
// further ones are at once as long as there is no room.
func (t *MockTransport) WriteToAddress(b []byte, addr Address) (time.Time, error) {
	peer, err := t.network.lookup(addr)
	if err != nil {
		return time.Time{}, err
	}
	if t.stopped() {
		return time.Time{}, net.ErrClosed
	}
	// The clock is read before the delivery, which an answer could overtake.
	now := time.Now()
	packet := &Packet{Buf: bytes.Clone(b), From: &t.addr}
	delay, lost := t.network.fate(t, peer)
	if lost || !peer.arrive(packet, delay, t.done) {
		t.network.dropped.Add(1)
	}
	return now, nil
}

// arrive delivers a packet after a delay, at once if there is none. It reports
// false if the packet is lost. giveUp ends the wait for room.
func (t *MockTransport) arrive(p *Packet, delay time.Duration, giveUp <-chan struct{}) bool {
	if delay > 0 {
		return t.schedule(p, delay)
	}
	if !t.enter() {
		return false
	}
	defer t.senders.Done()
	return t.deliver(p, giveUp)
}

// enter announces a sender that Shutdown has to wait for. It reports false if the
// endpoint is shut down.
func (t *MockTransport) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.senders.Add(1)
	return true
}

// deliver puts a packet in the channel. If that is full, it waits for room, with
// a limit, and only until the first time that the limit was reached.
func (t *MockTransport) deliver(p *Packet, giveUp <-chan struct{}) bool {
	p.Timestamp = time.Now()
	select {
	case t.packets <- p:
		t.clogged.Store(false)
		return true
	default:
	}
	if t.clogged.Load() {
		return false
	}
	timeout := time.NewTimer(mockPatience)
	defer timeout.Stop()
	select {
	case t.packets <- p:
		return true
	case <-timeout.C:
		t.clogged.Store(true)
	case <-giveUp:
	case <-t.done:
	}
	return false
}

// PacketCh returns the channel of received packets.
func (t *MockTransport) PacketCh() <-chan *Packet {
	return t.packets
}

// IngestPacket reads conn to its end and delivers what came as a packet from
// addr that was received at now. With shouldClose it closes conn, also
// when it fails. It waits until there is room for the packet.
func (t *MockTransport) IngestPacket(conn net.Conn, addr net.Addr, now time.Time, shouldClose bool) error {
	packet, err := readIngested(conn, addr, now, shouldClose)
	if err != nil {
		return err
	}
	if !t.enter() {
		return net.ErrClosed
	}
	defer t.senders.Done()
	select {
	case t.packets <- packet:
		return nil
	case <-t.done:
		return net.ErrClosed
	}
}

// StreamCh returns the channel of streams that others opened.
func (t *MockTransport) StreamCh() <-chan net.Conn {
	return t.streams
}

// IngestStream delivers conn as a stream that somebody opened. It waits
// until the stream is taken, and closes conn if the endpoint is shut down.
func (t *MockTransport) IngestStream(conn net.Conn) error {
	if !t.enter() {
		_ = conn.Close()
		return net.ErrClosed
	}
	defer t.senders.Done()
	select {
	case t.streams <- conn:
		return nil
	case <-t.done:
		_ = conn.Close()
		return net.ErrClosed
	}
}

// DialTimeout is DialAddressTimeout without a name.
func (t *MockTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(Address{Addr: addr}, timeout)
}

// DialAddressTimeout opens a stream to another endpoint, found by its address, or by
// its name if there is no endpoint at that address that is up. It waits until the other side takes the
// stream from its channel, at most for timeout; 0 stands for two minutes. An
// unknown endpoint is an error, "no route to …"; one that was shut down refuses
// with ECONNREFUSED; one that is cut off swallows the attempt until the timeout.
func (t *MockTransport) DialAddressTimeout(addr Address, timeout time.Duration) (net.Conn, error) {
	peer, err := t.network.lookup(addr)
	if err != nil {
		return nil, err
	}
	if timeout == 0 {
		timeout = mockDialLimit
	}
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	conn, err := t.dial(peer, limit.C)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: t.addr.Network(), Source: &t.addr, Addr: &peer.addr, Err: err}
	}
	return conn, nil
}

func (t *MockTransport) dial(peer *MockTransport, limit <-chan time.Time) (net.Conn, error) {
	delay := t.network.streamDelay(t) + t.network.streamDelay(peer)
	if delay > 0 {
		there := time.NewTimer(delay)
		defer there.Stop()
		if err := t.await(there.C, limit); err != nil {
			return nil, err
		}
	}
	dialed, accepted, ok := t.network.connect(t, peer)
	if !ok {
		return nil, t.await(nil, limit)
	}
	if err := t.handOver(peer, accepted, limit); err != nil {
		_ = dialed.Close()
		_ = accepted.Close()
		return nil, err
	}
	return dialed, nil
}

// await waits for the way that opening a stream takes; nil means that there is
// none. It fails at the limit.
func (t *MockTransport) await(there, limit <-chan time.Time) error {
	select {
	case <-there:
		return nil
	case <-limit:
		return os.ErrDeadlineExceeded
	case <-t.done:
		return net.ErrClosed
	}
}

// handOver gives peer its end of a stream.
func (t *MockTransport) handOver(peer *MockTransport, conn net.Conn, limit <-chan time.Time) error {
	if t.stopped() {
		return net.ErrClosed
	}
	if !peer.enter() {
		return syscall.ECONNREFUSED
	}
	defer peer.senders.Done()
	select {
	case peer.streams <- conn:
		return nil
	case <-peer.done:
		return syscall.ECONNREFUSED
	case <-t.done:
		return net.ErrClosed
	case <-limit:
		return os.ErrDeadlineExceeded
	}
}

// Shutdown stops all deliveries and releases everybody who waits to deliver, and
// those who wait in a method of this endpoint. When it returns, nothing is sent
// to the channels any more, and they are empty. Streams that were taken stay
// open. It may be called repeatedly and needs nobody to read the channels. The
// endpoint keeps its address: what is sent there is lost, unless it is sent by name
// and the name has gone over to a new endpoint.
func (t *MockTransport) Shutdown() error {
	t.close()
	t.senders.Wait()
	for {
		select {
		case <-t.packets:
			t.network.dropped.Add(1)
		default:
			return nil
		}
	}
}

// close is the part of Shutdown that does not wait.
func (t *MockTransport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed = true
	close(t.done)
	t.network.dropped.Add(uint64(len(t.inFlight)))
	t.inFlight = nil
	if t.delivering && t.timer.Stop() {
		t.senders.Done() // for deliverDue, which will not run now
	}
}

// stopped reports whether the endpoint has been shut down.
func (t *MockTransport) stopped() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// newRandom returns the sequence from which the endpoint draws.
func (t *MockTransport) newRandom(seed uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(t.port)))
}

func (t *MockTransport) reseed(seed uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.random = t.newRandom(seed)
}

// chance is true with the given probability.
func (t *MockTransport) chance(probability float64) bool {
	if probability <= 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.random.Float64() < probability
}

// delay draws the time that something takes that this endpoint sends.
func (t *MockTransport) delay(latency, jitter time.Duration) time.Duration {
	if jitter <= 0 {
		return latency
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return latency + time.Duration(t.random.Int64N(int64(jitter)))
}

// mockArrival is a packet on its way.
type mockArrival struct {
	at     time.Time
	packet *Packet
}

// schedule puts a packet in flight to this endpoint, behind those that arrive
// earlier or at the same time. It reports false if the packet is lost.
func (t *MockTransport) schedule(p *Packet, delay time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.inFlight) >= mockInFlight {
		return false
	}
	at := time.Now().Add(delay)
	i := sort.Search(len(t.inFlight), func(i int) bool { return t.inFlight[i].at.After(at) })
	t.inFlight = slices.Insert(t.inFlight, i, mockArrival{at: at, packet: p})
	switch {
	case !t.delivering:
		t.delivering = true
		t.senders.Add(1)
		t.timer = time.AfterFunc(delay, t.deliverDue)
	case i == 0 && t.timer.Stop():
		t.timer.Reset(delay)
	}
	// Else the timer fires earlier, or deliverDue is running and will see it.
	return true
}

// deliverDue delivers what has arrived, in order. It runs when the timer fires,
// and sets it again if something is left for later.
func (t *MockTransport) deliverDue() {
	for {
		p, ok := t.nextArrival()
		if !ok {
			return
		}
		if !t.deliver(p, nil) {
			t.network.dropped.Add(1)
		}
	}
}

// nextArrival returns the next packet that has arrived. If there is none, it
// provides for the rest.
func (t *MockTransport) nextArrival() (*Packet, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.inFlight) == 0 {
		t.delivering = false
		t.senders.Done()
		return nil, false
	}
	first := t.inFlight[0]
	if wait := time.Until(first.at); wait > 0 {
		t.timer.Reset(wait)
		return nil, false
	}
	t.inFlight = slices.Delete(t.inFlight, 0, 1)
	return first.packet, true
}

// mockStream is a stream between two endpoints.
type mockStream struct {
	dialer, acceptor *MockTransport
	ends             [2]net.Conn
	broken           chan struct{} // closed by reset
}

// reset breaks the stream at both ends. It is called at most once.
func (s *mockStream) reset() {
	close(s.broken)
	for _, end := range s.ends {
		_ = end.Close()
	}
}

// mockConn is one end of a stream. Like with net.Pipe, which it is made from, a
// write waits until the other side has read everything.
type mockConn struct {
	net.Conn
	stream        *mockStream
	local, remote *MockTransport
	closeOnce     sync.Once
	closed        chan struct{}

	mu struct {
		sync.Mutex
		until   time.Time     // of writing; zero is no limit
		changed chan struct{} // closed when until changes
	}
}

func newMockConn(end net.Conn, stream *mockStream, local, remote *MockTransport) *mockConn {
	c := &mockConn{Conn: end, stream: stream, local: local, remote: remote, closed: make(chan struct{})}
	c.mu.changed = make(chan struct{})
	return c
}

func (c *mockConn) LocalAddr() net.Addr  { return &c.local.addr }
func (c *mockConn) RemoteAddr() net.Addr { return &c.remote.addr }

func (c *mockConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, c.explain("read", err)
}

// Write takes as long as the way to the other side.
func (c *mockConn) Write(b []byte) (int, error) {
	c.travel(c.local.network.streamDelay(c.local))
	n, err := c.Conn.Write(b)
	return n, c.explain("write", err)
}

// travel waits for the delay, or until the deadline or the end of the stream, which
// the write after it will notice.
func (c *mockConn) travel(delay time.Duration) {
	if delay <= 0 {
		return
	}
	arrival := time.Now().Add(delay)
	for {
		until, changed := c.writeDeadline()
		if until.IsZero() || until.After(arrival) {
			until = arrival
		}
		wait := time.NewTimer(time.Until(until))
		select {
		case <-changed:
			wait.Stop()
			continue
		case <-wait.C:
		case <-c.stream.broken:
		case <-c.closed:
		}
		wait.Stop()
		return
	}
}

func (c *mockConn) writeDeadline() (until time.Time, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.until, c.mu.changed
}

func (c *mockConn) SetDeadline(t time.Time) error {
	c.noteWriteDeadline(t)
	return c.Conn.SetDeadline(t)
}

func (c *mockConn) SetWriteDeadline(t time.Time) error {
	c.noteWriteDeadline(t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *mockConn) noteWriteDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.until = t
	close(c.mu.changed)
	c.mu.changed = make(chan struct{})
}

func (c *mockConn) Close() error {
	c.local.network.forget(c.stream)
	c.closeOnce.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// explain says of an error that it comes from a broken stream, if so.
func (c *mockConn) explain(op string, err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-c.stream.broken:
		return &net.OpError{Op: op, Net: c.local.addr.Network(), Source: &c.local.addr, Addr: &c.remote.addr, Err: syscall.ECONNRESET}
	default:
		return err
	}
}
