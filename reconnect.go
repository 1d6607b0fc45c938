package memberlist

import (
	"math/rand/v2"
	"time"
)

// Nodes that died are remembered longer than the table holds them, and asked from
// time to time whether they are back, so that a cluster that was parted becomes
// whole again however long that lasted. Nodes that left are not.

// lostNode is a node that died.
type lostNode struct {
	node        *Node
	incarnation uint32
	place       int // index in lostNodes.order
	since       instant
}

// maxLost bounds the nodes that are remembered.
const maxLost = 4096

// lostNodes is the memory of nodes that died, in the random order in which they are
// asked.
type lostNodes struct {
	byName map[string]*lostNode
	order  []*lostNode
	next   int // in order; those before have had their turn
}

// add remembers a node. When there is no room the new one is left out: the others
// are as good a way back to a lost part of the cluster.
func (l *lostNodes) add(rng *rand.Rand, n *Node, incarnation uint32, now instant) {
	if old := l.byName[n.Name]; old != nil {
		old.node, old.incarnation, old.since = n, incarnation, now
		return
	}
	if len(l.order) >= maxLost {
		return
	}
	if l.byName == nil {
		l.byName = make(map[string]*lostNode)
	}
	lost := &lostNode{node: n, incarnation: incarnation, place: len(l.order), since: now}
	l.byName[n.Name] = lost
	l.order = append(l.order, lost)
	l.swap(lost.place, l.next+rng.IntN(len(l.order)-l.next))
}

// remove forgets a node. Those that have had their turn stay in front.
func (l *lostNodes) remove(name string) {
	lost := l.byName[name]
	if lost == nil {
		return
	}
	if lost.place < l.next {
		l.next--
		l.swap(lost.place, l.next)
	}
	last := len(l.order) - 1
	l.swap(lost.place, last)
	l.order[last] = nil
	l.order = l.order[:last]
	delete(l.byName, name)
}

// has reports whether a node of that name is remembered.
func (l *lostNodes) has(name borrowed) bool {
	_, ok := lookUp(l.byName, name)
	return ok
}

// left forgets a node that left after it died here.
func (l *lostNodes) left(name borrowed, incarnation uint32) {
	if lost, ok := lookUp(l.byName, name); ok && incarnation >= lost.incarnation {
		l.remove(lost.node.Name)
	}
}

func (l *lostNodes) swap(i, j int) {
	l.order[i], l.order[j] = l.order[j], l.order[i]
	l.order[i].place, l.order[j].place = i, j
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
// the seeds be tried when few members are left.
func (c *core) reconnectDue(now instant) {
	if now < c.nextReconnect {
		return // put forward since
	}
	c.nextReconnect = now.add(jitter(c.rng, c.reconnectPause()))
	c.alarms.push(alarm{at: c.nextReconnect, kind: alarmReconnect})
	if c.leaving {
		return
	}
	c.trySeeds(now)
	lost := c.nextLost(now)
	if lost == nil {
		return
	}
	p := c.newPing(now, pingLost, max(c.cfg.ProbeTimeout, c.cfg.ProbeInterval))
	p.node = lost.node
	c.fx.packets = append(c.fx.packets, outPacket{
		to: toNode(lost.node), msg: c.pingMessage(p.seq, lost.node.Name), urgent: urgentProbe,
	})
}

// trySeeds lets the seeds be joined while few members are left, once in
// ReconnectInterval.
func (c *core) trySeeds(now instant) {
	if len(c.cfg.Seeds) == 0 || c.seeding || now < c.nextSeeding || !c.fewLeft() {
		return
	}
	c.seeding = true
	c.nextSeeding = now.add(c.cfg.ReconnectInterval * 9 / 10) // the alarm is jittered by a tenth
	c.fx.streams = append(c.fx.streams, streamTask{kind: streamSeeds})
}

// fewLeft reports whether this node is alone, or has at most two others left and has
// lost more than that. A small cluster that is whole, or has lost its smaller part,
// leaves the seeds in peace, and so does a large one, whatever happens to it.
func (c *core) fewLeft() bool {
	const few = 2
	others := c.table.live() - 1
	return others <= 0 || others <= few && others < len(c.lost.order)
}

// nextLost is the lost node whose turn it is; those that were dead for too long are
// forgotten on the way.
func (c *core) nextLost(now instant) *lostNode {
	l := &c.lost
	for len(l.order) > 0 {
		if l.next >= len(l.order) {
			l.next = 0
		}
		lost := l.order[l.next]
		if now.sub(lost.since) <= c.lostFor() {
			l.next++
			return lost
		}
		l.remove(lost.node.Name)
	}
	return nil
}

// lostFor is how long a node that died is looked for.
func (c *core) lostFor() time.Duration {
	if c.cfg.ReconnectTimeout > 0 {
		return c.cfg.ReconnectTimeout
	}
	return c.cfg.GossipToTheDeadTime
}

// lostFound makes a full exchange with a node that answered under its own name:
// it learns what is said about it and refutes, and each side learns of the rest
// of the other.
func (c *core) lostFound(p *pendingPing) {
	if c.leaving {
		return
	}
	c.fx.streams = append(c.fx.streams, streamTask{kind: streamVisit, node: p.node})
}

// lose remembers a node that died, and looks for it soon if many did.
func (c *core) lose(now instant, m *member) {
	if c.cfg.ReconnectInterval <= 0 {
		return
	}
	c.lost.add(c.rng, m.node, m.incarnation, now)
	if sooner := now.add(jitter(c.rng, c.reconnectPause())); sooner < c.nextReconnect {
		c.nextReconnect = sooner
		c.alarms.push(alarm{at: sooner, kind: alarmReconnect})
	}
}
