package meta

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
)

func TestCreateLookupReadDir(t *testing.T) {
	f := newFixture(t)
	d := f.make(fsapi.RootIno, "dir", fsapi.TypeDirectory)
	a := f.make(d, "a", fsapi.TypeRegular)
	f.make(d, "b", fsapi.TypeDirectory)
	f.make(d, "c", fsapi.TypeFIFO)
	if got := f.attr(d).Nlink; got != 3 {
		t.Errorf("directory with one subdirectory has %d links, want 3", got)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, f.names(d)); diff != "" {
		t.Error(diff)
	}
	f.view(func(tx *Tx) error {
		in, err := tx.Lookup(d, "a")
		if err != nil || in.Ino != a {
			t.Errorf("lookup a: %v, %v", in, err)
		}
		if _, err := tx.Lookup(d, "x"); !errors.Is(err, fsapi.NotExist) || fsapi.KindOf(err) != fsapi.NotExist {
			t.Errorf("lookup of a missing name: %v", err)
		}
		ents, err := tx.ReadDir(d, "a", 1)
		if err != nil || len(ents) != 1 || ents[0].Name != "b" || ents[0].Attr.Ino != ents[0].Ino {
			t.Errorf("page after a: %+v, %v", ents, err)
		}
		name, err := tx.NameAt(d, ents[0].Cookie)
		if err != nil || name != "b" {
			t.Errorf("name at cookie of b: %q, %v", name, err)
		}
		return nil
	})
	err := f.try(func(tx *Tx) error {
		dir, _ := tx.Inode(d)
		_, err := tx.Create(dir, "a", NewInode{Type: fsapi.TypeRegular})
		return err
	})
	if !errors.Is(err, fsapi.Exist) {
		t.Errorf("second create: %v", err)
	}
	if err := f.remove(fsapi.RootIno, "dir", KeepNone); !errors.Is(err, fsapi.NotEmpty) {
		t.Errorf("rmdir of a directory with names: %v", err)
	}
}

func TestLinkKeepsOnePrimaryName(t *testing.T) {
	f := newFixture(t)
	d := f.make(fsapi.RootIno, "d", fsapi.TypeDirectory)
	a := f.make(fsapi.RootIno, "a", fsapi.TypeRegular)
	f.write(a, 0, 4096, 1)
	f.do(func(tx *Tx) error {
		dir, _ := tx.Inode(d)
		in, _ := tx.Inode(a)
		return tx.Link(dir, "b", in)
	})
	if got := f.attr(a).Nlink; got != 2 {
		t.Fatalf("%d links, want 2", got)
	}
	f.view(func(tx *Tx) error {
		ents, err := tx.ReadDir(d, "", 10)
		if err != nil || len(ents) != 1 || ents[0].Attr.Nlink != 2 || ents[0].Attr.Used != 4096 {
			t.Errorf("readdir of a hard link: %+v, %v", ents, err)
		}
		return nil
	})
	if err := f.remove(fsapi.RootIno, "a", KeepNone); err != nil {
		t.Fatal(err)
	}
	f.view(func(tx *Tx) error {
		in, err := tx.Inode(a)
		if err != nil || in.Nlink != 1 || in.Parent != d || in.Name != "b" {
			t.Errorf("after the first name went: %+v, %v", in, err)
		}
		return nil
	})
	f.clean()
}

func TestRenameReplacesAndExchanges(t *testing.T) {
	f := newFixture(t)
	d := f.make(fsapi.RootIno, "d", fsapi.TypeDirectory)
	e := f.make(fsapi.RootIno, "e", fsapi.TypeDirectory)
	a := f.make(d, "a", fsapi.TypeRegular)
	b := f.make(e, "b", fsapi.TypeRegular)
	sub := f.make(d, "sub", fsapi.TypeDirectory)
	rename := func(from fsapi.Ino, fn string, to fsapi.Ino, tn string, exchange bool) error {
		return f.try(func(tx *Tx) error {
			fd, _ := tx.Inode(from)
			td, _ := tx.Inode(to)
			in, err := tx.Lookup(from, fn)
			if err != nil {
				return err
			}
			victim, err := tx.Lookup(to, tn)
			if err != nil && !errors.Is(err, fsapi.NotExist) {
				return err
			}
			return tx.Rename(fd, fn, in, td, tn, victim, exchange, KeepNone)
		})
	}
	if err := rename(d, "a", e, "b", false); err != nil {
		t.Fatal(err)
	}
	f.view(func(tx *Tx) error {
		if in, err := tx.Lookup(e, "b"); err != nil || in.Ino != a {
			t.Errorf("e/b is %v, %v; want %d", in, err, a)
		}
		if _, err := tx.Inode(b); !errors.Is(err, fsapi.Stale) {
			t.Errorf("the replaced file: %v", err)
		}
		return nil
	})
	if err := rename(d, "sub", e, "b", true); err != nil {
		t.Fatal(err)
	}
	if f.attr(d).Nlink != 2 || f.attr(e).Nlink != 3 {
		t.Errorf("links after exchange of a file and a directory: %d and %d, want 2 and 3", f.attr(d).Nlink, f.attr(e).Nlink)
	}
	f.view(func(tx *Tx) error {
		if up, err := tx.IsAncestor(e, sub); err != nil || !up {
			t.Errorf("e above e/sub: %v, %v", up, err)
		}
		if up, err := tx.IsAncestor(d, sub); err != nil || up {
			t.Errorf("d above e/sub: %v, %v", up, err)
		}
		return nil
	})
	f.clean()
}

func TestOrphanLivesUntilDropped(t *testing.T) {
	f := newFixture(t)
	a := f.make(fsapi.RootIno, "a", fsapi.TypeRegular)
	f.write(a, 0, 4096, 1)
	if err := f.remove(fsapi.RootIno, "a", KeepOrphan); err != nil {
		t.Fatal(err)
	}
	f.write(a, 4096, 4096, 1)
	if at := f.attr(a); at.Nlink != 0 || at.Used != 8192 {
		t.Errorf("orphan: %+v", at)
	}
	f.clean()
	f.do(func(tx *Tx) error {
		list, err := tx.Orphans(0, 10)
		if err != nil || len(list) != 1 || list[0] != a {
			t.Errorf("orphans: %v, %v", list, err)
		}
		return tx.DropOrphan(a)
	})
	f.clean()
	f.reclaim()
	if n, _, err := f.s.SweepChunks(context.Background(), 100); err != nil || n != 1 {
		t.Errorf("swept %d chunks, %v; want 1", n, err)
	}
	f.clean()
}

func (f *fixture) reclaim() {
	f.t.Helper()
	for more := true; more; {
		f.do(func(tx *Tx) (err error) {
			more, err = tx.Reclaim(3)
			return err
		})
	}
}

func TestTrashRemembersWhereThingsWere(t *testing.T) {
	f := newFixture(t)
	d := f.make(fsapi.RootIno, "d", fsapi.TypeDirectory)
	e := f.make(d, "e", fsapi.TypeDirectory)
	a := f.make(e, "a", fsapi.TypeRegular)
	f.write(a, 0, 10, 1)
	for _, x := range []struct {
		dir  fsapi.Ino
		name string
	}{{e, "a"}, {d, "e"}, {fsapi.RootIno, "d"}} {
		if err := f.remove(x.dir, x.name, KeepTrash); err != nil {
			t.Fatal(err)
		}
	}
	f.clean()
	f.view(func(tx *Tx) error {
		list, err := tx.Trash(nil, 10)
		if err != nil || len(list) != 3 || list[0].Path != "d/e/a" || list[2].Path != "d" {
			t.Fatalf("trash: %+v, %v", list, err)
		}
		if !list[0].Expires.After(list[0].Deleted) {
			t.Errorf("expires %v, deleted %v", list[0].Expires, list[0].Deleted)
		}
		rest, err := tx.Trash(&list[0], 10)
		if err != nil || len(rest) != 2 || rest[0].Ino != e {
			t.Errorf("after the first: %+v, %v", rest, err)
		}
		up, err := tx.TrashParents(a)
		if err != nil || len(up) != 2 || up[0].Ino != d || up[1].Ino != e {
			t.Errorf("parents: %+v, %v", up, err)
		}
		return nil
	})
	f.do(func(tx *Tx) error {
		root, _ := tx.Inode(fsapi.RootIno)
		in, err := tx.RestoreTrash(a, root, "back")
		if err == nil && (in.Nlink != 1 || in.Parent != fsapi.RootIno) {
			t.Errorf("restored: %+v", in)
		}
		if err := tx.TrashDrop(e); err != nil {
			t.Error(err)
		}
		return err
	})
	f.clean()
}
