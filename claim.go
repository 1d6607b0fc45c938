package memberlist

import "bytes"

// A known name at another address is either the same node, which moved or was
// restarted elsewhere, or a second node of that name. The node at the old address
// can tell: it is pinged by name. If it answers the two are in conflict (P96);
// if not, the new address counts.

// beginClaim asks at the old address of m, and reports whether the claim is being
// checked.
func (c *core) beginClaim(now instant, m *member, a *alive) bool {
	if c.cfg.Detector.NoAddressCheck || c.cfg.DeadNodeReclaimTime > 0 || c.cfg.ProbeTimeout <= 0 {
		return false
	}
	file := m.remember()
	if file.claimed {
		return true
	}
	if file.claimRefused != 0 && now.sub(file.claimRefused) < 10*c.cfg.ProbeInterval {
		return false
	}
	file.claimed = true
	p := c.newPing(now, pingClaim, c.cfg.ProbeTimeout/2)
	p.m, p.node, p.claim = m, m.node, a.clone()
	p.inquiry.msg = c.pingMessage(p.seq, m.node.Name)
	c.sendClaim(p)
	return true
}

func (c *core) sendClaim(p *pendingPing) {
	c.fx.packets = append(c.fx.packets, outPacket{
		to: toNode(p.node), msg: p.inquiry.msg, urgent: urgentProbe, seq: p.seq,
	})
}

// claimOverdue asks a second time, and then takes the new address.
func (c *core) claimOverdue(now instant, p *pendingPing) {
	if !p.again {
		p.again = true
		c.alarms.push(alarm{at: now.add(c.cfg.ProbeTimeout / 2), kind: alarmPing, seq: p.seq})
		c.sendClaim(p)
		return
	}
	delete(c.pings, p.seq)
	p.m.remember().claimed = false
	if c.table.get(p.node.Name) != p.m || p.m.node.at(p.claim.Addr, p.claim.Port) {
		return
	}
	c.move(now, p.m, p.claim, nil)
}

// claimRefused handles an answer from the old address: two nodes claim one name.
func (c *core) claimRefused(now instant, p *pendingPing) {
	p.m.remember().claimed = false
	p.m.remember().claimRefused = max(now, 1)
	c.conflict(p.m, p.claim)
}

// clone is a copy that does not borrow from the packet.
func (m *alive) clone() *alive {
	return &alive{
		Incarnation: m.Incarnation, Node: borrow(m.Node.own()), Addr: bytes.Clone(m.Addr),
		Port: m.Port, Meta: bytes.Clone(m.Meta), Vsn: bytes.Clone(m.Vsn),
	}
}
