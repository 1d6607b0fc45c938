package memberlist

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

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

// Someone who accuses a member and lets it refute in turn leaves no alarms behind
// but those of the last case.
func TestStaleAlarmsAreSweptOut(t *testing.T) {
	c := newTestCore(t, withDetector)
	c.know("b", "c", "d", "e", "f")
	for incarnation := uint32(2); incarnation < 50_000; incarnation++ {
		c.hearSuspect("b", incarnation-1, "c")
		c.nextAlarm(c.now)
		c.hearAlive("b", incarnation)
		c.settle()
	}
	c.hearSuspect("b", 50_000, "c")
	c.nextAlarm(c.now)
	require.LessOrEqual(t, len(c.alarms), 2*fewAlarms)
	require.LessOrEqual(t, cap(c.alarms), 8*fewAlarms)
	c.pass(time.Minute)
	require.Equal(t, "dead@50000", c.view("b"), "the last case is still decided")
}

// A sweep keeps every alarm that has something to do, in order.
func TestSweepKeepsWhatIsPending(t *testing.T) {
	c := newTestCore(t)
	c.alarms = nil
	rng := rand.New(rand.NewPCG(1, 2))
	var want []instant
	for i := range uint32(3 * fewAlarms) {
		at := c.now.add(time.Duration(rng.IntN(1000)))
		c.alarms.push(alarm{at: at, kind: alarmPing, seq: i})
		if i%3 == 0 {
			c.pings[i] = new(pendingPing)
			want = append(want, at)
		}
	}
	c.nextAlarm(c.now)
	slices.Sort(want)
	require.Less(t, len(c.alarms), fewAlarms+2)
	for _, at := range want {
		require.Equal(t, at, c.alarms.next())
		c.alarms.pop()
	}
}

// A crowd of alarms leaves no large heap behind.
func TestHeapOfAlarmsShrinks(t *testing.T) {
	c := newTestCore(t)
	for i := range 100_000 {
		c.alarms.push(alarm{at: c.now.add(time.Duration(i)), kind: alarmLeave})
	}
	c.pass(time.Second)
	require.LessOrEqual(t, cap(c.alarms), fewAlarms)
}
