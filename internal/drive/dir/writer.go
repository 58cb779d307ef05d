package dir

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// directMin is the size in bytes from which O_DIRECT is worth its truncation at
// the end.
const directMin = 128 << 10

// writer writes a blob into a temporary file. While one buffer is being filled
// the other is being written.
type writer struct {
	d      *Drive
	name   string // of the blob
	temp   string
	direct bool

	mu   sync.Mutex // uncontended, but for Close of the drive
	file osfs.File  // nil: done
	buf  []byte
	n    int   // bytes in buf
	off  int64 // bytes handed over to be written
	// reserved is bytes preallocated, which may exceed what is written.
	reserved int64
	flight   chan flushed // what comes back from the buffer being written; nil: none
	err      error        // first failure
}

// flushed is a buffer that has been written.
type flushed struct {
	buf []byte
	err error
}

// Create implements drive.Drive.
func (d *Drive) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	if err := d.enterWrite(ctx, "create", name); err != nil {
		return nil, err
	}
	defer d.leave()
	if err := d.checkSpace(name, size); err != nil {
		return nil, err
	}
	if err := d.touch(); err != nil {
		return nil, d.fail(notBlobs(err), "create", name)
	}
	w := &writer{d: d, name: name, temp: d.tempName(), direct: d.direct && (size == 0 || size >= directMin)}
	if err := w.open(size); err != nil {
		return nil, d.fail(notBlobs(err), "create", name)
	}
	w.buf = d.buffer(size)
	d.mu.Lock()
	d.writers[w] = struct{}{}
	d.mu.Unlock()
	return w, nil
}

// notBlobs keeps a missing directory of the drive's own from being taken for a
// missing blob.
func notBlobs(err error) error {
	if kindOf(err) == fsapi.NotExist {
		return fsapi.Wrap(fsapi.IO, err, "the drive's own directory is missing")
	}
	return err
}

func (d *Drive) checkSpace(name string, size int64) error {
	c, err := d.capacity()
	if err != nil {
		return err
	}
	if c.Avail == 0 || size > c.Avail {
		return fsapi.Errorf(fsapi.NoSpace, "drive %s: create %s: %d bytes wanted, %d left above the reserve of %d",
			d.label(), name, size, c.Avail, d.opts.Reserve)
	}
	return nil
}

// open makes the temporary file and reserves its space.
func (w *writer) open(size int64) error {
	flag := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if w.direct {
		flag |= osfs.DirectIO
	}
	f, err := w.d.fs.OpenFile(w.temp, flag, 0o600)
	if err != nil {
		return err
	}
	if size > 0 {
		w.reserved = size
		err = f.Preallocate(0, size)
	}
	if err != nil {
		return errors.Join(err, f.Close(), w.d.fs.Remove(w.temp))
	}
	w.file = f
	return nil
}

// buffer takes a free buffer, or makes one no longer than the blob needs.
func (d *Drive) buffer(size int64) []byte {
	if size > 0 && size < int64(d.opts.Buffer) {
		return osfs.DirectBuffer(int(size))
	}
	select {
	case b := <-d.buffers:
		return b
	default:
		return osfs.DirectBuffer(d.opts.Buffer)
	}
}

// free gives a buffer back.
func (d *Drive) free(b []byte) {
	if len(b) != d.opts.Buffer {
		return
	}
	select {
	case d.buffers <- b:
	default:
	}
}

// Write implements drive.Writer. It copies p.
func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return 0, w.done("write")
	}
	total := len(p)
	for len(p) > 0 && w.err == nil {
		k := copy(w.buf[w.n:], p)
		w.n += k
		p = p[k:]
		if w.n == len(w.buf) {
			w.flush()
		}
	}
	if w.err != nil {
		return 0, w.d.fail(notBlobs(w.err), "write", w.name)
	}
	return total, nil
}

func (w *writer) done(verb string) error {
	return fsapi.Errorf(fsapi.Closed, "drive %s: %s %s: the writer is done", w.d.label(), verb, w.name)
}

// flush hands the buffer over to be written and takes another.
func (w *writer) flush() {
	w.land()
	full, n, off := w.buf, w.n, w.off
	w.buf, w.n, w.off = nil, 0, off+int64(n)
	flight := make(chan flushed, 1)
	w.flight = flight
	go func() { flight <- flushed{full, w.writeOut(full[:n], off)} }()
	w.buf = w.d.buffer(0)
}

// land waits for the buffer that is being written.
func (w *writer) land() {
	if w.flight == nil {
		return
	}
	back := <-w.flight
	w.flight = nil
	w.d.free(back.buf)
	w.err = errors.Join(w.err, back.err)
}

// writeOut writes at off, padded with zeros where O_DIRECT wants that; p has
// room for them.
func (w *writer) writeOut(p []byte, off int64) error {
	if w.direct {
		n := len(p)
		p = p[:roundUp(n)]
		clear(p[n:])
		_, err := w.file.WriteAt(p, off)
		return err
	}
	if _, err := w.file.WriteAt(p, off); err != nil {
		return err
	}
	return w.file.SyncRange(off, int64(len(p)))
}

// Commit implements drive.Writer.
func (w *writer) Commit(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return w.done("commit")
	}
	if err := w.d.enter(ctx, "commit", w.name); err != nil {
		w.drop()
		return err
	}
	defer w.d.leave()
	if err := w.finish(); err != nil {
		w.drop()
		return w.d.fail(notBlobs(err), "write", w.name)
	}
	err := w.d.ours(ctx, claimAge, "commit", w.name)
	if err == nil {
		err = w.d.publish(ctx, w.temp, w.name)
	}
	w.drop()
	return err
}

// finish makes the temporary file's bytes durable.
func (w *writer) finish() error {
	w.land()
	if w.err != nil {
		return w.err
	}
	size := w.off + int64(w.n)
	if w.n > 0 {
		if err := w.writeOut(w.buf[:w.n], w.off); err != nil {
			return err
		}
	}
	padded := w.direct && size%osfs.DirectAlign != 0
	if padded || size < w.reserved {
		if err := w.file.Truncate(size); err != nil {
			return err
		}
	}
	if err := w.file.SyncData(); err != nil {
		return err
	}
	if w.d.opts.DropCache && !w.direct {
		_ = w.file.DropCache(0, size) // a hint
	}
	return nil
}

// Abort implements drive.Writer.
func (w *writer) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil {
		w.drop()
	}
}

// drop ends the writer: the temporary file goes, under that name. Open removes
// one that cannot be removed now.
func (w *writer) drop() {
	w.land()
	w.d.free(w.buf)
	w.file.Close() // synced already, or not wanted
	w.file, w.buf = nil, nil
	_ = w.d.fs.Remove(w.temp)
	w.d.mu.Lock()
	delete(w.d.writers, w)
	w.d.mu.Unlock()
}
