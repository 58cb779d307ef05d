package model

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// found finds a name and its directory, which c must be able to search.
func (f *FS) found(c *fsapi.Cred, dir fsapi.Ino, name string) (d, n *node, err error) {
	if d, err = f.searchable(c, dir, name); err != nil {
		return nil, nil, err
	}
	e := d.entries[name]
	if e == nil {
		return nil, nil, notExist(name)
	}
	return d, e.node, nil
}

// searchable finds a directory in which c may look for name.
func (f *FS) searchable(c *fsapi.Cred, dir fsapi.Ino, name string) (*node, error) {
	d, err := f.directory(dir)
	if err != nil {
		return nil, err
	}
	if err := f.may(c, d, execute); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if d.attr.Nlink == 0 {
		return nil, fsapi.Errorf(fsapi.NotExist, "directory %d was removed", dir)
	}
	return d, nil
}

// Unlink implements vfs.FS.
func (f *FS) Unlink(_ context.Context, c *fsapi.Cred, dir fsapi.Ino, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, n, err := f.found(c, dir, name)
	if err != nil {
		return err
	}
	if err := f.mayRemove(c, d, n); err != nil {
		return err
	}
	if n.attr.Type == fsapi.TypeDirectory {
		return fsapi.Errorf(fsapi.IsDir, "%q is a directory", name)
	}
	f.remove(c, d, name, n)
	return nil
}

// Rmdir implements vfs.FS.
func (f *FS) Rmdir(_ context.Context, c *fsapi.Cred, dir fsapi.Ino, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, n, err := f.found(c, dir, name)
	if err != nil {
		return err
	}
	if err := f.mayRemove(c, d, n); err != nil {
		return err
	}
	if n.attr.Type != fsapi.TypeDirectory {
		return fsapi.Errorf(fsapi.NotDir, "%q is not a directory", name)
	}
	if len(n.entries) > 0 {
		return fsapi.Errorf(fsapi.NotEmpty, "directory %q is not empty", name)
	}
	f.remove(c, d, name, n)
	return nil
}

// remove takes a name away, and tells.
func (f *FS) remove(c *fsapi.Cred, d *node, name string, n *node) {
	delete(d.entries, name)
	f.modified(d)
	f.unname(d, n)
	f.notify(fsapi.Change{Kind: fsapi.ChangeRemove, Ino: n.attr.Ino, Dir: d.attr.Ino, Name: name, Type: n.attr.Type, Door: c.Door})
}

// unname is what happens to n when a name of it in d goes.
func (f *FS) unname(d, n *node) {
	if n.attr.Type == fsapi.TypeDirectory {
		d.attr.Nlink--
		n.attr.Nlink = 0
	} else {
		n.attr.Nlink--
	}
	f.changed(n)
	f.release(n)
}

// Rename implements vfs.FS.
func (f *FS) Rename(_ context.Context, c *fsapi.Cred, fromDir fsapi.Ino, from string, toDir fsapi.Ino, to string, flags vfs.RenameFlags) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rename(c, fromDir, from, toDir, to, flags)
}

// rename is renameat2(2), the checks in the order of Linux's do_renameat2 and
// vfs_rename.
func (f *FS) rename(c *fsapi.Cred, fromDir fsapi.Ino, from string, toDir fsapi.Ino, to string, flags vfs.RenameFlags) error {
	const both = vfs.RenameNoReplace | vfs.RenameExchange
	if flags&^both != 0 || flags == both {
		return fsapi.Errorf(fsapi.Invalid, "%#x is not a set of rename flags", uint32(flags))
	}
	if _, err := f.searchable(c, fromDir, from); err != nil {
		return err
	}
	td, err := f.searchable(c, toDir, to)
	if err != nil {
		return err
	}
	fd, n, err := f.found(c, fromDir, from)
	if err != nil {
		return err
	}
	var victim *node
	if e := td.entries[to]; e != nil {
		victim = e.node
	}
	exchange := flags&vfs.RenameExchange != 0
	switch {
	case victim != nil && flags&vfs.RenameNoReplace != 0:
		return fsapi.Errorf(fsapi.Exist, "%q exists", to)
	case victim == nil && exchange:
		return notExist(to)
	case n.above(td):
		return fsapi.Errorf(fsapi.Invalid, "%q would become a directory below itself", from)
	case victim != nil && victim.above(fd) && exchange:
		return fsapi.Errorf(fsapi.Invalid, "%q would become a directory below itself", to)
	case victim != nil && victim.above(fd):
		return fsapi.Errorf(fsapi.NotEmpty, "directory %q is not empty", to)
	case victim == n:
		return nil
	}
	if err := f.mayRename(c, fd, n, td, victim, exchange); err != nil {
		return err
	}
	f.move(c, fd, from, n, td, to, victim, exchange)
	return nil
}

// above reports whether n is d or a directory above it.
func (n *node) above(d *node) bool {
	for {
		if d == n {
			return true
		}
		if d.parent == d {
			return false
		}
		d = d.parent
	}
}

// mayRename is the permissions and the rules of types for rename(2).
func (f *FS) mayRename(c *fsapi.Cred, fd, n, td, victim *node, exchange bool) error {
	if err := f.mayRemove(c, fd, n); err != nil {
		return err
	}
	isDir := n.attr.Type == fsapi.TypeDirectory
	if victim == nil {
		if err := f.may(c, td, write|execute); err != nil {
			return err
		}
	} else {
		if err := f.mayRemove(c, td, victim); err != nil {
			return err
		}
		victimIsDir := victim.attr.Type == fsapi.TypeDirectory
		switch {
		case exchange:
			if victimIsDir && fd != td {
				if err := f.may(c, victim, write); err != nil {
					return err
				}
			}
		case isDir && !victimIsDir:
			return fsapi.Errorf(fsapi.NotDir, "a directory cannot replace inode %d", victim.attr.Ino)
		case !isDir && victimIsDir:
			return fsapi.Errorf(fsapi.IsDir, "inode %d is a directory", victim.attr.Ino)
		}
	}
	if isDir && fd != td {
		if err := f.may(c, n, write); err != nil { // its ".." changes
			return err
		}
	}
	if victim != nil && !exchange && len(victim.entries) > 0 {
		return fsapi.Errorf(fsapi.NotEmpty, "directory %d is not empty", victim.attr.Ino)
	}
	return nil
}

// move changes the names.
func (f *FS) move(c *fsapi.Cred, fd *node, from string, n, td *node, to string, victim *node, exchange bool) {
	delete(fd.entries, from)
	if victim != nil {
		delete(td.entries, to)
	}
	td.enter(to, n)
	n.reparent(fd, td)
	f.modified(fd)
	if td != fd {
		f.modified(td)
	}
	f.changed(n)
	switch {
	case exchange:
		fd.enter(from, victim)
		victim.reparent(td, fd)
		f.changed(victim)
	case victim != nil:
		f.unname(td, victim)
		f.notify(fsapi.Change{Kind: fsapi.ChangeRemove, Ino: victim.attr.Ino, Dir: td.attr.Ino, Name: to, Type: victim.attr.Type, Door: c.Door})
	}
	f.notify(fsapi.Change{
		Kind: fsapi.ChangeRename, Ino: n.attr.Ino, Dir: td.attr.Ino, Name: to,
		FromDir: fd.attr.Ino, From: from, Type: n.attr.Type, Door: c.Door,
	})
	if exchange {
		f.notify(fsapi.Change{
			Kind: fsapi.ChangeRename, Ino: victim.attr.Ino, Dir: fd.attr.Ino, Name: from,
			FromDir: td.attr.Ino, From: to, Type: victim.attr.Type, Door: c.Door,
		})
	}
}

// reparent moves the ".." of a directory and the links it makes.
func (n *node) reparent(from, to *node) {
	if n.attr.Type == fsapi.TypeDirectory {
		from.attr.Nlink--
		to.attr.Nlink++
		n.parent = to
	}
}
