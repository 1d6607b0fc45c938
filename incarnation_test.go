package memberlist

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A node counts to the last incarnation, and then from 1, as after a restart; the
// number that nobody can go above is never its own (P113, P158).
func TestIncarnationsNeverWrap(t *testing.T) {
	c := newTestCore(t)
	c.identity.incarnation, c.self.incarnation = lastIncarnation-1, lastIncarnation-1
	c.hearSuspect("me", lastIncarnation-1, "a")
	require.Equal(t, fmt.Sprintf("alive@%d", uint32(math.MaxUint32-1)), c.view("me"))
	c.hearSuspect("me", lastIncarnation, "a")
	require.Equal(t, "alive@1", c.view("me"))

	for _, last := range []uint32{lastIncarnation, math.MaxUint32} {
		c.identity.incarnation, c.self.incarnation = last, last
		c.announceSelf(c.now, addrOfTestNode("me"), 7946, []byte("meta"), nil)
		require.Equal(t, "alive@1", c.view("me"), "an update counts on in the same way")
	}
}

// An accusation far above the record is no evidence, nor one that no node of the
// reference can refute; one with the recorded incarnation always is (P103, P108, P159).
func TestAccusationsFromFarAreNoEvidence(t *testing.T) {
	for what, run := range map[string]struct {
		known, said uint32
		want        bool
	}{
		"the same":         {5, 5, true},
		"near":             {5, 5 + maxAdvance, true},
		"far":              {5, 6 + maxAdvance, false},
		"the highest":      {5, math.MaxUint32, false},
		"the highest near": {lastIncarnation, math.MaxUint32, false},
		"the last":         {lastIncarnation - 1, lastIncarnation, true},
		"the same highest": {math.MaxUint32, math.MaxUint32, true},
	} {
		for _, state := range []NodeStateType{StateSuspect, StateDead, StateLeft} {
			c := newTestCore(t)
			c.hearAlive("x", run.known)
			c.settle()
			c.hearAccusation(state, "x", run.said)
			want := fmt.Sprintf("alive@%d", run.known)
			if run.want {
				want = fmt.Sprintf("%s@%d", state, run.said)
			}
			require.Equal(t, want, c.view("x"), "%s: %s", what, state)
			require.Equal(t, run.want, len(c.broadcasts()) > 0, "%s: %s: only evidence is gossiped on", what, state)

			c = newTestCore(t)
			c.hearAlive("x", run.known)
			c.settle()
			c.merge(c.now, []pushNodeState{{Name: borrow("x"), Incarnation: run.said, State: state}})
			require.Equal(t, run.want, c.view("x") != fmt.Sprintf("alive@%d", run.known), "%s: %s in an exchange", what, state)
			require.Equal(t, run.want && state != StateLeft, len(c.packets()) > 0, "%s: %s is passed on", what, state)
		}
	}
}

// hearAccusation applies what is said against a node.
func (c *testCore) hearAccusation(state NodeStateType, name string, incarnation uint32) {
	switch state {
	case StateSuspect:
		c.hearSuspect(name, incarnation, "a")
	case StateDead:
		c.hearDead(name, incarnation, "a")
	case StateLeft:
		c.hearDead(name, incarnation, name)
	}
}

// A node that is told such a thing about itself does not follow. It repeats what is
// true, once in a probe interval, and counts it neither against its health nor as a
// refutation (P106, P159).
func TestFarWordsAboutOneselfAreNotFollowed(t *testing.T) {
	says := map[string]func(c *testCore, incarnation uint32){
		"suspect": func(c *testCore, i uint32) { c.hearSuspect("me", i, "a") },
		"dead":    func(c *testCore, i uint32) { c.hearDead("me", i, "a") },
		"left":    func(c *testCore, i uint32) { c.hearDead("me", i, "me") },
		"alive":   func(c *testCore, i uint32) { c.hearAlive("me", i, withMeta("other")) },
	}
	for what, say := range says {
		for _, incarnation := range []uint32{2 + maxAdvance, math.MaxUint32} {
			c := newTestCore(t)
			say(c, incarnation)
			require.Equal(t, "alive@1", c.view("me"), what)
			require.Equal(t, []string{"alive me@1"}, c.broadcasts(), what)
			require.Zero(t, c.health.score, what)
			require.Len(t, c.logs(levelWarn), 1, what)
			say(c, incarnation)
			require.Empty(t, c.broadcasts(), what)
			c.leave(c.now)
			say(c, incarnation)
			c.announceSelf(c.now, addrOfTestNode("me"), 7946, nil, nil)
			require.Equal(t, "alive@2", c.view("me"), "%s, while it leaves", what)
		}
	}
}

// An accused node is taken back with an incarnation that cannot be compared with the
// accusation, on either side: no accusation is beyond its reach. A member in good
// standing keeps its record, or two such words could replace each other for ever (P97, P160).
func TestAccusationsDoNotStandAgainstFarIncarnations(t *testing.T) {
	const held = 1 << 30
	for said, back := range map[uint32]bool{
		1: true, held - maxAdvance - 1: true, held - maxAdvance: false, held: false,
		held + 1: true, held + maxAdvance: true, held + maxAdvance + 1: true, math.MaxUint32: true,
	} {
		for _, state := range []NodeStateType{StateSuspect, StateDead, StateLeft} {
			c := newTestCore(t)
			c.hearAlive("x", held)
			c.hearAccusation(state, "x", held)
			c.settle()
			c.hearAlive("x", said)
			want := fmt.Sprintf("%s@%d", state, held)
			if back {
				want = fmt.Sprintf("alive@%d", said)
			}
			require.Equal(t, want, c.view("x"), "%s, alive@%d", state, said)
			require.Equal(t, !back, len(c.packets()) > 0, "it is told what it can refute")
		}
		c := newTestCore(t)
		c.hearAlive("x", held)
		c.hearAlive("x", said, withMeta("other"))
		near := said > held && said <= held+maxAdvance
		require.Equal(t, near, c.view("x") != fmt.Sprintf("alive@%d", held), "alive, alive@%d", said)
	}
}

// A chain of accusations, each a step that counts, through the whole range: whether the
// accused hears all of them, some or none, its next word makes it a member again (P160).
func TestNoChainOfAccusationsBansANode(t *testing.T) {
	for _, hears := range []int{0, 1, 2, 7} { // each so manieth
		for _, step := range []uint32{maxAdvance, maxAdvance - 1, maxAdvance / 3} {
			c := newTestCore(t, func(cfg *Config) { cfg.Name = "me" })
			x := newTestCore(t, func(cfg *Config) { cfg.Name = "x" })
			c.hearAlive("x", 1)
			for i, n := uint32(1), 1; i < math.MaxUint32-step; i, n = i+step, n+1 {
				c.hearDead("x", i, "a")
				if hears > 0 && n%hears == 0 {
					x.now = x.now.add(time.Minute)
					x.hearDead("x", i, "a")
				}
			}
			require.Equal(t, StateDead, c.table.get("x").state())
			c.settle()
			x.settle()
			for range 3 {
				c.now, x.now = c.now.add(time.Minute), x.now.add(time.Minute)
				c.hearAlive("x", x.self.incarnation)
				deliver(c, x)
				deliver(x, c)
			}
			require.Equal(t, StateAlive, c.table.get("x").state(), "hears %d, step %d", hears, step)
			require.Equal(t, x.self.incarnation, c.table.get("x").incarnation)
		}
	}
}

// A node's own incarnation is not driven away from the others: after an advance it
// waits until they may have heard of it. What does not advance it is refuted at once (P161).
func TestOwnIncarnationAdvancesNoFasterThanOthersFollow(t *testing.T) {
	c := newTestCore(t)
	c.hearSuspect("me", 1+maxAdvance, "a")
	require.Equal(t, fmt.Sprintf("alive@%d", 2+maxAdvance), c.view("me"))
	c.hearSuspect("me", 2+2*maxAdvance, "a")
	c.hearSuspect("me", 4+maxAdvance, "a")
	require.Equal(t, fmt.Sprintf("alive@%d", 2+maxAdvance), c.view("me"))
	c.hearSuspect("me", 2+maxAdvance, "a")
	require.Equal(t, fmt.Sprintf("alive@%d", 3+maxAdvance), c.view("me"))
	c.now = c.now.add(c.identity.pauseAfterLeap())
	c.hearSuspect("me", 3+2*maxAdvance, "a")
	require.Equal(t, fmt.Sprintf("alive@%d", 4+2*maxAdvance), c.view("me"))

	began := c.now
	for c.self.incarnation < 1<<31 {
		c.now = c.now.add(time.Millisecond * 50)
		c.hearSuspect("me", c.self.incarnation+maxAdvance, "a")
	}
	require.Greater(t, c.now.sub(began), 2*time.Hour, "to the middle of the range")
}

// What is said of strangers keeps them out only if they can refute it.
func TestFarRumoursAndTombstonesKeepNobodyOut(t *testing.T) {
	for _, said := range []uint32{2 + maxAdvance, lastIncarnation, math.MaxUint32} {
		for _, state := range []NodeStateType{StateSuspect, StateDead, StateLeft} {
			c := newDetectorCore(t)
			c.hearAccusation(state, "x", said)
			c.hearAlive("x", 1)
			require.Equal(t, "alive@1", c.view("x"), "rumour of %s@%d", state, said)

			c = newDetectorCore(t)
			c.verdicts.tombstones.note(c.now, borrow("x"), borrow("me"), verdict{incarnation: said, state: state, tombstone: true})
			c.hearAlive("x", 1)
			require.Equal(t, "alive@1", c.view("x"), "tombstone of %s@%d", state, said)
		}
	}
	c := newDetectorCore(t)
	c.verdicts.tombstones.note(c.now, borrow("x"), borrow("me"), verdict{incarnation: 5, state: StateDead, tombstone: true})
	c.hearDead("x", 1<<30, "a")
	c.hearAlive("x", 2)
	require.Equal(t, "dead@5", c.view("x"), "a far rumour does not hide what is near")
}

// A record that is made from a tombstone is as old as that, and so is the next
// tombstone: made from each other for ever, they go when the first one would (P46, P165).
func TestTombstonesDoNotRenewThemselves(t *testing.T) {
	c := newDetectorCore(t)
	c.know("a")
	c.buried("x", 3, "a")
	buried := c.now
	for c.now.sub(buried) <= 24*time.Hour {
		c.hearAlive("x", 2)
		require.Equal(t, "dead@3", c.view("x"))
		require.LessOrEqual(t, c.table.get("x").since, buried)
		c.now = c.now.add(c.cfg.GossipToTheDeadTime + 1)
		c.reap(c.now)
		require.Equal(t, "unknown", c.view("x"))
		c.now = c.now.add(time.Hour)
	}
	c.hearAlive("x", 2)
	require.Equal(t, "alive@2", c.view("x"))

	// A new death has a tombstone of its own.
	c = newDetectorCore(t)
	c.know("a")
	c.buried("x", 3, "a")
	c.now = c.now.add(23 * time.Hour)
	c.hearAlive("x", 3)
	c.hearAlive("x", 4)
	require.True(t, c.accusers.recentlyJoined(c.now, borrow("x")), "it is known since it came back")
	c.hearDead("x", 4, "a")
	c.now = c.now.add(time.Hour)
	c.reap(c.now)
	c.now = c.now.add(23 * time.Hour)
	c.hearAlive("x", 4)
	require.Equal(t, "dead@4", c.view("x"))
}

// A member's own word in an exchange that was begun with it corrects a record far
// away, and is not gossiped on. Nobody else's word does (P162).
func TestOwnWordInAnExchangeCorrectsTheRecord(t *testing.T) {
	for what, run := range map[string]struct {
		says  uint32
		asked string
		port  uint16
		want  string
	}{
		"far below":          {1, "x", 7946, "alive@1"},
		"far above":          {1 << 31, "x", 7946, fmt.Sprintf("alive@%d", 1<<31)},
		"near":               {1<<30 - 1, "x", 7946, fmt.Sprintf("alive@%d", 1<<30)},
		"of somebody else":   {1, "y", 7946, fmt.Sprintf("alive@%d", 1<<30)},
		"at another address": {1, "x", 1, fmt.Sprintf("alive@%d", 1<<30)},
	} {
		c := newTestCore(t)
		c.hearAlive("x", 1<<30)
		c.settle()
		entry := pushNodeState{
			Name: borrow("x"), Addr: addrOfTestNode("x"), Port: run.port, Meta: []byte("meta"),
			Incarnation: run.says, Vsn: testVersions(),
		}
		c.mergeAnswer(c.now, run.asked, false, []pushNodeState{entry})
		require.Equal(t, run.want, c.view("x"), what)
		require.Empty(t, c.broadcasts(), what)
	}
}

// A node that was restarted continues above its previous life, however high that
// came, if it learns of it from a seed (P162).
func TestRestartedNodeCatchesUpWithItsSeeds(t *testing.T) {
	entry := pushNodeState{
		Name: borrow("me"), Addr: addrOfTestNode("me"), Port: 7946, Meta: []byte("of old"),
		Incarnation: 1 << 30, Vsn: testVersions(),
	}
	c := newTestCore(t)
	c.mergeAnswer(c.now, "", true, []pushNodeState{entry})
	require.Equal(t, fmt.Sprintf("alive@%d", 1<<30+1), c.view("me"))
	require.Equal(t, []string{fmt.Sprintf("alive me@%d", 1<<30+1)}, c.broadcasts())

	c = newTestCore(t)
	c.mergeAnswer(c.now, "x", false, []pushNodeState{entry})
	require.Equal(t, "alive@1", c.view("me"), "not from any member")
}

// ---- whatever is said

// hostility says anything about the nodes of a cluster, to anybody.
type hostility struct {
	rng     *rand.Rand
	cluster *mesh
	mouth   *puppet
	about   []*Memberlist
}

func (h *hostility) pick(list ...uint32) uint32 { return list[h.rng.IntN(len(list))] }

// incarnation is near what is true, at an end or bound of the range, or any.
func (h *hostility) incarnation(of *Memberlist) uint32 {
	current := incarnationOf(of, of.LocalNode().Name)
	step := h.pick(0, 1, 2, 100, maxAdvance-1, maxAdvance, maxAdvance+1, 3*maxAdvance)
	return h.pick(current+step, current+step, current-step, step, math.MaxUint32-step, 1<<31+step, h.rng.Uint32())
}

// address is that of the node itself, of another one, of the speaker, or of nobody.
func (h *hostility) address(of *Memberlist) (net.IP, uint16) {
	switch h.rng.IntN(8) {
	case 0:
		n := h.about[h.rng.IntN(len(h.about))].LocalNode()
		return n.Addr, n.Port
	case 1:
		return net.IPv4(127, 0, 0, 1), uint16(h.mouth.tr.port)
	case 2:
		return net.IPv4(10, 0, 0, byte(h.rng.IntN(3))), 7946
	}
	n := of.LocalNode()
	return n.Addr, n.Port
}

// entry is one word about a node, in any state.
func (h *hostility) entry() pushNodeState {
	about := h.about[h.rng.IntN(len(h.about))]
	ip, port := h.address(about)
	return pushNodeState{
		Name: borrow(about.LocalNode().Name), Addr: ip, Port: port, Meta: []byte(fmt.Sprint(h.rng.IntN(3))),
		Incarnation: h.incarnation(about), Vsn: testVersions(), State: NodeStateType(h.rng.IntN(4)),
	}
}

// message is a word about a node as a message of its own, by anybody.
func (h *hostility) message() []byte {
	s := h.entry()
	from := borrow([]string{"nobody", "hostile", "n1", "n2", "n3"}[h.rng.IntN(5)])
	switch s.State {
	case StateAlive:
		a := s.alive()
		return a.appendTo(nil)
	case StateSuspect:
		return (&suspect{Incarnation: s.Incarnation, Node: s.Name, From: from}).appendTo(nil)
	case StateDead:
		return (&dead{Incarnation: s.Incarnation, Node: s.Name, From: from}).appendTo(nil)
	}
	return (&dead{Incarnation: s.Incarnation, Node: s.Name, From: s.Name}).appendTo(nil)
}

// speak says something to a node, in a packet or in a full exchange.
func (h *hostility) speak() {
	to := h.about[h.rng.IntN(len(h.about))]
	if h.rng.IntN(5) > 0 {
		h.mouth.send(to, h.message())
		return
	}
	conn := h.mouth.dial(to)
	defer conn.Close()
	state := h.mouth.state(h.rng.IntN(2) == 0, nil, h.entry(), h.entry(), h.entry())
	_, _ = h.mouth.wire.writeStream(conn, state, true)
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, conn)
}

// restart ends a node and starts it again, at the same address and with incarnation 1.
func (c *mesh) restart(i int, changes ...func(*Config)) *Memberlist {
	c.t.Helper()
	return c.restartAs(i, c.nodes[i].LocalNode().Name, changes...)
}

// restartAs is restart under another name.
func (c *mesh) restartAs(i int, name string, changes ...func(*Config)) *Memberlist {
	c.t.Helper()
	old := c.nodes[i].LocalNode()
	require.NoError(c.t, c.nodes[i].Shutdown())
	cfg := c.config(name)
	tr := cfg.Transport.(*MockTransport)
	c.network.change(func() {
		delete(c.network.byAddr, tr.addr.addr)
		tr.addr.addr, tr.port = old.Address(), int(old.Port)
		c.network.byAddr[tr.addr.addr] = tr
	})
	for _, change := range changes {
		change(cfg)
	}
	m, err := Create(cfg)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { _ = m.Shutdown() })
	c.nodes[i] = m
	return m
}

// inPlace reports whether each node has all of them as members in good standing, at
// their addresses.
func inPlace(nodes []*Memberlist) bool {
	for _, m := range nodes {
		for _, other := range nodes {
			s := statusOf(m, other.LocalNode().Name)
			if s == nil || s.Node.State != StateAlive || s.Node.Address() != other.LocalNode().Address() {
				return false
			}
		}
	}
	return true
}

// Whatever anybody says about living nodes, with any incarnation and address, in
// anybody's name: soon after the talking stops each is a member everywhere, also one
// that was restarted meanwhile, or afterwards (P113, P160).
func TestWhateverIsSaidALivingNodeStaysOrComesBack(t *testing.T) {
	skipManyClusters(t)
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				c.grow(5, byAddress)
				h := &hostility{rng: rand.New(rand.NewPCG(seed, 7)), cluster: c, mouth: c.puppet("hostile", nil), about: c.nodes}
				talk := func(words int) {
					for range words {
						h.speak()
						time.Sleep(time.Duration(h.rng.IntN(int(200 * time.Millisecond))))
					}
				}
				rejoin := func(i int) {
					m := c.restart(i, byAddress)
					_, _ = m.Join([]string{c.nodes[0].LocalNode().Address()})
				}
				talk(300)
				rejoin(1)
				talk(100)
				if seed%2 == 0 {
					rejoin(2)
				}
				within(t, 3*time.Minute, "each is a member everywhere", func() bool { return inPlace(c.nodes) })
				time.Sleep(time.Minute)
				require.True(t, inPlace(c.nodes), "it stays so")
			})
		})
	}
}

// A node that hears of a member with an incarnation far from its record makes the next
// full exchange with that member, but in half of the cases at most, and in a large
// cluster more rarely (P163).
func TestMembersInDoubtAreAsked(t *testing.T) {
	for what, run := range map[string]struct {
		members int
		hear    func(c *testCore)
		least   int
		most    int
	}{
		"a far word":                {40, func(c *testCore) { c.hearAlive("x", 1<<30) }, 400, 600},
		"a far word in an exchange": {40, func(c *testCore) { c.merge(c.now, []pushNodeState{farEntry("x")}) }, 400, 600},
		"in a large cluster":        {800, func(c *testCore) { c.hearAlive("x", 1<<30) }, 10, 40},
		"an old word":               {40, func(c *testCore) { c.hearAlive("x", 1<<29-1) }, 0, 60},
	} {
		c := newTestCore(t)
		c.know(nodeNames("n", run.members)...)
		c.hearAlive("x", 1<<29)
		asked := 0
		for range 1000 {
			run.hear(c)
			c.settle()
			c.gossip.syncing = false
			c.gossip.syncDue(c.now)
			for _, name := range c.syncs() {
				if name == "x" {
					asked++
				}
			}
		}
		require.GreaterOrEqual(t, asked, run.least, what)
		require.LessOrEqual(t, asked, run.most, what)
	}

	c := newTestCore(t)
	c.know("a")
	c.hearAlive("x", 1<<29)
	c.hearAlive("x", 1<<30)
	c.hearDead("x", 1<<29, "a")
	for range 100 {
		require.Nil(t, c.gossip.takeDoubted(), "it died since")
	}
}

// farEntry is a word that a member is alive, with an incarnation far below its record.
func farEntry(name string) pushNodeState {
	return pushNodeState{Name: borrow(name), Addr: addrOfTestNode(name), Port: 7946, Incarnation: 1, Vsn: testVersions()}
}
