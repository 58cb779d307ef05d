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

	unreadable []fsapi.Segment // dead, and to be looked for in all metadata
}

// Collect deletes segments in which nothing lives, in two steps (D4): a segment
// is condemned when nothing is counted live in it; when the delay is over its
// own directory must prove that no chunk's record points to it. Then its
// record goes, that is made durable, and only then its replicas go. Any doubt
// keeps it. o.Now leaves out the delay. o.Unreadable has all metadata prove it of
// those whose directory no copy has, while the drives of all copies can be read.
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
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return u.dropUnreadable(ctx, r)
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
	if age := u.o.Clock.Now().Sub(s.Condemned); !o.Now && age < u.o.Delay {
		r.Waiting++
		return nil
	}
	if !o.Now && !u.mayDelete(&s.Segment) {
		r.Waiting++
		return nil
	}
	return u.execute(ctx, s.Segment, o, r)
}

func notGone(err error) error {
	if errors.Is(err, fsapi.NotExist) {
		return nil
	}
	return err
}

// execute proves that a condemned segment is dead, and deletes it.
func (u *Upkeep) execute(ctx context.Context, s fsapi.Segment, o GCOptions, r *CollectReport) error {
	dir, err := u.directory(ctx, s)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil && o.Unreadable && fsapi.KindOf(err) != fsapi.NotSupported && len(u.gone(&s)) == 0:
		r.unreadable = append(r.unreadable, s)
		return nil
	case err != nil:
		u.doubt(&r.Doubts, Doubt{Segment: s.ID, Err: unreadable(err)})
		return nil
	}
	ids := make([]fsapi.ChunkID, len(dir))
	for i, e := range dir {
		ids[i] = e.Chunk
	}
	return u.bury(ctx, s, ids, r)
}

// unreadable adds to why something cannot be proven dead what can be done about it.
func unreadable(err error) error {
	if !errors.Is(err, fsapi.Corrupt) {
		return err
	}
	return fsapi.Errorf(fsapi.KindOf(err), "%w ('strake gc --unreadable' deletes it, if nothing in all metadata refers to it)", err)
}

// dropUnreadable deletes the condemned segments to which nothing in all metadata
// refers.
func (u *Upkeep) dropUnreadable(ctx context.Context, r *CollectReport) error {
	if len(r.unreadable) == 0 {
		return nil
	}
	of := map[fsapi.SegmentID]bool{}
	for _, s := range r.unreadable {
		of[s.ID] = true
	}
	refers, err := u.o.Meta.Referred(ctx, of)
	if err != nil {
		return err
	}
	for _, s := range r.unreadable {
		if what, ok := refers[s.ID]; ok {
			u.doubt(&r.Doubts, Doubt{Segment: s.ID, Err: fsapi.Errorf(fsapi.Corrupt, "it cannot be read, and %s, though nothing is counted live in it: run fsck", what)})
			continue
		}
		u.o.Log.Warn("deleting a dead segment that cannot be read: nothing in the metadata refers to it", "segment", s.ID)
		if err := u.bury(ctx, s, nil, r); err != nil {
			return err
		}
	}
	return nil
}

// bury deletes a condemned segment unless one of the chunks lies in it. Once its
// record has gone it is done even when ctx has ended: what lies there would be an
// orphan else.
func (u *Upkeep) bury(ctx context.Context, s fsapi.Segment, chunks []fsapi.ChunkID, r *CollectReport) error {
	err := u.o.Meta.DropSegment(ctx, s.ID, chunks)
	switch {
	case errors.Is(err, fsapi.Busy):
		u.doubt(&r.Doubts, Doubt{Segment: s.ID, Err: err})
		return notGone(u.o.Meta.Absolve(ctx, s.ID))
	case err != nil:
		return err
	}
	ctx, end := outlive(ctx)
	defer end()
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
