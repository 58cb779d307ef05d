package upkeep

import (
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// gatherer holds back what is to be done on tiers all of whose drives spin down,
// until there is enough of it to be worth waking one or it has waited for long.
// Then a window opens, and stays open until all that was held is done. Safe for
// concurrent use.
type gatherer struct {
	bytes   int64         // that open a window
	longest time.Duration // that something waits
	lull    time.Duration // for which a drive counts as awake after its window

	began time.Time

	mu    sync.Mutex
	tiers map[string]*gathered // guarded by mu
}

// gathered is what waits for one tier. Guarded by the gatherer's mu.
type gathered struct {
	open  bool
	since time.Time // of the first that waits
	bytes int64
	held  map[fsapi.SegmentID]int64 // bytes of each
	idle  map[fsapi.SegmentID]bool  // of these, those to which nothing else is to be done
	woken time.Time                 // when a window was open last, or this began
}

func (g *gatherer) tier(tier string) *gathered {
	t := g.tiers[tier]
	if t == nil {
		t = &gathered{held: make(map[fsapi.SegmentID]int64), idle: make(map[fsapi.SegmentID]bool), woken: g.began}
		g.tiers[tier] = t
	}
	return t
}

// hold takes note of a segment that has something to be written to a tier, and
// reports whether it must wait.
func (g *gatherer) hold(tier string, id fsapi.SegmentID, size int64, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tier(tier)
	if _, known := t.held[id]; !known {
		if len(t.held) == 0 {
			t.since = now
		}
		t.held[id] = size
		t.bytes += size
	}
	t.open = t.open || t.bytes >= g.bytes
	return !t.open
}

// rest takes note that nothing is to be done to a segment but what is held.
func (g *gatherer) rest(id fsapi.SegmentID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.tiers {
		if _, held := t.held[id]; held {
			t.idle[id] = true
		}
	}
}

// holds reports whether a segment waits for some tier, and for nothing else.
func (g *gatherer) holds(id fsapi.SegmentID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.tiers {
		if t.idle[id] && !t.open {
			return true
		}
	}
	return false
}

// done takes note that a segment was worked on while the window was open.
func (g *gatherer) done(id fsapi.SegmentID, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.tiers {
		if t.open {
			t.drop(id, now)
		}
	}
}

func (t *gathered) drop(id fsapi.SegmentID, now time.Time) {
	t.bytes -= t.held[id]
	delete(t.held, id)
	delete(t.idle, id)
	if t.open {
		t.woken = now
		t.open = len(t.held) > 0
	}
}

// look opens the windows that are due, and forgets what is pending no more:
// pending says whether a segment is.
func (g *gatherer) look(pending func(fsapi.SegmentID) bool, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.tiers {
		for id := range t.held {
			if !pending(id) {
				t.drop(id, now)
			}
		}
		if age := now.Sub(t.since); len(t.held) > 0 && (age >= g.longest || age < 0) {
			t.open = true
		}
	}
}

// waiting reports whether something is held at all.
func (g *gatherer) waiting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.tiers {
		if len(t.held) > 0 {
			return true
		}
	}
	return false
}

// hurry opens all windows: somebody waits.
func (g *gatherer) hurry() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.tiers {
		t.open = len(t.held) > 0
	}
}

// mayDelete reports whether a tier is awake: a window is open, or was a short
// time ago. One that was asleep for the longest time is woken for deletions
// alone.
func (g *gatherer) mayDelete(tier string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tier(tier)
	slept := now.Sub(t.woken)
	if slept >= g.longest || slept < 0 {
		t.woken, slept = now, 0
	}
	return t.open || slept < g.lull
}

// sleeps reports whether every drive that could take a copy on a tier spins
// down.
func (u *Upkeep) sleeps(tier string) bool {
	some := false
	for _, d := range u.o.Drives.All() {
		i := d.Info()
		if i.Tier != tier || !u.o.Drives.State(i.ID).Writable() {
			continue
		}
		if !i.Spindown {
			return false
		}
		some = true
	}
	return some
}

// mayDelete reports whether a segment can be deleted without waking a drive.
func (u *Upkeep) mayDelete(s *fsapi.Segment) bool {
	now := u.o.Clock.Now()
	for i := range s.Copies {
		if tier := s.Copies[i].Tier; u.sleeps(tier) && !u.gather.mayDelete(tier, now) {
			return false
		}
	}
	return true
}
