package bucket

import (
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// tier is Pebble's directory: small files are in memory, for they are in each
// manifest, and Pebble does not survive a disk that takes them no more; new tables are
// on the local disk, other tables in the bucket, of which pages are cached.
//
// Locks: mu, then table.mu.
type tier struct {
	vfs.FS // of small files
	disk   vfs.FS
	cache  *cache

	mu     sync.Mutex
	tables map[string]*table // by base name; guarded by mu
	linked []*table          // what a checkpoint has linked so far; guarded by mu
}

var _ vfs.FS = (*tier)(nil)

func newTier(small, disk vfs.FS, c *cache, entries []tableEntry) *tier {
	f := &tier{FS: small, disk: disk, cache: c, tables: map[string]*table{}}
	for _, e := range entries {
		f.tables[e.name] = &table{name: e.name, size: e.size, remote: c.open(e.ref, e.size)}
	}
	return f
}

// isTable says of a name whether it is one of those that are kept in the bucket.
func isTable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

func (f *tier) find(name string) *table {
	if !isTable(name) {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tables[path.Base(name)]
}

// Create implements vfs.FS.
func (f *tier) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !isTable(name) {
		return f.FS.Create(name, c)
	}
	file, err := f.disk.Create(name, c)
	if err != nil {
		return nil, err
	}
	t := &table{name: path.Base(name), path: name, fs: f.disk}
	f.mu.Lock()
	f.tables[t.name] = t
	f.mu.Unlock()
	return &newTable{File: file, t: t}, nil
}

// Open implements vfs.FS.
func (f *tier) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if !isTable(name) {
		return f.FS.Open(name, opts...)
	}
	t := f.find(name)
	if t == nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	return tableFile{t: t}, nil
}

// Remove implements vfs.FS. The object of a table stays: what it is good for is
// decided with the next manifest.
func (f *tier) Remove(name string) error {
	if !isTable(name) {
		return f.FS.Remove(name)
	}
	f.mu.Lock()
	t := f.tables[path.Base(name)]
	delete(f.tables, path.Base(name))
	f.mu.Unlock()
	if t == nil {
		return &os.PathError{Op: "remove", Path: name, Err: os.ErrNotExist}
	}
	return t.remove()
}

// Link implements vfs.FS: a checkpoint takes a table.
func (f *tier) Link(from, to string) error {
	if !isTable(from) {
		return f.FS.Link(from, to)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tables[path.Base(from)]
	if t == nil {
		return &os.PathError{Op: "link", Path: from, Err: os.ErrNotExist}
	}
	t.pin()
	f.linked = append(f.linked, t)
	return nil
}

// take returns what was linked, which the caller unpins.
func (f *tier) take() []*table {
	f.mu.Lock()
	defer f.mu.Unlock()
	linked := f.linked
	f.linked = nil
	return linked
}

// List implements vfs.FS.
func (f *tier) List(dir string) ([]string, error) {
	names, err := f.FS.List(dir)
	if err != nil {
		return nil, err
	}
	local := names[:0]
	for _, name := range names {
		if !isTable(name) {
			local = append(local, name)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.tables {
		local = append(local, name)
	}
	return local, nil
}

// Stat implements vfs.FS.
func (f *tier) Stat(name string) (vfs.FileInfo, error) {
	if !isTable(name) {
		return f.FS.Stat(name)
	}
	t := f.find(name)
	if t == nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: os.ErrNotExist}
	}
	return t.info()
}

// Unwrap implements vfs.FS.
func (f *tier) Unwrap() vfs.FS { return f.FS }

// close lets go of files.
func (f *tier) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, t := range f.tables {
		errs = append(errs, t.close())
	}
	return errors.Join(errs...)
}

// table is one of Pebble's tables: bytes that do not change.
type table struct {
	name string
	path string // of the local file, where there is one
	fs   vfs.FS // of path

	mu     sync.RWMutex
	size   int64        // bytes; 0 while it is written; guarded by mu
	plain  vfs.File     // the local file, for reading; nil: there is none; guarded by mu
	remote *remoteTable // nil: not in the bucket yet; guarded by mu
	pins   int          // checkpoints that need it; guarded by mu
	gone   bool         // Pebble removed it; guarded by mu
}

// finish makes a table that was written readable.
func (t *table) finish() error {
	f, err := t.fs.Open(t.path, vfs.RandomReadsOption)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plain, t.size = f, fi.Size()
	return nil
}

func (t *table) readAt(p []byte, off int64) (int, error) {
	t.mu.RLock()
	if t.plain != nil {
		defer t.mu.RUnlock()
		return t.plain.ReadAt(p, off)
	}
	r := t.remote
	t.mu.RUnlock()
	if r == nil {
		return 0, &os.PathError{Op: "read", Path: t.name, Err: os.ErrClosed}
	}
	return r.readAt(p, off)
}

// uploaded notes the object that holds the table, and drops the local file.
func (t *table) uploaded(r *remoteTable) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remote = r
	if t.gone { // the rest is done by unpin
		return nil
	}
	return t.dropLocked()
}

// object is where the table is in the bucket; ok is false where it is not.
func (t *table) object() (e tableEntry, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.remote == nil {
		return e, false
	}
	return tableEntry{t.name, t.size, t.remote.ref}, true
}

// dropLocked removes the local file. REQUIRES: mu held.
func (t *table) dropLocked() error {
	if t.plain == nil {
		return nil
	}
	err := t.plain.Close()
	t.plain = nil
	return errors.Join(err, t.fs.Remove(t.path))
}

func (t *table) pin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pins++
}

func (t *table) unpin() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pins--
	return t.freeLocked()
}

func (t *table) remove() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone = true
	return t.freeLocked()
}

// freeLocked drops the bytes that nobody needs. REQUIRES: mu held.
func (t *table) freeLocked() error {
	if !t.gone || t.pins > 0 {
		return nil
	}
	if t.remote != nil {
		t.remote.forget()
	}
	if t.plain == nil && t.remote == nil { // not finished
		return t.fs.Remove(t.path)
	}
	return t.dropLocked()
}

func (t *table) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.plain == nil {
		return nil
	}
	return t.plain.Close()
}

func (t *table) info() (vfs.FileInfo, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return tableInfo{t.name, t.size}, nil
}

// newTable is a table being written.
type newTable struct {
	vfs.File
	t *table
}

// Close implements vfs.File.
func (f *newTable) Close() error { return errors.Join(f.File.Close(), f.t.finish()) }

// tableFile is a table open for reading.
type tableFile struct {
	vfs.File // nil: a table is neither written nor read from a position
	t        *table
}

// Close implements vfs.File.
func (f tableFile) Close() error { return nil }

// Read implements vfs.File; Pebble reads tables at offsets.
func (f tableFile) Read([]byte) (int, error) {
	return 0, &os.PathError{Op: "read", Path: f.t.name, Err: errors.ErrUnsupported}
}

// ReadAt implements vfs.File.
func (f tableFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.t.readAt(p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// Stat implements vfs.File.
func (f tableFile) Stat() (vfs.FileInfo, error) { return f.t.info() }

// Prefetch implements vfs.File; reads in sequence fetch more at a time.
func (f tableFile) Prefetch(int64, int64) error { return nil }

// Fd implements vfs.File.
func (f tableFile) Fd() uintptr { return vfs.InvalidFd }

// Sync implements vfs.File.
func (f tableFile) Sync() error { return nil }

// tableInfo is what Stat says of a table.
type tableInfo struct {
	name string
	size int64
}

func (i tableInfo) Name() string           { return i.name }
func (i tableInfo) Size() int64            { return i.size }
func (i tableInfo) Mode() os.FileMode      { return 0o400 }
func (i tableInfo) ModTime() time.Time     { return time.Time{} }
func (i tableInfo) IsDir() bool            { return false }
func (i tableInfo) Sys() any               { return nil }
func (i tableInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
