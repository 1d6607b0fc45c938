package memberlist

import (
	crand "crypto/rand"
	"math"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"time"
)

// instant is a moment of a node's own monotonic clock: nanoseconds since the
// node was made. The core knows no other time, which keeps it pure and its
// records small.
type instant int64

// never is later than any deadline.
const never = instant(math.MaxInt64)

// add never goes beyond never.
func (i instant) add(d time.Duration) instant {
	if d > 0 && i > never-instant(d) {
		return never
	}
	return i + instant(d)
}

func (i instant) sub(j instant) time.Duration { return time.Duration(i - j) }

// Times that a configuration may ask for. Within these bounds the sums and small
// multiples that the protocol makes of them do not overflow.
const (
	// longestPeriod is some nine years, which for a process is never.
	longestPeriod = time.Duration(1 << 58)
	// shortestPeriod is the least time between two rounds of something.
	shortestPeriod = time.Millisecond
	// longestProduct bounds the products of times and factors.
	longestProduct = 4 * longestPeriod
)

// times is d × n, bounded by longestProduct. Of what is negative nothing is left.
func times(d time.Duration, n int) time.Duration { return ratio(d, n, 1) }

// ratio is d × num / den, bounded by longestProduct. Of what is negative nothing is
// left.
func ratio(d time.Duration, num, den int) time.Duration {
	if d <= 0 || num <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(d), uint64(num))
	if hi >= uint64(den) {
		return longestProduct
	}
	quotient, _ := bits.Div64(hi, lo, uint64(den))
	return time.Duration(min(quotient, uint64(longestProduct)))
}

// suspicionTimeout is the shortest time a suspect has to refute in a table of n
// nodes (P61, P153). It grows with the logarithm of n, as dissemination does (SWIM §4.2).
func suspicionTimeout(mult, n int, probeInterval time.Duration) time.Duration {
	scale := math.Max(1, math.Log10(math.Max(1, float64(n))))
	return ratio(times(probeInterval, mult), int(scale*1000), 1000)
}

// confirmationsWanted is k of P61: none when too few others could confirm.
func confirmationsWanted(mult, n int) int {
	k := mult - 2
	if n-2 < k {
		return 0
	}
	return max(k, 0)
}

// pushPullWait is the period of full exchanges in a table of n nodes: beyond 32
// each doubling of the cluster adds one interval (P43).
func pushPullWait(interval time.Duration, n int) time.Duration {
	const unscaled = 32
	if n <= unscaled {
		return interval
	}
	doublings := bits.Len(uint(n-1)) - bits.Len(uint(unscaled-1))
	return times(interval, doublings+1)
}

// newRandom is a source for choices that must differ from node to node and,
// for sequence numbers, must not be guessed by outsiders.
func newRandom() *rand.Rand {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails
	return rand.New(rand.NewChaCha8(seed))
}

// jitter spreads a period by a tenth in both directions, so that nodes that
// were started together do not stay in step.
func jitter(rng *rand.Rand, d time.Duration) time.Duration {
	if d < 10 {
		return d
	}
	return d - d/10 + time.Duration(rng.Int64N(int64(d/5)))
}

// unmapAddrPort reduces IPv4 addresses in IPv6 form to IPv4.
func unmapAddrPort(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
