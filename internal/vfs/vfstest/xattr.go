package vfstest

import (
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func xattrTests() []test {
	return []test{
		{"xattr/set, get, list, remove", xattrBasic},
		{"xattr/flags", xattrFlags},
		{"xattr/bounds", xattrBounds},
		{"xattr/names", xattrNames},
		{"xattr/user needs permission", xattrUser},
		{"xattr/user only on files and directories", xattrTypes},
		{"xattr/trusted and security are root's", xattrPrivileged},
		{"xattr/sticky directories are their owner's", xattrSticky},
		{"xattr/stay with the inode", xattrStay},
	}
}

func (e *env) setxattr(ino fsapi.Ino, name, value string) {
	e.Helper()
	e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, ino, name, []byte(value), 0))
}

func (e *env) getxattr(ino fsapi.Ino, name string) string {
	e.Helper()
	v, err := e.fs.Getxattr(e.ctx, fsapi.Root, ino, name)
	e.ok(err)
	return string(v)
}

// listxattr is the names, sorted.
func (e *env) listxattr(ino fsapi.Ino) []string {
	e.Helper()
	names, err := e.fs.Listxattr(e.ctx, fsapi.Root, ino)
	e.ok(err)
	slices.Sort(names)
	return append([]string{}, names...)
}

func xattrBasic(e *env) {
	for _, ino := range []fsapi.Ino{e.file(root, "f", 0o644), e.dir(root, "d", 0o755), root} {
		_, err := e.fs.Getxattr(e.ctx, fsapi.Root, ino, "user.a")
		e.fails(fsapi.NoAttr, err)
		e.equal("names", e.listxattr(ino), []string{})
		e.setxattr(ino, "user.a", "one")
		e.setxattr(ino, "user.b", "")
		e.setxattr(ino, "user.a", "two\x00\xff")
		e.equal("a", e.getxattr(ino, "user.a"), "two\x00\xff")
		e.equal("b", e.getxattr(ino, "user.b"), "")
		e.equal("names", e.listxattr(ino), []string{"user.a", "user.b"})
		e.ok(e.fs.Removexattr(e.ctx, fsapi.Root, ino, "user.a"))
		e.fails(fsapi.NoAttr, e.fs.Removexattr(e.ctx, fsapi.Root, ino, "user.a"))
		e.equal("names", e.listxattr(ino), []string{"user.b"})
	}
}

func xattrFlags(e *env) {
	f := e.file(root, "f", 0o644)
	set := func(v string, flags vfs.XattrFlags) error {
		return e.fs.Setxattr(e.ctx, fsapi.Root, f, "user.a", []byte(v), flags)
	}
	e.fails(fsapi.NoAttr, set("1", vfs.XattrReplace))
	e.ok(set("1", vfs.XattrCreate))
	e.fails(fsapi.Exist, set("2", vfs.XattrCreate))
	e.equal("value", e.getxattr(f, "user.a"), "1")
	e.ok(set("2", vfs.XattrReplace))
	e.equal("value", e.getxattr(f, "user.a"), "2")
	e.fails(fsapi.Invalid, set("3", 4))
}

func xattrBounds(e *env) {
	f := e.file(root, "f", 0o644)
	big := strings.Repeat("v", fsapi.MaxXattr)
	e.setxattr(f, "user.a", big)
	e.equal("value", e.getxattr(f, "user.a") == big, true)
	e.fails(fsapi.TooBig, e.fs.Setxattr(e.ctx, fsapi.Root, f, "user.a", []byte(big+"v"), 0))
	long := "user." + strings.Repeat("n", fsapi.MaxXattrName-5)
	e.setxattr(f, long, "x")
	e.equal("value", e.getxattr(f, long), "x")
	e.fails(fsapi.Range, e.fs.Setxattr(e.ctx, fsapi.Root, f, long+"n", nil, 0))
}

func xattrNames(e *env) {
	f := e.file(root, "f", 0o644)
	for name, want := range map[string]fsapi.Kind{
		"": fsapi.Invalid, "user.": fsapi.Invalid, "user.a\x00b": fsapi.Invalid,
		"plain": fsapi.NotSupported, "other.a": fsapi.NotSupported, "system.other": fsapi.NotSupported,
	} {
		e.fails(want, e.fs.Setxattr(e.ctx, fsapi.Root, f, name, nil, 0))
		_, err := e.fs.Getxattr(e.ctx, fsapi.Root, f, name)
		e.fails(want, err)
		e.fails(want, e.fs.Removexattr(e.ctx, fsapi.Root, f, name))
	}
	e.setxattr(f, "user.\xff é", "x")
	e.equal("names", e.listxattr(f), []string{"user.\xff é"})
}

func xattrUser(e *env) {
	f := e.file(root, "f", 0o644)
	e.setxattr(f, "user.a", "v")
	_, err := e.fs.Getxattr(e.ctx, alice(), f, "user.a")
	e.ok(err)
	e.fails(fsapi.Access, e.fs.Setxattr(e.ctx, alice(), f, "user.a", nil, 0))
	e.fails(fsapi.Access, e.fs.Removexattr(e.ctx, alice(), f, "user.a"))
	e.ok(e.chmod(fsapi.Root, f, 0o602))
	_, err = e.fs.Getxattr(e.ctx, alice(), f, "user.a")
	e.fails(fsapi.Access, err)
	e.ok(e.fs.Setxattr(e.ctx, alice(), f, "user.a", nil, 0))
	names, err := e.fs.Listxattr(e.ctx, alice(), f)
	e.ok(err)
	e.equal("names", names, []string{"user.a"})
}

func xattrTypes(e *env) {
	for _, ino := range []fsapi.Ino{
		e.symlink(root, "l", "x"),
		e.mk(fsapi.Root, root, "p", vfs.NewNode{Type: fsapi.TypeFIFO, Mode: 0o666}).Ino,
	} {
		e.fails(fsapi.NotPermitted, e.fs.Setxattr(e.ctx, fsapi.Root, ino, "user.a", nil, 0))
		_, err := e.fs.Getxattr(e.ctx, fsapi.Root, ino, "user.a")
		e.fails(fsapi.NoAttr, err)
		e.setxattr(ino, "trusted.a", "v")
		e.equal("value", e.getxattr(ino, "trusted.a"), "v")
	}
}

func xattrPrivileged(e *env) {
	f := e.file(root, "f", 0o666)
	e.ok(e.chown(fsapi.Root, f, 1000, 1000))
	for _, name := range []string{"trusted.a", "security.a"} {
		e.fails(fsapi.NotPermitted, e.fs.Setxattr(e.ctx, alice(), f, name, nil, 0))
		e.setxattr(f, name, "v")
		e.fails(fsapi.NotPermitted, e.fs.Removexattr(e.ctx, alice(), f, name))
	}
	_, err := e.fs.Getxattr(e.ctx, alice(), f, "trusted.a")
	e.fails(fsapi.NoAttr, err)
	_, err = e.fs.Getxattr(e.ctx, alice(), f, "security.a")
	e.ok(err)
	names, err := e.fs.Listxattr(e.ctx, alice(), f)
	e.ok(err)
	e.equal("names", names, []string{"security.a"})
}

func xattrSticky(e *env) {
	d := e.dir(root, "d", 0o1777)
	e.ok(e.chown(fsapi.Root, d, 1000, 1000))
	e.fails(fsapi.NotPermitted, e.fs.Setxattr(e.ctx, bob(), d, "user.a", nil, 0))
	e.ok(e.fs.Setxattr(e.ctx, alice(), d, "user.a", nil, 0))
}

func xattrStay(e *env) {
	f := e.file(root, "f", 0o644)
	e.setxattr(f, "user.a", "v")
	e.link(f, root, "g")
	e.ok(e.rename(root, "f", root, "h", 0))
	e.unlink(root, "h")
	e.put(f, []byte("x"))
	e.equal("value", e.getxattr(e.lookup(root, "g"), "user.a"), "v")
	e.unlink(root, "g")
	g := e.file(root, "g", 0o644)
	e.equal("names of a new file", e.listxattr(g), []string{})
}
