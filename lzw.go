package memberlist

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
)

// This file is an LZW coder for whole buffers, in the flavour of W19: codes of 9
// to 12 bits, least significant bit first, with a clear and an end code. It
// writes bit for bit what compress/lzw writes and takes exactly what that takes;
// the fuzz targets prove it.
//
// The code table of the format: 0–255 are the bytes themselves, lzwClear empties
// the table, lzwEnd is the last code. From lzwEnd+1 on, each code written adds an
// entry: the string it stands for and the byte that follows it. Codes grow by a
// bit when the entries no longer fit; the writer sends a clear code when they
// would not fit 12 bits.

const (
	lzwClear    = 256
	lzwEnd      = 257
	lzwMinWidth = 9
	lzwMaxWidth = 12
	lzwCodes    = 1 << lzwMaxWidth
	lzwFull     = lzwCodes - 1 - lzwEnd // that many codes fill the table
)

var (
	errLZWCode  = errors.New("lzw: invalid code")
	errLZWEnd   = errors.New("lzw: data without end code")
	errLZWLimit = errors.New("lzw: too much data")
)

// Coders are kept between uses for their tables. What is left in them from the
// last use is never read.
var (
	lzwEncoders = sync.Pool{New: func() any { return newLZWEncoder() }}
	lzwDecoders = sync.Pool{New: func() any { return new(lzwDecoder) }}
)

// appendLZW appends src in compressed form. It gives up and reports false as soon
// as that needs more than most bytes; dst is then as it was.
//
// Finding the codes and packing them take turns, from one clear code to the next:
// each loop keeps what it needs in registers, which takes a sixth less time than one
// loop for both.
func appendLZW(dst, src []byte, most int) ([]byte, bool) {
	e := lzwEncoders.Get().(*lzwEncoder)
	defer lzwEncoders.Put(e)
	w := lzwWriter{out: dst, width: lzwMinWidth}
	w.put(lzwClear)
	for len(src) > 0 {
		left := len(dst) + most - len(w.out)
		if left < 0 {
			return dst, false
		}
		tooMany := 8*min(left, 2*lzwCodes)/lzwMinWidth + 1 // the min: against overflow
		codes, rest := e.match(src, min(tooMany, lzwFull))
		if len(rest) > 0 && len(codes) == tooMany {
			return dst, false
		}
		w.putAll(codes)
		src = rest
	}
	w.put(lzwEnd)
	w.finish()
	if len(w.out) > len(dst)+most {
		return dst, false
	}
	return w.out, true
}

// lzwEncoder finds the codes of strings. It looks for an entry by the code of all
// but the last byte of its string and by that byte.
//
// Most codes are only ever extended by one byte. That entry is found in an array
// with one place for each code; the others are in a hash table with open
// addressing. The array spares a sixth of the time that the hash table alone takes
// for streams, a quarter of that for packets. The step from slot to slot is odd, so
// that it comes by all of them, and differs from key to key, so that no input makes
// a long queue.
type lzwEncoder struct {
	// first is for each code the first entry that extends it: the byte added, and
	// in the lower half the code of the entry. Single bytes get extended by many
	// others, so those entries are all in slots.
	first [lzwCodes]uint32
	// slots hold entries: code and byte as a key of 20 bits, and the code of the
	// entry in 12 bits. 0 is free, since no entry has code 0.
	slots [lzwSlots]uint32
	codes [lzwFull]uint16
}

// In the upper half of lzwEncoder.first, in place of a byte.
const (
	lzwNone = 0x100 << 16 // no entry extends the code
	lzwMany = 0x200 << 16 // those that do are in slots
)

// lzwSlots is enough for a table of which never more than half is filled.
const lzwSlots = 2 * lzwCodes

func newLZWEncoder() *lzwEncoder {
	e := new(lzwEncoder)
	for b := range lzwClear {
		e.first[b] = lzwMany
	}
	return e
}

// table returns empty slots, a power of two, as many as n bytes of input need. A
// short input is served by a few cache lines, so that emptying them costs next to
// nothing, with less for each byte than telling old slots from new ones would.
func (e *lzwEncoder) table(n int) []uint32 {
	size := 64
	for size < 2*n && size < len(e.slots) {
		size *= 2
	}
	clear(e.slots[:size])
	return e.slots[:size]
}

// match returns the codes of src, as they are after a clear code, and what is left
// of src after most of them. There must be at least one byte. The codes are good
// until the next call.
func (e *lzwEncoder) match(src []byte, most int) (codes []uint16, rest []byte) {
	slots := e.table(len(src))
	mask := uint32(len(slots) - 1)
	codes = e.codes[:most]
	n := 0
	code := uint32(src[0]) // in the lowest 12 bits; what is above is of no meaning
	for i := 1; i < len(src); i++ {
		next := uint32(src[i])
		first := e.first[code%lzwCodes]
		if first>>16 == next {
			code = first
			continue
		}
		code %= lzwCodes
		entry, key := &e.first[code], next<<16
		if first != lzwNone {
			key = code<<20 | next<<12
			at := (code<<2 ^ next*0x9e3779b1>>18) & mask
			slot := slots[at]
			for slot>>12 != key>>12 && slot != 0 {
				at = (at + (key>>12 | 1)) & mask
				slot = slots[at]
			}
			if slot != 0 {
				code = slot
				continue
			}
			entry = &slots[at]
		}
		codes[n] = uint16(code)
		n++
		if n == len(codes) {
			return codes, src[i:]
		}
		last := uint32(lzwEnd + n)
		*entry = key | last
		e.first[last%lzwCodes] = lzwNone
		code = next
	}
	codes[n] = uint16(code % lzwCodes)
	return codes[:n+1], nil
}

// lzwWriter packs codes into bytes.
type lzwWriter struct {
	out   []byte
	bits  uint64 // not yet in out, the oldest lowest
	n     uint8  // how many of them
	width uint8  // of the next code
}

// put writes one code.
func (w *lzwWriter) put(code uint16) {
	w.bits |= uint64(code) << w.n
	w.n += w.width
	for ; w.n >= 8; w.n -= 8 {
		w.out = append(w.out, byte(w.bits))
		w.bits >>= 8
	}
}

// putAll writes the codes that follow a clear code, and another clear code if they
// fill the table.
func (w *lzwWriter) putAll(codes []uint16) {
	w.out = slices.Grow(w.out, len(codes)*lzwMaxWidth/8+1)
	for last := lzwEnd; ; w.width++ {
		n := min(len(codes), 1<<w.width-last)
		w.putEqual(codes[:n])
		codes, last = codes[n:], last+n
		if last == lzwEnd+lzwFull {
			w.put(lzwClear)
			w.width = lzwMinWidth
			return
		}
		if last < 1<<w.width {
			return
		}
	}
}

// putEqual writes codes of the same width, for which there must be room.
func (w *lzwWriter) putEqual(codes []uint16) {
	at, bits, n := len(w.out), w.bits, w.n
	room := w.out[:cap(w.out)]
	for _, code := range codes {
		bits |= uint64(code) << (n % 64)
		n += w.width
		if n >= 32 {
			binary.LittleEndian.PutUint32(room[at:], uint32(bits))
			at += 4
			bits >>= 32
			n -= 32
		}
	}
	for ; n >= 8; n -= 8 {
		room[at] = byte(bits)
		at++
		bits >>= 8
	}
	w.out, w.bits, w.n = room[:at], bits, n
}

// finish writes what is left over.
func (w *lzwWriter) finish() {
	if w.n > 0 {
		w.out = append(w.out, byte(w.bits))
	}
}

// lzwDecoder holds, for each entry of the code table, where its string stands in
// the output. Since an entry is a string and the byte after it, every string is
// there in one piece, and a code costs one copy.
type lzwDecoder struct {
	entries [lzwCodes]lzwString
}

// lzwString is out[start:start+size].
type lzwString struct{ start, size uint32 }

// expandLZW appends what src stands for, which must not be more than most bytes.
// Bytes after the end code are ignored. After an error what was appended is of no
// use.
func expandLZW(dst, src []byte, most int) ([]byte, error) {
	return expandLZWInto(growFreely, dst, src, most)
}

// expandLZWInto is expandLZW with memory that grow gives.
func expandLZWInto(grow growFunc, dst, src []byte, most int) ([]byte, error) {
	d := lzwDecoders.Get().(*lzwDecoder)
	defer lzwDecoders.Put(d)
	return d.decode(grow, dst, src, len(dst)+most)
}

// growFunc moves bytes to memory with room for that many in all.
type growFunc func(b []byte, size int) ([]byte, error)

func growFreely(b []byte, size int) ([]byte, error) { return slices.Grow(b, size-len(b)), nil }

// decode appends to out up to a length of most.
func (d *lzwDecoder) decode(grow growFunc, out, src []byte, most int) ([]byte, error) {
	var bits uint64                                   // of src, not yet taken, the next lowest
	var n uint8                                       // how many of them
	width, last := uint8(lzwMinWidth), uint32(lzwEnd) // last is the newest entry
	var previous lzwString                            // size 0: there is none to be extended
	var err error
	room := min(most, cap(out))
	for {
		if n < width {
			if bits, n, src = lzwFill(bits, n, src); n < width {
				return out, errLZWEnd
			}
		}
		code := uint32(bits & (1<<(width%64) - 1)) // %64 spares the processor a comparison
		bits >>= width % 64
		n -= width
		at := len(out)
		if previous.size > 0 { // the newest entry ends with the byte that is about to come
			d.entries[last%lzwCodes] = lzwString{previous.start, previous.size + 1}
		}
		switch {
		case code < lzwClear:
			if at == room {
				if at == most {
					return out, errLZWLimit
				}
				if out, err = grow(out, lzwRoom(at+1, most)); err != nil {
					return out, err
				}
				room = min(most, cap(out))
			}
			out = append(out, byte(code))
		case code == lzwClear:
			width, last, previous = lzwMinWidth, lzwEnd, lzwString{}
			continue
		case code == lzwEnd:
			return out, nil
		case code > last:
			return out, errLZWCode
		default:
			s := d.entries[code%lzwCodes]
			end := at + int(s.size)
			if end > most {
				return out, errLZWLimit
			}
			if cap(out) < end+lzwShort {
				if out, err = grow(out, lzwRoom(end, most)); err != nil {
					return out, err
				}
				room = min(most, cap(out))
			}
			out = appendWithin(out, s)
		}
		previous = lzwString{uint32(at), uint32(len(out) - at)}
		last++
		if last == 1<<(width%64) {
			if width < lzwMaxWidth {
				width++
			} else { // the table is full, and stays as it is until it is cleared
				last--
				previous.size = 0
			}
		}
	}
}

// lzwShort is the length up to which a string is copied in two fixed moves, which may
// write as many bytes beyond it.
const lzwShort = 16

// lzwRoom is the size of the memory for output that has to grow to a length: it at
// least doubles, as far as most allows.
func lzwRoom(need, most int) int { return max(need, min(2*need, most)) + lzwShort }

// appendWithin appends a piece of out to it, the last byte of which may be the
// first that it appends. There is room for it and lzwShort bytes more.
func appendWithin(out []byte, s lzwString) []byte {
	at, start, size := len(out), int(s.start), int(s.size)
	end := at + size
	room := out[:end+lzwShort]
	if size > lzwShort {
		copy(room[at:end], room[start:])
	} else {
		// Most strings are short. Two fixed moves take half the time of a call of
		// copy; what they write beyond the end is written over by the next.
		from, to := (*[lzwShort]byte)(room[start:]), (*[lzwShort]byte)(room[at:])
		low, high := binary.LittleEndian.Uint64(from[:]), binary.LittleEndian.Uint64(from[8:])
		binary.LittleEndian.PutUint64(to[:], low)
		binary.LittleEndian.PutUint64(to[8:], high)
	}
	if start+size > at {
		room[end-1] = room[at]
	}
	return room[:end]
}

// lzwFill takes in bytes of src, as many as there is room for above n bits.
func lzwFill(bits uint64, n uint8, src []byte) (uint64, uint8, []byte) {
	if len(src) >= 8 {
		// The part of a byte that comes along is there again the next time.
		size := (63 - n) / 8
		return bits | binary.LittleEndian.Uint64(src)<<(n%64), n + 8*size, src[size:]
	}
	for ; len(src) > 0 && n < 56; src = src[1:] {
		bits |= uint64(src[0]) << (n % 64)
		n += 8
	}
	return bits, n, src
}
