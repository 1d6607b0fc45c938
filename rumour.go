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
// oldest goes first.
type rumours struct {
	lifetime time.Duration
	most     int
	byName   map[string]rumour
	order    []rumourPlace // by age; some have been taken since
	numbers  uint64
}

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
func (r *rumours) note(now instant, name, from borrowed, said rumour) {
	if r.lifetime <= 0 {
		return
	}
	known, ok := lookUp(r.byName, name)
	if ok && !said.outweighs(&known) {
		return
	}
	said.at = now
	said.from = from.own()
	if ok {
		said.number = known.number
		r.byName[name.own()] = said
		return
	}
	r.makeRoom(now)
	owned := name.own()
	r.numbers++
	said.number = r.numbers
	r.byName[owned] = said
	r.order = append(r.order, rumourPlace{owned, said.number})
}

// makeRoom drops what is too old, and the oldest when there are too many.
func (r *rumours) makeRoom(now instant) {
	for len(r.order) > 0 {
		oldest := r.order[0]
		said, ok := r.byName[oldest.name]
		current := ok && said.number == oldest.number
		if current && now.sub(said.at) <= r.lifetime && len(r.order) < r.most {
			return
		}
		if current {
			delete(r.byName, oldest.name)
		}
		r.order = r.order[1:]
	}
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

// saidBefore takes the weightiest word on a name that is not in the table.
func (c *core) saidBefore(now instant, name string) (rumour, bool) {
	said, heard := c.rumours.take(now, name)
	last, buried := c.tombstones.take(now, name)
	if buried && (!heard || last.outweighs(&said)) {
		return last, true
	}
	return said, heard
}
