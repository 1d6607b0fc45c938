package memberlist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// exchanges makes full exchanges (push/pull) and the other talks on streams, and
// serves those of others.
type exchanges struct {
	*sessions
	engine      *engine
	admission   *admission
	users       *userDelivery
	nodeLists   sync.Pool // *[]pushNodeState
	localStates sync.Pool // *localState
}

// remoteState is what the other side of a push/pull sent.
type remoteState struct {
	reader *streamReader // whose memory the nodes are views of
	join   bool
	nodes  []pushNodeState
	user   []byte

	begun bool   // this side began the exchange
	asked string // with which member; empty if it is a seed
}

// account is what the memory of the state is charged to.
func (s *remoteState) account() *memoryAccount {
	if s.reader == nil {
		return nil
	}
	return s.reader.account
}

// readState reads the body of a push/pull.
func (x *exchanges) readState(r *streamReader) (remoteState, error) {
	s := remoteState{reader: r}
	if spare, ok := x.nodeLists.Get().(*[]pushNodeState); ok {
		s.nodes = (*spare)[:0]
	}
	header, nodes, user, err := readPushPull(r, s.nodes)
	s.join, s.nodes, s.user = header.Join, nodes, user
	for i := range nodes {
		nodes[i].Port = x.config.knownPort(nodes[i].Port)
	}
	return s, err
}

// keepRecords is for how many nodes lists are used again.
const keepRecords = 16 << 10

// done gives the memory of a state back, user state excepted.
func (x *exchanges) done(s *remoteState) {
	if list := s.nodes; list != nil && cap(list) <= keepRecords {
		clear(list)
		x.nodeLists.Put(&list)
	}
	s.nodes = nil
	if s.reader != nil {
		s.reader.release()
	}
}

var errTooManyPushPulls = errors.New("Too many pending push/pull requests")

// servePushPull answers a full exchange (P117): it reads everything, judges it,
// sends this node's state with the join flag that it received (W56), and merges (W57).
// A refusal by a delegate is sent instead of this node's state, so that the joiner
// learns of it (W89).
func (x *exchanges) servePushPull(c *session, r *streamReader) error {
	remote, err := x.readState(r)
	defer x.done(&remote)
	if err != nil {
		told := r.canBeTold(err)
		x.done(&remote)
		c.account.close()
		if told {
			c.refuse(err.Error(), maxStates, x.firstByteTimeout())
		}
		return err
	}
	give, ok := x.set.takePlace(c.account.source)
	if !ok {
		c.answerError(errTooManyPushPulls.Error())
		return errTooManyPushPulls
	}
	defer give()
	local := x.takeLocalState()
	defer x.giveLocalState(local)
	refusal := x.admission.judge(x.life.ctx, &remote, local.records)
	c.extend(x.life.ctx)
	if rejected := (*RejectedError)(nil); errors.As(refusal, &rejected) {
		c.answerError(rejectionPrefix + rejected.Error())
		return fmt.Errorf("push/pull refused: %w", refusal)
	}
	if err := x.sendState(c, local.records, remote.join, false); err != nil {
		if errors.Is(err, ErrTooLarge) || errors.Is(err, errNoRoom) { // nothing was sent
			c.extend(x.life.ctx)
			c.answerError(err.Error())
		}
		return err
	}
	if refusal != nil {
		return fmt.Errorf("failed push/pull merge: %w", refusal)
	}
	x.merge(x.life.ctx, &remote)
	return nil
}

// localState is this node's side of a push/pull, in memory that is used again.
type localState struct {
	records []nodeRecord
}

// takeLocalState reads the member table.
func (x *exchanges) takeLocalState() *localState {
	local, _ := x.localStates.Get().(*localState)
	if local == nil {
		local = new(localState)
	}
	x.readTable(local)
	return local
}

func (x *exchanges) giveLocalState(local *localState) {
	clear(local.records)
	if cap(local.records) <= keepRecords {
		x.localStates.Put(local)
	}
}

// readTable makes the records those of now.
func (x *exchanges) readTable(local *localState) {
	x.engine.read(func(c *core, _ instant) { local.records = c.appendRecords(local.records[:0]) })
}

// sendState writes this node's side of a push/pull. State that no node would take is an
// error (W62). What it takes in memory is charged: the user state, the message, and its
// compressed or sealed form.
func (x *exchanges) sendState(c *session, records []nodeRecord, join, opener bool) error {
	user, err := x.localUserState(c.account, join)
	defer c.account.release(len(user))
	if err != nil {
		return err
	}
	size := stateSize(records, len(user))
	if err := c.account.charge(2 * size); err != nil {
		return err
	}
	defer c.account.release(2 * size)
	buf := streamBuffers.Get().(*[]byte)
	msg := x.appendLocalState(slices.Grow((*buf)[:0], size), records, user, join)
	defer keepForStreams(buf, msg)
	return c.write(msg, opener)
}

// localUserState asks the program for its state. It is charged; what it took the last
// time is charged before.
func (x *exchanges) localUserState(account *memoryAccount, join bool) ([]byte, error) {
	if x.config.Delegate == nil {
		return nil, nil
	}
	expected := int(x.userStateLen.Load())
	if err := account.charge(expected); err != nil {
		return nil, err
	}
	user := x.config.Delegate.LocalState(join)
	account.release(expected - len(user))
	x.userStateLen.Store(int64(min(len(user), maxUserState)))
	if len(user) > maxUserState {
		return user, newKindError(ErrTooLarge, "user state of %d bytes is over the limit of %d", len(user), maxUserState)
	}
	return user, nil
}

// stateSize is how many bytes this node's side of a push/pull takes, or a few more.
func stateSize(records []nodeRecord, userLen int) int {
	const fixed = 96 // of an entry
	size := fixed*(len(records)+1) + userLen
	for i := range records {
		n := records[i].node
		size += len(n.Name) + len(n.Meta)
	}
	return size
}

// appendLocalState encodes this node's side of a push/pull (W51, W54, P118).
func (x *exchanges) appendLocalState(dst []byte, records []nodeRecord, user []byte, join bool) []byte {
	header := pushPullHeader{Nodes: len(records), UserStateLen: len(user), Join: join}
	dst = header.appendTo(dst)
	var counts [4]int
	for i := range records {
		counts[records[i].node.State]++
		dst = records[i].appendTo(dst)
	}
	dst = append(dst, user...)
	x.meter.reportInstances(counts)
	x.meter.setGauge(metricSizeLocal, len(dst))
	return dst
}

// appendTo appends a record as the entry of a push/pull.
func (r *nodeRecord) appendTo(dst []byte) []byte {
	n := r.node
	versions := n.versions()
	s := pushNodeState{
		Name: borrow(n.Name), Addr: n.Addr, Meta: n.Meta, Vsn: versions[:],
		Incarnation: r.incarnation, Port: n.Port, State: n.State,
	}
	return s.appendTo(dst)
}

// merge applies what the other side sent (P119). It returns the number of the
// last event.
func (x *exchanges) merge(ctx context.Context, remote *remoteState) uint64 {
	eventSeq := x.engine.step(func(c *core, now instant) {
		if remote.begun {
			c.mergeAnswer(now, remote.asked, remote.join, remote.nodes)
		} else {
			c.merge(now, remote.nodes)
		}
	})
	if len(remote.user) == 0 || x.config.Delegate == nil {
		return eventSeq
	}
	// The program hears of the nodes before it gets what they sent.
	x.users.awaitEventsBefore(ctx, eventSeq)
	x.config.Delegate.MergeRemoteState(remote.user, remote.join)
	return eventSeq
}

// pushPull makes a full exchange with a node (P116). It returns the number of
// the last event that it caused.
func (x *exchanges) pushPull(ctx context.Context, to Address, join bool) (eventSeq uint64, err error) {
	return x.exchange(ctx, to, join, nil)
}

// exchange is pushPull for a caller who looks at what the other side listed.
func (x *exchanges) exchange(ctx context.Context, to Address, join bool, look func([]pushNodeState)) (eventSeq uint64, err error) {
	start := time.Now()
	c, err := x.open(ctx, to, x.config.TCPTimeout)
	if err != nil {
		return 0, err
	}
	defer c.close()
	x.log.debugf("Initiating push/pull sync", logFields{node: to.Name, addr: to.Addr}, "Initiating push/pull sync with: %s %s", to.Name, LogConn(c.Conn))
	x.meter.count(metricTCPConnect, 1)
	defer x.meter.measureSince(metricPushPull, start)

	local := x.takeLocalState()
	defer x.giveLocalState(local)
	remote, err := x.swapStates(ctx, c, to, local.records, join)
	defer x.done(&remote)
	if err != nil {
		return 0, err
	}
	remote.join, remote.begun = join, true
	if look != nil {
		look(remote.nodes)
	} else if !join {
		remote.asked = to.Name // a member, at the address that the table has
	}
	x.readTable(local)
	if err := x.admission.judge(ctx, &remote, local.records); err != nil {
		return 0, err
	}
	return x.merge(ctx, &remote), nil
}

// swapStates sends this node's state and reads that of the other side. Each may take
// TCPTimeout. Who refuses a stream says why and closes it, perhaps before it has read
// all of it, so there can be an answer even if not everything could be sent.
func (x *exchanges) swapStates(ctx context.Context, c *session, to Address, local []nodeRecord, join bool) (remoteState, error) {
	c.extend(ctx)
	unsent := x.sendState(c, local, join, true)
	if unsent != nil && !closedByPeer(unsent) {
		return remoteState{}, unsent
	}
	c.extend(ctx)
	remote, err := x.readAnswer(c, to)
	return remote, cmp.Or(err, unsent)
}

// readAnswer reads the other side's push/pull, or its refusal (W50).
func (x *exchanges) readAnswer(c *session, from Address) (remoteState, error) {
	r, kind, err := c.readReply()
	if closedByPeer(err) {
		// W41, W48: that is all there is to see of it from here.
		return remoteState{}, newKindError(ErrLabelMismatch, "no answer, which can mean that the labels differ: %w", err)
	}
	if err != nil {
		return remoteState{}, err
	}
	c.noteRemoteSize(r)
	switch kind {
	case errorMsg:
		var reply errorReply
		if err := reply.decodeFrom(r); err != nil {
			return remoteState{}, err
		}
		return remoteState{}, &RemoteError{Addr: from.Addr, Message: reply.Error.own()}
	case pushPullMsg:
		return x.readState(r)
	}
	return remoteState{}, newKindError(ErrMalformed, "received invalid msgType (%d), expected pushPullMsg (%d) %s", kind, pushPullMsg, LogConn(c.Conn))
}

// syncRound makes the periodic full exchanges, one after the other (P154).
func (x *exchanges) syncRound(nodes []*Node) {
	defer x.engine.step((*core).syncRoundEnded)
	for _, n := range nodes {
		x.syncWith(n, levelError)
	}
}

// syncWith makes a full exchange that nobody waits for: failures are logged.
func (x *exchanges) syncWith(n *Node, level logLevel) {
	asked := x.engine.now()
	_, err := x.pushPull(x.life.ctx, n.FullAddress(), false)
	if err == nil {
		x.engine.step(func(c *core, now instant) { c.streamAnswerReceived(now, n, asked, true) })
		return
	}
	if !x.life.down.Load() {
		x.log.log(level, "Push/pull failed", logFields{node: n.Name, addr: n.Address(), err: err},
			"Push/Pull with %s failed: %v", n.Name, err)
	}
}

// identify makes a full exchange with a node, and tells the core which address that
// node gives itself.
func (x *exchanges) identify(t streamTask) {
	ctx, cancel := context.WithTimeout(x.life.ctx, t.timeout)
	defer cancel()
	var own netip.AddrPort
	_, err := x.exchange(ctx, t.node.FullAddress(), false, func(nodes []pushNodeState) {
		for i := range nodes {
			if nodes[i].Name == borrow(t.node.Name) {
				own = addrPortOf(nodes[i].Addr, nodes[i].Port)
			}
		}
	})
	if err != nil && !x.life.down.Load() {
		x.log.debugf("Asking a node for its address failed", logFields{node: t.node.Name, addr: t.node.Address(), err: err},
			"Push/Pull with %s failed: %v", t.node.Name, err)
	}
	x.engine.step(func(c *core, now instant) { c.identified(now, t.node, own) })
}
