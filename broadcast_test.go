package memberlist

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNewerWordAboutANodeReplacesTheOlder checks P84.
func TestNewerWordAboutANodeReplacesTheOlder(t *testing.T) {
	q := newTestQueue(10, 4)
	left := 0
	q.queueNamed("n1", []byte("suspect n1"), whenDone(func() { left++ }))
	q.queueNamed("n2", []byte("alive n2"), whenDone(nil))
	q.queueNamed("n1", []byte("dead n1"), whenDone(nil))
	require.Equal(t, 1, left)
	require.Equal(t, [][]byte{[]byte("alive n2"), []byte("dead n1")}, q.GetBroadcasts(2, 1400))
	q.Reset() // nobody waits: must not panic
	require.Equal(t, 1, left)
}

// TestWordAboutNodesWithoutNameReplacesItsLike checks P80.
func TestWordAboutNodesWithoutNameReplacesItsLike(t *testing.T) {
	q := newTestQueue(10, 4)
	left := 0
	q.queueNamed("", []byte("one"), whenDone(func() { left++ }))
	q.queueNamed("n1", []byte("alive n1"), whenDone(nil))
	q.queueNamed("", []byte("two"), whenDone(nil))
	require.Equal(t, 1, left)
	require.Equal(t, 2, q.NumQueued())
}

// TestWordAboutANodeTakesNoMemoryWhenItReplacesOlder checks P84.
func TestWordAboutANodeTakesNoMemoryWhenItReplacesOlder(t *testing.T) {
	q := newTestQueue(10, 4)
	msg := []byte("alive n1")
	require.Zero(t, testing.AllocsPerRun(100, func() { q.queueNamed("n1", msg, whenDone(nil)) }))
}
