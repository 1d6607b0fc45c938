package memberlist

import (
	"slices"
	"strings"
	"time"
)

// NodeStatus is everything that a node knows about another one. It is a copy that
// belongs to the caller.
type NodeStatus struct {
	// Node has the name, address, metadata, versions and state.
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

// Confirmations returns the number of nodes that confirmed the first accuser of a
// suspect.
func (s *NodeStatus) Confirmations() int { return max(len(s.Accusers)-1, 0) }

// Snapshot returns everything that this node knows about every node: the members, and
// nodes that died or left and are still in the member table. It is sorted by name and
// consistent. It is meant for diagnosis; Members is cheaper.
func (m *Memberlist) Snapshot() []NodeStatus {
	var all []NodeStatus
	m.engine.read(func(c *core, _ instant) { all = c.statuses(m.engine.epoch) })
	slices.SortFunc(all, func(a, b NodeStatus) int { return strings.Compare(a.Node.Name, b.Node.Name) })
	return all
}
