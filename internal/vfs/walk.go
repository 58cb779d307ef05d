package vfs

import (
	"context"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
)

// maxSymlinks is how many symlinks a walk follows before fsapi.Loop, as
// path_resolution(7) has it.
const maxSymlinks = 40

// Walk finds the inode at a slash-separated path from the root of fs, with or
// without a leading slash, following symlinks on the way and, with follow, at
// its end. Absolute targets start at the volume's root.
func Walk(ctx context.Context, fs FS, c *fsapi.Cred, path string, follow bool) (fsapi.Attr, error) {
	w := walker{ctx: ctx, fs: fs, c: c}
	at, err := fs.Getattr(ctx, fsapi.RootIno)
	if err != nil {
		return at, err
	}
	return w.from(at, path, follow)
}

// WalkParent finds the directory of the last name of path, and that name. The
// root has no parent: fsapi.Invalid, as for a path that ends in "." or "..".
func WalkParent(ctx context.Context, fs FS, c *fsapi.Cred, path string) (dir fsapi.Attr, name string, err error) {
	path = strings.TrimRight(path, "/")
	i := strings.LastIndexByte(path, '/')
	name = path[i+1:]
	if name == "" || name == "." || name == ".." {
		return dir, "", fsapi.Errorf(fsapi.Invalid, "%q does not name something in a directory", path)
	}
	dir, err = Walk(ctx, fs, c, path[:i+1], true)
	if err == nil && dir.Type != fsapi.TypeDirectory {
		err = fsapi.Errorf(fsapi.NotDir, "%q is not a directory", path[:i+1])
	}
	return dir, name, err
}

type walker struct {
	ctx   context.Context
	fs    FS
	c     *fsapi.Cred
	links int
}

func (w *walker) from(at fsapi.Attr, path string, follow bool) (fsapi.Attr, error) {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	mustDir := strings.HasSuffix(path, "/")
	for i, name := range parts {
		if at.Type != fsapi.TypeDirectory {
			return at, fsapi.Errorf(fsapi.NotDir, "%q is not a directory", strings.Join(parts[:i], "/"))
		}
		next, err := w.fs.Lookup(w.ctx, w.c, at.Ino, name)
		if err != nil {
			return at, err
		}
		if next.Type == fsapi.TypeSymlink && (follow || mustDir || i < len(parts)-1) {
			if next, err = w.link(at, next); err != nil {
				return at, err
			}
		}
		at = next
	}
	if mustDir && at.Type != fsapi.TypeDirectory {
		return at, fsapi.Errorf(fsapi.NotDir, "%q is not a directory", path)
	}
	return at, nil
}

func (w *walker) link(dir, link fsapi.Attr) (fsapi.Attr, error) {
	if w.links++; w.links > maxSymlinks {
		return link, fsapi.Errorf(fsapi.Loop, "more than %d symbolic links in a path", maxSymlinks)
	}
	target, err := w.fs.Readlink(w.ctx, link.Ino)
	if err != nil {
		return link, err
	}
	if strings.HasPrefix(target, "/") {
		if dir, err = w.fs.Getattr(w.ctx, fsapi.RootIno); err != nil {
			return link, err
		}
	}
	return w.from(dir, target, true)
}

// PathOf is the path of an inode from the root, with a leading slash, by the
// names it is best known by: fsapi.NotExist for orphans.
func PathOf(ctx context.Context, fs FS, ino fsapi.Ino) (string, error) {
	path := ""
	for ino != fsapi.RootIno {
		dir, name, err := fs.Parent(ctx, ino)
		if err != nil {
			return "", err
		}
		path = "/" + name + path
		ino = dir
	}
	if path == "" {
		path = "/"
	}
	return path, nil
}
