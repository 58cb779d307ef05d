package dir_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/drive/identity"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

const testID = 0x1234

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made makes a drive in a directory of fsys and opens it.
func made(t *testing.T, o dir.Options) *dir.Drive {
	t.Helper()
	if o.FS == nil {
		o.FS = osfs.OS{}
	}
	must(t, dir.Init(o.FS, o.Path, dir.Identity{ID: testID, Created: time.Unix(1_700_000_000, 0)}))
	return opened(t, o)
}

func opened(t *testing.T, o dir.Options) *dir.Drive {
	t.Helper()
	d, err := dir.Open(o)
	must(t, err)
	return d
}

func TestConformance(t *testing.T) {
	variants := map[string]func(t *testing.T) dir.Options{
		"OS direct": func(t *testing.T) dir.Options {
			return dir.Options{Path: path.Join(t.TempDir(), "new", "drive"), Name: "one", Tier: "hot", Domain: "d"}
		},
		"OS buffered": func(t *testing.T) dir.Options {
			return dir.Options{Path: t.TempDir(), Write: dir.WriteBuffered, DropCache: true, OpenFiles: 2}
		},
		"Mem": func(t *testing.T) dir.Options {
			return dir.Options{FS: osfs.NewMem(osfs.MemOptions{}), Path: "/drive", Buffer: 4096}
		},
		"Mem without links": func(t *testing.T) dir.Options {
			return dir.Options{FS: osfs.NewFault(osfs.NewMem(osfs.MemOptions{}), noLinks), Path: "/drive"}
		},
	}
	for name, options := range variants {
		t.Run(name, func(t *testing.T) {
			var o dir.Options
			drivetest.Run(t, func(t *testing.T) drive.Drive {
				o = options(t)
				return made(t, o)
			}, drivetest.Capabilities{
				Reopen: func(t *testing.T, _ drive.Drive) drive.Drive { return opened(t, o) },
			})
		})
	}
}

// noLinks is a file system without hard links, as some NAS mounts are.
func noLinks(c osfs.Call) osfs.Outcome {
	if c.Op == osfs.OpLink {
		return osfs.Outcome{Err: syscall.EPERM}
	}
	return osfs.Outcome{}
}

// An empty mount point has no blobs, and a blob that is not there is not the same
// as a disk that is not: nothing is taken for lost, listed as empty or written
// beside the disk.
func TestDriveThatIsNotThere(t *testing.T) {
	ctx := t.Context()
	root := t.TempDir()
	at := filepath.Join(root, "disk")
	if err := dir.Init(osfs.OS{}, at, dir.Identity{ID: 7}); err != nil {
		t.Fatal(err)
	}
	d, err := dir.Open(dir.Options{Path: at, Name: "disk", Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Stat(ctx, "a/b"); !errors.Is(err, fsapi.NotExist) {
		t.Fatalf("a blob that is not there: %v", err)
	}
	refused := func(when string) {
		t.Helper()
		_, statErr := d.Stat(ctx, "a/b")
		_, readErr := d.ReadAt(ctx, "a/b", 0, make([]byte, 1))
		_, capErr := d.Capacity(ctx)
		for call, err := range map[string]error{
			"stat": statErr, "read": readErr, "capacity": capErr, "delete": d.Delete(ctx, "a/b"),
			"list": d.List(ctx, "", "", func(drive.Blob) error { return nil }),
		} {
			if !errors.Is(err, fsapi.NoDevice) {
				t.Errorf("%s: %s: %v", when, call, err)
			}
		}
		w, err := d.Create(ctx, "a/c", 1)
		if err == nil {
			_, err = w.Write([]byte("x"))
			err = errors.Join(err, w.Commit(ctx))
		}
		if err == nil || errors.Is(err, fsapi.NotExist) {
			t.Errorf("%s: create: %v", when, err)
		}
	}
	if err := os.Rename(at, at+".away"); err != nil {
		t.Fatal(err)
	}
	refused("nothing there")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	refused("an empty directory")
	if err := dir.Init(osfs.OS{}, at, dir.Identity{ID: 8}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stat(ctx, "a/b"); !errors.Is(err, fsapi.NoDevice) {
		t.Errorf("another disk: %v", err)
	}
	if err := errors.Join(os.RemoveAll(at), os.Rename(at+".away", at)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stat(ctx, "a/b"); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("back again: %v", err)
	}
}

// TestOwner: of two stores that open one drive in turns the second is refused,
// until it takes the drive over or the first has released it.
func TestOwner(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	mine, other := &identity.Owner{Store: identity.StoreID{1}, Host: "a"}, &identity.Owner{Store: identity.StoreID{2}, Host: "b"}
	at := dir.Options{FS: m, Path: "/drive"}
	with := func(o *identity.Owner, takeOver bool) dir.Options {
		at := at
		at.Owner, at.TakeOver = o, takeOver
		return at
	}
	must(t, made(t, at).Close()) // by a release that knew no owners
	must(t, opened(t, with(mine, false)).Close())
	must(t, opened(t, with(mine, false)).Close())
	if _, err := dir.Open(with(other, false)); !errors.Is(err, fsapi.Busy) {
		t.Errorf("another store's drive is opened: %v", err)
	}
	must(t, opened(t, with(other, true)).Close())
	if _, err := dir.Open(with(mine, false)); !errors.Is(err, fsapi.Busy) {
		t.Errorf("a drive that was taken over is opened: %v", err)
	}
	must(t, dir.Release(m, "/drive"))
	must(t, opened(t, with(mine, false)).Close())
	at.Role = identity.Backup
	if _, err := dir.Open(at); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("a drive is opened as a place of backups: %v", err)
	}
}

// TestTakenOver: so it is on a NAS without locks. What the other store says of the
// drive is left alone, and nothing is deleted while it cannot be read whose it is.
func TestTakenOver(t *testing.T) {
	m, ctx := osfs.NewMem(osfs.MemOptions{}), t.Context()
	one, other := identity.Owner{Store: identity.StoreID{1}, Host: "a"}, identity.Owner{Store: identity.StoreID{2}, Host: "b"}
	now := &fakeClock{Clock: clock.Real, now: time.Now()}
	must(t, made(t, dir.Options{FS: m, Path: "/drive", Owner: &one}).Close())
	mine := func() drive.Drive {
		return opened(t, dir.Options{FS: m, Path: "/drive", Owner: &one, TakeOver: true, Clock: now})
	}
	owned := func(text []byte) { must(t, osfs.ReplaceFile(m, "/drive/.strake/owner", text, 0o600)) }
	theirs := func() { owned(identity.AppendOwner(nil, other)) }
	drivetest.TakenOver(t, mine, theirs, func() { now.Advance(10 * time.Minute) })

	d := mine()
	owned([]byte("damaged"))
	if err := d.Delete(ctx, "a"); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("deleted while it cannot be read whose the drive is: %v", err)
	}
	must(t, m.Remove("/drive/.strake/owner"))
	if err := d.Delete(ctx, "a"); !errors.Is(err, fsapi.NoDevice) {
		t.Errorf("delete of nobody's: %v", err)
	}
	owned(identity.AppendOwner(nil, one))
	must(t, d.Replace(ctx, "p", nil))
	theirs()
	mark := readFile(t, m, "/drive/.strake/attachment")
	must(t, d.Close())
	if got := readFile(t, m, "/drive/.strake/attachment"); got != mark {
		t.Errorf("the mark was changed from %q to %q", mark, got)
	}
}

// unlockable is a NAS without locks.
type unlockable struct{ osfs.FS }

func (unlockable) Lock(string) (io.Closer, error) { return nil, errors.ErrUnsupported }

// TestCopies has two copies of one store open a drive, which nothing but its owner
// tells apart.
func TestCopies(t *testing.T) {
	m := unlockable{osfs.NewMem(osfs.MemOptions{})}
	now := &fakeClock{Clock: clock.Real, now: time.Now()}
	must(t, made(t, dir.Options{FS: m, Path: "/drive"}).Close())
	drivetest.Copies(t, func(i [16]byte, takeOver bool, claiming func(context.Context, [16]byte) error) (drive.Drive, error) {
		d, err := dir.Open(dir.Options{FS: m, Path: "/drive", Owner: &identity.Owner{Store: identity.StoreID{7}, Incarnation: i}, TakeOver: takeOver, Clock: now,
			Claiming: func(ctx context.Context, found identity.Owner) error { return claiming(ctx, found.Incarnation) },
		})
		if err != nil {
			return nil, err
		}
		return d, nil
	}, func() { now.Advance(10 * time.Minute) })
}

// full is a file system that has no room for another owner.
type full struct {
	osfs.FS
	off bool
}

func (f *full) OpenFile(name string, flag int, perm os.FileMode) (osfs.File, error) {
	if !f.off && flag&os.O_CREATE != 0 && strings.Contains(name, "owner") {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return f.FS.OpenFile(name, flag, perm)
}

// TestFullIsOpened: what is on a full disk can be read and removed, by the store that
// had it last.
func TestFullIsOpened(t *testing.T) {
	f := &full{FS: osfs.NewMem(osfs.MemOptions{}), off: true}
	as := func(i byte, store byte) *identity.Owner {
		return &identity.Owner{Store: identity.StoreID{store}, Incarnation: identity.Incarnation{i}}
	}
	must(t, made(t, dir.Options{FS: f, Path: "/drive", Owner: as(1, 1)}).Close())
	f.off = false
	d := opened(t, dir.Options{FS: f, Path: "/drive", Owner: as(2, 1)})
	must(t, d.Claimed(t.Context()))
	must(t, d.Close())
	for what, o := range map[string]dir.Options{
		"another store":   {Owner: as(1, 2), TakeOver: true},
		"another copy":    {Owner: as(3, 1), TakeOver: true},
		"a refused claim": {Owner: as(3, 1), Claiming: func(context.Context, identity.Owner) error { return fsapi.Errorf(fsapi.Busy, "no") }},
	} {
		o.FS, o.Path = f, "/drive"
		if _, err := dir.Open(o); err == nil {
			t.Errorf("%s: opened", what)
		}
	}
	if o, err := dir.ReadOwner(f, "/drive"); err != nil || o.Incarnation != (identity.Incarnation{1}) {
		t.Errorf("the owner is %v, %v", o, err)
	}
}

func readFile(t *testing.T, fsys osfs.FS, name string) string {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	return string(b)
}

// fakeClock is a clock that is set.
type fakeClock struct {
	clock.Clock
	now time.Time
}

// Now implements clock.Clock.
func (c *fakeClock) Now() time.Time { return c.now }

// Advance lets time go by.
func (c *fakeClock) Advance(d time.Duration) { c.now = c.now.Add(d) }

// TestAttachment: a drive that was written to and not closed says since when what
// is on it is at risk, until somebody looks after that and it is closed.
func TestAttachment(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	now := time.Unix(1_700_000_000, 0)
	fake := &fakeClock{now: now}
	at := dir.Options{FS: m, Path: "/drive", Clock: fake}
	atRisk := func(d *dir.Drive, want time.Time) {
		t.Helper()
		if since, ok := d.AtRisk(); ok != !want.IsZero() || !since.Equal(want) {
			t.Errorf("at risk since %v, %v, want %v", since, ok, want)
		}
	}
	crashed := func(fs *osfs.Mem) dir.Options {
		at := at
		at.FS = fs.CrashClone(newRand(), osfs.CrashLose)
		return at
	}
	d := made(t, at)
	atRisk(opened(t, crashed(m)), time.Time{}) // nothing was written
	must(t, drivetest.Put(t.Context(), d, "a", []byte("x"), 0, 1))
	atRisk(opened(t, crashed(m)), now)

	// What is old is at rest: the mark moves on, an hour behind.
	fake.Advance(59 * time.Minute)
	must(t, d.Replace(t.Context(), "b", []byte("x")))
	atRisk(opened(t, crashed(m)), now)
	fake.Advance(2 * time.Minute)
	must(t, drivetest.Put(t.Context(), d, "c", []byte("x"), 0, 1))
	atRisk(opened(t, crashed(m)), now)
	fake.Advance(61 * time.Minute)
	must(t, drivetest.Put(t.Context(), d, "d", []byte("x"), 0, 1))
	atRisk(opened(t, crashed(m)), now.Add(61*time.Minute))

	// Tools that open and close it, and write to it, do not take the mark away.
	after := crashed(m)
	d2 := opened(t, after)
	must(t, drivetest.Put(t.Context(), d2, "e", []byte("x"), 0, 1))
	must(t, d2.Close())
	d2 = opened(t, after)
	atRisk(d2, now.Add(61*time.Minute))
	d2.Settled()
	must(t, d2.Close())
	atRisk(opened(t, after), time.Time{})

	must(t, d.Close())
	atRisk(opened(t, at), time.Time{})
}

// TestReadOnly opens a drive beside the process that writes it, and finds the
// directory unchanged by it.
func TestReadOnly(t *testing.T) {
	fs := osfs.NewMem(osfs.MemOptions{})
	mine := identity.Owner{Store: identity.StoreID{1}}
	w := made(t, dir.Options{FS: fs, Path: "/drive", Owner: &mine})
	r := opened(t, dir.Options{FS: fs, Path: "/drive", Owner: &mine, ReadOnly: true})
	drivetest.ReadOnly(t, w, r)
	before := tree(t, fs, "/drive")
	must(t, r.Close())
	if after := tree(t, fs, "/drive"); after != before {
		t.Errorf("closing it left\n%s\nof\n%s", after, before)
	}
	must(t, w.Close())
	other := identity.Owner{Store: identity.StoreID{2}}
	if _, err := dir.Open(dir.Options{FS: fs, Path: "/drive", Owner: &other, ReadOnly: true}); fsapi.KindOf(err) != fsapi.Busy {
		t.Errorf("opened for another store: %v", err)
	}
	must(t, dir.Release(fs, "/drive"))
	if _, err := dir.Open(dir.Options{FS: fs, Path: "/drive", Owner: &mine, ReadOnly: true}); fsapi.KindOf(err) != fsapi.NotExist {
		t.Errorf("opened though it belongs to nobody: %v", err)
	}
}

// tree lists files with their sizes.
func tree(t *testing.T, fs osfs.FS, dir string) string {
	t.Helper()
	names, err := fs.ReadDir(dir)
	must(t, err)
	out := ""
	for _, name := range names {
		st, err := fs.Stat(path.Join(dir, name))
		must(t, err)
		if st.IsDir() {
			out += tree(t, fs, path.Join(dir, name))
			continue
		}
		out += fmt.Sprintln(path.Join(dir, name), st.Size(), st.ModTime().UnixNano())
	}
	return out
}
