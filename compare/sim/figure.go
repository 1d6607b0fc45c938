package sim

import (
	"image/color"
	"io"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A chart is one plot of a figure.
type chart interface{ plot() (*plot.Plot, error) }

// lineChart shows how values change over x.
type lineChart struct {
	title, xLabel, yLabel string
	lines                 []line
	logY                  bool
}

type line struct {
	name   string
	color  color.Color
	points [][2]float64
}

// barChart shows a group of bars for each label, one bar for each series.
type barChart struct {
	title, yLabel string
	labels        []string
	series        []barSeries
	logY          bool
}

type barSeries struct {
	name   string
	color  color.Color
	values []float64 // NaN leaves the bar out
}

const (
	chartWidth  = 11 * vg.Centimeter
	chartHeight = 7 * vg.Centimeter
	titleHeight = vg.Centimeter
)

// writeFigure draws charts side by side, columns of them in a row, below a title.
func writeFigure(w io.Writer, title string, columns int, charts []chart) error {
	columns = max(1, min(columns, len(charts)))
	rows := (len(charts) + columns - 1) / columns
	width := vg.Length(max(columns, 2)) * chartWidth
	height := vg.Length(rows)*chartHeight + titleHeight
	svg := vgsvg.New(width, height)
	canvas := draw.New(svg)
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	canvas.FillText(titleStyle(), vg.Point{X: width / 2, Y: height - titleHeight/2}, title)
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: vg.Millimeter, PadY: vg.Millimeter}
	area := draw.Crop(canvas, 0, 0, 0, -titleHeight)
	for i, c := range charts {
		p, err := c.plot()
		if err != nil {
			return err
		}
		p.Draw(tiles.At(area, i%columns, i/columns))
	}
	_, err := svg.WriteTo(w)
	return err
}

func titleStyle() draw.TextStyle {
	return draw.TextStyle{
		Color: color.Black, Font: sans(14),
		XAlign: draw.XCenter, YAlign: draw.YCenter, Handler: plot.DefaultTextHandler,
	}
}

// sans is the font of all figures.
func sans(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

// newPlot is what every chart begins with.
func newPlot(title, yLabel string, logY bool) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = title, yLabel
	p.Title.TextStyle.Font = sans(10)
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs = true, true, vg.Millimeter
	p.Legend.TextStyle.Font = sans(8)
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font = sans(9)
		axis.Tick.Label.Font = sans(8)
		axis.Min = 0
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	p.Add(grid)
	if logY {
		p.Y.Scale, p.Y.Tick.Marker = log1pScale{}, log1pTicks{}
	}
	return p
}

func (c lineChart) plot() (*plot.Plot, error) {
	p := newPlot(c.title, c.yLabel, c.logY)
	p.X.Label.Text = c.xLabel
	for _, l := range c.lines {
		points := make(plotter.XYs, len(l.points))
		for i, at := range l.points {
			points[i] = plotter.XY{X: at[0], Y: at[1]}
		}
		drawn, err := plotter.NewLine(points)
		if err != nil {
			return nil, err
		}
		drawn.Color, drawn.Width = l.color, vg.Points(1.5)
		p.Add(drawn)
		p.Legend.Add(l.name, drawn)
	}
	return p, nil
}

// topShare is how much of a bar chart stays free above the highest bar, for its
// number and the legend.
const topShare = 1.35

func (c barChart) plot() (*plot.Plot, error) {
	p := newPlot(c.title, c.yLabel, c.logY)
	p.NominalX(c.labels...)
	p.X.Min, p.X.Max = -0.5, float64(len(c.labels))-0.5
	high := c.highest()
	width := (chartWidth - 3*vg.Centimeter) * 0.8 / vg.Length(len(c.labels)*len(c.series))
	for i, s := range c.series {
		offset := width * (vg.Length(i) - vg.Length(len(c.series)-1)/2)
		bars, labels, err := s.draw(high, width, offset)
		if err != nil {
			return nil, err
		}
		p.Add(bars, labels)
		p.Legend.Add(s.name, bars)
	}
	p.Y.Max = high * topShare
	if c.logY {
		p.Y.Max = math.Pow(1+high, topShare) - 1
	}
	return p, nil
}

// highest is the highest bar that has an end.
func (c barChart) highest() float64 {
	high := 1e-9
	for _, s := range c.series {
		for _, v := range s.values {
			if !math.IsNaN(v) && !math.IsInf(v, 1) {
				high = max(high, v)
			}
		}
	}
	return high
}

// draw makes the bars of a series with their numbers. A bar without an end is as
// high as the highest.
func (s barSeries) draw(high float64, width, offset vg.Length) (*plotter.BarChart, *plotter.Labels, error) {
	heights := make(plotter.Values, len(s.values))
	labels := plotter.XYLabels{XYs: make(plotter.XYs, len(s.values)), Labels: make([]string, len(s.values))}
	for i, v := range s.values {
		if !math.IsNaN(v) {
			heights[i] = min(v, high)
			labels.Labels[i] = formatNumber(v)
		}
		labels.XYs[i] = plotter.XY{X: float64(i), Y: heights[i]}
	}
	bars, err := plotter.NewBarChart(heights, width)
	if err != nil {
		return nil, nil, err
	}
	bars.Color, bars.Offset, bars.LineStyle.Width = s.color, offset, 0
	numbers, err := plotter.NewLabels(labels)
	if err != nil {
		return nil, nil, err
	}
	numbers.Offset = vg.Point{X: offset, Y: vg.Points(2)}
	for i := range numbers.TextStyle {
		numbers.TextStyle[i].Font, numbers.TextStyle[i].XAlign = sans(7), draw.XCenter
	}
	return bars, numbers, nil
}

// log1pScale is logarithmic in 1 + value, so that 0 has a place.
type log1pScale struct{}

// Normalize implements plot.Normalizer.
func (log1pScale) Normalize(low, high, v float64) float64 {
	return (math.Log1p(v) - math.Log1p(low)) / (math.Log1p(high) - math.Log1p(low))
}

// log1pTicks are 0 and the powers of ten.
type log1pTicks struct{}

// Ticks implements plot.Ticker.
func (log1pTicks) Ticks(_, high float64) []plot.Tick {
	ticks := []plot.Tick{{Value: 0, Label: "0"}}
	for t := 1.0; t <= high; t *= 10 {
		ticks = append(ticks, plot.Tick{Value: t, Label: strconv.FormatFloat(t, 'f', -1, 64)})
	}
	return ticks
}
