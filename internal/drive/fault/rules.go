package fault

import (
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// FailNth fails call number n, counted from 1 over all calls, with err.
func FailNth(n int64, err error) Rule { return FailBetween("", "*", n, n, err) }

// FailOp fails every call of kind op ("": any) on names that match glob.
func FailOp(op Op, glob string, err error) Rule {
	return func(c Call) Outcome {
		if Match(c, op, glob) {
			return Outcome{Err: err}
		}
		return Outcome{}
	}
}

// FailBetween fails calls number from to to, both counted from 1 among those
// of kind op ("": any) on names that match glob.
func FailBetween(op Op, glob string, from, to int64, err error) Rule {
	var count atomic.Int64
	return func(c Call) Outcome {
		if !Match(c, op, glob) {
			return Outcome{}
		}
		if n := count.Add(1); n >= from && n <= to {
			return Outcome{Err: err}
		}
		return Outcome{}
	}
}

// Match says whether a call is of kind op ("": any) and its name matches glob:
// as path.Match does, or "*" for any name. A malformed glob matches nothing.
func Match(c Call, op Op, glob string) bool {
	if op != "" && c.Op != op {
		return false
	}
	ok, _ := path.Match(glob, c.Name)
	return ok || glob == "*"
}

// Odds are the chances, from 0 to 1 each, of what Random does to a call.
type Odds struct {
	// Fail is that a call of the kinds in Ops (none: all) fails with Err (nil:
	// EIO); half of these fail late.
	Fail float64
	Ops  []Op
	Err  error
	Lost float64
	Flip float64
	// Slow is that a call takes Delay longer.
	Slow  float64
	Delay time.Duration
}

// Random decides by chance; the same seed and sequence of calls give the same
// faults.
func Random(seed uint64, o Odds) Rule {
	if o.Err == nil {
		o.Err = syscall.EIO
	}
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 0))
	return func(c Call) Outcome {
		mu.Lock()
		defer mu.Unlock()
		var out Outcome
		if r.Float64() < o.Slow {
			out.Delay = o.Delay
		}
		if r.Float64() < o.Fail && (len(o.Ops) == 0 || slices.Contains(o.Ops, c.Op)) {
			out.Err, out.Late = o.Err, r.IntN(2) == 0
		}
		out.Lost = r.Float64() < o.Lost
		if r.Float64() < o.Flip && c.Op == Read && c.Len > 0 {
			out.FlipBit = 1 + r.IntN(8*c.Len)
		}
		return out
	}
}
