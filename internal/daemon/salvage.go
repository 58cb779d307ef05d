package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
)

// salvage stores anew what can be read of a segment whose directory no copy has, by
// its frames' own headers. A chunk that is new goes to a file in lost+found, all of
// the segment one after another: whose they were is lost with the directory. The
// error says what came of it, as the segment remains damaged; nil: there are no
// copies to read.
func (a *adoption) salvage(ctx context.Context, id fsapi.SegmentID, parts *foundParts, copies []foundCopy) error {
	s := &salvaging{a: a, from: map[fsapi.ChunkID]fsapi.Location{}}
	defer s.abort()
	var errs []error
	take := func(r *blob.SegmentReader) error { return s.take(ctx, r) }
	for _, d := range parts.whole {
		errs = append(errs, a.n.blob.Salvage(ctx, d, id, take))
	}
	for i := range copies {
		if c := &copies[i]; c.Sharded() && c.Readable() {
			errs = append(errs, a.n.blob.SalvageShards(ctx, id, c.size, &c.CopyPlace, take))
		}
	}
	if s.batch == nil {
		return errors.Join(errs...)
	}
	name := "salvaged-" + id.String()
	if err := s.finish(ctx, name); err != nil {
		return errors.Join(append(errs, err)...)
	}
	where := ""
	if len(s.fresh) > 0 {
		where = fmt.Sprintf(", %d that nothing refers to in lost+found/%s", len(s.fresh), name)
	}
	return errors.Join(append(errs, fsapi.Errorf(fsapi.Corrupt, "%d chunks of it were found by their own headers and stored anew%s", len(s.from), where))...)
}

// salvaging gathers the chunks of one segment.
type salvaging struct {
	a     *adoption
	vol   fsapi.VolumeID
	batch *blob.Batch                      // nil: nothing was found yet
	from  map[fsapi.ChunkID]fsapi.Location // of what was found, where it is on record; zero: nowhere
	fresh []blob.DirEntry                  // what is on record nowhere
	end   int64                            // of the file that these make
}

// take adds what can be read of a copy and was not found before. The first error
// of a frame is the result.
func (s *salvaging) take(ctx context.Context, r *blob.SegmentReader) (first error) {
	s.vol = r.Header().Volume
	for _, e := range r.Directory() {
		if _, ok := s.from[e.Chunk]; ok {
			continue
		}
		from, lost, err := s.a.lost(ctx, s.vol, e.Chunk)
		if err != nil {
			return err
		}
		if !lost {
			continue
		}
		data, err := r.ReadFrame(ctx, e)
		if err == nil {
			err = s.add(ctx, e, from, data)
		}
		if first == nil {
			first = err
		}
	}
	return first
}

func (s *salvaging) add(ctx context.Context, e blob.DirEntry, from fsapi.Location, data []byte) error {
	if s.batch == nil {
		p, err := s.a.n.meta.VolumePolicy(ctx, s.vol)
		if err != nil {
			return err
		}
		s.batch = s.a.n.blob.NewBatch(ctx, s.vol, blob.ClassOf(p))
	}
	e.FileOff = s.end
	if err := s.batch.AddChunk(ctx, e.Chunk, 0, e.FileOff, data); err != nil {
		return err
	}
	s.from[e.Chunk] = from
	if from == (fsapi.Location{}) {
		s.fresh = append(s.fresh, e)
		s.end += int64(e.Len)
	}
	return nil
}

// finish makes what was gathered durable, and records where it is now.
func (s *salvaging) finish(ctx context.Context, name string) error {
	b := s.batch
	s.batch = nil
	st, err := b.Finish(ctx, blob.Segment)
	if err != nil {
		return err
	}
	to := map[fsapi.ChunkID]fsapi.Location{}
	var moves []fsapi.Moved
	for _, c := range st.Chunks {
		to[c.ID] = c.Loc
		if from := s.from[c.ID]; from != (fsapi.Location{}) {
			moves = append(moves, fsapi.Moved{Chunk: c.ID, From: from, To: c.Loc})
		}
	}
	if _, err := s.a.n.meta.Relocate(ctx, s.vol, st.Segments, moves); err != nil {
		return err
	}
	for i := range st.Segments {
		s.a.made[st.Segments[i].ID] = true
	}
	if len(s.fresh) == 0 {
		return nil
	}
	return s.a.found(ctx, s.vol, name, s.fresh, func(e blob.DirEntry) fsapi.Location { return to[e.Chunk] })
}

func (s *salvaging) abort() {
	if s.batch != nil {
		s.batch.Abort()
	}
}
