package kv

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
)

// Config of the transaction layer.
type Config struct {
	// Last is the newest batch the store holds: the value of StateKey, or zero.
	Last Position
	// Recovered are batches up to Last that a tail may start in: ascending,
	// without gaps, ending at Last; or none.
	Recovered []Batch
	// TailBytes bounds the committed batches kept in memory for tails, for
	// detecting conflicts, and, of a Recoverer, for writing again what is not
	// durable where the log fails: at half of it an Update makes them durable
	// first. It may be passed by the batches of Updates that run at once. 0 is
	// DefaultTailBytes.
	TailBytes int64
	// SlowSync says that Store.Sync may take long, as over a network: who waits
	// for it then never runs it, so that the end of a context ends the wait.
	SlowSync bool
	// Clock stamps batches and waits; nil is clock.Real.
	Clock clock.Clock
	// Rand jitters retries; nil is the runtime's source. Concurrent.
	Rand func(n int64) int64
}

// DefaultTailBytes is the default of Config.TailBytes.
const DefaultTailBytes = 64 << 20

// How Update retries: at once, then after growing jittered pauses, then queued
// behind one ticket so that losers no longer disturb each other, and at last
// with the commit lock held, where nobody can win against it.
const (
	retryPaused    = 2
	retryTicket    = 4
	retryExclusive = 8
	pauseUnit      = 20 * time.Microsecond
)

// largeBatch is the size in bytes from which a transaction's buffer is handed
// to the history instead of being copied.
const largeBatch = 256 << 10

// engine is optimistic concurrency control over a Store.
type engine struct {
	store   Store
	clock   clock.Clock
	rand    func(n int64) int64
	hlc     *clock.HLC
	history *history
	stamps  *stamps
	flushes flushes
	txs     sync.Pool // *tx
	views   sync.Pool // *view

	commits, conflicts, syncs atomic.Int64

	ticket   chan struct{} // holds a token while a loser retries in the queue
	commit   sync.Mutex    // orders commits
	flushing sync.Mutex    // held during Store.Sync and Recover
	recovery recovery

	calls calls
}

var _ Engine = (*engine)(nil)

// NewEngine makes an engine of a store. The engine owns the store.
func NewEngine(s Store, c Config) (Engine, error) {
	if c.TailBytes == 0 {
		c.TailBytes = DefaultTailBytes
	}
	if c.Clock == nil {
		c.Clock = clock.Real
	}
	if c.Rand == nil {
		c.Rand = rand.Int64N
	}
	e := &engine{
		store: s, clock: c.Clock, rand: c.Rand,
		hlc: clock.NewHLC(c.Clock, c.Last.Stamp), stamps: newStamps(),
		ticket: make(chan struct{}, 1), calls: newCalls(), recovery: newRecovery(),
	}
	e.txs.New = func() any { return &tx{view: view{e: e}} }
	e.views.New = func() any { return &view{e: e} }
	e.flushes.flush, e.flushes.detached = e.flush, c.SlowSync
	if err := e.recover(c); err != nil {
		return nil, err
	}
	return e, nil
}

// recover fills the history with batches found in the log.
func (e *engine) recover(c Config) error {
	base := c.Last
	if n := len(c.Recovered); n > 0 {
		base = Position{Seq: c.Recovered[0].Seq - 1}
	}
	_, keep := e.store.(Recoverer)
	e.history = newHistory(c.TailBytes, keep, base)
	for _, b := range c.Recovered {
		if want := e.history.head.Load().Seq + 1; b.Seq != want {
			return fsapi.Errorf(fsapi.Corrupt, "kv: log has batch %d where %d should be", b.Seq, want)
		}
		var enc []byte
		for i := range b.Ops {
			enc = appendOp(enc, &b.Ops[i])
		}
		e.history.publish(newEntry(Position{Seq: b.Seq, Stamp: b.Stamp}, enc))
		e.history.settled(e.history.head.Load())
	}
	if got := e.history.head.Load().Seq; got != c.Last.Seq {
		return fsapi.Errorf(fsapi.Corrupt, "kv: log ends at batch %d but the store holds %d", got, c.Last.Seq)
	}
	return nil
}

// enter begins a call; leave ends it. Between them the store stays open.
func (e *engine) enter() error {
	if !e.calls.enter() {
		return errClosed()
	}
	return nil
}

func (e *engine) leave() { e.calls.leave() }

func errClosed() error { return fsapi.Errorf(fsapi.Closed, "kv: the engine is closed") }

func interrupted(ctx context.Context) error {
	return fsapi.Errorf(fsapi.Interrupted, "kv: %w", context.Cause(ctx))
}

// View implements Engine.
func (e *engine) View(ctx context.Context, fn func(r Reader) error) (err error) {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	v := e.views.Get().(*view)
	defer func() {
		if cerr := v.close(); err == nil {
			err = cerr
		}
		e.views.Put(v)
	}()
	return fn(v)
}

// Update implements Engine.
func (e *engine) Update(ctx context.Context, opts UpdateOptions, fn func(tx Tx) error) (Seq, error) {
	if err := e.enter(); err != nil {
		return 0, err
	}
	defer e.leave()
	seq, err := e.update(ctx, fn)
	if err != nil || seq == 0 || !opts.Sync {
		return seq, err
	}
	return seq, e.sync(ctx, seq)
}

// update runs fn until it commits, with ever more insistence.
func (e *engine) update(ctx context.Context, fn func(tx Tx) error) (Seq, error) {
	t := e.txs.Get().(*tx)
	defer e.release(t)
	ticket := false
	for lost := 0; ; lost++ {
		if ctx.Err() != nil {
			return 0, interrupted(ctx)
		}
		if err := e.failure(); err != nil {
			return 0, err
		}
		if err := e.admit(ctx); err != nil {
			return 0, err
		}
		if lost == retryTicket {
			select {
			case e.ticket <- struct{}{}:
				ticket = true
			case <-ctx.Done():
				return 0, interrupted(ctx)
			}
			defer func() { <-e.ticket }()
		} else if lost >= retryPaused && !ticket {
			if err := e.pause(ctx, lost); err != nil {
				return 0, err
			}
		}
		if lost >= retryExclusive {
			return e.exclusive(t, fn)
		}
		seq, ok, err := e.attempt(t, fn)
		if ok || err != nil {
			return seq, err
		}
		e.conflicts.Add(1)
	}
}

// admit waits while the store is too far behind, and makes durable what has
// become too much to be kept in memory otherwise.
func (e *engine) admit(ctx context.Context) error {
	if err := e.store.Admit(ctx); err != nil {
		return err
	}
	if e.history.keep && e.history.unsettled() > e.history.limit/2 {
		return e.flushes.wait(ctx)
	}
	return nil
}

// release readies t for the next transaction, also where fn panicked.
func (e *engine) release(t *tx) {
	_ = t.close()
	t.reset()
	e.txs.Put(t)
}

// pause waits a random time that grows with the number of lost attempts.
func (e *engine) pause(ctx context.Context, lost int) error {
	d := time.Duration(e.rand(int64(pauseUnit) << lost))
	if d < pauseUnit {
		runtime.Gosched()
		return nil
	}
	select {
	case <-e.clock.After(d):
		return nil
	case <-ctx.Done():
		return interrupted(ctx)
	}
}

// attempt runs fn once; ok says that it committed or had nothing to commit.
func (e *engine) attempt(t *tx, fn func(tx Tx) error) (seq Seq, ok bool, err error) {
	if err := e.run(t, fn); err != nil || len(t.writes.enc) == 0 {
		return 0, err == nil, err
	}
	// Most of the window is compared before the lock is taken.
	head := e.history.head.Load()
	if t.base != nil && !t.reads.validate(e.stamps, t.base, head) {
		return 0, false, nil
	}
	e.commit.Lock()
	defer e.commit.Unlock()
	if t.base != nil && !t.reads.validate(e.stamps, head, e.history.head.Load()) {
		return 0, false, nil
	}
	seq, err = e.commitLocked(t)
	return seq, err == nil, err
}

// exclusive runs fn while nobody else can commit.
func (e *engine) exclusive(t *tx, fn func(tx Tx) error) (Seq, error) {
	e.commit.Lock()
	defer e.commit.Unlock()
	if err := e.run(t, fn); err != nil || len(t.writes.enc) == 0 {
		return 0, err
	}
	return e.commitLocked(t)
}

// run is one execution of fn over a fresh view.
func (e *engine) run(t *tx, fn func(tx Tx) error) error {
	t.reset()
	err := fn(t)
	cerr := t.close()
	switch {
	case err != nil:
		return err
	case t.writes.err != nil:
		return t.writes.err
	}
	return cerr
}

// commitLocked gives the batch its place. REQUIRES: e.commit held.
func (e *engine) commitLocked(t *tx) (Seq, error) {
	if err := e.failure(); err != nil {
		return 0, err
	}
	p := Position{Seq: e.history.head.Load().Seq + 1, Stamp: e.hlc.Next()}
	n := len(t.writes.enc)
	enc := appendState(t.writes.take(), p)
	entry := newEntry(p, enc[:n:n])
	// Marked before it is visible: who reads it will find the mark.
	e.stamps.mark(t.writes.keys, p.Seq)
	if err := e.store.Apply(Commit{Seq: p.Seq, Stamp: p.Stamp, Ops: enc}); err != nil {
		return 0, e.fail(err)
	}
	e.history.publish(entry)
	e.commits.Add(1)
	return p.Seq, nil
}

// Sync implements Engine.
func (e *engine) Sync(ctx context.Context) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	return e.sync(ctx, e.LastSeq())
}

// sync returns when the batches up to seq are durable.
func (e *engine) sync(ctx context.Context, seq Seq) error {
	if e.DurableSeq() >= seq {
		return nil
	}
	return e.flushes.wait(ctx)
}

// flush makes what is committed durable. One at a time.
func (e *engine) flush() error {
	if err := e.failure(); err != nil {
		return err
	}
	e.flushing.Lock()
	defer e.flushing.Unlock()
	if err := e.failure(); err != nil {
		return err
	}
	head := e.history.head.Load()
	if err := e.store.Sync(); err != nil {
		return e.fail(err)
	}
	e.syncs.Add(1)
	e.history.settled(head)
	return nil
}

// LastSeq implements Engine.
func (e *engine) LastSeq() Seq { return e.history.head.Load().Seq }

// DurableSeq implements Engine.
func (e *engine) DurableSeq() Seq { return e.history.durable.Load().Seq }

// Tail implements Engine.
func (e *engine) Tail(from Seq) (Tail, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.leave()
	cur, err := e.history.seek(from)
	if err != nil {
		return nil, err
	}
	t := &tail{h: e.history, cur: cur}
	t.closed, t.close = context.WithCancel(context.Background())
	return t, nil
}

// Stats implements Engine.
func (e *engine) Stats() Stats {
	s := Stats{
		TailBytes: e.history.bytes.Load(), Commits: e.commits.Load(),
		Conflicts: e.conflicts.Load(), Syncs: e.syncs.Load(),
		LogFailures: e.recovery.failures.Load(), Failure: e.failure(),
	}
	if e.enter() == nil {
		defer e.leave()
		st := e.store.Stats()
		s.DiskBytes, s.LogBytes = st.DiskBytes, st.LogBytes
	}
	return s
}

// Close implements Engine. It waits for running calls and open snapshots.
func (e *engine) Close() error {
	e.history.end()
	if !e.calls.close() {
		return nil
	}
	e.flushes.wg.Wait()
	e.recovery.end()
	err := e.flush()
	if err != nil && e.recoverLog() {
		err = nil
	}
	if cerr := e.store.Close(); err == nil {
		err = cerr
	}
	return err
}
