package history

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// readdir lists a directory by pages, whose size differs by side.
func (w *world) readdir(r [8]uint32) error {
	d, c := w.dir(r[0]), cred(r[3])
	_, err := w.both(fmt.Sprintf("readdir(#%d) by %d", d.id, c.Uid), func(s int) result { return w.list(s, c, d, int(r[1]%9)+1) })
	return err
}

// list is the sorted entries of a directory, with numbers of nodes.
func (w *world) list(s int, c *fsapi.Cred, d *node, page int) result {
	h, err := w.fs[s].OpenDir(w.ctx, c, d.ino[s])
	if err != nil {
		return result{err: err}
	}
	defer h.Close()
	var lines []string
	cookie, n := uint64(0), -1
	for err == nil && n != 0 {
		n = 0
		err = h.Read(w.ctx, cookie, false, func(e fsapi.Dirent) bool {
			n++
			cookie = e.Cookie
			if e.Name != "." && e.Name != ".." {
				lines = append(lines, w.line(s, e))
			}
			return n < page
		})
	}
	slices.Sort(lines)
	return result{err: err, text: strings.Join(lines, "\n")}
}

func (w *world) line(s int, e fsapi.Dirent) string {
	id := -1
	if known := w.byIno[s][e.Ino]; known != nil {
		id = known.id
	}
	return fmt.Sprintf("%q %d #%d", e.Name, e.Type, id)
}

// batch puts a few operations together, some of which fail.
func (w *world) batch(r [8]uint32) error {
	c := cred(r[3])
	var ops [2][]vfs.Op
	for i := range r[0]%4 + 1 {
		x := r[1+i%4] + i*977
		one := w.batchOp(x, r[(5+i)%8])
		for s := range ops {
			o := one
			o.Path = w.under[s] + o.Path
			if o.To != "" {
				o.To = w.under[s] + o.To
			}
			ops[s] = append(ops[s], o)
		}
	}
	text := fmt.Sprintf("batch by %d:", c.Uid)
	for _, o := range ops[oracle] {
		text += fmt.Sprintf(" [%d %.40q %.40q %d bytes parents %v absent %v]", o.Kind, o.Path, o.To, len(o.Data), o.Parents, o.IfAbsent)
	}
	_, err := w.both(text, func(s int) result {
		attrs, err := w.fs[s].Batch(w.ctx, c, ops[s])
		var made []fsapi.Attr
		for _, a := range attrs {
			// What one operation made another may have removed.
			if a.Ino != 0 {
				made = append(made, a)
			}
		}
		return result{err: err, attrs: made}
	})
	return err
}

func (w *world) batchOp(x, y uint32) vfs.Op {
	path := func(x uint32) string {
		p := w.pathOf(pick(w.alive(fsapi.TypeDirectory), x/7))
		return p + "/" + pick([]string{"a", "b", "c", "d", "new"}, x)
	}
	o := vfs.Op{Path: path(x), Parents: y%5 == 0, IfAbsent: y%11 == 0}
	mode := y & 0o777
	switch x / 100 % 7 {
	case 0:
		o.Kind = vfs.OpMkdir
	case 1, 2:
		o.Kind, o.Data = vfs.OpPut, bytesOf(size(y), y)
	case 3:
		o.Kind = vfs.OpRemove
	case 4:
		o.Kind, o.To = vfs.OpRename, path(y)
	case 5:
		o.Kind, o.To = vfs.OpLink, path(y)
	case 6:
		o.Kind, o.Set = vfs.OpSetattr, vfs.SetAttr{Mode: &mode}
	}
	return o
}

// pathOf is a directory's path in the model, without a slash at the end.
func (w *world) pathOf(d *node) string {
	if d == nil {
		return ""
	}
	p, err := vfs.PathOf(w.ctx, w.fs[oracle], d.ino[oracle])
	if err != nil || p == "/" {
		return ""
	}
	return p
}

func (w *world) syncfs([8]uint32) error {
	_, err := w.both("syncfs", func(s int) result { return result{err: w.fs[s].Syncfs(w.ctx)} })
	return err
}

func (w *world) dropCaches([8]uint32) error {
	if w.drop == nil {
		return nil
	}
	w.trace = append(w.trace, "drop caches")
	return w.drop()
}

func (w *world) upkeepStep(r [8]uint32) error {
	if w.upkeep == nil {
		return nil
	}
	w.trace = append(w.trace, "upkeep")
	return w.upkeep(r[0])
}

// restartReal ends the real side cleanly and starts it again. Handles and locks
// do not outlive that.
func (w *world) restartReal(r [8]uint32) error {
	if w.restart == nil {
		return nil
	}
	if err := w.closeAll(); err != nil {
		return err
	}
	w.unlockModel()
	w.trace = append(w.trace, "restart")
	fs, err := w.restart()
	if err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	w.fs[subject] = fs
	return w.compareTree(r)
}

// unlockModel ends every POSIX lock in the model.
func (w *world) unlockModel() {
	for _, n := range w.alive(fsapi.TypeRegular) {
		h, err := w.fs[oracle].Open(w.ctx, fsapi.Root, n.ino[oracle], vfs.OpenRead)
		if err != nil {
			continue
		}
		for o := range uint32(owners) {
			_ = h.Flush(w.ctx, owner(o))
		}
		_ = h.Close()
	}
}

// compareTree stores everything, then compares all that can be reached.
func (w *world) compareTree(r [8]uint32) error {
	if err := w.syncfs(r); err != nil {
		return err
	}
	if w.check != nil && r[0]%4 == 0 {
		if err := w.check(); err != nil {
			return err
		}
	}
	seen := map[*node]bool{}
	return w.compareDir(w.nodes[0], "", seen)
}

func (w *world) compareDir(d *node, path string, seen map[*node]bool) error {
	var lists [2]result
	for s := range lists {
		lists[s] = w.list(s, fsapi.Root, d, 1000)
	}
	if err := w.compare("list of "+path+"/", &lists); err != nil {
		return err
	}
	if err := w.compareNode(d, path+"/", seen); err != nil {
		return err
	}
	for _, name := range w.names(d) {
		a, err := w.fs[oracle].Lookup(w.ctx, fsapi.Root, d.ino[oracle], name)
		if err != nil {
			return err
		}
		n := w.byIno[oracle][a.Ino]
		if n == nil {
			if n, err = w.discover(d, name, a); err != nil {
				return err
			}
		}
		if a.Type == fsapi.TypeDirectory {
			err = w.compareDir(n, path+"/"+name, seen)
		} else if !seen[n] {
			err = w.compareNode(n, path+"/"+name, seen)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// discover learns what a batch made on the way to something.
func (w *world) discover(d *node, name string, m fsapi.Attr) (*node, error) {
	f, err := w.fs[subject].Lookup(w.ctx, fsapi.Root, d.ino[subject], name)
	if err != nil {
		return nil, differ("lookup of %q in #%d: %v", name, d.id, err)
	}
	if err := w.compareAttr("attributes of "+name, m, f, false); err != nil {
		return nil, err
	}
	return w.byIno[oracle][m.Ino], nil
}

func (w *world) compareNode(n *node, path string, seen map[*node]bool) error {
	seen[n] = true
	var attrs [2]fsapi.Attr
	var rest [2]result
	for s := range attrs {
		a, err := w.fs[s].Getattr(w.ctx, n.ino[s])
		if err != nil {
			return differ("getattr of %q: %v", path, err)
		}
		attrs[s], rest[s] = a, w.xattrNames(s, fsapi.Root, n)
		if a.Type == fsapi.TypeSymlink {
			t, err := w.fs[s].Readlink(w.ctx, n.ino[s])
			rest[s].text += fmt.Sprint(" → ", t, err)
		}
	}
	if err := w.compareAttr("attributes of "+path, attrs[oracle], attrs[subject], true); err != nil {
		return err
	}
	if err := w.compare("extended attributes of "+path, &rest); err != nil {
		return err
	}
	for _, name := range strings.Fields(rest[oracle].text) {
		var values [2]result
		for s := range values {
			v, err := w.fs[s].Getxattr(w.ctx, fsapi.Root, n.ino[s], name)
			values[s] = result{err: err, text: string(v)}
		}
		if err := w.compare("attribute "+name+" of "+path, &values); err != nil {
			return err
		}
	}
	if attrs[oracle].Type == fsapi.TypeRegular {
		return w.compareContent(n, path, attrs[oracle].Size)
	}
	return nil
}

// compareContent compares a file's bytes: all of its data, and of long holes
// both ends.
func (w *world) compareContent(n *node, path string, size int64) error {
	var f [2]vfs.File
	for s := range f {
		h, err := w.fs[s].Open(w.ctx, fsapi.Root, n.ino[s], vfs.OpenRead|vfs.OpenNoTime)
		if err != nil {
			return differ("open of %q: %v", path, err)
		}
		defer func() { _ = h.Close() }() // it was read
		f[s] = h
	}
	const step = 1 << 20
	for off := int64(0); off < size; {
		end := min(off+step, size)
		data, err := f[oracle].Seek(w.ctx, off, false)
		if err != nil {
			data = size
		}
		if data-off > step { // a long hole
			if err := w.compareRange(f, path, data-4096, data); err != nil {
				return err
			}
			end = off + 4096
			if err := w.compareRange(f, path, off, end); err != nil {
				return err
			}
			off = data
			continue
		}
		if err := w.compareRange(f, path, off, end); err != nil {
			return err
		}
		off = end
	}
	return nil
}

func (w *world) compareRange(f [2]vfs.File, path string, from, to int64) error {
	var data [2][]byte
	for s := range f {
		p := make([]byte, to-from)
		n, err := f[s].ReadAt(w.ctx, p, from)
		if err != nil {
			return differ("read of %q at %d: %v", path, from, err)
		}
		data[s] = p[:n]
	}
	if !bytes.Equal(data[oracle], data[subject]) {
		return differ("bytes of %q from %d on: the model has %s, the file system %s", path, from,
			short(string(data[oracle]), string(data[subject])), short(string(data[subject]), string(data[oracle])))
	}
	return nil
}
