package memberlist

import (
	"context"
	"errors"
	"net"
	"time"
)

// Join exchanges state with the given nodes, and so joins their cluster. It is like
// [Memberlist.JoinContext] with a context that never ends: each address can take
// Config.TCPTimeout to connect and again to answer.
func (m *Memberlist) Join(existing []string) (int, error) {
	return m.JoinContext(context.Background(), existing)
}

// JoinContext exchanges state with the given nodes, with up to 128 at a time. Each
// entry of existing is a host name or an IP address, with an optional port (default
// Config.BindPort) and an optional node name in front: "name/host:port". A host name
// is looked up by DNS over TCP first, then by the system's resolver, and each of its
// addresses is contacted.
//
// It returns the number of addresses with which the exchange succeeded. This node's
// own address counts as one. If the number is not 0 the error is nil, whatever else
// failed. Otherwise the error is a *multierror.Error of [JoinError], in which
// errors.Is and errors.As find the causes: [UnreachableError], [RemoteError],
// [RejectedError], [ErrVersion], [ErrDecrypt] and others. When ctx ends, exchanges
// that have not finished fail.
//
// JoinContext may be called at any time and more than once. It returns after the
// events of the nodes that became known have been delivered, except inside a callback,
// where it does not wait for events. A node that has left comes back with a higher
// incarnation.
func (m *Memberlist) JoinContext(ctx context.Context, existing []string) (int, error) {
	if m.life.down.Load() {
		return 0, ErrShutdown
	}
	if len(existing) == 0 {
		return 0, nil
	}
	ctx = m.tasks.callers.mark(ctx)
	if err := m.comeBack(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := m.life.limit(ctx)
	defer cancel()
	return m.joining.contactAll(ctx, existing)
}

// comeBack makes a node that has left alive again. One that is refused by its
// own AliveDelegate can still exchange state (P20).
func (m *Memberlist) comeBack(ctx context.Context) error {
	var left bool
	m.engine.read(func(c *core, _ instant) { left = c.hasLeft() })
	if !left {
		return nil
	}
	ip, port, err := m.advertised()
	if err != nil {
		return err
	}
	if err := m.announce(ctx, ip, port, true, nil); err != nil && !errors.Is(err, ErrRejected) {
		return err
	}
	return nil
}

// Leave announces that this node leaves the cluster, and waits until other nodes have
// confirmed it or the timeout expires. A timeout of 0 or less means 30 seconds. See
// [Memberlist.LeaveContext].
func (m *Memberlist) Leave(timeout time.Duration) error {
	return withTimeout(timeout, m.LeaveContext)
}

// withTimeout calls f with a context that ends after timeout; never if that is
// 0 or less.
func withTimeout(timeout time.Duration, f func(context.Context) error) error {
	if timeout <= 0 {
		return f(context.Background())
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return f(ctx)
}

// leaveLimit is how long a Leave without a limit waits: where nobody confirms it would
// wait for ever.
const leaveLimit = 30 * time.Second

// LeaveContext announces that this node leaves the cluster, so that the others do not
// have to detect a failure. It returns nil when three live members that stay (all, if
// there are fewer) have confirmed it, and NotifyLeave has been called for this node.
// The announcement continues to spread by gossip.
//
// Members are told by packet, and on a stream if they do not confirm. LeaveContext does
// not wait for members that leave at the same time or whose processes have ended, so
// all nodes of a cluster can leave and shut down at once.
//
// If ctx ends first, the error says so; after a deadline errors.Is finds [ErrTimeout].
// The node has left all the same, and a second call returns nil. A ctx without a
// deadline gets one of 30 seconds. The node answers others until Shutdown, after which
// the error is [ErrShutdown]. Inside a callback LeaveContext does not wait.
func (m *Memberlist) LeaveContext(ctx context.Context) error {
	if m.life.down.Load() { // P24
		return ErrShutdown
	}
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, leaveLimit)
		defer cancel()
	}
	var done <-chan struct{}
	eventSeq := m.engine.step(func(c *core, now instant) { done = c.leave(now) })
	err := m.events.wait(ctx, eventSeq)
	if err != nil {
		err = waitError(ctx, errLeaveTimeout)
	} else {
		err = m.waitFor(ctx, done, errLeaveTimeout)
	}
	if err != nil {
		m.engine.step(func(c *core, now instant) { c.giveUpDeparture(now) })
	}
	m.outbound.flush(ctx)
	return err
}

// waitFor waits for a channel to be closed; a nil one counts as closed. It does
// not wait inside a callback.
func (m *Memberlist) waitFor(ctx context.Context, done <-chan struct{}, timeout error) error {
	if done == nil || m.tasks.callers.inCallback() {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return waitError(ctx, timeout)
	case <-m.life.ctx.Done():
		return ErrShutdown
	}
}

// waitError is the error of a call that ended with its context.
func waitError(ctx context.Context, timeout error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return newKindError(ctx.Err(), "%w", timeout)
	}
	return ctx.Err()
}

// UpdateNode calls Delegate.NodeMeta, announces the result, and waits until the
// announcement has been sent or the timeout expires. A timeout of 0 or less means no
// limit. See [Memberlist.UpdateNodeContext].
func (m *Memberlist) UpdateNode(timeout time.Duration) error {
	return withTimeout(timeout, m.UpdateNodeContext)
}

// UpdateNodeContext calls Delegate.NodeMeta and announces this node with the result. It
// returns nil when the announcement has been gossiped as often as
// Config.RetransmitMult demands, or was replaced by a newer one, and NotifyUpdate has
// been called for this node. It returns at once if there is no other member. Inside a
// callback it does not wait.
//
// Errors are [ErrTooLarge] if the metadata is longer than MetaMaxSize, [ErrRejected] if
// the AliveDelegate refuses it, [ErrLeft] after Leave, [ErrShutdown], and [ErrTimeout]
// or ctx.Err() if ctx ends first; the announcement then continues to spread.
func (m *Memberlist) UpdateNodeContext(ctx context.Context) error {
	if m.life.down.Load() {
		return ErrShutdown
	}
	self := m.LocalNode() // an update is no move (P27)
	return m.announce(ctx, self.Addr, self.Port, false, make(chan struct{}))
}

// announce makes the node known again: with new metadata, or, if it is returning,
// again after it has left. done is closed when the broadcast is finished, however early that is: the
// signal cannot be missed (P30).
func (m *Memberlist) announce(ctx context.Context, ip net.IP, port uint16, returning bool, done chan struct{}) error {
	meta, err := m.nodeMeta()
	if err != nil {
		return err
	}
	if err := m.admitSelf(ctx, ip, port, meta); err != nil {
		return err
	}
	left, alone := false, false
	eventSeq := m.engine.step(func(c *core, now instant) {
		if c.hasLeft() && !returning {
			left = true
			return
		}
		var finished func()
		if done != nil {
			finished = func() { close(done) }
		}
		c.announceSelf(now, ip, port, meta, finished)
		alone = c.liveMembers() <= 1
	})
	if left {
		return ErrLeft // P29
	}
	if err := m.events.wait(ctx, eventSeq); err != nil {
		return waitError(ctx, errUpdateTimeout)
	}
	if alone || done == nil {
		return nil
	}
	return m.waitFor(ctx, done, errUpdateTimeout)
}
