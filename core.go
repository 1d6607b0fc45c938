package memberlist

import (
	"math/rand/v2"
	"slices"
	"time"
)

// core is the protocol: the member table, the rules by which messages change it
// (SWIM §4, Lifeguard §IV), and the deadlines. It has no clock, socket,
// goroutine or log; it is given the time with each call and leaves effects
// behind. It is not safe for concurrent use.
type core struct {
	cfg   *Config
	rng   *rand.Rand
	queue *TransmitLimitedQueue // broadcasts about members (P84)

	noEvents  bool // nobody wants to hear of changes
	noReasons bool // nobody wants to hear their reasons

	table             table
	verdicts          verdicts // about names that are not in the table
	timers            timerHeap
	timersAfterSweep  int // alarms that the last sweep left
	pings             map[uint32]*pendingPing
	relays            relays
	unknownRequesters answerAllowance

	self            *member
	incarnation     uint32 // the highest that this node has used or was accused with
	leaving         bool   // Leave was called and Join not since
	departure       *departure
	health          awareness
	probing         prober
	gossiping       gossipRounds
	selfCheck       selfCheck
	streamSelfCheck selfCheck
	unverified      failedProbe // waits for an alibi; none if its member is nil
	syncing         bool        // a periodic push/pull is on its way

	lost           lostNodes
	reunion        reunion
	nextReconnect  instant
	seeding        bool    // the seeds are being tried
	nextSeeding    instant // not before
	lastRefutation instant // last time the own refutation was queued
	suspectRecord  *member // one whose record may have been led away, to ask it
	nextLeap       instant // the next advance by more than one may not come before

	messages []byte // the piece of memory that broadcasts are written to

	fx effects
}

func newCore(cfg *Config, rng *rand.Rand) *core {
	c := &core{
		cfg:      cfg,
		rng:      rng,
		table:    newTable(),
		verdicts: newVerdicts(cfg),
		pings:    make(map[uint32]*pendingPing),
		health:   newAwareness(cfg.AwarenessMaxMultiplier),
	}
	c.queue = &TransmitLimitedQueue{
		NumNodes:       func() int { return int(c.table.view.known.Load()) },
		RetransmitMult: cfg.RetransmitMult,
		sendsAlone:     true,
	}
	if cfg.RetransmitMult > 1 {
		c.queue.least = fewNodes
	}
	return c
}

// adjustHealth changes the local health score (P67).
func (c *core) adjustHealth(delta int) {
	if c.health.apply(delta) {
		c.fx.metrics.health, c.fx.metrics.healthChanged = c.health.score, true
	}
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

// logf asks for a log line, as the methods of logger do. It remembers the place of
// its caller, since the line is written later from elsewhere.
func (c *core) logf(level logLevel, message string, fields logFields, format string, args ...any) {
	line := logLine{level: level, message: message, fields: fields, format: format, args: args, pc: callerPC(1)}
	c.fx.logs = append(c.fx.logs, line)
}

// What the shell asks. It reads no field of the core.

// listenFor tells what somebody wants to hear of: changes of members, and their reasons.
func (c *core) listenFor(events, reasons bool) {
	c.noEvents, c.noReasons = !events, !reasons
}

// broadcasts is the queue of what is to be gossiped. It has a lock of its own.
func (c *core) broadcasts() *TransmitLimitedQueue { return c.queue }

// memberView is what can be read of the table without the lock.
func (c *core) memberView() *memberView { return &c.table.view }

// pendingEvents are the events among the effects.
func (c *core) pendingEvents() []event { return c.fx.events }

// takeEffects exchanges the effects for others, which are empty, and reports whether
// there are any.
func (c *core) takeEffects(fx *effects) bool {
	if c.fx.empty() {
		return false
	}
	*fx, c.fx = c.fx, *fx
	return true
}

// ownNode is this node; nil until it is announced.
func (c *core) ownNode() *Node {
	if c.self == nil {
		return nil
	}
	return c.self.node
}

// hasLeft reports whether Leave was called and Join not since.
func (c *core) hasLeft() bool { return c.leaving }

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
	return back, back && c.unknownRequesters.take(now)
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
	return c.nodeStates(epoch, func(m *member) bool { return c.gossipsTo(now, m) })
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
func (c *core) syncRoundEnded(instant) { c.syncing = false }

// seedsContacted tells that the seeds have been tried.
func (c *core) seedsContacted(instant) { c.seeding = false }

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
