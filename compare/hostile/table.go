package hostile

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Result is a case with the medians for both libraries.
type Result struct {
	*Case
	Theirs, Ours Outcome
}

// Facts say where and with what was measured.
type Facts struct {
	Date, Machine, Go, Theirs string
	Rounds                    int
}

const intro = `# Hostile input

What input that nobody sends by accident makes a node hold, send, log or lose: this
library beside hashicorp/memberlist v0.7.0. ` + "`make hostile`" + ` measures it and writes this
page; the tests run the same cases with less input and fail if a bound does not hold.

- date: %s
- machine: %s
- Go: %s
- theirs: github.com/hashicorp/memberlist %s

Both libraries get the same bytes in the same run, turn about, with the LAN preset. Each
figure is the median of %d rounds, or of one where the experiment was *stopped* since
nothing changed any more. Nodes are seen from outside: by their API, what they send,
their log and the heap of the process. The network is in memory and time is virtual, so
waiting costs nothing. *CPU* is the processor time of the whole process until the input
has been handled; making the input is left out.

Without keys, whoever can send to a node can send all of this. With keys it takes a key,
but for connections, frames, bad packets and relabelled ones.

| input | bytes in | measured | v0.7.0 | here | CPU v0.7.0 | CPU here |
|---|--:|---|--:|--:|--:|--:|
`

const outro = `
## What each does, and the bound

Constants and fields of ` + "`Config`" + ` are named where there is one to set.

`

const unbounded = `
## What has no bound

- **The number of members.** Whoever may speak can make up members. They cost some hundred
  bytes each, and their names, until they are probed and found dead. ` + "`AliveDelegate`, `CIDRsAllowed`" + `
  and keys are the means against it.
- **Work that is in proportion to the input.** A flood of valid packets is handled until the
  socket's buffer overflows.
- **What programs do** with user messages and user state of up to 20 MiB on a stream.
`

// Write writes the document.
func Write(w io.Writer, f Facts, results []Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, intro, f.Date, f.Machine, f.Go, f.Theirs, f.Rounds)
	for _, r := range results {
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s | %s | %s | %s |\n", r.Title, r.Name, formatAmount(float64(r.Ours.In), Bytes), r.What,
			r.cell(r.Theirs), r.cell(r.Ours), formatCPU(r.Theirs.CPU), formatCPU(r.Ours.CPU))
	}
	b.WriteString(outro)
	for _, r := range results {
		fmt.Fprintf(&b, "<a id=\"%s\"></a>\n**%s.** %s. %s\n*Bound:* %s\n\n", r.Name, r.Title, r.Input, r.Why, r.Bound)
	}
	b.WriteString(strings.TrimPrefix(unbounded, "\n"))
	_, err := io.WriteString(w, b.String())
	return err
}

// cell is what the table says of an outcome.
func (c *Case) cell(o Outcome) string {
	if o.Note == "" {
		return c.format(o)
	}
	return c.format(o) + "; " + o.Note
}

func (c *Case) format(o Outcome) string {
	text := formatAmount(o.Amount, c.Unit)
	if o.Stopped {
		text = "> " + text + ", stopped"
	}
	return text
}

func formatAmount(v float64, u Unit) string {
	switch u {
	case Number:
		return fmt.Sprintf("%.0f", v)
	case Seconds:
		return formatSeconds(v)
	}
	return formatBytes(v)
}

func formatSeconds(v float64) string {
	switch {
	case v >= 3600:
		return fmt.Sprintf("%.3g h", v/3600)
	case v >= 120:
		return fmt.Sprintf("%.3g min", v/60)
	}
	return fmt.Sprintf("%.2g s", v)
}

func formatBytes(v float64) string {
	units := []string{"B", "KiB", "MiB", "GiB"}
	i := 0
	for v >= 1000 && i < len(units)-1 {
		v /= 1024
		i++
	}
	if v >= 100 {
		return fmt.Sprintf("%.0f %s", v, units[i])
	}
	return fmt.Sprintf("%.3g %s", v, units[i])
}

// formatCPU leaves out what was not measured.
func formatCPU(d time.Duration) string {
	switch ms := float64(d) / 1e6; {
	case d == 0:
		return ""
	case ms < 10:
		return fmt.Sprintf("%.2g ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}
