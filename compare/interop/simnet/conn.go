package simnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// windowSize is how many bytes a writer may be ahead of its reader.
const windowSize = 256 << 10

// conn is one end of a stream: like a TCP socket it buffers, so that a writer
// need not wait for its reader, and what was written before Close still arrives.
type conn struct {
	in, out       *pipe
	local, remote net.Addr
}

func newConnPair(opener, acceptor net.Addr) (near, far *conn) {
	there, back := newPipe(), newPipe()
	near = &conn{in: back, out: there, local: opener, remote: acceptor}
	far = &conn{in: there, out: back, local: acceptor, remote: opener}
	return near, far
}

func (c *conn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *conn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *conn) LocalAddr() net.Addr         { return c.local }
func (c *conn) RemoteAddr() net.Addr        { return c.remote }

func (c *conn) Close() error {
	c.out.closeWriter()
	c.in.closeReader()
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	c.out.setWriteDeadline(t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setWriteDeadline(t)
	return nil
}

// pipe is one direction of a stream.
type pipe struct {
	mu         sync.Mutex
	changed    *sync.Cond
	buf        []byte
	noWriter   bool
	noReader   bool
	readUntil  deadline
	writeUntil deadline
}

// deadline wakes those who wait when it passes.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newPipe() *pipe {
	p := &pipe{}
	p.changed = sync.NewCond(&p.mu)
	return p
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.noReader:
			return 0, net.ErrClosed
		case p.readUntil.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p.buf) > 0:
			n := copy(b, p.buf)
			p.buf = p.buf[n:]
			p.changed.Broadcast()
			return n, nil
		case p.noWriter:
			return 0, io.EOF
		}
		p.changed.Wait()
	}
}

func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	written := 0
	for {
		switch {
		case p.noWriter:
			return written, net.ErrClosed
		case p.noReader:
			return written, syscall.EPIPE
		case p.writeUntil.passed():
			return written, os.ErrDeadlineExceeded
		case len(b) == written:
			return written, nil
		case len(p.buf) < windowSize:
			n := min(windowSize-len(p.buf), len(b)-written)
			p.buf = append(p.buf, b[written:written+n]...)
			written += n
			p.changed.Broadcast()
			continue
		}
		p.changed.Wait()
	}
}

func (p *pipe) closeWriter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noWriter = true
	p.writeUntil.stop()
	p.changed.Broadcast()
}

func (p *pipe) closeReader() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noReader = true
	p.readUntil.stop()
	p.changed.Broadcast()
}

func (p *pipe) setReadDeadline(t time.Time) { p.setDeadline(&p.readUntil, t) }

func (p *pipe) setWriteDeadline(t time.Time) { p.setDeadline(&p.writeUntil, t) }

func (p *pipe) setDeadline(d *deadline, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.stop()
	d.at = t
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), p.wake)
	}
	p.changed.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (p *pipe) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed.Broadcast()
}
