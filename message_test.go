package memberlist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A user message that is sent directly goes alone, with a checksum only if the
// node that was given is known to understand it (P38, W25), whatever else waits.
func TestDirectMessagesTravelAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still, func(cfg *Config) {
			cfg.Delegate = &hooks{broadcasts: func(int, int) [][]byte { return [][]byte{[]byte("rider")} }}
		})
		p := c.puppet("p", nil)
		p.introduce(m)
		require.Positive(t, m.broadcasts.NumQueued())
		node := func(pmax uint8) *Node {
			n := *statusNode(m, "p")
			n.PMax = pmax
			return &n
		}
		for name, test := range map[string]struct {
			send     func([]byte) error
			checksum bool
		}{
			"SendBestEffort":       {func(msg []byte) error { return m.SendBestEffort(node(5), msg) }, true},
			"SendToUDP":            {func(msg []byte) error { return m.SendToUDP(node(5), msg) }, true},
			"to an older node":     {func(msg []byte) error { return m.SendBestEffort(node(4), msg) }, false},
			"SendToAddress":        {func(msg []byte) error { return m.SendToAddress(node(5).FullAddress(), msg) }, false},
			"SendTo":               {func(msg []byte) error { return m.SendTo(&p.tr.addr, msg) }, false},
			"SendToAddress, bare":  {func(msg []byte) error { return m.SendToAddress(Address{Addr: node(5).Address()}, msg) }, false},
			"an empty message too": {func([]byte) error { return m.SendBestEffort(node(4), nil) }, false}, // W15
		} {
			p.forget()
			require.NoError(t, test.send([]byte("hello")), name)
			synctest.Wait()
			p.mu.Lock()
			got := p.got
			p.mu.Unlock()
			require.Len(t, got, 1, name)
			require.Equal(t, userMsg, got[0].kind, name)
			if !strings.HasPrefix(name, "an empty") {
				require.Equal(t, "hello", string(got[0].body), name)
			}
			require.Equal(t, test.checksum, messageType(got[0].raw[0]) == checksumMsg, name)
		}
	})
}

// P38: no size check but the network's own.
func TestLargeMessagesAreCompressed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		box := new(inbox)
		m := c.node("n1", func(cfg *Config) { cfg.Delegate = box })
		p := c.puppet("p", nil)
		p.introduce(m)
		big := bytes.Repeat([]byte("compress me "), 10_000)
		require.NoError(t, m.SendBestEffort(statusNode(m, "p"), big))
		synctest.Wait()
		got := p.heard(userMsg)
		require.Len(t, got, 1)
		require.Equal(t, big, got[0].body)
		require.Less(t, got[0].size, len(big)/10)
	})
}

func TestTooLargeForADatagram(t *testing.T) {
	cfg := loopback("n1")
	cfg.EnableCompression = false
	m := createOnLoopback(t, cfg)
	require.ErrorIs(t, m.SendBestEffort(m.LocalNode(), make([]byte, 70_000)), ErrTooLarge)
	require.ErrorIs(t, m.SendTo(udpAddr(m.LocalNode()), make([]byte, 70_000)), ErrTooLarge)
}

// P3: sending to an address without a name fails where names are required.
func TestSendingToNobodyInParticular(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", func(cfg *Config) { cfg.RequireNodeNames = true })
		p := c.puppet("p", nil)
		p.introduce(m)
		unnamed := &Node{Addr: statusNode(m, "p").Addr, Port: statusNode(m, "p").Port}
		for name, err := range map[string]error{
			"SendTo":         m.SendTo(&p.tr.addr, []byte("x")),
			"SendToAddress":  m.SendToAddress(Address{Addr: p.tr.addr.String()}, []byte("x")),
			"SendBestEffort": m.SendBestEffort(unnamed, []byte("x")),
			"SendReliable":   m.SendReliable(unnamed, []byte("x")),
		} {
			require.ErrorIs(t, err, ErrNodeNameRequired, name)
			require.EqualError(t, err, "memberlist: node names are required by configuration but one was not provided")
		}
		_, err := m.Ping("", &p.tr.addr)
		require.ErrorIs(t, err, ErrNodeNameRequired)
		require.NoError(t, m.SendToAddress(Address{Addr: p.tr.addr.String(), Name: "p"}, []byte("x")))
		require.NoError(t, m.SendBestEffort(statusNode(m, "p"), []byte("x")))

		// So are answers to pings that do not say who asks.
		p.send(m, (&ping{SeqNo: 3, Node: borrow("n1")}).appendTo(nil))
		p.send(m, (&ping{SeqNo: 4, Node: borrow("n1"), SourceNode: borrow("p")}).appendTo(nil))
		synctest.Wait()
		acks := p.heard(ackMsg)
		require.Len(t, acks, 1)
		var a ack
		_, err = a.decode(acks[0].body)
		require.NoError(t, err)
		require.EqualValues(t, 4, a.SeqNo)
	})
}

func TestSendToUnknownAddressIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t).node("n1")
		require.ErrorContains(t, m.SendToAddress(Address{Addr: "127.0.0.1:99"}, []byte("x")), "no route to")
		require.Error(t, m.SendToAddress(Address{}, []byte("x")))
		err := m.SendReliable(&Node{Name: "x", Addr: net.IP{127, 0, 0, 1}, Port: 99}, []byte("x"))
		var unreachable *UnreachableError
		require.ErrorAs(t, err, &unreachable)
		require.Equal(t, "127.0.0.1:99", unreachable.Addr)
	})
}

// W58, P39: a message on a stream of its own; an empty one is delivered nowhere.
func TestReliableMessages(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		box := new(inbox)
		a := c.node("n1", func(cfg *Config) { cfg.Delegate = box })
		b := c.node("n2")
		big := strings.Repeat("x", 1<<20)
		for _, msg := range []string{"hello", "", "!", big} {
			require.NoError(t, b.SendReliable(a.LocalNode(), []byte(msg)))
			synctest.Wait()
		}
		require.NoError(t, b.SendToTCP(a.LocalNode(), []byte("old name")))
		synctest.Wait()
		require.Equal(t, []string{"hello", "!", big, "old name"}, box.all())
	})
}

// TestTooLargeForAnyReceiver checks P39, W64.
func TestTooLargeForAnyReceiver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		a, b := c.node("n1"), c.node("n2")
		require.ErrorIs(t, b.SendReliable(a.LocalNode(), make([]byte, maxUserMessage+1)), ErrTooLarge)
	})
}

// Connecting takes TCPTimeout at most, and the error names the address (P39).
func TestSendReliableGivesUpConnecting(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1")
		deaf := c.puppet("deaf", nil)
		deaf.introduce(m)
		var err error
		took := duration(func() { err = m.SendReliable(statusNode(m, "deaf"), []byte("x")) })
		require.Equal(t, m.config.TCPTimeout, took)
		require.ErrorIs(t, err, ErrTimeout)
		var unreachable *UnreachableError
		require.ErrorAs(t, err, &unreachable)
		require.Equal(t, deaf.tr.addr.String(), unreachable.Addr)
	})
}

func TestSendReliableContextIsCancelled(t *testing.T) {
	for name, prepare := range map[string]func(*puppet){
		"connecting": func(*puppet) {},
		"writing":    func(p *puppet) { p.accept(func(net.Conn) { <-p.t.Context().Done() }) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				m := c.node("n1", func(cfg *Config) { cfg.TCPTimeout = time.Hour })
				p := c.puppet("p", nil)
				p.introduce(m)
				prepare(p)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				took := duration(func() {
					require.ErrorIs(t, m.SendReliableContext(ctx, statusNode(m, "p"), []byte("x")), context.Canceled)
				})
				require.GreaterOrEqual(t, took, time.Second)
				require.Less(t, took, 1100*time.Millisecond)

				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := m.SendReliableContext(ctx, statusNode(m, "p"), []byte("x"))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.ErrorIs(t, err, ErrTimeout)
			})
		})
	}
}

// TestPingMeasuresTheRoundTrip checks P40.
func TestPingMeasuresTheRoundTrip(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var completed, asked int
		a := c.node("n1", still, func(cfg *Config) {
			cfg.Ping = &pingHooks{complete: func(*Node, time.Duration, []byte) { completed++ }}
		})
		b := c.node("n2", still, func(cfg *Config) {
			cfg.Ping = &pingHooks{payload: func() []byte { asked++; return []byte("payload") }}
		})
		c.network.SetLatency(30*time.Millisecond, 0)
		for _, addr := range []net.Addr{udpAddr(b.LocalNode()), &b.transport.(*MockTransport).addr} {
			rtt, err := a.Ping("n2", addr)
			require.NoError(t, err)
			require.Equal(t, 60*time.Millisecond, rtt)
		}
		require.Equal(t, 2, asked)
		require.Zero(t, completed, "only probes are reported")
	})
}

// TestPingWithoutAnswer checks P40.
func TestPingWithoutAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		interval, timeout, want time.Duration
		node                    string
	}{
		"patience":             {time.Second, 500 * time.Millisecond, 500 * time.Millisecond, "p"},
		"short probe interval": {300 * time.Millisecond, 500 * time.Millisecond, 300 * time.Millisecond, "p"},
		"no probes":            {0, 500 * time.Millisecond, 500 * time.Millisecond, "p"},
		"another name":         {time.Second, 500 * time.Millisecond, 500 * time.Millisecond, "somebody else"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				lines := new(logLines)
				m := c.node("n1", func(cfg *Config) {
					cfg.ProbeInterval, cfg.ProbeTimeout, cfg.LogOutput = test.interval, test.timeout, lines
					cfg.Transport = nameless{cfg.Transport} // else the name decides where it goes
				})
				target := net.Addr(&c.puppet("p", nil).tr.addr)
				if test.node != "p" {
					target = udpAddr(c.node("other").LocalNode())
				}
				var err error
				require.Equal(t, test.want, duration(func() { _, err = m.Ping(test.node, target) }))
				require.EqualError(t, err, "No response from node "+test.node)
				var silent NoPingResponseError
				require.ErrorAs(t, err, &silent)
				require.True(t, err == silent, "it is a value")
				require.ErrorIs(t, err, ErrTimeout)
				require.Len(t, lines.with("[DEBUG] memberlist: Failed UDP ping: "+test.node+" (timeout reached)"), 1)
				require.Zero(t, m.GetHealthScore())
				m.engine.locked.Lock()
				pending := len(m.engine.locked.core.pings.pending)
				m.engine.locked.Unlock()
				require.Zero(t, pending, "nobody waits for the answer any more")
			})
		})
	}
}

// TestPingThatCannotBeSent checks P40.
func TestPingThatCannotBeSent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t).node("n1")
		var err error
		require.Zero(t, duration(func() { _, err = m.Ping("x", &net.UDPAddr{IP: net.IP{127, 0, 0, 1}, Port: 99}) }))
		require.ErrorContains(t, err, "no route to")
		require.False(t, errors.As(err, new(NoPingResponseError)))
	})
}

func TestPingContextIsCancelled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", func(cfg *Config) { cfg.ProbeInterval, cfg.ProbeTimeout = 0, time.Hour })
		p := c.puppet("p", nil)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		took := duration(func() {
			_, err := m.PingContext(ctx, "p", &p.tr.addr)
			require.ErrorIs(t, err, context.Canceled)
		})
		require.GreaterOrEqual(t, took, time.Second)
		require.Less(t, took, 1100*time.Millisecond)
	})
}

// P40, P75: broadcasts ride on pings, and on the acks.
func TestBroadcastsRideOnPingsAndAcks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still, func(cfg *Config) {
			n := 0
			cfg.Delegate = &hooks{broadcasts: func(int, int) [][]byte {
				n++
				return [][]byte{fmt.Appendf(nil, "rider %d", n)}
			}}
		})
		p := c.puppet("p", nil)
		_, err := m.Ping("p", &p.tr.addr)
		require.Error(t, err)
		p.send(m, (&ping{SeqNo: 1, Node: borrow("n1")}).appendTo(nil))
		synctest.Wait()
		require.Len(t, p.heard(pingMsg), 1)
		require.Len(t, p.heard(ackMsg), 1)
		riders := p.heard(userMsg)
		require.Len(t, riders, 2)
		require.Equal(t, p.heard(pingMsg)[0].packet, riders[0].packet)
		require.Equal(t, "rider 1", string(riders[0].body))
		require.Equal(t, p.heard(ackMsg)[0].packet, riders[1].packet)
	})
}

// P51: a ping says where to answer and who asks.
func TestPingsNameTheirSource(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still)
		p := c.puppet("p", nil)
		_, err := m.Ping("p", &p.tr.addr)
		require.Error(t, err)
		var in ping
		_, err = in.decode(p.heard(pingMsg)[0].body)
		require.NoError(t, err)
		require.Equal(t, borrow("p"), in.Node)
		require.Equal(t, borrow("n1"), in.SourceNode)
		require.Equal(t, []byte(m.LocalNode().Addr), in.SourceAddr)
		require.Equal(t, m.LocalNode().Port, in.SourcePort)
	})
}
