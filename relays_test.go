package memberlist

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// relaysFor lets the relays for a target be chosen many times, and counts them.
func (c *testCore) relaysFor(target string, times int) map[string]int {
	counts := map[string]int{}
	for range times {
		chosen := c.indirect.chooseRelays(c.table.get(target))
		seen := map[string]bool{}
		for _, m := range chosen {
			require.False(c.t, seen[m.node.Name], "nobody is asked twice")
			seen[m.node.Name] = true
			counts[m.node.Name]++
		}
	}
	return counts
}

// Relays are drawn among those that answered last (P169).
func TestRelaysAreThoseThatAnsweredLast(t *testing.T) {
	for _, off := range []bool{false, true} {
		c := newDetectorCore(t, func(cfg *Config) { cfg.detector.noResponsiveRelays = off })
		c.know(nodeNames("n", 100)...)
		c.know("x")
		heard := nodeNames("n", 5)
		for _, name := range heard {
			c.roundTrip(name, c.now)
		}
		counts := c.relaysFor("x", 100)
		if off {
			require.Greater(t, len(counts), 50, "uniformly among all")
			continue
		}
		require.Len(t, counts, len(heard))
		for _, name := range heard {
			require.Greater(t, counts[name], 30, "each of them has its turn")
		}
	}
}

// Sixteen are remembered; who answered before them is one of many (P169).
func TestRelaysOfLongAgoAreForgotten(t *testing.T) {
	c := newDetectorCore(t)
	names := nodeNames("n", 40)
	c.know(names...)
	c.know("x")
	for _, name := range names {
		c.roundTrip(name, c.now)
	}
	counts := c.relaysFor("x", 300)
	require.Len(t, counts, 16)
	for _, name := range names[24:] {
		require.NotZero(t, counts[name])
	}
}

// Where too few answered, others fill up (P169).
func TestRelaysAreFilledUp(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d", "e")
	c.roundTrip("a", c.now)
	counts := c.relaysFor("x", 300)
	require.Equal(t, 300, counts["a"])
	for _, name := range []string{"b", "d", "e"} {
		require.InDelta(t, 200, counts[name], 75)
	}
}

// The target, this node, suspects and those that are gone are no relays, however
// lately they answered.
func TestRelaysAreAliveAndThirdNodes(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "suspect", "dead", "left", "old", "a")
	for _, name := range []string{"me", "x", "suspect", "dead", "left", "old", "a"} {
		c.roundTrip(name, c.now)
	}
	c.hearSuspect("suspect", 1, "a")
	c.hearDead("dead", 1, "a")
	c.hearDead("left", 1, "left")
	c.hearDead("old", 1, "a")
	forget(&c.table, c.table.get("old"))
	require.Equal(t, map[string]int{"a": 50}, c.relaysFor("x", 50))
}

// In a whole round, three of them are asked once.
func TestRelaysAreAskedOnceInARound(t *testing.T) {
	c := newDetectorCore(t)
	c.know(nodeNames("n", 50)...)
	c.know("x")
	for range 3 {
		for _, name := range []string{"n001", "n002", "n003"} {
			c.roundTrip(name, c.now)
		}
	}
	c.probe("x")
	c.pass(time.Second)
	require.Equal(t, []string{"n001", "n002", "n003"}, c.targets("indirect ping x nack"))
}
