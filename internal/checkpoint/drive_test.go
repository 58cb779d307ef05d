package checkpoint

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// fakeDrive is a drive in memory whose calls can fail, and whose every change
// can be watched: durable and atomic, as drives are.
type fakeDrive struct {
	info drive.Info

	mu    sync.Mutex
	blobs map[string][]byte
	fail  func(op, name string) error // nil: nothing fails
	after func(op, name string)       // called after a change, outside mu
	ops   map[string]int
	wrote int64
}

func newDrive(id fsapi.DriveID) *fakeDrive {
	return &fakeDrive{info: drive.Info{ID: id, Name: "d" + id.String()[15:]}, blobs: map[string][]byte{}, ops: map[string]int{}}
}

// clone is a drive with the same blobs and no faults.
func (d *fakeDrive) clone() *fakeDrive {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newDrive(d.info.ID)
	c.blobs = maps.Clone(d.blobs)
	return c
}

func (d *fakeDrive) names(prefix string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []string
	for n := range d.blobs {
		if strings.HasPrefix(n, prefix) {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

func (d *fakeDrive) setFail(fail func(op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = fail
}

func (d *fakeDrive) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, c := range d.ops {
		n += c
	}
	return n
}

func (d *fakeDrive) call(op, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops[op]++
	if d.fail != nil {
		return d.fail(op, name)
	}
	return nil
}

func (d *fakeDrive) changed(op, name string) {
	d.mu.Lock()
	after := d.after
	d.mu.Unlock()
	if after != nil {
		after(op, name)
	}
}

func (d *fakeDrive) get(name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, ok := d.blobs[name]
	if !ok {
		return nil, fsapi.Errorf(fsapi.NotExist, "drive %s: no %s", d.info.Name, name)
	}
	return b, nil
}

func (d *fakeDrive) Info() drive.Info { return d.info }

func (d *fakeDrive) Create(_ context.Context, name string, _ int64) (drive.Writer, error) {
	return &fakeWriter{d: d, name: name}, d.call("create", name)
}

func (d *fakeDrive) ReadAt(_ context.Context, name string, off int64, p []byte) (int, error) {
	if err := d.call("read", name); err != nil {
		return 0, err
	}
	b, err := d.get(name)
	if err != nil {
		return 0, err
	}
	n := copy(p, b[min(off, int64(len(b))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *fakeDrive) Stat(_ context.Context, name string) (drive.Blob, error) {
	if err := d.call("stat", name); err != nil {
		return drive.Blob{}, err
	}
	b, err := d.get(name)
	return drive.Blob{Name: name, Size: int64(len(b))}, err
}

func (d *fakeDrive) List(_ context.Context, prefix, after string, fn func(drive.Blob) error) error {
	if err := d.call("list", prefix); err != nil {
		return err
	}
	for _, n := range d.names(prefix) {
		b, err := d.get(n)
		if err != nil || n <= after {
			continue
		}
		if err := fn(drive.Blob{Name: n, Size: int64(len(b)), Created: time.Time{}}); err != nil {
			return err
		}
	}
	return nil
}

func (d *fakeDrive) Delete(_ context.Context, name string) error {
	if err := d.call("delete", name); err != nil {
		return err
	}
	if _, err := d.get(name); err != nil {
		return err
	}
	d.mu.Lock()
	delete(d.blobs, name)
	d.mu.Unlock()
	d.changed("delete", name)
	return nil
}

func (d *fakeDrive) Capacity(context.Context) (drive.Capacity, error) { return drive.Capacity{}, nil }

func (d *fakeDrive) Replace(_ context.Context, name string, data []byte) error {
	if err := d.call("replace", name); err != nil {
		return err
	}
	d.mu.Lock()
	d.blobs[name] = slices.Clone(data)
	d.mu.Unlock()
	d.changed("replace", name)
	return nil
}

func (d *fakeDrive) Close() error { return nil }

type fakeWriter struct {
	d    *fakeDrive
	name string
	buf  []byte
}

func (w *fakeWriter) Write(p []byte) (int, error) {
	if err := w.d.call("write", w.name); err != nil {
		return 0, err
	}
	w.buf = append(w.buf, p...)
	return len(p), nil
}

func (w *fakeWriter) Commit(context.Context) error {
	if err := w.d.call("commit", w.name); err != nil {
		return err
	}
	w.d.mu.Lock()
	if _, ok := w.d.blobs[w.name]; ok {
		w.d.mu.Unlock()
		return fsapi.Errorf(fsapi.Exist, "drive %s: %s is there", w.d.info.Name, w.name)
	}
	w.d.blobs[w.name] = w.buf
	w.d.wrote += int64(len(w.buf))
	w.d.mu.Unlock()
	w.d.changed("commit", w.name)
	return nil
}

func (w *fakeWriter) Abort() {}

var _ drive.Drive = (*fakeDrive)(nil)

func TestFakeDriveRefusesOverwrite(t *testing.T) {
	d := newDrive(1)
	for i, want := range []bool{true, false} {
		w, err := d.Create(t.Context(), "x", 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(t.Context()); (err == nil) != want {
			t.Errorf("commit %d: %v", i, err)
		}
	}
}
