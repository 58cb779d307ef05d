package model

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Bounds of a batch, as vfs.Op says.
const (
	maxOpData    = 1 << 20
	maxBatchData = 8 << 20
)

// Batch implements vfs.FS: does everything, and undoes everything where one
// operation fails.
func (f *FS) Batch(_ context.Context, c *fsapi.Cred, ops []vfs.Op) ([]fsapi.Attr, error) {
	if err := checkBatch(ops); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	saved := f.save()
	f.inBatch = true
	attrs, err := f.batch(c, ops)
	f.inBatch = false
	changes := f.pending
	f.pending = nil
	if err != nil {
		f.restore(saved)
		return nil, err
	}
	for _, ch := range changes {
		f.notify(ch)
	}
	return attrs, nil
}

func checkBatch(ops []vfs.Op) error {
	total := 0
	for i, op := range ops {
		total += len(op.Data)
		if len(op.Data) > maxOpData || total > maxBatchData {
			return fsapi.Errorf(fsapi.TooBig, "operation %d of the batch has too much data", i)
		}
	}
	return nil
}

func (f *FS) batch(c *fsapi.Cred, ops []vfs.Op) ([]fsapi.Attr, error) {
	attrs := make([]fsapi.Attr, len(ops))
	for i, op := range ops {
		n, err := f.do(c, op)
		if err != nil {
			return nil, fsapi.Wrap(fsapi.KindOf(err), err, "operation on "+op.Path)
		}
		if n != nil {
			attrs[i] = n.stat()
		}
	}
	return attrs, nil
}

// do is one operation; the result is the inode it made or changed, nil for
// OpRemove.
func (f *FS) do(c *fsapi.Cred, op vfs.Op) (*node, error) {
	if op.Path == "" || strings.Trim(op.Path, "/") == "" {
		if op.Kind != vfs.OpSetattr {
			return nil, fsapi.Errorf(fsapi.Invalid, "the root cannot be made, moved or removed")
		}
	}
	d, name, err := f.resolve(c, op.Path, op.Parents)
	if err != nil {
		return nil, err
	}
	var n *node
	if name == "" {
		n = d
	} else if e := d.entries[name]; e != nil {
		n = e.node
	}
	if err := f.precondition(n, op); err != nil {
		return nil, err
	}
	if op.Kind == vfs.OpMkdir || op.Kind == vfs.OpPut || op.Kind == vfs.OpSymlink || op.Kind == vfs.OpMknod {
		return f.doMake(c, d, name, n, op)
	}
	if n == nil {
		return nil, notExist(op.Path)
	}
	switch op.Kind {
	case vfs.OpRemove:
		return nil, f.doRemove(c, d, name, n)
	case vfs.OpSetattr:
		return n, f.setattr(c, n, op.Set)
	case vfs.OpRename, vfs.OpLink:
		td, to, err := f.resolve(c, op.To, op.Parents)
		if err != nil {
			return nil, err
		}
		if op.Kind == vfs.OpLink {
			return n, f.link(c, n, td.attr.Ino, to)
		}
		return n, f.rename(c, d.attr.Ino, name, td.attr.Ino, to, 0)
	}
	return nil, fsapi.Errorf(fsapi.Invalid, "%d is not an operation", op.Kind)
}

// precondition is IfAbsent, IfChange and IfIno.
func (f *FS) precondition(n *node, op vfs.Op) error {
	present := op.IfAbsent && n != nil
	changed := op.IfChange != 0 && (n == nil || n.attr.Change != op.IfChange)
	other := op.IfIno != 0 && (n == nil || n.attr.Ino != op.IfIno)
	if present || changed || other {
		return fsapi.Errorf(fsapi.Precondition, "%q is not as the request expects", op.Path)
	}
	return nil
}

// resolve walks to the directory of a path. Symlinks are not followed. With
// parents, missing directories are made.
func (f *FS) resolve(c *fsapi.Cred, path string, parents bool) (*node, string, error) {
	d := f.nodes[fsapi.RootIno]
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if parts[0] == "" {
		return d, "", nil
	}
	for i, name := range parts {
		if err := checkName(name); err != nil {
			return nil, "", err
		}
		if d.attr.Type != fsapi.TypeDirectory {
			return nil, "", fsapi.Errorf(fsapi.NotDir, "%q is not a directory", strings.Join(parts[:i], "/"))
		}
		if err := f.may(c, d, execute); err != nil {
			return nil, "", err
		}
		if i == len(parts)-1 {
			break
		}
		e := d.entries[name]
		if e == nil && !parents {
			return nil, "", notExist(name)
		}
		if e == nil {
			n, err := f.makeIn(c, d, name, vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
			if err != nil {
				return nil, "", err
			}
			d = n
			continue
		}
		d = e.node
	}
	return d, parts[len(parts)-1], nil
}

func (f *FS) makeIn(c *fsapi.Cred, d *node, name string, w vfs.NewNode) (*node, error) {
	if err := checkNew(w); err != nil {
		return nil, err
	}
	if _, err := f.creatable(c, d.attr.Ino, name); err != nil {
		return nil, err
	}
	return f.make(c, d, name, w)
}

// doMake is OpMkdir, OpPut, OpSymlink and OpMknod; n is what is there, or nil.
func (f *FS) doMake(c *fsapi.Cred, d *node, name string, n *node, op vfs.Op) (*node, error) {
	mode := func(d uint32) uint32 {
		if op.Mode != 0 {
			return op.Mode
		}
		return d
	}
	switch {
	case op.Kind == vfs.OpMkdir && op.Parents && n != nil && n.attr.Type == fsapi.TypeDirectory:
		return n, nil
	case op.Kind == vfs.OpMkdir:
		return f.makeIn(c, d, name, vfs.NewNode{Type: fsapi.TypeDirectory, Mode: mode(0o755)})
	case op.Kind == vfs.OpMknod && (op.Type == fsapi.TypeRegular || op.Type == fsapi.TypeDirectory || op.Type == fsapi.TypeSymlink || op.Type == 0):
		return nil, fsapi.Errorf(fsapi.Invalid, "%s: mknod of type %v", op.Path, op.Type)
	case op.Kind == vfs.OpMknod:
		return f.makeIn(c, d, name, vfs.NewNode{Type: op.Type, Mode: mode(0o644), Rdev: op.Rdev})
	case op.Kind == vfs.OpSymlink:
		return f.makeIn(c, d, name, vfs.NewNode{Type: fsapi.TypeSymlink, Target: op.Target})
	}
	if n == nil {
		made, err := f.makeIn(c, d, name, vfs.NewNode{Type: fsapi.TypeRegular, Mode: mode(0o644)})
		if err != nil {
			return nil, err
		}
		n = made
	} else if h, err := f.open(c, n, vfs.OpenWrite|vfs.OpenTrunc); err != nil {
		return nil, err
	} else {
		h.(*file).n.handles--
	}
	if f.used+int64(len(op.Data)) > f.o.Capacity {
		return nil, fsapi.Errorf(fsapi.NoSpace, "the volume is full")
	}
	f.edit(n, func(d *content) { d.write(op.Data, 0) })
	f.written(c, n)
	f.notifyContent(c, n, 0, -1)
	return n, nil
}

// doRemove is OpRemove.
func (f *FS) doRemove(c *fsapi.Cred, d *node, name string, n *node) error {
	if err := f.mayRemove(c, d, n); err != nil {
		return err
	}
	if len(n.entries) > 0 {
		return fsapi.Errorf(fsapi.NotEmpty, "directory %q is not empty", name)
	}
	f.remove(c, d, name, n)
	return nil
}

// saved is a whole volume to go back to.
type saved struct {
	nodes map[fsapi.Ino]*node // the nodes themselves
	was   map[*node]node      // their values
	last  fsapi.Ino
	used  int64
}

func (f *FS) save() saved {
	s := saved{nodes: maps.Clone(f.nodes), was: map[*node]node{}, last: f.lastIno, used: f.used}
	for _, n := range f.nodes {
		s.was[n] = n.clone()
	}
	return s
}

func (f *FS) restore(s saved) {
	f.nodes, f.lastIno, f.used = s.nodes, s.last, s.used
	for n, was := range s.was {
		*n = was
	}
}

// clone is a copy whose changes do not touch n.
func (n *node) clone() node {
	d := *n
	d.entries = maps.Clone(n.entries)
	d.xattrs = maps.Clone(n.xattrs)
	d.data.ranges = slices.Clone(n.data.ranges)
	d.access = slices.Clone(n.access)
	d.deflt = slices.Clone(n.deflt)
	d.locks = slices.Clone(n.locks)
	d.flocks = slices.Clone(n.flocks)
	return d
}
