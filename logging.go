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
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
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
	more        []logAttr
}

// logAttr is an attribute that few lines have.
type logAttr struct {
	key   string
	value any
}

// logger writes log lines to the sinks of a configuration: classic lines to a
// *log.Logger, records to a *slog.Logger, or both. It is safe for concurrent
// use.
//
// What other machines send is often the cause of a line, and part of it. So lines
// are rate limited, and this is the one place that cuts and escapes them.
type logger struct {
	classic    lineOutput   // nil if only structured is set, or nothing is wanted
	structured *slog.Logger // nil if not configured
	limiter    logLimiter
}

// lineOutput takes finished lines, as a *log.Logger does: calls says how far above
// Output the source line is.
type lineOutput interface {
	Output(calls int, line string) error
}

// slogLines is the output of a *log.Logger that slog.NewLogLogger made. When the
// handler wants sources, package slog takes that of the call two above the one of
// Write, as if a method of *log.Logger had been called directly. To be found there,
// the caller of Output's caller, lines go around the *log.Logger, which adds nothing.
type slogLines struct{ w io.Writer }

func (s slogLines) Output(_ int, line string) error {
	_, err := s.w.Write([]byte(line + "\n"))
	return err
}

// outputOf is the output for the lines of a configured logger.
func outputOf(l *log.Logger) lineOutput {
	w := l.Writer()
	if l.Flags() == 0 && l.Prefix() == "" && fmt.Sprintf("%T", w) == "*slog.handlerWriter" {
		return slogLines{w}
	}
	return l
}

// newLogger makes the logger of a configuration (P9.3): LogOutput or Logger for
// classic lines, StructuredLogger for records, standard error if none of them
// is set.
func newLogger(cfg *Config) (*logger, error) {
	if cfg.LogOutput != nil && cfg.Logger != nil {
		return nil, errTwoLogOutputs
	}
	l := &logger{structured: cfg.StructuredLogger}
	l.limiter.now = time.Now
	switch {
	case cfg.Logger != nil:
		l.classic = outputOf(cfg.Logger)
	case cfg.LogOutput == io.Discard:
		// No sink at all, so that lines are not even formatted.
	case cfg.LogOutput != nil:
		l.classic = log.New(cfg.LogOutput, "", log.LstdFlags)
	case l.structured == nil:
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

// log writes one line. The message is the same for all lines of its kind: it is
// what records are grouped and repeats are recognised by. What differs is in the
// attributes; only the classic line, which format and args make, has it in the
// text.
func (l *logger) log(level logLevel, message string, f logFields, format string, args ...any) {
	if line, ok := l.record(level, message, f, format, args...); ok {
		_ = l.classic.Output(sourceDepth, line) // nobody could be told that it failed
	}
}

func (l *logger) debugf(message string, f logFields, format string, args ...any) {
	if line, ok := l.record(levelDebug, message, f, format, args...); ok {
		_ = l.classic.Output(sourceDepth, line)
	}
}

func (l *logger) warnf(message string, f logFields, format string, args ...any) {
	if line, ok := l.record(levelWarn, message, f, format, args...); ok {
		_ = l.classic.Output(sourceDepth, line)
	}
}

func (l *logger) errorf(message string, f logFields, format string, args ...any) {
	if line, ok := l.record(levelError, message, f, format, args...); ok {
		_ = l.classic.Output(sourceDepth, line)
	}
}

// writeLine writes a line that the core asked for. Its record has the place in
// the core. A classic logger that names the source line names the caller of
// writeLine, since package log takes the place from the stack alone.
func (l *logger) writeLine(line *logLine) {
	if !l.enabled(line.level) || !l.admit(line.level, line.message) {
		return
	}
	l.handle(line.level, line.message, line.fields, line.pc)
	if l.classic != nil {
		_ = l.classic.Output(sourceDepth, classicLine(line.level, line.format, line.args...))
	}
}

// sourceDepth tells a *log.Logger that a line comes from the caller of the method
// that calls Output.
const sourceDepth = 2

// record hands a record to the StructuredLogger, and returns the classic line if
// that is wanted as well. It is called by the methods above for their caller.
func (l *logger) record(level logLevel, message string, f logFields, format string, args ...any) (line string, classic bool) {
	if !l.enabled(level) || !l.admit(level, message) {
		return "", false
	}
	l.handle(level, message, f, callerPC(2))
	if l.classic == nil {
		return "", false
	}
	return classicLine(level, format, args...), true
}

// classicLine is a line without the prefix that package log gives it. args is
// overwritten.
func classicLine(level logLevel, format string, args ...any) string {
	shortenAll(args)
	return logTags[level] + logName + escaped(fmt.Sprintf(format, args...), maxLogLine)
}

// handle hands a record to the StructuredLogger, if that wants the level.
func (l *logger) handle(level logLevel, message string, f logFields, pc uintptr) {
	if !l.recordEnabled(level) {
		return
	}
	record := slog.NewRecord(time.Now(), slogLevels[level], message, pc)
	record.AddAttrs(f.attrs()...)
	_ = l.structured.Handler().Handle(context.Background(), record)
}

// callerPC is the program counter of the function that is the given number of calls
// above the one that calls callerPC.
func callerPC(calls int) uintptr {
	var pc [1]uintptr
	runtime.Callers(calls+2, pc[:])
	return pc[0]
}

// attrs are the attributes in the form of package slog. Texts are escaped and cut
// like the classic line: they come from the network as well.
func (f logFields) attrs() []slog.Attr {
	var attrs []slog.Attr
	if f.node != "" {
		attrs = append(attrs, slog.String("node", logText(f.node)))
	}
	if f.addr != "" {
		attrs = append(attrs, slog.String("addr", logText(f.addr)))
	}
	if f.incarnation != 0 {
		attrs = append(attrs, slog.Uint64("incarnation", uint64(f.incarnation)))
	}
	for _, a := range f.more {
		if text, ok := a.value.(string); ok {
			a.value = logText(text)
		}
		attrs = append(attrs, slog.Any(a.key, a.value))
	}
	if f.err != nil {
		attrs = append(attrs, slog.Any("err", &loggedError{text: escaped(errorText(f.err), maxLogText), err: f.err}))
	}
	return attrs
}

// loggedError is an error as it stands in a record: its text is one line of
// bounded length. errors.Is and errors.As see the error itself.
type loggedError struct {
	text string
	err  error
}

func (e *loggedError) Error() string { return e.text }

func (e *loggedError) Unwrap() error { return e.err }

// Names, addresses and errors come from the network: they can be of any length
// and contain anything.
const (
	// maxLogText bounds each argument of a line and each attribute, in bytes.
	maxLogText = 512
	// maxLogLine bounds a classic line without its prefix, in bytes.
	maxLogLine = 4096
)

// shortenAll replaces the arguments of a format that are too long.
func shortenAll(args []any) {
	for i := range args {
		args[i] = shortened(args[i])
	}
}

func shortened(arg any) any {
	switch v := arg.(type) {
	case string:
		return cut(v)
	case []byte:
		return v[:min(len(v), maxLogText)]
	case error:
		return errorText(v)
	case fmt.Stringer:
		// What is short may be formatted as something else than text.
		if text := fmt.Sprint(v); len(text) > maxLogText {
			return cut(text)
		}
	}
	return arg
}

// errorText is the text of an error in one line, and cut. fmt protects from an
// Error method that panics.
func errorText(err error) string {
	text := cut(fmt.Sprint(err))
	if !strings.Contains(text, "\n") {
		return text
	}
	return strings.Join(strings.Fields(text), " ")
}

// cut ends a text that is longer than maxLogText with what was its length.
func cut(text string) string {
	if len(text) <= maxLogText {
		return text
	}
	end := maxLogText
	for end > maxLogText-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return fmt.Sprintf("%s… (%d bytes)", text[:end], len(text))
}

func logText(text string) string { return escaped(cut(text), maxLogText) }

// escaped writes what is not printable in a text as Go escapes it, line ends
// above all, so that nobody forges lines. The result ends with an ellipsis if it
// would be much longer than limit. Printable text, of whatever script, is left as
// it is.
func escaped(text string, limit int) string {
	if len(text) <= limit && printable(text) {
		return text
	}
	out := make([]byte, 0, min(2*len(text), limit+16))
	for len(text) > 0 {
		if len(out) >= limit {
			return string(out) + "…"
		}
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			out = fmt.Appendf(out, `\x%02x`, text[0])
		case strconv.IsPrint(r):
			out = append(out, text[:size]...)
		default:
			quoted := strconv.QuoteRune(r)
			out = append(out, quoted[1:len(quoted)-1]...)
		}
		text = text[size:]
	}
	return string(out)
}

func printable(text string) bool {
	for _, r := range text {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(text)
}

// admit asks the rate limiter about a line, and tells what it withheld before.
func (l *logger) admit(level logLevel, message string) bool {
	ok, withheld := l.limiter.admit(level, message)
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
		f := logFields{more: []logAttr{{"count", w.count}, {"of", w.message}}}
		l.handle(w.level, "Lines were not logged", f, callerPC(0))
		if l.classic != nil {
			_ = l.classic.Output(1, classicLine(w.level, "%d more like this within %v were not logged: %s", w.count, logWindow, w.message))
		}
	}
}

const (
	// logWindow, logBurst and quietBurst bound the repeats of a line, since many
	// are caused by what other machines send: that many warnings or errors with one
	// message within such a time, and that many other lines.
	logWindow  = 10 * time.Second
	logBurst   = 16
	quietBurst = 1024
)

// burstOf is how many lines of one message a window admits.
func burstOf(level logLevel) int {
	if level < levelWarn {
		return quietBurst
	}
	return logBurst
}

// logLimiter counts the lines of each message, so that a flood of bad packets
// does not become a flood of log lines. It has no timer: what a window withheld
// is told before the first line after it has ended, whatever its message.
type logLimiter struct {
	now func() time.Time

	mu       sync.Mutex
	windows  map[string]*logCount // by message; messages are constants, so there are few
	withheld int                  // sum over windows
}

// logCount is one window of one message.
type logCount struct {
	level    logLevel
	start    time.Time
	admitted int
	withheld int
}

// withheldLines is the number of lines of a message that were not written.
type withheldLines struct {
	level   logLevel
	message string
	count   int
}

// admit reports whether a line may be written, and what was withheld in windows
// that have ended.
func (r *logLimiter) admit(level logLevel, message string) (bool, []withheldLines) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	eventSeq := r.takeWithheld(func(c *logCount) bool { return now.Sub(c.start) >= logWindow })
	c := r.windows[message]
	if c == nil {
		if r.windows == nil {
			r.windows = make(map[string]*logCount)
		}
		c = &logCount{start: now}
		r.windows[message] = c
	}
	if now.Sub(c.start) >= logWindow {
		*c = logCount{start: now}
	}
	c.level = level
	if c.admitted >= burstOf(level) {
		c.withheld++
		r.withheld++
		return false, eventSeq
	}
	c.admitted++
	return true, eventSeq
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
	var eventSeq []withheldLines
	for message, c := range r.windows {
		if c.withheld == 0 || !match(c) {
			continue
		}
		eventSeq = append(eventSeq, withheldLines{level: c.level, message: message, count: c.withheld})
		r.withheld -= c.withheld
		c.withheld = 0
	}
	return eventSeq
}

// LogAddress returns "from=<addr>", which ends log lines about a sender. For nil it
// returns "from=<unknown address>".
func LogAddress(addr net.Addr) string {
	if addr == nil {
		return LogStringAddress("")
	}
	return LogStringAddress(addr.String())
}

// LogStringAddress is like [LogAddress] for an address as text. An empty address is
// unknown.
func LogStringAddress(addr string) string {
	if addr == "" {
		return "from=<unknown address>"
	}
	return "from=" + addr
}

// LogConn is like [LogAddress] for the remote address of a connection. A nil connection,
// or one without a remote address, is unknown.
func LogConn(conn net.Conn) string {
	if conn == nil {
		return LogStringAddress("")
	}
	return LogAddress(conn.RemoteAddr())
}
