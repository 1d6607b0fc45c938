// Report runs the benchmarks of compare/bench for this library and for
// hashicorp/memberlist, turn about, and puts the figures side by side.
//
//	go run ./bench/cmd/report -quick                      all, roughly, in some minutes
//	go run ./bench/cmd/report -full -out ../docs          all, thoroughly; page and chart
//	go run ./bench/cmd/report -run 'Queue' -rounds 5      only those whose name matches
//	go run ./bench/cmd/report -run 'PingIn' -profile dir  leaves profiles of this library
//
// It is to be started in the module compare/. Without -out the page goes to the
// standard output. The machine should have nothing else to do.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

type options struct {
	quick, full bool
	rounds      int
	time        string
	run         string
	out         string
	raw         string
	profile     string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("report: ")
	var o options
	flag.BoolVar(&o.quick, "quick", false, "three short rounds (the default)")
	flag.BoolVar(&o.full, "full", false, "seven longer rounds")
	flag.IntVar(&o.rounds, "rounds", 0, "number of rounds, instead of the mode's")
	flag.StringVar(&o.time, "benchtime", "", "time for a benchmark in a round, instead of the mode's")
	flag.StringVar(&o.run, "run", "", "only rows of which the benchmark or the description matches this `regexp`")
	flag.StringVar(&o.out, "out", "", "`directory` for performance.md and performance.svg")
	flag.StringVar(&o.raw, "raw", "", "`file` for the benchmarks' own output, as benchstat reads it")
	flag.StringVar(&o.profile, "profile", "", "instead of comparing, leave profiles of this library in `directory`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := report(ctx, o); err != nil {
		log.Fatal(err)
	}
}

// settle fills in what the mode decides.
func (o *options) settle() error {
	if o.quick && o.full {
		return fmt.Errorf("-quick and -full exclude each other")
	}
	rounds, benchtime := 3, "100ms"
	if o.full {
		rounds, benchtime = 7, "500ms"
	}
	if o.rounds <= 0 {
		o.rounds = rounds
	}
	if o.time == "" {
		o.time = benchtime
	}
	return nil
}

func report(ctx context.Context, o options) error {
	if err := o.settle(); err != nil {
		return err
	}
	selected, err := selectRows(rows, o.run)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &runner{dir: dir, log: os.Stderr, raw: io.Discard, time: o.time, samples: map[sampleKey][]float64{}}
	if err := r.build(ctx); err != nil {
		return err
	}
	if o.profile != "" {
		return r.profile(ctx, o.profile, selected)
	}
	if o.raw != "" {
		f, err := os.Create(o.raw)
		if err != nil {
			return err
		}
		defer f.Close()
		r.raw = f
	}
	for n := range o.rounds {
		fmt.Fprintf(r.log, "round %d of %d\n", n+1, o.rounds)
		if err := r.round(ctx, n, selected, !o.full); err != nil {
			return err
		}
	}
	return write(ctx, o, r, selected)
}

// selectRows picks the rows that match.
func selectRows(all []row, pattern string) ([]row, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	var selected []row
	for _, r := range all {
		if re.MatchString(r.bench) || re.MatchString(r.work) {
			selected = append(selected, r)
		}
	}
	if len(selected) == 0 {
		return nil, fmt.Errorf("nothing matches %q", pattern)
	}
	return selected, nil
}

func write(ctx context.Context, o options, r *runner, selected []row) error {
	results := make([]result, len(selected))
	for i, row := range selected {
		results[i] = r.result(row)
	}
	f := gatherFacts(ctx, o)
	f.failures = r.failures
	if o.out == "" {
		return writeTable(os.Stdout, f, results)
	}
	if err := writeFile(filepath.Join(o.out, "performance.md"), func(w io.Writer) error {
		return writeTable(w, f, results)
	}); err != nil {
		return err
	}
	return writeFile(filepath.Join(o.out, "performance.svg"), func(w io.Writer) error {
		return writeChart(w, results)
	})
}

func writeFile(name string, content func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := content(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func gatherFacts(ctx context.Context, o options) facts {
	f := facts{
		date:      time.Now(),
		machine:   fmt.Sprintf("%s, %d cores, %s/%s", cpuModel(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH),
		goVersion: strings.TrimPrefix(runtime.Version(), "go"),
		theirs:    "github.com/hashicorp/memberlist " + output(ctx, "go", "list", "-m", "-f", "{{.Version}}", "github.com/hashicorp/memberlist"),
		ours:      "commit " + output(ctx, "git", "describe", "--always", "--dirty"),
		rounds:    o.rounds,
		benchtime: o.time,
		mode:      "quick: the slow rows once",
	}
	if o.full {
		f.mode = "full"
	}
	return f
}

// output of a command, or a word that there is none.
func output(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}
