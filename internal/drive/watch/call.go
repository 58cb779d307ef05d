package watch

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// call is one call of the drive.
type call struct {
	d     *Drive
	op    Op
	name  string // of the blob
	limit time.Duration
	// idle: that it succeeds says nothing of the drive, which may have done no
	// I/O for it.
	idle bool
	// part: it goes on with a call that was counted. It is made whatever state the
	// drive is in, and only its failure counts.
	part bool
	// always: it is made whatever state the drive is in.
	always bool
	// changes are the blobs that are there or not because of it. While one that
	// was left behind may yet change a blob, no other call does.
	changes []string

	probe bool // it tries a suspect drive
	start time.Time
}

// begin asks whether the call may be made.
func (c *call) begin(ctx context.Context) (err error) {
	if err := ctx.Err(); err != nil {
		return c.errorf(fsapi.KindOf(err), err.Error())
	}
	c.start = c.d.opts.Clock.Now()
	if c.always || c.part {
		return nil
	}
	if n := c.d.stuck.Load(); n >= int64(c.d.opts.MaxStuck) {
		return c.errorf(fsapi.NoDevice, "too many calls have not come back; nothing was tried")
	}
	if c.d.doubtful.any(c.changes) {
		return c.errorf(fsapi.TimedOut, "an earlier call that changes it has not come back, and may take place yet; nothing was tried")
	}
	if c.probe, err = c.d.breaker.admit(c.start); err != nil {
		return c.errorf(fsapi.NoDevice, err.Error())
	}
	return nil
}

func (c *call) errorf(k fsapi.Kind, why string) error {
	label := c.d.Info().Name
	if label == "" {
		label = c.d.Info().ID.String()
	}
	return fsapi.Errorf(k, "drive %s: %s: %s", label, drive.Doing(c.op.String(), c.name), why)
}

// end takes down how the call went.
func (c *call) end(err error) {
	if c.part && !fault(err) {
		return
	}
	now := c.d.opts.Clock.Now()
	c.d.ops[c.op].add(now.Sub(c.start), err)
	if !c.always {
		c.d.breaker.report(now, c.probe, verdictOf(err, c.idle), err)
	}
}

// late is the error of a call that did not come back in time.
func (c *call) late() error {
	return c.errorf(fsapi.TimedOut, "no answer within "+c.limit.String()+"; the call may take place yet")
}

// doubtful are blobs that calls which were left behind may yet change. Safe for
// concurrent use.
type doubtful struct {
	mu    sync.Mutex
	calls map[string]int // by blob; guarded by mu
}

func (b *doubtful) any(blobs []string) bool {
	if len(blobs) == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(blobs, func(name string) bool { return b.calls[name] > 0 })
}

// add counts calls, by more or less.
func (b *doubtful) add(blobs []string, n int) {
	if len(blobs) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range blobs {
		if b.calls[name] += n; b.calls[name] == 0 {
			delete(b.calls, name)
		}
	}
}

// flight is a call in its goroutine: it comes back or is left behind, whichever
// is first.
type flight struct {
	d       *Drive
	changes []string
	state   atomic.Int32
}

const (
	flying = iota
	landed
	left
)

// leave leaves the call behind, unless it has come back.
func (f *flight) leave() bool {
	f.d.stuck.Add(1)
	f.d.doubtful.add(f.changes, 1)
	if f.state.CompareAndSwap(flying, left) {
		return true
	}
	f.back()
	return false
}

// back is the end of a call that was left behind.
func (f *flight) back() {
	f.d.doubtful.add(f.changes, -1)
	f.d.stuck.Add(-1)
}

// land comes back, unless the call was left behind.
func (f *flight) land() bool {
	if f.state.CompareAndSwap(flying, landed) {
		return true
	}
	f.back()
	return false
}

type answer[T any] struct {
	v   T
	err error
}

// run makes a call in a goroutine and waits for it until its limit or the end of
// ctx. orphan, if not nil, gets what came back too late.
func run[T any](ctx context.Context, c call, below func(context.Context) (T, error), orphan func(T)) (T, error) {
	v, _, err := fly(ctx, c, below, orphan)
	return v, err
}

// fly is run, and tells whether the call was left behind.
func fly[T any](ctx context.Context, c call, below func(context.Context) (T, error), orphan func(T)) (v T, gone bool, err error) {
	if err := c.begin(ctx); err != nil {
		return v, false, err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &flight{d: c.d, changes: c.changes}
	back := make(chan answer[T], 1)
	go func() {
		v, err := below(inner)
		if f.land() {
			back <- answer[T]{v, err}
		} else if orphan != nil {
			orphan(v)
		}
	}()
	select {
	case a := <-back:
		c.end(a.err)
		return a.v, false, a.err
	case <-c.d.opts.Clock.After(c.limit):
		err = c.late()
	case <-ctx.Done():
		err = c.errorf(fsapi.KindOf(ctx.Err()), ctx.Err().Error())
	}
	if !f.leave() { // it came back this very moment
		a := <-back
		c.end(a.err)
		return a.v, false, a.err
	}
	c.end(err)
	return v, true, err
}

// verdict is what an error says of the drive.
type verdict int

const (
	nothing verdict = iota
	good
	bad
)

func verdictOf(err error, idle bool) verdict {
	if err == nil || errors.Is(err, io.EOF) {
		if idle {
			return nothing
		}
		return good
	}
	switch fsapi.KindOf(err) {
	case fsapi.TimedOut, fsapi.IO, fsapi.NoDevice:
		return bad
	case fsapi.NotExist, fsapi.Exist:
		return good
	}
	return nothing
}
