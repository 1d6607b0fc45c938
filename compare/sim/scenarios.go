package sim

import (
	"fmt"
	"math"
	"time"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// Scenarios are all measurements, in the order of the table.
func Scenarios() []*Scenario {
	list := []*Scenario{
		{Name: "kill", Title: "one node killed", Size: 128, Spare: 25, Run: killed},
		{Name: "kill-mult2", Title: "one node killed, SuspicionMult 2", Size: 128, Spare: 25, SuspicionMult: 2, Run: killed},
		{Name: "stall-16", Title: "16 nodes stall 16.4 s, live 64 ms; sends queue up", Size: 128, Mixed: true,
			Run: stallCase{16, stall16384, 64 * time.Millisecond, simnet.StallQueues, false}.run},
		{Name: "stall-32", Title: "32 nodes stall 32.8 s, live 1 s; sends queue up", Size: 128, Mixed: true,
			Run: stallCase{32, stall32768, 1024 * time.Millisecond, simnet.StallQueues, false}.run},
	}
	list = append(list, stallGrid("grid", 0)...)
	list = append(list, stallGrid("grid-mult2", 2)...)
	list = append(list, healing("split", "split in halves", 64, true, split)...)
	list = append(list, healing("alone", "one against the rest", 64, false, alone)...)
	return append(list,
		&Scenario{Name: "lossy", Title: "one node loses 80 % of what it sends, 180 s", Size: 100, Run: lossySender},
		&Scenario{Name: "flip-flop", Title: "one node cut off and back, 20 s each, 180 s", Size: 128, Mixed: true, Run: flipFlop},
		&Scenario{Name: "deaf", Title: "one node hears nothing for 60 s", Size: 128, Run: deaf},
		&Scenario{Name: "loss", Title: "25 % loss everywhere", Size: 128, Run: heavyLoss},
		&Scenario{Name: "churn", Title: "nodes leave, die, and return with the same name at another address", Size: 256, Run: churn},
		&Scenario{Name: "ghost", Title: "one node dies while another is cut off for 90 s", Size: 32, Run: ghost},
		&Scenario{Name: "restart", Title: "everybody restarts at once", Size: 256, Run: restart},
		&Scenario{Name: "healthy", Title: "nothing happens", Size: 128, Run: healthyCost},
		&Scenario{Name: "healthy-wan", Title: "nothing happens, wide area network", Size: 128, Preset: PresetWAN, Conditions: simnet.WAN, FullOnly: true, Run: healthyCost},
		&Scenario{Name: "healthy-old", Title: "nothing happens, after 19 hours", Size: 4, Run: healthyCostWhenOld},
		&Scenario{Name: "rough", Title: "2 % loss, 1 % duplicated, 5 % reordered by up to 50 ms", Size: 128, Conditions: roughLAN, FullOnly: true, Run: healthyCost},
		&Scenario{Name: "alone-large/20s", Title: "one against the rest for 20 s, N=128", Size: 128, FullOnly: true, Run: alone(20*time.Second, 2*time.Minute)},
		&Scenario{Name: "alone-large/2m", Title: "one against the rest for 2m, N=128", Size: 128, FullOnly: true, Run: alone(2*time.Minute, 2*time.Minute)},
	)
}

// The durations of the paper are powers of two of milliseconds.
const (
	stall16384 = 16384 * time.Millisecond
	stall32768 = 32768 * time.Millisecond
)

// roughLAN is a network of poor quality.
func roughLAN() simnet.Conditions {
	c := simnet.LAN()
	c.Loss, c.Duplicate, c.Reorder, c.ReorderBy = 0.02, 0.01, 0.05, 50*time.Millisecond
	return c
}

// stallGrid is a subset of the paper's experiments, in the paper's manner: the
// sick processes are blocked in their sends.
func stallGrid(name string, suspicionMult int) []*Scenario {
	var list []*Scenario
	add := func(fullOnly bool, concurrent, duration, interval int) {
		s := stallCase{concurrent, time.Duration(duration) * time.Millisecond, time.Duration(interval) * time.Millisecond, simnet.StallBlocks, true}
		list = append(list, &Scenario{
			Name:          fmt.Sprintf("%s/%d-%s-%s", name, concurrent, s.duration, s.interval),
			Title:         fmt.Sprintf("%d nodes stall %s, live %s", concurrent, s.duration, s.interval),
			Size:          128,
			SuspicionMult: suspicionMult,
			FullOnly:      fullOnly,
			Run:           s.run,
		})
	}
	quick := map[[3]int]bool{
		{16, 16384, 64}: true, {32, 16384, 1024}: true, {32, 32768, 64}: true, {32, 32768, 1024}: true,
	}
	for _, concurrent := range []int{1, 4, 16, 32} {
		for _, duration := range []int{128, 2048, 16384, 32768} {
			for _, interval := range []int{1, 64, 1024, 16384} {
				add(!quick[[3]int{concurrent, duration, interval}], concurrent, duration, interval)
			}
		}
	}
	return list
}

// healing are partitions of one kind that last differently long.
func healing(name, title string, size int, mixed bool, part func(d, watch time.Duration) func(*Run)) []*Scenario {
	var list []*Scenario
	for _, d := range []time.Duration{20 * time.Second, 2 * time.Minute, 10 * time.Minute} {
		list = append(list, &Scenario{
			Name:  name + "/" + formatSeconds(d),
			Title: fmt.Sprintf("%s for %.0f s, N=%d", title, d.Seconds(), size),
			Size:  size,
			Mixed: mixed,
			Run:   part(d, 2*time.Minute),
		})
	}
	return list
}

// Table lists what is shown of the scenarios, and what is to be reached.
func Table() []Row {
	const seconds = " s"
	rows := []Row{
		{Scenario: "kill", Figure: "first report, p50", Key: "first", Quantile: 0.5, Unit: seconds, Target: ratioAtMost(1.02)},
		{Scenario: "kill", Figure: "first report, p99", Key: "first", Quantile: 0.99, Unit: seconds, Target: ratioAtMost(1.02)},
		{Scenario: "kill", Figure: "all know, p50", Key: "all", Quantile: 0.5, Unit: seconds, Target: ratioAtMost(1.02)},
		{Scenario: "kill-mult2", Figure: "first report, p50, against theirs at 4", Key: "first", Quantile: 0.5, Unit: seconds, Against: "kill", Target: ratioAtMost(0.6)},
	}
	for _, name := range []string{"stall-16", "stall-32"} {
		rows = append(rows,
			Row{Scenario: name, Figure: "false deaths of healthy nodes", Key: "fp", Target: ratioAtMost(0.05)},
			Row{Scenario: name, Figure: "the same at healthy nodes", Key: "fp-healthy", Target: ratioAtMost(0.05)})
	}
	rows = append(rows,
		Row{Scenario: "grid/", Title: "the Lifeguard paper's grid", Figure: "false deaths of healthy nodes, sum", Key: "fp", Target: ratioAtMost(0.1)},
		Row{Scenario: "grid/", Figure: "the same at healthy nodes, sum", Key: "fp-healthy", Target: ratioAtMost(0.1)},
		Row{Scenario: "grid/", Figure: "killed node, first report, p50", Key: "first", Quantile: 0.5, Unit: seconds, Target: ratioAtMost(1.02)},
		Row{Scenario: "grid/", Figure: "killed node, all healthy know, p50", Key: "all", Quantile: 0.5, Unit: seconds, Target: ratioAtMost(1.02)},
		Row{Scenario: "grid/", Figure: "killed node, all healthy know, p99", Key: "all", Quantile: 0.99, Unit: seconds, Target: ratioAtMost(1.02)},
		Row{Scenario: "grid-mult2/", Title: "the grid with SuspicionMult 2, against theirs at 4", Figure: "false deaths of healthy nodes, sum", Key: "fp", Against: "grid/", Target: ratioAtMost(1)},
		Row{Scenario: "grid-mult2/", Figure: "the same at healthy nodes, sum", Key: "fp-healthy", Against: "grid/", Target: ratioAtMost(1)},
		Row{Scenario: "grid-mult2/", Figure: "killed node, all healthy know, p50", Key: "all", Quantile: 0.5, Unit: seconds, Against: "grid/"},
	)
	rows = append(rows, healingRows("split", "own-side", "false deaths on the own side", []Target{{Median: 5, Worst: never}, {Median: 15, Worst: 45}, {Median: 15, Worst: 45}})...)
	rows = append(rows, healingRows("alone", "false-deaths", "false deaths among the rest", []Target{{Median: 5, Worst: 30}, {Median: 5, Worst: 30}, {Median: 120, Worst: 120}})...)
	return append(rows,
		Row{Scenario: "lossy", Figure: "false deaths at healthy nodes", Key: "fp-healthy", Target: atMost(1)},
		Row{Scenario: "lossy", Figure: "views changed per healthy node", Key: "views-changed", Target: atMost(2)},
		Row{Scenario: "flip-flop", Figure: "false deaths of healthy nodes", Key: "fp", Target: atMost(3)},
		Row{Scenario: "deaf", Figure: "until every view is whole", Key: "whole", Unit: seconds, Target: atMost(10)},
		Row{Scenario: "deaf", Figure: "false deaths among the rest", Key: "false-deaths"},
		Row{Scenario: "loss", Figure: "packet bytes per node-second", Key: "bytes", Target: ratioAtMost(0.25)},
		Row{Scenario: "loss", Figure: "the same before the loss", Key: "quiet-bytes", Target: ratioAtMost(1)},
		Row{Scenario: "loss", Figure: "false deaths", Key: "fp", Target: atMost(0)},
		Row{Scenario: "churn", Figure: "wrong entries 30 s after the end", Key: "wrong-30"},
		Row{Scenario: "churn", Figure: "wrong entries after 60 s", Key: "wrong-60", Target: atMost(0)},
		Row{Scenario: "churn", Figure: "wrong entries after 120 s", Key: "wrong-120", Target: atMost(0)},
		Row{Scenario: "ghost", Figure: "times that the dead node is taken for alive again", Key: "ghosts", Target: atMost(0)},
		Row{Scenario: "restart", Figure: "until every view is whole", Key: "whole", Unit: seconds, Target: atMost(10)},
		Row{Scenario: "healthy", Figure: "packets per node-second", Key: "packets", Target: ratioAtMost(1)},
		Row{Scenario: "healthy", Figure: "packet bytes per node-second", Key: "bytes", Target: ratioAtMost(1)},
		Row{Scenario: "healthy", Figure: "stream bytes per node-second", Key: "stream-bytes", Target: ratioAtMost(1)},
		Row{Scenario: "healthy", Figure: "CPU per node-second, with the simulation", Key: "cpu", Unit: " µs", Target: ratioAtMost(1)},
		Row{Scenario: "healthy-wan", Figure: "false deaths", Key: "fp", Target: atMost(0)},
		Row{Scenario: "healthy-wan", Figure: "packet bytes per node-second", Key: "bytes", Target: ratioAtMost(1)},
		Row{Scenario: "healthy-old", Figure: "packet bytes per node-second", Key: "bytes", Target: ratioAtMost(1.01)},
		Row{Scenario: "rough", Figure: "false deaths", Key: "fp", Target: atMost(0)},
		Row{Scenario: "rough", Figure: "packet bytes per node-second", Key: "bytes", Target: ratioAtMost(1)},
		Row{Scenario: "alone-large/20s", Figure: "until every view is whole", Key: "whole", Unit: seconds, Target: Target{Median: 5, Worst: 30}},
		Row{Scenario: "alone-large/20s", Figure: "false deaths among the rest", Key: "false-deaths", Target: atMost(0)},
		Row{Scenario: "alone-large/2m", Figure: "until every view is whole", Key: "whole", Unit: seconds, Target: Target{Median: 5, Worst: 30}},
		Row{Scenario: "alone-large/2m", Figure: "false deaths among the rest", Key: "false-deaths", Target: atMost(0)},
	)
}

// never is the figure for what did not happen as long as one watched.
var never = math.Inf(1)

func healingRows(name, falseKey, falseFigure string, targets []Target) []Row {
	var rows []Row
	for i, d := range []string{"20s", "2m", "10m"} {
		rows = append(rows,
			Row{Scenario: name + "/" + d, Figure: "until every view is whole", Key: "whole", Unit: " s", Target: targets[i]},
			Row{Scenario: name + "/" + d, Figure: falseFigure + " after healing", Key: falseKey, Target: atMost(0)})
	}
	rows = append(rows,
		Row{Scenario: name + "/10m", Figure: "packet bytes per node-second while parted", Key: "parted-bytes"},
		Row{Scenario: name + "/10m", Figure: "stream bytes per node-second while parted", Key: "parted-stream-bytes"})
	return rows
}
