package memberlist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"
)

// startTwo makes nodes a and b, as the changes to their configurations say.
func startTwo(changeA, changeB func(*Config)) (a, b *Memberlist) {
	network := new(MockNetwork)
	start := func(name string, change func(*Config)) *Memberlist {
		config := configFor(network, name)
		if change != nil {
			change(config)
		}
		node, err := Create(config)
		if err != nil {
			panic(err)
		}
		return node
	}
	return start("a", changeA), start("b", changeB)
}

// Leave the cluster before the program ends, so that nobody has to find out.
func ExampleMemberlist_LeaveContext() {
	a, b := startTwo(nil, nil)
	defer a.Shutdown()
	defer b.Shutdown()
	if _, err := b.Join([]string{a.LocalNode().Address()}); err != nil {
		fmt.Println(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	fmt.Println(b.LeaveContext(ctx)) // nil: a knows
	fmt.Println(a.NumMembers())
	// Output:
	// <nil>
	// 1
}

// price is a broadcast that replaces an older one of the same article.
type price struct {
	article string
	cents   int
	done    chan string
}

func (p price) Name() string               { return p.article }
func (p price) Message() []byte            { return fmt.Appendf(nil, "%s %d", p.article, p.cents) }
func (p price) Invalidates(Broadcast) bool { return false } // not asked, for it has a name
func (p price) Finished()                  { p.done <- string(p.Message()) }

// Queue broadcasts, for Delegate.GetBroadcasts to draw.
func ExampleTransmitLimitedQueue() {
	done := make(chan string, 2)
	queue := &TransmitLimitedQueue{
		NumNodes:       func() int { return 5 },
		RetransmitMult: 2,
	}
	queue.QueueBroadcast(price{"tea", 250, done})
	queue.QueueBroadcast(price{"tea", 260, done})
	fmt.Println("replaced:", <-done)
	for range 2 { // RetransmitMult × ⌈log₁₀(5 + 1)⌉
		fmt.Printf("sent: %s\n", queue.GetBroadcasts(3, 1000))
	}
	fmt.Println("finished:", <-done, queue.NumQueued())
	// Output:
	// replaced: tea 250
	// sent: [tea 260]
	// sent: [tea 260]
	// finished: tea 260 0
}

// doorman lets nobody in who comes with too many.
type doorman struct{ most int }

func (d doorman) NotifyMerge(peers []*Node) error {
	if len(peers) > d.most {
		return fmt.Errorf("no room for %d more", len(peers))
	}
	return nil
}

// Refuse a join. The joiner is told why.
func ExampleMergeDelegate() {
	a, b := startTwo(func(c *Config) { c.Merge = doorman{most: 0} }, nil)
	defer a.Shutdown()
	defer b.Shutdown()

	_, err := b.Join([]string{a.LocalNode().Address()})
	var rejected *RejectedError
	if errors.As(err, &rejected) {
		fmt.Println(rejected.By, "says:", rejected.Reason)
	}
	// Output: 127.0.0.1:1 says: no room for 1 more
}

// sameRegion admits only nodes with the right metadata.
type sameRegion struct{ region string }

func (s sameRegion) NotifyAlive(n *Node) error {
	if !strings.HasPrefix(string(n.Meta), s.region) {
		return fmt.Errorf("%s is not in region %s", n.Name, s.region)
	}
	return nil
}

// region is a delegate that has nothing but metadata.
type region string

func (r region) NodeMeta(int) []byte             { return []byte(r) }
func (region) NotifyMsg([]byte)                  {}
func (region) GetBroadcasts(int, int) [][]byte   { return nil }
func (region) LocalState(bool) []byte            { return nil }
func (region) MergeRemoteState(_ []byte, _ bool) {}

// Keep single nodes out.
func ExampleAliveDelegate() {
	a, b := startTwo(
		func(c *Config) { c.Delegate, c.Alive = region("west"), sameRegion{"west"} },
		func(c *Config) { c.Delegate = region("east") },
	)
	defer a.Shutdown()
	defer b.Shutdown()

	_, err := b.Join([]string{a.LocalNode().Address()})
	fmt.Println(errors.Is(err, ErrRejected), a.NumMembers())
	// Output: true 1
}

// distances prints how far the other nodes are.
type distances struct{ heard chan string }

func (d distances) AckPayload() []byte { return []byte("hello") }
func (d distances) NotifyPingComplete(other *Node, rtt time.Duration, payload []byte) {
	select {
	case d.heard <- fmt.Sprintf("%s says %s, in time: %t", other.Name, payload, rtt < time.Second):
	default: // nobody wants to know
	}
}

// Measure round trip times, and send something along with the answers to pings.
func ExamplePingDelegate() {
	d := distances{make(chan string, 1)}
	use := func(c *Config) {
		c.Ping = d
		c.ProbeInterval, c.ProbeTimeout = 50*time.Millisecond, 20*time.Millisecond
	}
	a, b := startTwo(use, func(c *Config) { c.Ping = distances{} })
	defer a.Shutdown()
	defer b.Shutdown()
	if _, err := a.Join([]string{b.LocalNode().Address()}); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-d.heard)
	// Output: b says hello, in time: true
}

// Tell clusters apart that could reach each other. Nodes with another label are not
// answered.
func ExampleConfig_label() {
	a, b := startTwo(
		func(c *Config) { c.Label = "blue" },
		func(c *Config) { c.Label = "green" },
	)
	defer a.Shutdown()
	defer b.Shutdown()
	_, err := b.Join([]string{a.LocalNode().Address()})
	fmt.Println(errors.Is(err, ErrLabelMismatch))
	// Output: true
}

// Log through log/slog. Repeats of one warning are limited and counted.
func ExampleConfig_structuredLogger() {
	handler := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
	a, b := startTwo(func(c *Config) {
		c.LogOutput = nil
		c.StructuredLogger = slog.New(handler)
	}, nil)
	defer b.Shutdown()
	defer a.Shutdown()
	_, _ = a.Join([]string{"/nameless"})
	// Output:
	// level=WARN msg="Failed to resolve a seed" addr=/nameless err="empty node name provided"
}
