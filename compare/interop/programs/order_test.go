package programs

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

// TestStateComesAfterTheEvents: a program that keeps something for each member, made
// by NotifyJoin, finds it when the member's state is merged, on both sides of the
// exchange, however slow its NotifyJoin is.
func TestStateComesAfterTheEvents(t *testing.T) {
	var mu sync.Mutex
	order := map[string][]string{}
	note := func(at, what string) {
		mu.Lock()
		defer mu.Unlock()
		order[at] = append(order[at], what)
	}
	start := func(name string) *memberlist.Memberlist {
		cfg := loopbackConfig(name, new(lines))
		cfg.Events = happening(func(kind string, n *memberlist.Node) {
			<-time.After(100 * time.Millisecond)
			note(name, kind+" "+n.Name)
		})
		cfg.Delegate = &hub{
			localState: func(bool) []byte { return []byte("state of " + name) },
			mergeState: func(b []byte, _ bool) { note(name, string(b)) },
		}
		return create(t, cfg)
	}
	one, two := start("one"), start("two")
	_, err := two.Join([]string{hostPort(one.LocalNode())})
	require.NoError(t, err)
	for name, other := range map[string]string{"one": "two", "two": "one"} {
		within(t, 10*time.Second, "the state is merged", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Contains(order[name], "state of "+other)
		})
		mu.Lock()
		got := strings.Join(order[name], ", ")
		mu.Unlock()
		require.Equal(t, "join "+name+", join "+other+", state of "+other, got, name)
	}
}
