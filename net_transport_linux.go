package memberlist

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams one system call reads or writes at most.
const batchSize = 16

// batchConn is what ipv4.PacketConn and ipv6.PacketConn have in common.
type batchConn interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
	WriteBatch(ms []ipv4.Message, flags int) (int, error)
}

// batchIO reads and writes many datagrams per system call (recvmmsg, sendmmsg).
// It borrows read buffers only while there is something to read, so an idle
// socket costs no memory for them.
type batchIO struct {
	conn batchConn
	udp  *net.UDPConn
	raw  syscall.RawConn

	// For the goroutine that receives.
	readable func(fd uintptr) bool // b.checkReadable, bound once
	woken    bool
}

// newDatagramIO returns the best datagramIO of the platform.
func newDatagramIO(conn *net.UDPConn, isIPv6 bool) (datagramIO, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	b := &batchIO{udp: conn, raw: raw}
	b.readable = b.checkReadable
	if isIPv6 {
		b.conn = ipv6.NewPacketConn(conn)
	} else {
		b.conn = ipv4.NewPacketConn(conn)
	}
	return b, nil
}

func (b *batchIO) receive(handle func([]datagram)) error {
	if err := b.waitReadable(); err != nil {
		return err
	}
	batch := readBatches.Get().(*readBatch)
	defer readBatches.Put(batch)
	for {
		n, err := b.conn.ReadBatch(batch.messages[:], unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return err
		}
		handle(batch.received(n, time.Now()))
		if n < len(batch.messages) {
			return nil
		}
	}
}

// waitReadable returns when the socket has something to read or has failed.
func (b *batchIO) waitReadable() error {
	b.woken = false
	return b.raw.Read(b.readable)
}

// checkReadable is called until it reports true: at once, when something may have
// come before the wait began, and again after each wake-up.
func (b *batchIO) checkReadable(fd uintptr) bool {
	if b.woken {
		return true
	}
	b.woken = true
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds[:], 0)
	return n > 0 || err != nil
}

func (b *batchIO) send(bufs [][]byte, to []netip.AddrPort) error {
	if len(bufs) == 1 {
		_, err := b.udp.WriteToUDPAddrPort(bufs[0], unmapAddrPort(to[0]))
		return err
	}
	batch := writeBatches.Get().(*writeBatch)
	defer writeBatches.Put(batch)
	var failed error
	for len(bufs) > 0 {
		n := min(len(bufs), batchSize)
		if err := b.sendAll(batch.prepare(bufs[:n], to[:n])); err != nil && failed == nil {
			failed = err
		}
		bufs, to = bufs[n:], to[n:]
	}
	batch.forget()
	return failed
}

// sendAll sends every message, and steps over those that the system refuses.
func (b *batchIO) sendAll(messages []ipv4.Message) error {
	var failed error
	for len(messages) > 0 {
		n, err := b.conn.WriteBatch(messages, 0)
		if err != nil {
			if failed == nil {
				failed = err
			}
			n = 1 // the error is that of the first message
		}
		messages = messages[n:]
	}
	return failed
}

// readBatch is what one call of recvmmsg fills.
type readBatch struct {
	messages  [batchSize]ipv4.Message
	datagrams [batchSize]datagram
}

var readBatches = sync.Pool{New: newReadBatch}

func newReadBatch() any {
	batch := new(readBatch)
	for i := range batch.messages {
		batch.messages[i].Buffers = [][]byte{make([]byte, maxDatagram)}
	}
	return batch
}

// received returns the first n messages.
func (batch *readBatch) received(n int, now time.Time) []datagram {
	for i, m := range batch.messages[:n] {
		batch.datagrams[i] = datagram{
			buf:  m.Buffers[0][:m.N],
			from: addrPortFrom(m.Addr),
			at:   now,
		}
	}
	return batch.datagrams[:n]
}

// writeBatch is what one call of sendmmsg takes, with room for the addresses.
type writeBatch struct {
	messages [batchSize]ipv4.Message
	buffers  [batchSize][1][]byte
	addrs    [batchSize]net.UDPAddr
	ips      [batchSize][16]byte
}

var writeBatches = sync.Pool{New: newWriteBatch}

func newWriteBatch() any {
	batch := new(writeBatch)
	for i := range batch.messages {
		batch.messages[i].Addr = &batch.addrs[i]
		batch.messages[i].Buffers = batch.buffers[i][:]
	}
	return batch
}

// prepare fills in at most batchSize messages.
func (batch *writeBatch) prepare(bufs [][]byte, to []netip.AddrPort) []ipv4.Message {
	for i, buf := range bufs {
		addr := to[i].Addr()
		batch.buffers[i][0] = buf
		batch.addrs[i].IP = nil // which the system refuses, as it should an invalid address
		if addr.IsValid() {
			batch.ips[i] = addr.As16()
			batch.addrs[i].IP = batch.ips[i][:]
		}
		batch.addrs[i].Port = int(to[i].Port())
		batch.addrs[i].Zone = addr.Zone()
	}
	return batch.messages[:len(bufs)]
}

// forget lets go of what was sent.
func (batch *writeBatch) forget() {
	batch.buffers = [batchSize][1][]byte{}
}

// forceBuffers enlarges the buffers of a socket beyond net.core.rmem_max and
// net.core.wmem_max, which is granted to processes with CAP_NET_ADMIN. Without
// it the buffers stay as they are.
func forceBuffers(conn *net.UDPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer)
	})
}
