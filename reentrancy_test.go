package memberlist

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A callback is recognised by its goroutine: inside, and only while it runs (P124).
func TestCrewKnowsCallbacks(t *testing.T) {
	var c taskGroup
	require.False(t, c.callers.onLoop())
	seen := make(chan bool, 3)
	c.startLoop(func() { seen <- c.callers.onLoop() })
	require.True(t, <-seen)
	c.start(func() {
		seen <- c.callers.onLoop()
		c.callers.asLoop(func() { seen <- c.callers.onLoop() })
		seen <- c.callers.onLoop()
	})
	require.Equal(t, []bool{false, true, false}, []bool{<-seen, <-seen, <-seen})
	c.close()
	c.join()
	remaining := 0
	c.callers.loops.Range(func(any, any) bool { remaining++; return true })
	require.Zero(t, remaining)
}

func TestGoroutinesHaveDifferentNumbers(t *testing.T) {
	own := goroutineID()
	require.NotZero(t, own)
	require.Equal(t, own, goroutineID())
	other := make(chan uint64)
	go func() { other <- goroutineID() }()
	require.NotEqual(t, own, <-other)
}
