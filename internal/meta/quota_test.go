package meta

import (
	"errors"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
)

func (f *fixture) setQuota(dir fsapi.Ino, q Quota) {
	f.t.Helper()
	f.do(func(tx *Tx) error {
		in, err := tx.Inode(dir)
		if err != nil {
			return err
		}
		return tx.SetQuota(in, q)
	})
}

func (f *fixture) usage(dir fsapi.Ino) (u fsapi.Usage) {
	f.t.Helper()
	f.view(func(tx *Tx) (err error) {
		u, err = tx.Usage(dir)
		return err
	})
	return u
}

func (f *fixture) rename(from fsapi.Ino, fn string, to fsapi.Ino, tn string) error {
	return f.try(func(tx *Tx) error {
		fd, err := tx.Inode(from)
		if err != nil {
			return err
		}
		td, err := tx.Inode(to)
		if err != nil {
			return err
		}
		in, err := tx.Lookup(from, fn)
		if err != nil {
			return err
		}
		return tx.Rename(fd, fn, in, td, tn, nil, false, KeepNone)
	})
}

func (f *fixture) fallocate(ino fsapi.Ino, n int64) error {
	return f.try(func(tx *Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		return tx.SetExtents(in, 0, n, []fsapi.Extent{{Len: n, Kind: fsapi.ExtentUnwritten}})
	})
}

func TestQuotaOnExistingTreeAndItsBoundary(t *testing.T) {
	f := newFixture(t)
	d := f.make(fsapi.RootIno, "d", fsapi.TypeDirectory)
	e := f.make(d, "e", fsapi.TypeDirectory)
	a := f.make(e, "a", fsapi.TypeRegular)
	out := f.make(fsapi.RootIno, "out", fsapi.TypeRegular)
	for _, ino := range []fsapi.Ino{a, out} {
		if err := f.fallocate(ino, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.usage(d); got != (fsapi.Usage{Bytes: 1000, Inodes: 2}) {
		t.Errorf("usage without a quota: %+v", got)
	}
	f.setQuota(d, Quota{Bytes: 1500, Inodes: 4})
	if got := f.usage(d); got != (fsapi.Usage{Bytes: 1000, Inodes: 2}) {
		t.Errorf("usage with a quota: %+v", got)
	}
	if err := f.fallocate(a, 1501); !errors.Is(err, fsapi.Quota) {
		t.Errorf("growing over the quota: %v", err)
	}
	if err := f.rename(fsapi.RootIno, "out", e, "out"); !errors.Is(err, fsapi.Quota) {
		t.Errorf("moving a file in over the quota: %v", err)
	}
	if err := f.rename(d, "e", fsapi.RootIno, "e"); !errors.Is(err, fsapi.CrossDevice) {
		t.Errorf("moving a directory out: %v", err)
	}
	if err := f.rename(e, "a", fsapi.RootIno, "a"); err != nil {
		t.Errorf("moving a file out: %v", err)
	}
	if got := f.usage(d); got != (fsapi.Usage{Inodes: 1}) {
		t.Errorf("usage after a file moved out: %+v", got)
	}
	f.make(e, "x", fsapi.TypeFIFO)
	f.make(e, "y", fsapi.TypeFIFO)
	f.make(d, "z", fsapi.TypeFIFO)
	err := f.try(func(tx *Tx) error {
		dir, _ := tx.Inode(e)
		_, err := tx.Create(dir, "w", NewInode{Type: fsapi.TypeFIFO})
		return err
	})
	if !errors.Is(err, fsapi.Quota) {
		t.Errorf("one inode too many: %v", err)
	}
	f.view(func(tx *Tx) error {
		in, _ := tx.Inode(e)
		dir, q, err := tx.NearestQuota(in)
		if err != nil || dir != d || q.Inodes != 4 {
			t.Errorf("nearest quota: %d, %+v, %v", dir, q, err)
		}
		return nil
	})
	f.clean()
	f.setQuota(d, Quota{})
	if err := f.rename(d, "e", fsapi.RootIno, "e"); err != nil {
		t.Errorf("moving a directory after the quota went: %v", err)
	}
	f.clean()
}

func TestVolumeQuotaCountsTrash(t *testing.T) {
	f := newFixture(t)
	f.setQuota(fsapi.RootIno, Quota{Bytes: 1000})
	a := f.make(fsapi.RootIno, "a", fsapi.TypeRegular)
	b := f.make(fsapi.RootIno, "b", fsapi.TypeRegular)
	if err := f.fallocate(a, 900); err != nil {
		t.Fatal(err)
	}
	if err := f.remove(fsapi.RootIno, "a", KeepTrash); err != nil {
		t.Fatal(err)
	}
	if err := f.fallocate(b, 200); !errors.Is(err, fsapi.Quota) {
		t.Errorf("with 900 of 1000 bytes in the trash: %v", err)
	}
	f.do(func(tx *Tx) error { return tx.TrashDrop(a) })
	if err := f.fallocate(b, 200); err != nil {
		t.Errorf("after the trash was emptied: %v", err)
	}
	f.clean()
}

// TestRestoredDirectoryGetsTheQuotaOfItsNewPlace: the quotas above a directory
// are cached by its number.
func TestRestoredDirectoryGetsTheQuotaOfItsNewPlace(t *testing.T) {
	f := newFixture(t)
	d := f.make(fsapi.RootIno, "d", fsapi.TypeDirectory)
	e := f.make(d, "e", fsapi.TypeDirectory)
	f.setQuota(d, Quota{Inodes: 100})
	f.make(e, "x", fsapi.TypeFIFO)
	if err := f.remove(e, "x", KeepNone); err != nil {
		t.Fatal(err)
	}
	if err := f.remove(d, "e", KeepTrash); err != nil {
		t.Fatal(err)
	}
	f.do(func(tx *Tx) error {
		root, _ := tx.Inode(fsapi.RootIno)
		_, err := tx.RestoreTrash(e, root, "e")
		return err
	})
	f.make(e, "x", fsapi.TypeFIFO)
	f.clean()
}
