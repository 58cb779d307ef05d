package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// buildEnv keeps every cache of the go command on the mount, and uses the
// toolchain that was copied there.
func buildEnv(d string) []string {
	return []string{
		"GOROOT=" + filepath.Join(d, "go"), "GOCACHE=" + filepath.Join(d, "cache"), "GOMODCACHE=" + filepath.Join(d, "mod"),
		"GOPATH=" + filepath.Join(d, "path"), "GOFLAGS=-modcacherw -buildvcs=false", "TMPDIR=" + d, "GOTOOLCHAIN=local",
	}
}

// program is a small Go module with a dependency, so that the module cache is
// used.
var program = map[string]string{
	"go.mod": "module example.org/hello\n\ngo 1.25\n",
	"main.go": `package main

import (
	"fmt"

	"golang.org/x/sync/errgroup"
)

func main() {
	var g errgroup.Group
	g.Go(func() error { fmt.Println("built on the mount"); return nil })
	if err := g.Wait(); err != nil {
		panic(err)
	}
}
`,
}

func prepareBuild(r *rig, name string) (string, error) {
	d, err := r.dir(name)
	if err != nil {
		return "", err
	}
	if err := copyTree(r.ctx, goroot(), filepath.Join(d, "go"), nil); err != nil {
		return "", err
	}
	src := filepath.Join(d, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		return "", err
	}
	for name, text := range program {
		if err := os.WriteFile(filepath.Join(src, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return d, nil
}

func build(ctx context.Context, d string) error {
	src, gobin := filepath.Join(d, "src"), filepath.Join(d, "go", "bin", "go")
	if _, err := cmd(ctx, src, buildEnv(d), gobin, "get", "golang.org/x/sync/errgroup@v0.10.0"); err != nil {
		return err
	}
	if _, err := cmd(ctx, src, buildEnv(d), gobin, "build", "-o", "hello", "."); err != nil {
		return err
	}
	out, err := cmd(ctx, src, nil, "./hello")
	if err == nil && strings.TrimSpace(out) != "built on the mount" {
		err = fmt.Errorf("the program printed %q", out)
	}
	return err
}

func buildWhole(r *rig) error {
	d, err := prepareBuild(r, "build")
	if err != nil {
		return err
	}
	return build(r.ctx, d)
}

// buildInterrupted builds over and over with a fresh cache until the kill.
// Nothing of a build is acknowledged, but a torn cache must not break the next
// one: the go command believes what it finds.
func buildInterrupted(ctx context.Context, r *rig) (func() error, error) {
	d := filepath.Join(r.mnt, "build")
	if _, err := os.Stat(d); err != nil {
		return nil, fmt.Errorf("the build before left nothing: %w", err)
	}
	for {
		if err := os.RemoveAll(filepath.Join(d, "cache")); err != nil {
			break
		}
		if err := build(ctx, d); err != nil {
			break
		}
	}
	return func() error { return build(r.ctx, d) }, nil
}

// gitEnv makes git sync everything it acknowledges.
var gitEnv = []string{
	"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org",
	"GIT_CONFIG_COUNT=3", "GIT_CONFIG_KEY_0=core.fsync", "GIT_CONFIG_VALUE_0=all", "GIT_CONFIG_KEY_1=gc.auto", "GIT_CONFIG_VALUE_1=0",
	"GIT_CONFIG_KEY_2=safe.directory", "GIT_CONFIG_VALUE_2=*",
}

func git(ctx context.Context, d string, args ...string) (string, error) {
	return cmd(ctx, d, gitEnv, "git", args...)
}

func gitWhole(r *rig) error {
	if err := need("git"); err != nil {
		return err
	}
	d, err := r.dir("git")
	if err != nil {
		return err
	}
	if err := copyTree(r.ctx, filepath.Join(goroot(), "src"), filepath.Join(d, "src"), nil); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"init", "-q"}, {"add", "."}, {"commit", "-qm", "all of it"}, {"gc", "-q"}, {"fsck", "--full", "--strict"}, {"status", "--porcelain"},
	} {
		out, err := git(r.ctx, d, args...)
		if err != nil {
			return err
		}
		if args[0] == "status" && out != "" {
			return fmt.Errorf("git status is not clean: %.200s", out)
		}
	}
	return nil
}

// gitInterrupted commits until the kill; every commit that git reported, and whose
// branch was synced then, must be there and whole. Git itself syncs what it writes,
// but not the directory in which it renames the branch.
func gitInterrupted(ctx context.Context, r *rig) (func() error, error) {
	if err := need("git"); err != nil {
		return nil, err
	}
	d, err := r.dir("git-killed")
	if err != nil {
		return nil, err
	}
	if _, err := git(ctx, d, "init", "-q"); err != nil {
		return nil, err
	}
	if err := fsyncAll(d, ".git"); err != nil { // git init syncs nothing
		return nil, err
	}
	acked := 0
	for i := 1; ; i++ {
		if err := os.WriteFile(filepath.Join(d, fmt.Sprintf("f%d", i)), []byte(strings.Repeat(strconv.Itoa(i), 5000)), 0o644); err != nil {
			break
		}
		if _, err := git(ctx, d, "add", "."); err != nil {
			break
		}
		if _, err := git(ctx, d, "commit", "-qm", strconv.Itoa(i)); err != nil {
			break
		}
		if err := fsync(filepath.Join(d, ".git", "refs", "heads")); err != nil {
			break
		}
		acked = i
	}
	return func() error {
		fmt.Printf("  %d commits were acknowledged before the kill\n", acked)
		os.Remove(filepath.Join(d, ".git", "index.lock"))
		os.Remove(filepath.Join(d, ".git", "HEAD.lock"))
		if _, err := git(r.ctx, d, "fsck", "--full"); err != nil {
			return err
		}
		out, err := git(r.ctx, d, "rev-list", "--count", "HEAD")
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSpace(out))
		if err == nil && (n < acked || acked == 0) {
			err = fmt.Errorf("%d commits are there, %d were acknowledged", n, acked)
		}
		return err
	}, nil
}
