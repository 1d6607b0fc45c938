package interop_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist/compare/interop/node"
)

// The limits that a receiver of v0.7.0 enforces (W62), as lengths of the user's
// bytes: all of a stream user message or user state, and what an encrypted frame
// leaves of it after the overhead of the box and of the message's head.
const (
	streamLimit   = 20 << 20
	boxOverhead   = 29
	userHead      = 18 // type, map, "UserMsgLen", a five byte integer
	stateOverhead = len("\x00[]")
)

func limitPair(t *testing.T, pair [2]node.Library, keys [][]byte) (c *cluster, from, to *peer) {
	s := setting{dressing{keys: keys}, [2]uint8{2, 2}, [2]bool{false, false}}
	c = newCluster(t)
	from = c.add(pair[0], quiet(s.options(0, "from")))
	to = c.add(pair[1], quiet(s.options(1, "to")))
	return c, from, to
}

// A reliable message of the greatest length arrives; one byte more is refused, by
// our library with an error when it is sent, else by the receiver with a word in
// its log.
func TestReliableMessageLimit(t *testing.T) {
	for name, limit := range map[string]struct {
		keys [][]byte
		max  int
	}{
		"plain": {nil, streamLimit},
		"AES":   {aes(32), streamLimit - boxOverhead - userHead},
	} {
		for _, pair := range [][2]node.Library{{theirs, ourside}, {ourside, theirs}} {
			t.Run(fmt.Sprintf("%s/%s to %s", name, pair[0].Name(), pair[1].Name()), func(t *testing.T) {
				enter(t, "list", rowLimits, "")
				synctest.Test(t, func(t *testing.T) {
					c, from, to := limitPair(t, pair, limit.keys)
					defer c.stop()
					c.join(from, to)
					msg := node.Direct(strings.Repeat("x", limit.max-1))
					require.NoError(t, from.node.SendReliable("to", msg))
					c.within(time.Minute, "the longest message", func() bool { return to.app.DirectCount(string(msg[1:])) == 1 })
					c.noComplaints("Remote node state") // longer than 60 % of the limit

					mark := to.app.Log.Len()
					err := from.node.SendReliable("to", append(msg, 'x'))
					time.Sleep(time.Minute)
					require.Zero(t, to.app.DirectCount(string(msg[1:])+"x"))
					require.True(t, err != nil || complained(to, mark), "no word about a message that is too long")
				})
			})
		}
	}
}

func complained(p *peer, from int) bool {
	for _, line := range p.app.Log.Lines(from) {
		if isComplaint(line) {
			return true
		}
	}
	return false
}

// The same for user state in a push/pull, where the joiner sends too much.
func TestUserStateLimit(t *testing.T) {
	for _, pair := range [][2]node.Library{{theirs, ourside}, {ourside, theirs}} {
		t.Run(fmt.Sprintf("%s to %s", pair[0].Name(), pair[1].Name()), func(t *testing.T) {
			enter(t, "list", rowLimits, "")
			synctest.Test(t, func(t *testing.T) {
				c, from, to := limitPair(t, pair, nil)
				defer c.stop()
				state := strings.Repeat("s", streamLimit-stateOverhead)
				from.app.SetState(state)
				c.join(from, to)
				c.within(time.Minute, "the longest state", func() bool { return len(to.app.States()) == 1 })
				require.Equal(t, state, to.app.States()[0].Prefix)

				from.app.SetState(state + "s")
				_, err := from.node.Join(to.addr.String())
				require.Error(t, err)
				require.Len(t, to.app.States(), 1)
			})
		})
	}
}

// A best-effort message that fills the largest datagram of IPv4 arrives, on real sockets;
// one byte more is an error for the sender.
func TestBestEffortLimit(t *testing.T) {
	const datagram = 65507
	const checkedUser = 5 + 1 // checksum, type
	for name, limit := range map[string]struct {
		keys [][]byte
		max  int
	}{
		"plain": {nil, datagram - checkedUser},
		"AES":   {aes(32), datagram - checkedUser - boxOverhead},
	} {
		t.Run(name, func(t *testing.T) {
			enter(t, "list", rowLimits, "")
			c := newCluster(t)
			s := setting{dressing{keys: limit.keys}, [2]uint8{2, 2}, [2]bool{false, false}}
			bind := freePort(t, "127.9.0.1")
			for i, lib := range []node.Library{theirs, ourside} {
				opts := quiet(s.options(i, []string{"a1", "b1"}[i]))
				opts.Preset, opts.BindAddr, opts.BindPort = "local", fmt.Sprintf("127.9.%d.1", i), bind
				c.listen(lib, opts)
				defer c.peers[i].node.Shutdown()
			}
			c.joinSocket(c.peers[1], c.peers[0])
			c.whole(10 * time.Second)
			for i, from := range c.peers {
				to := c.peers[1-i]
				msg := node.Direct(strings.Repeat("x", limit.max-1))
				require.NoError(t, from.node.SendBestEffort(to.name(), msg))
				c.within(10*time.Second, "the longest packet to "+to.name(), func() bool {
					return to.app.DirectCount(string(msg[1:])) == 1
				})
				require.ErrorIs(t, from.node.SendBestEffort(to.name(), append(msg, 'x')), syscall.EMSGSIZE)
			}
			c.noComplaints()
		})
	}
}
