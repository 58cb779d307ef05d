package vfstest

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

const root = fsapi.RootIno

// rw opens for reading and writing.
const rw = vfs.OpenRead | vfs.OpenWrite

// patience is how long something that must happen may take.
const patience = 20 * time.Second

// Who asks, besides fsapi.Root. Alice and bob share the group staff.
func alice() *fsapi.Cred { return &fsapi.Cred{Uid: 1000, Gid: 1000, Groups: []uint32{staff}} }
func bob() *fsapi.Cred   { return &fsapi.Cred{Uid: 1001, Gid: 1001, Groups: []uint32{7, staff}} }
func carol() *fsapi.Cred { return &fsapi.Cred{Uid: 1002, Gid: 1002} }

const staff = 50

// env is what a case works with. Its methods fail the case where the file
// system does not do as asked.
type env struct {
	*testing.T
	ctx  context.Context
	fs   vfs.FS
	caps Caps
}

func newEnv(t *testing.T, fs vfs.FS, caps Caps) *env {
	return &env{T: t, ctx: t.Context(), fs: fs, caps: caps}
}

func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("failed: %v (%v)", err, fsapi.KindOf(err))
	}
}

// fails wants an error of a kind.
func (e *env) fails(want fsapi.Kind, err error) {
	e.Helper()
	switch {
	case err == nil:
		e.Fatalf("succeeded, want %q", want)
	case fsapi.KindOf(err) != want:
		e.Fatalf("failed with %v (%v), want %q", err, fsapi.KindOf(err), want)
	}
}

// equal compares what is with what should be.
func (e *env) equal(what string, got, want any) {
	e.Helper()
	if d := cmp.Diff(want, got); d != "" {
		e.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

// tick moves the clock.
func (e *env) tick() {
	if e.caps.Tick != nil {
		e.caps.Tick()
		return
	}
	for start := time.Now(); time.Since(start) < time.Millisecond; {
		time.Sleep(time.Millisecond)
	}
}

// mk makes an inode as c.
func (e *env) mk(c *fsapi.Cred, dir fsapi.Ino, name string, n vfs.NewNode) fsapi.Attr {
	e.Helper()
	a, err := e.fs.Mknod(e.ctx, c, dir, name, n)
	e.ok(err)
	return a
}

// dir makes a directory as root.
func (e *env) dir(dir fsapi.Ino, name string, mode uint32) fsapi.Ino {
	e.Helper()
	return e.dirOf(fsapi.Root, dir, name, mode)
}

func (e *env) dirOf(c *fsapi.Cred, dir fsapi.Ino, name string, mode uint32) fsapi.Ino {
	e.Helper()
	return e.mk(c, dir, name, vfs.NewNode{Type: fsapi.TypeDirectory, Mode: mode}).Ino
}

// file makes an empty regular file as root.
func (e *env) file(dir fsapi.Ino, name string, mode uint32) fsapi.Ino {
	e.Helper()
	return e.fileOf(fsapi.Root, dir, name, mode)
}

func (e *env) fileOf(c *fsapi.Cred, dir fsapi.Ino, name string, mode uint32) fsapi.Ino {
	e.Helper()
	return e.mk(c, dir, name, vfs.NewNode{Type: fsapi.TypeRegular, Mode: mode}).Ino
}

func (e *env) symlink(dir fsapi.Ino, name, target string) fsapi.Ino {
	e.Helper()
	return e.mk(fsapi.Root, dir, name, vfs.NewNode{Type: fsapi.TypeSymlink, Target: target}).Ino
}

// open opens as root; the end of the case closes.
func (e *env) open(ino fsapi.Ino, flags vfs.OpenFlags) vfs.File {
	e.Helper()
	return e.openAs(fsapi.Root, ino, flags)
}

func (e *env) openAs(c *fsapi.Cred, ino fsapi.Ino, flags vfs.OpenFlags) vfs.File {
	e.Helper()
	f, err := e.fs.Open(e.ctx, c, ino, flags)
	e.ok(err)
	e.Cleanup(func() { _ = f.Close() })
	return f
}

// write writes all of data at off.
func (e *env) write(f vfs.File, data []byte, off int64) {
	e.Helper()
	n, err := f.WriteAt(e.ctx, data, off)
	e.ok(err)
	e.equal("bytes written", n, len(data))
}

// read reads n bytes at off, or up to the end of file.
func (e *env) read(f vfs.File, n int, off int64) []byte {
	e.Helper()
	p := make([]byte, n)
	n, err := f.ReadAt(e.ctx, p, off)
	e.ok(err)
	return p[:n]
}

// put gives a file its content.
func (e *env) put(ino fsapi.Ino, data []byte) {
	e.Helper()
	f := e.open(ino, rw|vfs.OpenTrunc)
	e.write(f, data, 0)
	e.ok(f.Close())
}

// get is a file's content.
func (e *env) get(ino fsapi.Ino) []byte {
	e.Helper()
	f := e.open(ino, vfs.OpenRead)
	data := e.read(f, int(e.attr(ino).Size), 0)
	e.ok(f.Close())
	return data
}

// holds wants a file to have some content.
func (e *env) holds(ino fsapi.Ino, want []byte) {
	e.Helper()
	e.same(e.get(ino), want)
}

// same compares bytes and says where they begin to differ.
func (e *env) same(got, want []byte) {
	e.Helper()
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	e.Fatalf("%d bytes where %d are due, different from byte %d on: %.16x… for %.16x…", len(got), len(want), i, got[i:], want[i:])
}

func (e *env) attr(ino fsapi.Ino) fsapi.Attr {
	e.Helper()
	a, err := e.fs.Getattr(e.ctx, ino)
	e.ok(err)
	return a
}

// lookup is the inode a name leads to.
func (e *env) lookup(dir fsapi.Ino, name string) fsapi.Ino {
	e.Helper()
	a, err := e.fs.Lookup(e.ctx, fsapi.Root, dir, name)
	e.ok(err)
	return a.Ino
}

// gone wants an inode to be gone, now or soon: what nobody can see may be
// released in the background.
func (e *env) gone(ino fsapi.Ino) {
	e.Helper()
	for start := time.Now(); ; e.tick() {
		a, err := e.fs.Getattr(e.ctx, ino)
		if err != nil {
			e.fails(fsapi.Stale, err)
			return
		}
		e.equal("links of what goes", a.Nlink, uint32(0))
		if time.Since(start) > patience {
			e.Fatalf("inode %d does not go", ino)
		}
	}
}

// absent wants a name not to exist.
func (e *env) absent(dir fsapi.Ino, name string) {
	e.Helper()
	_, err := e.fs.Lookup(e.ctx, fsapi.Root, dir, name)
	e.fails(fsapi.NotExist, err)
}

func (e *env) unlink(dir fsapi.Ino, name string) {
	e.Helper()
	e.ok(e.fs.Unlink(e.ctx, fsapi.Root, dir, name))
}

// rename renames as root.
func (e *env) rename(from fsapi.Ino, name string, to fsapi.Ino, as string, flags vfs.RenameFlags) error {
	return e.fs.Rename(e.ctx, fsapi.Root, from, name, to, as, flags)
}

func (e *env) chmod(c *fsapi.Cred, ino fsapi.Ino, mode uint32) error {
	_, err := e.fs.Setattr(e.ctx, c, ino, vfs.SetAttr{Mode: &mode})
	return err
}

func (e *env) chown(c *fsapi.Cred, ino fsapi.Ino, uid, gid uint32) error {
	_, err := e.fs.Setattr(e.ctx, c, ino, vfs.SetAttr{Uid: &uid, Gid: &gid})
	return err
}

func (e *env) truncate(c *fsapi.Cred, ino fsapi.Ino, size int64) error {
	_, err := e.fs.Setattr(e.ctx, c, ino, vfs.SetAttr{Size: &size})
	return err
}

// entries lists a directory, "." and ".." included.
func (e *env) entries(dir fsapi.Ino, attrs bool) []fsapi.Dirent {
	e.Helper()
	d, err := e.fs.OpenDir(e.ctx, fsapi.Root, dir)
	e.ok(err)
	var list []fsapi.Dirent
	e.ok(d.Read(e.ctx, 0, attrs, func(en fsapi.Dirent) bool { list = append(list, en); return true }))
	e.ok(d.Close())
	return list
}

// names lists the names in a directory, sorted, without "." and "..".
func (e *env) names(dir fsapi.Ino) []string {
	e.Helper()
	names := []string{}
	for _, en := range e.entries(dir, false) {
		if en.Name != "." && en.Name != ".." {
			names = append(names, en.Name)
		}
	}
	slices.Sort(names)
	return names
}

// touched says which times of an inode do changed: a subset of "amc". mtime and
// ctime must not go back; where they changed, Change must have grown.
func (e *env) touched(ino fsapi.Ino, do func()) string {
	e.Helper()
	e.tick()
	before := e.attr(ino)
	do()
	after := e.attr(ino)
	var s []byte
	for _, t := range []struct {
		letter        byte
		before, after time.Time
	}{{'a', before.Atime, after.Atime}, {'m', before.Mtime, after.Mtime}, {'c', before.Ctime, after.Ctime}} {
		if t.letter != 'a' && t.after.Before(t.before) {
			e.Fatalf("time %c went back from %v to %v", t.letter, t.before, t.after)
		}
		if !t.after.Equal(t.before) {
			s = append(s, t.letter)
		}
	}
	if bytes.ContainsAny(s, "mc") && after.Change <= before.Change {
		e.Fatalf("times %s changed but Change went from %d to %d", s, before.Change, after.Change)
	}
	return string(s)
}

// pattern is n bytes, none of them zero, that differ with seed.
func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	x := uint32(seed) + 1
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x>>24)%255 + 1
	}
	return p
}

// still is a without the time of access, which looking changes.
func still(a fsapi.Attr) fsapi.Attr {
	a.Atime = time.Time{}
	return a
}

// at is a pointer to v.
func at[T any](v T) *T { return &v }
