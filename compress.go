package memberlist

import (
	"errors"
	"slices"
)

// maxUnpacked is the largest result of decompression, inclusive (W62, W63). Packets
// have a limit of their own, wire.packetBudget.
const maxUnpacked = 40 << 20

// algorithmLZW is the only compression there is (W19).
const algorithmLZW = 0

// compressedHead is a compressed message up to the raw value with the data.
const compressedHead = compressedPrefix + "\x00\xa3Buf"

// compressedRoom is enough for compressedHead and the length of the data.
const compressedRoom = len(compressedHead) + 5

// leastCompressible is the shortest message that can get shorter: 25 equal bytes
// become 9 codes of 9 bits and a head of 13 bytes. Most acks and nacks are below,
// and are not even tried.
const leastCompressible = 25

// appendShorter appends msg in compressed form, provided that this is strictly
// shorter (W20, packets). Otherwise dst is returned as it was.
func appendShorter(dst, msg []byte) ([]byte, bool) {
	if len(msg) < leastCompressible {
		return dst, false
	}
	const head = len(compressedHead) + 1
	packed, ok := appendCompressed(dst, msg, len(msg)-1-head)
	if !ok || len(packed)-len(dst) >= len(msg) {
		return dst, false
	}
	return packed, true
}

// Sampling of a long message: that many windows of that many bytes, if it has more than
// sampledFrom.
const (
	sampledFrom   = 256 << 10
	sampleWindows = 8
	sampleWindow  = 8 << 10
)

// promising reports whether it makes sense to compress a message. A long one that is
// random or was compressed before would cost a hundredth of a second for each MiB in
// vain, as much as all else that is done to it. So parts from all over it are tried,
// and one that gets shorter by a sixteenth is enough.
func promising(msg []byte) bool {
	if len(msg) < sampledFrom {
		return true
	}
	room := make([]byte, 0, 2*sampleWindow)
	for i := range sampleWindows {
		start := (len(msg) - sampleWindow) / (sampleWindows - 1) * i
		if _, ok := appendLZW(room, msg[start:start+sampleWindow], sampleWindow*15/16); ok {
			return true
		}
	}
	return false
}

// appendCompressed appends msg in compressed form unless the data gets longer than
// most bytes.
func appendCompressed(dst, msg []byte, most int) ([]byte, bool) {
	start := len(dst)
	room := slices.Grow(dst, compressedRoom)[:start+compressedRoom]
	packed, ok := appendLZW(room, msg, most)
	if !ok {
		return dst, false
	}
	// The length of the data decides about the size of the head, so the data moves
	// up to it last.
	data := packed[len(room):]
	packed = appendRawHeader(append(packed[:start], compressedHead...), len(data))
	return append(packed, data...), true
}

// expand appends the content of a compressed message, at most as many bytes as
// given (W23). After an error what was appended is of no use, and says what the
// attempt has cost.
func (m *compressed) expand(dst []byte, most int) ([]byte, error) {
	return m.expandInto(growFreely, dst, most)
}

// expandInto is expand with memory that grow gives.
func (m *compressed) expandInto(grow growFunc, dst []byte, most int) ([]byte, error) {
	if m.Algo != algorithmLZW {
		return dst, newKindError(ErrMalformed, "cannot decompress unknown algorithm %d", m.Algo)
	}
	out, err := expandLZWInto(grow, dst, m.Buf, most)
	switch {
	case errors.Is(err, errLZWLimit):
		return out, newKindError(ErrTooLarge, "decompressed message is larger than limit (%d)", most)
	case errors.Is(err, errLZWCode), errors.Is(err, errLZWEnd):
		return out, newKindError(ErrMalformed, "%w", err)
	case err != nil:
		return out, err
	case len(out) == len(dst):
		return dst, newKindError(ErrMalformed, "decompressed message is empty")
	}
	return out, nil
}
