package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/seed-83836a96/memberlist/compare/sim"
)

const resultsFile = "detector-results.json"

// readOutcomes reads what a former run left, without what the jobs make anew.
func readOutcomes(o options, jobs []sim.Job) ([]sim.Outcome, error) {
	data, err := os.ReadFile(filepath.Join(o.out, resultsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var outcomes []sim.Outcome
	if err := json.Unmarshal(data, &outcomes); err != nil {
		return nil, fmt.Errorf("%s: %w", resultsFile, err)
	}
	for _, outcome := range outcomes {
		if outcome.Quick == o.full {
			return nil, fmt.Errorf("%s in %s is from the other of -quick and -full; give another -out", resultsFile, o.out)
		}
	}
	return slices.DeleteFunc(outcomes, func(outcome sim.Outcome) bool {
		return slices.ContainsFunc(jobs, func(j sim.Job) bool {
			return j.Scenario == outcome.Scenario && j.Variant.Name == outcome.Library && j.Seed == outcome.Seed
		})
	}), nil
}

func writeOutcomes(dir string, outcomes []sim.Outcome) error {
	var text strings.Builder
	text.WriteString("[\n")
	for i, outcome := range outcomes {
		line, err := json.Marshal(outcome)
		if err != nil {
			return err
		}
		text.Write(line)
		if i < len(outcomes)-1 {
			text.WriteString(",")
		}
		text.WriteString("\n")
	}
	text.WriteString("]\n")
	return os.WriteFile(filepath.Join(dir, resultsFile), []byte(text.String()), 0o666)
}

// sortOutcomes brings them into the order of the scenarios, libraries and seeds.
func sortOutcomes(outcomes []sim.Outcome) {
	order := map[string]int{}
	for i, s := range sim.Scenarios() {
		order[s.Name] = i
	}
	libraries := sim.Libraries(outcomes)
	slices.SortStableFunc(outcomes, func(a, b sim.Outcome) int {
		return cmp.Or(
			cmp.Compare(order[a.Scenario], order[b.Scenario]),
			cmp.Compare(slices.Index(libraries, a.Library), slices.Index(libraries, b.Library)),
			cmp.Compare(a.Seed, b.Seed))
	})
}

// writeTableFile writes the table with a note on how it was made.
func writeTableFile(name, command string, outcomes []sim.Outcome) error {
	var text strings.Builder
	text.WriteString(howMade(command, outcomes))
	text.WriteString("Theirs is github.com/hashicorp/memberlist v0.7.0; mixed is a cluster of which every second node is theirs. ")
	text.WriteString("Figures are medians over the seeds, with the worst behind in brackets, or quantiles of all samples; times are virtual.\n\n")
	if err := sim.WriteTable(&text, outcomes); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text.String()), 0o666)
}

// writePartsFiles writes what was found about the parts of the detector.
func writePartsFiles(o options, outcomes []sim.Outcome) error {
	if err := os.MkdirAll(o.out, 0o777); err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString(howMade(commandLine(o), outcomes))
	text.WriteString("Figures are medians over the seeds, with the worst behind in brackets; less is better everywhere.\n\n")
	if err := sim.WriteParts(&text, outcomes); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.out, "detector-parts.md"), []byte(text.String()), 0o666); err != nil {
		return err
	}
	return sim.WritePartsPlot(filepath.Join(o.out, "detector-parts.svg"), outcomes)
}

// howMade says by which command and seeds the figures came about.
func howMade(command string, outcomes []sim.Outcome) string {
	seeds := map[uint64]bool{}
	for _, outcome := range outcomes {
		seeds[outcome.Seed] = true
	}
	return fmt.Sprintf("Made by `%s`, seeds %s, with %s. ", command, strings.Trim(fmt.Sprint(slices.Sorted(maps.Keys(seeds))), "[]"), runtime.Version())
}
