package bucket

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// Lease stands in for conditions where a store keeps none. It is weaker: it
// trusts the clocks of two machines to run at about the same speed, and a request
// not to arrive long after it was given up. What is written later than that by a
// machine that was suspended can do harm.
type Lease struct {
	// Term is how long a writer that does not answer keeps the bucket; 0:
	// DefaultLeaseTerm. It is renewed four times in it: one request each.
	Term time.Duration
}

// DefaultLeaseTerm is the default of Lease.Term.
const DefaultLeaseTerm = time.Minute

// leased is a store of which this process has the lease. Conditions are looked
// at, one request before the write; nothing is written once the lease has run
// out.
type leased struct {
	object.Store
	r    *remote
	term time.Duration
	body []byte // what marks the lease as this process's

	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	beat    uint64    // guarded by mu
	renewed time.Time // when the last renewal that succeeded began; guarded by mu
	lost    error     // another has it; guarded by mu
}

var _ object.Store = (*leased)(nil)

// takeLease waits until nobody renews the lease any more, and takes it.
// fsapi.Busy: somebody does.
func takeLease(ctx context.Context, r *remote, o *Options) (*leased, error) {
	l := &leased{Store: o.Objects, r: r, term: o.Lease.Term}
	if l.term == 0 {
		l.term = DefaultLeaseTerm
	}
	id := r.newSalt()
	l.body = id[:]
	before, err := l.read(ctx)
	if err != nil {
		return nil, err
	}
	if before != nil {
		if err := l.watch(ctx, before); err != nil {
			return nil, err
		}
	}
	// Of two who come here at once, one overwrites the other, who sees it after.
	if err := l.renew(ctx); err != nil {
		return nil, err
	}
	if err := l.wait(ctx, l.term/4); err != nil {
		return nil, err
	}
	if err := l.renew(ctx); err != nil {
		return nil, err
	}
	ctx, l.stop = context.WithCancel(context.Background())
	l.done.Go(func() { l.heartbeat(ctx) })
	return l, nil
}

// watch sees whether a lease is renewed within its term and a quarter.
func (l *leased) watch(ctx context.Context, before []byte) error {
	if err := l.wait(ctx, l.term+l.term/4); err != nil {
		return err
	}
	now, err := l.read(ctx)
	if err != nil {
		return err
	}
	if now != nil && !bytes.Equal(now, before) {
		return fsapi.Errorf(fsapi.Busy, "kv: %s is served by another machine, which renews its lease: stop it first", l.Info().URL)
	}
	return nil
}

func (l *leased) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-l.r.clock.After(d):
		return nil
	case <-ctx.Done():
		return fsapi.Errorf(fsapi.Interrupted, "kv: waiting for the lease of %s: %w", l.Info().URL, context.Cause(ctx))
	}
}

// read is the lease object, nil where there is none.
func (l *leased) read(ctx context.Context) ([]byte, error) {
	b, _, err := object.ReadAll(ctx, l.Store, keyLease, 0, 4<<10)
	if errors.Is(err, fsapi.NotExist) {
		return nil, nil
	}
	return b, err
}

// renew writes the lease, unless another has written his since.
func (l *leased) renew(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return l.lost
	}
	began := l.r.clock.Now()
	there, err := l.read(ctx)
	if err != nil {
		return err
	}
	if l.beat > 0 && !bytes.HasPrefix(there, l.body) {
		l.lost = fsapi.Errorf(fsapi.Fenced, "kv: %s: another machine has taken the lease: this process refuses every further write", l.Info().URL)
		return l.lost
	}
	l.beat++
	if _, err := object.PutBytes(ctx, l.Store, keyLease, binary.LittleEndian.AppendUint64(bytes.Clone(l.body), l.beat), object.Condition{}); err != nil {
		return err
	}
	l.renewed = began
	return nil
}

func (l *leased) heartbeat(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.r.clock.After(l.term / 4):
		}
		if err := l.renew(ctx); errors.Is(err, fsapi.Fenced) {
			return
		}
	}
}

// hold makes sure that the lease is this process's for half its term yet.
func (l *leased) hold(ctx context.Context) error {
	l.mu.Lock()
	fresh := l.lost == nil && l.r.clock.Now().Sub(l.renewed) < l.term/2
	l.mu.Unlock()
	if fresh {
		return nil
	}
	return l.renew(ctx)
}

// Put implements object.Store.
func (l *leased) Put(ctx context.Context, key string, body io.ReaderAt, size int64, cond object.Condition) (object.Version, error) {
	if err := l.hold(ctx); err != nil {
		return "", err
	}
	if cond != (object.Condition{}) {
		o, err := l.Stat(ctx, key)
		if err != nil && !errors.Is(err, fsapi.NotExist) {
			return "", err
		}
		if cond.Absent() && err == nil || !cond.Absent() && (err != nil || o.Version != cond.Version()) {
			return "", fsapi.Errorf(fsapi.Precondition, "%s: put %s: the object has version %q", l.Info().URL, key, o.Version)
		}
	}
	// A request that is still on its way when the lease has run out may come too
	// late: it is given up before.
	ctx, cancel := context.WithTimeout(ctx, l.term/2)
	defer cancel()
	return l.Store.Put(ctx, key, body, size, object.Condition{})
}

// Delete implements object.Store.
func (l *leased) Delete(ctx context.Context, keys ...string) error {
	if err := l.hold(ctx); err != nil {
		return err
	}
	return l.Store.Delete(ctx, keys...)
}

// release ends the lease, so that the next writer need not wait.
func (l *leased) release() error {
	l.stop()
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return nil
	}
	l.lost = fsapi.Errorf(fsapi.Closed, "kv: the engine is closed")
	ctx, cancel := context.WithTimeout(context.Background(), l.term/4)
	defer cancel()
	there, err := l.read(ctx)
	if err == nil && bytes.HasPrefix(there, l.body) {
		err = l.Store.Delete(ctx, keyLease)
	}
	if err != nil {
		return fmt.Errorf("give the lease back: %w", err)
	}
	return nil
}
