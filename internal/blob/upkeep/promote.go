package upkeep

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/fsapi"
)

// promoteCandidates promotes segments that are read again and again. One that
// there is no room for is left: it is a candidate again when it is visited
// again.
func (u *Upkeep) promoteCandidates(ctx context.Context, r *TierReport) error {
	for _, id := range u.o.Tiering.Heat.Candidates(promoteStep) {
		n, err := u.PromoteUp(ctx, id, "")
		if ctx.Err() != nil {
			return fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "promote segments")
		}
		switch {
		case err != nil && !errors.Is(err, fsapi.NoSpace):
			r.Failed++
			u.o.Log.Warn("a segment that is read often could not be promoted", "segment", id, "err", err)
		case err == nil && n > 0:
			r.Promoted++
			r.PromotedBytes += n
		}
	}
	return nil
}

// PromoteUp writes the hottest evictable copy that a segment lacks, or the one
// on a tier, where its drives are below the low watermark, and says how many
// bytes the segment has; 0: nothing was to be done. fsapi.NoSpace.
func (u *Upkeep) PromoteUp(ctx context.Context, id fsapi.SegmentID, tier string) (int64, error) {
	seg, err := u.o.Meta.Segment(ctx, id)
	if err != nil || !seg.Condemned.IsZero() {
		return 0, notGone(err)
	}
	w := lacking(&seg, tier)
	if w == nil {
		return 0, nil
	}
	high, low := u.belowLow(ctx, w.Tier, seg.Size)
	if low < w.Width() {
		return 0, fsapi.Errorf(fsapi.NoSpace, "segment %v would need %d drives of tier %s below their low watermark: there are %d", id, w.Width(), w.Tier, low)
	}
	if err := u.promoting.wait(ctx, seg.Size); err != nil {
		return 0, err
	}
	if err := u.fill(ctx, &seg, *w, high...); err != nil {
		return 0, err
	}
	u.count.promoted.Add(1)
	u.count.bytesPromoted.Add(uint64(seg.Size))
	return seg.Size, nil
}

// lacking is the hottest evictable copy that a segment should have and has
// nothing of, unless something as hot is there; tier "": any tier.
func lacking(seg *fsapi.Segment, tier string) *fsapi.CopySpec {
	best := len(seg.Want)
	for i, w := range seg.Want {
		if !w.Evictable || tier != "" && w.Tier != tier || seg.Copy(w) != nil {
			continue
		}
		if best == len(seg.Want) || fsapi.TierRank(w.Tier) < fsapi.TierRank(seg.Want[best].Tier) {
			best = i
		}
	}
	if best == len(seg.Want) {
		return nil
	}
	for i := range seg.Copies {
		if seg.Copies[i].Readable() && fsapi.TierRank(seg.Copies[i].Tier) <= fsapi.TierRank(seg.Want[best].Tier) {
			return nil
		}
	}
	return &seg.Want[best]
}

// belowLow counts the drives of a tier that stay below their low watermark with
// so many bytes more; high are the others.
func (u *Upkeep) belowLow(ctx context.Context, tier string, size int64) (high []fsapi.DriveID, low int) {
	for _, d := range u.o.Drives.All() {
		i := d.Info()
		if i.Tier != tier || !u.o.Drives.State(i.ID).Writable() {
			continue
		}
		c, err := u.o.Drives.Capacity(ctx, i.ID)
		if err == nil && above(c, u.o.Tiering.marks(tier).Low)+size <= 0 {
			low++
		} else {
			high = append(high, i.ID)
		}
	}
	return high, low
}
