package programs

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestOneself: programs give every node one list of seeds, in which the node itself is too
// and some may stand twice, and send to all members, themselves included.
func TestOneself(t *testing.T) {
	var heard atomic.Int64
	cfg := loopbackConfig("one", new(lines))
	cfg.Delegate = &hub{notifyMsg: func([]byte) { heard.Add(1) }}
	one := create(t, cfg)
	two := create(t, loopbackConfig("two", new(lines)))
	self, other := hostPort(one.LocalNode()), hostPort(two.LocalNode())

	for _, c := range []struct {
		seeds []string
		want  int
	}{{nil, 0}, {[]string{self}, 1}, {[]string{self, other}, 2}, {[]string{other, other, "127.0.0.1:1"}, 2}} {
		n, err := one.Join(c.seeds)
		require.NoError(t, err)
		require.Equal(t, c.want, n, c.seeds)
	}
	require.Equal(t, []string{"one", "two"}, memberNames(one))
	require.NoError(t, one.SendReliable(one.LocalNode(), []byte("to myself")))
	require.NoError(t, one.SendBestEffort(one.LocalNode(), []byte("to myself")))
	within(t, 10*time.Second, "both messages", func() bool { return heard.Load() == 2 })
	_, err := one.Ping("one", udpAddr(one.LocalNode()))
	require.NoError(t, err)
}
