package kv

import "sync/atomic"

// calls counts what runs inside an engine so that Close can wait for it. A call
// made from within another one is refused, not blocked, while Close waits.
type calls struct {
	// state is twice the number of running calls, plus one once closed.
	state atomic.Int64
	idle  chan struct{} // closed when closed and nothing runs
}

func newCalls() calls { return calls{idle: make(chan struct{})} }

// enter begins a call unless closed.
func (c *calls) enter() bool {
	if c.state.Add(2)&1 == 0 {
		return true
	}
	c.leave()
	return false
}

// leave ends a call. The one who brings the count to zero after close says so;
// a refused enter may do it again, hence the exchange to a state of its own.
func (c *calls) leave() {
	if c.state.Add(-2) == 1 && c.state.CompareAndSwap(1, drained) {
		close(c.idle)
	}
}

// drained is the state after the last call: closed, and too low to come back.
const drained = -1<<40 | 1

// close refuses later calls and waits for running ones. False where somebody
// closed before.
func (c *calls) close() bool {
	for {
		old := c.state.Load()
		if old&1 != 0 {
			<-c.idle
			return false
		}
		if c.state.CompareAndSwap(old, old|1) {
			break
		}
	}
	// As a call that ends.
	c.state.Add(2)
	c.leave()
	<-c.idle
	return true
}
