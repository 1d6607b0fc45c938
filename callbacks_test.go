package memberlist

import (
	"context"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// stage is a node with a hook in every callback, and what it takes to make each of
// them happen.
type stage struct {
	*mesh
	callback string // the one that is examined
	action   func() // what it does, once
	armed    atomic.Bool
	returned chan struct{}

	node  *Memberlist // whose callbacks are examined
	other *Memberlist // a member that answers
	p     *puppet     // a member that can be accused
	queue TransmitLimitedQueue
}

// at is what every callback does.
func (s *stage) at(callback string) {
	if callback == s.callback && s.armed.CompareAndSwap(true, false) {
		s.action()
		close(s.returned)
	}
}

// stageDelegate is every interface that a program can implement.
type stageDelegate struct{ s *stage }

func (d stageDelegate) NodeMeta(int) []byte { d.s.at("NodeMeta"); return nil }
func (d stageDelegate) NotifyMsg(msg []byte) {
	d.s.at("NotifyMsg " + string(msg))
}
func (d stageDelegate) GetBroadcasts(overhead, limit int) [][]byte {
	d.s.at("GetBroadcasts")
	return d.s.queue.GetBroadcasts(overhead, limit)
}
func (d stageDelegate) LocalState(join bool) []byte {
	if join {
		d.s.at("LocalState of a join")
	} else {
		d.s.at("LocalState")
	}
	return []byte("state")
}
func (d stageDelegate) MergeRemoteState(_ []byte, join bool) {
	if join {
		d.s.at("MergeRemoteState of a join")
	} else {
		d.s.at("MergeRemoteState")
	}
}
func (d stageDelegate) NotifyJoin(*Node)              { d.s.at("NotifyJoin") }
func (d stageDelegate) NotifyLeave(*Node)             { d.s.at("NotifyLeave") }
func (d stageDelegate) NotifyUpdate(*Node)            { d.s.at("NotifyUpdate") }
func (d stageDelegate) NotifyChange(Change)           { d.s.at("NotifyChange") }
func (d stageDelegate) NotifyConflict(_, _ *Node)     { d.s.at("NotifyConflict") }
func (d stageDelegate) NotifyMerge([]*Node) error     { d.s.at("NotifyMerge"); return nil }
func (d stageDelegate) NotifyAlive(*Node) error       { d.s.at("NotifyAlive"); return nil }
func (d stageDelegate) AckPayload() []byte            { d.s.at("AckPayload"); return nil }
func (d stageDelegate) DisableTcpPings(_ string) bool { d.s.at("DisableTcpPingsForNode"); return false }
func (d stageDelegate) NotifyPingComplete(*Node, time.Duration, []byte) {
	d.s.at("NotifyPingComplete")
}
func (d stageDelegate) SelectNodes(c []*NodeState) ([]*NodeState, *NodeState) {
	d.s.at("SelectNodes")
	return c, nil
}

// hookedTransport is a program's transport that calls back.
type hookedTransport struct {
	*MockTransport
	s *stage
}

func (h *hookedTransport) WriteToAddress(b []byte, to Address) (time.Time, error) {
	h.s.at("transport WriteToAddress")
	return h.MockTransport.WriteToAddress(b, to)
}

func (h *hookedTransport) DialAddressTimeout(to Address, timeout time.Duration) (net.Conn, error) {
	h.s.at("transport DialAddressTimeout")
	return h.MockTransport.DialAddressTimeout(to, timeout)
}

// newStage makes a cluster of the node, another one and a puppet.
func newStage(t *testing.T, callback string, changes ...func(*stage, *Config)) *stage {
	s := &stage{mesh: newMesh(t), callback: callback, returned: make(chan struct{})}
	d := stageDelegate{s}
	s.node = s.mesh.node("node", func(cfg *Config) {
		cfg.Delegate, cfg.Events, cfg.Conflict, cfg.Merge, cfg.Ping = d, d, d, d, d
		cfg.DisableTcpPingsForNode = d.DisableTcpPings
		switch callback {
		case "NotifyAlive": // it changes the way of the messages
			cfg.Alive = d
		case "SelectNodes":
			cfg.NodeSelection = d
		case "transport WriteToAddress", "transport DialAddressTimeout":
			cfg.Transport = &hookedTransport{cfg.Transport.(*MockTransport), s}
		case "slog handler":
			cfg.StructuredLogger = slog.New(&recordTrace{hook: func(slog.Record) { s.at("slog handler") }})
		case "LocalState", "MergeRemoteState":
			cfg.PushPullInterval = time.Second
		}
		for _, change := range changes {
			change(s, cfg)
		}
	})
	s.queue.NumNodes, s.queue.RetransmitMult = func() int { return s.node.NumMembers() }, 1
	s.other = s.mesh.node("other", func(cfg *Config) {
		cfg.Delegate = &hooks{local: func(bool) []byte { return []byte("other state") }}
	})
	joinNode(t, s.other, s.node)
	s.p = s.puppet("p", nil)
	s.p.answerPings(s.node)
	s.p.introduce(s.node)
	synctest.Wait()
	return s
}

// triggers makes each callback happen.
var triggers = map[string]func(s *stage){
	"NodeMeta":                   func(s *stage) { _ = s.node.UpdateNode(time.Second) },
	"NotifyMsg packet":           func(s *stage) { _ = s.other.SendBestEffort(s.node.LocalNode(), []byte("packet")) },
	"NotifyMsg stream":           func(s *stage) { _ = s.other.SendReliable(s.node.LocalNode(), []byte("stream")) },
	"GetBroadcasts":              func(*stage) {},       // with the next gossip
	"LocalState":                 (*stage).removePuppet, // with the next push/pull
	"MergeRemoteState":           (*stage).removePuppet,
	"LocalState of a join":       func(s *stage) { joinTo(s.other, s.node) },
	"MergeRemoteState of a join": func(s *stage) { joinTo(s.other, s.node) },
	"NotifyMerge":                func(s *stage) { joinTo(s.other, s.node) },
	"NotifyJoin": func(s *stage) {
		q := s.puppet("q", nil)
		q.send(s.node, q.alive(1).appendTo(nil))
	},
	"NotifyLeave": func(s *stage) {
		s.p.send(s.node, (&dead{Incarnation: 1, Node: borrow("p"), From: borrow("p")}).appendTo(nil))
	},
	"NotifyUpdate": func(s *stage) {
		says := s.p.alive(2)
		says.Meta = []byte("new")
		s.p.send(s.node, says.appendTo(nil))
	},
	"NotifyChange": func(s *stage) {
		s.p.send(s.node, (&suspect{Incarnation: 1, Node: borrow("p"), From: borrow("other")}).appendTo(nil))
	},
	"NotifyConflict": func(s *stage) {
		says := s.p.alive(50)
		says.Node = borrow("other")
		s.p.send(s.node, says.appendTo(nil))
	},
	"NotifyAlive":        func(s *stage) { s.p.send(s.node, s.p.alive(2).appendTo(nil)) },
	"AckPayload":         func(s *stage) { s.p.send(s.node, (&ping{SeqNo: 1, Node: borrow("node")}).appendTo(nil)) },
	"NotifyPingComplete": func(*stage) {}, // with the next probe
	"SelectNodes": func(s *stage) {
		s.queue.QueueBroadcast(&plainBroadcast{msg: []byte("news")})
	},
	"DisableTcpPingsForNode": func(s *stage) { s.p.react(nil) }, // the puppet falls silent
	"Broadcast Finished": func(s *stage) {
		s.queue.QueueBroadcast(&finishing{plainBroadcast{msg: []byte("news")}, func() { s.at("Broadcast Finished") }})
	},
	"slog handler":                 func(s *stage) { s.p.send(s.node, (&ping{SeqNo: 1, Node: borrow("nobody")}).appendTo(nil)) },
	"transport WriteToAddress":     func(*stage) {},
	"transport DialAddressTimeout": func(s *stage) { joinTo(s.node, s.other) },
}

// removePuppet leaves the other node as the only partner for exchanges.
func (s *stage) removePuppet() {
	s.p.send(s.node, (&dead{Incarnation: 1, Node: borrow("p"), From: borrow("p")}).appendTo(nil))
}

func joinTo(m, to *Memberlist) { _, _ = m.Join([]string{to.LocalNode().Address()}) }

type finishing struct {
	plainBroadcast
	done func()
}

func (f *finishing) Finished() { f.done() }

// methods calls each public method, without a limit of its own where one is
// optional.
var methods = map[string]func(s *stage){
	"Members":         func(s *stage) { s.node.Members() },
	"NumMembers":      func(s *stage) { s.node.NumMembers() },
	"LocalNode":       func(s *stage) { s.node.LocalNode() },
	"ProtocolVersion": func(s *stage) { s.node.ProtocolVersion() },
	"GetHealthScore":  func(s *stage) { s.node.GetHealthScore() },
	"Snapshot":        func(s *stage) { s.node.Snapshot() },
	"Join":            func(s *stage) { joinTo(s.node, s.other) },
	"JoinContext": func(s *stage) {
		_, _ = s.node.JoinContext(context.Background(), []string{s.other.LocalNode().Address()})
	},
	"Leave":             func(s *stage) { _ = s.node.Leave(0) },
	"LeaveContext":      func(s *stage) { _ = s.node.LeaveContext(context.Background()) },
	"UpdateNode":        func(s *stage) { _ = s.node.UpdateNode(0) },
	"UpdateNodeContext": func(s *stage) { _ = s.node.UpdateNodeContext(context.Background()) },
	"SendBestEffort":    func(s *stage) { _ = s.node.SendBestEffort(s.other.LocalNode(), []byte("x")) },
	"SendToUDP":         func(s *stage) { _ = s.node.SendToUDP(s.other.LocalNode(), []byte("x")) },
	"SendTo":            func(s *stage) { _ = s.node.SendTo(&s.p.tr.addr, []byte("x")) },
	"SendToAddress":     func(s *stage) { _ = s.node.SendToAddress(s.other.LocalNode().FullAddress(), []byte("x")) },
	"SendReliable":      func(s *stage) { _ = s.node.SendReliable(s.other.LocalNode(), []byte("x")) },
	"SendReliableContext": func(s *stage) {
		_ = s.node.SendReliableContext(context.Background(), s.other.LocalNode(), []byte("x"))
	},
	"SendToTCP": func(s *stage) { _ = s.node.SendToTCP(s.other.LocalNode(), []byte("x")) },
	"Ping":      func(s *stage) { _, _ = s.node.Ping("other", s.otherAddr()) },
	"PingContext": func(s *stage) {
		_, _ = s.node.PingContext(context.Background(), "other", s.otherAddr())
	},
	"Shutdown": func(s *stage) { _ = s.node.Shutdown() },
}

func (s *stage) otherAddr() net.Addr {
	n := s.other.LocalNode()
	return &net.UDPAddr{IP: n.Addr, Port: int(n.Port)}
}

// Any public method may be called from any callback (P124): none hangs, and the
// node works on. In the reference most of these are deadlocks.
func TestAnyMethodFromAnyCallback(t *testing.T) {
	for callback := range triggers {
		t.Run(callback, func(t *testing.T) {
			for method := range methods {
				t.Run(method, func(t *testing.T) {
					inBubble(t, func(t *testing.T) {
						s := newStage(t, callback)
						s.action = func() { methods[method](s) }
						s.run(t, triggers[callback])
						s.check(t, method)
					})
				})
			}
		})
	}
}

// run lets the callback happen and waits for what it does.
func (s *stage) run(t *testing.T, trigger func(*stage)) {
	t.Helper()
	s.armed.Store(true)
	go trigger(s)
	select {
	case <-s.returned:
	case <-time.After(20 * time.Second):
		require.False(t, s.armed.Load(), "the callback did not happen")
		t.Fatalf("the method does not return:\n%s", strings.Join(bubbleGoroutines(), "\n\n"))
	}
}

// check sees to it that the node is as alive as it should be after the method.
func (s *stage) check(t *testing.T, method string) {
	t.Helper()
	if method != "Shutdown" {
		late := s.puppet("late", nil)
		late.introduce(s.node)
		require.NoError(t, s.node.SendReliable(s.other.LocalNode(), []byte("x")))
	}
	require.LessOrEqual(t, duration(func() { require.NoError(t, s.node.Shutdown()) }), callbackGrace)
	require.NoError(t, s.other.Shutdown())
	time.Sleep(time.Second)
	require.Empty(t, bubbleGoroutinesOf("*Memberlist"))
}

// TestTablesOfCallbacksAndMethodsAreComplete checks P123.
func TestTablesOfCallbacksAndMethodsAreComplete(t *testing.T) {
	typ := reflect.TypeFor[*Memberlist]()
	for i := range typ.NumMethod() {
		require.Contains(t, methods, typ.Method(i).Name)
	}
	require.Len(t, methods, typ.NumMethod())
	for _, iface := range []reflect.Type{
		reflect.TypeFor[Delegate](), reflect.TypeFor[EventDelegate](), reflect.TypeFor[EventReasonDelegate](),
		reflect.TypeFor[AliveDelegate](), reflect.TypeFor[ConflictDelegate](), reflect.TypeFor[MergeDelegate](),
		reflect.TypeFor[PingDelegate](), reflect.TypeFor[NodeSelectionDelegate](),
	} {
		for i := range iface.NumMethod() {
			name := iface.Method(i).Name
			found := false
			for callback := range triggers {
				found = found || callback == name || strings.HasPrefix(callback, name+" ")
			}
			require.True(t, found, name)
		}
	}
}

// A callback that calls Join causes further callbacks, on both sides of the
// exchange, before Join can return; these may call everything as well (P124).
func TestAnyMethodFromCallbacksOfAJoinInACallback(t *testing.T) {
	for _, outer := range []string{"NotifyJoin", "NotifyAlive", "NotifyMsg packet", "GetBroadcasts", "AckPayload"} {
		for _, inner := range []string{"LocalState", "NotifyMerge", "NotifyAlive", "MergeRemoteState"} {
			for _, method := range []string{"Join", "Leave", "UpdateNode", "Shutdown", "Members", "Ping"} {
				t.Run(outer+" "+inner+" "+method, func(t *testing.T) {
					inBubble(t, func(t *testing.T) { nestedCallbacks(t, outer, inner, method) })
				})
			}
		}
	}
}

func nestedCallbacks(t *testing.T, outer, inner, method string) {
	var armed, called atomic.Bool
	s := newStage(t, outer, func(s *stage, cfg *Config) {
		d := stageDelegate{s}
		nest := func(at string) {
			if at == inner && armed.CompareAndSwap(true, false) {
				methods[method](s)
				called.Store(true)
			}
		}
		cfg.Merge = mergeFunc(func([]*Node) error { nest("NotifyMerge"); return nil })
		cfg.Delegate = &hooks{
			msg: d.NotifyMsg, broadcasts: d.GetBroadcasts,
			local: func(bool) []byte { nest("LocalState"); return nil },
			merge: func([]byte, bool) { nest("MergeRemoteState") },
		}
		if outer == "NotifyAlive" || inner == "NotifyAlive" {
			cfg.Alive = aliveFunc(func(*Node) error {
				s.at("NotifyAlive")
				nest("NotifyAlive")
				return nil
			})
		}
	})
	s.action = func() {
		armed.Store(true)
		joinTo(s.node, s.other)
	}
	s.run(t, triggers[outer])
	require.True(t, called.Load())
	s.check(t, method)
}

// Events are delivered one at a time and in order, whatever the callbacks do; and
// per node they are join, updates, leave, in turn (P125).
func TestEventsComeOneAtATimeAndInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var inside atomic.Int32
		events := &trace{}
		var m *Memberlist
		events.hook = func(string, *Node) {
			require.EqualValues(t, 1, inside.Add(1))
			time.Sleep(time.Millisecond)
			inside.Add(-1)
		}
		m = c.node("n1", func(cfg *Config) { cfg.Events, cfg.ProbeInterval = events, 100*time.Hour })
		var work sync.WaitGroup
		for _, name := range []string{"a", "b", "c"} {
			p := c.puppet(name, nil)
			work.Go(func() {
				for i := range uint32(20) {
					says := p.alive(3*i + 1)
					says.Meta = []byte{byte('0' + i)}
					p.send(m, says.appendTo(nil))
					says.Incarnation++
					says.Meta = []byte("again")
					p.send(m, says.appendTo(nil))
					p.send(m, (&dead{Incarnation: 3*i + 2, Node: borrow(name), From: borrow(name)}).appendTo(nil))
					time.Sleep(time.Millisecond)
				}
			})
		}
		work.Wait()
		time.Sleep(time.Second)
		byNode := map[string][]string{}
		for _, event := range events.take() {
			kind, name, _ := strings.Cut(event, " ")
			name, _, _ = strings.Cut(name, " ")
			byNode[name] = append(byNode[name], kind)
		}
		for _, name := range []string{"a", "b", "c"} {
			require.Equal(t, slices.Repeat([]string{"join", "update", "leave"}, 20), byNode[name], name)
		}
	})
}

// A change can be seen in Members, and has been queued for broadcast, before its
// event is delivered (P126).
func TestStateIsThereBeforeTheEvent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var m *Memberlist
		seen := map[string]string{}
		events := &trace{}
		events.hook = func(kind string, n *Node) {
			if m == nil {
				return
			}
			shown, queued := "gone", "not queued"
			for _, member := range m.Members() {
				if member.Name == n.Name {
					shown = "shown " + string(member.Meta)
				}
			}
			if m.broadcasts.NumQueued() > 0 {
				queued = "queued"
			}
			seen[kind] = shown + ", " + queued
		}
		m = c.node("n1", func(cfg *Config) { cfg.Events, cfg.GossipInterval = events, 0 })
		m.broadcasts.Reset()
		p := c.puppet("p", nil)
		says := p.alive(1)
		for _, msg := range [][]byte{
			says.appendTo(nil),
			(&alive{Incarnation: 2, Node: borrow("p"), Addr: says.Addr, Port: says.Port, Meta: []byte("m"), Vsn: says.Vsn}).appendTo(nil),
			(&dead{Incarnation: 2, Node: borrow("p"), From: borrow("p")}).appendTo(nil),
		} {
			p.send(m, msg)
			synctest.Wait()
			m.broadcasts.Reset()
		}
		require.Equal(t, map[string]string{
			"join": "shown , queued", "update": "shown m, queued", "leave": "gone, queued",
		}, seen)
	})
}

// NotifyMsg for packets runs on one goroutine, one call at a time, which is not
// that of the events; streams have a goroutine each (P123).
func TestWhoCallsNotifyMsg(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var packets, streams, mostPackets, mostStreams, packetsHeard atomic.Int32
		enter := func(now, most *atomic.Int32) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(50 * time.Millisecond)
			now.Add(-1)
		}
		hold := make(chan struct{})
		box := &hooks{msg: func(msg []byte) {
			if string(msg) == "packet" {
				enter(&packets, &mostPackets)
				packetsHeard.Add(1)
			} else {
				enter(&streams, &mostStreams)
			}
		}}
		m := c.node("n1", func(cfg *Config) {
			cfg.Delegate = box
			cfg.Events = &trace{hook: func(_ string, n *Node) {
				if n.Name == "p" {
					<-hold
				}
			}}
		})
		sender := c.node("n2")
		c.puppet("p", nil).introduce(m) // its event hangs
		to := m.LocalNode()
		var work sync.WaitGroup
		for range 5 {
			work.Go(func() {
				require.NoError(t, sender.SendBestEffort(to, []byte("packet")))
				require.NoError(t, sender.SendReliable(to, []byte("stream")))
			})
		}
		work.Wait()
		// They are behind the event, but do not wait for ever.
		time.Sleep(m.config.TCPTimeout + time.Second)
		require.EqualValues(t, 1, mostPackets.Load())
		require.EqualValues(t, 5, mostStreams.Load())
		require.EqualValues(t, 5, packetsHeard.Load(), "nor each anew")
		close(hold)
	})
}

// A program hears of a member before it gets a message that came with or after the
// news of it, with and without an AliveDelegate: programs such as Serf rely on that
// (P125).
func TestUserMessagesDoNotOvertakeEvents(t *testing.T) {
	for name, alive := range map[string]AliveDelegate{
		"no AliveDelegate": nil,
		"AliveDelegate":    aliveFunc(func(*Node) error { time.Sleep(5 * time.Millisecond); return nil }),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				var mu sync.Mutex
				var heard []string
				note := func(s string) {
					mu.Lock()
					defer mu.Unlock()
					heard = append(heard, s)
				}
				m := c.node("n1", func(cfg *Config) {
					cfg.Alive = alive
					cfg.Delegate = &hooks{msg: func(msg []byte) { note(string(msg)) }}
					cfg.Events = &trace{hook: func(what string, n *Node) {
						time.Sleep(20 * time.Millisecond)
						note(what + " " + n.Name)
					}}
				})
				p := c.puppet("p", nil)
				join := p.alive(1)
				p.send(m, appendCompound(nil, [][]byte{join.appendTo(nil), []byte("\x08with it")}))
				p.send(m, []byte("\x08after it"))
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				require.Equal(t, []string{"join n1", "join p", "with it", "after it"}, heard)
			})
		})
	}
}

// The AliveDelegate is asked for every alive message, one call at a time, before
// the state changes; a refusal is logged and has no effect (P94, P123).
func TestAliveDelegateIsAskedForEveryMessage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var mu sync.Mutex
		asked := map[string]int{}
		var inside atomic.Int32
		lines := new(logLines)
		m := c.node("n1", func(cfg *Config) {
			cfg.LogOutput = lines
			cfg.Alive = aliveFunc(func(n *Node) error {
				require.EqualValues(t, 1, inside.Add(1))
				defer inside.Add(-1)
				time.Sleep(time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				asked[n.Name]++
				if string(n.Meta) == "bad" {
					return context.Canceled
				}
				return nil
			})
		})
		p := c.puppet("p", nil)
		says := p.alive(1)
		bad := p.alive(2)
		bad.Meta = []byte("bad")
		own := m.LocalNode()
		echo := alive{Incarnation: 1, Node: borrow("n1"), Addr: own.Addr, Port: own.Port, Vsn: []byte{1, 5, 2, 0, 0, 0}}
		for _, msg := range []*alive{says, says, bad, &echo} { // the second is stale
			p.send(m, msg.appendTo(nil))
		}
		other := c.node("n2")
		joinNode(t, other, m)
		time.Sleep(100 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		require.GreaterOrEqual(t, asked["p"], 3)
		require.GreaterOrEqual(t, asked["n1"], 2, "Create and the echo")
		require.GreaterOrEqual(t, asked["n2"], 1, "through the exchange")
		require.Equal(t, uint32(1), incarnationOf(m, "p"))
		require.Len(t, lines.with("[WARN] memberlist: Ignoring alive message for 'p'"), 1)
	})
}

// NotifyConflict gets the member that is known, and the claim (P96, P123).
func TestConflictTellsBothNodes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		type conflict struct{ existing, other *Node }
		eventSeq := make(chan conflict, 10)
		lines := new(logLines)
		m := c.node("n1", func(cfg *Config) {
			cfg.LogOutput = lines
			cfg.Conflict = conflictFunc(func(existing, other *Node) { eventSeq <- conflict{existing, other} })
		})
		b := c.node("n2")
		joinNode(t, b, m)
		p := c.puppet("p", nil)
		p.answerPings(m)
		says := p.alive(9)
		says.Node, says.Meta = borrow("n2"), []byte("mine")
		p.send(m, says.appendTo(nil))
		got := <-eventSeq
		synctest.Wait()
		require.Equal(t, "127.0.0.1:2", got.existing.Address())
		require.Equal(t, "127.0.0.1:3", got.other.Address())
		require.Equal(t, "n2", got.other.Name)
		require.Equal(t, "mine", string(got.other.Meta))
		require.Zero(t, got.other.PMax)
		require.NotEmpty(t, lines.with("[ERR] memberlist: Conflicting address for n2. Mine: 127.0.0.1:2 Theirs: 127.0.0.1:3 Old state: 0"))
		require.Equal(t, "127.0.0.1:2", statusOf(m, "n2").Node.Address())
	})
}

// P128: without delegates everything works, and user data is dropped.
func TestNilDelegatesAreSkipped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		a, b := c.node("n1"), c.node("n2", func(cfg *Config) {
			cfg.Delegate = &hooks{local: func(bool) []byte { return []byte("state") }}
		})
		joinNode(t, b, a)
		require.NoError(t, b.SendBestEffort(a.LocalNode(), []byte("x")))
		require.NoError(t, b.SendReliable(a.LocalNode(), []byte("x")))
		p := c.puppet("p", nil)
		p.introduce(a)
		claim := p.alive(2)
		claim.Node = borrow("n2")
		p.send(a, claim.appendTo(nil))
		time.Sleep(5 * time.Second)
		require.Contains(t, memberNames(a), "n2")
	})
}
