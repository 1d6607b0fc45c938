package simnet

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// What streams are made of, as far as a failure detector notices it: a
// handshake whose first packet is repeated after a second, segments that are
// repeated when lost, in-order delivery, a window, deadlines, and resets.
const (
	segmentSize     = 1460
	windowSize      = 256 << 10
	handshakeRepeat = time.Second
	segmentRepeat   = 200 * time.Millisecond
	longestRepeat   = 60 * time.Second
	mostRepeats     = 12
)

var errNetworkDown = errors.New("simnet: the network is closed")

// stream is one end of a connection. Its state is guarded by net.mu.
type stream struct {
	net           *Network
	local, remote *Endpoint
	peer          *stream
	changed       *sync.Cond // on net.mu: something that a reader or writer waits for

	nextOut     int              // number of the next segment to send
	outstanding int              // bytes sent and not yet read at the other end
	nextIn      int              // number of the segment that has to come next
	early       map[int]*segment // arrived before their turn
	unread      []byte
	ended       bool // the other end has closed and all it sent is in unread
	err         error
	closed      bool

	readBy, writeBy           time.Time
	readTimer, writeTimer     *time.Timer
	readExpired, writeExpired bool
}

// segment is one piece of a stream under way; an empty one is the end.
type segment struct {
	to     *stream
	number int
	data   []byte
	tries  int
}

// Dial opens a stream to an address.
func (e *Endpoint) Dial(to string, timeout time.Duration) (net.Conn, error) {
	h := &handshake{from: e, to: to, result: make(chan dialResult, 1)}
	e.net.mu.Lock()
	e.net.schedule(e.net.Now(), h)
	e.net.mu.Unlock()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case r := <-h.result:
		if r.err != nil {
			return nil, e.dialError(to, r.err)
		}
		return r.conn, nil
	case <-timer.C:
	}
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	h.abandoned = true
	select {
	case r := <-h.result: // it came at the very last moment
		if r.err == nil {
			return r.conn, nil
		}
	default:
	}
	return nil, e.dialError(to, os.ErrDeadlineExceeded)
}

func (e *Endpoint) dialError(to string, cause error) error {
	opError := &net.OpError{Op: "dial", Net: "tcp", Source: e.tcp, Err: cause}
	if addr, err := net.ResolveTCPAddr("tcp", to); err == nil {
		opError.Addr = addr
	}
	return opError
}

// handshake is the opening of one stream.
type handshake struct {
	from      *Endpoint
	to        string
	tries     int
	arrived   bool // the request is there; the answer is under way
	result    chan dialResult
	abandoned bool
}

type dialResult struct {
	conn net.Conn
	err  error
}

func (h *handshake) fire(n *Network, now time.Duration) {
	peer := n.endpoints[h.to]
	switch {
	case h.abandoned:
	case h.from.closed:
		h.result <- dialResult{err: net.ErrClosed}
	case h.arrived && peer.closed:
		h.result <- dialResult{err: syscall.ECONNREFUSED}
	case h.arrived:
		h.complete(n, peer, now)
	case h.from.stalled:
		n.schedule(h.from.stalledUntil, h)
	case peer != nil && n.passes(h.from, peer, true) && n.passes(peer, h.from, true) && len(peer.accept)+len(peer.heldStreams) < acceptBacklog:
		h.arrived = true
		n.schedule(now+n.delay(h.from, peer)+n.delay(peer, h.from), h)
	default:
		h.tries++
		n.schedule(now+repeatAfter(handshakeRepeat, h.tries), h)
	}
}

// complete makes both ends, and hands one to each side.
func (h *handshake) complete(n *Network, peer *Endpoint, now time.Duration) {
	near := &stream{net: n, local: h.from, remote: peer, changed: sync.NewCond(&n.mu)}
	far := &stream{net: n, local: peer, remote: h.from, changed: sync.NewCond(&n.mu)}
	near.peer, far.peer = far, near
	n.streams[near], n.streams[far] = struct{}{}, struct{}{}
	h.from.traffic.Streams++
	h.result <- dialResult{conn: near}
	n.schedule(now+n.delay(h.from, peer), (*accepted)(far))
}

// accepted is the event in which a new stream reaches the listening side.
type accepted stream

func (a *accepted) fire(*Network, time.Duration) {
	s := (*stream)(a)
	if s.local.closed {
		s.abort()
		return
	}
	s.local.handOver(s)
}

// handOver queues an accepted stream for the process; net.mu is held.
func (e *Endpoint) handOver(conn net.Conn) {
	if e.stalled {
		e.heldStreams = append(e.heldStreams, conn)
		return
	}
	select {
	case e.accept <- conn:
	default:
		conn.(*stream).abort()
	}
}

// repeatAfter is how long after the given number of tries the next one comes.
func repeatAfter(first time.Duration, tries int) time.Duration {
	return min(first<<min(tries-1, 20), longestRepeat)
}

func (g *segment) fire(n *Network, now time.Duration) {
	from, to := g.to.peer.local, g.to.local
	switch {
	case g.to.closed || g.to.err != nil:
		g.to.peer.discard(g.to)
	case g.tries < 0:
		g.to.arrive(g)
	case from.closed || to.closed:
	case g.tries == 0 && from.stalled && from.stallMode == StallQueues:
		n.schedule(from.stalledUntil, g)
	case n.passes(from, to, true):
		g.tries = -1
		n.schedule(now+n.delay(from, to), g)
	case g.tries < mostRepeats:
		g.tries++
		n.schedule(now+repeatAfter(segmentRepeat, g.tries), g)
	default:
		g.to.peer.fail(syscall.ETIMEDOUT)
	}
}

// arrive takes a segment in, and those that have waited for it.
func (s *stream) arrive(g *segment) {
	if s.early == nil {
		s.early = make(map[int]*segment)
	}
	s.early[g.number] = g
	for next := s.early[s.nextIn]; next != nil; next = s.early[s.nextIn] {
		delete(s.early, s.nextIn)
		s.nextIn++
		s.unread = append(s.unread, next.data...)
		s.ended = s.ended || len(next.data) == 0
	}
	s.changed.Broadcast()
}

// discard is what happens to data for an end that is no longer there: the
// sender learns of it, unless it was the end of the stream anyway.
func (s *stream) discard(to *stream) {
	if !s.closed && to.closed && s.err == nil && !s.ended {
		s.fail(syscall.ECONNRESET)
	}
}

// fail makes every further call on the stream return err; net.mu is held.
func (s *stream) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	delete(s.net.streams, s)
	s.changed.Broadcast()
}

// abort ends the stream as the death of its process does; net.mu is held.
func (s *stream) abort() {
	s.fail(net.ErrClosed)
	s.closed = true
	if n := s.net; !n.closed && n.passes(s.local, s.remote, true) {
		n.schedule(n.Now()+n.delay(s.local, s.remote), (*reset)(s.peer))
	}
}

// reset is the event in which the other end's abort is noticed.
type reset stream

func (r *reset) fire(*Network, time.Duration) { (*stream)(r).fail(syscall.ECONNRESET) }

// Read implements net.Conn.
func (s *stream) Read(p []byte) (int, error) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, s.opError("read", net.ErrClosed)
		case s.readExpired:
			return 0, s.opError("read", os.ErrDeadlineExceeded)
		case s.local.stalled && !s.net.closed:
		case len(s.unread) > 0:
			read := copy(p, s.unread)
			s.unread = s.unread[read:]
			s.peer.outstanding -= read
			s.peer.changed.Broadcast()
			return read, nil
		case s.ended:
			return 0, io.EOF
		case s.err != nil:
			return 0, s.opError("read", s.err)
		case len(p) == 0:
			return 0, nil
		}
		s.changed.Wait()
	}
}

// Write implements net.Conn.
func (s *stream) Write(p []byte) (int, error) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	written := 0
	for {
		switch {
		case s.closed:
			return written, s.opError("write", net.ErrClosed)
		case s.err != nil:
			return written, s.opError("write", s.err)
		case s.writeExpired:
			return written, s.opError("write", os.ErrDeadlineExceeded)
		case written == len(p):
			return written, nil
		case s.local.stalled && s.local.stallMode == StallBlocks:
			s.changed.Wait()
		case s.outstanding >= windowSize:
			s.changed.Wait()
		default:
			size := min(len(p)-written, segmentSize)
			s.send(p[written : written+size])
			written += size
		}
	}
}

// send puts one segment on its way; net.mu is held.
func (s *stream) send(data []byte) {
	g := &segment{to: s.peer, number: s.nextOut, data: append([]byte(nil), data...)}
	s.nextOut++
	s.outstanding += len(data)
	s.local.traffic.StreamBytes += len(data)
	s.net.schedule(s.net.Now(), g)
}

// Close implements net.Conn. What was written is still delivered.
func (s *stream) Close() error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if s.closed {
		return s.opError("close", net.ErrClosed)
	}
	if s.err == nil {
		s.send(nil)
	}
	s.closed = true
	s.stopTimers()
	delete(s.net.streams, s)
	s.changed.Broadcast()
	return nil
}

func (s *stream) stopTimers() {
	for _, timer := range []*time.Timer{s.readTimer, s.writeTimer} {
		if timer != nil {
			timer.Stop()
		}
	}
}

func (s *stream) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.local.tcp, Addr: s.remote.tcp, Err: err}
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return s.local.tcp }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return s.remote.tcp }

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.setDeadline(t, &s.readBy, &s.readTimer, &s.readExpired)
	s.setDeadline(t, &s.writeBy, &s.writeTimer, &s.writeExpired)
	return nil
}

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.setDeadline(t, &s.readBy, &s.readTimer, &s.readExpired)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.setDeadline(t, &s.writeBy, &s.writeTimer, &s.writeExpired)
	return nil
}

func (s *stream) setDeadline(t time.Time, by *time.Time, timer **time.Timer, expired *bool) {
	*by = t
	if *timer != nil {
		(*timer).Stop()
		*timer = nil
	}
	*expired = !t.IsZero() && !time.Now().Before(t)
	if t.IsZero() || *expired || s.closed {
		s.changed.Broadcast()
		return
	}
	*timer = time.AfterFunc(time.Until(t), func() {
		s.net.mu.Lock()
		defer s.net.mu.Unlock()
		if t.Equal(*by) {
			*expired = true
			s.changed.Broadcast()
		}
	})
}
