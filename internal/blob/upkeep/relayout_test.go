package upkeep_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

func copiesOf(t *testing.T, text string) []fsapi.CopySpec {
	t.Helper()
	p, err := policy.Parse("copies=" + text)
	if err != nil {
		t.Fatal(err)
	}
	return p.Copies
}

// setPolicy sets the policy of a file, or of the volume ("").
func (r *rig) setPolicy(name, copies string) fsapi.Ino {
	r.t.Helper()
	c := copiesOf(r.t, copies)
	if name == "" {
		v := r.vol
		v.Policy.Copies = c
		if err := r.meta.SetVolume(r.t.Context(), v); err != nil {
			r.t.Fatal(err)
		}
		return fsapi.RootIno
	}
	var ino fsapi.Ino
	r.update(func(tx *meta.Tx) error {
		in, err := tx.Lookup(fsapi.RootIno, name)
		if err != nil {
			return err
		}
		ino = in.Ino
		return tx.SetPolicy(in, policy.Policy{Copies: c})
	})
	return ino
}

func (r *rig) relayout(ino fsapi.Ino) job.Job {
	r.t.Helper()
	j := r.mustJob(upkeep.JobRelayout, strconv.Itoa(int(r.vol.ID)), strconv.FormatUint(uint64(ino), 10))
	r.fulfil()
	r.check()
	r.checkMeta()
	return j
}

// wantsOf are the wanted copies of the segments in which a file's chunks lie.
func (r *rig) wantsOf(name string) (list []string) {
	r.t.Helper()
	var exts []fsapi.Extent
	if err := r.meta.View(r.t.Context(), r.vol.ID, func(tx *meta.Tx) error {
		in, err := tx.Lookup(fsapi.RootIno, name)
		if err == nil {
			exts, err = tx.Extents(in.Ino, 0, in.Size, 1<<20)
		}
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	for _, e := range exts {
		c, err := r.meta.Chunk(r.t.Context(), r.vol.ID, e.Chunk)
		if err != nil {
			r.t.Fatal(err)
		}
		s, err := r.meta.Segment(r.t.Context(), c.Loc.Segment)
		if err != nil {
			r.t.Fatal(err)
		}
		if text := policy.Copies(s.Want).String(); !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return list
}

func (r *rig) mustWant(name string, want ...string) {
	r.t.Helper()
	for i := range want {
		want[i] = policy.Copies(copiesOf(r.t, want[i])).String()
	}
	if got := r.wantsOf(name); !slices.Equal(got, want) {
		r.t.Errorf("%s lies in segments that want %v, want %v", name, got, want)
	}
}

// A policy of the whole volume changes records only.
func TestRelayoutOfAVolumeRewritesNothing(t *testing.T) {
	r := copiesRig(t, "hot:1", map[string]int{"hot": 3, "warm": 3})
	for i := range 20 {
		r.write(fmt.Sprint(i), blob.Segment, random(uint64(i), 30_000))
	}
	moved := r.up.Progress().BytesMoved
	for _, to := range []string{"hot:2", "warm:2+1", "hot:1"} {
		j := r.relayout(r.setPolicy("", to))
		for i := range 20 {
			r.mustWant(fmt.Sprint(i), to)
		}
		if r.up.Progress().BytesMoved != moved || j.Progress.Done != 20 || j.Progress.DoneBytes != j.Progress.TotalBytes {
			t.Errorf("%s: %+v", to, j)
		}
		r.whole()
	}
}

// together stores several files in one segment.
func (r *rig) together(files map[string][]byte) {
	r.t.Helper()
	for name, data := range files {
		r.write(name, blob.Auto, data)
	}
	if _, err := r.up.Pack(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// A file whose segments are its own changes their record; one that shares them
// with others is written anew, the others stay.
func TestRelayoutOfAFile(t *testing.T) {
	r := copiesRig(t, "hot:1", map[string]int{"hot": 3, "cold": 1})
	r.write("alone", blob.Segment, random(1, 80_000))
	r.together(map[string][]byte{"x": random(2, 20_000), "y": random(3, 20_000)})
	moved := r.up.Progress().BytesMoved
	r.relayout(r.setPolicy("alone", "hot:3"))
	r.mustWant("alone", "hot:3")
	if r.up.Progress().BytesMoved != moved {
		t.Error("it was rewritten")
	}
	r.relayout(r.setPolicy("x", "hot:2,cold:1"))
	r.mustWant("x", "hot:2,cold:1")
	r.mustWant("y", "hot:1")
	if got := r.up.Progress().BytesMoved - moved; got != 20_000 {
		t.Errorf("%d bytes were rewritten of 20000", got)
	}
	r.relayout(r.setPolicy("x", "hot:1"))
	r.mustWant("x", "hot:1")
	r.gc(upkeep.GCOptions{Now: true})
	r.fulfil()
	r.whole()
}

// Data that files of several policies share is as safe as the most careful one
// asks, whichever was laid out last, and comes to rest.
func TestRelayoutOfSharedData(t *testing.T) {
	r := copiesRig(t, "hot:1", map[string]int{"hot": 3, "cold": 2})
	data := random(1, 60_000)
	r.write("a", blob.Segment, data)
	r.write("b", blob.Segment, data)
	r.write("c", blob.Segment, data)
	a := r.setPolicy("a", "hot:3")
	r.relayout(a)
	r.mustWant("b", "hot:3")
	b := r.setPolicy("b", "cold:2")
	r.relayout(b)
	r.mustWant("c", "hot:3,cold:2")
	moved := r.up.Progress().BytesMoved
	for range 2 {
		for _, ino := range []fsapi.Ino{a, b, fsapi.RootIno} {
			r.relayout(ino)
		}
	}
	r.mustWant("a", "hot:3,cold:2")
	if r.up.Progress().BytesMoved != moved {
		t.Error("shared data went to and fro")
	}
	r.remove("a")
	r.remove("c")
	r.relayout(b)
	r.mustWant("b", "cold:2")
}

// One segment of files that want different things: each chunk goes where its file
// wants it, over a restart.
func TestRelayoutGoesOn(t *testing.T) {
	r := copiesRig(t, "hot:1", map[string]int{"hot": 3})
	files := map[string][]byte{}
	for i := range 60 {
		files[fmt.Sprint(i)] = random(uint64(i), 30_000)
	}
	r.together(files)
	for i := range 60 {
		if i%2 == 0 {
			r.setPolicy(fmt.Sprint(i), "hot:2")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	r.meta.relocated = func() {
		if n++; n == 1 {
			cancel() // after the first batch
		}
	}
	j, err := r.up.Relayout(t.Context(), r.vol.ID, fsapi.RootIno)
	if err != nil {
		t.Fatal(err)
	}
	r.up.Run(ctx)
	r.open()
	end := r.run()
	if j, err = r.up.WaitJob(t.Context(), j.ID); err != nil || j.State != job.Done {
		t.Fatalf("%+v, %v", j, err)
	}
	end()
	r.fulfil()
	for i := range 60 {
		r.mustWant(fmt.Sprint(i), []string{"hot:2", "hot:1"}[i%2])
	}
	if got := r.up.Progress().BytesMoved; got >= 30*30_000 {
		t.Errorf("%d bytes were rewritten after the restart: it began anew", got)
	}
	r.check()
	r.checkMeta()
}

// A changed policy begins its job anew, and the volume's takes over those within.
func TestRelayoutMerges(t *testing.T) {
	r := copiesRig(t, "hot:1", map[string]int{"hot": 3})
	r.write("a", blob.Segment, random(1, 60_000))
	ino := r.setPolicy("a", "hot:2")
	one, err := r.up.Relayout(t.Context(), r.vol.ID, ino)
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.up.Relayout(t.Context(), r.vol.ID, ino)
	if err != nil || again.ID != one.ID {
		t.Fatalf("%+v, %v", again, err)
	}
	all, err := r.up.Relayout(t.Context(), r.vol.ID, fsapi.RootIno)
	if err != nil || all.ID == one.ID {
		t.Fatalf("%+v, %v", all, err)
	}
	if j, err := r.up.Job(t.Context(), one.ID); err != nil || j.State != job.Cancelled {
		t.Errorf("%+v, %v", j, err)
	}
	if j, err := r.up.Relayout(t.Context(), r.vol.ID, ino); err != nil || j.ID != all.ID {
		t.Errorf("%+v, %v", j, err)
	}
	defer r.run()()
	if j, err := r.up.WaitJob(t.Context(), all.ID); err != nil || j.State != job.Done {
		t.Errorf("%+v, %v", j, err)
	}
	r.mustWant("a", "hot:2")
}

// What was on its way to be stored when the policy changed is stored first, and
// what moves while the files are walked is met by another walk.
func TestRelayoutMissesNothing(t *testing.T) {
	r := copiesRig(t, "hot:1", map[string]int{"hot": 3})
	r.together(map[string][]byte{"a": random(1, 30_000), "b": random(2, 30_000)})
	ino := r.setPolicy("b", "hot:2") // so that files have to be looked at
	passes := 0
	r.storing = func() {
		switch passes++; passes {
		case 1: // written under the policy before
			r.write("late", blob.Segment, random(3, 30_000))
			r.setPolicy("late", "hot:2")
		case 2:
			r.setPolicy("moved", "hot:2")
		}
	}
	moved := false
	r.meta.relocated = func() {
		if !moved {
			moved = true
			r.write("moved", blob.Segment, random(4, 30_000))
			r.moves.Add(1)
		}
	}
	j := r.relayout(fsapi.RootIno)
	if passes != 2 {
		t.Errorf("%d walks, want 2", passes)
	}
	for name, want := range map[string]string{"a": "hot:1", "b": "hot:2", "late": "hot:2", "moved": "hot:2"} {
		r.mustWant(name, want)
	}
	if j.Progress.Done > j.Progress.Total+1 {
		t.Errorf("files are counted twice: %+v", j.Progress)
	}

	// Files that never stop moving do not keep it going for ever.
	passes = 0
	r.storing = func() { passes++; r.moves.Add(1) }
	r.meta.relocated = nil
	stop := r.moves.Load()
	r.meta.scanned = func() { r.moves.Add(1) }
	if j := r.relayout(ino); passes < 2 || passes > 9 || r.moves.Load() == stop {
		t.Errorf("%d walks: %+v", passes, j)
	}
}
