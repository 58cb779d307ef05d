package upkeep_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// orphaned stores a segment that is never recorded.
func (r *rig) orphaned(seed uint64) {
	r.t.Helper()
	b := r.store.NewBatch(r.t.Context(), r.vol.ID, r.class())
	if _, err := b.Add(r.t.Context(), 3, 0, random(seed, 60_000), false); err != nil {
		r.t.Fatal(err)
	}
	if _, err := b.Finish(r.t.Context(), blob.Segment); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) sweep() upkeep.OrphanReport {
	r.t.Helper()
	rep, err := r.up.SweepOrphans(r.t.Context(), upkeep.GCOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

// Shards without a record go when their directory, read from any k of them,
// proves them dead.
func TestOrphanShards(t *testing.T) {
	r := copiesRig(t, "warm:2+2", map[string]int{"warm": 4})
	r.write("a", blob.Segment, random(1, 60_000))
	r.orphaned(2)
	if rep := r.sweep(); rep.Deleted != 0 || rep.Waiting == 0 {
		t.Fatalf("young: %+v", rep)
	}
	r.clock.move(2 * time.Hour)
	if rep := r.sweep(); rep.Deleted != 4 || len(rep.Doubts) != 0 || rep.Waiting != 0 {
		t.Fatalf("old: %+v", rep)
	}
	r.whole()
	r.check()
}

// D4: orphan shards are kept while anything speaks for them.
func TestOrphanShardsAreKept(t *testing.T) {
	shards := func(r *rig) (names []string) {
		for _, d := range r.drives {
			names = append(names, d.Names()...)
		}
		return names
	}
	for what, c := range map[string]struct {
		do    func(t *testing.T, r *rig)
		dead  int // are deleted
		doubt bool
	}{
		"a chunk's record points there": {do: func(t *testing.T, r *rig) {
			r.write("a", blob.Segment, random(9, 60_000))
			r.meta.hide = true
		}, doubt: true},
		"k are there but one is damaged": {do: func(t *testing.T, r *rig) {
			r.orphaned(2)
			for i, d := range r.drives {
				name := d.Names()[0]
				if i < 2 {
					d.Remove(name)
				} else if i == 2 {
					d.Damage(name, func(b []byte) []byte {
						for i := 200; i < len(b)-200; i++ {
							b[i] ^= 1
						}
						return b
					})
				}
			}
		}, doubt: true},
		"too few, and a drive is away": {do: func(t *testing.T, r *rig) {
			r.orphaned(2)
			for _, d := range r.drives[:3] {
				d.Remove(d.Names()[0])
			}
			if err := r.set.SetState(1, drive.Offline); err != nil {
				t.Fatal(err)
			}
		}},
		"too few, and a recorded drive is not attached": {do: func(t *testing.T, r *rig) {
			r.orphaned(2)
			for _, d := range r.drives[:3] {
				d.Remove(d.Names()[0])
			}
			if err := r.meta.PutDrive(t.Context(), meta.DriveRecord{ID: 77, Name: "away", Tier: "warm"}); err != nil {
				t.Fatal(err)
			}
		}},
		"too few, and a drive cannot be listed": {do: func(t *testing.T, r *rig) {
			r.orphaned(2)
			for _, d := range r.drives[:3] {
				d.Remove(d.Names()[0])
			}
			r.drives[0].Fail = func(op, _ string) error {
				if op == "List" {
					return fsapi.Errorf(fsapi.IO, "no answer")
				}
				return nil
			}
		}},
		"too few, but some may be more": {do: func(t *testing.T, r *rig) {
			r.orphaned(2)
			r.drives[0].Remove(r.drives[0].Names()[0])
			for _, d := range r.drives[1:3] { // they do not say what they are
				d.Damage(d.Names()[0], func(b []byte) []byte { clear(b); return b })
			}
		}, doubt: true},
		"too few anywhere": {do: func(t *testing.T, r *rig) {
			r.orphaned(2)
			for _, d := range r.drives[:3] {
				d.Remove(d.Names()[0])
			}
		}, dead: 1},
	} {
		t.Run(what, func(t *testing.T) {
			r := copiesRig(t, "warm:2+2", map[string]int{"warm": 4})
			c.do(t, r)
			before := shards(r)
			r.clock.move(2 * time.Hour)
			rep, _ := r.up.SweepOrphans(t.Context(), upkeep.GCOptions{})
			if rep.Deleted != c.dead || len(rep.Doubts) > 0 != c.doubt {
				t.Errorf("%+v", rep)
			}
			if c.dead == 0 && !slices.Equal(shards(r), before) {
				t.Errorf("%v are left of %v", shards(r), before)
			}
		})
	}
}

// strayRig is a rig with a segment that was made whole without a drive, which is
// back.
func strayRig(t *testing.T, copies string, n map[string]int) (r *rig, back int, name string) {
	t.Helper()
	r = copiesRig(t, copies, n)
	r.write("a", blob.Segment, random(1, 60_000))
	r.fulfil()
	s := r.segment()
	id := s.Copies[0].Drives[0]
	back = int(id) - 1
	name = blob.PartName(s.ID, &s.Copies[0], 0)
	old := r.drives[back].Bytes(name)
	if err := r.up.Leave(t.Context(), s.ID, id, 0); err != nil {
		t.Fatal(err)
	}
	r.drives[back].Put(name, old)
	return r, back, name
}

var strayLayouts = map[string]map[string]int{"hot:2": {"hot": 3}, "warm:2+1": {"warm": 4}}

// The part of a drive that came back goes, once its segment surely needs nothing.
func TestStrays(t *testing.T) {
	for copies, n := range strayLayouts {
		t.Run(copies, func(t *testing.T) {
			r, back, name := strayRig(t, copies, n)
			if rep := r.sweep(); rep.Deleted != 0 || rep.Waiting != 1 {
				t.Fatalf("young: %+v", rep)
			}
			r.clock.move(2 * time.Hour)
			if rep := r.sweep(); rep.Deleted != 1 || len(rep.Doubts) != 0 {
				t.Fatalf("old: %+v", rep)
			}
			if slices.Contains(r.drives[back].Names(), name) {
				t.Error("it is still there")
			}
			r.whole()
			r.check()
		})
	}
}

// D4: a stray is kept while its segment is not surely whole.
func TestStraysAreKept(t *testing.T) {
	for what, do := range map[string]func(r *rig, s *fsapi.Segment){
		"a drive on record is away": func(r *rig, s *fsapi.Segment) { _ = r.set.SetState(s.Copies[0].Drives[1], drive.Offline) },
		"a drive on record is not attached": func(r *rig, s *fsapi.Segment) {
			if _, err := r.set.Remove(s.Copies[0].Drives[1]); err != nil {
				r.t.Fatal(err)
			}
		},
		"a part on record is missing": func(r *rig, s *fsapi.Segment) {
			r.drives[s.Copies[0].Drives[1]-1].Remove(blob.PartName(s.ID, &s.Copies[0], 1))
		},
		"a part on record is damaged": func(r *rig, s *fsapi.Segment) {
			r.drives[s.Copies[0].Drives[1]-1].Damage(blob.PartName(s.ID, &s.Copies[0], 1), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		},
		"the segment is owed more": func(r *rig, s *fsapi.Segment) {
			if _, err := r.meta.ChangeSegment(r.t.Context(), s.ID, func(s *fsapi.Segment) error {
				s.Want = append(s.Want, fsapi.CopySpec{Tier: "cold", Replicas: 1})
				return nil
			}); err != nil {
				r.t.Fatal(err)
			}
		},
	} {
		for copies, n := range strayLayouts {
			t.Run(what+"/"+copies, func(t *testing.T) {
				r, back, name := strayRig(t, copies, n)
				s := r.segment()
				do(r, &s)
				r.clock.move(2 * time.Hour)
				if rep := r.sweep(); rep.Deleted != 0 || rep.Adopted != 0 || rep.Waiting+len(rep.Doubts) == 0 {
					t.Errorf("%+v", rep)
				}
				if !slices.Contains(r.drives[back].Names(), name) {
					t.Error("it is gone")
				}
			})
		}
	}
}

// A segment that is owed just the part which came back takes it, if it is good.
func TestStraysAreAdopted(t *testing.T) {
	for copies, n := range strayLayouts {
		for _, good := range []bool{true, false} {
			t.Run(fmt.Sprint(copies, good), func(t *testing.T) {
				r := copiesRig(t, copies, n)
				r.write("a", blob.Segment, random(1, 60_000))
				r.fulfil()
				s := r.segment()
				id := s.Copies[0].Drives[0]
				if _, err := r.meta.ChangeSegment(t.Context(), s.ID, func(s *fsapi.Segment) error {
					if s.Copies[0].Sharded() {
						s.Copies[0].Drives[0] = 0
					} else {
						s.Copies[0].Drives = s.Copies[0].Drives[1:]
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				d := r.drives[id-1]
				if !good {
					d.Damage(d.Names()[0], func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
				}
				r.clock.move(2 * time.Hour)
				rep := r.sweep()
				if !good {
					if rep.Adopted != 0 || len(rep.Doubts) != 1 || len(d.Names()) != 1 {
						t.Errorf("a damaged one: %+v, %v", rep, d.Names())
					}
					return
				}
				if now := r.segment(); rep.Adopted != 1 || !now.Settled() || !slices.Contains(now.Copies[0].Drives, id) {
					t.Errorf("%+v, %+v", rep, now.Copies)
				}
				r.whole()
				r.check()
			})
		}
	}
}

// D4: what is being written is not taken for a stray.
func TestPartsUnderWayAreNoStrays(t *testing.T) {
	r := copiesRig(t, "hot:2", map[string]int{"hot": 3})
	r.write("a", blob.Segment, random(1, 60_000))
	s := r.segment()
	var swept upkeep.OrphanReport
	target := r.drives[0]
	for _, d := range r.drives {
		if !slices.Contains(s.Copies[0].Drives, d.Info().ID) {
			target = d
		}
	}
	once := false
	r.meta.before = func() {
		if once || len(target.Names()) == 0 {
			return
		}
		once = true
		r.clock.move(48 * time.Hour)
		swept = r.sweep()
	}
	if err := r.up.Leave(t.Context(), s.ID, s.Copies[0].Drives[0], 0); err != nil {
		t.Fatal(err)
	}
	if !once || swept.Deleted != 0 || swept.Waiting != 1 {
		t.Errorf("%v: %+v", once, swept)
	}
	r.whole()
}
