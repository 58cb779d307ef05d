package pebble

import (
	"cmp"
	"errors"
	"iter"
	"log/slog"
	"math"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// database is one opening of the directory.
type database struct {
	db       *pebble.DB
	guard    *guard
	dir      string
	log      *slog.Logger
	counters *counters // used by apply only
	load     load      // what admit looks at

	applied atomic.Uint64       // seq of the newest batch applied
	shared  atomic.Pointer[pin] // the snapshot that readers share
	rotated atomic.Bool         // a memtable was rotated: let go of shared if it is old

	refs  atomic.Int64  // one until retired, and one for each pin
	old   atomic.Bool   // retired: nothing is to be shared any more
	idle  chan struct{} // closed when refs is 0
	ended chan struct{} // closed when the database is closed
}

// openDatabase opens the database. A database before it, which is frozen, may
// still be read: removing tables waits until its end.
func openDatabase(s *store, before *database) (*database, error) {
	d := &database{
		guard: newGuard(s.fs, s.o.Dir, s.o.Clock), dir: s.o.Dir, log: s.o.Log,
		idle: make(chan struct{}), ended: make(chan struct{}),
	}
	d.guard.holding = before != nil
	d.load.init(s.o)
	d.refs.Store(1)
	po := d.options(s.o, s.cache)
	if s.tune != nil {
		s.tune(po)
	}
	if po.DisableAutomaticCompactions {
		d.load.l0 = math.MaxInt64 // nothing would ever lower it
	}
	var err error
	if d.db, err = pebble.Open(s.o.Dir, po); err != nil {
		err = cmp.Or(d.guard.failure(), err)
		d.guard.clean()
		return nil, openError(d.dir, err)
	}
	d.counters = newCounters(d.db)
	d.guard.opened.Store(true)
	if err := d.guard.failure(); err != nil {
		d.discard()
		d.guard.clean()
		return nil, openError(d.dir, err)
	}
	return d, nil
}

// replay brings a database that was just opened to the newest batch, durably.
func (d *database) replay(missing func(after kv.Seq) iter.Seq2[kv.Commit, error]) (n int, err error) {
	p, err := d.position()
	if err != nil {
		return 0, err
	}
	for c, err := range missing(p.Seq) {
		if err == nil {
			err = d.apply(c)
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, d.sync()
}

// position is that of the newest batch in the database.
func (d *database) position() (p kv.Position, err error) {
	v, closer, err := d.db.Get(kv.StateKey())
	if errors.Is(err, pebble.ErrNotFound) {
		return p, nil
	}
	if err != nil {
		return p, readError(err)
	}
	defer closer.Close()
	if v, _, err = decodeValue(v); err != nil {
		return p, err
	}
	return kv.DecodePosition(v)
}

// maxRetained is the largest buffer in bytes that Pebble keeps for reuse in a
// batch: one that a journal frame fits in.
const maxRetained = 2 << 20

// apply is kv.Store.Apply. Where the log fails under a batch that is visible
// already, it is the next call that says so: the batch has its place.
func (d *database) apply(c kv.Commit) error {
	if err := d.guard.failure(); err != nil {
		return err
	}
	b := d.newBatch(len(c.Ops) + 64)
	defer func() { _ = b.Close() }() // gives its memory back
	if err := d.counters.fill(b, c.Ops); err != nil {
		return err
	}
	if d.rotated.Load() && d.rotated.CompareAndSwap(true, false) {
		d.unshare()
	}
	if err := d.db.Apply(b, pebble.NoSync); err != nil {
		return err
	}
	d.applied.Store(uint64(c.Seq))
	return nil
}

func (d *database) newBatch(size int) *pebble.Batch {
	if size < maxRetained/4 {
		return d.db.NewBatchWithSize(size)
	}
	return d.db.NewBatch(pebble.WithInitialSizeBytes(size), pebble.WithMaxRetainedSizeBytes(maxRetained))
}

// sync is kv.Store.Sync: an empty record that is waited for. What was applied
// before it is before it in the log.
func (d *database) sync() error {
	if err := d.guard.failure(); err != nil {
		return err
	}
	if err := d.db.LogData(nil, pebble.Sync); err != nil {
		return err
	}
	return d.guard.failure()
}

// acquire takes a reference, unless the last is gone.
func (d *database) acquire() bool {
	for {
		n := d.refs.Load()
		if n == 0 {
			return false
		}
		if d.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (d *database) release() {
	if d.refs.Add(-1) == 0 {
		close(d.idle)
	}
}

// retire lets the database end with its last reader.
func (d *database) retire() {
	d.old.Store(true)
	d.unshare()
	d.release()
}

// close ends a retired database when nobody reads it any more.
func (d *database) close() error {
	<-d.idle
	failed := d.guard.failure()
	d.guard.close()
	err := d.db.Close()
	close(d.ended)
	if failed != nil {
		return failed
	}
	return fsapi.Wrap(fsapi.IO, err, "kv: close "+d.dir)
}

// discard ends a database that nobody has seen.
func (d *database) discard() {
	d.guard.freeze()
	d.retire()
	_ = d.close() // what matters is known already
}
