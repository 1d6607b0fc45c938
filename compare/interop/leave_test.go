package interop_test

import (
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLeaveWherePacketsAreBlocked lets nodes of this library leave a mixed cluster in
// which only streams get through. Leave returns at once, and the nodes of the reference
// know then.
func TestLeaveWherePacketsAreBlocked(t *testing.T) {
	for _, d := range dressings {
		t.Run(d.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := setting{d, [2]uint8{2, 2}, [2]bool{true, true}}
				c := mixed(t, 4, s.options)
				defer c.stop()
				time.Sleep(5 * time.Second)
				c.net.SetFilter(func(_, _ netip.AddrPort, stream bool) bool { return stream })
				time.Sleep(time.Minute)
				require.Len(t, c.peers[0].node.Members(), 4, "nobody is declared dead falsely")
				for i, leaver := range []*peer{c.peers[1], c.peers[3]} {
					start := time.Now()
					require.NoError(t, leaver.node.Leave(5*time.Second))
					require.Less(t, time.Since(start), 300*time.Millisecond)
					c.kill(leaver)
					time.Sleep(10 * time.Millisecond)
					for _, p := range []*peer{c.peers[0], c.peers[2]} {
						require.Len(t, p.node.Members(), 3-i)
					}
				}
			})
		})
	}
}

// TestEverybodyLeavesAtOnce takes a mixed cluster down.
func TestEverybodyLeavesAtOnce(t *testing.T) {
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			s := setting{dressings[0], [2]uint8{2, 2}, [2]bool{true, true}}
			c := mixed(t, 6, s.options)
			defer c.stop()
			time.Sleep(5 * time.Second)
			var work sync.WaitGroup
			for i, p := range c.peers {
				work.Go(func() {
					time.Sleep(time.Duration(i%3) * 50 * time.Millisecond)
					if err := p.node.Leave(5 * time.Second); err != nil && p.lib == ourside {
						t.Errorf("%s: %v", p.name(), err)
					}
					c.kill(p)
				})
			}
			work.Wait()
		})
	}
}
