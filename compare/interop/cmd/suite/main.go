// Suite runs the test suite of a program that embeds
// github.com/hashicorp/memberlist on this repository's library and compares it,
// test by test, with a run on memberlist v0.7.0 itself:
//
//	go run ./interop/cmd/suite
//	go run ./interop/cmd/suite -module github.com/prometheus/alertmanager@v0.35.0 -packages ./cluster
//
// It has the go command fetch the module, copies it twice to a temporary
// directory, requires memberlist v0.7.0 and what -get names in both copies, puts a
// replace directive into one, and runs the packages that depend on memberlist: once
// as they are, then -runs times on the checkout. The tests run in a network
// namespace of their own, with nothing but a loopback interface, where the system
// allows it.
//
// The exit status is 0 if every test that passes on memberlist passes on the
// checkout, in each run. A test that fails in a run is tried again alone, -retries
// times, since some tests depend on timing; tests that needed it are named. Tests
// that never began, since another one ended the process, are run then too: neither
// side loses a test unseen.
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
	module, version string
	packages        []string // patterns
	get             []string // further modules, with versions
	checkout        string
	dir, doc        string
	runs, retries   int
	test            string // for -run
	race            bool
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("suite: ")
	var s settings
	module := flag.String("module", "github.com/hashicorp/serf@v0.11.0", "the program, as `path@version`")
	packages := flag.String("packages", "./...", "`patterns` of packages; those that depend on memberlist are run")
	get := flag.String("get", "", "further `modules`, as path@version, that the program shall use")
	flag.StringVar(&s.checkout, "checkout", "", "`directory` of the library (default: what the current module replaces it by)")
	flag.StringVar(&s.dir, "dir", "", "working `directory`, which is kept (default: a temporary one)")
	flag.IntVar(&s.runs, "runs", 2, "how often to run on the checkout")
	flag.IntVar(&s.retries, "retries", 2, "how often to try a failed test again, alone, on either library")
	flag.StringVar(&s.doc, "doc", "", "`file` with two marker lines for the module, between which the result is written")
	flag.StringVar(&s.test, "run", "", "run only tests that match this `pattern`")
	flag.BoolVar(&s.race, "race", false, "build with the race detector")
	flag.Parse()
	s.module, s.version, _ = strings.Cut(*module, "@")
	s.packages, s.get = strings.Fields(*packages), strings.Fields(*get)
	if flag.NArg() > 0 || s.runs < 1 || s.version == "" {
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
	fmt.Fprintf(out, "%s@%s, packages %s\n", s.module, s.version, strings.Join(work.theirs.packages, " "))
	if len(s.get) > 0 {
		fmt.Fprintf(out, "on either library with %s\n", strings.Join(s.get, " "))
	}
	fmt.Fprintf(out, "network: %s\n", work.sandbox)

	base, err := work.theirs.run(ctx, work.sandbox, s)
	if err != nil {
		return false, err
	}
	fmt.Fprintf(out, "on memberlist %s: %s\n", memberlistVersion, base.summary())
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
		err = writeDoc(s.doc, s.module, told.String())
	}
	return same, err
}

// writeDoc puts the result into a document, between the lines for the module.
func writeDoc(file, module, result string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin := fmt.Sprintf("<!-- begin %s -->", module)
	end := fmt.Sprintf("<!-- end %s -->", module)
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no lines %q and %q", file, begin, end)
	}
	body := fmt.Sprintf("%s\n```\n%s%s\n```\n%s", begin, result, time.Now().Format(time.DateOnly), end)
	return os.WriteFile(file, []byte(head+body+tail), 0o644)
}
