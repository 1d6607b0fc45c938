package memberlist

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The specification states each rule of the list once, in the document of its
// kind.
func TestSpecificationStatesEachRuleOnce(t *testing.T) {
	var want, have []string
	for _, r := range readRules(t) {
		want = append(want, r.document()+"#"+strings.ToLower(r.id))
	}
	for _, document := range []string{"wire.md", "protocol.md"} {
		text, err := os.ReadFile(filepath.Join(specification, document))
		require.NoError(t, err)
		for _, m := range anchor.FindAllStringSubmatch(string(text), -1) {
			have = append(have, document+"#"+m[1])
			require.True(t, strings.Contains(string(text), m[0]+"**"+strings.ToUpper(m[1])), "%s stands before the number", m[0])
		}
	}
	require.ElementsMatch(t, want, have)
}

// Each rule that a comment, the name of a test or a document cites is one of the
// specification.
func TestCitedRulesStandInTheSpecification(t *testing.T) {
	for _, name := range documents(t) {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		_, err = citationsIn(string(text))
		require.NoError(t, err, name)
	}
	for _, name := range sources(t) {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		require.NoError(t, err)
		for _, group := range file.Comments {
			_, err := citationsIn(group.Text())
			require.NoError(t, err, "%s", fset.Position(group.Pos()))
		}
		for _, decl := range file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && provesSomething(fn) {
				_, err := citationsInName(fn.Name.Name)
				require.NoError(t, err, "%s", fset.Position(fn.Pos()))
			}
		}
	}
}

// sources are all Go files of the repository, those of other modules included.
func sources(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(name, ".go") {
			names = append(names, name)
		}
		return nil
	})
	require.NoError(t, err)
	return names
}

// Readers of pkg.go.dev cannot follow the number of a rule.
func TestExportedDocumentationNamesNoRules(t *testing.T) {
	for _, dir := range rulesSources {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, name := range names {
			if dir == "." && strings.HasSuffix(name, "_test.go") {
				continue
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
			require.NoError(t, err)
			for _, doc := range exportedDocs(file) {
				if cited := citation.FindString(doc.Text()); cited != "" {
					t.Errorf("%s: exported documentation cites %s", fset.Position(doc.Pos()), cited)
				}
			}
		}
	}
}

// exportedDocs are the comments of a file that godoc shows.
func exportedDocs(file *ast.File) []*ast.CommentGroup {
	shown := []*ast.CommentGroup{file.Doc}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiverOf(d))) {
				shown = append(shown, d.Doc)
			}
		case *ast.GenDecl:
			shown = append(shown, docsOfDecl(d)...)
		}
	}
	return slices.DeleteFunc(shown, func(doc *ast.CommentGroup) bool { return doc == nil })
}

// receiverOf is the name of the type that a method belongs to.
func receiverOf(d *ast.FuncDecl) string {
	name := types.ExprString(d.Recv.List[0].Type)
	name, _, _ = strings.Cut(strings.TrimPrefix(name, "*"), "[")
	return name
}

// docsOfDecl are the comments of exported types, constants and variables, and of
// the exported fields and methods in them.
func docsOfDecl(d *ast.GenDecl) []*ast.CommentGroup {
	var shown []*ast.CommentGroup
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				shown = append(shown, d.Doc, s.Doc, s.Comment)
				shown = append(shown, docsOfFields(s.Type)...)
			}
		case *ast.ValueSpec:
			if slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) {
				shown = append(shown, d.Doc, s.Doc, s.Comment)
			}
		}
	}
	return shown
}

func docsOfFields(t ast.Expr) []*ast.CommentGroup {
	var fields *ast.FieldList
	switch t := t.(type) {
	case *ast.StructType:
		fields = t.Fields
	case *ast.InterfaceType:
		fields = t.Methods
	default:
		return nil
	}
	var shown []*ast.CommentGroup
	for _, f := range fields.List {
		if len(f.Names) == 0 || slices.ContainsFunc(f.Names, (*ast.Ident).IsExported) {
			shown = append(shown, f.Doc, f.Comment)
		}
	}
	return shown
}
