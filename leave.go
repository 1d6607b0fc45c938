package memberlist

import "time"

// departure is a Leave that somebody waits for. The dead message about this
// node goes out by gossip as any other; besides, it rides on pings to a few
// members, whose acks prove that it arrived. Those that do not acknowledge get it on
// a stream.
//
// When everybody leaves at once, the members that are asked may leave themselves, and
// be shut down before they answer. So only those that stay count as proofs; those
// whose own departure has been heard, and those where nobody is any more, need not
// know; and before Leave returns, it tells those who are leaving as well.
type departure struct {
	msg     []byte              // the dead message
	state   []byte              // the same as a push/pull of one entry
	notices map[*member]*notice // members that were told
	turn    int                 // how often all have been asked
	waves   int                 // how often the answers of some were not awaited longer
	next    instant             // when the time of those that were asked last is over
	early   bool                // there is reason to go on before
	calls   int                 // open streams
	empty   bool                // where a member was expected nobody is any more
	done    chan struct{}

	givenUp bool // a caller's time ran out (P23)
}

// notice is what came of telling one member.
type notice struct {
	turn    int
	pinged  instant // last time
	acked   bool    // it has confirmed
	absent  bool    // nobody is there to confirm
	calling bool    // a stream to it is open
	called  instant // when the last stream ended, 0 = none did
}

const (
	// departureProofs is how many members that stay must provably know of a
	// departure before Leave returns; all of them if there are fewer (P22).
	departureProofs = 3

	// departureWave bounds how many are asked at one time, and departureCalls the
	// streams that are open at one time.
	departureWave  = 16
	departureCalls = 32

	// maxDeparting bounds the members that are leaving as well and told of the own
	// departure at the end.
	maxDeparting = 32
)

// leave announces the own departure (P21). The channel is closed when it has
// provably arrived; nil if there is nobody to tell or nothing to wait for. The
// pings that carry it go out one gossip interval later, so that they do not
// overtake a user broadcast of the same intent that has just gone out.
func (c *core) leave(now instant) <-chan struct{} {
	if c.hasLeft() {
		if c.departure != nil && !c.departure.givenUp {
			return c.departure.done
		}
		return nil
	}
	msg := c.departureMessage()
	c.gossip.broadcast(c.self.node.Name, msg, nil)
	c.markGone(now, c.self, c.self.incarnation, StateLeft, c.self.node.Name)
	if c.table.live() == 0 {
		c.tellDeparting(now)
		return nil
	}
	first := now.add(max(c.cfg.GossipInterval, 0))
	c.departure = &departure{
		msg: msg, state: c.departureState(), notices: make(map[*member]*notice),
		turn: 1, next: first, done: make(chan struct{}),
	}
	c.timers.set(first, (*departureTimer)(c))
	return c.departure.done
}

func (c *core) departureMessage() []byte {
	name := borrow(c.self.node.Name)
	d := dead{Incarnation: c.self.incarnation, Node: name, From: name}
	return d.appendTo(nil)
}

// departureState is a push/pull whose only entry is this node, which has left (W90).
func (c *core) departureState() []byte {
	header := pushPullHeader{Nodes: 1}
	self := nodeRecord{node: c.self.node, incarnation: c.self.incarnation}
	return self.appendTo(header.appendTo(nil))
}

// spreadDeparture tells members that have not confirmed the departure, until enough
// have. Those that have let their time pass are called on a stream as well (P192).
func (c *core) spreadDeparture(now instant) {
	d := c.departure
	if d == nil {
		return
	}
	d.early = false
	if c.departureProved(now) {
		return
	}
	confirmed, _, awaited := d.count(now.add(-c.departureAckTimeout()))
	wanted := departureProofs - confirmed - awaited
	if now < d.next {
		c.tellMembers(now, wanted)
		return
	}
	c.tellByStream(now)
	if d.waves > 0 && c.departing(now) > 0 {
		wanted = min(wanted<<d.waves, departureWave)
	}
	if c.tellMembers(now, wanted) == 0 && wanted > 0 { // all have been asked: once more
		d.turn++
		c.tellMembers(now, wanted)
	}
	d.waves = min(d.waves+1, 8)
	d.next = now.add(c.departureAckTimeout())
	c.timers.set(d.next, (*departureTimer)(c))
}

// count counts the members that were told and are still here: how many have
// confirmed, how many need not be asked again, and how many were asked after a time
// and may yet confirm.
func (d *departure) count(after instant) (confirmed, settled, awaited int) {
	for m, n := range d.notices {
		switch {
		case m.gone():
		case n.acked:
			confirmed++
			settled++
		case n.absent:
			settled++
		case n.pinged > after:
			awaited++
		}
	}
	return confirmed, settled, awaited
}

// departureAckTimeout is how long one member may take to confirm before another is
// asked as well.
func (c *core) departureAckTimeout() time.Duration {
	if c.cfg.ProbeTimeout > 0 {
		return c.cfg.ProbeTimeout
	}
	return 500 * time.Millisecond
}

// tellMembers pings up to k members that have not been asked in this turn, and
// returns how many those are. It calls them at once where packets seem to get lost, or
// others were found gone (P192).
func (c *core) tellMembers(now instant, k int) int {
	d := c.departure
	targets := c.choose(k, func(m *member) bool {
		n := d.notices[m]
		return !m.gone() && m != c.self && (n == nil || !n.acked && !n.absent && n.turn < d.turn)
	})
	for _, m := range targets {
		n := d.notices[m]
		if n == nil {
			n = new(notice)
			d.notices[m] = n
		}
		n.turn, n.pinged = d.turn, now
		c.pingWithDeparture(now, m)
		if d.empty || c.selfCheck.packetsFail(now) {
			c.tellOneByStream(m, n)
		}
	}
	return len(targets)
}

// departurePing is a ping that carries the departure.
type departurePing struct {
	pendingPing
	departure *departure
	core      *core
}

func (c *core) pingWithDeparture(now instant, m *member) {
	p := &departurePing{departure: c.departure, core: c}
	p.m = m
	c.pings.register(now, &p.pendingPing, p)
	p.setTimer(now.add(4 * c.departureAckTimeout()))
	msg := appendCompound(nil, [][]byte{p.message(m.node.Name), c.departure.msg})
	c.send(outPacket{
		to: toNode(m.node), msg: msg, urgent: urgentProbe,
	})
}

// tellByStream calls the members on a stream that have not confirmed in time (P193).
func (c *core) tellByStream(now instant) {
	timeout := c.departureAckTimeout()
	for m, n := range c.departure.notices {
		late := now.sub(n.pinged) >= timeout && (n.called == 0 || now.sub(n.called) >= timeout)
		if late && !m.gone() && !n.acked && !n.absent {
			c.tellOneByStream(m, n)
		}
	}
}

// tellOneByStream tells a member of the departure on a stream.
func (c *core) tellOneByStream(m *member, n *notice) {
	d := c.departure
	if n.calling || d.givenUp || d.calls >= departureCalls {
		return
	}
	n.calling = true
	d.calls++
	c.openStream(streamTask{
		kind: streamLeave, node: m.node, timeout: 3 * c.departureAckTimeout(), departure: d, notice: n,
	})
}

// callOutcome is how a departure fared on a stream.
type callOutcome uint8

const (
	callFailed callOutcome = iota // somebody is there, but did not take it
	callHeard
	callRefused // nobody listens there any more
	callSilent
)

// callEnded takes in how the departure fared on a stream. Where the connection was
// refused nobody is left to be told. Silence means that only when at least as many have
// just left as there are members silent: else the fault may be here (P194).
func (c *core) callEnded(now instant, t *streamTask, outcome callOutcome) {
	d, n := t.departure, t.notice
	n.calling, n.called = false, now
	d.calls--
	if d != c.departure {
		return
	}
	switch outcome {
	case callHeard:
		n.acked = true
	case callRefused:
		n.absent, d.empty = true, true
	case callSilent:
		_, settled, _ := d.count(now)
		n.absent = n.absent || c.departing(now) >= c.table.live()-settled
	}
	c.hurryDeparture(now)
}

// acked counts a member that acked the ping with the departure.
func (p *departurePing) acked(now instant, _ []byte, _ instant) {
	c := p.core
	if c.departure == nil || p.departure != c.departure {
		return // of an earlier Leave
	}
	c.departure.notices[p.m].acked = true
	c.departureProved(now)
}

// departureProved wakes the caller of Leave if enough members know.
func (c *core) departureProved(now instant) bool {
	d := c.departure
	confirmed, settled, _ := d.count(now)
	if confirmed < departureProofs && settled < c.table.live() {
		return false
	}
	c.departure = nil
	c.tellDeparting(now)
	c.fx.signals = append(c.fx.signals, d.done)
	return true
}

// hurryDeparture looks again at a departure, after a member has left or died.
func (c *core) hurryDeparture(now instant) {
	d := c.departure
	if d == nil || d.early || d.waves == 0 {
		return
	}
	d.early = true
	c.timers.set(now, (*departureTimer)(c))
}

// isDeparting reports whether m has left so recently that its Leave may still wait.
func (c *core) isDeparting(now instant, m *member) bool {
	return m.state() == StateLeft && m != c.self && now.sub(m.since) <= leaveLimit
}

// departing is the number of members that are leaving as well.
func (c *core) departing(now instant) int {
	return len(c.filter(func(m *member) bool { return c.isDeparting(now, m) }))
}

// tellDeparting tells the members that are leaving as well of the own departure, so
// that they do not wait for this node, which may be shut down next (P194).
func (c *core) tellDeparting(now instant) {
	for _, m := range c.choose(maxDeparting, func(m *member) bool { return c.isDeparting(now, m) }) {
		c.send(outPacket{to: toNode(m.node), msg: c.departureMessage(), urgent: urgentProbe})
	}
}

// giveUpDeparture lets later calls of Leave return at once (P23). The departure
// goes on spreading.
func (c *core) giveUpDeparture(now instant) {
	if c.departure != nil {
		c.departure.givenUp = true
		c.tellDeparting(now)
	}
}

// departureTimer tells more members of the departure of this node.
type departureTimer core

func (t *departureTimer) expire(now instant) { (*core)(t).spreadDeparture(now) }

func (*departureTimer) stale() bool { return false }
