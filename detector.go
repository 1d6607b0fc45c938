package memberlist

import "time"

// detector is the failure detector: SWIM's probes and suspicions with the extensions of
// Lifeguard, and what this library adds to them. Its parts are made here, each with what
// it needs.
type detector struct {
	*common
	health      awareness
	pings       pings
	relays      relays
	indirect    indirectPings
	selfCheck   selfCheck
	probing     prober
	accusers    accusers
	suspicions  suspicions
	finalProber finalProber
	addresses   addressChecks
	resync      resync
	stall       stallGuard
}

// detectorRules are the rules of membership that the detector gives its conclusions to.
type detectorRules interface {
	suspicionRules
	addressRules
	// clearSuspicion takes in that a suspect answered its final probe.
	clearSuspicion(now instant, m *member)
	// reap forgets members that have been gone for long.
	reap(now instant)
	// hasLeft reports whether this node has left.
	hasLeft() bool
	// isLost reports whether a node of that name died here.
	isLost(name borrowed) bool
}

func (d *detector) init(c *common, rules detectorRules) {
	d.common = c
	d.health = newAwareness(c.cfg.AwarenessMaxMultiplier, &c.fx.metrics)
	d.pings = newPings(c, d.answerReceived)
	d.relays = newRelays(c, &d.pings)
	d.indirect = newIndirectPings(c, &d.selfCheck.packets, d.underProbe)
	d.selfCheck = newSelfCheck(c, &d.pings, &d.indirect, d.suspicions.raise)
	d.probing = newProber(c, &d.pings, &d.indirect, &d.selfCheck, &d.health, rules.reap)
	d.accusers = newAccusers(c, rules.isLost)
	d.finalProber = newFinalProber(c, &d.pings, &d.indirect, &d.selfCheck, rules.clearSuspicion)
	d.suspicions = newSuspicions(c, &d.finalProber, rules)
	d.addresses = newAddressChecks(c, &d.pings, &d.indirect, rules)
	d.resync = newResync(c, rules.hasLeft)
	d.stall = newStallGuard(c, &d.health, d.stalled)
}

// underProbe reports whether m is silent so far and this node will have to judge that.
func (d *detector) underProbe(m *member) bool {
	return d.selfCheck.awaits(m) || d.probing.probes(m)
}

// answerReceived takes in that a peer answered something sent at the given time. nil
// is a relay. It may be what a self-check waits for, and the end of a time in which this
// node was cut off.
func (d *detector) answerReceived(now instant, peer *member, sent instant) {
	if peer != nil {
		peer.detectorState().lastAck = max(now, 1)
	}
	if silence := d.selfCheck.answered(now, peer, sent); silence > isolatedAfter(d.cfg) {
		d.resync.begin(now, peer)
	}
}

// streamAnswerReceived takes in that a member answered on a stream something that was sent
// there at the given time or later: a ping, or a full exchange.
func (d *detector) streamAnswerReceived(now instant, n *Node, sent instant, exchanged bool) {
	peer := d.memberAt(n)
	if peer == nil {
		return
	}
	peer.detectorState().lastAck = max(now, 1)
	silence := d.selfCheck.streamAnswered(now, peer, sent)
	switch {
	case silence <= isolatedAfter(d.cfg):
	case exchanged:
		d.resync.continueLater(now, peer)
	default:
		d.resync.begin(now, peer)
	}
}

// memberAt is the record of a node, if it still lives at that address.
func (d *detector) memberAt(n *Node) *member {
	m := d.table.get(n.Name)
	if m == nil || !m.node.at(n.Addr, n.Port) {
		return nil
	}
	return m
}

// abandonProbe ends a probe of m without a verdict, and drops a failed one that waits for
// the self-check: m has moved, and its silence was that of another process.
func (d *detector) abandonProbe(now instant, m *member) {
	d.selfCheck.abandon(m)
	d.probing.abandon(now, m)
}

// stalled gives time back after a stall.
func (d *detector) stalled(now instant, late, back time.Duration) {
	d.selfCheck.stalled(late) // nobody listened meanwhile
	d.suspicions.stalled(now, back)
	d.probing.stalled(now, back)
	if late > isolatedAfter(d.cfg) {
		d.resync.begin(now, nil)
	}
}
