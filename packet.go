package memberlist

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"slices"
)

// wire dresses and undresses what a node sends and receives, as its configuration
// says. A packet is built from the inside out (W2),
//
//	label( encrypt( checksum( compress( message or compound ) ) ) )
//
// and a stream likewise, without the checksum (W3). A wire may be used by many
// goroutines; it keeps no state but what is made once from the configuration.
type wire struct {
	cfg    *Config
	header []byte    // of the label, or nil
	random io.Reader // for nonces
	udp    bool      // packets are datagrams, which carry no more than longestDatagram

	// spent, if not nil, is given memory of packets and streams when it is going to be
	// used again. Tests overwrite it, to find who still looks at it.
	spent func([]byte)
}

// used tells of memory that is going to be used again.
func (w *wire) used(memory []byte) {
	if w.spent != nil {
		w.spent(memory[:cap(memory)])
	}
}

func newWire(cfg *Config) *wire {
	w := &wire{cfg: cfg, random: rand.Reader}
	if cfg.Label != "" {
		w.header, _ = labelHeader(cfg.Label) // its length was checked with the configuration
	}
	return w
}

// labelBytes are the label without its header, which is what gets authenticated
// (W29).
func (w *wire) labelBytes() []byte {
	if w.header == nil {
		return nil
	}
	return w.header[labelHeadLen:]
}

// sealingKeys returns the keys if outgoing traffic is to be sealed (W32, W33).
func (w *wire) sealingKeys() []sealingKey {
	if !w.cfg.GossipVerifyOutgoing {
		return nil
	}
	return w.cfg.Keyring.load()
}

// labelOverhead is the length of the label header.
func (w *wire) labelOverhead() int { return len(w.header) }

// sealingOverhead is how many bytes sealing may add.
func (w *wire) sealingOverhead() int {
	version := boxVersion(w.cfg.ProtocolVersion)
	return boxLen(version, 0)
}

// uncounted is by how much a packet may be longer than it aims at (P73).
const uncounted = 7

// packetSize is the size that packets aim at.
func (w *wire) packetSize() int {
	if w.udp {
		return min(w.cfg.UDPBufferSize, longestDatagram-uncounted)
	}
	return w.cfg.UDPBufferSize
}

// longestMessage is the length of a message that can be sent alone, in a packet of its
// own that is longer than others. Transports other than UDP are not asked for more
// than UDP carries, unless their packets are larger anyway.
func (w *wire) longestMessage() int {
	most := max(longestDatagram, w.packetSize())
	return max(most-uncounted-w.labelOverhead()-w.sealingOverhead(), 0)
}

// gossipSpace is the room for broadcasts in a gossip packet (P72).
func (w *wire) gossipSpace() int {
	const compoundHead = 2
	space := w.packetSize() - compoundHead - w.labelOverhead()
	if len(w.cfg.Keyring.load()) > 0 {
		space -= w.sealingOverhead()
	}
	return max(space, 0)
}

// piggybackSpace is the room for broadcasts that ride on a message of the given
// length (P72).
func (w *wire) piggybackSpace(mainLen int) int {
	const compoundHead = 2
	space := w.packetSize() - compoundHead - w.labelOverhead() - mainLen
	if len(w.sealingKeys()) > 0 {
		space -= w.sealingOverhead()
	}
	return max(space, 0)
}

// checksumLen is the length of a checksum header: the type byte and the CRC.
const checksumLen = 5

// sealPacket appends the packet that carries msg, a message or a compound, with the
// label in front if there is one (W39, W43, P139). With room in dst it allocates nothing. It
// does not keep dst or msg.
func (w *wire) sealPacket(dst, msg []byte, checksum bool) ([]byte, error) {
	dst = slices.Grow(dst, len(w.header)+boxOverhead+paddingBlock+checksumLen+compressedRoom+len(msg))
	dst = append(dst, w.header...)
	keys := w.sealingKeys()
	if len(keys) == 0 {
		return w.appendContent(dst, msg, checksum), nil
	}
	start := len(dst)
	dst, err := beginBox(dst, boxVersion(w.cfg.ProtocolVersion), w.random)
	if err != nil {
		return nil, fmt.Errorf("no nonce: %w", err)
	}
	dst = w.appendContent(dst, msg, checksum)
	return sealBox(dst, start, keys[0], w.labelBytes()), nil
}

// appendContent appends msg, compressed if that is shorter (W20), behind its
// checksum if one is wanted (W24).
func (w *wire) appendContent(dst, msg []byte, checksum bool) []byte {
	start := len(dst)
	if checksum {
		dst = append(dst, byte(checksumMsg), 0, 0, 0, 0)
	}
	shorter := false
	if w.cfg.EnableCompression {
		dst, shorter = appendShorter(dst, msg)
	}
	if !shorter {
		dst = append(dst, msg...)
	}
	if checksum {
		binary.BigEndian.PutUint32(dst[start+1:], crc32.ChecksumIEEE(dst[start+checksumLen:]))
	}
	return dst
}

// Faults that the log treats as less than an error (P150).
var (
	errChecksum          = newKindError(ErrMalformed, "checksum of packet does not match")
	errTruncatedCompound = newKindError(ErrMalformed, "compound message is truncated")
)

const (
	// maxNesting is how many compounds and compressions may be inside each other
	// (W83).
	maxNesting = 8

	// maxPacketParts bounds the parts of all compounds in one packet, good and bad
	// (W83). Nodes send one compound, of at most maxCompoundParts.
	maxPacketParts = 1 << 12

	// packetBudget is what one packet may unpack to; see wire.packetBudget.
	packetBudget = 1 << 20

	// packetRatio is how many times its own size a packet may unpack to. Text that
	// is gossiped gets a fifth of its size, rarely a tenth.
	packetRatio = 16

	// maxFaults is how many bad parts of one packet are reported.
	maxFaults = 8

	// keepScratch is the size of buffers that a packetReader keeps.
	keepScratch = 256 << 10
)

// packetReader takes packets apart. Each goroutine that receives packets has its
// own, for it uses its memory again.
type packetReader struct {
	// faults tells of the parts of the last packet that were bad without spoiling
	// the rest.
	faults []error

	wire     *wire
	lastKey  int    // index of the key that opened the last packet
	plain    []byte // the decrypted packet
	unpacked []byte // what was decompressed
	budget   int    // how much more may be, tried in vain or not
	parts    int    // how many more parts of compounds may come
	copied   bool   // the messages lie in plain or unpacked, and not in the packet
	msgs     []message
}

// message is one message out of a packet: its type byte and its body.
type message []byte

func (m message) kind() messageType { return messageType(m[0]) }

// body is what follows the type byte.
func (m message) body() []byte { return m[1:] }

func newPacketReader(w *wire) *packetReader {
	return &packetReader{wire: w}
}

// read takes a packet apart. An error means that the whole packet is refused;
// parts that are bad alone are left out and named in r.faults. The messages are
// of the types ping, indirect ping, ack, nack, suspect, alive, dead and user, and
// in the order of the packet, and not decoded. They borrow from buf and from
// the reader: they are valid until buf is used again and until the next read.
func (r *packetReader) read(buf []byte) ([]message, error) {
	r.reset()
	r.budget, r.parts = r.wire.packetBudget(len(buf)), maxPacketParts
	content, label, err := splitLabel(buf)
	if err != nil {
		return nil, err
	}
	if err := checkLabel(r.wire.cfg, label); err != nil {
		return nil, err
	}
	if content, err = r.decrypt(content); err != nil {
		return nil, err
	}
	if content, err = removeChecksum(content); err != nil {
		return nil, err
	}
	if err := r.unpack(content, 0); err != nil {
		return nil, err
	}
	return r.msgs, nil
}

// reset forgets the last packet, and gives back the memory that an unusually big
// one took.
func (r *packetReader) reset() {
	r.spent()
	r.trim()
	r.faults, r.unpacked, r.msgs = r.faults[:0], r.unpacked[:0], r.msgs[:0]
	r.copied = false
}

// trim gives back the memory that an unusually big packet took.
func (r *packetReader) trim() {
	if cap(r.unpacked) > keepScratch || cap(r.msgs) > keepItems || cap(r.plain) > keepScratch {
		r.unpacked, r.msgs, r.plain = nil, nil, nil
	}
}

// packetBudget is how many bytes a packet of the given size may be decompressed to,
// all parts and levels together, those that fail included (W83): 1 MiB for any
// datagram. On transports that carry larger packets it is packetRatio times the
// packet, or twice what this node itself would put into one; never more than
// maxUnpacked (W87).
func (w *wire) packetBudget(size int) int {
	usual := 2 * min(w.cfg.UDPBufferSize, maxUnpacked)
	return min(max(packetBudget, packetRatio*min(size, maxUnpacked), usual), maxUnpacked)
}

// spent tells that nobody looks at the messages of the last packet any more.
func (r *packetReader) spent() {
	r.wire.used(r.plain)
	r.wire.used(r.unpacked)
}

// decrypt opens a packet if there are keys. What does not open is refused, or
// taken as plain if the configuration does not insist (W34).
func (r *packetReader) decrypt(buf []byte) ([]byte, error) {
	cfg := r.wire.cfg
	keys := cfg.Keyring.load()
	if len(keys) == 0 {
		return buf, nil
	}
	r.plain = slices.Grow(r.plain[:0], len(buf))
	plain, used, err := r.wire.openBox(r.plain, buf, keys, r.lastKey, r.wire.labelBytes())
	switch {
	case err == nil:
		r.lastKey, r.copied = used, true
		return plain, nil
	case cfg.GossipVerifyIncoming:
		return nil, err
	}
	return buf, nil
}

// removeChecksum checks and removes the checksum, if there is one (W26).
func removeChecksum(buf []byte) ([]byte, error) {
	if len(buf) < checksumLen || messageType(buf[0]) != checksumMsg {
		return buf, nil
	}
	rest := buf[checksumLen:]
	want, got := binary.BigEndian.Uint32(buf[1:]), crc32.ChecksumIEEE(rest)
	if want != got {
		return nil, fmt.Errorf("%w: it is %#x, not %#x", errChecksum, got, want)
	}
	return rest, nil
}

// unpack adds the messages in buf, which is inside depth compounds and
// compressions. The first byte says what it is (W4). User messages are the bytes
// themselves (W15); types that packets do not carry are refused (W76).
func (r *packetReader) unpack(buf []byte, depth int) error {
	if len(buf) == 0 {
		return newKindError(ErrMalformed, "missing message type byte")
	}
	if depth > maxNesting {
		return newKindError(ErrMalformed, "message is nested too deeply")
	}
	switch kind := messageType(buf[0]); kind {
	case pingMsg, indirectPingMsg, ackMsg, nackMsg, suspectMsg, aliveMsg, deadMsg, userMsg:
		r.msgs = append(r.msgs, message(buf))
		return nil
	case compoundMsg:
		return r.unpackCompound(buf[1:], depth)
	case compressMsg:
		return r.unpackCompressed(buf[1:], depth)
	default:
		return newKindError(ErrMalformed, "msg type (%d) not supported", kind)
	}
}

// unpackCompound unpacks the parts of a compound (W18). One that is bad is
// reported and left out.
func (r *packetReader) unpackCompound(body []byte, depth int) error {
	if len(body) == 0 {
		return newKindError(ErrMalformed, "missing compound length byte")
	}
	n := int(body[0])
	if len(body) < 1+2*n {
		return newKindError(ErrMalformed, "compound is too short for the lengths of its %d parts", n)
	}
	lengths, parts := body[1:1+2*n], body[1+2*n:]
	for i := range n {
		size := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if size > len(parts) {
			r.fault(fmt.Errorf("%w: %d of %d parts are missing", errTruncatedCompound, n-i, n))
			return nil
		}
		if r.parts == 0 {
			r.fault(newKindError(ErrTooLarge, "packet has more than %d parts", maxPacketParts))
			return nil
		}
		r.parts--
		if err := r.unpack(parts[:size:size], depth+1); err != nil {
			r.fault(err)
		}
		parts = parts[size:]
	}
	return nil
}

// unpackCompressed unpacks what is inside a compressed message (W22). Nested ones
// share one buffer and one budget. A failure is charged with what it produced, so
// that bad data costs no more than good data.
func (r *packetReader) unpackCompressed(body []byte, depth int) error {
	var m compressed
	if _, err := m.decode(body); err != nil {
		return err
	}
	start := len(r.unpacked)
	unpacked, err := m.expand(r.unpacked, r.budget)
	r.budget -= len(unpacked) - start
	if err != nil {
		r.unpacked = unpacked[:start] // with the room that it has got
		return err
	}
	r.unpacked, r.copied = unpacked, true
	return r.unpack(unpacked[start:len(unpacked):len(unpacked)], depth+1)
}

func (r *packetReader) fault(err error) {
	if len(r.faults) < maxFaults {
		r.faults = append(r.faults, err)
	}
}

const (
	// maxCompoundParts is how many parts a compound can have (W17, W80).
	maxCompoundParts = 255

	// maxPartLen is how long a part can be (W16).
	maxPartLen = 65535
)

// appendCompound appends a compound of the messages (W16), of which there are at
// most maxCompoundParts, none longer than maxPartLen.
func appendCompound(dst []byte, msgs [][]byte) []byte {
	dst = append(dst, byte(compoundMsg), byte(len(msgs)))
	for _, msg := range msgs {
		dst = append(dst, byte(len(msg)>>8), byte(len(msg)))
	}
	for _, msg := range msgs {
		dst = append(dst, msg...)
	}
	return dst
}

// splitCompounds numbers and yields groups of the messages, of which each fills one
// packet, in order: as many as a compound can have, the rest in the last (W17, W80). A
// message that is too long to be a part is a group of its own, to be sent bare, for
// as a part it would be cut short.
func splitCompounds(msgs [][]byte) iter.Seq2[int, [][]byte] {
	return func(yield func(int, [][]byte) bool) {
		for i := 0; len(msgs) > 0; i++ {
			n := compoundSize(msgs)
			if !yield(i, msgs[:n:n]) {
				return
			}
			msgs = msgs[n:]
		}
	}
}

// compoundSize is how many of the messages, of which there is one at least, go
// into the first packet.
func compoundSize(msgs [][]byte) int {
	most := min(len(msgs), maxCompoundParts)
	for i, msg := range msgs[:most] {
		if len(msg) > maxPartLen {
			return max(i, 1)
		}
	}
	return most
}
