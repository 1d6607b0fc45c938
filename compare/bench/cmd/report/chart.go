package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// The chart has a bar for each row that compares the libraries: the ratio on a
// logarithmic scale, 1 at the right end, and a tick where the goal is.
const (
	chartWidth  = 900
	labelWidth  = 380
	plotWidth   = 440
	barHeight   = 14
	lineHeight  = 20
	chartTop    = 50
	chartFloor  = 0.0001 // left end of the scale
	colorBetter = "#2a7f62"
	colorMissed = "#c4682d"
)

// chartX is where a ratio lies on the plot, counted from its left end.
func chartX(ratio float64) float64 {
	ratio = min(max(ratio, chartFloor), 1)
	return plotWidth * (1 - math.Log10(ratio)/math.Log10(chartFloor))
}

func writeChart(w io.Writer, results []result) error {
	var bars []result
	for _, r := range results {
		if r.ratio > 0 && r.measured() {
			bars = append(bars, r)
		}
	}
	height := chartTop + len(bars)*lineHeight + 20
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", chartWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", chartWidth, height)
	fmt.Fprintf(&b, `<text x="%d" y="18" fill="#222222">Ours / theirs, logarithmic: shorter is better. The black tick is the goal.</text>`+"\n", 10)
	writeGrid(&b, height)
	for i, r := range bars {
		writeBar(&b, chartTop+i*lineHeight, r)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func writeGrid(b *strings.Builder, height int) {
	for ratio := 1.0; ratio >= chartFloor*0.99; ratio /= 10 {
		x := labelWidth + chartX(ratio)
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#dddddd"/>`+"\n", x, chartTop-6, x, height-16)
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#666666">%.4g</text>`+"\n", x, chartTop-12, ratio)
	}
}

func writeBar(b *strings.Builder, y int, r result) {
	color := colorBetter
	if !r.reached() {
		color = colorMissed
	}
	x, goal := chartX(r.ratioOf()), labelWidth+chartX(r.ratio)
	label := html.EscapeString(strings.ReplaceAll(r.work, "`", ""))
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" fill="#222222">%s</text>`+"\n", labelWidth-8, y+11, label)
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, y, x, barHeight, color)
	fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#000000" stroke-width="2"/>`+"\n", goal, y-2, goal, y+barHeight+2)
	fmt.Fprintf(b, `<text x="%.1f" y="%d" fill="#222222">%s</text>`+"\n", labelWidth+plotWidth+8.0, y+11, formatRatio(r.ratioOf()))
}
