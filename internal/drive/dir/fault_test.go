package dir_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

func wantKind(t *testing.T, err error, kind fsapi.Kind) {
	t.Helper()
	if err == nil || fsapi.KindOf(err) != kind {
		t.Errorf("error %v is not of kind %q", err, kind)
	}
}

// TestEveryCallFails fails each call to the file system in turn, once: the
// call above fails with the right kind and leaves nothing behind, and the drive
// goes on.
func TestEveryCallFails(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		want := fsapi.IO
		if errors.Is(cause, syscall.ENOSPC) {
			want = fsapi.NoSpace
		}
		failed := 0
		for n := int64(1); ; n++ {
			m := osfs.NewMem(osfs.MemOptions{})
			fsys := osfs.NewFault(m, nil)
			d := made(t, dir.Options{FS: fsys, Path: "/drive", Buffer: 8192})
			data := drivetest.Bytes(1, 20_000)
			var calls atomic.Int64
			fsys.SetRule(func(c osfs.Call) osfs.Outcome {
				if c.Op == osfs.OpDropCache || calls.Add(1) != n {
					return osfs.Outcome{}
				}
				return osfs.Outcome{Err: cause, Short: c.Len / 2}
			})
			err := drivetest.Put(t.Context(), d, "a/b", data, 20_000, 3000)
			fsys.SetRule(nil)
			if err != nil {
				failed++
				if k := fsapi.KindOf(err); k != want && k != fsapi.IO {
					t.Errorf("call %d: %v", n, err)
				}
				if !strings.Contains(err.Error(), "a/b") && !strings.Contains(err.Error(), "measure") {
					t.Errorf("call %d: %q does not name the blob", n, err)
				}
				if _, err := d.Stat(t.Context(), "a/b"); fsapi.KindOf(err) != fsapi.NotExist {
					t.Errorf("call %d: visible after a failed commit: %v", n, err)
				}
				must(t, drivetest.Put(t.Context(), d, "a/b", data, 0, 3000))
			}
			ledger{"a/b": {data}}.check(t, m.CrashClone(newRand(), osfs.CrashLose))
			must(t, d.Close())
			if err == nil && calls.Load() < n {
				break
			}
		}
		if failed < 10 {
			t.Errorf("only %d calls failed", failed)
		}
	}
}

// TestRetractFails hides what could be neither made durable nor removed until
// the drive is opened again.
func TestRetractFails(t *testing.T) {
	fsys := osfs.NewFault(osfs.NewMem(osfs.MemOptions{}), nil)
	o := dir.Options{FS: fsys, Path: "/drive"}
	d := made(t, o)
	must(t, drivetest.Put(t.Context(), d, "other", nil, 0, 1))
	fsys.SetRule(func(c osfs.Call) osfs.Outcome {
		if c.Op == osfs.OpSyncDir || c.Op == osfs.OpRemove && strings.HasSuffix(c.Name, "blob") {
			return osfs.Outcome{Err: syscall.EIO}
		}
		return osfs.Outcome{}
	})
	wantKind(t, drivetest.Put(t.Context(), d, "blob", nil, 0, 1), fsapi.IO)
	fsys.SetRule(nil)
	_, err := d.Stat(t.Context(), "blob")
	wantKind(t, err, fsapi.NotExist)
	_, err = d.ReadAt(t.Context(), "blob", 0, make([]byte, 1))
	wantKind(t, err, fsapi.NotExist)
	must(t, d.List(t.Context(), "", "other~", func(b drive.Blob) error { return errors.New(b.Name) }))
	wantKind(t, drivetest.Put(t.Context(), d, "blob", nil, 0, 1), fsapi.IO)
	must(t, d.Close())
	d = opened(t, o)
	defer d.Close()
	wantKind(t, drivetest.Put(t.Context(), d, "blob", nil, 0, 1), fsapi.Exist)
}

func TestFull(t *testing.T) {
	const mib = 1 << 20
	m := osfs.NewMem(osfs.MemOptions{Capacity: 10 * mib})
	d := made(t, dir.Options{FS: m, Path: "/drive", Reserve: 4 * mib})
	defer d.Close()
	must(t, d.Replace(t.Context(), "first", nil)) // what marks the drive takes space, too
	c, err := d.Capacity(t.Context())
	must(t, err)
	if c.Total != 10*mib || c.Avail > 6*mib || c.Avail < 6*mib-64<<10 {
		t.Errorf("capacity %+v", c)
	}
	_, err = d.Create(t.Context(), "big", 7*mib)
	wantKind(t, err, fsapi.NoSpace)
	wantKind(t, drivetest.Put(t.Context(), d, "big", make([]byte, 11*mib), 0, mib), fsapi.NoSpace)
	if after, _ := d.Capacity(t.Context()); after != c {
		t.Errorf("a failed write keeps space: %+v, was %+v", after, c)
	}
	must(t, drivetest.Put(t.Context(), d, "fits", make([]byte, 5*mib), 5*mib, mib))
	wantKind(t, drivetest.Put(t.Context(), d, "no such name!", nil, 0, mib), fsapi.Invalid)
}

func TestIdentity(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	o := dir.Options{FS: m, Path: "/drive"}
	_, err := dir.Open(o)
	wantKind(t, err, fsapi.NotExist)
	d := made(t, o)
	wantKind(t, dir.Init(m, "/drive", dir.Identity{ID: 7}), fsapi.Exist)
	_, err = dir.Open(o)
	wantKind(t, err, fsapi.Busy)
	must(t, d.Close())
	o.Expect = 99
	_, err = dir.Open(o)
	wantKind(t, err, fsapi.Stale)
	if !strings.Contains(err.Error(), "0000000000001234") || !strings.Contains(err.Error(), "0000000000000063") {
		t.Errorf("%q does not name both drives", err)
	}
	o.Expect = testID
	must(t, opened(t, o).Close())
	wantKind(t, dir.Init(m, "/zero", dir.Identity{}), fsapi.Invalid)
	must(t, m.MkdirAll("/full/photos", 0o755))
	wantKind(t, dir.Init(m, "/full", dir.Identity{ID: 7}), fsapi.NotEmpty)
}

func TestLeftoversGo(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	o := dir.Options{FS: m, Path: "/drive"}
	must(t, made(t, o).Close())
	must(t, osfs.WriteSynced(m, "/drive/.strake/tmp/0000000000000001", []byte("x"), 0o600))
	d := opened(t, o)
	defer d.Close()
	if names, err := m.ReadDir("/drive/.strake/tmp"); err != nil || len(names) > 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

// TestOpenFilesAreBounded counts descriptors while many blobs are being read.
func TestOpenFilesAreBounded(t *testing.T) {
	var open, most atomic.Int64
	fsys := osfs.NewFault(osfs.NewMem(osfs.MemOptions{}), nil)
	d := made(t, dir.Options{FS: fsys, Path: "/drive", OpenFiles: 5})
	for i := range 50 {
		must(t, drivetest.Put(t.Context(), d, fmt.Sprint("b", i), []byte{byte(i)}, 0, 1))
	}
	fsys.SetRule(func(c osfs.Call) osfs.Outcome {
		switch c.Op {
		case osfs.OpOpen:
			most.Store(max(most.Load(), open.Add(1)))
		case osfs.OpClose:
			open.Add(-1)
		}
		return osfs.Outcome{}
	})
	const readers = 4
	var wg sync.WaitGroup
	for g := range readers {
		wg.Go(func() {
			p := make([]byte, 1)
			for i := range 500 {
				b := (i*7 + g*13) % 50
				if _, err := d.ReadAt(t.Context(), fmt.Sprint("b", b), 0, p); err != nil && !errors.Is(err, io.EOF) || p[0] != byte(b) {
					t.Errorf("b%d: %d, %v", b, p[0], err)
				}
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > 5+readers {
		t.Errorf("%d descriptors open at a time", n)
	}
	if n := open.Load(); n > 5 {
		t.Errorf("%d descriptors kept open", n)
	}
	must(t, d.Close())
	if n := open.Load(); n != 0 {
		t.Errorf("%d descriptors open after Close", n)
	}
}

// TestDirectRefused falls back to the page cache where a file system has no
// O_DIRECT.
func TestDirectRefused(t *testing.T) {
	if osfs.DirectIO == 0 {
		t.Skip("this host has no O_DIRECT")
	}
	for _, op := range []osfs.Op{osfs.OpOpen, osfs.OpWrite} {
		fsys := osfs.NewFault(osfs.OS{}, func(c osfs.Call) osfs.Outcome {
			if c.Op == op && strings.Contains(c.Name, ".strake/tmp/") {
				return osfs.Outcome{Err: syscall.EINVAL}
			}
			return osfs.Outcome{}
		})
		o := dir.Options{FS: fsys, Path: t.TempDir()}
		must(t, dir.Init(osfs.OS{}, o.Path, dir.Identity{ID: testID}))
		d := opened(t, o)
		fsys.SetRule(nil)
		if d.Direct() {
			t.Errorf("%s refused, and still direct", op)
		}
		must(t, drivetest.Put(t.Context(), d, "x", drivetest.Bytes(1, 1<<20), 0, 1<<16))
		must(t, d.Close())
	}
}
