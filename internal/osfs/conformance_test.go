package osfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/osfs"
)

// TestConformance runs every implementation through what callers of FS rely on.
func TestConformance(t *testing.T) {
	implementations := map[string]func(t *testing.T) (osfs.FS, string){
		"OS":    func(t *testing.T) (osfs.FS, string) { return osfs.OS{}, t.TempDir() },
		"Mem":   func(t *testing.T) (osfs.FS, string) { return osfs.NewMem(osfs.MemOptions{}), "/" },
		"Fault": func(t *testing.T) (osfs.FS, string) { return osfs.NewFault(osfs.OS{}, nil), t.TempDir() },
	}
	cases := map[string]func(t *testing.T, fsys osfs.FS, dir string){
		"open flags":        testOpenFlags,
		"read and write":    testReadWrite,
		"append":            testAppend,
		"truncate":          testTruncate,
		"holes":             testHoles,
		"directories":       testDirectories,
		"remove":            testRemove,
		"rename":            testRename,
		"link":              testLink,
		"unlinked but open": testUnlinkedOpen,
		"lock":              testLock,
		"closed":            testClosed,
		"statfs":            testStatFS,
		"hints":             testHints,
		"replace":           testReplace,
		"concurrent":        testConcurrent,
	}
	for impl, open := range implementations {
		for name, run := range cases {
			t.Run(impl+"/"+name, func(t *testing.T) {
				fsys, dir := open(t)
				run(t, fsys, dir)
			})
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantIs(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("error %v is not %v", err, target)
	}
}

func put(t *testing.T, fsys osfs.FS, name, data string) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	must(t, err)
	_, err = f.Write([]byte(data))
	must(t, err)
	must(t, f.Close())
}

func get(t *testing.T, fsys osfs.FS, name string) string {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	return string(b)
}

func testOpenFlags(t *testing.T, fsys osfs.FS, dir string) {
	name := path.Join(dir, "f")
	_, err := fsys.OpenFile(name, os.O_RDWR, 0)
	wantIs(t, err, fs.ErrNotExist)
	_, err = fsys.OpenFile(path.Join(dir, "no", "f"), os.O_RDWR|os.O_CREATE, 0o600)
	wantIs(t, err, fs.ErrNotExist)
	put(t, fsys, name, "hello")
	_, err = fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	wantIs(t, err, fs.ErrExist)
	_, err = fsys.OpenFile(path.Join(name, "x"), os.O_RDWR|os.O_CREATE, 0o600)
	wantIs(t, err, syscall.ENOTDIR)
	_, err = fsys.OpenFile(dir, os.O_RDWR, 0)
	wantIs(t, err, syscall.EISDIR)
	_, err = fsys.OpenFile(path.Join(dir, strings.Repeat("n", 256)), os.O_RDWR|os.O_CREATE, 0o600)
	wantIs(t, err, syscall.ENAMETOOLONG)

	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	must(t, err)
	_, err = f.Write([]byte("x"))
	wantIs(t, err, syscall.EBADF)
	must(t, f.Close())
	f, err = fsys.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.Read(make([]byte, 1))
	wantIs(t, err, syscall.EBADF)
	must(t, f.Close())
	f, err = fsys.OpenFile(name, os.O_RDWR|os.O_TRUNC, 0)
	must(t, err)
	must(t, f.Close())
	if got := get(t, fsys, name); got != "" {
		t.Errorf("O_TRUNC left %q", got)
	}
}

func testReadWrite(t *testing.T, fsys osfs.FS, dir string) {
	f, err := fsys.OpenFile(path.Join(dir, "f"), os.O_RDWR|os.O_CREATE, 0o640)
	must(t, err)
	defer f.Close()
	data := bytes.Repeat([]byte("0123456789abcde"), 3000)
	n, err := f.Write(data)
	must(t, err)
	if n != len(data) {
		t.Errorf("wrote %d of %d", n, len(data))
	}
	copy(data[4090:], "over a block's end")
	_, err = f.WriteAt([]byte("over a block's end"), 4090)
	must(t, err)
	got := make([]byte, len(data)+10)
	n, err = f.ReadAt(got, 0)
	if !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], data) {
		t.Errorf("ReadAt past the end: %d bytes, %v", n, err)
	}
	n, err = f.ReadAt(got[:100], 50)
	if n != 100 || err != nil || !bytes.Equal(got[:100], data[50:150]) {
		t.Errorf("ReadAt: %d, %v", n, err)
	}
	if n, err = f.ReadAt(got, 1<<40); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt far past the end: %d, %v", n, err)
	}
	if n, err = f.Read(got); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("Read at the end: %d, %v", n, err)
	}
	if _, err = f.ReadAt(got, -1); err == nil {
		t.Error("ReadAt at a negative offset succeeded")
	}
	if _, err = f.WriteAt(got, -1); err == nil {
		t.Error("WriteAt at a negative offset succeeded")
	}
	info, err := f.Stat()
	must(t, err)
	if info.Size() != int64(len(data)) || info.Name() != "f" || info.IsDir() || info.Mode() != 0o640 {
		t.Errorf("Stat: %v %v %v", info.Size(), info.Name(), info.Mode())
	}
	must(t, f.Sync())
	must(t, f.SyncData())
}

func testAppend(t *testing.T, fsys osfs.FS, dir string) {
	name := path.Join(dir, "f")
	put(t, fsys, name, "one ")
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	g, err := fsys.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	for _, h := range []osfs.File{f, g, f} {
		_, err = h.Write([]byte("more "))
		must(t, err)
	}
	if _, err = f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("WriteAt with O_APPEND succeeded")
	}
	must(t, f.Close())
	must(t, g.Close())
	if got := get(t, fsys, name); got != "one more more more " {
		t.Errorf("got %q", got)
	}
}

func testTruncate(t *testing.T, fsys osfs.FS, dir string) {
	name := path.Join(dir, "f")
	put(t, fsys, name, strings.Repeat("x", 10000))
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	must(t, f.Truncate(5000))
	must(t, f.Truncate(9000))
	must(t, f.Close())
	if want := strings.Repeat("x", 5000) + strings.Repeat("\x00", 4000); get(t, fsys, name) != want {
		t.Error("bytes cut off came back")
	}
}

func testHoles(t *testing.T, fsys osfs.FS, dir string) {
	f, err := fsys.OpenFile(path.Join(dir, "f"), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("end"), 1<<20)
	must(t, err)
	p := bytes.Repeat([]byte{7}, 8192)
	_, err = f.ReadAt(p, 1<<19)
	must(t, err)
	if !bytes.Equal(p, make([]byte, len(p))) {
		t.Error("a hole is not zeros")
	}
}

func testDirectories(t *testing.T, fsys osfs.FS, dir string) {
	must(t, fsys.MkdirAll(path.Join(dir, "a/b/c"), 0o755))
	must(t, fsys.MkdirAll(path.Join(dir, "a/b/c"), 0o755))
	put(t, fsys, path.Join(dir, "a/b/z"), "")
	put(t, fsys, path.Join(dir, "a/b/B"), "")
	wantIs(t, fsys.MkdirAll(path.Join(dir, "a/b/z/d"), 0o755), syscall.ENOTDIR)
	names, err := fsys.ReadDir(path.Join(dir, "a/b"))
	must(t, err)
	if diff := cmp.Diff([]string{"B", "c", "z"}, names); diff != "" {
		t.Error(diff)
	}
	_, err = fsys.ReadDir(path.Join(dir, "none"))
	wantIs(t, err, fs.ErrNotExist)
	_, err = fsys.ReadDir(path.Join(dir, "a/b/z"))
	wantIs(t, err, syscall.ENOTDIR)
	info, err := fsys.Stat(path.Join(dir, "a/b"))
	must(t, err)
	if !info.IsDir() || info.Name() != "b" {
		t.Errorf("Stat of a directory: %v", info)
	}
	_, err = fsys.Stat(path.Join(dir, "a/none"))
	wantIs(t, err, fs.ErrNotExist)
	must(t, fsys.SyncDir(path.Join(dir, "a/b")))
	wantIs(t, fsys.SyncDir(path.Join(dir, "none")), fs.ErrNotExist)
	d, err := fsys.OpenFile(path.Join(dir, "a"), os.O_RDONLY, 0)
	must(t, err)
	must(t, d.Sync())
	must(t, d.Close())
}

func testRemove(t *testing.T, fsys osfs.FS, dir string) {
	must(t, fsys.MkdirAll(path.Join(dir, "a/b"), 0o755))
	put(t, fsys, path.Join(dir, "a/b/f"), "x")
	wantIs(t, fsys.Remove(path.Join(dir, "a")), syscall.ENOTEMPTY)
	wantIs(t, fsys.Remove(path.Join(dir, "none")), fs.ErrNotExist)
	must(t, fsys.RemoveAll(path.Join(dir, "none")))
	must(t, fsys.Remove(path.Join(dir, "a/b/f")))
	must(t, fsys.Remove(path.Join(dir, "a/b")))
	put(t, fsys, path.Join(dir, "a/f"), "x")
	must(t, fsys.MkdirAll(path.Join(dir, "a/c/d"), 0o755))
	must(t, fsys.RemoveAll(path.Join(dir, "a")))
	_, err := fsys.Stat(path.Join(dir, "a"))
	wantIs(t, err, fs.ErrNotExist)
}

func testRename(t *testing.T, fsys osfs.FS, dir string) {
	at := func(name string) string { return path.Join(dir, name) }
	must(t, fsys.MkdirAll(at("d/e"), 0o755))
	must(t, fsys.MkdirAll(at("empty"), 0o755))
	put(t, fsys, at("one"), "1")
	put(t, fsys, at("two"), "2")
	must(t, fsys.Rename(at("one"), at("two")))
	if got := get(t, fsys, at("two")); got != "1" {
		t.Errorf("after rename over a file: %q", got)
	}
	_, err := fsys.Stat(at("one"))
	wantIs(t, err, fs.ErrNotExist)
	must(t, fsys.Rename(at("two"), at("d/e/two")))
	must(t, fsys.Rename(at("d/e/two"), at("d/e/two")))
	must(t, fsys.Rename(at("d"), at("D")))
	if got := get(t, fsys, at("D/e/two")); got != "1" {
		t.Errorf("after rename of a directory: %q", got)
	}
	wantIs(t, fsys.Rename(at("none"), at("x")), fs.ErrNotExist)
	wantIs(t, fsys.Rename(at("D"), at("no/x")), fs.ErrNotExist)
	wantIs(t, fsys.Rename(at("D"), at("D/e/f")), syscall.EINVAL)
	wantIs(t, fsys.Rename(at("D"), at("empty")), fs.ErrExist)
	wantIs(t, fsys.Rename(at("D/e/two"), at("empty")), fs.ErrExist)
	wantIs(t, fsys.Rename(at("empty"), at("D/e/two")), syscall.ENOTDIR)
}

func testLink(t *testing.T, fsys osfs.FS, dir string) {
	at := func(name string) string { return path.Join(dir, name) }
	put(t, fsys, at("one"), "1")
	must(t, fsys.Link(at("one"), at("two")))
	wantIs(t, fsys.Link(at("one"), at("two")), fs.ErrExist)
	wantIs(t, fsys.Link(at("none"), at("three")), fs.ErrNotExist)
	wantIs(t, fsys.Link(at("one"), at("no/three")), fs.ErrNotExist)
	must(t, fsys.Rename(at("one"), at("two"))) // two names of one file: nothing happens
	put(t, fsys, at("one"), "both")
	if got := get(t, fsys, at("two")); got != "both" {
		t.Errorf("second name reads %q", got)
	}
	must(t, fsys.Remove(at("one")))
	if got := get(t, fsys, at("two")); got != "both" {
		t.Errorf("after the first name is gone: %q", got)
	}
}

func testUnlinkedOpen(t *testing.T, fsys osfs.FS, dir string) {
	name := path.Join(dir, "f")
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	must(t, fsys.Remove(name))
	_, err = f.WriteAt([]byte("still here"), 0)
	must(t, err)
	p := make([]byte, 10)
	_, err = f.ReadAt(p, 0)
	must(t, err)
	if string(p) != "still here" {
		t.Errorf("read %q", p)
	}
	must(t, f.Sync())
	must(t, f.Close())
}

func testLock(t *testing.T, fsys osfs.FS, dir string) {
	name := path.Join(dir, "LOCK")
	l, err := fsys.Lock(name)
	must(t, err)
	_, err = fsys.Lock(name)
	wantIs(t, err, syscall.EWOULDBLOCK)
	must(t, l.Close())
	l, err = fsys.Lock(name)
	must(t, err)
	must(t, l.Close())
}

func testClosed(t *testing.T, fsys osfs.FS, dir string) {
	f, err := fsys.OpenFile(path.Join(dir, "f"), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	must(t, f.Close())
	wantIs(t, f.Close(), fs.ErrClosed)
	_, err = f.Read(make([]byte, 1))
	wantIs(t, err, fs.ErrClosed)
	_, err = f.WriteAt(make([]byte, 1), 0)
	wantIs(t, err, fs.ErrClosed)
	wantIs(t, f.Truncate(1), fs.ErrClosed)
	wantIs(t, f.Sync(), fs.ErrClosed)
	wantIs(t, f.SyncData(), fs.ErrClosed)
	wantIs(t, f.SyncRange(0, 1), fs.ErrClosed)
	wantIs(t, f.DropCache(0, 1), fs.ErrClosed)
}

func testStatFS(t *testing.T, fsys osfs.FS, dir string) {
	c, err := fsys.StatFS(dir)
	must(t, err)
	if c.Total <= 0 || c.Avail < 0 || c.Free < c.Avail || c.Total < c.Free {
		t.Errorf("capacity %+v", c)
	}
	_, err = fsys.StatFS(path.Join(dir, "none"))
	wantIs(t, err, fs.ErrNotExist)
}

func testHints(t *testing.T, fsys osfs.FS, dir string) {
	f, err := fsys.OpenFile(path.Join(dir, "f"), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	must(t, f.Preallocate(0, 1<<20))
	_, err = f.Write(make([]byte, 1<<16))
	must(t, err)
	must(t, f.SyncRange(0, 1<<16))
	must(t, f.SyncData())
	must(t, f.DropCache(0, 1<<16))
	info, err := f.Stat()
	must(t, err)
	if info.Size() != 1<<16 {
		t.Errorf("size %d", info.Size())
	}
}

func testReplace(t *testing.T, fsys osfs.FS, dir string) {
	name := path.Join(dir, "f")
	for _, data := range []string{"first", "", "a third and longer one"} {
		must(t, osfs.ReplaceFile(fsys, name, []byte(data), 0o600))
		if got := get(t, fsys, name); got != data {
			t.Errorf("got %q, want %q", got, data)
		}
	}
	names, err := fsys.ReadDir(dir)
	must(t, err)
	if diff := cmp.Diff([]string{"f"}, names); diff != "" {
		t.Error(diff)
	}
	wantIs(t, osfs.ReplaceFile(fsys, path.Join(dir, "no/f"), nil, 0o600), fs.ErrNotExist)
}

func testConcurrent(t *testing.T, fsys osfs.FS, dir string) {
	f, err := fsys.OpenFile(path.Join(dir, "f"), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			mine := bytes.Repeat([]byte{byte(g + 1)}, 1000)
			own := path.Join(dir, "own"+string(rune('a'+g)))
			for i := range 20 {
				off := int64(i*8+g) * 1000
				f.WriteAt(mine, off)
				p := make([]byte, 1000)
				if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, mine) {
					t.Errorf("read back at %d: %v", off, err)
				}
				if err := osfs.ReplaceFile(fsys, own, mine, 0o600); err != nil {
					t.Error(err)
				}
				f.Sync()
			}
		})
	}
	wg.Wait()
}
