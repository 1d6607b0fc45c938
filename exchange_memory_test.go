package memberlist

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/stretchr/testify/require"
)

// P201: whatever others send on streams, and however slowly, a node holds no more of it than
// the budget, and one stream beyond. Who finds no room is told so, and pings and small
// exchanges pass meanwhile.
func TestStreamsHoldNoMoreThanTheBudget(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still)
		m.exchanges.memory.limit = 1 << 20
		p := c.puppet("p", nil)
		const size = 600 << 10
		full := p.state(false, make([]byte, size), p.self())
		var conns []net.Conn
		for range 20 {
			conn := p.dial(m)
			conns = append(conns, conn)
			go func() { _, _ = conn.Write(full[:len(full)-1]) }()
		}
		synctest.Wait()
		require.Greater(t, heldBy(m.exchanges.memory), 1<<20)
		require.Less(t, heldBy(m.exchanges.memory), 1<<20+5*size)
		require.NotZero(t, waitingFor(m.exchanges.memory))

		conn := p.dial(m)
		_, err := conn.Write((&ping{SeqNo: 5}).appendTo(nil))
		require.NoError(t, err)
		kind, _, _, err := p.readReply(conn)
		require.NoError(t, err)
		require.Equal(t, ackMsg, kind)
		joinNode(t, c.node("n2", still), m)

		told := 0
		for _, conn := range conns {
			if kind, _, refusal, err := p.readReply(conn); err == nil && kind == errorMsg {
				require.Contains(t, refusal, errNoRoom.Error())
				told++
			}
		}
		require.Greater(t, told, 10)
		time.Sleep(2 * m.config.TCPTimeout)
		synctest.Wait()
		require.Zero(t, heldBy(m.exchanges.memory))
		require.Zero(t, waitingFor(m.exchanges.memory))
	})
}

// States that fill the budget each pass one after the other.
func TestLargeStatesPassInTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		large := func(cfg *Config) {
			state := bytes.Repeat([]byte(cfg.Name), 500<<10)
			cfg.Delegate = &hooks{local: func(bool) []byte { return state }}
		}
		m := c.node("n1", still, large)
		var joiners []*Memberlist
		for i := range 8 {
			joiners = append(joiners, c.node(fmt.Sprintf("n%d", i+2), still, large))
		}
		for _, node := range c.nodes {
			node.exchanges.memory.limit = 1 << 20
		}
		var joined atomic.Int32
		for _, joiner := range joiners {
			go func() {
				n, _ := joiner.Join([]string{m.LocalNode().Address()})
				joined.Add(int32(n))
			}()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.EqualValues(t, len(joiners), joined.Load())
		require.Equal(t, 9, m.NumMembers())
		for _, node := range c.nodes {
			require.Zero(t, heldBy(node.exchanges.memory))
		}
	})
}

// User messages from streams that wait for NotifyMsg have a budget of their own, of
// bytes and so also of goroutines. Further ones hold their streams, and are dropped when
// their time is over.
func TestDeliveriesHoldNoMoreThanTheirBudget(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c, hold := recordMetrics(t), newMesh(t), make(chan struct{})
		var delivered atomic.Int32
		m := c.node("n1", still, s.measured, func(cfg *Config) {
			cfg.Delegate = &hooks{msg: func([]byte) { <-hold; delivered.Add(1) }}
		})
		m.exchanges.deliveries.limit = 10 * deliveryCost
		sender := c.node("n2", still)
		for range 20 {
			require.NoError(t, sender.SendReliable(m.LocalNode(), []byte("text")))
		}
		synctest.Wait()
		require.Equal(t, 11*deliveryCost, heldBy(m.exchanges.deliveries))
		require.Equal(t, 9, inboundStreams(m))
		time.Sleep(m.config.TCPTimeout / 2)
		synctest.Wait()
		require.Zero(t, inboundStreams(m))
		require.EqualValues(t, 9, s.sum("msg.dropped", metrics.Label{Name: "kind", Value: userMsg.String()}))
		require.NoError(t, sender.SendReliable(m.LocalNode(), []byte("text")))
		close(hold)
		synctest.Wait()
		require.EqualValues(t, 12, delivered.Load())
		require.Zero(t, heldBy(m.exchanges.deliveries))
	})
}

// P122: one source cannot take all places for full exchanges, though all of its exchanges are
// whole, and it only does not read the answers.
func TestPlacesForExchangesAreSharedBySource(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still)
		p := c.puppet("p", nil)
		full := p.state(false, nil, p.self())
		open := func(from string) net.Conn {
			near, there := net.Pipe()
			m.exchanges.take(addressedConn{near, from})
			_, err := there.Write(full)
			require.NoError(t, err)
			return there
		}
		const half = (maxPushPulls + 1) / 2
		for range half {
			open("192.0.2.1:7")
		}
		synctest.Wait()
		_, _, refusal, err := p.readReply(open("192.0.2.1:8"))
		require.NoError(t, err)
		require.Equal(t, errTooManyPushPulls.Error(), refusal)
		kind, _, _, err := p.readReply(open("192.0.2.2:7"))
		require.NoError(t, err)
		require.Equal(t, pushPullMsg, kind)
		for range maxPushPulls - half {
			open("127.0.0.1:7") // not counted by source
		}
		synctest.Wait()
		require.Equal(t, maxPushPulls, exchangePlaces(m))
		time.Sleep(2 * m.config.TCPTimeout)
		synctest.Wait()
		require.Zero(t, exchangePlaces(m))
		require.Zero(t, exchangeSources(m))
	})
}

// W89: a joiner that sends all of a state that nobody takes, before it reads the answer,
// learns why it was refused; and so does one whose state is cut short inside.
func TestJoinerLearnsWhyItsStateCannotBeRead(t *testing.T) {
	cfg := DefaultLocalConfig()
	cfg.BindAddr, cfg.BindPort, cfg.LogOutput, cfg.Name = "127.0.0.1", 0, io.Discard, "n1"
	m, err := Create(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Shutdown()) }()
	header := pushPullHeader{UserStateLen: maxUserState + 1}
	cut := (&pushPullHeader{Nodes: 1}).appendTo(nil)
	cut = append(cut, 0x81, 0xa4)
	for want, state := range map[string][]byte{
		"user state length (20971521) exceeds limit": append(header.appendTo(nil), make([]byte, maxUserState+1)...),
		"message ends early":                         appendLonger(nil, cut),
	} {
		conn, err := net.Dial("tcp", m.LocalNode().Address())
		require.NoError(t, err)
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, err = conn.Write(state)
		require.NoError(t, err)
		r, kind, err := newWire(plainConfig()).openReply(conn)
		require.NoError(t, err)
		require.Equal(t, errorMsg, kind)
		var reply errorReply
		require.NoError(t, reply.decodeFrom(r))
		require.Contains(t, reply.Error.own(), want)
		require.NoError(t, conn.Close())
	}
}

// heldBy is how many bytes of a budget are in use.
func heldBy(b *memoryBudget) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.held
}

// inboundStreams is how many streams are open that others opened.
func inboundStreams(m *Memberlist) int {
	m.exchanges.set.mu.Lock()
	defer m.exchanges.set.mu.Unlock()
	return m.exchanges.set.mu.inbound
}

// waitingFor is how many wait for room in a budget.
func waitingFor(b *memoryBudget) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.mu.waiting)
}

// exchangePlaces is how many full exchanges that others began are running.
func exchangePlaces(m *Memberlist) int {
	m.exchanges.set.mu.Lock()
	defer m.exchanges.set.mu.Unlock()
	return m.exchanges.set.mu.exchanges
}

// exchangeSources is from how many sources they come.
func exchangeSources(m *Memberlist) int {
	m.exchanges.set.mu.Lock()
	defer m.exchanges.set.mu.Unlock()
	return len(m.exchanges.set.mu.exchangesBySource)
}
