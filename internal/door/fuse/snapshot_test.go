package fuse

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
	teststack "github.com/strakefs/strake/test/stack"
)

// TestSnapshotsThroughTheKernel browses snapshots by system calls while the live
// tree changes, and sees them go.
func TestSnapshotsThroughTheKernel(t *testing.T) {
	st := teststack.Start(t, teststack.Options{Engine: teststack.Mem})
	s := mountFS(t, st.Local, nil)
	snaps := filepath.Join(s.Dir(), vfs.VirtualName, "snapshots")
	at := func(parts ...string) string { return filepath.Join(append([]string{s.Dir()}, parts...)...) }
	then := bytes.Repeat([]byte("then "), 100_000)
	must(t, os.Mkdir(at("d"), 0o755))
	must(t, os.WriteFile(at("d", "f"), then, 0o640))
	must(t, os.Symlink("f", at("d", "l")))
	must(t, unix.Setxattr(at("d", "f"), "user.a", []byte("then"), 0))
	take := func(name string) {
		t.Helper()
		// What the kernel holds back is written first, as sync(1) does.
		fd, err := unix.Open(s.Dir(), unix.O_RDONLY, 0)
		must(t, err)
		must(t, unix.Syncfs(fd))
		must(t, unix.Close(fd))
		_, err = st.Local.CreateSnapshot(t.Context(), fsapi.Root, vfs.Snapshot{Name: name})
		must(t, err)
	}
	names := func(dir string) string {
		t.Helper()
		es, err := os.ReadDir(dir)
		must(t, err)
		var list []string
		for _, e := range es {
			list = append(list, e.Name())
		}
		return strings.Join(list, " ")
	}
	if got := names(snaps); got != "" {
		t.Errorf("snapshots %q before any", got)
	}
	take("one")
	must(t, os.WriteFile(at("d", "f"), []byte("now"), 0o640))
	must(t, os.Remove(at("d", "l")))
	must(t, os.WriteFile(at("d", "new"), nil, 0o644))
	take("two")
	must(t, os.Rename(at("d"), at("e")))

	for range 2 { // the second time from the kernel's caches
		if got := names(snaps); got != "one two" {
			t.Errorf("snapshots %q", got)
		}
		old := filepath.Join(snaps, "one", "d")
		if got := names(old); got != "f l" {
			t.Errorf("names of then %q", got)
		}
		if got := names(filepath.Join(snaps, "two", "d")); got != "f new" {
			t.Errorf("names of later %q", got)
		}
		b, err := os.ReadFile(filepath.Join(old, "l"))
		if err != nil || !bytes.Equal(b, then) {
			t.Errorf("through the symlink: %d bytes, %v", len(b), err)
		}
		v := make([]byte, 10)
		n, err := unix.Getxattr(filepath.Join(old, "f"), "user.a", v)
		if err != nil || string(v[:n]) != "then" {
			t.Errorf("attribute %q, %v", v[:max(n, 0)], err)
		}
	}
	if b, err := os.ReadFile(at("e", "f")); err != nil || string(b) != "now" {
		t.Errorf("live: %q, %v", b, err)
	}
	for what, err := range map[string]error{
		"write":  os.WriteFile(filepath.Join(snaps, "one", "d", "f"), nil, 0o644),
		"create": os.WriteFile(filepath.Join(snaps, "one", "d", "x"), nil, 0o644),
		"remove": os.Remove(filepath.Join(snaps, "one", "d", "f")),
		"mkdir":  os.Mkdir(filepath.Join(snaps, "one", "x"), 0o755),
		"chmod":  os.Chmod(filepath.Join(snaps, "one", "d", "f"), 0o777),
		"rename": os.Rename(filepath.Join(snaps, "one", "d", "f"), at("x")),
		"link":   os.Link(filepath.Join(snaps, "one", "d", "f"), at("x")),
	} {
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
	must(t, st.Local.DeleteSnapshot(t.Context(), fsapi.Root, "one"))
	must(t, s.Settle(t.Context()))
	if _, err := os.Stat(filepath.Join(snaps, "one", "d", "f")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("of a deleted snapshot: %v", err)
	}
	if got := names(snaps); got != "two" {
		t.Errorf("snapshots %q", got)
	}
}

// TestRetentionThroughTheKernel makes a file read-only in a directory whose
// policy retains such, and finds that not even root gets rid of it.
func TestRetentionThroughTheKernel(t *testing.T) {
	st := teststack.Start(t, teststack.Options{Engine: teststack.Mem})
	s := mountFS(t, st.Local, nil)
	dir := filepath.Join(s.Dir(), "d")
	must(t, os.Mkdir(dir, 0o755))
	must(t, unix.Setxattr(dir, vfs.PolicyXattr, []byte("retention=compliance:24h"), 0))
	f := filepath.Join(dir, "f")
	must(t, os.WriteFile(f, []byte("kept"), 0o644))
	open, err := os.OpenFile(f, os.O_RDWR, 0)
	must(t, err)
	defer open.Close()
	must(t, os.Chmod(f, 0o444))
	_, writeErr := open.WriteAt([]byte("x"), 0)
	for what, err := range map[string]error{
		"write by an open handle": writeErr,
		"open to write":           os.WriteFile(f, nil, 0o644),
		"truncate":                os.Truncate(f, 0),
		"remove":                  os.Remove(f),
		"rename":                  os.Rename(f, f+"2"),
		"link":                    os.Link(f, f+"2"),
		"chmod":                   os.Chmod(f, 0o644),
		"end it":                  unix.Removexattr(f, vfs.RetentionXattr),
	} {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v, want EPERM", what, err)
		}
	}
	v := make([]byte, 200)
	n, err := unix.Getxattr(f, vfs.RetentionXattr, v)
	must(t, err)
	if r, err := policy.ParseRetained(string(v[:n])); err != nil || r.Mode != policy.Compliance {
		t.Errorf("retention %q, %v", v[:n], err)
	}
	if b, err := os.ReadFile(f); err != nil || string(b) != "kept" {
		t.Errorf("content %q, %v", b, err)
	}
}

// TestRetentionAndMappings writes by a mapping that was made before the file
// came under retention: what could not be stored is not read afterwards.
func TestRetentionAndMappings(t *testing.T) {
	st := teststack.Start(t, teststack.Options{Engine: teststack.Mem})
	s := mountFS(t, st.Local, nil)
	f := filepath.Join(s.Dir(), "f")
	must(t, os.WriteFile(f, []byte("kept"), 0o644))
	open, err := os.OpenFile(f, os.O_RDWR, 0)
	must(t, err)
	defer open.Close()
	// Populated, as this process would wait for itself at a fault.
	mapped, err := unix.Mmap(int(open.Fd()), 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	must(t, err)
	must(t, unix.Setxattr(f, vfs.RetentionXattr, []byte("mode=governance until=2100-01-01T00:00:00Z"), 0))
	mapped[0] = 'X'
	if err := unix.Msync(mapped, unix.MS_SYNC); !errors.Is(err, unix.EPERM) {
		t.Errorf("msync: %v, want EPERM", err)
	}
	must(t, unix.Munmap(mapped))
	settle(t, s)
	got := make([]byte, 4)
	if _, err := open.ReadAt(got, 0); err != nil || string(got) != "kept" {
		t.Errorf("by the open handle: %q, %v", got, err)
	}
	if b, err := os.ReadFile(f); err != nil || string(b) != "kept" {
		t.Errorf("content %q, %v", b, err)
	}
}
