// Package backoff repeats what failed, after waits that grow and that chance
// spreads, so that many who failed together do not come back together.
//
// It owns: Policy. It must not know what is repeated, nor which errors are worth
// it. It starts no goroutine.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/strakefs/strake/internal/clock"
)

// Policy bounds the attempts. Before the n-th repetition it waits a random time
// between zero and the lesser of Base·2^(n-1) and Max: "full jitter" (Brooker,
// "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
type Policy struct {
	Attempts int           // in all; 0 and 1: one
	Base     time.Duration // bound of the first wait
	Max      time.Duration // bound of every wait; 0: none
	Total    time.Duration // no attempt begins later than this after the first; 0: no bound

	Clock clock.Clock // nil: the machine's
	// Random is uniform in [0,1); nil: math/rand/v2. It may be called
	// concurrently.
	Random func() float64
}

// Do calls call, with 0, 1, … as the number of the attempt, until it succeeds,
// its error is not worth another attempt, a bound is reached or ctx has ended.
// It returns the last error of call.
func (p Policy) Do(ctx context.Context, again func(error) bool, call func(attempt int) error) error {
	c := p.Clock
	if c == nil {
		c = clock.Real
	}
	start := c.Now()
	for attempt := 0; ; attempt++ {
		err := call(attempt)
		if err == nil || attempt+1 >= p.Attempts || ctx.Err() != nil || !again(err) {
			return err
		}
		wait := p.Wait(attempt)
		if p.Total > 0 && c.Now().Add(wait).Sub(start) > p.Total {
			return err
		}
		select {
		case <-c.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

// Wait is a random time to wait after the given attempt, counted from 0, failed.
func (p Policy) Wait(attempt int) time.Duration {
	random := p.Random
	if random == nil {
		random = rand.Float64
	}
	return time.Duration(random() * float64(p.bound(attempt)))
}

// bound is the longest wait after an attempt.
func (p Policy) bound(attempt int) time.Duration {
	d := p.Base
	for range attempt {
		if p.Max > 0 && d >= p.Max || d > time.Hour {
			break
		}
		d *= 2
	}
	if p.Max > 0 {
		d = min(d, p.Max)
	}
	return d
}
