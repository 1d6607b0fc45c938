package memberlist

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// isClosed reports whether the core wants the channel closed, which its shell
// does.
func (c *testCore) isClosed(done <-chan struct{}) bool {
	for _, s := range c.fx.signals {
		if s == done {
			return true
		}
	}
	return false
}

// leaves lets the node leave, and the time pass until it tells members of it.
func (c *testCore) leaves() <-chan struct{} {
	done := c.leave(c.now)
	c.pass(c.cfg.GossipInterval)
	return done
}

// departurePings takes the pings that carry the departure: whom, and under which
// number.
func (c *testCore) departurePings() map[string]uint32 {
	c.t.Helper()
	pings := map[string]uint32{}
	for _, p := range c.fx.packets {
		require.False(c.t, p.piggyback)
		require.Same(c.t, c.table.get(p.to.name).node, p.to.node)
		text := inWords(c.t, p.msg)
		require.Equal(c.t, "ping "+p.to.name+" + dead me@1 by me", text)
		pings[p.to.name] = firstPing(c.t, p.msg).SeqNo
	}
	c.fx.packets = nil
	return pings
}

// firstPing is the ping that a compound begins with.
func firstPing(t testing.TB, compound []byte) ping {
	t.Helper()
	require.Equal(t, byte(compoundMsg), compound[0])
	var p ping
	_, err := p.decode(compound[2+2*int(compound[1])+1:])
	require.NoError(t, err)
	return p
}

func (c *testCore) ackAll(pings map[string]uint32) {
	for _, seq := range pings {
		c.ack(c.now, &ack{SeqNo: seq}, c.now)
	}
}

// TestLeavingMarksTheNodeLeft checks P21.
func TestLeavingMarksTheNodeLeft(t *testing.T) {
	c := newTestCore(t)
	c.identity.refute(c.now, 4)
	c.settle()
	require.Nil(t, c.leave(c.now), "nobody to wait for (P22)")
	require.Equal(t, "left@5", c.view("me"), "with the current incarnation")
	require.Equal(t, []string{"leave me"}, c.events())
	require.Equal(t, []string{"dead me@5 by me"}, c.broadcasts())
	require.Equal(t, 1, c.fx.metrics.dead)
	require.Zero(t, c.table.live(), "not a member any more (P25)")
	require.Nil(t, c.leave(c.now), "already left")
	require.Empty(t, c.events())
	require.Empty(t, c.broadcasts())
}

// TestNobodyIsWaitedForIfAllOthersAreGone checks P22.
func TestNobodyIsWaitedForIfAllOthersAreGone(t *testing.T) {
	c := newTestCore(t)
	c.know("dead", "left")
	c.hearDead("dead", 1, "a")
	c.hearDead("left", 1, "left")
	require.Nil(t, c.leave(c.now))
}

// Leave is over when three members have acked a ping that carried the departure,
// or all if there are fewer (P22, P192).
func TestLeavingIsOverWhenEnoughMembersProvablyKnow(t *testing.T) {
	for others, wanted := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3, 20: 3} {
		c := newTestCore(t)
		c.know(nodeNames("n", others)...)
		done := c.leaves()
		require.NotNil(t, done)
		pings := c.departurePings()
		require.Len(t, pings, wanted)
		for _, seq := range pings {
			require.False(t, c.isClosed(done))
			c.ack(c.now, &ack{SeqNo: seq}, c.now)
		}
		require.True(t, c.isClosed(done), "%d others", others)
		c.settle()
		c.pass(time.Minute)
		require.Empty(t, c.departurePings(), "nobody else is bothered")
	}
}

// A member that does not answer is not waited for as long as there are others;
// when all have been asked, it begins again (P22, P192).
func TestSilentMembersArePassedOver(t *testing.T) {
	c := newTestCore(t)
	c.know(nodeNames("n", 6)...)
	done := c.leaves()
	first := c.departurePings()
	require.Len(t, first, 3)
	c.pass(c.cfg.ProbeTimeout)
	second := c.departurePings()
	require.Len(t, second, 3)
	for name := range second {
		require.NotContains(t, first, name)
	}
	c.pass(c.cfg.ProbeTimeout)
	require.Len(t, c.departurePings(), 3, "once more")
	c.ackAll(second)
	require.True(t, c.isClosed(done))
}

// A late answer counts as well (P22).
func TestLateAnswersCount(t *testing.T) {
	c := newTestCore(t)
	c.know("a", "b", "d", "e")
	done := c.leaves()
	first := c.departurePings()
	c.pass(c.cfg.ProbeTimeout)
	c.departurePings()
	c.ackAll(first)
	require.True(t, c.isClosed(done))
}

// The same member twice is not two members (P22).
func TestAMemberCountsOnce(t *testing.T) {
	c := newTestCore(t)
	c.know("a", "b")
	done := c.leaves()
	first := c.departurePings()
	c.ack(c.now, &ack{SeqNo: first["a"]}, c.now)
	c.ack(c.now, &ack{SeqNo: first["a"]}, c.now)
	c.pass(10 * c.cfg.ProbeTimeout)
	require.False(t, c.isClosed(done))
	again := c.departurePings()
	require.NotContains(t, again, "a", "it has answered")
	c.ackAll(again)
	require.True(t, c.isClosed(done))
}

// Members that die meanwhile need not know (P22).
func TestMembersThatDieAreNotWaitedFor(t *testing.T) {
	c := newTestCore(t)
	c.know("a", "b")
	done := c.leaves()
	c.hearDead("a", 1, "b")
	c.hearDead("b", 1, "b")
	c.settle()
	c.pass(c.cfg.ProbeTimeout)
	require.True(t, c.isClosed(done))
}

// TestSuspectsAreToldAsWell checks P22.
func TestSuspectsAreToldAsWell(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.hearSuspect("x", 1, "a")
	c.settle()
	require.NotNil(t, c.leaves())
	require.Contains(t, c.departurePings(), "x")
}

// A second call waits with the first; after a timeout it does not wait (P21, P23).
func TestFurtherCallsOfLeave(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	done := c.leaves()
	require.Equal(t, done, c.leave(c.now))
	c.giveUpDeparture(c.now)
	require.Nil(t, c.leave(c.now))
	require.Equal(t, "left@1", c.view("me"))
	c.departurePings()
	c.pass(c.cfg.ProbeTimeout)
	require.NotEmpty(t, c.departurePings(), "it goes on spreading")
}

// TestAfterLeavingNothingBringsTheNodeBack checks P25.
func TestAfterLeavingNothingBringsTheNodeBack(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.leaves()
	c.settle()
	c.hearAlive("me", 9)
	c.hearSuspect("me", 20, "x")
	c.hearDead("me", 30, "x")
	c.merge(c.now, []pushNodeState{stateOf("me", 7, StateAlive), stateOf("me", 40, StateDead)})
	require.Contains(t, c.view("me"), "left@")
	require.Empty(t, c.events())
	require.Empty(t, c.broadcasts())
	require.Zero(t, c.health.score)

	c.hearAlive("y", 1)
	require.Equal(t, "alive@1", c.view("y"), "it still follows the others")
	c.relay(c.now, relayTarget, relayRequest{seq: 1, requester: relayRequester, wantsNack: true})
	require.Len(t, c.fx.packets, 1, "and serves them")
}

// It comes back only of its own will, with an incarnation above everything that
// was said about it meanwhile (P25).
func TestReturningBeatsWhatWasSaid(t *testing.T) {
	for name, say := range map[string]func(c *testCore){
		"nothing": func(*testCore) {},
		"alive":   func(c *testCore) { c.hearAlive("me", 50) },
		"suspect": func(c *testCore) { c.hearSuspect("me", 50, "x") },
		"dead":    func(c *testCore) { c.hearDead("me", 50, "x") },
		"left":    func(c *testCore) { c.hearDead("me", 50, "me") },
	} {
		c := newTestCore(t)
		c.know("x")
		c.leaves()
		say(c)
		c.settle()
		c.announceSelf(c.now, addrOfTestNode("me"), 7946, nil, nil)
		want := "alive@51"
		if name == "nothing" {
			want = "alive@2"
		}
		require.Equal(t, want, c.view("me"), name)
		require.Equal(t, []string{"join me"}, c.events(), name)
	}
}

// The answers to an earlier departure prove nothing about a later one (P22).
func TestAnswersOfAnEarlierDepartureDoNotCount(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.leaves()
	earlier := c.departurePings()
	c.announceSelf(c.now, addrOfTestNode("me"), 7946, nil, nil)
	c.settle()
	done := c.leaves()
	c.ackAll(earlier)
	require.False(t, c.isClosed(done))
	later := firstPing(t, c.fx.packets[0].msg)
	c.ack(c.now, &ack{SeqNo: later.SeqNo}, c.now)
	require.True(t, c.isClosed(done))
}

// TestLeaveWithoutProbeTimeoutHasPatienceAllTheSame checks P22.
func TestLeaveWithoutProbeTimeoutHasPatienceAllTheSame(t *testing.T) {
	c := newTestCore(t, func(cfg *Config) { cfg.ProbeTimeout = 0 })
	c.know("x")
	c.leaves()
	require.Len(t, c.departurePings(), 1)
	c.pass(499 * time.Millisecond)
	require.Empty(t, c.departurePings())
	c.pass(time.Millisecond)
	require.Len(t, c.departurePings(), 1)
}

// calls takes the streams that carry the departure.
func (c *testCore) calls() map[string]*streamTask {
	found := map[string]*streamTask{}
	for _, s := range c.fx.streams {
		if s.kind == streamLeave {
			found[s.node.Name] = &s
		}
	}
	c.fx.streams = nil
	return found
}

// heardNow makes packets count as working.
func heardNow(c *testCore) { c.selfCheck.packets.last = c.now }

// Members that do not ack in time are called on a stream; where packets fail anyway,
// at once (P193).
func TestDepartureGoesOnStreamsWhenPingsAreNotAcked(t *testing.T) {
	c := newTestCore(t)
	c.know(nodeNames("n", 6)...)
	heardNow(c)
	done := c.leaves()
	first := c.departurePings()
	require.Empty(t, c.calls())
	c.pass(c.cfg.ProbeTimeout)
	calls := c.calls()
	require.Len(t, calls, 3)
	for name, s := range calls {
		require.Contains(t, first, name)
		c.callEnded(c.now, s, callHeard)
	}
	c.pass(0)
	require.True(t, c.isClosed(done))

	c = newTestCore(t)
	c.know(nodeNames("n", 6)...)
	c.leaves()
	require.Len(t, c.departurePings(), 3)
	require.Len(t, c.calls(), 3, "no packet has been answered for long")
}

// What a stream comes to (P194).
func TestDepartureOutcomesOfStreams(t *testing.T) {
	for _, run := range []struct {
		outcome  callOutcome
		departed int
		done     bool
	}{
		{callHeard, 0, true},
		{callRefused, 0, true},
		{callSilent, 0, false},
		{callSilent, 1, false},
		{callSilent, 2, true},
		{callFailed, 2, false},
	} {
		c := newTestCore(t)
		c.know("a", "b")
		for _, name := range nodeNames("left", run.departed) {
			c.know(name)
			c.hearDead(name, 1, name)
		}
		done := c.leaves()
		c.departurePings()
		for _, s := range c.calls() {
			c.callEnded(c.now, s, run.outcome)
		}
		c.pass(0)
		require.Equal(t, run.done, c.isClosed(done), "%+v", run)
		for _, s := range c.calls() {
			c.callEnded(c.now, s, callHeard)
		}
	}
}

// Only members that stay are proofs: one that has confirmed and leaves too may be shut
// down before it has passed the departure on (P194).
func TestDepartureIsProvedByThoseWhoStay(t *testing.T) {
	c := newTestCore(t)
	c.know(nodeNames("n", 5)...)
	heardNow(c)
	done := c.leaves()
	first := c.departurePings()
	names := sortedNames(first)
	for _, name := range names[:2] {
		c.ack(c.now, &ack{SeqNo: first[name]}, c.now)
		c.hearDead(name, 1, name)
	}
	c.gossip.queue.Reset()
	c.pass(0)
	second := c.departurePings()
	require.Len(t, second, 2, "others are asked at once")
	c.ack(c.now, &ack{SeqNo: first[names[2]]}, c.now)
	require.False(t, c.isClosed(done))
	c.ackAll(second)
	require.True(t, c.isClosed(done))
	require.Len(t, c.fx.packets, 2)
	for _, p := range c.fx.packets {
		require.Contains(t, names[:2], p.to.name)
		require.Equal(t, "dead me@1 by me", inWords(t, p.msg), "those who leave too are told at the end")
	}
}

func sortedNames(pings map[string]uint32) []string {
	return slices.Sorted(maps.Keys(pings))
}

// Nobody is waited for, but those who have just left may wait for this node (P194).
func TestDepartureIsToldToThoseWhoAreLeaving(t *testing.T) {
	c := newTestCore(t)
	c.know("long ago", "dead", "leaving")
	c.hearDead("long ago", 1, "long ago")
	c.now = c.now.add(leaveLimit + 1)
	c.hearDead("leaving", 1, "leaving")
	c.hearDead("dead", 1, "x")
	c.settle()
	require.Nil(t, c.leave(c.now))
	require.Equal(t, []string{"leaving: dead me@1 by me"}, c.packets())

	c = newTestCore(t)
	c.know(nodeNames("n", 100)...)
	for _, name := range nodeNames("n", 100) {
		c.hearDead(name, 1, name)
	}
	c.settle()
	require.Nil(t, c.leave(c.now))
	require.Len(t, c.packets(), maxDeparting)
}

// Others that leave make this node ask more at a time, within bounds, and never open
// too many streams (P192).
func TestDepartureAsksMoreWhileOthersLeave(t *testing.T) {
	for _, departed := range []int{0, 1} {
		c := newTestCore(t)
		c.know(nodeNames("n", 100)...)
		heardNow(c)
		for _, name := range nodeNames("left", departed) {
			c.know(name)
			c.hearDead(name, 1, name)
		}
		c.leaves()
		asked, called := []int{len(c.departurePings())}, len(c.calls())
		for range 5 {
			c.pass(c.cfg.ProbeTimeout)
			asked = append(asked, len(c.departurePings()))
			called += len(c.calls())
		}
		want := []int{3, 3, 3, 3, 3, 3}
		if departed > 0 {
			want = []int{3, 6, 12, 16, 16, 16}
		}
		require.Equal(t, want, asked)
		require.LessOrEqual(t, called, departureCalls)
	}
}

// After the caller's time has run out no more streams are opened.
func TestDepartureThatWasGivenUpOpensNoStreams(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.leaves()
	for _, s := range c.calls() {
		c.callEnded(c.now, s, callSilent)
	}
	c.departurePings()
	c.giveUpDeparture(c.now)
	c.pass(time.Minute)
	require.NotEmpty(t, c.departurePings())
	require.Empty(t, c.calls())
}

// What comes of a stream of an earlier departure proves nothing about a later one.
func TestDepartureStreamOfAnEarlierOneDoesNotCount(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.leaves()
	earlier := c.calls()["x"]
	c.announceSelf(c.now, addrOfTestNode("me"), 7946, nil, nil)
	c.settle()
	done := c.leaves()
	c.callEnded(c.now, earlier, callHeard)
	c.pass(0)
	require.False(t, c.isClosed(done))
}
