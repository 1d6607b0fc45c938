package memberlist

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// cutOff lets nothing that a node sends reach the others. They still reach it.
func (c *mesh) cutOff(from string, to ...string) {
	for _, name := range to {
		c.network.Cut(from, name)
	}
}

// knowing counts the nodes that hold the one of that name to be in a state.
func knowing(nodes []*Memberlist, name string, state NodeStateType) int {
	n := 0
	for _, m := range nodes {
		if holdsFor(m, name, state) {
			n++
		}
	}
	return n
}

// Leave returns once the departure has provably arrived at three live nodes, and
// not before: as long as nothing that the node sends arrives, it waits. In the
// reference it waits until the message was sent often enough (P22).
func TestLeaveReturnsWhenThreeNodesProvablyKnow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		patient := func(cfg *Config) { cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval = 0, 0, 0 }
		nodes := c.growWithoutGossip(6, patient)
		c.cutOff("n1", "n2", "n3", "n4", "n5", "n6")
		var done atomic.Bool
		result := make(chan error, 1)
		go func() {
			result <- nodes[0].Leave(time.Hour)
			done.Store(true)
		}()
		time.Sleep(20 * time.Second)
		require.False(t, done.Load(), "nobody can know")
		require.Zero(t, knowing(nodes[1:], "n1", StateLeft))

		for i, name := range []string{"n2", "n3"} {
			c.network.Mend("n1", name)
			time.Sleep(20 * time.Second)
			require.False(t, done.Load(), "only %d can know", i+1)
			require.Equal(t, i+1, knowing(nodes[1:], "n1", StateLeft))
		}
		c.network.Mend("n1", "n4")
		require.NoError(t, <-result)
		require.Equal(t, 3, knowing(nodes[1:], "n1", StateLeft), "three know, and no gossip tells the others")
	})
}

// growWithoutGossip makes n nodes that know each other by joining everybody.
func (c *mesh) growWithoutGossip(n int, changes ...func(*Config)) []*Memberlist {
	c.t.Helper()
	for i := range n {
		m := c.node(fmt.Sprintf("n%d", i+1), changes...)
		for _, other := range c.nodes[:i] {
			joinNode(c.t, m, other)
		}
	}
	synctest.Wait()
	for _, m := range c.nodes {
		require.Equal(c.t, n, m.NumMembers())
	}
	return c.nodes
}

// What arrives counts, not what is acknowledged on the way: as long as the acks
// are lost nothing is proved (P22).
func TestLeaveNeedsTheAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(3, func(cfg *Config) { cfg.SuspicionMult = 100 })
		c.network.Cut("n2", "n1")
		c.network.Cut("n3", "n1")
		err := nodes[0].Leave(5 * time.Second)
		require.ErrorIs(t, err, ErrTimeout)
		require.Equal(t, 2, knowing(nodes[1:], "n1", StateLeft))
	})
}

// After Leave has returned the departure goes on spreading, to far more nodes than
// have confirmed it.
func TestLeaveGoesOnSpreadingByGossip(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(10)
		require.NoError(t, nodes[0].Leave(5*time.Second))
		require.GreaterOrEqual(t, knowing(nodes[1:], "n1", StateLeft), 3)
		within(t, 3*time.Second, "all know", func() bool { return knowing(nodes[1:], "n1", StateLeft) == 9 })
	})
}

// With fewer than three others, all of them have to know (P22).
func TestLeaveOfSmallClusters(t *testing.T) {
	for n := 1; n <= 4; n++ {
		t.Run(fmt.Sprint(n, " nodes"), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				nodes := c.grow(n)
				took := duration(func() { require.NoError(t, nodes[0].Leave(10*time.Second)) })
				require.Equal(t, n-1, knowing(nodes[1:], "n1", StateLeft))
				if n == 1 {
					require.Zero(t, took)
				}
				require.Less(t, took, time.Second)
			})
		})
	}
}

// A node that is dead need not confirm, and one that dies while Leave waits for
// it neither (P22).
func TestLeaveDoesNotWaitForTheDead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(3)
		require.NoError(t, nodes[2].Shutdown())
		took := duration(func() { require.NoError(t, nodes[0].Leave(time.Minute)) })
		require.Less(t, took, 30*time.Second)
		require.True(t, holdsFor(nodes[1], "n1", StateLeft))
	})
}

// The node counts as left at once, in its own table too, and tells its delegate
// before Leave returns (P21, P125).
func TestLeaveIsAppliedToTheOwnTable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		events := new(changeTrace)
		nodes := c.grow(3, func(cfg *Config) {
			if cfg.Name == "n1" {
				cfg.Events = events
			}
		})
		events.take()
		require.NoError(t, nodes[0].Leave(5*time.Second))
		require.Equal(t, []string{"n1 alive>left", "leave n1"}, events.take())
		require.Equal(t, []string{"n2", "n3"}, memberNames(nodes[0]))
		require.Equal(t, StateLeft, nodes[0].LocalNode().State)
		require.Equal(t, "n1", events.about("n1", StateLeft)[0].By)
	})
}

// TestConcurrentLeavesAllWait checks P21.
func TestConcurrentLeavesAllWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(4)
		c.network.SetLatency(100*time.Millisecond, 0)
		var work sync.WaitGroup
		for range 5 {
			work.Go(func() {
				require.NoError(t, nodes[0].Leave(10*time.Second))
				require.Equal(t, 3, knowing(nodes[1:], "n1", StateLeft))
			})
		}
		work.Wait()
		require.Zero(t, duration(func() { require.NoError(t, nodes[0].Leave(0)) }), "it has left already")
	})
}

// TestLeaveTimesOutAndHasLeftAllTheSame checks P22, P23.
func TestLeaveTimesOutAndHasLeftAllTheSame(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(2, func(cfg *Config) { cfg.SuspicionMult = 100 })
		c.network.Partition([]string{"n1"})
		var err error
		took := duration(func() { err = nodes[0].Leave(3 * time.Second) })
		require.Equal(t, 3*time.Second, took)
		require.EqualError(t, err, "timeout waiting for leave broadcast")
		require.ErrorIs(t, err, ErrTimeout)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, []string{"n2"}, memberNames(nodes[0]))

		took = duration(func() { require.NoError(t, nodes[0].Leave(3*time.Second)) })
		require.Zero(t, took, "a second call returns nil")

		c.network.Heal()
		within(t, 20*time.Second, "gossip still tells the other", func() bool { return holdsFor(nodes[1], "n1", StateLeft) })
	})
}

// Without a limit, nobody to confirm and nothing that would find the others dead, Leave
// ends all the same (P22).
func TestLeaveWithoutLimitEnds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(2, func(cfg *Config) { cfg.ProbeInterval = 0 })
		c.network.Partition([]string{"n1"})
		var err error
		took := duration(func() { err = nodes[0].Leave(0) })
		require.Equal(t, 30*time.Second, took)
		require.ErrorIs(t, err, ErrTimeout)
		require.NoError(t, nodes[0].Leave(0))
	})
}

func TestLeaveContextIsCancelled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(2, func(cfg *Config) { cfg.SuspicionMult = 100 })
		c.network.Partition([]string{"n1"})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		took := duration(func() {
			err := nodes[0].LeaveContext(ctx)
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, ErrTimeout)
		})
		require.GreaterOrEqual(t, took, time.Second)
		require.Less(t, took, 1100*time.Millisecond)
	})
}

// Leave waits for the event that it causes, but no longer than it may.
func TestLeaveContextIsCancelledWhileTheDelegateIsSlow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		events := &trace{hook: func(kind string, _ *Node) {
			if kind == "leave" {
				time.Sleep(5 * time.Second)
			}
		}}
		m := c.node("n1", func(cfg *Config) { cfg.Events = events })
		require.Equal(t, time.Second, duration(func() { require.ErrorIs(t, m.Leave(time.Second), ErrTimeout) }))
		time.Sleep(5 * time.Second)
	})
}

// P24: the reference panics.
func TestLeaveAfterShutdownIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t).node("n1")
		require.NoError(t, m.Shutdown())
		require.ErrorIs(t, m.Leave(time.Second), ErrShutdown)
		require.ErrorIs(t, m.LeaveContext(t.Context()), ErrShutdown)
	})
}

// A node that has left answers, exchanges and hears, but nothing that others say
// makes it a member again (P25, P92).
func TestNodeThatLeftGoesOnAnswering(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(3)
		gone := nodes[0]
		addr := &net.UDPAddr{IP: gone.LocalNode().Addr, Port: int(gone.LocalNode().Port)}
		require.NoError(t, gone.Leave(5*time.Second))

		_, err := nodes[1].Ping("n1", addr)
		require.NoError(t, err)
		newcomer := c.node("n4")
		joinNode(t, newcomer, gone)
		within(t, 5*time.Second, "the newcomer is known", func() bool { return nodes[1].NumMembers() == 3 })
		require.Contains(t, memberNames(gone), "n4")
		require.NotContains(t, memberNames(newcomer), "n1")

		p := c.puppet("p", nil)
		self := gone.LocalNode()
		for _, incarnation := range []uint32{1, 2, 100} {
			p.send(gone, (&alive{
				Incarnation: incarnation, Node: borrow("n1"), Addr: self.Addr, Port: self.Port, Vsn: []byte{1, 5, 2, 0, 0, 0},
			}).appendTo(nil))
		}
		synctest.Wait()
		require.Equal(t, StateLeft, gone.LocalNode().State)
		require.NotContains(t, memberNames(gone), "n1")
	})
}

// After the time in which the dead are remembered this node's entry is still there
// (P26); in the reference LocalNode panics then.
func TestOwnEntryIsKeptAfterLeave(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		box := new(inbox)
		nodes := c.grow(3, func(cfg *Config) {
			cfg.GossipToTheDeadTime = time.Second
			if cfg.Name == "n2" {
				cfg.Delegate = box
			}
		})
		gone := nodes[0]
		require.NoError(t, gone.Leave(5*time.Second))
		within(t, time.Minute, "the others have reaped it", func() bool {
			return statusOf(nodes[1], "n1") == nil && statusOf(nodes[2], "n1") == nil
		})
		time.Sleep(time.Minute)
		require.Equal(t, "n1", gone.LocalNode().Name)
		require.Equal(t, StateLeft, statusOf(gone, "n1").Node.State)
		require.ErrorIs(t, gone.UpdateNode(time.Second), ErrLeft)
		require.NoError(t, gone.Leave(time.Second))
		require.NoError(t, gone.SendBestEffort(statusNode(gone, "n2"), []byte("packet")))
		require.NoError(t, gone.SendReliable(statusNode(gone, "n2"), []byte("stream")))
		_, err := gone.Ping("n2", &net.UDPAddr{IP: statusNode(gone, "n2").Addr, Port: int(statusNode(gone, "n2").Port)})
		require.NoError(t, err)
		synctest.Wait()
		require.ElementsMatch(t, []string{"packet", "stream"}, box.all())

		joinNode(t, gone, nodes[1])
		synctest.Wait()
		require.Contains(t, memberNames(nodes[1]), "n1")
	})
}

// Every method after Shutdown: an error where there is something to fail, and
// never a panic.
func TestMethodsAfterShutdown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(2)
		m, node := nodes[0], nodes[1].LocalNode()
		addr := &net.UDPAddr{IP: node.Addr, Port: int(node.Port)}
		require.NoError(t, m.Shutdown())
		for name, call := range map[string]func() error{
			"Join":                func() error { _, err := m.Join([]string{node.Address()}); return err },
			"JoinContext":         func() error { _, err := m.JoinContext(t.Context(), []string{node.Address()}); return err },
			"Join nobody":         func() error { _, err := m.Join(nil); return err },
			"Leave":               func() error { return m.Leave(time.Second) },
			"LeaveContext":        func() error { return m.LeaveContext(t.Context()) },
			"UpdateNode":          func() error { return m.UpdateNode(time.Second) },
			"UpdateNodeContext":   func() error { return m.UpdateNodeContext(t.Context()) },
			"SendBestEffort":      func() error { return m.SendBestEffort(node, []byte("x")) },
			"SendToUDP":           func() error { return m.SendToUDP(node, []byte("x")) },
			"SendTo":              func() error { return m.SendTo(addr, []byte("x")) },
			"SendToAddress":       func() error { return m.SendToAddress(node.FullAddress(), []byte("x")) },
			"SendReliable":        func() error { return m.SendReliable(node, []byte("x")) },
			"SendReliableContext": func() error { return m.SendReliableContext(t.Context(), node, []byte("x")) },
			"SendToTCP":           func() error { return m.SendToTCP(node, []byte("x")) },
			"Ping":                func() error { _, err := m.Ping("n2", addr); return err },
			"PingContext":         func() error { _, err := m.PingContext(t.Context(), "n2", addr); return err },
		} {
			require.ErrorIs(t, call(), ErrShutdown, name)
		}
		require.NoError(t, m.Shutdown())
		require.Equal(t, "n1", m.LocalNode().Name)
		require.Len(t, m.Members(), 2)
		require.Equal(t, 2, m.NumMembers())
		require.Len(t, m.Snapshot(), 2)
		require.Zero(t, m.GetHealthScore())
		require.EqualValues(t, 2, m.ProtocolVersion())
	})
}

// Every method that needs a member after Leave.
func TestMethodsAfterLeave(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(2)
		m, node := nodes[0], nodes[1].LocalNode()
		addr := &net.UDPAddr{IP: node.Addr, Port: int(node.Port)}
		require.NoError(t, m.Leave(time.Second))
		require.ErrorIs(t, m.UpdateNode(time.Second), ErrLeft)
		require.ErrorIs(t, m.UpdateNodeContext(t.Context()), ErrLeft)
		require.NoError(t, m.Leave(time.Second))
		require.NoError(t, m.LeaveContext(t.Context()))
		for _, err := range []error{
			m.SendBestEffort(node, []byte("x")), m.SendToUDP(node, []byte("x")), m.SendTo(addr, []byte("x")),
			m.SendToAddress(node.FullAddress(), []byte("x")), m.SendReliable(node, []byte("x")),
			m.SendReliableContext(t.Context(), node, []byte("x")), m.SendToTCP(node, []byte("x")),
		} {
			require.NoError(t, err)
		}
		_, err := m.Ping("n2", addr)
		require.NoError(t, err)
		require.Equal(t, "n1", m.LocalNode().Name)
		require.Equal(t, 1, m.NumMembers())
		require.NoError(t, m.Shutdown())
		require.False(t, errors.Is(m.Leave(0), ErrLeft))
	})
}

// leaveAll lets the nodes leave within a time, each at a random moment, and shuts each
// down as soon as its Leave has returned. It returns how long they took.
func leaveAll(nodes []*Memberlist, within, timeout time.Duration, random *rand.Rand, end func(*Memberlist)) (took []time.Duration, failed int) {
	var work sync.WaitGroup
	var mu sync.Mutex
	for _, m := range nodes {
		wait := time.Duration(random.Int64N(int64(within) + 1))
		work.Go(func() {
			time.Sleep(wait)
			var err error
			d := duration(func() { err = m.Leave(timeout) })
			end(m)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, d)
			if err != nil {
				failed++
			}
		})
	}
	work.Wait()
	slices.Sort(took)
	return took, failed
}

// vanish cuts a node off from the others and then ends it: nobody refuses a connection
// to it, as when its host is taken down too.
func (c *mesh) vanish(m *Memberlist, from []*Memberlist) {
	name := m.LocalNode().Name
	for _, other := range names(from) {
		if other != name {
			c.network.Cut(name, other)
			c.network.Cut(other, name)
		}
	}
	_ = m.Shutdown()
}

// Everybody leaves at once and is shut down at once, as when a deployment is taken
// down: nobody waits in vain for those who are gone already (P194).
func TestEverybodyLeavesAtOnce(t *testing.T) {
	skipManyClusters(t)
	same := func(*Config) {}
	for i, run := range []struct {
		loss    float64
		latency time.Duration
		within  time.Duration
		vanish  bool
		change  func(*Config)
	}{
		{0, 0, 0, false, same},
		{0, time.Millisecond, 0, false, same},
		{0, time.Millisecond, 300 * time.Millisecond, false, same},
		{0, 20 * time.Millisecond, time.Second, false, same},
		{0.25, time.Millisecond, 300 * time.Millisecond, false, same},
		{0, time.Millisecond, 300 * time.Millisecond, true, same},
		{0, time.Millisecond, 300 * time.Millisecond, true, byAddress}, // packets wait in queues
	} {
		for _, n := range []int{2, 3, 5, 8, 24} {
			t.Run(fmt.Sprintf("%d nodes, run %d", n, i), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					seed := rand.Uint64()
					c := newMesh(t)
					c.network.Seed(seed)
					nodes := c.grow(n, run.change)
					end := func(m *Memberlist) { _ = m.Shutdown() }
					if run.vanish {
						end = func(m *Memberlist) { c.vanish(m, nodes) }
					}
					c.network.SetLatency(run.latency, run.latency)
					c.network.SetLoss(run.loss)
					took, failed := leaveAll(nodes, run.within, 5*time.Second, rand.New(rand.NewPCG(seed, 1)), end)
					t.Logf("median %v, longest %v", took[n/2], took[n-1])
					require.Zero(t, failed, "seed %d: %v", seed, took)
				})
			})
		}
	}
}

// Of those who leave at once, each has told a member that stays, though it is shut down
// as soon as it may be.
func TestThoseWhoStayLearnOfAllWhoLeaveAtOnce(t *testing.T) {
	for seed := range uint64(5) {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			c.network.Seed(seed)
			nodes := c.grow(8)
			c.network.SetLatency(time.Millisecond, time.Millisecond)
			_, failed := leaveAll(nodes[:6], 300*time.Millisecond, 5*time.Second, rand.New(rand.NewPCG(seed, 1)),
				func(m *Memberlist) { _ = m.Shutdown() })
			require.Zero(t, failed)
			for _, m := range nodes[:6] {
				require.NotZero(t, knowing(nodes[6:], m.LocalNode().Name, StateLeft))
			}
		})
	}
}

// Where packets are blocked and streams are not, the departure goes over streams: at
// once if that is known, and when the pings have not been answered if it is not (P193).
func TestLeaveGoesOverStreamsWherePacketsAreBlocked(t *testing.T) {
	for blockedFor, limit := range map[time.Duration]time.Duration{
		time.Minute: 250 * time.Millisecond,
		0:           750 * time.Millisecond,
	} {
		for _, n := range []int{2, 3, 8} {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				var on atomic.Bool
				nodes, _ := c.watched(n, blocked(&on))
				time.Sleep(5 * time.Second)
				on.Store(true)
				time.Sleep(blockedFor)
				took := duration(func() { require.NoError(t, nodes[0].Leave(5*time.Second)) })
				require.Less(t, took, limit)
				require.GreaterOrEqual(t, knowing(nodes[1:], "n1", StateLeft), min(3, n-1))
			})
		}
	}
}

// The departure on a stream is a push/pull with one entry, the node itself, and without
// user state. The answer, read to its end, is the proof; other ends of the stream are
// none (W90).
func TestLeaveOnStreamIsAPushPullOfOneEntry(t *testing.T) {
	for what, run := range map[string]struct {
		answer func(p *puppet, s remoteState) []byte
		fails  bool
	}{
		"answered":  {func(p *puppet, s remoteState) []byte { return p.state(s.join, []byte("text"), p.self()) }, false},
		"refused":   {func(*puppet, remoteState) []byte { return (&errorReply{Error: borrow("no")}).appendTo(nil) }, true},
		"cut short": {func(p *puppet, s remoteState) []byte { return p.state(s.join, []byte("text"), p.self())[:20] }, true},
		"incompatible": {func(p *puppet, s remoteState) []byte {
			n := p.self()
			n.Vsn = []byte{3, 5, 4, 0, 0, 0}
			return p.state(s.join, nil, n)
		}, true},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				m := c.node("n1", quiet, func(cfg *Config) {
					cfg.Delegate = &hooks{local: func(bool) []byte { t.Error("asked for user state"); return nil }}
				})
				p := c.puppet("p", nil)
				received := p.acceptState(func(s remoteState) []byte { return run.answer(p, s) })
				p.introduce(m)
				err := m.Leave(5 * time.Second)
				require.Equal(t, run.fails, err != nil, "%v", err)
				states := received()
				require.NotEmpty(t, states)
				require.False(t, states[0].join)
				require.Empty(t, states[0].user)
				require.Len(t, states[0].nodes, 1)
				require.Equal(t, StateLeft, states[0].nodes[0].State)
				require.Equal(t, m.LocalNode().Name, states[0].nodes[0].Name.own())
				require.Equal(t, incarnationOf(m, "n1"), states[0].nodes[0].Incarnation)
			})
		})
	}
}

// A process that is gone, but not found dead yet, is not waited for: it refuses the
// connection. One that cannot be reached is, unless as many have just left (P194).
func TestLeaveDoesNotWaitForThoseWhoRefuse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(2)
		require.NoError(t, nodes[1].Shutdown())
		took := duration(func() { require.NoError(t, nodes[0].Leave(5*time.Second)) })
		require.Less(t, took, time.Second)
	})
	for left := range 3 {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			nodes := c.grow(2 + left + 1)
			for _, m := range nodes[3:] {
				require.NoError(t, m.Leave(5*time.Second))
			}
			within(t, 5*time.Second, "all know", func() bool { return nodes[0].NumMembers() == 3 })
			c.network.Partition([]string{"n1"})
			err := nodes[0].Leave(5 * time.Second)
			require.Equal(t, left < 2, err != nil, "%d have left, two are silent: %v", left, err)
		})
	}
}
