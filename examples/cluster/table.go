package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/seed-83836a96/memberlist"
)

// widestTable is up to how many nodes each gets a column of its own.
const widestTable = 8

// row is what one node sees.
type row struct {
	observer string
	views    map[string]view
	messages int
}

// printTable prints a row for each observer: its view of each node while these
// fit side by side, else how many it sees in each state.
func printTable(out io.Writer, names []string, rows []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	cells := detailed(names)
	if len(names) > widestTable {
		cells = summed()
	}
	fmt.Fprintf(w, "      \t%s\tmessages\n", strings.Join(cells.head, "\t"))
	for _, r := range rows {
		fmt.Fprintf(w, "      %s\t%s\t%d\n", r.observer, strings.Join(cells.of(r.views), "\t"), r.messages)
	}
	return w.Flush()
}

// columns are the middle of a table: a heading and how a row is filled in.
type columns struct {
	head []string
	of   func(map[string]view) []string
}

func detailed(names []string) columns {
	return columns{head: names, of: func(views map[string]view) []string {
		cells := make([]string, len(names))
		for i, name := range names {
			cells[i] = "-"
			if v, known := views[name]; known {
				cells[i] = strings.TrimSpace(v.state.String() + " " + v.meta)
			}
		}
		return cells
	}}
}

func summed() columns {
	states := []memberlist.NodeStateType{
		memberlist.StateAlive, memberlist.StateSuspect, memberlist.StateDead, memberlist.StateLeft,
	}
	var head []string
	for _, state := range states {
		head = append(head, state.String())
	}
	return columns{head: head, of: func(views map[string]view) []string {
		count := map[memberlist.NodeStateType]int{}
		for _, v := range views {
			count[v.state]++
		}
		var cells []string
		for _, state := range states {
			cells = append(cells, fmt.Sprint(count[state]))
		}
		return cells
	}}
}
