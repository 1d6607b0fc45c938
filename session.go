package memberlist

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// sessions opens streams and takes in those that others open.
type sessions struct {
	services
	config    *Config
	wire      *wire
	transport NodeAwareTransport
	direct    directTransport // the transport, if it is one; nil otherwise
	set       streamSet

	memory       *memoryBudget // of streams
	deliveries   *memoryBudget // of user messages that came on streams
	userStateLen atomic.Int64  // of the last LocalState
}

// session is an open stream. It ends with close, or when Shutdown closes all streams.
type session struct {
	net.Conn
	of      *sessions
	unwatch func() bool // ends the watch over the context; nil if there is none
	account *memoryAccount
}

// open opens a stream. When ctx ends, reading and writing fail.
func (s *sessions) open(ctx context.Context, to Address, timeout time.Duration) (*session, error) {
	conn, err := s.dial(ctx, to, timeout)
	if err != nil {
		return nil, err
	}
	c := &session{Conn: conn, of: s}
	c.account = s.memory.account(ctx, streamSource{}, time.Now().Add(timeout/2))
	if ctx != s.life.ctx { // at Shutdown the stream is closed anyway
		c.unwatch = context.AfterFunc(ctx, c.interrupt)
	}
	return c, nil
}

// accepted is the session of a stream that another node opened. It is in the set.
func (s *sessions) accepted(conn net.Conn) *session {
	account := s.memory.account(s.life.ctx, sourceOf(conn), time.Now().Add(s.config.TCPTimeout/2))
	return &session{Conn: conn, of: s, account: account}
}

// close closes the stream, and gives back the memory that was charged to it. It may be
// closed already.
func (c *session) close() {
	c.account.close()
	if c.unwatch != nil {
		c.unwatch()
	}
	c.of.set.remove(c.Conn)
}

// interrupt makes reading and writing fail, now and later.
func (c *session) interrupt() { _ = c.SetDeadline(time.Unix(1, 0)) }

// extend gives the session a fresh TCPTimeout, unless ctx has ended.
func (c *session) extend(ctx context.Context) {
	now := time.Now()
	c.account.extend(now.Add(c.of.config.TCPTimeout / 2))
	_ = c.SetDeadline(now.Add(c.of.config.TCPTimeout))
	if ctx.Err() != nil {
		c.interrupt()
	}
}

// firstByteTimeout is how long a stream may stay without a byte. Nodes write at once
// after connecting, unless their LocalState takes long, so in a crowd it is less (P199).
func (s *sessions) firstByteTimeout() time.Duration {
	if s.set.crowded() {
		return s.config.TCPTimeout / 4
	}
	return s.config.TCPTimeout
}

// readOpening reads the beginning of a stream that another node opened. Who says
// nothing at all has less time than one who has begun.
func (c *session) readOpening() (*streamReader, messageType, error) {
	start := time.Now()
	_ = c.SetDeadline(start.Add(c.of.firstByteTimeout()))
	r := c.newReader()
	if _, err := r.Peek(1); err != nil {
		return nil, 0, err
	}
	_ = c.SetDeadline(start.Add(c.of.config.TCPTimeout))
	kind, err := c.of.wire.openInboundFrom(r)
	return r, kind, err
}

// readReply reads the beginning of the answer to what was sent.
func (c *session) readReply() (*streamReader, messageType, error) {
	r := c.newReader()
	kind, err := c.of.wire.openContent(r)
	return r, kind, err
}

func (c *session) newReader() *streamReader {
	r := c.of.wire.newReader(c.Conn)
	r.account = c.account
	return r
}

// write sends a message; opener says that this side opened the stream.
func (c *session) write(msg []byte, opener bool) error {
	sent, err := c.of.wire.writeStream(c.Conn, msg, opener)
	c.of.meter.count(metricTCPSent, sent)
	return err
}

// writeUserMessage sends a user message on a stream that this side opened.
func (c *session) writeUserMessage(msg []byte) error {
	sent, err := c.of.wire.writeUserMessage(c.Conn, msg)
	c.of.meter.count(metricTCPSent, sent)
	return err
}

// answerError tells the other side why its stream is of no use.
func (c *session) answerError(text string) {
	reply := errorReply{Error: borrow(text)}
	if err := c.write(reply.appendTo(nil), false); err != nil && !c.of.life.down.Load() {
		c.of.log.errorf("Failed to send an error", logFields{addr: addrText(c.Conn), err: err}, "Failed to send error: %v %s", err, LogConn(c.Conn))
	}
}

// noteRemoteSize reports the size of an encrypted frame, and warns when it
// comes near the limit (W62).
func (c *session) noteRemoteSize(r *streamReader) {
	if r.remoteSize == 0 {
		return
	}
	c.of.meter.sample(metricSizeRemote, r.remoteSize)
	if r.remoteSize > maxFrame*60/100 {
		c.of.log.warnf("Remote node state is large", logFields{addr: addrText(c.Conn), more: []logAttr{{"bytes", r.remoteSize}}},
			"Remote node state is %d bytes, more than 60%% of the limit of %d %s",
			r.remoteSize, maxFrame, LogConn(c.Conn))
	}
}

// refuse tells the other side why its stream is of no use, before the stream is closed.
// Up to that many bytes of what it sends meanwhile are read: it may read the answer only
// when it has sent everything, and to close a stream with something unread would cancel
// the answer.
func (c *session) refuse(text string, most int, timeout time.Duration) {
	_ = c.SetDeadline(time.Now().Add(timeout))
	discarded := make(chan struct{})
	reading := c.of.tasks.start(func() {
		defer close(discarded)
		discard(c.Conn, most)
	})
	c.answerError(text)
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && reading {
		_ = half.CloseWrite()
		<-discarded
	}
}

// discard reads up to that many bytes.
func discard(conn net.Conn, most int) {
	var rest [firstChunk]byte
	for most > 0 {
		n, err := conn.Read(rest[:])
		if err != nil {
			return
		}
		most -= n
	}
}

// canBeTold reports whether the other side can be told why its push/pull could not be
// read: not if the stream has ended or failed. v0.7.0 takes an error for an answer at
// any time, though it sends none here.
func (r *streamReader) canBeTold(err error) bool {
	if r.conn != nil && errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	return errors.Is(err, ErrTooLarge) || errors.Is(err, ErrMalformed) || errors.Is(err, errNoRoom)
}

// closedByPeer reports whether a stream failed because the other side closed it.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// dial opens a stream. It is in the set of streams; the caller removes it.
func (s *sessions) dial(ctx context.Context, to Address, timeout time.Duration) (net.Conn, error) {
	if s.config.RequireNodeNames && to.Name == "" {
		return nil, ErrNodeNameRequired
	}
	var conn net.Conn
	var err error
	if s.direct != nil {
		conn, err = s.direct.dial(ctx, to.Addr, timeout)
	} else {
		conn, err = s.dialApart(ctx, to, timeout)
	}
	switch {
	case err == nil && !s.set.add(conn):
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

// dialApart dials on another goroutine, so that a transport that cannot be interrupted
// is waited for no longer than until ctx ends.
func (s *sessions) dialApart(ctx context.Context, to Address, timeout time.Duration) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	dialled := make(chan result)
	started := s.tasks.start(func() {
		conn, err := s.transport.DialAddressTimeout(to, timeout)
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
