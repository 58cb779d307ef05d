package blob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// maxMoves is how often a chunk may move while it is being read.
const maxMoves = 8

// fetch fills out with a chunk's plaintext from where its extent's hint says,
// and from where its record says if that fails: the segment may have gone
// since (D4's delay covers only those who are reading already).
func (s *Store) fetch(ctx context.Context, vol fsapi.VolumeID, ext *fsapi.Extent, out []byte) error {
	loc := ext.Loc
	var first error
	for range maxMoves {
		err := s.fetchAt(ctx, vol, ext, loc, out)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if first == nil || errors.Is(first, fsapi.NotExist) {
			first = err
		}
		c, e := s.o.Index.Chunk(ctx, vol, ext.Chunk)
		switch {
		case e != nil && errors.Is(e, fsapi.NotExist) && !errors.Is(first, fsapi.NotExist):
			return first
		case e != nil:
			return fsapi.Wrap(fsapi.KindOf(e), e, "find chunk "+ext.Chunk.String())
		case c.Loc == loc && errors.Is(first, fsapi.NotExist):
			return fsapi.Errorf(fsapi.Corrupt, "chunk %v: its record says segment %v, which is not there: run fsck: %w", ext.Chunk, loc.Segment, first)
		case c.Loc == loc:
			return first
		}
		loc = c.Loc
	}
	return first
}

// fetchAt reads a frame at one place.
func (s *Store) fetchAt(ctx context.Context, vol fsapi.VolumeID, ext *fsapi.Extent, loc fsapi.Location, out []byte) error {
	w := want{vol, loc.Segment, ext.Chunk, ext.ChunkLen}
	if loc.Segment.IsJournal() {
		data, err := s.o.Index.JournalFrame(ctx, vol, loc)
		if err != nil {
			return err
		}
		if err = s.decode(data, w, out); err != nil {
			return fsapi.Wrap(fsapi.KindOf(err), err, fmt.Sprintf("chunk %v in journal frame %v/%d", ext.Chunk, loc.Segment, loc.Offset))
		}
		return nil
	}
	err := s.fetchCopies(ctx, loc, w, out)
	if err != nil && ctx.Err() == nil {
		s.places.drop(loc.Segment) // the copies may have moved since they were remembered
		err = s.fetchCopies(ctx, loc, w, out)
	}
	return err
}

// fetchCopies tries the copies of a segment in turn, and reports what was bad.
func (s *Store) fetchCopies(ctx context.Context, loc fsapi.Location, w want, out []byte) error {
	at, err := s.whereIs(ctx, loc.Segment)
	if err != nil {
		return err
	}
	var first error
	var bad []BadReplica
	for _, src := range s.sources(loc.Segment, at, int(w.chunk[0])) {
		err := s.fetchFrom(ctx, src, loc, w, out)
		if ctx.Err() != nil {
			return err
		}
		bad = append(bad, src.faults()...)
		if err == nil {
			s.o.Heat.Touch(loc.Segment)
			s.report(bad, true)
			return nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		return fsapi.Errorf(fsapi.Corrupt, "chunk %v: segment %v has no copies on record: run fsck", w.chunk, loc.Segment)
	}
	s.report(bad, false)
	return first
}

// fetchFrom reads a frame from one source. The error names chunk, segment and
// drive.
func (s *Store) fetchFrom(ctx context.Context, src source, loc fsapi.Location, w want, out []byte) error {
	sealed := s.pool.Get(int(loc.Length))
	defer s.pool.Put(sealed)
	err := src.readAt(ctx, int64(loc.Offset), sealed.B)
	if err == nil {
		if err = s.decode(sealed.B, w, out); err == nil {
			return nil
		}
		src.fail(err)
	}
	return fsapi.Wrap(fsapi.KindOf(err), err, fmt.Sprintf("chunk %v in %v", w.chunk, src))
}

// readFull fills p; a blob that ends too early is fsapi.Corrupt.
func readFull(ctx context.Context, d drive.Drive, name string, off int64, p []byte) error {
	n, err := d.ReadAt(ctx, name, off, p)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fsapi.Errorf(fsapi.Corrupt, "%s ends after %d of %d bytes at %d: cut short", name, n, len(p), off)
	}
	return err
}

// maxPlaces bounds the segments whose copies are remembered.
const maxPlaces = 8192

// where is what is remembered of a segment. It is not changed.
type where struct {
	size   int64
	want   []fsapi.CopySpec
	copies []fsapi.CopyPlace // the nearest first
}

// places remembers where segments are. Safe for concurrent use.
type places struct {
	mu sync.Mutex
	m  map[fsapi.SegmentID]*where // guarded by mu
}

// drop forgets a segment.
func (p *places) drop(id fsapi.SegmentID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.m, id)
}

// Forget makes the next read ask the index where a segment's copies are: call
// it when they have changed.
func (s *Store) Forget(id fsapi.SegmentID) { s.places.drop(id) }

// whereIs says where the copies of a segment are.
func (s *Store) whereIs(ctx context.Context, id fsapi.SegmentID) (*where, error) {
	p := &s.places
	p.mu.Lock()
	at := p.m[id]
	p.mu.Unlock()
	if at != nil {
		return at, nil
	}
	seg, err := s.o.Index.Segment(ctx, id)
	if err != nil {
		return nil, err
	}
	at = whereOf(&seg)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.m) >= maxPlaces {
		for old := range p.m {
			delete(p.m, old)
			break
		}
	}
	p.m[id] = at
	return at, nil
}

func whereOf(seg *fsapi.Segment) *where {
	at := &where{size: seg.Size, want: seg.Want, copies: fsapi.CloneCopies(seg.Copies)}
	slices.SortStableFunc(at.copies, func(a, b fsapi.CopyPlace) int {
		if c := cmp.Compare(fsapi.TierRank(a.Tier), fsapi.TierRank(b.Tier)); c != 0 {
			return c
		}
		return cmp.Compare(a.K, b.K)
	})
	return at
}
