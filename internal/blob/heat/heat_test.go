package heat

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// hands is a clock that a test moves.
type hands struct {
	mu  sync.Mutex
	now time.Time
}

func (h *hands) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hands) After(time.Duration) <-chan time.Time { return nil }

func (h *hands) move(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func table(o Options) (*Table, *hands) {
	c := &hands{now: time.Unix(1_750_000_000, 0)}
	o.Clock = c
	return New(o), c
}

func id(n byte) fsapi.SegmentID { return fsapi.SegmentID{0: n, 14: n} }

// A scan is one access; reads at times apart are several.
func TestVisits(t *testing.T) {
	tab, c := table(Options{Apart: time.Minute, Reads: 3, Window: time.Hour})
	for range 1000 {
		tab.Touch(id(1))
	}
	if h, ok := tab.Of(id(1)); !ok || h.Count != 1 {
		t.Errorf("after a scan: %+v", h)
	}
	if got := tab.Candidates(9); len(got) != 0 {
		t.Errorf("a scan made candidates: %v", got)
	}
	for range 2 {
		c.move(time.Minute)
		tab.Touch(id(1))
	}
	if got := tab.Candidates(9); len(got) != 1 || got[0] != id(1) {
		t.Errorf("candidates: %v", got)
	}
	if got := tab.Candidates(9); len(got) != 0 {
		t.Errorf("asked again: %v", got)
	}
}

// Visits that lie further apart than the window promote nothing.
func TestWindow(t *testing.T) {
	tab, c := table(Options{Apart: time.Minute, Reads: 3, Window: time.Hour})
	for range 20 {
		c.move(31 * time.Minute)
		tab.Touch(id(1))
	}
	if got := tab.Candidates(9); len(got) != 0 {
		t.Errorf("candidates: %v", got)
	}
}

// A steady rate shows its visits in 30 days, and they fade by 1/e in as long.
func TestDecay(t *testing.T) {
	tab, c := table(Options{})
	for range 300 {
		c.move(24 * time.Hour)
		tab.Touch(id(1))
	}
	h, _ := tab.Of(id(1))
	if h.Count < 29 || h.Count > 32 {
		t.Errorf("one a day for 300 days counts %v in 30", h.Count)
	}
	if got := decay(h.Count, int64(Span/time.Second)); math.Abs(got-h.Count/math.E) > 1e-6 {
		t.Errorf("after 30 days: %v of %v", got, h.Count)
	}
}

func TestScore(t *testing.T) {
	now := time.Unix(1_750_000_000, 0)
	w := Weights{Recency: 100, Frequency: 2}
	h := fsapi.Heat{Last: now.Add(-50 * time.Second), Visit: now, Count: 3}
	if got := w.Score(h, now.Add(-time.Hour), now); math.Abs(got-(100.0/50+2*3)) > 1e-9 {
		t.Errorf("score %v", got)
	}
	if got := w.Score(fsapi.Heat{}, now.Add(-200*time.Second), now); math.Abs(got-0.5) > 1e-9 {
		t.Errorf("score of what was never read: %v", got)
	}
	if got := w.Score(h, now.Add(time.Hour), now); got > 100+6 {
		t.Errorf("score of what is made in the future: %v", got)
	}
}

// The bound holds, and those read long ago go first.
func TestBound(t *testing.T) {
	tab, c := table(Options{Segments: 4 * shards})
	for n := range 1000 {
		tab.Touch(fsapi.SegmentID{0: byte(n), 1: byte(n >> 8), 14: byte(n)})
		c.move(time.Second)
	}
	total := 0
	for i := range tab.shards {
		total += len(tab.shards[i].m)
	}
	if total > 4*shards {
		t.Errorf("%d entries", total)
	}
	if _, ok := tab.Of(fsapi.SegmentID{0: byte(999 & 0xff), 1: byte(999 >> 8), 14: byte(999 & 0xff)}); !ok {
		t.Error("the newest is gone")
	}
	if _, ok := tab.Of(fsapi.SegmentID{}); ok {
		t.Error("the oldest is there")
	}
}

func TestChangedAndLoad(t *testing.T) {
	tab, c := table(Options{})
	for n := range byte(100) {
		tab.Touch(id(n))
	}
	kept := tab.Changed(60)
	kept = append(kept, tab.Changed(60)...)
	if len(kept) != 100 || len(tab.Changed(60)) != 0 {
		t.Fatalf("%d changed", len(kept))
	}
	c.move(time.Hour)
	tab.Touch(id(5))
	if got := tab.Changed(60); len(got) != 1 || got[0].Count < 1.9 {
		t.Errorf("changed: %+v", got)
	}
	again, _ := table(Options{})
	for _, h := range kept {
		again.Load(h)
	}
	for _, h := range kept {
		if got, ok := again.Of(h.Segment); !ok || got != h {
			t.Errorf("%+v became %+v", h, got)
		}
	}
}

// What is in the journal lies on no drive.
func TestJournalIsNotCounted(t *testing.T) {
	tab, _ := table(Options{})
	tab.Touch(fsapi.SegmentID{15: 1})
	if h, ok := tab.Of(fsapi.SegmentID{15: 1}); ok {
		t.Errorf("%+v", h)
	}
}

func TestTouchAllocatesNothing(t *testing.T) {
	tab := New(Options{})
	tab.Touch(id(1))
	if n := testing.AllocsPerRun(1000, func() { tab.Touch(id(1)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A clock that goes back counts nothing and breaks nothing.
func TestClockGoesBack(t *testing.T) {
	tab, c := table(Options{})
	tab.Touch(id(1))
	before, _ := tab.Of(id(1))
	c.move(-time.Hour)
	tab.Touch(id(1))
	if after, _ := tab.Of(id(1)); after != before {
		t.Errorf("%+v became %+v", before, after)
	}
}

func BenchmarkTouch(b *testing.B) {
	tab := New(Options{})
	tab.Touch(id(1))
	b.ReportAllocs()
	for b.Loop() {
		tab.Touch(id(1))
	}
}

// What is written anew is as warm as the warmest of what it was made of.
func TestInherit(t *testing.T) {
	tab, c := table(Options{Apart: time.Minute, Reads: 4, Window: time.Hour})
	for range 3 {
		tab.Touch(id(1))
		c.move(2 * time.Minute)
	}
	tab.Touch(id(2))
	tab.Inherit(id(3), []fsapi.SegmentID{id(1), id(2), id(9)})
	one, _ := tab.Of(id(1))
	two, _ := tab.Of(id(2))
	h, ok := tab.Of(id(3))
	if !ok || !h.Last.Equal(two.Last) || h.Count > one.Count || h.Count < 0.999*one.Count {
		t.Errorf("%+v, of %+v and %+v", h, one, two)
	}
	if tab.Inherit(id(4), []fsapi.SegmentID{id(9)}); len(tab.Changed(9)) != 3 {
		t.Error("heat came from nowhere")
	}
	c.move(2 * time.Minute)
	if tab.Touch(id(3)); len(tab.Candidates(9)) != 1 {
		t.Error("the visits before are not counted")
	}
	tab.Inherit(id(3), []fsapi.SegmentID{id(2)})
	if again, _ := tab.Of(id(3)); again.Count < h.Count {
		t.Errorf("it was cooled: %+v, was %+v", again, h)
	}
	(*Table)(nil).Inherit(id(1), nil)
}
