package upkeep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/blobtest"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// copiesRig is a rig whose files want the given copies, with n drives on each
// tier.
func copiesRig(t *testing.T, copies string, n map[string]int) *rig {
	t.Helper()
	r := newRig(t, 1)
	p, err := policy.Parse("copies=" + copies)
	if err != nil {
		t.Fatal(err)
	}
	r.vol.Policy.Copies = p.Copies
	if _, err := r.set.Remove(1); err != nil {
		t.Fatal(err)
	}
	r.drives = nil
	for _, tier := range []string{"hot", "warm", "cold"} {
		for range n[tier] {
			r.addDrive(tier)
		}
	}
	return r
}

func (r *rig) addDrive(tier string) *blobtest.Drive {
	id := fsapi.DriveID(len(r.drives) + 1)
	d := blobtest.NewDrive(id).With(tier, id.String())
	d.Now, d.Fail = r.clock.Now, r.meta.watch(r.t)
	r.drives = append(r.drives, d)
	if err := r.set.Add(d); err != nil {
		r.t.Fatal(err)
	}
	return d
}

// segment is the record of the only segment.
func (r *rig) segment() fsapi.Segment {
	r.t.Helper()
	var list []fsapi.Segment
	if err := r.meta.Segments(r.t.Context(), fsapi.SegmentID{}, func(u meta.SegmentUse) bool { list = append(list, u.Segment); return true }); err != nil || len(list) != 1 {
		r.t.Fatalf("%d segments, %v", len(list), err)
	}
	return list[0]
}

func (r *rig) pending() (list []meta.Pending) {
	r.t.Helper()
	if err := r.meta.Pending(r.t.Context(), fsapi.SegmentID{}, func(p meta.Pending) bool { list = append(list, p); return true }); err != nil {
		r.t.Fatal(err)
	}
	return list
}

// fulfil does what is pending, and expects that it can be done.
func (r *rig) fulfil() {
	r.t.Helper()
	for _, p := range r.pending() {
		if err := r.up.Fulfil(r.t.Context(), p.Segment); err != nil {
			r.t.Fatal(err)
		}
	}
}

// whole checks that what is recorded is just what lies on the drives, all of it
// good.
func (r *rig) whole() {
	r.t.Helper()
	want := make(map[string]bool)
	if err := r.meta.Segments(r.t.Context(), fsapi.SegmentID{}, func(u meta.SegmentUse) bool {
		for i := range u.Copies {
			c := &u.Copies[i]
			for n, d := range c.Drives {
				if d == 0 {
					continue
				}
				want[fmt.Sprint(d, " ", blob.PartName(u.ID, c, n))] = true
				if err := r.store.VerifyPart(r.t.Context(), &u.Segment, c, n); err != nil {
					r.t.Error(err)
				}
			}
		}
		return true
	}); err != nil {
		r.t.Fatal(err)
	}
	for _, d := range r.drives {
		for _, name := range d.Names() {
			key := fmt.Sprint(d.Info().ID, " ", name)
			if !want[key] {
				r.t.Errorf("drive %v holds %s, which is not recorded", d.Info().ID, name)
			}
			delete(want, key)
		}
	}
	for key := range want {
		r.t.Errorf("recorded and not there: %s", key)
	}
	r.checkMeta()
}

func (r *rig) checkMeta() {
	r.t.Helper()
	if err := r.meta.Check(r.t.Context(), r.vol.ID, nil, func(p meta.Problem) { r.t.Error(p.Text) }); err != nil {
		r.t.Fatal(err)
	}
}

// NAS and bucket behind a local disk: the first copy at once, the others from
// the queue, which survives a restart.
func TestOwedCopiesFollow(t *testing.T) {
	r := copiesRig(t, "hot:1:evictable,warm:2,cold:1", map[string]int{"hot": 1, "warm": 2, "cold": 1})
	r.write("a", blob.Segment, random(1, 100_000))
	if s := r.segment(); len(s.Copies) != 1 || s.Copies[0].Tier != "hot" || len(s.Owed()) != 2 {
		t.Fatalf("at once: %+v", s.Copies)
	}
	r.open() // a new process
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.up.Run(ctx) }()
	if err := r.up.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	if s := r.segment(); !s.Settled() || len(r.pending()) != 0 {
		t.Fatalf("after draining: %+v, pending %v", s.Copies, r.pending())
	}
	r.whole()
	r.check()
}

// What cannot be written is tried again, ever later; what fails is said.
func TestPendingBacksOff(t *testing.T) {
	r := copiesRig(t, "hot:1,cold:1", map[string]int{"hot": 1, "cold": 1})
	r.write("a", blob.Segment, random(1, 50_000))
	fail := true
	r.drives[1].Fail = func(op, _ string) error {
		if fail && op == "Commit" {
			return fsapi.Errorf(fsapi.IO, "the bucket is away")
		}
		return nil
	}
	var last time.Time
	for i := range 5 {
		p := r.pending()[0]
		if err := r.up.Attempt(t.Context(), p); !errors.Is(err, fsapi.IO) {
			t.Fatalf("attempt %d: %v", i, err)
		}
		p = r.pending()[0]
		if p.Attempts != i+1 || !p.Next.After(last) || p.Err == "" {
			t.Errorf("after attempt %d: %+v", i, p)
		}
		last = p.Next
		r.clock.move(time.Millisecond)
	}
	fail = false
	r.fulfil()
	if len(r.pending()) != 0 {
		t.Errorf("pending: %+v", r.pending())
	}
	r.whole()
}

// Any m drives of k+m may go; readers see nothing, writers go on, and repair
// restores full redundancy on other drives.
func TestLostShards(t *testing.T) {
	for _, c := range []struct{ k, m int }{{2, 1}, {4, 2}, {10, 4}} {
		t.Run(fmt.Sprintf("%d+%d", c.k, c.m), func(t *testing.T) {
			r := copiesRig(t, fmt.Sprintf("warm:%d+%d", c.k, c.m), map[string]int{"warm": c.k + c.m})
			r.write("a", blob.Segment, random(1, 150_000))
			if s := r.segment(); !s.Settled() {
				t.Fatalf("written: %+v", s)
			}
			r.whole()
			lost := r.drives[1 : 1+c.m]
			for _, d := range lost {
				if _, err := r.set.Remove(d.Info().ID); err != nil {
					t.Fatal(err)
				}
			}
			r.check()
			r.write("b", blob.Segment, random(2, 50_000))
			r.check()
			r.drives = append(r.drives[:1:1], r.drives[1+c.m:]...)
			for range c.m {
				id := fsapi.DriveID(100 + len(r.drives))
				d := blobtest.NewDrive(id).With("warm", id.String())
				r.drives = append(r.drives, d)
				_ = r.set.Add(d)
			}
			r.fulfil()
			for _, d := range lost {
				var ids []fsapi.SegmentID
				_ = r.meta.Segments(t.Context(), fsapi.SegmentID{}, func(u meta.SegmentUse) bool { ids = append(ids, u.ID); return true })
				for _, id := range ids {
					if err := r.up.Leave(t.Context(), id, d.Info().ID, 0); err != nil {
						t.Fatal(err)
					}
				}
			}
			r.whole()
			r.check()
		})
	}
}

// A drive that is drained gives up everything, from its own bytes.
func TestDrain(t *testing.T) {
	r := copiesRig(t, "hot:2,warm:2+1", map[string]int{"hot": 3, "warm": 4})
	r.write("a", blob.Segment, random(1, 90_000))
	r.fulfil()
	for _, at := range []int{0, 3} {
		id := r.drives[at].Info().ID
		if err := r.set.SetState(id, drive.Draining); err != nil {
			t.Fatal(err)
		}
		if err := r.up.Leave(t.Context(), r.segment().ID, id, 0); err != nil {
			t.Fatal(err)
		}
		if n := r.drives[at].Names(); len(n) != 0 {
			t.Errorf("drive %v still holds %v", id, n)
		}
	}
	r.whole()
}

// D5: the hot copy goes only after a colder pinned one was read back.
func TestEvictReadsBackFirst(t *testing.T) {
	r := copiesRig(t, "hot:1:evictable,cold:1", map[string]int{"hot": 1, "cold": 1})
	r.write("a", blob.Segment, random(1, 50_000))
	id := r.segment().ID
	if err := r.up.Evict(t.Context(), id, "hot"); !errors.Is(err, fsapi.Busy) {
		t.Errorf("evicted beside nothing: %v", err)
	}
	r.fulfil()
	name := blob.SegmentName(id)
	r.drives[1].Damage(name, func(b []byte) []byte { b[500] ^= 1; return b })
	if err := r.up.Evict(t.Context(), id, "hot"); !errors.Is(err, fsapi.Corrupt) || len(r.drives[0].Names()) != 1 {
		t.Errorf("evicted beside a damaged copy: %v", err)
	}
	r.drives[1].Damage(name, func(b []byte) []byte { b[500] ^= 1; return b })
	if err := r.up.Evict(t.Context(), id, "hot"); err != nil || len(r.drives[0].Names()) != 0 {
		t.Errorf("evict: %v, %v", err, r.drives[0].Names())
	}
	if s := r.segment(); !s.Settled() || s.Copies[0].Verified.IsZero() {
		t.Errorf("evicted: %+v", s.Copies)
	}
	r.check()
	if err := r.up.Promote(t.Context(), id, "hot"); err != nil || len(r.drives[0].Names()) != 1 {
		t.Errorf("promote: %v", err)
	}
	r.whole()
}

// What was read back once does not stand in for a hot copy while its bucket is
// away.
func TestNothingGoesWhileWhatStandsInIsAway(t *testing.T) {
	r := copiesRig(t, "hot:1,cold:1", map[string]int{"hot": 1, "cold": 1, "warm": 3})
	r.write("a", blob.Segment, random(1, 50_000))
	id := r.segment().ID
	r.fulfil()
	want := func(text string) {
		t.Helper()
		p, err := policy.Parse("copies=" + text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.meta.ChangeSegment(t.Context(), id, func(s *fsapi.Segment) error { s.Want = p.Copies; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	want("hot:1:evictable,cold:1")
	if err := r.up.Evict(t.Context(), id, "hot"); err != nil {
		t.Fatal(err)
	}
	if err := r.up.Promote(t.Context(), id, "hot"); err != nil {
		t.Fatal(err)
	}
	cold := r.segment().Copies[0].Drives[0]
	for _, st := range []drive.State{drive.Offline, drive.Suspect} {
		if err := r.set.SetState(cold, st); err != nil {
			t.Fatal(err)
		}
		want("hot:1:evictable,cold:1")
		if err := r.up.Evict(t.Context(), id, "hot"); !errors.Is(err, fsapi.Busy) || len(r.drives[0].Names()) != 1 {
			t.Errorf("evicted while the cold copy is %v: %v", st, err)
		}
		want("cold:1") // the hot one is surplus
		if err := r.up.Fulfil(t.Context(), id); !errors.Is(err, fsapi.Busy) || len(r.drives[0].Names()) != 1 {
			t.Errorf("dropped while the cold copy is %v: %v", st, err)
		}
	}
	if err := r.set.SetState(cold, drive.Online); err != nil {
		t.Fatal(err)
	}
	if err := r.up.Fulfil(t.Context(), id); err != nil || len(r.drives[0].Names()) != 0 {
		t.Errorf("not dropped though the cold copy is back: %v", err)
	}
	r.whole()
}

// Shards of the old and of the new layout have the same names. One that was lost
// leaves its name free: none of the new ones may take it, or would go with the old.
func TestShardsOfAnotherLayoutAreKeptApart(t *testing.T) {
	for range 20 {
		r := copiesRig(t, "warm:4+2", map[string]int{"warm": 6})
		r.write("a", blob.Segment, random(1, 90_000))
		r.fulfil()
		s := r.segment()
		for n, at := range s.Copies[0].Drives[:2] {
			i := slices.IndexFunc(r.drives, func(d *blobtest.Drive) bool { return d.Info().ID == at })
			r.drives[i].Remove(blob.ShardName(s.ID, n))
		}
		p, err := policy.Parse("copies=warm:2+1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.meta.ChangeSegment(t.Context(), s.ID, func(s *fsapi.Segment) error { s.Want = p.Copies; return nil }); err != nil {
			t.Fatal(err)
		}
		r.fulfil()
		if s := r.segment(); !s.Settled() {
			t.Fatalf("it has %+v", s.Copies)
		}
		r.whole()
		r.check()
		if t.Failed() {
			return
		}
	}
}

// Fewer replicas are wanted, and one that would stay has rotted since it was read
// back: it is made whole before the others go.
func TestSurplusStandsInForWhatRotted(t *testing.T) {
	r := copiesRig(t, "cold:3", map[string]int{"cold": 3})
	r.write("a", blob.Segment, random(1, 50_000))
	r.fulfil()
	s := r.segment()
	r.change(func(s *fsapi.Segment) {
		s.Copies[0].Verified = r.clock.Now()
		s.Want[0].Replicas = 1
	})
	stays := slices.IndexFunc(r.drives, func(d *blobtest.Drive) bool { return d.Info().ID == s.Copies[0].Drives[0] })
	r.drives[stays].Damage(blob.SegmentName(s.ID), func(b []byte) []byte { b[500] ^= 1; return b })
	r.fulfil()
	if s := r.segment(); !s.Settled() || s.Copies[0].Count() != 1 {
		t.Errorf("one replica is wanted: %+v", s.Copies)
	}
	r.whole()
	r.check()
}

// Another policy: the new copies are there before the old ones go.
func TestSegmentsTakeAnotherLayout(t *testing.T) {
	r := copiesRig(t, "warm:3", map[string]int{"warm": 6})
	r.write("a", blob.Segment, random(1, 90_000))
	id := r.segment().ID
	for _, to := range []string{"warm:4+2", "warm:2", "warm:1", "warm:2+1"} {
		p, err := policy.Parse("copies=" + to)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.meta.ChangeSegment(t.Context(), id, func(s *fsapi.Segment) error { s.Want = p.Copies; return nil }); err != nil {
			t.Fatal(err)
		}
		r.fulfil()
		if s := r.segment(); !s.Settled() || len(s.Copies) != 1 || s.Copies[0].Count() != p.Copies[0].Width() {
			t.Fatalf("%s: %+v", to, s.Copies)
		}
		r.whole()
		r.check()
	}
}

// A bad shard is found by a reader, answered from others and made good.
func TestBadShardIsMended(t *testing.T) {
	r := copiesRig(t, "warm:2+1", map[string]int{"warm": 3})
	r.write("a", blob.Segment, random(1, 90_000))
	s := r.segment()
	for n, d := range s.Copies[0].Drives {
		good := r.drives[d-1].Bytes(blob.ShardName(s.ID, n))
		r.drives[d-1].Damage(blob.ShardName(s.ID, n), func(b []byte) []byte { b[len(b)/2] ^= 4; return b })
		rep, err := r.up.Scrub(t.Context(), true)
		if err != nil || len(rep.Bad) != 1 || !rep.Bad[0].Repaired || rep.Bad[0].Drive != d {
			t.Fatalf("scrub: %+v, %v", rep, err)
		}
		if !bytes.Equal(r.drives[d-1].Bytes(blob.ShardName(s.ID, n)), good) {
			t.Errorf("shard %d was not made good", n)
		}
	}
	r.whole()
}

// Data shared with a file that asks for more is stored again as safely as that
// asks, and both read it.
func TestDuplicatesAreAsSafeAsAsked(t *testing.T) {
	r := copiesRig(t, "hot:1", map[string]int{"hot": 3})
	data := random(1, 90_000)
	r.write("a", blob.Segment, data)
	p, _ := policy.Parse("copies=hot:3")
	r.vol.Policy.Copies = p.Copies
	r.write("b", blob.Segment, data)
	for _, e := range r.write("c", blob.Segment, data).Extents {
		c, err := r.meta.Chunk(t.Context(), r.vol.ID, e.Chunk)
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.meta.Segment(t.Context(), c.Loc.Segment)
		if err != nil || !fsapi.Covers(s.Want, p.Copies) || s.Copies[0].Count() != 3 {
			t.Fatalf("chunk %v lies in %+v, %v", e.Chunk, s, err)
		}
	}
	r.check()
	r.checkMeta()
}

// Data shared by files on different tiers lies on both.
func TestDuplicatesOnOtherTiers(t *testing.T) {
	for _, mode := range []blob.Mode{blob.Segment, blob.Auto} {
		r := copiesRig(t, "hot:2", map[string]int{"hot": 2, "cold": 1})
		data := random(1, 30_000)
		r.write("a", blob.Segment, data)
		p, _ := policy.Parse("copies=cold:1")
		r.vol.Policy.Copies = p.Copies
		r.write("b", mode, data)
		if _, err := r.up.Pack(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, e := range r.write("c", blob.Segment, data).Extents {
			c, err := r.meta.Chunk(t.Context(), r.vol.ID, e.Chunk)
			if err != nil {
				t.Fatal(err)
			}
			s, err := r.meta.Segment(t.Context(), c.Loc.Segment)
			if err != nil || !fsapi.Covers(s.Want, p.Copies) || !fsapi.Covers(s.Want, []policy.Copy{{Tier: "hot", Replicas: 2}}) {
				t.Fatalf("mode %v: chunk %v lies in %v, %v", mode, e.Chunk, s.Want, err)
			}
		}
		r.fulfil()
		r.check()
		r.checkMeta()
	}
}

// Small writes keep the policy of their file, and their owner, when they leave
// the journal.
func TestPackKeepsPolicyAndOwner(t *testing.T) {
	r := copiesRig(t, "hot:1", map[string]int{"hot": 3})
	want := map[string][]policy.Copy{"a": {{Tier: "hot", Replicas: 1}}, "b": {{Tier: "hot", Replicas: 3}}, "c": {{Tier: "hot", K: 2, M: 1}}}
	shared := random(9, 4096)
	for name, copies := range want {
		r.vol.Policy.Copies = copies
		r.write(name, blob.Auto, append(random(uint64(name[0]), 8192), shared...))
	}
	if rep, err := r.up.Pack(t.Context()); err != nil || len(rep.Bad) > 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	var exts []fsapi.Extent
	for name, copies := range want {
		if err := r.meta.View(t.Context(), r.vol.ID, func(tx *meta.Tx) error {
			in, err := tx.Lookup(fsapi.RootIno, name)
			if err != nil {
				return err
			}
			exts, err = tx.Extents(in.Ino, 0, in.Size, 100)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for _, e := range exts {
			c, err := r.meta.Chunk(t.Context(), r.vol.ID, e.Chunk)
			if err != nil {
				t.Fatal(err)
			}
			s, err := r.meta.Segment(t.Context(), c.Loc.Segment)
			if err != nil || !fsapi.Covers(s.Want, copies) {
				t.Errorf("%s wants %v, lies in %v: %v", name, copies, s.Want, err)
			}
			sr, err := r.store.Open(t.Context(), &s)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range sr.Directory() {
				if d.Ino != 2 {
					t.Errorf("chunk %v has owner %d", d.Chunk, d.Ino)
				}
			}
		}
	}
	r.check()
	r.checkMeta()
}

// A copy is evicted and wanted back at the same time: who writes it does not take
// what is about to be deleted for what he was to write.
func TestEvictAndPromoteAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := copiesRig(t, "hot:1:evictable,cold:1", map[string]int{"hot": 1, "cold": 1})
		r.write("a", blob.Segment, random(1, 50_000))
		r.fulfil()
		id := r.segment().ID
		promoted := make(chan error, 1)
		r.drives[0].Fail = func(op, _ string) error {
			if op == "Delete" {
				r.drives[0].Fail = nil
				go func() { promoted <- r.up.Promote(t.Context(), id, "hot") }()
				synctest.Wait()
			}
			return nil
		}
		if err := r.up.Evict(t.Context(), id, "hot"); err != nil {
			t.Fatal(err)
		}
		if err := <-promoted; err != nil {
			t.Fatal(err)
		}
		if s := r.segment(); len(s.Copies) != 2 {
			t.Errorf("promoted: %+v", s.Copies)
		}
		r.whole()
	})
}

// Two steps move the same part, one of which is broken off: it does not delete
// what the other has put on record.
func TestLeaveTwiceBrokenOff(t *testing.T) {
	r := copiesRig(t, "warm:2+1", map[string]int{"warm": 4})
	r.write("a", blob.Segment, random(1, 50_000))
	r.fulfil()
	id, from := r.segment().ID, r.segment().Copies[0].Drives[0]
	free := r.drives[slices.IndexFunc(r.drives, func(d *blobtest.Drive) bool {
		return !slices.Contains(r.segment().Copies[0].Drives, d.Info().ID)
	})].Info().ID
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r.meta.before = func() { // it is about to be put on record
		r.meta.before = nil
		if err := r.up.Leave(t.Context(), id, from, free); err != nil {
			t.Error(err)
		}
		cancel()
	}
	if err := r.up.Leave(ctx, id, from, free); !errors.Is(err, fsapi.Interrupted) {
		t.Errorf("the step that was broken off says %v", err)
	}
	r.clock.move(48 * time.Hour)
	if _, err := r.up.SweepOrphans(t.Context(), upkeep.GCOptions{}); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(r.segment().Copies[0].Drives, free) {
		t.Errorf("it has not left: %+v", r.segment().Copies)
	}
	r.whole()
}

// What lies in the place of a part that is owed is not taken for it unless it is whole.
func TestLeftoverIsNotTakenOver(t *testing.T) {
	for _, good := range []bool{true, false} {
		r := copiesRig(t, "hot:1,cold:1", map[string]int{"hot": 1, "cold": 1})
		r.write("a", blob.Segment, random(1, 50_000))
		name := blob.SegmentName(r.segment().ID)
		left := r.drives[0].Bytes(name)
		if !good {
			left[len(left)/2] ^= 1
		}
		r.drives[1].Put(name, left)
		err := r.up.Fulfil(t.Context(), r.segment().ID)
		if s := r.segment(); (err == nil) != good || s.Settled() != good {
			t.Errorf("good: %v; %v, %+v", good, err, s.Copies)
		}
	}
}
