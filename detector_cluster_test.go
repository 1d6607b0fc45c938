package memberlist

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// One scenario for each part of the failure detector, on a small cluster in virtual
// time, where possible beside the same without that part.

// watched makes a cluster whose changes are recorded, by node. Each node joins all the
// others: gossip alone misses somebody now and then, until the next full exchange.
func (c *mesh) watched(n int, changes ...func(*Config)) ([]*Memberlist, map[string]*changeTrace) {
	c.t.Helper()
	traces := map[string]*changeTrace{}
	record := func(cfg *Config) {
		traces[cfg.Name] = new(changeTrace)
		cfg.Events = traces[cfg.Name]
	}
	for i := range n {
		m := c.node(fmt.Sprintf("n%d", i+1), append(changes, record)...)
		for _, other := range c.nodes[:i] {
			joinNode(c.t, m, other)
		}
	}
	require.True(c.t, whole(c.nodes))
	return c.nodes, traces
}

// states counts how often a node saw another one of the names enter a state.
func (r *changeTrace) states(to NodeStateType, names ...string) int {
	n := 0
	for _, name := range names {
		n += len(r.about(name, to))
	}
	return n
}

func names(nodes []*Memberlist) []string {
	list := make([]string, len(nodes))
	for i, m := range nodes {
		list[i] = m.LocalNode().Name
	}
	return list
}

// whole reports whether each node has all of them as members in good standing.
func whole(nodes []*Memberlist) bool {
	for _, m := range nodes {
		for _, other := range nodes {
			if !holdsFor(m, other.LocalNode().Name, StateAlive) {
				return false
			}
		}
	}
	return true
}

func noPushPull(cfg *Config) { cfg.PushPullInterval = 0 }

// byAddress is a transport that does not know the names of nodes.
func byAddress(cfg *Config) { cfg.Transport = struct{ Transport }{cfg.Transport} }

// ---- 1. the self-check

// A node that is cut off accuses nobody, and when it is back nobody has suffered.
func TestClusterOneThatIsCutOffAccusesNobody(t *testing.T) {
	for _, off := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			nodes, traces := c.watched(5, func(cfg *Config) { cfg.detector.noSelfCheck = off })
			time.Sleep(5 * time.Second)
			c.network.Partition([]string{"n5"})
			time.Sleep(15 * time.Second)
			require.Greater(t, nodes[4].GetHealthScore(), 3)
			accused := traces["n5"].states(StateSuspect, names(nodes[:4])...)
			if off {
				require.NotZero(t, accused)
				return
			}
			require.Zero(t, accused)
			require.True(t, holdsFor(nodes[0], "n5", StateDead), "the others have their alibis")
			c.network.Heal()
			within(t, 45*time.Second, "whole", func() bool { return whole(nodes) })
			for _, m := range nodes[:4] {
				require.Zero(t, traces[m.LocalNode().Name].states(StateSuspect, names(nodes[:4])...))
			}
		})
	}
}

// The last one finds out in the end.
func TestClusterLoneSurvivorFindsOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes, _ := c.watched(4)
		for _, m := range nodes[1:] {
			require.NoError(t, m.Shutdown())
		}
		within(t, 2*time.Minute, "alone", func() bool { return nodes[0].NumMembers() == 1 })
	})
}

// ---- 2. stalls

// freezer is a transport that keeps what arrives while its node stands still.
type freezer struct {
	*MockTransport
	packets chan *Packet
	stopped atomic.Bool
	thawed  chan struct{}
}

func newFreezer(t *testing.T, tr *MockTransport) *freezer {
	f := &freezer{MockTransport: tr, packets: make(chan *Packet), thawed: make(chan struct{})}
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	go func() {
		for {
			select {
			case p := <-tr.PacketCh():
				if f.stopped.Load() {
					<-f.thawed
				}
				select {
				case f.packets <- p:
				case <-done:
					return
				}
			case <-done:
				return
			}
		}
	}()
	return f
}

func (f *freezer) PacketCh() <-chan *Packet { return f.packets }

// freeze lets a node stand still for a time. Then its timers go off, and after that
// it reads its mail.
func (f *freezer) freeze(m *Memberlist, d time.Duration, beforeMail func()) {
	f.stopped.Store(true)
	m.engine.locked.Lock()
	m.engine.timer.Stop()
	m.engine.locked.armed = 0 // nothing arms it again
	m.engine.locked.Unlock()
	time.Sleep(d)
	m.engine.timer.Reset(0)
	synctest.Wait()
	beforeMail()
	f.stopped.Store(false)
	close(f.thawed)
}

// What ran out while the process stood still is not held against anybody, also
// without the parts that would catch that too.
func TestClusterNodeThatStoodStillAccusesNobody(t *testing.T) {
	for _, off := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			var frozen *freezer
			nodes, traces := c.watched(4, func(cfg *Config) {
				if cfg.Name != "n4" {
					return
				}
				frozen = newFreezer(t, cfg.Transport.(*MockTransport))
				cfg.Transport = frozen
				cfg.detector = detectorSwitches{noSelfCheck: true, noFinalProbe: true, noStallGuard: off}
				cfg.SuspicionMaxTimeoutMult = 1
			})
			time.Sleep(10 * time.Second)
			m := nodes[3]
			require.Zero(t, m.GetHealthScore())
			m.engine.step(func(c *core, now instant) { // somebody's words arrive
				c.suspect(now, &suspect{Incarnation: c.table.get("n1").incarnation, Node: borrow("n1"), From: borrow("n2")}, nil)
			})
			frozen.freeze(m, 4100*time.Millisecond, func() {
				if !off {
					require.Equal(t, 1, m.GetHealthScore())
				}
			})
			time.Sleep(time.Minute)
			died := traces["n4"].states(StateDead, "n1", "n2", "n3")
			require.Equal(t, off, died > 0)
			require.True(t, whole(nodes))
		})
	}
}

// ---- 3. the final probe

// mute is a transport whose packets get lost on the way out. Streams work.
type mute struct {
	*MockTransport
	on *atomic.Bool
}

func (m mute) WriteToAddress(b []byte, to Address) (time.Time, error) {
	if m.on.Load() {
		return time.Now(), nil
	}
	return m.MockTransport.WriteToAddress(b, to)
}

// A suspect whose refutation does not get through is asked once more in another way,
// and lives.
func TestClusterSuspectWithAnAnswerLives(t *testing.T) {
	for _, off := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			var lost atomic.Bool
			nodes, traces := c.watched(4, noPushPull, func(cfg *Config) {
				cfg.detector.noFinalProbe, cfg.detector.noResync = off, true
				cfg.ReconnectInterval = 0
				if cfg.Name == "n4" {
					cfg.Transport = mute{cfg.Transport.(*MockTransport), &lost}
				}
			})
			time.Sleep(5 * time.Second)
			lost.Store(true)
			nodes[0].engine.step(func(c *core, now instant) {
				c.suspect(now, &suspect{Incarnation: c.table.get("n4").incarnation, Node: borrow("n4"), From: borrow("n2")}, nil)
			})
			time.Sleep(time.Second)
			require.True(t, holdsFor(nodes[0], "n4", StateSuspect))
			time.Sleep(time.Minute)
			require.Equal(t, off, traces["n1"].states(StateDead, "n4") > 0)
			require.Equal(t, !off, holdsFor(nodes[0], "n4", StateAlive))
			for _, m := range nodes[1:3] {
				require.True(t, off || holdsFor(m, "n4", StateAlive))
			}
		})
	}
}

// ---- 4. asking twice

// Some loss of packets raises no suspicion, also without relays and streams.
func TestClusterLostPacketsRaiseNoSuspicion(t *testing.T) {
	for _, off := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			nodes, traces := c.watched(5, func(cfg *Config) {
				cfg.detector.noRepeatedPing, cfg.DisableTcpPings, cfg.IndirectChecks = off, true, 0
			})
			for _, r := range traces {
				r.take()
			}
			c.network.SetLoss(0.03)
			time.Sleep(2 * time.Minute)
			suspected := 0
			for _, r := range traces {
				suspected += r.states(StateSuspect, names(nodes)...)
			}
			require.Equal(t, off, suspected > 0, "%d times", suspected)
		})
	}
}

// ---- 5. relays

// Where many do not answer, those are asked for help who do.
func TestClusterRelaysAreThoseThatAnswer(t *testing.T) {
	for _, off := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			m := c.node("n1", noPushPull, func(cfg *Config) { cfg.detector.noResponsiveRelays = off })
			var helpful, silent []*puppet
			for i := range 3 {
				p := c.puppet(fmt.Sprint("helpful", i), nil)
				p.introduce(m)
				p.answerPings(m)
				helpful = append(helpful, p)
			}
			time.Sleep(10 * time.Second)
			for i := range 20 {
				p := c.puppet(fmt.Sprint("silent", i), nil)
				p.introduce(m)
				silent = append(silent, p)
			}
			time.Sleep(20 * time.Second)
			asked := func(list []*puppet) (n int) {
				for _, p := range list {
					n += len(p.heard(indirectPingMsg))
				}
				return n
			}
			require.Equal(t, off, asked(silent) > 0)
			require.True(t, off || asked(helpful) > 0)
		})
	}
}

// ---- 6. adaptive timeout

// Where round trips take longer than ProbeTimeout, nodes find out how long, and no
// relays are needed.
func TestClusterFindsOutHowPatientToBe(t *testing.T) {
	for _, on := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			c.network.SetLatency(140*time.Millisecond, 10*time.Millisecond)
			var direct atomic.Int64
			nodes, _ := c.watched(3, func(cfg *Config) {
				cfg.AdaptiveProbeTimeout, cfg.ProbeTimeout = on, 200*time.Millisecond
				cfg.Ping = &pingHooks{complete: func(*Node, time.Duration, []byte) { direct.Add(1) }}
			})
			time.Sleep(20 * time.Second)
			direct.Store(0)
			time.Sleep(20 * time.Second)
			require.Equal(t, on, direct.Load() > 20, "%d direct answers", direct.Load())
			require.True(t, whole(nodes))
		})
	}
}

// ---- 7. healing

// A cluster that was parted for twenty minutes becomes whole, and nobody is declared
// dead for it. Those that left stay away.
func TestClusterPartedForTwentyMinutesBecomesWhole(t *testing.T) {
	skipManyClusters(t)
	for _, off := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			nodes, traces := c.watched(7, func(cfg *Config) {
				if off {
					cfg.ReconnectInterval = 0
				}
			})
			require.NoError(t, nodes[6].Leave(time.Second))
			nodes = nodes[:6]
			time.Sleep(10 * time.Second)
			c.network.Partition([]string{"n1", "n2", "n3"})
			time.Sleep(20 * time.Minute)
			require.Equal(t, []string{"n1", "n2", "n3"}, memberNames(nodes[0]))
			require.Nil(t, statusOf(nodes[0], "n4"), "the table has forgotten the other side")
			for _, r := range traces {
				r.take()
				r.changes = nil
			}
			c.network.Heal()
			if off {
				time.Sleep(10 * time.Minute)
				require.Equal(t, 3, nodes[0].NumMembers())
				return
			}
			within(t, 45*time.Second, "whole", func() bool { return whole(nodes) })
			time.Sleep(5 * time.Minute)
			for _, m := range nodes {
				require.Equal(t, names(nodes), memberNames(m))
				require.Zero(t, traces[m.LocalNode().Name].states(StateDead, names(nodes)...))
			}
		})
	}
}

// endpointAt makes an endpoint at the address of another one, which is shut down.
func (c *mesh) endpointAt(old *MockTransport, name string) *MockTransport {
	tr := c.network.NewTransport(name)
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	tr.addr.addr, tr.port = old.addr.addr, old.port
	c.network.byAddr[old.addr.addr] = tr
	return tr
}

// A node of another name that has got the address of a lost one does not answer for
// it, and nothing happens. The lost one, at last, does.
func TestClusterReusedAddressIsNotTakenForTheLostNode(t *testing.T) {
	for _, name := range []string{"stranger", "n3"} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			var old *MockTransport
			nodes, traces := c.watched(3, func(cfg *Config) {
				if cfg.Name == "n3" {
					old = cfg.Transport.(*MockTransport)
				}
				byAddress(cfg)
			})
			require.NoError(t, nodes[2].Shutdown())
			within(t, 30*time.Second, "dead", func() bool { return nodes[0].NumMembers() == 2 && nodes[1].NumMembers() == 2 })
			time.Sleep(time.Minute)
			for _, r := range traces {
				r.take()
			}
			cfg := c.config("other") // an endpoint that is not used
			cfg.Name, cfg.Transport = name, c.endpointAt(old, name)
			byAddress(cfg)
			other := c.start(cfg)
			if name == "n3" {
				within(t, 40*time.Second, "found", func() bool { return other.NumMembers() == 3 })
				return
			}
			time.Sleep(10 * time.Minute)
			require.Equal(t, 1, other.NumMembers())
			require.Empty(t, traces["n1"].take())
			require.Empty(t, traces["n2"].take())
		})
	}
}

// Seeds lead those who are left to the ones that came back at other addresses. Their
// names are looked up again each time; SRV, A and AAAA records count.
func TestClusterFewThatAreLeftFindTheRestBySeeds(t *testing.T) {
	for _, off := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			var seedPort atomic.Uint32
			withSeeds := func(cfg *Config) {
				cfg.DNSConfigPath = ""
				if !off {
					cfg.Seeds = []string{"_memberlist._udp.example.com"}
				}
			}
			nodes, _ := c.watched(5, withSeeds)
			for _, m := range nodes {
				m.engine.step(func(*core, instant) { // before anybody looks
					m.joining.resolver.systemSRV = func(context.Context, string, string, string) (string, []*net.SRV, error) {
						port := uint16(seedPort.Load())
						return "", []*net.SRV{{Target: "v4.example.com.", Port: port}, {Target: "v6.example.com.", Port: port}}, nil
					}
					m.joining.resolver.systemIPs = func(_ context.Context, _, host string) ([]netip.Addr, error) {
						if strings.HasPrefix(host, "v6") {
							return []netip.Addr{netip.IPv6Loopback()}, nil // nobody is there
						}
						return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
					}
				})
			}
			for _, m := range nodes[2:] {
				require.NoError(t, m.Shutdown())
			}
			within(t, time.Minute, "two are left", func() bool { return nodes[0].NumMembers() == 2 && nodes[1].NumMembers() == 2 })
			time.Sleep(2 * time.Minute)
			again := c.node("new1")
			joinNode(t, c.node("new2"), again)
			seedPort.Store(uint32(again.LocalNode().Port))
			time.Sleep(2 * time.Minute)
			want := 4
			if off {
				want = 2
			}
			require.Equal(t, want, nodes[0].NumMembers())
			require.Equal(t, want, again.NumMembers())
		})
	}
}

// Without a RejoinInterval a cluster that is whole, and one that has lost its smaller part,
// ask no seeds.
func TestClusterInGoodHealthLeavesTheSeedsInPeace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var asked atomic.Int64
		seed := c.puppet("seed", nil)
		seed.accept(func(net.Conn) { asked.Add(1) })
		nodes, _ := c.watched(3, func(cfg *Config) {
			cfg.Seeds, cfg.RejoinInterval = []string{seed.tr.addr.String()}, 0
		})
		asked.Store(0)
		time.Sleep(10 * time.Minute)
		require.Zero(t, asked.Load())
		require.NoError(t, nodes[2].Shutdown())
		time.Sleep(10 * time.Minute)
		require.Equal(t, 2, nodes[0].NumMembers())
		require.Zero(t, asked.Load())
		require.NoError(t, nodes[1].Shutdown())
		time.Sleep(10 * time.Minute)
		require.InDelta(t, 20, asked.Load(), 5)
	})
}

// ---- 8. tombstones

// Late gossip about a node that was forgotten raises nobody, anywhere.
func TestClusterLateGossipRaisesNobody(t *testing.T) {
	for _, off := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			nodes, traces := c.watched(4, func(cfg *Config) { cfg.detector.noTombstones = off })
			p := c.puppet("late", nil)
			gone := nodes[3].LocalNode()
			require.NoError(t, nodes[3].Shutdown())
			nodes = nodes[:3]
			within(t, 2*time.Minute, "forgotten", func() bool {
				return !slices.ContainsFunc(nodes, func(m *Memberlist) bool { return statusOf(m, "n4") != nil })
			})
			for _, r := range traces {
				r.take()
			}
			versions := gone.versions()
			a := alive{Incarnation: 1, Node: borrow("n4"), Addr: gone.Addr, Port: gone.Port, Vsn: versions[:]}
			p.send(nodes[0], a.appendTo(nil))
			time.Sleep(10 * time.Second)
			require.Equal(t, off, slices.Contains(traces["n1"].take(), "join n4"))
			for _, m := range nodes[1:] {
				require.True(t, off || !slices.Contains(traces[m.LocalNode().Name].take(), "join n4"))
			}
		})
	}
}

// ---- 9. the same name at a new address

// A node that comes back at another address, without having left, is taken by all
// within two seconds: the old one leaves, the new one joins.
func TestClusterTakesANodeThatMoved(t *testing.T) {
	for _, off := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			nodes, traces := c.watched(4, byAddress, func(cfg *Config) { cfg.detector.noAddressCheck = off })
			time.Sleep(5 * time.Second)
			require.NoError(t, nodes[3].Shutdown())
			for _, r := range traces {
				r.take()
			}
			again := c.node("n4", byAddress)
			for _, m := range nodes[:3] {
				joinNode(t, again, m)
			}
			time.Sleep(2 * time.Second)
			for _, m := range nodes[:3] {
				s := statusOf(m, "n4")
				require.Equal(t, !off, s.Node.Port == again.LocalNode().Port)
				if off {
					continue
				}
				require.Equal(t, StateAlive, s.Node.State)
				events := slices.DeleteFunc(traces[m.LocalNode().Name].take(), func(e string) bool { return strings.Contains(e, ">") })
				require.Equal(t, []string{"leave n4", "join n4"}, events)
			}
		})
	}
}

// If the old one is there and answers, the two are in conflict, and nothing changes.
func TestClusterKeepsANodeThatDefendsItsName(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var conflicts atomic.Int64
		nodes, traces := c.watched(4, byAddress, func(cfg *Config) {
			cfg.Conflict = conflictFunc(func(existing, other *Node) {
				if existing.Name == "n4" && existing.Port != other.Port {
					conflicts.Add(1)
				}
			})
		})
		time.Sleep(5 * time.Second)
		for _, r := range traces {
			r.take()
		}
		usurper := c.node("n4", byAddress)
		_, _ = usurper.Join([]string{nodes[0].LocalNode().Address()})
		time.Sleep(20 * time.Second)
		require.NotZero(t, conflicts.Load())
		for _, m := range nodes[:3] {
			require.Equal(t, nodes[3].LocalNode().Port, statusOf(m, "n4").Node.Port)
			require.NotContains(t, traces[m.LocalNode().Name].take(), "leave n4")
		}
	})
}

// ---- 10. waking up

// A node that was cut off for some probe intervals makes a full exchange as soon as it
// hears somebody again, and refutes what was said about it.
func TestClusterNodeThatWasCutOffWakesUp(t *testing.T) {
	for _, off := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			var exchanges atomic.Int64
			nodes, traces := c.watched(5, noPushPull, func(cfg *Config) {
				cfg.detector.noResync = off
				if cfg.Name == "n5" {
					cfg.Delegate = &hooks{local: func(join bool) []byte {
						if !join {
							exchanges.Add(1)
						}
						return nil
					}}
				}
			})
			time.Sleep(10 * time.Second)
			require.Zero(t, exchanges.Load(), "there are none of its own accord")
			c.network.Partition([]string{"n5"})
			time.Sleep(4500 * time.Millisecond)
			c.network.Heal()
			time.Sleep(12 * time.Second)
			if off {
				require.Zero(t, exchanges.Load())
				return
			}
			require.Equal(t, int64(2), exchanges.Load(), "and another with somebody else")
			require.True(t, whole(nodes))
			suspected := 0
			for _, m := range nodes[:4] {
				require.Zero(t, traces[m.LocalNode().Name].states(StateDead, "n5"))
				suspected += traces[m.LocalNode().Name].states(StateSuspect, "n5")
			}
			require.Equal(t, suspected > 0, incarnationOf(nodes[4], "n5") > 1, "it has refuted what was said")
		})
	}
}

// ---- witnesses

// One that was parted from the rest for two minutes believed all of them dead. When
// it is back its words harm nobody.
func TestClusterWordsOfOneThatWasCutOffHarmNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes, traces := c.watched(6)
		time.Sleep(5 * time.Second)
		c.network.Partition([]string{"n6"})
		within(t, 2*time.Minute, "all are dead for it", func() bool { return nodes[5].NumMembers() == 1 })
		c.network.Heal()
		within(t, 45*time.Second, "whole", func() bool { return whole(nodes) })
		time.Sleep(time.Minute)
		for _, m := range nodes[:5] {
			require.Zero(t, traces[m.LocalNode().Name].states(StateDead, names(nodes[:5])...))
		}
	})
}

// ---- 12. packets blocked, streams not

// blocked makes each packet of a node get lost while on is set.
func blocked(on *atomic.Bool) func(*Config) {
	return func(cfg *Config) { cfg.Transport = mute{cfg.Transport.(*MockTransport), on} }
}

// While packets are blocked nobody is accused falsely, and a node that dies is found in
// the time that a suspicion without confirmations has, however long they have been
// blocked: round trips on streams are the self-check of those who find it.
func TestClusterFindsTheDeadWherePacketsAreBlocked(t *testing.T) {
	skipManyClusters(t)
	for _, since := range []time.Duration{0, time.Second, 3 * time.Second, 10 * time.Second, 5 * time.Minute} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprint(since, " seed ", seed), func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T) {
					c := newMesh(t)
					c.network.Seed(seed)
					c.network.SetLatency(time.Millisecond, time.Millisecond)
					var on atomic.Bool
					nodes, traces := c.watched(5, blocked(&on))
					time.Sleep(time.Duration(seed) * 700 * time.Millisecond)
					on.Store(true)
					time.Sleep(since)
					require.NoError(t, nodes[4].Shutdown())
					died := time.Now()
					for _, m := range nodes[:4] {
						within(t, 40*time.Second, "found", func() bool { return holdsFor(m, "n5", StateDead) })
					}
					require.Less(t, time.Since(died), 34*time.Second)
					time.Sleep(2 * time.Minute)
					require.True(t, whole(nodes[:4]))
					for _, trace := range traces {
						require.Zero(t, trace.states(StateSuspect, names(nodes[:4])...))
					}
				})
			})
		}
	}
}

// A node that is cut off altogether accuses nobody, also where packets have been
// blocked for so long that it could take itself for the survivor, and whenever the
// network comes back: between two questions, or while an answer is awaited (P171).
func TestClusterOneThatIsCutOffWherePacketsAreBlockedAccusesNobody(t *testing.T) {
	skipManyClusters(t)
	moments := []time.Duration{8 * time.Second}
	for at := 700 * time.Millisecond; at < 1900*time.Millisecond; at += 150 * time.Millisecond {
		moments = append(moments, at)
	}
	for _, apart := range moments {
		t.Run(apart.String(), func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				var on atomic.Bool
				nodes, traces := c.watched(5, blocked(&on))
				on.Store(true)
				time.Sleep(30 * time.Second)
				require.Greater(t, 30*time.Second, selfCheckWaivedAfter(nodes[4]))
				c.network.Partition([]string{"n5"})
				time.Sleep(apart)
				c.network.Heal()
				time.Sleep(20 * time.Second)
				require.True(t, whole(nodes))
				require.Zero(t, traces["n5"].states(StateSuspect, names(nodes)...))
			})
		})
	}
}

// selfCheckWaivedAfter is when a node takes itself for the survivor.
func selfCheckWaivedAfter(m *Memberlist) (d time.Duration) {
	m.engine.step(func(c *core, _ instant) { d = c.selfCheck.waivedAfter() })
	return d
}

// A process that hangs takes streams and answers nothing. The stream pings of probe
// rounds are errors (P150); those of final probes, and what is tried for a self-check,
// are not.
func TestClusterHangingProcessIsAnErrorOnceInAProbeRound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		nodes, _ := c.watched(3, func(cfg *Config) {
			if cfg.Name == "n1" {
				cfg.LogOutput = lines
			}
		})
		hung := c.puppet("hung", nil)
		hung.accept(func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
		hung.introduce(nodes[0])
		within(t, time.Minute, "it is found dead", func() bool { return holdsFor(nodes[0], "hung", StateDead) })
		time.Sleep(2 * time.Minute)
		rounds := lines.with("[DEBUG]", "Failed UDP ping: hung")
		require.NotEmpty(t, rounds)
		require.Len(t, lines.with("[ERR]", "Failed fallback TCP ping"), len(rounds))
		require.NotEmpty(t, lines.with("[DEBUG]", "Failed fallback TCP ping"), "the last question")
		require.Len(t, lines.with("[ERR]"), len(rounds))
	})
}
