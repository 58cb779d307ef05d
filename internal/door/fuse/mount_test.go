package fuse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/internal/vfs/model"
)

// other is another door's credentials.
var other = &fsapi.Cred{Door: "rest"}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put makes or replaces a file through another door.
func put(t *testing.T, fs vfs.FS, name, data string) fsapi.Attr {
	t.Helper()
	ctx := context.Background()
	a, f, err := fs.Create(ctx, other, fsapi.RootIno, name, vfs.NewNode{Type: fsapi.TypeRegular, Mode: 0o644}, vfs.OpenWrite|vfs.OpenTrunc)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt(ctx, []byte(data), 0)
	must(t, err)
	return a
}

// sees fails the test unless the mount shows a file's content and size.
func sees(t *testing.T, s *Server, name, want string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Dir(), name))
	must(t, err)
	st, err := os.Stat(filepath.Join(s.Dir(), name))
	must(t, err)
	if string(b) != want || st.Size() != int64(len(want)) {
		t.Errorf("%s shows %q and %d bytes, want %q", name, b, st.Size(), want)
	}
}

func lists(t *testing.T, s *Server, want string) {
	t.Helper()
	d, err := os.Open(s.Dir())
	must(t, err)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	must(t, err)
	sort.Strings(names)
	if got := strings.Join(names, " "); got != want {
		t.Errorf("listed: %s, want %s", got, want)
	}
}

func settle(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	must(t, s.Settle(ctx))
}

// TestOtherDoors warms the kernel's caches and then changes, through another
// door, everything they hold.
func TestOtherDoors(t *testing.T) {
	fs := model.New(model.Options{})
	s := mountFS(t, fs, nil)
	ctx := context.Background()
	at := func(name string) string { return filepath.Join(s.Dir(), name) }

	lists(t, s, "")
	if _, err := os.Stat(at("a")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	a := put(t, fs, "a", "one")
	settle(t, s)
	sees(t, s, "a", "one") // the name's absence was cached
	lists(t, s, "a")       // and the listing

	open, err := os.Open(at("a"))
	must(t, err)
	defer open.Close()
	put(t, fs, "a", "two, longer")
	sees(t, s, "a", "two, longer") // K2: no settling needed
	b := make([]byte, 20)
	if n, err := open.ReadAt(b, 0); string(b[:n]) != "two, longer" || !errors.Is(err, io.EOF) {
		t.Errorf("the open file shows %q, %v", b[:n], err)
	}

	mode := uint32(0o600)
	_, err = fs.Setattr(ctx, other, a.Ino, vfs.SetAttr{Mode: &mode})
	must(t, err)
	settle(t, s)
	if st, err := os.Stat(at("a")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}

	must(t, fs.Rename(ctx, other, fsapi.RootIno, "a", fsapi.RootIno, "b", 0))
	settle(t, s)
	if _, err := os.Stat(at("a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
	sees(t, s, "b", "two, longer")
	lists(t, s, "b")

	must(t, fs.Unlink(ctx, other, fsapi.RootIno, "b"))
	settle(t, s)
	if _, err := os.Stat(at("b")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the removed name: %v", err)
	}
	lists(t, s, "")
}

// TestOtherDoorRemovesWorkingDirectory removes what the kernel has in use.
func TestOtherDoorRemovesWorkingDirectory(t *testing.T) {
	fs := model.New(model.Options{})
	s := mountFS(t, fs, nil)
	dir := filepath.Join(s.Dir(), "d")
	must(t, os.Mkdir(dir, 0o755))
	d, err := os.Open(dir)
	must(t, err)
	defer d.Close()
	must(t, fs.Rmdir(context.Background(), other, fsapi.RootIno, "d"))
	settle(t, s)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
	must(t, os.Mkdir(dir, 0o755))
	if fd, err := unix.Openat(int(d.Fd()), "f", unix.O_CREAT|unix.O_WRONLY, 0o644); !errors.Is(err, unix.ENOENT) {
		unix.Close(fd)
		t.Errorf("create in the removed directory: %v", err)
	}
}

// TestLostInvalidations overruns the queue: names are looked up again and pages
// are not trusted (K3).
func TestLostInvalidations(t *testing.T) {
	fs := model.New(model.Options{})
	s := mountFS(t, fs, nil)
	name := func(i int) string { return "f" + strings.Repeat("x", i) }
	const n = 50
	for i := range n {
		put(t, fs, name(i), "before")
	}
	settle(t, s)
	for i := range n {
		sees(t, s, name(i), "before")
	}
	s.r.inval.mu.Lock()
	s.r.inval.max = 0
	s.r.inval.mu.Unlock()
	for i := range n {
		if i%2 == 0 {
			put(t, fs, name(i), "after all")
		} else {
			must(t, fs.Unlink(context.Background(), other, fsapi.RootIno, name(i)))
		}
	}
	settle(t, s)
	for i := range n {
		if i%2 == 0 {
			sees(t, s, name(i), "after all")
		} else if _, err := os.Stat(filepath.Join(s.Dir(), name(i))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name(i), err)
		}
	}
}

// TestAppendMeetsOtherDoor appends through the kernel, which does not know yet
// that another door has appended.
func TestAppendMeetsOtherDoor(t *testing.T) {
	fs := model.New(model.Options{})
	s := mountFS(t, fs, nil)
	p := filepath.Join(s.Dir(), "log")
	f, err := os.OpenFile(p, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	must(t, err)
	defer f.Close()
	ctx := context.Background()
	a, err := fs.Lookup(ctx, other, fsapi.RootIno, "log")
	must(t, err)
	g, err := fs.Open(ctx, other, a.Ino, vfs.OpenWrite|vfs.OpenAppend)
	must(t, err)
	defer g.Close()
	want := ""
	for range 50 {
		_, err := g.WriteAt(ctx, []byte("other "), 0)
		must(t, err)
		_, err = f.WriteString("ours ")
		must(t, err)
		want += "other ours "
	}
	settle(t, s)
	sees(t, s, "log", want)
}

// TestStaleMount mounts where a server was killed.
func TestStaleMount(t *testing.T) {
	needMount(t)
	dir := mountPoint(t)
	cmd := startServer(t, dir)
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644))
	f, err := os.Open(filepath.Join(dir, "f"))
	must(t, err)
	defer f.Close()

	if s, err := Mount(Options{FS: model.New(model.Options{}), Dir: dir, Log: quiet()}); fsapi.KindOf(err) != fsapi.Busy {
		t.Errorf("a second server at %s: %v, %v", dir, s, err)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	if !dead(dir) {
		t.Fatal("the mount of a killed server counts as alive")
	}
	s, err := Mount(Options{FS: model.New(model.Options{}), Dir: dir, Log: quiet()})
	must(t, err)
	lists(t, s, "")
	must(t, s.Unmount(context.Background()))
	if err := s.Unmount(context.Background()); err != nil {
		t.Errorf("a second Unmount: %v", err)
	}
}

// TestUnmountWhileOpen cuts users off when the time is up, and only then.
func TestUnmountWhileOpen(t *testing.T) {
	fs := model.New(model.Options{})
	s := mountFS(t, fs, nil)
	f, err := os.Create(filepath.Join(s.Dir(), "f"))
	must(t, err)
	defer f.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Unmount(ctx) }()
	_, err = f.WriteString("still works")
	must(t, err)
	cancel()
	must(t, <-done)
	if _, err := f.WriteString("x"); !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		t.Errorf("a write after: %v", err)
	}
	s.r.files.each(func(fh uint64, h *fileHandle) { t.Errorf("handle %d of inode %d is still open", fh, h.ino) })
}

// TestUnmountHeldElsewhere ends a mount that another mount namespace has a copy of,
// which is not unmounted with ours where it is private.
func TestUnmountHeldElsewhere(t *testing.T) {
	s := mountFS(t, model.New(model.Options{}), nil)
	holder := exec.Command("sleep", "1000")
	holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} // which makes all mounts private
	if err := holder.Start(); err != nil {
		t.Skipf("no mount namespaces here: %v", err)
	}
	defer func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	}()
	copied, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", holder.Process.Pid))
	must(t, err)
	if !strings.Contains(string(copied), s.Dir()) {
		t.Fatal("the other namespace has no copy of the mount")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	must(t, s.Unmount(ctx))
	s.Wait()
}

// TestUnmountWaiters ends calls that wait for a lock.
func TestUnmountWaiters(t *testing.T) {
	fs := model.New(model.Options{})
	s := mountFS(t, fs, nil)
	a := put(t, fs, "f", "")
	ctx := context.Background()
	g, err := fs.Open(ctx, other, a.Ino, vfs.OpenRead)
	must(t, err)
	defer g.Close()
	must(t, g.SetLock(ctx, vfs.Lock{Owner: vfs.LockOwner{Door: "rest"}, Flock: true, Type: vfs.LockWrite, End: math.MaxInt64}, false))
	f, err := os.Open(filepath.Join(s.Dir(), "f"))
	must(t, err)
	got := make(chan error)
	go func() { got <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	cut, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	must(t, s.Unmount(cut))
	if err := <-got; err == nil {
		t.Error("the waiter has the lock")
	}
	f.Close()
}

// TestUnmountedByOthers ends the server.
func TestUnmountedByOthers(t *testing.T) {
	s := mountFS(t, model.New(model.Options{}), nil)
	must(t, unix.Unmount(s.Dir(), 0))
	s.Wait()
}

// changing is a model with a virtual file and directory whose content is new at
// every look.
type changing struct {
	vfs.FS
	looks int
}

const changingIno = fsapi.VirtualIno + 5

func (c *changing) Lookup(ctx context.Context, cr *fsapi.Cred, dir fsapi.Ino, name string) (fsapi.Attr, error) {
	if name == "virtual" {
		return c.Getattr(ctx, changingIno)
	}
	return c.FS.Lookup(ctx, cr, dir, name)
}

func (c *changing) Getattr(ctx context.Context, ino fsapi.Ino) (fsapi.Attr, error) {
	if ino == changingIno {
		return fsapi.Attr{Ino: ino, Type: fsapi.TypeRegular, Mode: 0o444, Nlink: 1}, nil
	}
	return c.FS.Getattr(ctx, ino)
}

func (c *changing) Open(ctx context.Context, cr *fsapi.Cred, ino fsapi.Ino, f vfs.OpenFlags) (vfs.File, error) {
	if ino == changingIno {
		c.looks++
		return &virtualFile{text: strings.Repeat("look ", c.looks)}, nil
	}
	return c.FS.Open(ctx, cr, ino, f)
}

type virtualFile struct {
	vfs.File
	text string
}

func (f *virtualFile) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return copy(p, f.text[min(off, int64(len(f.text))):]), nil
}
func (f *virtualFile) Flush(context.Context, vfs.LockOwner) error { return nil }
func (f *virtualFile) Close() error                               { return nil }

// TestVirtualIsNotCached reads a file whose size says 0 and whose content
// changes.
func TestVirtualIsNotCached(t *testing.T) {
	s := mountFS(t, &changing{FS: model.New(model.Options{})}, nil)
	for _, want := range []string{"look ", "look look ", "look look look "} {
		b, err := os.ReadFile(filepath.Join(s.Dir(), "virtual"))
		if err != nil || string(b) != want {
			t.Errorf("read %q, %v, want %q", b, err, want)
		}
	}
}

// TestServe serves a model where STRAKE_MOUNT says, until interrupted: for
// running other programs' tests against the door alone.
func TestServe(t *testing.T) {
	dir := os.Getenv("STRAKE_MOUNT")
	if dir == "" {
		t.Skip("STRAKE_MOUNT names no directory")
	}
	if serve(dir) != 0 {
		t.Error("serving failed")
	}
}
