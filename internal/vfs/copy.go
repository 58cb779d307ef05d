package vfs

import (
	"context"
	"errors"
	"fmt"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// CopyRange implements File.
func (f *file) CopyRange(ctx context.Context, off int64, dst File, dstOff, length int64) (total int64, err error) {
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
	s := &source{n: f.n, ino: f.n.ino, size: f.n.attr().Size}
	for {
		var done int64
		done, err = d.takeRange(ctx, s, off+total, dstOff+total, length-total)
		var few *inlineError
		if errors.As(err, &few) {
			done, err = f.copyBytes(ctx, off+total, d, dstOff+total, few.length)
		}
		total += done
		if err != nil || done == 0 || total == length {
			break
		}
	}
	if total > 0 {
		f.fs.accessed(f.n)
		return total, nil
	}
	return 0, err
}

// source is a file whose chunks others are to share.
type source struct {
	n    *node // nil: the file is of a snapshot
	id   fsapi.SnapshotID
	ino  fsapi.Ino
	size int64
}

// takeRange copies a range of s into the file, by sharing: all of it, or what
// comes before a part that is stored inline, which is an inlineError where it is
// the first.
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

// inlineError says that the range to share begins with a part of an inline
// extent: its bytes are few, and are copied rather than kept whole for each part
// of them.
type inlineError struct{ length int64 }

func (e *inlineError) Error() string { return fmt.Sprintf("%d bytes are stored inline", e.length) }

// share lets the file's range refer to the chunks of the source's, as far as
// takeRange says.
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
			if s.n != nil {
				if part, err = beforeInline(exts, off+done, off+done+part); err != nil {
					return err
				}
			}
			moved := shifted(exts, off+done, off+done+part, dstOff-off)
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

// beforeInline is how many bytes from off on, at most to end, come before the
// first part of an inline extent: an inlineError if none do.
func beforeInline(exts []fsapi.Extent, off, end int64) (int64, error) {
	for i := range exts {
		e := &exts[i]
		if e.Kind != fsapi.ExtentInline || e.Off >= off && e.End() <= end {
			continue
		}
		if at := max(e.Off, off); at == off {
			return 0, &inlineError{length: min(e.End(), end) - off}
		} else if at < end {
			return at - off, nil
		}
	}
	return end - off, nil
}

// shifted is the parts of exts within [off, end), moved by delta.
func shifted(exts []fsapi.Extent, off, end, delta int64) []fsapi.Extent {
	out := make([]fsapi.Extent, 0, len(exts))
	for _, e := range exts {
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
	return out
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
