package workload

import (
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

var timeZero time.Time

// batch does up to four changes in one step. Each is of names that no other of
// them concerns.
func (c *Client) batch() error {
	o := c.begin("batch")
	var ops []vfs.Op
	var after []func(a fsapi.Attr)
	used := map[*node]bool{}
	taken := map[string]bool{}
	for range 1 + c.rng.IntN(4) {
		op, done := c.batchOp(o, used, taken)
		if done == nil {
			continue
		}
		ops, after = append(ops, op), append(after, done)
	}
	if len(ops) == 0 {
		c.end(o, false)
		return nil
	}
	attrs, err := c.fs.Batch(c.ctx, fsapi.Root, ops)
	if err != nil {
		for n := range used {
			if k := len(n.versions); k > 0 && n.versions[k-1].tied && n.versions[k-1].op == len(c.ops)-1 {
				c.unwrite(n)
			}
		}
		return c.fail(o, err)
	}
	for i, done := range after {
		done(attrs[i])
	}
	c.end(o, true)
	return nil
}

// batchOp chooses one change, and how the model takes it over. Operations are
// chosen by the names of before the batch, so none may touch what another does.
func (c *Client) batchOp(o *operation, used map[*node]bool, taken map[string]bool) (vfs.Op, func(fsapi.Attr)) {
	free := c.free()
	freePath := c.path(free)
	if taken[freePath] || used[free.dir] {
		return vfs.Op{}, nil
	}
	old := pick(c.rng, c.places(isFile))
	if old.n != nil && used[old.n] {
		return vfs.Op{}, nil
	}
	mark := func(what string) {
		o.text += " " + what
		taken[freePath] = true
		used[free.dir] = false
		if old.n != nil {
			used[old.n] = true
		}
	}
	switch r := c.rng.IntN(6); {
	case r == 0 || old.n == nil:
		data := c.data(c.length())
		mark("put " + freePath)
		return vfs.Op{Kind: vfs.OpPut, Path: freePath, Data: data, Mode: 0o644}, func(a fsapi.Attr) {
			n := &node{ino: a.Ino, typ: fsapi.TypeRegular, mode: 0o644}
			c.made(free, n)
			n.versions = append(n.versions, version{op: len(c.ops) - 1, tied: true, c: (&content{}).write(0, data)})
			o.commit(n)
		}
	case r == 1:
		data := c.data(c.length())
		mark("replace " + c.path(old))
		// It may be seen before the call returns.
		old.n.versions = append(old.n.versions, version{op: len(c.ops) - 1, tied: true, c: (&content{}).write(0, data)})
		o.commit(old.n)
		return vfs.Op{Kind: vfs.OpPut, Path: c.path(old), Data: data}, func(fsapi.Attr) {}
	case r == 2:
		mark("remove " + c.path(old))
		return vfs.Op{Kind: vfs.OpRemove, Path: c.path(old)}, func(fsapi.Attr) {
			delete(old.dir.entries, old.name)
			c.dropped(old.n)
		}
	case r == 3:
		mark("rename " + c.path(old) + " to " + freePath)
		return vfs.Op{Kind: vfs.OpRename, Path: c.path(old), To: freePath}, func(fsapi.Attr) { c.renamed(o, old, free) }
	case r == 4:
		mark("link " + c.path(old) + " to " + freePath)
		return vfs.Op{Kind: vfs.OpLink, Path: c.path(old), To: freePath}, func(fsapi.Attr) {
			old.n.nlink++
			c.put(free, old.n)
		}
	}
	if free.dir == c.shared || len(c.dirs()) > 9 {
		return vfs.Op{}, nil
	}
	mark("mkdir " + freePath)
	return vfs.Op{Kind: vfs.OpMkdir, Path: freePath}, func(a fsapi.Attr) {
		c.made(free, &node{ino: a.Ino, typ: fsapi.TypeDirectory, mode: 0o755})
	}
}
