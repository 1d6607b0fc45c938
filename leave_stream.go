package memberlist

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// departOnStream tells a node of the own departure on a stream (P193).
func (m *Memberlist) departOnStream(t streamTask) {
	ctx, cancel := context.WithTimeout(m.life.ctx, t.timeout)
	defer cancel()
	err := m.sendDeparture(ctx, t)
	if err != nil && !m.life.down.Load() {
		m.log.debugf("Failed to tell of the departure on a stream", logFields{node: t.node.Name, addr: t.node.Address(), err: err},
			"Failed to tell %s of the departure on a stream: %v", t.node.Name, err)
	}
	m.step(func(c *core, now instant) {
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

// sendDeparture makes a push/pull in which the own side is only the own departure. The
// answer proves that it was read. It is read to its end, since the other side merges
// only after it has sent everything, and if it is compatible, as it checks too (P120, W90).
func (m *Memberlist) sendDeparture(ctx context.Context, t streamTask) error {
	to := t.node.FullAddress()
	conn, err := m.dial(ctx, to, t.timeout)
	if err != nil {
		return err
	}
	defer m.streams.remove(conn)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	m.meter.count(metricTCPConnect, 1)
	if err := m.writeStream(conn, t.departure.state, true); err != nil {
		return err
	}
	remote, err := m.readAnswer(conn, to)
	defer m.done(&remote)
	if err != nil {
		return err
	}
	return checkCompatible(remote.nodes, []nodeRecord{{node: m.self.Load()}})
}
