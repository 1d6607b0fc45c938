package interop_test

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/seed-83836a96/memberlist/compare/interop/wiretap"
	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// traffic reads along on the simulated network and remembers which kinds of
// messages went from which side to which. In a life the odd addresses are
// theirs, the even ones ours.
type traffic struct {
	setting

	mu         sync.Mutex
	seen       map[passage]int
	compressed map[byte]bool // by side
	checked    map[byte]bool // by side
	problems   []string
}

// passage is a message type from one side to the other.
type passage struct {
	kind     byte
	from, to byte
}

func watch(net *simnet.Network, s setting) *traffic {
	tr := &traffic{
		setting: s, seen: make(map[passage]int),
		compressed: make(map[byte]bool), checked: make(map[byte]bool),
	}
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
	if from.Addr().As4()[3] <= 6 { // the later ones hold a name of the other side
		tr.dressed(from, p)
	}
	for _, kind := range p.Types() {
		tr.seen[passage{kind, sideOf(from), sideOf(to)}]++
	}
}

// dressed wants that a packet has the label and the seal of the setting; that it was
// opened with its keys is known already.
func (tr *traffic) dressed(from netip.AddrPort, p wiretap.Packet) {
	side := sideOf(from)
	tr.compressed[side] = tr.compressed[side] || p.Compressed
	tr.checked[side] = tr.checked[side] || p.Checked
	if p.Label != tr.label {
		tr.problems = append(tr.problems, fmt.Sprintf("%v: label %q", from, p.Label))
	}
	seal := byte(1)
	if tr.protocols[side-'a'] == 1 {
		seal = 0
	}
	if p.Sealed && p.SealedAs != seal {
		tr.problems = append(tr.problems, fmt.Sprintf("%v: sealed as version %d", from, p.SealedAs))
	}
}

// compresses says whether a side ever sent a compressed packet, sums whether one with
// a checksum.
func (tr *traffic) compresses(side byte) bool { return tr.had(tr.compressed, side) }
func (tr *traffic) sums(side byte) bool       { return tr.had(tr.checked, side) }

func (tr *traffic) had(what map[byte]bool, side byte) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return what[side]
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

// suspicions is how many accusations were sent, by anybody.
func (tr *traffic) suspicions() int {
	sum := 0
	for _, from := range []byte("ab") {
		for _, to := range []byte("ab") {
			sum += tr.count(wiretap.Suspect, from, to)
		}
	}
	return sum
}

func (tr *traffic) faults() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.problems
}
