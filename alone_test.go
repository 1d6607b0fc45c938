package memberlist

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The own news reach the others also if no packet of the wanted size has room for
// them: name and metadata at their longest, packets at their smallest (P197).
func TestNewsThatFitNoPacketAreSentAlone(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"by gossip":      func(*Config) {},
		"without gossip": func(cfg *Config) { cfg.GossipInterval = 0 },
		"sealed":         func(cfg *Config) { cfg.SecretKey = make([]byte, 32) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				meta := make([]byte, MetaMaxSize)
				small := func(cfg *Config) {
					cfg.UDPBufferSize = minBufferSize
					cfg.PushPullInterval, cfg.ReconnectInterval = 0, 0
					cfg.Delegate = &hooks{meta: func() []byte { return bytes.Clone(meta) }}
					cfg.EnableCompression = false
					change(cfg)
				}
				nodes := make([]*Memberlist, 3)
				for i := range nodes {
					nodes[i] = c.node(fmt.Sprint(i, strings.Repeat("n", maxNameLen-1)), small)
				}
				for _, m := range nodes[1:] {
					joinNode(t, m, nodes[0])
				}
				time.Sleep(time.Minute)
				meta[100] = 7
				require.NoError(t, nodes[2].UpdateNode(time.Minute))
				time.Sleep(time.Minute)
				for _, m := range nodes {
					require.Len(t, m.Members(), 3)
					require.Equal(t, meta, statusOf(m, nodes[2].LocalNode().Name).Node.Meta)
					require.Zero(t, m.broadcasts.NumQueued(), "nothing waits for ever")
				}
			})
		})
	}
}

// User broadcasts that fit no packet of the usual size are sent as well, each alone (P197).
func TestLongUserBroadcastsAreSentAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var queue TransmitLimitedQueue
		queue.RetransmitMult, queue.NumNodes = 1, func() int { return 2 }
		cfgOf := func(cfg *Config) {
			cfg.EnableCompression = false
			cfg.Delegate = &hooks{broadcasts: queue.GetBroadcasts}
		}
		m := c.node("n1", cfgOf)
		p := c.puppet("p", nil)
		p.introduce(m)
		time.Sleep(10 * time.Second)
		p.forget()
		var want []int
		fits := m.outbound.wire.gossipSpace() - userOverhead
		for _, size := range []int{100, fits, fits + 1, 1396, 9000, m.outbound.wire.longestMessage() - 1} {
			queue.QueueBroadcast(&uniqueBroadcast{plainBroadcast{msg: make([]byte, size)}})
			want = append(want, size)
		}
		time.Sleep(5 * time.Second)
		var got []int
		for _, h := range p.heard(userMsg) {
			got = append(got, len(h.body))
		}
		require.ElementsMatch(t, want, got)
		require.Zero(t, queue.NumQueued())
	})
}

// What is sent alone over UDP is accepted by the system, under the longest label and
// encryption.
func TestLongestMessageFitsIntoADatagram(t *testing.T) {
	for _, version := range []uint8{1, 2} {
		cfg := loopback("n1")
		cfg.Label, cfg.SecretKey, cfg.ProtocolVersion = strings.Repeat("l", LabelMaxSize), make([]byte, 16), version
		cfg.EnableCompression, cfg.UDPBufferSize = false, 1<<20
		still(cfg)
		m := createOnLoopback(t, cfg)
		require.LessOrEqual(t, m.outbound.wire.gossipSpace(), longestDatagram)
		conn, at := listener(t)
		to := &Node{Name: "p", Addr: at.Addr().AsSlice(), Port: at.Port(), PMax: 5}
		require.NoError(t, m.SendBestEffort(to, make([]byte, m.outbound.wire.longestMessage()-1)))
		n, err := conn.Read(make([]byte, readBufferSize))
		require.NoError(t, err)
		require.Greater(t, n, longestDatagram-50)
	}
}

// Packets over UDP are no longer than UDP carries, whatever UDPBufferSize says, so
// that nothing counts as sent that was not.
func TestPacketsAreNoLongerThanDatagrams(t *testing.T) {
	for _, size := range []int{65_535, 10 << 20} {
		cfg := loopback("n1")
		cfg.UDPBufferSize, cfg.EnableCompression, cfg.RetransmitMult = size, false, 1
		lines := new(logLines)
		cfg.LogOutput = lines
		still(cfg)
		m := createOnLoopback(t, cfg)
		m.broadcasts.Reset()
		conn, at := listener(t)
		_ = conn.SetReadBuffer(4 << 20)
		const count, length = 300, 1000
		for range count {
			m.broadcasts.QueueBroadcast(&uniqueBroadcast{plainBroadcast{msg: user(strings.Repeat("x", length-1))}})
		}
		to := &Node{Name: "p", Addr: net.IP(at.Addr().AsSlice()), Port: at.Port()}
		heard := 0
		for m.broadcasts.NumQueued() > 0 {
			m.performer.gossip(&effects{gossip: []*Node{to}})
			heard += len(hear(t, m, conn))
		}
		require.Equal(t, count, heard)
		require.Empty(t, lines.with("[ERR]"))
	}
}

// drawAlone follows the order of the queue, counts, and finishes.
func TestDrawAlone(t *testing.T) {
	q := &TransmitLimitedQueue{NumNodes: func() int { return 1 }, RetransmitMult: 2}
	require.Nil(t, q.drawAlone(0))
	long, longer, short := &plainBroadcast{msg: make([]byte, 50)}, &plainBroadcast{msg: make([]byte, 60)}, &plainBroadcast{msg: make([]byte, 10)}
	for _, b := range []*plainBroadcast{long, longer, short} {
		q.QueueBroadcast(b)
	}
	require.Nil(t, q.drawAlone(60))
	var sizes []int
	for msg := q.drawAlone(40); msg != nil; msg = q.drawAlone(40) {
		sizes = append(sizes, len(msg))
	}
	require.Equal(t, []int{60, 50, 60, 50}, sizes)
	require.Equal(t, 1, q.NumQueued())
	require.Len(t, q.GetBroadcasts(0, 100), 1)
	require.Len(t, q.GetBroadcasts(0, 100), 1)
	require.Zero(t, q.NumQueued())
	require.Zero(t, q.longest.Load())
}

// What is longer than the most room that is ever offered is given up and finished,
// however often less room is offered; what fits that room waits for it.
func TestBroadcastsThatNeverFitAreFinished(t *testing.T) {
	q := newTestQueue(1, 1)
	finished := map[int]bool{}
	add := func(size int) {
		q.QueueBroadcast(&uniqueBroadcast{plainBroadcast{msg: make([]byte, size), finished: func() { finished[size] = true }}})
	}
	add(1000)
	require.Len(t, q.GetBroadcasts(2, 1002), 1, "the most that is ever offered")
	add(1001)
	add(900)
	for range 10 * hopelessAfter {
		require.Empty(t, q.GetBroadcasts(2, 800))
	}
	require.Equal(t, 2, q.NumQueued())
	for range hopelessAfter {
		q.GetBroadcasts(2, 1002)
	}
	require.Equal(t, map[int]bool{1000: true, 900: true}, finished, "the other one has its chance")
	add(2000)
	for range hopelessAfter {
		q.GetBroadcasts(2, 1002)
	}
	require.True(t, finished[1001])
	require.False(t, finished[2000], "each one has it")
	require.Len(t, q.GetBroadcasts(2, 2002), 1, "until more room is offered")
	require.Zero(t, q.NumQueued())
}

// A user broadcast that no packet can carry ends as well.
func TestUserBroadcastThatNoPacketCarriesIsFinished(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		queue := newTestQueue(2, 1)
		m := c.node("n1", func(cfg *Config) { cfg.Delegate = &hooks{broadcasts: queue.GetBroadcasts} })
		joinNode(t, c.node("n2"), m)
		done := false
		queue.QueueBroadcast(&uniqueBroadcast{plainBroadcast{msg: make([]byte, 70_000), finished: func() { done = true }}})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.True(t, done)
		require.Zero(t, queue.NumQueued())
	})
}

func TestNameAndBufferSizeAreValidated(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		create := func(change func(*Config)) error {
			cfg := c.config("n")
			still(cfg)
			change(cfg)
			m, err := Create(cfg)
			if err == nil {
				require.NoError(t, m.Shutdown())
			}
			return err
		}
		err := create(func(cfg *Config) { cfg.Name = strings.Repeat("n", maxNameLen+1) })
		require.ErrorIs(t, err, ErrTooLarge)
		require.ErrorContains(t, err, "node name of 513 bytes is over the limit of 512: change Config.Name")
		err = create(func(cfg *Config) { cfg.UDPBufferSize = minBufferSize - 1 })
		require.ErrorContains(t, err, "change Config.UDPBufferSize")
		err = create(func(cfg *Config) { cfg.UDPBufferSize, cfg.Label = minBufferSize+6, "label" })
		require.ErrorContains(t, err, "135 are needed")
		for _, change := range []func(*Config){
			func(cfg *Config) { cfg.Name = strings.Repeat("n", maxNameLen) },
			func(cfg *Config) { cfg.Name = "" },
			func(cfg *Config) { cfg.UDPBufferSize = minBufferSize },
			func(cfg *Config) { cfg.UDPBufferSize, cfg.Label = minBufferSize+7, "label" },
			func(cfg *Config) { cfg.UDPBufferSize = 0 },
			func(cfg *Config) { cfg.UDPBufferSize = 65_536 },
			func(cfg *Config) { cfg.UDPBufferSize = 10 << 20 },
		} {
			require.NoError(t, create(change))
		}
		synctest.Wait()
	})
}
