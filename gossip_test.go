package memberlist

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// gossiped takes the names of the targets of gossip.
func (c *testCore) gossiped() []string {
	var list []string
	for _, n := range c.fx.gossip {
		list = append(list, n.Name)
	}
	c.fx.gossip = nil
	return list
}

// synced takes the names of the partners of full exchanges.
func (c *testCore) synced() []string {
	var list []string
	for _, s := range c.fx.streams {
		if s.kind == streamSync {
			list = append(list, s.node.Name)
		}
	}
	c.fx.streams = nil
	return list
}

// TestGossipGoesToMembersAndTheNewlyDead checks P69.
func TestGossipGoesToMembersAndTheNewlyDead(t *testing.T) {
	c := newTestCore(t, func(cfg *Config) { cfg.GossipNodes = 100 })
	c.know("alive", "suspect", "dead", "longdead", "left")
	c.hearDead("longdead", 1, "a")
	c.pass(1)
	c.hearDead("dead", 1, "a")
	c.hearDead("left", 1, "left")
	c.hearSuspect("suspect", 1, "a")
	c.settle()
	c.now = c.now.add(c.cfg.GossipToTheDeadTime)
	c.gossip.broadcast("news", []byte("news"), nil)
	c.gossip.gossipDue(c.now)
	require.ElementsMatch(t, []string{"alive", "suspect", "dead"}, c.gossiped())
}

// TestGossipNodesLimitsTheTargets checks P69.
func TestGossipNodesLimitsTheTargets(t *testing.T) {
	c := newTestCore(t)
	c.know(nodeNames("n", 20)...)
	c.gossip.broadcast("news", []byte("news"), nil)
	seen := map[string]bool{}
	for range 200 {
		c.gossip.gossipDue(c.now)
		targets := c.gossiped()
		require.Len(t, targets, 3)
		require.Len(t, slices.Compact(sortedCopy(targets)), 3, "different ones")
		for _, name := range targets {
			seen[name] = true
		}
	}
	require.Len(t, seen, 20)
	require.NotContains(t, seen, "me")
}

// While there is something to say all others have their turn before anybody has a second one,
// whoever comes and goes meanwhile; afterwards the order is another one.
func TestGossipReachesAllBeforeAnybodyTwice(t *testing.T) {
	c := newTestCore(t)
	c.know(nodeNames("n", 8)...)
	c.gossip.broadcast("news", []byte("news"), nil)
	round := func() []string { c.gossip.gossipDue(c.now); return c.gossiped() }
	for range 30 {
		var eventSeq []string
		for range 3 {
			eventSeq = append(eventSeq, round()...)
		}
		require.Len(t, eventSeq, 9)
		require.ElementsMatch(t, nodeNames("n", 8), eventSeq[:8])
	}

	c.hearAlive("new", 1)
	require.Contains(t, append(append(round(), round()...), append(round(), round()...)...), "new")
	c.hearDead("n000", 1, "a")
	c.now = c.now.add(time.Hour)
	c.reap(c.now)
	for range 8 {
		require.NotContains(t, round(), "n000")
	}
	require.Len(t, c.gossip.turns.order, 9, "me, seven others, and the new one")

	orders := map[string]bool{}
	for range 20 {
		c.settle()
		c.gossip.turns.stale = true
		c.gossip.turns.next = len(c.gossip.turns.order)
		c.gossip.beginTurns()
		orders[fmt.Sprint(c.gossip.nextForGossip(c.now, 8)[0].node.Name)] = true
	}
	require.Greater(t, len(orders), 3)
}

// Nodes that are forgotten have no turn of gossip any more, also where there is no gossip
// or the program chooses its targets.
func TestForgottenNodesHaveNoTurn(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no gossip":       func(cfg *Config) { cfg.GossipInterval = 0 },
		"chosen targets":  func(cfg *Config) { cfg.NodeSelection = selectFunc(nil) },
		"rounds as usual": func(*Config) {},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCore(t, change)
			c.know("stays")
			c.gossip.nextForGossip(c.now, 1)
			for life := range 100 {
				name := fmt.Sprintf("life-%d", life)
				c.hearAlive(name, 1)
				c.hearDead(name, 1, name)
				c.now = c.now.add(time.Minute)
				c.reap(c.now)
			}
			require.Len(t, c.gossip.turns.order, len(c.table.order))
			require.Len(t, c.table.order, 2)
		})
	}
}

// TestNothingToSayNoTargets checks P70.
func TestNothingToSayNoTargets(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.gossip.gossipDue(c.now)
	require.Empty(t, c.gossiped())
	c.cfg.Delegate = &hooks{}
	c.gossip.gossipDue(c.now)
	require.NotEmpty(t, c.gossiped(), "the delegate may have something")
}

// TestGossipRoundsComeEachInterval checks P41, P42.
func TestGossipRoundsComeEachInterval(t *testing.T) {
	c := newTestCore(t, func(cfg *Config) { cfg.ProbeInterval, cfg.PushPullInterval = 0, 0 })
	c.know("x")
	c.start(c.now)
	c.gossip.broadcast("news", []byte("news"), nil)
	rounds := 0
	last := c.now
	for c.now < instant(time.Hour).add(20*time.Second) {
		c.now = c.timers.next()
		c.tick(c.now)
		if len(c.gossiped()) > 0 {
			require.LessOrEqual(t, c.now.sub(last), 220*time.Millisecond)
			last = c.now
			rounds++
		}
	}
	require.InDelta(t, 100, rounds, 5)
}

// sleepingGossip is a core that has had a round with nothing to say.
func sleepingGossip(t *testing.T, seed uint64) *testCore {
	c := newTestCore(t, quiet, func(cfg *Config) { cfg.GossipInterval = 200 * time.Millisecond })
	c.rng = rand.New(rand.NewPCG(seed, 5))
	c.know("x")
	c.start(c.now)
	c.pass(200 * time.Millisecond)
	return c
}

func (c *testCore) set(kind string) bool {
	return slices.ContainsFunc(c.timers.heap, func(a timer) bool { return kindOf(a.handler) == kind })
}

// Rounds in which there is nothing to say do not wake a node up. A delegate has to
// be asked in each (P41).
func TestGossipSleepsWhileNothingIsQueued(t *testing.T) {
	c := sleepingGossip(t, 1)
	require.False(t, c.set("gossipTimer"))
	c.gossip.broadcast("news", []byte("news"), nil)
	c.nextDeadline(c.now)
	require.True(t, c.set("gossipTimer"))
	c.pass(time.Second)
	require.Len(t, c.gossiped(), 5, "the queue is still full, so it goes on")
	c.gossip.queue.Reset()
	c.pass(time.Second)
	require.False(t, c.set("gossipTimer"))

	c.cfg.Delegate = &hooks{}
	c.gossip.gossipDue(c.now)
	require.True(t, c.set("gossipTimer"))
}

// What is queued while gossip sleeps waits for a random part of a period, as it
// would if the rounds had gone on (P42).
func TestGossipWakesAtRandomMoments(t *testing.T) {
	var waits []time.Duration
	for seed := range uint64(300) {
		c := sleepingGossip(t, seed)
		c.pass(time.Minute)
		c.gossip.broadcast("news", []byte("news"), nil)
		waits = append(waits, c.nextDeadline(c.now).sub(c.now))
	}
	slices.Sort(waits)
	require.Positive(t, waits[0])
	require.Less(t, waits[0], 10*time.Millisecond)
	require.InDelta(t, 100*time.Millisecond, waits[150], float64(25*time.Millisecond))
	require.Greater(t, waits[299], 190*time.Millisecond)
	require.LessOrEqual(t, waits[299], 200*time.Millisecond)
}

// Waking brings no round sooner than a period after the last one (P41).
func TestWakingGossipKeepsThePeriod(t *testing.T) {
	for seed := range uint64(20) {
		c := sleepingGossip(t, seed)
		c.gossip.gossipDue(c.now)
		last := c.now
		c.pass(10 * time.Millisecond)
		c.gossip.broadcast("news", []byte("news"), nil)
		c.nextDeadline(c.now)
		c.gossip.queue.Reset() // it has ridden on something else
		c.gossip.broadcast("more", []byte("more"), nil)
		wait := c.nextDeadline(c.now).sub(last)
		require.GreaterOrEqual(t, wait, 180*time.Millisecond)
		require.LessOrEqual(t, wait, 220*time.Millisecond)
	}
}

// ---- full exchanges

// TestPartnersAreAliveAndNotOneself checks P115.
func TestPartnersAreAliveAndNotOneself(t *testing.T) {
	c := newTestCore(t)
	c.know("alive", "suspect", "dead", "left")
	c.hearDead("dead", 1, "a")
	c.hearDead("left", 1, "left")
	c.hearSuspect("suspect", 1, "a")
	found := 0
	for range 100 {
		c.gossip.syncDue(c.now)
		partners := c.synced()
		require.Equal(t, len(partners) > 0, c.gossip.syncing)
		require.Subset(t, []string{"alive"}, partners)
		found += len(partners)
		c.gossip.syncing = false
	}
	require.Greater(t, found, 80, "it is drawn nearly always (P71)")
	c.hearDead("alive", 1, "a")
	c.gossip.syncDue(c.now)
	require.Empty(t, c.synced())
	require.False(t, c.gossip.syncing)
}

// TestOneExchangeAtATime checks P115.
func TestOneExchangeAtATime(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.gossip.syncDue(c.now)
	require.Len(t, c.synced(), 1)
	c.gossip.syncDue(c.now)
	require.Empty(t, c.synced())
	c.gossip.syncing = false
	c.gossip.syncDue(c.now)
	require.Len(t, c.synced(), 1)
}

// With how many different nodes one exchange is made in each round (P154).
func TestPushPullNodes(t *testing.T) {
	for configured, want := range map[int]int{0: 1, 1: 1, 3: 3, 100: 8} {
		c := newTestCore(t, func(cfg *Config) { cfg.PushPullNodes = configured })
		c.know(nodeNames("n", 8)...)
		c.gossip.syncDue(c.now)
		require.Len(t, slices.Compact(sortedCopy(c.synced())), want, "PushPullNodes %d", configured)
	}
}

// The wait is computed again before each round, from all records in the table (P43, P44).
func TestWaitForTheNextExchangeGrowsWithTheTable(t *testing.T) {
	for _, row := range []struct {
		others int
		want   time.Duration
	}{
		{31, 30 * time.Second}, {32, 60 * time.Second}, {64, 90 * time.Second},
	} {
		c := newTestCore(t)
		c.know(nodeNames("n", row.others)...)
		for _, name := range nodeNames("n", row.others)[:20] {
			c.hearDead(name, 1, "a")
		}
		c.timers = timers{}
		c.gossip.syncDue(c.now)
		require.InDelta(t, row.want, c.timers.next().sub(c.now), float64(row.want)/10+1, "%d others", row.others)
	}
}

// The selection is asked for gossip and for exchanges; the core only says
// that it is time (P156).
func TestNodeSelectionIsLeftToTheShell(t *testing.T) {
	c := newTestCore(t, func(cfg *Config) { cfg.NodeSelection = everyNode{} })
	c.know("x")
	c.gossip.broadcast("news", []byte("news"), nil)
	c.gossip.gossipDue(c.now)
	require.Empty(t, c.gossiped())
	require.True(t, c.fx.selectGossip)
	c.gossip.syncDue(c.now)
	require.Equal(t, []streamTask{{kind: streamSync}}, c.fx.streams)
	require.True(t, c.gossip.syncing)
}

type everyNode struct{}

func (everyNode) SelectNodes(nodes []*NodeState) ([]*NodeState, *NodeState) { return nodes, nil }

func TestQueueDepthIsSampledEachInterval(t *testing.T) {
	c := newTestCore(t)
	c.timers = timers{}
	c.timers.set(c.now.add(c.cfg.QueueCheckInterval), (*queueSampleTimer)(c.core))
	for range 3 {
		c.pass(c.cfg.QueueCheckInterval - 1)
		require.False(t, c.fx.sample)
		c.pass(1)
		require.True(t, c.fx.sample)
		c.fx.reset()
	}
}

// ---- what goes into a packet

// gossiper is a node that gossips to one puppet only, and does nothing else.
func gossiper(t *testing.T, changes ...func(*Config)) (*mesh, *Memberlist, *puppet) {
	t.Helper()
	c := newMesh(t)
	m := c.node("n1", append([]func(*Config){quiet, func(cfg *Config) {
		cfg.GossipInterval, cfg.GossipNodes, cfg.RetransmitMult = 100*time.Millisecond, 1, 1
		cfg.EnableCompression = false
	}}, changes...)...)
	p := c.puppet("p", nil)
	p.introduce(m)
	synctest.Wait() // no round is under way
	m.broadcasts.Reset()
	p.forget()
	return c, m, p
}

// news is a broadcast of the given length. That it means nothing does not matter
// on its way.
func news(length, i int) *namedBroadcast {
	msg := bytes.Repeat([]byte{byte(i)}, length)
	msg[0] = byte(suspectMsg)
	return &namedBroadcast{plainBroadcast{msg: msg}, fmt.Sprint(i)}
}

// spread queues a broadcast of the node's own, as the core does.
func (m *Memberlist) spread(b Broadcast) {
	m.engine.step(func(c *core, _ instant) { c.gossip.queue.QueueBroadcast(b) })
}

// TestOneBroadcastIsSentBareMoreAsCompound checks P70, W16.
func TestOneBroadcastIsSentBareMoreAsCompound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, m, p := gossiper(t)
		m.spread(news(50, 1))
		time.Sleep(time.Second)
		heard := p.heard(suspectMsg)
		require.Len(t, heard, 1)
		require.Equal(t, byte(checksumMsg), heard[0].raw[0], "the puppet understands checksums (W25)")
		require.Equal(t, byte(suspectMsg), heard[0].raw[5])

		p.forget()
		m.spread(news(50, 1))
		m.spread(news(50, 2))
		time.Sleep(time.Second)
		heard = p.heard(suspectMsg)
		require.Len(t, heard, 2)
		require.Equal(t, heard[0].packet, heard[1].packet, "in one packet")
		require.Equal(t, byte(compoundMsg), heard[0].raw[5])
	})
}

// Broadcasts are drawn for each target again: so both of two targets get a message
// that is to be sent twice, and one that is to be sent once goes to one of them (P70).
func TestBroadcastsAreDrawnForEachTarget(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for mult, want := range map[int]int{1: 1, 2: 2} {
			c, m, p := gossiper(t, func(cfg *Config) { cfg.GossipNodes, cfg.RetransmitMult = 2, mult })
			q := c.puppet("q", nil)
			q.introduce(m)
			synctest.Wait()
			m.broadcasts.Reset()
			p.forget()
			q.forget()
			m.spread(news(50, 1))
			both := func() []heard { return append(p.heard(suspectMsg), q.heard(suspectMsg)...) }
			within(t, time.Second, "the first round", func() bool { return len(both()) > 0 })
			synctest.Wait()
			require.Len(t, both(), want)
			if want == 2 {
				require.Len(t, p.heard(suspectMsg), 1)
			}
		}
	})
}

// Packets are filled up to UDPBufferSize, and exceed it by no more than what is
// not accounted for: a checksum and the length of the main message (P72, P73).
func TestPacketsAreFilled(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 16)
	for name, change := range map[string]func(*Config){
		"plain":     func(*Config) {},
		"label":     func(cfg *Config) { cfg.Label = "label" },
		"encrypted": func(cfg *Config) { cfg.SecretKey = key },
		"both":      func(cfg *Config) { cfg.Label, cfg.SecretKey = "label", key },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				m := c.node("n1", quiet, func(cfg *Config) {
					cfg.GossipInterval, cfg.GossipNodes, cfg.EnableCompression = 100*time.Millisecond, 1, false
				}, change)
				p := c.puppet("p", m.config)
				p.introduce(m)
				synctest.Wait()
				p.forget()
				for i := range 400 {
					m.spread(news(40+i%7, i))
				}
				p.send(m, (&ping{SeqNo: 3}).appendTo(nil))
				time.Sleep(time.Second)
				sizes := map[int]int{}
				for _, h := range append(p.heard(suspectMsg), p.heard(ackMsg)...) {
					sizes[h.packet] = h.size
				}
				require.Greater(t, len(sizes), 5)
				for _, size := range sizes {
					require.LessOrEqual(t, size, 1400+7)
				}
				full := p.heard(suspectMsg)[0].size
				require.Greater(t, full, 1400-45-20, "room for no further message")
				require.Greater(t, p.heard(ackMsg)[0].size, 1400-45-20)
			})
		})
	}
}

// The own queue comes first. If more than three bytes are left, the delegate may
// fill them, and each of its messages gets the type byte of a user message (P74).
func TestOwnBroadcastsFirstThenTheDelegates(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := new(askedDelegate)
		_, m, p := gossiper(t, func(cfg *Config) { cfg.Delegate = d })
		d.give([]byte("one"), []byte{}, []byte("three"))
		m.spread(news(50, 1))
		m.spread(news(70, 2))
		within(t, time.Second, "it is sent", func() bool { return len(p.heard(suspectMsg)) > 0 })
		require.Contains(t, d.take(), [2]int{3, 1398 - 52 - 72})
		first := p.heard(suspectMsg)
		require.Len(t, first, 2)
		var texts []string
		for _, h := range p.heard(userMsg) {
			require.Equal(t, first[0].packet, h.packet, "in the same packet")
			texts = append(texts, string(h.body))
		}
		require.Equal(t, []string{"one", "", "three"}, texts)

		for _, left := range []int{3, 4} {
			synctest.Wait()
			p.forget()
			m.spread(news(1398-2-left, 3))
			within(t, time.Second, "it is sent", func() bool { return len(p.heard(suspectMsg)) > 0 })
			asked := slices.Contains(d.take(), [2]int{3, left})
			require.Equal(t, left == 4, asked, "%d bytes are left", left)
		}
	})
}

// askedDelegate gives its broadcasts for the first packet in which there is
// something else, and writes down what it was asked.
type askedDelegate struct {
	hooks
	answer [][]byte

	mu    sync.Mutex
	asked [][2]int
}

func (d *askedDelegate) GetBroadcasts(overhead, limit int) [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, [2]int{overhead, limit})
	if limit > 1300 { // nothing else in the packet
		return nil
	}
	given := d.answer
	d.answer = nil
	return given
}

func (d *askedDelegate) give(answer ...[]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = answer
}

func (d *askedDelegate) take() [][2]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked := d.asked
	d.asked = nil
	return asked
}

// Broadcasts ride on pings, indirect pings, acks, and what relays send; not on
// user messages, nor on a suspect's ping, which has its suspicion along (P75).
func TestWhatBroadcastsRideOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		hooked := &hooks{}
		m := c.node("n1", quiet, func(cfg *Config) {
			cfg.Delegate = hooked
			cfg.ProbeInterval, cfg.ProbeTimeout = 10*time.Second, time.Second
			cfg.SuspicionMult, cfg.AwarenessMaxMultiplier = 100, 1
			cfg.DisableTcpPings = true
			cfg.detector = plainDetector()
		})
		p, q := c.puppet("p", nil), c.puppet("q", nil)
		hooked.broadcasts = func(int, int) [][]byte { return [][]byte{[]byte("rider")} }
		ridden := func(to *puppet, kind messageType) bool {
			t.Helper()
			main := to.heard(kind)
			require.NotEmpty(t, main, "no message of type %v", kind)
			for _, h := range to.heard(userMsg) {
				if h.packet == main[0].packet {
					return true
				}
			}
			return false
		}

		p.send(m, (&ping{SeqNo: 3}).appendTo(nil))
		synctest.Wait()
		require.True(t, ridden(p, ackMsg))

		p.forget()
		go func() { _, _ = m.Ping("p", &p.tr.addr) }()
		synctest.Wait()
		require.True(t, ridden(p, pingMsg), "Ping")

		p.forget()
		ind := indirectPing{SeqNo: 5, Target: net.IP{127, 0, 0, 1}, Port: uint16(q.tr.port), Node: borrow("q"), Nack: true}
		p.send(m, ind.appendTo(nil))
		synctest.Wait()
		require.True(t, ridden(q, pingMsg), "the ping of a relay")
		time.Sleep(time.Second)
		require.True(t, ridden(p, nackMsg))
		p.forget()
		q.forget()
		q.answerPings(m)
		p.send(m, ind.appendTo(nil))
		synctest.Wait()
		require.True(t, ridden(p, ackMsg), "a relayed ack")

		p.forget()
		require.NoError(t, m.SendBestEffort(&Node{Name: "p", Addr: net.IP{127, 0, 0, 1}, Port: uint16(p.tr.port)}, []byte("msg")))
		synctest.Wait()
		require.Len(t, p.heard(userMsg), 1, "a user message goes alone (P38)")

		p.introduce(m)
		q.introduce(m)
		within(t, time.Minute, "p is suspected", func() bool { return holdsFor(m, "p", StateSuspect) })
		require.True(t, ridden(p, pingMsg), "a probe")
		require.True(t, ridden(q, indirectPingMsg))
		p.forget()
		within(t, time.Minute, "p is probed again", func() bool { return len(p.heard(pingMsg)) > 0 })
		require.False(t, ridden(p, pingMsg), "a suspect's ping")
		require.Len(t, p.heard(suspectMsg), 1)
	})
}
