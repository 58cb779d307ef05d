package diskcache

import (
	"context"

	"github.com/strakefs/strake/internal/drive"
)

// Forget implements drive.Forgetter: the pages of a blob go, and those that are
// being fetched are not kept.
func (d *Drive) Forget(name string) {
	b := keyOf(name)
	d.mu.Lock()
	for k, f := range d.flights {
		if k.blob == b {
			f.doomed = true
		}
	}
	out := d.index.blob(b)
	d.mu.Unlock()
	d.unlinkAll(out)
}

// Delete implements drive.Drive.
func (d *Drive) Delete(ctx context.Context, name string) error {
	err := d.Drive.Delete(ctx, name)
	d.Forget(name) // after an error it may be gone, too
	return err
}

// DeleteMany implements drive.BatchDeleter.
func (d *Drive) DeleteMany(ctx context.Context, names []string) error {
	err := drive.DeleteMany(ctx, d.Drive, names)
	for _, name := range names {
		d.Forget(name)
	}
	return err
}

// Replace implements drive.Drive. What it sets is not cached from then on.
func (d *Drive) Replace(ctx context.Context, name string, data []byte) error {
	d.mu.Lock()
	d.mutable[keyOf(name)] = true // before it is: see ReadAt
	d.mu.Unlock()
	d.Forget(name)
	return d.Drive.Replace(ctx, name, data)
}

// Create implements drive.Drive.
func (d *Drive) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	w, err := d.Drive.Create(ctx, name, size)
	if err != nil {
		return nil, err
	}
	return &writer{Writer: w, d: d, name: name, keep: d.o.WriteThrough && d.cacheable(name)}, nil
}

// writer writes a blob, and its pages beside it where they are to be kept.
type writer struct {
	drive.Writer
	d    *Drive
	name string
	keep bool
	next uint32 // number of the page that is being gathered
	part []byte // of it
	made []*page
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		w.drop()
	}
	for rest := p[:n]; w.keep && len(rest) > 0; {
		take := min(len(rest), w.d.o.Page-len(w.part))
		w.part = append(w.part, rest[:take]...)
		rest = rest[take:]
		if len(w.part) == w.d.o.Page {
			w.page()
		}
	}
	return n, err
}

// page writes what was gathered. After one that could not be written the rest is
// not kept either; nor is anything of a blob that would take too much of the
// directory before it is known to be.
func (w *writer) page() {
	p := w.d.write(key{keyOf(w.name), w.next}, w.name, w.part, true)
	w.next++
	w.part = w.part[:0]
	if w.keep = p != nil; !w.keep {
		return
	}
	w.made = append(w.made, p)
	if w.d.fresh.Add(p.size) > w.d.o.Bytes/2 {
		w.drop()
	}
}

// release gives back the room of pages that are not fresh any more.
func (d *Drive) release(made []*page) {
	for _, p := range made {
		d.fresh.Add(-p.size)
	}
}

// Commit implements drive.Writer.
func (w *writer) Commit(ctx context.Context) error {
	if w.keep && len(w.part) > 0 {
		w.page()
	}
	err := w.Writer.Commit(ctx)
	if err != nil {
		w.drop()
		return err
	}
	w.d.release(w.made)
	w.d.replaced(w.name, w.made)
	w.made, w.keep, w.part = nil, false, nil
	return nil
}

// replaced puts pages in the place of what there was of a blob before it was
// written.
func (d *Drive) replaced(name string, made []*page) {
	d.Forget(name)
	var out []*page
	for _, p := range made {
		from := d.file(p)
		p.fresh = false
		if err := d.o.FS.Rename(from, d.file(p)); err != nil {
			d.count.failures.Add(1)
			p.fresh = true
			out = append(out, p)
			continue
		}
		d.mu.Lock()
		if d.mutable[p.key.blob] {
			out = append(out, p)
		} else {
			out = append(out, d.index.add(p, false)...)
		}
		d.mu.Unlock()
	}
	d.unlinkAll(out)
}

// Abort implements drive.Writer.
func (w *writer) Abort() {
	w.drop()
	w.Writer.Abort()
}

// drop gives up the pages of a blob that is not to be.
func (w *writer) drop() {
	w.d.release(w.made)
	w.d.unlinkAll(w.made)
	w.made, w.keep, w.part = nil, false, nil
}
