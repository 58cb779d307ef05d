package vfstest

import (
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func nameTests() []test {
	return []test{
		{"lookup/root", lookupRoot},
		{"lookup/dots", lookupDots},
		{"lookup/missing", func(e *env) { e.absent(root, "nothing") }},
		{"lookup/in a file", lookupInFile},
		{"lookup/inode that never was", lookupStale},
		{"names/255 bytes", nameLongest},
		{"names/256 bytes", nameTooLong},
		{"names/not UTF-8", nameBytes},
		{"names/case matters", nameCase},
		{"names/not single components", nameInvalid},
	}
}

func lookupRoot(e *env) {
	a := e.attr(root)
	a.Atime, a.Mtime, a.Ctime, a.Btime, a.Change, a.Size, a.Used = fsapi.Attr{}.Atime, fsapi.Attr{}.Mtime, fsapi.Attr{}.Ctime, fsapi.Attr{}.Btime, 0, 0, 0
	e.equal("root", a, fsapi.Attr{Ino: root, Type: fsapi.TypeDirectory, Mode: 0o755, Nlink: 2})
}

func lookupDots(e *env) {
	d := e.dir(root, "d", 0o755)
	sub := e.dir(d, "sub", 0o755)
	e.equal("sub/.", e.lookup(sub, "."), sub)
	e.equal("sub/..", e.lookup(sub, ".."), d)
	e.equal("d/..", e.lookup(d, ".."), root)
	e.equal("/..", e.lookup(root, ".."), root)
	e.ok(e.rename(d, "sub", root, "moved", 0))
	e.equal("moved/..", e.lookup(sub, ".."), root)
}

func lookupInFile(e *env) {
	f := e.file(root, "f", 0o644)
	_, err := e.fs.Lookup(e.ctx, fsapi.Root, f, "x")
	e.fails(fsapi.NotDir, err)
	_, err = e.fs.Mknod(e.ctx, fsapi.Root, f, "x", vfs.NewNode{Type: fsapi.TypeRegular})
	e.fails(fsapi.NotDir, err)
	e.fails(fsapi.NotDir, e.fs.Unlink(e.ctx, fsapi.Root, f, "x"))
	_, err = e.fs.OpenDir(e.ctx, fsapi.Root, f)
	e.fails(fsapi.NotDir, err)
	e.fails(fsapi.NotDir, e.rename(f, "x", root, "y", 0))
	e.fails(fsapi.NotDir, e.rename(root, "f", f, "y", 0))
}

func lookupStale(e *env) {
	const gone = 1 << 40
	_, err := e.fs.Getattr(e.ctx, gone)
	e.fails(fsapi.Stale, err)
	_, err = e.fs.Lookup(e.ctx, fsapi.Root, gone, "x")
	e.fails(fsapi.Stale, err)
	_, err = e.fs.Open(e.ctx, fsapi.Root, gone, rw)
	e.fails(fsapi.Stale, err)
	_, err = e.fs.OpenDir(e.ctx, fsapi.Root, gone)
	e.fails(fsapi.Stale, err)
	e.fails(fsapi.Stale, e.chmod(fsapi.Root, gone, 0o600))
	_, err = e.fs.Readlink(e.ctx, gone)
	e.fails(fsapi.Stale, err)
	_, err = e.fs.Listxattr(e.ctx, fsapi.Root, gone)
	e.fails(fsapi.Stale, err)
	_, err = e.fs.Link(e.ctx, fsapi.Root, gone, root, "x")
	e.fails(fsapi.Stale, err)
	_, _, err = e.fs.Parent(e.ctx, gone)
	e.fails(fsapi.Stale, err)
	f := e.file(root, "f", 0o644)
	e.unlink(root, "f")
	_, err = e.fs.Getattr(e.ctx, f)
	e.fails(fsapi.Stale, err)
}

func nameLongest(e *env) {
	long := strings.Repeat("n", fsapi.MaxName)
	f := e.file(root, long, 0o644)
	e.equal("lookup", e.lookup(root, long), f)
	e.equal("listing", e.names(root), []string{long})
	e.ok(e.rename(root, long, root, long[1:]+"m", 0))
	e.unlink(root, long[1:]+"m")
}

func nameTooLong(e *env) {
	long := strings.Repeat("n", fsapi.MaxName+1)
	d := e.dir(root, "d", 0o755)
	e.file(root, "f", 0o644)
	e.everyName(d, long, fsapi.NameTooLong)
}

func nameInvalid(e *env) {
	d := e.dir(root, "d", 0o755)
	e.file(root, "f", 0o644)
	for _, bad := range []string{"", "a/b", "/", "a\x00b", "\x00"} {
		_, err := e.fs.Lookup(e.ctx, fsapi.Root, d, bad)
		e.fails(fsapi.Invalid, err)
		e.everyName(d, bad, fsapi.Invalid)
	}
	for _, bad := range []string{".", ".."} {
		e.everyName(d, bad, fsapi.Invalid)
	}
}

// everyName tries a bad name wherever a call takes one but Lookup.
func (e *env) everyName(d fsapi.Ino, bad string, want fsapi.Kind) {
	e.Helper()
	_, err := e.fs.Mknod(e.ctx, fsapi.Root, d, bad, vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
	e.fails(want, err)
	_, _, err = e.fs.Create(e.ctx, fsapi.Root, d, bad, vfs.NewNode{Mode: 0o644}, rw)
	e.fails(want, err)
	_, err = e.fs.Link(e.ctx, fsapi.Root, e.lookup(root, "f"), d, bad)
	e.fails(want, err)
	e.fails(want, e.fs.Unlink(e.ctx, fsapi.Root, d, bad))
	e.fails(want, e.fs.Rmdir(e.ctx, fsapi.Root, d, bad))
	e.fails(want, e.rename(root, "f", d, bad, 0))
	e.fails(want, e.rename(d, bad, root, "g", 0))
}

func nameBytes(e *env) {
	for _, name := range []string{"\xff\xfe", "\xc0\xaf", "a\nb", " ", "..a", "...", "\x01", "é", "e\u0301"} {
		f := e.file(root, name, 0o644)
		e.equal("lookup", e.lookup(root, name), f)
	}
	e.equal("count", len(e.names(root)), 9)
	e.unlink(root, "\xff\xfe")
	e.absent(root, "\xff\xfe")
	e.lookup(root, "\xc0\xaf")
}

func nameCase(e *env) {
	a, b := e.file(root, "name", 0o644), e.file(root, "NAME", 0o644)
	if a == b || e.lookup(root, "NAME") != b {
		e.Fatal("names are folded")
	}
}
