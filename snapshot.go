package memberlist

import (
	"slices"
	"strings"
	"time"
)

// NodeStatus is everything that this node knows about one node. It is a copy
// and belongs to the caller.
type NodeStatus struct {
	// Node has the name, address, meta data, versions and state.
	Node Node
	// Incarnation orders what is said about the node: newer beats older.
	Incarnation uint32
	// Since is when the node entered its state.
	Since time.Time
	// LastAck is when an answer of the node to a ping of the failure detector, or to
	// a full exchange that this node began, last came in: directly, through a relay
	// or on a stream. It is zero if none did.
	LastAck time.Time
	// RTT is the smoothed round trip time of its answers, and RTTVar the smoothed
	// deviation (RFC 6298); 0 if none was measured.
	RTT, RTTVar time.Duration
	// Accusers are the nodes that a suspect is suspected by: the first accuser,
	// then those that confirmed. Nil unless the state is StateSuspect.
	Accusers []string
	// Deadline is when a suspect counts as dead unless it refutes before; zero
	// unless the state is StateSuspect.
	Deadline time.Time
}

// Confirmations is how many nodes confirmed the first accuser of a suspect.
func (s *NodeStatus) Confirmations() int { return max(len(s.Accusers)-1, 0) }

// Snapshot returns everything that this node knows about every node: members,
// and those that died or left and are not forgotten yet. It is sorted by
// name, and all of it is from one moment. It is meant for people and for
// diagnosis; Members is cheaper.
func (m *Memberlist) Snapshot() []NodeStatus {
	m.locked.Lock()
	order := m.locked.core.table.order
	all := make([]NodeStatus, len(order))
	for i, r := range order {
		all[i] = r.status(m.epoch)
	}
	m.locked.Unlock()
	slices.SortFunc(all, func(a, b NodeStatus) int { return strings.Compare(a.Node.Name, b.Node.Name) })
	return all
}

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

// gossipTargets are the records that gossip may go to.
func (c *core) gossipTargets(now instant) []*member {
	return c.filter(func(m *member) bool { return c.gossipsTo(now, m) })
}

// syncTargets are the records that a full exchange may be made with.
func (c *core) syncTargets(instant) []*member { return c.filter(c.syncsWith) }

func (c *core) filter(fits func(*member) bool) []*member {
	var list []*member
	for _, m := range c.table.order {
		if fits(m) {
			list = append(list, m)
		}
	}
	return list
}

// selectNodes picks up to k nodes from those that the NodeSelectionDelegate
// leaves, and the one that it prefers. What it returns is checked again:
// nodes that are no candidates, other than a preferred one, stay out (P156).
func (m *Memberlist) selectNodes(k int, targets func(*core, instant) []*member) []*Node {
	candidates := m.candidates(targets)
	if len(candidates) == 0 {
		return nil
	}
	selected, preferred := m.config.NodeSelection.SelectNodes(slices.Clone(candidates))
	pool := make([]*NodeState, 0, len(selected))
	for _, s := range selected {
		if s != nil && s != preferred && slices.Contains(candidates, s) {
			pool = append(pool, s)
		}
	}
	var chosen []*Node
	if preferred != nil && slices.Contains(candidates, preferred) {
		chosen = append(chosen, &preferred.Node)
	}
	for _, i := range m.permutation(len(pool)) {
		if len(chosen) >= k {
			break
		}
		chosen = append(chosen, &pool[i].Node)
	}
	return chosen
}

// candidates are snapshots of the records that fit (P155).
func (m *Memberlist) candidates(targets func(*core, instant) []*member) []*NodeState {
	m.locked.Lock()
	defer m.locked.Unlock()
	list := targets(m.locked.core, m.now())
	states := make([]*NodeState, len(list))
	for i, r := range list {
		states[i] = &NodeState{
			Node: *r.node, Incarnation: r.incarnation, State: r.state(),
			StateChange: m.epoch.Add(time.Duration(r.since)),
		}
	}
	return states
}

func (m *Memberlist) permutation(n int) []int {
	m.locked.Lock()
	defer m.locked.Unlock()
	return m.locked.core.rng.Perm(n)
}
