package posix

import (
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// userTests are about permissions, as several users.
func userTests() map[string]func(e env) {
	return map[string]func(e env){
		"Permissions": func(e env) {
			p := e.write("f", "secret")
			e.ok(os.Chmod(p, 0o640))
			e.ok(os.Chown(p, 1001, 2002))
			open := func(uid, gid int, groups []int, flags int) (err error) {
				e.as(uid, gid, groups, func() {
					var fd int
					if fd, err = unix.Open(p, flags, 0); err == nil {
						_ = unix.Close(fd)
					}
				})
				return err
			}
			e.ok(open(1001, 1, nil, unix.O_RDWR))
			e.ok(open(5, 2002, nil, unix.O_RDONLY))
			e.ok(open(5, 1, []int{7, 2002}, unix.O_RDONLY))
			e.wants("the group writes", open(5, 2002, nil, unix.O_WRONLY), unix.EACCES)
			e.wants("others read", open(5, 1, nil, unix.O_RDONLY), unix.EACCES)
			e.ok(os.Mkdir(e.path("d"), 0o755))
			e.write("d/f", "")
			e.ok(os.Chmod(e.path("d"), 0o744))
			e.as(1001, 1001, nil, func() {
				_, err := os.Stat(e.path("d", "f"))
				e.wants("search without permission", err, unix.EACCES)
				_, err = readNames(e.path("d"))
				if err != nil {
					e.Errorf("listing with permission: %v", err)
				}
				e.wants("create without permission", os.WriteFile(e.path("d", "g"), nil, 0o644), unix.EACCES)
				e.wants("chmod by another", os.Chmod(e.path("d"), 0o777), unix.EPERM)
				e.wants("chown by another", os.Chown(e.path("d"), 1001, 1001), unix.EPERM)
			})
		},
		"Sticky": func(e env) {
			e.ok(os.Mkdir(e.path("d"), 0o755))
			e.ok(unix.Chmod(e.path("d"), 0o1777))
			e.as(1001, 1001, nil, func() { e.write("d/f", "") })
			e.as(1002, 1002, nil, func() {
				e.wants("unlink of another's", os.Remove(e.path("d", "f")), unix.EPERM)
				e.wants("rename of another's", os.Rename(e.path("d", "f"), e.path("d", "g")), unix.EPERM)
			})
			e.as(1001, 1001, nil, func() { e.ok(os.Remove(e.path("d", "f"))) })
		},
		"MoveOfADirectory": func(e env) {
			for _, d := range []string{"from", "to"} {
				e.ok(os.Mkdir(e.path(d), 0o755))
				e.ok(unix.Chmod(e.path(d), 0o777))
			}
			e.ok(os.Mkdir(e.path("from", "d"), 0o755))
			e.write("to/f", "")
			e.as(1001, 1001, nil, func() {
				move := func(to string) error { return unix.Rename(e.path("from", "d"), e.path("to", to)) }
				e.wants("another parent for a directory that is not one's to write", move("new"), unix.EACCES)
				e.wants("the same in place of a file", move("f"), unix.ENOTDIR)
			})
		},
		"SetgidDirectory": func(e env) {
			e.ok(os.Mkdir(e.path("d"), 0o755))
			e.ok(os.Chown(e.path("d"), 1001, 2002))
			e.ok(unix.Chmod(e.path("d"), 0o2777))
			e.as(1002, 1002, nil, func() {
				e.write("d/f", "")
				e.ok(os.Mkdir(e.path("d", "sub"), 0o755))
			})
			if st := e.stat(e.path("d", "f")); st.Uid != 1002 || st.Gid != 2002 {
				e.Errorf("the file belongs to %d:%d", st.Uid, st.Gid)
			}
			if st := e.stat(e.path("d", "sub")); st.Gid != 2002 || st.Mode&unix.S_ISGID == 0 {
				e.Errorf("the directory is of group %d with mode %o", st.Gid, st.Mode)
			}
		},
		"WriteClearsSetuid": func(e env) {
			p := e.write("f", "#!")
			e.ok(os.Chown(p, 1001, 1001))
			e.ok(unix.Chmod(p, 0o6777))
			f := e.open(p, os.O_RDWR, 0)
			e.as(1002, 1002, nil, func() {
				_, err := f.Write([]byte("x"))
				if err != nil {
					e.Error(err)
				}
			})
			if st := e.stat(p); st.Mode&0o7777 != 0o777 {
				e.Errorf("after a write by another through root's descriptor, mode is %o", st.Mode)
			}
			e.ok(unix.Chmod(p, 0o6777))
			e.as(1002, 1002, nil, func() { e.write("f", "by name") })
			if st := e.stat(p); st.Mode&0o7777 != 0o777 {
				e.Errorf("after a write by another, mode is %o", st.Mode)
			}
			e.ok(unix.Chmod(p, 0o6777))
			e.ok(os.Chown(p, 1003, 1003))
			if st := e.stat(p); st.Mode&0o7777 != 0o777 {
				e.Errorf("after chown, mode is %o", st.Mode)
			}
			e.ok(unix.Chmod(p, 0o6777))
			_, err := f.WriteAt([]byte("y"), 0)
			e.ok(err)
			if st := e.stat(p); st.Mode&0o7777 != 0o6777 {
				e.Errorf("after a write by root, mode is %o", st.Mode)
			}
		},
		"Umask": func(e env) {
			old := unix.Umask(0o027)
			defer unix.Umask(old)
			f := e.open(e.path("f"), os.O_CREATE|os.O_WRONLY, 0o666)
			e.ok(os.Mkdir(e.path("d"), 0o777))
			if st := e.stat(f.Name()); st.Mode&0o777 != 0o640 {
				e.Errorf("file mode is %o", st.Mode)
			}
			if st := e.stat(e.path("d")); st.Mode&0o777 != 0o750 {
				e.Errorf("directory mode is %o", st.Mode)
			}
		},
		"Acl":        acl,
		"AclDefault": aclDefault,
	}
}

// tool runs a program that may not be installed.
func (e env) tool(name string, args ...string) string {
	e.Helper()
	bin, err := exec.LookPath(name)
	if err != nil {
		e.Skipf("%s is not installed (Debian: acl, attr)", name)
	}
	out, err := exec.Command(bin, args...).CombinedOutput()
	if err != nil {
		e.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// getfacl is the entries of an ACL, without the header.
func (e env) getfacl(path string) string {
	e.Helper()
	return strings.Join(strings.Fields(e.tool("getfacl", "-n", "-c", "-p", path)), " ")
}

func acl(e env) {
	p := e.write("f", "data")
	e.ok(os.Chmod(p, 0o640))
	e.tool("setfacl", "-m", "u:1001:rw,g:2002:r", p)
	if got, want := e.getfacl(p), "user::rw- user:1001:rw- group::r-- group:2002:r-- mask::rw- other::---"; got != want {
		e.Errorf("the ACL is %s, want %s", got, want)
	}
	if st := e.stat(p); st.Mode&0o777 != 0o660 {
		e.Errorf("the mode shows %o, not the mask", st.Mode)
	}
	try := func(uid, gid int, groups []int, flags int) (err error) {
		e.as(uid, gid, groups, func() {
			var fd int
			if fd, err = unix.Open(p, flags, 0); err == nil {
				_ = unix.Close(fd)
			}
		})
		return err
	}
	e.ok(try(1001, 1001, nil, unix.O_RDWR))
	e.ok(try(1002, 2002, nil, unix.O_RDONLY))
	e.ok(try(1002, 1, []int{2002}, unix.O_RDONLY))
	e.wants("a named group writes", try(1002, 2002, nil, unix.O_WRONLY), unix.EACCES)
	e.wants("a stranger reads", try(1003, 1003, nil, unix.O_RDONLY), unix.EACCES)
	e.ok(os.Chmod(p, 0o600)) // takes the mask
	if got, want := e.getfacl(p), "user::rw- user:1001:rw- #effective:--- group::r-- #effective:--- group:2002:r-- #effective:--- mask::--- other::---"; got != want {
		e.Errorf("after chmod the ACL is %s, want %s", got, want)
	}
	e.wants("a named user under the mask", try(1001, 1001, nil, unix.O_RDONLY), unix.EACCES)
	e.tool("setfacl", "-b", p)
	if got, want := e.getfacl(p), "user::rw- group::--- other::---"; got != want {
		e.Errorf("after removal the ACL is %s, want %s", got, want)
	}
}

func aclDefault(e env) {
	d := e.path("d")
	e.ok(os.Mkdir(d, 0o755))
	e.tool("setfacl", "-d", "-m", "u::rwx,u:1001:rwx,g::r-x,o::-", d)
	old := unix.Umask(0o077) // a default ACL takes its place
	defer unix.Umask(old)
	f := e.open(e.path("d", "f"), os.O_CREATE|os.O_WRONLY, 0o666)
	e.ok(os.Mkdir(e.path("d", "sub"), 0o777))
	if got, want := e.getfacl(f.Name()), "user::rw- user:1001:rwx #effective:rw- group::r-x #effective:r-- mask::rw- other::---"; got != want {
		e.Errorf("the file's ACL is %s, want %s", got, want)
	}
	got := e.getfacl(e.path("d", "sub"))
	if want := "user::rwx user:1001:rwx group::r-x mask::rwx other::--- default:user::rwx default:user:1001:rwx default:group::r-x default:mask::rwx default:other::---"; got != want {
		e.Errorf("the directory's ACL is %s, want %s", got, want)
	}
	e.as(1001, 1001, nil, func() {
		if err := os.WriteFile(e.path("d", "f"), []byte("x"), 0); err != nil {
			e.Errorf("a user named by the inherited ACL: %v", err)
		}
	})
}
