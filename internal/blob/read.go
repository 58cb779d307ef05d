package blob

import (
	"context"

	"github.com/strakefs/strake/internal/blob/cache"
	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/fsapi"
)

// directMin is the length in bytes from which a read of a whole chunk is
// decoded straight into the reader's buffer, past the cache: one who reads so
// much at a time has a cache of his own or will not come back.
const directMin = 64 << 10

// cacheSample is how many reads from the cache count as one of the segment: what
// is read from memory needs no fast drive now, but should find one when the
// cache has given it up.
const cacheSample = 64

// ReadExtent fills p with the extent's bytes from off, relative to the extent;
// [off, off+len(p)) lies within [0, ext.Len). Data and inline extents only.
// Every byte was verified (D8). A replica that is bad is left for another, and
// repaired in the background. Where the frame is no longer at ext.Loc, the
// chunk's record says where it is.
//
// fsapi.Closed after Close. fsapi.NotExist: there is no such chunk any more, so the extent has been
// replaced since the caller read it. fsapi.Corrupt names chunk, segment and
// drive; fsapi.IO and fsapi.TimedOut come from drives.
func (s *Store) ReadExtent(ctx context.Context, vol fsapi.VolumeID, ext *fsapi.Extent, off int64, p []byte) error {
	if off < 0 || int64(len(p)) > ext.Len-off || int64(ext.ChunkOff)+ext.Len > int64(ext.ChunkLen) {
		return fsapi.Errorf(fsapi.Invalid, "read %d bytes at %d of an extent of %d (chunk %v of %d)", len(p), off, ext.Len, ext.Chunk, ext.ChunkLen)
	}
	if len(p) == 0 {
		return nil
	}
	if s.ctx.Err() != nil {
		return closed("read chunk " + ext.Chunk.String())
	}
	err := s.read(ctx, vol, ext, int(ext.ChunkOff)+int(off), p)
	if err == nil {
		s.stats.bytesServed.Add(uint64(len(p)))
	}
	return err
}

func (s *Store) read(ctx context.Context, vol fsapi.VolumeID, ext *fsapi.Extent, at int, p []byte) error {
	switch ext.Kind {
	case fsapi.ExtentInline:
		return s.readInline(vol, ext, at, p)
	case fsapi.ExtentData:
	default:
		return fsapi.Errorf(fsapi.Invalid, "an extent of kind %d has no bytes", ext.Kind)
	}
	k := cache.Key{Volume: vol, Chunk: ext.Chunk}
	if c := s.cache.Get(k); c != nil {
		defer c.Release()
		if s.stats.cacheHits.Add(1)%cacheSample == 0 {
			s.o.Heat.Touch(ext.Loc.Segment)
		}
		return give(c, ext, at, p)
	}
	s.stats.cacheMisses.Add(1)
	if len(p) == int(ext.ChunkLen) && len(p) >= directMin && !s.loads.has(k) {
		return s.fetch(ctx, vol, ext, p)
	}
	c, err := s.load(ctx, k, ext)
	if err != nil {
		return err
	}
	defer c.Release()
	return give(c, ext, at, p)
}

// give copies from a decoded chunk.
func give(c *cache.Chunk, ext *fsapi.Extent, at int, p []byte) error {
	if len(c.Bytes()) != int(ext.ChunkLen) {
		return fsapi.Errorf(fsapi.Corrupt, "chunk %v has %d bytes, its extent says %d", ext.Chunk, len(c.Bytes()), ext.ChunkLen)
	}
	copy(p, c.Bytes()[at:])
	return nil
}

func (s *Store) readInline(vol fsapi.VolumeID, ext *fsapi.Extent, at int, p []byte) error {
	h, err := frame.Parse(ext.Inline)
	if err == nil {
		sealed := s.pool.Get(len(ext.Inline)) // opened in place; the extent's bytes stay as they are
		defer s.pool.Put(sealed)
		copy(sealed.B, ext.Inline)
		plain := s.pool.Get(int(ext.ChunkLen))
		defer s.pool.Put(plain)
		err = s.decode(sealed.B, want{vol, h.Segment, ext.Chunk, ext.ChunkLen}, plain.B)
		if err == nil {
			copy(p, plain.B[at:])
			return nil
		}
	}
	return fsapi.Wrap(fsapi.Corrupt, err, "inline frame of chunk "+ext.Chunk.String())
}

// want is what a frame must be.
type want struct {
	volume  fsapi.VolumeID
	segment fsapi.SegmentID
	chunk   fsapi.ChunkID
	length  uint32 // plaintext bytes
}

// decode verifies a frame and fills out, of the chunk's length, with the
// plaintext. The frame's bytes are spent.
func (s *Store) decode(sealed []byte, w want, out []byte) error {
	h, err := parseFrame(sealed, w)
	if err != nil {
		return err
	}
	k, err := s.keys.get(keyName{h.Segment, h.Volume, h.Key, h.Cipher})
	if err != nil { // not NotExist: the frame is there
		return fsapi.Wrap(fsapi.IO, err, "find the key of the frame")
	}
	if err := openFrame(s.codecs, k, sealed, &h, out); err != nil {
		return err
	}
	s.stats.framesRead.Add(1)
	s.stats.bytesRead.Add(uint64(len(sealed)))
	return nil
}

// parseFrame reads a frame's header and compares it with what is wanted.
func parseFrame(sealed []byte, w want) (frame.Header, error) {
	h, err := frame.Parse(sealed)
	switch {
	case err != nil:
		return h, err
	case h.Volume != w.volume || h.Segment != w.segment || h.Chunk != w.chunk || h.Len != w.length:
		return h, fsapi.Errorf(fsapi.Corrupt, "another frame lies there: chunk %v of %d bytes in segment %v of volume %d", h.Chunk, h.Len, h.Segment, h.Volume)
	case h.Size() != len(sealed):
		return h, fsapi.Errorf(fsapi.Corrupt, "the frame has %d bytes, want %d", h.Size(), len(sealed))
	}
	return h, nil
}

// openFrame opens and decompresses into out, of h.Len bytes.
func openFrame(c *frame.Codecs, k *frame.Key, sealed []byte, h *frame.Header, out []byte) error {
	if h.Codec == frame.CodecNone {
		_, err := k.Open(out, sealed, h)
		return err
	}
	body, err := k.Open(nil, sealed, h)
	if err != nil {
		return err
	}
	return c.Decompress(out, body, h.Codec)
}
