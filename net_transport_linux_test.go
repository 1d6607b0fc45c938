package memberlist

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestBatchSocketAddresses(t *testing.T) {
	for _, test := range []struct {
		addr   string
		family uint16
		length uint32
		want   string // read back; empty: refused
	}{
		{"10.1.2.3:7946", unix.AF_INET, unix.SizeofSockaddrInet4, "10.1.2.3:7946"},
		{"[::ffff:10.1.2.3]:258", unix.AF_INET, unix.SizeofSockaddrInet4, "10.1.2.3:258"},
		{"10.1.2.3:7946", unix.AF_INET6, unix.SizeofSockaddrInet6, "10.1.2.3:7946"},
		{"[fd00::5]:1", unix.AF_INET6, unix.SizeofSockaddrInet6, "[fd00::5]:1"},
		{"[fd00::5]:1", unix.AF_INET, 0, ""},
		{"[fe80::5%2]:1", unix.AF_INET6, 0, ""},
	} {
		var sa unix.RawSockaddrInet6
		length, ok := putReceiver(&sa, netip.MustParseAddrPort(test.addr), test.family)
		require.Equal(t, test.want != "", ok, test.addr)
		require.Equal(t, test.length, length, test.addr)
		if ok {
			require.Equal(t, test.want, senderOf(&sa).String())
		}
	}
	_, ok := putReceiver(new(unix.RawSockaddrInet6), netip.AddrPort{}, unix.AF_INET)
	require.False(t, ok)

	linkLocal := unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: netip.MustParseAddr("fe80::5").As16(), Scope_id: 2}
	require.Equal(t, "[fe80::5%2]:0", senderOf(&linkLocal).String())
}

func TestBatchReadsAllThatWaits(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer conn.Close()
	batched, err := newDatagramIO(conn, false)
	require.NoError(t, err)
	to := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	var sent []outDatagram
	for i := range burst + batchSize + 3 {
		sent = append(sent, outDatagram{buf: []byte{byte(i)}, to: to})
	}
	batched.send(sent)

	var sizes []int
	next := 0
	for next < len(sent) {
		require.NoError(t, batched.receive(func(batch []datagram) {
			sizes = append(sizes, len(batch))
			for _, d := range batch {
				require.Equal(t, sent[next].buf, d.buf)
				next++
			}
		}))
	}
	require.Equal(t, []int{1, 1, batchSize, 3}, sizes, "single ones first, which cost little memory")
}

func TestBatchDoesNotAllocate(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer conn.Close()
	batched, err := newDatagramIO(conn, false)
	require.NoError(t, err)
	to := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	batch := []outDatagram{{buf: []byte{1}, to: to}, {buf: []byte{2}, to: to}, {buf: []byte{3}, to: to}}
	handle := func([]datagram) {}
	require.Zero(t, fewestAllocs(func() {
		batched.send(batch)
		_ = batched.receive(handle)
	}))
}

func TestBatchReceiveTellsErrors(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	batched, err := newDatagramIO(conn, false)
	require.NoError(t, err)
	// With IP_RECVERR the refusal of the other side becomes an error here.
	raw, err := conn.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	}))
	closed, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, err = conn.WriteToUDPAddrPort([]byte{1}, closed.LocalAddr().(*net.UDPAddr).AddrPort())
	require.NoError(t, err)
	err = batched.receive(func([]datagram) { t.Error("received something") })
	require.ErrorIs(t, err, unix.ECONNREFUSED)

	require.NoError(t, conn.Close())
	require.ErrorIs(t, batched.receive(nil), net.ErrClosed)
	_, err = newDatagramIO(new(net.UDPConn), false)
	require.ErrorIs(t, err, unix.EINVAL)
	forceBuffers(new(net.UDPConn)) // does nothing
}

// TestBuffersAreLarge checks P130.
func TestBuffersAreLarge(t *testing.T) {
	transport := openTest(t, newDatagramIO, "127.0.0.1")
	small, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer small.Close()
	for _, option := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		size := socketOption(t, transport.udp[0].conn, option)
		require.Greater(t, size, socketOption(t, small, option)-1)
	}
}

func socketOption(t *testing.T, conn *net.UDPConn, option int) (value int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		value, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, option)
	}))
	require.NoError(t, err)
	return value
}

// A listener whose queue is full swallows connections (P135).
func TestShutdownEndsDials(t *testing.T) {
	full, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer full.Close()
	raw, err := full.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { _ = unix.Listen(int(fd), 0) }))

	transport, err := openNetTransport(&NetTransportConfig{BindAddrs: []string{"127.0.0.1"}}, testLogger(io.Discard), newDatagramIO)
	require.NoError(t, err)
	const dials = 8
	failed := make(chan error, dials)
	for range dials {
		go func() {
			conn, err := transport.DialTimeout(full.Addr().String(), 0)
			if err == nil {
				conn.Close()
			}
			failed <- err
		}()
	}
	require.NoError(t, transport.Shutdown())
	succeeded := 0
	for range dials {
		if receive(t, failed) == nil {
			succeeded++
		}
	}
	require.Less(t, succeeded, dials)
}
