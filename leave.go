package memberlist

import "time"

// departure is a Leave that somebody waits for. The dead message about this
// node goes out by gossip as any other; besides, it rides on pings to a few
// members, whose acks prove that it arrived.
type departure struct {
	msg   []byte
	heard map[*member]bool // members that provably know
	asked map[*member]bool // members that were pinged in this turn
	done  chan struct{}

	givenUp bool // a caller's time ran out (P23)
}

// departureProofs is how many members must provably know of a departure before
// Leave returns; all of them if there are fewer.
const departureProofs = 3

// leave announces the own departure (P21). The channel is closed when it has
// provably arrived; nil if there is nobody to tell or nothing to wait for. The
// pings that carry it go out one gossip interval later, so that they do not
// overtake a user broadcast of the same intent that has just gone out.
func (c *core) leave(now instant) <-chan struct{} {
	if c.leaving {
		if c.departure != nil && !c.departure.givenUp {
			return c.departure.done
		}
		return nil
	}
	c.leaving = true
	name := c.self.node.Name
	d := dead{Incarnation: c.self.incarnation, Node: borrow(name), From: borrow(name)}
	msg := d.appendTo(nil)
	c.broadcast(name, msg, nil)
	c.bury(now, c.self, d.Incarnation, StateLeft, name)
	if c.table.live() == 0 {
		return nil
	}
	c.departure = &departure{
		msg: msg, heard: make(map[*member]bool), asked: make(map[*member]bool),
		done: make(chan struct{}),
	}
	c.alarms.push(alarm{at: now.add(max(c.cfg.GossipInterval, 0)), kind: alarmLeave})
	return c.departure.done
}

// returning takes back an earlier Leave: the node may announce itself again,
// with an incarnation above all that was said about it.
func (c *core) returning() {
	c.leaving = false
	c.departure = nil
	c.incarnation = max(c.incarnation, c.self.incarnation)
}

// spreadDeparture pings members that have not confirmed the departure, with the
// dead message along, until enough have.
func (c *core) spreadDeparture(now instant) {
	d := c.departure
	if d == nil || c.departureProved() {
		return
	}
	missing := min(departureProofs, c.table.live()) - len(d.heard)
	targets := c.choose(missing, func(m *member) bool {
		return !m.gone() && m != c.self && !d.heard[m] && !d.asked[m]
	})
	if len(targets) == 0 { // all have been asked: once more
		clear(d.asked)
		targets = c.choose(missing, func(m *member) bool {
			return !m.gone() && m != c.self && !d.heard[m]
		})
	}
	for _, m := range targets {
		d.asked[m] = true
		c.pingWithDeparture(now, m)
	}
	c.alarms.push(alarm{at: now.add(c.leavePatience()), kind: alarmLeave})
}

// leavePatience is how long one member may take to confirm before another is
// asked as well.
func (c *core) leavePatience() time.Duration {
	if c.cfg.ProbeTimeout > 0 {
		return c.cfg.ProbeTimeout
	}
	return 500 * time.Millisecond
}

func (c *core) pingWithDeparture(now instant, m *member) {
	p := c.newPing(now, pingLeave, 4*c.leavePatience())
	p.m, p.departure = m, c.departure
	msg := appendCompound(nil, [][]byte{c.pingMessage(p.seq, m.node.Name), c.departure.msg})
	c.fx.packets = append(c.fx.packets, outPacket{
		to: toNode(m.node), msg: msg, urgent: urgentProbe,
	})
}

// departureHeard counts a member that acked the ping with the departure.
func (c *core) departureHeard(p *pendingPing) {
	if c.departure == nil || p.departure != c.departure {
		return // of an earlier Leave
	}
	c.departure.heard[p.m] = true
	c.departureProved()
}

// departureProved wakes the caller of Leave if enough members know.
func (c *core) departureProved() bool {
	d := c.departure
	if len(d.heard) < min(departureProofs, c.table.live()) {
		return false
	}
	c.departure = nil
	c.fx.signals = append(c.fx.signals, d.done)
	return true
}

// giveUpDeparture lets later calls of Leave return at once (P23). The departure
// goes on spreading.
func (c *core) giveUpDeparture() {
	if c.departure != nil {
		c.departure.givenUp = true
	}
}
