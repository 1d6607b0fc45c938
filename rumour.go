package memberlist

import (
	"strings"
	"time"
)

// rumour is the newest accusation about a name that is not in the table: one
// that came before the node itself was heard of, or what was known of a node
// when it was reaped. It keeps old news from raising a node that newer news
// declared dead, whatever the order in which they arrive.
type rumour struct {
	incarnation uint32
	state       NodeStateType // suspect, dead or left
	from        string
	at          instant
}

const maxRumours = 1024

// rumours holds a bounded number of them for a bounded time. When full, the
// oldest goes first.
type rumours struct {
	lifetime time.Duration
	byName   map[string]rumour
	order    []string // names by age; may hold names that were taken since
}

func newRumours(lifetime time.Duration) rumours {
	return rumours{lifetime: lifetime, byName: make(map[string]rumour)}
}

// note records what is said about a name, if it beats what was said before: a
// newer incarnation, or at the same one the graver word.
func (r *rumours) note(now instant, name string, said rumour) {
	if r.lifetime <= 0 {
		return
	}
	known, ok := r.byName[name]
	if ok && (known.incarnation > said.incarnation ||
		known.incarnation == said.incarnation && known.state >= said.state) {
		return
	}
	said.at = now
	said.from = strings.Clone(said.from)
	if ok {
		r.byName[name] = said
		return
	}
	r.makeRoom(now)
	name = strings.Clone(name)
	r.byName[name] = said
	r.order = append(r.order, name)
}

// makeRoom drops what is too old, and the oldest when there are too many.
func (r *rumours) makeRoom(now instant) {
	for len(r.order) > 0 {
		oldest := r.order[0]
		said, ok := r.byName[oldest]
		if ok && now.sub(said.at) <= r.lifetime && len(r.order) < maxRumours {
			return
		}
		delete(r.byName, oldest)
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
