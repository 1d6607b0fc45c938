package memberlist

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestP84MemberBroadcastIsNamedAfterItsNode(t *testing.T) {
	finished := 0
	b := &memberBroadcast{name: "n1", msg: []byte("alive"), done: func() { finished++ }}
	var named NamedBroadcast = b
	require.Equal(t, "n1", named.Name())
	require.Equal(t, []byte("alive"), named.Message())
	named.Finished()
	require.Equal(t, 1, finished)
	(&memberBroadcast{}).Finished() // nobody waits: must not panic
}

func TestP84MemberBroadcastInvalidatesOnlyItsOwnKindAndName(t *testing.T) {
	b := &memberBroadcast{name: "n1"}
	require.True(t, b.Invalidates(&memberBroadcast{name: "n1"}))
	require.False(t, b.Invalidates(&memberBroadcast{name: "n2"}))
	require.False(t, b.Invalidates(&plainBroadcast{}))
}

func TestP84NewerWordAboutANodeReplacesTheOlder(t *testing.T) {
	q := newTestQueue(10, 4)
	left := 0
	q.QueueBroadcast(&memberBroadcast{name: "n1", msg: []byte("suspect n1"), done: func() { left++ }})
	q.QueueBroadcast(&memberBroadcast{name: "n2", msg: []byte("alive n2")})
	q.QueueBroadcast(&memberBroadcast{name: "n1", msg: []byte("dead n1")})
	require.Equal(t, 1, left)
	require.Equal(t, [][]byte{[]byte("alive n2"), []byte("dead n1")}, q.GetBroadcasts(2, 1400))
}

func TestP80MemberBroadcastWithoutNameReplacesItsLike(t *testing.T) {
	q := newTestQueue(10, 4)
	left := 0
	q.QueueBroadcast(&memberBroadcast{msg: []byte("one"), done: func() { left++ }})
	q.QueueBroadcast(&memberBroadcast{msg: []byte("two")})
	require.Equal(t, 1, left)
	require.Equal(t, 1, q.NumQueued())
}
