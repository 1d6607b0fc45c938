package programs

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

// panicIn is the environment variable that makes the test binary the program
// whose callback of that name panics.
const panicIn = "INTEROP_PANIC_IN"

// callbacks are those that a second node makes the first one's library call.
var callbacks = []string{
	"NotifyMsg", "NotifyMsg stream", "GetBroadcasts", "LocalState", "MergeRemoteState",
	"NotifyJoin", "NotifyUpdate", "NotifyLeave", "NotifyConflict", "NotifyAlive", "NotifyMerge",
	"AckPayload", "NotifyPingComplete",
}

// TestPanicCrashes: a panic in a callback ends the program, as any panic does in
// Go: at once, with the panic's words and the callback's frame on stderr. A
// library that swallowed it would leave a program running in a state that its
// author never thought of.
func TestPanicCrashes(t *testing.T) {
	if where := os.Getenv(panicIn); where != "" {
		panicProgram(t, where)
		return
	}
	for _, where := range callbacks {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestPanicCrashes$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), panicIn+"="+where)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "%s", out)
			require.Equal(t, 2, exit.ExitCode(), "%s", out)
			require.Contains(t, string(out), "panic: sour grapes")
			require.Contains(t, string(out), "programs.sour")
			require.NotContains(t, string(out), "test timed out")
		})
	}
}

func sour() { panic("sour grapes") }

// panicProgram is a node whose callback panics, and another that provokes it.
func panicProgram(t *testing.T, where string) {
	var joined bool // the own join comes first and is fine
	victim := loopbackConfig("victim", new(lines))
	victim.Delegate = &hub{
		notifyMsg:     func([]byte) { sourIf(where == "NotifyMsg" || where == "NotifyMsg stream") },
		getBroadcasts: func(int, int) [][]byte { sourIf(where == "GetBroadcasts"); return nil },
		localState:    func(bool) []byte { sourIf(where == "LocalState"); return []byte("x") },
		mergeState:    func([]byte, bool) { sourIf(where == "MergeRemoteState") },
	}
	victim.Events = happening(func(kind string, _ *memberlist.Node) {
		sourIf(where == "NotifyJoin" && joined)
		sourIf(where == "NotifyUpdate" && kind == "update" || where == "NotifyLeave" && kind == "leave")
		joined = true
	})
	victim.Conflict = conflictFunc(func() { sourIf(where == "NotifyConflict") })
	victim.Alive = aliveFunc(func(n *memberlist.Node) error { sourIf(where == "NotifyAlive" && n.Name != "victim"); return nil })
	victim.Merge = mergeFunc(func([]*memberlist.Node) error { sourIf(where == "NotifyMerge"); return nil })
	victim.Ping = pingFuncs{
		payload:  func() []byte { sourIf(where == "AckPayload"); return nil },
		complete: func() { sourIf(where == "NotifyPingComplete") },
	}
	victim.ProbeInterval, victim.ProbeTimeout = 200*time.Millisecond, 100*time.Millisecond
	m := create(t, victim)

	other := loopbackConfig("other", new(lines))
	other.Delegate = &hub{
		localState: func(bool) []byte { return []byte("y") },
		nodeMeta:   func(int) []byte { return []byte(time.Now().String()) },
	}
	o := create(t, other)
	if _, err := o.Join([]string{hostPort(m.LocalNode())}); err != nil {
		t.Log(err)
	}
	switch where {
	case "NotifyMsg":
		require.NoError(t, o.SendBestEffort(m.LocalNode(), []byte("go")))
	case "NotifyMsg stream":
		require.NoError(t, o.SendReliable(m.LocalNode(), []byte("go")))
	case "NotifyUpdate":
		o.UpdateNode(10 * time.Second)
	case "NotifyLeave":
		o.Leave(10 * time.Second)
	case "NotifyConflict":
		third := create(t, loopbackConfig("other", new(lines)))
		third.Join([]string{hostPort(m.LocalNode())})
	case "AckPayload":
		o.Ping("victim", udpAddr(m.LocalNode()))
	}
	<-time.After(30 * time.Second)
	require.Fail(t, "still running")
}

func sourIf(now bool) {
	if now {
		sour()
	}
}

type aliveFunc func(*memberlist.Node) error

func (f aliveFunc) NotifyAlive(n *memberlist.Node) error { return f(n) }

type mergeFunc func([]*memberlist.Node) error

func (f mergeFunc) NotifyMerge(all []*memberlist.Node) error { return f(all) }

type conflictFunc func()

func (f conflictFunc) NotifyConflict(_, _ *memberlist.Node) { f() }

type pingFuncs struct {
	payload  func() []byte
	complete func()
}

func (f pingFuncs) AckPayload() []byte                                         { return f.payload() }
func (f pingFuncs) NotifyPingComplete(*memberlist.Node, time.Duration, []byte) { f.complete() }

// TestPanicInOwnCall: what a callback panics with while the caller waits in
// Create ends the program too.
func TestPanicInOwnCall(t *testing.T) {
	if os.Getenv(panicIn) == "NodeMeta" {
		cfg := loopbackConfig("victim", new(lines))
		cfg.Delegate = &hub{nodeMeta: func(int) []byte { sour(); return nil }}
		_, err := memberlist.Create(cfg)
		require.NoError(t, errors.Join(err, errors.New("still running")))
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPanicInOwnCall$")
	cmd.Env = append(os.Environ(), panicIn+"=NodeMeta")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "panic: sour grapes")
	require.NotContains(t, string(out), "still running")
}
