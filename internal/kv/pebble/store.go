package pebble

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// store is kv.Store over one database.
type store struct {
	db    *pebble.DB
	guard *guard
	dir   string
	log   *slog.Logger

	counters *counters // used by Apply only

	applied atomic.Uint64           // seq of the newest batch applied
	shared  atomic.Pointer[pin]     // the snapshot that readers share
	rotated atomic.Bool             // a memtable was rotated: let go of shared if it is old
	readers sync.Pool               // *reader
	load    load                    // what Admit looks at
	limits  struct{ mem, l0 int64 } // from which writers wait: bytes of memtables, sublevels of level 0
}

func newStore(o Options, fs vfs.FS) *store {
	s := &store{guard: newGuard(fs, o.Clock), dir: o.Dir, log: o.Log}
	s.limits.mem, s.limits.l0 = memTables*o.MemTableBytes, maxSublevels
	s.readers.New = func() any { return &reader{} }
	s.load.stale.Store(true)
	return s
}

// maxRetained is the largest buffer in bytes that Pebble keeps for reuse in a
// batch: one that a journal frame fits in.
const maxRetained = 2 << 20

// Apply implements kv.Store.
func (s *store) Apply(c kv.Commit) error {
	if err := s.guard.failure(); err != nil {
		return err
	}
	b := s.newBatch(len(c.Ops) + 64)
	defer b.Close()
	if err := s.counters.fill(b, c.Ops); err != nil {
		return err
	}
	if s.rotated.Load() && s.rotated.CompareAndSwap(true, false) {
		s.unshare()
	}
	if err := s.db.Apply(b, pebble.NoSync); err != nil {
		return err
	}
	s.applied.Store(uint64(c.Seq))
	return s.guard.failure()
}

func (s *store) newBatch(size int) *pebble.Batch {
	if size < maxRetained/4 {
		return s.db.NewBatchWithSize(size)
	}
	return s.db.NewBatch(pebble.WithInitialSizeBytes(size), pebble.WithMaxRetainedSizeBytes(maxRetained))
}

// Sync implements kv.Store: an empty record that is waited for. What was
// applied before it is before it in the log.
func (s *store) Sync() error {
	if err := s.guard.failure(); err != nil {
		return err
	}
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		return err
	}
	return s.guard.failure()
}

// Close implements kv.Store.
func (s *store) Close() error {
	s.unshare()
	failed := s.guard.failure()
	s.guard.close()
	err := s.db.Close()
	if failed != nil {
		return failed
	}
	return fsapi.Wrap(fsapi.IO, err, "kv: close "+s.dir)
}

// flushPatience is how many flushes fail, one after another, before writers
// that wait for memory are told so. A failed flush takes at least tableRetry.
const flushPatience = 5

// load is what decides whether writers must wait: how many bytes of memtables
// there are and how many sublevels level 0 has. It is read anew after an event
// that may have changed it.
//
// Locks: reading, then Pebble's, then mu.
type load struct {
	stale atomic.Bool // an event came since it was read
	high  atomic.Bool // as it was read, writers must wait

	reading sync.Mutex // held while it is read and judged

	mu       sync.Mutex
	changed  chan struct{} // closed at the next event; nil while nobody waits; guarded by mu
	flushErr error         // of the last flush; guarded by mu
	failures int           // flushes that failed one after another; guarded by mu
}

// pressure is nil where writers may go on, or a channel that is closed when it
// is worth asking again, or the reason why the memtables do not drain.
func (s *store) pressure() (<-chan struct{}, error) {
	l := &s.load
	if !l.stale.Load() && !l.high.Load() {
		return nil, nil
	}
	l.reading.Lock()
	defer l.reading.Unlock()
	for l.stale.CompareAndSwap(true, false) {
		m := s.db.Metrics()
		l.high.Store(int64(m.MemTable.Size) > s.limits.mem || int64(m.Levels[0].Sublevels) > s.limits.l0)
	}
	if !l.high.Load() {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.flushErr; l.failures >= flushPatience {
		return nil, fsapi.Wrap(errKind(err), err, "kv: memory is full and cannot be written to "+s.dir)
	}
	if l.changed == nil {
		c := make(chan struct{})
		if l.stale.Load() { // an event came since it was read: ask again at once
			close(c)
			return c, nil
		}
		l.changed = c
	}
	return l.changed, nil
}

// event wakes those who wait for a change of the load. Called with Pebble's
// locks held.
func (s *store) event(flush bool, err error) {
	s.load.mu.Lock()
	defer s.load.mu.Unlock()
	if flush {
		s.load.flushErr = err
		s.load.failures++
	}
	if flush && err == nil {
		s.load.failures = 0
	}
	s.load.stale.Store(true)
	if s.load.changed != nil {
		close(s.load.changed)
		s.load.changed = nil
	}
}

// listener takes the events that change the load, and errors.
func (s *store) listener() *pebble.EventListener {
	return &pebble.EventListener{
		WALCreated: func(pebble.WALCreateInfo) {
			s.rotated.Store(true)
			s.event(false, nil)
		},
		FlushBegin:    func(pebble.FlushInfo) { s.rotated.Store(true) }, // where there is no log
		FlushEnd:      func(i pebble.FlushInfo) { s.event(true, i.Err) },
		CompactionEnd: func(pebble.CompactionInfo) { s.event(false, nil) },
		BackgroundError: func(err error) {
			if s.guard.failure() == nil {
				s.log.Warn("metadata store: background work failed and is tried again", "dir", s.dir, "err", err.Error())
			}
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			s.log.Error("metadata store: corrupt file", "dir", s.dir, "path", i.Path, "err", i.Details.Error())
		},
		DiskSlow: func(i vfs.DiskSlowInfo) {
			s.log.Warn("metadata store: slow disk", "dir", s.dir, "op", i.String())
		},
	}
}
