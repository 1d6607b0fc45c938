package memberlist

// gossipDue lets the queued broadcasts go to a few members (P69, P70). What
// each of them gets is drawn when the packet is made.
func (c *core) gossipDue(now instant) {
	c.alarms.push(alarm{at: now.add(jitter(c.rng, c.cfg.GossipInterval)), kind: alarmGossip})
	if c.cfg.Delegate == nil && c.queue.NumQueued() == 0 {
		return
	}
	if c.cfg.NodeSelection != nil {
		c.fx.gossipDue = true
		return
	}
	for _, m := range c.choose(c.cfg.GossipNodes, func(m *member) bool { return c.gossipsTo(now, m) }) {
		c.fx.gossip = append(c.fx.gossip, m.node)
	}
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
