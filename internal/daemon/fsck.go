package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/erasure"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/telemetry"
)

// checkRun is one check of everything, online or offline.
type checkRun struct {
	n    *Node
	req  api.Fsck
	emit func(api.FsckEvent) error

	mu       sync.Mutex // held during emit
	problems int64      // guarded by mu
	mended   int64      // guarded by mu
	err      error      // of emit: the reader is gone; guarded by mu
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
	for _, phase := range []func(context.Context) error{c.drives, c.metadata, c.segments, c.orphans, c.journal} {
		if err := phase(ctx); err != nil {
			return err
		}
		if err := c.gone(); err != nil {
			return err
		}
	}
	return emit(api.FsckEvent{End: true, Clean: c.problems == c.mended, Problems: c.problems - c.mended})
}

func (c *checkRun) say(e api.FsckEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sayLocked(e)
}

func (c *checkRun) sayLocked(e api.FsckEvent) {
	if c.err == nil {
		c.err = c.emit(e)
	}
}

// gone is why nobody reads the events any more.
func (c *checkRun) gone() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *checkRun) progress(phase string, done, total int64) {
	c.say(api.FsckEvent{Phase: phase, Done: done, Total: total})
}

func (c *checkRun) problem(mended bool, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problems++
	if mended {
		c.mended++
	}
	c.sayLocked(api.FsckEvent{Problem: fmt.Sprintf(format, args...), Mended: mended})
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

// How many segments are checked at one time. That a segment is there is known after
// a few requests, for which a bucket and a disk that turns need their time; one that
// is read whole keeps a drive busy by itself.
const (
	shallowChecks = 32
	deepChecks    = 4
)

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
	done := int64(0) // guarded by c.mu
	checks, ctx := errgroup.WithContext(ctx)
	checks.SetLimit(shallowChecks)
	if c.req.Deep {
		checks.SetLimit(deepChecks)
	}
	for _, id := range uses {
		checks.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			seg, err := c.n.meta.Segment(ctx, id)
			if errors.Is(err, fsapi.NotExist) { // deleted while we check online
				return nil
			}
			if err != nil {
				return err
			}
			if err := c.segment(ctx, &seg); err != nil {
				return err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			done += seg.Size
			c.sayLocked(api.FsckEvent{Phase: "segments", Done: done, Total: total, Unit: api.UnitBytes})
			return c.err
		})
	}
	return checks.Wait()
}

// segment checks each replica and shard. A bad one is mended where others are
// good. Those on drives that are not there are not reported one by one: the drive
// was.
func (c *checkRun) segment(ctx context.Context, seg *fsapi.Segment) error {
	readable := false
	for i := range seg.Copies {
		cp := &seg.Copies[i]
		good := 0
		for part, id := range cp.Drives {
			if _, err := c.n.drives.set.Drive(id); id == 0 || err != nil {
				continue
			}
			err := c.part(ctx, seg, cp, part)
			if err != nil && ctx.Err() != nil {
				return ctx.Err()
			}
			mended := false
			if err != nil {
				mended = c.mend(ctx, seg, id)
				c.problem(mended, "segment %v on drive %s: %v", seg.ID, c.n.drives.label(id), err)
			}
			if err == nil || mended {
				good++
			}
		}
		readable = readable || good >= max(1, cp.K)
	}
	if !readable && c.needed(ctx, seg.ID) {
		c.problem(false, "segment %v cannot be read whole from what is left of it: what is damaged is lost unless a drive comes back%s", seg.ID, c.damaged(ctx, seg))
	}
	return nil
}

// maxDamaged bounds the files that are named for one segment.
const maxDamaged = 100

// damaged names the files for which the frames were written that no copy has whole,
// where the segment's own directory can still be read, and where in them. With
// Deep only: these frames are looked for by reading each. Files that share the
// data are not named.
func (c *checkRun) damaged(ctx context.Context, seg *fsapi.Segment) string {
	if !c.req.Deep {
		return ""
	}
	v := c.n.volumes.byID(seg.Volume)
	r, err := c.n.blob.Open(ctx, seg)
	if err != nil || v == nil {
		return "; its own directory cannot be read"
	}
	var list []string
	for _, e := range r.Directory() {
		ext := fsapi.Extent{Kind: fsapi.ExtentData, Chunk: e.Chunk, ChunkLen: e.Len, Len: int64(e.Len), Loc: r.Location(e)}
		if c.n.blob.ReadExtent(ctx, seg.Volume, &ext, 0, make([]byte, e.Len)) == nil {
			continue
		}
		if len(list) == maxDamaged {
			list = append(list, "and more")
			break
		}
		list = append(list, fmt.Sprintf("%s (%d bytes at %d)", c.n.pathOf(ctx, v, e.Ino), e.Len, e.FileOff))
	}
	return ": " + strings.Join(list, ", ")
}

// needed reports whether a segment is still recorded: it may have been deleted
// while we check online.
func (c *checkRun) needed(ctx context.Context, id fsapi.SegmentID) bool {
	s, err := c.n.meta.Segment(ctx, id)
	return err == nil && s.Condemned.IsZero()
}

func (c *checkRun) mend(ctx context.Context, seg *fsapi.Segment, id fsapi.DriveID) bool {
	return c.req.Repair && c.n.blob.Repair(ctx, seg.ID, id) == nil
}

// part checks one replica or shard: that it is there, is what it should be and
// has its size; with Deep all its bytes.
func (c *checkRun) part(ctx context.Context, seg *fsapi.Segment, cp *fsapi.CopyPlace, n int) error {
	if c.req.Deep {
		return c.n.blob.VerifyPart(ctx, seg, cp, n)
	}
	d, err := c.n.drives.set.Drive(cp.Drives[n])
	if err != nil {
		return err
	}
	if !cp.Sharded() {
		r, err := c.n.blob.OpenSegment(ctx, d, seg.ID)
		if err == nil && r.Size() != seg.Size {
			err = fsapi.Errorf(fsapi.Corrupt, "it has %d bytes, its record says %d", r.Size(), seg.Size)
		}
		return err
	}
	b, err := d.Stat(ctx, blob.PartName(seg.ID, cp, n))
	if err != nil {
		return err
	}
	h, err := c.n.blob.IdentifyShard(ctx, d, b)
	if err != nil {
		return err
	}
	if l := erasure.For(cp.K, cp.M, seg.Size); h.Layout != l || b.Size != l.BlobSize(n) {
		return fsapi.Errorf(fsapi.Corrupt, "it is a shard of %d bytes of %d+%d of a segment of %d, its record says %d+%d of %d",
			b.Size, h.Layout.K, h.Layout.M, h.Layout.SegmentSize, cp.K, cp.M, seg.Size)
	}
	return nil
}

// orphans: what lies on drives without a record is nobody's loss, but what of it
// cannot be read stays, with the keys it may need.
func (c *checkRun) orphans(ctx context.Context) error {
	err := c.n.upkeep.UnreadableOrphans(ctx,
		func(blobs int) { c.progress("orphans", int64(blobs), 0) },
		func(d upkeep.Doubt) {
			c.problem(false, "segment %v on drive %s, which no record knows: %v", d.Segment, c.n.drives.label(d.Drive), d.Err)
		})
	if err != nil && ctx.Err() == nil {
		c.problem(false, "what no record knows was not looked for everywhere: %v", err)
		return nil
	}
	return err
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
	return c.gone()
}

// blobDrives lists the drives that are open.
func (n *Node) blobDrives() []drive.Drive { return n.drives.set.All() }
