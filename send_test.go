package memberlist

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/stretchr/testify/require"
)

// endlessly gives out messages of one size, as many as fit.
type endlessly struct {
	hooks
	size int
	mu   sync.Mutex
	asks [][2]int // what GetBroadcasts was asked
	sent int
}

func (e *endlessly) GetBroadcasts(overhead, limit int) (msgs [][]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asks = append(e.asks, [2]int{overhead, limit})
	for used := 0; used+overhead+e.size <= limit; used += overhead + e.size {
		e.sent++
		msg := bytes.Repeat([]byte{byte(e.sent)}, e.size)
		msgs = append(msgs, msg)
	}
	return msgs
}

// P72, P73: packets aim at UDPBufferSize and exceed it by at most 7 bytes, whatever
// surrounds their content; and they make use of the room.
func TestSizeOfGossip(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 16)
	for name, change := range map[string]func(*Config){
		"plain":      func(*Config) {},
		"label":      func(cfg *Config) { cfg.Label = strings.Repeat("x", 100) },
		"encryption": func(cfg *Config) { cfg.SecretKey = key },
		"version 1":  func(cfg *Config) { cfg.SecretKey, cfg.ProtocolVersion = key, 1 },
		"both, and small": func(cfg *Config) {
			cfg.SecretKey, cfg.Label, cfg.UDPBufferSize = key, "label", 512
		},
		"keys that are not used": func(cfg *Config) {
			cfg.SecretKey, cfg.GossipVerifyOutgoing, cfg.GossipVerifyIncoming = key, false, false
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				m := c.node("n1", func(cfg *Config) {
					cfg.EnableCompression, cfg.Delegate, cfg.ProbeInterval = false, &endlessly{size: 10}, 0
					change(cfg)
				})
				cfg := *m.config
				p := c.puppet("p", &cfg)
				p.introduce(m)
				for range 5 {
					p.send(m, (&ping{SeqNo: 1, Node: borrow("n1"), SourceNode: borrow("p")}).appendTo(nil))
				}
				time.Sleep(2 * time.Second)
				sizes := map[int]int{}
				longest := 0
				for _, h := range append(p.heard(userMsg), p.heard(ackMsg)...) {
					sizes[h.packet] = h.size
					longest = max(longest, h.size)
				}
				require.Greater(t, len(sizes), 10)
				require.LessOrEqual(t, longest, m.config.UDPBufferSize+7)
				require.Greater(t, longest, m.config.UDPBufferSize-60, "there was room")
			})
		})
	}
}

// P74: the membership queue comes first; the delegate is asked for what is left if
// that is more than 3 bytes, with an overhead of 3, and its messages travel behind
// the byte of user messages.
func TestUserBroadcastsGetWhatIsLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		e := &endlessly{size: 100}
		m := c.node("n1", still, func(cfg *Config) { cfg.EnableCompression, cfg.Delegate = false, e })
		p := c.puppet("p", nil)
		m.broadcasts.Reset()
		ping := &ping{SeqNo: 1, Node: borrow("n1"), SourceNode: borrow("p")}
		mainLen := len((&ack{SeqNo: 1}).appendTo(nil))
		ask := func() (rest int, riders int) {
			e.asks = nil
			p.forget()
			p.send(m, ping.appendTo(nil))
			synctest.Wait()
			require.Len(t, p.heard(ackMsg), 1)
			if e.asks == nil {
				return 0, len(p.heard(userMsg))
			}
			require.Len(t, e.asks, 1)
			require.Equal(t, 3, e.asks[0][0])
			return e.asks[0][1], len(p.heard(userMsg))
		}
		space := m.outbound.wire.piggybackSpace(mainLen)
		left, riders := ask()
		require.Equal(t, space, left)
		require.Equal(t, space/103, riders)

		word := bytes.Repeat([]byte{byte(userMsg)}, 200) // stands for a membership message
		m.spread(&namedBroadcast{plainBroadcast{msg: word}, "x"})
		left, riders = ask()
		require.Equal(t, space-202, left)
		require.Equal(t, (space-202)/103+1, riders)

		m.broadcasts.Reset()
		m.spread(&namedBroadcast{plainBroadcast{msg: bytes.Repeat([]byte{byte(userMsg)}, space-2-3)}, "x"})
		left, riders = ask()
		require.Zero(t, left, "three bytes are not worth asking for")
		require.Equal(t, 1, riders)
	})
}

// P69: gossip goes to members and to those that died a short while ago, never to
// those that left, nor to this node.
func TestWhoGetsGossip(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		n := 0
		m := c.node("n1", func(cfg *Config) {
			cfg.ProbeInterval, cfg.PushPullInterval, cfg.ReconnectInterval = 100*time.Hour, 0, 0
			cfg.GossipToTheDeadTime = 10 * time.Second
			cfg.Delegate = &hooks{broadcasts: func(int, int) [][]byte { n++; return [][]byte{[]byte("news")} }}
		})
		puppets := map[string]*puppet{}
		for _, name := range []string{"alive", "suspect", "dead", "left"} {
			puppets[name] = c.puppet(name, nil)
			puppets[name].introduce(m)
		}
		teller := c.puppet("teller", nil)
		teller.send(m, (&suspect{Incarnation: 1, Node: borrow("suspect"), From: borrow("x")}).appendTo(nil))
		teller.send(m, (&dead{Incarnation: 1, Node: borrow("dead"), From: borrow("x")}).appendTo(nil))
		teller.send(m, (&dead{Incarnation: 1, Node: borrow("left"), From: borrow("left")}).appendTo(nil))
		synctest.Wait()
		for _, p := range puppets {
			p.forget()
		}
		start := time.Now()
		time.Sleep(20 * time.Second)
		last := func(name string) time.Duration {
			var at time.Duration
			for _, h := range puppets[name].heard(userMsg) {
				at = max(at, h.at.Sub(start))
			}
			return at
		}
		require.Greater(t, last("alive"), 19*time.Second)
		require.Greater(t, last("suspect"), 19*time.Second)
		require.InDelta(t, 10, last("dead").Seconds(), 1)
		require.Zero(t, last("left"))
	})
}

// P70: each target has its broadcasts drawn for itself, and when nothing is left
// nobody gets an empty packet. One message is sent bare, more as a compound (W17).
func TestGossipIsDrawnForEachTarget(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", func(cfg *Config) {
			cfg.ProbeInterval, cfg.PushPullInterval, cfg.EnableCompression = 0, 0, false
			cfg.GossipNodes, cfg.RetransmitMult = 3, 1
		})
		var puppets []*puppet
		for i := range 3 {
			p := c.puppet(fmt.Sprint("p", i), nil)
			p.introduce(m)
			puppets = append(puppets, p)
		}
		time.Sleep(time.Second)
		for _, p := range puppets {
			p.forget()
		}
		m.broadcasts.Reset()
		m.spread(&namedBroadcast{plainBroadcast{msg: []byte{byte(userMsg), '1'}}, "once"}) // limit 1
		time.Sleep(time.Second)
		heard := 0
		for _, p := range puppets {
			for _, h := range p.heard(userMsg) {
				heard++
				require.Equal(t, checksumLen+2, h.size, "bare, behind the checksum")
			}
		}
		require.Equal(t, 1, heard)

		m.spread(&namedBroadcast{plainBroadcast{msg: []byte{byte(userMsg), '1'}}, "a"})
		m.spread(&namedBroadcast{plainBroadcast{msg: []byte{byte(userMsg), '2'}}, "b"})
		for _, p := range puppets {
			p.forget()
		}
		time.Sleep(time.Second)
		for _, p := range puppets {
			if got := p.heard(userMsg); len(got) > 0 {
				require.Len(t, got, 2)
				require.Equal(t, got[0].packet, got[1].packet)
				require.Equal(t, compoundMsg, messageType(got[0].raw[checksumLen]))
			}
		}
	})
}

// W17, W80: more messages than a compound can have go out in several, in gossip and
// riding on a ping; none is lost or changed. One that is too long for a part of a
// compound travels bare (and is cut short in the reference).
func TestManyAndLongMessagesArriveWhole(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var pending [][]byte
		var mu sync.Mutex
		give := func(int, int) [][]byte {
			mu.Lock()
			defer mu.Unlock()
			msgs := pending
			pending = nil
			return msgs
		}
		m := c.node("n1", func(cfg *Config) {
			cfg.UDPBufferSize, cfg.EnableCompression = 300_000, false
			cfg.ProbeInterval, cfg.PushPullInterval = 0, 0
			cfg.Delegate = &hooks{broadcasts: give}
		})
		p := c.puppet("p", nil)
		p.introduce(m)
		time.Sleep(time.Second)

		long := bytes.Repeat([]byte("long"), 20_000)
		for _, riding := range []bool{false, true} {
			var want []string
			p.forget()
			mu.Lock()
			for i := range 600 {
				msg := fmt.Appendf(nil, "message %d", i)
				if i == 300 {
					msg = long
				}
				pending, want = append(pending, msg), append(want, string(msg))
			}
			mu.Unlock()
			if riding {
				_, err := m.Ping("p", &p.tr.addr)
				require.Error(t, err)
				require.Len(t, p.heard(pingMsg), 1)
			}
			time.Sleep(time.Second)
			var got []string
			for _, h := range p.heard(userMsg) {
				got = append(got, string(h.body))
			}
			require.Equal(t, want, got)
		}
	})
}

// P75: broadcasts ride on relayed acks, nacks and indirect pings as well.
func TestBroadcastsRideOnWhatRelaysSend(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still, func(cfg *Config) {
			cfg.Delegate = &hooks{broadcasts: func(int, int) [][]byte { return [][]byte{[]byte("rider")} }}
		})
		asker, target, silent := c.puppet("asker", nil), c.puppet("target", nil), c.puppet("silent", nil)
		target.answerPings(m)
		for i, to := range []*alive{target.alive(1), silent.alive(1)} {
			asker.send(m, (&indirectPing{
				SeqNo: uint32(i), Target: to.Addr, Port: to.Port, Node: to.Node, Nack: true, SourceNode: borrow("asker"),
			}).appendTo(nil))
		}
		time.Sleep(time.Second)
		riders := map[int]bool{}
		for _, p := range []*puppet{asker, target, silent} {
			for _, h := range p.heard(userMsg) {
				riders[h.packet] = true
			}
			for _, h := range append(append(p.heard(ackMsg), p.heard(nackMsg)...), p.heard(pingMsg)...) {
				require.True(t, riders[h.packet], h.kind)
			}
		}
		require.Len(t, asker.heard(ackMsg), 1)
		require.Len(t, asker.heard(nackMsg), 1)
		require.Len(t, silent.heard(pingMsg), 1)
	})
}

// failingTransport fails to send pings to one name.
type failingTransport struct {
	*MockTransport
	name string
	err  error
}

func (f *failingTransport) WriteToAddress(b []byte, to Address) (time.Time, error) {
	if to.Name == f.name {
		return time.Time{}, f.err
	}
	return f.MockTransport.WriteToAddress(b, to)
}

// P52: a ping that cannot be sent is the other end's fault only if it looks so.
func TestPingsThatCannotBeSent(t *testing.T) {
	refused := func(network, op string) error { return &net.OpError{Op: op, Net: network, Err: os.ErrPermission} }
	for name, test := range map[string]struct {
		err    error
		remote bool
	}{
		"udp write":   {refused("udp", "write"), true},
		"udp4 write":  {refused("udp4", "write"), true},
		"tcp dial":    {refused("tcp", "dial"), true},
		"tcp6 read":   {refused("tcp6", "read"), true},
		"tcp write":   {fmt.Errorf("wrapped: %w", refused("tcp", "write")), true},
		"udp dial":    {refused("udp", "dial"), false},
		"tcp listen":  {refused("tcp", "listen"), false},
		"mock write":  {refused("mock", "write"), false},
		"plain error": {errors.New("my own fault"), false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				require.Equal(t, test.remote, remoteFailure(test.err))
				c := newMesh(t)
				lines := new(logLines)
				cfg := c.config("n1")
				cfg.Transport = &failingTransport{cfg.Transport.(*MockTransport), "target", test.err}
				cfg.GossipInterval, cfg.PushPullInterval, cfg.LogOutput = 0, 0, lines
				m := c.start(cfg)
				relay := c.puppet("relay", nil)
				relay.answerPings(m)
				target := c.puppet("target", nil)
				relay.introduce(m)
				target.introduce(m)
				time.Sleep(10 * time.Second)
				require.NotEmpty(t, lines.with("[ERR] memberlist: Failed to send packet to target (127.0.0.1:3): "))
				asked := len(relay.heard(indirectPingMsg)) > 0
				require.Equal(t, test.remote, asked)
				if !test.remote {
					require.Equal(t, StateAlive, statusOf(m, "target").Node.State)
					require.Zero(t, m.GetHealthScore())
				} else {
					require.NotEqual(t, StateAlive, statusOf(m, "target").Node.State)
				}
			})
		})
	}
}

// keepingTransport keeps the buffers that it is given.
type keepingTransport struct {
	*MockTransport
	mu     sync.Mutex
	kept   [][]byte
	copies [][]byte
}

func (k *keepingTransport) WriteToAddress(b []byte, to Address) (time.Time, error) {
	k.mu.Lock()
	k.kept, k.copies = append(k.kept, b), append(k.copies, bytes.Clone(b))
	k.mu.Unlock()
	return k.MockTransport.WriteToAddress(b, to)
}

// P138: the library does not touch a buffer after handing it over.
func TestBuffersAreNotTouchedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		cfg := c.config("n1")
		k := &keepingTransport{MockTransport: cfg.Transport.(*MockTransport)}
		cfg.Transport, cfg.Delegate = k, &endlessly{size: 50}
		m := c.start(cfg)
		joinNode(t, m, c.node("n2"))
		for i := range 50 {
			require.NoError(t, m.SendBestEffort(statusNode(m, "n2"), fmt.Appendf(nil, "message %d", i)))
		}
		time.Sleep(5 * time.Second)
		k.mu.Lock()
		defer k.mu.Unlock()
		require.Greater(t, len(k.kept), 70)
		require.Equal(t, k.copies, k.kept)
	})
}

// P139: with a label every packet and every stream that is opened starts with it.
func TestEverythingOutgoingIsLabelled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		labelled := func(cfg *Config) { cfg.Label = "blue" }
		m := c.node("n1", labelled)
		p := c.puppet("p", &Config{Label: "blue", ProtocolVersion: 2})
		p.introduce(m)
		header, err := labelHeader("blue")
		require.NoError(t, err)
		var mu sync.Mutex
		streams := 0
		p.accept(func(conn net.Conn) {
			begin := make([]byte, len(header))
			_, _ = conn.Read(begin)
			mu.Lock()
			defer mu.Unlock()
			streams++
			require.Equal(t, header, begin)
		})
		require.NoError(t, m.SendBestEffort(statusNode(m, "p"), []byte("x")))
		_ = m.SendReliable(statusNode(m, "p"), []byte("x"))
		_, _ = m.Join([]string{p.tr.addr.String()})
		time.Sleep(3 * time.Second) // with pings on streams
		p.mu.Lock()
		defer p.mu.Unlock()
		require.Greater(t, len(p.got), 3)
		for _, h := range p.got {
			require.True(t, bytes.HasPrefix(h.raw, header))
		}
		mu.Lock()
		defer mu.Unlock()
		require.GreaterOrEqual(t, streams, 3)
	})
}

// W25: by a quirk of the format a packet that goes to a bare address carries a
// checksum if a member's name is that address.
func TestChecksumForANodeNamedLikeItsAddress(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still, func(cfg *Config) { cfg.Transport = nameless{cfg.Transport} })
		p := c.puppet("127.0.0.1", nil)
		checksummed := func() bool {
			p.forget()
			require.NoError(t, m.SendTo(&p.tr.addr, []byte("x")))
			synctest.Wait()
			return messageType(p.heard(userMsg)[0].raw[0]) == checksumMsg
		}
		require.False(t, checksummed())
		p.introduce(m)
		require.True(t, checksummed())
		p.send(m, (&ping{SeqNo: 1}).appendTo(nil))
		synctest.Wait()
		require.Equal(t, checksumMsg, messageType(p.heard(ackMsg)[0].raw[0]))
	})
}

// A few messages of which one is too long for a part: it travels bare, the others
// in compounds, in their order (W16, W17).
func TestOneLongMessageAmongFew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		long := bytes.Repeat([]byte("long"), 20_000)
		once := [][]byte{[]byte("a"), []byte("b"), long, []byte("c")}
		m := c.node("n1", still, func(cfg *Config) {
			cfg.UDPBufferSize, cfg.EnableCompression = 300_000, false
			cfg.Delegate = &hooks{broadcasts: func(int, int) [][]byte {
				msgs := once
				once = nil
				return msgs
			}}
		})
		p := c.puppet("p", nil)
		p.send(m, (&ping{SeqNo: 1, Node: borrow("n1"), SourceNode: borrow("p")}).appendTo(nil))
		synctest.Wait()
		require.Equal(t, []uint32{1}, p.acked())
		var got []string
		for _, h := range p.heard(userMsg) {
			got = append(got, string(h.body))
		}
		require.Equal(t, []string{"a", "b", string(long), "c"}, got)
	})
}

// lameTransport takes its time to send to one name.
type lameTransport struct {
	*MockTransport
	name string
	time time.Duration
}

func (l *lameTransport) WriteToAddress(b []byte, to Address) (time.Time, error) {
	if to.Name == l.name {
		time.Sleep(l.time)
	}
	return l.MockTransport.WriteToAddress(b, to)
}

// Answers on a transport that turns out to be slow go out in a queue of their own,
// which is bounded: after the first one the reading of packets waits for none.
func TestSlowAnswersDoNotHoldUpReading(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		cfg := c.config("n1")
		cfg.Transport = &lameTransport{cfg.Transport.(*MockTransport), "lame", time.Second}
		cfg.HandoffQueueDepth = 5
		still(cfg)
		s.measured(cfg)
		m := c.start(cfg)
		lame, p := c.puppet("lame", nil), c.puppet("p", nil)
		ask := func(from *puppet, seq uint32) {
			from.send(m, (&ping{SeqNo: seq, Node: borrow("n1"), SourceNode: borrow(from.name)}).appendTo(nil))
		}
		ask(lame, 1)
		time.Sleep(2 * time.Second)
		require.Equal(t, []uint32{1}, lame.acked())

		for seq := range uint32(10) {
			ask(lame, 100+seq)
		}
		start := time.Now()
		p.introduce(m)
		require.Less(t, time.Since(start), 100*time.Millisecond)
		time.Sleep(time.Minute)
		require.Equal(t, []uint32{1, 100, 101, 102, 103, 104}, lame.acked())
		require.EqualValues(t, 5, s.sum("msg.dropped", metrics.Label{Name: "kind", Value: "outgoing packet"}))
		ask(p, 2)
		synctest.Wait()
		require.Equal(t, []uint32{2}, p.acked())
	})
}
