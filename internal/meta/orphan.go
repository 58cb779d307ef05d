package meta

import "github.com/strakefs/strake/internal/fsapi"

// Orphans lists up to limit orphans after `after`, by number (at start all are
// dropped: no handle survives a restart).
func (tx *Tx) Orphans(after fsapi.Ino, limit int) ([]fsapi.Ino, error) {
	var list []fsapi.Ino
	err := tx.inos(tabOrphan, after, limit, func(ino fsapi.Ino) { list = append(list, ino) })
	return list, err
}

// inos calls fn for up to limit inode numbers after `after` of a table that is
// keyed by them alone, without taking part in conflict detection.
func (tx *Tx) inos(tab byte, afterIno fsapi.Ino, limit int, fn func(fsapi.Ino)) error {
	if limit <= 0 {
		return nil
	}
	from := inoKey(nil, tab, tx.vol, afterIno+1)
	to := after(nil, volKey(nil, tab, tx.vol))
	n := 0
	return tx.peekScan(from, to, func(k, _ []byte) (bool, error) {
		if len(k) != inoKeyLen {
			return false, corrupt(k, "bad key")
		}
		fn(keyIno(k))
		n++
		return n < limit, nil
	})
}

// DropOrphan hands an orphan to Reclaim: fsapi.Stale where it is none.
func (tx *Tx) DropOrphan(ino fsapi.Ino) error {
	if err := tx.writable(); err != nil {
		return err
	}
	in, err := tx.Inode(ino)
	if err != nil {
		return err
	}
	if in.Flags&Orphan == 0 {
		return fsapi.Errorf(fsapi.Stale, "inode %d is no orphan", ino)
	}
	tx.key = inoKey(tx.key, tabOrphan, tx.vol, ino)
	tx.w.Delete(tx.key)
	return tx.releaseInode(in)
}
