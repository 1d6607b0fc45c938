package memberlist

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/stretchr/testify/require"
)

// The periodic exchange: every PushPullInterval, give or take a tenth, with one
// random node that is alive, without the join flag (P115, P41).
func TestPeriodicExchange(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", func(cfg *Config) {
			cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval = 0, 0, 10*time.Second
		})
		var received []func() []remoteState
		for _, name := range []string{"alive1", "alive2", "suspect", "dead", "left"} {
			p := c.puppet(name, nil)
			received = append(received, p.acceptState(func(s remoteState) []byte { return p.state(s.join, nil, p.self()) }))
			p.introduce(m)
		}
		p := c.puppet("teller", nil)
		p.send(m, (&dead{Incarnation: 1, Node: borrow("dead"), From: borrow("x")}).appendTo(nil))
		p.send(m, (&dead{Incarnation: 1, Node: borrow("left"), From: borrow("left")}).appendTo(nil))
		// It stays suspect, for with no probes a suspicion has no time limit.
		m.engine.locked.Lock()
		suspected := m.engine.locked.core.table.get("suspect")
		m.engine.locked.core.table.setNode(suspected, suspected.node.withState(StateSuspect), m.engine.now())
		m.engine.locked.Unlock()

		time.Sleep(10 * time.Minute)
		counts := make([]int, len(received))
		for i, states := range received {
			counts[i] = len(states())
			for _, s := range states() {
				require.False(t, s.join)
			}
		}
		require.InDelta(t, 60, counts[0]+counts[1], 10)
		require.Greater(t, counts[0], 10)
		require.Greater(t, counts[1], 10)
		require.Equal(t, []int{0, 0, 0}, counts[2:])
	})
}

// A failed periodic exchange is logged, and the next one comes all the same (P115).
func TestFailedExchangeIsLogged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		m := c.node("n1", func(cfg *Config) {
			cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval, cfg.LogOutput = 0, 0, 20*time.Second, lines
		})
		c.puppet("deaf", nil).introduce(m)
		time.Sleep(3 * time.Minute)
		failed := lines.with("[ERR] memberlist: Push/Pull with deaf failed: ")
		require.InDelta(t, 8, len(failed), 3)
	})
}

// An exchange that is made for another reason says nothing about the periodic one (P115).
func TestOtherExchangesDoNotEndThePeriodicOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", func(cfg *Config) { cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval = 0, 0, 0 })
		p := c.puppet("p", nil)
		states := p.acceptState(func(s remoteState) []byte { return p.state(s.join, nil, p.self()) })
		p.introduce(m)
		syncing := func() bool {
			m.engine.locked.Lock()
			defer m.engine.locked.Unlock()
			return m.engine.locked.core.gossip.syncing
		}
		m.engine.step(func(c *core, _ instant) {
			c.gossip.syncing = true
			c.fx.streams = append(c.fx.streams, streamTask{kind: streamVisit, node: c.table.get("p").node})
		})
		synctest.Wait()
		require.Len(t, states(), 1)
		require.True(t, syncing())
		m.engine.step(func(c *core, _ instant) {
			c.fx.streams = append(c.fx.streams, streamTask{kind: streamSync, node: c.table.get("p").node})
		})
		synctest.Wait()
		require.Len(t, states(), 2)
		require.False(t, syncing())
	})
}

// The acceptor answers with its own state, every node in every state (W54), and
// the join flag that it got (W56), before it merges (W57, P117).
func TestAnswerOfTheAcceptor(t *testing.T) {
	for _, join := range []bool{true, false} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			var flags []bool
			m := c.node("n1", func(cfg *Config) {
				cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval = 100*time.Hour, 0, 0
				cfg.Delegate = &hooks{local: func(join bool) []byte { flags = append(flags, join); return []byte("mine") }}
			})
			for _, name := range []string{"alive", "suspect", "dead", "left"} {
				c.puppet(name, nil).introduce(m)
			}
			p := c.puppet("p", nil)
			p.send(m, (&suspect{Incarnation: 1, Node: borrow("suspect"), From: borrow("x")}).appendTo(nil))
			p.send(m, (&dead{Incarnation: 1, Node: borrow("dead"), From: borrow("x")}).appendTo(nil))
			p.send(m, (&dead{Incarnation: 1, Node: borrow("left"), From: borrow("left")}).appendTo(nil))
			synctest.Wait()
			conn := p.dial(m)
			_, err := p.wire.writeStream(conn, p.state(join, nil, p.self()), true)
			require.NoError(t, err)
			kind, answer, _, err := p.readReply(conn)
			require.NoError(t, err)
			require.Equal(t, pushPullMsg, kind)
			require.Equal(t, join, answer.join)
			require.Equal(t, "mine", string(answer.user))
			require.Equal(t, []bool{join}, flags)
			states := map[string]NodeStateType{}
			for _, n := range answer.nodes {
				states[n.Name.own()] = n.State
				require.Equal(t, []byte{1, 5, 2, 0, 0, 0}, n.Vsn)
			}
			require.Equal(t, map[string]NodeStateType{
				"n1": StateAlive, "alive": StateAlive, "suspect": StateSuspect, "dead": StateDead, "left": StateLeft,
			}, states, "p is not merged yet")
			synctest.Wait()
			require.NotNil(t, statusOf(m, "p"))
			_, err = conn.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF, "the stream is closed after one answer (W45)")
		})
	}
}

// P116, P118, P119: what each side asks of its delegate, and with which flag.
func TestUserState(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var mu sync.Mutex
		var calls []string
		record := func(text string, join bool) {
			mu.Lock()
			defer mu.Unlock()
			if join {
				text += " join"
			}
			calls = append(calls, text)
		}
		node := func(name string, state []byte) *Memberlist {
			return c.node(name, still, func(cfg *Config) {
				cfg.Delegate = &hooks{
					local: func(join bool) []byte { record(name+" LocalState", join); return state },
					merge: func(state []byte, join bool) { record(name+" gets "+string(state), join) },
				}
				cfg.Merge = mergeFunc(func(nodes []*Node) error {
					names := []string{name, "NotifyMerge"}
					for _, n := range nodes {
						names = append(names, n.Name)
					}
					record(strings.Join(names, " "), true)
					return nil
				})
			})
		}
		a, b := node("a", []byte("state of a")), node("b", nil)
		joinNode(t, b, a)
		synctest.Wait()
		require.ElementsMatch(t, []string{
			"b LocalState join", "a NotifyMerge b join", "a LocalState join", "b NotifyMerge a join", "b gets state of a join",
		}, calls, "an empty state is not handed over")
		calls = nil
		_, err := b.exchanges.pushPull(t.Context(), a.LocalNode().FullAddress(), false)
		require.NoError(t, err)
		synctest.Wait()
		require.ElementsMatch(t, []string{"b LocalState", "a LocalState", "b gets state of a"}, calls,
			"the merge delegate is asked about joins alone")
	})
}

// NotifyMerge sees every node that the other side knows, with its view of them, and
// before anything is merged; a refusal leaves all as it was (P119, P35).
func TestMergeDelegateSeesEverythingAndRefusesAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		errVeto := errors.New("no")
		var seen map[string]NodeStateType
		var merged atomic.Bool
		var m *Memberlist
		known := 0
		m = c.node("n1", still, func(cfg *Config) {
			cfg.Merge = mergeFunc(func(nodes []*Node) error {
				seen = map[string]NodeStateType{}
				for _, n := range nodes {
					seen[n.Name] = n.State
				}
				known = m.NumMembers()
				return errVeto
			})
			cfg.Delegate = &hooks{merge: func([]byte, bool) { merged.Store(true) }}
		})
		p := c.puppet("p", nil)
		entry := func(name string, state NodeStateType) pushNodeState {
			n := p.self()
			n.Name, n.State = borrow(name), state
			return n
		}
		conn := p.dial(m)
		_, err := p.wire.writeStream(conn, p.state(true, []byte("user"), p.self(), entry("s", StateSuspect), entry("d", StateDead), entry("l", StateLeft)), true)
		require.NoError(t, err)
		kind, _, refusal, err := p.readReply(conn)
		require.NoError(t, err)
		require.Equal(t, errorMsg, kind)
		require.Equal(t, "rejected: no", refusal)
		synctest.Wait()
		require.Equal(t, map[string]NodeStateType{"p": StateAlive, "s": StateSuspect, "d": StateDead, "l": StateLeft}, seen)
		require.Equal(t, 1, known)
		require.Equal(t, []string{"n1"}, memberNames(m))
		require.Len(t, m.Snapshot(), 1)
		require.False(t, merged.Load())
	})
}

// Everything that the other side says of a node is there, but for its incarnation (P35).
func TestMergeDelegateSeesNodesWhole(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var seen []*Node
		m := c.node("n1", still, func(cfg *Config) {
			cfg.BindPort = 7946
			cfg.Merge = mergeFunc(func(nodes []*Node) error { seen = nodes; return nil })
		})
		p := c.puppet("p", nil)
		conn := p.dial(m)
		_, err := p.wire.writeStream(conn, p.state(true, nil, p.self(), pushNodeState{
			Name: borrow("s"), Addr: []byte{10, 0, 0, 9}, Meta: []byte("meta"), State: StateSuspect, Vsn: []byte{1, 4, 3, 1, 7, 0},
		}), true)
		require.NoError(t, err)
		_, _, _, err = p.readReply(conn)
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, seen, 2)
		require.Equal(t, &Node{
			Name: "s", Addr: net.IP{10, 0, 0, 9}, Port: 7946, Meta: []byte("meta"), State: StateSuspect,
			PMin: 1, PMax: 4, PCur: 3, DMin: 1, DMax: 7, DCur: 0,
		}, seen[1], "W74: with the port filled in")
	})
}

// P114: a death is believed second-hand only as a suspicion, in this node's name; a
// departure is believed.
func TestMergeOfWhatTheOtherSideBelieves(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", func(cfg *Config) { cfg.GossipInterval, cfg.ProbeInterval, cfg.PushPullInterval = 0, 100*time.Hour, 0 })
		names := map[string]NodeStateType{"a": StateAlive, "s": StateSuspect, "d": StateDead, "l": StateLeft}
		p := c.puppet("p", nil)
		entries := []pushNodeState{p.self()}
		for name, state := range names {
			q := c.puppet(name, nil)
			q.introduce(m)
			e := q.self()
			e.State = state
			entries = append(entries, e)
		}
		conn := p.dial(m)
		_, err := p.wire.writeStream(conn, p.state(false, nil, entries...), true)
		require.NoError(t, err)
		_, _, _, err = p.readReply(conn)
		require.NoError(t, err)
		synctest.Wait()
		for name, want := range map[string]NodeStateType{"a": StateAlive, "s": StateSuspect, "d": StateSuspect, "l": StateLeft} {
			require.Equal(t, want, statusOf(m, name).Node.State, name)
		}
		require.Equal(t, []string{"n1"}, statusOf(m, "d").Accusers)
	})
}

// P120: the versions of all nodes have to go together.
func TestVersionsOfBothSides(t *testing.T) {
	remote := func(name string, state NodeStateType, vsn ...byte) pushNodeState {
		return pushNodeState{Name: borrow(name), State: state, Vsn: vsn}
	}
	local := func(name string, state NodeStateType, vsn ...byte) nodeRecord {
		return nodeRecord{node: newNode(name, nil, 0, nil, vsn, state)}
	}
	usual := []byte{1, 5, 2, 0, 0, 0}
	for name, test := range map[string]struct {
		remote []pushNodeState
		local  []nodeRecord
		want   string
	}{
		"alike": {
			remote: []pushNodeState{remote("r", StateAlive, usual...)}, local: []nodeRecord{local("l", StateAlive, usual...)},
		},
		"remote speaks what nobody here understands": {
			remote: []pushNodeState{remote("r", StateAlive, 1, 6, 6, 0, 0, 0)}, local: []nodeRecord{local("l", StateAlive, usual...)},
			want: "Node 'r' protocol version (6) is incompatible: [1, 5]",
		},
		"remote understands too little": {
			remote: []pushNodeState{remote("r", StateAlive, 1, 1, 1, 0, 0, 0)}, local: []nodeRecord{local("l", StateAlive, usual...)},
			want: "Node 'l' protocol version (2) is incompatible: [1, 1]",
		},
		"remote entries are judged first": {
			remote: []pushNodeState{remote("r", StateAlive, 3, 4, 5, 0, 0, 0)}, local: []nodeRecord{local("l", StateAlive, 1, 4, 2, 0, 0, 0)},
			want: "Node 'r' protocol version (5) is incompatible: [3, 4]",
		},
		"dead nodes set no range": {
			remote: []pushNodeState{remote("r", StateDead, 4, 4, 2, 0, 0, 0)}, local: []nodeRecord{local("l", StateSuspect, 5, 5, 2, 0, 0, 0), local("m", StateAlive, usual...)},
		},
		"but have to fit in": {
			remote: []pushNodeState{remote("r", StateDead, 1, 5, 2, 0, 0, 0)}, local: []nodeRecord{local("l", StateAlive, 3, 5, 3, 0, 0, 0)},
			want: "Node 'r' protocol version (2) is incompatible: [3, 5]",
		},
		"delegate versions": {
			remote: []pushNodeState{remote("r", StateAlive, 1, 5, 2, 2, 4, 3)}, local: []nodeRecord{local("l", StateAlive, 1, 5, 2, 1, 3, 1)},
			want: "Node 'l' delegate protocol version (1) is incompatible: [2, 3]",
		},
		"five bytes set a range and speak 0": {
			remote: []pushNodeState{remote("r", StateAlive, 1, 3, 2, 0, 0)}, local: []nodeRecord{local("l", StateAlive, usual...)},
			want: "Node 'r' protocol version (0) is incompatible: [1, 3]",
		},
		"no versions": { // W67
			remote: []pushNodeState{remote("r", StateAlive)}, local: []nodeRecord{local("l", StateAlive, usual...)},
			want: "Node 'r' protocol version (0) is incompatible: [1, 5]",
		},
	} {
		err := checkCompatible(test.remote, test.local)
		if test.want == "" {
			require.NoError(t, err, name)
			continue
		}
		require.EqualError(t, err, test.want, name)
		require.ErrorIs(t, err, ErrVersion, name)
	}
}

// P120 on both sides of a real exchange: nothing is merged anywhere, and only the
// opener that finds it out itself has an error (W57).
func TestIncompatibleNodesDoNotMerge(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		a := c.node("a", func(cfg *Config) { cfg.DelegateProtocolMax, cfg.DelegateProtocolVersion, cfg.LogOutput = 3, 3, lines })
		b := c.node("b", func(cfg *Config) { cfg.DelegateProtocolMax, cfg.DelegateProtocolVersion = 2, 2 })
		_, err := b.Join([]string{a.LocalNode().Address()})
		synctest.Wait()
		require.ErrorIs(t, err, ErrVersion)
		require.ErrorContains(t, err, "Node 'a' delegate protocol version (3) is incompatible: [0, 2]")
		require.Equal(t, []string{"a"}, memberNames(a))
		require.Equal(t, []string{"b"}, memberNames(b))
		require.NotEmpty(t, lines.with("[ERR] memberlist: ", "is incompatible"))
	})
}

// P121, P93: an alive message without versions, or with a range that is none, is
// ignored with a warning; the reference takes the first, and later exchanges fail.
func TestUselessVersionsAreIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		m := c.node("n1", func(cfg *Config) { cfg.LogOutput = lines })
		p := c.puppet("p", nil)
		useless := [][]byte{nil, {1, 5}, {1, 5, 2}, {0, 5, 2, 0, 0, 0}, {1, 0, 2, 0, 0, 0}, {4, 3, 3, 0, 0, 0}}
		for _, vsn := range useless {
			says := p.alive(1)
			says.Vsn = vsn
			p.send(m, says.appendTo(nil))
		}
		synctest.Wait()
		require.Equal(t, []string{"n1"}, memberNames(m))
		require.Len(t, lines.with("[WARN] memberlist: Ignoring alive message for 'p' (127.0.0.1:2): "), len(useless))
		joinNode(t, c.node("n2"), m)
	})
}

// P122, W62: 127 exchanges are answered at once; the 128th is turned away, is told why,
// and there is room again when one is over. Those that have not been read do not count (W89).
func TestTooManyExchanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines, hold := new(logLines), make(chan struct{})
		m := c.node("n1", still, func(cfg *Config) {
			cfg.LogOutput, cfg.TCPTimeout = lines, time.Hour
			cfg.Delegate = &hooks{local: func(bool) []byte { <-hold; return nil }}
		})
		p := c.puppet("p", nil)
		full := p.state(false, nil, p.self())
		open := func(sent []byte) net.Conn {
			conn := p.dial(m)
			_, err := conn.Write(sent)
			require.NoError(t, err)
			return conn
		}
		var conns []net.Conn
		for range maxPushPulls {
			open(full[:len(full)-1])
			conns = append(conns, open(full))
		}
		synctest.Wait()
		kind, _, refusal, err := p.readReply(open(full))
		require.NoError(t, err)
		require.Equal(t, errorMsg, kind)
		require.Contains(t, refusal, "Too many pending push/pull requests")
		synctest.Wait()
		require.Len(t, lines.with("[ERR] memberlist: ", "Too many pending push/pull requests", "from="), 1)

		close(hold)
		synctest.Wait()
		answered := func(conn net.Conn) {
			kind, _, _, err := p.readReply(conn)
			require.NoError(t, err)
			require.Equal(t, pushPullMsg, kind)
			synctest.Wait()
		}
		for _, conn := range conns {
			answered(conn)
		}
		answered(open(full))
	})
}

// P117: who says nothing, or not enough, has TCPTimeout (P199).
func TestSilentStreamsAreClosed(t *testing.T) {
	full := new(puppet).state(false, nil, pushNodeState{Name: borrow("x")})
	for name, sent := range map[string][]byte{"nothing": nil, "a part": full[:len(full)-1], "one byte": full[:1]} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				m := c.node("n1")
				conn := c.puppet("p", nil).dial(m)
				start := time.Now()
				if len(sent) > 0 {
					_, err := conn.Write(sent)
					require.NoError(t, err)
				}
				_, _ = io.ReadAll(conn)
				require.Equal(t, m.config.TCPTimeout, time.Since(start))
				require.NoError(t, m.Shutdown())
			})
		})
	}
}

// W47: other types are logged, and the stream is closed without an answer.
func TestStreamsOfOtherTypes(t *testing.T) {
	for _, kind := range []messageType{indirectPingMsg, ackMsg, suspectMsg, aliveMsg, deadMsg, compoundMsg, nackMsg, checksumMsg, errorMsg, 99} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			lines := new(logLines)
			m := c.node("n1", func(cfg *Config) { cfg.LogOutput = lines })
			conn := c.puppet("p", nil).dial(m)
			_, err := conn.Write([]byte{byte(kind)})
			require.NoError(t, err)
			answer, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Empty(t, answer)
			require.Len(t, lines.with("[ERR] memberlist: ", "invalid msgType", "from=127.0.0.1:2"), 1, "%s", kind)
		})
	}
}

// W48, W49, W61: what cannot be read as far as its type is answered with an error
// message, dressed as any other but without a label header; the rest is just
// closed.
func TestErrorAnswers(t *testing.T) {
	key, other := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16)
	ring := func(key []byte) *Keyring {
		r, err := NewKeyring(nil, key)
		require.NoError(t, err)
		return r
	}
	sealed := func(key []byte, label string) *Config {
		return &Config{ProtocolVersion: 2, Keyring: ring(key), GossipVerifyIncoming: true, GossipVerifyOutgoing: true, Label: label}
	}
	tooLong := binary.BigEndian.AppendUint32([]byte{byte(encryptMsg)}, maxFrame+1)
	for name, test := range map[string]struct {
		node   func(*Config)
		puppet *Config // how the answer is read
		sent   []byte  // dressed by the puppet if nil
		want   string  // part of the answer; "" for none
	}{
		"not encrypted": {
			node: func(cfg *Config) { cfg.SecretKey = key }, puppet: sealed(key, ""),
			sent: []byte{byte(pingMsg), 0x80}, want: ErrNotEncrypted.Error(),
		},
		"encrypted": {
			node: func(*Config) {}, puppet: sealed(key, ""), want: ErrEncrypted.Error(),
		},
		"wrong key": {
			node: func(cfg *Config) { cfg.SecretKey = key }, puppet: sealed(key, ""), want: ErrDecrypt.Error(),
			sent: func() []byte {
				var conn memoryStream
				_, err := newWire(sealed(other, "")).writeStream(&conn, []byte{byte(pingMsg), 0x80}, true)
				require.NoError(t, err)
				return conn.Bytes()
			}(),
		},
		"frame too long": {
			node: func(cfg *Config) { cfg.SecretKey = key }, puppet: sealed(key, ""), sent: tooLong,
			want: "remote node state is larger than limit (20971521)",
		},
		"bad compression": {
			node: func(*Config) {}, sent: append([]byte{byte(compressMsg)}, (&compressed{Algo: 7, Buf: []byte("x")}).appendTo(nil)[1:]...),
			want: "cannot decompress unknown algorithm 7",
		},
		"with a label": {
			node: func(cfg *Config) { cfg.SecretKey, cfg.Label = key, "x" }, puppet: sealed(key, "x"),
			sent: append([]byte{byte(labelMsg), 1, 'x'}, tooLong...), want: "is larger than limit",
		},
		"wrong label": {
			node: func(cfg *Config) { cfg.Label = "x" }, sent: []byte{byte(labelMsg), 1, 'y', byte(pingMsg), 0x80},
		},
		"bad body": {
			node: func(*Config) {}, sent: []byte{byte(pushPullMsg), 0xc3}, want: "malformed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				lines := new(logLines)
				m := c.node("n1", still, test.node, func(cfg *Config) { cfg.LogOutput = lines })
				p := c.puppet("p", test.puppet)
				conn := p.dial(m)
				if test.sent == nil {
					_, err := p.wire.writeStream(conn, []byte{byte(pingMsg), 0x80}, true)
					require.NoError(t, err)
				} else {
					_, err := conn.Write(test.sent)
					require.NoError(t, err)
				}
				if test.want == "" {
					answer, err := io.ReadAll(conn)
					require.NoError(t, err)
					require.Empty(t, answer)
				} else {
					reader := p
					if name == "encrypted" { // the node has no keys
						reader = &puppet{wire: newWire(&Config{ProtocolVersion: 2})}
					}
					kind, _, refusal, err := reader.readReply(conn)
					require.NoError(t, err)
					require.Equal(t, errorMsg, kind)
					require.Contains(t, refusal, test.want)
				}
				synctest.Wait()
				require.NotEmpty(t, lines.with("[ERR] memberlist: ", "from=127.0.0.1:2"))
			})
		})
	}
}

// memoryStream takes what is written.
type memoryStream struct {
	net.Conn
	bytes.Buffer
}

func (m *memoryStream) Read(b []byte) (int, error)  { return m.Buffer.Read(b) }
func (m *memoryStream) Write(b []byte) (int, error) { return m.Buffer.Write(b) }

// W48: a stream that ends early is no error, and not even logged as one.
func TestStreamThatEndsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		m := c.node("n1", func(cfg *Config) { cfg.LogOutput = lines })
		require.NoError(t, c.puppet("p", nil).dial(m).Close())
		synctest.Wait()
		require.Empty(t, lines.with("[ERR]"))
		require.Len(t, lines.with("[DEBUG] memberlist: Stream connection from=127.0.0.1:2"), 1)
	})
}

// W50: the opener gets an error message, an answer of another type, or one that it
// cannot read.
func TestAnswersToAPushPull(t *testing.T) {
	for name, test := range map[string]struct {
		answer []byte
		want   string
		kind   error
	}{
		"error":         {(&errorReply{Error: borrow("no, thank you")}).appendTo(nil), "remote error: no, thank you", nil},
		"ack":           {(&ack{SeqNo: 1}).appendTo(nil), "received invalid msgType (2), expected pushPullMsg (6) from=", ErrMalformed},
		"label":         {[]byte{byte(labelMsg), 1, 'x', byte(pushPullMsg)}, "received invalid msgType (244), expected pushPullMsg (6)", ErrMalformed}, // W61
		"bad header":    {[]byte{byte(pushPullMsg), 0xc3}, "", ErrMalformed},
		"bad error":     {[]byte{byte(errorMsg), 0xc3}, "", ErrMalformed},
		"too many":      {(&pushPullHeader{Nodes: maxStateNodes + 1}).appendTo(nil), "number of nodes in header (1048577) exceeds limit", ErrTooLarge},
		"too much":      {(&pushPullHeader{UserStateLen: maxUserState + 1}).appendTo(nil), "user state length (20971521) exceeds limit", ErrTooLarge},
		"a node short":  {(&pushPullHeader{Nodes: 1}).appendTo(nil), "", ErrMalformed},
		"nothing":       {nil, "no answer", io.EOF},
		"bad algorithm": {(&compressed{Algo: 9, Buf: []byte("x")}).appendTo(nil), "cannot decompress unknown algorithm 9", ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				m := c.node("n1", still)
				p := c.puppet("p", nil)
				p.acceptState(func(remoteState) []byte { return test.answer })
				joined, err := m.Join([]string{p.tr.addr.String()})
				require.Zero(t, joined)
				require.ErrorContains(t, err, test.want)
				if test.kind != nil {
					require.ErrorIs(t, err, test.kind)
				}
				require.Equal(t, 1, m.NumMembers())
			})
		})
	}
}

// W59: a stream ping is answered with its number and no payload, and the delegate
// is not asked.
func TestStreamPing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		asked := false
		m := c.node("n1", still, func(cfg *Config) {
			cfg.Ping = &pingHooks{payload: func() []byte { asked = true; return []byte("x") }}
		})
		p := c.puppet("p", nil)
		for _, name := range []string{"n1", ""} {
			conn := p.dial(m)
			_, err := p.wire.writeStream(conn, (&ping{SeqNo: 99, Node: borrow(name)}).appendTo(nil), true)
			require.NoError(t, err)
			var a ack
			r, kind, err := p.wire.openReply(conn)
			require.NoError(t, err)
			require.Equal(t, ackMsg, kind)
			require.NoError(t, a.decodeFrom(r))
			require.EqualValues(t, 99, a.SeqNo)
			require.Nil(t, a.Payload)
			require.False(t, asked)
		}
	})
}

// P55, P56, W60: a node whose packets do not get through but who answers on a
// stream stays a member, and a warning tells of it. The stream ping has the number
// of the packet ping (P55, P56, W59, W60).
func TestStreamPingSavesTheMember(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		pmax   byte
		reply  func(in *ping) []byte // nil: an ack
		want   NodeStateType
		line   string
	}{
		"answered": {pmax: 5, want: StateAlive, line: "[WARN] memberlist: Was able to connect to p over TCP but UDP probes failed, network may be misconfigured"},
		"too old":  {pmax: 2, want: StateDead},
		"disabled": {pmax: 5, change: func(cfg *Config) { cfg.DisableTcpPings = true }, want: StateDead},
		"disabled for this node": {
			pmax: 5, change: func(cfg *Config) { cfg.DisableTcpPingsForNode = func(name string) bool { return name == "p" } }, want: StateDead,
		},
		"disabled for another": {
			pmax: 5, change: func(cfg *Config) { cfg.DisableTcpPingsForNode = func(name string) bool { return name == "q" } }, want: StateAlive,
		},
		"wrong number": {
			pmax: 5, reply: func(in *ping) []byte { return (&ack{SeqNo: in.SeqNo + 1}).appendTo(nil) }, want: StateDead,
			line: "[ERR] memberlist: Failed fallback TCP ping: sequence number from ack",
		},
		"wrong type": {
			pmax: 5, reply: func(in *ping) []byte { return (&nack{SeqNo: in.SeqNo}).appendTo(nil) }, want: StateDead,
			line: "[ERR] memberlist: Failed fallback TCP ping: unexpected msgType (11) from ping",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				lines := new(logLines)
				m := c.node("n1", func(cfg *Config) {
					cfg.LogOutput, cfg.PushPullInterval = lines, 0
					if test.change != nil {
						test.change(cfg)
					}
				})
				p := c.puppet("p", nil)
				var mu sync.Mutex
				var numbers []uint32
				p.accept(func(conn net.Conn) {
					r, kind, err := p.wire.openInbound(conn)
					var in ping
					if err != nil || kind != pingMsg || in.decodeFrom(r) != nil {
						return
					}
					mu.Lock()
					numbers = append(numbers, in.SeqNo)
					mu.Unlock()
					answer := (&ack{SeqNo: in.SeqNo}).appendTo(nil)
					if test.reply != nil {
						answer = test.reply(&in)
					}
					_, _ = p.wire.writeStream(conn, answer, false)
				})
				says := p.alive(1)
				says.Vsn = []byte{1, test.pmax, 2, 0, 0, 0}
				p.send(m, says.appendTo(nil))
				time.Sleep(25 * time.Second)
				require.Equal(t, test.want, statusOf(m, "p").Node.State, strings.Join(lines.with(""), "\n"))
				if test.line != "" {
					require.NotEmpty(t, lines.with(test.line))
				}
				var packets []uint32
				for _, h := range p.heard(pingMsg) {
					var in ping
					_, err := in.decode(h.body)
					require.NoError(t, err)
					packets = append(packets, in.SeqNo)
				}
				mu.Lock()
				defer mu.Unlock()
				require.Subset(t, packets, slices.Clip(append(numbers, packets[0])))
			})
		})
	}
}

// W62: from 60 % of the limit on there is a warning.
func TestLargeStatesAreWarnedOf(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		m := c.node("n1", func(cfg *Config) { cfg.LogOutput = lines })
		conn := c.puppet("p", nil).dial(m)
		for _, size := range []int{0, 12_582_912} {
			m.exchanges.accepted(conn).noteRemoteSize(&streamReader{remoteSize: size})
		}
		require.Empty(t, lines.with("[WARN]"))
		m.exchanges.accepted(conn).noteRemoteSize(&streamReader{remoteSize: 12_582_913})
		require.Len(t, lines.with("[WARN] memberlist: ", "12582913", "60%", "from="), 1)
	})
}

// A user message that is too long, or breaks off, reaches nobody (W58, W62).
func TestBadUserMessages(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines, box := new(logLines), new(inbox)
		m := c.node("n1", still, func(cfg *Config) { cfg.LogOutput, cfg.Delegate = lines, box })
		p := c.puppet("p", nil)
		for _, sent := range [][]byte{
			(&userMsgHeader{UserMsgLen: maxUserMessage + 1}).appendTo(nil),
			(&userMsgHeader{UserMsgLen: -1}).appendTo(nil),
			append((&userMsgHeader{UserMsgLen: 10}).appendTo(nil), "short"...),
		} {
			conn := p.dial(m)
			_, err := conn.Write(sent)
			require.NoError(t, err)
			require.NoError(t, conn.Close())
		}
		synctest.Wait()
		require.Empty(t, box.all())
		require.Len(t, lines.with("[ERR] memberlist: ", "from=127.0.0.1:2"), 3)
	})
}

// The opener goes on whatever its peer does after the deadline of the exchange:
// each direction has TCPTimeout (P116).
func TestEachDirectionHasItsTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still)
		p := c.puppet("p", nil)
		p.acceptState(func(s remoteState) []byte {
			time.Sleep(m.config.TCPTimeout - time.Second)
			return p.state(s.join, nil, p.self())
		})
		joined, err := m.Join([]string{p.tr.addr.String()})
		require.NoError(t, err)
		require.Equal(t, 1, joined)
	})
}

// Shutdown closes the streams that are being served. That is no fault to tell of.
func TestShutdownLogsNoErrorsAboutItsOwnStreams(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		m := c.node("n1", still, func(cfg *Config) { cfg.LogOutput = lines })
		p := c.puppet("p", nil)
		p.dial(m) // nothing comes
		for _, begun := range [][]byte{
			(&userMsgHeader{UserMsgLen: 10}).appendTo(nil),
			(&pushPullHeader{Nodes: 1}).appendTo(nil),
			{byte(pingMsg)},
		} {
			_, err := p.dial(m).Write(begun)
			require.NoError(t, err)
		}
		synctest.Wait()
		require.NoError(t, m.Shutdown())
		require.Empty(t, lines.with("[ERR]"))
	})
}

// State that does not compress arrives up to the limit, sealed and compressed or not,
// in both directions.
func TestLargeStateThatDoesNotCompressArrives(t *testing.T) {
	random := make([]byte, 15<<20)
	_, _ = rand.Read(random)
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var merged atomic.Int32
		for i, name := range []string{"n1", "n2"} {
			m := c.node(name, quiet, func(cfg *Config) {
				cfg.SecretKey, cfg.EnableCompression = random[:32], true
				cfg.Delegate = &hooks{
					local: func(bool) []byte { return random },
					merge: func(state []byte, _ bool) {
						require.True(t, bytes.Equal(random, state))
						merged.Add(1)
					},
				}
			})
			if i > 0 {
				_, err := m.Join([]string{"127.0.0.1:1"})
				require.NoError(t, err)
			}
		}
		synctest.Wait()
		require.EqualValues(t, 2, merged.Load())
	})
}

// State that no node would take fails where it would be sent from, and the joiner is
// told so, whichever side it is.
func TestStateOverTheLimitFailsWithItsSize(t *testing.T) {
	for name, tooMuch := range map[string][]byte{"sealed": make([]byte, maxUserState), "plain": make([]byte, maxUserState+1)} {
		_, _ = rand.Read(tooMuch)
		for _, large := range []string{"n1", "n2"} {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				node := func(node string) *Memberlist {
					return c.node(node, quiet, func(cfg *Config) {
						if name == "sealed" {
							cfg.SecretKey = tooMuch[:32]
						}
						if node == large {
							cfg.Delegate = &hooks{local: func(bool) []byte { return tooMuch }}
						}
					})
				}
				first, second := node("n1"), node("n2")
				_, err := second.Join([]string{first.LocalNode().Address()})
				require.ErrorContains(t, err, "over the limit of 20971520", "%s from %s", name, large)
				if large == "n2" {
					require.ErrorIs(t, err, ErrTooLarge)
				} else {
					remote := (*RemoteError)(nil)
					require.ErrorAs(t, err, &remote)
				}
				require.NotErrorIs(t, err, ErrLabelMismatch)
			})
		}
	}
}

// Streams that say nothing, or not enough, keep nobody out: there are bounds for all
// of them and for those of one source, and who is turned away is told why (P199).
func TestOpenStreamsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		lines := new(logLines)
		m := c.node("n1", still, s.measured, func(cfg *Config) { cfg.LogOutput = lines })
		var far []net.Conn
		open := func(from string) net.Conn {
			near, there := net.Pipe()
			m.exchanges.take(addressedConn{near, from})
			far = append(far, there)
			return there
		}
		answer := func(conn net.Conn) string {
			r, kind, err := newWire(plainConfig()).openReply(conn)
			require.NoError(t, err)
			require.Equal(t, errorMsg, kind)
			var reply errorReply
			require.NoError(t, reply.decodeFrom(r))
			return reply.Error.own()
		}
		for range maxStreamsPerSource {
			open("192.0.2.1:7")
		}
		require.Equal(t, "too many open streams", answer(open("192.0.2.1:8")))
		for i := maxStreamsPerSource; i < maxStreams; i++ {
			open("127.0.0.1:9") // not counted by source
		}
		require.Equal(t, "too many open streams", answer(open("[2001:db8::1]:9")))
		require.NotEmpty(t, lines.with("[WARN] memberlist: too many open streams", "from=192.0.2.1:8"))
		require.EqualValues(t, 2, s.sum("msg.dropped", metrics.Label{Name: "kind", Value: "stream"}))

		_ = far[0].Close()
		synctest.Wait()
		there := open("192.0.2.1:8")
		_, err := there.Write((&ping{SeqNo: 5}).appendTo(nil))
		require.NoError(t, err, "there is room again")
		_, kind, err := newWire(plainConfig()).openReply(there)
		require.NoError(t, err)
		require.Equal(t, ackMsg, kind)
		time.Sleep(m.config.TCPTimeout / 4)
		synctest.Wait()
		require.LessOrEqual(t, inboundStreams(m), maxStreams/4+1, "in a crowd those that are idle have less time")
		time.Sleep(m.config.TCPTimeout)
		require.Zero(t, inboundStreams(m))
		require.Empty(t, m.exchanges.set.mu.bySource)
	})
}

// addressedConn is a connection from somewhere else.
type addressedConn struct {
	net.Conn
	from string
}

func (c addressedConn) RemoteAddr() net.Addr { return vectorAddr(c.from) }

// While a user message is delivered its stream is closed already, and does not count (P199).
func TestSlowDeliveryHoldsNoStream(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, hold := newMesh(t), make(chan struct{})
		m := c.node("n1", still, func(cfg *Config) { cfg.Delegate = &hooks{msg: func([]byte) { <-hold }} })
		sender := c.node("n2", still)
		for range 10 {
			require.NoError(t, sender.SendReliable(m.LocalNode(), []byte("text")))
		}
		synctest.Wait()
		require.Zero(t, inboundStreams(m))
		close(hold)
	})
}
