package memberlist

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The architecture document tells what is in which file, so it names them all
// and none that is gone.
func TestArchitectureNamesEveryFile(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	require.NoError(t, err)
	for _, name := range goFiles(t) {
		if !strings.HasSuffix(name, "_test.go") && !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("ARCHITECTURE.md does not name %s", name)
		}
	}
	for _, m := range regexp.MustCompile("`([a-z0-9_]+\\.go)`").FindAllStringSubmatch(string(text), -1) {
		require.FileExists(t, m[1])
	}
}

func TestLinksInDocumentsLeadSomewhere(t *testing.T) {
	documents, err := filepath.Glob("*.md")
	require.NoError(t, err)
	more, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, name := range append(documents, more...) {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			_, err := os.Stat(filepath.Join(filepath.Dir(name), filepath.FromSlash(m[1])))
			require.NoError(t, err, "%s links to %s", name, m[1])
		}
	}
}

// Each recorded input whose outcome is another one here is listed as a
// difference, and no other is.
func TestDifferencesListTheVectorsWithAnOutcomeOfOurOwn(t *testing.T) {
	text, err := os.ReadFile("docs/differences.md")
	require.NoError(t, err)
	_, listed, found := strings.Cut(string(text), "## Recorded inputs")
	require.True(t, found)
	for _, v := range readInVectors(t) {
		require.Equal(t, v.Ours != nil, strings.Contains(listed, "`"+v.Name+"`"), v.Name)
	}
}
