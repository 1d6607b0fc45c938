package memberlist

import (
	"encoding/binary"
	"fmt"
	"math"
)

// This file holds as much of MessagePack as the messages need: writing values in
// the one form that nodes write (W6), reading back exactly that form, and
// measuring values of any form (W7).

const (
	maxUint8  = math.MaxUint8
	maxUint16 = math.MaxUint16
	maxUint32 = math.MaxUint32
)

// First bytes of MessagePack values. The fix forms carry a small size or value in
// their low bits.
const (
	mpFixMap   = 0x80
	mpFixArray = 0x90
	mpFixRaw   = 0xa0
	mpNil      = 0xc0
	mpUnused   = 0xc1
	mpFalse    = 0xc2
	mpTrue     = 0xc3
	mpBin8     = 0xc4
	mpBin16    = 0xc5
	mpBin32    = 0xc6
	mpExt8     = 0xc7
	mpExt16    = 0xc8
	mpExt32    = 0xc9
	mpFloat32  = 0xca
	mpFloat64  = 0xcb
	mpUint8    = 0xcc
	mpUint16   = 0xcd
	mpUint32   = 0xce
	mpUint64   = 0xcf
	mpInt8     = 0xd0
	mpInt16    = 0xd1
	mpInt32    = 0xd2
	mpInt64    = 0xd3
	mpFixExt1  = 0xd4
	mpFixExt16 = 0xd8
	mpStr8     = 0xd9
	mpRaw16    = 0xda
	mpRaw32    = 0xdb
	mpArray16  = 0xdc
	mpArray32  = 0xdd
	mpMap16    = 0xde
	mpMap32    = 0xdf
	mpNegative = 0xe0 // and up: −32 to −1
)

// appendUint appends an unsigned field in its smallest unsigned form.
func appendUint(dst []byte, v uint32) []byte {
	switch {
	case v < 0x80:
		return append(dst, byte(v))
	case v <= maxUint8:
		return append(dst, mpUint8, byte(v))
	case v <= maxUint16:
		return append(dst, mpUint16, byte(v>>8), byte(v))
	default:
		return append(dst, mpUint32, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
}

// appendInt appends a signed field in its smallest signed form: 128 is d1 0080,
// not cc 80.
func appendInt(dst []byte, v int64) []byte {
	switch {
	case -32 <= v && v <= math.MaxInt8:
		return append(dst, byte(v))
	case v == int64(int8(v)):
		return append(dst, mpInt8, byte(v))
	case v == int64(int16(v)):
		return append(dst, mpInt16, byte(v>>8), byte(v))
	case v == int64(int32(v)):
		return binary.BigEndian.AppendUint32(append(dst, mpInt32), uint32(v))
	default:
		return binary.BigEndian.AppendUint64(append(dst, mpInt64), uint64(v))
	}
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, mpTrue)
	}
	return append(dst, mpFalse)
}

// appendBytes appends a byte field; nil and empty differ on the wire.
func appendBytes(dst, v []byte) []byte {
	if v == nil {
		return append(dst, mpNil)
	}
	return append(appendRawHeader(dst, len(v)), v...)
}

// appendRawHeader appends what stands before the n bytes of a text or byte field.
func appendRawHeader(dst []byte, n int) []byte {
	switch {
	case n < 32:
		return append(dst, mpFixRaw|byte(n))
	case n <= maxUint16:
		return append(dst, mpRaw16, byte(n>>8), byte(n))
	default:
		return binary.BigEndian.AppendUint32(append(dst, mpRaw32), uint32(n))
	}
}

// The readers below take one thing each from b[at:], in the one form in which
// nodes write it, and return where it ends. The first surprise leads nowhere, and
// from there on every reader fails: so a message is read without a question in
// between, and whoever reads it asks once, at the end. Handing the position on in
// registers rather than in a struct saves a third of the time: an alive message
// takes 23 ns.

// nowhere is the position behind something that was not there. It is beyond the
// end of any input.
const nowhere = math.MaxInt32

// literal passes over the given bytes.
func literal(b []byte, at int, s string) int {
	if len(b)-at < len(s) || string(b[at:at+len(s)]) != s {
		return nowhere
	}
	return at + len(s)
}

// readMapSize reads the head of a map of less than 16 entries.
func readMapSize(b []byte, at int) (n, next int) {
	if len(b) <= at || b[at]&0xf0 != mpFixMap {
		return 0, nowhere
	}
	return int(b[at] & 0x0f), at + 1
}

func readBool(b []byte, at int) (v bool, next int) {
	if len(b) <= at || b[at]&^1 != mpFalse {
		return false, nowhere
	}
	return b[at] == mpTrue, at + 1
}

// readUint reads an unsigned field of at most the given value.
func readUint(b []byte, at int, most uint32) (v uint32, next int) {
	if len(b) > at && b[at] < 0x80 {
		return uint32(b[at]), at + 1
	}
	return readWideUint(b, at, most)
}

// readWideUint reads an unsigned field that takes more than one byte.
func readWideUint(b []byte, at int, most uint32) (v uint32, next int) {
	var least uint32
	switch have := len(b) - at; {
	case have >= 2 && b[at] == mpUint8:
		v, least, next = uint32(b[at+1]), 0x80, at+2
	case have >= 3 && b[at] == mpUint16:
		v, least, next = uint32(binary.BigEndian.Uint16(b[at+1:])), maxUint8+1, at+3
	case have >= 5 && b[at] == mpUint32:
		v, least, next = binary.BigEndian.Uint32(b[at+1:]), maxUint16+1, at+5
	}
	if least == 0 || v < least || v > most {
		return 0, nowhere
	}
	return v, next
}

// readInt reads a signed field.
func readInt(b []byte, at int) (v, next int) {
	if len(b) > at && b[at] < 0x80 {
		return int(b[at]), at + 1
	}
	return readWideInt(b, at)
}

// readWideInt reads a signed field that is negative or takes more than one byte.
func readWideInt(b []byte, at int) (v, next int) {
	switch {
	case len(b) <= at:
		return 0, nowhere
	case b[at] >= mpNegative:
		return int(int8(b[at])), at + 1
	case b[at] < mpInt8 || b[at] > mpInt64:
		return 0, nowhere
	}
	next = at + 1 + 1<<(b[at]-mpInt8)
	if len(b) < next {
		return 0, nowhere
	}
	wide := int64(int8(b[at+1]))
	for _, digit := range b[at+2 : next] {
		wide = wide<<8 | int64(digit)
	}
	var written [9]byte
	smallest := len(appendInt(written[:0], wide)) == next-at
	if !smallest || wide != int64(int(wide)) {
		return 0, nowhere
	}
	return int(wide), next
}

// readBytes reads a byte field, which is a view of b; nil stays nil.
func readBytes(b []byte, at int) (v []byte, next int) {
	if len(b) > at && b[at] == mpNil {
		return nil, at + 1
	}
	return readRaw(b, at)
}

// readText reads a text field, which is a view of b.
func readText(b []byte, at int) (v borrowed, next int) {
	raw, next := readRaw(b, at)
	return borrowBytes(raw), next
}

// readRaw reads a text or byte field that is not nil.
func readRaw(b []byte, at int) (v []byte, next int) {
	if len(b) <= at || b[at]&0xe0 != mpFixRaw {
		return readLongRaw(b, at)
	}
	end := at + 1 + int(b[at]&0x1f)
	if end > len(b) {
		return nil, nowhere
	}
	return b[at+1 : end : end], end
}

// readLongRaw reads a raw value of 32 bytes and more.
func readLongRaw(b []byte, at int) (v []byte, next int) {
	var start int
	var n, least uint32
	switch have := len(b) - at; {
	case have >= 3 && b[at] == mpRaw16:
		n, least, start = uint32(binary.BigEndian.Uint16(b[at+1:])), 32, at+3
	case have >= 5 && b[at] == mpRaw32:
		n, least, start = binary.BigEndian.Uint32(b[at+1:]), maxUint16+1, at+5
	}
	if least == 0 || n < least || uint64(n) > uint64(len(b)-start) {
		return nil, nowhere
	}
	end := start + int(n)
	return b[start:end:end], end
}

// valueSize measures the value of any form at the beginning of b.
func valueSize(b []byte) (int, error) {
	var e extent
	done, err := e.measure(b)
	if err == nil && !done {
		err = fmt.Errorf("%w: input ends inside a value", ErrMalformed)
	}
	return e.size, err
}

// extent is the measure of one value whose bytes come in bit by bit. It counts
// the values that are still to come rather than descending into them, so nesting
// costs nothing. The zero value has seen nothing yet.
type extent struct {
	size    int // bytes of the parts that are complete
	begun   bool
	pending uint64 // values still missing, once begun
}

// measure goes on where it stopped before; b holds the value from its first byte
// on. It reports whether the value is complete, which is then b[:size].
func (e *extent) measure(b []byte) (done bool, err error) {
	if !e.begun {
		e.begun, e.pending = true, 1
	}
	for e.pending > 0 {
		size, inner, err := headSize(b[e.size:])
		if err != nil {
			return false, err
		}
		if size == 0 || size > uint64(len(b)-e.size) {
			return false, nil
		}
		e.size += int(size)
		e.pending += inner - 1
	}
	return true, nil
}

// headSize tells of the value at the beginning of b how many bytes it has without
// the values inside it, and how many those are. Size 0 means that b is too short
// to tell; a size beyond the end of b is possible.
func headSize(b []byte) (size, inner uint64, err error) {
	switch {
	case len(b) == 0:
		return 0, 0, nil
	case b[0] == mpUnused:
		return 0, 0, fmt.Errorf("%w: byte %#x begins no value", ErrMalformed, b[0])
	case b[0] < mpNil || b[0] >= mpNegative:
		size, inner = fixSize(b[0])
	default:
		size, inner = wideSize(b)
	}
	return size, inner, nil
}

// fixSize is headSize for the values whose first byte tells it all.
func fixSize(first byte) (size, inner uint64) {
	switch {
	case first < mpFixMap || first >= mpNegative: // an integer
		return 1, 0
	case first < mpFixArray:
		return 1, 2 * uint64(first&0x0f)
	case first < mpFixRaw:
		return 1, uint64(first & 0x0f)
	}
	return 1 + uint64(first&0x1f), 0
}

// wideSize is headSize for the values that wideForms describes.
func wideSize(b []byte) (size, inner uint64) {
	f := wideForms[b[0]-mpNil]
	head := 1 + int(f.lengthBytes)
	if len(b) < head {
		return 0, 0
	}
	var n uint64
	for _, digit := range b[1:head] {
		n = n<<8 | uint64(digit)
	}
	size = uint64(head) + uint64(f.fixed)
	switch {
	case n == 0 && f.lengthBytes > 0 && f.fixed > 0:
		// go-msgpack takes the value behind an empty extension for its content, and
		// the two must agree.
		return size, 1
	case f.unit == 0:
		return size + n, 0
	}
	return size, n * uint64(f.unit)
}

// wideForms describes the values that start with c0 to df: the bytes of a length
// that follows, the bytes that come besides, and whether the length counts bytes
// (unit 0) or values (1 for an array, 2 for a map, whose entries are two each).
var wideForms = [mpNegative - mpNil]struct{ lengthBytes, fixed, unit uint8 }{
	mpBin8 - mpNil:        {lengthBytes: 1},
	mpBin16 - mpNil:       {lengthBytes: 2},
	mpBin32 - mpNil:       {lengthBytes: 4},
	mpExt8 - mpNil:        {lengthBytes: 1, fixed: 1},
	mpExt16 - mpNil:       {lengthBytes: 2, fixed: 1},
	mpExt32 - mpNil:       {lengthBytes: 4, fixed: 1},
	mpFloat32 - mpNil:     {fixed: 4},
	mpFloat64 - mpNil:     {fixed: 8},
	mpUint8 - mpNil:       {fixed: 1},
	mpUint16 - mpNil:      {fixed: 2},
	mpUint32 - mpNil:      {fixed: 4},
	mpUint64 - mpNil:      {fixed: 8},
	mpInt8 - mpNil:        {fixed: 1},
	mpInt16 - mpNil:       {fixed: 2},
	mpInt32 - mpNil:       {fixed: 4},
	mpInt64 - mpNil:       {fixed: 8},
	mpFixExt1 - mpNil:     {fixed: 1 + 1},
	mpFixExt1 - mpNil + 1: {fixed: 1 + 2},
	mpFixExt1 - mpNil + 2: {fixed: 1 + 4},
	mpFixExt1 - mpNil + 3: {fixed: 1 + 8},
	mpFixExt16 - mpNil:    {fixed: 1 + 16},
	mpStr8 - mpNil:        {lengthBytes: 1},
	mpRaw16 - mpNil:       {lengthBytes: 2},
	mpRaw32 - mpNil:       {lengthBytes: 4},
	mpArray16 - mpNil:     {lengthBytes: 2, unit: 1},
	mpArray32 - mpNil:     {lengthBytes: 4, unit: 1},
	mpMap16 - mpNil:       {lengthBytes: 2, unit: 2},
	mpMap32 - mpNil:       {lengthBytes: 4, unit: 2},
}
