package sim

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Row is one line of the table: one figure of one scenario, or of all
// scenarios whose names begin alike.
type Row struct {
	// Scenario is a name, or with a slash at the end the beginning of names.
	Scenario string
	// Title replaces that of the scenario.
	Title string
	// Figure says what the number is, Unit is what stands behind it.
	Figure, Unit string
	// Key is the value or sample of the results.
	Key string
	// Quantile makes the figure that quantile of the samples of all seeds
	// together. With 0 it is the median and the worst of a value over the seeds,
	// summed over the scenarios before.
	Quantile float64
	// Against is the scenario whose figure of the other library is compared, if
	// it is not the same one.
	Against string
	// Target is what has to be reached.
	Target Target
}

// Target is what a figure has to reach. Zero values of the limits mean zero;
// only the zero Target demands nothing.
type Target struct {
	// Ratio to theirs, if IsRatio.
	Ratio   float64
	IsRatio bool
	// Median and Worst, otherwise.
	Median, Worst float64
	set           bool // tells "at most 0" from no target
}

func ratioAtMost(limit float64) Target { return Target{Ratio: limit, IsRatio: true, set: true} }
func atMost(limit float64) Target      { return Target{Median: limit, Worst: limit, set: true} }

// String is the target as the table shows it.
func (t Target) String() string {
	switch {
	case t == Target{}:
		return ""
	case t.IsRatio:
		return "ratio ≤ " + formatNumber(t.Ratio)
	case t.Median == t.Worst:
		return "≤ " + formatNumber(t.Median)
	case math.IsInf(t.Worst, 1):
		return "median ≤ " + formatNumber(t.Median)
	default:
		return fmt.Sprintf("≤ %s, worst ≤ %s", formatNumber(t.Median), formatNumber(t.Worst))
	}
}

// Reached tells whether our figure reaches the target beside theirs.
func (t Target) Reached(ours, theirs Figure) bool {
	if t.IsRatio {
		return ours.Median <= (t.Ratio+0.0005)*theirs.Median // as exact as ratios are shown
	}
	return ours.Median <= t.Median && ours.Worst <= t.Worst
}

// Figure is what a row gives for one library.
type Figure struct {
	Median, Worst float64
	Count         int // seeds, or samples
	pooled        bool
}

// String is the figure as the table shows it.
func (f Figure) String() string {
	switch {
	case f.Count == 0:
		return ""
	case math.IsInf(f.Median, 1):
		return "never"
	case f.pooled || f.Median == f.Worst:
		return formatNumber(f.Median)
	case math.IsInf(f.Worst, 1):
		return formatNumber(f.Median) + " (never)"
	default:
		return fmt.Sprintf("%s (%s)", formatNumber(f.Median), formatNumber(f.Worst))
	}
}

// formatNumber writes a number with three digits or as an integer.
func formatNumber(x float64) string {
	switch {
	case math.IsInf(x, 1):
		return "never"
	case x == math.Trunc(x) || math.Abs(x) >= 100:
		return fmt.Sprintf("%.0f", x)
	case math.Abs(x) >= 10:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}

// figure computes the row's figure for one library.
func (r Row) figure(scenario, library string, outcomes []Outcome) Figure {
	var values []float64
	sums := map[uint64]float64{}
	for _, o := range outcomes {
		if o.Library != library || o.Result.Error != "" || !nameMatches(scenario, o.Scenario) {
			continue
		}
		for _, sample := range o.Result.Samples[r.Key] {
			values = append(values, unlessNever(sample))
		}
		if value, ok := o.Result.Values[r.Key]; ok {
			sums[o.Seed] += unlessNever(value)
		}
	}
	if r.Quantile > 0 {
		return Figure{Median: quantile(values, r.Quantile), Count: len(values), pooled: true}
	}
	values = values[:0]
	for _, sum := range sums {
		values = append(values, sum)
	}
	return Figure{Median: quantile(values, 0.5), Worst: quantile(values, 1), Count: len(values)}
}

// nameMatches tells whether a row for the scenario covers the given one.
func nameMatches(scenario, name string) bool {
	return scenario == name || strings.HasSuffix(scenario, "/") && strings.HasPrefix(name, scenario)
}

func unlessNever(x float64) float64 {
	if x == notReached {
		return never
	}
	return x
}

// quantile is the value below or at which the given part of all lies: the
// middle one of an odd number, the mean of both middle ones of an even number.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	if q == 0.5 && len(sorted)%2 == 0 {
		return (sorted[len(sorted)/2-1] + sorted[len(sorted)/2]) / 2
	}
	rank := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)]
}

// Outcome is the result of one job.
type Outcome struct {
	Scenario string  `json:"scenario"`
	Library  string  `json:"library"`
	Seed     uint64  `json:"seed"`
	Quick    bool    `json:"quick"`
	Result   *Result `json:"result"`
}

// Libraries are those that occur in the outcomes: theirs, ours, mixed, and
// then variants of ours.
func Libraries(outcomes []Outcome) []string {
	order := []string{LibraryTheirs, LibraryOurs, LibraryMixed}
	for _, o := range outcomes {
		if !slices.Contains(order, o.Library) {
			order = append(order, o.Library)
		}
	}
	return slices.DeleteFunc(order, func(library string) bool {
		return !slices.ContainsFunc(outcomes, func(o Outcome) bool { return o.Library == library })
	})
}

// WriteTable writes the table in Markdown.
func WriteTable(w io.Writer, outcomes []Outcome) error {
	libraries := Libraries(outcomes)
	lines := []string{
		"| what is done | figure | " + strings.Join(libraries, " | ") + " | ratio | target | |",
		"|---|---|" + strings.Repeat("---:|", len(libraries)+1) + "---|---|",
	}
	shown := ""
	for _, row := range Table() {
		if line, ok := tableLine(row, libraries, outcomes, shown); ok {
			lines = append(lines, line)
			shown = row.Scenario
		}
	}
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

// tableLine is one line, unless nothing was measured for it. The title is left
// out after a line of the same scenario.
func tableLine(row Row, libraries []string, outcomes []Outcome, shown string) (string, bool) {
	cells := []string{"", row.Figure}
	if shown != row.Scenario {
		cells[0] = row.title(outcomes)
	}
	measured := false
	for _, library := range libraries {
		f := row.figure(row.Scenario, library, outcomes)
		measured = measured || f.Count > 0
		text := f.String()
		if f.Count > 0 && text != "never" {
			text += row.Unit
		}
		cells = append(cells, text)
	}
	against := row.Against
	if against == "" {
		against = row.Scenario
	}
	theirs := row.figure(against, LibraryTheirs, outcomes)
	ours := row.figure(row.Scenario, LibraryOurs, outcomes)
	cells = append(cells, ratio(ours, theirs), row.Target.String(), verdict(row.Target, ours, theirs))
	return "| " + strings.Join(cells, " | ") + " |", measured
}

// title is the row's own, or that of the scenario with its size and seeds.
func (r Row) title(outcomes []Outcome) string {
	title := r.Title
	seeds, scenarios := map[uint64]bool{}, map[string]bool{}
	for _, o := range outcomes {
		if nameMatches(r.Scenario, o.Scenario) {
			seeds[o.Seed], scenarios[o.Scenario] = true, true
		}
	}
	size := 0
	for _, s := range Scenarios() {
		if nameMatches(r.Scenario, s.Name) {
			size = s.Size
			if title == "" {
				title = s.Title
			}
		}
	}
	if !strings.Contains(title, "N=") {
		title += fmt.Sprintf(", N=%d", size)
	}
	if len(scenarios) > 1 {
		title += fmt.Sprintf(", %d cells", len(scenarios))
	}
	plural := "s"
	if len(seeds) == 1 {
		plural = ""
	}
	return fmt.Sprintf("**%s** (%d seed%s)", title, len(seeds), plural)
}

// ratio is ours to theirs, as far as it makes sense.
func ratio(ours, theirs Figure) string {
	switch {
	case ours.Count == 0 || theirs.Count == 0 || theirs.Median == 0 || math.IsInf(ours.Median, 1) || math.IsInf(theirs.Median, 1):
		return ""
	default:
		return fmt.Sprintf("%.3f", ours.Median/theirs.Median)
	}
}

// verdict says whether the target is reached, once both figures are there.
func verdict(target Target, ours, theirs Figure) string {
	switch {
	case target == Target{} || ours.Count == 0 || target.IsRatio && theirs.Count == 0:
		return ""
	case target.Reached(ours, theirs):
		return "reached"
	default:
		return "**missed**"
	}
}

// WriteErrors lists the jobs that failed.
func WriteErrors(w io.Writer, outcomes []Outcome) (failed int) {
	for _, o := range outcomes {
		if o.Result.Error != "" {
			failed++
			fmt.Fprintf(w, "%s, %s, seed %d failed: %s\n", o.Scenario, o.Library, o.Seed, o.Result.Error)
		}
	}
	return failed
}
