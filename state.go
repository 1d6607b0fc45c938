package memberlist

import "slices"

// announceSelf makes this node a member of its own table, or announces a new
// address or meta of it (P12, P27). done, if not nil, is called when the
// announcement has been sent often enough or was replaced. After Leave it takes that back,
// with an incarnation above all that was said about this node.
func (c *core) announceSelf(now instant, ip []byte, port uint16, meta []byte, done func()) {
	c.departures.running = nil
	incarnation := c.identity.next()
	versions := c.cfg.BuildVsnArray()
	n := newNode(c.cfg.Name, ip, port, meta, versions, StateAlive)
	if c.self == nil {
		c.self = c.addMember(now, n, incarnation)
	} else {
		c.markAlive(now, c.self, n, incarnation, c.cfg.Name)
	}
	c.fx.metrics.alive++
	c.identity.broadcastSelf(n.Name, done)
}

// startAsLeft makes this node's record without becoming a member: admission refused
// this node (P14).
func (c *core) startAsLeft(now instant, ip []byte, port uint16, meta []byte) {
	n := newNode(c.cfg.Name, ip, port, meta, c.cfg.BuildVsnArray(), StateLeft)
	c.self = c.addRecord(now, n)
}

// alive applies an alive message from the network. raw is the message as it
// came in if that is how it is to be gossiped on, else nil. The checks of P90,
// P93 and P94 have been passed.
func (c *core) alive(now instant, a *alive, raw []byte) {
	c.aliveAbout(now, c.table.find(a.Node), a, raw)
}

// aliveAbout is alive for a message about m, nil if it is about a stranger.
func (c *core) aliveAbout(now instant, m *member, a *alive, raw []byte) {
	switch {
	case c.self == nil: // not introduced yet: no member of anything
	case m == c.self:
		c.aliveSelf(now, a)
	case m == nil:
		c.aliveStranger(now, a, raw)
	case !m.node.at(a.Addr, a.Port):
		c.aliveElsewhere(now, m, a, raw)
	case !m.yieldsTo(a.Incarnation): // P97
		c.gossip.doubt(m, a.Incarnation)
		c.notifyAccused(now, m)
	case m.state() == StateAlive && m.node.says(a):
		c.acceptIncarnation(m, a, raw)
	default:
		c.acceptAlive(now, m, newNode(m.node.Name, a.Addr, a.Port, a.Meta, a.Vsn, StateAlive), a, raw)
	}
}

// aliveSelf handles what others say about this node: an echo is ignored,
// anything else that is not older has to be overruled (P92, P96, P98, P100).
func (c *core) aliveSelf(now instant, a *alive) {
	n := c.self.node
	switch {
	case c.hasLeft():
		c.identity.noteUsed(a.Incarnation)
	case !n.at(a.Addr, a.Port):
		c.aliveElsewhere(now, c.self, a, nil)
	case a.Incarnation < c.self.incarnation:
	case a.Incarnation == c.self.incarnation && n.sameContent(a.Meta, a.Vsn):
	case !c.identity.mayRefute(now, a.Incarnation):
	default:
		c.logf(levelWarn, "Refuting an alive message",
			logFields{node: n.Name, addr: joinHostPort(a.Addr, a.Port), incarnation: a.Incarnation},
			"Refuting an alive message for '%s' (%s) meta:(%q VS %q), vsn:(%v VS %v)",
			n.Name, joinHostPort(a.Addr, a.Port), slices.Clone(a.Meta), n.Meta, slices.Clone(a.Vsn), n.versions())
		c.fx.metrics.alive++
		c.identity.refute(now, a.Incarnation)
	}
}

// aliveStranger admits a node that is not in the table (P95), unless something
// newer was said about it before it was known.
func (c *core) aliveStranger(now instant, a *alive, raw []byte) {
	if a.Incarnation == 0 {
		return
	}
	n := nodeFrom(a.Node, a.Addr, a.Port, a.Meta, a.Vsn, StateAlive)
	prior, accused := c.verdicts.prior(now, n.Name, a.Incarnation)
	if accused && prior.state != StateSuspect {
		c.notifyAccused(now, c.addFromVerdict(now, n, prior))
		return
	}
	c.gossip.gossipAlive(n.Name, a, raw)
	c.addMember(now, n, a.Incarnation)
	if accused {
		c.suspect(now, &suspect{Incarnation: prior.incarnation, Node: borrow(n.Name), From: borrow(prior.from)}, nil)
	}
}

// addRecord adds a record to the table. It is sent gossip in its turn.
func (c *core) addRecord(since instant, n *Node) *member {
	m := c.table.add(c.rng, n, since)
	c.gossip.turns.add(c.rng, m)
	return m
}

// addFromVerdict makes a record of n, which is held to be gone. The record is as old as what
// it is made from, and so is the tombstone that comes after it: however often they
// are made from each other, neither outlives its time (P165).
func (c *core) addFromVerdict(now instant, n *Node, said verdict) *member {
	m := c.addRecord(said.at, n.withState(said.state))
	m.incarnation = said.incarnation
	file := m.detectorState()
	file.knownSince = max(now, 1)
	file.hasAnswered = said.hasAnswered
	if said.tombstone {
		file.reaped = max(said.at, 1)
	}
	return m
}

// aliveElsewhere handles a known name at another address: the node has moved if
// it left, or died long enough ago; else two nodes claim one name (P96). With the
// address check, both are found out, and a free name goes to news at once, but to old
// words only if they prove true.
func (c *core) aliveElsewhere(now instant, m *member, a *alive, raw []byte) {
	unchecked := c.cfg.detector.noAddressCheck
	switch free := c.addresses.nameIsFree(now, m); {
	case free && (unchecked || a.Incarnation > m.incarnation):
		c.changeAddress(now, m, a, raw)
	case unchecked:
		c.conflict(m, a)
	default:
		c.addresses.check(now, m, a)
	}
}

// changeAddress takes over the new address of a known node. It is another process now: one that
// was a member is gone first, and nothing that is remembered of it holds for the new
// one (P180).
func (c *core) changeAddress(now instant, m *member, a *alive, raw []byte) {
	former := m.incarnation
	if !m.gone() {
		c.markGone(now, m, m.incarnation, StateDead, c.cfg.Name)
	}
	*m.detectorState() = detectorState{knownSince: m.detectorView().knownSince, address: &addressHistory{movedAt: max(now, 1), formerIncarnation: former}}
	c.logf(levelInfo, "Updating the address of a node that left or failed",
		logFields{node: m.node.Name, addr: joinHostPort(a.Addr, a.Port), more: []logAttr{{"old", m.node.Address()}}},
		"Updating address for left or failed node %s from %s to %s",
		m.node.Name, m.node.Address(), joinHostPort(a.Addr, a.Port))
	c.acceptAlive(now, m, newNode(m.node.Name, a.Addr, a.Port, a.Meta, a.Vsn, StateAlive), a, raw)
	c.abandonProbe(now, m)
}

// conflict reports that somebody else claims the name of m (P96).
func (c *core) conflict(m *member, a *alive) {
	theirs := joinHostPort(a.Addr, a.Port)
	c.logf(levelError, "Conflicting address",
		logFields{node: m.node.Name, addr: theirs, more: []logAttr{{"old", m.node.Address()}}},
		"Conflicting address for %s. Mine: %s Theirs: %s Old state: %d",
		m.node.Name, m.node.Address(), theirs, int(m.state()))
	other := nodeFrom(a.Node, a.Addr, a.Port, a.Meta, nil, StateAlive)
	c.fx.events = append(c.fx.events, event{kind: eventConflict, node: m.node, other: other})
}

// acceptAlive takes over what an alive message says, n (P101).
func (c *core) acceptAlive(now instant, m *member, n *Node, a *alive, raw []byte) {
	if len(a.Vsn) < 6 {
		versions := m.node.versions()
		n.setVersions(versions[:])
	}
	c.gossip.gossipAlive(n.Name, a, raw)
	c.markAlive(now, m, n, a.Incarnation, n.Name)
}

// acceptIncarnation is acceptAlive for what most news are: the node is as it was, and
// only its incarnation has moved on. Its Node does not show that and stays.
func (c *core) acceptIncarnation(m *member, a *alive, raw []byte) {
	c.gossip.gossipAlive(m.node.Name, a, raw)
	m.incarnation = a.Incarnation
}

// addMember makes a member of a node that was unknown, and tells so (P102).
func (c *core) addMember(now instant, n *Node, incarnation uint32) *member {
	m := c.addRecord(now, n)
	m.incarnation = incarnation
	c.healing.nodeReturned(now, m)
	c.emit(eventJoin, Change{
		Node: n, From: StateDead, To: StateAlive, New: true, By: n.Name, Incarnation: incarnation,
	})
	return m
}

// markAlive makes m alive as n says, which ends a suspicion (P99), and tells what that
// changed (P102).
func (c *core) markAlive(now instant, m *member, n *Node, incarnation uint32, by string) {
	before, suspected, old := m.state(), m.suspicion(), m.node
	change := c.change(now, m, StateAlive, by)
	c.suspicions.close(m)
	c.healing.nodeReturned(now, m)
	if before != StateAlive {
		m.detectorState().returnedAt = max(now, 1)
	}
	m.incarnation = incarnation
	c.table.setNode(m, n, now)
	change.Node, change.Incarnation = n, incarnation
	kind := eventNone
	switch {
	case before == StateDead || before == StateLeft:
		kind = eventJoin
	case string(old.Meta) != string(n.Meta):
		kind = eventUpdate
	case suspected == nil:
		return
	}
	c.emit(kind, change)
}

// change begins the description of a transition of m.
func (c *core) change(now instant, m *member, to NodeStateType, by string) Change {
	change := Change{Node: m.node, From: m.state(), To: to, By: by, Incarnation: m.incarnation}
	if s := m.suspicion(); s != nil {
		change.Confirmations = s.confirmations()
		change.SuspectFor = now.sub(s.start)
	}
	return change
}

// suspect applies a suspect message. raw is as in alive.
func (c *core) suspect(now instant, s *suspect, raw []byte) {
	m := c.table.find(s.Node)
	switch {
	case m == nil: // P103
		c.verdicts.record(now, s.Node, s.From, verdict{
			incarnation: s.Incarnation, state: StateSuspect, hasAnswered: c.healing.lost.hasAnswered(s.Node),
		})
	case s.Incarnation < m.incarnation: // P103
		c.identity.rebroadcastRefutation(now, m)
	case !m.mayBeAccused(s.Incarnation):
		c.identity.ignoreFar(now, m, s.Incarnation)
	case m == c.self:
		c.identity.refuteAccusation(now, s.Incarnation, s.From, suspectMsg)
	case c.accusers.untrusted(now, s.From, m), c.addresses.aboutFormerProcess(now, m, s.Incarnation):
		c.accusers.forward(now, m, s.appendTo(nil))
	case m.suspicion() != nil:
		c.confirm(now, m, s, raw)
	case c.suspicions.recentlyCleared(now, m, s.Incarnation):
	case m.state() == StateAlive || s.Incarnation > m.incarnation: // P105
		// An accusation with a newer incarnation than that of a dead node proves
		// that the node was back in between.
		c.beginSuspicion(now, m, s, raw)
	}
}

// confirm counts a further accuser of a suspect (P63, P64, P104). A newer
// incarnation is remembered: what is older than any accusation stays overruled,
// in whatever order the messages arrive.
func (c *core) confirm(now instant, m *member, s *suspect, raw []byte) {
	m.incarnation = max(m.incarnation, s.Incarnation)
	if c.suspicions.confirm(now, m, s.From) {
		c.gossip.gossipMessage(m.node.Name, raw, s)
	}
}

// beginSuspicion makes m a suspect and gossips that on (P107).
func (c *core) beginSuspicion(now instant, m *member, s *suspect, raw []byte) {
	c.gossip.gossipMessage(m.node.Name, raw, s)
	c.fx.metrics.suspect++
	c.startSuspicion(now, m, s)
}

// startSuspicion makes m a suspect with a deadline.
func (c *core) startSuspicion(now instant, m *member, s *suspect) {
	from := s.From.own()
	change := c.change(now, m, StateSuspect, from)
	change.Incarnation = s.Incarnation
	kind := eventNone
	if m.gone() {
		kind = eventJoin
	}
	m.incarnation = s.Incarnation
	c.suspicions.open(now, m, from)
	c.table.setNode(m, m.node.withState(StateSuspect), now)
	change.Node = m.node
	c.emit(kind, change)
}

// dead applies a dead message, which is a departure if it comes from the node
// itself (W13). raw is as in alive.
func (c *core) dead(now instant, d *dead, raw []byte) {
	state := StateDead
	if d.From == d.Node {
		state = StateLeft
	}
	m := c.table.find(d.Node)
	switch {
	case m == nil: // P108
		if state == StateLeft {
			c.healing.lost.left(d.Node, d.Incarnation)
		}
		c.verdicts.record(now, d.Node, d.From, verdict{
			incarnation: d.Incarnation, state: state, hasAnswered: c.healing.lost.hasAnswered(d.Node),
		})
	case d.Incarnation < m.incarnation: // P108
		c.identity.rebroadcastRefutation(now, m)
	case !m.mayBeAccused(d.Incarnation):
		c.identity.ignoreFar(now, m, d.Incarnation)
	case m.gone():
		c.updateGone(now, m, d.Incarnation, state)
	case m == c.self:
		c.identity.refuteAccusation(now, d.Incarnation, d.From, deadMsg)
	case state == StateDead && c.accusers.untrusted(now, d.From, m), c.addresses.aboutFormerProcess(now, m, d.Incarnation):
		c.accusers.forward(now, m, d.appendTo(nil))
	case state == StateDead && c.accusers.recentlyJoined(now, d.From):
		c.suspect(now, (*suspect)(d), nil)
	default:
		c.gossip.gossipMessage(m.node.Name, raw, d)
		c.markGone(now, m, d.Incarnation, state, d.From.own())
	}
}

// updateGone records a further word about a node that is gone: no event, and not
// gossiped on (P110), but the newest word counts from now on, and at the same
// incarnation a departure weighs more than a death, so that the order of arrival
// does not matter.
func (c *core) updateGone(now instant, m *member, incarnation uint32, state NodeStateType) {
	if state == StateLeft {
		c.healing.lost.remove(m.node.Name)
	}
	if state != m.state() && (state == StateLeft || incarnation > m.incarnation) {
		since := m.since
		c.table.setNode(m, m.node.withState(state), now)
		m.since = since
	}
	m.incarnation = incarnation
}

// markGone makes a member dead or left and tells so (P109, P112).
func (c *core) markGone(now instant, m *member, incarnation uint32, state NodeStateType, by string) {
	c.fx.metrics.dead++
	change := c.change(now, m, state, by)
	c.suspicions.close(m)
	m.incarnation = incarnation
	c.table.setNode(m, m.node.withState(state), now)
	if m.detector != nil {
		m.detector.reaped = 0
	}
	if state == StateDead {
		c.healing.trackLost(now, m)
	}
	change.Node, change.Incarnation = m.node, incarnation
	c.emit(eventLeave, change)
	c.departures.hurry(now)
}

// notifyAccused sends what is recorded against m to m itself, so that it can
// refute. This happens when it, or somebody in its name, says that it is alive
// with an incarnation that the accusation beats: after a restart it counts from
// 1 again and does not know what was said about its previous life (P15, P166).
func (c *core) notifyAccused(now instant, m *member) {
	if m.state() == StateAlive {
		return
	}
	from := c.cfg.Name
	if m.state() == StateLeft {
		from = m.node.Name
	}
	d := dead{Incarnation: m.incarnation, Node: borrow(m.node.Name), From: borrow(from)}
	msg := d.appendTo(nil)
	if m.state() == StateSuspect {
		s := suspect(d)
		msg = s.appendTo(nil)
	}
	c.accusers.forward(now, m, msg)
}

// merge applies the node list of a push/pull (P114). Admission has been passed
// by the entries that are alive. A death is never believed second-hand, only
// suspected, in this node's name; a departure is believed.
func (c *core) merge(now instant, states []pushNodeState) {
	c.reserveMembers(states)
	var a alive // one for all of them: it moves to the heap
	for i := range states {
		s := &states[i]
		switch s.State {
		case StateAlive:
			m := c.table.find(s.Name)
			if m != nil && c.knowsAlive(m, s) {
				c.gossip.doubt(m, s.Incarnation)
				continue
			}
			a = s.alive()
			c.aliveAbout(now, m, &a, nil)
			c.pingForRefutation(now, c.table.find(s.Name))
		case StateLeft:
			if c.table.find(s.Name) == nil {
				c.healing.lost.left(s.Name, s.Incarnation)
				continue
			}
			c.dead(now, &dead{Incarnation: s.Incarnation, Node: s.Name, From: s.Name}, nil)
		case StateDead, StateSuspect:
			c.mergeAccused(now, s)
		}
	}
	c.table.trim()
}

// mergeAnswer applies the node list of an exchange that this node began. asked is the
// name of the partner, if it is known; seed tells that the user chose it.
func (c *core) mergeAnswer(now instant, asked string, seed bool, states []pushNodeState) {
	for i := range states {
		s := &states[i]
		switch {
		case s.State != StateAlive || c.self == nil:
		case seed && s.Name.is(c.self.node.Name):
			c.identity.catchUp(s.Incarnation)
		case asked != "" && s.Name.is(asked):
			c.correct(now, s)
		}
	}
	c.merge(now, states)
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

// pingForRefutation pings a node that a partner holds for alive, and this node for gone, after
// it was told so: the refutation rides on its ack. So both sides of a healed partition know
// each other after a round trip, where gossip would miss some. The ack itself counts for
// nothing (P183).
func (c *core) pingForRefutation(now instant, m *member) {
	if m == nil || !m.gone() || m.detectorView().lastNotified != now {
		return
	}
	c.send(outPacket{
		to: toNode(m.node), msg: c.pingMessage(c.rng.Uint32(), m.node.Name), urgent: urgentProbe,
	})
}

// knowsAlive reports whether an entry that is alive says nothing new about m (P97):
// in a cluster at rest all do.
func (c *core) knowsAlive(m *member, s *pushNodeState) bool {
	return s.Incarnation <= m.incarnation && m.state() == StateAlive && m != c.self && m.node.at(s.Addr, s.Port)
}

// reserveMembers makes room at once if a list brings many nodes more than are known.
func (c *core) reserveMembers(states []pushNodeState) {
	const many = 64
	others := len(c.table.order) - 1 // the list of a stranger does not have this node
	more := -others
	if len(states)+more < many {
		return
	}
	for i := range states {
		if states[i].State == StateAlive {
			more++
		}
	}
	if more < many {
		return
	}
	c.table.reserve(more)
	if !c.noEvents {
		c.fx.events = slices.Grow(c.fx.events, more)
	}
}

// mergeAccused applies a suspect or dead entry of a push/pull. That a node is
// dead is no reason to suspect one that we hold for gone as well.
func (c *core) mergeAccused(now instant, s *pushNodeState) {
	m := c.table.find(s.Name)
	switch {
	case m == nil && s.State == StateSuspect:
		c.mergeSuspectStranger(now, s)
	case m == nil:
	case c.accusedElsewhere(m, s):
		c.mergeElsewhere(now, m, s)
	case m.gone() && s.State == StateDead:
		c.dead(now, &dead{Incarnation: s.Incarnation, Node: s.Name, From: borrow(c.cfg.Name)}, nil)
	default:
		said := suspect{Incarnation: s.Incarnation, Node: s.Name, From: borrow(c.cfg.Name)}
		c.suspect(now, &said, nil)
		if s.Incarnation >= m.incarnation && m.mayBeAccused(s.Incarnation) {
			c.accusers.forward(now, m, said.appendTo(nil))
		}
	}
}

// mergeSuspectStranger takes a suspect entry about a node that is not in the table for
// what it says: it is a member, and suspect. The others know that, so it is not gossiped
// on.
func (c *core) mergeSuspectStranger(now instant, s *pushNodeState) {
	if c.self == nil || s.Incarnation == 0 {
		return
	}
	n := nodeFrom(s.Name, s.Addr, s.Port, s.Meta, s.Vsn, StateAlive)
	if said, accused := c.verdicts.prior(now, n.Name, s.Incarnation); accused && said.state != StateSuspect {
		c.addFromVerdict(now, n, said)
		return
	}
	m := c.addMember(now, n, s.Incarnation)
	c.startSuspicion(now, m, &suspect{Incarnation: s.Incarnation, Node: borrow(n.Name), From: borrow(c.cfg.Name)})
}

// accusedElsewhere reports whether an entry accuses a node of m's name at another
// address, so that it says nothing about the one that is known.
func (c *core) accusedElsewhere(m *member, s *pushNodeState) bool {
	return m != c.self && !m.gone() && !m.node.at(s.Addr, s.Port) && !c.cfg.detector.noAddressCheck
}

// mergeElsewhere takes such an entry for the word that the node is there if it is a
// suspect. A dead one is not; but what is said of it may be held against the known one.
func (c *core) mergeElsewhere(now instant, m *member, s *pushNodeState) {
	if s.State == StateSuspect {
		a := s.alive()
		c.addresses.check(now, m, &a)
		return
	}
	if s.Incarnation >= m.incarnation {
		said := suspect{Incarnation: s.Incarnation, Node: s.Name, From: borrow(c.cfg.Name)}
		c.accusers.forward(now, m, said.appendTo(nil))
	}
}

// reap forgets nodes that have been gone for long, and shuffles the rest (P46).
// This node's record stays, even after Leave (P26).
func (c *core) reap(now instant) {
	for i := len(c.table.order) - 1; i >= 0; i-- {
		m := c.table.order[i]
		if m == c.self || !m.gone() || now.sub(m.since) <= c.cfg.GossipToTheDeadTime {
			continue
		}
		c.verdicts.bury(now, m)
		c.table.remove(i)
	}
	c.table.shuffle(c.rng)
	c.gossip.reaped()
}

// clearSuspicion makes a suspect that answered its final probe alive again, here. No
// incarnation has changed: it is up to the member to refute what others say (P173).
func (c *core) clearSuspicion(now instant, m *member) {
	if m.suspicion() == nil {
		return
	}
	change := c.change(now, m, StateAlive, c.cfg.Name)
	c.suspicions.close(m)
	m.detectorState().clearedAt = max(now, 1)
	c.table.setNode(m, m.node.withState(StateAlive), now)
	change.Node = m.node
	c.emit(eventNone, change)
}

// refuteStale refutes news about an earlier process of this node, if they are newer than
// its own.
func (c *core) refuteStale(now instant, incarnation uint32) {
	if !c.hasLeft() && incarnation >= c.self.incarnation && c.identity.mayRefute(now, incarnation) {
		c.identity.refute(now, incarnation)
	}
}
