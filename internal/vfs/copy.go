package vfs

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// CopyRange implements File.
func (f *file) CopyRange(ctx context.Context, off int64, dst File, dstOff, length int64) (int64, error) {
	d, ok := dst.(*file)
	if !ok || d.fs != f.fs {
		return 0, fsapi.Errorf(fsapi.CrossDevice, "the files to copy between are of two volumes")
	}
	if err := f.usable(OpenRead); err != nil {
		return 0, err
	}
	if err := d.usable(OpenWrite); err != nil {
		return 0, err
	}
	done, err := d.takeRange(ctx, &source{n: f.n, ino: f.n.ino, size: f.n.attr().Size}, off, dstOff, length)
	if errors.Is(err, errInline) {
		length = min(length, f.n.attr().Size-off)
		done, err = f.copyBytes(ctx, off, d, dstOff, length)
	}
	if done > 0 {
		f.fs.accessed(f.n)
	}
	return done, err
}

// source is a file whose chunks others are to share.
type source struct {
	n    *node // nil: the file is of a snapshot
	id   fsapi.SnapshotID
	ino  fsapi.Ino
	size int64
}

// takeRange copies a range of s into the file, by sharing.
func (d *file) takeRange(ctx context.Context, s *source, off, dstOff, length int64) (int64, error) {
	if err := d.usable(OpenWrite); err != nil {
		return 0, err
	}
	if err := checkCopy(d, off, dstOff, length); err != nil {
		return 0, err
	}
	if length = min(length, s.size-off); length <= 0 {
		return 0, nil
	}
	if s.n == d.n && off < dstOff+length && dstOff < off+length {
		return 0, fsapi.Errorf(fsapi.Invalid, "the ranges to copy between overlap")
	}
	if err := d.fs.afford(ctx, d.n, dstOff, length); err != nil {
		return 0, err
	}
	if err := d.fs.dropPriv(&d.cred, d.n); err != nil {
		return 0, err
	}
	done, err := d.share(s, off, dstOff, length)
	if done > 0 {
		d.fs.tell(fsapi.Change{Kind: fsapi.ChangeContent, Ino: d.n.ino, Type: fsapi.TypeRegular, Off: dstOff, Len: done, Door: d.cred.Door})
		return done, nil
	}
	return 0, err
}

func checkCopy(d *file, off, dstOff, length int64) error {
	switch {
	case off < 0 || dstOff < 0 || length < 0:
		return fsapi.Errorf(fsapi.Invalid, "copy of %d bytes from %d to %d", length, off, dstOff)
	case d.flags&OpenAppend != 0:
		return fsapi.Errorf(fsapi.BadHandle, "inode %d is open for appending", d.n.ino)
	case dstOff > fsapi.MaxFileSize-min(length, fsapi.MaxFileSize):
		return errTooBig(d.n.ino)
	}
	return nil
}

// errInline says that a range to share holds inline extents: its bytes are
// few, and are copied rather than kept whole for each part of them.
var errInline = fsapi.Errorf(fsapi.NotSupported, "the source is stored inline")

// share lets the file's range refer to the chunks of the source's.
func (d *file) share(s *source, off, dstOff, length int64) (int64, error) {
	fs := d.fs
	unlock := lockCopy(s.n, d.n)
	defer unlock()
	if err := fs.mutable(fs.ctx, d.n); err != nil {
		return 0, err
	}
	for _, n := range []*node{s.n, d.n} {
		if n == nil {
			continue
		}
		if err := fs.flushNode(n); err != nil {
			return 0, err
		}
	}
	r := &reshape{fs: fs, n: d.n, off: dstOff, end: dstOff + length, door: d.cred.Door}
	var done int64
	for done < length {
		part := length - done
		err := r.step(func(tx *meta.Tx, in *meta.Inode) error {
			from, err := tx.At(s.id)
			if err != nil {
				return err
			}
			exts, err := from.Extents(s.ino, off+done, off+length, allocStep)
			if err != nil {
				return err
			}
			part = length - done
			if len(exts) == allocStep {
				part = min(exts[allocStep-1].End()-off, length) - done
			}
			moved, err := shifted(exts, off+done, off+done+part, dstOff-off, s.n == nil)
			if err != nil {
				return err
			}
			if err := tx.SetExtents(in, dstOff+done, dstOff+done+part, moved); err != nil {
				return err
			}
			in.Size = max(in.Size, dstOff+done+part)
			return nil
		})
		if err != nil {
			return done, err
		}
		done += part
	}
	return done, nil
}

// lockCopy takes io of both nodes, the lower number first: shared of the
// source, exclusive of the destination.
func lockCopy(src, dst *node) (unlock func()) {
	if src == dst || src == nil {
		dst.io.Lock()
		return dst.io.Unlock
	}
	if src.ino < dst.ino {
		src.io.RLock()
		dst.io.Lock()
	} else {
		dst.io.Lock()
		src.io.RLock()
	}
	return func() { dst.io.Unlock(); src.io.RUnlock() }
}

// shifted is the parts of exts within [off, end), moved by delta; inline ones
// only where inline says so, else errInline.
func shifted(exts []fsapi.Extent, off, end, delta int64, inline bool) ([]fsapi.Extent, error) {
	out := make([]fsapi.Extent, 0, len(exts))
	for _, e := range exts {
		if e.Kind == fsapi.ExtentInline && !inline {
			return nil, errInline
		}
		lo, hi := max(e.Off, off), min(e.End(), end)
		if lo >= hi {
			continue
		}
		if e.Kind != fsapi.ExtentUnwritten {
			e.ChunkOff += uint32(lo - e.Off)
		}
		e.Off, e.Len = lo+delta, hi-lo
		out = append(out, e)
	}
	return out, nil
}

// copyBytes copies by reading and writing.
func (f *file) copyBytes(ctx context.Context, off int64, d *file, dstOff, length int64) (done int64, err error) {
	buf := make([]byte, min(length, 1<<20))
	for done < length {
		n, err := f.ReadAt(ctx, buf[:min(int64(len(buf)), length-done)], off+done)
		if err != nil || n == 0 {
			return done, err
		}
		w, err := d.WriteAt(ctx, buf[:n], dstOff+done)
		done += int64(w)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
