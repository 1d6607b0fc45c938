package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// Scenario is one measurement, made for each library and seed from the same
// schedule of faults.
type Scenario struct {
	// Name is unique; scenarios that belong together share what is before the first slash.
	Name string
	// Title says what is done, for the reader of the table.
	Title string
	// Size is the number of nodes at the start, Spare how many may come later.
	Size, Spare int
	// SuspicionMult replaces that of the preset unless it is 0.
	SuspicionMult int
	// Preset is the configuration of the nodes; empty means PresetLAN.
	Preset Preset
	// Conditions are those of the network; nil means LAN.
	Conditions func() simnet.Conditions
	// FullOnly leaves the scenario out of the quick grid.
	FullOnly bool
	// Mixed runs it on clusters of both libraries, half and half, as well.
	Mixed bool
	// Run does it, on a whole and quiet cluster.
	Run func(r *Run)
	// Rows are what the table shows of it.
	Rows []Row
}

// Run is one execution of a scenario.
type Run struct {
	*Cluster
	Scenario *Scenario
	// Rand draws the schedule of faults.
	Rand *rand.Rand

	result *Result
}

// Result is what one execution gave.
type Result struct {
	// Values are single figures of the run.
	Values map[string]float64 `json:"values,omitempty"`
	// Samples are many figures of one kind, to be pooled over the seeds.
	Samples map[string][]float64 `json:"samples,omitempty"`
	// Series are points of time in seconds and value.
	Series map[string][][2]float64 `json:"series,omitempty"`
	// CPU and Virtual are the seconds that the run took on the machine and in the bubble.
	CPU     float64 `json:"cpu"`
	Virtual float64 `json:"virtual"`
	// Error says why the run failed; the rest is void then.
	Error string `json:"error,omitempty"`
}

// Execute runs the scenario with a cluster of the given libraries. It must be
// called inside a synctest bubble, which can end when it has returned.
func (s *Scenario) Execute(seed uint64, opts ClusterOptions) *Result {
	result := &Result{Values: map[string]float64{}, Samples: map[string][]float64{}, Series: map[string][][2]float64{}}
	started := processTime()
	cluster, err := NewCluster(s.complete(seed, opts))
	if err != nil {
		result.Error = err.Error()
		return result
	}
	defer cluster.Close()
	// Until the gossip about joining has died down, and then up to the longest
	// period of push/pull: in the reference the exchanges of all nodes fall into
	// one third of that, and what heals when depends on where one is in it.
	time.Sleep(10*time.Second + time.Duration(randomFor("phase", seed).Int64N(int64(90*time.Second))))
	s.Run(&Run{Cluster: cluster, Scenario: s, Rand: randomFor(s.Name, seed), result: result})
	if err := cluster.Check(); err != nil {
		result.Error = err.Error()
	}
	result.CPU = (processTime() - started).Seconds()
	result.Virtual = cluster.Net.Now().Seconds()
	return result
}

// complete fills in what the scenario and the seed decide of a cluster.
func (s *Scenario) complete(seed uint64, opts ClusterOptions) ClusterOptions {
	opts.Size, opts.Spare, opts.Seed = s.Size, s.Spare, seed
	opts.Preset, opts.Conditions = PresetLAN, simnet.LAN()
	if s.Preset != "" {
		opts.Preset = s.Preset
	}
	if s.Conditions != nil {
		opts.Conditions = s.Conditions()
	}
	opts.SuspicionMult = s.SuspicionMult
	return opts
}

// randomFor is the source of random numbers for one purpose.
func randomFor(purpose string, seed uint64) *rand.Rand {
	hash := fnv.New64a()
	hash.Write([]byte(purpose))
	return rand.New(rand.NewPCG(seed, hash.Sum64()))
}

// Value records a figure of the run.
func (r *Run) Value(key string, value float64) { r.result.Values[key] = value }

// Sample adds to the figures of one kind.
func (r *Run) Sample(key string, value float64) {
	r.result.Samples[key] = append(r.result.Samples[key], value)
}

// Point adds to a series at the present time, counted from the given one.
func (r *Run) Point(key string, since time.Duration, value float64) {
	at := (r.Net.Now() - since).Seconds()
	r.result.Series[key] = append(r.result.Series[key], [2]float64{at, value})
}

// Pick draws count different nodes of those that ran at the start.
func (r *Run) Pick(count int) []int {
	picked := r.Rand.Perm(r.Scenario.Size)[:count]
	slices.Sort(picked)
	return picked
}

// All are the nodes that ran at the start.
func (r *Run) All() []int {
	all := make([]int, r.Scenario.Size)
	for i := range all {
		all[i] = i
	}
	return all
}

// Except are the nodes that ran at the start, without the given ones.
func (r *Run) Except(without ...int) []int {
	return slices.DeleteFunc(r.All(), func(i int) bool { return slices.Contains(without, i) })
}

// Watch lets time pass, with a point of the wrong entries every second.
func (r *Run) Watch(key string, since, d time.Duration) {
	for end := r.Net.Now() + d; r.Net.Now() < end; {
		r.Point(key, since, float64(r.Wrong()))
		time.Sleep(min(time.Second, end-r.Net.Now()))
	}
	r.Point(key, since, float64(r.Wrong()))
}

// deathsSince is a filter for reports of a death or departure from a time on.
func deathsSince(start time.Duration, of, at map[int]bool) func(Change) bool {
	return func(c Change) bool {
		return !c.Present && c.At >= start && c.Observer != c.Subject && of[c.Subject] && at[c.Observer]
	}
}

// set makes a set of numbers.
func set(numbers []int) map[int]bool {
	s := make(map[int]bool, len(numbers))
	for _, n := range numbers {
		s[n] = true
	}
	return s
}

// must reports a failure of the set-up, which is an error of this package.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("sim: %v", err))
	}
}
