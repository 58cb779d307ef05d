package vfs

import (
	"context"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// maxNames is how many names directories cache together.
const maxNames = 1 << 18

// Lookup implements FS.
func (fs *Local) Lookup(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string) (fsapi.Attr, error) {
	if dir >= fsapi.SnapshotIno {
		return fs.pasts().lookup(ctx, c, dir, name)
	}
	if dir >= fsapi.VirtualIno || dir == fsapi.RootIno && name == VirtualName {
		return fs.virt.lookup(ctx, c, dir, name)
	}
	d, err := fs.dir(ctx, dir)
	if err != nil {
		return fsapi.Attr{}, err
	}
	defer d.release()
	if err := fs.permit(ctx, c, d, mayExec); err != nil {
		return fsapi.Attr{}, err
	}
	switch name {
	case ".":
		return d.attr(), nil
	case "..":
		return fs.Getattr(ctx, d.parent())
	}
	if err := checkName(name); err != nil {
		return fsapi.Attr{}, err
	}
	if ino, ok := d.name(name); ok {
		if a, ok := fs.nodes.getattr(ino); ok {
			return a, nil
		}
	}
	n, err := fs.child(ctx, d, name)
	if err != nil {
		return fsapi.Attr{}, err
	}
	defer n.release()
	return n.attr(), nil
}

// parent is a directory's parent; the root's is itself.
func (n *node) parent() fsapi.Ino {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.in.Parent == 0 {
		return n.ino
	}
	return n.in.Parent
}

// name looks in the names that a directory caches.
func (n *node) name(name string) (fsapi.Ino, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	ino, ok := n.names[name]
	return ino, ok
}

// setName caches a name. REQUIRES n.ns.
func (fs *Local) setName(n *node, name string, ino fsapi.Ino) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.names == nil || fs.nameCount.Load() > maxNames {
		n.names = map[string]fsapi.Ino{}
		fs.nameCount.Add(-int64(n.nameCount.Swap(0)))
	}
	if _, ok := n.names[name]; !ok {
		fs.nameCount.Add(1)
		n.nameCount.Add(1)
	}
	n.names[name] = ino
}

// dropName forgets a name. REQUIRES n.ns, exclusively.
func (fs *Local) dropName(n *node, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.names[name]; ok {
		delete(n.names, name)
		fs.nameCount.Add(-1)
		n.nameCount.Add(-1)
	}
}

// child finds what a directory names, held for the caller.
func (fs *Local) child(ctx context.Context, d *node, name string) (*node, error) {
	d.ns.RLock()
	defer d.ns.RUnlock()
	return fs.childLocked(ctx, d, name)
}

// childLocked is child. REQUIRES d.ns.
func (fs *Local) childLocked(ctx context.Context, d *node, name string) (*node, error) {
	if ino, ok := d.name(name); ok {
		return fs.node(ctx, ino)
	}
	epoch := fs.nodes.evicted.Load()
	var in *meta.Inode
	err := fs.view(ctx, func(tx *meta.Tx) (err error) {
		in, err = tx.Lookup(d.ino, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	fs.setName(d, name, in.Ino)
	if n := fs.nodes.putRead(in, epoch); n != nil {
		return n, nil
	}
	return fs.node(ctx, in.Ino)
}

// Getattr implements FS.
func (fs *Local) Getattr(ctx context.Context, ino fsapi.Ino) (fsapi.Attr, error) {
	if ino >= fsapi.SnapshotIno {
		return fs.pasts().getattr(ctx, ino)
	}
	if ino >= fsapi.VirtualIno {
		return fs.virt.getattr(ctx, ino)
	}
	if a, ok := fs.nodes.getattr(ino); ok {
		return a, nil
	}
	n, err := fs.node(ctx, ino)
	if err != nil {
		return fsapi.Attr{}, err
	}
	defer n.release()
	return n.attr(), nil
}

// Access implements FS.
func (fs *Local) Access(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, want uint32) error {
	if want&^(mayRead|mayWrite|mayExec) != 0 {
		return fsapi.Errorf(fsapi.Invalid, "access to %#o is not of rwx", want)
	}
	if ino >= fsapi.SnapshotIno {
		return fs.pasts().access(ctx, c, ino, want)
	}
	if ino >= fsapi.VirtualIno {
		return fs.virt.access(ctx, c, ino, want)
	}
	n, err := fs.node(ctx, ino)
	if err != nil {
		return err
	}
	defer n.release()
	return fs.permit(ctx, c, n, want)
}

// Readlink implements FS.
func (fs *Local) Readlink(ctx context.Context, ino fsapi.Ino) (string, error) {
	if ino >= fsapi.SnapshotIno {
		return fs.pasts().readlink(ctx, ino)
	}
	n, err := fs.node(ctx, ino)
	if err != nil {
		return "", err
	}
	defer n.release()
	n.mu.RLock()
	typ, target := n.typ, n.in.Target
	n.mu.RUnlock()
	if typ != fsapi.TypeSymlink {
		return "", fsapi.Errorf(fsapi.Invalid, "inode %d is not a symlink", ino)
	}
	fs.accessed(n)
	return target, nil
}

// Parent implements FS.
func (fs *Local) Parent(ctx context.Context, ino fsapi.Ino) (fsapi.Ino, string, error) {
	if ino >= fsapi.SnapshotIno {
		return fs.pasts().parent(ctx, ino)
	}
	if ino >= fsapi.VirtualIno {
		return fs.virt.parent(ino)
	}
	n, err := fs.node(ctx, ino)
	if err != nil {
		return 0, "", err
	}
	defer n.release()
	n.mu.RLock()
	defer n.mu.RUnlock()
	switch {
	case ino == fsapi.RootIno:
		return 0, "", nil
	case n.gone || n.in.Nlink == 0:
		return 0, "", fsapi.Errorf(fsapi.NotExist, "inode %d has no name", ino)
	}
	return n.in.Parent, n.in.Name, nil
}

// Resolve implements Admin.
func (fs *Local) Resolve(ctx context.Context, c *fsapi.Cred, path string, follow bool) (fsapi.Attr, error) {
	return Walk(ctx, fs, c, path, follow)
}

// splitPath is the names of a path; "." and empty ones are left out.
func splitPath(path string) []string {
	parts := strings.Split(path, "/")
	names := parts[:0]
	for _, p := range parts {
		if p != "" && p != "." {
			names = append(names, p)
		}
	}
	return names
}
