package upkeep

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// What is rewritten is at no moment less safe than it was. A new segment counts as
// written with the first of its copies; before what moves into it is on record there,
// it has a copy on every tier on which what it is made of has one that stays, or all
// that stay. Where it cannot have them now, since drives are away, what was to move
// stays where it lies, and is tried again later. Just where a tier is full they are
// owed, as those of a file's write are: space there comes from what moves.
//
// Frames in the journal are on no tier. They count as if they were on all that they
// want where some file of the volume is acknowledged by a bucket (class remote), since
// the metadata in the bucket has them, and else as on none.

// postponed is why something stays where it lies for now.
type postponed struct{ error }

// Unwrap is the reason.
func (p postponed) Unwrap() error { return p.error }

func isPostponed(err error) bool {
	var p postponed
	return errors.As(err, &p)
}

// postponedAgain is after how long what was postponed is tried again.
const postponedAgain = time.Minute

// postpone lets a job wait because of an error.
func (u *Upkeep) postpone(ctx context.Context, t *job.Task, why error) error {
	t.Note("waits: " + why.Error())
	select {
	case <-u.o.Clock.After(postponedAgain):
		return nil
	case <-ctx.Done():
		return fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "upkeep")
	}
}

// stays are the tiers on which a segment has enough of a copy that stays there.
// Parts on retired drives are given up.
func (u *Upkeep) stays(s *fsapi.Segment) (tiers []string) {
	for i := range s.Copies {
		c := &s.Copies[i]
		w := slices.IndexFunc(s.Want, func(w fsapi.CopySpec) bool { return c.Is(w) })
		need := max(1, c.K)
		if w >= 0 {
			need = s.Want[w].Need()
		}
		if w >= 0 && s.Want[w].Evictable || u.unretired(c) < need || slices.Contains(tiers, c.Tier) {
			continue
		}
		tiers = append(tiers, c.Tier)
	}
	return tiers
}

// unretired counts the parts of a copy that are not given up.
func (u *Upkeep) unretired(c *fsapi.CopyPlace) (n int) {
	for _, d := range c.Drives {
		if d != 0 && u.o.Drives.State(d) != drive.Retired {
			n++
		}
	}
	return n
}

// pinnedTiers are the tiers of wanted copies that stay.
func pinnedTiers(want []fsapi.CopySpec) (tiers []string) {
	for _, w := range want {
		if !w.Evictable && !slices.Contains(tiers, w.Tier) {
			tiers = append(tiers, w.Tier)
		}
	}
	return tiers
}

// covered reports whether a new segment has a copy on each of some tiers, or all
// copies that stay.
func covered(seg *fsapi.Segment, tiers []string) bool {
	owes := false
	var on []string
	for _, w := range seg.Want {
		c := seg.Copy(w)
		enough := c != nil && c.Count() >= w.Need()
		if enough {
			on = append(on, w.Tier)
		}
		owes = owes || !enough && !w.Evictable
	}
	return !owes || !slices.ContainsFunc(tiers, func(t string) bool { return !slices.Contains(on, t) })
}

// takes reports whether a tier has a drive that takes new segments, room aside.
func (u *Upkeep) takes(tier string) bool {
	for _, d := range u.o.Drives.All() {
		if i := d.Info(); i.Tier == tier && u.o.Drives.State(i.ID).Writable() {
			return true
		}
	}
	return false
}

// movable is nil where what is in a segment could be written anew as safely as it is,
// by what is known without trying. wake: drives that sleep may be woken.
func (u *Upkeep) movable(s *fsapi.Segment, wake bool) error {
	for _, tier := range u.stays(s) {
		switch {
		case !u.takes(tier):
			return postponed{fsapi.Errorf(fsapi.Busy, "tier %s, on which segment %v has a copy, takes no other now: its drives are away or not to be written", tier, s.ID)}
		case !wake && u.sleeps(tier) && !u.gather.mayDelete(tier, u.o.Clock.Now()):
			return postponed{fsapi.Errorf(fsapi.Busy, "the drives of tier %s, on which segment %v has a copy, sleep", tier, s.ID)}
		}
	}
	return nil
}

// The shares of OrphanDelay that the copies of new segments may take, which are on no
// record yet, and that there may be from their beginning to their record: they would
// be orphans after that.
const (
	coverShare  = 0.5
	recordShare = 0.75
)

func share(d time.Duration, of float64) time.Duration { return time.Duration(float64(d) * of) }

// cover gives new segments the copies without which what moves into them would be
// less safe. stay are the tiers by segment. Errors: postponed, or that of ctx.
func (u *Upkeep) cover(ctx context.Context, segs []fsapi.Segment, stay map[fsapi.SegmentID][]string) error {
	limited, cancel := context.WithTimeout(ctx, share(u.o.OrphanDelay, coverShare))
	defer cancel()
	errs := make([]error, len(segs))
	workers := make(chan struct{}, u.o.Copiers)
	var wg sync.WaitGroup
	for i := range segs {
		if covered(&segs[i], stay[segs[i].ID]) {
			continue
		}
		workers <- struct{}{}
		wg.Go(func() {
			errs[i] = u.coverOne(limited, &segs[i], stay[segs[i].ID])
			<-workers
		})
	}
	wg.Wait()
	for i := range segs { // it would be deleted as an orphan, were it not recorded soon
		if at, ok := u.o.Store.Made(segs[i].ID); ok && u.o.Clock.Now().Sub(at) >= share(u.o.OrphanDelay, recordShare) {
			errs = append(errs, fsapi.Errorf(fsapi.TimedOut, "segment %v was not written within %v", segs[i].ID, share(u.o.OrphanDelay, recordShare)))
		}
	}
	err := errors.Join(errs...)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// Of no other kind than Busy: what failed is not what was to move.
	return postponed{fsapi.Errorf(fsapi.Busy, "what would be less safe elsewhere stays where it lies: %v", err)}
}

// coverOne writes copies of one segment. Its record is changed, which nobody else has.
func (u *Upkeep) coverOne(ctx context.Context, seg *fsapi.Segment, stay []string) error {
	end, err := u.claims.write(ctx, seg.ID)
	if err != nil {
		return err
	}
	defer end()
	var errs []error
	full := true
	for _, spec := range seg.Owed() {
		if spec.Evictable {
			continue
		}
		added, err := u.o.Store.FillCopy(ctx, seg, spec, u.gone(seg))
		if added.Count() > 0 {
			u.countParts(seg, &added)
			merge(seg, spec, added)
		}
		if covered(seg, stay) {
			return nil // what is left is owed
		}
		if err != nil {
			errs = append(errs, err)
			full = full && errors.Is(err, fsapi.NoSpace) && u.takes(spec.Tier)
		}
	}
	err = errors.Join(errs...)
	if full && err != nil {
		u.o.Log.Warn("a tier is full: what is rewritten has fewer copies until it has room", "segment", seg.ID, "err", err)
		return nil
	}
	return err
}

func (u *Upkeep) countParts(seg *fsapi.Segment, added *fsapi.CopyPlace) {
	for n, d := range added.Drives {
		if d != 0 {
			u.count.bytesCopied.Add(uint64(blob.PartSize(seg.Size, added, n)))
			u.count.partsCopied.Add(1)
		}
	}
}

// abandon deletes new segments that will be on no record. What cannot be deleted is an
// orphan, swept later.
func (u *Upkeep) abandon(ctx context.Context, segs []fsapi.Segment) {
	ctx, outlived := outlive(ctx)
	defer outlived()
	for i := range segs {
		end, err := u.claims.write(ctx, segs[i].ID)
		if err != nil {
			continue
		}
		for _, c := range segs[i].Copies {
			u.discard(ctx, segs[i].ID, c)
		}
		end()
	}
}
