package memberlist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"unsafe"
)

// Limits of what is accepted on a stream (W62). Lengths below zero are refused
// like those that are too large.
const (
	maxFrame       = 20 << 20 // length of an encrypted frame
	maxUserState   = 20 << 20
	maxUserMessage = 20 << 20
	maxStateNodes  = 1 << 20
)

// Limits of our own: where the wire format sets none, a peer could otherwise make
// a node collect bytes until its time is up.
const (
	maxStreamValue     = 1 << 20   // one MessagePack map
	maxCompressedValue = 64 << 20  // the map around compressed data: at most 60 MiB for maxUnpacked
	maxStates          = 128 << 20 // all nodes of a push/pull
)

// frameHeadLen is the length of what stands before the box in a frame: the type
// byte and the length of the box (W36).
const frameHeadLen = 5

// streamBuffers holds memory for writing and reading streams.
var streamBuffers = sync.Pool{New: func() any { return new([]byte) }}

// keepStreamBuffer is the size up to which such memory is kept.
const keepStreamBuffer = 4 << 20

// writeStream writes msg to a stream, compressed and sealed as configured (W44).
// Only the side that opened the stream sends the label (W61), in the same write.
// sent is what was written of the message, without the label.
func (w *wire) writeStream(conn net.Conn, msg []byte, opener bool) (sent int, err error) {
	var label []byte
	if opener {
		label = w.header
	}
	keys := w.sealingKeys()
	if len(label) == 0 && len(keys) == 0 && !w.cfg.EnableCompression {
		return conn.Write(msg)
	}
	buf := streamBuffers.Get().(*[]byte)
	dressed := append((*buf)[:0], label...)
	if len(keys) == 0 {
		dressed = w.appendStreamContent(dressed, msg)
	} else if dressed, err = w.appendFrame(dressed, msg, keys[0]); err != nil {
		return 0, err
	}
	sent, err = conn.Write(dressed)
	keepForStreams(buf, dressed)
	return max(sent-len(label), 0), err
}

// keepForStreams puts memory into the pool, unless it is too large to be kept. What
// the pointer pointed to is lost.
func keepForStreams(buf *[]byte, memory []byte) {
	if cap(memory) <= keepStreamBuffer {
		*buf = memory[:0]
		streamBuffers.Put(buf)
	}
}

// appendStreamContent appends msg, compressed if so configured and if that is
// shorter. Nodes of v0.7.0 send the compressed form even if it is longer, and take
// either (W20, W21). What is longer than they accept out of compression goes as it is.
func (w *wire) appendStreamContent(dst, msg []byte) []byte {
	if w.cfg.EnableCompression && len(msg) <= maxUnpacked && promising(msg) {
		dst = slices.Grow(dst, compressedRoom+len(msg)/2)
		if packed, shorter := appendShorter(dst, msg); shorter {
			return packed
		}
	}
	return append(dst, msg...)
}

// appendFrame appends msg in an encrypted frame (W36). The head of the frame is
// authenticated with it, so the length has to be known before sealing. A frame that
// no node would take is an error (W62).
func (w *wire) appendFrame(dst, msg []byte, key sealingKey) ([]byte, error) {
	version := boxVersion(w.cfg.ProtocolVersion)
	head := len(dst)
	dst = slices.Grow(dst, frameHeadLen+boxOverhead+paddingBlock+len(msg))
	dst = append(dst, byte(encryptMsg), 0, 0, 0, 0)
	box := len(dst)
	dst, err := beginBox(dst, version, w.random)
	if err != nil {
		return nil, fmt.Errorf("no nonce: %w", err)
	}
	dst = w.appendStreamContent(dst, msg)
	n := boxLen(version, len(dst)-box-boxHeadLen)
	if n > maxFrame {
		return nil, newKindError(ErrTooLarge, "message of %d bytes takes an encrypted frame of %d, over the limit of %d", len(msg), n, maxFrame)
	}
	binary.BigEndian.PutUint32(dst[head+1:], uint32(n))
	return sealBox(dst, box, key, w.frameData(dst[head:box])), nil
}

// frameData is the additional data of a frame: its head and the label (W29).
func (w *wire) frameData(head []byte) []byte {
	return slices.Concat(head, w.labelBytes())
}

// unreadable is the reason why a stream could not be read as far as the type of
// its message, and that the other side is told (W48).
type unreadable struct{ error }

// Unwrap returns the reason.
func (u unreadable) Unwrap() error { return u.error }

// answersWithError reports whether an error of openInbound is to be answered with
// an error message: wrong encryption and bad compression are; a stream that ends, a
// wrong label and a failure of the connection are not (W48).
func answersWithError(err error) bool {
	var u unreadable
	return errors.As(err, &u)
}

// openInbound reads the beginning of a stream that another node opened: label
// (W41), encryption and compression (W46). It returns the type of the message and
// a reader for its body. If the stream ends in there, the error is io.EOF.
func (w *wire) openInbound(conn net.Conn) (*streamReader, messageType, error) {
	r := w.newReader(conn)
	kind, err := w.openInboundFrom(r)
	if err != nil {
		return nil, 0, err
	}
	return r, kind, nil
}

func (w *wire) newReader(conn io.Reader) *streamReader {
	return &streamReader{conn: conn, spent: w.spent}
}

// openInboundFrom is openInbound for a stream that a reader has begun to read.
func (w *wire) openInboundFrom(r *streamReader) (messageType, error) {
	label, err := readLabel(r)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if err := checkLabel(w.cfg, label); err != nil {
		return 0, err
	}
	return w.openContent(r)
}

// openReply reads the beginning of the answer on a stream that this node opened.
// An answer carries no label (W61), though the label is authenticated with it
// (W49): one that does has the type of a label header.
func (w *wire) openReply(conn net.Conn) (*streamReader, messageType, error) {
	r := w.newReader(conn)
	kind, err := w.openContent(r)
	if err != nil {
		return nil, 0, err
	}
	return r, kind, nil
}

// openContent removes encryption and compression and reads the type byte.
func (w *wire) openContent(r *streamReader) (messageType, error) {
	first, err := r.Peek(1)
	if err != nil {
		return 0, err
	}
	keys := w.cfg.Keyring.load()
	switch sealed := messageType(first[0]) == encryptMsg; {
	case sealed && len(keys) == 0:
		return 0, unreadable{ErrEncrypted}
	case sealed:
		if err := w.openFrame(r, keys); err != nil {
			return 0, err
		}
	case len(keys) > 0 && w.cfg.GossipVerifyIncoming:
		return 0, unreadable{ErrNotEncrypted}
	}
	kind, err := r.kind()
	if err != nil || kind != compressMsg {
		return kind, err
	}
	if err := r.expand(); err != nil {
		return 0, err
	}
	return r.kind()
}

// openFrame opens the frame that is next and lets r go on with its content (W36,
// W37).
func (w *wire) openFrame(r *streamReader, keys []sealingKey) error {
	head, err := r.Peek(frameHeadLen)
	if err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return unreadable{newKindError(ErrTooLarge, "remote node state is larger than limit (%d)", n)}
	}
	r.remoteSize = int(n)
	data := w.frameData(head)
	r.advance(frameHeadLen)
	box, err := r.take(int(n))
	if err != nil {
		return err
	}
	// With several keys the box must survive a wrong one, else it is opened in place.
	var dst []byte
	if len(keys) == 1 && len(box) >= boxHeadLen {
		dst = box[boxHeadLen:boxHeadLen]
	} else {
		if dst, err = r.newMemory(len(box)); err != nil {
			return err
		}
	}
	plain, _, err := w.openBox(dst, box, keys, 0, data)
	switch {
	case err != nil:
		return unreadable{err}
	case len(plain) == 0: // W81
		return unreadable{newKindError(ErrMalformed, "encrypted message is empty")}
	}
	if len(keys) > 1 {
		r.drop() // the box
		r.hold(plain, cap(dst))
	}
	r.continueWith(plain)
	return nil
}

// streamReader reads one message from a stream. It reads ahead, but not further
// than one Read of the connection happens to go: nothing follows the message
// (W45). What its methods return are views of its memory, which are valid until
// release. It takes more memory as bytes arrive, never because some were announced
// (W82), and charges it before.
type streamReader struct {
	conn io.Reader // nil: everything is in buf
	buf  []byte    // buf[at:] has been read from conn and not been consumed
	at   int
	done int      // bytes consumed so far
	held [][]byte // memory for release
	lent bool     // somebody has a view of it

	account *memoryAccount // nil: nothing is charged
	charged int            // for what is held
	entries int            // for that many entries of a push/pull a list was charged

	packed int // length of the compressed data, 0 if there was none

	remoteSize int          // length of the encrypted frame, 0 if there was none
	spent      func([]byte) // as in wire
}

// Sizes of a reader's memory. Most messages fit into the first chunk; what is
// larger is taken from the pool.
const (
	firstChunk  = 4 << 10
	pooledChunk = 64 << 10
	maxChunk    = 1 << 20
)

// emptyReads is how often in a row a connection may return nothing and no error.
const emptyReads = 100

func (r *streamReader) unread() []byte { return r.buf[r.at:] }

// advance consumes n bytes of what is unread.
func (r *streamReader) advance(n int) {
	r.at += n
	r.done += n
}

// fill reads at least one more byte. want is the number of unread bytes that the
// caller is going to need, 0 if it does not know.
func (r *streamReader) fill(want int) error {
	if r.conn == nil {
		return io.EOF
	}
	if len(r.buf) == cap(r.buf) {
		if err := r.grow(want); err != nil {
			return err
		}
	}
	for range emptyReads {
		n, err := r.conn.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf = r.buf[:len(r.buf)+n]
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// grow leaves the memory, which is full, to those who have views of it, if any, and
// goes on with a larger one.
func (r *streamReader) grow(want int) error {
	have := len(r.unread())
	full := len(r.held) > 0 && !r.lent
	size := firstChunk
	if cap(r.buf) > 0 {
		size = max(pooledChunk, min(2*cap(r.buf), maxChunk), 2*have)
	}
	if have < want {
		size = min(size, max(want, firstChunk))
	}
	larger, err := r.newMemory(size)
	if err != nil {
		return err
	}
	larger = append(larger, r.unread()...)
	if full {
		r.drop()
	}
	r.buf, r.at = larger, 0
	r.hold(larger, cap(larger))
	return nil
}

// newMemory is newStreamMemory for memory that is charged before it is allocated.
func (r *streamReader) newMemory(size int) ([]byte, error) {
	if err := r.account.charge(size); err != nil {
		return nil, err
	}
	memory := newStreamMemory(size)
	r.account.release(size - cap(memory)) // what is more comes from the pool
	return memory, nil
}

// hold keeps memory for release, which that many bytes were charged for.
func (r *streamReader) hold(memory []byte, charged int) {
	r.held = append(r.held, memory)
	r.charged += charged
}

// newStreamMemory returns room for that many bytes, from the pool if they are many.
func newStreamMemory(size int) []byte {
	if size < pooledChunk {
		return make([]byte, 0, size)
	}
	pooled := streamBuffers.Get().(*[]byte)
	if cap(*pooled) < size {
		return make([]byte, 0, size)
	}
	return (*pooled)[:0]
}

// release gives the memory back for others to use. No view of it may be used
// after that. Not to call it is no mistake: then the memory is simply not used
// again.
func (r *streamReader) release() {
	r.drop()
	*r = streamReader{remoteSize: r.remoteSize, account: r.account}
}

// drop gives back all memory, of which nobody has a view any more.
func (r *streamReader) drop() {
	for _, memory := range r.held {
		if r.spent != nil {
			r.spent(memory[:cap(memory)])
		}
		if cap(memory) >= pooledChunk {
			keepForStreams(new([]byte), memory)
		}
	}
	clear(r.held)
	r.held = r.held[:0]
	r.account.release(r.charged)
	r.charged = 0
}

// Peek returns the next n bytes without consuming them. If the stream ends before,
// the error is io.EOF.
func (r *streamReader) Peek(n int) ([]byte, error) {
	for len(r.unread()) < n {
		if err := r.fill(n); err != nil {
			return nil, err
		}
	}
	return r.unread()[:n:n], nil
}

// Discard consumes n bytes.
func (r *streamReader) Discard(n int) (int, error) {
	_, err := r.take(n)
	return n, err
}

// take consumes and returns n bytes.
func (r *streamReader) take(n int) ([]byte, error) {
	b, err := r.Peek(n)
	if err != nil {
		return nil, err
	}
	r.advance(n)
	return b, nil
}

// own consumes n bytes and returns them in memory of their own, which is the
// caller's. It stays charged to the account.
func (r *streamReader) own(n int) ([]byte, error) {
	if n <= max(maxChunk, len(r.unread())) {
		// A copy costs less than the garbage of memory that grows.
		b, err := r.take(n)
		if err == nil {
			err = r.account.charge(n)
		}
		if err != nil {
			return nil, err
		}
		return slices.Clone(b), nil
	}
	taken := r.unread()
	taken = taken[:min(n, len(taken))]
	b, err := r.account.grow(nil, min(n, max(len(taken), pooledChunk)))
	if err != nil {
		return nil, err
	}
	b = append(b, taken...)
	r.advance(len(taken))
	for len(b) < n {
		if r.conn == nil {
			return nil, io.EOF
		}
		if len(b) == cap(b) {
			if b, err = r.account.grow(b, min(n, 2*len(b))); err != nil {
				return nil, err
			}
		}
		read, err := io.ReadAtLeast(r.conn, b[len(b):min(n, cap(b))], 1)
		b = b[:len(b)+read]
		r.done += read
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// kind consumes the type byte of a message.
func (r *streamReader) kind() (messageType, error) {
	b, err := r.take(1)
	if err != nil {
		return 0, err
	}
	return messageType(b[0]), nil
}

// value consumes and returns one MessagePack value of at most that many bytes, and
// not a byte more (W7).
func (r *streamReader) value(most int) ([]byte, error) {
	var e extent
	for {
		complete, err := e.measure(r.unread())
		if err != nil {
			return nil, err
		}
		if e.size > most || !complete && len(r.unread()) > most {
			return nil, newKindError(ErrTooLarge, "a value of more than %d bytes is not accepted", most)
		}
		if complete {
			return r.take(e.size)
		}
		if err := r.fill(0); err != nil {
			return nil, err
		}
	}
}

// continueWith makes the reader go on with b alone: the connection has nothing
// more to give.
func (r *streamReader) continueWith(b []byte) {
	r.conn, r.buf, r.at = nil, b, 0
}

// expand reads the compressed message that is next, behind its type byte, and
// goes on with its content.
func (r *streamReader) expand() error {
	value, err := r.value(maxCompressedValue)
	switch {
	case errors.Is(err, ErrMalformed), errors.Is(err, ErrTooLarge):
		return unreadable{err}
	case err != nil:
		return err
	}
	var m compressed
	if _, err := m.decode(value); err != nil {
		return unreadable{err}
	}
	content, err := r.newMemory(2 * len(m.Buf))
	if err != nil {
		return err
	}
	if content, err = m.expandInto(r.account.grow, content, maxUnpacked); err != nil {
		return unreadable{err}
	}
	r.packed = len(m.Buf)
	r.drop() // what it was made of
	r.hold(content, cap(content))
	r.continueWith(content)
	return nil
}

// decodeFrom reads the body of a message from a stream, and not a byte more.

func (m *ping) decodeFrom(r *streamReader) error           { return decodeValue(r, m) }
func (m *ack) decodeFrom(r *streamReader) error            { return decodeValue(r, m) }
func (m *pushPullHeader) decodeFrom(r *streamReader) error { return decodeValue(r, m) }
func (m *userMsgHeader) decodeFrom(r *streamReader) error  { return decodeValue(r, m) }
func (m *errorReply) decodeFrom(r *streamReader) error     { return decodeValue(r, m) }

func (m *pushNodeState) decodeFrom(r *streamReader) error {
	// The usual shape, when all of it is there, need not be measured first.
	if size, ok := m.parse(r.unread()); ok {
		r.lent = true
		r.advance(size)
		return nil
	}
	return decodeValue(r, m)
}

// decodeValue reads a message from the value that is next.
func decodeValue(r *streamReader, m interface {
	decode(body []byte) (canonical bool, err error)
}) error {
	value, err := r.value(maxStreamValue)
	if err != nil {
		return cutShort(err)
	}
	r.lent = true
	_, err = m.decode(value)
	return err
}

// cutShort is the error for a message whose end did not come.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return newKindError(ErrMalformed, "message ends early: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// readPushPull reads the body of a push/pull (W51–W55). It appends the nodes to the
// list and returns the user state, nil if there is none. Fields of the nodes are
// views of the reader's memory, valid until its release; the user state is the
// caller's.
func readPushPull(r *streamReader, list []pushNodeState) (header pushPullHeader, nodes []pushNodeState, userState []byte, err error) {
	if err := header.decodeFrom(r); err != nil {
		return header, list, nil, err
	}
	if header.Nodes < 0 || header.Nodes > maxStateNodes {
		return header, list, nil, newKindError(ErrTooLarge, "number of nodes in header (%d) exceeds limit", header.Nodes)
	}
	if header.UserStateLen < 0 || header.UserStateLen > maxUserState {
		return header, list, nil, newKindError(ErrTooLarge, "user state length (%d) exceeds limit", header.UserStateLen)
	}
	if err := r.canHold(&header); err != nil {
		return header, list, nil, err
	}
	start := r.done
	for left := header.Nodes; left > 0; left-- {
		if list, err = r.withRoom(list, left); err != nil {
			return header, list, nil, err
		}
		next := &list[:len(list)+1][len(list)]
		if err := next.decodeFrom(r); err != nil {
			*next = pushNodeState{}
			return header, list, nil, fmt.Errorf("cannot read node state: %w", err)
		}
		list = list[:len(list)+1]
		if read := header.Nodes - left + 1; read > fewEntries && r.done-start < read*leastEntry {
			return header, list, nil, newKindError(ErrMalformed, "%d node states in %d bytes are none", read, r.done-start)
		}
		if r.done > maxStates {
			return header, list, nil, newKindError(ErrTooLarge, "node states of more than %d bytes are not accepted", maxStates)
		}
	}
	if header.UserStateLen == 0 {
		return header, list, nil, nil
	}
	userState, err = r.own(header.UserStateLen)
	if err != nil {
		return header, list, nil, fmt.Errorf("cannot read user state: %w", cutShort(err))
	}
	return header, list, userState, nil
}

// leastEntry is less than an entry of a push/pull takes that has a name and an
// address; nodes write at least 50 bytes. A few entries may be shorter.
const (
	leastEntry = 16
	fewEntries = 64
)

// canHold refuses a header that announces what cannot follow, before memory is given
// for it. Nodes have different names, so no code of the compressed data can stand for
// a whole entry and a part of the next: there are at least as many codes as entries,
// and a code takes more than a byte (W88).
func (r *streamReader) canHold(header *pushPullHeader) error {
	room := len(r.unread()) - header.UserStateLen
	tooMany := r.conn == nil && header.Nodes > max(room, 0)/leastEntry ||
		r.packed > 0 && header.Nodes > r.packed
	if tooMany && header.Nodes > fewEntries {
		return newKindError(ErrMalformed, "message has no room for %d nodes and %d bytes of user state", header.Nodes, header.UserStateLen)
	}
	return nil
}

// withRoom makes room for another node: for three times as many as have come, but
// not for more than are left. Memory grows with what has come, not with what was
// announced (W82). A list that has been used before is charged as if it were new.
func (r *streamReader) withRoom(list []pushNodeState, left int) ([]pushNodeState, error) {
	const first = 64
	if len(list) < min(r.entries, cap(list)) {
		return list, nil
	}
	most := len(list) + min(left, max(first, 3*len(list)))
	if err := r.account.charge(most * entrySize); err != nil {
		return list, err
	}
	if most > cap(list) {
		longer := make([]pushNodeState, len(list), most)
		copy(longer, list)
		list = longer
	}
	r.account.release(r.entries * entrySize)
	r.entries = most
	return list, nil
}

// entrySize is how many bytes an entry of a push/pull takes when it is decoded.
const entrySize = int(unsafe.Sizeof(pushNodeState{}))

// writeUserMessage writes a user message to a stream that this node opened (W58).
func (w *wire) writeUserMessage(conn net.Conn, payload []byte) (sent int, err error) {
	buf := streamBuffers.Get().(*[]byte)
	msg := appendUserMessage((*buf)[:0], payload)
	defer keepForStreams(buf, msg)
	return w.writeStream(conn, msg, true)
}

// appendUserMessage appends a user message as streams carry it (W58).
func appendUserMessage(dst, payload []byte) []byte {
	header := userMsgHeader{UserMsgLen: len(payload)}
	dst = slices.Grow(dst, 32+len(payload))
	return append(header.appendTo(dst), payload...)
}

// readUserMessage reads the body of a user message on a stream (W58). It is the
// caller's; the reader is released.
func readUserMessage(r *streamReader) ([]byte, error) {
	defer r.release()
	var header userMsgHeader
	if err := header.decodeFrom(r); err != nil {
		return nil, err
	}
	if header.UserMsgLen < 0 || header.UserMsgLen > maxUserMessage {
		return nil, newKindError(ErrTooLarge, "user message length (%d) exceeds limit", header.UserMsgLen)
	}
	msg, err := r.own(header.UserMsgLen)
	if err != nil {
		return nil, fmt.Errorf("cannot read user message: %w", cutShort(err))
	}
	return msg, nil
}
