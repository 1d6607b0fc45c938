package memberlist

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Errors that a caller can test for with [errors.Is]. They come wrapped, with
// the address and the cause in the text; inside the *multierror.Error that Join
// returns they are found too. The texts of those that name a mistake in the
// set-up are also what other nodes of the cluster send as their refusal.
var (
	// ErrLabelMismatch means that a message or stream carries another label
	// than Config.Label, or none where one is wanted, or one where none is. It
	// is dropped without an answer. So Join reports it for every stream that the
	// other side closed without an answer, which can have another reason too: a
	// node that is overloaded or about to end.
	ErrLabelMismatch = errors.New("label does not match")

	// ErrDecrypt means that none of the installed keys opens a message: the two
	// sides share no key, or the message was damaged or forged.
	ErrDecrypt = errors.New("no installed keys could decrypt the message")

	// ErrNotEncrypted means that a node which has keys and insists on them
	// (Config.GossipVerifyIncoming) met a message in clear text.
	ErrNotEncrypted = errors.New("encryption is configured but remote state is not encrypted")

	// ErrEncrypted means that a node without keys met an encrypted message.
	ErrEncrypted = errors.New("remote state is encrypted and encryption is not configured")

	// ErrVersion means that protocol versions do not go together: the
	// configured one is out of range, or that of a node is not understood by
	// another.
	ErrVersion = errors.New("incompatible protocol version")

	// ErrNodeNameRequired means that Config.RequireNodeNames is set and
	// something was to be sent to an address without a node name.
	ErrNodeNameRequired = errors.New("memberlist: node names are required by configuration but one was not provided")

	// ErrTimeout means that the time allowed ran out. When a context brought
	// the limit, errors.Is(err, context.DeadlineExceeded) holds as well.
	ErrTimeout = errors.New("timeout")

	// ErrLeft means that the node has left the cluster, and the call needs a
	// member.
	ErrLeft = errors.New("memberlist: the node has left the cluster")

	// ErrShutdown means that the node was shut down.
	ErrShutdown = errors.New("memberlist: the node is shut down")

	// ErrTooLarge means that a message, state, label or meta data is over its
	// limit.
	ErrTooLarge = errors.New("over the size limit")

	// ErrMalformed means that bytes which were received cannot be understood.
	ErrMalformed = errors.New("malformed message")

	// ErrRejected means that a delegate or the filter of networks
	// (Config.CIDRsAllowed) refused. A [RejectedError] has the details.
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

// JoinError is one failure of [Memberlist.Join]: the entry that was to be
// joined, and why it could not be. The errors in the *multierror.Error that
// Join returns are of this type, one for each entry or address that failed.
type JoinError struct {
	// Seed is the entry as it was given to Join.
	Seed string

	// Addr is the "ip:port" that was contacted; empty if the entry could not be
	// resolved to one.
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

// UnreachableError tells that no connection to an address came about, or that a
// name has no address. If it was for lack of time, errors.Is(err, ErrTimeout)
// holds.
type UnreachableError struct {
	// Addr is the "host:port" that was dialled or the name that was looked up.
	Addr string

	// Err is the cause as the transport or the resolver gave it.
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

// RejectedError tells that a node was refused on purpose: by a MergeDelegate or
// AliveDelegate, or because its address is in none of the allowed networks.
// errors.Is(err, ErrRejected) holds.
type RejectedError struct {
	// By is the address of the node that refused; empty if it was this one.
	By string

	// Reason is what the delegate returned. When another node refused, only its
	// words came over.
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
// errors.Is finds the sentinel that belongs to the refusal if it is a known
// one: ErrNotEncrypted, ErrEncrypted, ErrDecrypt, ErrTooLarge or ErrMalformed,
// seen from the other side. If a delegate there refused, errors.As finds a
// *[RejectedError].
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

// NoPingResponseError tells that [Memberlist.Ping] got no answer in time. It is
// returned as a value, not as a pointer. errors.Is(err, ErrTimeout)
// holds.
type NoPingResponseError struct {
	node string
}

// Error names the node.
func (e NoPingResponseError) Error() string { return "No response from node " + e.node }

// Is reports whether target is ErrTimeout.
func (e NoPingResponseError) Is(target error) bool { return target == ErrTimeout }
