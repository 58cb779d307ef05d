package vfstest

import (
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func allocTests() []test {
	return []test{
		{"fallocate/extends", allocExtends},
		{"fallocate/keeps data and size", allocKeeps},
		{"fallocate/punch", allocPunch},
		{"fallocate/zero", allocZero},
		{"fallocate/collapse", allocCollapse},
		{"fallocate/insert", allocInsert},
		{"fallocate/arguments", allocArguments},
		{"fallocate/used", allocUsed},
	}
}

// settled runs do on a file with data, once while the data is in memory and
// once when it is stored.
func (e *env) settled(data []byte, do func(f fsapi.Ino, h vfs.File)) {
	e.Helper()
	for _, sync := range []bool{false, true} {
		f := e.file(root, "f", 0o644)
		h := e.open(f, rw)
		e.write(h, data, 0)
		if sync {
			e.ok(h.Sync(e.ctx, false))
		}
		do(f, h)
		e.ok(h.Close())
		e.unlink(root, "f")
	}
}

// becomes wants f to have some content, now and when it is stored.
func (e *env) becomes(f fsapi.Ino, h vfs.File, want []byte) {
	e.Helper()
	e.equal("size", e.attr(f).Size, int64(len(want)))
	e.same(e.read(h, len(want)+9, 0), want)
	e.ok(h.Sync(e.ctx, false))
	e.equal("size when stored", e.attr(f).Size, int64(len(want)))
	e.same(e.read(h, len(want)+9, 0), want)
}

func allocExtends(e *env) {
	e.settled([]byte("data"), func(f fsapi.Ino, h vfs.File) {
		e.ok(h.Allocate(e.ctx, 0, 2, 100_000))
		e.becomes(f, h, append([]byte("data"), make([]byte, 99_998)...))
		e.write(h, []byte("X"), 50_000)
		want := append([]byte("data"), make([]byte, 99_998)...)
		want[50_000] = 'X'
		e.becomes(f, h, want)
	})
}

func allocKeeps(e *env) {
	data := pattern(70_000, 2)
	e.settled(data, func(f fsapi.Ino, h vfs.File) {
		e.ok(h.Allocate(e.ctx, vfs.AllocKeepSize, 1000, 200_000))
		e.becomes(f, h, data)
		e.ok(h.Truncate(e.ctx, 100_000))
		e.becomes(f, h, append(slices.Clone(data), make([]byte, 30_000)...))
	})
}

func allocPunch(e *env) {
	data := pattern(200_000, 4)
	e.settled(data, func(f fsapi.Ino, h vfs.File) {
		want := slices.Clone(data)
		for _, r := range [][2]int{{10, 20}, {4095, 8192}, {65_000, 131_100}, {199_999, 500_000}} {
			e.ok(h.Allocate(e.ctx, vfs.AllocPunch|vfs.AllocKeepSize, int64(r[0]), int64(r[1]-r[0])))
			clear(want[r[0]:min(r[1], len(want))])
		}
		e.becomes(f, h, want)
		e.write(h, []byte("new"), 100_000)
		copy(want[100_000:], "new")
		e.becomes(f, h, want)
	})
}

func allocZero(e *env) {
	data := pattern(100_000, 5)
	e.settled(data, func(f fsapi.Ino, h vfs.File) {
		want := slices.Clone(data)
		e.ok(h.Allocate(e.ctx, vfs.AllocZero|vfs.AllocKeepSize, 99_000, 9_000))
		clear(want[99_000:])
		e.becomes(f, h, want)
		e.ok(h.Allocate(e.ctx, vfs.AllocZero, 5, 70_000))
		clear(want[5:70_005])
		e.becomes(f, h, want)
		e.ok(h.Allocate(e.ctx, vfs.AllocZero, 100_000, 10))
		e.becomes(f, h, append(want, make([]byte, 10)...))
	})
}

// collapseBlock is what collapsed and inserted ranges are multiples of.
const collapseBlock = 4096

func allocCollapse(e *env) {
	data := pattern(50*collapseBlock+77, 6)
	e.settled(data, func(f fsapi.Ino, h vfs.File) {
		e.ok(h.Allocate(e.ctx, vfs.AllocCollapse, 3*collapseBlock, 20*collapseBlock))
		e.becomes(f, h, slices.Delete(slices.Clone(data), 3*collapseBlock, 23*collapseBlock))
		e.fails(fsapi.Invalid, h.Allocate(e.ctx, vfs.AllocCollapse, 1, collapseBlock))
		e.fails(fsapi.Invalid, h.Allocate(e.ctx, vfs.AllocCollapse, 0, 100))
		e.fails(fsapi.Invalid, h.Allocate(e.ctx, vfs.AllocCollapse, 0, 31*collapseBlock))
		e.fails(fsapi.Invalid, h.Allocate(e.ctx, vfs.AllocCollapse|vfs.AllocKeepSize, 0, collapseBlock))
	})
}

func allocInsert(e *env) {
	data := pattern(40*collapseBlock+77, 7)
	e.settled(data, func(f fsapi.Ino, h vfs.File) {
		e.ok(h.Allocate(e.ctx, vfs.AllocInsert, 5*collapseBlock, 30*collapseBlock))
		e.becomes(f, h, slices.Insert(slices.Clone(data), 5*collapseBlock, make([]byte, 30*collapseBlock)...))
		e.fails(fsapi.Invalid, h.Allocate(e.ctx, vfs.AllocInsert, 1, collapseBlock))
		e.fails(fsapi.Invalid, h.Allocate(e.ctx, vfs.AllocInsert, 1000*collapseBlock, collapseBlock))
		e.fails(fsapi.FileTooBig, h.Allocate(e.ctx, vfs.AllocInsert, 0, 1<<62-collapseBlock))
	})
}

func allocArguments(e *env) {
	e.settled([]byte("data"), func(f fsapi.Ino, h vfs.File) {
		e.fails(fsapi.Invalid, h.Allocate(e.ctx, 0, -1, 10))
		e.fails(fsapi.Invalid, h.Allocate(e.ctx, 0, 0, 0))
		e.fails(fsapi.Invalid, h.Allocate(e.ctx, 0, 0, -5))
		e.fails(fsapi.NotSupported, h.Allocate(e.ctx, vfs.AllocPunch, 0, 10))
		e.fails(fsapi.FileTooBig, h.Allocate(e.ctx, 0, fsapi.MaxFileSize, 10))
		e.becomes(f, h, []byte("data"))
	})
}

func allocUsed(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	used := func(what string, want int64) {
		e.Helper()
		e.ok(h.Sync(e.ctx, false))
		e.equal("used after "+what, e.attr(f).Used, want)
	}
	e.write(h, pattern(100_000, 1), 0)
	used("writing", 100_000)
	e.ok(h.Allocate(e.ctx, 0, 50_000, 100_000))
	used("preallocating", 150_000)
	e.ok(h.Allocate(e.ctx, vfs.AllocKeepSize, 200_000, 1000))
	used("preallocating past the end", 151_000)
	e.ok(h.Allocate(e.ctx, vfs.AllocPunch|vfs.AllocKeepSize, 10_000, 5_000))
	used("punching", 146_000)
	e.write(h, pattern(10, 2), 120_000)
	used("writing what was preallocated", 146_000)
	e.ok(h.Truncate(e.ctx, 100_000))
	used("truncating", 95_000)
}
