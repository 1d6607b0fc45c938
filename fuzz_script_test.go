package memberlist

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
)

// script turns the bytes of a fuzzer into choices. When they have run out every choice
// is the first one.
type script struct {
	rest  []byte
	fresh int // names that were made up
}

func (s *script) empty() bool { return len(s.rest) == 0 }

func (s *script) next() byte {
	if s.empty() {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b
}

func (s *script) below(n int) int { return int(s.next()) % n }

// once is true for one byte in n.
func (s *script) once(n int) bool { return s.below(n) == n-1 }

func (s *script) uint32() uint32 {
	var b [4]byte
	for i := range b {
		b[i] = s.next()
	}
	return binary.BigEndian.Uint32(b[:])
}

// raw is the next bytes as they are, up to 255.
func (s *script) raw() []byte {
	n := min(int(s.next()), len(s.rest))
	taken := s.rest[:n]
	s.rest = s.rest[n:]
	return bytes.Clone(taken)
}

// Whom the inputs speak of: the node under test, members that answer or do not, and
// addresses that nobody has.
var (
	nodeAddr     = net.IP{127, 0, 0, 1}
	friendAddr   = net.IP{127, 0, 0, 2}
	muteAddr     = net.IP{127, 0, 0, 3}
	hostileAddr  = net.IP{127, 0, 0, 4}
	outsideAddr  = net.IP{192, 0, 2, 7}
	noRouteAddr  = net.IP{192, 0, 2, 8}
	scriptedPort = uint16(7946)
)

const hugeText = 20 << 10

func (s *script) name() borrowed {
	switch s.below(20) {
	case 0, 1:
		return borrow("node")
	case 2, 3:
		return borrow("friend")
	case 4, 5:
		return borrow("mute")
	case 6:
		return borrow("hostile")
	case 7:
		return borrow("")
	case 8:
		return borrow("127.0.0.3")
	case 9:
		return borrow("line\n[ERR] memberlist: forged\x1b[0m")
	case 10:
		return borrow(strings.Repeat("n", maxNameLen))
	case 11:
		return borrow(strings.Repeat("n", maxNameLen+1))
	case 12:
		return borrow(strings.Repeat("n", hugeText))
	case 13, 14, 15:
		s.fresh++
		return borrow(fmt.Sprintf("fresh-%d", s.fresh))
	}
	return borrow(fmt.Sprintf("m%d", s.below(8)))
}

func (s *script) addr() []byte {
	switch s.below(16) {
	case 0, 1:
		return friendAddr
	case 2, 3:
		return muteAddr
	case 4:
		return nodeAddr
	case 5:
		return hostileAddr
	case 6:
		return outsideAddr
	case 7:
		return noRouteAddr
	case 8:
		return friendAddr.To16()
	case 9:
		return net.IPv6loopback
	case 10:
		return nil
	case 11:
		return make([]byte, 3)
	case 12:
		return make([]byte, hugeText)
	case 13:
		return net.IPv4zero.To4()
	}
	return net.IP{10, 0, 0, s.next()}
}

func (s *script) port() uint16 {
	if s.once(8) {
		return []uint16{0, 1, 7947, math.MaxUint16}[s.below(4)]
	}
	return scriptedPort
}

func (s *script) incarnation() uint32 {
	bounds := [...]uint32{1, 2, 3, 0, maxAdvance, maxAdvance + 1, maxAdvance + 2, lastIncarnation - 1, lastIncarnation, math.MaxUint32}
	if i := s.below(len(bounds) + 2); i < len(bounds) {
		return bounds[i]
	}
	return s.uint32()
}

func (s *script) meta() []byte {
	switch s.below(8) {
	case 0, 1, 2:
		return nil
	case 3:
		return bytes.Repeat([]byte{s.next()}, MetaMaxSize)
	case 4:
		return make([]byte, MetaMaxSize+1)
	case 5:
		return make([]byte, hugeText)
	}
	return s.raw()
}

func (s *script) versions() []byte {
	switch s.below(8) {
	case 0:
		return nil
	case 1:
		return []byte{1, 5, 9, 0, 0, 9}
	case 2:
		return make([]byte, maxVersionsLen+1)
	case 3:
		return []byte{1, 2, 2, 0, 0, 0}
	case 4:
		return s.raw()
	}
	return []byte{1, 5, 2, 0, 0, 0}
}

// message is one message as packets carry it.
func (s *script) message() []byte {
	switch s.below(12) {
	case 0:
		return s.ping().appendTo(nil)
	case 1:
		m := indirectPing{
			SeqNo: s.uint32(), Target: s.addr(), Port: s.port(), Node: s.name(), Nack: s.once(2),
			SourceAddr: s.addr(), SourcePort: s.port(), SourceNode: s.name(),
		}
		return m.appendTo(nil)
	case 2:
		return (&ack{SeqNo: s.uint32(), Payload: s.meta()}).appendTo(nil)
	case 3:
		return (&nack{SeqNo: s.uint32()}).appendTo(nil)
	case 4:
		return (&suspect{Incarnation: s.incarnation(), Node: s.name(), From: s.name()}).appendTo(nil)
	case 5:
		return (&dead{Incarnation: s.incarnation(), Node: s.name(), From: s.name()}).appendTo(nil)
	case 6: // a departure
		name := s.name()
		return (&dead{Incarnation: s.incarnation(), Node: name, From: name}).appendTo(nil)
	case 7:
		return append([]byte{byte(userMsg)}, s.meta()...)
	case 8:
		return append([]byte{s.next()}, s.raw()...)
	}
	return s.alive().appendTo(nil)
}

func (s *script) ping() *ping {
	return &ping{SeqNo: s.uint32(), Node: s.name(), SourceAddr: s.addr(), SourcePort: s.port(), SourceNode: s.name()}
}

func (s *script) alive() *alive {
	return &alive{
		Incarnation: s.incarnation(), Node: s.name(), Addr: s.addr(), Port: s.port(), Meta: s.meta(), Vsn: s.versions(),
	}
}

// messages is one message, several, or many copies of one.
func (s *script) messages() [][]byte {
	msgs := [][]byte{s.message()}
	switch s.below(6) {
	case 0:
		for range s.below(40) {
			msgs = append(msgs, s.message())
		}
	case 1:
		msgs = slices.Repeat(msgs, 1+s.below(256))
	case 2: // many of one kind, about names that differ
		for range s.below(256) {
			a := aliveOf(fmt.Sprintf("fresh-%d", s.fresh), 1)
			msgs = append(msgs, a.appendTo(nil))
			s.fresh++
		}
	}
	return msgs
}

// content wraps messages as the inside of a packet.
func (s *script) content() []byte {
	if s.once(16) {
		return s.raw()
	}
	msgs := s.messages()
	content := msgs[0]
	if len(msgs) > 1 || s.once(4) {
		content = s.compound(msgs)
	}
	for range s.below(4) {
		content = s.wrap(content)
	}
	return content
}

// compound makes one compound of short messages, and compounds of compounds of many.
func (s *script) compound(msgs [][]byte) []byte {
	msgs = slices.DeleteFunc(msgs, func(m []byte) bool { return len(m) > maxPartLen })
	if len(msgs) > maxCompoundParts {
		half := len(msgs) / 2
		msgs = [][]byte{s.compound(msgs[:half:half]), s.compound(msgs[half:])}
		msgs = slices.DeleteFunc(msgs, func(m []byte) bool { return len(m) > maxPartLen })
	}
	return appendCompound(nil, msgs)
}

// wrap puts one more layer around content, sound or not.
func (s *script) wrap(content []byte) []byte {
	switch s.below(8) {
	case 0:
		return s.compound([][]byte{content})
	case 1:
		return s.compound([][]byte{content, content, content})
	case 2, 3:
		packed, _ := appendCompressed(nil, content, math.MaxInt)
		return packed
	case 4:
		return (&compressed{Algo: s.next(), Buf: s.raw()}).appendTo(nil)
	case 5:
		sum := []byte{byte(checksumMsg), s.next(), 0, 0, 0}
		return append(sum, content...)
	case 6:
		return content[:len(content)*s.below(17)/17]
	}
	if len(content) > 0 {
		content = bytes.Clone(content)
		content[int(s.uint32())%len(content)] ^= 1 << s.below(8)
	}
	return content
}

// dress seals content as a packet of a key holder does it, mostly.
func (s *script) dress(w *wire, content []byte) []byte {
	switch s.below(10) {
	case 0:
		return content
	case 1: // with a key that nobody has
		odd := *w.cfg
		odd.Keyring, _ = NewKeyring(nil, bytes.Repeat([]byte{99}, 16))
		w = newWire(&odd)
	case 2:
		odd := *w.cfg
		odd.Label = "another"
		w = newWire(&odd)
	}
	packet, err := w.sealPacket(nil, content, s.once(3))
	if err != nil {
		return content
	}
	if s.once(12) { // a box of version 1 called one of version 0
		if at := w.labelOverhead(); len(packet) > at {
			packet[at] = 0
		}
	}
	return packet
}

// stream is what somebody writes to a stream.
func (s *script) stream(w *wire) []byte {
	var msg []byte
	switch s.below(8) {
	case 0:
		msg = s.ping().appendTo(nil)
	case 1:
		msg = appendUserMessage(nil, s.meta())
	case 2: // a length that is not true
		msg = append((&userMsgHeader{UserMsgLen: int(int32(s.uint32()))}).appendTo(nil), s.raw()...)
	case 3:
		msg = append([]byte{s.next()}, s.raw()...)
	case 4:
		msg = (&errorReply{Error: s.name()}).appendTo(nil)
	default:
		msg = s.pushPull()
	}
	if s.once(4) {
		msg = s.wrap(msg)
	}
	return s.dressStream(w, msg)
}

func (s *script) pushPull() []byte {
	count := s.below(6)
	if s.once(8) {
		count = int(s.next()) * 8
	}
	user := s.meta()
	header := pushPullHeader{Nodes: count, UserStateLen: len(user), Join: s.once(2)}
	if s.once(8) {
		header.Nodes = int(int32(s.uint32()))
	}
	if s.once(8) {
		header.UserStateLen = int(int32(s.uint32()))
	}
	msg := header.appendTo(nil)
	for i := range count {
		a := s.alive()
		n := pushNodeState{
			Name: a.Node, Addr: a.Addr, Port: a.Port, Meta: a.Meta, Vsn: a.Vsn,
			Incarnation: a.Incarnation, State: NodeStateType(s.below(6) - 1),
		}
		if i > 64 { // no choice is left that a fuzzer could make
			n.Name = borrow(fmt.Sprintf("listed-%d", i))
		}
		msg = n.appendTo(msg)
	}
	return append(msg, user...)
}

// dressStream seals a message as a stream of a key holder, mostly.
func (s *script) dressStream(w *wire, msg []byte) []byte {
	switch s.below(10) {
	case 0:
		return msg
	case 1:
		return append([]byte{byte(encryptMsg)}, binary.BigEndian.AppendUint32(nil, s.uint32())...)
	}
	var sink bytes.Buffer
	if _, err := w.writeStream(sinkConn{Writer: &sink}, msg, true); err != nil {
		return msg
	}
	sent := sink.Bytes()
	if s.once(8) {
		return sent[:len(sent)*s.below(17)/17]
	}
	return sent
}
