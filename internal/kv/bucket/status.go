package bucket

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/object"
)

// Status is what people want to know of an engine.
type Status struct {
	Store    string // URL
	Holder   string
	Epoch    uint64
	Manifest uint64 // number of the newest checkpoint; 0: none yet
	Tables   int    // in it
	// Pending is bytes of batches that are not in the bucket yet, Journal those
	// in it since the newest checkpoint.
	Pending, Journal int64
	// Down is since when the store does not take what is written; zero: it does.
	// Err is why.
	Down time.Time
	Err  error
	// Cached is bytes of tables on the local disk; Hits and Fetched count pages
	// read from there and from the bucket.
	Cached, Hits, Fetched int64
	Requests              object.Requests
}

// Status does no I/O and waits for nothing.
func (e *Engine) Status() Status {
	s := e.s
	st := Status{Store: s.remote.Info().URL, Holder: s.o.Holder, Epoch: s.journal.epoch, Pending: s.queue.size(), Journal: s.journal.size(), Requests: s.remote.Requests()}
	st.Down, st.Err = s.remote.outage.state()
	c := s.chain.counts.Load()
	st.Manifest, st.Tables = c.number, c.tables
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	st.Cached, st.Hits, st.Fetched = s.cache.bytes, s.cache.stats.hits, s.cache.stats.fetched
	return st
}

// Stats implements kv.Engine. Failure is set as soon as it is known, also of an
// engine that nobody writes to.
func (e *Engine) Stats() kv.Stats {
	st := e.Engine.Stats()
	if st.Failure == nil {
		st.Failure = e.s.failure()
	}
	return st
}

// Checkpoint puts everything that is in the journal into tables in the bucket now,
// so that the next start has nothing to replay.
func (e *Engine) Checkpoint(ctx context.Context) error { return e.s.checkpoint(ctx) }

// CheckFence asks the bucket, with one request, whether another writer has taken
// over: fsapi.Fenced. Nil: nobody had when it was called. Concurrent.
func (e *Engine) CheckFence(ctx context.Context) error {
	if err := e.s.failure(); err != nil {
		return err
	}
	if err := e.s.checkFence(ctx); err != nil {
		return err
	}
	return e.s.failure()
}
