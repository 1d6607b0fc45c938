package memberlist

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// eventLog is an EventDelegate that writes down what it is told.
type eventLog struct {
	mu     sync.Mutex
	lines  []string
	inside int
	during func(line string) // called inside each callback, if set
	t      *testing.T
}

func (l *eventLog) told(line string) {
	l.mu.Lock()
	l.inside++
	if l.inside > 1 {
		l.t.Error("two callbacks at the same time")
	}
	l.lines = append(l.lines, line)
	l.mu.Unlock()
	if l.during != nil {
		l.during(line)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside--
}

func (l *eventLog) NotifyJoin(n *Node)   { l.told("join " + n.Name) }
func (l *eventLog) NotifyLeave(n *Node)  { l.told("leave " + n.Name) }
func (l *eventLog) NotifyUpdate(n *Node) { l.told("update " + n.Name) }

func (l *eventLog) NotifyConflict(existing, other *Node) {
	l.told("conflict " + existing.Name + " " + other.Name)
}

func (l *eventLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

// reasonLog wants the reasons as well.
type reasonLog struct{ eventLog }

func (l *reasonLog) NotifyChange(c Change) {
	l.told(fmt.Sprintf("%s: %s to %s", c.Node.Name, c.From, c.To))
}

func eventOf(kind eventKind, name string) event {
	n := &Node{Name: name}
	return event{kind: kind, node: n, other: &Node{Name: "other"}, change: &Change{Node: n, To: StateSuspect}}
}

func endNotifier(n *notifier) {
	n.close()
	n.tasks.close()
	waitForAll(n.tasks)
}

// TestEventsComeInOrderOneAtATime checks P125.
func TestEventsComeInOrderOneAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := &eventLog{t: t, during: func(string) { time.Sleep(time.Millisecond) }}
		n := newNotifier(new(taskGroup), &Config{Events: log, Conflict: log})
		var want []string
		for i := range 20 {
			name := fmt.Sprint(i)
			n.push([]event{eventOf(eventJoin, name), eventOf(eventUpdate, name), eventOf(eventNone, name)})
			n.push([]event{eventOf(eventConflict, name), eventOf(eventLeave, name)})
			want = append(want, "join "+name, "update "+name, "conflict "+name+" other", "leave "+name)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		require.Equal(t, want, log.all())
		endNotifier(n)
	})
}

func TestReasonsComeBeforeTheEvent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := &reasonLog{eventLog{t: t}}
		n := newNotifier(new(taskGroup), &Config{Events: log})
		n.push([]event{eventOf(eventNone, "a"), eventOf(eventJoin, "b")})
		synctest.Wait()
		require.Equal(t, []string{"a: alive to suspect", "b: alive to suspect", "join b"}, log.all())
		endNotifier(n)
	})
}

// TestNobodyToTellNothingIsQueued checks P128.
func TestNobodyToTellNothingIsQueued(t *testing.T) {
	n := newNotifier(new(taskGroup), new(Config))
	require.Zero(t, n.push([]event{eventOf(eventJoin, "a"), eventOf(eventConflict, "a"), eventOf(eventNone, "a")}))
	require.Empty(t, n.mu.queue)
	require.NoError(t, n.wait(context.Background(), 0))
}

// Waiting ends with the delivery of the event that is waited for (P125).
func TestWaitForDelivery(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := &eventLog{t: t, during: func(string) { time.Sleep(time.Second) }}
		n := newNotifier(new(taskGroup), &Config{Events: log})
		first := n.push([]event{eventOf(eventJoin, "a")})
		second := n.push([]event{eventOf(eventJoin, "b"), eventOf(eventJoin, "c")})
		n.push([]event{eventOf(eventJoin, "d")})
		require.Equal(t, time.Second, duration(func() { require.NoError(t, n.wait(context.Background(), first)) }))
		require.Equal(t, 2*time.Second, duration(func() { require.NoError(t, n.wait(context.Background(), second)) }))
		require.Equal(t, []string{"join a", "join b", "join c"}, log.all()[:3])
		require.Zero(t, duration(func() { require.NoError(t, n.wait(context.Background(), second)) }), "done already")
		endNotifier(n)
	})
}

// TestWaitEndsWithItsContext checks P125.
func TestWaitEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := &eventLog{t: t, during: func(string) { time.Sleep(time.Minute) }}
		n := newNotifier(new(taskGroup), &Config{Events: log})
		eventSeq := n.push([]event{eventOf(eventJoin, "a")})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorIs(t, n.wait(ctx, eventSeq), context.DeadlineExceeded)
		endNotifier(n)
	})
}

// An event cannot wait for those behind it: inside a callback nobody waits (P124).
func TestWaitInsideACallbackReturnsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := &eventLog{t: t}
		n := newNotifier(new(taskGroup), &Config{Events: log})
		log.during = func(line string) {
			if line != "join a" {
				return
			}
			eventSeq := n.push([]event{eventOf(eventJoin, "b")})
			if err := n.wait(context.Background(), eventSeq); err != nil {
				t.Error(err)
			}
		}
		eventSeq := n.push([]event{eventOf(eventJoin, "a")})
		require.NoError(t, n.wait(context.Background(), eventSeq))
		synctest.Wait()
		require.Equal(t, []string{"join a", "join b"}, log.all())
		endNotifier(n)
	})
}

// After Shutdown nothing is delivered any more, and nobody waits (P31).
func TestClosedNotifierReleasesThoseWhoWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		release := make(chan struct{})
		log := &eventLog{t: t, during: func(string) { <-release }}
		n := newNotifier(new(taskGroup), &Config{Events: log})
		eventSeq := n.push([]event{eventOf(eventJoin, "a"), eventOf(eventJoin, "b")})
		waited := make(chan error, 1)
		go func() { waited <- n.wait(context.Background(), eventSeq) }()
		synctest.Wait()
		n.close()
		require.NoError(t, <-waited)
		require.NoError(t, n.wait(context.Background(), n.push([]event{eventOf(eventJoin, "c")})))
		close(release)
		synctest.Wait()
		require.Equal(t, []string{"join a"}, log.all())
		endNotifier(n)
	})
}
