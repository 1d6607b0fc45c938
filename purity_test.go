package memberlist

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The package is flat, so no import wall keeps the protocol away from clocks,
// sockets and goroutines. These tests do it from the syntax trees.

// worldlyFiles may touch the world: they are the shell. All others are pure, a
// new one too until it is listed here: time is an argument there, randomness is
// injected, and what is to happen is returned as data.
var worldlyFiles = []string{
	// Life, goroutines, packets and streams of a node.
	"admission.go",
	"perform.go",
	"outbound.go",
	"push_pull.go",
	"session.go",
	"stream_ping.go",
	"join_contact.go",
	"user_ping.go",
	"engine.go",
	"exchange.go",
	"join.go",
	"leave_stream.go",
	"lifetime.go",
	"memberlist.go",
	"message.go",
	"metrics.go",
	"net.go",
	"notify.go",
	"reentrancy.go",
	"rejoin.go",
	"send.go",
	"send_batch.go",
	"snapshot.go",
	"stream_set.go",
	"tasks.go",
	"user_message.go",

	// What a program sets, implements and gets back.
	"config.go",
	"delegate.go",
	"errors.go",
	"logging.go",

	// Sockets, name servers and interfaces.
	"advertise.go",
	"label.go",
	"memory_budget.go",
	"mock_transport.go",
	"net_transport.go",
	"net_transport_linux.go",
	"net_transport_other.go",
	"net_transport_udp.go",
	"resolve.go",
	"stream.go",
	"transport.go",
}

// impureImports bring in a clock, a log or I/O as a whole. An entry with a
// trailing slash stands for everything below it.
var impureImports = []string{
	"context",
	"github.com/hashicorp/go-metrics",
	"github.com/miekg/dns",
	"golang.org/x/",
	"log",
	"log/",
	"net/http",
	"os",
	"os/",
	"syscall",
}

// impureNames are the parts of otherwise pure packages that are not. An entry
// that ends in * stands for all names with that beginning.
var impureNames = map[string][]string{
	"fmt": {"Print*", "Fprint*", "Scan*", "Fscan*"},
	"net": {"DefaultResolver", "Dial*", "File*", "Interface*", "Listen*", "Lookup*", "Resolve*"},
	"time": {
		"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until",
	},
	"math/rand":    {"*"},
	"math/rand/v2": {"Float*", "Int*", "N", "NormFloat64", "ExpFloat64", "Perm", "Shuffle", "Uint*"},
}

func TestPureFilesHaveNoClockGoroutineOrIO(t *testing.T) {
	for _, name := range worldlyFiles {
		require.FileExists(t, name)
	}
	for _, name := range goFiles(t) {
		if strings.HasSuffix(name, "_test.go") || slices.Contains(worldlyFiles, name) {
			continue
		}
		src := parseSource(t, name)
		for path := range src.imports {
			if matchesPath(impureImports, path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
		ast.Inspect(src.file, func(n ast.Node) bool {
			if what := src.impurity(n); what != "" {
				t.Errorf("%s: %s", src.fset.Position(n.Pos()), what)
			}
			return true
		})
	}
}

// The checks above have to see what they forbid.
func TestPurityIsChecked(t *testing.T) {
	const head = "package p\nimport (\n\"fmt\"; \"math/rand/v2\"; \"net\"; clock \"time\"\n)\n" +
		"var _ = net.IPv4len\nvar _ fmt.Stringer\nvar _ rand.Source\nvar _ clock.Duration\n"
	impure := func(body string) []string {
		src := parseText(t, "p.go", head+"func f(c chan int) {\n"+body+"\n}\n")
		var found []string
		ast.Inspect(src.file, func(n ast.Node) bool {
			if what := src.impurity(n); what != "" {
				found = append(found, what)
			}
			return true
		})
		return found
	}
	for body, want := range map[string]string{
		"_ = clock.Now()":                   "time.Now",
		"clock.AfterFunc(1, nil)":           "time.AfterFunc",
		"go f(nil)":                         "go statement",
		"c <- 1":                            "channel send",
		"<-c":                               "channel receive",
		"select {}":                         "select statement",
		"net.Dial(\"tcp\", \"\")":           "net.Dial",
		"net.LookupHost(\"\")":              "net.LookupHost",
		"fmt.Println()":                     "fmt.Println",
		"println()":                         "println",
		"_ = rand.IntN(3)":                  "math/rand/v2.IntN",
		"_ = net.ListenConfig{}.Listen":     "net.ListenConfig",
		"var _ net.Resolver":                "net.Resolver",
		"_ = rand.New(rand.NewPCG(1, 2))":   "",
		"_ = fmt.Sprintf(\"\")":             "",
		"_ = clock.Second; close(c)":        "",
		"time := f; time.Now(); _ = net.IP": "",
	} {
		if want == "" {
			require.Empty(t, impure(body), body)
		} else {
			require.Equal(t, []string{want}, impure(body), body)
		}
	}
}

// A program takes the module by a replace of another module path. An import of our
// own path could not be resolved there, nor could one in a test: go mod tidy reads
// the tests of what a program imports. So what can be imported imports nothing of ours.
func TestPackagesImportNothingOfTheirOwnModule(t *testing.T) {
	module := modulePath(t)
	packages := importablePackages(t)
	require.Contains(t, packages, ".")
	require.Contains(t, packages, "transporttest")
	for _, dir := range packages {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, name := range files {
			for path := range parseSource(t, name).imports {
				if path == module || strings.HasPrefix(path, module+"/") {
					t.Errorf("%s imports %s", name, path)
				}
			}
		}
	}
}

// importablePackages are the directories of the module with a package that others can
// import: no program, and not tests alone.
func importablePackages(t *testing.T) []string {
	t.Helper()
	var dirs []string
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && (strings.HasPrefix(entry.Name(), ".") || fileExists(filepath.Join(path, "go.mod"))):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		dir := filepath.Dir(path)
		if !slices.Contains(dirs, dir) && parseSource(t, path).file.Name.Name != "main" {
			dirs = append(dirs, dir)
		}
		return nil
	}))
	return dirs
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// Clusters run side by side, each perhaps in a synctest bubble of its own, so
// nothing at package level may carry anything from one to the other. Pools of
// plain buffers may.
func TestNothingAtPackageLevelSpansClusters(t *testing.T) {
	for _, name := range goFiles(t) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src := parseSource(t, name)
		for _, decl := range src.file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Recv == nil && decl.Name.Name == "init" {
					t.Errorf("%s: an init function", src.fset.Position(decl.Pos()))
				}
			case *ast.GenDecl:
				if decl.Tok == token.VAR {
					src.checkPackageVariables(t, decl)
				}
			}
		}
	}
}

// sharedState are types that make a package-level variable a tie between
// clusters.
var sharedState = map[string][]string{
	"sync":        {"Cond", "Map", "Mutex", "NewCond", "RWMutex", "WaitGroup"},
	"sync/atomic": {"*"},
	"time":        {"AfterFunc", "NewTicker", "NewTimer", "Ticker", "Timer"},
}

func (src parsedFile) checkPackageVariables(t *testing.T, decl *ast.GenDecl) {
	t.Helper()
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false // what a function makes when called is its caller's
		case *ast.ChanType:
			t.Errorf("%s: a channel at package level", src.fset.Position(n.Pos()))
		case *ast.SelectorExpr:
			if name, ok := src.qualified(n, sharedState); ok {
				t.Errorf("%s: %s at package level", src.fset.Position(n.Pos()), name)
			}
		}
		return true
	})
}

// Time is virtual in tests, in bubbles that synctest or inBubble makes, or it is
// waited for with a condition and a limit.
func TestTestsSleepInVirtualTimeOnly(t *testing.T) {
	sleep := map[string][]string{"time": {"Sleep"}}
	for _, name := range goFiles(t) {
		src := parseSource(t, name)
		if !strings.HasSuffix(name, "_test.go") || src.imports["testing/synctest"] != "" || src.calls("inBubble") {
			continue
		}
		ast.Inspect(src.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if _, ok := src.qualified(sel, sleep); ok {
					t.Errorf("%s: time.Sleep in a file without testing/synctest", src.fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// calls reports whether the file calls a function of the package by this name.
func (f *parsedFile) calls(name string) bool {
	found := false
	ast.Inspect(f.file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			id, ok := call.Fun.(*ast.Ident)
			found = found || ok && id.Name == name
		}
		return !found
	})
	return found
}

// parsedFile is a file as its syntax tree.
type parsedFile struct {
	fset    *token.FileSet
	file    *ast.File
	imports map[string]string // path → the name it has in this file
}

func parseSource(t *testing.T, name string) parsedFile {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return parseText(t, name, string(text))
}

func parseText(t *testing.T, name, text string) parsedFile {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	require.NoError(t, err)
	src := parsedFile{fset: fset, file: file, imports: map[string]string{}}
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		src.imports[path] = importName(spec, path)
		require.NotEqual(t, ".", src.imports[path], "%s: dot import of %s", name, path)
	}
	return src
}

// importName is the name that an import has in its file. Without a name of its
// own it is the last element of the path that is no version.
func importName(spec *ast.ImportSpec, path string) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	dir, base := "", path
	if i := strings.LastIndex(path, "/"); i >= 0 {
		dir, base = path[:i], path[i+1:]
	}
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		return dir[strings.LastIndex(dir, "/")+1:]
	}
	return base
}

// impurity says what makes n impure by itself, "" if nothing does.
func (src parsedFile) impurity(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "go statement"
	case *ast.SelectStmt:
		return "select statement"
	case *ast.SendStmt:
		return "channel send"
	case *ast.UnaryExpr:
		if n.Op == token.ARROW {
			return "channel receive"
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "print" || id.Name == "println") {
			return id.Name
		}
	case *ast.SelectorExpr:
		if name, ok := src.qualified(n, impureNames); ok {
			return name
		}
	}
	return ""
}

// qualified reports whether sel is one of the listed names of an imported
// package, and gives it with the path of the package.
func (src parsedFile) qualified(sel *ast.SelectorExpr, names map[string][]string) (string, bool) {
	id, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	for path, listed := range names {
		if name, imported := src.imports[path]; imported && name == id.Name && matchesName(listed, sel.Sel.Name) {
			return path + "." + sel.Sel.Name, true
		}
	}
	return "", false
}

func matchesName(listed []string, name string) bool {
	return slices.ContainsFunc(listed, func(l string) bool {
		prefix, wild := strings.CutSuffix(l, "*")
		return l == name || wild && strings.HasPrefix(name, prefix)
	})
}

func matchesPath(listed []string, path string) bool {
	return slices.ContainsFunc(listed, func(l string) bool {
		return l == path || strings.HasSuffix(l, "/") && strings.HasPrefix(path, l)
	})
}

func goFiles(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	return names
}

func modulePath(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			return path
		}
	}
	t.Fatal("go.mod names no module")
	return ""
}
