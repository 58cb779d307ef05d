package bucket

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/object"
)

// store is kv.Store: tables, with the journal and the checkpoints in the bucket.
type store struct {
	*pebble.Tables
	o      Options
	remote *remote
	cache  *cache
	tier   *tier
	log    *slog.Logger

	ctx        context.Context // ends when Close has waited long enough
	cancel     context.CancelFunc
	background sync.WaitGroup
	bg         context.Context // of the background, within ctx
	stop       context.CancelFunc
	wake       chan struct{} // there may be enough for a checkpoint
	spill      chan struct{} // there is enough in the queue for the journal, whoever syncs
	unlock     func() error
	lease      *leased // nil: the store keeps conditions

	failed atomic.Pointer[error] // another writer took over, or the bucket is corrupt

	applying sync.Mutex // held while a batch is applied, until it is in the queue
	queue    queue
	journal  journal
	chain    chain

	lastClaim atomic.Int64 // Unix nanoseconds of the last write that only the lawful writer can make
}

var _ kv.Store = (*store)(nil)

// queue holds batches that are applied but not in the bucket.
type queue struct {
	mu     sync.Mutex
	pieces []piece       // guarded by mu
	bytes  int64         // of pieces, and of the one on its way; guarded by mu
	room   chan struct{} // closed when there are fewer bytes; nil while nobody waits; guarded by mu
}

// piece is what becomes one journal object.
type piece struct {
	data []byte // encoded batches
	last kv.Position
}

// add says how many bytes there are now.
func (q *queue) add(c kv.Commit, objectBytes int64) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.pieces)
	if n == 0 || int64(len(q.pieces[n-1].data)+len(c.Ops)) > objectBytes {
		q.pieces = append(q.pieces, piece{})
		n++
	}
	p := &q.pieces[n-1]
	before := len(p.data)
	p.data = kv.AppendCommit(p.data, c)
	p.last = kv.Position{Seq: c.Seq, Stamp: c.Stamp}
	q.bytes += int64(len(p.data) - before)
	return q.bytes
}

// take is the oldest piece; ok is false where there is none.
func (q *queue) take() (p piece, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pieces) == 0 {
		return p, false
	}
	p = q.pieces[0]
	q.pieces[0] = piece{}
	q.pieces = q.pieces[1:]
	return p, true
}

func (q *queue) done(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= n
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// full is a channel to wait on, or nil where there is room.
func (q *queue) full(limit int64) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes < limit {
		return nil
	}
	if q.room == nil {
		q.room = make(chan struct{})
	}
	return q.room
}

func (q *queue) size() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// failure is why this store never writes again, or nil.
func (s *store) failure() error {
	if p := s.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// fail ends writing, with its first error, and returns that.
func (s *store) fail(err error) error {
	if s.failed.CompareAndSwap(nil, &err) {
		s.log.Error("metadata in the bucket: this process writes no more", "store", s.remote.Info().URL, "err", err)
		s.queue.done(0) // who waits for room learns it from Apply
	}
	return *s.failed.Load()
}

// Apply implements kv.Store.
func (s *store) Apply(c kv.Commit) error {
	if err := s.failure(); err != nil {
		return err
	}
	pending, err := s.apply(c)
	if err != nil {
		return err
	}
	if pending >= min(s.o.ObjectBytes, s.o.PendingBytes) {
		select {
		case s.spill <- struct{}{}:
		default:
		}
	}
	return nil
}

// apply says how many bytes are in the queue then.
func (s *store) apply(c kv.Commit) (pending int64, err error) {
	s.applying.Lock()
	defer s.applying.Unlock()
	if err := s.Tables.Apply(c); err != nil {
		return 0, err
	}
	return s.queue.add(c, s.o.ObjectBytes), nil
}

// drainAll puts what is applied into the journal.
func (s *store) drainAll(ctx context.Context) error {
	s.applying.Lock() // a batch that is in the tables is in the queue, too
	seq := s.Applied()
	s.applying.Unlock()
	return s.drain(ctx, seq)
}

// spills brings what is enough for an object into the journal, though nobody waits
// for it, until the end.
func (s *store) spills() {
	for {
		select {
		case <-s.spill:
			if err := s.drainAll(s.bg); err != nil && s.failure() != nil {
				return
			}
		case <-s.bg.Done():
			return
		}
	}
}

// Admit implements kv.Store. A store that failed admits nothing: what a writer that
// was replaced reads may be gone, and says less than that it was.
func (s *store) Admit(ctx context.Context) error {
	for {
		if err := s.failure(); err != nil {
			return err
		}
		room := s.queue.full(s.o.PendingBytes)
		if room == nil {
			break
		}
		select {
		case <-room:
		case <-s.ctx.Done():
			return fsapi.Errorf(fsapi.Closed, "kv: the engine is closed")
		case <-ctx.Done():
			return s.interrupted(ctx)
		}
	}
	return s.Tables.Admit(ctx)
}

func (s *store) interrupted(ctx context.Context) error {
	since, err := s.remote.outage.state()
	if err == nil {
		return fsapi.Errorf(fsapi.Interrupted, "kv: waiting for %s: %w", s.remote.Info().URL, context.Cause(ctx))
	}
	return fsapi.Errorf(fsapi.Interrupted, "kv: %s takes no writes since %s: %w (%v)",
		s.remote.Info().URL, since.Format(time.RFC3339), context.Cause(ctx), err)
}

// Stats implements kv.Store.
func (s *store) Stats() kv.Stats {
	st := s.Tables.Stats()
	st.LogBytes = s.journal.size()
	return st
}

// Sync implements kv.Store: everything in the queue goes to the journal.
func (s *store) Sync() error { return s.drainAll(s.ctx) }

// Close implements kv.Store. The engine has synced before, unless it failed.
func (s *store) Close() error {
	s.stop()
	s.background.Wait()
	if s.failure() == nil && s.ctx.Err() == nil {
		s.lastCheckpoint()
	}
	s.cancel()
	return s.shut()
}

// chain is the head, and the manifest it names.
type chain struct {
	mu      sync.Mutex     // held during a checkpoint
	version object.Version // guarded by mu
	head    head           // guarded by mu
	now     manifest       // guarded by mu
	unsure  *attempt       // a head that may count, or may yet; guarded by mu
	orphans bool           // objects of earlier writers were looked for; guarded by mu

	counts atomic.Pointer[counted] // of now, for reading without mu
}

// counted is what Status says of a manifest.
type counted struct {
	number uint64
	tables int
}

// count makes m the manifest that counts. REQUIRES: mu held.
func (c *chain) count(m manifest) {
	c.now = m
	c.counts.Store(&counted{m.number, len(m.tables)})
}

// attempt is an object on its way: until it is known what became of it, nothing
// else takes its place.
type attempt struct {
	key  string
	body []byte
	cond object.Condition

	head     head      // of a head
	manifest *manifest // of a head: what it names; nil where that does not change
	piece    piece     // of a journal object
}
