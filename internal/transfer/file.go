package transfer

import (
	"context"
	"errors"
	"io"

	"github.com/strakefs/strake/internal/fsapi"
)

// attempts is how often a file is copied that changes meanwhile.
const attempts = 3

// file copies a regular file.
func (r *Run) file(ctx context.Context, s Source, e *Entry, op Op) {
	r.say("copy", op.Entry.Path)
	if r.o.DryRun {
		r.Files.Add(1)
		r.Bytes.Add(e.Size)
		return
	}
	for try := 1; ; try++ {
		changed, err := r.fileOnce(ctx, s, e, op)
		if err != nil {
			r.fail(ctx, op.Entry.Path, err)
			return
		}
		if !changed {
			return
		}
		if try == attempts {
			r.fail(ctx, op.Entry.Path, fsapi.Errorf(fsapi.Stale, "%s/%s changed while it was copied, %d times: copy it again when nobody writes it", s.Tree, e.Path, attempts))
			return
		}
		now, err := s.Tree.Stat(ctx, e.Path)
		if err != nil {
			r.fail(ctx, op.Entry.Path, err)
			return
		}
		to := now
		to.Path = op.Entry.Path
		e, op.Entry = &now, &to
	}
}

// fileOnce copies a file and reports whether it changed meanwhile.
func (r *Run) fileOnce(ctx context.Context, s Source, e *Entry, op Op) (changed bool, err error) {
	f, err := s.Tree.Open(ctx, e.Path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if f.Size() != e.Size {
		return true, nil
	}
	data, whole, err := readSmall(ctx, f)
	if err != nil {
		return false, err
	}
	if !whole {
		err := r.o.Dest.Store(ctx, op.Entry, op.Drop, f, func(n int64) { r.Bytes.Add(n) })
		if changed, cerr := f.Changed(ctx); changed || cerr != nil {
			return changed, cerr
		}
		if err == nil {
			r.Files.Add(1)
			r.done(ctx, e)
		}
		return false, err
	}
	if changed, err := f.Changed(ctx); changed || err != nil {
		return changed, err
	}
	op.Data = data
	r.batch.add(ctx, op, func() {
		r.Files.Add(1)
		r.Bytes.Add(int64(len(data)))
		r.done(ctx, e)
	})
	return false, nil
}

// readSmall reads a small file that has no holes.
func readSmall(ctx context.Context, f Reader) (data []byte, whole bool, err error) {
	if f.Size() > small {
		return nil, false, nil
	}
	data = make([]byte, f.Size())
	got := int64(0)
	err = f.Ranges(ctx, func(off, n int64) error {
		s, err := f.Section(ctx, off, n)
		if err != nil {
			return err
		}
		defer s.Close()
		m, err := io.ReadFull(s, data[off:off+n])
		got += int64(m)
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return nil // Changed will say
		}
		return fsapi.Wrap(kindOf(err), err, "read")
	})
	return data, got == f.Size(), err
}
