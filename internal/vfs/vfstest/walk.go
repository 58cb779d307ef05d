package vfstest

import (
	"fmt"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func walkTests() []test {
	return []test{
		{"walk/paths", walkPaths},
		{"walk/symlinks", walkSymlinks},
		{"walk/loops", walkLoops},
		{"walk/parents", walkParents},
		{"walk/path of an inode", walkPathOf},
		{"walk/permissions", walkPermissions},
	}
}

// walks wants a path to lead to an inode, or fail with a kind.
func (e *env) walks(path string, follow bool, want fsapi.Ino, kind fsapi.Kind) {
	e.Helper()
	a, err := vfs.Walk(e.ctx, e.fs, fsapi.Root, path, follow)
	e.either(kind, err)
	if err == nil && a.Ino != want {
		e.Fatalf("%q leads to inode %d, want %d", path, a.Ino, want)
	}
}

func walkPaths(e *env) {
	d := e.dir(root, "d", 0o755)
	f := e.file(d, "f", 0o644)
	for _, path := range []string{"", "/", ".", "..", "d/..", "//"} {
		e.walks(path, true, root, 0)
	}
	for _, path := range []string{"d/f", "/d/f", "d//f", "./d/./f", "d/../d/f"} {
		e.walks(path, true, f, 0)
	}
	e.walks("d/", true, d, 0)
	e.walks("d/f/", true, 0, fsapi.NotDir)
	e.walks("d/f/x", true, 0, fsapi.NotDir)
	e.walks("d/x", true, 0, fsapi.NotExist)
	e.walks("x/f", true, 0, fsapi.NotExist)
}

func walkSymlinks(e *env) {
	d := e.dir(root, "d", 0o755)
	f := e.file(d, "f", 0o644)
	l := e.symlink(d, "l", "f")
	e.walks("d/l", true, f, 0)
	e.walks("d/l", false, l, 0)
	e.symlink(root, "abs", "/d")
	e.walks("abs/f", false, f, 0)
	e.symlink(d, "up", "../d/l")
	e.walks("d/up", true, f, 0)
	dir := e.symlink(root, "dir", "d/")
	e.walks("dir", false, dir, 0)
	e.walks("dir/", false, d, 0)
	e.symlink(root, "dangling", "nowhere")
	e.walks("dangling", true, 0, fsapi.NotExist)
}

func walkLoops(e *env) {
	e.symlink(root, "a", "b")
	e.symlink(root, "b", "a")
	e.walks("a", true, 0, fsapi.Loop)
	e.walks("a/x", false, 0, fsapi.Loop)
	f := e.file(root, "l0", 0o644)
	for i := range 40 {
		e.symlink(root, fmt.Sprint("l", i+1), fmt.Sprint("l", i))
	}
	e.walks("l40", true, f, 0)
	e.symlink(root, "l41", "l40")
	e.walks("l41", true, 0, fsapi.Loop)
}

func walkParents(e *env) {
	d := e.dir(root, "d", 0o755)
	e.file(d, "f", 0o644)
	for path, name := range map[string]string{"d/new": "new", "/d/f/": "f", "d//x": "x"} {
		a, got, err := vfs.WalkParent(e.ctx, e.fs, fsapi.Root, path)
		e.ok(err)
		e.equal("parent of "+path, []any{a.Ino, got}, []any{d, name})
	}
	for path, kind := range map[string]fsapi.Kind{"": fsapi.Invalid, "/": fsapi.Invalid, "d/..": fsapi.Invalid, "x/y": fsapi.NotExist, "d/f/y": fsapi.NotDir} {
		_, _, err := vfs.WalkParent(e.ctx, e.fs, fsapi.Root, path)
		e.fails(kind, err)
	}
}

func walkPathOf(e *env) {
	d := e.dir(e.dir(root, "a", 0o755), "b", 0o755)
	f := e.file(d, "f", 0o644)
	path := func(ino fsapi.Ino, want string) {
		e.Helper()
		got, err := vfs.PathOf(e.ctx, e.fs, ino)
		e.ok(err)
		e.equal("path", got, want)
	}
	path(root, "/")
	path(d, "/a/b")
	path(f, "/a/b/f")
	e.ok(e.rename(root, "a", root, "c", 0))
	path(f, "/c/b/f")
	e.link(f, root, "g")
	e.unlink(d, "f")
	path(f, "/g")
	h := e.open(f, rw)
	e.unlink(root, "g")
	_, err := vfs.PathOf(e.ctx, e.fs, f)
	e.fails(fsapi.NotExist, err)
	e.ok(h.Close())
}

func walkPermissions(e *env) {
	d := e.dir(root, "d", 0o700)
	e.file(d, "f", 0o644)
	_, err := vfs.Walk(e.ctx, e.fs, alice(), "d/f", true)
	e.fails(fsapi.Access, err)
	_, err = vfs.Walk(e.ctx, e.fs, alice(), "d", true)
	e.ok(err)
}
