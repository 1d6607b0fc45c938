package memberlist

import (
	"context"
	"sync"

	"github.com/hashicorp/go-multierror"
)

// maxJoins is how many seeds are contacted at the same time.
const maxJoins = 128

// joinResult is what came of one address or entry.
type joinResult struct {
	eventSeq uint64
	err      error
}

// joining contacts the nodes of a list, to become a member of their cluster.
type joining struct {
	services
	events    *notifier
	resolver  *resolver
	exchanges *exchanges
}

// contactAll resolves the entries and makes the exchanges (P16).
func (j *joining) contactAll(ctx context.Context, entries []string) (int, error) {
	slots := make(chan struct{}, maxJoins)
	results := make([][]joinResult, len(entries))
	var wg sync.WaitGroup
	for i, entry := range entries {
		wg.Go(func() { results[i] = j.contactEntry(ctx, entry, slots) })
	}
	wg.Wait()

	joined, eventSeq := 0, uint64(0)
	var failures *multierror.Error
	for _, r := range flatten(results) {
		if r.err != nil {
			failures = multierror.Append(failures, r.err)
			continue
		}
		joined++
		eventSeq = max(eventSeq, r.eventSeq)
	}
	if joined == 0 { // P17
		return 0, failures.ErrorOrNil()
	}
	_ = j.events.wait(ctx, eventSeq)
	return joined, nil
}

func flatten[T any](lists [][]T) []T {
	var all []T
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

// contactEntry resolves one entry and exchanges state with each of its
// addresses (P16, P18).
func (j *joining) contactEntry(ctx context.Context, entry string, slots chan struct{}) []joinResult {
	if !takeSlot(ctx, slots) {
		return []joinResult{{err: &JoinError{Seed: entry, Err: cause(ctx)}}}
	}
	addrs, err := j.resolver.resolve(ctx, entry)
	<-slots
	if err != nil {
		failed := &JoinError{Seed: entry, Err: err}
		j.log.warnf("Failed to resolve a seed", logFields{addr: entry, err: err}, "Failed to resolve %s: %v", entry, err)
		return []joinResult{{err: failed}}
	}
	results := make([]joinResult, len(addrs))
	var wg sync.WaitGroup
	for i, addr := range addrs {
		wg.Go(func() { results[i] = j.contact(ctx, entry, addr, slots) })
	}
	wg.Wait()
	return results
}

func takeSlot(ctx context.Context, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// contact exchanges state with one address when there is a slot.
func (j *joining) contact(ctx context.Context, entry string, addr Address, slots chan struct{}) joinResult {
	if !takeSlot(ctx, slots) {
		return joinResult{err: &JoinError{Seed: entry, Addr: addr.Addr, Err: cause(ctx)}}
	}
	defer func() { <-slots }()
	return j.exchangeState(ctx, entry, addr)
}

// exchangeState makes the exchange of a join. A failure is logged.
func (j *joining) exchangeState(ctx context.Context, entry string, addr Address) joinResult {
	var eventSeq uint64
	var err error
	j.tasks.callers.inherit(ctx, func() { eventSeq, err = j.exchanges.pushPull(ctx, addr, true) })
	if err == nil {
		return joinResult{eventSeq: eventSeq}
	}
	err = j.life.explain(ctx, err)
	j.log.debugf("Failed to join", logFields{node: addr.Name, addr: addr.Addr, err: err}, "Failed to join %s: %v", addr.Addr, err)
	return joinResult{err: &JoinError{Seed: entry, Addr: addr.Addr, Err: err}}
}
