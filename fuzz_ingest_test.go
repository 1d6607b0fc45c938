package memberlist

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fuzzedNode is a node in whatever configuration the bits say, and one more
// endpoint that can talk to it.
func fuzzedNode(t *testing.T, bits uint16) (*Memberlist, *puppet) {
	c := newMesh(t)
	cfg := c.config("node")
	still(cfg)
	on := func(bit int) bool { return bits>>bit&1 == 1 }
	if on(0) {
		cfg.Label = "label"
	}
	cfg.SkipInboundLabelCheck = on(1)
	if on(2) {
		cfg.SecretKey = bytes.Repeat([]byte{7}, 16)
	}
	cfg.GossipVerifyIncoming, cfg.GossipVerifyOutgoing = !on(3), !on(4)
	cfg.EnableCompression = !on(5)
	if on(6) {
		cfg.ProtocolVersion = 1
	}
	cfg.RequireNodeNames = on(7)
	if on(8) {
		cfg.Alive = aliveFunc(func(n *Node) error {
			if len(n.Name)%2 == 1 {
				return io.ErrUnexpectedEOF
			}
			return nil
		})
	}
	if on(9) {
		d := &stageDelegate{&stage{}}
		cfg.Delegate, cfg.Events, cfg.Conflict, cfg.Merge, cfg.Ping = d, d, d, d, d
	}
	if on(10) {
		_, loopback, _ := net.ParseCIDR("127.0.0.0/8")
		cfg.CIDRsAllowed = []net.IPNet{*loopback}
	}
	cfg.TCPTimeout = time.Second
	m := c.start(cfg)
	// The puppet speaks as the node wants it, and understands what it says.
	same := *cfg
	same.GossipVerifyOutgoing, same.GossipVerifyIncoming = true, false
	p := c.puppet("p", &same)
	return m, p
}

// stillWorks checks that the node is as good as before.
func stillWorks(t *testing.T, m *Memberlist, p *puppet) {
	p.forget()
	p.send(m, (&ping{SeqNo: 12345, Node: borrow("node"), SourceAddr: net.IP{127, 0, 0, 1}, SourcePort: uint16(p.tr.port), SourceNode: borrow("p")}).appendTo(nil))
	synctest.Wait()
	require.Equal(t, []uint32{12345}, p.acked())
	require.NotNil(t, m.LocalNode())
	require.Equal(t, "node", m.LocalNode().Name)
	require.Equal(t, StateAlive, m.LocalNode().State)
	require.NotEmpty(t, m.Members())
	require.Len(t, m.Members(), m.NumMembers())
	require.NoError(t, m.Shutdown())
	synctest.Wait()
	require.Empty(t, bubbleGoroutinesOf("*Memberlist"))
}

// addIngestSeeds takes recorded input as the start.
func addIngestSeeds(f *testing.F, kind string) {
	for _, v := range allVectors(f, "in") {
		if v.Kind == kind && len(v.Hex) < 4096 {
			f.Add(uint16(0), false, []byte(v.Hex))
			f.Add(uint16(5), true, []byte(v.Hex))
		}
	}
}

// Whatever packet a node gets, in whatever configuration, it goes on working. With
// dress the bytes are what is inside a properly dressed packet, so that they get
// past label and key.
func FuzzPacketIngest(f *testing.F) {
	addIngestSeeds(f, "packet")
	for bits := range uint16(11) {
		f.Add(uint16(1)<<bits, true, (&alive{Incarnation: 1, Node: borrow("x"), Addr: []byte{127, 0, 0, 1}, Port: 7, Vsn: []byte{1, 5, 2, 0, 0, 0}}).appendTo(nil))
		f.Add(uint16(1)<<bits, true, (&dead{Incarnation: 9, Node: borrow("node"), From: borrow("node")}).appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, bits uint16, dress bool, packet []byte) {
		synctest.Test(t, func(t *testing.T) {
			m, p := fuzzedNode(t, bits)
			if dress {
				p.send(m, packet)
			} else {
				p.sendRaw(m, packet)
			}
			synctest.Wait()
			stillWorks(t, m, p)
		})
	})
}

// The same for what somebody writes to a stream, however it ends.
func FuzzStreamIngest(f *testing.F) {
	addIngestSeeds(f, "stream")
	var p puppet
	for bits := range uint16(11) {
		f.Add(uint16(1)<<bits, true, p.state(true, []byte("user"), pushNodeState{Name: borrow("x"), Addr: []byte{127, 0, 0, 1}, Port: 7, Vsn: []byte{1, 5, 2, 0, 0, 0}}))
		f.Add(uint16(1)<<bits, true, appendUserMessage(nil, []byte("hello")))
		f.Add(uint16(1)<<bits, true, (&ping{SeqNo: 1}).appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, bits uint16, dress bool, sent []byte) {
		synctest.Test(t, func(t *testing.T) {
			m, p := fuzzedNode(t, bits)
			conn := p.dial(m)
			go func() {
				if dress {
					_, _ = p.wire.writeStream(conn, sent, true)
				} else if len(sent) > 0 {
					_, _ = conn.Write(sent)
				}
			}()
			// It answers or not, and closes the stream, at the latest when it has
			// waited long enough for more.
			took := duration(func() {
				_, err := io.ReadAll(conn)
				require.True(t, err == nil || errors.Is(err, io.ErrClosedPipe), "%v", err)
			})
			require.LessOrEqual(t, took, 2*m.config.TCPTimeout)
			synctest.Wait()
			stillWorks(t, m, p)
		})
	})
}
