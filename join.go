package memberlist

import (
	"context"
	"errors"
	"net"
	"time"
)

// Join exchanges state with every node of the list, and so becomes a member of
// their cluster. It is [Memberlist.JoinContext] without a limit of its own: each
// address may take Config.TCPTimeout to connect and again to answer.
func (m *Memberlist) Join(existing []string) (int, error) {
	return m.JoinContext(context.Background(), existing)
}

// JoinContext exchanges state with every node of the list, with up to 128 of
// them at a time. An entry is a host name, an IP address, either with a
// port (Config.BindPort if there is none), and may have a node name in front:
// "name/host:port". A name is looked up by DNS over TCP first, then by the
// system's resolver, and every address it has is contacted.
//
// It returns the number of addresses with which the exchange succeeded. With at
// least one the error is nil, whatever else failed; with none it is a
// *multierror.Error of [JoinError], in which errors.Is and errors.As find the
// causes: [UnreachableError], [RemoteError], [RejectedError], [ErrVersion],
// [ErrDecrypt] and so on. When ctx ends, exchanges that have not
// finished count as failed.
//
// It may be called at any time and repeatedly. Events of the nodes that it made
// known have been delivered when it returns, unless it was called from inside a
// callback. A node that has left comes back by it, with a higher incarnation.
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

// Leave announces that this node departs, and waits until the others provably
// know, at most for timeout; for half a minute if that is 0 or less. See
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

// LeaveContext announces that this node departs: it counts as left, here and
// soon everywhere, instead of being found dead. It returns nil once three live
// members that stay have confirmed that they know, or all if there are fewer, and
// the own NotifyLeave has been delivered. The departure goes on spreading by gossip.
//
// Members are told by packet, and on a stream if they do not confirm. Those that leave
// at the same time are not waited for, nor are those whose processes have ended: all
// nodes of a cluster can leave, and be shut down, at once.
//
// If ctx ends first the error says so (errors.Is: [ErrTimeout] after a deadline);
// the node has left all the same, and a second call returns nil. A ctx without
// a deadline gets one of 30 seconds: where nobody can be reached nobody confirms. The node
// keeps answering until Shutdown; after that the call is an error, [ErrShutdown].
// Inside a callback it does not wait.
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

// UpdateNode asks Delegate.NodeMeta again, announces the result, and waits until
// the announcement has gone out, at most for timeout; no limit if that is 0 or
// less. See [Memberlist.UpdateNodeContext].
func (m *Memberlist) UpdateNode(timeout time.Duration) error {
	return withTimeout(timeout, m.UpdateNodeContext)
}

// UpdateNodeContext asks Delegate.NodeMeta again and announces this node anew
// with the result. It returns nil once the announcement has been gossiped as
// often as Config.RetransmitMult wants, or was replaced by a newer one, and the
// own NotifyUpdate has been delivered; at once if there is no other member.
// Inside a callback it does not wait.
//
// Errors: [ErrTooLarge] if the meta data is longer than MetaMaxSize,
// [ErrRejected] if the AliveDelegate refuses it, [ErrLeft] after Leave,
// [ErrShutdown]; [ErrTimeout] or ctx.Err() if ctx ends first, in which case the
// announcement still goes on spreading.
func (m *Memberlist) UpdateNodeContext(ctx context.Context) error {
	if m.life.down.Load() {
		return ErrShutdown
	}
	self := m.LocalNode() // an update is no move (P27)
	return m.announce(ctx, self.Addr, self.Port, false, make(chan struct{}))
}

// announce makes the node known anew: with new meta data, or, if it is returning,
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
