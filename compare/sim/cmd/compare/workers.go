package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-83836a96/memberlist/compare/sim"
)

// execute has the workers do the jobs and shows how far they are.
func execute(o options, jobs []sim.Job) []sim.Outcome {
	todo := make(chan sim.Job)
	go func() {
		defer close(todo)
		for _, job := range jobs {
			todo <- job
		}
	}()
	var (
		mu       sync.Mutex
		outcomes []sim.Outcome
		workers  sync.WaitGroup
	)
	for range max(1, o.workers) {
		workers.Go(func() {
			w := &worker{options: o}
			defer w.stop()
			for job := range todo {
				outcome := w.do(job)
				mu.Lock()
				outcomes = append(outcomes, outcome)
				fmt.Fprintf(os.Stderr, "%4d/%d %-22s %-7s seed %d: %4.0f s of virtual time in %.1f s%s\n", len(outcomes), len(jobs),
					job.Scenario, job.Variant.Name, job.Seed, outcome.Result.Virtual, outcome.Result.CPU, failedMark(outcome))
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return outcomes
}

func failedMark(o sim.Outcome) string {
	if o.Result.Error != "" {
		return " FAILED"
	}
	return ""
}

// worker is a child process that does jobs one after the other. One that dies
// takes only its job with it: the next job gets a new process.
type worker struct {
	options options
	process *exec.Cmd
	jobs    io.WriteCloser
	results *bufio.Reader
	stderr  *bytes.Buffer
}

func (w *worker) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	w.process = exec.Command(self, "-worker", "-log", w.options.log)
	// Virtual time moves on when nobody can run, which one processor notices
	// quickest; memory is there, and collecting it would be most of the work.
	w.process.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=400")
	w.stderr = &bytes.Buffer{}
	w.process.Stderr = w.stderr
	if w.jobs, err = w.process.StdinPipe(); err != nil {
		return err
	}
	results, err := w.process.StdoutPipe()
	if err != nil {
		return err
	}
	w.results = bufio.NewReader(results)
	return w.process.Start()
}

func (w *worker) stop() {
	if w.process == nil {
		return
	}
	w.jobs.Close()
	w.process.Wait()
	w.process = nil
}

func (w *worker) do(job sim.Job) sim.Outcome {
	outcome := sim.Outcome{Scenario: job.Scenario, Library: job.Variant.Name, Seed: job.Seed, Quick: job.Quick}
	if err := w.try(job, &outcome); err != nil {
		outcome.Result = &sim.Result{Error: err.Error()}
	}
	return outcome
}

func (w *worker) try(job sim.Job, outcome *sim.Outcome) error {
	if w.process == nil {
		if err := w.start(); err != nil {
			return err
		}
	}
	process := w.process.Process
	timer := time.AfterFunc(w.options.limit, func() { process.Kill() })
	defer timer.Stop()
	text, err := json.Marshal(job)
	if err != nil {
		return err
	}
	if _, err := w.jobs.Write(append(text, '\n')); err != nil {
		return w.died(err)
	}
	// The second line says that the bubble has ended well.
	for _, into := range []any{outcome, new(bool)} {
		answer, err := w.results.ReadBytes('\n')
		if err != nil {
			return w.died(err)
		}
		if err := json.Unmarshal(answer, into); err != nil {
			return fmt.Errorf("worker said %q: %w", answer, err)
		}
	}
	return nil
}

// died ends the worker and says what its last words were.
func (w *worker) died(err error) error {
	w.stop()
	words, _, _ := strings.Cut(w.stderr.String(), "\n\n")
	return fmt.Errorf("the worker process ended: %w: %.600s", err, words)
}

// work is the worker process: it reads jobs from its input and writes their
// results to its output. A bubble needs a *testing.T, and testing.Main is the
// way to one outside of go test.
func work(logName string) {
	testing.Main(func(string, string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "work", F: func(t *testing.T) { workOn(t, logName) }}}, nil, nil)
}

func workOn(t *testing.T, logName string) {
	jobs, results := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var job sim.Job
		if err := jobs.Decode(&job); err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			return
		}
		job.Do(t, openLog(t, logName), func(o sim.Outcome) {
			if err := results.Encode(o); err != nil {
				t.Error(err)
			}
		})
		if err := results.Encode(true); err != nil {
			t.Error(err)
		}
	}
}

// openLog opens the file for log lines; without a name there is none.
func openLog(t *testing.T, name string) io.Writer {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
