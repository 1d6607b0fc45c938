// Package transporttest tests implementations of memberlist.Transport. Authors
// of transports run it on theirs:
//
//	func TestTransport(t *testing.T) {
//		transporttest.Run(t, func(t *testing.T) (a, b memberlist.Transport) {
//			return newTransport(t), newTransport(t)
//		})
//	}
//
// The package imports no memberlist: it takes the types of whichever the program
// uses. So the same suite serves transports for this library, for this library in
// the place of github.com/hashicorp/memberlist by a replace directive, where the
// import path is github.com/hashicorp/memberlist/transporttest, and for that one
// itself.
//
// The suite holds a transport to what the library relies on and to what
// the documentation of the interfaces promises. It asks for no more than a
// network can give: packets may be lost, so it sends them again; they must not
// be changed, cut or mixed up. It runs in real time and takes about a second.
package transporttest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// timeout is how long anything may take that must happen. Only the suite's own
// tests change it.
var patience = 10 * time.Second

const (
	// resendAfter is how long an answer may take before a packet is sent
	// again.
	resendAfter = 50 * time.Millisecond

	// packetSize is the largest packet that is sent: what the library takes
	// for granted by default (Config.UDPBufferSize).
	packetSize = 1400
)

// Packet is memberlist.Packet, of whichever module.
type Packet interface {
	~struct {
		Buf       []byte
		From      net.Addr
		Timestamp time.Time
	}
}

// Transport is memberlist.Transport, whose packets are of type P.
type Transport[P Packet] interface {
	PacketCh() <-chan *P
	calls
}

// calls are the methods of a transport in which only built-in types and those of the
// standard library appear.
type calls interface {
	FinalAdvertiseAddr(ip string, port int) (net.IP, int, error)
	WriteTo(b []byte, addr string) (time.Time, error)
	DialTimeout(addr string, timeout time.Duration) (net.Conn, error)
	StreamCh() <-chan net.Conn
	Shutdown() error
}

// NewPair returns two transports that reach each other at the addresses that
// they advertise, and that nothing else uses. The suite shuts them down. It is
// called once for each test.
type NewPair[T any] func(t *testing.T) (a, b T)

// Run runs the suite, each test as a subtest of t with a new pair. T is
// memberlist.Transport or a type that implements it; both type arguments are
// inferred.
func Run[T Transport[P], P Packet](t *testing.T, newPair NewPair[T]) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, a, b *endpoint)
	}{
		{"AdvertisedAddressIsStable", testAdvertisedAddress},
		{"ChannelsAreAlwaysTheSame", testChannels},
		{"PacketsArriveWhole", testPacketsArriveWhole},
		{"PacketTellsWhereToAnswer", testPacketTellsWhereToAnswer},
		{"PacketBufferBelongsToReceiver", testPacketBufferBelongsToReceiver},
		{"PacketBufferOfSenderIsNotChanged", testSenderBufferIsNotChanged},
		{"TimesEncloseTheRoundTrip", testTimes},
		{"PacketsOfManySendersAreNotMixedUp", testConcurrentSenders},
		{"PacketsToItself", testPacketsToItself},
		{"StreamCarriesBytesBothWays", testStream},
		{"StreamEndsWhenTheOtherSideCloses", testStreamEnd},
		{"StreamHonoursDeadlines", testStreamDeadlines},
		{"ManyStreamsAtOnce", testManyStreams},
		{"DialGivesUp", testDialGivesUp},
		{"NamesAreOptional", testNodeAware},
		{"IngestedPacketsAndStreamsArrive", testIngestion},
		{"ShutdownEndsEverything", testShutdown},
		{"ShutdownUnderLoad", testShutdownUnderLoad},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			a, b := newPair(t)
			left, right := start[P](t, "a", a), start[P](t, "b", b)
			t.Cleanup(func() {
				left.shutdown(t)
				right.shutdown(t)
				checkGoroutines(t, before)
			})
			test.run(t, left, right)
		})
	}
}

// endpoint is a transport whose channels are read as the library reads them: by
// one goroutine each, until Shutdown has returned.
type endpoint struct {
	calls
	name string
	addr string // as advertised

	packetCh func() any                          // the channel of packets
	received func(until <-chan struct{}) *packet // from there; nil if until is closed before

	packets chan *packet // unread ones
	streams chan net.Conn

	stop    chan struct{}
	readers sync.WaitGroup
	once    sync.Once
}

// packet is a Packet of a type that this package can name.
type packet struct {
	Buf       []byte
	From      net.Addr
	Timestamp time.Time
}

func start[P Packet](t *testing.T, name string, transport Transport[P]) *endpoint {
	t.Helper()
	ip, port, err := transport.FinalAdvertiseAddr("", 0)
	if err != nil {
		t.Fatalf("FinalAdvertiseAddr: %v", err)
	}
	e := &endpoint{
		calls:    transport,
		name:     name,
		addr:     net.JoinHostPort(ip.String(), strconv.Itoa(port)),
		packetCh: func() any { return transport.PacketCh() },
		received: func(until <-chan struct{}) *packet { return receive(transport, until) },
		packets:  make(chan *packet, 4096),
		streams:  make(chan net.Conn, 64),
		stop:     make(chan struct{}),
	}
	e.readers.Go(e.readPackets)
	e.readers.Go(e.readStreams)
	return e
}

func receive[P Packet](from Transport[P], until <-chan struct{}) *packet {
	select {
	case p := <-from.PacketCh():
		if p == nil {
			return nil
		}
		got := packet(*p)
		return &got
	case <-until:
		return nil
	}
}

func (e *endpoint) readPackets() {
	for {
		p := e.received(e.stop)
		if p == nil {
			return
		}
		select {
		case e.packets <- p:
		default: // as the library drops what it has no room for
		}
	}
}

func (e *endpoint) readStreams() {
	for {
		select {
		case conn := <-e.StreamCh():
			select {
			case e.streams <- conn:
			default:
				conn.Close()
			}
		case <-e.stop:
			return
		}
	}
}

// shutdown calls Shutdown once, as the library does, and stops reading the
// channels only after it has returned.
func (e *endpoint) shutdown(t *testing.T) {
	t.Helper()
	e.once.Do(func() {
		done := make(chan error, 1)
		go func() { done <- e.Shutdown() }()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: Shutdown: %v", e.name, err)
			}
		case <-time.After(patience):
			t.Errorf("%s: Shutdown has not returned after %v", e.name, patience)
		}
		close(e.stop)
		e.readers.Wait()
		for {
			select {
			case conn := <-e.streams:
				conn.Close()
			default:
				return
			}
		}
	})
}

// checkGoroutines fails if there are more goroutines than before after a while.
func checkGoroutines(t *testing.T, before int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; <-tick.C {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			t.Errorf("%d goroutines before, %d after Shutdown:\n%s", before, runtime.NumGoroutine(), stacks)
			return
		}
	}
}

// exchange sends a packet from e until to has received it, and returns it.
func (e *endpoint) exchange(t *testing.T, to *endpoint, payload []byte) *packet {
	t.Helper()
	deadline := time.After(patience)
	for {
		if _, err := e.WriteTo(payload, to.addr); err != nil {
			t.Fatalf("WriteTo(%q): %v", to.addr, err)
		}
		if p := to.await(payload, resendAfter); p != nil {
			return p
		}
		select {
		case <-deadline:
			t.Fatalf("a packet of %d bytes never arrived", len(payload))
		default:
		}
	}
}

// await returns the next packet with this content, or nil after a while. Others
// are repetitions of earlier ones.
func (e *endpoint) await(payload []byte, limit time.Duration) *packet {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case p := <-e.packets:
			if bytes.Equal(p.Buf, payload) {
				return p
			}
		case <-timer.C:
			return nil
		}
	}
}

// accept returns the next stream that was opened to e.
func (e *endpoint) accept(t *testing.T) net.Conn {
	t.Helper()
	select {
	case conn := <-e.streams:
		t.Cleanup(func() { conn.Close() })
		return conn
	case <-time.After(patience):
		t.Fatalf("%s: no stream arrived", e.name)
		return nil
	}
}

// connect opens a stream and returns both ends.
func (e *endpoint) connect(t *testing.T, to *endpoint) (dialed, accepted net.Conn) {
	t.Helper()
	dialed, err := e.DialTimeout(to.addr, patience)
	if err != nil {
		t.Fatalf("DialTimeout(%q): %v", to.addr, err)
	}
	t.Cleanup(func() { dialed.Close() })
	return dialed, to.accept(t)
}

// text is content that differs for every seed and length.
func text(seed, length int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], uint64(seed))
	binary.LittleEndian.PutUint64(key[8:], uint64(length))
	b := make([]byte, length)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// The library asks at least twice and takes the last answer (P138).
func testAdvertisedAddress(t *testing.T, a, b *endpoint) {
	if a.addr == b.addr {
		t.Errorf("both advertise %s", a.addr)
	}
	for _, e := range []*endpoint{a, b} {
		ip, port, err := e.FinalAdvertiseAddr("", 0)
		if err != nil {
			t.Fatalf("%s: FinalAdvertiseAddr: %v", e.name, err)
		}
		if again := net.JoinHostPort(ip.String(), strconv.Itoa(port)); again != e.addr {
			t.Errorf("%s: advertises %s first, then %s", e.name, e.addr, again)
		}
		if len(ip) != net.IPv4len && len(ip) != net.IPv6len {
			t.Errorf("%s: advertises an IP of %d bytes", e.name, len(ip))
		}
		if port < 1 || port > 65535 {
			t.Errorf("%s: advertises port %d", e.name, port)
		}
	}
}

func testChannels(t *testing.T, a, _ *endpoint) {
	packets, streams := a.packetCh(), a.StreamCh()
	if reflect.ValueOf(packets).IsNil() || packets != a.packetCh() {
		t.Error("PacketCh is nil or changes")
	}
	if streams == nil || streams != a.StreamCh() {
		t.Error("StreamCh is nil or changes")
	}
}

func testPacketsArriveWhole(t *testing.T, a, b *endpoint) {
	for _, size := range []int{1, 2, 22, 512, 1399, packetSize} {
		a.exchange(t, b, text(size, size))
		b.exchange(t, a, text(-size, size))
	}
}

func testPacketTellsWhereToAnswer(t *testing.T, a, b *endpoint) {
	p := a.exchange(t, b, []byte("question"))
	if p.From == nil {
		t.Fatal("Packet.From is nil")
	}
	deadline := time.After(patience)
	for {
		if _, err := b.WriteTo([]byte("answer"), p.From.String()); err != nil {
			t.Fatalf("WriteTo(%q): %v", p.From, err)
		}
		if a.await([]byte("answer"), resendAfter) != nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("an answer to %s does not arrive at %s", p.From, a.addr)
		default:
		}
	}
}

func testPacketBufferBelongsToReceiver(t *testing.T, a, b *endpoint) {
	first := a.exchange(t, b, text(1, packetSize))
	for i := range 20 {
		next := a.exchange(t, b, text(2+i, packetSize))
		clear(next.Buf)
		_ = append(next.Buf, text(0, packetSize)...) // into the capacity, if there is any
	}
	if !bytes.Equal(first.Buf, text(1, packetSize)) {
		t.Error("a packet was changed by later ones")
	}
}

// The same broadcast can be handed over several times (P138).
func testSenderBufferIsNotChanged(t *testing.T, a, b *endpoint) {
	payload := text(1, packetSize)
	for range 10 {
		clear(a.exchange(t, b, payload).Buf) // as when it is decrypted in place
	}
	if !bytes.Equal(payload, text(1, packetSize)) {
		t.Error("the bytes given to WriteTo were changed")
	}
}

// Round-trip times are computed from what WriteTo returns and the timestamp of the
// answer.
func testTimes(t *testing.T, a, b *endpoint) {
	before := time.Now()
	p := a.exchange(t, b, []byte("question"))
	sent, err := b.WriteTo([]byte("answer"), a.addr)
	if err != nil {
		t.Fatalf("WriteTo: %v", err)
	}
	after := time.Now()
	if p.Timestamp.Before(before) || p.Timestamp.After(after) {
		t.Errorf("the packet arrived at %v, not between %v and %v", p.Timestamp, before, after)
	}
	if sent.Before(p.Timestamp) || sent.After(after) {
		t.Errorf("the answer was sent at %v, not between %v and %v", sent, p.Timestamp, after)
	}
}

// Packets are written from many goroutines concurrently (P138).
func testConcurrentSenders(t *testing.T, a, b *endpoint) {
	const senders, each = 8, 32
	missing := make(map[string]bool)
	for i := range senders * each {
		missing[string(senderPacket(i))] = true
	}
	for deadline := time.Now().Add(patience); len(missing) > 0; {
		var group sync.WaitGroup
		for s := range senders {
			group.Go(func() {
				for i := s * each; i < (s+1)*each; i++ {
					if _, err := a.WriteTo(senderPacket(i), b.addr); err != nil {
						t.Errorf("WriteTo: %v", err)
					}
				}
			})
		}
		group.Wait()
		b.tick(t, missing)
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d packets never arrived", len(missing), senders*each)
		}
	}
}

func senderPacket(i int) []byte {
	return append(fmt.Appendf(nil, "packet %d ", i), text(i, 10+i)...)
}

// tick removes what arrives from missing, until nothing is missing or nothing
// comes any more.
func (e *endpoint) tick(t *testing.T, missing map[string]bool) {
	t.Helper()
	for len(missing) > 0 {
		select {
		case p := <-e.packets:
			delete(missing, string(p.Buf))
			var number int
			if _, err := fmt.Sscanf(string(p.Buf), "packet %d ", &number); err != nil || !bytes.Equal(p.Buf, senderPacket(number)) {
				t.Fatalf("a packet arrived that nobody sent: %q", p.Buf)
			}
		case <-time.After(resendAfter):
			return
		}
	}
}

func testPacketsToItself(t *testing.T, a, _ *endpoint) {
	a.exchange(t, a, []byte("note to self"))
}

func testStream(t *testing.T, a, b *endpoint) {
	dialed, accepted := a.connect(t, b)
	if dialed.RemoteAddr() == nil || accepted.RemoteAddr() == nil {
		t.Error("RemoteAddr is nil")
	}
	there, back := text(1, 1<<20), text(2, 1<<20)
	transfer(t, dialed, accepted, there)
	transfer(t, accepted, dialed, back)
}

// transfer writes data to one end and expects it at the other.
func transfer(t *testing.T, from, to net.Conn, data []byte) {
	t.Helper()
	setDeadline(t, from, time.Now().Add(patience))
	setDeadline(t, to, time.Now().Add(patience))
	written := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		written <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(to, got); err != nil {
		t.Fatalf("Read: %v", err)
	}
	if err := <-written; err != nil {
		t.Fatalf("Write: %v", err)
	}
	if !bytes.Equal(got, data) {
		t.Fatal("a stream changed what was written")
	}
}

func setDeadline(t *testing.T, conn net.Conn, at time.Time) {
	t.Helper()
	if err := conn.SetDeadline(at); err != nil {
		t.Fatalf("SetDeadline: %v", err)
	}
}

func testStreamEnd(t *testing.T, a, b *endpoint) {
	dialed, accepted := a.connect(t, b)
	transfer(t, dialed, accepted, []byte("last words"))
	if err := dialed.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if n, err := accepted.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("Read after the other side closed: %d bytes, error %v, want io.EOF", n, err)
	}
}

func testStreamDeadlines(t *testing.T, a, b *endpoint) {
	dialed, accepted := a.connect(t, b)
	for _, conn := range []net.Conn{dialed, accepted} {
		setDeadline(t, conn, time.Now().Add(20*time.Millisecond))
		_, err := conn.Read(make([]byte, 1))
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("Read at the deadline: error %v, want a timeout", err)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read at the deadline: error %v, want os.ErrDeadlineExceeded", err)
		}
	}
	transfer(t, dialed, accepted, []byte("after a deadline"))
}

func testManyStreams(t *testing.T, a, b *endpoint) {
	const streams = 32
	var group sync.WaitGroup
	defer group.Wait()
	for i := range streams {
		group.Go(func() {
			conn, err := a.DialTimeout(b.addr, patience)
			if err != nil {
				t.Errorf("DialTimeout: %v", err)
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Write([]byte{byte(i)}); err != nil {
				t.Errorf("Write: %v", err)
			}
			echo := make([]byte, 1)
			if _, err := io.ReadFull(conn, echo); err != nil || echo[0] != byte(i) {
				t.Errorf("stream %d: echo %v, error %v", i, echo, err)
			}
		})
	}
	for range streams {
		conn := b.accept(t)
		group.Go(func() {
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = io.CopyN(conn, conn, 1)
		})
	}
}

func testDialGivesUp(t *testing.T, a, b *endpoint) {
	b.shutdown(t)
	const timeout = 100 * time.Millisecond
	before := time.Now()
	conn, err := a.DialTimeout(b.addr, timeout)
	if err == nil {
		conn.Close()
		t.Fatal("a stream was opened to an endpoint that is shut down")
	}
	if took := time.Since(before); took > timeout+patience/2 {
		t.Errorf("with a timeout of %v the attempt took %v", timeout, took)
	}
}

func testNodeAware(t *testing.T, a, b *endpoint) {
	aware, ok := nodeAwareOf(a.calls)
	if !ok {
		t.Skip("not a NodeAwareTransport")
	}
	arrived := false
	for deadline := time.Now().Add(patience); !arrived && time.Now().Before(deadline); {
		if err := aware.write([]byte("no name"), b.addr); err != nil {
			t.Fatalf("WriteToAddress without a name: %v", err)
		}
		arrived = b.await([]byte("no name"), resendAfter) != nil
	}
	if !arrived {
		t.Error("a packet to an address without a name never arrived")
	}
	conn, err := aware.dial(b.addr, patience)
	if err != nil {
		t.Fatalf("DialAddressTimeout without a name: %v", err)
	}
	defer conn.Close()
	transfer(t, conn, b.accept(t), []byte("no name"))
}

// nodeAware are the methods that memberlist.NodeAwareTransport has besides, called
// with addresses without a name. The type of these addresses is that of a module
// which this package does not import, and nothing but these methods tells it.
type nodeAware struct{ writeToAddress, dialAddressTimeout reflect.Value }

// nodeAwareOf returns the methods if the transport has them.
func nodeAwareOf(transport calls) (nodeAware, bool) {
	method := func(name string) reflect.Value { return reflect.ValueOf(transport).MethodByName(name) }
	n := nodeAware{method("WriteToAddress"), method("DialAddressTimeout")}
	ok := n.writeToAddress.IsValid() && n.dialAddressTimeout.IsValid() &&
		n.writeToAddress.Type().NumIn() == 2 && isAddress(n.writeToAddress.Type().In(1)) &&
		n.dialAddressTimeout.Type().NumIn() == 2 && isAddress(n.dialAddressTimeout.Type().In(0))
	return n, ok
}

// isAddress reports whether a type is memberlist.Address, of whichever module.
func isAddress(t reflect.Type) bool {
	return t.ConvertibleTo(reflect.TypeFor[struct{ Addr, Name string }]())
}

func (n nodeAware) write(b []byte, addr string) error {
	to := addressOf(n.writeToAddress.Type().In(1), addr)
	results := n.writeToAddress.Call([]reflect.Value{reflect.ValueOf(b), to})
	err, _ := results[1].Interface().(error)
	return err
}

func (n nodeAware) dial(addr string, timeout time.Duration) (net.Conn, error) {
	to := addressOf(n.dialAddressTimeout.Type().In(0), addr)
	results := n.dialAddressTimeout.Call([]reflect.Value{to, reflect.ValueOf(timeout)})
	conn, _ := results[0].Interface().(net.Conn)
	err, _ := results[1].Interface().(error)
	return conn, err
}

// addressOf makes an address of the given type, without a name.
func addressOf(t reflect.Type, addr string) reflect.Value {
	return reflect.ValueOf(struct{ Addr, Name string }{Addr: addr}).Convert(t)
}

// ingester is memberlist.IngestionAwareTransport, which nobody should use in new
// code but which a transport may still have.
type ingester interface {
	IngestPacket(conn net.Conn, addr net.Addr, now time.Time, shouldClose bool) error
	IngestStream(conn net.Conn) error
}

// P136
func testIngestion(t *testing.T, a, _ *endpoint) {
	ingester, ok := a.calls.(ingester)
	if !ok {
		t.Skip("not an IngestionAwareTransport")
	}
	from := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
	now := time.Now().Add(-time.Second)
	if err := ingest(ingester, []byte("ingested"), from, now); err != nil {
		t.Errorf("IngestPacket: %v", err)
	}
	p := a.await([]byte("ingested"), patience)
	if p == nil {
		t.Fatal("an ingested packet never arrived")
	}
	if p.From.String() != from.String() || !p.Timestamp.Equal(now) {
		t.Errorf("the packet came from %v at %v, not from %v at %v", p.From, p.Timestamp, from, now)
	}
	if err := ingest(ingester, nil, from, now); err == nil {
		t.Error("an empty packet was ingested")
	}
	local, remote := net.Pipe()
	defer local.Close()
	if err := ingester.IngestStream(remote); err != nil {
		t.Fatalf("IngestStream: %v", err)
	}
	transfer(t, local, a.accept(t), []byte("ingested"))
}

// ingest feeds a transport from a connection that carries payload.
func ingest(to ingester, payload []byte, from net.Addr, now time.Time) error {
	local, remote := net.Pipe()
	go func() {
		_, _ = local.Write(payload)
		_ = local.Close()
	}()
	return to.IngestPacket(remote, from, now, true)
}

func testShutdown(t *testing.T, a, b *endpoint) {
	a.exchange(t, b, []byte("hello"))
	a.connect(t, b)
	b.shutdown(t)
	// Nobody reads the channels of b now, and nothing may want to.
	ctx, sent := context.WithTimeout(context.Background(), patience)
	go func() {
		defer sent()
		for range 1000 {
			_, _ = a.WriteTo([]byte("to nobody"), b.addr)
		}
	}()
	if b.received(ctx.Done()) != nil {
		t.Error("a packet was delivered after Shutdown")
	}
	<-ctx.Done()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Fatal("WriteTo to an endpoint that is shut down does not return")
	}
}

func testShutdownUnderLoad(t *testing.T, a, b *endpoint) {
	stop := make(chan struct{})
	var group sync.WaitGroup
	defer group.Wait()
	defer close(stop)
	keep := func(work func()) {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					work()
				}
			}
		})
	}
	keep(func() { _, _ = a.WriteTo(text(1, packetSize), b.addr) })
	keep(func() { _, _ = b.WriteTo(text(2, packetSize), a.addr) })
	keep(func() {
		if conn, err := a.DialTimeout(b.addr, resendAfter); err == nil {
			conn.Close()
		}
	})
	b.accept(t)
	if b.await(text(1, packetSize), patience) == nil {
		t.Error("nothing arrives under load")
	}
	b.shutdown(t)
}
