package limit

import (
	"context"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/clock"
)

// burst is how long a drive that was idle may exceed its rate.
const burst = 250 * time.Millisecond

// rate is a token bucket of bytes that may be overdrawn: a call is let in while
// there is anything in it, and takes all it needs. Background calls are let in
// while no other waits; besides, they have a bucket of their own with their
// share.
type rate struct {
	clock clock.Clock

	mu sync.Mutex
	// All below is guarded by mu.
	all, back bucket
	waiting   int           // foreground calls
	calm      chan struct{} // closed when waiting falls to 0; nil: it is 0
}

// bucket holds bytes that may pass.
type bucket struct {
	perSecond float64
	level     float64 // may be negative
	at        time.Time
}

func newBucket(perSecond float64, now time.Time) bucket {
	return bucket{perSecond, perSecond * burst.Seconds(), now}
}

// fill adds what time has brought.
func (b *bucket) fill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.level = min(b.level+d.Seconds()*b.perSecond, b.perSecond*burst.Seconds())
	}
	b.at = now
}

// wait is how long until there is something in it.
func (b *bucket) wait() time.Duration {
	return time.Duration((1-b.level)/b.perSecond*float64(time.Second)) + time.Microsecond
}

func newRate(c clock.Clock, perSecond int64, share int) *rate {
	now := c.Now()
	return &rate{clock: c, all: newBucket(float64(perSecond), now), back: newBucket(float64(perSecond)*float64(share)/100, now)}
}

// take waits until n bytes may pass.
func (r *rate) take(ctx context.Context, n int64) error {
	class := classOf(ctx)
	wait, calm := r.try(class, n)
	if wait == 0 {
		return nil
	}
	if class == foreground {
		r.join(1)
		defer r.join(-1)
	}
	for wait > 0 {
		select {
		case <-r.clock.After(wait):
		case <-calm:
		case <-ctx.Done():
			return ctx.Err()
		}
		wait, calm = r.try(class, n)
	}
	return nil
}

// join counts foreground calls that wait.
func (r *rate) join(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting += n
	switch {
	case r.waiting > 0 && r.calm == nil:
		r.calm = make(chan struct{})
	case r.waiting == 0 && r.calm != nil:
		close(r.calm)
		r.calm = nil
	}
}

// try takes n bytes, or says how long to wait and what else to wait for.
func (r *rate) try(class int, n int64) (wait time.Duration, calm <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	r.all.fill(now)
	r.back.fill(now)
	own := class == background && r.back.level >= 1
	if own || r.all.level >= 1 && (class == foreground || r.waiting == 0) {
		r.all.level -= float64(n)
		if own {
			r.back.level -= float64(n)
		}
		return 0, nil
	}
	if class == foreground {
		return r.all.wait(), nil
	}
	if r.waiting > 0 {
		return r.back.wait(), r.calm
	}
	return min(r.all.wait(), r.back.wait()), nil
}
