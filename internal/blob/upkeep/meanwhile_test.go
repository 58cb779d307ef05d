package upkeep_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/blobtest"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/fsapi"
)

// change is what another step does to the record of the only segment.
func (r *rig) change(fn func(seg *fsapi.Segment)) {
	r.t.Helper()
	if _, err := r.meta.Store.ChangeSegment(r.t.Context(), r.segment().ID, func(seg *fsapi.Segment) error {
		fn(seg)
		return nil
	}); err != nil {
		r.t.Fatal(err)
	}
}

// meanwhile does fn just before the n-th change of a record from now on.
func (r *rig) meanwhile(n int, fn func()) {
	r.meta.before = func() {
		if n--; n == 0 {
			fn()
		}
	}
}

// D5: what an eviction has made sure of holds when the record is changed, or it
// does not take place.
func TestEvictSeesWhatChangedMeanwhile(t *testing.T) {
	for what, c := range map[string]struct {
		at int // changes until then: the first notes that the cold copy was read back
		do func(seg *fsapi.Segment)
	}{
		"the cold copy was moved while it was read back": {1, func(seg *fsapi.Segment) { seg.Copies[1].Drives[0] ^= 2 ^ 3 }},
		"the cold copy was moved since":                  {2, func(seg *fsapi.Segment) { seg.Copies[1].Verified = time.Time{} }},
		"the cold copy is gone":                          {2, func(seg *fsapi.Segment) { seg.Copies = seg.Copies[:1] }},
	} {
		t.Run(what, func(t *testing.T) {
			r := copiesRig(t, "hot:1:evictable,cold:1", map[string]int{"hot": 1, "cold": 2})
			r.write("a", blob.Segment, random(1, 50_000))
			r.fulfil()
			r.change(func(seg *fsapi.Segment) {
				if seg.Copies[0].Tier != "hot" || seg.Copies[1].Tier != "cold" {
					t.Fatalf("%+v", seg.Copies)
				}
			})
			r.meanwhile(c.at, func() { r.change(c.do) })
			err := r.up.Evict(t.Context(), r.segment().ID, "hot")
			if !errors.Is(err, fsapi.Busy) || len(r.drives[0].Names()) != 1 || r.segment().Copies[0].Tier != "hot" {
				t.Errorf("evicted: %v, %v, %+v", err, r.drives[0].Names(), r.segment().Copies)
			}
		})
	}
}

// surplusRig is a rig with a segment that has a hot copy too many beside a cold one
// that was read back long ago.
func surplusRig(t *testing.T) *rig {
	r := copiesRig(t, "hot:1,cold:1", map[string]int{"hot": 1, "cold": 1, "warm": 1})
	r.write("a", blob.Segment, random(1, 50_000))
	r.fulfil()
	r.change(func(seg *fsapi.Segment) {
		seg.Copies[1].Verified = r.clock.Now()
		seg.Want = copiesOf(t, "cold:1")
	})
	return r
}

// D4: a copy too many stays where another policy came meanwhile that is not met.
func TestSurplusSeesWhatChangedMeanwhile(t *testing.T) {
	r := surplusRig(t)
	id := r.segment().ID
	r.meanwhile(2, func() { r.change(func(seg *fsapi.Segment) { seg.Want = copiesOf(t, "cold:1,warm:1") }) })
	if err := r.up.Fulfil(t.Context(), id); !errors.Is(err, fsapi.Busy) || len(r.drives[0].Names()) != 1 {
		t.Errorf("a copy is owed, and the one too many went: %v, %v", err, r.drives[0].Names())
	}
	r.meta.before = nil
	if err := r.up.Fulfil(t.Context(), id); err != nil || len(r.drives[0].Names()) != 0 {
		t.Errorf("nothing is owed any more: %v, %v", err, r.drives[0].Names())
	}
	r.whole()
}

// D5: that a copy was read back once is not enough for another to go, while it cannot
// be read now.
func TestSurplusStaysWhileWhatStaysCannotBeRead(t *testing.T) {
	r := surplusRig(t)
	cold := r.drives[slices.IndexFunc(r.drives, func(d *blobtest.Drive) bool { return d.Info().Tier == "cold" })]
	cold.Fail = func(op, _ string) error {
		if op == "ReadAt" {
			return fsapi.Errorf(fsapi.IO, "no answer")
		}
		return nil
	}
	if err := r.up.Fulfil(t.Context(), r.segment().ID); !errors.Is(err, fsapi.IO) || len(r.drives[0].Names()) != 1 {
		t.Errorf("the copy too many went: %v, %v", err, r.drives[0].Names())
	}
	cold.Fail = nil
	r.fulfil()
	r.whole()
}

// A copy of which a part is new has not been read back.
func TestNewPartsAreNotVerified(t *testing.T) {
	verified := func(r *rig) bool { return !r.segment().Copies[0].Verified.IsZero() }
	verify := func(r *rig) { r.change(func(seg *fsapi.Segment) { seg.Copies[0].Verified = r.clock.Now() }) }
	for copies, n := range strayLayouts {
		t.Run(copies, func(t *testing.T) {
			r := copiesRig(t, copies, n)
			r.write("a", blob.Segment, random(1, 60_000))
			r.fulfil()
			verify(r)
			from := r.segment().Copies[0].Drives[0]
			if err := r.up.Leave(t.Context(), r.segment().ID, from, 0); err != nil || verified(r) {
				t.Errorf("a part was moved: %v, %+v", err, r.segment().Copies)
			}
			verify(r)
			r.change(func(seg *fsapi.Segment) { // the drive of one is lost
				if seg.Copies[0].Sharded() {
					seg.Copies[0].Drives[0] = 0
				} else {
					seg.Copies[0].Drives = seg.Copies[0].Drives[:1]
				}
			})
			r.fulfil()
			if s := r.segment(); !s.Settled() || verified(r) {
				t.Errorf("a part was written anew: %+v", s.Copies)
			}
		})
	}
}

// D4: a stray stays where its segment is owed something once the record is durable.
func TestStrayStaysWhereMoreIsOwedMeanwhile(t *testing.T) {
	for copies, n := range strayLayouts {
		t.Run(copies, func(t *testing.T) {
			r, back, name := strayRig(t, copies, n)
			r.clock.move(2 * time.Hour)
			r.meta.syncing = func(context.Context) error {
				r.meta.syncing = nil
				r.change(func(seg *fsapi.Segment) { seg.Want = append(seg.Want, copiesOf(t, "cold:1")...) })
				return nil
			}
			if rep := r.sweep(); rep.Deleted != 0 || len(rep.Doubts) != 1 || !slices.Contains(r.drives[back].Names(), name) {
				t.Errorf("%+v, %v", rep, r.drives[back].Names())
			}
		})
	}
}

// A part that was written while its segment was condemned is no part of it, and goes.
func TestCondemnedMeanwhile(t *testing.T) {
	r := copiesRig(t, "hot:1,cold:1", map[string]int{"hot": 1, "cold": 1})
	r.write("a", blob.Segment, random(1, 50_000))
	id := r.segment().ID
	r.remove("a")
	if _, err := r.up.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.meanwhile(1, func() {
		if err := r.meta.Condemn(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	})
	if err := r.up.Fulfil(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if s := r.segment(); s.Condemned.IsZero() || len(s.Copies) != 1 || len(r.drives[1].Names()) != 0 {
		t.Errorf("%+v, %v", s, r.drives[1].Names())
	}
	r.whole()
}

// What another process makes that has the drives, too, is not what was left by one
// before this.
func TestOrphansOfAnotherProcess(t *testing.T) {
	r := newRig(t, 1)
	up := r.up
	r.clock.move(time.Minute)
	r.open()
	r.orphaned(2)
	if rep, err := up.SweepOrphans(t.Context(), upkeep.GCOptions{Now: true}); err != nil || rep.Deleted != 0 || rep.Waiting != 1 {
		t.Errorf("%+v, %v", rep, err)
	}
}

// The clock of who made a segment may have been slow: what came to its drive a short
// time ago may yet be recorded.
func TestYoungOrphanOfASlowClock(t *testing.T) {
	r := newRig(t, 1)
	r.orphaned(2)
	r.clock.move(2 * time.Hour)
	r.open()
	name := r.drives[0].Names()[0]
	r.drives[0].Put(name, r.drives[0].Bytes(name))
	if rep := r.sweep(); rep.Deleted != 0 || rep.Waiting != 1 {
		t.Errorf("young: %+v", rep)
	}
	r.clock.move(time.Hour)
	if rep := r.sweep(); rep.Deleted != 1 {
		t.Errorf("old: %+v", rep)
	}
}

// A part that is owed is not put on record of a segment that was condemned while it
// was read.
func TestAdoptedMeanwhileCondemned(t *testing.T) {
	r := copiesRig(t, "hot:2", map[string]int{"hot": 2})
	r.write("a", blob.Segment, random(1, 50_000))
	id := r.segment().ID
	r.remove("a")
	if _, err := r.up.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.change(func(seg *fsapi.Segment) { seg.Copies[0].Drives = seg.Copies[0].Drives[:1] })
	r.clock.move(2 * time.Hour)
	r.meanwhile(1, func() {
		if err := r.meta.Condemn(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	})
	if rep := r.sweep(); rep.Adopted != 0 || rep.Waiting != 1 || r.segment().Copies[0].Count() != 1 {
		t.Errorf("%+v, %+v", rep, r.segment())
	}
}
