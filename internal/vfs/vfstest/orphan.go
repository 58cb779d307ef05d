package vfstest

import (
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func orphanTests() []test {
	return []test{
		{"orphan/reads and writes go on", orphanUse},
		{"orphan/goes with the last handle", orphanEnd},
		{"orphan/name can be made again", orphanName},
		{"orphan/attributes", orphanAttributes},
		{"orphan/opened again by number", orphanReopen},
	}
}

func orphanUse(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	e.write(h, pattern(100_000, 1), 0)
	e.unlink(root, "f")
	e.same(e.read(h, 100_000, 0), pattern(100_000, 1))
	e.write(h, pattern(100_000, 2), 50_000)
	e.ok(h.Sync(e.ctx, false))
	e.same(e.read(h, 200_000, 50_000), pattern(100_000, 2))
	e.ok(h.Truncate(e.ctx, 10))
	e.ok(h.Allocate(e.ctx, 0, 0, 20))
	a, err := h.Attr(e.ctx)
	e.ok(err)
	e.equal("links and size", []any{a.Nlink, a.Size}, []any{uint32(0), int64(20)})
}

func orphanEnd(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.open(f, rw), e.open(f, vfs.OpenRead)
	e.unlink(root, "f")
	e.ok(a.Close())
	e.equal("links", e.attr(f).Nlink, uint32(0))
	e.ok(b.Close())
	e.gone(f)
	_, err := e.fs.Open(e.ctx, fsapi.Root, f, rw)
	e.fails(fsapi.Stale, err)
}

func orphanName(e *env) {
	old := e.file(root, "f", 0o644)
	h := e.open(old, rw)
	e.write(h, []byte("old"), 0)
	e.unlink(root, "f")
	f := e.file(root, "f", 0o644)
	e.put(f, []byte("new"))
	e.equal("bytes of the orphan", string(e.read(h, 9, 0)), "old")
	e.holds(e.lookup(root, "f"), []byte("new"))
	if f == old {
		e.Fatal("the number of an orphan was used again")
	}
}

func orphanAttributes(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	e.unlink(root, "f")
	e.ok(e.chmod(fsapi.Root, f, 0o600))
	e.ok(e.truncate(fsapi.Root, f, 5))
	e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, f, "user.a", []byte("v"), 0))
	v, err := e.fs.Getxattr(e.ctx, fsapi.Root, f, "user.a")
	e.ok(err)
	e.equal("attribute", string(v), "v")
	a, err := h.Attr(e.ctx)
	e.ok(err)
	e.equal("mode and size", []any{a.Mode, a.Size}, []any{uint32(0o600), int64(5)})
	_, _, err = e.fs.Parent(e.ctx, f)
	e.fails(fsapi.NotExist, err)
}

func orphanReopen(e *env) {
	f := e.file(root, "f", 0o644)
	a := e.open(f, rw)
	e.write(a, []byte("x"), 0)
	e.unlink(root, "f")
	b := e.open(f, vfs.OpenRead)
	e.ok(a.Close())
	e.equal("bytes", string(e.read(b, 9, 0)), "x")
	e.ok(b.Close())
}
