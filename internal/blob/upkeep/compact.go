package upkeep

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// maxCandidates bounds the segments compacted in one run.
const maxCandidates = 1024

// CompactReport is what Compact did.
type CompactReport struct {
	Segments int   // whose live frames were moved
	Chunks   int   // moved
	Bytes    int64 // plaintext of these
	Waiting  int   // segments left for later, since what moved would be less safe now
	Why      error // of one of them
	Doubts   []Doubt
}

func (r *CompactReport) wait(n int, why error) {
	r.Waiting += n
	r.Why = why
}

// Compact moves the live frames out of segments that are mostly dead, or small
// and many, so that nothing lives in them and Collect can delete them. wake: of
// drives that spin down too.
func (u *Upkeep) Compact(ctx context.Context, wake bool) (CompactReport, error) {
	var r CompactReport
	give, err := u.compacting.take(ctx)
	if err != nil {
		return r, err
	}
	defer give()
	cands, _, err := u.sparse(ctx, fsapi.SegmentID{}, newest(), maxCandidates, wake, &r)
	if err == nil {
		err = u.compactAll(ctx, cands, &r)
	}
	return r, err
}

func (u *Upkeep) compactAll(ctx context.Context, cands []meta.SegmentUse, r *CompactReport) error {
	for len(cands) > 0 {
		n := sameHome(cands)
		if err := u.compactGroup(ctx, cands[:n], r); err != nil {
			return err
		}
		cands = cands[n:]
	}
	return nil
}

// compactStep is how many segments a job compacts before it says where it is.
const compactStep = 64

// newest is after every segment.
func newest() (id fsapi.SegmentID) {
	for i := range id {
		id[i] = 0xff
	}
	return id
}

// runCompact is Compact as a job: of all there are when it starts. What it makes
// itself it leaves alone, or it could go on for ever: data that compresses well enough
// is in small segments again.
func (u *Upkeep) runCompact(ctx context.Context, t *job.Task) error {
	_, after := cursorSegment(t.Cursor(), 0)
	var until fsapi.SegmentID
	if err := u.o.Meta.Segments(ctx, after, func(s meta.SegmentUse) bool {
		until = s.ID
		return true
	}); err != nil {
		return err
	}
	var all CompactReport
	for {
		var r CompactReport
		last, err := u.compactSome(ctx, after, until, &r)
		if err != nil {
			return err
		}
		all.Segments += r.Segments
		if r.Waiting > 0 {
			all.wait(r.Waiting, r.Why)
		}
		all.Doubts = append(all.Doubts, r.Doubts[:min(len(r.Doubts), 1)]...)
		if err := t.Step(ctx, slices.Clone(last[:]), int64(r.Segments), r.Bytes); err != nil {
			return err
		}
		if last == after {
			break
		}
		after = last
	}
	u.compacted(all.Segments > 0 && all.Waiting == 0)
	switch {
	case len(all.Doubts) > 0:
		t.Note("kept because of a doubt: " + all.Doubts[0].String())
	case all.Waiting > 0:
		t.Note(fmt.Sprintf("%d segments are left for later: %v", all.Waiting, all.Why))
	}
	return nil
}

// compactSome compacts the next segments after one, up to another, and says which it
// looked at last: the same where there are no more.
func (u *Upkeep) compactSome(ctx context.Context, after, until fsapi.SegmentID, r *CompactReport) (fsapi.SegmentID, error) {
	give, err := u.compacting.take(ctx)
	if err != nil {
		return after, err
	}
	defer give()
	cands, last, err := u.sparse(ctx, after, until, compactStep, false, r)
	if err != nil {
		return after, err
	}
	return last, u.compactAll(ctx, cands, r)
}

// Small segments are those with less payload than a full one has by this
// factor; that many of one home are made into one, so that each byte is
// rewritten for this reason once or twice in its life.
const mergeFactor = 16

// sparse lists up to about limit segments after one, up to another, to compact,
// those of one volume and with the same copies next to each other: those mostly dead,
// and small ones where there are many. last is the one it looked at last. Those that
// must wait are left out, and counted in r; wake: not for drives that sleep.
func (u *Upkeep) sparse(ctx context.Context, after, until fsapi.SegmentID, limit int, wake bool, r *CompactReport) (cands []meta.SegmentUse, last fsapi.SegmentID, err error) {
	var small []meta.SegmentUse
	last = after
	take := func(s meta.SegmentUse) {
		if err := u.movable(&s.Segment, wake); err != nil {
			r.wait(1, err)
		} else {
			cands = append(cands, s)
		}
	}
	tiny := u.o.Store.Options().SegmentBytes / mergeFactor
	err = u.o.Meta.Segments(ctx, after, func(s meta.SegmentUse) bool {
		if bytes.Compare(s.ID[:], until[:]) > 0 {
			return false
		}
		last = s.ID
		switch {
		case s.Live > 0 && float64(s.Live) < u.o.LiveRatio*float64(s.Payload):
			take(s)
		case s.Live > 0 && s.Payload < tiny:
			small = append(small, s)
		}
		return len(cands) < limit && len(small) < maxCandidates
	})
	byHome(small)
	for len(small) > 0 {
		n := sameHome(small)
		if n >= mergeFactor {
			for _, s := range small[:n] {
				take(s)
			}
		}
		small = small[n:]
	}
	byHome(cands)
	return cands, last, err
}

// byHome puts segments of one home next to each other: those of a volume that
// should have the same copies.
func byHome(list []meta.SegmentUse) {
	slices.SortStableFunc(list, func(a, b meta.SegmentUse) int {
		if c := cmp.Compare(a.Volume, b.Volume); c != 0 {
			return c
		}
		return cmp.Compare(wanted(a), wanted(b))
	})
}

// wanted is a comparable form of the copies a segment should have.
func wanted(s meta.SegmentUse) string { return policy.Copies(s.Want).String() }

func sameHome(cands []meta.SegmentUse) int {
	n := 1
	for n < len(cands) && cands[n].Volume == cands[0].Volume && wanted(cands[n]) == wanted(cands[0]) {
		n++
	}
	return n
}

// compactGroup rewrites segments that may share new ones. New copies are like
// the old: a directory's policy may differ from its volume's.
func (u *Upkeep) compactGroup(ctx context.Context, group []meta.SegmentUse, r *CompactReport) error {
	class, err := u.classOf(ctx, group[0].Volume)
	if err != nil {
		return err
	}
	class.Copies = group[0].Want
	w := u.rewriter(group[0].Volume, class)
	defer w.abort()
	emptied := 0
	for _, s := range group {
		err = u.empty(ctx, w, s, r)
		if errors.Is(err, fsapi.Corrupt) || errors.Is(err, fsapi.NotExist) {
			err = u.doubtful(ctx, s.ID, err, r)
		} else if err == nil {
			emptied++
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = w.flush(ctx)
	}
	r.Chunks += w.moved
	if isPostponed(err) {
		u.o.Log.Warn("segments are compacted later", "segments", len(group), "err", err)
		r.wait(len(group), err)
		return nil
	}
	if err == nil {
		r.Segments += emptied
		u.count.compacted.Add(uint64(emptied))
	}
	return err
}

// doubtful notes that a segment cannot be read, unless it was deleted meanwhile.
func (u *Upkeep) doubtful(ctx context.Context, id fsapi.SegmentID, why error, r *CompactReport) error {
	if errors.Is(why, fsapi.NotExist) {
		if _, err := u.o.Meta.Segment(ctx, id); errors.Is(err, fsapi.NotExist) || ctx.Err() != nil {
			return ctx.Err()
		}
	}
	u.doubt(&r.Doubts, Doubt{Segment: id, Err: why})
	return nil
}

// empty hands the live frames of a segment to the rewriter.
func (u *Upkeep) empty(ctx context.Context, w *rewriter, s meta.SegmentUse, r *CompactReport) error {
	dir, err := u.directory(ctx, s.Segment)
	if err != nil {
		return err
	}
	for _, e := range dir {
		c, err := u.o.Meta.Chunk(ctx, s.Volume, e.Chunk)
		if errors.Is(err, fsapi.NotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if c.Loc != (fsapi.Location{Segment: s.ID, Offset: e.Offset, Length: e.Length}) {
			continue
		}
		data, err := u.o.Store.ReadChunk(ctx, s.Volume, c)
		if err == nil {
			err = w.add(ctx, e.Chunk, c.Loc, e.Ino, e.FileOff, data)
		}
		if err == nil {
			err = u.pace.wait(ctx, int64(e.Length))
		}
		if err != nil {
			return err
		}
		r.Bytes += int64(len(data))
	}
	return nil
}

// directory is what a segment says it holds, from the first copy that opens and
// agrees with the record.
func (u *Upkeep) directory(ctx context.Context, s fsapi.Segment) ([]blob.DirEntry, error) {
	r, err := u.o.Store.Open(ctx, &s)
	if err != nil {
		return nil, err
	}
	return r.Directory(), nil
}
