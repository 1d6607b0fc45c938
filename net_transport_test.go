package memberlist

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/stretchr/testify/require"
)

// waitLimit is how long a test on real sockets waits for what must happen.
const waitLimit = 10 * time.Second

// eachIO runs a test with every way to read and write datagrams.
func eachIO(t *testing.T, test func(t *testing.T, newIO newDatagramIOFunc)) {
	t.Run("plain", func(t *testing.T) { test(t, newPlainIO) })
	t.Run("platform", func(t *testing.T) { test(t, newDatagramIO) })
}

// openTest opens a transport that logs to nowhere and ends with the test.
func openTest(t *testing.T, newIO newDatagramIOFunc, binds ...string) *NetTransport {
	t.Helper()
	config := &NetTransportConfig{BindAddrs: binds}
	transport, err := openNetTransport(config, testLogger(io.Discard), newIO)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, transport.Shutdown()) })
	return transport
}

func testLogger(w io.Writer) *logger {
	l := &logger{classic: log.New(w, "", 0)}
	l.limiter.now = time.Now
	return l
}

func needIPv6(t *testing.T) {
	t.Helper()
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Skip("no IPv6 loopback: ", err)
	}
	conn.Close()
}

// on returns the address that others reach t at by a given IP.
func (t *NetTransport) on(ip string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(t.GetAutoBindPort()))
}

// receive waits for something on a channel.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(waitLimit):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// within fails the test if f does not return.
func returns(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	receive(t, done)
}

// TestNoBindAddress checks P129.
func TestNoBindAddress(t *testing.T) {
	_, err := NewNetTransport(&NetTransportConfig{})
	require.EqualError(t, err, "at least one bind address is required")
}

// TestOnePortForAllSockets checks P129.
func TestOnePortForAllSockets(t *testing.T) {
	needIPv6(t)
	eachIO(t, func(t *testing.T, newIO newDatagramIOFunc) {
		transport := openTest(t, newIO, "127.0.0.1", "::1")
		port := transport.GetAutoBindPort()
		require.NotZero(t, port)
		require.Len(t, transport.tcp, 2)
		require.Len(t, transport.udp, 2)
		for i, ip := range []string{"127.0.0.1", "::1"} {
			want := net.JoinHostPort(ip, strconv.Itoa(port))
			require.Equal(t, want, transport.tcp[i].Addr().String())
			require.Equal(t, want, transport.udp[i].conn.LocalAddr().String())
		}
	})
}

func TestBindAddressesThatMeanAllInterfaces(t *testing.T) {
	for _, bind := range []string{"", "0.0.0.0", "::", "[::]"} {
		transport := openTest(t, newDatagramIO, bind)
		require.True(t, transport.boundAddr().IP.IsUnspecified(), bind)
		conn, err := transport.DialTimeout(transport.on("127.0.0.1").String(), waitLimit)
		require.NoError(t, err, bind)
		require.NoError(t, receive(t, transport.StreamCh()).Close())
		require.NoError(t, conn.Close())
	}
}

// P151 gives the words that a Create that failed is recognised by (P129).
func TestPortTakenClosesEverything(t *testing.T) {
	first := openTest(t, newDatagramIO, "127.0.0.1")
	port := first.GetAutoBindPort()
	config := &NetTransportConfig{BindAddrs: []string{"127.0.0.2", "127.0.0.1"}, BindPort: port}
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		config.BindAddrs = config.BindAddrs[1:] // not every system has more of 127.0.0.0/8
	} else {
		require.NoError(t, l.Close())
	}
	_, err = NewNetTransport(config)
	require.ErrorContains(t, err, `failed to start TCP listener on "127.0.0.1" port `+strconv.Itoa(port)+": ")
	require.ErrorIs(t, err, syscall.EADDRINUSE)

	// What was opened before is free again.
	if len(config.BindAddrs) == 2 {
		config.BindAddrs = config.BindAddrs[:1]
		second, err := NewNetTransport(config)
		require.NoError(t, err)
		require.NoError(t, second.Shutdown())
	}
}

// TestUDPPortTaken checks P129.
func TestUDPPortTaken(t *testing.T) {
	taken, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer taken.Close()
	port := taken.LocalAddr().(*net.UDPAddr).Port
	_, err = NewNetTransport(&NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, BindPort: port})
	if err != nil && errors.Is(err, syscall.EADDRINUSE) {
		require.ErrorContains(t, err, `port `+strconv.Itoa(port)+": ")
	} else {
		require.Error(t, err)
	}
}

// errNoIO is why a test's socket cannot be read.
var errNoIO = errors.New("no way to read")

// P10: a port that is not free for all listeners is given up for another one.
func TestAnotherPortIsTriedIfTheSystemChoseIt(t *testing.T) {
	for failures, works := range map[int]bool{1: true, portAttempts - 1: true, portAttempts: false} {
		ports := make(map[string]bool)
		calls := 0
		newIO := func(conn *net.UDPConn, ipv6 bool) (datagramIO, error) {
			ports[conn.LocalAddr().String()] = true
			if calls++; calls <= failures {
				return nil, errNoIO
			}
			return newDatagramIO(conn, ipv6)
		}
		config := &NetTransportConfig{BindAddrs: []string{"127.0.0.1"}}
		transport, err := openNetTransport(config, testLogger(io.Discard), newIO)
		if !works {
			require.ErrorIs(t, err, errNoIO)
			require.ErrorContains(t, err, `failed to start UDP listener on "127.0.0.1" port `)
			require.Equal(t, portAttempts, calls)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, failures+1, calls)
		require.Contains(t, ports, transport.on("127.0.0.1").String())
		require.NoError(t, transport.Shutdown())
	}
}

// TestAGivenPortIsTriedOnce checks P10.
func TestAGivenPortIsTriedOnce(t *testing.T) {
	free := openTest(t, newDatagramIO, "127.0.0.1")
	port := free.GetAutoBindPort()
	require.NoError(t, free.Shutdown())
	calls := 0
	config := &NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, BindPort: port}
	_, err := openNetTransport(config, testLogger(io.Discard), func(*net.UDPConn, bool) (datagramIO, error) {
		calls++
		return nil, errNoIO
	})
	require.ErrorIs(t, err, errNoIO)
	require.Equal(t, 1, calls)
}

// TestAddressOfAnotherMachineIsNotRetried checks P129.
func TestAddressOfAnotherMachineIsNotRetried(t *testing.T) {
	_, err := NewNetTransport(&NetTransportConfig{BindAddrs: []string{"203.0.113.1"}})
	require.ErrorContains(t, err, `failed to start TCP listener on "203.0.113.1" port 0: `)
}

// TestPortsThatCannotBeAreRefused checks P129.
func TestPortsThatCannotBeAreRefused(t *testing.T) {
	for _, port := range []int{-1, 65536, 65536 + 7946} {
		_, err := NewNetTransport(&NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, BindPort: port, Logger: log.New(io.Discard, "", 0)})
		require.ErrorContains(t, err, `failed to start TCP listener on "127.0.0.1"`)
	}
}

// TestBufferIsHalvedUntilAccepted checks P130.
func TestBufferIsHalvedUntilAccepted(t *testing.T) {
	var asked []int
	require.NoError(t, enlarge(func(n int) error {
		asked = append(asked, n)
		if n > 300<<10 {
			return errNoIO
		}
		return nil
	}))
	require.Equal(t, []int{2 << 20, 1 << 20, 512 << 10, 256 << 10}, asked)

	asked = nil
	err := enlarge(func(n int) error {
		asked = append(asked, n)
		return errNoIO
	})
	require.ErrorIs(t, err, errNoIO)
	require.Equal(t, 1, asked[len(asked)-1])
}

// TestNoBufferIsAnError checks P130.
func TestNoBufferIsAnError(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.ErrorIs(t, enlargeBuffers(conn), net.ErrClosed)
}

// TestPacketHasExactlyItsBytes checks P131.
func TestPacketHasExactlyItsBytes(t *testing.T) {
	eachIO(t, func(t *testing.T, newIO newDatagramIOFunc) {
		a, b := openTest(t, newIO, "127.0.0.1"), openTest(t, newIO, "127.0.0.1")
		for _, size := range []int{1, 22, 1400, 65507} {
			before := time.Now()
			sent, err := a.WriteTo(bytes.Repeat([]byte{7}, size), b.on("127.0.0.1").String())
			require.NoError(t, err)
			p := receive(t, b.PacketCh())
			require.Equal(t, bytes.Repeat([]byte{7}, size), p.Buf)
			require.Less(t, cap(p.Buf), size+size/4+64, "no buffer of the largest size for each packet")
			require.Equal(t, a.on("127.0.0.1").String(), p.From.String())
			require.WithinRange(t, sent, before, time.Now())
			require.WithinRange(t, p.Timestamp, before, time.Now())
		}
	})
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestEmptyDatagramIsLoggedAndDropped checks P131.
func TestEmptyDatagramIsLoggedAndDropped(t *testing.T) {
	eachIO(t, func(t *testing.T, newIO newDatagramIOFunc) {
		var lines lockedBuffer
		a := openTest(t, newIO, "127.0.0.1")
		b, err := openNetTransport(&NetTransportConfig{BindAddrs: []string{"127.0.0.1"}}, testLogger(&lines), newIO)
		require.NoError(t, err)
		defer b.Shutdown()
		to := b.on("127.0.0.1")
		require.NoError(t, a.sendDirect(nil, to))
		requireSent(t, a, outDatagram{to: to}, outDatagram{buf: []byte{}, to: to}, outDatagram{buf: []byte("next"), to: to})
		require.Equal(t, "next", string(receive(t, b.PacketCh()).Buf))
		line := "[ERR] memberlist: UDP packet too short (0 bytes) from=" + a.on("127.0.0.1").String() + "\n"
		require.Equal(t, line+line+line, lines.String())
	})
}

// scriptedIO plays errors, then blocks until it is closed.
type scriptedIO struct {
	errs   []error
	played chan struct{}
	conn   *net.UDPConn
}

func (s *scriptedIO) receive(func([]datagram)) error {
	if len(s.errs) > 0 {
		err := s.errs[0]
		s.errs = s.errs[1:]
		return err
	}
	s.played <- struct{}{}
	_, _, err := s.conn.ReadFromUDPAddrPort(make([]byte, 1))
	return err
}

func (s *scriptedIO) send([]outDatagram) {}

// TestReadErrorsAreLoggedAndReadingGoesOn checks P131.
func TestReadErrorsAreLoggedAndReadingGoesOn(t *testing.T) {
	var lines lockedBuffer
	script := &scriptedIO{errs: []error{errNoIO, nil, errNoIO}, played: make(chan struct{}, 1)}
	config := &NetTransportConfig{BindAddrs: []string{"127.0.0.1"}}
	transport, err := openNetTransport(config, testLogger(&lines), func(conn *net.UDPConn, _ bool) (datagramIO, error) {
		script.conn = conn
		return script, nil
	})
	require.NoError(t, err)
	receive(t, script.played)
	require.NoError(t, transport.Shutdown())
	line := "[ERR] memberlist: Error reading UDP packet: no way to read\n"
	require.Equal(t, line+line, lines.String(), "closing is no error to log")
}

// TestShutdownInterruptsThePauseAfterAnError checks P131.
func TestShutdownInterruptsThePauseAfterAnError(t *testing.T) {
	errs := make([]error, 10) // after which it would pause for more than 5 s in all
	for i := range errs {
		errs[i] = errNoIO
	}
	var lines lockedBuffer
	script := &scriptedIO{errs: errs}
	config := &NetTransportConfig{BindAddrs: []string{"127.0.0.1"}}
	transport, err := openNetTransport(config, testLogger(&lines), func(conn *net.UDPConn, _ bool) (datagramIO, error) {
		return script, nil
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return lines.String() != "" }, waitLimit, time.Millisecond)
	before := time.Now()
	require.NoError(t, transport.Shutdown())
	require.Less(t, time.Since(before), time.Second)
}

// TestRetryDelay checks P132.
func TestRetryDelay(t *testing.T) {
	var d retryDelay
	for _, want := range []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000} {
		require.Equal(t, want*time.Millisecond, d.next())
	}
	d.reset()
	require.Equal(t, 5*time.Millisecond, d.next())
}

// A listener that was closed behind the transport's back fails to accept from
// then on (P132).
func TestAcceptErrorsAreLoggedAndRetried(t *testing.T) {
	var lines lockedBuffer
	transport, err := openNetTransport(&NetTransportConfig{BindAddrs: []string{"127.0.0.1"}}, testLogger(&lines), newDatagramIO)
	require.NoError(t, err)
	require.NoError(t, transport.tcp[0].Close())
	again := func() bool {
		return bytes.Count([]byte(lines.String()), []byte("[ERR] memberlist: Error accepting TCP connection: ")) >= 3
	}
	require.Eventually(t, again, waitLimit, time.Millisecond)
	require.ErrorIs(t, transport.Shutdown(), net.ErrClosed, "the error of closing is told")
	require.ErrorIs(t, transport.Shutdown(), net.ErrClosed, "again")
}

// TestChannelsAreUnbuffered checks P133.
func TestChannelsAreUnbuffered(t *testing.T) {
	transport := openTest(t, newDatagramIO, "127.0.0.1")
	require.Zero(t, cap(transport.PacketCh()))
	require.Zero(t, cap(transport.StreamCh()))
}

// TestPacketsLeaveFromTheFirstSocketThatCanReach checks P134.
func TestPacketsLeaveFromTheFirstSocketThatCanReach(t *testing.T) {
	needIPv6(t)
	eachIO(t, func(t *testing.T, newIO newDatagramIOFunc) {
		a := openTest(t, newIO, "127.0.0.1", "::1")
		b := openTest(t, newIO, "::1", "127.0.0.1")
		for _, ip := range []string{"127.0.0.1", "::ffff:127.0.0.1", "::1"} {
			from := netip.MustParseAddr(ip).Unmap().String()
			_, err := a.WriteToAddress([]byte(ip), Address{Addr: b.on(ip).String(), Name: "ignored"})
			require.NoError(t, err)
			p := receive(t, b.PacketCh())
			require.Equal(t, ip, string(p.Buf))
			require.Equal(t, a.on(from).String(), p.From.String())
		}
		// A batch is split by socket, and keeps its order.
		four, six := b.on("127.0.0.1"), b.on("::1")
		batch := []outDatagram{{buf: []byte("1"), to: four}, {buf: []byte("2"), to: four}, {buf: []byte("3"), to: six}, {buf: []byte("4"), to: four}}
		requireSent(t, a, batch...)
		got := make(map[string]string)
		for range batch {
			p := receive(t, b.PacketCh())
			got[string(p.Buf)] = p.From.String()
		}
		require.Equal(t, map[string]string{
			"1": a.on("127.0.0.1").String(), "2": a.on("127.0.0.1").String(),
			"3": a.on("::1").String(), "4": a.on("127.0.0.1").String(),
		}, got)
	})
}

// A socket for all interfaces is an IPv6 socket where there is IPv6. It must send
// to IPv4 addresses in either form, and report senders as IPv4.
func TestSocketForAllInterfacesSpeaksBothProtocols(t *testing.T) {
	eachIO(t, func(t *testing.T, newIO newDatagramIOFunc) {
		for _, bind := range []string{"0.0.0.0", "::", ""} {
			a := openTest(t, newIO, bind)
			b := openTest(t, newIO, "127.0.0.1")
			for _, ip := range []string{"127.0.0.1", "::ffff:127.0.0.1"} {
				to := b.on(ip)
				_, err := a.WriteTo([]byte("text"), to.String())
				require.NoError(t, err, bind)
				require.NoError(t, a.sendDirect([]byte("direct"), to), bind)
				requireSent(t, a, outDatagram{buf: []byte("batch"), to: to}, outDatagram{buf: []byte("batch"), to: to})
				for range 4 {
					require.Equal(t, a.on("127.0.0.1").String(), receive(t, b.PacketCh()).From.String())
				}
			}
			require.NoError(t, b.sendDirect([]byte("back"), a.on("127.0.0.1")))
			require.Equal(t, b.on("127.0.0.1").String(), receive(t, a.PacketCh()).From.String())
		}
	})
}

func TestWriteToUnusableAddress(t *testing.T) {
	eachIO(t, func(t *testing.T, newIO newDatagramIOFunc) {
		a := openTest(t, newIO, "127.0.0.1")
		for _, addr := range []string{"", ":7946", "127.0.0.1", "127.0.0.1:99999", "[::1]:7946"} {
			_, err := a.WriteTo([]byte("x"), addr)
			require.Error(t, err, addr)
		}
		_, err := a.WriteTo(make([]byte, 65508), a.on("127.0.0.1").String())
		require.Error(t, err, "longer than a datagram can be")
		require.Error(t, a.sendDirect([]byte("x"), netip.AddrPort{}))
	})
}

func TestWriteToHostName(t *testing.T) {
	a := openTest(t, newDatagramIO, "127.0.0.1")
	if _, err := net.ResolveUDPAddr("udp4", "localhost:1"); err != nil {
		t.Skip("localhost does not resolve: ", err)
	}
	_, err := a.WriteTo([]byte("by name"), "localhost:"+strconv.Itoa(a.GetAutoBindPort()))
	require.NoError(t, err)
	require.Equal(t, "by name", string(receive(t, a.PacketCh()).Buf))
}

func TestWriteToDoesNotAllocate(t *testing.T) {
	a := openTest(t, newDatagramIO, "127.0.0.1")
	a.receiveDirect(func(bool) func([]datagram) { return func([]datagram) {} })
	buf := make([]byte, 512)
	to := a.on("127.0.0.1")
	text := to.String()
	require.Zero(t, fewestAllocs(func() { _, _ = a.WriteTo(buf, text) }))
	require.Zero(t, fewestAllocs(func() { _ = a.sendDirect(buf, to) }))
}

// fewestAllocs is how often f allocates when the pools that it uses are full,
// which they are not always, and with the race detector rarely.
func fewestAllocs(f func()) float64 {
	fewest := testing.AllocsPerRun(1, f)
	for range 1000 {
		if fewest == 0 {
			break
		}
		fewest = min(fewest, testing.AllocsPerRun(1, f))
	}
	return fewest
}

// requireSent sends a batch, all of which must succeed.
func requireSent(t *testing.T, from *NetTransport, batch ...outDatagram) {
	t.Helper()
	from.sendDirectBatch(batch)
	for _, d := range batch {
		require.NoError(t, d.err)
	}
}

// A bad address in a batch is told, and holds up none of the others.
func TestSendDirectBatchTriesAll(t *testing.T) {
	eachIO(t, func(t *testing.T, newIO newDatagramIOFunc) {
		a := openTest(t, newIO, "127.0.0.1")
		good, wrong := a.on("127.0.0.1"), a.on("::1")
		var batch []outDatagram
		for i := range 100 { // several system calls
			d := outDatagram{buf: []byte{byte(i)}, to: good}
			switch i % 10 {
			case 3:
				d.to = wrong
			case 5:
				d.to = netip.AddrPort{}
			case 7:
				d.to = netip.AddrPortFrom(good.Addr(), 0) // refused by the system
			}
			batch = append(batch, d)
		}
		a.sendDirectBatch(batch)
		for i, d := range batch {
			if d.to != good {
				require.Error(t, d.err, i)
				continue
			}
			require.NoError(t, d.err, i)
			require.Equal(t, []byte{byte(i)}, receive(t, a.PacketCh()).Buf)
		}
		a.sendDirectBatch(nil)
	})
}

func TestSendDirectBatchAfterShutdown(t *testing.T) {
	eachIO(t, func(t *testing.T, newIO newDatagramIOFunc) {
		a := openTest(t, newIO, "127.0.0.1")
		to := a.on("127.0.0.1")
		require.NoError(t, a.Shutdown())
		batch := []outDatagram{{buf: []byte{1}, to: to}, {buf: []byte{2}, to: to}}
		a.sendDirectBatch(batch)
		for _, d := range batch {
			require.ErrorIs(t, d.err, net.ErrClosed)
		}
	})
}

// TestShutdown checks P135.
func TestShutdown(t *testing.T) {
	eachIO(t, func(t *testing.T, newIO newDatagramIOFunc) {
		transport := openTest(t, newIO, "127.0.0.1")
		to := transport.on("127.0.0.1").String()
		// A packet and a stream that nobody takes hold up the readers.
		_, err := transport.WriteTo([]byte("x"), to)
		require.NoError(t, err)
		waiting, err := transport.DialTimeout(to, waitLimit)
		require.NoError(t, err)
		defer waiting.Close()

		var group sync.WaitGroup
		for range 4 {
			group.Go(func() { require.NoError(t, transport.Shutdown()) })
		}
		returns(t, group.Wait)

		_, err = transport.WriteTo([]byte("x"), to)
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = transport.DialTimeout(to, waitLimit)
		require.Error(t, err)
		require.ErrorIs(t, transport.IngestStream(waiting), net.ErrClosed)
		// The connection that nobody took is closed.
		_, err = waiting.Read(make([]byte, 1))
		require.Error(t, err)
		// The port is free again.
		again, err := NewNetTransport(&NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, BindPort: transport.GetAutoBindPort()})
		require.NoError(t, err)
		require.NoError(t, again.Shutdown())
	})
}

// The library asks for packets while a reader may wait already for somebody to
// take one from the channel: nothing is lost, and the order stays.
func TestReceiveDirectTakesOverFromTheChannel(t *testing.T) {
	eachIO(t, func(t *testing.T, newIO newDatagramIOFunc) {
		transport := openTest(t, newIO, "127.0.0.1")
		to := transport.on("127.0.0.1")
		for i := range 40 {
			require.NoError(t, transport.sendDirect([]byte{byte(i)}, to))
		}
		require.Equal(t, []byte{0}, receive(t, transport.PacketCh()).Buf)

		type arrival struct {
			content byte
			from    netip.AddrPort
			at      time.Time
		}
		arrivals := make(chan arrival, 100)
		transport.receiveDirect(func(bool) func([]datagram) {
			return func(batch []datagram) {
				for _, d := range batch {
					arrivals <- arrival{d.buf[0], d.from, d.at}
				}
			}
		})
		transport.receiveDirect(func(bool) func([]datagram) { panic("only the first call counts") })
		for i := 1; i < 40; i++ {
			a := receive(t, arrivals)
			require.Equal(t, byte(i), a.content)
			require.Equal(t, to, a.from)
			require.WithinDuration(t, time.Now(), a.at, waitLimit)
		}
		local, remote := net.Pipe()
		go func() { _, _ = local.Write([]byte{99}); local.Close() }()
		require.NoError(t, transport.IngestPacket(remote, net.UDPAddrFromAddrPort(to), time.Now(), true))
		require.Equal(t, byte(99), receive(t, arrivals).content)
	})
}

func TestReceiveDirectHasAHandlerForEachReader(t *testing.T) {
	needIPv6(t)
	transport := openTest(t, newDatagramIO, "127.0.0.1", "::1")
	type arrival struct{ handler, content int }
	var mu sync.Mutex
	handlers := 0
	arrivals := make(chan arrival, 10)
	transport.receiveDirect(func(bool) func([]datagram) {
		mu.Lock()
		defer mu.Unlock()
		handlers++
		id := handlers
		return func(batch []datagram) {
			for _, d := range batch {
				arrivals <- arrival{id, int(d.buf[0])}
			}
		}
	})
	seen := make(map[int]int)
	for _, ip := range []string{"127.0.0.1", "::1", "127.0.0.1", "::1"} {
		require.NoError(t, transport.sendDirect([]byte{byte(len(ip))}, transport.on(ip)))
		a := receive(t, arrivals)
		if id, ok := seen[a.content]; ok {
			require.Equal(t, id, a.handler)
		}
		seen[a.content] = a.handler
	}
	require.Len(t, seen, 2)
	require.NotEqual(t, seen[len("::1")], seen[len("127.0.0.1")])
}

func TestAcceptDirectTakesOverFromTheChannel(t *testing.T) {
	transport := openTest(t, newDatagramIO, "127.0.0.1")
	dial := func() net.Conn {
		conn, err := transport.DialTimeout(transport.on("127.0.0.1").String(), waitLimit)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	waiting := dial()
	accepted := make(chan net.Conn, 3)
	transport.acceptDirect(func(conn net.Conn) { accepted <- conn })
	transport.acceptDirect(func(net.Conn) { panic("only the first call counts") })
	conn := receive(t, accepted)
	require.Equal(t, waiting.LocalAddr().String(), conn.RemoteAddr().String())
	require.NoError(t, conn.Close())

	next := dial()
	conn = receive(t, accepted)
	require.Equal(t, next.LocalAddr().String(), conn.RemoteAddr().String())
	require.NoError(t, conn.Close())

	local, remote := net.Pipe()
	defer local.Close()
	require.NoError(t, transport.IngestStream(remote))
	require.Same(t, remote, receive(t, accepted))
}

// brokenConn fails to be read.
type brokenConn struct {
	net.Conn
	closed bool
}

func (c *brokenConn) Read([]byte) (int, error) { return 0, errNoIO }
func (c *brokenConn) Close() error             { c.closed = true; return nil }

// TestIngestPacketRefuses checks P136.
func TestIngestPacketRefuses(t *testing.T) {
	net_ := openTest(t, newDatagramIO, "127.0.0.1")
	mock := new(MockNetwork).NewTransport("one")
	for _, transport := range []IngestionAwareTransport{net_, mock} {
		for _, shouldClose := range []bool{true, false} {
			broken := new(brokenConn)
			require.ErrorIs(t, transport.IngestPacket(broken, nil, time.Now(), shouldClose), errNoIO)
			require.Equal(t, shouldClose, broken.closed)
		}
		require.ErrorIs(t, ingestBytes(transport, nil), ErrMalformed)
		require.ErrorIs(t, ingestBytes(transport, make([]byte, ingestLimit+1)), ErrTooLarge)
	}
	require.NoError(t, net_.Shutdown())
	require.NoError(t, mock.Shutdown())
	for _, transport := range []IngestionAwareTransport{net_, mock} {
		require.ErrorIs(t, ingestBytes(transport, []byte("late")), net.ErrClosed)
		local, remote := net.Pipe()
		require.ErrorIs(t, transport.IngestStream(remote), net.ErrClosed)
		_, err := local.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "the stream is closed")
	}
}

func ingestBytes(to IngestionAwareTransport, payload []byte) error {
	local, remote := net.Pipe()
	go func() { _, _ = local.Write(payload); local.Close() }()
	return to.IngestPacket(remote, &MockAddress{addr: "127.0.0.1:1"}, time.Now(), true)
}

// P136: what waits to be taken is released by Shutdown.
func TestIngestionEndsWithShutdown(t *testing.T) {
	transports := map[string]interface {
		Transport
		IngestionAwareTransport
	}{
		"net":  openTest(t, newDatagramIO, "127.0.0.1"),
		"mock": new(MockNetwork).NewTransport("one"),
	}
	for name, transport := range transports {
		t.Run(name, func(t *testing.T) {
			for range cap(transport.PacketCh()) {
				require.NoError(t, ingestBytes(transport, []byte("fills the channel")))
			}
			failed := make(chan error, 2)
			local, remote := net.Pipe()
			defer local.Close()
			go func() { failed <- ingestBytes(transport, []byte("too much")) }()
			go func() { failed <- transport.IngestStream(remote) }()
			require.NoError(t, transport.Shutdown())
			require.ErrorIs(t, receive(t, failed), net.ErrClosed)
			require.ErrorIs(t, receive(t, failed), net.ErrClosed)
		})
	}
}

// TestFinalAdvertiseAddr checks P137.
func TestFinalAdvertiseAddr(t *testing.T) {
	one := openTest(t, newDatagramIO, "127.0.0.1")
	bound := one.GetAutoBindPort()
	for _, test := range []struct {
		ip   string
		port int
		want net.IP
	}{
		{"10.1.2.3", 9999, net.IP{10, 1, 2, 3}},
		{"10.1.2.3", 0, net.IP{10, 1, 2, 3}},
		{"::ffff:10.1.2.3", 1, net.IP{10, 1, 2, 3}},
		{"fd00::1", 7946, net.ParseIP("fd00::1")},
	} {
		ip, port, err := one.FinalAdvertiseAddr(test.ip, test.port)
		require.NoError(t, err)
		require.Equal(t, test.want, ip, test.ip)
		require.Equal(t, test.port, port, "a given port is used as it is")
	}
	for _, bad := range []string{"host", "10.1.2", "10.1.2.3:7946", "fe80::1%eth0"} {
		_, _, err := one.FinalAdvertiseAddr(bad, 1)
		require.EqualError(t, err, `failed to parse advertise address "`+bad+`"`)
	}

	ip, port, err := one.FinalAdvertiseAddr("", 9999)
	require.NoError(t, err)
	require.Equal(t, net.IP{127, 0, 0, 1}, ip, "W72: 4 bytes when bound to an IPv4 address")
	require.Equal(t, bound, port, "without an address the given port is ignored")
}

// TestFinalAdvertiseAddrOfAllInterfaces checks P137.
func TestFinalAdvertiseAddrOfAllInterfaces(t *testing.T) {
	all := openTest(t, newDatagramIO, "0.0.0.0")
	want, noneErr := findAdvertiseAddr()
	ip, port, err := all.FinalAdvertiseAddr("", 9999)
	require.Equal(t, noneErr, err)
	if err == nil {
		require.Equal(t, want, ip)
		require.Equal(t, all.GetAutoBindPort(), port)
	}

	for _, bind := range []string{"", "::", "[::]"} {
		ip, _, err := openTest(t, newDatagramIO, bind).FinalAdvertiseAddr("", 0)
		require.Equal(t, noneErr, err)
		require.Equal(t, want, ip, "%q is told to nobody", bind)
	}
}

// A loopback address in brackets is that address, and neither all interfaces nor
// advertised as such.
func TestBindAddressInBracketsIsTaken(t *testing.T) {
	if _, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6: ", err)
	}
	transport := openTest(t, newDatagramIO, "[::1]")
	ip, _, err := transport.FinalAdvertiseAddr("", 0)
	require.NoError(t, err)
	require.Equal(t, net.IPv6loopback, ip)
}

// A name was once taken for all interfaces. Now it is an error that says what to do.
func TestBindAddressThatIsNoneSaysSo(t *testing.T) {
	for bind, want := range map[string]string{
		"localhost":      `bind address "localhost" is no IP address: give an IP address, or nothing for all interfaces`,
		" 127.0.0.1":     `bind address " 127.0.0.1" is no IP address: give an IP address, or nothing for all interfaces`,
		"[::1":           `bind address "[::1" is no IP address: give an IP address, or nothing for all interfaces`,
		"127.0.0.1:7946": `bind address "127.0.0.1:7946" has a port, which belongs into BindPort: give an IP address, or nothing for all interfaces`,
		"[::1]:7946":     `bind address "[::1]:7946" has a port, which belongs into BindPort: give an IP address, or nothing for all interfaces`,
		"host:7946":      `bind address "host:7946" has a port, which belongs into BindPort: give an IP address, or nothing for all interfaces`,
	} {
		_, err := NewNetTransport(&NetTransportConfig{BindAddrs: []string{bind}})
		require.EqualError(t, err, want)
	}
	cfg := loopback("n1")
	cfg.BindAddr = "localhost"
	_, err := Create(cfg)
	require.ErrorContains(t, err, `could not set up network transport: failed to obtain an address: bind address "localhost" is no IP address`)
}

func TestAdvertiseAddressOfAClosedTransportIsAnError(t *testing.T) {
	transport := openTest(t, newDatagramIO, "127.0.0.1")
	require.NoError(t, transport.Shutdown())
	for _, ip := range []string{"", "10.1.2.3"} {
		_, _, err := transport.FinalAdvertiseAddr(ip, 1)
		require.ErrorIs(t, err, net.ErrClosed)
	}
}

// The counters of P147 carry the labels of the transport.
func TestUDPReceived(t *testing.T) {
	sink := metrics.NewInmemSink(time.Hour, time.Hour)
	config := metrics.DefaultConfig("")
	config.EnableHostname, config.EnableRuntimeMetrics = false, false
	_, err := metrics.NewGlobal(config, sink)
	require.NoError(t, err)
	defer metrics.NewGlobal(config, new(metrics.BlackholeSink))

	labels := append(make([]metrics.Label, 0, 4), metrics.Label{Name: "zone", Value: "a"})
	transport, err := NewNetTransport(&NetTransportConfig{
		BindAddrs:    []string{"127.0.0.1"},
		Logger:       log.New(io.Discard, "", 0),
		MetricLabels: labels,
	})
	require.NoError(t, err)
	defer transport.Shutdown()
	for _, size := range []int{100, 250} {
		_, err := transport.WriteTo(make([]byte, size), transport.on("127.0.0.1").String())
		require.NoError(t, err)
		receive(t, transport.PacketCh())
	}
	counter := sink.Data()[0].Counters["memberlist.udp.received;zone=a"]
	require.Equal(t, 2, counter.Count)
	require.EqualValues(t, 350, counter.Sum)
}

func TestNetTransportWithoutLogger(t *testing.T) {
	transport, err := NewNetTransport(&NetTransportConfig{BindAddrs: []string{"127.0.0.1"}})
	require.NoError(t, err)
	require.Same(t, log.Default(), transport.log.classic)
	require.NoError(t, transport.Shutdown())
}

func TestNetTransportKeepsNoReferenceToItsConfig(t *testing.T) {
	config := &NetTransportConfig{BindAddrs: []string{"127.0.0.1"}}
	transport, err := NewNetTransport(config)
	require.NoError(t, err)
	defer transport.Shutdown()
	config.BindAddrs[0] = "0.0.0.0"
	ip, _, err := transport.FinalAdvertiseAddr("", 0)
	require.NoError(t, err)
	require.True(t, ip.IsLoopback())
}

func TestAddrPortFrom(t *testing.T) {
	want := netip.MustParseAddrPort("10.0.0.1:7946")
	require.Equal(t, want, addrPortFrom(&net.UDPAddr{IP: net.ParseIP("10.0.0.1"), Port: 7946}))
	require.Equal(t, want, addrPortFrom(&net.TCPAddr{IP: net.IP{10, 0, 0, 1}, Port: 7946}))
	require.Zero(t, addrPortFrom(&MockAddress{addr: "10.0.0.1:7946"}))
	require.Zero(t, addrPortFrom(nil))
}

func TestDialTimeoutIsATimeout(t *testing.T) {
	transport := openTest(t, newDatagramIO, "127.0.0.1")
	_, err := transport.DialAddressTimeout(Address{Addr: transport.on("127.0.0.1").String()}, time.Nanosecond)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())
}
