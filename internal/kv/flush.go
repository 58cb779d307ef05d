package kv

import (
	"context"
	"sync"
)

// flushes lets concurrent callers share flushes of the log: one runs, and all
// who come meanwhile share the next.
type flushes struct {
	flush    func() error
	detached bool // every flush runs in a goroutine of its own

	wg      sync.WaitGroup // flushes that run in a goroutine of their own
	mu      sync.Mutex
	running bool    // guarded by mu
	next    *flight // those waiting for the flush after the running one; guarded by mu
}

// flight is one flush and those who wait for it.
type flight struct {
	done chan struct{} // closed after err is set
	err  error
}

// wait returns when a flush that began after the call has ended. Where none
// runs, the caller does it himself and ctx cannot interrupt him, unless flushes
// are detached.
func (f *flushes) wait(ctx context.Context) error {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	f.mu.Lock()
	var fl *flight
	switch {
	case !f.running && !f.detached:
		f.running = true
		f.mu.Unlock()
		fl = &flight{}
		f.run(fl)
		return fl.err
	case !f.running:
		f.running = true
		fl = &flight{done: make(chan struct{})}
		f.wg.Go(func() { f.run(fl) })
	default:
		if f.next == nil {
			f.next = &flight{done: make(chan struct{})}
		}
		fl = f.next
	}
	f.mu.Unlock()
	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
		return interrupted(ctx)
	}
}

// run flushes for fl, then starts the next flight if someone waits for it.
func (f *flushes) run(fl *flight) {
	fl.err = f.flush()
	if fl.done != nil {
		close(fl.done)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.next
	f.next = nil
	if next == nil {
		f.running = false
		return
	}
	f.wg.Go(func() { f.run(next) })
}
