// Package retry decorates a drive so that calls which failed for a passing
// reason (fsapi.Transient) are made again.
//
// It owns: which calls can be made again. It must not know which drive that is.
// It starts no goroutine. Buckets make their own attempts, request by request:
// they need no decorator.
package retry

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// Drive makes calls again. Safe for concurrent use.
type Drive struct {
	drive.Drive
	policy backoff.Policy
}

var (
	_ drive.Drive        = (*Drive)(nil)
	_ drive.BatchDeleter = (*Drive)(nil)
)

// New decorates d. A writer's Write and Commit are made once, for what was
// written is not kept: its owner writes the blob anew.
func New(d drive.Drive, p backoff.Policy) *Drive { return &Drive{d, p} }

// Unwrap is the drive below.
func (d *Drive) Unwrap() drive.Drive { return d.Drive }

func (d *Drive) do(ctx context.Context, call func(attempt int) error) error {
	return ended(ctx, d.policy.Do(ctx, fsapi.Transient, call))
}

// ended is err, unless ctx has ended before another attempt could be made.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && fsapi.Transient(err) {
		return fsapi.Errorf(fsapi.KindOf(ctx.Err()), "%v: no further attempt: %w", err, ctx.Err())
	}
	return err
}

// Create implements drive.Drive.
func (d *Drive) Create(ctx context.Context, name string, size int64) (w drive.Writer, err error) {
	err = d.do(ctx, func(int) (err error) {
		w, err = d.Drive.Create(ctx, name, size)
		return err
	})
	return w, err
}

// ReadAt implements drive.Drive.
func (d *Drive) ReadAt(ctx context.Context, name string, off int64, p []byte) (n int, err error) {
	err = d.do(ctx, func(int) (err error) {
		n, err = d.Drive.ReadAt(ctx, name, off, p)
		return err
	})
	return n, err
}

// Stat implements drive.Drive.
func (d *Drive) Stat(ctx context.Context, name string) (b drive.Blob, err error) {
	err = d.do(ctx, func(int) (err error) {
		b, err = d.Drive.Stat(ctx, name)
		return err
	})
	return b, err
}

// List implements drive.Drive. A listing that broke off goes on after the last
// blob that fn was called for. An error of fn ends it, of whatever kind.
func (d *Drive) List(ctx context.Context, prefix, after string, fn func(drive.Blob) error) error {
	stopped := false
	again := func(err error) bool { return !stopped && fsapi.Transient(err) }
	err := d.policy.Do(ctx, again, func(int) error {
		return d.Drive.List(ctx, prefix, after, func(b drive.Blob) error {
			after = b.Name
			err := fn(b)
			stopped = err != nil
			return err
		})
	})
	if stopped {
		return err
	}
	return ended(ctx, err)
}

// Delete implements drive.Drive. An attempt that failed may have removed the
// blob: one after it that finds none has succeeded.
func (d *Drive) Delete(ctx context.Context, name string) error {
	return d.do(ctx, func(attempt int) error {
		err := d.Drive.Delete(ctx, name)
		if attempt > 0 && errors.Is(err, fsapi.NotExist) {
			return nil
		}
		return err
	})
}

// DeleteMany implements drive.BatchDeleter.
func (d *Drive) DeleteMany(ctx context.Context, names []string) error {
	return d.do(ctx, func(int) error { return drive.DeleteMany(ctx, d.Drive, names) })
}

// Capacity implements drive.Drive.
func (d *Drive) Capacity(ctx context.Context) (c drive.Capacity, err error) {
	err = d.do(ctx, func(int) (err error) {
		c, err = d.Drive.Capacity(ctx)
		return err
	})
	return c, err
}

// Replace implements drive.Drive.
func (d *Drive) Replace(ctx context.Context, name string, data []byte) error {
	return d.do(ctx, func(int) error { return d.Drive.Replace(ctx, name, data) })
}
