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

// suite is one copy of the program.
type suite struct {
	module, dir string
	packages    []string // as import paths that begin with a dot
	tests       []test   // all that are to run
}

// build compiles the program, finds the packages whose tests depend on
// memberlist, and lists the tests that match the pattern. It may use the network,
// which the tests may not.
func (s *suite) build(ctx context.Context, o *settings) error {
	if _, err := output(ctx, s.dir, "go", slices.Concat([]string{"build", "-mod=mod"}, o.packages)...); err != nil {
		return err
	}
	const format = `{{if .ForTest}}{{.ForTest}} {{join .Deps " "}}{{end}}`
	all, err := output(ctx, s.dir, "go", slices.Concat([]string{"list", "-mod=mod", "-test", "-f", format}, o.packages)...)
	if err != nil {
		return err
	}
	found := make(map[string]bool)
	for line := range strings.Lines(all) {
		fields := strings.Fields(line)
		if len(fields) > 0 && slices.Contains(fields[1:], memberlistPath) {
			found[inside(s.module, fields[0])] = true
		}
	}
	s.packages = slices.Sorted(maps.Keys(found))
	if len(s.packages) == 0 {
		return errors.New("no package with tests depends on memberlist")
	}
	return s.list(ctx, o.test)
}

// inside turns the path of a package into one that begins with a dot, for the
// module.
func inside(module, path string) string { return "." + strings.TrimPrefix(path, module) }

// mustUse makes sure that memberlist is of this version, or replaced by this
// directory, whatever else the go.mod asks for.
func (s suite) mustUse(ctx context.Context, want string) error {
	const format = "{{with .Replace}}{{.Path}}{{else}}{{.Version}}{{end}}"
	got, err := output(ctx, s.dir, "go", "list", "-mod=mod", "-m", "-f", format, memberlistPath)
	if err == nil && got != want {
		err = fmt.Errorf("the program would run on memberlist %s, not %s", got, want)
	}
	return err
}

// list asks each package for its tests, so that one which never began is noticed.
func (s *suite) list(ctx context.Context, pattern string) error {
	pattern, _, _ = strings.Cut(pattern, "/") // what is behind it chooses subtests
	if pattern == "" {
		pattern = "."
	}
	for _, pkg := range s.packages {
		names, err := output(ctx, s.dir, "go", "test", "-mod=mod", "-list", pattern, pkg)
		if err != nil {
			return err
		}
		for name := range strings.FieldsSeq(names) {
			if strings.HasPrefix(name, "Test") {
				s.tests = append(s.tests, test{pkg, name})
			}
		}
	}
	if len(s.tests) == 0 {
		return fmt.Errorf("no test matches %q", pattern)
	}
	return nil
}

// test names one test.
type test struct{ pkg, name string }

func (t test) String() string { return t.pkg + " " + t.name }

// unstarted stands in place of a verdict on a test that never began.
const unstarted = "unstarted"

// result is one run of a suite.
type result struct {
	module  string
	action  map[test]string // pass, fail, skip or unstarted
	output  map[test]string // of failed tests
	retried []test          // passed only when run again, alone
	took    time.Duration
}

// run runs all tests, and then again what did not pass.
func (s suite) run(ctx context.Context, box sandbox, o settings) (*result, error) {
	start := time.Now()
	r := &result{module: s.module, action: make(map[test]string), output: make(map[test]string)}
	for _, t := range s.tests {
		r.action[t] = unstarted
	}
	if err := s.goTest(ctx, box, o, o.test, s.packages, r); err != nil {
		return nil, err
	}
	for range o.retries {
		if err := s.again(ctx, box, o, r); err != nil {
			return nil, err
		}
	}
	r.took = time.Since(start)
	return r, nil
}

// again runs the tests that never began, since the process died of another, and
// then each that failed, alone.
func (s suite) again(ctx context.Context, box sandbox, o settings, r *result) error {
	for _, pkg := range s.packages {
		var names []string
		for _, t := range r.with(unstarted) {
			if t.pkg == pkg {
				names = append(names, t.name)
			}
		}
		if len(names) == 0 {
			continue
		}
		if err := s.goTest(ctx, box, o, "^("+strings.Join(names, "|")+")$", []string{pkg}, r); err != nil {
			return err
		}
	}
	for _, t := range r.failed() {
		if strings.Contains(t.name, "/") {
			continue // runs again with the test that it is part of
		}
		if err := s.goTest(ctx, box, o, "^"+t.name+"$", []string{t.pkg}, r); err != nil {
			return err
		}
		if r.action[t] == "pass" {
			r.retried = append(r.retried, t)
		}
	}
	return nil
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

// read takes the lines of go test -json and returns how many verdicts it found. A
// test that began and has none has failed.
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
		t := test{inside(r.module, event.Package), event.Test}
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
	if n := len(r.with(unstarted)); n > 0 {
		text += fmt.Sprintf("; %d never began", n)
	}
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
	for _, t := range r.with(unstarted) {
		fmt.Fprintf(w, "never began on memberlist itself: %v\n", t)
	}
	for _, t := range r.with("skip") {
		fmt.Fprintf(w, "skipped: %v\n", t)
	}
}
