package chaos

import (
	"errors"
	"fmt"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/test/stack"
	"github.com/strakefs/strake/test/workload"
)

// finish ends all trouble, has upkeep do what is left to do, and checks that
// everything is as if nothing had happened; then it deletes everything and checks
// that nothing is left.
func (w *world) finish() error {
	w.say("all is well from here on")
	if err := w.cureAll(); err != nil {
		return err
	}
	uploads := w.uploads()
	if err := w.s.Local.Syncfs(w.ctx); err != nil {
		return fmt.Errorf("syncfs with all drives well: %w", err)
	}
	if err := w.calm(); err != nil {
		return err
	}
	if err := w.purge(); err != nil {
		return err
	}
	// A drive that is on record and away may hold what needs an old key.
	if err := w.remove(); err != nil {
		return err
	}
	if err := w.oneKey(); err != nil {
		return err
	}
	if err := w.verify(); err != nil {
		return fmt.Errorf("with all drives well: %w", err)
	}
	if err := w.elsewhere(); err != nil {
		return fmt.Errorf("on a machine that has nothing: %w", err)
	}
	if err := w.vanish(); err != nil {
		return fmt.Errorf("with everything deleted: %w", err)
	}
	if n := w.uploads(); n > uploads {
		return fmt.Errorf("%d uploads in parts were neither completed nor given up since all is well", n-uploads)
	}
	return nil
}

// cureAll makes all drives well, and has an administrator want them so.
func (w *world) cureAll() error {
	for _, p := range w.present(func(*place) bool { return true }) {
		p.wanted = drive.Online
		if err := w.cure(p); err != nil {
			return err
		}
	}
	return w.recordDrives()
}

// uploads is how many in parts are open in all buckets. Those that a kill broke
// off are left to the buckets' own rules.
func (w *world) uploads() (n int) {
	for _, p := range w.places {
		if p.bucket != nil {
			n += p.bucket.Uploads()
		}
	}
	return n
}

// oneKey changes the key once more and has everything encrypted anew, until all
// older keys are gone for good: what is read afterwards is sealed with the last.
func (w *world) oneKey() error {
	if w.keys.cipher == fsapi.CipherNone {
		return nil
	}
	w.keys.rotate()
	for range 12 {
		if err := w.s.Upkeep.Reencrypt(w.ctx, 1<<40, true); err != nil {
			return fmt.Errorf("re-encrypt with all drives well: %w", err)
		}
		if w.keys.one() {
			return nil
		}
		if _, err := w.s.Upkeep.GC(w.ctx, upkeep.GCOptions{Now: true}); err != nil {
			return fmt.Errorf("gc with all drives well: %w", err)
		}
		w.run(10 * time.Minute)
	}
	c, err := w.s.Upkeep.Reencrypting(w.ctx, w.s.Volume)
	return errors.Join(fmt.Errorf("after hours with all drives well old keys are still needed: %+v", c), err)
}

// calm lets upkeep work until nothing is owed and every part verifies.
func (w *world) calm() error {
	// What rot did is found first: nothing can be copied from it.
	if _, err := w.s.Upkeep.Scrub(w.ctx, true); err != nil {
		return err
	}
	var owed error
	for range 36 {
		w.run(10 * time.Minute)
		if err := w.settle(); err != nil {
			return err
		}
		if owed = w.owed(); owed == nil {
			break
		}
	}
	if owed != nil {
		return fmt.Errorf("after hours with all drives well: %w", owed)
	}
	if _, err := w.s.Upkeep.Scrub(w.ctx, true); err != nil {
		return err
	}
	r, err := w.s.Upkeep.Scrub(w.ctx, true)
	if err != nil {
		return err
	}
	for _, b := range r.Bad {
		err = errors.Join(err, fmt.Errorf("segment %v on drive %s, after a scrub that repairs: %w (repair: %w)", b.Segment, w.place(b.Drive), b.Err, b.Repair))
	}
	return errors.Join(err, w.sound())
}

// sound checks every byte of every part that is on record, and that whatever rotted
// of them was made whole.
func (w *world) sound() error {
	if err := w.mended(); err != nil {
		return err
	}
	list, err := w.segments()
	if err != nil {
		return err
	}
	var errs []error
	for i := range list {
		s := &list[i]
		if !s.Condemned.IsZero() {
			continue
		}
		for c := range s.Copies {
			for n, d := range s.Copies[c].Drives {
				if d == 0 {
					continue
				}
				if _, bad := w.bad[part{d, blob.PartName(s.ID, &s.Copies[c], n)}]; bad {
					errs = append(errs, fmt.Errorf("segment %v, part %d of tier %s on drive %v is as bad as it was made", s.ID, n, s.Copies[c].Tier, d))
				}
				if err := w.s.Blob.VerifyPart(w.ctx, &s.Segment, &s.Copies[c], n); err != nil {
					errs = append(errs, fmt.Errorf("segment %v, part %d of tier %s on drive %v: %w", s.ID, n, s.Copies[c].Tier, d, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// owed is what upkeep has left to do: jobs, copies, parts on drives that are gone.
func (w *world) owed() error {
	var errs []error
	jobs, err := w.s.Upkeep.Jobs(w.ctx)
	errs = append(errs, err)
	for _, j := range jobs {
		if !j.State.Ended() {
			errs = append(errs, fmt.Errorf("job %d (%s %v) is %v", j.ID, j.Kind, j.Args, j.State))
		}
	}
	errs = append(errs, w.s.Meta.Pending(w.ctx, fsapi.SegmentID{}, func(p meta.Pending) bool {
		errs = append(errs, fmt.Errorf("segment %v is pending since %v, after %d attempts: %s", p.Segment, p.Since, p.Attempts, p.Err))
		return len(errs) < 10
	}))
	list, err := w.segments()
	errs = append(errs, err)
	for i := range list {
		s := &list[i]
		if s.Condemned.IsZero() && !s.Settled() {
			errs = append(errs, fmt.Errorf("segment %v has %+v and wants %+v", s.ID, s.Copies, s.Want))
		}
		for _, c := range s.Copies {
			for _, d := range c.Drives {
				if p := w.place(d); d != 0 && s.Condemned.IsZero() && (p == nil || p.gone) {
					errs = append(errs, fmt.Errorf("segment %v is on drive %v, which is gone", s.ID, d))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// vanish deletes everything and checks that no byte of it is left.
func (w *world) vanish() error {
	if err := w.each((*workload.Client).CloseAll); err != nil {
		return err
	}
	snaps, err := w.s.Local.Snapshots(w.ctx)
	if err != nil {
		return err
	}
	for _, s := range snaps {
		if s.Deleting {
			continue
		}
		if err := w.s.Local.DeleteSnapshot(w.ctx, fsapi.Root, s.Name); err != nil {
			return err
		}
	}
	if err := workload.RemoveBelow(w.ctx, w.s.Local, fsapi.RootIno); err != nil {
		return err
	}
	if _, err := w.s.Local.EmptyTrash(w.ctx, 0, time.Time{}); err != nil {
		return err
	}
	if err := w.settle(); err != nil {
		return err
	}
	if err := w.end(); err != nil {
		return err
	}
	time.Sleep(time.Second) // what was left is older than the process that sweeps it
	if w.ledger != nil {
		time.Sleep(25 * time.Hour) // and has arrived; what starts left that were broken off is old
	}
	if err := w.open(); err != nil {
		return err
	}
	if err := w.drained(); err != nil {
		return err
	}
	if err := w.purge(); err != nil {
		return err
	}
	// A shard that is left alone waits for others, which a drive that is on record
	// and away may hold; and that is on record while a dead segment names it.
	for range 2 {
		if err := w.s.GC(w.ctx); err != nil {
			return err
		}
		if err := w.remove(); err != nil {
			return err
		}
	}
	if err := w.s.CheckMeta(w.ctx); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	if err := w.empty(); err != nil || w.ledger == nil {
		return err
	}
	return w.lean()
}

// elsewhere opens the store on a machine that has nothing but the bucket of the
// metadata, where there is one, and the drives: everything must be as it was.
func (w *world) elsewhere() error {
	if w.ledger == nil {
		return nil
	}
	if err := w.each((*workload.Client).CloseAll); err != nil {
		return err
	}
	before, err := stack.Image(w.ctx, w.s.Local, fsapi.RootIno)
	if err != nil {
		return err
	}
	if err := w.end(); err != nil {
		return err
	}
	w.ledger.disk = osfs.NewMem(osfs.MemOptions{})
	if err := w.open(); err != nil {
		return err
	}
	after, err := stack.Image(w.ctx, w.s.Local, fsapi.RootIno)
	if err != nil {
		return err
	}
	for name, line := range before {
		if after[name] != line {
			return fmt.Errorf("%q was\n\t%s\nand is\n\t%s", name, line, after[name])
		}
	}
	if len(after) != len(before) {
		return fmt.Errorf("there are %d names, and were %d", len(after), len(before))
	}
	if err := w.verify(); err != nil {
		return err
	}
	return w.adopt()
}

// purge takes away what rotted when no record named it any more: nothing proves
// that it may go, or which key it is sealed with, and so it and the keys stay until
// somebody who knows better removes it (D4).
func (w *world) purge() error {
	if err := w.mended(); err != nil {
		return err
	}
	for at, harm := range w.bad {
		if p := w.place(at.on); harm != nil {
			if err := p.spoil(w.disk, at.name, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// drained waits until what snapshots held is released.
func (w *world) drained() error {
	for range 100 {
		snaps, err := w.s.Local.Snapshots(w.ctx)
		if err != nil || len(snaps) == 0 {
			return err
		}
		time.Sleep(time.Minute)
	}
	return errors.New("deleted snapshots are not released")
}

// empty checks that no segment is left, recorded or not.
func (w *world) empty() error {
	var errs []error
	list, err := w.segments()
	errs = append(errs, err)
	for _, s := range list {
		errs = append(errs, fmt.Errorf("segment %v is recorded, with %d live bytes", s.ID, s.Live))
	}
	for _, d := range w.s.Set.All() {
		for _, prefix := range prefixes {
			errs = append(errs, d.List(w.ctx, prefix, "", func(b drive.Blob) error {
				return fmt.Errorf("drive %s holds %s", d.Info().Name, b.Name)
			}))
		}
	}
	return errors.Join(errs...)
}
