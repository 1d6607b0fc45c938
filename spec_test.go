package memberlist

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
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
			require.Contains(t, string(text), m[0]+"**"+strings.ToUpper(m[1]), "the anchor stands before the number")
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
