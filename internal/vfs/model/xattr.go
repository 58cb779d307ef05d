package model

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// The attributes that hold ACLs.
const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// xattrName is the rules for names, xattr(7).
func xattrName(name string) error {
	space, rest, _ := strings.Cut(name, ".")
	switch {
	case name == "" || strings.Contains(name, "\x00"):
		return fsapi.Errorf(fsapi.Invalid, "%q is not the name of an attribute", name)
	case len(name) > fsapi.MaxXattrName:
		return fsapi.Errorf(fsapi.Range, "an attribute's name of %d bytes is over %d", len(name), fsapi.MaxXattrName)
	case name == accessACL || name == defaultACL:
		return nil
	case !slices.Contains([]string{"user", "trusted", "security"}, space):
		return fsapi.Errorf(fsapi.NotSupported, "attribute %q is in no known namespace", name)
	case rest == "":
		return fsapi.Errorf(fsapi.Invalid, "%q is not the name of an attribute", name)
	}
	return nil
}

// isACL reports whether name is one of the two that hold ACLs.
func isACL(name string) bool { return name == accessACL || name == defaultACL }

// mayReadXattr is who may see an attribute, xattr(7).
func (f *FS) mayReadXattr(c *fsapi.Cred, n *node, name string) error {
	none := fsapi.Errorf(fsapi.NoAttr, "inode %d has no attribute %q", n.attr.Ino, name)
	switch {
	case strings.HasPrefix(name, "trusted."):
		if c.Uid != 0 {
			return none
		}
	case strings.HasPrefix(name, "user."):
		if !n.takesUser() {
			return none
		}
		return f.may(c, n, read)
	}
	return nil
}

// mayWriteXattr is who may change an attribute, xattr(7).
func (f *FS) mayWriteXattr(c *fsapi.Cred, n *node, name string) error {
	switch {
	case isACL(name):
		if n.attr.Type == fsapi.TypeSymlink {
			return fsapi.Errorf(fsapi.NotSupported, "symlinks have no ACL")
		}
		return owns(c, n)
	case !strings.HasPrefix(name, "user."):
		if c.Uid != 0 {
			return fsapi.Errorf(fsapi.NotPermitted, "only root changes %q", name)
		}
		return nil
	case !n.takesUser():
		return fsapi.Errorf(fsapi.NotPermitted, "inode %d takes no user attributes", n.attr.Ino)
	case n.attr.Type == fsapi.TypeDirectory && n.attr.Mode&fsapi.ModeSticky != 0:
		if err := owns(c, n); err != nil {
			return err
		}
	}
	return f.may(c, n, write)
}

// takesUser reports whether n may have attributes of the user namespace.
func (n *node) takesUser() bool {
	return n.attr.Type == fsapi.TypeRegular || n.attr.Type == fsapi.TypeDirectory
}

// Getxattr implements vfs.FS.
func (f *FS) Getxattr(_ context.Context, c *fsapi.Cred, ino fsapi.Ino, name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return nil, err
	}
	if err := xattrName(name); err != nil {
		return nil, err
	}
	if err := f.mayReadXattr(c, n, name); err != nil {
		return nil, err
	}
	value, ok := n.xattr(name)
	if !ok {
		return nil, fsapi.Errorf(fsapi.NoAttr, "inode %d has no attribute %q", ino, name)
	}
	return bytes.Clone(value), nil
}

// xattr is the value of an attribute.
func (n *node) xattr(name string) ([]byte, bool) {
	switch name {
	case accessACL:
		return n.access.encode(), n.access != nil
	case defaultACL:
		return n.deflt.encode(), n.deflt != nil
	}
	v, ok := n.xattrs[name]
	return v, ok
}

// Setxattr implements vfs.FS.
func (f *FS) Setxattr(_ context.Context, c *fsapi.Cred, ino fsapi.Ino, name string, value []byte, flags vfs.XattrFlags) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return err
	}
	if flags&^(vfs.XattrCreate|vfs.XattrReplace) != 0 {
		return fsapi.Errorf(fsapi.Invalid, "%#x is not a set of setxattr flags", uint32(flags))
	}
	if len(value) > fsapi.MaxXattr {
		return fsapi.Errorf(fsapi.TooBig, "an attribute of %d bytes is over %d", len(value), fsapi.MaxXattr)
	}
	if err := xattrName(name); err != nil {
		return err
	}
	if err := f.mayWriteXattr(c, n, name); err != nil {
		return err
	}
	_, exists := n.xattr(name)
	switch {
	case exists && flags&vfs.XattrCreate != 0:
		return fsapi.Errorf(fsapi.Exist, "attribute %q exists", name)
	case !exists && flags&vfs.XattrReplace != 0:
		return fsapi.Errorf(fsapi.NoAttr, "inode %d has no attribute %q", ino, name)
	}
	if err := n.setXattr(c, name, value); err != nil {
		return err
	}
	f.xattrChanged(c, n)
	return nil
}

func (f *FS) xattrChanged(c *fsapi.Cred, n *node) {
	f.changed(n)
	f.notify(fsapi.Change{Kind: fsapi.ChangeAttr, Ino: n.attr.Ino, Type: n.attr.Type, Door: c.Door})
}

// setXattr stores an attribute. ACLs change the mode (acl(5)).
func (n *node) setXattr(c *fsapi.Cred, name string, value []byte) error {
	if !isACL(name) {
		if n.xattrs == nil {
			n.xattrs = map[string][]byte{}
		}
		n.xattrs[name] = append([]byte{}, value...)
		return nil
	}
	a, err := parseACL(value)
	if err != nil {
		return err
	}
	if name == defaultACL {
		if a != nil && n.attr.Type != fsapi.TypeDirectory {
			return fsapi.Errorf(fsapi.Access, "inode %d is not a directory", n.attr.Ino)
		}
		n.deflt = a
		return nil
	}
	n.access = nil
	if a == nil {
		return nil
	}
	n.attr.Mode = n.attr.Mode&^0o777 | a.mode()
	if !privileged(c) && !c.InGroup(n.attr.Gid) {
		n.attr.Mode &^= fsapi.ModeSetgid
	}
	if !a.minimal() {
		n.access = a
	}
	return nil
}

// Listxattr implements vfs.FS.
func (f *FS) Listxattr(_ context.Context, c *fsapi.Cred, ino fsapi.Ino) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range n.xattrs {
		if !strings.HasPrefix(name, "trusted.") || c.Uid == 0 {
			names = append(names, name)
		}
	}
	if n.access != nil {
		names = append(names, accessACL)
	}
	if n.deflt != nil {
		names = append(names, defaultACL)
	}
	slices.Sort(names)
	return names, nil
}

// Removexattr implements vfs.FS.
func (f *FS) Removexattr(_ context.Context, c *fsapi.Cred, ino fsapi.Ino, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return err
	}
	if err := xattrName(name); err != nil {
		return err
	}
	if err := f.mayWriteXattr(c, n, name); err != nil {
		return err
	}
	if _, ok := n.xattr(name); !ok {
		return fsapi.Errorf(fsapi.NoAttr, "inode %d has no attribute %q", ino, name)
	}
	switch name {
	case accessACL:
		n.access = nil
	case defaultACL:
		n.deflt = nil
	default:
		delete(n.xattrs, name)
	}
	f.xattrChanged(c, n)
	return nil
}
