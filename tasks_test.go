package memberlist

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCrewJoinsItsGoroutines checks P31.
func TestCrewJoinsItsGoroutines(t *testing.T) {
	var c taskGroup
	release := make(chan struct{})
	ended := make(chan struct{})
	require.True(t, c.start(func() {
		<-release
		close(ended)
	}))
	close(release)
	c.close()
	c.join()
	select {
	case <-ended:
	default:
		t.Fatal("join returned before the goroutine had ended")
	}
	require.False(t, c.start(func() { t.Error("started after close") }))
	require.False(t, c.startLoop(func() { t.Error("started after close") }))
}

// User code that does not return does not hold up Shutdown for ever (P31).
func TestCrewDoesNotWaitForEver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var c taskGroup
		release := make(chan struct{})
		c.start(func() { <-release })
		c.close()
		require.Equal(t, callbackGrace, duration(c.join))
		close(release)
		waitForAll(&c)
	})
}

// ---- queues

// TestLaneServesInOrderAndOneAtATime checks P87.
func TestLaneServesInOrderAndOneAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var c taskGroup
		var got []int
		l := newWorkQueue(&c, 1000, func(i int) {
			time.Sleep(time.Millisecond)
			got = append(got, i) // the race detector would see a second one
		})
		for i := range 100 {
			require.True(t, l.put(i))
			if i%10 == 0 {
				time.Sleep(3 * time.Millisecond)
			}
		}
		time.Sleep(time.Second)
		closeLane(&c, l)
		require.Len(t, got, 100)
		require.True(t, slices.IsSorted(got))
	})
}

func closeLane[T any](c *taskGroup, l *workQueue[T]) {
	l.close()
	c.close()
	waitForAll(c)
}

// waitForAll waits for all goroutines of a task group, however long that takes.
func waitForAll(c *taskGroup) {
	if ended := c.lastEnd(); ended != nil {
		<-ended
	}
}

// What does not fit is dropped and counted: the one that is being served counts
// as waiting (P87).
func TestLaneIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var c taskGroup
		release := make(chan struct{})
		served := 0
		l := newWorkQueue(&c, 3, func(int) {
			<-release
			served++
		})
		for i := range 3 {
			require.True(t, l.put(i))
		}
		synctest.Wait()
		require.False(t, l.put(3))
		require.False(t, l.put(4))
		release <- struct{}{}
		synctest.Wait()
		require.True(t, l.put(5), "there is room again")
		require.False(t, l.put(6))
		close(release)
		synctest.Wait()
		require.Equal(t, 4, served)
		closeLane(&c, l)
	})
}

// A queue has a goroutine only while there is work.
func TestLaneWithoutWorkHasNoGoroutine(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var c taskGroup
		l := newWorkQueue(&c, 3, func(int) {})
		for range 10 {
			l.put(1)
			synctest.Wait()
			require.False(t, l.mu.busy)
			waitForAll(&c)
		}
		closeLane(&c, l)
	})
}

// TestClosedLaneDropsAndRefusesSilently checks P31.
func TestClosedLaneDropsAndRefusesSilently(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var c taskGroup
		release := make(chan struct{})
		served := 0
		l := newWorkQueue(&c, 10, func(int) {
			<-release
			served++
		})
		for i := range 5 {
			l.put(i)
		}
		synctest.Wait()
		l.close()
		close(release)
		synctest.Wait()
		require.Equal(t, 1, served, "the one that was being served")
		require.True(t, l.put(9))
		synctest.Wait()
		require.Equal(t, 1, served)
		closeLane(&c, l)
	})
}

// Nothing is lost or served twice when many put at once (P87).
func TestLaneUnderConcurrentUse(t *testing.T) {
	var c taskGroup
	var mu sync.Mutex
	count := map[string]int{}
	done := make(chan struct{})
	const workers, each = 8, 500
	l := newWorkQueue(&c, workers*each, func(s string) {
		mu.Lock()
		defer mu.Unlock()
		count[s]++
		if len(count) == workers*each {
			close(done)
		}
	})
	for w := range workers {
		go func() {
			for i := range each {
				l.put(fmt.Sprint(w, i))
			}
		}()
	}
	<-done
	closeLane(&c, l)
	for s, n := range count {
		require.Equal(t, 1, n, s)
	}
}

// A queue is bounded in bytes as well; one that is empty takes what is larger (P198).
func TestLaneIsBoundedInBytes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var c taskGroup
		hold := make(chan struct{})
		l := newWorkQueue(&c, 100, func(int) { <-hold }).bounded(10, func(i *int) int { return *i })
		require.Equal(t, 2, l.putAll([]int{4, 5, 2}), "in order, up to the first that does not fit")
		synctest.Wait()
		require.True(t, l.put(1), "what is being served counts")
		require.False(t, l.put(1))
		require.True(t, l.put(0))
		close(hold)
		synctest.Wait()
		require.Zero(t, l.bytes.Load())
		require.True(t, l.put(1000), "it is empty")
		synctest.Wait()
		require.True(t, l.hasRoom(10))
		closeLane(&c, l)
	})
}
