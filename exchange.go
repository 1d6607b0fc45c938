package memberlist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
)

// take serves a stream that another node opened, on a goroutine of its own.
func (x *exchanges) take(conn net.Conn) {
	conn = keyable(conn)
	serve := x.serve
	if !x.set.admit(conn) {
		x.drops.stream(conn)
		serve = x.turnAway
	}
	c := x.accepted(conn)
	if !x.tasks.start(func() { serve(c) }) {
		c.close()
	}
}

// turnAway tells somebody whose stream is one too many so, if that is quickly done.
// What it sends meanwhile is read: to close a stream with something unread would
// cancel the answer (P199, W89).
func (x *exchanges) turnAway(c *session) {
	defer c.close()
	if x.set.turnedAway.Add(1) <= maxTurnedAway {
		c.refuse("too many open streams", pooledChunk, turnAwayTime)
	}
	x.set.turnedAway.Add(-1)
}

// serve handles a stream that another node opened: one message, perhaps
// one answer (W45). Messages of a kind that opens no stream are not answered (W47).
func (x *exchanges) serve(c *session) {
	defer c.close()
	x.meter.count(metricTCPAccept, 1)
	if x.log.enabled(levelDebug) {
		x.log.debugf("Stream connection", logFields{addr: addrText(c.Conn)}, "Stream connection %s", LogConn(c.Conn))
	}
	r, kind, err := c.readOpening()
	if err != nil {
		c.account.close()
		x.refuse(c, err)
		return
	}
	c.noteRemoteSize(r)
	switch kind {
	case pingMsg:
		err = x.servePing(c, r)
	case userMsg:
		err = x.serveUserMessage(c, r)
	case pushPullMsg:
		err = x.servePushPull(c, r)
	default:
		err = fmt.Errorf("received invalid msgType (%d)", kind)
	}
	if err != nil && !x.life.down.Load() {
		x.log.errorf("Stream failed", logFields{addr: addrText(c.Conn), err: err, more: []logAttr{{"kind", kind.String()}}},
			"Stream %s: %v %s", kind, err, LogConn(c.Conn))
	}
}

// refuse tells the other side why its stream could not be read, where W48
// wants that, and if there was no room for it.
func (x *exchanges) refuse(c *session, err error) {
	if errors.Is(err, io.EOF) || x.life.down.Load() {
		return
	}
	x.log.errorf("Failed to receive", logFields{addr: addrText(c.Conn), err: err}, "failed to receive: %v %s", err, LogConn(c.Conn))
	if answersWithError(err) || errors.Is(err, errNoRoom) {
		c.refuse(err.Error(), maxFrame, x.firstByteTimeout())
	}
}

// serveUserMessage delivers a user message (W58); an empty one is not delivered. The
// stream is closed before: there is no answer, and slow user code shall not make
// streams scarce. It is closed only when there is room for the message beside those
// that are being delivered.
func (x *exchanges) serveUserMessage(c *session, r *streamReader) error {
	msg, err := readUserMessage(r)
	if err != nil {
		return err
	}
	delivery := x.deliveries.account(x.life.ctx, c.account.source, c.account.until)
	defer delivery.close()
	if err := delivery.charge(max(len(msg), deliveryCost)); err != nil {
		x.meter.countDropped(userMsg.String(), 1)
		return err
	}
	c.close()
	if len(msg) > 0 && x.config.Delegate != nil {
		x.config.Delegate.NotifyMsg(msg)
	}
	return nil
}

// sendUserMessage sends a user message on a stream of its own.
func (x *exchanges) sendUserMessage(ctx context.Context, to Address, msg []byte) error {
	c, err := x.open(ctx, to, x.config.TCPTimeout)
	if err != nil {
		return err
	}
	defer c.close()
	return c.writeUserMessage(msg)
}
