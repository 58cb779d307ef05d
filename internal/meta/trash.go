package meta

import (
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
)

// trash puts an inode that lost its last name into the trash. It remembers the
// name in Parent and Name; the caller stores it.
func (tx *Tx) trash(in *Inode) error {
	p, err := tx.inherited(in.Parent)
	if err != nil {
		return err
	}
	if in.Flags&HasPolicy != 0 {
		own, err := tx.Policy(in.Ino)
		if err != nil {
			return err
		}
		p = own.Or(p)
	}
	in.Flags |= Trashed
	in.deleted = tx.Now().UnixNano()
	in.expires = tx.Now().Add(max(p.Trash, 0)).UnixNano()
	tx.key = trashKey(tx.key, tx.vol, in.deleted, in.Ino)
	tx.w.Put(tx.key, nil)
	return nil
}

const trashKeyLen = volKeyLen + 16

// Trash lists up to limit entries, in the order of their deletion, after
// `after`; nil starts.
func (tx *Tx) Trash(afterEntry *TrashEntry, limit int) ([]TrashEntry, error) {
	if limit <= 0 {
		return nil, nil
	}
	from := volKey(nil, tabTrash, tx.vol)
	to := after(nil, from)
	if afterEntry != nil {
		from = trashKey(nil, tx.vol, afterEntry.Deleted.UnixNano(), afterEntry.Ino+1)
	}
	var inos []fsapi.Ino
	err := tx.r.Scan(from, to, func(k, _ []byte) (bool, error) {
		if len(k) != trashKeyLen {
			return false, corrupt(k, "bad key")
		}
		inos = append(inos, fsapi.Ino(keyU64(k, volKeyLen+8)))
		return len(inos) < limit, nil
	})
	if err != nil {
		return nil, err
	}
	list := make([]TrashEntry, 0, len(inos))
	for _, ino := range inos {
		in, err := tx.trashed(ino)
		if err != nil {
			return nil, err
		}
		path, err := tx.oldPath(in)
		if err != nil {
			return nil, err
		}
		list = append(list, TrashEntry{
			Ino: ino, Path: path, Deleted: timeOf(in.deleted), Expires: timeOf(in.expires), Attr: in.Attr,
		})
	}
	return list, nil
}

// trashed reads an inode that is in the trash: fsapi.NotExist.
func (tx *Tx) trashed(ino fsapi.Ino) (*Inode, error) {
	in, err := tx.Inode(ino)
	if err != nil && fsapi.KindOf(err) != fsapi.Stale {
		return nil, err
	}
	if err != nil || in.Flags&Trashed == 0 {
		return nil, fsapi.Errorf(fsapi.NotExist, "inode %d is not in the trash", ino)
	}
	return in, nil
}

// oldPath is where an inode is or was, from the volume's root, without a
// leading slash. A directory that is gone altogether shows as its number.
func (tx *Tx) oldPath(in *Inode) (string, error) {
	parts := []string{in.Name}
	for depth, dir := 0, in.Parent; dir != fsapi.RootIno && dir != 0; depth++ {
		if depth == maxDepth {
			return "", errDepth(in.Ino)
		}
		d, err := tx.Inode(dir)
		if err != nil {
			if fsapi.KindOf(err) != fsapi.Stale {
				return "", err
			}
			parts = append(parts, "#"+utoa(uint64(dir)))
			break
		}
		if d.Name == "" {
			parts = append(parts, "#"+utoa(uint64(dir)))
			break
		}
		parts = append(parts, d.Name)
		dir = d.Parent
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/"), nil
}

// TrashParents is the trashed directories a trash entry lay in, outermost
// first, so that they can be restored or made again; Parent and Name of the
// first, or of the entry where there are none, say where it was: a live
// directory, or one that is gone (fsapi.Stale from Inode).
func (tx *Tx) TrashParents(ino fsapi.Ino) ([]*Inode, error) {
	in, err := tx.trashed(ino)
	if err != nil {
		return nil, err
	}
	var list []*Inode
	for depth := 0; in.Parent != 0; depth++ {
		if depth == maxDepth {
			return nil, errDepth(ino)
		}
		d, err := tx.trashed(in.Parent)
		if err != nil {
			if fsapi.KindOf(err) == fsapi.NotExist {
				break
			}
			return nil, err
		}
		list = append(list, d)
		in = d
	}
	slices.Reverse(list)
	return list, nil
}

// TrashDrop hands a trash entry to Reclaim: fsapi.NotExist.
func (tx *Tx) TrashDrop(ino fsapi.Ino) error {
	in, err := tx.takeTrash(ino)
	if err != nil {
		return err
	}
	return tx.releaseInode(in)
}

// TrashOrphan makes a trash entry an orphan, for one that leaves the trash
// while a handle is open: fsapi.NotExist.
func (tx *Tx) TrashOrphan(ino fsapi.Ino) error {
	in, err := tx.takeTrash(ino)
	if err != nil {
		return err
	}
	in.Flags &^= Trashed
	return tx.bury(in, KeepOrphan)
}

func (tx *Tx) takeTrash(ino fsapi.Ino) (*Inode, error) {
	if err := tx.writable(); err != nil {
		return nil, err
	}
	in, err := tx.trashed(ino)
	if err != nil {
		return nil, err
	}
	if err := tx.Mutable(in); err != nil {
		return nil, err
	}
	tx.key = trashKey(tx.key, tx.vol, in.deleted, in.Ino)
	tx.w.Delete(tx.key)
	return in, nil
}

// RestoreTrash gives a trash entry a name. dir is from this transaction. A
// directory comes back empty. fsapi.NotExist, Exist, Quota.
func (tx *Tx) RestoreTrash(ino fsapi.Ino, dir *Inode, name string) (*Inode, error) {
	if err := tx.writable(); err != nil {
		return nil, err
	}
	in, err := tx.trashed(ino)
	if err != nil {
		return nil, err
	}
	return in, tx.Link(dir, name, in)
}
