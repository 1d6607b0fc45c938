package memberlist

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An accusation counts only if its author is a member in good standing, and has been
// so for as long as a suspicion takes at least. Else it is passed on to the accused,
// which refutes it (P175).
func TestWitnessesInGoodStandingCount(t *testing.T) {
	const long, short = 4 * time.Second, 4*time.Second - 1
	refutedAgo := func(ago time.Duration) func(c *testCore) {
		return func(c *testCore) {
			c.hearSuspect("w", 1, "a")
			c.hearAlive("w", 2)
			c.pass(ago)
		}
	}
	backAgo := func(ago time.Duration) func(c *testCore) {
		return func(c *testCore) {
			c.hearDead("w", 1, "a")
			c.hearAlive("w", 2)
			c.pass(ago)
		}
	}
	acquittedAgo := func(ago time.Duration) func(c *testCore) {
		return func(c *testCore) {
			c.hearSuspect("w", 1, "a")
			c.clearSuspicion(c.now, c.table.get("w"))
			c.pass(ago)
		}
	}
	for what, run := range map[string]struct {
		before func(c *testCore)
		change func(*Config)
		counts bool
	}{
		"in good standing":     {counts: true},
		"suspect":              {before: func(c *testCore) { c.hearSuspect("w", 1, "a") }},
		"dead":                 {before: func(c *testCore) { c.hearDead("w", 1, "a") }},
		"left":                 {before: func(c *testCore) { c.hearDead("w", 1, "w") }},
		"dead and reaped":      {before: func(c *testCore) { c.hearDead("w", 1, "a"); c.pass(time.Minute); c.reap(c.now) }},
		"refuted just now":     {before: refutedAgo(short)},
		"refuted a while ago":  {before: refutedAgo(long), counts: true},
		"back since just now":  {before: backAgo(short)},
		"back for a while":     {before: backAgo(long), counts: true},
		"acquitted just now":   {before: acquittedAgo(short)},
		"acquitted long ago":   {before: acquittedAgo(long), counts: true},
		"never heard of":       {before: func(c *testCore) { forget(&c.table, c.table.get("w")) }, counts: true},
		"suspect, not checked": {before: func(c *testCore) { c.hearSuspect("w", 1, "a") }, change: without(func(d *detectorSwitches) { d.noAccuserCheck = true }), counts: true},
	} {
		for _, kind := range []string{"suspect", "dead"} {
			t.Run(what+"/"+kind, func(t *testing.T) {
				c := newDetectorCore(t, func(cfg *Config) {
					if run.change != nil {
						run.change(cfg)
					}
				})
				c.know("x", "a", "b", "w")
				c.pass(time.Hour)
				if run.before != nil {
					run.before(c)
				}
				c.settle()
				accuse := c.hearSuspect
				if kind == "dead" {
					accuse = c.hearDead
				}
				accuse("x", 1, "w")
				if run.counts {
					require.Equal(t, kind+"@1", c.view("x"))
					require.Empty(t, c.packets())
					require.Equal(t, []string{kind + " x@1 by w"}, c.broadcasts())
					return
				}
				require.Equal(t, "alive@1", c.view("x"))
				require.Equal(t, []string{"x: " + kind + " x@1 by w"}, c.packets(), "the accused is told")
				require.Empty(t, c.broadcasts(), "and nobody else")
			})
		}
	}
}

// What is said about the dead and about this node itself is not checked, and neither
// is a departure (P175).
func TestWitnessesAreCheckedForTheLivingOnly(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "y", "a", "w")
	c.pass(time.Hour)
	c.hearSuspect("w", 1, "a")
	c.hearDead("x", 1, "a")
	c.hearDead("x", 7, "w")
	require.Equal(t, "dead@7", c.view("x"))
	c.hearSuspect("x", 8, "w")
	require.Equal(t, "suspect@8", c.view("x"), "it was back in between, whoever says so")
	c.hearSuspect("me", 1, "w")
	require.Equal(t, "alive@2", c.view("me"), "refuted")
	c.hearDead("y", 1, "y")
	require.Equal(t, "left@1", c.view("y"))
}

// A discredited word does not confirm a suspicion either (P175).
func TestWitnessesConfirmInGoodStanding(t *testing.T) {
	for _, good := range []bool{false, true} {
		c := newDetectorCore(t)
		c.know("x", "a", "b", "w", "v")
		c.pass(time.Hour)
		c.hearSuspect("x", 1, "a")
		if !good {
			c.hearSuspect("w", 1, "a")
		}
		c.hearSuspect("x", 1, "w")
		want := 0
		if good {
			want = 1
		}
		require.Equal(t, want, c.table.get("x").suspicion().confirmations())
	}
}

// A death declared by somebody who came later than this node, and has been known for
// less time than any suspicion takes, is a suspicion only, however often it is told (P176).
func TestWitnessThatCameLaterIsNoJudge(t *testing.T) {
	for what, run := range map[string]struct {
		older  time.Duration // how long this node was there before the witness
		known  time.Duration // how long it has known it
		change func(*Config)
		want   string
	}{
		"newcomer":              {time.Hour, 3999 * time.Millisecond, nil, "suspect@1"},
		"known for long enough": {time.Hour, 4 * time.Second, nil, "dead@1"},
		"both are new":          {0, 3999 * time.Millisecond, nil, "dead@1"},
		"not checked":           {time.Hour, 0, without(func(d *detectorSwitches) { d.noAccuserCheck = true }), "dead@1"},
	} {
		t.Run(what, func(t *testing.T) {
			c := newDetectorCore(t, func(cfg *Config) {
				if run.change != nil {
					run.change(cfg)
				}
			})
			c.know("x", "a", "b", "d")
			c.pass(run.older)
			c.know("new")
			c.pass(run.known)
			c.hearDead("x", 1, "new")
			require.Equal(t, run.want, c.view("x"))
			if run.want == "dead@1" {
				return
			}
			require.Equal(t, []string{"suspect x@1 by new"}, c.broadcasts(), "nor is it passed on as one")
			c.hearDead("x", 1, "new")
			c.hearDead("x", 1, "new")
			require.Equal(t, "suspect@1", c.view("x"), "it was gossiped to us three times")
			require.Zero(t, c.table.get("x").suspicion().confirmations())
			c.hearDead("x", 1, "a")
			require.Equal(t, "dead@1", c.view("x"), "the word of an old member counts")
		})
	}
}

// A newcomer that repeats what others suspect confirms it, like anybody (P176).
func TestWitnessThatCameLaterConfirms(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	c.pass(time.Hour)
	c.know("new")
	c.hearSuspect("x", 1, "a")
	c.hearDead("x", 1, "new")
	require.Equal(t, "suspect@1", c.view("x"))
	require.Equal(t, 1, c.table.get("x").suspicion().confirmations())
}

// The accused is told once in a probe interval at most, whoever accuses it of what.
// Each member has its own turn (P166).
func TestAccusedIsToldNowAndThen(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 0} {
		pause := max(interval, 100*time.Millisecond)
		c := newDetectorCore(t, func(cfg *Config) { cfg.ProbeInterval = interval })
		c.know("x", "y", "a")
		say := func(name string) { c.accusers.forward(c.now, c.table.get(name), []byte{byte(pingMsg)}) }
		eventSeq := func() int { n := len(c.fx.packets); c.fx.packets = nil; return n }
		for range 5 {
			say("x")
		}
		require.Equal(t, 1, eventSeq())
		say("y")
		require.Equal(t, 1, eventSeq())
		c.now = c.now.add(pause - 1)
		say("x")
		require.Zero(t, eventSeq())
		c.now = c.now.add(1)
		say("x")
		require.Equal(t, 1, eventSeq())
		say("me")
		require.Zero(t, eventSeq(), "not this node itself")
	}
}

// Who holds something against a node that says it is alive, with an incarnation that
// the accusation beats, tells it so. It does not matter who brings the word (P166).
func TestAccusedIsToldWhatIsHeldAgainstIt(t *testing.T) {
	for what, run := range map[string]struct {
		held func(c *testCore)
		says uint32
		want []string
	}{
		"nothing is held":  {nil, 2, nil},
		"suspected":        {func(c *testCore) { c.hearSuspect("x", 2, "a") }, 2, []string{"x: suspect x@2 by me"}},
		"dead":             {func(c *testCore) { c.hearDead("x", 2, "a") }, 2, []string{"x: dead x@2 by me"}},
		"left":             {func(c *testCore) { c.hearDead("x", 2, "x") }, 2, []string{"x: dead x@2 by x"}},
		"after a restart":  {func(c *testCore) { c.hearDead("x", 9, "a") }, 1, []string{"x: dead x@9 by me"}},
		"it has refuted":   {func(c *testCore) { c.hearDead("x", 2, "a") }, 3, nil},
		"dead and reaped":  {func(c *testCore) { c.hearDead("x", 2, "a"); c.pass(31 * time.Second); c.reap(c.now) }, 1, []string{"x: dead x@2 by me"}},
		"a rumour of it":   {func(c *testCore) { forget(&c.table, c.table.get("x")); c.hearDead("x", 2, "a") }, 1, []string{"x: dead x@2 by me"}},
		"a short time ago": {func(c *testCore) { c.hearDead("x", 2, "a"); c.hearAlive("x", 1); c.settle() }, 1, nil},
	} {
		c := newDetectorCore(t)
		c.know("a", "b")
		c.hearAlive("x", 2)
		c.pass(time.Hour)
		if run.held != nil {
			run.held(c)
		}
		c.settle()
		c.hearAlive("x", run.says)
		require.Equal(t, run.want, c.packets(), what)
	}
}

// The accused refutes with an incarnation above the accusation, and that brings it
// back where it was held to be gone.
func TestAccusedRefutesWhatItIsTold(t *testing.T) {
	holder, accused := newDetectorCore(t), newDetectorCore(t, func(cfg *Config) { cfg.Name = "x" })
	accused.introduced("x")
	holder.know("a", "b")
	holder.hearAlive("x", 9)
	holder.hearDead("x", 9, "a")
	holder.settle()
	holder.hearAlive("x", 1)
	require.Equal(t, []string{"x: dead x@9 by me"}, holder.packets())
	accused.hearDead("x", 9, "me")
	require.Equal(t, []string{"alive x@10"}, accused.broadcasts())
	holder.hearAlive("x", 10)
	require.Equal(t, "alive@10", holder.view("x"))
}

// introduced checks that the core is a member of that name.
func (c *testCore) introduced(name string) {
	c.t.Helper()
	require.Equal(c.t, name, c.self.node.Name)
}
