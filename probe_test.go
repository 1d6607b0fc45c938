package memberlist

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pinged lets the core begin a probe round and returns the member that it pings.
func (c *testCore) pinged() *member {
	c.t.Helper()
	c.probing.begin(c.now)
	if c.probing.phase == probeIdle {
		return nil
	}
	return c.probing.ping.m
}

// acked answers the running probe.
func (c *testCore) acked() {
	c.ack(c.now, &ack{SeqNo: c.probing.ping.seq}, c.now)
}

// ---- the rounds

// TestZeroIntervalsSwitchBackgroundWorkOff checks P41.
func TestZeroIntervalsSwitchBackgroundWorkOff(t *testing.T) {
	kinds := func(change func(*Config)) map[string]int {
		c := newTestCore(t, func(cfg *Config) { cfg.QueueCheckInterval = 0 }, change)
		c.start(c.now)
		found := map[string]int{}
		for _, a := range c.timers.heap {
			found[kindOf(a.handler)]++
		}
		return found
	}
	all := map[string]int{"prober": 1, "gossipTimer": 1, "syncTimer": 1}
	require.Equal(t, all, kinds(func(*Config) {}))
	for kind, change := range map[string]func(*Config){
		"prober":      func(cfg *Config) { cfg.ProbeInterval = 0 },
		"gossipTimer": func(cfg *Config) { cfg.GossipInterval = 0 },
		"syncTimer":   func(cfg *Config) { cfg.PushPullInterval = 0 },
	} {
		found := kinds(change)
		require.NotContains(t, found, kind)
		require.Len(t, found, 2)
	}
	require.NotContains(t, kinds(func(cfg *Config) { cfg.GossipNodes = 0 }), "gossipTimer")
	sampled := kinds(func(cfg *Config) { cfg.QueueCheckInterval = time.Second })
	require.Equal(t, 1, sampled["queueSampleTimer"], "and the queue depth (P85)")
}

// A node whose pings are answered is woken once in each probe interval: the timers
// for what to do without an answer are not waited for.
func TestAnsweredPingsWakeNobody(t *testing.T) {
	c := newTestCore(t, withDetector, func(cfg *Config) {
		cfg.PushPullInterval, cfg.QueueCheckInterval, cfg.ReconnectInterval = 0, 0, 0
	})
	c.know("x", "y")
	c.selfCheck.packets.last = c.now
	c.start(c.now)
	end := c.now.add(100 * time.Second)
	wakes, probes := 0, 0
	for next := c.nextDeadline(c.now); next <= end; next = c.nextDeadline(c.now) {
		c.now = next
		c.tick(c.now)
		wakes++
		if c.probing.phase != probeIdle {
			require.True(t, c.set("pendingPing"))
			require.LessOrEqual(t, c.nextDeadline(c.now), c.now.add(c.cfg.ProbeTimeout), "without an answer it has to wake up")
			c.acked()
			probes++
		}
	}
	require.InDelta(t, 100, probes, 5)
	require.LessOrEqual(t, wakes, probes+1, "and once to find that there is nothing to gossip")
	require.Less(t, len(c.timers.heap), 5)
}

// Work begins at a random moment of its first period, so that nodes that are
// created together do not move in step (P42).
func TestFirstRoundsComeAtRandomMoments(t *testing.T) {
	phases := map[instant]bool{}
	for seed := range uint64(200) {
		cfg := DefaultLANConfig()
		c := newCore(cfg, rand.New(rand.NewPCG(seed, 7)))
		c.announceSelf(0, addrOfTestNode("me"), 7946, nil, nil)
		c.start(0)
		for _, a := range c.timers.heap {
			switch kindOf(a.handler) {
			case "prober":
				require.Greater(t, a.at, instant(0))
				require.LessOrEqual(t, a.at, instant(cfg.ProbeInterval))
				phases[a.at/instant(cfg.ProbeInterval/10)] = true
			case "gossipTimer":
				require.LessOrEqual(t, a.at, instant(cfg.GossipInterval))
			case "syncTimer":
				require.Greater(t, a.at, instant(cfg.PushPullInterval), "a random wait, then the period (P43)")
				require.LessOrEqual(t, a.at, instant(2*cfg.PushPullInterval))
			}
		}
	}
	require.GreaterOrEqual(t, len(phases), 10, "in every tenth of the period")
}

// Rounds do not overlap. Those that fall due during another one are made up for
// by a single one afterwards (P42).
func TestRoundsDoNotOverlap(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.health.score = 3 // a round without answer takes 4 s
	c.probing.expire(c.now)
	began := c.now
	require.Equal(t, []string{"x: ping x"}, c.packets())
	for range 3 {
		c.now = c.now.add(time.Second)
		c.probing.expire(c.now)
		require.Empty(t, c.packets())
		require.Equal(t, began, c.probing.began)
	}
	c.acked()
	require.Equal(t, []string{"x: ping x"}, c.packets(), "the one that is owed")
	c.acked()
	require.Empty(t, c.packets())
	require.Equal(t, probeIdle, c.probing.phase)
}

// TestRoundsComeEachPeriod checks P42.
func TestRoundsComeEachPeriod(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.start(c.now)
	rounds, last := 0, c.now
	for range 1000 {
		c.now = c.timers.next()
		c.tick(c.now)
		if len(c.packets()) > 0 {
			gap := c.now.sub(last)
			require.LessOrEqual(t, gap, 1100*time.Millisecond)
			if rounds > 0 {
				require.GreaterOrEqual(t, gap, 900*time.Millisecond)
			}
			last = c.now
			rounds++
			c.acked()
		}
	}
	require.Greater(t, rounds, 100)
}

// In one pass through the table each member is probed once, in a random order;
// this node, the dead and the left never (P45).
func TestEachMemberIsProbedOnceInAPass(t *testing.T) {
	c := newTestCore(t)
	members := nodeNames("n", 20)
	c.know(members...)
	c.know("dead", "left")
	c.hearDead("dead", 1, "a")
	c.hearDead("left", 1, "left")
	c.hearSuspect("n003", 1, "a")
	c.probing.next = len(c.table.order) // a new pass
	var orders []string
	for range 5 {
		var pass []string
		for range members {
			pass = append(pass, c.pinged().node.Name)
			c.acked()
		}
		require.ElementsMatch(t, members, pass)
		orders = append(orders, strings.Join(pass, " "))
	}
	require.Len(t, slices.Compact(sortedCopy(orders)), 5, "each pass has another order (P46)")
}

// TestReapingForgetsWhoIsGoneForLong checks P46.
func TestReapingForgetsWhoIsGoneForLong(t *testing.T) {
	c := newTestCore(t)
	c.know("dead", "left", "late", "x")
	c.hearDead("dead", 1, "a")
	c.hearDead("left", 1, "left")
	c.pass(1)
	c.hearDead("late", 1, "a")
	c.pass(c.cfg.GossipToTheDeadTime)
	c.settle()
	c.probing.next = len(c.table.order) - 1
	for c.probing.next != 1 { // up to the first candidate of the next pass
		c.pinged()
		c.acked()
		if len(c.table.order) == 3 {
			break
		}
	}
	require.Equal(t, []string{"unknown", "unknown", "dead@1", "alive@1"}, c.views("dead", "left", "late", "x"))
	require.Empty(t, c.events(), "there is no event for it")
	checkTable(t, &c.table)
}

// This node's entry stays, also after Leave (P26, P46).
func TestOwnEntryIsNeverReaped(t *testing.T) {
	c := newTestCore(t)
	c.leave(c.now)
	c.pass(10 * c.cfg.GossipToTheDeadTime)
	c.reap(c.now)
	require.Equal(t, "left@1", c.view("me"))
}

// TestRoundWithoutCandidatesGivesUp checks P47.
func TestRoundWithoutCandidatesGivesUp(t *testing.T) {
	c := newTestCore(t)
	require.Nil(t, c.pinged(), "alone")
	c.know("a", "b")
	c.hearDead("a", 1, "b")
	c.hearDead("b", 1, "b")
	c.settle()
	for range 10 {
		require.Nil(t, c.pinged(), "all others are gone")
	}
	require.Empty(t, c.packets())
	require.Equal(t, metricCounts{}, c.fx.metrics)
}

// TestHealthStretchesTheRoundButNotTheDirectWait checks P48.
func TestHealthStretchesTheRoundButNotTheDirectWait(t *testing.T) {
	for score := range 4 {
		c := newTestCore(t)
		c.know("x", "relay")
		c.hearSuspect("relay", 1, "a") // no relay, to keep to the times
		c.health.score = score
		for c.pinged().node.Name != "x" {
			c.acked()
			c.health.score = score
		}
		c.settle()
		c.pass(500*time.Millisecond - 1)
		require.Equal(t, probeDirect, c.probing.phase)
		c.pass(1)
		require.Equal(t, probeIndirect, c.probing.phase, "ProbeTimeout is never scaled")
		c.pass(time.Duration(score)*time.Second + 500*time.Millisecond - 1)
		require.Equal(t, probeIndirect, c.probing.phase)
		c.pass(1)
		require.Equal(t, probeIdle, c.probing.phase)
		require.Equal(t, "suspect@1", c.view("x"))
		require.Equal(t, time.Duration(score+1)*time.Second, c.fx.metrics.probeTook)
	}
}

// TestStretchedProbesAreCounted checks P48, P147.
func TestStretchedProbesAreCounted(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.pinged()
	require.Zero(t, c.fx.metrics.degradedProbe)
	c.acked()
	c.health.score = 1
	c.pinged()
	require.Equal(t, 1, c.fx.metrics.degradedProbe)
}

// ---- the direct ping

// TestAlivePingMayCarryBroadcasts checks P49.
func TestAlivePingMayCarryBroadcasts(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.pinged()
	require.Len(t, c.fx.packets, 1)
	p := c.fx.packets[0]
	require.True(t, p.piggyback)
	require.Nil(t, p.to.node, "no checksum (W25)")
	require.Equal(t, "x", p.to.name)
	require.Equal(t, addrPortOf(addrOfTestNode("x"), 7946), p.to.addr)
	require.Equal(t, c.probing.ping.seq, p.seq)
	require.Equal(t, []string{"x: ping x"}, c.packets())
}

// TestProbesNameTheirSource checks P51.
func TestProbesNameTheirSource(t *testing.T) {
	c := newTestCore(t)
	c.announceSelf(c.now, []byte{10, 0, 0, 9}, 8301, nil, nil)
	var p ping
	_, err := p.decode(c.pingMessage(77, "x")[1:])
	require.NoError(t, err)
	require.Equal(t, ping{SeqNo: 77, Node: borrow("x"), SourceAddr: []byte{10, 0, 0, 9}, SourcePort: 8301, SourceNode: borrow("me")}, p)
}

// TestSuspectGetsItsSuspicionAlong checks P50.
func TestSuspectGetsItsSuspicionAlong(t *testing.T) {
	c := newTestCore(t)
	c.know("x", "a", "b")
	c.hearSuspect("x", 7, "a")
	c.settle()
	for c.pinged().node.Name != "x" {
		c.acked()
		c.settle()
	}
	require.Len(t, c.fx.packets, 1)
	p := c.fx.packets[0]
	require.False(t, p.piggyback, "nothing else rides along")
	require.Same(t, c.table.get("x").node, p.to.node, "a checksum if the node understands it")
	require.Equal(t, c.probing.ping.seq, p.seq)
	require.Equal(t, []string{"x: ping x + suspect x@7 by me"}, c.packets())
}

// TestDirectAckInTime checks P53.
func TestDirectAckInTime(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.health.score = 2
	c.pinged()
	seq := c.probing.ping.seq
	c.pingSent(seq, c.now.add(time.Millisecond))
	c.pass(50 * time.Millisecond)
	c.ack(c.now, &ack{SeqNo: seq, Payload: []byte("payload")}, c.now.add(-9*time.Millisecond))
	require.Equal(t, []roundTrip{{node: c.table.get("x").node, rtt: 40 * time.Millisecond, payload: []byte("payload")}}, c.fx.rtts)
	require.Equal(t, probeIdle, c.probing.phase)
	require.Equal(t, 1, c.health.score, "P67: −1")
	require.Equal(t, 50*time.Millisecond, c.fx.metrics.probeTook)
	require.Empty(t, c.pings.pending)
	c.ack(c.now, &ack{SeqNo: seq}, c.now)
	require.Len(t, c.fx.rtts, 1, "an ack counts once (P59)")
	require.Equal(t, 1, c.health.score)
	c.pass(time.Minute)
	require.Equal(t, "alive@1", c.view("x"))
}

// Round trip times are smoothed as TCP does it (RFC 6298 §2) (P53).
func TestRoundTripTimesAreSmoothed(t *testing.T) {
	m := new(member)
	m.recordRTT(80 * time.Millisecond)
	require.InDelta(t, 80e6, m.detectorView().srtt, 1)
	require.InDelta(t, 40e6, m.detectorView().rttvar, 1)
	m.recordRTT(40 * time.Millisecond)
	require.InDelta(t, 75e6, m.detectorView().srtt, 1)
	require.InDelta(t, 40e6, m.detectorView().rttvar, 1)
}

// ---- a ping that cannot be sent

// TestFaultOfTheOtherEndAsksTheRelaysAtOnce checks P52.
func TestFaultOfTheOtherEndAsksTheRelaysAtOnce(t *testing.T) {
	c := newTestCore(t)
	c.know("x", "r")
	target := c.pinged()
	c.settle()
	c.pingUnsent(c.now, c.probing.ping.seq, true)
	require.Equal(t, probeIndirect, c.probing.phase)
	require.Len(t, c.fx.packets, 1, "the relay")
	c.health.score = 2
	c.acked()
	require.Equal(t, 2, c.health.score, "P67: 0, also if it succeeds indirectly")
	require.Equal(t, StateAlive, target.state())
}

// TestUnsentPingThatFails checks P52, P67.
func TestUnsentPingThatFails(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.pinged()
	c.pingUnsent(c.now, c.probing.ping.seq, true)
	c.pass(time.Second)
	require.Equal(t, "suspect@1", c.view("x"))
	require.Equal(t, 1, c.health.score, "P67: on failure as otherwise")
}

// TestOtherFaultsEndTheRound checks P52.
func TestOtherFaultsEndTheRound(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.health.score = 2
	c.pinged()
	seq := c.probing.ping.seq
	c.pingUnsent(c.now, seq, false)
	require.Equal(t, probeIdle, c.probing.phase)
	require.Empty(t, c.pings.pending)
	c.pass(time.Minute)
	require.Equal(t, "alive@1", c.view("x"))
	require.Equal(t, 2, c.health.score)
	c.pingUnsent(c.now, seq, true) // the report of a round that is over
	require.Equal(t, probeIdle, c.probing.phase)
}

// ---- relays and streams

// unanswered lets a probe of x run into its indirect phase and returns the core.
func unanswered(t *testing.T, prepare func(c *testCore), changes ...func(*Config)) *testCore {
	t.Helper()
	c := newTestCore(t, changes...)
	c.know("x")
	prepare(c)
	c.settle()
	c.probing.next = slices.Index(c.table.order, c.table.get("x"))
	require.Equal(t, "x", c.pinged().node.Name)
	c.settle()
	c.pass(c.cfg.ProbeTimeout)
	return c
}

// TestRelaysAreAsked checks P54.
func TestRelaysAreAsked(t *testing.T) {
	c := unanswered(t, func(c *testCore) {
		c.know("a", "b", "d", "e", "suspect", "dead", "left")
		c.hearSuspect("suspect", 1, "a")
		c.hearDead("dead", 1, "a")
		c.hearDead("left", 1, "left")
	})
	require.Len(t, c.fx.packets, 3, "IndirectChecks")
	seen := map[string]bool{}
	for _, p := range c.fx.packets {
		require.Contains(t, []string{"a", "b", "d", "e"}, p.to.name, "alive, neither the target nor ourselves")
		require.False(t, seen[p.to.name])
		seen[p.to.name] = true
		require.True(t, p.piggyback, "broadcasts may ride along")
		require.Nil(t, p.to.node, "no checksum (W25)")
		require.Zero(t, p.seq, "its sending is nobody's concern")
		var ind indirectPing
		_, err := ind.decode(p.msg[1:])
		require.NoError(t, err)
		require.Equal(t, indirectPing{
			SeqNo: c.probing.ping.seq, Target: addrOfTestNode("x"), Port: 7946, Node: borrow("x"), Nack: true,
			SourceAddr: addrOfTestNode("me"), SourcePort: 7946, SourceNode: borrow("me"),
		}, ind)
	}
	require.Equal(t, 3, c.probing.ping.nacksWanted)
}

// TestNacksAreWantedOfRelaysThatKnowThem checks P54.
func TestNacksAreWantedOfRelaysThatKnowThem(t *testing.T) {
	for pmax, want := range map[byte]string{3: "r: indirect ping x", 4: "r: indirect ping x nack", 5: "r: indirect ping x nack"} {
		c := unanswered(t, func(c *testCore) { c.hearAlive("r", 2, withPMax(pmax)) })
		require.Equal(t, []string{want}, c.packets())
		require.Equal(t, strings.Contains(want, "nack"), c.probing.ping.nacksWanted == 1)
	}
}

// TestNoRelaysIfNoneAreConfigured checks P54.
func TestNoRelaysIfNoneAreConfigured(t *testing.T) {
	c := unanswered(t, func(c *testCore) { c.know("r") }, func(cfg *Config) { cfg.IndirectChecks = 0 })
	require.Empty(t, c.packets())
}

// TestFallbackPingOnAStream checks P55.
func TestFallbackPingOnAStream(t *testing.T) {
	for name, row := range map[string]struct {
		pmax     byte
		disabled bool
		want     int
	}{
		"understood":     {3, false, 1},
		"not understood": {2, false, 0},
		"disabled":       {5, true, 0},
	} {
		c := unanswered(t, func(c *testCore) { c.hearAlive("x", 2, withPMax(row.pmax)) },
			func(cfg *Config) { cfg.DisableTcpPings = row.disabled })
		require.Len(t, c.fx.streams, row.want, name)
		if row.want > 0 {
			require.Equal(t, streamTask{
				kind: streamProbe, node: c.table.get("x").node, seq: c.probing.ping.seq, timeout: 500 * time.Millisecond,
			}, c.fx.streams[0], name)
		}
	}
}

// ---- the end of a round

// TestAnyAckBeforeTheEndIsSuccess checks P56.
func TestAnyAckBeforeTheEndIsSuccess(t *testing.T) {
	c := unanswered(t, func(c *testCore) { c.know("r") })
	c.health.score = 2
	c.pass(499 * time.Millisecond)
	c.acked()
	require.Equal(t, 1, c.health.score, "P67")
	require.Empty(t, c.fx.rtts, "the ping delegate is not told")
	require.Zero(t, c.table.get("x").detectorView().srtt, "nor is this a round trip time")
	c.pass(time.Minute)
	require.Equal(t, "alive@1", c.view("x"))
}

// The answer on a stream counts, but only when the time for acks is over (P56, P67).
func TestStreamContactIsSuccess(t *testing.T) {
	c := unanswered(t, func(c *testCore) {})
	c.health.score = 2
	c.streamAnswered(c.now, c.probing.ping.seq)
	c.pass(500*time.Millisecond - 1)
	require.Equal(t, probeIndirect, c.probing.phase, "the round goes on")
	c.pass(1)
	require.Equal(t, "alive@1", c.view("x"))
	require.Equal(t, 1, c.health.score)
	require.Equal(t, []string{
		"Was able to connect to x over TCP but UDP probes failed, network may be misconfigured",
	}, c.logs(levelWarn))
}

// TestStreamContactOfAnotherRoundDoesNotCount checks P56.
func TestStreamContactOfAnotherRoundDoesNotCount(t *testing.T) {
	c := unanswered(t, func(c *testCore) {})
	seq := c.probing.ping.seq
	c.streamAnswered(c.now, seq+1)
	c.pass(time.Second)
	require.Equal(t, "suspect@1", c.view("x"))
	c.streamAnswered(c.now, seq)
	require.Equal(t, "suspect@1", c.view("x"), "its round is over")
}

// TestSilenceMakesSuspect checks P57.
func TestSilenceMakesSuspect(t *testing.T) {
	c := unanswered(t, func(c *testCore) { c.hearAlive("x", 7) })
	c.settle()
	c.pass(500*time.Millisecond - 1)
	require.Equal(t, "alive@7", c.view("x"))
	c.pass(1)
	require.Equal(t, "suspect@7", c.view("x"))
	require.Equal(t, []string{"me"}, c.table.get("x").suspicion().accusers)
	require.Equal(t, []string{"suspect x@7 by me"}, c.broadcasts())
	require.Equal(t, []string{"Suspect x has failed, no acks received"}, c.logs(levelInfo))
}

// Programs watch for the line about a ping without an answer in time (P150). One that
// could not even be sent has a line of its own.
func TestUnansweredPingIsLogged(t *testing.T) {
	c := unanswered(t, func(c *testCore) {})
	require.Equal(t, []string{"Failed UDP ping: x (timeout reached)"}, c.logs(levelDebug))
	c.pass(c.cfg.ProbeInterval - c.cfg.ProbeTimeout)
	require.Empty(t, c.logs(levelDebug), "once in a round")

	c = newTestCore(t)
	c.know("x")
	c.settle()
	c.pinged()
	c.pingUnsent(c.now, c.probing.ping.seq, true)
	c.pass(c.cfg.ProbeTimeout)
	require.Empty(t, c.logs(levelDebug))
}

// The accusation has the incarnation of the beginning of the round. A target
// that refuted in between is not accused (P57).
func TestAccusationIsThatOfTheBeginning(t *testing.T) {
	c := unanswered(t, func(c *testCore) {})
	c.hearAlive("x", 2)
	c.pass(time.Second)
	require.Equal(t, "alive@2", c.view("x"))
}

// The own repeated failure confirms somebody else's suspicion, once (P63).
func TestOwnProbeConfirms(t *testing.T) {
	c := unanswered(t, func(c *testCore) {
		c.know("a", "b")
		c.hearSuspect("x", 1, "a")
	})
	c.pass(time.Second)
	require.Equal(t, []string{"a", "me"}, c.table.get("x").suspicion().accusers)
}

// TestMissingNacksAreBadNewsAboutOneself checks P67.
func TestMissingNacksAreBadNewsAboutOneself(t *testing.T) {
	for _, row := range []struct {
		relays, nacks, want int
	}{
		{0, 0, 1}, // nobody was asked
		{3, 0, 3},
		{3, 1, 2},
		{3, 2, 1},
		{3, 3, 0},
		{3, 9, 0}, // more than there can be
	} {
		c := unanswered(t, func(c *testCore) { c.know(nodeNames("r", row.relays)...) })
		for range row.nacks {
			c.nack(c.now, &nack{SeqNo: c.probing.ping.seq})
		}
		c.pass(time.Second)
		require.Equal(t, row.want, c.health.score, "%+v", row)
		require.Equal(t, "suspect@1", c.view("x"))
		require.Equal(t, row.want, c.fx.metrics.health)
	}
}

// A relay that knows no nacks cannot be missed (P67).
func TestOnlyRelaysThatKnowNacksCount(t *testing.T) {
	c := unanswered(t, func(c *testCore) {
		c.hearAlive("r", 2, withPMax(3))
		c.hearAlive("s", 2, withPMax(4))
	})
	c.pass(time.Second)
	require.Equal(t, 1, c.health.score)
	c = unanswered(t, func(c *testCore) { c.hearAlive("r", 2, withPMax(3)) })
	c.pass(time.Second)
	require.Equal(t, 1, c.health.score, "no relay was asked for a nack")
}

// ---- choosing

// With fewer than 3k nodes all are tried, else random ones are drawn. Either way
// the choice has no repetitions, fits, and is fair (P71).
func TestChoiceIsRandomAndFair(t *testing.T) {
	for _, size := range []int{2, 5, 9, 10, 40} {
		c := newTestCore(t)
		c.know(nodeNames("n", size-1)...)
		counts := map[string]int{}
		const rounds = 6000
		for range rounds {
			chosen := c.choose(3, func(m *member) bool { return m != c.self })
			require.Len(t, chosen, min(3, size-1))
			for i, m := range chosen {
				require.NotSame(t, c.self, m)
				require.False(t, slices.Contains(chosen[:i], m))
				counts[m.node.Name]++
			}
		}
		require.Len(t, counts, size-1)
		want := rounds * min(3, size-1) / (size - 1)
		for name, n := range counts {
			require.InDelta(t, want, n, float64(want)/4, "%s of %d", name, size)
		}
	}
}

// TestFewThatFit checks P71.
func TestFewThatFit(t *testing.T) {
	c := newTestCore(t)
	c.know(nodeNames("n", 5)...)
	fits := func(m *member) bool { return m.node.Name == "n002" }
	require.Len(t, c.choose(3, fits), 1, "fewer than 3k nodes: the one that fits is found")
	require.Empty(t, c.choose(0, fits))
	require.Empty(t, c.choose(-1, fits))
	require.Empty(t, c.choose(3, func(*member) bool { return false }))

	c.know(nodeNames("m", 200)...)
	tries := 0
	require.Empty(t, c.choose(3, func(*member) bool { tries++; return false }))
	require.Equal(t, 3*206, tries, "at most three times the table")
}

func TestProbesOfAClusterAreSpreadEvenly(t *testing.T) {
	c := newTestCore(t)
	c.know(nodeNames("n", 7)...)
	c.start(c.now)
	counts := map[string]int{}
	for range 140 {
		for len(c.fx.packets) == 0 {
			c.now = c.timers.next()
			c.tick(c.now)
		}
		for _, p := range c.packets() {
			counts[p]++
		}
		c.acked()
	}
	for name, n := range counts {
		require.InDelta(t, 20, n, 1, fmt.Sprint(name, counts))
	}
}

// ---- on a running node

// TestWhichFailuresAreOfTheOtherEnd checks P52.
func TestWhichFailuresAreOfTheOtherEnd(t *testing.T) {
	failure := func(network, op string) error { return &net.OpError{Net: network, Op: op, Err: errors.New("broken")} }
	for _, row := range []struct {
		err  error
		want bool
	}{
		{failure("tcp", "dial"), true}, {failure("tcp4", "read"), true}, {failure("tcp6", "write"), true},
		{failure("tcp", "accept"), false}, {failure("udp", "write"), true}, {failure("udp4", "write"), true},
		{failure("udp", "read"), false}, {failure("udp", "dial"), false}, {failure("unix", "write"), false},
		{fmt.Errorf("wrapped: %w", failure("udp", "write")), true},
		{errors.New("something else"), false}, {net.ErrClosed, false},
	} {
		require.Equal(t, row.want, remoteFailure(row.err), "%v", row.err)
	}
}

// A member whose packets get lost is tried on a stream; it is not suspected if it
// answers there, unless that is switched off, for all or for this one (P55, P56).
func TestStreamPingSavesAMemberWithoutPackets(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*Config)
		state  NodeStateType
	}{
		"on":                 {func(*Config) {}, StateAlive},
		"off":                {func(cfg *Config) { cfg.DisableTcpPings = true }, StateSuspect},
		"off for the member": {func(cfg *Config) { cfg.DisableTcpPingsForNode = func(n string) bool { return n == "p" } }, StateSuspect},
		"off for another":    {func(cfg *Config) { cfg.DisableTcpPingsForNode = func(n string) bool { return n == "q" } }, StateAlive},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				log := new(logLines)
				m := c.node("n1", quiet, row.change, func(cfg *Config) {
					cfg.ProbeInterval, cfg.ProbeTimeout = time.Second, 500*time.Millisecond
					cfg.detector, cfg.LogOutput = plainDetector(), log
				})
				p := c.puppet("p", nil)
				p.introduce(m)
				p.accept(func(conn net.Conn) {
					r, kind, err := p.wire.openInbound(conn)
					if err != nil || kind != pingMsg {
						t.Errorf("%v %v", kind, err)
						return
					}
					var in ping
					if err := in.decodeFrom(r); err != nil || !in.Node.is("p") || !in.SourceNode.is("n1") {
						t.Errorf("%+v %v", in, err)
					}
					_, _ = p.wire.writeStream(conn, (&ack{SeqNo: in.SeqNo}).appendTo(nil), false)
				})
				time.Sleep(2500 * time.Millisecond)
				require.True(t, holdsFor(m, "p", row.state))
				warned := log.with("[WARN] memberlist: Was able to connect to p over TCP but UDP probes failed")
				require.Equal(t, row.state == StateAlive, len(warned) > 0)
			})
		})
	}
}

// An answer with another sequence number, or of another type, is no contact (W59) (P55, W59).
func TestWrongAnswersOnTheStreamDoNotCount(t *testing.T) {
	answers := map[string]func(ping) []byte{
		"other number": func(in ping) []byte { return (&ack{SeqNo: in.SeqNo + 1}).appendTo(nil) },
		"other type":   func(in ping) []byte { return (&nack{SeqNo: in.SeqNo}).appendTo(nil) },
		"nothing":      func(ping) []byte { return nil },
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				log := new(logLines)
				m := c.node("n1", quiet, func(cfg *Config) {
					cfg.ProbeInterval, cfg.ProbeTimeout = time.Second, 500*time.Millisecond
					cfg.detector, cfg.LogOutput = plainDetector(), log
				})
				p := c.puppet("p", nil)
				p.introduce(m)
				p.accept(func(conn net.Conn) {
					var in ping
					r, _, err := p.wire.openInbound(conn)
					if err != nil || in.decodeFrom(r) != nil {
						return
					}
					if msg := answer(in); msg != nil {
						_, _ = p.wire.writeStream(conn, msg, false)
					}
				})
				time.Sleep(2500 * time.Millisecond)
				require.True(t, holdsFor(m, "p", StateSuspect))
				require.NotEmpty(t, log.with("[ERR] memberlist: Failed fallback TCP ping: "))
			})
		})
	}
}

// Transports that are built on streams cannot send to a node that is dead. That
// must not keep it alive: the attempt counts.
func TestUnreachableMemberDiesAlthoughSendingFails(t *testing.T) {
	for _, fails := range []bool{false, true} {
		c := newTestCore(t, withDetector, func(cfg *Config) {
			cfg.GossipInterval, cfg.PushPullInterval, cfg.ReconnectInterval = 0, 0, 0
		})
		c.know("x", "a", "b", "d")
		c.start(c.now)
		for end := c.now.add(45 * time.Second); c.now < end; {
			c.now = max(c.now, c.timers.next())
			c.tick(c.now)
			c.answerExcept("x", fails)
		}
		require.Equal(t, []string{"dead@1", "alive@1", "alive@1"}, c.views("x", "a", "b"), "sending fails: %v", fails)
	}
}

// answerExcept answers every ping but those to one node, which nobody can reach.
func (c *testCore) answerExcept(name string, sendingFails bool) {
	for len(c.fx.packets) > 0 {
		packets := c.fx.packets
		c.fx.packets = nil
		for _, p := range packets {
			var ind indirectPing
			switch {
			case messageType(p.msg[0]) == indirectPingMsg:
				_, err := ind.decode(p.msg[1:])
				require.NoError(c.t, err)
				c.nack(c.now, &nack{SeqNo: ind.SeqNo})
			case p.to.name == name && sendingFails:
				c.pingUnsent(c.now, p.seq, true)
			case p.to.name == name:
				c.pingSent(p.seq, c.now)
			default:
				c.pingSent(p.seq, c.now)
				c.ack(c.now, &ack{SeqNo: p.seq}, c.now)
			}
		}
	}
}
