package programs

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

// TestSlowDelegate: a program that takes its time in every callback for data
// keeps its place in the cluster, and gets all that was sent reliably.
func TestSlowDelegate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newNetwork(t)
		var reliable, flood, left atomic.Int64
		slow := &hub{
			notifyMsg: func(b []byte) {
				time.Sleep(100 * time.Millisecond)
				if string(b) == "reliable" {
					reliable.Add(1)
				} else {
					flood.Add(1)
				}
			},
			localState: func(bool) []byte { time.Sleep(time.Second); return []byte("slow") },
			mergeState: func([]byte, bool) { time.Sleep(time.Second) },
		}
		var nodes []*memberlist.Memberlist
		for i := range 4 {
			cfg := memberlist.DefaultLANConfig()
			cfg.Name = fmt.Sprint("node", i)
			cfg.Transport = newBubbleTransport(t, network, fmt.Sprintf("10.0.0.%d:7946", i+1))
			cfg.LogOutput = new(lines)
			cfg.Delegate = &hub{}
			if i == 0 {
				cfg.Delegate = slow
			}
			cfg.Events = happening(func(kind string, n *memberlist.Node) {
				if kind == "leave" {
					left.Add(1)
				}
			})
			m := create(t, cfg)
			nodes = append(nodes, m)
			if i > 0 {
				_, err := m.Join([]string{"10.0.0.1:7946"})
				require.NoError(t, err)
			}
		}
		target := nodes[0].LocalNode()
		const rounds = 100
		for i := range rounds {
			require.NoError(t, nodes[1].SendReliable(target, []byte("reliable")))
			for range 20 { // a flood: ten times what the program can take
				require.NoError(t, nodes[2+i%2].SendBestEffort(target, []byte("flood")))
			}
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(5 * time.Minute)
		require.Equal(t, int64(rounds), reliable.Load())
		require.Positive(t, flood.Load())
		require.Zero(t, left.Load(), "somebody was declared dead")
		for _, m := range nodes {
			require.Equal(t, 4, m.NumMembers())
		}
		require.NoError(t, nodes[3].Leave(10*time.Second))
		time.Sleep(10 * time.Second)
		require.Equal(t, 3, nodes[0].NumMembers())
	})
}

// TestHandlerUsesTheLibrary: a message handler may send, join and look around.
func TestHandlerUsesTheLibrary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newNetwork(t)
		var nodes [3]*memberlist.Memberlist
		var answers atomic.Int64
		for i := range nodes {
			cfg := memberlist.DefaultLANConfig()
			cfg.Name = fmt.Sprint("node", i)
			cfg.Transport = newBubbleTransport(t, network, fmt.Sprintf("10.0.0.%d:7946", i+1))
			cfg.LogOutput = new(lines)
			cfg.Delegate = &hub{notifyMsg: func(b []byte) {
				m := nodes[i]
				if string(b) == "answer" {
					answers.Add(1)
					return
				}
				if _, err := m.Join([]string{"10.0.0.3:7946"}); err != nil {
					return
				}
				for _, n := range m.Members() {
					if n.Name == string(b) {
						m.SendReliable(n, []byte("answer"))
						m.SendBestEffort(n, []byte("answer"))
					}
				}
			}}
			nodes[i] = create(t, cfg)
		}
		_, err := nodes[0].Join([]string{"10.0.0.2:7946"})
		require.NoError(t, err)
		require.NoError(t, nodes[0].SendReliable(nodes[1].LocalNode(), []byte("node0")))
		require.NoError(t, nodes[0].SendBestEffort(nodes[1].LocalNode(), []byte("node0")))
		time.Sleep(10 * time.Second)
		require.Equal(t, int64(4), answers.Load())
		require.Equal(t, 3, nodes[0].NumMembers(), "the handler's join spread")
	})
}
