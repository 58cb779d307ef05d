package upkeep

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// CollectReport is what Collect did.
type CollectReport struct {
	Condemned int
	Deleted   int   // segments
	Bytes     int64 // of their replicas
	Waiting   int   // condemned, their delay not over or a drive of theirs asleep
	Doubts    []Doubt
}

// Collect deletes segments in which nothing lives, in two steps (D4): a segment
// is condemned when nothing is counted live in it; when the delay is over its
// own directory must prove that no chunk's record points to it. Then its
// record goes, that is made durable, and only then its replicas go. Any doubt
// keeps it. o.Now leaves out the delay.
func (u *Upkeep) Collect(ctx context.Context, o GCOptions) (CollectReport, error) {
	var r CollectReport
	give, err := u.ridding.take(ctx)
	if err != nil {
		return r, err
	}
	defer give()
	err = u.collect(ctx, o, &r)
	return r, err
}

func (u *Upkeep) collect(ctx context.Context, o GCOptions, r *CollectReport) error {
	var after fsapi.SegmentID
	for {
		page, err := u.suspects(ctx, &after)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, s := range page {
			if err := u.judge(ctx, s, o, r); err != nil {
				return err
			}
		}
	}
}

// suspects are the next segments that are condemned or have nothing live.
func (u *Upkeep) suspects(ctx context.Context, after *fsapi.SegmentID) ([]meta.SegmentUse, error) {
	var page []meta.SegmentUse
	err := u.o.Meta.Segments(ctx, *after, func(s meta.SegmentUse) bool {
		*after = s.ID
		if s.Live <= 0 || !s.Condemned.IsZero() {
			page = append(page, s)
		}
		return len(page) < maxCandidates
	})
	return page, err
}

// judge takes one suspect a step further.
func (u *Upkeep) judge(ctx context.Context, s meta.SegmentUse, o GCOptions, r *CollectReport) error {
	switch {
	case s.Live < 0:
		u.doubt(&r.Doubts, Doubt{Segment: s.ID, Err: fsapi.Errorf(fsapi.Corrupt, "%d bytes are counted live: run fsck", s.Live)})
		return nil
	case s.Live > 0:
		return notGone(u.o.Meta.Absolve(ctx, s.ID))
	case s.Condemned.IsZero():
		err := u.o.Meta.Condemn(ctx, s.ID)
		if errors.Is(err, fsapi.Busy) || errors.Is(err, fsapi.NotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		r.Condemned++
		u.count.condemned.Add(1)
		if !o.Now {
			return nil
		}
	}
	if age := u.o.Clock.Now().Sub(s.Condemned); !o.Now && (age < u.o.Delay || age < 0) {
		r.Waiting++
		return nil
	}
	if !o.Now && !u.mayDelete(&s.Segment) {
		r.Waiting++
		return nil
	}
	return u.execute(ctx, s.Segment, r)
}

func notGone(err error) error {
	if errors.Is(err, fsapi.NotExist) {
		return nil
	}
	return err
}

// execute proves that a condemned segment is dead, and deletes it.
func (u *Upkeep) execute(ctx context.Context, s fsapi.Segment, r *CollectReport) error {
	dir, err := u.directory(ctx, s)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		u.doubt(&r.Doubts, Doubt{Segment: s.ID, Err: err})
		return nil
	}
	ids := make([]fsapi.ChunkID, len(dir))
	for i, e := range dir {
		ids[i] = e.Chunk
	}
	err = u.o.Meta.DropSegment(ctx, s.ID, ids)
	switch {
	case errors.Is(err, fsapi.Busy):
		u.doubt(&r.Doubts, Doubt{Segment: s.ID, Err: err})
		return notGone(u.o.Meta.Absolve(ctx, s.ID))
	case err != nil:
		return err
	}
	if err := u.o.Meta.Sync(ctx); err != nil {
		return err
	}
	r.Deleted++
	u.count.deleted.Add(1)
	u.o.Store.Forget(s.ID)
	for i := range s.Copies {
		for n, id := range s.Copies[i].Drives {
			if id != 0 {
				u.deletePart(ctx, s, &s.Copies[i], n, r)
			}
		}
	}
	return nil
}

// deletePart deletes one replica or shard. One that cannot be deleted is an
// orphan from now on.
func (u *Upkeep) deletePart(ctx context.Context, s fsapi.Segment, c *fsapi.CopyPlace, n int, r *CollectReport) {
	if err := u.o.Store.RemovePart(ctx, s.ID, c, n); err != nil {
		u.o.Log.Info("a dead replica is left to the orphan sweep", "segment", s.ID, "drive", c.Drives[n], "err", err)
		return
	}
	size := blob.PartSize(s.Size, c, n)
	r.Bytes += size
	u.count.bytesFreed.Add(uint64(size))
}
