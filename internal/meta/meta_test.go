package meta

import (
	"context"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/mem"
)

// testClock moves a millisecond at every look.
type testClock struct{ t time.Time }

func (c *testClock) Now() time.Time {
	c.t = c.t.Add(time.Millisecond)
	return c.t
}
func (c *testClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

func startOfTests() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// fixture is a store with one volume.
type fixture struct {
	t     testing.TB
	e     kv.Engine
	s     *Store
	vol   fsapi.VolumeID
	clock *testClock
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	e, err := mem.Open(mem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return newFixtureOn(t, e)
}

func newFixtureOn(t testing.TB, e kv.Engine) *fixture {
	t.Helper()
	f := &fixture{t: t, e: e, clock: &testClock{startOfTests()}}
	var err error
	if f.s, err = Open(context.Background(), e, Options{Clock: f.clock}); err != nil {
		t.Fatal(err)
	}
	v, err := f.s.CreateVolume(context.Background(), Volume{Name: "main"})
	if err != nil {
		t.Fatal(err)
	}
	f.vol = v.ID
	return f
}

func (f *fixture) try(fn func(tx *Tx) error) error {
	_, err := f.s.Update(context.Background(), f.vol, kv.UpdateOptions{}, fn)
	return err
}

func (f *fixture) do(fn func(tx *Tx) error) {
	f.t.Helper()
	if err := f.try(fn); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) view(fn func(tx *Tx) error) {
	f.t.Helper()
	if err := f.s.View(context.Background(), f.vol, fn); err != nil {
		f.t.Fatal(err)
	}
}

// make creates a name and returns the inode's number.
func (f *fixture) make(dir fsapi.Ino, name string, t fsapi.FileType) (ino fsapi.Ino) {
	f.t.Helper()
	f.do(func(tx *Tx) error {
		d, err := tx.Inode(dir)
		if err != nil {
			return err
		}
		in, err := tx.Create(d, name, NewInode{Type: t, Mode: 0o644})
		if err == nil {
			ino = in.Ino
		}
		return err
	})
	return ino
}

// remove unlinks or rmdirs a name.
func (f *fixture) remove(dir fsapi.Ino, name string, keep Keep) error {
	return f.try(func(tx *Tx) error {
		d, err := tx.Inode(dir)
		if err != nil {
			return err
		}
		in, err := tx.Lookup(dir, name)
		if err != nil {
			return err
		}
		if in.Type == fsapi.TypeDirectory {
			return tx.Rmdir(d, name, in, keep)
		}
		return tx.Unlink(d, name, in, keep)
	})
}

// write stores one chunk for a range of a file, the chunk named by seed.
func (f *fixture) write(ino fsapi.Ino, off, n int64, seed byte) {
	f.t.Helper()
	f.do(func(tx *Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		id := fsapi.ChunkID{seed, 1}
		st := &fsapi.Stored{
			Segments: []fsapi.Segment{testSegment(f.vol, seed)},
			Chunks:   []fsapi.Chunk{{ID: id, Len: 1 << 20, Loc: fsapi.Location{Segment: segID(seed), Offset: 64, Length: 1000}}},
		}
		if err := tx.Record(st); err != nil {
			return err
		}
		err = tx.SetExtents(in, off, off+n, []fsapi.Extent{{Off: off, Len: n, Kind: fsapi.ExtentData, Chunk: id}})
		if err != nil {
			return err
		}
		in.Size = max(in.Size, off+n)
		return tx.SetInode(in)
	})
}

func segID(seed byte) fsapi.SegmentID { return fsapi.SegmentID{0, 1, 2, 3, seed, 15: 2} }

func testSegment(vol fsapi.VolumeID, seed byte) fsapi.Segment {
	return fsapi.Segment{
		ID: segID(seed), Volume: vol, Size: 4096, Payload: 2000, Frames: 2, Created: startOfTests(),
		Want:   []fsapi.CopySpec{{Tier: "hot", Replicas: 1}},
		Copies: []fsapi.CopyPlace{{Tier: "hot", Drives: []fsapi.DriveID{7}}},
	}
}

func (f *fixture) names(dir fsapi.Ino) (list []string) {
	f.t.Helper()
	f.view(func(tx *Tx) error {
		ents, err := tx.ReadDir(dir, "", 1000)
		for _, e := range ents {
			list = append(list, e.Name)
		}
		return err
	})
	return list
}

func (f *fixture) attr(ino fsapi.Ino) (a fsapi.Attr) {
	f.t.Helper()
	f.view(func(tx *Tx) error {
		in, err := tx.Inode(ino)
		if err == nil {
			a = in.Attr
		}
		return err
	})
	return a
}
