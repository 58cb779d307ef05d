package vfs

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// change commits a change of one inode's attributes that fn makes in what is
// stored.
func (fs *Local) change(c *fsapi.Cred, n *node, fn func(tx *meta.Tx, in *meta.Inode) error) error {
	fs.gate.RLock()
	defer fs.gate.RUnlock()
	n.ns.Lock()
	defer n.ns.Unlock()
	if n.isGone() {
		return errGone(n.ino)
	}
	var stored *meta.Inode
	event := fsapi.Change{Kind: fsapi.ChangeAttr, Ino: n.ino, Type: n.typ, Door: c.Door}
	seq, err := fs.update(func(tx *meta.Tx) error {
		tx.SetDoor(c.Door)
		in, err := n.inTx(tx)
		if err != nil {
			return err
		}
		if err := fn(tx, in); err != nil {
			return err
		}
		stored = in
		fs.note(tx, event)
		return tx.SetInode(in)
	})
	if err != nil {
		return err
	}
	n.install(stored, seq)
	fs.tell(event)
	return nil
}

// Setattr implements FS.
func (fs *Local) Setattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, s SetAttr) (fsapi.Attr, error) {
	if fs.o.ReadOnly {
		return fsapi.Attr{}, errReadOnly(fs.vol)
	}
	n, err := fs.node(ctx, ino)
	if err != nil {
		return fsapi.Attr{}, err
	}
	defer n.release()
	if err := fs.maySet(ctx, c, n, &s); err != nil {
		return fsapi.Attr{}, err
	}
	if s.Mode != nil || s.Uid != nil || s.Gid != nil || n.typ != fsapi.TypeRegular && s.timesSet() {
		if err := fs.setStored(ctx, c, n, &s); err != nil {
			return fsapi.Attr{}, err
		}
	}
	if s.Size != nil {
		if err := fs.truncate(ctx, c, n, *s.Size, false); err != nil {
			return fsapi.Attr{}, err
		}
	}
	if n.typ == fsapi.TypeRegular && s.timesSet() {
		fs.setTimes(c, n, &s)
	}
	if s.commits() {
		if err := fs.commitRetention(ctx, c, n); err != nil {
			return fsapi.Attr{}, err
		}
	}
	return n.attr(), nil
}

func (s *SetAttr) timesSet() bool {
	return s.Atime != nil || s.Mtime != nil || s.TouchAtime || s.TouchMtime || s.Ctime != nil
}

// changes reports whether more is set than what reading sets too.
func (s *SetAttr) changes() bool {
	return s.Mode != nil || s.Uid != nil || s.Gid != nil || s.Size != nil || s.Mtime != nil || s.TouchMtime || s.Ctime != nil
}

// commits reports whether s takes the last write permission away.
func (s *SetAttr) commits() bool { return s.Mode != nil && *s.Mode&0o222 == 0 }

// maySet checks everything before anything is done.
func (fs *Local) maySet(ctx context.Context, c *fsapi.Cred, n *node, s *SetAttr) error {
	n.mu.RLock()
	in, opens, gone := n.in.Attr, n.opens, n.gone
	trashed := n.in.Flags&meta.Trashed != 0
	n.mu.RUnlock()
	switch {
	case gone:
		return errGone(n.ino)
	case trashed && opens == 0:
		return fsapi.Errorf(fsapi.ReadOnly, "inode %d is in the trash: restore it first", n.ino)
	}
	if s.changes() {
		if err := fs.mutable(ctx, n); err != nil {
			return err
		}
	}
	if s.Size != nil {
		if err := fs.mayResize(ctx, c, n, in.Type); err != nil {
			return err
		}
	}
	if err := mayChown(c, &in, s); err != nil {
		return err
	}
	if s.Mode != nil || s.Atime != nil || s.Mtime != nil || s.Ctime != nil {
		return fs.mustOwn(c, n)
	}
	if (s.TouchAtime || s.TouchMtime) && !n.owner(c) {
		return fs.permit(ctx, c, n, mayWrite)
	}
	return nil
}

func (fs *Local) mayResize(ctx context.Context, c *fsapi.Cred, n *node, t fsapi.FileType) error {
	switch t {
	case fsapi.TypeRegular:
		return fs.permit(ctx, c, n, mayWrite)
	case fsapi.TypeDirectory:
		return fsapi.Errorf(fsapi.IsDir, "inode %d is a directory", n.ino)
	}
	return fsapi.Errorf(fsapi.Invalid, "inode %d has no size to set", n.ino)
}

// mayChown is Linux's chown_ok and chgrp_ok.
func mayChown(c *fsapi.Cred, in *fsapi.Attr, s *SetAttr) error {
	if c.Checked || c.Uid == 0 {
		return nil
	}
	owner := c.Uid == in.Uid
	if s.Uid != nil && (!owner || *s.Uid != in.Uid) {
		return fsapi.Errorf(fsapi.NotPermitted, "only the superuser gives inode %d to another owner", in.Ino)
	}
	if s.Gid != nil && (!owner || *s.Gid != in.Gid && !c.InGroup(*s.Gid)) {
		return fsapi.Errorf(fsapi.NotPermitted, "only the owner of inode %d gives it to a group, and to one of the owner's own", in.Ino)
	}
	return nil
}

// setStored commits mode and owner, and the times of what has no data.
func (fs *Local) setStored(ctx context.Context, c *fsapi.Cred, n *node, s *SetAttr) error {
	acls, err := fs.aclsOf(ctx, n)
	if err != nil {
		return err
	}
	err = fs.change(c, n, func(tx *meta.Tx, in *meta.Inode) error {
		in.Ctime = tx.Now()
		if s.Ctime != nil {
			in.Ctime = *s.Ctime
		}
		s.setOwner(c, in)
		if s.Mode != nil {
			if err := s.setMode(tx, c, in, acls); err != nil {
				return err
			}
		}
		if in.Type != fsapi.TypeRegular {
			in.Atime, in.Mtime = s.times(in.Atime, in.Mtime, tx.Now())
		}
		return nil
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.Mode != nil {
		n.acl = nil
	}
	if n.typ != fsapi.TypeRegular && (s.Atime != nil || s.TouchAtime) {
		n.in.Atime, _ = s.times(n.in.Atime, n.in.Mtime, n.in.Ctime)
		n.pend &^= fAtime
	}
	return nil
}

func (s *SetAttr) setOwner(c *fsapi.Cred, in *meta.Inode) {
	if s.Uid == nil && s.Gid == nil {
		return
	}
	if s.Uid != nil {
		in.Uid = *s.Uid
	}
	if s.Gid != nil {
		in.Gid = *s.Gid
	}
	if in.Type != fsapi.TypeDirectory {
		in.Mode = killPriv(c, in.Mode, in.Gid)
	}
}

func (s *SetAttr) setMode(tx *meta.Tx, c *fsapi.Cred, in *meta.Inode, acls *aclPair) error {
	in.Mode = *s.Mode & fsapi.ModeMask
	if c.Uid != 0 && !c.Checked && !c.InGroup(in.Gid) {
		in.Mode &^= fsapi.ModeSetgid
	}
	if in.Flags&meta.HasACL == 0 {
		return nil
	}
	acl := append(ACL(nil), acls.access...)
	acl.chmod(in.Mode)
	return tx.SetXattr(in, accessACL, acl.Bytes())
}

// times are the access and modification times after s.
func (s *SetAttr) times(atime, mtime, now time.Time) (a, m time.Time) {
	switch {
	case s.TouchAtime:
		atime = now
	case s.Atime != nil:
		atime = *s.Atime
	}
	switch {
	case s.TouchMtime:
		mtime = now
	case s.Mtime != nil:
		mtime = *s.Mtime
	}
	return atime, mtime
}

// setTimes sets the times of a regular file in memory: they are stored with its
// data, which would change them otherwise.
func (fs *Local) setTimes(c *fsapi.Cred, n *node, s *SetAttr) {
	now := fs.now()
	n.mu.Lock()
	if s.Atime != nil || s.TouchAtime {
		n.pend |= fAtime
	}
	if s.Mtime != nil || s.TouchMtime {
		n.pend |= fMtime
	}
	n.in.Atime, n.in.Mtime = s.times(n.in.Atime, n.in.Mtime, now)
	n.in.Ctime = now
	if s.Ctime != nil {
		n.in.Ctime = *s.Ctime
	}
	n.in.Change++
	n.pend |= fCtime
	fs.queue.pushLocked(n, now)
	n.mu.Unlock()
	fs.tell(fsapi.Change{Kind: fsapi.ChangeAttr, Ino: n.ino, Type: fsapi.TypeRegular, Door: c.Door})
}
