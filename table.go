package memberlist

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
)

// member is the record of one node in the table. It is guarded with the core;
// what readers without the lock see of it is its published Node. There is one for
// each node of a cluster, so what only some need is in the dossier.
type member struct {
	node        *Node // immutable; an update replaces it
	suspicion   *suspicion
	file        *dossier // nil while there is nothing to remember
	since       instant  // of the last change of state
	met         instant  // when the record was made
	state       NodeStateType
	incarnation uint32
	place       int32 // index in table.order
	slot        int32 // index in table.view
}

// dossier is what a node remembers of a member that it has dealt with. A time of 0
// means never.
type dossier struct {
	heard        instant // last answer
	told         instant // last time it was told what is said about it
	cameBack     instant // last time it became alive again
	acquitted    instant // last time it answered a last question
	claimRefused instant // last time it defended its address
	claimed      bool    // somebody else's claim to its name is being checked
	srtt         float64 // smoothed round trip time in nanoseconds, 0 = not measured
	rttvar       float64 // its smoothed deviation
	doubled      uint8   // how many answers in a row could not be measured, up to 3
}

// past is what is remembered of m.
func (m *member) past() dossier {
	if m.file == nil {
		return dossier{}
	}
	return *m.file
}

// remember is what is remembered of m, for adding to it.
func (m *member) remember() *dossier {
	if m.file == nil {
		m.file = new(dossier)
	}
	return m.file
}

func (m *member) gone() bool { return m.state == StateDead || m.state == StateLeft }

// table holds every known node, in every state, in the random order in which
// they are probed (P45).
type table struct {
	byName map[string]*member
	order  []*member
	counts [4]int // by state
	view   memberView
}

func newTable() table {
	return table{byName: make(map[string]*member)}
}

func (t *table) get(name string) *member { return t.byName[name] }

// add inserts a record at a random place (P95).
func (t *table) add(rng *rand.Rand, n *Node, state NodeStateType, now instant) *member {
	m := &member{node: n, state: state, since: now, met: now, slot: int32(t.view.take()), place: int32(len(t.order))}
	t.order = append(t.order, m)
	t.swap(int(m.place), rng.IntN(len(t.order)))
	t.byName[n.Name] = m
	t.counts[state]++
	t.publish(m)
	t.view.known.Store(int64(len(t.order)))
	if isAddress(n.Name) {
		t.view.addressNames.Add(1)
	}
	return m
}

// remove forgets a record.
func (t *table) remove(m *member) {
	last := len(t.order) - 1
	t.swap(int(m.place), last)
	t.order[last] = nil
	t.order = t.order[:last]
	delete(t.byName, m.node.Name)
	t.counts[m.state]--
	t.view.give(int(m.slot))
	t.view.known.Store(int64(len(t.order)))
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
	t.order[i].place, t.order[j].place = int32(i), int32(j)
}

func (t *table) shuffle(rng *rand.Rand) {
	rng.Shuffle(len(t.order), t.swap)
}

// setState moves m to a state and publishes its node n with it.
func (t *table) setState(m *member, state NodeStateType, n *Node, now instant) {
	if m.state != state {
		t.counts[m.state]--
		t.counts[state]++
		m.state, m.since = state, now
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

// newNode makes the immutable record of what an alive message or a node state
// says. It owns its bytes: name, address and meta data share one piece of memory.
func newNode(name string, addr []byte, port uint16, meta, vsn []byte, state NodeStateType) *Node {
	owned := make([]byte, 0, len(name)+len(addr)+len(meta))
	owned = append(owned, name...)
	n := &Node{Name: viewString(owned), Port: port, State: state}
	n.setContent(owned, addr, meta, vsn)
	return n
}

// renewed is newNode for a node whose name is known already.
func (n *Node) renewed(addr []byte, port uint16, meta, vsn []byte) *Node {
	c := &Node{Name: n.Name, Port: port, State: StateAlive}
	c.setContent(make([]byte, 0, len(addr)+len(meta)), addr, meta, vsn)
	return c
}

// setContent copies address and meta data behind what owned holds already.
func (n *Node) setContent(owned, addr, meta, vsn []byte) {
	start := len(owned)
	owned = append(owned, addr...)
	n.Addr = net.IP(owned[start:len(owned):len(owned)])
	if meta != nil {
		start = len(owned)
		owned = append(owned, meta...)
		n.Meta = owned[start:len(owned):len(owned)]
	}
	n.setVersions(vsn)
}

// withState is a copy of n in another state. Both share bytes that nobody writes.
func (n *Node) withState(state NodeStateType) *Node {
	c := *n
	c.State = state
	return &c
}

// setVersions takes over the six version bytes of W66; fewer count as zero (W67).
func (n *Node) setVersions(vsn []byte) {
	if len(vsn) < 6 {
		return
	}
	n.PMin, n.PMax, n.PCur = vsn[0], vsn[1], vsn[2]
	n.DMin, n.DMax, n.DCur = vsn[3], vsn[4], vsn[5]
}

// versions are the six bytes of W66.
func (n *Node) versions() [6]byte {
	return [6]byte{n.PMin, n.PMax, n.PCur, n.DMin, n.DMax, n.DCur}
}

// sameContent reports whether n carries this meta and these versions.
func (n *Node) sameContent(meta, vsn []byte) bool {
	versions := n.versions()
	return bytes.Equal(n.Meta, meta) && bytes.Equal(versions[:], vsn)
}

// at reports whether n lives at the address.
func (n *Node) at(ip []byte, port uint16) bool {
	return n.Port == port && sameIP(n.Addr, ip)
}

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

type viewPage [128]atomic.Pointer[Node]

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

// members is a new slice of the nodes shown.
func (v *memberView) members() []*Node {
	pages := v.pages.Load()
	if pages == nil {
		return nil
	}
	nodes := make([]*Node, 0, v.shown.Load())
	for _, page := range *pages {
		for i := range page {
			if n := page[i].Load(); n != nil {
				nodes = append(nodes, n)
			}
		}
	}
	return nodes
}
