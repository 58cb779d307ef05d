package bucket

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// gate is one process's way to the bucket: calls fail, hang and end with it.
type gate struct {
	object.Store
	mu    sync.Mutex
	n     int
	dead  bool
	rule  func(n int, op, key string) outcome // called with mu held; nil: all pass
	count map[string]int
}

// outcome of a call. The zero outcome lets it pass.
type outcome struct {
	kill bool // the process ends with this call
	err  error
	late bool // kill and err come after the call took effect
	hold chan struct{}
	held func() // called when it waits

	delay time.Duration
}

var errDown = fsapi.Errorf(fsapi.IO, "injected: the store does not answer")

func (g *gate) do(ctx context.Context, op, key string, call func() error) error {
	g.mu.Lock()
	g.n++
	var o outcome
	if g.rule != nil && !g.dead {
		o = g.rule(g.n, op, key)
	}
	if g.count == nil {
		g.count = map[string]int{}
	}
	g.count[op]++
	g.dead = g.dead || o.kill
	dead := g.dead
	g.mu.Unlock()
	if dead && (!o.kill || !o.late) {
		return errDown
	}
	if o.hold != nil && !o.late {
		o.held()
		<-o.hold
	}
	if o.err != nil && !o.late {
		return o.err
	}
	if o.delay > 0 {
		time.Sleep(o.delay) // the store is far away
	}
	// What was sent takes effect, whether or not anybody still waits for it.
	err := call()
	if o.hold != nil && o.late {
		o.held()
		<-o.hold
	}
	if o.kill || o.err != nil {
		return errDown
	}
	return err
}

// gone says whether the process has ended.
func (g *gate) gone() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dead
}

func (g *gate) set(rule func(n int, op, key string) outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rule = rule
}

func (g *gate) Get(ctx context.Context, key string, off int64, p []byte) (n int, o object.Object, err error) {
	err = g.do(ctx, "get", key, func() error { n, o, err = g.Store.Get(ctx, key, off, p); return err })
	return n, o, err
}

func (g *gate) Stat(ctx context.Context, key string) (o object.Object, err error) {
	err = g.do(ctx, "stat", key, func() error { o, err = g.Store.Stat(ctx, key); return err })
	return o, err
}

func (g *gate) Put(ctx context.Context, key string, body io.ReaderAt, size int64, c object.Condition) (v object.Version, err error) {
	err = g.do(ctx, "put", key, func() error {
		v, err = g.Store.Put(context.WithoutCancel(ctx), key, body, size, c)
		return err
	})
	return v, err
}

func (g *gate) Delete(ctx context.Context, keys ...string) error {
	return g.do(ctx, "delete", keys[0], func() error { return g.Store.Delete(ctx, keys...) })
}

func (g *gate) List(ctx context.Context, prefix, after string, fn func(object.Object) error) error {
	return g.do(ctx, "list", prefix, func() error { return g.Store.List(ctx, prefix, after, fn) })
}

// skewed is a clock that runs a thousand times as fast where it waits, and tells
// any time within a day of the right one.
type skewed struct {
	mu   sync.Mutex
	rng  *rand.Rand
	off  time.Duration
	past time.Duration // what pass let go by
}

var _ clock.Clock = (*skewed)(nil)

func (c *skewed) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rng != nil && c.rng.IntN(8) == 0 {
		c.off = time.Duration(c.rng.Int64N(int64(48*time.Hour))) - 24*time.Hour
	}
	return time.Now().Add(c.off + c.past)
}

// pass lets time go by, by more than jumps can make up for.
func (c *skewed) pass() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.past += 72 * time.Hour
}

func (c *skewed) After(d time.Duration) <-chan time.Time { return time.After(d / 1000) }

// ordered is a gate whose calls take turns with those of others.
type ordered struct {
	*gate
	turns *turns
}

func (o *ordered) Get(ctx context.Context, key string, off int64, p []byte) (int, object.Object, error) {
	o.turns.enter()
	defer o.turns.leave()
	return o.gate.Get(ctx, key, off, p)
}

func (o *ordered) Put(ctx context.Context, key string, body io.ReaderAt, size int64, c object.Condition) (object.Version, error) {
	o.turns.enter()
	defer o.turns.leave()
	return o.gate.Put(ctx, key, body, size, c)
}

func (o *ordered) Delete(ctx context.Context, keys ...string) error {
	o.turns.enter()
	defer o.turns.leave()
	return o.gate.Delete(ctx, keys...)
}

func (o *ordered) List(ctx context.Context, prefix, after string, fn func(object.Object) error) error {
	o.turns.enter()
	defer o.turns.leave()
	return o.gate.List(ctx, prefix, after, fn)
}
