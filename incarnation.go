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

// identity is what this node says of itself: its incarnation, and how fast it refutes
// what others say.
type identity struct {
	*common
	gossip *dissemination
	health *awareness

	incarnation    uint32  // the highest that this node has used or was accused with
	lastRefutation instant // last time it was queued
	nextLeap       instant // the next advance by more than one may not come before
}

func newIdentity(c *common, gossip *dissemination, health *awareness) identity {
	return identity{common: c, gossip: gossip, health: health}
}

// next takes the incarnation for an announcement. After a departure it is above all that
// was said about this node.
func (i *identity) next() uint32 {
	if i.hasLeft() {
		i.incarnation = max(i.incarnation, i.self.incarnation)
	}
	i.incarnation = nextIncarnation(i.incarnation)
	return i.incarnation
}

// broadcastSelf queues an alive message about this node under the given name.
func (i *identity) broadcastSelf(name string, done func()) {
	n := i.self.node
	versions := n.versions()
	a := alive{
		Incarnation: i.self.incarnation, Node: borrow(n.Name), Addr: n.Addr, Port: n.Port,
		Meta: n.Meta, Vsn: versions[:],
	}
	i.gossip.broadcast(name, a.appendTo(nil), done)
}

// refuteAccusation refutes what is said about this node, unless it is on its way out or
// the accusation is out of date (P106, P111).
func (i *identity) refuteAccusation(now instant, incarnation uint32, from borrowed, kind messageType) {
	if i.hasLeft() {
		i.noteUsed(incarnation)
		return
	}
	if !i.mayRefute(now, incarnation) {
		return
	}
	accuser := from.own()
	i.logf(levelWarn, "Refuting an accusation",
		logFields{node: i.self.node.Name, incarnation: incarnation, more: []logAttr{{"kind", kind.String()}, {"from", accuser}}},
		"Refuting a %s message (from: %s)", kind, accuser)
	i.refute(now, incarnation)
}

// refute overrules what was said about this node with the given incarnation
// (P113). It is bad news about this node's health: others could not hear us.
func (i *identity) refute(now instant, accusation uint32) {
	i.health.adjust(+1)
	i.incarnation = nextIncarnation(max(i.incarnation, accusation))
	i.self.incarnation = i.incarnation
	i.lastRefutation = now
	i.broadcastSelf(i.self.node.Addr.String(), nil)
}

// rebroadcastRefutation repeats this node's refutation for somebody who has missed it, at most once
// in a probe interval: an accusation of this node that is out of date says that.
func (i *identity) rebroadcastRefutation(now instant, accused *member) {
	if accused != i.self || i.hasLeft() || now.sub(i.lastRefutation) < i.cfg.ProbeInterval {
		return
	}
	i.lastRefutation = now
	i.broadcastSelf(i.self.node.Addr.String(), nil)
}

// ignoreFar drops an accusation that is no evidence. If it is about this node, it
// says what is true (P159).
func (i *identity) ignoreFar(now instant, m *member, incarnation uint32) {
	i.logf(levelWarn, "Ignoring an accusation that is no evidence", logFields{node: m.node.Name, incarnation: incarnation},
		"Ignoring an accusation of %s with incarnation %d, which is too far from %d", m.node.Name, incarnation, m.incarnation)
	i.rebroadcastRefutation(now, m)
}

// pauseAfterLeap is the time between two refutations that advance this node's incarnation
// by maxAdvance: some rounds of gossip. The others have to hear of the first one, or
// the second one would be too far for them (P161).
func (i *identity) pauseAfterLeap() time.Duration { return times(i.cfg.GossipInterval, 20) }

// mayRefute reports whether this node refutes what is said about it with the given
// incarnation, which is not older than its own: not if it is too far away, nor while
// an advance is too fast for the others to follow. Those who hold it against this
// node are reminded, and will say so again (P161).
func (i *identity) mayRefute(now instant, incarnation uint32) bool {
	switch {
	case far(incarnation, i.incarnation):
		i.ignoreFar(now, i.self, incarnation)
		return false
	case incarnation <= i.incarnation:
		return true
	case now < i.nextLeap:
		i.rebroadcastRefutation(now, i.self)
		return false
	}
	part := float64(incarnation-i.incarnation) / maxAdvance
	i.nextLeap = now.add(time.Duration(part * float64(i.pauseAfterLeap())))
	return true
}

// noteUsed takes in, on the way out, with which incarnation this node was spoken of,
// so that it comes back above it (P25).
func (i *identity) noteUsed(incarnation uint32) {
	if !far(incarnation, i.incarnation) {
		i.incarnation = max(i.incarnation, incarnation)
	}
}

// catchUp continues where the previous life of this node ended, if that was so far
// up that the others could not compare the two (P162).
func (i *identity) catchUp(incarnation uint32) {
	if incarnation > i.incarnation && far(incarnation, i.incarnation) && refutable(incarnation) {
		i.incarnation, i.self.incarnation = incarnation, incarnation
	}
}
