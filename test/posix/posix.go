package posix

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Options of Run.
type Options struct {
	// Skip maps names of tests that cannot hold here to the reason.
	Skip map[string]string
	// Names is how many names the test of a big directory makes: 50,000.
	Names int
}

// env is what a test works with.
type env struct {
	*testing.T
	dir   string // its own, empty, on the mount, open to everybody
	names int
}

// tests is the table. A name is what users would call it.
func tests() map[string]func(e env) {
	all := map[string]func(e env){}
	for _, t := range []map[string]func(e env){
		contentTests(), rangeTests(), nameTests(), dirTests(), lockTests(), processTests(), userTests(), metaTests(),
	} {
		for name, fn := range t {
			if all[name] != nil {
				panic("two tests are named " + name)
			}
			all[name] = fn
		}
	}
	return all
}

// Run runs the table on mnt.
func Run(t *testing.T, mnt string, o Options) {
	if o.Names == 0 {
		o.Names = 50_000
	}
	all := tests()
	names := make([]string, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		t.Run(n, func(t *testing.T) {
			if why := o.Skip[n]; why != "" {
				t.Skip(why)
			}
			dir := filepath.Join(mnt, "posix-"+n)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Errorf("cleaning up: %v", err)
				}
			})
			all[n](env{T: t, dir: dir, names: o.Names})
		})
	}
}

// path is a path in the test's directory.
func (e env) path(elem ...string) string {
	return filepath.Join(append([]string{e.dir}, elem...)...)
}

// ok fails the test unless err is nil.
func (e env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// wants fails the test unless err is the errno.
func (e env) wants(what string, err error, want unix.Errno) {
	e.Helper()
	if got := errnoOf(err); got != want {
		e.Errorf("%s: %v, want %v", what, err, want)
	}
}

// errnoOf is the errno in err's chain, 0 where there is none.
func errnoOf(err error) unix.Errno {
	var n unix.Errno
	errors.As(err, &n)
	return n
}

// write makes or replaces a file.
func (e env) write(name, data string) string {
	e.Helper()
	p := e.path(name)
	e.ok(os.WriteFile(p, []byte(data), 0o644))
	return p
}

// reads fails the test unless the file holds want.
func (e env) reads(path, want string) {
	e.Helper()
	b, err := os.ReadFile(path)
	e.ok(err)
	if string(b) != want {
		e.Errorf("%s holds %s, want %s", path, brief(string(b)), brief(want))
	}
}

func brief(s string) string {
	if len(s) > 80 {
		return s[:40] + "…" + s[len(s)-40:]
	}
	return s
}

// open opens a file for the length of the test.
func (e env) open(path string, flags int, perm os.FileMode) *os.File {
	e.Helper()
	f, err := os.OpenFile(path, flags, perm)
	e.ok(err)
	e.Cleanup(func() { _ = f.Close() })
	return f
}

// stat is lstat(2).
func (e env) stat(path string) unix.Stat_t {
	e.Helper()
	var st unix.Stat_t
	e.ok(unix.Lstat(path, &st))
	return st
}

// list is the names in a directory, sorted, separated by spaces.
func (e env) list(dir string) string {
	e.Helper()
	names, err := readNames(dir)
	e.ok(err)
	sort.Strings(names)
	return strings.Join(names, " ")
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	return d.Readdirnames(-1)
}

// as runs fn on a thread that is user uid with gid and groups, as the kernel
// sees it for files. It needs root.
func (e env) as(uid, gid int, groups []int, fn func()) {
	e.Helper()
	if os.Geteuid() != 0 {
		e.Skip("acting as another user needs root")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := become(uid, gid, groups)
		if err == nil {
			fn()
		}
		done <- err
	}()
	e.ok(<-done)
}

// become changes the calling thread only: the raw calls, unlike those of
// package syscall, do not reach the others.
func become(uid, gid int, groups []int) error {
	gs := make([]uint32, len(groups)+1)
	gs[0] = uint32(gid)
	for i, g := range groups {
		gs[i+1] = uint32(g)
	}
	if err := setgroups(gs); err != nil {
		return err
	}
	if err := unix.Setfsgid(gid); err != nil {
		return err
	}
	return unix.Setfsuid(uid)
}
