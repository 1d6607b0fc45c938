package memberlist

import (
	"context"
	"errors"
)

// probe tries the target of a probe on a stream (P55). Not being able to
// connect is no error; it just does not count as contact.
func (x *exchanges) probe(t streamTask) {
	if disabled := x.config.DisableTcpPingsForNode; disabled != nil && disabled(t.node.Name) {
		x.engine.step(func(c *core, _ instant) { c.streamUnanswered(t.seq) })
		return
	}
	ctx, cancel := context.WithTimeout(x.life.ctx, t.timeout)
	defer cancel()
	asked, err := x.streamPing(ctx, t)
	if err != nil {
		x.logStreamPing(t, err)
		return
	}
	x.engine.step(func(c *core, now instant) {
		c.streamAnswerReceived(now, t.node, asked, false)
		if t.checkFor != nil {
			c.streamPeerAnswered(t.checkFor)
			return
		}
		c.streamAnswered(now, t.seq)
	})
}

// logStreamPing tells why a stream ping failed. That of a probe round is an error
// (P150); the others only repeat what it said.
func (x *exchanges) logStreamPing(t streamTask, err error) {
	if unreachable := (*UnreachableError)(nil); errors.As(err, &unreachable) || x.life.down.Load() {
		return
	}
	level := levelError
	if t.quiet {
		level = levelDebug
	}
	x.log.log(level, "Failed fallback TCP ping", logFields{node: t.node.Name, addr: t.node.Address(), err: err},
		"Failed fallback TCP ping: %v", err)
}

// streamPing pings a node on a stream. It returns when the ping was written, or a
// moment before.
func (x *exchanges) streamPing(ctx context.Context, t streamTask) (asked instant, err error) {
	c, err := x.open(ctx, t.node.FullAddress(), t.timeout)
	if err != nil {
		return 0, err
	}
	defer c.close()
	me := x.engine.self.Load()
	asked = x.engine.now()
	p := ping{SeqNo: t.seq, Node: borrow(t.node.Name), SourceAddr: me.Addr, SourcePort: me.Port, SourceNode: borrow(me.Name)}
	if err := c.write(p.appendTo(nil), true); err != nil {
		return 0, err
	}
	r, kind, err := c.readReply()
	if err != nil {
		return 0, err
	}
	if kind != ackMsg {
		return 0, newKindError(ErrMalformed, "unexpected msgType (%d) from ping %s", kind, LogConn(c.Conn))
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

// servePing answers a fallback ping (W59).
func (x *exchanges) servePing(c *session, r *streamReader) error {
	var p ping
	if err := p.decodeFrom(r); err != nil {
		return err
	}
	if !p.Node.empty() && !p.Node.is(x.config.Name) {
		x.log.warnf("Got a ping for another node", logFields{node: p.Node.own(), addr: addrText(c.Conn)},
			"Got ping for unexpected node '%s' %s", p.Node.own(), LogConn(c.Conn))
		return nil
	}
	reply := ack{SeqNo: p.SeqNo}
	return c.write(reply.appendTo(nil), false)
}
