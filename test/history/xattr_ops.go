package history

import (
	"fmt"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func xattrName(r uint32) string {
	return pick([]string{
		"user.a", "user.b", "user.c", "trusted.a", "security.a", "system.posix_acl_access", "system.posix_acl_default", "bad", "user.",
	}, r)
}

func (w *world) getxattr(r [8]uint32) error {
	n, c, name := w.any(r[0]), cred(r[3]), xattrName(r[1])
	_, err := w.both(fmt.Sprintf("getxattr(#%d, %s) by %d", n.id, name, c.Uid), func(s int) result {
		v, err := w.fs[s].Getxattr(w.ctx, c, n.ino[s], name)
		return result{err: err, text: string(v)}
	})
	return err
}

func (w *world) setxattr(r [8]uint32) error {
	n, c, name := w.any(r[0]), cred(r[3]), xattrName(r[1])
	if strings.HasPrefix(name, "system.") {
		name = "user.d"
	}
	value, flags := bytesOf(size(r[2]), r[4]), vfs.XattrFlags(r[5]%5)
	if flags == 3 {
		flags = 0
	}
	_, err := w.both(fmt.Sprintf("setxattr(#%d, %s, %d bytes, %d) by %d", n.id, name, len(value), flags, c.Uid), func(s int) result {
		return result{err: w.fs[s].Setxattr(w.ctx, c, n.ino[s], name, value, flags)}
	})
	return err
}

func (w *world) listxattr(r [8]uint32) error {
	n, c := w.any(r[0]), cred(r[3])
	_, err := w.both(fmt.Sprintf("listxattr(#%d) by %d", n.id, c.Uid), func(s int) result { return w.xattrNames(s, c, n) })
	return err
}

func (w *world) xattrNames(s int, c *fsapi.Cred, n *node) result {
	names, err := w.fs[s].Listxattr(w.ctx, c, n.ino[s])
	slices.Sort(names)
	return result{err: err, text: strings.Join(names, " ")}
}

func (w *world) removexattr(r [8]uint32) error {
	n, c, name := w.any(r[0]), cred(r[3]), xattrName(r[1])
	_, err := w.both(fmt.Sprintf("removexattr(#%d, %s) by %d", n.id, name, c.Uid), func(s int) result {
		return result{err: w.fs[s].Removexattr(w.ctx, c, n.ino[s], name)}
	})
	return err
}

func (w *world) setACL(r [8]uint32) error {
	n, c := w.any(r[0]), cred(r[3])
	name := pick([]string{"system.posix_acl_access", "system.posix_acl_default"}, r[1])
	none := ^uint32(0)
	a := vfs.ACL{{Tag: vfs.ACLUserObj, Perm: uint16(r[2] & 7), ID: none}}
	if r[4]%3 != 0 {
		a = append(a, vfs.ACLEntry{Tag: vfs.ACLUser, Perm: uint16(r[2] >> 3 & 7), ID: 1000 + r[5]%2})
	}
	a = append(a, vfs.ACLEntry{Tag: vfs.ACLGroupObj, Perm: uint16(r[2] >> 6 & 7), ID: none})
	if r[4]%5 != 0 {
		a = append(a, vfs.ACLEntry{Tag: vfs.ACLGroup, Perm: uint16(r[2] >> 9 & 7), ID: 50})
	}
	if len(a) > 2 || r[4]%2 == 0 {
		a = append(a, vfs.ACLEntry{Tag: vfs.ACLMask, Perm: uint16(r[2] >> 12 & 7), ID: none})
	}
	a = append(a, vfs.ACLEntry{Tag: vfs.ACLOther, Perm: uint16(r[2] >> 15 & 7), ID: none})
	value := a.Bytes()
	if r[6]%12 == 0 {
		value = value[:len(value)-8]
	}
	_, err := w.both(fmt.Sprintf("set %s(#%d, %v) by %d", name, n.id, a, c.Uid), func(s int) result {
		return result{err: w.fs[s].Setxattr(w.ctx, c, n.ino[s], name, value, 0)}
	})
	return err
}
