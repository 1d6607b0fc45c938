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
)

var (
	errLZWCode  = errors.New("lzw: invalid code")
	errLZWEnd   = errors.New("lzw: data without end code")
	errLZWLimit = errors.New("lzw: too much data")
)

// Coders are kept between uses for their tables. What is left in them from the
// last use is never read.
var (
	lzwEncoders = sync.Pool{New: func() any { return new(lzwEncoder) }}
	lzwDecoders = sync.Pool{New: func() any { return new(lzwDecoder) }}
)

// appendLZW appends src in compressed form. It gives up and reports false as soon
// as that needs more than most bytes; dst is then as it was.
func appendLZW(dst, src []byte, most int) ([]byte, bool) {
	e := lzwEncoders.Get().(*lzwEncoder)
	defer lzwEncoders.Put(e)
	w := lzwWriter{out: dst, most: len(dst) + most, width: lzwMinWidth, last: lzwEnd}
	w.put(lzwClear)
	if len(src) > 0 && !e.encode(&w, src) {
		return dst, false
	}
	w.put(lzwEnd)
	w.finish()
	if w.full() {
		return dst, false
	}
	return w.out, true
}

// lzwEncoder finds the code of a string, given as the code of all but its last
// byte and that byte. The two make a key of 20 bits, looked up in a hash table
// with open addressing. A slot holds the key and the code of 12 bits; 0 is free,
// since no entry has code 0. The step from slot to slot is odd, so that it comes by
// all of them, and differs from key to key, so that no input makes a long queue.
type lzwEncoder struct {
	slots [lzwSlots]uint32
}

// lzwSlots is enough for a table of which never more than a quarter is filled.
const lzwSlots = 4 * lzwCodes

// table returns empty slots, a power of two, as many as n bytes of input need. A
// short input is served by a few cache lines, so that emptying them costs next to
// nothing, with less for each byte than telling old slots from new ones would.
func (e *lzwEncoder) table(n int) []uint32 {
	size := 64
	for size < 4*n && size < len(e.slots) {
		size *= 2
	}
	clear(e.slots[:size])
	return e.slots[:size]
}

// encode writes the codes of src, of which there must be at least one byte. It
// reports false when it stopped because w is full.
func (e *lzwEncoder) encode(w *lzwWriter, src []byte) bool {
	slots := e.table(len(src))
	mask := uint32(len(slots) - 1)
	code := uint32(src[0])
	for _, next := range src[1:] {
		key := code<<8 | uint32(next)
		// Only the code is late in coming: what is done with it is kept short.
		at := code<<2 ^ uint32(next)*0x9e3779b1>>18
		slot := slots[at&mask]
		for slot>>12 != key && slot != 0 {
			at += key | 1
			slot = slots[at&mask]
		}
		if slot != 0 {
			code = slot % lzwCodes
			continue
		}
		w.put(code)
		if w.full() {
			return false
		}
		code = uint32(next)
		if w.enter() {
			slots[at&mask] = key<<12 | w.last
		} else {
			clear(slots)
		}
	}
	w.put(code)
	w.enter()
	return true
}

// lzwWriter packs codes into bytes.
type lzwWriter struct {
	out   []byte
	most  int    // the length up to which out may grow
	bits  uint64 // not yet in out, the oldest lowest
	n     uint8  // how many of them
	width uint8  // of the next code
	last  uint32 // newest entry of the code table
}

// put writes one code.
func (w *lzwWriter) put(code uint32) {
	w.bits |= uint64(code) << w.n
	w.n += w.width
	if w.n >= 32 {
		w.out = binary.LittleEndian.AppendUint32(w.out, uint32(w.bits))
		w.bits >>= 32
		w.n -= 32
	}
}

// enter makes the next code an entry of the table. If none is left it writes a
// clear code instead and reports false: the table is empty.
func (w *lzwWriter) enter() bool {
	w.last++
	if w.last == 1<<w.width {
		w.width++
	}
	if w.last < lzwCodes-1 {
		return true
	}
	w.put(lzwClear)
	w.width, w.last = lzwMinWidth, lzwEnd
	return false
}

// finish writes what is left over.
func (w *lzwWriter) finish() {
	for ; w.n > 0; w.n -= min(w.n, 8) {
		w.out = append(w.out, byte(w.bits))
		w.bits >>= 8
	}
}

// full reports whether more was written than is allowed.
func (w *lzwWriter) full() bool {
	return len(w.out) > w.most
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
	d := lzwDecoders.Get().(*lzwDecoder)
	defer lzwDecoders.Put(d)
	return d.decode(dst, src, len(dst)+most)
}

// decode appends to out up to a length of most.
func (d *lzwDecoder) decode(out, src []byte, most int) ([]byte, error) {
	in := lzwReader{src: src}
	width, last := uint8(lzwMinWidth), uint32(lzwEnd) // last is the newest entry
	var previous lzwString                            // size 0: there is none to be extended
	for {
		if in.n < width && !in.fill(width) {
			return out, errLZWEnd
		}
		code := in.take(width)
		at := len(out)
		if previous.size > 0 { // the newest entry ends with the byte that is about to come
			d.entries[last%lzwCodes] = lzwString{previous.start, previous.size + 1}
		}
		switch {
		case code < lzwClear:
			if at == most {
				return out, errLZWLimit
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
			if at+int(s.size) > most {
				return out, errLZWLimit
			}
			out = appendWithin(out, s, most)
		}
		previous = lzwString{uint32(at), uint32(len(out) - at)}
		last++
		if last == 1<<width {
			if width < lzwMaxWidth {
				width++
			} else { // the table is full, and stays as it is until it is cleared
				last--
				previous.size = 0
			}
		}
	}
}

// appendWithin appends a piece of out to it, the last byte of which may be the
// first that it appends. The memory at least doubles when it has to grow, as far as
// most allows.
func appendWithin(out []byte, s lzwString, most int) []byte {
	const short = 16
	at, start, size := len(out), int(s.start), int(s.size)
	if cap(out)-at < size+short {
		out = slices.Grow(out, max(size+short, min(at, most-at)))
	}
	end := at + size
	room := out[:end+short]
	if size > short {
		copy(room[at:end], room[start:])
	} else {
		// Most strings are short. Two fixed moves take half the time of a call of
		// copy; what they write beyond the end is written over by the next.
		low, high := binary.LittleEndian.Uint64(room[start:]), binary.LittleEndian.Uint64(room[start+8:])
		binary.LittleEndian.PutUint64(room[at:], low)
		binary.LittleEndian.PutUint64(room[at+8:], high)
	}
	if start+size > at {
		room[end-1] = room[at]
	}
	return room[:end]
}

// lzwReader unpacks codes from bytes.
type lzwReader struct {
	src  []byte // not yet in bits
	bits uint64 // not yet taken, the next lowest
	n    uint8  // how many of them
}

// fill takes bytes in until there are width bits at least, and reports whether
// there are.
func (r *lzwReader) fill(width uint8) bool {
	if len(r.src) >= 4 { // n is less than 12
		r.bits |= uint64(binary.LittleEndian.Uint32(r.src)) << r.n
		r.src = r.src[4:]
		r.n += 32
		return true
	}
	for ; len(r.src) > 0 && r.n < width; r.src = r.src[1:] {
		r.bits |= uint64(r.src[0]) << r.n
		r.n += 8
	}
	return r.n >= width
}

// take removes one code, of which all bits must be there.
func (r *lzwReader) take(width uint8) uint32 {
	code := uint32(r.bits & (1<<width - 1))
	r.bits >>= width
	r.n -= width
	return code
}
