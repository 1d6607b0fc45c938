package memberlist

import (
	"io"
	"log"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// These benchmarks compare the transport with what its sockets can do, on
// loopback. Datagrams go to and fro one at a time, or in windows of
// benchWindow; the window is small enough for nothing to be lost.
const (
	benchPayload = 512
	benchWindow  = 64
)

func benchTransport(b *testing.B, newIO newDatagramIOFunc) *NetTransport {
	b.Helper()
	config := &NetTransportConfig{BindAddrs: []string{"127.0.0.1"}}
	t, err := openNetTransport(config, &logger{classic: log.New(io.Discard, "", 0)}, newIO)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, t.Shutdown()) })
	return t
}

func benchSocket(b *testing.B) *net.UDPConn {
	b.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(b, err)
	b.Cleanup(func() { conn.Close() })
	return conn
}

func (t *NetTransport) udpAddr() netip.AddrPort {
	return t.udp[0].conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func BenchmarkUDPRoundTrip(b *testing.B) {
	b.Run("raw", benchRawRoundTrip)
	b.Run("plain", func(b *testing.B) { benchDirectRoundTrip(b, newPlainIO) })
	b.Run("batched", func(b *testing.B) { benchDirectRoundTrip(b, newDatagramIO) })
	b.Run("channel", benchChannelRoundTrip)
}

func benchRawRoundTrip(b *testing.B) {
	near, far := benchSocket(b), benchSocket(b)
	go func() {
		buf := make([]byte, readBufferSize)
		for {
			n, from, err := far.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = far.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	to := far.LocalAddr().(*net.UDPAddr).AddrPort()
	buf := make([]byte, readBufferSize)
	for b.Loop() {
		_, err := near.WriteToUDPAddrPort(buf[:benchPayload], to)
		require.NoError(b, err)
		_, _, err = near.ReadFromUDPAddrPort(buf)
		require.NoError(b, err)
	}
}

func benchDirectRoundTrip(b *testing.B, newIO newDatagramIOFunc) {
	near, far := benchTransport(b, newIO), benchTransport(b, newIO)
	far.receiveDirect(func(bool) func([]datagram) {
		return func(batch []datagram) {
			for _, d := range batch {
				_ = far.sendDirect(d.buf, d.from)
			}
		}
	})
	back := make(chan struct{})
	near.receiveDirect(func(bool) func([]datagram) {
		return func([]datagram) { back <- struct{}{} }
	})
	buf := make([]byte, benchPayload)
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, near.sendDirect(buf, far.udpAddr()))
		<-back
	}
}

func benchChannelRoundTrip(b *testing.B) {
	near, far := benchTransport(b, newDatagramIO), benchTransport(b, newDatagramIO)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case p := <-far.PacketCh():
				_, _ = far.WriteTo(p.Buf, p.From.String())
			case <-stop:
				return
			}
		}
	}()
	buf := make([]byte, benchPayload)
	to := far.udpAddr().String()
	b.ReportAllocs()
	for b.Loop() {
		_, err := near.WriteTo(buf, to)
		require.NoError(b, err)
		<-near.PacketCh()
	}
}

// BenchmarkUDPStream is one way: a window is sent, and awaited at the other end.
func BenchmarkUDPStream(b *testing.B) {
	b.Run("raw", benchRawStream)
	b.Run("plain", func(b *testing.B) { benchDirectStream(b, newPlainIO) })
	b.Run("batched", func(b *testing.B) { benchDirectStream(b, newDatagramIO) })
}

func benchRawStream(b *testing.B) {
	near, far := benchSocket(b), benchSocket(b)
	to := far.LocalAddr().(*net.UDPAddr).AddrPort()
	arrived := make(chan struct{})
	go func() {
		buf := make([]byte, readBufferSize)
		for seen := 1; ; seen++ {
			if _, _, err := far.ReadFromUDPAddrPort(buf); err != nil {
				return
			}
			if seen%benchWindow == 0 {
				arrived <- struct{}{}
			}
		}
	}()
	buf := make([]byte, benchPayload)
	for b.Loop() {
		for range benchWindow {
			_, err := near.WriteToUDPAddrPort(buf, to)
			require.NoError(b, err)
		}
		<-arrived
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchWindow), "ns/datagram")
}

func benchDirectStream(b *testing.B, newIO newDatagramIOFunc) {
	near, far := benchTransport(b, newIO), benchTransport(b, newIO)
	arrived := make(chan struct{})
	far.receiveDirect(func(bool) func([]datagram) {
		seen := 0
		return func(batch []datagram) {
			for range batch {
				if seen++; seen%benchWindow == 0 {
					arrived <- struct{}{}
				}
			}
		}
	})
	batch := make([]outDatagram, benchWindow)
	for i := range batch {
		batch[i] = outDatagram{buf: make([]byte, benchPayload), to: far.udpAddr()}
	}
	b.ReportAllocs()
	for b.Loop() {
		near.sendDirectBatch(batch)
		require.NoError(b, batch[0].err)
		<-arrived
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchWindow), "ns/datagram")
}

// BenchmarkSentTogether sends a gossip round to three members, and the answers to a
// burst of pings, one by one and together, to sockets that nobody reads.
func BenchmarkSentTogether(b *testing.B) {
	b.Run("gossip/plain", func(b *testing.B) { benchGossipRound(b, newPlainIO) })
	b.Run("gossip/batched", func(b *testing.B) { benchGossipRound(b, newDatagramIO) })
	b.Run("answers/plain", func(b *testing.B) { benchAnswers(b, newPlainIO) })
	b.Run("answers/batched", func(b *testing.B) { benchAnswers(b, newDatagramIO) })
}

func benchGossipRound(b *testing.B, newIO newDatagramIOFunc) {
	m := benchNode(b, newIO, &endlessly{size: 100})
	var targets []*Node
	for range 3 {
		at := benchSocket(b).LocalAddr().(*net.UDPAddr)
		targets = append(targets, &Node{Name: at.String(), Addr: at.IP, Port: uint16(at.Port)})
	}
	round := new(effects)
	for b.Loop() {
		round.gossip = targets
		m.performer.gossip(round)
	}
}

func benchAnswers(b *testing.B, newIO newDatagramIOFunc) {
	m := benchNode(b, newIO, nil)
	m.broadcasts.Reset()
	from := unmapAddrPort(benchSocket(b).LocalAddr().(*net.UDPAddr).AddrPort())
	burst := make([]datagram, maxBatch)
	for i := range burst {
		p := ping{SeqNo: uint32(i), Node: borrow("n1"), SourceNode: borrow("asker")}
		burst[i] = datagram{buf: p.appendTo(nil), from: from}
	}
	in := newPacketHandler(m.inbound)
	for b.Loop() {
		in.batch(burst)
	}
}

// benchNode is a node that does nothing by itself.
func benchNode(b *testing.B, newIO newDatagramIOFunc, d Delegate) *Memberlist {
	b.Helper()
	cfg := loopback("n1")
	cfg.Transport, cfg.Delegate, cfg.EnableCompression = benchTransport(b, newIO), d, false
	still(cfg)
	m, err := Create(cfg)
	require.NoError(b, err)
	b.Cleanup(func() { _ = m.Shutdown() })
	return m
}
