package vfstest

import (
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func linkTests() []test {
	return []test{
		{"link/one inode, two names", linkTwo},
		{"link/errors", linkErrors},
		{"link/of symlinks and fifos", linkOthers},
		{"unlink/last and other names", unlinkNames},
		{"unlink/errors", unlinkErrors},
		{"rmdir/errors", rmdirErrors},
		{"rmdir/removed directory takes no names", rmdirRemoved},
	}
}

// link gives a second name as root.
func (e *env) link(ino, dir fsapi.Ino, name string) fsapi.Attr {
	e.Helper()
	a, err := e.fs.Link(e.ctx, fsapi.Root, ino, dir, name)
	e.ok(err)
	return a
}

func linkTwo(e *env) {
	f, d := e.file(root, "f", 0o644), e.dir(root, "d", 0o755)
	a := e.link(f, d, "g")
	e.equal("number and links", []any{a.Ino, a.Nlink}, []any{f, uint32(2)})
	e.equal("lookup", e.lookup(d, "g"), f)
	e.put(f, []byte("both"))
	e.holds(e.lookup(d, "g"), []byte("both"))
	e.link(f, root, "h")
	e.equal("links", e.attr(f).Nlink, uint32(3))
}

func linkErrors(e *env) {
	f, d := e.file(root, "f", 0o644), e.dir(root, "d", 0o755)
	_, err := e.fs.Link(e.ctx, fsapi.Root, f, root, "d")
	e.fails(fsapi.Exist, err)
	_, err = e.fs.Link(e.ctx, fsapi.Root, d, root, "e")
	e.fails(fsapi.NotPermitted, err)
	_, err = e.fs.Link(e.ctx, fsapi.Root, f, f, "e")
	e.fails(fsapi.NotDir, err)
	_, err = e.fs.Link(e.ctx, alice(), f, d, "e")
	e.fails(fsapi.Access, err)
	h := e.open(f, rw)
	e.unlink(root, "f")
	_, err = e.fs.Link(e.ctx, fsapi.Root, f, root, "again")
	e.fails(fsapi.NotExist, err)
	e.ok(h.Close())
}

func linkOthers(e *env) {
	l := e.symlink(root, "l", "t")
	e.equal("links of a symlink", e.link(l, root, "m").Nlink, uint32(2))
	fifo := e.mk(fsapi.Root, root, "p", vfs.NewNode{Type: fsapi.TypeFIFO, Mode: 0o600}).Ino
	e.equal("links of a fifo", e.link(fifo, root, "q").Nlink, uint32(2))
	e.unlink(root, "l")
	target, err := e.fs.Readlink(e.ctx, l)
	e.ok(err)
	e.equal("target", target, "t")
}

func unlinkNames(e *env) {
	f := e.file(root, "f", 0o644)
	e.put(f, []byte("x"))
	e.link(f, root, "g")
	e.unlink(root, "f")
	e.absent(root, "f")
	e.equal("links", e.attr(f).Nlink, uint32(1))
	e.holds(f, []byte("x"))
	e.unlink(root, "g")
	_, err := e.fs.Getattr(e.ctx, f)
	e.fails(fsapi.Stale, err)
	e.equal("names", e.names(root), []string{})
}

func unlinkErrors(e *env) {
	d := e.dir(root, "d", 0o755)
	e.file(d, "f", 0o666)
	e.fails(fsapi.NotExist, e.fs.Unlink(e.ctx, fsapi.Root, root, "nothing"))
	e.fails(fsapi.IsDir, e.fs.Unlink(e.ctx, fsapi.Root, root, "d"))
	e.fails(fsapi.Access, e.fs.Unlink(e.ctx, alice(), d, "f"))
	e.fails(fsapi.NotExist, e.fs.Unlink(e.ctx, alice(), d, "nothing"))
	e.ok(e.chmod(fsapi.Root, d, 0o644))
	e.fails(fsapi.Access, e.fs.Unlink(e.ctx, alice(), d, "nothing"))
}

func rmdirErrors(e *env) {
	d := e.dir(root, "d", 0o755)
	e.file(d, "f", 0o644)
	e.dir(d, "sub", 0o777)
	e.fails(fsapi.NotExist, e.fs.Rmdir(e.ctx, fsapi.Root, root, "nothing"))
	e.fails(fsapi.NotDir, e.fs.Rmdir(e.ctx, fsapi.Root, d, "f"))
	e.fails(fsapi.NotEmpty, e.fs.Rmdir(e.ctx, fsapi.Root, root, "d"))
	e.fails(fsapi.Access, e.fs.Rmdir(e.ctx, alice(), d, "sub"))
	e.unlink(d, "f")
	e.ok(e.fs.Rmdir(e.ctx, fsapi.Root, d, "sub"))
	e.ok(e.fs.Rmdir(e.ctx, fsapi.Root, root, "d"))
	e.absent(root, "d")
}

func rmdirRemoved(e *env) {
	d := e.dir(root, "d", 0o755)
	f := e.file(root, "f", 0o644)
	open, err := e.fs.OpenDir(e.ctx, fsapi.Root, d)
	e.ok(err)
	e.ok(e.fs.Rmdir(e.ctx, fsapi.Root, root, "d"))
	_, err = e.fs.Mknod(e.ctx, fsapi.Root, d, "x", vfs.NewNode{Type: fsapi.TypeRegular})
	e.fails(fsapi.NotExist, err)
	_, err = e.fs.Link(e.ctx, fsapi.Root, f, d, "x")
	e.fails(fsapi.NotExist, err)
	e.fails(fsapi.NotExist, e.rename(root, "f", d, "x", 0))
	e.equal("links", e.attr(d).Nlink, uint32(0))
	e.ok(open.Read(e.ctx, 0, false, func(en fsapi.Dirent) bool {
		if en.Name != "." && en.Name != ".." {
			e.Errorf("a removed directory lists %q", en.Name)
		}
		return true
	}))
	e.ok(open.Close())
	e.gone(d)
}
