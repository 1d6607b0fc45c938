package interop_test

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/seed-83836a96/memberlist/compare/interop/simnet"
	"github.com/seed-83836a96/memberlist/compare/interop/wiretap"
)

// traffic reads along on the simulated network and remembers which kinds of
// messages went from which side to which. In a life the odd addresses are
// theirs, the even ones ours.
type traffic struct {
	keys [][]byte

	mu       sync.Mutex
	seen     map[passage]int
	problems []string
}

// passage is a message type from one side to the other.
type passage struct {
	kind     byte
	from, to byte
}

func watch(net *simnet.Network, keys [][]byte) *traffic {
	tr := &traffic{keys: keys, seen: make(map[passage]int)}
	net.Watch(tr.packet)
	return tr
}

func sideOf(a netip.AddrPort) byte {
	if a.Addr().As4()[3]%2 == 1 {
		return 'a'
	}
	return 'b'
}

func (tr *traffic) packet(from, to netip.AddrPort, b []byte) {
	p, err := wiretap.Open(b, tr.keys)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if err != nil {
		tr.problems = append(tr.problems, fmt.Sprintf("%v to %v: %v", from, to, err))
		return
	}
	for _, kind := range p.Types() {
		tr.seen[passage{kind, sideOf(from), sideOf(to)}]++
	}
}

func (tr *traffic) reset() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	clear(tr.seen)
}

func (tr *traffic) count(kind, from, to byte) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.seen[passage{kind, from, to}]
}

// relayed says whether one side asked a relay on the other.
func (tr *traffic) relayed(from, to byte) bool { return tr.count(wiretap.IndirectPing, from, to) > 0 }

// nacked says whether a relay on one side reported failure to the other.
func (tr *traffic) nacked(from, to byte) bool { return tr.count(wiretap.Nack, from, to) > 0 }

func (tr *traffic) faults() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.problems
}
