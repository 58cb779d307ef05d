package upkeep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/blobtest"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/mem"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// hands is a clock that a test moves.
type hands struct {
	mu  sync.Mutex
	now time.Time
}

func (h *hands) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hands) After(d time.Duration) <-chan time.Time { return time.After(0) }

func (h *hands) move(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// guard checks D4 on the way to metadata: no part of a segment is deleted from a
// drive before what the segment's record says is durable.
type guard struct {
	*meta.Store
	mu      sync.Mutex
	changed map[fsapi.SegmentID]bool // records that are not durable as they are
	// scanned, where set, is called for each scan of all segments.
	scanned func()

	hide      bool       // segments have no records: damaged metadata
	before    func()     // each change of a segment
	relocated func()     // after each Relocate
	point     func()     // before and after each call that a step on one segment makes
	points    sync.Mutex // parts are written at the same time
	syncing   func(ctx context.Context) error
}

// at is called at the points at which a step may be cut off.
func (g *guard) at() {
	g.points.Lock()
	defer g.points.Unlock()
	if g.point != nil {
		g.point()
	}
}

func (g *guard) Segment(ctx context.Context, id fsapi.SegmentID) (fsapi.Segment, error) {
	g.at()
	if g.hide {
		return fsapi.Segment{}, fsapi.Errorf(fsapi.NotExist, "hidden")
	}
	return g.Store.Segment(ctx, id)
}

func (g *guard) ChangeSegment(ctx context.Context, id fsapi.SegmentID, fn func(seg *fsapi.Segment) error) (fsapi.Segment, error) {
	if g.before != nil {
		g.before()
	}
	g.at()
	defer g.at()
	g.change(id)
	return g.Store.ChangeSegment(ctx, id, fn)
}

func (g *guard) Relocate(ctx context.Context, vol fsapi.VolumeID, segs []fsapi.Segment, moves []fsapi.Moved) (int, error) {
	n, err := g.Store.Relocate(ctx, vol, segs, moves)
	if g.relocated != nil {
		g.relocated()
	}
	return n, err
}

func (g *guard) Segments(ctx context.Context, after fsapi.SegmentID, fn func(meta.SegmentUse) bool) error {
	if g.scanned != nil && after.IsZero() {
		g.scanned()
	}
	return g.Store.Segments(ctx, after, fn)
}

func (g *guard) DropSegment(ctx context.Context, id fsapi.SegmentID, chunks []fsapi.ChunkID) error {
	g.change(id)
	g.at()
	defer g.at()
	return g.Store.DropSegment(ctx, id, chunks)
}

func (g *guard) Sync(ctx context.Context) error {
	g.at()
	defer g.at()
	g.mu.Lock()
	before := slices.Collect(maps.Keys(g.changed))
	g.mu.Unlock()
	var err error
	if g.syncing != nil {
		err = g.syncing(ctx)
	}
	if err == nil {
		err = g.Store.Sync(ctx)
	}
	if err == nil {
		g.mu.Lock()
		maps.DeleteFunc(g.changed, func(id fsapi.SegmentID, _ bool) bool { return slices.Contains(before, id) })
		g.mu.Unlock()
	}
	return err
}

func (g *guard) change(id fsapi.SegmentID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changed[id] = true
}

// watch is a drive's Fail.
func (g *guard) watch(t *testing.T) func(op, name string) error {
	return func(op, name string) error {
		if op != "Delete" {
			return nil
		}
		id, err := blob.ParseSegmentName(name)
		if err != nil {
			id, _, err = blob.ParseShardName(name)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if err == nil && g.changed[id] {
			t.Errorf("%s is deleted before the segment's record is durable", name)
		}
		return nil
	}
}

type rig struct {
	t       *testing.T
	clock   *hands
	meta    *guard
	vol     meta.Volume
	set     *blob.DriveSet
	drives  []*blobtest.Drive
	store   *blob.Store
	up      *upkeep.Upkeep
	files   map[string][]byte
	exts    map[string]fsapi.Ino
	keys    *keyring.Keyring // nil: the same keys for ever
	moves   atomic.Uint64    // of files to other directories
	storing func()           // before a relayout walks

	journalMax int64 // of upkeep; 0: the default
}

func newRig(t *testing.T, replicas int) *rig {
	t.Helper()
	ctx := t.Context()
	c := &hands{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	e, err := mem.Open(mem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	m, err := meta.Open(ctx, e, meta.Options{Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	p := policy.Default()
	p.Copies[0].Replicas = replicas
	p.Chunking = policy.Chunking{Fixed: 4096}
	r := &rig{t: t, clock: c, meta: &guard{Store: m, changed: make(map[fsapi.SegmentID]bool)}, set: blob.NewDriveSet(), files: make(map[string][]byte), exts: make(map[string]fsapi.Ino)}
	if r.vol, err = m.CreateVolume(ctx, meta.Volume{Name: "v", Encrypted: true, Policy: p}); err != nil {
		t.Fatal(err)
	}
	for i := range replicas {
		d := blobtest.NewDrive(fsapi.DriveID(i + 1))
		d.Now = c.Now
		d.Fail = r.meta.watch(t)
		r.drives = append(r.drives, d)
		r.set.Add(d)
	}
	r.open()
	return r
}

// settled is Options.Settle.
func (r *rig) settled(context.Context, fsapi.VolumeID) error {
	if r.storing != nil {
		r.storing()
	}
	return nil
}

// open starts a new store and upkeep, as a new process would.
func (r *rig) open() {
	r.t.Helper()
	if r.store != nil {
		r.store.Close()
	}
	var err error
	var keys blob.Keys = blobtest.Keys{Cipher: fsapi.CipherAES256GCM}
	var rotated upkeep.Keys
	if r.keys != nil {
		keys, rotated = r.keys, versions{r.keys}
	}
	r.store, err = blob.New(blob.Options{
		Index: r.meta, Keys: keys, Drives: r.set, Clock: r.clock, Workers: 2,
		SegmentBytes: 256 << 10, JournalMax: 64 << 10,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	s := r.store
	r.t.Cleanup(func() { s.Close() })
	r.up, err = upkeep.New(upkeep.Options{Store: r.store, Meta: r.meta, Drives: r.set, Keys: rotated, Settle: r.settled, Moves: func(fsapi.VolumeID) uint64 { return r.moves.Load() }, Clock: r.clock, Rate: -1, BatchBytes: 512 << 10, JournalMax: r.journalMax})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) class() blob.Class {
	p := r.vol.Policy
	return blob.Class{Copies: p.Copies, Compression: p.Compression, Chunking: p.Chunking}
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 9}).Read(b)
	return b
}

func (r *rig) update(fn func(tx *meta.Tx) error) {
	r.t.Helper()
	if _, err := r.meta.Update(r.t.Context(), r.vol.ID, kv.UpdateOptions{}, fn); err != nil {
		r.t.Fatal(err)
	}
}

// write makes a file.
func (r *rig) write(name string, mode blob.Mode, data []byte) *fsapi.Stored {
	r.t.Helper()
	b := r.store.NewBatch(r.t.Context(), r.vol.ID, r.class())
	if _, err := b.Add(r.t.Context(), 2, 0, data, false); err != nil {
		r.t.Fatal(err)
	}
	st, err := b.Finish(r.t.Context(), mode)
	if err != nil {
		r.t.Fatal(err)
	}
	r.update(func(tx *meta.Tx) error {
		root, err := tx.Inode(fsapi.RootIno)
		if err != nil {
			return err
		}
		in, err := tx.Create(root, name, meta.NewInode{Type: fsapi.TypeRegular, Mode: 0o644})
		if err != nil {
			return err
		}
		if err := tx.Record(st); err != nil {
			return err
		}
		var exts []fsapi.Extent
		for _, e := range st.Extents {
			exts = append(exts, e.Extent)
		}
		in.Size = int64(len(data))
		return tx.SetExtents(in, 0, in.Size, exts)
	})
	r.files[name] = data
	return st
}

func (r *rig) remove(name string) {
	r.t.Helper()
	r.update(func(tx *meta.Tx) error {
		root, err := tx.Inode(fsapi.RootIno)
		if err != nil {
			return err
		}
		in, err := tx.Lookup(fsapi.RootIno, name)
		if err != nil {
			return err
		}
		return tx.Unlink(root, name, in, meta.KeepNone)
	})
	r.update(func(tx *meta.Tx) error {
		for {
			if more, err := tx.Reclaim(1000); err != nil || !more {
				return err
			}
		}
	})
	delete(r.files, name)
}

// check reads every file back.
func (r *rig) check() {
	r.t.Helper()
	r.store.DropCaches()
	for name, want := range r.files {
		got := make([]byte, len(want))
		var exts []fsapi.Extent
		err := r.meta.View(r.t.Context(), r.vol.ID, func(tx *meta.Tx) error {
			in, err := tx.Lookup(fsapi.RootIno, name)
			if err != nil {
				return err
			}
			exts, err = tx.Extents(in.Ino, 0, in.Size, 1<<20)
			return err
		})
		for i := range exts {
			if err == nil {
				err = r.store.ReadExtent(r.t.Context(), r.vol.ID, &exts[i], 0, got[exts[i].Off:exts[i].End()])
			}
		}
		if err != nil || !bytes.Equal(got, want) {
			r.t.Fatalf("file %s: %v", name, err)
		}
	}
}

func (r *rig) blobs() int {
	n := 0
	for _, d := range r.drives {
		n += len(d.Names())
	}
	return n
}

func (r *rig) gc(o upkeep.GCOptions) upkeep.GCReport {
	r.t.Helper()
	rep, err := r.up.GC(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

func TestPack(t *testing.T) {
	r := newRig(t, 1)
	for i := range 20 {
		r.write(fmt.Sprint(i), blob.Auto, []byte(strings.Repeat(fmt.Sprintf("file %d ", i), 3000)))
	}
	r.remove("3")
	if n, _ := r.meta.JournalBytes(t.Context()); n == 0 || r.blobs() != 0 {
		t.Fatalf("%d bytes in the journal, %d blobs", n, r.blobs())
	}
	rep, err := r.up.Pack(t.Context())
	if err != nil || rep.Frames == 0 || len(rep.Bad) != 0 {
		t.Fatalf("%+v: %v", rep, err)
	}
	r.check()
	if _, err := r.up.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, _ := r.meta.JournalBytes(t.Context()); n != 0 {
		t.Errorf("%d bytes left in the journal", n)
	}
	if again, err := r.up.Pack(t.Context()); err != nil || again.Frames != 0 {
		t.Errorf("packed twice: %+v, %v", again, err)
	}
}

func TestGCGivesBackEverything(t *testing.T) {
	r := newRig(t, 2)
	for i := range 6 {
		r.write(fmt.Sprint(i), blob.Segment, random(uint64(i), 300_000))
	}
	for i := range 6 {
		r.remove(fmt.Sprint(i))
	}
	first := r.gc(upkeep.GCOptions{})
	if first.Swept == 0 || first.Collect.Condemned == 0 || first.Collect.Deleted != 0 || r.blobs() == 0 {
		t.Fatalf("first: %+v", first)
	}
	r.clock.move(9 * time.Minute)
	if rep := r.gc(upkeep.GCOptions{}); rep.Collect.Deleted != 0 || rep.Collect.Waiting == 0 {
		t.Fatalf("before the delay: %+v", rep)
	}
	r.clock.move(2 * time.Minute)
	rep := r.gc(upkeep.GCOptions{})
	if rep.Collect.Deleted == 0 || r.blobs() != 0 || len(rep.Doubts()) != 0 {
		t.Fatalf("after the delay %d blobs are left: %+v", r.blobs(), rep)
	}
}

func TestCompact(t *testing.T) {
	r := newRig(t, 2)
	big := bytes.Repeat([]byte("not random at all, so that zstd has something to do. "), 8000)
	copy(big[:200_000], random(1, 200_000))
	r.write("keep", blob.Segment, random(77, 4096*5))
	for i := range 4 {
		r.write(fmt.Sprint(i), blob.Segment, append(random(uint64(i), 240_000), big[i*4096:][:40_000]...))
	}
	// A duplicate of a part of each keeps some frames of it alive.
	for i := range 4 {
		data := bytes.Clone(r.files[fmt.Sprint(i)][4096*50:][:4096*6])
		r.write("part"+fmt.Sprint(i), blob.Segment, data)
	}
	for i := range 4 {
		r.remove(fmt.Sprint(i))
	}
	before := r.blobs()
	rep := r.gc(upkeep.GCOptions{Now: true})
	if rep.Compact.Segments == 0 || rep.Compact.Chunks == 0 || rep.Collect.Deleted == 0 || len(rep.Doubts()) != 0 {
		t.Fatalf("%+v", rep)
	}
	if r.blobs() >= before {
		t.Errorf("%d blobs before, %d after", before, r.blobs())
	}
	r.check()
	if again := r.gc(upkeep.GCOptions{Now: true}); again.Compact.Segments != 0 {
		t.Errorf("compacted twice: %+v", again)
	}
}

func TestManySmallSegmentsBecomeFew(t *testing.T) {
	r := newRig(t, 1)
	for i := range 20 {
		r.write(fmt.Sprint(i), blob.Segment, random(uint64(i), 8192))
	}
	rep := r.gc(upkeep.GCOptions{Now: true})
	if rep.Compact.Segments != 20 || r.blobs() != 1 {
		t.Errorf("%d blobs: %+v", r.blobs(), rep)
	}
	r.check()
	if again := r.gc(upkeep.GCOptions{Now: true}); again.Compact.Segments != 0 {
		t.Errorf("merged twice: %+v", again)
	}
}

// A reader holds an extent whose segment is compacted away meanwhile.
func TestReaderWithOldHint(t *testing.T) {
	r := newRig(t, 1)
	st := r.write("a", blob.Segment, random(1, 200_000))
	r.write("b", blob.Segment, r.files["a"][:4096])
	r.remove("a")
	r.gc(upkeep.GCOptions{Now: true})
	p := make([]byte, 4096)
	if err := r.store.ReadExtent(t.Context(), r.vol.ID, &st.Extents[0].Extent, 0, p); err != nil || !bytes.Equal(p, r.files["b"]) {
		t.Errorf("live chunk by an old hint: %v", err)
	}
	if err := r.store.ReadExtent(t.Context(), r.vol.ID, &st.Extents[3].Extent, 0, p); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("dead chunk by an old hint: %v", err)
	}
}

func TestDoubtKeeps(t *testing.T) {
	damage := map[string]func([]byte) []byte{
		"footer":    func(b []byte) []byte { b[len(b)-30] ^= 1; return b },
		"directory": func(b []byte) []byte { b[len(b)-100] ^= 1; return b },
		"header":    func(b []byte) []byte { b[30] ^= 1; return b },
		"cut short": func(b []byte) []byte { return b[:len(b)-1] },
	}
	for what, fn := range damage {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, 1)
			r.write("a", blob.Segment, random(1, 200_000))
			r.remove("a")
			name := r.drives[0].Names()[0]
			r.drives[0].Damage(name, fn)
			rep := r.gc(upkeep.GCOptions{Now: true})
			if rep.Collect.Deleted != 0 || len(rep.Collect.Doubts) != 1 || r.blobs() != 1 {
				t.Errorf("a segment that cannot prove anything: %+v, %d blobs", rep, r.blobs())
			}
		})
	}
}

// The counter says that nothing lives in a segment, its directory shows
// otherwise.
func TestWrongCounterKeeps(t *testing.T) {
	r := newRig(t, 1)
	st := r.write("a", blob.Segment, random(1, 100_000))
	lie := &liar{guard: r.meta, id: st.Segments[0].ID}
	up, err := upkeep.New(upkeep.Options{Store: r.store, Meta: lie, Drives: r.set, Clock: r.clock, Rate: -1})
	if err != nil {
		t.Fatal(err)
	}
	rep, err := up.GC(t.Context(), upkeep.GCOptions{Now: true})
	if err != nil || rep.Collect.Deleted != 0 || len(rep.Collect.Doubts) != 1 || r.blobs() != 1 {
		t.Errorf("%+v, %d blobs: %v", rep, r.blobs(), err)
	}
	if seg, err := r.meta.Segment(t.Context(), st.Segments[0].ID); err != nil || !seg.Condemned.IsZero() {
		t.Errorf("%+v: %v", seg, err)
	}
	r.check()
}

// liar says that nothing lives in a segment; DropSegment then has only the
// directory to go by.
type liar struct {
	*guard
	id fsapi.SegmentID
}

func (l *liar) Segments(ctx context.Context, after fsapi.SegmentID, fn func(meta.SegmentUse) bool) error {
	return l.guard.Segments(ctx, after, func(s meta.SegmentUse) bool {
		s.Live = 0
		return fn(s)
	})
}

func (l *liar) Condemn(context.Context, fsapi.SegmentID) error { return nil }

func (l *liar) DropSegment(ctx context.Context, id fsapi.SegmentID, chunks []fsapi.ChunkID) error {
	for _, c := range chunks {
		s, err := l.Segment(ctx, id)
		if err != nil {
			return err
		}
		if rec, err := l.Chunk(ctx, s.Volume, c); err == nil && rec.Loc.Segment == id {
			return fsapi.Errorf(fsapi.Busy, "chunk %v lives", c)
		}
	}
	return errors.New("the directory named no live chunk")
}

func TestOrphans(t *testing.T) {
	r := newRig(t, 2)
	r.write("a", blob.Segment, random(1, 100_000))
	b := r.store.NewBatch(t.Context(), r.vol.ID, r.class())
	b.Add(t.Context(), 3, 0, random(2, 100_000), false)
	if _, err := b.Finish(t.Context(), blob.Segment); err != nil { // and never recorded
		t.Fatal(err)
	}
	r.drives[0].Put("seg/zz/stranger", []byte("?"))
	rep := r.gc(upkeep.GCOptions{Now: true})
	if rep.Orphans.Deleted != 0 || rep.Orphans.Waiting != 2 || len(rep.Orphans.Doubts) != 1 {
		t.Fatalf("a segment under way in this process: %+v", rep.Orphans)
	}
	r.clock.move(59 * time.Minute)
	if rep := r.gc(upkeep.GCOptions{}); rep.Orphans.Deleted != 0 {
		t.Fatalf("a young orphan: %+v", rep.Orphans)
	}
	r.clock.move(2 * time.Minute)
	if rep := r.gc(upkeep.GCOptions{}); rep.Orphans.Deleted != 2 || r.blobs() != 3 {
		t.Fatalf("an old orphan: %+v, %d blobs", rep.Orphans, r.blobs())
	}
	r.check()
}

func TestOrphansOfTheProcessBefore(t *testing.T) {
	r := newRig(t, 1)
	b := r.store.NewBatch(t.Context(), r.vol.ID, r.class())
	b.Add(t.Context(), 3, 0, random(2, 500_000), false)
	b.Finish(t.Context(), blob.Segment)
	r.clock.move(time.Second)
	r.open()
	if rep := r.gc(upkeep.GCOptions{}); rep.Orphans.Deleted != 0 {
		t.Fatalf("young, and nobody was in a hurry: %+v", rep.Orphans)
	}
	name := r.drives[0].Names()[0]
	r.drives[0].Damage(name, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	if rep := r.gc(upkeep.GCOptions{Now: true}); rep.Orphans.Deleted == 0 || len(rep.Orphans.Doubts) != 1 || r.blobs() != 1 {
		t.Fatalf("%+v, %d blobs", rep.Orphans, r.blobs())
	}
}

func TestScrubRepairs(t *testing.T) {
	for what, hurt := range map[string]func(d *blobtest.Drive, name string){
		"missing":   func(d *blobtest.Drive, name string) { d.Remove(name) },
		"cut short": func(d *blobtest.Drive, name string) { d.Damage(name, func(b []byte) []byte { return b[:len(b)/2] }) },
		"flipped":   func(d *blobtest.Drive, name string) { d.Damage(name, func(b []byte) []byte { b[5000] ^= 4; return b }) },
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, 2)
			r.write("a", blob.Segment, random(1, 100_000))
			r.meta.Sync(t.Context())
			name := r.drives[0].Names()[0]
			want := r.drives[0].Bytes(name)
			hurt(r.drives[1], name)
			rep, err := r.up.Scrub(t.Context(), what == "flipped")
			if err != nil || len(rep.Bad) != 1 || rep.Bad[0].Drive != 2 || !rep.Bad[0].Repaired {
				t.Fatalf("%+v: %v", rep, err)
			}
			if !bytes.Equal(r.drives[1].Bytes(name), want) {
				t.Error("the repaired replica differs")
			}
			if rep, err := r.up.Scrub(t.Context(), true); err != nil || len(rep.Bad) != 0 || rep.Replicas != 2 {
				t.Errorf("%+v: %v", rep, err)
			}
		})
	}
}

func TestScrubNamesWhatIsLost(t *testing.T) {
	r := newRig(t, 1)
	r.write("a", blob.Segment, random(1, 100_000))
	name := r.drives[0].Names()[0]
	r.drives[0].Damage(name, func(b []byte) []byte { b[70] ^= 4; return b })
	before := r.drives[0].Bytes(name)
	rep, err := r.up.Scrub(t.Context(), true)
	if err != nil || len(rep.Bad) != 1 || rep.Bad[0].Repaired || !errors.Is(rep.Bad[0].Err, fsapi.Corrupt) {
		t.Fatalf("%+v: %v", rep, err)
	}
	if !bytes.Equal(r.drives[0].Bytes(name), before) {
		t.Error("the only replica was touched")
	}
}

// A random history of writes, removals and upkeep, with restarts: every file
// always reads back, and in the end nothing is left that nothing needs.
func TestHistory(t *testing.T) {
	for seed := range uint64(4) {
		r := newRig(t, 2)
		rr := rand.New(rand.NewPCG(seed, 2))
		pool := random(seed, 1<<20)
		for step := range 150 {
			switch rr.IntN(8) {
			case 0, 1, 2:
				off := rr.IntN(len(pool)-200_000) &^ 4095
				mode := blob.Mode(rr.IntN(2))
				r.write(fmt.Sprint("f", step), mode, pool[off:off+1+rr.IntN(200_000)])
			case 3, 4:
				for name := range r.files {
					r.remove(name)
					break
				}
			case 5:
				if _, err := r.up.Pack(t.Context()); err != nil {
					t.Fatal(err)
				}
			case 6:
				if rep := r.gc(upkeep.GCOptions{Now: rr.IntN(2) == 0}); len(rep.Doubts()) != 0 {
					t.Fatal(rep.Doubts())
				}
			case 7:
				r.clock.move(time.Duration(rr.IntN(20)) * time.Minute)
				if rr.IntN(3) == 0 {
					r.open()
				}
			}
			r.check()
		}
		for name := range r.files {
			r.remove(name)
		}
		r.up.Pack(t.Context())
		r.gc(upkeep.GCOptions{Now: true})
		if n := r.blobs(); n != 0 {
			t.Errorf("seed %d: %d blobs left of an empty volume", seed, n)
		}
	}
}

func TestRunEnds(t *testing.T) {
	r := newRig(t, 1)
	r.write("a", blob.Auto, random(1, 60_000))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.up.Run(ctx)
	}()
	for n := int64(1); n > 0; { // until Run has packed
		r.clock.move(time.Minute)
		n, _ = r.meta.JournalBytes(t.Context())
	}
	cancel()
	<-done
	r.check()
}
