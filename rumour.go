package memberlist

import "time"

// rumour is the newest accusation about a name that is not in the table: one that
// came before the node itself was heard of, or the last word on a node that was
// reaped, its tombstone. It keeps old news from raising a node that newer news
// declared dead, whatever the order in which they arrive.
type rumour struct {
	incarnation uint32
	state       NodeStateType // suspect, dead or left
	from        string
	at          instant
	number      uint64 // of its place in the order
	heard       bool   // the node answered once
	tombstone   bool   // it is the last word on a node that was reaped
}

// outweighs reports whether r is the newer word, or at the same incarnation the
// graver one.
func (r *rumour) outweighs(other *rumour) bool {
	return r.incarnation > other.incarnation ||
		r.incarnation == other.incarnation && r.state > other.state
}

// Bounds of what is remembered of names that are not in the table.
const (
	maxRumours    = 1024
	maxTombstones = 4096
)

// rumours holds a bounded number of them for a bounded time. When full, the
// oldest goes first, and those about nodes that were heard go last: names can be made
// up, answers cannot.
type rumours struct {
	lifetime time.Duration
	most     int
	byName   map[string]rumour
	order    rumourQueue // about names that may be made up
	heard    rumourQueue // about nodes that were heard
	numbers  uint64
}

// rumourQueue is an order of age; some have been taken since.
type rumourQueue []rumourPlace

// rumourPlace is the place of a rumour in the order of age.
type rumourPlace struct {
	name   string
	number uint64
}

func newRumours(lifetime time.Duration, most int) rumours {
	return rumours{lifetime: lifetime, most: most, byName: make(map[string]rumour)}
}

// newTombstones makes the memory for nodes that were reaped. It reaches as far
// back as lost nodes are looked for, since until then a part of the cluster can
// come back that has not heard of their end.
func newTombstones(cfg *Config) rumours {
	lifetime := cfg.GossipToTheDeadTime
	if cfg.ReconnectInterval > 0 {
		lifetime = max(lifetime, cfg.ReconnectTimeout)
	}
	return newRumours(lifetime, maxTombstones)
}

// note records what somebody says about a name, if it outweighs what was said before.
// It counts from now on, if it has no earlier time.
func (r *rumours) note(now instant, name, from borrowed, said rumour) {
	if said.at == 0 {
		said.at = now
	}
	if now.sub(said.at) > r.lifetime || r.lifetime <= 0 {
		return
	}
	known, ok := lookUp(r.byName, name)
	if ok && !said.outweighs(&known) {
		return
	}
	said.from = from.own()
	if ok {
		said.number, said.heard = known.number, known.heard
		r.byName[name.own()] = said
		return
	}
	r.expire(now, &r.order)
	r.expire(now, &r.heard)
	if !r.makeRoom(said.heard) {
		return
	}
	r.numbers++
	said.number = r.numbers
	place := rumourPlace{name.own(), said.number}
	r.byName[place.name] = said
	if said.heard {
		r.heard = append(r.heard, place)
	} else {
		r.order = append(r.order, place)
	}
}

// expire drops the oldest of a queue that are too old or were taken.
func (r *rumours) expire(now instant, q *rumourQueue) {
	for len(*q) > 0 {
		oldest := (*q)[0]
		said, ok := r.byName[oldest.name]
		if ok && said.number == oldest.number && now.sub(said.at) <= r.lifetime {
			return
		}
		r.dropOldest(q)
	}
}

// makeRoom reports whether there is room for one more, about a node that was heard or
// not, after it dropped the oldest if need be.
func (r *rumours) makeRoom(heard bool) bool {
	for len(r.order)+len(r.heard) >= r.most {
		switch {
		case len(r.order) > 0:
			r.dropOldest(&r.order)
		case heard:
			r.dropOldest(&r.heard)
		default:
			return false
		}
	}
	return true
}

func (r *rumours) dropOldest(q *rumourQueue) {
	oldest := (*q)[0]
	*q = (*q)[1:]
	if said, ok := r.byName[oldest.name]; ok && said.number == oldest.number {
		delete(r.byName, oldest.name)
	}
}

// aboutHeard reports whether there is a word about a node of that name that was heard.
func (r *rumours) aboutHeard(name borrowed) bool {
	said, ok := lookUp(r.byName, name)
	return ok && said.heard
}

// take returns and forgets what is said about a name.
func (r *rumours) take(now instant, name string) (rumour, bool) {
	said, ok := r.byName[name]
	if !ok {
		return rumour{}, false
	}
	delete(r.byName, name)
	return said, now.sub(said.at) <= r.lifetime
}

// noteRumour remembers an accusation of a node that is not in the table.
func (c *core) noteRumour(now instant, name, from borrowed, said rumour) {
	if !refutable(said.incarnation) {
		return
	}
	said.heard = c.lost.heard(name) || c.tombstones.aboutHeard(name)
	c.rumours.note(now, name, from, said)
}

// saidBefore takes what is said about a name that is not in the table, and returns the
// weightiest word that overrules an incarnation of it.
func (c *core) saidBefore(now instant, name string, incarnation uint32) (rumour, bool) {
	said, accused := c.rumours.take(now, name)
	last, buried := c.tombstones.take(now, name)
	accused = accused && said.outlasts(incarnation)
	if buried && last.outlasts(incarnation) && (!accused || last.outweighs(&said)) {
		return last, true
	}
	return said, accused
}
