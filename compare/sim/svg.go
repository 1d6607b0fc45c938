package sim

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// A chart is drawn into a rectangle of a figure.
type chart interface {
	draw(s *svg, x, y, width, height float64)
}

// lineChart shows how values go over x.
type lineChart struct {
	title, xLabel, yLabel string
	lines                 []line
	logY                  bool
}

type line struct {
	name, color string
	points      [][2]float64
}

// barChart shows a group of bars for each label, one bar a series.
type barChart struct {
	title, yLabel string
	labels        []string
	series        []barSeries
	logY          bool
}

type barSeries struct {
	name, color string
	values      []float64 // NaN leaves the bar out
}

// Sizes in pixels.
const (
	chartWidth, chartHeight = 420.0, 250.0
	titleWidth              = 8.5 // of one letter of the title
	marginLeft, marginRight = 58.0, 12.0
	marginTop, marginBottom = 46.0, 44.0
	titleHeight             = 40.0
	letterWidth             = 6.0 // in labels
)

// writeFigure draws charts side by side, so many in a row. The row is as wide as
// so many charts of the usual width, whatever their number.
func writeFigure(w io.Writer, title string, columns, widths int, charts []chart) error {
	columns = max(1, min(columns, len(charts)))
	rows := (len(charts) + columns - 1) / columns
	width, height := float64(widths)*chartWidth, float64(rows)*chartHeight+titleHeight
	width = max(min(width, 2*chartWidth*float64(columns)), titleWidth*float64(len(title)))
	each := width / float64(columns)
	s := &svg{}
	s.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11">`, width, height, width, height)
	s.printf(`<rect width="%.0f" height="%.0f" fill="#ffffff"/>`, width, height)
	s.text(width/2, 24, "middle", 15, title)
	for i, c := range charts {
		c.draw(s, float64(i%columns)*each, titleHeight+float64(i/columns)*chartHeight, each, chartHeight)
	}
	s.printf(`</svg>`)
	_, err := io.WriteString(w, s.String())
	return err
}

// svg collects elements.
type svg struct{ strings.Builder }

func (s *svg) printf(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

func (s *svg) text(x, y float64, anchor string, size int, text string) {
	s.printf(`<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="#222">%s</text>`, x, y, anchor, size, html.EscapeString(text))
}

func (s *svg) line(x1, y1, x2, y2 float64, color string) {
	s.printf(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`, x1, y1, x2, y2, color)
}

// scale maps values to pixels.
type scale struct {
	low, high float64 // values
	from, to  float64 // pixels
	log       bool    // of 1 + value, so that 0 has a place
}

func (c scale) at(v float64) float64 {
	low, high := c.low, c.high
	if c.log {
		low, high, v = math.Log10(1+low), math.Log10(1+high), math.Log10(1+v)
	}
	if high == low {
		return c.from
	}
	return c.from + (v-low)/(high-low)*(c.to-c.from)
}

// ticks are round values between low and high.
func (c scale) ticks() []float64 {
	if c.log {
		ticks := []float64{0}
		for t := 1.0; t <= c.high; t *= 10 {
			ticks = append(ticks, t)
		}
		return ticks
	}
	span := c.high - c.low
	if span <= 0 {
		return []float64{c.low}
	}
	step := math.Pow(10, math.Floor(math.Log10(span)))
	for _, finer := range []float64{0.5, 0.4, 0.5} {
		if span/step < 4 {
			step *= finer
		}
	}
	var ticks []float64
	for t := math.Ceil(c.low/step) * step; t <= c.high+step/1e6; t += step {
		ticks = append(ticks, t)
	}
	return ticks
}

// frame draws what every chart has and returns its scale of y.
func (s *svg) frame(title, yLabel string, x, y, width, height, high float64, logY bool) scale {
	vertical := scale{0, high, y + height - marginBottom, y + marginTop, logY}
	s.text(x+width/2, y+14, "middle", 12, title)
	s.printf(`<text transform="translate(%.1f %.1f) rotate(-90)" text-anchor="middle" fill="#222">%s</text>`,
		x+12, y+(height+marginTop-marginBottom)/2, html.EscapeString(yLabel))
	for _, t := range vertical.ticks() {
		at := vertical.at(t)
		s.line(x+marginLeft, at, x+width-marginRight, at, "#ddd")
		s.text(x+marginLeft-5, at+4, "end", 10, fmt.Sprintf("%.4g", t))
	}
	s.line(x+marginLeft, y+height-marginBottom, x+width-marginRight, y+height-marginBottom, "#444")
	return vertical
}

// legend names the colors in one line under the title.
func (s *svg) legend(x, y float64, names, colors []string) {
	left := x + marginLeft
	for i, name := range names {
		s.printf(`<rect x="%.1f" y="%.1f" width="10" height="10" fill="%s"/>`, left, y+22, colors[i])
		s.text(left+14, y+31, "start", 10, name)
		left += 32 + letterWidth*float64(len(name))
	}
}

func (c lineChart) draw(s *svg, x, y, width, height float64) {
	right, high := 0.0, 0.0
	var names, colors []string
	for _, l := range c.lines {
		names, colors = append(names, l.name), append(colors, l.color)
		for _, p := range l.points {
			right, high = max(right, p[0]), max(high, p[1])
		}
	}
	vertical := s.frame(c.title, c.yLabel, x, y, width, height, max(high*1.05, 1e-9), c.logY)
	s.legend(x, y, names, colors)
	horizontal := scale{0, max(right, 1e-9), x + marginLeft, x + width - marginRight, false}
	for _, t := range horizontal.ticks() {
		s.text(horizontal.at(t), y+height-marginBottom+14, "middle", 10, fmt.Sprintf("%.4g", t))
	}
	s.text(x+(width+marginLeft-marginRight)/2, y+height-14, "middle", 11, c.xLabel)
	for _, l := range c.lines {
		var path strings.Builder
		for _, p := range l.points {
			fmt.Fprintf(&path, "%.1f,%.1f ", horizontal.at(p[0]), vertical.at(p[1]))
		}
		s.printf(`<polyline points="%s" fill="none" stroke="%s" stroke-width="1.8"/>`, strings.TrimSpace(path.String()), l.color)
	}
}

func (c barChart) draw(s *svg, x, y, width, height float64) {
	high := 0.0
	var names, colors []string
	for _, b := range c.series {
		names, colors = append(names, b.name), append(colors, b.color)
		for _, v := range b.values {
			if !math.IsNaN(v) && !math.IsInf(v, 1) {
				high = max(high, v)
			}
		}
	}
	high = max(high*1.1, 1e-9)
	vertical := s.frame(c.title, c.yLabel, x, y, width, height, high, c.logY)
	s.legend(x, y, names, colors)
	group := (width - marginLeft - marginRight) / float64(len(c.labels))
	bar := group * 0.8 / float64(len(c.series))
	for i, label := range c.labels {
		left := x + marginLeft + float64(i)*group
		s.label(left+group/2, y+height-marginBottom+14, group, label)
		for j, b := range c.series {
			s.bar(left+group*0.1+float64(j)*bar, bar, vertical, b.values[i], b.color)
		}
	}
}

// bar draws one bar with its number; one that never ended reaches the top.
func (s *svg) bar(left, width float64, vertical scale, v float64, color string) {
	if math.IsNaN(v) {
		return
	}
	top := vertical.at(min(v, vertical.high))
	s.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, left, top, width, vertical.from-top, color)
	s.text(left+width/2, top-3, "middle", 9, formatNumber(v))
}

// label writes a label in up to two lines.
func (s *svg) label(x, y, width float64, label string) {
	first, second, _ := strings.Cut(label, "\n")
	size := 10
	if width < 50 {
		size = 8
	}
	s.text(x, y, "middle", size, first)
	if second != "" {
		s.text(x, y+12, "middle", size, second)
	}
}
