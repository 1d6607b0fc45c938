package memberlist

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func sourceNamed(addr string) streamSource {
	return streamSource{inbound: true, network: netip.MustParsePrefix(addr)}
}

// chargeLater charges an account on a goroutine of its own.
func chargeLater(a *memoryAccount, size int) (result chan error) {
	result = make(chan error, 1)
	go func() { result <- a.charge(size) }()
	synctest.Wait()
	return result
}

// Who needs more than there is waits for others to give some back, in turn; one at a
// time does not wait.
func TestMemoryBudgetIsWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := &memoryBudget{limit: 100}
		open := func() *memoryAccount { return b.account(t.Context(), streamSource{}, time.Now().Add(time.Minute)) }
		x, y, z := open(), open(), open()
		require.NoError(t, x.charge(60))
		require.NoError(t, y.charge(60), "one may go beyond the budget")
		require.NoError(t, y.charge(1000), "and further")
		waiting := chargeLater(z, 10)
		require.Empty(t, waiting)
		y.close()
		synctest.Wait()
		require.NoError(t, <-waiting)
		require.Equal(t, 70, b.mu.held)
		require.NoError(t, y.charge(40), "its account may be used again")
		first, second := chargeLater(x, 50), chargeLater(z, 15)
		require.Empty(t, first)
		y.release(15)
		synctest.Wait()
		require.NoError(t, <-first, "who came first may go beyond")
		require.Empty(t, second)
		x.release(90)
		synctest.Wait()
		require.NoError(t, <-second)
		for _, a := range []*memoryAccount{x, y, z} {
			a.close()
		}
		require.Zero(t, b.mu.held)
		require.Empty(t, b.mu.waiting)
		require.Nil(t, b.mu.beyond)
	})
}

// Waiting ends with the account's time, and with its context.
func TestMemoryIsNotWaitedForForEver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := &memoryBudget{limit: 100}
		ctx, cancel := context.WithCancelCause(t.Context())
		open := func(d time.Duration) *memoryAccount { return b.account(ctx, streamSource{}, time.Now().Add(d)) }
		require.NoError(t, open(0).charge(100))
		require.NoError(t, open(0).charge(100), "beyond")
		x, y := open(time.Minute), open(time.Hour)
		long := chargeLater(y, 1)
		var err error
		require.Equal(t, time.Minute, duration(func() { err = x.charge(1) }))
		require.ErrorIs(t, err, errNoRoom)
		require.Empty(t, long)
		cancel(ErrShutdown)
		synctest.Wait()
		require.ErrorIs(t, <-long, ErrShutdown)
		require.Empty(t, b.mu.waiting)
		x.close()
		y.close()
		require.Equal(t, 200, b.mu.held)
	})
}

// A source that takes all that it can leaves as much as it has to others. What is on
// this machine, or was opened by the node itself, counts only for the whole.
func TestMemoryIsSharedBySource(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := &memoryBudget{limit: 100}
		open := func(s streamSource) *memoryAccount {
			return b.account(t.Context(), s, time.Now().Add(time.Minute))
		}
		greedy, other := sourceNamed("192.0.2.1/32"), sourceNamed("192.0.2.2/32")
		for range 50 {
			require.NoError(t, open(greedy).charge(1))
		}
		beyond := open(greedy)
		require.NoError(t, beyond.charge(1), "the one")
		require.Same(t, beyond, b.mu.beyond)
		require.Equal(t, time.Minute, duration(func() { require.ErrorIs(t, open(greedy).charge(1), errNoRoom) }))
		a := open(other)
		require.NoError(t, a.charge(24))
		require.NoError(t, open(streamSource{inbound: true}).charge(25))
		a.close()
		require.NotContains(t, b.mu.bySource, other)
	})
}

// The first bytes of each stream are free, so that small ones never wait.
func TestSmallStreamsNeedNoBudget(t *testing.T) {
	b := &memoryBudget{limit: 1, free: 100}
	a := b.account(t.Context(), streamSource{}, time.Time{})
	require.NoError(t, a.charge(100))
	require.Zero(t, b.mu.held)
	require.NoError(t, a.charge(7))
	require.Equal(t, 7, b.mu.held)
	a.release(50)
	require.Zero(t, b.mu.held)
	a.close()
	require.Zero(t, a.held)
}

// A reader charges what it holds before it has it, all of it, and gives it back:
// frames, what is decompressed, lists of nodes, user state.
func TestReaderChargesWhatItHolds(t *testing.T) {
	const nodes = 20_000
	content := samplePushPull(nodes, bytes.Repeat([]byte("state"), 1<<20))
	for name, cfg := range map[string]*Config{
		"plain":                 {},
		"compressed":            {EnableCompression: true},
		"sealed":                {Keyring: testRing(t, "a"), ProtocolVersion: 2, GossipVerifyOutgoing: true},
		"two keys":              {Keyring: testRing(t, "ab"), ProtocolVersion: 2, GossipVerifyOutgoing: true},
		"sealed and compressed": {Keyring: testRing(t, "a"), ProtocolVersion: 2, EnableCompression: true, GossipVerifyOutgoing: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := &memoryBudget{limit: 1 << 30}
			w := newWire(cfg)
			r := w.newReader(&memoryConn{unread: streamOf(t, cfg, content), most: 100_000})
			r.account = b.account(t.Context(), streamSource{}, time.Now())
			_, err := w.openInboundFrom(r)
			require.NoError(t, err)
			_, list, user, err := readPushPull(r, nil)
			require.NoError(t, err)
			require.Len(t, list, nodes)
			held := cap(list)*entrySize + cap(user)
			for _, memory := range r.held {
				held += cap(memory)
			}
			require.InDelta(t, held, b.mu.held, float64(held)/50)
			account := r.account
			r.release()
			require.InDelta(t, cap(list)*entrySize+cap(user), b.mu.held, float64(held)/50)
			account.close()
			require.Zero(t, b.mu.held)
		})
	}
}

// Nothing is allocated for a stream that there is no room for.
func TestReaderWithoutRoomAllocatesNothing(t *testing.T) {
	content := samplePushPull(200, make([]byte, 10<<20))
	for name, cfg := range map[string]*Config{
		"plain":      {},
		"compressed": {EnableCompression: true},
		"sealed":     {Keyring: testRing(t, "a"), ProtocolVersion: 2, GossipVerifyOutgoing: true},
	} {
		b := new(memoryBudget)
		require.NoError(t, b.account(t.Context(), streamSource{}, time.Now()).charge(1), "somebody is beyond the budget")
		w := newWire(cfg)
		r := w.newReader(&memoryConn{unread: streamOf(t, cfg, content)})
		r.account = b.account(t.Context(), streamSource{}, time.Now())
		_, err := w.openInboundFrom(r)
		if err == nil {
			_, _, _, err = readPushPull(r, nil)
		}
		require.ErrorIs(t, err, errNoRoom, name)
		require.Empty(t, r.held, name)
	}
}
