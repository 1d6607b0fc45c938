package memberlist

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The total time of a suspicion after c of k confirmations, as in the table of
// P153 (P62, P153).
func TestConfirmationsShortenTheSuspicion(t *testing.T) {
	table := map[int][]time.Duration{
		1: {24 * time.Second, 4 * time.Second},
		2: {24 * time.Second, 11381 * time.Millisecond, 4 * time.Second},
		3: {24 * time.Second, 14 * time.Second, 8150 * time.Millisecond, 4 * time.Second},
	}
	for k, totals := range table {
		s := newSuspicion(instant(time.Hour), "accuser", k, 4*time.Second, 24*time.Second)
		for c, want := range totals {
			require.Equal(t, want, s.timeout(), "c = %d of k = %d", c, k)
			require.Equal(t, instant(time.Hour).add(want), s.deadline())
			require.Equal(t, c < k, s.confirm(borrow(nodeNames("node", 10)[c])))
		}
	}
}

// The last example of P153: what remains of a suspicion between 2 s and 30 s
// when 3 s have elapsed (P62, P153).
func TestElapsedTimeIsSubtracted(t *testing.T) {
	start := instant(5 * time.Second)
	s := newSuspicion(start, "accuser", 3, 2*time.Second, 30*time.Second)
	now := start.add(3 * time.Second)
	for c, want := range []time.Duration{27 * time.Second, 13 * time.Second, 4810 * time.Millisecond, -time.Second} {
		require.Equal(t, want, s.deadline().sub(now), "c = %d", c)
		s.confirm(borrow(nodeNames("node", 4)[c]))
	}
}

// TestWithoutWantedConfirmationsTheShortestTimeRuns checks P62.
func TestWithoutWantedConfirmationsTheShortestTimeRuns(t *testing.T) {
	for _, k := range []int{0, -1, -2} {
		s := newSuspicion(0, "accuser", k, 4*time.Second, 24*time.Second)
		require.Equal(t, 4*time.Second, s.timeout(), "k = %d", k)
		require.False(t, s.confirm(borrow("other")), "k = %d", k)
	}
}

// Whatever the numbers: the first timeout is the longest, the last the shortest,
// each confirmation shortens, and what lies between is whole milliseconds of the
// formula of P62.
func TestTimeoutFollowsTheFormula(t *testing.T) {
	for k := 1; k <= 6; k++ {
		for _, shortest := range []time.Duration{100 * time.Millisecond, 4164 * time.Millisecond, 2 * time.Minute} {
			longest := 6 * shortest
			s := newSuspicion(0, "accuser", k, shortest, longest)
			require.Equal(t, longest, s.timeout())
			before := longest + 1
			for c := range k + 1 {
				total := s.timeout()
				formula := longest.Seconds() - (longest-shortest).Seconds()*math.Log(float64(c+1))/math.Log(float64(k+1))
				require.InDelta(t, formula, total.Seconds(), 0.0011)
				require.LessOrEqual(t, total, time.Duration(math.Round(formula*1e9)), "rounded down")
				require.Less(t, total, before)
				require.Zero(t, total%time.Millisecond)
				before = total
				s.confirm(borrow(nodeNames("node", k)[min(c, k-1)]))
			}
			require.Equal(t, shortest, s.timeout())
		}
	}
}

// TestOnlyNewAccusersConfirm checks P63.
func TestOnlyNewAccusersConfirm(t *testing.T) {
	s := newSuspicion(0, "first", 2, time.Second, time.Minute)
	require.False(t, s.confirm(borrow("first")), "who began the suspicion does not confirm it")
	require.True(t, s.confirm(borrow("second")))
	require.False(t, s.confirm(borrow("second")), "nobody counts twice")
	require.Equal(t, 1, s.confirmations())
	require.True(t, s.confirm(borrow("third")))
	require.False(t, s.confirm(borrow("fourth")), "at most k count")
	require.Equal(t, 2, s.confirmations())
	require.Equal(t, []string{"first", "second", "third"}, s.accusers)
}

// Accusers outlive the packet that named them (P63).
func TestAccusersAreKept(t *testing.T) {
	second := []byte("second")
	s := newSuspicion(0, "first", 2, time.Second, time.Minute)
	s.confirm(borrowBytes(second))
	copy(second, "XXXXXX")
	require.Equal(t, []string{"first", "second"}, s.accusers)
}
