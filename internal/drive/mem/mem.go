// Package mem is a drive in memory, for tests. What is committed is durable for
// as long as the Drive lives.
//
// It owns: the bytes. It must not know what is in them.
package mem

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// Options of a Drive. The zero value is a drive without bound.
type Options struct {
	Info     drive.Info // Kind is set to "mem"; a zero ID to 1
	Capacity int64      // bytes of blobs; 0: 1 TiB
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Drive is a set of blobs in memory. Safe for concurrent use.
type Drive struct {
	opts Options

	mu     sync.RWMutex
	blobs  map[string]blob // guarded by mu
	used   int64           // bytes committed or written; guarded by mu
	closed bool            // guarded by mu
}

// blob is immutable.
type blob struct {
	data    []byte
	created time.Time
}

var (
	_ drive.Drive        = (*Drive)(nil)
	_ drive.BatchDeleter = (*Drive)(nil)
)

// New makes an empty drive.
func New(o Options) *Drive {
	o.Info.Kind = "mem"
	if o.Info.ID == 0 {
		o.Info.ID = 1
	}
	if o.Capacity == 0 {
		o.Capacity = 1 << 40
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Drive{opts: o, blobs: map[string]blob{}}
}

// Info implements drive.Drive.
func (d *Drive) Info() drive.Info { return d.opts.Info }

func (d *Drive) errorf(k fsapi.Kind, verb, name, why string) error {
	label := d.opts.Info.Name
	if label == "" {
		label = d.opts.Info.ID.String()
	}
	return fsapi.Errorf(k, "drive %s: %s: %s", label, drive.Doing(verb, name), why)
}

// check refuses calls with a bad name, an ended context, or on a closed drive.
// Requires mu, for reading at least.
func (d *Drive) check(ctx context.Context, verb, name string) error {
	if err := drive.CheckName(name); err != nil {
		return d.errorf(fsapi.Invalid, verb, name, err.Error())
	}
	return d.checkOpen(ctx, verb, name)
}

func (d *Drive) checkOpen(ctx context.Context, verb, name string) error {
	if err := ctx.Err(); err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, verb+" "+name)
	}
	if d.closed {
		return d.errorf(fsapi.Closed, verb, name, "the drive is closed")
	}
	return nil
}

// get finds a blob.
func (d *Drive) get(ctx context.Context, verb, name string) (blob, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.check(ctx, verb, name); err != nil {
		return blob{}, err
	}
	b, ok := d.blobs[name]
	if !ok {
		return blob{}, d.errorf(fsapi.NotExist, verb, name, "no such blob")
	}
	return b, nil
}

// ReadAt implements drive.Drive.
func (d *Drive) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	b, err := d.get(ctx, "read", name)
	if err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, d.errorf(fsapi.Invalid, "read", name, "negative offset")
	}
	n := 0
	if off < int64(len(b.data)) {
		n = copy(p, b.data[off:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Stat implements drive.Drive.
func (d *Drive) Stat(ctx context.Context, name string) (drive.Blob, error) {
	b, err := d.get(ctx, "stat", name)
	if err != nil {
		return drive.Blob{}, err
	}
	return drive.Blob{Name: name, Size: int64(len(b.data)), Created: b.created}, nil
}

// List implements drive.Drive.
func (d *Drive) List(ctx context.Context, prefix, after string, fn func(drive.Blob) error) error {
	d.mu.RLock()
	err := d.checkOpen(ctx, "list", prefix)
	names := slices.Sorted(maps.Keys(d.blobs))
	d.mu.RUnlock()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) || name <= after {
			continue
		}
		b, err := d.Stat(ctx, name)
		switch {
		case err == nil:
			err = fn(b)
		case fsapi.KindOf(err) == fsapi.NotExist:
			continue // deleted meanwhile
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Delete implements drive.Drive.
func (d *Drive) Delete(ctx context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check(ctx, "delete", name); err != nil {
		return err
	}
	b, ok := d.blobs[name]
	if !ok {
		return d.errorf(fsapi.NotExist, "delete", name, "no such blob")
	}
	d.used -= int64(len(b.data))
	delete(d.blobs, name)
	return nil
}

// DeleteMany implements drive.BatchDeleter.
func (d *Drive) DeleteMany(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := d.Delete(ctx, name); err != nil && fsapi.KindOf(err) != fsapi.NotExist {
			return err
		}
	}
	return nil
}

// Capacity implements drive.Drive.
func (d *Drive) Capacity(ctx context.Context) (drive.Capacity, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.checkOpen(ctx, "measure", ""); err != nil {
		return drive.Capacity{}, err
	}
	return drive.Capacity{Total: d.opts.Capacity, Used: d.used, Avail: max(d.opts.Capacity-d.used, 0)}, nil
}

// Replace implements drive.Drive.
func (d *Drive) Replace(ctx context.Context, name string, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check(ctx, "replace", name); err != nil {
		return err
	}
	if len(data) > drive.MaxReplace {
		return d.errorf(fsapi.TooBig, "replace", name, "more than 1 MiB")
	}
	grow := int64(len(data) - len(d.blobs[name].data))
	if grow > 0 && d.used+grow > d.opts.Capacity {
		return d.errorf(fsapi.NoSpace, "replace", name, "the drive is full")
	}
	d.used += grow
	d.blobs[name] = blob{slices.Clone(data), d.opts.Now()}
	return nil
}

// Close implements drive.Drive.
func (d *Drive) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

// Reopen makes a closed drive usable again, with the blobs it has.
func (d *Drive) Reopen() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = false
}

// writer gathers a blob.
type writer struct {
	d    *Drive
	name string
	data []byte
	done bool
}

// Create implements drive.Drive.
func (d *Drive) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.check(ctx, "create", name); err != nil {
		return nil, err
	}
	if size > d.opts.Capacity-d.used {
		return nil, d.errorf(fsapi.NoSpace, "create", name, "the drive is full")
	}
	return &writer{d: d, name: name, data: make([]byte, 0, max(size, 0))}, nil
}

// Write implements drive.Writer.
func (w *writer) Write(p []byte) (int, error) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	switch {
	case w.done, w.d.closed:
		return 0, w.d.errorf(fsapi.Closed, "write", w.name, "the writer is done")
	case w.d.used+int64(len(p)) > w.d.opts.Capacity:
		return 0, w.d.errorf(fsapi.NoSpace, "write", w.name, "the drive is full")
	}
	w.d.used += int64(len(p))
	w.data = append(w.data, p...)
	return len(p), nil
}

// Commit implements drive.Writer.
func (w *writer) Commit(ctx context.Context) error {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if w.done {
		return w.d.errorf(fsapi.Closed, "commit", w.name, "the writer is done")
	}
	err := w.d.check(ctx, "commit", w.name)
	if _, ok := w.d.blobs[w.name]; ok && err == nil {
		err = w.d.errorf(fsapi.Exist, "commit", w.name, "there is a blob of that name")
	}
	if err != nil {
		w.drop()
		return err
	}
	w.done = true
	w.d.blobs[w.name] = blob{w.data, w.d.opts.Now()}
	return nil
}

// Abort implements drive.Writer.
func (w *writer) Abort() {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if !w.done {
		w.drop()
	}
}

// drop requires Drive.mu.
func (w *writer) drop() {
	w.done = true
	w.d.used -= int64(len(w.data))
	w.data = nil
}
