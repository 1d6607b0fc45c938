package memberlist

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAlarmsOfNothingNeverGoOff(t *testing.T) {
	var a alarms
	require.Equal(t, never, a.next())
}

// Whatever the order in which alarms are set, they go off by time.
func TestAlarmsGoOffInOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a alarms
	var model []instant
	for range 5000 {
		if len(model) > 0 && rng.IntN(5) < 2 {
			require.Equal(t, model[0], a.next())
			require.Equal(t, model[0], a.pop().at)
			model = model[1:]
			continue
		}
		at := instant(rng.IntN(300))
		a.push(alarm{at: at, kind: alarmPing, seq: uint32(at)})
		i, _ := slices.BinarySearch(model, at)
		model = slices.Insert(model, i, at)
	}
	for _, at := range model {
		require.Equal(t, at, a.pop().at)
	}
	require.Equal(t, never, a.next())
}

// An alarm that has gone off holds on to nothing.
func TestPoppedAlarmsAreForgotten(t *testing.T) {
	var a alarms
	for i := range 10 {
		a.push(alarm{at: instant(i), kind: alarmSuspicion, m: new(member)})
	}
	for range 10 {
		a.pop()
	}
	for _, left := range a[:10] {
		require.Nil(t, left.m)
	}
}
