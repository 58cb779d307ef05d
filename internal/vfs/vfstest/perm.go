package vfstest

import (
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func permTests() []test {
	return []test{
		{"access/classes do not add up", accessClasses},
		{"access/supplementary groups", accessGroups},
		{"access/root", accessRoot},
		{"access/of nothing", accessNone},
		{"access/open modes", accessOpen},
		{"access/directories", accessDirectories},
		{"access/handles keep what they may", accessHandles},
		{"access/checked callers", accessChecked},
		{"chmod/who may", chmodWho},
		{"chown/who may", chownWho},
		{"utimes/who may", utimesWho},
		{"sticky/unlink, rmdir, rename", stickyRemove},
	}
}

// may is Access.
func (e *env) may(c *fsapi.Cred, ino fsapi.Ino, want uint32) bool {
	e.Helper()
	err := e.fs.Access(e.ctx, c, ino, want)
	if err != nil {
		e.fails(fsapi.Access, err)
	}
	return err == nil
}

// accesses is the set of 4, 2, 1 that c has singly.
func (e *env) accesses(c *fsapi.Cred, ino fsapi.Ino) uint32 {
	e.Helper()
	set := uint32(0)
	for _, one := range []uint32{4, 2, 1} {
		if e.may(c, ino, one) {
			set |= one
		}
	}
	return set
}

func accessClasses(e *env) {
	f := e.file(root, "f", 0)
	e.ok(e.chown(fsapi.Root, f, 1000, staff))
	for mode := uint32(0); mode < 0o1000; mode += 0o37 {
		e.ok(e.chmod(fsapi.Root, f, mode))
		e.equal("owner", e.accesses(alice(), f), mode>>6&7)
		e.equal("group", e.accesses(bob(), f), mode>>3&7)
		e.equal("other", e.accesses(carol(), f), mode&7)
	}
}

func accessGroups(e *env) {
	f := e.file(root, "f", 0o040)
	for gid, want := range map[uint32]uint32{1001: 4, 7: 4, staff: 4, 51: 0} {
		e.ok(e.chown(fsapi.Root, f, 0, gid))
		e.equal("bob", e.accesses(bob(), f), want)
	}
}

func accessRoot(e *env) {
	f := e.file(root, "f", 0)
	e.equal("file without execute bits", e.accesses(fsapi.Root, f), uint32(6))
	e.ok(e.chmod(fsapi.Root, f, 0o001))
	e.equal("file with one execute bit", e.accesses(fsapi.Root, f), uint32(7))
	e.equal("directory", e.accesses(fsapi.Root, e.dir(root, "d", 0)), uint32(7))
}

func accessNone(e *env) {
	f := e.file(root, "f", 0)
	e.ok(e.fs.Access(e.ctx, alice(), f, 0))
	e.fails(fsapi.Invalid, e.fs.Access(e.ctx, alice(), f, 8))
}

func accessOpen(e *env) {
	f := e.file(root, "f", 0)
	e.ok(e.chown(fsapi.Root, f, 1000, 1000))
	for _, tc := range []struct {
		flags vfs.OpenFlags
		needs uint32
	}{
		{vfs.OpenRead, 4}, {vfs.OpenWrite, 2}, {rw, 6}, {vfs.OpenWrite | vfs.OpenAppend, 2},
		{vfs.OpenRead | vfs.OpenTrunc, 6}, {vfs.OpenExec, 1},
	} {
		for bits := range uint32(8) {
			e.ok(e.chmod(fsapi.Root, f, bits<<6))
			h, err := e.fs.Open(e.ctx, alice(), f, tc.flags)
			if bits&tc.needs != tc.needs {
				e.fails(fsapi.Access, err)
				continue
			}
			e.ok(err)
			e.ok(h.Close())
		}
	}
	e.ok(e.chmod(fsapi.Root, f, 0o777))
	_, err := e.fs.Open(e.ctx, bob(), f, vfs.OpenRead|vfs.OpenNoTime)
	e.fails(fsapi.NotPermitted, err)
}

func accessDirectories(e *env) {
	d := e.dir(root, "d", 0)
	f := e.file(d, "f", 0o666)
	e.ok(e.chown(fsapi.Root, d, 1000, 1000))
	for bits := range uint32(8) {
		e.ok(e.chmod(fsapi.Root, d, bits<<6))
		kind := func(needs uint32) fsapi.Kind {
			if bits&needs == needs {
				return fsapi.Other
			}
			return fsapi.Access
		}
		_, err := e.fs.Lookup(e.ctx, alice(), d, "f")
		e.either(kind(1), err)
		h, err := e.fs.OpenDir(e.ctx, alice(), d)
		e.either(kind(4), err)
		if err == nil {
			e.ok(h.Close())
		}
		_, err = e.fs.Mknod(e.ctx, alice(), d, "new", vfs.NewNode{Type: fsapi.TypeFIFO})
		e.either(kind(3), err)
		e.either(kind(3), e.fs.Rename(e.ctx, alice(), d, "f", d, "g", 0))
		if bits&3 == 3 {
			e.ok(e.fs.Unlink(e.ctx, alice(), d, "new"))
			e.ok(e.fs.Rename(e.ctx, alice(), d, "g", d, "f", 0))
		}
	}
	e.equal("f", e.lookup(d, "f"), f)
}

// either wants success for fsapi.Other, else the kind.
func (e *env) either(want fsapi.Kind, err error) {
	e.Helper()
	if want == fsapi.Other {
		e.ok(err)
		return
	}
	e.fails(want, err)
}

func accessHandles(e *env) {
	d := e.dir(root, "d", 0o777)
	f := e.fileOf(alice(), d, "f", 0o600)
	h := e.openAs(alice(), f, rw)
	e.ok(e.chmod(fsapi.Root, f, 0))
	e.ok(e.chown(fsapi.Root, f, 0, 0))
	e.write(h, []byte("still"), 0)
	e.equal("bytes", string(e.read(h, 9, 0)), "still")
	e.ok(h.Truncate(e.ctx, 1))
}

func accessChecked(e *env) {
	d := e.dir(root, "d", 0o700)
	f := e.file(d, "f", 0)
	c := alice()
	c.Checked = true
	_, err := e.fs.Lookup(e.ctx, c, d, "f")
	e.ok(err)
	h := e.openAs(c, f, rw)
	e.write(h, []byte("x"), 0)
	a := e.mk(c, d, "g", vfs.NewNode{Type: fsapi.TypeRegular, Mode: 0o600})
	e.equal("owner", a.Uid, uint32(1000))
	e.ok(e.chmod(c, f, 0o600))
}

func chmodWho(e *env) {
	f := e.file(root, "f", 0o666)
	e.ok(e.chown(fsapi.Root, f, 1000, 1000))
	e.ok(e.chmod(alice(), f, 0o640))
	e.fails(fsapi.NotPermitted, e.chmod(bob(), f, 0o666))
	e.ok(e.chmod(fsapi.Root, f, 0o600))
}

func chownWho(e *env) {
	f := e.file(root, "f", 0o666)
	e.ok(e.chown(fsapi.Root, f, 1000, 1000))
	to := func(c *fsapi.Cred, s vfs.SetAttr) error { return e.setattr(c, f, s) }
	e.fails(fsapi.NotPermitted, to(alice(), vfs.SetAttr{Uid: at[uint32](1001)}))
	e.fails(fsapi.NotPermitted, to(bob(), vfs.SetAttr{Uid: at[uint32](1001)}))
	e.fails(fsapi.NotPermitted, to(bob(), vfs.SetAttr{Gid: at[uint32](staff)}))
	e.fails(fsapi.NotPermitted, to(alice(), vfs.SetAttr{Gid: at[uint32](7)}))
	e.ok(to(alice(), vfs.SetAttr{Gid: at[uint32](staff)}))
	e.ok(to(alice(), vfs.SetAttr{Uid: at[uint32](1000), Gid: at[uint32](1000)}))
	e.ok(to(fsapi.Root, vfs.SetAttr{Uid: at[uint32](1001), Gid: at[uint32](7)}))
}

func utimesWho(e *env) {
	f := e.file(root, "f", 0o644)
	e.ok(e.chown(fsapi.Root, f, 1000, staff))
	when := time.Unix(5, 0)
	now, set := vfs.SetAttr{TouchAtime: true, TouchMtime: true}, vfs.SetAttr{Atime: &when, Mtime: &when}
	e.ok(e.setattr(alice(), f, set))
	e.ok(e.setattr(alice(), f, now))
	e.fails(fsapi.NotPermitted, e.setattr(bob(), f, set))
	e.fails(fsapi.Access, e.setattr(bob(), f, now))
	e.ok(e.chmod(fsapi.Root, f, 0o664))
	e.ok(e.setattr(bob(), f, now))
	e.fails(fsapi.NotPermitted, e.setattr(bob(), f, set))
	e.ok(e.chmod(fsapi.Root, f, 0o444))
	e.ok(e.setattr(alice(), f, now))
}

func stickyRemove(e *env) {
	d := e.dir(root, "d", 0o1777)
	for _, own := range []struct {
		dir, file uint32
		ok        bool
	}{{0, 1000, false}, {0, 1001, true}, {1001, 1000, true}} {
		e.ok(e.chown(fsapi.Root, d, own.dir, 0))
		want := fsapi.Other
		if !own.ok {
			want = fsapi.NotPermitted
		}
		e.ok(e.chown(fsapi.Root, e.file(d, "f", 0o666), own.file, 0))
		e.either(want, e.fs.Rename(e.ctx, bob(), d, "f", d, "g", 0))
		name := "f"
		if own.ok {
			name = "g"
		}
		e.fileOf(bob(), d, "mine", 0o666)
		e.either(want, e.fs.Rename(e.ctx, bob(), d, "mine", d, name, 0))
		e.either(want, e.fs.Unlink(e.ctx, bob(), d, name))
		e.ok(e.chown(fsapi.Root, e.dir(d, "sub", 0o777), own.file, 0))
		e.either(want, e.fs.Rmdir(e.ctx, bob(), d, "sub"))
		for _, left := range e.names(d) {
			if e.fs.Rmdir(e.ctx, fsapi.Root, d, left) != nil {
				e.unlink(d, left)
			}
		}
	}
}
