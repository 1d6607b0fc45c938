package programs

import (
	"bytes"
	"errors"
	"log"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

// tagged is how log filters take a line apart.
var tagged = regexp.MustCompile(`^(pre )?\[(DEBUG|INFO|WARN|ERR)\] memberlist: \S`)

// TestLogLinesHaveTags: programs sort log lines by the word in brackets, and
// find the library's by its name.
func TestLogLinesHaveTags(t *testing.T) {
	var logged lines
	var nodes []*memberlist.Memberlist
	for _, name := range []string{"one", "two", "three"} {
		cfg := loopbackConfig(name, nil)
		cfg.LogOutput = nil
		cfg.Logger = log.New(&logged, "pre ", 0)
		cfg.ProbeInterval, cfg.ProbeTimeout = 200*time.Millisecond, 100*time.Millisecond
		m := create(t, cfg)
		nodes = append(nodes, m)
		if len(nodes) > 1 {
			_, err := m.Join([]string{hostPort(nodes[0].LocalNode())})
			require.NoError(t, err)
		}
	}
	require.NoError(t, nodes[2].Shutdown())
	within(t, 30*time.Second, "the dead node is missed", func() bool { return nodes[0].NumMembers() == 2 && nodes[1].NumMembers() == 2 })
	stray, err := net.Dial("udp", hostPort(nodes[0].LocalNode()))
	require.NoError(t, err)
	defer stray.Close()
	_, err = stray.Write([]byte{99, 1, 2, 3})
	require.NoError(t, err)
	for _, text := range []string{
		"[DEBUG] memberlist: Initiating push/pull sync with: ",
		"[DEBUG] memberlist: Stream connection ",
		"[DEBUG] memberlist: Failed UDP ping: three (timeout reached)",
		"[INFO] memberlist: Suspect three has failed, no acks received",
		"[INFO] memberlist: Marking three as failed, suspect timeout reached (",
		"[ERR] memberlist: ",
		"from=127.0.0.1:",
	} {
		within(t, 20*time.Second, "a line with "+text, func() bool {
			return strings.Contains(strings.Join(logged.get(), ""), text)
		})
	}
	for _, line := range logged.get() {
		require.Regexp(t, tagged, line)
	}
}

// TestErrorsThatProgramsMatch: texts and types of errors on which programs act.
func TestErrorsThatProgramsMatch(t *testing.T) {
	var logged lines
	first := create(t, loopbackConfig("first", &logged))
	port := int(first.LocalNode().Port)

	taken := loopbackConfig("taken", &logged)
	taken.BindPort = port
	_, err := memberlist.Create(taken)
	require.ErrorContains(t, err, "address already in use")
	require.ErrorContains(t, err, "could not set up network transport: failed to obtain an address: failed to start TCP listener on")

	both := loopbackConfig("both", &logged)
	both.Logger = log.Default()
	_, err = memberlist.Create(both)
	require.EqualError(t, err, "cannot specify both LogOutput and Logger; please choose a single log configuration setting")

	version := loopbackConfig("version", &logged)
	version.ProtocolVersion = 9
	_, err = memberlist.Create(version)
	require.EqualError(t, err, "protocol version '9' too high. Must be in range: [1, 5]")

	short := loopbackConfig("short", &logged)
	short.SecretKey = []byte("too short")
	_, err = memberlist.Create(short)
	require.EqualError(t, err, "key size must be 16, 24 or 32 bytes")

	n, err := first.Join([]string{"127.0.0.1:1", "127.0.0.1:2"})
	require.Zero(t, n)
	var several interface{ WrappedErrors() []error } // that of *multierror.Error
	require.ErrorAs(t, err, &several)
	require.Len(t, several.WrappedErrors(), 2)
	require.ErrorContains(t, err, "failed to join 127.0.0.1:1: ")
	require.ErrorContains(t, err, "connection refused")

	_, err = first.Ping("nobody", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
	var silent memberlist.NoPingResponseError
	require.True(t, errors.As(err, &silent))
	_, isValue := err.(memberlist.NoPingResponseError)
	require.True(t, isValue, "a value, unwrapped: %T", err)
	require.EqualError(t, err, "No response from node nobody")
}

// TestJoinErrorsAcrossSettings: what a joiner is told when the settings differ.
func TestJoinErrorsAcrossSettings(t *testing.T) {
	var logged lines
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, 16) }
	plain := create(t, loopbackConfig("plain", &logged))
	sealedCfg := loopbackConfig("sealed", &logged)
	sealedCfg.SecretKey = key(1)
	sealed := create(t, sealedCfg)
	otherCfg := loopbackConfig("other", &logged)
	otherCfg.SecretKey = key(2)
	other := create(t, otherCfg)
	vetoCfg := loopbackConfig("veto", &logged)
	vetoCfg.Merge = mergeFunc(func([]*memberlist.Node) error { return errors.New("not on my watch") })
	veto := create(t, vetoCfg)

	join := func(from, to *memberlist.Memberlist) error {
		_, err := from.Join([]string{hostPort(to.LocalNode())})
		return err
	}
	require.ErrorContains(t, join(plain, sealed), "remote state is encrypted and encryption is not configured")
	require.ErrorContains(t, join(sealed, plain), "encryption is configured but remote state is not encrypted")
	require.ErrorContains(t, join(other, sealed), "no installed keys could decrypt the message")
	require.ErrorContains(t, join(veto, plain), "not on my watch")
}

// TestConfigIsWrittenBack: programs read from their Config what was decided.
func TestConfigIsWrittenBack(t *testing.T) {
	cfg := loopbackConfig("node", new(lines))
	cfg.SecretKey = bytes.Repeat([]byte{1}, 24)
	m := create(t, cfg)
	require.NotZero(t, cfg.BindPort)
	require.Equal(t, cfg.BindPort, cfg.AdvertisePort)
	require.Equal(t, cfg.BindPort, int(m.LocalNode().Port))
	require.Equal(t, cfg.SecretKey, cfg.Keyring.GetPrimaryKey())
	require.True(t, cfg.EncryptionEnabled())
}

// TestEventsBeforeReturn: Create, Join, UpdateNode and Leave return after the
// events that they caused.
func TestEventsBeforeReturn(t *testing.T) {
	ch := make(chan memberlist.NodeEvent, 16)
	next := func() string {
		select {
		case e := <-ch:
			kind := map[memberlist.NodeEventType]string{
				memberlist.NodeJoin: "join", memberlist.NodeLeave: "leave", memberlist.NodeUpdate: "update",
			}[e.Event]
			return kind + " " + e.Node.Name + " " + string(e.Node.Meta)
		default:
			return "nothing"
		}
	}
	meta := "old"
	cfg := loopbackConfig("one", new(lines))
	cfg.Events = &memberlist.ChannelEventDelegate{Ch: ch}
	cfg.Delegate = &hub{nodeMeta: func(int) []byte { return []byte(meta) }}
	m := create(t, cfg)
	require.Equal(t, "join one old", next())
	other := create(t, loopbackConfig("two", new(lines)))
	_, err := m.Join([]string{hostPort(other.LocalNode())})
	require.NoError(t, err)
	require.Equal(t, "join two ", next())
	meta = "new"
	require.NoError(t, m.UpdateNode(10*time.Second))
	require.Equal(t, "update one new", next())
	require.NoError(t, m.Leave(10*time.Second))
	require.Equal(t, "leave one new", next())
	require.Equal(t, "nothing", next())
	require.NoError(t, m.Shutdown())
	require.NoError(t, m.Shutdown(), "twice")
}

// TestMetricNames: dashboards know the metrics by name and label.
func TestMetricNames(t *testing.T) {
	sink := metrics.NewInmemSink(time.Minute, 10*time.Minute)
	conf := metrics.DefaultConfig("")
	conf.EnableHostname, conf.EnableRuntimeMetrics = false, false
	_, err := metrics.NewGlobal(conf, sink)
	require.NoError(t, err)
	var nodes []*memberlist.Memberlist
	for _, name := range []string{"one", "two", "three"} {
		cfg := loopbackConfig(name, new(lines))
		cfg.MetricLabels = []metrics.Label{{Name: "pool", Value: "blue"}}
		cfg.QueueCheckInterval = 50 * time.Millisecond
		cfg.ProbeInterval, cfg.ProbeTimeout = 200*time.Millisecond, 50*time.Millisecond
		cfg.PushPullInterval = 200 * time.Millisecond
		cfg.SecretKey = bytes.Repeat([]byte{1}, 16)
		nodes = append(nodes, create(t, cfg))
		_, err := nodes[len(nodes)-1].Join([]string{hostPort(nodes[0].LocalNode())})
		require.NoError(t, err)
	}
	within(t, 20*time.Second, "the first datagrams", func() bool {
		return metricNames(sink)["memberlist.udp.received;pool=blue"]
	})
	require.NoError(t, nodes[2].Shutdown())
	require.NoError(t, nodes[1].Shutdown())
	want := []string{
		"memberlist.udp.sent;pool=blue", "memberlist.udp.received;pool=blue", "memberlist.tcp.accept;pool=blue",
		"memberlist.tcp.connect;pool=blue", "memberlist.tcp.sent;pool=blue", "memberlist.msg.alive;pool=blue",
		"memberlist.msg.suspect;pool=blue", "memberlist.msg.dead;pool=blue", "memberlist.health.score;pool=blue",
		"memberlist.node.instances;node_state=alive;pool=blue", "memberlist.node.instances;node_state=dead;pool=blue",
		"memberlist.node.instances;node_state=left;pool=blue", "memberlist.node.instances;node_state=suspect;pool=blue",
		"memberlist.size.local;pool=blue", "memberlist.size.remote;pool=blue", "memberlist.queue.broadcasts;pool=blue",
		"memberlist.probeNode;pool=blue", "memberlist.gossip;pool=blue", "memberlist.pushPullNode;pool=blue",
	}
	var missing []string
	found := func() bool {
		have := metricNames(sink)
		missing = slices.DeleteFunc(slices.Clone(want), func(name string) bool { return have[name] })
		return len(missing) == 0
	}
	defer func() { require.Empty(t, missing, "metrics") }()
	within(t, 50*time.Second, "all metrics", found)
}

// metricNames are the keys of all metrics with their labels in order.
func metricNames(sink *metrics.InmemSink) map[string]bool {
	names := make(map[string]bool)
	for _, interval := range sink.Data() {
		interval.RLock()
		for _, m := range interval.Counters {
			names[nameOf(m.Name, m.Labels)] = true
		}
		for _, m := range interval.Samples {
			names[nameOf(m.Name, m.Labels)] = true
		}
		for _, m := range interval.Gauges {
			names[nameOf(m.Name, m.Labels)] = true
		}
		interval.RUnlock()
	}
	return names
}

func nameOf(name string, labels []metrics.Label) string {
	var all []string
	for _, l := range labels {
		all = append(all, l.Name+"="+l.Value)
	}
	slices.Sort(all)
	return strings.Join(append([]string{name}, all...), ";")
}
