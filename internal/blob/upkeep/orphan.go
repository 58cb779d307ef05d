package upkeep

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// OrphanReport is what SweepOrphans did.
type OrphanReport struct {
	Blobs   int // looked at
	Deleted int
	Bytes   int64 // of the deleted
	Waiting int   // without a record, but too young
	Doubts  []Doubt
}

// SweepOrphans deletes segments that no record knows: those left by a crash
// between writing and recording, and replicas whose deletion failed. A segment
// under way in this process is left alone; so is one younger than OrphanDelay,
// which o.Now lifts for those written before this process started. Its
// directory must open and show no chunk whose record points there. What cannot
// be read or is no segment is reported and kept.
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
		var orphans []drive.Blob
		err := d.List(ctx, blob.SegmentPrefix, "", func(b drive.Blob) error {
			r.Blobs++
			orphan, err := u.suspicious(ctx, d, b, o, r)
			if orphan {
				orphans = append(orphans, b)
			}
			return err
		})
		for _, b := range orphans { // not while the drive is listing
			if err == nil {
				err = u.deleteOrphan(ctx, d, b, r)
			}
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// suspicious reports whether a blob has no record and is old enough.
func (u *Upkeep) suspicious(ctx context.Context, d drive.Drive, b drive.Blob, o GCOptions, r *OrphanReport) (bool, error) {
	id, err := blob.ParseSegmentName(b.Name)
	if err != nil {
		u.doubt(&r.Doubts, Doubt{Name: b.Name, Drive: d.Info().ID, Err: err})
		return false, nil
	}
	_, err = u.o.Meta.Segment(ctx, id)
	if err == nil || !errors.Is(err, fsapi.NotExist) {
		return false, err
	}
	if !u.old(id, b, o.Now) {
		r.Waiting++
		return false, ctxErr(ctx)
	}
	return true, nil
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

// deleteOrphan deletes a blob whose directory proves that nothing needs it.
func (u *Upkeep) deleteOrphan(ctx context.Context, d drive.Drive, b drive.Blob, r *OrphanReport) error {
	id, err := blob.ParseSegmentName(b.Name)
	if err != nil {
		return err
	}
	err = u.proveOrphan(ctx, d, id)
	if err == nil {
		err = d.Delete(ctx, b.Name)
	}
	if err != nil {
		if e := ctxErr(ctx); e != nil {
			return e
		}
		u.doubt(&r.Doubts, Doubt{Segment: id, Drive: d.Info().ID, Err: err})
		return nil
	}
	r.Deleted++
	r.Bytes += b.Size
	u.count.orphans.Add(1)
	return nil
}

func (u *Upkeep) proveOrphan(ctx context.Context, d drive.Drive, id fsapi.SegmentID) error {
	sr, err := u.o.Store.OpenSegment(ctx, d, id)
	if err != nil {
		return err
	}
	for _, e := range sr.Directory() {
		c, err := u.o.Meta.Chunk(ctx, e.Volume, e.Chunk)
		switch {
		case errors.Is(err, fsapi.NotExist):
		case err != nil:
			return err
		case c.Loc.Segment == id:
			return fsapi.Errorf(fsapi.Corrupt, "chunk %v lies in segment %v, which has no record: run fsck", e.Chunk, id)
		}
	}
	_, err = u.o.Meta.Segment(ctx, id)
	if err == nil {
		return fsapi.Errorf(fsapi.Busy, "segment %v has been recorded meanwhile", id)
	}
	if !errors.Is(err, fsapi.NotExist) {
		return err
	}
	return u.o.Meta.Sync(ctx) // that there is no record must itself be durable
}

// eachBlob calls fn for the segments on a drive by name. What has no segment's
// name is the orphan sweep's to report.
func eachBlob(ctx context.Context, d drive.Drive, fn func(id fsapi.SegmentID) error) error {
	var ids []fsapi.SegmentID
	err := d.List(ctx, blob.SegmentPrefix, "", func(b drive.Blob) error {
		if id, err := blob.ParseSegmentName(b.Name); err == nil {
			ids = append(ids, id)
		}
		return nil
	})
	for _, id := range ids { // not while the drive is listing
		if err != nil {
			return err
		}
		err = fn(id)
	}
	return err
}
