package pebble

import (
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
)

// guard stands between Pebble and the files. Errors on tables, which Pebble
// survives, pass (slowed down, for it tries again at once). The first error on
// anything else freezes the directory: nothing is changed any more, and Pebble
// is told that all went well. While Pebble opens the directory, where it would
// try for ever with nobody to tell, the first error on a table freezes it too,
// and further tables go into memory.
type guard struct {
	vfs.FS
	dir    string
	clock  clock.Clock
	frozen chan struct{} // closed when frozen
	closed chan struct{} // closed when the database closes
	opened atomic.Bool   // Open is through: what waits now waits in a goroutine of Pebble's

	flushes, compactions retry // of tables that could not be written

	mu      sync.Mutex
	err     error         // why it is frozen
	running int           // changes under way
	still   chan struct{} // closed when none is any more; nil: nobody waits
	holding bool          // tables are not removed yet: a database before this one may read them
	held    []string      // and those that were to be
	made    []string      // files that opening made
	listed  []string      // the names in dir as they were last read
	aside   *vfs.MemFS    // tables made when frozen while opening; nil: none
}

var _ vfs.FS = (*guard)(nil)

// tableRetry is how long a failed write of a table is slowed down. From the
// flushPatience-th failure in a row on it doubles up to maxTableRetry: each attempt
// may write as much as a disk that is nearly full still takes, and wears it.
const (
	tableRetry    = 100 * time.Millisecond
	maxTableRetry = 5 * time.Second
)

// retry counts failures in a row of one kind of work.
type retry struct{ failures atomic.Int32 }

// wait is how long to wait after one more failure.
func (r *retry) wait() time.Duration {
	n := r.failures.Add(1) - flushPatience
	return min(tableRetry<<min(max(n, 0), 10), maxTableRetry)
}

// categoryFlush is what Pebble says of the tables of a flush.
const categoryFlush vfs.DiskWriteCategory = "pebble-memtable-flush"

// wrote says that a flush, or a compaction, went well.
func (g *guard) wrote(flush bool) { g.retry(flush).failures.Store(0) }

func (g *guard) retry(flush bool) *retry {
	if flush {
		return &g.flushes
	}
	return &g.compactions
}

func newGuard(fs vfs.FS, dir string, c clock.Clock) *guard {
	return &guard{FS: fs, dir: dir, clock: c, frozen: make(chan struct{}), closed: make(chan struct{})}
}

// failure is why the guard is frozen, or nil.
func (g *guard) failure() error {
	select {
	case <-g.frozen:
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.err
	default:
		return nil
	}
}

// fail freezes, unless frozen.
func (g *guard) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = fsapi.Wrap(errKind(err), err, "kv: write the log")
		close(g.frozen)
	}
}

// freeze is fail that waits for changes under way, so that what is then in the
// directory belongs to the next database.
func (g *guard) freeze() {
	g.fail(fsapi.Errorf(fsapi.IO, "kv: the database in %s is being replaced", g.dir))
	g.mu.Lock()
	if g.running > 0 && g.still == nil {
		g.still = make(chan struct{})
	}
	still := g.still
	g.mu.Unlock()
	if still != nil {
		<-still
	}
}

// begin starts a change, unless frozen.
func (g *guard) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return false
	}
	g.running++
	return true
}

// end is said after each begin.
func (g *guard) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.running == 0 && g.still != nil {
		close(g.still)
		g.still = nil
	}
}

// close lets go of what waits because of a failure.
func (g *guard) close() { close(g.closed) }

// isTable says whether Pebble survives errors on a file: tables and blobs.
func isTable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// change makes one change to the directory, or none once frozen.
func (g *guard) change(name string, c vfs.DiskWriteCategory, fn func() error) error {
	if !g.begin() {
		return g.vanish(name)
	}
	err := fn()
	g.end()
	switch {
	case err == nil:
		return nil
	case isTable(name) && g.opened.Load():
		g.slow(g.retry(c == categoryFlush).wait())
		return err
	}
	g.fail(err)
	if isTable(name) {
		return err
	}
	return nil
}

// vanish is a change to a frozen directory. Pebble waits with a new table until
// the store closes, lest it try for ever; then it fails.
func (g *guard) vanish(name string) error {
	if !isTable(name) {
		return nil
	}
	if g.opened.Load() {
		<-g.closed
	}
	return g.failure()
}

// slow waits before Pebble is told that a table could not be written.
func (g *guard) slow(wait time.Duration) {
	select {
	case <-g.clock.After(wait):
	case <-g.closed:
	}
}

// create makes a file; a frozen guard makes one that goes nowhere.
func (g *guard) create(name string, c vfs.DiskWriteCategory, fn func() (vfs.File, error)) (vfs.File, error) {
	if f, err := g.createAside(name); f != nil || err != nil {
		return f, err
	}
	var f vfs.File
	err := g.change(name, c, func() (err error) { f, err = fn(); return err })
	if err != nil {
		return nil, err
	}
	return &guardedFile{File: f, g: g, name: name, category: c}, nil
}

// Create implements vfs.FS.
func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.create(name, c, func() (vfs.File, error) {
		g.note(name)
		return g.FS.Create(name, c)
	})
}

// OpenReadWrite implements vfs.FS.
func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return g.create(name, c, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, o...) })
}

// ReuseForWrite implements vfs.FS.
func (g *guard) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.create(to, c, func() (vfs.File, error) { return g.FS.ReuseForWrite(from, to, c) })
}

// OpenDir implements vfs.FS.
func (g *guard) OpenDir(name string) (vfs.File, error) {
	return g.create(name, vfs.WriteCategoryUnspecified, func() (vfs.File, error) { return g.FS.OpenDir(name) })
}

// Link implements vfs.FS.
func (g *guard) Link(from, to string) error {
	return g.change(to, vfs.WriteCategoryUnspecified, func() error { return g.FS.Link(from, to) })
}

// Remove implements vfs.FS. That a file is not there is an answer; any other
// failure to remove leaves garbage, which the next Open removes.
func (g *guard) Remove(name string) error {
	if g.hold(name) || !g.begin() {
		return nil
	}
	defer g.end()
	return g.FS.Remove(name)
}

// RemoveAll implements vfs.FS.
func (g *guard) RemoveAll(name string) error {
	if !g.begin() {
		return nil
	}
	defer g.end()
	return g.FS.RemoveAll(name)
}

// Rename implements vfs.FS.
func (g *guard) Rename(from, to string) error {
	return g.change(to, vfs.WriteCategoryUnspecified, func() error {
		g.note(to)
		return g.FS.Rename(from, to)
	})
}

// MkdirAll implements vfs.FS.
func (g *guard) MkdirAll(name string, perm os.FileMode) error {
	return g.change(name, vfs.WriteCategoryUnspecified, func() error { return g.FS.MkdirAll(name, perm) })
}

// Unwrap implements vfs.FS.
func (g *guard) Unwrap() vfs.FS { return g.FS }

// guardedFile is a file open for writing. File is nil where it goes nowhere.
type guardedFile struct {
	vfs.File
	g        *guard
	name     string
	category vfs.DiskWriteCategory
}

var _ vfs.File = (*guardedFile)(nil)

// Write implements vfs.File.
func (f *guardedFile) Write(p []byte) (int, error) {
	err := f.g.change(f.name, f.category, func() error {
		n, err := f.File.Write(p)
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteAt implements vfs.File.
func (f *guardedFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.g.change(f.name, f.category, func() error { _, err := f.File.WriteAt(p, off); return err })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Sync implements vfs.File.
func (f *guardedFile) Sync() error {
	return f.g.change(f.name, f.category, func() error { return f.File.Sync() })
}

// SyncData implements vfs.File.
func (f *guardedFile) SyncData() error {
	return f.g.change(f.name, f.category, func() error { return f.File.SyncData() })
}

// SyncTo implements vfs.File.
func (f *guardedFile) SyncTo(n int64) (full bool, err error) {
	err = f.g.change(f.name, f.category, func() (err error) { full, err = f.File.SyncTo(n); return err })
	return full, err
}

// Preallocate implements vfs.File; it is a hint.
func (f *guardedFile) Preallocate(off, n int64) error {
	if f.File != nil && f.g.begin() {
		_ = f.File.Preallocate(off, n)
		f.g.end()
	}
	return nil
}

// Close implements vfs.File.
func (f *guardedFile) Close() error {
	if f.File == nil {
		return nil
	}
	err := f.File.Close()
	if err == nil || isTable(f.name) {
		return err
	}
	f.g.fail(err)
	return nil
}

// Fd implements vfs.File.
func (f *guardedFile) Fd() uintptr {
	if f.File == nil {
		return vfs.InvalidFd
	}
	return f.File.Fd()
}

// Stat implements vfs.File. Pebble panics where it cannot look at a log that it
// uses again.
func (f *guardedFile) Stat() (vfs.FileInfo, error) {
	if f.File == nil {
		return nowhere{}, nil
	}
	info, err := f.File.Stat()
	if err == nil || isTable(f.name) {
		return info, err
	}
	f.g.fail(err)
	return nowhere{}, nil
}

// nowhere describes a file that goes nowhere.
type nowhere struct{}

var _ vfs.FileInfo = nowhere{}

func (nowhere) Name() string           { return "nowhere" }
func (nowhere) Size() int64            { return 0 }
func (nowhere) Mode() os.FileMode      { return 0 }
func (nowhere) ModTime() time.Time     { return time.Time{} }
func (nowhere) IsDir() bool            { return false }
func (nowhere) Sys() any               { return nil }
func (nowhere) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
