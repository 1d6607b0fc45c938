package memberlist

import (
	"bytes"
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
)

// A program may call any method from any callback (P124). Some methods wait: Leave
// and UpdateNode for events and confirmations, Join for exchanges, Shutdown for all
// goroutines. Inside a callback that wait would be for what only the waiting goroutine
// can bring about, so these methods have to know whether they are called from one.
//
// Only the identity of the calling goroutine tells that. The interfaces of the
// delegates are those of hashicorp/memberlist and pass no context, and Go has no
// storage per goroutine. Profiling labels are no substitute: a program may replace
// them, and goroutines that a callback starts inherit them although these may wait.
// Not to wait at all would break programs that rely on it.
//
// There are three cases:
//
//   - The protocol runs on the goroutine: it delivers events, reads packets or waits
//     for the timer. It is in loops.
//   - The goroutine is inside AliveDelegate.NotifyAlive, which is called on any
//     goroutine, one call at a time (P123). It is in asking. What it does may lead to
//     further calls of NotifyAlive, on the same goroutine or another one. They must not
//     wait until the first call has ended, which waits for them: they take another turn.
//   - Another goroutine does what a callback waits for, as the exchanges of a Join. The
//     context of that work says so (mark), and the goroutine counts as inside the
//     callback while it does it (inherit).

// reentrancy knows which goroutines are inside a callback. The zero value is ready
// for use.
type reentrancy struct {
	loops sync.Map // goroutines on which the protocol runs, by number

	asking     sync.Map     // the turn of goroutines that take part in a call of NotifyAlive; nil inside it
	askingSize atomic.Int32 // spares others the search for their number
}

// turn is held by the one whose turn it is. It is a channel, not a mutex, since
// waiting for it can take long and has to end with a context.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// becomeLoop marks the calling goroutine as one of the protocol's for as long as it lives.
func (r *reentrancy) becomeLoop() { r.loops.Store(goroutineID(), nil) }

// asLoop runs f here and marks this goroutine as one of the protocol's meanwhile.
func (r *reentrancy) asLoop(f func()) {
	id := goroutineID()
	if _, already := r.loops.LoadOrStore(id, nil); !already {
		defer r.loops.Delete(id)
	}
	f()
}

// onLoop reports whether the caller runs on a goroutine of the protocol, which for
// user code means inside a callback.
func (r *reentrancy) onLoop() bool {
	_, found := r.loops.Load(goroutineID())
	return found
}

// asAsking runs f while the calling goroutine takes part in a call of NotifyAlive.
func (r *reentrancy) asAsking(own turn, f func()) {
	id := goroutineID()
	before, nested := r.asking.Swap(id, own)
	r.askingSize.Add(1)
	defer func() {
		r.askingSize.Add(-1)
		if nested {
			r.asking.Store(id, before)
		} else {
			r.asking.Delete(id)
		}
	}()
	f()
}

// askingTurn tells whether the caller takes part in a call of NotifyAlive, and which
// turn further calls take; nil if the caller is inside that call.
func (r *reentrancy) askingTurn() (own turn, takesPart bool) {
	if r.askingSize.Load() == 0 {
		return nil, false
	}
	value, takesPart := r.asking.Load(goroutineID())
	own, _ = value.(turn)
	return own, takesPart
}

// isAsking reports whether a call of NotifyAlive waits for the caller.
func (r *reentrancy) isAsking() bool {
	_, takesPart := r.askingTurn()
	return takesPart
}

// inCallback reports whether the caller is user code that the protocol, or a call of
// NotifyAlive, waits for (P124).
func (r *reentrancy) inCallback() bool { return r.isAsking() || r.onLoop() }

type callbackKey struct{}

// mark marks a context as that of work that somebody inside a callback waits for, if
// the caller is inside one.
func (r *reentrancy) mark(ctx context.Context) context.Context {
	if !r.inCallback() {
		return ctx
	}
	own, takesPart := r.askingTurn()
	if takesPart && own == nil {
		own = newTurn()
	}
	return context.WithValue(ctx, callbackKey{}, own)
}

// inherit runs f. If ctx is marked, user code that f calls is inside the callback as well.
func (r *reentrancy) inherit(ctx context.Context, f func()) {
	own, marked := ctx.Value(callbackKey{}).(turn)
	switch {
	case !marked:
		f()
	case own == nil:
		r.asLoop(f)
	default:
		r.asLoop(func() { r.asAsking(own, f) })
	}
}

// goroutineID is the number of the calling goroutine. The runtime tells it only
// in the first line of a stack trace, "goroutine 7 [running]:"; that takes
// about a microsecond, so it is asked for only where somebody is about to wait.
func goroutineID() uint64 {
	var buf [64]byte
	fields := bytes.Fields(buf[:runtime.Stack(buf[:], false)])
	if len(fields) < 2 {
		return 0
	}
	id, _ := strconv.ParseUint(string(fields[1]), 10, 64)
	return id
}
