package memberlist

import "time"

// verdict is the newest accusation about a name that is not in the table: one that
// came before the node itself was heard of, or the last word on a node that was
// reaped, its tombstone. It keeps old news from raising a node that newer news
// declared dead, whatever the order in which they arrive.
type verdict struct {
	incarnation uint32
	state       NodeStateType // suspect, dead or left
	from        string
	at          instant
	number      uint64 // of its place in the order
	hasAnswered bool   // the node answered once
	tombstone   bool   // it is the last word on a node that was reaped
}

// tombstone is the last word on m, which is gone.
func (m *member) tombstone() verdict {
	return verdict{
		incarnation: m.incarnation, state: m.state(), at: m.detectorView().reaped,
		hasAnswered: m.hasAnswered(), tombstone: true,
	}
}

// overrulesAlive reports whether r overrules a word that its node is alive with
// the given incarnation.
func (r *verdict) overrulesAlive(incarnation uint32) bool {
	return r.incarnation >= incarnation && !far(r.incarnation, incarnation)
}

// overrides reports whether r is the newer word, or at the same incarnation the
// graver one.
func (r *verdict) overrides(other *verdict) bool {
	return r.incarnation > other.incarnation ||
		r.incarnation == other.incarnation && r.state > other.state
}

// Bounds of what is remembered of names that are not in the table.
const (
	maxPendingVerdicts = 1024
	maxTombstones      = 4096
)

// verdicts is what was said about names that are not in the table.
type verdicts struct {
	cfg        *Config
	pending    verdictStore // about names that are not known yet
	tombstones verdictStore // about nodes that were reaped
}

func newVerdicts(cfg *Config) verdicts {
	return verdicts{
		cfg:        cfg,
		pending:    newVerdictStore(cfg.GossipToTheDeadTime, maxPendingVerdicts),
		tombstones: newTombstones(cfg),
	}
}

// record remembers an accusation of a node that is not in the table (P164).
// said.hasAnswered tells that the node is known to have answered once.
func (v *verdicts) record(now instant, name, from borrowed, said verdict) {
	if !refutable(said.incarnation) {
		return
	}
	said.hasAnswered = said.hasAnswered || v.tombstones.aboutResponsive(name)
	v.pending.note(now, name, from, said)
}

// bury remembers the last word on m, which this node takes out of its table.
func (v *verdicts) bury(now instant, m *member) {
	if !v.cfg.detector.noTombstones {
		v.tombstones.note(now, borrow(m.node.Name), borrow(v.cfg.Name), m.tombstone())
	}
}

// prior is the gravest word that was said about a name before and that overrules the
// given incarnation of it. All that was said about the name is forgotten.
func (v *verdicts) prior(now instant, name string, incarnation uint32) (verdict, bool) {
	said, accused := v.pending.take(now, name)
	last, buried := v.tombstones.take(now, name)
	accused = accused && said.overrulesAlive(incarnation)
	if buried && last.overrulesAlive(incarnation) && (!accused || last.overrides(&said)) {
		return last, true
	}
	return said, accused
}

// verdictStore holds a bounded number of verdicts for a bounded time. When full, the
// oldest goes first, and those about nodes that were heard go last: names can be made
// up, answers cannot.
type verdictStore struct {
	lifetime       time.Duration
	most           int
	byName         map[string]verdict
	order          verdictQueue // about names that may be made up
	fromResponsive verdictQueue // about nodes that were heard
	numbers        uint64
}

// verdictQueue is an order of age; some have been taken since.
type verdictQueue []verdictPlace

// verdictPlace is the place of a verdict in the order of age.
type verdictPlace struct {
	name   string
	number uint64
}

func newVerdictStore(lifetime time.Duration, most int) verdictStore {
	return verdictStore{lifetime: lifetime, most: most, byName: make(map[string]verdict)}
}

// newTombstones makes the memory for nodes that were reaped. It reaches as far
// back as lost nodes are looked for, since until then a part of the cluster can
// come back that has not heard of their end (P165).
func newTombstones(cfg *Config) verdictStore {
	lifetime := cfg.GossipToTheDeadTime
	if cfg.ReconnectInterval > 0 {
		lifetime = max(lifetime, cfg.ReconnectTimeout)
	}
	return newVerdictStore(lifetime, maxTombstones)
}

// note records what somebody says about a name, if it outweighs what was said before.
// It counts from now on, if it has no earlier time.
func (r *verdictStore) note(now instant, name, from borrowed, said verdict) {
	if said.at == 0 {
		said.at = now
	}
	if now.sub(said.at) > r.lifetime || r.lifetime <= 0 {
		return
	}
	known, ok := lookUp(r.byName, name)
	if ok && !said.overrides(&known) {
		return
	}
	said.from = from.own()
	if ok {
		said.number, said.hasAnswered = known.number, known.hasAnswered
		r.byName[name.own()] = said
		return
	}
	r.expire(now, &r.order)
	r.expire(now, &r.fromResponsive)
	if !r.makeRoom(said.hasAnswered) {
		return
	}
	r.numbers++
	said.number = r.numbers
	place := verdictPlace{name.own(), said.number}
	r.byName[place.name] = said
	if said.hasAnswered {
		r.fromResponsive = append(r.fromResponsive, place)
	} else {
		r.order = append(r.order, place)
	}
}

// expire drops the oldest of a queue that are too old or were taken.
func (r *verdictStore) expire(now instant, q *verdictQueue) {
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
func (r *verdictStore) makeRoom(heard bool) bool {
	for len(r.order)+len(r.fromResponsive) >= r.most {
		switch {
		case len(r.order) > 0:
			r.dropOldest(&r.order)
		case heard:
			r.dropOldest(&r.fromResponsive)
		default:
			return false
		}
	}
	return true
}

func (r *verdictStore) dropOldest(q *verdictQueue) {
	oldest := (*q)[0]
	*q = (*q)[1:]
	if said, ok := r.byName[oldest.name]; ok && said.number == oldest.number {
		delete(r.byName, oldest.name)
	}
}

// aboutResponsive reports whether there is a word about a node of that name that was heard.
func (r *verdictStore) aboutResponsive(name borrowed) bool {
	said, ok := lookUp(r.byName, name)
	return ok && said.hasAnswered
}

// take returns and forgets what is said about a name.
func (r *verdictStore) take(now instant, name string) (verdict, bool) {
	said, ok := r.byName[name]
	if !ok {
		return verdict{}, false
	}
	delete(r.byName, name)
	return said, now.sub(said.at) <= r.lifetime
}
