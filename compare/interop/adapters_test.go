package interop_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write generated files anew")

// TestAdaptersAreOneText proves that both libraries are driven by the same
// program text: the second adapter is the first with two names exchanged.
func TestAdaptersAreOneText(t *testing.T) {
	text, err := os.ReadFile("reference/adapter.go")
	require.NoError(t, err)
	want := strings.NewReplacer(
		"package reference\n", "package ours\n",
		"// Package reference is one", "// Package ours is one",
		`"github.com/hashicorp/memberlist"`+"\n", `"github.com/seed-83836a96/memberlist"`+"\n",
		`return "reference"`, `return "ours"`,
	).Replace(string(text))
	if *update {
		require.NoError(t, os.WriteFile("ours/adapter.go", []byte(want), 0o644))
	}
	got, err := os.ReadFile("ours/adapter.go")
	require.NoError(t, err)
	require.Equal(t, want, string(got), "go test ./interop -run Adapters -update")
}
