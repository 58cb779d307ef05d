package meta

import "github.com/strakefs/strake/internal/fsapi"

// Unlink removes a name of a non-directory; in.Nlink goes down; at zero keep
// decides what becomes of it. dir is updated in place and stored.
func (tx *Tx) Unlink(dir *Inode, name string, in *Inode, keep Keep) error {
	if in.Type == fsapi.TypeDirectory {
		return fsapi.Errorf(fsapi.IsDir, "inode %d is a directory", in.Ino)
	}
	return tx.remove(dir, name, in, keep)
}

// Rmdir removes an empty directory: fsapi.NotEmpty. KeepTrash leaves a record
// so that paths below it can be restored. A quota on it ends.
func (tx *Tx) Rmdir(dir *Inode, name string, in *Inode, keep Keep) error {
	if in.Type != fsapi.TypeDirectory {
		return fsapi.Errorf(fsapi.NotDir, "inode %d is no directory", in.Ino)
	}
	return tx.remove(dir, name, in, keep)
}

func (tx *Tx) remove(dir *Inode, name string, in *Inode, keep Keep) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if err := tx.checkName(dir.Ino, name, in); err != nil {
		return err
	}
	tx.deleteDentry(dir.Ino, name)
	if err := tx.dropName(dir, name, in, keep); err != nil {
		return err
	}
	tx.touchDir(dir)
	tx.note(fsapi.ChangeRemove, in, dir.Ino, name)
	return nil
}

// checkName makes sure that dir/name is a name of in.
func (tx *Tx) checkName(dir fsapi.Ino, name string, in *Inode) error {
	if in.embedded {
		if in.Parent == dir && in.Name == name {
			return nil
		}
	} else if in.Nlink > 1 {
		e, ok, err := tx.dentry(dir, name)
		if err != nil {
			return err
		}
		if ok && e.Ino == in.Ino {
			return nil
		}
	}
	return fsapi.Errorf(fsapi.Stale, "%q in directory %d does not name inode %d", name, dir, in.Ino)
}

// dropName takes a name from an inode. The caller has overwritten the dentry
// or deletes it, and stores dir.
func (tx *Tx) dropName(dir *Inode, name string, in *Inode, keep Keep) error {
	if err := tx.Mutable(in); err != nil {
		return err
	}
	if in.Type == fsapi.TypeDirectory {
		return tx.dropDir(dir, in, keep)
	}
	if in.Nlink > 1 {
		return tx.dropLink(dir.Ino, name, in)
	}
	if err := tx.chargeDir(in.Parent, -in.Used, -1); err != nil {
		return err
	}
	return tx.bury(in, keep)
}

// dropDir takes the name from an empty directory.
func (tx *Tx) dropDir(dir, in *Inode, keep Keep) error {
	empty, err := tx.Empty(in.Ino)
	if err != nil {
		return err
	}
	if !empty {
		return fsapi.Errorf(fsapi.NotEmpty, "directory %d is not empty", in.Ino)
	}
	if err := tx.chargeDir(dir.Ino, 0, -1); err != nil {
		return err
	}
	tx.dropSubdir(dir, in)
	tx.setUsage(in.Ino, usageBytes, 0)
	tx.setUsage(in.Ino, usageInodes, 0)
	if in.Flags&HasQuota != 0 {
		tx.dropQuota(in)
	}
	return tx.bury(in, keep)
}

// dropLink takes one of several names from an inode. Where it was the primary
// one, the first that is left, in the order of directory number and name,
// takes its place; the last that is left gets the inode.
func (tx *Tx) dropLink(dir fsapi.Ino, name string, in *Inode) error {
	tx.deleteLink(in.Ino, dir, name)
	in.Nlink--
	tx.changed(in)
	primary := in.Parent == dir && in.Name == name
	if in.Nlink > 1 && !primary {
		tx.store(in)
		return nil
	}
	was := in.Parent
	other, otherName, err := tx.firstLink(in.Ino)
	if err != nil {
		return err
	}
	if other != was {
		if err := tx.chargeDir(was, -in.Used, -1); err != nil {
			return err
		}
		if err := tx.chargeDir(other, in.Used, 1); err != nil {
			return err
		}
	}
	if in.Nlink > 1 {
		in.Parent, in.Name = other, otherName
		tx.store(in)
		return nil
	}
	e, ok, err := tx.dentry(other, otherName)
	if err != nil {
		return err
	}
	if !ok || e.Ino != in.Ino {
		return corrupt(tx.key, "it should name inode "+utoa(uint64(in.Ino)))
	}
	tx.deleteLink(in.Ino, other, otherName)
	tx.embed(in, other, otherName, e.cookie)
	return nil
}

// firstLink is the first name of an inode that has, or had, several.
func (tx *Tx) firstLink(ino fsapi.Ino) (dir fsapi.Ino, name string, err error) {
	prefix := inoKey(nil, tabLink, tx.vol, ino)
	err = tx.scan(prefix, func(k, _ []byte) (bool, error) {
		if len(k) <= inoKeyLen+8 {
			return false, corrupt(k, "bad key")
		}
		dir, name = fsapi.Ino(keyU64(k, inoKeyLen)), string(k[inoKeyLen+8:])
		return false, nil
	})
	if err == nil && name == "" {
		err = corrupt(prefix, "no name of the inode is listed")
	}
	return dir, name, err
}

// bury takes an inode without names out of the namespace.
func (tx *Tx) bury(in *Inode, keep Keep) error {
	in.Nlink = 0
	in.embedded = false
	tx.changed(in)
	switch keep {
	case KeepOrphan:
		in.Flags |= Orphan
		in.Parent, in.Name = 0, ""
		tx.key = inoKey(tx.key, tabOrphan, tx.vol, in.Ino)
		tx.w.Put(tx.key, nil)
	case KeepTrash:
		if err := tx.trash(in); err != nil {
			return err
		}
	default:
		return tx.releaseInode(in)
	}
	tx.store(in)
	return nil
}

// releaseInode removes an inode that nothing needs any more. What belongs to
// it is left to Reclaim; it no longer counts.
func (tx *Tx) releaseInode(in *Inode) error {
	if err := tx.Mutable(in); err != nil {
		return err
	}
	if err := tx.forgetRetention(in); err != nil {
		return err
	}
	tx.key = inoKey(tx.key, tabInode, tx.vol, in.Ino)
	tx.w.Delete(tx.key)
	if in.Flags&HasPolicy != 0 {
		tx.key = inoKey(tx.key, tabPolicy, tx.vol, in.Ino)
		tx.w.Delete(tx.key)
		tx.countPolicy(false)
	}
	if in.Used > 0 || in.Flags&(HasXattr|HasACL|HasDefACL|HasRetention) != 0 {
		tx.key = inoKey(tx.key, tabReclaim, tx.vol, in.Ino)
		tx.w.Put(tx.key, nil)
	}
	tx.chargeVolume(-in.Used, -1)
	tx.forget(in.Ino)
	return nil
}
