package memberlist

import "time"

// performer carries out what the core wants done, on the goroutine that caused it.
type performer struct {
	services
	broadcasts *TransmitLimitedQueue
	nodes      *nodeSelection
	outbound   *outbound
	exchanges  *exchanges
	rejoining  *rejoining
	roundTrips *roundTrips
}

func (p *performer) perform(fx *effects) {
	for i := range fx.logs {
		p.log.writeLine(&fx.logs[i])
	}
	for _, w := range fx.answered {
		w.done <- struct{}{}
	}
	for i := range fx.packets {
		p.outbound.send(&fx.packets[i])
	}
	for _, done := range fx.signals { // after the packets: Shutdown may follow
		close(done)
	}
	p.gossip(fx)
	p.startStreams(fx.streams)
	p.roundTrips.queueAll(fx.rtts)
	p.report(fx)
}

// gossip makes the gossip round that the core wants, if it wants one.
func (p *performer) gossip(fx *effects) {
	targets := fx.gossip
	if fx.selectGossip {
		targets = p.nodes.gossipTargets()
	}
	if len(targets) == 0 {
		return
	}
	start := time.Now()
	p.outbound.gossip(targets)
	p.meter.measureSince(metricGossip, start)
}

// startStreams starts the exchanges that the core wants. The periodic full exchanges
// of one round are made one after the other.
func (p *performer) startStreams(tasks []streamTask) {
	var partners []*Node
	for _, t := range tasks {
		if t.kind == streamSync && t.node != nil {
			partners = append(partners, t.node)
			continue
		}
		p.tasks.start(func() { p.stream(t) })
	}
	if len(partners) > 0 {
		p.tasks.start(func() { p.exchanges.syncRound(partners) })
	}
}

// stream makes one exchange.
func (p *performer) stream(t streamTask) {
	switch t.kind {
	case streamProbe:
		p.exchanges.probe(t)
	case streamSeeds:
		p.rejoining.rejoin()
	case streamLeave:
		p.exchanges.depart(t)
	case streamIdentify:
		p.exchanges.identify(t)
	case streamVisit:
		p.exchanges.syncWith(t.node, levelDebug)
	case streamSync:
		p.exchanges.syncRound(p.nodes.syncTargets())
	}
}

// report emits what the core counted.
func (p *performer) report(fx *effects) {
	p.meter.report(&fx.metrics)
	if refused := fx.metrics.relaysRefused; refused > 0 {
		p.drops.indirectPings(refused)
	}
	if fx.sample { // P85
		p.meter.sample(metricQueue, p.broadcasts.NumQueued())
	}
}
