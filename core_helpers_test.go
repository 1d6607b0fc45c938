package memberlist

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// testCore is a core whose clock the test moves. It is called "me", knows
// itself with incarnation 1, and has nothing queued or left to be done.
type testCore struct {
	*core
	t   testing.TB
	now instant
}

// newTestCore makes one from the LAN preset with the given changes. It follows
// SWIM and Lifeguard alone, without what this library adds to them; withDetector
// puts that back. Choices are made from a fixed seed.
func newTestCore(t testing.TB, changes ...func(*Config)) *testCore {
	t.Helper()
	cfg := DefaultLANConfig()
	cfg.Name = "me"
	cfg.detector = plainDetector()
	cfg.ReconnectInterval = 0
	for _, change := range changes {
		change(cfg)
	}
	c := &testCore{core: newCore(cfg, rand.New(rand.NewPCG(1, 2))), t: t, now: instant(time.Hour)}
	c.announceSelf(c.now, addrOfTestNode(cfg.Name), 7946, nil, nil)
	c.settle()
	return c
}

// plainDetector is SWIM and Lifeguard alone.
func plainDetector() detectorSwitches {
	return detectorSwitches{
		noSelfCheck: true, noFinalProbe: true, noRepeatedPing: true, noResponsiveRelays: true, noStallGuard: true,
		noAddressCheck: true, noTombstones: true, noResync: true, noAccuserCheck: true,
	}
}

// quiet leaves a running node nothing to do of its own.
func quiet(cfg *Config) {
	cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval, cfg.ReconnectInterval = time.Hour, 0, 0, 0
	cfg.QueueCheckInterval = 0
}

// withDetector switches on all parts of the failure detector.
func withDetector(cfg *Config) {
	preset := DefaultLANConfig()
	cfg.detector, cfg.ReconnectInterval = preset.detector, preset.ReconnectInterval
}

// settle forgets effects and broadcasts.
func (c *testCore) settle() {
	c.fx.reset()
	c.gossip.queue.Reset()
}

// addrOfTestNode is an address that only a node of that name has in these tests.
func addrOfTestNode(name string) net.IP {
	h := uint32(2166136261)
	for _, b := range []byte(name) {
		h = (h ^ uint32(b)) * 16777619
	}
	return net.IP{10, byte(h >> 16), byte(h >> 8), byte(h)}
}

// testVersions are what a node of this library announces.
func testVersions() []byte { return []byte{1, 5, 2, 0, 0, 0} }

// aliveOf is an alive message of a test node.
func aliveOf(name string, incarnation uint32, changes ...func(*alive)) *alive {
	a := &alive{Incarnation: incarnation, Node: borrow(name), Addr: addrOfTestNode(name), Port: 7946, Vsn: testVersions()}
	for _, change := range changes {
		change(a)
	}
	return a
}

func withMeta(meta string) func(*alive) { return func(a *alive) { a.Meta = []byte(meta) } }
func withPort(port uint16) func(*alive) { return func(a *alive) { a.Port = port } }
func withPMax(pmax byte) func(*alive)   { return func(a *alive) { a.Vsn = []byte{1, pmax, 2, 0, 0, 0} } }

// hearAlive, hearSuspect and hearDead apply a message as it came from the
// network.
func (c *testCore) hearAlive(name string, incarnation uint32, changes ...func(*alive)) {
	a := aliveOf(name, incarnation, changes...)
	c.alive(c.now, a, a.appendTo(nil))
}

func (c *testCore) hearSuspect(name string, incarnation uint32, from string) {
	s := &suspect{Incarnation: incarnation, Node: borrow(name), From: borrow(from)}
	c.suspect(c.now, s, s.appendTo(nil))
}

func (c *testCore) hearDead(name string, incarnation uint32, from string) {
	d := &dead{Incarnation: incarnation, Node: borrow(name), From: borrow(from)}
	c.dead(c.now, d, d.appendTo(nil))
}

// know makes the core know nodes that are alive with incarnation 1, and settles.
func (c *testCore) know(names ...string) {
	for _, name := range names {
		c.hearAlive(name, 1)
	}
	c.settle()
}

// nodeNames are n names with a common beginning.
func nodeNames(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s%03d", prefix, i)
	}
	return list
}

// pass lets time go by, and does at the right moment what falls due.
func (c *testCore) pass(d time.Duration) {
	end := c.now.add(d)
	for next := c.nextDeadline(c.now); next <= end; next = c.nextDeadline(c.now) {
		c.now = max(c.now, next)
		c.tick(c.now)
	}
	c.now = end
}

// view is the record of a node as "state@incarnation", "unknown" without one.
func (c *testCore) view(name string) string {
	m := c.table.get(name)
	if m == nil {
		return "unknown"
	}
	require.Equal(c.t, m.state() == StateSuspect, m.suspicion() != nil, "%s is %s", name, m.state())
	return fmt.Sprintf("%s@%d", m.state(), m.incarnation)
}

// views is the view of several nodes.
func (c *testCore) views(names ...string) []string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = c.view(name)
	}
	return list
}

// events takes the calls to the event and conflict delegates.
func (c *testCore) events() []string {
	var list []string
	for _, e := range c.fx.events {
		switch e.kind {
		case eventJoin:
			list = append(list, "join "+e.node.Name)
		case eventLeave:
			list = append(list, "leave "+e.node.Name)
		case eventUpdate:
			list = append(list, "update "+e.node.Name)
		case eventConflict:
			list = append(list, fmt.Sprintf("conflict %s %s / %s", e.node.Name, e.node.Address(), e.other.Address()))
		}
	}
	c.fx.events = nil
	return list
}

// broadcasts takes everything that is queued, in the queue's order.
func (c *testCore) broadcasts() []string {
	var list []string
	for _, msg := range c.gossip.queue.GetBroadcasts(0, 1<<30) {
		list = append(list, inWords(c.t, msg))
	}
	c.gossip.queue.Reset()
	return list
}

// packets takes the packets to be sent: receiver and messages.
func (c *testCore) packets() []string {
	var list []string
	for _, p := range c.fx.packets {
		list = append(list, p.to.name+": "+inWords(c.t, p.msg))
	}
	c.fx.packets = nil
	return list
}

// logs takes the log lines that begin with the given tag and text.
func (c *testCore) logs(level logLevel) []string {
	var list []string
	for _, l := range c.fx.logs {
		if l.level == level {
			list = append(list, fmt.Sprintf(l.format, l.args...))
		}
	}
	c.fx.logs = nil
	return list
}

// inWords is an encoded message in words, with the sequence number left out.
func inWords(t testing.TB, msg []byte) string {
	t.Helper()
	body := msg[1:]
	var err error
	var text string
	switch messageType(msg[0]) {
	case aliveMsg:
		var a alive
		_, err = a.decode(body)
		text = fmt.Sprintf("alive %s@%d", a.Node, a.Incarnation)
	case suspectMsg:
		var s suspect
		_, err = s.decode(body)
		text = fmt.Sprintf("suspect %s@%d by %s", s.Node, s.Incarnation, s.From)
	case deadMsg:
		var d dead
		_, err = d.decode(body)
		text = fmt.Sprintf("dead %s@%d by %s", d.Node, d.Incarnation, d.From)
	case pingMsg:
		var p ping
		_, err = p.decode(body)
		text = "ping " + p.Node.own()
	case indirectPingMsg:
		var p indirectPing
		_, err = p.decode(body)
		text = "indirect ping " + p.Node.own()
		if p.Nack {
			text += " nack"
		}
	case ackMsg:
		text = "ack"
	case nackMsg:
		text = "nack"
	case compoundMsg:
		return compoundInWords(t, body)
	default:
		t.Fatalf("message of type %d", msg[0])
	}
	require.NoError(t, err)
	return strings.Clone(text)
}

func compoundInWords(t testing.TB, body []byte) string {
	t.Helper()
	n := int(body[0])
	lengths, rest := body[1:1+2*n], body[1+2*n:]
	parts := make([]string, n)
	for i := range parts {
		size := int(lengths[2*i])<<8 | int(lengths[2*i+1])
		parts[i] = inWords(t, rest[:size])
		rest = rest[size:]
	}
	require.Empty(t, rest)
	return strings.Join(parts, " + ")
}

// kindOf is the name of the type that handles a timer or a ping.
func kindOf(handler any) string {
	name := fmt.Sprintf("%T", handler)
	return name[strings.LastIndex(name, ".")+1:]
}

// sortedCopy is a sorted copy.
func sortedCopy(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}
