package memberlist

import "time"

// indirectProbe is a ping whose target is asked by other ways as well: through relays
// and on a stream. It is embedded in the kinds of such pings.
type indirectProbe struct {
	pendingPing
	msg           []byte  // the ping, for sending it again
	asked         instant // when the relays were asked
	streamSent    instant // when the target was asked on a stream; 0 = it was not
	nacksWanted   int
	nacks         int
	quiet         bool // failing on a stream is nothing to tell
	streamAck     bool // the target answered on a stream (P56)
	streamPeerAck bool // so did another member, which was asked at the same moment
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

// indirectPings ask other members to ping a target, and try it on a stream.
type indirectPings struct {
	*common
	answers    *answers
	underProbe func(m *member) bool // whether m is silent so far, and that is to be judged
}

func newIndirectPings(c *common, a *answers, underProbe func(m *member) bool) indirectPings {
	return indirectPings{common: c, answers: a, underProbe: underProbe}
}

// askOthers asks other members to ping the target, and tries it on a stream, since
// its packets may be lost by a misconfigured network (P54, P55).
func (i *indirectPings) askOthers(now instant, p *indirectProbe, timeout time.Duration) {
	p.asked = now
	for _, r := range i.chooseRelays(p.m) {
		i.askRelay(p, r)
	}
	i.pingByStream(now, p, timeout)
}

// chooseRelays picks members to ask for an indirect ping: at random among those
// that answered last, since their answers are what the verdict depends on, and if
// they are too few among all (P169).
func (i *indirectPings) chooseRelays(target *member) []*member {
	k := i.cfg.IndirectChecks
	fits := func(m *member) bool { return i.mayHelp(m, target) }
	if i.cfg.detector.noResponsiveRelays {
		return i.choose(k, fits)
	}
	return i.chooseResponsive(i.answers, k, fits)
}

// mayHelp reports whether m may be asked about a target. One that is silent itself could
// as a relay pass the self-check against itself, since a nack does not tell whose it is.
func (i *indirectPings) mayHelp(m, target *member) bool {
	return i.isPeer(m) && m != target && !i.underProbe(m)
}

func (i *indirectPings) askRelay(p *indirectProbe, r *member) {
	me := i.self.node
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
	i.send(outPacket{
		to: to, msg: ind.appendTo(nil), piggyback: true, urgent: urgentProbe,
	})
}

// pingByStream pings the target on a stream as well (P55).
func (i *indirectPings) pingByStream(now instant, p *indirectProbe, timeout time.Duration) {
	if !i.cfg.DisableTcpPings && p.node.PMax >= 3 { // W60
		i.sendStreamPing(now, p, timeout)
	}
}

// sendStreamPing tries the target of a ping on a stream. A failure is told only once, in
// a probe round.
func (i *indirectPings) sendStreamPing(now instant, p *indirectProbe, timeout time.Duration) {
	p.streamSent = now
	i.openStream(streamTask{
		kind: streamProbe, node: p.node, seq: p.seq, timeout: timeout, quiet: p.quiet,
	})
}
