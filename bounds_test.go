package memberlist

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-metrics"
	"github.com/stretchr/testify/require"
)

// boundedMessage is a message that is held to bounds.
type boundedMessage interface{ checkBounds() error }

func TestBoundsOfMessages(t *testing.T) { // P167
	longest := borrow(strings.Repeat("n", maxNameLen))
	tooLong := borrow(strings.Repeat("n", maxNameLen+1))
	v4, v6 := make([]byte, 4), make([]byte, 16)
	for name, m := range map[string]boundedMessage{
		"alive, at its longest":    &alive{Node: longest, Addr: v6, Meta: make([]byte, MetaMaxSize), Vsn: make([]byte, maxVersionsLen)},
		"alive, with little":       &alive{Addr: v4},
		"entry, at its longest":    &pushNodeState{Name: longest, Addr: v6, Meta: make([]byte, MetaMaxSize), Vsn: make([]byte, maxVersionsLen)},
		"accusation":               &suspect{Node: longest, From: longest},
		"ping":                     &ping{Node: longest, SourceNode: longest, SourceAddr: v6},
		"ping without a source":    &ping{},
		"indirect ping":            &indirectPing{Node: longest, SourceNode: longest, Target: v4, SourceAddr: v6},
		"indirect ping, no source": &indirectPing{Target: v6},
	} {
		require.NoError(t, m.checkBounds(), name)
	}
	for name, m := range map[string]boundedMessage{
		"alive: name":        &alive{Node: tooLong, Addr: v4},
		"alive: meta":        &alive{Addr: v4, Meta: make([]byte, MetaMaxSize+1)},
		"alive: versions":    &alive{Addr: v4, Vsn: make([]byte, maxVersionsLen+1)},
		"entry: name":        &pushNodeState{Name: tooLong, Addr: v4},
		"entry: meta":        &pushNodeState{Addr: v4, Meta: make([]byte, MetaMaxSize+1)},
		"accusation: node":   &suspect{Node: tooLong},
		"accusation: from":   &suspect{From: tooLong},
		"ping: name":         &ping{Node: tooLong},
		"ping: source":       &ping{SourceNode: tooLong},
		"indirect: name":     &indirectPing{Node: tooLong, Target: v4},
		"indirect: source":   &indirectPing{SourceNode: tooLong, Target: v4},
		"indirect: no place": &indirectPing{},
	} {
		require.Error(t, m.checkBounds(), name)
	}
	for _, n := range []int{0, 1, 3, 5, 8, 15, 17, 32, 65536} {
		addr := make([]byte, n)
		require.ErrorIs(t, (&alive{Addr: addr}).checkBounds(), ErrMalformed, "%d", n)
		require.ErrorIs(t, (&pushNodeState{Addr: addr}).checkBounds(), ErrMalformed, "%d", n)
		require.ErrorIs(t, (&indirectPing{Target: addr}).checkBounds(), ErrMalformed, "%d", n)
		if n > 0 {
			require.ErrorIs(t, (&ping{SourceAddr: addr}).checkBounds(), ErrMalformed, "%d", n)
			require.ErrorIs(t, (&indirectPing{Target: v4, SourceAddr: addr}).checkBounds(), ErrMalformed, "%d", n)
		}
	}
}

// The longest alive message fits into a default packet, under the longest label and
// encrypted.
func TestWhatIsWithinTheBoundsCanBeGossiped(t *testing.T) {
	cfg := DefaultLANConfig()
	cfg.Label = strings.Repeat("l", LabelMaxSize)
	cfg.Keyring = testRing(t, "a")
	name := borrow(strings.Repeat("n", maxNameLen))
	a := alive{Incarnation: 1 << 31, Node: name, Addr: make([]byte, 16), Port: 65535, Meta: make([]byte, MetaMaxSize), Vsn: make([]byte, 6)}
	s := suspect{Incarnation: 1 << 31, Node: name, From: name}
	for _, msg := range []encodable{&a, &s} {
		require.LessOrEqual(t, len(msg.appendTo(nil))+compoundOverhead, newWire(cfg).gossipSpace())
	}
}

// What is out of bounds in a packet changes nothing and is not kept. It is counted
// and logged (P167).
func TestMessagesOutOfBoundsAreDropped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		huge := borrow(strings.Repeat("n", 100_000))
		lines, s := new(logLines), recordMetrics(t)
		m, tr := recorded(t, s.measured, func(cfg *Config) { cfg.LogOutput = lines })
		tr.arrive("10.99.0.9:7946", aliveOf("x", 1).appendTo(nil))
		m.broadcasts.Reset()
		for i, msg := range []encodable{
			&alive{Incarnation: 1, Node: huge, Addr: make([]byte, 4), Vsn: testVersions()},
			&alive{Incarnation: 1, Node: borrow("y"), Addr: make([]byte, 65_536), Vsn: testVersions()},
			&alive{Incarnation: 1, Node: borrow("y"), Vsn: testVersions()},
			&alive{Incarnation: 9, Node: borrow("x"), Addr: addrOfTestNode("x"), Port: 7946, Meta: make([]byte, 1000), Vsn: testVersions()},
			&suspect{Incarnation: 1, Node: huge, From: borrow("x")},
			&suspect{Incarnation: 1, Node: borrow("x"), From: huge},
			&dead{Incarnation: 1, Node: huge, From: huge},
			&dead{Incarnation: 1, Node: borrow("x"), From: huge},
			&ping{Node: borrow("n1"), SourceNode: huge},
			&ping{Node: huge},
			&ping{SourceAddr: make([]byte, 100), SourcePort: 1},
			&indirectPing{Node: huge, Target: make([]byte, 4), Port: 1},
		} {
			tr.arrive("10.99.0.9:7946", appendLonger(nil, msg.appendTo(nil)))
			require.EqualValues(t, i+1, s.sum("msg.dropped", metrics.Label{Name: "kind", Value: outOfBounds}))
		}
		require.Empty(t, tr.takeSent())
		require.Equal(t, []string{"n1", "x"}, memberNames(m))
		require.Zero(t, m.broadcasts.NumQueued())
		require.Empty(t, m.engine.locked.core.verdicts.pending.byName)
		require.Len(t, lines.with("[WARN]", "Ignoring", "over the limit of 512", "from=10.99.0.9:7946"), 9)
		for _, line := range lines.with("[WARN]", "Ignoring") {
			require.Less(t, len(line), 300)
		}
	})
}

// All the accusations that are kept about unknown nodes take little memory, however
// long the names are that they come with (P164).
func TestMemoryOfPendingVerdictsIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, tr := recorded(t)
		before := heapSize()
		accuse := func(size, i int) {
			name := borrow(fmt.Sprintf("%s%08d", strings.Repeat("n", size), i))
			s := suspect{Incarnation: 1, Node: name, From: name}
			tr.arrive("10.99.0.9:7946", appendLonger(nil, s.appendTo(nil)))
		}
		for i := range 2 * maxPendingVerdicts {
			accuse(maxNameLen-10, i)
			if i%32 == 0 {
				accuse(1<<18, i)
			}
		}
		require.Len(t, m.engine.locked.core.verdicts.pending.byName, maxPendingVerdicts)
		require.Less(t, heapSize()-before, int64(4<<20))
		runtime.KeepAlive(m)
	})
}

func heapSize() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// An entry of a push/pull that is out of bounds is dropped, and the others count; the
// MergeDelegate does not see it either (P167).
func TestEntriesOutOfBoundsAreDropped(t *testing.T) {
	merge := &refusingMerge{}
	m := admissionOf(t, func(cfg *Config) { cfg.Merge = merge })
	local := []nodeRecord{localNode("me", StateAlive, 1, 5, 2, 0, 0, 0)}
	entries := func() []pushNodeState {
		var list []pushNodeState
		for state := StateAlive; state <= StateLeft; state++ {
			noPlace, longMeta := stateOf("noPlace", 1, state), stateOf("longMeta", 1, state)
			noPlace.Addr, longMeta.Meta = nil, make([]byte, MetaMaxSize+1)
			list = append(list, noPlace, stateOf(strings.Repeat("n", maxNameLen+1), 1, state), longMeta)
		}
		return list
	}
	remote := remoteState{join: true, nodes: append(entries(), stateOf("good", 1, StateAlive))}
	require.NoError(t, m.judge(context.Background(), &remote, local))
	require.Len(t, remote.nodes, 1)
	require.True(t, remote.nodes[0].Name.is("good"))
	require.Equal(t, []string{"good alive"}, merge.asked)

	remote = remoteState{join: true, nodes: entries()}
	err := m.judge(context.Background(), &remote, local)
	require.ErrorIs(t, err, ErrRejected, "a join that brings nobody tells why")
	remote = remoteState{nodes: entries()}
	require.NoError(t, m.judge(context.Background(), &remote, local))
	require.Empty(t, remote.nodes)
}

// A whole exchange with such entries succeeds without them (P167).
func TestExchangeWithEntriesOutOfBounds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still)
		p := c.puppet("p", nil)
		bad := stateOf(strings.Repeat("n", 5000), 1, StateAlive)
		conn := p.dial(m)
		_, err := p.wire.writeStream(conn, p.state(true, nil, bad, p.self()), true)
		require.NoError(t, err)
		kind, _, _, err := p.readReply(conn)
		require.NoError(t, err)
		require.Equal(t, pushPullMsg, kind)
		synctest.Wait()
		require.Equal(t, []string{"n1", "p"}, memberNames(m))
	})
}
