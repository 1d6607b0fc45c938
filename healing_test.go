package memberlist

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// quietDetector is a core with every part of the detector and no rhythm but that of
// reconnecting.
func quietDetector(t testing.TB, changes ...func(*Config)) *testCore {
	t.Helper()
	return newDetectorCore(t, append([]func(*Config){func(cfg *Config) {
		cfg.GossipInterval, cfg.PushPullInterval, cfg.QueueCheckInterval = 0, 0, 0
	}}, changes...)...)
}

// lookFor lets time go by in which only lost nodes are looked for, and returns when
// each of them was pinged.
func (c *testCore) lookFor(d time.Duration) map[string][]instant {
	c.t.Helper()
	found := map[string][]instant{}
	for end := c.now.add(d); c.healing.nextReconnect <= end; {
		c.now = max(c.now, c.healing.nextReconnect)
		c.healing.reconnectDue(c.now)
		require.LessOrEqual(c.t, len(c.fx.packets), 1)
		for _, p := range c.fx.packets {
			require.Equal(c.t, "ping "+p.to.name, inWords(c.t, p.msg), "by name")
			require.Equal(c.t, p.to.node.Address(), p.to.addr.String())
			found[p.to.name] = append(found[p.to.name], c.now)
		}
		c.fx.packets = nil
	}
	return found
}

// searchNow makes all lost nodes due.
func (c *testCore) searchNow() {
	c.healing.nextReconnect = c.now
	for _, lost := range c.healing.lost.order {
		lost.due = c.now
	}
}

// die makes nodes known and dead.
func (c *testCore) die(names ...string) {
	for _, name := range names {
		c.hearAlive(name, 1)
		c.hearDead(name, 1, "a")
	}
	c.settle()
}

// Nodes that died are looked for, also when the table has long forgotten them. Those
// that left are not, whenever that became known (P184).
func TestReconnectLooksForTheDeadAndNotForThoseThatLeft(t *testing.T) {
	reaped := func(c *testCore) { c.pass(time.Hour); c.reap(c.now) }
	for what, run := range map[string]struct {
		fate func(c *testCore)
		want bool
	}{
		"died":                    {func(c *testCore) { c.hearDead("x", 1, "a") }, true},
		"died and was reaped":     {func(c *testCore) { c.hearDead("x", 1, "a"); reaped(c) }, true},
		"alive":                   {func(c *testCore) {}, false},
		"suspected":               {func(c *testCore) { c.hearSuspect("x", 1, "a") }, false},
		"left":                    {func(c *testCore) { c.hearDead("x", 1, "x") }, false},
		"left and was reaped":     {func(c *testCore) { c.hearDead("x", 1, "x"); reaped(c) }, false},
		"died and came back":      {func(c *testCore) { c.hearDead("x", 1, "a"); c.hearAlive("x", 2) }, false},
		"died and is suspected":   {func(c *testCore) { c.hearDead("x", 1, "a"); c.hearSuspect("x", 2, "a") }, true},
		"died, but had left":      {func(c *testCore) { c.hearDead("x", 1, "a"); c.hearDead("x", 1, "x") }, false},
		"reaped, but had left":    {func(c *testCore) { c.hearDead("x", 1, "a"); reaped(c); c.hearDead("x", 1, "x") }, false},
		"reaped, and left before": {func(c *testCore) { c.hearAlive("x", 5); c.hearDead("x", 5, "a"); reaped(c); c.hearDead("x", 4, "x") }, true},
		"left, in a full exchange": {func(c *testCore) {
			c.hearDead("x", 1, "a")
			reaped(c)
			c.merge(c.now, []pushNodeState{{Name: borrow("x"), Incarnation: 1, State: StateLeft}})
		}, false},
		"moved to another address": {func(c *testCore) { c.hearAlive("x", 1, withPort(otherPort)); c.live(time.Second, nil) }, false},
		"dead, in a full exchange": {func(c *testCore) {
			c.hearDead("x", 1, "a")
			c.merge(c.now, []pushNodeState{{Name: borrow("x"), Incarnation: 1, State: StateDead}})
		}, true},
		"left, then declared dead":  {func(c *testCore) { c.hearDead("x", 1, "x"); c.hearDead("x", 1, "a") }, false},
		"reaped, came, died anew":   {func(c *testCore) { c.hearDead("x", 1, "a"); reaped(c); c.hearAlive("x", 2); c.hearDead("x", 2, "a") }, true},
		"reaped, and old news came": {func(c *testCore) { c.hearDead("x", 1, "a"); reaped(c); c.hearAlive("x", 1) }, true},
	} {
		t.Run(what, func(t *testing.T) {
			c := quietDetector(t)
			c.know("x", "a", "b")
			run.fate(c)
			c.settle()
			c.healing.nextReconnect = c.now
			found := c.lookFor(10 * time.Minute)
			require.Equal(t, run.want, len(found["x"]) > 0)
		})
	}
}

// A lost node is due every two probe intervals, later on every 240th part of the time since
// its death, and at least once in ReconnectInterval. The members share the work (P185).
func TestSearchSlowsDownWithTheTimeSinceTheDeath(t *testing.T) {
	for _, run := range []struct {
		others    int
		age, want time.Duration
	}{
		{0, 0, 2 * time.Second},
		{0, 8 * time.Minute, 2 * time.Second},
		{0, time.Hour, 15 * time.Second},
		{0, 2 * time.Hour, 30 * time.Second},
		{0, 24 * time.Hour, 30 * time.Second},
		{1, 2 * time.Minute, 4 * time.Second},
		{1, time.Hour, 30 * time.Second},
		{4, 10 * time.Minute, 12500 * time.Millisecond},
		{14, 0, 30 * time.Second},
		{500, 0, 30 * time.Second},
	} {
		c := quietDetector(t)
		c.know(nodeNames("n", run.others)...)
		c.die("x")
		require.Equal(t, run.want, c.healing.searchPeriod(c.now.add(run.age), c.healing.lost.byName["x"]), "%+v", run)
	}
	for interval, want := range map[time.Duration]time.Duration{0: 30 * time.Second, -1: 30 * time.Second, time.Hour: 30 * time.Second, math.MaxInt64: 30 * time.Second, 5 * time.Second: 10 * time.Second} {
		c := quietDetector(t, func(cfg *Config) { cfg.ProbeInterval = interval })
		c.die("x")
		require.Equal(t, want, c.healing.searchPeriod(c.now, c.healing.lost.byName["x"]), "probes each %v", interval)
	}
}

// Each has its turn, and all together not more than one in a probe interval. The times are
// jittered (P185).
func TestReconnectRate(t *testing.T) {
	for _, lost := range []int{1, 2, 3, 10, 30, 300} {
		c := quietDetector(t)
		c.know("a")
		names := nodeNames("n", lost)
		c.die(names...)
		round := max(time.Duration(lost)*time.Second, 4*time.Second)
		c.searchNow()
		const rounds = 10
		found := c.lookFor(rounds * round)
		var all []instant
		distinct := map[time.Duration]bool{}
		for _, name := range names {
			require.InDelta(t, rounds, len(found[name]), 3, "%d lost: each has its turn", lost)
			all = append(all, found[name]...)
		}
		slices.Sort(all)
		for i := 1; i < len(all); i++ {
			gap := all[i].sub(all[i-1])
			require.GreaterOrEqual(t, gap, 900*time.Millisecond, "%d lost", lost)
			distinct[gap] = true
		}
		require.Greater(t, len(distinct), 5, "jittered")
	}
}

// Looking for one that is gone for good costs a node no more than looking for it every half
// minute would, and an eighth.
func TestSearchForOneThatIsGoneForGoodIsCheap(t *testing.T) {
	c := quietDetector(t)
	c.die("x")
	c.searchNow()
	pings := len(c.lookFor(24 * time.Hour)["x"])
	require.InDelta(t, 3550, pings, 150)
}

// The pause is an interval where probes are rarer than that, and hardly one without probes.
func TestReconnectPauseFollowsTheProbes(t *testing.T) {
	for interval, want := range map[time.Duration]time.Duration{
		time.Second: time.Second, time.Hour: 30 * time.Second, 0: time.Millisecond,
	} {
		c := quietDetector(t, func(cfg *Config) { cfg.ProbeInterval = interval })
		require.Equal(t, want, c.healing.reconnectDelay())
	}
}

// When many are lost at once the search begins at once, and no faster than it goes on.
func TestReconnectBeginsSoonAfterManyWereLost(t *testing.T) {
	c := quietDetector(t)
	c.know("a")
	c.start(c.now)
	c.live(time.Minute, c.othersThan())
	c.die("one")
	require.LessOrEqual(t, c.healing.nextReconnect.sub(c.now), 4*time.Second)
	names := nodeNames("n", 100)
	c.die(names...)
	var pings []instant
	for i := range 60 {
		c.live(time.Second, func(p outPacket) {
			if p.to.name == "a" {
				c.ack(c.now, &ack{SeqNo: p.seq}, c.now)
				return
			}
			pings = append(pings, c.now)
		})
		if i%5 == 0 {
			c.die(fmt.Sprint("more", i)) // hurries nothing
		}
	}
	require.InDelta(t, 60, len(pings), 6)
	for i := 1; i < len(pings); i++ {
		gap := pings[i].sub(pings[i-1])
		require.GreaterOrEqual(t, gap, 900*time.Millisecond)
		require.LessOrEqual(t, gap, 1100*time.Millisecond)
	}
}

// The order is another one on each node, so that not all look for the same one (P185).
func TestReconnectOrderIsRandom(t *testing.T) {
	firsts := map[string]int{}
	for seed := range uint64(200) {
		var l lostNodes
		rng := rand.New(rand.NewPCG(seed, 1))
		for i := range 10 {
			l.add(rng, lostNode{node: &Node{Name: strconv.Itoa(i)}, incarnation: 1, since: 0})
		}
		firsts[l.order[0].node.Name]++
	}
	require.Len(t, firsts, 10)
	for name, n := range firsts {
		require.InDelta(t, 20, n, 15, name)
	}
}

// Whatever is added and removed meanwhile, each of the lost nodes has its turn once in
// a pass.
func TestReconnectPassesAreFair(t *testing.T) {
	c := quietDetector(t)
	l := &c.healing.lost
	node := func(i int) *Node { return &Node{Name: fmt.Sprint(i)} }
	for i := range 50 {
		l.add(c.rng, lostNode{node: node(i), incarnation: 1, since: c.now})
	}
	asked := map[string]int{}
	for i := range 200 {
		if lost := c.healing.nextLostNode(c.now); lost != nil {
			asked[lost.node.Name]++
		}
		switch {
		case i%4 == 0:
			l.add(c.rng, lostNode{node: node(100 + i), incarnation: 1, since: c.now})
		case i%4 == 2:
			l.remove(l.order[c.rng.IntN(len(l.order))].node.Name)
		}
		require.Len(t, l.byName, len(l.order))
		for place, lost := range l.order {
			require.Equal(t, place, lost.place)
			require.Same(t, lost, l.byName[lost.node.Name])
		}
		require.LessOrEqual(t, l.next, len(l.order))
	}
	tried := map[string]bool{}
	for l.next < len(l.order) { // to the end of the pass
		c.healing.nextLostNode(c.now)
	}
	for range l.order {
		name := c.healing.nextLostNode(c.now).node.Name
		require.False(t, tried[name], "nobody twice")
		tried[name] = true
	}
	require.Len(t, tried, len(l.order))
}

// At most 4096 are remembered (P184).
func TestReconnectMemoryIsBounded(t *testing.T) {
	var l lostNodes
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range maxLost + 10 {
		l.add(rng, lostNode{node: &Node{Name: strconv.Itoa(i)}, incarnation: 1, since: 0})
	}
	require.Len(t, l.order, 4096)
	require.Len(t, l.byName, 4096)
	require.Len(t, l.neverAnswered, 4096)
	known := l.order[0].node.Name
	l.add(rng, lostNode{node: &Node{Name: known, Port: 7}, incarnation: 2, since: 5})
	require.Equal(t, uint16(7), l.byName[known].node.Port, "one that is known is renewed")
	l.remove(known)
	l.remove(known)
	l.remove("never")
	l.add(rng, lostNode{node: &Node{Name: "new"}})
	require.NotNil(t, l.byName["new"])
	require.Len(t, l.order, 4096)
}

// They are remembered for ReconnectTimeout after their death; without one until they
// leave the table (P184).
func TestReconnectGivesUpInTheEnd(t *testing.T) {
	for _, run := range []struct {
		timeout, looks time.Duration
	}{
		{24 * time.Hour, 24 * time.Hour},
		{time.Minute, time.Minute},
		{0, 30 * time.Second},
		{-1, 30 * time.Second},
	} {
		c := quietDetector(t, func(cfg *Config) { cfg.ReconnectTimeout = run.timeout })
		c.know("a")
		c.die("x", "y")
		died := c.now
		c.now = died.add(run.looks)
		require.NotNil(t, c.healing.nextLostNode(c.now), "%v", run.timeout)
		c.now++
		require.Nil(t, c.healing.nextLostNode(c.now), "%v", run.timeout)
		require.Empty(t, c.healing.lost.order)
	}
}

// Without a ReconnectInterval nothing is remembered, asked or tried (P185).
func TestReconnectIsOffWithoutAnInterval(t *testing.T) {
	c := quietDetector(t, func(cfg *Config) {
		cfg.ReconnectInterval, cfg.RejoinInterval, cfg.Seeds = 0, 0, []string{"seed"}
	})
	c.know("a")
	c.start(c.now)
	c.die(nodeNames("n", 100)...)
	c.hearDead("a", 1, "b")
	require.Empty(t, c.healing.lost.order)
	for range 1000 {
		c.now = c.now.add(time.Second)
		c.tick(c.now)
		require.Empty(t, c.fx.packets)
		require.Empty(t, c.fx.streams)
	}
}

// A lost node that answers gets a full exchange, and is a member when it refutes (P186).
func TestReconnectAnswerLeadsToAFullExchange(t *testing.T) {
	c := quietDetector(t)
	c.know("a")
	c.die("x")
	c.searchNow()
	c.healing.reconnectDue(c.now)
	p := c.pendingFor("searchPing", "x")
	require.NotNil(t, p)
	require.Empty(t, c.syncs())
	c.answer(p)
	require.Equal(t, []string{"x"}, c.syncs())
	require.Equal(t, "dead@1", c.view("x"), "the answer alone is no refutation")
	c.answer(p)
	require.Empty(t, c.syncs(), "it counts once")
	c.hearAlive("x", 2)
	require.Empty(t, c.healing.lost.order)
}

// Without an answer nothing happens, and the ping is forgotten.
func TestReconnectWithoutAnswerChangesNothing(t *testing.T) {
	c := quietDetector(t)
	c.know("a")
	c.die("x")
	c.searchNow()
	c.healing.reconnectDue(c.now)
	c.settle()
	c.pass(time.Second)
	require.Empty(t, c.pings.pending)
	require.Empty(t, c.fx.streams)
	require.Zero(t, c.health.score)
}

// Those that come back exchange state with about three members, one each at most; all who
// lost many do. It happens within a probe interval, once however many came back (P187).
func TestThoseThatComeBackExchangeState(t *testing.T) {
	visits := func(others, lost int, changes ...func(*Config)) (n int) {
		for seed := range uint64(100) {
			c := quietDetector(t, changes...)
			c.rng = rand.New(rand.NewPCG(seed, 1))
			c.know(nodeNames("n", others)...)
			names := nodeNames("x", lost)
			c.die(names...)
			for _, name := range names {
				c.hearAlive(name, 2)
			}
			c.pass(time.Second)
			visited := c.syncs()
			require.LessOrEqual(t, len(visited), 1)
			for _, name := range visited {
				require.Contains(t, names, name)
			}
			n += len(visited)
		}
		return n
	}
	require.Equal(t, 100, visits(0, 1))
	require.Equal(t, 100, visits(1, 1))
	require.Equal(t, 100, visits(11, 12))
	require.InDelta(t, 12, visits(23, 1), 8)
	require.InDelta(t, 1, visits(299, 1), 3)
	require.Zero(t, visits(2, 1, func(cfg *Config) { cfg.NodeSelection = selectFunc(nil) }), "it decides on partners")

	c := quietDetector(t)
	c.know("a", "left")
	c.hearDead("left", 1, "left")
	c.hearAlive("left", 2)
	c.hearSuspect("a", 1, "me")
	c.hearAlive("a", 2)
	c.hearAlive("new", 1)
	c.pass(time.Second)
	require.Empty(t, c.syncs(), "none of them was lost")

	c.die("x")
	c.hearAlive("x", 2)
	c.hearDead("x", 2, "a")
	c.pass(time.Second)
	require.Empty(t, c.syncs(), "it is gone again")
}

// A node on its way out looks for nobody, and one that came back does again.
func TestReconnectEndsWithLeave(t *testing.T) {
	c := quietDetector(t, func(cfg *Config) { cfg.Seeds = []string{"seed"} })
	c.know("a")
	c.die("x")
	c.searchNow()
	c.healing.reconnectDue(c.now)
	p := c.pendingFor("searchPing", "x")
	c.leave(c.now)
	c.settle()
	c.answer(p)
	require.Empty(t, c.syncs())
	require.Empty(t, c.lookFor(10*time.Minute))
	require.Empty(t, c.syncs())
	c.announceSelf(c.now, addrOfTestNode("me"), 7946, nil, nil)
	require.NotEmpty(t, c.lookFor(10 * time.Minute)["x"])
}

// seedsForFew are seeds that are not contacted all the time.
func seedsForFew(cfg *Config) { cfg.Seeds, cfg.RejoinInterval = []string{"seed"}, 0 }

// Without a RejoinInterval seeds are tried by a node that is alone, and by one that has at most two others left
// and has lost more than that. Others leave them in peace: healthy clusters of any
// size, small ones that lost their smaller part, and large ones (P189).
func TestSeedsAreTriedWhenFewAreLeft(t *testing.T) {
	for _, run := range []struct {
		others, lost int
		want         bool
	}{
		{0, 0, true}, {0, 1, true}, {0, 100, true},
		{1, 0, false}, {1, 1, false}, {1, 2, true}, {1, 100, true},
		{2, 0, false}, {2, 1, false}, {2, 2, false}, {2, 3, true}, {2, 100, true},
		{3, 0, false}, {3, 2, false}, {3, 4, false}, {3, 100, false},
		{50, 0, false}, {50, 100, false},
	} {
		c := quietDetector(t, seedsForFew)
		c.know(nodeNames("alive", run.others)...)
		c.die(nodeNames("dead", run.lost)...)
		c.healing.nextReconnect = c.now
		c.healing.reconnectDue(c.now)
		require.Equal(t, run.want, len(c.syncs()) > 0, "%+v", run)
	}
	c := quietDetector(t)
	c.healing.nextReconnect = c.now
	c.healing.reconnectDue(c.now)
	require.Empty(t, c.syncs(), "there are none")
}

// With one they are contacted whoever is there, at that interval alone if it is no longer
// than ReconnectInterval (P188).
func TestSeedsAreContactedEachRejoinInterval(t *testing.T) {
	for _, run := range []struct {
		others, lost int
		interval     time.Duration
		want         int // in an hour
	}{
		{0, 0, 30 * time.Second, 120}, {0, 10, 30 * time.Second, 120}, {50, 0, 30 * time.Second, 120}, {50, 0, time.Minute, 60},
		{0, 0, 10 * time.Minute, 126}, {50, 0, 0, 0},
	} {
		c := quietDetector(t, func(cfg *Config) {
			cfg.Seeds, cfg.RejoinInterval, cfg.ProbeInterval = []string{"seed"}, run.interval, 0
		})
		c.know(nodeNames("alive", run.others)...)
		c.die(nodeNames("dead", run.lost)...)
		c.start(c.now)
		tries := 0
		for range 3600 {
			c.pass(time.Second)
			tries += len(c.syncs())
			c.healing.seeding = false // the attempt has ended
		}
		require.InDelta(t, run.want, tries, float64(run.want)/12, "%+v", run)
	}
}

// Those that left are not missed.
func TestSeedsAreNotTriedForThoseThatLeft(t *testing.T) {
	c := quietDetector(t, func(cfg *Config) { cfg.Seeds = []string{"seed"} })
	c.know("a", "x", "y", "z")
	for _, name := range []string{"x", "y", "z"} {
		c.hearDead(name, 1, name)
	}
	c.lookFor(10 * time.Minute)
	require.Empty(t, c.syncs())
}

// They are tried once in ReconnectInterval, however many nodes were lost, and not
// while an attempt lasts (P189).
func TestSeedsAreTriedOncePerInterval(t *testing.T) {
	for _, lost := range []int{0, 1, 100} {
		c := quietDetector(t, seedsForFew)
		c.die(nodeNames("n", lost)...)
		c.healing.nextReconnect = c.now
		var tries []instant
		for end := c.now.add(10 * time.Minute); c.now < end; {
			c.now = max(c.healing.nextReconnect, c.now)
			c.healing.reconnectDue(c.now)
			if len(c.syncs()) > 0 {
				tries = append(tries, c.now)
				c.healing.seeding = false // the attempt has ended
			}
		}
		require.InDelta(t, 20, len(tries), 3, "%d lost", lost)
		for i := 1; i < len(tries); i++ {
			require.GreaterOrEqual(t, tries[i].sub(tries[i-1]), 27*time.Second)
			require.LessOrEqual(t, tries[i].sub(tries[i-1]), 33*time.Second)
		}
	}
	c := quietDetector(t, seedsForFew)
	c.healing.nextReconnect = c.now
	c.healing.reconnectDue(c.now)
	require.Len(t, c.syncs(), 1)
	c.lookFor(time.Hour)
	require.Empty(t, c.syncs(), "the first attempt has not ended")
}

// Made-up names that are declared dead do not push a real node out of the memory, nor
// keep one out that dies later: who answered once has precedence.
func TestMadeUpNodesDoNotEndTheSearchForARealOne(t *testing.T) {
	for _, when := range []string{"before", "after", "both"} {
		c := quietDetector(t)
		c.know("real", "a")
		c.roundTrip("real", c.now)
		if when != "before" {
			c.hearDead("real", 1, "a")
		}
		if when == "both" {
			c.pass(time.Hour)
			c.reap(c.now)
		}
		c.die(nodeNames("made-up", 2*maxLost)...)
		c.hearDead("real", 1, "a")
		require.Len(t, c.healing.lost.order, maxLost)
		for _, lost := range slices.Clone(c.healing.lost.order) {
			if lost.node.Name != "real" {
				c.healing.lost.remove(lost.node.Name) // waiting for its turn takes an hour
			}
		}
		c.settle()
		c.healing.nextReconnect = c.now
		require.NotEmpty(t, c.lookFor(time.Minute)["real"], when)
	}
}

// Among those that never answered it is chance who stays, so that nobody can fill the
// memory first (P184).
func TestLostNodesThatNeverAnsweredReplaceEachOtherAtRandom(t *testing.T) {
	var l lostNodes
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 3 * maxLost {
		l.add(rng, lostNode{node: &Node{Name: strconv.Itoa(i)}})
	}
	require.Len(t, l.order, maxLost)
	third := [3]int{}
	for i := range 3 * maxLost {
		if l.byName[strconv.Itoa(i)] != nil {
			third[i/maxLost]++
		}
	}
	e := math.Exp(-1) // what is left of 4096 after 4096 were replaced at random
	for i, share := range []float64{e * e, e * (1 - e), 1 - e} {
		require.InDelta(t, share*maxLost, third[i], 150)
	}
}

// The two lists of the memory agree, whatever happens.
func TestLostNodesKnowWhoNeverAnswered(t *testing.T) {
	var l lostNodes
	rng := rand.New(rand.NewPCG(2, 2))
	for range 20000 {
		name := strconv.Itoa(rng.IntN(maxLost * 5 / 4))
		if rng.IntN(8) == 0 {
			l.remove(name)
		} else {
			l.add(rng, lostNode{node: &Node{Name: name}, hasAnswered: rng.IntN(3) == 0})
		}
	}
	unheard := 0
	for place, lost := range l.order {
		require.Equal(t, place, lost.place)
		require.Same(t, lost, l.byName[lost.node.Name])
		if !lost.hasAnswered {
			unheard++
			require.Same(t, lost, l.neverAnswered[lost.rank])
		}
	}
	require.Len(t, l.byName, len(l.order))
	require.Len(t, l.neverAnswered, unheard)
	require.NotZero(t, unheard)
}

// When all have answered, a new one is left out, whoever it is (P184).
func TestLostNodesThatAnsweredStay(t *testing.T) {
	var l lostNodes
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range maxLost {
		l.add(rng, lostNode{node: &Node{Name: strconv.Itoa(i)}, hasAnswered: true})
	}
	for _, heard := range []bool{false, true} {
		l.add(rng, lostNode{node: &Node{Name: "new"}, hasAnswered: heard})
		require.Len(t, l.order, maxLost)
		require.Nil(t, l.byName["new"])
	}
}

// A lost node is not looked for at an address where a member of another name lives:
// that would warn of each ping. It is again when that one is gone, or has moved (P185).
func TestLostNodesAreNotLookedForWhereAMemberLives(t *testing.T) {
	for what, run := range map[string]struct {
		happens func(c *testCore)
		want    bool
	}{
		"an answering member":       {func(c *testCore) { c.roundTrip("y", c.now) }, false},
		"one that never answered":   {func(c *testCore) {}, true},
		"a suspect":                 {func(c *testCore) { c.roundTrip("y", c.now); c.hearSuspect("y", 1, "a") }, false},
		"one that died":             {func(c *testCore) { c.roundTrip("y", c.now); c.lookFor(time.Minute); c.hearDead("y", 1, "a") }, true},
		"one that left":             {func(c *testCore) { c.roundTrip("y", c.now); c.hearDead("y", 1, "y") }, true},
		"the lost one as a suspect": {func(c *testCore) { c.roundTrip("x", c.now); c.hearDead("y", 1, "y"); c.hearSuspect("x", 2, "a") }, true},
		"one at another port":       {func(c *testCore) { c.roundTrip("y", c.now); c.hearDead("y", 1, "y"); c.hearAlive("y", 2, withPort(1)) }, true},
		"this node": {func(c *testCore) {
			c.hearDead("y", 1, "y")
			c.self.node = newNode("me", addrOfTestNode("x"), 7946, nil, nil, StateAlive)
		}, false},
	} {
		c := quietDetector(t)
		c.know("x", "a")
		c.hearDead("x", 1, "a")
		c.hearAlive("y", 1, func(a *alive) { a.Addr = addrOfTestNode("x").To16() })
		run.happens(c)
		c.settle()
		c.healing.nextReconnect = c.now
		require.Equal(t, run.want, len(c.lookFor(10 * time.Minute)["x"]) > 0, what)
		c.settle()
		require.Equal(t, what == "one that died", len(c.lookFor(10 * time.Minute)["y"]) > 0, what)
	}
}

// Lost nodes whose address is taken do not use up the turns of the others.
func TestLostNodesWhoseAddressIsTakenArePassedOver(t *testing.T) {
	c := quietDetector(t)
	c.know("real", "successor", "a")
	c.roundTrip("successor", c.now)
	c.hearDead("real", 1, "a")
	for _, name := range nodeNames("life", 100) {
		c.hearAlive(name, 1, func(a *alive) { a.Addr = addrOfTestNode("successor") })
		c.hearDead(name, 1, "a")
	}
	c.settle()
	c.healing.nextReconnect = c.now
	found := c.lookFor(10 * time.Minute)
	require.Len(t, found, 1)
	require.Greater(t, len(found["real"]), 20)
}

// A process that is started again and again at one address under fresh names is not
// warned of pings for its former names.
func TestFreshNamesAtOneAddressCauseNoWarnings(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		c.grow(3, byAddress)
		lines := new(logLines)
		for i := range 4 {
			c.restartAs(2, fmt.Sprint("life", i), byAddress, func(cfg *Config) { cfg.LogOutput = lines })
			joinNode(t, c.nodes[2], c.nodes[0])
			within(t, time.Minute, "the former name is gone", func() bool {
				return c.nodes[0].NumMembers() == 3 && c.nodes[1].NumMembers() == 3
			})
		}
		time.Sleep(c.nodes[0].config.GossipToTheDeadTime)
		before := len(lines.with("unexpected node"))
		time.Sleep(time.Hour)
		require.Len(t, lines.with("unexpected node"), before)
		require.True(t, inPlace(c.nodes))
	})
}
