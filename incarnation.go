package memberlist

import (
	"math"
	"time"
)

// Incarnations order what is said about a node, and anybody who can send a message
// can make one up. Three rules keep a made-up incarnation from doing harm that lasts.
//
// An incarnation counts only if it is near the recorded one, within maxAdvance. An
// accusation far above the record is no evidence, and neither is a word that a member
// in good standing is alive. So one message cannot use up the range.
//
// What a node is accused of never stands against an incarnation far away. A node
// counts from 1 after a restart and when the range is used up; if the accusation is
// out of its reach, its word is taken as the beginning of a new life. So there is no
// accusation that cannot be refuted, however many small steps led to it: either its
// incarnation is near, and the node goes above it, or it is far, and does not count.
// The exception is an accused record only: between two members in good standing
// nothing is at stake, and if both words could replace each other they would do so
// in turns.
//
// What a node itself says in a full exchange that was begun with it is believed,
// whatever its incarnation. That corrects a record that made-up words have led away.

const (
	// maxAdvance is how far two incarnations may be apart to be compared. A node that
	// is updated once a second for twelve days comes as far.
	maxAdvance = 1 << 20

	// lastIncarnation is the highest that a node gives itself; 1 comes after it. The
	// number above it is none that a node of the reference can refute.
	lastIncarnation = math.MaxUint32 - 1
)

// far reports whether two incarnations are too far apart to be compared.
func far(a, b uint32) bool { return max(a, b)-min(a, b) > maxAdvance }

// nextIncarnation is the one above i (P158).
func nextIncarnation(i uint32) uint32 {
	if i >= lastIncarnation {
		return 1
	}
	return i + 1
}

// refutable reports whether an accusation of a stranger is evidence (P159).
func refutable(accusation uint32) bool { return accusation <= lastIncarnation }

// yieldsTo reports whether a word that m is alive takes effect (P160).
func (m *member) yieldsTo(incarnation uint32) bool {
	if far(incarnation, m.incarnation) {
		return m.state() != StateAlive
	}
	return incarnation > m.incarnation
}

// mayBeAccused reports whether an accusation that is not older than the record of m
// is evidence. One with the recorded incarnation always is, or the death of a node
// with the highest could not be told (P159).
func (m *member) mayBeAccused(incarnation uint32) bool {
	if incarnation == m.incarnation {
		return true
	}
	return refutable(incarnation) && !far(incarnation, m.incarnation)
}

// ignoreFar drops an accusation that is no evidence. If it is about this node, it
// says what is true (P159).
func (c *core) ignoreFar(now instant, m *member, incarnation uint32) {
	c.logf(levelWarn, "Ignoring an accusation that is no evidence", logFields{node: m.node.Name, incarnation: incarnation},
		"Ignoring an accusation of %s with incarnation %d, which is too far from %d", m.node.Name, incarnation, m.incarnation)
	c.rebroadcastRefutation(now, m)
}

// pauseAfterLeap is the time between two refutations that advance the own incarnation
// by maxAdvance: some rounds of gossip. The others have to hear of the first one, or
// the second one would be too far for them (P161).
func (c *core) pauseAfterLeap() time.Duration { return times(c.cfg.GossipInterval, 20) }

// mayRefute reports whether this node refutes what is said about it with the given
// incarnation, which is not older than its own: not if it is too far away, nor while
// an advance is too fast for the others to follow. Those who hold it against this
// node are reminded, and will say so again (P161).
func (c *core) mayRefute(now instant, incarnation uint32) bool {
	switch {
	case far(incarnation, c.incarnation):
		c.ignoreFar(now, c.self, incarnation)
		return false
	case incarnation <= c.incarnation:
		return true
	case now < c.nextLeap:
		c.rebroadcastRefutation(now, c.self)
		return false
	}
	part := float64(incarnation-c.incarnation) / maxAdvance
	c.nextLeap = now.add(time.Duration(part * float64(c.pauseAfterLeap())))
	return true
}

// noteUsed takes in, on the way out, with which incarnation this node was spoken of,
// so that it comes back above it (P25).
func (c *core) noteUsed(incarnation uint32) {
	if !far(incarnation, c.incarnation) {
		c.incarnation = max(c.incarnation, incarnation)
	}
}

// mergeAnswer applies the node list of an exchange that this node began. asked is the
// name of the partner, if it is known; seed tells that the user chose it.
func (c *core) mergeAnswer(now instant, asked string, seed bool, states []pushNodeState) {
	for i := range states {
		s := &states[i]
		switch {
		case s.State != StateAlive || c.self == nil:
		case seed && s.Name.is(c.self.node.Name):
			c.catchUp(s.Incarnation)
		case asked != "" && s.Name.is(asked):
			c.correct(now, s)
		}
	}
	c.merge(now, states)
}

// catchUp continues where the previous life of this node ended, if that was so far
// up that the others could not compare the two (P162).
func (c *core) catchUp(incarnation uint32) {
	if incarnation > c.incarnation && far(incarnation, c.incarnation) && refutable(incarnation) {
		c.incarnation, c.self.incarnation = incarnation, incarnation
	}
}

// correct takes over what a member says about itself in a full exchange, if the
// record is too far away from it. It is not gossiped on: the others cannot compare
// the two either (P162).
func (c *core) correct(now instant, s *pushNodeState) {
	m := c.table.find(s.Name)
	if m == nil || m == c.self || !m.node.at(s.Addr, s.Port) || !far(s.Incarnation, m.incarnation) {
		return
	}
	n := newNode(m.node.Name, s.Addr, s.Port, s.Meta, s.Vsn, StateAlive)
	c.markAlive(now, m, n, s.Incarnation, n.Name)
}
