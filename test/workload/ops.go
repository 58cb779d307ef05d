package workload

import (
	"fmt"
	"maps"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// maxHandles, maxNames and maxBig bound what a client has.
const (
	maxHandles = 6
	maxNames   = 40
	maxBig     = 2 // big writes of a history
)

// Step does one operation, chosen by chance.
func (c *Client) Step() error {
	if c.Calm {
		return pick(c.rng, []func() error{c.Write, c.Write, c.appendTo, c.truncate, c.fsync, c.fsync, c.Syncfs, c.check})()
	}
	full := len(c.places(anything)) >= maxNames
	type choice struct {
		weight int
		do     func() error
	}
	choices := []choice{
		{30, c.Write}, {6, c.appendTo}, {5, c.truncate}, {5, c.allocate}, {4, c.copyRange}, {12, c.fsync}, {2, c.Syncfs}, {3, c.syncDir},
		{7, c.rename}, {2, c.exchange}, {7, c.unlink}, {2, c.rmdir}, {4, c.xattr}, {2, c.chmod}, {4, c.batch}, {5, c.closeSome}, {3, c.check},
		{2, c.restore}, {1, c.emptyTrash}, {1, c.bigWrite},
	}
	if !full {
		choices = append(choices, choice{14, c.create}, choice{3, c.mkdir}, choice{2, c.symlink}, choice{3, c.link})
	}
	sum := 0
	for _, ch := range choices {
		sum += ch.weight
	}
	r := c.rng.IntN(sum)
	for _, ch := range choices {
		if r -= ch.weight; r < 0 {
			return ch.do()
		}
	}
	return nil
}

// fail ends an operation that failed, if it did.
func (c *Client) fail(o *operation, err error) error {
	if err == nil {
		return nil
	}
	if c.Tolerate != nil && c.Tolerate(err) {
		o.text += " = " + fsapi.KindOf(err).Error()
		o.sync, o.commits = syncNone, nil
		if o.done == 0 {
			c.end(o, false)
		}
		return nil
	}
	return fmt.Errorf("client %d: %s: %w", c.id, o.text, err)
}

// made takes a new inode into the model.
func (c *Client) made(p place, n *node) {
	n.nlink = 1
	if n.typ == fsapi.TypeDirectory {
		n.entries = map[string]*node{}
	}
	c.nodes = append(c.nodes, n)
	c.put(p, n)
}

func (c *Client) put(p place, n *node) {
	p.dir.entries[p.name] = n
	if n.typ == fsapi.TypeDirectory {
		n.parent, n.name = p.dir, p.name
	}
}

// dropped takes a name away from what has it.
func (c *Client) dropped(n *node) {
	n.nlink--
	if n.nlink == 0 && c.o.Trash {
		n.trashed = true
	}
}

func (c *Client) create() error {
	p := c.free()
	flags := vfs.OpenRead | vfs.OpenWrite
	if c.chance(8) {
		flags |= vfs.OpenSync
	}
	if c.chance(8) {
		flags |= vfs.OpenAppend
	}
	mode := uint32(0o600 + c.rng.IntN(64))
	o := c.begin("create %s flags %#x", c.path(p), uint32(flags))
	a, f, err := c.fs.Create(c.ctx, fsapi.Root, p.dir.ino, p.name, vfs.NewNode{Mode: mode}, flags|vfs.OpenExcl)
	if err != nil {
		return c.fail(o, err)
	}
	n := &node{ino: a.Ino, typ: fsapi.TypeRegular, mode: mode}
	o.text += fmt.Sprintf(" = ino %d", a.Ino)
	c.made(p, n)
	c.wrote(n, &content{})
	c.end(o, true)
	return c.keepHandle(&handle{n, f, flags})
}

func (c *Client) keepHandle(h *handle) error {
	h.n.opens++
	c.handles = append(c.handles, h)
	if len(c.handles) > maxHandles {
		return c.closeHandle(0)
	}
	return nil
}

func (c *Client) closeHandle(i int) error {
	h := c.handles[i]
	c.handles = append(c.handles[:i:i], c.handles[i+1:]...)
	h.n.opens--
	o := c.begin("close ino %d", h.n.ino)
	defer c.end(o, false)
	return c.fail(o, h.f.Close())
}

func (c *Client) closeSome() error {
	if len(c.handles) == 0 {
		return nil
	}
	return c.closeHandle(c.rng.IntN(len(c.handles)))
}

// opened chooses an open file, or opens one; nil where there is none.
func (c *Client) opened() (*handle, error) {
	files := c.places(isFile)
	if len(c.handles) > 0 && (len(files) == 0 || !c.chance(3)) {
		return pick(c.rng, c.handles), nil
	}
	if len(files) == 0 {
		return nil, nil
	}
	p := pick(c.rng, files)
	flags := vfs.OpenRead | vfs.OpenWrite
	if c.chance(8) {
		flags |= vfs.OpenSync
	}
	trunc := c.chance(12)
	o := c.begin("open %s ino %d trunc %v flags %#x", c.path(p), p.n.ino, trunc, uint32(flags))
	if trunc {
		c.wrote(p.n, p.n.now().resize(0))
		flags |= vfs.OpenTrunc
	}
	f, err := c.fs.Open(c.ctx, fsapi.Root, p.n.ino, flags)
	if err != nil {
		if trunc {
			c.unwrite(p.n)
		}
		return nil, c.fail(o, err)
	}
	c.end(o, false)
	h := &handle{p.n, f, flags}
	return h, c.keepHandle(h)
}

// on does something with an open file.
func (c *Client) on(do func(h *handle) error) error {
	h, err := c.opened()
	if err != nil || h == nil {
		return err
	}
	return do(h)
}

// Write writes somewhere into some file.
func (c *Client) Write() error {
	return c.on(func(h *handle) error {
		off := c.offset(h.n.now().size)
		if h.flags&vfs.OpenAppend != 0 {
			off = h.n.now().size
		}
		return c.writeAt(h, off, c.data(c.length()))
	})
}

func (c *Client) appendTo() error {
	return c.on(func(h *handle) error {
		if h.n.now().size > maxOffset {
			return c.truncateTo(h, c.rng.Int64N(maxOffset))
		}
		return c.writeAt(h, h.n.now().size, c.data(c.length()))
	})
}

func (c *Client) writeAt(h *handle, off int64, p []byte) error {
	o := c.begin("write ino %d %d+%d flags %#x", h.n.ino, off, len(p), uint32(h.flags))
	c.wrote(h.n, h.n.now().write(off, p))
	if h.flags&vfs.OpenSync != 0 {
		o.sync, o.syncIno = syncFile, h.n.ino
	}
	n, err := h.f.WriteAt(c.ctx, p, off)
	switch {
	case err == nil && n != len(p):
		err = fmt.Errorf("%d bytes written of %d", n, len(p))
	case err != nil && n == 0:
		c.unwrite(h.n)
	case err != nil && n < len(p):
		// Not wrapped: no fault excuses half a write.
		err = fmt.Errorf("%d bytes written of %d, and then: %s", n, len(p), err.Error())
	}
	c.end(o, false)
	return c.fail(o, err)
}

// bigWrite writes so much that it is stored before anybody asks.
func (c *Client) bigWrite() error {
	if c.big >= maxBig {
		return nil
	}
	c.big++
	return c.on(func(h *handle) error {
		if h.flags&vfs.OpenSync != 0 {
			return nil
		}
		for i := range int64(11) {
			if err := c.writeAt(h, h.n.now().size, c.data(1<<20)); err != nil {
				return err
			}
			if i == 5 && c.chance(2) {
				if err := c.syncHandle(h); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (c *Client) truncate() error {
	return c.on(func(h *handle) error { return c.truncateTo(h, c.offset(h.n.now().size)) })
}

func (c *Client) truncateTo(h *handle, size int64) error {
	o := c.begin("truncate ino %d to %d", h.n.ino, size)
	c.wrote(h.n, h.n.now().resize(size))
	err := h.f.Truncate(c.ctx, size)
	if err != nil {
		c.unwrite(h.n)
	}
	c.end(o, false)
	return c.fail(o, err)
}

func (c *Client) allocate() error {
	return c.on(func(h *handle) error {
		now := h.n.now()
		off, n := c.offset(now.size), int64(c.length())
		mode := pick(c.rng, []vfs.AllocMode{
			0, vfs.AllocKeepSize, vfs.AllocPunch | vfs.AllocKeepSize, vfs.AllocPunch | vfs.AllocKeepSize, vfs.AllocZero,
			vfs.AllocCollapse, vfs.AllocInsert,
		})
		if mode == vfs.AllocCollapse || mode == vfs.AllocInsert {
			off, n = off&^4095, max(n&^4095, 4096)
		}
		if mode == vfs.AllocCollapse && off+n >= now.size || mode == vfs.AllocInsert && (off >= now.size || now.size > maxOffset) {
			return nil
		}
		had := len(h.n.versions)
		o := c.begin("fallocate %#x ino %d %d+%d", uint32(mode), h.n.ino, off, n)
		switch mode {
		case 0:
			c.wrote(h.n, now.resize(max(now.size, off+n)))
		case vfs.AllocPunch | vfs.AllocKeepSize:
			c.wrote(h.n, now.zero(off, off+n))
		case vfs.AllocZero:
			c.wrote(h.n, now.zero(off, off+n).resize(max(now.size, off+n)))
		case vfs.AllocCollapse:
			c.wrote(h.n, now.zero(off, off+n)) // on the way
			c.wrote(h.n, now.collapse(off, off+n))
		case vfs.AllocInsert:
			c.wrote(h.n, now.insert(off, n))
		}
		err := h.f.Allocate(c.ctx, mode, off, n)
		if err != nil {
			h.n.versions = h.n.versions[:had]
		}
		o.commit(h.n)
		c.end(o, false)
		return c.fail(o, err)
	})
}

func (c *Client) copyRange() error {
	return c.on(func(h *handle) error {
		to, err := c.opened()
		if err != nil || to == nil || to.flags&vfs.OpenAppend != 0 || !slices.Contains(c.handles, h) {
			return err
		}
		src := h.n.now()
		off, dst, n := c.offset(src.size), c.offset(to.n.now().size), int64(c.length())
		n = min(n, src.size-off)
		if n <= 0 || h.n == to.n && off < dst+n && dst < off+n {
			return nil
		}
		o := c.begin("copy ino %d %d+%d to ino %d at %d", h.n.ino, off, n, to.n.ino, dst)
		c.wrote(to.n, to.n.now().write(dst, src.bytes(off, off+n)))
		got, err := h.f.CopyRange(c.ctx, off, to.f, dst, n)
		if err == nil && got != n {
			err = fmt.Errorf("%d bytes copied of %d", got, n)
		}
		if err != nil {
			c.unwrite(to.n)
			if got > 0 {
				c.wrote(to.n, to.n.now().write(dst, src.bytes(off, off+got)))
			}
		}
		c.end(o, false)
		return c.fail(o, err)
	})
}

func (c *Client) fsync() error { return c.on(c.syncHandle) }

func (c *Client) syncHandle(h *handle) error {
	data := c.chance(2)
	o := c.begin("fsync ino %d data only %v", h.n.ino, data)
	o.sync, o.syncIno = syncFile, h.n.ino
	err := h.f.Sync(c.ctx, data)
	o.commit(h.n)
	c.end(o, false)
	return c.fail(o, err)
}

// SyncHandles makes every file that is open durable.
func (c *Client) SyncHandles() error {
	for _, h := range c.handles {
		if err := c.syncHandle(h); err != nil {
			return err
		}
	}
	return nil
}

// Syncfs makes everything durable.
func (c *Client) Syncfs() error {
	o := c.begin("syncfs")
	o.sync = syncAll
	err := c.fs.Syncfs(c.ctx)
	c.end(o, false)
	return c.fail(o, err)
}

func (c *Client) syncDir() error {
	d := pick(c.rng, c.dirs())
	h, err := c.fs.OpenDir(c.ctx, fsapi.Root, d.ino)
	if err != nil {
		return err
	}
	defer h.Close()
	o := c.begin("fsync directory ino %d", d.ino)
	o.sync = syncNames
	err = h.Sync(c.ctx)
	c.end(o, false)
	return c.fail(o, err)
}

func (c *Client) mkdir() error {
	p := c.free()
	if len(c.dirs()) > 9 || p.dir == c.shared {
		return nil
	}
	o := c.begin("mkdir %s", c.path(p))
	a, err := c.fs.Mknod(c.ctx, fsapi.Root, p.dir.ino, p.name, vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
	if err != nil {
		return c.fail(o, err)
	}
	c.made(p, &node{ino: a.Ino, typ: fsapi.TypeDirectory, mode: 0o755})
	c.end(o, true)
	return nil
}

func (c *Client) symlink() error {
	p := c.free()
	target := fmt.Sprint("to/", c.rng.IntN(1000))
	o := c.begin("symlink %s", c.path(p))
	a, err := c.fs.Mknod(c.ctx, fsapi.Root, p.dir.ino, p.name, vfs.NewNode{Type: fsapi.TypeSymlink, Target: target})
	if err != nil {
		return c.fail(o, err)
	}
	c.made(p, &node{ino: a.Ino, typ: fsapi.TypeSymlink, mode: a.Mode & 0o7777, target: target})
	c.end(o, true)
	return nil
}

func (c *Client) link() error {
	from, p := pick(c.rng, c.places(notDir)), c.free()
	if from.n == nil {
		return nil
	}
	o := c.begin("link %s to %s", c.path(from), c.path(p))
	if _, err := c.fs.Link(c.ctx, fsapi.Root, from.n.ino, p.dir.ino, p.name); err != nil {
		return c.fail(o, err)
	}
	from.n.nlink++
	c.put(p, from.n)
	c.end(o, true)
	return nil
}

func (c *Client) unlink() error {
	p := pick(c.rng, c.places(notDir))
	if p.n == nil {
		return nil
	}
	o := c.begin("unlink %s ino %d", c.path(p), p.n.ino)
	if err := c.fs.Unlink(c.ctx, fsapi.Root, p.dir.ino, p.name); err != nil {
		return c.fail(o, err)
	}
	delete(p.dir.entries, p.name)
	c.dropped(p.n)
	c.end(o, true)
	return nil
}

func (c *Client) rmdir() error {
	p := pick(c.rng, c.places(func(n *node) bool { return isDir(n) && len(n.entries) == 0 }))
	if p.n == nil {
		return nil
	}
	o := c.begin("rmdir %s ino %d", c.path(p), p.n.ino)
	if err := c.fs.Rmdir(c.ctx, fsapi.Root, p.dir.ino, p.name); err != nil {
		return c.fail(o, err)
	}
	delete(p.dir.entries, p.name)
	c.dropped(p.n)
	c.end(o, true)
	return nil
}

// below reports whether n is d or lies below it.
func below(n, d *node) bool {
	for ; n != nil; n = n.parent {
		if n == d {
			return true
		}
	}
	return false
}

// target chooses where something can be renamed to.
func (c *Client) target(from place) (to place, ok bool) {
	to = c.somewhere()
	switch {
	case to.n == from.n, isDir(from.n) && (below(to.dir, from.n) || to.dir == c.shared):
		return to, false
	case to.n == nil:
		return to, true
	case isDir(from.n):
		return to, isDir(to.n) && len(to.n.entries) == 0
	}
	return to, notDir(to.n)
}

func (c *Client) rename() error {
	from := pick(c.rng, c.places(anything))
	if from.n == nil {
		return nil
	}
	to, ok := c.target(from)
	if !ok {
		return nil
	}
	o := c.begin("rename %s to %s", c.path(from), c.path(to))
	if err := c.fs.Rename(c.ctx, fsapi.Root, from.dir.ino, from.name, to.dir.ino, to.name, 0); err != nil {
		return c.fail(o, err)
	}
	c.renamed(o, from, to)
	c.end(o, true)
	return nil
}

// renamed is a rename in the model. What replaced another file was stored
// before (D2).
func (c *Client) renamed(o *operation, from, to place) {
	if to.n != nil {
		c.dropped(to.n)
		if isFile(from.n) {
			o.commit(from.n)
		}
	}
	delete(from.dir.entries, from.name)
	c.put(to, from.n)
}

func (c *Client) exchange() error {
	list := c.places(anything)
	a, b := pick(c.rng, list), pick(c.rng, list)
	if a.n == nil || a.n == b.n || isDir(a.n) && (below(b.dir, a.n) || b.dir == c.shared) || isDir(b.n) && (below(a.dir, b.n) || a.dir == c.shared) {
		return nil
	}
	o := c.begin("exchange %s and %s", c.path(a), c.path(b))
	if err := c.fs.Rename(c.ctx, fsapi.Root, a.dir.ino, a.name, b.dir.ino, b.name, vfs.RenameExchange); err != nil {
		return c.fail(o, err)
	}
	c.put(a, b.n)
	c.put(b, a.n)
	c.end(o, true)
	return nil
}

func (c *Client) xattr() error {
	p := pick(c.rng, c.places(func(n *node) bool { return n.typ != fsapi.TypeSymlink }))
	if p.n == nil {
		return nil
	}
	name := fmt.Sprint("user.", c.rng.IntN(3))
	next := maps.Clone(p.n.xattrs)
	if next == nil {
		next = map[string]string{}
	}
	if _, ok := next[name]; ok && c.chance(2) {
		o := c.begin("removexattr ino %d %s", p.n.ino, name)
		if err := c.fs.Removexattr(c.ctx, fsapi.Root, p.n.ino, name); err != nil {
			return c.fail(o, err)
		}
		delete(next, name)
		p.n.xattrs = next
		c.end(o, true)
		return nil
	}
	value := c.data(1 + c.rng.IntN(3000))
	o := c.begin("setxattr ino %d %s", p.n.ino, name)
	if err := c.fs.Setxattr(c.ctx, fsapi.Root, p.n.ino, name, value, 0); err != nil {
		return c.fail(o, err)
	}
	next[name] = string(value)
	p.n.xattrs = next
	c.end(o, true)
	return nil
}

func (c *Client) chmod() error {
	p := pick(c.rng, c.places(func(n *node) bool { return n.typ != fsapi.TypeSymlink }))
	if p.n == nil {
		return nil
	}
	mode := uint32(0o700 + c.rng.IntN(64))
	o := c.begin("chmod ino %d %#o", p.n.ino, mode)
	if _, err := c.fs.Setattr(c.ctx, fsapi.Root, p.n.ino, vfs.SetAttr{Mode: &mode}); err != nil {
		return c.fail(o, err)
	}
	p.n.mode = mode
	c.end(o, true)
	return nil
}

func (c *Client) restore() error {
	var list []*node
	for _, n := range c.nodes {
		if n.trashed {
			list = append(list, n)
		}
	}
	n, p := pick(c.rng, list), c.free()
	if n == nil || isDir(n) && p.dir == c.shared {
		return nil
	}
	o := c.begin("restore ino %d to %s", n.ino, c.path(p))
	if _, err := c.fs.RestoreTrash(c.ctx, fsapi.Root, n.ino, c.path(p)); err != nil {
		return c.fail(o, err)
	}
	n.trashed, n.nlink = false, 1
	c.put(p, n)
	c.end(o, true)
	return nil
}

// emptyTrash drops one entry.
func (c *Client) emptyTrash() error {
	for _, n := range c.nodes {
		if !n.trashed || n.opens > 0 {
			continue
		}
		o := c.begin("drop ino %d from the trash", n.ino)
		k, err := c.fs.EmptyTrash(c.ctx, n.ino, timeZero)
		if err == nil && k == 1 {
			n.trashed = false
		}
		c.end(o, true)
		return c.fail(o, err)
	}
	return nil
}

// check reads a file and compares it with what was written.
func (c *Client) check() error {
	return c.on(func(h *handle) error {
		want := h.n.now()
		o := c.begin("read ino %d", h.n.ino)
		got := make([]byte, want.size+1)
		k, err := h.f.ReadAt(c.ctx, got, 0)
		if err == nil && int64(k) != want.size {
			err = fmt.Errorf("%d bytes read of %d", k, want.size)
		}
		if err == nil {
			if at := mixed(got[:k], []*content{want}); at >= 0 {
				err = fmt.Errorf("byte %d is %#x, was written as %#x", at, got[at], want.at(at))
			}
		}
		c.end(o, false)
		if err != nil && c.MustRead {
			return fmt.Errorf("client %d: %s: %w", c.id, o.text, err)
		}
		return c.fail(o, err)
	})
}
