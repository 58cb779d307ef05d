package upkeep

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// OrphanReport is what SweepOrphans did.
type OrphanReport struct {
	Blobs   int   // looked at
	Deleted int   // without a record, or recorded to lie elsewhere
	Bytes   int64 // of the deleted
	Adopted int   // put on record, since their segments were owed just them
	Waiting int   // neither, but too young, or not all drives can be read
	Doubts  []Doubt

	Unreadable int // of the deleted, those that did not say what is in them

	look       bool    // nothing is changed; doubts are those about what cannot be read
	unreadable []*part // to be looked for in all metadata
	page       func()  // called after some blobs were looked at; nil: nobody wants to know
}

// String is the report in a line, for people.
func (r *OrphanReport) String() string {
	return fmt.Sprintf("%d blobs looked at, %d deleted (%d bytes), %d adopted, %d wait, %d doubts", r.Blobs, r.Deleted, r.Bytes, r.Adopted, r.Waiting, len(r.Doubts))
}

// SweepOrphans deletes what no record knows: replicas and shards left by a crash
// between writing and recording, those whose deletion failed, and those of a
// drive that came back after its segments were made whole without it. A segment
// under way in this process is left alone; so is one younger than OrphanDelay,
// which o.Now lifts for those written before this process started.
//
// Of a segment without a record the directory must open, from a replica or from
// shards on whichever drives, and show no chunk whose record points there. Shards
// too few to read are deleted only if every drive there is was looked at. Of a
// segment with a record see strays. What cannot be read or is no segment is
// reported and kept; o.Unreadable has all metadata prove it of what cannot be read.
func (u *Upkeep) SweepOrphans(ctx context.Context, o GCOptions) (OrphanReport, error) {
	var r OrphanReport
	give, err := u.ridding.take(ctx)
	if err != nil {
		return r, err
	}
	defer give()
	err = u.sweepOrphans(ctx, o, &r)
	return r, err
}

func (u *Upkeep) sweepOrphans(ctx context.Context, o GCOptions, r *OrphanReport) error {
	var errs []error
	for _, d := range u.o.Drives.All() {
		for prefix, after := 0, ""; prefix < len(orphanPrefixes); {
			last, err := u.orphanPage(ctx, d, orphanPrefixes[prefix], after, o, r)
			if err != nil {
				errs = append(errs, err)
				break // of this drive
			}
			if after = last; after == "" {
				prefix++
			}
			if r.page != nil {
				r.page()
			}
		}
		if err := ctxErr(ctx); err != nil {
			return err
		}
	}
	return errors.Join(append(errs, u.deleteUnreadable(ctx, r))...)
}

// UnreadableOrphans reports the replicas and shards without a record that do not say
// what is in them, and so stay until somebody asks for their deletion. It changes
// nothing. progress is told how many blobs were looked at.
func (u *Upkeep) UnreadableOrphans(ctx context.Context, progress func(blobs int), report func(Doubt)) error {
	give, err := u.ridding.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	r := OrphanReport{look: true}
	r.page = func() {
		for _, d := range r.Doubts {
			report(d)
		}
		r.Doubts = nil
		progress(r.Blobs)
	}
	return u.sweepOrphans(ctx, GCOptions{Now: true}, &r)
}

// deleteUnreadable deletes those orphans that do not say what is in them and to which
// nothing in all metadata refers.
func (u *Upkeep) deleteUnreadable(ctx context.Context, r *OrphanReport) error {
	if len(r.unreadable) == 0 {
		return nil
	}
	of := map[fsapi.SegmentID]bool{}
	for _, p := range r.unreadable {
		of[p.id] = true
	}
	refers, err := u.o.Meta.Referred(ctx, of)
	if err != nil {
		return err
	}
	for _, p := range r.unreadable {
		err := u.unrecorded(ctx, p.id)
		if what, ok := refers[p.id]; ok {
			err = fsapi.Errorf(fsapi.Corrupt, "it has no record and cannot be read, and %s: run fsck", what)
		}
		if err == nil {
			u.o.Log.Warn("deleting an orphan that cannot be read: nothing in the metadata refers to it", "name", p.blob.Name, "drive", p.drive())
			if err = u.deletePartOf(ctx, p, r); err == nil {
				r.Unreadable++
			}
		}
		if err := u.unless(ctx, p, err, r); err != nil {
			return err
		}
	}
	return nil
}

// unreadable takes orphans whose segment cannot be read, all parts of one: they are
// kept, or judged when all have been seen.
func (u *Upkeep) unreadable(ctx context.Context, parts []*part, err error, o GCOptions, r *OrphanReport) error {
	if o.Unreadable && fsapi.KindOf(err) != fsapi.NotSupported {
		r.unreadable = append(r.unreadable, parts...)
		return ctxErr(ctx)
	}
	return u.unless(ctx, parts[0], unreadable(err), r)
}

// orphanPrefixes start the names of what is looked at, in this order.
var orphanPrefixes = [...]string{blob.SegmentPrefix, blob.ShardPrefix}

// runOrphans is SweepOrphans as a job. Its cursor is a drive's id (8 bytes,
// big-endian), an index of orphanPrefixes and the last name looked at.
func (u *Upkeep) runOrphans(ctx context.Context, t *job.Task) error {
	var at fsapi.DriveID
	prefix, after := 0, ""
	if c := t.Cursor(); len(c) > 8 && int(c[8]) < len(orphanPrefixes) {
		at, prefix, after = fsapi.DriveID(binary.BigEndian.Uint64(c)), int(c[8]), string(c[9:])
	}
	var r OrphanReport
	var errs []error
	for _, d := range u.o.Drives.All() {
		id := d.Info().ID
		if id < at {
			continue
		}
		if id != at {
			prefix, after = 0, ""
		}
		for prefix < len(orphanPrefixes) {
			last, bytes, err := u.orphanTurn(ctx, d, orphanPrefixes[prefix], after, &r)
			if ctx.Err() == nil && err != nil {
				errs = append(errs, err)
				break // of this drive
			}
			t.Note(r.String())
			if after = last; after == "" {
				prefix++
			}
			c := append(binary.BigEndian.AppendUint64(nil, uint64(id)), byte(min(prefix, len(orphanPrefixes)-1)))
			if prefix < len(orphanPrefixes) {
				c = append(c, after...)
			} else {
				c = binary.BigEndian.AppendUint64(nil, uint64(id)+1)
				c = append(c, 0)
			}
			if err := t.Step(ctx, c, int64(r.Blobs), bytes); err != nil {
				return err
			}
			r.Blobs = 0
		}
	}
	return errors.Join(errs...)
}

func (u *Upkeep) orphanTurn(ctx context.Context, d drive.Drive, prefix, after string, r *OrphanReport) (last string, bytes int64, err error) {
	give, err := u.ridding.take(ctx)
	if err != nil {
		return "", 0, err
	}
	defer give()
	before := r.Bytes
	last, err = u.orphanPage(ctx, d, prefix, after, GCOptions{}, r)
	return last, r.Bytes - before, err
}

// orphanNames is how many names of a drive are listed at once.
const orphanNames = 1024

// orphanPage looks at the next blobs of a drive; last is the name to go on after,
// "" at the end.
func (u *Upkeep) orphanPage(ctx context.Context, d drive.Drive, prefix, after string, o GCOptions, r *OrphanReport) (last string, err error) {
	if !u.o.Drives.State(d.Info().ID).Readable() {
		return "", nil
	}
	var found []drive.Blob
	err = d.List(ctx, prefix, after, func(b drive.Blob) error {
		found = append(found, b)
		if len(found) == orphanNames {
			last = b.Name
			return io.EOF
		}
		return nil
	})
	for _, b := range found { // not while the drive is listing
		if err != nil {
			return "", err
		}
		r.Blobs++
		err = u.suspect(ctx, &part{d: d, blob: b}, o, r)
	}
	return last, err
}

// part is a replica or shard as it lies on a drive.
type part struct {
	d     drive.Drive
	blob  drive.Blob
	id    fsapi.SegmentID
	shard bool
	index int // of the shard
}

func (p *part) drive() fsapi.DriveID { return p.d.Info().ID }

// parse finds out what the blob is by its name.
func (p *part) parse() (err error) {
	if p.id, err = blob.ParseSegmentName(p.blob.Name); err == nil {
		return nil
	}
	shard, index, serr := blob.ParseShardName(p.blob.Name)
	if serr != nil {
		return err
	}
	p.id, p.index, p.shard = shard, index, true
	return nil
}

// recorded reports whether a segment's record says that this part lies here.
func (p *part) recorded(s *fsapi.Segment) bool {
	return s.Names(p.shard, p.index, p.drive())
}

// suspect looks at one blob and does with it what its record, or that there is
// none, calls for.
func (u *Upkeep) suspect(ctx context.Context, p *part, o GCOptions, r *OrphanReport) error {
	if err := p.parse(); err != nil {
		if r.look {
			return nil
		}
		u.doubt(&r.Doubts, Doubt{Name: p.blob.Name, Drive: p.drive(), Err: err})
		return nil
	}
	seg, err := u.o.Meta.Segment(ctx, p.id)
	switch {
	case err == nil && p.recorded(&seg), err == nil && !seg.Condemned.IsZero():
		return ctxErr(ctx)
	case err == nil && r.look:
		return ctxErr(ctx)
	case err == nil:
		return u.stray(ctx, p, o, r)
	case !errors.Is(err, fsapi.NotExist):
		return err
	case p.shard:
		return u.orphanShards(ctx, p, o, r)
	case !u.old(p.id, p.blob, o.Now):
		r.Waiting++
		return ctxErr(ctx)
	}
	return u.deleteOrphan(ctx, p, o, r)
}

// old reports whether a segment without a record cannot be on its way into the
// metadata any more. One made by this process is judged by the steady clock,
// which no jump of the wall clock moves; now helps only for those of processes
// before this one.
func (u *Upkeep) old(id fsapi.SegmentID, b drive.Blob, now bool) bool {
	t := u.o.Clock.Now()
	if made, ok := u.o.Store.Made(id); ok {
		return t.Sub(made) >= u.o.OrphanDelay
	}
	at := blob.SegmentTime(id)
	if now && at.Before(u.started) {
		return true
	}
	return t.Sub(at) >= u.o.OrphanDelay && t.Sub(b.Created) >= u.o.OrphanDelay
}

func ctxErr(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, "sweep orphans")
	}
	return nil
}

// deleteOrphan deletes a replica whose directory proves that nothing needs it.
func (u *Upkeep) deleteOrphan(ctx context.Context, p *part, o GCOptions, r *OrphanReport) error {
	sr, err := u.o.Store.OpenSegment(ctx, p.d, p.id)
	if err != nil {
		return u.unreadable(ctx, []*part{p}, err, o, r)
	}
	if r.look {
		return ctxErr(ctx)
	}
	err = u.proveOrphan(ctx, p.id, sr.Directory())
	if err == nil {
		err = u.deletePartOf(ctx, p, r)
	}
	return u.unless(ctx, p, err, r)
}

// unless makes a doubt of an error, but for that of ctx.
func (u *Upkeep) unless(ctx context.Context, p *part, err error, r *OrphanReport) error {
	if err == nil {
		return nil
	}
	if e := ctxErr(ctx); e != nil {
		return e
	}
	d := Doubt{Segment: p.id, Drive: p.drive(), Err: err}
	if r.look {
		r.Doubts = append(r.Doubts, d)
	} else {
		u.doubt(&r.Doubts, d)
	}
	return nil
}

// deletePartOf deletes a blob that was proven dead, even when ctx has ended: a
// call that nobody waits for might take place when the part is there again.
func (u *Upkeep) deletePartOf(ctx context.Context, p *part, r *OrphanReport) error {
	if err := notGone(p.d.Delete(context.WithoutCancel(ctx), p.blob.Name)); err != nil {
		return err
	}
	r.Deleted++
	r.Bytes += p.blob.Size
	u.count.orphans.Add(1)
	return nil
}

// proveOrphan returns nil if no chunk of a segment's directory lies in it and it
// has no record, durably so.
func (u *Upkeep) proveOrphan(ctx context.Context, id fsapi.SegmentID, dir []blob.DirEntry) error {
	for _, e := range dir {
		c, err := u.o.Meta.Chunk(ctx, e.Volume, e.Chunk)
		switch {
		case errors.Is(err, fsapi.NotExist):
		case err != nil:
			return err
		case c.Loc.Segment == id:
			return fsapi.Errorf(fsapi.Corrupt, "chunk %v lies in segment %v, which has no record: run fsck", e.Chunk, id)
		}
	}
	return u.unrecorded(ctx, id)
}

// unrecorded returns nil if a segment has no record, durably so.
func (u *Upkeep) unrecorded(ctx context.Context, id fsapi.SegmentID) error {
	_, err := u.o.Meta.Segment(ctx, id)
	if err == nil {
		return fsapi.Errorf(fsapi.Busy, "segment %v has been recorded meanwhile", id)
	}
	if !errors.Is(err, fsapi.NotExist) {
		return err
	}
	return u.o.Meta.Sync(ctx) // that there is no record must itself be durable
}
