package memberlist

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// acksHeard are the acks that a puppet got.
func (p *puppet) acksHeard() []ack {
	p.t.Helper()
	var list []ack
	for _, h := range p.heard(ackMsg) {
		var a ack
		_, err := a.decode(h.body)
		require.NoError(p.t, err)
		list = append(list, a)
	}
	return list
}

func userMessage(text string) []byte { return append([]byte{byte(userMsg)}, text...) }

// quiet leaves a node nothing to do of its own.
func quiet(cfg *Config) {
	cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval, cfg.ReconnectInterval = time.Hour, 0, 0, 0
	cfg.QueueCheckInterval = 0
}

// ---- pings

func TestP60W78PingsForOthersAreIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		log := new(logLines)
		m := c.node("n1", quiet, func(cfg *Config) { cfg.LogOutput = log })
		p := c.puppet("p", nil)
		for seq, name := range map[uint32]string{1: "n1", 2: "", 3: "n2", 4: "N1"} {
			p.send(m, (&ping{SeqNo: seq, Node: name}).appendTo(nil))
		}
		synctest.Wait()
		require.ElementsMatch(t, []ack{{SeqNo: 1}, {SeqNo: 2}}, p.acksHeard(), "by name, and unnamed ones")
		for _, name := range []string{"n2", "N1"} {
			require.Len(t, log.with("[WARN]", "Got ping for unexpected node '"+name+"'", "from=127.0.0.1:2"), 1)
		}
	})
}

// The delegate is asked anew for each packet ping, also for one from a relay.
func TestP60AckPayloadIsAskedForEachPing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		asked := 0
		target := c.node("target", quiet, func(cfg *Config) {
			cfg.Ping = &pingHooks{payload: func() []byte {
				asked++
				return []byte(fmt.Sprintf("payload %d", asked))
			}}
		})
		relay := c.node("relay", quiet)
		p := c.puppet("p", nil)
		for want := range 2 {
			p.send(target, (&ping{SeqNo: 7, Node: "target"}).appendTo(nil))
			synctest.Wait()
			require.Equal(t, fmt.Sprintf("payload %d", want+1), string(p.acksHeard()[want].Payload))
		}
		n := target.LocalNode()
		ind := indirectPing{SeqNo: 8, Target: n.Addr, Port: n.Port, Node: "target", Nack: true}
		p.send(relay, ind.appendTo(nil))
		synctest.Wait()
		require.Equal(t, 3, asked)
		require.Equal(t, ack{SeqNo: 8}, p.acksHeard()[2], "a relayed ack has no payload (P58)")
	})
}

// Pings are answered on arrival, however slow the program's callbacks are.
func TestP86SlowCallbacksDoNotHoldUpPings(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		slow := func() { time.Sleep(time.Minute) }
		m := c.node("n1", quiet, func(cfg *Config) {
			cfg.Delegate = &hooks{msg: func([]byte) { slow() }}
			cfg.Events = &eventLog{t: t, during: func(line string) {
				if line != "join n1" {
					slow()
				}
			}}
			cfg.Alive = aliveFunc(func(n *Node) error {
				if n.Name != "n1" {
					slow()
				}
				return nil
			})
		})
		p := c.puppet("p", nil)
		sent := time.Now()
		p.send(m, userMessage("hello"))
		p.send(m, p.alive(1).appendTo(nil))
		p.send(m, p.alive(2).appendTo(nil))
		p.send(m, (&ping{SeqNo: 5}).appendTo(nil))
		synctest.Wait()
		require.Equal(t, []ack{{SeqNo: 5}}, p.acksHeard())
		require.Equal(t, sent, time.Now(), "no time has passed")
		time.Sleep(10 * time.Minute) // until the callbacks have returned
	})
}

// Membership takes effect at once as well, and in the order of arrival.
func TestP86P88MembershipIsAppliedInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", quiet, func(cfg *Config) { cfg.Delegate = &hooks{msg: func([]byte) { time.Sleep(time.Minute) }} })
		p := c.puppet("p", nil)
		msgs := [][]byte{
			p.alive(1).appendTo(nil),
			userMessage("slow"),
			(&dead{Incarnation: 1, Node: "p", From: "p"}).appendTo(nil),
			p.alive(2).appendTo(nil),
			(&suspect{Incarnation: 2, Node: "p", From: "x"}).appendTo(nil),
		}
		p.send(m, appendCompound(nil, msgs))
		synctest.Wait()
		require.True(t, holdsFor(m, "p", StateSuspect))
		require.EqualValues(t, 2, incarnationOf(m, "p"))
		time.Sleep(2 * time.Minute) // until the callback has returned
	})
}

// ---- user messages

// User messages have a bounded lane of their own. What does not fit is dropped,
// and told; membership is not touched by it.
func TestP87UserMessagesHaveABoundedLane(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		log := new(logLines)
		var mu sync.Mutex
		var got []string
		m := c.node("n1", quiet, func(cfg *Config) {
			cfg.HandoffQueueDepth = 3
			cfg.LogOutput = log
			cfg.Delegate = &hooks{msg: func(msg []byte) {
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				got = append(got, string(msg))
			}}
		})
		p := c.puppet("p", nil)
		for i := range 6 {
			p.send(m, userMessage(fmt.Sprint(i)))
		}
		p.send(m, p.alive(1).appendTo(nil))
		synctest.Wait()
		require.True(t, holdsFor(m, "p", StateAlive), "at once")
		require.Len(t, log.with("[WARN] memberlist: handler queue full, dropping message (8)"), 3)
		require.EqualValues(t, 3, m.userLane.dropped.Load())
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []string{"0", "1", "2"}, got)
	})
}

// With an AliveDelegate, membership waits in a lane for its verdict. That is
// bounded too, and does not touch the users' lane.
func TestP87MembershipLaneIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		log := new(logLines)
		users := new(inbox)
		m := c.node("n1", quiet, func(cfg *Config) {
			cfg.HandoffQueueDepth = 3
			cfg.LogOutput = log
			cfg.Delegate = users
			cfg.Alive = aliveFunc(func(n *Node) error {
				if n.Name != "n1" {
					time.Sleep(time.Second)
				}
				return nil
			})
		})
		p := c.puppet("p", nil)
		for i := range 5 {
			p.send(m, aliveOf(fmt.Sprintf("x%d", i), 1).appendTo(nil))
		}
		p.send(m, userMessage("hello"))
		synctest.Wait()
		require.Equal(t, []string{"hello"}, users.all())
		require.Len(t, log.with("[WARN] memberlist: handler queue full, dropping message (4)"), 2)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"n1", "x0", "x1", "x2"}, memberNames(m))
	})
}

// User messages are delivered in the order of their packets; in the reference a
// burst comes in reverse.
func TestP88UserMessagesComeInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		users := new(inbox)
		m := c.node("n1", quiet, func(cfg *Config) { cfg.Delegate = users })
		p := c.puppet("p", nil)
		var want []string
		for i := range 200 {
			p.send(m, userMessage(fmt.Sprint(i)))
			want = append(want, fmt.Sprint(i))
		}
		synctest.Wait()
		require.Equal(t, want, users.all())
	})
}

// The bytes of a user message are the delegate's: they stay as they were, and
// writing to them harms nobody.
func TestP89UserMessagesBelongToTheDelegate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var mu sync.Mutex
		var kept [][]byte
		m := c.node("n1", quiet, func(cfg *Config) {
			cfg.Delegate = &hooks{msg: func(msg []byte) {
				mu.Lock()
				defer mu.Unlock()
				kept = append(kept, msg)
				_ = append(msg, "beyond the end"...)
			}}
		})
		p := c.puppet("p", nil)
		var want []string
		for i := range 20 {
			a, b := fmt.Sprint("first of ", i), fmt.Sprint("second of ", i)
			p.send(m, appendCompound(nil, [][]byte{userMessage(a), userMessage(b), userMessage("")}))
			want = append(want, a, b, "")
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		var got []string
		for _, msg := range kept {
			got = append(got, string(msg))
		}
		require.ElementsMatch(t, want, got)
	})
}

// Without a delegate user messages are dropped (P128).
func TestP128UserMessagesForNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", quiet)
		p := c.puppet("p", nil)
		p.send(m, userMessage("hello"))
		p.send(m, (&ping{SeqNo: 5}).appendTo(nil))
		synctest.Wait()
		require.Len(t, p.acksHeard(), 1)
	})
}

// ---- what packets bring

// W75, W76, W79: bad packets are never answered, spoil nothing, and are told.
func TestW75W76W79BadPacketsAreDropped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		log := new(logLines)
		m := c.node("n1", quiet, func(cfg *Config) { cfg.LogOutput = log })
		p := c.puppet("p", nil)
		for _, packet := range [][]byte{
			{}, {byte(pushPullMsg)}, {byte(errorMsg), 0x80}, {99}, {byte(pingMsg)}, {byte(aliveMsg), 0xc1},
			{byte(indirectPingMsg), 0x81}, {byte(compoundMsg)}, bytes.Repeat([]byte{0xff}, 1000),
		} {
			in := newIntake(m)
			in.packet(packet, sender{other: vectorAddr("10.0.0.9:1")}, time.Now())
		}
		synctest.Wait()
		require.Empty(t, p.acksHeard())
		require.Len(t, log.with("[ERR]", "from=10.0.0.9:1"), 9)
		require.Equal(t, []string{"n1"}, memberNames(m))
	})
}

// The transport's timestamp is the time of arrival, unless it makes no sense.
func TestP138TimestampsOfTransportsAreTakenWithCare(t *testing.T) {
	m := &Memberlist{epoch: time.Now()}
	now := instant(time.Hour)
	for offset, want := range map[time.Duration]instant{
		time.Minute: instant(time.Minute), -time.Minute: now, 2 * time.Hour: now, time.Hour: now,
	} {
		require.Equal(t, want, m.instantOf(now, m.epoch.Add(offset)), "%v", offset)
	}
	require.Equal(t, now, m.instantOf(now, time.Time{}))
}

// P149: lines about a packet end with its sender.
func TestP149SendersInLogLines(t *testing.T) {
	require.Equal(t, "from=10.0.0.9:1", sender{other: vectorAddr("10.0.0.9:1")}.log())
	require.Equal(t, "from=<unknown address>", sender{other: vectorAddr("")}.log())
	require.Equal(t, "from=<unknown address>", sender{}.log())
	require.True(t, strings.HasPrefix(sender{addr: relayTarget.addr}.log(), "from=10.0.0.2:7946"))
}

var _ io.Writer = (*logLines)(nil)
