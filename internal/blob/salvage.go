package blob

import (
	"context"

	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/blob/segment"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// Salvage opens a replica whose header, footer or directory is damaged by its
// frames' own headers: for rebuilding. Directory is what was found, without owners;
// of Header only ID and Volume are known, and Record and Size say nothing. The
// search ends at the first byte that is no frame of the segment, which for a whole
// one is the directory. A frame is verified when it is read. fsapi.Corrupt where
// none was found; else errors as OpenSegment.
func (s *Store) Salvage(ctx context.Context, d drive.Drive, id fsapi.SegmentID) (*SegmentReader, error) {
	r := &SegmentReader{src: &replicaSource{id: id, on: d.Info().ID, d: d}, keys: s.o.Keys, codecs: s.codecs}
	r.head.ID = id
	if err := r.salvage(ctx); err != nil {
		return nil, r.wrap(err)
	}
	return r, nil
}

func (r *SegmentReader) salvage(ctx context.Context) error {
	size, err := r.src.size(ctx)
	if err != nil {
		return err
	}
	var b [frame.HeaderSize]byte
	for at := int64(segment.HeaderSize); at+frame.HeaderSize <= size && at < segment.MaxSize; {
		if err := r.src.readAt(ctx, at, b[:]); err != nil {
			return err
		}
		h, err := frame.Parse(b[:])
		if err != nil || h.Segment != r.head.ID || at+int64(h.Size()) > size || len(r.dir) > 0 && h.Volume != r.head.Volume {
			break
		}
		r.head.Volume = h.Volume
		r.dir = append(r.dir, DirEntry{Chunk: h.Chunk, Offset: uint32(at), Length: uint32(h.Size()), Len: h.Len, Volume: h.Volume}) //nolint:gosec // at is less than segment.MaxSize
		at += int64(h.Size())
	}
	if len(r.dir) == 0 {
		return fsapi.Errorf(fsapi.Corrupt, "no frame of it can be found")
	}
	return nil
}
