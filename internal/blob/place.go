package blob

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// place picks the drives of one copy of a new segment, none of them bad: more
// are asked for and the bad ones left out.
func (s *Store) place(ctx context.Context, c policy.Copy, size int64, bad map[fsapi.DriveID]bool) ([]drive.Drive, error) {
	var last error
	for n := c.Replicas + len(bad); n >= c.Replicas; n-- {
		ds, err := s.o.Drives.Place(ctx, c.Tier, n, size)
		if errors.Is(err, fsapi.NoSpace) {
			last = err
			continue
		}
		if err != nil {
			return nil, err
		}
		good := ds[:0:0]
		for _, d := range ds {
			if !bad[d.Info().ID] && len(good) < c.Replicas {
				good = append(good, d)
			}
		}
		if len(good) == c.Replicas {
			return good, nil
		}
	}
	if last == nil {
		last = fsapi.Errorf(fsapi.IO, "place a segment: fewer than %d drives of tier %s work", c.Replicas, c.Tier)
	}
	return nil, last
}
