package memberlist

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ---- sequence numbers

// A sequence number cannot be guessed from earlier ones, and is not 0 nor one
// that is pending (P59).
func TestSequenceNumbersAreRandomAndUnused(t *testing.T) {
	c := newTestCore(t)
	small := 0
	for range 2000 {
		before := len(c.pings.pending)
		p := registerPing(c.core)
		require.NotZero(t, p.seq)
		require.Len(t, c.pings.pending, before+1)
		if p.seq < 1<<31 {
			small++
		}
	}
	require.InDelta(t, 1000, small, 150, "spread over all 32 bits")
}

// registerPing makes a ping pending.
func registerPing(c *core) *pendingPing {
	p := new(relayedPing)
	c.pings.register(0, &p.pendingPing, p)
	return &p.pendingPing
}

// TestSequenceNumbersInUseAreNotDrawn checks P59.
func TestSequenceNumbersInUseAreNotDrawn(t *testing.T) {
	cfg := DefaultLANConfig()
	cfg.Name = "me"
	c := newCore(cfg, rand.New(&fixedSource{0, 7 << 32, 7 << 32, 0, 9 << 32}))
	require.EqualValues(t, 7, registerPing(c).seq)
	require.EqualValues(t, 9, registerPing(c).seq)
}

type fixedSource []uint64

func (s *fixedSource) Uint64() uint64 {
	v := (*s)[0]
	*s = (*s)[1:]
	return v
}

// ---- acks and nacks

// TestWhatNobodyWaitsForIsIgnored checks P59, W77.
func TestWhatNobodyWaitsForIsIgnored(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.ack(c.now, &ack{SeqNo: 0}, c.now)
	c.ack(c.now, &ack{SeqNo: 5}, c.now)
	c.nack(c.now, &nack{SeqNo: 5})
	require.True(t, c.fx.empty())
	c.pinged()
	c.settle()
	c.ack(c.now, &ack{SeqNo: c.probing.ping.seq + 1}, c.now)
	require.True(t, c.fx.empty())
	require.Equal(t, probeDirect, c.probing.phase)
}

// A nack ends nothing: an ack after it still counts (P59).
func TestNackDoesNotEndTheWait(t *testing.T) {
	c := unanswered(t, func(c *testCore) { c.know("r") })
	c.nack(c.now, &nack{SeqNo: c.probing.ping.seq})
	require.Equal(t, 1, c.probing.ping.nacks)
	c.acked()
	c.pass(time.Minute)
	require.Equal(t, "alive@1", c.view("x"))
}

// TestNackForAnotherPingDoesNotCount checks P59.
func TestNackForAnotherPingDoesNotCount(t *testing.T) {
	c := unanswered(t, func(c *testCore) { c.know("r") })
	relayed := registerPing(c.core)
	c.nack(c.now, &nack{SeqNo: relayed.seq})
	require.Zero(t, c.probing.ping.nacks)
}

// Nor does one that nobody was asked for, or that is one too many: neither counts,
// nor shows it that this node is heard (P59).
func TestNackThatWasNotWantedDoesNotCount(t *testing.T) {
	for _, wanted := range []int{0, 1} {
		c := unanswered(t, func(c *testCore) { c.hearAlive("r", 2, withPMax(uint8(3+wanted))) })
		ping := c.probing.ping
		for range wanted {
			c.nack(c.now, &nack{SeqNo: ping.seq})
		}
		heard := c.selfCheck.packets.last
		c.pass(time.Millisecond)
		c.nack(c.now, &nack{SeqNo: ping.seq})
		require.Equal(t, wanted, ping.nacks)
		require.Equal(t, heard, c.selfCheck.packets.last)
	}
}

// Pings leave nothing behind, whatever becomes of them (P59).
func TestPendingPingsAreForgotten(t *testing.T) {
	c := newTestCore(t)
	c.know("x", "y", "z")
	c.start(c.now)
	c.pass(5 * time.Minute) // nobody ever answers
	c.relay(c.now, destination{name: "x"}, relayRequest{seq: 1, requester: destination{name: "y"}, wantsNack: true})
	c.pingFor(c.now, destination{name: "x"}, new(pingWaiter))
	c.pass(time.Minute)
	require.LessOrEqual(t, len(c.pings.pending), 1)
	require.Zero(t, c.relays.pending)
	require.Less(t, len(c.timers.heap), 20)
}

// ---- being a relay

var (
	relayTarget    = destination{addr: addrPortOf(addrOfTestNode("x"), 7946), name: "x"}
	relayRequester = destination{addr: addrPortOf(addrOfTestNode("y"), 7946), name: "y"}
)

// TestRelayPingsInItsOwnName checks P58.
func TestRelayPingsInItsOwnName(t *testing.T) {
	c := newTestCore(t)
	c.know("x", "y")
	c.relay(c.now, relayTarget, relayRequest{seq: 42, requester: relayRequester, wantsNack: true})
	require.Len(t, c.fx.packets, 1)
	p := c.fx.packets[0]
	require.Equal(t, relayTarget, p.to)
	require.True(t, p.piggyback, "P75")
	var sent ping
	_, err := sent.decode(p.msg[1:])
	require.NoError(t, err)
	require.Equal(t, ping{
		SeqNo: p.seq, Node: borrow("x"), SourceAddr: addrOfTestNode("me"), SourcePort: 7946, SourceNode: borrow("me"),
	}, sent)
	require.NotEqual(t, uint32(42), p.seq, "an own sequence number")
}

// TestAckIsPassedOnWithTheRequestersNumber checks P58.
func TestAckIsPassedOnWithTheRequestersNumber(t *testing.T) {
	c := newTestCore(t)
	c.know("x", "y")
	c.relay(c.now, relayTarget, relayRequest{seq: 42, requester: relayRequester, wantsNack: true})
	seq := c.fx.packets[0].seq
	c.settle()
	c.pass(100 * time.Millisecond)
	c.ack(c.now, &ack{SeqNo: seq, Payload: []byte("of the target")}, c.now)
	require.Len(t, c.fx.packets, 1)
	p := c.fx.packets[0]
	require.Equal(t, relayRequester, p.to)
	require.True(t, p.piggyback, "P75")
	require.Equal(t, (&ack{SeqNo: 42}).appendTo(nil), p.msg, "without payload")
	require.Zero(t, c.relays.pending)
	c.settle()
	c.ack(c.now, &ack{SeqNo: seq}, c.now)
	c.pass(time.Minute)
	require.Empty(t, c.fx.packets, "neither a second ack nor a nack")
}

// The nack comes a little before the requester's round is over, which is one
// ProbeTimeout after it asked; in the reference it comes a little later, and too
// late (P58).
func TestNackIsSentOnceIfWanted(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		c := newTestCore(t)
		c.know("x", "y")
		c.relay(c.now, relayTarget, relayRequest{seq: 42, requester: relayRequester, wantsNack: wanted})
		seq := c.fx.packets[0].seq
		c.settle()
		c.pass(400*time.Millisecond - 1)
		require.Empty(t, c.fx.packets)
		c.pass(1)
		if wanted {
			require.Len(t, c.fx.packets, 1)
			p := c.fx.packets[0]
			require.Equal(t, relayRequester, p.to)
			require.True(t, p.piggyback, "P75")
			require.Equal(t, (&nack{SeqNo: 42}).appendTo(nil), p.msg)
		} else {
			require.Empty(t, c.fx.packets)
		}
		c.settle()
		c.pass(time.Minute)
		c.ack(c.now, &ack{SeqNo: seq}, c.now) // too late
		require.Empty(t, c.fx.packets)
		require.Zero(t, c.relays.pending)
		require.Equal(t, "alive@1", c.view("x"), "the own view does not change")
		require.Zero(t, c.health.score)
	}
}

// An answer that is late, but not later than ProbeTimeout, is passed on although
// the nack has gone out (P58).
func TestLateAnswerIsPassedOnAfterTheNack(t *testing.T) {
	c := newTestCore(t)
	c.relay(c.now, relayTarget, relayRequest{seq: 42, requester: relayRequester, wantsNack: true})
	seq := c.fx.packets[0].seq
	c.pass(450 * time.Millisecond)
	c.settle()
	c.ack(c.now, &ack{SeqNo: seq}, c.now)
	require.Equal(t, []string{"y: ack"}, c.packets())
	require.Zero(t, c.relays.pending)
}

// What others can make us remember is bounded (P58, P181).
func TestRelayedPingsAreBounded(t *testing.T) {
	c := newTestCore(t)
	sources := 0
	for c.relays.pending < maxRelays {
		c.askRelay(sourceNumber(sources), maxRelays)
		sources++
	}
	c.settle()
	c.askRelay(sourceNumber(sources), 10)
	require.Len(t, c.pings.pending, maxRelays)
	require.Equal(t, 10, c.fx.metrics.relaysRefused)
	c.pass(time.Second)
	require.Empty(t, c.pings.pending)
	require.Empty(t, c.relays.bySource)
	c.settle()
	c.askRelay(sourceNumber(0), 1)
	require.Len(t, c.pings.pending, 1)
}

// askRelay lets indirect pings come from a source.
func (c *testCore) askRelay(source netip.Addr, times int) {
	for range times {
		c.relay(c.now, relayTarget, relayRequest{seq: 1, requester: relayRequester, source: source})
	}
}

func sourceNumber(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, byte(n >> 8), byte(n)}) }

// Places are shared: who asks for all leaves room for those who ask for little (P181).
func TestRelaysAreSharedAmongSources(t *testing.T) {
	for greedy := 1; greedy <= 16; greedy *= 2 {
		c := newTestCore(t)
		for range maxRelays {
			for n := range greedy {
				c.askRelay(sourceNumber(n), 1)
			}
		}
		share := maxRelays / (greedy + 1)
		for n := range greedy {
			require.InDelta(t, share, c.relays.bySource[sourceNumber(n)], 1)
		}
		c.settle()
		c.askRelay(sourceNumber(greedy), share/2)
		require.Zero(t, c.fx.metrics.relaysRefused, "%d greedy ones", greedy)
	}
}

// An IPv6 network counts as one source, and so do the two forms of an IPv4 address.
func TestRelaySources(t *testing.T) {
	source := func(text string) netip.Addr { return relaySource(netip.MustParseAddr(text)) }
	require.Equal(t, source("2001:db8::1"), source("2001:db8::ffff:1"))
	require.NotEqual(t, source("2001:db8::1"), source("2001:db8:0:1::1"))
	require.Equal(t, source("10.0.0.1"), source("::ffff:10.0.0.1"))
	require.NotEqual(t, source("10.0.0.1"), source("10.0.0.2"))
	require.Equal(t, netip.Addr{}, relaySource(netip.Addr{}))
}

// Broadcasts ride with what is sent to nodes that are known, by name and address, and
// to others only now and then: they could be anybody's address (P196).
func TestBroadcastsForUnknownNodesAreBounded(t *testing.T) {
	elsewhere := netip.MustParseAddrPort("192.0.2.1:53")
	for name, to := range map[string]destination{
		"unknown":                     {addr: elsewhere, name: "stranger"},
		"without a name":              {addr: relayTarget.addr},
		"known name, other address":   {addr: elsewhere, name: "x"},
		"known address, other name":   {addr: relayTarget.addr, name: "y"},
		"known name, address as text": {text: elsewhere.String(), name: "x"},
	} {
		c := newTestCore(t)
		c.know("x", "y")
		for range answerBurst {
			require.True(t, c.relays.mayPiggyback(c.now, to), name)
		}
		require.False(t, c.relays.mayPiggyback(c.now, to), name)
		for range 3 {
			c.pass(answerInterval)
			require.True(t, c.relays.mayPiggyback(c.now, to), name)
			require.False(t, c.relays.mayPiggyback(c.now, to), name)
		}
		c.pass(time.Hour)
		for range answerBurst {
			require.True(t, c.relays.mayPiggyback(c.now, to), "%s: all are back", name)
		}
		require.False(t, c.relays.mayPiggyback(c.now, to), "%s: but no more than that", name)

		c.relay(c.now, to, relayRequest{requester: to, wantsNack: true})
		require.False(t, c.fx.packets[0].piggyback, "the ping of a relay")
		require.True(t, c.relays.mayPiggyback(c.now, relayTarget), "known nodes are not affected")
		require.True(t, c.relays.mayPiggyback(c.now, destination{text: relayTarget.addr.String(), name: "x"}))
	}
}

// ---- Ping

// TestPingOfACaller checks P40.
func TestPingOfACaller(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.health.score = 2
	w := new(pingWaiter)
	for range 2 { // it can be used again
		p := c.pingFor(c.now, destination{name: "somebody"}, w)
		require.True(t, p.piggyback, "P75")
		require.Equal(t, "somebody", p.to.name)
		require.Equal(t, "ping somebody", inWords(t, p.msg))
		sent := c.now.add(time.Millisecond)
		c.pass(10 * time.Millisecond)
		c.ack(c.now, &ack{SeqNo: w.seq}, c.now.add(-time.Millisecond))
		require.Equal(t, 8*time.Millisecond, w.rtt(sent))
		require.Equal(t, []*pingWaiter{w}, c.fx.answered)
		require.Empty(t, c.fx.rtts, "the ping delegate is not called")
		require.Equal(t, 2, c.health.score, "the health does not change")
		require.Empty(t, c.pings.pending)
		require.Empty(t, c.timers.heap, "the caller looks after the time")
		c.settle()
	}
}

// TestAnswerThatIsFasterThanTheClock checks P40.
func TestAnswerThatIsFasterThanTheClock(t *testing.T) {
	c := newTestCore(t)
	w := new(pingWaiter)
	c.pingFor(c.now, destination{name: "x"}, w)
	answered := c.now.add(30)
	c.ack(answered, &ack{SeqNo: w.seq}, answered)
	require.EqualValues(t, 10, w.rtt(c.now.add(20)))
	require.EqualValues(t, 30, w.rtt(c.now.add(30)))
	require.EqualValues(t, 30, w.rtt(c.now.add(40)))
}

// TestPingTargets checks P40.
func TestPingTargets(t *testing.T) {
	known := netip.MustParseAddrPort("10.0.0.2:7946")
	ip := net.IP{10, 0, 0, 2}
	for _, row := range []struct {
		addr net.Addr
		want destination
	}{
		{&net.UDPAddr{IP: ip, Port: 7946}, destination{addr: known}},
		{&net.UDPAddr{IP: ip.To16(), Port: 7946}, destination{addr: known}},
		{&net.TCPAddr{IP: ip, Port: 7946}, destination{addr: known}},
		{&MockAddress{addr: "10.0.0.2:7946"}, destination{addr: known}},
		{&MockAddress{addr: "not an address"}, destination{text: "not an address"}},
		{&net.UDPAddr{Port: 7946}, destination{text: ":7946"}},
	} {
		row.want.name = "x"
		require.Equal(t, row.want, pingTarget("x", row.addr))
	}
}

// TestPingWithoutAnswerChangesNothing checks P40.
func TestPingWithoutAnswerChangesNothing(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	w := new(pingWaiter)
	c.pingFor(c.now, destination{name: "x"}, w)
	c.pass(500 * time.Millisecond)
	c.forgetPing(w)
	c.ack(c.now, &ack{SeqNo: w.seq}, c.now)
	require.True(t, c.fx.empty())
	require.Equal(t, "alive@1", c.view("x"))
	require.Empty(t, c.pings.pending)
}

// TestPingOfACallerWhoHasGone checks P40.
func TestPingOfACallerWhoHasGone(t *testing.T) {
	c := newTestCore(t)
	w := new(pingWaiter)
	c.pingFor(c.now, destination{name: "x"}, w)
	c.forgetPing(w)
	c.ack(c.now, &ack{SeqNo: w.seq}, c.now)
	c.pass(time.Minute)
	require.True(t, c.fx.empty())
}

// Clocks of transports may be odd: a round trip never takes less than nothing (P53).
func TestRoundTripIsNeverNegative(t *testing.T) {
	c := newTestCore(t)
	c.know("x")
	c.pinged()
	c.ack(c.now, &ack{SeqNo: c.probing.ping.seq}, c.now.add(-time.Second))
	require.Zero(t, c.fx.rtts[0].rtt)
	w := new(pingWaiter)
	c.pingFor(c.now, destination{name: "x"}, w)
	c.ack(c.now, &ack{SeqNo: w.seq}, c.now.add(-time.Second))
	require.Zero(t, w.rtt(c.now))
}
