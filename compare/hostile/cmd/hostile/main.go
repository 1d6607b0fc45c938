// Command hostile runs the cases of package hostile for both libraries, turn
// about, and writes what they gave.
//
//	go run ./hostile/cmd/hostile -out ../docs           all cases; hostile.md
//	go run ./hostile/cmd/hostile -run 'ping' -rounds 1  those whose name matches
//
// It is to be started in the module compare/. Without -out the page goes to the
// standard output. It fails if this library exceeds a limit.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/seed-83836a96/memberlist/compare/hostile"
)

type options struct {
	run    *regexp.Regexp
	rounds int
	quick  bool
	out    string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("hostile: ")
	pattern := flag.String("run", "", "only cases whose name matches this `regexp`")
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "how often each is repeated")
	flag.BoolVar(&o.quick, "quick", false, "little input, as in the tests")
	flag.StringVar(&o.out, "out", "", "`directory` for hostile.md")
	flag.Parse()
	o.run = regexp.MustCompile(*pattern)
	// A bubble of virtual time needs a *testing.T, and testing.Main is the way to one
	// outside of go test. It does not return.
	act := func(t *testing.T) {
		if err := measure(t, o); err != nil {
			t.Fatal(err)
		}
	}
	testing.Main(func(string, string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "hostile", F: act}}, nil, nil)
}

// measure runs the cases and writes the page.
func measure(t *testing.T, o options) error {
	var results []hostile.Result
	exceeded := 0
	for _, c := range hostile.Cases() {
		if !o.run.MatchString(c.Name) {
			continue
		}
		r := compare(t, c, o)
		if err := c.Check(r.Ours); err != nil {
			log.Print(err)
			exceeded++
		}
		results = append(results, r)
	}
	if err := write(o, results); err != nil {
		return err
	}
	if exceeded > 0 {
		return fmt.Errorf("%d limits were exceeded", exceeded)
	}
	return nil
}

// compare runs a case with both libraries, turn about. What had to be stopped takes
// long, and is not repeated.
func compare(t *testing.T, c *hostile.Case, o options) hostile.Result {
	var theirs, ours []hostile.Outcome
	for round := range o.rounds {
		start := time.Now()
		theirs = append(theirs, c.Run(t, hostile.Theirs{}, o.quick))
		between := time.Now()
		ours = append(ours, c.Run(t, hostile.Ours{}, o.quick))
		log.Printf("%-24s round %d: %5.1f s and %5.1f s", c.Name, round+1, between.Sub(start).Seconds(), time.Since(between).Seconds())
		debug.FreeOSMemory()
		if theirs[round].Stopped {
			break
		}
	}
	return hostile.Result{Case: c, Theirs: hostile.Median(theirs), Ours: hostile.Median(ours)}
}

func write(o options, results []hostile.Result) error {
	var w io.Writer = os.Stdout
	if o.out != "" {
		f, err := os.Create(filepath.Join(o.out, "hostile.md"))
		if err != nil {
			return err
		}
		defer f.Close()
		w = f
	}
	return hostile.Write(w, gatherFacts(o), results)
}

func gatherFacts(o options) hostile.Facts {
	return hostile.Facts{
		Date:    time.Now().Format(time.DateOnly),
		Machine: fmt.Sprintf("%s, %d cores, %s/%s", cpuModel(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH),
		Go:      strings.TrimPrefix(runtime.Version(), "go"),
		Theirs:  version("github.com/hashicorp/memberlist"),
		Rounds:  o.rounds,
	}
}

// version of a module that this program is made of.
func version(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "of unknown version"
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
