package memberlist

import "bytes"

// roundTrips tells the PingDelegate of answered probes (P53), apart from the packets,
// since it may be slow.
type roundTrips struct {
	services
	config *Config
	queue  *workQueue[roundTrip]
}

func newRoundTrips(s services, cfg *Config) *roundTrips {
	r := &roundTrips{services: s, config: cfg}
	r.queue = newWorkQueue(s.tasks, cfg.HandoffQueueDepth, r.deliver).
		bounded(cfg.queueBytes(), func(rt *roundTrip) int { return len(rt.payload) })
	return r
}

// queueAll queues round trips for delivery.
func (r *roundTrips) queueAll(rtts []roundTrip) {
	if r.config.Ping == nil {
		return
	}
	for _, rt := range rtts {
		if !r.queue.hasRoom(len(rt.payload)) {
			r.drops.roundTrip()
			continue
		}
		rt.payload = bytes.Clone(rt.payload)
		if !r.queue.put(rt) {
			r.drops.roundTrip()
		}
	}
}

func (r *roundTrips) deliver(rt roundTrip) {
	r.config.Ping.NotifyPingComplete(rt.node, rt.rtt, rt.payload)
}
