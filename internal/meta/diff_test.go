package meta

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
)

func (f *fixture) diff(from, to fsapi.SnapshotID) (list []string) {
	f.t.Helper()
	err := f.s.Diff(context.Background(), f.vol, from, to, func(d Difference) error {
		text := fmt.Sprintf("%s %s", d.Kind, d.Path)
		if d.From != "" {
			text += " from " + d.From
		}
		list = append(list, text)
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func (f *fixture) link(ino, dir fsapi.Ino, name string) {
	f.t.Helper()
	f.do(func(tx *Tx) error {
		d, err := tx.Inode(dir)
		if err != nil {
			return err
		}
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		return tx.Link(d, name, in)
	})
}

func (f *fixture) change(ino fsapi.Ino, fn func(tx *Tx, in *Inode) error) {
	f.t.Helper()
	f.do(func(tx *Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		if err := fn(tx, in); err != nil {
			return err
		}
		return tx.SetInode(in)
	})
}

func TestDiff(t *testing.T) {
	f := newFixture(t)
	dir := f.make(fsapi.RootIno, "dir", fsapi.TypeDirectory)
	moved := f.make(fsapi.RootIno, "moved", fsapi.TypeDirectory)
	f.make(moved, "inside", fsapi.TypeRegular)
	written := f.make(dir, "written", fsapi.TypeRegular)
	read := f.make(dir, "read", fsapi.TypeRegular)
	hard := f.make(dir, "hard", fsapi.TypeRegular)
	f.link(hard, dir, "hard2")
	f.make(dir, "gone", fsapi.TypeRegular)
	f.make(dir, "renamed", fsapi.TypeRegular)
	f.make(dir, "into", fsapi.TypeRegular)
	f.make(dir, "replaced", fsapi.TypeRegular)
	labelled := f.make(dir, "labelled", fsapi.TypeDirectory)
	f.change(labelled, func(tx *Tx, in *Inode) error { return tx.SetXattr(in, "user.a", []byte("1")) })
	a := f.snapshot("a")
	if d := f.diff(a, 0); d != nil {
		t.Fatalf("nothing changed, and it says %q", d)
	}

	f.change(written, func(tx *Tx, in *Inode) error { in.Mtime, in.Ctime = tx.Now(), tx.Now(); return nil })
	f.change(read, func(tx *Tx, in *Inode) error { in.Atime = tx.Now(); return nil })
	f.change(hard, func(tx *Tx, in *Inode) error { in.Size, in.Ctime = 5, tx.Now(); return nil })
	f.change(labelled, func(tx *Tx, in *Inode) error { return tx.SetXattr(in, "user.a", []byte("2")) })
	f.make(dir, "replaced.new", fsapi.TypeRegular)
	f.do(func(tx *Tx) error {
		d, err := tx.Inode(dir)
		if err != nil {
			return err
		}
		in, err := tx.Lookup(dir, "replaced.new")
		if err != nil {
			return err
		}
		old, err := tx.Lookup(dir, "replaced")
		if err != nil {
			return err
		}
		return tx.Rename(d, "replaced.new", in, d, "replaced", old, false, KeepTrash)
	})
	b := f.snapshot("b")
	first := []string{"modified /dir/hard", "modified /dir/labelled", "modified /dir/replaced", "modified /dir/written"}
	if d := cmp.Diff(first, f.diff(a, b)); d != "" {
		t.Errorf("from a to b (-want +got):\n%s", d)
	}

	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fresh := f.make(dir, "new", fsapi.TypeDirectory)
	f.make(fresh, "x", fsapi.TypeRegular)
	f.make(f.make(fresh, "deep", fsapi.TypeDirectory), "y", fsapi.TypeRegular)
	must(f.rename(dir, "into", fresh, "into"))
	must(f.rename(dir, "renamed", dir, "name"))
	must(f.rename(fsapi.RootIno, "moved", dir, "there"))
	f.link(written, dir, "second")
	f.make(dir, "came and went", fsapi.TypeRegular)
	for _, name := range []string{"came and went", "gone"} {
		if err := f.remove(dir, name, KeepTrash); err != nil {
			t.Fatal(err)
		}
	}
	second := []string{
		"created /dir/new", "created /dir/new/deep", "created /dir/new/deep/y", "created /dir/new/x", "created /dir/second",
		"removed /dir/gone",
		"renamed /dir/name from /dir/renamed", "renamed /dir/new/into from /dir/into", "renamed /dir/there from /moved",
	}
	if d := cmp.Diff(second, f.diff(b, 0)); d != "" {
		t.Errorf("from b to now (-want +got):\n%s", d)
	}
	both := slices.Concat(first, second)
	slices.Sort(both)
	both = slices.Compact(both)
	if d := cmp.Diff(both, f.diff(a, 0)); d != "" {
		t.Errorf("from a to now (-want +got):\n%s", d)
	}
	// A snapshot between two that goes takes nothing from what is between them.
	ctx := context.Background()
	if err := f.s.DeleteSnapshot(ctx, f.vol, b); err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		if d := cmp.Diff(both, f.diff(a, 0)); d != "" {
			t.Fatalf("while b is being deleted (-want +got):\n%s", d)
		}
		var err error
		if more, err = f.s.ReclaimSnapshots(ctx, f.vol, 3); err != nil {
			t.Fatal(err)
		}
	}
	f.allClean()
}
