package upkeep_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// sparseRig has a file in each of 12 segments that are complete on hot and cold and
// mostly dead.
func sparseRig(t *testing.T) *rig {
	r := copiesRig(t, "hot:1,cold:1", map[string]int{"hot": 1, "cold": 1})
	r.fillSparse(true)
	return r
}

func (r *rig) fillSparse(complete bool) {
	r.t.Helper()
	for i := range 12 {
		r.together(map[string][]byte{fmt.Sprint("keep", i): random(uint64(i), 12_000), fmt.Sprint("drop", i): random(uint64(i+100), 40_000)})
		r.remove(fmt.Sprint("drop", i))
	}
	if complete {
		r.fulfil()
	}
	if _, err := r.up.Sweep(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// always checks, whenever something was relocated, that all that lives lies on some
// tiers. It returns how often that was.
func (r *rig) always(tiers ...string) *int {
	n := new(int)
	r.meta.relocated = func() {
		*n++
		r.liesOn(tiers...)
	}
	return n
}

// liesOn checks that every segment in which something lives is on some tiers.
func (r *rig) liesOn(tiers ...string) {
	r.t.Helper()
	if err := r.meta.Store.Segments(context.Background(), fsapi.SegmentID{}, func(s meta.SegmentUse) bool {
		for _, tier := range tiers {
			if s.Live > 0 && !slices.ContainsFunc(s.Copies, func(c fsapi.CopyPlace) bool { return c.Tier == tier && c.Readable() }) {
				r.t.Errorf("something lives in a segment that is not on %s: %v", tier, s.Copies)
			}
		}
		return true
	}); err != nil {
		r.t.Error(err)
	}
}

// states sets the state of all drives of a tier.
func (r *rig) states(tier string, st drive.State) {
	r.t.Helper()
	for _, d := range r.drives {
		if d.Info().Tier == tier {
			r.state(d, st)
		}
	}
}

// failing lets all writes to a tier fail.
func (r *rig) failing(tier string, kind fsapi.Kind) (mend func()) {
	var well atomic.Bool
	for _, d := range r.drives {
		if d.Info().Tier != tier {
			continue
		}
		watch := d.Fail
		d.Fail = func(op, name string) error {
			if !well.Load() && (op == "Create" || op == "Write" || op == "Commit") {
				return fsapi.Errorf(kind, "the drive failed")
			}
			return watch(op, name)
		}
	}
	return func() { well.Store(true) }
}

// begun counts the blobs that are begun on a tier.
func (r *rig) begun(tier string) *atomic.Int64 {
	n := new(atomic.Int64)
	for _, d := range r.drives {
		if d.Info().Tier != tier {
			continue
		}
		watch := d.Fail
		d.Fail = func(op, name string) error {
			if op == "Create" {
				n.Add(1)
			}
			return watch(op, name)
		}
	}
	return n
}

// What is compacted is never less safe than it was: it is on both tiers when it
// moves, and stays where it is while one of them takes nothing.
func TestCompactionIsSafe(t *testing.T) {
	r := sparseRig(t)
	moved := r.always("hot", "cold")
	stays := func(why string) {
		t.Helper()
		rep := r.gc(upkeep.GCOptions{Now: true})
		if rep.Compact.Waiting != 12 || rep.Compact.Segments != 0 || *moved != 0 || rep.Compact.Why == nil || len(rep.Doubts()) != 0 {
			t.Fatalf("%s: %+v; %d relocations", why, rep, *moved)
		}
		r.whole() // what was begun is gone
		r.check()
	}
	begun := r.begun("hot")
	for _, st := range []drive.State{drive.Suspect, drive.ReadOnly} {
		r.states("cold", st)
		stays("cold is " + st.String())
		r.states("cold", drive.Online)
	}
	if n := begun.Load(); n != 0 {
		t.Errorf("%d blobs were begun in vain", n)
	}
	r.states("hot", drive.Suspect)
	stays("hot is suspect")
	r.states("hot", drive.Online)
	mend := r.failing("cold", fsapi.IO)
	stays("cold fails")
	if begun.Load() == 0 {
		t.Error("nothing was tried")
	}
	mend()
	rep := r.gc(upkeep.GCOptions{Now: true})
	if rep.Compact.Segments != 12 || rep.Compact.Waiting != 0 || *moved == 0 {
		t.Fatalf("%+v; %d relocations", rep, *moved)
	}
	r.whole()
	r.check()
	if len(r.pending()) != 0 {
		t.Error("copies are pending")
	}
}

// Dead segments are deleted while a compaction is under way, however long that takes
// to write; one of its own that goes so is no doubt.
func TestCollectBesideCompaction(t *testing.T) {
	r := sparseRig(t)
	var once sync.Once
	hot := r.drives[0]
	watch := hot.Fail
	hot.Fail = func(op, name string) error {
		once.Do(func() {
			hot.Fail = watch
			r.remove("keep11")
			rep, err := r.up.Sweep(t.Context())
			if err != nil || rep == 0 {
				t.Errorf("%d chunks swept, %v", rep, err)
			}
			if rep, err := r.up.Collect(t.Context(), upkeep.GCOptions{Now: true}); err != nil || rep.Deleted != 1 {
				t.Errorf("%+v, %v", rep, err)
			}
		})
		return watch(op, name)
	}
	rep, err := r.up.Compact(t.Context(), true)
	if err != nil || rep.Segments != 11 || len(rep.Doubts) != 0 || rep.Waiting != 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	r.gc(upkeep.GCOptions{Now: true})
	r.whole()
	r.check()
}

// A segment whose copies took so long that it may count as an orphan in a moment is
// not recorded any more.
func TestCompactionTakesTooLong(t *testing.T) {
	r := sparseRig(t)
	moved := r.always("hot", "cold")
	cold := r.drives[1]
	watch := cold.Fail
	cold.Fail = func(op, name string) error {
		if op == "Commit" {
			r.clock.move(50 * time.Minute)
		}
		return watch(op, name)
	}
	if rep := r.gc(upkeep.GCOptions{Now: true}); rep.Compact.Waiting != 12 || *moved != 0 {
		t.Fatalf("%+v; %d relocations", rep, *moved)
	}
	r.whole()
	r.check()
	cold.Fail = watch
	if rep := r.gc(upkeep.GCOptions{Now: true}); rep.Compact.Segments != 12 || *moved == 0 {
		t.Fatalf("%+v; %d relocations", rep, *moved)
	}
	r.whole()
	r.check()
}

// A copy that is not there yet is nothing to keep, and a tier that is full no reason
// to wait: what moves makes the room.
func TestCompactionGoesOn(t *testing.T) {
	for name, fill := range map[string]func(r *rig){
		"never written": func(r *rig) { r.states("cold", drive.Offline); r.fillSparse(false) },
		"full":          func(r *rig) { r.fillSparse(true); r.failing("cold", fsapi.NoSpace) },
		"retired":       func(r *rig) { r.fillSparse(true); r.states("cold", drive.Retired) },
	} {
		t.Run(name, func(t *testing.T) {
			r := copiesRig(t, "hot:1,cold:1", map[string]int{"hot": 1, "cold": 1})
			fill(r)
			moved := r.always("hot")
			if rep := r.gc(upkeep.GCOptions{Now: true}); rep.Compact.Segments != 12 || rep.Compact.Waiting != 0 || *moved == 0 {
				t.Fatalf("%+v; %d relocations", rep, *moved)
			}
			if len(r.pending()) == 0 {
				t.Error("nothing is pending")
			}
			r.check()
		})
	}
}

// A drive that spins down is not woken in order to compact; who asks for space wakes
// it.
func TestCompactionLetsDrivesSleep(t *testing.T) {
	r := sleepyRig(t)
	r.fillSparse(true)
	r.clock.move(30 * time.Minute) // its window is over
	moved := r.always("hot", "cold")
	clear(r.cold.calls)
	r.mustJob(upkeep.JobCompact)
	if *moved != 0 || r.cold.calls["create"] != 0 {
		t.Fatalf("%d relocations, calls %v", *moved, r.cold.calls)
	}
	if rep := r.gc(upkeep.GCOptions{Now: true}); rep.Compact.Segments != 12 || *moved == 0 {
		t.Fatalf("%+v, %d relocations", rep, *moved)
	}
	// Once it has slept for an hour it is woken.
	r.meta.relocated = nil
	for name := range r.files {
		r.remove(name)
	}
	r.gc(upkeep.GCOptions{Now: true})
	r.fillSparse(true)
	moved = r.always("hot", "cold")
	r.mustJob(upkeep.JobCompact)
	if *moved != 0 {
		t.Fatalf("%d relocations", *moved)
	}
	r.clock.move(time.Hour)
	r.mustJob(upkeep.JobCompact)
	if *moved == 0 {
		t.Error("it is never woken")
	}
	r.check()
}

// setAck sets the acknowledgement class of the volume, or of a file.
func (r *rig) setAck(name string, ack policy.Ack) {
	r.t.Helper()
	if name == "" {
		v := r.vol
		v.Policy.Ack = ack
		if err := r.meta.SetVolume(r.t.Context(), v); err != nil {
			r.t.Fatal(err)
		}
		return
	}
	r.update(func(tx *meta.Tx) error {
		in, err := tx.Lookup(fsapi.RootIno, name)
		if err != nil {
			return err
		}
		return tx.SetPolicy(in, policy.Policy{Ack: ack})
	})
}

// Where an fsync waits for a bucket the metadata there has the journal: what is in it
// moves into segments only when they are there too.
func TestPackingIsSafe(t *testing.T) {
	for _, where := range []string{"", "f3"} {
		r := copiesRig(t, "hot:1,cold:1", map[string]int{"hot": 1, "cold": 1})
		for i := range 20 {
			r.write(fmt.Sprint("f", i), blob.Auto, random(uint64(i), 20_000))
		}
		r.setAck(where, policy.AckRemote)
		moved := r.always("hot", "cold")
		stays := func(why string) {
			t.Helper()
			before, err := r.meta.JournalBytes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rep, err := r.up.Pack(t.Context())
			if err != nil || rep.Waiting == 0 || rep.Why == nil || rep.Frames != 0 || *moved != 0 {
				t.Fatalf("%s: %+v, %v; %d relocations", why, rep, err, *moved)
			}
			if n, err := r.meta.JournalBytes(t.Context()); err != nil || n != before {
				t.Fatalf("%s: %d bytes in the journal, %d before: %v", why, n, before, err)
			}
			r.whole()
			r.check()
		}
		r.states("cold", drive.Offline)
		begun := r.begun("hot")
		stays("cold is away")
		if n := begun.Load(); n != 0 {
			t.Errorf("%d blobs were begun in vain", n)
		}
		r.states("cold", drive.Online)
		mend := r.failing("cold", fsapi.IO)
		stays("cold fails")
		mend()
		rep, err := r.up.Pack(t.Context())
		if err != nil || rep.Waiting != 0 || rep.Frames == 0 || *moved == 0 {
			t.Fatalf("%+v, %v", rep, err)
		}
		r.whole()
		r.check()
	}
}

// Elsewhere the journal is packed while the bucket is away, however long.
func TestPackingGoesOn(t *testing.T) {
	r := copiesRig(t, "hot:1,cold:1", map[string]int{"hot": 1, "cold": 1})
	r.write("f", blob.Auto, random(1, 20_000))
	r.states("cold", drive.Offline)
	if rep, err := r.up.Pack(t.Context()); err != nil || rep.Frames == 0 || rep.Waiting != 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	r.check()
}

// Those who store data wait where the journal has grown far over its bound and must
// not be packed, until it is.
func TestFullJournalHoldsUpWriters(t *testing.T) {
	r := copiesRig(t, "hot:1,cold:1", map[string]int{"hot": 1, "cold": 1})
	r.setAck("", policy.AckRemote)
	r.states("cold", drive.Offline)
	r.journalMax = 1 << 10
	r.open()
	r.write("f", blob.Auto, random(1, 40_000))
	admitted := func() bool {
		t.Helper()
		if err := r.up.Scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		return r.up.Admit(ctx) == nil
	}
	if !admitted() {
		t.Error("a journal that may be packed holds up writers")
	}
	if _, err := r.up.Pack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if admitted() {
		t.Error("a journal that is full and must not be packed holds up nobody")
	}
	r.states("cold", drive.Online)
	if _, err := r.up.Pack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !admitted() {
		t.Error("a journal that was packed holds up writers")
	}
}

// A relayout waits while a tier is away that has what it would rewrite, and goes on
// by itself.
func TestRelayoutIsSafe(t *testing.T) {
	for _, to := range []string{"hot:2,cold:1", "warm:1,cold:1"} {
		r := copiesRig(t, "hot:1,cold:1", map[string]int{"hot": 2, "warm": 1, "cold": 1})
		r.together(map[string][]byte{"a": random(1, 20_000), "b": random(2, 20_000)})
		r.fulfil()
		moved := r.always("cold")
		ino := r.setPolicy("a", to)
		mend := r.failing("cold", fsapi.IO)
		j := r.waitsFor(mend, moved, upkeep.JobRelayout, strconv.Itoa(int(r.vol.ID)), strconv.FormatUint(uint64(ino), 10))
		if j.State != job.Done || *moved == 0 {
			t.Fatalf("%s: %+v; %d relocations", to, j, *moved)
		}
		r.mustWant("a", to)
		r.fulfil()
		r.whole()
		r.check()
	}
}

// waitsFor runs a job that must wait, without having moved anything, until something
// is mended.
func (r *rig) waitsFor(mend func(), moved *int, kind string, args ...string) job.Job {
	r.t.Helper()
	ended := make(chan struct{})
	waited := make(chan bool)
	go func() {
		for {
			select {
			case <-ended:
				waited <- false
				return
			case <-time.After(time.Millisecond):
			}
			jobs, err := r.up.Jobs(r.t.Context())
			if err != nil || slices.ContainsFunc(jobs, func(j job.Job) bool {
				return j.Kind == kind && !j.State.Ended() && strings.HasPrefix(j.Note, "waits: ")
			}) {
				break
			}
		}
		n := *moved
		mend()
		waited <- n == 0
	}()
	j := r.job(kind, args...)
	close(ended)
	if !<-waited {
		r.t.Errorf("%s did not wait: %v %s", kind, j.State, j.Err)
	}
	return j
}

// To encrypt anew waits likewise, in the journal and in segments.
func TestReencryptIsSafe(t *testing.T) {
	for _, mode := range []blob.Mode{blob.Auto, blob.Segment} {
		r := copiesRig(t, "hot:1,cold:1", map[string]int{"hot": 1, "cold": 1}).keyed()
		r.setAck("", policy.AckRemote)
		r.write("f", mode, random(1, 40_000))
		r.fulfil()
		r.rotate()
		moved := r.always("hot", "cold")
		for _, away := range []bool{false, true} {
			mend := func() { r.states("cold", drive.Online) }
			if away {
				r.states("cold", drive.Offline)
			} else {
				mend = r.failing("cold", fsapi.IO)
			}
			if j := r.waitsFor(mend, moved, upkeep.JobReencrypt, strconv.Itoa(int(r.vol.ID))); j.State != job.Done {
				t.Fatalf("%+v", j)
			}
			if *moved == 0 {
				t.Error("nothing moved")
			}
			r.check()
			r.whole()
			r.rotate()
			*moved = 0
		}
	}
}
