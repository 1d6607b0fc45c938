package memberlist

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A member that does not answer is accused only if somebody else answered
// something that was sent no earlier than the ping (P170).
func TestAlibiIsARoundTripWithAThirdNode(t *testing.T) {
	before := func(c *testCore, p *probe) instant { return p.sent - 1 }
	same := func(c *testCore, p *probe) instant { return p.sent }
	later := func(c *testCore, p *probe) instant { return c.now }
	answers := func(name string, sent func(*testCore, *probe) instant) func(*testCore, *probe) {
		return func(c *testCore, p *probe) { c.roundTrip(name, sent(c, p)) }
	}
	for what, run := range map[string]struct {
		happens []func(*testCore, *probe)
		change  func(*Config)
		want    string
	}{
		"nothing is heard":                         {want: "alive@1"},
		"a relay refuses":                          {happens: []func(*testCore, *probe){(*testCore).refuse}, want: "suspect@1"},
		"somebody answers what was sent later":     {happens: []func(*testCore, *probe){answers("a", later)}, want: "suspect@1"},
		"somebody answers what was sent with it":   {happens: []func(*testCore, *probe){answers("a", same)}, want: "suspect@1"},
		"somebody answers what was sent before":    {happens: []func(*testCore, *probe){answers("a", before)}, want: "alive@1"},
		"the accused answers something else":       {happens: []func(*testCore, *probe){answers("x", later)}, want: "alive@1"},
		"the accused answers and old mail comes":   {happens: []func(*testCore, *probe){answers("x", later), answers("a", before)}, want: "alive@1"},
		"the accused answers after somebody else":  {happens: []func(*testCore, *probe){answers("a", later), answers("x", later)}, want: "suspect@1"},
		"the accused answers before somebody else": {happens: []func(*testCore, *probe){answers("x", later), answers("a", later)}, want: "suspect@1"},
		"an older answer comes after a later one":  {happens: []func(*testCore, *probe){answers("a", later), answers("a", before)}, want: "suspect@1"},
		"no alibi is asked for":                    {change: without(func(d *detectorSwitches) { d.noSelfCheck = true }), want: "suspect@1"},
	} {
		t.Run(what, func(t *testing.T) {
			c := newDetectorCore(t, func(cfg *Config) {
				if run.change != nil {
					run.change(cfg)
				}
			})
			c.know("x", "a", "b", "c")
			c.selfCheck.packets.last = c.now
			p := c.probe("x")
			c.live(700*time.Millisecond, nil)
			for _, happen := range run.happens {
				happen(c, p)
			}
			c.live(300*time.Millisecond, nil)
			require.Equal(t, probeIdle, c.probing.phase)
			require.Equal(t, run.want, c.view("x"))
		})
	}
}

// A self-check that comes within the next probe interval still counts; later the
// target may be back (P171).
func TestAlibiMayComeWithinTheNextProbeInterval(t *testing.T) {
	late := func(c *testCore) { c.roundTrip("a", c.now-1) }
	for what, run := range map[string]struct {
		at   time.Duration // after the end of the round
		what func(c *testCore, p *probe)
		want string
	}{
		"at once":                  {0, func(c *testCore, _ *probe) { late(c) }, "suspect@1"},
		"at the last moment":       {time.Second, func(c *testCore, _ *probe) { late(c) }, "suspect@1"},
		"later":                    {time.Second + 1, func(c *testCore, _ *probe) { late(c) }, "alive@1"},
		"from a slow relay":        {time.Second - 1, (*testCore).refuse, "suspect@1"},
		"from a relay, but later":  {time.Second + 1, (*testCore).refuse, "alive@1"},
		"from the accused":         {time.Second, func(c *testCore, _ *probe) { c.roundTrip("x", c.now-1) }, "alive@1"},
		"to older mail":            {time.Second, func(c *testCore, p *probe) { c.roundTrip("a", p.sent-1) }, "alive@1"},
		"after the answer came":    {time.Second - 1, func(c *testCore, p *probe) { c.answer(p); late(c) }, "alive@1"},
		"after the accused spoke":  {time.Second, func(c *testCore, _ *probe) { c.roundTrip("x", c.now-1); late(c) }, "alive@1"},
		"of one refuted meanwhile": {time.Second, func(c *testCore, _ *probe) { c.hearAlive("x", 2); late(c) }, "alive@2"},
	} {
		t.Run(what, func(t *testing.T) {
			c := newDetectorCore(t)
			c.know("x", "a", "b", "c")
			c.selfCheck.packets.last = c.now
			p := c.probe("x")
			c.live(time.Second, nil)
			require.Equal(t, "alive@1", c.view("x"))
			c.live(run.at, nil)
			run.what(c, p)
			require.Equal(t, run.want, c.view("x"))
			c.live(2*time.Second, nil)
			require.Empty(t, c.pings.pending[p.seq], "nothing is kept")
			late(c)
			require.Equal(t, run.want, c.view("x"), "it counts once, or never")
		})
	}
}

// Silence after a ping that the transport did not take says nothing, neither at
// the end of the round nor when a self-check comes afterwards (P170).
func TestAlibiNeedsAPingThatWentOut(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "c")
	c.selfCheck.packets.last = c.now
	c.probing.next = slices.Index(c.table.order, c.table.get("x"))
	c.probing.begin(c.now)
	p := c.probing.ping
	c.pass(700 * time.Millisecond) // nobody reports that it was sent
	c.refuse(p)
	c.roundTrip("a", c.now)
	c.pass(300 * time.Millisecond)
	require.Equal(t, probeIdle, c.probing.phase)
	require.Equal(t, "alive@1", c.view("x"))
	c.roundTrip("a", c.now)
	require.Equal(t, "alive@1", c.view("x"), "nor does a later alibi help")
}

// In a cluster of two there is no third node. Those that are gone are none (P170).
func TestAlibiIsNotAskedForInAClusterOfTwo(t *testing.T) {
	for _, others := range []struct {
		names []string
		want  string
	}{
		{nil, "suspect@1"},
		{[]string{"dead"}, "suspect@1"},
		{[]string{"left"}, "suspect@1"},
		{[]string{"a"}, "alive@1"},
	} {
		c := newDetectorCore(t)
		c.know("x")
		c.know(others.names...)
		c.selfCheck.packets.last = c.now
		if c.table.get("dead") != nil {
			c.hearDead("dead", 1, "somebody")
		}
		if c.table.get("left") != nil {
			c.hearDead("left", 1, "left")
		}
		c.probe("x")
		c.live(time.Second, nil)
		require.Equal(t, others.want, c.view("x"), "with %v", others.names)
	}
}

// The nack comes from one of the relays, and nobody knows which. So a member whose
// own silence is to be judged is not asked to be a relay: its nack would be an
// self-check against itself (P170).
func TestAlibiIsNotGivenByTheAccused(t *testing.T) {
	t.Run("while an alibi is awaited", func(t *testing.T) {
		c := newDetectorCore(t, func(cfg *Config) { cfg.IndirectChecks = 9 })
		c.know("x", "y", "a")
		c.selfCheck.packets.last = c.now
		c.probe("x")
		c.live(time.Second, nil)
		require.Equal(t, "x", c.selfCheck.unverified.m.node.Name)
		c.settle()
		c.probe("y")
		c.pass(500 * time.Millisecond)
		require.Equal(t, []string{"a"}, c.targets("indirect ping y nack"))
	})
	t.Run("while its own answer is awaited", func(t *testing.T) {
		c := newDetectorCore(t, func(cfg *Config) { cfg.IndirectChecks = 9 })
		c.know("x", "y", "a")
		c.hearSuspect("y", 1, "a")
		c.settle()
		c.probe("x")
		c.finalProber.ask(c.now, c.table.get("y").suspicion())
		require.Equal(t, []string{"a"}, c.targets("indirect ping y nack"))
	})
}

// A node that hears nobody doubts itself more with each round, and accuses nobody
// until it takes it that it is the only one left. The suspicions that begin then
// have the usual time (P172).
func TestAlibiLoneSurvivorJudgesInTheEnd(t *testing.T) {
	c := newDetectorCore(t, func(cfg *Config) {
		cfg.GossipInterval, cfg.PushPullInterval, cfg.GossipToTheDeadTime = 0, 0, time.Hour
	})
	names := []string{"a", "b", "d", "x"}
	c.know(names...)
	c.start(c.now)
	c.live(5*time.Second, c.othersThan())
	require.Zero(t, c.health.score)
	last := c.selfCheck.packets.last
	require.Equal(t, 20*time.Second, c.selfCheck.waivedAfter())

	c.live(last.add(c.selfCheck.waivedAfter()).sub(c.now), nil)
	require.Equal(t, []string{"alive@1", "alive@1", "alive@1", "alive@1"}, c.views(names...))
	require.Equal(t, c.cfg.AwarenessMaxMultiplier-1, c.health.score)
	c.live(2*time.Minute, nil)
	require.Equal(t, []string{"dead@1", "dead@1", "dead@1", "dead@1"}, c.views(names...))
	for _, e := range c.fx.events {
		if e.change.To == StateDead {
			require.GreaterOrEqual(t, e.change.SuspectFor, c.shortestSuspicion())
		}
	}
}

// Silence begins when there is somebody to hear: a node that was alone for hours
// is not cut off when the first member comes (P172).
func TestAlibiTimeAloneIsNoSilence(t *testing.T) {
	c := newDetectorCore(t, func(cfg *Config) { cfg.GossipInterval, cfg.PushPullInterval = 0, 0 })
	c.start(c.now)
	c.live(time.Hour, nil)
	c.know("x", "a", "b")
	c.live(10*time.Second, nil)
	require.Equal(t, []string{"alive@1", "alive@1", "alive@1"}, c.views("x", "a", "b"))
	require.NotZero(t, c.health.score)

	c = newDetectorCore(t, func(cfg *Config) { cfg.GossipInterval, cfg.PushPullInterval = 0, 0 })
	c.start(c.now)
	c.live(time.Hour, nil)
	c.know("x", "a", "b")
	c.live(10*time.Second, c.othersThan())
	require.Empty(t, c.syncs(), "and there is nothing to catch up with")
}

// How long nobody may answer: the suspicion's times count, but a small
// SuspicionMult does not make a node trust itself more (P172).
func TestAlibiTimeOfALoneSurvivor(t *testing.T) {
	for _, run := range []struct {
		mult, maxMult, nodes int
		want                 time.Duration
	}{
		{4, 6, 10, 20 * time.Second},
		{4, 6, 100, 40 * time.Second},
		{2, 6, 10, 20 * time.Second},
		{4, 1, 10, 20 * time.Second},
		{6, 8, 10, 42 * time.Second},
		{0, 0, 1, 20 * time.Second},
	} {
		c := newDetectorCore(t, func(cfg *Config) {
			cfg.SuspicionMult, cfg.SuspicionMaxTimeoutMult = run.mult, run.maxMult
		})
		c.know(nodeNames("n", run.nodes-1)...)
		require.Equal(t, run.want, c.selfCheck.waivedAfter(), "%+v", run)
	}
}

// A suspicion that others began does not end in a verdict either while this node
// hears nobody. It asks on, and comes to its verdict soon after it hears somebody (P173).
func TestAlibiVerdictWaitsForOne(t *testing.T) {
	for _, alibiOff := range []bool{false, true} {
		c := newDetectorCore(t, func(cfg *Config) { cfg.SuspicionMaxTimeoutMult = 2; cfg.detector.noSelfCheck = alibiOff })
		c.know("x", "a", "b", "d")
		c.selfCheck.packets.last = c.now
		c.hearSuspect("x", 1, "a")
		deadline := c.table.get("x").suspicion().deadline()
		c.live(deadline.sub(c.now), nil)
		if alibiOff {
			require.Equal(t, "dead@1", c.view("x"))
			continue
		}
		require.Equal(t, "suspect@1", c.view("x"))
		asked := c.live(9*time.Second, nil)
		require.Equal(t, "suspect@1", c.view("x"), "time alone is no proof")
		require.NotEmpty(t, asked)
		c.roundTrip("a", c.table.get("x").suspicion().finalProbe.sent-1)
		c.live(c.cfg.ProbeTimeout-1, nil)
		require.Equal(t, "suspect@1", c.view("x"), "nor old mail")
		c.live(2*c.cfg.ProbeTimeout, c.othersThan("x"))
		require.Equal(t, "dead@1", c.view("x"))
	}
}

// After a long time without any answer a verdict needs no self-check.
func TestAlibiVerdictOfALoneSurvivor(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	c.selfCheck.packets.last = c.now
	began := c.now
	c.hearSuspect("x", 1, "a")
	c.hearSuspect("x", 1, "b")
	c.hearSuspect("x", 1, "d")
	c.live(c.selfCheck.waivedAfter(), nil)
	require.Equal(t, "suspect@1", c.view("x"))
	c.live(2*c.cfg.ProbeTimeout, nil)
	require.Equal(t, "dead@1", c.view("x"))
	require.LessOrEqual(t, c.now.sub(began), c.longestSuspicion(), "no later than without")
}

// streamOf is the stream ping that backs a ping up.
func (c *testCore) streamOf(p *probe) streamTask {
	c.t.Helper()
	for _, s := range c.fx.streams {
		if s.kind == streamProbe && s.seq == p.seq {
			return s
		}
	}
	c.t.Fatal("not asked on a stream")
	return streamTask{}
}

// streamsTo takes the stream pings: whom they go to.
func (c *testCore) streamsTo() []string {
	var list []string
	for _, s := range c.fx.streams {
		if s.kind == streamProbe {
			list = append(list, s.node.Name)
		}
	}
	c.fx.streams = nil
	return list
}

// witnesses lets those who were asked on a stream together with a target answer now.
func (c *testCore) witnesses() {
	for _, s := range c.fx.streams {
		if s.checkFor != nil {
			c.streamAnswerReceived(c.now, s.node, c.now, false)
			c.streamPeerAnswered(s.checkFor)
		}
	}
}

// onStream is an answer of a member, now, to something sent on a stream at the given
// time.
func (c *testCore) onStream(name string, sent instant) {
	c.streamAnswerReceived(c.now, c.table.get(name).node, sent, false)
}

// Where packets bring no self-check the target is asked on a stream once more, together with
// others. It is accused if one of them answers and it does not.
func TestAlibiOnStreams(t *testing.T) {
	nobody := func(*testCore, *probe) {}
	witness := func(c *testCore, _ *probe) { c.witnesses() }
	answers := func(name string) func(*testCore, *probe) {
		return func(c *testCore, _ *probe) { c.onStream(name, c.now) }
	}
	for what, run := range map[string]struct {
		inRound, after func(*testCore, *probe)
		want           string
	}{
		"nobody answers":                       {nobody, nobody, "alive@1"},
		"a witness answers":                    {nobody, witness, "suspect@1"},
		"somebody answers a later question":    {nobody, answers("a"), "alive@1"},
		"somebody answered in the round":       {answers("a"), nobody, "alive@1"},
		"the target answers":                   {nobody, answers("x"), "alive@1"},
		"the target answers after the witness": {nobody, func(c *testCore, _ *probe) { c.witnesses(); c.onStream("x", c.now) }, "alive@1"},
		"the witness answers an old question":  {nobody, func(c *testCore, _ *probe) { c.onStream("a", c.now-instant(time.Second)) }, "alive@1"},
		"the target was not asked after all":   {func(c *testCore, p *probe) { c.streamUnanswered(p.seq) }, witness, "alive@1"},
	} {
		t.Run(what, func(t *testing.T) {
			c := newDetectorCore(t)
			c.know("x", "a", "b", "d")
			c.selfCheck.packets.last = c.now
			p := c.probe("x")
			c.live(700*time.Millisecond, nil)
			require.False(t, c.streamOf(p).quiet)
			c.fx.streams = nil
			run.inRound(c, p)
			c.live(300*time.Millisecond, nil)
			require.Equal(t, probeIdle, c.probing.phase)
			require.Equal(t, "alive@1", c.view("x"), "not before it was asked again")
			c.live(100*time.Millisecond, nil)
			run.after(c, p)
			c.live(399*time.Millisecond, nil)
			require.Equal(t, "alive@1", c.view("x"))
			c.live(time.Millisecond, nil)
			require.Equal(t, run.want, c.view("x"))
			c.live(time.Second, nil)
			require.Equal(t, run.want, c.view("x"))
			require.Empty(t, c.pings.pending[p.seq], "nothing is kept")
		})
	}
}

// The witnesses are members, and not those whose own silence is to be judged (P171).
func TestAlibiOnStreamsAsksOthers(t *testing.T) {
	for what, run := range map[string]struct {
		change func(*Config)
		want   int
	}{
		"as usual":         {func(*Config) {}, 1 + streamPeers},
		"no stream pings":  {func(cfg *Config) { cfg.DisableTcpPings = true }, 0},
		"nobody is needed": {without(func(d *detectorSwitches) { d.noSelfCheck = true }), 0},
	} {
		c := newDetectorCore(t, run.change)
		c.know("x", "a", "b", "d", "e", "f")
		c.hearDead("d", 1, "d")
		c.hearSuspect("e", 1, "a")
		c.hearAlive("f", 2, withPMax(2))
		c.selfCheck.packets.last = c.now
		c.probe("x")
		c.live(999*time.Millisecond, nil)
		c.fx.streams = nil
		c.live(time.Millisecond, nil)
		asked := c.streamsTo()
		require.Len(t, asked, run.want, what)
		if run.want > 0 {
			require.ElementsMatch(t, []string{"x", "a", "b"}, asked)
		}
	}
}

// Answers on streams do not make up for packets when the target was asked by packet
// alone: where those are blocked they would condemn everybody (P170).
func TestAlibiOnStreamsIsForThoseAskedOnStreams(t *testing.T) {
	for _, disabled := range []bool{false, true} {
		c := newDetectorCore(t, func(cfg *Config) { cfg.DisableTcpPings = disabled; cfg.SuspicionMaxTimeoutMult = 1 })
		c.know("x", "a", "b", "d")
		c.selfCheck.packets.last = c.now
		c.hearSuspect("x", 1, "a")
		c.live(3900*time.Millisecond, nil)
		c.onStream("a", c.now)
		c.witnesses()
		c.live(100*time.Millisecond, nil)
		require.Equal(t, disabled, c.view("x") == "suspect@1", c.view("x"))
	}
}

// The final probe gets its witnesses with it where packets are known to fail, so that
// the verdict is no later, and is put again on a stream.
func TestLastQuestionCallsWitnessesWherePacketsFail(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	c.selfCheck.packets.last = c.now
	c.hearSuspect("x", 1, "a")
	c.live(3500*time.Millisecond, nil)
	asked := c.streamsTo()
	require.Len(t, asked, 1+streamPeers)
	require.Equal(t, "x", asked[0])
	require.NotContains(t, asked[1:], "x")
	c.live(499*time.Millisecond, nil)
	require.Equal(t, []string{"x", "x"}, c.streamsTo())
}

// A node that hears others on streams is not the lone survivor.
func TestAlibiOnStreamsEndsTheTimeAlone(t *testing.T) {
	c := newDetectorCore(t, func(cfg *Config) { cfg.SuspicionMaxTimeoutMult = 1 })
	c.know("x", "a", "b", "d")
	c.selfCheck.packets.last = c.now
	c.now = c.now.add(c.selfCheck.waivedAfter() + time.Minute)
	c.onStream("a", c.now-1)
	c.hearSuspect("x", 1, "a")
	c.live(4*time.Second, nil)
	require.Equal(t, "suspect@1", c.view("x"))
	c.live(c.selfCheck.waivedAfter(), nil)
	require.Equal(t, "dead@1", c.view("x"))
}

// An answer on a stream counts for the node that lives at the address where it was
// asked, and is remembered as its last one.
func TestAlibiOnStreamsOfOneThatMoved(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	n := c.table.get("x").node
	c.streamAnswerReceived(c.now, n, c.now, false)
	require.Equal(t, c.now, c.table.get("x").detectorView().lastAck)
	c.now++
	moved := newNode("x", n.Addr, n.Port+1, nil, testVersions(), StateAlive)
	c.streamAnswerReceived(c.now, moved, c.now, false)
	require.Equal(t, c.now-1, c.table.get("x").detectorView().lastAck)
	c.streamAnswerReceived(c.now, newNode("stranger", n.Addr, n.Port, nil, testVersions(), StateAlive), c.now, false)
	require.Equal(t, c.now-1, c.selfCheck.streams.last)
}

// An accusation that becomes possible when the table has moved on is not made, nor
// logged: the silence is old news (P171).
func TestAccusationsThatComeTooLateAreNotMade(t *testing.T) {
	for what, run := range map[string]struct {
		happens func(c *testCore)
		view    string
		logged  bool
	}{
		"nothing":      {func(c *testCore) {}, "suspect@1", true},
		"it died":      {func(c *testCore) { c.hearDead("x", 1, "x") }, "left@1", false},
		"it refuted":   {func(c *testCore) { c.hearAlive("x", 2) }, "alive@2", false},
		"it was found": {func(c *testCore) { c.hearDead("x", 1, "a"); c.hearAlive("x", 2) }, "alive@2", false},
		"it is reaped": {func(c *testCore) { c.hearDead("x", 1, "x"); c.now = c.now.add(time.Minute); c.reap(c.now) }, "unknown", false},
		"it came anew": {func(c *testCore) {
			c.hearDead("x", 1, "x")
			c.now = c.now.add(time.Minute)
			c.reap(c.now)
			c.hearAlive("x", 2)
		}, "alive@2", false},
	} {
		c := newDetectorCore(t)
		c.know("x", "a", "b")
		a := failedProbe{m: c.table.get("x"), incarnation: 1, sent: c.now, validUntil: c.now.add(time.Hour)}
		c.selfCheck.unverified = a
		run.happens(c)
		c.settle()
		c.roundTrip("a", c.now)
		require.Equal(t, run.view, c.view("x"), what)
		require.Equal(t, run.logged, len(c.logs(levelInfo)) > 0, what)
		require.Empty(t, c.verdicts.pending.byName, what)
	}
}
