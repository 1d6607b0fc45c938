package memberlist

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// addresses are where the nodes are reached.
func addresses(nodes ...*Memberlist) []string {
	list := make([]string, len(nodes))
	for i, m := range nodes {
		list[i] = m.LocalNode().Address()
	}
	return list
}

// Two clusters that never met become one, if the seeds name nodes of both, within two
// intervals (P188).
func TestIslandsThatNeverMetBecomeOneCluster(t *testing.T) {
	for _, off := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			seeds := []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:5", "127.0.0.1:6"}
			for i := range 8 {
				m := c.node(fmt.Sprint("n", i+1), func(cfg *Config) {
					cfg.Seeds = seeds
					if off {
						cfg.RejoinInterval = 0
					}
				})
				if i%4 > 0 {
					joinNode(t, m, c.nodes[i/4*4])
				}
			}
			if off {
				time.Sleep(time.Hour)
				require.Equal(t, 4, c.nodes[0].NumMembers())
				return
			}
			within(t, 2*c.nodes[0].config.RejoinInterval, "one cluster", func() bool { return whole(c.nodes) })
		})
	}
}

// Nodes whose SeedSource has wrong addresses at a cold start find each other within two
// intervals of its having the right ones. Nobody calls Join.
func TestColdStartWithStaleSeedsEndsInOneCluster(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		gone := c.puppet("gone", nil)
		require.NoError(t, gone.tr.Shutdown())
		c.network.NewTransport("swallows") // accepts nothing
		var right atomic.Bool
		source := func(context.Context) ([]string, error) {
			if right.Load() {
				return addresses(c.nodes...), nil
			}
			return []string{gone.tr.addr.String(), "swallows/127.0.0.1:2", "127.0.0.1:2", "127.0.0.1:99"}, nil
		}
		for i := range 5 {
			c.node(fmt.Sprint("n", i+1), func(cfg *Config) { cfg.SeedSource = source })
		}
		time.Sleep(10 * time.Minute)
		require.Less(t, c.nodes[4].NumMembers(), 5)
		right.Store(true)
		within(t, time.Minute, "one cluster", func() bool { return whole(c.nodes) })
	})
}

// Where all seeds are known nothing is sent and no stream is opened, however they are
// written. Nodes that died are not known (P188).
func TestKnownSeedsAreLeftInPeace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var looked atomic.Int64
		p, accuser := c.puppet("p", nil), c.puppet("witness", nil)
		m := c.node("n1", quiet, func(cfg *Config) {
			cfg.RejoinInterval, cfg.ProbeInterval = 10*time.Second, 0
			cfg.SeedSource = func(context.Context) ([]string, error) {
				looked.Add(1)
				return []string{
					p.tr.addr.String(), "[::ffff:127.0.0.1]:1", "p/127.0.0.1:77", // p, at any address
					cfg.Transport.(*MockTransport).addr.String(), "n1/127.0.0.1:78", // this node
					"seeds.example.com:1",
				}, nil
			}
		})
		m.joining.resolver.systemIPs = func(context.Context, string, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("127.0.0.1")}, nil
		}
		var streams atomic.Int64
		for _, p := range []*puppet{p, accuser} {
			p.accept(func(net.Conn) { streams.Add(1) })
			p.introduce(m)
		}
		time.Sleep(time.Minute)
		p.forget()
		before := looked.Load()
		time.Sleep(time.Hour)
		require.InDelta(t, 360, looked.Load()-before, 20)
		require.Zero(t, streams.Load())
		require.Empty(t, p.got)

		p.send(m, (&dead{Incarnation: 1, Node: borrow("p"), From: borrow("witness")}).appendTo(nil))
		time.Sleep(time.Minute)
		require.InDelta(t, 12, streams.Load(), 2, "it is dead, and tried by its address and by its name")
	})
}

// A SeedSource that fails, or hangs until its context ends, is asked again. It is warned of
// once an hour, like a seed that cannot be resolved (P190).
func TestSeedSourceThatFailsIsAskedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		other := c.node("n1")
		var asked atomic.Int64
		m := c.node("n2", func(cfg *Config) {
			cfg.LogOutput = lines
			cfg.Seeds = []string{"127.0.0.1:no port"}
			cfg.SeedSource = func(ctx context.Context) ([]string, error) {
				deadline, limited := ctx.Deadline()
				require.True(t, limited)
				require.Equal(t, cfg.RejoinInterval, time.Until(deadline))
				switch n := asked.Add(1); {
				case n == 1:
					<-ctx.Done()
					return nil, ctx.Err()
				case n < 130:
					return addresses(other), errors.New("no registry") // what comes with an error does not count
				}
				return addresses(other), nil
			}
		})
		time.Sleep(40 * time.Minute)
		require.Equal(t, 1, m.NumMembers())
		require.Len(t, lines.with("[WARN] memberlist: Failed to get seeds: context deadline exceeded"), 1)
		require.Len(t, lines.with("[WARN] memberlist: Failed to resolve 127.0.0.1:no port: "), 1)
		require.InDelta(t, 80, len(lines.with("[DEBUG] memberlist: Failed to get seeds: no registry")), 5)
		time.Sleep(30 * time.Minute)
		require.Len(t, lines.with("[WARN] memberlist: Failed to get seeds: "), 2)
		require.Len(t, lines.with("[WARN] memberlist: Failed to resolve 127.0.0.1:no port: "), 2)
		require.Equal(t, 2, m.NumMembers())
		require.Empty(t, lines.with("[ERR]"))
	})
}

// A seed that refuses, whatever the reason, is tried each time, and never more than mentioned
// for debugging.
func TestSeedThatRefusesIsNoError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		labelled := c.node("labelled", func(cfg *Config) { cfg.Label = "other" })
		refusing := c.node("refusing", func(cfg *Config) {
			cfg.Merge = mergeFunc(func([]*Node) error { return errors.New("not you") })
		})
		m := c.node("n1", func(cfg *Config) {
			cfg.LogOutput, cfg.Seeds = lines, addresses(labelled, refusing)
		})
		picky := c.node("picky", func(cfg *Config) {
			cfg.LogOutput, cfg.Seeds = lines, addresses(m)
			cfg.Alive = aliveFunc(func(n *Node) error {
				if n.Name != "picky" {
					return errors.New("nobody else")
				}
				return nil
			})
		})
		time.Sleep(time.Hour)
		require.Equal(t, 1, picky.NumMembers())
		require.InDelta(t, 120, len(lines.with("Failed to join "+addresses(labelled)[0])), 10)
		require.InDelta(t, 120, len(lines.with("Failed to join "+addresses(refusing)[0])), 10)
		require.Empty(t, lines.with("[ERR]"))
	})
}

// A name with hundreds of addresses where nobody answers occupies a few goroutines, and each
// round tries others, until one leads to the cluster. Then all is known (P191).
func TestHundredsOfDeadSeedsAreTriedAFewAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var ips []netip.Addr
		c.network.byAddr = map[string]*MockTransport{}
		c.network.byName = map[string]*MockTransport{}
		for i := range 200 {
			ip := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			tr := c.network.NewTransport(fmt.Sprint("hole", i))
			c.network.byAddr[netip.AddrPortFrom(ip, 7946).String()] = tr
			ips = append(ips, ip)
		}
		var calls atomic.Int64
		m := c.node("n1", func(cfg *Config) { cfg.Seeds = []string{"all.example.com", "all.example.com:7946"} })
		m.engine.step(func(*core, instant) {
			m.joining.resolver.systemIPs = func(context.Context, string, string) ([]netip.Addr, error) {
				calls.Add(1)
				return ips, nil
			}
		})
		most := 0
		for range 60 * 30 {
			time.Sleep(time.Second)
			synctest.Wait()
			dials := 0
			for _, stack := range bubbleGoroutines() {
				if strings.Contains(stack, "MockTransport).DialAddressTimeout") {
					dials++
				}
			}
			most = max(most, dials)
			if calls.Load() > 8 {
				break
			}
		}
		require.Equal(t, seedContacts, most)
	})
}

// Without a RejoinInterval a SeedSource is asked when Seeds would be tried; after Leave not at
// all, and after Join again (P190).
func TestSeedSourceIsAskedWhenSeedsAreWanted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var asked atomic.Int64
		source := func(cfg *Config) {
			cfg.SeedSource = func(context.Context) ([]string, error) { asked.Add(1); return nil, nil }
		}
		alone := c.node("n1", source, func(cfg *Config) { cfg.RejoinInterval = 0 })
		time.Sleep(10 * time.Minute)
		require.InDelta(t, 20, asked.Load(), 3, "it is alone")
		joinNode(t, c.node("n2"), alone)
		time.Sleep(time.Minute)
		asked.Store(0)
		time.Sleep(time.Hour)
		require.Zero(t, asked.Load())
		require.NoError(t, alone.Shutdown())

		m := c.node("n3", source)
		joinNode(t, m, c.nodes[1])
		time.Sleep(10 * time.Minute)
		require.InDelta(t, 20, asked.Load(), 3)
		require.NoError(t, m.Leave(time.Second))
		time.Sleep(time.Minute)
		asked.Store(0)
		time.Sleep(10 * time.Minute)
		require.Zero(t, asked.Load())
		joinNode(t, m, c.nodes[1])
		time.Sleep(10 * time.Minute)
		require.InDelta(t, 20, asked.Load(), 3)
	})
}

// Shutdown ends the context of a SeedSource that is at work (P190).
func TestShutdownEndsTheSeedSource(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		entered := make(chan struct{})
		m := c.node("n1", func(cfg *Config) {
			cfg.SeedSource = func(ctx context.Context) ([]string, error) {
				close(entered)
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}
		})
		<-entered
		require.Zero(t, duration(func() { require.NoError(t, m.Shutdown()) }))
		synctest.Wait()
		require.Empty(t, bubbleGoroutines())
	})
}

// A node on all interfaces is not its own seed, by whatever address of the machine (P188).
func TestSeedsThatNameTheNodeItselfAreKnown(t *testing.T) {
	for _, bind := range []string{"127.0.0.1", "0.0.0.0"} {
		cfg := DefaultLocalConfig()
		cfg.BindAddr, cfg.BindPort, cfg.AdvertiseAddr = bind, 0, "192.0.2.1"
		cfg.LogOutput = new(logLines)
		m, err := Create(cfg)
		require.NoError(t, err)
		port := fmt.Sprint(cfg.BindPort)
		list := func(hosts ...string) (all []seedAddress) {
			for _, host := range hosts {
				all = append(all, seedAddress{addr: Address{Addr: net.JoinHostPort(host, port)}})
			}
			return all
		}
		require.Empty(t, m.performer.rejoining.strangers(list("127.0.0.1", "192.0.2.1", "::ffff:192.0.2.1")))
		require.Len(t, m.performer.rejoining.strangers(list("203.0.113.254")), 1)
		require.NoError(t, m.Shutdown())
	}
}
