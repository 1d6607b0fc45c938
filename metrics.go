package memberlist

import (
	"time"

	"github.com/hashicorp/go-metrics"
)

// The metrics of P147.
var (
	metricUDPSent         = []string{"memberlist", "udp", "sent"}
	metricUDPReceived     = []string{"memberlist", "udp", "received"}
	metricTCPAccept       = []string{"memberlist", "tcp", "accept"}
	metricTCPConnect      = []string{"memberlist", "tcp", "connect"}
	metricTCPSent         = []string{"memberlist", "tcp", "sent"}
	metricAlive           = []string{"memberlist", "msg", "alive"}
	metricSuspect         = []string{"memberlist", "msg", "suspect"}
	metricDead            = []string{"memberlist", "msg", "dead"}
	metricDegradedProbe   = []string{"memberlist", "degraded", "probe"}
	metricDegradedTimeout = []string{"memberlist", "degraded", "timeout"}
	metricHealth          = []string{"memberlist", "health", "score"}
	metricInstances       = []string{"memberlist", "node", "instances"}
	metricSizeLocal       = []string{"memberlist", "size", "local"}
	metricSizeRemote      = []string{"memberlist", "size", "remote"}
	metricQueue           = []string{"memberlist", "queue", "broadcasts"}
	metricProbe           = []string{"memberlist", "probeNode"}
	metricGossip          = []string{"memberlist", "gossip"}
	metricPushPull        = []string{"memberlist", "pushPullNode"}
	metricDropped         = []string{"memberlist", "msg", "dropped"}
)

// meter emits metrics with the labels of the configuration.
type meter struct{ labels []metrics.Label }

// count adds n to a counter; nothing for 0.
func (m *meter) count(key []string, n int) {
	if n != 0 {
		metrics.IncrCounterWithLabels(key, float32(n), m.labels)
	}
}

// countDropped counts messages that were not handled, by kind: for lack of room, or
// because no node sends such.
func (m *meter) countDropped(kind string, n int) {
	labels := append([]metrics.Label{{Name: "kind", Value: kind}}, m.labels...)
	metrics.IncrCounterWithLabels(metricDropped, float32(n), labels)
}

func (m *meter) measureSince(key []string, start time.Time) {
	metrics.MeasureSinceWithLabels(key, start, m.labels)
}

// report emits what the core counted.
func (m *meter) report(c *metricCounts) {
	m.count(metricAlive, c.alive)
	m.count(metricSuspect, c.suspect)
	m.count(metricDead, c.dead)
	m.count(metricDegradedProbe, c.degradedProbe)
	m.count(metricDegradedTimeout, c.degradedTimeout)
	if c.healthChanged {
		m.setGauge(metricHealth, c.health)
	}
	if c.probeEnded {
		m.measureSince(metricProbe, time.Now().Add(-c.probeTook))
	}
}

// reportInstances emits how many nodes are known in each state.
func (m *meter) reportInstances(counts [4]int) {
	for state, n := range counts {
		label := metrics.Label{Name: "node_state", Value: NodeStateType(state).String()}
		labels := append([]metrics.Label{label}, m.labels...)
		metrics.SetGaugeWithLabels(metricInstances, float32(n), labels)
	}
}

// sample emits a size.
func (m *meter) sample(key []string, size int) {
	metrics.AddSampleWithLabels(key, float32(size), m.labels)
}

// setGauge emits the present value of a size.
func (m *meter) setGauge(key []string, size int) {
	metrics.SetGaugeWithLabels(key, float32(size), m.labels)
}
