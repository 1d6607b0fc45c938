package memberlist

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	knownPort = 7946
	otherPort = 4711
)

// claimed lets somebody claim the name of x at another address.
func (c *testCore) claimed(incarnation uint32, port uint16) {
	c.hearAlive("x", incarnation, withPort(port))
}

func (c *testCore) portOf(name string) uint16 { return c.table.get(name).node.Port }

// upAt is a reaction for live: x answers at these ports only, by packets, and all
// others do, and refuse as relays.
func (c *testCore) upAt(ports ...uint16) func(outPacket) {
	others := c.othersThan("x")
	return func(p outPacket) {
		others(p)
		if p.to.name == "x" && slices.Contains(ports, p.to.addr.Port()) {
			c.ack(c.now, &ack{SeqNo: p.seq}, c.now)
		}
	}
}

// streamsUpAt lets x answer on streams at these ports.
func (c *testCore) streamsUpAt(ports ...uint16) {
	for _, s := range c.fx.streams {
		if s.kind == streamProbe && slices.Contains(ports, s.node.Port) {
			c.streamAnswered(c.now, s.seq)
		}
	}
	c.fx.streams = nil
}

// identify lets the node at a port, which is asked for its own address, give one with
// another port, or with 0 none.
func (c *testCore) identify(at, own uint16) {
	c.t.Helper()
	tasks := slices.DeleteFunc(c.fx.streams, func(s streamTask) bool { return s.kind != streamIdentify })
	c.fx.streams = nil
	require.Len(c.t, tasks, 1)
	asked := tasks[0].node
	require.Equal(c.t, at, asked.Port)
	if own == 0 {
		c.addresses.identified(c.now, asked, netip.AddrPort{})
		return
	}
	c.addresses.identified(c.now, asked, addrPortOf(asked.Addr, own))
}

// areTwo lets each of the nodes at the two addresses give its own.
func (c *testCore) areTwo() {
	c.t.Helper()
	c.identify(otherPort, otherPort)
	c.identify(knownPort, knownPort)
}

// While it is not known who is right, the known address counts. The name is asked for
// at both, for a ProbeTimeout. If it answers at the claimed one only, the node has
// moved: what was there is gone, and a node joins (P179).
func TestNameThatAnswersAtTheClaimedAddressOnlyHasMoved(t *testing.T) {
	for _, reclaim := range []time.Duration{0, 30 * time.Second, time.Minute} {
		for _, state := range []string{"alive", "suspect", "dead"} {
			t.Run(fmt.Sprint(state, " ", reclaim), func(t *testing.T) {
				c := newDetectorCore(t, func(cfg *Config) { cfg.DeadNodeReclaimTime = reclaim })
				c.know("x", "a", "b")
				events := []string{"leave x", "join x"}
				switch state {
				case "suspect":
					c.hearSuspect("x", 1, "a")
				case "dead":
					c.hearDead("x", 1, "a")
					events = events[1:]
				}
				c.settle()
				c.claimed(1, otherPort)
				c.live(c.cfg.ProbeTimeout-1, c.upAt(otherPort))
				require.Equal(t, uint16(knownPort), c.portOf("x"))
				require.Empty(t, c.events())
				require.Empty(t, c.broadcasts())

				c.live(1, nil)
				require.Equal(t, "alive@1", c.view("x"))
				require.Equal(t, uint16(otherPort), c.portOf("x"))
				require.Equal(t, events, c.events())
				require.Equal(t, []string{"alive x@1"}, c.broadcasts(), "the others hear of it and ask too")
				require.Empty(t, c.logs(levelError))
				checkTable(t, &c.table)
			})
		}
	}
}

// The known address gets the full question: repeated pings, relays, and a stream. The
// claimed one gets pings and a stream (P179).
func TestClaimIsCheckedInEveryWay(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b")
	c.claimed(1, otherPort)
	var pings, relayed []uint16
	c.live(c.cfg.ProbeTimeout, func(p outPacket) {
		switch messageType(p.msg[0]) {
		case pingMsg:
			require.Equal(t, "x", p.to.name)
			pings = append(pings, p.to.addr.Port())
		case indirectPingMsg:
			var in indirectPing
			_, err := in.decode(p.msg[1:])
			require.NoError(t, err)
			relayed = append(relayed, in.Port)
		}
	})
	slices.Sort(pings)
	require.Equal(t, slices.Concat(slices.Repeat([]uint16{otherPort}, 4), slices.Repeat([]uint16{knownPort}, 4)), pings)
	require.Equal(t, []uint16{knownPort, knownPort}, relayed)
	require.Len(t, c.fx.streams, 2)
	require.Empty(t, c.pings.pending)
}

// Old news are a claim to an address where nobody of that name is. They displace
// nobody, whatever becomes of the questions to the known address, and are no conflict (P179).
func TestOldNewsDisplaceNobody(t *testing.T) {
	for _, known := range []bool{false, true} {
		for _, reclaim := range []time.Duration{0, 30 * time.Second} {
			c := newDetectorCore(t, func(cfg *Config) { cfg.DeadNodeReclaimTime = reclaim })
			c.know("x", "a", "b")
			up := c.upAt()
			if known {
				up = c.upAt(knownPort)
			}
			for range 20 {
				c.claimed(9, otherPort)
				c.live(300*time.Millisecond, up)
			}
			require.Equal(t, uint16(knownPort), c.portOf("x"))
			require.Equal(t, "alive@1", c.view("x"))
			require.Empty(t, c.events())
			require.Empty(t, c.logs(levelError))
		}
	}
}

// Old news do not raise those that are dead or have left, at no time.
func TestOldNewsRaiseNobody(t *testing.T) {
	for _, from := range []string{"a", "x"} {
		c := newDetectorCore(t, func(cfg *Config) { cfg.DeadNodeReclaimTime = time.Second })
		c.know("x", "a", "b")
		c.hearDead("x", 3, from)
		c.settle()
		view := c.view("x")
		c.live(2*time.Second, c.upAt())
		c.claimed(3, otherPort)
		c.live(2*time.Second, c.upAt())
		require.Equal(t, view, c.view("x"))
		require.Empty(t, c.events())

		c.claimed(4, otherPort)
		require.Equal(t, "alive@4", c.view("x"), "news find the name free")
		require.Equal(t, []string{"join x"}, c.events())
	}
}

// A name that is free goes to whoever answers, without any question to the old address,
// where a process that has left can linger (P179).
func TestFreeNameGoesToWhoAnswers(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a", "b")
	c.hearDead("x", 3, "x")
	c.settle()
	c.claimed(1, otherPort)
	require.Equal(t, []string{"0s x: ping x"}, c.live(0, c.upAt(knownPort, otherPort)))
	require.Equal(t, "alive@1", c.view("x"))
	require.Equal(t, []string{"join x"}, c.events())
}

// With UDP blocked, streams decide.
func TestClaimIsDecidedOnStreams(t *testing.T) {
	for _, row := range []struct {
		up    []uint16
		moves bool
	}{
		{[]uint16{otherPort}, true},
		{[]uint16{knownPort}, false},
		{nil, false},
	} {
		c := newDetectorCore(t)
		c.know("x", "a", "b")
		c.claimed(1, otherPort)
		c.streamsUpAt(row.up...)
		c.live(time.Second, nil)
		require.Equal(t, row.moves, c.portOf("x") == otherPort)
		require.Empty(t, c.logs(levelError))
	}
}

// Without a ProbeTimeout the addresses are asked all the same.
func TestClaimIsCheckedWithoutProbeTimeout(t *testing.T) {
	c := newDetectorCore(t, func(cfg *Config) { cfg.ProbeTimeout = 0 })
	c.know("x", "a")
	c.claimed(1, otherPort)
	c.live(time.Second, c.upAt(otherPort))
	require.Equal(t, uint16(otherPort), c.portOf("x"))
}

// If the name answers at both addresses, they are asked in full exchanges which address
// they have. If both have the claimed one, it is one node (P179).
func TestNodeThatIsReachedAtBothAddressesHasMoved(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	c.claimed(2, otherPort)
	c.live(0, c.upAt(knownPort, otherPort))
	require.Equal(t, uint16(knownPort), c.portOf("x"))
	c.identify(otherPort, otherPort)
	require.Equal(t, uint16(knownPort), c.portOf("x"))
	c.identify(knownPort, otherPort)
	require.Equal(t, uint16(otherPort), c.portOf("x"))
	require.Equal(t, "alive@2", c.view("x"))
	require.Equal(t, []string{"leave x", "join x"}, c.events())
	require.Empty(t, c.logs(levelError))
	require.Empty(t, c.pings.pending)
}

// If what is at the claimed address has the known one, it was old news.
func TestNodeThatIsReachedAtItsFormerAddressTooStays(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	c.claimed(2, otherPort)
	c.live(0, c.upAt(knownPort, otherPort))
	c.identify(otherPort, knownPort)
	require.Equal(t, uint16(knownPort), c.portOf("x"))
	require.Empty(t, c.events())
	require.Empty(t, c.logs(levelError))
	require.Empty(t, c.pings.pending)
}

// Else, or if it cannot be asked, two nodes claim one name (P179).
func TestTwoNodesOfOneNameAreInConflict(t *testing.T) {
	for what, settle := range map[string]func(c *testCore){
		"two":             (*testCore).areTwo,
		"not to be asked": func(c *testCore) { c.identify(otherPort, 0) },
		"one is not to be asked": func(c *testCore) {
			c.identify(otherPort, otherPort)
			c.identify(knownPort, 0)
		},
		"a third": func(c *testCore) {
			c.identify(otherPort, otherPort)
			c.identify(knownPort, 99)
		},
	} {
		c := newDetectorCore(t)
		c.know("x", "a")
		c.claimed(7, otherPort)
		c.live(200*time.Millisecond, c.upAt(knownPort, otherPort))
		require.Empty(t, c.events())
		settle(c)
		node := c.table.get("x").node
		require.Equal(t, []string{fmt.Sprintf("conflict x %s:7946 / %s:4711", node.Addr, node.Addr)}, c.events(), what)
		require.Len(t, c.logs(levelError), 1)
		require.Equal(t, "alive@1", c.view("x"))
		c.live(time.Minute, nil)
		require.Empty(t, c.events())
		require.Equal(t, uint16(knownPort), c.portOf("x"))
	}
}

// Claims are gossiped about, so they come in numbers. One is checked at a time, and
// after a conflict the same one is not for ten probe intervals, and the full exchange
// is not made again before the periodic one would be due (P179).
func TestClaimsAreCheckedNowAndThen(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	for i := range 20 {
		c.claimed(1, otherPort+uint16(i))
	}
	up := c.upAt(knownPort, otherPort)
	require.Len(t, c.live(0, up), 3, "two pings, and one to a relay")
	c.areTwo()
	require.Len(t, c.events(), 1)
	refused := c.now
	for range 5 {
		c.now = c.now.add(10*c.cfg.ProbeInterval - 1 - c.now.sub(refused))
		c.claimed(1, otherPort)
		require.Empty(t, c.packets())
		require.Len(t, c.events(), 1)
	}
	c.now = c.now.add(1)
	c.claimed(1, otherPort)
	require.Empty(t, c.events())
	require.Len(t, c.live(0, up), 3)
	require.Len(t, c.events(), 1, "it is known that they are two")
	require.False(t, slices.ContainsFunc(c.fx.streams, func(s streamTask) bool { return s.kind == streamIdentify }))

	c.now = refused.add(c.cfg.PushPullInterval + 1)
	c.claimed(1, otherPort)
	c.live(0, up)
	require.Empty(t, c.events())
	c.areTwo()
	require.Len(t, c.events(), 1)
}

// After old news at one address, news of another are checked at once, and the same
// after a probe interval: a node can move back.
func TestOldNewsDoNotHoldUpNews(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	c.claimed(1, otherPort)
	c.live(time.Second/2, c.upAt(knownPort))
	c.settle()
	c.claimed(1, otherPort)
	require.Empty(t, c.fx.packets)
	c.claimed(1, 99)
	c.live(time.Second/2, c.upAt(99))
	require.Equal(t, uint16(99), c.portOf("x"))
	c.claimed(1, knownPort)
	c.live(time.Second/2, c.upAt(99))
	c.live(c.cfg.ProbeInterval, nil)
	c.claimed(1, knownPort)
	c.live(time.Second/2, c.upAt(knownPort))
	require.Equal(t, uint16(knownPort), c.portOf("x"))
}

// Many names at once cost some packets each.
func TestClaimsOfManyNames(t *testing.T) {
	c := newDetectorCore(t)
	names := nodeNames("n", 50)
	c.know(names...)
	for range 3 {
		for _, name := range names {
			c.hearAlive(name, 1, withPort(otherPort))
		}
	}
	react := func(p outPacket) {
		if p.to.addr.Port() == otherPort {
			c.ack(c.now, &ack{SeqNo: p.seq}, c.now)
		}
	}
	require.LessOrEqual(t, len(c.live(100*time.Millisecond, react)), 5*len(names))
	c.live(2*time.Second, react)
	for _, name := range names {
		require.Equal(t, uint16(otherPort), c.portOf(name))
	}
	require.Empty(t, c.pings.pending)
}

// What changed meanwhile is not undone: the node has moved elsewhere already, or was
// reaped.
func TestClaimIsOvertakenByEvents(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	c.claimed(2, otherPort)
	c.hearDead("x", 1, "x")
	c.claimed(3, 99) // one that left is free to come back anywhere
	c.live(time.Second, c.upAt(99))
	c.settle()
	c.claimed(2, otherPort)
	c.live(time.Second, c.upAt(99))
	require.Equal(t, uint16(99), c.portOf("x"))
	require.Empty(t, c.events())

	c = newDetectorCore(t)
	c.know("x", "a")
	c.claimed(2, otherPort)
	forget(&c.table, c.table.get("x"))
	c.live(time.Second, c.upAt(otherPort))
	require.Equal(t, "unknown", c.view("x"))
	require.Empty(t, c.events())
	require.Empty(t, c.pings.pending)
	checkTable(t, &c.table)
}

// The claim outlives the packet that it came in, and newer words of it count.
func TestClaimIsKept(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	c.claimed(4, otherPort)
	a := aliveOf("x", 5, withPort(otherPort), withMeta("moved"))
	buf := a.appendTo(nil)
	var borrowed alive
	_, err := borrowed.decode(buf[1:])
	require.NoError(t, err)
	c.alive(c.now, &borrowed, buf)
	clear(buf)
	c.live(time.Second, c.upAt(otherPort))
	node := c.table.get("x").node
	require.Equal(t, "alive@5", c.view("x"))
	require.Equal(t, "x", node.Name)
	require.Equal(t, "moved", string(node.Meta))
	require.Equal(t, addrOfTestNode("x").String(), node.Addr.String())
}

// A check that is due while the process stands still waits for what has come in since.
func TestClaimIsNotJudgedAfterAStall(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	c.claimed(1, otherPort)
	known := c.pendingAt(knownPort)
	c.live(0, c.upAt(otherPort))
	c.now = c.now.add(5 * time.Second)
	c.tick(c.now)
	require.Equal(t, uint16(knownPort), c.portOf("x"))
	c.answer(known)
	c.areTwo()
	require.Equal(t, uint16(knownPort), c.portOf("x"))
}

// pendingAt is the question for a name at a port.
func (c *testCore) pendingAt(port uint16) *pendingPing {
	for _, p := range c.pings.pending {
		if kindOf(p.kind) == "addressPing" && p.node.Port == port {
			return p
		}
	}
	return nil
}

// Without the address check the classical rule holds (P96): only time frees a name.
func TestClaimsByTheClassicalRule(t *testing.T) {
	for _, reclaim := range []time.Duration{0, time.Minute} {
		c := newDetectorCore(t, without(func(d *detectorSwitches) { d.noAddressCheck = true }),
			func(cfg *Config) { cfg.DeadNodeReclaimTime = reclaim })
		c.know("x", "a")
		c.claimed(2, otherPort)
		require.Empty(t, c.packets())
		require.Len(t, c.events(), 1)
		c.hearDead("x", 1, "a")
		c.settle()
		c.now = c.now.add(time.Minute)
		c.claimed(2, otherPort)
		require.Len(t, c.events(), 1)
		c.now = c.now.add(1)
		c.claimed(2, otherPort)
		require.Len(t, c.events(), 1)
		require.Equal(t, reclaim > 0, c.portOf("x") == otherPort)
		require.Empty(t, c.packets())
	}
}

// Within two seconds, on every preset but that for wide areas.
func TestClaimTakesLessThanTwoSeconds(t *testing.T) {
	for _, preset := range []*Config{DefaultLANConfig(), DefaultLocalConfig()} {
		c := newDetectorCore(t, func(cfg *Config) { cfg.ProbeTimeout = preset.ProbeTimeout })
		c.know("x", "a")
		c.claimed(1, otherPort)
		c.live(2*time.Second, c.upAt(otherPort))
		require.Equal(t, uint16(otherPort), c.portOf("x"))
	}
}

// A node that hears of itself at another address looks whether somebody is there. If
// not, it was about a process that it has followed, and is overruled (P179).
func TestNewsOfTheOwnFormerAddressAreOverruled(t *testing.T) {
	c := newDetectorCore(t)
	c.know("a")
	c.hearAlive("me", 5, withPort(otherPort))
	require.Equal(t, []string{"0s me: ping me"}, c.live(0, nil))
	require.Empty(t, c.broadcasts())
	c.live(time.Second, nil)
	require.Equal(t, []string{"alive me@6"}, c.broadcasts())
	require.Equal(t, uint16(knownPort), c.self.node.Port)
	require.Empty(t, c.events())
	require.Empty(t, c.logs(levelError))
}

// If somebody is there it is a conflict, unless the transport finds nodes by name and
// has found this one.
func TestOwnNameThatAnswersElsewhere(t *testing.T) {
	for _, own := range []uint16{knownPort, otherPort} {
		c := newDetectorCore(t)
		c.know("a")
		c.hearAlive("me", 5, withPort(otherPort))
		c.live(0, func(p outPacket) { c.ack(c.now, &ack{SeqNo: p.seq}, c.now) })
		c.identify(otherPort, own)
		require.Equal(t, own == otherPort, len(c.events()) == 1)
		require.Equal(t, own == otherPort, len(c.logs(levelError)) == 1)
		require.Equal(t, own == knownPort, len(c.broadcasts()) == 1)
	}
}

// A probe that runs while its target moves ends without a verdict: the silence was that
// of the old process. So does an accusation that waits for its self-check (P180).
func TestProbeOfANodeThatMovedAccusesNobody(t *testing.T) {
	for what, until := range map[string]time.Duration{"running": 900 * time.Millisecond, "waiting": 1500 * time.Millisecond} {
		t.Run(what, func(t *testing.T) {
			c := newDetectorCore(t)
			c.know("x", "a", "b")
			c.probe("x")
			c.live(until-c.cfg.ProbeTimeout, nil)
			c.claimed(1, otherPort)
			c.live(c.cfg.ProbeTimeout, func(p outPacket) {
				if p.to.addr.Port() == otherPort {
					c.ack(c.now, &ack{SeqNo: p.seq}, c.now)
				}
			})
			require.Equal(t, "alive@1", c.view("x"))
			require.Equal(t, uint16(otherPort), c.portOf("x"))
			require.Equal(t, probeIdle, c.probing.phase)
			c.settle()
			c.roundTrip("a", c.now)
			c.live(5*time.Second, nil)
			require.Equal(t, "alive@1", c.view("x"))
			require.Empty(t, c.broadcasts())
		})
	}
}

// For a while after a move, what others say about the incarnations before it is about
// the old process. It is passed on to the new one, which refutes it (P180).
func TestAccusationsOfTheFormerProcessArePassedOn(t *testing.T) {
	say := map[string]func(c *testCore, incarnation uint32){
		"suspect": func(c *testCore, i uint32) { c.hearSuspect("x", i, "a") },
		"dead":    func(c *testCore, i uint32) { c.hearDead("x", i, "a") },
		"left":    func(c *testCore, i uint32) { c.hearDead("x", i, "x") },
		"merged": func(c *testCore, i uint32) {
			s := stateOf("x", i, StateDead)
			s.Port = otherPort
			c.merge(c.now, []pushNodeState{s})
		},
	}
	for what, accuse := range say {
		c := newDetectorCore(t)
		c.hearAlive("x", 4)
		c.know("a", "b")
		c.claimed(1, otherPort)
		c.live(time.Second, c.upAt(otherPort))
		require.Equal(t, "alive@1", c.view("x"))
		c.settle()
		accuse(c, 4)
		require.Equal(t, "alive@1", c.view("x"), what)
		require.Len(t, c.targets(map[string]string{
			"suspect": "suspect x@4 by a", "dead": "dead x@4 by a", "left": "dead x@4 by x", "merged": "suspect x@4 by me",
		}[what]), 1, what)
		accuse(c, 5)
		require.NotEqual(t, "alive@1", c.view("x"), what)
	}

	// What this node found out itself at the new address counts.
	c := newDetectorCore(t)
	c.hearAlive("x", 4)
	c.know("a", "b")
	c.claimed(1, otherPort)
	c.live(time.Second, c.upAt(otherPort))
	c.probe("x")
	c.live(time.Second, c.othersThan("x"))
	require.Equal(t, "suspect@1", c.view("x"))
}

// A suspect entry about a stranger makes a member of it that is suspect. It is a member
// at once, and not only after it has refuted.
func TestSuspectStrangerOfAPushPullIsAMember(t *testing.T) {
	c := newDetectorCore(t)
	c.know("a", "b")
	c.merge(c.now, []pushNodeState{stateOf("x", 3, StateSuspect), stateOf("y", 3, StateDead), stateOf("z", 0, StateSuspect)})
	require.Equal(t, []string{"suspect@3", "unknown", "unknown"}, c.views("x", "y", "z"))
	require.Equal(t, []string{"join x"}, c.events())
	checkTable(t, &c.table)
}

// One that is known to be gone since does not come back by that.
func TestSuspectStrangerThatIsKnownToBeGoneStaysGone(t *testing.T) {
	c := newDetectorCore(t)
	c.know("a")
	c.hearDead("x", 3, "x")
	c.merge(c.now, []pushNodeState{stateOf("x", 3, StateSuspect)})
	require.Equal(t, "left@3", c.view("x"))
	require.Empty(t, c.events())
}

// An accusation of a push/pull is about the node at the address in it. At another one
// it says that a suspect is there, which is checked like any claim; a dead one there
// is no reason to suspect the one here, but it learns what is held against its name.
func TestAccusationAtAnotherAddressAccusesNobodyHere(t *testing.T) {
	elsewhere := func(state NodeStateType) pushNodeState {
		s := stateOf("x", 3, state)
		s.Port = otherPort
		return s
	}
	c := newDetectorCore(t)
	c.know("x", "a", "b")
	c.merge(c.now, []pushNodeState{elsewhere(StateDead)})
	require.Equal(t, "alive@1", c.view("x"))
	require.Equal(t, []string{"x: suspect x@3 by me"}, c.packets())
	c.merge(c.now, []pushNodeState{elsewhere(StateSuspect)})
	c.live(time.Second, c.upAt(otherPort))
	require.Equal(t, "alive@3", c.view("x"))
	require.Equal(t, uint16(otherPort), c.portOf("x"))

	c.hearDead("x", 3, "x")
	c.merge(c.now, []pushNodeState{stateOf("x", 9, StateDead)})
	require.Equal(t, "dead@9", c.view("x"), "it is the newest word about the name")
}

// Without a ProbeTimeout a suspect is asked a last time as well, and the verdict waits
// for the answer.
func TestVerdictWithoutProbeTimeout(t *testing.T) {
	for _, silent := range []bool{false, true} {
		c := newDetectorCore(t, func(cfg *Config) { cfg.ProbeTimeout = 0 })
		c.know("x", "a", "b")
		c.start(c.now)
		c.live(5*time.Second, c.othersThan())
		c.hearSuspect("x", 1, "a")
		react := c.othersThan()
		if silent {
			react = c.othersThan("x")
		}
		c.live(time.Minute, react)
		require.Equal(t, silent, c.view("x") != "alive@1", c.view("x"))
	}
}
