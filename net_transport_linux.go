package memberlist

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many datagrams one system call reads or writes at most.
	batchSize = 16

	// burst is how many datagrams have to come one after the other before the
	// next ones are read in batches, which takes a megabyte of buffers.
	burst = 2
)

// batchIO reads and writes many datagrams per system call (recvmmsg, sendmmsg):
// under load a datagram costs a third of what it costs plainIO, and a single one
// costs the same. It makes the calls itself, since ReadBatch of golang.org/x/net
// allocates twice for every datagram and wants its buffers before it waits. Here
// they are borrowed only while there is something to read, so an idle socket
// costs no memory for them.
type batchIO struct {
	plain  plainIO
	raw    syscall.RawConn
	family uint16 // of the socket

	// For the one goroutine that receives.
	tryRead  func(fd uintptr) bool // b.readNow, bound once
	batch    *readBatch            // borrowed by readNow if it read something
	pool     *sync.Pool            // where batch belongs
	n        int
	errno    syscall.Errno
	streak   int // calls since there was nothing to read
	unbroken int // datagrams since others had their turn
}

// newDatagramIO returns the best datagramIO of the platform.
func newDatagramIO(conn *net.UDPConn, ipv6 bool) (datagramIO, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	b := &batchIO{plain: plainIO{conn: conn}, raw: raw, family: unix.AF_INET}
	if ipv6 {
		b.family = unix.AF_INET6
	}
	b.tryRead = b.readNow
	return b, nil
}

func (b *batchIO) receive(handle func([]datagram)) error {
	if err := b.raw.Read(b.tryRead); err != nil {
		return err
	}
	batch := b.batch
	b.batch = nil
	defer b.pool.Put(batch)
	if b.errno != 0 {
		return os.NewSyscallError("recvmmsg", b.errno)
	}
	handle(batch.received(b.n, time.Now()))
	if b.unbroken += b.n; b.unbroken >= batchSize {
		// This goroutine may not wait for long: let those run who were given the
		// messages, before their queues are full. Under a flood that takes the loss
		// from a tenth or more to next to nothing.
		b.unbroken = 0
		runtime.Gosched()
	}
	return nil
}

// readNow reads what has arrived. It reports false if nothing has; it is called
// again when there may be something.
func (b *batchIO) readNow(fd uintptr) bool {
	b.pool = &singleReads
	if b.streak >= burst {
		b.pool = &batchReads
	}
	batch := b.pool.Get().(*readBatch)
	batch.prepare()
	b.n, b.errno = callBatch(unix.SYS_RECVMMSG, fd, batch.messages)
	if b.errno == unix.EAGAIN {
		b.streak, b.unbroken = 0, 0
		b.pool.Put(batch)
		return false
	}
	b.streak++
	b.batch = batch
	return true
}

func (b *batchIO) send(batch []outDatagram) {
	if len(batch) == 1 {
		b.plain.send(batch)
		return
	}
	w := writeBatches.Get().(*writeBatch)
	defer w.giveBack()
	for len(batch) > 0 {
		n := w.prepare(batch, b.family)
		if n > 0 {
			w.send(b.raw, batch[:n])
		} else {
			n = 1
			b.plain.send(batch[:n]) // an address that prepare does not take
		}
		batch = batch[n:]
	}
}

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2), which golang.org/x/sys
// does not have. Go pads it as C does.
type mmsghdr struct {
	header unix.Msghdr
	length uint32 // bytes received or sent
}

// callBatch calls recvmmsg or sendmmsg on a non-blocking socket. It returns how
// many messages were received or sent; the error is that of the first message.
func callBatch(trap, fd uintptr, messages []mmsghdr) (int, syscall.Errno) {
	for {
		n, _, errno := unix.Syscall6(trap, fd, uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		default:
			return 0, errno
		}
	}
}

// readBatch is what one call of recvmmsg fills.
type readBatch struct {
	messages  []mmsghdr
	vectors   []unix.Iovec
	senders   []unix.RawSockaddrInet6 // or RawSockaddrInet4, which is smaller
	buffers   [][readBufferSize]byte
	datagrams []datagram
}

// Buffers for a single datagram and for batchSize of them.
var (
	singleReads = sync.Pool{New: func() any { return newReadBatch(1) }}
	batchReads  = sync.Pool{New: func() any { return newReadBatch(batchSize) }}
)

func newReadBatch(size int) *readBatch {
	batch := &readBatch{
		messages:  make([]mmsghdr, size),
		vectors:   make([]unix.Iovec, size),
		senders:   make([]unix.RawSockaddrInet6, size),
		buffers:   make([][readBufferSize]byte, size),
		datagrams: make([]datagram, size),
	}
	for i := range batch.messages {
		batch.vectors[i].Base = &batch.buffers[i][0]
		batch.vectors[i].SetLen(readBufferSize)
		header := &batch.messages[i].header
		header.Name = (*byte)(unsafe.Pointer(&batch.senders[i]))
		header.Iov = &batch.vectors[i]
		header.SetIovlen(1)
	}
	return batch
}

// prepare restores what the last call overwrote.
func (batch *readBatch) prepare() {
	for i := range batch.messages {
		batch.messages[i].header.Namelen = unix.SizeofSockaddrInet6
	}
}

// received returns the first n messages.
func (batch *readBatch) received(n int, now time.Time) []datagram {
	for i := range n {
		batch.datagrams[i] = datagram{
			buf:  batch.buffers[i][:batch.messages[i].length],
			from: senderOf(&batch.senders[i]),
			at:   now,
		}
	}
	return batch.datagrams[:n]
}

// senderOf reads a socket address of either family. The zone of a link-local
// address is the number of the interface.
func senderOf(sa *unix.RawSockaddrInet6) netip.AddrPort {
	if sa.Family == unix.AF_INET {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), networkOrder(sa4.Port))
	}
	addr := netip.AddrFrom16(sa.Addr).Unmap()
	if sa.Scope_id != 0 {
		addr = addr.WithZone(strconv.FormatUint(uint64(sa.Scope_id), 10))
	}
	return netip.AddrPortFrom(addr, networkOrder(sa.Port))
}

// networkOrder converts a port between the order of this machine and that of the
// network, in either direction.
func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// writeBatch is what calls of sendmmsg take. UDP segmentation offload would go
// further where many datagrams of one length go to one address, but what a node
// sends together goes to different ones.
type writeBatch struct {
	messages  [batchSize]mmsghdr
	vectors   [batchSize]unix.Iovec
	receivers [batchSize]unix.RawSockaddrInet6 // or RawSockaddrInet4, which is smaller

	// For the call in progress.
	trySend func(fd uintptr) bool // sendNow, bound once
	rest    []mmsghdr
	n       int
	errno   syscall.Errno
}

var writeBatches = sync.Pool{New: func() any {
	w := new(writeBatch)
	w.trySend = w.sendNow
	for i := range w.messages {
		header := &w.messages[i].header
		header.Name = (*byte)(unsafe.Pointer(&w.receivers[i]))
		header.Iov = &w.vectors[i]
		header.SetIovlen(1)
	}
	return w
}}

// prepare fills in as many messages as there is room for, and returns their
// number. It stops before an address that a socket of this family cannot take, or
// that has a zone.
func (w *writeBatch) prepare(batch []outDatagram, family uint16) int {
	n := 0
	for n < min(len(batch), batchSize) {
		length, ok := putReceiver(&w.receivers[n], batch[n].to, family)
		if !ok {
			break
		}
		w.messages[n].header.Namelen = length
		w.vectors[n].Base = unsafe.SliceData(batch[n].buf)
		w.vectors[n].SetLen(len(batch[n].buf))
		n++
	}
	w.rest = w.messages[:n]
	return n
}

// putReceiver writes a socket address of the given family and returns its length.
func putReceiver(sa *unix.RawSockaddrInet6, to netip.AddrPort, family uint16) (length uint32, ok bool) {
	addr := to.Addr()
	if !addr.IsValid() || addr.Zone() != "" {
		return 0, false
	}
	if family == unix.AF_INET6 {
		// IPv4 addresses take their IPv6 form here.
		*sa = unix.RawSockaddrInet6{Family: family, Port: networkOrder(to.Port()), Addr: addr.As16()}
		return unix.SizeofSockaddrInet6, true
	}
	if addr = addr.Unmap(); !addr.Is4() {
		return 0, false
	}
	*(*unix.RawSockaddrInet4)(unsafe.Pointer(sa)) = unix.RawSockaddrInet4{Family: family, Port: networkOrder(to.Port()), Addr: addr.As4()}
	return unix.SizeofSockaddrInet4, true
}

// send sends the batch that was prepared, and steps over what the system refuses.
func (w *writeBatch) send(raw syscall.RawConn, batch []outDatagram) {
	for len(batch) > 0 {
		if err := raw.Write(w.trySend); err != nil { // closed
			for i := range batch {
				batch[i].err = err
			}
			return
		}
		if w.errno != 0 {
			batch[0].err = os.NewSyscallError("sendmmsg", w.errno)
			w.n = 1
		}
		batch, w.rest = batch[w.n:], w.rest[w.n:]
	}
}

// sendNow sends what there is room for in the socket's buffer. It reports false if
// there is none; it is called again when there may be.
func (w *writeBatch) sendNow(fd uintptr) bool {
	w.n, w.errno = callBatch(unix.SYS_SENDMMSG, fd, w.rest)
	return w.errno != unix.EAGAIN
}

// giveBack lets go of what was sent and returns the batch to its pool.
func (w *writeBatch) giveBack() {
	for i := range w.vectors {
		w.vectors[i].Base = nil
	}
	w.rest = nil
	writeBatches.Put(w)
}

// forceBuffers enlarges the buffers of a socket beyond net.core.rmem_max and
// net.core.wmem_max, which is granted to processes with CAP_NET_ADMIN, and reports
// whether it was. If not the buffers stay as they are.
func forceBuffers(conn *net.UDPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	refused := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
		if err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer)
		}
	})
	return refused == nil && err == nil
}
