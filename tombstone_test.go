package memberlist

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// buried makes a node known, gone in a way, and reaped.
func (c *testCore) buried(name string, incarnation uint32, by string) {
	c.t.Helper()
	c.hearAlive(name, incarnation)
	c.hearDead(name, incarnation, by)
	c.pass(c.cfg.GossipToTheDeadTime + 1)
	c.reap(c.now)
	require.Equal(c.t, "unknown", c.view(name))
	c.settle()
}

// Late gossip does not raise a node that was reaped; its own new life does (P165).
func TestTombstonesKeepTheReapedDown(t *testing.T) {
	for what, run := range map[string]struct {
		by     string
		says   uint32
		change func(*Config)
		want   string
		events []string
	}{
		"old news of the dead":     {by: "a", says: 2, want: "dead@3"},
		"last news of the dead":    {by: "a", says: 3, want: "dead@3"},
		"a new life of the dead":   {by: "a", says: 4, want: "alive@4", events: []string{"join x"}},
		"old news of one who left": {by: "x", says: 3, want: "left@3"},
		"back after leaving":       {by: "x", says: 4, want: "alive@4", events: []string{"join x"}},
		"without tombstones":       {by: "a", says: 2, change: without(func(d *detectorSwitches) { d.noTombstones = true }), want: "alive@2", events: []string{"join x"}},
	} {
		t.Run(what, func(t *testing.T) {
			c := newDetectorCore(t, func(cfg *Config) {
				if run.change != nil {
					run.change(cfg)
				}
			})
			c.know("a")
			c.buried("x", 3, run.by)
			c.hearAlive("x", run.says)
			require.Equal(t, run.want, c.view("x"))
			require.Equal(t, run.events, c.events())
			if run.events == nil {
				require.Empty(t, c.broadcasts(), "the old news is not gossiped on")
				c.hearAlive("x", run.says)
				require.Equal(t, run.want, c.view("x"), "nor believed the next time")
				c.buried("x", 1, run.by) // the record that keeps it down goes like any other
				c.hearAlive("x", run.says)
				require.Equal(t, run.want, c.view("x"))
			}
		})
	}
}

// They last as long as lost nodes are looked for, and no longer (P165).
func TestTombstonesAreBoundedInTime(t *testing.T) {
	for _, run := range []struct {
		after time.Duration
		want  string
	}{
		{24 * time.Hour, "dead@3"},
		{24*time.Hour + 1, "alive@3"},
	} {
		c := newDetectorCore(t)
		c.know("a")
		c.buried("x", 3, "a")
		c.pass(run.after)
		c.hearAlive("x", 3)
		require.Equal(t, run.want, c.view("x"), "%v", run.after)
	}
}

// There are at most 4096 of them; the oldest go first (P165).
func TestTombstonesAreBoundedInNumber(t *testing.T) {
	c := newDetectorCore(t)
	names := nodeNames("n", maxTombstones+100)
	for _, name := range names {
		c.hearAlive(name, 1)
		c.hearDead(name, 1, "a")
		c.pass(time.Microsecond)
	}
	c.pass(c.cfg.GossipToTheDeadTime + 1)
	c.reap(c.now)
	require.Len(t, c.table.order, 1)
	require.Len(t, c.verdicts.tombstones.byName, maxTombstones)
	require.Len(t, c.verdicts.tombstones.order, maxTombstones)
	dead := 0
	for _, name := range names {
		c.hearAlive(name, 1)
		if c.view(name) == "dead@1" {
			dead++
		}
	}
	require.Equal(t, maxTombstones, dead)
}

// A member that is not gone is never reaped, and leaves no tombstone.
func TestTombstonesAreForTheReaped(t *testing.T) {
	c := newDetectorCore(t)
	c.know("alive", "suspect")
	c.pass(time.Hour)
	c.hearSuspect("suspect", 1, "alive")
	c.reap(c.now)
	require.Equal(t, []string{"alive@1", "suspect@1"}, c.views("alive", "suspect"))
	require.Empty(t, c.verdicts.tombstones.byName)
}
