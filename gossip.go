package memberlist

import (
	"math/rand/v2"
	"slices"
)

// dissemination spreads what this node knows: broadcasts by gossip, a few at a time, and
// all of its table by push/pull.
//
// While there is nothing to say, gossip sleeps: rounds of no use are most of what wakes
// an idle node up. With a Delegate it never sleeps, for only asking tells what that has
// to say.
type dissemination struct {
	*common
	queue  *TransmitLimitedQueue // broadcasts about members (P84)
	memory []byte                // the piece of memory that broadcasts are written to

	turns     gossipTurns
	nextRound instant // a period after the last round of gossip
	asleep    bool

	syncing bool    // a periodic push/pull is on its way
	doubted *member // one whose record may have been led away, to ask it
}

func newDissemination(c *common) dissemination {
	queue := &TransmitLimitedQueue{
		NumNodes:       func() int { return int(c.table.view.known.Load()) },
		RetransmitMult: c.cfg.RetransmitMult,
		sendsAlone:     true,
	}
	if c.cfg.RetransmitMult > 1 {
		queue.least = leastSends
	}
	return dissemination{common: c, queue: queue}
}

// start sets the first timers.
func (d *dissemination) start(now instant) {
	if d.cfg.GossipInterval > 0 && d.cfg.GossipNodes > 0 {
		d.timers.set(d.withinPeriod(now, d.cfg.GossipInterval), (*gossipTimer)(d))
	}
	if d.cfg.PushPullInterval > 0 {
		wait := pushPullWait(d.cfg.PushPullInterval, len(d.table.order))
		d.timers.set(d.withinPeriod(now, d.cfg.PushPullInterval).add(wait), (*syncTimer)(d))
	}
}

// broadcast queues a message for gossip. It replaces an older one of the same name. done,
// if not nil, is called when it has been sent often enough or was replaced.
func (d *dissemination) broadcast(name string, msg []byte, done func()) {
	d.queue.queueNamed(name, msg, whenDone(done))
}

// gossipAlive gossips an alive message on, as the bytes it came in as if there are any
// (P101).
func (d *dissemination) gossipAlive(name string, a *alive, raw []byte) {
	if raw == nil {
		const fixed = 64 // keys, numbers, versions
		raw = a.appendTo(d.alloc(fixed + a.Node.len() + len(a.Addr) + len(a.Meta)))
	} else {
		raw = append(d.alloc(len(raw)), raw...)
	}
	d.broadcast(name, raw, nil)
	d.fx.metrics.alive++
}

// encodable is a message that is encoded when it did not come in its canonical form.
type encodable interface{ appendTo([]byte) []byte }

// gossipMessage gossips a message about name on, as the bytes it came in as if there are
// any.
func (d *dissemination) gossipMessage(name string, raw []byte, m encodable) {
	if raw == nil {
		raw = m.appendTo(nil)
	} else {
		raw = append(d.alloc(len(raw)), raw...)
	}
	d.broadcast(name, raw, nil)
}

// alloc is memory for a message of that many bytes. Messages that come one after the other
// share a piece: they leave the queue at about the same time, and that is a tenth of the
// allocations.
func (d *dissemination) alloc(size int) []byte {
	const piece = 1 << 10
	if size > piece/4 {
		return make([]byte, 0, size)
	}
	if cap(d.memory)-len(d.memory) < size {
		d.memory = make([]byte, 0, piece)
	}
	from := len(d.memory)
	d.memory = d.memory[:from+size]
	return d.memory[from : from : from+size]
}

// gossipTurns is the order in which nodes are sent gossip, round after round. It is
// random, and stays as it is while there is something to say: what is sent k times in a
// row reaches k different nodes, and in a small cluster all of them.
type gossipTurns struct {
	order []*member
	next  int
	stale bool // to be shuffled as soon as nothing is queued
}

// add gives a new node its turn at a random moment of what is left of this pass.
func (g *gossipTurns) add(rng *rand.Rand, m *member) {
	g.order = append(g.order, m)
	last := len(g.order) - 1
	place := min(g.next, last)
	place += rng.IntN(len(g.order) - place)
	g.order[place], g.order[last] = g.order[last], g.order[place]
}

// nextForGossip are the next nodes, up to k, that gossip goes to.
func (d *dissemination) nextForGossip(now instant, k int) []*member {
	g := &d.turns
	var chosen []*member
	for range len(g.order) {
		if g.next >= len(g.order) {
			d.beginTurns()
		}
		m := g.order[g.next]
		g.next++
		if !d.gossipsTo(now, m) || slices.Contains(chosen, m) {
			continue
		}
		if chosen = append(chosen, m); len(chosen) == k {
			break
		}
	}
	return chosen
}

// reaped gives up the turns of nodes that are not in the table any more. The next pass
// that begins while nothing is queued has another order. It is called where nodes are
// forgotten, since there may never be another round of gossip.
func (d *dissemination) reaped() {
	g := &d.turns
	forgotten := func(m *member) bool { return !d.table.holds(m) }
	passed := slices.DeleteFunc(slices.Clone(g.order[:g.next]), forgotten)
	g.order = slices.DeleteFunc(g.order, forgotten)
	g.next, g.stale = len(passed), true
}

// beginTurns begins the next pass.
func (d *dissemination) beginTurns() {
	g := &d.turns
	g.next = 0
	if g.stale && d.queue.NumQueued() == 0 {
		g.stale = false
		d.rng.Shuffle(len(g.order), func(i, j int) { g.order[i], g.order[j] = g.order[j], g.order[i] })
	}
}

// gossipDue lets the queued broadcasts go to the next few members (P69, P70). What
// each of them gets is drawn when the packet is made.
func (d *dissemination) gossipDue(now instant) {
	d.nextRound = now.add(jitter(d.rng, d.cfg.GossipInterval))
	if d.cfg.Delegate == nil && d.queue.NumQueued() == 0 {
		d.asleep = true
		return
	}
	d.timers.set(d.nextRound, (*gossipTimer)(d))
	if d.cfg.NodeSelection != nil {
		d.fx.selectGossip = true
		return
	}
	for _, m := range d.nextForGossip(now, d.cfg.GossipNodes) {
		d.fx.gossip = append(d.fx.gossip, m.node)
	}
}

// wake sets the time of the next round when there is something to say again. It is as if the rounds had gone on (P41): none comes sooner than a period after
// the last, and after a longer pause it comes at a random moment of the period, so
// that nodes that hear the same news do not pass it on in step (P42).
func (d *dissemination) wake(now instant) {
	if !d.asleep || d.queue.NumQueued() == 0 {
		return
	}
	d.asleep = false
	at := d.nextRound
	if at <= now {
		at = d.withinPeriod(now, d.cfg.GossipInterval)
	}
	d.timers.set(at, (*gossipTimer)(d))
}

// gossipsTo reports whether m is a target of gossip: a member, or one that died
// a short while ago and may be mistaken for dead (P69).
func (d *dissemination) gossipsTo(now instant, m *member) bool {
	switch m.state() {
	case StateAlive, StateSuspect:
		return m != d.self
	case StateDead:
		return m != d.self && now.sub(m.since) <= d.cfg.GossipToTheDeadTime
	}
	return false
}

// syncDue asks for a full exchange with a random member (P115), or with more of
// them as PushPullNodes says (P154).
func (d *dissemination) syncDue(now instant) {
	wait := pushPullWait(d.cfg.PushPullInterval, len(d.table.order))
	d.timers.set(now.add(jitter(d.rng, wait)), (*syncTimer)(d))
	if d.syncing {
		return
	}
	if d.cfg.NodeSelection != nil {
		d.syncing = true
		d.openStream(streamTask{kind: streamSync})
		return
	}
	partners := d.choose(max(d.cfg.PushPullNodes, 1), d.syncsWith)
	if m := d.takeDoubted(); m != nil && len(partners) > 0 {
		partners[0] = m
	}
	for _, m := range partners {
		d.syncing = true
		d.openStream(streamTask{kind: streamSync, node: m.node})
	}
}

// syncEnded tells that the exchanges of a push/pull have been made.
func (d *dissemination) syncEnded() { d.syncing = false }

// doubt notes that somebody says of a member in good standing that it is alive with an
// incarnation far from the record. One of the two was made up; the member can tell.
func (d *dissemination) doubt(m *member, incarnation uint32) {
	if far(incarnation, m.incarnation) && m != d.self && m.state() == StateAlive {
		d.doubted = m
	}
}

// doubtShare bounds the full exchanges with a member in doubt: about that many nodes of a
// cluster make one with it in an interval, and no node more than half of its own. So no
// member is flooded, and no node is kept away from the others.
const doubtShare = 16

// takeDoubted is the member in doubt, if this exchange is to be made with it; else nil (P163).
func (d *dissemination) takeDoubted() *member {
	m := d.doubted
	if m == nil || d.rng.IntN(max(2, d.table.live()/doubtShare)) > 0 {
		return nil
	}
	d.doubted = nil
	if !d.syncsWith(m) {
		return nil
	}
	return m
}

// gossipTimer begins a gossip round.
type gossipTimer dissemination

func (t *gossipTimer) expire(now instant) { (*dissemination)(t).gossipDue(now) }

func (*gossipTimer) stale() bool { return false }

// syncTimer begins a push/pull.
type syncTimer dissemination

func (t *syncTimer) expire(now instant) { (*dissemination)(t).syncDue(now) }

func (*syncTimer) stale() bool { return false }
