package upkeep_test

import (
	"strings"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// rot damages every blob: what is in it, or only its end, where a segment's
// directory is.
func (r *rig) rot(all bool) {
	for _, d := range r.drives {
		for _, name := range d.Names() {
			d.Damage(name, func(b []byte) []byte {
				from := len(b) - 100
				if all {
					from = 200
				}
				for i := from; i < len(b)-50; i++ {
					b[i] ^= 1
				}
				return b
			})
		}
	}
}

// unreadable is what a check says of orphans.
func (r *rig) unreadable() (list []upkeep.Doubt) {
	r.t.Helper()
	before := r.up.Progress().Doubts
	err := r.up.UnreadableOrphans(r.t.Context(), func(int) {}, func(d upkeep.Doubt) { list = append(list, d) })
	if err != nil {
		r.t.Fatal(err)
	}
	if r.up.Progress().Doubts != before {
		r.t.Error("a look is counted as something that was kept")
	}
	return list
}

// An orphan whose directory does not open is named, and stays until somebody asks
// for its deletion; a young one stays then, too.
func TestUnreadableOrphan(t *testing.T) {
	for what, rig := range map[string]func() *rig{
		"replicas": func() *rig { return newRig(t, 2) },
		"shards":   func() *rig { return copiesRig(t, "warm:2+2", map[string]int{"warm": 4}) },
	} {
		t.Run(what, func(t *testing.T) {
			r := rig()
			r.t = t
			r.orphaned(2)
			r.rot(true)
			orphans := r.blobs()
			r.write("a", blob.Segment, random(1, 60_000))
			all := r.blobs()
			if rep := r.gc(upkeep.GCOptions{Now: true, Unreadable: true}); rep.Orphans.Deleted != 0 || rep.Orphans.Waiting != orphans {
				t.Fatalf("young: %+v", rep.Orphans)
			}
			if list := r.unreadable(); len(list) != 0 {
				t.Errorf("young: %v", list)
			}
			r.clock.move(2 * time.Hour)
			rep := r.gc(upkeep.GCOptions{Now: true})
			if rep.Orphans.Deleted != 0 || len(rep.Orphans.Doubts) == 0 || !strings.Contains(rep.Orphans.Doubts[0].String(), "gc --unreadable") {
				t.Fatalf("nobody asked: %+v", rep.Orphans)
			}
			if list := r.unreadable(); len(list) != len(rep.Orphans.Doubts) || r.blobs() != all {
				t.Errorf("of %d blobs %d are left; named: %v", all, r.blobs(), list)
			}
			rep = r.gc(upkeep.GCOptions{Unreadable: true})
			if rep.Orphans.Deleted != orphans || rep.Orphans.Unreadable != orphans || len(rep.Doubts()) != 0 || r.blobs() != all-orphans {
				t.Fatalf("asked: %+v, %d of %d blobs", rep.Orphans, r.blobs(), all)
			}
			if list := r.unreadable(); len(list) != 0 {
				t.Errorf("afterwards: %v", list)
			}
			r.check()
		})
	}
}

// D4: what cannot be read is kept while a chunk lies there, whether its segment has no
// record or is counted dead by mistake.
func TestUnreadableIsKept(t *testing.T) {
	for what, c := range map[string]struct {
		lie func(r *rig, st *fsapi.Stored) upkeep.Meta
	}{
		"without a record": {func(r *rig, _ *fsapi.Stored) upkeep.Meta {
			r.meta.hide = true
			return r.meta
		}},
		"counted dead": {func(r *rig, st *fsapi.Stored) upkeep.Meta { return &liar{guard: r.meta, id: st.Segments[0].ID} }},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, 2)
			st := r.write("a", blob.Segment, random(1, 100_000))
			r.rot(false)
			up, err := upkeep.New(upkeep.Options{Store: r.store, Meta: c.lie(r, st), Drives: r.set, Clock: r.clock, Rate: -1})
			if err != nil {
				t.Fatal(err)
			}
			r.clock.move(2 * time.Hour)
			rep, err := up.GC(t.Context(), upkeep.GCOptions{Now: true, Unreadable: true})
			if err != nil || rep.Orphans.Deleted+rep.Collect.Deleted != 0 || len(rep.Doubts()) == 0 || !strings.Contains(rep.Doubts()[0].String(), "lies there") || r.blobs() != 2 {
				t.Fatalf("%+v, %d blobs: %v", rep, r.blobs(), err)
			}
			r.meta.hide = false
			r.check() // reads need no directory
		})
	}
}

// A dead segment whose directory no copy has is deleted when somebody asks, but not
// while a drive of it is away.
func TestUnreadableDeadSegment(t *testing.T) {
	r := newRig(t, 2)
	r.write("a", blob.Segment, random(1, 100_000))
	r.write("b", blob.Segment, random(2, 100_000))
	r.remove("a")
	r.rot(false)
	if rep := r.gc(upkeep.GCOptions{Now: true}); rep.Collect.Deleted != 0 || len(rep.Collect.Doubts) != 1 {
		t.Fatalf("nobody asked: %+v", rep.Collect)
	}
	r.state(r.drives[1], drive.Offline)
	if rep := r.gc(upkeep.GCOptions{Now: true, Unreadable: true}); rep.Collect.Deleted != 0 || len(rep.Collect.Doubts) != 1 {
		t.Fatalf("a drive is away: %+v", rep.Collect)
	}
	r.state(r.drives[1], drive.Online)
	if rep := r.gc(upkeep.GCOptions{Now: true, Unreadable: true}); rep.Collect.Deleted != 1 || len(rep.Doubts()) != 0 || r.blobs() != 2 {
		t.Fatalf("asked: %+v, %d blobs", rep.Collect, r.blobs())
	}
	r.check()
}
