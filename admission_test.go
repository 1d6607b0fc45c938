package memberlist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// admissionOf is the admission of a node.
func admissionOf(t *testing.T, change func(*Config)) *admission {
	t.Helper()
	cfg := DefaultLANConfig()
	cfg.LogOutput = io.Discard
	change(cfg)
	log, err := newLogger(cfg)
	require.NoError(t, err)
	return newAdmission(newServices(cfg, log), cfg)
}

func asking(f aliveFunc) func(*Config) { return func(cfg *Config) { cfg.Alive = f } }

func allowing(t *testing.T, networks ...string) func(*Config) {
	t.Helper()
	parsed, err := ParseCIDRs(networks)
	require.NoError(t, err)
	return func(cfg *Config) { cfg.CIDRsAllowed = parsed }
}

// Versions that are no range are refused; the current version is not looked at.
// Arrays of fewer than six bytes are refused as well, other than in the reference (P93, P121).
func TestSenselessVersionsAreRefused(t *testing.T) {
	m := admissionOf(t, func(*Config) {})
	for _, row := range []struct {
		vsn []byte
		ok  bool
	}{
		{[]byte{1, 5, 2, 0, 0, 0}, true},
		{[]byte{1, 5, 99, 9, 3, 77}, true},
		{[]byte{9, 9, 9, 0, 0, 0}, true},
		{[]byte{1, 5, 2, 0, 0, 0, 42}, true},
		{[]byte{0, 5, 2, 0, 0, 0}, false},
		{[]byte{1, 0, 2, 0, 0, 0}, false},
		{[]byte{3, 2, 2, 0, 0, 0}, false},
		{[]byte{1, 5, 2, 0, 0}, false},
		{[]byte{1, 5, 2}, false},
		{[]byte{}, false},
		{nil, false},
	} {
		a := aliveOf("x", 1)
		a.Vsn = row.vsn
		err := m.admit(context.Background(), a)
		if row.ok {
			require.NoError(t, err, "%v", row.vsn)
			continue
		}
		require.ErrorIs(t, err, ErrVersion, "%v", row.vsn)
	}
}

// TestAliveDelegateDecides checks P94.
func TestAliveDelegateDecides(t *testing.T) {
	refusal := errors.New("not here")
	var asked *Node
	m := admissionOf(t, func(cfg *Config) {
		cfg.Alive = aliveFunc(func(n *Node) error {
			asked = n
			if n.Name == "bad" {
				return refusal
			}
			return nil
		})
	})
	a := aliveOf("good", 1, withMeta("meta"))
	require.NoError(t, m.admit(context.Background(), a))
	want := newNode("good", a.Addr, a.Port, a.Meta, a.Vsn, StateAlive)
	require.Equal(t, want, asked, "it gets the data of the message")
	clear(a.Meta)
	require.Equal(t, "meta", string(asked.Meta), "in memory of its own")

	err := m.admit(context.Background(), aliveOf("bad", 1))
	require.ErrorIs(t, err, refusal)
	require.ErrorIs(t, err, ErrRejected)

	asked = nil
	short := aliveOf("good", 1)
	short.Vsn = short.Vsn[:5]
	require.Error(t, m.admit(context.Background(), short))
	require.Nil(t, asked, "it is not asked about arrays that are too short")
}

// The delegate is asked about every alive message, stale and own ones included,
// and what it refuses has no effect (P94).
func TestAliveDelegateIsAskedEachTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var mu sync.Mutex
		var asked []string
		var refuse atomic.Bool
		log := new(logLines)
		m := c.node("n1", func(cfg *Config) {
			cfg.LogOutput = log
			cfg.Alive = aliveFunc(func(n *Node) error {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, n.Name)
				if refuse.Load() {
					return errors.New("not today")
				}
				return nil
			})
		})
		p := c.puppet("p", nil)
		own := aliveOf("n1", 1)
		own.Addr, own.Port = m.LocalNode().Addr, m.LocalNode().Port
		for _, msg := range []*alive{p.alive(5), p.alive(5), p.alive(4), own} {
			p.send(m, msg.appendTo(nil))
		}
		synctest.Wait()
		mu.Lock()
		require.Equal(t, []string{"n1", "p", "p", "p", "n1"}, asked, "first about itself, in Create (P12)")
		mu.Unlock()

		refuse.Store(true)
		p.send(m, p.alive(9).appendTo(nil))
		stranger := aliveOf("stranger", 1)
		p.send(m, stranger.appendTo(nil))
		synctest.Wait()
		require.EqualValues(t, 5, incarnationOf(m, "p"))
		require.Nil(t, statusOf(m, "stranger"))
		require.Len(t, log.with("[WARN] memberlist: Ignoring alive message for 'stranger'", "not today"), 1)
	})
}

// Addresses outside the allowed networks are refused, whatever the message comes
// in: P95, P96.
func TestAddressMustBeAllowed(t *testing.T) {
	m := admissionOf(t, allowing(t, "10.0.0.0/24", "2001:db8::/64"))
	for text, ok := range map[string]bool{
		"10.0.0.7": true, "10.0.1.7": false, "2001:db8::1": true, "2001:db9::1": false,
	} {
		for _, ip := range formsOf(text) {
			a := aliveOf("x", 1)
			a.Addr = ip
			err := m.admit(context.Background(), a)
			require.Equal(t, ok, err == nil, "%s in %d bytes", text, len(ip))
			if !ok {
				require.ErrorIs(t, err, ErrRejected)
			}
		}
	}
	nowhere := aliveOf("x", 1)
	nowhere.Addr = nil
	require.Error(t, m.admit(context.Background(), nowhere))
	require.NoError(t, admissionOf(t, func(*Config) {}).admit(context.Background(), nowhere), "no filter, no check")
}

func formsOf(text string) []net.IP {
	ip := net.ParseIP(text)
	if v4 := ip.To4(); v4 != nil {
		return []net.IP{v4, ip.To16()}
	}
	return []net.IP{ip}
}

// An alive packet is let in if both its sender and the address in it are allowed (P90).
func TestNetworkFilterOnAlivePackets(t *testing.T) {
	from := func(text string) sender { return sender{other: vectorAddr(text)} }
	direct := func(text string) sender { return sender{addr: netip.MustParseAddrPort(text)} }
	for _, row := range []struct {
		from sender
		addr net.IP
		want bool
	}{
		{from("10.0.0.9:7946"), net.IP{10, 0, 0, 7}, true},
		{from("10.0.0.9:7946"), net.IPv4(10, 0, 0, 7), true},
		{from("10.0.1.9:7946"), net.IP{10, 0, 0, 7}, false},
		{from("10.0.0.9:7946"), net.IP{10, 0, 1, 7}, false},
		{from("[::ffff:10.0.0.9]:7946"), net.IP{10, 0, 0, 7}, true},
		{direct("10.0.0.9:7946"), net.IP{10, 0, 0, 7}, true},
		{direct("10.0.1.9:7946"), net.IP{10, 0, 0, 7}, false},
		{direct("[::ffff:10.0.0.9]:7946"), net.IP{10, 0, 0, 7}, true},
		{from("pipe"), net.IP{10, 0, 0, 7}, true},
		{from("pipe"), net.IP{10, 0, 1, 7}, false},
		{from("somewhere"), net.IP{10, 0, 0, 7}, false},
		{from(""), net.IP{10, 0, 0, 7}, false},
		{from("10.0.0.9:7946"), nil, true}, // absent; the other gates judge it
	} {
		m := admissionOf(t, allowing(t, "10.0.0.0/24"))
		require.Equal(t, row.want, m.packetAllowed(&alive{Addr: row.addr}, row.from), "%v about %v", row.from, row.addr)
	}
}

// The filter is for alive messages alone (P90).
func TestOtherMessagesAreNotFiltered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", allowing(t, "127.0.0.0/8"))
		p := c.puppet("p", nil)
		p.introduce(m)
		s := suspect{Incarnation: 1, Node: borrow("p"), From: borrow("p")}
		in := newPacketHandler(m.inbound)
		in.packet(s.appendTo(nil), sender{other: vectorAddr("192.0.2.1:1")}, time.Now())
		require.True(t, holdsFor(m, "p", StateSuspect))
		in.packet(p.alive(9).appendTo(nil), sender{other: vectorAddr("192.0.2.1:1")}, time.Now())
		require.True(t, holdsFor(m, "p", StateSuspect), "from an address that is not allowed")
	})
}

// TestMissingPortsAreFilledIn checks P91, W74.
func TestMissingPortsAreFilledIn(t *testing.T) {
	for _, row := range []struct {
		version  uint8
		bindPort int
		port     uint16
		want     uint16
	}{
		{2, 7946, 0, 7946},
		{2, 7946, 8301, 8301},
		{5, 7946, 0, 7946},
		{1, 5555, 0, 5555},
		{1, 5555, 8301, 5555},
	} {
		m := admissionOf(t, func(cfg *Config) { cfg.ProtocolVersion, cfg.BindPort = row.version, row.bindPort })
		require.Equal(t, row.want, m.config.knownPort(row.port), "%+v", row)
		item := incoming{kind: aliveMsg, alive: *aliveOf("x", 1, withPort(row.port)), raw: []byte("as it came")}
		require.True(t, m.admitPacket(context.Background(), &item, sender{}))
		require.Equal(t, row.want, item.alive.Port)
		require.Equal(t, row.want == row.port, item.raw != nil, "gossiped on with the port filled in")
	}
}

// ---- asking one at a time

// The delegate is never asked twice at once (P123).
func TestAliveDelegateIsAskedOneAtATime(t *testing.T) {
	var inside, most atomic.Int32
	g := admissionOf(t, asking(func(*Node) error {
		most.Store(max(most.Load(), inside.Add(1)))
		time.Sleep(time.Microsecond)
		inside.Add(-1)
		return nil
	}))
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 50 {
				if err := g.ask(context.Background(), new(Node)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	require.EqualValues(t, 1, most.Load())
	require.False(t, g.tasks.callers.isAsking())
}

// What the delegate causes while it is asked, on its own goroutine or another one,
// can ask it again (P124).
func TestAliveDelegateMayCauseFurtherQuestions(t *testing.T) {
	var m *admission
	var asked []string
	m = admissionOf(t, func(cfg *Config) {
		cfg.Alive = aliveFunc(func(n *Node) error {
			asked = append(asked, n.Name)
			if n.Name != "outer" {
				return nil
			}
			if !m.tasks.callers.isAsking() {
				return errors.New("the gate does not know that it is entered")
			}
			if err := m.admit(context.Background(), aliveOf("same goroutine", 1)); err != nil {
				return err
			}
			ctx := m.tasks.callers.mark(context.Background())
			done := make(chan error)
			go m.tasks.callers.inherit(ctx, func() { done <- m.admit(ctx, aliveOf("other goroutine", 1)) })
			return <-done
		})
	})
	require.NoError(t, m.admit(context.Background(), aliveOf("outer", 1)))
	require.Equal(t, []string{"outer", "same goroutine", "other goroutine"}, asked)
	require.False(t, m.tasks.callers.isAsking())
}

// Waiting for one's turn ends with the context (P123).
func TestTurnAtTheAliveDelegateIsNotWaitedForForEver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := admissionOf(t, asking(func(*Node) error {
			time.Sleep(time.Minute)
			return nil
		}))
		first := make(chan error)
		go func() { first <- g.ask(context.Background(), new(Node)) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.Equal(t, time.Second, duration(func() {
			require.ErrorIs(t, g.ask(ctx, new(Node)), context.DeadlineExceeded)
		}))
		require.NoError(t, g.ask(context.Background(), new(Node)), "after the first")
		require.NoError(t, <-first)
	})
}

// ---- judging what the other side sent

// refusingMerge is a MergeDelegate that writes down what it was asked.
type refusingMerge struct {
	asked []string
	err   error
}

func (r *refusingMerge) NotifyMerge(nodes []*Node) error {
	for _, n := range nodes {
		r.asked = append(r.asked, fmt.Sprintf("%s %s", n.Name, n.State))
	}
	return r.err
}

// TestJudgementsComeInOrder checks P119.
func TestJudgementsComeInOrder(t *testing.T) {
	local := []nodeRecord{localNode("me", StateAlive, 1, 5, 2, 0, 0, 0)}
	nodes := func() []pushNodeState {
		return []pushNodeState{
			remoteNode("a", StateAlive, testVersions()...), remoteNode("b", StateDead, testVersions()...),
			remoteNode("d", StateLeft, testVersions()...),
		}
	}
	merge := &refusingMerge{}
	m := admissionOf(t, func(cfg *Config) { cfg.Merge = merge })

	require.NoError(t, m.judge(context.Background(), &remoteState{join: true, nodes: nodes()}, local))
	require.Equal(t, []string{"a alive", "b dead", "d left"}, merge.asked, "about all nodes, with the sender's view (P35)")

	merge.asked = nil
	require.NoError(t, m.judge(context.Background(), &remoteState{join: false, nodes: nodes()}, local))
	require.Empty(t, merge.asked, "only if this is a join")

	merge.err = errors.New("our own words")
	err := m.judge(context.Background(), &remoteState{join: true, nodes: nodes()}, local)
	require.ErrorIs(t, err, merge.err)
	require.ErrorIs(t, err, ErrRejected)

	merge.asked = nil
	wrong := append(nodes(), remoteNode("e", StateAlive, 1, 9, 9, 0, 0, 0))
	err = m.judge(context.Background(), &remoteState{join: true, nodes: wrong}, local)
	require.ErrorIs(t, err, ErrVersion)
	require.Empty(t, merge.asked, "versions come first")
}

// Nodes that the gates refuse are taken out of a merge; the others stay (P94, P119).
func TestRefusedNodesAreTakenOut(t *testing.T) {
	m := admissionOf(t, func(cfg *Config) {
		cfg.Alive = aliveFunc(func(n *Node) error {
			if n.Name == "bad" {
				return errors.New("no")
			}
			return nil
		})
	})
	local := []nodeRecord{localNode("me", StateAlive, 1, 5, 2, 0, 0, 0)}
	remote := remoteState{nodes: []pushNodeState{
		remoteNode("bad", StateAlive, testVersions()...), remoteNode("good", StateAlive, testVersions()...),
		remoteNode("bad", StateDead, testVersions()...),
	}}
	require.NoError(t, m.judge(context.Background(), &remote, local))
	var kept []string
	for _, n := range remote.nodes {
		kept = append(kept, fmt.Sprintf("%s %s", n.Name, n.State))
	}
	require.Equal(t, []string{"good alive", "bad dead"}, kept)

	// A join of which nobody is let in fails, so that the joiner learns why.
	only := remoteState{join: true, nodes: []pushNodeState{remoteNode("bad", StateAlive, testVersions()...)}}
	require.ErrorIs(t, m.judge(context.Background(), &only, local), ErrRejected)
	only = remoteState{nodes: []pushNodeState{remoteNode("bad", StateAlive, testVersions()...)}}
	require.NoError(t, m.judge(context.Background(), &only, local))
	require.Empty(t, only.nodes)
}
