package memberlist

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Nodes that change their addresses, in whole clusters.

// conditions are what the network is like, and the way that nodes are found on it.
type conditions struct {
	loss     float64
	noUDP    bool // packets are blocked, streams open
	named    bool // by name where no endpoint is up, as the network in memory does it
	reclaim  time.Duration
	timeless bool // no ProbeTimeout
	oneSeed  bool // who comes back joins one node, and gossip does the rest
}

func (w conditions) String() string {
	type plain conditions
	return fmt.Sprintf("%+v", plain(w))
}

// settledMesh is a cluster that has formed on a good network before it gets worse.
type settledMesh struct {
	*mesh
	conditions
	blocked atomic.Bool
	traces  map[string]*changeTrace
	lines   *logLines
	byName  map[string]*Memberlist
}

func newSettledMesh(t *testing.T, n int, w conditions) *settledMesh {
	c := &settledMesh{
		mesh: newMesh(t), conditions: w, traces: map[string]*changeTrace{}, lines: new(logLines),
		byName: map[string]*Memberlist{},
	}
	for i := range n {
		m := c.run(fmt.Sprintf("n%d", i+1))
		for _, other := range c.nodes[:i] {
			joinNode(t, m, other)
		}
	}
	time.Sleep(5 * time.Second)
	c.network.SetLoss(w.loss)
	c.blocked.Store(w.noUDP)
	return c
}

// run starts a node of that name at the next address.
func (c *settledMesh) run(name string) *Memberlist {
	return c.runOn(name, c.network.NewTransport(name))
}

func (c *settledMesh) runOn(name string, tr *MockTransport) *Memberlist {
	if c.traces[name] == nil {
		c.traces[name] = new(changeTrace)
	}
	cfg := DefaultLANConfig()
	cfg.Name, cfg.LogOutput, cfg.Events = name, c.lines, c.traces[name]
	cfg.DeadNodeReclaimTime = c.reclaim
	if c.timeless {
		cfg.ProbeTimeout = 0
	}
	cfg.Transport = mute{tr, &c.blocked}
	if !c.named {
		byAddress(cfg)
	}
	m := c.start(cfg)
	c.byName[name] = m
	return m
}

// stop ends the process of a node without a farewell.
func (c *settledMesh) stop(name string) {
	m := c.byName[name]
	require.NoError(c.t, m.Shutdown())
	c.nodes = slices.DeleteFunc(c.nodes, func(other *Memberlist) bool { return other == m })
}

// rejoin lets a node join all that run, or one.
func (c *settledMesh) rejoin(m *Memberlist) {
	var addrs []string
	for _, other := range c.nodes {
		if other != m && !(c.oneSeed && len(addrs) > 0) {
			addrs = append(addrs, other.LocalNode().Address())
		}
	}
	_, err := m.Join(addrs)
	require.NoError(c.t, err)
}

// right reports whether each node holds each for alive at its address.
func (c *settledMesh) right() bool {
	for _, m := range c.nodes {
		for _, other := range c.nodes {
			self := other.LocalNode()
			s := statusOf(m, self.Name)
			if s == nil || s.Node.State == StateDead || s.Node.State == StateLeft || s.Node.Address() != self.Address() {
				return false
			}
		}
	}
	return true
}

// deaths are the leave events, of all nodes, about those that are named. Members can be
// ahead of events, so those that are under way are awaited.
func (c *settledMesh) deaths(names ...string) []string {
	synctest.Wait()
	var found []string
	for observer, r := range c.traces {
		for _, e := range r.take() {
			if name, ok := strings.CutPrefix(e, "leave "); ok && slices.Contains(names, name) {
				found = append(found, observer+": "+e)
			}
		}
	}
	slices.Sort(found)
	return found
}

// A quarter of a cluster restarts at other addresses at once, as when a deployment
// rolls. Every node has them right within five seconds, nobody else dies for anybody, and
// nothing is a conflict.
func TestClusterTakesManyNodesThatMovedAtOnce(t *testing.T) {
	skipManyClusters(t)
	const n, moving = 24, 6
	for _, w := range []conditions{
		{}, {loss: 0.25}, {noUDP: true}, {named: true}, {reclaim: 30 * time.Second}, {loss: 0.25, reclaim: time.Minute},
		{oneSeed: true}, {oneSeed: true, named: true},
	} {
		t.Run(w.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newSettledMesh(t, n, w)
				var moved, stayed []string
				for i := range n {
					name := fmt.Sprintf("n%d", i+1)
					if i%4 != 3 {
						stayed = append(stayed, name)
						continue
					}
					moved = append(moved, name)
					c.stop(name)
				}
				require.Len(t, moved, moving)
				time.Sleep(time.Second)
				c.deaths()
				for _, name := range moved {
					c.run(name)
				}
				began := time.Now()
				for _, name := range moved {
					c.rejoin(c.byName[name])
				}
				within(t, 5*time.Second-time.Since(began), "all are right", c.right)
				took := time.Since(began)
				synctest.Wait()
				for observer, r := range c.traces { // the old ones leave, once
					for _, name := range moved {
						require.LessOrEqual(t, len(r.about(name, StateDead)), 1, "%s about %s", observer, name)
					}
				}
				c.deaths()
				time.Sleep(30 * time.Second)
				require.True(t, c.right())
				require.Empty(t, c.deaths(append(moved, stayed...)...))
				require.Empty(t, c.lines.with("[ERR]", "Conflicting address"))
				t.Log(took)
			})
		})
	}
}

// A process that stood still while a node moved holds its old address, and spreads it in
// full exchanges. The node that moved stays where it is, for everybody.
func TestClusterOldNewsOfAStoppedNodeDisplaceNobody(t *testing.T) {
	skipManyClusters(t)
	for _, w := range []conditions{
		{}, {loss: 0.25}, {noUDP: true}, {named: true}, {reclaim: 30 * time.Second}, {noUDP: true, reclaim: time.Minute},
	} {
		t.Run(w.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newSettledMesh(t, 6, conditions{named: w.named, reclaim: w.reclaim})
				stopped := c.byName["n1"]
				c.network.Partition([]string{"n1"})
				c.stop("n6")
				again := c.run("n6")
				for _, other := range c.nodes[1:5] {
					joinNode(t, again, other)
				}
				time.Sleep(3 * time.Second)
				c.network.Heal()
				c.network.SetLoss(w.loss)
				c.blocked.Store(w.noUDP)
				require.NotEqual(t, again.LocalNode().Address(), statusOf(stopped, "n6").Node.Address())
				c.deaths()
				for _, other := range c.nodes[1:] {
					_, err := stopped.Join([]string{other.LocalNode().Address()})
					require.NoError(t, err)
				}
				for range 300 {
					time.Sleep(200 * time.Millisecond)
					for _, m := range c.nodes[1:] {
						require.Equal(t, again.LocalNode().Address(), statusOf(m, "n6").Node.Address())
					}
				}
				require.True(t, c.right())
				require.Empty(t, slices.DeleteFunc(c.deaths("n1", "n2", "n3", "n4", "n5", "n6"), func(e string) bool {
					return strings.HasPrefix(e, "n1: ") // it has to learn of the move
				}))
				require.Empty(t, c.lines.with("[ERR]", "Conflicting address"))
			})
		})
	}
}

// Two nodes that swap their addresses are found within two seconds.
func TestClusterTwoNodesSwapAddresses(t *testing.T) {
	for _, w := range []conditions{{}, {reclaim: 30 * time.Second}, {reclaim: time.Minute}, {timeless: true}} {
		t.Run(w.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newSettledMesh(t, 5, w)
				c.stop("n4")
				c.stop("n5")
				n4 := c.runOn("n4", c.network.again("n4", 5))
				n5 := c.runOn("n5", c.network.again("n5", 4))
				began := time.Now()
				joinNode(t, n4, c.nodes[0])
				joinNode(t, n5, c.nodes[1])
				within(t, 3*time.Second, "all are right", c.right)
				t.Log(time.Since(began))
				c.deaths()
				time.Sleep(time.Minute)
				require.True(t, c.right())
				require.Empty(t, c.deaths("n1", "n2", "n3", "n4", "n5"))
			})
		})
	}
}

// again is a new endpoint at the address of one that was shut down.
func (n *MockNetwork) again(name string, port int) *MockTransport {
	t := n.NewTransport(name)
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.byAddr, t.addr.addr)
	t.port, t.addr.addr = port, fmt.Sprintf("127.0.0.1:%d", port)
	n.byAddr[t.addr.addr] = t
	return t
}

// A node that was restarted on the network in memory, within the time of a suspicion, is
// taken at its new port, and there is no conflict about it on either side.
func TestClusterOnMockNetworkTakesARestartAtAnotherPort(t *testing.T) {
	for _, after := range []time.Duration{0, time.Second, 4 * time.Second, 20 * time.Second} {
		inBubble(t, func(t *testing.T) {
			c := newSettledMesh(t, 3, conditions{named: true})
			c.stop("n3")
			time.Sleep(after)
			again := c.run("n3")
			joinNode(t, again, c.nodes[0])
			within(t, 3*time.Second, "all are right", c.right)
			time.Sleep(time.Minute)
			require.True(t, c.right())
			require.Empty(t, c.lines.with("[ERR]"))
		})
	}
}

// Two nodes of one name that both live are in conflict, also on transports that find
// nodes by address only, and the first one stays.
func TestClusterTellsTwoNodesOfOneName(t *testing.T) {
	for _, named := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newSettledMesh(t, 4, conditions{named: named})
			first := c.byName["n4"]
			c.deaths()
			second := c.run("n4")
			c.nodes = c.nodes[:4]
			_, err := second.Join([]string{c.nodes[0].LocalNode().Address()})
			require.NoError(t, err)
			time.Sleep(30 * time.Second)
			require.NotEmpty(t, c.lines.with("[ERR]", "Conflicting address for n4"))
			for _, m := range c.nodes {
				require.Equal(t, first.LocalNode().Address(), statusOf(m, "n4").Node.Address())
			}
			require.Empty(t, c.deaths("n1", "n2", "n3", "n4"))
		})
	}
}

// A joiner that gets to know a member as a suspect has it as a member at once.
func TestClusterJoinerKnowsASuspectAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newSettledMesh(t, 3, conditions{})
		c.network.Partition([]string{"n3"})
		within(t, 20*time.Second, "n3 is suspect", func() bool { return holdsFor(c.nodes[0], "n3", StateSuspect) })
		m := c.run("n4")
		joinNode(t, m, c.nodes[0])
		synctest.Wait()
		require.Equal(t, []string{"n1", "n2", "n3", "n4"}, memberNames(m))
		require.True(t, holdsFor(m, "n3", StateSuspect))
	})
}
