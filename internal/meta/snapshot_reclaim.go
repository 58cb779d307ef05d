package meta

import (
	"bytes"
	"context"
	"errors"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// reclaimBytes bounds what one transaction of ReclaimSnapshots moves.
const reclaimBytes = 4 << 20

// ReclaimSnapshots releases what is kept for snapshots that are being deleted:
// up to max history entries of the oldest; more says whether any are left. The
// cost is that of the snapshot's own history. It may be broken off at any time,
// and two at once conflict.
func (s *Store) ReclaimSnapshots(ctx context.Context, vol fsapi.VolumeID, max int) (more bool, err error) {
	var gone fsapi.SnapshotID
	_, err = s.Update(ctx, vol, kv.UpdateOptions{}, func(tx *Tx) (err error) {
		more, gone = false, 0
		i := oldestDeleting(tx.volume.snaps)
		if i < 0 {
			return nil
		}
		more = true
		n, err := tx.unkeep(i, max)
		if err == nil && n == 0 {
			gone = tx.volume.snaps[i].id
		}
		return err
	})
	if err != nil || gone == 0 {
		return more, err
	}
	return s.endSnapshot(ctx, vol, gone)
}

func oldestDeleting(snaps []snapRef) int {
	for i := range snaps {
		if snaps[i].deleting {
			return i
		}
	}
	return -1
}

// unkeep takes up to max entries out of the history of the snapshot at i: those
// that the one before it needs too become its own, the others go. It returns
// how many. There is none being deleted before it.
func (tx *Tx) unkeep(i, max int) (int, error) {
	from := snapKey(nil, tabHistory, tx.vol, tx.volume.snaps[i].id)
	var entries []pair
	size := 0
	err := tx.r.Scan(from, after(nil, from), func(k, v []byte) (bool, error) {
		if len(k) < snapKeyLen+1 {
			return false, corrupt(k, "bad key")
		}
		entries = append(entries, pair{bytes.Clone(k), bytes.Clone(v)})
		size += len(k) + len(v)
		return len(entries) < max && size < reclaimBytes, nil
	})
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if err := tx.unkeepOne(i, e); err != nil {
			return 0, err
		}
	}
	return len(entries), nil
}

func (tx *Tx) unkeepOne(i int, e pair) error {
	id, key := tx.volume.snaps[i].id, presentKey(e.k)
	held, err := historyExtent(e.k, key, e.v)
	if err != nil {
		return err
	}
	tx.w.Delete(e.k)
	if held != nil {
		tx.w.Add(snapKey(nil, tabHeld, tx.vol, id), -held.Len)
	}
	if i > 0 && len(key) >= inoKeyLen && keyIno(key) < tx.volume.snaps[i-1].limit {
		before := tx.volume.snaps[i-1].id
		k := historyKey(nil, before, key)
		_, has, err := tx.r.Get(k)
		if err != nil {
			return err
		}
		if !has {
			tx.w.Put(k, e.v)
			if held != nil {
				tx.w.Add(snapKey(nil, tabHeld, tx.vol, before), held.Len)
			}
			return nil
		}
	}
	if held != nil {
		tx.refer(held, -1)
	}
	return nil
}

// historyExtent is the extent that a history entry keeps, or nil.
func historyExtent(hk, key, v []byte) (*fsapi.Extent, error) {
	old, there, err := decodeHistory(hk, v)
	if err != nil || !there || key[0] != tabExtent {
		return nil, err
	}
	e, err := decodeExtent(key, old)
	return &e, err
}

var errNotEmpty = errors.New("the history of the snapshot is not empty")

// endSnapshot forgets a snapshot whose history is empty.
func (s *Store) endSnapshot(ctx context.Context, vol fsapi.VolumeID, id fsapi.SnapshotID) (more bool, err error) {
	err = s.changeVolume(ctx, vol, func(w kv.Tx, rec *volumeRecord) error {
		from := snapKey(nil, tabHistory, vol, id)
		err := w.Scan(from, after(nil, from), func(_, _ []byte) (bool, error) { return false, errNotEmpty })
		if err != nil {
			return err
		}
		var left []snapRef
		for _, ref := range rec.snaps {
			if ref.id != id {
				left = append(left, ref)
			}
		}
		rec.snaps = left
		w.Delete(snapKey(nil, tabSnapshot, vol, id))
		w.Delete(snapKey(nil, tabHeld, vol, id))
		more = oldestDeleting(left) >= 0
		return nil
	})
	if errors.Is(err, errNotEmpty) {
		return true, nil
	}
	return more, err
}

// holder is the newest snapshot that sees an inode by a name, as a place in the
// volume's list; -1: none does, so nothing of the inode needs to be kept.
func (tx *Tx) holder(ino fsapi.Ino) (int, error) {
	snaps := tx.volume.snaps
	for i := len(snaps) - 1; i >= 0; i-- {
		if snaps[i].deleting {
			continue
		}
		if ino >= snaps[i].limit {
			return -1, nil
		}
		old, err := tx.At(snaps[i].id)
		if err != nil {
			return 0, err
		}
		p, err := old.inodeValue(ino)
		if err != nil {
			if fsapi.KindOf(err) == fsapi.Stale {
				continue
			}
			return 0, err
		}
		if p.in == nil || p.in.Nlink > 0 {
			return i, nil
		}
	}
	return -1, nil
}
