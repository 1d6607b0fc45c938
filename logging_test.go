package memberlist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/stretchr/testify/require"
)

// recordedLog returns a logger with the sinks of cfg and a clock that stands
// still until it is moved.
func recordedLog(t *testing.T, cfg *Config) (*logger, *time.Time) {
	t.Helper()
	l, err := newLogger(cfg)
	require.NoError(t, err)
	now := time.Unix(1000, 0)
	l.limiter.now = func() time.Time { return now }
	return l, &now
}

// allLevels logs one line of each level.
func allLevels(l *logger) {
	l.debugf("first", logFields{}, "one %d", 1)
	l.log(levelInfo, "second", logFields{}, "two %s", "x")
	l.warnf("third", logFields{}, "three")
	l.errorf("fourth", logFields{}, "four %v", errors.New("bad"))
	l.log(levelWarn, "fifth", logFields{}, "five %d", 5)
}

const allLines = "[DEBUG] memberlist: one 1\n" +
	"[INFO] memberlist: two x\n" +
	"[WARN] memberlist: three\n" +
	"[ERR] memberlist: four bad\n" +
	"[WARN] memberlist: five 5\n"

// TestClassicLines checks P148.
func TestClassicLines(t *testing.T) {
	var out bytes.Buffer
	l, _ := recordedLog(t, &Config{Logger: log.New(&out, "", 0)})
	allLevels(l)
	require.Equal(t, allLines, out.String())
}

// TestLogOutputGetsTheStandardFlags checks P9.
func TestLogOutputGetsTheStandardFlags(t *testing.T) {
	var out bytes.Buffer
	l, _ := recordedLog(t, &Config{LogOutput: &out})
	l.warnf("hello", logFields{}, "hello")
	require.Regexp(t, `^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[WARN\] memberlist: hello\n$`, out.String())
	require.Equal(t, log.LstdFlags, l.classic.(*log.Logger).Flags())
}

// Each of the ways to log leads to the line that asked for it, in all kinds of logs.
func TestLogLinesNameTheirSource(t *testing.T) {
	var classic, bridged, structured bytes.Buffer
	sources := &slog.HandlerOptions{AddSource: true, Level: slog.LevelDebug}
	l, _ := recordedLog(t, &Config{
		Logger:           log.New(&classic, "", log.Lshortfile),
		StructuredLogger: slog.New(slog.NewJSONHandler(&structured, sources)),
	})
	allLevels(l)
	lines := strings.Split(strings.TrimSpace(classic.String()), "\n")
	require.Len(t, lines, 5)
	for _, line := range lines {
		require.Regexp(t, `^logging_test\.go:\d+: `, line)
	}
	l, _ = recordedLog(t, &Config{Logger: slog.NewLogLogger(slog.NewJSONHandler(&bridged, sources), slog.LevelInfo)})
	allLevels(l)
	list := append(records(t, &structured), records(t, &bridged)...)
	require.Len(t, list, 10)
	for _, record := range list {
		source := record["source"].(map[string]any)
		require.Equal(t, "logging_test.go", filepath.Base(source["file"].(string)))
		require.Contains(t, source["function"], "allLevels")
	}
	require.Equal(t, "[DEBUG] memberlist: one 1", list[5]["msg"])
}

// records parses the output of a JSON handler.
func records(t *testing.T, out *bytes.Buffer) []map[string]any {
	t.Helper()
	var list []map[string]any
	for line := range strings.Lines(out.String()) {
		var record map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &record))
		list = append(list, record)
	}
	return list
}

func TestStructuredRecordsHaveAttributes(t *testing.T) {
	var out bytes.Buffer
	l, _ := recordedLog(t, &Config{StructuredLogger: slog.New(slog.NewJSONHandler(&out, nil)).With("app", "test")})
	l.log(levelInfo, "bare", logFields{}, "bare")
	l.warnf("full", logFields{node: "b", addr: "10.0.0.1:7946", incarnation: 7, err: errors.New("bad")}, "full %d", 1)
	list := records(t, &out)
	for _, record := range list {
		require.NotEmpty(t, record["time"])
		delete(record, "time")
	}
	require.Equal(t, []map[string]any{
		{"level": "INFO", "msg": "bare", "app": "test"},
		{
			"level": "WARN", "msg": "full", "app": "test",
			"node": "b", "addr": "10.0.0.1:7946", "incarnation": float64(7), "err": "bad",
		},
	}, list)
}

func TestStructuredLevels(t *testing.T) {
	var out bytes.Buffer
	l, _ := recordedLog(t, &Config{
		StructuredLogger: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	allLevels(l)
	var got []string
	for _, record := range records(t, &out) {
		got = append(got, fmt.Sprint(record["level"], " ", record["msg"]))
	}
	require.Equal(t, []string{"DEBUG first", "INFO second", "WARN third", "ERROR fourth", "WARN fifth"}, got)
}

func TestBothLoggersGetEverythingTheyWant(t *testing.T) {
	var classic, structured bytes.Buffer
	l, _ := recordedLog(t, &Config{
		Logger:           log.New(&classic, "", 0),
		StructuredLogger: slog.New(slog.NewJSONHandler(&structured, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	require.True(t, l.enabled(levelDebug), "classic lines have no level")
	allLevels(l)
	require.Equal(t, allLines, classic.String())
	require.Len(t, records(t, &structured), 1)
}

func TestStructuredLoggerAloneWritesNowhereElse(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	defer file.Close()
	stderr := os.Stderr
	os.Stderr = file
	defer func() { os.Stderr = stderr }()

	var out bytes.Buffer
	quiet := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError + 1}))
	l, _ := recordedLog(t, &Config{StructuredLogger: quiet})
	allLevels(l)
	l.flush()
	require.Empty(t, out.String())

	l, _ = recordedLog(t, &Config{})
	l.errorf("nothing is configured", logFields{}, "nothing is configured")
	written, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	require.Regexp(t, `^[^\n]*\[ERR\] memberlist: nothing is configured\n$`, string(written))
}

func TestDisabledLogLevelAllocatesNothing(t *testing.T) {
	quiet := slog.New(slog.NewTextHandler(&bytes.Buffer{}, &slog.HandlerOptions{Level: slog.LevelError}))
	l, _ := recordedLog(t, &Config{StructuredLogger: quiet})
	fields := logFields{node: "b", addr: "10.0.0.1:7946", err: os.ErrClosed}
	port := 7946
	allocations := testing.AllocsPerRun(100, func() {
		l.debugf("a constant", fields, "a constant")
		l.warnf("another", fields, "another")
		if l.enabled(levelDebug) {
			l.debugf("with arguments", fields, "with arguments: %s %d", fields.node, port)
		}
	})
	require.Zero(t, allocations)
	require.True(t, l.enabled(levelError))
}

func TestDiscardedLogCostsNothing(t *testing.T) {
	l, _ := recordedLog(t, &Config{LogOutput: io.Discard})
	require.False(t, l.enabled(levelError))
	allLevels(l)
	l.flush()

	var out bytes.Buffer
	l, _ = recordedLog(t, &Config{LogOutput: io.Discard, StructuredLogger: slog.New(slog.NewTextHandler(&out, nil))})
	require.True(t, l.enabled(levelError))
	l.errorf("still a record", logFields{}, "still a record")
	require.Contains(t, out.String(), "still a record")
}

func TestRepeatedWarningsAreLimitedAndCounted(t *testing.T) {
	var out bytes.Buffer
	l, now := recordedLog(t, &Config{Logger: log.New(&out, "", 0)})
	for i := range 40 {
		l.warnf("bad packet", logFields{}, "bad packet %d", i)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 16)
	require.Equal(t, "[WARN] memberlist: bad packet 15", lines[15])

	out.Reset()
	*now = now.Add(10*time.Second - 1)
	l.warnf("bad packet", logFields{}, "bad packet %d", 40)
	l.errorf("something else", logFields{}, "something else")
	require.Equal(t, "[ERR] memberlist: something else\n", out.String(), "other messages are not held back")

	out.Reset()
	*now = now.Add(1)
	l.warnf("bad packet", logFields{}, "bad packet %d", 41)
	require.Equal(t, "[WARN] memberlist: 25 more like this within 10s were not logged: bad packet\n"+
		"[WARN] memberlist: bad packet 41\n", out.String())

	out.Reset()
	for i := range 15 {
		l.warnf("bad packet", logFields{}, "bad packet %d", i)
	}
	require.Equal(t, 15, strings.Count(out.String(), "\n"), "a new window begins")
	l.warnf("bad packet", logFields{}, "bad packet %d", 0)
	require.Equal(t, 15, strings.Count(out.String(), "\n"))
}

func TestWithheldWarningsAreToldByTheNextLine(t *testing.T) {
	var out bytes.Buffer
	l, now := recordedLog(t, &Config{Logger: log.New(&out, "", 0)})
	for range 18 {
		l.errorf("cannot send", logFields{}, "cannot send")
	}
	*now = now.Add(time.Minute)
	out.Reset()
	l.warnf("unrelated", logFields{}, "unrelated")
	require.Equal(t, "[ERR] memberlist: 2 more like this within 10s were not logged: cannot send\n"+
		"[WARN] memberlist: unrelated\n", out.String())

	out.Reset()
	l.warnf("unrelated", logFields{}, "unrelated")
	require.Equal(t, "[WARN] memberlist: unrelated\n", out.String(), "it is told once")
}

func TestFlushTellsWhatIsStillWithheld(t *testing.T) {
	var out bytes.Buffer
	l, _ := recordedLog(t, &Config{Logger: log.New(&out, "", 0)})
	for range 17 {
		l.warnf("lost", logFields{}, "lost")
	}
	out.Reset()
	l.flush()
	l.flush()
	require.Equal(t, "[WARN] memberlist: 1 more like this within 10s were not logged: lost\n", out.String())
}

// Debug and info lines tell of what is usual, so there is room for many: a
// thousand nodes can fail at once. What a peer can cause without end has an end.
func TestDebugAndInfoLinesAreLimitedToAThousand(t *testing.T) {
	var out bytes.Buffer
	l, now := recordedLog(t, &Config{Logger: log.New(&out, "", 0)})
	for range 1500 {
		l.debugf("d", logFields{}, "d")
		l.log(levelInfo, "i", logFields{}, "i")
	}
	require.Equal(t, 1024, strings.Count(out.String(), "memberlist: d\n"))
	require.Equal(t, 1024, strings.Count(out.String(), "memberlist: i\n"))

	*now = now.Add(10 * time.Second)
	out.Reset()
	l.debugf("d", logFields{}, "d")
	require.Contains(t, out.String(), "[INFO] memberlist: 476 more like this within 10s were not logged: i\n")
}

func TestLoggingIsSafeForConcurrentUse(t *testing.T) {
	var out bytes.Buffer
	l, err := newLogger(&Config{LogOutput: &out, StructuredLogger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				l.warnf("same", logFields{node: "b"}, "same")
			}
			l.flush()
		})
	}
	wg.Wait()
	require.Equal(t, 16, strings.Count(out.String(), "memberlist: same\n"))
}

func TestTransportLinesReachTheStructuredLogger(t *testing.T) {
	var structured, classic bytes.Buffer
	l, _ := recordedLog(t, &Config{StructuredLogger: slog.New(slog.NewJSONHandler(&structured, nil)), Logger: log.New(&classic, "", 0)})
	transport := &NetTransport{log: l}
	from := netip.MustParseAddrPort("10.0.0.1:7946")
	for range 30 {
		transport.account([]datagram{{from: from}})
	}
	const text = "UDP packet too short (0 bytes) from=10.0.0.1:7946"
	require.Equal(t, strings.Repeat("[ERR] memberlist: "+text+"\n", logBurst), classic.String())
	list := records(t, &structured)
	require.Len(t, list, logBurst)
	require.Equal(t, "Empty UDP packet", list[0]["msg"])
	require.Equal(t, "10.0.0.1:7946", list[0]["addr"])
}

// silentConn is a connection that does not know its far end.
type silentConn struct{ net.Conn }

func (silentConn) RemoteAddr() net.Addr { return nil }

type textAddr string

func (textAddr) Network() string  { return "test" }
func (a textAddr) String() string { return string(a) }

// TestFarEndInLogLines checks P149.
func TestFarEndInLogLines(t *testing.T) {
	const unknown = "from=<unknown address>"
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()

	require.Equal(t, unknown, LogAddress(nil))
	require.Equal(t, unknown, LogAddress(textAddr("")))
	require.Equal(t, "from=[::1]:7946", LogAddress(&net.UDPAddr{IP: net.IPv6loopback, Port: 7946}))
	require.Equal(t, unknown, LogStringAddress(""))
	require.Equal(t, "from=10.0.0.1:7946", LogStringAddress("10.0.0.1:7946"))
	require.Equal(t, unknown, LogConn(nil))
	require.Equal(t, unknown, LogConn(silentConn{near}))
	require.Equal(t, "from=pipe", LogConn(near))
}

// logCalls are the functions that log, and which of their arguments is the message.
var logCalls = map[string]int{"debugf": 0, "warnf": 0, "errorf": 0, "log": 1, "logf": 1}

// constantMessages are the messages of all log lines in the sources. It fails if one
// is no constant.
func constantMessages(t *testing.T) []string {
	t.Helper()
	var messages []string
	for _, name := range goFiles(t) {
		if strings.HasSuffix(name, "_test.go") || name == "logging.go" {
			continue
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			callee, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			at, ok := logCalls[callee.Sel.Name]
			if !ok || len(call.Args) < at+3 {
				return true
			}
			literal, ok := call.Args[at].(*ast.BasicLit)
			require.True(t, ok, "%s: the message is no constant", files.Position(call.Pos()))
			message, err := strconv.Unquote(literal.Value)
			require.NoError(t, err)
			messages = append(messages, message)
			return true
		})
	}
	return messages
}

// Records are grouped by their messages: each is a constant that names no node,
// address or number.
func TestMessagesOfRecordsAreConstants(t *testing.T) {
	messages := constantMessages(t)
	require.Greater(t, len(messages), 30)
	for _, message := range messages {
		require.Regexp(t, `^[A-Z][A-Za-z'/,: -]+[a-zA-Z]$`, message)
	}
}

// Names and addresses end up in attributes, whatever happens to a cluster.
func TestRecordsOfARunningClusterCanBeGrouped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		records := new(recordTrace)
		withRecords := func(cfg *Config) {
			cfg.LogOutput, cfg.StructuredLogger = nil, slog.New(records)
		}
		m, other := c.node("n1", withRecords), c.node("n2", withRecords)
		_, err := other.Join([]string{m.LocalNode().Address(), "127.0.0.1:99", "/nameless"})
		require.NoError(t, err)
		p := c.puppet("p", nil)
		p.introduce(m)
		for _, message := range [][]byte{
			{byte(pingMsg), 0xc1},
			{byte(aliveMsg), 0xc1},
			{200, 1, 2},
			(&ping{SeqNo: 1, Node: borrow("somebody else")}).appendTo(nil),
			(&suspect{Incarnation: 1, Node: borrow("n1"), From: borrow("p")}).appendTo(nil),
			(&dead{Incarnation: 2, Node: borrow("n1"), From: borrow("p")}).appendTo(nil),
		} {
			p.send(m, message)
		}
		for range 40 {
			p.send(m, []byte{200, 1, 2})
		}
		within(t, 2*time.Minute, "silence is death", func() bool { return holdsFor(m, "p", StateDead) })
		require.NoError(t, m.Shutdown())
		known := append(constantMessages(t), "Lines were not logged")
		seen := records.messages()
		require.Subset(t, known, seen)
		require.Greater(t, len(seen), 8, seen)
	})
}

// The line stands where the reader looks for it, in both kinds of log; lines of the
// core are written by somebody else than who asked for them.
func TestRecordsOfTheCoreNameTheirSource(t *testing.T) {
	core := newTestCore(t)
	core.logf(levelInfo, "A message", logFields{}, "a line")
	var structured bytes.Buffer
	l, _ := recordedLog(t, &Config{
		StructuredLogger: slog.New(slog.NewJSONHandler(&structured, &slog.HandlerOptions{AddSource: true})),
	})
	l.writeLine(&core.fx.logs[0])
	source := records(t, &structured)[0]["source"].(map[string]any)
	require.Equal(t, "logging_test.go", filepath.Base(source["file"].(string)))
	require.Contains(t, source["function"], t.Name())
}

// Whatever a peer puts into a name, it makes one line, and a short one.
func TestLogLinesAreEscapedAndCut(t *testing.T) {
	var classic, structured bytes.Buffer
	l, _ := recordedLog(t, &Config{
		Logger:           log.New(&classic, "", 0),
		StructuredLogger: slog.New(slog.NewJSONHandler(&structured, nil)),
	})
	for _, c := range []struct{ name, written string }{
		{"harmless", "harmless"},
		{"Größe 大きさ \\ \"x\" 'y' 😀 \ufffd", "Größe 大きさ \\ \"x\" 'y' 😀 \ufffd"},
		{"x\n[ERR] memberlist: forged", `x\n[ERR] memberlist: forged`},
		{"\x1b[31mred\r\x00\t", `\x1b[31mred\r\x00\t`},
		{"not\xffutf8 \xe2\x82", `not\xffutf8 \xe2\x82`},
		{"right\u202eleft\u2028", `right\u202eleft\u2028`},
		{strings.Repeat("n", 512), strings.Repeat("n", 512)},
		{strings.Repeat("n", 513), strings.Repeat("n", 512) + "… (513 bytes)"},
		{strings.Repeat("é", 1000) + "e", strings.Repeat("é", 256) + "… (2001 bytes)"},
	} {
		classic.Reset()
		structured.Reset()
		l.limiter.windows = nil
		l.warnf("message", logFields{node: c.name, err: errors.New(c.name)}, "node '%s' from=x", c.name)
		require.Equal(t, "[WARN] memberlist: node '"+c.written+"' from=x\n", classic.String())
		record := records(t, &structured)[0]
		require.True(t, strings.HasPrefix(record["node"].(string), c.written[:min(len(c.written), maxLogText)]))
		require.LessOrEqual(t, len(record["node"].(string)), maxLogText+20)
		require.LessOrEqual(t, len(record["err"].(string)), maxLogText+20)
	}
}

// Every kind of argument is bounded before it is formatted.
func TestLongArgumentsOfLogLinesAreCut(t *testing.T) {
	var classic bytes.Buffer
	l, _ := recordedLog(t, &Config{Logger: log.New(&classic, "", 0)})
	long := strings.Repeat("\n", 1<<20)
	l.errorf("message", logFields{}, "%s|%v|%q|%v|%s", long, errors.New(long), []byte(long), net.IP(long), textAddr(long))
	require.Less(t, classic.Len(), maxLogLine+64)
	require.Equal(t, 1, strings.Count(classic.String(), "\n"))
}

// An error of several lines becomes one, and stays the error that it was.
func TestErrorsOfSeveralLinesAreLoggedAsOne(t *testing.T) {
	var classic bytes.Buffer
	records := new(recordTrace)
	l, _ := recordedLog(t, &Config{Logger: log.New(&classic, "", 0), StructuredLogger: slog.New(records)})
	err := multierror.Append(nil, ErrTimeout, errors.New("closed"))
	l.warnf("message", logFields{err: err}, "failed: %v", err)
	const text = "2 errors occurred: * timeout * closed"
	require.Equal(t, "[WARN] memberlist: failed: "+text+"\n", classic.String())
	_, attrs := records.find("message")
	require.EqualError(t, attrs["err"].(error), text)
	require.ErrorIs(t, attrs["err"].(error), ErrTimeout)
}

// A ping for a made-up name is logged with that name.
func TestPacketsForgeNoLogLines(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		m := c.node("n1", still, func(cfg *Config) { cfg.LogOutput = lines })
		p := c.puppet("p", nil)
		p.send(m, (&ping{SeqNo: 1, Node: borrow("x' from=1.2.3.4:5\n[ERR] memberlist: Conflicting address for db")}).appendTo(nil))
		for range 40 {
			p.send(m, (&ping{SeqNo: 1, Node: borrow(strings.Repeat("\n", 60000))}).appendTo(nil))
		}
		synctest.Wait()
		require.NoError(t, m.Shutdown())
		total := 0
		for _, line := range lines.with("") {
			require.False(t, strings.HasPrefix(line, "[ERR]"), line)
			require.Less(t, len(line), maxLogLine+64)
			total += len(line)
		}
		require.Less(t, total, 64<<10)
	})
}
