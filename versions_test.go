package memberlist

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// W65: what the spoken version changes, and what that of the other side does
// instead, which is tested with stream pings (W60), nacks (P54) and checksums (W25).
func TestWhatTheSpokenVersionChanges(t *testing.T) {
	for version := ProtocolVersionMin; version <= ProtocolVersionMax; version++ {
		inBubble(t, func(t *testing.T) {
			m := newMesh(t).node("n", func(cfg *Config) {
				cfg.ProtocolVersion, cfg.BindPort = version, 1234
			})
			require.Equal(t, version, m.ProtocolVersion())
			require.Equal(t, []uint8{1, 5, version}, []uint8{m.LocalNode().PMin, m.LocalNode().PMax, m.LocalNode().PCur})
			box, port := byte(boxPlain), uint16(99)
			if version == 1 {
				box, port = boxPadded, 1234
			}
			require.Equal(t, box, boxVersion(version))
			require.Equal(t, port, m.knownPort(99))
			require.EqualValues(t, 1234, m.knownPort(0))
		})
	}
}

// W8: nodes with the switch and without write the same and understand each other.
func TestTimeFormatSwitchDoesNothing(t *testing.T) {
	var packets [][]byte
	for _, on := range []bool{false, true} {
		cfg := plainConfig()
		cfg.MsgpackUseNewTimeFormat = on
		packet, err := newWire(cfg).sealPacket(nil, sampleCompound(3), true)
		require.NoError(t, err)
		packets = append(packets, packet)
	}
	require.True(t, bytes.Equal(packets[0], packets[1]))

	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		one := c.node("one", func(cfg *Config) { cfg.MsgpackUseNewTimeFormat = true })
		two := c.node("two")
		joinNode(t, two, one)
		joinNode(t, one, two)
		require.Equal(t, memberNames(one), memberNames(two))
	})
}
