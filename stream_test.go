package memberlist

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// streamOf is what an opener with the configuration writes.
func streamOf(t testing.TB, cfg *Config, msg []byte) []byte {
	t.Helper()
	var conn memoryConn
	_, err := newWire(cfg).writeStream(&conn, msg, true)
	require.NoError(t, err)
	return conn.written
}

func readerOf(stream string) *streamReader {
	return &streamReader{conn: &memoryConn{unread: []byte(stream)}}
}

// TestStreamsAreReadBack checks W3.
func TestStreamsAreReadBack(t *testing.T) {
	msgs := [][]byte{
		(&ping{SeqNo: 5, Node: borrow("node-b")}).appendTo(nil),
		appendUserMessage(nil, []byte(strings.Repeat("long ", 2000))),
	}
	for _, cfg := range wireConfigs(t) {
		t.Run(describe(cfg), func(t *testing.T) {
			w := newWire(cfg)
			for _, msg := range msgs {
				stream := streamOf(t, cfg, msg)
				for _, most := range []int{0, 1, 100} {
					r, kind, err := w.openInbound(&memoryConn{unread: bytes.Clone(stream), most: most})
					require.NoError(t, err)
					require.Equal(t, messageType(msg[0]), kind)
					rest, err := r.take(len(msg) - 1)
					require.NoError(t, err)
					require.Equal(t, msg[1:], rest)
					require.Equal(t, len(cfg.Keyring.load()) > 0, r.remoteSize > 0)
				}
			}
		})
	}
}

// W49: an answer has no label header, but does not open under another label.
func TestAnswersAuthenticateTheLabel(t *testing.T) {
	config := func(label string) *Config {
		return &Config{Label: label, Keyring: testRing(t, "a"), ProtocolVersion: 2, GossipVerifyIncoming: true, GossipVerifyOutgoing: true}
	}
	var conn memoryConn
	_, err := newWire(config("blue")).writeStream(&conn, user("text"), false)
	require.NoError(t, err)
	_, _, err = newWire(config("blue")).openReply(&memoryConn{unread: bytes.Clone(conn.written)})
	require.NoError(t, err)
	_, _, err = newWire(config("pink")).openReply(&memoryConn{unread: bytes.Clone(conn.written)})
	require.ErrorIs(t, err, ErrDecrypt)
}

// TestOnlyTheOpenerWritesTheLabel checks W61.
func TestOnlyTheOpenerWritesTheLabel(t *testing.T) {
	for _, cfg := range wireConfigs(t) {
		w := newWire(cfg)
		msg := (&ack{SeqNo: 5}).appendTo(nil)
		var opened, answered memoryConn
		sentFirst, err := w.writeStream(&opened, msg, true)
		require.NoError(t, err)
		sent, err := w.writeStream(&answered, msg, false)
		require.NoError(t, err)
		require.Equal(t, sentFirst, sent, "P147: the label does not count as sent")
		require.Len(t, answered.written, sent)
		header, _ := AddLabelHeaderToPacket(nil, cfg.Label)
		require.Len(t, opened.written, len(header)+sent)
		require.True(t, bytes.HasPrefix(opened.written, header))

		r, kind, err := w.openReply(&memoryConn{unread: answered.written})
		require.NoError(t, err)
		require.Equal(t, ackMsg, kind)
		var got ack
		require.NoError(t, got.decodeFrom(r))
		require.EqualValues(t, 5, got.SeqNo)
	}
	r, kind, err := newWire(&Config{Label: "blue"}).openReply(&memoryConn{unread: []byte("\xf4\x04blue\x02")})
	require.NoError(t, err)
	require.NotNil(t, r)
	require.Equal(t, labelMsg, kind, "an answer with a label is a message of type 244")

	_, _, err = newWire(plainConfig()).openReply(&memoryConn{})
	require.ErrorIs(t, err, io.EOF)
}

// Each vector that is answered with an error, or refused without one, is so here (W48).
func TestVectorsThatAreRefused(t *testing.T) {
	refused := 0
	for _, v := range allVectors(t, "in") {
		if v.Kind != "stream" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			r, kind, err := newWire(v.Config.wireConfig(t)).openInbound(&memoryConn{unread: v.Hex})
			if v.Expect.Outcome == "error reply" {
				refused++
				require.True(t, answersWithError(err), "%v", err)
				if len(v.Expect.Replies) > 0 {
					require.EqualError(t, err, v.Expect.Replies[0].Messages[0].Fields.text("Error"))
				}
				return
			}
			require.False(t, answersWithError(err), "%v", err)
			if v.Expect.Outcome == "accepted" {
				require.NoError(t, err)
				require.Contains(t, []messageType{pingMsg, userMsg, pushPullMsg}, kind)
				require.NotNil(t, r)
			}
			if quiet := len(v.Expect.LogLevels) == 0; err != nil {
				require.Equal(t, quiet, errors.Is(err, io.EOF), "only the end of a stream is not worth a line in the log: %v", err)
			}
		})
	}
	require.Positive(t, refused)
}

// TestWhatIsAnsweredWithAnError checks W48.
func TestWhatIsAnsweredWithAnError(t *testing.T) {
	sealed := &Config{Keyring: testRing(t, "ab"), ProtocolVersion: 2, GossipVerifyIncoming: true, GossipVerifyOutgoing: true}
	open := plainConfig()
	frame := string(streamOf(t, sealed, user("text")))
	for _, tc := range []struct {
		name     string
		cfg      *Config
		stream   string
		answered bool
		kind     error
	}{
		{"not encrypted", sealed, "\x08text", true, ErrNotEncrypted},
		{"encrypted", open, frame, true, ErrEncrypted},
		{"wrong key", sealed, frame[:20] + string([]byte{frame[20] ^ 1}) + frame[21:], true, ErrDecrypt},
		{"frame too long", sealed, "\x0a\x01\x40\x00\x01", true, ErrTooLarge},
		{"no frame that long", sealed, "\x0a\xff\xff\xff\xff", true, ErrTooLarge},
		{"empty frame", sealed, "\x0a\x00\x00\x00\x00", true, ErrDecrypt},
		{"unknown algorithm", open, "\x09\x82\xa4Algo\x01\xa3Buf\xa1x", true, ErrMalformed},
		{"no map", open, "\x09\x01", true, ErrMalformed},
		{"no value", open, "\x09\xc1", true, ErrMalformed},
		{"nothing in the frame", sealed, string(frameWith(t, sealed, nil)), true, ErrMalformed}, // W81
		{"nothing in the compression", open, "\x09\x82\xa4Algo\x00\xa3Buf\xa3" + string(standardLZW(t, nil)), true, ErrMalformed},
		{"too much in the compression", open, string(compressedWith(0, lzwOfRun(8, maxUnpacked+1))), true, ErrTooLarge},

		{"nothing", open, "", false, io.EOF},
		{"nothing but a label", &Config{Label: "blue"}, "\xf4\x04blue", false, io.EOF},
		{"end in the head of a frame", sealed, frame[:3], false, io.EOF},
		{"end in a frame", sealed, frame[:38], false, io.EOF},
		{"end in the compression", open, "\x09\x82\xa4Algo\x00\xa3Buf\xa9x", false, io.EOF},
		{"label in front of nothing", &Config{Label: "blue"}, "", false, ErrLabelMismatch},
		{"another label", &Config{Label: "blue"}, "\xf4\x03red\x08", false, ErrLabelMismatch},
		{"half a label", &Config{Label: "blue"}, "\xf4\x04bl", false, ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := newWire(tc.cfg).openInbound(&memoryConn{unread: []byte(tc.stream)})
			require.ErrorIs(t, err, tc.kind)
			require.Equal(t, tc.answered, answersWithError(err))
		})
	}
}

// TestStreamsAreSealedWithThePrimaryKey checks W31.
func TestStreamsAreSealedWithThePrimaryKey(t *testing.T) {
	with := func(keys string) *Config {
		return &Config{Keyring: testRing(t, keys), ProtocolVersion: 2, GossipVerifyIncoming: true, GossipVerifyOutgoing: true}
	}
	stream := streamOf(t, with("abc"), user("text"))
	for keys, want := range map[string]error{"a": nil, "ca": nil, "b": ErrDecrypt, "cb": ErrDecrypt} {
		_, _, err := newWire(with(keys)).openInbound(&memoryConn{unread: stream})
		require.ErrorIs(t, err, want, keys)
	}
}

// A frame with nothing in it has no type; one with a single byte has nothing else (W81).
func TestEmptyFrames(t *testing.T) {
	sealed := &Config{Keyring: testRing(t, "ab"), ProtocolVersion: 2, GossipVerifyIncoming: true, GossipVerifyOutgoing: true}
	_, _, err := newWire(sealed).openInbound(&memoryConn{unread: frameWith(t, sealed, nil)})
	require.ErrorIs(t, err, ErrMalformed)
	require.True(t, answersWithError(err))

	r, kind, err := newWire(sealed).openInbound(&memoryConn{unread: frameWith(t, sealed, []byte{byte(userMsg)})})
	require.NoError(t, err)
	require.Equal(t, userMsg, kind)
	require.Empty(t, r.unread())
}

// frameWith is a frame that holds the content and nothing else.
func frameWith(t testing.TB, cfg *Config, content []byte) []byte {
	t.Helper()
	plain := *cfg
	plain.EnableCompression = false
	frame, err := newWire(&plain).appendFrame(nil, content, cfg.Keyring.load()[0])
	require.NoError(t, err)
	return frame
}

// TestConnectionFailuresAreNotAnswered checks W48.
func TestConnectionFailuresAreNotAnswered(t *testing.T) {
	for _, stream := range []string{"", "\xf4\x04", "\x0a\x00\x00", "\x09\x82"} {
		for _, cause := range []error{os.ErrDeadlineExceeded, errors.New("reset")} {
			cfg := &Config{Keyring: testRing(t, "a"), ProtocolVersion: 2}
			_, _, err := newWire(cfg).openInbound(&failingConn{memoryConn{unread: []byte(stream)}, cause})
			require.ErrorIs(t, err, cause)
			require.False(t, answersWithError(err))
		}
	}
}

// TestPlainStreamsPassIfIncomingIsNotVerified checks W37.
func TestPlainStreamsPassIfIncomingIsNotVerified(t *testing.T) {
	cfg := &Config{Keyring: testRing(t, "a"), ProtocolVersion: 2, GossipVerifyOutgoing: true}
	w := newWire(cfg)
	_, kind, err := w.openInbound(&memoryConn{unread: user("text")})
	require.NoError(t, err)
	require.Equal(t, userMsg, kind)

	frame := streamOf(t, cfg, user("text"))
	frame[30] ^= 1
	_, _, err = w.openInbound(&memoryConn{unread: frame})
	require.ErrorIs(t, err, ErrDecrypt, "a frame that does not open is an error in any case")
}

// TestStreamCompressionDoesNotNest checks W22.
func TestStreamCompressionDoesNotNest(t *testing.T) {
	twice := appendLonger(nil, appendLonger(nil, user("text")))
	_, kind, err := newWire(plainConfig()).openInbound(&memoryConn{unread: twice})
	require.NoError(t, err)
	require.Equal(t, compressMsg, kind)
}

// TestFrameLimitIsInclusive checks W62.
func TestFrameLimitIsInclusive(t *testing.T) {
	cfg := &Config{Keyring: testRing(t, "a"), ProtocolVersion: 2, GossipVerifyOutgoing: true}
	w := newWire(cfg)
	content := make([]byte, maxFrame-boxOverhead)
	content[0] = byte(userMsg)
	r, kind, err := w.openInbound(&memoryConn{unread: streamOf(t, cfg, content)})
	require.NoError(t, err)
	require.Equal(t, userMsg, kind)
	require.Equal(t, maxFrame, r.remoteSize)

	_, _, err = w.openInbound(&memoryConn{unread: []byte("\x0a\x01\x40\x00\x01")})
	require.ErrorIs(t, err, ErrTooLarge)
	require.EqualError(t, err, "remote node state is larger than limit (20971521)")
}

func TestWriteStreamReportsFailures(t *testing.T) {
	cfg := &Config{Keyring: testRing(t, "a"), ProtocolVersion: 2, GossipVerifyOutgoing: true, Label: "blue"}
	w := newWire(cfg)
	broken := errors.New("broken")
	sent, err := w.writeStream(&failingConn{err: broken}, user("text"), true)
	require.ErrorIs(t, err, broken)
	require.Zero(t, sent)

	w.random = bytes.NewReader(nil)
	_, err = w.writeStream(&memoryConn{}, user("text"), true)
	require.Error(t, err, "no nonce")
}

// samplePushPull is a state of n nodes.
func samplePushPull(n int, userState []byte) []byte {
	states := func(yield func(*pushNodeState) bool) {
		for i := range n {
			s := pushNodeState{
				Name: borrow(fmt.Sprintf("node-%06d", i)), Addr: []byte{10, byte(i >> 16), byte(i >> 8), byte(i)}, Port: 7946,
				Incarnation: uint32(i), State: NodeStateType(i % 4), Vsn: []byte{1, 5, 2, 0, 0, 0},
			}
			if !yield(&s) {
				return
			}
		}
	}
	return appendPushPull(nil, true, n, states, userState)
}

// TestPushPullIsReadBack checks W51.
func TestPushPullIsReadBack(t *testing.T) {
	msg := samplePushPull(1000, []byte("user state"))
	for _, most := range []int{0, 1, 100} {
		r := &streamReader{conn: &memoryConn{unread: msg[1:], most: most}}
		header, states, userState, err := readPushPull(r, nil)
		require.NoError(t, err)
		require.Equal(t, pushPullHeader{Nodes: 1000, UserStateLen: 10, Join: true}, header)
		require.Equal(t, "user state", string(userState))
		again := appendPushPull(nil, true, len(states), pointers(states), userState)
		require.True(t, bytes.Equal(msg, again), "a node read earlier was overwritten")
	}
}

func pointers(states []pushNodeState) func(func(*pushNodeState) bool) {
	return func(yield func(*pushNodeState) bool) {
		for i := range states {
			if !yield(&states[i]) {
				return
			}
		}
	}
}

// Nodes may be written in any form that W7 allows.
func TestPushPullIsReadLiberally(t *testing.T) {
	body := "\x83\xa5Nodes\xd3\x00\x00\x00\x00\x00\x00\x00\x02\xacUserStateLen\x02\xa4Join\x01" +
		"\x82\xa4Name\xd9\x01a\xa5State\xcc\x03" + "\xc0" + "us"
	header, nodes, userState, err := readPushPull(readerOf(body+"rest"), nil)
	require.NoError(t, err)
	require.True(t, header.Join)
	require.Equal(t, "us", string(userState))
	require.Len(t, nodes, 2)
}

// TestPushPullLimits checks W62.
func TestPushPullLimits(t *testing.T) {
	for _, tc := range []struct {
		header pushPullHeader
		text   string
	}{
		{pushPullHeader{Nodes: -1}, "number of nodes in header (-1) exceeds limit"},
		{pushPullHeader{Nodes: 1048577}, "number of nodes in header (1048577) exceeds limit"},
		{pushPullHeader{UserStateLen: -1}, "user state length (-1) exceeds limit"},
		{pushPullHeader{UserStateLen: 20971521}, "user state length (20971521) exceeds limit"},
	} {
		_, nodes, _, err := readPushPull(readerOf(string(tc.header.appendTo(nil)[1:])), nil)
		require.Empty(t, nodes)
		require.EqualError(t, err, tc.text)
		require.ErrorIs(t, err, ErrTooLarge)
	}
	for _, header := range []pushPullHeader{{Nodes: 1048576}, {UserStateLen: 20971520}} {
		_, _, _, err := readPushPull(readerOf(string(header.appendTo(nil)[1:])), nil)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "the limits are inclusive")
	}
}

// TestUserMessageLimits checks W62.
func TestUserMessageLimits(t *testing.T) {
	for length, want := range map[int]error{
		-1: ErrTooLarge, 20971521: ErrTooLarge, 20971520: io.ErrUnexpectedEOF, 1: io.ErrUnexpectedEOF,
	} {
		header := userMsgHeader{UserMsgLen: length}
		_, err := readUserMessage(readerOf(string(header.appendTo(nil)[1:])))
		require.ErrorIs(t, err, want, "%d", length)
	}
}

// TestPushPullThatIsCutShort checks W51.
func TestPushPullThatIsCutShort(t *testing.T) {
	body := samplePushPull(2, []byte("user state"))[1:]
	for n := range len(body) {
		_, _, _, err := readPushPull(readerOf(string(body[:n])), nil)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d bytes", n)
		require.NotErrorIs(t, err, io.EOF)
	}
}

// TestUserMessages checks W58.
func TestUserMessages(t *testing.T) {
	for _, size := range []int{0, 1, 127, 128, 5000, 3 << 20} {
		payload := bytes.Repeat([]byte{'x'}, size)
		msg := appendUserMessage(nil, payload)
		for _, most := range []int{0, 4000} {
			got, err := readUserMessage(&streamReader{conn: &memoryConn{unread: append(msg[1:len(msg):len(msg)], "rest"...), most: most}})
			require.NoError(t, err)
			require.True(t, bytes.Equal(payload, got))
		}
	}
	for _, size := range []int{-1, 20<<20 + 1} {
		header := userMsgHeader{UserMsgLen: size}
		_, err := readUserMessage(readerOf(string(header.appendTo(nil)[1:])))
		require.ErrorIs(t, err, ErrTooLarge)
	}
	header := userMsgHeader{UserMsgLen: 5}
	_, err := readUserMessage(readerOf(string(header.appendTo(nil)[1:]) + "four"))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = readUserMessage(readerOf("\x01"))
	require.ErrorIs(t, err, ErrMalformed)
}

// An announced length costs nothing until the bytes come (W82).
func TestMemoryGrowsWithWhatArrives(t *testing.T) {
	sealed := &Config{Keyring: testRing(t, "a"), ProtocolVersion: 2}
	header := pushPullHeader{Nodes: 1 << 20, UserStateLen: 20 << 20}
	for name, f := range map[string]func() error{
		"user message": func() error {
			_, err := readUserMessage(readerOf("\x81\xaaUserMsgLen\xd2\x01\x40\x00\x00few"))
			return err
		},
		"push/pull": func() error {
			_, _, _, err := readPushPull(readerOf(string(header.appendTo(nil)[1:])), nil)
			return err
		},
		"frame": func() error {
			_, _, err := newWire(sealed).openInbound(&memoryConn{unread: []byte("\x0a\x01\x40\x00\x00few")})
			return err
		},
		"text": func() error {
			var m errorReply
			return m.decodeFrom(readerOf("\x81\xa5Error\xdb\xff\xff\xff\xfffew"))
		},
		"compressed data": func() error {
			_, _, err := newWire(plainConfig()).openInbound(&memoryConn{unread: []byte("\x09\x82\xa4Algo\x00\xa3Buf\xdb\xff\xff\xff\xfffew")})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := f()
			runtime.ReadMemStats(&after)
			require.Error(t, err)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(100_000))
		})
	}
}

// endlessConn gives the same bytes over and over, and counts them.
type endlessConn struct {
	memoryConn
	again string
	given int
}

func (c *endlessConn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		c.unread = []byte(c.again)
	}
	n, err := c.memoryConn.Read(p)
	c.given += n
	return n, err
}

// A peer cannot make a node collect without end where the wire format has no
// limit.
func TestStreamValuesAreBounded(t *testing.T) {
	conn := &endlessConn{memoryConn: memoryConn{unread: []byte("\x81\xa1x")}, again: strings.Repeat("\x91", 4096)}
	var p ping
	require.ErrorIs(t, p.decodeFrom(&streamReader{conn: conn}), ErrTooLarge)
	require.Less(t, conn.given, 4*maxStreamValue)

	header := pushPullHeader{Nodes: maxStateNodes}
	state := pushNodeState{Name: borrow("node")}
	conn = &endlessConn{memoryConn: memoryConn{unread: header.appendTo(nil)[1:]}, again: string(state.appendTo(nil))}
	r := &streamReader{conn: conn, done: maxStates - 1<<16}
	_, _, _, err := readPushPull(r, nil)
	require.ErrorIs(t, err, ErrTooLarge)
	require.Less(t, conn.given, 2*maxStreamValue)
}

func TestStreamReaderGivesUpOnAConnectionThatGivesNothing(t *testing.T) {
	_, err := (&streamReader{conn: idleReader{}}).Peek(1)
	require.ErrorIs(t, err, io.ErrNoProgress)
}

type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }

// The number of allocations must not grow with the number of nodes.
func TestReadingPushPullAllocatesLittle(t *testing.T) {
	body := samplePushPull(10_000, nil)[1:]
	allocs := testing.AllocsPerRun(5, func() {
		r := &streamReader{conn: &memoryConn{unread: body}}
		_, _, _, err := readPushPull(r, nil)
		if err != nil {
			t.Error(err)
		}
		r.release()
	})
	require.Less(t, allocs, 25.0)
}

// The list of nodes is as long as it must be in the end, and on the way never much
// longer than what has come (W82).
func TestListOfNodesGrowsWithWhatComes(t *testing.T) {
	for _, n := range []int{1, 63, 64, 65, 1000, 10_000} {
		_, nodes, _, err := readPushPull(readerOf(string(samplePushPull(n, nil)[1:])), nil)
		require.NoError(t, err)
		require.Len(t, nodes, n)
		require.Equal(t, n, cap(nodes))

		announced := pushPullHeader{Nodes: maxStateNodes}
		body := announced.appendTo(nil)[1:]
		for i := range n {
			body = (&pushNodeState{Name: borrow(fmt.Sprint(i))}).appendTo(body)
		}
		_, nodes, _, err = readPushPull(readerOf(string(body)), nil)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.LessOrEqual(t, cap(nodes), max(64, 4*n))
	}
}

// Memory that was released is used again, by readers and writers, while what was
// handed out for good stays as it is.
func TestReleasedMemoryIsNotWhatTheCallerOwns(t *testing.T) {
	for _, cfg := range wireConfigs(t) {
		w := newWire(cfg)
		state := bytes.Repeat([]byte("state"), 20_000)
		stream := streamOf(t, cfg, samplePushPull(1000, state))
		var kept [][]byte
		for range 3 {
			r, _, err := w.openInbound(&memoryConn{unread: bytes.Clone(stream)})
			require.NoError(t, err)
			_, nodes, userState, err := readPushPull(r, nil)
			require.NoError(t, err)
			for i := range nodes {
				require.Equal(t, fmt.Sprintf("node-%06d", i), nodes[i].Name.own())
			}
			r.release()
			_, err = r.Peek(1)
			require.ErrorIs(t, err, io.EOF)
			kept = append(kept, userState)
		}
		for _, userState := range kept {
			require.True(t, bytes.Equal(state, userState))
		}
	}
}

// P89: a user message is not a view of memory that is used again.
func TestUserMessagesFromStreamsAreTheReceiversOwn(t *testing.T) {
	for _, cfg := range wireConfigs(t) {
		w := newWire(cfg)
		for _, size := range []int{1, 1000, 300_000, 3_000_000} {
			var kept [][]byte
			for i := range 3 {
				msg := bytes.Repeat([]byte{byte('a' + i)}, size)
				stream := streamOf(t, cfg, appendUserMessage(nil, msg))
				r, _, err := w.openInbound(&memoryConn{unread: stream, most: 10_000})
				require.NoError(t, err)
				got, err := readUserMessage(r)
				require.NoError(t, err)
				kept = append(kept, got)
			}
			for i, got := range kept {
				require.True(t, bytes.Equal(bytes.Repeat([]byte{byte('a' + i)}, size), got))
			}
		}
	}
}

func FuzzStreamRead(f *testing.F) {
	configs := wireConfigs(f)
	for i, cfg := range configs {
		f.Add(uint8(i), uint8(i), streamOf(f, cfg, samplePushPull(2, []byte("state"))))
		f.Add(uint8(i), uint8(0), streamOf(f, cfg, appendUserMessage(nil, []byte("text"))))
	}
	for _, v := range allVectors(f, "in") {
		if v.Kind == "stream" && len(v.Hex) < 2000 {
			f.Add(uint8(0), uint8(5), []byte(v.Hex))
		}
	}
	f.Fuzz(func(t *testing.T, which, most uint8, stream []byte) {
		cfg := *configs[int(which)%len(configs)]
		cfg.GossipVerifyIncoming = which < 128
		w := newWire(&cfg)
		r, kind, err := w.openInbound(&memoryConn{unread: bytes.Clone(stream), most: int(most)})
		whole, wholeKind, wholeErr := w.openInbound(&memoryConn{unread: stream})
		require.Equal(t, fmt.Sprint(wholeErr), fmt.Sprint(err), "it matters how the bytes come in")
		if err != nil {
			return
		}
		require.Equal(t, wholeKind, kind)
		require.Equal(t, fmt.Sprint(readBody(whole, kind)), fmt.Sprint(readBody(r, kind)))
	})
}

// readBody reads the rest of a stream as what its type says.
func readBody(r *streamReader, kind messageType) (got []any) {
	var err error
	switch kind {
	case pingMsg:
		var m ping
		err = m.decodeFrom(r)
		got = append(got, m)
	case errorMsg:
		var m errorReply
		err = m.decodeFrom(r)
		got = append(got, m)
	case userMsg:
		var msg []byte
		msg, err = readUserMessage(r)
		got = append(got, msg)
	case pushPullMsg:
		_, nodes, user, readErr := readPushPull(r, nil)
		for i := range nodes {
			got = append(got, nodes[i])
		}
		got, err = append(got, user), readErr
	}
	return append(got, err)
}

// A push/pull that is read can be written again, and then reads the same.
func FuzzPushPull(f *testing.F) {
	f.Add(samplePushPull(3, []byte("user state"))[1:])
	f.Add(samplePushPull(0, nil)[1:])
	for _, v := range readVectors(f, "stream-in") {
		if len(v.Hex) > 0 && messageType(v.Hex[0]) == pushPullMsg {
			f.Add([]byte(v.Hex[1:]))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		read := func(body []byte) (pushPullHeader, []pushNodeState, []byte, error) {
			return readPushPull(&streamReader{conn: &memoryConn{unread: body, most: 50}}, nil)
		}
		header, states, userState, err := read(body)
		if err != nil {
			return
		}
		require.Len(t, states, header.Nodes)
		require.Len(t, userState, header.UserStateLen)
		written := appendPushPull(nil, header.Join, len(states), pointers(states), userState)
		again, statesAgain, userAgain, err := read(written[1:])
		require.NoError(t, err)
		require.Equal(t, header, again)
		require.Equal(t, states, statesAgain)
		require.True(t, bytes.Equal(userState, userAgain))
	})
}

// What does not get shorter goes as it is: short messages, and long ones that are
// random all over (W20). One that is random in part is compressed.
func TestStreamsNeverCarryTheLongerForm(t *testing.T) {
	random := make([]byte, 1<<20)
	_, _ = rand.Read(random)
	half := slices.Concat(random[:512<<10], make([]byte, 512<<10))
	plain, compressing := plainConfig(), plainConfig()
	compressing.EnableCompression = true
	for name, row := range map[string]struct {
		payload    []byte
		compressed bool
	}{
		"short":           {[]byte("text"), false},
		"random":          {random, false},
		"random at first": {half, true},
		"random at last":  {slices.Concat(half[512<<10:], half[:512<<10]), true},
		"text":            {bytes.Repeat([]byte("some text"), 100), true},
	} {
		var as, is memoryConn
		_, err := newWire(compressing).writeUserMessage(&is, row.payload)
		require.NoError(t, err)
		_, err = newWire(plain).writeUserMessage(&as, row.payload)
		require.NoError(t, err)
		require.Equal(t, row.compressed, len(is.written) < len(as.written), name)
		require.LessOrEqual(t, len(is.written), len(as.written), name)
	}
}

// A frame that no node would take is not sent, and the error has the sizes (W62).
func TestFrameOverTheLimitFailsAtTheSender(t *testing.T) {
	random := make([]byte, maxFrame)
	_, _ = rand.Read(random)
	cfg := plainConfig()
	cfg.Keyring, cfg.GossipVerifyOutgoing, cfg.EnableCompression = testRing(t, "a"), true, true
	var conn memoryConn
	_, err := newWire(cfg).writeUserMessage(&conn, random)
	require.ErrorIs(t, err, ErrTooLarge)
	require.ErrorContains(t, err, "20971538")
	require.Empty(t, conn.written)
	_, err = newWire(cfg).writeUserMessage(&conn, make([]byte, maxFrame))
	require.NoError(t, err, "compressed it fits")
}

// A push/pull that announces more nodes than it can hold is refused before memory is
// given for them: 1,927 bytes cost 265 MiB and seconds (W88).
func TestPushPullThatCannotHoldItsNodesIsRefused(t *testing.T) {
	content := (&pushPullHeader{Nodes: maxStateNodes}).appendTo(nil)
	content = append(content, bytes.Repeat([]byte{0x80}, maxStateNodes)...)
	sealing := &Config{Keyring: testRing(t, "a"), ProtocolVersion: 2}
	for name, stream := range map[string][]byte{
		"compressed": appendLonger(nil, content),
		"sealed":     frameWith(t, sealing, content),
		"plain":      content,
	} {
		r, kind, err := newWire(sealing).openInbound(&memoryConn{unread: stream})
		require.NoError(t, err)
		require.Equal(t, pushPullMsg, kind)
		_, list, _, err := readPushPull(r, nil)
		require.ErrorIs(t, err, ErrMalformed, name)
		require.LessOrEqual(t, cap(list), 4*fewEntries, name)
	}
}

// While a frame comes in, memory that it has outgrown is not kept.
func TestReaderKeepsNoOutgrownMemory(t *testing.T) {
	random := make([]byte, 10<<20)
	_, _ = rand.Read(random)
	cfg := &Config{Keyring: testRing(t, "a"), ProtocolVersion: 2}
	for name, stream := range map[string][]byte{
		"sealed":     frameWith(t, cfg, append([]byte{byte(userMsg)}, random...)),
		"compressed": appendLonger(nil, append([]byte{byte(userMsg)}, random...)),
	} {
		r, _, err := newWire(cfg).openInbound(&memoryConn{unread: stream, most: 50_000})
		require.NoError(t, err)
		held := 0
		for _, memory := range r.held {
			held += cap(memory)
		}
		require.Less(t, held, 30<<20, name)
		require.Len(t, r.held, 1, name)
	}
}
