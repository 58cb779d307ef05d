package meta

import "github.com/strakefs/strake/internal/fsapi"

// Create makes an inode with a name. dir is from this transaction; its times,
// link count and Change are updated in place and stored. fsapi.Exist, Quota,
// TooManyLinks; NotExist where dir has been removed.
func (tx *Tx) Create(dir *Inode, name string, n NewInode) (*Inode, error) {
	if err := tx.checkNew(dir, name); err != nil {
		return nil, err
	}
	isDir := n.Type == fsapi.TypeDirectory
	if isDir && dir.Nlink >= fsapi.MaxLinks {
		return nil, fsapi.Errorf(fsapi.TooManyLinks, "directory %d holds %d directories already", dir.Ino, dir.Nlink-2)
	}
	if err := tx.affordVolume(0, 1); err != nil {
		return nil, err
	}
	if err := tx.affordDir(dir.Ino, 0, 1); err != nil {
		return nil, err
	}
	in, err := tx.newInode(n)
	if err != nil {
		return nil, err
	}
	cookie, err := tx.number()
	if err != nil {
		return nil, err
	}
	tx.embed(in, dir.Ino, name, cookie)
	tx.know(in)
	if isDir {
		tx.putSubdir(dir, in)
	}
	tx.chargeVolume(0, 1)
	if err := tx.chargeDir(dir.Ino, 0, 1); err != nil {
		return nil, err
	}
	tx.touchDir(dir)
	tx.note(fsapi.ChangeCreate, in, dir.Ino, name)
	return in, nil
}

// checkNew asks whether a name can be added to a directory.
func (tx *Tx) checkNew(dir *Inode, name string) error {
	switch err := tx.writable(); {
	case err != nil:
		return err
	case dir.Type != fsapi.TypeDirectory:
		return fsapi.Errorf(fsapi.NotDir, "inode %d is no directory", dir.Ino)
	case dir.Nlink == 0:
		return fsapi.Errorf(fsapi.NotExist, "directory %d was removed", dir.Ino)
	case name == "":
		return fsapi.Errorf(fsapi.Invalid, "an empty name for directory %d", dir.Ino)
	case len(name) > fsapi.MaxName:
		return fsapi.Errorf(fsapi.NameTooLong, "name of %d bytes; %d is the most", len(name), fsapi.MaxName)
	}
	return tx.free(dir.Ino, name)
}

func (tx *Tx) newInode(n NewInode) (*Inode, error) {
	if n.Type < fsapi.TypeRegular || n.Type > fsapi.TypeSocket {
		return nil, fsapi.Errorf(fsapi.Invalid, "%d is no type of file", n.Type)
	}
	if n.Ino == 0 {
		num, err := tx.number()
		if err != nil {
			return nil, err
		}
		n.Ino = fsapi.Ino(num)
	}
	now := tx.Now()
	in := &Inode{Attr: fsapi.Attr{
		Ino: n.Ino, Type: n.Type, Mode: n.Mode & fsapi.ModeMask, Uid: n.Uid, Gid: n.Gid, Rdev: n.Rdev, Nlink: 1,
		Atime: now, Mtime: now, Ctime: now, Btime: now, Change: 1,
	}}
	switch n.Type {
	case fsapi.TypeDirectory:
		in.Nlink = 2
	case fsapi.TypeSymlink:
		if len(n.Target) > fsapi.MaxSymlink {
			return nil, fsapi.Errorf(fsapi.NameTooLong, "symlink to %d bytes; %d is the most", len(n.Target), fsapi.MaxSymlink)
		}
		in.Target, in.Size = n.Target, int64(len(n.Target))
	}
	return in, nil
}

// putSubdir counts and lists a directory in another; the caller stores dir.
func (tx *Tx) putSubdir(dir, in *Inode) {
	dir.Nlink++
	tx.key = subdirKey(tx.key, tx.vol, dir.Ino, in.Ino)
	tx.w.Put(tx.key, nil)
}

// dropSubdir undoes putSubdir.
func (tx *Tx) dropSubdir(dir, in *Inode) {
	dir.Nlink--
	tx.key = subdirKey(tx.key, tx.vol, dir.Ino, in.Ino)
	tx.w.Delete(tx.key)
}

// touchDir stamps and stores a directory whose names changed.
func (tx *Tx) touchDir(dir *Inode) {
	dir.Mtime = tx.Now()
	tx.changed(dir)
	tx.store(dir)
	tx.missed = missing{}
}

// Link gives in (not a directory, unless it has no name) another name. An
// orphan or trashed inode comes back to life. fsapi.Exist, TooManyLinks,
// Quota.
func (tx *Tx) Link(dir *Inode, name string, in *Inode) error {
	if err := tx.checkNew(dir, name); err != nil {
		return err
	}
	if err := tx.Mutable(in); err != nil {
		return err
	}
	switch {
	case in.Nlink == 0:
		if err := tx.revive(dir, name, in); err != nil {
			return err
		}
	case in.Type == fsapi.TypeDirectory:
		return fsapi.Errorf(fsapi.NotPermitted, "inode %d is a directory and cannot have two names", in.Ino)
	case in.Nlink >= fsapi.MaxLinks:
		return fsapi.Errorf(fsapi.TooManyLinks, "inode %d has %d names already", in.Ino, in.Nlink)
	default:
		if err := tx.addLink(dir, name, in); err != nil {
			return err
		}
	}
	tx.touchDir(dir)
	tx.note(fsapi.ChangeCreate, in, dir.Ino, name)
	return nil
}

// addLink gives an inode that has a name one more.
func (tx *Tx) addLink(dir *Inode, name string, in *Inode) error {
	cookie, err := tx.number()
	if err != nil {
		return err
	}
	if in.embedded {
		tx.putRef(in.Parent, in.Name, in, in.cookie)
		tx.putLink(in.Ino, in.Parent, in.Name)
		in.embedded = false
	}
	tx.putRef(dir.Ino, name, in, cookie)
	tx.putLink(in.Ino, dir.Ino, name)
	in.Nlink++
	tx.changed(in)
	tx.store(in)
	return nil
}

func (tx *Tx) putLink(ino, dir fsapi.Ino, name string) {
	tx.key = linkKey(tx.key, tx.vol, ino, dir, name)
	tx.w.Put(tx.key, nil)
}

func (tx *Tx) deleteLink(ino, dir fsapi.Ino, name string) {
	tx.key = linkKey(tx.key, tx.vol, ino, dir, name)
	tx.w.Delete(tx.key)
}

// revive names an orphan or trashed inode.
func (tx *Tx) revive(dir *Inode, name string, in *Inode) error {
	if err := tx.affordDir(dir.Ino, in.Used, 1); err != nil {
		return err
	}
	cookie, err := tx.number()
	if err != nil {
		return err
	}
	switch {
	case in.Flags&Orphan != 0:
		tx.key = inoKey(tx.key, tabOrphan, tx.vol, in.Ino)
		tx.w.Delete(tx.key)
	case in.Flags&Trashed != 0:
		tx.key = trashKey(tx.key, tx.vol, in.deleted, in.Ino)
		tx.w.Delete(tx.key)
	default:
		return fsapi.Errorf(fsapi.Stale, "inode %d is gone", in.Ino)
	}
	in.Flags &^= Orphan | Trashed
	in.Nlink = 1
	if in.Type == fsapi.TypeDirectory {
		in.Nlink = 2
		tx.putSubdir(dir, in)
		tx.inheritAnew()
	}
	tx.changed(in)
	tx.embed(in, dir.Ino, name, cookie)
	return tx.chargeDir(dir.Ino, in.Used, 1)
}

// inheritAnew makes caches forget what directories inherit: one that was in
// the trash may come back elsewhere.
func (tx *Tx) inheritAnew() {
	tx.moves = true
	if tx.volume.quotas > 0 {
		tx.volume.epoch++
		tx.putVolume()
	}
}
