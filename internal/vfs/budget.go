package vfs

import (
	"context"
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
)

// Budget bounds the memory of dirty data, for one volume or several. Safe for
// concurrent use.
type Budget struct {
	max int64 // bytes

	level   atomic.Int64 // used, for reading without mu
	dead    atomic.Bool  // fenced is set, for reading without mu
	waiting atomic.Int64 // writers in admit; changed under mu

	mu      sync.Mutex
	used    int64         // bytes of pages in use
	wake    chan struct{} // closed and replaced when used falls or a flush fails
	fails   uint64        // failed write-backs since the start
	failure error         // of the last of them
	fenced  error         // that of one after which none can succeed; nil: no such
	kicks   map[*Local]func()
}

// NewBudget makes a budget of max bytes.
func NewBudget(max int64) *Budget {
	return &Budget{max: max, wake: make(chan struct{}), kicks: map[*Local]func(){}}
}

// Used is the bytes of dirty data in memory now.
func (b *Budget) Used() int64 { return b.level.Load() }

// pressed reports whether write-back should not wait for age.
func (b *Budget) pressed() bool { return b.level.Load() > b.max/2 }

// slab is the most bytes of a slab: a power of two, and so few that bytes which
// are not written yet do not take the room of others.
func (b *Budget) slab() int { return min(1<<bits.Len64(uint64(b.max/32)), maxSlab) }

// short reports whether a writer waits for room.
func (b *Budget) short() bool { return b.waiting.Load() > 0 }

// admit waits until there is room for n more bytes. It charges nothing: pages
// do, when they are made, so that the bound may be passed by what the writers
// that were let in write. It fails where ctx ends, or where write-back fails
// while there is no room, with the error of write-back; at once, where nothing can
// be stored any more (fsapi.Fenced).
func (b *Budget) admit(ctx context.Context, n int64) error {
	if b.level.Load()+n <= b.max && !b.dead.Load() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fenced != nil {
		return b.fenced
	}
	fails := b.fails
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	for b.used > 0 && b.used+n > b.max {
		if b.fails > fails {
			return b.failure
		}
		wake := b.wake
		kicks := b.kickers()
		b.mu.Unlock()
		for _, k := range kicks {
			k()
		}
		err := waitFor(ctx, wake)
		b.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *Budget) kickers() []func() {
	ks := make([]func(), 0, len(b.kicks))
	for _, k := range b.kicks {
		ks = append(ks, k)
	}
	return ks
}

func waitFor(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "wait for write-back")
	}
}

// charge adds delta bytes, of either sign.
func (b *Budget) charge(delta int64) {
	if delta == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.used
	b.used += delta
	b.level.Store(b.used)
	if delta < 0 && b.short() {
		b.wakeLocked()
	}
	if before <= b.max/2 && b.used > b.max/2 {
		for _, k := range b.kicks {
			k()
		}
	}
}

func (b *Budget) wakeLocked() {
	close(b.wake)
	b.wake = make(chan struct{})
}

// failed tells waiting writers that write-back does not get on.
func (b *Budget) failed(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails++
	b.failure = err
	if errors.Is(err, fsapi.Fenced) {
		b.fenced = err
		b.dead.Store(true)
	}
	if b.short() {
		b.wakeLocked()
	}
}

// enlist registers fs to be kicked under pressure; kick must not block.
func (b *Budget) enlist(fs *Local, kick func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kicks[fs] = kick
}

func (b *Budget) strike(fs *Local) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.kicks, fs)
}
