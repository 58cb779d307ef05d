package vfstest

import (
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func seekTests() []test {
	return []test{
		{"seek/data and holes", seekBoth},
		{"seek/empty file and bounds", seekBounds},
		{"seek/all hole", seekAllHole},
		{"seek/preallocated", seekPreallocated},
	}
}

// seek wants Seek to answer want, or fsapi.NoDevice for -1.
func (e *env) seek(h vfs.File, off int64, hole bool, want int64) {
	e.Helper()
	got, err := h.Seek(e.ctx, off, hole)
	if want < 0 {
		e.fails(fsapi.NoDevice, err)
		return
	}
	e.ok(err)
	if got != want {
		e.Fatalf("seek from %d (hole: %v) leads to %d, want %d", off, hole, got, want)
	}
}

func seekBoth(e *env) {
	const mib = 1 << 20
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	e.write(h, pattern(mib, 1), 2*mib)
	e.write(h, pattern(mib, 2), 6*mib)
	e.ok(h.Truncate(e.ctx, 9*mib))
	for range 2 {
		e.seek(h, 0, false, 2*mib)
		e.seek(h, 0, true, 0)
		e.seek(h, 2*mib+5, false, 2*mib+5)
		e.seek(h, 2*mib+5, true, 3*mib)
		e.seek(h, 3*mib, false, 6*mib)
		e.seek(h, 5*mib, true, 5*mib)
		e.seek(h, 6*mib, true, 7*mib)
		e.seek(h, 7*mib, false, -1)
		e.seek(h, 8*mib, true, 8*mib)
		e.ok(h.Sync(e.ctx, false))
	}
}

func seekBounds(e *env) {
	f := e.file(root, "f", 0o644)
	h := e.open(f, rw)
	e.seek(h, 0, false, -1)
	e.seek(h, 0, true, -1)
	e.write(h, pattern(100, 1), 0)
	for range 2 {
		e.seek(h, 0, true, 100)
		e.seek(h, 99, false, 99)
		e.seek(h, 100, false, -1)
		e.seek(h, 100, true, -1)
		e.seek(h, -1, false, -1)
		e.seek(h, -1, true, -1)
		e.ok(h.Sync(e.ctx, false))
	}
}

func seekAllHole(e *env) {
	h := e.open(e.file(root, "f", 0o644), rw)
	e.ok(h.Truncate(e.ctx, 1<<50))
	e.seek(h, 0, false, -1)
	e.seek(h, 0, true, 0)
	e.seek(h, 1<<49, true, 1<<49)
}

// seekPreallocated: whether preallocated ranges are data is up to the
// implementation, but what it says must hold together.
func seekPreallocated(e *env) {
	const mib = 1 << 20
	h := e.open(e.file(root, "f", 0o644), rw)
	e.ok(h.Allocate(e.ctx, 0, 0, 4*mib))
	e.write(h, pattern(mib, 1), 2*mib)
	at, err := h.Seek(e.ctx, 0, false)
	e.ok(err)
	if at != 0 && at != 2*mib {
		e.Fatalf("data begins at %d", at)
	}
	e.seek(h, 2*mib, false, 2*mib)
	at, err = h.Seek(e.ctx, 2*mib, true)
	e.ok(err)
	if at != 3*mib && at != 4*mib {
		e.Fatalf("data ends at %d", at)
	}
}
