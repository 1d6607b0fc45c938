package memberlist

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Nodes that died are remembered longer than the table holds them, and asked from
// time to time whether they are back, so that a cluster that was parted becomes
// whole again however long that lasted. Nodes that left are not.

// lostNode is a node that died.
type lostNode struct {
	node        *Node
	incarnation uint32
	hasAnswered bool // it answered once
	place       int  // index in lostNodes.order
	rank        int  // index in lostNodes.unheard, if it never answered
	since       instant
	due         instant // when it is to be asked again
	successor   *member // the one that was found at its address
}

// maxLost bounds the nodes that are remembered.
const maxLost = 4096

// lostNodes is the memory of nodes that died, in the random order in which they are
// asked.
type lostNodes struct {
	byName        map[string]*lostNode
	order         []*lostNode
	next          int         // in order; those before have had their turn
	neverAnswered []*lostNode // those that never answered
}

// add remembers a node, which answered once or never did. Its node, incarnation, heard
// and since are set. When there is no room it replaces one of those that never
// answered, whose names may be made up. If all have answered the new one is left out:
// the others are as good a way back to a lost part of the cluster (P184).
func (l *lostNodes) add(rng *rand.Rand, lost lostNode) {
	if old := l.byName[lost.node.Name]; old != nil {
		l.renew(old, lost)
		return
	}
	if len(l.order) >= maxLost {
		if len(l.neverAnswered) == 0 {
			return
		}
		l.remove(l.neverAnswered[rng.IntN(len(l.neverAnswered))].node.Name)
	}
	if l.byName == nil {
		l.byName = make(map[string]*lostNode)
	}
	lost.place = len(l.order)
	added := &lost
	l.byName[lost.node.Name] = added
	l.order = append(l.order, added)
	if !lost.hasAnswered {
		added.rank = len(l.neverAnswered)
		l.neverAnswered = append(l.neverAnswered, added)
	}
	l.swap(added.place, l.next+rng.IntN(len(l.order)-l.next))
}

// renew takes over what is new about a node that is remembered. It keeps its turn.
func (l *lostNodes) renew(old *lostNode, lost lostNode) {
	old.node, old.incarnation, old.since = lost.node, lost.incarnation, lost.since
	if lost.hasAnswered && !old.hasAnswered {
		old.hasAnswered = true
		l.removeNeverAnswered(old)
	}
}

// remove forgets a node. Those that have had their turn stay in front.
func (l *lostNodes) remove(name string) {
	lost := l.byName[name]
	if lost == nil {
		return
	}
	if lost.place < l.next {
		l.next--
		l.swap(lost.place, l.next)
	}
	last := len(l.order) - 1
	l.swap(lost.place, last)
	l.order[last] = nil
	l.order = l.order[:last]
	delete(l.byName, name)
	if !lost.hasAnswered {
		l.removeNeverAnswered(lost)
	}
}

// removeNeverAnswered takes a node out of those that never answered.
func (l *lostNodes) removeNeverAnswered(lost *lostNode) {
	last := len(l.neverAnswered) - 1
	moved := l.neverAnswered[last]
	l.neverAnswered[lost.rank], moved.rank = moved, lost.rank
	l.neverAnswered[last] = nil
	l.neverAnswered = l.neverAnswered[:last]
}

// hasAnswered reports whether a node of that name is remembered and answered once.
func (l *lostNodes) hasAnswered(name borrowed) bool {
	lost, ok := lookUp(l.byName, name)
	return ok && lost.hasAnswered
}

// has reports whether a node of that name is remembered.
func (l *lostNodes) has(name borrowed) bool {
	_, ok := lookUp(l.byName, name)
	return ok
}

// left forgets a node that left after it died here.
func (l *lostNodes) left(name borrowed, incarnation uint32) {
	if lost, ok := lookUp(l.byName, name); ok && incarnation >= lost.incarnation && !far(incarnation, lost.incarnation) {
		l.remove(lost.node.Name)
	}
}

func (l *lostNodes) swap(i, j int) {
	l.order[i], l.order[j] = l.order[j], l.order[i]
	l.order[i].place, l.order[j].place = i, j
}

// healing makes the cluster whole again: it looks for lost nodes, lets state be exchanged
// with those that come back, and contacts the seeds.
type healing struct {
	*common
	pings         *pings
	lost          lostNodes
	nextReconnect instant
	reunion       reunion
	seeding       bool    // the seeds are being tried
	nextSeeding   instant // not before
}

func newHealing(c *common, p *pings) healing { return healing{common: c, pings: p} }

// start sets the first timers.
func (h *healing) start(now instant) {
	if h.cfg.ReconnectInterval > 0 {
		h.nextReconnect = h.withinPeriod(now, h.cfg.ReconnectInterval)
		h.timers.set(h.nextReconnect, (*reconnectTimer)(h))
	}
	if h.cfg.RejoinInterval > 0 && h.hasSeeds() {
		h.timers.set(h.withinPeriod(now, h.cfg.RejoinInterval), (*rejoinTimer)(h))
	}
}

// reconnectDelay is the least time between two pings to lost nodes, so that a node
// that looks for many sends no more of them than of probes (P185).
func (h *healing) reconnectDelay() time.Duration {
	return min(max(h.cfg.ProbeInterval, time.Millisecond), h.cfg.ReconnectInterval)
}

// The search for a lost node slows down with the time since its death: it is due every
// searchAge-th part of that, but no more than once in that many probe intervals.
const (
	searchProbes = 2
	searchAge    = 240
)

// searchPeriod is the time between two pings to a lost node. All members look for it, so
// each does its part of what is to be done: a node that was away for a time is found
// within that time divided by searchAge. It is at most ReconnectInterval, for a lost node
// may be within reach of this member alone (P185).
func (h *healing) searchPeriod(now instant, lost *lostNode) time.Duration {
	interval := h.cfg.ReconnectInterval
	if h.cfg.ProbeInterval <= 0 || h.cfg.ProbeInterval >= interval/searchProbes {
		return interval
	}
	period := max(searchProbes*h.cfg.ProbeInterval, now.sub(lost.since)/searchAge)
	members := time.Duration(max(h.table.live(), 1))
	if period >= interval/members {
		return interval
	}
	return period * members
}

// reconnectDue asks one of the lost nodes, by name, whether it is back, and lets
// the seeds be tried when few members are left.
func (h *healing) reconnectDue(now instant) {
	if now < h.nextReconnect {
		return // put forward since
	}
	if !h.hasLeft() {
		h.seedsDue(now)
		h.searchLost(now)
	}
	h.nextReconnect = h.nextSearch(now)
	h.timers.set(h.nextReconnect, (*reconnectTimer)(h))
}

// searchLost pings the lost node whose turn it is.
func (h *healing) searchLost(now instant) {
	lost := h.nextLostNode(now)
	if lost == nil {
		return
	}
	lost.due = now.add(jitter(h.rng, h.searchPeriod(now, lost)))
	p := &searchPing{healing: h}
	p.node = lost.node
	h.pings.register(now, &p.pendingPing, p)
	p.setTimer(now.add(max(h.cfg.ProbeTimeout, h.cfg.ProbeInterval)))
	h.send(outPacket{
		to: toNode(lost.node), msg: p.message(lost.node.Name), urgent: urgentProbe,
	})
}

// nextSearch is when the next lost node is due, a pause from now at the earliest.
func (h *healing) nextSearch(now instant) instant {
	at := now.add(jitter(h.rng, h.cfg.ReconnectInterval))
	for _, lost := range h.lost.order {
		at = min(at, lost.due)
	}
	return max(at, now.add(jitter(h.rng, h.reconnectDelay())))
}

// rejoinDue lets the seeds be looked up and those be contacted that are no members: there may
// be a part of the cluster that this one never met (P188).
func (h *healing) rejoinDue(now instant) {
	h.timers.set(now.add(jitter(h.rng, h.cfg.RejoinInterval)), (*rejoinTimer)(h))
	h.contactSeeds(now)
}

// seedsDue does the same while few members are left, once in ReconnectInterval, unless that
// is done anyway (P189).
func (h *healing) seedsDue(now instant) {
	always := h.cfg.RejoinInterval > 0 && h.cfg.RejoinInterval <= h.cfg.ReconnectInterval
	if !always && now >= h.nextSeeding && h.fewLeft() {
		h.contactSeeds(now)
	}
}

func (h *healing) contactSeeds(now instant) {
	if !h.hasSeeds() || h.seeding || h.hasLeft() {
		return
	}
	h.seeding = true
	h.nextSeeding = now.add(h.cfg.ReconnectInterval * 9 / 10) // the timer is jittered by a tenth
	h.openStream(streamTask{kind: streamSeeds})
}

func (h *healing) hasSeeds() bool { return len(h.cfg.Seeds) > 0 || h.cfg.SeedSource != nil }

// fewLeft reports whether this node is alone, or has at most two others left and has
// lost more than that. A small cluster that is whole, or has lost its smaller part,
// leaves the seeds in peace, and so does a large one, whatever happens to it (P189).
func (h *healing) fewLeft() bool {
	const few = 2
	others := h.table.live() - 1
	return others <= 0 || others <= few && others < len(h.lost.order)
}

// skippedInTurn bounds the lost nodes that are passed over in one turn since a member
// has their address. For each of them the table may have to be searched.
const skippedInTurn = 8

// nextLostNode is the next lost node that is due; nil if none is. Those that were dead for
// too long are forgotten on the way, and those whose address a member has are put off.
func (h *healing) nextLostNode(now instant) *lostNode {
	l := &h.lost
	for passed, skipped := 0, 0; passed < len(l.order) && skipped < skippedInTurn; {
		if l.next >= len(l.order) {
			l.next = 0
		}
		lost := l.order[l.next]
		if now.sub(lost.since) > h.lostNodeLifetime() {
			l.remove(lost.node.Name)
			continue
		}
		l.next++
		passed++
		if lost.due > now {
			continue
		}
		if !h.replaced(lost) {
			return lost
		}
		lost.due = now.add(jitter(h.rng, h.searchPeriod(now, lost)))
		skipped++
	}
	return nil
}

// replaced reports whether a member has the address of a lost node: a process that was
// started there under another name. It would answer each ping by warning of it. The
// member must have answered once, or a made-up one could keep the lost node out (P185).
func (h *healing) replaced(lost *lostNode) bool {
	succeeds := func(m *member) bool {
		return !m.gone() && m.node.Name != lost.node.Name && (m == h.self || m.hasAnswered()) &&
			m.node.at(lost.node.Addr, lost.node.Port)
	}
	if lost.successor != nil && succeeds(lost.successor) {
		return true
	}
	lost.successor = nil
	if i := slices.IndexFunc(h.table.order, succeeds); i >= 0 {
		lost.successor = h.table.order[i]
	}
	return lost.successor != nil
}

// lostNodeLifetime is how long a node that died is looked for (P184).
func (h *healing) lostNodeLifetime() time.Duration {
	if h.cfg.ReconnectTimeout > 0 {
		return h.cfg.ReconnectTimeout
	}
	return h.cfg.GossipToTheDeadTime
}

// searchPing is a ping to a lost node.
type searchPing struct {
	pendingPing
	healing *healing
}

// acked makes a full exchange with a node that answered under its own name:
// it learns what is said about it and refutes, and each side learns of the rest
// of the other (P186).
func (p *searchPing) acked(instant, []byte, instant) {
	if !p.healing.hasLeft() {
		p.healing.openStream(streamTask{kind: streamVisit, node: p.node})
	}
}

// reunion is what is known of the lost nodes that came back a moment ago.
type reunion struct {
	returned int     // how many there were
	m        *member // one of them, at random
}

// reunionPartners is how many members of a cluster exchange state with a node that came
// back, on average.
const reunionPartners = 3

// reunionOfAll is the size of a cluster up to which each member does so.
const reunionOfAll = 8

// nodeReturned takes in that a node is a member. After a partition each side has state that the
// other has not heard of, and what is gossiped is who is there, not what programs keep: so
// those that were lost and came back get a full exchange with a few of the members soon.
func (h *healing) nodeReturned(now instant, m *member) {
	if h.lost.byName[m.node.Name] == nil {
		return
	}
	h.lost.remove(m.node.Name)
	r := &h.reunion
	r.returned++
	if h.rng.IntN(r.returned) == 0 {
		r.m = m
	}
	if r.returned == 1 {
		at := h.withinPeriod(now, max(h.cfg.ProbeInterval, time.Millisecond))
		h.timers.set(at, (*reunionTimer)(h))
	}
}

// reunionDue exchanges state with one of those that came back. In a large cluster that
// got few back, most members leave it to the others. In a small one the others may be
// too few, and nodes may come back one by one (P187).
func (h *healing) reunionDue(instant) {
	r := h.reunion
	h.reunion = reunion{}
	if h.hasLeft() || h.cfg.NodeSelection != nil || r.m.gone() {
		return
	}
	live := h.table.live()
	if live <= reunionOfAll || h.rng.IntN(live) < reunionPartners*r.returned {
		h.openStream(streamTask{kind: streamVisit, node: r.m.node})
	}
}

// trackLost remembers a node that died, and sees to it that it is looked for.
func (h *healing) trackLost(now instant, m *member) {
	if h.cfg.ReconnectInterval <= 0 {
		return
	}
	h.lost.add(h.rng, lostNode{node: m.node, incarnation: m.incarnation, hasAnswered: m.hasAnswered(), since: now})
	lost := h.lost.byName[m.node.Name]
	if lost == nil {
		return // no room
	}
	lost.due = h.withinPeriod(now, h.searchPeriod(now, lost))
	if sooner := max(lost.due, now.add(jitter(h.rng, h.reconnectDelay()))); sooner < h.nextReconnect {
		h.nextReconnect = sooner
		h.timers.set(sooner, (*reconnectTimer)(h))
	}
}

// reconnectTimer tries a lost node.
type reconnectTimer healing

func (t *reconnectTimer) expire(now instant) { (*healing)(t).reconnectDue(now) }

func (*reconnectTimer) stale() bool { return false }

// rejoinTimer lets the seeds be looked up.
type rejoinTimer healing

func (t *rejoinTimer) expire(now instant) { (*healing)(t).rejoinDue(now) }

func (*rejoinTimer) stale() bool { return false }

// reunionTimer exchanges state with one that came back.
type reunionTimer healing

func (t *reunionTimer) expire(now instant) { (*healing)(t).reunionDue(now) }

func (*reunionTimer) stale() bool { return false }
