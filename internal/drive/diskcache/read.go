package diskcache

import (
	"context"
	"errors"
	"io"
	"os"
	"path"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// flight is a page being fetched.
type flight struct {
	done chan struct{}
	data []byte // after done; shorter than a page, or empty, at the blob's end
	err  error  // after done
	// gaveUp: err is that of a reader who did not wait; after done.
	gaveUp bool
	// doomed: the blob was deleted or written since; guarded by Drive.mu.
	doomed bool
}

// ReadAt implements drive.Drive.
func (d *Drive) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	if off < 0 || len(p) == 0 || ctx.Err() != nil || d.closed.Load() || off+int64(len(p)) > int64(d.o.Page)<<32 || drive.IsUncached(ctx) || !d.cacheable(name) {
		return d.Drive.ReadAt(ctx, name, off, p)
	}
	blob := keyOf(name)
	if d.isMutable(blob) {
		return d.Drive.ReadAt(ctx, name, off, p)
	}
	n, err := d.readPages(ctx, blob, name, off, p)
	if d.isMutable(blob) { // it became so meanwhile: the pages may be of two blobs
		return d.Drive.ReadAt(ctx, name, off, p)
	}
	return n, err
}

func (d *Drive) isMutable(b blobKey) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mutable[b]
}

func (d *Drive) readPages(ctx context.Context, blob blobKey, name string, off int64, p []byte) (n int, err error) {
	for n < len(p) {
		at := off + int64(n)
		in := int(at % int64(d.o.Page))
		want := p[n:min(len(p), n+d.o.Page-in)]
		k := key{blob, uint32(at / int64(d.o.Page))}
		got, ok := d.hit(k, name, in, want)
		if !ok {
			if got, err = d.miss(ctx, k, name, in, p[n:], false); err != nil {
				return n + got, err
			}
			n += got
			continue
		}
		if n += got; got < len(want) {
			return n, io.EOF
		}
	}
	return n, nil
}

// hit reads from a page that is there; false where none is that verifies.
func (d *Drive) hit(k key, name string, in int, p []byte) (int, bool) {
	d.mu.Lock()
	pg := d.index.get(k)
	if pg != nil {
		pg.touch(in, in+len(p))
	}
	d.mu.Unlock()
	if pg == nil {
		return 0, false
	}
	buf := d.bufs.Get().(*[]byte)
	defer d.bufs.Put(buf)
	data, err := d.readPage(pg, name, *buf)
	if err != nil {
		d.drop(pg, err)
		return 0, false
	}
	n := 0
	if in < len(data) {
		n = copy(p, data[in:])
	}
	d.count.hits.Add(1)
	d.count.hitBytes.Add(uint64(n))
	return n, true
}

// readPage reads and verifies a page's file.
func (d *Drive) readPage(p *page, name string, buf []byte) ([]byte, error) {
	f, err := d.o.FS.OpenFile(d.file(p), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	n, err := f.ReadAt(buf, 0)
	_ = f.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return open(buf[:n], d.id, name, p.key.page)
}

// drop takes out a page that is not what it should be.
func (d *Drive) drop(pg *page, why error) {
	d.mu.Lock()
	there := d.index.get(pg.key) == pg
	if there {
		d.index.remove(pg)
	}
	d.mu.Unlock()
	if !there {
		return // it went while it was read
	}
	d.count.bad.Add(1)
	d.o.Log.Warn("a page of a disk cache is bad; it is fetched again", "drive", d.Info().Name, "page", d.file(pg), "err", why)
	d.unlinkAll([]*page{pg})
}

// miss reads from page k on, from in within it, by fetching pages that are not
// there, as many as p needs in one run; it may read less than p and no error.
func (d *Drive) miss(ctx context.Context, k key, name string, in int, p []byte, keep bool) (int, error) {
	run, other := d.begin(k, in+len(p))
	if other != nil {
		return d.share(ctx, other, in, p)
	}
	if len(run) == 0 {
		return 0, nil // it came meanwhile
	}
	buf := make([]byte, len(run)*d.o.Page)
	n, err := d.Drive.ReadAt(ctx, name, int64(k.page)*int64(d.o.Page), buf)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	buf = buf[:n]
	for i, f := range run {
		f.err, f.gaveUp = err, err != nil && ctx.Err() != nil
		f.data = buf[min(n, i*d.o.Page):min(n, (i+1)*d.o.Page)]
		close(f.done)
	}
	d.count.misses.Add(uint64(len(run)))
	seen := in + len(p)
	for i, f := range run {
		d.end(key{k.blob, k.page + uint32(i)}, name, f, max(0, min(seen-i*d.o.Page, d.o.Page)), keep)
	}
	if err != nil {
		return 0, err
	}
	return part(buf, in, p, len(run)*d.o.Page)
}

// part copies from data, which is short of size bytes only at the blob's end.
func part(data []byte, in int, p []byte, size int) (int, error) {
	n := 0
	if in < len(data) {
		n = copy(p, data[in:])
	}
	if n < len(p) && len(data) < size {
		return n, io.EOF
	}
	return n, nil
}

// begin starts fetching a page and those after it, up to n bytes, that are
// neither there nor being fetched; other is who fetches the first one already. A
// flight of a blob that was deleted or written since is no one else's: it may bring
// what there was before.
func (d *Drive) begin(k key, n int) (run []*flight, other *flight) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if other = d.flights[k]; other != nil && !other.doomed {
		return nil, other
	}
	for i := 0; i < maxRun && i*d.o.Page < n; i++ {
		next := key{k.blob, k.page + uint32(i)}
		if there := d.flights[next]; there != nil && !there.doomed || d.index.get(next) != nil {
			break
		}
		f := &flight{done: make(chan struct{})}
		d.flights[next] = f
		run = append(run, f)
	}
	return run, nil
}

// share waits for another's fetch. One that failed because its reader gave up
// says nothing: 0 bytes, to try again.
func (d *Drive) share(ctx context.Context, f *flight, in int, p []byte) (int, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		return 0, fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "read from drive "+d.Info().Name)
	}
	switch {
	case f.gaveUp:
		return 0, nil
	case f.err != nil:
		return 0, f.err
	}
	return part(f.data, in, p[:min(len(p), d.o.Page-in)], d.o.Page)
}

// end keeps what was fetched, and lets others look for it there. seen is how much
// of the page was wanted.
func (d *Drive) end(k key, name string, f *flight, seen int, keep bool) {
	var p *page
	if f.err == nil && len(f.data) > 0 {
		p = d.write(k, name, f.data, false)
	}
	var out []*page
	d.mu.Lock()
	if d.flights[k] == f {
		delete(d.flights, k)
	}
	switch {
	case p == nil:
	case f.doomed || d.mutable[k.blob]:
		out = []*page{p}
	default:
		p.seen = uint32(seen)
		out = d.index.add(p, keep)
	}
	d.mu.Unlock()
	d.unlinkAll(out)
}

// write writes a page's file; nil where it could not be: the directory is left
// alone then for a while.
func (d *Drive) write(k key, name string, data []byte, fresh bool) *page {
	if d.o.Clock.Now().UnixNano() < d.paused.Load() {
		return nil
	}
	b := seal(d.id, name, k.page, data)
	p := &page{key: k, nonce: d.nonce.Add(1), fresh: fresh, size: int64(len(b))}
	err := d.writeFile(d.file(p), b)
	if err == nil {
		d.count.filled.Add(uint64(len(b)))
		return p
	}
	d.count.failures.Add(1)
	d.paused.Store(d.o.Clock.Now().Add(fullPause).UnixNano())
	d.o.Log.Warn("a disk cache cannot be written; it is left as it is for a while", "drive", d.Info().Name, "dir", d.o.Dir, "err", err)
	d.unlinkAll([]*page{p})
	return nil
}

func (d *Drive) writeFile(name string, b []byte) error {
	f, err := d.o.FS.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		if err = d.o.FS.MkdirAll(path.Dir(name), 0o700); err == nil {
			f, err = d.o.FS.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// Warm implements drive.Warmer.
func (d *Drive) Warm(ctx context.Context, name string) (int64, error) {
	if !d.cacheable(name) {
		return 0, nil
	}
	st, err := d.Stat(ctx, name)
	if err != nil {
		return 0, err
	}
	var fetched int64
	blob, scratch := keyOf(name), make([]byte, maxRun*d.o.Page)
	for off := int64(0); off < st.Size; {
		k := key{blob, uint32(off / int64(d.o.Page))}
		if d.has(k) {
			off += int64(d.o.Page)
			continue
		}
		n, err := d.miss(ctx, k, name, 0, scratch[:min(int64(len(scratch)), st.Size-off)], true)
		fetched += int64(n)
		if err != nil && !errors.Is(err, io.EOF) {
			return fetched, err
		}
		off += int64(n)
		if err != nil {
			return fetched, nil
		}
	}
	return fetched, nil
}

// has reports whether a page is there, and makes it likelier to stay.
func (d *Drive) has(k key) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.index.get(k)
	if p == nil {
		return false
	}
	p.again = max(p.again, 1)
	return true
}
