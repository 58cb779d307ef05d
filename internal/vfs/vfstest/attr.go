package vfstest

import (
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func attrTests() []test {
	return []test{
		{"setattr/mode", setattrMode},
		{"setattr/owner", setattrOwner},
		{"setattr/size", setattrSize},
		{"setattr/size of what is no file", setattrSizeOther},
		{"setattr/times", setattrTimes},
		{"setattr/times before 1970 and far off", setattrTimesFar},
		{"setattr/all or nothing", setattrAtomic},
		{"setattr/several at once", setattrSeveral},
		{"setattr/change numbers grow", setattrChange},
	}
}

func (e *env) setattr(c *fsapi.Cred, ino fsapi.Ino, s vfs.SetAttr) error {
	_, err := e.fs.Setattr(e.ctx, c, ino, s)
	return err
}

func setattrMode(e *env) {
	f := e.file(root, "f", 0o644)
	for _, mode := range []uint32{0, 0o777, 0o7777, 0o1000, 0o4755} {
		a, err := e.fs.Setattr(e.ctx, fsapi.Root, f, vfs.SetAttr{Mode: &mode})
		e.ok(err)
		e.equal("mode", a.Mode, mode)
		e.equal("mode", e.attr(f).Mode, mode)
	}
	e.equal("mode of the root", func() uint32 {
		e.ok(e.chmod(fsapi.Root, root, 0o1777))
		return e.attr(root).Mode
	}(), uint32(0o1777))
}

func setattrOwner(e *env) {
	f := e.file(root, "f", 0o644)
	e.ok(e.chown(fsapi.Root, f, 1<<32-2, 1<<32-2))
	a := e.attr(f)
	e.equal("owner", []uint32{a.Uid, a.Gid}, []uint32{1<<32 - 2, 1<<32 - 2})
	e.ok(e.setattr(fsapi.Root, f, vfs.SetAttr{Uid: at[uint32](7)}))
	a = e.attr(f)
	e.equal("owner", []uint32{a.Uid, a.Gid}, []uint32{7, 1<<32 - 2})
}

func setattrSize(e *env) {
	f := e.file(root, "f", 0o644)
	e.put(f, []byte("0123456789"))
	e.ok(e.truncate(fsapi.Root, f, 4))
	e.holds(f, []byte("0123"))
	e.ok(e.truncate(fsapi.Root, f, 6))
	e.holds(f, []byte("0123\x00\x00"))
	e.fails(fsapi.Invalid, e.truncate(fsapi.Root, f, -1))
	e.fails(fsapi.FileTooBig, e.truncate(fsapi.Root, f, fsapi.MaxFileSize+1))
	e.fails(fsapi.Access, e.truncate(alice(), f, 0))
	e.holds(f, []byte("0123\x00\x00"))
}

func setattrSizeOther(e *env) {
	e.fails(fsapi.IsDir, e.truncate(fsapi.Root, e.dir(root, "d", 0o755), 0))
	fifo := e.mk(fsapi.Root, root, "p", vfs.NewNode{Type: fsapi.TypeFIFO, Mode: 0o600}).Ino
	e.fails(fsapi.Invalid, e.truncate(fsapi.Root, fifo, 0))
	e.fails(fsapi.Invalid, e.truncate(fsapi.Root, e.symlink(root, "l", "x"), 0))
}

func setattrTimes(e *env) {
	f := e.file(root, "f", 0o644)
	at, mt := time.Unix(1234567890, 123456789), time.Unix(987654321, 1)
	ctime := e.attr(f).Ctime
	e.tick()
	e.ok(e.setattr(fsapi.Root, f, vfs.SetAttr{Atime: &at, Mtime: &mt}))
	a := e.attr(f)
	if !a.Atime.Equal(at) || !a.Mtime.Equal(mt) || !a.Ctime.After(ctime) {
		e.Fatalf("times are %v %v %v", a.Atime, a.Mtime, a.Ctime)
	}
	ct := time.Unix(1500000000, 5)
	e.ok(e.setattr(fsapi.Root, f, vfs.SetAttr{Mtime: &at, Ctime: &ct}))
	a = e.attr(f)
	if !a.Atime.Equal(at) || !a.Mtime.Equal(at) || !a.Ctime.Equal(ct) {
		e.Fatalf("times are %v %v %v", a.Atime, a.Mtime, a.Ctime)
	}
	e.tick()
	e.ok(e.setattr(fsapi.Root, f, vfs.SetAttr{TouchAtime: true}))
	if got := e.attr(f); !got.Atime.After(ctime) || !got.Mtime.Equal(at) {
		e.Fatalf("times are %v %v", got.Atime, got.Mtime)
	}
}

func setattrTimesFar(e *env) {
	f := e.file(root, "f", 0o644)
	for _, when := range []time.Time{
		time.Unix(0, 0), time.Unix(-1, 999999999), time.Unix(-2208988800, 0), time.Unix(1<<31, 7), time.Unix(1<<33, 999999999),
	} {
		e.ok(e.setattr(fsapi.Root, f, vfs.SetAttr{Atime: &when, Mtime: &when}))
		if a := e.attr(f); !a.Atime.Equal(when) || !a.Mtime.Equal(when) {
			e.Fatalf("times are %v %v, want %v", a.Atime, a.Mtime, when)
		}
	}
}

func setattrAtomic(e *env) {
	d := e.dir(root, "d", 0o777)
	f := e.fileOf(alice(), d, "f", 0o644)
	e.put(f, []byte("data"))
	before := e.attr(f)
	e.fails(fsapi.NotPermitted, e.setattr(alice(), f, vfs.SetAttr{Mode: at[uint32](0o600), Uid: at[uint32](7), Size: at[int64](0)}))
	e.equal("attributes", e.attr(f), before)
	e.holds(f, []byte("data"))
}

func setattrSeveral(e *env) {
	f := e.file(root, "f", 0o644)
	mt := time.Unix(42, 0)
	a, err := e.fs.Setattr(e.ctx, fsapi.Root, f, vfs.SetAttr{
		Mode: at[uint32](0o600), Uid: at[uint32](1), Gid: at[uint32](2), Size: at[int64](3), Mtime: &mt,
	})
	e.ok(err)
	e.equal("attributes", []any{a.Mode, a.Uid, a.Gid, a.Size, a.Mtime.Equal(mt)}, []any{uint32(0o600), uint32(1), uint32(2), int64(3), true})
}

func setattrChange(e *env) {
	f := e.file(root, "f", 0o644)
	last := e.attr(f).Change
	h := e.open(f, rw)
	for i, step := range []func(){
		func() { e.write(h, []byte("x"), 0) },
		func() { e.write(h, []byte("x"), 0) },
		func() { e.ok(e.chmod(fsapi.Root, f, 0o600)) },
		func() { e.ok(e.truncate(fsapi.Root, f, 0)) },
		func() { e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, f, "user.a", nil, 0)) },
		func() { e.link(f, root, "g") },
		func() { e.unlink(root, "g") },
		func() { e.ok(e.rename(root, "f", root, "h", 0)) },
	} {
		step()
		now := e.attr(f).Change
		if now <= last {
			e.Fatalf("step %d: change number went from %d to %d", i, last, now)
		}
		last = now
	}
}
