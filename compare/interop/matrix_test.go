package interop_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist/compare/interop/node"
)

// dressing is how packets of a cluster are sealed and labelled.
type dressing struct {
	name  string
	keys  [][]byte
	label string
}

func aes(length int) [][]byte { return [][]byte{bytes.Repeat([]byte{byte(length)}, length)} }

var dressings = []dressing{
	{name: "plain"},
	{name: "AES-128", keys: aes(16)},
	{name: "AES-192", keys: aes(24)},
	{name: "AES-256", keys: aes(32)},
	{name: "label", label: "blue"},
	{name: "label AES-256", label: "blue", keys: aes(32)},
}

// setting is one line of the matrix: what the two sides of a cluster speak.
type setting struct {
	dressing
	protocols [2]uint8 // theirs, ours
	compress  [2]bool
}

func (s setting) String() string {
	return fmt.Sprintf("%s/protocol %d-%d/compress %s", s.name, s.protocols[0], s.protocols[1], s.compression())
}

func (s setting) compression() string {
	return map[[2]bool]string{
		{false, false}: "none", {true, false}: "theirs", {false, true}: "ours", {true, true}: "both",
	}[s.compress]
}

// column is the setting's column in the document's tables.
func (s setting) column() string {
	if s.protocols[0] != s.protocols[1] {
		return "different"
	}
	return fmt.Sprint(s.protocols[0])
}

// settings is the whole matrix: each protocol version with each dressing and
// each choice of compression on both sides, then all pairs of different
// versions.
func settings() []setting {
	var all []setting
	for version := uint8(1); version <= 5; version++ {
		for _, d := range dressings {
			for _, compress := range [][2]bool{{false, false}, {true, false}, {false, true}, {true, true}} {
				all = append(all, setting{d, [2]uint8{version, version}, compress})
			}
		}
	}
	for a := uint8(1); a <= 5; a++ {
		for b := uint8(1); b <= 5; b++ {
			if a != b {
				all = append(all, setting{dressings[len(dressings)-1], [2]uint8{a, b}, [2]bool{true, true}})
			}
		}
	}
	return all
}

// options are those of a node on one side (0 theirs, 1 ours).
func (s setting) options(side int, name string) node.Options {
	return node.Options{
		Name:             name,
		Protocol:         s.protocols[side],
		Compression:      s.compress[side],
		Label:            s.label,
		Keys:             s.keys,
		PushPullInterval: 5 * time.Second,
		// A relay reports failure after its ProbeTimeout: with the preset's half
		// interval, nacks are always too late to count.
		ProbeTimeout: 300 * time.Millisecond,
	}
}

func TestMatrix(t *testing.T) {
	usual := usualComplaints(t)
	for _, s := range settings() {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			enter(t, "virtual time", s.name, s.column())
			synctest.Test(t, func(t *testing.T) {
				l := newLife(t, s, theirs, ourside)
				l.logs.usual = usual
				l.run()
			})
		})
	}
}

// usualComplaints lets each library live among its own kind and collects what
// it complains about.
func usualComplaints(t *testing.T) *complaints {
	var collect complaints
	for _, lib := range []node.Library{theirs, ourside} {
		for _, s := range []setting{
			{dressings[0], [2]uint8{2, 2}, [2]bool{true, true}},
			{dressings[5], [2]uint8{1, 1}, [2]bool{false, false}},
			{dressings[5], [2]uint8{5, 5}, [2]bool{true, true}},
		} {
			for range 2 {
				synctest.Test(t, func(t *testing.T) {
					l := newLife(t, s, lib, lib)
					l.logs.collect = &collect
					l.run()
				})
			}
		}
	}
	return &collect
}

// life is one cluster of 3+3 nodes that goes through everything that can
// happen to it. A side's nodes are named a1–a3 (theirs) and b1–b3 (ours).
type life struct {
	*cluster
	setting
	traffic *traffic
	logs    *logCheck
}

func newLife(t testing.TB, s setting, a, b node.Library) *life {
	l := &life{cluster: newCluster(t), setting: s}
	l.traffic = watch(l.net, s)
	for i := range 3 {
		l.add(a, s.options(0, fmt.Sprintf("a%d", i+1)))
		l.add(b, s.options(1, fmt.Sprintf("b%d", i+1)))
	}
	l.logs = &logCheck{cluster: l.cluster}
	return l
}

func (l *life) run() {
	defer l.stop()
	for _, step := range []struct {
		name     string
		run      func()
		troubled bool
	}{
		{"join", l.joinBothWays, false},
		{"update", l.update, false},
		{"best effort", l.bestEffort, false},
		{"reliable", l.reliable, false},
		{"broadcast", l.broadcast, false},
		{"state", l.userState, false},
		{"ping", l.pings, false},
		{"relay", l.relay, true},
		{"death", l.death, true},
		{"return", l.comeBack, true},
		{"leave", l.leave, false},
		{"conflict", l.conflict, true},
	} {
		l.logs.begin()
		step.run()
		l.logs.end(step.name, step.troubled)
	}
	l.events()
	require.Zero(l.t, l.net.Overflow(), "lost at sockets")
	require.Empty(l.t, l.traffic.faults(), "packets that are not as the setting wants them")
	for i, side := range []byte("ab") {
		require.Equal(l.t, l.compress[i], l.traffic.compresses(side), "side %c compresses", side)
		require.True(l.t, l.traffic.sums(side), "side %c sends checksums", side)
	}
}

// events wants that each node that is left has heard what happened to each name, and
// nothing more. Those that were restarted began to listen late.
func (l *life) events() {
	for _, p := range l.running() {
		for name, want := range map[string]string{
			"a1": "join update", "b1": "join update",
			"a2": "join leave", "b2": "join leave",
			"a3": "join leave join", "b3": "join leave join",
		} {
			if p.name() == "a3" || p.name() == "b3" {
				want = map[string]string{"a2": "join leave", "b2": "join leave"}[name]
				if want == "" {
					want = "join"
				}
			}
			require.Equal(l.t, want, kinds(p, name), "what %s heard of %s", p.name(), name)
		}
	}
}

func (l *life) peer(name string) *peer {
	for _, p := range l.peers {
		if p.name() == name {
			return p
		}
	}
	panic("no peer " + name)
}

// side is 'a' for theirs, 'b' for ours.
func side(p *peer) byte { return p.name()[0] }

// pairs calls f for every ordered pair of running nodes of different kinds.
func (l *life) pairs(f func(from, to *peer)) {
	for _, from := range l.running() {
		for _, to := range l.running() {
			if side(from) != side(to) {
				f(from, to)
			}
		}
	}
}

func (l *life) joinBothWays() {
	chain := []string{"a1", "b1", "a2", "b2", "a3", "b3"}
	for i := 1; i < len(chain); i++ {
		l.join(l.peer(chain[i]), l.peer(chain[i-1]))
	}
	l.whole(10 * time.Second)
	for _, p := range l.peers {
		for _, o := range l.peers {
			require.Equal(l.t, "join", kinds(p, o.name()), "what %s heard of %s", p.name(), o.name())
		}
		for _, m := range p.node.Members() {
			o := l.peer(m.Name)
			require.Equal(l.t, o.node.Local(), m, "%s as %s sees it", m.Name, p.name())
			require.Equal(l.t, node.Member{
				Name: o.name(), Addr: o.addr.String(), Meta: "meta of " + o.name(),
				PMin: 1, PMax: 5, PCur: o.opts.Protocol,
			}, m)
		}
	}
	for _, p := range l.peers[1:] {
		require.NotEmpty(l.t, p.app.States())
		require.True(l.t, p.app.States()[0].Join, "first state of %s", p.name())
	}
}

func (l *life) update() {
	const metaMaxSize = 512
	for _, name := range []string{"a1", "b1"} {
		p, meta := l.peer(name), strings.Repeat(name, metaMaxSize/2)
		p.app.SetMeta(meta)
		require.NoError(l.t, p.node.Update(10*time.Second))
		l.within(time.Minute, "new meta of "+name+" everywhere", func() bool {
			for _, o := range l.others(p) {
				if kinds(o, name) != "join update" || o.app.Events(name)[1].Node.Meta != meta {
					return false
				}
			}
			return true
		})
	}
}

// Sizes of messages: up to what a datagram can carry, and into the lengths that
// need the longer forms on streams. The last one goes from one pair only.
var (
	bestEffortSizes = []int{0, 1, 1300, 60000}
	reliableSizes   = []int{1, 200, 70000}
)

func (l *life) bestEffort() {
	l.messages("best effort", bestEffortSizes, func(from node.Node, to string, b []byte) error {
		return from.SendBestEffort(to, b)
	})
}

func (l *life) reliable() {
	l.messages("reliable", reliableSizes, func(from node.Node, to string, b []byte) error {
		return from.SendReliable(to, b)
	})
}

func (l *life) messages(how string, sizes []int, send func(from node.Node, to string, b []byte) error) {
	l.pairs(func(from, to *peer) {
		some := sizes
		if from.name()[1:] != "1" || to.name()[1:] != "1" {
			some = sizes[:len(sizes)-1]
		}
		for _, size := range some {
			text := fmt.Sprintf("%s %s %s %d ", how, from.name(), to.name(), size)
			text += strings.Repeat("x", max(0, size-len(text)))
			require.NoError(l.t, send(from.node, to.name(), node.Direct(text)))
			l.within(2*time.Second, "message "+text[:min(40, len(text))], func() bool { return to.app.DirectCount(text) == 1 })
		}
	})
}

// broadcast lets every node broadcast. A single broadcast may reach a node by
// push/pull, since gossip ends by chance; of all, some must come by gossip to
// either kind from the other.
func (l *life) broadcast() {
	byGossip := make(map[byte]int)
	for _, from := range l.running() {
		text := "broadcast of " + from.name()
		from.app.Broadcast(text)
		l.within(time.Minute, text+" everywhere", func() bool {
			for _, o := range l.others(from) {
				if o.app.Received(text) == "" {
					return false
				}
			}
			return true
		})
		for _, o := range l.others(from) {
			if side(o) != side(from) && o.app.Received(text) == node.ByGossip {
				byGossip[side(o)]++
			}
		}
	}
	require.Positive(l.t, byGossip['a'], "broadcasts from ours to theirs by gossip")
	require.Positive(l.t, byGossip['b'], "broadcasts from theirs to ours by gossip")
}

// userState waits until a state has come by periodic push/pull from either kind
// to either kind.
func (l *life) userState() {
	for _, p := range l.running() {
		p.app.SetState("state of side " + string(side(p)))
	}
	for _, to := range []byte("ab") {
		for _, from := range []byte("ab") {
			l.within(5*time.Minute, fmt.Sprintf("state from side %c at side %c", from, to), func() bool {
				for _, p := range l.running() {
					if side(p) == to && hasState(p, "state of side "+string(from)) {
						return true
					}
				}
				return false
			})
		}
	}
}

func hasState(p *peer, prefix string) bool {
	for _, s := range p.app.States() {
		if s.Prefix == prefix && !s.Join {
			return true
		}
	}
	return false
}

func (l *life) pings() {
	roundTrip := 2 * latency
	l.pairs(func(from, to *peer) {
		l.within(time.Minute, from.name()+" has pinged "+to.name(), func() bool {
			for _, pong := range from.app.Pongs() {
				if pong.From == to.name() {
					require.Equal(l.t, "payload of "+to.name(), pong.Payload)
					require.Equal(l.t, roundTrip, pong.RTT)
					return true
				}
			}
			return false
		})
		rtt, err := from.node.Ping(to.name())
		require.NoError(l.t, err)
		require.Equal(l.t, roundTrip, rtt)
	})
}

// relay parts one node from all of the other kind, for packets and streams, once for
// each kind. What is left between them are relays of the node's kind: for those who
// probe it, relays of the other kind than their own. They must serve so well that
// nobody is even suspected.
func (l *life) relay() {
	for _, apart := range []string{"a1", "b1"} {
		p := l.peer(apart)
		l.net.SetFilter(func(from, to netip.AddrPort, _ bool) bool {
			return from != p.addr && to != p.addr || sideOf(from) == sideOf(to)
		})
		l.traffic.reset()
		time.Sleep(30 * time.Second)
		relays, askers := side(p), 'a'+'b'-side(p)
		require.True(l.t, l.traffic.relayed(askers, relays), "relays of the other kind were asked")
		require.Zero(l.t, l.traffic.suspicions(), "a node was suspected while %s was apart", apart)
		l.net.SetFilter(nil)
		time.Sleep(15 * time.Second)
	}
	for _, p := range l.running() {
		for _, o := range l.running() {
			require.NotContains(l.t, kinds(p, o.name()), "leave", "%s of %s", p.name(), o.name())
		}
	}
}

func (l *life) death() {
	const minimum = 4 * time.Second // P153, for up to ten nodes
	l.traffic.reset()
	for _, victim := range []string{"a3", "b3"} {
		l.kill(l.peer(victim))
		killed := time.Now()
		l.within(time.Minute, victim+" is missed everywhere", func() bool { return l.allMiss(victim) })
		require.Greater(l.t, time.Since(killed), minimum, "a suspicion ran shorter than its minimum")
		time.Sleep(5 * time.Second) // lets probes end that the next victim relays
	}
	l.whole(time.Second)
	require.True(l.t, l.traffic.nacked('a', 'b'), "a nack from theirs to ours")
	require.True(l.t, l.traffic.nacked('b', 'a'), "a nack from ours to theirs")
}

// allMiss says whether everybody has noticed a death. Until then all relays
// send their nacks, so nobody may think that the fault is its own.
func (l *life) allMiss(victim string) bool {
	missed := 0
	for _, p := range l.running() {
		require.Zero(l.t, p.node.HealthScore(), "all relays sent nacks: %s is well", p.name())
		if strings.HasSuffix(kinds(p, victim), "leave") {
			missed++
		}
	}
	return missed == len(l.running())
}

func (l *life) comeBack() {
	for _, back := range []struct{ name, by string }{{"a3", "b1"}, {"b3", "a1"}} {
		p := l.peer(back.name)
		l.start(p)
		l.join(p, l.peer(back.by))
		l.whole(10 * time.Second)
		for _, o := range l.others(p) {
			if o.name() != "a3" {
				require.Equal(l.t, "join leave join", kinds(o, back.name), "what %s heard", o.name())
			}
			require.NotEmpty(l.t, p.app.Received("broadcast of "+o.name()), "what happened meanwhile")
		}
	}
}

func (l *life) leave() {
	for _, leaver := range []string{"a2", "b2"} {
		p := l.peer(leaver)
		require.NoError(l.t, p.node.Leave(10*time.Second))
		require.NotContains(l.t, memberNames(p.node.Members()), leaver)
		l.within(time.Minute, leaver+" has left everywhere", func() bool {
			for _, o := range l.others(p) {
				if !strings.HasSuffix(kinds(o, leaver), "leave") {
					return false
				}
			}
			return true
		})
		l.kill(p)
	}
	l.whole(5 * time.Second)
}

// conflict starts a second a1 on ours and a second b1 on theirs.
func (l *life) conflict() {
	for _, name := range []string{"a1", "b1"} {
		holder := l.peer(name)
		other := l.peer("b3")
		if name == "b1" {
			other = l.peer("a3")
		}
		double := l.add(other.lib, renamed(other.opts, name))
		_, err := double.node.Join(other.addr.String())
		require.NoError(l.t, err)
		l.within(5*time.Second, "conflict noticed by "+other.name(), func() bool {
			seen := fmt.Sprintf("%s %s %s", name, holder.addr, double.addr)
			return slices.Contains(other.app.Conflicts(), seen) && len(double.app.Conflicts()) > 0
		})
		l.kill(double)
		l.peers = l.peers[:len(l.peers)-1]
		l.logs.doubles = append(l.logs.doubles, double)
	}
	time.Sleep(20 * time.Second)
	l.whole(time.Second)
	for _, p := range l.running() {
		for _, m := range p.node.Members() {
			require.Equal(l.t, l.peer(m.Name).addr.String(), m.Addr, "address of %s at %s", m.Name, p.name())
		}
	}
}

func renamed(o node.Options, name string) node.Options {
	o.Name = name
	return o
}
