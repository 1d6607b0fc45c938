package memberlist

import (
	"fmt"
	"math/rand/v2"
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
	for end := c.now.add(d); c.nextReconnect <= end; {
		c.now = max(c.now, c.nextReconnect)
		c.reconnectDue(c.now)
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

// die makes nodes known and dead.
func (c *testCore) die(names ...string) {
	for _, name := range names {
		c.hearAlive(name, 1)
		c.hearDead(name, 1, "a")
	}
	c.settle()
}

// Nodes that died are looked for, also when the table has long forgotten them. Those
// that left are not, whenever that became known.
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
			c.nextReconnect = c.now
			found := c.lookFor(10 * time.Minute)
			require.Equal(t, run.want, len(found["x"]) > 0)
		})
	}
}

// Each is asked once in ReconnectInterval; all together not more than one in a probe
// interval. The times are jittered by a tenth.
func TestReconnectRate(t *testing.T) {
	for _, run := range []struct {
		lost  int
		pause time.Duration
	}{
		{1, 30 * time.Second}, {2, 15 * time.Second}, {10, 3 * time.Second}, {30, time.Second}, {300, time.Second},
	} {
		c := quietDetector(t)
		c.know("a")
		names := nodeNames("n", run.lost)
		c.die(names...)
		require.Equal(t, run.pause, c.reconnectPause())
		round := max(time.Duration(run.lost)*run.pause, c.cfg.ReconnectInterval)
		c.nextReconnect = c.now
		const rounds = 10
		found := c.lookFor(rounds * round)
		var all []instant
		distinct := map[time.Duration]bool{}
		for _, name := range names {
			times := found[name]
			require.InDelta(t, rounds, len(times), 2, "%d lost: each has its turn", run.lost)
			for i := 1; i < len(times); i++ {
				gap := times[i].sub(times[i-1])
				require.GreaterOrEqual(t, gap, round*9/10)
				require.LessOrEqual(t, gap, round*11/10)
				distinct[gap] = true
			}
			all = append(all, times...)
		}
		require.Greater(t, len(distinct), 5, "jittered")
		require.InDelta(t, rounds*round/run.pause, len(all), float64(rounds*run.lost)/5+2)
	}
}

// The interval is also the longest pause where probes are rarer than that.
func TestReconnectRateOfSlowProbes(t *testing.T) {
	c := quietDetector(t, func(cfg *Config) { cfg.ProbeInterval = time.Hour })
	require.Equal(t, c.cfg.ReconnectInterval, c.reconnectPause())
	c = quietDetector(t, func(cfg *Config) { cfg.ProbeInterval = 0 })
	c.die(nodeNames("n", 100)...)
	require.Equal(t, 300*time.Millisecond, c.reconnectPause())
}

// When many are lost at once the search begins at once, and no faster than it goes on.
func TestReconnectBeginsSoonAfterManyWereLost(t *testing.T) {
	c := quietDetector(t)
	c.know("a")
	c.start(c.now)
	c.live(time.Minute, c.othersThan())
	c.die("one")
	require.LessOrEqual(t, c.nextReconnect.sub(c.now), 33*time.Second)
	last := c.now
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
	for _, at := range pings {
		require.GreaterOrEqual(t, at.sub(last), 900*time.Millisecond)
		require.LessOrEqual(t, at.sub(last), 1100*time.Millisecond)
		last = at
	}
}

// The order is another one on each node, so that not all look for the same one.
func TestReconnectOrderIsRandom(t *testing.T) {
	firsts := map[string]int{}
	for seed := range uint64(200) {
		var l lostNodes
		rng := rand.New(rand.NewPCG(seed, 1))
		for i := range 10 {
			l.add(rng, &Node{Name: strconv.Itoa(i)}, 1, 0)
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
	l := &c.lost
	node := func(i int) *Node { return &Node{Name: fmt.Sprint(i)} }
	for i := range 50 {
		l.add(c.rng, node(i), 1, c.now)
	}
	asked := map[string]int{}
	for i := range 200 {
		if lost := c.nextLost(c.now); lost != nil {
			asked[lost.node.Name]++
		}
		switch {
		case i%4 == 0:
			l.add(c.rng, node(100+i), 1, c.now)
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
		c.nextLost(c.now)
	}
	for range l.order {
		name := c.nextLost(c.now).node.Name
		require.False(t, tried[name], "nobody twice")
		tried[name] = true
	}
	require.Len(t, tried, len(l.order))
}

// At most 4096 are remembered; further ones are not.
func TestReconnectMemoryIsBounded(t *testing.T) {
	var l lostNodes
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range maxLost + 10 {
		l.add(rng, &Node{Name: strconv.Itoa(i)}, 1, 0)
	}
	require.Len(t, l.order, 4096)
	require.Len(t, l.byName, 4096)
	require.Nil(t, l.byName["4096"])
	l.add(rng, &Node{Name: "7", Port: 7}, 2, 5)
	require.Equal(t, uint16(7), l.byName["7"].node.Port, "one that is known is renewed")
	l.remove("7")
	l.remove("7")
	l.remove("never")
	l.add(rng, &Node{Name: "4096"}, 1, 0)
	require.NotNil(t, l.byName["4096"])
}

// They are remembered for ReconnectTimeout after their death; without one until they
// leave the table.
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
		require.NotNil(t, c.nextLost(c.now), "%v", run.timeout)
		c.now++
		require.Nil(t, c.nextLost(c.now), "%v", run.timeout)
		require.Empty(t, c.lost.order)
	}
}

// Without a ReconnectInterval nothing is remembered, asked or tried.
func TestReconnectIsOffWithoutAnInterval(t *testing.T) {
	c := quietDetector(t, func(cfg *Config) {
		cfg.ReconnectInterval, cfg.Seeds = 0, []string{"seed"}
	})
	c.know("a")
	c.start(c.now)
	c.die(nodeNames("n", 100)...)
	c.hearDead("a", 1, "b")
	require.Empty(t, c.lost.order)
	for range 1000 {
		c.now = c.now.add(time.Second)
		c.tick(c.now)
		require.Empty(t, c.fx.packets)
		require.Empty(t, c.fx.streams)
	}
}

// A lost node that answers gets a full exchange, and is a member when it refutes.
func TestReconnectAnswerLeadsToAFullExchange(t *testing.T) {
	c := quietDetector(t)
	c.know("a")
	c.die("x")
	c.nextReconnect = c.now
	c.reconnectDue(c.now)
	p := c.pendingFor(pingLost, "x")
	require.NotNil(t, p)
	require.Empty(t, c.syncs())
	c.answer(p)
	require.Equal(t, []string{"x"}, c.syncs())
	require.Equal(t, "dead@1", c.view("x"), "the answer alone is no refutation")
	c.answer(p)
	require.Empty(t, c.syncs(), "it counts once")
	c.hearAlive("x", 2)
	require.Empty(t, c.lost.order)
}

// Without an answer nothing happens, and the ping is forgotten.
func TestReconnectWithoutAnswerChangesNothing(t *testing.T) {
	c := quietDetector(t)
	c.know("a")
	c.die("x")
	c.nextReconnect = c.now
	c.reconnectDue(c.now)
	c.settle()
	c.pass(time.Second)
	require.Empty(t, c.pings)
	require.Empty(t, c.fx.streams)
	require.Zero(t, c.health.score)
}

// A node on its way out looks for nobody, and one that came back does again.
func TestReconnectEndsWithLeave(t *testing.T) {
	c := quietDetector(t, func(cfg *Config) { cfg.Seeds = []string{"seed"} })
	c.know("a")
	c.die("x")
	c.nextReconnect = c.now
	c.reconnectDue(c.now)
	p := c.pendingFor(pingLost, "x")
	c.leave(c.now)
	c.settle()
	c.answer(p)
	require.Empty(t, c.syncs())
	require.Empty(t, c.lookFor(10*time.Minute))
	require.Empty(t, c.syncs())
	c.returning()
	require.NotEmpty(t, c.lookFor(10 * time.Minute)["x"])
}

// Seeds are tried by a node that is alone, and by one that has at most two others left
// and has lost more than that. Others leave them in peace: healthy clusters of any
// size, small ones that lost their smaller part, and large ones.
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
		c := quietDetector(t, func(cfg *Config) { cfg.Seeds = []string{"seed"} })
		c.know(nodeNames("alive", run.others)...)
		c.die(nodeNames("dead", run.lost)...)
		c.nextReconnect = c.now
		c.reconnectDue(c.now)
		require.Equal(t, run.want, len(c.syncs()) > 0, "%+v", run)
	}
	c := quietDetector(t)
	c.nextReconnect = c.now
	c.reconnectDue(c.now)
	require.Empty(t, c.syncs(), "there are none")
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
// while an attempt lasts.
func TestSeedsAreTriedOncePerInterval(t *testing.T) {
	for _, lost := range []int{0, 1, 100} {
		c := quietDetector(t, func(cfg *Config) { cfg.Seeds = []string{"seed"} })
		c.die(nodeNames("n", lost)...)
		c.nextReconnect = c.now
		var tries []instant
		for end := c.now.add(10 * time.Minute); c.now < end; {
			c.now = max(c.nextReconnect, c.now)
			c.reconnectDue(c.now)
			if len(c.syncs()) > 0 {
				tries = append(tries, c.now)
				c.seeding = false // the attempt has ended
			}
		}
		require.InDelta(t, 20, len(tries), 3, "%d lost", lost)
		for i := 1; i < len(tries); i++ {
			require.GreaterOrEqual(t, tries[i].sub(tries[i-1]), 27*time.Second)
			require.LessOrEqual(t, tries[i].sub(tries[i-1]), 33*time.Second)
		}
	}
	c := quietDetector(t, func(cfg *Config) { cfg.Seeds = []string{"seed"} })
	c.nextReconnect = c.now
	c.reconnectDue(c.now)
	require.Len(t, c.syncs(), 1)
	c.lookFor(time.Hour)
	require.Empty(t, c.syncs(), "the first attempt has not ended")
}
