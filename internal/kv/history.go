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
	upto int64 // bytes of every batch there ever was in the history, up to this one
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
	limit   int64
	keep    bool                  // what is not durable: where the log fails it is written again from here
	head    atomic.Pointer[entry] // newest visible
	durable atomic.Pointer[entry] // newest durable
	bytes   atomic.Int64

	mu      sync.Mutex
	oldest  *entry        // position before the oldest retained batch; guarded by mu
	waiting chan struct{} // closed at the next publish or end; nil while nobody waits; guarded by mu
	ended   bool          // guarded by mu
}

// entryCost is what an entry takes in memory beside its operations.
const entryCost = 128

func newHistory(limit int64, keep bool, base Position) *history {
	h := &history{limit: limit, keep: keep}
	e := &entry{Position: base}
	h.oldest = e
	h.head.Store(e)
	h.durable.Store(e)
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
	cost := int64(len(*e.ops.Load())) + entryCost
	h.bytes.Add(cost)
	prev := h.head.Load()
	e.upto = prev.upto + cost
	prev.next.Store(e)
	h.head.Store(e)
	h.mu.Lock()
	h.trimLocked()
	if h.waiting != nil {
		close(h.waiting)
		h.waiting = nil
	}
	h.mu.Unlock()
}

// settled says that e and all before it are durable.
func (h *history) settled(e *entry) {
	h.durable.Store(e)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trimLocked()
}

// unsettled is the bytes of the batches that are not durable.
func (h *history) unsettled() int64 { return h.head.Load().upto - h.durable.Load().upto }

// jump makes p the newest position without the batches before it: what there was
// is cut off.
func (h *history) jump(p Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.head.Load()
	e := &entry{Position: p, upto: before.upto}
	h.head.Store(e)
	h.durable.Store(e)
	before.cut.Store(true)
	h.oldest = e
	h.bytes.Store(0)
	if h.waiting != nil {
		close(h.waiting)
		h.waiting = nil
	}
}

// trimLocked forgets the oldest batches beyond the limit, but never the newest
// nor what is to be kept. REQUIRES h.mu.
func (h *history) trimLocked() {
	newest, durable := h.head.Load(), h.durable.Load().Seq
	for h.bytes.Load() > h.limit {
		before, victim := h.oldest, h.oldest.next.Load()
		if victim == nil || victim == newest || h.keep && victim.Seq > durable {
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
