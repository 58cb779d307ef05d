package meta

import (
	"bytes"
	"math"

	"github.com/strakefs/strake/internal/fsapi"
)

// Reclaim removes up to limit records of inodes waiting to be released; more
// says whether any are left. Two at once conflict.
func (tx *Tx) Reclaim(limit int) (more bool, err error) {
	if err := tx.writable(); err != nil {
		return false, err
	}
	left := max(limit, 1)
	var queue []fsapi.Ino
	err = tx.inos(tabReclaim, 0, left+1, func(ino fsapi.Ino) { queue = append(queue, ino) })
	if err != nil {
		return false, err
	}
	for i, ino := range queue {
		if left <= 0 {
			return true, nil
		}
		n, done, err := tx.reclaimOne(ino, left)
		if err != nil {
			return false, err
		}
		if !done {
			return true, nil
		}
		left -= n + 1
		more = i < len(queue)-1
	}
	return more, nil
}

// reclaimOne removes up to max records of one inode, and says how many, and
// whether that was all.
func (tx *Tx) reclaimOne(ino fsapi.Ino, max int) (n int, done bool, err error) {
	// Reading and writing the queue's key keeps two from removing, and
	// counting, the same extents.
	key := inoKey(nil, tabReclaim, tx.vol, ino)
	if _, ok, err := tx.r.Get(key); err != nil || !ok {
		return 0, true, err
	}
	at, err := tx.holder(ino)
	if err != nil {
		return 0, false, err
	}
	defer tx.hist.keepFor(at)()
	olds, all, err := tx.extentsAfter(ino, 0, max)
	if err != nil {
		return 0, false, err
	}
	tx.cut(ino, olds, 0, math.MaxInt64)
	n = len(olds)
	if all {
		var xattrs int
		xattrs, all, err = tx.deletePrefix(inoKey(nil, tabXattr, tx.vol, ino), max-n)
		if err != nil {
			return n, false, err
		}
		n += xattrs
	}
	if all {
		tx.w.Delete(key)
	} else {
		tx.w.Put(key, nil)
	}
	return n, all, nil
}

// deletePrefix deletes up to max keys and says whether these were all.
func (tx *Tx) deletePrefix(prefix []byte, max int) (n int, all bool, err error) {
	var keys [][]byte
	all = true
	err = tx.scan(prefix, func(k, _ []byte) (bool, error) {
		if len(keys) >= max {
			all = false
			return false, nil
		}
		keys = append(keys, bytes.Clone(k))
		return true, nil
	})
	for _, k := range keys {
		tx.w.Delete(k)
	}
	return len(keys), all, err
}
