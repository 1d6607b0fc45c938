package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newTestRunner() *runner {
	return &runner{log: io.Discard, raw: io.Discard, samples: map[sampleKey][]float64{}}
}

func TestMedianOfWhatBenchmarksPrint(t *testing.T) {
	r := newTestRunner()
	for _, line := range []string{
		"BenchmarkPing-2   \t  100\t 900 ns/op\t 500.0 cpu-ns/op\t 64 heap-B/op\t 3 heap-allocs/op\n",
		"BenchmarkPing-2   \t  100\t 900 ns/op\t 900.0 cpu-ns/op\t 64 heap-B/op\t 5 heap-allocs/op\n",
		"BenchmarkPing-2   \t  100\t 100 ns/op\t 600.0 cpu-ns/op\t 64 heap-B/op\t 4 heap-allocs/op\n",
	} {
		require.NoError(t, r.keep(ours, "Ping", strings.NewReader(line)))
	}
	require.Equal(t, 600.0, r.median(ours, "Ping", cpu))
	require.Equal(t, 4.0, r.median(ours, "Ping", allocsUnit))
	require.True(t, math.IsNaN(r.median(theirs, "Ping", cpu)))
}

func TestRowIsReachedOnlyIfAllGoalsAre(t *testing.T) {
	base := result{row: row{unit: cpu, ratio: 0.1, allocs: 1}, theirs: 100, ours: 10, theirAllocs: 9, ourAllocs: 1}
	require.True(t, base.reached())
	slow := base
	slow.ours = 10.1
	require.False(t, slow.reached())
	wasteful := base
	wasteful.ourAllocs = 2
	require.False(t, wasteful.reached())
	missing := base
	missing.ours = math.NaN()
	require.False(t, missing.reached())

	require.True(t, result{row: row{atLeast: 100}, ours: 100}.reached())
	require.False(t, result{row: row{atLeast: 100}, ours: 99}.reached())
	require.False(t, result{row: row{atMost: 5}, ours: 6}.reached())
}

// Every benchmark that a row names must exist, at least as a function.
func TestRowsNameBenchmarksThatExist(t *testing.T) {
	var source strings.Builder
	for _, name := range []string{"gossip", "ping", "pushpull", "queue", "socket", "limit"} {
		text, err := os.ReadFile("../../" + name + "_test.go")
		require.NoError(t, err)
		source.Write(text)
	}
	for _, row := range rows {
		for _, bench := range []string{row.bench, row.limit} {
			if bench != "" {
				function, _, _ := strings.Cut(bench, "/")
				require.Contains(t, source.String(), "func Benchmark"+function+"(b *testing.B)")
			}
		}
	}
}

func TestPatternSelectsOneBenchmark(t *testing.T) {
	parts := strings.Split(exactly("GossipInOld/label+aes+lzw"), "/")
	require.Len(t, parts, 2)
	require.True(t, regexp.MustCompile(parts[0]).MatchString("BenchmarkGossipInOld"))
	require.False(t, regexp.MustCompile(parts[0]).MatchString("BenchmarkGossipInOlder"))
	require.True(t, regexp.MustCompile(parts[1]).MatchString("label+aes+lzw"))
}

func TestSelectRows(t *testing.T) {
	selected, err := selectRows(rows, "^Queue")
	require.NoError(t, err)
	require.Len(t, selected, 3)
	_, err = selectRows(rows, "no such thing")
	require.Error(t, err)
	_, err = selectRows(rows, "(")
	require.Error(t, err)
}

func TestFormats(t *testing.T) {
	require.Equal(t, "0.34 ns", formatValue(0.34, cpu))
	require.Equal(t, "4.8 µs", formatValue(4800, cpu))
	require.Equal(t, "338 ms", formatValue(338e6, "joining-cpu-ns"))
	require.Equal(t, "76.8 KiB", formatValue(76.8*1024, "heap-B/node"))
	require.Equal(t, "39k/s", formatValue(39_000, "arrived/s"))
	require.Equal(t, "", formatValue(math.NaN(), cpu))
	require.Equal(t, "0", formatCount(0.1))
	require.Equal(t, "1.5", formatCount(1.5))
	require.Equal(t, "36058", formatCount(36058))
}

func TestPageAndChart(t *testing.T) {
	r := newTestRunner()
	for _, row := range rows {
		for i, library := range []string{theirs, ours, limits} {
			k := sampleKey{library, row.bench, row.unit}
			if library == limits {
				k.bench = row.limit
			}
			r.samples[k] = []float64{1000 / float64(1+i*i*9)}
		}
	}
	var results []result
	for _, row := range rows {
		results = append(results, r.result(row))
	}
	var page, chart bytes.Buffer
	require.NoError(t, writeTable(&page, facts{date: time.Now(), failures: []string{"ours Ping: exit status 1"}}, results))
	for _, row := range rows {
		require.Contains(t, page.String(), "| "+row.work+" |")
	}
	require.Contains(t, page.String(), "A benchmark failed: ours Ping")
	require.NotContains(t, page.String(), "NaN")

	require.NoError(t, writeChart(&chart, results))
	require.NoError(t, xml.Unmarshal(chart.Bytes(), new(struct{})))
	require.NotContains(t, chart.String(), "NaN")
}
