package dir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// dropMin is the shortest read that Options.DropCache applies to, in bytes.
const dropMin = 1 << 20

// ReadAt implements drive.Drive.
func (d *Drive) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	if err := d.enterBlob(ctx, "read", name); err != nil {
		return 0, err
	}
	defer d.leave()
	if off < 0 {
		return 0, fsapi.Errorf(fsapi.Invalid, "drive %s: read %s: offset %d", d.label(), name, off)
	}
	h, err := d.handles.acquire(name, func() (osfs.File, error) { return d.openBlob(name) })
	if err != nil {
		return 0, d.fail(err, "read", name)
	}
	defer d.handles.release(h)
	n, err := h.file.ReadAt(p, off)
	if d.opts.DropCache && n >= dropMin {
		_ = h.file.DropCache(off, int64(n)) // a hint
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, d.fail(err, "read", name)
	}
	return n, err
}

// openBlob opens a committed blob.
func (d *Drive) openBlob(name string) (osfs.File, error) {
	if d.hidden(name) {
		return nil, fs.ErrNotExist
	}
	f, err := d.fs.OpenFile(d.file(name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// hidden says whether a blob's name is there but not known to be durable.
func (d *Drive) hidden(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.commits[name]
	return c != nil && c.hidden || d.lost[name]
}

// Stat implements drive.Drive.
func (d *Drive) Stat(ctx context.Context, name string) (drive.Blob, error) {
	if err := d.enterBlob(ctx, "stat", name); err != nil {
		return drive.Blob{}, err
	}
	defer d.leave()
	info, err := d.statBlob(name)
	if err == nil && info.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return drive.Blob{}, d.fail(err, "stat", name)
	}
	return blobOf(name, info), nil
}

func (d *Drive) statBlob(name string) (fs.FileInfo, error) {
	if d.hidden(name) {
		return nil, fs.ErrNotExist
	}
	return d.fs.Stat(d.file(name))
}

// blobOf describes a blob; its file never changes after it was written.
func blobOf(name string, info fs.FileInfo) drive.Blob {
	return drive.Blob{Name: name, Size: info.Size(), Created: info.ModTime()}
}

// List implements drive.Drive. It holds the names of one directory of each
// level at a time.
func (d *Drive) List(ctx context.Context, prefix, after string, fn func(drive.Blob) error) error {
	if err := d.enter(ctx, "list", prefix); err != nil {
		return err
	}
	defer d.leave()
	if err := d.here("list", prefix); err != nil {
		return err
	}
	l := lister{d: d, ctx: ctx, prefix: prefix, after: after, fn: fn}
	err := l.walk("")
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// lister is one List.
type lister struct {
	d             *Drive
	ctx           context.Context
	prefix, after string
	fn            func(drive.Blob) error
}

// entry is a file, or a directory with a slash after its name, which is where
// the names in it sort.
type entry struct {
	name string
	info fs.FileInfo
}

// walk lists the directory whose blobs' names start with base.
func (l *lister) walk(base string) error {
	entries, err := l.entries(base)
	if err != nil {
		return l.d.fail(err, "list", base)
	}
	for _, e := range entries {
		if err := l.ctx.Err(); err != nil {
			return l.d.fail(err, "list", base)
		}
		if e.info.IsDir() {
			err = l.walk(e.name)
		} else {
			err = l.fn(blobOf(e.name, e.info))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entries is what is wanted of a directory, in order.
func (l *lister) entries(base string) ([]entry, error) {
	names, err := l.d.fs.ReadDir(path.Join(l.d.opts.Path, base))
	if errors.Is(err, fs.ErrNotExist) && base != "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, name := range names {
		name = base + name
		if drive.CheckName(name) != nil || !l.wanted(name) && !l.wanted(name+"/") {
			continue
		}
		info, err := l.d.statBlob(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			name += "/"
		}
		if l.wanted(name) {
			entries = append(entries, entry{name, info})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}

// wanted says whether a file, or something in a directory, may be listed.
func (l *lister) wanted(name string) bool {
	if strings.HasSuffix(name, "/") {
		return (strings.HasPrefix(name, l.prefix) || strings.HasPrefix(l.prefix, name)) &&
			(name > l.after || strings.HasPrefix(l.after, name))
	}
	return strings.HasPrefix(name, l.prefix) && name > l.after
}

// Delete implements drive.Drive.
func (d *Drive) Delete(ctx context.Context, name string) error {
	if err := d.enterWrite(ctx, "delete", name); err != nil {
		return err
	}
	defer d.leave()
	if err := d.ours(ctx, 0, "delete", name); err != nil {
		return err
	}
	err := d.remove(name)
	if err == nil {
		err = d.fs.SyncDir(path.Dir(d.file(name)))
	}
	if err != nil {
		return d.fail(err, "delete", name)
	}
	return nil
}

// remove removes a blob, not durably yet.
func (d *Drive) remove(name string) error {
	info, err := d.statBlob(name)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return fs.ErrNotExist
	}
	err = d.fs.Remove(d.file(name))
	d.handles.forget(name)
	return err
}

// DeleteMany implements drive.BatchDeleter: each directory is synced once.
func (d *Drive) DeleteMany(ctx context.Context, names []string) error {
	if err := d.writable("delete", "many"); err != nil {
		return err
	}
	if err := d.enter(ctx, "delete", "many"); err != nil {
		return err
	}
	defer d.leave()
	if err := d.ours(ctx, 0, "delete", "many"); err != nil {
		return err
	}
	dirs := map[string]struct{}{}
	for _, name := range names {
		if err := drive.CheckName(name); err != nil {
			return fsapi.Wrap(fsapi.Invalid, err, "drive "+d.label()+": delete")
		}
		if err := ctx.Err(); err != nil {
			return d.fail(err, "delete", name)
		}
		err := d.remove(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return d.fail(err, "delete", name)
		}
		if err == nil {
			dirs[path.Dir(d.file(name))] = struct{}{}
		}
	}
	for dir := range dirs {
		if err := d.fs.SyncDir(dir); err != nil {
			return d.fail(err, "delete", "many")
		}
	}
	return nil
}
