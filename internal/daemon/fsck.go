package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/telemetry"
)

// checkRun is one check of everything, online or offline.
type checkRun struct {
	n        *Node
	req      api.Fsck
	emit     func(api.FsckEvent) error
	problems int64
	mended   int64
	err      error // of emit: the reader is gone
}

// fsckFailed is the last line of a check that could not go on.
func fsckFailed(err error) api.FsckEvent { return api.FsckEvent{End: true, Error: err.Error()} }

// Fsck checks a data directory that no server has open.
func Fsck(ctx context.Context, cfg config.Config, req api.Fsck, emit func(api.FsckEvent) error) error {
	log, err := telemetry.NewLogger(os.Stderr, "error", cfg.Log.Format)
	if err != nil {
		return err
	}
	n, err := openNode(ctx, cfg, log, openExisting)
	if err != nil {
		return err
	}
	return errors.Join(n.fsck(ctx, req, emit), n.Close(ctx))
}

// fsck runs the phases and ends with a verdict.
func (n *Node) fsck(ctx context.Context, req api.Fsck, emit func(api.FsckEvent) error) error {
	c := &checkRun{n: n, req: req, emit: emit}
	for _, phase := range []func(context.Context) error{c.drives, c.metadata, c.segments, c.journal} {
		if err := phase(ctx); err != nil {
			return err
		}
		if c.err != nil {
			return c.err
		}
	}
	return emit(api.FsckEvent{End: true, Clean: c.problems == c.mended, Problems: c.problems - c.mended})
}

func (c *checkRun) progress(phase string, done, total int64) {
	if c.err == nil {
		c.err = c.emit(api.FsckEvent{Phase: phase, Done: done, Total: total})
	}
}

func (c *checkRun) problem(mended bool, format string, args ...any) {
	c.problems++
	if mended {
		c.mended++
	}
	if c.err == nil {
		c.err = c.emit(api.FsckEvent{Problem: fmt.Sprintf(format, args...), Mended: mended})
	}
}

// drives: each drive that is recorded must be there.
func (c *checkRun) drives(ctx context.Context) error {
	recs, err := c.n.meta.Drives(ctx)
	if err != nil {
		return err
	}
	for i, rec := range recs {
		c.progress("drives", int64(i), int64(len(recs)))
		if _, err := c.n.drives.set.Drive(rec.ID); err != nil {
			c.problem(false, "drive %s (%v) at %s cannot be opened: %v", rec.Name, rec.ID, rec.Where, c.n.drives.why(rec.ID))
		}
	}
	return nil
}

// metadata: every record of every volume against every other.
func (c *checkRun) metadata(ctx context.Context) error {
	recs, err := c.n.meta.Volumes(ctx)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		if rec.Deleting {
			continue
		}
		progress := func(stage string, done int64) { c.progress(rec.Name+": "+stage, done, 0) }
		found := 0
		report := func(p meta.Problem) {
			found++
			c.problem(c.req.Repair && p.Mendable, "volume %s: %s: %s", rec.Name, p.Kind, p.Text)
		}
		if !c.req.Repair {
			if err := c.n.meta.Check(ctx, rec.ID, progress, report); err != nil {
				return err
			}
			if err := c.snapshots(ctx, rec); err != nil {
				return err
			}
			continue
		}
		left, err := c.n.meta.Repair(ctx, rec.ID, progress, report)
		if err != nil {
			return err
		}
		if err := c.snapshots(ctx, rec); err != nil {
			return err
		}
		if left > 0 {
			c.problem(false, "volume %s: %d of %d problems could not be mended", rec.Name, left, found)
		}
	}
	return nil
}

// snapshots: with Deep, the tree of each snapshot, as it was.
func (c *checkRun) snapshots(ctx context.Context, rec meta.Volume) error {
	if !c.req.Deep {
		return nil
	}
	list, err := c.n.meta.Snapshots(ctx, rec.ID)
	if err != nil {
		return err
	}
	for _, s := range list {
		if s.Deleting {
			continue
		}
		err := c.n.meta.CheckSnapshot(ctx, rec.ID, s.ID,
			func(stage string, done int64) { c.progress(rec.Name+" at "+s.Name+": "+stage, done, 0) },
			func(p meta.Problem) {
				c.problem(false, "volume %s at snapshot %s: %s: %s", rec.Name, s.Name, p.Kind, p.Text)
			})
		if err != nil && !errors.Is(err, fsapi.NotExist) { // deleted while we check
			return err
		}
	}
	return nil
}

// segments: each recorded segment on each of its drives, with Deep every frame.
func (c *checkRun) segments(ctx context.Context) error {
	var total int64
	var uses []fsapi.SegmentID
	err := c.n.meta.Segments(ctx, fsapi.SegmentID{}, func(u meta.SegmentUse) bool {
		uses = append(uses, u.ID)
		total += u.Size
		return true
	})
	if err != nil {
		return err
	}
	var done int64
	for _, id := range uses {
		seg, err := c.n.meta.Segment(ctx, id)
		if errors.Is(err, fsapi.NotExist) { // deleted while we check online
			continue
		}
		if err != nil {
			return err
		}
		if err := c.segment(ctx, &seg); err != nil {
			return err
		}
		done += seg.Size
		c.progress("segments", done, total)
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

// segment checks each replica. A bad one next to a good one is mended.
func (c *checkRun) segment(ctx context.Context, seg *fsapi.Segment) error {
	var bad []fsapi.DriveID
	good := 0
	for _, cp := range seg.Copies {
		for _, id := range cp.Drives {
			err := c.replica(ctx, seg, id)
			switch {
			case err == nil:
				good++
			case ctx.Err() != nil:
				return ctx.Err()
			default:
				bad = append(bad, id)
				c.problem(c.mend(ctx, seg, id), "segment %v on drive %s: %v", seg.ID, c.n.drives.label(id), err)
			}
		}
	}
	if good == 0 && len(bad) > 0 {
		c.problem(false, "segment %v has no good replica left: what is in it is lost unless a drive comes back", seg.ID)
	}
	return nil
}

func (c *checkRun) mend(ctx context.Context, seg *fsapi.Segment, id fsapi.DriveID) bool {
	return c.req.Repair && c.n.blob.Repair(ctx, seg.ID, id) == nil
}

func (c *checkRun) replica(ctx context.Context, seg *fsapi.Segment, id fsapi.DriveID) error {
	d, err := c.n.drives.set.Drive(id)
	if err != nil {
		return err
	}
	r, err := c.n.blob.OpenSegment(ctx, d, seg.ID)
	if err != nil {
		return err
	}
	if r.Size() != seg.Size {
		return fsapi.Errorf(fsapi.Corrupt, "it has %d bytes, its record says %d", r.Size(), seg.Size)
	}
	return r.Verify(ctx, c.req.Deep, nil)
}

// journal: each frame that still lies in the log must open.
func (c *checkRun) journal(ctx context.Context) error {
	for _, v := range c.n.volumes.all() {
		frames, err := c.n.meta.JournalFrames(ctx, v.id, 1<<30, 1<<50)
		if err != nil {
			return err
		}
		for i := range frames {
			f := &frames[i]
			rec, err := c.n.meta.Chunk(ctx, v.id, f.Chunk)
			if errors.Is(err, fsapi.NotExist) || (err == nil && rec.Loc != f.Loc) {
				continue // packed or released while we check
			}
			if err != nil {
				return err
			}
			ext := fsapi.Extent{Kind: fsapi.ExtentData, Chunk: f.Chunk, ChunkLen: rec.Len, Len: int64(rec.Len), Loc: rec.Loc}
			if err := c.n.blob.ReadExtent(ctx, v.id, &ext, 0, make([]byte, rec.Len)); err != nil {
				c.problem(false, "journal frame of chunk %v: %v", f.Chunk, err)
			}
			c.progress("journal", int64(i), int64(len(frames)))
		}
	}
	return c.err
}

// blobDrives lists the drives that are open.
func (n *Node) blobDrives() []drive.Drive { return n.drives.set.All() }

// eachSegmentOn calls fn for every segment file on a drive, recorded or not.
func eachSegmentOn(ctx context.Context, d drive.Drive, fn func(fsapi.SegmentID, int64) error) error {
	return d.List(ctx, "seg/", "", func(b drive.Blob) error {
		id, err := fsapi.ParseSegmentID(b.Name[max(0, len(b.Name)-2*len(fsapi.SegmentID{})):])
		if err != nil || blob.SegmentName(id) != b.Name {
			return nil // not a segment's name
		}
		return fn(id, b.Size)
	})
}
