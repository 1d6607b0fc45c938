package memberlist

import (
	"bytes"
	"testing"
	"testing/synctest"

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
			require.Equal(t, port, m.config.knownPort(99))
			require.EqualValues(t, 1234, m.config.knownPort(0))
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

// ---- versions of both sides

func remoteNode(name string, state NodeStateType, vsn ...byte) pushNodeState {
	return pushNodeState{Name: borrow(name), Addr: addrOfTestNode(name), State: state, Vsn: vsn}
}

func localNode(name string, state NodeStateType, vsn ...byte) nodeRecord {
	return nodeRecord{node: newNode(name, nil, 0, nil, vsn, state)}
}

// TestVersionsOfBothSidesMustGoTogether checks P120.
func TestVersionsOfBothSidesMustGoTogether(t *testing.T) {
	me := localNode("me", StateAlive, 1, 5, 2, 0, 0, 0)
	for name, row := range map[string]struct {
		remote []pushNodeState
		local  []nodeRecord
		want   string
	}{
		"alike": {
			remote: []pushNodeState{remoteNode("r", StateAlive, 1, 5, 2, 0, 0, 0)},
		},
		"nobody else": {},
		"they speak what we do not understand": {
			remote: []pushNodeState{remoteNode("r", StateAlive, 1, 7, 6, 0, 0, 0)},
			want:   "Node 'r' protocol version (6) is incompatible: [1, 5]",
		},
		"we speak what they do not understand": {
			remote: []pushNodeState{remoteNode("r", StateAlive, 3, 5, 4, 0, 0, 0)},
			want:   "Node 'me' protocol version (2) is incompatible: [3, 5]",
		},
		"remote entries are checked first": {
			remote: []pushNodeState{remoteNode("r", StateAlive, 3, 5, 6, 0, 0, 0)},
			want:   "Node 'r' protocol version (6) is incompatible: [3, 5]",
		},
		"a third node of theirs narrows the range": {
			remote: []pushNodeState{
				remoteNode("r", StateAlive, 1, 5, 4, 0, 0, 0), remoteNode("s", StateAlive, 1, 3, 2, 0, 0, 0),
			},
			want: "Node 'r' protocol version (4) is incompatible: [1, 3]",
		},
		"one that is not alive does not": {
			remote: []pushNodeState{
				remoteNode("r", StateAlive, 1, 5, 4, 0, 0, 0), remoteNode("s", StateSuspect, 1, 3, 2, 0, 0, 0),
				remoteNode("u", StateDead, 1, 3, 2, 0, 0, 0), remoteNode("v", StateLeft, 1, 3, 2, 0, 0, 0),
			},
		},
		"but has to be in it": {
			remote: []pushNodeState{
				remoteNode("r", StateAlive, 1, 5, 2, 0, 0, 0), remoteNode("s", StateDead, 1, 7, 6, 0, 0, 0),
			},
			want: "Node 's' protocol version (6) is incompatible: [1, 5]",
		},
		"a local node in another state has to be in it": {
			local: []nodeRecord{localNode("gone", StateLeft, 1, 9, 9, 0, 0, 0)},
			want:  "Node 'gone' protocol version (9) is incompatible: [1, 5]",
		},
		"a local one that is not alive does not narrow": {
			local:  []nodeRecord{localNode("gone", StateDead, 2, 3, 2, 0, 0, 0)},
			remote: []pushNodeState{remoteNode("r", StateAlive, 1, 5, 4, 0, 0, 0)},
		},
		"a short array speaks version 0": {
			remote: []pushNodeState{remoteNode("r", StateDead, 1, 5, 2, 0, 0)},
			want:   "Node 'r' protocol version (0) is incompatible: [1, 5]",
		},
		"five bytes narrow the range": {
			remote: []pushNodeState{remoteNode("r", StateAlive, 0, 1, 2, 0, 0)},
			want:   "Node 'r' protocol version (0) is incompatible: [1, 1]",
		},
		"four do not": {
			remote: []pushNodeState{remoteNode("r", StateAlive, 0, 1, 2, 0)},
			want:   "Node 'r' protocol version (0) is incompatible: [1, 5]",
		},
		"the users' protocol": {
			remote: []pushNodeState{remoteNode("r", StateAlive, 1, 5, 2, 3, 7, 5)},
			want:   "Node 'r' delegate protocol version (5) is incompatible: [3, 0]",
		},
		"the users' protocol, here": {
			local:  []nodeRecord{localNode("l", StateDead, 1, 5, 2, 2, 4, 3)},
			remote: []pushNodeState{remoteNode("r", StateDead, 1, 5, 2, 0, 0, 0)},
			want:   "Node 'l' delegate protocol version (3) is incompatible: [0, 0]",
		},
	} {
		err := checkCompatible(row.remote, append([]nodeRecord{me}, row.local...))
		if row.want == "" {
			require.NoError(t, err, name)
			continue
		}
		require.EqualError(t, err, row.want, name)
		require.ErrorIs(t, err, ErrVersion, name)
	}
}

// Versions of the users' protocols that overlap (P2, P120).
func TestUsersProtocolsThatOverlap(t *testing.T) {
	me := localNode("me", StateAlive, 1, 5, 2, 2, 4, 3)
	for current, ok := range map[byte]bool{2: false, 3: true, 4: true, 5: false} {
		err := checkCompatible([]pushNodeState{remoteNode("r", StateAlive, 1, 5, 2, 3, 6, current)}, []nodeRecord{me})
		require.Equal(t, ok, err == nil, "they speak %d: %v", current, err)
	}
}

// A node without versions is not let in, so that exchanges go on working (P121).
func TestNodeWithoutVersionsSpoilsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1")
		p := c.puppet("p", nil)
		bad := aliveOf("bad", 1)
		bad.Vsn = nil
		p.send(m, bad.appendTo(nil))
		synctest.Wait()
		require.Nil(t, statusOf(m, "bad"))
		joinNode(t, c.node("n2"), m)
		synctest.Wait() // the acceptor merges after it has answered
		require.Equal(t, []string{"n1", "n2"}, memberNames(m))
	})
}
