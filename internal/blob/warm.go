package blob

import (
	"context"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// Warm brings a segment into the cache of the drives from which it would be
// read, and says how many bytes that fetched: 0 where they have no cache.
func (s *Store) Warm(ctx context.Context, seg *fsapi.Segment) (int64, error) {
	at := whereOf(seg)
	for i := range at.copies {
		c := &at.copies[i]
		if !c.Readable() {
			continue
		}
		if !c.Sharded() {
			return s.warmParts(ctx, seg, c, 1)
		}
		return s.warmParts(ctx, seg, c, c.K)
	}
	return 0, nil
}

// warmParts warms the first n replicas or shards whose drives are there.
func (s *Store) warmParts(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace, n int) (fetched int64, err error) {
	for i, id := range c.Drives {
		d, derr := s.o.Drives.Drive(id)
		if id == 0 || derr != nil || n == 0 || !s.o.Drives.State(id).Readable() {
			continue
		}
		n--
		w, ok := d.(drive.Warmer)
		if !ok {
			continue
		}
		got, werr := w.Warm(ctx, PartName(seg.ID, c, i))
		fetched += got
		if werr != nil {
			return fetched, werr
		}
	}
	return fetched, nil
}
