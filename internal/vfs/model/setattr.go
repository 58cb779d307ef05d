package model

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Setattr implements vfs.FS.
func (f *FS) Setattr(_ context.Context, c *fsapi.Cred, ino fsapi.Ino, s vfs.SetAttr) (fsapi.Attr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return fsapi.Attr{}, err
	}
	if err := f.setattr(c, n, s); err != nil {
		return fsapi.Attr{}, err
	}
	return n.stat(), nil
}

// setattr checks everything first, then changes everything.
func (f *FS) setattr(c *fsapi.Cred, n *node, s vfs.SetAttr) error {
	if s.Size != nil {
		if err := f.mayTruncate(c, n, *s.Size); err != nil {
			return err
		}
	}
	if err := f.maySetattr(c, n, s); err != nil {
		return err
	}
	if s == (vfs.SetAttr{}) {
		return nil
	}
	if s.Size != nil && *s.Size == n.data.size {
		// truncate(2) to the size there is changes nothing, in Linux's file
		// systems.
		if c.Uid != 0 {
			dropPrivileges(c, n)
		}
		if s.Size = nil; s == (vfs.SetAttr{}) {
			return nil
		}
	}
	if s.Size != nil {
		f.truncate(c, n, *s.Size)
	}
	f.chown(c, n, s)
	if s.Mode != nil {
		n.chmod(c, *s.Mode)
	}
	f.changed(n)
	f.utimes(n, s)
	if s.Size == nil || s.Mode != nil || s.Uid != nil || s.Gid != nil {
		f.notify(fsapi.Change{Kind: fsapi.ChangeAttr, Ino: n.attr.Ino, Type: n.attr.Type, Door: c.Door})
	}
	return nil
}

// mayTruncate is the checks of truncate(2) with their precedence.
func (f *FS) mayTruncate(c *fsapi.Cred, n *node, size int64) error {
	switch {
	case n.attr.Type == fsapi.TypeDirectory:
		return fsapi.Errorf(fsapi.IsDir, "inode %d is a directory", n.attr.Ino)
	case n.attr.Type != fsapi.TypeRegular:
		return fsapi.Errorf(fsapi.Invalid, "inode %d is not a regular file", n.attr.Ino)
	}
	if err := checkSize(size); err != nil {
		return err
	}
	return f.may(c, n, write)
}

func checkSize(size int64) error {
	switch {
	case size < 0:
		return fsapi.Errorf(fsapi.Invalid, "%d is not a size", size)
	case size > fsapi.MaxFileSize:
		return fsapi.Errorf(fsapi.FileTooBig, "%d bytes are over the largest size", size)
	}
	return nil
}

// maySetattr is the checks of chmod(2), chown(2), utimensat(2).
func (f *FS) maySetattr(c *fsapi.Cred, n *node, s vfs.SetAttr) error {
	a := &n.attr
	if s.Mode != nil {
		if err := owns(c, n); err != nil {
			return err
		}
	}
	if s.Uid != nil && !privileged(c) && (c.Uid != a.Uid || *s.Uid != a.Uid) {
		return fsapi.Errorf(fsapi.NotPermitted, "only root may give inode %d away", a.Ino)
	}
	if s.Gid != nil && !privileged(c) && (c.Uid != a.Uid || *s.Gid != a.Gid && !c.InGroup(*s.Gid)) {
		return fsapi.Errorf(fsapi.NotPermitted, "user %d may not give inode %d to group %d", c.Uid, a.Ino, *s.Gid)
	}
	if s.Atime != nil || s.Mtime != nil {
		return owns(c, n)
	}
	if (s.TouchAtime || s.TouchMtime) && owns(c, n) != nil {
		return f.may(c, n, write)
	}
	return nil
}

// chown changes the owners. Set-user-ID and set-group-ID of anything but a
// directory go, whoever asks (chown(2), notes).
func (f *FS) chown(c *fsapi.Cred, n *node, s vfs.SetAttr) {
	if s.Uid == nil && s.Gid == nil {
		return
	}
	if n.attr.Type != fsapi.TypeDirectory {
		dropPrivileges(c, n)
	}
	if s.Uid != nil {
		n.attr.Uid = *s.Uid
	}
	if s.Gid != nil {
		n.attr.Gid = *s.Gid
	}
}

// chmod changes the mode, and the ACL with it. Set-group-ID is not for those
// outside of the group (chmod(2)).
func (n *node) chmod(c *fsapi.Cred, mode uint32) {
	mode &= fsapi.ModeMask
	if !privileged(c) && !c.InGroup(n.attr.Gid) {
		mode &^= fsapi.ModeSetgid
	}
	n.attr.Mode = mode
	if n.access != nil {
		n.access.chmod(mode)
	}
}

// utimes changes the times.
func (f *FS) utimes(n *node, s vfs.SetAttr) {
	now := f.o.Clock.Now()
	if s.TouchAtime {
		n.attr.Atime = now
	}
	if s.TouchMtime {
		n.attr.Mtime = now
	}
	if s.Atime != nil {
		n.attr.Atime = *s.Atime
	}
	if s.Mtime != nil {
		n.attr.Mtime = *s.Mtime
	}
	if s.Ctime != nil {
		n.attr.Ctime = *s.Ctime
	}
}

// truncate changes the size of a regular file.
func (f *FS) truncate(c *fsapi.Cred, n *node, size int64) {
	old := n.data.size
	f.edit(n, func(d *content) { d.truncate(size) })
	f.written(c, n)
	f.notifyContent(c, n, min(old, size), -1)
}

// edit changes a file's content and keeps count of space.
func (f *FS) edit(n *node, change func(*content)) {
	before := n.data.used()
	change(&n.data)
	f.used += n.data.used() - before
}
