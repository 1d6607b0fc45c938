package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist"
)

func TestHelpAndWrongArguments(t *testing.T) {
	for args, want := range map[string]int{
		"-h":        0,
		"-nodes 3":  2,
		"-nodes 65": 2,
		"-nodes x":  2,
		"-unknown":  2,
		"5":         2,
	} {
		var out, errOut bytes.Buffer
		require.Equal(t, want, command(context.Background(), strings.Fields(args), &out, &errOut), args)
		require.Empty(t, out.String(), args)
		require.NotEmpty(t, errOut.String(), args)
	}
}

func TestInterruptedShowFails(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, errOut bytes.Buffer
	require.Equal(t, 1, command(ctx, nil, &out, &errOut))
	require.Contains(t, errOut.String(), "step 2")
}

func TestTableOfFewNodesHasAColumnForEach(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, printTable(&out, []string{"a", "bee", "c"}, []row{
		{"a", map[string]view{"a": {meta: "v1"}, "bee": {state: memberlist.StateSuspect, meta: "v2"}}, 2},
		{"bee", map[string]view{"a": {state: memberlist.StateLeft}}, 0},
	}))
	require.Equal(t, ""+
		"            a          bee          c   messages\n"+
		"      a     alive v1   suspect v2   -   2\n"+
		"      bee   left       -            -   0\n", out.String())
}

func TestTableOfManyNodesCountsStates(t *testing.T) {
	names := strings.Split("abcdefghi", "")
	views := map[string]view{"a": {}, "b": {}, "c": {state: memberlist.StateDead}}
	var out bytes.Buffer
	require.NoError(t, printTable(&out, names, []row{{"a", views, 1}}))
	require.Equal(t, ""+
		"          alive   suspect   dead   left   messages\n"+
		"      a   2       0         1      0      1\n", out.String())
}

func TestWaitUntilGivesTheLastReason(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	reason := errors.New("not yet")
	err := waitUntil(ctx, func() error { return reason })
	require.ErrorIs(t, err, reason)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, waitUntil(ctx, func() error { return nil }))
}

// The truth is what allAgree compares with: a node that sees anything else, or
// has not heard a message, has to be found.
func TestDisagreementIsFound(t *testing.T) {
	s := newShow(fewestNodes, &bytes.Buffer{}, &bytes.Buffer{})
	defer s.shutdown()
	require.NoError(t, s.startAll(context.Background()))
	alone := s.seed().name()
	for name := range s.nodes {
		if name != alone {
			require.NoError(t, s.stop(name))
		}
	}
	truth := view{state: memberlist.StateAlive, meta: "v1", address: s.seed().address()}
	s.truth[alone] = truth
	require.NoError(t, s.allAgree())

	s.expect(alone, func(v *view) { v.meta = "v2" })
	require.ErrorContains(t, s.allAgree(), "v2")
	s.truth[alone] = truth

	s.truth["other"] = truth
	require.ErrorContains(t, s.allAgree(), "sees other")
	delete(s.truth, "other")

	s.said = []string{"hello"}
	require.ErrorContains(t, s.allAgree(), "has not heard")
	s.seed().broadcast("hello")
	require.NoError(t, s.allAgree())

	require.ErrorContains(t, s.reportVerdicts(s.start), "nobody suspected")
}
