package memberlist

import (
	"fmt"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// messageType is the first byte of every message (W5).
type messageType uint8

const (
	pingMsg         messageType = 0
	indirectPingMsg messageType = 1
	ackMsg          messageType = 2
	suspectMsg      messageType = 3
	aliveMsg        messageType = 4
	deadMsg         messageType = 5
	pushPullMsg     messageType = 6
	compoundMsg     messageType = 7
	userMsg         messageType = 8
	compressMsg     messageType = 9
	encryptMsg      messageType = 10
	nackMsg         messageType = 11
	checksumMsg     messageType = 12
	errorMsg        messageType = 13
	labelMsg        messageType = 244
)

// messageNames are the names of the types that are numbered in a row.
var messageNames = [...]string{
	pingMsg:         "ping",
	indirectPingMsg: "indirect ping",
	ackMsg:          "ack",
	suspectMsg:      "suspect",
	aliveMsg:        "alive",
	deadMsg:         "dead",
	pushPullMsg:     "push/pull",
	compoundMsg:     "compound",
	userMsg:         "user",
	compressMsg:     "compressed",
	encryptMsg:      "encrypted",
	nackMsg:         "nack",
	checksumMsg:     "checksum",
	errorMsg:        "error",
}

// String names the type for log lines and errors.
func (t messageType) String() string {
	switch {
	case int(t) < len(messageNames):
		return messageNames[t]
	case t == labelMsg:
		return "label"
	default:
		return fmt.Sprintf("unknown type %d", uint8(t))
	}
}

// The messages. Their fields are named and ordered as the wire has them
// (sections 4, 10, 11 and 12 of the wire format); the tags matter to the general
// decoder alone.
//
// A decoded message borrows: its text and byte slices are views of the bytes it was
// decoded from. Whoever keeps a field for longer than those bytes live makes a copy
// of it.
type (
	// ping asks Node whether it is there; the source fields say where the
	// answer goes (W9, W69).
	ping struct {
		SeqNo      uint32
		Node       borrowed
		SourceAddr []byte   `codec:",omitempty"`
		SourcePort uint16   `codec:",omitempty"`
		SourceNode borrowed `codec:",omitempty"`
	}

	// indirectPing asks its receiver to ping Node on the sender's behalf (W10).
	indirectPing struct {
		SeqNo      uint32
		Target     []byte
		Port       uint16
		Node       borrowed
		Nack       bool
		SourceAddr []byte   `codec:",omitempty"`
		SourcePort uint16   `codec:",omitempty"`
		SourceNode borrowed `codec:",omitempty"`
	}

	// ack answers a ping (W11).
	ack struct {
		SeqNo   uint32
		Payload []byte
	}

	// nack tells the requester of an indirect ping that no ack came (W12).
	nack struct {
		SeqNo uint32
	}

	// suspect says that From has not heard from Node (W13).
	suspect struct {
		Incarnation uint32
		Node        borrowed
		From        borrowed
	}

	// dead says that Node failed or, if Node is From, that it leaves (W13).
	dead struct {
		Incarnation uint32
		Node        borrowed
		From        borrowed
	}

	// alive announces a node (W14).
	alive struct {
		Incarnation uint32
		Node        borrowed
		Addr        []byte
		Port        uint16
		Meta        []byte
		Vsn         []byte
	}

	// pushPullHeader tells what follows it in a push/pull (W52).
	pushPullHeader struct {
		Nodes        int
		UserStateLen int
		Join         bool
	}

	// pushNodeState is one node in a push/pull (W53). It has no type byte.
	pushNodeState struct {
		Name        borrowed
		Addr        []byte
		Meta        []byte
		Vsn         []byte
		Incarnation uint32
		Port        uint16
		State       NodeStateType
	}

	// userMsgHeader stands before a user message on a stream (W58).
	userMsgHeader struct {
		UserMsgLen int
	}

	// errorReply tells the opener of a stream why it was refused (W48).
	errorReply struct {
		Error borrowed
	}

	// compressed wraps a whole message (W19).
	compressed struct {
		Algo uint8
		Buf  []byte
	}
)

// appendTo appends the message as nodes write it (W6), type byte included.

func (m *ping) appendTo(dst []byte) []byte {
	from := source{addr: m.SourceAddr, node: m.SourceNode, port: m.SourcePort}
	dst = append(dst, byte(pingMsg), mpFixMap|byte(2+from.count()))
	dst = appendText(append(dst, "\xa4Node"...), m.Node)
	dst = appendUint(append(dst, "\xa5SeqNo"...), m.SeqNo)
	return from.appendTo(dst)
}

func (m *indirectPing) appendTo(dst []byte) []byte {
	from := source{addr: m.SourceAddr, node: m.SourceNode, port: m.SourcePort}
	dst = append(dst, byte(indirectPingMsg), mpFixMap|byte(5+from.count()))
	dst = appendBool(append(dst, "\xa4Nack"...), m.Nack)
	dst = appendText(append(dst, "\xa4Node"...), m.Node)
	dst = appendUint(append(dst, "\xa4Port"...), uint32(m.Port))
	dst = appendUint(append(dst, "\xa5SeqNo"...), m.SeqNo)
	dst = from.appendTo(dst)
	return appendBytes(append(dst, "\xa6Target"...), m.Target)
}

func (m *ack) appendTo(dst []byte) []byte {
	dst = append(dst, byte(ackMsg), mpFixMap|2)
	dst = appendBytes(append(dst, "\xa7Payload"...), m.Payload)
	return appendUint(append(dst, "\xa5SeqNo"...), m.SeqNo)
}

func (m *nack) appendTo(dst []byte) []byte {
	dst = append(dst, byte(nackMsg), mpFixMap|1)
	return appendUint(append(dst, "\xa5SeqNo"...), m.SeqNo)
}

func (m *suspect) appendTo(dst []byte) []byte {
	return appendAccusation(append(dst, byte(suspectMsg)), m.Incarnation, m.Node, m.From)
}

func (m *dead) appendTo(dst []byte) []byte {
	return appendAccusation(append(dst, byte(deadMsg)), m.Incarnation, m.Node, m.From)
}

// appendAccusation appends the body that suspect and dead share.
func appendAccusation(dst []byte, incarnation uint32, node, from borrowed) []byte {
	dst = appendText(append(dst, "\x83\xa4From"...), from)
	dst = appendUint(append(dst, "\xabIncarnation"...), incarnation)
	return appendText(append(dst, "\xa4Node"...), node)
}

func (m *alive) appendTo(dst []byte) []byte {
	dst = append(dst, byte(aliveMsg))
	dst = appendBytes(append(dst, "\x86\xa4Addr"...), m.Addr)
	dst = appendUint(append(dst, "\xabIncarnation"...), m.Incarnation)
	dst = appendBytes(append(dst, "\xa4Meta"...), m.Meta)
	dst = appendText(append(dst, "\xa4Node"...), m.Node)
	dst = appendUint(append(dst, "\xa4Port"...), uint32(m.Port))
	return appendBytes(append(dst, "\xa3Vsn"...), m.Vsn)
}

func (m *pushPullHeader) appendTo(dst []byte) []byte {
	dst = append(dst, byte(pushPullMsg))
	dst = appendBool(append(dst, "\x83\xa4Join"...), m.Join)
	dst = appendInt(append(dst, "\xa5Nodes"...), int64(m.Nodes))
	return appendInt(append(dst, "\xacUserStateLen"...), int64(m.UserStateLen))
}

func (m *pushNodeState) appendTo(dst []byte) []byte {
	dst = appendBytes(append(dst, "\x87\xa4Addr"...), m.Addr)
	dst = appendUint(append(dst, "\xabIncarnation"...), m.Incarnation)
	dst = appendBytes(append(dst, "\xa4Meta"...), m.Meta)
	dst = appendText(append(dst, "\xa4Name"...), m.Name)
	dst = appendUint(append(dst, "\xa4Port"...), uint32(m.Port))
	dst = appendInt(append(dst, "\xa5State"...), int64(m.State))
	return appendBytes(append(dst, "\xa3Vsn"...), m.Vsn)
}

func (m *userMsgHeader) appendTo(dst []byte) []byte {
	dst = append(dst, byte(userMsg))
	return appendInt(append(dst, "\x81\xaaUserMsgLen"...), int64(m.UserMsgLen))
}

func (m *errorReply) appendTo(dst []byte) []byte {
	dst = append(dst, byte(errorMsg))
	return appendText(append(dst, "\x81\xa5Error"...), m.Error)
}

func (m *compressed) appendTo(dst []byte) []byte {
	dst = appendUint(append(dst, compressedPrefix...), uint32(m.Algo))
	return appendBytes(append(dst, "\xa3Buf"...), m.Buf)
}

// compressedPrefix is a compressed message up to the value of its first field.
const compressedPrefix = "\x09\x82\xa4Algo"

// decode reads the message from body, which begins behind the type byte. The
// shape that nodes write takes a path of its own that allocates nothing and costs
// a tenth of the general one; everything else that W7 allows goes to go-msgpack.
//
// canonical tells that body is byte for byte what appendTo would make of the
// message: then it may be passed on as it came. After an error the message is
// zero.

func (m *ping) decode(body []byte) (canonical bool, err error) {
	if size, ok := m.parse(body); ok {
		return size == len(body), nil
	}
	return false, decodeGeneral(body, m)
}

func (m *indirectPing) decode(body []byte) (canonical bool, err error) {
	if size, ok := m.parse(body); ok {
		return size == len(body), nil
	}
	return false, decodeGeneral(body, m)
}

func (m *ack) decode(body []byte) (canonical bool, err error) {
	if size, ok := m.parse(body); ok {
		return size == len(body), nil
	}
	return false, decodeGeneral(body, m)
}

func (m *nack) decode(body []byte) (canonical bool, err error) {
	if size, ok := m.parse(body); ok {
		return size == len(body), nil
	}
	return false, decodeGeneral(body, m)
}

func (m *suspect) decode(body []byte) (canonical bool, err error) {
	if size, ok := m.parse(body); ok {
		return size == len(body), nil
	}
	return false, decodeGeneral(body, m)
}

func (m *dead) decode(body []byte) (canonical bool, err error) {
	if size, ok := m.parse(body); ok {
		return size == len(body), nil
	}
	return false, decodeGeneral(body, m)
}

func (m *alive) decode(body []byte) (canonical bool, err error) {
	if size, ok := m.parse(body); ok {
		return size == len(body), nil
	}
	return false, decodeGeneral(body, m)
}

func (m *pushPullHeader) decode(body []byte) (canonical bool, err error) {
	if size, ok := m.parse(body); ok {
		return size == len(body), nil
	}
	return false, decodeGeneral(body, m)
}

func (m *pushNodeState) decode(body []byte) (canonical bool, err error) {
	if size, ok := m.parse(body); ok {
		return size == len(body), nil
	}
	return false, decodeGeneral(body, m)
}

func (m *userMsgHeader) decode(body []byte) (canonical bool, err error) {
	if size, ok := m.parse(body); ok {
		return size == len(body), nil
	}
	return false, decodeGeneral(body, m)
}

func (m *errorReply) decode(body []byte) (canonical bool, err error) {
	if size, ok := m.parse(body); ok {
		return size == len(body), nil
	}
	return false, decodeGeneral(body, m)
}

func (m *compressed) decode(body []byte) (canonical bool, err error) {
	if size, ok := m.parse(body); ok {
		return size == len(body), nil
	}
	return false, decodeGeneral(body, m)
}

// parse reads the one shape that appendTo writes from the beginning of b and tells
// how long it is. If ok is false the message holds rubbish.

func (m *ping) parse(b []byte) (size int, ok bool) {
	fields, at := readMapSize(b, 0)
	at = literal(b, at, "\xa4Node")
	m.Node, at = readText(b, at)
	at = literal(b, at, "\xa5SeqNo")
	m.SeqNo, at = readUint(b, at, maxUint32)
	var s source
	at = s.parse(b, at)
	m.SourceAddr, m.SourceNode, m.SourcePort = s.addr, s.node, s.port
	return at, at != nowhere && fields == 2+s.fields
}

func (m *indirectPing) parse(b []byte) (size int, ok bool) {
	fields, at := readMapSize(b, 0)
	at = literal(b, at, "\xa4Nack")
	m.Nack, at = readBool(b, at)
	at = literal(b, at, "\xa4Node")
	m.Node, at = readText(b, at)
	at = literal(b, at, "\xa4Port")
	port, at := readUint(b, at, maxUint16)
	m.Port = uint16(port)
	at = literal(b, at, "\xa5SeqNo")
	m.SeqNo, at = readUint(b, at, maxUint32)
	var s source
	at = s.parse(b, at)
	m.SourceAddr, m.SourceNode, m.SourcePort = s.addr, s.node, s.port
	at = literal(b, at, "\xa6Target")
	m.Target, at = readBytes(b, at)
	return at, at != nowhere && fields == 5+s.fields
}

func (m *ack) parse(b []byte) (size int, ok bool) {
	at := literal(b, 0, "\x82\xa7Payload")
	m.Payload, at = readBytes(b, at)
	at = literal(b, at, "\xa5SeqNo")
	m.SeqNo, at = readUint(b, at, maxUint32)
	return at, at != nowhere
}

func (m *nack) parse(b []byte) (size int, ok bool) {
	at := literal(b, 0, "\x81\xa5SeqNo")
	m.SeqNo, at = readUint(b, at, maxUint32)
	return at, at != nowhere
}

func (m *suspect) parse(b []byte) (size int, ok bool) {
	at := literal(b, 0, "\x83\xa4From")
	m.From, at = readText(b, at)
	at = literal(b, at, "\xabIncarnation")
	m.Incarnation, at = readUint(b, at, maxUint32)
	at = literal(b, at, "\xa4Node")
	m.Node, at = readText(b, at)
	return at, at != nowhere
}

func (m *dead) parse(b []byte) (size int, ok bool) {
	return (*suspect)(m).parse(b) // the two have the same body
}

func (m *alive) parse(b []byte) (size int, ok bool) {
	at := literal(b, 0, "\x86\xa4Addr")
	m.Addr, at = readBytes(b, at)
	at = literal(b, at, "\xabIncarnation")
	m.Incarnation, at = readUint(b, at, maxUint32)
	at = literal(b, at, "\xa4Meta")
	m.Meta, at = readBytes(b, at)
	at = literal(b, at, "\xa4Node")
	m.Node, at = readText(b, at)
	at = literal(b, at, "\xa4Port")
	port, at := readUint(b, at, maxUint16)
	m.Port = uint16(port)
	at = literal(b, at, "\xa3Vsn")
	m.Vsn, at = readBytes(b, at)
	return at, at != nowhere
}

func (m *pushPullHeader) parse(b []byte) (size int, ok bool) {
	at := literal(b, 0, "\x83\xa4Join")
	m.Join, at = readBool(b, at)
	at = literal(b, at, "\xa5Nodes")
	m.Nodes, at = readInt(b, at)
	at = literal(b, at, "\xacUserStateLen")
	m.UserStateLen, at = readInt(b, at)
	return at, at != nowhere
}

func (m *pushNodeState) parse(b []byte) (size int, ok bool) {
	at := literal(b, 0, "\x87\xa4Addr")
	m.Addr, at = readBytes(b, at)
	at = literal(b, at, "\xabIncarnation")
	m.Incarnation, at = readUint(b, at, maxUint32)
	at = literal(b, at, "\xa4Meta")
	m.Meta, at = readBytes(b, at)
	at = literal(b, at, "\xa4Name")
	m.Name, at = readText(b, at)
	at = literal(b, at, "\xa4Port")
	port, at := readUint(b, at, maxUint16)
	m.Port = uint16(port)
	at = literal(b, at, "\xa5State")
	state, at := readInt(b, at)
	m.State = NodeStateType(state)
	at = literal(b, at, "\xa3Vsn")
	m.Vsn, at = readBytes(b, at)
	return at, at != nowhere
}

func (m *userMsgHeader) parse(b []byte) (size int, ok bool) {
	at := literal(b, 0, "\x81\xaaUserMsgLen")
	m.UserMsgLen, at = readInt(b, at)
	return at, at != nowhere
}

func (m *errorReply) parse(b []byte) (size int, ok bool) {
	at := literal(b, 0, "\x81\xa5Error")
	m.Error, at = readText(b, at)
	return at, at != nowhere
}

func (m *compressed) parse(b []byte) (size int, ok bool) {
	at := literal(b, 0, compressedPrefix[1:])
	algo, at := readUint(b, at, maxUint8)
	m.Algo = uint8(algo)
	at = literal(b, at, "\xa3Buf")
	m.Buf, at = readBytes(b, at)
	return at, at != nowhere
}

// source are the three fields that are left out when they are empty (W6), and how
// many of them were read.
type source struct {
	addr   []byte
	node   borrowed
	port   uint16
	fields int
}

// count is how many of the fields are not empty.
func (s *source) count() int {
	n := 0
	if len(s.addr) > 0 {
		n++
	}
	if !s.node.empty() {
		n++
	}
	if s.port != 0 {
		n++
	}
	return n
}

// appendTo appends the fields that are not empty.
func (s *source) appendTo(dst []byte) []byte {
	if len(s.addr) > 0 {
		dst = appendBytes(append(dst, "\xaaSourceAddr"...), s.addr)
	}
	if !s.node.empty() {
		dst = appendText(append(dst, "\xaaSourceNode"...), s.node)
	}
	if s.port != 0 {
		dst = appendUint(append(dst, "\xaaSourcePort"...), uint32(s.port))
	}
	return dst
}

// parse reads the fields that are there at b[at:]. One that is there although it is
// empty is a surprise.
func (s *source) parse(b []byte, at int) int {
	empty := false
	if next := literal(b, at, "\xaaSourceAddr"); next != nowhere {
		s.addr, at = readRaw(b, next)
		empty = empty || len(s.addr) == 0
		s.fields++
	}
	if next := literal(b, at, "\xaaSourceNode"); next != nowhere {
		s.node, at = readText(b, next)
		empty = empty || s.node.empty()
		s.fields++
	}
	if next := literal(b, at, "\xaaSourcePort"); next != nowhere {
		var port uint32
		port, at = readUint(b, next, maxUint16)
		s.port = uint16(port)
		empty = empty || port == 0
		s.fields++
	}
	if empty {
		return nowhere
	}
	return at
}

// generalHandle is go-msgpack set to the old specification, whose raw type holds
// text and bytes alike (W6). It is not changed after this, so that it may be
// used by all goroutines, and keeps what it learned about the message types.
var generalHandle = &codec.MsgpackHandle{WriteExt: false}

// decodeGeneral reads a message in any form that W7 allows. Body is measured
// first, so that neither a length that is not there nor a tower of nested values
// reaches the codec.
func decodeGeneral[M any](body []byte, m *M) error {
	var zero M
	*m = zero
	n, err := valueSize(body)
	if err != nil {
		return err
	}
	decoded := new(M) // the codec lets its argument escape; the caller's stays where it is
	if err := codec.NewDecoderBytes(body[:n], generalHandle).Decode(decoded); err != nil {
		return fmt.Errorf("%w: %T: %w", ErrMalformed, zero, err)
	}
	*m = *decoded
	return nil
}
