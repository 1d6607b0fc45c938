package memberlist

import (
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The shortest suspicion with SuspicionMult 4 and ProbeInterval 1 s, as in the
// table of P153 (P61, P153).
func TestSuspicionTimeoutGrowsWithLogOfN(t *testing.T) {
	table := []struct {
		n    int
		want time.Duration
	}{
		{1, 4 * time.Second}, {2, 4 * time.Second}, {9, 4 * time.Second}, {10, 4 * time.Second},
		{11, 4164 * time.Millisecond}, {50, 6792 * time.Millisecond}, {99, 7980 * time.Millisecond},
		{100, 8 * time.Second}, {500, 10792 * time.Millisecond}, {1000, 12 * time.Second},
		{10000, 16 * time.Second},
	}
	for _, row := range table {
		require.Equal(t, row.want, suspicionTimeout(4, row.n, time.Second), "n = %d", row.n)
	}
	require.Equal(t, 4*time.Second, suspicionTimeout(4, 0, time.Second), "an empty table counts as one node")
}

// TestSuspicionTimeoutScalesWithMultAndInterval checks P61.
func TestSuspicionTimeoutScalesWithMultAndInterval(t *testing.T) {
	require.Equal(t, 6*5*time.Second, suspicionTimeout(6, 5, 5*time.Second))
	require.Equal(t, 3*200*time.Millisecond, suspicionTimeout(3, 10, 200*time.Millisecond))
	require.Equal(t, 3*2*100*time.Millisecond, suspicionTimeout(3, 100, 100*time.Millisecond))
	for n := 1; n < 100_000; n = n*3/2 + 1 {
		require.LessOrEqual(t, suspicionTimeout(4, n, time.Second), suspicionTimeout(4, n+n/2+1, time.Second), "n = %d", n)
	}
}

// TestConfirmationsWanted checks P61.
func TestConfirmationsWanted(t *testing.T) {
	for _, row := range []struct{ mult, n, want int }{
		{4, 1, 0}, {4, 2, 0}, {4, 3, 0}, {4, 4, 2}, {4, 5, 2}, {4, 1000, 2},
		{6, 5, 0}, {6, 6, 4}, {3, 2, 0}, {3, 3, 1},
		{2, 2, 0}, {2, 100, 0}, {1, 100, 0}, {0, 0, 0},
	} {
		require.Equal(t, row.want, confirmationsWanted(row.mult, row.n), "mult %d, n %d", row.mult, row.n)
	}
}

// TestPushPullWaitGrowsWithTheCluster checks P43, P153.
func TestPushPullWaitGrowsWithTheCluster(t *testing.T) {
	table := map[int]int{
		0: 30, 1: 30, 31: 30, 32: 30, 33: 60, 63: 60, 64: 60, 65: 90, 127: 90, 128: 90, 129: 120, 256: 120,
		257: 150, 1024: 180, 1025: 210,
	}
	for n, seconds := range table {
		require.Equal(t, time.Duration(seconds)*time.Second, pushPullWait(30*time.Second, n), "n = %d", n)
	}
	for n := 33; n < 5000; n++ {
		steps := math.Ceil(math.Log2(float64(n))-5) + 1
		require.Equal(t, time.Duration(steps)*time.Second, pushPullWait(time.Second, n), "n = %d", n)
	}
}

// TestRetransmitLimitTable checks P77, P153.
func TestRetransmitLimitTable(t *testing.T) {
	for n, want := range map[int]int{
		0: 0, 1: 4, 9: 4, 10: 8, 99: 8, 100: 12, 999: 12, 1000: 16, 9999: 16, 10000: 20,
	} {
		require.Equal(t, want, retransmitLimit(4, n), "n = %d", n)
	}
}

// Each period of background work differs from the last, by at most a tenth, and
// is right on average, so that nodes started together part (P42).
func TestJitterSpreadsAPeriod(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const rounds = 10_000
	var sum time.Duration
	seen := map[time.Duration]bool{}
	for range rounds {
		d := jitter(rng, time.Second)
		require.GreaterOrEqual(t, d, 900*time.Millisecond)
		require.Less(t, d, 1100*time.Millisecond)
		seen[d] = true
		sum += d
	}
	require.Greater(t, len(seen), rounds/2)
	require.InDelta(t, time.Second, sum/rounds, float64(5*time.Millisecond))
	for d := range 10 * time.Nanosecond {
		require.Equal(t, d, jitter(rng, d), "too short to be spread")
	}
	require.Positive(t, jitter(rng, 10))
}

func TestNewRandomSourcesDiffer(t *testing.T) {
	require.NotEqual(t, newRandom().Uint64(), newRandom().Uint64())
}

func TestInstants(t *testing.T) {
	i := instant(5)
	require.Equal(t, instant(8), i.add(3))
	require.Equal(t, time.Duration(-2), i.sub(7))
	require.Greater(t, never, instant(0).add(250*365*24*time.Hour))
}

// TestHostPortBracketsIPv6 checks P37, W73.
func TestHostPortBracketsIPv6(t *testing.T) {
	require.Equal(t, "10.0.0.1:7946", joinHostPort(net.IP{10, 0, 0, 1}, 7946))
	require.Equal(t, "10.0.0.1:7946", joinHostPort(net.IPv4(10, 0, 0, 1), 7946), "16-byte form")
	require.Equal(t, "[2001:db8::7]:1", joinHostPort(net.ParseIP("2001:db8::7"), 1))
}

func TestAddrPortOfUnmapsIPv4(t *testing.T) {
	want := netip.MustParseAddrPort("10.0.0.1:7946")
	require.Equal(t, want, addrPortOf([]byte{10, 0, 0, 1}, 7946))
	require.Equal(t, want, addrPortOf(net.IPv4(10, 0, 0, 1), 7946))
	require.Equal(t, netip.MustParseAddrPort("[2001:db8::7]:1"), addrPortOf(net.ParseIP("2001:db8::7"), 1))
	require.False(t, addrPortOf([]byte{1, 2, 3}, 7946).IsValid())
	require.False(t, addrPortOf(nil, 7946).IsValid())
}

// The two forms of one IPv4 address are one address, other than in the
// reference (W72).
func TestAddressFormsAreOneAddress(t *testing.T) {
	v4, mapped, v6 := net.IP{10, 0, 0, 1}, net.IPv4(10, 0, 0, 1), net.ParseIP("2001:db8::7")
	require.True(t, sameIP(v4, mapped))
	require.True(t, sameIP(mapped, v4))
	require.True(t, sameIP(v6, v6))
	require.True(t, sameIP(nil, []byte{}))
	require.False(t, sameIP(v4, v6))
	require.False(t, sameIP(v4, nil))
	require.False(t, sameIP(v4, net.IP{10, 0, 0, 2}))
	require.False(t, sameIP([]byte{1, 2, 3}, []byte{1, 2, 4}))
}

func TestTimesDoNotOverflow(t *testing.T) { // P157
	const most = time.Duration(math.MaxInt64)
	require.Equal(t, never, instant(1).add(most))
	require.Equal(t, never, never.add(1))
	require.Equal(t, never, instant(0).add(most))
	require.Equal(t, instant(5), instant(8).add(-3))
	require.Equal(t, longestProduct, times(most, 2))
	require.Equal(t, longestProduct, times(time.Second, math.MaxInt))
	require.Equal(t, 3*time.Hour, times(time.Hour, 3))
	require.Zero(t, times(-1, -1))
	require.Equal(t, 1500*time.Millisecond, ratio(time.Second, 3, 2))
	require.Equal(t, longestPeriod, ratio(longestPeriod, 1000, 1000), "no overflow half way")
	require.Equal(t, longestProduct, suspicionTimeout(math.MaxInt, math.MaxInt, most))
	require.Equal(t, longestProduct, pushPullWait(most, 1<<20))
	require.Positive(t, jitter(rand.New(rand.NewPCG(1, 2)), longestProduct))
	require.Equal(t, math.MaxInt, retransmitLimit(math.MaxInt, 10))
	limit := awareness{score: math.MaxInt - 1, limit: math.MaxInt}
	require.Equal(t, longestProduct, limit.scale(most))
}
