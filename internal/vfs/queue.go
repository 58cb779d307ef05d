package vfs

import (
	"sync"
	"time"
)

// queue is the nodes that are dirty, oldest first, each held. Flushers take
// from it.
type queue struct {
	age    time.Duration
	now    func() time.Time
	budget *Budget

	mu     sync.Mutex
	cond   sync.Cond // signalled when next may have something
	head   *node
	tail   *node
	stream []*node            // with much dirty data: before all others, whatever their age
	failed []*node            // waiting for their next attempt, after an error
	rested []*node            // left for their writers until the next tick, unless one waits for room
	busy   map[*work]struct{} // groups that were taken and are not stored yet
	closed bool
}

// work is what a flusher is to do: one node that streams, or a group that is
// due. The holds on the nodes are the flusher's.
type work struct {
	stream *node
	group  []*node
}

func newQueue(age time.Duration, now func() time.Time, b *Budget) *queue {
	q := &queue{age: age, now: now, budget: b, busy: map[*work]struct{}{}}
	q.cond.L = &q.mu
	return q
}

// groupMax is how many nodes one call of next returns.
const groupMax = 512

// pushLocked puts n on the queue. REQUIRES n.mu.
func (q *queue) pushLocked(n *node, now time.Time) {
	if n.queued {
		return
	}
	n.queued, n.since = true, now
	n.hold()
	q.mu.Lock()
	defer q.mu.Unlock()
	if n.fail != nil && n.fail.retry.After(now) {
		n.since = n.fail.retry.Add(-q.age) // due then
		q.failed = append(q.failed, n)
		return
	}
	q.appendLocked(n)
}

// restLocked is pushLocked for a node that was looked at just now, to no avail
// but that it is being written: no pressure brings it back before the next tick.
// REQUIRES n.mu.
func (q *queue) restLocked(n *node, now time.Time) {
	if n.queued {
		return
	}
	n.queued, n.since = true, now
	n.hold()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rested = append(q.rested, n)
}

// rouseLocked ends the rest of nodes.
func (q *queue) rouseLocked() {
	for _, n := range q.rested {
		q.appendLocked(n)
	}
	clear(q.rested)
	q.rested = q.rested[:0]
}

func (q *queue) appendLocked(n *node) {
	n.next = nil
	if q.tail == nil {
		q.head, q.tail = n, n
		return
	}
	q.tail.next, q.tail = n, n
}

// pushStream asks for n to be written back now; it is held until then.
func (q *queue) pushStream(n *node) {
	n.hold()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stream = append(q.stream, n)
	q.cond.Signal()
}

// next waits for work; ok is false when the queue is closed.
func (q *queue) next() (w *work, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed {
		if len(q.stream) > 0 {
			n := q.stream[0]
			q.stream = append(q.stream[:0], q.stream[1:]...)
			return &work{stream: n}, true
		}
		if group := q.dueLocked(); len(group) > 0 {
			return q.takeLocked(group), true
		}
		q.cond.Wait()
	}
	return nil, false
}

func (q *queue) takeLocked(group []*node) *work {
	w := &work{group: group}
	q.busy[w] = struct{}{}
	return w
}

// finish says that a group was dealt with, and its nodes put back that needed
// it. Only then may they be released.
func (q *queue) finish(w *work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, w)
}

func (q *queue) dueLocked() []*node {
	if q.budget.short() {
		q.rouseLocked()
	}
	if q.head == nil {
		return nil
	}
	limit := q.now().Add(-q.age)
	all := q.budget.pressed() || q.budget.short()
	var group []*node
	for q.head != nil && len(group) < groupMax && (all || !q.head.since.After(limit)) {
		group = append(group, q.popLocked())
	}
	return group
}

func (q *queue) popLocked() *node {
	n := q.head
	q.head = n.next
	if q.head == nil {
		q.tail = nil
	}
	n.next = nil
	return n
}

// takeAll empties the queue, for a barrier over the volume. busy are the nodes
// that others have taken and not finished. The holds are the caller's.
func (q *queue) takeAll() (w *work, busy []*node) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for w := range q.busy {
		for _, n := range w.group {
			n.hold()
			busy = append(busy, n)
		}
	}
	all := q.failed
	q.failed = nil
	q.rouseLocked()
	for q.head != nil {
		all = append(all, q.popLocked())
	}
	return q.takeLocked(all), busy
}

// tick wakes the flushers where something may have become due. What failed is
// tried again when its pause is over, and before that where writers wait for the
// room that it takes: they hang until an attempt has ended, well or badly.
func (q *queue) tick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	kept, short := q.failed[:0], q.budget.short()
	for _, n := range q.failed {
		if short || n.since.Add(q.age).Before(now) {
			q.appendLocked(n)
		} else {
			kept = append(kept, n)
		}
	}
	clear(q.failed[len(kept):])
	q.failed = kept
	q.rouseLocked()
	if q.head != nil || len(q.stream) > 0 {
		q.cond.Broadcast()
	}
}

// kick wakes the flushers.
func (q *queue) kick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cond.Broadcast()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.cond.Broadcast()
}
