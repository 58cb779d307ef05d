package blob

import (
	"context"

	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/fsapi"
)

// ReadChunk is a chunk's plaintext, which the caller owns, past the cache: for
// those who rewrite it. Errors as ReadExtent's.
func (s *Store) ReadChunk(ctx context.Context, vol fsapi.VolumeID, c fsapi.Chunk) ([]byte, error) {
	if c.Len == 0 || c.Len > MaxChunk {
		return nil, fsapi.Errorf(fsapi.Corrupt, "chunk %v of volume %d: its record says %d bytes", c.ID, vol, c.Len)
	}
	out := make([]byte, c.Len)
	ext := fsapi.Extent{Kind: fsapi.ExtentData, Chunk: c.ID, ChunkLen: c.Len, Len: int64(c.Len), Loc: c.Loc}
	if err := s.fetch(ctx, vol, &ext, out); err != nil {
		return nil, err
	}
	return out, nil
}

// OpenFrame is the plaintext of a whole frame, journalled or inline, which the
// caller owns; sealed stays as it is. seg is where it is said to lie; zero where
// that is not known (inline frames). The error is fsapi.Corrupt.
func (s *Store) OpenFrame(vol fsapi.VolumeID, id fsapi.ChunkID, seg fsapi.SegmentID, sealed []byte) ([]byte, error) {
	h, err := frame.Parse(sealed)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.Corrupt, err, "frame of chunk "+id.String())
	}
	if seg.IsZero() {
		seg = h.Segment
	}
	buf := s.pool.Get(len(sealed)) // opened in place
	defer s.pool.Put(buf)
	copy(buf.B, sealed)
	out := make([]byte, h.Len)
	if err := s.decode(buf.B, want{vol, seg, id, h.Len}, out); err != nil {
		return nil, fsapi.Wrap(fsapi.KindOf(err), err, "frame of chunk "+id.String()+" in segment "+seg.String())
	}
	return out, nil
}

// ChunkID is the id of a chunk's plaintext.
func (s *Store) ChunkID(vol fsapi.VolumeID, data []byte) (fsapi.ChunkID, error) {
	h, err := s.hasher(vol)
	if err != nil {
		return fsapi.ChunkID{}, err
	}
	return h.sum(data), nil
}
