package hostile

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Case is one kind of hostile input.
type Case struct {
	Name  string // for -run, and as an anchor
	Title string
	Input string // what is sent
	Unit  Unit
	What  string // what the amount is
	Limit float64
	Bound string // the limit as the documentation promises it
	Why   string // what the input does to a node without the bound

	run  func(*stage) Outcome
	real bool // runs in real time, because mutexes block in it, which stops virtual time
	// harmless says that v0.7.0 keeps within the limit as well.
	harmless bool
}

// Unit is what an amount is measured in.
type Unit int

// The units.
const (
	Bytes   Unit = iota
	Number       // of whatever the case says
	Seconds      // of virtual time
)

// Outcome is what an experiment gave.
type Outcome struct {
	In      int     // bytes that came in
	Amount  float64 // in the unit of the case
	Stopped bool    // the experiment was ended when it had come to the amount
	CPU     time.Duration
	Failed  bool // the node did not do what it has to
	Note    string
}

// Check returns an error if the outcome is over the limit.
func (c *Case) Check(o Outcome) error {
	if o.Failed || o.Stopped || o.Amount > c.Limit {
		return fmt.Errorf("%s: %s: %s, and the limit is %s", c.Name, c.What, c.format(o), formatAmount(c.Limit, c.Unit))
	}
	return nil
}

// Cases lists all kinds of input in the order of the document.
func Cases() []*Case { return slices.Concat(membershipCases, packetCases, streamCases) }

// Run makes an experiment with one library. Quick gives it less input.
func (c *Case) Run(t *testing.T, lib Library, quick bool) Outcome {
	heap := startSampler()
	defer close(heap.done)
	var o Outcome
	act := func(afterwards time.Duration) {
		s := newStage(lib, quick, heap)
		o = c.run(s)
		o.In, o.CPU = s.in, s.cpu
		s.close()
		time.Sleep(afterwards)
	}
	if c.real {
		act(0)
		return o
	}
	// The resolver is shared by all bubbles, so it must not begin in one of them.
	_, _ = net.LookupHost("localhost")
	// The timers that v0.7.0 leaves behind have ended after two minutes.
	synctest.Test(t, func(*testing.T) { act(2 * time.Minute) })
	return o
}

// Median is the outcome in the middle, by amount, with the median of the times.
func Median(outcomes []Outcome) Outcome {
	byAmount := slices.SortedFunc(slices.Values(outcomes), func(a, b Outcome) int { return cmp.Compare(a.Amount, b.Amount) })
	byCPU := slices.SortedFunc(slices.Values(outcomes), func(a, b Outcome) int { return int(a.CPU - b.CPU) })
	m := byAmount[len(byAmount)/2]
	m.CPU = byCPU[len(byCPU)/2].CPU
	return m
}
