package memberlist

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const otherPort = 4711

// claimed lets somebody claim the name of x at another address.
func (c *testCore) claimed(incarnation uint32, port uint16) {
	c.hearAlive("x", incarnation, withPort(port))
}

func (c *testCore) addressOf(name string) string { return c.table.get(name).node.Address() }

// While it is not known who is right, the old address counts. It is asked by name,
// twice in a ProbeTimeout. If nobody answers, the node has moved: what was there is
// gone, and a node joins.
func TestClaimOfASilentNodesNameIsTaken(t *testing.T) {
	for _, state := range []string{"alive", "suspect", "dead"} {
		t.Run(state, func(t *testing.T) {
			c := newDetectorCore(t)
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
			old := c.addressOf("x")
			c.claimed(1, otherPort)
			require.Equal(t, []string{"0s x: ping x", "250ms x: ping x"}, c.live(c.cfg.ProbeTimeout-1, nil))
			require.Equal(t, old, c.addressOf("x"))
			require.Empty(t, c.events())
			require.Empty(t, c.broadcasts())

			c.live(1, nil)
			require.Equal(t, "alive@1", c.view("x"))
			require.Equal(t, uint16(otherPort), c.table.get("x").node.Port)
			require.Equal(t, events, c.events())
			require.Equal(t, []string{"alive x@1"}, c.broadcasts(), "the others hear of it and ask too")
			require.Empty(t, c.pings)
			checkTable(t, &c.table)
		})
	}
}

// The pings go to the old address.
func TestClaimIsCheckedAtTheOldAddress(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	old := toNode(c.table.get("x").node).addr
	c.claimed(1, otherPort)
	c.pass(400 * time.Millisecond)
	require.Len(t, c.fx.packets, 2)
	for _, p := range c.fx.packets {
		require.Equal(t, old, p.to.addr)
		require.Equal(t, "x", p.to.name)
	}
}

// If somebody answers there, two nodes claim one name.
func TestClaimOfALivingNodesNameIsAConflict(t *testing.T) {
	for _, wait := range []time.Duration{0, 400 * time.Millisecond} {
		c := newDetectorCore(t)
		c.know("x", "a")
		c.claimed(7, otherPort)
		c.live(wait, nil)
		c.answer(c.pendingFor(pingClaim, "x"))
		node := c.table.get("x").node
		require.Equal(t, []string{fmt.Sprintf("conflict x %s:7946 / %s:4711", node.Addr, node.Addr)}, c.events())
		require.Equal(t, "alive@1", c.view("x"))
		c.live(time.Minute, nil)
		require.Empty(t, c.events())
		require.Equal(t, uint16(7946), c.table.get("x").node.Port)
	}
}

// Claims are gossiped about, so they come in numbers. One is checked at a time, and
// after one was refused none for ten probe intervals: the rest are conflicts at once.
func TestClaimsAreCheckedNowAndThen(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	for i := range 20 {
		c.claimed(1, otherPort+uint16(i))
	}
	require.Equal(t, []string{"x: ping x"}, c.packets())
	require.Empty(t, c.events(), "one is being checked")

	c.answer(c.pendingFor(pingClaim, "x"))
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
	require.Equal(t, []string{"x: ping x"}, c.packets())
	require.Empty(t, c.events())
}

// Many names at once cost a ping each.
func TestClaimsOfManyNames(t *testing.T) {
	c := newDetectorCore(t)
	names := nodeNames("n", 50)
	c.know(names...)
	for range 3 {
		for _, name := range names {
			c.hearAlive(name, 1, withPort(otherPort))
		}
	}
	require.Len(t, c.live(200*time.Millisecond, nil), len(names))
	c.live(2*time.Second, nil)
	for _, name := range names {
		require.Equal(t, uint16(otherPort), c.table.get(name).node.Port)
	}
}

// What changed meanwhile is not undone: the node has moved there already, or was
// reaped.
func TestClaimIsOvertakenByEvents(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	c.claimed(2, otherPort)
	c.hearDead("x", 1, "x")
	c.claimed(3, otherPort) // one that left is free to come back anywhere
	require.Equal(t, "alive@3", c.view("x"))
	c.settle()
	c.live(time.Second, nil)
	require.Equal(t, "alive@3", c.view("x"))
	require.Empty(t, c.events())

	c = newDetectorCore(t)
	c.know("x", "a")
	c.claimed(2, otherPort)
	forget(&c.table, c.table.get("x"))
	c.live(time.Second, nil)
	require.Equal(t, "unknown", c.view("x"))
	require.Empty(t, c.events())
	checkTable(t, &c.table)
}

// The claim outlives the packet that it came in.
func TestClaimIsKept(t *testing.T) {
	c := newDetectorCore(t)
	c.know("x", "a")
	a := aliveOf("x", 5, withPort(otherPort), withMeta("moved"))
	buf := a.appendTo(nil)
	var borrowed alive
	_, err := borrowed.decode(buf[1:])
	require.NoError(t, err)
	c.alive(c.now, &borrowed, buf)
	clear(buf)
	c.live(time.Second, nil)
	node := c.table.get("x").node
	require.Equal(t, "alive@5", c.view("x"))
	require.Equal(t, "x", node.Name)
	require.Equal(t, "moved", string(node.Meta))
	require.Equal(t, addrOfTestNode("x").String(), node.Addr.String())
}

// With a DeadNodeReclaimTime the classical rule holds (P96), and without an address
// check or a ProbeTimeout too: only time frees a name.
func TestClaimsByTheClassicalRule(t *testing.T) {
	for what, change := range map[string]func(*Config){
		"DeadNodeReclaimTime": func(cfg *Config) { cfg.DeadNodeReclaimTime = time.Minute },
		"switched off":        without(func(d *DetectorSwitches) { d.NoAddressCheck = true }),
		"no ProbeTimeout":     func(cfg *Config) { cfg.ProbeTimeout = 0 },
	} {
		c := newDetectorCore(t, change)
		c.know("x", "a")
		c.claimed(2, otherPort)
		require.Empty(t, c.packets(), what)
		require.Len(t, c.events(), 1, what)
		c.hearDead("x", 1, "a")
		c.settle()
		c.now = c.now.add(time.Minute)
		c.claimed(2, otherPort)
		require.Len(t, c.events(), 1, what)
		c.now = c.now.add(1)
		c.claimed(2, otherPort)
		if c.cfg.DeadNodeReclaimTime > 0 {
			require.Equal(t, []string{"join x"}, c.events(), what)
			require.Equal(t, uint16(otherPort), c.table.get("x").node.Port, what)
		} else {
			require.Len(t, c.events(), 1, what)
		}
		require.Empty(t, c.packets(), what)
	}
}

// Within two seconds, on every preset but that for wide areas.
func TestClaimTakesLessThanTwoSeconds(t *testing.T) {
	for _, preset := range []*Config{DefaultLANConfig(), DefaultLocalConfig()} {
		c := newDetectorCore(t, func(cfg *Config) { cfg.ProbeTimeout = preset.ProbeTimeout })
		c.know("x", "a")
		c.claimed(1, otherPort)
		c.live(2*time.Second, nil)
		require.Equal(t, uint16(otherPort), c.table.get("x").node.Port)
	}
}
