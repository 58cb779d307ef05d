// Package heat remembers how often and how lately segments were read, so that
// those in use lie on fast drives and the others do not.
//
// It owns: the table of accesses, its bound, the decay of what is long ago, the
// choice of what is worth promoting. It must not know where segments lie.
//
// A visit is what counts as one access: it begins with the first read of a
// segment that comes at least Options.Apart after the last visit began. Reading
// a segment once from end to end is one visit, and so is reading one byte. The
// count of visits decays: it is multiplied by exp(-t/30 d) over a time t, so
// that a segment visited at a steady rate shows its visits in 30 days.
//
// There are no goroutines. A Table's locks, one for each shard, are leaves.
package heat

import (
	"math"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
)

// Span is the time in which accesses are counted, by decay.
const Span = 30 * 24 * time.Hour

// Options of New. Zero fields take the defaults named.
type Options struct {
	Segments int           // that are remembered, about 60 bytes each; 1,048,576
	Apart    time.Duration // from the beginning of one visit to that of the next at least; 5 minutes
	Reads    int           // visits within Window that make a segment a candidate, at most 100; 3
	Window   time.Duration // counted in halves: what is older than Window is surely left out, what is younger than half of it surely counted; 24 hours
	Clock    clock.Clock   // clock.Real
}

func (o *Options) defaults() {
	if o.Segments == 0 {
		o.Segments = 1 << 20
	}
	if o.Apart == 0 {
		o.Apart = 5 * time.Minute
	}
	if o.Reads == 0 {
		o.Reads = 3
	}
	if o.Window == 0 {
		o.Window = 24 * time.Hour
	}
	if o.Clock == nil {
		o.Clock = clock.Real
	}
}

const (
	shards        = 64
	maxCandidates = 1024 // waiting to be asked for; more are left out until they are visited again
	maxRecent     = 255
	victims       = 8 // looked at for the one to forget
)

// Table is the accesses to segments. Safe for concurrent use. The methods of a
// nil Table do nothing.
type Table struct {
	o          Options
	shards     [shards]shard
	candidates chan fsapi.SegmentID
}

type shard struct {
	mu sync.Mutex
	m  map[fsapi.SegmentID]entry // guarded by mu
	_  [40]byte                  // its own cache line
}

// entry is kept small: there may be a million of them.
type entry struct {
	last, visit  uint32  // Unix seconds
	count        float32 // as of visit
	half         uint32  // number of the half window that recent counts in
	recent, prev uint8   // visits in it and in the one before it
	changed      bool    // since Changed gave it
}

// New makes an empty table.
func New(o Options) *Table {
	o.defaults()
	t := &Table{o: o, candidates: make(chan fsapi.SegmentID, maxCandidates)}
	for i := range t.shards {
		t.shards[i].m = make(map[fsapi.SegmentID]entry)
	}
	return t
}

// shardOf uses random bytes of the id, not the lowest bit, which is its kind.
func (t *Table) shardOf(id fsapi.SegmentID) *shard { return &t.shards[id[14]%shards] }

func (t *Table) now() uint32 { return uint32(max(0, t.o.Clock.Now().Unix())) }

// Touch counts a read of a stored segment. It allocates nothing for one that is
// remembered.
func (t *Table) Touch(id fsapi.SegmentID) {
	if t == nil || id.IsJournal() {
		return
	}
	now := t.now()
	s := t.shardOf(id)
	s.mu.Lock()
	e, known := s.m[id]
	if known && e.last == now { // counted already in this second
		s.mu.Unlock()
		return
	}
	if !known && len(s.m) >= max(1, t.o.Segments/shards) {
		s.forgetOne()
	}
	hot := t.visit(&e, now)
	e.last, e.changed = max(e.last, now), true
	s.m[id] = e
	s.mu.Unlock()
	if hot {
		select {
		case t.candidates <- id:
		default:
		}
	}
}

// visit counts a visit where one begins, and reports whether it makes the
// segment a candidate.
func (t *Table) visit(e *entry, now uint32) (hot bool) {
	if e.visit != 0 && int64(now)-int64(e.visit) < int64(t.o.Apart/time.Second) {
		return false // the same visit, or the clock went back
	}
	e.count = float32(decay(float64(e.count), int64(now)-int64(e.visit))) + 1
	e.visit = now
	half := now / uint32(max(1, t.o.Window/time.Second/2))
	switch half {
	case e.half:
	case e.half + 1:
		e.prev, e.recent = e.recent, 0
	default:
		e.prev, e.recent = 0, 0
	}
	e.half = half
	e.recent = min(e.recent, maxRecent-1) + 1
	return int(e.recent)+int(e.prev) >= t.o.Reads
}

// decay is what a count has become after some seconds.
func decay(count float64, seconds int64) float64 {
	if count == 0 {
		return 0
	}
	return count * math.Exp(-float64(max(0, seconds))/Span.Seconds())
}

// forgetOne drops the one read longest ago of a few. REQUIRES mu.
func (s *shard) forgetOne() {
	var victim fsapi.SegmentID
	oldest, seen := uint32(math.MaxUint32), 0
	for id, e := range s.m {
		if e.last <= oldest {
			victim, oldest = id, e.last
		}
		if seen++; seen == victims {
			break
		}
	}
	delete(s.m, victim)
}

// Of is what is remembered of a segment; false where that is nothing.
func (t *Table) Of(id fsapi.SegmentID) (fsapi.Heat, bool) {
	if t == nil {
		return fsapi.Heat{}, false
	}
	s := t.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.m[id]
	return e.heat(id), ok
}

func (e *entry) heat(id fsapi.SegmentID) fsapi.Heat {
	return fsapi.Heat{Segment: id, Last: time.Unix(int64(e.last), 0), Visit: time.Unix(int64(e.visit), 0), Count: float64(e.count)}
}

// Inherit lets a segment that was made of others' data be as warm as the warmest of
// them. What is known of it already stays, where that is more.
func (t *Table) Inherit(to fsapi.SegmentID, from []fsapi.SegmentID) {
	if t == nil || to.IsJournal() {
		return
	}
	var sum entry
	for _, id := range from {
		s := t.shardOf(id)
		s.mu.Lock()
		e, ok := s.m[id]
		s.mu.Unlock()
		if ok {
			sum = warmer(sum, e)
		}
	}
	if sum.last == 0 {
		return
	}
	s := t.shardOf(to)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, known := s.m[to]
	if !known && len(s.m) >= max(1, t.o.Segments/shards) {
		s.forgetOne()
	}
	e = warmer(e, sum)
	e.changed = true
	s.m[to] = e
}

// warmer has of two entries whatever is more, as of the later visit.
func warmer(a, b entry) entry {
	if a.visit < b.visit {
		a, b = b, a
	}
	a.last = max(a.last, b.last)
	a.count = max(a.count, float32(decay(float64(b.count), int64(a.visit)-int64(b.visit))))
	switch a.half {
	case b.half:
		a.recent, a.prev = max(a.recent, b.recent), max(a.prev, b.prev)
	case b.half + 1:
		a.prev = max(a.prev, b.recent)
	}
	return a
}

// Candidates are segments that were visited often enough of late, each asked
// for once: at most limit of them.
func (t *Table) Candidates(limit int) []fsapi.SegmentID {
	if t == nil {
		return nil
	}
	var list []fsapi.SegmentID
	for len(list) < limit {
		select {
		case id := <-t.candidates:
			list = append(list, id)
		default:
			return list
		}
	}
	return list
}

// Changed gives up to limit entries that have changed since it gave them last,
// to be kept.
func (t *Table) Changed(limit int) []fsapi.Heat {
	if t == nil {
		return nil
	}
	var list []fsapi.Heat
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for id, e := range s.m {
			if len(list) >= limit {
				break
			}
			if e.changed {
				list = append(list, e.heat(id))
				e.changed = false
				s.m[id] = e
			}
		}
		s.mu.Unlock()
	}
	return list
}

// Load puts back what was kept. An entry that is there already stays; false
// says that there is no room.
func (t *Table) Load(h fsapi.Heat) bool {
	if t == nil {
		return false
	}
	s := t.shardOf(h.Segment)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.m[h.Segment]; ok {
		return true
	}
	if len(s.m) >= max(1, t.o.Segments/shards) {
		return false
	}
	s.m[h.Segment] = entry{last: uint32(h.Last.Unix()), visit: uint32(h.Visit.Unix()), count: float32(h.Count)}
	return true
}

// Weights say how a score is made of an access long ago and of many accesses.
type Weights struct {
	Recency   float64 // divided by the seconds since the last access
	Frequency float64 // times the accesses in Span
}

// Score is how much a segment deserves a fast drive. made stands for the last
// access of one that was never read.
func (w Weights) Score(h fsapi.Heat, made, now time.Time) float64 {
	last := made
	if h.Last.After(last) {
		last = h.Last
	}
	since := max(1, now.Sub(last).Seconds())
	return w.Recency/since + w.Frequency*decay(h.Count, now.Unix()-h.Visit.Unix())
}
