package sim

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Part is a part of our failure detector that the reference does not have, and
// that can be switched off alone.
type Part struct {
	Name string
	// Title says what it does.
	Title string
	// Off is the setting that switches it off.
	Off string
}

// Parts are all of them.
var Parts = []Part{
	{"alibi", "no verdict without an alibi", "detector.noSelfCheck=true"},
	{"question", "a last question before the verdict", "detector.noFinalProbe=true"},
	{"again", "an unanswered ping is repeated", "detector.noRepeatedPing=true"},
	{"relays", "relays that answered lately", "detector.noResponsiveRelays=true"},
	{"stall", "the time of a stall is given back", "detector.noStallGuard=true"},
	{"witness", "accusers that were cut off do not count", "detector.noAccuserCheck=true"},
	{"wake-up", "an exchange at once after being cut off", "detector.noResync=true"},
	{"reconnect", "dead nodes are looked for", "ReconnectInterval=0s"},
	{"address", "the old address of a name is asked", "detector.noAddressCheck=true"},
	{"tombstones", "reaped nodes are remembered", "detector.noTombstones=true"},
}

// withoutParts is the variant in which none of the parts is on.
const withoutParts = "none"

// PartVariants are our library without any of the parts, with each of them
// alone, and with all but each of them.
func PartVariants() []Variant {
	none := Variant{Name: withoutParts}
	for _, p := range Parts {
		none.Settings = append(none.Settings, p.Off)
	}
	variants := []Variant{none}
	for _, p := range Parts {
		others := slices.DeleteFunc(slices.Clone(none.Settings), func(off string) bool { return off == p.Off })
		variants = append(variants, Variant{only(p.Name), others}, Variant{without(p.Name), []string{p.Off}})
	}
	return variants
}

func only(part string) string    { return "only-" + part }
func without(part string) string { return "no-" + part }

// partMeasure is a figure that tells what a part is worth.
type partMeasure struct {
	scenario, key string
	title         string
}

// partMeasures are the figures, each for a kind of trouble.
var partMeasures = []partMeasure{
	{"stall-32", "fp", "32 nodes stall 32.8 s: false deaths"},
	{"grid-mult2/32-16.384s-1.024s", "fp", "32 nodes stall 16.4 s, mult 2: false deaths"},
	{"flip-flop", "fp", "one flaps: false deaths"},
	{"lossy", "views-changed", "one loses 80 %: views changed per node"},
	{"loss", "bytes", "25 % loss: bytes per node-second"},
	{"alone/2m", "false-deaths", "one cut off for 2 min: false deaths after"},
	{"alone/20s", "whole", "one cut off for 20 s: seconds until whole"},
	{"split/2m", "whole", "halves for 2 min: seconds until whole"},
	{"deaf", "whole", "one deaf for 60 s: seconds until whole"},
	{"churn", "wrong-60", "churn: wrong entries after 60 s"},
	{"ghost", "ghosts", "one back after a death: dead raised again"},
}

// PartScenarios is a regular expression for the scenarios of the measures.
func PartScenarios() string {
	var names []string
	for _, m := range partMeasures {
		names = append(names, m.scenario)
	}
	return "^(" + strings.Join(names, "|") + ")$"
}

// WriteParts writes two tables in Markdown: what each part is worth alone, and
// what is missing when it is off.
func WriteParts(w io.Writer, outcomes []Outcome) error {
	lines := []string{
		"### Each part alone", "",
		"| on | " + strings.Join(partTitles(), " | ") + " |",
		"|---|" + strings.Repeat("---:|", len(partMeasures)),
		partLine("v0.7.0", LibraryTheirs, outcomes),
		partLine("none", withoutParts, outcomes),
	}
	for _, p := range Parts {
		lines = append(lines, partLine(p.Title, only(p.Name), outcomes))
	}
	lines = append(lines,
		partLine("all", LibraryOurs, outcomes),
		"", "### Each part switched off", "",
		"| off | "+strings.Join(partTitles(), " | ")+" |",
		"|---|"+strings.Repeat("---:|", len(partMeasures)),
		partLine("none", LibraryOurs, outcomes))
	for _, p := range Parts {
		lines = append(lines, partLine(p.Title, without(p.Name), outcomes))
	}
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

func partTitles() []string {
	var titles []string
	for _, m := range partMeasures {
		titles = append(titles, m.title)
	}
	return titles
}

func partLine(name, library string, outcomes []Outcome) string {
	cells := []string{name}
	for _, m := range partMeasures {
		cells = append(cells, m.of(library, outcomes).String())
	}
	return "| " + strings.Join(cells, " | ") + " |"
}

func (m partMeasure) of(library string, outcomes []Outcome) Figure {
	return Row{Key: m.key}.figure(m.scenario, library, outcomes)
}

// WritePartsPlot draws the measures.
func WritePartsPlot(name string, outcomes []Outcome) error {
	charts := figures{outcomes, Libraries(outcomes)}.parts()
	return writeFile(name, func(w io.Writer) error {
		return writeFigure(w, "What each part of the detector is worth; less is better", 2, charts)
	})
}

// parts shows each measure for each part, alone and switched off.
func (p figures) parts() []chart {
	var charts []chart
	for _, m := range partMeasures {
		if m.of(withoutParts, p.outcomes).Count == 0 {
			continue
		}
		alone := barSeries{name: "only this part on", color: palette[4]}
		off := barSeries{name: "only this part off", color: palette[1]}
		labels := []string{"none /\nall"}
		alone.values = append(alone.values, m.of(withoutParts, p.outcomes).Median)
		off.values = append(off.values, m.of(LibraryOurs, p.outcomes).Median)
		for _, part := range Parts {
			labels = append(labels, part.Name)
			alone.values = append(alone.values, m.of(only(part.Name), p.outcomes).Median)
			off.values = append(off.values, m.of(without(part.Name), p.outcomes).Median)
		}
		theirs := m.of(LibraryTheirs, p.outcomes)
		title := m.title
		if theirs.Count > 0 && !math.IsInf(theirs.Median, 1) {
			title += " (v0.7.0: " + formatNumber(theirs.Median) + ")"
		}
		charts = append(charts, barChart{title: title, labels: labels, series: []barSeries{alone, off}, logY: true})
	}
	return charts
}
