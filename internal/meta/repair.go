package meta

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Bounds of Repair: problems it keeps in memory and mends in one transaction,
// and how often it checks again because mending one thing shows another.
const (
	repairKeep   = 1 << 16
	repairBatch  = 256
	repairRounds = 8
)

// Repair is Check that mends what it can, then checks again until nothing
// mendable is left. The caller keeps everybody else from changing the volume.
// report gets the problems of the first round, and those of the last that
// could not be mended. left is the number of the latter. The result is durable.
func (s *Store) Repair(ctx context.Context, vol fsapi.VolumeID, progress func(stage string, done int64), report func(Problem)) (left int, err error) {
	for round := 0; ; round++ {
		var mends []func(tx *Tx) error
		left = 0
		last := round == repairRounds
		err := s.Check(ctx, vol, progress, func(p Problem) {
			switch {
			case p.mend != nil && len(mends) < repairKeep && !last:
				mends = append(mends, p.mend)
			default:
				left++
			}
			if round == 0 || last {
				report(p)
			}
		})
		if err != nil {
			return left, err
		}
		if len(mends) == 0 {
			return left, s.Sync(ctx)
		}
		if err := s.mend(ctx, vol, mends); err != nil {
			return left, err
		}
	}
}

func (s *Store) mend(ctx context.Context, vol fsapi.VolumeID, mends []func(tx *Tx) error) error {
	for len(mends) > 0 {
		batch := mends[:min(len(mends), repairBatch)]
		mends = mends[len(batch):]
		_, err := s.Update(ctx, vol, kv.UpdateOptions{}, func(tx *Tx) error {
			for _, m := range batch {
				err := m(tx)
				if err != nil && fsapi.KindOf(err) != fsapi.Stale && fsapi.KindOf(err) != fsapi.Corrupt {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
