package memberlist

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// batchesIO is the datagramIO of the platform and notes what is sent together.
type batchesIO struct {
	datagramIO
	sizes *[]int
}

func (b batchesIO) send(batch []outDatagram) {
	*b.sizes = append(*b.sizes, len(batch))
	b.datagramIO.send(batch)
}

// onBatches is a node on loopback that does nothing by itself, and the sizes of the
// batches that it sends.
func onBatches(t *testing.T, changes ...func(*Config)) (*Memberlist, *[]int) {
	t.Helper()
	sizes := new([]int)
	newIO := func(conn *net.UDPConn, ipv6 bool) (datagramIO, error) {
		inner, err := newDatagramIO(conn, ipv6)
		return batchesIO{inner, sizes}, err
	}
	cfg := loopback("n1")
	transport, err := openNetTransport(&NetTransportConfig{BindAddrs: []string{"127.0.0.1"}}, testLogger(io.Discard), newIO)
	require.NoError(t, err)
	cfg.Transport, cfg.RetransmitMult = transport, 4
	still(cfg)
	for _, change := range changes {
		change(cfg)
	}
	return createOnLoopback(t, cfg), sizes
}

// listener is a socket in the place of another node.
func listener(t *testing.T) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(waitLimit)))
	return conn, unmapAddrPort(conn.LocalAddr().(*net.UDPAddr).AddrPort())
}

// hear returns the messages of the next packet that comes.
func hear(t *testing.T, m *Memberlist, conn *net.UDPConn) []message {
	t.Helper()
	buf := make([]byte, readBufferSize)
	n, err := conn.Read(buf)
	require.NoError(t, err)
	msgs, err := newPacketReader(m.outbound.wire).read(buf[:n])
	require.NoError(t, err)
	return msgs
}

// A gossip round is one batch, sealed and drawn for each target (P70).
func TestGossipRoundLeavesTogether(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"plain":          func(cfg *Config) { cfg.EnableCompression = false },
		"LZW":            func(cfg *Config) { cfg.EnableCompression = true },
		"label and AES":  func(cfg *Config) { cfg.Label, cfg.SecretKey = "label", make([]byte, 32) },
		"with checksums": func(cfg *Config) { cfg.ProtocolVersion = 5 },
	} {
		t.Run(name, func(t *testing.T) {
			m, sizes := onBatches(t, change)
			m.broadcasts.Reset()
			var round effects
			var conns []*net.UDPConn
			for range 3 {
				conn, at := listener(t)
				conns = append(conns, conn)
				round.gossip = append(round.gossip, &Node{Addr: at.Addr().AsSlice(), Port: at.Port(), PMax: 5})
			}
			said := (&suspect{Incarnation: 1, Node: borrow("somebody"), From: borrow("n1")}).appendTo(nil)
			m.broadcasts.QueueBroadcast(&plainBroadcast{msg: said})
			m.performer.gossip(&round)
			require.Equal(t, []int{3}, *sizes)
			for _, conn := range conns {
				msgs := hear(t, m, conn)
				require.Len(t, msgs, 1)
				require.Equal(t, said, []byte(msgs[0]))
			}
		})
	}
}

// The answers to packets that were read together leave together, in batches of
// bounded size (P60).
func TestAnswersToABurstLeaveTogether(t *testing.T) {
	m, sizes := onBatches(t)
	m.broadcasts.Reset()
	conn, at := listener(t)
	const packets, pings = 40, 1
	var burst []datagram
	for i := range packets {
		p := ping{SeqNo: uint32(i), Node: borrow("n1"), SourceNode: borrow("asker")}
		burst = append(burst, datagram{buf: p.appendTo(nil), from: at})
	}
	newPacketHandler(m.inbound).batch(burst)
	require.Equal(t, []int{16, 16, 8}, *sizes)
	for seq := range uint32(packets * pings) {
		var a ack
		_, err := a.decode(hear(t, m, conn)[0].body())
		require.NoError(t, err)
		require.Equal(t, seq, a.SeqNo)
	}
}

// What fails in a batch is logged with the node that it was for, and is nothing to
// the rest of the batch (P149).
func TestFailureInABatchIsLogged(t *testing.T) {
	lines := new(logLines)
	m, sizes := onBatches(t, func(cfg *Config) { cfg.LogOutput = lines })
	m.broadcasts.Reset()
	m.broadcasts.QueueBroadcast(&plainBroadcast{msg: []byte{byte(userMsg), 1}})
	conn, at := listener(t)
	good := &Node{Name: "good", Addr: at.Addr().AsSlice(), Port: at.Port()}
	bad := &Node{Name: "bad", Addr: net.IPv6loopback, Port: 1}
	m.performer.gossip(&effects{gossip: []*Node{bad, good}})
	require.Equal(t, []int{2}, *sizes)
	require.Equal(t, []byte{byte(userMsg), 1}, []byte(hear(t, m, conn)[0]))
	require.Len(t, lines.with("[ERR] memberlist: ", "Failed to send packet to bad ([::1]:1): "), 1)

	// The name of one who asks is not kept, for it lies in a buffer that is used again.
	p := ping{SeqNo: 1, Node: borrow("n1"), SourceAddr: net.IPv6loopback, SourcePort: 2, SourceNode: borrow("asker")}
	newPacketHandler(m.inbound).batch([]datagram{{buf: p.appendTo(nil), from: at}})
	require.Len(t, lines.with("[ERR] memberlist: ", "Failed to send packet to [::1]:2: "), 1)
}

// A node names its peers if it is told to, in batches as elsewhere.
func TestRequireNodeNamesInBatches(t *testing.T) {
	m, sizes := onBatches(t, func(cfg *Config) { cfg.RequireNodeNames = true })
	_, at := listener(t)
	newPacketHandler(m.inbound).batch([]datagram{
		{buf: (&ping{SeqNo: 1, Node: borrow("n1")}).appendTo(nil), from: at},
		{buf: (&ping{SeqNo: 2, Node: borrow("n1"), SourceNode: borrow("asker")}).appendTo(nil), from: at},
	})
	require.Equal(t, []int{1}, *sizes)
}

func TestBatchesDoNotAllocate(t *testing.T) {
	m, _ := onBatches(t)
	m.broadcasts.Reset()
	_, at := listener(t)
	in := newPacketHandler(m.inbound)
	p := datagram{buf: (&ping{SeqNo: 1, Node: borrow("n1")}).appendTo(nil), from: at}
	burst := []datagram{p, p, p}
	require.Zero(t, fewestAllocs(func() { in.batch(burst) }))
}

// A goroutine that brings a packet by IngestPacket is inside a callback while that
// is handled, and not for the rest of its life; the sender may be of any kind (P136).
func TestIngestingGoroutineIsItselfAfterwards(t *testing.T) {
	var m *Memberlist
	inside := make(chan bool, 1)
	m, _ = onBatches(t, func(cfg *Config) {
		cfg.Ping = &pingHooks{payload: func() []byte {
			inside <- m.tasks.callers.inCallback()
			return nil
		}}
	})
	near, far := net.Pipe()
	go func() {
		_, _ = far.Write((&ping{SeqNo: 1, Node: borrow("n1")}).appendTo(nil))
		_ = far.Close()
	}()
	from := net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
	require.NoError(t, m.transport.(*NetTransport).IngestPacket(near, &from, time.Now(), true))
	require.True(t, receive(t, inside))
	require.False(t, m.tasks.callers.inCallback())
}

// TestAnswersGoToSendersOfAnyKind checks P136.
func TestAnswersGoToSendersOfAnyKind(t *testing.T) {
	m, _ := onBatches(t)
	m.broadcasts.Reset()
	conn, at := listener(t)
	near, far := net.Pipe()
	go func() {
		_, _ = far.Write((&ping{SeqNo: 7, Node: borrow("n1")}).appendTo(nil))
		_ = far.Close()
	}()
	require.NoError(t, m.transport.(*NetTransport).IngestPacket(near, textAddress(at.String()), time.Now(), true))
	require.Equal(t, ackMsg, hear(t, m, conn)[0].kind())
}
