package interop_test

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist/compare/interop/swap"
)

// TestProgramsOnOurs runs package programs, which imports
// github.com/hashicorp/memberlist and knows nothing of us, on our library by one
// replace directive.
func TestProgramsOnOurs(t *testing.T) {
	enter(t, "list", rowPrograms, "")
	modfile, err := swap.Modfile(t.TempDir())
	require.NoError(t, err)
	args := []string{"test", "-count=1", "-mod=mod", "-modfile", modfile}
	if raceEnabled {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "./programs")...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%s", out)
}
