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

// count adds n to a counter; nothing for 0.
func (m *Memberlist) count(key []string, n int) {
	if n != 0 {
		metrics.IncrCounterWithLabels(key, float32(n), m.config.MetricLabels)
	}
}

// outOfBounds is the kind of messages, and entries of a push/pull, that were dropped
// since they are out of bounds.
const outOfBounds = "out of bounds"

// countDropped counts messages that were not handled, by kind: for lack of room, or
// because no node sends such.
func (m *Memberlist) countDropped(kind string, n int) {
	labels := append([]metrics.Label{{Name: "kind", Value: kind}}, m.config.MetricLabels...)
	metrics.IncrCounterWithLabels(metricDropped, float32(n), labels)
}

func (m *Memberlist) measureSince(key []string, start time.Time) {
	metrics.MeasureSinceWithLabels(key, start, m.config.MetricLabels)
}

// report emits what the core counted.
func (m *Memberlist) report(c *metricCounts) {
	m.count(metricAlive, c.alive)
	m.count(metricSuspect, c.suspect)
	m.count(metricDead, c.dead)
	m.count(metricDegradedProbe, c.degradedProbe)
	m.count(metricDegradedTimeout, c.degradedTimeout)
	if c.relaysRefused > 0 {
		m.countDropped(indirectPingMsg.String(), c.relaysRefused)
		m.log.warnf("Too many indirect pings", logFields{}, "Relaying for too many others, ignoring indirect pings")
	}
	if c.healthChanged {
		metrics.SetGaugeWithLabels(metricHealth, float32(c.health), m.config.MetricLabels)
	}
	if c.probeEnded {
		m.measureSince(metricProbe, time.Now().Add(-c.probeTook))
	}
}

// reportInstances emits how many nodes are known in each state.
func (m *Memberlist) reportInstances(counts [4]int) {
	for state, n := range counts {
		label := metrics.Label{Name: "node_state", Value: NodeStateType(state).String()}
		labels := append([]metrics.Label{label}, m.config.MetricLabels...)
		metrics.SetGaugeWithLabels(metricInstances, float32(n), labels)
	}
}

// reportQueueDepth emits how many broadcasts are queued (P85).
func (m *Memberlist) reportQueueDepth() {
	metrics.AddSampleWithLabels(metricQueue, float32(m.broadcasts.NumQueued()), m.config.MetricLabels)
}
