package pebble

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// store is kv.Store over the database in a directory.
type store struct {
	o     Options
	fs    vfs.FS
	tune  func(*pebble.Options) // changes the options of the database; nil: none
	lock  io.Closer
	cache *pebble.Cache // of every opening

	cur     atomic.Pointer[database]
	readers sync.Pool // *reader
}

var _ kv.Store = (*store)(nil)

// newStore locks the directory. Close it.
func newStore(o Options, fs vfs.FS) (*store, error) {
	lock, err := lockDir(o.Dir, fs)
	if err != nil {
		return nil, err
	}
	// Pebble takes what memtables occupy out of the cache.
	s := &store{o: o, fs: fs, lock: lock, cache: pebble.NewCache(o.CacheBytes + memTables*o.MemTableBytes)}
	s.readers.New = func() any { return &reader{} }
	return s, nil
}

// open opens the directory for the first time.
func (s *store) open() error {
	d, err := openDatabase(s, nil)
	if err != nil {
		return err
	}
	s.cur.Store(d)
	return nil
}

// Apply implements kv.Store.
func (s *store) Apply(c kv.Commit) error { return s.cur.Load().apply(c) }

// Sync implements kv.Store.
func (s *store) Sync() error { return s.cur.Load().sync() }

// Admit implements kv.Store.
func (s *store) Admit(ctx context.Context) error { return s.cur.Load().admit(ctx) }

// Stats implements kv.Store.
func (s *store) Stats() kv.Stats {
	d := s.cur.Load()
	for !d.acquire() { // another has taken its place
		d = s.cur.Load()
	}
	defer d.release()
	m := d.db.Metrics()
	return kv.Stats{DiskBytes: int64(m.DiskSpaceUsage()), LogBytes: int64(m.WAL.Size)}
}

// Close implements kv.Store.
func (s *store) Close() error {
	var err error
	if d := s.cur.Load(); d != nil {
		d.retire()
		err = d.close()
	}
	s.cache.Unref()
	return errors.Join(err, fsapi.Wrap(fsapi.IO, s.lock.Close(), "kv: unlock "+s.o.Dir))
}
