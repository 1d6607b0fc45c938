package hostile

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the documentation promises of this library holds with little input, and the
// input is such that v0.7.0 does not hold it, where that is so at all.
func TestLimitsHoldHereAndNotInTheReference(t *testing.T) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			ours := c.Run(t, Ours{}, true)
			t.Logf("here: %d bytes in: %s, %s", ours.In, c.cell(ours), formatCPU(ours.CPU))
			require.NoError(t, c.Check(ours))
			theirs := c.Run(t, Theirs{}, true)
			t.Logf("v0.7.0: %d bytes in: %s, %s", theirs.In, c.cell(theirs), formatCPU(theirs.CPU))
			if !c.harmless {
				require.Error(t, c.Check(theirs))
			}
		})
	}
}

func TestCheckRefusesWhatIsOverTheLimitWasStoppedOrFailed(t *testing.T) {
	c := &Case{Name: "x", Limit: 10}
	require.NoError(t, c.Check(Outcome{Amount: 10}))
	require.Error(t, c.Check(Outcome{Amount: 11}))
	require.Error(t, c.Check(Outcome{Amount: 1, Stopped: true}))
	require.Error(t, c.Check(Outcome{Amount: 1, Failed: true}))
}

func TestMedianIsTheOutcomeInTheMiddle(t *testing.T) {
	m := Median([]Outcome{{Amount: 3, CPU: 1}, {Amount: 1, CPU: 2}, {Amount: 2, CPU: 3, Note: "middle"}})
	require.Equal(t, Outcome{Amount: 2, CPU: 2, Note: "middle"}, m)
}

// The document of the repository has a row and an explanation for each case.
func TestDocumentListsEveryCase(t *testing.T) {
	var written bytes.Buffer
	results := make([]Result, len(Cases()))
	for i, c := range Cases() {
		results[i] = Result{Case: c}
	}
	require.NoError(t, Write(&written, Facts{}, results))
	kept, err := os.ReadFile("../../docs/hostile.md")
	require.NoError(t, err)
	for _, c := range Cases() {
		for _, text := range []string{written.String(), string(kept)} {
			require.Contains(t, text, "| ["+c.Title+"](#"+c.Name+") |")
			require.Contains(t, text, c.Why+"\n*Bound:* "+c.Bound)
		}
	}
}

// The adapters are the same text but for the library.
func TestAdaptersAreAlike(t *testing.T) {
	theirs, err := os.ReadFile("theirs.go")
	require.NoError(t, err)
	ours, err := os.ReadFile("ours.go")
	require.NoError(t, err)
	translated := strings.NewReplacer(
		`github.com/hashicorp/memberlist"`, `github.com/seed-83836a96/memberlist"`,
		"Theirs is github.com/hashicorp/memberlist.", "Ours is this library.",
		"Theirs", "Ours", "theirN", "ourN", "theirT", "ourT", "theirB", "ourB", "TheirT", "OurT", `"v0.7.0"`, `"here"`,
	).Replace(string(theirs))
	require.Equal(t, translated, string(ours))
}
