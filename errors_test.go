package memberlist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/hashicorp/go-multierror"
	"github.com/stretchr/testify/require"
)

// sentinels are all exported error values.
var sentinels = map[string]error{
	"ErrLabelMismatch":    ErrLabelMismatch,
	"ErrDecrypt":          ErrDecrypt,
	"ErrNotEncrypted":     ErrNotEncrypted,
	"ErrEncrypted":        ErrEncrypted,
	"ErrVersion":          ErrVersion,
	"ErrNodeNameRequired": ErrNodeNameRequired,
	"ErrTimeout":          ErrTimeout,
	"ErrLeft":             ErrLeft,
	"ErrShutdown":         ErrShutdown,
	"ErrTooLarge":         ErrTooLarge,
	"ErrMalformed":        ErrMalformed,
	"ErrRejected":         ErrRejected,
}

// onlyKind checks that err is an instance of one sentinel and of no other.
func onlyKind(t *testing.T, kind, err error) {
	t.Helper()
	for name, sentinel := range sentinels {
		require.Equal(t, sentinel == kind, errors.Is(err, sentinel), "%v is %s", err, name)
	}
}

// TestTextsThatProgramsMatch checks P151.
func TestTextsThatProgramsMatch(t *testing.T) {
	for text, err := range map[string]error{
		"encryption is configured but remote state is not encrypted":                                 ErrNotEncrypted,
		"remote state is encrypted and encryption is not configured":                                 ErrEncrypted,
		"no installed keys could decrypt the message":                                                ErrDecrypt,
		"memberlist: node names are required by configuration but one was not provided":              ErrNodeNameRequired,
		"cannot specify both LogOutput and Logger; please choose a single log configuration setting": errTwoLogOutputs,
		"timeout waiting for leave broadcast":                                                        errLeaveTimeout,
		"timeout waiting for update broadcast":                                                       errUpdateTimeout,
		"empty node name provided":                                                                   errEmptyNodeName,
		"No response from node b":                                                                    NoPingResponseError{node: "b"},
		"remote error: went wrong":                                                                   &RemoteError{Addr: "10.0.0.1:7946", Message: "went wrong"},
		"failed to resolve nowhere: no such host":                                                    &JoinError{Seed: "nowhere", Err: errors.New("no such host")},
		"failed to join 10.0.0.1:7946: connection refused":                                           &JoinError{Seed: "b", Addr: "10.0.0.1:7946", Err: errors.New("connection refused")},
		"failed to join 10.0.0.1:7946: remote error: " + ErrNotEncrypted.Error():                     &JoinError{Addr: "10.0.0.1:7946", Err: &RemoteError{Message: ErrNotEncrypted.Error()}},
		"protocol version '0' too low. Must be in range: [1, 5]":                                     (&Config{}).validate(),
		"protocol version '6' too high. Must be in range: [1, 5]":                                    (&Config{ProtocolVersion: 6}).validate(),
		"Node 'b' protocol version (9) is incompatible: [1, 5]":                                      newKindError(ErrVersion, "Node '%s' protocol version (%d) is incompatible: [%d, %d]", "b", 9, 1, 5),
		"no thanks":                            &RejectedError{Reason: errors.New("no thanks")},
		"rejected by 10.0.0.1:7946: no thanks": &RejectedError{By: "10.0.0.1:7946", Reason: errors.New("no thanks")},
	} {
		require.EqualError(t, err, text)
	}
}

func TestErrorsAreFoundInWhatJoinReturns(t *testing.T) {
	for name, kind := range sentinels {
		t.Run(name, func(t *testing.T) {
			var joined *multierror.Error
			joined = multierror.Append(joined, &JoinError{Seed: "x", Err: errors.New("something else")})
			joined = multierror.Append(joined, &JoinError{
				Seed: "b:7946", Addr: "10.0.0.1:7946",
				Err: fmt.Errorf("reading the answer: %w", newKindError(kind, "exact text: %w", io.ErrUnexpectedEOF)),
			})
			err := joined.ErrorOrNil()
			onlyKind(t, kind, err)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.ErrorContains(t, err, "failed to join 10.0.0.1:7946: reading the answer: exact text: unexpected EOF")
		})
	}
}

func TestJoinErrorTellsTheSeed(t *testing.T) {
	err := error(multierror.Append(nil, &JoinError{Seed: "b:7946", Addr: "10.0.0.1:7946", Err: io.EOF}))
	var failed *JoinError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "b:7946", failed.Seed)
	require.Equal(t, "10.0.0.1:7946", failed.Addr)
	require.ErrorIs(t, err, io.EOF)
}

func TestUnreachableErrorHasTheAddressAndTheCause(t *testing.T) {
	addr := &net.TCPAddr{IP: net.IP{10, 0, 0, 1}, Port: 7946}
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: addr, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	err := error(multierror.Append(nil, &JoinError{
		Seed: "b", Addr: addr.String(), Err: &UnreachableError{Addr: addr.String(), Err: refused},
	}))
	var unreachable *UnreachableError
	require.ErrorAs(t, err, &unreachable)
	require.Equal(t, "10.0.0.1:7946", unreachable.Addr)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.ErrorContains(t, err, "failed to join 10.0.0.1:7946: dial tcp 10.0.0.1:7946: connect: connection refused")
	onlyKind(t, nil, err)
}

func TestUnreachableErrorNamesTheAddressOnce(t *testing.T) {
	require.EqualError(t, &UnreachableError{Addr: "a:1", Err: errors.New("dial a:1: no")}, "dial a:1: no")
	require.EqualError(t, &UnreachableError{Addr: "a:1", Err: errors.New("no route")}, "cannot reach a:1: no route")
}

func TestUnreachableErrorForLackOfTimeIsATimeout(t *testing.T) {
	for name, cause := range map[string]error{
		"dial":     &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded},
		"dns":      &net.DNSError{Err: "i/o timeout", Name: "b", IsTimeout: true},
		"context":  fmt.Errorf("dial: %w", context.DeadlineExceeded),
		"sentinel": newKindError(ErrTimeout, "too late"),
	} {
		t.Run(name, func(t *testing.T) {
			onlyKind(t, ErrTimeout, &UnreachableError{Addr: "b:7946", Err: cause})
		})
	}
	for _, cause := range []error{context.Canceled, syscall.ECONNREFUSED, &net.DNSError{Err: "no such host", IsNotFound: true}} {
		onlyKind(t, nil, &UnreachableError{Addr: "b:7946", Err: cause})
	}
}

type vetoError struct{ code int }

func (e vetoError) Error() string { return fmt.Sprintf("veto %d", e.code) }

func TestRejectedErrorCarriesTheDelegatesOwnError(t *testing.T) {
	err := error(multierror.Append(nil, &JoinError{
		Seed: "b", Addr: "10.0.0.1:7946", Err: &RejectedError{Reason: vetoError{code: 7}},
	}))
	onlyKind(t, ErrRejected, err)
	var veto vetoError
	require.ErrorAs(t, err, &veto)
	require.Equal(t, 7, veto.code)
	require.ErrorContains(t, err, "failed to join 10.0.0.1:7946: veto 7")
}

// TestRemoteRefusalsAreRecognised checks W48.
func TestRemoteRefusalsAreRecognised(t *testing.T) {
	for text, kind := range map[string]error{
		"encryption is configured but remote state is not encrypted":                  ErrNotEncrypted,
		"remote state is encrypted and encryption is not configured":                  ErrEncrypted,
		"no installed keys could decrypt the message":                                 ErrDecrypt,
		"remote node state is larger than limit (20971521)":                           ErrTooLarge,
		"decompressed message is larger than limit (41943040)":                        ErrTooLarge,
		"decompressed message is empty":                                               ErrMalformed,
		"cannot decompress unknown algorithm 7":                                       ErrMalformed,
		"decompressing: malformed message: lzw: invalid code":                         ErrMalformed,
		"while reading: no installed keys could decrypt the message (of 10.0.0.2:99)": ErrDecrypt,
		"something unheard of":                                                        nil,
		"":                                                                            nil,
	} {
		remote := &RemoteError{Addr: "10.0.0.1:7946", Message: text}
		onlyKind(t, kind, error(multierror.Append(nil, &JoinError{Addr: remote.Addr, Err: remote})))
	}
}

func TestRemoteErrorOfADelegateIsARejection(t *testing.T) {
	err := error(multierror.Append(nil, &JoinError{
		Seed: "b", Addr: "10.0.0.1:7946",
		Err: &RemoteError{Addr: "10.0.0.1:7946", Message: rejectionPrefix + "wrong datacentre"},
	}))
	onlyKind(t, ErrRejected, err)
	var rejected *RejectedError
	require.ErrorAs(t, err, &rejected)
	require.Equal(t, "10.0.0.1:7946", rejected.By)
	require.EqualError(t, rejected.Reason, "wrong datacentre")
	require.ErrorContains(t, err, "remote error: rejected: wrong datacentre")
}

// TestNoPingResponseErrorIsAValueAndATimeout checks P40.
func TestNoPingResponseErrorIsAValueAndATimeout(t *testing.T) {
	err := fmt.Errorf("measuring: %w", NoPingResponseError{node: "b"})
	var silent NoPingResponseError
	require.ErrorAs(t, err, &silent)
	require.EqualError(t, silent, "No response from node b")
	onlyKind(t, ErrTimeout, err)
}
