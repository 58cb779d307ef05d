package fuse

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strakefs/strake/test/posix"
)

// TestPosix runs the table of POSIX tests through the kernel over the model.
func TestPosix(t *testing.T) {
	needMount(t)
	dir := mountPoint(t)
	cmd := startServer(t, dir)
	posix.Run(t, dir, posix.Options{
		Names: 3000, // the model sorts a directory at each read of it
		Skip: map[string]string{
			"ReplaceIsAtomic": "the model forgets an inode with its last name, even where the kernel is about to open it",
		},
	})
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
}
