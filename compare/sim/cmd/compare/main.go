// Command compare runs the experiments of package sim for both libraries and
// writes the table, the plots and all figures.
//
//	go run ./sim/cmd/compare -quick -out ../docs
//
// The work is done by worker processes, one for each processor: copies of this
// program, in which a bubble of virtual time has a processor for itself.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/seed-83836a96/memberlist/compare/sim"
)

// options are the command line.
type options struct {
	full     bool
	run      string
	seeds    int
	first    uint64
	only     string
	variants []sim.Variant
	out      string
	workers  int
	limit    time.Duration
	log      string
	list     bool
	parts    bool
	worker   bool
}

func main() {
	o := parseFlags()
	switch {
	case o.worker:
		work(o.log)
		return
	case o.list:
		listScenarios()
		return
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func parseFlags() options {
	var o options
	quick := flag.Bool("quick", false, "the quick grid, under ten minutes on two idle cores")
	flag.BoolVar(&o.full, "full", false, "the whole grid with more seeds, some hours (this is what happens without -quick)")
	flag.StringVar(&o.run, "run", "", "only scenarios whose name matches this regular `expression`; what -out already holds of other runs is kept")
	flag.IntVar(&o.seeds, "seeds", 0, "`number` of seeds (2 with -quick, 5 with -full)")
	flag.Uint64Var(&o.first, "first-seed", 1, "the first seed")
	flag.StringVar(&o.only, "only", "", "only these, with commas between: theirs, ours, mixed, or the name of a variant")
	flag.Func("variant", "also run ours with a changed configuration, as `name:Field=value,…`; can be repeated", func(text string) error {
		v, err := sim.ParseVariant(text)
		o.variants = append(o.variants, v)
		return err
	})
	flag.StringVar(&o.out, "out", "", "`directory` for detector-table.md, detector-results.json and detector-*.svg; without it only the table is printed")
	flag.IntVar(&o.workers, "workers", runtime.NumCPU(), "`number` of processes")
	flag.DurationVar(&o.limit, "limit", 20*time.Minute, "a single execution may take this `time`")
	flag.StringVar(&o.log, "log", "", "append the log lines of all nodes to this `file`; makes sense for a single scenario and seed")
	flag.BoolVar(&o.list, "list", false, "list the scenarios and stop")
	flag.BoolVar(&o.parts, "parts", false, "measure what each part of our detector is worth, alone and switched off; -out gets detector-parts.md and detector-parts.svg")
	flag.BoolVar(&o.worker, "worker", false, "be a worker process (internal)")
	flag.Parse()
	if *quick && o.full || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if o.parts {
		*quick = true
		o.run = cmp.Or(o.run, sim.PartScenarios())
		o.variants = append(sim.PartVariants(), o.variants...)
	}
	o.full = !*quick
	if o.seeds == 0 {
		o.seeds = 2
		if o.full {
			o.seeds = 5
		}
	}
	return o
}

func run(o options) error {
	jobs, err := plan(o)
	if err != nil {
		return err
	}
	if o.parts {
		return runParts(o, jobs)
	}
	var kept []sim.Outcome
	if o.out != "" && (o.run+o.only != "" || o.first != 1) {
		if kept, err = readOutcomes(o, jobs); err != nil {
			return err
		}
	}
	started := time.Now()
	outcomes := append(kept, execute(o, jobs)...)
	sortOutcomes(outcomes)
	if err := sim.WriteTable(os.Stdout, outcomes); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d runs in %s\n", len(jobs), time.Since(started).Round(time.Second))
	if o.out != "" {
		if err := writeAll(o, outcomes); err != nil {
			return err
		}
	}
	if failed := sim.WriteErrors(os.Stderr, outcomes); failed > 0 {
		return fmt.Errorf("%d runs failed", failed)
	}
	return nil
}

func listScenarios() {
	for _, s := range sim.Scenarios() {
		fmt.Printf("%-24s N=%-4d %s\n", s.Name, s.Size, s.Title)
	}
}

// runParts measures the parts of the detector.
func runParts(o options, jobs []sim.Job) error {
	outcomes := execute(o, jobs)
	sortOutcomes(outcomes)
	if err := sim.WriteParts(os.Stdout, outcomes); err != nil {
		return err
	}
	if o.out != "" {
		if err := writePartsFiles(o, outcomes); err != nil {
			return err
		}
	}
	if failed := sim.WriteErrors(os.Stderr, outcomes); failed > 0 {
		return fmt.Errorf("%d runs failed", failed)
	}
	return nil
}

// plan lists the jobs, large clusters first so that the workers end together.
func plan(o options) ([]sim.Job, error) {
	match, err := regexp.Compile(o.run)
	if err != nil {
		return nil, err
	}
	variants := append([]sim.Variant{{Name: sim.LibraryTheirs}, {Name: sim.LibraryOurs}, {Name: sim.LibraryMixed}}, o.variants...)
	var jobs []sim.Job
	scenarios := slices.Clone(sim.Scenarios())
	slices.SortStableFunc(scenarios, func(a, b *sim.Scenario) int { return b.Size - a.Size })
	for _, s := range scenarios {
		if !match.MatchString(s.Name) || s.FullOnly && !o.full {
			continue
		}
		for seed := range uint64(o.seeds) {
			for _, v := range variants {
				if v.Name == sim.LibraryMixed && (!s.Mixed || o.parts) || !wanted(o.only, v.Name) {
					continue
				}
				jobs = append(jobs, sim.Job{Scenario: s.Name, Variant: v, Seed: o.first + seed, Quick: !o.full})
			}
		}
	}
	if len(jobs) == 0 {
		return nil, fmt.Errorf("nothing to run: no scenario matches %q for %q", o.run, o.only)
	}
	return jobs, nil
}

func wanted(only, name string) bool {
	return only == "" || slices.Contains(strings.Split(only, ","), name)
}

// commandLine is how the results were made, for the note above the table.
func commandLine(o options) string {
	command := "go run ./sim/cmd/compare"
	switch {
	case o.parts:
		command += " -parts"
	case o.full:
		command += " -full"
	default:
		command += " -quick"
	}
	return fmt.Sprintf("%s -seeds %d", command, o.seeds)
}

// writeAll writes the table, the figures and the plots.
func writeAll(o options, outcomes []sim.Outcome) error {
	if err := os.MkdirAll(o.out, 0o777); err != nil {
		return err
	}
	if err := writeOutcomes(o.out, outcomes); err != nil {
		return err
	}
	if err := writeTableFile(filepath.Join(o.out, "detector-table.md"), commandLine(o), outcomes); err != nil {
		return err
	}
	_, err := sim.WritePlots(o.out, outcomes)
	return err
}
