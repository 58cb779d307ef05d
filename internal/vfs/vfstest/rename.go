package vfstest

import (
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func renameTests() []test {
	return []test{
		{"rename/matrix of types", renameMatrix},
		{"rename/file to a new name", renameNew},
		{"rename/replaced file goes", renameReplaces},
		{"rename/replaced file that is open lives on", renameReplacesOpen},
		{"rename/links of one inode", renameSameInode},
		{"rename/onto itself", renameSelf},
		{"rename/directory between directories", renameDirectory},
		{"rename/directory into its own subtree", renameBelow},
		{"rename/over a directory above", renameAbove},
		{"rename/no replace", renameNoReplace},
		{"rename/exchange", renameExchange},
		{"rename/exchange of directory and file", renameExchangeTypes},
		{"rename/exchange with what is above", renameExchangeAbove},
		{"rename/flags", renameFlags},
		{"rename/missing", renameMissing},
		{"rename/permissions", renamePermissions},
		{"rename/directory needs write permission on itself", renameDotDot},
	}
}

// renameMatrix replaces each kind of thing by each other.
func renameMatrix(e *env) {
	kinds := []string{"file", "link", "fifo", "empty", "full"}
	want := func(from, to string) fsapi.Kind {
		fromDir, toDir := from == "empty" || from == "full", to == "empty" || to == "full"
		switch {
		case fromDir && !toDir:
			return fsapi.NotDir
		case !fromDir && toDir:
			return fsapi.IsDir
		case to == "full":
			return fsapi.NotEmpty
		}
		return fsapi.Other
	}
	for _, from := range kinds {
		for _, to := range kinds {
			d := e.dir(root, from+to, 0o755)
			src := e.thing(d, "from", from)
			dst := e.thing(d, "to", to)
			err := e.rename(d, "from", d, "to", 0)
			if kind := want(from, to); kind != fsapi.Other {
				e.fails(kind, err)
				e.equal("names after "+from+" over "+to, e.names(d), []string{"from", "to"})
				e.equal("target", e.lookup(d, "to"), dst)
				continue
			}
			e.ok(err)
			e.equal("names after "+from+" over "+to, e.names(d), []string{"to"})
			e.equal("target", e.lookup(d, "to"), src)
			_, err = e.fs.Getattr(e.ctx, dst)
			e.fails(fsapi.Stale, err)
		}
	}
}

// thing makes something of a kind that renameMatrix knows.
func (e *env) thing(d fsapi.Ino, name, kind string) fsapi.Ino {
	e.Helper()
	switch kind {
	case "file":
		return e.file(d, name, 0o644)
	case "link":
		return e.symlink(d, name, "x")
	case "fifo":
		return e.mk(fsapi.Root, d, name, vfs.NewNode{Type: fsapi.TypeFIFO, Mode: 0o644}).Ino
	case "full":
		n := e.dir(d, name, 0o755)
		e.file(n, "in", 0o644)
		return n
	}
	return e.dir(d, name, 0o755)
}

func renameNew(e *env) {
	f, d := e.file(root, "f", 0o644), e.dir(root, "d", 0o755)
	e.put(f, []byte("content"))
	e.ok(e.rename(root, "f", d, "g", 0))
	e.absent(root, "f")
	e.equal("number", e.lookup(d, "g"), f)
	e.equal("links", e.attr(f).Nlink, uint32(1))
	e.holds(f, []byte("content"))
}

func renameReplaces(e *env) {
	f, g := e.file(root, "f", 0o644), e.file(root, "g", 0o644)
	e.put(f, []byte("new"))
	e.put(g, []byte("old"))
	e.link(g, root, "other")
	e.ok(e.rename(root, "f", root, "g", 0))
	e.holds(e.lookup(root, "g"), []byte("new"))
	e.holds(e.lookup(root, "other"), []byte("old"))
	e.equal("links", e.attr(g).Nlink, uint32(1))
}

func renameReplacesOpen(e *env) {
	e.file(root, "f", 0o644)
	g := e.file(root, "g", 0o644)
	e.put(g, []byte("old"))
	h := e.open(g, rw)
	e.ok(e.rename(root, "f", root, "g", 0))
	e.equal("bytes", string(e.read(h, 10, 0)), "old")
	a, err := h.Attr(e.ctx)
	e.ok(err)
	e.equal("links", a.Nlink, uint32(0))
}

func renameSameInode(e *env) {
	f := e.file(root, "f", 0o644)
	e.link(f, root, "g")
	e.ok(e.rename(root, "f", root, "g", 0))
	e.equal("names", e.names(root), []string{"f", "g"})
	e.equal("links", e.attr(f).Nlink, uint32(2))
	e.ok(e.rename(root, "f", root, "g", vfs.RenameExchange))
	e.equal("names", e.names(root), []string{"f", "g"})
}

func renameSelf(e *env) {
	f, d := e.file(root, "f", 0o644), e.dir(root, "d", 0o755)
	e.file(d, "in", 0o644)
	e.ok(e.rename(root, "f", root, "f", 0))
	e.ok(e.rename(root, "d", root, "d", 0))
	e.equal("f", e.lookup(root, "f"), f)
	e.fails(fsapi.Exist, e.rename(root, "f", root, "f", vfs.RenameNoReplace))
	e.fails(fsapi.NotExist, e.rename(root, "no", root, "no", 0))
}

func renameDirectory(e *env) {
	a, b := e.dir(root, "a", 0o755), e.dir(root, "b", 0o755)
	d := e.dir(a, "d", 0o755)
	e.file(d, "f", 0o644)
	e.ok(e.rename(a, "d", b, "d", 0))
	e.equal("links of a", e.attr(a).Nlink, uint32(2))
	e.equal("links of b", e.attr(b).Nlink, uint32(3))
	e.equal("links of d", e.attr(d).Nlink, uint32(2))
	e.equal("d/..", e.lookup(d, ".."), b)
	e.equal("in d", e.names(d), []string{"f"})
	e.dir(a, "d", 0o755)
	e.ok(e.rename(b, "d", a, "d", 0))
	e.equal("links of a", e.attr(a).Nlink, uint32(3))
	e.equal("links of b", e.attr(b).Nlink, uint32(2))
}

func renameBelow(e *env) {
	a := e.dir(root, "a", 0o755)
	b := e.dir(a, "b", 0o755)
	c := e.dir(b, "c", 0o755)
	e.fails(fsapi.Invalid, e.rename(root, "a", a, "x", 0))
	e.fails(fsapi.Invalid, e.rename(root, "a", c, "x", 0))
	e.fails(fsapi.Invalid, e.rename(root, "a", b, "c", 0))
	e.ok(e.rename(b, "c", root, "c", 0))
	e.ok(e.rename(root, "a", c, "a", 0))
	e.equal("a/..", e.lookup(a, ".."), c)
}

func renameAbove(e *env) {
	a := e.dir(root, "a", 0o755)
	b := e.dir(a, "b", 0o755)
	e.dir(b, "c", 0o755)
	e.file(b, "f", 0o644)
	e.fails(fsapi.NotEmpty, e.rename(b, "c", root, "a", 0))
	e.fails(fsapi.NotEmpty, e.rename(b, "c", a, "b", 0))
}

func renameNoReplace(e *env) {
	f, g := e.file(root, "f", 0o644), e.file(root, "g", 0o644)
	e.fails(fsapi.Exist, e.rename(root, "f", root, "g", vfs.RenameNoReplace))
	e.equal("f", e.lookup(root, "f"), f)
	e.equal("g", e.lookup(root, "g"), g)
	e.ok(e.rename(root, "f", root, "h", vfs.RenameNoReplace))
	e.equal("h", e.lookup(root, "h"), f)
	e.absent(root, "f")
}

func renameExchange(e *env) {
	d := e.dir(root, "d", 0o755)
	f, g := e.file(root, "f", 0o644), e.file(d, "g", 0o644)
	e.ok(e.rename(root, "f", d, "g", vfs.RenameExchange))
	e.equal("f", e.lookup(root, "f"), g)
	e.equal("d/g", e.lookup(d, "g"), f)
	e.fails(fsapi.NotExist, e.rename(root, "f", d, "nothing", vfs.RenameExchange))
	e.fails(fsapi.NotExist, e.rename(root, "nothing", d, "g", vfs.RenameExchange))
}

func renameExchangeTypes(e *env) {
	a, b := e.dir(root, "a", 0o755), e.dir(root, "b", 0o755)
	sub := e.dir(a, "x", 0o755)
	e.file(sub, "in", 0o644)
	f := e.file(b, "y", 0o644)
	e.ok(e.rename(a, "x", b, "y", vfs.RenameExchange))
	e.equal("a/x", e.lookup(a, "x"), f)
	e.equal("b/y", e.lookup(b, "y"), sub)
	e.equal("b/y/..", e.lookup(sub, ".."), b)
	e.equal("links", []uint32{e.attr(a).Nlink, e.attr(b).Nlink}, []uint32{2, 3})
}

func renameExchangeAbove(e *env) {
	a := e.dir(root, "a", 0o755)
	b := e.dir(a, "b", 0o755)
	e.fails(fsapi.Invalid, e.rename(a, "b", root, "a", vfs.RenameExchange))
	e.fails(fsapi.Invalid, e.rename(root, "a", a, "b", vfs.RenameExchange))
	e.equal("a/b", e.lookup(a, "b"), b)
}

func renameFlags(e *env) {
	e.file(root, "f", 0o644)
	e.fails(fsapi.Invalid, e.rename(root, "f", root, "g", vfs.RenameNoReplace|vfs.RenameExchange))
	e.fails(fsapi.Invalid, e.rename(root, "f", root, "g", 1<<7))
	e.lookup(root, "f")
}

func renameMissing(e *env) {
	d := e.dir(root, "d", 0o755)
	e.fails(fsapi.NotExist, e.rename(root, "nothing", d, "x", 0))
	e.file(d, "x", 0o644)
	e.fails(fsapi.NotExist, e.rename(root, "nothing", d, "x", 0))
	e.fails(fsapi.Stale, e.rename(1<<40, "x", d, "y", 0))
	e.fails(fsapi.Stale, e.rename(d, "x", 1<<40, "y", 0))
}

func renamePermissions(e *env) {
	open, shut := e.dir(root, "open", 0o777), e.dir(root, "shut", 0o755)
	e.fileOf(alice(), open, "f", 0o644)
	e.file(shut, "g", 0o666)
	mv := func(from fsapi.Ino, name string, to fsapi.Ino, as string) error {
		return e.fs.Rename(e.ctx, alice(), from, name, to, as, 0)
	}
	e.fails(fsapi.Access, mv(open, "f", shut, "x"))
	e.fails(fsapi.Access, mv(open, "f", shut, "g"))
	e.fails(fsapi.Access, mv(shut, "g", open, "x"))
	e.ok(mv(open, "f", open, "x"))
	e.ok(e.chmod(fsapi.Root, open, 0o666))
	e.fails(fsapi.Access, mv(open, "x", open, "y"))
}

func renameDotDot(e *env) {
	a, b := e.dir(root, "a", 0o777), e.dir(root, "b", 0o777)
	d := e.dir(a, "d", 0o755)
	e.fails(fsapi.Access, e.fs.Rename(e.ctx, alice(), a, "d", b, "d", 0))
	e.ok(e.fs.Rename(e.ctx, alice(), a, "d", a, "e", 0))
	e.ok(e.chmod(fsapi.Root, d, 0o777))
	e.ok(e.fs.Rename(e.ctx, alice(), a, "e", b, "d", 0))
}
