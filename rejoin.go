package memberlist

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// seedContacts is how many seeds are resolved, and how many addresses are contacted,
	// at the same time.
	seedContacts = 16

	// seedWarnings is the time between two warnings of the same seed.
	seedWarnings = time.Hour
)

// seedAddress is what a seed resolves to.
type seedAddress struct {
	seed string
	addr Address
}

// rejoining contacts the configured seeds that are no members.
type rejoining struct {
	services
	config  *Config
	engine  *engine
	joining *joining
	direct  directTransport      // nil if the transport is none
	warned  map[string]time.Time // last warning by seed; one rejoin runs at a time
}

// rejoin looks the seeds up and exchanges state with those that no living member is
// reached at. There is one at a time. What takes longer than a period is left to the next
// one, which tries the addresses in another order.
func (r *rejoining) rejoin() {
	defer r.engine.step((*core).seedsContacted)
	period := r.config.RejoinInterval
	if period <= 0 {
		period = r.config.ReconnectInterval
	}
	ctx, cancel := context.WithTimeout(r.life.ctx, period)
	defer cancel()
	addrs := r.strangers(r.resolveSeeds(ctx, r.seeds(ctx)))
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	atATime(addrs, func(a seedAddress) {
		// An exchange that began before may have made it known.
		if ctx.Err() == nil && len(r.strangers([]seedAddress{a})) > 0 {
			r.joining.exchangeState(r.life.ctx, a.seed, a.addr)
		}
	})
}

// atATime calls f for all of the list, seedContacts of them at a time (P191).
func atATime[T any](list []T, f func(T)) {
	slots := make(chan struct{}, seedContacts)
	var all sync.WaitGroup
	for _, item := range list {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			f(item)
		})
	}
	all.Wait()
}

// seeds are the entries that are configured, and those that the SeedSource has now (P190).
func (r *rejoining) seeds(ctx context.Context) []string {
	if r.config.SeedSource == nil {
		return r.config.Seeds
	}
	found, err := r.config.SeedSource(ctx)
	if err != nil {
		r.seedFailed("", err)
		return r.config.Seeds
	}
	delete(r.warned, "")
	return append(slices.Clone(r.config.Seeds), found...)
}

// resolveSeeds are the addresses of the entries, each once.
func (r *rejoining) resolveSeeds(ctx context.Context, entries []string) []seedAddress {
	type result struct {
		seed  string
		addrs []Address
		err   error
	}
	var mu sync.Mutex
	var results []result
	atATime(entries, func(seed string) {
		addrs, err := r.joining.resolver.resolveSeed(ctx, seed)
		mu.Lock()
		defer mu.Unlock()
		results = append(results, result{seed, addrs, err})
	})
	var list []seedAddress
	seen := make(map[Address]bool)
	for _, found := range results {
		if found.err != nil {
			r.seedFailed(found.seed, found.err)
			continue
		}
		delete(r.warned, found.seed)
		for _, addr := range found.addrs {
			if !seen[addr] {
				seen[addr] = true
				list = append(list, seedAddress{found.seed, addr})
			}
		}
	}
	return list
}

// seedFailed logs that an entry could not be resolved, or, without one, that the
// SeedSource failed. It warns of each now and then: what fails once fails mostly for
// long (P191).
func (r *rejoining) seedFailed(seed string, err error) {
	if r.life.ctx.Err() != nil {
		return
	}
	level, now := levelWarn, time.Now()
	if last, warned := r.warned[seed]; warned && now.Sub(last) < seedWarnings {
		level = levelDebug
	} else {
		r.noteSeedWarning(seed, now)
	}
	if seed == "" {
		r.log.log(level, "Failed to get seeds", logFields{err: err}, "Failed to get seeds: %v", err)
		return
	}
	r.log.log(level, "Failed to resolve a seed", logFields{addr: seed, err: err}, "Failed to resolve %s: %v", seed, err)
}

// noteSeedWarning remembers a warning, and forgets those that are long ago: a SeedSource can
// come with ever new entries.
func (r *rejoining) noteSeedWarning(seed string, now time.Time) {
	for other, at := range r.warned {
		if now.Sub(at) >= seedWarnings {
			delete(r.warned, other)
		}
	}
	if r.warned == nil {
		r.warned = make(map[string]time.Time)
	}
	r.warned[seed] = now
}

// strangers are those of the addresses that lead neither to a living member nor to this node.
// An entry with a node name stands for the node of that name, at whatever address that
// is (P188).
func (r *rejoining) strangers(list []seedAddress) []seedAddress {
	names, addrs := make(map[string]bool), make(map[netip.AddrPort]bool)
	for _, a := range list {
		names[a.addr.Name], addrs[a.addrPort()] = false, false
	}
	for _, n := range append(r.engine.view.members(), r.engine.self.Load()) {
		if _, wanted := names[n.Name]; wanted {
			names[n.Name] = true
		}
		at := addrPortOf(n.Addr, n.Port)
		if _, wanted := addrs[at]; wanted {
			addrs[at] = true
		}
	}
	listening := r.listeningAt()
	return slices.DeleteFunc(slices.Clone(list), func(a seedAddress) bool {
		if a.addr.Name != "" {
			return names[a.addr.Name]
		}
		return addrs[a.addrPort()] || slices.Contains(listening, a.addrPort())
	})
}

// addrPort is the address for comparing; an invalid one if it is no IP address.
func (a seedAddress) addrPort() netip.AddrPort {
	at, _ := netip.ParseAddrPort(a.addr.Addr)
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

// listeningAt are the addresses of this machine at which this node accepts streams, if that
// is known: a list of seeds that is the same on all nodes may name it by another address
// than the one it advertises.
func (r *rejoining) listeningAt() []netip.AddrPort {
	if r.direct == nil {
		return nil
	}
	var list []netip.AddrPort
	for _, bound := range r.direct.streamAddrs() {
		ips := []netip.Addr{bound.Addr()}
		if bound.Addr().IsUnspecified() {
			ips = ownIPs()
		}
		for _, ip := range ips {
			list = append(list, netip.AddrPortFrom(ip.Unmap().WithZone(""), bound.Port()))
		}
	}
	return list
}

// ownIPs are the addresses of this machine's interfaces.
func ownIPs() []netip.Addr {
	var ips []netip.Addr
	addrs, _ := net.InterfaceAddrs()
	for _, addr := range addrs {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil {
			ips = append(ips, prefix.Addr())
		}
	}
	return ips
}
