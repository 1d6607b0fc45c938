package memberlist

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func suspicionRumour(incarnation uint32) verdict {
	return verdict{incarnation: incarnation, state: StateSuspect, from: "accuser"}
}

// The newest word counts, and at one incarnation the gravest (P103, P108).
func TestTheNewestRumourCounts(t *testing.T) {
	steps := []struct {
		said verdict
		want string
	}{
		{verdict{incarnation: 3, state: StateSuspect, from: "a"}, "suspect@3 by a"},
		{verdict{incarnation: 3, state: StateSuspect, from: "b"}, "suspect@3 by a"},
		{verdict{incarnation: 2, state: StateLeft, from: "b"}, "suspect@3 by a"},
		{verdict{incarnation: 3, state: StateDead, from: "b"}, "dead@3 by b"},
		{verdict{incarnation: 3, state: StateLeft, from: "c"}, "left@3 by c"},
		{verdict{incarnation: 3, state: StateDead, from: "d"}, "left@3 by c"},
		{verdict{incarnation: 4, state: StateSuspect, from: "d"}, "suspect@4 by d"},
	}
	for n := range steps {
		r := newVerdictStore(time.Minute, maxPendingVerdicts)
		for _, s := range steps[:n+1] {
			noteRumour(&r, 1, "x", s.said)
		}
		got, ok := r.take(1, "x")
		require.True(t, ok)
		require.Equal(t, steps[n].want, fmt.Sprintf("%s@%d by %s", got.state, got.incarnation, got.from))
		_, ok = r.take(1, "x")
		require.False(t, ok, "taken once")
	}
}

func TestRumoursExpire(t *testing.T) {
	r := newVerdictStore(30*time.Second, maxPendingVerdicts)
	noteRumour(&r, 0, "x", suspicionRumour(1))
	noteRumour(&r, 0, "y", suspicionRumour(1))
	_, ok := r.take(instant(30*time.Second), "x")
	require.True(t, ok)
	_, ok = r.take(instant(30*time.Second)+1, "y")
	require.False(t, ok)
}

func TestRumoursWithoutLifetimeAreNotNoted(t *testing.T) {
	r := newVerdictStore(0, maxPendingVerdicts)
	noteRumour(&r, 0, "x", suspicionRumour(1))
	require.Empty(t, r.byName)
}

// What outsiders say about names that do not exist takes bounded memory; the
// oldest goes first (P164).
func TestRumoursAreBounded(t *testing.T) {
	r := newVerdictStore(time.Hour, maxPendingVerdicts)
	for i := range 10 * maxPendingVerdicts {
		noteRumour(&r, instant(i), fmt.Sprint(i), suspicionRumour(1))
		require.LessOrEqual(t, len(r.byName), maxPendingVerdicts)
		require.LessOrEqual(t, len(r.order), maxPendingVerdicts)
	}
	_, oldest := r.take(instant(10*maxPendingVerdicts), fmt.Sprint(9*maxPendingVerdicts-1))
	require.False(t, oldest)
	_, kept := r.take(instant(10*maxPendingVerdicts), fmt.Sprint(9*maxPendingVerdicts))
	require.True(t, kept)
}

// Noting and taking the same names over and over leaves nothing behind.
func TestRumoursTakenLeaveNoTrace(t *testing.T) {
	r := newVerdictStore(time.Hour, maxPendingVerdicts)
	for i := range 10 * maxPendingVerdicts {
		noteRumour(&r, instant(i), "x", suspicionRumour(uint32(i)))
		r.take(instant(i), "x")
	}
	require.Empty(t, r.byName)
	require.LessOrEqual(t, len(r.order), maxPendingVerdicts)
}

// Old ones make room before the limit is reached.
func TestExpiredRumoursAreForgotten(t *testing.T) {
	r := newVerdictStore(time.Minute, maxPendingVerdicts)
	for i := range 100 {
		noteRumour(&r, 0, fmt.Sprint(i), suspicionRumour(1))
	}
	noteRumour(&r, instant(time.Hour), "new", suspicionRumour(1))
	require.Len(t, r.byName, 1)
	require.Len(t, r.order, 1)
}

// A pending verdict outlives the packet that brought it.
func TestRumoursAreKept(t *testing.T) {
	r := newVerdictStore(time.Minute, maxPendingVerdicts)
	name, from := []byte("name"), []byte("from")
	r.note(0, borrowBytes(name), borrowBytes(from), verdict{incarnation: 1, state: StateDead})
	clear(name)
	clear(from)
	got, ok := r.take(0, "name")
	require.True(t, ok)
	require.Equal(t, "from", got.from)
}

// Overwriting an entry of a map replaces its key as well: the second word about a name
// outlives its packet too.
func TestRumoursNotedAgainAreKept(t *testing.T) {
	r := newVerdictStore(time.Minute, maxPendingVerdicts)
	name := []byte("name")
	r.note(0, borrowBytes(name), borrow("from"), verdict{incarnation: 1, state: StateDead})
	r.note(0, borrowBytes(name), borrow("from"), verdict{incarnation: 2, state: StateDead})
	clear(name)
	got, ok := r.take(0, "name")
	require.True(t, ok)
	require.EqualValues(t, 2, got.incarnation)
	require.Empty(t, r.byName)
}

// A name that was noted again does not go with its former place in the order.
func TestRumoursNotedAnewAreKeptAsNew(t *testing.T) {
	r := newVerdictStore(time.Hour, 3)
	noteRumour(&r, 0, "x", suspicionRumour(1))
	r.take(0, "x")
	noteRumour(&r, 0, "a", suspicionRumour(1))
	noteRumour(&r, 0, "x", suspicionRumour(2))
	noteRumour(&r, 0, "b", suspicionRumour(1))
	got, ok := r.take(0, "x")
	require.True(t, ok)
	require.EqualValues(t, 2, got.incarnation)
}

// What was known of a reaped node overrules late news about it for as long as the
// other side of a partition may come back with them; a newer incarnation does not
// need to care. The weightier of tombstone and pending verdict counts (P46).
func TestTombstonesOverruleLateNews(t *testing.T) {
	reaped := func(t *testing.T, changes ...func(*Config)) *testCore {
		c := newTestCore(t, append([]func(*Config){withDetector}, changes...)...)
		c.know("x", "y")
		c.hearDead("x", 3, "y")
		c.now = c.now.add(c.cfg.GossipToTheDeadTime + time.Second)
		c.reap(c.now)
		c.settle()
		require.Equal(t, "unknown", c.view("x"))
		return c
	}
	for _, later := range []time.Duration{0, time.Minute, 24*time.Hour - 2*time.Second} {
		c := reaped(t)
		c.now = c.now.add(later)
		c.hearAlive("x", 3)
		require.Equal(t, "dead@3", c.view("x"), later)
		require.Empty(t, c.events())
		require.Contains(t, c.packets(), "x: dead x@3 by me", "it may be back, and then refutes")
		c.hearAlive("x", 4)
		require.Equal(t, "alive@4", c.view("x"))
	}

	c := reaped(t)
	c.now = c.now.add(24*time.Hour + time.Second)
	c.hearAlive("x", 3)
	require.Equal(t, "alive@3", c.view("x"), "forgotten")

	c = reaped(t, func(cfg *Config) { cfg.ReconnectInterval = 0 })
	c.now = c.now.add(c.cfg.GossipToTheDeadTime + time.Second)
	c.hearAlive("x", 3)
	require.Equal(t, "alive@3", c.view("x"), "without looking for lost nodes the memory is short")

	c = reaped(t, func(cfg *Config) { cfg.detector.noTombstones = true })
	c.hearAlive("x", 3)
	require.Equal(t, "alive@3", c.view("x"))

	c = reaped(t)
	c.hearSuspect("x", 4, "y")
	c.hearAlive("x", 4)
	require.Equal(t, "suspect@4", c.view("x"))
}

func noteRumour(r *verdictStore, now instant, name string, said verdict) {
	r.note(now, borrow(name), borrow(said.from), said)
}

// Words about names that are made up go first, however new they are; those about nodes
// that were heard go by age among themselves (P164).
func TestRumoursAboutNodesThatWereHeardGoLast(t *testing.T) {
	about := func(heard bool) verdict {
		return verdict{incarnation: 1, state: StateDead, hasAnswered: heard}
	}
	r := newVerdictStore(time.Hour, 4)
	for i, name := range []string{"h1", "h2"} {
		r.note(instant(i), borrow(name), borrow("from"), about(true))
	}
	for i := range 100 {
		r.note(instant(2+i), borrow(fmt.Sprint(i)), borrow("from"), about(false))
		require.LessOrEqual(t, len(r.byName), 4)
	}
	require.True(t, r.aboutResponsive(borrow("h1")))
	require.False(t, r.aboutResponsive(borrow("99")))
	require.False(t, r.aboutResponsive(borrow("none")))
	for i, name := range []string{"h3", "h4", "h5"} {
		r.note(instant(102+i), borrow(name), borrow("from"), about(true))
	}
	r.note(105, borrow("new"), borrow("from"), about(false))
	require.Len(t, r.byName, 4)
	for name, kept := range map[string]bool{"h1": false, "h2": true, "h3": true, "h4": true, "h5": true, "new": false, "99": false} {
		_, ok := r.take(106, name)
		require.Equal(t, kept, ok, name)
	}
	r.note(instant(time.Hour)+200, borrow("later"), borrow("from"), about(false))
	require.Len(t, r.order, 1)
	require.Empty(t, r.fromResponsive)
}

// Neither thousands of made-up deaths nor as many pending verdicts make the tombstone of a real
// node go before its time.
func TestMadeUpNamesDoNotPushOutRealTombstones(t *testing.T) {
	c := newDetectorCore(t)
	c.know("real", "a")
	c.roundTrip("real", c.now)
	c.buried("real", 3, "a")
	for round := range 3 {
		for _, name := range nodeNames(fmt.Sprint("made-up", round), maxTombstones) {
			c.hearAlive(name, 1)
			c.hearDead(name, 1, "a")
			c.hearDead("rumoured "+name, 1, "a")
		}
		c.now = c.now.add(c.cfg.GossipToTheDeadTime + 1)
		c.reap(c.now)
		c.settle()
		require.Len(t, c.verdicts.tombstones.byName, maxTombstones)
		c.hearAlive("real", 2)
		require.Equal(t, "dead@3", c.view("real"), "also when it was made a record in between")
	}
}

// What is said about a node that died and was reaped is kept before what is said about
// names that nobody knows.
func TestMadeUpNamesDoNotPushOutRumoursAboutRealNodes(t *testing.T) {
	c := newDetectorCore(t)
	c.know("real", "a")
	c.roundTrip("real", c.now)
	c.buried("real", 3, "a")
	c.hearDead("real", 5, "a")
	for _, name := range nodeNames("made-up", 2*maxPendingVerdicts) {
		c.hearDead(name, 1, "a")
	}
	require.Len(t, c.verdicts.pending.byName, maxPendingVerdicts)
	c.hearAlive("real", 4)
	require.Equal(t, "dead@5", c.view("real"))
}
