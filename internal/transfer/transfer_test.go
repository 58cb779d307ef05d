package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/door/rest"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/transfer"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/internal/vfs/model"
)

type one struct{ fs vfs.FS }

func (o one) Volume(string) (vfs.FS, string, error) { return o.fs, "main", nil }

type anyone struct{}

func (anyone) Role(context.Context, string) (rest.Role, error) { return rest.RoleAdmin, nil }

type noFeed struct{}

func (noFeed) Last() uint64                     { return 0 }
func (noFeed) VolumeName(fsapi.VolumeID) string { return "main" }
func (noFeed) Follow(context.Context, uint64, func(uint64, []fsapi.Change) error) error {
	return nil
}

// server runs a REST door over a volume in memory.
func server(t *testing.T) *client.Client {
	t.Helper()
	d := rest.New(rest.Options{
		Volumes: one{model.New(model.Options{})}, Tokens: anyone{}, Feed: noFeed{}, Metrics: http.NotFoundHandler(),
		Ready: func() error { return nil }, Log: slog.New(slog.DiscardHandler), Version: "test",
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := d.Serve(l, false, nil)
	t.Cleanup(func() { must(t, s.Shutdown(context.Background())) })
	return client.Dial("http://"+l.Addr().String(), "token", "")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// acl is u::rw-, u:1:r--, g::r--, m::rw-, o::--- in the kernel's form.
var acl = []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 1, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 0x10, 0, 6, 0, 255, 255, 255, 255, 0x20, 0, 0, 0, 255, 255, 255, 255}

// fill makes a tree with one of everything. Its root is root's, or the test is
// of less.
func fill(t *testing.T, root string) {
	t.Helper()
	at := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
	r := rand.NewChaCha8([32]byte{1})
	write := func(name string, n int, mode os.FileMode) {
		b := make([]byte, n)
		r.Read(b)
		must(t, os.WriteFile(name, b, 0o600))
		must(t, os.Chmod(name, mode))
	}
	must(t, os.MkdirAll(at("a", "deep", "er"), 0o755))
	must(t, os.Mkdir(at("b"), 0o755))
	for i := range 30 {
		write(at("a", fmt.Sprint("small", i)), i*100, 0o644)
	}
	write(at("big"), 3<<20, 0o640)
	write(at("a", "suid"), 10, 0o755|os.ModeSetuid|os.ModeSetgid)
	must(t, os.Symlink("../big", at("a", "link")))
	must(t, os.Symlink("nowhere\xff", at("b", "dangling")))
	must(t, unix.Mkfifo(at("b", "pipe"), 0o620))
	write(at("b", "name\xff\n"), 5, 0o604)
	must(t, os.Link(at("a", "small7"), at("b", "hard")))
	must(t, os.Link(at("a", "small7"), at("a", "deep", "hard")))
	must(t, os.Link(at("a", "link"), at("b", "hardsym")))

	f, err := os.Create(at("sparse"))
	must(t, err)
	_, err = f.WriteAt([]byte("middle"), 5<<20)
	must(t, err)
	must(t, f.Truncate(12<<20))
	must(t, f.Close())
	must(t, unix.Setxattr(at("big"), "user.note", []byte("\x00binary"), 0))
	must(t, unix.Setxattr(at("a", "small3"), "system.posix_acl_access", acl, 0))
	must(t, unix.Setxattr(at("a", "deep"), "system.posix_acl_default", acl, 0))
	must(t, unix.Setxattr(at("b"), "user.dir", []byte("d"), 0))
	if os.Geteuid() == 0 {
		must(t, unix.Mknod(at("b", "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(t, os.Lchown(at("a", "small5"), 1234, 4321))
		must(t, os.Lchown(at("a", "link"), 77, 88))
	}
	old := []unix.Timespec{{Sec: 1e9, Nsec: 1}, {Sec: 1e9 + 5, Nsec: 123456789}}
	for _, name := range []string{"a/small1", "big", "a/deep", "b/dangling", "b", "sparse"} {
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at(name), old, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// picture is all that is to be the same of a tree, by path.
func picture(t *testing.T, tree transfer.Tree) map[string]string {
	t.Helper()
	all := map[string]string{}
	ids := map[string]string{}
	var walk func(dir string)
	walk = func(dir string) {
		list, err := tree.List(t.Context(), dir)
		must(t, err)
		for _, e := range list {
			content := ""
			if e.Type == fsapi.TypeRegular {
				f, err := tree.Open(t.Context(), e.Path)
				must(t, err)
				data := make([]byte, f.Size())
				must(t, f.Ranges(t.Context(), func(off, n int64) error {
					s, err := f.Section(t.Context(), off, n)
					if err != nil {
						return err
					}
					defer s.Close()
					_, err = io.ReadFull(s, data[off:off+n])
					return err
				}))
				f.Close()
				content = fmt.Sprintf("%x", data[:min(len(data), 32)])
				if bytes.Contains(data, []byte("middle")) {
					content += "middle"
				}
			}
			if ids[e.ID] == "" {
				ids[e.ID] = e.Path
			}
			all[e.Path] = fmt.Sprintf("%v %o %d:%d links %d size %d rdev %d mtime %v target %q xattrs %q is %s: %s",
				e.Type, e.Mode, e.Uid, e.Gid, e.Nlink, e.Size, e.Rdev, e.Mtime.UnixNano(), e.Target, fmt.Sprint(e.Xattrs), ids[e.ID], content)
			if e.Type == fsapi.TypeDirectory {
				walk(e.Path)
			}
		}
	}
	walk("")
	return all
}

// run copies and wants no failures.
func run(t *testing.T, o transfer.Options) *transfer.Run {
	t.Helper()
	o.Owner = os.Geteuid() == 0
	r, err := transfer.New(o)
	must(t, err)
	must(t, r.Do(t.Context()))
	for _, f := range r.Failures() {
		t.Errorf("%q: %v", f.Path, f.Err)
	}
	return r
}

func source(trees ...transfer.Tree) (list []transfer.Source) {
	for _, s := range trees {
		list = append(list, transfer.Source{Tree: s})
	}
	return list
}

// A tree goes to the server and comes back the same, with everything.
func TestThereAndBack(t *testing.T) {
	c := server(t)
	from, back := t.TempDir(), t.TempDir()
	fill(t, from)
	local, remote := transfer.NewLocal(from), transfer.NewRemote(c, "", "/")
	r := run(t, transfer.Options{Sources: source(local), Dest: remote, Verify: true})
	want := picture(t, local)
	if diff := cmp.Diff(want, picture(t, remote)); diff != "" {
		t.Errorf("on the server:\n%s", diff)
	}
	if r.Links.Load() != 3 || r.Verified.Load() == 0 {
		t.Errorf("%d links, %d verified", r.Links.Load(), r.Verified.Load())
	}
	run(t, transfer.Options{Sources: source(remote), Dest: transfer.NewLocal(back), Verify: true})
	if diff := cmp.Diff(want, picture(t, transfer.NewLocal(back))); diff != "" {
		t.Errorf("back:\n%s", diff)
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(back, "sparse"), &st))
	if st.Blocks*512 > 1<<20 {
		t.Errorf("the sparse file takes %d bytes", st.Blocks*512)
	}

	// Again: nothing is to do, whichever way it is compared.
	for _, o := range []transfer.Options{
		{Sources: source(local), Dest: remote},
		{Sources: source(remote), Dest: transfer.NewLocal(back), Checksum: true, Delete: true},
	} {
		r := run(t, o)
		if n := r.Files.Load() + r.Dirs.Load() + r.Links.Load() + r.Other.Load() + r.Attrs.Load() + r.Deleted.Load(); n != 0 {
			t.Errorf("to %v: %d things were done again: %+v", o.Dest, n, r.Files.Load())
		}
	}
}

// Differences of every kind are made good, and nothing else is touched.
func TestSync(t *testing.T) {
	c := server(t)
	from := t.TempDir()
	fill(t, from)
	local, remote := transfer.NewLocal(from), transfer.NewRemote(c, "", "/")
	run(t, transfer.Options{Sources: source(local), Dest: remote})
	at := func(s string) string { return filepath.Join(from, s) }

	must(t, os.WriteFile(at("a/small2"), []byte("other"), 0o600))
	must(t, os.Chmod(at("a/small4"), 0o400))
	must(t, os.Remove(at("a/small6")))
	must(t, os.RemoveAll(at("a/deep")))
	must(t, os.WriteFile(at("a/deep"), []byte("a file where a directory was"), 0o644))
	must(t, os.Remove(at("a/small8")))
	must(t, os.MkdirAll(at("a/small8/sub"), 0o755))
	must(t, os.Remove(at("a/link")))
	must(t, os.Symlink("elsewhere", at("a/link")))
	must(t, os.Remove(at("b/hard")))
	must(t, os.WriteFile(at("b/hard"), []byte("not linked any more"), 0o644))
	must(t, unix.Removexattr(at("big"), "user.note"))
	must(t, unix.Removexattr(at("a/small3"), "system.posix_acl_access"))
	must(t, os.Rename(at("sparse"), at("moved")))

	dry := run(t, transfer.Options{Sources: source(local), Dest: remote, Delete: true, DryRun: true})
	before := picture(t, remote)
	r := run(t, transfer.Options{Sources: source(local), Dest: remote, Delete: true, Verify: true})
	if cmp.Diff(before, picture(t, remote)) == "" {
		t.Error("nothing was changed")
	}
	if diff := cmp.Diff(picture(t, local), picture(t, remote)); diff != "" {
		t.Error(diff)
	}
	if dry.Files.Load() != r.Files.Load() || dry.Deleted.Load() != r.Deleted.Load() || dry.Dirs.Load() > r.Dirs.Load() {
		t.Errorf("a dry run spoke of %d files and %d deleted, it were %d and %d", dry.Files.Load(), dry.Deleted.Load(), r.Files.Load(), r.Deleted.Load())
	}
	if n := r.Files.Load(); n < 4 || n > 5 {
		t.Errorf("%d files were copied", n)
	}
}

// odd is a tree with a fault.
type odd struct {
	*transfer.Local
	open    func(path string) error // nil: none
	changes func(path string) bool
}

func (o *odd) Open(ctx context.Context, p string) (transfer.Reader, error) {
	if o.open != nil {
		if err := o.open(p); err != nil {
			return nil, err
		}
	}
	r, err := o.Local.Open(ctx, p)
	return &oddReader{r, o, p}, err
}

type oddReader struct {
	transfer.Reader
	o *odd
	p string
}

func (r *oddReader) Changed(ctx context.Context) (bool, error) {
	if r.o.changes != nil && r.o.changes(r.p) {
		return true, nil
	}
	return r.Reader.Changed(ctx)
}

// A directory goes for a file of its name, and with it what it holds, only when
// things are to be deleted.
func TestFileForDirectory(t *testing.T) {
	from := t.TempDir()
	at := func(s string) string { return filepath.Join(from, s) }
	must(t, os.WriteFile(at("a"), []byte("file"), 0o644))
	must(t, os.Link(at("a"), at("b")))
	must(t, os.Symlink("a", at("link")))
	must(t, os.WriteFile(at("other"), []byte("other"), 0o644))
	local := transfer.NewLocal(from)
	for _, dest := range []transfer.Tree{transfer.NewLocal(t.TempDir()), transfer.NewRemote(server(t), "", "/")} {
		for _, name := range []string{"a", "b", "link"} {
			for _, err := range dest.Apply(t.Context(), []transfer.Op{
				{Entry: &transfer.Entry{Path: name, Type: fsapi.TypeDirectory}},
				{Entry: &transfer.Entry{Path: name + "/kept", Type: fsapi.TypeRegular}},
			}) {
				must(t, err)
			}
		}
		r, err := transfer.New(transfer.Options{Sources: source(local), Dest: dest})
		must(t, err)
		must(t, r.Do(t.Context()))
		got := map[string]fsapi.Kind{}
		for _, f := range r.Failures() {
			got[f.Path] = fsapi.KindOf(f.Err)
		}
		if got["a"] != fsapi.IsDir || got["link"] != fsapi.IsDir || got["b"] != fsapi.IsDir || len(got) != 3 {
			t.Errorf("%v: failed: %v", dest, got)
		}
		all := picture(t, dest)
		if all["a/kept"] == "" || all["b/kept"] == "" || all["link/kept"] == "" || all["other"] == "" {
			t.Errorf("%v holds %v", dest, all)
		}
		run(t, transfer.Options{Sources: source(local), Dest: dest, Delete: true})
		if diff := cmp.Diff(picture(t, local), picture(t, dest)); diff != "" {
			t.Errorf("%v: %s", dest, diff)
		}
	}
}

// A tree is not copied into itself, nor deleted from under its copy.
func TestIntoItself(t *testing.T) {
	from := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(from, "a", "in"), 0o755))
	must(t, os.WriteFile(filepath.Join(from, "a", "f"), []byte("f"), 0o644))
	tree := func(s string) transfer.Tree { return transfer.NewLocal(filepath.Join(from, s)) }
	for _, c := range []struct {
		src, dest string
		del, ok   bool
	}{
		{"", "a/in", false, false},
		{"a", "a", false, false},
		{"a/in", "", true, false},
		{"a/in", "", false, true},
	} {
		r, err := transfer.New(transfer.Options{Sources: source(tree(c.src)), Dest: tree(c.dest), Delete: c.del})
		must(t, err)
		if err := r.Do(t.Context()); c.ok != (err == nil) || !c.ok && !errors.Is(err, fsapi.Invalid) {
			t.Errorf("%q to %q: %v", c.src, c.dest, err)
		}
	}
	if n := len(picture(t, tree(""))); n != 3 {
		t.Errorf("%d things are there, want 3", n)
	}
}

// A server that lists names that lead elsewhere is not followed.
func TestNamesFromServer(t *testing.T) {
	for _, name := range []string{"../escaped", "..", "a/b", ".", "a\x00"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			var v any = api.Meta{Type: "directory", Ino: 7}
			if strings.HasPrefix(q.URL.Path, "/v1/ls") {
				v = api.Listing{Entries: []api.Meta{{Name: "x", RawName: []byte(name), Type: "symlink", Target: "y"}}}
			}
			if err := json.NewEncoder(w).Encode(v); err != nil {
				t.Error(err)
			}
		})}
		go s.Serve(l)
		to := filepath.Join(t.TempDir(), "to")
		must(t, os.Mkdir(to, 0o755))
		remote := transfer.NewRemote(client.Dial("http://"+l.Addr().String(), "token", ""), "", "/")
		r, err := transfer.New(transfer.Options{Sources: source(remote), Dest: transfer.NewLocal(to)})
		must(t, err)
		must(t, r.Do(t.Context()))
		if f := r.Failures(); len(f) != 1 || !errors.Is(f[0].Err, fsapi.Corrupt) {
			t.Errorf("%q: %v", name, f)
		}
		if n := len(picture(t, transfer.NewLocal(filepath.Dir(to)))); n != 1 {
			t.Errorf("%q: %d things were made", name, n-1)
		}
		must(t, s.Close())
	}
}

// What fails is named; all else is copied.
func TestFailures(t *testing.T) {
	c := server(t)
	from := t.TempDir()
	fill(t, from)
	var once atomic.Bool
	src := &odd{Local: transfer.NewLocal(from),
		open: func(p string) error {
			if p == "a/small9" {
				return fsapi.Errorf(fsapi.IO, "bad sector")
			}
			return nil
		},
		changes: func(p string) bool { return p == "a/small10" || p == "big" && !once.Swap(true) },
	}
	remote := transfer.NewRemote(c, "", "/")
	r, err := transfer.New(transfer.Options{Sources: source(src), Dest: remote})
	must(t, err)
	must(t, r.Do(t.Context()))
	got := map[string]fsapi.Kind{}
	for _, f := range r.Failures() {
		got[f.Path] = fsapi.KindOf(f.Err)
	}
	if diff := cmp.Diff(map[string]fsapi.Kind{"a/small9": fsapi.IO, "a/small10": fsapi.Stale}, got); diff != "" || r.Failed.Load() != 2 {
		t.Error(diff)
	}
	all := picture(t, remote)
	if all["big"] == "" || all["a/small11"] == "" || all["a/small9"] != "" {
		t.Error("other files are missing")
	}
}

// Reading back finds a copy whose bytes differ though size and times do not.
func TestVerify(t *testing.T) {
	c := server(t)
	from, to := t.TempDir(), t.TempDir()
	fill(t, from)
	remote := transfer.NewRemote(c, "", "/")
	run(t, transfer.Options{Sources: source(transfer.NewLocal(from)), Dest: remote})
	run(t, transfer.Options{Sources: source(remote), Dest: transfer.NewLocal(to)})
	name := filepath.Join(to, "big")
	st, err := os.Stat(name)
	must(t, err)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("X"), 2<<20)
	must(t, err)
	must(t, f.Close())
	must(t, os.Chtimes(name, st.ModTime(), st.ModTime()))
	r, err := transfer.New(transfer.Options{Sources: source(remote), Dest: transfer.NewLocal(to), Verify: true})
	must(t, err)
	must(t, r.Do(t.Context()))
	fs := r.Failures()
	if len(fs) != 1 || fs[0].Path != "big" || !errors.Is(fs[0].Err, fsapi.Corrupt) {
		t.Errorf("%v", fs)
	}
	r = run(t, transfer.Options{Sources: source(remote), Dest: transfer.NewLocal(to), Checksum: true, Verify: true})
	if r.Files.Load() != 1 {
		t.Errorf("%d files were mended", r.Files.Load())
	}
}

// A copy that was cut short goes on, and notices what changed meanwhile.
func TestResume(t *testing.T) {
	c := server(t)
	from, name := t.TempDir(), filepath.Join(t.TempDir(), "journal")
	fill(t, from)
	remote := transfer.NewRemote(c, "", "/")
	journal := func() *transfer.Journal {
		t.Helper()
		j, err := transfer.OpenJournal(name, "this")
		must(t, err)
		return j
	}
	j := journal()
	ctx, cancel := context.WithCancel(t.Context())
	said := 0
	r, err := transfer.New(transfer.Options{Sources: source(transfer.NewLocal(from)), Dest: remote, Journal: j, Workers: 1, Say: func(action, path string) {
		if said++; said == 20 {
			cancel()
		}
	}})
	must(t, err)
	if err := r.Do(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("cut short: %v", err)
	}
	must(t, j.Close())

	j = journal()
	run(t, transfer.Options{Sources: source(transfer.NewLocal(from)), Dest: remote, Journal: j, Verify: true})
	must(t, j.Close())
	if diff := cmp.Diff(picture(t, transfer.NewLocal(from)), picture(t, remote)); diff != "" {
		t.Error(diff)
	}

	// Content that changed while size and time did not is seen by its ctime.
	victim := filepath.Join(from, "a", "small20")
	st, err := os.Stat(victim)
	must(t, err)
	must(t, os.WriteFile(victim, bytes.Repeat([]byte("y"), int(st.Size())), 0o644))
	must(t, os.Chtimes(victim, time.Time{}, st.ModTime()))
	torn, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = torn.WriteString("0123456789abcdef0123456789abcdef 00000000\n0123")
	must(t, err)
	must(t, torn.Close())
	j = journal()
	r = run(t, transfer.Options{Sources: source(transfer.NewLocal(from)), Dest: remote, Journal: j, Verify: true})
	must(t, j.Close())
	if r.Files.Load() != 1 {
		t.Errorf("%d files were copied again", r.Files.Load())
	}
	if _, err := transfer.OpenJournal(name, "that"); !errors.Is(err, fsapi.Exist) {
		t.Errorf("another copy's journal: %v", err)
	}
}

// Several sources keep their names, and a link across them is kept.
func TestSources(t *testing.T) {
	c := server(t)
	from := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(from, "x"), 0o755))
	must(t, os.MkdirAll(filepath.Join(from, "y"), 0o755))
	must(t, os.WriteFile(filepath.Join(from, "x", "f"), []byte("shared"), 0o644))
	must(t, os.Link(filepath.Join(from, "x", "f"), filepath.Join(from, "y", "g")))
	remote := transfer.NewRemote(c, "", "/")
	list := []transfer.Source{{Tree: transfer.NewLocal(from + "/x"), Into: "in/x"}, {Tree: transfer.NewLocal(from + "/y"), Into: "in/y"}}
	run(t, transfer.Options{Sources: list, Dest: remote, Verify: true})
	all := picture(t, remote)
	if !strings.Contains(all["in/y/g"], "links 2") || !strings.Contains(all["in/y/g"], "is in/x/f") {
		t.Error(all["in/y/g"])
	}
}
