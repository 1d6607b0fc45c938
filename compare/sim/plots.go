package sim

import (
	"image/color"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// WritePlots writes a plot into dir for everything that was measured, and
// returns the names of the files.
func WritePlots(dir string, outcomes []Outcome) ([]string, error) {
	p := figures{outcomes, Libraries(outcomes)}
	sheets := []struct {
		name, title string
		columns     int
		charts      []chart
	}{
		{"kill", "One node of 128 killed: how long until it is noticed", 2, p.kill()},
		{"stalls", "False deaths of healthy nodes while others stall", 1, p.stalls()},
		{"split", "Split in halves, N=64: wrong entries in all views after healing", 3, p.healing("split/")},
		{"alone", "One against the rest, N=64: wrong entries in all views after healing", 3, p.healing("alone/")},
		{"faults", "One faulty node among healthy ones", 2, p.faults()},
		{"churn", "Wrong entries in all views", 3, p.wrong("churn", "restart", "deaf")},
		{"cost", "What a node sends", 3, p.cost()},
	}
	var names []string
	for _, f := range sheets {
		charts := slices.DeleteFunc(f.charts, func(c chart) bool { return c == nil })
		if len(charts) == 0 {
			continue
		}
		name := "detector-" + f.name + ".svg"
		err := writeFile(filepath.Join(dir, name), func(w io.Writer) error {
			return writeFigure(w, f.title, f.columns, charts)
		})
		if err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// figures makes charts of outcomes. A chart without data is nil.
type figures struct {
	outcomes  []Outcome
	libraries []string
}

// color is that of a library in all plots, told apart by the colour-blind too.
func (p figures) color(library string) color.NRGBA {
	standard := []string{LibraryTheirs, LibraryOurs, LibraryMixed}
	if i := slices.Index(standard, library); i >= 0 {
		return palette[i]
	}
	others := slices.DeleteFunc(slices.Clone(p.libraries), func(l string) bool { return slices.Contains(standard, l) })
	return palette[3+slices.Index(others, library)%4]
}

// palette is that of Okabe and Ito, which the colour-blind can tell apart.
var palette = []color.NRGBA{
	{0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x72, 0xb2, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0xcc, 0x79, 0xa7, 0xff},
	{0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff}, {0x7f, 0x7f, 0x7f, 0xff},
}

// kill shows the distribution of the times of the first report and of the last.
func (p figures) kill() []chart {
	var charts []chart
	for _, what := range [][2]string{{"first", "until the first report"}, {"all", "until all know"}} {
		var lines []line
		for _, scenario := range []string{"kill", "kill-mult2"} {
			for _, library := range p.libraries {
				samples := p.samples(scenario, library, what[0])
				name := library
				if scenario != "kill" {
					name += ", mult 2"
				}
				if len(samples) > 0 {
					lines = append(lines, line{name, p.shade(library, scenario != "kill"), distribution(samples)})
				}
			}
		}
		if lines != nil {
			charts = append(charts, lineChart{title: what[1], xLabel: "seconds", yLabel: "part of the kills", lines: lines})
		}
	}
	return charts
}

// shade is the color of a library, or a lighter kind of it.
func (p figures) shade(library string, light bool) color.NRGBA {
	shade := p.color(library)
	if light {
		shade.A = 0x80
	}
	return shade
}

func (p figures) samples(scenario, library, key string) []float64 {
	var samples []float64
	for _, o := range p.outcomes {
		if o.Scenario == scenario && o.Library == library {
			samples = append(samples, o.Result.Samples[key]...)
		}
	}
	return slices.DeleteFunc(samples, func(v float64) bool { return v == notReached })
}

// distribution is the cumulative distribution function of the samples.
func distribution(samples []float64) [][2]float64 {
	slices.Sort(samples)
	points := [][2]float64{{samples[0], 0}}
	for i, v := range samples {
		points = append(points, [2]float64{v, float64(i) / float64(len(samples))}, [2]float64{v, float64(i+1) / float64(len(samples))})
	}
	return points
}

// stalls shows the false deaths of each cell.
func (p figures) stalls() []chart {
	var charts []chart
	charts = append(charts, p.bars("sends queue up while loops run on", "false deaths", "fp", []string{"stall-16", "stall-32"}, []string{"16 × 16.4 s\n64 ms between", "32 × 32.8 s\n1 s between"}, true))
	for _, grid := range []struct{ prefix, title string }{
		{"grid/", "senders blocked, as in the Lifeguard paper"},
		{"grid-mult2/", "the same with SuspicionMult 2"},
	} {
		var names, labels []string
		for _, s := range Scenarios() {
			if strings.HasPrefix(s.Name, grid.prefix) && p.measured(s.Name) {
				names = append(names, s.Name)
				cell := strings.SplitN(strings.TrimPrefix(s.Name, grid.prefix), "-", 3)
				labels = append(labels, cell[0]+" × "+cell[1]+"\n"+cell[2])
			}
		}
		for part := range slices.Chunk(indexes(len(names)), 8) {
			first, last := part[0], part[len(part)-1]+1
			charts = append(charts, p.bars(grid.title, "false deaths", "fp", names[first:last], labels[first:last], true))
		}
	}
	return charts
}

func indexes(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func (p figures) measured(scenario string) bool {
	return slices.ContainsFunc(p.outcomes, func(o Outcome) bool { return o.Scenario == scenario })
}

// bars shows the medians of one figure of some scenarios.
func (p figures) bars(title, yLabel, key string, scenarios, labels []string, logY bool) chart {
	c := barChart{title: title, yLabel: yLabel, labels: labels, logY: logY}
	any := false
	for _, library := range p.libraries {
		series := barSeries{name: library, color: p.color(library)}
		found := false
		for _, scenario := range scenarios {
			f := Row{Key: key}.figure(scenario, library, p.outcomes)
			found = found || f.Count > 0
			series.values = append(series.values, f.Median)
		}
		if found {
			c.series = append(c.series, series)
			any = true
		}
	}
	if !any {
		return nil
	}
	return c
}

// healing shows the wrong entries after healing, for each length of the fault.
func (p figures) healing(prefix string) []chart {
	return p.wrong(prefix+"20s", prefix+"2m", prefix+"10m")
}

// wrong shows the wrong entries over time, medians of the seeds.
func (p figures) wrong(scenarios ...string) []chart {
	var charts []chart
	for _, scenario := range scenarios {
		var lines []line
		for _, library := range p.libraries {
			if points := p.medianSeries(scenario, library, "wrong"); points != nil {
				lines = append(lines, line{library, p.color(library), points})
			}
		}
		if lines == nil {
			charts = append(charts, nil)
			continue
		}
		title := Row{Scenario: scenario}.title(p.outcomes)
		charts = append(charts, lineChart{
			title: strings.ReplaceAll(title, "**", ""), xLabel: "seconds", yLabel: "wrong entries", lines: lines, logY: true,
		})
	}
	return charts
}

// medianSeries is the median over the seeds, second by second, as long as one
// of them was watched; a series that has ended keeps its last value.
func (p figures) medianSeries(scenario, library, key string) [][2]float64 {
	var all [][][2]float64
	end := 0.0
	for _, o := range p.outcomes {
		if series := o.Result.Series[key]; o.Scenario == scenario && o.Library == library && len(series) > 0 {
			all = append(all, series)
			end = max(end, series[len(series)-1][0])
		}
	}
	if all == nil {
		return nil
	}
	var median [][2]float64
	for at := 0.0; at <= end; at += 0.5 {
		var values []float64
		for _, series := range all {
			values = append(values, valueAt(series, at))
		}
		median = append(median, [2]float64{at, quantile(values, 0.5)})
	}
	return median
}

// valueAt is the last value of a series at a time.
func valueAt(series [][2]float64, at float64) float64 {
	value := series[0][1]
	for _, point := range series {
		if point[0] > at {
			break
		}
		value = point[1]
	}
	return value
}

// faults shows what a single faulty node does to the others.
func (p figures) faults() []chart {
	return []chart{
		p.bars("false deaths of healthy nodes", "false deaths", "fp", []string{"lossy", "flip-flop"}, []string{"loses 80 %\nof its sends", "cut off and\nback, 20 s"}, true),
		p.bars("until every view is whole", "seconds", "whole", []string{"deaf", "restart"}, []string{"deaf for 60 s", "all restart"}, false),
	}
}

// cost shows packets and bytes per node-second.
func (p figures) cost() []chart {
	return []chart{
		p.bars("healthy cluster: packets/s", "packets per node-second", "packets", []string{"healthy"}, []string{""}, false),
		p.bars("healthy cluster: bytes/s", "packet bytes per node-second", "bytes", []string{"healthy"}, []string{""}, false),
		p.bars("25 % loss: bytes/s", "packet bytes per node-second", "bytes", []string{"loss"}, []string{""}, false),
	}
}
