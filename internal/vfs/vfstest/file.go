package vfstest

import (
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func fileTests() []test {
	return []test{
		{"read/at and past the end", readEnd},
		{"read/needs a handle for reading", readHandle},
		{"write/extends and overwrites", writeExtends},
		{"write/needs a handle for writing", writeHandle},
		{"write/past the end leaves zeros", writeHole},
		{"write/sizes around block and chunk bounds", writeBounds},
		{"write/offsets up to 2^60", writeFar},
		{"write/over the largest size", writeTooFar},
		{"write/append", writeAppend},
		{"write/seen through every handle", writeSeen},
		{"write/caller may reuse its buffer", writeBuffer},
		{"truncate/shrinks and zeros what comes back", truncateZeros},
		{"truncate/by handle", truncateHandle},
		{"open/what is no regular file", openOther},
		{"open/truncates", openTruncates},
		{"sync/keeps everything", syncKeeps},
		{"close/twice", closeTwice},
		{"close/what is closed does nothing", closeUse},
	}
}

func readEnd(e *env) {
	f := e.file(root, "f", 0o644)
	e.put(f, []byte("0123456789"))
	h := e.open(f, vfs.OpenRead)
	e.equal("across the end", string(e.read(h, 10, 6)), "6789")
	e.equal("at the end", len(e.read(h, 10, 10)), 0)
	e.equal("past the end", len(e.read(h, 10, 1<<40)), 0)
	e.equal("nothing", len(e.read(h, 0, 3)), 0)
	_, err := h.ReadAt(e.ctx, make([]byte, 1), -1)
	e.fails(fsapi.Invalid, err)
}

func readHandle(e *env) {
	f := e.file(root, "f", 0o755)
	e.put(f, []byte("x"))
	_, err := e.open(f, vfs.OpenWrite).ReadAt(e.ctx, make([]byte, 1), 0)
	e.fails(fsapi.BadHandle, err)
	e.equal("by execve", string(e.read(e.open(f, vfs.OpenExec), 1, 0)), "x")
}

func writeExtends(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	e.write(h, []byte("01234567"), 0)
	e.write(h, []byte("ab"), 2)
	e.write(h, []byte("89"), 8)
	e.write(h, nil, 100)
	e.equal("bytes", string(e.read(h, 100, 0)), "01ab456789")
	e.equal("size", e.attr(f).Size, int64(10))
	_, err := h.WriteAt(e.ctx, []byte("x"), -1)
	e.fails(fsapi.Invalid, err)
}

func writeHandle(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, vfs.OpenRead)
	_, err := h.WriteAt(e.ctx, []byte("x"), 0)
	e.fails(fsapi.BadHandle, err)
	e.fails(fsapi.BadHandle, h.Truncate(e.ctx, 0))
	e.fails(fsapi.BadHandle, h.Allocate(e.ctx, 0, 0, 1))
}

func writeHole(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	e.write(h, []byte("x"), 0)
	e.write(h, []byte("y"), 300_000)
	want := make([]byte, 300_001)
	want[0], want[300_000] = 'x', 'y'
	e.same(e.read(h, len(want)+5, 0), want)
	e.ok(h.Sync(e.ctx, false))
	e.same(e.read(h, len(want)+5, 0), want)
}

func writeBounds(e *env) {
	for _, block := range []int{4096, 65536, 262144, 1 << 20} {
		for _, size := range []int{block - 1, block, block + 1} {
			f := e.file(root, "f", 0o644)
			data := pattern(size, byte(size))
			e.put(f, data)
			e.holds(f, data)
			h := e.open(f, rw)
			e.ok(h.Sync(e.ctx, false))
			e.write(h, pattern(3, 1), int64(size-2))
			data = append(data[:size-2], pattern(3, 1)...)
			e.holds(f, data)
			e.ok(h.Sync(e.ctx, false))
			e.holds(f, data)
			e.ok(h.Close())
			e.unlink(root, "f")
		}
	}
}

func writeFar(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	for i, off := range []int64{1<<31 - 2, 1<<32 - 2, 1 << 40, 1 << 60} {
		data := pattern(5, byte(i))
		e.write(h, data, off)
		e.same(e.read(h, 10, off), data)
		e.equal("size", e.attr(f).Size, off+5)
		e.ok(h.Sync(e.ctx, true))
		e.same(e.read(h, 10, off), data)
		e.same(e.read(h, 4, off-4), make([]byte, 4))
	}
	e.ok(h.Truncate(e.ctx, 1))
	e.same(e.read(h, 10, 0), []byte{0})
}

func writeTooFar(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	_, err := h.WriteAt(e.ctx, []byte("xy"), fsapi.MaxFileSize-1)
	e.fails(fsapi.FileTooBig, err)
	e.fails(fsapi.FileTooBig, h.Truncate(e.ctx, fsapi.MaxFileSize+1))
	e.ok(h.Truncate(e.ctx, fsapi.MaxFileSize))
	e.equal("size", e.attr(f).Size, int64(fsapi.MaxFileSize))
}

func writeAppend(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.open(f, rw|vfs.OpenAppend), e.open(f, rw)
	e.write(a, []byte("one"), 77)
	e.write(b, []byte("two"), 3)
	e.write(a, []byte("three"), 0)
	e.equal("bytes", string(e.read(a, 100, 0)), "onetwothree")
	e.ok(b.Truncate(e.ctx, 1))
	e.write(a, []byte("x"), 0)
	e.equal("bytes", string(e.read(a, 100, 0)), "ox")
}

func writeSeen(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.open(f, rw), e.open(f, vfs.OpenRead)
	e.link(f, root, "g")
	c := e.open(e.lookup(root, "g"), vfs.OpenRead)
	e.write(a, []byte("x"), 5)
	for _, h := range []vfs.File{a, b, c} {
		attr, err := h.Attr(e.ctx)
		e.ok(err)
		e.equal("size", attr.Size, int64(6))
		e.same(e.read(h, 10, 0), []byte("\x00\x00\x00\x00\x00x"))
	}
	list := e.entries(root, true)
	for _, en := range list {
		if en.Name == "f" || en.Name == "g" {
			e.equal("size in the listing", en.Attr.Size, int64(6))
		}
	}
}

func writeBuffer(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	buf, want := pattern(100_000, 1), pattern(100_000, 1)
	e.write(h, buf, 0)
	clear(buf)
	e.ok(h.Sync(e.ctx, false))
	e.holds(f, want)
}

func truncateZeros(e *env) {
	for _, sync := range []bool{false, true} {
		f := e.file(root, "f", 0o644)
		h := e.open(f, rw)
		data := pattern(200_000, 3)
		e.write(h, data, 0)
		if sync {
			e.ok(h.Sync(e.ctx, false))
		}
		e.ok(h.Truncate(e.ctx, 70_001))
		e.ok(h.Truncate(e.ctx, 200_000))
		clear(data[70_001:])
		e.holds(f, data)
		e.ok(h.Sync(e.ctx, false))
		e.holds(f, data)
		e.ok(h.Truncate(e.ctx, 0))
		e.write(h, []byte("z"), 10)
		e.holds(f, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00z"))
		e.ok(h.Close())
		e.unlink(root, "f")
	}
}

func truncateHandle(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	e.ok(h.Truncate(e.ctx, 1<<40))
	e.equal("size", e.attr(f).Size, int64(1<<40))
	e.equal("used", e.attr(f).Used, int64(0))
	e.fails(fsapi.Invalid, h.Truncate(e.ctx, -1))
}

func openOther(e *env) {
	for typ, want := range map[fsapi.FileType]fsapi.Kind{
		fsapi.TypeDirectory: fsapi.IsDir, fsapi.TypeSymlink: fsapi.Loop,
		fsapi.TypeFIFO: fsapi.NoDevice, fsapi.TypeSocket: fsapi.NoDevice, fsapi.TypeCharDev: fsapi.NoDevice,
	} {
		a := e.mk(fsapi.Root, root, string(rune('a'+typ)), vfs.NewNode{Type: typ, Mode: 0o777, Target: map[bool]string{true: "x"}[typ == fsapi.TypeSymlink]})
		_, err := e.fs.Open(e.ctx, fsapi.Root, a.Ino, vfs.OpenRead)
		e.fails(want, err)
	}
}

func openTruncates(e *env) {
	f := e.file(root, "f", 0o644)
	e.put(f, pattern(100_000, 1))
	e.open(f, vfs.OpenWrite|vfs.OpenTrunc)
	e.equal("size", e.attr(f).Size, int64(0))
	e.equal("used", e.attr(f).Used, int64(0))
}

func syncKeeps(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	data := pattern(500_000, 9)
	for i, step := range []func() error{
		func() error { return h.Sync(e.ctx, false) },
		func() error { return h.Sync(e.ctx, true) },
		func() error { return e.fs.Syncfs(e.ctx) },
		func() error { return h.Flush(e.ctx, vfs.LockOwner{}) },
	} {
		part := data[i*100_000 : (i+1)*100_000]
		e.write(h, part, int64(i*100_000))
		e.ok(step())
		e.same(e.read(h, 100_000, int64(i*100_000)), part)
	}
	e.ok(h.Sync(e.ctx, false))
	e.equal("used", e.attr(f).Used, int64(400_000))
}

func closeTwice(e *env) {
	h := e.open(e.file(root, "f", 0o644), rw)
	e.ok(h.Close())
	e.fails(fsapi.BadHandle, h.Close())
	d, err := e.fs.OpenDir(e.ctx, fsapi.Root, root)
	e.ok(err)
	e.ok(d.Close())
	e.fails(fsapi.BadHandle, d.Close())
}

func closeUse(e *env) {
	h := e.open(e.file(root, "f", 0o644), rw)
	other := e.open(e.file(root, "g", 0o644), rw)
	e.ok(h.Close())
	_, err := h.ReadAt(e.ctx, make([]byte, 1), 0)
	e.fails(fsapi.BadHandle, err)
	_, err = h.WriteAt(e.ctx, []byte("x"), 0)
	e.fails(fsapi.BadHandle, err)
	e.fails(fsapi.BadHandle, h.Truncate(e.ctx, 0))
	e.fails(fsapi.BadHandle, h.Sync(e.ctx, false))
	_, err = h.Seek(e.ctx, 0, false)
	e.fails(fsapi.BadHandle, err)
	_, err = other.CopyRange(e.ctx, 0, h, 0, 1)
	e.fails(fsapi.BadHandle, err)
	e.fails(fsapi.BadHandle, h.SetLock(e.ctx, vfs.Lock{Type: vfs.LockRead, End: 1}, false))
}
