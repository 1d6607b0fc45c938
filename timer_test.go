package memberlist

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// testHandler is a handler with nothing to do.
type testHandler struct{ answered bool }

func (*testHandler) expire(instant) {}

func (h *testHandler) stale() bool { return h.answered }

func TestAlarmsOfNothingNeverGoOff(t *testing.T) {
	var a timers
	require.Equal(t, never, a.next())
}

// Whatever the order in which timers are set, they go off by time.
func TestAlarmsGoOffInOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a timers
	var model []instant
	for range 5000 {
		if len(model) > 0 && rng.IntN(5) < 2 {
			require.Equal(t, model[0], a.next())
			require.Equal(t, model[0], a.pop().at)
			model = model[1:]
			continue
		}
		at := instant(rng.IntN(300))
		a.set(at, new(testHandler))
		i, _ := slices.BinarySearch(model, at)
		model = slices.Insert(model, i, at)
	}
	for _, at := range model {
		require.Equal(t, at, a.pop().at)
	}
	require.Equal(t, never, a.next())
}

// A timer that has gone off holds on to nothing.
func TestPoppedAlarmsAreForgotten(t *testing.T) {
	var a timers
	for i := range 10 {
		a.set(instant(i), new(testHandler))
	}
	for range 10 {
		a.pop()
	}
	for _, left := range a.heap[:10] {
		require.Nil(t, left.handler)
	}
}

// Someone who accuses a member and lets it refute in turn leaves no timers behind
// but those of the last case.
func TestStaleAlarmsAreSweptOut(t *testing.T) {
	c := newTestCore(t, withDetector)
	c.know("b", "c", "d", "e", "f")
	for incarnation := uint32(2); incarnation < 50_000; incarnation++ {
		c.hearSuspect("b", incarnation-1, "c")
		c.nextDeadline(c.now)
		c.hearAlive("b", incarnation)
		c.settle()
	}
	c.hearSuspect("b", 50_000, "c")
	c.nextDeadline(c.now)
	require.LessOrEqual(t, len(c.timers.heap), 2*minTimersToSweep)
	require.LessOrEqual(t, cap(c.timers.heap), 8*minTimersToSweep)
	c.pass(time.Minute)
	require.Equal(t, "dead@50000", c.view("b"), "the last case is still decided")
}

// A sweep keeps every timer that has something to do, in order.
func TestSweepKeepsWhatIsPending(t *testing.T) {
	c := newTestCore(t)
	c.timers = timers{}
	rng := rand.New(rand.NewPCG(1, 2))
	var want []instant
	for i := range uint32(3 * minTimersToSweep) {
		at := c.now.add(time.Duration(rng.IntN(1000)))
		c.timers.set(at, &testHandler{answered: i%3 != 0})
		if i%3 == 0 {
			want = append(want, at)
		}
	}
	c.nextDeadline(c.now)
	slices.Sort(want)
	require.Less(t, len(c.timers.heap), minTimersToSweep+2)
	for _, at := range want {
		require.Equal(t, at, c.timers.next())
		c.timers.pop()
	}
}

// A crowd of timers leaves no large heap behind.
func TestHeapOfAlarmsShrinks(t *testing.T) {
	c := newTestCore(t)
	for i := range 100_000 {
		c.timers.set(c.now.add(time.Duration(i)), new(testHandler))
	}
	c.pass(time.Second)
	require.LessOrEqual(t, cap(c.timers.heap), minTimersToSweep)
}
