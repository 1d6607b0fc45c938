package memberlist

import (
	"context"
	"errors"
	"syscall"
)

// depart tells another node on a stream that this one leaves (P193).
func (x *exchanges) depart(t streamTask) {
	ctx, cancel := context.WithTimeout(x.life.ctx, t.timeout)
	defer cancel()
	err := x.sendDeparture(ctx, t)
	if err != nil && !x.life.down.Load() {
		x.log.debugf("Failed to tell of the departure on a stream", logFields{node: t.node.Name, addr: t.node.Address(), err: err},
			"Failed to tell %s of the departure on a stream: %v", t.node.Name, err)
	}
	x.engine.step(func(c *core, now instant) {
		c.callEnded(now, &t, callOutcomeOf(err))
	})
}

func callOutcomeOf(err error) callOutcome {
	unreachable := (*UnreachableError)(nil)
	switch {
	case err == nil:
		return callHeard
	case errors.Is(err, syscall.ECONNREFUSED):
		return callRefused
	case errors.As(err, &unreachable), isTimeout(err):
		return callSilent
	}
	return callFailed
}

// sendDeparture makes a push/pull in which this node sends only its departure. The
// answer proves that it was read. It is read to its end, since the other side merges
// only after it has sent everything, and if it is compatible, as it checks too (P120, W90).
func (x *exchanges) sendDeparture(ctx context.Context, t streamTask) error {
	to := t.node.FullAddress()
	c, err := x.open(ctx, to, t.timeout)
	if err != nil {
		return err
	}
	defer c.close()
	x.meter.count(metricTCPConnect, 1)
	if err := c.write(t.departure.state, true); err != nil {
		return err
	}
	remote, err := x.readAnswer(c, to)
	defer x.done(&remote)
	if err != nil {
		return err
	}
	return checkCompatible(remote.nodes, []nodeRecord{{node: x.engine.self.Load()}})
}
