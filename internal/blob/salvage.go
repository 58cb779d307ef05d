package blob

import (
	"context"

	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/blob/segment"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// SalvageSegment lists the frames of a replica whose footer or directory is
// damaged, by their own headers: for rebuilding. fn gets each that can be
// found, without owner; its body is not verified yet. The search ends at the
// first byte that is no frame, which for a whole segment is the directory; end
// is where that is.
func SalvageSegment(ctx context.Context, d drive.Drive, id fsapi.SegmentID, fn func(DirEntry) error) (end int64, err error) {
	name := SegmentName(id)
	st, err := d.Stat(ctx, name)
	if err != nil {
		return 0, err
	}
	var b [frame.HeaderSize]byte
	end = segment.HeaderSize
	for end+frame.HeaderSize <= st.Size {
		if err := readFull(ctx, d, name, end, b[:]); err != nil {
			return end, err
		}
		h, err := frame.Parse(b[:])
		if err != nil || h.Segment != id || end+int64(h.Size()) > st.Size {
			return end, nil
		}
		e := DirEntry{Chunk: h.Chunk, Offset: uint32(end), Length: uint32(h.Size()), Len: h.Len, Volume: h.Volume}
		if err := fn(e); err != nil {
			return end, err
		}
		end += int64(h.Size())
	}
	return end, nil
}
