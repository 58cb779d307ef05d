// Package diskcache decorates a slow drive, a bucket or a NAS, with a cache of
// its bytes, as stored, in a directory on a local disk.
//
// It owns: the directory, its format (FORMAT.md), which pages are kept. It must
// not know what is in the blobs.
//
// What is cached is verified before it is used; what does not verify is dropped
// and fetched again, so that a rotten page never makes a good blob look bad. A
// range that is cached is read without asking the drive at all. Reads that must
// see the place itself (drive.Uncached) pass the cache by. Nothing is synced:
// a crash may lose pages and never makes them wrong. Pages of names that are
// deleted, written or replaced through this drive go; what others do to the
// drive is not seen, so only names whose bytes never change (D3) should be
// cached: Options.Cache.
//
// There are no goroutines: who fetches a page writes it to the directory, and
// others who want it meanwhile wait for the fetch. The only lock, Drive.mu, is a
// leaf, and not held during I/O.
package diskcache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// Options of Open. Drive, Dir and Bytes must be set; zero fields of the rest
// take the defaults named.
type Options struct {
	Drive drive.Drive // that is cached; it is closed with the cache
	Dir   string      // made where it is missing; of this cache alone
	Bytes int64       // of the pages' files together; at least maxRun pages
	Page  int         // bytes fetched and kept together; 256 KiB

	// WriteThrough keeps what is written, too.
	WriteThrough bool
	// Cache says which blobs to cache; nil: all.
	Cache func(name string) bool

	FS    osfs.FS      // osfs.OS
	Clock clock.Clock  // clock.Real
	Log   *slog.Logger // discards
}

const (
	defaultPage = 256 << 10
	maxRun      = 16               // pages fetched by one read of the drive
	fullPause   = 30 * time.Second // without writing to a directory that failed
)

// Drive is the drive with its cache. Safe for concurrent use.
type Drive struct {
	drive.Drive
	o     Options
	id    fsapi.DriveID
	lock  io.Closer
	bufs  sync.Pool // of *[]byte, headerLen + Page
	count counters

	closed atomic.Bool
	nonce  atomic.Uint64
	fresh  atomic.Int64 // bytes of pages of blobs that are not committed yet
	paused atomic.Int64 // Unix nanoseconds until which nothing is written

	mu      sync.Mutex
	index   *index          // guarded by mu
	flights map[key]*flight // guarded by mu
	// mutable are the few blobs that were replaced: they are not cached; guarded
	// by mu.
	mutable map[blobKey]bool
}

var (
	_ drive.Drive        = (*Drive)(nil)
	_ drive.BatchDeleter = (*Drive)(nil)
	_ drive.Warmer       = (*Drive)(nil)
	_ drive.Forgetter    = (*Drive)(nil)
)

// Stats are counters since Open, and what is there now.
type Stats struct {
	Hits, HitBytes   uint64 // reads of pages answered from the directory
	Misses           uint64 // pages that were fetched
	Filled           uint64 // bytes written to the directory
	Bad              uint64 // pages that did not verify
	Failures         uint64 // of writing to the directory
	Pages, PageBytes int64
}

type counters struct{ hits, hitBytes, misses, filled, bad, failures atomic.Uint64 }

// Open makes the cache of a drive, with what the directory holds of it. On an
// error the drive stays open. fsapi.Invalid; Busy where another has the
// directory; IO.
func Open(o Options) (*Drive, error) {
	if o.Page == 0 {
		o.Page = defaultPage
	}
	if o.FS == nil {
		o.FS = osfs.OS{}
	}
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Drive == nil || o.Dir == "" || o.Page < 1 || o.Bytes < int64(maxRun*(o.Page+headerLen)) {
		return nil, fsapi.Errorf(fsapi.Invalid, "a disk cache needs a drive, a directory and room for %d pages of %d bytes", maxRun, o.Page)
	}
	d := &Drive{Drive: o.Drive, o: o, id: o.Drive.Info().ID, index: newIndex(o.Bytes, o.Page), flights: make(map[key]*flight), mutable: make(map[blobKey]bool)}
	d.bufs.New = func() any {
		b := make([]byte, headerLen+o.Page)
		return &b
	}
	d.nonce.Store(rand.Uint64())
	if err := d.take(); err != nil {
		return nil, err
	}
	if err := d.load(); err != nil {
		return nil, errors.Join(err, d.lock.Close())
	}
	return d, nil
}

func (d *Drive) failed(what string, err error) error {
	return fsapi.Errorf(fsapi.IO, "disk cache %s of drive %s: %s: %w", d.o.Dir, d.Info().Name, what, err)
}

// take makes the directory and locks it.
func (d *Drive) take() (err error) {
	if err := d.o.FS.MkdirAll(d.pages(), 0o700); err != nil {
		return d.failed("make it", err)
	}
	if d.lock, err = d.o.FS.Lock(path.Join(d.o.Dir, "lock")); err != nil {
		return fsapi.Errorf(fsapi.Busy, "disk cache %s of drive %s is in use by another process: %w", d.o.Dir, d.Info().Name, err)
	}
	return nil
}

func (d *Drive) pages() string           { return path.Join(d.o.Dir, "pages") }
func (d *Drive) identity() string        { return path.Join(d.o.Dir, "identity") }
func (d *Drive) cacheable(n string) bool { return d.o.Cache == nil || d.o.Cache(n) }

// file is where a page lies.
func (d *Drive) file(p *page) string {
	name := p.key.fileName(p.nonce)
	if p.fresh {
		name += freshSuffix
	}
	return path.Join(d.pages(), name[:2], name)
}

// freshSuffix ends the name of a page of a blob that is not committed yet.
const freshSuffix = ".new"

// load finds the pages in the directory by their names and sizes. A directory of
// something else is emptied first.
func (d *Drive) load() error {
	want := fmt.Sprintf("strake-disk-cache 1 %016x %d\n", uint64(d.id), d.o.Page)
	if d.readIdentity() != want {
		if err := d.o.FS.RemoveAll(d.pages()); err != nil {
			return d.failed("empty it", err)
		}
		if err := d.o.FS.MkdirAll(d.pages(), 0o700); err != nil {
			return d.failed("make it", err)
		}
		if err := osfs.ReplaceFile(d.o.FS, d.identity(), []byte(want), 0o600); err != nil {
			return d.failed("write its identity", err)
		}
	}
	dirs, err := d.o.FS.ReadDir(d.pages())
	if err != nil {
		return d.failed("read it", err)
	}
	for _, sub := range dirs {
		names, err := d.o.FS.ReadDir(path.Join(d.pages(), sub))
		if err != nil {
			return d.failed("read it", err)
		}
		for _, name := range names {
			d.found(sub, name)
		}
	}
	return nil
}

func (d *Drive) readIdentity() string {
	f, err := d.o.FS.OpenFile(d.identity(), os.O_RDONLY, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 256)) // what is not whole is not it
	return string(b)
}

// found takes a file in, or removes what is no page.
func (d *Drive) found(sub, name string) {
	full := path.Join(d.pages(), sub, name)
	k, nonce, ok := parseFile(name)
	p := &page{key: k, nonce: nonce}
	st, err := d.o.FS.Stat(full)
	if !ok || err != nil || d.file(p) != full || st.Size() <= headerLen || st.Size() > int64(headerLen+d.o.Page) || d.index.get(k) != nil {
		_ = d.o.FS.RemoveAll(full) // what cannot be removed is looked at again the next time
		return
	}
	p.size = st.Size()
	d.unlinkAll(d.index.add(p, true))
}

// Stats reads the counters.
func (d *Drive) Stats() Stats {
	c := &d.count
	s := Stats{Hits: c.hits.Load(), HitBytes: c.hitBytes.Load(), Misses: c.misses.Load(), Filled: c.filled.Load(), Bad: c.bad.Load(), Failures: c.failures.Load()}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Pages, s.PageBytes = int64(d.index.small.Len()+d.index.main.Len()), d.index.bytes
	return s
}

// Unwrap is the drive below.
func (d *Drive) Unwrap() drive.Drive { return d.Drive }

// Close closes the drive below, too. The pages stay for the next time.
func (d *Drive) Close() error {
	err := d.Drive.Close()
	if d.closed.Swap(true) {
		return err
	}
	return errors.Join(err, d.lock.Close())
}

// unlinkAll removes the files of pages that are out of the index. One that cannot
// be removed is cut off, so that it is no page when the directory is read again.
func (d *Drive) unlinkAll(list []*page) {
	for _, p := range list {
		name := d.file(p)
		if err := d.o.FS.Remove(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		d.count.failures.Add(1)
		if f, err := d.o.FS.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0); err == nil {
			_ = f.Close()
		}
	}
}
