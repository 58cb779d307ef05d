package posix

import (
	"bytes"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// metaTests are about attributes, times and statfs.
func metaTests() map[string]func(e env) {
	return map[string]func(e env){
		"Xattr": xattr,
		"Statfs": func(e env) {
			var s unix.Statfs_t
			e.ok(unix.Statfs(e.dir, &s))
			if s.Blocks == 0 || s.Bfree > s.Blocks || s.Bavail > s.Bfree || s.Namelen < 255 || s.Bsize <= 0 || s.Files == 0 {
				e.Errorf("%+v", s)
			}
		},
		"Times": func(e env) {
			p := e.write("f", "x")
			for _, ts := range []unix.Timespec{
				{Sec: 1_700_000_000, Nsec: 123_456_789}, {Sec: -86_400 * 365, Nsec: 1}, {Sec: 4_102_444_800, Nsec: 999_999_999}, {},
			} {
				set := []unix.Timespec{{Sec: ts.Sec + 1, Nsec: ts.Nsec}, ts}
				e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, p, set, 0))
				if st := e.stat(p); st.Atim != set[0] || st.Mtim != set[1] {
					e.Errorf("set %v, got %v and %v", set, st.Atim, st.Mtim)
				}
			}
			before := e.stat(p)
			e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}, 0))
			st := e.stat(p)
			if st.Atim != before.Atim || !newer(st.Mtim, before.Mtim) || newer(before.Ctim, st.Ctim) {
				e.Errorf("from %v to %v", before, st)
			}
			e.ok(os.Symlink("f", e.path("l")))
			e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, e.path("l"), []unix.Timespec{{Sec: 7}, {Sec: 8}}, unix.AT_SYMLINK_NOFOLLOW))
			if l, f := e.stat(e.path("l")), e.stat(p); l.Mtim.Sec != 8 || f.Mtim != st.Mtim {
				e.Error("the times of a symlink are its own")
			}
		},
		"TimesChange": func(e env) {
			p := e.write("f", "x")
			old := []unix.Timespec{{Sec: 1000}, {Sec: 1000}}
			step := func(what string, mtime bool, fn func() error) {
				e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, p, old, 0))
				before := e.stat(p)
				e.ok(fn())
				after := e.stat(p)
				if (after.Mtim != before.Mtim) != mtime {
					e.Errorf("%s: mtime went from %v to %v", what, before.Mtim, after.Mtim)
				}
				if !newer(after.Ctim, before.Ctim) {
					e.Errorf("%s leaves ctime", what)
				}
			}
			step("write", true, func() error { return os.WriteFile(p, []byte("yy"), 0) })
			step("truncate", true, func() error { return os.Truncate(p, 1) })
			step("chmod", false, func() error { return os.Chmod(p, 0o600) })
			step("link", false, func() error { return os.Link(p, e.path("g")) })
			step("rename", false, func() error { return os.Rename(e.path("g"), e.path("h")) })
			step("unlink", false, func() error { return os.Remove(e.path("h")) })
		},
		"Birth": func(e env) {
			p := e.write("f", "x")
			var a, b unix.Statx_t
			e.ok(unix.Statx(unix.AT_FDCWD, p, 0, unix.STATX_ALL, &a))
			if a.Mask&unix.STATX_BTIME == 0 {
				e.Skip("the time of creation is not kept here")
			}
			e.write("f", "longer")
			e.ok(unix.Statx(unix.AT_FDCWD, p, 0, unix.STATX_ALL, &b))
			if a.Btime != b.Btime || a.Btime.Sec == 0 || b.Size != 6 {
				e.Errorf("made at %v, then at %v; %d bytes", a.Btime, b.Btime, b.Size)
			}
		},
		"DeviceNodes": func(e env) {
			if os.Geteuid() != 0 {
				e.Skip("making device nodes needs root")
			}
			dev := unix.Mkdev(300, 70_000)
			e.ok(unix.Mknod(e.path("c"), unix.S_IFCHR|0o600, int(dev)))
			e.ok(unix.Mknod(e.path("b"), unix.S_IFBLK|0o600, int(dev)))
			for name, typ := range map[string]uint32{"c": unix.S_IFCHR, "b": unix.S_IFBLK} {
				if st := e.stat(e.path(name)); st.Mode&unix.S_IFMT != typ || st.Rdev != dev {
					e.Errorf("%s: mode %o, device %x, want %x", name, st.Mode, st.Rdev, dev)
				}
			}
			e.ok(unix.Mknod(e.path("f"), unix.S_IFREG|0o640, 0))
			e.reads(e.path("f"), "")
		},
	}
}

func xattr(e env) {
	p := e.write("f", "")
	big := bytes.Repeat([]byte("v"), 2000)
	e.ok(unix.Setxattr(p, "user.one", []byte("1"), 0))
	e.ok(unix.Setxattr(p, "user.big", big, unix.XATTR_CREATE))
	e.ok(unix.Setxattr(p, "user.empty", nil, 0))
	e.wants("XATTR_CREATE of one that exists", unix.Setxattr(p, "user.one", nil, unix.XATTR_CREATE), unix.EEXIST)
	e.wants("XATTR_REPLACE of one that does not", unix.Setxattr(p, "user.two", nil, unix.XATTR_REPLACE), unix.ENODATA)
	b := make([]byte, 4096)
	n, err := unix.Getxattr(p, "user.big", b)
	if err != nil || !bytes.Equal(b[:n], big) {
		e.Errorf("%d bytes, %v", n, err)
	}
	n, err = unix.Getxattr(p, "user.big", nil)
	if n != len(big) || err != nil {
		e.Errorf("the size is %d, %v", n, err)
	}
	_, err = unix.Getxattr(p, "user.big", b[:10])
	e.wants("a buffer that is too small", err, unix.ERANGE)
	_, err = unix.Getxattr(p, "user.two", b)
	e.wants("one that does not exist", err, unix.ENODATA)
	n, err = unix.Getxattr(p, "user.empty", b)
	if n != 0 || err != nil {
		e.Errorf("an empty value: %d, %v", n, err)
	}
	n, err = unix.Listxattr(p, b)
	e.ok(err)
	found := 0
	for _, name := range strings.Split(string(b[:n]), "\x00") {
		if strings.HasPrefix(name, "user.") {
			found++
		}
	}
	if found != 3 {
		e.Errorf("listed: %q", b[:n])
	}
	e.ok(unix.Removexattr(p, "user.one"))
	e.wants("removing twice", unix.Removexattr(p, "user.one"), unix.ENODATA)
	e.ok(os.Rename(p, e.path("g")))
	n, err = unix.Getxattr(e.path("g"), "user.big", b)
	if n != len(big) || err != nil {
		e.Errorf("after rename: %d, %v", n, err)
	}
}
