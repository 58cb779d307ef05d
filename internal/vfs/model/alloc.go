package model

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Block is what collapsed and inserted ranges are multiples of, in bytes.
const Block = 4096

// Allocate implements vfs.File.
func (h *file) Allocate(_ context.Context, mode vfs.AllocMode, off, n int64) error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.usable(vfs.OpenWrite); err != nil {
		return err
	}
	if err := checkAllocate(mode, off, n); err != nil {
		return err
	}
	d := &h.n.data
	size, end := d.size, off+n
	changed := n
	switch mode &^ (vfs.AllocKeepSize | vfs.AllocUnshare) {
	case 0:
		if h.f.used+n > h.f.o.Capacity {
			return fsapi.Errorf(fsapi.NoSpace, "the volume is full")
		}
		h.f.edit(h.n, func(d *content) { d.allocate(off, end) })
	case vfs.AllocPunch:
		h.f.edit(h.n, func(d *content) { d.punch(off, end) })
	case vfs.AllocZero:
		h.f.edit(h.n, func(d *content) { d.punch(off, end); d.allocate(off, end) })
	case vfs.AllocCollapse:
		if off%Block != 0 || n%Block != 0 || end >= size {
			return fsapi.Errorf(fsapi.Invalid, "range %d+%d cannot be collapsed", off, n)
		}
		h.f.edit(h.n, func(d *content) { d.punch(off, end); d.shift(off, -n) })
		changed = -1
	case vfs.AllocInsert:
		if off%Block != 0 || n%Block != 0 || off >= size {
			return fsapi.Errorf(fsapi.Invalid, "range %d+%d cannot be inserted", off, n)
		}
		if size > fsapi.MaxFileSize-n {
			return fsapi.Errorf(fsapi.FileTooBig, "%d more bytes are over the largest size", n)
		}
		h.f.edit(h.n, func(d *content) { d.shift(off, n) })
		changed = -1
	default:
		return fsapi.Errorf(fsapi.NotSupported, "fallocate mode %#x", uint32(mode))
	}
	if mode&(vfs.AllocKeepSize|vfs.AllocCollapse|vfs.AllocInsert) == 0 {
		d.size = max(d.size, end)
	}
	h.wrote(off, changed)
	return nil
}

// checkAllocate is the argument checks of fallocate(2).
func checkAllocate(mode vfs.AllocMode, off, n int64) error {
	switch {
	case off < 0 || n <= 0:
		return fsapi.Errorf(fsapi.Invalid, "range %d+%d is not one", off, n)
	case mode&vfs.AllocPunch != 0 && mode&vfs.AllocKeepSize == 0:
		return fsapi.Errorf(fsapi.NotSupported, "punching keeps the size")
	case mode&(vfs.AllocCollapse|vfs.AllocInsert) != 0 && mode&(mode-1) != 0:
		return fsapi.Errorf(fsapi.Invalid, "fallocate mode %#x", uint32(mode))
	case off > fsapi.MaxFileSize-n:
		return fsapi.Errorf(fsapi.FileTooBig, "range %d+%d is over the largest size", off, n)
	}
	return nil
}
