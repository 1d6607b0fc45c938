package memberlist

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
)

// LabelMaxSize is the maximum length of a label in bytes.
const LabelMaxSize = 255

// labelHeadLen is the length of a label header without the label: the type byte
// and the length.
const labelHeadLen = 2

var (
	errLabelEmpty           = newKindError(ErrMalformed, "label header cannot be empty when present")
	errLabelPacketTruncated = newKindError(ErrMalformed, "cannot decode label; packet has been truncated")
	errLabelStreamTruncated = newKindError(ErrMalformed, "cannot decode label; stream has been truncated")
)

// AddLabelHeaderToPacket returns a new packet that starts with the label, or buf
// itself if the label is empty. A label of more than LabelMaxSize bytes is an error
// ([ErrTooLarge]).
func AddLabelHeaderToPacket(buf []byte, label string) ([]byte, error) {
	if label == "" {
		return buf, nil
	}
	header, err := labelHeader(label)
	if err != nil {
		return nil, err
	}
	return append(header, buf...), nil
}

// AddLabelHeaderToStream writes the label to a connection, or nothing if the label
// is empty. A label of more than LabelMaxSize bytes is an error ([ErrTooLarge]);
// other errors are those of the connection.
func AddLabelHeaderToStream(conn net.Conn, label string) error {
	if label == "" {
		return nil
	}
	header, err := labelHeader(label)
	if err != nil {
		return err
	}
	_, err = conn.Write(header)
	return err
}

// RemoveLabelHeaderFromPacket returns the label of a packet and the rest, which is a
// part of buf. Without a label it returns buf and an empty label. A label header that
// is truncated or empty is an error ([ErrMalformed]).
func RemoveLabelHeaderFromPacket(buf []byte) (newBuf []byte, label string, err error) {
	rest, found, err := splitLabel(buf)
	if err != nil {
		return nil, "", err
	}
	return rest, string(found), nil
}

// RemoveLabelHeaderFromStream reads the label at the beginning of a stream. It waits
// for the first byte until the deadline of conn. Use the returned connection instead
// of conn: it first returns the bytes that were read ahead. A stream that ends before
// the first byte has no label, and conn itself is returned. A label header that is
// truncated or empty is an error ([ErrMalformed]); other errors are those of conn.
// After an error the caller closes conn.
func RemoveLabelHeaderFromStream(conn net.Conn) (net.Conn, string, error) {
	ahead := &aheadConn{Conn: conn, r: bufio.NewReader(conn)}
	label, err := readLabel(ahead.r)
	switch {
	case errors.Is(err, io.EOF):
		return conn, "", nil
	case err != nil:
		return nil, "", err
	}
	return ahead, string(label), nil
}

// aheadConn is a connection from which r has read ahead.
type aheadConn struct {
	net.Conn
	r *bufio.Reader
}

// Read reads what was read ahead, then from the connection.
func (c *aheadConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// labelHeader makes the header of a label that is not empty (W38, P152).
func labelHeader(label string) ([]byte, error) {
	if len(label) > LabelMaxSize {
		return nil, newKindError(ErrTooLarge, "label %q is too long", label)
	}
	return append([]byte{byte(labelMsg), byte(len(label))}, label...), nil
}

// splitLabel is RemoveLabelHeaderFromPacket without a copy of the label, which is
// nil if there is no header (W40).
func splitLabel(buf []byte) (rest, label []byte, err error) {
	if len(buf) == 0 || messageType(buf[0]) != labelMsg {
		return buf, nil, nil
	}
	if len(buf) < labelHeadLen {
		return nil, nil, errLabelPacketTruncated
	}
	end := labelHeadLen + int(buf[1])
	switch {
	case end == labelHeadLen:
		return nil, nil, errLabelEmpty
	case len(buf) < end:
		return nil, nil, errLabelPacketTruncated
	}
	return buf[end:], buf[labelHeadLen:end], nil
}

// peeker is a reader that can look ahead: the bytes that Peek returns are valid
// until the next call, and are only removed by Discard. Peek returns an error if
// there are not that many.
type peeker interface {
	Peek(n int) ([]byte, error)
	Discard(n int) (int, error)
}

// readLabel removes the label header from the beginning of a stream; without one the
// label is nil (W41). The error is io.EOF only if the stream ends before its first
// byte.
func readLabel(r peeker) (label []byte, err error) {
	first, err := r.Peek(1)
	if err != nil {
		return nil, err
	}
	if messageType(first[0]) != labelMsg {
		return nil, nil
	}
	head, err := r.Peek(labelHeadLen)
	if err != nil {
		return nil, cutLabel(err)
	}
	size := int(head[1])
	if size == 0 {
		return nil, errLabelEmpty
	}
	header, err := r.Peek(labelHeadLen + size)
	if err != nil {
		return nil, cutLabel(err)
	}
	label = append(label, header[labelHeadLen:]...)
	_, err = r.Discard(len(header))
	return label, err
}

// cutLabel is the error for a header whose end cannot be read.
func cutLabel(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errLabelStreamTruncated
	}
	return fmt.Errorf("cannot decode label: %w", err)
}

// checkLabel judges the label that came with a packet or stream; nil means that
// there was no header (W40–W42). With SkipInboundLabelCheck input without a header
// is taken as if it had the configured label. A header that is there all the same
// must still be the right one, or any if none is configured: refusing these would
// make a step by step introduction of labels impossible (W42).
func checkLabel(cfg *Config, label []byte) error {
	if cfg.SkipInboundLabelCheck && (label == nil || cfg.Label == "") {
		return nil
	}
	if string(label) != cfg.Label {
		return fmt.Errorf("%w: got %q", ErrLabelMismatch, label)
	}
	return nil
}
