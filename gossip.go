package memberlist

import (
	"math/rand/v2"
	"slices"
)

// gossipRounds says when the next gossip round may be. While there is nothing to say
// it sleeps: rounds of no use are most of what wakes an idle node up. With a
// Delegate it never does, for only asking tells what that has to say.
type gossipRounds struct {
	next   instant // a period after the last round
	asleep bool
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
func (c *core) nextForGossip(now instant, k int) []*member {
	g := &c.table.turns
	var chosen []*member
	for range len(g.order) {
		if g.next >= len(g.order) {
			c.beginTurns()
		}
		m := g.order[g.next]
		g.next++
		if !c.gossipsTo(now, m) || slices.Contains(chosen, m) {
			continue
		}
		if chosen = append(chosen, m); len(chosen) == k {
			break
		}
	}
	return chosen
}

// beginTurns begins the next pass, without the nodes that are forgotten.
func (c *core) beginTurns() {
	g := &c.table.turns
	g.next = 0
	known := slices.DeleteFunc(g.order, func(m *member) bool { return c.table.get(m.node.Name) != m })
	g.order = known
	if g.stale && c.queue.NumQueued() == 0 {
		g.stale = false
		c.rng.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	}
}

// gossipDue lets the queued broadcasts go to the next few members (P69, P70). What
// each of them gets is drawn when the packet is made.
func (c *core) gossipDue(now instant) {
	c.gossiping.next = now.add(jitter(c.rng, c.cfg.GossipInterval))
	if c.cfg.Delegate == nil && c.queue.NumQueued() == 0 {
		c.gossiping.asleep = true
		return
	}
	c.timers.set(c.gossiping.next, (*gossipTimer)(c))
	if c.cfg.NodeSelection != nil {
		c.fx.selectGossip = true
		return
	}
	for _, m := range c.nextForGossip(now, c.cfg.GossipNodes) {
		c.fx.gossip = append(c.fx.gossip, m.node)
	}
}

// wakeGossip sets the time of the next round when there is something to say again.
// It is as if the rounds had gone on (P41): none comes sooner than a period after
// the last, and after a longer pause it comes at a random moment of the period, so
// that nodes that hear the same news do not pass it on in step (P42).
func (c *core) wakeGossip(now instant) {
	c.gossiping.asleep = false
	at := c.gossiping.next
	if at <= now {
		at = c.withinPeriod(now, c.cfg.GossipInterval)
	}
	c.timers.set(at, (*gossipTimer)(c))
}

// gossipsTo reports whether m is a target of gossip: a member, or one that died
// a short while ago and may be mistaken for dead (P69).
func (c *core) gossipsTo(now instant, m *member) bool {
	switch m.state() {
	case StateAlive, StateSuspect:
		return m != c.self
	case StateDead:
		return m != c.self && now.sub(m.since) <= c.cfg.GossipToTheDeadTime
	}
	return false
}

// syncsWith reports whether m is a partner for push/pull (P115).
func (c *core) syncsWith(m *member) bool {
	return m.state() == StateAlive && m != c.self
}

// syncDue asks for a full exchange with a random member (P115), or with more of
// them as PushPullNodes says (P154).
func (c *core) syncDue(now instant) {
	wait := pushPullWait(c.cfg.PushPullInterval, len(c.table.order))
	c.timers.set(now.add(jitter(c.rng, wait)), (*syncTimer)(c))
	if c.syncing {
		return
	}
	if c.cfg.NodeSelection != nil {
		c.syncing = true
		c.openStream(streamTask{kind: streamSync})
		return
	}
	partners := c.choose(max(c.cfg.PushPullNodes, 1), c.syncsWith)
	if m := c.takeDoubted(); m != nil && len(partners) > 0 {
		partners[0] = m
	}
	for _, m := range partners {
		c.syncing = true
		c.openStream(streamTask{kind: streamSync, node: m.node})
	}
}

// gossipTimer begins a gossip round.
type gossipTimer core

func (t *gossipTimer) expire(now instant) { (*core)(t).gossipDue(now) }

func (*gossipTimer) stale() bool { return false }

// syncTimer begins a push/pull.
type syncTimer core

func (t *syncTimer) expire(now instant) { (*core)(t).syncDue(now) }

func (*syncTimer) stale() bool { return false }
