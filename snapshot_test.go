package memberlist

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSnapshotTellsEverythingAboutEveryone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		c.network.SetLatency(10*time.Millisecond, 0)
		began := time.Now()
		m := c.node("n1", func(cfg *Config) { cfg.GossipInterval, cfg.PushPullInterval, cfg.IndirectChecks = 0, 0, 0 })
		other := c.node("other", func(cfg *Config) {
			cfg.GossipInterval, cfg.PushPullInterval, cfg.ProbeInterval = 0, 0, 0
			cfg.Delegate = &hooks{meta: func() []byte { return []byte("meta") }}
		})
		joinNode(t, other, m)
		joined := time.Now()
		time.Sleep(10 * time.Second)
		for _, name := range []string{"dead", "left", "suspect"} {
			c.puppet(name, nil).introduce(m)
		}
		teller := c.puppet("teller", nil)
		teller.send(m, (&dead{Incarnation: 7, Node: borrow("dead"), From: borrow("x")}).appendTo(nil))
		teller.send(m, (&dead{Incarnation: 1, Node: borrow("left"), From: borrow("left")}).appendTo(nil))
		teller.send(m, (&suspect{Incarnation: 1, Node: borrow("suspect"), From: borrow("first")}).appendTo(nil))
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		accused := time.Now()
		time.Sleep(time.Millisecond)
		teller.send(m, (&suspect{Incarnation: 1, Node: borrow("suspect"), From: borrow("second")}).appendTo(nil))
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()

		all := m.Snapshot()
		var names []string
		for _, s := range all {
			names = append(names, s.Node.Name)
		}
		require.Equal(t, []string{"dead", "left", "n1", "other", "suspect"}, names, "sorted by name")

		own := statusOf(m, "n1")
		require.Equal(t, began, own.Since)
		require.Equal(t, uint32(1), own.Incarnation)
		require.Zero(t, own.LastAck)
		require.Zero(t, own.RTT)

		live := statusOf(m, "other")
		require.Equal(t, StateAlive, live.Node.State)
		require.WithinDuration(t, joined, live.Since, 50*time.Millisecond)
		require.Equal(t, "meta", string(live.Node.Meta))
		require.Equal(t, "127.0.0.1:2", live.Node.Address())
		require.Equal(t, []uint8{1, 5, 2}, []uint8{live.Node.PMin, live.Node.PMax, live.Node.PCur})
		require.Equal(t, 20*time.Millisecond, live.RTT)
		require.Less(t, live.RTTVar, 10*time.Millisecond)
		require.WithinDuration(t, time.Now(), live.LastAck, 2*time.Second)
		require.Nil(t, live.Accusers)
		require.Zero(t, live.Deadline)

		require.Equal(t, StateDead, statusOf(m, "dead").Node.State)
		require.Equal(t, uint32(7), statusOf(m, "dead").Incarnation)
		require.Equal(t, StateLeft, statusOf(m, "left").Node.State)

		s := statusOf(m, "suspect")
		require.Equal(t, StateSuspect, s.Node.State)
		require.Equal(t, accused, s.Since)
		require.Equal(t, []string{"first", "second"}, s.Accusers)
		require.Equal(t, 1, s.Confirmations())
		require.Equal(t, 0, live.Confirmations())
		// k = 2 of the table's five nodes, one of them has confirmed (P62).
		require.WithinDuration(t, accused.Add(11381*time.Millisecond), s.Deadline, 2*time.Millisecond)
	})
}

// The snapshot belongs to the caller.
func TestSnapshotIsACopy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still, func(cfg *Config) { cfg.Delegate = &hooks{meta: func() []byte { return []byte("meta") }} })
		s := m.Snapshot()
		s[0].Node.Meta[0], s[0].Node.Addr[0], s[0].Node.Name = 'X', 99, "changed"
		require.Equal(t, "meta", string(m.LocalNode().Meta))
		require.Equal(t, "127.0.0.1:1", m.LocalNode().Address())
		require.Equal(t, "meta", string(statusOf(m, "n1").Node.Meta))
	})
}

// Each change of state comes with its reason (EventReasonDelegate).
func TestReasonsOfChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		events := new(changeTrace)
		m := c.node("n1", func(cfg *Config) {
			cfg.Events, cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval = events, 100*time.Hour, 0, 0
		})
		require.Equal(t, []string{"n1 dead>alive", "join n1"}, events.take())
		require.Equal(t, Change{
			Node: m.LocalNode(), From: StateDead, To: StateAlive, New: true, By: "n1", Incarnation: 1,
		}, events.about("n1", StateAlive)[0])
		for _, name := range []string{"p2", "p3", "p4"} { // who could confirm
			c.puppet(name, nil).introduce(m)
		}
		p := c.puppet("p", nil)
		p.introduce(m)
		synctest.Wait()
		events.take()
		step := func(msg []byte, want ...string) {
			t.Helper()
			p.send(m, msg)
			synctest.Wait()
			require.Equal(t, want, events.take())
		}
		accuse := func(from string) []byte {
			return (&suspect{Incarnation: 2, Node: borrow("p"), From: borrow(from)}).appendTo(nil)
		}

		step(accuse("p2"), "p alive>suspect")
		require.Equal(t, "p2", events.about("p", StateSuspect)[0].By)
		require.Equal(t, uint32(2), events.about("p", StateSuspect)[0].Incarnation)
		time.Sleep(time.Second)
		step(accuse("p3"))
		time.Sleep(time.Second)
		says := p.alive(3)
		step(says.appendTo(nil), "p suspect>alive")
		back := events.about("p", StateAlive)[1]
		require.Equal(t, 1, back.Confirmations)
		require.Equal(t, 2*time.Second, back.SuspectFor)
		require.Equal(t, "p", back.By)
		require.False(t, back.New)

		says.Incarnation, says.Meta = 4, []byte("new")
		step(says.appendTo(nil), "p alive>alive", "update p new")
		step((&dead{Incarnation: 4, Node: borrow("p"), From: borrow("p4")}).appendTo(nil), "p alive>dead", "leave p")
		require.Equal(t, "p4", events.about("p", StateDead)[0].By)
		says.Incarnation = 5
		step(says.appendTo(nil), "p dead>alive", "join p")
		require.False(t, events.about("p", StateAlive)[3].New, "it was known before")
		step((&dead{Incarnation: 5, Node: borrow("p"), From: borrow("p")}).appendTo(nil), "p alive>left", "leave p")
		require.Equal(t, "p", events.about("p", StateLeft)[0].By)
	})
}

// A death that this node finds itself: its own word, after so long a suspicion.
func TestReasonOfADeath(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		events := new(changeTrace)
		nodes := c.grow(5, func(cfg *Config) {
			if cfg.Name == "n1" {
				cfg.Events = events
			}
		})
		require.NoError(t, nodes[4].Shutdown())
		within(t, time.Minute, "the death", func() bool { return len(events.about("n5", StateDead)) == 1 })
		death := events.about("n5", StateDead)[0]
		require.Equal(t, StateSuspect, death.From)
		require.NotEmpty(t, death.By)
		require.NotEqual(t, "n5", death.By)
		// Three seconds, less what the suspicion took from whoever judges first to n1.
		require.Greater(t, death.SuspectFor, 2*time.Second)
		require.LessOrEqual(t, death.Confirmations, 2)
	})
}

// PushPullNodes different nodes are exchanged with in each round, one after the
// other (P154).
func TestPushPullNodesAreMetOneAfterTheOther(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var mu sync.Mutex
		now, most := 0, 0
		var order []string
		m := c.node("n1", func(cfg *Config) {
			cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval, cfg.PushPullNodes = 0, 0, 30*time.Second, 3
		})
		for i := range 5 {
			p := c.puppet(fmt.Sprint("p", i), nil)
			p.acceptState(func(s remoteState) []byte {
				mu.Lock()
				now++
				most = max(most, now)
				order = append(order, p.name)
				mu.Unlock()
				time.Sleep(100 * time.Millisecond)
				mu.Lock()
				now--
				mu.Unlock()
				return p.state(s.join, nil, p.self())
			})
			p.introduce(m)
		}
		time.Sleep(20 * time.Minute)
		require.NoError(t, m.Shutdown())
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, 1, most)
		require.InDelta(t, 40*3, len(order), 20)
		met := map[string]int{}
		for round := range slices.Chunk(order[:len(order)/3*3], 3) {
			require.Len(t, slices.Compact(slices.Sorted(slices.Values(round))), 3, "each once a round")
			for _, name := range round {
				met[name]++
			}
		}
		require.Len(t, met, 5)
	})
}

// The NodeSelectionDelegate narrows down gossip and exchanges, not probes; what
// must not be chosen stays excluded, and the preferred node is always chosen (P156).
func TestNodeSelectionInARunningNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var mu sync.Mutex
		var candidates []string
		selector := selectFunc(func(list []*NodeState) (selected []*NodeState, preferred *NodeState) {
			mu.Lock()
			defer mu.Unlock()
			for _, s := range list {
				candidates = append(candidates, s.Name)
				switch s.Name {
				case "chosen":
					selected = append(selected, s)
				case "preferred":
					preferred = s
				}
			}
			foreign := &NodeState{Node: Node{Name: "other", Addr: []byte{127, 0, 0, 1}, Port: 3}}
			return append(selected, nil, foreign), preferred
		})
		m := c.node("n1", func(cfg *Config) {
			cfg.PushPullInterval, cfg.PushPullNodes, cfg.NodeSelection = 5*time.Second, 2, selector
			cfg.GossipNodes = 3
			cfg.Delegate = &hooks{broadcasts: func(int, int) [][]byte { return [][]byte{[]byte("news")} }}
		})
		puppets := map[string]*puppet{}
		exchanges := map[string]func() []remoteState{}
		for _, name := range []string{"chosen", "other", "preferred", "left"} {
			p := c.puppet(name, nil)
			p.answerPings(m)
			exchanges[name] = p.acceptState(func(s remoteState) []byte { return p.state(s.join, nil, p.self()) })
			p.introduce(m)
			puppets[name] = p
		}
		puppets["left"].send(m, (&dead{Incarnation: 1, Node: borrow("left"), From: borrow("left")}).appendTo(nil))
		synctest.Wait()
		for _, p := range puppets {
			p.forget()
		}
		mu.Lock()
		candidates = nil
		mu.Unlock()
		time.Sleep(time.Minute)
		gossip := func(name string) int { return len(puppets[name].heard(userMsg)) - len(puppets[name].heard(pingMsg)) }
		require.Greater(t, gossip("chosen"), 200)
		require.InDelta(t, gossip("chosen"), gossip("preferred"), 20)
		require.LessOrEqual(t, gossip("other"), 0)
		require.Greater(t, len(puppets["other"].heard(pingMsg)), 10, "probes cover everybody")
		require.Greater(t, len(exchanges["chosen"]()), 8)
		require.Greater(t, len(exchanges["preferred"]()), 8)
		require.Empty(t, exchanges["other"]())
		mu.Lock()
		defer mu.Unlock()
		require.NotContains(t, candidates, "n1")
		require.NotContains(t, candidates, "left")
		require.Contains(t, candidates, "other")
	})
}

// With one node to choose it is the preferred one, whether or not it is in the
// pool; returning the input means all (P156).
func TestNodeSelectionPreferenceAndAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		all := true
		m := c.node("n1", still, func(cfg *Config) {
			cfg.NodeSelection = selectFunc(func(list []*NodeState) ([]*NodeState, *NodeState) {
				if all {
					return list, nil
				}
				for _, s := range list {
					if s.Name == "p3" {
						return nil, s
					}
				}
				return nil, nil
			})
		})
		for i := range 5 {
			c.puppet(fmt.Sprint("p", i), nil).introduce(m)
		}
		names := func(k int) (names []string) {
			for _, n := range m.performer.nodes.choose(k, (*core).gossipTargets) {
				names = append(names, n.Name)
			}
			slices.Sort(names)
			return names
		}
		require.Equal(t, []string{"p0", "p1", "p2", "p3", "p4"}, names(10))
		require.Len(t, names(2), 2)
		all = false
		require.Equal(t, []string{"p3"}, names(1))
		require.Equal(t, []string{"p3"}, names(3))
	})
}

func TestNodeStateIsADescriptionOfItsNode(t *testing.T) { // P155
	s := &NodeState{Node: Node{Name: "a", Addr: []byte{10, 0, 0, 1}, Port: 7}, State: StateSuspect}
	require.Equal(t, "10.0.0.1:7", s.Address())
	require.Equal(t, Address{Addr: "10.0.0.1:7", Name: "a"}, s.FullAddress())
	for state, want := range map[NodeStateType]bool{StateAlive: false, StateSuspect: false, StateDead: true, StateLeft: true} {
		s.State = state
		require.Equal(t, want, s.DeadOrLeft(), state)
	}
}
