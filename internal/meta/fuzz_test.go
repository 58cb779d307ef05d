package meta

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/policy"
)

// fuzzRecord checks a decoder of values: whatever bytes it gets, it returns a
// record or fsapi.Corrupt, and what it returns survives being written and read.
func fuzzRecord[T any](f *testing.F, key []byte, seeds []T, enc func([]byte, *T) []byte, decode func(key, v []byte) (T, error)) {
	f.Helper()
	for i := range seeds {
		v := enc(nil, &seeds[i])
		got, err := decode(key, v)
		if diff := cmp.Diff(seeds[i], got, cmpopts.EquateEmpty(), cmp.AllowUnexported(Inode{}, dentry{}, inodeValue{}, volumeRecord{}, snapRef{})); err != nil || diff != "" {
			f.Fatalf("seed %d: %v\n%s", i, err, diff)
		}
		f.Add(v)
		f.Add(v[:len(v)/2])
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		rec, err := decode(key, v)
		if err != nil {
			if fsapi.KindOf(err) != fsapi.Corrupt {
				t.Fatalf("kind %v: %v", fsapi.KindOf(err), err)
			}
			return
		}
		again, err := decode(key, enc(nil, &rec))
		if diff := cmp.Diff(rec, again, cmpopts.EquateEmpty(), cmp.AllowUnexported(Inode{}, dentry{}, inodeValue{}, volumeRecord{}, snapRef{})); err != nil || diff != "" {
			t.Fatalf("written and read again: %v\n%s", err, diff)
		}
	})
}

func seedAttr(t fsapi.FileType) fsapi.Attr {
	at := time.Date(2026, 5, 6, 7, 8, 9, 123456789, time.UTC)
	return fsapi.Attr{
		Ino: 300, Type: t, Mode: 0o4755, Uid: 1000, Gid: 1 << 31, Nlink: 1, Rdev: 0x801, Size: 1 << 40, Used: 4096,
		Atime: at.Add(-time.Hour), Mtime: time.Time{}, Ctime: at.Add(1000 * time.Hour), Btime: at, Change: 1 << 50,
	}
}

func seedLoc() fsapi.Location {
	return fsapi.Location{Segment: fsapi.SegmentID{1, 2, 15: 8}, Offset: 1 << 20, Length: 65000}
}

func FuzzDentry(f *testing.F) {
	seeds := []dentry{
		{Attr: seedAttr(fsapi.TypeRegular), cookie: 5000, embedded: true, flags: HasACL},
		{Attr: seedAttr(fsapi.TypeSymlink), cookie: 3, embedded: true, target: []byte("../x")},
		{Attr: fsapi.Attr{Ino: 7, Type: fsapi.TypeFIFO}, cookie: 9},
	}
	fuzzRecord(f, dentryKey(nil, 1, 2, "x"), seeds, func(b []byte, e *dentry) []byte {
		if !e.embedded {
			return appendDentryRef(b, e.Type, e.Ino, e.cookie)
		}
		return appendDentry(b, e.inode(2, "x"))
	}, decodeDentry)
}

func FuzzInode(f *testing.F) {
	trashed := &Inode{Attr: seedAttr(fsapi.TypeRegular), Parent: 5, Name: "old", Flags: Trashed | HasXattr, deleted: 1 << 60, expires: 1<<60 + 5}
	seeds := []inodeValue{
		{in: trashed},
		{in: &Inode{Attr: seedAttr(fsapi.TypeSymlink), Target: "t", Parent: 1, Name: "n"}},
		{dir: 12, name: []byte("name")},
	}
	fuzzRecord(f, inoKey(nil, tabInode, 1, 300), seeds, func(b []byte, v *inodeValue) []byte {
		if v.in == nil {
			return appendPointer(b, v.dir, string(v.name))
		}
		return appendInode(b, v.in)
	}, func(key, v []byte) (inodeValue, error) { return decodeInode(key, v, 300) })
}

func FuzzExtent(f *testing.F) {
	const end = 1 << 30
	seeds := []fsapi.Extent{
		{Off: end - 100, Len: 100, Kind: fsapi.ExtentData, Chunk: fsapi.ChunkID{1, 31: 9}, ChunkOff: 5, ChunkLen: 1 << 20, Loc: seedLoc()},
		{Off: end - 3, Len: 3, Kind: fsapi.ExtentInline, ChunkLen: 3, Inline: []byte("sealed")},
		{Off: 0, Len: end, Kind: fsapi.ExtentUnwritten},
	}
	fuzzRecord(f, extentKey(nil, 1, 2, end), seeds, appendExtent, decodeExtent)
}

func FuzzChunk(f *testing.F) {
	id := fsapi.ChunkID{4, 5}
	fuzzRecord(f, chunkKey(nil, tabChunk, 1, &id), []fsapi.Chunk{{ID: id, Len: 77, Loc: seedLoc()}}, appendChunk, decodeChunk)
}

func FuzzSegment(f *testing.F) {
	seg := testSegment(3, 4)
	seg.Condemned = startOfTests()
	seg.Want = append(seg.Want, fsapi.CopySpec{Tier: "cold", K: 2, M: 1, Min: 2}, fsapi.CopySpec{Tier: "warm", Replicas: 2, Evictable: true, EvictAfter: time.Hour})
	seg.Copies = append(seg.Copies, fsapi.CopyPlace{Tier: "cold", K: 2, M: 1, Drives: []fsapi.DriveID{3, 0, 4}, Verified: startOfTests()})
	fuzzRecord(f, segmentKey(nil, tabSegment, seg.ID), []fsapi.Segment{seg}, appendSegment, decodeSegment)
}

func FuzzHeat(f *testing.F) {
	seed := fsapi.Heat{Segment: segID(1), Last: startOfTests(), Visit: startOfTests().Add(-time.Minute), Count: 2.5}
	fuzzRecord(f, segmentKey(nil, tabHeat, seed.Segment), []fsapi.Heat{seed, {Segment: segID(1), Last: startOfTests(), Visit: startOfTests()}}, appendHeat, decodeHeat)
}

func FuzzPending(f *testing.F) {
	seed := Pending{Segment: segID(1), Size: 5, Since: startOfTests(), Attempts: 3, Next: startOfTests().Add(time.Minute), Err: "gone"}
	fuzzRecord(f, segmentKey(nil, tabPending, seed.Segment), []Pending{seed}, appendPending, decodePending)
}

func FuzzJournal(f *testing.F) {
	loc := seedLoc()
	seed := JournalChunk{Chunk: fsapi.ChunkID{3}, JournalFrame: fsapi.JournalFrame{
		Loc: loc, Data: []byte("sealed"), Ino: 7, Off: 4096, Want: []fsapi.CopySpec{{Tier: "hot", Replicas: 2}},
	}}
	fuzzRecord(f, journalKey(nil, 1, loc), []JournalChunk{seed}, appendJournal, decodeJournal)
}

func FuzzVolume(f *testing.F) {
	seeds := []volumeRecord{{
		Volume: Volume{ID: 9, Name: "v", Created: startOfTests(), Encrypted: true, Policy: policy.Default(), Quota: Quota{1, 2}, Deleting: true},
		epoch:  5, quotas: 6, policies: 7,
	}, {
		Volume:   Volume{ID: 9, Name: "v", Created: startOfTests(), Policy: policy.Default()},
		lastSnap: 12, snaps: []snapRef{{3, 70, true}, {12, 1 << 40, false}},
	}}
	fuzzRecord(f, volKey(nil, tabVolume, 9), seeds, appendVolume, func(key, v []byte) (volumeRecord, error) { return decodeVolume(key, v, 9) })
}

func FuzzPolicy(f *testing.F) {
	seeds := []policy.Policy{policy.Default(), {}, {Trash: -1, Copies: []policy.Copy{{Tier: "warm", Replicas: 3}}}}
	fuzzRecord(f, inoKey(nil, tabPolicy, 1, 2), seeds, func(b []byte, p *policy.Policy) []byte { return appendPolicy(b, *p) }, decodePolicy)
}

func FuzzQuota(f *testing.F) {
	fuzzRecord(f, inoKey(nil, tabQuota, 1, 2), []Quota{{}, {5, 1 << 62}}, func(b []byte, q *Quota) []byte {
		return appendQuota(append(b, quotaForm), *q)
	}, decodeQuota)
}

func FuzzSnapshot(f *testing.F) {
	seeds := []Snapshot{{ID: 7, Name: "n", Created: startOfTests()}, {ID: 7, Name: "kept", Created: startOfTests(), Until: startOfTests(), Auto: true}}
	fuzzRecord(f, snapKey(nil, tabSnapshot, 1, 7), seeds, appendSnapshot, decodeSnapshot)
}

func FuzzDrive(f *testing.F) {
	seed := DriveRecord{ID: 5, Name: "n", Kind: "dir", Where: "/w", Tier: "hot", Domain: "d", State: "online", Reserve: -3, DriveLimits: DriveLimits{Quota: 1, Rate: 2, Calls: 3, Deadline: 4, Spindown: true, Cache: 1 << 40}}
	fuzzRecord(f, driveKey(5), []DriveRecord{seed}, appendDrive, decodeDrive)
}

func FuzzChanges(f *testing.F) {
	seed := []fsapi.Change{{
		Kind: fsapi.ChangeRename, Volume: 1, Ino: 2, Dir: 3, Name: "n", FromDir: 4, From: "f",
		Type: fsapi.TypeRegular, Off: 5, Len: -1, Door: "nfs",
	}, {Kind: fsapi.ChangeAttr}}
	fuzzRecord(f, changesKey(), [][]fsapi.Change{seed}, func(b []byte, list *[]fsapi.Change) []byte {
		b = append(b, changesForm)
		for i := range *list {
			b = appendChange(b, &(*list)[i])
		}
		return b
	}, decodeChanges)
}

// FuzzTouchedBy reads what a batch of another machine changed: any operations are
// taken, or fsapi.Corrupt.
func FuzzTouchedBy(f *testing.F) {
	in := &Inode{Attr: seedAttr(fsapi.TypeRegular), Parent: 2, Name: "x"}
	f.Add(dentryKey(nil, 1, 2, "x"), appendDentry(nil, in), true)
	f.Add(dentryKey(nil, 1, 2, "x"), []byte(nil), false)
	f.Add(extentKey(nil, 1, 300, 4096), []byte("value"), true)
	f.Add(snapNameKey(1, "snap"), putUint(nil, 3), true)
	f.Add(volKey(nil, tabVolume, 1), []byte{}, true)
	f.Add(changesKey(), appendChange([]byte{changesForm}, &fsapi.Change{Kind: fsapi.ChangeRename, Volume: 2, Ino: 3, Dir: 4, Name: "n"}), true)
	f.Fuzz(func(t *testing.T, key, value []byte, put bool) {
		op := kv.Op{Kind: kv.OpDelete, Key: key}
		if put {
			op = kv.Op{Kind: kv.OpPut, Key: key, Value: value}
		}
		vols, _, err := TouchedBy(kv.Batch{Ops: []kv.Op{op}})
		if err != nil {
			if fsapi.KindOf(err) != fsapi.Corrupt {
				t.Fatalf("kind %v: %v", fsapi.KindOf(err), err)
			}
			return
		}
		for _, v := range vols {
			for _, c := range v.Changes {
				if _, ok := v.Inodes[c.Ino]; !ok || c.Volume != v.Volume {
					t.Errorf("change %+v is not among what changed of volume %d", c, v.Volume)
				}
			}
		}
	})
}
