package memberlist

import "slices"

// answers are the latest answers of peers, to packets or on streams. Two different
// peers are kept, so that one of them is always another one than the accused.
type answers struct {
	peers [2]*member // nil is a relay that sent a nack
	sent  [2]instant // when that went out which the peer answered
	last  instant    // when an answer came in

	recent     [16]*member // the peers that answered last, a ring
	nextRecent int
}

// record takes in an answer of a peer to something sent at the given time.
func (a *answers) record(now instant, peer *member, sent instant) {
	a.last = now
	if peer != nil {
		a.recent[a.nextRecent] = peer
		a.nextRecent = (a.nextRecent + 1) % len(a.recent)
	}
	if a.peers[0] == peer {
		a.sent[0] = max(a.sent[0], sent)
		return
	}
	a.peers[1], a.sent[1] = a.peers[0], a.sent[0]
	a.peers[0], a.sent[0] = peer, sent
}

// heardSince reports whether somebody other than the accused answered something that
// was sent at the given time or later (P170).
func (a *answers) heardSince(asked instant, accused *member) bool {
	for i, peer := range a.peers {
		if peer != accused && a.sent[i] >= asked && a.sent[i] > 0 {
			return true
		}
	}
	return false
}

// chooseResponsive picks up to k members at random among those that answered last, and if
// they are too few among all (P169).
func (c *common) chooseResponsive(a *answers, k int, fits func(*member) bool) []*member {
	var heard []*member
	for _, i := range c.rng.Perm(len(a.recent)) {
		m := a.recent[i]
		if len(heard) < k && m != nil && fits(m) && !slices.Contains(heard, m) {
			heard = append(heard, m)
		}
	}
	others := c.choose(k-len(heard), func(m *member) bool {
		return fits(m) && !slices.Contains(heard, m)
	})
	return append(heard, others...)
}
