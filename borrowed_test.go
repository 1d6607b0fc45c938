package memberlist

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBorrowedTextIsComparedWithoutACopyAndKeptAsOne(t *testing.T) {
	memory := []byte("name")
	b := borrowBytes(memory)
	m := map[string]int{"name": 7}
	known := "name"
	require.Zero(t, testing.AllocsPerRun(100, func() {
		v, ok := lookUp(m, b)
		if !ok || v != 7 || !b.is("name") || b.empty() || b.len() != 4 || b.ownUnless(known) != known {
			t.Fail()
		}
	}))
	kept, text, other := b.own(), fmt.Sprint(b), b.ownUnless("other")
	copy(memory, "XXXX")
	require.Equal(t, []string{"name", "name", "name"}, []string{kept, text, other})
	require.True(t, b.is("XXXX"))
}

// checkedPackage is a package as the type checker sees it. What is imported stays
// unknown to it.
type checkedPackage struct {
	fset  *token.FileSet
	files []*ast.File
	info  types.Info
}

func checkTypes(t *testing.T, sources map[string]any) *checkedPackage {
	p := &checkedPackage{fset: token.NewFileSet()}
	p.info = types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	for name, src := range sources {
		f, err := parser.ParseFile(p.fset, name, src, 0)
		require.NoError(t, err)
		p.files = append(p.files, f)
	}
	nothing := importer.ForCompiler(p.fset, "gc", func(string) (io.ReadCloser, error) {
		return nil, fmt.Errorf("imports are not looked at")
	})
	conf := types.Config{Importer: nothing, Error: func(error) {}}
	_, _ = conf.Check("p", p.fset, p.files, &p.info)
	return p
}

// leaks are the places where borrowed text is made something that could keep it: its
// field is touched, or it is passed, stored or returned as another type.
func (p *checkedPackage) leaks() []string {
	var found []string
	report := func(n ast.Node, what string) {
		found = append(found, fmt.Sprintf("%s: %s", p.fset.Position(n.Pos()), what))
	}
	for _, f := range p.files {
		if p.fset.Position(f.Pos()).Filename == "borrowed.go" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if p.isBorrowed(n.X) && n.Sel.Name == "lent" {
					report(n, "the field of a borrowed text is touched")
				}
			case *ast.CallExpr:
				for i, arg := range n.Args {
					if p.isBorrowed(arg) && !p.takesBorrowed(n, i) {
						report(arg, "borrowed text is passed as something else")
					}
				}
			case *ast.CompositeLit:
				if p.keeps(n) {
					report(n, "borrowed text is put among other things")
				}
			}
			return true
		})
	}
	return found
}

func (p *checkedPackage) isBorrowed(e ast.Expr) bool {
	return isBorrowedType(p.info.TypeOf(e))
}

func isBorrowedType(t types.Type) bool {
	if pointer, ok := t.(*types.Pointer); ok {
		t = pointer.Elem()
	}
	named, ok := t.(*types.Named)
	return ok && named.Obj().Name() == "borrowed"
}

// takesBorrowed reports whether a function takes its i-th argument as borrowed text.
func (p *checkedPackage) takesBorrowed(call *ast.CallExpr, i int) bool {
	f, ok := p.info.TypeOf(call.Fun).(*types.Signature)
	if !ok {
		return false
	}
	params := f.Params()
	return i < params.Len() && isBorrowedType(params.At(i).Type())
}

// keeps reports whether a list or map of other things has borrowed text in it.
func (p *checkedPackage) keeps(lit *ast.CompositeLit) bool {
	var of types.Type
	switch t := p.info.TypeOf(lit).Underlying().(type) {
	case *types.Slice:
		of = t.Elem()
	case *types.Array:
		of = t.Elem()
	case *types.Map:
		of = t.Elem()
	default:
		return false
	}
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			e = kv.Value
		}
		if p.isBorrowed(e) && !isBorrowedType(of) {
			return true
		}
	}
	return false
}

// The compiler lets borrowed text pass as any, and so into a log line or an error that
// keeps it. Outside of its own file nobody does that, nor touches the text itself.
func TestBorrowedTextGoesNowhereButAsACopy(t *testing.T) {
	sources := map[string]any{}
	for _, name := range goFiles(t) {
		if !strings.HasSuffix(name, "_test.go") {
			sources[name] = nil
		}
	}
	require.Contains(t, sources, "net.go")
	p := checkTypes(t, sources)
	require.Empty(t, p.leaks())
}

// The check has to see what it forbids.
func TestBorrowedTextIsChecked(t *testing.T) {
	const head = `package p
import "fmt"
type borrowed struct{ lent string }
func (b borrowed) own() string { return b.lent }
type message struct { Node borrowed }
func f(b borrowed) {}
func log(args ...any) {}
func g(m *message) {
`
	leaks := func(body string) int {
		p := checkTypes(t, map[string]any{"p.go": head + body + "\n}"})
		return len(p.leaks()) - 1 // own touches the field
	}
	for body, want := range map[string]int{
		"f(m.Node)":                         0,
		"log(m.Node.own())":                 0,
		"_ = message{Node: m.Node}":         0,
		"_ = []borrowed{m.Node}":            0,
		"log(m.Node)":                       1,
		"log(&m.Node)":                      1,
		"fmt.Errorf(\"%v\", m.Node)":        1,
		"_ = any(m.Node)":                   1,
		"_ = m.Node.lent":                   1,
		"log([]any{m.Node}...)":             1,
		"_ = map[string]any{\"a\": m.Node}": 1,
	} {
		require.Equal(t, want, leaks(body), body)
	}
}
