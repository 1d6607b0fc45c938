package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	memberlistPath    = "github.com/hashicorp/memberlist"
	memberlistVersion = "v0.7.0"
	ourPath           = "github.com/seed-83836a96/memberlist"
)

// workspace is the two copies of the program, built, and where their tests run.
type workspace struct {
	theirs, ours suite
	sandbox      sandbox
}

// prepare fetches, copies and builds. It fills in what s leaves open.
func prepare(ctx context.Context, s *settings) (*workspace, func(), error) {
	if err := s.complete(ctx); err != nil {
		return nil, nil, err
	}
	root, cleanup := s.dir, func() {}
	if root == "" {
		dir, err := os.MkdirTemp("", "suite")
		if err != nil {
			return nil, nil, err
		}
		root, cleanup = dir, func() { os.RemoveAll(dir) }
	}
	w := &workspace{
		theirs:  suite{module: s.module, dir: filepath.Join(root, "theirs")},
		ours:    suite{module: s.module, dir: filepath.Join(root, "ours")},
		sandbox: findSandbox(),
	}
	if err := w.fill(ctx, s); err != nil {
		cleanup()
		return nil, nil, err
	}
	return w, cleanup, nil
}

func (s *settings) complete(ctx context.Context) error {
	if s.checkout == "" {
		dir, err := output(ctx, ".", "go", "list", "-m", "-f", "{{.Dir}}", ourPath)
		if err != nil {
			return err
		}
		s.checkout = dir
	}
	dir, err := filepath.Abs(s.checkout)
	if err != nil {
		return err
	}
	s.checkout = dir
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return fmt.Errorf("the checkout is no module: %w", err)
	}
	return nil
}

func (w *workspace) fill(ctx context.Context, s *settings) error {
	source, err := fetch(ctx, s.module+"@"+s.version)
	if err != nil {
		return err
	}
	get := append([]string{"get", memberlistPath + "@" + memberlistVersion}, s.get...)
	for _, one := range []suite{w.theirs, w.ours} {
		if err := copyModule(source, one.dir); err != nil {
			return err
		}
		if _, err := output(ctx, one.dir, "go", get...); err != nil {
			return err
		}
	}
	if _, err := output(ctx, w.ours.dir, "go", "mod", "edit", "-replace", memberlistPath+"="+s.checkout); err != nil {
		return err
	}
	for _, one := range []*suite{&w.theirs, &w.ours} {
		if err := one.build(ctx, s); err != nil {
			return err
		}
	}
	return errors.Join(w.theirs.mustUse(ctx, memberlistVersion), w.ours.mustUse(ctx, s.checkout))
}

// fetch has the go command put a module into its cache and says where.
func fetch(ctx context.Context, module string) (string, error) {
	out, err := output(ctx, os.TempDir(), "go", "mod", "download", "-json", module)
	if err != nil {
		return "", err
	}
	var found struct{ Dir, Error string }
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		return "", err
	}
	if found.Error != "" {
		return "", errors.New(found.Error)
	}
	return found.Dir, nil
}

// copyModule copies a module out of the cache, where files cannot be written.
func copyModule(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), content, info.Mode().Perm()|0o600)
	})
}

// output runs a command and returns what it prints, without the last newline.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return strings.TrimRight(string(out), "\n"), nil
}

// sandbox is a command line in front of the tests'.
type sandbox []string

// findSandbox tries whether a network namespace can be had, as root or as one who is
// root in it only. Its loopback interface has multicast, for Serf's test of discovery,
// and a private address, without which Alertmanager's tests of a cluster skip.
func findSandbox() sandbox {
	const setUp = "ip link set lo up && { ip address add 10.0.0.1/32 dev lo; " +
		"ip link set lo multicast on && ip route add 224.0.0.0/4 dev lo; :; } && exec \"$@\""
	for _, options := range []string{"-n", "-rn"} {
		s := sandbox{"unshare", options, "sh", "-c", setUp, "sh"}
		if exec.Command(s[0], append(s[1:], "true")...).Run() == nil {
			return s
		}
	}
	return nil
}

func (s sandbox) String() string {
	if s == nil {
		return "the machine's own (no namespace: unshare -n is not possible here)"
	}
	return "a namespace with nothing but loopback"
}
