package sim

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// The names of the clusters that are compared. Any other name is that of a
// [Variant] of ours.
const (
	LibraryTheirs = "theirs"
	LibraryOurs   = "ours"
	LibraryMixed  = "mixed" // every second node is ours
)

// Variant is our library with a changed configuration.
type Variant struct {
	Name     string   `json:"name"`
	Settings []string `json:"settings,omitempty"`
}

// ParseVariant reads "name:Field=value,Field=value".
func ParseVariant(text string) (Variant, error) {
	name, settings, found := strings.Cut(text, ":")
	if !found || name == "" || slices.Contains([]string{LibraryTheirs, LibraryOurs, LibraryMixed}, name) {
		return Variant{}, fmt.Errorf("variant %q is not of the form name:Field=value,…", text)
	}
	return Variant{name, strings.Split(settings, ",")}, nil
}

// Job is one execution to be made: a scenario, a library, a seed.
type Job struct {
	Scenario string  `json:"scenario"`
	Variant  Variant `json:"variant"`
	Seed     uint64  `json:"seed"`
	Quick    bool    `json:"quick"`
}

// Do executes the job inside a synctest bubble of its own. The log lines of all
// nodes go to log unless it is nil. Report is called with the outcome before
// the bubble is checked for goroutines left behind, which panics if there are.
func (j Job) Do(t *testing.T, log io.Writer, report func(Outcome)) {
	outcome := Outcome{Scenario: j.Scenario, Library: j.Variant.Name, Seed: j.Seed, Quick: j.Quick}
	i := slices.IndexFunc(Scenarios(), func(s *Scenario) bool { return s.Name == j.Scenario })
	if i < 0 {
		outcome.Result = &Result{Error: "no such scenario"}
		report(outcome)
		return
	}
	opts := ClusterOptions{Log: log}
	switch j.Variant.Name {
	case LibraryTheirs:
		opts.Library = Theirs{}
	case LibraryMixed:
		opts.Library, opts.Other = Theirs{}, Ours{j.Variant.Settings}
	default:
		opts.Library = Ours{j.Variant.Settings}
	}
	synctest.Test(t, func(*testing.T) {
		outcome.Result = Scenarios()[i].Execute(j.Seed, opts)
		report(outcome)
	})
}
