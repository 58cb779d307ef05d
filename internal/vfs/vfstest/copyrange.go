package vfstest

import (
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func copyTests() []test {
	return []test{
		{"copy/between files", copyBetween},
		{"copy/sees what is not stored", copyDirty},
		{"copy/later writes stay apart", copyApart},
		{"copy/holes", copyHoles},
		{"copy/holes beside few bytes", copyFew},
		{"copy/within a file", copyWithin},
		{"copy/bounds and handles", copyBounds},
		{"copy/other file system", copyForeign},
	}
}

// copyRange copies and wants all of want bytes to be.
func (e *env) copyRange(src vfs.File, off int64, dst vfs.File, dstOff, n, want int64) {
	e.Helper()
	got, err := src.CopyRange(e.ctx, off, dst, dstOff, n)
	e.ok(err)
	e.equal("bytes copied", got, want)
}

func copyBetween(e *env) {
	for _, sync := range []bool{false, true} {
		a, b := e.file(root, "a", 0o644), e.file(root, "b", 0o644)
		src, dst := e.open(a, rw), e.open(b, rw)
		data, old := pattern(300_000, 1), pattern(300_000, 2)
		e.write(src, data, 0)
		e.write(dst, old, 0)
		if sync {
			e.ok(e.fs.Syncfs(e.ctx))
		}
		e.copyRange(src, 12_345, dst, 54_321, 200_001, 200_001)
		copy(old[54_321:], data[12_345:12_345+200_001])
		e.becomes(b, dst, old)
		e.copyRange(src, 0, dst, 299_000, 300_000, 300_000)
		e.becomes(b, dst, append(old[:299_000], data...))
		e.becomes(a, src, data)
		e.unlink(root, "a")
		e.unlink(root, "b")
	}
}

func copyDirty(e *env) {
	a, b := e.file(root, "a", 0o644), e.file(root, "b", 0o644)
	src, dst := e.open(a, rw), e.open(b, rw)
	data := pattern(100_000, 1)
	e.write(src, data, 0)
	e.ok(src.Sync(e.ctx, false))
	e.write(src, []byte("fresh"), 50_000)
	copy(data[50_000:], "fresh")
	e.copyRange(src, 0, dst, 0, 100_000, 100_000)
	e.becomes(b, dst, data)
}

func copyApart(e *env) {
	a, b := e.file(root, "a", 0o644), e.file(root, "b", 0o644)
	src, dst := e.open(a, rw), e.open(b, rw)
	data := pattern(200_000, 1)
	e.write(src, data, 0)
	e.ok(src.Sync(e.ctx, false))
	e.copyRange(src, 0, dst, 0, 200_000, 200_000)
	e.write(src, []byte("src"), 1000)
	e.write(dst, []byte("dst"), 1000)
	wantA, wantB := slices.Clone(data), slices.Clone(data)
	copy(wantA[1000:], "src")
	copy(wantB[1000:], "dst")
	e.becomes(a, src, wantA)
	e.becomes(b, dst, wantB)
	e.ok(src.Close())
	e.unlink(root, "a")
	e.becomes(b, dst, wantB)
}

func copyHoles(e *env) {
	a, b := e.file(root, "a", 0o644), e.file(root, "b", 0o644)
	src, dst := e.open(a, rw), e.open(b, rw)
	e.write(src, pattern(1000, 1), 100_000)
	e.ok(src.Truncate(e.ctx, 300_000))
	e.write(dst, pattern(300_000, 2), 0)
	e.copyRange(src, 0, dst, 0, 300_000, 300_000)
	want := make([]byte, 300_000)
	copy(want[100_000:], pattern(1000, 1))
	e.becomes(b, dst, want)
	e.copyRange(src, 200_000, dst, 400_000, 100_000, 100_000)
	e.becomes(b, dst, append(want, make([]byte, 200_000)...))
}

// copyFew copies a file that was of a few bytes, which may be stored with the
// metadata, when it was synced, and has holes since: wholly and in part.
func copyFew(e *env) {
	const size = 100_000
	a, b := e.file(root, "a", 0o644), e.file(root, "b", 0o644)
	src, dst := e.open(a, rw), e.open(b, rw)
	data := make([]byte, size)
	copy(data, pattern(90, 1))
	copy(data[70_000:], pattern(50, 2))
	e.write(src, data[:90], 0)
	e.ok(src.Sync(e.ctx, false))
	e.ok(src.Truncate(e.ctx, size))
	e.write(src, data[70_000:70_050], 70_000)
	e.ok(src.Sync(e.ctx, false))
	for _, r := range [][2]int64{{0, size}, {30, size}, {0, 70_020}, {30, 60}, {10, 70_010}, {90, 70_000}, {89, 70_001}, {0, 80}} {
		e.ok(dst.Truncate(e.ctx, 0))
		e.write(dst, pattern(size, 3), 0)
		e.copyRange(src, r[0], dst, r[0], r[1]-r[0], r[1]-r[0])
		want := pattern(size, 3)
		copy(want[r[0]:r[1]], data[r[0]:r[1]])
		e.becomes(b, dst, want)

		e.ok(dst.Truncate(e.ctx, 0))
		e.copyRange(src, r[0], dst, r[0], r[1]-r[0], r[1]-r[0])
		e.ok(dst.Sync(e.ctx, false))
		was, err := src.Attr(e.ctx)
		e.ok(err)
		is, err := dst.Attr(e.ctx)
		e.ok(err)
		e.equal("the copy's size", is.Size, r[1])
		if is.Used > was.Used {
			e.Errorf("a copy of [%d, %d) uses %d bytes, the file %d", r[0], r[1], is.Used, was.Used)
		}
	}
}

func copyWithin(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	data := pattern(100_000, 1)
	e.write(h, data, 0)
	e.copyRange(h, 0, h, 150_000, 50_000, 50_000)
	want := append(append(slices.Clone(data), make([]byte, 50_000)...), data[:50_000]...)
	e.becomes(f, h, want)
	_, err := h.CopyRange(e.ctx, 0, h, 10, 100)
	e.fails(fsapi.Invalid, err)
	e.becomes(f, h, want)
}

func copyBounds(e *env) {
	a, b := e.file(root, "a", 0o644), e.file(root, "b", 0o644)
	src, dst := e.open(a, rw), e.open(b, rw)
	e.write(src, []byte("0123456789"), 0)
	e.copyRange(src, 8, dst, 0, 100, 2)
	e.copyRange(src, 10, dst, 0, 100, 0)
	e.copyRange(src, 100, dst, 0, 100, 0)
	e.copyRange(src, 0, dst, 500, 0, 0)
	e.becomes(b, dst, []byte("89"))
	_, err := src.CopyRange(e.ctx, -1, dst, 0, 1)
	e.fails(fsapi.Invalid, err)
	_, err = src.CopyRange(e.ctx, 0, dst, -1, 1)
	e.fails(fsapi.Invalid, err)
	_, err = src.CopyRange(e.ctx, 0, dst, fsapi.MaxFileSize-1, 10)
	e.fails(fsapi.FileTooBig, err)
	_, err = e.open(a, vfs.OpenWrite).CopyRange(e.ctx, 0, dst, 0, 1)
	e.fails(fsapi.BadHandle, err)
	_, err = src.CopyRange(e.ctx, 0, e.open(b, vfs.OpenRead), 0, 1)
	e.fails(fsapi.BadHandle, err)
	_, err = src.CopyRange(e.ctx, 0, e.open(b, rw|vfs.OpenAppend), 0, 1)
	e.fails(fsapi.BadHandle, err)
}

// foreign is a file of another file system.
type foreign struct{ vfs.File }

func copyForeign(e *env) {
	src := e.open(e.file(root, "a", 0o644), rw)
	e.write(src, []byte("x"), 0)
	_, err := src.CopyRange(e.ctx, 0, foreign{}, 0, 1)
	e.fails(fsapi.CrossDevice, err)
}
