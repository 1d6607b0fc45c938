package memberlist

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
)

// member is the record of one node in the table. It is guarded with the core;
// what readers without the lock see of it is its published Node, which also has
// the state. There is one for each node of a cluster, so what only some need is in
// detector.
type member struct {
	node        *Node          // immutable; an update replaces it
	detector    *detectorState // nil while there is nothing to remember
	since       instant        // of the last change of state
	incarnation uint32
	slot        uint32 // index in table.view
}

// detectorState is what a node remembers of a member that it has dealt with. A time of 0
// means never.
type detectorState struct {
	suspicion    *suspicion      // while the member is suspect
	address      *addressHistory // nil while nobody claimed that it is elsewhere
	knownSince   instant         // when the record was made, if that was not its last change of state
	lastAck      instant         // last answer
	lastNotified instant         // last time it was told what is said about it
	returnedAt   instant         // last time it became alive again
	clearedAt    instant         // last time it answered a final probe
	reaped       instant         // when it was first reaped, if the record was made from its tombstone
	hasAnswered  bool            // it answered before the record was made
	srtt         float64         // smoothed round trip time in nanoseconds, 0 = not measured
	rttvar       float64         // its smoothed deviation
	backoff      uint8           // how many answers in a row could not be measured, up to 3
}

// detectorView is what is remembered of m.
func (m *member) detectorView() detectorState {
	if m.detector == nil {
		return detectorState{}
	}
	return *m.detector
}

// detectorState is what is remembered of m, for adding to it.
func (m *member) detectorState() *detectorState {
	if m.detector == nil {
		m.detector = new(detectorState)
	}
	return m.detector
}

func (m *member) state() NodeStateType { return m.node.State }

func (m *member) gone() bool { return m.state() == StateDead || m.state() == StateLeft }

// suspicion is the case against m; nil if there is none.
func (m *member) suspicion() *suspicion {
	if m.detector == nil {
		return nil
	}
	return m.detector.suspicion
}

// hasAnswered reports whether m has answered, now or in an earlier record. Names can be
// made up, answers cannot.
func (m *member) hasAnswered() bool {
	past := m.detectorView()
	return past.lastAck != 0 || past.hasAnswered
}

// knownSince is when the record was made.
func (m *member) knownSince() instant {
	if m.detector == nil || m.detector.knownSince == 0 {
		return m.since
	}
	return m.detector.knownSince
}

// table holds every known node, in every state, in the random order in which
// they are probed (P45).
type table struct {
	byName nameIndex
	order  []*member
	fresh  []member // made in advance
	counts [4]int   // by state
	coming int      // records that are expected to be added soon
	view   memberView
}

// recordsAtOnce is how many records are made in one piece for the nodes of a long
// list, which saves an allocation in a member. They are few since a piece stays in
// memory for as long as one of them is in use.
const recordsAtOnce = 8

func newTable() table {
	return table{byName: newNameIndex()}
}

func (t *table) get(name string) *member { return t.byName.get(borrow(name)) }

// find is get for a name in a message.
func (t *table) find(name borrowed) *member { return t.byName.get(name) }

// holds reports whether a record is in the table. One that was reaped is not.
func (t *table) holds(m *member) bool { return t.get(m.node.Name) == m }

// reserve makes room for that many more records.
func (t *table) reserve(more int) {
	t.coming = more
	t.order = slices.Grow(t.order, more)
	t.byName.reserve(len(t.order) + more)
}

// trim gives back the room of records that were expected and did not come.
func (t *table) trim() {
	const some = 1024
	t.coming = 0
	if cap(t.order) > 4*len(t.order)+some {
		t.order = slices.Clone(t.order)
	}
	if len(t.byName.tags) > 4*t.byName.used+some {
		t.byName.resize(t.byName.used + t.byName.used/2)
	}
}

// add inserts a record at a random place (P95).
func (t *table) add(rng *rand.Rand, n *Node, now instant) *member {
	m := t.newRecord()
	*m = member{node: n, since: now, slot: uint32(t.view.take())}
	t.order = append(t.order, m)
	t.swap(len(t.order)-1, rng.IntN(len(t.order)))
	t.byName.add(m)
	t.counts[n.State]++
	t.publish(m)
	t.view.known.Store(int64(len(t.order)))
	if isAddress(n.Name) {
		t.view.addressNames.Add(1)
	}
	return m
}

func (t *table) newRecord() *member {
	if len(t.fresh) == 0 {
		t.fresh = make([]member, max(1, min(t.coming, recordsAtOnce)))
		t.coming = max(0, t.coming-recordsAtOnce)
	}
	m := &t.fresh[0]
	t.fresh = t.fresh[1:]
	return m
}

// remove forgets the record at a place of the order. The last one moves there. The
// record is not used again, since timers and pings may still hold it.
func (t *table) remove(place int) {
	m, last := t.order[place], len(t.order)-1
	t.order[place], t.order[last] = t.order[last], nil
	t.order = t.order[:last]
	t.byName.remove(m)
	m.detector = nil
	t.counts[m.state()]--
	t.view.give(int(m.slot))
	t.view.known.Store(int64(last))
	if isAddress(m.node.Name) {
		t.view.addressNames.Add(-1)
	}
}

// isAddress reports whether a name is an IP address. Most are seen not to be by
// their letters, without the error that parsing them would make.
func isAddress(name string) bool {
	for i := range len(name) {
		switch b := name[i]; {
		case '0' <= b && b <= '9', 'a' <= b && b <= 'f', 'A' <= b && b <= 'F', b == '.', b == ':':
		default:
			return false
		}
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}

func (t *table) swap(i, j int) {
	t.order[i], t.order[j] = t.order[j], t.order[i]
}

func (t *table) shuffle(rng *rand.Rand) {
	rng.Shuffle(len(t.order), t.swap)
}

// setNode gives m another node, and with it another state perhaps, and publishes
// it. The time of a change of state is that of the last one.
func (t *table) setNode(m *member, n *Node, now instant) {
	if old := m.state(); old != n.State {
		t.counts[old]--
		t.counts[n.State]++
		if now != m.since && m.knownSince() == m.since {
			m.detectorState().knownSince = max(m.since, 1)
		}
		m.since = now
	}
	m.node = n
	t.publish(m)
}

// publish makes m's node what Members shows: nodes that are alive or suspect.
func (t *table) publish(m *member) {
	if m.gone() {
		t.view.hide(int(m.slot))
		return
	}
	t.view.show(int(m.slot), m.node)
}

// live is the number of nodes that are alive or suspect.
func (t *table) live() int { return t.counts[StateAlive] + t.counts[StateSuspect] }

// memberView is what can be read of the table without its lock: one slot a
// record, holding its node while that is a member. A reader walks the slots
// with atomic loads and never waits for a writer.
type memberView struct {
	pages        atomic.Pointer[[]*viewPage]
	free         []int // slots without a record; guarded with the core
	used         int   // slots handed out so far; guarded with the core
	shown        atomic.Int64
	known        atomic.Int64 // records in any state: n of the scaling formulas (P44)
	addressNames atomic.Int64 // records whose name is an IP address (W25)
}

// viewPage is as large as fits into 1 KiB together with the word that the allocator
// needs.
type viewPage [127]atomic.Pointer[Node]

// viewNodes is what a page shows at one time.
type viewNodes [viewPageSize]*Node

const viewPageSize = len(viewPage{})

func (v *memberView) take() int {
	if last := len(v.free) - 1; last >= 0 {
		slot := v.free[last]
		v.free = v.free[:last]
		return slot
	}
	slot := v.used
	v.used++
	if slot%viewPageSize == 0 {
		v.grow()
	}
	return slot
}

// grow publishes a longer list of pages; readers go on with the one they have.
func (v *memberView) grow() {
	var pages []*viewPage
	if old := v.pages.Load(); old != nil {
		pages = *old
	}
	pages = append(pages[:len(pages):len(pages)], new(viewPage))
	v.pages.Store(&pages)
}

func (v *memberView) give(slot int) {
	v.hide(slot)
	v.free = append(v.free, slot)
}

func (v *memberView) at(slot int) *atomic.Pointer[Node] {
	return &(*v.pages.Load())[slot/viewPageSize][slot%viewPageSize]
}

func (v *memberView) show(slot int, n *Node) {
	if v.at(slot).Swap(n) == nil {
		v.shown.Add(1)
	}
}

func (v *memberView) hide(slot int) {
	if v.at(slot).Swap(nil) != nil {
		v.shown.Add(-1)
	}
}

// members is a new slice of the nodes shown (P33). The nodes of a page are collected aside
// and then copied in one go, which takes a fifth less time than to append each.
func (v *memberView) members() []*Node {
	pages := v.pages.Load()
	if pages == nil {
		return nil
	}
	nodes := make([]*Node, 0, v.shown.Load())
	var found viewNodes
	for _, page := range *pages {
		n := 0
		for i := range page {
			found[n] = page[i].Load()
			if found[n] != nil {
				n++
			}
		}
		nodes = append(nodes, found[:n]...)
	}
	return nodes
}
