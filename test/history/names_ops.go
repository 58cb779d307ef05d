package history

import (
	"fmt"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// run does one operation on both sides. The error is a mismatch, or what kept
// the history from going on.
func (w *world) run(o op) error {
	table := [kinds]func(r [8]uint32) error{
		opCreate: w.create, opMknod: w.mknod, opMkdir: w.mkdir, opSymlink: w.symlink, opLink: w.link,
		opUnlink: w.unlink, opRmdir: w.rmdir, opRename: w.rename, opLookup: w.lookup, opGetattr: w.getattr,
		opChmod: w.chmod, opChown: w.chown, opTruncate: w.truncate, opUtimes: w.utimes, opAccess: w.access,
		opReadlink: w.readlink, opOpen: w.open, opClose: w.close, opRead: w.read, opWrite: w.write,
		opAppend: w.appendTo, opFtruncate: w.ftruncate, opAllocate: w.allocate, opSeek: w.seek, opCopy: w.copy,
		opSync: w.sync, opFlush: w.flush, opLock: w.lock, opGetlk: w.getlk, opGetxattr: w.getxattr,
		opSetxattr: w.setxattr, opListxattr: w.listxattr, opRemovexattr: w.removexattr, opSetACL: w.setACL,
		opReaddir: w.readdir, opParent: w.parent, opBatch: w.batch, opSyncfs: w.syncfs,
		opDropCaches: w.dropCaches, opUpkeep: w.upkeepStep, opRestart: w.restartReal, opCompare: w.compareTree,
	}
	return table[o.kind](o.r)
}

// attr is a result with one attribute.
func attr(a fsapi.Attr, err error) result { return result{err: err, attrs: []fsapi.Attr{a}} }

func (w *world) newNode(what string, d *node, c *fsapi.Cred, name string, nn vfs.NewNode) error {
	_, err := w.both(fmt.Sprintf("%s(#%d, %.20q, type %d, %#o, umask %#o, target %d) by %d", what, d.id, name, nn.Type, nn.Mode, nn.Umask, len(nn.Target), c.Uid), func(s int) result {
		return attr(w.fs[s].Mknod(w.ctx, c, d.ino[s], name, nn))
	})
	return err
}

func (w *world) mknod(r [8]uint32) error {
	d := w.dir(r[0])
	t := pick([]fsapi.FileType{fsapi.TypeRegular, fsapi.TypeRegular, fsapi.TypeFIFO, fsapi.TypeSocket, fsapi.TypeCharDev, fsapi.TypeBlockDev}, r[2])
	return w.newNode("mknod", d, cred(r[3]), w.name(d, r[1]), vfs.NewNode{Type: t, Mode: r[4] & 0o7777, Umask: r[5] & 0o77, Rdev: r[6] & 0xffff})
}

func (w *world) mkdir(r [8]uint32) error {
	d := w.dir(r[0])
	mode := uint32(0o755)
	if r[4]%3 == 0 {
		mode = pick([]uint32{0o777, 0o1777, 0o2775, 0o700}, r[4]/3)
	}
	return w.newNode("mkdir", d, cred(r[3]), w.name(d, r[1]), vfs.NewNode{Type: fsapi.TypeDirectory, Mode: mode, Umask: r[5] % 2 * 0o22})
}

func (w *world) symlink(r [8]uint32) error {
	d := w.dir(r[0])
	return w.newNode("symlink", d, cred(r[3]), w.name(d, r[1]), vfs.NewNode{Type: fsapi.TypeSymlink, Target: strings.Repeat("t", size(r[4])%5000)})
}

func (w *world) create(r [8]uint32) error {
	d, c := w.dir(r[0]), cred(r[3])
	name := w.name(d, r[1])
	flags := openFlags(r[4]) | vfs.OpenFlags(r[5]%4/3)*vfs.OpenExcl
	nn := vfs.NewNode{Mode: pick([]uint32{0o644, 0o666, 0o600, 0o4755, 0o2755, 0}, r[6]), Umask: r[7] % 2 * 0o22}
	res, err := w.both(fmt.Sprintf("create(#%d, %.20q, %#o, %#x) by %d", d.id, name, nn.Mode, uint32(flags), c.Uid), func(s int) result {
		a, f, err := w.fs[s].Create(w.ctx, c, d.ino[s], name, nn, flags)
		res := attr(a, err)
		res.file = f
		return res
	})
	return w.opened(res, flags, err)
}

func (w *world) link(r [8]uint32) error {
	n, d, c := w.any(r[0]), w.dir(r[1]), cred(r[3])
	name := w.name(d, r[2])
	_, err := w.both(fmt.Sprintf("link(#%d, #%d, %.20q) by %d", n.id, d.id, name, c.Uid), func(s int) result {
		return attr(w.fs[s].Link(w.ctx, c, n.ino[s], d.ino[s], name))
	})
	return err
}

func (w *world) unlink(r [8]uint32) error {
	d, c := w.dir(r[0]), cred(r[3])
	name := w.name(d, r[1]-r[1]%3)
	_, err := w.both(fmt.Sprintf("unlink(#%d, %.20q) by %d", d.id, name, c.Uid), func(s int) result {
		return result{err: w.fs[s].Unlink(w.ctx, c, d.ino[s], name)}
	})
	return err
}

func (w *world) rmdir(r [8]uint32) error {
	d, c := w.dir(r[0]), cred(r[3])
	name := w.name(d, r[1]-r[1]%3)
	_, err := w.both(fmt.Sprintf("rmdir(#%d, %.20q) by %d", d.id, name, c.Uid), func(s int) result {
		return result{err: w.fs[s].Rmdir(w.ctx, c, d.ino[s], name)}
	})
	return err
}

func (w *world) rename(r [8]uint32) error {
	d, to, c := w.dir(r[0]), w.dir(r[1]), cred(r[3])
	if r[2]%3 == 0 {
		to = d
	}
	name, as := w.name(d, r[4]-r[4]%3), w.name(to, r[5])
	flags := pick([]vfs.RenameFlags{0, 0, 0, vfs.RenameNoReplace, vfs.RenameExchange, vfs.RenameExchange}, r[6])
	_, err := w.both(fmt.Sprintf("rename(#%d, %.20q, #%d, %.20q, %d) by %d", d.id, name, to.id, as, flags, c.Uid), func(s int) result {
		return result{err: w.fs[s].Rename(w.ctx, c, d.ino[s], name, to.ino[s], as, flags)}
	})
	return err
}

func (w *world) lookup(r [8]uint32) error {
	d, c := w.dir(r[0]), cred(r[3])
	name := w.name(d, r[1])
	if r[2]%10 == 0 && d.id != 0 {
		name = ".."
	}
	if name == ".." && d.id == 0 {
		name = "."
	}
	_, err := w.both(fmt.Sprintf("lookup(#%d, %.20q) by %d", d.id, name, c.Uid), func(s int) result {
		return attr(w.fs[s].Lookup(w.ctx, c, d.ino[s], name))
	})
	return err
}

func (w *world) getattr(r [8]uint32) error {
	n := w.any(r[0])
	_, err := w.both(fmt.Sprintf("getattr(#%d)", n.id), func(s int) result { return attr(w.fs[s].Getattr(w.ctx, n.ino[s])) })
	return err
}

func (w *world) setattr(what string, n *node, c *fsapi.Cred, set vfs.SetAttr) error {
	_, err := w.both(fmt.Sprintf("%s on #%d by %d", what, n.id, c.Uid), func(s int) result {
		return attr(w.fs[s].Setattr(w.ctx, c, n.ino[s], set))
	})
	return err
}

func (w *world) chmod(r [8]uint32) error {
	mode := pick([]uint32{0o644, 0o755, 0o777, 0o600, 0o6755, 0o1777, 0o2777, 0, r[2] & 0o7777}, r[1])
	return w.setattr(fmt.Sprintf("chmod %#o", mode), w.any(r[0]), cred(r[3]), vfs.SetAttr{Mode: &mode})
}

func (w *world) chown(r [8]uint32) error {
	ids := []uint32{0, 1000, 1001, 50, 7}
	uid, gid := pick(ids, r[1]), pick(ids, r[2])
	set := vfs.SetAttr{Uid: &uid, Gid: &gid}
	switch r[4] % 3 {
	case 0:
		set.Uid = nil
	case 1:
		set.Gid = nil
	}
	return w.setattr(fmt.Sprintf("chown %d:%d(%d)", uid, gid, r[4]%3), w.any(r[0]), cred(r[3]), set)
}

func (w *world) truncate(r [8]uint32) error {
	n := w.regular(r[0])
	to := offset(r[1], w.sizeOf(n)) + int64(r[2]%7)/6*int64(r[2]%5000)
	return w.setattr(fmt.Sprintf("truncate %d", to), n, cred(r[3]), vfs.SetAttr{Size: &to})
}

func (w *world) utimes(r [8]uint32) error {
	at, mt := time.Unix(int64(r[1]%900_000_000), int64(r[2]%1_000_000_000)), time.Unix(-int64(r[4]%900_000_000), 7)
	set := vfs.SetAttr{Atime: &at, Mtime: &mt}
	switch r[5] % 4 {
	case 0:
		set.Atime = nil
	case 1:
		set.Mtime = nil
	case 2:
		set = vfs.SetAttr{TouchAtime: true, TouchMtime: r[5]%8 > 3}
	}
	return w.setattr(fmt.Sprintf("utimes(%v %v %d)", at.Unix(), mt.Unix(), r[5]%8), w.any(r[0]), cred(r[3]), set)
}

func (w *world) access(r [8]uint32) error {
	n, c, want := w.any(r[0]), cred(r[3]), r[1]%8
	_, err := w.both(fmt.Sprintf("access(#%d, %d) by %d", n.id, want, c.Uid), func(s int) result {
		return result{err: w.fs[s].Access(w.ctx, c, n.ino[s], want)}
	})
	return err
}

func (w *world) readlink(r [8]uint32) error {
	n := pick(w.alive(fsapi.TypeSymlink), r[0])
	if n == nil {
		n = w.any(r[0])
	}
	_, err := w.both(fmt.Sprintf("readlink(#%d)", n.id), func(s int) result {
		t, err := w.fs[s].Readlink(w.ctx, n.ino[s])
		return result{err: err, text: t}
	})
	return err
}

// parent compares the name of what has one only: which of several is best known
// is up to each side.
func (w *world) parent(r [8]uint32) error {
	n := w.any(r[0])
	a, err := w.fs[oracle].Getattr(w.ctx, n.ino[oracle])
	if err != nil || n.id == 0 || a.Type != fsapi.TypeDirectory && a.Nlink != 1 || a.Nlink == 0 {
		return nil
	}
	_, err = w.both(fmt.Sprintf("parent(#%d)", n.id), func(s int) result {
		d, name, err := w.fs[s].Parent(w.ctx, n.ino[s])
		id := -1
		if known := w.byIno[s][d]; known != nil {
			id = known.id
		}
		return result{err: err, text: fmt.Sprintf("#%d %q", id, name)}
	})
	return err
}
