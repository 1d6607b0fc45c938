package memberlist

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHealthScoreIsClampedAtBothEnds checks P66.
func TestHealthScoreIsClampedAtBothEnds(t *testing.T) {
	a := newAwareness(8, new(metricCounts))
	steps := []struct{ delta, score int }{
		{0, 0}, {-1, 0}, {+1, 1}, {+3, 4}, {-1, 3}, {+100, 7}, {+1, 7}, {-2, 5}, {-100, 0}, {-1, 0},
	}
	for _, s := range steps {
		before := a.score
		changed := a.apply(s.delta)
		require.Equal(t, s.score, a.score, "%+d", s.delta)
		require.Equal(t, before != s.score, changed, "%+d", s.delta)
	}
}

// A limit below 1 counts as 1, so that the score can neither become negative nor
// the stretched interval zero (P68).
func TestLimitBelowOneCountsAsOne(t *testing.T) {
	for _, limit := range []int{1, 0, -1, math.MinInt} {
		a := newAwareness(limit, new(metricCounts))
		for _, delta := range []int{+1, -1, +5, -5} {
			require.False(t, a.apply(delta), "limit %d", limit)
			require.Zero(t, a.score, "limit %d", limit)
			require.Equal(t, time.Second, a.scale(time.Second), "limit %d", limit)
		}
	}
}

// TestScoreStretchesTheInterval checks P48.
func TestScoreStretchesTheInterval(t *testing.T) {
	a := newAwareness(8, new(metricCounts))
	for score := range 8 {
		require.Equal(t, score, a.score)
		require.Equal(t, time.Duration(score+1)*time.Second, a.scale(time.Second))
		a.apply(+1)
	}
}
