package posix

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// nameTests are about names, links and renames.
func nameTests() map[string]func(e env) {
	return map[string]func(e env){
		"Names": func(e env) {
			for _, n := range []string{
				strings.Repeat("n", 255), "with space", "new\nline", "\xff\xfe not utf-8", "ünïcödé", "-rf", "...", "a\\b:c*?",
			} {
				p := e.write(n, n)
				e.reads(p, n)
				if l := e.list(e.dir); l != n {
					e.Errorf("%q is listed as %q", n, l)
				}
				e.ok(os.Remove(p))
			}
			err := os.WriteFile(e.path(strings.Repeat("n", 256)), nil, 0o644)
			e.wants("a name of 256 bytes", err, unix.ENAMETOOLONG)
		},
		"Rename": func(e env) {
			e.write("a", "A")
			e.ok(os.Mkdir(e.path("d"), 0o755))
			e.ok(os.Rename(e.path("a"), e.path("d", "b")))
			e.reads(e.path("d", "b"), "A")
			e.wants("rename into itself", os.Rename(e.path("d"), e.path("d", "x")), unix.EINVAL)
			e.write("c", "C")
			e.wants("rename of a directory over a file", os.Rename(e.path("d"), e.path("c")), unix.ENOTDIR)
			e.ok(os.Mkdir(e.path("e"), 0o755))
			e.wants("rename over a directory with names", unix.Rename(e.path("e"), e.path("d")), unix.ENOTEMPTY)
			e.ok(unix.Rename(e.path("d"), e.path("e")))
			e.reads(e.path("e", "b"), "A")
			e.wants("rename of nothing", os.Rename(e.path("none"), e.path("x")), unix.ENOENT)
			e.ok(os.Rename(e.path("c"), e.path("c")))
			e.reads(e.path("c"), "C")
		},
		"RenameFlags": func(e env) {
			e.write("a", "A")
			e.write("b", "B")
			err := unix.Renameat2(unix.AT_FDCWD, e.path("a"), unix.AT_FDCWD, e.path("b"), unix.RENAME_NOREPLACE)
			e.wants("NOREPLACE over a file", err, unix.EEXIST)
			e.ok(unix.Renameat2(unix.AT_FDCWD, e.path("a"), unix.AT_FDCWD, e.path("b"), unix.RENAME_EXCHANGE))
			e.reads(e.path("a"), "B")
			e.reads(e.path("b"), "A")
			e.ok(unix.Renameat2(unix.AT_FDCWD, e.path("a"), unix.AT_FDCWD, e.path("c"), unix.RENAME_NOREPLACE))
			e.reads(e.path("c"), "B")
		},
		"RenameHardLinks": func(e env) {
			p := e.write("a", "A")
			e.ok(os.Link(p, e.path("b")))
			e.ok(os.Rename(p, e.path("b"))) // the same inode: both names stay (rename(2))
			if l := e.list(e.dir); l != "a b" {
				e.Errorf("left: %s", l)
			}
		},
		"RenameWhileOpen": func(e env) {
			f := e.open(e.write("a", "one "), os.O_RDWR|os.O_APPEND, 0)
			e.ok(os.Rename(e.path("a"), e.path("b")))
			_, err := f.Write([]byte("two"))
			e.ok(err)
			e.reads(e.path("b"), "one two")
			e.write("a", "other")
			_, err = f.Write([]byte(" three"))
			e.ok(err)
			e.reads(e.path("b"), "one two three")
			e.reads(e.path("a"), "other")
		},
		"RenameWorkingDirectory": func(e env) {
			e.ok(os.MkdirAll(e.path("a", "in"), 0o755))
			d := e.open(e.path("a", "in"), os.O_RDONLY, 0)
			e.ok(os.Rename(e.path("a"), e.path("b")))
			fd, err := unix.Openat(int(d.Fd()), "f", unix.O_CREAT|unix.O_WRONLY, 0o644)
			e.ok(err)
			e.ok(unix.Close(fd))
			e.ok(unix.Fstatat(int(d.Fd()), "../../b/in/f", &unix.Stat_t{}, 0))
		},
		"HardLinks": func(e env) {
			p := e.write("a", "A")
			e.ok(os.Link(p, e.path("b")))
			a, b := e.stat(p), e.stat(e.path("b"))
			if a.Ino != b.Ino || a.Nlink != 2 || b.Nlink != 2 {
				e.Errorf("inodes %d and %d, links %d and %d", a.Ino, b.Ino, a.Nlink, b.Nlink)
			}
			e.ok(os.WriteFile(e.path("b"), []byte("B"), 0))
			e.reads(p, "B")
			e.ok(os.Remove(p))
			e.reads(e.path("b"), "B")
			if st := e.stat(e.path("b")); st.Nlink != 1 {
				e.Errorf("%d links are left", st.Nlink)
			}
			e.wants("link of a directory", os.Link(e.dir, e.path("d")), unix.EPERM)
			e.write("c", "")
			e.wants("link to a name in use", os.Link(e.path("b"), e.path("c")), unix.EEXIST)
		},
		"Symlinks": func(e env) {
			long := strings.Repeat("x/", 2047) + "y"
			e.ok(os.Symlink(long, e.path("long")))
			got, err := os.Readlink(e.path("long"))
			e.ok(err)
			if got != long {
				e.Errorf("a target of %d bytes came back with %d", len(long), len(got))
			}
			if st := e.stat(e.path("long")); st.Size != int64(len(long)) {
				e.Errorf("lstat says %d bytes", st.Size)
			}
			e.write("f", "data")
			e.ok(os.Symlink("f", e.path("to-f")))
			e.reads(e.path("to-f"), "data")
			e.ok(os.Symlink("b", e.path("a")))
			e.ok(os.Symlink("a", e.path("b")))
			_, err = os.ReadFile(e.path("a"))
			e.wants("a loop", err, unix.ELOOP)
			e.ok(os.Symlink("nowhere", e.path("dangling")))
			_, err = os.ReadFile(e.path("dangling"))
			e.wants("a dangling link", err, unix.ENOENT)
			_, err = os.OpenFile(e.path("to-f"), os.O_RDONLY|unix.O_NOFOLLOW, 0)
			e.wants("O_NOFOLLOW", err, unix.ELOOP)
			_, err = os.Readlink(e.path("f"))
			e.wants("readlink of a file", err, unix.EINVAL)
		},
		"ExclusiveCreate": func(e env) {
			for i := range 20 {
				var won atomic.Int64
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						f, err := os.OpenFile(e.path(fmt.Sprint("f", i)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
						if err == nil {
							won.Add(1)
							_ = f.Close()
						} else if !errors.Is(err, os.ErrExist) {
							e.Error(err)
						}
					})
				}
				wg.Wait()
				if won.Load() != 1 {
					e.Errorf("%d creators won", won.Load())
				}
			}
		},
		"Tmpfile": func(e env) {
			fd, err := unix.Open(e.dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
			if err == nil {
				e.ok(unix.Close(fd))
				return
			}
			if n := errnoOf(err); n != unix.EOPNOTSUPP && n != unix.EISDIR {
				e.Errorf("O_TMPFILE fails with %v, which programs do not provide for", err)
			}
			if l := e.list(e.dir); l != "" {
				e.Errorf("it left %s", l)
			}
		},
		"PathOnly": func(e env) {
			p := e.write("f", "data")
			fd, err := unix.Open(p, unix.O_PATH, 0)
			e.ok(err)
			defer func() { _ = unix.Close(fd) }()
			var st unix.Stat_t
			e.ok(unix.Fstat(fd, &st))
			e.reads(fmt.Sprintf("/proc/self/fd/%d", fd), "data")
		},
	}
}
