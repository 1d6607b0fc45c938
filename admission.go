package memberlist

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"unsafe"
)

// admission decides what may take effect of what others say: messages and entries of a
// push/pull must be in bounds, the versions of a node must make sense (P93), its
// address must lie in an allowed network (P95, P96), and neither the AliveDelegate (P94)
// nor, for a join, the MergeDelegate may object.
type admission struct {
	services
	config *Config
	turn   turn // of asking the AliveDelegate, one call at a time (P123)
}

func newAdmission(s services, cfg *Config) *admission {
	return &admission{services: s, config: cfg, turn: newTurn()}
}

// admitPacket decides about a message that came in a packet, and fills in the port of
// an alive message (W74, P91). Refusals are logged.
func (ad *admission) admitPacket(ctx context.Context, item *incoming, from sender) bool {
	if err := item.checkBounds(); err != nil {
		ad.drops.outOfBounds(item.kind, err, from)
		return false
	}
	if item.kind != aliveMsg {
		return true
	}
	a := &item.alive
	if port := ad.config.knownPort(a.Port); port != a.Port {
		a.Port, item.raw = port, nil
	}
	if ad.config.IPMustBeChecked() && !ad.packetAllowed(a, from) {
		return false
	}
	if err := ad.admit(ctx, a); err != nil {
		ad.logRefused(a, err)
		return false
	}
	return true
}

// packetAllowed applies the filter of networks to the sender of an alive packet
// and to the address in it (P90).
func (ad *admission) packetAllowed(a *alive, from sender) bool {
	text := from.String()
	if text != "pipe" {
		ap, err := netip.ParseAddrPort(text)
		if err != nil || ad.config.IPAllowed(ap.Addr().Unmap().AsSlice()) != nil {
			ad.log.debugf("Blocked an alive message: its sender is in no allowed network", logFields{addr: text},
				"Blocked alive message from %s: its sender is in no allowed network", text)
			return false
		}
	}
	if len(a.Addr) > 0 && ad.config.IPAllowed(a.Addr) != nil {
		ad.log.debugf("Blocked an alive message: its address is in no allowed network", logFields{addr: text},
			"Blocked alive message about %s: it is in no allowed network %s", net.IP(a.Addr), from.log())
		return false
	}
	return true
}

// admit decides about an alive message that is in bounds. The reference checks the
// address only of nodes that are new or have moved; the others passed before.
func (ad *admission) admit(ctx context.Context, a *alive) error {
	if err := checkVersions(a.Vsn); err != nil {
		return err
	}
	if err := ad.config.IPAllowed(a.Addr); err != nil {
		return &RejectedError{Reason: err}
	}
	if ad.config.Alive == nil {
		return nil
	}
	if err := ad.ask(ctx, nodeFrom(a.Node, a.Addr, a.Port, a.Meta, a.Vsn, StateAlive)); err != nil {
		if ctx.Err() != nil {
			return cause(ctx)
		}
		return &RejectedError{Reason: err}
	}
	return nil
}

// ask returns the verdict of the AliveDelegate.
func (ad *admission) ask(ctx context.Context, n *Node) (verdict error) {
	own, takesPart := ad.tasks.callers.askingTurn()
	if takesPart && own == nil { // the delegate asks itself
		return ad.config.Alive.NotifyAlive(n)
	}
	mine := ad.turn
	if takesPart {
		mine = own
	}
	select {
	case mine <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-mine }()
	ad.tasks.callers.asAsking(nil, func() { verdict = ad.config.Alive.NotifyAlive(n) })
	return verdict
}

// logRefused logs an alive message that was not admitted.
func (ad *admission) logRefused(a *alive, err error) {
	fields := logFields{node: a.Node.own(), addr: joinHostPort(a.Addr, a.Port), incarnation: a.Incarnation, err: err}
	ad.log.warnf("Ignoring an alive message", fields, "Ignoring alive message for '%s' (%s): %v", fields.node, fields.addr, err)
}

// judge decides about the other side's part of a push/pull. Entries that are out of
// bounds are taken out. Then the versions of both sides must be compatible, the
// MergeDelegate must not object if this is a join, and nodes that are not admitted are
// taken out (P119, P94). A join that is left without a living node is refused as a
// whole, so that the joiner learns why.
func (ad *admission) judge(ctx context.Context, remote *remoteState, local []nodeRecord) error {
	refusal := ad.dropOutOfBounds(remote)
	if err := checkCompatible(remote.nodes, local); err != nil {
		return err
	}
	if remote.join && ad.config.Merge != nil {
		if err := remote.account().charge(memoryOfNodes(remote.nodes)); err != nil {
			return err
		}
		if err := ad.config.Merge.NotifyMerge(nodesOf(remote.nodes)); err != nil {
			return &RejectedError{Reason: err}
		}
	}
	return ad.dropRefused(ctx, remote, refusal)
}

// dropOutOfBounds takes out the entries that are out of bounds, and returns what
// is wrong with the last of them (P167).
func (ad *admission) dropOutOfBounds(remote *remoteState) (refusal error) {
	before := len(remote.nodes)
	remote.nodes = slices.DeleteFunc(remote.nodes, func(n pushNodeState) bool {
		err := n.checkBounds()
		if err != nil {
			refusal = &RejectedError{Reason: err}
		}
		return err != nil
	})
	if refusal != nil {
		ad.drops.entriesOutOfBounds(before-len(remote.nodes), refusal)
	}
	return refusal
}

// dropRefused takes out the nodes that would be members and are not admitted. refusal
// is why others were taken out before, or nil.
func (ad *admission) dropRefused(ctx context.Context, remote *remoteState, refusal error) error {
	admitted, kept := 0, 0
	var a alive // one for all of them: it moves to the heap
	for i := range remote.nodes {
		n := &remote.nodes[i]
		if n.State == StateAlive || n.State == StateSuspect { // both can become members
			if err := ad.admitEntry(ctx, n, &a); err != nil {
				if ctx.Err() != nil {
					return err
				}
				refusal = err
				continue
			}
			admitted++
		}
		if kept != i {
			remote.nodes[kept] = *n
		}
		kept++
	}
	remote.nodes = remote.nodes[:kept]
	if remote.join && admitted == 0 && refusal != nil {
		return refusal
	}
	return nil
}

// admitEntry is admit for an entry of a push/pull. A refusal is logged.
// a is for its use.
func (ad *admission) admitEntry(ctx context.Context, n *pushNodeState, a *alive) error {
	if ad.config.Alive == nil && !ad.config.IPMustBeChecked() && checkVersions(n.Vsn) == nil {
		return nil // most entries, without making a message of them
	}
	*a = n.alive()
	err := ad.admit(ctx, a)
	if err != nil && ctx.Err() == nil {
		ad.logRefused(a, err)
	}
	return err
}

// alive is what an entry says as a message of its own.
func (m *pushNodeState) alive() alive {
	return alive{Incarnation: m.Incarnation, Node: m.Name, Addr: m.Addr, Port: m.Port, Meta: m.Meta, Vsn: m.Vsn}
}

// memoryOfNodes is how many bytes nodesOf takes.
func memoryOfNodes(states []pushNodeState) int {
	const pointer = 8
	size := len(states) * (pointer + int(unsafe.Sizeof(Node{})))
	for i := range states {
		size += states[i].Name.len() + len(states[i].Addr) + len(states[i].Meta)
	}
	return size
}

// nodesOf are the nodes as a MergeDelegate sees them, with the sender's view of
// their state (P35).
func nodesOf(states []pushNodeState) []*Node {
	nodes := make([]*Node, len(states))
	for i := range states {
		s := &states[i]
		nodes[i] = nodeFrom(s.Name, s.Addr, s.Port, s.Meta, s.Vsn, s.State)
	}
	return nodes
}
