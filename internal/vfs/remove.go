package vfs

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// Unlink implements FS.
func (fs *Local) Unlink(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string) error {
	return fs.remove(ctx, c, dir, name, false)
}

// Rmdir implements FS.
func (fs *Local) Rmdir(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string) error {
	return fs.remove(ctx, c, dir, name, true)
}

func (fs *Local) remove(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string, rmdir bool) error {
	d, err := fs.enter(ctx, c, dir, name)
	if err != nil {
		return err
	}
	defer d.release()
	fs.gate.RLock()
	defer fs.gate.RUnlock()
	d.ns.Lock()
	defer d.ns.Unlock()
	n, err := fs.childLocked(ctx, d, name)
	if err != nil {
		return err
	}
	defer n.release()
	if err := fs.mayRemove(ctx, c, d, n, name, rmdir); err != nil {
		return err
	}
	n.ns.Lock()
	defer n.ns.Unlock()
	keep, err := fs.keepOf(n)
	if err != nil {
		return err
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
		if rmdir {
			return tx.Rmdir(dirIn, name, in, keep)
		}
		return tx.Unlink(dirIn, name, in, keep)
	})
	if err != nil {
		return err
	}
	d.install(dirIn, seq)
	fs.dropName(d, name)
	fs.unnamed(n, in, keep, seq)
	fs.tell(fsapi.Change{Kind: fsapi.ChangeRemove, Ino: n.ino, Dir: dir, Name: name, Type: in.Type, Door: c.Door})
	return nil
}

// mayRemove checks permissions and type in the order of Linux's may_delete.
func (fs *Local) mayRemove(ctx context.Context, c *fsapi.Cred, d, n *node, name string, rmdir bool) error {
	if err := fs.mayDelete(ctx, c, d, n); err != nil {
		return err
	}
	switch isDir := n.typ == fsapi.TypeDirectory; {
	case isDir && !rmdir:
		return fsapi.Errorf(fsapi.IsDir, "%q is a directory", name)
	case !isDir && rmdir:
		return fsapi.Errorf(fsapi.NotDir, "%q is not a directory", name)
	}
	return nil
}

// keepOf says what becomes of n when its last name goes. REQUIRES n.ns,
// exclusively, so that nobody opens it meanwhile.
func (fs *Local) keepOf(n *node) (meta.Keep, error) {
	class, err := fs.effective(fs.ctx, n)
	if err != nil {
		return 0, err
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	switch {
	case class.Trash > 0:
		return meta.KeepTrash, nil
	case n.opens > 0:
		return meta.KeepOrphan, nil
	}
	return meta.KeepNone, nil
}

// unnamed takes over what a transaction left of an inode that lost a name.
func (fs *Local) unnamed(n *node, in *meta.Inode, keep meta.Keep, seq kv.Seq) {
	if in.Nlink > 0 || keep != meta.KeepNone {
		n.install(in, seq)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.opens > 0 { // a directory
		n.installLocked(in, seq)
		return
	}
	fs.endLocked(n)
	if in.Used > 0 || in.Flags != 0 {
		fs.wakeReclaim()
	}
}
