package memberlist

import (
	"hash/maphash"
	"strings"
	"unsafe"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// borrowed is text in memory that somebody else owns and will use again: the text
// fields of a decoded message lie in the packet or stream that it was read from. It
// can be compared, looked up and encoded as it is. To keep it, or to give it to a
// transport, a delegate, a logger or an error, take a copy with own: there is no
// conversion that does not copy.
//
// Nothing outside this file touches the field, and a borrowed text never becomes an
// argument of a type that would keep it, such as any. A test checks both.
type borrowed struct{ lent string }

// borrow lends text that is not going to change.
func borrow(s string) borrowed { return borrowed{s} }

// borrowBytes lends bytes as text, until somebody writes to them.
func borrowBytes(b []byte) borrowed { return borrowed{textOf(b)} }

// textOf makes bytes a text that owns them: nobody writes to them any more.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// own is a copy that may be kept.
func (b borrowed) own() string { return strings.Clone(b.lent) }

// String is own, for whoever formats at once.
func (b borrowed) String() string { return b.own() }

// ownUnless is own without a copy if the text is that of known, which is the case
// for most of what comes in a row.
func (b borrowed) ownUnless(known string) string {
	if b.lent == known {
		return known
	}
	return b.own()
}

// is reports whether the text is s.
func (b borrowed) is(s string) bool { return b.lent == s }

func (b borrowed) empty() bool { return b.lent == "" }

func (b borrowed) len() int { return len(b.lent) }

// appendTo appends the text.
func (b borrowed) appendTo(dst []byte) []byte { return append(dst, b.lent...) }

// hash is the hash of the text for a map.
func (b borrowed) hash(seed maphash.Seed) uint64 { return maphash.String(seed, b.lent) }

// lookUp is the entry of m under a borrowed key.
func lookUp[V any](m map[string]V, key borrowed) (V, bool) {
	v, ok := m[key.lent]
	return v, ok
}

// appendText appends a text field.
func appendText(dst []byte, v borrowed) []byte {
	return append(appendRawHeader(dst, len(v.lent)), v.lent...)
}

// CodecDecodeSelf lets the general decoder read a borrowed text like a string.
func (b *borrowed) CodecDecodeSelf(d *codec.Decoder) { d.MustDecode(&b.lent) }

// CodecEncodeSelf is the other half of what the general decoder asks for.
func (b *borrowed) CodecEncodeSelf(e *codec.Encoder) { e.MustEncode(b.lent) }
