package vfs

import (
	"context"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// The permissions that may be wanted, as in access(2).
const (
	mayExec  uint32 = 1
	mayWrite uint32 = 2
	mayRead  uint32 = 4
)

// permit checks that c may do all of want with n: acl(5), and Linux's
// generic_permission for the superuser.
func (fs *Local) permit(ctx context.Context, c *fsapi.Cred, n *node, want uint32) error {
	if c.Checked || want == 0 {
		return nil
	}
	n.mu.RLock()
	in := permInode{n.typ, n.in.Mode, n.in.Uid, n.in.Gid, n.in.Flags}
	acl := n.acl
	n.mu.RUnlock()
	var entries ACL
	if in.flags&meta.HasACL != 0 && c.Uid != 0 {
		if acl == nil {
			var err error
			if acl, err = fs.loadACL(ctx, n); err != nil {
				return err
			}
		}
		entries = acl.access
	}
	if !in.allows(c, entries, want) {
		return fsapi.Errorf(fsapi.Access, "uid %d may not %s inode %d", c.Uid, wantText(want), n.ino)
	}
	return nil
}

func wantText(want uint32) string {
	var s []string
	for i, t := range []string{"execute", "write", "read"} {
		if want&(1<<i) != 0 {
			s = append(s, t)
		}
	}
	return strings.Join(s, " and ")
}

// permInode is what a permission check looks at.
type permInode struct {
	typ      fsapi.FileType
	mode     uint32
	uid, gid uint32
	flags    meta.Flags
}

func (in *permInode) allows(c *fsapi.Cred, entries ACL, want uint32) bool {
	if c.Uid == 0 {
		return want&mayExec == 0 || in.typ == fsapi.TypeDirectory || in.mode&0o111 != 0
	}
	var have uint32
	switch {
	case c.Uid == in.uid:
		have = in.mode >> 6
	case entries != nil:
		return entries.allows(c, in.uid, in.gid, want)
	case c.InGroup(in.gid):
		have = in.mode >> 3
	default:
		have = in.mode
	}
	return have&want == want
}

// owner reports whether c is n's owner or the superuser.
func (n *node) owner(c *fsapi.Cred) bool {
	if c.Checked || c.Uid == 0 {
		return true
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return c.Uid == n.in.Uid
}

func (fs *Local) mustOwn(c *fsapi.Cred, n *node) error {
	if n.owner(c) {
		return nil
	}
	return fsapi.Errorf(fsapi.NotPermitted, "only its owner may do this to inode %d", n.ino)
}

// mayDelete checks that c may take child's name out of dir, or replace it: write
// and search permission, and with the sticky bit ownership (Linux's
// may_delete).
func (fs *Local) mayDelete(ctx context.Context, c *fsapi.Cred, dir, child *node) error {
	if err := fs.permit(ctx, c, dir, mayWrite|mayExec); err != nil {
		return err
	}
	if c.Checked || c.Uid == 0 {
		return nil
	}
	d := dir.attr()
	if d.Mode&fsapi.ModeSticky == 0 || d.Uid == c.Uid || child.attr().Uid == c.Uid {
		return nil
	}
	return fsapi.Errorf(fsapi.NotPermitted, "directory %d is sticky and inode %d belongs to another", dir.ino, child.ino)
}

// killPriv is mode without the setuid and setgid bits that a change of content
// or owner by c takes away (Linux's setattr_should_drop_suidgid).
func killPriv(c *fsapi.Cred, mode, gid uint32) uint32 {
	mode &^= fsapi.ModeSetuid
	if mode&0o010 != 0 || c.Uid != 0 && !c.Checked && !c.InGroup(gid) {
		mode &^= fsapi.ModeSetgid
	}
	return mode
}

// checkName refuses names that no entry can have.
func checkName(name string) error {
	switch {
	case len(name) > fsapi.MaxName:
		return fsapi.Errorf(fsapi.NameTooLong, "name of %d bytes: %d is the most", len(name), fsapi.MaxName)
	case name == "" || name == "." || name == "..":
		return fsapi.Errorf(fsapi.Invalid, "%q is not a name", name)
	case strings.ContainsAny(name, "/\x00"):
		return fsapi.Errorf(fsapi.Invalid, "name %q holds a slash or a NUL", name)
	}
	return nil
}
