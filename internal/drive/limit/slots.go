package limit

import (
	"context"
	"sync"

	"github.com/strakefs/strake/internal/drive"
)

// slots let a number of calls run at once. Those that wait are let in in the
// order they came, background calls after all others.
type slots struct {
	mu sync.Mutex
	// All below is guarded by mu.
	free    int
	back    int        // more that may go to background calls
	waiting [2][]*slot // by class
}

// slot is one call that waits.
type slot struct {
	in chan struct{} // closed when it is let in
}

// Classes of calls.
const (
	foreground = 0
	background = 1
)

func classOf(ctx context.Context) int {
	if drive.IsBackground(ctx) {
		return background
	}
	return foreground
}

func newSlots(n, share int) *slots { return &slots{free: n, back: max(n*share/100, 1)} }

// take waits for a slot. A nil slots has room for all.
func (s *slots) take(ctx context.Context) (leave func(), err error) {
	if s == nil {
		return func() {}, ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	class := classOf(ctx)
	leave = func() { s.leave(class) }
	me := &slot{in: make(chan struct{})}
	s.mu.Lock()
	s.waiting[class] = append(s.waiting[class], me)
	s.admit()
	s.mu.Unlock()
	select {
	case <-me.in:
		return leave, nil
	case <-ctx.Done():
	}
	if !s.giveUp(class, me) { // let in meanwhile
		leave()
	}
	return nil, ctx.Err()
}

// giveUp takes a call out of the queue, if it is there still.
func (s *slots) giveUp(class int, me *slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.waiting[class] {
		if other == me {
			s.waiting[class] = append(s.waiting[class][:i:i], s.waiting[class][i+1:]...)
			return true
		}
	}
	return false
}

func (s *slots) leave(class int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	if class == background {
		s.back++
	}
	s.admit()
}

// admit lets in whom it may: of those who wait, background calls first up to
// their share, which is theirs even while others wait. Requires mu.
func (s *slots) admit() {
	for s.free > 0 && s.back > 0 && len(s.waiting[background]) > 0 {
		s.back--
		s.let(background)
	}
	for s.free > 0 && len(s.waiting[foreground]) > 0 {
		s.let(foreground)
	}
}

func (s *slots) let(class int) {
	s.free--
	close(s.waiting[class][0].in)
	s.waiting[class] = s.waiting[class][1:]
}
