package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// runAsNode makes the test program a node of the store instead.
const runAsNode = "KV_TEST_RUN_AS_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(runAsNode) != "" {
		os.Exit(command(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

const patience = 20 * time.Second

// process is a node that runs as a process of its own.
type process struct {
	started
	t    *testing.T
	cmd  *exec.Cmd
	logs *bytes.Buffer
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	p := &process{t: t, cmd: exec.Command(program, args...), logs: &bytes.Buffer{}}
	p.cmd.Env = append(os.Environ(), runAsNode+"=1")
	p.cmd.Stderr = p.logs
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		p.kill()
		t.Fatalf("the node did not start: %v\n%s", err, p.logs)
	}
	require.NoError(t, json.Unmarshal(line, &p.started))
	return p
}

// kill ends the process without giving it a chance to say anything.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// do sends a request and returns status and body of the answer.
func (p *process) do(method, path, body string) (int, string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+p.HTTP+path, strings.NewReader(body))
	require.NoError(p.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(p.t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(p.t, err)
	return response.StatusCode, string(content)
}

func (p *process) put(key, value string) {
	p.t.Helper()
	status, body := p.do(http.MethodPut, "/kv/"+key, value)
	require.Equal(p.t, http.StatusOK, status, body)
}

func (p *process) remove(key string) {
	p.t.Helper()
	status, body := p.do(http.MethodDelete, "/kv/"+key, "")
	require.Equal(p.t, http.StatusOK, status, body)
}

// awaitContent waits until the node holds exactly the content.
func (p *process) awaitContent(want map[string]string) {
	p.t.Helper()
	var have map[string]json.RawMessage
	same := func() bool {
		_, body := p.do(http.MethodGet, "/kv", "")
		have = nil
		return json.Unmarshal([]byte(body), &have) == nil && sameContent(have, want)
	}
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for deadline := time.Now().Add(patience); !same(); <-pause.C {
		if time.Now().After(deadline) {
			p.kill() // before its log is read
			p.t.Fatalf("%s holds %s instead of %s\n%s", p.Name, have, want, p.logs)
		}
	}
}

func sameContent(have map[string]json.RawMessage, want map[string]string) bool {
	if len(have) != len(want) {
		return false
	}
	for key, value := range want {
		if string(have[key]) != value {
			return false
		}
	}
	return true
}

func TestThreeProcessesHoldTheSame(t *testing.T) {
	const key = "000102030405060708090a0b0c0d0e0f"
	a := startProcess(t, "-name", "a", "-key", key)
	b := startProcess(t, "-name", "b", "-key", key, "-join", a.Gossip)
	c := startProcess(t, "-name", "c", "-key", key, "-join", a.Gossip+","+b.Gossip)

	content := map[string]string{"colour": `"blue"`, "number": `7`, "list": `[1,{"x":null}]`}
	for name, value := range content {
		a.put(name, value)
	}
	a.put("gone", `1`)
	for _, p := range []*process{a, b, c} {
		p.awaitContent(map[string]string{
			"colour": `"blue"`, "number": `7`, "list": `[1,{"x":null}]`, "gone": `1`,
		})
	}

	// Changed and deleted elsewhere than where it was set.
	b.put("number", `8`)
	c.remove("gone")
	content["number"] = `8`
	for _, p := range []*process{a, b, c} {
		p.awaitContent(content)
	}

	// Killed, and back with nothing, at the address where the others know it.
	c.kill()
	a.put("meanwhile", `true`)
	content["meanwhile"] = `true`
	c = startProcess(t, "-name", "c", "-key", key, "-gossip", c.Gossip, "-join", b.Gossip)
	c.awaitContent(content)

	// It is a full member again.
	c.put("back", `1`)
	content["back"] = `1`
	for _, p := range []*process{a, b, c} {
		p.awaitContent(content)
	}
}

func TestRequestsOverHTTP(t *testing.T) {
	p := startProcess(t, "-name", "alone")

	status, _ := p.do(http.MethodGet, "/kv/none", "")
	require.Equal(t, http.StatusNotFound, status)
	status, _ = p.do(http.MethodPut, "/kv/k", "not json")
	require.Equal(t, http.StatusBadRequest, status)
	for _, size := range []int{largestMessage - 10, 10 * largestMessage} {
		status, _ = p.do(http.MethodPut, "/kv/k", `"`+strings.Repeat("x", size)+`"`)
		require.Equal(t, http.StatusRequestEntityTooLarge, status)
	}
	status, body := p.do(http.MethodGet, "/kv", "")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{}`, body)

	p.put("k", `{"a":1}`)
	status, body = p.do(http.MethodGet, "/kv/k", "")
	require.Equal(t, http.StatusOK, status)
	var e entry
	require.NoError(t, json.Unmarshal([]byte(body), &e))
	require.Equal(t, "alone", e.Version.Node)
	require.JSONEq(t, `{"a":1}`, string(e.Value))

	p.remove("k")
	status, _ = p.do(http.MethodGet, "/kv/k", "")
	require.Equal(t, http.StatusNotFound, status)

	_, body = p.do(http.MethodGet, "/members", "")
	require.JSONEq(t, `[{"name":"alone","address":"`+p.Gossip+`"}]`, body)
}

func TestWrongArguments(t *testing.T) {
	for args, want := range map[string]int{
		"-h":                        0,
		"-unknown":                  2,
		"-key nothex":               1,
		"-key 00":                   1,
		"-gossip nowhere":           1,
		"-gossip 127.0.0.1:x":       1,
		"-name x -join 127.0.0.1:1": 1,
	} {
		var out, errOut bytes.Buffer
		require.Equal(t, want, command(t.Context(), strings.Fields(args), &out, &errOut), args)
		require.Empty(t, out.String(), args)
		require.NotEmpty(t, errOut.String(), args)
	}
}

func TestInterruptedNodeLeaves(t *testing.T) {
	stays := startProcess(t, "-name", "stays")
	ctx, interrupt := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- command(ctx, []string{"-name", "goes", "-join", stays.Gossip}, writer, io.Discard)
	}()
	_, err := bufio.NewReader(reader).ReadBytes('\n')
	require.NoError(t, err)
	interrupt()
	require.Equal(t, 0, <-ended)
	_, body := stays.do(http.MethodGet, "/members", "")
	require.JSONEq(t, `[{"name":"stays","address":"`+stays.Gossip+`"}]`, body)
}
