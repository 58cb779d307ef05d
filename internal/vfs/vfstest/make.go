package vfstest

import (
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func makeTests() []test {
	return []test{
		{"mknod/every type", mknodTypes},
		{"mknod/exists", mknodExists},
		{"mknod/unknown type", mknodUnknown},
		{"mknod/device needs root", mknodDevice},
		{"mknod/umask", mknodUmask},
		{"mkdir/link counts", mkdirLinks},
		{"symlink/target", symlinkTarget},
		{"symlink/bounds", symlinkBounds},
		{"readlink/not a symlink", readlinkOther},
		{"create/new", createNew},
		{"create/existing", createExisting},
		{"create/exclusive", createExclusive},
		{"create/truncates", createTruncates},
		{"create/mode does not bind the handle", createReadOnly},
		{"create/over a directory or symlink", createOver},
		{"numbers/never reused", numbersFresh},
	}
}

func mknodTypes(e *env) {
	for i, typ := range []fsapi.FileType{
		fsapi.TypeRegular, fsapi.TypeDirectory, fsapi.TypeSymlink, fsapi.TypeCharDev,
		fsapi.TypeBlockDev, fsapi.TypeFIFO, fsapi.TypeSocket,
	} {
		n := vfs.NewNode{Type: typ, Mode: 0o751, Rdev: 0x103, Target: ""}
		mode, size, nlink, rdev := uint32(0o751), int64(0), uint32(1), uint32(0)
		switch typ {
		case fsapi.TypeSymlink:
			n.Target, size, mode = "to/where", 8, 0o777
		case fsapi.TypeDirectory:
			nlink = 2
		case fsapi.TypeCharDev, fsapi.TypeBlockDev:
			rdev = 0x103
		}
		name := string(rune('a' + i))
		a := e.mk(fsapi.Root, root, name, n)
		got, err := e.fs.Lookup(e.ctx, fsapi.Root, root, name)
		e.ok(err)
		e.equal("attributes of "+name, []any{got.Ino, got.Type, got.Mode, got.Nlink, got.Rdev}, []any{a.Ino, typ, mode, nlink, rdev})
		if typ != fsapi.TypeDirectory {
			e.equal("size of "+name, got.Size, size)
		}
		if got.Btime.IsZero() || got.Change == 0 {
			e.Fatalf("%s has no time of birth or no change number: %+v", name, got)
		}
	}
}

func mknodExists(e *env) {
	e.file(root, "f", 0o644)
	e.dir(root, "d", 0o755)
	for _, name := range []string{"f", "d"} {
		for _, typ := range []fsapi.FileType{fsapi.TypeRegular, fsapi.TypeDirectory, fsapi.TypeFIFO} {
			_, err := e.fs.Mknod(e.ctx, fsapi.Root, root, name, vfs.NewNode{Type: typ})
			e.fails(fsapi.Exist, err)
		}
		_, err := e.fs.Mknod(e.ctx, fsapi.Root, root, name, vfs.NewNode{Type: fsapi.TypeSymlink, Target: "x"})
		e.fails(fsapi.Exist, err)
	}
}

func mknodUnknown(e *env) {
	for _, typ := range []fsapi.FileType{0, 8, 255} {
		_, err := e.fs.Mknod(e.ctx, fsapi.Root, root, "x", vfs.NewNode{Type: typ})
		e.fails(fsapi.Invalid, err)
	}
	e.absent(root, "x")
}

func mknodDevice(e *env) {
	d := e.dir(root, "d", 0o777)
	for _, typ := range []fsapi.FileType{fsapi.TypeCharDev, fsapi.TypeBlockDev} {
		_, err := e.fs.Mknod(e.ctx, alice(), d, "dev", vfs.NewNode{Type: typ})
		e.fails(fsapi.NotPermitted, err)
	}
	e.mk(alice(), d, "fifo", vfs.NewNode{Type: fsapi.TypeFIFO})
}

func mknodUmask(e *env) {
	for _, typ := range []fsapi.FileType{fsapi.TypeRegular, fsapi.TypeDirectory, fsapi.TypeFIFO} {
		a := e.mk(fsapi.Root, root, string(rune('a'+typ)), vfs.NewNode{Type: typ, Mode: 0o4777, Umask: 0o027})
		e.equal("mode", a.Mode, uint32(0o4750))
	}
}

func mkdirLinks(e *env) {
	before := e.attr(root).Nlink
	d := e.dir(root, "d", 0o755)
	e.equal("links of root", e.attr(root).Nlink, before+1)
	e.dir(d, "sub", 0o755)
	e.file(d, "f", 0o644)
	e.equal("links of d", e.attr(d).Nlink, uint32(3))
	e.ok(e.fs.Rmdir(e.ctx, fsapi.Root, d, "sub"))
	e.equal("links of d", e.attr(d).Nlink, uint32(2))
}

func symlinkTarget(e *env) {
	for _, target := range []string{"x", "/abs", "a//b/../c", "\xff\xfe", strings.Repeat("t", fsapi.MaxSymlink)} {
		l := e.symlink(root, "l", target)
		got, err := e.fs.Readlink(e.ctx, l)
		e.ok(err)
		e.equal("target", got, target)
		e.equal("size", e.attr(l).Size, int64(len(target)))
		e.unlink(root, "l")
	}
}

func symlinkBounds(e *env) {
	_, err := e.fs.Mknod(e.ctx, fsapi.Root, root, "l", vfs.NewNode{Type: fsapi.TypeSymlink})
	e.fails(fsapi.NotExist, err)
	long := strings.Repeat("t", fsapi.MaxSymlink+1)
	_, err = e.fs.Mknod(e.ctx, fsapi.Root, root, "l", vfs.NewNode{Type: fsapi.TypeSymlink, Target: long})
	e.fails(fsapi.NameTooLong, err)
	e.absent(root, "l")
}

func readlinkOther(e *env) {
	_, err := e.fs.Readlink(e.ctx, e.file(root, "f", 0o644))
	e.fails(fsapi.Invalid, err)
	_, err = e.fs.Readlink(e.ctx, root)
	e.fails(fsapi.Invalid, err)
}

// create is Create with the handle closed at the end.
func (e *env) create(c *fsapi.Cred, dir fsapi.Ino, name string, n vfs.NewNode, flags vfs.OpenFlags) (fsapi.Attr, vfs.File) {
	e.Helper()
	a, f, err := e.fs.Create(e.ctx, c, dir, name, n, flags)
	e.ok(err)
	e.Cleanup(func() { _ = f.Close() })
	return a, f
}

func createNew(e *env) {
	a, f := e.create(alice(), e.dir(root, "d", 0o777), "f", vfs.NewNode{Mode: 0o666, Umask: 0o022}, rw)
	e.equal("attributes", []any{a.Type, a.Mode, a.Uid, a.Gid, a.Nlink, a.Size},
		[]any{fsapi.TypeRegular, uint32(0o644), uint32(1000), uint32(1000), uint32(1), int64(0)})
	e.equal("number of the handle", f.Ino(), a.Ino)
	e.write(f, []byte("hello"), 0)
	e.equal("bytes", string(e.read(f, 10, 0)), "hello")
}

func createExisting(e *env) {
	old := e.file(root, "f", 0o600)
	e.put(old, []byte("old"))
	a, f := e.create(fsapi.Root, root, "f", vfs.NewNode{Mode: 0o777}, rw)
	e.equal("number", a.Ino, old)
	e.equal("mode", a.Mode, uint32(0o600))
	e.equal("bytes", string(e.read(f, 10, 0)), "old")
	_, _, err := e.fs.Create(e.ctx, alice(), root, "f", vfs.NewNode{Mode: 0o777}, vfs.OpenRead)
	e.fails(fsapi.Access, err)
}

func createExclusive(e *env) {
	e.create(fsapi.Root, root, "f", vfs.NewNode{Mode: 0o644}, rw|vfs.OpenExcl)
	_, _, err := e.fs.Create(e.ctx, fsapi.Root, root, "f", vfs.NewNode{Mode: 0o644}, rw|vfs.OpenExcl)
	e.fails(fsapi.Exist, err)
	e.symlink(root, "dangling", "nowhere")
	_, _, err = e.fs.Create(e.ctx, fsapi.Root, root, "dangling", vfs.NewNode{Mode: 0o644}, rw|vfs.OpenExcl)
	e.fails(fsapi.Exist, err)
}

func createTruncates(e *env) {
	f := e.file(root, "f", 0o644)
	e.put(f, []byte("old"))
	a, _ := e.create(fsapi.Root, root, "f", vfs.NewNode{Mode: 0o644}, rw|vfs.OpenTrunc)
	e.equal("size", a.Size, int64(0))
	e.holds(f, []byte{})
}

func createReadOnly(e *env) {
	d := e.dir(root, "d", 0o777)
	a, f := e.create(alice(), d, "f", vfs.NewNode{Mode: 0}, rw)
	e.write(f, []byte("x"), 0)
	_, err := e.fs.Open(e.ctx, alice(), a.Ino, vfs.OpenRead)
	e.fails(fsapi.Access, err)
}

func createOver(e *env) {
	e.dir(root, "d", 0o755)
	e.symlink(root, "l", "d")
	_, _, err := e.fs.Create(e.ctx, fsapi.Root, root, "d", vfs.NewNode{Mode: 0o644}, rw)
	e.fails(fsapi.IsDir, err)
	_, _, err = e.fs.Create(e.ctx, fsapi.Root, root, "l", vfs.NewNode{Mode: 0o644}, rw)
	e.fails(fsapi.Loop, err)
}

func numbersFresh(e *env) {
	seen := map[fsapi.Ino]bool{}
	for range 20 {
		f := e.file(root, "f", 0o644)
		if seen[f] || f < root || f >= fsapi.VirtualIno {
			e.Fatalf("number %d is used again or out of bounds", f)
		}
		seen[f] = true
		e.unlink(root, "f")
	}
}
