package interop_test

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"
)

// logCheck looks at what nodes log above INFO during each step of a life. In a
// step in which nothing fails nobody may complain. In the others a node may
// complain in the words that nodes of its library also find among their own
// kind (usual); without usual the words are collected instead.
type logCheck struct {
	*cluster
	usual   *complaints
	collect *complaints
	marks   map[*peer]mark
	doubles []*peer // second holders of a name, which are not among the peers any more
}

// mark is where a peer's log was; a restarted peer has a new log.
type mark struct {
	log   any
	lines int
}

// complaints are the normalized warnings and errors, by library.
type complaints struct {
	mu    sync.Mutex
	words map[string]map[string]bool
}

func (c *complaints) add(library, words string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.words == nil {
		c.words = make(map[string]map[string]bool)
	}
	if c.words[library] == nil {
		c.words[library] = make(map[string]bool)
	}
	c.words[library][words] = true
}

func (c *complaints) has(library, words string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.words[library][words]
}

// begin forgets what was logged so far.
func (l *logCheck) begin() {
	l.marks, l.doubles = make(map[*peer]mark), nil
	for _, p := range l.peers {
		l.marks[p] = mark{p.app, p.app.Log.Len()}
	}
}

// end judges what nodes have logged since begin, up to their own end.
func (l *logCheck) end(step string, troubled bool) {
	var found []string
	for _, p := range slices.Concat(l.peers, l.doubles) {
		from := 0
		if m := l.marks[p]; m.log == p.app {
			from = m.lines
		}
		for _, line := range p.app.Log.Lines(from) {
			if isComplaint(line) && !l.accepts(p.lib.Name(), line, troubled) {
				found = append(found, p.name()+" ("+p.lib.Name()+"): "+line)
			}
		}
	}
	require.Empty(l.t, found, "step %s: complaints that two of a kind do not print", step)
}

func (l *logCheck) accepts(library, line string, troubled bool) bool {
	words := normalize(line)
	if troubled && l.collect != nil {
		l.collect.add(library, words)
		return true
	}
	return troubled && l.usual.has(library, words)
}

func isComplaint(line string) bool {
	return strings.Contains(line, "[WARN]") || strings.Contains(line, "[ERR")
}

var volatile = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `), ""},
	{regexp.MustCompile(`\d+\.\d+\.\d+\.\d+(:\d+)?`), "ADDR"},
	// How a connection to a killed node ends depends on the moment.
	{regexp.MustCompile(`(dial|read|write) tcp ADDR(->ADDR)?: .*$`), "the connection failed"},
	{regexp.MustCompile(`(suspect|dead) message`), "accusation"},
	{regexp.MustCompile(`\b[abn]\d+\b`), "NODE"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(µs|ms|s)?\b`), "#"},
}

// normalize takes names, addresses and numbers out of a log line.
func normalize(line string) string {
	for _, v := range volatile {
		line = v.pattern.ReplaceAllString(line, v.by)
	}
	return line
}
