package memberlist

import (
	"context"
	"sync"
	"sync/atomic"
)

// aliveAdmission asks the AliveDelegate about nodes, one call at a time (P123).
type aliveAdmission struct {
	delegate AliveDelegate
	turn     turn

	// callers has the goroutines that are inside NotifyAlive, by number, and
	// those that do something that somebody inside waits for. These must not wait
	// for that call to end; they have a turn of their own. The others have nil.
	callers sync.Map
	known   atomic.Int32 // how many there are
}

// turn is held by the one whose turn it is. It is a channel, not a mutex, since
// waiting for it can take long and has to end with a context.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func newAliveAdmission(delegate AliveDelegate) *aliveAdmission {
	return &aliveAdmission{delegate: delegate, turn: newTurn()}
}

// caller tells whether the calling goroutine is inside NotifyAlive, or works for
// one that is, whose turn to take is own then.
func (g *aliveAdmission) caller() (own turn, known bool) {
	if g.known.Load() == 0 {
		return nil, false
	}
	value, known := g.callers.Load(goroutineID())
	own, _ = value.(turn)
	return own, known
}

// entered reports whether somebody inside NotifyAlive waits for the caller.
func (g *aliveAdmission) entered() bool {
	_, known := g.caller()
	return known
}

// as runs f while the calling goroutine is known as a caller.
func (g *aliveAdmission) as(own turn, f func()) {
	id := goroutineID()
	before, known := g.callers.Swap(id, own)
	g.known.Add(1)
	defer func() {
		g.known.Add(-1)
		if known {
			g.callers.Store(id, before)
		} else {
			g.callers.Delete(id)
		}
	}()
	f()
}

// ask returns the delegate's verdict.
func (g *aliveAdmission) ask(ctx context.Context, n *Node) (verdict error) {
	own, known := g.caller()
	if known && own == nil { // the delegate asks itself
		return g.delegate.NotifyAlive(n)
	}
	mine := g.turn
	if known {
		mine = own
	}
	select {
	case mine <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-mine }()
	g.as(nil, func() { verdict = g.delegate.NotifyAlive(n) })
	return verdict
}

type callbackKey struct{}

// insideCallback marks a context of work that somebody inside a callback waits
// for, if the caller is. User code that this work calls is then inside that
// callback as well, on whatever goroutine.
func (m *Memberlist) insideCallback(ctx context.Context) context.Context {
	if !m.inCallback() {
		return ctx
	}
	own, known := m.admission.caller()
	if known && own == nil {
		own = newTurn()
	}
	return context.WithValue(ctx, callbackKey{}, own)
}

// inherit runs f, which is such work if ctx says so.
func (m *Memberlist) inherit(ctx context.Context, f func()) {
	own, inside := ctx.Value(callbackKey{}).(turn)
	switch {
	case !inside:
		f()
	case own == nil:
		m.tasks.asLoop(f)
	default:
		m.tasks.asLoop(func() { m.admission.as(own, f) })
	}
}

// admit decides whether an alive message may take effect at all: its versions
// have to make sense (P93), its address must lie in an allowed network (P95,
// P96), and the AliveDelegate must not object (P94). The reference checks the
// address only of nodes that are new or have moved; the others passed before.
func (m *Memberlist) admit(ctx context.Context, a *alive) error {
	if err := checkVersions(a.Vsn); err != nil {
		return err
	}
	if err := m.config.IPAllowed(a.Addr); err != nil {
		return &RejectedError{Reason: err}
	}
	if m.config.Alive == nil {
		return nil
	}
	if err := m.admission.ask(ctx, nodeFrom(a.Node, a.Addr, a.Port, a.Meta, a.Vsn, StateAlive)); err != nil {
		if ctx.Err() != nil {
			return cause(ctx)
		}
		return &RejectedError{Reason: err}
	}
	return nil
}

// checkVersions refuses version arrays that are too short to be of use, and
// ranges that are none (P93). The reference lets short ones in, and every later
// full exchange fails on them (P121).
func checkVersions(vsn []byte) error {
	if len(vsn) < 6 {
		return newKindError(ErrVersion, "version array has %d bytes, 6 are needed", len(vsn))
	}
	if vsn[0] == 0 || vsn[1] == 0 || vsn[0] > vsn[1] {
		return newKindError(ErrVersion, "protocol versions %v are no range", vsn[:3])
	}
	return nil
}

// logRefused tells of an alive message that did not pass.
func (m *Memberlist) logRefused(a *alive, err error) {
	fields := logFields{node: a.Node.own(), addr: joinHostPort(a.Addr, a.Port), incarnation: a.Incarnation, err: err}
	m.log.warnf("Ignoring an alive message", fields, "Ignoring alive message for '%s' (%s): %v", fields.node, fields.addr, err)
}

// versionRange is the interval of versions that a set of nodes understands.
type versionRange struct{ low, high uint8 }

func (r *versionRange) narrow(low, high uint8) {
	r.low, r.high = max(r.low, low), min(r.high, high)
}

// widen takes a version in.
func (r *versionRange) widen(version uint8) {
	r.low, r.high = min(r.low, version), max(r.high, version)
}

func (r versionRange) within(outer versionRange) bool {
	return r.low >= outer.low && r.high <= outer.high
}

func (r versionRange) check(name borrowed, kind string, current uint8) error {
	if current < r.low || current > r.high {
		return newKindError(ErrVersion, "Node '%s' %s version (%d) is incompatible: [%d, %d]",
			name.own(), kind, current, r.low, r.high)
	}
	return nil
}

// checkCompatible judges whether all nodes of both sides can live together: the
// version that each speaks must lie in the range that all who are alive
// understand (P2, P120).
func checkCompatible(remote []pushNodeState, local []nodeRecord) error {
	protocol, user := versionRange{0, 255}, versionRange{0, 255}
	spoken, userSpoken := versionRange{255, 0}, versionRange{255, 0} // nothing yet
	for i := range remote {
		v := remote[i].Vsn
		if remote[i].State == StateAlive && len(v) >= 5 {
			protocol.narrow(v[0], v[1])
			user.narrow(v[3], v[4])
		}
		current, userCurrent := currentVersions(v)
		spoken.widen(current)
		userSpoken.widen(userCurrent)
	}
	for i := range local {
		n := local[i].node
		if n.State == StateAlive {
			protocol.narrow(n.PMin, n.PMax)
			user.narrow(n.DMin, n.DMax)
		}
		spoken.widen(n.PCur)
		userSpoken.widen(n.DCur)
	}
	if spoken.within(protocol) && userSpoken.within(user) {
		return nil
	}
	return findIncompatible(remote, local, protocol, user)
}

// findIncompatible names the first node that speaks what not all understand.
func findIncompatible(remote []pushNodeState, local []nodeRecord, protocol, user versionRange) error {
	for i := range remote {
		current, userCurrent := currentVersions(remote[i].Vsn)
		if err := checkSpoken(remote[i].Name, protocol, user, current, userCurrent); err != nil {
			return err
		}
	}
	for i := range local {
		n := local[i].node
		if err := checkSpoken(borrow(n.Name), protocol, user, n.PCur, n.DCur); err != nil {
			return err
		}
	}
	return nil
}

func checkSpoken(name borrowed, protocol, user versionRange, current, userCurrent uint8) error {
	if err := protocol.check(name, "protocol", current); err != nil {
		return err
	}
	return user.check(name, "delegate protocol", userCurrent)
}

// currentVersions are the versions that a node speaks; 0 if it does not say (W67).
func currentVersions(vsn []byte) (protocol, user uint8) {
	if len(vsn) < 6 {
		return 0, 0
	}
	return vsn[2], vsn[5]
}

// nodeRecord is what a full exchange and Snapshot read of a member.
type nodeRecord struct {
	node        *Node
	incarnation uint32
}
