package memberlist

import (
	"cmp"
	"slices"
)

// A program that takes its events slowly must not make the node hold ever more of
// them. When many wait, those of each node are merged into what the program has to
// hear to be right in the end: nothing of a node that came and went meanwhile, one
// update for several, one leave and one join for any number of restarts. So there
// are at most two events and one conflict for each node that is a member, or that the
// program holds for one.

// manyEvents is how many events may wait before they are merged.
const manyEvents = 8192

// mergeEvents merges events that wait, which are in the order of their numbers. A
// merged event has the number of the first one in it, so that whoever waits for any
// of these does not wait too short (P200).
func mergeEvents(queue []event) []event {
	byName := make(map[string]*pendingEvents)
	for i := range queue {
		e := &queue[i]
		p := byName[e.node.Name]
		if p == nil {
			p = new(pendingEvents)
			byName[e.node.Name] = p
		}
		p.add(e)
	}
	merged := make([]event, 0, 2*len(byName))
	for _, p := range byName {
		merged = append(merged, p.changes...)
		if p.conflict.node != nil {
			merged = append(merged, p.conflict)
		}
	}
	slices.SortFunc(merged, func(a, b event) int { return cmp.Compare(a.number, b.number) })
	return merged
}

// pendingEvents is what a program has still to hear about one node.
type pendingEvents struct {
	changes  []event // at most a leave and what followed it
	conflict event   // the newest; without a node if there is none
}

// add takes in the next event. For each node joins and leaves alternate.
func (p *pendingEvents) add(e *event) {
	last := len(p.changes) - 1
	switch {
	case e.kind == eventConflict:
		p.addConflict(e)
	case last < 0 || p.changes[last].kind == eventLeave:
		p.changes = append(p.changes, *e)
	case e.kind == eventLeave && p.changes[0].kind == eventJoin:
		p.changes = nil // the program has never heard of it
	case e.kind == eventLeave:
		p.changes = append(p.changes[:0], p.changes[0].followedBy(e, eventLeave))
	default:
		before := &p.changes[last]
		p.changes[last] = before.followedBy(e, graver(before.kind, e.kind))
		if p.changes[last].pointless() {
			p.changes = p.changes[:last]
		}
	}
}

func (p *pendingEvents) addConflict(e *event) {
	number := e.number
	if p.conflict.node != nil {
		number = p.conflict.number
	}
	p.conflict = *e
	p.conflict.number = number
}

// graver is the kind of an event that stands for one and an update, or a mere
// change of state, after it.
func graver(before, after eventKind) eventKind {
	if before == eventNone {
		return after
	}
	return before
}

// followedBy is one event for e and a later one about the same node.
func (e *event) followedBy(later *event, kind eventKind) event {
	merged := *later
	merged.kind, merged.number = kind, e.number
	if e.change != nil && later.change != nil {
		change := *later.change
		change.From, change.New = e.change.From, e.change.New
		merged.change = &change
	}
	return merged
}

// pointless reports whether an event says that nothing has changed.
func (e *event) pointless() bool {
	return e.kind == eventNone && e.change != nil && e.change.From == e.change.To
}
