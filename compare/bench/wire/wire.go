// Package wire makes the bytes that nodes send each other, by hand, so that the
// benchmarks can feed either library with the same input and neither has a
// part in making it. Rule numbers are those of the wire format: W6 and so on.
package wire

import (
	"bytes"
	"compress/lzw"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// Message types (W5).
const (
	ping       = 0
	ack        = 2
	suspect    = 3
	alive      = 4
	dead       = 5
	pushPull   = 6
	compound   = 7
	user       = 8
	compressed = 9
	encrypted  = 10
	label      = 244
)

// Version is what a node announces that speaks protocol version 2 (W66).
var Version = []byte{1, 5, 2, 0, 0, 0}

// Member is a node as alive messages and push/pull tell it.
type Member struct {
	Name        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Incarnation uint32
}

func appendString[T ~string | ~[]byte](dst []byte, s T) []byte {
	switch n := len(s); {
	case n < 32:
		dst = append(dst, 0xa0|byte(n))
	case n <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, 0xda), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, 0xdb), uint32(n))
	}
	return append(dst, s...)
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 0xc0)
	}
	return appendString(dst, b)
}

func appendUint(dst []byte, v uint32) []byte {
	switch {
	case v <= 0x7f:
		return append(dst, byte(v))
	case v <= 0xff:
		return append(dst, 0xcc, byte(v))
	case v <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, 0xcd), uint16(v))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xce), v)
}

// appendInt is for counts, which are signed on the wire.
func appendInt(dst []byte, v int) []byte {
	switch {
	case v <= 0x7f:
		return append(dst, byte(v))
	case v <= 0x7fff:
		return binary.BigEndian.AppendUint16(append(dst, 0xd1), uint16(v))
	case v <= 0x7fffffff:
		return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(v))
}

// Alive is W14.
func Alive(m Member) []byte {
	b := []byte{alive, 0x86}
	b = appendBytes(appendString(b, "Addr"), m.Addr)
	b = appendUint(appendString(b, "Incarnation"), m.Incarnation)
	b = appendBytes(appendString(b, "Meta"), m.Meta)
	b = appendString(appendString(b, "Node"), m.Name)
	b = appendUint(appendString(b, "Port"), uint32(m.Port))
	return appendBytes(appendString(b, "Vsn"), Version)
}

// Suspect is W13.
func Suspect(name string, incarnation uint32, from string) []byte {
	return accusation(suspect, name, incarnation, from)
}

// Dead is W13.
func Dead(name string, incarnation uint32, from string) []byte {
	return accusation(dead, name, incarnation, from)
}

func accusation(kind byte, name string, incarnation uint32, from string) []byte {
	b := []byte{kind, 0x83}
	b = appendString(appendString(b, "From"), from)
	b = appendUint(appendString(b, "Incarnation"), incarnation)
	return appendString(appendString(b, "Node"), name)
}

// Ping is W9, with the source fields.
func Ping(seq uint32, name string, source Member) []byte {
	b := []byte{ping, 0x85}
	b = appendString(appendString(b, "Node"), name)
	b = appendUint(appendString(b, "SeqNo"), seq)
	b = appendBytes(appendString(b, "SourceAddr"), source.Addr)
	b = appendString(appendString(b, "SourceNode"), source.Name)
	return appendUint(appendString(b, "SourcePort"), uint32(source.Port))
}

// Ack is W11 without a payload.
func Ack(seq uint32) []byte {
	b := append([]byte{ack, 0x82}, append(appendString(nil, "Payload"), 0xc0)...)
	return appendUint(appendString(b, "SeqNo"), seq)
}

// SeqNo finds the sequence number in a plain ping.
func SeqNo(packet []byte) (uint32, error) {
	_, rest, ok := bytes.Cut(packet, []byte("\xa5SeqNo"))
	if !ok || len(rest) < 5 {
		return 0, fmt.Errorf("no SeqNo in packet %x", packet)
	}
	switch c := rest[0]; {
	case c <= 0x7f:
		return uint32(c), nil
	case c == 0xcc:
		return uint32(rest[1]), nil
	case c == 0xcd:
		return uint32(binary.BigEndian.Uint16(rest[1:])), nil
	case c == 0xce:
		return binary.BigEndian.Uint32(rest[1:]), nil
	}
	return 0, fmt.Errorf("SeqNo is not a number: %x", rest[0])
}

// User is W15.
func User(payload []byte) []byte {
	return append([]byte{user}, payload...)
}

// Compound is W16.
func Compound(msgs [][]byte) []byte {
	b := []byte{compound, byte(len(msgs))}
	for _, m := range msgs {
		b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
	}
	return append(b, bytes.Join(msgs, nil)...)
}

// Fill packs as many messages as fit into compounds of at most size bytes each,
// in order.
func Fill(msgs [][]byte, size int) (packets [][]byte, perPacket []int) {
	for len(msgs) > 0 {
		n, used := 0, 2
		for n < len(msgs) && n < 255 && used+2+len(msgs[n]) <= size {
			used += 2 + len(msgs[n])
			n++
		}
		packets = append(packets, Compound(msgs[:n]))
		perPacket = append(perPacket, n)
		msgs = msgs[n:]
	}
	return packets, perPacket
}

// Compress is W19.
func Compress(msg []byte) []byte {
	var buf bytes.Buffer
	w := lzw.NewWriter(&buf, lzw.LSB, 8)
	_, _ = w.Write(msg) // a bytes.Buffer takes everything
	_ = w.Close()
	b := append([]byte{compressed, 0x82}, append(appendString(nil, "Algo"), 0)...)
	return appendBytes(appendString(b, "Buf"), buf.Bytes())
}

// Seal is a box of W27, version 1, with the given additional data.
func Seal(key, aad, msg []byte) []byte {
	aead := AEAD(key)
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	return aead.Seal(append([]byte{1}, nonce...), nonce, msg, aad)
}

// AEAD is the cipher of boxes.
func AEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the benchmarks' own keys
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// SealFrame is the stream frame of W36.
func SealFrame(key []byte, label string, msg []byte) []byte {
	head := binary.BigEndian.AppendUint32([]byte{encrypted}, uint32(29+len(msg)))
	aad := append(bytes.Clone(head), label...)
	return append(head, Seal(key, aad, msg)...)
}

// Label is W38.
func Label(name string, packet []byte) []byte {
	b := append([]byte{label, byte(len(name))}, name...)
	return append(b, packet...)
}

// PushPull is W51 with all members alive.
func PushPull(members []Member, join bool, userState []byte) []byte {
	b := []byte{pushPull, 0x83}
	b = append(appendString(b, "Join"), 0xc2)
	if join {
		b[len(b)-1] = 0xc3
	}
	b = appendInt(appendString(b, "Nodes"), len(members))
	b = appendInt(appendString(b, "UserStateLen"), len(userState))
	for _, m := range members {
		b = append(b, 0x87)
		b = appendBytes(appendString(b, "Addr"), m.Addr)
		b = appendUint(appendString(b, "Incarnation"), m.Incarnation)
		b = appendBytes(appendString(b, "Meta"), m.Meta)
		b = appendString(appendString(b, "Name"), m.Name)
		b = appendUint(appendString(b, "Port"), uint32(m.Port))
		b = append(appendString(b, "State"), 0)
		b = appendBytes(appendString(b, "Vsn"), Version)
	}
	return append(b, userState...)
}
