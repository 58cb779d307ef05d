package kv

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
)

// entry is one committed batch in the chain that validation and tails walk. A
// trimmed entry has given up its operations; a cut one also its successor.
type entry struct {
	Position
	next atomic.Pointer[entry]
	ops  atomic.Pointer[[]byte]
	cut  atomic.Bool
}

// after is the successor of e. ok is false where the history between them is
// no longer retained; next is nil where e is the newest.
func (e *entry) after() (next *entry, ops []byte, ok bool) {
	n := e.next.Load()
	if n == nil {
		return nil, nil, !e.cut.Load()
	}
	p := n.ops.Load()
	if p == nil {
		return nil, nil, false
	}
	return n, *p, true
}

// history is the chain of newest batches, bounded in bytes. Appending is
// serialized by the engine's commit lock; walking takes no lock.
type history struct {
	limit int64
	head  atomic.Pointer[entry] // newest visible
	bytes atomic.Int64

	mu      sync.Mutex
	oldest  *entry        // position before the oldest retained batch; guarded by mu
	waiting chan struct{} // closed at the next publish or end; nil while nobody waits; guarded by mu
	ended   bool          // guarded by mu
}

// entryCost is what an entry takes in memory beside its operations.
const entryCost = 128

func newHistory(limit int64, base Position) *history {
	h := &history{limit: limit}
	e := &entry{Position: base}
	h.oldest = e
	h.head.Store(e)
	return h
}

// newEntry is a batch that is not yet in a history.
func newEntry(p Position, ops []byte) *entry {
	e := &entry{Position: p}
	e.ops.Store(&ops)
	return e
}

// publish makes e the newest batch and wakes those who wait for it.
func (h *history) publish(e *entry) {
	h.bytes.Add(int64(len(*e.ops.Load())) + entryCost)
	prev := h.head.Load()
	prev.next.Store(e)
	h.head.Store(e)
	h.mu.Lock()
	h.trimLocked(e)
	if h.waiting != nil {
		close(h.waiting)
		h.waiting = nil
	}
	h.mu.Unlock()
}

// trimLocked forgets the oldest batches beyond the limit, but never the newest.
func (h *history) trimLocked(newest *entry) {
	for h.bytes.Load() > h.limit {
		before, victim := h.oldest, h.oldest.next.Load()
		if victim == nil || victim == newest {
			return
		}
		h.bytes.Add(-int64(len(*victim.ops.Load())) - entryCost)
		victim.ops.Store(nil)
		before.cut.Store(true)
		before.next.Store(nil)
		h.oldest = victim
	}
}

// wait returns when e has a successor. It fails when ctx or the engine ends.
func (h *history) wait(ctx context.Context, e *entry) error {
	for {
		h.mu.Lock()
		if e.next.Load() != nil || e.cut.Load() {
			h.mu.Unlock()
			return nil
		}
		if h.ended {
			h.mu.Unlock()
			return errClosed()
		}
		if h.waiting == nil {
			h.waiting = make(chan struct{})
		}
		c := h.waiting
		h.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return interrupted(ctx)
		}
	}
}

// end fails everyone who waits, now and later.
func (h *history) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	if h.waiting != nil {
		close(h.waiting)
		h.waiting = nil
	}
}

// seek finds the entry whose successor is, or will be, the batch `from`.
func (h *history) seek(from Seq) (*entry, error) {
	h.mu.Lock()
	e := h.oldest
	h.mu.Unlock()
	last := h.head.Load().Seq
	if from <= e.Seq || from > last+1 {
		return nil, fsapi.Errorf(fsapi.NotExist,
			"kv: batch %d is not retained (only %d to %d are); take a snapshot and follow from there", from, e.Seq+1, last)
	}
	for e.Seq+1 < from {
		next, _, ok := e.after()
		if !ok || next == nil {
			return nil, errBehind(e.Seq + 1)
		}
		e = next
	}
	return e, nil
}

func errBehind(seq Seq) error {
	return fsapi.Errorf(fsapi.NotExist, "kv: batch %d is no longer retained; take a snapshot and follow from there", seq)
}

// tail is a subscription: the entry it has returned last.
type tail struct {
	h      *history
	cur    *entry
	closed context.Context
	close  context.CancelFunc
}

var _ Tail = (*tail)(nil)

// Next implements Tail.
func (t *tail) Next(ctx context.Context) (Batch, error) {
	for {
		if t.closed.Err() != nil {
			return Batch{}, errClosed()
		}
		next, ops, ok := t.cur.after()
		if !ok {
			return Batch{}, errBehind(t.cur.Seq + 1)
		}
		if next == nil {
			if err := t.wait(ctx); err != nil {
				return Batch{}, err
			}
			continue
		}
		decoded, err := decodeOps(ops)
		if err != nil {
			return Batch{}, err
		}
		t.cur = next
		return Batch{Seq: next.Seq, Stamp: next.Stamp, Ops: decoded}, nil
	}
}

// wait is history.wait that Close ends too.
func (t *tail) wait(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.closed, cancel)()
	err := t.h.wait(ctx, t.cur)
	if err != nil && t.closed.Err() != nil {
		return errClosed()
	}
	return err
}

// Close implements Tail.
func (t *tail) Close() { t.close() }
