package memberlist

import (
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// happened is what a program was told, in order.
type happened struct {
	mu  sync.Mutex
	all []string
}

func (h *happened) add(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, what)
}

func (h *happened) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.all, ", ")
}

// toldSlowly makes a node whose events take their time, and which sends and gets
// user state.
func toldSlowly(c *mesh, name string, slow time.Duration) (*Memberlist, *happened) {
	h := new(happened)
	m := c.node(name, func(cfg *Config) {
		cfg.PushPullInterval = 0
		cfg.Events = &trace{hook: func(kind string, n *Node) {
			if n.Name != name {
				time.Sleep(slow)
			}
			h.add(kind + " " + n.Name)
		}}
		cfg.Delegate = &hooks{
			local: func(bool) []byte { return []byte("state of " + name) },
			merge: func(state []byte, _ bool) { h.add(string(state)) },
		}
	})
	return m, h
}

// P119: a program that keeps something for each member, made by NotifyJoin, finds it
// when the member's state is merged, on both sides of the exchange.
func TestEventsComeBeforeTheUserState(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		one, atOne := toldSlowly(c, "one", time.Second)
		two, atTwo := toldSlowly(c, "two", time.Second)
		_, err := two.Join([]string{one.LocalNode().Address()})
		require.NoError(t, err)
		require.Equal(t, "join two, join one, state of one", atTwo.String())
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, "join one, join two, state of two", atOne.String())
	})
}

// Events that hang hold up the user state of an exchange for TCPTimeout, not longer (P119).
func TestUserStateDoesNotWaitForEver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		one, atOne := toldSlowly(c, "one", time.Hour)
		two, _ := toldSlowly(c, "two", 0)
		_, err := two.Join([]string{one.LocalNode().Address()})
		require.NoError(t, err)
		time.Sleep(one.config.TCPTimeout - time.Second)
		require.Equal(t, "join one", atOne.String())
		time.Sleep(2 * time.Second)
		require.Equal(t, "join one, state of two", atOne.String())
		require.NoError(t, one.Shutdown())
		time.Sleep(time.Hour) // for the callback
	})
}

// P116, P117: to send and to receive have their full TCPTimeout each, so that an
// exchange that is slow both ways takes nearly two of them.
func TestOpenerHasTimeToSendAndToReceive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still)
		p := c.puppet("p", nil)
		slow := m.config.TCPTimeout - time.Second
		p.accept(func(conn net.Conn) {
			time.Sleep(slow)
			_, _, err := p.wire.openInbound(conn)
			require.NoError(t, err)
			time.Sleep(slow)
			_, _ = p.wire.writeStream(conn, p.state(true, nil, p.self()), false)
		})
		took := duration(func() {
			joined, err := m.Join([]string{p.tr.addr.String()})
			require.NoError(t, err)
			require.Equal(t, 1, joined)
		})
		require.Equal(t, 2*slow, took)
	})
}

// TestAcceptorHasTimeToReceiveAndToSend checks P117.
func TestAcceptorHasTimeToReceiveAndToSend(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still)
		p := c.puppet("p", nil)
		slow := m.config.TCPTimeout - time.Second
		conn := p.dial(m)
		full := p.state(true, nil, p.self())
		time.Sleep(slow)
		_, err := p.wire.writeStream(conn, full, true)
		require.NoError(t, err)
		time.Sleep(slow)
		kind, _, _, err := p.readReply(conn)
		require.NoError(t, err)
		require.Equal(t, pushPullMsg, kind)
		synctest.Wait()
		require.Equal(t, []string{"n1", "p"}, memberNames(m))
	})
}

// P122: 127 incoming exchanges run at once (W62).
func TestHowManyExchangesRunAtOnce(t *testing.T) {
	require.Equal(t, 127, maxPushPulls)
}
