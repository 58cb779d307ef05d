// Package limit decorates a drive so that it is asked for no more bytes a second
// and no more calls at once than it is to bear, those that somebody waits for
// before upkeep (drive.Background).
//
// It owns: the two queues and the bytes that may pass. It must not know which
// drive that is. It starts no goroutine. Lock: limiter.mu, never held while
// anything waits.
package limit

import (
	"context"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// Options say how much. The zero value limits nothing.
type Options struct {
	// Read and Write are bytes a second, of all callers together; 0: no limit.
	// A call may exceed them at once; those after it wait the longer.
	Read, Write int64
	// Calls is how many run at once; 0: no limit. A listing is not one of them:
	// its caller may call the drive from within.
	Calls int
	// BackgroundShare is the part in percent, of bytes and of calls, that upkeep
	// has even while others wait; 0: DefaultBackgroundShare. Of calls it is
	// one at least, and upkeep never has more.
	BackgroundShare int
	Clock           clock.Clock // nil: the machine's
}

// DefaultBackgroundShare is in percent.
const DefaultBackgroundShare = 10

// Drive is limited. Safe for concurrent use.
type Drive struct {
	drive.Drive
	read, write *rate  // nil: no limit
	calls       *slots // nil: no limit
}

var (
	_ drive.Drive        = (*Drive)(nil)
	_ drive.BatchDeleter = (*Drive)(nil)
)

// New decorates d.
func New(d drive.Drive, o Options) *Drive {
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if o.BackgroundShare == 0 {
		o.BackgroundShare = DefaultBackgroundShare
	}
	l := &Drive{Drive: d}
	if o.Read > 0 {
		l.read = newRate(o.Clock, o.Read, o.BackgroundShare)
	}
	if o.Write > 0 {
		l.write = newRate(o.Clock, o.Write, o.BackgroundShare)
	}
	if o.Calls > 0 {
		l.calls = newSlots(o.Calls, o.BackgroundShare)
	}
	return l
}

// Unwrap is the drive below.
func (d *Drive) Unwrap() drive.Drive { return d.Drive }

// enter waits for a call to be let in, with n bytes that r counts.
func (d *Drive) enter(ctx context.Context, verb, name string, r *rate, n int) (leave func(), err error) {
	leave, err = d.calls.take(ctx)
	if err == nil && r != nil {
		if err = r.take(ctx, int64(n)); err != nil {
			leave()
		}
	}
	if err != nil {
		return nil, fsapi.Errorf(fsapi.KindOf(err), "drive %s: %s: waiting to be let in: %w", d.Info().Name, drive.Doing(verb, name), err)
	}
	return leave, nil
}

// Create implements drive.Drive. Class and end of ctx hold for the writer's
// Write too.
func (d *Drive) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	leave, err := d.enter(ctx, "create", name, nil, 0)
	if err != nil {
		return nil, err
	}
	defer leave()
	w, err := d.Drive.Create(ctx, name, size)
	if err != nil {
		return nil, err
	}
	return &writer{Writer: w, d: d, ctx: ctx, name: name}, nil
}

// ReadAt implements drive.Drive.
func (d *Drive) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	leave, err := d.enter(ctx, "read", name, d.read, len(p))
	if err != nil {
		return 0, err
	}
	defer leave()
	return d.Drive.ReadAt(ctx, name, off, p)
}

// Stat implements drive.Drive.
func (d *Drive) Stat(ctx context.Context, name string) (drive.Blob, error) {
	leave, err := d.enter(ctx, "stat", name, nil, 0)
	if err != nil {
		return drive.Blob{}, err
	}
	defer leave()
	return d.Drive.Stat(ctx, name)
}

// Delete implements drive.Drive.
func (d *Drive) Delete(ctx context.Context, name string) error {
	leave, err := d.enter(ctx, "delete", name, nil, 0)
	if err != nil {
		return err
	}
	defer leave()
	return d.Drive.Delete(ctx, name)
}

// DeleteMany implements drive.BatchDeleter. It is one call.
func (d *Drive) DeleteMany(ctx context.Context, names []string) error {
	leave, err := d.enter(ctx, "delete", "many", nil, 0)
	if err != nil {
		return err
	}
	defer leave()
	return drive.DeleteMany(ctx, d.Drive, names)
}

// Capacity implements drive.Drive.
func (d *Drive) Capacity(ctx context.Context) (drive.Capacity, error) {
	leave, err := d.enter(ctx, "measure", "", nil, 0)
	if err != nil {
		return drive.Capacity{}, err
	}
	defer leave()
	return d.Drive.Capacity(ctx)
}

// Replace implements drive.Drive.
func (d *Drive) Replace(ctx context.Context, name string, data []byte) error {
	leave, err := d.enter(ctx, "replace", name, d.write, len(data))
	if err != nil {
		return err
	}
	defer leave()
	return d.Drive.Replace(ctx, name, data)
}

// writer is limited too.
type writer struct {
	drive.Writer
	d    *Drive
	ctx  context.Context // of Create, for Write has none
	name string
}

// Write implements drive.Writer.
func (w *writer) Write(p []byte) (int, error) {
	leave, err := w.d.enter(w.ctx, "write", w.name, w.d.write, len(p))
	if err != nil {
		return 0, err
	}
	defer leave()
	return w.Writer.Write(p)
}

// Take implements drive.Taker.
func (w *writer) Take(p []byte, done func()) error {
	leave, err := w.d.enter(w.ctx, "write", w.name, w.d.write, len(p))
	if err != nil {
		return err
	}
	defer leave()
	return drive.Give(w.Writer, p, done)
}

// Commit implements drive.Writer.
func (w *writer) Commit(ctx context.Context) error {
	leave, err := w.d.enter(ctx, "commit", w.name, nil, 0)
	if err != nil {
		w.Abort()
		return err
	}
	defer leave()
	return w.Writer.Commit(ctx)
}
