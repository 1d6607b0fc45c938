package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// program is a module with tests of every kind, on a memberlist without content.
var program = map[string]string{
	"go.mod": `module example.com/program

go 1.25

require github.com/hashicorp/memberlist v0.7.0

replace github.com/hashicorp/memberlist => ./memberlist
`,
	"memberlist/go.mod":        "module github.com/hashicorp/memberlist\n",
	"memberlist/memberlist.go": "package memberlist\n",
	"plain/plain_test.go":      "package plain\n\nimport \"testing\"\n\nfunc TestPlain(*testing.T) {}\n",
	"plain/plain.go":           "package plain\n",
	"cluster/cluster.go":       "package cluster\n\nimport _ \"github.com/hashicorp/memberlist\"\n",
	"cluster/cluster_test.go": `package cluster

import (
	"os"
	"testing"
)

func TestPasses(t *testing.T) { t.Run("part", func(*testing.T) {}) }
func TestSkips(t *testing.T)  { t.Skip() }
func TestFails(t *testing.T)  { t.Fatal("reason") }

func TestFailsOnce(t *testing.T) {
	if os.Mkdir("once", 0o755) == nil {
		t.Fatal("first time")
	}
}

func TestEndsProcess(*testing.T) { os.Exit(1) }
func TestLast(*testing.T)        {}
`,
}

func buildProgram(t *testing.T, o settings) suite {
	t.Helper()
	s := suite{module: "example.com/program", dir: t.TempDir()}
	for name, content := range program {
		path := filepath.Join(s.dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	require.NoError(t, s.build(t.Context(), &o))
	return s
}

func TestOnlyPackagesThatDependOnMemberlistAreRun(t *testing.T) {
	s := buildProgram(t, settings{packages: []string{"./..."}, test: "Fails|Plain"})
	require.Equal(t, []string{"./cluster"}, s.packages)
	require.Equal(t, []test{{"./cluster", "TestFails"}, {"./cluster", "TestFailsOnce"}}, s.tests)

	err := s.build(t.Context(), &settings{packages: []string{"./plain"}})
	require.ErrorContains(t, err, "no package")
}

func TestMemberlistThatIsNotTheWantedOneIsRefused(t *testing.T) {
	s := buildProgram(t, settings{packages: []string{"./cluster"}})
	require.NoError(t, s.mustUse(t.Context(), "./memberlist"))
	require.ErrorContains(t, s.mustUse(t.Context(), memberlistVersion), "not v0.7.0")
}

func TestFailedAndUnstartedTestsRunAgainAlone(t *testing.T) {
	o := settings{packages: []string{"./..."}, retries: 1}
	s := buildProgram(t, o)
	r, err := s.run(t.Context(), nil, o)
	require.NoError(t, err)
	require.Equal(t, map[test]string{
		{"./cluster", "TestPasses"}:      "pass",
		{"./cluster", "TestPasses/part"}: "pass",
		{"./cluster", "TestSkips"}:       "skip",
		{"./cluster", "TestFails"}:       "fail",
		{"./cluster", "TestFailsOnce"}:   "pass",
		{"./cluster", "TestEndsProcess"}: "fail",
		{"./cluster", "TestLast"}:        "pass",
	}, r.action)
	require.Equal(t, []test{{"./cluster", "TestFailsOnce"}}, r.retried)
	require.Contains(t, r.output[test{"./cluster", "TestFails"}], "reason")

	o.retries = 0
	r, err = s.run(t.Context(), nil, o)
	require.NoError(t, err)
	require.Equal(t, []test{{"./cluster", "TestLast"}}, r.with(unstarted))
}

func TestTestsThatPassedMustPass(t *testing.T) {
	passes, fails, gone := test{"./a", "TestPasses"}, test{"./a", "TestFails"}, test{"./a", "TestGone"}
	base := &result{action: map[test]string{passes: "pass", fails: "fail", gone: "pass"}}
	for _, c := range []struct {
		name string
		got  map[test]string
		lost string
	}{
		{"the same", map[test]string{passes: "pass", fails: "fail", gone: "pass"}, ""},
		{"more", map[test]string{passes: "pass", fails: "pass", gone: "pass"}, ""},
		{"failed", map[test]string{passes: "fail", gone: "pass"}, "LOST ./a TestPasses: fail\n"},
		{"skipped", map[test]string{passes: "skip", gone: "pass"}, "LOST ./a TestPasses: skip\n"},
		{"missing", map[test]string{passes: "pass"}, "LOST ./a TestGone: missing\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var told strings.Builder
			require.Equal(t, c.lost == "", base.keptBy(&result{action: c.got}, &told))
			require.Equal(t, c.lost, told.String())
		})
	}
}

func TestResultIsWrittenBetweenTheLinesOfItsModule(t *testing.T) {
	const before = "text\n<!-- begin a -->\nold\n<!-- end a -->\n<!-- begin b -->\nkept\n<!-- end b -->\n"
	file := filepath.Join(t.TempDir(), "doc.md")
	require.NoError(t, os.WriteFile(file, []byte(before), 0o644))
	require.NoError(t, writeDoc(file, "a", "new\n"))
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Regexp(t, "^text\n<!-- begin a -->\n```\nnew\n[0-9-]+\n```\n<!-- end a -->\n<!-- begin b -->\nkept\n<!-- end b -->\n$", string(after))

	require.ErrorContains(t, writeDoc(file, "c", "new\n"), "<!-- begin c -->")
}
