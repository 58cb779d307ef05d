package upkeep_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/osfs"
)

// versions is a keyring as upkeep sees it.
type versions struct{ k *keyring.Keyring }

func (v versions) Versions(vol fsapi.VolumeID) (all []fsapi.KeyVersion) {
	for _, x := range v.k.Volumes() {
		for _, k := range x.Versions {
			if x.ID == vol {
				all = append(all, k.Number)
			}
		}
	}
	return all
}

func (v versions) Prune(_ context.Context, vol fsapi.VolumeID, below fsapi.KeyVersion) error {
	for _, k := range v.Versions(vol) {
		if k < below {
			if err := v.k.DropVersion(vol, k); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyed is a rig whose keys can be rotated.
func keyed(t *testing.T, replicas int) *rig { return newRig(t, replicas).keyed() }

// keyed gives a rig keys that can be rotated.
func (r *rig) keyed() *rig {
	t := r.t
	t.Helper()
	var err error
	r.keys, err = keyring.Create(osfs.NewMem(osfs.MemOptions{}), "keyring", []byte("p"), keyring.Params{Passes: 1, MemoryKiB: 8, Lanes: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.keys.AddVolume(r.vol.ID, fsapi.CipherAES256GCM); err != nil {
		t.Fatal(err)
	}
	r.open()
	return r
}

func (r *rig) rotate() {
	r.t.Helper()
	if _, err := r.keys.NewVersion(r.vol.ID); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) inline(name string, data []byte) {
	r.t.Helper()
	b := r.store.NewBatch(r.t.Context(), r.vol.ID, r.class())
	if err := b.AddInline(r.t.Context(), 2, data); err != nil {
		r.t.Fatal(err)
	}
	r.put(name, data, b)
}

// put makes a file of what a batch holds.
func (r *rig) put(name string, data []byte, b *blob.Batch) {
	r.t.Helper()
	st, err := b.Finish(r.t.Context(), blob.Auto)
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
}

// fill writes something of each kind.
func (r *rig) fill(prefix string) {
	r.t.Helper()
	for i := range 4 {
		r.write(fmt.Sprint(prefix, "seg", i), blob.Segment, random(uint64(len(prefix)*100+i), 200_000))
	}
	for i := range 4 {
		r.write(fmt.Sprint(prefix, "journal", i), blob.Auto, []byte(strings.Repeat(fmt.Sprint(prefix, i, " journal "), 1000)))
	}
	for i := range 10 {
		r.inline(fmt.Sprint(prefix, "inline", i), []byte(fmt.Sprint(prefix, " small file ", i)))
	}
}

func (r *rig) versions() []fsapi.KeyVersion { return versions{r.keys}.Versions(r.vol.ID) }

func (r *rig) cursor() upkeep.Cursor {
	r.t.Helper()
	c, err := r.up.Reencrypting(r.t.Context(), r.vol.ID)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// settle does what Run would do over a long time.
func (r *rig) settle() {
	r.t.Helper()
	for range 6 {
		r.gc(upkeep.GCOptions{})
		if err := r.up.Reencrypt(r.t.Context(), 1<<40, false); err != nil {
			r.t.Fatal(err)
		}
		r.clock.move(11 * time.Minute)
	}
}

// After a rotation everything is encrypted anew, in steps that go on after a
// restart, and the old keys are dropped only when nothing needs them.
func TestReencrypt(t *testing.T) {
	r := keyed(t, 2)
	r.fill("old")
	r.rotate()
	r.fill("new")
	r.remove("oldseg0")
	r.check()

	var total int64
	steps := 0
	for ; steps < 1000; steps++ {
		if err := r.up.Reencrypt(t.Context(), 100_000, false); err != nil {
			t.Fatal(err)
		}
		c := r.cursor()
		if total == 0 {
			total = c.Total
		}
		if c.To != 2 || c.Total != total || c.Doubts != 0 {
			t.Fatalf("step %d: %+v", steps, c)
		}
		r.open() // a new process goes on
		if c.Phase == upkeep.PhaseWaiting {
			break
		}
	}
	if steps < 3 {
		t.Errorf("all was done in %d steps, whatever the budget", steps+1)
	}
	c := r.cursor()
	if c.Moved < 600_000 || c.Done < c.Moved/2 {
		t.Errorf("%+v", c)
	}
	if len(r.versions()) != 2 {
		t.Fatalf("the old key went while dead segments had frames of it")
	}
	r.check()

	r.settle()
	if v := r.versions(); len(v) != 1 || v[0] != 2 {
		t.Fatalf("versions %v are left, needed by: %s", v, r.cursor().Needed)
	}
	r.open()
	r.check()
}

// A second rotation before the first is done begins anew, and both go.
func TestReencryptTwice(t *testing.T) {
	r := keyed(t, 1)
	r.fill("a")
	r.rotate()
	if err := r.up.Reencrypt(t.Context(), 100_000, false); err != nil {
		t.Fatal(err)
	}
	r.rotate()
	r.fill("bb")
	r.settle()
	if v := r.versions(); len(v) != 1 || v[0] != 3 {
		t.Fatalf("versions %v are left, needed by: %s", v, r.cursor().Needed)
	}
	r.open()
	r.check()
}

// A write that began before the rotation and is recorded after the pass keeps
// the old key, and is encrypted anew, too.
func TestReencryptLateWrite(t *testing.T) {
	r := keyed(t, 1)
	r.fill("a")
	small := r.store.NewBatch(t.Context(), r.vol.ID, r.class())
	r.rotate()
	r.settle()
	if len(r.versions()) != 2 || !strings.Contains(r.cursor().Needed, "before the rotation") {
		t.Fatalf("a batch under way with the old key: versions %v, needed by %q", r.versions(), r.cursor().Needed)
	}
	data := []byte("it came late")
	if err := small.AddInline(t.Context(), 2, data); err != nil {
		t.Fatal(err)
	}
	r.put("late", data, small)
	use, err := r.up.KeyUse(t.Context(), r.vol.ID, false)
	if err != nil || use.Inline != 1 {
		t.Fatalf("%+v, %v", use, err)
	}
	r.settle()
	if v := r.versions(); len(v) != 1 {
		t.Fatalf("versions %v are left, needed by: %s", v, r.cursor().Needed)
	}
	r.open()
	r.check()
}

// What cannot be read may need the old key.
func TestReencryptFailsClosed(t *testing.T) {
	r := keyed(t, 1)
	r.fill("a")
	r.rotate()
	name := r.drives[0].Names()[0]
	flip := func(b []byte) []byte { b[0] ^= 1; return b }
	r.drives[0].Damage(name, flip)
	r.settle()
	if len(r.versions()) != 2 || r.cursor().Needed == "" {
		t.Fatalf("a damaged segment: versions %v, needed by %q", r.versions(), r.cursor().Needed)
	}
	r.drives[0].Damage(name, flip) // as it was
	r.settle()
	if v := r.versions(); len(v) != 1 {
		t.Fatalf("mended: versions %v, needed by %q", v, r.cursor().Needed)
	}
	r.check()
}

// An old key stays while a segment without a record has it, replica or shards, since
// a rebuild from drives may come upon it; and while it cannot be told whether one has.
func TestOrphansKeepKeys(t *testing.T) {
	warm := map[string]int{"warm": 4}
	for what, c := range map[string]struct {
		rig  func(t *testing.T) *rig
		harm func(r *rig)
		kept string // what needs the key; "": nothing
	}{
		"replica":         {func(t *testing.T) *rig { return newRig(t, 1) }, nil, "1 that wait to be deleted, 0 that cannot be read"},
		"shards":          {func(t *testing.T) *rig { return copiesRig(t, "warm:2+2", warm) }, nil, "1 that wait to be deleted, 0 that cannot be read"},
		"just enough":     {func(t *testing.T) *rig { return copiesRig(t, "warm:2+2", warm) }, func(r *rig) { r.lose(2) }, "1 that wait to be deleted, 0 that cannot be read"},
		"too few":         {func(t *testing.T) *rig { return copiesRig(t, "warm:2+2", warm) }, func(r *rig) { r.lose(3) }, ""},
		"too few of all":  {func(t *testing.T) *rig { return copiesRig(t, "warm:2+2", warm) }, func(r *rig) { r.lose(3); r.missing() }, "0 that wait to be deleted, 1 that cannot be read"},
		"damaged replica": {func(t *testing.T) *rig { return newRig(t, 1) }, func(r *rig) { r.rot(true) }, "0 that wait to be deleted, 1 that cannot be read"},
		"damaged shards":  {func(t *testing.T) *rig { return copiesRig(t, "warm:2+2", warm) }, func(r *rig) { r.rot(true) }, "0 that wait to be deleted, 1 that cannot be read"},
	} {
		t.Run(what, func(t *testing.T) {
			r := c.rig(t).keyed()
			r.orphaned(2)
			if c.harm != nil {
				c.harm(r)
			}
			r.write("a", blob.Segment, random(1, 60_000))
			r.rotate()
			r.settle()
			needed := r.cursor().Needed
			if kept := len(r.versions()) == 2; kept != (c.kept != "") || !strings.Contains(needed, c.kept) {
				t.Fatalf("versions %v are left, needed by %q; want %q", r.versions(), needed, c.kept)
			}
			r.check()
			if strings.Contains(c.kept, "0 that cannot be read") {
				r.sweep()
				r.settle()
				if v := r.versions(); len(v) != 1 {
					t.Errorf("when it is deleted, versions %v are left, needed by %q", v, r.cursor().Needed)
				}
			}
		})
	}
}

// lose removes what the first n drives hold.
func (r *rig) lose(n int) {
	for _, d := range r.drives[:n] {
		for _, name := range d.Names() {
			d.Remove(name)
		}
	}
}

// missing records a drive that is not there.
func (r *rig) missing() {
	if err := r.meta.PutDrive(r.t.Context(), meta.DriveRecord{ID: 77, Name: "away", Tier: "warm"}); err != nil {
		r.t.Fatal(err)
	}
}

// Sealing anew never undoes a write that came between.
func TestReplaceInlineLoses(t *testing.T) {
	r := keyed(t, 1)
	r.inline("f", []byte("before"))
	r.rotate()
	list, _, more, err := r.meta.InlineFrames(t.Context(), r.vol.ID, meta.InlineAt{}, 100)
	if err != nil || len(list) != 1 || more {
		t.Fatalf("%d frames, %v, %v", len(list), more, err)
	}
	fresh, ok, err := r.store.Reseal(r.vol.ID, list[0].Chunk, list[0].Frame)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if v, err := blob.FrameVersion(fresh); err != nil || v != 2 {
		t.Fatalf("sealed with version %d, %v", v, err)
	}
	if _, ok, err := r.store.Reseal(r.vol.ID, list[0].Chunk, fresh); ok || err != nil {
		t.Errorf("sealed again though current: %v, %v", ok, err)
	}
	list[0].Fresh = fresh
	r.remove("f")
	r.inline("f", []byte("behind"))
	if n, err := r.meta.ReplaceInline(t.Context(), r.vol.ID, list); n != 0 || err != nil {
		t.Errorf("%d replaced, %v", n, err)
	}
	r.check()
	// A transaction that read the extent before and writes after runs again.
	ran := 0
	_, err = r.meta.Update(t.Context(), r.vol.ID, kv.UpdateOptions{}, func(tx *meta.Tx) error {
		in, err := tx.Lookup(fsapi.RootIno, "f")
		if err != nil {
			return err
		}
		exts, err := tx.Extents(in.Ino, 0, in.Size, 10)
		if err != nil {
			return err
		}
		if ran++; ran == 1 {
			again, _, _, err := r.meta.InlineFrames(t.Context(), r.vol.ID, meta.InlineAt{}, 100)
			if err != nil {
				return err
			}
			f := again[len(again)-1]
			f.Fresh = append([]byte(nil), f.Frame...)
			if n, err := r.meta.ReplaceInline(t.Context(), r.vol.ID, []meta.Inline{f}); n != 1 || err != nil {
				t.Errorf("%d replaced, %v", n, err)
			}
		}
		return tx.SetExtents(in, 0, in.Size, exts)
	})
	if err != nil || ran != 2 {
		t.Errorf("it ran %d times, %v", ran, err)
	}
}

// Small files that only snapshots still have are sealed anew, too, and a file
// that is sealed anew is not kept a second time for them.
func TestReencryptSnapshots(t *testing.T) {
	r := keyed(t, 1)
	for i := range 5 {
		r.inline(fmt.Sprint("kept", i), []byte(fmt.Sprint("of a snapshot ", i)))
	}
	r.write("big", blob.Segment, random(5, 100_000))
	var snaps []meta.Snapshot
	snap := func() {
		t.Helper()
		s, err := r.meta.CreateSnapshot(t.Context(), r.vol.ID, meta.Snapshot{Name: fmt.Sprint("s", len(snaps))})
		if err != nil {
			t.Fatal(err)
		}
		snaps = append(snaps, s)
	}
	snap()
	r.remove("kept0")
	r.remove("kept1")
	snap()
	r.remove("kept2")
	r.remove("big")
	held := func() (n int64) {
		t.Helper()
		list, err := r.meta.Snapshots(t.Context(), r.vol.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			n += s.Held
		}
		return n
	}
	before := held()
	r.rotate()
	r.settle()
	if v := r.versions(); len(v) != 1 || v[0] != 2 {
		t.Fatalf("versions %v are left, needed by: %s", v, r.cursor().Needed)
	}
	if now := held(); now != before {
		t.Errorf("snapshots hold %d bytes, %d before", now, before)
	}
	r.open()
	r.check()
	for i, s := range snaps {
		err := r.meta.ViewAt(t.Context(), r.vol.ID, s.ID, func(tx *meta.Tx) error {
			for _, name := range []string{"kept0", "kept2", "kept4"} {
				if i > 0 && name == "kept0" {
					continue
				}
				in, err := tx.Lookup(fsapi.RootIno, name)
				if err != nil {
					return err
				}
				exts, err := tx.Extents(in.Ino, 0, in.Size, 10)
				if err != nil {
					return err
				}
				got := make([]byte, in.Size)
				if err := r.store.ReadExtent(t.Context(), r.vol.ID, &exts[0], 0, got); err != nil || string(got) != "of a snapshot "+name[4:] {
					t.Errorf("snapshot %s, %s: %q, %v", s.Name, name, got, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := r.meta.Check(t.Context(), r.vol.ID, nil, func(p meta.Problem) { t.Error(p) }); err != nil {
		t.Error(err)
	}
}

// Encrypting anew is a job: it starts by itself, is paused and goes on, and does
// not start again once it was cancelled.
func TestReencryptJob(t *testing.T) {
	r := keyed(t, 1)
	r.fill("a")
	if _, err := r.up.StartJob(t.Context(), upkeep.JobReencrypt, "1"); err == nil {
		t.Error("a job was taken though there is no old key")
	}
	r.rotate()
	rekey := func() []job.Job {
		t.Helper()
		if err := r.up.Rekey(t.Context()); err != nil {
			t.Fatal(err)
		}
		jobs, err := r.up.Jobs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	jobs := rekey()
	if len(jobs) != 1 || jobs[0].Kind != upkeep.JobReencrypt || jobs[0].State != job.Queued || !slices.Equal(jobs[0].Args, []string{"1", "2"}) {
		t.Fatalf("%+v", jobs)
	}
	id := jobs[0].ID
	if _, err := r.up.PauseJob(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	r.open() // a new process keeps it paused
	if jobs := rekey(); len(jobs) != 1 || jobs[0].State != job.Paused {
		t.Fatalf("%+v", jobs)
	}
	if _, err := r.up.ResumeJob(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	j := r.mustJob(upkeep.JobReencrypt, "1")
	if j.ID != id || j.Progress.TotalBytes == 0 || j.Progress.DoneBytes != j.Progress.TotalBytes || r.cursor().Phase != upkeep.PhaseWaiting {
		t.Errorf("%+v, %+v", j, r.cursor())
	}
	for range 3 { // what is dead goes first
		r.gc(upkeep.GCOptions{})
		r.clock.move(11 * time.Minute)
		rekey()
	}
	if v := r.versions(); len(v) != 1 {
		t.Errorf("versions %v are left, needed by %q", v, r.cursor().Needed)
	}
	r.rotate()
	jobs = rekey()
	if _, err := r.up.CancelJob(t.Context(), jobs[0].ID); err != nil {
		t.Fatal(err)
	}
	if again := rekey(); len(again) != len(jobs) || again[0].State != job.Cancelled {
		t.Errorf("after it was cancelled: %+v", again)
	}
	r.rotate()
	if again := rekey(); len(again) != len(jobs)+1 || again[0].State != job.Queued {
		t.Errorf("after another rotation: %+v", again)
	}
	r.check()
}
