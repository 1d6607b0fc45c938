package programs

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

// server is a process that belongs to two pools: the one of its site (LAN) and
// the one that connects the sites (WAN).
type server struct {
	lan, wan *memberlist.Memberlist

	mu   sync.Mutex
	left map[string]int // "lan name" or "wan name"
}

func (s *server) events(pool string) happening {
	return func(kind string, n *memberlist.Node) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if kind == "leave" {
			s.left[pool+" "+n.Name]++
		}
	}
}

// missed is how often a member of a pool is said to have gone.
func (s *server) missed(member string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left[member]
}

func newServer(t *testing.T, site, name string, logged *lines) *server {
	s := &server{left: make(map[string]int)}
	lan := memberlist.DefaultLANConfig()
	lan.Label = "lan-" + site
	lan.SecretKey = bytes.Repeat([]byte{1}, 16)
	lan.Events = s.events("lan")
	wan := memberlist.DefaultWANConfig()
	wan.Label = "wan"
	wan.SecretKey = bytes.Repeat([]byte{2}, 32)
	wan.Events = s.events("wan")
	for _, cfg := range []*memberlist.Config{lan, wan} {
		cfg.Name, cfg.BindAddr, cfg.BindPort, cfg.LogOutput = name, "127.0.0.1", 0, logged
	}
	s.lan, s.wan = create(t, lan), create(t, wan)
	return s
}

// TestTwoPoolsInOneProcess: the pools know nothing of each other, even when
// somebody gives one pool's address to the other.
func TestTwoPoolsInOneProcess(t *testing.T) {
	var logged lines
	var servers []*server
	for _, at := range [][2]string{{"east", "e1"}, {"east", "e2"}, {"west", "w1"}} {
		s := newServer(t, at[0], at[1], &logged)
		servers = append(servers, s)
		if len(servers) > 1 {
			_, err := s.wan.Join([]string{hostPort(servers[0].wan.LocalNode())})
			require.NoError(t, err)
		}
	}
	e1, e2, w1 := servers[0], servers[1], servers[2]
	_, err := e2.lan.Join([]string{hostPort(e1.lan.LocalNode())})
	require.NoError(t, err)

	for _, wrong := range []struct {
		from *memberlist.Memberlist
		to   *memberlist.Memberlist
	}{{e1.lan, e2.wan}, {e1.wan, e2.lan}, {w1.lan, e1.lan}} {
		n, err := wrong.from.Join([]string{hostPort(wrong.to.LocalNode())})
		require.Error(t, err)
		require.Zero(t, n)
		require.NoError(t, wrong.from.SendToAddress(memberlist.Address{Addr: hostPort(wrong.to.LocalNode())}, []byte("stray")))
	}
	// Who accepts an exchange answers before it merges.
	within(t, 20*time.Second, "the LAN pool of the east is whole", func() bool { return e1.lan.NumMembers() == 2 })
	require.Equal(t, []string{"e1", "e2"}, memberNames(e1.lan))
	require.Equal(t, []string{"e1", "e2"}, memberNames(e2.lan))
	require.Equal(t, []string{"w1"}, memberNames(w1.lan))
	for _, s := range servers {
		within(t, 20*time.Second, "the WAN pool is whole", func() bool { return s.wan.NumMembers() == 3 })
	}

	// Leaving one pool is not leaving the other.
	require.NoError(t, e2.lan.Leave(10*time.Second))
	within(t, 20*time.Second, "e2 has left the LAN pool", func() bool { return e1.missed("lan e2") == 1 })
	require.Equal(t, 1, e1.lan.NumMembers())
	require.Equal(t, []string{"e1", "e2", "w1"}, memberNames(e1.wan))
	e1.mu.Lock()
	defer e1.mu.Unlock()
	require.Equal(t, map[string]int{"lan e2": 1}, e1.left)
}
