package memberlist

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"time"
)

// logLevel is the weight of a log line.
type logLevel uint8

const (
	levelDebug logLevel = iota
	levelInfo
	levelWarn
	levelError
)

// logTags are the words that start a classic line. Log filters in the field
// parse them (P148).
var logTags = [...]string{
	levelDebug: "[DEBUG]",
	levelInfo:  "[INFO]",
	levelWarn:  "[WARN]",
	levelError: "[ERR]",
}

// slogLevels are the same levels in a StructuredLogger.
var slogLevels = [...]slog.Level{
	levelDebug: slog.LevelDebug,
	levelInfo:  slog.LevelInfo,
	levelWarn:  slog.LevelWarn,
	levelError: slog.LevelError,
}

// logName follows the tag in a classic line (P148).
const logName = " memberlist: "

// logFields are the attributes of a structured record. Those that are zero are
// left out. The classic line does not show them: where it is to name a node or
// an address, the format does.
type logFields struct {
	node        string
	addr        string
	incarnation uint32
	err         error
}

// logger writes log lines to the sinks of a configuration: classic lines to a
// *log.Logger, records to a *slog.Logger, or both. It is safe for concurrent
// use.
//
// Warnings and errors are rate limited, since their cause is often what other
// machines send.
type logger struct {
	classic    *log.Logger  // nil if only structured is set, or nothing is wanted
	structured *slog.Logger // nil if not configured
	limiter    logLimiter
}

// newLogger makes the logger of a configuration (P9.3): LogOutput or Logger for
// classic lines, StructuredLogger for records, standard error if none of them
// is set.
func newLogger(cfg *Config) (*logger, error) {
	if cfg.LogOutput != nil && cfg.Logger != nil {
		return nil, errTwoLogOutputs
	}
	l := &logger{classic: cfg.Logger, structured: cfg.StructuredLogger}
	l.limiter.now = time.Now
	switch {
	case cfg.LogOutput == io.Discard:
		// No sink at all, so that lines are not even formatted.
	case cfg.LogOutput != nil:
		l.classic = log.New(cfg.LogOutput, "", log.LstdFlags)
	case l.classic == nil && l.structured == nil:
		l.classic = log.New(os.Stderr, "", log.LstdFlags)
	}
	return l, nil
}

// enabled reports whether a line of this level would go anywhere. Arguments of
// debugf and its sisters are evaluated, and put on the heap, before it can be
// known that nobody wants them: on a hot path ask first.
func (l *logger) enabled(level logLevel) bool {
	return l.classic != nil || l.recordEnabled(level)
}

func (l *logger) recordEnabled(level logLevel) bool {
	return l.structured != nil && l.structured.Enabled(context.Background(), slogLevels[level])
}

// callDepth is how far the caller of debugf, or of log, is above emit, for
// loggers that name the source line.
const callDepth = 3

// log writes one line. The format must be a constant: it is what repeats are
// recognised by.
func (l *logger) log(level logLevel, f logFields, format string, args ...any) {
	l.logf(level, f, format, args)
}

func (l *logger) debugf(f logFields, format string, args ...any) { l.logf(levelDebug, f, format, args) }
func (l *logger) warnf(f logFields, format string, args ...any)  { l.logf(levelWarn, f, format, args) }
func (l *logger) errorf(f logFields, format string, args ...any) { l.logf(levelError, f, format, args) }

func (l *logger) logf(level logLevel, f logFields, format string, args []any) {
	if !l.enabled(level) {
		return
	}
	if !l.admit(level, format) {
		return
	}
	l.emit(callDepth, level, f, fmt.Sprintf(format, args...))
}

// emit writes text to every sink that wants the level. depth is the number of
// callers to skip for the source line, 1 being the caller of emit.
func (l *logger) emit(depth int, level logLevel, f logFields, text string) {
	if l.classic != nil {
		// There is nobody to tell that a log line could not be written.
		_ = l.classic.Output(depth+1, logTags[level]+logName+text)
	}
	if !l.recordEnabled(level) {
		return
	}
	var pc [1]uintptr
	runtime.Callers(depth+1, pc[:])
	record := slog.NewRecord(time.Now(), slogLevels[level], text, pc[0])
	record.AddAttrs(f.attrs()...)
	_ = l.structured.Handler().Handle(context.Background(), record)
}

func (f logFields) attrs() []slog.Attr {
	var attrs []slog.Attr
	if f.node != "" {
		attrs = append(attrs, slog.String("node", f.node))
	}
	if f.addr != "" {
		attrs = append(attrs, slog.String("addr", f.addr))
	}
	if f.incarnation != 0 {
		attrs = append(attrs, slog.Uint64("incarnation", uint64(f.incarnation)))
	}
	if f.err != nil {
		attrs = append(attrs, slog.Any("err", f.err))
	}
	return attrs
}

// admit asks the rate limiter about a line, and tells what it withheld before.
func (l *logger) admit(level logLevel, format string) bool {
	if level < levelWarn {
		return true
	}
	ok, withheld := l.limiter.admit(level, format)
	l.report(withheld)
	return ok
}

// flush tells how many lines have been withheld and not been told of yet. It is
// for the end: nothing later would tell it.
func (l *logger) flush() {
	l.report(l.limiter.drain())
}

func (l *logger) report(withheld []withheldLines) {
	for _, w := range withheld {
		text := fmt.Sprintf("%d more like this within %v were not logged: %s", w.count, logWindow, w.format)
		l.emit(2, w.level, logFields{}, text)
	}
}

const (
	// logWindow and logBurst bound the repeats of a warning or error: so many
	// with one format within such a time.
	logWindow = 10 * time.Second
	logBurst  = 16
)

// logLimiter counts the lines of each format, so that a flood of bad packets
// does not become a flood of log lines. It has no timer: what a window withheld
// is told before the first warning or error after it has ended, whatever its
// format.
type logLimiter struct {
	now func() time.Time

	mu       sync.Mutex
	windows  map[string]*logCount // by format; formats are constants, so there are few
	withheld int                  // sum over windows
}

// logCount is one window of one format.
type logCount struct {
	level    logLevel
	start    time.Time
	admitted int
	withheld int
}

// withheldLines tells that so many lines of a format were not written.
type withheldLines struct {
	level  logLevel
	format string
	count  int
}

// admit reports whether a line may be written, and what was withheld in windows
// that have ended.
func (r *logLimiter) admit(level logLevel, format string) (bool, []withheldLines) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	told := r.takeWithheld(func(c *logCount) bool { return now.Sub(c.start) >= logWindow })
	c := r.windows[format]
	if c == nil {
		if r.windows == nil {
			r.windows = make(map[string]*logCount)
		}
		c = &logCount{start: now}
		r.windows[format] = c
	}
	if now.Sub(c.start) >= logWindow {
		*c = logCount{start: now}
	}
	c.level = level
	if c.admitted >= logBurst {
		c.withheld++
		r.withheld++
		return false, told
	}
	c.admitted++
	return true, told
}

// drain returns all that was withheld.
func (r *logLimiter) drain() []withheldLines {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.takeWithheld(func(*logCount) bool { return true })
}

// takeWithheld returns and clears the counts of the windows that match.
func (r *logLimiter) takeWithheld(match func(*logCount) bool) []withheldLines {
	if r.withheld == 0 {
		return nil
	}
	var told []withheldLines
	for format, c := range r.windows {
		if c.withheld == 0 || !match(c) {
			continue
		}
		told = append(told, withheldLines{level: c.level, format: format, count: c.withheld})
		r.withheld -= c.withheld
		c.withheld = 0
	}
	return told
}

// LogAddress returns "from=<addr>", the end of a log line that concerns the
// sender at that address (P149). nil gives "from=<unknown address>".
func LogAddress(addr net.Addr) string {
	if addr == nil {
		return LogStringAddress("")
	}
	return LogStringAddress(addr.String())
}

// LogStringAddress is like [LogAddress] for an address that is text. An empty
// one is unknown.
func LogStringAddress(addr string) string {
	if addr == "" {
		return "from=<unknown address>"
	}
	return "from=" + addr
}

// LogConn is like [LogAddress] for the far end of a connection. nil, or a
// connection without such an address, is unknown.
func LogConn(conn net.Conn) string {
	if conn == nil {
		return LogStringAddress("")
	}
	return LogAddress(conn.RemoteAddr())
}
