package vfs

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// Seek implements File.
func (f *file) Seek(ctx context.Context, off int64, hole bool) (int64, error) {
	if err := f.usable(0); err != nil {
		return 0, err
	}
	n := f.n
	n.io.RLock()
	defer n.io.RUnlock()
	n.mu.RLock()
	size, mask := n.in.Size, n.mask()
	var dirty []gap
	if n.data != nil && off >= 0 && off < size {
		dirty = n.data.ranges(off, size)
	}
	n.mu.RUnlock()
	if off < 0 || off >= size {
		return 0, fsapi.Errorf(fsapi.NoDevice, "offset %d is not within the %d bytes of inode %d", off, size, n.ino)
	}
	s := seeker{f.fs, n, min(mask, size), dirty}
	if hole {
		at, err := s.hole(ctx, off)
		return min(at, size), err
	}
	at, err := s.data(ctx, off)
	if err == nil && at >= size {
		err = fsapi.Errorf(fsapi.NoDevice, "inode %d has no data from %d on", n.ino, off)
	}
	return at, err
}

// seeker looks for data and holes in dirty ranges over stored extents, of which
// those below mask count.
type seeker struct {
	fs    *Local
	n     *node
	mask  int64
	dirty []gap
}

// data is the first byte from off on that is dirty or stored; size or more
// where there is none.
func (s *seeker) data(ctx context.Context, off int64) (int64, error) {
	first := int64(fsapi.MaxFileSize)
	for _, g := range s.dirty {
		if g.end > off {
			first = max(g.off, off)
			break
		}
	}
	if off >= s.mask {
		return first, nil
	}
	var at int64
	err := s.fs.view(ctx, func(tx *meta.Tx) (err error) {
		at, err = tx.NextData(s.n.ino, off, s.mask)
		return err
	})
	if at >= s.mask {
		at = fsapi.MaxFileSize
	}
	return min(first, at), err
}

// hole is the first byte from off on that is neither dirty nor stored.
func (s *seeker) hole(ctx context.Context, off int64) (int64, error) {
	for {
		start := off
		for _, g := range s.dirty {
			if g.off <= off && off < g.end {
				off = g.end
			}
		}
		if off < s.mask {
			err := s.fs.view(ctx, func(tx *meta.Tx) (err error) {
				off, err = tx.NextHole(s.n.ino, off, s.mask)
				return err
			})
			if err != nil {
				return 0, err
			}
		}
		if off == start {
			return off, nil
		}
	}
}
