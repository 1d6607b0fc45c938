package memberlist

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/stretchr/testify/require"
)

// With NotifyMsg sleeping for 100 ms and a flood of user messages, no membership
// message is lost, or late by more than one gossip interval; and what is dropped of
// the flood is counted. In the reference both share a queue, which a flood of user
// messages fills.
func TestUserMessagesDoNotHoldUpMembership(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const flood, members = 3000, 60
		s, c := recordMetrics(t), newMesh(t)
		lines := new(logLines)
		delivered := make(chan string, flood)
		var seen sync.Map // event → when it came
		m := c.node("n1", s.measured, func(cfg *Config) {
			cfg.LogOutput = lines
			cfg.HandoffQueueDepth = 500
			cfg.Delegate = &hooks{msg: func(msg []byte) {
				time.Sleep(100 * time.Millisecond)
				delivered <- string(msg)
			}}
			cfg.Events = &trace{hook: func(kind string, n *Node) { seen.Store(kind+" "+n.Name, time.Now()) }}
		})
		var work sync.WaitGroup
		p := c.puppet("flooder", nil)
		work.Go(func() {
			for i := range flood {
				p.send(m, append([]byte{byte(userMsg)}, strconv.Itoa(i)...))
				if i%10 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
		sent := map[string]time.Time{}
		work.Go(func() {
			for i := range members {
				says := p.alive(1)
				says.Node = borrow(fmt.Sprint("m", i))
				sent["join "+says.Node.own()] = time.Now()
				p.send(m, says.appendTo(nil))
				time.Sleep(2 * time.Millisecond)
				sent["leave "+says.Node.own()] = time.Now()
				p.send(m, (&dead{Incarnation: 1, Node: says.Node, From: says.Node}).appendTo(nil))
				time.Sleep(3 * time.Millisecond)
			}
		})
		work.Wait()
		synctest.Wait()
		require.Len(t, sent, 2*members)
		for event, when := range sent {
			came, ok := seen.Load(event)
			require.True(t, ok, "%s was lost", event)
			require.LessOrEqual(t, came.(time.Time).Sub(when), m.config.GossipInterval, event)
		}

		time.Sleep(600 * 100 * time.Millisecond)
		dropped := int(s.sum("msg.dropped", metrics.Label{Name: "kind", Value: userMsg.String()}))
		require.Equal(t, flood, len(delivered)+dropped)
		require.Greater(t, dropped, flood/2)
		require.Equal(t, s.sum("msg.dropped"), float32(dropped), "nothing else was dropped")
		require.NotEmpty(t, lines.with("[WARN] memberlist: handler queue full, dropping message (8) from=127.0.0.1:"))

		// P88 has bursts come in reverse order; here what comes, comes in order.
		last := -1
		for range len(delivered) {
			i, err := strconv.Atoi(<-delivered)
			require.NoError(t, err)
			require.Greater(t, i, last)
			last = i
		}
	})
}

// A queue holds no more than it may, also while one item is being served (P87, P198).
func TestUserLaneIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var c taskGroup
		hold, served := make(chan struct{}), make(chan int, 10)
		l := newWorkQueue(&c, 3, func(i int) {
			<-hold
			served <- i
		})
		var fits []bool
		for i := range 6 {
			fits = append(fits, l.put(i))
			synctest.Wait()
		}
		require.Equal(t, []bool{true, true, true, false, false, false}, fits)
		close(hold)
		synctest.Wait()
		require.Equal(t, []int{0, 1, 2}, []int{<-served, <-served, <-served})
		require.Empty(t, bubbleGoroutines(), "no goroutine without work")

		require.True(t, l.put(7), "there is room again")
		require.Equal(t, 7, <-served)
		l.close()
		require.True(t, l.put(8), "nobody is told of what comes too late")
		synctest.Wait()
		require.Empty(t, served)
		c.close()
		c.join()
	})
}

func TestLaneCloseDropsWhatWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var c taskGroup
		hold := make(chan struct{})
		var served atomic.Int32
		l := newWorkQueue(&c, 100, func(int) { <-hold; served.Add(1) })
		for i := range 50 {
			require.True(t, l.put(i))
			synctest.Wait() // some wait in the batch that is served, some behind it
		}
		l.close()
		close(hold)
		synctest.Wait()
		require.EqualValues(t, 1, served.Load())
		require.Empty(t, bubbleGoroutines())
		c.close()
		c.join()
	})
}

func TestLaneLosesNothingUnderLoad(t *testing.T) {
	var c taskGroup
	var sum atomic.Int64
	l := newWorkQueue(&c, 64, func(i int) { sum.Add(int64(i)) })
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for i := 1; i <= 2000; i++ {
				for !l.put(i) {
					runtime.Gosched()
				}
			}
		})
	}
	work.Wait()
	c.close()
	waitForAll(&c)
	require.EqualValues(t, 4*2000*2001/2, sum.Load())
}

// P89: what NotifyMsg gets is not used again for other messages.
func TestUserMessagesArePrivateCopies(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var kept [][]byte
		m := c.node("n1", func(cfg *Config) {
			cfg.Delegate = &hooks{msg: func(msg []byte) { kept = append(kept, msg) }}
		})
		p := c.puppet("p", nil)
		var want []string
		for i := range 100 {
			texts := []string{fmt.Sprint("first of ", i), "", fmt.Sprint("third of ", i)}
			var parts [][]byte
			for _, text := range texts {
				parts = append(parts, append([]byte{byte(userMsg)}, text...))
			}
			p.send(m, appendCompound(nil, parts))
			slices.Reverse(texts) // senders draw the newest broadcast first (P78)
			want = append(want, texts...)
		}
		synctest.Wait()
		var got []string
		for _, msg := range kept {
			got = append(got, string(msg))
			_ = append(msg, "overwrites nothing"...)
		}
		require.Equal(t, want, got)
		for i, msg := range kept {
			require.Equal(t, want[i], string(msg), "it was written to")
		}
	})
}

// P89: the memory of a packet that is lent, and that of the reader, is used for the
// next packet, which user messages must outlive.
func TestUserMessagesOutliveTheirPackets(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"plain": func(cfg *Config) { cfg.EnableCompression = false },
		"LZW":   func(cfg *Config) { cfg.EnableCompression = true },
		"AES":   func(cfg *Config) { cfg.SecretKey, cfg.EnableCompression = make([]byte, 16), false },
		"both":  func(cfg *Config) { cfg.SecretKey, cfg.EnableCompression = make([]byte, 16), true },
	} {
		for _, lent := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", lent: ", lent), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					c := newMesh(t)
					var kept [][]byte
					m := c.node("n1", still, change, func(cfg *Config) {
						cfg.Delegate = &hooks{msg: func(msg []byte) { kept = append(kept, msg) }}
					})
					in := newPacketHandler(m.inbound)
					var want []string
					for i := range 50 {
						texts := []string{strings.Repeat(fmt.Sprint(i, " "), 20), strings.Repeat(fmt.Sprint("and ", i), 20)}
						parts := [][]byte{append([]byte{byte(userMsg)}, texts[1]...), append([]byte{byte(userMsg)}, texts[0]...)}
						packet, err := m.outbound.wire.sealPacket(nil, appendCompound(nil, parts), false)
						require.NoError(t, err)
						if lent {
							in.batch([]datagram{{buf: packet}})
							clear(packet)
						} else {
							in.packet(packet, sender{other: vectorAddr("192.0.2.1:1")}, time.Now())
							in.finish()
						}
						want = append(want, texts...)
					}
					synctest.Wait()
					require.Len(t, kept, len(want))
					for i, msg := range kept {
						require.Equal(t, want[i], string(msg))
					}
				})
			})
		}
	}
}

// What a transport gives away is not copied.
func TestUserMessagesOfAPlainPacketAreNotCopied(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var got []byte
		m := newMesh(t).node("n1", func(cfg *Config) { cfg.Delegate = &hooks{msg: func(msg []byte) { got = msg }} })
		packet := append([]byte{byte(userMsg)}, "text"...)
		in := newPacketHandler(m.inbound)
		in.packet(packet, sender{other: vectorAddr("192.0.2.1:1")}, time.Now())
		in.finish()
		synctest.Wait()
		require.Same(t, &packet[1], &got[0])
	})
}

// A slow AliveDelegate holds up membership messages, whose queue is bounded and
// counted, but neither pings nor user messages (P86 has everything wait).
func TestSlowAliveDelegateDoesNotHoldUpPings(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		box := new(inbox)
		slow := new(atomic.Bool)
		m := c.node("n1", s.measured, func(cfg *Config) {
			cfg.HandoffQueueDepth, cfg.Delegate = 20, box
			cfg.Alive = aliveFunc(func(*Node) error {
				if slow.Load() {
					time.Sleep(time.Second)
				}
				return nil
			})
		})
		slow.Store(true)
		p := c.puppet("p", nil)
		for i := range 30 {
			says := p.alive(1)
			says.Node = borrow(fmt.Sprint("m", i))
			p.send(m, says.appendTo(nil))
		}
		p.send(m, (&suspect{Incarnation: 1, Node: borrow("m1"), From: borrow("x")}).appendTo(nil))
		start := time.Now()
		p.send(m, (&ping{SeqNo: 77, Node: borrow("n1")}).appendTo(nil))
		p.send(m, []byte{byte(userMsg), 'x'})
		synctest.Wait()
		require.Equal(t, start, time.Now())
		require.Len(t, p.heard(ackMsg), 1)
		require.Equal(t, []string{"x"}, box.all())
		kind := func(k messageType) metrics.Label { return metrics.Label{Name: "kind", Value: k.String()} }
		require.EqualValues(t, 10, s.sum("msg.dropped", kind(aliveMsg)))
		require.EqualValues(t, 1, s.sum("msg.dropped", kind(suspectMsg)))
		time.Sleep(time.Minute)
		require.Equal(t, 20, len(m.Snapshot())-1)
	})
}

// A PingDelegate that is slow to take round trip times holds up nothing; what its
// queue has no room for is counted.
func TestSlowPingDelegateDoesNotHoldUpProbes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		hold := make(chan struct{})
		m := c.node("n1", s.measured, func(cfg *Config) {
			cfg.HandoffQueueDepth = 5
			cfg.Ping = &pingHooks{complete: func(*Node, time.Duration, []byte) { <-hold }}
		})
		p := c.puppet("p", nil)
		p.answerPings(m)
		p.introduce(m)
		time.Sleep(20 * time.Second)
		require.Greater(t, len(p.heard(pingMsg)), 15)
		require.Equal(t, StateAlive, statusOf(m, "p").Node.State)
		require.Greater(t, s.sum("msg.dropped", metrics.Label{Name: "kind", Value: "round trip"}), float32(5))
		close(hold)
	})
}

// blockedTransport is one built on something that can block: each packet to a name
// that is stuck waits until release.
type blockedTransport struct {
	*MockTransport
	stuck   string
	release chan struct{}
	waiting atomic.Int32
}

func (b *blockedTransport) WriteToAddress(buf []byte, to Address) (time.Time, error) {
	if to.Name == b.stuck {
		b.waiting.Add(1)
		<-b.release
	}
	return b.MockTransport.WriteToAddress(buf, to)
}

// On a transport whose sending blocks, gossip that is stuck holds up neither
// answers nor probes, nor the reading of packets; what waits is bounded.
func TestBlockedGossipHoldsUpNothingElse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		cfg := c.config("n1")
		b := &blockedTransport{MockTransport: cfg.Transport.(*MockTransport), stuck: "stuck", release: make(chan struct{})}
		cfg.Transport = b
		s.measured(cfg)
		cfg.HandoffQueueDepth = 4
		cfg.ProbeInterval = 0 // only gossip goes there
		cfg.Delegate = &hooks{broadcasts: func(int, int) [][]byte { return [][]byte{[]byte("news")} }}
		m := c.start(cfg)
		stuck, p := c.puppet("stuck", nil), c.puppet("p", nil)
		stuck.introduce(m)
		time.Sleep(5 * time.Second)
		require.EqualValues(t, 1, b.waiting.Load())
		require.Positive(t, s.sum("msg.dropped", metrics.Label{Name: "kind", Value: "outgoing packet"}))

		start := time.Now()
		p.send(m, (&ping{SeqNo: 5, Node: borrow("n1")}).appendTo(nil))
		synctest.Wait()
		require.Len(t, p.heard(ackMsg), 1)
		require.Equal(t, start, time.Now())
		p.answerPings(m)
		_, err := m.Ping("p", &p.tr.addr)
		require.NoError(t, err)
		close(b.release)
	})
}

// The same for a probe that is stuck: answers go out.
func TestBlockedProbeHoldsUpNoAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		cfg := c.config("n1")
		b := &blockedTransport{MockTransport: cfg.Transport.(*MockTransport), stuck: "stuck", release: make(chan struct{})}
		cfg.Transport, cfg.GossipInterval = b, 0
		m := c.start(cfg)
		stuck, p := c.puppet("stuck", nil), c.puppet("p", nil)
		stuck.introduce(m)
		time.Sleep(5 * time.Second)
		require.Positive(t, b.waiting.Load())
		p.send(m, (&ping{SeqNo: 5, Node: borrow("n1")}).appendTo(nil))
		synctest.Wait()
		require.Len(t, p.heard(ackMsg), 1)
		close(b.release)
	})
}

// Shutdown does not wait for a packet that is stuck.
func TestShutdownWhileSendingBlocks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		cfg := c.config("n1")
		b := &blockedTransport{MockTransport: cfg.Transport.(*MockTransport), stuck: "stuck", release: make(chan struct{})}
		cfg.Transport = b
		m := c.start(cfg)
		c.puppet("stuck", nil).introduce(m)
		time.Sleep(2 * time.Second)
		require.LessOrEqual(t, duration(func() { require.NoError(t, m.Shutdown()) }), callbackGrace)
		close(b.release)
		synctest.Wait()
		require.Empty(t, bubbleGoroutinesOf("*Memberlist"))
	})
}

// Somebody who gives up waiting for events does not make user messages overtake them.
func TestEventsThatWereGivenUpAreStillWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		events, messages := make(chan NodeEvent), make(chan struct{}, 1)
		c := newMesh(t)
		go func() { <-events }() // of the node itself
		m := c.node("n1", still, func(cfg *Config) {
			cfg.Events = &ChannelEventDelegate{Ch: events}
			cfg.Delegate = &hooks{msg: func([]byte) { messages <- struct{}{} }}
		})
		p := c.puppet("p", nil)
		p.send(m, p.alive(1).appendTo(nil))
		synctest.Wait()
		eventSeq := m.events.last()
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		m.inbound.users.awaitEventsBefore(gone, eventSeq)
		require.Empty(t, m.events.mu.waiters, "nobody waits any more")
		p.send(m, []byte{byte(userMsg), 'x'})
		synctest.Wait()
		require.Empty(t, messages)
		require.Equal(t, "p", (<-events).Node.Name)
		synctest.Wait()
		require.Len(t, messages, 1)
	})
}

// While NotifyMsg, the AliveDelegate or the PingDelegate blocks, what waits for it is
// bounded in bytes, however well it was compressed (P198).
func TestLanesAreBoundedInBytes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hold := make(chan struct{})
		defer close(hold)
		var blocking atomic.Bool
		m := newMesh(t).node("n1", quiet, func(cfg *Config) {
			cfg.Delegate = &hooks{msg: func([]byte) { <-hold }}
			cfg.Alive = aliveFunc(func(*Node) error {
				if blocking.Load() {
					<-hold
				}
				return nil
			})
		})
		blocking.Store(true)
		in := newPacketHandler(m.inbound)
		flood := func(msg []byte) {
			packet, shorter := appendShorter(nil, msg)
			require.True(t, shorter)
			for range 40 {
				in.packet(packet, sender{}, time.Now())
				in.finish()
			}
			synctest.Wait()
		}
		flood(append([]byte{byte(userMsg)}, make([]byte, 800<<10)...))
		require.InDelta(t, minQueueBytes, m.inbound.users.queue.bytes.Load(), 1<<20)
		says := alive{Incarnation: 1, Node: borrow("x"), Addr: []byte{10, 0, 0, 1}, Port: 1, Meta: make([]byte, 800<<10), Vsn: testVersions()}
		flood(says.appendTo(nil))
		require.LessOrEqual(t, m.inbound.held.bytes.Load(), int64(minQueueBytes))
		rtt := roundTrip{payload: make([]byte, 5<<20)}
		m.config.Ping = &pingHooks{complete: func(*Node, time.Duration, []byte) { <-hold }}
		for range 12 {
			m.performer.roundTrips.queueAll([]roundTrip{rtt})
		}
		require.InDelta(t, minQueueBytes, m.performer.roundTrips.queue.bytes.Load(), 6<<20)
	})
}

// Many large messages that come together are not gathered before they are handed over.
func TestBurstOfLargeMessagesIsNotGathered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var got atomic.Int64
		m := newMesh(t).node("n1", quiet, func(cfg *Config) {
			cfg.Delegate = &hooks{msg: func(msg []byte) { got.Add(int64(len(msg))) }}
		})
		packet, _ := appendShorter(nil, append([]byte{byte(userMsg)}, make([]byte, 800<<10)...))
		in := newPacketHandler(m.inbound)
		for range 8 {
			in.packet(packet, sender{}, time.Now())
			require.LessOrEqual(t, in.userBurst.kept, 1<<20)
		}
		in.finish()
		synctest.Wait()
		require.EqualValues(t, 8*800<<10, got.Load())
	})
}
