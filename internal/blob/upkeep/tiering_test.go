package upkeep_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/blobtest"
	"github.com/strakefs/strake/internal/blob/heat"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/mem"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// tierRig has one hot drive of a bounded capacity in front of a cold one.
type tierRig struct {
	*rig
	hot  *counted
	cold *counted
	heat *heat.Table
}

// counted is a drive that counts the calls that would wake it.
type counted struct {
	*mem.Drive
	mu    sync.Mutex
	calls map[string]int // guarded by mu
}

func (c *counted) count(op string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[op]++
}

func (c *counted) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	c.count("create")
	return c.Drive.Create(ctx, name, size)
}

func (c *counted) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	c.count("read")
	return c.Drive.ReadAt(ctx, name, off, p)
}

func (c *counted) Stat(ctx context.Context, name string) (drive.Blob, error) {
	c.count("stat")
	return c.Drive.Stat(ctx, name)
}

func (c *counted) Capacity(ctx context.Context) (drive.Capacity, error) {
	c.count("capacity")
	return c.Drive.Capacity(ctx)
}

func (c *counted) Delete(ctx context.Context, name string) error {
	c.count("delete")
	return c.Drive.Delete(ctx, name)
}

const hotBytes = 1_000_000

func newTierRig(t *testing.T, copies string) *tierRig {
	t.Helper()
	r := &tierRig{rig: copiesRig(t, copies, nil)}
	r.hot = r.join(drive.Info{ID: 1, Name: "ssd", Tier: "hot"}, hotBytes)
	r.cold = r.join(drive.Info{ID: 2, Name: "bucket", Tier: "cold"}, 1<<40)
	r.again()
	return r
}

// again starts a new upkeep with a new table of accesses, as a new process would.
func (r *tierRig) again() {
	r.heat = heat.New(heat.Options{Clock: r.clock, Reads: 3, Apart: time.Minute, Window: 24 * time.Hour})
	r.open()
}

func (r *tierRig) join(i drive.Info, capacity int64) *counted {
	d := &counted{Drive: mem.New(mem.Options{Info: i, Capacity: capacity, Now: r.clock.Now}), calls: map[string]int{}}
	if err := r.set.Add(d); err != nil {
		r.t.Fatal(err)
	}
	return d
}

func (r *tierRig) open() {
	r.rig.open()
	r.store.Close()
	var err error
	if r.store, err = blob.New(blob.Options{
		Index: r.meta, Keys: blobtest.Keys{Cipher: fsapi.CipherAES256GCM}, Drives: r.set, Clock: r.clock, Workers: 2,
		SegmentBytes: 256 << 10, JournalMax: 64 << 10, CacheBytes: 1 << 20, Heat: r.heat, NoRoom: func(tier string) { r.up.Room(tier) },
	}); err != nil {
		r.t.Fatal(err)
	}
	s := r.store
	r.t.Cleanup(func() { s.Close() })
	r.up, err = upkeep.New(upkeep.Options{
		Store: r.store, Meta: r.meta, Drives: r.set, Clock: r.clock, Rate: -1, BatchBytes: 512 << 10, GatherBytes: 1 << 20,
		Tiering: upkeep.Tiering{Heat: r.heat, PromoteRate: -1},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// fillHot writes files of 20 kB until the drive holds that part of its
// capacity, and lets the cold copies follow.
func (r *tierRig) fillHot(part float64) {
	r.t.Helper()
	for i := len(r.files); r.part() < part; i++ {
		r.write(fmt.Sprint("f", i), blob.Segment, random(uint64(i+1), 20_000))
		r.clock.move(time.Minute)
	}
	r.fulfil()
}

func (r *tierRig) part() float64 {
	c, err := r.hot.Drive.Capacity(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return 1 - float64(c.Avail)/float64(c.Total)
}

func (r *tierRig) tier() upkeep.TierReport {
	r.t.Helper()
	rep, err := r.up.TierOnce(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

// on are the files that have a readable copy on a tier.
func (r *tierRig) on(tier string) map[string]bool {
	r.t.Helper()
	there := map[string]bool{}
	for name := range r.files {
		s := r.segmentOf(name)
		there[name] = s.Copy(fsapi.CopySpec{Tier: tier, Replicas: 1}) != nil
	}
	return there
}

func (r *tierRig) extentsOf(name string) (list []fsapi.Extent) {
	r.t.Helper()
	err := r.meta.View(r.t.Context(), r.vol.ID, func(tx *meta.Tx) error {
		in, err := tx.Lookup(fsapi.RootIno, name)
		if err == nil {
			list, err = tx.Extents(in.Ino, 0, in.Size, 1<<20)
		}
		return err
	})
	if err != nil || len(list) == 0 {
		r.t.Fatalf("%s: %d extents, %v", name, len(list), err)
	}
	return list
}

func (r *tierRig) segmentOf(name string) fsapi.Segment {
	r.t.Helper()
	s, err := r.meta.Segment(r.t.Context(), r.extentsOf(name)[0].Loc.Segment)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// read reads a file from drives.
func (r *tierRig) read(name string) {
	r.t.Helper()
	r.store.DropCaches()
	for _, e := range r.extentsOf(name) {
		if err := r.store.ReadExtent(r.t.Context(), r.vol.ID, &e, 0, make([]byte, e.Len)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// Above the high watermark those go that were read least and longest ago, until
// the low one; the source of truth stays.
func TestWatermarks(t *testing.T) {
	r := newTierRig(t, "hot:1:evictable,cold:1")
	r.fillHot(0.92)
	all := len(r.files)
	r.clock.move(time.Hour)
	if err := r.meta.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"f0", "f1", "f2"} { // the oldest, but read
		r.read(name)
	}
	rep := r.tier()
	if p := r.part(); p > 0.8 || p < 0.75 || rep.Evicted < 2 || rep.Failed != 0 || len(rep.Full) != 0 {
		t.Errorf("%v of the drive is in use after %+v", p, rep)
	}
	hot := r.on("hot")
	for _, name := range []string{"f0", "f1", "f2"} {
		if !hot[name] {
			t.Errorf("%s was read last, and is gone", name)
		}
	}
	if hot["f3"] || hot["f4"] {
		t.Errorf("those read least stayed: %v", hot)
	}
	for name, there := range r.on("cold") {
		if !there {
			t.Errorf("%s is gone from the cold tier", name)
		}
	}
	if rep := r.tier(); rep.Evicted != 0 {
		t.Errorf("below the high watermark: %+v", rep)
	}
	if len(r.cold.Names()) != all {
		t.Errorf("%d cold blobs", len(r.cold.Names()))
	}
	r.check()
}

// Names are the blobs.
func (c *counted) Names() (names []string) {
	_ = c.List(context.Background(), "", "", func(b drive.Blob) error { names = append(names, b.Name); return nil })
	return names
}

// Neither young segments nor those with owed copies go; a drive on which nothing
// can go is left alone for a while, and looked after again once copies followed.
func TestNothingToEvictRests(t *testing.T) {
	r := newTierRig(t, "hot:1:evictable,cold:1")
	for i := 0; r.part() < 0.92; i++ {
		r.write(fmt.Sprint("f", i), blob.Segment, random(uint64(i+1), 100_000))
	}
	scans := 0
	r.meta.scanned = func() { scans++ }
	if rep := r.tier(); rep.Evicted != 0 || len(rep.Full) != 1 || scans != 1 {
		t.Errorf("nothing may go: %+v after %d scans", rep, scans)
	}
	for range 100 {
		r.clock.move(50 * time.Millisecond)
		r.up.Room("hot")
		r.tier()
	}
	if scans > 1 {
		t.Errorf("%d scans in 5 s although nothing could go", scans)
	}
	r.clock.move(time.Hour)
	r.fulfil()
	if rep := r.tier(); rep.Evicted == 0 || r.part() > 0.8 {
		t.Errorf("after the copies followed: %+v, %v in use", rep, r.part())
	}
	r.check()
}

// D5: a cold copy that cannot be read back keeps the hot one.
func TestEvictionNeedsTheColdCopy(t *testing.T) {
	r := newTierRig(t, "hot:1:evictable,cold:1")
	r.fillHot(0.92)
	r.clock.move(time.Hour)
	for _, name := range r.cold.Names() {
		if err := r.cold.Drive.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	rep := r.tier()
	if rep.Evicted != 0 || rep.Failed == 0 || len(rep.Full) != 1 {
		t.Errorf("evicted beside nothing: %+v", rep)
	}
	r.check()
}

// A copy with evictable=TIME goes when nobody has read it for that long.
func TestAge(t *testing.T) {
	r := newTierRig(t, "hot:1:evictable=48h,cold:1")
	r.write("a", blob.Segment, random(1, 50_000))
	r.write("b", blob.Segment, random(2, 50_000))
	r.fulfil()
	r.clock.move(47 * time.Hour)
	r.read("a")
	r.tier()
	r.clock.move(2 * time.Hour)
	rep := r.tier()
	if hot := r.on("hot"); rep.Aged != 1 || !hot["a"] || hot["b"] {
		t.Errorf("after 49 h: %+v, %v", rep, hot)
	}
	r.clock.move(50 * time.Hour)
	if rep := r.tier(); rep.Aged != 1 || len(r.hot.Names()) != 0 {
		t.Errorf("after 99 h: %+v, %v", rep, r.hot.Names())
	}
	r.check()
}

// What is read at several times comes back, what is scanned once does not; what
// was counted survives a restart.
func TestPromotion(t *testing.T) {
	r := newTierRig(t, "hot:1:evictable,cold:1")
	for i := range 5 {
		r.write(fmt.Sprint("f", i), blob.Segment, random(uint64(i+1), 100_000))
	}
	r.fulfil()
	r.clock.move(time.Hour)
	for i := range 5 {
		if err := r.up.Evict(t.Context(), r.segmentOf(fmt.Sprint("f", i)).ID, "hot"); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // a scan, then two more at once
		for i := range 5 {
			r.read(fmt.Sprint("f", i))
		}
	}
	if rep := r.tier(); rep.Promoted != 0 {
		t.Errorf("a scan promoted: %+v", rep)
	}
	for range 2 {
		r.clock.move(10 * time.Minute)
		r.read("f1")
	}
	rep := r.tier()
	if hot := r.on("hot"); rep.Promoted != 1 || !hot["f1"] || len(r.hot.Names()) != 1 {
		t.Errorf("promoted %+v: %v", rep, hot)
	}
	if rep := r.tier(); rep.Promoted != 0 {
		t.Errorf("promoted again: %+v", rep)
	}
	before, _ := r.heat.Of(r.segmentOf("f1").ID)
	if err := r.up.SaveHeat(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.again()
	if err := r.up.LoadHeat(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, ok := r.heat.Of(r.segmentOf("f1").ID); !ok || after != before || after.Count < 2.9 {
		t.Errorf("accesses %+v, after a restart %+v", before, after)
	}
	r.check()
}

// Nothing is promoted to a drive above its low watermark.
func TestNoPromotionWithoutRoom(t *testing.T) {
	r := newTierRig(t, "hot:1:evictable,cold:1")
	r.fillHot(0.75)
	if err := r.up.Evict(t.Context(), r.segmentOf("f0").ID, "hot"); err != nil {
		t.Fatal(err)
	}
	for i := 100; r.part() < 0.75; i++ {
		r.write(fmt.Sprint("g", i), blob.Segment, random(uint64(i+1), 50_000))
	}
	for range 4 {
		r.clock.move(10 * time.Minute)
		r.read("f0")
	}
	if rep := r.tier(); rep.Promoted != 0 || rep.Failed != 0 || r.on("hot")["f0"] {
		t.Errorf("promoted to a drive without room: %+v", rep)
	}
}

// A segment that finds no room on its tier goes to the next, and room is made at
// once, even below the high watermark.
func TestNoRoomKicksEviction(t *testing.T) {
	r := newTierRig(t, "hot:1:evictable,cold:1")
	r.fillHot(0.86)
	r.clock.move(time.Hour)
	r.again() // nobody has asked for room, and the drive is measured anew
	if _, err := r.set.Remove(1); err != nil {
		t.Fatal(err)
	}
	if err := r.set.Add(r.hot); err != nil {
		t.Fatal(err)
	}
	if rep := r.tier(); rep.Evicted != 0 {
		t.Fatalf("below the high watermark: %+v", rep)
	}
	r.write("big", blob.Segment, random(99, 200_000))
	if s := r.segmentOf("big"); s.Copies[0].Tier != "cold" {
		t.Fatalf("placed on %+v", s.Copies)
	}
	if rep := r.tier(); rep.Evicted == 0 || r.part() > 0.8 {
		t.Errorf("room was wanted: %+v, %v in use", rep, r.part())
	}
	r.check()
}

// What compaction writes anew is as warm as what it was made of.
func TestCompactionKeepsHeat(t *testing.T) {
	r := newTierRig(t, "hot:1")
	for i := range 4 {
		r.write(fmt.Sprint(i), blob.Segment, append(random(uint64(i), 200_000), random(uint64(100+i), 4096*6)...))
		r.write("part"+fmt.Sprint(i), blob.Segment, bytes.Clone(r.files[fmt.Sprint(i)][200_000/4096*4096:][:4096*3]))
	}
	var before []fsapi.SegmentID
	r.segments(func(s fsapi.Segment) {
		before = append(before, s.ID)
		r.heat.Touch(s.ID)
	})
	for i := range 4 {
		r.remove(fmt.Sprint(i))
	}
	if rep := r.gc(upkeep.GCOptions{Now: true}); rep.Compact.Segments == 0 {
		t.Fatalf("nothing was compacted: %+v", rep)
	}
	fresh := 0
	r.segments(func(s fsapi.Segment) {
		if slices.Contains(before, s.ID) {
			return
		}
		fresh++
		if h, ok := r.heat.Of(s.ID); !ok || h.Count < 0.99 {
			t.Errorf("segment %v is cold: %+v", s.ID, h)
		}
	})
	if fresh == 0 {
		t.Error("nothing was written anew")
	}
}
