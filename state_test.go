package memberlist

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ---- order of arrival

// word is one message about the node x, at its one address.
type word struct {
	state       NodeStateType // alive, suspect, dead or left
	incarnation uint32
	from        string
}

func (w word) String() string { return fmt.Sprintf("%s@%d", w.state, w.incarnation) }

func (c *testCore) hear(w word) {
	switch w.state {
	case StateAlive:
		c.hearAlive("x", w.incarnation)
	case StateSuspect:
		c.hearSuspect("x", w.incarnation, w.from)
	case StateDead:
		c.hearDead("x", w.incarnation, w.from)
	case StateLeft:
		c.hearDead("x", w.incarnation, "x")
	}
}

// outcome is what a set of messages amounts to: the newest incarnation counts,
// and of it the gravest word. Without an alive message the node is unknown, since
// nobody has said where it is.
func outcome(words []word) string {
	var best word
	known := false
	for _, w := range words {
		known = known || w.state == StateAlive
		if w.incarnation > best.incarnation || w.incarnation == best.incarnation && w.state > best.state {
			best = w
		}
	}
	if !known {
		return "unknown"
	}
	return best.String()
}

// allWords are the messages of every kind with the incarnations from 1 to most.
func allWords(most uint32) []word {
	var all []word
	for incarnation := uint32(1); incarnation <= most; incarnation++ {
		all = append(all,
			word{StateAlive, incarnation, "x"}, word{StateSuspect, incarnation, "a"},
			word{StateDead, incarnation, "b"}, word{StateLeft, incarnation, "x"})
	}
	return all
}

// wordsTester plays messages to new cores and checks what comes of it.
type wordsTester struct {
	t   *testing.T
	cfg *Config
}

func newWordsTester(t *testing.T) *wordsTester {
	cfg := DefaultLANConfig()
	cfg.Name = "me"
	return &wordsTester{t: t, cfg: cfg}
}

func (p *wordsTester) play(words []word) {
	c := &testCore{core: newCore(p.cfg, rand.New(rand.NewPCG(1, 2))), t: p.t, now: instant(time.Hour)}
	c.announceSelf(c.now, addrOfTestNode("me"), 7946, nil, nil)
	c.know("a", "b")
	for _, w := range words {
		c.hear(w)
	}
	if got, want := c.view("x"), outcome(words); got != want {
		p.t.Fatalf("%v: %s, want %s", words, got, want)
	}
	p.checkEvents(c, words)
}

// checkEvents checks that joins and leaves alternate and end with how things are.
func (p *wordsTester) checkEvents(c *testCore, words []word) {
	member := false
	for _, e := range c.events() {
		joined := e == "join x"
		if !joined && e != "leave x" || joined == member {
			p.t.Fatalf("%v: event %q", words, e)
		}
		member = joined
	}
	if m := c.table.get("x"); m != nil && member == m.gone() {
		p.t.Fatalf("%v: %s, but the last event says otherwise", words, c.view("x"))
	}
}

// What is known of a node depends only on what was said about it, not on the
// order in which it was heard; also when accusations come before the first alive (P97, P110).
func TestViewDoesNotDependOnTheOrder(t *testing.T) {
	p := newWordsTester(t)
	p.playAllOrders(allWords(2), 4)
	p.playAllOrders(allWords(3), 3)
}

// playAllOrders plays every set of up to most of the messages, in every order.
func (p *wordsTester) playAllOrders(all []word, most int) {
	for set := 1; set < 1<<len(all); set++ {
		var words []word
		for i, w := range all {
			if set&(1<<i) != 0 {
				words = append(words, w)
			}
		}
		if len(words) <= most {
			permute(words, 0, p.play)
		}
	}
}

func permute(words []word, fixed int, play func([]word)) {
	if fixed == len(words) {
		play(words)
		return
	}
	for i := fixed; i < len(words); i++ {
		words[fixed], words[i] = words[i], words[fixed]
		permute(words, fixed+1, play)
		words[fixed], words[i] = words[i], words[fixed]
	}
}

// TestViewOfManyMessagesDoesNotDependOnTheOrder checks P97, P110.
func TestViewOfManyMessagesDoesNotDependOnTheOrder(t *testing.T) {
	p := newWordsTester(t)
	rng := rand.New(rand.NewPCG(11, 12))
	for range 500 {
		words := make([]word, 5+rng.IntN(12))
		for i := range words {
			state := NodeStateType(rng.IntN(4))
			from := []string{"a", "b", "me", "nobody"}[rng.IntN(4)]
			words[i] = word{state: state, incarnation: 1 + rng.Uint32N(6), from: from}
		}
		for range 8 {
			rng.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
			p.play(words)
		}
	}
}

// The example that the reference gets wrong (P110, P164).
func TestOldNewsDoesNotRaiseTheDead(t *testing.T) {
	c := newTestCore(t)
	c.hearAlive("x", 1)
	c.hearDead("x", 1, "a")
	c.hearDead("x", 10, "a")
	c.hearAlive("x", 2)
	require.Equal(t, "dead@10", c.view("x"))
	require.Equal(t, []string{"join x", "leave x"}, c.events())
	c.hearAlive("x", 11)
	require.Equal(t, "alive@11", c.view("x"))
}

// Not even after the dead one was reaped (P46).
func TestOldNewsDoesNotRaiseTheReaped(t *testing.T) {
	c := newTestCore(t, withDetector)
	c.hearAlive("x", 1)
	c.hearDead("x", 10, "a")
	c.now = c.now.add(c.cfg.GossipToTheDeadTime + 1)
	c.reap(c.now)
	require.Equal(t, "unknown", c.view("x"))
	c.hearAlive("x", 9)
	require.Equal(t, "dead@10", c.view("x"))
	require.Equal(t, []string{"join x", "leave x"}, c.events())
}

// What is said about names that nobody has introduced has no effect that could
// be seen (P103, P108).
func TestAccusationsOfStrangersShowNowhere(t *testing.T) {
	c := newTestCore(t)
	c.hearSuspect("x", 7, "a")
	c.hearDead("x", 8, "a")
	c.hearDead("x", 8, "x")
	require.Equal(t, "unknown", c.view("x"))
	require.Empty(t, c.events())
	require.Empty(t, c.broadcasts())
	require.Zero(t, c.fx.metrics)
	require.Len(t, c.table.order, 1)
}

// TestRumouredSuspicionBeginsWithTheNode checks P103 (P164).
func TestRumouredSuspicionBeginsWithTheNode(t *testing.T) {
	c := newTestCore(t)
	c.hearSuspect("x", 3, "a")
	c.hearAlive("x", 3)
	require.Equal(t, "suspect@3", c.view("x"))
	require.Equal(t, []string{"a"}, c.table.get("x").suspicion().accusers)
	require.Equal(t, []string{"join x"}, c.events())
}

// ---- being introduced

// TestFirstIncarnationIsOne checks P12, P15.
func TestFirstIncarnationIsOne(t *testing.T) {
	cfg := DefaultLANConfig()
	cfg.Name = "me"
	c := &testCore{core: newCore(cfg, rand.New(rand.NewPCG(1, 2))), t: t}
	c.announceSelf(c.now, []byte{10, 0, 0, 1}, 7946, []byte("meta"), nil)
	require.Equal(t, "alive@1", c.view("me"))
	require.Equal(t, []string{"join me"}, c.events())
	require.Equal(t, 1, c.fx.metrics.alive)

	var a alive
	_, err := a.decode(c.gossip.queue.GetBroadcasts(0, 1400)[0][1:])
	require.NoError(t, err)
	require.Equal(t, alive{
		Incarnation: 1, Node: borrow("me"), Addr: []byte{10, 0, 0, 1}, Port: 7946, Meta: []byte("meta"),
		Vsn: cfg.BuildVsnArray(),
	}, a)
}

// TestAnnouncingAnewTakesTheNextIncarnation checks P27.
func TestAnnouncingAnewTakesTheNextIncarnation(t *testing.T) {
	c := newTestCore(t)
	finished := 0
	c.announceSelf(c.now, addrOfTestNode("me"), 7946, []byte("meta"), func() { finished++ })
	require.Equal(t, "alive@2", c.view("me"))
	require.Equal(t, []string{"update me"}, c.events())
	require.Equal(t, "meta", string(c.self.node.Meta))
	require.Zero(t, finished)
	c.announceSelf(c.now, addrOfTestNode("me"), 7946, []byte("meta"), nil)
	require.Empty(t, c.events(), "the same meta again is no update")
	require.Equal(t, 1, finished, "replaced by the newer one (P30, P84)")
	require.Equal(t, []string{"alive me@3"}, c.broadcasts())
}

// Packets can come in before the node has introduced itself, while the program's
// delegate is asked for metadata (P12).
func TestMessagesBeforeTheIntroductionAreIgnored(t *testing.T) {
	cfg := DefaultLANConfig()
	cfg.Name = "me"
	c := &testCore{core: newCore(cfg, rand.New(rand.NewPCG(1, 2))), t: t, now: 1}
	c.hearAlive("me", 5)
	c.hearAlive("x", 5)
	c.hearSuspect("me", 5, "x")
	c.hearDead("me", 5, "x")
	c.merge(c.now, []pushNodeState{{Name: borrow("me"), Incarnation: 7, Vsn: testVersions()}})
	c.relay(c.now, destination{name: "x"}, relayRequest{seq: 1, requester: destination{name: "y"}, wantsNack: true})
	c.ack(c.now, &ack{SeqNo: 1}, c.now)
	c.nack(c.now, &nack{SeqNo: 1})
	require.Empty(t, c.table.order)
	require.Empty(t, c.fx.packets)
	c.announceSelf(c.now, addrOfTestNode("me"), 7946, nil, nil)
	require.Equal(t, "alive@1", c.view("me"))
	require.Len(t, c.table.order, 1)
}

// ---- alive

// TestNewNodeJoins checks P95, P101, P102.
func TestNewNodeJoins(t *testing.T) {
	c := newTestCore(t)
	c.hearAlive("x", 5, withMeta("m"))
	require.Equal(t, "alive@5", c.view("x"))
	require.Equal(t, []string{"join x"}, c.events())
	require.Equal(t, []string{"alive x@5"}, c.broadcasts())
	require.Equal(t, 1, c.fx.metrics.alive)
	n := c.table.get("x").node
	require.Equal(t, addrOfTestNode("x"), n.Addr)
	require.Equal(t, "m", string(n.Meta))
	require.Equal(t, [6]byte(testVersions()), n.versions())
	require.Equal(t, c.now, c.table.get("x").since)
}

// TestNewNodeWithIncarnationZeroIsIgnored checks P95.
func TestNewNodeWithIncarnationZeroIsIgnored(t *testing.T) {
	c := newTestCore(t)
	c.hearAlive("x", 0)
	require.Equal(t, "unknown", c.view("x"))
	require.Empty(t, c.events())
	require.Empty(t, c.broadcasts())
}

// TestNotNewerIsIgnored checks P97.
func TestNotNewerIsIgnored(t *testing.T) {
	for _, incarnation := range []uint32{0, 4, 5} {
		c := newTestCore(t)
		c.hearAlive("x", 5, withMeta("m"))
		c.settle()
		c.hearAlive("x", incarnation, withMeta("other"))
		require.Equal(t, "alive@5", c.view("x"))
		require.Empty(t, c.events())
		require.Empty(t, c.broadcasts())
		require.Zero(t, c.fx.metrics)
		require.Equal(t, "m", string(c.table.get("x").node.Meta))
	}
}

// TestNewerIsTakenOver checks P101, P102.
func TestNewerIsTakenOver(t *testing.T) {
	for _, row := range []struct {
		before, after []byte
		event         []string
	}{
		{[]byte("m"), []byte("m"), nil},
		{[]byte("m"), []byte("n"), []string{"update x"}},
		{[]byte("m"), nil, []string{"update x"}},
		{nil, []byte("m"), []string{"update x"}},
		{nil, []byte{}, nil},
		{[]byte{}, nil, nil},
	} {
		c := newTestCore(t)
		c.hearAlive("x", 5, func(a *alive) { a.Meta = row.before })
		c.settle()
		since := c.table.get("x").since
		c.pass(time.Millisecond)
		c.hearAlive("x", 6, func(a *alive) { a.Meta, a.Vsn = row.after, []byte{2, 4, 3, 1, 1, 1} })
		require.Equal(t, "alive@6", c.view("x"))
		require.Equal(t, row.event, c.events(), "%q → %q", row.before, row.after)
		require.Equal(t, []string{"alive x@6"}, c.broadcasts())
		m := c.table.get("x")
		require.Equal(t, string(row.after), string(m.node.Meta))
		require.Equal(t, [6]byte{2, 4, 3, 1, 1, 1}, m.node.versions())
		require.Equal(t, since, m.since, "it was alive before")
	}
}

// News that changes nothing but the incarnation makes no new Node. What the Node
// shows down to the form of the bytes makes one (P101).
func TestOnlyAChangeOfContentMakesANewNode(t *testing.T) {
	same := func(*alive) {}
	for name, row := range map[string]struct {
		before, after func(*alive)
		same          bool
	}{
		"incarnation alone":  {same, same, true},
		"the same meta":      {withMeta("m"), withMeta("m"), true},
		"other meta":         {withMeta("m"), withMeta("n"), false},
		"no meta":            {withMeta("m"), same, false},
		"empty, not no meta": {same, withMeta(""), false},
		"other versions":     {same, withPMax(4), false},
		"16-byte address":    {same, func(a *alive) { a.Addr = net.IP(a.Addr).To16() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCore(t)
			c.hearAlive("x", 5, row.before)
			c.settle()
			old := c.table.get("x").node
			c.hearAlive("x", 6, row.after)
			require.Equal(t, "alive@6", c.view("x"))
			require.Equal(t, []string{"alive x@6"}, c.broadcasts())
			require.Equal(t, 1, c.fx.metrics.alive)
			require.Equal(t, row.same, old == c.table.get("x").node)
			want := aliveOf("x", 6, row.after)
			require.True(t, c.table.get("x").node.says(want), "%+v", c.table.get("x").node)
		})
	}
}

// A node in whatever state but alive becomes another Node with its state (P101).
func TestARefutationMakesANewNode(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.hearSuspect("x", 1, "a")
	old := c.table.get("x").node
	c.hearAlive("x", 2)
	require.NotSame(t, old, c.table.get("x").node)
	require.Equal(t, "alive@2", c.view("x"))
}

func TestNewsWithoutChangeOfContentAllocatesTheBroadcastOnly(t *testing.T) {
	c := newTestCore(t)
	a := aliveOf("x", 1, withMeta("m"))
	raw := a.appendTo(nil)
	c.alive(c.now, a, raw)
	c.settle()
	allocs := testing.AllocsPerRun(100, func() {
		a.Incarnation++
		c.alive(c.now, a, raw)
	})
	require.LessOrEqual(t, allocs, 2.0, "the broadcast and its bytes")
	require.Zero(t, testing.AllocsPerRun(100, func() { c.alive(c.now, a, raw) }), "no news at all")
}

// TestShortVersionArraysKeepTheOldVersions checks P101.
func TestShortVersionArraysKeepTheOldVersions(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.hearAlive("x", 2, func(a *alive) { a.Vsn = []byte{2, 4, 3} })
	require.Equal(t, [6]byte(testVersions()), c.table.get("x").node.versions())
}

// Gossiped on are the very bytes that came in if they can be, else the message
// encoded again with the fields as handled (P101).
func TestGossipedOnAsReceived(t *testing.T) {
	c := newTestCore(t)
	a := aliveOf("x", 5, withMeta("m"))
	raw := a.appendTo(nil)
	c.alive(c.now, a, raw)
	want := slices.Clone(raw)
	clear(raw)
	require.Equal(t, [][]byte{want}, c.gossip.queue.GetBroadcasts(0, 1400), "and they are copied")

	c.settle()
	c.alive(c.now, aliveOf("y", 5), nil)
	require.Equal(t, [][]byte{aliveOf("y", 5).appendTo(nil)}, c.gossip.queue.GetBroadcasts(0, 1400))
}

// Nothing of a packet is kept.
func TestMessagesAreBorrowed(t *testing.T) {
	c := newTestCore(t)
	for _, msg := range [][]byte{
		aliveOf("x", 5, withMeta("meta")).appendTo(nil),
		(&suspect{Incarnation: 5, Node: borrow("x"), From: borrow("accuser")}).appendTo(nil),
		(&suspect{Incarnation: 5, Node: borrow("x"), From: borrow("confirmer")}).appendTo(nil),
		(&suspect{Incarnation: 5, Node: borrow("me"), From: borrow("slanderer")}).appendTo(nil),
	} {
		c.receiveBytes(msg)
		clear(msg)
	}
	m := c.table.get("x")
	require.NotNil(t, m)
	require.Equal(t, "x", m.node.Name)
	require.Equal(t, "meta", string(m.node.Meta))
	require.Equal(t, []string{"accuser"}, m.suspicion().accusers)
	require.Equal(t, []string{"alive me@6", "suspect x@5 by accuser"}, sortedCopy(c.broadcasts()))
	require.Equal(t, "accuser", c.fx.events[len(c.fx.events)-1].change.By)
	require.Equal(t, []string{"Refuting a suspect message (from: slanderer)"}, c.logs(levelWarn))
}

// receiveBytes applies an encoded message whose fields are views of it.
func (c *testCore) receiveBytes(msg []byte) {
	body := msg[1:]
	switch messageType(msg[0]) {
	case aliveMsg:
		var a alive
		_, err := a.decode(body)
		require.NoError(c.t, err)
		c.alive(c.now, &a, msg)
	case suspectMsg:
		var s suspect
		_, err := s.decode(body)
		require.NoError(c.t, err)
		c.suspect(c.now, &s, msg)
	}
}

// TestOtherAddressIsAConflict checks P96.
func TestOtherAddressIsAConflict(t *testing.T) {
	other := func(a *alive) { a.Addr = []byte{10, 9, 9, 9} }
	for name, row := range map[string]struct {
		prepare func(c *testCore)
		change  func(*alive)
		line    string
	}{
		"alive, other port":    {func(*testCore) {}, withPort(1), "Old state: 0"},
		"alive, other address": {func(*testCore) {}, other, "Old state: 0"},
		"suspect":              {func(c *testCore) { c.hearSuspect("x", 1, "a") }, other, "Old state: 1"},
		"dead":                 {func(c *testCore) { c.hearDead("x", 1, "a") }, other, "Old state: 2"},
	} {
		for _, incarnation := range []uint32{1, 99} {
			c := newTestCore(t)
			c.know("x")
			row.prepare(c)
			c.settle()
			before := c.view("x")
			a := aliveOf("x", incarnation, row.change)
			c.hearAlive("x", incarnation, row.change)
			require.Equal(t, before, c.view("x"), name)
			mine, theirs := c.table.get("x").node.Address(), joinHostPort(a.Addr, a.Port)
			require.Equal(t, []string{fmt.Sprintf("conflict x %s / %s", mine, theirs)}, c.events(), name)
			require.Empty(t, c.broadcasts(), name)
			logs := c.logs(levelError)
			require.Len(t, logs, 1)
			require.Contains(t, logs[0], fmt.Sprintf("Conflicting address for x. Mine: %s Theirs: %s", mine, theirs))
			require.Contains(t, logs[0], row.line)
		}
	}
}

// TestConflictShowsTheClaim checks P96.
func TestConflictShowsTheClaim(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.hearAlive("x", 9, withPort(1), withMeta("theirs"))
	e := c.fx.events[0]
	require.Same(t, c.table.get("x").node, e.node)
	require.Equal(t, &Node{Name: "x", Addr: addrOfTestNode("x"), Port: 1, Meta: []byte("theirs")}, e.other)
}

// The two forms of one IPv4 address are no conflict, other than in the reference (P96, W72).
func TestAddressFormIsNoConflict(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.hearAlive("x", 2, func(a *alive) { a.Addr = net.IP(a.Addr).To16() })
	require.Equal(t, "alive@2", c.view("x"))
	require.Empty(t, c.events())
	require.Len(t, c.table.get("x").node.Addr, 16, "passed on in the form in which it came")
}

// TestNodeThatLeftMayComeBackElsewhere checks P96.
func TestNodeThatLeftMayComeBackElsewhere(t *testing.T) {
	for _, incarnation := range []uint32{1, 9} {
		c := newTestCore(t)
		c.hearAlive("x", 5)
		c.hearDead("x", 5, "x")
		c.settle()
		c.hearAlive("x", incarnation, withPort(1))
		require.Equal(t, fmt.Sprintf("alive@%d", incarnation), c.view("x"), "even with an older incarnation")
		require.Equal(t, []string{"join x"}, c.events())
		require.Equal(t, []string{fmt.Sprintf("alive x@%d", incarnation)}, c.broadcasts())
		require.EqualValues(t, 1, c.table.get("x").node.Port)
		require.Len(t, c.logs(levelInfo), 1)
	}
}

// TestDeadNodeMayComeBackElsewhereAfterReclaimTime checks P96.
func TestDeadNodeMayComeBackElsewhereAfterReclaimTime(t *testing.T) {
	c := newTestCore(t, func(cfg *Config) { cfg.DeadNodeReclaimTime = time.Second })
	c.hearAlive("x", 5)
	c.hearDead("x", 5, "a")
	c.settle()
	c.pass(time.Second)
	c.hearAlive("x", 1, withPort(1))
	require.Equal(t, "dead@5", c.view("x"), "not longer ago than the reclaim time")
	c.pass(1)
	c.hearAlive("x", 1, withPort(1))
	require.Equal(t, "alive@1", c.view("x"))
}

// TestRefutationEndsTheSuspicion checks P99, P102.
func TestRefutationEndsTheSuspicion(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.hearSuspect("x", 1, "a")
	c.settle()
	c.hearAlive("x", 1)
	require.Equal(t, "suspect@1", c.view("x"), "it takes a newer incarnation")
	c.hearAlive("x", 2)
	require.Equal(t, "alive@2", c.view("x"))
	require.Empty(t, c.events(), "suspect to alive alone is no event")
	require.Equal(t, []string{"alive x@2"}, c.broadcasts())
	c.pass(time.Hour)
	require.Equal(t, "alive@2", c.view("x"), "nothing comes of the old deadline (P65)")
}

// TestDeadNodeComesBack checks P102.
func TestDeadNodeComesBack(t *testing.T) {
	for _, from := range []string{"a", "x"} {
		c := newTestCore(t)
		c.know("x")
		c.hearDead("x", 1, from)
		c.settle()
		c.hearAlive("x", 1)
		require.Empty(t, c.events(), "not without a newer incarnation")
		c.hearAlive("x", 2)
		require.Equal(t, "alive@2", c.view("x"))
		require.Equal(t, []string{"join x"}, c.events())
	}
}

// ---- alive about oneself

// TestOwnEchoIsIgnored checks P100.
func TestOwnEchoIsIgnored(t *testing.T) {
	c := newTestCore(t)
	c.hearAlive("me", 1)
	require.Empty(t, c.broadcasts())
	require.Empty(t, c.events())
	require.Zero(t, c.health.score)
}

// TestOlderWordAboutOneselfIsIgnored checks P98.
func TestOlderWordAboutOneselfIsIgnored(t *testing.T) {
	c := newTestCore(t)
	c.identity.refute(c.now, 7)
	c.settle()
	score := c.health.score
	c.hearAlive("me", 7, withMeta("old"))
	require.Equal(t, "alive@8", c.view("me"))
	require.Empty(t, c.broadcasts())
	require.Equal(t, score, c.health.score)
}

// TestWhatOthersClaimAboutOneselfIsRefuted checks P100, P113.
func TestWhatOthersClaimAboutOneselfIsRefuted(t *testing.T) {
	for name, row := range map[string]struct {
		incarnation uint32
		change      func(*alive)
		refuted     uint32
	}{
		"other meta":     {1, withMeta("other"), 2},
		"other versions": {1, withPMax(4), 2},
		"newer":          {9, func(*alive) {}, 10},
		"much newer":     {1 + maxAdvance, func(*alive) {}, 2 + maxAdvance},
	} {
		c := newTestCore(t)
		c.hearAlive("me", row.incarnation, row.change)
		require.Equal(t, fmt.Sprintf("alive@%d", row.refuted), c.view("me"), name)
		require.Equal(t, []string{fmt.Sprintf("alive me@%d", row.refuted)}, c.broadcasts(), name)
		require.Empty(t, c.events(), name)
		require.Equal(t, 1, c.health.score, name)
		require.Equal(t, 1, c.fx.metrics.alive, "%s: refuted ones count (P147)", name)
		logs := c.logs(levelWarn)
		require.Len(t, logs, 1, name)
		require.True(t, strings.HasPrefix(logs[0], "Refuting an alive message for 'me'"), logs[0])
	}
}

// TestOwnNameElsewhereIsAConflictAndNotRefuted checks P96.
func TestOwnNameElsewhereIsAConflictAndNotRefuted(t *testing.T) {
	c := newTestCore(t)
	c.hearAlive("me", 9, withPort(1))
	require.Equal(t, "alive@1", c.view("me"))
	require.Len(t, c.events(), 1)
	require.Empty(t, c.broadcasts())
	require.Zero(t, c.health.score)
}

// TestAfterLeavingAliveAboutOneselfIsIgnored checks P92.
func TestAfterLeavingAliveAboutOneselfIsIgnored(t *testing.T) {
	c := newTestCore(t)
	c.leave(c.now)
	c.settle()
	c.hearAlive("me", 9)
	c.hearAlive("me", 9, withPort(1))
	require.Equal(t, "left@1", c.view("me"))
	require.Empty(t, c.broadcasts())
	require.Empty(t, c.events())
}

// ---- suspect

// TestSuspicionBegins checks P107.
func TestSuspicionBegins(t *testing.T) {
	for _, incarnation := range []uint32{1, 99} {
		c := newTestCore(t)
		c.know("x", "a", "b")
		c.pass(time.Millisecond)
		c.hearSuspect("x", incarnation, "a")
		require.Equal(t, fmt.Sprintf("suspect@%d", incarnation), c.view("x"))
		require.Empty(t, c.events())
		require.Equal(t, []string{fmt.Sprintf("suspect x@%d by a", incarnation)}, c.broadcasts())
		require.Equal(t, metricCounts{suspect: 1}, c.fx.metrics)
		m := c.table.get("x")
		require.Equal(t, c.now, m.since)
		require.Equal(t, []string{"a"}, m.suspicion().accusers)
		require.Equal(t, c.now.add(24*time.Second), m.suspicion().deadline(), "k = 2 of 4 nodes (P61)")
		require.Equal(t, 4, c.table.live(), "suspects stay members")
	}
}

// TestOldSuspicionIsIgnored checks P103.
func TestOldSuspicionIsIgnored(t *testing.T) {
	c := newTestCore(t)
	c.hearAlive("x", 5)
	c.settle()
	c.hearSuspect("x", 4, "a")
	require.Equal(t, "alive@5", c.view("x"))
	require.Empty(t, c.broadcasts())
}

// TestTheGoneAreNotSuspected checks P105.
func TestTheGoneAreNotSuspected(t *testing.T) {
	for _, from := range []string{"a", "x"} {
		c := newTestCore(t)
		c.hearAlive("x", 5)
		c.hearDead("x", 5, from)
		c.settle()
		before := c.view("x")
		c.hearSuspect("x", 5, "a")
		c.hearSuspect("x", 4, "a")
		require.Equal(t, before, c.view("x"))
		require.Empty(t, c.events())
		require.Empty(t, c.broadcasts())
	}
}

// A newer suspicion of a node that is gone proves that it was back in between (P105).
func TestNewerSuspicionBringsTheGoneBack(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.hearDead("x", 1, "a")
	c.settle()
	c.hearSuspect("x", 2, "b")
	require.Equal(t, "suspect@2", c.view("x"))
	require.Equal(t, []string{"join x"}, c.events())
	c.pass(time.Hour)
	require.Equal(t, "dead@2", c.view("x"))
	require.Equal(t, []string{"leave x"}, c.events())
}

// TestConfirmationsAreCountedAndGossipedOn checks P63, P104.
func TestConfirmationsAreCountedAndGossipedOn(t *testing.T) {
	c := newTestCore(t)
	c.know("x", "a", "b", "d")
	c.hearSuspect("x", 1, "a")
	c.settle()
	began := c.now
	c.pass(time.Millisecond)

	c.hearSuspect("x", 1, "a")
	require.Empty(t, c.broadcasts(), "the first accuser again")
	c.hearSuspect("x", 0, "b")
	require.Empty(t, c.broadcasts(), "an old incarnation")
	c.hearSuspect("x", 1, "b")
	require.Equal(t, []string{"suspect x@1 by b"}, c.broadcasts())
	require.Equal(t, began.add(11381*time.Millisecond), c.table.get("x").suspicion().deadline())
	c.hearSuspect("x", 1, "b")
	require.Empty(t, c.broadcasts())
	c.hearSuspect("x", 1, "d")
	require.Equal(t, []string{"suspect x@1 by d"}, c.broadcasts())
	require.Equal(t, began.add(4*time.Second), c.table.get("x").suspicion().deadline())
	c.hearSuspect("x", 1, "e")
	require.Empty(t, c.broadcasts(), "more than k")
	require.Zero(t, c.fx.metrics.suspect, "confirmations are not counted (P147)")
	require.Equal(t, began, c.table.get("x").since)

	c.pass(4 * time.Second)
	require.Equal(t, "dead@1", c.view("x"))
}

// Other than in the reference (P64), a newer incarnation in a confirmation is
// remembered, so that the order of arrival does not matter.
func TestNewerConfirmationRaisesTheIncarnation(t *testing.T) {
	c := newTestCore(t)
	c.know("x", "a", "b")
	c.hearSuspect("x", 1, "a")
	c.hearSuspect("x", 3, "b")
	require.Equal(t, "suspect@3", c.view("x"))
	c.hearAlive("x", 3)
	require.Equal(t, "suspect@3", c.view("x"))
	c.hearAlive("x", 4)
	require.Equal(t, "alive@4", c.view("x"))
}

// TestExpiredSuspectIsDeclaredDead checks P65, P112.
func TestExpiredSuspectIsDeclaredDead(t *testing.T) {
	c := newTestCore(t, func(cfg *Config) { cfg.ProbeInterval = time.Second })
	c.know("x", "a", "b")
	c.hearSuspect("x", 3, "a")
	c.settle()
	c.pass(24*time.Second - 1)
	require.Equal(t, "suspect@3", c.view("x"))
	c.settle()
	c.pass(1)
	require.Equal(t, "dead@3", c.view("x"))
	require.Equal(t, []string{"leave x"}, c.events())
	require.Equal(t, []string{"dead x@3 by me"}, c.broadcasts())
	require.Equal(t, metricCounts{dead: 1, degradedTimeout: 1}, c.fx.metrics)
	require.Equal(t, []string{"Marking x as failed, suspect timeout reached (0 peer confirmations)"}, c.logs(levelInfo))
}

// Fewer than k confirmations count as a degraded timeout only if any were wanted (P65, P147).
func TestDegradedTimeouts(t *testing.T) {
	for _, row := range []struct {
		nodes         []string
		confirmations []string
		degraded      int
	}{
		{[]string{"x", "a", "b"}, nil, 1},
		{[]string{"x", "a", "b"}, []string{"b"}, 1},
		{[]string{"x", "a", "b", "d"}, []string{"b", "d"}, 0},
		{[]string{"x"}, nil, 0},
	} {
		c := newTestCore(t)
		c.know(row.nodes...)
		c.hearSuspect("x", 1, "a")
		for _, from := range row.confirmations {
			c.hearSuspect("x", 1, from)
		}
		c.settle()
		c.pass(time.Minute)
		require.Equal(t, "dead@1", c.view("x"))
		require.Equal(t, row.degraded, c.fx.metrics.degradedTimeout, "%v", row)
		require.Contains(t, c.logs(levelInfo)[0], fmt.Sprintf("(%d peer confirmations)", len(row.confirmations)))
	}
}

// A confirmation that leaves no time at all lets the suspect be declared dead at
// once (P62).
func TestConfirmationCanBeTheEnd(t *testing.T) {
	c := newTestCore(t)
	c.know("x", "a", "b", "d")
	c.hearSuspect("x", 1, "a")
	c.pass(11 * time.Second)
	c.hearSuspect("x", 1, "b")
	require.Equal(t, "suspect@1", c.view("x"))
	c.hearSuspect("x", 1, "d")
	require.LessOrEqual(t, c.timers.next(), c.now)
	c.tick(c.now)
	require.Equal(t, "dead@1", c.view("x"))
}

// The deadline of an earlier suspicion does not end a later one (P65).
func TestStaleDeadlinesAreNotObeyed(t *testing.T) {
	c := newTestCore(t)
	c.know("x", "a", "b")
	c.hearSuspect("x", 1, "a")
	c.pass(20 * time.Second)
	c.hearAlive("x", 2)
	c.hearSuspect("x", 2, "a")
	c.pass(24*time.Second - 1)
	require.Equal(t, "suspect@2", c.view("x"))
	c.pass(1)
	require.Equal(t, "dead@2", c.view("x"))
}

// TestSuspicionOfOneselfIsRefuted checks P106.
func TestSuspicionOfOneselfIsRefuted(t *testing.T) {
	for _, row := range []struct{ accusation, refuted uint32 }{{1, 2}, {40, 41}, {1 + maxAdvance, 2 + maxAdvance}} {
		c := newTestCore(t)
		c.hearSuspect("me", row.accusation, "a")
		require.Equal(t, fmt.Sprintf("alive@%d", row.refuted), c.view("me"))
		require.Equal(t, []string{fmt.Sprintf("alive me@%d", row.refuted)}, c.broadcasts())
		require.Empty(t, c.events())
		require.Equal(t, 1, c.health.score)
		require.Equal(t, metricCounts{health: 1, healthChanged: true}, c.fx.metrics, "refuted ones are not counted")
		require.Equal(t, []string{"Refuting a suspect message (from: a)"}, c.logs(levelWarn))
	}
}

// TestOldSuspicionOfOneselfIsIgnored checks P103.
func TestOldSuspicionOfOneselfIsIgnored(t *testing.T) {
	c := newTestCore(t)
	c.identity.refute(c.now, 5)
	c.settle()
	c.hearSuspect("me", 5, "a")
	c.hearDead("me", 5, "a")
	require.Equal(t, "alive@6", c.view("me"))
	require.Empty(t, c.broadcasts())
	require.Equal(t, 1, c.health.score)
}

// ---- dead

// TestDeathAndDeparture checks P109, P112.
func TestDeathAndDeparture(t *testing.T) {
	for _, from := range []string{"a", "x"} {
		for _, suspected := range []bool{false, true} {
			c := newTestCore(t)
			c.know("x")
			if suspected {
				c.hearSuspect("x", 1, "a")
			}
			c.settle()
			c.pass(time.Millisecond)
			c.hearDead("x", 7, from)
			require.Equal(t, map[string]string{"a": "dead@7", "x": "left@7"}[from], c.view("x"))
			require.Equal(t, []string{"leave x"}, c.events())
			require.Equal(t, []string{"dead x@7 by " + from}, c.broadcasts())
			require.Equal(t, metricCounts{dead: 1}, c.fx.metrics)
			require.Equal(t, c.now, c.table.get("x").since)
			c.settle()
			c.pass(time.Hour)
			require.Empty(t, c.events(), "the suspicion is over (P109)")
		}
	}
}

// TestOldDeathIsIgnored checks P108.
func TestOldDeathIsIgnored(t *testing.T) {
	c := newTestCore(t)
	c.hearAlive("x", 5)
	c.settle()
	c.hearDead("x", 4, "a")
	c.hearDead("x", 4, "x")
	require.Equal(t, "alive@5", c.view("x"))
	require.Empty(t, c.events())
	require.Empty(t, c.broadcasts())
}

// TestTheGoneDieOnlyOnce checks P110.
func TestTheGoneDieOnlyOnce(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.hearDead("x", 1, "a")
	c.settle()
	since := c.table.get("x").since
	c.pass(time.Millisecond)
	for _, from := range []string{"a", "b", "x"} {
		for _, incarnation := range []uint32{0, 1, 2} {
			c.hearDead("x", incarnation, from)
		}
	}
	require.Empty(t, c.events())
	require.Empty(t, c.broadcasts())
	require.Zero(t, c.fx.metrics)
	require.Equal(t, since, c.table.get("x").since, "it is reaped when it was to be")
}

// TestDeathOfOneselfIsRefuted checks P111.
func TestDeathOfOneselfIsRefuted(t *testing.T) {
	for _, from := range []string{"a", "me"} {
		c := newTestCore(t)
		c.hearDead("me", 9, from)
		require.Equal(t, "alive@10", c.view("me"), "even in the own name")
		require.Equal(t, []string{"alive me@10"}, c.broadcasts())
		require.Empty(t, c.events())
		require.Equal(t, 1, c.health.score)
		require.Equal(t, []string{fmt.Sprintf("Refuting a dead message (from: %s)", from)}, c.logs(levelWarn))
	}
}

// ---- refuting

// TestRefutationGoesAboveTheAccusation checks P113.
func TestRefutationGoesAboveTheAccusation(t *testing.T) {
	c := newTestCore(t)
	for _, row := range []struct{ accusation, refuted uint32 }{{1, 2}, {1, 3}, {9, 10}, {8, 11}, {11, 12}, {13, 14}} {
		c.identity.refute(c.now, row.accusation)
		require.Equal(t, fmt.Sprintf("alive@%d", row.refuted), c.view("me"))
	}
	require.Equal(t, 6, c.health.score)
}

// TestRefutationCarriesAddressMetaAndVersions checks P113.
func TestRefutationCarriesAddressMetaAndVersions(t *testing.T) {
	c := newTestCore(t)
	c.announceSelf(c.now, []byte{10, 0, 0, 9}, 8301, []byte("meta"), nil)
	c.settle()
	c.hearSuspect("me", 2, "a")
	var a alive
	_, err := a.decode(c.gossip.queue.GetBroadcasts(0, 1400)[0][1:])
	require.NoError(t, err)
	require.Equal(t, alive{
		Incarnation: 3, Node: borrow("me"), Addr: []byte{10, 0, 0, 9}, Port: 8301, Meta: []byte("meta"), Vsn: testVersions(),
	}, a)
}

// A newer message about a node replaces the older one in the queue. A refutation
// has a name of its own, so it replaces an earlier refutation only (P84).
func TestBroadcastsAreNamedByTheirNode(t *testing.T) {
	c := newTestCore(t)
	c.know("x", "y")
	c.hearSuspect("x", 1, "a")
	c.hearAlive("y", 2)
	c.hearDead("x", 1, "a")
	c.hearAlive("y", 3)
	require.Equal(t, []string{"alive y@3", "dead x@1 by a"}, sortedCopy(c.broadcasts()))

	c.announceSelf(c.now, addrOfTestNode("me"), 7946, []byte("m"), nil)
	c.hearSuspect("me", 2, "a")
	c.hearSuspect("me", 3, "a")
	require.Equal(t, []string{"alive me@2", "alive me@4"}, sortedCopy(c.broadcasts()))
	c.hearSuspect("me", 4, "a")
	c.leave(c.now)
	require.Equal(t, []string{"alive me@5", "dead me@5 by me"}, sortedCopy(c.broadcasts()))
}

// ---- telling the accused

// After a restart of everybody at once all incarnations are back at 1. Who holds
// a newer accusation tells the one it concerns, so that it can refute (P15, P166).
func TestAccusedIsTold(t *testing.T) {
	for state, accuse := range map[string]func(c *testCore){
		"suspect x@9 by me": func(c *testCore) { c.hearSuspect("x", 9, "a") },
		"dead x@9 by me":    func(c *testCore) { c.hearDead("x", 9, "a") },
		"dead x@9 by x":     func(c *testCore) { c.hearDead("x", 9, "x") },
	} {
		c := newTestCore(t)
		c.know("x")
		accuse(c)
		c.settle()
		c.hearAlive("x", 1)
		require.Equal(t, []string{"x: " + state}, c.packets())

		c.hearAlive("x", 1)
		require.Empty(t, c.packets(), "once a probe interval")
		c.now = c.now.add(c.cfg.ProbeInterval)
		c.hearAlive("x", 1)
		require.Equal(t, []string{"x: " + state}, c.packets())
		require.Empty(t, c.events())
	}
}

// TestOldNewsAboutTheLivingIsNotTold checks P15.
func TestOldNewsAboutTheLivingIsNotTold(t *testing.T) {
	c := newTestCore(t)
	c.hearAlive("x", 9)
	c.settle()
	c.hearAlive("x", 1)
	require.Empty(t, c.packets())
}

// Two nodes of which one restarts, or both, agree in the end, whatever they held
// against each other (P15).
func TestRestartedNodesFindEachOther(t *testing.T) {
	for _, held := range allWords(3) {
		old := newTestCore(t, func(cfg *Config) { cfg.Name = "old" })
		old.know("x")
		old.hear(held)
		old.settle()
		restarted := newTestCore(t, func(cfg *Config) { cfg.Name = "x" })
		exchange(old, restarted)
		require.Equal(t, StateAlive, old.table.get("x").state(), "%v", held)
		require.Equal(t, StateAlive, restarted.table.get("old").state(), "%v", held)
		require.Equal(t, restarted.self.incarnation, old.table.get("x").incarnation, "%v", held)
	}
}

// exchange lets two cores sync and hear each other's packets and broadcasts,
// until both have nothing to say.
func exchange(a, b *testCore) {
	a.merge(a.now, statesOf(b))
	b.merge(b.now, statesOf(a))
	for range 10 {
		deliver(a, b)
		deliver(b, a)
	}
}

func deliver(from, to *testCore) {
	msgs := from.gossip.queue.GetBroadcasts(0, 1<<20)
	from.gossip.queue.Reset()
	for _, p := range from.fx.packets {
		if p.to.name == to.cfg.Name {
			msgs = append(msgs, p.msg)
		}
	}
	from.fx.reset()
	for _, msg := range msgs {
		switch messageType(msg[0]) {
		case aliveMsg, suspectMsg:
			to.receiveBytes(msg)
		case deadMsg:
			var d dead
			_, err := d.decode(msg[1:])
			require.NoError(to.t, err)
			to.dead(to.now, &d, msg)
		}
	}
}

func statesOf(c *testCore) []pushNodeState {
	var states []pushNodeState
	for _, m := range c.table.order {
		n := m.node
		versions := n.versions()
		states = append(states, pushNodeState{
			Name: borrow(n.Name), Addr: n.Addr, Port: n.Port, Meta: n.Meta, Incarnation: m.incarnation, State: m.state(),
			Vsn: versions[:],
		})
	}
	return states
}

// ---- merging

func stateOf(name string, incarnation uint32, state NodeStateType) pushNodeState {
	return pushNodeState{
		Name: borrow(name), Addr: addrOfTestNode(name), Port: 7946, Incarnation: incarnation, State: state, Vsn: testVersions(),
	}
}

// TestMergeAlive checks P114.
func TestMergeAlive(t *testing.T) {
	c := newTestCore(t)
	c.merge(c.now, []pushNodeState{stateOf("x", 3, StateAlive), stateOf("me", 9, StateAlive)})
	require.Equal(t, []string{"alive@3", "alive@10"}, c.views("x", "me"))
	require.Equal(t, []string{"join x"}, c.events())
	require.Equal(t, []string{"alive me@10", "alive x@3"}, sortedCopy(c.broadcasts()))
}

// A death is never believed second-hand, only suspected; a departure is (P114).
func TestMergeAccusations(t *testing.T) {
	for _, row := range []struct {
		said      NodeStateType
		view      string
		broadcast string
	}{
		{StateSuspect, "suspect@1", "suspect x@1 by me"},
		{StateDead, "suspect@1", "suspect x@1 by me"},
		{StateLeft, "left@1", "dead x@1 by x"},
	} {
		c := newTestCore(t)
		c.know("x")
		c.merge(c.now, []pushNodeState{stateOf("x", 1, row.said)})
		require.Equal(t, row.view, c.view("x"), "%v", row.said)
		require.Equal(t, []string{row.broadcast}, c.broadcasts(), "%v", row.said)
	}
}

// TestMergeIgnoresStrangersThatAreGone checks P114.
func TestMergeIgnoresStrangersThatAreGone(t *testing.T) {
	c := newTestCore(t)
	c.merge(c.now, []pushNodeState{
		stateOf("y", 5, StateDead), stateOf("z", 5, StateLeft), stateOf("w", 5, 17),
	})
	require.Len(t, c.table.order, 1)
	require.Empty(t, c.events())
	require.Empty(t, c.broadcasts())
}

// Each entry of a merge counts as the word of this node: a second one confirms
// nothing (P63) (P63, P114).
func TestMergedAccusationsCountInTheOwnName(t *testing.T) {
	c := newTestCore(t)
	c.know("x", "a", "b")
	c.hearSuspect("x", 1, "a")
	c.merge(c.now, []pushNodeState{stateOf("x", 1, StateDead)})
	c.merge(c.now, []pushNodeState{stateOf("x", 1, StateSuspect)})
	require.Equal(t, []string{"a", "me"}, c.table.get("x").suspicion().accusers)
}

// That others hold a node for dead is no reason to suspect one that is dead here
// as well (P114).
func TestMergedDeathOfTheDead(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.hearDead("x", 1, "a")
	c.settle()
	c.merge(c.now, []pushNodeState{stateOf("x", 4, StateDead)})
	require.Equal(t, "dead@4", c.view("x"))
	require.Empty(t, c.events())
}

// TestMergedAccusationOfOneselfIsRefuted checks P106, P114.
func TestMergedAccusationOfOneselfIsRefuted(t *testing.T) {
	for _, said := range []NodeStateType{StateSuspect, StateDead, StateLeft} {
		c := newTestCore(t)
		c.merge(c.now, []pushNodeState{stateOf("me", 6, said)})
		require.Equal(t, "alive@7", c.view("me"), "%v", said)
		require.Empty(t, c.events())
	}
}

// ---- reasons

// Each change of state is told with its reason, also those that are no event.
func TestEventReasons(t *testing.T) {
	c := newTestCore(t)
	change := func() Change {
		require.Len(t, c.fx.events, 1)
		got := *c.fx.events[0].change
		require.Same(t, c.table.get("x").node, got.Node)
		got.Node = nil
		c.fx.events = nil
		return got
	}
	c.hearAlive("x", 1)
	require.Equal(t, Change{From: StateDead, To: StateAlive, New: true, By: "x", Incarnation: 1}, change())
	c.hearAlive("x", 2, withMeta("m"))
	require.Equal(t, Change{From: StateAlive, To: StateAlive, By: "x", Incarnation: 2}, change())
	c.know("a", "b", "d")
	c.hearSuspect("x", 2, "a")
	require.Equal(t, Change{From: StateAlive, To: StateSuspect, By: "a", Incarnation: 2}, change())
	c.hearSuspect("x", 2, "b")
	c.pass(time.Second)
	c.hearAlive("x", 3, withMeta("m"))
	require.Equal(t, Change{
		From: StateSuspect, To: StateAlive, By: "x", Incarnation: 3, Confirmations: 1, SuspectFor: time.Second,
	}, change())
	c.hearSuspect("x", 3, "a")
	c.fx.events = nil
	c.pass(time.Minute)
	require.Equal(t, Change{
		From: StateSuspect, To: StateDead, By: "me", Incarnation: 3, SuspectFor: 24 * time.Second,
	}, change())
	c.hearAlive("x", 4)
	require.Equal(t, Change{From: StateDead, To: StateAlive, By: "x", Incarnation: 4}, change(), "not new")
	c.hearDead("x", 4, "x")
	require.Equal(t, Change{From: StateAlive, To: StateLeft, By: "x", Incarnation: 4}, change())
}

// Reasons that nobody wants to hear are not made up.
func TestReasonsAreToldOnlyWhereTheyAreHeard(t *testing.T) {
	c := newTestCore(t)
	c.noReasons = true
	c.hearAlive("x", 1)
	c.hearSuspect("x", 1, "a")
	c.hearDead("x", 1, "a")
	for _, e := range c.fx.events {
		require.Nil(t, e.change)
	}
	require.Equal(t, []string{"join x", "leave x"}, c.events())
	c.noEvents = true
	c.hearAlive("x", 2)
	require.Empty(t, c.fx.events)
}

// Messages that share memory do not share bytes, whatever their size.
func TestBroadcastsKeepTheirBytes(t *testing.T) {
	c := newTestCore(t)
	var want []string
	for i := range 100 {
		a := aliveOf(fmt.Sprintf("x%03d", i), 1, withMeta(strings.Repeat("m", 7*i)))
		raw := a.appendTo(nil)
		want = append(want, string(raw))
		c.alive(c.now, a, [][]byte{raw, nil}[i%2])
		clear(raw)
	}
	var got []string
	for _, msg := range c.gossip.queue.GetBroadcasts(0, 1<<20) {
		got = append(got, string(msg))
		_ = append(msg, "more than fits"...)
	}
	require.ElementsMatch(t, want, got)
}

// A list with many strangers finds room for all of them, one without makes none (P114).
func TestRoomForAListIsMadeAtOnce(t *testing.T) {
	c := newTestCore(t)
	list := make([]pushNodeState, 1000)
	for i := range list {
		a := aliveOf(fmt.Sprint("x", i), 1)
		list[i] = pushNodeState{Name: a.Node, Addr: a.Addr, Port: a.Port, Incarnation: 1, Vsn: a.Vsn}
	}
	for i := 0; i < len(list); i += 2 {
		list[i].State = StateDead
	}
	c.merge(c.now, list)
	require.Equal(t, 501, len(c.table.order))
	require.Less(t, cap(c.table.order), 700)
	require.Less(t, cap(c.fx.events), 700)
	c.settle()
	require.LessOrEqual(t, testing.AllocsPerRun(10, func() { c.merge(c.now, list) }), 1.0)
	require.Zero(t, cap(c.fx.events)/100)
}

// ---- snapshots

// What was published of a node stays as it was, whatever happens to the node (P34).
func TestPublishedNodesNeverChange(t *testing.T) {
	c := newTestCore(t)
	var published []*Node
	var copies []Node
	note := func() {
		n := c.table.get("x").node
		published = append(published, n)
		copies = append(copies, *copyOfNode(n))
	}
	steps := []func(){
		func() { c.hearAlive("x", 1, withMeta("a")) },
		func() { c.hearSuspect("x", 1, "a") },
		func() { c.hearAlive("x", 2, withMeta("b"), withPMax(4)) },
		func() { c.hearDead("x", 2, "x") },
		func() { c.hearAlive("x", 3, withPort(99)) },
		func() { c.hearDead("x", 3, "a") },
	}
	for _, step := range steps {
		step()
		note()
	}
	for i := range published {
		require.Equal(t, copies[i], *published[i], "step %d", i)
	}
}

// The event of a change shows the node as the change left it, and the broadcast
// about it is queued by then (P126).
func TestBroadcastComesBeforeTheEvent(t *testing.T) {
	c := newTestCore(t)
	c.hearAlive("x", 1, withMeta("m"))
	require.Equal(t, 1, c.gossip.queue.NumQueued())
	require.Equal(t, "m", string(c.fx.events[0].node.Meta))
	require.Equal(t, StateAlive, c.fx.events[0].node.State)
}
