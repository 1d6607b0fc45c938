package hostile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/seed-83836a96/memberlist/compare/bench/wire"
)

// run is text of one letter, which compresses well.
func run(i, length int) string { return strings.Repeat(string(rune('a'+i%26)), length) }

// sizes of values: what a packet unpacks to may be anything in v0.7.0, and is bounded
// here in relation to its size, so that both sides of that bound are needed.
func sizeOf(i int) int {
	if i%2 == 0 {
		return 16 << 20
	}
	return 900 << 10
}

// member is a made-up member with an address of the attacker's.
func member(name string, incarnation uint32) wire.Member {
	return wire.Member{Name: name, Addr: []byte{10, 9, 0, 1}, Port: 7946, Incarnation: incarnation}
}

// each makes n messages.
func each(n int, message func(i int) []byte) [][]byte {
	messages := make([][]byte, n)
	for i := range messages {
		messages[i] = message(i)
	}
	return messages
}

// many is n times the same message in one packet: compounds of compounds, compressed.
func many(n int, message []byte) []byte {
	inner := each(255, func(int) []byte { return message })
	return wire.Compress(wire.Compound(each(n/255, func(int) []byte { return wire.Compound(inner) })))
}

// ping is the smallest that is answered: an empty map.
var ping = []byte{0, 0x80}

// indirectPing has a node ping an address.
func indirectPing(to string, port uint16) []byte {
	b := []byte("\x01\x82\xa6Target\xa4" + to + "\xa4Port\xcd")
	return binary.BigEndian.AppendUint16(b, port)
}

// pushPullHead is how a full exchange begins that has so many entries and bytes of
// user state.
func pushPullHead(entries, state uint32) []byte {
	b := []byte("\x06\x83\xa4Join\xc2\xa5Nodes\xd2")
	b = binary.BigEndian.AppendUint32(b, entries)
	b = append(b, "\xacUserStateLen\xd2"...)
	return binary.BigEndian.AppendUint32(b, state)
}

// frameHead begins a sealed frame of so many bytes.
func frameHead(size uint32) []byte { return binary.BigEndian.AppendUint32([]byte{10}, size) }

// bomb is a compressed message that takes a decoder 40 MiB of work and fails then:
// the code for the longest run of a byte, again and again, without an end. It is
// compressed once more.
func bomb() []byte {
	const unpacked, ramp = 40 << 20, 1010 // a longer ramp would be more to send
	w := &codes{width: 9, next: 257}
	w.put(256) // clear
	w.put('a')
	for have, longest := 1, 1; have <= unpacked; have += longest {
		longest = min(longest+1, ramp)
		w.put(256 + longest)
	}
	packed := append([]byte("\x09\x82\xa4Algo\x00\xa3Buf\xc6"), binary.BigEndian.AppendUint32(nil, uint32(len(w.out)))...)
	return wire.Compress(append(packed, w.out...))
}

// codes writes an LZW stream code by code.
type codes struct {
	out   []byte
	bits  uint64
	have  int
	width int
	next  int // the entry that the decoder makes next
}

func (w *codes) put(code int) {
	w.bits |= uint64(code) << w.have
	for w.have += w.width; w.have >= 8; w.have -= 8 {
		w.out = append(w.out, byte(w.bits))
		w.bits >>= 8
	}
	if code == 256 {
		return
	}
	if w.next++; w.next == 1<<w.width {
		if w.width < 12 {
			w.width++
		} else {
			w.next--
		}
	}
}

// relabelled is a sealed message whose version, which is not authenticated, was
// changed from 1 to 0, so that its last bytes look like padding.
func relabelled(key []byte, length int) []byte {
	text := append(bytes.Repeat([]byte{'x'}, length-1), 1)
	box := wire.Seal(key, nil, wire.User(text))
	box[0] = 0
	return box
}

// name is the i-th of many names.
func name(i int) string { return fmt.Sprintf("made-up-%05d", i) }
