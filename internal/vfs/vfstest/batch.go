package vfstest

import (
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func batchTests() []test {
	return []test{
		{"batch/every operation", batchAll},
		{"batch/all or nothing", batchAtomic},
		{"batch/sees its own operations", batchSees},
		{"batch/parents", batchParents},
		{"batch/conditions", batchConditions},
		{"batch/put replaces", batchPut},
		{"batch/bounds", batchBounds},
		{"batch/permissions", batchPermissions},
		{"batch/the root", batchRoot},
		{"batch/nothing", func(e *env) { e.batch() }},
	}
}

// batch runs operations as root.
func (e *env) batch(ops ...vfs.Op) []fsapi.Attr {
	e.Helper()
	attrs, err := e.fs.Batch(e.ctx, fsapi.Root, ops)
	e.ok(err)
	e.equal("results", len(attrs), len(ops))
	return attrs
}

// batchFails wants the operations to fail.
func (e *env) batchFails(want fsapi.Kind, ops ...vfs.Op) {
	e.Helper()
	_, err := e.fs.Batch(e.ctx, fsapi.Root, ops)
	e.fails(want, err)
}

func put(path, data string) vfs.Op { return vfs.Op{Kind: vfs.OpPut, Path: path, Data: []byte(data)} }

func batchAll(e *env) {
	attrs := e.batch(
		vfs.Op{Kind: vfs.OpMkdir, Path: "d", Mode: 0o711},
		put("/d/f", "content"),
		vfs.Op{Kind: vfs.OpSymlink, Path: "d/l", Target: "f"},
		vfs.Op{Kind: vfs.OpMknod, Path: "d/p", Type: fsapi.TypeFIFO, Mode: 0o620},
		vfs.Op{Kind: vfs.OpMknod, Path: "d/z", Type: fsapi.TypeCharDev, Rdev: 0x105},
		vfs.Op{Kind: vfs.OpLink, Path: "d/f", To: "g"},
		vfs.Op{Kind: vfs.OpRename, Path: "g", To: "d/h"},
		vfs.Op{Kind: vfs.OpSetattr, Path: "d/h", Set: vfs.SetAttr{Mode: at[uint32](0o600)}},
		put("gone", "x"),
		vfs.Op{Kind: vfs.OpRemove, Path: "gone"},
	)
	d := e.lookup(root, "d")
	e.equal("names", e.names(d), []string{"f", "h", "l", "p", "z"})
	p, z := e.attr(e.lookup(d, "p")), e.attr(e.lookup(d, "z"))
	e.equal("special files", []any{p.Type, p.Mode, z.Type, z.Mode, z.Rdev}, []any{fsapi.TypeFIFO, uint32(0o620), fsapi.TypeCharDev, uint32(0o644), uint32(0x105)})
	e.batchFails(fsapi.Invalid, vfs.Op{Kind: vfs.OpMknod, Path: "r", Type: fsapi.TypeRegular})
	e.batchFails(fsapi.Exist, vfs.Op{Kind: vfs.OpMknod, Path: "d/p", Type: fsapi.TypeFIFO})
	e.equal("names of the root", e.names(root), []string{"d"})
	f := e.lookup(d, "f")
	e.holds(f, []byte("content"))
	a := e.attr(f)
	e.equal("file", []any{a.Ino, a.Mode, a.Nlink, a.Size}, []any{attrs[1].Ino, uint32(0o600), uint32(2), int64(7)})
	e.equal("directory", []any{e.attr(d).Mode, attrs[0].Ino}, []any{uint32(0o711), d})
	target, err := e.fs.Readlink(e.ctx, e.lookup(d, "l"))
	e.ok(err)
	e.equal("target", target, "f")
}

func batchAtomic(e *env) {
	f := e.file(root, "f", 0o644)
	e.put(f, []byte("old"))
	d := e.dir(root, "d", 0o755)
	before, rootBefore := e.attr(f), still(e.attr(root))
	e.batchFails(fsapi.NotExist,
		put("f", "new"),
		put("d/made", "x"),
		vfs.Op{Kind: vfs.OpRename, Path: "f", To: "d/moved"},
		vfs.Op{Kind: vfs.OpMkdir, Path: "e"},
		vfs.Op{Kind: vfs.OpRemove, Path: "nothing"},
	)
	e.equal("names", e.names(root), []string{"d", "f"})
	e.equal("names in d", e.names(d), []string{})
	e.equal("attributes", e.attr(f), before)
	e.equal("attributes of the root", still(e.attr(root)), rootBefore)
	e.holds(f, []byte("old"))
	e.batchFails(fsapi.NotEmpty, put("d/x", ""), vfs.Op{Kind: vfs.OpRemove, Path: "d"})
	e.equal("names in d", e.names(d), []string{})
}

func batchSees(e *env) {
	e.batch(
		put("a", "1"),
		vfs.Op{Kind: vfs.OpRename, Path: "a", To: "b"},
		put("a", "2"),
		vfs.Op{Kind: vfs.OpMkdir, Path: "d"},
		vfs.Op{Kind: vfs.OpRename, Path: "b", To: "d/b"},
		vfs.Op{Kind: vfs.OpRename, Path: "d", To: "e"},
		put("e/b", "3"),
	)
	e.equal("names", e.names(root), []string{"a", "e"})
	e.holds(e.lookup(root, "a"), []byte("2"))
	e.holds(e.lookup(e.lookup(root, "e"), "b"), []byte("3"))
}

func batchParents(e *env) {
	e.batchFails(fsapi.NotExist, put("a/b/f", "x"))
	e.batch(vfs.Op{Kind: vfs.OpPut, Path: "a/b/f", Data: []byte("x"), Parents: true})
	b := e.lookup(e.lookup(root, "a"), "b")
	e.equal("mode", e.attr(b).Mode, uint32(0o755))
	e.holds(e.lookup(b, "f"), []byte("x"))
	e.batch(vfs.Op{Kind: vfs.OpMkdir, Path: "a/b", Parents: true})
	e.batchFails(fsapi.Exist, vfs.Op{Kind: vfs.OpMkdir, Path: "a/b"})
	e.batchFails(fsapi.NotDir, vfs.Op{Kind: vfs.OpPut, Path: "a/b/f/g", Parents: true})
}

func batchConditions(e *env) {
	f := e.file(root, "f", 0o644)
	a := e.attr(f)
	check := func(op vfs.Op) vfs.Op { op.Kind, op.Path = vfs.OpSetattr, "f"; return op }
	e.batch(check(vfs.Op{IfChange: a.Change}), check(vfs.Op{IfIno: f}), check(vfs.Op{IfChange: a.Change, IfIno: f}))
	e.equal("attributes", e.attr(f), a)
	e.batchFails(fsapi.Precondition, put("x", ""), check(vfs.Op{IfChange: a.Change + 1}))
	e.batchFails(fsapi.Precondition, put("x", ""), check(vfs.Op{IfIno: f + 1}))
	e.batchFails(fsapi.Precondition, put("x", ""), check(vfs.Op{IfAbsent: true}))
	e.absent(root, "x")
	ifAbsent := vfs.Op{Kind: vfs.OpPut, Path: "x", Data: []byte("1"), IfAbsent: true}
	e.batch(ifAbsent)
	e.batchFails(fsapi.Precondition, ifAbsent)
	e.batchFails(fsapi.Precondition, vfs.Op{Kind: vfs.OpPut, Path: "f", IfIno: f, IfAbsent: true})
	e.batchFails(fsapi.Precondition, vfs.Op{Kind: vfs.OpRemove, Path: "nothing", IfChange: 5})
	e.put(f, []byte("changed"))
	e.batchFails(fsapi.Precondition, vfs.Op{Kind: vfs.OpRemove, Path: "f", IfChange: a.Change})
	e.batch(vfs.Op{Kind: vfs.OpRemove, Path: "f", IfChange: e.attr(f).Change})
	e.absent(root, "f")
}

func batchPut(e *env) {
	f := e.file(root, "f", 0o600)
	e.put(f, pattern(100_000, 1))
	h := e.open(f, vfs.OpenRead)
	e.tick()
	before := e.attr(f)
	e.batch(vfs.Op{Kind: vfs.OpPut, Path: "f", Data: []byte("new"), Mode: 0o777})
	e.holds(e.lookup(root, "f"), []byte("new"))
	after := e.attr(f)
	e.equal("attributes", []any{after.Mode, after.Size, after.Mtime.After(before.Mtime)}, []any{uint32(0o600), int64(3), true})
	e.equal("bytes by an open handle", string(e.read(h, 10, 0)), "new")
	big := string(pattern(1<<20, 3))
	e.batch(put("big", big))
	e.holds(e.lookup(root, "big"), []byte(big))
	e.batchFails(fsapi.IsDir, vfs.Op{Kind: vfs.OpMkdir, Path: "d"}, put("d", "x"))
}

func batchBounds(e *env) {
	e.batchFails(fsapi.TooBig, vfs.Op{Kind: vfs.OpPut, Path: "f", Data: make([]byte, 1<<20+1)})
	var ops []vfs.Op
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} {
		ops = append(ops, vfs.Op{Kind: vfs.OpPut, Path: name, Data: make([]byte, 1<<20)})
	}
	e.batchFails(fsapi.TooBig, ops...)
	e.equal("names", e.names(root), []string{})
	e.batch(ops[:8]...)
	e.batchFails(fsapi.Invalid, vfs.Op{Kind: 99, Path: "a"})
	e.batchFails(fsapi.Invalid, put("../y", ""))
	e.batchFails(fsapi.NotExist, put("x/y", ""))
}

func batchPermissions(e *env) {
	open := e.dir(root, "open", 0o777)
	e.file(open, "f", 0o644)
	for _, op := range []vfs.Op{put("new", "x"), put("open/f", "x"), {Kind: vfs.OpMkdir, Path: "d"}, {Kind: vfs.OpRemove, Path: "open"}} {
		_, err := e.fs.Batch(e.ctx, alice(), []vfs.Op{put("open/mine", "x"), op})
		e.fails(fsapi.Access, err)
	}
	_, err := e.fs.Batch(e.ctx, alice(), []vfs.Op{{Kind: vfs.OpSetattr, Path: "open/f", Set: vfs.SetAttr{Mode: at[uint32](0)}}})
	e.fails(fsapi.NotPermitted, err)
	e.equal("names", e.names(open), []string{"f"})
	_, err = e.fs.Batch(e.ctx, alice(), []vfs.Op{put("open/mine", "x")})
	e.ok(err)
	e.equal("owner", e.attr(e.lookup(open, "mine")).Uid, uint32(1000))
}

func batchRoot(e *env) {
	for _, op := range []vfs.Op{{Kind: vfs.OpRemove}, {Kind: vfs.OpRemove, Path: "/"}, put("/", "x"), {Kind: vfs.OpRename, Path: "/", To: "a"}} {
		e.batchFails(fsapi.Invalid, op)
	}
	e.batch(vfs.Op{Kind: vfs.OpSetattr, Path: "/", Set: vfs.SetAttr{Mode: at[uint32](0o700)}})
	e.equal("mode", e.attr(root).Mode, uint32(0o700))
}
