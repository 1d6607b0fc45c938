package memberlist

import (
	"math/rand/v2"
	"slices"
	"time"
)

// common is what all parts of the core work on. Each part has a pointer to it, and
// its own state besides.
type common struct {
	cfg    *Config
	rng    *rand.Rand
	table  table
	self   *member // the record of this node; nil until it is announced
	timers timers
	fx     effects
}

// logf asks for a log line, as the methods of logger do. It remembers the place of
// its caller, since the line is written later from elsewhere.
func (c *common) logf(level logLevel, message string, fields logFields, format string, args ...any) {
	line := logLine{level: level, message: message, fields: fields, format: format, args: args, pc: callerPC(1)}
	c.fx.logs = append(c.fx.logs, line)
}

// send lets a packet go out.
func (c *common) send(p outPacket) { c.fx.packets = append(c.fx.packets, p) }

// openStream lets an exchange on a stream begin.
func (c *common) openStream(t streamTask) { c.fx.streams = append(c.fx.streams, t) }

// withinPeriod is a random moment of the period that begins now.
func (c *common) withinPeriod(now instant, d time.Duration) instant {
	return now.add(time.Duration(c.rng.Int64N(int64(d)) + 1))
}

// answerTime is how long the answer to a ping may take where somebody waits for it:
// ProbeTimeout, or without one, when probes ask relays at once, half a second.
func (c *common) answerTime() time.Duration {
	if c.cfg.ProbeTimeout > 0 {
		return c.cfg.ProbeTimeout
	}
	return 500 * time.Millisecond
}

// choose picks up to k different records at random among those that fit (P71).
func (c *common) choose(k int, fits func(*member) bool) []*member {
	order := c.table.order
	if k <= 0 || len(order) == 0 {
		return nil
	}
	k = min(k, len(order))
	chosen := make([]*member, 0, k)
	if len(order) < 3*k {
		for _, i := range c.rng.Perm(len(order)) {
			if len(chosen) < k && fits(order[i]) {
				chosen = append(chosen, order[i])
			}
		}
		return chosen
	}
	for range 3 * len(order) {
		m := order[c.rng.IntN(len(order))]
		if !fits(m) || slices.Contains(chosen, m) {
			continue
		}
		if chosen = append(chosen, m); len(chosen) == k {
			break
		}
	}
	return chosen
}

// syncsWith reports whether m is a partner for push/pull (P115).
func (c *common) syncsWith(m *member) bool {
	return c.isPeer(m)
}

// filter is the records that fit, in their random order.
func (c *common) filter(fits func(*member) bool) []*member {
	var list []*member
	for _, m := range c.table.order {
		if fits(m) {
			list = append(list, m)
		}
	}
	return list
}

// isPeer reports whether m is another node in good standing.
func (c *common) isPeer(m *member) bool { return m.state() == StateAlive && m != c.self }

// hasLeft reports whether this node has left: Leave was called and Join not since, or it
// was refused when it was made.
func (c *common) hasLeft() bool { return c.self != nil && c.self.gone() }

// departureMessage is the dead message of this node about itself.
func (c *common) departureMessage() []byte {
	name := borrow(c.self.node.Name)
	d := dead{Incarnation: c.self.incarnation, Node: name, From: name}
	return d.appendTo(nil)
}
