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

// claim is the word that a known name is at another address, while it is checked.
type claim struct {
	m        *member
	said     *alive       // the newest word of it
	claimant *Node        // the name at the claimed address
	known    *pendingPing // the question at the known address; nil if it does not matter
	claimed  *pendingPing // the question at the claimed address
	due      instant      // when the silence counts

	held     bool  // the known address answered
	answered bool  // the claimed address answered
	asking   *Node // who is being asked for its own address in a full exchange
}

// addressCheck is what is remembered of claims to the name of a member.
type addressCheck struct {
	running *claim // nil if none is being checked

	refused   instant        // when the last claim was refused, 0 = never
	refusedAt netip.AddrPort // the address that was claimed
	conflict  bool           // it was refused since both addresses answered
	twoFound  instant        // last time full exchanges found two nodes of the name

	moved  instant // when the node moved, 0 = never
	former uint32  // what its incarnation was before that
}

func (m *member) addressCheck() *addressCheck {
	file := m.remember()
	if file.address == nil {
		file.address = new(addressCheck)
	}
	return file.address
}

// nameIsFree reports whether a node at another address may have the name of m
// whatever there is at the old one.
func (c *core) nameIsFree(now instant, m *member) bool {
	reclaim := c.cfg.DeadNodeReclaimTime
	return m.state() == StateLeft ||
		m.state() == StateDead && reclaim > 0 && now.sub(m.since) > reclaim
}

// checkClaim handles an alive message about m at another address. There is one check
// of a name at a time, and after a claim was refused, a pause before the same one is
// checked again.
func (c *core) checkClaim(now instant, m *member, a *alive) {
	check := m.addressCheck()
	switch {
	case check.running != nil:
		check.running.renew(a)
	case !c.refusedLately(now, m, a):
		c.beginClaim(now, m, a)
	case check.conflict:
		c.conflict(m, a)
	}
}

// renew takes over a newer word of the same claim.
func (k *claim) renew(a *alive) {
	if a.Incarnation > k.said.Incarnation && k.claimant.at(a.Addr, a.Port) {
		k.said = a.clone()
	}
}

// refusedLately reports whether the same claim was refused a short time ago. Two nodes
// of one name stay that for a while. Old news can come true soon: a node can move
// back.
func (c *core) refusedLately(now instant, m *member, a *alive) bool {
	check := m.addressCheck()
	if check.refused == 0 || m.gone() || check.refusedAt != addrPortOf(a.Addr, a.Port) {
		return false
	}
	pauses := now.sub(check.refused) / c.tellingPause()
	return pauses < 1 || check.conflict && pauses < 10
}

// claimPings is how often a ping of a check is sent.
const claimPings = 4

// beginClaim asks for the name at both addresses. This node itself need not be asked
// whether it is where it is, nor a name that is free whether it is still in use.
func (c *core) beginClaim(now instant, m *member, a *alive) {
	timeout := c.answerTime()
	k := &claim{
		m: m, said: a.clone(),
		claimant: newNode(m.node.Name, a.Addr, a.Port, a.Meta, a.Vsn, StateAlive),
	}
	m.addressCheck().running = k
	if m != c.self && !c.nameIsFree(now, m) {
		k.known = c.askForName(now, k, m.node)
		k.known.m = m
		c.inquire(now, k.known, timeout)
	}
	k.claimed = c.askForName(now, k, k.claimant)
	c.tryStream(now, k.claimed, timeout)
	c.setDue(k, now.add(timeout))
}

// setDue sets the time until which answers are awaited.
func (c *core) setDue(k *claim, at instant) {
	k.due = at
	c.alarms.push(alarm{at: at, kind: alarmClaim, m: k.m})
	for _, p := range []*pendingPing{k.known, k.claimed} {
		if p != nil { // it is forgotten then if the member was reaped
			c.alarms.push(alarm{at: at, kind: alarmPing, seq: p.seq})
		}
	}
}

// askForName pings a node by name, for the first time.
func (c *core) askForName(now instant, k *claim, n *Node) *pendingPing {
	p := c.newPing(now, pingClaim, c.answerTime()/claimPings)
	p.node, p.claim = n, k
	p.inquiry.msg = c.pingMessage(p.seq, n.Name)
	c.sendForName(p)
	return p
}

func (c *core) sendForName(p *pendingPing) {
	c.fx.packets = append(c.fx.packets, outPacket{
		to: toNode(p.node), msg: p.inquiry.msg, urgent: urgentProbe, seq: p.seq,
	})
}

// claimOverdue repeats a ping of a check until that is due.
func (c *core) claimOverdue(now instant, p *pendingPing) {
	switch k := p.claim; {
	case !k.open():
		delete(c.pings, p.seq)
	case now < k.due:
		c.sendForName(p)
		c.alarms.push(alarm{at: now.add(c.answerTime() / claimPings), kind: alarmPing, seq: p.seq})
	}
}

// open reports whether the check has not ended and its member was not reaped.
func (k *claim) open() bool {
	check := k.m.past().address
	return check != nil && check.running == k
}

// claimAnswered takes in that the name was found at one of the addresses.
func (c *core) claimAnswered(now instant, p *pendingPing) {
	k := p.claim
	if !k.open() {
		return
	}
	if p == k.known {
		k.held = true
	} else {
		k.answered = true
	}
	switch {
	case !k.answered:
	case k.held, k.m == c.self:
		c.askForAddress(now, k)
	case k.known == nil:
		c.concede(now, k)
	}
}

// claimDue judges by the answers that have come.
func (c *core) claimDue(now instant, m *member) {
	check := m.past().address
	if check == nil || check.running == nil || now < check.running.due || check.running.asking != nil {
		return
	}
	k := check.running
	if late := now.sub(k.due); late > c.moment() && !c.cfg.Detector.NoStallGuard {
		c.setDue(k, now.add(c.moment())) // the answers may wait to be read
		return
	}
	switch {
	case k.answered:
		c.concede(now, k)
	case m == c.self:
		c.succeed(now, k)
	default:
		c.refuseClaim(now, k, false)
	}
}

// closeClaim ends a check.
func (c *core) closeClaim(k *claim) {
	delete(c.pings, k.claimed.seq)
	if k.known != nil {
		delete(c.pings, k.known.seq)
	}
	k.m.addressCheck().running = nil
}

// concede takes over the new address, unless m was reaped or moved meanwhile.
func (c *core) concede(now instant, k *claim) {
	c.closeClaim(k)
	m := k.m
	asked := k.known == nil || m.node.at(k.known.node.Addr, k.known.node.Port)
	if c.table.get(k.claimant.Name) != m || !asked || m.node.at(k.said.Addr, k.said.Port) {
		return
	}
	c.move(now, m, k.said, nil)
}

// refuseClaim keeps the known address. If nobody at all answered, the next word of the
// claim is checked at once.
func (c *core) refuseClaim(now instant, k *claim, conflict bool) {
	c.closeClaim(k)
	if !k.held && !k.answered {
		return
	}
	check := k.m.addressCheck()
	check.refused, check.conflict = max(now, 1), conflict
	check.refusedAt = addrPortOf(k.said.Addr, k.said.Port)
	if conflict {
		c.conflict(k.m, k.said)
	}
}

// succeed handles a word about this node at another address where it is not: it is
// about a process of the name that this one has followed. Newer news than the own are
// overruled, so that nothing that is said of the old one counts against the new one.
func (c *core) succeed(now instant, k *claim) {
	c.closeClaim(k)
	if !c.leaving && k.said.Incarnation >= c.self.incarnation && c.mayRefute(now, k.said.Incarnation) {
		c.refute(now, k.said.Incarnation)
	}
}

// askForAddress finds out, after the name was found at both addresses, whether that
// is one node. It takes full exchanges, and everybody would make them with the two: so
// they are not made again before the periodic one would be due.
func (c *core) askForAddress(now instant, k *claim) {
	check := k.m.addressCheck()
	pause := pushPullWait(max(c.cfg.PushPullInterval, 10*time.Second), len(c.table.order))
	if check.twoFound != 0 && now.sub(check.twoFound) < pause {
		c.refuseClaim(now, k, true)
		return
	}
	c.exchangeWith(k, k.claimant)
}

func (c *core) exchangeWith(k *claim, n *Node) {
	k.asking = n
	c.fx.streams = append(c.fx.streams, streamTask{kind: streamIdentify, node: n, timeout: 2 * c.answerTime()})
}

// identified takes in which address a node gives itself that was asked for it; none
// if it could not be asked.
func (c *core) identified(now instant, asked *Node, own netip.AddrPort) {
	m := c.table.get(asked.Name)
	if m == nil || m.past().address == nil {
		return
	}
	k := m.past().address.running
	if k == nil || k.asking != asked {
		return
	}
	k.asking = nil
	isClaimed := own == addrPortOf(k.said.Addr, k.said.Port)
	switch {
	case !own.IsValid():
		c.refuseClaim(now, k, true)
	case !isClaimed && m == c.self:
		c.succeed(now, k) // the transport finds nodes by name, and has found this one
	case !isClaimed && asked == k.claimant:
		c.refuseClaim(now, k, false)
	case isClaimed && asked != k.claimant:
		c.concede(now, k)
	case asked == k.claimant && m != c.self:
		c.exchangeWith(k, k.known.node)
	default:
		m.addressCheck().twoFound = max(now, 1)
		c.refuseClaim(now, k, true)
	}
}

// forsakeProbe ends a probe of m without a verdict, and drops an accusation of it that
// waits for its alibi: m has moved, and its silence was that of another process.
func (c *core) forsakeProbe(now instant, m *member) {
	if c.accusing.m == m {
		c.accusing = accusation{}
	}
	if p := c.probing.ping; p != nil && p.m == m {
		delete(c.pings, p.seq)
		c.endProbe(now)
	}
}

// aboutFormer reports whether an accusation with this incarnation, soon after m moved,
// is about the process that was at the old address: the new one starts from 1 again,
// until it hears of that and refutes it.
func (c *core) aboutFormer(now instant, m *member, incarnation uint32) bool {
	check := m.past().address
	return check != nil && check.moved != 0 && !m.gone() &&
		incarnation <= check.former && now.sub(check.moved) < c.shortestSuspicion()
}

// clone is a copy that does not borrow from the packet.
func (m *alive) clone() *alive {
	return &alive{
		Incarnation: m.Incarnation, Node: borrow(m.Node.own()), Addr: bytes.Clone(m.Addr),
		Port: m.Port, Meta: bytes.Clone(m.Meta), Vsn: bytes.Clone(m.Vsn),
	}
}
