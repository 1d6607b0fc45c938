package memberlist

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAddLabelHeaderToPacket checks P152.
func TestAddLabelHeaderToPacket(t *testing.T) {
	packet := []byte("packet")
	got, err := AddLabelHeaderToPacket(packet, "")
	require.NoError(t, err)
	require.Same(t, &packet[0], &got[0])

	got, err = AddLabelHeaderToPacket(packet, "blue")
	require.NoError(t, err)
	require.Equal(t, "\xf4\x04bluepacket", string(got))
	require.Equal(t, "packet", string(packet))

	longest := strings.Repeat("x", LabelMaxSize)
	got, err = AddLabelHeaderToPacket(nil, longest)
	require.NoError(t, err)
	require.Equal(t, "\xf4\xff"+longest, string(got))

	_, err = AddLabelHeaderToPacket(packet, longest+"x")
	require.EqualError(t, err, `label "`+longest+`x" is too long`)
	require.ErrorIs(t, err, ErrTooLarge)
}

// TestRemoveLabelHeaderFromPacket checks P152.
func TestRemoveLabelHeaderFromPacket(t *testing.T) {
	for _, tc := range []struct{ packet, rest, label, err string }{
		{packet: "", rest: ""},
		{packet: "packet", rest: "packet"},
		{packet: "\xf4\x04bluepacket", rest: "packet", label: "blue"},
		{packet: "\xf4\x04blue", rest: "", label: "blue"},
		{packet: "\xf4\x01a\xf4\x01b", rest: "\xf4\x01b", label: "a"},
		{packet: "\xf4", err: "cannot decode label; packet has been truncated"},
		{packet: "\xf4\x05blue", err: "cannot decode label; packet has been truncated"},
		{packet: "\xf4\x00packet", err: "label header cannot be empty when present"},
	} {
		buf := []byte(tc.packet)
		rest, label, err := RemoveLabelHeaderFromPacket(buf)
		if tc.err != "" {
			require.EqualError(t, err, tc.err)
			require.ErrorIs(t, err, ErrMalformed)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, tc.label, label)
		require.Equal(t, tc.rest, string(rest))
		if len(rest) > 0 {
			require.Same(t, &buf[len(buf)-len(rest)], &rest[0], "the rest is a part of the packet")
		}
	}
}

// TestAddLabelHeaderToStream checks P152.
func TestAddLabelHeaderToStream(t *testing.T) {
	var conn memoryConn
	require.NoError(t, AddLabelHeaderToStream(&conn, ""))
	require.Empty(t, conn.written)
	require.NoError(t, AddLabelHeaderToStream(&conn, "blue"))
	require.Equal(t, "\xf4\x04blue", string(conn.written))
	require.ErrorIs(t, AddLabelHeaderToStream(&conn, strings.Repeat("x", 256)), ErrTooLarge)
}

// TestRemoveLabelHeaderFromStream checks P152.
func TestRemoveLabelHeaderFromStream(t *testing.T) {
	for _, tc := range []struct{ stream, rest, label, err string }{
		{stream: "stream", rest: "stream"},
		{stream: "s", rest: "s"},
		{stream: "\xf4\x04bluestream", rest: "stream", label: "blue"},
		{stream: "\xf4\x04blue", rest: "", label: "blue"},
		{stream: "\xf4\xff" + strings.Repeat("x", 255) + strings.Repeat("stream", 2000), rest: strings.Repeat("stream", 2000), label: strings.Repeat("x", 255)},
		{stream: "\xf4", err: "cannot decode label; stream has been truncated"},
		{stream: "\xf4\x05blue", err: "cannot decode label; stream has been truncated"},
		{stream: "\xf4\x00stream", err: "label header cannot be empty when present"},
	} {
		for _, most := range []int{0, 1} {
			conn, label, err := RemoveLabelHeaderFromStream(&memoryConn{unread: []byte(tc.stream), most: most})
			if tc.err != "" {
				require.EqualError(t, err, tc.err)
				require.ErrorIs(t, err, ErrMalformed)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, tc.label, label)
			rest, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Equal(t, tc.rest, string(rest))
		}
	}
}

// TestRemoveLabelHeaderFromEmptyStream checks P152.
func TestRemoveLabelHeaderFromEmptyStream(t *testing.T) {
	empty := &memoryConn{}
	conn, label, err := RemoveLabelHeaderFromStream(empty)
	require.NoError(t, err)
	require.Empty(t, label)
	require.Same(t, empty, conn)
}

// failingConn gives its bytes and then fails.
type failingConn struct {
	memoryConn
	err error
}

func (c *failingConn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		return 0, c.err
	}
	return c.memoryConn.Read(p)
}

func (c *failingConn) Write([]byte) (int, error) { return 0, c.err }

// TestRemoveLabelHeaderFromBrokenStream checks P152.
func TestRemoveLabelHeaderFromBrokenStream(t *testing.T) {
	broken := errors.New("broken")
	for _, stream := range []string{"", "\xf4", "\xf4\x05bl"} {
		_, _, err := RemoveLabelHeaderFromStream(&failingConn{memoryConn{unread: []byte(stream)}, broken})
		require.ErrorIs(t, err, broken, "%q", stream)
	}
	require.ErrorIs(t, AddLabelHeaderToStream(&failingConn{err: broken}, "blue"), broken)
}

// W40, W42: which labels pass at a node.
func TestLabelsThatPass(t *testing.T) {
	const none = "none"
	for _, tc := range []struct {
		configured string
		skip       bool
		found      string
		ok         bool
	}{
		{"", false, none, true},
		{"", false, "blue", false},
		{"blue", false, "blue", true},
		{"blue", false, "red", false},
		{"blue", false, "blu", false},
		{"blue", false, none, false},
		{"", true, none, true},
		{"", true, "blue", true},
		{"blue", true, none, true},
		{"blue", true, "blue", true},
		{"blue", true, "red", false},
	} {
		cfg := &Config{Label: tc.configured, SkipInboundLabelCheck: tc.skip}
		var header []byte
		if tc.found != none {
			header, _ = labelHeader(tc.found)
		}
		_, label, err := splitLabel(append(header, byte(userMsg)))
		require.NoError(t, err)
		err = checkLabel(cfg, label)
		require.Equal(t, tc.ok, err == nil, "%+v: %v", tc, err)
		if !tc.ok {
			require.ErrorIs(t, err, ErrLabelMismatch)
		}

		r, kind, err := newWire(cfg).openInbound(&memoryConn{unread: append(header, byte(userMsg))})
		require.Equal(t, tc.ok, err == nil, "%+v: %v", tc, err)
		if tc.ok {
			require.Equal(t, userMsg, kind)
			require.Zero(t, r.remoteSize)
		} else {
			require.ErrorIs(t, err, ErrLabelMismatch)
			require.False(t, answersWithError(err), "W41: no answer")
		}
	}
}

// Packets and streams agree about labels, and a label that was added comes off
// again.
func FuzzLabel(f *testing.F) {
	f.Add([]byte("\xf4\x04bluepacket"), "red")
	f.Add([]byte("\xf4\x04blu"), "")
	f.Add([]byte("\xf4\x00"), strings.Repeat("x", 255))
	f.Add([]byte(""), strings.Repeat("x", 256))
	f.Fuzz(func(t *testing.T, packet []byte, label string) {
		rest, found, err := RemoveLabelHeaderFromPacket(packet)
		conn, streamFound, streamErr := RemoveLabelHeaderFromStream(&memoryConn{unread: bytes.Clone(packet)})
		require.Equal(t, err == nil, streamErr == nil)
		if err == nil {
			require.Equal(t, found, streamFound)
			streamRest, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.True(t, bytes.Equal(rest, streamRest))
			again, err := AddLabelHeaderToPacket(rest, found)
			require.NoError(t, err)
			require.True(t, bytes.Equal(packet, again))
		}

		labelled, err := AddLabelHeaderToPacket(packet, label)
		require.Equal(t, len(label) <= LabelMaxSize, err == nil)
		if err != nil || label == "" {
			return
		}
		rest, found, err = RemoveLabelHeaderFromPacket(labelled)
		require.NoError(t, err)
		require.Equal(t, label, found)
		require.True(t, bytes.Equal(packet, rest))
	})
}

var _ net.Conn = (*aheadConn)(nil)
