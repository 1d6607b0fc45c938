package memberlist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// acceptStreams takes streams from the transport until Shutdown. The first one may
// have been taken already.
func (m *Memberlist) acceptStreams(first net.Conn) {
	if first != nil {
		m.takeStream(first)
	}
	streams := m.transport.StreamCh()
	for {
		select {
		case conn, open := <-streams:
			if !open {
				return
			}
			if conn != nil {
				m.takeStream(conn)
			}
		case <-m.life.ctx.Done():
			return
		}
	}
}

// serveStream handles a stream that another node opened: one message, perhaps
// one answer (W45). Messages of a kind that opens no stream are not answered (W47).
func (m *Memberlist) serveStream(conn net.Conn) {
	defer m.streams.remove(conn)
	m.meter.count(metricTCPAccept, 1)
	if m.log.enabled(levelDebug) {
		m.log.debugf("Stream connection", logFields{addr: addrText(conn)}, "Stream connection %s", LogConn(conn))
	}
	r, kind, err := m.openStream(conn)
	if err != nil {
		m.refuseStream(conn, err)
		return
	}
	m.noteRemoteSize(r, conn)
	switch kind {
	case pingMsg:
		err = m.servePing(conn, r)
	case userMsg:
		err = m.serveUserMessage(conn, r)
	case pushPullMsg:
		err = m.servePushPull(conn, r)
	default:
		err = fmt.Errorf("received invalid msgType (%d)", kind)
	}
	if err != nil && !m.life.down.Load() {
		m.log.errorf("Stream failed", logFields{addr: addrText(conn), err: err, more: []logAttr{{"kind", kind.String()}}},
			"Stream %s: %v %s", kind, err, LogConn(conn))
	}
}

// openStream reads the beginning of a stream. Who says nothing at all has less time
// than one who has begun.
func (m *Memberlist) openStream(conn net.Conn) (*streamReader, messageType, error) {
	start := time.Now()
	_ = conn.SetDeadline(start.Add(m.firstByteTimeout()))
	r := m.wire.newReader(conn)
	if _, err := r.Peek(1); err != nil {
		return nil, 0, err
	}
	_ = conn.SetDeadline(start.Add(m.config.TCPTimeout))
	kind, err := m.wire.openInboundFrom(r)
	return r, kind, err
}

// refuseStream tells the other side why its stream could not be read, where W48
// wants that.
func (m *Memberlist) refuseStream(conn net.Conn, err error) {
	if errors.Is(err, io.EOF) || m.life.down.Load() {
		return
	}
	m.log.errorf("Failed to receive", logFields{addr: addrText(conn), err: err}, "failed to receive: %v %s", err, LogConn(conn))
	if answersWithError(err) {
		m.answerError(conn, err.Error())
	}
}

func (m *Memberlist) answerError(conn net.Conn, text string) {
	reply := errorReply{Error: borrow(text)}
	if err := m.writeStream(conn, reply.appendTo(nil), false); err != nil && !m.life.down.Load() {
		m.log.errorf("Failed to send an error", logFields{addr: addrText(conn), err: err}, "Failed to send error: %v %s", err, LogConn(conn))
	}
}

func (m *Memberlist) writeStream(conn net.Conn, msg []byte, opener bool) error {
	sent, err := m.wire.writeStream(conn, msg, opener)
	m.meter.count(metricTCPSent, sent)
	return err
}

func addrText(conn net.Conn) string {
	if addr := conn.RemoteAddr(); addr != nil {
		return addr.String()
	}
	return ""
}

// noteRemoteSize reports the size of an encrypted frame, and warns when it
// comes near the limit (W62).
func (m *Memberlist) noteRemoteSize(r *streamReader, conn net.Conn) {
	if r.remoteSize == 0 {
		return
	}
	m.meter.sample(metricSizeRemote, r.remoteSize)
	if r.remoteSize > maxFrame*60/100 {
		m.log.warnf("Remote node state is large", logFields{addr: addrText(conn), more: []logAttr{{"bytes", r.remoteSize}}},
			"Remote node state is %d bytes, more than 60%% of the limit of %d %s",
			r.remoteSize, maxFrame, LogConn(conn))
	}
}

// servePing answers a fallback ping (W59).
func (m *Memberlist) servePing(conn net.Conn, r *streamReader) error {
	var p ping
	if err := p.decodeFrom(r); err != nil {
		return err
	}
	if !p.Node.empty() && !p.Node.is(m.config.Name) {
		m.log.warnf("Got a ping for another node", logFields{node: p.Node.own(), addr: addrText(conn)},
			"Got ping for unexpected node '%s' %s", p.Node.own(), LogConn(conn))
		return nil
	}
	reply := ack{SeqNo: p.SeqNo}
	return m.writeStream(conn, reply.appendTo(nil), false)
}

// serveUserMessage delivers a user message (W58); an empty one is not delivered. The
// stream is closed before: there is no answer, and slow user code shall not make
// streams scarce.
func (m *Memberlist) serveUserMessage(conn net.Conn, r *streamReader) error {
	msg, err := readUserMessage(r)
	if err != nil {
		return err
	}
	m.streams.remove(conn)
	if len(msg) > 0 && m.config.Delegate != nil {
		m.config.Delegate.NotifyMsg(msg)
	}
	return nil
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

// readState reads the body of a push/pull.
func (m *Memberlist) readState(r *streamReader) (remoteState, error) {
	s := remoteState{reader: r}
	if spare, ok := m.nodeLists.Get().(*[]pushNodeState); ok {
		s.nodes = (*spare)[:0]
	}
	header, nodes, user, err := readPushPull(r, s.nodes)
	s.join, s.nodes, s.user = header.Join, nodes, user
	for i := range nodes {
		nodes[i].Port = m.config.knownPort(nodes[i].Port)
	}
	return s, err
}

// keepRecords is for how many nodes lists are used again.
const keepRecords = 16 << 10

// done gives the memory of a state back, user state excepted.
func (m *Memberlist) done(s *remoteState) {
	if s.nodes != nil && cap(s.nodes) <= keepRecords {
		clear(s.nodes)
		m.nodeLists.Put(&s.nodes)
	}
	if s.reader != nil {
		s.reader.release()
	}
}

var errTooManyPushPulls = errors.New("Too many pending push/pull requests")

// servePushPull answers a full exchange (P117): it reads everything, judges it,
// sends the own state with the join flag that it received (W56), and merges (W57).
// A refusal by a delegate is sent instead of the own state, so that the joiner
// learns of it (W89).
func (m *Memberlist) servePushPull(conn net.Conn, r *streamReader) error {
	remote, err := m.readState(r)
	defer m.done(&remote)
	if err != nil {
		return err
	}
	give, ok := m.streams.takePlace()
	if !ok {
		m.answerError(conn, errTooManyPushPulls.Error())
		return errTooManyPushPulls
	}
	defer give()
	local := m.takeLocalState()
	defer m.giveLocalState(local)
	refusal := m.admission.judge(m.life.ctx, &remote, local.records)
	_ = conn.SetDeadline(time.Now().Add(m.config.TCPTimeout))
	if rejected := (*RejectedError)(nil); errors.As(refusal, &rejected) {
		m.answerError(conn, rejectionPrefix+rejected.Error())
		return fmt.Errorf("push/pull refused: %w", refusal)
	}
	if err := m.sendState(conn, local, remote.join, false); err != nil {
		if errors.Is(err, ErrTooLarge) { // nothing was sent
			m.answerError(conn, err.Error())
		}
		return err
	}
	if refusal != nil {
		return fmt.Errorf("failed push/pull merge: %w", refusal)
	}
	m.merge(m.life.ctx, &remote)
	return nil
}

// localState is the own side of a push/pull, in memory that is used again.
type localState struct {
	records []nodeRecord
	msg     []byte
}

// takeLocalState reads the member table.
func (m *Memberlist) takeLocalState() *localState {
	local, _ := m.localStates.Get().(*localState)
	if local == nil {
		local = new(localState)
	}
	m.readTable(local)
	return local
}

func (m *Memberlist) giveLocalState(local *localState) {
	clear(local.records)
	if cap(local.records) <= keepRecords && cap(local.msg) <= keepStreamBuffer {
		m.localStates.Put(local)
	}
}

// readTable makes the records those of now.
func (m *Memberlist) readTable(local *localState) {
	m.locked.Lock()
	defer m.locked.Unlock()
	order := m.locked.core.table.order
	local.records = slices.Grow(local.records[:0], len(order))
	for _, r := range order {
		local.records = append(local.records, nodeRecord{node: r.node, incarnation: r.incarnation})
	}
}

// sendState writes the own side of a push/pull. State that no node would take is an
// error (W62).
func (m *Memberlist) sendState(conn net.Conn, local *localState, join, opener bool) error {
	var user []byte
	if m.config.Delegate != nil {
		user = m.config.Delegate.LocalState(join)
	}
	if len(user) > maxUserState {
		return newKindError(ErrTooLarge, "user state of %d bytes is over the limit of %d", len(user), maxUserState)
	}
	local.msg = m.appendLocalState(local.msg[:0], local.records, user, join)
	return m.writeStream(conn, local.msg, opener)
}

// appendLocalState encodes the own side of a push/pull (W51, W54, P118).
func (m *Memberlist) appendLocalState(dst []byte, records []nodeRecord, user []byte, join bool) []byte {
	const typicalRecord = 128
	dst = slices.Grow(dst, typicalRecord*(len(records)+1)+len(user))
	header := pushPullHeader{Nodes: len(records), UserStateLen: len(user), Join: join}
	dst = header.appendTo(dst)
	var counts [4]int
	for i := range records {
		counts[records[i].node.State]++
		dst = records[i].appendTo(dst)
	}
	dst = append(dst, user...)
	m.meter.reportInstances(counts)
	m.meter.setGauge(metricSizeLocal, len(dst))
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
func (m *Memberlist) merge(ctx context.Context, remote *remoteState) uint64 {
	eventSeq := m.step(func(c *core, now instant) {
		if remote.begun {
			c.mergeAnswer(now, remote.asked, remote.join, remote.nodes)
		} else {
			c.merge(now, remote.nodes)
		}
	})
	if len(remote.user) == 0 || m.config.Delegate == nil {
		return eventSeq
	}
	// The program hears of the nodes before it gets what they sent.
	m.awaitEventsBefore(ctx, eventSeq)
	m.config.Delegate.MergeRemoteState(remote.user, remote.join)
	return eventSeq
}

// dial opens a stream. It is in the set of streams; the caller removes it.
func (m *Memberlist) dial(ctx context.Context, to Address, timeout time.Duration) (net.Conn, error) {
	if m.config.RequireNodeNames && to.Name == "" {
		return nil, ErrNodeNameRequired
	}
	var conn net.Conn
	var err error
	if m.udp != nil {
		conn, err = m.udp.dial(ctx, to.Addr, timeout)
	} else {
		conn, err = m.dialApart(ctx, to, timeout)
	}
	switch {
	case err == nil && !m.streams.add(conn):
		return nil, ErrShutdown
	case err == nil:
		return conn, nil
	case err == ErrShutdown:
		return nil, err
	case ctx.Err() != nil:
		err = ctx.Err()
	}
	return nil, &UnreachableError{Addr: to.Addr, Err: err}
}

// dialApart dials on another goroutine, for a transport that cannot be interrupted
// is waited for no longer than ctx.
func (m *Memberlist) dialApart(ctx context.Context, to Address, timeout time.Duration) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	dialled := make(chan result)
	started := m.tasks.start(func() {
		conn, err := m.transport.DialAddressTimeout(to, timeout)
		select {
		case dialled <- result{conn, err}:
		case <-ctx.Done():
			if err == nil {
				_ = conn.Close()
			}
		}
	})
	if !started {
		return nil, ErrShutdown
	}
	select {
	case r := <-dialled:
		return keyable(r.conn), r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pushPull makes a full exchange with a node (P116). It returns the number of
// the last event that it caused.
func (m *Memberlist) pushPull(ctx context.Context, to Address, join bool) (eventSeq uint64, err error) {
	return m.exchange(ctx, to, join, nil)
}

// exchange is pushPull for a caller who looks at what the other side listed.
func (m *Memberlist) exchange(ctx context.Context, to Address, join bool, look func([]pushNodeState)) (eventSeq uint64, err error) {
	start := time.Now()
	conn, err := m.dial(ctx, to, m.config.TCPTimeout)
	if err != nil {
		return 0, err
	}
	defer m.streams.remove(conn)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	m.log.debugf("Initiating push/pull sync", logFields{node: to.Name, addr: to.Addr}, "Initiating push/pull sync with: %s %s", to.Name, LogConn(conn))
	m.meter.count(metricTCPConnect, 1)
	defer m.meter.measureSince(metricPushPull, start)

	m.extend(ctx, conn)
	local := m.takeLocalState()
	defer m.giveLocalState(local)
	// Who refuses a stream says why and closes it, perhaps before it has read all
	// of it. So there can be an answer even if not everything could be sent.
	unsent := m.sendState(conn, local, join, true)
	if unsent != nil && !closedByPeer(unsent) {
		return 0, unsent
	}
	m.extend(ctx, conn)
	remote, err := m.readAnswer(conn, to)
	defer m.done(&remote)
	if err = cmp.Or(err, unsent); err != nil {
		return 0, err
	}
	remote.join, remote.begun = join, true
	if look != nil {
		look(remote.nodes)
	} else if !join {
		remote.asked = to.Name // a member, at the address that the table has
	}
	m.readTable(local)
	if err := m.admission.judge(ctx, &remote, local.records); err != nil {
		return 0, err
	}
	return m.merge(ctx, &remote), nil
}

// closedByPeer reports whether a stream failed because the other side closed it.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// extend gives the exchange a fresh TCPTimeout, unless ctx has ended.
func (m *Memberlist) extend(ctx context.Context, conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(m.config.TCPTimeout))
	if ctx.Err() != nil {
		_ = conn.SetDeadline(time.Unix(1, 0))
	}
}

// readAnswer reads the other side's push/pull, or its refusal (W50).
func (m *Memberlist) readAnswer(conn net.Conn, from Address) (remoteState, error) {
	r, kind, err := m.wire.openReply(conn)
	if closedByPeer(err) {
		// W41, W48: that is all there is to see of it from here.
		return remoteState{}, newKindError(ErrLabelMismatch, "no answer, which can mean that the labels differ: %w", err)
	}
	if err != nil {
		return remoteState{}, err
	}
	m.noteRemoteSize(r, conn)
	switch kind {
	case errorMsg:
		var reply errorReply
		if err := reply.decodeFrom(r); err != nil {
			return remoteState{}, err
		}
		return remoteState{}, &RemoteError{Addr: from.Addr, Message: reply.Error.own()}
	case pushPullMsg:
		return m.readState(r)
	}
	return remoteState{}, newKindError(ErrMalformed, "received invalid msgType (%d), expected pushPullMsg (%d) %s", kind, pushPullMsg, LogConn(conn))
}

// runStreams starts the exchanges that the core wants.
func (m *Memberlist) runStreams(tasks []streamTask) {
	var partners []*Node
	for _, t := range tasks {
		switch {
		case t.kind == streamProbe:
			m.tasks.start(func() { m.probeByStream(t) })
		case t.kind == streamSeeds:
			m.tasks.start(m.rejoin)
		case t.kind == streamLeave:
			m.tasks.start(func() { m.departOnStream(t) })
		case t.kind == streamIdentify:
			m.tasks.start(func() { m.identify(t) })
		case t.kind == streamVisit:
			m.tasks.start(func() { m.syncWith(t.node, levelDebug) })
		case t.node == nil:
			m.tasks.start(func() { m.syncRound(m.selectNodes(m.config.PushPullNodes, (*core).syncTargets)) })
		default:
			partners = append(partners, t.node)
		}
	}
	if len(partners) > 0 {
		m.tasks.start(func() { m.syncRound(partners) })
	}
}

// syncRound makes the periodic full exchanges, one after the other (P154).
func (m *Memberlist) syncRound(nodes []*Node) {
	defer m.step(func(c *core, _ instant) { c.gossip.syncing = false })
	for _, n := range nodes {
		m.syncWith(n, levelError)
	}
}

// syncWith makes a full exchange that nobody waits for: failures are logged.
func (m *Memberlist) syncWith(n *Node, level logLevel) {
	asked := m.now()
	_, err := m.pushPull(m.life.ctx, n.FullAddress(), false)
	if err == nil {
		m.step(func(c *core, now instant) { c.streamAnswerReceived(now, n, asked, true) })
		return
	}
	if !m.life.down.Load() {
		m.log.log(level, "Push/pull failed", logFields{node: n.Name, addr: n.Address(), err: err},
			"Push/Pull with %s failed: %v", n.Name, err)
	}
}

// identify makes a full exchange with a node, and tells the core which address that
// node gives itself.
func (m *Memberlist) identify(t streamTask) {
	ctx, cancel := context.WithTimeout(m.life.ctx, t.timeout)
	defer cancel()
	var own netip.AddrPort
	_, err := m.exchange(ctx, t.node.FullAddress(), false, func(nodes []pushNodeState) {
		for i := range nodes {
			if nodes[i].Name == borrow(t.node.Name) {
				own = addrPortOf(nodes[i].Addr, nodes[i].Port)
			}
		}
	})
	if err != nil && !m.life.down.Load() {
		m.log.debugf("Asking a node for its address failed", logFields{node: t.node.Name, addr: t.node.Address(), err: err},
			"Push/Pull with %s failed: %v", t.node.Name, err)
	}
	m.step(func(c *core, now instant) { c.identified(now, t.node, own) })
}

// probeByStream tries the target of a probe on a stream (P55). Not being able to
// connect is no error; it just does not count as contact.
func (m *Memberlist) probeByStream(t streamTask) {
	if disabled := m.config.DisableTcpPingsForNode; disabled != nil && disabled(t.node.Name) {
		m.step(func(c *core, _ instant) { c.streamUnanswered(t.seq) })
		return
	}
	ctx, cancel := context.WithTimeout(m.life.ctx, t.timeout)
	defer cancel()
	asked, err := m.streamPing(ctx, t)
	if err != nil {
		m.logStreamPing(t, err)
		return
	}
	m.step(func(c *core, now instant) {
		c.streamAnswerReceived(now, t.node, asked, false)
		c.streamAnswered(now, t.seq)
	})
}

// logStreamPing tells why a stream ping failed. That of a probe round is an error
// (P150); the others only repeat what it said.
func (m *Memberlist) logStreamPing(t streamTask, err error) {
	if unreachable := (*UnreachableError)(nil); errors.As(err, &unreachable) || m.life.down.Load() {
		return
	}
	level := levelError
	if t.quiet {
		level = levelDebug
	}
	m.log.log(level, "Failed fallback TCP ping", logFields{node: t.node.Name, addr: t.node.Address(), err: err},
		"Failed fallback TCP ping: %v", err)
}

// streamPing pings a node on a stream. It returns when the ping was written, or a
// moment before.
func (m *Memberlist) streamPing(ctx context.Context, t streamTask) (asked instant, err error) {
	conn, err := m.dial(ctx, t.node.FullAddress(), t.timeout)
	if err != nil {
		return 0, err
	}
	defer m.streams.remove(conn)
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	me := m.self.Load()
	asked = m.now()
	p := ping{SeqNo: t.seq, Node: borrow(t.node.Name), SourceAddr: me.Addr, SourcePort: me.Port, SourceNode: borrow(me.Name)}
	if err := m.writeStream(conn, p.appendTo(nil), true); err != nil {
		return 0, err
	}
	r, kind, err := m.wire.openReply(conn)
	if err != nil {
		return 0, err
	}
	if kind != ackMsg {
		return 0, newKindError(ErrMalformed, "unexpected msgType (%d) from ping %s", kind, LogConn(conn))
	}
	var a ack
	if err := a.decodeFrom(r); err != nil {
		return 0, err
	}
	if a.SeqNo != t.seq {
		return 0, newKindError(ErrMalformed, "sequence number from ack (%d) doesn't match ping (%d)", a.SeqNo, t.seq)
	}
	return asked, nil
}
