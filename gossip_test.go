package memberlist

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// gossiped takes the names of the targets of gossip.
func (c *testCore) gossiped() []string {
	var list []string
	for _, n := range c.fx.gossip {
		list = append(list, n.Name)
	}
	c.fx.gossip = nil
	return list
}

// synced takes the names of the partners of full exchanges.
func (c *testCore) synced() []string {
	var list []string
	for _, s := range c.fx.streams {
		if s.kind == streamSync {
			list = append(list, s.node.Name)
		}
	}
	c.fx.streams = nil
	return list
}

func TestP69GossipGoesToMembersAndTheNewlyDead(t *testing.T) {
	c := newTestCore(t, func(cfg *Config) { cfg.GossipNodes = 100 })
	c.know("alive", "suspect", "dead", "longdead", "left")
	c.hearDead("longdead", 1, "a")
	c.pass(1)
	c.hearDead("dead", 1, "a")
	c.hearDead("left", 1, "left")
	c.hearSuspect("suspect", 1, "a")
	c.settle()
	c.now = c.now.add(c.cfg.GossipToTheDeadTime)
	c.broadcast("news", []byte("news"), nil)
	c.gossipDue(c.now)
	require.ElementsMatch(t, []string{"alive", "suspect", "dead"}, c.gossiped())
}

func TestP69GossipNodesLimitsTheTargets(t *testing.T) {
	c := newTestCore(t)
	c.know(nodeNames("n", 20)...)
	c.broadcast("news", []byte("news"), nil)
	seen := map[string]bool{}
	for range 200 {
		c.gossipDue(c.now)
		targets := c.gossiped()
		require.Len(t, targets, 3)
		require.Len(t, slices.Compact(sortedCopy(targets)), 3, "different ones")
		for _, name := range targets {
			seen[name] = true
		}
	}
	require.Len(t, seen, 20)
	require.NotContains(t, seen, "me")
}

func TestP70NothingToSayNoTargets(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.gossipDue(c.now)
	require.Empty(t, c.gossiped())
	c.cfg.Delegate = &hooks{}
	c.gossipDue(c.now)
	require.NotEmpty(t, c.gossiped(), "the delegate may have something")
}

func TestP41P42GossipRoundsComeEachInterval(t *testing.T) {
	c := newTestCore(t, func(cfg *Config) { cfg.ProbeInterval, cfg.PushPullInterval = 0, 0 })
	c.know("x")
	c.start(c.now)
	c.broadcast("news", []byte("news"), nil)
	rounds := 0
	last := c.now
	for c.now < instant(time.Hour).add(20*time.Second) {
		c.now = c.alarms.next()
		c.tick(c.now)
		if len(c.gossiped()) > 0 {
			require.LessOrEqual(t, c.now.sub(last), 220*time.Millisecond)
			last = c.now
			rounds++
		}
	}
	require.InDelta(t, 100, rounds, 5)
}

// ---- full exchanges

func TestP115PartnersAreAliveAndNotOneself(t *testing.T) {
	c := newTestCore(t)
	c.know("alive", "suspect", "dead", "left")
	c.hearDead("dead", 1, "a")
	c.hearDead("left", 1, "left")
	c.hearSuspect("suspect", 1, "a")
	found := 0
	for range 100 {
		c.syncDue(c.now)
		partners := c.synced()
		require.Equal(t, len(partners) > 0, c.syncing)
		require.Subset(t, []string{"alive"}, partners)
		found += len(partners)
		c.syncing = false
	}
	require.Greater(t, found, 80, "it is drawn nearly always (P71)")
	c.hearDead("alive", 1, "a")
	c.syncDue(c.now)
	require.Empty(t, c.synced())
	require.False(t, c.syncing)
}

func TestP115OneExchangeAtATime(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.syncDue(c.now)
	require.Len(t, c.synced(), 1)
	c.syncDue(c.now)
	require.Empty(t, c.synced())
	c.syncing = false
	c.syncDue(c.now)
	require.Len(t, c.synced(), 1)
}

// F1: with how many different nodes one exchange is made in each round.
func TestPushPullNodes(t *testing.T) {
	for configured, want := range map[int]int{0: 1, 1: 1, 3: 3, 100: 8} {
		c := newTestCore(t, func(cfg *Config) { cfg.PushPullNodes = configured })
		c.know(nodeNames("n", 8)...)
		c.syncDue(c.now)
		require.Len(t, slices.Compact(sortedCopy(c.synced())), want, "PushPullNodes %d", configured)
	}
}

// The wait is computed anew before each round, from all records in the table.
func TestP43P44WaitForTheNextExchangeGrowsWithTheTable(t *testing.T) {
	for _, row := range []struct {
		others int
		want   time.Duration
	}{
		{31, 30 * time.Second}, {32, 60 * time.Second}, {64, 90 * time.Second},
	} {
		c := newTestCore(t)
		c.know(nodeNames("n", row.others)...)
		for _, name := range nodeNames("n", row.others)[:20] {
			c.hearDead(name, 1, "a")
		}
		c.alarms = nil
		c.syncDue(c.now)
		require.InDelta(t, row.want, c.alarms.next().sub(c.now), float64(row.want)/10+1, "%d others", row.others)
	}
}

// F3: the selection is asked for gossip and for exchanges; the core only says
// that it is time.
func TestNodeSelectionIsLeftToTheShell(t *testing.T) {
	c := newTestCore(t, func(cfg *Config) { cfg.NodeSelection = everyNode{} })
	c.know("x")
	c.broadcast("news", []byte("news"), nil)
	c.gossipDue(c.now)
	require.Empty(t, c.gossiped())
	require.True(t, c.fx.gossipDue)
	c.syncDue(c.now)
	require.Equal(t, []streamTask{{kind: streamSync}}, c.fx.streams)
	require.True(t, c.syncing)
}

type everyNode struct{}

func (everyNode) SelectNodes(nodes []*NodeState) ([]*NodeState, *NodeState) { return nodes, nil }
