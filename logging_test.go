package memberlist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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
	l.debugf(logFields{}, "one %d", 1)
	l.log(levelInfo, logFields{}, "two %s", "x")
	l.warnf(logFields{}, "three")
	l.errorf(logFields{}, "four %v", errors.New("bad"))
	l.log(levelWarn, logFields{}, "five %d", 5)
}

const allLines = "[DEBUG] memberlist: one 1\n" +
	"[INFO] memberlist: two x\n" +
	"[WARN] memberlist: three\n" +
	"[ERR] memberlist: four bad\n" +
	"[WARN] memberlist: five 5\n"

func TestP148ClassicLines(t *testing.T) {
	var out bytes.Buffer
	l, _ := recordedLog(t, &Config{Logger: log.New(&out, "", 0)})
	allLevels(l)
	require.Equal(t, allLines, out.String())
}

func TestP9LogOutputGetsTheStandardFlags(t *testing.T) {
	var out bytes.Buffer
	l, _ := recordedLog(t, &Config{LogOutput: &out})
	l.warnf(logFields{}, "hello")
	require.Regexp(t, `^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[WARN\] memberlist: hello\n$`, out.String())
	require.Equal(t, log.LstdFlags, l.classic.Flags())
}

func TestLogLinesNameTheirSource(t *testing.T) {
	var classic, structured bytes.Buffer
	l, _ := recordedLog(t, &Config{
		Logger:           log.New(&classic, "", log.Lshortfile),
		StructuredLogger: slog.New(slog.NewJSONHandler(&structured, &slog.HandlerOptions{AddSource: true, Level: slog.LevelDebug})),
	})
	allLevels(l)
	lines := strings.Split(strings.TrimSpace(classic.String()), "\n")
	require.Len(t, lines, 5)
	for _, line := range lines {
		require.Regexp(t, `^logging_test\.go:\d+: `, line)
	}
	for _, record := range records(t, &structured) {
		source := record["source"].(map[string]any)
		require.Equal(t, "logging_test.go", filepath.Base(source["file"].(string)))
		require.Contains(t, source["function"], "allLevels")
	}
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
	l.log(levelInfo, logFields{}, "bare")
	l.warnf(logFields{node: "b", addr: "10.0.0.1:7946", incarnation: 7, err: errors.New("bad")}, "full %d", 1)
	list := records(t, &out)
	for _, record := range list {
		require.NotEmpty(t, record["time"])
		delete(record, "time")
	}
	require.Equal(t, []map[string]any{
		{"level": "INFO", "msg": "bare", "app": "test"},
		{
			"level": "WARN", "msg": "full 1", "app": "test",
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
	require.Equal(t, []string{"DEBUG one 1", "INFO two x", "WARN three", "ERROR four bad", "WARN five 5"}, got)
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
	l.errorf(logFields{}, "nothing is configured")
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
		l.debugf(fields, "a constant")
		l.warnf(fields, "another")
		if l.enabled(levelDebug) {
			l.debugf(fields, "with arguments: %s %d", fields.node, port)
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
	l.errorf(logFields{}, "still a record")
	require.Contains(t, out.String(), "still a record")
}

func TestRepeatedWarningsAreLimitedAndCounted(t *testing.T) {
	var out bytes.Buffer
	l, now := recordedLog(t, &Config{Logger: log.New(&out, "", 0)})
	for i := range 40 {
		l.warnf(logFields{}, "bad packet %d", i)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 16)
	require.Equal(t, "[WARN] memberlist: bad packet 15", lines[15])

	out.Reset()
	*now = now.Add(10*time.Second - 1)
	l.warnf(logFields{}, "bad packet %d", 40)
	l.errorf(logFields{}, "something else")
	require.Equal(t, "[ERR] memberlist: something else\n", out.String(), "other formats are not held back")

	out.Reset()
	*now = now.Add(1)
	l.warnf(logFields{}, "bad packet %d", 41)
	require.Equal(t, "[WARN] memberlist: 25 more like this within 10s were not logged: bad packet %d\n"+
		"[WARN] memberlist: bad packet 41\n", out.String())

	out.Reset()
	for i := range 15 {
		l.warnf(logFields{}, "bad packet %d", i)
	}
	require.Equal(t, 15, strings.Count(out.String(), "\n"), "a new window begins")
	l.warnf(logFields{}, "bad packet %d", 0)
	require.Equal(t, 15, strings.Count(out.String(), "\n"))
}

func TestWithheldWarningsAreToldByTheNextOfAnyFormat(t *testing.T) {
	var out bytes.Buffer
	l, now := recordedLog(t, &Config{Logger: log.New(&out, "", 0)})
	for range 18 {
		l.errorf(logFields{}, "cannot send")
	}
	*now = now.Add(time.Minute)
	out.Reset()
	l.warnf(logFields{}, "unrelated")
	require.Equal(t, "[ERR] memberlist: 2 more like this within 10s were not logged: cannot send\n"+
		"[WARN] memberlist: unrelated\n", out.String())

	out.Reset()
	l.warnf(logFields{}, "unrelated")
	require.Equal(t, "[WARN] memberlist: unrelated\n", out.String(), "it is told once")
}

func TestFlushTellsWhatIsStillWithheld(t *testing.T) {
	var out bytes.Buffer
	l, _ := recordedLog(t, &Config{Logger: log.New(&out, "", 0)})
	for range 17 {
		l.warnf(logFields{}, "lost")
	}
	out.Reset()
	l.flush()
	l.flush()
	require.Equal(t, "[WARN] memberlist: 1 more like this within 10s were not logged: lost\n", out.String())
}

func TestDebugAndInfoAreNotLimited(t *testing.T) {
	var out bytes.Buffer
	l, _ := recordedLog(t, &Config{Logger: log.New(&out, "", 0)})
	for range 50 {
		l.debugf(logFields{}, "d")
		l.log(levelInfo, logFields{}, "i")
	}
	require.Equal(t, 100, strings.Count(out.String(), "\n"))
}

func TestLoggingIsSafeForConcurrentUse(t *testing.T) {
	var out bytes.Buffer
	l, err := newLogger(&Config{LogOutput: &out, StructuredLogger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				l.warnf(logFields{node: "b"}, "same")
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
	require.Equal(t, text, list[0]["msg"])
	require.Equal(t, "10.0.0.1:7946", list[0]["addr"])
}

// silentConn is a connection that does not know its far end.
type silentConn struct{ net.Conn }

func (silentConn) RemoteAddr() net.Addr { return nil }

type textAddr string

func (textAddr) Network() string  { return "test" }
func (a textAddr) String() string { return string(a) }

func TestP149FarEndInLogLines(t *testing.T) {
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
