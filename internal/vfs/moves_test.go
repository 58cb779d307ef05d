package vfs_test

import (
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Moves counts what gets another parent, and nothing else.
func TestMoves(t *testing.T) {
	r := newRig(t, rigOptions{options: idle})
	f := r.create("f")
	r.ok(f.Close())
	dir, err := r.fs.Mknod(r.ctx, fsapi.Root, fsapi.RootIno, "dir", vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
	r.ok(err)
	start := r.fs.Moves()
	r.ok(r.fs.Rename(r.ctx, fsapi.Root, fsapi.RootIno, "f", fsapi.RootIno, "g", 0))
	if n := r.fs.Moves(); n != start {
		t.Errorf("a rename within a directory counts: %d, was %d", n, start)
	}
	r.ok(r.fs.Rename(r.ctx, fsapi.Root, fsapi.RootIno, "g", dir.Ino, "g", 0))
	if n := r.fs.Moves(); n == start {
		t.Error("a move does not count")
	}
	start = r.fs.Moves()
	r.fails(fsapi.NotExist, r.fs.Rename(r.ctx, fsapi.Root, fsapi.RootIno, "g", dir.Ino, "h", vfs.RenameFlags(0)))
	if n := r.fs.Moves(); n != start {
		t.Errorf("a rename that failed counts")
	}
}
