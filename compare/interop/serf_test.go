package interop_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist/compare/interop/swap"
)

const agentPackage = "github.com/seed-83836a96/memberlist/compare/interop/serfagent"

// TestSerf forms one cluster of Serf agents, two built on v0.7.0 and two built
// on our library by a replace directive, and uses all that Serf offers.
func TestSerf(t *testing.T) {
	enter(t, "list", rowSerf, "")
	dir := t.TempDir()
	kinds := []string{filepath.Join(dir, "agent-theirs"), filepath.Join(dir, "agent-ours")}
	goBuild(t, "-o", kinds[0], agentPackage)
	modfile, err := swap.Modfile(dir)
	require.NoError(t, err)
	goBuild(t, "-modfile", modfile, "-mod=mod", "-o", kinds[1], agentPackage)

	s := &serfs{t: t, top: t, dir: dir, keys: []string{testKey(1), testKey(2)}}
	s.port = freePort(t, "127.200.0.1")
	for i, name := range []string{"a1", "b1", "a2", "b2"} {
		s.start(kinds[i%2], name, fmt.Sprintf("127.200.%d.1", i))
		if i > 0 {
			answer := s.must(name, "join", s.addr(s.order[i-1]))
			require.Equal(t, 1, answer.Count)
		}
	}
	s.statuses("", "alive", "alive", "alive", "alive")
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"user events", s.userEvents},
		{"queries", s.queries},
		{"tags", s.tags},
		{"key rotation", s.rotation},
		{"leave", s.leaving},
		{"reconnect", s.reconnect},
	} {
		t.Run(part.name, func(t *testing.T) {
			s.t = t
			part.run(t)
		})
	}
}

func testKey(fill byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32))
}

func goBuild(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command("go", append([]string{"build"}, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// serfs are the running agents.
type serfs struct {
	t     *testing.T // the part that runs
	top   *testing.T
	dir   string
	port  int
	keys  []string
	order []string
	procs map[string]*serfProcess
}

type serfProcess struct {
	binary, name, ip string
	cmd              *exec.Cmd
	in               io.WriteCloser
	out              *bufio.Reader
	log              *lockedBuffer
}

// lockedBuffer collects what a process writes while it runs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type serfAnswer struct {
	Error   string
	Lines   []string
	Members map[string]struct {
		Status string
		Tags   map[string]string
	}
	Count int
}

func (s *serfs) addr(name string) string { return fmt.Sprintf("%s:%d", s.procs[name].ip, s.port) }

// start runs an agent, anew if there was one of the name.
func (s *serfs) start(binary, name, ip string) {
	s.t.Helper()
	if s.procs == nil {
		s.procs = make(map[string]*serfProcess)
	}
	if s.procs[name] == nil {
		s.order = append(s.order, name)
	}
	p := &serfProcess{binary: binary, name: name, ip: ip, log: new(lockedBuffer)}
	p.cmd = exec.Command(binary, "-name", name, "-bind", ip, "-port", fmt.Sprint(s.port), "-key", s.keys[0],
		"-tags", fmt.Sprintf(`{"kind":%q}`, name[:1]), "-snapshot", filepath.Join(s.dir, name+".snap"))
	p.cmd.Stderr = p.log
	var err error
	p.in, err = p.cmd.StdinPipe()
	require.NoError(s.t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(s.t, err)
	p.out = bufio.NewReader(out)
	require.NoError(s.t, p.cmd.Start())
	s.procs[name] = p
	s.top.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	s.must(name, "members") // answers once it listens
}

func (s *serfs) do(name string, command ...string) serfAnswer {
	s.t.Helper()
	p := s.procs[name]
	require.NoError(s.t, json.NewEncoder(p.in).Encode(command))
	line, err := p.out.ReadBytes('\n')
	require.NoError(s.t, err, "%s %v\n%s", name, command, p.log)
	var answer serfAnswer
	require.NoError(s.t, json.Unmarshal(line, &answer))
	return answer
}

func (s *serfs) must(name string, command ...string) serfAnswer {
	s.t.Helper()
	answer := s.do(name, command...)
	require.Empty(s.t, answer.Error, "%s %v\n%s", name, command, s.procs[name].log)
	return answer
}

// poll asks until the condition holds.
func (s *serfs) poll(what string, holds func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			for _, p := range s.procs {
				s.t.Logf("%s:\n%s", p.name, p.log)
			}
			require.FailNow(s.t, "not within a minute: "+what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// statuses waits until all agents but one see the agents in these states.
func (s *serfs) statuses(but string, want ...string) {
	s.t.Helper()
	for _, name := range s.order {
		if name == but {
			continue
		}
		s.poll(fmt.Sprintf("%s sees %v", name, want), func() bool {
			members := s.must(name, "members").Members
			for i, other := range s.order {
				if members[other].Status != want[i] {
					return false
				}
			}
			return true
		})
	}
}

func (s *serfs) userEvents(t *testing.T) {
	for _, from := range s.order {
		s.must(from, "event", "deploy", "by "+from)
		for _, name := range s.order {
			s.poll(name+" hears of the deploy by "+from, func() bool {
				return slices.Contains(s.must(name, "events").Lines, "user deploy by "+from)
			})
		}
	}
}

func (s *serfs) queries(t *testing.T) {
	for _, from := range s.order {
		var want []string
		for _, name := range s.order {
			want = append(want, name+" heard hello from "+from)
		}
		slices.Sort(want)
		answer := s.must(from, "query", "greet", "hello from "+from)
		require.Equal(t, want, answer.Lines, from)
		require.Equal(t, len(s.order), answer.Count, "acks to "+from)
	}
}

func (s *serfs) tags(t *testing.T) {
	for _, from := range s.order {
		want := "role of " + from
		s.must(from, "tags", fmt.Sprintf(`{"role":%q,"long":%q}`, want, strings.Repeat("x", 400)))
		for _, name := range s.order {
			s.poll(name+" sees the tags of "+from, func() bool {
				return s.must(name, "members").Members[from].Tags["role"] == want
			})
		}
	}
}

// rotation goes to the second key, asked by an agent of ours, and back, asked
// by one of theirs.
func (s *serfs) rotation(t *testing.T) {
	for i, from := range []string{"b1", "a1"} {
		old, fresh := s.keys[i], s.keys[1-i]
		for _, command := range [][]string{{"install-key", fresh}, {"use-key", fresh}, {"remove-key", old}} {
			require.Equal(t, len(s.order), s.must(from, command...).Count, "%v asked by %s", command[0], from)
		}
		require.Equal(t, []string{fmt.Sprintf("%s %d", fresh, len(s.order))}, s.must(from, "list-keys").Lines)
	}
	s.statuses("", "alive", "alive", "alive", "alive")
}

// leaving lets one agent of each kind leave, and start again.
func (s *serfs) leaving(t *testing.T) {
	for i, name := range []string{"a2", "b2"} {
		p := s.procs[name]
		s.must(name, "leave")
		want := []string{"alive", "alive", "alive", "alive"}
		want[2+i] = "left"
		s.statuses(name, want...)
		p.end(t)
		s.start(p.binary, name, p.ip)
		s.must(name, "join", s.addr([]string{"b1", "a1"}[i]))
		s.statuses("", "alive", "alive", "alive", "alive")
	}
}

// end lets a process finish by itself.
func (p *serfProcess) end(t *testing.T) {
	require.NoError(t, json.NewEncoder(p.in).Encode([]string{"quit"}))
	require.NoError(t, p.cmd.Wait(), "%s", p.log)
}

// reconnect kills one agent of each kind. The others see it fail, go on trying,
// and have it back without anybody joining: by its snapshot, and by theirs.
func (s *serfs) reconnect(t *testing.T) {
	for i, name := range []string{"a2", "b2"} {
		p := s.procs[name]
		require.NoError(t, p.cmd.Process.Kill())
		p.cmd.Wait()
		want := []string{"alive", "alive", "alive", "alive"}
		want[2+i] = "failed"
		s.statuses(name, want...)
		require.NoError(t, os.Remove(filepath.Join(s.dir, name+".snap")))
		s.start(p.binary, name, p.ip)
		s.statuses("", "alive", "alive", "alive", "alive")
	}
}
