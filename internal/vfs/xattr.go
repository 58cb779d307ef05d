package vfs

import (
	"context"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// The name spaces of extended attributes, xattr(7).
const (
	userSpace     = "user."
	trustedSpace  = "trusted."
	securitySpace = "security."
)

// aclSpace is the name space of the two attributes that hold ACLs.
const aclSpace = "system."

// xattrSpace is the name space of an extended attribute.
func xattrSpace(name string) (string, error) {
	switch {
	case len(name) > fsapi.MaxXattrName:
		return "", fsapi.Errorf(fsapi.Range, "extended attribute name of %d bytes: %d is the most", len(name), fsapi.MaxXattrName)
	case name == "" || name == userSpace || name == trustedSpace || name == securitySpace || strings.Contains(name, "\x00"):
		return "", fsapi.Errorf(fsapi.Invalid, "%q is not the name of an extended attribute", name)
	case name == accessACL || name == defaultACL:
		return aclSpace, nil
	}
	for _, space := range []string{userSpace, trustedSpace, securitySpace} {
		if strings.HasPrefix(name, space) {
			return space, nil
		}
	}
	return "", fsapi.Errorf(fsapi.NotSupported, "extended attribute %q: its name space is not known", name)
}

// mayXattr checks name and permission, as Linux's xattr_permission.
func (fs *Local) mayXattr(ctx context.Context, c *fsapi.Cred, n *node, name string, write bool) error {
	space, err := xattrSpace(name)
	if err != nil && fsapi.KindOf(err) != fsapi.NotSupported {
		return err
	}
	want := mayRead
	if write {
		want = mayWrite
		n.mu.RLock()
		trashed := n.in.Flags&meta.Trashed != 0 && n.opens == 0
		n.mu.RUnlock()
		if trashed {
			return fsapi.Errorf(fsapi.ReadOnly, "inode %d is in the trash: restore it first", n.ino)
		}
		if name == RetentionXattr {
			return fs.mustOwn(c, n)
		}
		if err := fs.mutable(ctx, n); err != nil {
			return err
		}
	}
	switch space {
	case aclSpace:
		if n.typ == fsapi.TypeSymlink && write {
			return fsapi.Errorf(fsapi.NotSupported, "symlinks have no ACL")
		}
		if write {
			return fs.mustOwn(c, n)
		}
		return nil
	case securitySpace:
		if write && c.Uid != 0 {
			return fsapi.Errorf(fsapi.NotPermitted, "only the superuser sets %s", name)
		}
		return nil
	case trustedSpace:
		if c.Uid == 0 {
			return nil
		}
		if write {
			return fsapi.Errorf(fsapi.NotPermitted, "only the superuser sets %s", name)
		}
		return errNoAttr(n.ino, name)
	case userSpace:
		return fs.mayUserXattr(ctx, c, n, name, want)
	}
	return err
}

func (fs *Local) mayUserXattr(ctx context.Context, c *fsapi.Cred, n *node, name string, want uint32) error {
	if n.typ != fsapi.TypeRegular && n.typ != fsapi.TypeDirectory {
		if want == mayWrite {
			return fsapi.Errorf(fsapi.NotPermitted, "%s: user attributes are for files and directories", name)
		}
		return errNoAttr(n.ino, name)
	}
	if want == mayWrite && n.isDir() && n.attr().Mode&fsapi.ModeSticky != 0 {
		if err := fs.mustOwn(c, n); err != nil {
			return err
		}
	}
	return fs.permit(ctx, c, n, want)
}

func errNoAttr(ino fsapi.Ino, name string) error {
	return fsapi.Errorf(fsapi.NoAttr, "inode %d has no %s", ino, name)
}

// Getxattr implements FS.
func (fs *Local) Getxattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, name string) ([]byte, error) {
	if ino >= fsapi.SnapshotIno {
		return fs.pasts().getxattr(ctx, c, ino, name)
	}
	if ino >= fsapi.VirtualIno {
		return nil, errNoAttr(ino, name)
	}
	n, err := fs.node(ctx, ino)
	if err != nil {
		return nil, err
	}
	defer n.release()
	if err := fs.mayXattr(ctx, c, n, name, false); err != nil {
		return nil, err
	}
	n.mu.RLock()
	flags := n.in.Flags
	n.mu.RUnlock()
	if name == PolicyXattr {
		return fs.policyText(ctx, n, flags)
	}
	if flags&(meta.HasXattr|meta.HasACL|meta.HasDefACL) == 0 {
		return nil, errNoAttr(ino, name)
	}
	var value []byte
	err = fs.view(ctx, func(tx *meta.Tx) error {
		v, err := tx.Xattr(ino, name)
		value = slices.Clone(v)
		return err
	})
	if err == nil && value == nil {
		value = []byte{}
	}
	return value, err
}

func (fs *Local) policyText(ctx context.Context, n *node, flags meta.Flags) ([]byte, error) {
	if flags&meta.HasPolicy == 0 {
		return nil, errNoAttr(n.ino, PolicyXattr)
	}
	var p policy.Policy
	err := fs.view(ctx, func(tx *meta.Tx) (err error) {
		p, err = tx.Policy(n.ino)
		return err
	})
	return []byte(p.String()), err
}

// Setxattr implements FS.
func (fs *Local) Setxattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, name string, value []byte, flags XattrFlags) error {
	if flags&^(XattrCreate|XattrReplace) != 0 {
		return fsapi.Errorf(fsapi.Invalid, "setxattr flags %#x", uint32(flags))
	}
	if len(value) > fsapi.MaxXattr {
		return fsapi.Errorf(fsapi.TooBig, "extended attribute %s of %d bytes: %d is the most", name, len(value), fsapi.MaxXattr)
	}
	n, err := fs.node(ctx, ino)
	if err != nil {
		return err
	}
	defer n.release()
	if err := fs.mayXattr(ctx, c, n, name, true); err != nil {
		return err
	}
	switch name {
	case accessACL, defaultACL:
		return fs.setACL(c, n, name, value)
	case PolicyXattr:
		p, err := policy.Parse(string(value))
		if err != nil {
			return err
		}
		if err := fs.mustOwn(c, n); err != nil {
			return err
		}
		return fs.setPolicy(c, n, p)
	case RetentionXattr:
		r, err := policy.ParseRetained(string(value))
		if err != nil {
			return err
		}
		return fs.setRetention(ctx, c, n, false, func(policy.Retained) (policy.Retained, error) { return r, nil })
	}
	return fs.change(c, n, func(tx *meta.Tx, in *meta.Inode) error {
		if err := checkFlags(tx, ino, name, flags); err != nil {
			return err
		}
		in.Ctime = tx.Now()
		return tx.SetXattr(in, name, value)
	})
}

func checkFlags(tx *meta.Tx, ino fsapi.Ino, name string, flags XattrFlags) error {
	if flags == 0 {
		return nil
	}
	_, err := tx.Xattr(ino, name)
	switch {
	case err != nil && fsapi.KindOf(err) != fsapi.NoAttr:
		return err
	case err == nil && flags&XattrCreate != 0:
		return fsapi.Errorf(fsapi.Exist, "inode %d has %s already", ino, name)
	case err != nil && flags&XattrReplace != 0:
		return errNoAttr(ino, name)
	}
	return nil
}

// setACL sets or (value empty, or no more than the mode) removes an ACL, as
// Linux's posix_acl_xattr_set and posix_acl_update_mode.
func (fs *Local) setACL(c *fsapi.Cred, n *node, name string, value []byte) error {
	acl, err := ParseACL(value)
	if err != nil {
		return err
	}
	if name == defaultACL && !n.isDir() {
		if acl == nil {
			return nil
		}
		return fsapi.Errorf(fsapi.Access, "inode %d is not a directory and has no default ACL", n.ino)
	}
	err = fs.change(c, n, func(tx *meta.Tx, in *meta.Inode) error {
		acl := acl
		if name == accessACL && acl != nil {
			bits, minimal := acl.mode()
			in.Mode = in.Mode&^0o777 | bits
			if c.Uid != 0 && !c.Checked && !c.InGroup(in.Gid) {
				in.Mode &^= fsapi.ModeSetgid
			}
			if minimal {
				acl = nil
			}
		}
		in.Ctime = tx.Now()
		if acl != nil {
			return tx.SetXattr(in, name, acl.Bytes())
		}
		if err := tx.RemoveXattr(in, name); err != nil && fsapi.KindOf(err) != fsapi.NoAttr {
			return err
		}
		return nil
	})
	n.mu.Lock()
	n.acl = nil
	n.mu.Unlock()
	return err
}

// Listxattr implements FS.
func (fs *Local) Listxattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino) ([]string, error) {
	if ino >= fsapi.SnapshotIno {
		return fs.pasts().listxattr(ctx, c, ino)
	}
	if ino >= fsapi.VirtualIno {
		return nil, nil
	}
	n, err := fs.node(ctx, ino)
	if err != nil {
		return nil, err
	}
	defer n.release()
	n.mu.RLock()
	flags := n.in.Flags
	n.mu.RUnlock()
	var names []string
	if flags&(meta.HasXattr|meta.HasACL|meta.HasDefACL) != 0 {
		err = fs.view(ctx, func(tx *meta.Tx) (err error) {
			names, err = tx.Xattrs(ino)
			return err
		})
	}
	return listed(c, names, flags), err
}

// listed is what c may see of stored names, with those that are not stored as
// attributes.
func listed(c *fsapi.Cred, names []string, flags meta.Flags) []string {
	if c.Uid != 0 {
		names = slices.DeleteFunc(names, func(s string) bool { return strings.HasPrefix(s, trustedSpace) })
	}
	if flags&meta.HasPolicy != 0 {
		names = append(names, PolicyXattr)
	}
	return names
}

// Removexattr implements FS.
func (fs *Local) Removexattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, name string) error {
	n, err := fs.node(ctx, ino)
	if err != nil {
		return err
	}
	defer n.release()
	if err := fs.mayXattr(ctx, c, n, name, true); err != nil {
		return err
	}
	switch name {
	case accessACL, defaultACL:
		return fs.removeACL(c, n, name)
	case PolicyXattr:
		if n.flags()&meta.HasPolicy == 0 {
			return errNoAttr(ino, name)
		}
		if err := fs.mustOwn(c, n); err != nil {
			return err
		}
		return fs.setPolicy(c, n, policy.Policy{})
	case RetentionXattr:
		if n.flags()&meta.HasRetention == 0 {
			return errNoAttr(ino, name)
		}
		return fs.setRetention(ctx, c, n, false, func(policy.Retained) (policy.Retained, error) { return policy.Retained{}, nil })
	}
	return fs.change(c, n, func(tx *meta.Tx, in *meta.Inode) error {
		in.Ctime = tx.Now()
		return tx.RemoveXattr(in, name)
	})
}

func (fs *Local) removeACL(c *fsapi.Cred, n *node, name string) error {
	has := meta.HasACL
	if name == defaultACL {
		has = meta.HasDefACL
	}
	if n.flags()&has == 0 {
		return errNoAttr(n.ino, name)
	}
	return fs.setACL(c, n, name, nil)
}

func (n *node) flags() meta.Flags {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.in.Flags
}
