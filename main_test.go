package memberlist

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sean-/seed"
)

// TestMain fails the run when a goroutine of this package is left at its end:
// every one has an owner that joins it.
func TestMain(m *testing.M) {
	seed.MustInit()
	code := m.Run()
	if leaked := leakedGoroutines(time.Second); len(leaked) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d goroutines were left behind:\n\n%s\n", len(leaked), strings.Join(leaked, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

// leakedGoroutines returns the stacks of the goroutines that run or were
// started by code of this package, except the caller's. It looks again until
// there are none or timeout has run out, since some are just about to end.
func leakedGoroutines(timeout time.Duration) []string {
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for deadline := time.Now().Add(timeout); ; <-pause.C {
		leaked := packageGoroutines(allStacks())
		if len(leaked) == 0 || time.Now().After(deadline) {
			return leaked
		}
	}
}

// allStacks is the stack of every goroutine, the caller's first.
func allStacks() string {
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return string(buf[:n])
		}
	}
}

// packageGoroutines picks those stacks that mention a function of this package.
func packageGoroutines(stacks string) []string {
	const pkg = "github.com/seed-83836a96/memberlist."
	_, others, _ := strings.Cut(stacks, "\n\n")
	var found []string
	for stack := range strings.SplitSeq(others, "\n\n") {
		if strings.Contains(stack, pkg) {
			found = append(found, strings.TrimSpace(stack))
		}
	}
	return found
}

func TestLeakedGoroutinesAreFound(t *testing.T) {
	const origin = "created by github.com/seed-83836a96/memberlist.TestLeakedGoroutinesAreFound"
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-stop
	}()
	found := strings.Join(packageGoroutines(allStacks()), "\n\n")
	close(stop)
	<-ended
	if !strings.Contains(found, origin) {
		t.Fatalf("a running goroutine is not among those found:\n%s", found)
	}
}
