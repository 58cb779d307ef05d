package upkeep

import (
	"bytes"
	"cmp"
	"context"
	"errors"
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
	Doubts   []Doubt
}

// Compact moves the live frames out of segments that are mostly dead, or small
// and many, so that nothing lives in them and Collect can delete them.
func (u *Upkeep) Compact(ctx context.Context) (CompactReport, error) {
	var r CompactReport
	give, err := u.ridding.take(ctx)
	if err != nil {
		return r, err
	}
	defer give()
	err = u.compact(ctx, &r)
	return r, err
}

func (u *Upkeep) compact(ctx context.Context, r *CompactReport) error {
	cands, _, err := u.sparse(ctx, fsapi.SegmentID{}, newest(), maxCandidates)
	if err != nil {
		return err
	}
	return u.compactAll(ctx, cands, r)
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
		all.Doubts = append(all.Doubts, r.Doubts[:min(len(r.Doubts), 1)]...)
		if err := t.Step(ctx, slices.Clone(last[:]), int64(r.Segments), r.Bytes); err != nil {
			return err
		}
		if last == after {
			break
		}
		after = last
	}
	u.compacted(all.Segments > 0)
	if len(all.Doubts) > 0 {
		t.Note("kept because of a doubt: " + all.Doubts[0].String())
	}
	return nil
}

// compactSome compacts the next segments after one, up to another, and says which it
// looked at last: the same where there are no more.
func (u *Upkeep) compactSome(ctx context.Context, after, until fsapi.SegmentID, r *CompactReport) (fsapi.SegmentID, error) {
	give, err := u.ridding.take(ctx)
	if err != nil {
		return after, err
	}
	defer give()
	cands, last, err := u.sparse(ctx, after, until, compactStep)
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
// and small ones where there are many. last is the one it looked at last.
func (u *Upkeep) sparse(ctx context.Context, after, until fsapi.SegmentID, limit int) (cands []meta.SegmentUse, last fsapi.SegmentID, err error) {
	var small []meta.SegmentUse
	last = after
	tiny := u.o.Store.Options().SegmentBytes / mergeFactor
	err = u.o.Meta.Segments(ctx, after, func(s meta.SegmentUse) bool {
		if bytes.Compare(s.ID[:], until[:]) > 0 {
			return false
		}
		last = s.ID
		switch {
		case s.Live > 0 && float64(s.Live) < u.o.LiveRatio*float64(s.Payload):
			cands = append(cands, s)
		case s.Live > 0 && s.Payload < tiny:
			small = append(small, s)
		}
		return len(cands) < limit && len(small) < maxCandidates
	})
	byHome(small)
	for len(small) > 0 {
		n := sameHome(small)
		if n >= mergeFactor {
			cands = append(cands, small[:n]...)
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
	for _, s := range group {
		err := u.empty(ctx, w, s, r)
		if errors.Is(err, fsapi.Corrupt) || errors.Is(err, fsapi.NotExist) {
			u.doubt(&r.Doubts, Doubt{Segment: s.ID, Err: err})
			continue
		}
		if err != nil {
			return err
		}
		r.Segments++
		u.count.compacted.Add(1)
	}
	err = w.flush(ctx)
	r.Chunks += w.moved
	return err
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
