package memberlist

// gossipRounds says when the next gossip round may be. While there is nothing to say
// it sleeps: rounds of no use are most of what wakes an idle node up. With a
// Delegate it never does, for only asking tells what that has to say.
type gossipRounds struct {
	next   instant // a period after the last round
	asleep bool
}

// gossipDue lets the queued broadcasts go to a few members (P69, P70). What
// each of them gets is drawn when the packet is made.
func (c *core) gossipDue(now instant) {
	c.gossiping.next = now.add(jitter(c.rng, c.cfg.GossipInterval))
	if c.cfg.Delegate == nil && c.queue.NumQueued() == 0 {
		c.gossiping.asleep = true
		return
	}
	c.alarms.push(alarm{at: c.gossiping.next, kind: alarmGossip})
	if c.cfg.NodeSelection != nil {
		c.fx.selectGossip = true
		return
	}
	for _, m := range c.choose(c.cfg.GossipNodes, func(m *member) bool { return c.gossipsTo(now, m) }) {
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
	c.alarms.push(alarm{at: at, kind: alarmGossip})
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
// them as PushPullNodes says.
func (c *core) syncDue(now instant) {
	wait := pushPullWait(c.cfg.PushPullInterval, len(c.table.order))
	c.alarms.push(alarm{at: now.add(jitter(c.rng, wait)), kind: alarmSync})
	if c.syncing {
		return
	}
	if c.cfg.NodeSelection != nil {
		c.syncing = true
		c.fx.streams = append(c.fx.streams, streamTask{kind: streamSync})
		return
	}
	for _, m := range c.choose(max(c.cfg.PushPullNodes, 1), c.syncsWith) {
		c.syncing = true
		c.fx.streams = append(c.fx.streams, streamTask{kind: streamSync, node: m.node})
	}
}
