package programs

import (
	"bytes"
	"hash/crc32"
	"log"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

// scrambled wraps a NetTransport: it scrambles every packet on the way out and
// back on the way in, as programs do that add a seal or a tag of their own. It
// keeps everything that passes, to see whether anybody writes to it later.
type scrambled struct {
	*memberlist.NetTransport
	packets chan *memberlist.Packet
	sent    atomic.Int64
	mangled atomic.Int64 // came in without the mark

	mu   sync.Mutex
	kept []keptBuffer
}

type keptBuffer struct {
	buf []byte
	sum uint32
}

const scrambleMark = 0xa5

func newScrambled(t *testing.T, cfg *memberlist.NetTransportConfig) *scrambled {
	inner, err := memberlist.NewNetTransport(cfg)
	require.NoError(t, err)
	s := &scrambled{NetTransport: inner, packets: make(chan *memberlist.Packet)}
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		for {
			select {
			case p := <-inner.PacketCh():
				s.unscramble(p)
				select {
				case s.packets <- p:
				case <-stop:
					return
				}
			case <-stop:
				return
			}
		}
	}()
	return s
}

func (s *scrambled) unscramble(p *memberlist.Packet) {
	if len(p.Buf) == 0 || p.Buf[0] != scrambleMark {
		s.mangled.Add(1)
		return
	}
	p.Buf = flip(p.Buf[1:])
	s.keep(p.Buf)
}

func (s *scrambled) keep(buf []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, keptBuffer{buf, crc32.ChecksumIEEE(buf)})
}

func flip(b []byte) []byte {
	out := slices.Clone(b)
	for i := range out {
		out[i] ^= 0x55
	}
	return out
}

func (s *scrambled) PacketCh() <-chan *memberlist.Packet { return s.packets }

func (s *scrambled) WriteTo(b []byte, addr string) (time.Time, error) {
	return s.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (s *scrambled) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	s.sent.Add(1)
	return s.NetTransport.WriteToAddress(append([]byte{scrambleMark}, flip(b)...), to)
}

// TestWrappedNetTransport: everything goes through the overridden methods, and
// the wrapper may keep a packet's bytes.
func TestWrappedNetTransport(t *testing.T) {
	var wraps []*scrambled
	var nodes []*memberlist.Memberlist
	var logged lines
	for _, name := range []string{"one", "two", "three"} {
		wrap := newScrambled(t, &memberlist.NetTransportConfig{
			BindAddrs: []string{"127.0.0.1"}, Logger: log.New(&logged, "", 0),
		})
		cfg := loopbackConfig(name, &logged)
		cfg.Transport = wrap
		cfg.AdvertiseAddr, cfg.AdvertisePort = "127.0.0.1", wrap.GetAutoBindPort()
		// Streams are not scrambled: only packets may keep the nodes alive.
		cfg.DisableTcpPings = true
		cfg.GossipInterval = 20 * time.Millisecond
		m := create(t, cfg)
		wraps, nodes = append(wraps, wrap), append(nodes, m)
		if name != "one" {
			n, err := m.Join([]string{hostPort(nodes[0].LocalNode())})
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
	}
	for i, m := range nodes {
		within(t, 20*time.Second, "three members", func() bool { return m.NumMembers() == 3 })
		for _, other := range m.Members() {
			if other.Name != m.LocalNode().Name {
				within(t, 20*time.Second, "an answer to a ping", func() bool {
					_, err := m.Ping(other.Name, udpAddr(other))
					return err == nil
				})
			}
		}
		require.Positive(t, wraps[i].sent.Load(), "packets sent through the wrapper")
	}
	for _, s := range wraps {
		require.Zero(t, s.mangled.Load(), "packets that went past the wrapper")
		s.mu.Lock()
		require.NotEmpty(t, s.kept)
		for _, k := range s.kept {
			require.Equal(t, k.sum, crc32.ChecksumIEEE(k.buf), "a packet was written to after its delivery: %x", k.buf)
		}
		s.mu.Unlock()
	}
	for _, line := range logged.get() {
		require.False(t, bytes.Contains([]byte(line), []byte("[ERR]")), line)
	}
}
