package meta

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

func (f *fixture) snapshot(name string) fsapi.SnapshotID {
	f.t.Helper()
	s, err := f.s.CreateSnapshot(context.Background(), f.vol, Snapshot{Name: name})
	if err != nil {
		f.t.Fatal(err)
	}
	return s.ID
}

func (f *fixture) namesAt(id fsapi.SnapshotID, dir fsapi.Ino) (list []string) {
	f.t.Helper()
	err := f.s.ViewAt(context.Background(), f.vol, id, func(tx *Tx) error {
		ents, err := tx.ReadDir(dir, "", 100_000)
		for _, e := range ents {
			list = append(list, e.Name)
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

func (f *fixture) allClean() {
	f.t.Helper()
	ctx := context.Background()
	report := func(p Problem) { f.t.Errorf("%s: %s", p.Kind, p.Text) }
	if err := f.s.Check(ctx, f.vol, nil, report); err != nil {
		f.t.Fatal(err)
	}
	list, err := f.s.Snapshots(ctx, f.vol)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, s := range list {
		if s.Deleting {
			continue
		}
		if err := f.s.CheckSnapshot(ctx, f.vol, s.ID, nil, report); err != nil {
			f.t.Fatal(err)
		}
	}
}

// entries counts what is kept for snapshots.
func (f *fixture) entries() (n int) {
	f.t.Helper()
	err := f.e.View(context.Background(), func(r kv.Reader) error {
		return r.Scan([]byte{tabHistory}, []byte{tabHistory + 1}, func(_, _ []byte) (bool, error) {
			n++
			return true, nil
		})
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// Listings of the past are merged from many pages of the present and of several
// snapshots.
func TestSnapshotListsLargeDirectories(t *testing.T) {
	f := newFixture(t)
	dir := f.make(fsapi.RootIno, "d", fsapi.TypeDirectory)
	want := map[fsapi.SnapshotID][]string{}
	for round := range 3 {
		for i := range 700 {
			f.make(dir, fmt.Sprintf("%04d-%d", i, round), fsapi.TypeRegular)
		}
		want[f.snapshot(fmt.Sprint(round))] = f.namesAt(0, dir)
	}
	for i := range 700 {
		if i%3 == 0 {
			continue
		}
		if err := f.remove(dir, fmt.Sprintf("%04d-%d", i, i%3), KeepNone); err != nil {
			t.Fatal(err)
		}
	}
	for id, names := range want {
		if d := cmp.Diff(names, f.namesAt(id, dir)); d != "" {
			t.Errorf("snapshot %d (-want +got):\n%s", id, d)
		}
	}
	f.allClean()
}

// What is made after a snapshot keeps nothing for it but that the names in old
// directories were not there, however often it changes.
func TestSnapshotIgnoresWhatIsYounger(t *testing.T) {
	f := newFixture(t)
	f.snapshot("s")
	dir := f.make(fsapi.RootIno, "d", fsapi.TypeDirectory)
	was := f.entries()
	for i := range 50 {
		ino := f.make(dir, fmt.Sprint(i), fsapi.TypeRegular)
		f.write(ino, 0, 100, byte(i))
		f.write(ino, 0, 100, byte(i+1))
	}
	if n := f.entries(); n != was {
		t.Errorf("%d entries are kept, and were %d before files that are younger", n, was)
	}
	f.allClean()
}

// What was in the trash when a snapshot was taken is not held by it, but is by
// an older one that had its name.
func TestSnapshotHoldsOnlyWhatHasAName(t *testing.T) {
	f := newFixture(t)
	ino := f.make(fsapi.RootIno, "f", fsapi.TypeRegular)
	f.write(ino, 0, 4096, 1)
	old := f.snapshot("named")
	if err := f.remove(fsapi.RootIno, "f", KeepTrash); err != nil {
		t.Fatal(err)
	}
	young := f.snapshot("trashed")
	f.do(func(tx *Tx) error { return tx.TrashDrop(ino) })
	f.do(func(tx *Tx) error { _, err := tx.Reclaim(100); return err })
	held := func() map[fsapi.SnapshotID]int64 {
		m := map[fsapi.SnapshotID]int64{}
		list, err := f.s.Snapshots(context.Background(), f.vol)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			m[s.ID] = s.Held
		}
		return m
	}
	if d := cmp.Diff(map[fsapi.SnapshotID]int64{old: 4096, young: 0}, held()); d != "" {
		t.Errorf("held (-want +got):\n%s", d)
	}
	f.allClean()
}

// Deleting a snapshot may be broken off after any transaction, by the end of
// the process too.
func TestSnapshotDeletionGoesOnAfterRestart(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	var files []fsapi.Ino
	for i := range 6 {
		ino := f.make(fsapi.RootIno, fmt.Sprint(i), fsapi.TypeRegular)
		f.write(ino, 0, 1000, byte(i+1))
		files = append(files, ino)
	}
	oldest := f.snapshot("oldest")
	f.write(files[0], 0, 1000, 50)
	f.write(files[1], 0, 1000, 51)
	middle := f.snapshot("middle")
	f.write(files[1], 500, 1000, 52)
	f.write(files[2], 0, 10, 53)
	newest := f.snapshot("newest")
	if err := f.remove(fsapi.RootIno, "3", KeepNone); err != nil {
		t.Fatal(err)
	}
	f.do(func(tx *Tx) error { _, err := tx.Reclaim(100); return err })
	want := []string{"0", "1", "2", "3", "4", "5"}
	for _, id := range []fsapi.SnapshotID{middle, newest, oldest} {
		if err := f.s.DeleteSnapshot(ctx, f.vol, id); err != nil {
			t.Fatal(err)
		}
		for more, steps := true, 0; more; steps++ {
			var err error
			if f.s, err = Open(ctx, f.e, Options{Clock: f.clock}); err != nil {
				t.Fatal(err)
			}
			if more, err = f.s.ReclaimSnapshots(ctx, f.vol, 1); err != nil {
				t.Fatal(err)
			}
			f.allClean()
			if id != oldest {
				if d := cmp.Diff(want, f.namesAt(oldest, fsapi.RootIno)); d != "" {
					t.Fatalf("the oldest snapshot after step %d (-want +got):\n%s", steps, d)
				}
				f.write(files[4], int64(steps), 1, 54) // others go on
			}
		}
	}
	if n := f.entries(); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

func TestSnapshotNames(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	fails := func(want fsapi.Kind, err error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	id := f.snapshot("a")
	for _, name := range []string{"", ".", "..", "a/b", "a\x00", string(make([]byte, 256))} {
		_, err := f.s.CreateSnapshot(ctx, f.vol, Snapshot{Name: name})
		fails(fsapi.Invalid, err)
	}
	_, err := f.s.CreateSnapshot(ctx, f.vol, Snapshot{Name: "a"})
	fails(fsapi.Exist, err)
	kept, err := f.s.CreateSnapshot(ctx, f.vol, Snapshot{Name: "kept", Until: f.clock.t.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	fails(fsapi.Immutable, f.s.DeleteSnapshot(ctx, f.vol, kept.ID))
	if err := f.s.DeleteSnapshot(ctx, f.vol, id); err != nil {
		t.Fatal(err)
	}
	fails(fsapi.NotExist, f.s.DeleteSnapshot(ctx, f.vol, id))
	fails(fsapi.NotExist, f.s.ViewAt(ctx, f.vol, id, func(*Tx) error { return nil }))
	_, err = f.s.SnapshotByName(ctx, f.vol, "a")
	fails(fsapi.NotExist, err)
	if again := f.snapshot("a"); again <= kept.ID {
		t.Errorf("number %d was given out again", again)
	}
	f.allClean()
}
