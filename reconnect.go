package memberlist

import "time"

// Nodes that died are remembered longer than the table holds them, and asked from
// time to time whether they are back, so that a cluster that was parted becomes
// whole again however long that lasted. Nodes that left are not.

// lostNode is a node that died.
type lostNode struct {
	node  *Node
	place int // index in lostNodes.order
	since instant
}

// maxLost bounds the nodes that are remembered.
const maxLost = 4096

// lostNodes is the memory of nodes that died.
type lostNodes struct {
	byName map[string]*lostNode
	order  []*lostNode
}

// add remembers a node. When there is no room the new one is left out: the others
// are as good a way back to a lost part of the cluster.
func (l *lostNodes) add(n *Node, now instant) {
	if old := l.byName[n.Name]; old != nil {
		old.node, old.since = n, now
		return
	}
	if len(l.order) >= maxLost {
		return
	}
	if l.byName == nil {
		l.byName = make(map[string]*lostNode)
	}
	lost := &lostNode{node: n, place: len(l.order), since: now}
	l.byName[n.Name] = lost
	l.order = append(l.order, lost)
}

// remove forgets a node.
func (l *lostNodes) remove(name string) {
	lost := l.byName[name]
	if lost == nil {
		return
	}
	last := len(l.order) - 1
	l.order[lost.place] = l.order[last]
	l.order[lost.place].place = lost.place
	l.order[last] = nil
	l.order = l.order[:last]
	delete(l.byName, name)
}

// startReconnecting sets the first alarm.
func (c *core) startReconnecting(now instant) {
	if c.cfg.ReconnectInterval > 0 {
		c.nextReconnect = c.withinPeriod(now, c.reconnectPause())
		c.alarms.push(alarm{at: c.nextReconnect, kind: alarmReconnect})
	}
}

// reconnectPause is the time until the next lost node is tried: each of them once
// in ReconnectInterval, but not more than one node in a probe interval. So single
// failures cost next to nothing, and a partition, where many nodes look for many,
// is found healed within a moment.
func (c *core) reconnectPause() time.Duration {
	interval := c.cfg.ReconnectInterval
	pause := interval / time.Duration(max(len(c.lost.order), 1))
	return min(max(pause, c.cfg.ProbeInterval, time.Millisecond), interval)
}

// reconnectDue asks one of the lost nodes, by name, whether it is back, and lets
// the seeds be tried when this node is alone.
func (c *core) reconnectDue(now instant) {
	if now < c.nextReconnect {
		return // put forward since
	}
	c.nextReconnect = now.add(jitter(c.rng, c.reconnectPause()))
	c.alarms.push(alarm{at: c.nextReconnect, kind: alarmReconnect})
	if c.leaving {
		return
	}
	if len(c.cfg.Seeds) > 0 && c.table.live() <= 1 && !c.seeding {
		c.seeding = true
		c.fx.streams = append(c.fx.streams, streamTask{kind: streamSeeds})
	}
	lost := c.pickLost(now)
	if lost == nil {
		return
	}
	p := c.newPing(now, pingLost, max(c.cfg.ProbeTimeout, c.cfg.ProbeInterval))
	p.node = lost.node
	c.fx.packets = append(c.fx.packets, outPacket{
		to: toNode(lost.node), msg: c.pingMessage(p.seq, lost.node.Name), urgent: urgentProbe,
	})
}

// pickLost is a random one of the lost nodes; those that were dead for too long
// are forgotten on the way.
func (c *core) pickLost(now instant) *lostNode {
	for len(c.lost.order) > 0 {
		lost := c.lost.order[c.rng.IntN(len(c.lost.order))]
		if now.sub(lost.since) <= c.cfg.ReconnectTimeout {
			return lost
		}
		c.lost.remove(lost.node.Name)
	}
	return nil
}

// lostFound makes a full exchange with a node that answered under its own name:
// it learns what is said about it and refutes, and each side learns of the rest
// of the other.
func (c *core) lostFound(p *pendingPing) {
	if c.leaving {
		return
	}
	c.fx.streams = append(c.fx.streams, streamTask{kind: streamSync, node: p.node})
}

// lose remembers a node that died, and looks for it soon if many did.
func (c *core) lose(now instant, m *member) {
	if c.cfg.ReconnectInterval <= 0 || c.cfg.ReconnectTimeout <= 0 {
		return
	}
	c.lost.add(m.node, now)
	if sooner := now.add(jitter(c.rng, c.reconnectPause())); sooner < c.nextReconnect {
		c.nextReconnect = sooner
		c.alarms.push(alarm{at: sooner, kind: alarmReconnect})
	}
}
