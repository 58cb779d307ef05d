package meta

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/policy"
)

// furnish fills a volume so that every table has records.
func (f *fixture) furnish() {
	f.t.Helper()
	d := f.make(fsapi.RootIno, "dir", fsapi.TypeDirectory)
	f.make(d, "empty", fsapi.TypeDirectory)
	a := f.make(d, "a", fsapi.TypeRegular)
	f.write(a, 0, 4096, 1)
	hard := f.make(d, "hard", fsapi.TypeRegular)
	f.write(hard, 100, 50, 2)
	f.make(fsapi.RootIno, "link", fsapi.TypeSymlink)
	for name, keep := range map[string]Keep{"orphan": KeepOrphan, "trash": KeepTrash, "gone": KeepNone} {
		f.write(f.make(d, name, fsapi.TypeRegular), 0, 10, 3)
		if err := f.remove(d, name, keep); err != nil {
			f.t.Fatal(err)
		}
	}
	f.do(func(tx *Tx) error {
		dir, _ := tx.Inode(d)
		in, _ := tx.Inode(a)
		h, _ := tx.Inode(hard)
		root, _ := tx.Inode(fsapi.RootIno)
		for _, err := range []error{
			tx.Link(root, "other", h),
			tx.Link(root, "third", h),
			tx.SetXattr(in, "user.x", []byte("y")),
			tx.SetXattr(h, xattrACL, []byte("y")),
			tx.SetPolicy(dir, policy.Policy{Ack: policy.AckAsync}),
			tx.SetQuota(dir, Quota{Bytes: 1 << 40}),
		} {
			if err != nil {
				return err
			}
		}
		loc := fsapi.Location{Segment: fsapi.SegmentID{9, 15: 1}, Length: 5}
		if err := tx.Record(&fsapi.Stored{
			Chunks:  []fsapi.Chunk{{ID: fsapi.ChunkID{77}, Len: 9, Loc: loc}, {ID: fsapi.ChunkID{78}, Len: 9, Loc: fsapi.Location{Segment: segID(1), Length: 1}}},
			Journal: []fsapi.JournalFrame{{Loc: loc, Data: []byte("12345")}},
		}); err != nil {
			return err
		}
		in.Size = 8201
		return tx.SetExtents(in, 8192, 8201, []fsapi.Extent{{Off: 8192, Len: 9, Kind: fsapi.ExtentData, Chunk: fsapi.ChunkID{77}}})
	})
	kept := f.make(fsapi.RootIno, "kept", fsapi.TypeRegular)
	f.change(kept, func(tx *Tx, in *Inode) error {
		r := policy.Retained{Mode: policy.Compliance, Until: startOfTests().Add(time.Hour)}
		return cmpErr(tx.SetRetention(in, r, false), tx.AddCommit(Commit{Ino: a, Due: startOfTests()}))
	})
	f.snapshot("before")
	f.write(a, 4000, 10, 4)
	f.make(fsapi.RootIno, "later", fsapi.TypeRegular)
}

func (f *fixture) problems() (list []Problem) {
	f.t.Helper()
	if err := f.s.Check(context.Background(), f.vol, nil, func(p Problem) { list = append(list, p) }); err != nil {
		f.t.Fatal(err)
	}
	return list
}

// records are the keys of the volume and its segments, with their values.
func (f *fixture) records() (keys, values [][]byte) {
	f.t.Helper()
	err := f.e.View(context.Background(), func(r kv.Reader) error {
		return r.Scan([]byte{0}, nil, func(k, v []byte) (bool, error) {
			if !strings.ContainsRune("FVvNWpe", rune(k[0])) {
				keys, values = append(keys, bytes.Clone(k)), append(values, bytes.Clone(v))
			}
			return true, nil
		})
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return keys, values
}

func (f *fixture) raw(fn func(w kv.Tx)) {
	f.t.Helper()
	if err := f.s.update(context.Background(), kv.UpdateOptions{}, func(w kv.Tx) error { fn(w); return nil }); err != nil {
		f.t.Fatal(err)
	}
}

func TestCheckSeesEveryMissingRecord(t *testing.T) {
	f := newFixture(t)
	f.furnish()
	f.clean()
	keys, values := f.records()
	tables := map[byte]bool{}
	for i, k := range keys {
		f.raw(func(w kv.Tx) { w.Delete(k) })
		tables[k[0]] = true
		found := f.problems()
		// That a file had another mode, or less, nothing else knows.
		// A file that is to be looked at may have gone, too.
		benign := k[0] == tabCommit || k[0] == tabSweep && f.refs(k) > 0 || k[0] == tabHistory && (k[snapKeyLen] != tabExtent || values[i][0] == historyAbsent)
		if len(found) == 0 && !benign {
			t.Errorf("nobody missed %s", keyText(k))
		}
		f.raw(func(w kv.Tx) {
			if IsCounter(k) {
				w.Add(k, kv.DecodeCounter(values[i]))
			} else {
				w.Put(k, values[i])
			}
		})
	}
	f.clean()
	if want := len(volumeTables) + len("Ssj"); len(tables) != want {
		t.Errorf("the volume has records in %d tables, want all %d", len(tables), want)
	}
}

func (f *fixture) refs(k []byte) (n int64) {
	f.t.Helper()
	err := f.e.View(context.Background(), func(r kv.Reader) (err error) {
		n, err = r.Counter(append([]byte{tabRefs}, k[1:]...))
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

func TestCheckSeesEveryWrongCounter(t *testing.T) {
	f := newFixture(t)
	f.furnish()
	keys, _ := f.records()
	for _, k := range keys {
		if !IsCounter(k) {
			continue
		}
		f.raw(func(w kv.Tx) { w.Add(k, 1) })
		if len(f.problems()) == 0 {
			t.Errorf("nobody saw %s", keyText(k))
		}
		f.raw(func(w kv.Tx) { w.Add(k, -1) })
	}
	f.clean()
}

func TestRepairMendsWhatIsMissing(t *testing.T) {
	keysOf := func() [][]byte {
		f := newFixture(t)
		f.furnish()
		keys, _ := f.records()
		return keys
	}
	for _, k := range keysOf() {
		t.Run(keyText(k), func(t *testing.T) {
			f := newFixture(t)
			f.furnish()
			f.raw(func(w kv.Tx) { w.Delete(k) })
			left, err := f.s.Repair(context.Background(), f.vol, nil, func(Problem) {})
			if err != nil {
				t.Fatal(err)
			}
			if k[0] == tabChunk && k[volKeyLen] == 78 {
				k = nil // nothing refers to it: no loss
			}
			if k != nil && strings.ContainsRune("CSJ", rune(k[0])) {
				if left == 0 {
					t.Errorf("a loss went unnoticed")
				}
				return
			}
			f.clean()
		})
	}
}

// TestDamageNeverPanics changes bytes of each record and uses what is left.
func TestDamageNeverPanics(t *testing.T) {
	f := newFixture(t)
	f.furnish()
	keys, values := f.records()
	for i, k := range keys {
		if IsCounter(k) {
			continue
		}
		v := values[i]
		for _, bad := range [][]byte{nil, {0}, {255, 255, 255}, flipped(v, 0), flipped(v, len(v)/2), flipped(v, len(v)-1), append(bytes.Clone(v), 1)} {
			f.raw(func(w kv.Tx) { w.Put(k, bad) })
			_ = f.s.Check(context.Background(), f.vol, nil, func(Problem) {})
			_ = f.s.View(context.Background(), f.vol, func(tx *Tx) error {
				for ino := fsapi.Ino(1); ino < 40; ino++ {
					_, _ = tx.Inode(ino)
					_, _ = tx.ReadDir(ino, "", 10)
					_, _ = tx.Extents(ino, 0, fsapi.MaxFileSize, 10)
				}
				_, err := tx.Trash(nil, 10)
				return err
			})
		}
		f.raw(func(w kv.Tx) { w.Put(k, v) })
	}
	f.clean()
}

func flipped(v []byte, at int) []byte {
	v = bytes.Clone(v)
	if at >= 0 && at < len(v) {
		v[at] ^= 0x55
	}
	return v
}

func TestCheckCountsInSlices(t *testing.T) {
	f := newFixture(t)
	ino := f.make(fsapi.RootIno, "f", fsapi.TypeRegular)
	for i := range 50 {
		f.write(ino, int64(i)*100, 100, byte(i*5))
	}
	f.clean()
	tx := &Tx{s: f.s}
	snap, err := f.e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	tx.begin(f.vol, snap, nil)
	c := &check{ctx: context.Background(), tx: tx, progress: func(string, int64) {}, report: func(p Problem) { t.Error(p) }}
	live, total := map[fsapi.SegmentID]int64{}, 0
	for lo := uint64(0); lo < 1<<16; lo += 1 << 13 {
		refs, err := c.references(lo, lo+1<<13)
		if err != nil {
			t.Fatal(err)
		}
		total += len(refs)
		if err := c.slice(lo, lo+1<<13, refs, live); err != nil {
			t.Fatal(err)
		}
	}
	if total != 50 || len(live) != 50 {
		t.Errorf("slices hold %d chunks in %d segments, want 50 in 50", total, len(live))
	}
}

func TestDescribeKnowsEveryTable(t *testing.T) {
	f := newFixture(t)
	f.furnish()
	keys, values := f.records()
	for i, k := range keys {
		if table, key, _ := Describe(k, values[i]); table == "unknown" || key == "" {
			t.Errorf("%s is %s, %q", keyText(k), table, key)
		}
	}
}

// Content beyond a file's end is named and removed, preallocated room there is not.
func TestCheckContentBeyondTheEnd(t *testing.T) {
	f := newFixture(t)
	ino := f.make(fsapi.RootIno, "f", fsapi.TypeRegular)
	f.write(ino, 0, 4096, 1)
	f.write(ino, 4096, 4096, 2)
	size := func(n int64) {
		f.do(func(tx *Tx) error {
			in, err := tx.Inode(ino)
			if err != nil {
				return err
			}
			in.Size = n
			return tx.SetInode(in)
		})
	}
	size(4000)
	if found := f.problems(); len(found) != 1 {
		t.Errorf("%d problems: %v", len(found), found)
	}
	if left, err := f.s.Repair(context.Background(), f.vol, nil, func(Problem) {}); err != nil || left != 0 {
		t.Fatalf("%d problems are left, %v", left, err)
	}
	f.clean()
	size(8192)
	f.do(func(tx *Tx) error {
		list, err := tx.Extents(ino, 0, 8192, 10)
		if err != nil || len(list) != 1 || list[0].End() != 4000 {
			t.Errorf("%+v, %v", list, err)
		}
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		return tx.SetExtents(in, 8192, 9000, []fsapi.Extent{{Off: 8192, Len: 808, Kind: fsapi.ExtentUnwritten}})
	})
	f.clean()
}
