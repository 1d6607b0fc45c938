package memberlist

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFiveNodesFindEachOtherAndTheDead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		events := new(trace)
		c.node("n1", func(cfg *Config) { cfg.Events = events })
		for i := 2; i <= 5; i++ {
			joinNode(t, c.node("n"+strconv.Itoa(i)), c.nodes[0])
		}
		within(t, 5*time.Second, "all know all", func() bool {
			return !slices.ContainsFunc(c.nodes, func(m *Memberlist) bool { return m.NumMembers() != 5 })
		})
		require.ElementsMatch(t, []string{"join n1", "join n2", "join n3", "join n4", "join n5"}, events.take())

		require.NoError(t, c.nodes[4].Shutdown())
		within(t, 30*time.Second, "the dead node is found", func() bool {
			return !slices.ContainsFunc(c.nodes[:4], func(m *Memberlist) bool { return !holdsFor(m, "n5", StateDead) })
		})
		require.Equal(t, []string{"leave n5"}, events.take())
		for _, m := range c.nodes[:4] {
			require.Equal(t, []string{"n1", "n2", "n3", "n4"}, memberNames(m))
		}
	})
}

// TestMembersAreAliveOrSuspectInAFreshSlice checks P33.
func TestMembersAreAliveOrSuspectInAFreshSlice(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", func(cfg *Config) { cfg.ProbeInterval, cfg.GossipInterval = 100*time.Hour, 0 })
		for _, name := range []string{"alive", "suspect", "dead", "left"} {
			c.puppet(name, nil).introduce(m)
		}
		p := c.puppet("teller", nil)
		p.send(m, (&suspect{Incarnation: 1, Node: borrow("suspect"), From: borrow("teller")}).appendTo(nil))
		p.send(m, (&dead{Incarnation: 1, Node: borrow("dead"), From: borrow("teller")}).appendTo(nil))
		p.send(m, (&dead{Incarnation: 1, Node: borrow("left"), From: borrow("left")}).appendTo(nil))
		synctest.Wait()

		require.Equal(t, []string{"alive", "n1", "suspect"}, memberNames(m))
		require.Equal(t, 3, m.NumMembers())
		first := m.Members()
		clear(first)
		require.NotContains(t, m.Members(), (*Node)(nil), "the slice is the caller's")

		// P35: the state is maintained here, unlike in the reference.
		for _, n := range m.Members() {
			want := StateAlive
			if n.Name == "suspect" {
				want = StateSuspect
			}
			require.Equal(t, want, n.State, n.Name)
		}
	})
}

// TestNotifyLeaveTellsDeadFromLeft checks P35.
func TestNotifyLeaveTellsDeadFromLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var states sync.Map
		events := &trace{hook: func(kind string, n *Node) { states.Store(kind+" "+n.Name, n.State) }}
		m := c.node("n1", func(cfg *Config) { cfg.Events = events })
		for _, name := range []string{"a", "b"} {
			c.puppet(name, nil).introduce(m)
		}
		p := c.puppet("teller", nil)
		p.send(m, (&dead{Incarnation: 1, Node: borrow("a"), From: borrow("teller")}).appendTo(nil))
		p.send(m, (&dead{Incarnation: 1, Node: borrow("b"), From: borrow("b")}).appendTo(nil))
		synctest.Wait()
		for event, want := range map[string]NodeStateType{
			"join a": StateAlive, "leave a": StateDead, "leave b": StateLeft,
		} {
			state, eventSeq := states.Load(event)
			require.True(t, eventSeq, event)
			require.Equal(t, want, state, event)
		}
	})
}

// TestQueriesTellTheOwnNode checks P36.
func TestQueriesTellTheOwnNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", func(cfg *Config) { cfg.ProtocolVersion = 3 })
		require.EqualValues(t, 3, m.ProtocolVersion())
		require.Zero(t, m.GetHealthScore())
		n := m.LocalNode()
		require.Equal(t, "n1", n.Name)
		require.Equal(t, []uint8{1, 5, 3}, []uint8{n.PMin, n.PMax, n.PCur})
		require.Same(t, n, m.Members()[0])
	})
}

// TestAddressesOfNodes checks P37.
func TestAddressesOfNodes(t *testing.T) {
	n := &Node{Name: "n1", Addr: net.IP{10, 0, 0, 1}, Port: 7946}
	require.Equal(t, "10.0.0.1:7946", n.Address())
	require.Equal(t, Address{Addr: "10.0.0.1:7946", Name: "n1"}, n.FullAddress())
	require.Equal(t, "n1", n.String())
	n.Addr = net.ParseIP("fe80::1")
	require.Equal(t, "[fe80::1]:7946", n.Address()) // W73

	named, bare := Address{Addr: "10.0.0.1:1", Name: "n1"}, Address{Addr: "10.0.0.1:1"}
	require.Equal(t, "n1 (10.0.0.1:1)", named.String())
	require.Equal(t, "10.0.0.1:1", bare.String())
}

// The nodes that were handed out stay what they were, while all that can change a
// node does change it. The race detector sees whoever writes to one (P34).
func TestNodesThatWereHandedOutAreNeverWritten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		kept := newKeptNodes(t)
		meta := new(metaBox)
		m := c.node("n1", func(cfg *Config) {
			cfg.Events = &trace{hook: func(_ string, n *Node) { kept.add(n) }}
			cfg.Delegate = meta
		})
		changing := new(metaBox)
		other := c.node("n2", func(cfg *Config) { cfg.Delegate = changing })
		joinNode(t, other, m)
		p := c.puppet("p", nil)
		p.introduce(m)

		var work sync.WaitGroup
		for range 3 {
			work.Go(func() {
				for range 50 {
					for _, n := range append(m.Members(), m.LocalNode()) {
						kept.add(n)
					}
					for _, s := range m.Snapshot() {
						kept.add(&s.Node)
					}
					time.Sleep(7 * time.Millisecond)
				}
			})
		}
		work.Go(func() {
			for i := range 20 {
				meta.set(fmt.Sprint("own ", i))
				changing.set(fmt.Sprint("other ", i))
				_ = m.UpdateNode(10 * time.Millisecond)
				_ = other.UpdateNode(10 * time.Millisecond)
			}
		})
		work.Go(func() {
			for i := range uint32(30) {
				says := p.alive(2*i + 2)
				says.Meta = []byte(fmt.Sprint("puppet ", i))
				p.send(m, says.appendTo(nil))
				p.send(m, (&suspect{Incarnation: 2*i + 2, Node: borrow("p"), From: borrow("n2")}).appendTo(nil))
				p.send(m, (&suspect{Incarnation: incarnationOf(m, "n1"), Node: borrow("n1"), From: borrow("p")}).appendTo(nil))
				if i%5 == 0 {
					p.send(m, (&dead{Incarnation: 2*i + 2, Node: borrow("p"), From: borrow("n2")}).appendTo(nil))
				}
				time.Sleep(11 * time.Millisecond)
			}
		})
		work.Wait()
		_ = m.Leave(time.Second) // the puppet does not confirm
		kept.check()
	})
}

// keptNodes are nodes with copies of what they were when they came.
type keptNodes struct {
	t      *testing.T
	mu     sync.Mutex
	copies map[*Node]*Node
}

func newKeptNodes(t *testing.T) *keptNodes {
	return &keptNodes{t: t, copies: map[*Node]*Node{}}
}

func (k *keptNodes) add(n *Node) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.copies[n] == nil {
		k.copies[n] = copyOfNode(n)
	}
}

func (k *keptNodes) check() {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	metas := map[string]bool{}
	for n, was := range k.copies {
		require.Equal(k.t, was, n)
		metas[string(n.Meta)] = true
	}
	require.Greater(k.t, len(metas), 20, "the nodes have hardly changed")
}

// Everybody restarts at once, at the old addresses and with all incarnations back
// at 1, while what was said about the previous lives is still around. There is no
// push/pull but that of Join, and Join sees only one node (P15).
func TestRestartOfEverybodyEndsWithAllAlive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		quiet := func(cfg *Config) { cfg.PushPullInterval, cfg.GossipToTheDeadTime = 0, time.Hour }
		first := c.grow(4, quiet)
		// High incarnations, and accusations that nobody refutes any more.
		p := c.puppet("accuser", nil)
		for _, m := range first {
			for _, about := range first {
				p.send(m, (&suspect{Incarnation: 7, Node: borrow(about.LocalNode().Name), From: borrow("accuser")}).appendTo(nil))
			}
		}
		within(t, 5*time.Second, "all have refuted", func() bool { return incarnationOf(first[0], "n3") > 7 })
		var again []*Memberlist
		for i, m := range first {
			ip, port, err := m.transport.FinalAdvertiseAddr("", 0)
			require.NoError(t, err)
			require.NoError(t, m.Shutdown())
			cfg := c.config(fmt.Sprintf("n%d", i+1))
			quiet(cfg)
			cfg.Transport = &movedTransport{MockTransport: cfg.Transport.(*MockTransport), ip: ip, port: port}
			again = append(again, c.start(cfg))
			// The old lives' deaths reach the new nodes, which do not yet know
			// whom they are about.
			for j := range first {
				name := fmt.Sprintf("n%d", j+1)
				p.send(again[i], (&dead{Incarnation: 9, Node: borrow(name), From: borrow("accuser")}).appendTo(nil))
			}
		}
		for _, m := range again[1:] {
			// The network finds the moved node by its name only.
			_, err := m.Join([]string{"n1/" + again[0].LocalNode().Address()})
			require.NoError(t, err)
		}
		within(t, 20*time.Second, "every node sees every other alive", func() bool {
			for _, m := range again {
				for i := range again {
					if !holdsFor(m, fmt.Sprintf("n%d", i+1), StateAlive) {
						return false
					}
				}
			}
			return true
		})
		time.Sleep(30 * time.Second)
		for _, m := range again {
			require.Equal(t, []string{"n1", "n2", "n3", "n4"}, memberNames(m), "it stays so")
		}
	})
}

// movedTransport advertises another address than its own. The network finds it by
// name.
type movedTransport struct {
	*MockTransport
	ip   net.IP
	port int
}

func (t *movedTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.ip, t.port, nil
}

// A node that restarted says that it is alive with incarnation 1 to somebody who
// holds a newer accusation. That one tells it, though nobody exchanges state (P15, P166).
func TestHolderOfANewerAccusationTellsTheAccused(t *testing.T) {
	for state, accusation := range map[NodeStateType]func(from string) []byte{
		StateDead: func(string) []byte {
			return (&dead{Incarnation: 9, Node: borrow("p"), From: borrow("x")}).appendTo(nil)
		},
		StateLeft: func(string) []byte {
			return (&dead{Incarnation: 9, Node: borrow("p"), From: borrow("p")}).appendTo(nil)
		},
		StateSuspect: func(string) []byte {
			return (&suspect{Incarnation: 9, Node: borrow("p"), From: borrow("x")}).appendTo(nil)
		},
	} {
		t.Run(state.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				m := c.node("n1", func(cfg *Config) { cfg.GossipInterval, cfg.ProbeInterval = 0, 100*time.Hour })
				p := c.puppet("p", nil)
				p.introduce(m)
				p.send(m, accusation("x"))
				within(t, time.Second, "accused", func() bool { return holdsFor(m, "p", state) })
				p.forget()
				p.send(m, p.alive(1).appendTo(nil))
				synctest.Wait()
				eventSeq := append(p.heard(deadMsg), p.heard(suspectMsg)...)
				require.Len(t, eventSeq, 1)
				var said suspect
				_, err := said.decode(eventSeq[0].body)
				require.NoError(t, err)
				require.Equal(t, uint32(9), said.Incarnation)
				require.Equal(t, borrow("p"), said.Node)
			})
		})
	}
}

// Sequence numbers cannot be guessed from those that were seen (W30 has them
// count up from 1 in the reference).
func TestSequenceNumbersAreUnpredictable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", func(cfg *Config) { cfg.ProbeInterval, cfg.ProbeTimeout = 100*time.Millisecond, 50*time.Millisecond })
		p := c.puppet("p", nil)
		p.answerPings(m)
		p.introduce(m)
		time.Sleep(5 * time.Second)
		seen := map[uint32]bool{}
		var last uint32
		near := 0
		for _, h := range p.heard(pingMsg) {
			var in ping
			_, err := in.decode(h.body)
			require.NoError(t, err)
			require.False(t, seen[in.SeqNo], "%d came twice", in.SeqNo)
			if in.SeqNo-last+1000 < 2000 {
				near++
			}
			seen[in.SeqNo], last = true, in.SeqNo
		}
		require.Greater(t, len(seen), 30)
		require.LessOrEqual(t, near, 1, "numbers follow each other closely")
	})
}

// An ack counts for a ping that is pending, and once (P59); so does a nack, and
// others are ignored silently (W77).
func TestAckCountsOnlyForAPendingPingAndOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var completed atomic.Int32
		lines := new(logLines)
		m := c.node("n1", func(cfg *Config) {
			cfg.LogOutput = lines
			cfg.Ping = &pingHooks{complete: func(*Node, time.Duration, []byte) { completed.Add(1) }}
		})
		p := c.puppet("p", nil)
		rounds := 0
		p.react(func(h heard) {
			var in ping
			if h.kind != pingMsg {
				return
			}
			if _, err := in.decode(h.body); err != nil {
				return
			}
			rounds++
			for _, seq := range []uint32{0, 1, in.SeqNo - 1, in.SeqNo + 1, in.SeqNo, in.SeqNo, in.SeqNo} {
				p.send(m, (&ack{SeqNo: seq}).appendTo(nil))
				p.send(m, (&nack{SeqNo: seq}).appendTo(nil))
			}
		})
		p.introduce(m)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Greater(t, rounds, 3)
		require.EqualValues(t, rounds, completed.Load())
		require.Equal(t, StateAlive, statusOf(m, "p").Node.State)
		require.Empty(t, lines.with("[WARN]"))
		require.Empty(t, lines.with("[ERR]"))
	})
}

// bubbleGoroutines are the stacks of the goroutines of this package in the
// caller's bubble, but for the caller.
func bubbleGoroutines() []string {
	stacks := allStacks()
	own, _, _ := strings.Cut(stacks, "\n")
	_, bubble, _ := strings.Cut(own, "synctest bubble ")
	bubble = "synctest bubble " + strings.TrimRight(bubble, "]:")
	var found []string
	for _, stack := range packageGoroutines(stacks) {
		head, _, _ := strings.Cut(stack, "\n")
		if strings.Contains(stack, "internal/synctest.Run(") {
			continue // the goroutine outside that waits for the bubble's end
		}
		if strings.Contains(head, bubble+"]") || strings.Contains(head, bubble+",") {
			found = append(found, stack)
		}
	}
	return found
}

// P31, P32: whatever is switched on, Shutdown leaves nothing behind.
func TestNothingRunsAfterShutdown(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"everything": func(*Config) {},
		"only push/pull": func(cfg *Config) {
			cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval = 0, 0, time.Second
		},
		"only probes": func(cfg *Config) { cfg.GossipInterval, cfg.PushPullInterval = 0, 0 },
		"only gossip": func(cfg *Config) { cfg.ProbeInterval, cfg.PushPullInterval = 0, 0 },
		"nothing":     func(cfg *Config) { cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval = 0, 0, 0 },
		"all delegates": func(cfg *Config) {
			cfg.Delegate, cfg.Events, cfg.Ping = new(metaBox), new(changeTrace), new(pingHooks)
			cfg.Alive = aliveFunc(func(*Node) error { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				require.Empty(t, bubbleGoroutines())
				c := newMesh(t)
				a, b := c.node("n1", change), c.node("n2", change)
				joinNode(t, a, b)
				time.Sleep(5 * time.Second)
				require.NotEmpty(t, bubbleGoroutines())
				took := duration(func() {
					require.NoError(t, a.Shutdown())
					require.NoError(t, b.Shutdown())
				})
				synctest.Wait()
				require.Empty(t, bubbleGoroutines())
				require.Zero(t, took, "it had to wait for somebody")
			})
		})
	}
}

// Shutdown releases whoever waits in one of the node's methods, and is idempotent
// and safe for concurrent use (P31).
func TestShutdownReleasesThoseWhoWait(t *testing.T) {
	for name, call := range map[string]func(m *Memberlist, n *Node) error{
		"Join":         func(m *Memberlist, n *Node) error { _, err := m.Join([]string{n.Address()}); return err },
		"SendReliable": func(m *Memberlist, n *Node) error { return m.SendReliable(n, []byte("x")) },
		"UpdateNode":   func(m *Memberlist, _ *Node) error { return m.UpdateNode(0) },
		"Leave":        func(m *Memberlist, _ *Node) error { return m.Leave(0) },
		"Ping": func(m *Memberlist, n *Node) error {
			_, err := m.Ping(n.Name, &net.UDPAddr{IP: n.Addr, Port: int(n.Port)})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				m := c.node("n1", func(cfg *Config) { cfg.GossipInterval, cfg.ProbeInterval = 0, 0 })
				deaf := c.puppet("deaf", nil)
				deaf.introduce(m)
				result := make(chan error, 1)
				go func() { result <- call(m, statusNode(m, "deaf")) }()
				time.Sleep(10 * time.Millisecond)
				require.Empty(t, result)
				took := duration(func() {
					var work sync.WaitGroup
					for range 3 {
						work.Go(func() { require.NoError(t, m.Shutdown()) })
					}
					work.Wait()
					require.ErrorIs(t, <-result, ErrShutdown)
				})
				require.Less(t, took, 100*time.Millisecond)
			})
		})
	}
}

// A callback that hangs does not hang Shutdown (P31).
func TestShutdownDoesNotWaitForCallbacks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		hold := make(chan struct{})
		entered := make(chan struct{})
		m := c.node("n1", func(cfg *Config) {
			cfg.Delegate = &hooks{msg: func([]byte) { close(entered); <-hold }}
		})
		p := c.puppet("p", nil)
		p.send(m, []byte{byte(userMsg), 'x'})
		<-entered
		require.Equal(t, callbackGrace, duration(func() { require.NoError(t, m.Shutdown()) }))
		close(hold)
		synctest.Wait()
		require.Empty(t, bubbleGoroutinesOf("*Memberlist"))
	})
}

// bubbleGoroutinesOf are those that are inside a method of a type.
func bubbleGoroutinesOf(receiver string) []string {
	return slices.DeleteFunc(bubbleGoroutines(), func(stack string) bool {
		return !strings.Contains(stack, "memberlist.("+receiver+")")
	})
}

// Two nodes that speak no common dialect in label or key stay apart, and those
// with both together: the whole way through the shell.
func TestLabelledEncryptedCluster(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		key := bytes.Repeat([]byte{7}, 16)
		box := new(inbox)
		nodes := c.grow(3, func(cfg *Config) {
			cfg.Label, cfg.SecretKey = "team", bytes.Clone(key)
			if cfg.Name == "n3" {
				cfg.Delegate = box
			}
		})
		require.NoError(t, nodes[0].SendBestEffort(statusNode(nodes[0], "n3"), []byte("packet")))
		require.NoError(t, nodes[0].SendReliable(statusNode(nodes[0], "n3"), []byte("stream")))
		synctest.Wait()
		require.ElementsMatch(t, []string{"packet", "stream"}, box.all())

		stranger := c.node("stranger", func(cfg *Config) { cfg.SecretKey = bytes.Clone(key) })
		_, err := stranger.Join([]string{nodes[0].LocalNode().Address()})
		require.Error(t, err)
		require.Equal(t, 3, nodes[0].NumMembers())
	})
}

func statusNode(m *Memberlist, name string) *Node {
	s := statusOf(m, name)
	return &s.Node
}

// The phrases that existing tooling watches for, at their levels (P148, P150).
func TestPhrasesInTheLog(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		m := c.node("n1", func(cfg *Config) { cfg.LogOutput, cfg.DeadNodeReclaimTime = lines, time.Second })
		self := m.LocalNode()
		p := c.puppet("p", nil)
		p.introduce(m)
		own := incarnationOf(m, "n1")
		p.send(m, (&suspect{Incarnation: own, Node: borrow("n1"), From: borrow("p")}).appendTo(nil))
		p.send(m, (&dead{Incarnation: own + 1, Node: borrow("n1"), From: borrow("p")}).appendTo(nil))
		p.send(m, (&alive{
			Incarnation: own + 2, Node: borrow("n1"), Addr: self.Addr, Port: self.Port, Meta: []byte("?"), Vsn: []byte{1, 5, 2, 0, 0, 0},
		}).appendTo(nil))
		joinNode(t, c.node("n2", func(cfg *Config) { cfg.ProbeInterval = 100 * time.Hour }), m)
		within(t, 2*time.Minute, "the silent puppet is dead", func() bool { return holdsFor(m, "p", StateDead) })
		time.Sleep(2 * time.Second)
		moved := p.alive(9)
		moved.Port = 4711
		p.send(m, moved.appendTo(nil))
		time.Sleep(5 * time.Second)
		for _, want := range []string{
			"[WARN] memberlist: Refuting a suspect message (from: p)",
			"[WARN] memberlist: Refuting a dead message (from: p)",
			"[WARN] memberlist: Refuting an alive message for 'n1' ",
			"[INFO] memberlist: Suspect p has failed, no acks received",
			"[INFO] memberlist: Marking p as failed, suspect timeout reached (",
			"[INFO] memberlist: Updating address for left or failed node p from 127.0.0.1:2 to 127.0.0.1:4711",
			"[DEBUG] memberlist: Stream connection from=127.0.0.1:",
		} {
			require.NotEmpty(t, lines.with(want), "%s in\n%s", want, strings.Join(lines.with(""), "\n"))
		}
		for _, line := range lines.with("") {
			require.Regexp(t, `^\[(DEBUG|INFO|WARN|ERR)\] memberlist: \S`, line)
		}
	})
}

// A StructuredLogger gets the same as records, with attributes that can be tested:
// also the kinds of errors that no caller sees.
func TestStructuredLogOfARunningNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		records := new(recordTrace)
		m := c.node("n1", func(cfg *Config) {
			cfg.LogOutput, cfg.StructuredLogger = nil, slog.New(records)
			cfg.Label, cfg.SecretKey = "blue", bytes.Repeat([]byte{1}, 16)
		})
		stranger := c.puppet("stranger", nil)
		stranger.send(m, []byte{byte(userMsg), 'x'})
		same := *m.config
		unsealed := same
		unsealed.GossipVerifyOutgoing, unsealed.EnableCompression = false, false
		c.puppet("unsealed", &unsealed).send(m, append([]byte{boxPlain}, make([]byte, 100)...))
		silent := c.puppet("silent", &same)
		silent.introduce(m)
		within(t, 2*time.Minute, "silence is death", func() bool { return holdsFor(m, "silent", StateDead) })
		_, err := m.Join([]string{"127.0.0.1:99"})
		require.Error(t, err)

		level, attrs := records.find(ErrLabelMismatch.Error())
		require.Equal(t, slog.LevelError, level)
		require.Equal(t, "127.0.0.1:2", attrs["addr"])
		require.ErrorIs(t, attrs["err"].(error), ErrLabelMismatch)
		level, attrs = records.find(ErrDecrypt.Error())
		require.Equal(t, slog.LevelError, level)
		require.Equal(t, "127.0.0.1:3", attrs["addr"])
		require.ErrorIs(t, attrs["err"].(error), ErrDecrypt)
		level, attrs = records.find("Declaring a suspect failed")
		require.Equal(t, slog.LevelInfo, level)
		require.Equal(t, map[string]any{"node": "silent", "addr": "127.0.0.1:4", "incarnation": uint64(1), "confirmations": int64(0)}, attrs)
		level, attrs = records.find("Failed to join")
		require.Equal(t, slog.LevelDebug, level)
		require.Equal(t, "127.0.0.1:99", attrs["addr"])
		require.ErrorContains(t, attrs["err"].(error), "no route to")
	})
}

// brokenTransport fails to shut down.
type brokenTransport struct{ *MockTransport }

func (b *brokenTransport) Shutdown() error {
	_ = b.MockTransport.Shutdown()
	return errors.New("does not end well")
}

// Shutdown always returns nil; what goes wrong is logged (P31).
func TestFailureOfTheTransportIsLogged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		m := c.node("n1", func(cfg *Config) {
			cfg.Transport, cfg.LogOutput = &brokenTransport{cfg.Transport.(*MockTransport)}, lines
		})
		require.NoError(t, m.Shutdown())
		require.Equal(t, []string{"[ERR] memberlist: Failed to shutdown transport: does not end well"}, lines.with("transport: "))
	})
}
