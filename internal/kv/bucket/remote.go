package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// remote is the object store with the key that seals what is in it.
type remote struct {
	object.Store
	key    []byte
	clock  clock.Clock
	random func(p []byte)
	waits  backoff.Policy
	outage outage
	// patience is how many attempts insist makes; 0: no end. It does not change
	// while more than one goroutine uses it.
	patience int
}

func (r *remote) newSalt() (s salt) {
	r.random(s[:])
	return s
}

// load reads and verifies a whole object. Errors name it.
func (r *remote) load(ctx context.Context, key string, guess int64) (header, []byte, object.Object, error) {
	b, o, err := object.ReadAll(ctx, r.Store, key, guess, maxPlain)
	if err != nil {
		return header{}, nil, o, err
	}
	h, plain, err := unseal(r.key, b)
	return h, plain, o, r.named(key, err)
}

// named adds the object's name to an error.
func (r *remote) named(key string, err error) error {
	if err == nil {
		return nil
	}
	return fsapi.Wrap(fsapi.KindOf(err), err, fmt.Sprintf("%s: %s", r.Info().URL, key))
}

// claim writes an object under a condition. won false says that another's is
// there. After an error it may have happened: claim again, with the same body,
// finds out. The body holds a salt of its own, so it is no other writer's.
func (r *remote) claim(ctx context.Context, key string, body []byte, cond object.Condition) (v object.Version, won bool, err error) {
	v, err = object.PutBytes(ctx, r.Store, key, body, cond)
	if err == nil || !errors.Is(err, fsapi.Precondition) {
		return v, err == nil, err
	}
	there, o, err := object.ReadAll(ctx, r.Store, key, int64(len(body)), maxPlain)
	switch {
	case errors.Is(err, fsapi.NotExist), errors.Is(err, fsapi.TooBig):
		return "", false, nil
	case err != nil:
		return "", false, err
	}
	return o.Version, bytes.Equal(there, body), nil
}

// final says of an error that no other attempt can do better. That a store does
// not answer, or does not allow what it allowed before, is not.
func final(err error) bool {
	switch fsapi.KindOf(err) {
	case fsapi.Corrupt, fsapi.Fenced, fsapi.Closed:
		return true
	}
	return false
}

// insist makes attempts until one succeeds, its error is final, or ctx ends.
func (r *remote) insist(ctx context.Context, attempt func(context.Context) error) error {
	for n := 0; ; n++ {
		err := attempt(ctx)
		if err == nil {
			r.outage.over(r.clock.Now())
			return nil
		}
		if final(err) || ctx.Err() != nil || n+1 == r.patience {
			return err
		}
		r.outage.begin(r.clock.Now(), err)
		select {
		case <-r.clock.After(r.waits.Wait(n)):
		case <-ctx.Done():
			return err
		}
	}
}

// outage is a time in which the store did not take what was written.
type outage struct {
	report func(since time.Time, err error) // err nil: it is over

	mu    sync.Mutex
	since time.Time // zero: there is none; guarded by mu
	err   error     // guarded by mu
}

func (o *outage) begin(now time.Time, err error) {
	o.mu.Lock()
	first := o.since.IsZero()
	if first {
		o.since = now
	}
	since := o.since
	o.err = err
	o.mu.Unlock()
	if first {
		o.report(since, err)
	}
}

func (o *outage) over(time.Time) {
	o.mu.Lock()
	since := o.since
	o.since, o.err = time.Time{}, nil
	o.mu.Unlock()
	if !since.IsZero() {
		o.report(since, nil)
	}
}

func (o *outage) state() (since time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.since, o.err
}
