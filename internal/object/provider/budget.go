package provider

import (
	"context"
	"sync"
)

const (
	// Whole is Traits.Whole of the providers that bill parts as requests: the
	// largest segment.
	Whole = 64 << 20
	// DefaultHold is bytes for Options.Hold where nothing else bounds memory: one
	// segment on its way while the next is filled.
	DefaultHold = 128 << 20
)

// budget is memory for objects that are held whole, beyond the first part of each,
// so that they are sent in one request: where providers bill parts as requests, an
// object of four parts costs six. Safe for concurrent use.
type budget struct {
	max int64 // bytes

	mu sync.Mutex
	// All below is guarded by mu.
	held    int64         // bytes
	sending int           // objects on their way, which give back what they hold whatever happens
	change  chan struct{} // closed, and made anew, when held or sending changes
}

// take reserves n bytes. Where they are not there it waits for objects on their
// way; false where there are none, or ctx has ended: writers that hold what others
// wait for do not wait themselves.
func (b *budget) take(ctx context.Context, n int64) bool {
	for {
		b.mu.Lock()
		if b.held+n <= b.max {
			b.held += n
			b.mu.Unlock()
			return true
		}
		if b.sending == 0 || n > b.max {
			b.mu.Unlock()
			return false
		}
		change := b.change
		b.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			return false
		}
	}
}

// give takes n bytes back.
func (b *budget) give(n int64) { b.update(-n, 0) }

// send says that an object which holds n bytes is on its way, until done, which
// gives them back.
func (b *budget) send(n int64) (done func()) {
	b.update(0, 1)
	return func() { b.update(-n, -1) }
}

func (b *budget) update(held int64, sending int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held += held
	b.sending += sending
	close(b.change)
	b.change = make(chan struct{})
}
