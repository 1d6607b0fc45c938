// Package swap builds programs that import github.com/hashicorp/memberlist on
// this repository's library: with a module file in which one replace directive
// is added, just as the owner of such a program would do it.
package swap

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	theirPath = "github.com/hashicorp/memberlist"
	ourPath   = "github.com/seed-83836a96/memberlist"
)

// Modfile writes a module file for -modfile (and the sums beside it) into dir
// and returns its name. It is this module's own file, in which the library
// stands under its own path: that goes, since a directory can replace one path
// only, and the replace directive for the other path comes.
func Modfile(dir string) (string, error) {
	own, err := goOutput("list", "-m", "-f", "{{.GoMod}}")
	if err != nil {
		return "", err
	}
	checkout, err := goOutput("list", "-m", "-f", "{{.Dir}}", ourPath)
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "swapped.mod")
	for from, to := range map[string]string{
		own:                                      name,
		strings.TrimSuffix(own, ".mod") + ".sum": filepath.Join(dir, "swapped.sum"),
	} {
		content, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(to, content, 0o644); err != nil {
			return "", err
		}
	}
	_, err = goOutput("mod", "edit", "-droprequire="+ourPath, "-dropreplace="+ourPath,
		"-replace="+theirPath+"="+checkout, name)
	return name, err
}

func goOutput(args ...string) (string, error) {
	out, err := exec.Command("go", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
