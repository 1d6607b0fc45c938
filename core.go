package memberlist

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// core is the protocol: the member table, the rules by which messages change it
// (SWIM §4, Lifeguard §IV), and the deadlines. It has no clock, socket,
// goroutine or log; it is given the time with each call and leaves effects
// behind. It is not safe for concurrent use.
type core struct {
	common

	noEvents  bool // nobody wants to hear of changes
	noReasons bool // nobody wants to hear their reasons

	detector
	verdicts   verdicts // about names that are not in the table
	gossip     dissemination
	identity   identity
	healing    healing
	departures departures
}

func newCore(cfg *Config, rng *rand.Rand) *core {
	c := &core{
		common:   common{cfg: cfg, rng: rng, table: newTable()},
		verdicts: newVerdicts(cfg),
	}
	c.detector.init(&c.common, c)
	c.gossip = newDissemination(&c.common)
	c.identity = newIdentity(&c.common, &c.gossip, &c.health)
	c.healing = newHealing(&c.common, &c.pings)
	c.departures = newDepartures(&c.common, &c.pings, c.selfCheck.packetsFail)
	return c
}

// emit reports a change of a member to the user.
func (c *core) emit(kind eventKind, change Change) {
	if c.noEvents || c.noReasons && kind == eventNone {
		return
	}
	e := event{kind: kind, node: change.Node}
	if !c.noReasons {
		e.change = new(Change)
		*e.change = change
	}
	c.fx.events = append(c.fx.events, e)
}

// tick does everything that has fallen due.
func (c *core) tick(now instant) {
	c.stall.check(now)
	c.timers.expire(now)
}

// nextDeadline is when the core has to be woken next.
func (c *core) nextDeadline(now instant) instant {
	c.gossip.wake(now)
	return c.timers.nextPending()
}

// sampleQueue lets the depth of the queue be reported.
func (c *core) sampleQueue(now instant) {
	c.fx.sample = true
	c.timers.set(now.add(c.cfg.QueueCheckInterval), (*queueSampleTimer)(c))
}

// queueSampleTimer reports the depth of the queue.
type queueSampleTimer core

func (t *queueSampleTimer) expire(now instant) { (*core)(t).sampleQueue(now) }

func (*queueSampleTimer) stale() bool { return false }

// What the shell tells.

// start sets the first timers, each at a random moment of its first period (P42).
func (c *core) start(now instant) {
	c.probing.start(now)
	c.gossip.start(now)
	if c.cfg.QueueCheckInterval > 0 {
		c.timers.set(now.add(c.cfg.QueueCheckInterval), (*queueSampleTimer)(c))
	}
	c.healing.start(now)
}

// leave announces the departure of this node (P21). The channel is closed when it has
// provably arrived; nil if there is nobody to tell or nothing to wait for.
func (c *core) leave(now instant) <-chan struct{} {
	if c.hasLeft() {
		return c.departures.awaited()
	}
	msg := c.departureMessage()
	c.gossip.broadcast(c.self.node.Name, msg, nil)
	c.markGone(now, c.self, c.self.incarnation, StateLeft, c.self.node.Name)
	return c.departures.begin(now, msg)
}

// giveUpDeparture lets later calls of leave return at once.
func (c *core) giveUpDeparture(now instant) { c.departures.giveUp(now) }

// callEnded takes in how the departure fared on a stream.
func (c *core) callEnded(now instant, t *streamTask, outcome callOutcome) {
	c.departures.callEnded(now, t, outcome)
}

// ack applies an ack that arrived at the given time.
func (c *core) ack(now instant, a *ack, arrived instant) { c.pings.ack(now, a, arrived) }

// nack applies a relay's word that it could not reach the target either.
func (c *core) nack(now instant, n *nack) { c.pings.nack(now, n) }

// relay pings a target for a node that could not reach it.
func (c *core) relay(now instant, target destination, r relayRequest) { c.relays.relay(now, target, r) }

// pingFor registers a ping for a caller of Ping, who sends it himself.
func (c *core) pingFor(now instant, to destination, w *pingWaiter) outPacket {
	return c.pings.pingFor(now, to, w)
}

// forgetPing drops a ping whose caller has gone.
func (c *core) forgetPing(w *pingWaiter) { w.forget() }

// pingSent takes in when the transport sent the packet of a ping.
func (c *core) pingSent(seq uint32, at instant) { c.pings.sentAt(seq, at) }

// pingUnsent takes in that a ping could not be sent. If remote is true, the other end
// may be to blame.
func (c *core) pingUnsent(now instant, seq uint32, remote bool) { c.pings.unsent(now, seq, remote) }

// streamAnswered takes in that the target of a ping answered on a stream.
func (c *core) streamAnswered(now instant, seq uint32) { c.pings.streamAnswered(now, seq) }

// streamPeerAnswered takes in that another member answered on a stream what it was asked
// together with the target of p.
func (c *core) streamPeerAnswered(p *indirectProbe) { p.streamPeerAck = true }

// identified takes in which address a node gives itself that was asked for it; none
// if it could not be asked.
func (c *core) identified(now instant, asked *Node, own netip.AddrPort) {
	c.addresses.identified(now, asked, own)
}

// streamUnanswered takes in that the target of a ping was not asked on a stream after all.
func (c *core) streamUnanswered(seq uint32) { c.pings.streamUnanswered(seq) }

// What the shell asks. It reads no field of the core.

// listenFor tells what somebody wants to hear of: changes of members, and their reasons.
func (c *core) listenFor(events, reasons bool) {
	c.noEvents, c.noReasons = !events, !reasons
}

// broadcasts is the queue of what is to be gossiped. It has a lock of its own.
func (c *core) broadcasts() *TransmitLimitedQueue { return c.gossip.queue }

// memberView is what can be read of the table without the lock.
func (c *core) memberView() *memberView { return &c.table.view }

// pendingEvents are the events among the effects.
func (c *core) pendingEvents() []event { return c.fx.events }

// hasEffects reports whether there is anything to take out.
func (c *core) hasEffects() bool { return !c.fx.empty() }

// takeEffects exchanges what the core wants done for an empty fx, whose memory it uses on.
func (c *core) takeEffects(fx *effects) { *fx, c.fx = c.fx, *fx }

// ownNode is this node; nil until it is announced.
func (c *core) ownNode() *Node {
	if c.self == nil {
		return nil
	}
	return c.self.node
}

// isLost reports whether a node of that name died here and is looked for.
func (c *core) isLost(name borrowed) bool { return c.healing.lost.has(name) }

// healthScore is the local health score.
func (c *core) healthScore() int { return c.health.score }

// liveMembers is the number of nodes that are alive or suspect.
func (c *core) liveMembers() int { return c.table.live() }

// nodeNamed is the node of that name in any state; nil if there is none.
func (c *core) nodeNamed(name string) *Node {
	if m := c.table.get(name); m != nil {
		return m.node
	}
	return nil
}

// checkRequester tells whether the answer to a ping may have a payload and broadcasts.
// back says that it goes back to where the ping came from.
func (c *core) checkRequester(now instant, name borrowed, to destination, back bool) (payload, piggyback bool) {
	if c.knows(name, to) {
		return true, true
	}
	return back, back && c.relays.unknown.take(now)
}

// appendRecords appends the records of all nodes, for a full exchange.
func (c *core) appendRecords(list []nodeRecord) []nodeRecord {
	list = slices.Grow(list, len(c.table.order))
	for _, m := range c.table.order {
		list = append(list, nodeRecord{node: m.node, incarnation: m.incarnation})
	}
	return list
}

// statuses are copies of all records. The clock of the core began at epoch.
func (c *core) statuses(epoch time.Time) []NodeStatus {
	all := make([]NodeStatus, len(c.table.order))
	for i, m := range c.table.order {
		all[i] = m.status(epoch)
	}
	return all
}

// gossipTargets are snapshots of the records that gossip may go to.
func (c *core) gossipTargets(now instant, epoch time.Time) []*NodeState {
	return c.nodeStates(epoch, func(m *member) bool { return c.gossip.gossipsTo(now, m) })
}

// syncTargets are snapshots of the records that a full exchange may be made with.
func (c *core) syncTargets(_ instant, epoch time.Time) []*NodeState {
	return c.nodeStates(epoch, c.syncsWith)
}

// nodeStates are snapshots of the records that fit (P155).
func (c *core) nodeStates(epoch time.Time, fits func(*member) bool) []*NodeState {
	list := c.filter(fits)
	states := make([]*NodeState, len(list))
	for i, m := range list {
		states[i] = m.nodeState(epoch)
	}
	return states
}

// permutation is a random order of n things.
func (c *core) permutation(n int) []int { return c.rng.Perm(n) }

// syncRoundEnded tells that the exchanges of a push/pull round have been made.
func (c *core) syncRoundEnded(instant) { c.gossip.syncEnded() }

// seedsContacted tells that the seeds have been tried.
func (c *core) seedsContacted(instant) { c.healing.seeding = false }

// status copies a record.
func (m *member) status(epoch time.Time) NodeStatus {
	past := m.detectorView()
	s := NodeStatus{
		Node:        *copyOfNode(m.node),
		Incarnation: m.incarnation,
		Since:       epoch.Add(time.Duration(m.since)),
		RTT:         time.Duration(past.srtt),
		RTTVar:      time.Duration(past.rttvar),
	}
	if past.lastAck != 0 {
		s.LastAck = epoch.Add(time.Duration(past.lastAck))
	}
	if past.suspicion != nil {
		s.Accusers = slices.Clone(past.suspicion.accusers)
		s.Deadline = epoch.Add(time.Duration(past.suspicion.deadline()))
	}
	return s
}

// nodeState is a copy of what a NodeSelectionDelegate sees of a record.
func (m *member) nodeState(epoch time.Time) *NodeState {
	return &NodeState{
		Node: *m.node, Incarnation: m.incarnation, State: m.state(),
		StateChange: epoch.Add(time.Duration(m.since)),
	}
}
