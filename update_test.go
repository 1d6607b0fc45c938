package memberlist

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// UpdateNode asks for the meta again, announces it under the next incarnation, and
// returns when that has been sent often enough and the own event is delivered (P27).
func TestUpdateNodeAnnouncesTheNewMeta(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		meta, events, others := new(metaBox), new(trace), new(trace)
		nodes := c.grow(3, func(cfg *Config) {
			switch cfg.Name {
			case "n1":
				cfg.Delegate, cfg.Events = meta, events
			case "n2":
				cfg.Events = others
			}
		})
		m := nodes[0]
		before, old := incarnationOf(m, "n1"), m.LocalNode()
		events.take()
		others.take()

		meta.set("new")
		require.NoError(t, m.UpdateNode(10*time.Second))
		require.Equal(t, []string{"update n1 new"}, events.take())
		require.Equal(t, before+1, incarnationOf(m, "n1"))
		require.Equal(t, "new", string(m.LocalNode().Meta))
		require.Empty(t, old.Meta, "the old snapshot stays as it was")
		require.Zero(t, m.broadcasts.NumQueued(), "it has been sent as often as wanted")
		within(t, 2*time.Second, "the others know", func() bool {
			return string(statusOf(nodes[1], "n1").Node.Meta) == "new" && string(statusOf(nodes[2], "n1").Node.Meta) == "new"
		})
		synctest.Wait()
		require.Equal(t, []string{"update n1 new"}, others.take())
	})
}

// The same meta again is announced, but is no event (P27).
func TestUpdateWithTheSameMetaIsNoEvent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		events := new(trace)
		nodes := c.grow(2, func(cfg *Config) {
			cfg.Delegate = &hooks{meta: func() []byte { return []byte("same") }}
			if cfg.Name == "n1" {
				cfg.Events = events
			}
		})
		before := incarnationOf(nodes[0], "n1")
		events.take()
		require.NoError(t, nodes[0].UpdateNode(10*time.Second))
		require.Equal(t, before+1, incarnationOf(nodes[0], "n1"))
		require.Empty(t, events.take())
	})
}

// An update that moved the node would be a conflict to nodes of the reference (P96). A
// node that comes back after Leave may have moved (P27).
func TestUpdateKeepsTheAddress(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		cfg := c.config("n1")
		a := advertise(cfg)
		m := c.start(cfg)
		require.Equal(t, "127.0.0.1:1", m.LocalNode().Address())
		a.ip, a.port = []byte{10, 0, 0, 1}, 99
		require.NoError(t, m.UpdateNode(time.Second))
		require.Equal(t, "127.0.0.1:1", m.LocalNode().Address())

		require.NoError(t, m.Leave(time.Second))
		p := c.puppet("p", nil)
		a.err = errors.New("no address now")
		_, err := m.Join([]string{p.tr.addr.String()})
		require.ErrorIs(t, err, a.err)
		a.err = nil
		_, err = m.Join([]string{p.tr.addr.String()})
		require.Error(t, err, "nobody answers")
		require.Equal(t, "10.0.0.1:99", m.LocalNode().Address())
	})
}

// TestUpdateOfALonelyNodeReturnsAtOnce checks P27.
func TestUpdateOfALonelyNodeReturnsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t).node("n1")
		require.Zero(t, duration(func() { require.NoError(t, m.UpdateNode(0)) }))
	})
}

// TestUpdateTimesOut checks P27.
func TestUpdateTimesOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		// Nothing is sent, so the announcement never gets done.
		m := c.node("n1", func(cfg *Config) { cfg.ProbeInterval, cfg.GossipInterval = 0, 0 })
		c.puppet("p", nil).introduce(m)
		var err error
		took := duration(func() { err = m.UpdateNode(2 * time.Second) })
		require.Equal(t, 2*time.Second, took)
		require.EqualError(t, err, "timeout waiting for update broadcast")
		require.ErrorIs(t, err, ErrTimeout)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestUpdateNodeContextIsCancelled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", func(cfg *Config) { cfg.ProbeInterval, cfg.GossipInterval = 0, 0 })
		c.puppet("p", nil).introduce(m)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		took := duration(func() { require.ErrorIs(t, m.UpdateNodeContext(ctx), context.Canceled) })
		require.GreaterOrEqual(t, took, time.Second)
		require.Less(t, took, 1100*time.Millisecond)
	})
}

// Meta over the limit is an error, where the reference panics, and changes nothing
// (P12, P27).
func TestUpdateWithTooMuchMetaIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		meta := new(metaBox)
		m := newMesh(t).node("n1", func(cfg *Config) { cfg.Delegate = meta })
		meta.set(string(make([]byte, MetaMaxSize)))
		require.NoError(t, m.UpdateNode(time.Second))
		meta.set(string(make([]byte, MetaMaxSize+1)))
		err := m.UpdateNode(time.Second)
		require.ErrorIs(t, err, ErrTooLarge)
		require.ErrorContains(t, err, "Node meta data provided is longer than the limit")
		require.Len(t, m.LocalNode().Meta, MetaMaxSize)
		require.Equal(t, uint32(2), incarnationOf(m, "n1"))
	})
}

// The library keeps a copy of the meta (P27).
func TestMetaIsCopied(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		buf := []byte("abc")
		m := newMesh(t).node("n1", func(cfg *Config) { cfg.Delegate = &hooks{meta: func() []byte { return buf }} })
		copy(buf, "xyz")
		require.Equal(t, "abc", string(m.LocalNode().Meta))
	})
}

func TestUpdateThatTheAliveDelegateRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		meta := new(metaBox)
		errVeto := errors.New("not with this meta")
		m := newMesh(t).node("n1", func(cfg *Config) {
			cfg.Delegate = meta
			cfg.Alive = aliveFunc(func(n *Node) error {
				if string(n.Meta) == "bad" {
					return errVeto
				}
				return nil
			})
		})
		meta.set("bad")
		err := m.UpdateNode(time.Second)
		require.ErrorIs(t, err, ErrRejected)
		require.ErrorIs(t, err, errVeto)
		require.Empty(t, m.LocalNode().Meta)
	})
}

// P29: after Leave an update is refused at once; in the reference it runs into its
// timeout.
func TestUpdateAfterLeaveIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := newMesh(t).grow(2)
		require.NoError(t, nodes[0].Leave(time.Second))
		require.Zero(t, duration(func() { require.ErrorIs(t, nodes[0].UpdateNode(0), ErrLeft) }))
	})
}

// P30: an announcement that is done, or replaced by a newer one, before its caller
// waits is not lost. Nobody here has a time limit.
func TestFinishedUpdatesAreNeverMissed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(3, func(cfg *Config) {
			// The event makes the callers wait for it while the broadcast is sent.
			cfg.Events = &trace{hook: func(string, *Node) { time.Sleep(300 * time.Millisecond) }}
			cfg.GossipInterval = time.Millisecond
		})
		var work sync.WaitGroup
		for _, m := range nodes {
			for range 4 {
				work.Go(func() {
					for range 5 {
						require.NoError(t, m.UpdateNode(0))
					}
				})
			}
		}
		work.Wait()
		for _, m := range nodes {
			require.Equal(t, uint32(21), incarnationOf(m, m.LocalNode().Name))
		}
	})
}
