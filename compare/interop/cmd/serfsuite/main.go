// Serfsuite runs the test suite of github.com/hashicorp/serf on this
// repository's library and compares it, test by test, with a run on
// github.com/hashicorp/memberlist itself:
//
//	go run ./interop/cmd/serfsuite
//
// It takes Serf from the module cache (fetched with go mod download), copies it
// twice to a temporary directory, puts a replace directive into one copy, and
// runs the packages that depend on memberlist: once as they are, then -runs
// times on the checkout. The tests run in a network namespace of their own, with
// nothing but a loopback interface, where the system allows it.
//
// The exit status is 0 if every test that passes on memberlist passes on the
// checkout, in each run. A test that fails in a run is tried again alone, -retries
// times, since some of Serf's tests depend on timing; tests that needed it are
// named. Tests that never began, since another one ended the process, are run then
// too: neither side loses a test unseen.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"
)

type settings struct {
	serf, memberlist string // module versions
	checkout         string
	dir, doc         string
	runs, retries    int
	test             string // for -run
	race             bool
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("serfsuite: ")
	var s settings
	flag.StringVar(&s.serf, "serf", "v0.11.0", "`version` of github.com/hashicorp/serf")
	flag.StringVar(&s.checkout, "checkout", "", "`directory` of the library (default: what the current module replaces it by)")
	flag.StringVar(&s.dir, "dir", "", "working `directory`, which is kept (default: a temporary one)")
	flag.IntVar(&s.runs, "runs", 2, "how often to run on the checkout")
	flag.IntVar(&s.retries, "retries", 2, "how often to try a failed test again, alone, on either library")
	flag.StringVar(&s.doc, "doc", "", "`file` with two marker lines between which the result is written")
	flag.StringVar(&s.test, "run", "", "run only tests that match this `pattern`")
	flag.BoolVar(&s.race, "race", false, "build with the race detector")
	flag.Parse()
	if flag.NArg() > 0 || s.runs < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	same, err := compare(ctx, s)
	if err != nil {
		log.Fatal(err)
	}
	if !same {
		os.Exit(1)
	}
}

// compare does all the work. It reports whether nothing got lost.
func compare(ctx context.Context, s settings) (bool, error) {
	work, cleanup, err := prepare(ctx, &s)
	if err != nil {
		return false, err
	}
	defer cleanup()
	var told strings.Builder
	out := io.MultiWriter(os.Stdout, &told)
	fmt.Fprintf(out, "Serf %s, memberlist %s, packages %s\n", s.serf, s.memberlist, strings.Join(work.theirs.short(), " "))
	fmt.Fprintf(out, "network: %s\n", work.sandbox)

	base, err := work.theirs.run(ctx, work.sandbox, s)
	if err != nil {
		return false, err
	}
	fmt.Fprintf(out, "on memberlist %s: %s\n", s.memberlist, base.summary())
	same := true
	for i := range s.runs {
		got, err := work.ours.run(ctx, work.sandbox, s)
		if err != nil {
			return false, err
		}
		fmt.Fprintf(out, "on this library, run %d of %d: %s\n", i+1, s.runs, got.summary())
		same = base.keptBy(got, out) && same
	}
	base.listOthers(out)
	if s.doc != "" && same {
		err = writeDoc(s.doc, told.String())
	}
	return same, err
}

// The result is written between these lines of the document.
const (
	docBegin = "<!-- begin serfsuite -->"
	docEnd   = "<!-- end serfsuite -->"
)

// writeDoc puts the result into a document.
func writeDoc(file, result string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(text), docBegin)
	_, tail, ok2 := strings.Cut(rest, docEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no lines %q and %q", file, docBegin, docEnd)
	}
	body := fmt.Sprintf("%s\n```\n%s%s\n```\n%s", docBegin, result, time.Now().Format(time.DateOnly), docEnd)
	return os.WriteFile(file, []byte(head+body+tail), 0o644)
}
