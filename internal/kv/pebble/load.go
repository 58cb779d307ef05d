package pebble

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strakefs/strake/internal/fsapi"
)

// flushPatience is how many flushes fail, one after another, before writers
// that wait for memory are told so, and from which on attempts become rarer.
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

	mem, l0 int64 // from which writers wait: bytes of memtables, sublevels of level 0
}

// memTables is how many memtables may wait before Update is held up: the one
// written, one being flushed, one more.
const memTables = 3

// maxSublevels is the read amplification of level 0 at which Update is held up,
// where compactions lower it.
const maxSublevels = 24

func (l *load) init(o Options) {
	l.mem, l.l0 = memTables*o.MemTableBytes, maxSublevels
	l.stale.Store(true)
}

// admit is kv.Store.Admit.
func (d *database) admit(ctx context.Context) error {
	for {
		changed, err := d.pressure()
		if err != nil && d.guard.failure() != nil {
			return nil // apply says why: only then is the log begun anew
		}
		if changed == nil || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-d.guard.frozen:
			return nil // apply says why
		case <-ctx.Done():
			return fsapi.Errorf(fsapi.Interrupted, "kv: waiting for the disk: %w", context.Cause(ctx))
		}
	}
}

// pressure is nil where writers may go on, or a channel that is closed when it
// is worth asking again, or the reason why the memtables do not drain.
func (d *database) pressure() (<-chan struct{}, error) {
	l := &d.load
	if !l.stale.Load() && !l.high.Load() {
		return nil, nil
	}
	if !d.acquire() { // another has taken its place
		return nil, nil
	}
	defer d.release()
	l.reading.Lock()
	defer l.reading.Unlock()
	for l.stale.CompareAndSwap(true, false) {
		m := d.db.Metrics()
		l.high.Store(int64(m.MemTable.Size) > l.mem || int64(m.Levels[0].Sublevels) > l.l0)
	}
	if !l.high.Load() {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.flushErr; l.failures >= flushPatience {
		return nil, fsapi.Wrap(errKind(err), err, "kv: memory is full and cannot be written to "+d.dir)
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
func (d *database) event(flush bool, err error) {
	d.load.mu.Lock()
	defer d.load.mu.Unlock()
	if flush {
		d.load.flushErr = err
		d.load.failures++
	}
	if flush && err == nil {
		d.load.failures = 0
	}
	d.load.stale.Store(true)
	if d.load.changed != nil {
		close(d.load.changed)
		d.load.changed = nil
	}
}

// listener takes the events that change the load, and errors.
func (d *database) listener() *pebble.EventListener {
	return &pebble.EventListener{
		WALCreated: func(pebble.WALCreateInfo) {
			d.rotated.Store(true)
			d.event(false, nil)
		},
		FlushBegin: func(pebble.FlushInfo) { d.rotated.Store(true) }, // where there is no log
		FlushEnd: func(i pebble.FlushInfo) {
			if i.Err == nil {
				d.guard.wrote(true)
			}
			d.event(true, i.Err)
		},
		CompactionEnd: func(i pebble.CompactionInfo) {
			if i.Err == nil {
				d.guard.wrote(false)
			}
			d.event(false, nil)
		},
		BackgroundError: func(err error) {
			if d.guard.failure() == nil {
				d.log.Warn("metadata store: background work failed and is tried again", "dir", d.dir, "err", err.Error())
			}
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			d.log.Error("metadata store: corrupt file", "dir", d.dir, "path", i.Path, "err", i.Details.Error())
		},
		DiskSlow: func(i vfs.DiskSlowInfo) {
			d.log.Warn("metadata store: slow disk", "dir", d.dir, "op", i.String())
		},
	}
}
