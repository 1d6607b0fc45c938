package memberlist

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

//go:generate go test -run ^TestRulesDocumentIsUpToDate$ . -update

// Each rule of the wire format and of the behaviour is cited by its number in
// the comments of the code that implements it and of the tests that prove it.
// This file collects the citations into docs/rules.md, so that a hole shows. In
// test files only what stands at or in a test counts, and nowhere a range of more
// than widestRange rules: it says nothing about any of them.

var updateDocs = flag.Bool("update", false, "write docs/rules.md anew instead of comparing it")

const (
	rulesDocument = "docs/rules.md"
	rulesList     = "testdata/rules.txt"
	specification = "docs/spec"
	lastWireRule  = 90
	lastBehaviour = 201
	widestRange   = 8
)

// rulesSources are the directories that are searched. Everything in the
// conformance suite counts as a test, whatever its file name is.
var rulesSources = []string{".", "transporttest"}

type rule struct {
	id     string // "W1" … "P201"
	title  string
	noCode string          // why nothing implements it
	noTest string          // why nothing proves it
	code   map[string]bool // files
	tests  map[string]bool // "file: function"

	vectors []string // patterns of names of golden vectors
}

// document is the file of the specification that states the rule.
func (r *rule) document() string {
	if strings.HasPrefix(r.id, "W") {
		return "wire.md"
	}
	return "protocol.md"
}

// link is the id of the rule as a link from a document in docs.
func (r *rule) link() string {
	return fmt.Sprintf("[%s](spec/%s#%s)", r.id, r.document(), strings.ToLower(r.id))
}

func TestRulesDocumentIsUpToDate(t *testing.T) {
	rules := readRules(t)
	collectCitations(t, rules)
	want := renderRules(rules)
	if *updateDocs {
		require.NoError(t, os.WriteFile(rulesDocument, want, 0o644))
		return
	}
	have, err := os.ReadFile(rulesDocument)
	require.NoError(t, err)
	if !bytes.Equal(bytes.ReplaceAll(have, []byte("\r\n"), []byte("\n")), want) {
		t.Errorf("%s is not what the comments say; run: go generate .", rulesDocument)
	}
}

// A rule without code or test has to say why in the list, and the reason has to
// go when it is no longer true.
func TestRulesWithoutCodeOrTestHaveAReason(t *testing.T) {
	rules := readRules(t)
	collectCitations(t, rules)
	for _, r := range rules {
		checkReason(t, r.id, "code", len(r.code), r.noCode)
		checkReason(t, r.id, "test", len(r.tests)+len(r.vectors), r.noTest)
	}
}

func TestRulesAreProvedByVectorsThatExist(t *testing.T) {
	var vectors []vector
	for _, direction := range []string{"out", "in", "in-reply"} {
		vectors = append(vectors, allVectors(t, direction)...)
	}
	for _, r := range readRules(t) {
		for _, pattern := range r.vectors {
			named := func(v vector) bool {
				matches, err := path.Match(pattern, v.Name)
				require.NoError(t, err)
				return matches
			}
			if !slices.ContainsFunc(vectors, named) {
				t.Errorf("%s: no vector is named like %s", r.id, pattern)
			}
		}
	}
}

func checkReason(t *testing.T, id, what string, citations int, reason string) {
	t.Helper()
	switch {
	case citations == 0 && reason == "":
		t.Errorf("%s: no %s cites it, and %s gives no reason", id, what, rulesList)
	case citations > 0 && reason != "":
		t.Errorf("%s: a %s cites it, so its %q in %s is out of date", id, what, "no "+what, rulesList)
	}
}

func TestRulesCitationsAreRecognised(t *testing.T) {
	for text, want := range map[string][]string{
		"see W12":                     {"W12"},
		"(P45, P46/P47)":              {"P45", "P46", "P47"},
		"W1–W3 and P61–63":            {"W1", "W2", "W3", "P61", "P62", "P63"},
		"W1 – W3":                     {"W1", "W2", "W3"},
		"P8 to P10":                   {"P8", "P9", "P10"},
		"W5 - 20 bytes":               {"W5"},
		"all of P92–P114":             nil,
		"UDP53, P2P, W3C, aW12, P45x": nil,
	} {
		ids, err := citationsIn(text)
		require.NoError(t, err, text)
		require.Equal(t, want, ids, text)
	}
	next := strconv.Itoa(max(lastWireRule, lastBehaviour) + 1)
	for _, text := range []string{"W" + next, "P" + next, "P0", "P" + next + "–P999", "P5–P3"} {
		_, err := citationsIn(text)
		require.Error(t, err, text)
	}
	for name, want := range map[string][]string{
		"TestW18CompoundTruncated":  {"W18"},
		"TestP61ToP63Confirmations": {"P61", "P62", "P63"},
		"TestP92P93Alive":           {"P92", "P93"},
		"TestUDP53IsNoRule":         nil,
	} {
		ids, err := citationsInName(name)
		require.NoError(t, err, name)
		require.Equal(t, want, ids, name)
	}
}

// readRules reads the list of rules and checks that it is complete.
func readRules(t *testing.T) []*rule {
	t.Helper()
	text, err := os.ReadFile(rulesList)
	require.NoError(t, err)
	var rules []*rule
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		rules = append(rules, parseRule(t, line))
	}
	ids := make([]string, len(rules))
	for i, r := range rules {
		ids[i] = r.id
	}
	want := append(ruleRange("W", 1, lastWireRule), ruleRange("P", 1, lastBehaviour)...)
	require.Equal(t, want, ids, "%s lists each rule once, in order", rulesList)
	return rules
}

func parseRule(t *testing.T, line string) *rule {
	t.Helper()
	parts := strings.Split(line, "|")
	require.GreaterOrEqual(t, len(parts), 2, line)
	r := &rule{
		id:    strings.TrimSpace(parts[0]),
		title: strings.TrimSpace(parts[1]),
		code:  map[string]bool{},
		tests: map[string]bool{},
	}
	for _, part := range parts[2:] {
		what, why, _ := strings.Cut(strings.TrimSpace(part), ":")
		why = strings.TrimSpace(why)
		require.NotEmpty(t, why, line)
		switch what {
		case "no code":
			r.noCode = why
		case "no test":
			r.noTest = why
		case "vectors":
			r.vectors = strings.Split(why, ", ")
		default:
			t.Fatalf("%s: a part begins with %q", rulesList, what)
		}
	}
	return r
}

// collectCitations fills in who cites each rule.
func collectCitations(t *testing.T, rules []*rule) {
	t.Helper()
	byID := map[string]*rule{}
	for _, r := range rules {
		byID[r.id] = r
	}
	for _, dir := range rulesSources {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, name := range files {
			if name == "rules_test.go" {
				continue
			}
			collectFromFile(t, byID, filepath.ToSlash(name))
		}
	}
}

func collectFromFile(t *testing.T, byID map[string]*rule, name string) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
	require.NoError(t, err)
	isTest := strings.HasSuffix(name, "_test.go") || strings.Contains(name, "/")
	cite := func(ids []string, test string) {
		for _, id := range ids {
			switch {
			case !isTest:
				byID[id].code[name] = true
			case test != "":
				byID[id].tests[name+": "+test] = true
			}
		}
	}
	for _, group := range file.Comments {
		ids, err := citationsIn(group.Text())
		require.NoError(t, err, "%s", fset.Position(group.Pos()))
		cite(ids, testAround(file, group))
	}
	if !isTest {
		return
	}
	for _, decl := range file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && provesSomething(fn) {
			ids, err := citationsInName(fn.Name.Name)
			require.NoError(t, err, "%s", fset.Position(fn.Pos()))
			cite(ids, fn.Name.Name)
		}
	}
}

// testAround names the test that a comment stands at or in, "" if there is none.
func testAround(file *ast.File, group *ast.CommentGroup) string {
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || !provesSomething(fn) {
			continue
		}
		if fn.Doc == group || fn.Pos() <= group.Pos() && group.End() <= fn.End() {
			return fn.Name.Name
		}
	}
	return ""
}

// provesSomething tells whether fn is a test, a part of the conformance suite
// ("testX") included.
func provesSomething(fn *ast.FuncDecl) bool {
	for _, prefix := range []string{"Test", "Fuzz", "Example", "test"} {
		if fn.Recv == nil && strings.HasPrefix(fn.Name.Name, prefix) {
			return true
		}
	}
	return false
}

var (
	citation       = regexp.MustCompile(`\b([WP])(\d+)(?:(?:[–-]|\s+[–-]\s+|\s+to\s+)([WP])(\d+)|[–-](\d+))?\b`)
	citationInName = regexp.MustCompile(`([WP])(\d+)(?:To([WP])(\d+))?`)
)

// citationsIn lists the rules named in a comment: "W5", "P61–P63", "P61–63".
func citationsIn(text string) ([]string, error) {
	var ids []string
	for _, m := range citation.FindAllStringSubmatch(text, -1) {
		found, err := expandCitation(m[1], m[2], m[3], m[4]+m[5])
		if err != nil {
			return nil, fmt.Errorf("%q: %w", m[0], err)
		}
		ids = append(ids, found...)
	}
	return ids, nil
}

// citationsInName lists the rules in the name of a test: TestW18…, TestP61ToP63….
// The letter of a rule never follows a capital, as that of TestUDP53 does.
func citationsInName(name string) ([]string, error) {
	var ids []string
	for _, at := range citationInName.FindAllStringIndex(name, -1) {
		if at[0] > 0 && unicode.IsUpper(rune(name[at[0]-1])) {
			continue
		}
		m := citationInName.FindStringSubmatch(name[at[0]:at[1]])
		found, err := expandCitation(m[1], m[2], m[3], m[4])
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		ids = append(ids, found...)
	}
	return ids, nil
}

func expandCitation(kind, first, lastKind, last string) ([]string, error) {
	if lastKind != "" && lastKind != kind {
		return nil, fmt.Errorf("a range from %s to %s", kind, lastKind)
	}
	from, err := strconv.Atoi(first)
	if err != nil {
		return nil, err
	}
	to := from
	if last != "" {
		if to, err = strconv.Atoi(last); err != nil {
			return nil, err
		}
	}
	most := lastWireRule
	if kind == "P" {
		most = lastBehaviour
	}
	if from < 1 || to < from || to > most {
		return nil, fmt.Errorf("the rules of this kind are %s1 to %s%d", kind, kind, most)
	}
	if to-from >= widestRange {
		return nil, nil
	}
	return ruleRange(kind, from, to), nil
}

func ruleRange(kind string, from, to int) []string {
	var ids []string
	for i := from; i <= to; i++ {
		ids = append(ids, kind+strconv.Itoa(i))
	}
	return ids
}

func renderRules(rules []*rule) []byte {
	var b bytes.Buffer
	b.WriteString("# Rules and where they are\n\n" +
		"Every rule of the [wire format](spec/wire.md) (W) and of the\n" +
		"[behaviour](spec/protocol.md) (P), the files that\n" +
		"implement it and the tests that prove it. Made from the comments by\n" +
		"`go generate .`; a test fails when it is out of date.\n\n")
	renderHoles(&b, rules)
	wire, behaviour := rules[:lastWireRule], rules[lastWireRule:]
	renderTable(&b, "Wire format", wire)
	renderTable(&b, "Behaviour", behaviour)
	return b.Bytes()
}

func renderHoles(b *bytes.Buffer, rules []*rule) {
	code, tests := 0, 0
	var holes []string
	hole := func(r *rule, what, reason string) {
		if reason == "" {
			reason = "**no reason given**"
		}
		holes = append(holes, fmt.Sprintf("| %s | %s | %s | %s |\n", r.link(), r.title, what, reason))
	}
	for _, r := range rules {
		if len(r.code) > 0 {
			code++
		} else {
			hole(r, "code", r.noCode)
		}
		if len(r.tests)+len(r.vectors) > 0 {
			tests++
		} else {
			hole(r, "test", r.noTest)
		}
	}
	fmt.Fprintf(b, "%d rules, %d cited in code, %d in tests.\n\n## Holes\n\n", len(rules), code, tests)
	if len(holes) == 0 {
		b.WriteString("None.\n\n")
		return
	}
	b.WriteString("| rule | title | missing | why |\n|---|---|---|---|\n" + strings.Join(holes, "") + "\n")
}

func renderTable(b *bytes.Buffer, title string, rules []*rule) {
	fmt.Fprintf(b, "## %s\n\n| rule | title | code | tests |\n|---|---|---|---|\n", title)
	for _, r := range rules {
		code := slices.Sorted(maps.Keys(r.code))
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", r.link(), r.title, strings.Join(code, ", "), renderTests(r))
	}
	b.WriteString("\n")
}

// renderTests groups the tests by file, and names at most three of each.
func renderTests(r *rule) string {
	const named = 3
	byFile := map[string][]string{}
	for test := range r.tests {
		file, fn, _ := strings.Cut(test, ": ")
		byFile[file] = append(byFile[file], fn)
	}
	var files []string
	for _, file := range slices.Sorted(maps.Keys(byFile)) {
		fns := byFile[file]
		slices.SortFunc(fns, namedAfterFirst(r.id))
		if more := len(fns) - named; more > 0 {
			fns = append(fns[:named:named], fmt.Sprintf("%d more", more))
		}
		files = append(files, file+": "+strings.Join(fns, ", "))
	}
	if len(r.vectors) > 0 {
		files = append(files, "vectors: "+strings.ReplaceAll(strings.Join(r.vectors, ", "), "*", "\\*"))
	}
	return strings.Join(files, "; ")
}

// namedAfterFirst orders tests by name, those that carry the rule in it first.
func namedAfterFirst(id string) func(a, b string) int {
	rank := func(name string) int {
		if ids, _ := citationsInName(name); slices.Contains(ids, id) {
			return 0
		}
		return 1
	}
	return func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	}
}
