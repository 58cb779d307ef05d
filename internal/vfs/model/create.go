package model

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Mknod implements vfs.FS.
func (f *FS) Mknod(_ context.Context, c *fsapi.Cred, dir fsapi.Ino, name string, w vfs.NewNode) (fsapi.Attr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := checkNew(w); err != nil {
		return fsapi.Attr{}, err
	}
	d, err := f.creatable(c, dir, name)
	if err != nil {
		return fsapi.Attr{}, err
	}
	n, err := f.make(c, d, name, w)
	if err != nil {
		return fsapi.Attr{}, err
	}
	return n.stat(), nil
}

// creatable finds a directory in which c may make name: search permission,
// absence, write permission, in the order Linux looks.
func (f *FS) creatable(c *fsapi.Cred, dir fsapi.Ino, name string) (*node, error) {
	d, err := f.searchable(c, dir, name)
	if err != nil {
		return nil, err
	}
	if d.entries[name] != nil {
		return nil, fsapi.Errorf(fsapi.Exist, "%q exists", name)
	}
	if err := f.may(c, d, write); err != nil {
		return nil, err
	}
	return d, nil
}

// make makes an inode with a name in d.
func (f *FS) make(c *fsapi.Cred, d *node, name string, w vfs.NewNode) (*node, error) {
	if err := f.mayMake(c, w); err != nil {
		return nil, err
	}
	gid := c.Gid
	mode := w.Mode & fsapi.ModeMask
	if d.attr.Mode&fsapi.ModeSetgid != 0 {
		gid = d.attr.Gid
		mode = inheritSetgid(c, w.Type, mode, gid)
	}
	n := f.newNode(w.Type, mode, c.Uid, gid)
	n.attr.Nlink = 1
	switch w.Type {
	case fsapi.TypeSymlink:
		n.target, n.attr.Mode = w.Target, 0o777
	case fsapi.TypeDirectory:
		n.attr.Nlink, n.parent = 2, d
		d.attr.Nlink++
	case fsapi.TypeCharDev, fsapi.TypeBlockDev:
		n.attr.Rdev = w.Rdev
	}
	f.inheritMode(n, d, w.Umask)
	d.enter(name, n)
	f.modified(d)
	f.notify(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: n.attr.Ino, Dir: d.attr.Ino, Name: name, Type: w.Type, Door: c.Door})
	return n, nil
}

// inheritSetgid is the mode of what is made in a set-group-ID directory:
// directories take the bit; files that run as the group only by a member.
func inheritSetgid(c *fsapi.Cred, t fsapi.FileType, mode, gid uint32) uint32 {
	const runsAsGroup = fsapi.ModeSetgid | 0o010
	switch {
	case t == fsapi.TypeDirectory:
		return mode | fsapi.ModeSetgid
	case mode&runsAsGroup == runsAsGroup && !privileged(c) && !c.InGroup(gid):
		return mode &^ fsapi.ModeSetgid
	}
	return mode
}

// inheritMode applies the default ACL of d, or else the umask.
func (f *FS) inheritMode(n, d *node, umask uint32) {
	switch {
	case n.attr.Type == fsapi.TypeSymlink:
	case d.deflt == nil:
		n.attr.Mode &^= umask & 0o777
	default:
		n.access, n.attr.Mode = d.deflt.inherit(n.attr.Mode)
		if n.attr.Type == fsapi.TypeDirectory {
			n.deflt = append(acl(nil), d.deflt...)
		}
	}
}

// checkNew refuses what nobody can make, which Linux sees first.
func checkNew(w vfs.NewNode) error {
	switch w.Type {
	case fsapi.TypeRegular, fsapi.TypeDirectory, fsapi.TypeFIFO, fsapi.TypeSocket, fsapi.TypeCharDev, fsapi.TypeBlockDev:
	case fsapi.TypeSymlink:
		if w.Target == "" {
			return fsapi.Errorf(fsapi.NotExist, "the target of a symlink is empty")
		}
		if len(w.Target) > fsapi.MaxSymlink {
			return fsapi.Errorf(fsapi.NameTooLong, "a target of %d bytes is over %d", len(w.Target), fsapi.MaxSymlink)
		}
	default:
		return fsapi.Errorf(fsapi.Invalid, "%d is not a file type", w.Type)
	}
	return nil
}

// mayMake refuses what c may not make, and what there is no room for.
func (f *FS) mayMake(c *fsapi.Cred, w vfs.NewNode) error {
	if device := w.Type == fsapi.TypeCharDev || w.Type == fsapi.TypeBlockDev; device && !privileged(c) {
		return fsapi.Errorf(fsapi.NotPermitted, "only root makes device nodes")
	}
	if int64(len(f.nodes)) >= f.o.Inodes {
		return fsapi.Errorf(fsapi.NoSpace, "the volume has %d inodes", len(f.nodes))
	}
	return nil
}

// enter adds a name.
func (n *node) enter(name string, child *node) {
	n.cookie++
	n.entries[name] = &entry{node: child, cookie: n.cookie}
}

// Create implements vfs.FS.
func (f *FS) Create(_ context.Context, c *fsapi.Cred, dir fsapi.Ino, name string, w vfs.NewNode, flags vfs.OpenFlags) (fsapi.Attr, vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.Type != 0 && w.Type != fsapi.TypeRegular {
		return fsapi.Attr{}, nil, fsapi.Errorf(fsapi.Invalid, "only regular files are opened")
	}
	d, err := f.searchable(c, dir, name)
	if err != nil {
		return fsapi.Attr{}, nil, err
	}
	if e := d.entries[name]; e != nil {
		return f.createExisting(c, e.node, name, flags)
	}
	if d, err = f.creatable(c, dir, name); err != nil {
		return fsapi.Attr{}, nil, err
	}
	w.Type = fsapi.TypeRegular
	n, err := f.make(c, d, name, w)
	if err != nil {
		return fsapi.Attr{}, nil, err
	}
	// The mode of a new file does not bind the process that makes it.
	return n.stat(), f.handle(c, n, flags), nil
}

// createExisting is open(2) with O_CREAT of what exists.
func (f *FS) createExisting(c *fsapi.Cred, n *node, name string, flags vfs.OpenFlags) (fsapi.Attr, vfs.File, error) {
	if flags&vfs.OpenExcl != 0 {
		return fsapi.Attr{}, nil, fsapi.Errorf(fsapi.Exist, "%q exists", name)
	}
	h, err := f.open(c, n, flags)
	if err != nil {
		return fsapi.Attr{}, nil, err
	}
	return n.stat(), h, nil
}

// Link implements vfs.FS.
func (f *FS) Link(_ context.Context, c *fsapi.Cred, ino, dir fsapi.Ino, name string) (fsapi.Attr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return fsapi.Attr{}, err
	}
	if err := f.link(c, n, dir, name); err != nil {
		return fsapi.Attr{}, err
	}
	return n.stat(), nil
}

func (f *FS) link(c *fsapi.Cred, n *node, dir fsapi.Ino, name string) error {
	d, err := f.creatable(c, dir, name)
	switch {
	case err != nil:
		return err
	case n.attr.Type == fsapi.TypeDirectory:
		return fsapi.Errorf(fsapi.NotPermitted, "inode %d is a directory", n.attr.Ino)
	case n.attr.Nlink == 0:
		return fsapi.Errorf(fsapi.NotExist, "inode %d was unlinked", n.attr.Ino)
	case n.attr.Nlink >= fsapi.MaxLinks:
		return fsapi.Errorf(fsapi.TooManyLinks, "inode %d has %d links", n.attr.Ino, n.attr.Nlink)
	}
	n.attr.Nlink++
	f.changed(n)
	d.enter(name, n)
	f.modified(d)
	f.notify(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: n.attr.Ino, Dir: dir, Name: name, Type: n.attr.Type, Door: c.Door})
	return nil
}
