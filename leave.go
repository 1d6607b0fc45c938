package memberlist

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

// departures is the Leave of this node: what of it is still to be told, and to whom.
type departures struct {
	*common
	pings       *pings
	packetsFail func(now instant) bool // no packet has been answered for long
	running     *departure             // nil if nobody waits
}

func newDepartures(c *common, p *pings, packetsFail func(now instant) bool) departures {
	return departures{common: c, pings: p, packetsFail: packetsFail}
}

// awaited is closed when the departure has provably arrived; nil if nobody waits any more.
func (l *departures) awaited() <-chan struct{} {
	if l.running != nil && !l.running.givenUp {
		return l.running.done
	}
	return nil
}

// begin tells others of this node's departure, which has just been gossiped as msg. The
// channel is closed when it has provably arrived; nil if there is nobody to tell. The
// pings that carry it go out one gossip interval later, so that they do not overtake a
// user broadcast of the same intent that has just gone out.
func (l *departures) begin(now instant, msg []byte) <-chan struct{} {
	if l.table.live() == 0 {
		l.tellDeparting(now)
		return nil
	}
	first := now.add(max(l.cfg.GossipInterval, 0))
	l.running = &departure{
		msg: msg, state: l.departureState(), notices: make(map[*member]*notice),
		turn: 1, next: first, done: make(chan struct{}),
	}
	l.timers.set(first, (*departureTimer)(l))
	return l.running.done
}

// departureState is a push/pull whose only entry is this node, which has left (W90).
func (l *departures) departureState() []byte {
	header := pushPullHeader{Nodes: 1}
	self := nodeRecord{node: l.self.node, incarnation: l.self.incarnation}
	return self.appendTo(header.appendTo(nil))
}

// spread tells members that have not confirmed the departure, until enough
// have. Those that have let their time pass are called on a stream as well (P192).
func (l *departures) spread(now instant) {
	d := l.running
	if d == nil {
		return
	}
	d.early = false
	if l.proved(now) {
		return
	}
	confirmed, _, awaited := d.count(now.add(-l.answerTime()))
	wanted := departureProofs - confirmed - awaited
	if now < d.next {
		l.tellMembers(now, wanted)
		return
	}
	l.tellByStream(now)
	if d.waves > 0 && l.departing(now) > 0 {
		wanted = min(wanted<<d.waves, departureWave)
	}
	if l.tellMembers(now, wanted) == 0 && wanted > 0 { // all have been asked: once more
		d.turn++
		l.tellMembers(now, wanted)
	}
	d.waves = min(d.waves+1, 8)
	d.next = now.add(l.answerTime())
	l.timers.set(d.next, (*departureTimer)(l))
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

// tellMembers pings up to k members that have not been asked in this turn, and
// returns how many those are. It calls them at once where packets seem to get lost, or
// others were found gone (P192).
func (l *departures) tellMembers(now instant, k int) int {
	d := l.running
	targets := l.choose(k, func(m *member) bool {
		n := d.notices[m]
		return !m.gone() && m != l.self && (n == nil || !n.acked && !n.absent && n.turn < d.turn)
	})
	for _, m := range targets {
		n := d.notices[m]
		if n == nil {
			n = new(notice)
			d.notices[m] = n
		}
		n.turn, n.pinged = d.turn, now
		l.pingWithDeparture(now, m)
		if d.empty || l.packetsFail(now) {
			l.tellOneByStream(m, n)
		}
	}
	return len(targets)
}

// departurePing is a ping that carries the departure.
type departurePing struct {
	pendingPing
	departure *departure
	all       *departures
}

func (l *departures) pingWithDeparture(now instant, m *member) {
	p := &departurePing{departure: l.running, all: l}
	p.m = m
	l.pings.register(now, &p.pendingPing, p)
	p.setTimer(now.add(4 * l.answerTime()))
	msg := appendCompound(nil, [][]byte{p.message(m.node.Name), l.running.msg})
	l.send(outPacket{
		to: toNode(m.node), msg: msg, urgent: urgentProbe,
	})
}

// tellByStream calls the members on a stream that have not confirmed in time (P193).
func (l *departures) tellByStream(now instant) {
	timeout := l.answerTime()
	for m, n := range l.running.notices {
		late := now.sub(n.pinged) >= timeout && (n.called == 0 || now.sub(n.called) >= timeout)
		if late && !m.gone() && !n.acked && !n.absent {
			l.tellOneByStream(m, n)
		}
	}
}

// tellOneByStream tells a member of the departure on a stream.
func (l *departures) tellOneByStream(m *member, n *notice) {
	d := l.running
	if n.calling || d.givenUp || d.calls >= departureCalls {
		return
	}
	n.calling = true
	d.calls++
	l.openStream(streamTask{
		kind: streamLeave, node: m.node, timeout: 3 * l.answerTime(), departure: d, notice: n,
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
func (l *departures) callEnded(now instant, t *streamTask, outcome callOutcome) {
	d, n := t.departure, t.notice
	n.calling, n.called = false, now
	d.calls--
	if d != l.running {
		return
	}
	switch outcome {
	case callHeard:
		n.acked = true
	case callRefused:
		n.absent, d.empty = true, true
	case callSilent:
		_, settled, _ := d.count(now)
		n.absent = n.absent || l.departing(now) >= l.table.live()-settled
	}
	l.hurry(now)
}

// acked counts a member that acked the ping with the departure.
func (p *departurePing) acked(now instant, _ []byte, _ instant) {
	l := p.all
	if l.running == nil || p.departure != l.running {
		return // of an earlier Leave
	}
	l.running.notices[p.m].acked = true
	l.proved(now)
}

// proved wakes the caller of Leave if enough members know.
func (l *departures) proved(now instant) bool {
	d := l.running
	confirmed, settled, _ := d.count(now)
	if confirmed < departureProofs && settled < l.table.live() {
		return false
	}
	l.running = nil
	l.tellDeparting(now)
	l.fx.signals = append(l.fx.signals, d.done)
	return true
}

// hurry looks again at a departure, after a member has left or died.
func (l *departures) hurry(now instant) {
	d := l.running
	if d == nil || d.early || d.waves == 0 {
		return
	}
	d.early = true
	l.timers.set(now, (*departureTimer)(l))
}

// isDeparting reports whether m has left so recently that its Leave may still wait.
func (l *departures) isDeparting(now instant, m *member) bool {
	return m.state() == StateLeft && m != l.self && now.sub(m.since) <= leaveLimit
}

// departing is the number of members that are leaving as well.
func (l *departures) departing(now instant) int {
	return len(l.filter(func(m *member) bool { return l.isDeparting(now, m) }))
}

// tellDeparting tells the members that are leaving as well of this node's departure, so
// that they do not wait for this node, which may be shut down next (P194).
func (l *departures) tellDeparting(now instant) {
	for _, m := range l.choose(maxDeparting, func(m *member) bool { return l.isDeparting(now, m) }) {
		l.send(outPacket{to: toNode(m.node), msg: l.departureMessage(), urgent: urgentProbe})
	}
}

// giveUp lets later calls of Leave return at once (P23). The departure
// goes on spreading.
func (l *departures) giveUp(now instant) {
	if l.running != nil {
		l.running.givenUp = true
		l.tellDeparting(now)
	}
}

// departureTimer tells more members of the departure of this node.
type departureTimer departures

func (t *departureTimer) expire(now instant) { (*departures)(t).spread(now) }

func (*departureTimer) stale() bool { return false }
