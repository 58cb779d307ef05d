package upkeep

import (
	"context"
	"errors"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
)

// stray judges a replica or shard that a segment's record says lies elsewhere or
// not at all: mostly a drive came back whose segments were made whole without it.
// Where the segment is owed just this part it is verified and put on record, which
// saves a copy. Else it is deleted, if it is old enough and the segment needs
// nothing: no copy is owed, each part on record is on a drive that can be read
// and is there, and a pinned copy has been read back (D4).
func (u *Upkeep) stray(ctx context.Context, p *part, o GCOptions, r *OrphanReport) error {
	if !u.strayOld(p, o.Now) {
		r.Waiting++
		return ctxErr(ctx)
	}
	end, ok := u.claims.sweep(p.id)
	if !ok { // its parts are being written
		r.Waiting++
		return ctxErr(ctx)
	}
	defer end()
	seg, err := u.o.Meta.Segment(ctx, p.id)
	if err != nil || p.recorded(&seg) || !seg.Condemned.IsZero() {
		return notGone(err)
	}
	if c, spec, n := u.placeFor(p, &seg); c != nil {
		return u.adopt(ctx, p, &seg, c, spec, n, r)
	}
	if len(seg.Owed()) > 0 || len(u.gone(&seg)) > 0 {
		r.Waiting++
		return ctxErr(ctx)
	}
	err = u.proveStray(ctx, p, &seg)
	if err == nil {
		err = u.deletePartOf(ctx, p, r)
	}
	return u.unless(ctx, p, err, r)
}

// strayOld reports whether a part cannot be one that is being written and not
// recorded yet. claims say so of this process.
func (u *Upkeep) strayOld(p *part, now bool) bool {
	if now && p.blob.Created.Before(u.started) {
		return true
	}
	return u.o.Clock.Now().Sub(p.blob.Created) >= u.o.OrphanDelay
}

// proveStray returns nil if a segment can do without a part that it does not
// have on record.
func (u *Upkeep) proveStray(ctx context.Context, p *part, seg *fsapi.Segment) error {
	for i := range seg.Copies {
		c := &seg.Copies[i]
		for n, d := range c.Drives {
			if d == 0 {
				continue
			}
			if _, err := u.look(ctx, seg, c, n, scan{}); err != nil {
				return err
			}
		}
	}
	if err := u.verifyPinned(ctx, seg, -1); err != nil {
		return err
	}
	if err := u.o.Meta.Sync(ctx); err != nil { // the record must be durable first
		return err
	}
	now, err := u.o.Meta.Segment(ctx, p.id)
	if err == nil && (p.recorded(&now) || len(now.Owed()) > 0) {
		err = fsapi.Errorf(fsapi.Busy, "segment %v has changed meanwhile", p.id)
	}
	return notGone(err)
}

// placeFor is the empty place of an owed copy that a part fills: the copy as it
// would be, and which of its drives. nil where there is none.
func (u *Upkeep) placeFor(p *part, seg *fsapi.Segment) (*fsapi.CopyPlace, fsapi.CopySpec, int) {
	if st := u.o.Drives.State(p.drive()); !st.Readable() || st.Leaving() {
		return nil, fsapi.CopySpec{}, 0
	}
	for _, w := range seg.Owed() {
		if w.Tier != p.d.Info().Tier || (w.K > 0) != p.shard || p.shard && p.index >= w.K+w.M {
			continue
		}
		c := fsapi.CopyPlace{Tier: w.Tier, K: w.K, M: w.M, Drives: make([]fsapi.DriveID, w.K+w.M)}
		if have := seg.Copy(w); have != nil {
			c = have.Clone()
		}
		if slices.Contains(c.Drives, p.drive()) || !p.shard && c.Count() >= w.Replicas {
			continue
		}
		n := p.index
		if !p.shard {
			n = len(c.Drives)
			c.Drives = append(c.Drives, 0)
		}
		if c.Drives[n] != 0 {
			continue
		}
		c.Drives[n] = p.drive()
		return &c, w, n
	}
	return nil, fsapi.CopySpec{}, 0
}

// adopt puts a part on record that verifies.
func (u *Upkeep) adopt(ctx context.Context, p *part, seg *fsapi.Segment, c *fsapi.CopyPlace, spec fsapi.CopySpec, n int, r *OrphanReport) error {
	err := u.o.Store.VerifyPart(ctx, seg, c, n)
	if err == nil {
		added := fsapi.CopyPlace{Tier: c.Tier, K: c.K, M: c.M, Drives: make([]fsapi.DriveID, len(c.Drives))}
		added.Drives[n] = p.drive()
		_, err = u.o.Meta.ChangeSegment(ctx, seg.ID, func(s *fsapi.Segment) error {
			if !s.Condemned.IsZero() || !slices.ContainsFunc(s.Owed(), spec.SameLayout) {
				return fsapi.Errorf(fsapi.Busy, "segment %v has changed meanwhile", s.ID)
			}
			if left := merge(s, spec, added); left.Count() > 0 {
				return fsapi.Errorf(fsapi.Busy, "the place in segment %v was taken meanwhile", s.ID)
			}
			return nil
		})
	}
	if errors.Is(err, fsapi.Busy) {
		r.Waiting++
		return ctxErr(ctx)
	}
	if err != nil {
		return u.unless(ctx, p, err, r)
	}
	u.o.Store.Forget(seg.ID)
	r.Adopted++
	u.count.adopted.Add(1)
	u.o.Log.Info("took a part that was owed back on record", "segment", seg.ID, "drive", p.drive())
	return nil
}
