package vfstest

import (
	"context"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Snapshotter is an FS that can take snapshots, which are then below
// .strake/snapshots.
type Snapshotter interface {
	vfs.FS
	CreateSnapshot(ctx context.Context, c *fsapi.Cred, s vfs.Snapshot) (vfs.Snapshot, error)
	DeleteSnapshot(ctx context.Context, c *fsapi.Cred, name string) error
}

// RunSnapshots runs the cases about snapshots' trees, each on what open
// returns, as Run does.
func RunSnapshots(t *testing.T, open func(t *testing.T) Snapshotter, caps Caps) {
	for _, tc := range []struct {
		name string
		run  func(e *snapEnv)
	}{
		{"everything as it was", snapWas},
		{"nothing can be changed", snapReadOnly},
		{"many names", snapNames},
		{"large files", snapLarge},
		{"permissions of then", snapPermissions},
		{"attributes of then", snapXattrs},
		{"links", snapLinks},
		{"copies share", snapCopy},
		{"numbers and parents", snapNumbers},
		{"deleted while in use", snapDeleted},
		{"names of snapshots", snapListed},
		{"who may", snapWho},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if why := caps.Skip[tc.name]; why != "" {
				t.Skip(why)
			}
			fs := open(t)
			tc.run(&snapEnv{newEnv(t, fs, caps), fs})
		})
	}
}

type snapEnv struct {
	*env
	snaps Snapshotter
}

// take takes a snapshot and returns its root.
func (e *snapEnv) take(name string) fsapi.Ino {
	e.Helper()
	_, err := e.snaps.CreateSnapshot(e.ctx, fsapi.Root, vfs.Snapshot{Name: name})
	e.ok(err)
	return e.at(vfs.VirtualName + "/snapshots/" + name)
}

func (e *snapEnv) at(path string) fsapi.Ino {
	e.Helper()
	a, err := vfs.Walk(e.ctx, e.fs, fsapi.Root, path, false)
	e.ok(err)
	return a.Ino
}

// asThen is an attribute as a snapshot shows it.
func asThen(a fsapi.Attr, ino fsapi.Ino) fsapi.Attr {
	a.Ino = ino
	return a
}

func snapWas(e *snapEnv) {
	d := e.dir(root, "d", 0o755)
	f := e.file(d, "f", 0o640)
	e.put(f, []byte("then"))
	e.symlink(d, "l", "f")
	e.file(d, "removed", 0o644)
	was := e.attr(f)
	snap := e.take("s")

	e.tick()
	e.put(f, []byte("now, and longer"))
	e.ok(e.chmod(fsapi.Root, f, 0o600))
	e.unlink(d, "removed")
	e.unlink(d, "l")
	e.ok(e.rename(d, "f", root, "g", 0))
	e.file(d, "new", 0o644)

	old := e.lookup(snap, "d")
	e.equal("names then", e.names(old), []string{"f", "l", "removed"})
	e.equal("names now", e.names(d), []string{"new"})
	of := e.lookup(old, "f")
	e.equal("attributes then", e.attr(of), asThen(was, of))
	e.holds(of, []byte("then"))
	e.holds(f, []byte("now, and longer"))
	target, err := e.fs.Readlink(e.ctx, e.lookup(old, "l"))
	e.ok(err)
	e.equal("target", target, "f")
	for _, en := range e.entries(old, true) {
		if en.Name == "f" {
			e.equal("attributes in the listing", en.Attr, asThen(was, of))
		}
	}
}

func snapReadOnly(e *snapEnv) {
	f := e.file(root, "f", 0o666)
	e.put(f, []byte("x"))
	d := e.dir(root, "d", 0o777)
	snap := e.take("s")
	of, od := e.lookup(snap, "f"), e.lookup(snap, "d")
	_, err := e.fs.Open(e.ctx, fsapi.Root, of, rw)
	e.fails(fsapi.ReadOnly, err)
	_, err = e.fs.Open(e.ctx, fsapi.Root, of, vfs.OpenRead|vfs.OpenTrunc)
	e.fails(fsapi.ReadOnly, err)
	e.fails(fsapi.ReadOnly, e.chmod(fsapi.Root, of, 0o600))
	e.fails(fsapi.ReadOnly, e.truncate(fsapi.Root, of, 0))
	e.fails(fsapi.ReadOnly, e.chown(fsapi.Root, od, 1, 1))
	_, err = e.fs.Mknod(e.ctx, fsapi.Root, od, "n", vfs.NewNode{Type: fsapi.TypeRegular})
	e.fails(fsapi.ReadOnly, err)
	_, _, err = e.fs.Create(e.ctx, fsapi.Root, snap, "n", vfs.NewNode{Mode: 0o644}, rw)
	e.fails(fsapi.ReadOnly, err)
	_, err = e.fs.Link(e.ctx, fsapi.Root, f, od, "n")
	e.fails(fsapi.ReadOnly, err)
	_, err = e.fs.Link(e.ctx, fsapi.Root, of, d, "n")
	e.fails(fsapi.ReadOnly, err)
	e.fails(fsapi.ReadOnly, e.fs.Unlink(e.ctx, fsapi.Root, snap, "f"))
	e.fails(fsapi.ReadOnly, e.fs.Rmdir(e.ctx, fsapi.Root, snap, "d"))
	e.fails(fsapi.ReadOnly, e.rename(snap, "f", root, "n", 0))
	e.fails(fsapi.ReadOnly, e.rename(root, "f", snap, "n", 0))
	e.fails(fsapi.ReadOnly, e.fs.Setxattr(e.ctx, fsapi.Root, of, "user.a", []byte("b"), 0))
	e.fails(fsapi.ReadOnly, e.fs.Removexattr(e.ctx, fsapi.Root, of, "user.a"))
	e.fails(fsapi.ReadOnly, e.fs.Access(e.ctx, fsapi.Root, of, 2))
	h := e.open(of, vfs.OpenRead)
	_, err = h.WriteAt(e.ctx, []byte("y"), 0)
	e.fails(fsapi.ReadOnly, err)
	e.fails(fsapi.ReadOnly, h.Truncate(e.ctx, 0))
	e.fails(fsapi.ReadOnly, h.Allocate(e.ctx, 0, 0, 10))
	e.ok(h.Sync(e.ctx, false))
	e.ok(h.Flush(e.ctx, vfs.LockOwner{}))
	e.holds(of, []byte("x"))
}

func snapNames(e *snapEnv) {
	d := e.dir(root, "d", 0o755)
	var ops []vfs.Op
	want := []string{}
	for i := range 1500 {
		name := "n" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
		ops = append(ops, put("d/"+name, ""))
		want = append(want, name)
	}
	_, err := e.fs.Batch(e.ctx, fsapi.Root, ops)
	e.ok(err)
	snap := e.take("s")
	for _, name := range want[300:900] {
		e.unlink(d, name)
	}
	old := e.lookup(snap, "d")
	e.equal("how many", len(e.names(old)), len(want))
	// A listing that is read on by cookies of another handle.
	seen := map[string]int{}
	for cookie, more := uint64(0), true; more; {
		h, err := e.fs.OpenDir(e.ctx, fsapi.Root, old)
		e.ok(err)
		n := 0
		e.ok(h.Read(e.ctx, cookie, false, func(en fsapi.Dirent) bool {
			seen[en.Name]++
			cookie = en.Cookie
			n++
			return n < 100
		}))
		e.ok(h.Close())
		more = n == 100
	}
	for _, name := range append(want, ".", "..") {
		e.equal("times "+name+" is listed", seen[name], 1)
	}
}

func snapLarge(e *snapEnv) {
	f := e.file(root, "f", 0o644)
	data := pattern(5<<20, 1)
	e.put(f, data)
	snap := e.take("s")
	h := e.open(f, rw)
	e.write(h, pattern(100_000, 2), 1<<20)
	e.ok(h.Truncate(e.ctx, 3<<20))
	e.ok(h.Sync(e.ctx, false))
	of := e.lookup(snap, "f")
	e.holds(of, data)
	oh := e.open(of, vfs.OpenRead)
	e.same(e.read(oh, 1000, 4<<20), data[4<<20:4<<20+1000])
	e.same(e.read(oh, 1000, 5<<20-10), data[5<<20-10:])
	e.equal("past the end", len(e.read(oh, 10, 6<<20)), 0)
	at, err := oh.Seek(e.ctx, 100, false)
	e.ok(err)
	e.equal("data", at, int64(100))
	at, err = oh.Seek(e.ctx, 100, true)
	e.ok(err)
	e.equal("hole", at, int64(5<<20))
	_, err = oh.Seek(e.ctx, 5<<20, true)
	e.fails(fsapi.NoDevice, err)
}

func snapPermissions(e *snapEnv) {
	d := e.dirOf(alice(), e.dir(root, "top", 0o777), "private", 0o700)
	f := e.fileOf(alice(), d, "f", 0o600)
	snap := e.take("s")
	e.ok(e.chmod(alice(), d, 0o777))
	e.ok(e.chmod(alice(), f, 0o666))
	old := e.lookup(e.lookup(snap, "top"), "private")
	of := e.lookup(old, "f")
	_, err := e.fs.Lookup(e.ctx, bob(), old, "f")
	e.fails(fsapi.Access, err)
	_, err = e.fs.OpenDir(e.ctx, bob(), old)
	e.fails(fsapi.Access, err)
	_, err = e.fs.Open(e.ctx, bob(), of, vfs.OpenRead)
	e.fails(fsapi.Access, err)
	e.fails(fsapi.Access, e.fs.Access(e.ctx, bob(), of, 4))
	e.ok(e.openAs(alice(), of, vfs.OpenRead).Close())
	e.openAs(bob(), f, vfs.OpenRead)
}

func snapXattrs(e *snapEnv) {
	f := e.file(root, "f", 0o640)
	e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, f, "user.a", []byte("then"), 0))
	acl := vfs.ACL{
		{Tag: vfs.ACLUserObj, Perm: 6, ID: ^uint32(0)}, {Tag: vfs.ACLUser, Perm: 4, ID: bob().Uid},
		{Tag: vfs.ACLGroupObj, Perm: 0, ID: ^uint32(0)}, {Tag: vfs.ACLMask, Perm: 4, ID: ^uint32(0)},
		{Tag: vfs.ACLOther, Perm: 0, ID: ^uint32(0)},
	}
	e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, f, "system.posix_acl_access", acl.Bytes(), 0))
	e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, f, vfs.PolicyXattr, []byte("compression=none"), 0))
	snap := e.take("s")
	e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, f, "user.a", []byte("now"), 0))
	e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, f, "user.b", []byte("now"), 0))
	e.ok(e.fs.Removexattr(e.ctx, fsapi.Root, f, "system.posix_acl_access"))
	e.ok(e.fs.Removexattr(e.ctx, fsapi.Root, f, vfs.PolicyXattr))
	of := e.lookup(snap, "f")
	v, err := e.fs.Getxattr(e.ctx, fsapi.Root, of, "user.a")
	e.ok(err)
	e.equal("user.a", string(v), "then")
	_, err = e.fs.Getxattr(e.ctx, fsapi.Root, of, "user.b")
	e.fails(fsapi.NoAttr, err)
	v, err = e.fs.Getxattr(e.ctx, fsapi.Root, of, vfs.PolicyXattr)
	e.ok(err)
	e.equal("policy", string(v), "compression=none")
	names, err := e.fs.Listxattr(e.ctx, fsapi.Root, of)
	e.ok(err)
	e.equal("names", names, []string{"system.posix_acl_access", "user.a", vfs.PolicyXattr})
	e.openAs(bob(), of, vfs.OpenRead) // by the ACL of then
	_, err = e.fs.Open(e.ctx, bob(), f, vfs.OpenRead)
	e.fails(fsapi.Access, err)
	_, err = e.fs.Open(e.ctx, carol(), of, vfs.OpenRead)
	e.fails(fsapi.Access, err)
}

func snapLinks(e *snapEnv) {
	d := e.dir(root, "d", 0o755)
	f := e.file(d, "a", 0o644)
	e.put(f, []byte("1"))
	_, err := e.fs.Link(e.ctx, fsapi.Root, f, root, "b")
	e.ok(err)
	snap := e.take("s")
	e.unlink(d, "a")
	e.put(f, []byte("2"))
	a, b := e.lookup(e.lookup(snap, "d"), "a"), e.lookup(snap, "b")
	e.equal("inode", a, b)
	e.equal("links", e.attr(a).Nlink, uint32(2))
	e.holds(a, []byte("1"))
	e.equal("links now", e.attr(f).Nlink, uint32(1))
}

func snapCopy(e *snapEnv) {
	f := e.file(root, "f", 0o644)
	data := pattern(700_000, 1)
	e.put(f, data)
	snap := e.take("s")
	e.put(f, []byte("gone"))
	from := e.open(e.lookup(snap, "f"), vfs.OpenRead)
	to := e.open(e.file(root, "copy", 0o644), rw)
	n, err := from.CopyRange(e.ctx, 100, to, 0, 1<<20)
	e.ok(err)
	e.equal("bytes", n, int64(len(data)-100))
	e.holds(to.Ino(), data[100:])
}

func snapNumbers(e *snapEnv) {
	d := e.dir(root, "d", 0o755)
	f := e.file(d, "f", 0o644)
	one, two := e.take("one"), e.take("two")
	a, b := e.at(vfs.VirtualName+"/snapshots/one/d/f"), e.at(vfs.VirtualName+"/snapshots/two/d/f")
	if a == b || a == f || a < fsapi.SnapshotIno || b < fsapi.SnapshotIno {
		e.Fatalf("inode %d is %d and %d in snapshots", f, a, b)
	}
	path, err := vfs.PathOf(e.ctx, e.fs, a)
	e.ok(err)
	e.equal("path", path, "/"+vfs.VirtualName+"/snapshots/one/d/f")
	up, err := e.fs.Lookup(e.ctx, fsapi.Root, two, "..")
	e.ok(err)
	e.equal("parent of a root", up.Ino, e.at(vfs.VirtualName+"/snapshots"))
	up, err = e.fs.Lookup(e.ctx, fsapi.Root, e.lookup(one, "d"), "..")
	e.ok(err)
	e.equal("parent", up.Ino, one)
	e.absent(one, vfs.VirtualName)
	_, err = e.fs.Statfs(e.ctx, a)
	e.ok(err)
}

func snapDeleted(e *snapEnv) {
	f := e.file(root, "f", 0o644)
	e.put(f, pattern(100_000, 1))
	snap := e.take("s")
	of := e.lookup(snap, "f")
	h := e.open(of, vfs.OpenRead)
	e.ok(e.snaps.DeleteSnapshot(e.ctx, fsapi.Root, "s"))
	_, err := e.fs.Getattr(e.ctx, of)
	e.fails(fsapi.Stale, err)
	_, err = e.fs.Lookup(e.ctx, fsapi.Root, snap, "f")
	e.fails(fsapi.Stale, err)
	_, err = h.ReadAt(e.ctx, make([]byte, 10), 0)
	e.fails(fsapi.Stale, err)
	e.holds(f, pattern(100_000, 1))
	e.ok(h.Close())
	e.fails(fsapi.NotExist, e.snaps.DeleteSnapshot(e.ctx, fsapi.Root, "s"))
	again := e.take("s")
	if again == snap {
		e.Fatalf("another snapshot has the number %d again", again)
	}
}

func snapListed(e *snapEnv) {
	e.take("b")
	e.take("a")
	dir := e.at(vfs.VirtualName + "/snapshots")
	e.equal("names", e.names(dir), []string{"a", "b"})
	e.absent(dir, "c")
	_, err := e.snaps.CreateSnapshot(e.ctx, fsapi.Root, vfs.Snapshot{Name: "a"})
	e.fails(fsapi.Exist, err)
	_, err = e.snaps.CreateSnapshot(e.ctx, fsapi.Root, vfs.Snapshot{Name: "x/y"})
	e.fails(fsapi.Invalid, err)
	_, err = e.fs.Mknod(e.ctx, fsapi.Root, dir, "n", vfs.NewNode{Type: fsapi.TypeDirectory})
	e.fails(fsapi.NotPermitted, err)
}

func snapWho(e *snapEnv) {
	_, err := e.snaps.CreateSnapshot(e.ctx, alice(), vfs.Snapshot{Name: "a"})
	e.fails(fsapi.NotPermitted, err)
	e.take("a")
	e.fails(fsapi.NotPermitted, e.snaps.DeleteSnapshot(e.ctx, alice(), "a"))
}
