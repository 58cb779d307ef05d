package provider

import (
	"context"
	"sync"
)

const (
	// Whole is Traits.Whole of the providers that bill parts as requests: the
	// largest segment.
	Whole = 64 << 20
	// DefaultHold is bytes for NewMemory where nothing else bounds memory: one
	// segment on its way while the next is filled.
	DefaultHold = 128 << 20
)

// Memory is for objects that are held whole, beyond the first part of each, so that
// they are sent in one request: where providers bill parts as requests, an object of
// four parts costs six. All stores that were opened with one share it. A store that
// writes alone may hold all of it. Of several that do, each may hold an equal share,
// or one object where that is more, as long as there is any: so one whose requests
// hang takes no memory from the others beyond its share, but for what it held before
// they began. What a store cannot have it sends in parts; it waits for objects of
// its own that are on their way, and for no other store. Safe for concurrent use.
type Memory struct {
	max int64 // bytes

	mu sync.Mutex
	// All below is guarded by mu.
	held    int64         // bytes
	writing int           // stores that are
	change  chan struct{} // closed, and made anew, when something of a store changes
}

// NewMemory is max bytes.
func NewMemory(max int64) *Memory { return &Memory{max: max, change: make(chan struct{})} }

// budget is what one store has of a Memory. Safe for concurrent use; of a nil Memory
// there is nothing.
type budget struct {
	m     *Memory
	whole int64 // bytes of the largest object that is held
	part  int64 // bytes of its first part, for which nothing is taken

	// All below is guarded by m.mu.
	held    int64 // bytes
	writers int   // open ones that may want some
	sending int   // objects on their way, which give back what they hold whatever happens
}

// size is the bytes up to which an object may be held; 0: none is.
func (b *budget) size() int64 {
	if b.m == nil || b.m.max == 0 {
		return 0
	}
	return b.whole
}

// take reserves n bytes. Where they are not there it waits for objects of the store
// that are on their way; false where there are none, or ctx has ended: writers that
// hold what others wait for do not wait themselves. Requires a Memory.
func (b *budget) take(ctx context.Context, n int64) bool {
	m := b.m
	for {
		m.mu.Lock()
		if b.mayLocked(n) {
			b.held += n
			m.held += n
			m.mu.Unlock()
			return true
		}
		if b.sending == 0 || n > m.max {
			m.mu.Unlock()
			return false
		}
		change := m.change
		m.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			return false
		}
	}
}

// mayLocked says whether n more bytes are there, and the store's. Requires m.mu.
func (b *budget) mayLocked(n int64) bool {
	share := b.m.max / int64(max(b.m.writing, 1))
	return b.m.held+n <= b.m.max && b.held+n <= max(share, b.whole-b.part)
}

// open says that a writer begins that may want memory.
func (b *budget) open() { b.update(0, 0, 1) }

// close is the end of open.
func (b *budget) close() { b.update(0, 0, -1) }

// give takes n bytes back.
func (b *budget) give(n int64) { b.update(-n, 0, 0) }

// send says that an object which holds n bytes is on its way, until done, which
// gives them back.
func (b *budget) send(n int64) (done func()) {
	b.update(0, 1, 0)
	return func() { b.update(-n, -1, 0) }
}

func (b *budget) update(held int64, sending, writers int) {
	m := b.m
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := b.writers > 0
	b.held += held
	m.held += held
	b.sending += sending
	b.writers += writers
	switch after := b.writers > 0; {
	case after && !before:
		m.writing++
	case before && !after:
		m.writing--
	}
	close(m.change)
	m.change = make(chan struct{})
}
