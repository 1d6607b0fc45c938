package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// suite is one copy of Serf.
type suite struct {
	dir      string
	packages []string
}

// build compiles everything, and finds the packages whose tests depend on
// memberlist. It may use the network, which the tests may not.
func (s *suite) build(ctx context.Context) error {
	if _, err := output(ctx, s.dir, "go", "build", "-mod=mod", "./..."); err != nil {
		return err
	}
	all, err := output(ctx, s.dir, "go", "list", "-mod=mod", "-test",
		"-f", `{{if .ForTest}}{{.ForTest}} {{join .Deps " "}}{{end}}`, "./...")
	if err != nil {
		return err
	}
	found := make(map[string]bool)
	for line := range strings.Lines(all) {
		fields := strings.Fields(line)
		if len(fields) > 0 && slices.ContainsFunc(fields[1:], isMemberlist) {
			found[fields[0]] = true
		}
	}
	s.packages = slices.Sorted(maps.Keys(found))
	if len(s.packages) == 0 {
		return errors.New("no package with tests depends on memberlist")
	}
	_, err = output(ctx, s.dir, "go", append([]string{"vet", "-mod=mod"}, s.packages...)...)
	return err
}

// short are the packages without the module path.
func (s suite) short() []string {
	var all []string
	for _, p := range s.packages {
		all = append(all, strings.TrimPrefix(p, serfPath+"/"))
	}
	return all
}

func isMemberlist(path string) bool {
	return path == memberlistPath || strings.HasPrefix(path, memberlistPath+" ")
}

// test names one test.
type test struct{ pkg, name string }

func (t test) String() string {
	return strings.TrimPrefix(t.pkg, serfPath+"/") + " " + t.name
}

// result is one run of a suite.
type result struct {
	action  map[test]string // pass, fail or skip
	output  map[test]string // of failed tests
	retried []test          // passed only when run again, alone
	took    time.Duration
}

// run runs all tests, and those that fail once more alone.
func (s suite) run(ctx context.Context, box sandbox, o settings) (*result, error) {
	start := time.Now()
	r := &result{action: make(map[test]string), output: make(map[test]string)}
	if err := s.goTest(ctx, box, o, o.test, s.packages, r); err != nil {
		return nil, err
	}
	for range o.retries {
		for _, t := range r.failed() {
			if strings.Contains(t.name, "/") {
				continue // runs again with the test that it is part of
			}
			if err := s.goTest(ctx, box, o, "^"+t.name+"$", []string{t.pkg}, r); err != nil {
				return nil, err
			}
			if r.action[t] == "pass" {
				r.retried = append(r.retried, t)
			}
		}
	}
	r.took = time.Since(start)
	return r, nil
}

// goTest runs go test and adds what it reports to r.
func (s suite) goTest(ctx context.Context, box sandbox, o settings, pattern string, packages []string, r *result) error {
	args := []string{"go", "test", "-mod=mod", "-json", "-count=1", "-p=1", "-timeout=10m"}
	if o.race {
		args = append(args, "-race")
	}
	if pattern != "" {
		args = append(args, "-run", pattern)
	}
	args = slices.Concat(box, args, packages)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output() // a failed test is an error too; what counts is the report
	if bytes.Contains(out, []byte(`"Action":"build-fail"`)) || r.read(bytes.NewReader(out)) == 0 {
		return fmt.Errorf("the tests do not run: %w\n%s%s", err, out, stderr.Bytes())
	}
	return ctx.Err()
}

// read takes the lines of go test -json and returns how many verdicts it found.
// A package that does not end in a verdict about each of its tests counts as a
// failed test without name.
func (r *result) read(report io.Reader) int {
	verdicts := 0
	lines := bufio.NewScanner(report)
	lines.Buffer(nil, 16<<20)
	text := make(map[test]*strings.Builder)
	for lines.Scan() {
		var event struct{ Action, Package, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			continue
		}
		t := test{event.Package, event.Test}
		switch event.Action {
		case "run":
			r.action[t] = "fail" // until it says otherwise
		case "output":
			if text[t] == nil {
				text[t] = new(strings.Builder)
			}
			text[t].WriteString(event.Output)
		case "pass", "fail", "skip":
			verdicts++
			if t.name != "" {
				r.action[t] = event.Action
			}
		}
		if event.Action == "fail" && text[t] != nil {
			r.output[t] = text[t].String()
		}
	}
	return verdicts
}

func (r *result) with(action string) []test {
	var all []test
	for t, a := range r.action {
		if a == action {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b test) int { return strings.Compare(a.String(), b.String()) })
	return all
}

func (r *result) failed() []test { return r.with("fail") }

func (r *result) summary() string {
	text := fmt.Sprintf("%d passed, %d failed, %d skipped in %v",
		len(r.with("pass")), len(r.failed()), len(r.with("skip")), r.took.Round(time.Second))
	if len(r.retried) > 0 {
		text += fmt.Sprintf("; passed only alone: %v", r.retried)
	}
	return text
}

// keptBy reports whether every test that passed in r also passed in got, and
// prints those that did not.
func (r *result) keptBy(got *result, w io.Writer) bool {
	same := true
	for _, t := range r.with("pass") {
		if got.action[t] == "pass" {
			continue
		}
		same = false
		action := got.action[t]
		if action == "" {
			action = "missing"
		}
		fmt.Fprintf(w, "LOST %v: %s\n%s", t, action, got.output[t])
	}
	return same
}

// listOthers names the tests that do not pass in r, so that nobody wonders.
func (r *result) listOthers(w io.Writer) {
	for _, t := range r.failed() {
		fmt.Fprintf(w, "fails on memberlist itself: %v\n", t)
	}
	for _, t := range r.with("skip") {
		fmt.Fprintf(w, "skipped: %v\n", t)
	}
}
