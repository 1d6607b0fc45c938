// Package wiretap reads and writes the bytes that nodes exchange, as far as the
// tests need it: it takes packets apart into their messages, and it makes
// push/pull streams. It shares nothing with either library, so that it can
// judge both.
package wiretap

import (
	"bytes"
	"compress/lzw"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Message types on packets.
const (
	Ping         byte = 0
	IndirectPing byte = 1
	Ack          byte = 2
	Suspect      byte = 3
	Alive        byte = 4
	Dead         byte = 5
	PushPull     byte = 6
	compound     byte = 7
	User         byte = 8
	compressed   byte = 9
	frame        byte = 10
	Nack         byte = 11
	checksum     byte = 12
	label        byte = 244
)

var errShort = errors.New("wiretap: ends too early")

// Packet is a packet taken apart.
type Packet struct {
	Label      string
	Sealed     bool
	SealedAs   byte // version of the sealed box
	Checked    bool // there was a checksum
	Compressed bool
	Messages   [][]byte // type byte first
}

// Types gives the type bytes of the messages.
func (p Packet) Types() []byte {
	var types []byte
	for _, m := range p.Messages {
		types = append(types, m[0])
	}
	return types
}

// Open takes a packet apart. The keys are tried in order; without keys the
// packet is taken as plain.
func Open(b []byte, keys [][]byte) (Packet, error) {
	var p Packet
	if len(b) > 0 && b[0] == label {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return p, errShort
		}
		n := 2 + int(b[1])
		p.Label, b = string(b[2:n]), b[n:]
	}
	if len(keys) > 0 {
		plain, err := unseal(b, keys, []byte(p.Label))
		if err != nil {
			return p, err
		}
		p.Sealed, p.SealedAs, b = true, b[0], plain
	}
	if len(b) >= 5 && b[0] == checksum {
		if crc32.ChecksumIEEE(b[5:]) != binary.BigEndian.Uint32(b[1:]) {
			return p, errors.New("wiretap: checksum mismatch")
		}
		p.Checked, b = true, b[5:]
	}
	return p, p.unpack(b)
}

func (p *Packet) unpack(b []byte) error {
	if len(b) == 0 {
		return errShort
	}
	switch b[0] {
	case compressed:
		p.Compressed = true
		plain, err := inflate(b[1:])
		if err != nil {
			return err
		}
		return p.unpack(plain)
	case compound:
		return p.split(b[1:])
	}
	p.Messages = append(p.Messages, b)
	return nil
}

func (p *Packet) split(b []byte) error {
	if len(b) < 1 || len(b) < 1+2*int(b[0]) {
		return errShort
	}
	lengths, parts := b[1:1+2*int(b[0])], b[1+2*int(b[0]):]
	for ; len(lengths) > 0; lengths = lengths[2:] {
		n := int(binary.BigEndian.Uint16(lengths))
		if n > len(parts) {
			return errShort
		}
		if err := p.unpack(parts[:n]); err != nil {
			return err
		}
		parts = parts[n:]
	}
	return nil
}

// inflate undoes the compression of a body in the form that nodes write.
func inflate(body []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(body, []byte("\x82\xa4Algo\x00\xa3Buf"))
	if !ok {
		return nil, errors.New("wiretap: unusual compressed message")
	}
	buf, err := raw(rest)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(lzw.NewReader(bytes.NewReader(buf), lzw.LSB, 8))
}

// raw reads a MessagePack byte string of the old specification.
func raw(b []byte) ([]byte, error) {
	head, n := 1, 0
	switch {
	case len(b) > 0 && b[0]&0xe0 == 0xa0:
		n = int(b[0] & 0x1f)
	case len(b) > 2 && b[0] == 0xda:
		head, n = 3, int(binary.BigEndian.Uint16(b[1:]))
	case len(b) > 4 && b[0] == 0xdb:
		head, n = 5, int(binary.BigEndian.Uint32(b[1:]))
	default:
		return nil, fmt.Errorf("wiretap: no byte string in % x", b[:min(8, len(b))])
	}
	if len(b) < head+n {
		return nil, errShort
	}
	return b[head : head+n], nil
}

func unseal(b []byte, keys [][]byte, aad []byte) ([]byte, error) {
	if len(b) < 29 {
		return nil, errShort
	}
	for _, key := range keys {
		box, err := aead(key)
		if err != nil {
			return nil, err
		}
		plain, err := box.Open(nil, b[1:13], b[13:], aad)
		if err != nil {
			continue
		}
		if b[0] == 0 && len(plain) > 0 {
			plain = plain[:len(plain)-int(plain[len(plain)-1])]
		}
		return plain, nil
	}
	return nil, errors.New("wiretap: no key opens it")
}

func aead(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// State is one node in a push/pull.
type State struct {
	Name        string
	Addr        []byte
	Port        uint16
	Meta        string
	Incarnation uint8 // below 128
	Protocol    uint8
}

// JoinStream makes all that a joining node writes: label header, frame, the
// states and the user state. Without key it is plain.
func JoinStream(states []State, userState []byte, labelText string, key []byte, protocol uint8) ([]byte, error) {
	var out []byte
	if labelText != "" {
		out = append(append(out, label, byte(len(labelText))), labelText...)
	}
	body := joinBody(states, userState)
	if key == nil {
		return append(out, body...), nil
	}
	version, box := byte(1), 29+len(body)
	if protocol == 1 {
		pad := 16 - len(body)%16
		version, box = 0, box+pad
		body = append(body, bytes.Repeat([]byte{byte(pad)}, pad)...)
	}
	head := binary.BigEndian.AppendUint32([]byte{frame}, uint32(box))
	gcm, err := aead(key)
	if err != nil {
		return nil, err
	}
	nonce := []byte("twelve bytes")
	out = append(append(append(out, head...), version), nonce...)
	return gcm.Seal(out, nonce, body, append(head, labelText...)), nil
}

func joinBody(states []State, userState []byte) []byte {
	b := []byte{PushPull, 0x83}
	b = append(appendRaw(b, "Join"), 0xc3)
	b = appendInt(appendRaw(b, "Nodes"), len(states))
	b = appendInt(appendRaw(b, "UserStateLen"), len(userState))
	for _, s := range states {
		b = append(b, 0x87)
		b = appendRaw(appendRaw(b, "Addr"), string(s.Addr))
		b = append(appendRaw(b, "Incarnation"), s.Incarnation)
		b = appendRaw(appendRaw(b, "Meta"), s.Meta)
		b = appendRaw(appendRaw(b, "Name"), s.Name)
		b = binary.BigEndian.AppendUint16(append(appendRaw(b, "Port"), 0xcd), s.Port)
		b = append(appendRaw(b, "State"), 0)
		b = appendRaw(appendRaw(b, "Vsn"), string([]byte{1, 5, s.Protocol, 0, 0, 0}))
	}
	return append(b, userState...)
}

func appendRaw(b []byte, s string) []byte {
	if len(s) < 32 {
		return append(append(b, 0xa0|byte(len(s))), s...)
	}
	return append(binary.BigEndian.AppendUint16(append(b, 0xda), uint16(len(s))), s...)
}

func appendInt(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(n))
}
