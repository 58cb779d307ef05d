package model

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
)

// What may asks for, as of access(2).
const (
	execute uint32 = 1
	write   uint32 = 2
	read    uint32 = 4
)

// privileged reports whether c may do what only root or the kernel, which has
// checked already, may.
func privileged(c *fsapi.Cred) bool { return c.Checked || c.Uid == 0 }

// may is the file access check of POSIX.1-2017 section 4.5, with ACLs as of
// acl(5).
func (f *FS) may(c *fsapi.Cred, n *node, want uint32) error {
	if c.Checked || n.permits(c, want) {
		return nil
	}
	return fsapi.Errorf(fsapi.Access, "user %d has no permission on inode %d", c.Uid, n.attr.Ino)
}

// permits reports whether c has all permissions of want on n.
func (n *node) permits(c *fsapi.Cred, want uint32) bool {
	a := &n.attr
	bits := a.Mode
	switch {
	case c.Uid == 0:
		return want&execute == 0 || a.Type == fsapi.TypeDirectory || a.Mode&0o111 != 0
	case c.Uid == a.Uid:
		bits >>= 6
	case n.access != nil:
		return n.access.permits(c, a.Gid, want)
	case c.InGroup(a.Gid):
		bits >>= 3
	}
	return bits&want == want
}

// owns says whether c may change what belongs to n's owner.
func owns(c *fsapi.Cred, n *node) error {
	if privileged(c) || c.Uid == n.attr.Uid {
		return nil
	}
	return fsapi.Errorf(fsapi.NotPermitted, "user %d does not own inode %d", c.Uid, n.attr.Ino)
}

// mayRemove says whether c may take victim's name out of d: write permission,
// and in a sticky directory ownership of one of the two (unlink(2)).
func (f *FS) mayRemove(c *fsapi.Cred, d, victim *node) error {
	if err := f.may(c, d, write|execute); err != nil {
		return err
	}
	sticky := d.attr.Mode&fsapi.ModeSticky != 0
	if !sticky || privileged(c) || c.Uid == d.attr.Uid || c.Uid == victim.attr.Uid {
		return nil
	}
	return fsapi.Errorf(fsapi.NotPermitted, "directory %d is sticky", d.attr.Ino)
}

// dropPrivileges clears set-user-ID, and set-group-ID where it means execution
// as a group, as a write by an unprivileged process does (write(2), chown(2)).
func dropPrivileges(c *fsapi.Cred, n *node) {
	a := &n.attr
	a.Mode &^= fsapi.ModeSetuid
	if a.Mode&0o010 != 0 || !privileged(c) && !c.InGroup(a.Gid) {
		a.Mode &^= fsapi.ModeSetgid
	}
}

// written is the effect that changing a file's content has on its attributes.
func (f *FS) written(c *fsapi.Cred, n *node) {
	if c.Uid != 0 {
		dropPrivileges(c, n)
	}
	f.modified(n)
}

// Access implements vfs.FS.
func (f *FS) Access(_ context.Context, c *fsapi.Cred, ino fsapi.Ino, want uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return err
	}
	if want&^7 != 0 {
		return fsapi.Errorf(fsapi.Invalid, "access %#o is not a set of read, write, execute", want)
	}
	return f.may(c, n, want)
}
