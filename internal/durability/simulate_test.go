package durability

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
)

// pool simulates drives, segments and repair one by one: nothing of the model's
// exposure levels is in it. Repair writes the segment that lacks most shards
// first, at a fixed rate.
type pool struct {
	rnd      *rand.Rand
	drives   int
	m        int
	segments [][]int // drives of each
	byDrive  [][]int // segments on each
	life     float64 // mean of a drive
	detect   float64
	shard    float64 // years to restore one
}

// job is something to happen: a drive's failure (of segment -1), or a shard that
// may be restored from then on.
type job struct {
	at             float64
	segment, drive int
}

type jobs []job

func (q jobs) Len() int           { return len(q) }
func (q jobs) Less(i, j int) bool { return q[i].at < q[j].at }
func (q jobs) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *jobs) Push(x any)        { *q = append(*q, x.(job)) }
func (q *jobs) Pop() any {
	x := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return x
}

func newPool(seed uint64, drives, k, m, segments int, clustered bool) *pool {
	p := &pool{rnd: rand.New(rand.NewPCG(seed, 1)), drives: drives, m: m, byDrive: make([][]int, drives)}
	for s := range segments {
		on := p.rnd.Perm(drives)[:k+m]
		if clustered {
			first := s % (drives / (k + m)) * (k + m)
			for i := range on {
				on[i] = first + i
			}
		}
		p.segments = append(p.segments, on)
		for _, d := range on {
			p.byDrive[d] = append(p.byDrive[d], s)
		}
	}
	return p
}

// run is one life of a pool.
type run struct {
	*pool
	lacks  []map[int]float64 // by segment and drive: from when on it may be restored
	levels []jobs            // by how much their segment lacked when they were put there
}

// untilLoss is when the first segment lacks more than m shards.
func (p *pool) untilLoss() float64 {
	r := &run{pool: p, lacks: make([]map[int]float64, len(p.segments)), levels: make([]jobs, p.m+1)}
	for s := range r.lacks {
		r.lacks[s] = map[int]float64{}
	}
	var failures jobs
	for d := range p.drives {
		heap.Push(&failures, job{p.rnd.ExpFloat64() * p.life, -1, d})
	}
	for now := 0.0; ; {
		f := heap.Pop(&failures).(job)
		r.repair(now, f.at)
		now = f.at
		for _, s := range p.byDrive[f.drive] {
			r.lacks[s][f.drive] = now + p.detect
			if len(r.lacks[s]) > p.m {
				return now
			}
			r.put(s)
		}
		heap.Push(&failures, job{now + p.rnd.ExpFloat64()*p.life, -1, f.drive}) // its replacement may fail
	}
}

// put makes a segment's shards wait for repair.
func (r *run) put(s int) {
	for d, at := range r.lacks[s] {
		heap.Push(&r.levels[len(r.lacks[s])-1], job{at, s, d})
	}
}

// repair restores shards from now until then, one after another; what is not
// finished then is begun anew.
func (r *run) repair(now, until float64) {
	for {
		level := r.next()
		if level < 0 {
			return
		}
		j := r.levels[level][0]
		if now = max(now, j.at) + r.shard; now > until {
			return
		}
		delete(r.lacks[j.segment], j.drive)
		r.put(j.segment)
	}
}

// next is the level of the segment that lacks most. Jobs whose segment has
// changed level are dropped.
func (r *run) next() int {
	for l := len(r.levels) - 1; l >= 0; l-- {
		for q := &r.levels[l]; len(*q) > 0; heap.Pop(q) {
			j := (*q)[0]
			if at, ok := r.lacks[j.segment][j.drive]; ok && at == j.at && len(r.lacks[j.segment]) == l+1 {
				return l
			}
		}
	}
	return -1
}

// The chain of drives against drives.
func TestDrivesAgreeWithSimulation(t *testing.T) {
	for _, c := range []struct {
		name                string
		drives, k, m, segs  int
		clustered           bool
		life, detect, shard float64
		runs                int
		low, high           float64 // of the simulated time in the model's
	}{
		// The model's repair takes a time that is exponential, the simulation's
		// one that is fixed: with one parity shard that makes no difference to
		// first order; with two the simulated time is up to twice as long.
		{"mirrored pair", 2, 1, 1, 10, true, 1, 0.02, 0.001, 700, 0.9, 1.1},
		{"three groups of 3+1", 12, 3, 1, 30, true, 1, 0.005, 0.0005, 700, 0.9, 1.1},
		{"12 drives, spread 2+1", 12, 2, 1, 400, false, 1, 0.004, 0.00002, 700, 0.9, 1.1},
		{"12 drives, few segments", 12, 1, 1, 6, false, 1, 0.02, 0.001, 700, 0.85, 1.15},
		{"10 drives, spread 2+2", 10, 2, 2, 800, false, 1, 0.02, 0.00005, 250, 0.9, 2.2},
	} {
		p := newPool(7, c.drives, c.k, c.m, c.segs, c.clustered)
		p.life, p.detect, p.shard = c.life, c.detect, c.shard
		sum, squares := 0.0, 0.0
		for range c.runs {
			x := p.untilLoss()
			sum, squares = sum+x, squares+x*x
		}
		got := sum / float64(c.runs)
		deviation := math.Sqrt((squares/float64(c.runs) - got*got) / float64(c.runs))

		const segment = 1 << 20
		s := System{Bytes: int64(c.segs) * segment, Segment: segment}
		d := Drives{
			K: c.k, M: c.m, Count: c.drives, Clustered: c.clustered,
			AFR:    Figure{-math.Expm1(-1 / c.life), Given},
			Detect: Figure{c.detect, Given}, Latent: Figure{0, Given}, DomainLoss: Figure{0, Given}, Scrub: Figure{1, Given},
			Repair: Figure{float64(segment) / float64(c.k) / c.shard / secondsAYear, Given},
		}.filled(&s)
		rate := 0.0
		for _, m := range d.modes(&s) {
			rate += m.Rate
		}
		t.Logf("%s: simulated %.4g ± %.2g years, the model says %.4g", c.name, got, deviation, 1/rate)
		if noise := 3 * deviation * rate; got*rate < c.low-noise || got*rate > c.high+noise {
			t.Errorf("%s: simulated %.4g ± %.2g years, the model says %.4g", c.name, got, deviation, 1/rate)
		}
	}
}
