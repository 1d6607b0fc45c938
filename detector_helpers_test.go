package memberlist

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newDetectorCore is a test core with every part of the failure detector. It is
// not started: what it does, a test makes it do.
func newDetectorCore(t testing.TB, changes ...func(*Config)) *testCore {
	t.Helper()
	return newTestCore(t, append([]func(*Config){withDetector}, changes...)...)
}

// without switches off what the function names.
func without(off func(*detectorSwitches)) func(*Config) {
	return func(cfg *Config) { off(&cfg.detector) }
}

// probe lets a probe round of a certain member begin, and its ping go out.
func (c *testCore) probe(name string) *probe {
	c.t.Helper()
	c.probing.next = slices.Index(c.table.order, c.table.get(name))
	c.probing.begin(c.now)
	p := c.probing.ping
	require.Equal(c.t, name, p.node.Name)
	c.pingSent(p.seq, c.now)
	return p
}

// roundTrip is an answer of a member, now, to something sent at the given time.
func (c *testCore) roundTrip(name string, sent instant) {
	c.answerReceived(c.now, c.table.get(name), sent)
}

// answer is the ack for a ping.
func (c *testCore) answer(p interface{ number() uint32 }) {
	c.ack(c.now, &ack{SeqNo: p.number()}, c.now)
}

// refuse is a relay's nack for a ping.
func (c *testCore) refuse(p *probe) { c.nack(c.now, &nack{SeqNo: p.seq}) }

// number is the sequence number of a ping of any kind.
func (p *pendingPing) number() uint32 { return p.seq }

// pendingFor is the ping of a kind whose answer is awaited; nil if there is none.
func (c *testCore) pendingFor(kind string, name string) *pendingPing {
	for _, p := range c.pings.pending {
		if kindOf(p.kind) == kind && p.node.Name == name {
			return p
		}
	}
	return nil
}

// live lets time go by like pass, on a transport that takes each packet at once.
// react, if not nil, is called for each packet. It returns what was sent, with
// the time since the call: "250ms x: ping x".
func (c *testCore) live(d time.Duration, react func(p outPacket)) []string {
	var list []string
	began := c.now
	take := func() {
		for len(c.fx.packets) > 0 {
			packets := c.fx.packets
			c.fx.packets = nil
			for _, p := range packets {
				list = append(list, fmt.Sprintf("%v %s: %s", c.now.sub(began), p.to.name, inWords(c.t, p.msg)))
				c.pingSent(p.seq, c.now)
				if react != nil {
					react(p)
				}
			}
		}
	}
	take()
	end := c.now.add(d)
	for next := c.timers.next(); next <= end; next = c.timers.next() {
		c.now = max(c.now, next)
		c.tick(c.now)
		take()
	}
	c.now = end
	return list
}

// othersThan is a reaction for live: every member answers, and as a relay refuses, but
// for those that are named.
func (c *testCore) othersThan(silent ...string) func(outPacket) {
	return func(p outPacket) {
		if slices.Contains(silent, p.to.name) {
			return
		}
		if messageType(p.msg[0]) == indirectPingMsg {
			var in indirectPing
			_, err := in.decode(p.msg[1:])
			require.NoError(c.t, err)
			c.nack(c.now, &nack{SeqNo: in.SeqNo})
			return
		}
		c.ack(c.now, &ack{SeqNo: p.seq}, c.now)
	}
}

// wakeLate does what is due next, and does it late.
func (c *testCore) wakeLate(late time.Duration) {
	c.t.Helper()
	require.NotEmpty(c.t, c.timers.heap)
	c.now = max(c.now, c.timers.next().add(late))
	c.tick(c.now)
}

// syncs takes the full exchanges that the core wants: the names of the partners.
func (c *testCore) syncs() []string {
	var list []string
	for _, s := range c.fx.streams {
		switch {
		case s.kind == streamVisit, s.kind == streamSync && s.node != nil:
			list = append(list, s.node.Name)
		case s.kind == streamSync:
			list = append(list, "anybody")
		case s.kind == streamSeeds:
			list = append(list, "seeds")
		}
	}
	c.fx.streams = nil
	return list
}

// targets are the receivers of the packets that contain a text, in order; all
// packets are taken.
func (c *testCore) targets(text string) []string {
	var list []string
	for _, p := range c.fx.packets {
		if inWords(c.t, p.msg) == text {
			list = append(list, p.to.name)
		}
	}
	c.fx.packets = nil
	slices.Sort(list)
	return list
}
