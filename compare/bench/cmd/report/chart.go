package main

import (
	"image/color"
	"io"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The chart has a bar for each row that compares the libraries: the ratio on a
// logarithmic scale that ends at 1, and a tick where the goal is.
const (
	chartWidth = 24 * vg.Centimeter
	lineHeight = 14
	barHeight  = 9
	chartFloor = 0.0001 // left end of the scale
)

var (
	colorReached = color.NRGBA{0x2a, 0x7f, 0x62, 0xff}
	colorMissed  = color.NRGBA{0xc4, 0x68, 0x2d, 0xff}
)

func writeChart(w io.Writer, results []result) error {
	var rows []result
	for _, r := range results {
		if r.ratio > 0 && r.measured() {
			rows = append(rows, r)
		}
	}
	slices.Reverse(rows) // the first one is on top
	p, err := newChart(rows)
	if err != nil {
		return err
	}
	height := vg.Length(len(rows)*lineHeight) + 3*vg.Centimeter
	svg := vgsvg.New(chartWidth, height)
	p.Draw(draw.New(svg))
	_, err = svg.WriteTo(w)
	return err
}

func newChart(rows []result) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = "Ours / theirs, logarithmic: shorter is better. The black tick is the goal."
	p.Title.TextStyle.Font = sans(11)
	p.X.Tick.Label.Font, p.Y.Tick.Label.Font = sans(9), sans(9)
	p.Y.Padding = vg.Centimeter // for a viewer whose font is wider
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{}
	var names []string
	goals := make(plotter.XYs, len(rows))
	for i, r := range rows {
		names = append(names, strings.ReplaceAll(r.work, "`", ""))
		goals[i] = plotter.XY{X: onScale(r.ratio), Y: float64(i)}
		bar, number, err := newBar(r, i)
		if err != nil {
			return nil, err
		}
		p.Add(bar, number)
	}
	ticks, err := plotter.NewScatter(goals)
	if err != nil {
		return nil, err
	}
	ticks.Shape, ticks.Radius = goalGlyph{}, barHeight*0.7
	p.Add(ticks)
	if len(names) > 0 {
		p.NominalY(names...)
	}
	p.X.Min, p.X.Max = chartFloor, 2
	p.Y.Min, p.Y.Max = -0.7, float64(len(rows))-0.3
	return p, nil
}

func sans(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

// newBar makes the bar of one row with its number.
func newBar(r result, row int) (*plotter.Line, *plotter.Labels, error) {
	end, y := onScale(r.ratioOf()), float64(row)
	bar, err := plotter.NewLine(plotter.XYs{{X: chartFloor, Y: y}, {X: end, Y: y}})
	if err != nil {
		return nil, nil, err
	}
	bar.Width, bar.Color = barHeight, colorReached
	if !r.reached() {
		bar.Color = colorMissed
	}
	number, err := plotter.NewLabels(plotter.XYLabels{
		XYs: plotter.XYs{{X: end, Y: y}}, Labels: []string{formatRatio(r.ratioOf())},
	})
	if err != nil {
		return nil, nil, err
	}
	number.Offset = vg.Point{X: 4, Y: -3}
	number.TextStyle[0].Font = sans(9)
	return bar, number, nil
}

// onScale is a ratio as far as the scale goes.
func onScale(ratio float64) float64 { return min(max(ratio, chartFloor), 1) }

// goalGlyph is an upright tick.
type goalGlyph struct{}

// DrawGlyph implements draw.GlyphDrawer.
func (goalGlyph) DrawGlyph(c *draw.Canvas, style draw.GlyphStyle, at vg.Point) {
	c.StrokeLine2(draw.LineStyle{Color: color.Black, Width: 2}, at.X, at.Y-style.Radius, at.X, at.Y+style.Radius)
}
