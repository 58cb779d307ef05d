// Package blobtest has what tests of blob and of those above it need: a drive
// in memory whose bytes can be damaged, keys, an index.
//
// It owns: nothing that lasts. It must not be used outside tests.
package blobtest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// Drive is a drive in memory. Safe for concurrent use.
type Drive struct {
	info drive.Info
	// Fail, where set, is asked before each call; its error is returned. op is
	// the method's name, "Write" and "Commit" for writers.
	Fail func(op, name string) error
	// OnRead, where set, is told how many bytes each read asks for.
	OnRead func(n int)
	// Now stamps blobs; time.Now where nil.
	Now func() time.Time

	mu    sync.Mutex
	blobs map[string]stored // guarded by mu
	avail int64             // guarded by mu
	spare [][]byte          // guarded by mu
}

type stored struct {
	data    []byte
	created time.Time
}

var _ drive.Drive = (*Drive)(nil)

// NewDrive makes an empty hot drive, its own failure domain, with room for
// 1 TiB.
func NewDrive(id fsapi.DriveID) *Drive {
	return &Drive{
		info:  drive.Info{ID: id, Name: "d" + id.String()[14:], Kind: "mem", Tier: "hot", Domain: id.String()},
		blobs: make(map[string]stored), avail: 1 << 40,
	}
}

// With changes what Info says. Not once the drive is in use.
func (d *Drive) With(tier, domain string) *Drive {
	d.info.Tier, d.info.Domain = tier, domain
	return d
}

// SetAvail sets the room left, in bytes.
func (d *Drive) SetAvail(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.avail = n
}

// Damage changes a blob's bytes in place. fn must not keep them.
func (d *Drive) Damage(name string, fn func(data []byte) []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.blobs[name]
	b.data = fn(slices.Clone(b.data))
	d.blobs[name] = b
}

// Put stores a blob as it is.
func (d *Drive) Put(name string, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.blobs[name] = stored{slices.Clone(data), d.now()}
}

// Remove loses a blob.
func (d *Drive) Remove(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.blobs, name)
}

// Clear removes all blobs. The writers that come next use their memory again.
func (d *Drive) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n, b := range d.blobs {
		d.spare = append(d.spare, b.data[:0])
		delete(d.blobs, n)
	}
}

// Names are the names of all blobs, sorted.
func (d *Drive) Names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for n := range d.blobs {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Bytes is a copy of a blob, nil where it is not there.
func (d *Drive) Bytes(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.blobs[name].data)
}

func (d *Drive) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

func (d *Drive) fail(op, name string) error {
	if d.Fail == nil {
		return nil
	}
	return d.Fail(op, name)
}

// Info is drive.Drive's.
func (d *Drive) Info() drive.Info { return d.info }

func (d *Drive) get(op, name string) (stored, error) {
	if err := d.fail(op, name); err != nil {
		return stored{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	b, ok := d.blobs[name]
	if !ok {
		return b, fsapi.Errorf(fsapi.NotExist, "%s: no blob %s", d.info.Name, name)
	}
	return b, nil
}

// ReadAt is drive.Drive's.
func (d *Drive) ReadAt(_ context.Context, name string, off int64, p []byte) (int, error) {
	if d.OnRead != nil {
		d.OnRead(len(p))
	}
	b, err := d.get("ReadAt", name)
	if err != nil {
		return 0, err
	}
	if off >= int64(len(b.data)) {
		return 0, io.EOF
	}
	n := copy(p, b.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Stat is drive.Drive's.
func (d *Drive) Stat(_ context.Context, name string) (drive.Blob, error) {
	b, err := d.get("Stat", name)
	return drive.Blob{Name: name, Size: int64(len(b.data)), Created: b.created}, err
}

// List is drive.Drive's.
func (d *Drive) List(_ context.Context, prefix, after string, fn func(drive.Blob) error) error {
	if err := d.fail("List", prefix); err != nil {
		return err
	}
	for _, n := range d.Names() {
		if !strings.HasPrefix(n, prefix) || n <= after {
			continue
		}
		d.mu.Lock()
		b, ok := d.blobs[n]
		d.mu.Unlock()
		if !ok {
			continue
		}
		if err := fn(drive.Blob{Name: n, Size: int64(len(b.data)), Created: b.created}); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
	return nil
}

// Delete is drive.Drive's.
func (d *Drive) Delete(_ context.Context, name string) error {
	if _, err := d.get("Delete", name); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.blobs, name)
	return nil
}

// Capacity is drive.Drive's.
func (d *Drive) Capacity(context.Context) (drive.Capacity, error) {
	if err := d.fail("Capacity", ""); err != nil {
		return drive.Capacity{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return drive.Capacity{Total: 1 << 41, Avail: d.avail}, nil
}

// Replace is drive.Drive's.
func (d *Drive) Replace(_ context.Context, name string, data []byte) error {
	if err := d.fail("Replace", name); err != nil {
		return err
	}
	d.Put(name, data)
	return nil
}

// Close is drive.Drive's.
func (d *Drive) Close() error { return nil }

// Create is drive.Drive's.
func (d *Drive) Create(_ context.Context, name string, _ int64) (drive.Writer, error) {
	if err := d.fail("Create", name); err != nil {
		return nil, err
	}
	w := &writer{d: d, name: name}
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.spare); n > 0 {
		w.data, d.spare = d.spare[n-1], d.spare[:n-1]
	}
	return w, nil
}

type writer struct {
	d    *Drive
	name string
	data []byte
	done bool
}

func (w *writer) Write(p []byte) (int, error) {
	if err := w.d.fail("Write", w.name); err != nil {
		return 0, err
	}
	w.data = append(w.data, p...)
	return len(p), nil
}

func (w *writer) Commit(context.Context) error {
	if w.done {
		return fsapi.Errorf(fsapi.Invalid, "%s: writer of %s is done", w.d.info.Name, w.name)
	}
	w.done = true
	if err := w.d.fail("Commit", w.name); err != nil {
		return err
	}
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if _, ok := w.d.blobs[w.name]; ok {
		return fsapi.Errorf(fsapi.Exist, "%s: blob %s exists", w.d.info.Name, w.name)
	}
	w.d.blobs[w.name] = stored{w.data, w.d.now()}
	return nil
}

func (w *writer) Abort() { w.done = true }
