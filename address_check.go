package memberlist

import (
	"bytes"
	"net/netip"
	"time"
)

// A known name at another address can be the node itself, which moved or was
// restarted there; a second node of that name; or old news from somebody who missed a
// move. The word alone does not tell which (P96). So the name is asked for at both
// addresses at the same time, in every way that a suspect is asked:
//
//	known    claimed
//	silent   answers   the node has moved; the answer proves that this node is heard
//	answers  silent    old news
//	silent   silent    nothing is known, and nothing changes
//	answers  answers   two nodes, or one that is reached at both addresses
//
// The last is told apart by full exchanges, first with the claimed address and then with
// the known one: a node always lists itself at its own address. An ack would not do: it
// does not name its sender, and its source address can be a translated one, or another
// one of the same host.

// addressCheck is the word that a known name is at another address, while it is checked.
type addressCheck struct {
	m           *member
	latest      *alive // the newest word of it
	claimant    *Node  // the name at the claimed address
	checks      *addressChecks
	knownPing   *addressPing // the question at the known address; nil if it does not matter
	claimedPing *addressPing // the question at the claimed address
	due         instant      // when the silence counts

	knownAnswered   bool  // the known address answered
	claimedAnswered bool  // the claimed address answered
	identifying     *Node // who is being asked for its own address in a full exchange
}

// addressHistory is what is remembered of claims to the name of a member.
type addressHistory struct {
	running *addressCheck // nil if none is being checked

	rejectedAt       instant        // when the last claim was refused, 0 = never
	rejectedAddr     netip.AddrPort // the address that was claimed
	conflict         bool           // it was refused since both addresses answered
	duplicateFoundAt instant        // last time full exchanges found two nodes of the name

	movedAt           instant // when the node moved, 0 = never
	formerIncarnation uint32  // what its incarnation was before that
}

func (m *member) addressHistory() *addressHistory {
	file := m.detectorState()
	if file.address == nil {
		file.address = new(addressHistory)
	}
	return file.address
}

// addressChecks are the checks of names that are said to be at another address. Each is
// kept with the record of the member that has the name.
type addressChecks struct {
	*common
	pings    *pings
	indirect *indirectPings
	rules    addressRules
}

// addressRules are the rules of membership that the outcome of a check goes to.
type addressRules interface {
	// changeAddress takes over the new address of m.
	changeAddress(now instant, m *member, said *alive, raw []byte)
	// conflict takes in that two nodes have the name of m.
	conflict(m *member, said *alive)
	// refuteStale refutes news about an earlier process of this node, if they are newer
	// than its own.
	refuteStale(now instant, incarnation uint32)
}

func newAddressChecks(c *common, p *pings, i *indirectPings, rules addressRules) addressChecks {
	return addressChecks{common: c, pings: p, indirect: i, rules: rules}
}

// silentAtNewAddress takes in that m, if it has moved, did not answer at its new address.
func (m *member) silentAtNewAddress() {
	if check := m.detectorView().address; check != nil {
		check.movedAt = 0
	}
}

// nameIsFree reports whether a node at another address may have the name of m
// whatever there is at the old one.
func (a *addressChecks) nameIsFree(now instant, m *member) bool {
	reclaim := a.cfg.DeadNodeReclaimTime
	return m.state() == StateLeft ||
		m.state() == StateDead && reclaim > 0 && now.sub(m.since) > reclaim
}

// check handles an alive message about m at another address. There is one check
// of a name at a time, and after a claim was refused, a pause before the same one is
// checked again.
func (a *addressChecks) check(now instant, m *member, said *alive) {
	check := m.addressHistory()
	switch {
	case check.running != nil:
		check.running.update(said)
	case !a.recentlyRejected(now, m, said):
		a.start(now, m, said)
	case check.conflict:
		a.rules.conflict(m, said)
	}
}

// update takes over a newer word of the same claim.
func (k *addressCheck) update(said *alive) {
	if said.Incarnation > k.latest.Incarnation && k.claimant.at(said.Addr, said.Port) {
		k.latest = said.clone()
	}
}

// recentlyRejected reports whether the same claim was refused a short time ago. Two nodes
// of one name stay that for a while. Old news can come true soon: a node can move
// back (P179).
func (a *addressChecks) recentlyRejected(now instant, m *member, said *alive) bool {
	check := m.addressHistory()
	if check.rejectedAt == 0 || m.gone() || check.rejectedAddr != addrPortOf(said.Addr, said.Port) {
		return false
	}
	pauses := now.sub(check.rejectedAt) / notifyInterval(a.cfg)
	return pauses < 1 || check.conflict && pauses < 10
}

// addressCheckPings is how often a ping of a check is sent.
const addressCheckPings = 4

// start asks for the name at both addresses. This node itself need not be asked
// whether it is where it is, nor a name that is free whether it is still in use (P179).
func (a *addressChecks) start(now instant, m *member, said *alive) {
	timeout := a.answerTime()
	k := &addressCheck{
		checks: a, m: m, latest: said.clone(),
		claimant: newNode(m.node.Name, said.Addr, said.Port, said.Meta, said.Vsn, StateAlive),
	}
	m.addressHistory().running = k
	if m != a.self && !a.nameIsFree(now, m) {
		k.knownPing = a.pingByName(now, k, m.node)
		k.knownPing.m = m
		a.indirect.askOthers(now, &k.knownPing.indirectProbe, timeout)
	}
	k.claimedPing = a.pingByName(now, k, k.claimant)
	a.indirect.pingByStream(now, &k.claimedPing.indirectProbe, timeout)
	a.schedule(k, now.add(timeout))
}

// schedule sets the time until which answers are awaited.
func (a *addressChecks) schedule(k *addressCheck, at instant) {
	k.due = at
	a.timers.set(at, k)
	for _, p := range []*addressPing{k.knownPing, k.claimedPing} {
		if p != nil { // it is forgotten then if the member was reaped
			p.setTimer(at)
		}
	}
}

// pingByName pings a node by name, for the first time.
func (a *addressChecks) pingByName(now instant, k *addressCheck, n *Node) *addressPing {
	p := &addressPing{check: k}
	p.node, p.quiet = n, true
	a.pings.register(now, &p.pendingPing, p)
	p.setTimer(now.add(a.answerTime() / addressCheckPings))
	p.msg = p.message(n.Name)
	a.sendPing(p)
	return p
}

func (a *addressChecks) sendPing(p *addressPing) {
	a.send(outPacket{
		to: toNode(p.node), msg: p.msg, urgent: urgentProbe, seq: p.seq,
	})
}

// timedOut repeats a ping of a check until that is due.
func (p *addressPing) timedOut(now instant) {
	a := p.check.checks
	switch k := p.check; {
	case !k.open():
		p.forget()
	case now < k.due:
		a.sendPing(p)
		p.setTimer(now.add(a.answerTime() / addressCheckPings))
	}
}

// open reports whether the check has not ended and its member was not reaped.
func (k *addressCheck) open() bool {
	check := k.m.detectorView().address
	return check != nil && check.running == k
}

// addressPing is a ping to one of the two addresses.
type addressPing struct {
	indirectProbe
	check *addressCheck
}

func (p *addressPing) acked(now instant, _ []byte, _ instant) {
	p.check.checks.answered(now, p)
}

func (p *addressPing) streamAnswered(now instant) {
	p.streamAck = true
	p.forget()
	p.check.checks.answered(now, p)
}

// answered takes in that the name was found at one of the addresses.
func (a *addressChecks) answered(now instant, p *addressPing) {
	k := p.check
	if !k.open() {
		return
	}
	if p == k.knownPing {
		k.knownAnswered = true
	} else {
		k.claimedAnswered = true
	}
	switch {
	case !k.claimedAnswered:
	case k.knownAnswered, k.m == a.self:
		a.identify(now, k)
	case k.knownPing == nil:
		a.accept(now, k)
	}
}

func (k *addressCheck) expire(now instant) {
	if k.open() {
		k.checks.due(now, k)
	}
}

func (k *addressCheck) stale() bool { return !k.open() }

// due judges by the answers that have come (P179).
func (a *addressChecks) due(now instant, k *addressCheck) {
	if now < k.due || k.identifying != nil {
		return
	}
	if late := now.sub(k.due); late > timerTolerance(a.cfg) && !a.cfg.detector.noStallGuard {
		a.schedule(k, now.add(timerTolerance(a.cfg))) // the answers may wait to be read
		return
	}
	switch {
	case k.claimedAnswered:
		a.accept(now, k)
	case k.m == a.self:
		a.refuteStale(now, k)
	default:
		a.reject(now, k, false)
	}
}

// end ends a check.
func (a *addressChecks) end(k *addressCheck) {
	k.claimedPing.forget()
	if k.knownPing != nil {
		k.knownPing.forget()
	}
	k.m.addressHistory().running = nil
}

// accept takes over the new address, unless m was reaped or moved meanwhile.
func (a *addressChecks) accept(now instant, k *addressCheck) {
	a.end(k)
	m := k.m
	asked := k.knownPing == nil || m.node.at(k.knownPing.node.Addr, k.knownPing.node.Port)
	if a.table.get(k.claimant.Name) != m || !asked || m.node.at(k.latest.Addr, k.latest.Port) {
		return
	}
	a.rules.changeAddress(now, m, k.latest, nil)
}

// reject keeps the known address. If nobody at all answered, the next word of the
// claim is checked at once.
func (a *addressChecks) reject(now instant, k *addressCheck, conflict bool) {
	a.end(k)
	if !k.knownAnswered && !k.claimedAnswered {
		return
	}
	check := k.m.addressHistory()
	check.rejectedAt, check.conflict = max(now, 1), conflict
	check.rejectedAddr = addrPortOf(k.latest.Addr, k.latest.Port)
	if conflict {
		a.rules.conflict(k.m, k.latest)
	}
}

// refuteStale handles a word about this node at another address where it is not: it is
// about a process of the name that this one has followed. Newer news than the own are
// overruled, so that nothing that is said of the old one counts against the new one (P179).
func (a *addressChecks) refuteStale(now instant, k *addressCheck) {
	a.end(k)
	a.rules.refuteStale(now, k.latest.Incarnation)
}

// identify finds out, after the name was found at both addresses, whether that
// is one node. It takes full exchanges, and everybody would make them with the two: so
// they are not made again before the periodic one would be due.
func (a *addressChecks) identify(now instant, k *addressCheck) {
	check := k.m.addressHistory()
	pause := pushPullWait(max(a.cfg.PushPullInterval, 10*time.Second), len(a.table.order))
	if check.duplicateFoundAt != 0 && now.sub(check.duplicateFoundAt) < pause {
		a.reject(now, k, true)
		return
	}
	a.identifyBy(k, k.claimant)
}

func (a *addressChecks) identifyBy(k *addressCheck, n *Node) {
	k.identifying = n
	a.openStream(streamTask{kind: streamIdentify, node: n, timeout: 2 * a.answerTime()})
}

// identified takes in which address a node gives itself that was asked for it; none
// if it could not be asked (P179).
func (a *addressChecks) identified(now instant, asked *Node, own netip.AddrPort) {
	m := a.table.get(asked.Name)
	if m == nil || m.detectorView().address == nil {
		return
	}
	k := m.detectorView().address.running
	if k == nil || k.identifying != asked {
		return
	}
	k.identifying = nil
	isClaimed := own == addrPortOf(k.latest.Addr, k.latest.Port)
	switch {
	case !own.IsValid():
		a.reject(now, k, true)
	case !isClaimed && m == a.self:
		a.refuteStale(now, k) // the transport finds nodes by name, and has found this one
	case !isClaimed && asked == k.claimant:
		a.reject(now, k, false)
	case isClaimed && asked != k.claimant:
		a.accept(now, k)
	case asked == k.claimant && m != a.self:
		a.identifyBy(k, k.knownPing.node)
	default:
		m.addressHistory().duplicateFoundAt = max(now, 1)
		a.reject(now, k, true)
	}
}

// aboutFormerProcess reports whether an accusation with this incarnation, soon after m moved,
// is about the process that was at the old address: the new one starts from 1 again,
// until it hears of that and refutes it (P180).
func (a *addressChecks) aboutFormerProcess(now instant, m *member, incarnation uint32) bool {
	check := m.detectorView().address
	return check != nil && check.movedAt != 0 && !m.gone() &&
		incarnation <= check.formerIncarnation && now.sub(check.movedAt) < a.shortestSuspicion()
}

// clone is a copy that does not borrow from the packet.
func (m *alive) clone() *alive {
	return &alive{
		Incarnation: m.Incarnation, Node: borrow(m.Node.own()), Addr: bytes.Clone(m.Addr),
		Port: m.Port, Meta: bytes.Clone(m.Meta), Vsn: bytes.Clone(m.Vsn),
	}
}
