package memberlist

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/stretchr/testify/require"
)

// codedTypes are all messages with a body in MessagePack, those of streams
// included. The numbers are the seeds' and the fuzz targets' way to choose one.
var codedTypes = []func() coded{
	func() coded { return new(ping) },
	func() coded { return new(indirectPing) },
	func() coded { return new(ack) },
	func() coded { return new(nack) },
	func() coded { return new(suspect) },
	func() coded { return new(dead) },
	func() coded { return new(alive) },
	func() coded { return new(pushPullHeader) },
	func() coded { return new(pushNodeState) },
	func() coded { return new(userMsgHeader) },
	func() coded { return new(errorReply) },
	func() coded { return new(compressed) },
}

// sampleMessages are messages with every kind of value: zero, at the borders of
// the integer and raw forms, nil and empty.
func sampleMessages() []coded {
	long, longer := strings.Repeat("n", 40), strings.Repeat("m", 70_000)
	msgs := []coded{
		&ping{SeqNo: 1, Node: borrow("node-b"), SourceAddr: []byte{10, 0, 0, 1}, SourcePort: 7946, SourceNode: borrow("node-a")},
		&ping{SeqNo: 1, Node: borrow("b"), SourceNode: borrow("a")},
		&ping{SeqNo: 1, Node: borrow("b"), SourcePort: 1},
		&ping{SourceAddr: make([]byte, 16)},
		&indirectPing{SeqNo: 7, Target: []byte{1, 2, 3, 4}, Port: 80, Node: borrow("x"), Nack: true, SourceAddr: []byte{1}, SourcePort: 1, SourceNode: borrow("s")},
		&indirectPing{Target: []byte{}},
		&ack{SeqNo: 900, Payload: []byte("payload")},
		&ack{Payload: []byte{}},
		&suspect{Incarnation: 300, Node: borrow(long), From: borrow("f")},
		&dead{Incarnation: 3, Node: borrow("n"), From: borrow(longer)},
		&alive{Incarnation: 70_000, Node: borrow("n"), Addr: []byte{1, 2, 3, 4}, Port: 1, Meta: []byte(long), Vsn: []byte{1, 5, 2, 0, 0, 0}},
		&alive{Meta: []byte{}, Addr: []byte(strings.Repeat("a", 31)), Vsn: []byte(strings.Repeat("v", 32))},
		&pushNodeState{Name: borrow("n"), Addr: []byte{1}, Port: 65535, Meta: []byte(longer), Incarnation: 1, State: StateLeft, Vsn: []byte{1}},
		&pushNodeState{State: -1},
		&errorReply{Error: borrow("no")},
		&compressed{Buf: []byte("data"), Algo: 255},
	}
	for _, n := range []uint32{0, 127, 128, 255, 256, 65535, 65536, math.MaxUint32} {
		msgs = append(msgs, &nack{SeqNo: n})
	}
	for _, n := range []int{
		0, 1, 127, 128, 255, 256, 32767, 32768, math.MaxInt32, math.MaxInt32 + 1, math.MaxInt64,
		-1, -32, -33, -128, -129, -32768, -32769, math.MinInt32, math.MinInt32 - 1, math.MinInt64,
	} {
		msgs = append(msgs, &userMsgHeader{UserMsgLen: n}, &pushPullHeader{Nodes: n, UserStateLen: -n, Join: n > 0})
	}
	for _, zero := range codedTypes {
		msgs = append(msgs, zero())
	}
	return msgs
}

// bodyOf removes the type byte from an encoded message that has one.
func bodyOf(m coded, encoded []byte) []byte {
	if _, bare := m.(*pushNodeState); bare {
		return encoded
	}
	return encoded[1:]
}

// generalEncode encodes with go-msgpack.
func generalEncode(t testing.TB, m any) []byte {
	t.Helper()
	var out []byte
	handle := &codec.MsgpackHandle{}
	handle.Canonical = true
	require.NoError(t, codec.NewEncoderBytes(&out, handle).Encode(m))
	return out
}

// TestMessagesAreWrittenAsGoMsgpackWritesThem checks W6.
func TestMessagesAreWrittenAsGoMsgpackWritesThem(t *testing.T) {
	for _, m := range sampleMessages() {
		want := generalEncode(t, m)
		got := bodyOf(m, m.appendTo(nil))
		require.True(t, bytes.Equal(want, got), "%T %.200v:\ngot  %.100x\nwant %.100x", m, m, got, want)
	}
}

// TestWrittenMessagesAreReadBack checks W6.
func TestWrittenMessagesAreReadBack(t *testing.T) {
	for i, m := range sampleMessages() {
		encoded := m.appendTo([]byte("before"))
		require.Equal(t, "before", string(encoded[:6]))
		got := reflect.New(reflect.TypeOf(m).Elem()).Interface().(coded)
		canonical, err := got.decode(bodyOf(m, encoded[6:]))
		require.NoError(t, err)
		require.True(t, canonical, "%d", i)
		require.Equal(t, m, got)
	}
}

// TestTypeBytes checks W5.
func TestTypeBytes(t *testing.T) {
	for m, want := range map[coded]messageType{
		&ping{}: 0, &indirectPing{}: 1, &ack{}: 2, &suspect{}: 3, &alive{}: 4, &dead{}: 5, &pushPullHeader{}: 6,
		&userMsgHeader{}: 8, &compressed{}: 9, &nack{}: 11, &errorReply{}: 13,
	} {
		require.Equal(t, want, messageType(m.appendTo(nil)[0]), "%T", m)
	}
	require.Equal(t, "ping", pingMsg.String())
	require.Equal(t, "label", labelMsg.String())
	require.Equal(t, "unknown type 14", messageType(14).String())
}

// TestReaderIsMoreLiberal checks W7.
func TestReaderIsMoreLiberal(t *testing.T) {
	full := ping{SeqNo: 8, Node: borrow("n"), SourceAddr: []byte{1, 2}, SourcePort: 9, SourceNode: borrow("s")}
	for _, tc := range []struct {
		name string
		body string
		want ping
	}{
		{"any key order", "\x85\xaaSourcePort\x09\xaaSourceNode\xa1s\xaaSourceAddr\xa2\x01\x02\xa5SeqNo\x08\xa4Node\xa1n", full},
		{"nothing", "\x80", ping{}},
		{"nil", "\xc0", ping{}},
		{"nil fields", "\x82\xa4Node\xc0\xa5SeqNo\xc0", ping{}},
		{"unknown keys", "\x83\xa6Future\x82\xa1a\x93\x01\x02\x03\xa1b\xd4\x01\x02\xa4Node\xa1n\xa5SeqNo\x08", ping{SeqNo: 8, Node: borrow("n")}},
		{"case matters", "\x82\xa4node\xa1n\xa5SeqNo\x08", ping{SeqNo: 8}},
		{"the last one wins", "\x83\xa4Node\xa1a\xa4Node\xa1n\xa5SeqNo\x08", ping{SeqNo: 8, Node: borrow("n")}},
		{"wide integer", "\x82\xa4Node\xa1n\xa5SeqNo\xcf\x00\x00\x00\x00\x00\x00\x00\x08", ping{SeqNo: 8, Node: borrow("n")}},
		{"signed integer", "\x82\xa4Node\xa1n\xa5SeqNo\xd1\x00\x08", ping{SeqNo: 8, Node: borrow("n")}},
		{"str 8", "\x82\xa4Node\xd9\x01n\xa5SeqNo\x08", ping{SeqNo: 8, Node: borrow("n")}},
		{"bin 8", "\x82\xa4Node\xc4\x01n\xa5SeqNo\x08", ping{SeqNo: 8, Node: borrow("n")}},
		{"bin 16", "\x82\xa4Node\xc5\x00\x01n\xa5SeqNo\x08", ping{SeqNo: 8, Node: borrow("n")}},
		{"bin 32", "\x82\xa4Node\xc6\x00\x00\x00\x01n\xa5SeqNo\x08", ping{SeqNo: 8, Node: borrow("n")}},
		{"long raw for short text", "\x82\xa4Node\xda\x00\x01n\xa5SeqNo\x08", ping{SeqNo: 8, Node: borrow("n")}},
		{"empty source fields", "\x83\xa4Node\xa1n\xa5SeqNo\x08\xaaSourceNode\xa0", ping{SeqNo: 8, Node: borrow("n")}},
		{"map 16", "\xde\x00\x02\xa4Node\xa1n\xa5SeqNo\x08", ping{SeqNo: 8, Node: borrow("n")}},
		{"array", "\x92\x08\xa1n", ping{SeqNo: 8, Node: borrow("n")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ping{SeqNo: 77, Node: borrow("old"), SourceNode: borrow("old")}
			canonical, err := got.decode([]byte(tc.body))
			require.NoError(t, err)
			require.False(t, canonical)
			require.Equal(t, tc.want, got)
		})
	}
}

// TestBoolsMayBeNumbers checks W7.
func TestBoolsMayBeNumbers(t *testing.T) {
	for body, want := range map[string]bool{"\x81\xa4Nack\x00": false, "\x81\xa4Nack\x01": true} {
		var m indirectPing
		_, err := m.decode([]byte(body))
		require.NoError(t, err)
		require.Equal(t, want, m.Nack)
	}
}

// TestWrongValuesAreRefused checks W7.
func TestWrongValuesAreRefused(t *testing.T) {
	for name, body := range map[string]string{
		"empty":                 "",
		"ends in the map":       "\x82\xa4Node\xa1n",
		"ends in a key":         "\x82\xa4No",
		"ends in a text":        "\x82\xa4Node\xa9n",
		"ends in a length":      "\x82\xa4Node\xda\x00",
		"negative":              "\x82\xa4Node\xa1n\xa5SeqNo\xff",
		"too wide for 32 bits":  "\x82\xa4Node\xa1n\xa5SeqNo\xcf\x00\x00\x00\x01\x00\x00\x00\x00",
		"too wide for 16 bits":  "\x83\xa4Node\xa1n\xa5SeqNo\x01\xaaSourcePort\xce\x00\x01\x00\x00",
		"text for a number":     "\x82\xa4Node\xa1n\xa5SeqNo\xa11",
		"number for a text":     "\x82\xa4Node\x01\xa5SeqNo\x01",
		"not a map":             "\xa1x",
		"an impossible byte":    "\x82\xa4Node\xc1",
		"many that do not come": "\xdf\xff\xff\xff\xff\xa4Node\xa1n",
		"a tower of arrays":     "\x81\xa1x" + strings.Repeat("\x91", 100_000) + "\x01",
	} {
		t.Run(name, func(t *testing.T) {
			m := ping{SeqNo: 1}
			canonical, err := m.decode([]byte(body))
			require.ErrorIs(t, err, ErrMalformed)
			require.False(t, canonical)
			require.Equal(t, ping{}, m)
		})
	}
}

// Bytes behind the map are ignored, but such a message is not passed on as it is (W7).
func TestTrailingBytesAreIgnored(t *testing.T) {
	for _, m := range sampleMessages() {
		got := reflect.New(reflect.TypeOf(m).Elem()).Interface().(coded)
		canonical, err := got.decode(append(bodyOf(m, m.appendTo(nil)), 0))
		require.NoError(t, err)
		require.False(t, canonical)
		require.Equal(t, m, got)
	}
}

func TestDecodedFieldsAreViewsOfTheBody(t *testing.T) {
	m := alive{Node: borrow("node"), Addr: []byte{1, 2, 3, 4}, Meta: []byte("meta")}
	body := m.appendTo(nil)[1:]
	var got alive
	_, err := got.decode(body)
	require.NoError(t, err)
	copy(body[bytes.Index(body, []byte("meta")):], "META")
	require.Equal(t, "META", string(got.Meta))
	require.Len(t, got.Meta, cap(got.Meta), "appending to a field must not write into the body")
}

func TestDecodingTheUsualShapeAllocatesNothing(t *testing.T) {
	for _, m := range sampleMessages() {
		body := bodyOf(m, m.appendTo(nil))
		got := reflect.New(reflect.TypeOf(m).Elem()).Interface().(coded)
		require.Zero(t, testing.AllocsPerRun(20, func() { _, _ = got.decode(body) }), "%T %.100v", m, m)
	}
	var onStack float64
	body := (&alive{Node: borrow("node")}).appendTo(nil)[1:]
	onStack = testing.AllocsPerRun(20, func() {
		var m alive
		_, _ = m.decode(body)
	})
	require.Zero(t, onStack, "a message on the stack must stay there")
}

func TestEncodingAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 200_000)
	for _, m := range sampleMessages() {
		require.Zero(t, testing.AllocsPerRun(20, func() { dst = m.appendTo(dst[:0]) }), "%T", m)
	}
}

// The message decoders agree with go-msgpack on every input, accepted or refused,
// and call canonical exactly what go-msgpack would write.
func FuzzDecodersAgreeWithGoMsgpack(f *testing.F) {
	for _, m := range sampleMessages() {
		encoded := m.appendTo(nil)
		for i, zero := range codedTypes {
			if reflect.TypeOf(zero()) == reflect.TypeOf(m) && len(encoded) < 1000 {
				f.Add(uint8(i), bodyOf(m, encoded))
			}
		}
	}
	f.Add(uint8(0), []byte("\x83\xa6Future\x82\xa1a\x93\x01\x02\x03\xa1b\xd4\x01\x02\xa4Node\xd9\x01n\xa5SeqNo\xd1\x00\x08"))
	f.Add(uint8(6), []byte("\x96\x01\xa1n\x92\x01\x02\xcd\x00\x01\xc0\xc4\x01\x01"))
	handle := &codec.MsgpackHandle{}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		zero := codedTypes[int(kind)%len(codedTypes)]
		want, got := zero(), zero()
		wantErr := codec.NewDecoderBytes(bytes.Clone(body), handle).Decode(want)
		before := bytes.Clone(body)
		canonical, err := got.decode(body)
		require.Equal(t, before, body, "the input was written to")
		if wantErr != nil {
			require.Error(t, err)
			require.Equal(t, zero(), got)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, bytes.Equal(generalEncode(t, want), body), canonical)
		again := bodyOf(got, got.appendTo(nil))
		require.Equal(t, canonical, bytes.Equal(again, body))
		checkStreamedDecode(t, zero(), want, body)
	})
}

// checkStreamedDecode reads the message from a stream that goes on behind it.
func checkStreamedDecode(t *testing.T, got, want coded, body []byte) {
	streamed, ok := got.(interface{ decodeFrom(*streamReader) error })
	if !ok {
		return
	}
	size, err := valueSize(body)
	require.NoError(t, err)
	r := &streamReader{conn: &memoryConn{unread: append(body[:size:size], "rest"...), most: 7}}
	require.NoError(t, streamed.decodeFrom(r))
	require.Equal(t, want, got)
	rest, err := r.take(4)
	require.NoError(t, err)
	require.Equal(t, "rest", string(rest))
}

// valueSize and go-msgpack agree about where a value ends.
func FuzzValueSize(f *testing.F) {
	for _, m := range sampleMessages()[:10] {
		f.Add(m.appendTo(nil)[1:])
	}
	for b := range 256 {
		f.Add(append([]byte{byte(b)}, make([]byte, 30)...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// A struct without fields makes go-msgpack pass over every value.
		outer := append([]byte("\x81\xa1x"), b...)
		d := codec.NewDecoderBytes(outer, &codec.MsgpackHandle{})
		wantErr := d.Decode(new(struct{}))
		size, err := valueSize(b)
		if wantErr == nil {
			require.NoError(t, err)
			require.Equal(t, d.NumBytesRead()-3, size)
		}
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		require.LessOrEqual(t, size, len(b))
		_, err = valueSize(b[:size-1])
		require.Error(t, err, "the value is complete one byte earlier")
	})
}
