package memberlist

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Errors to test for with [errors.Is]. They are returned wrapped, with the
// address and the cause in the text, also inside the *multierror.Error that Join
// returns. A node that refuses a stream because of a wrong configuration sends
// one of these texts to the other side.
var (
	// ErrLabelMismatch means that the label of a message or stream is not
	// Config.Label. A stream with a wrong label is closed without an answer, so
	// Join returns this error for every stream that is closed without an answer.
	// There can be other reasons: the node is overloaded or shutting down.
	ErrLabelMismatch = errors.New("label does not match")

	// ErrDecrypt means that no key of the Keyring opens a message. The two sides
	// share no key, or the message was damaged or forged.
	ErrDecrypt = errors.New("no installed keys could decrypt the message")

	// ErrNotEncrypted means that a node with keys and with
	// Config.GossipVerifyIncoming received clear text.
	ErrNotEncrypted = errors.New("encryption is configured but remote state is not encrypted")

	// ErrEncrypted means that a node without keys received an encrypted message.
	ErrEncrypted = errors.New("remote state is encrypted and encryption is not configured")

	// ErrVersion means that protocol versions are incompatible: the configured
	// version is out of range, or a node does not understand the version that
	// another one speaks.
	ErrVersion = errors.New("incompatible protocol version")

	// ErrNodeNameRequired means that Config.RequireNodeNames is set and
	// something was to be sent to an address without a node name.
	ErrNodeNameRequired = errors.New("memberlist: node names are required by configuration but one was not provided")

	// ErrTimeout means that an operation timed out. If a context set the limit,
	// errors.Is(err, context.DeadlineExceeded) holds as well.
	ErrTimeout = errors.New("timeout")

	// ErrLeft means that the node has left the cluster and the call needs a
	// member.
	ErrLeft = errors.New("memberlist: the node has left the cluster")

	// ErrShutdown means that the node was shut down.
	ErrShutdown = errors.New("memberlist: the node is shut down")

	// ErrTooLarge means that a message, state, label or metadata exceeds its
	// limit.
	ErrTooLarge = errors.New("over the size limit")

	// ErrMalformed means that received bytes are not a valid message.
	ErrMalformed = errors.New("malformed message")

	// ErrRejected means that a delegate or Config.CIDRsAllowed refused. A
	// [RejectedError] has the details.
	ErrRejected = errors.New("rejected")
)

// Causes with a text of their own, which programs match (P151).
var (
	errTwoLogOutputs   = errors.New("cannot specify both LogOutput and Logger; please choose a single log configuration setting")
	errEmptyNodeName   = errors.New("empty node name provided")
	errTransportClosed = fmt.Errorf("Config.Transport was shut down: %w", net.ErrClosed)
	errTransportInUse  = errors.New("Config.Transport serves another node already")

	errLeaveTimeout  = newKindError(ErrTimeout, "timeout waiting for leave broadcast")
	errUpdateTimeout = newKindError(ErrTimeout, "timeout waiting for update broadcast")
)

// kindError gives an error whose text is fixed by P151 a sentinel that callers
// can test for, without the sentinel's own words in the text.
type kindError struct {
	err  error // text, and causes wrapped with %w
	kind error
}

// newKindError formats like fmt.Errorf, %w included, and makes the result an
// instance of kind for errors.Is.
func newKindError(kind error, format string, args ...any) error {
	return &kindError{err: fmt.Errorf(format, args...), kind: kind}
}

// Error returns the text alone.
func (e *kindError) Error() string { return e.err.Error() }

// Unwrap returns the text with its causes, and the sentinel.
func (e *kindError) Unwrap() []error { return []error{e.err, e.kind} }

// JoinError is one failure of [Memberlist.Join]. The *multierror.Error that Join
// returns holds one for each entry or address that failed.
type JoinError struct {
	// Seed is the entry as it was given to Join.
	Seed string

	// Addr is the "ip:port" that was contacted. It is empty if the entry could
	// not be resolved.
	Addr string

	// Err is the cause.
	Err error
}

// Error says what failed for which seed or address.
func (e *JoinError) Error() string {
	if e.Addr == "" {
		return fmt.Sprintf("failed to resolve %s: %v", e.Seed, e.Err)
	}
	return fmt.Sprintf("failed to join %s: %v", e.Addr, e.Err)
}

// Unwrap returns the cause.
func (e *JoinError) Unwrap() error { return e.Err }

// UnreachableError means that no connection to an address could be made, or that
// a name could not be resolved. After a timeout, errors.Is(err, ErrTimeout) holds.
type UnreachableError struct {
	// Addr is the "host:port" that was dialled or the name that was looked up.
	Addr string

	// Err is the error of the transport or the resolver.
	Err error
}

// Error returns the text of the cause, which names the address already when it
// comes from package net.
func (e *UnreachableError) Error() string {
	text := e.Err.Error()
	if strings.Contains(text, e.Addr) {
		return text
	}
	return fmt.Sprintf("cannot reach %s: %s", e.Addr, text)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Is reports whether target is ErrTimeout and the cause was a lack of time.
func (e *UnreachableError) Is(target error) bool {
	return target == ErrTimeout && isTimeout(e.Err)
}

// isTimeout reports whether an error of package net or context, or one of this
// package, means that time ran out.
func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrTimeout) {
		return true
	}
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// RejectedError means that a MergeDelegate or AliveDelegate refused a node, or that
// the node's address is in none of the networks of Config.CIDRsAllowed.
// errors.Is(err, ErrRejected) holds.
type RejectedError struct {
	// By is the address of the node that refused. It is empty if it was this node.
	By string

	// Reason is the delegate's error. If another node refused, it has only the
	// text of that error.
	Reason error
}

// Error returns the delegate's own words, after the address of the node that
// refused if it was another one.
func (e *RejectedError) Error() string {
	if e.By == "" {
		return e.Reason.Error()
	}
	return fmt.Sprintf("rejected by %s: %v", e.By, e.Reason)
}

// Unwrap returns the delegate's error.
func (e *RejectedError) Unwrap() error { return e.Reason }

// Is reports whether target is ErrRejected.
func (e *RejectedError) Is(target error) bool { return target == ErrRejected }

// RemoteError is the answer of a node that refused an exchange.
//
// For known refusals errors.Is finds ErrNotEncrypted, ErrEncrypted, ErrDecrypt,
// ErrTooLarge or ErrMalformed, from the point of view of the other node. If a
// delegate of that node refused, errors.As finds a *[RejectedError].
type RemoteError struct {
	// Addr is the address of the node that answered.
	Addr string

	// Message is its text.
	Message string
}

// Error returns "remote error: " and the message.
func (e *RemoteError) Error() string { return "remote error: " + e.Message }

// rejectionPrefix starts the answer to a node whose join a delegate refused;
// the delegate's words follow. Nodes that do not know the prefix show the whole
// text.
const rejectionPrefix = "rejected: "

// remoteRefusals maps what nodes answer to something they cannot read (W48) to
// the sentinel. An answer has nothing but its text to go by.
var remoteRefusals = []struct {
	text string
	kind error
}{
	{ErrNotEncrypted.Error(), ErrNotEncrypted},
	{ErrEncrypted.Error(), ErrEncrypted},
	{ErrDecrypt.Error(), ErrDecrypt},
	{"is larger than limit (", ErrTooLarge},
	{"decompressed message is empty", ErrMalformed},
	{"cannot decompress unknown algorithm ", ErrMalformed},
	{ErrMalformed.Error(), ErrMalformed},
}

// Unwrap returns what the refusal means here, or nil if it is an unknown one.
func (e *RemoteError) Unwrap() error {
	if words, ok := strings.CutPrefix(e.Message, rejectionPrefix); ok {
		return &RejectedError{By: e.Addr, Reason: errors.New(words)}
	}
	for _, r := range remoteRefusals {
		if strings.Contains(e.Message, r.text) {
			return r.kind
		}
	}
	return nil
}

// NoPingResponseError means that [Memberlist.Ping] got no answer in time. It is
// returned as a value, not as a pointer. errors.Is(err, ErrTimeout) holds.
type NoPingResponseError struct {
	node string
}

// Error names the node.
func (e NoPingResponseError) Error() string { return "No response from node " + e.node }

// Is reports whether target is ErrTimeout.
func (e NoPingResponseError) Is(target error) bool { return target == ErrTimeout }
