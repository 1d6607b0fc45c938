package memberlist

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The first answer after three probe intervals without any means that this node was
// cut off: it makes one full exchange at once, with the node that answered (P182).
func TestWakeUpOnTheFirstAnswerAfterSilence(t *testing.T) {
	for _, run := range []struct {
		silence time.Duration
		change  func(*Config)
		want    []string
	}{
		{time.Second, nil, nil},
		{3 * time.Second, nil, nil},
		{3*time.Second + 1, nil, []string{"x"}},
		{time.Hour, nil, []string{"x"}},
		{time.Hour, without(func(d *detectorSwitches) { d.noResync = true }), nil},
	} {
		c := newDetectorCore(t, func(cfg *Config) {
			if run.change != nil {
				run.change(cfg)
			}
		})
		c.know("x", "a", "b")
		c.roundTrip("a", c.now)
		c.syncs()
		c.now = c.now.add(run.silence)
		c.roundTrip("x", c.now)
		require.Equal(t, run.want, c.syncs(), "%v", run.silence)
		c.roundTrip("a", c.now)
		c.now = c.now.add(3 * time.Second)
		c.roundTrip("x", c.now)
		require.Empty(t, c.syncs(), "once")
	}
}

// A relay that refuses and a node that is held for gone are no partners; anybody who
// is alive is.
func TestWakeUpWithSomebodyAlive(t *testing.T) {
	for what, answer := range map[string]func(c *testCore){
		"a relay":   func(c *testCore) { c.answerReceived(c.now, nil, c.now) },
		"one gone":  func(c *testCore) { c.roundTrip("gone", c.now) },
		"one alive": func(c *testCore) { c.roundTrip("a", c.now) },
	} {
		c := newDetectorCore(t)
		c.know("gone", "suspect", "a")
		c.hearDead("gone", 1, "a")
		c.hearSuspect("suspect", 1, "a")
		c.selfCheck.packets.last = c.now
		c.now = c.now.add(time.Minute)
		answer(c)
		require.Equal(t, []string{"a"}, c.syncs(), what)
	}
	c := newDetectorCore(t)
	c.now = c.now.add(time.Minute)
	c.answerReceived(c.now, nil, c.now)
	require.Empty(t, c.syncs(), "nobody is there")
}

// A node that leaves, or does not probe, does not wake up.
func TestWakeUpIsForMembersThatProbe(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	c.leave(c.now)
	c.now = c.now.add(time.Minute)
	c.roundTrip("x", c.now)
	require.Empty(t, c.syncs())

	c = newDetectorCore(t, func(cfg *Config) { cfg.ProbeInterval = 0 })
	c.know("x", "a")
	c.now = c.now.add(time.Minute)
	c.roundTrip("x", c.now)
	require.Empty(t, c.syncs())
}

// In the exchange the node learns what was said about it, and refutes it.
func TestWakeUpEndsInARefutation(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	for _, state := range []NodeStateType{StateSuspect, StateDead} {
		was := c.self.incarnation
		c.merge(c.now, []pushNodeState{{
			Name: borrow("me"), Addr: c.self.node.Addr, Port: c.self.node.Port, Incarnation: was, State: state, Vsn: testVersions(),
		}})
		require.Equal(t, was+1, c.self.incarnation, "%s", state)
		require.Equal(t, StateAlive, c.self.state())
	}
}

// A moment later it makes another exchange with another member: the first may have been
// cut off itself, and know no more (P182).
func TestWakeUpVisitsAnotherMemberALittleLater(t *testing.T) {
	wakes := map[string]func(c *testCore) (first string){
		"an answer": func(c *testCore) string {
			c.roundTrip("x", c.now)
			return c.syncs()[0]
		},
		"a stall": func(c *testCore) string {
			c.resync.begin(c.now, nil)
			return c.syncs()[0]
		},
		"an exchange": func(c *testCore) string {
			c.streamAnswerReceived(c.now, c.table.get("x").node, c.now, true)
			require.Empty(c.t, c.syncs(), "that one was it")
			return "x"
		},
	}
	for what, wake := range wakes {
		t.Run(what, func(t *testing.T) {
			c := newDetectorCore(t)
			c.know("x", "y")
			c.selfCheck.packets.last = c.now
			c.now = c.now.add(time.Minute)
			first := wake(c)
			c.pass(c.cfg.ProbeInterval - 1)
			require.Empty(t, c.syncs())
			c.pass(1)
			second := c.syncs()
			require.Len(t, second, 1)
			require.NotEqual(t, first, second[0])
			c.pass(time.Hour)
			require.Empty(t, c.syncs(), "that is all")
		})
	}
	c := newDetectorCore(t)
	c.know("x")
	c.now = c.now.add(time.Minute)
	c.roundTrip("x", c.now)
	require.Equal(t, []string{"x"}, c.syncs())
	c.pass(time.Hour)
	require.Empty(t, c.syncs(), "there is nobody else")
}

// A cluster whose only traffic is on streams is not cut off.
func TestWakeUpIsNotForThoseWhoHearOnStreams(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "y")
	c.selfCheck.packets.last = c.now
	for range 20 {
		c.now = c.now.add(time.Second)
		c.streamAnswerReceived(c.now, c.table.get("x").node, c.now, false)
		require.Empty(t, c.syncs())
	}
	c.roundTrip("y", c.now)
	require.Equal(t, []string{"y"}, c.syncs(), "gossip has been missed")
}
