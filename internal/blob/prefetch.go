package blob

import (
	"context"
	"errors"
	"io"

	"github.com/strakefs/strake/internal/blob/cache"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

const (
	// maxPrefetches bounds the stretches being prefetched at a time.
	maxPrefetches = 64
	// maxStretch is the most plaintext bytes of one stretch, unless a single chunk
	// has more: beyond it a bucket's requests cost no less, and several at a time
	// bring more than one does.
	maxStretch = 8 << 20
	// maxGap is the most bytes between two frames that are read and dropped, rather
	// than asking the drive twice: what a bucket sends in the time of a request.
	maxGap = 128 << 10
	// maxDropped is the part of a stretch, one of so many, that all of its gaps may
	// be: they take memory and time as what is wanted does.
	maxDropped = 8
)

// stretch is chunks whose frames lie close to each other in one segment, ascending:
// one read of the drive gets all of them. A request of a bucket costs both sides
// far more than the bytes of one chunk do.
type stretch struct {
	vol     fsapi.VolumeID
	parts   []stretchPart
	bytes   int64 // of plaintext
	dropped int64 // bytes of gaps
}

// stretchPart is one chunk of a stretch.
type stretchPart struct {
	ext *fsapi.Extent
	key cache.Key
	ld  *load // nil: somebody else fetches it, or it is done
}

// Prefetch starts loading the chunks of extents into the cache, in order, as
// many as Options.Prefetch bytes allow at a time; it does not block, and leaves
// out the rest. It returns how many of the extents it did not leave out. The
// extents must not be changed meanwhile.
func (s *Store) Prefetch(vol fsapi.VolumeID, exts []fsapi.Extent) int {
	for done := 0; ; {
		st, n := s.nextStretch(vol, exts[done:])
		if len(st.parts) > 0 && !s.start(st) {
			return done
		}
		if done += n; done == len(exts) {
			return done
		}
	}
}

// start starts loading a stretch, unless there is no room or the store is
// closed.
func (s *Store) start(st *stretch) bool {
	if !s.beginPrefetch(st.bytes) {
		return false
	}
	st.begin(&s.loads)
	started := s.background(func() {
		defer s.endPrefetch(st.bytes)
		s.loadStretch(st)
	})
	if !started {
		st.giveUp(&s.loads)
		s.endPrefetch(st.bytes)
	}
	return started
}

// nextStretch is the stretch that extents begin with, past what needs no
// loading, and how many of them that is.
func (s *Store) nextStretch(vol fsapi.VolumeID, exts []fsapi.Extent) (*stretch, int) {
	r := &stretch{vol: vol}
	most := min(maxStretch, s.o.Prefetch/2)
	for i := range exts {
		e := &exts[i]
		k := cache.Key{Volume: vol, Chunk: e.Chunk}
		if e.Kind != fsapi.ExtentData || s.cache.Has(k) || s.loads.has(k) {
			continue
		}
		if len(r.parts) > 0 && !r.takes(e, most) {
			return r, i
		}
		r.parts = append(r.parts, stretchPart{ext: e, key: k})
		r.bytes += int64(e.ChunkLen)
	}
	return r, len(exts)
}

// takes reports whether e belongs to a stretch of at most so many bytes: its frame
// lies behind the last one, close to it.
func (r *stretch) takes(e *fsapi.Extent, most int64) bool {
	last := &r.parts[len(r.parts)-1].ext.Loc
	gap := int64(e.Loc.Offset) - int64(last.Offset) - int64(last.Length)
	if e.Loc.Segment != last.Segment || last.Segment.IsJournal() || gap < 0 || gap > maxGap ||
		r.dropped+gap > most/maxDropped || r.bytes+int64(e.ChunkLen) > most {
		return false
	}
	r.dropped += gap
	return true
}

// span is where in the segment the stretch lies.
func (r *stretch) span() (off, n int64) {
	first, last := &r.parts[0].ext.Loc, &r.parts[len(r.parts)-1].ext.Loc
	off = int64(first.Offset)
	return off, int64(last.Offset) + int64(last.Length) - off
}

// begin makes the chunks' loads the stretch's, but those that others have begun.
func (r *stretch) begin(l *loads) {
	for i := range r.parts {
		if ld, mine := l.begin(r.parts[i].key); mine {
			r.parts[i].ld = ld
		}
	}
}

// giveUp ends loads that are not to be: who has joined them loads alone.
func (r *stretch) giveUp(l *loads) {
	for i := range r.parts {
		if p := &r.parts[i]; p.ld != nil {
			p.ld.err = closed("prefetch")
			l.end(p.key, p.ld)
		}
	}
}

// loadStretch loads the chunks of a stretch: at once, and one by one what cannot
// be had that way, for there are other copies.
func (s *Store) loadStretch(r *stretch) {
	var bad []BadReplica
	if len(r.parts) > 1 {
		bad = s.readStretch(s.ctx, r)
	}
	whole := true
	for i := range r.parts {
		p := &r.parts[i]
		if p.ld == nil {
			continue
		}
		if p.ld.err = s.loadAhead(s.ctx, p.key, p.ext); p.ld.err == nil {
			s.stats.prefetched.Add(1)
		} else { // a reader will meet the error himself
			whole = false
		}
		s.loads.end(p.key, p.ld)
	}
	if whole { // else what is bad was told when no copy would do
		s.report(bad, true)
	}
}

// readStretch reads a stretch from the nearest copy and decodes what it can of
// it, each chunk as it arrives. It returns what it met bad.
func (s *Store) readStretch(ctx context.Context, r *stretch) []BadReplica {
	id := r.parts[0].ext.Loc.Segment
	at, err := s.whereIs(ctx, id)
	if err != nil {
		return nil
	}
	all := s.sources(id, at, int(r.parts[0].key.Chunk[0]))
	if len(all) == 0 {
		return nil
	}
	src := all[0]
	off, n := r.span()
	in, err := s.openStream(ctx, src, off, n)
	if err == nil {
		err = s.decodeStretch(in, off, r, src)
		in.Close()
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		src.fail(err)
	}
	return src.faults()
}

// openStream is n bytes of a source from off, as they arrive or all at once.
func (s *Store) openStream(ctx context.Context, src source, off, n int64) (drive.Stream, error) {
	in, err := src.stream(ctx, off, n)
	if !errors.Is(err, fsapi.NotSupported) {
		return in, err
	}
	sealed := s.pool.Get(int(n))
	if err := src.readAt(ctx, off, sealed.B); err != nil {
		s.pool.Put(sealed)
		return nil, err
	}
	return drive.Held(sealed.B, func() { s.pool.Put(sealed) }), nil
}

// decodeStretch decodes what comes from a stream that starts at off of the
// segment. Frames that are bad are src's fault and end nothing.
func (s *Store) decodeStretch(in drive.Stream, off int64, r *stretch, src source) error {
	for i := range r.parts {
		p := &r.parts[i]
		if gap := int64(p.ext.Loc.Offset) - off; gap > 0 {
			if _, err := nextFull(in, int(gap)); err != nil {
				return err
			}
		}
		sealed, err := nextFull(in, int(p.ext.Loc.Length))
		if err != nil {
			return err
		}
		off = int64(p.ext.Loc.Offset) + int64(p.ext.Loc.Length)
		if p.ld == nil {
			continue
		}
		if bad := s.decodePart(r, p, sealed); bad != nil {
			src.fail(bad)
		}
	}
	return nil
}

// nextFull is the next n bytes of a stream; one that ends too early is
// fsapi.Corrupt.
func nextFull(in drive.Stream, n int) ([]byte, error) {
	p, err := in.Next(n)
	if len(p) == n {
		return p, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return nil, fsapi.Errorf(fsapi.Corrupt, "it ends after %d of the next %d bytes: cut short", len(p), n)
	}
	return nil, err
}

// decodePart brings a chunk into the cache, if its frame is right.
func (s *Store) decodePart(r *stretch, p *stretchPart, sealed []byte) error {
	buf := s.pool.Get(int(p.ext.ChunkLen))
	if err := s.decode(sealed, want{r.vol, p.ext.Loc.Segment, p.ext.Chunk, p.ext.ChunkLen}, buf.B); err != nil {
		s.pool.Put(buf)
		return err
	}
	s.o.Heat.Touch(p.ext.Loc.Segment)
	s.stats.prefetched.Add(1)
	s.cache.PutAhead(p.key, buf)
	s.loads.end(p.key, p.ld)
	p.ld = nil
	return nil
}

func (s *Store) beginPrefetch(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prefetch+n > s.o.Prefetch {
		return false
	}
	select {
	case s.prefetches <- struct{}{}:
		s.prefetch += n
		return true
	default:
		return false
	}
}

func (s *Store) endPrefetch(n int64) {
	s.mu.Lock()
	s.prefetch -= n
	s.mu.Unlock()
	<-s.prefetches
}
