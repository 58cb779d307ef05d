package vfstest

import (
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func timeTests() []test {
	return []test{
		{"times/of a file", timesFile},
		{"times/of a directory", timesDirectory},
		{"times/rename", timesRename},
		{"times/reading with relatime", timesRelatime},
		{"times/births", timesBirth},
		{"times/failures change nothing", timesFailure},
	}
}

// effect is something done and the times of an inode it changes.
type effect struct {
	what string
	want string // of "amc"
	do   func()
}

// effects checks each in order on one inode.
func (e *env) effects(ino fsapi.Ino, list []effect) {
	e.Helper()
	for _, x := range list {
		e.equal(x.what+" changes the times", e.touched(ino, x.do), x.want)
	}
}

func timesFile(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	e.effects(f, []effect{
		{"write", "mc", func() { e.write(h, []byte("0123456789"), 0) }},
		{"write of nothing", "", func() { e.write(h, nil, 0) }},
		{"overwrite", "mc", func() { e.write(h, []byte("0"), 0) }},
		{"ftruncate", "mc", func() { e.ok(h.Truncate(e.ctx, 5)) }},
		{"truncate", "mc", func() { e.ok(e.truncate(fsapi.Root, f, 7)) }},
		{"fallocate", "mc", func() { e.ok(h.Allocate(e.ctx, 0, 0, 100)) }},
		{"punch", "mc", func() { e.ok(h.Allocate(e.ctx, vfs.AllocPunch|vfs.AllocKeepSize, 0, 2)) }},
		{"open with truncation", "mc", func() { e.ok(e.open(f, rw|vfs.OpenTrunc).Close()) }},
		{"chmod", "c", func() { e.ok(e.chmod(fsapi.Root, f, 0o600)) }},
		{"chown", "c", func() { e.ok(e.chown(fsapi.Root, f, 1, 1)) }},
		{"link", "c", func() { e.link(f, root, "g") }},
		{"unlink", "c", func() { e.unlink(root, "g") }},
		{"setxattr", "c", func() { e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, f, "user.a", []byte("v"), 0)) }},
		{"removexattr", "c", func() { e.ok(e.fs.Removexattr(e.ctx, fsapi.Root, f, "user.a")) }},
		{"touch", "amc", func() { e.ok(e.setattr(fsapi.Root, f, vfs.SetAttr{TouchAtime: true, TouchMtime: true})) }},
		{"fsync", "", func() { e.ok(h.Sync(e.ctx, false)) }},
		{"open, lookup, access", "", func() {
			e.ok(e.open(f, vfs.OpenRead).Close())
			e.lookup(root, "f")
			e.ok(e.fs.Access(e.ctx, fsapi.Root, f, 4))
		}},
	})
}

func timesDirectory(e *env) {
	d := e.dir(root, "d", 0o755)
	f := e.file(root, "f", 0o644)
	e.effects(d, []effect{
		{"create", "mc", func() { e.file(d, "a", 0o644) }},
		{"mkdir", "mc", func() { e.dir(d, "b", 0o755) }},
		{"symlink", "mc", func() { e.symlink(d, "c", "x") }},
		{"link", "mc", func() { e.link(f, d, "e") }},
		{"rename in", "mc", func() { e.ok(e.rename(d, "a", d, "g", 0)) }},
		{"rename away", "mc", func() { e.ok(e.rename(d, "g", root, "g", 0)) }},
		{"unlink", "mc", func() { e.unlink(d, "c") }},
		{"rmdir", "mc", func() { e.ok(e.fs.Rmdir(e.ctx, fsapi.Root, d, "b")) }},
		{"write below", "", func() { e.put(f, []byte("x")) }},
		{"chmod", "c", func() { e.ok(e.chmod(fsapi.Root, d, 0o700)) }},
		{"lookup", "", func() { e.lookup(d, "e") }},
	})
}

func timesRename(e *env) {
	a, b := e.dir(root, "a", 0o755), e.dir(root, "b", 0o755)
	f, g := e.file(a, "f", 0o644), e.file(b, "g", 0o644)
	h := e.open(g, rw)
	e.effects(f, []effect{{"rename", "c", func() { e.ok(e.rename(a, "f", b, "f", 0)) }}})
	e.effects(b, []effect{{"rename into", "mc", func() { e.ok(e.rename(b, "f", a, "f", 0)); e.ok(e.rename(a, "f", b, "f", 0)) }}})
	e.effects(g, []effect{
		{"exchange", "c", func() { e.ok(e.rename(b, "f", b, "g", vfs.RenameExchange)) }},
		{"being replaced", "c", func() { e.ok(e.rename(b, "g", b, "f", 0)) }},
	})
	e.ok(h.Close())
}

func timesRelatime(e *env) {
	f := e.file(root, "f", 0o644)
	e.put(f, []byte("x"))
	h := e.open(f, vfs.OpenRead)
	quiet := e.open(f, vfs.OpenRead|vfs.OpenNoTime)
	old := time.Unix(1000, 0)
	read := func(h vfs.File) func() { return func() { e.read(h, 1, 0) } }
	e.effects(f, []effect{
		{"first read after a write", "a", read(h)},
		{"second read", "", read(h)},
		{"setting an old time", "ac", func() { e.ok(e.setattr(fsapi.Root, f, vfs.SetAttr{Atime: &old})) }},
		{"read with O_NOATIME", "", read(quiet)},
		{"read of an old time", "a", read(h)},
	})
}

func timesBirth(e *env) {
	f := e.file(root, "f", 0o644)
	a := e.attr(f)
	if !a.Atime.Equal(a.Mtime) || !a.Mtime.Equal(a.Ctime) || !a.Btime.Equal(a.Ctime) {
		e.Fatalf("a new file has times %v %v %v %v", a.Atime, a.Mtime, a.Ctime, a.Btime)
	}
	e.tick()
	e.put(f, []byte("x"))
	if b := e.attr(f); !b.Btime.Equal(a.Btime) {
		e.Fatalf("time of birth went from %v to %v", a.Btime, b.Btime)
	}
}

func timesFailure(e *env) {
	d := e.dir(root, "d", 0o755)
	f := e.file(d, "f", 0o644)
	for _, ino := range []fsapi.Ino{d, f} {
		e.effects(ino, []effect{{"a failure", "", func() {
			e.fails(fsapi.Access, e.fs.Unlink(e.ctx, alice(), d, "f"))
			e.fails(fsapi.NotPermitted, e.chmod(alice(), f, 0o777))
			e.fails(fsapi.Access, e.truncate(alice(), f, 0))
			_, err := e.fs.Mknod(e.ctx, fsapi.Root, d, "f", vfs.NewNode{Type: fsapi.TypeRegular})
			e.fails(fsapi.Exist, err)
			e.fails(fsapi.Exist, e.rename(d, "f", d, "f", vfs.RenameNoReplace))
		}}})
	}
}
