package vfs

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// enter finds the directory for a change of the name in it, held for the
// caller, and checks the name and that c may search.
func (fs *Local) enter(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string) (*node, error) {
	if dir >= fsapi.VirtualIno {
		return nil, errVirtual(dir)
	}
	d, err := fs.dir(ctx, dir)
	if err != nil {
		return nil, err
	}
	if err = fs.permit(ctx, c, d, mayExec); err == nil {
		err = checkName(name)
	}
	if err == nil && d.attr().Nlink == 0 {
		err = fsapi.Errorf(fsapi.NotExist, "directory %d was removed", dir)
	}
	if err == nil && dir == fsapi.RootIno && name == VirtualName {
		err = errExist(name)
	}
	if err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// Mknod implements FS.
func (fs *Local) Mknod(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string, nn NewNode) (fsapi.Attr, error) {
	if err := nn.check(); err != nil {
		return fsapi.Attr{}, err
	}
	d, err := fs.enter(ctx, c, dir, name)
	if err != nil {
		return fsapi.Attr{}, err
	}
	defer d.release()
	n, _, err := fs.create(ctx, c, d, name, nn, nil)
	if err != nil {
		return fsapi.Attr{}, err
	}
	defer n.release()
	return n.attr(), nil
}

// check refuses what nobody can make, before anything is looked at.
func (nn *NewNode) check() error {
	switch nn.Type {
	case fsapi.TypeRegular, fsapi.TypeDirectory, fsapi.TypeFIFO, fsapi.TypeSocket, fsapi.TypeCharDev, fsapi.TypeBlockDev:
		return nil
	case fsapi.TypeSymlink:
		if nn.Target == "" {
			return fsapi.Errorf(fsapi.NotExist, "a symlink needs a target")
		}
		if len(nn.Target) > fsapi.MaxSymlink {
			return fsapi.Errorf(fsapi.NameTooLong, "symlink target of %d bytes: %d is the most", len(nn.Target), fsapi.MaxSymlink)
		}
		return nil
	}
	return fsapi.Errorf(fsapi.Invalid, "%d is no file type", nn.Type)
}

// allowed says whether c may make it where it may make names: mknod(2).
func (nn *NewNode) allowed(c *fsapi.Cred) error {
	if device := nn.Type == fsapi.TypeCharDev || nn.Type == fsapi.TypeBlockDev; device && c.Uid != 0 && !c.Checked {
		return fsapi.Errorf(fsapi.NotPermitted, "only the superuser makes device nodes")
	}
	return nil
}

// Create implements FS.
func (fs *Local) Create(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string, nn NewNode, flags OpenFlags) (fsapi.Attr, File, error) {
	nn.Type = fsapi.TypeRegular
	d, err := fs.enter(ctx, c, dir, name)
	if err != nil {
		return fsapi.Attr{}, nil, err
	}
	defer d.release()
	for {
		n, f, err := fs.create(ctx, c, d, name, nn, &flags)
		if err == nil {
			defer n.release()
			return n.attr(), f, nil
		}
		if flags&OpenExcl != 0 || fsapi.KindOf(err) != fsapi.Exist {
			return fsapi.Attr{}, nil, err
		}
		a, file, err := fs.openChild(ctx, c, d, name, flags)
		if k := kindOf(err); k != fsapi.NotExist && k != fsapi.Stale {
			return a, file, err
		} // else it went meanwhile
	}
}

func kindOf(err error) fsapi.Kind {
	if err == nil {
		return fsapi.Other
	}
	return fsapi.KindOf(err)
}

// openChild opens a file that was there already.
func (fs *Local) openChild(ctx context.Context, c *fsapi.Cred, d *node, name string, flags OpenFlags) (fsapi.Attr, File, error) {
	n, err := fs.child(ctx, d, name)
	if err != nil {
		return fsapi.Attr{}, nil, err
	}
	defer n.release()
	if n.typ == fsapi.TypeDirectory {
		return fsapi.Attr{}, nil, fsapi.Errorf(fsapi.IsDir, "%q is a directory", name)
	}
	f, err := fs.Open(ctx, c, n.ino, flags)
	if err != nil {
		return fsapi.Attr{}, nil, err
	}
	return n.attr(), f, nil
}

// create makes an inode with a name in d, held for the caller, and opens it
// where flags are given. fsapi.Exist comes before fsapi.Access, and that before
// fsapi.NotPermitted, as in Linux.
func (fs *Local) create(ctx context.Context, c *fsapi.Cred, d *node, name string, nn NewNode, flags *OpenFlags) (*node, *file, error) {
	if err := cmpErr(fs.permit(ctx, c, d, mayWrite), nn.allowed(c)); err != nil {
		if n, lookErr := fs.child(ctx, d, name); lookErr == nil {
			n.release()
			return nil, nil, errExist(name)
		}
		return nil, nil, err
	}
	acls, err := fs.aclsOf(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	holds, err := fs.effective(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	fs.gate.RLock()
	defer fs.gate.RUnlock()
	d.ns.Lock()
	defer d.ns.Unlock()
	if _, ok := d.name(name); ok {
		return nil, nil, errExist(name)
	}
	var dir, in *meta.Inode
	spec, acl, def := newInode(c, d.attr(), &nn, acls.def)
	seq, err := fs.update(func(tx *meta.Tx) (err error) {
		tx.SetDoor(c.Door)
		if dir, in, err = createIn(tx, d.ino, name, spec, acl, def); err != nil {
			return err
		}
		return fs.pendCommit(tx, &holds.Policy, in)
	})
	if err != nil {
		return nil, nil, err
	}
	n := fs.born(d, dir, in, name, seq)
	var f *file
	if flags != nil {
		f = fs.openNode(c, n, *flags)
	}
	fs.tell(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: in.Ino, Dir: d.ino, Name: name, Type: in.Type, Door: c.Door})
	return n, f, nil
}

func errExist(name string) error { return fsapi.Errorf(fsapi.Exist, "%q is there already", name) }

// createIn makes an inode with its ACLs in a transaction.
func createIn(tx *meta.Tx, ino fsapi.Ino, name string, spec meta.NewInode, acl, def ACL) (dir, in *meta.Inode, err error) {
	if dir, err = tx.Inode(ino); err != nil {
		return nil, nil, err
	}
	if in, err = tx.Create(dir, name, spec); err != nil {
		return nil, nil, err
	}
	if acl != nil {
		if err := tx.SetXattr(in, accessACL, acl.Bytes()); err != nil {
			return nil, nil, err
		}
	}
	if def != nil {
		if err := tx.SetXattr(in, defaultACL, def.Bytes()); err != nil {
			return nil, nil, err
		}
	}
	return dir, in, nil
}

// born makes the node of a new inode, held.
func (fs *Local) born(d *node, dir, in *meta.Inode, name string, seq kv.Seq) *node {
	n := fs.nodes.put(in, seq)
	d.mu.Lock()
	pol, quota := d.pol, d.quota
	d.installLocked(dir, seq)
	d.mu.Unlock()
	n.mu.Lock()
	n.pol, n.quota = pol, quota
	n.mu.Unlock()
	fs.setName(d, name, in.Ino)
	return n
}

// newInode is the inode to make, with what it inherits from its directory:
// the group and setgid bit (Linux's inode_init_owner and, before the umask,
// mode_strip_sgid), and the default ACL in place of the umask
// (posix_acl_create).
func newInode(c *fsapi.Cred, da fsapi.Attr, nn *NewNode, parentDef ACL) (spec meta.NewInode, acl, def ACL) {
	mode := nn.Mode & fsapi.ModeMask
	switch {
	case nn.Type == fsapi.TypeSymlink:
		mode, parentDef = 0o777, nil
	case parentDef != nil:
		acl, mode = parentDef.inherit(mode)
	default:
		mode &^= nn.Umask & 0o777
	}
	if nn.Type == fsapi.TypeDirectory {
		def = parentDef
	}
	spec = meta.NewInode{Type: nn.Type, Mode: mode, Uid: c.Uid, Gid: c.Gid, Target: nn.Target}
	if nn.Type == fsapi.TypeCharDev || nn.Type == fsapi.TypeBlockDev {
		spec.Rdev = nn.Rdev
	}
	if da.Mode&fsapi.ModeSetgid != 0 {
		spec.Gid = da.Gid
		switch {
		case nn.Type == fsapi.TypeDirectory:
			spec.Mode |= fsapi.ModeSetgid
		case nn.Mode&fsapi.ModeSetgid != 0 && nn.Mode&0o010 != 0 && c.Uid != 0 && !c.Checked && !c.InGroup(da.Gid):
			spec.Mode &^= fsapi.ModeSetgid
		}
	}
	return spec, acl, def
}

// Link implements FS.
func (fs *Local) Link(ctx context.Context, c *fsapi.Cred, ino, dir fsapi.Ino, name string) (fsapi.Attr, error) {
	n, err := fs.node(ctx, ino)
	if err != nil {
		return fsapi.Attr{}, err
	}
	defer n.release()
	d, err := fs.enter(ctx, c, dir, name)
	if err != nil {
		return fsapi.Attr{}, err
	}
	defer d.release()
	if err := fs.mayLink(ctx, c, n, d, name); err != nil {
		return fsapi.Attr{}, err
	}
	fs.gate.RLock()
	defer fs.gate.RUnlock()
	d.ns.Lock()
	defer d.ns.Unlock()
	n.ns.Lock()
	defer n.ns.Unlock()
	if a := n.attr(); n.isGone() || a.Nlink == 0 {
		return fsapi.Attr{}, fsapi.Errorf(fsapi.NotExist, "inode %d has no name any more", ino)
	}
	var dirIn, in *meta.Inode
	seq, err := fs.update(func(tx *meta.Tx) (err error) {
		tx.SetDoor(c.Door)
		if dirIn, err = tx.Inode(dir); err != nil {
			return err
		}
		if in, err = n.inTx(tx); err != nil {
			return err
		}
		return tx.Link(dirIn, name, in)
	})
	if err != nil {
		return fsapi.Attr{}, err
	}
	d.install(dirIn, seq)
	n.install(in, seq)
	fs.setName(d, name, ino)
	fs.tell(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: ino, Dir: dir, Name: name, Type: in.Type, Door: c.Door})
	return n.attr(), nil
}

// mayLink checks a link in the order of Linux's vfs_link.
func (fs *Local) mayLink(ctx context.Context, c *fsapi.Cred, n, d *node, name string) error {
	if old, err := fs.child(ctx, d, name); err == nil {
		old.release()
		return errExist(name)
	} else if fsapi.KindOf(err) != fsapi.NotExist {
		return err
	}
	if err := fs.permit(ctx, c, d, mayWrite|mayExec); err != nil {
		return err
	}
	if n.typ == fsapi.TypeDirectory {
		return fsapi.Errorf(fsapi.NotPermitted, "inode %d is a directory: it can have one name only", n.ino)
	}
	return nil
}
