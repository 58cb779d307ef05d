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
// report gets the problems found at first; where some are left, these follow
// (the first 1000 of them) and left is their number. The result is durable.
func (s *Store) Repair(ctx context.Context, vol fsapi.VolumeID, progress func(stage string, done int64), report func(Problem)) (left int, err error) {
	for round := 0; ; round++ {
		var mends []func(tx *Tx) error
		var remain []Problem
		left = 0
		err := s.Check(ctx, vol, progress, func(p Problem) {
			if p.mend != nil && len(mends) < repairKeep && round < repairRounds {
				mends = append(mends, p.mend)
			} else if left++; left <= 1000 {
				remain = append(remain, p)
			}
			if round == 0 {
				report(p)
			}
		})
		if err != nil {
			return left, err
		}
		if len(mends) == 0 {
			if round > 0 {
				for _, p := range remain {
					report(p)
				}
			}
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

// refound gives an inode that is lost, though what it held is there, a new
// record: "lost-N" in the root, for root's eyes only. The root itself comes
// back as the root.
func refound(ino fsapi.Ino, t fsapi.FileType, size, used int64) func(tx *Tx) error {
	return func(tx *Tx) error {
		if _, err := tx.inodeValue(ino); err == nil || fsapi.KindOf(err) != fsapi.Stale {
			return err
		}
		if ino == fsapi.RootIno {
			tx.store(newRoot(tx.Now()))
			return nil
		}
		in, err := tx.newInode(NewInode{Type: t, Mode: 0o700, Ino: ino})
		if err != nil {
			return err
		}
		in.Size, in.Used = size, used
		root, err := tx.Inode(fsapi.RootIno)
		if err != nil {
			return err
		}
		name := "lost-" + utoa(uint64(ino))
		if err := tx.free(root.Ino, name); err != nil {
			return err
		}
		cookie, err := tx.number()
		if err != nil {
			return err
		}
		tx.embed(in, root.Ino, name, cookie)
		if t == fsapi.TypeDirectory {
			tx.putSubdir(root, in)
		}
		tx.touchDir(root)
		return nil
	}
}
