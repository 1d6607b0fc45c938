package memberlist

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// suspectOf makes x a suspect by the words of some accusers.
func (c *testCore) suspectOf(name string, accusers ...string) *suspicion {
	c.t.Helper()
	for _, from := range accusers {
		c.hearSuspect(name, 1, from)
	}
	c.settle()
	return c.table.get(name).suspicion()
}

// questions are the times at which the final probe went to the suspect itself.
func questions(sent []string) []string {
	var times []string
	for _, line := range sent {
		if at, rest, _ := strings.Cut(line, " "); strings.HasPrefix(rest, "x: ping") {
			times = append(times, at)
		}
	}
	return times
}

// The question is put one ProbeTimeout before the earliest moment at which the
// suspicion can run out: to the suspect, which gets the accusation with it and hears
// it three times, to relays, and on a stream (P173).
func TestLastQuestionIsAskedInEveryWay(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	c.selfCheck.packets.last = c.now.add(time.Second)
	c.suspectOf("x", "a")
	sent := c.live(4*time.Second, nil)
	require.Len(t, sent, 6)
	const asked = " x: ping x + suspect x@1 by me"
	require.Equal(t, "3.5s"+asked, sent[0])
	relays := slices.Sorted(slices.Values(sent[1:4]))
	require.Equal(t, []string{
		"3.5s a: indirect ping x nack", "3.5s b: indirect ping x nack", "3.5s d: indirect ping x nack",
	}, relays)
	require.Equal(t, []string{"3.666666666s" + asked, "3.833333333s" + asked}, sent[4:])

	require.Len(t, c.fx.streams, 1)
	stream := c.fx.streams[0]
	require.Equal(t, streamProbe, stream.kind)
	require.Equal(t, "x", stream.node.Name)
	require.Equal(t, c.cfg.ProbeTimeout, stream.timeout)
	require.Equal(t, c.table.get("x").suspicion().finalProbe.seq, stream.seq)
}

// Parts that are switched off are left out.
func TestLastQuestionCanBeShort(t *testing.T) {
	ask := func(change func(*Config)) (*testCore, []string) {
		c := newDetectorCore(t, change)
		c.know("x", "a")
		c.suspectOf("x", "a")
		return c, c.live(4*time.Second-1, nil)
	}
	_, sent := ask(without(func(d *detectorSwitches) { d.noRepeatedPing = true }))
	require.Equal(t, []string{"3.5s x: ping x + suspect x@1 by me", "3.5s a: indirect ping x nack"}, sent)
	c, sent := ask(func(cfg *Config) { cfg.DisableTcpPings, cfg.IndirectChecks = true, 0 })
	require.Len(t, sent, 3)
	require.Empty(t, c.fx.streams)
	_, sent = ask(without(func(d *detectorSwitches) { d.noFinalProbe = true }))
	require.Empty(t, sent)
}

// An answer, in whatever way, ends the suspicion here and only here: no broadcast, no
// event, no new incarnation. The suspect itself has to refute what others say (P173).
func TestLastQuestionAnsweredClearsHereOnly(t *testing.T) {
	for what, answer := range map[string]func(c *testCore, p *finalProbe){
		"directly or by a relay": func(c *testCore, p *finalProbe) { c.answer(p) },
		"on the stream":          func(c *testCore, p *finalProbe) { c.streamAnswered(c.now, p.seq) },
	} {
		c := newDetectorCore(t)
		c.know("x", "a", "b", "d")
		s := c.suspectOf("x", "a", "b", "d")
		c.live(3900*time.Millisecond, nil)
		c.settle()
		p := s.finalProbe
		answer(c, p)
		require.Equal(t, "alive@1", c.view("x"), what)
		require.Empty(t, c.broadcasts(), what)
		require.Empty(t, c.events(), what)
		require.Empty(t, c.pings.pending, what)
		c.live(time.Minute, nil)
		require.Equal(t, "alive@1", c.view("x"), what)
		answer(c, p)
		require.Equal(t, "alive@1", c.view("x"), what)
	}
}

// EventReasonDelegates are told.
func TestLastQuestionAnsweredIsAChange(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	s := c.suspectOf("x", "a", "b")
	c.live(3900*time.Millisecond, nil)
	c.settle()
	c.answer(s.finalProbe)
	require.Len(t, c.fx.events, 1)
	change := c.fx.events[0].change
	require.Equal(t, StateSuspect, change.From)
	require.Equal(t, StateAlive, change.To)
	require.Equal(t, "me", change.By)
	require.Equal(t, uint32(1), change.Incarnation)
	require.Equal(t, 1, change.Confirmations)
	require.Equal(t, 3900*time.Millisecond, change.SuspectFor)
	require.Equal(t, StateAlive, change.Node.State)
}

// An answer to the final probe of an earlier suspicion clears nobody.
func TestLastQuestionOfAnotherCaseDoesNotCount(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	first := c.suspectOf("x", "a")
	c.live(3600*time.Millisecond, nil)
	c.hearAlive("x", 2)
	c.hearSuspect("x", 2, "a")
	require.Equal(t, "suspect@2", c.view("x"))
	c.answer(first.finalProbe)
	require.Equal(t, "suspect@2", c.view("x"))
}

// The verdict comes at the very moment at which it would have come without the
// question, whenever accusers confirm the suspicion (P173).
func TestLastQuestionDoesNotDelayTheVerdict(t *testing.T) {
	died := func(off bool, maxMult int, confirmed ...time.Duration) time.Duration {
		c := newDetectorCore(t, func(cfg *Config) {
			cfg.detector.noFinalProbe, cfg.SuspicionMaxTimeoutMult = off, maxMult
		})
		c.know("x", "a", "b", "d")
		began := c.now
		c.suspectOf("x", "a")
		for i, at := range confirmed {
			c.live(began.add(at).sub(c.now), c.othersThan("x"))
			c.hearSuspect("x", 1, []string{"b", "d"}[i])
		}
		c.live(time.Minute, c.othersThan("x"))
		for _, e := range c.fx.events {
			if e.kind == eventLeave {
				return e.change.SuspectFor
			}
		}
		return 0
	}
	const ms = time.Millisecond
	for _, confirmed := range [][]time.Duration{
		{}, {0}, {0, 0}, {ms, 2 * ms}, {3 * time.Second, 3499 * ms}, {time.Second}, {3600 * ms}, {5 * time.Second},
	} {
		for _, maxMult := range []int{1, 2, 3, 6} {
			want := died(true, maxMult, confirmed...)
			require.NotZero(t, want)
			require.Equal(t, want, died(false, maxMult, confirmed...), "confirmed at %v, %d times", confirmed, maxMult)
		}
	}
	ten := 10 * time.Second
	require.Equal(t, 11381*ms, died(true, 6, ten))
	require.Equal(t, 11381*ms, died(false, 6, ten))

	// Only one that ends the suspicion at once costs the time for the answer, if the
	// final probe was asked long ago or never.
	late := []time.Duration{15 * time.Second, 15 * time.Second}
	require.Equal(t, 15*time.Second, died(true, 6, late...))
	require.Equal(t, 15500*ms, died(false, 6, late...))
}

// A suspicion that may take long has the question put again before its end (P173).
func TestLastQuestionIsRepeatedBeforeALateVerdict(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	c.suspectOf("x", "a")
	require.Equal(t, []string{
		"3.5s", "3.666666666s", "3.833333333s", "23.5s", "23.666666666s", "23.833333333s",
	}, questions(c.live(time.Minute, c.othersThan("x"))))
	require.Equal(t, "dead@1", c.view("x"))

	c = newDetectorCore(t)
	c.know("x", "a", "b", "d")
	c.suspectOf("x", "a")
	c.live(5*time.Second, c.othersThan("x"))
	c.hearSuspect("x", 1, "b") // 11.381 s in all
	require.Equal(t, "5.881s", questions(c.live(time.Minute, c.othersThan("x")))[0])
}

// Suspicions that are shorter than a ProbeTimeout begin with the question, and wait
// for the answer.
func TestLastQuestionOfAShortSuspicion(t *testing.T) {
	for _, mult := range []int{0, 1} {
		c := newDetectorCore(t, func(cfg *Config) {
			cfg.SuspicionMult, cfg.ProbeInterval = mult, 200*time.Millisecond
		})
		c.know("x", "a", "b", "d")
		c.suspectOf("x", "a", "b", "d")
		sent := c.live(499*time.Millisecond, c.othersThan("x"))
		require.Equal(t, "0s", questions(sent)[0], "mult %d", mult)
		require.Equal(t, "suspect@1", c.view("x"), "mult %d", mult)
		c.live(2*time.Second, c.othersThan("x"))
		require.Equal(t, "dead@1", c.view("x"), "mult %d", mult)
	}
}

// A member that answered is not suspected again with the same incarnation for as
// long as a suspicion takes at least: what others say is older than its answer. It
// can be with a newer one, and declared dead by others (P174).
func TestLastQuestionAnsweredLastsForAWhile(t *testing.T) {
	for what, run := range map[string]struct {
		after time.Duration
		hear  func(c *testCore)
		want  string
	}{
		"the same accusation": {3999 * time.Millisecond, func(c *testCore) { c.hearSuspect("x", 1, "b") }, "alive@1"},
		"the own probe":       {3999 * time.Millisecond, func(c *testCore) { c.suspicions.raise(c.now, failedProbe{m: c.table.get("x"), incarnation: 1}) }, "alive@1"},
		"by a full exchange": {3999 * time.Millisecond, func(c *testCore) {
			c.merge(c.now, []pushNodeState{{Name: borrow("x"), Incarnation: 1, State: StateDead}})
		}, "alive@1"},
		"after that time":        {4 * time.Second, func(c *testCore) { c.hearSuspect("x", 1, "b") }, "suspect@1"},
		"with a new incarnation": {0, func(c *testCore) { c.hearSuspect("x", 2, "b") }, "suspect@2"},
		"a death":                {0, func(c *testCore) { c.hearDead("x", 1, "b") }, "dead@1"},
		"a refutation":           {0, func(c *testCore) { c.hearAlive("x", 2) }, "alive@2"},
	} {
		c := newDetectorCore(t)
		c.know("x", "a", "b", "d")
		s := c.suspectOf("x", "a")
		c.live(3600*time.Millisecond, nil)
		c.answer(s.finalProbe)
		c.live(run.after, nil)
		run.hear(c)
		require.Equal(t, run.want, c.view("x"), what)
	}
}

// An answer in the running probe round does not clear a suspect: it heard the
// accusation with the ping (buddy system) and refutes it for everybody.
func TestLastQuestionIsNotAnOrdinaryPing(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	c.suspectOf("x", "a")
	c.answer(c.probe("x"))
	require.Equal(t, "suspect@1", c.view("x"))
}

// Many suspects are asked side by side, and each answers for itself.
func TestLastQuestionsOfManySuspects(t *testing.T) {
	c := newDetectorCore(t)
	names := nodeNames("n", 20)
	c.know(names...)
	c.know("a", "b", "d")
	for i, name := range names {
		for _, from := range []string{"a", "b", "d"} {
			c.hearSuspect(name, 1, from)
		}
		c.pass(time.Duration(i) * time.Millisecond)
	}
	c.live(30*time.Second, c.othersThan(names[:10]...))
	for i, name := range names {
		want := "alive@1"
		if i < 10 {
			want = "dead@1"
		}
		require.Equal(t, want, c.view(name), fmt.Sprint(i))
	}
	require.Empty(t, c.pings.pending)
}
