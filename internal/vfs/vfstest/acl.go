package vfstest

import (
	"bytes"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func aclTests() []test {
	return []test{
		{"acl/named user", aclUser},
		{"acl/groups", aclGroups},
		{"acl/one group entry must grant it all", aclGroupsSingly},
		{"acl/mask bounds all but owner and other", aclMask},
		{"acl/sets the mode", aclMode},
		{"acl/chmod sets the mask", aclChmod},
		{"acl/minimal one is the mode", aclMinimal},
		{"acl/removed", aclRemove},
		{"acl/default is inherited", aclDefault},
		{"acl/default and the mode asked for", aclDefaultMode},
		{"acl/default only on directories", aclDefaultFile},
		{"acl/bad ones", aclBad},
		{"acl/who may", aclWho},
	}
}

const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// entry is an ACL entry, short.
func entry(tag vfs.ACLTag, id uint32, perm uint16) vfs.ACLEntry {
	if tag != vfs.ACLUser && tag != vfs.ACLGroup {
		id = 1<<32 - 1
	}
	return vfs.ACLEntry{Tag: tag, Perm: perm, ID: id}
}

// with is an ACL with the three owners' permissions, a mask, and more between
// them: users first, then groups.
func with(owner, group, mask, other uint16, named ...vfs.ACLEntry) vfs.ACL {
	a := vfs.ACL{entry(vfs.ACLUserObj, 0, owner)}
	for _, n := range named {
		if n.Tag == vfs.ACLUser {
			a = append(a, n)
		}
	}
	a = append(a, entry(vfs.ACLGroupObj, 0, group))
	for _, n := range named {
		if n.Tag == vfs.ACLGroup {
			a = append(a, n)
		}
	}
	return append(a, entry(vfs.ACLMask, 0, mask), entry(vfs.ACLOther, 0, other))
}

func (e *env) setACL(ino fsapi.Ino, name string, a vfs.ACL) {
	e.Helper()
	e.ok(e.fs.Setxattr(e.ctx, fsapi.Root, ino, name, a.Bytes(), 0))
}

// acl is an ACL as stored; nil where there is none.
func (e *env) acl(ino fsapi.Ino, name string) vfs.ACL {
	e.Helper()
	b, err := e.fs.Getxattr(e.ctx, fsapi.Root, ino, name)
	if err != nil {
		e.fails(fsapi.NoAttr, err)
		return nil
	}
	a, err := vfs.ParseACL(b)
	e.ok(err)
	return a
}

func aclUser(e *env) {
	f := e.file(root, "f", 0o600)
	e.setACL(f, accessACL, with(6, 0, 7, 0, entry(vfs.ACLUser, 1000, 5), entry(vfs.ACLUser, 1001, 0)))
	e.equal("alice", e.accesses(alice(), f), uint32(5))
	e.equal("bob", e.accesses(bob(), f), uint32(0))
	e.equal("carol", e.accesses(carol(), f), uint32(0))
	e.openAs(alice(), f, vfs.OpenRead)
	_, err := e.fs.Open(e.ctx, alice(), f, rw)
	e.fails(fsapi.Access, err)
}

func aclGroups(e *env) {
	f := e.file(root, "f", 0o600)
	e.setACL(f, accessACL, with(6, 0, 7, 4, entry(vfs.ACLGroup, staff, 6)))
	e.equal("alice", e.accesses(alice(), f), uint32(6))
	e.equal("carol", e.accesses(carol(), f), uint32(4))
	e.setACL(f, accessACL, with(6, 0, 7, 7, entry(vfs.ACLGroup, staff, 0)))
	e.equal("alice, whose group has nothing", e.accesses(alice(), f), uint32(0))
	e.equal("carol", e.accesses(carol(), f), uint32(7))
}

func aclGroupsSingly(e *env) {
	f := e.file(root, "f", 0o600)
	e.setACL(f, accessACL, with(6, 0, 7, 7, entry(vfs.ACLGroup, 7, 4), entry(vfs.ACLGroup, staff, 2)))
	e.equal("bob singly", e.accesses(bob(), f), uint32(6))
	if e.may(bob(), f, 6) {
		e.Fatal("two group entries granted together what neither grants")
	}
}

func aclMask(e *env) {
	f := e.file(root, "f", 0o600)
	e.ok(e.chown(fsapi.Root, f, 1002, staff))
	e.setACL(f, accessACL, with(7, 7, 4, 7, entry(vfs.ACLUser, 1000, 7)))
	e.equal("named user", e.accesses(alice(), f), uint32(4))
	e.equal("owning group", e.accesses(bob(), f), uint32(4))
	e.equal("owner", e.accesses(carol(), f), uint32(7))
	e.equal("other", e.accesses(&fsapi.Cred{Uid: 9, Gid: 9}, f), uint32(7))
}

func aclMode(e *env) {
	f := e.file(root, "f", 0o640)
	e.ok(e.chmod(fsapi.Root, f, 0o4640))
	e.setACL(f, accessACL, with(7, 1, 5, 2, entry(vfs.ACLUser, 1000, 7)))
	e.equal("mode", e.attr(f).Mode, uint32(0o4752))
}

func aclChmod(e *env) {
	f := e.file(root, "f", 0o600)
	e.setACL(f, accessACL, with(6, 4, 7, 0, entry(vfs.ACLUser, 1000, 7)))
	e.ok(e.chmod(fsapi.Root, f, 0o421))
	e.equal("ACL", e.acl(f, accessACL), with(4, 4, 2, 1, entry(vfs.ACLUser, 1000, 7)))
	e.equal("mode", e.attr(f).Mode, uint32(0o421))
	e.equal("alice", e.accesses(alice(), f), uint32(2))
}

func aclMinimal(e *env) {
	f := e.file(root, "f", 0o600)
	e.setACL(f, accessACL, vfs.ACL{entry(vfs.ACLUserObj, 0, 7), entry(vfs.ACLGroupObj, 0, 5), entry(vfs.ACLOther, 0, 1)})
	e.equal("mode", e.attr(f).Mode, uint32(0o751))
	e.equal("ACL", e.acl(f, accessACL), vfs.ACL(nil))
}

func aclRemove(e *env) {
	f := e.file(root, "f", 0o600)
	e.setACL(f, accessACL, with(6, 4, 7, 0, entry(vfs.ACLUser, 1000, 7)))
	e.equal("names", e.listxattr(f), []string{accessACL})
	e.ok(e.fs.Removexattr(e.ctx, fsapi.Root, f, accessACL))
	e.equal("ACL", e.acl(f, accessACL), vfs.ACL(nil))
	e.equal("names", e.listxattr(f), []string{})
	e.equal("mode", e.attr(f).Mode, uint32(0o670))
	d := e.dir(root, "d", 0o755)
	e.setACL(d, defaultACL, with(7, 5, 5, 0))
	e.setACL(d, defaultACL, nil)
	e.equal("default ACL", e.acl(d, defaultACL), vfs.ACL(nil))
}

func aclDefault(e *env) {
	d := e.dir(root, "d", 0o777)
	def := with(7, 5, 7, 1, entry(vfs.ACLUser, 1000, 7))
	e.setACL(d, defaultACL, def)
	e.equal("mode of the directory", e.attr(d).Mode, uint32(0o777))
	sub := e.mk(fsapi.Root, d, "sub", vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o777, Umask: 0o077})
	e.equal("default below", e.acl(sub.Ino, defaultACL), def)
	e.equal("access below", e.acl(sub.Ino, accessACL), def)
	e.equal("mode below, without umask", sub.Mode, uint32(0o771))
	f := e.mk(fsapi.Root, sub.Ino, "f", vfs.NewNode{Type: fsapi.TypeRegular, Mode: 0o666, Umask: 0o077})
	e.equal("default of a file", e.acl(f.Ino, defaultACL), vfs.ACL(nil))
	e.equal("mode of a file", f.Mode, uint32(0o660))
	e.equal("alice", e.accesses(alice(), f.Ino), uint32(6))
	l := e.symlink(d, "l", "x")
	e.equal("mode of a symlink", e.attr(l).Mode, uint32(0o777))
	a, _ := e.create(fsapi.Root, sub.Ino, "g", vfs.NewNode{Mode: 0o666, Umask: 0o077}, rw)
	e.equal("mode by Create", a.Mode, uint32(0o660))
}

func aclDefaultMode(e *env) {
	d := e.dir(root, "d", 0o777)
	e.setACL(d, defaultACL, with(7, 7, 7, 7, entry(vfs.ACLGroup, staff, 7)))
	f := e.mk(fsapi.Root, d, "f", vfs.NewNode{Type: fsapi.TypeRegular, Mode: 0o1421})
	e.equal("mode", f.Mode, uint32(0o1421))
	e.equal("ACL", e.acl(f.Ino, accessACL), with(4, 7, 2, 1, entry(vfs.ACLGroup, staff, 7)))
	three := vfs.ACL{entry(vfs.ACLUserObj, 0, 6), entry(vfs.ACLGroupObj, 0, 4), entry(vfs.ACLOther, 0, 4)}
	e.setACL(d, defaultACL, three)
	g := e.mk(fsapi.Root, d, "g", vfs.NewNode{Type: fsapi.TypeRegular, Mode: 0o666, Umask: 0o777})
	e.equal("mode of a minimal default", g.Mode, uint32(0o644))
	e.equal("ACL of a minimal default", e.acl(g.Ino, accessACL), vfs.ACL(nil))
}

func aclDefaultFile(e *env) {
	f := e.file(root, "f", 0o600)
	err := e.fs.Setxattr(e.ctx, fsapi.Root, f, defaultACL, with(7, 7, 7, 7).Bytes(), 0)
	e.fails(fsapi.Access, err)
	l := e.symlink(root, "l", "x")
	e.fails(fsapi.NotSupported, e.fs.Setxattr(e.ctx, fsapi.Root, l, accessACL, with(7, 7, 7, 7).Bytes(), 0))
}

func aclBad(e *env) {
	f := e.file(root, "f", 0o600)
	good := with(7, 7, 7, 7, entry(vfs.ACLUser, 1, 7))
	for what, bad := range map[string][]byte{
		"cut short":         good.Bytes()[:13],
		"no mask":           append(good[:3:3], good[4]).Bytes(),
		"no other":          good[:4].Bytes(),
		"out of order":      vfs.ACL{good[1], good[0], good[2], good[3], good[4]}.Bytes(),
		"too many bits":     with(8, 7, 7, 7).Bytes(),
		"owner twice":       append(vfs.ACL{good[0]}, good...).Bytes(),
		"header cut short":  {2, 0},
		"unknown entry tag": bytes.Replace(good.Bytes(), []byte{0x20, 0, 7}, []byte{0x40, 0, 7}, 1),
	} {
		err := e.fs.Setxattr(e.ctx, fsapi.Root, f, accessACL, bad, 0)
		if err == nil {
			e.Fatalf("an ACL that is bad (%s) was taken", what)
		}
		if k := fsapi.KindOf(err); k != fsapi.Invalid && k != fsapi.NotSupported {
			e.Fatalf("an ACL that is bad (%s) was refused with %q", what, k)
		}
	}
	e.equal("mode", e.attr(f).Mode, uint32(0o600))
}

func aclWho(e *env) {
	f := e.file(root, "f", 0o666)
	e.ok(e.chown(fsapi.Root, f, 1000, 1000))
	b := with(7, 7, 7, 7).Bytes()
	e.ok(e.fs.Setxattr(e.ctx, alice(), f, accessACL, b, 0))
	e.fails(fsapi.NotPermitted, e.fs.Setxattr(e.ctx, bob(), f, accessACL, b, 0))
	e.fails(fsapi.NotPermitted, e.fs.Removexattr(e.ctx, bob(), f, accessACL))
	e.ok(e.chmod(fsapi.Root, f, 0))
	_, err := e.fs.Getxattr(e.ctx, bob(), f, accessACL)
	e.ok(err)
}
