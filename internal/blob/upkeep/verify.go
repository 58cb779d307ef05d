package upkeep

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// verifySlack is how far a drive's times of blobs may lag behind this machine's.
const verifySlack = time.Minute

func checkVerify(args []string) ([]string, error) {
	if len(args) != 2 {
		return nil, fsapi.Errorf(fsapi.Invalid, "give a drive and a time")
	}
	id, err := fsapi.ParseDriveID(args[0])
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339, args[1])
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "time %q: want one such as 2006-01-02T15:04:05Z", args[1])
	}
	return []string{id.String(), at.UTC().Format(time.RFC3339)}, nil
}

// runVerify looks whether everything recorded on a drive is there, and reads what
// it was given since a time: what a lost machine may have taken with it. A bad part
// is repaired from others.
func (u *Upkeep) runVerify(ctx context.Context, t *job.Task) error {
	args, err := checkVerify(t.Args())
	if err != nil {
		return err
	}
	on, _ := fsapi.ParseDriveID(args[0])
	since, _ := time.Parse(time.RFC3339, args[1])
	_, after := cursorSegment(t.Cursor(), 0)
	if after.IsZero() {
		if err := u.totalOn(ctx, t, on); err != nil {
			return err
		}
	}
	var r ScrubReport
	return u.walk(ctx, t, nil, after, func(page []meta.SegmentUse) (items, bytes int64, err error) {
		give, err := u.looking.take(ctx)
		if err != nil {
			return 0, 0, err
		}
		defer give()
		for _, s := range page {
			if !s.Condemned.IsZero() || !holds(&s.Segment, on) {
				continue
			}
			if err := u.verifyRecent(ctx, &s.Segment, on, since.Add(-verifySlack), &r); err != nil {
				return 0, 0, err
			}
			items, bytes = items+1, bytes+s.Size
		}
		if len(r.Bad) > 0 {
			t.Note(r.bad())
		}
		return items, bytes, nil
	})
}

// verifyRecent looks at what a drive has of a segment.
func (u *Upkeep) verifyRecent(ctx context.Context, s *fsapi.Segment, on fsapi.DriveID, since time.Time, r *ScrubReport) error {
	r.Segments++
	for i := range s.Copies {
		c := &s.Copies[i]
		for part, id := range c.Drives {
			if id != on {
				continue
			}
			if !u.o.Drives.State(id).Readable() {
				return fsapi.Errorf(fsapi.NoDevice, "drive %v is away: what was written to it last is verified when it is back", id)
			}
			r.Replicas++
			u.count.scrubbed.Add(1)
			n, err := u.lookSince(ctx, s, c, part, since)
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

// lookSince checks that a part is there and has its size; one that was written
// since a time is read.
func (u *Upkeep) lookSince(ctx context.Context, s *fsapi.Segment, c *fsapi.CopyPlace, part int, since time.Time) (int64, error) {
	if _, err := u.look(ctx, s, c, part, false); err != nil {
		return 0, err
	}
	d, err := u.o.Drives.Drive(c.Drives[part])
	if err != nil {
		return 0, err
	}
	b, err := d.Stat(ctx, blob.PartName(s.ID, c, part))
	if err != nil || b.Created.Before(since) {
		return 0, err
	}
	return u.look(ctx, s, c, part, true)
}
