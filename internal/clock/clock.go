// Package clock is the seam for time: code that waits or stamps takes a Clock
// so that tests decide what time it is. It also makes hybrid logical clock
// stamps.
//
// It owns: Clock, Real, HLC. It must not know who asks.
package clock

import (
	"sync"
	"time"
)

// Clock tells the time and waits. Safe for concurrent use.
type Clock interface {
	Now() time.Time
	// After is as time.After.
	After(d time.Duration) <-chan time.Time
}

// Real is the machine's clock.
var Real Clock = real{}

type real struct{}

func (real) Now() time.Time                         { return time.Now() }
func (real) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Stamp is a hybrid logical clock value (Kulkarni et al., "Logical Physical
// Clocks", 2014): the upper 48 bits are milliseconds since the Unix epoch, the
// lower 16 a logical counter. Stamps order as integers.
type Stamp uint64

// Time is the physical part of s.
func (s Stamp) Time() time.Time { return time.UnixMilli(int64(s >> 16)) }

// HLC makes stamps that only grow, however the wall clock jumps. Safe for
// concurrent use.
type HLC struct {
	clock Clock
	mu    sync.Mutex
	last  Stamp // guarded by mu
}

// NewHLC makes a clock over c that starts above last.
func NewHLC(c Clock, last Stamp) *HLC { return &HLC{clock: c, last: last} }

// Next is a stamp above every stamp made or observed before.
func (h *HLC) Next() Stamp {
	now := Stamp(h.clock.Now().UnixMilli()) << 16
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = max(h.last+1, now)
	return h.last
}

// Observe moves the clock past a stamp that came from elsewhere.
func (h *HLC) Observe(s Stamp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = max(h.last, s)
}
