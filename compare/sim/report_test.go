package sim

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQuantiles(t *testing.T) {
	require.Equal(t, 2.0, quantile([]float64{3, 1, 2}, 0.5))
	require.Equal(t, 2.5, quantile([]float64{4, 3, 1, 2}, 0.5))
	require.Equal(t, 4.0, quantile([]float64{4, 3, 1, 2}, 0.99))
	require.Equal(t, 4.0, quantile([]float64{4, 3, 1, 2}, 1))
	require.Equal(t, never, quantile([]float64{1, 2, never, never, never}, 0.5))
}

// outcome is a made-up result with one value, or with samples.
func outcome(scenario, library string, seed uint64, key string, value float64, samples ...float64) Outcome {
	r := &Result{}
	if samples == nil {
		r.Values = map[string]float64{key: value}
	} else {
		r.Samples = map[string][]float64{key: samples}
	}
	r.Series = map[string][][2]float64{"wrong": {{0, 10}, {5, 3}, {9, 0}}}
	return Outcome{Scenario: scenario, Library: library, Seed: seed, Result: r}
}

func TestFiguresAreMedianAndWorstOfTheSums(t *testing.T) {
	outcomes := []Outcome{
		outcome("grid/a", LibraryOurs, 1, "fp", 1),
		outcome("grid/b", LibraryOurs, 1, "fp", 2),
		outcome("grid/a", LibraryOurs, 2, "fp", 10),
		outcome("grid/b", LibraryOurs, 2, "fp", 20),
		outcome("grid/a", LibraryTheirs, 1, "fp", 1000),
		outcome("gridlock", LibraryOurs, 1, "fp", 1000),
		outcome("kill", LibraryOurs, 1, "first", 0, 3, 4),
		outcome("kill", LibraryOurs, 2, "first", 0, 5, notReached),
		outcome("deaf", LibraryOurs, 2, "whole", notReached),
	}
	require.Equal(t, Figure{Median: 16.5, Worst: 30, Count: 2}, Row{Key: "fp"}.figure("grid/", LibraryOurs, outcomes))
	require.Equal(t, Figure{Median: 4.5, Count: 4, pooled: true}, Row{Key: "first", Quantile: 0.5}.figure("kill", LibraryOurs, outcomes))
	require.Equal(t, "never", Row{Key: "whole"}.figure("deaf", LibraryOurs, outcomes).String())
	outcomes[8].Result.Error = "broken"
	require.Equal(t, "", Row{Key: "whole"}.figure("deaf", LibraryOurs, outcomes).String())
}

func TestTargets(t *testing.T) {
	require.True(t, atMost(0).Reached(Figure{}, Figure{Median: 9}))
	require.False(t, atMost(3).Reached(Figure{Median: 3, Worst: 4}, Figure{}))
	require.True(t, ratioAtMost(0.05).Reached(Figure{Median: 5}, Figure{Median: 100}))
	require.False(t, ratioAtMost(0.05).Reached(Figure{Median: 5.1}, Figure{Median: 100}))
	require.False(t, Target{Median: 5, Worst: 30}.Reached(Figure{Median: 4, Worst: never}, Figure{}))
	require.Equal(t, "≤ 0", atMost(0).String())
	require.Equal(t, "", Target{}.String())
	require.Equal(t, "≤ 5, worst ≤ 30", Target{Median: 5, Worst: 30}.String())
}

func TestTableShowsBothSidesRatioAndVerdict(t *testing.T) {
	var text strings.Builder
	require.NoError(t, WriteTable(&text, []Outcome{
		outcome("lossy", LibraryTheirs, 1, "fp-healthy", 33),
		outcome("lossy", LibraryTheirs, 2, "fp-healthy", 91),
		outcome("lossy", LibraryOurs, 1, "fp-healthy", 2),
		outcome("deaf", LibraryTheirs, 1, "whole", notReached),
		outcome("deaf", LibraryOurs, 1, "whole", 4.25),
	}))
	lines := strings.Split(text.String(), "\n")
	require.Equal(t, "| what is done | figure | theirs | ours | ratio | target | |", lines[0])
	require.Equal(t, "| **one node loses 80 % of what it sends, 180 s, N=100** (2 seeds) | false deaths at healthy nodes | 62 (91) | 2 | 0.032 | ≤ 1 | **missed** |", lines[2])
	require.Equal(t, "| **one node hears nothing for 60 s, N=128** (1 seed) | until every view is whole | never | 4.25 s |  | ≤ 10 | reached |", lines[3])
}

func TestPlotsAreWellFormed(t *testing.T) {
	dir := t.TempDir()
	var outcomes []Outcome
	for _, library := range []string{LibraryTheirs, LibraryOurs, LibraryMixed, "variant"} {
		for _, s := range Scenarios() {
			for _, key := range []string{"fp", "whole", "bytes", "packets"} {
				outcomes = append(outcomes, outcome(s.Name, library, 1, key, 7))
			}
			outcomes = append(outcomes, outcome(s.Name, library, 1, "first", 0, 1, 2, 3), outcome(s.Name, library, 1, "all", 0, 1))
		}
	}
	names, err := WritePlots(dir, outcomes)
	require.NoError(t, err)
	require.Len(t, names, 7)
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		decoder := xml.NewDecoder(f)
		for err == nil {
			_, err = decoder.Token()
		}
		require.True(t, errors.Is(err, io.EOF), "%s: %v", name, err)
		require.NoError(t, f.Close())
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NotContains(t, string(text), "NaN")
		require.NotContains(t, string(text), "Inf")
	}
	names, err = WritePlots(dir, nil)
	require.NoError(t, err)
	require.Empty(t, names, "nothing measured, nothing plotted")
}

func TestSettingsReachNestedAndUnexportedFields(t *testing.T) {
	type parts struct{ alibi bool }
	config := struct {
		Every  time.Duration
		Mult   int
		inside struct{ parts parts }
	}{}
	require.NoError(t, applySettings(&config, []string{"Every=3s", "Mult=7", "inside.parts.alibi=true"}))
	require.Equal(t, 3*time.Second, config.Every)
	require.Equal(t, 7, config.Mult)
	require.True(t, config.inside.parts.alibi)
	require.ErrorContains(t, applySettings(&config, []string{"Nothing=1"}), "no field Nothing")
	require.ErrorContains(t, applySettings(&config, []string{"Mult"}), "Field=value")
	require.ErrorContains(t, applySettings(&config, []string{"Mult=x"}), "Mult=x")

	_, err := ParseVariant("ours:X=1")
	require.Error(t, err)
	v, err := ParseVariant("no healing:ReconnectInterval=0s,Seeds=")
	require.NoError(t, err)
	require.Equal(t, Variant{"no healing", []string{"ReconnectInterval=0s", "Seeds="}}, v)
}
