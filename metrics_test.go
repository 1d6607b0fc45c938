package memberlist

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/stretchr/testify/require"
)

// emitted is one value that was given to the metrics.
type emitted struct {
	kind   string // "counter", "gauge" or "sample"
	value  float32
	labels []metrics.Label
}

// sink keeps the metrics that carry its label.
type sink struct {
	label metrics.Label
	mu    sync.Mutex
	got   map[string][]emitted
}

// recordMetrics makes the global metrics go to a sink while the test runs. The
// label is to be put into Config.MetricLabels.
func recordMetrics(t *testing.T) *sink {
	t.Helper()
	s := &sink{label: metrics.Label{Name: "test", Value: t.Name()}, got: map[string][]emitted{}}
	cfg := metrics.DefaultConfig("")
	cfg.EnableHostname, cfg.EnableRuntimeMetrics = false, false
	_, err := metrics.NewGlobal(cfg, s)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := metrics.NewGlobal(cfg, new(metrics.BlackholeSink))
		require.NoError(t, err)
	})
	return s
}

func (s *sink) keep(kind string, key []string, value float32, labels []metrics.Label) {
	if !slices.Contains(labels, s.label) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.Join(key, ".")
	s.got[name] = append(s.got[name], emitted{kind, value, slices.Clone(labels)})
}

func (s *sink) SetGauge([]string, float32)    {}
func (s *sink) EmitKey([]string, float32)     {}
func (s *sink) IncrCounter([]string, float32) {}
func (s *sink) AddSample([]string, float32)   {}
func (s *sink) SetGaugeWithLabels(key []string, v float32, l []metrics.Label) {
	s.keep("gauge", key, v, l)
}
func (s *sink) IncrCounterWithLabels(key []string, v float32, l []metrics.Label) {
	s.keep("counter", key, v, l)
}
func (s *sink) AddSampleWithLabels(key []string, v float32, l []metrics.Label) {
	s.keep("sample", key, v, l)
}

// all returns what was emitted under a name.
func (s *sink) all(name string) []emitted {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got["memberlist."+name])
}

// sum adds up a counter. With a label, only what carries it.
func (s *sink) sum(name string, label ...metrics.Label) float32 {
	total := float32(0)
	for _, e := range s.all(name) {
		if len(label) == 0 || slices.Contains(e.labels, label[0]) {
			total += e.value
		}
	}
	return total
}

// last is the value of a gauge.
func (s *sink) last(t *testing.T, name string, label ...metrics.Label) float32 {
	t.Helper()
	found, value := false, float32(0)
	for _, e := range s.all(name) {
		if len(label) == 0 || slices.Contains(e.labels, label[0]) {
			found, value = true, e.value
		}
	}
	require.True(t, found, name)
	return value
}

func (s *sink) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.got)
}

// measured lets the metrics of a configuration go to the sink.
func (s *sink) measured(cfg *Config) { cfg.MetricLabels = []metrics.Label{s.label} }

// still switches off what a node does by itself.
func still(cfg *Config) {
	cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval = 0, 0, 0
}

// TestPacketsAreCountedBeforeTheLabel checks P147.
func TestPacketsAreCountedBeforeTheLabel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		m := c.node("n1", s.measured, still, func(cfg *Config) { cfg.Label, cfg.EnableCompression = "label", false })
		p := c.puppet("p", &Config{Label: "label"})
		s.forget()
		require.NoError(t, m.SendTo(&p.tr.addr, []byte("0123456789")))
		synctest.Wait()
		require.Len(t, p.heard(userMsg), 1)
		require.Equal(t, len("label")+2+11, p.heard(userMsg)[0].size)
		require.EqualValues(t, 11, s.sum("udp.sent"))
		require.Equal(t, "counter", s.all("udp.sent")[0].kind)
	})
}

// TestPacketsReceivedAreCounted checks P147.
func TestPacketsReceivedAreCounted(t *testing.T) {
	s := recordMetrics(t)
	cfg := loopback("n1")
	s.measured(cfg)
	got := make(chan struct{}, 1)
	cfg.Delegate = &hooks{msg: func([]byte) { got <- struct{}{} }}
	m := createOnLoopback(t, cfg)
	other := loopback("n2")
	other.EnableCompression = false
	sender := createOnLoopback(t, other)
	require.NoError(t, sender.SendTo(udpAddr(m.LocalNode()), []byte("0123456789")))
	<-got
	require.EqualValues(t, 11, s.sum("udp.received"))
}

// TestStreamsAreCounted checks P147.
func TestStreamsAreCounted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		key := bytes.Repeat([]byte{9}, 16)
		plain := func(cfg *Config) { cfg.EnableCompression = false }
		a := c.node("n1", s.measured, still, plain)
		b := c.node("n2", still, plain)
		joinNode(t, a, b)
		require.EqualValues(t, 1, s.sum("tcp.connect"))
		require.Zero(t, s.sum("tcp.accept"))
		require.Equal(t, s.last(t, "size.local"), s.sum("tcp.sent"))
		require.Len(t, s.all("pushPullNode"), 1)
		require.Equal(t, "sample", s.all("pushPullNode")[0].kind)
		require.Empty(t, s.all("size.remote"), "only of encrypted frames")
		s.forget()

		require.NoError(t, b.SendReliable(a.LocalNode(), []byte("x")))
		synctest.Wait()
		require.EqualValues(t, 1, s.sum("tcp.accept"))
		require.Zero(t, s.sum("tcp.connect"), "only push/pulls count")
		s.forget()
		require.NoError(t, a.SendReliable(b.LocalNode(), []byte("0123456789")))
		require.EqualValues(t, len(appendUserMessage(nil, []byte("0123456789"))), s.sum("tcp.sent"))

		sealed := func(cfg *Config) { cfg.SecretKey = bytes.Clone(key) }
		a, b = c.node("n3", s.measured, still, plain, sealed), c.node("n4", still, plain, sealed)
		s.forget()
		joinNode(t, a, b)
		require.Equal(t, "sample", s.all("size.remote")[0].kind)
		// The answer has one node more, or as many: both sides know the same.
		require.Greater(t, s.sum("size.remote"), s.last(t, "size.local"))
		require.Equal(t, s.last(t, "size.local")+frameHeadLen+boxOverheadPlain, s.sum("tcp.sent"))
	})
}

// boxOverheadPlain is what version 1 of the encryption adds (W27).
const boxOverheadPlain = 29

// W85, P147: the size of this node's state is the real one.
func TestSizeOfTheLocalState(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		m := c.node("n1", s.measured, still, func(cfg *Config) {
			cfg.Delegate = &hooks{local: func(bool) []byte { return make([]byte, 5000) }}
		})
		p := c.puppet("p", nil)
		conn := p.dial(m)
		_, err := p.wire.writeStream(conn, p.state(false, nil, p.self()), true)
		require.NoError(t, err)
		_, state, _, err := p.readReply(conn)
		require.NoError(t, err)
		want := appendPushPull(nil, false, 1, slices.Values([]*pushNodeState{&state.nodes[0]}), state.user)
		require.EqualValues(t, len(want), s.last(t, "size.local"))
		require.Equal(t, "gauge", s.all("size.local")[0].kind)
		synctest.Wait()
	})
}

// TestNodesPerState checks P147.
func TestNodesPerState(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		m := c.node("n1", s.measured, func(cfg *Config) { cfg.ProbeInterval, cfg.PushPullInterval = 100*time.Hour, 0 })
		for _, name := range []string{"a", "b", "c"} {
			c.puppet(name, nil).introduce(m)
		}
		p := c.puppet("teller", nil)
		p.send(m, (&suspect{Incarnation: 1, Node: borrow("a"), From: borrow("x")}).appendTo(nil))
		p.send(m, (&dead{Incarnation: 1, Node: borrow("b"), From: borrow("x")}).appendTo(nil))
		p.send(m, (&dead{Incarnation: 1, Node: borrow("c"), From: borrow("c")}).appendTo(nil))
		synctest.Wait()
		joinNode(t, c.node("n2"), m)
		for state, want := range map[string]float32{"alive": 1, "suspect": 1, "dead": 1, "left": 1} {
			require.Equal(t, want, s.last(t, "node.instances", metrics.Label{Name: "node_state", Value: state}), state)
		}
		synctest.Wait()
	})
}

// TestAcceptedMessagesAreCounted checks P147.
func TestAcceptedMessagesAreCounted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		m := c.node("n1", s.measured, still)
		require.EqualValues(t, 1, s.sum("msg.alive"), "the own one")
		s.forget()
		p := c.puppet("p", nil)
		own := m.LocalNode()
		for _, msg := range [][]byte{
			p.alive(1).appendTo(nil),
			p.alive(1).appendTo(nil), // stale
			(&suspect{Incarnation: 1, Node: borrow("p"), From: borrow("x")}).appendTo(nil),
			(&suspect{Incarnation: 1, Node: borrow("p"), From: borrow("y")}).appendTo(nil),                       // a confirmation
			(&suspect{Incarnation: incarnationOf(m, "n1"), Node: borrow("n1"), From: borrow("x")}).appendTo(nil), // refuted
			(&dead{Incarnation: 1, Node: borrow("p"), From: borrow("x")}).appendTo(nil),
			(&dead{Incarnation: 1, Node: borrow("p"), From: borrow("y")}).appendTo(nil), // again
			(&alive{ // refuted, and counts
				Incarnation: 9, Node: borrow("n1"), Addr: own.Addr, Port: own.Port, Meta: []byte("?"), Vsn: []byte{1, 5, 2, 0, 0, 0},
			}).appendTo(nil),
		} {
			p.send(m, msg)
			synctest.Wait()
		}
		require.EqualValues(t, 2, s.sum("msg.alive"))
		require.EqualValues(t, 1, s.sum("msg.suspect"))
		require.EqualValues(t, 1, s.sum("msg.dead"))
		// Each refutation is bad news about this node's health.
		require.EqualValues(t, 2, s.last(t, "health.score"))
		require.Equal(t, 2, m.GetHealthScore())
	})
}

// A node that alone finds another one silent: its suspicion runs out without
// confirmations, and the missing nacks of the relays slow it down (P147).
func TestDegradedProbesAndTimeouts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		m := c.node("n1", s.measured, func(cfg *Config) { cfg.PushPullInterval, cfg.DisableTcpPings = 0, true })
		for i := range 5 {
			p := c.puppet(fmt.Sprintf("p%d", i), nil)
			if i > 0 {
				p.answerPings(m)
			}
			p.introduce(m)
		}
		within(t, 5*time.Minute, "the verdict", func() bool { return holdsFor(m, "p0", StateDead) })
		require.EqualValues(t, 1, s.sum("degraded.timeout"))
		require.Positive(t, s.sum("degraded.probe"))
		probes := s.all("probeNode")
		require.NotEmpty(t, probes)
		require.Equal(t, "sample", probes[0].kind)
		longest := slices.MaxFunc(probes, func(a, b emitted) int { return int(a.value - b.value) })
		require.GreaterOrEqual(t, longest.value, float32(1000), "milliseconds of a failed probe")
	})
}

// P85: the depth of the queue is sampled every QueueCheckInterval (P85, P147).
func TestQueueDepthIsSampled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		m := c.node("n1", s.measured, still, func(cfg *Config) { cfg.QueueCheckInterval = 10 * time.Second })
		m.broadcasts.Reset()
		for _, name := range []string{"a", "b", "c"} {
			c.puppet(name, nil).introduce(m)
		}
		time.Sleep(35 * time.Second)
		depths := s.all("queue.broadcasts")
		require.Len(t, depths, 3)
		for _, d := range depths {
			require.Equal(t, emitted{"sample", 3, []metrics.Label{s.label}}, d)
		}
	})
}

// TestNoSamplesWithoutInterval checks P85.
func TestNoSamplesWithoutInterval(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		c.node("n1", s.measured, func(cfg *Config) { cfg.QueueCheckInterval = 0 })
		time.Sleep(5 * time.Minute)
		require.Empty(t, s.all("queue.broadcasts"))
	})
}

// TestGossipRoundsAreTimed checks P147.
func TestGossipRoundsAreTimed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, c := recordMetrics(t), newMesh(t)
		m := c.node("n1", s.measured)
		c.puppet("p", nil).introduce(m)
		time.Sleep(time.Second)
		require.NotEmpty(t, s.all("gossip"))
		require.Equal(t, "sample", s.all("gossip")[0].kind)
	})
}
