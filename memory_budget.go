package memberlist

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Bounds of the memory that streams take, for all of them together.
const (
	// maxStreamMemory is how many bytes the streams of a node may hold: what has been
	// read of them, what was made of it, and the answers to it.
	maxStreamMemory = 128 << 20

	// freeStreamMemory is how many bytes each stream may hold beside that. Pings and
	// the exchanges of small clusters need no more, so they never wait.
	freeStreamMemory = 16 << 10

	// maxDeliveryMemory is how many bytes user messages may hold that came on streams
	// and for which NotifyMsg has not returned. Each counts for at least deliveryCost,
	// which a goroutine takes.
	maxDeliveryMemory = 64 << 20
	deliveryCost      = 16 << 10
)

// errNoRoom is why a stream fails that waited in vain for others to give memory back.
var errNoRoom = errors.New("too much memory is in use by streams")

// memoryBudget bounds the bytes that many may hold together (P201). Who needs more than there
// is waits until somebody gives some back. All but one do: one at a time may go beyond
// the budget, so that those who wait for each other come to an end, and so that what
// needs most of the budget can pass.
//
// A source may hold as much as is left free, as with relays: one that takes all that it
// can gets half, and leaves room for others.
type memoryBudget struct {
	limit int
	free  int // what each account may hold that does not count

	mu struct {
		sync.Mutex
		held     int
		bySource map[streamSource]int
		beyond   *memoryAccount // the one that may go beyond the budget
		waiting  []*memoryClaim // in the order in which they came
	}
}

// memoryClaim is an account that waits for room.
type memoryClaim struct {
	account *memoryAccount
	size    int
	granted chan struct{}
}

// memoryAccount is what one stream holds of a budget. One goroutine at a time uses it.
// A nil account counts nothing.
type memoryAccount struct {
	budget  *memoryBudget
	ctx     context.Context // nothing is waited for when it has ended
	source  streamSource
	until   time.Time // nor after that
	held    int
	counted int // of what is held, what the budget counts
}

// account opens an account. It has to be closed.
func (b *memoryBudget) account(ctx context.Context, source streamSource, until time.Time) *memoryAccount {
	return &memoryAccount{budget: b, ctx: ctx, source: source, until: until}
}

// charge takes that many bytes, before they are allocated. It waits until there is room.
func (a *memoryAccount) charge(size int) error {
	if a == nil {
		return nil
	}
	more := max(0, a.held+size-a.budget.free) - a.counted
	if more > 0 {
		if err := a.budget.take(a, more); err != nil {
			return err
		}
		a.counted += more
	}
	a.held += size
	return nil
}

// release gives bytes back; less than none takes some that are there already.
func (a *memoryAccount) release(size int) {
	if a == nil {
		return
	}
	a.held -= size
	if less := a.counted - max(0, a.held-a.budget.free); less != 0 {
		a.counted -= less
		a.budget.give(a, less)
	}
}

// close gives all back that is still held.
func (a *memoryAccount) close() {
	if a != nil {
		a.release(a.held)
	}
}

// extend gives the account another time.
func (a *memoryAccount) extend(until time.Time) {
	if a != nil {
		a.until = until
	}
}

// grow moves b to memory of that size, which is larger.
func (a *memoryAccount) grow(b []byte, size int) ([]byte, error) {
	if err := a.charge(size); err != nil {
		return b, err
	}
	larger := append(make([]byte, 0, size), b...)
	a.release(cap(b))
	return larger, nil
}

// take waits for room, until the account's time is up.
func (b *memoryBudget) take(a *memoryAccount, size int) error {
	claim := b.claim(a, size)
	if claim == nil {
		return nil
	}
	timeout := time.NewTimer(time.Until(a.until))
	defer timeout.Stop()
	var err error
	select {
	case <-claim.granted:
		return nil
	case <-timeout.C:
		err = errNoRoom
	case <-a.ctx.Done():
		err = context.Cause(a.ctx)
	}
	if !b.withdraw(claim) {
		return nil // granted meanwhile
	}
	return err
}

// claim takes bytes if there is room; else it queues a claim to them.
func (b *memoryBudget) claim(a *memoryAccount, size int) *memoryClaim {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.admit(a, size) {
		return nil
	}
	claim := &memoryClaim{account: a, size: size, granted: make(chan struct{})}
	b.mu.waiting = append(b.mu.waiting, claim)
	return claim
}

// withdraw reports whether a claim was still waiting.
func (b *memoryBudget) withdraw(claim *memoryClaim) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.mu.waiting, claim)
	if i < 0 {
		return false
	}
	b.mu.waiting = slices.Delete(b.mu.waiting, i, i+1)
	return true
}

// admit takes bytes if there is room, or if the account may go beyond the budget. The
// lock is held.
func (b *memoryBudget) admit(a *memoryAccount, size int) bool {
	if !b.fits(a, size) {
		if b.mu.beyond != nil && b.mu.beyond != a {
			return false
		}
		b.mu.beyond = a
	}
	b.add(a.source, size)
	return true
}

// fits reports whether there is room for that many bytes more. The lock is held.
func (b *memoryBudget) fits(a *memoryAccount, size int) bool {
	left := b.limit - b.mu.held
	return size <= left && b.mu.bySource[a.source]+size <= left
}

// add counts bytes. The lock is held.
func (b *memoryBudget) add(source streamSource, size int) {
	b.mu.held += size
	if !source.network.IsValid() {
		return
	}
	if b.mu.bySource == nil {
		b.mu.bySource = make(map[streamSource]int)
	}
	b.mu.bySource[source] += size
	if b.mu.bySource[source] == 0 {
		delete(b.mu.bySource, source)
	}
}

// give gives bytes back, and lets those go on who waited for them.
func (b *memoryBudget) give(a *memoryAccount, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(a.source, -size)
	if b.mu.beyond == a && (a.counted == 0 || b.fits(a, 0)) {
		b.mu.beyond = nil
	}
	b.mu.waiting = slices.DeleteFunc(b.mu.waiting, func(claim *memoryClaim) bool {
		admitted := b.admit(claim.account, claim.size)
		if admitted {
			close(claim.granted)
		}
		return admitted
	})
}
