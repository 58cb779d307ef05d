package bucket

import (
	"container/list"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// How much is fetched at a time, in pages: at random, and at most where reads go
// on in sequence.
const (
	fetchPages    = 4
	maxFetchPages = 64
)

// memoryPages is how many verified pages are kept in memory, so that reading a
// page block by block verifies it once.
const memoryPages = 128

// readPause is how long a read that failed is held up, before it says so.
const readPause = time.Second

// cache keeps pages of tables that are in the bucket: on the local disk as the
// bucket has them, sealed, so that what is read from it is verified and what a
// crash or a bad disk left is fetched again.
//
// Locks: mu; cacheFile.mu is never taken with it held.
type cache struct {
	fs      osfs.FS
	dir     string
	limit   int64 // bytes on disk
	remote  *remote
	timeout time.Duration // of one fetch
	clock   clock.Clock
	ctx     context.Context // ends with the engine
	// fenced says, where an object that was there is gone, whether another writer
	// took over, who removes what he does not need; nil: of a follower.
	fenced func(context.Context) error

	mu      sync.Mutex
	files   map[salt]*cacheFile // guarded by mu
	order   list.List           // of *cacheFile, the last used first; guarded by mu
	bytes   int64               // on disk; guarded by mu
	memory  map[pageID]*list.Element
	recent  list.List // of memoryPage, the last used first; guarded by mu
	flights map[pageID]*fetch
	stats   cacheStats
}

// cacheStats count pages. Guarded by cache.mu.
type cacheStats struct{ hits, fetched, bad int64 }

// pageID is a page of a table, or the first of those fetched together.
type pageID struct {
	table salt
	page  int64
}

type memoryPage struct {
	id    pageID
	plain []byte // not to be changed
}

// fetch is a GET on its way.
type fetch struct {
	done  chan struct{} // closed when the rest is set
	first int64
	pages [][]byte
	err   error
}

// cacheFile holds pages of one table, where the object has them.
type cacheFile struct {
	id   salt
	elem *list.Element
	have []uint64 // a bit for each page that counts against the limit; guarded by cache.mu
	size int64    // their bytes; guarded by cache.mu

	mu sync.RWMutex
	f  osfs.File // nil: dropped; guarded by mu
}

func newCache(ctx context.Context, fs osfs.FS, dir string, o *Options, r *remote) *cache {
	return &cache{
		fs: fs, dir: dir, limit: o.DiskBytes, remote: r, timeout: o.ReadTimeout, clock: o.Clock, ctx: ctx,
		files: map[salt]*cacheFile{}, memory: map[pageID]*list.Element{}, flights: map[pageID]*fetch{},
	}
}

// adopt takes over files of tables that are still used, and removes others.
func (c *cache) adopt(entries []tableEntry) error {
	if err := c.fs.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	names, err := c.fs.ReadDir(c.dir)
	if err != nil {
		return err
	}
	used := map[string]salt{}
	for _, e := range entries {
		used[hex.EncodeToString(e.ref.salt[:])] = e.ref.salt
	}
	for _, name := range names {
		id, ok := used[name]
		if !ok {
			if err := c.fs.RemoveAll(path.Join(c.dir, name)); err != nil {
				return err
			}
			continue
		}
		if cf := c.file(id, true); cf != nil { // which of its pages are there is seen when they are read
			c.grow(cf, 0, cf.length())
		}
	}
	return nil
}

// file is the cache file of a table; nil where there is none, and it is not to be
// made or cannot be.
func (c *cache) file(id salt, create bool) *cacheFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cf := c.files[id]; cf != nil {
		c.order.MoveToFront(cf.elem)
		return cf
	}
	if !create {
		return nil
	}
	f, err := c.fs.OpenFile(path.Join(c.dir, hex.EncodeToString(id[:])), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil
	}
	cf := &cacheFile{id: id, f: f}
	cf.elem = c.order.PushFront(cf)
	c.files[id] = cf
	return cf
}

// grow counts the pages of n bytes written to a file and evicts other files
// beyond the limit.
func (c *cache) grow(cf *cacheFile, page, n int64) {
	c.mu.Lock()
	var victims []*cacheFile
	if c.files[cf.id] == cf {
		for p := page; n > 0; p, n = p+1, n-pageLen-tagLen {
			size := min(n, pageLen+tagLen) * cf.set(p)
			cf.size += size
			c.bytes += size
		}
	}
	for c.bytes > c.limit {
		last := c.order.Back().Value.(*cacheFile) //nolint:forcetypeassert // it holds nothing else
		if last == cf {
			break
		}
		c.removeLocked(last)
		victims = append(victims, last)
	}
	c.mu.Unlock()
	for _, v := range victims {
		v.drop(c)
	}
}

// removeLocked takes a file out of the tables. REQUIRES: mu held.
func (c *cache) removeLocked(cf *cacheFile) {
	delete(c.files, cf.id)
	c.order.Remove(cf.elem)
	c.bytes -= cf.size
}

// forget drops what there is of a table that is not used any more.
func (c *cache) forget(id salt) {
	c.mu.Lock()
	cf := c.files[id]
	if cf != nil {
		c.removeLocked(cf)
	}
	c.mu.Unlock()
	if cf != nil {
		cf.drop(c)
	}
}

func (c *cache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, cf := range c.files {
		cf.mu.Lock()
		errs = append(errs, cf.f.Close())
		cf.f = nil
		cf.mu.Unlock()
	}
	clear(c.files)
	return errors.Join(errs...)
}

// drop removes the file. A failure leaves garbage that the next start removes.
func (cf *cacheFile) drop(c *cache) {
	cf.mu.Lock()
	defer cf.mu.Unlock()
	if cf.f == nil {
		return
	}
	_ = cf.f.Close()
	cf.f = nil
	_ = c.fs.Remove(path.Join(c.dir, hex.EncodeToString(cf.id[:])))
}

func (cf *cacheFile) length() int64 {
	cf.mu.RLock()
	defer cf.mu.RUnlock()
	if cf.f == nil {
		return 0
	}
	fi, err := cf.f.Stat()
	if err != nil {
		return 0
	}
	return fi.Size()
}

// read fills p; false where the file does not have that much.
func (cf *cacheFile) read(p []byte, off int64) bool {
	cf.mu.RLock()
	defer cf.mu.RUnlock()
	if cf.f == nil {
		return false
	}
	n, _ := cf.f.ReadAt(p, off)
	return n == len(p)
}

func (cf *cacheFile) write(p []byte, off int64) bool {
	cf.mu.RLock()
	defer cf.mu.RUnlock()
	if cf.f == nil {
		return false
	}
	_, err := cf.f.WriteAt(p, off)
	return err == nil
}

// set notes that a page counts: 1 where it did not before, else 0. REQUIRES:
// cache.mu held.
func (cf *cacheFile) set(p int64) int64 {
	for int64(len(cf.have)) <= p/64 {
		cf.have = append(cf.have, 0)
	}
	if cf.have[p/64]&(1<<(p%64)) != 0 {
		return 0
	}
	cf.have[p/64] |= 1 << (p % 64)
	return 1
}

// keep puts sealed pages of a table, from one on, on the disk. Where the disk
// does not take them, they are fetched again.
func (c *cache) keep(id salt, sealed []byte, page int64) {
	if cf := c.file(id, true); cf != nil && cf.write(sealed, pageAt(page)) {
		c.grow(cf, page, int64(len(sealed)))
	}
}

// inMemory is a verified page.
func (c *cache) inMemory(id pageID) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.memory[id]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(memoryPage).plain //nolint:forcetypeassert // it holds nothing else
}

func (c *cache) remember(id pageID, plain []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.memory[id] != nil {
		return
	}
	c.memory[id] = c.recent.PushFront(memoryPage{id, plain})
	if len(c.memory) > memoryPages {
		last := c.recent.Back()
		delete(c.memory, last.Value.(memoryPage).id) //nolint:forcetypeassert // it holds nothing else
		c.recent.Remove(last)
	}
}

func (c *cache) count(fn func(*cacheStats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn(&c.stats)
}

// flight is the fetch that begins at a page; mine says that the caller makes it.
func (c *cache) flight(id pageID) (fl *fetch, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if fl = c.flights[id]; fl != nil {
		return fl, false
	}
	fl = &fetch{done: make(chan struct{}), first: id.page}
	c.flights[id] = fl
	return fl, true
}

// land ends a fetch.
func (c *cache) land(id pageID, fl *fetch) {
	c.mu.Lock()
	delete(c.flights, id)
	c.mu.Unlock()
	close(fl.done)
}

// get reads bytes of an object, which are there, within the timeout.
func (c *cache) get(key string, p []byte, off int64) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.timeout)
	defer cancel()
	n, _, err := c.remote.Get(ctx, key, off, p)
	switch {
	case n == len(p):
		return nil
	case err == nil, errors.Is(err, io.EOF):
		err = c.remote.named(key, fsapi.Errorf(fsapi.Corrupt, "it ends before byte %d", off+int64(len(p))))
	}
	if c.fenced != nil && errors.Is(err, fsapi.NotExist) {
		if ferr := c.fenced(ctx); errors.Is(ferr, fsapi.Fenced) {
			err = ferr
		}
	}
	// Pebble makes a compaction that failed again at once, for ever: where a store
	// refuses at once, too, they would ask it as fast as they can.
	select {
	case <-c.clock.After(readPause):
	case <-ctx.Done():
	}
	// Not wrapped: Pebble takes "no such file" for the end of the database.
	return fsapi.Errorf(readKind(err), "read metadata that is not cached: %v", err)
}

// readKind is the kind of a failed read: nothing that the layers above would take
// for an answer.
func readKind(err error) fsapi.Kind {
	switch k := fsapi.KindOf(err); k {
	case fsapi.NotExist:
		return fsapi.Corrupt
	case fsapi.TimedOut, fsapi.Interrupted:
		return fsapi.TimedOut
	case fsapi.Corrupt, fsapi.Closed, fsapi.Fenced:
		return k
	}
	return fsapi.IO
}
