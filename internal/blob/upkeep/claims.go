package upkeep

import (
	"context"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
)

// claims keep deletion away from segments whose parts are being written: a part
// that is not recorded yet looks like one that no longer is, and one that is
// about to be deleted looks to a writer like what he was to write. Any number may
// write parts of a segment at a time, or one may delete some. Safe for concurrent
// use.
type claims struct {
	mu sync.Mutex
	m  map[fsapi.SegmentID]*claim // guarded by mu
}

type claim struct {
	writers int
	over    chan struct{} // of who deletes: closed when he is through; nil: it is writers'
}

func newClaims() *claims { return &claims{m: make(map[fsapi.SegmentID]*claim)} }

// write lets the caller write parts of a segment, when nobody deletes any.
func (c *claims) write(ctx context.Context, id fsapi.SegmentID) (end func(), err error) {
	for {
		c.mu.Lock()
		have := c.m[id]
		if have == nil {
			have = &claim{}
			c.m[id] = have
		}
		if have.over == nil {
			have.writers++
			c.mu.Unlock()
			return func() { c.endWrite(id) }, nil
		}
		c.mu.Unlock()
		select {
		case <-have.over:
		case <-ctx.Done():
			return nil, fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "wait for parts to be deleted of segment "+id.String())
		}
	}
}

func (c *claims) endWrite(id fsapi.SegmentID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m[id].writers--; c.m[id].writers == 0 {
		delete(c.m, id)
	}
}

// alone lets a writer, the only one, delete parts of the segment; other writers
// wait. Its end comes before that of the writer.
func (c *claims) alone(id fsapi.SegmentID) (end func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.m[id]
	if have.writers > 1 || have.over != nil {
		return nil, false
	}
	over := make(chan struct{})
	have.over = over
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		have.over = nil
		close(over)
	}, true
}

// sweep lets the caller delete parts of a segment, unless some are being written.
func (c *claims) sweep(id fsapi.SegmentID) (end func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m[id] != nil {
		return nil, false
	}
	over := make(chan struct{})
	c.m[id] = &claim{over: over}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.m, id)
		close(over)
	}, true
}
