package transfer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/strakefs/strake/internal/fsapi"
)

// sameContent reports whether what is there need not be written.
func (r *Run) sameContent(ctx context.Context, s Source, e, old *Entry) (bool, error) {
	if old == nil || old.Type != e.Type {
		return false, nil
	}
	switch e.Type {
	case fsapi.TypeSymlink:
		return e.Target == old.Target, nil
	case fsapi.TypeRegular:
	default:
		return e.Rdev == old.Rdev, nil
	}
	if e.Size != old.Size {
		return false, nil
	}
	if !r.o.Checksum {
		return e.Mtime.Equal(old.Mtime) && r.o.Journal.knows(e), nil
	}
	a, err := hashOf(ctx, s.Tree, e.Path)
	if err != nil {
		return false, err
	}
	b, err := hashOf(ctx, r.o.Dest, old.Path)
	return err == nil && a == b, nil // what cannot be read there is written anew
}

// sameAttrs compares what chown, chmod, setxattr and utimes set. The times of
// directories and symlinks say nothing of their content.
func (r *Run) sameAttrs(e, old *Entry) bool {
	owner := !r.o.Owner || e.Uid == old.Uid && e.Gid == old.Gid
	mode := e.Mode == old.Mode || e.Type == fsapi.TypeSymlink
	return owner && mode && sameXattrs(e.Xattrs, old.Xattrs) && (e.Type == fsapi.TypeDirectory || e.Mtime.Equal(old.Mtime))
}

// hashOf reads a file and hashes its bytes, holes as zeros.
func hashOf(ctx context.Context, t Tree, p string) (sum [sha256.Size]byte, err error) {
	f, err := t.Open(ctx, p)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	at := int64(0)
	err = f.Ranges(ctx, func(off, n int64) error {
		if err := zeros(h, off-at); err != nil {
			return err
		}
		s, err := f.Section(ctx, off, n)
		if err != nil {
			return err
		}
		defer s.Close()
		m, err := io.Copy(h, s)
		if err == nil && m != n {
			err = fmt.Errorf("%d bytes instead of %d", m, n)
		}
		at = off + n
		return fsapi.Wrap(kindOf(err), err, "read "+p)
	})
	if err == nil {
		err = zeros(h, f.Size()-at)
	}
	return [sha256.Size]byte(h.Sum(nil)), err
}

var zeroBlock [64 << 10]byte

func zeros(w io.Writer, n int64) error {
	for ; n > 0; n -= int64(len(zeroBlock)) {
		if _, err := w.Write(zeroBlock[:min(n, int64(len(zeroBlock)))]); err != nil {
			return err
		}
	}
	return nil
}
