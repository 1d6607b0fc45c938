package memberlist

import "time"

// A node that cannot hear, or whose packets do not get out, finds everybody else
// silent. What it concludes then is wrong, and the whole cluster pays for it. So a node
// accuses another, or declares it dead, only after a self-check: a round trip with a
// third node has to show that this node hears and is heard, by an ack or a nack for
// something that it sent no earlier than the unanswered ping. Relays that cannot reach
// the target send nacks, so that where the target is really gone the check is passed
// together with the silence, and costs no time.
//
// A round trip on a stream is as good, but for streams only: where packets are
// blocked and streams are not, it says nothing about the silence of a member that
// was asked by packet alone. So the two kinds are kept apart.

// selfCheck decides whether this node may hold the silence of others against them.
type selfCheck struct {
	*common
	pings      *pings
	indirect   *indirectPings
	packets    answers
	streams    answers
	unverified failedProbe // waits for the check; none if its member is nil

	confirmed func(now instant, f failedProbe) // takes in that a failed probe counts
}

func newSelfCheck(c *common, p *pings, i *indirectPings, confirmed func(now instant, f failedProbe)) selfCheck {
	return selfCheck{common: c, pings: p, indirect: i, confirmed: confirmed}
}

// failedProbe is a probe without answer. It waits for the self-check if that has not been
// passed.
type failedProbe struct {
	m           *member
	seq         uint32 // of the ping
	incarnation uint32
	sent        instant // when the ping went out
	streamSent  instant // when it was asked on a stream; 0 = it was not
	validUntil  instant // an answer that comes later does not count
}

// judge takes in a failed probe. If the self-check is not passed, the probe is kept
// until it is or is too old. Until then the ping stays pending: a late nack passes the
// check, and a late ack clears the target. The silence after a ping that did not go
// out is no reason to accuse (P171).
func (s *selfCheck) judge(now instant, f failedProbe, p *indirectProbe) {
	p.quiet = true
	switch {
	case s.passed(now, p):
		s.confirmed(now, f)
		return
	case !p.transmitted:
		return
	case f.streamSent != 0:
		f.streamSent = now
		s.indirect.sendStreamPing(now, p, s.answerTime())
		s.askByStream(p)
		p.setTimer(now.add(s.answerTime()))
	}
	f.seq = p.seq
	s.unverified = f
	p.await()
	p.setTimer(f.validUntil)
}

// verify decides about the target of a failed probe that was asked once more on a
// stream, together with others, and has had its time to answer. No other answer counts:
// if a network began to work again between the two questions, the target would look like
// a dead member (P171).
func (s *selfCheck) verify(now instant, p *indirectProbe) {
	f := s.unverified
	if f.seq == p.seq && f.streamSent != 0 && now <= f.validUntil && p.streamPeerAck {
		s.unverified = failedProbe{}
		s.confirmed(now, f)
	}
	if s.unverified.seq != p.seq || now >= f.validUntil {
		p.forget()
	}
}

// abandon drops a failed probe of m.
func (s *selfCheck) abandon(m *member) {
	if s.awaits(m) {
		s.unverified = failedProbe{}
	}
}

// awaits reports whether a failed probe of m waits for the check.
func (s *selfCheck) awaits(m *member) bool { return m == s.unverified.m }

// answered takes in that a peer answered something sent at the given time, and returns
// for how long nobody had. nil is a relay.
func (s *selfCheck) answered(now instant, peer *member, sent instant) (silence time.Duration) {
	silence = now.sub(s.packets.last)
	s.packets.record(now, peer, sent)
	s.recheck(now, peer)
	return silence
}

// streamAnswered takes in that a peer answered on a stream something that was sent there
// at the given time or later, and returns for how long nobody had answered anything.
func (s *selfCheck) streamAnswered(now instant, peer *member, sent instant) (silence time.Duration) {
	silence = now.sub(max(s.packets.last, s.streams.last))
	s.streams.record(now, peer, sent)
	s.recheck(now, peer)
	return silence
}

// recheck ends the wait of a failed probe after an answer of peer, if that is what was
// waited for.
func (s *selfCheck) recheck(now instant, peer *member) {
	f := s.unverified
	switch {
	case f.m == nil:
	case peer == f.m || now > f.validUntil:
		s.unverified = failedProbe{}
	case s.packets.heardSince(f.sent, f.m):
		s.unverified = failedProbe{}
		s.confirmed(now, f)
	}
}

// passed reports whether this node may hold the silence of a ping's target
// against it. With nobody else in the cluster the check cannot be passed; and
// after a long time without any answer, about the longest suspicion when all is
// added up, the node takes it that it is the one who survived (P170).
func (s *selfCheck) passed(now instant, p *indirectProbe) bool {
	last := s.packets.last
	if p.streamSent != 0 {
		last = max(last, s.streams.last)
	}
	if s.cfg.detector.noSelfCheck || s.others(p.m) == 0 || now.sub(last) > s.waivedAfter() {
		return true
	}
	return p.transmitted && s.packets.heardSince(p.sent, p.m)
}

// passedByStream is passed for what the target was asked on a stream.
func (s *selfCheck) passedByStream(p *indirectProbe) bool {
	return p.transmitted && p.streamSent != 0 && p.streamPeerAck
}

// streamPeers is how many members are asked on a stream: one of them may be gone as
// well.
const streamPeers = 2

// askByStream asks other members on a stream, where packets are not answered. It is
// called at the moment when the target of the probe is asked there.
func (s *selfCheck) askByStream(p *indirectProbe) {
	for _, m := range s.chooseResponsive(&s.streams, streamPeers, func(m *member) bool {
		return s.indirect.mayHelp(m, p.m) && m.node.PMax >= 3
	}) {
		s.openStream(streamTask{
			kind: streamProbe, node: m.node, seq: s.pings.unusedSeq(), timeout: s.answerTime(), quiet: true, checkFor: p,
		})
	}
}

// nobodyAsked takes in that there was nobody to ask, so that nobody was silent.
func (s *selfCheck) nobodyAsked(now instant) { s.packets.last, s.streams.last = now, now }

// stalled takes in that nobody listened for a time.
func (s *selfCheck) stalled(late time.Duration) {
	s.packets.last = s.packets.last.add(late)
	s.streams.last = s.streams.last.add(late)
}

// packetsFail reports whether no packet has been answered for so long that they seem
// to get lost, or to be blocked while streams are not.
func (s *selfCheck) packetsFail(now instant) bool {
	return s.cfg.ProbeInterval > 0 && now.sub(s.packets.last) > isolatedAfter(s.cfg)
}

// isolatedAfter is how long nobody may answer before this node takes it that it was
// cut off.
func isolatedAfter(cfg *Config) time.Duration { return 3 * cfg.ProbeInterval }

// waivedAfter is how long nobody may answer before a node judges without self-check. The
// suspicions that begin then take the shortest time at least. A small SuspicionMult is
// meant to find the dead sooner, not to trust oneself more, so it does not shorten this (P172).
func (s *selfCheck) waivedAfter() time.Duration {
	const leastMult, leastMaxMult = 4, 6
	mult := max(s.cfg.SuspicionMult, leastMult)
	shortest := suspicionTimeout(mult, len(s.table.order), s.cfg.ProbeInterval)
	return times(shortest, max(s.cfg.SuspicionMaxTimeoutMult, leastMaxMult)-1)
}

// others counts the members besides this node and m.
func (s *selfCheck) others(m *member) int {
	n := s.table.live()
	if !s.self.gone() {
		n--
	}
	if !m.gone() {
		n--
	}
	return n
}
