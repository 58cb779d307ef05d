package fuse

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strakefs/strake/test/posix"
)

// TestPosix runs the table of POSIX tests through the kernel over the model.
func TestPosix(t *testing.T) { runPosix(t, map[string]string{}) }

// TestPosixWriteback does so with the kernel holding writes back.
func TestPosixWriteback(t *testing.T) {
	runPosix(t, map[string]string{
		"TimesChange": "the kernel stamps with its own clock, whose ticks are milliseconds apart",
	}, writebackEnv+"=1")
}

func runPosix(t *testing.T, skip map[string]string, env ...string) {
	needMount(t)
	dir := mountPoint(t)
	cmd := startServer(t, dir, env...)
	skip["ReplaceIsAtomic"] = "the model forgets an inode with its last name, even where the kernel is about to open it"
	posix.Run(t, dir, posix.Options{
		Names: 3000, // the model sorts a directory at each read of it
		Skip:  skip,
	})
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
}
