package model

import (
	"cmp"
	"context"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// dir is an open directory. closed is guarded by FS.mu.
type dir struct {
	f      *FS
	n      *node
	closed bool
}

var _ vfs.Dir = (*dir)(nil)

// OpenDir implements vfs.FS.
func (f *FS) OpenDir(_ context.Context, c *fsapi.Cred, ino fsapi.Ino) (vfs.Dir, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.directory(ino)
	if err != nil {
		return nil, err
	}
	if err := f.may(c, n, read); err != nil {
		return nil, err
	}
	n.handles++
	return &dir{f: f, n: n}, nil
}

// Read implements vfs.Dir. Entries come in the order they were made.
func (d *dir) Read(_ context.Context, cookie uint64, attrs bool, fn func(fsapi.Dirent) bool) error {
	list, err := d.list(cookie, attrs)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !fn(e) {
			return nil
		}
	}
	return nil
}

// list is the entries after cookie, ascending by cookie.
func (d *dir) list(cookie uint64, attrs bool) ([]fsapi.Dirent, error) {
	d.f.mu.Lock()
	defer d.f.mu.Unlock()
	if d.closed {
		return nil, fsapi.Errorf(fsapi.BadHandle, "directory %d is not open", d.n.attr.Ino)
	}
	if d.n.attr.Nlink == 0 {
		return nil, nil
	}
	var list []fsapi.Dirent
	add := func(name string, n *node, at uint64) {
		if at <= cookie {
			return
		}
		e := fsapi.Dirent{Name: name, Ino: n.attr.Ino, Type: n.attr.Type, Cookie: at}
		if attrs {
			e.Attr = n.stat()
		}
		list = append(list, e)
	}
	add(".", d.n, 1)
	add("..", d.n.parent, 2)
	for name, e := range d.n.entries {
		add(name, e.node, e.cookie)
	}
	slices.SortFunc(list, func(a, b fsapi.Dirent) int { return cmp.Compare(a.Cookie, b.Cookie) })
	d.f.accessed(d.n)
	return list, nil
}

// Sync implements vfs.Dir: there is nothing to wait for.
func (d *dir) Sync(context.Context) error { return nil }

// Close implements vfs.Dir.
func (d *dir) Close() error {
	d.f.mu.Lock()
	defer d.f.mu.Unlock()
	if d.closed {
		return fsapi.Errorf(fsapi.BadHandle, "directory %d is not open", d.n.attr.Ino)
	}
	d.closed = true
	d.n.handles--
	d.f.release(d.n)
	return nil
}
