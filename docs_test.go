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
	link := regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
	for _, name := range documents(t) {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target := name
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(name), filepath.FromSlash(m[1]))
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "%s links to %s", name, m[1])
			if m[2] != "" && strings.HasSuffix(target, ".md") {
				require.Contains(t, fragmentsOf(t, target), m[2], "%s links to a part of %s", name, target)
			}
		}
	}
}

// documents are the documents for readers of the project.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", specification + "/*.md"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		all = append(all, found...)
	}
	return all
}

var (
	anchor  = regexp.MustCompile(`<a id="([^"]+)"></a>`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
)

// fragmentsOf are the parts of a document that a link can lead to: its anchors,
// and its headings as GitHub names them.
func fragmentsOf(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	var parts []string
	for _, m := range anchor.FindAllStringSubmatch(string(text), -1) {
		parts = append(parts, m[1])
	}
	for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
		words := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		parts = append(parts, strings.ReplaceAll(words, " ", "-"))
	}
	return parts
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
