//go:build race

package interop_test

// raceEnabled says whether the race detector is on.
const raceEnabled = true
