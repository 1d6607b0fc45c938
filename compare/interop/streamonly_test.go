package interop_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist/compare/interop/node"
)

// TestStreamOnlyTransport is a mixed cluster whose transports carry packets over
// streams, as those of programs do that have only TCP or TLS.
func TestStreamOnlyTransport(t *testing.T) {
	for _, d := range dressings {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			enter(t, "list", rowStreams, "")
			synctest.Test(t, func(t *testing.T) {
				s := setting{d, [2]uint8{2, 2}, [2]bool{true, true}}
				c := mixed(t, 6, func(side int, name string) node.Options {
					o := s.options(side, name)
					o.Streams, o.DisableTCPPings = true, true
					return o
				})
				defer c.stop()
				sending := c.steadily()
				time.Sleep(time.Minute)
				sending.finish()
				c.noComplaints()
				c.noLeaves(nil)
				for _, victim := range c.peers[4:] {
					c.kill(victim)
					c.whole(time.Minute)
				}
				for _, p := range c.peers[2:4] {
					require.NoError(t, p.node.Leave(10*time.Second))
					c.kill(p)
					c.whole(time.Minute)
				}
			})
		})
	}
}

// TestBubblesSideBySide runs clusters in separate bubbles at once, as programs
// do whose tests are parallel: nothing of a library may span them.
func TestBubblesSideBySide(t *testing.T) {
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			enter(t, "list", rowBubbles, "")
			for range 4 {
				synctest.Test(t, func(t *testing.T) {
					s := setting{dressings[i%len(dressings)], [2]uint8{2, 2}, [2]bool{true, true}}
					c := mixed(t, 4, s.options)
					defer c.stop()
					c.peers[i%4].app.Broadcast("hello")
					c.within(time.Minute, "hello everywhere", func() bool {
						for _, p := range c.peers {
							if p.app.Broadcasts() != 1 {
								return false
							}
						}
						return true
					})
				})
			}
		})
	}
}
