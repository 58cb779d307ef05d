package upkeep

import (
	"context"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// zeroTime takes back a copy's Verified.
var zeroTime time.Time

// The queue of pending copies is the metadata's table of pending entries: it is
// looked through as often as a look costs little. What is remembered here is
// only what is under way.
const (
	queueTick    = 200 * time.Millisecond // between looks
	queueShare   = 20                     // a look takes at most 1/queueShare of the time
	queueBackoff = time.Second            // after the first failure
	queueLongest = 5 * time.Minute        // between attempts
)

// Backlog is what is pending.
type Backlog struct {
	Segments int
	Bytes    int64 // of these segments, each counted once
	Failing  int   // whose last attempt failed
	Oldest   time.Time
	Err      string // of one that is failing
}

// queue is what is known of pending copies. Safe for concurrent use.
type queue struct {
	kick chan struct{} // holds a token when there is something new

	mu   sync.Mutex
	busy map[fsapi.SegmentID]bool // under way; guarded by mu
	seen Backlog                  // at the last look; guarded by mu
	// tried are those attempted since the last Hurry: nil where there was none.
	// The others are due, whatever their backoff; guarded by mu.
	tried   map[fsapi.SegmentID]bool
	changed chan struct{} // closed at the next look; guarded by mu
}

func newQueue() *queue {
	return &queue{kick: make(chan struct{}, 1), busy: make(map[fsapi.SegmentID]bool), changed: make(chan struct{})}
}

// Kick makes the queue look now: there are new pending entries, or a drive came
// back.
func (u *Upkeep) Kick() {
	select {
	case u.queue.kick <- struct{}{}:
	default:
	}
}

// Hurry makes everything that is pending due once, whatever its backoff: a drive
// came back, or another was added.
func (u *Upkeep) Hurry() {
	u.queue.mu.Lock()
	u.queue.tried = make(map[fsapi.SegmentID]bool)
	u.queue.mu.Unlock()
	u.Kick()
}

// due reports whether it is time for an entry.
func (q *queue) due(p meta.Pending, now time.Time) bool {
	if !p.Next.After(now) {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.tried != nil && !q.tried[p.Segment]
}

// Backlog is what was pending at the last look.
func (u *Upkeep) Backlog() Backlog {
	u.queue.mu.Lock()
	defer u.queue.mu.Unlock()
	return u.queue.seen
}

// Admit waits while more is pending than Options allow, or the journal has grown far
// over its bound and must not be packed now: back-pressure on those who store data.
func (u *Upkeep) Admit(ctx context.Context) error {
	for {
		q := u.queue
		q.mu.Lock()
		full := u.full.Load() || q.seen.Segments >= u.o.MaxPending || u.o.MaxPendingBytes > 0 && q.seen.Bytes >= u.o.MaxPendingBytes
		changed := q.changed
		q.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "wait for pending copies")
		}
	}
}

// Drain waits until everything that is pending now has been written: what the
// acknowledgement class remote waits for.
func (u *Upkeep) Drain(ctx context.Context) error {
	waiting := make(map[fsapi.SegmentID]bool)
	if err := u.o.Meta.Pending(ctx, fsapi.SegmentID{}, func(p meta.Pending) bool {
		waiting[p.Segment] = true
		return true
	}); err != nil {
		return err
	}
	for len(waiting) > 0 {
		u.gather.hurry()
		u.Kick()
		u.queue.mu.Lock()
		changed := u.queue.changed
		u.queue.mu.Unlock()
		for id := range waiting {
			seg, err := u.o.Meta.Segment(ctx, id)
			switch {
			case err != nil && notGone(err) != nil:
				return err
			case err != nil || len(seg.Owed()) == 0 || !seg.Condemned.IsZero():
				delete(waiting, id)
			}
		}
		if len(waiting) == 0 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "wait for pending copies")
		}
	}
	return nil
}

// runQueue works on what is pending until ctx ends.
func (u *Upkeep) runQueue(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	workers := make(chan struct{}, u.o.Copiers)
	for ctx.Err() == nil {
		begun := u.o.Clock.Now()
		if err := u.scan(ctx, workers, &wg); err != nil && ctx.Err() == nil {
			u.o.Log.Error("the pending copies cannot be read; trying again", "err", err)
		}
		took := u.o.Clock.Now().Sub(begun)
		select {
		case <-ctx.Done():
		case <-u.queue.kick:
		case <-u.o.Clock.After(max(queueTick, took*queueShare)):
		}
	}
}

// scan looks through the pending entries and starts those that are due, as
// far as there are workers.
func (u *Upkeep) scan(ctx context.Context, workers chan struct{}, wg *sync.WaitGroup) error {
	var seen Backlog
	var there map[fsapi.SegmentID]bool // where something is gathered
	if u.gather.waiting() {
		there = make(map[fsapi.SegmentID]bool)
	}
	now := u.o.Clock.Now()
	err := u.o.Meta.Pending(ctx, fsapi.SegmentID{}, func(p meta.Pending) bool {
		seen.add(p)
		if there != nil {
			there[p.Segment] = true
		}
		if u.queue.due(p, now) && !u.gather.holds(p.Segment) {
			u.begin(ctx, p, workers, wg)
		}
		return ctx.Err() == nil
	})
	if err == nil {
		err = u.lookAtJournal(ctx)
	}
	if err == nil {
		if there != nil {
			u.gather.look(func(id fsapi.SegmentID) bool { return there[id] }, now)
		}
		u.queue.publish(seen)
	}
	return err
}

func (b *Backlog) add(p meta.Pending) {
	b.Segments++
	b.Bytes += p.Size
	if b.Oldest.IsZero() || p.Since.Before(b.Oldest) {
		b.Oldest = p.Since
	}
	if p.Attempts > 0 {
		b.Failing++
		b.Err = p.Err
	}
}

// publish wakes those who wait for the backlog to change.
func (q *queue) publish(b Backlog) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seen = b
	close(q.changed)
	q.changed = make(chan struct{})
}

// begin starts work on an entry, unless it is under way or all workers are busy.
func (u *Upkeep) begin(ctx context.Context, p meta.Pending, workers chan struct{}, wg *sync.WaitGroup) {
	q := u.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.busy[p.Segment] {
		return
	}
	select {
	case workers <- struct{}{}:
	default:
		return
	}
	q.busy[p.Segment] = true
	if q.tried != nil {
		q.tried[p.Segment] = true
	}
	wg.Go(func() {
		err := u.Attempt(ctx, p)
		q.mu.Lock()
		delete(q.busy, p.Segment)
		q.mu.Unlock()
		<-workers
		if err == nil {
			u.Kick() // there is a worker free
		}
	})
}

// Attempt works on one pending entry, due or not, but for copies that are held
// back for drives that spin down. A failure is noted with the
// time of the next attempt, and returned.
func (u *Upkeep) Attempt(ctx context.Context, p meta.Pending) error {
	err := u.fulfil(drive.Background(ctx), p.Segment, func(spec fsapi.CopySpec, size int64) bool {
		return u.sleeps(spec.Tier) && u.gather.hold(spec.Tier, p.Segment, size, u.o.Clock.Now())
	})
	u.gather.done(p.Segment, u.o.Clock.Now())
	if err == nil {
		u.gather.rest(p.Segment)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	next := u.o.Clock.Now().Add(u.backoff(p.Attempts))
	if nerr := u.o.Meta.PendingFailed(ctx, p.Segment, next, err); nerr != nil && ctx.Err() == nil {
		u.o.Log.Error("a failed copy cannot be noted", "segment", p.Segment, "err", nerr)
	}
	u.o.Log.Warn("a copy that is owed could not be written; it is tried again", "segment", p.Segment, "attempts", p.Attempts+1, "err", err)
	return err
}

// backoff grows with the attempts that failed, with jitter.
func (u *Upkeep) backoff(attempts int) time.Duration {
	d := min(queueBackoff<<min(attempts, 20), queueLongest)
	return d/2 + time.Duration(u.o.Rand(int64(d/2)))
}
