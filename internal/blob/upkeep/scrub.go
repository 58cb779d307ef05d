package upkeep

import (
	"context"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// BadReplica is a replica that is missing or damaged.
type BadReplica struct {
	Segment  fsapi.SegmentID
	Drive    fsapi.DriveID
	Err      error // what is wrong with it
	Repaired bool
	Repair   error // why it could not be repaired
}

// ScrubReport is what Scrub found.
type ScrubReport struct {
	Segments int
	Replicas int
	Bytes    int64 // read
	Bad      []BadReplica
}

// Scrub looks at every replica of every segment: shallow, that it is there and
// has its size; deep, that every frame verifies. A shallow one lets drives sleep
// that spin down. A bad one is repaired from
// another that is good throughout.
func (u *Upkeep) Scrub(ctx context.Context, deep bool) (ScrubReport, error) {
	var r ScrubReport
	give, err := u.looking.take(ctx)
	if err != nil {
		return r, err
	}
	defer give()
	var after fsapi.SegmentID
	for {
		var page []meta.SegmentUse
		err := u.o.Meta.Segments(ctx, after, func(s meta.SegmentUse) bool {
			after = s.ID
			page = append(page, s)
			return len(page) < maxCandidates
		})
		if err != nil || len(page) == 0 {
			return r, err
		}
		for _, s := range page {
			if err := u.scrub(ctx, s.Segment, deep, &r); err != nil {
				return r, err
			}
		}
	}
}

func (u *Upkeep) scrub(ctx context.Context, s fsapi.Segment, deep bool, r *ScrubReport) error {
	if !s.Condemned.IsZero() {
		return nil
	}
	r.Segments++
	for i := range s.Copies {
		c := &s.Copies[i]
		for part, id := range c.Drives {
			if !u.o.Drives.State(id).Readable() {
				continue // away: repair's business, not scrub's
			}
			if !deep && u.asleep(id) {
				continue
			}
			r.Replicas++
			u.count.scrubbed.Add(1)
			n, err := u.look(ctx, &s, c, part, deep)
			r.Bytes += n
			u.count.bytesScrubbed.Add(uint64(n))
			if err != nil && ctx.Err() == nil && u.needed(ctx, s.ID) {
				u.repair(ctx, BadReplica{Segment: s.ID, Drive: id, Err: err}, r)
			}
			if err := u.pace.wait(ctx, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// asleep reports whether a drive is one that spins down.
func (u *Upkeep) asleep(id fsapi.DriveID) bool {
	d, err := u.o.Drives.Drive(id)
	return err == nil && d.Info().Spindown
}

// needed reports whether a segment is still there: it may have been deleted
// while it was looked at.
func (u *Upkeep) needed(ctx context.Context, id fsapi.SegmentID) bool {
	s, err := u.o.Meta.Segment(ctx, id)
	return err == nil && s.Condemned.IsZero()
}

// look checks one replica or shard and says how many bytes that took.
func (u *Upkeep) look(ctx context.Context, s *fsapi.Segment, c *fsapi.CopyPlace, part int, deep bool) (int64, error) {
	size := blob.PartSize(s.Size, c, part)
	if deep {
		return size, u.o.Store.VerifyPart(ctx, s, c, part)
	}
	d, err := u.o.Drives.Drive(c.Drives[part])
	if err != nil {
		return 0, err
	}
	name := blob.PartName(s.ID, c, part)
	b, err := d.Stat(ctx, name)
	if err == nil && b.Size != size {
		err = fsapi.Errorf(fsapi.Corrupt, "blob %s on drive %s has %d bytes, want %d", name, d.Info().Name, b.Size, size)
	}
	return 0, err
}

func (u *Upkeep) repair(ctx context.Context, b BadReplica, r *ScrubReport) {
	u.count.bad.Add(1)
	b.Repair = u.o.Store.Repair(ctx, b.Segment, b.Drive)
	b.Repaired = b.Repair == nil
	if b.Repaired {
		u.count.repaired.Add(1)
		u.o.Log.Warn("repaired a replica", "segment", b.Segment, "drive", b.Drive, "was", b.Err)
	} else {
		u.o.Log.Error("a replica is bad and cannot be repaired", "segment", b.Segment, "drive", b.Drive, "was", b.Err, "err", b.Repair)
	}
	r.Bad = append(r.Bad, b)
}
