package clock

import (
	"sync"
	"testing"
	"time"
)

// set is a clock that stands where it is put.
type set struct {
	mu sync.Mutex
	t  time.Time
}

func (s *set) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.t
}

func (s *set) After(time.Duration) <-chan time.Time { return nil }

func (s *set) put(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t = t
}

// Stamps grow while the wall clock jumps back, stands, and jumps ahead.
func TestStampsOnlyGrow(t *testing.T) {
	c := &set{t: time.UnixMilli(1_000_000)}
	h := NewHLC(c, Stamp(2_000_000)<<16)
	last := Stamp(2_000_000) << 16
	for _, ms := range []int64{1_000_000, 500, 3_000_000, 3_000_000, 10, 3_000_001} {
		c.put(time.UnixMilli(ms))
		for range 100 {
			s := h.Next()
			if s <= last {
				t.Fatalf("at %d ms: stamp %d after %d", ms, s, last)
			}
			last = s
		}
	}
	if got := last.Time(); got.UnixMilli() != 3_000_001 {
		t.Errorf("the stamp's time is %v, want that of the wall clock", got)
	}
	h.Observe(last + 1<<32)
	if s := h.Next(); s <= last+1<<32 {
		t.Errorf("stamp %d is not past the one observed", s)
	}
}
