package memberlist

import "time"

// indirectProbe is a ping whose target is asked by other ways as well: through relays
// and on a stream. It is embedded in the kinds of such pings.
type indirectProbe struct {
	pendingPing
	msg         []byte  // the ping, for sending it again
	asked       instant // when the relays were asked
	streamSent  instant // when the target was asked on a stream; 0 = it was not
	nacksWanted int
	nacks       int
	quiet       bool // failing on a stream is nothing to tell
	streamAck   bool // the target answered on a stream (P56)
}

func (p *indirectProbe) nacked() (asked instant, expected bool) {
	if p.nacks >= p.nacksWanted {
		return 0, false
	}
	p.nacks++
	return p.asked, true
}

func (p *indirectProbe) streamAnswered(instant) { p.streamAck = true }

func (p *indirectProbe) streamUnanswered() { p.streamSent = 0 }

// askOthers asks other members to ping the target, and tries it on a stream, since
// its packets may be lost by a misconfigured network (P54, P55).
func (c *core) askOthers(now instant, p *indirectProbe, timeout time.Duration) {
	p.asked = now
	for _, r := range c.chooseRelays(p.m) {
		c.askRelay(p, r)
	}
	c.pingByStream(now, p, timeout)
}

// chooseRelays picks members to ask for an indirect ping: at random among those
// that answered last, since their answers are what the verdict depends on, and if
// they are too few among all (P169).
func (c *core) chooseRelays(target *member) []*member {
	k := c.cfg.IndirectChecks
	fits := func(m *member) bool {
		return m.state() == StateAlive && m != c.self && m != target && !c.underProbe(m)
	}
	if c.cfg.Detector.NoHeardRelays {
		return c.choose(k, fits)
	}
	return c.chooseResponsive(&c.selfCheck, k, fits)
}

func (c *core) askRelay(p *indirectProbe, r *member) {
	me := c.self.node
	wantsNack := r.node.PMax >= 4
	if wantsNack {
		p.nacksWanted++
	}
	ind := indirectPing{
		SeqNo: p.seq, Target: p.node.Addr, Port: p.node.Port, Node: borrow(p.node.Name), Nack: wantsNack,
		SourceAddr: me.Addr, SourcePort: me.Port, SourceNode: borrow(me.Name),
	}
	to := toNode(r.node)
	to.node = nil
	c.send(outPacket{
		to: to, msg: ind.appendTo(nil), piggyback: true, urgent: urgentProbe,
	})
}

// pingByStream pings the target on a stream as well (P55).
func (c *core) pingByStream(now instant, p *indirectProbe, timeout time.Duration) {
	if !c.cfg.DisableTcpPings && p.node.PMax >= 3 { // W60
		c.sendStreamPing(now, p, timeout)
	}
}

// sendStreamPing tries the target of a ping on a stream. A failure is told only once, in
// a probe round.
func (c *core) sendStreamPing(now instant, p *indirectProbe, timeout time.Duration) {
	p.streamSent = now
	c.openStream(streamTask{
		kind: streamProbe, node: p.node, seq: p.seq, timeout: timeout, quiet: p.quiet,
	})
}

// pingWithSuspicion is a ping together with what the target is suspected of (P50).
func (c *core) pingWithSuspicion(seq uint32, m *member) []byte {
	s := suspect{Incarnation: m.incarnation, Node: borrow(m.node.Name), From: borrow(c.cfg.Name)}
	return appendCompound(nil, [][]byte{c.pingMessage(seq, m.node.Name), s.appendTo(nil)})
}
