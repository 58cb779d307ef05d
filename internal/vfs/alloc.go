package vfs

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

const (
	allocAlign = 4096 // of ranges to collapse and insert, as ext4's blocks
	allocStep  = 2048 // extents that one transaction looks at
)

// Allocate implements File.
func (f *file) Allocate(ctx context.Context, mode AllocMode, off, length int64) error {
	if err := f.usable(OpenWrite); err != nil {
		return err
	}
	if off < 0 || length <= 0 {
		return fsapi.Errorf(fsapi.Invalid, "fallocate of %d bytes at %d", length, off)
	}
	if off > fsapi.MaxFileSize-length {
		return fsapi.Errorf(fsapi.FileTooBig, "fallocate of %d bytes at %d goes past %d", length, off, int64(fsapi.MaxFileSize))
	}
	op, err := allocOp(mode)
	if err != nil {
		return err
	}
	fs, n := f.fs, f.n
	if op.grows {
		if err := fs.afford(ctx, n, off, length); err != nil {
			return err
		}
	}
	n.io.Lock()
	defer n.io.Unlock()
	if err := fs.mutable(ctx, n); err != nil {
		return err
	}
	r := &reshape{fs: fs, n: n, off: off, end: off + length, keepSize: mode&AllocKeepSize != 0, door: f.cred.Door}
	if op.check != nil {
		if err := op.check(r); err != nil {
			return err
		}
	}
	if err := fs.dropPriv(&f.cred, n); err != nil {
		return err
	}
	if err := fs.flushNode(n); err != nil {
		return err
	}
	if err := op.do(r); err != nil {
		return err
	}
	fs.tell(fsapi.Change{Kind: fsapi.ChangeContent, Ino: n.ino, Type: fsapi.TypeRegular, Off: off, Len: -1, Door: f.cred.Door})
	return nil
}

// allocOperation is a row of fallocate's table.
type allocOperation struct {
	do    func(*reshape) error
	check func(*reshape) error // nil: nothing to check
	grows bool
}

func allocOp(mode AllocMode) (allocOperation, error) {
	switch mode {
	case 0, AllocKeepSize, AllocUnshare, AllocUnshare | AllocKeepSize:
		return allocOperation{(*reshape).allocate, nil, true}, nil
	case AllocPunch | AllocKeepSize:
		return allocOperation{(*reshape).punch, nil, false}, nil
	case AllocZero, AllocZero | AllocKeepSize:
		return allocOperation{(*reshape).zero, nil, true}, nil
	case AllocCollapse:
		return allocOperation{(*reshape).collapse, (*reshape).checkCollapse, false}, nil
	case AllocInsert:
		return allocOperation{(*reshape).insert, (*reshape).checkInsert, true}, nil
	}
	if mode&(AllocCollapse|AllocInsert|AllocUnshare) != 0 && mode < 2*AllocUnshare {
		return allocOperation{}, fsapi.Errorf(fsapi.Invalid, "fallocate mode %#x mixes what cannot be done together", uint32(mode))
	}
	return allocOperation{}, fsapi.Errorf(fsapi.NotSupported, "fallocate mode %#x", uint32(mode))
}

// reshape is a change of a file's stored extents over [off, end). The caller
// has the node's io exclusively and nothing of it is dirty.
type reshape struct {
	fs       *Local
	n        *node
	off, end int64
	keepSize bool
	door     string
}

// step commits one change of the stored inode and its extents.
func (r *reshape) step(fn func(tx *meta.Tx, in *meta.Inode) error) error {
	var stored *meta.Inode
	seq, err := r.fs.updateShared(func(tx *meta.Tx) error {
		tx.SetDoor(r.door)
		in, err := r.n.inTx(tx)
		if err != nil {
			return err
		}
		in.Mtime, in.Ctime = tx.Now(), tx.Now()
		if err := fn(tx, in); err != nil {
			return err
		}
		stored = in
		r.fs.note(tx, fsapi.Change{Kind: fsapi.ChangeContent, Ino: in.Ino, Type: in.Type, Off: r.off, Len: -1, Door: r.door})
		return tx.SetInode(in)
	})
	if err != nil {
		return err
	}
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	r.n.installLocked(stored, seq)
	r.n.extents.clear()
	return nil
}

// walk commits fn for parts of the range that hold a bounded number of extents.
func (r *reshape) walk(fn func(tx *meta.Tx, in *meta.Inode, off, end int64, exts []fsapi.Extent) error) error {
	for at := r.off; at < r.end; {
		var next int64
		err := r.step(func(tx *meta.Tx, in *meta.Inode) error {
			exts, err := tx.Extents(in.Ino, at, r.end, allocStep)
			if err != nil {
				return err
			}
			next = r.end
			if len(exts) == allocStep {
				next = min(exts[allocStep-1].End(), r.end)
			}
			return fn(tx, in, at, next, exts)
		})
		if err != nil {
			return err
		}
		at = next
	}
	return nil
}

// grow sets the size where the range reaches past it.
func (r *reshape) grow(in *meta.Inode, end int64) {
	if !r.keepSize {
		in.Size = max(in.Size, end)
	}
}

func unwritten(off, end int64) fsapi.Extent {
	return fsapi.Extent{Off: off, Len: end - off, Kind: fsapi.ExtentUnwritten}
}

// allocate reserves the holes of the range.
func (r *reshape) allocate() error {
	return r.walk(func(tx *meta.Tx, in *meta.Inode, off, end int64, exts []fsapi.Extent) error {
		at := off
		fill := func(to int64) error {
			if at >= to {
				return nil
			}
			return tx.SetExtents(in, at, to, []fsapi.Extent{unwritten(at, to)})
		}
		for _, e := range exts {
			if err := fill(min(e.Off, end)); err != nil {
				return err
			}
			at = max(at, e.End())
		}
		if err := fill(end); err != nil {
			return err
		}
		r.grow(in, end)
		return nil
	})
}

// punch makes the range a hole.
func (r *reshape) punch() error {
	return r.walk(func(tx *meta.Tx, in *meta.Inode, off, end int64, _ []fsapi.Extent) error {
		return tx.SetExtents(in, off, end, nil)
	})
}

// zero makes the range read as zeros and keeps it reserved.
func (r *reshape) zero() error {
	return r.walk(func(tx *meta.Tx, in *meta.Inode, off, end int64, _ []fsapi.Extent) error {
		if err := tx.SetExtents(in, off, end, []fsapi.Extent{unwritten(off, end)}); err != nil {
			return err
		}
		r.grow(in, end)
		return nil
	})
}

func (r *reshape) aligned() error {
	if r.off%allocAlign != 0 || r.end%allocAlign != 0 {
		return fsapi.Errorf(fsapi.Invalid, "a range to collapse or insert must be a multiple of %d bytes", allocAlign)
	}
	return nil
}

func (r *reshape) checkCollapse() error {
	if err := r.aligned(); err != nil {
		return err
	}
	if size := r.n.attr().Size; r.end >= size {
		return fsapi.Errorf(fsapi.Invalid, "the range to collapse reaches the end of the file, at %d: truncate it", size)
	}
	return nil
}

// collapse takes the range out of the file.
func (r *reshape) collapse() error {
	if err := r.punch(); err != nil {
		return err
	}
	return r.step(func(tx *meta.Tx, in *meta.Inode) error {
		in.Size -= r.end - r.off
		return tx.ShiftExtents(in, r.end, r.off-r.end)
	})
}

func (r *reshape) checkInsert() error {
	if err := r.aligned(); err != nil {
		return err
	}
	size := r.n.attr().Size
	if r.off >= size {
		return fsapi.Errorf(fsapi.Invalid, "the range to insert begins at or past the end of the file, at %d", size)
	}
	if size > fsapi.MaxFileSize-(r.end-r.off) {
		return errTooBig(r.n.ino)
	}
	return nil
}

// insert makes room for the range.
func (r *reshape) insert() error {
	return r.step(func(tx *meta.Tx, in *meta.Inode) error {
		in.Size += r.end - r.off
		return tx.ShiftExtents(in, r.off, r.end-r.off)
	})
}
