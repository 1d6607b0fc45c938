package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
)

const benchPackage = "github.com/seed-83836a96/memberlist/compare/bench"

// runner has the two test binaries and collects what they measure.
type runner struct {
	dir      string // for the binaries
	log      io.Writer
	raw      io.Writer // gets the benchmarks' own output
	time     string    // -benchtime
	samples  map[sampleKey][]float64
	failures []string
}

type sampleKey struct{ library, bench, unit string }

// A library's binary is named after it.
const (
	theirs = "reference"
	ours   = "ours"
	limits = "limit" // the reference's binary, since limits are of no library
)

func (r *runner) build(ctx context.Context) error {
	for library, tags := range map[string]string{theirs: "", ours: "ours"} {
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-tags", tags, "-o", r.binary(library), benchPackage)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building the benchmarks for %s: %w\n%s", library, err, out)
		}
	}
	return nil
}

func (r *runner) binary(library string) string {
	if library == limits {
		library = theirs
	}
	return filepath.Join(r.dir, library+".test")
}

// measure runs one benchmark once and keeps its figures. A benchmark that fails
// is noted, and the others go on.
func (r *runner) measure(ctx context.Context, library, bench, benchtime string, extra ...string) error {
	args := []string{"-test.run=^$", "-test.timeout=5m", "-test.bench=" + exactly(bench), "-test.benchtime=" + benchtime}
	args = append(args, extra...)
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, r.binary(library), args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.failures = append(r.failures, fmt.Sprintf("%s %s: %v", library, bench, err))
		fmt.Fprintf(r.log, "%s %s failed: %v\n%s", library, bench, err, out.Bytes())
		return nil
	}
	fmt.Fprintf(r.log, "%-9s %-30s %5.1f s\n", library, bench, time.Since(start).Seconds())
	fmt.Fprintf(r.raw, "library: %s\n%s", library, out.Bytes())
	return r.keep(library, bench, &out)
}

// exactly makes the pattern that selects one benchmark. Parts are matched one by
// one between slashes.
func exactly(bench string) string {
	parts := strings.Split("Benchmark"+bench, "/")
	for i, p := range parts {
		parts[i] = "^" + strings.ReplaceAll(p, "+", "[+]") + "$"
	}
	return strings.Join(parts, "/")
}

// keep reads the output of a benchmark.
func (r *runner) keep(library, bench string, out io.Reader) error {
	results := benchfmt.NewReader(out, library)
	for results.Scan() {
		res, ok := results.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		for _, v := range res.Values {
			value, unit := v.Value, v.Unit
			if v.OrigUnit != "" { // benchfmt turns ns into s and the like
				value, unit = v.OrigValue, v.OrigUnit
			}
			k := sampleKey{library, bench, unit}
			r.samples[k] = append(r.samples[k], value)
		}
	}
	return results.Err()
}

// median of what was measured; NaN if nothing was.
func (r *runner) median(library, bench, unit string) float64 {
	values := r.samples[sampleKey{library, bench, unit}]
	if len(values) == 0 {
		return math.NaN()
	}
	sample := benchmath.NewSample(append([]float64(nil), values...), &benchmath.DefaultThresholds)
	return benchmath.AssumeNothing.Summary(sample, 0.95).Center
}

// result puts together what belongs to a row.
func (r *runner) result(row row) result {
	return result{
		row:         row,
		theirs:      r.median(theirs, row.bench, row.unit),
		ours:        r.median(ours, row.bench, row.unit),
		limitValue:  r.median(limits, row.limit, row.unit),
		theirAllocs: r.allocs(theirs, row),
		ourAllocs:   r.allocs(ours, row),
	}
}

// allocs means something only beside a time per operation.
func (r *runner) allocs(library string, row row) float64 {
	if row.unit != cpu {
		return math.NaN()
	}
	return r.median(library, row.bench, allocsUnit)
}

// round measures everything once, the two libraries side by side. Which one
// comes first changes from round to round.
func (r *runner) round(ctx context.Context, n int, rows []row, quick bool) error {
	order := []string{theirs, ours}
	if n%2 == 1 {
		order = []string{ours, theirs}
	}
	seen := map[string]bool{}
	once := func(library, bench string, row row) error {
		if bench == "" || seen[library+bench] {
			return nil
		}
		seen[library+bench] = true
		benchtime := r.time
		if row.time != "" {
			benchtime = row.time
		}
		return r.measure(ctx, library, bench, benchtime)
	}
	for _, row := range rows {
		if quick && row.slow && n > 0 {
			continue
		}
		for _, library := range order {
			if err := once(library, row.bench, row); err != nil {
				return err
			}
		}
		if err := once(limits, row.limit, row); err != nil {
			return err
		}
	}
	return nil
}

// profile leaves profiles of this library's benchmarks in a directory: one run
// for the processor time and one for the allocations, since recording these
// would show in the time.
func (r *runner) profile(ctx context.Context, dir string, rows []row) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, row := range rows {
		if seen[row.bench] {
			continue
		}
		seen[row.bench] = true
		benchtime := r.time
		if row.time != "" {
			benchtime = row.time
		}
		base := filepath.Join(dir, strings.NewReplacer("/", "-", "+", "-").Replace(row.bench))
		if err := r.measure(ctx, ours, row.bench, benchtime, "-test.cpuprofile="+base+".cpu.pprof"); err != nil {
			return err
		}
		if err := r.measure(ctx, ours, row.bench, benchtime, "-test.memprofile="+base+".mem.pprof", "-test.memprofilerate=512"); err != nil {
			return err
		}
	}
	return nil
}
