package vfstest

import (
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func modeTests() []test {
	return []test{
		{"setid/write clears", setidWrite},
		{"setid/write by root keeps", setidWriteRoot},
		{"setid/chown clears", setidChown},
		{"setid/truncate clears", setidTruncate},
		{"setgid/mandatory locking bit stays", setgidNoExec},
		{"setgid/directories pass on their group", setgidInherit},
		{"setgid/chmod outside of the group", setgidChmod},
		{"setgid/create outside of the group", setgidCreate},
	}
}

// setid makes a file of alice's with mode, whatever it takes.
func (e *env) setid(name string, mode uint32) fsapi.Ino {
	e.Helper()
	f := e.file(root, name, 0o666)
	e.ok(e.chown(fsapi.Root, f, 1000, 1000))
	e.ok(e.chmod(fsapi.Root, f, mode))
	return f
}

func setidWrite(e *env) {
	f := e.setid("f", 0o6777)
	e.write(e.openAs(bob(), f, rw), []byte("x"), 0)
	e.equal("mode", e.attr(f).Mode, uint32(0o777))
	f = e.setid("g", 0o6777)
	e.write(e.openAs(alice(), f, rw), []byte("x"), 0)
	e.equal("mode after the owner's write", e.attr(f).Mode, uint32(0o777))
}

func setidWriteRoot(e *env) {
	f := e.setid("f", 0o6777)
	e.write(e.open(f, rw), []byte("x"), 0)
	e.equal("mode", e.attr(f).Mode, uint32(0o6777))
}

func setidChown(e *env) {
	f := e.setid("f", 0o6777)
	e.ok(e.chown(alice(), f, 1000, staff))
	e.equal("mode", e.attr(f).Mode, uint32(0o777))
	d := e.dir(root, "d", 0o777)
	e.ok(e.chmod(fsapi.Root, d, 0o6777))
	e.ok(e.chown(fsapi.Root, d, 1, 1))
	e.equal("mode of a directory", e.attr(d).Mode, uint32(0o6777))
}

func setidTruncate(e *env) {
	f := e.setid("f", 0o6777)
	e.put(f, []byte("data"))
	e.ok(e.truncate(bob(), f, 1))
	e.equal("mode", e.attr(f).Mode, uint32(0o777))
}

func setgidNoExec(e *env) {
	f := e.setid("f", 0o2767)
	e.write(e.openAs(alice(), f, rw), []byte("x"), 0)
	e.equal("mode", e.attr(f).Mode, uint32(0o2767))
}

func setgidInherit(e *env) {
	d := e.dir(root, "d", 0o777)
	e.ok(e.chown(fsapi.Root, d, 0, staff))
	e.ok(e.chmod(fsapi.Root, d, 0o2777))
	f := e.attr(e.fileOf(alice(), d, "f", 0o644))
	e.equal("file", []uint32{f.Gid, f.Mode}, []uint32{staff, 0o644})
	sub := e.attr(e.dirOf(alice(), d, "sub", 0o755))
	e.equal("directory", []uint32{sub.Gid, sub.Mode}, []uint32{staff, 0o2755})
	l := e.mk(alice(), d, "l", vfs.NewNode{Type: fsapi.TypeSymlink, Target: "x"})
	e.equal("symlink", l.Gid, uint32(staff))
	plain := e.attr(e.fileOf(alice(), e.dir(root, "p", 0o777), "f", 0o644))
	e.equal("elsewhere", plain.Gid, uint32(1000))
}

func setgidChmod(e *env) {
	f := e.file(root, "f", 0o644)
	e.ok(e.chown(fsapi.Root, f, 1000, 7))
	e.ok(e.chmod(alice(), f, 0o2755))
	e.equal("mode by who is not in the group", e.attr(f).Mode, uint32(0o755))
	e.ok(e.chown(fsapi.Root, f, 1000, staff))
	e.ok(e.chmod(alice(), f, 0o2755))
	e.equal("mode by who is in the group", e.attr(f).Mode, uint32(0o2755))
}

func setgidCreate(e *env) {
	d := e.dir(root, "d", 0o777)
	e.ok(e.chown(fsapi.Root, d, 0, 7))
	e.ok(e.chmod(fsapi.Root, d, 0o2777))
	a := e.attr(e.fileOf(alice(), d, "f", 0o2775))
	e.equal("mode by who is not in the group", a.Mode, uint32(0o775))
	a = e.attr(e.fileOf(bob(), d, "g", 0o2775))
	e.equal("mode by who is in the group", a.Mode, uint32(0o2775))
}
