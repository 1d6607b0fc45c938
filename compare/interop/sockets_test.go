package interop_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist/compare/interop/node"
)

// TestSockets lets 2+2 nodes live on loopback with UDP and TCP. With -short it
// does so for a few settings only; every dressing and each version that changes
// bytes (1, and any other) otherwise.
func TestSockets(t *testing.T) {
	all := []setting{
		{dressings[0], [2]uint8{2, 2}, [2]bool{true, true}},
		{dressings[5], [2]uint8{5, 1}, [2]bool{true, false}},
	}
	if !testing.Short() {
		all = nil
		for _, d := range dressings {
			for _, protocols := range [][2]uint8{{1, 1}, {2, 2}, {5, 5}, {1, 5}} {
				all = append(all, setting{d, protocols, [2]bool{true, true}}, setting{d, protocols, [2]bool{false, true}})
			}
		}
	}
	for i, s := range all {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			enter(t, "sockets", s.name, s.column())
			socketLife(t, s, i)
		})
	}
}

// freePort finds a port that is free for now. All nodes of a test use the same
// one, each on a loopback address of its own, since nodes of protocol version 1
// take it that everyone has their port.
func freePort(t *testing.T, ip string) int {
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func socketLife(t *testing.T, s setting, index int) {
	c := newCluster(t)
	defer func() {
		for _, p := range c.running() {
			require.NoError(t, p.node.Shutdown())
		}
		c.net.Close()
	}()
	ip := func(i int) string { return fmt.Sprintf("127.%d.%d.1", 10+index, i) }
	bind := freePort(t, ip(0))
	for i, name := range []string{"a1", "b1", "a2", "b2"} {
		side := i % 2
		opts := s.options(side, name)
		opts.Preset, opts.BindAddr, opts.BindPort = "local", ip(i), bind
		opts.ProbeInterval, opts.ProbeTimeout = time.Second, 500*time.Millisecond
		c.listen([]node.Library{theirs, ourside}[side], opts)
		if i > 0 {
			c.joinSocket(c.peers[i], c.peers[i-1])
		}
	}
	const patience = 30 * time.Second
	c.whole(patience)
	c.socketMessages(patience)
	c.socketUpdate(patience)
	for _, p := range c.running() {
		p.app.Broadcast("broadcast of " + p.name())
	}
	c.within(patience, "broadcasts everywhere", func() bool {
		for _, p := range c.running() {
			if p.app.Broadcasts() != len(c.peers) {
				return false
			}
		}
		return true
	})
	c.noLeaves(nil)
	c.noComplaints()
	c.socketDeath(patience)
}

// listen starts a node on real sockets.
func (c *cluster) listen(lib node.Library, opts node.Options) {
	p := &peer{lib: lib, opts: opts, app: &node.App{AckPayload: []byte("payload of " + opts.Name)}}
	c.peers = append(c.peers, p)
	c.relisten(p)
}

func (c *cluster) relisten(p *peer) {
	c.t.Helper()
	p.app.SetMeta("meta of " + p.name())
	n, err := p.lib.Start(p.opts, p.app)
	require.NoError(c.t, err)
	p.node = n
}

func (c *cluster) joinSocket(p, to *peer) {
	c.t.Helper()
	n, err := p.node.Join(net.JoinHostPort(to.opts.BindAddr, fmt.Sprint(to.opts.BindPort)))
	require.NoError(c.t, err)
	require.Equal(c.t, 1, n)
}

func (c *cluster) socketMessages(patience time.Duration) {
	c.t.Helper()
	for _, from := range c.running() {
		for _, to := range c.others(from) {
			small := fmt.Sprintf("small %s %s", from.name(), to.name())
			packet := fmt.Sprintf("packet %s %s ", from.name(), to.name()) + strings.Repeat("x", 60000)
			stream := fmt.Sprintf("stream %s %s ", from.name(), to.name()) + strings.Repeat("y", 1<<20)
			require.NoError(c.t, from.node.SendBestEffort(to.name(), node.Direct(small)))
			require.NoError(c.t, from.node.SendBestEffort(to.name(), node.Direct(packet)))
			require.NoError(c.t, from.node.SendReliable(to.name(), node.Direct(stream)))
			c.within(patience, "messages from "+from.name()+" to "+to.name(), func() bool {
				return to.app.DirectCount(small) == 1 && to.app.DirectCount(packet) == 1 && to.app.DirectCount(stream) == 1
			})
			_, err := from.node.Ping(to.name())
			require.NoError(c.t, err)
		}
	}
}

func (c *cluster) socketUpdate(patience time.Duration) {
	c.t.Helper()
	for _, p := range c.peers[:2] {
		meta := strings.Repeat(p.name(), 256)
		p.app.SetMeta(meta)
		require.NoError(c.t, p.node.Update(patience))
		c.within(patience, "new meta of "+p.name(), func() bool {
			for _, o := range c.others(p) {
				if events := o.app.Events(p.name()); events[len(events)-1].Node.Meta != meta {
					return false
				}
			}
			return true
		})
	}
}

// socketDeath lets one node of each kind die and come back, and the others leave.
func (c *cluster) socketDeath(patience time.Duration) {
	c.t.Helper()
	victims := c.peers[2:]
	for _, p := range victims {
		require.NoError(c.t, p.node.Shutdown())
		p.node = nil
	}
	c.whole(patience)
	for i, p := range victims {
		p.app = &node.App{AckPayload: []byte("again")}
		c.relisten(p)
		c.joinSocket(p, c.peers[1-i])
	}
	c.whole(patience)
	for _, p := range victims {
		require.Equal(c.t, len(c.peers), p.app.Broadcasts(), "what happened meanwhile")
		require.NoError(c.t, p.node.Leave(patience))
		require.NoError(c.t, p.node.Shutdown())
		p.node = nil
		c.whole(patience)
	}
}
