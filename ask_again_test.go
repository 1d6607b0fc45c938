package memberlist

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An unanswered ping is repeated within the round: halfway through the direct
// wait, with the relays, and three times while they try (P168).
func TestAskAgainWithinTheRound(t *testing.T) {
	for what, run := range map[string]struct {
		change func(*Config)
		health int
		want   []string
	}{
		"LAN": {want: []string{
			"0s x: ping x", "250ms x: ping x", "500ms x: ping x",
			"625ms x: ping x", "750ms x: ping x", "875ms x: ping x",
		}},
		"stretched by the health score": {health: 1, want: []string{
			"0s x: ping x", "250ms x: ping x", "500ms x: ping x",
			"875ms x: ping x", "1.25s x: ping x", "1.625s x: ping x",
		}},
		"WAN": {
			change: func(cfg *Config) { cfg.ProbeInterval, cfg.ProbeTimeout = 5*time.Second, 3*time.Second },
			want: []string{
				"0s x: ping x", "1.5s x: ping x", "3s x: ping x",
				"3.5s x: ping x", "4s x: ping x", "4.5s x: ping x",
			},
		},
		"switched off": {
			change: without(func(d *detectorSwitches) { d.noRepeatedPing = true }),
			want:   []string{"0s x: ping x"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			c := newDetectorCore(t, func(cfg *Config) {
				if run.change != nil {
					run.change(cfg)
				}
			})
			c.know("x")
			c.health.score = run.health
			c.probe("x")
			require.Equal(t, run.want, c.live(time.Minute, nil)[:len(run.want)])
			c.settle()
			require.Empty(t, c.live(time.Minute, nil), "and not after it")
		})
	}
}

// Repeats go out only as long as no answer has come, and end the round like the
// first: the loss of packets is no reason to suspect anybody (P168).
func TestAskAgainUntilAnAnswerComes(t *testing.T) {
	for lost := range 6 {
		c := newDetectorCore(t)
		c.know("x", "a", "b")
		c.probe("x")
		pings := 0
		c.live(time.Minute, func(p outPacket) {
			if p.to.name != "x" {
				return
			}
			require.Nil(t, p.to.node, "no checksum (W25)")
			if pings++; pings == lost+1 {
				c.answer(c.probing.ping)
			}
		})
		require.Equal(t, lost+1, pings)
		require.Equal(t, "alive@1", c.view("x"))
		require.Equal(t, probeIdle, c.probing.phase)
	}
}

// A suspect hears again what it is suspected of.
func TestAskAgainWithTheAccusation(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	c.hearSuspect("x", 1, "a")
	c.settle()
	c.probe("x")
	const asked = "ping x + suspect x@1 by me"
	require.Equal(t, []string{"0s x: " + asked, "250ms x: " + asked}, c.live(499*time.Millisecond, nil))
}

// A transport that cannot send is not asked again (P52, P168).
func TestAskAgainIsNotTriedWhereSendingFails(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b", "d")
	p := c.probe("x")
	c.settle()
	c.pingUnsent(c.now, p.seq, true)
	c.fx.packets = nil // to the relays
	require.Empty(t, c.live(999*time.Millisecond, nil))
}

// From a repeated ping no round trip time is taken into the smoothed one: nobody
// knows which of the pings was answered (RFC 6298 §3). The ping delegate is told (P168).
func TestAskAgainSpoilsTheMeasurement(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x")
	c.probe("x")
	c.live(249*time.Millisecond, nil)
	c.answer(c.probing.ping)
	require.Equal(t, float64(249*time.Millisecond), c.table.get("x").detectorView().srtt)
	c.probe("x")
	c.live(251*time.Millisecond, nil)
	c.fx.rtts = nil
	c.answer(c.probing.ping)
	require.Equal(t, float64(249*time.Millisecond), c.table.get("x").detectorView().srtt)
	require.Len(t, c.fx.rtts, 1)
	require.Equal(t, 251*time.Millisecond, c.fx.rtts[0].rtt)
}
