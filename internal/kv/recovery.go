package kv

import (
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Pauses between attempts to begin a log anew. The first attempt comes at once:
// an error may have been a single one.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// recovery is what an engine knows of its log's failure.
type recovery struct {
	cause    atomic.Pointer[error] // why Updates are refused; nil: they are not
	failures atomic.Int64          // times the log failed

	stop    chan struct{}  // closed when the engine ends
	running sync.WaitGroup // the goroutine that tries

	mu    sync.Mutex
	ended bool // none is started any more; guarded by mu
}

func newRecovery() recovery { return recovery{stop: make(chan struct{})} }

// start runs try in a goroutine, unless the engine ends.
func (r *recovery) start(try func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.running.Go(try)
	}
}

// end lets no further attempt begin and waits for a running one.
func (r *recovery) end() {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	close(r.stop)
	r.running.Wait()
}

// failure is why the engine refuses to write, or nil.
func (e *engine) failure() error {
	if p := e.recovery.cause.Load(); p != nil {
		return *p
	}
	return nil
}

// fail closes the engine for writing until its log is begun anew, and returns
// what it tells everyone. REQUIRES e.commit or e.flushing.
func (e *engine) fail(err error) error {
	err = fsapi.Wrap(failureKind(err), err, "kv: the log cannot be written")
	if !e.recovery.cause.CompareAndSwap(nil, &err) {
		return e.failure()
	}
	e.recovery.failures.Add(1)
	if _, ok := e.store.(Recoverer); ok && !final(err) {
		e.recovery.start(e.keepRecovering)
	}
	return err
}

func failureKind(err error) fsapi.Kind {
	if k := fsapi.KindOf(err); k != fsapi.Other {
		return k
	}
	return fsapi.IO
}

// final says that nothing is to be done about an error here.
func final(err error) bool { return fsapi.KindOf(err) == fsapi.Fenced }

// keepRecovering tries until it succeeds, or until the engine ends.
func (e *engine) keepRecovering() {
	for pause := firstPause; !e.recoverLog() && !final(e.failure()); pause = min(2*pause, lastPause) {
		select {
		case <-e.clock.After(pause):
		case <-e.recovery.stop:
			return
		}
	}
}

// recoverLog is one attempt to begin the log anew, with everything committed in
// it. Nobody commits or flushes meanwhile.
func (e *engine) recoverLog() bool {
	store, ok := e.store.(Recoverer)
	if !ok {
		return false
	}
	e.commit.Lock()
	defer e.commit.Unlock()
	e.flushing.Lock()
	defer e.flushing.Unlock()
	if final(e.failure()) {
		return false
	}
	if err := store.Recover(e.missing); err != nil {
		err = fsapi.Wrap(failureKind(err), err, "kv: the log cannot be begun anew")
		e.recovery.cause.Store(&err)
		return false
	}
	e.syncs.Add(1)
	e.history.settled(e.history.head.Load())
	e.recovery.cause.Store(nil)
	return true
}

// missing walks the batches after one, up to the newest.
func (e *engine) missing(after Seq) iter.Seq2[Commit, error] {
	return func(yield func(Commit, error) bool) {
		cur, err := e.history.seek(after + 1)
		if err != nil {
			yield(Commit{}, fsapi.Errorf(fsapi.Corrupt, "kv: the log ends at batch %d: %w", after, err))
			return
		}
		for {
			next, ops, ok := cur.after()
			switch {
			case !ok:
				yield(Commit{}, errBehind(cur.Seq+1))
				return
			case next == nil:
				return
			}
			c := Commit{Seq: next.Seq, Stamp: next.Stamp, Ops: appendState(slices.Clip(ops), next.Position)}
			if !yield(c, nil) {
				return
			}
			cur = next
		}
	}
}
