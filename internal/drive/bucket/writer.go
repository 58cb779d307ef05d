package bucket

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// writer writes one blob.
type writer struct {
	d    *Drive
	name string
	out  object.Writer
	size int64
}

// exclusive reports whether the store itself keeps a commit from replacing a
// blob.
func (d *Drive) exclusive() bool { return d.has.IfAbsent && d.has.Parts }

// Create implements drive.Drive.
func (d *Drive) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	if err := d.checkWrite(ctx, "create", name); err != nil {
		return nil, err
	}
	if err := d.checkSpace(ctx, name, size); err != nil {
		return nil, err
	}
	var cond object.Condition
	if d.exclusive() {
		cond = object.IfAbsent()
	}
	out, err := d.store.Create(ctx, name, size, cond)
	if err != nil {
		return nil, d.fail(err, "create", name)
	}
	return &writer{d: d, name: name, out: out}, nil
}

// checkSpace refuses what exceeds the quota. Without one nothing is counted.
func (d *Drive) checkSpace(ctx context.Context, name string, size int64) error {
	if d.opts.Quota <= 0 {
		if size > Unbounded {
			return fsapi.Errorf(fsapi.NoSpace, "drive %s: create %s: %d bytes wanted, of %d that are said to be there", d.label(), name, size, int64(Unbounded))
		}
		return nil
	}
	used, err := d.usage.bytes(ctx)
	if err != nil {
		return d.fail(err, "create", name)
	}
	if left := d.opts.Quota - used; left <= 0 || size > left {
		return fsapi.Errorf(fsapi.NoSpace, "drive %s: create %s: %d bytes wanted, %d left of the quota of %d",
			d.label(), name, size, max(left, 0), d.opts.Quota)
	}
	return nil
}

// Write implements drive.Writer.
func (w *writer) Write(p []byte) (int, error) {
	n, err := w.out.Write(p)
	w.size += int64(n)
	return n, w.d.fail(notBlobs(err), "write", w.name)
}

// Take implements drive.Taker.
func (w *writer) Take(p []byte, done func()) error {
	err := w.out.Take(p, done)
	if err == nil {
		w.size += int64(len(p))
	}
	return w.d.fail(notBlobs(err), "write", w.name)
}

// notBlobs keeps something missing from being taken for a missing blob.
func notBlobs(err error) error {
	if err != nil && errors.Is(err, fsapi.NotExist) {
		return fsapi.Wrap(fsapi.IO, err, "the upload is gone")
	}
	return err
}

// Commit implements drive.Writer.
func (w *writer) Commit(ctx context.Context) error {
	defer w.out.Abort()
	d := w.d
	if err := d.checkOpen(ctx, "commit", w.name); err != nil {
		return err
	}
	if err := d.ours(ctx, claimAge, "commit", w.name); err != nil {
		return err
	}
	if err := d.usage.touch(ctx); err != nil {
		return d.fail(err, "commit", w.name)
	}
	end, err := d.beginCommit(ctx, w.name)
	if err != nil {
		return d.fail(err, "commit", w.name)
	}
	defer end()
	if _, err = w.out.Commit(ctx); errors.Is(err, fsapi.Precondition) {
		return d.exist(w.name)
	}
	if err != nil {
		return d.fail(notBlobs(err), "commit", w.name)
	}
	d.usage.add(w.size)
	return nil
}

func (d *Drive) exist(name string) error {
	return fsapi.Errorf(fsapi.Exist, "drive %s: commit %s: there is a blob of that name", d.label(), name)
}

// beginCommit does what the store does not do: it keeps others of this process
// from committing a name, and looks whether it is taken.
func (d *Drive) beginCommit(ctx context.Context, name string) (end func(), err error) {
	if d.exclusive() {
		return func() {}, nil
	}
	mine := make(chan struct{})
	for {
		d.mu.Lock()
		other := d.commits[name]
		if other == nil {
			d.commits[name] = mine
			d.mu.Unlock()
			break
		}
		d.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	end = func() {
		d.mu.Lock()
		delete(d.commits, name)
		d.mu.Unlock()
		close(mine)
	}
	_, err = d.store.Stat(ctx, name)
	if errors.Is(err, fsapi.NotExist) {
		return end, nil
	}
	end()
	if err == nil {
		err = fsapi.Errorf(fsapi.Exist, "there is a blob of that name")
	}
	return nil, err
}

// Abort implements drive.Writer.
func (w *writer) Abort() { w.out.Abort() }
