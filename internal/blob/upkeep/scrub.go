package upkeep

import (
	"context"
	"fmt"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/drive"
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
// that spin down. A bad one is repaired from another that is good throughout.
func (u *Upkeep) Scrub(ctx context.Context, deep bool) (ScrubReport, error) {
	var r ScrubReport
	give, err := u.looking.take(ctx)
	if err != nil {
		return r, err
	}
	defer give()
	var after fsapi.SegmentID
	for {
		page, err := u.page(ctx, after)
		if err != nil || len(page) == 0 {
			return r, err
		}
		if err := u.scrubPage(ctx, page, scan{deep: deep}, &r); err != nil {
			return r, err
		}
		after = page[len(page)-1].ID
	}
}

// scan is which parts on record are looked at, and how.
type scan struct {
	on    fsapi.DriveID // those on this drive; 0: all
	deep  bool          // every frame is verified, else that the part is there and has its size
	since time.Time     // not zero: those written from then on are looked at deeply, and no drive may be away or left to sleep
}

// scrubPage looks at segments.
func (u *Upkeep) scrubPage(ctx context.Context, page []meta.SegmentUse, sc scan, r *ScrubReport) error {
	for _, s := range page {
		if err := u.scrub(ctx, s.Segment, sc, r); err != nil {
			return err
		}
	}
	return nil
}

func checkScrub(args []string) ([]string, error) {
	if len(args) == 0 || len(args) > 2 || args[0] != "shallow" && args[0] != "deep" {
		return nil, fsapi.Errorf(fsapi.Invalid, "give shallow or deep, and a drive or none")
	}
	if len(args) == 1 {
		return args, nil
	}
	id, err := fsapi.ParseDriveID(args[1])
	return []string{args[0], id.String()}, err
}

// runScrub is Scrub as a job, of all drives or of one.
func (u *Upkeep) runScrub(ctx context.Context, t *job.Task) error {
	sc := scan{deep: t.Args()[0] == "deep"}
	if len(t.Args()) == 2 {
		var err error
		if sc.on, err = fsapi.ParseDriveID(t.Args()[1]); err != nil {
			return err
		}
	}
	return u.scanAll(ctx, t, sc)
}

// scanAll is a job that looks at all segments.
func (u *Upkeep) scanAll(ctx context.Context, t *job.Task, sc scan) error {
	size := func(s *meta.SegmentUse) int64 { return scrubbed(&s.Segment, sc.on) }
	_, after := cursorSegment(t.Cursor(), 0)
	if after.IsZero() {
		if err := u.total(ctx, t, size); err != nil {
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
		for i := range page {
			if n := size(&page[i]); n > 0 {
				items++
				bytes += n
			}
		}
		err = u.scrubPage(ctx, page, sc, &r)
		if len(r.Bad) > 0 {
			t.Note(r.bad())
		}
		return items, bytes, err
	})
}

// scrubbed is how many bytes of a segment there are to look at.
func scrubbed(s *fsapi.Segment, on fsapi.DriveID) (n int64) {
	if !s.Condemned.IsZero() {
		return 0
	}
	for i := range s.Copies {
		c := &s.Copies[i]
		for part, id := range c.Drives {
			if id != 0 && (on == 0 || id == on) {
				n += blob.PartSize(s.Size, c, part)
			}
		}
	}
	return n
}

// bad is what a scrub found, since it was last started.
func (r *ScrubReport) bad() string {
	repaired := 0
	for _, b := range r.Bad {
		if b.Repaired {
			repaired++
		}
	}
	return fmt.Sprintf("%d parts were missing or damaged, %d of them are repaired", len(r.Bad), repaired)
}

func (u *Upkeep) scrub(ctx context.Context, s fsapi.Segment, sc scan, r *ScrubReport) error {
	if !s.Condemned.IsZero() {
		return nil
	}
	r.Segments++
	for i := range s.Copies {
		c := &s.Copies[i]
		for part, id := range c.Drives {
			if id == 0 || sc.on != 0 && id != sc.on {
				continue
			}
			there := u.o.Drives.State(id).Readable()
			if !there && !sc.since.IsZero() {
				return fsapi.Errorf(fsapi.NoDevice, "drive %v is away: what was written to it last is verified when it is back", id)
			}
			if !there || !sc.deep && sc.since.IsZero() && u.asleep(id) {
				continue // away: repair's business, not scrub's
			}
			r.Replicas++
			u.count.scrubbed.Add(1)
			n, err := u.look(ctx, &s, c, part, sc)
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
func (u *Upkeep) look(ctx context.Context, s *fsapi.Segment, c *fsapi.CopyPlace, part int, sc scan) (int64, error) {
	size := blob.PartSize(s.Size, c, part)
	if !sc.deep {
		b, err := u.stat(ctx, blob.PartName(s.ID, c, part), size, c.Drives[part])
		if err != nil || sc.since.IsZero() || b.Created.Before(sc.since) {
			return 0, err
		}
	}
	return size, u.o.Store.VerifyPart(ctx, s, c, part)
}

// stat looks at a part, which must have a size.
func (u *Upkeep) stat(ctx context.Context, name string, size int64, on fsapi.DriveID) (drive.Blob, error) {
	d, err := u.o.Drives.Drive(on)
	if err != nil {
		return drive.Blob{}, err
	}
	b, err := d.Stat(ctx, name)
	if err == nil && b.Size != size {
		err = fsapi.Errorf(fsapi.Corrupt, "blob %s on drive %s has %d bytes, want %d", name, d.Info().Name, b.Size, size)
	}
	return b, err
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
