package memberlist

import (
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Everything that the reference sent is read as exactly what it is, and made again
// from that byte for byte: W2 to W58, on packets and on streams. Nonces are the
// only thing that is taken from the recorded bytes.

func TestVectorsOutAreRead(t *testing.T) {
	for _, v := range allVectors(t, "out") {
		t.Run(v.Kind+"/"+v.Name, func(t *testing.T) {
			cfg := v.Config.wireConfig(t)
			cfg.GossipVerifyIncoming = cfg.GossipVerifyOutgoing
			if v.Kind == "packet" {
				checkPacketVector(t, newWire(cfg), &v)
				checkChecksumVector(t, newWire(cfg), &v)
			} else {
				checkStreamVector(t, newWire(cfg), &v)
			}
		})
	}
}

func TestVectorsOutAreWrittenAgain(t *testing.T) {
	for _, v := range allVectors(t, "out") {
		t.Run(v.Kind+"/"+v.Name, func(t *testing.T) {
			w := newWire(v.Config.wireConfig(t))
			w.random = bytes.NewReader(nil)
			if e := v.Expect.Encryption; e != nil {
				w.random = bytes.NewReader(e.Nonce)
			}
			content := encodeVector(t, &v)
			require.Equal(t, []byte(v.Expect.Payload), content, "the content differs")

			var conn memoryConn
			var got []byte
			var err error
			if v.Kind == "packet" {
				got, err = w.sealPacket(nil, content, v.Expect.CRC32 != nil)
			} else {
				_, err = w.writeStream(&conn, content, true)
				got = conn.written
			}
			require.NoError(t, err)
			if v.Kind == "stream" && v.Config.Compress && len(got) < len(v.Hex) {
				// The reference sends the longer form as well (W20). The shorter one
				// means the same.
				checkStreamVector(t, w, &vector{Hex: got, Expect: v.Expect})
				return
			}
			if !bytes.Equal(v.Hex, got) {
				t.Fatalf("wrote\n%.2000x, want\n%.2000x", got, []byte(v.Hex))
			}
		})
	}
}

// memoryConn is a connection that gives what is in unread and keeps what is
// written.
type memoryConn struct {
	net.Conn
	unread  []byte
	most    int // bytes for one Read; 0 is no limit
	written []byte
}

func (c *memoryConn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		return 0, io.EOF
	}
	if c.most > 0 {
		p = p[:min(len(p), c.most)]
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func (c *memoryConn) Write(p []byte) (int, error) {
	c.written = append(c.written, p...)
	return len(p), nil
}

func checkPacketVector(t *testing.T, w *wire, v *vector) {
	r := newPacketReader(w)
	msgs, err := r.read(bytes.Clone(v.Hex))
	require.NoError(t, err)
	require.Empty(t, r.faults)
	require.Len(t, msgs, len(v.Expect.Messages))
	for i, msg := range msgs {
		want := &v.Expect.Messages[i]
		require.Equal(t, want.Code, msg.kind())
		if msg.kind() == userMsg {
			require.Equal(t, []byte(want.UserMsg), msg.body())
			continue
		}
		got := newCoded(t, msg.kind())
		canonical, err := got.decode(msg.body())
		require.NoError(t, err)
		require.True(t, canonical)
		require.Equal(t, codedFrom(t, want), got)
	}
}

// checkChecksumVector looks behind label and encryption for the checksum (W24).
func checkChecksumVector(t *testing.T, w *wire, v *vector) {
	content, label, err := splitLabel(v.Hex)
	require.NoError(t, err)
	require.NoError(t, checkLabel(w.cfg, label))
	content, err = newPacketReader(w).decrypt(content)
	require.NoError(t, err)
	if v.Expect.CRC32 == nil {
		require.NotEqual(t, checksumMsg, messageType(content[0]))
		return
	}
	require.Equal(t, checksumMsg, messageType(content[0]))
	require.Equal(t, *v.Expect.CRC32, hex.EncodeToString(content[1:checksumLen]))
}

func checkStreamVector(t *testing.T, w *wire, v *vector) {
	for _, most := range []int{0, 1, 1000} { // however the bytes come in
		if most == 1 && len(v.Hex) > 10_000 {
			continue
		}
		r, kind, err := w.openInbound(&memoryConn{unread: bytes.Clone(v.Hex), most: most})
		require.NoError(t, err)
		require.Len(t, v.Expect.Messages, 1)
		want := &v.Expect.Messages[0]
		require.Equal(t, want.Code, kind)
		switch kind {
		case pingMsg:
			var got ping
			require.NoError(t, got.decodeFrom(r))
			require.Equal(t, codedFrom(t, want), &got)
		case userMsg:
			got, err := readUserMessage(r)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want.UserMsg, got))
			require.EqualValues(t, want.Header.number("UserMsgLen"), len(got))
		case pushPullMsg:
			checkPushPullVector(t, r, want)
		default:
			t.Fatalf("a stream that opens with %s", kind)
		}
		_, err = r.Peek(1)
		require.ErrorIs(t, err, io.EOF)
	}
}

func checkPushPullVector(t *testing.T, r *streamReader, want *vectorMessage) {
	header, got, userState, err := readPushPull(r, nil)
	require.NoError(t, err)
	require.Equal(t, want.Header["Join"], header.Join)
	require.EqualValues(t, want.Header.number("Nodes"), header.Nodes)
	require.EqualValues(t, want.Header.number("UserStateLen"), header.UserStateLen)
	require.True(t, bytes.Equal(want.UserState, userState))
	require.Len(t, got, len(want.Nodes))
	for i, fields := range want.Nodes {
		require.Equal(t, *nodeStateFrom(t, fields), got[i])
	}
}

// encodeVector makes the innermost bytes of a vector from its decomposition.
func encodeVector(t *testing.T, v *vector) []byte {
	var parts [][]byte
	for i := range v.Expect.Messages {
		parts = append(parts, encodeVectorMessage(t, v.Kind, &v.Expect.Messages[i]))
	}
	if v.Expect.CompoundLengths != nil {
		return appendCompound(nil, parts)
	}
	require.Len(t, parts, 1)
	return parts[0]
}

func encodeVectorMessage(t *testing.T, kind string, m *vectorMessage) []byte {
	switch {
	case m.Code == userMsg && kind == "stream":
		return appendUserMessage(nil, m.UserMsg)
	case m.Code == userMsg:
		return append([]byte{byte(userMsg)}, m.UserMsg...)
	case m.Code == pushPullMsg:
		var states []*pushNodeState
		for _, fields := range m.Nodes {
			states = append(states, nodeStateFrom(t, fields))
		}
		join, _ := m.Header["Join"].(bool)
		return appendPushPull(nil, join, len(states), slices.Values(states), m.UserState)
	}
	return codedFrom(t, m).appendTo(nil)
}

// coded is a message with a body in MessagePack.
type coded interface {
	appendTo(dst []byte) []byte
	decode(body []byte) (canonical bool, err error)
}

// newCoded returns an empty message of a type that packets carry.
func newCoded(t testing.TB, kind messageType) coded {
	t.Helper()
	switch kind {
	case pingMsg:
		return new(ping)
	case indirectPingMsg:
		return new(indirectPing)
	case ackMsg:
		return new(ack)
	case nackMsg:
		return new(nack)
	case suspectMsg:
		return new(suspect)
	case aliveMsg:
		return new(alive)
	case deadMsg:
		return new(dead)
	}
	t.Fatalf("no packet carries %s", kind)
	return nil
}

// codedFrom makes a message from the decomposition in a vector.
func codedFrom(t testing.TB, m *vectorMessage) coded {
	t.Helper()
	f := m.Fields
	source, port, name := f.bytes(t, "SourceAddr"), uint16(f.number("SourcePort")), f.text("SourceNode")
	switch m.Code {
	case pingMsg:
		return &ping{SeqNo: f.number("SeqNo"), Node: borrow(f.text("Node")), SourceAddr: source, SourcePort: port, SourceNode: borrow(name)}
	case indirectPingMsg:
		wantsNack, _ := f["Nack"].(bool)
		return &indirectPing{
			SeqNo: f.number("SeqNo"), Target: f.bytes(t, "Target"), Port: uint16(f.number("Port")), Node: borrow(f.text("Node")),
			Nack: wantsNack, SourceAddr: source, SourcePort: port, SourceNode: borrow(name),
		}
	case ackMsg:
		return &ack{SeqNo: f.number("SeqNo"), Payload: f.bytes(t, "Payload")}
	case nackMsg:
		return &nack{SeqNo: f.number("SeqNo")}
	case suspectMsg:
		return &suspect{Incarnation: f.number("Incarnation"), Node: borrow(f.text("Node")), From: borrow(f.text("From"))}
	case deadMsg:
		return &dead{Incarnation: f.number("Incarnation"), Node: borrow(f.text("Node")), From: borrow(f.text("From"))}
	case aliveMsg:
		return &alive{
			Incarnation: f.number("Incarnation"), Node: borrow(f.text("Node")), Addr: f.bytes(t, "Addr"),
			Port: uint16(f.number("Port")), Meta: f.bytes(t, "Meta"), Vsn: f.bytes(t, "Vsn"),
		}
	case errorMsg:
		return &errorReply{Error: borrow(f.text("Error"))}
	}
	t.Fatalf("no decomposition of %s", m.Code)
	return nil
}

// nodeStateFrom makes one node of a push/pull from the decomposition in a vector.
func nodeStateFrom(t testing.TB, f vectorFields) *pushNodeState {
	t.Helper()
	return &pushNodeState{
		Name: borrow(f.text("Name")), Addr: f.bytes(t, "Addr"), Port: uint16(f.number("Port")), Meta: f.bytes(t, "Meta"),
		Incarnation: f.number("Incarnation"), State: NodeStateType(f.number("State")), Vsn: f.bytes(t, "Vsn"),
	}
}
