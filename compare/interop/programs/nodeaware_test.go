package programs

import (
	"hash/crc32"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

// byName is a transport that routes by node name, as service meshes and relays
// do: the addresses that nodes advertise lead nowhere. Like MockTransport it
// keeps the slices that it is given.
type byName struct {
	*bubbleTransport
	book map[string]string // name → where it really is

	mu       sync.Mutex
	nameless int
	kept     []keptBuffer
}

func (b *byName) find(a memberlist.Address) string {
	if real, ok := b.book[a.Name]; ok {
		return real
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nameless++
	return a.Addr
}

func (b *byName) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(192, 0, 2, b.end.Addr().Addr().As4()[3]), 9, nil
}

func (b *byName) WriteToAddress(p []byte, a memberlist.Address) (time.Time, error) {
	b.mu.Lock()
	b.kept = append(b.kept, keptBuffer{p, crc32.ChecksumIEEE(p)})
	b.mu.Unlock()
	return b.WriteTo(p, b.find(a))
}

func (b *byName) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return b.DialTimeout(b.find(a), timeout)
}

// TestNodeAwareTransport: every packet and stream comes with the name of its
// destination, and the buffers stay as they were handed over.
func TestNodeAwareTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newNetwork(t)
		book := map[string]string{"one": "10.0.0.1:7", "two": "10.0.0.2:7", "three": "10.0.0.3:7", "four": "10.0.0.4:7"}
		var nodes []*memberlist.Memberlist
		var wraps []*byName
		var logged lines
		for _, name := range []string{"one", "two", "three", "four"} {
			wrap := &byName{bubbleTransport: newBubbleTransport(t, network, book[name]), book: book}
			cfg := memberlist.DefaultLANConfig()
			cfg.Name, cfg.Transport, cfg.LogOutput = name, wrap, &logged
			cfg.RequireNodeNames = true
			cfg.SecretKey = make([]byte, 16)
			m := create(t, cfg)
			nodes, wraps = append(nodes, m), append(wraps, wrap)
			if name != "one" {
				_, err := m.Join([]string{"one/192.0.2.1:9"})
				require.NoError(t, err)
			}
		}
		time.Sleep(time.Minute)
		for i, m := range nodes {
			require.Equal(t, []string{"four", "one", "three", "two"}, memberNames(m))
			require.Zero(t, wraps[i].nameless, "sent without a name")
			require.NoError(t, m.SendBestEffort(nodes[0].LocalNode(), []byte("by name")))
			require.NoError(t, m.SendReliable(nodes[0].LocalNode(), []byte("by name")))
			require.ErrorContains(t, m.SendToAddress(memberlist.Address{Addr: "192.0.2.1:9"}, nil),
				"node names are required by configuration")
			require.NoError(t, m.SendToAddress(memberlist.Address{Addr: "192.0.2.1:9", Name: "one"}, []byte("x")))
		}
		_, err := nodes[1].Join([]string{"192.0.2.1:9"})
		require.ErrorContains(t, err, "node names are required by configuration")

		// One dies: its relays are asked by name too.
		require.NoError(t, nodes[3].Shutdown())
		time.Sleep(time.Minute)
		for i, m := range nodes[:3] {
			require.Equal(t, []string{"one", "three", "two"}, memberNames(m))
			require.Zero(t, wraps[i].nameless, "sent without a name")
		}
		for _, m := range nodes[:3] {
			require.NoError(t, m.Leave(10*time.Second))
			require.NoError(t, m.Shutdown())
		}
		time.Sleep(time.Minute)
		for _, w := range wraps {
			w.mu.Lock()
			for _, k := range w.kept {
				require.Equal(t, k.sum, crc32.ChecksumIEEE(k.buf), "written to after it was handed over")
			}
			w.mu.Unlock()
		}
	})
}
