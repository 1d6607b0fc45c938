package memberlist

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A timer that goes off late by more than a gossip interval says that the process
// stood still. That counts against this node's health, once (P177).
func TestStallIsATimerThatGoesOffLate(t *testing.T) {
	for _, run := range []struct {
		gossip, late time.Duration
		health       int
	}{
		{200 * time.Millisecond, 0, 0},
		{200 * time.Millisecond, 200 * time.Millisecond, 0},
		{200 * time.Millisecond, 200*time.Millisecond + 1, 1},
		{500 * time.Millisecond, 500 * time.Millisecond, 0},
		{500 * time.Millisecond, time.Hour, 1},
		{0, 100 * time.Millisecond, 0},
		{0, 100*time.Millisecond + 1, 1},
		{time.Millisecond, 100 * time.Millisecond, 0},
	} {
		c := newDetectorCore(t, func(cfg *Config) { cfg.GossipInterval = run.gossip })
		c.know("x", "a")
		c.timers.set(c.now.add(time.Second), (*departureTimer)(&c.departures)) // nothing to do
		c.wakeLate(run.late)
		require.Equal(t, run.health, c.health.score, "%+v", run)
		c.wakeOnTime()
		require.Equal(t, run.health, c.health.score, "%+v: once", run)
	}
	c := newDetectorCore(t, without(func(d *detectorSwitches) { d.noStallGuard = true }))
	c.timers.set(c.now.add(time.Second), (*departureTimer)(&c.departures))
	c.wakeLate(time.Hour)
	require.Zero(t, c.health.score)
}

// wakeOnTime lets a further timer go off in time.
func (c *testCore) wakeOnTime() {
	c.timers.set(c.now.add(time.Second), (*departureTimer)(&c.departures))
	c.pass(time.Second)
}

// Suspects whose time ran out during a stall get it back, and a gossip interval: they
// may have refuted, and nobody has read it. Those who have time left keep their
// deadline, and what is late by less than a gossip interval changes nothing (P177).
func TestStallGivesSuspectsTheirTimeBack(t *testing.T) {
	for _, run := range []struct {
		late time.Duration
		off  bool
		want time.Duration // by which the deadline of x moves
	}{
		{200 * time.Millisecond, false, 0},
		{200*time.Millisecond + 1, false, 400*time.Millisecond + 1},
		{10 * time.Second, false, 10*time.Second + 200*time.Millisecond},
		{10 * time.Second, true, 0},
	} {
		c := newDetectorCore(t, func(cfg *Config) {
			cfg.SuspicionMaxTimeoutMult, cfg.detector.noStallGuard = 1, run.off
		})
		c.know("x", "y", "a", "b")
		c.hearSuspect("x", 1, "a")
		x := c.table.get("x").suspicion()
		deadline := x.deadline()
		c.live(deadline.sub(c.now)-1, nil)
		c.now = c.now.add(run.late - 1)
		c.hearSuspect("y", 1, "a")
		y := c.table.get("y").suspicion().deadline()
		c.now = deadline.add(run.late)
		c.tick(c.now)
		require.Equal(t, deadline.add(run.want), x.deadline(), "%+v", run)
		require.Equal(t, y, c.table.get("y").suspicion().deadline(), "%+v", run)
	}
}

// After the stall the suspect dies in its new time, not later, if there is time for
// the final probe.
func TestStallMovesTheLastQuestion(t *testing.T) {
	// The question is due at 3.5 s.
	for _, before := range []time.Duration{0, 2 * time.Second, 3499 * time.Millisecond} {
		c := newDetectorCore(t, func(cfg *Config) { cfg.SuspicionMaxTimeoutMult = 1 })
		c.know("x", "a", "b", "d")
		c.hearSuspect("x", 1, "a")
		c.live(before, c.othersThan("x"))
		first := c.timers.next()
		s := c.table.get("x").suspicion()
		c.now = first.add(20 * time.Second)
		c.tick(c.now)
		deadline := s.deadline()
		require.Greater(t, deadline, c.now)
		c.live(deadline.sub(c.now)-1, c.othersThan("x"))
		require.Equal(t, "suspect@1", c.view("x"))
		require.GreaterOrEqual(t, c.now.sub(s.finalProbe.sent), c.cfg.ProbeTimeout-1)
		c.live(1, nil)
		require.Equal(t, "dead@1", c.view("x"))
	}
}

// A probe whose round ended during a stall gets the time back: neither the repeats
// nor the relays' answers were looked at (P177).
func TestStallGivesTheRunningProbeItsTimeBack(t *testing.T) {
	for _, off := range []bool{false, true} {
		for _, phase := range []time.Duration{100 * time.Millisecond, 900 * time.Millisecond} {
			c := newDetectorCore(t, func(cfg *Config) { cfg.detector.noStallGuard = off })
			c.know("x", "a", "b", "d")
			c.selfCheck.packets.last = c.now
			p := c.probe("x")
			c.live(phase, nil)
			ends := c.probing.ends
			late := ends.sub(c.timers.next()) + 5*time.Second
			c.wakeLate(late)
			if off {
				require.Equal(t, probeIdle, c.probing.phase)
				continue
			}
			require.Equal(t, p, c.probing.ping)
			require.Equal(t, ends.add(late+c.cfg.GossipInterval), c.probing.ends)
			c.roundTrip("a", c.now) // there is a self-check
			c.answer(p)             // but the answer is in the mail as well
			require.Equal(t, "alive@1", c.view("x"))
			require.Equal(t, probeIdle, c.probing.phase)
		}
	}
}

// A round that has not ended goes on as it would have.
func TestStallLeavesARoundThatHasTimeAlone(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	c.probe("x")
	ends := c.probing.ends
	c.wakeLate(300 * time.Millisecond)
	require.Equal(t, ends, c.probing.ends)
}

// What was received during a stall is read after the timers went off. Nothing is
// decided before: whatever has run out, the answer that lies in the mail clears the
// suspect.
func TestStallUnreadMailIsReadFirst(t *testing.T) {
	for _, late := range []time.Duration{300 * time.Millisecond, 2 * time.Second, 5 * time.Second, time.Minute} {
		for _, before := range []time.Duration{3510 * time.Millisecond, 3700 * time.Millisecond, 3990 * time.Millisecond} {
			c := newDetectorCore(t, func(cfg *Config) { cfg.SuspicionMaxTimeoutMult = 1 })
			c.know("x", "a", "b", "d")
			c.hearSuspect("x", 1, "a")
			c.live(before, nil) // the question goes out
			question := c.table.get("x").suspicion().finalProbe
			require.NotNil(t, question)
			c.roundTrip("a", c.now)
			c.wakeLate(late)
			require.Equal(t, "suspect@1", c.view("x"), "nothing is decided on waking up")
			c.answer(question)
			require.Equal(t, "alive@1", c.view("x"), "asked %v before, late by %v", before, late)
		}
	}
}

// A refutation in the mail counts as well, of course.
func TestStallRefutationInTheMailCounts(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	c.hearSuspect("x", 1, "a")
	c.hearSuspect("x", 1, "b")
	c.hearSuspect("x", 1, "d")
	c.now = c.now.add(time.Minute)
	c.tick(c.now)
	c.hearAlive("x", 2)
	require.Equal(t, "alive@2", c.view("x"))
}

// A confirmation can bring a deadline into the past. That is no stall.
func TestStallIsNotALateConfirmation(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	c.selfCheck.packets.last = c.now
	c.hearSuspect("x", 1, "a")
	c.live(15*time.Second, nil)
	c.health.score = 0
	c.roundTrip("a", c.now)
	c.settle()
	c.hearSuspect("x", 1, "b")
	c.hearSuspect("x", 1, "d")
	c.live(c.cfg.ProbeTimeout, c.othersThan("x"))
	require.Equal(t, "dead@1", c.view("x"))
	require.Zero(t, c.health.score)
	require.Empty(t, c.syncs())
}

// A node that slept for longer than three probe intervals does not know what was
// said about it, and makes one full exchange (P182).
func TestStallOfSomeLengthEndsWithAFullExchange(t *testing.T) {
	for _, run := range []struct {
		late time.Duration
		want int
	}{
		{time.Second, 0},
		{3 * time.Second, 0},
		{3*time.Second + 1, 1},
		{time.Hour, 1},
	} {
		c := newDetectorCore(t)
		c.know("x", "a")
		c.selfCheck.packets.last = c.now
		c.roundTrip("a", c.now)
		c.settle()
		c.timers.set(c.now, (*departureTimer)(&c.departures))
		c.wakeLate(run.late)
		require.Len(t, c.syncs(), run.want, "%v", run.late)
		c.roundTrip("a", c.now)
		require.Empty(t, c.syncs(), "the first answer afterwards is no reason for another")
	}
	c := newDetectorCore(t, without(func(d *detectorSwitches) { d.noResync = true }))
	c.know("x", "a")
	c.timers.set(c.now, (*departureTimer)(&c.departures))
	c.wakeLate(time.Hour)
	require.Empty(t, c.syncs())
}

// The time in which nobody listened is no silence: a node is not the lone survivor
// because it slept (P177).
func TestStallIsNoSilence(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	c.selfCheck.packets.last = c.now
	c.probe("x")
	c.wakeLate(time.Hour)
	c.live(2*time.Second, nil)
	require.Equal(t, probeIdle, c.probing.phase)
	require.Equal(t, "alive@1", c.view("x"))
}
