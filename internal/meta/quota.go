package meta

import (
	"strconv"

	"github.com/strakefs/strake/internal/fsapi"
)

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

const quotaForm = 1

func appendQuota(b []byte, q Quota) []byte {
	return putUint(putUint(b, uint64(max(q.Bytes, 0))), uint64(max(q.Inodes, 0)))
}

func (d *dec) quota() Quota { return Quota{Bytes: d.size(), Inodes: d.size()} }

func decodeQuota(key, v []byte) (Quota, error) {
	d := dec{b: v}
	if d.byte() != quotaForm {
		return Quota{}, corrupt(key, "unknown form")
	}
	q := d.quota()
	if !d.done() {
		return q, corrupt(key, "bad quota")
	}
	return q, nil
}

// ownQuota is the quota record of a directory other than the root.
func (tx *Tx) ownQuota(dir fsapi.Ino) (Quota, bool, error) {
	tx.key = inoKey(tx.key, tabQuota, tx.vol, dir)
	v, ok, err := tx.peek(tx.key)
	if err != nil || !ok {
		return Quota{}, false, err
	}
	q, err := decodeQuota(tx.key, v)
	return q, err == nil, err
}

// Quota is the quota of a directory, the volume's for RootIno; zero where it
// has none.
func (tx *Tx) Quota(dir fsapi.Ino) (Quota, error) {
	if dir == fsapi.RootIno {
		err := tx.readVolume()
		return tx.volume.Quota, err
	}
	q, _, err := tx.ownQuota(dir)
	return q, err
}

// SetQuota sets the quota of a directory (zero removes it), or for the root
// the volume's. It counts the subtree as it stands, which holds up every
// other Update of the volume. What is over a new quota stays.
func (tx *Tx) SetQuota(dir *Inode, q Quota) error {
	switch err := tx.writable(); {
	case err != nil:
		return err
	case dir.Type != fsapi.TypeDirectory || dir.Nlink == 0:
		return fsapi.Errorf(fsapi.NotDir, "inode %d is no directory with a name; a quota needs one", dir.Ino)
	case q.Bytes < 0 || q.Inodes < 0:
		return fsapi.Errorf(fsapi.Invalid, "a quota of %d bytes and %d inodes is negative", q.Bytes, q.Inodes)
	}
	if err := tx.needGate(); err != nil {
		return err
	}
	if dir.Ino == fsapi.RootIno {
		tx.volume.Quota = q
		tx.putVolume()
		return nil
	}
	_, had, err := tx.ownQuota(dir.Ino)
	if err != nil {
		return err
	}
	if q == (Quota{}) {
		if had {
			tx.dropQuota(dir)
			tx.store(dir)
		}
		return nil
	}
	if !had {
		if err := tx.beginQuota(dir); err != nil {
			return err
		}
	}
	tx.key = inoKey(tx.key, tabQuota, tx.vol, dir.Ino)
	tx.val = appendQuota(append(tx.val[:0], quotaForm), q)
	tx.w.Put(tx.key, tx.val)
	tx.volume.epoch++
	tx.putVolume()
	return nil
}

// beginQuota counts a subtree that gets its first quota.
func (tx *Tx) beginQuota(dir *Inode) error {
	sum, err := tx.sumTree(dir.Ino)
	if err != nil {
		return err
	}
	tx.setUsage(dir.Ino, usageTreeBytes, sum.Bytes)
	tx.setUsage(dir.Ino, usageTreeInodes, sum.Inodes)
	dir.Flags |= HasQuota
	tx.changed(dir)
	tx.store(dir)
	tx.volume.quotas++
	return nil
}

// setUsage makes a counter what it should be.
func (tx *Tx) setUsage(dir fsapi.Ino, which byte, n int64) {
	tx.key = usageKey(tx.key, tx.vol, dir, which)
	tx.w.Delete(tx.key)
	if n != 0 {
		tx.w.Add(tx.key, n)
	}
}

// dropQuota removes a directory's quota; the caller stores the directory.
func (tx *Tx) dropQuota(dir *Inode) {
	tx.key = inoKey(tx.key, tabQuota, tx.vol, dir.Ino)
	tx.w.Delete(tx.key)
	tx.setUsage(dir.Ino, usageTreeBytes, 0)
	tx.setUsage(dir.Ino, usageTreeInodes, 0)
	dir.Flags &^= HasQuota
	tx.changed(dir)
	tx.volume.epoch++
	tx.volume.quotas--
	tx.putVolume()
}

// NearestQuota finds the innermost directory at or above in (by its primary
// name) that has a quota, or RootIno with the volume's.
func (tx *Tx) NearestQuota(in *Inode) (fsapi.Ino, Quota, error) {
	if err := tx.readVolume(); err != nil {
		return 0, Quota{}, err
	}
	dir := in.Parent
	if in.Type == fsapi.TypeDirectory && in.Nlink > 0 {
		dir = in.Ino
	}
	if in.Nlink == 0 {
		dir = 0
	}
	list, err := tx.chain(dir)
	if err != nil || len(list) == 0 {
		return fsapi.RootIno, tx.volume.Quota, err
	}
	return list[0].dir, list[0].Quota, nil
}
