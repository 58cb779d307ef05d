package model

import (
	"context"
	"math"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// file is an open regular file. Its fields but closed are fixed; closed is
// guarded by FS.mu.
type file struct {
	f      *FS
	c      fsapi.Cred
	n      *node
	flags  vfs.OpenFlags
	closed bool
}

var _ vfs.File = (*file)(nil)

// Open implements vfs.FS.
func (f *FS) Open(_ context.Context, c *fsapi.Cred, ino fsapi.Ino, flags vfs.OpenFlags) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return nil, err
	}
	return f.open(c, n, flags)
}

// open checks what open(2) checks of a file that exists.
func (f *FS) open(c *fsapi.Cred, n *node, flags vfs.OpenFlags) (vfs.File, error) {
	switch n.attr.Type {
	case fsapi.TypeRegular:
	case fsapi.TypeDirectory:
		return nil, fsapi.Errorf(fsapi.IsDir, "inode %d is a directory", n.attr.Ino)
	case fsapi.TypeSymlink:
		return nil, fsapi.Errorf(fsapi.Loop, "inode %d is a symlink", n.attr.Ino)
	default:
		return nil, fsapi.Errorf(fsapi.NoDevice, "inode %d is not a regular file", n.attr.Ino)
	}
	want := uint32(0)
	if flags&vfs.OpenRead != 0 {
		want |= read
	}
	if flags&(vfs.OpenWrite|vfs.OpenTrunc) != 0 {
		want |= write
	}
	if flags&vfs.OpenExec != 0 {
		want |= execute
	}
	if err := f.may(c, n, want); err != nil {
		return nil, err
	}
	if flags&vfs.OpenNoTime != 0 {
		if err := owns(c, n); err != nil {
			return nil, err
		}
	}
	if flags&vfs.OpenTrunc != 0 {
		f.truncate(c, n, 0)
	}
	return f.handle(c, n, flags), nil
}

// handle makes an open file without asking.
func (f *FS) handle(c *fsapi.Cred, n *node, flags vfs.OpenFlags) *file {
	n.handles++
	h := &file{f: f, c: *c, n: n, flags: flags}
	h.c.Groups = append([]uint32(nil), c.Groups...)
	return h
}

// Ino implements vfs.File.
func (h *file) Ino() fsapi.Ino { return h.n.attr.Ino }

// usable refuses a closed handle, or one opened without any of flags.
func (h *file) usable(flags vfs.OpenFlags) error {
	if h.closed || flags != 0 && h.flags&flags == 0 {
		return fsapi.Errorf(fsapi.BadHandle, "handle of inode %d is not open for this", h.n.attr.Ino)
	}
	return nil
}

// Attr implements vfs.File.
func (h *file) Attr(context.Context) (fsapi.Attr, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.usable(0); err != nil {
		return fsapi.Attr{}, err
	}
	return h.n.stat(), nil
}

// ReadAt implements vfs.File.
func (h *file) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.usable(vfs.OpenRead | vfs.OpenExec); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fsapi.Errorf(fsapi.Invalid, "%d is not an offset", off)
	}
	n := h.n.data.read(p, off)
	if len(p) > 0 && h.flags&vfs.OpenNoTime == 0 {
		h.f.accessed(h.n)
	}
	return n, nil
}

// WriteAt implements vfs.File.
func (h *file) WriteAt(_ context.Context, p []byte, off int64) (int, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.usable(vfs.OpenWrite); err != nil {
		return 0, err
	}
	if h.flags&vfs.OpenAppend != 0 {
		off = h.n.data.size
	}
	if off < 0 {
		return 0, fsapi.Errorf(fsapi.Invalid, "%d is not an offset", off)
	}
	if off > fsapi.MaxFileSize-int64(len(p)) {
		return 0, fsapi.Errorf(fsapi.FileTooBig, "offset %d is over the largest size", off)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if h.f.used+int64(len(p)) > h.f.o.Capacity {
		return 0, fsapi.Errorf(fsapi.NoSpace, "the volume is full")
	}
	h.f.edit(h.n, func(d *content) { d.write(p, off) })
	h.wrote(off, int64(len(p)))
	return len(p), nil
}

// wrote is what follows a change of n bytes at off; n < 0 is to the end.
func (h *file) wrote(off, n int64) {
	h.f.written(&h.c, h.n)
	h.f.notifyContent(&h.c, h.n, off, n)
}

// Truncate implements vfs.File.
func (h *file) Truncate(_ context.Context, size int64) error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.usable(vfs.OpenWrite); err != nil {
		return err
	}
	if err := checkSize(size); err != nil {
		return err
	}
	h.f.truncate(&h.c, h.n, size)
	return nil
}

// Flush implements vfs.File.
func (h *file) Flush(_ context.Context, owner vfs.LockOwner) error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.usable(0); err != nil {
		return err
	}
	h.f.setLock(h.n, vfs.Lock{Owner: owner, End: math.MaxInt64})
	return nil
}

// Sync implements vfs.File: there is nothing to wait for.
func (h *file) Sync(context.Context, bool) error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return h.usable(0)
}

// Seek implements vfs.File.
func (h *file) Seek(_ context.Context, off int64, hole bool) (int64, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.usable(0); err != nil {
		return 0, err
	}
	d := &h.n.data
	if off >= 0 && off < d.size {
		if at, ok := d.seek(off, hole); ok {
			return at, nil
		}
	}
	return 0, fsapi.Errorf(fsapi.NoDevice, "no data at or after %d", off)
}

// CopyRange implements vfs.File.
func (h *file) CopyRange(_ context.Context, off int64, dst vfs.File, dstOff, n int64) (int64, error) {
	to, ok := dst.(*file)
	if !ok || to.f != h.f {
		return 0, fsapi.Errorf(fsapi.CrossDevice, "the files are not of one volume")
	}
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.usable(vfs.OpenRead); err != nil {
		return 0, err
	}
	if err := to.usable(vfs.OpenWrite); err != nil {
		return 0, err
	}
	if to.flags&vfs.OpenAppend != 0 {
		return 0, fsapi.Errorf(fsapi.BadHandle, "inode %d is open for appending", to.n.attr.Ino)
	}
	if off < 0 || dstOff < 0 || n < 0 {
		return 0, fsapi.Errorf(fsapi.Invalid, "negative offset or length")
	}
	n = min(n, max(h.n.data.size-off, 0))
	if n == 0 {
		return 0, nil
	}
	if dstOff > fsapi.MaxFileSize-n {
		return 0, fsapi.Errorf(fsapi.FileTooBig, "offset %d is over the largest size", dstOff)
	}
	if h.n == to.n && off < dstOff+n && dstOff < off+n {
		return 0, fsapi.Errorf(fsapi.Invalid, "the ranges overlap")
	}
	src := h.n.data.clone()
	h.f.edit(to.n, func(d *content) { d.copy(&src, off, dstOff, n) })
	h.f.accessed(h.n)
	to.wrote(dstOff, n)
	return n, nil
}

// copy replaces n bytes at dstOff by those of src at off, holes by holes.
func (c *content) copy(src *content, off, dstOff, n int64) {
	c.punch(dstOff, dstOff+n)
	for _, s := range src.ranges {
		if s.data != nil && s.off < off+n && s.end() > off {
			part := s.cut(off, off+n)
			part.off += dstOff - off
			c.put(part)
		}
	}
	c.size = max(c.size, dstOff+n)
}

// Close implements vfs.File.
func (h *file) Close() error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.usable(0); err != nil {
		return err
	}
	h.closed = true
	h.f.dropFlocks(h)
	h.n.handles--
	h.f.release(h.n)
	return nil
}
