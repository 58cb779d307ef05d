package blob

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/blob/segment"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/erasure"
	"github.com/strakefs/strake/internal/fsapi"
)

// Salvage calls fn with a replica whose header, footer or directory is damaged,
// opened by its frames' own headers: for rebuilding. Directory is what was found,
// without owners; of Header only ID and Volume are known, and Record and Size say
// nothing. Frames are looked for everywhere, also behind bytes that cannot be read
// or are none. A frame is verified when it is read. The reader ends with fn, whose
// error is the result: the segment is in memory until then. fsapi.Corrupt where no
// frame was found; else errors as OpenSegment.
func (s *Store) Salvage(ctx context.Context, d drive.Drive, id fsapi.SegmentID, fn func(*SegmentReader) error) error {
	return s.salvage(ctx, &replicaSource{id: id, on: d.Info().ID, d: d}, id, sectorSize, fn)
}

// SalvageShards is Salvage for a segment of size bytes in shards: a byte that no
// shard has whole is computed from others, block by block. There may be shards in c
// that are damaged all over, or of something else.
func (s *Store) SalvageShards(ctx context.Context, id fsapi.SegmentID, size int64, c *fsapi.CopyPlace, fn func(*SegmentReader) error) error {
	return s.salvage(ctx, s.shardSource(id, size, c), id, int64(erasure.For(c.K, c.M, size).BlockSize), fn)
}

// sectorSize is in what units of bytes a disk is damaged, at least.
const sectorSize = 4096

// salvage is Salvage from a source of which grain bytes, a power of two, can be read
// or not.
func (s *Store) salvage(ctx context.Context, src source, id fsapi.SegmentID, grain int64, fn func(*SegmentReader) error) error {
	r := &SegmentReader{src: src, keys: s.o.Keys, codecs: s.codecs}
	r.head.ID = id
	size, err := src.size(ctx)
	if err == nil && size > segment.MaxSize {
		err = fsapi.Errorf(fsapi.Corrupt, "%d bytes are no segment", size)
	}
	if err != nil {
		return r.wrap(err)
	}
	img, err := s.newImage(ctx)
	if err != nil {
		return err
	}
	defer img.free()
	holes, err := img.fillAround(ctx, src, size, grain)
	if err != nil {
		return r.wrap(err)
	}
	r.src = &salvaged{imageSource{img, id}, src}
	if err := r.search(ctx, size); err != nil {
		return r.wrap(errors.Join(err, holes))
	}
	return fn(r)
}

// salvaged is a segment in memory, as what was read of a source.
type salvaged struct {
	imageSource
	from source
}

func (m *salvaged) String() string { return m.from.String() }

// search looks for frames in all of the segment.
func (r *SegmentReader) search(ctx context.Context, size int64) error {
	var buf [4096]byte
	for at := int64(segment.HeaderSize); size-at >= frame.HeaderSize && len(r.dir) < segment.MaxFrames; {
		b := buf[:min(int64(len(buf)), size-at)]
		if err := r.src.readAt(ctx, at, b); err != nil {
			return err
		}
		i := int64(frame.Find(b))
		if i == 0 {
			i = r.found(at, size, b)
		}
		at += i
	}
	if len(r.dir) == 0 {
		return fsapi.Errorf(fsapi.Corrupt, "no frame of it can be found")
	}
	return nil
}

// found takes the frame at an offset into the directory, if there is one of the
// segment that ends within it, and says after how many bytes to go on.
func (r *SegmentReader) found(at, size int64, b []byte) int64 {
	h, err := frame.Parse(b)
	if err != nil || h.Segment != r.head.ID || at+int64(h.Size()) > size || len(r.dir) > 0 && h.Volume != r.head.Volume {
		return 1
	}
	r.head.Volume = h.Volume
	r.dir = append(r.dir, DirEntry{Chunk: h.Chunk, Offset: uint32(at), Length: uint32(h.Size()), Len: h.Len, Volume: h.Volume}) //nolint:gosec // at is less than segment.MaxSize
	return int64(h.Size())
}

// maxRefusals bounds the reads that fail for another reason than that something is
// damaged or missing, as of a drive that answers no more.
const maxRefusals = 256

// fillAround is fill, with zeros where nothing can be read in units of grain bytes:
// holes is why. An error: nothing could be read, or ctx has ended, or the source
// does not answer.
func (m *image) fillAround(ctx context.Context, src source, size, grain int64) (holes, err error) {
	h := &holed{src: src, grain: grain}
	err = m.fill(size, func(off int64, p []byte) error { return h.read(ctx, off, p) })
	if first := h.first.Load(); first != nil {
		holes = *first
	}
	if err == nil && h.got.Load() == 0 && holes != nil {
		err = holes
	}
	return holes, err
}

// holed reads around what cannot be read. Safe for concurrent use.
type holed struct {
	src      source
	grain    int64
	got      atomic.Int64          // bytes
	refusals atomic.Int64          // reads that failed though what is there may be good
	first    atomic.Pointer[error] // why something could not be read
}

func (h *holed) read(ctx context.Context, off int64, p []byte) error {
	err := h.src.readAt(ctx, off, p)
	if err == nil {
		h.got.Add(int64(len(p)))
		return nil
	}
	h.first.CompareAndSwap(nil, &err)
	for len(p) > 0 {
		n := min(h.grain-off%h.grain, int64(len(p)))
		err := h.src.readAt(ctx, off, p[:n])
		if cerr := ctx.Err(); cerr != nil {
			return fsapi.Wrap(fsapi.KindOf(cerr), cerr, "salvage a segment")
		}
		switch {
		case err == nil:
			h.got.Add(n)
		case !errors.Is(err, fsapi.Corrupt) && !errors.Is(err, fsapi.NotExist) && h.refusals.Add(1) > maxRefusals:
			return err
		default:
			clear(p[:n])
		}
		off, p = off+n, p[n:]
	}
	return nil
}
