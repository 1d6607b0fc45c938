package memberlist

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func adaptive(cfg *Config) { cfg.AdaptiveProbeTimeout = true }

// The wait for a direct answer is the smoothed round trip time and four deviations,
// between half and four times ProbeTimeout (P178).
func TestAdaptiveProbeTimeoutIsBounded(t *testing.T) {
	const ms = float64(time.Millisecond)
	for _, run := range []struct {
		srtt, rttvar float64 // in ms
		on           bool
		want         time.Duration
	}{
		{0, 0, true, 500 * time.Millisecond},
		{1, 1, true, 250 * time.Millisecond},
		{100, 37.5, true, 250 * time.Millisecond},
		{100, 38, true, 252 * time.Millisecond},
		{400, 150, true, time.Second},
		{1000, 250, true, 2 * time.Second},
		{1000, 1000, true, 2 * time.Second},
		{1, 1, false, 500 * time.Millisecond},
		{1000, 1000, false, 500 * time.Millisecond},
	} {
		c := newDetectorCore(t, func(cfg *Config) { cfg.AdaptiveProbeTimeout = run.on })
		c.know("x", "a", "b")
		file := c.table.get("x").detectorState()
		file.srtt, file.rttvar = run.srtt*ms, run.rttvar*ms
		require.Equal(t, run.want, probeTimeout(c.cfg, c.table.get("x")), "%+v", run)

		c.probe("x")
		began := c.now
		c.pass(run.want - 1)
		require.Empty(t, c.targets("indirect ping x nack"), "%+v", run)
		c.pass(1)
		require.Len(t, c.targets("indirect ping x nack"), 2, "%+v", run)
		relays := c.probing.ends.sub(c.now)
		require.GreaterOrEqual(t, relays, 500*time.Millisecond, "the relays have their time, %+v", run)
		if run.want <= 500*time.Millisecond {
			require.Equal(t, time.Second, c.probing.ends.sub(began), "%+v", run)
		}
	}
}

// The estimate follows RFC 6298 §2: an eighth and a quarter of what is new (P178).
func TestAdaptiveProbeTimeoutFollowsTheRoundTrips(t *testing.T) {
	c := newDetectorCore(t, adaptive)
	c.know("x")
	for _, step := range []struct{ rtt, want time.Duration }{
		{200 * time.Millisecond, 600 * time.Millisecond},     // 200 + 4 × 100
		{200 * time.Millisecond, 500 * time.Millisecond},     // 200 + 4 × 75
		{240 * time.Millisecond, 470 * time.Millisecond},     // 205 + 4 × 66.25
		{40 * time.Millisecond, 548125 * time.Microsecond},   // 184.375 + 4 × 90.9375
		{40 * time.Millisecond, 583515625 * time.Nanosecond}, // 166.328125 + 4 × 104.296875
	} {
		c.probe("x")
		c.live(step.rtt, nil)
		c.answer(c.probing.ping)
		require.Equal(t, step.want, probeTimeout(c.cfg, c.table.get("x")))
		c.live(2*time.Second, nil)
	}
}

// A member that is slower than the repeats cannot be measured at first. It is given
// more time until it can be (RFC 6298 §5.5), and then needs no relays (P178).
func TestAdaptiveProbeTimeoutFindsTheTimeOfSlowMembers(t *testing.T) {
	for _, before := range []time.Duration{0, 10 * time.Millisecond} {
		for _, rtt := range []time.Duration{260 * time.Millisecond, 480 * time.Millisecond, 900 * time.Millisecond} {
			c := newDetectorCore(t, adaptive)
			c.know("x", "a", "b")
			if before > 0 {
				c.table.get("x").recordRTT(before)
			}
			asked := make([]bool, 40)
			for i := range asked {
				c.probe("x")
				c.pass(rtt)
				asked[i] = len(c.targets("indirect ping x nack")) > 0
				c.answer(c.probing.ping)
				require.Equal(t, probeIdle, c.probing.phase)
				c.pass(2 * time.Second)
				c.fx.packets = nil
			}
			require.NotContains(t, asked[3:], true, "first %v, then %v", before, rtt)
			require.NotZero(t, c.table.get("x").detectorView().srtt)
			require.InDelta(t, float64(rtt), c.table.get("x").detectorView().srtt, float64(rtt)/4)
		}
	}
}

// A lost packet makes a node more patient only until the next answer.
func TestAdaptiveProbeTimeoutForgetsALostPacket(t *testing.T) {
	c := newDetectorCore(t, adaptive)
	c.know("x")
	x := c.table.get("x")
	for range 20 {
		c.probe("x")
		c.live(time.Millisecond, nil)
		c.answer(c.probing.ping)
	}
	require.Equal(t, 250*time.Millisecond, probeTimeout(c.cfg, x))
	c.probe("x")
	c.live(200*time.Millisecond, nil)
	c.answer(c.probing.ping)
	require.Equal(t, 500*time.Millisecond, probeTimeout(c.cfg, x))
	c.probe("x")
	c.live(time.Millisecond, nil)
	c.answer(c.probing.ping)
	require.Equal(t, 250*time.Millisecond, probeTimeout(c.cfg, x))
}
