package upkeep

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// Everything that changes where a segment lies is one of the steps in this
// file: they write first, then record, and delete what nothing points to any
// more last. Each sees the record as it is when it is changed, so that steps on
// one segment may run at the same time: what one finds taken it removes again.
// Nothing is deleted of a segment while another step writes parts of it (claims):
// that one may count as written what it finds in its place.

// Fulfil writes the copies a segment is owed, and when nothing is owed takes away
// the surplus. Parts that succeed are kept beside the error that says what did
// not.
func (u *Upkeep) Fulfil(ctx context.Context, id fsapi.SegmentID) error {
	return u.fulfil(ctx, id, func(fsapi.CopySpec, int64) bool { return false })
}

// fulfil is Fulfil, without the copies that must wait.
func (u *Upkeep) fulfil(ctx context.Context, id fsapi.SegmentID, waits func(spec fsapi.CopySpec, size int64) bool) error {
	seg, err := u.o.Meta.Segment(ctx, id)
	if err != nil || !seg.Condemned.IsZero() {
		return notGone(err)
	}
	var errs []error
	for _, spec := range seg.Owed() {
		if waits(spec, seg.Size) {
			continue
		}
		if err := u.fill(ctx, &seg, spec); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if len(seg.Owed()) > 0 {
		return nil // some waits
	}
	return u.dropSurplus(ctx, id)
}

// fill writes what a segment lacks of one wanted copy, to none of the drives to
// avoid, and records it. seg is the record as it became.
func (u *Upkeep) fill(ctx context.Context, seg *fsapi.Segment, spec fsapi.CopySpec, avoid ...fsapi.DriveID) error {
	end, err := u.claims.write(ctx, seg.ID)
	if err != nil {
		return err
	}
	defer end()
	added, err := u.o.Store.FillCopy(ctx, seg, spec, append(u.gone(seg), avoid...))
	if added.Count() == 0 {
		return err
	}
	u.countParts(seg, &added)
	now, rerr := u.record(ctx, seg.ID, spec, added)
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	*seg = now
	return err
}

// gone are the drives of a segment on which nothing new is to be put, since what
// they hold is not readable now.
func (u *Upkeep) gone(seg *fsapi.Segment) []fsapi.DriveID {
	var ids []fsapi.DriveID
	for i := range seg.Copies {
		for _, d := range seg.Copies[i].Drives {
			if d != 0 && !u.o.Drives.State(d).Readable() {
				ids = append(ids, d)
			}
		}
	}
	return ids
}

// record adds parts that are durable to a segment's record. Those whose place is
// taken, and all of them where the segment is gone, are removed again; where it
// is not known whether they are on record they stay. It is done even when ctx has
// ended: the bytes are there, and would be strays else. The caller has a claim to
// write.
func (u *Upkeep) record(ctx context.Context, id fsapi.SegmentID, spec fsapi.CopySpec, added fsapi.CopyPlace) (fsapi.Segment, error) {
	ctx, outlived := outlive(ctx)
	defer outlived()
	var left fsapi.CopyPlace
	now, err := u.o.Meta.ChangeSegment(ctx, id, func(seg *fsapi.Segment) error {
		if !seg.Condemned.IsZero() {
			return fsapi.Errorf(fsapi.NotExist, "segment %v is to be deleted", id)
		}
		left = merge(seg, spec, added)
		return nil
	})
	u.o.Store.Forget(id)
	switch {
	case errors.Is(err, fsapi.NotExist):
		u.discard(ctx, id, added)
		return now, nil
	case err != nil: // it may be on record: what is not is a stray, swept later
		return now, err
	}
	u.discard(ctx, id, left)
	return now, nil
}

// discard deletes what a writer of parts has put there and no record names. Where
// others write parts of the segment too it is left to the orphan sweep: they may
// have found it in the place of theirs. It is done even when ctx has ended.
func (u *Upkeep) discard(ctx context.Context, id fsapi.SegmentID, parts fsapi.CopyPlace) {
	if parts.Count() == 0 {
		return
	}
	end, ok := u.claims.alone(id)
	if !ok {
		return
	}
	defer end()
	ctx, outlived := outlive(ctx)
	defer outlived()
	seg, err := u.o.Meta.Segment(ctx, id)
	if err != nil && !errors.Is(err, fsapi.NotExist) || u.o.Meta.Sync(ctx) != nil {
		return // the record must be durable first
	}
	parts = parts.Clone()
	for n, d := range parts.Drives {
		if err == nil && seg.Names(parts.Sharded(), n, d) {
			parts.Drives[n] = 0
		}
	}
	u.removeParts(ctx, id, []fsapi.CopyPlace{parts})
}

// merge puts new parts into a segment's copy, and returns those for which there
// is no room any more.
func merge(seg *fsapi.Segment, spec fsapi.CopySpec, added fsapi.CopyPlace) (left fsapi.CopyPlace) {
	c := seg.Copy(spec)
	if c == nil {
		seg.Copies = append(seg.Copies, fsapi.CopyPlace{Tier: spec.Tier, K: spec.K, M: spec.M, Drives: make([]fsapi.DriveID, spec.K+spec.M)})
		c = &seg.Copies[len(seg.Copies)-1]
	}
	left = fsapi.CopyPlace{Tier: c.Tier, K: c.K, M: c.M, Drives: make([]fsapi.DriveID, len(added.Drives))}
	for n, d := range added.Drives {
		if d != 0 && (c.Sharded() && otherLayout(seg, c, n, d) || !mergePart(c, spec, n, d)) {
			left.Drives[n] = d
		}
	}
	c.Verified = zeroTime
	return left
}

// otherLayout reports whether the n-th shard of another copy than c is on a drive,
// where it has the name that c's would have.
func otherLayout(seg *fsapi.Segment, c *fsapi.CopyPlace, n int, d fsapi.DriveID) bool {
	return seg.Names(true, n, d) && c.Drives[n] != d
}

// mergePart reports whether a part has its place in the copy, given now or before.
// No drive has two: it may have been given another while this one was written.
func mergePart(c *fsapi.CopyPlace, spec fsapi.CopySpec, n int, d fsapi.DriveID) bool {
	switch {
	case c.Sharded() && c.Drives[n] == 0 && !slices.Contains(c.Drives, d):
		c.Drives[n] = d
	case c.Sharded():
		return c.Drives[n] == d
	case slices.Contains(c.Drives, d):
	case c.Count() < spec.Replicas:
		c.Drives = append(c.Drives, d)
	default:
		return false
	}
	return true
}

// removeParts deletes replicas and shards that no record names. What cannot be
// deleted is an orphan, swept later. The caller has the claim to delete. It is
// done even when ctx has ended: a call that nobody waits for might take place when
// the part is there again.
func (u *Upkeep) removeParts(ctx context.Context, id fsapi.SegmentID, places []fsapi.CopyPlace) {
	ctx = context.WithoutCancel(ctx)
	for i := range places {
		for n, d := range places[i].Drives {
			if d == 0 {
				continue
			}
			if err := u.o.Store.RemovePart(ctx, id, &places[i], n); err != nil {
				u.o.Log.Info("a part of a segment without a record is left to the orphan sweep", "segment", id, "drive", d, "err", err)
			}
		}
	}
}

// dropSurplus removes the places that no wanted copy asks for, once every wanted
// copy is complete and what stays of a pinned one has been read back just now (D4,
// D5): what was right long ago may be bad, while what is to go is good.
func (u *Upkeep) dropSurplus(ctx context.Context, id fsapi.SegmentID) error {
	seg, err := u.o.Meta.Segment(ctx, id)
	if err != nil || len(seg.Surplus()) == 0 || !seg.Condemned.IsZero() {
		return notGone(err)
	}
	if err := u.readBack(ctx, &seg); err != nil {
		return err
	}
	return u.drop(ctx, id, func(seg *fsapi.Segment) ([]fsapi.CopyPlace, error) {
		if len(seg.Owed()) > 0 || u.verifiedPinned(seg, -1) == nil {
			return nil, fsapi.Errorf(fsapi.Busy, "segment %v has changed meanwhile", id)
		}
		return splitSurplus(seg), nil
	})
}

// drop lets fn take places out of a segment's record, makes that durable and then
// deletes what lay there. fsapi.Busy while parts of the segment are written.
func (u *Upkeep) drop(ctx context.Context, id fsapi.SegmentID, fn func(seg *fsapi.Segment) ([]fsapi.CopyPlace, error)) error {
	end, ok := u.claims.sweep(id)
	if !ok {
		return fsapi.Errorf(fsapi.Busy, "parts of segment %v are being written", id)
	}
	defer end()
	out, err := u.take(ctx, id, fn)
	if err == nil {
		u.removeParts(ctx, id, out)
	}
	return err
}

// unnamed takes out of the places that left a record those that it names still, as
// the shard of another layout that has the number of the old one.
func unnamed(seg *fsapi.Segment, places []fsapi.CopyPlace) []fsapi.CopyPlace {
	out := fsapi.CloneCopies(places)
	for i := range out {
		for n, d := range out[i].Drives {
			if seg.Names(out[i].Sharded(), n, d) {
				out[i].Drives[n] = 0
			}
		}
	}
	return out
}

// take lets fn take places out of a segment's record and makes that durable: also
// when ctx ends meanwhile, since what left the record and is not deleted is an
// orphan.
func (u *Upkeep) take(ctx context.Context, id fsapi.SegmentID, fn func(seg *fsapi.Segment) ([]fsapi.CopyPlace, error)) (out []fsapi.CopyPlace, err error) {
	_, err = u.o.Meta.ChangeSegment(ctx, id, func(seg *fsapi.Segment) (err error) {
		if out, err = fn(seg); err == nil {
			out = unnamed(seg, out)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	u.o.Store.Forget(id)
	ctx, end := outlive(ctx)
	defer end()
	return out, u.o.Meta.Sync(ctx)
}

// lastWait is how long a step whose context has ended waits for what it has begun:
// a log that takes no writes holds nobody longer who wants to stop.
const lastWait = 10 * time.Second

// outlive is a context that ends lastWait after ctx has, or with end.
func outlive(ctx context.Context) (longer context.Context, end func()) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(lastWait, cancel) })
	return longer, func() { stop(); cancel() }
}

// splitSurplus takes out of a segment's copies what no wanted one asks for.
func splitSurplus(seg *fsapi.Segment) (out []fsapi.CopyPlace) {
	var keep []fsapi.CopyPlace
	for _, c := range seg.Copies {
		i := slices.IndexFunc(seg.Want, func(w fsapi.CopySpec) bool { return c.Is(w) })
		switch {
		case i < 0:
			out = append(out, c)
		case !c.Sharded() && len(c.Drives) > seg.Want[i].Replicas:
			n := seg.Want[i].Replicas
			more := c.Clone()
			more.Drives = more.Drives[n:]
			out = append(out, more)
			c.Drives = slices.Clone(c.Drives[:n])
			keep = append(keep, c)
		default:
			keep = append(keep, c)
		}
	}
	seg.Copies = keep
	return out
}

// verifiedPinned is a complete pinned copy, colder than the tier of that rank,
// that has been read back, and that drives which answer hold enough of; nil where
// there is none.
func (u *Upkeep) verifiedPinned(seg *fsapi.Segment, rank int) *fsapi.CopyPlace {
	for _, w := range seg.Want {
		if c := u.pinned(seg, w, rank); c != nil && !c.Verified.IsZero() {
			return c
		}
	}
	return nil
}

// pinned is the copy that is wanted by w, where it is one that may stand in for
// one of a hotter tier: pinned, complete, and readable now.
func (u *Upkeep) pinned(seg *fsapi.Segment, w fsapi.CopySpec, rank int) *fsapi.CopyPlace {
	c := seg.Copy(w)
	if w.Evictable || c == nil || !c.Complete(w) || fsapi.TierRank(w.Tier) <= rank || !u.answers(c) {
		return nil
	}
	return c
}

// answers reports whether drives that are well hold enough of a copy to read it.
// What was read back once is no help while its bucket is away.
func (u *Upkeep) answers(c *fsapi.CopyPlace) bool {
	n := 0
	for _, d := range c.Drives {
		if st := u.o.Drives.State(d); d != 0 && st.Readable() && st != drive.Suspect {
			n++
		}
	}
	return n >= max(1, c.K)
}

// verifyPinned makes sure that a pinned copy colder than a tier has been read
// back and found right, reading one if none has.
func (u *Upkeep) verifyPinned(ctx context.Context, seg *fsapi.Segment, rank int) error {
	if u.verifiedPinned(seg, rank) != nil {
		return nil
	}
	var errs []error
	for _, w := range seg.Want {
		c := u.pinned(seg, w, rank)
		if c == nil {
			continue
		}
		err := u.o.Store.VerifyCopy(ctx, seg, c)
		if err == nil {
			return u.markVerified(ctx, seg, w, c)
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return fsapi.Errorf(fsapi.Busy, "segment %v has no complete pinned copy on a colder tier that can be read now", seg.ID)
	}
	return errors.Join(errs...)
}

// readBack reads what stays of a pinned copy when the surplus goes, whether it was
// read before or not. What is bad of it is made anew from the others first.
func (u *Upkeep) readBack(ctx context.Context, seg *fsapi.Segment) error {
	var errs []error
	for _, w := range seg.Want {
		c := u.pinned(seg, w, -1)
		if c == nil {
			continue
		}
		stays := c.Clone()
		if !c.Sharded() {
			stays.Drives = stays.Drives[:w.Replicas]
		}
		err := u.o.Store.VerifyCopy(ctx, seg, &stays)
		if errors.Is(err, fsapi.Corrupt) || errors.Is(err, fsapi.NotExist) {
			err = u.mend(ctx, seg, &stays)
		}
		if err == nil {
			return u.markVerified(ctx, seg, w, c)
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return fsapi.Errorf(fsapi.Busy, "segment %v has no complete pinned copy that can be read now", seg.ID)
	}
	return errors.Join(errs...)
}

// mend makes the parts of a copy that are bad anew, and reads it back.
func (u *Upkeep) mend(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace) error {
	for _, d := range c.Drives {
		if err := u.o.Store.Repair(ctx, seg.ID, d); err != nil {
			return err
		}
	}
	return u.o.Store.VerifyCopy(ctx, seg, c)
}

// markVerified notes that a copy, as it is in seg, was read back.
func (u *Upkeep) markVerified(ctx context.Context, seg *fsapi.Segment, w fsapi.CopySpec, was *fsapi.CopyPlace) error {
	at := u.o.Clock.Now()
	now, err := u.o.Meta.ChangeSegment(ctx, seg.ID, func(s *fsapi.Segment) error {
		c := s.Copy(w)
		if c == nil || !slices.Equal(c.Drives, was.Drives) {
			return fsapi.Errorf(fsapi.Busy, "segment %v was moved while it was read back", seg.ID)
		}
		c.Verified = at
		return nil
	})
	if err == nil {
		*seg = now
	}
	return err
}

// Evict removes an evictable copy from its tier after a colder pinned one has
// been read back (D5). fsapi.Busy where that is not so, or its drives do not
// answer now, or nothing is there.
func (u *Upkeep) Evict(ctx context.Context, id fsapi.SegmentID, tier string) error {
	seg, err := u.o.Meta.Segment(ctx, id)
	if err != nil {
		return err
	}
	rank := fsapi.TierRank(tier)
	if err := u.verifyPinned(ctx, &seg, rank); err != nil {
		return err
	}
	err = u.drop(ctx, id, func(seg *fsapi.Segment) ([]fsapi.CopyPlace, error) {
		i := slices.IndexFunc(seg.Want, func(w fsapi.CopySpec) bool { return w.Tier == tier && w.Evictable })
		if i < 0 || u.verifiedPinned(seg, rank) == nil {
			return nil, fsapi.Errorf(fsapi.Busy, "segment %v has no evictable copy on tier %s beside a verified pinned one", id, tier)
		}
		at := slices.IndexFunc(seg.Copies, func(c fsapi.CopyPlace) bool { return c.Is(seg.Want[i]) })
		if at < 0 {
			return nil, fsapi.Errorf(fsapi.Busy, "segment %v has nothing on tier %s", id, tier)
		}
		out := []fsapi.CopyPlace{seg.Copies[at]}
		seg.Copies = slices.Delete(seg.Copies, at, at+1)
		return out, nil
	})
	if err == nil {
		u.count.evicted.Add(1)
		u.count.bytesEvicted.Add(uint64(seg.Size))
	}
	return err
}

// Promote writes an evicted copy again. Nothing is done where it is there, or
// the segment should have none on that tier.
func (u *Upkeep) Promote(ctx context.Context, id fsapi.SegmentID, tier string) error {
	seg, err := u.o.Meta.Segment(ctx, id)
	if err != nil || !seg.Condemned.IsZero() {
		return notGone(err)
	}
	i := slices.IndexFunc(seg.Want, func(w fsapi.CopySpec) bool { return w.Tier == tier && w.Evictable })
	if i < 0 || seg.Copy(seg.Want[i]) != nil {
		return nil
	}
	return u.fill(ctx, &seg, seg.Want[i])
}

// Leave writes what a drive holds of a segment to another drive of its tier, and
// then removes it there, where the drive can be reached. What it holds of an
// evictable copy just goes where a pinned one has been read back. to, where not
// 0, is the drive that must take it. fsapi.NoSpace where none can.
func (u *Upkeep) Leave(ctx context.Context, id fsapi.SegmentID, from, to fsapi.DriveID) error {
	seg, err := u.o.Meta.Segment(ctx, id)
	if err != nil || !seg.Condemned.IsZero() {
		return notGone(err)
	}
	for i := range seg.Copies {
		c := &seg.Copies[i]
		for n, d := range c.Drives {
			if d != from {
				continue
			}
			if to == 0 && u.spare(&seg, c) && u.Evict(ctx, id, c.Tier) == nil {
				break
			}
			if err := u.leave(ctx, &seg, c, n, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// spare reports whether a copy is evictable.
func (u *Upkeep) spare(seg *fsapi.Segment, c *fsapi.CopyPlace) bool {
	return slices.ContainsFunc(seg.Want, func(w fsapi.CopySpec) bool { return c.Is(w) && w.Evictable })
}

func (u *Upkeep) leave(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace, n int, to fsapi.DriveID) error {
	end, err := u.claims.write(ctx, seg.ID)
	if err != nil {
		return err
	}
	defer end()
	target, err := u.target(ctx, seg, c, n, to)
	if err != nil {
		return err
	}
	if err := u.o.Store.CopyPart(ctx, seg, c, n, target); err != nil {
		return err
	}
	u.count.partsCopied.Add(1)
	u.count.bytesCopied.Add(uint64(blob.PartSize(seg.Size, c, n)))
	next := c.Clone()
	next.Drives[n] = target.Info().ID
	out, err := u.take(ctx, seg.ID, func(s *fsapi.Segment) ([]fsapi.CopyPlace, error) {
		return swap(s, c, n, next.Drives[n])
	})
	switch {
	case err == nil:
		u.discard(ctx, seg.ID, out[0])
	case errors.Is(err, fsapi.Busy), errors.Is(err, fsapi.NotExist), errors.Is(err, fsapi.Interrupted):
		u.discard(ctx, seg.ID, only(&next, n))
	}
	return err // of any other kind: it may be on record
}

// only is the n-th place of a copy, and nothing of the others.
func only(c *fsapi.CopyPlace, n int) fsapi.CopyPlace {
	one := fsapi.CopyPlace{Tier: c.Tier, K: c.K, M: c.M, Drives: make([]fsapi.DriveID, len(c.Drives))}
	one.Drives[n] = c.Drives[n]
	return one
}

// swap puts a drive in the place of the n-th one of a copy that is still as it
// was, and returns the old place.
func swap(s *fsapi.Segment, was *fsapi.CopyPlace, n int, to fsapi.DriveID) ([]fsapi.CopyPlace, error) {
	for i := range s.Copies {
		c := &s.Copies[i]
		if c.Tier != was.Tier || c.K != was.K || c.M != was.M || !s.Condemned.IsZero() {
			continue
		}
		at := n
		if !c.Sharded() {
			at = slices.Index(c.Drives, was.Drives[n])
		}
		if at < 0 || c.Drives[at] != was.Drives[n] || slices.Contains(c.Drives, to) {
			break
		}
		old := only(c, at)
		c.Drives = slices.Clone(c.Drives)
		c.Drives[at] = to
		c.Verified = zeroTime
		return []fsapi.CopyPlace{old}, nil
	}
	return nil, fsapi.Errorf(fsapi.Busy, "segment %v was moved by another step meanwhile", s.ID)
}

// target is the drive that takes the n-th part of a copy, which another gives up.
func (u *Upkeep) target(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace, n int, to fsapi.DriveID) (drive.Drive, error) {
	from := c.Drives[n]
	if to == 0 {
		avoid := []fsapi.DriveID{from}
		for i := range seg.Copies {
			if o := &seg.Copies[i]; c.Sharded() && o.Sharded() && n < len(o.Drives) {
				avoid = append(avoid, o.Drives[n])
			}
		}
		return u.o.Store.Place(ctx, seg, c, avoid)
	}
	if slices.Contains(c.Drives, to) || seg.Names(c.Sharded(), n, to) {
		return nil, fsapi.Errorf(fsapi.Exist, "drive %v holds a part of segment %v already", to, seg.ID)
	}
	return u.o.Drives.Drive(to)
}
