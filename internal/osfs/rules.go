package osfs

import (
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Ready-made rules for Fault. Each value counts on its own and may be used
// concurrently; none should be shared between two Faults.

// FailNth fails call number n, counted from 1 over all calls, with err.
func FailNth(n int64, err error) Rule {
	var count atomic.Int64
	return func(Call) Outcome {
		if count.Add(1) == n {
			return Outcome{Err: err}
		}
		return Outcome{}
	}
}

// FailOp fails every call of kind op ("": any) on names that match glob, with
// err.
func FailOp(op Op, glob string, err error) Rule {
	return func(c Call) Outcome {
		if Match(c, op, glob) {
			return Outcome{Err: err}
		}
		return Outcome{}
	}
}

// FailBetween fails calls number from to to, both counted from 1 among those
// of kind op ("": any) on names that match glob, with err.
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

// Match says whether a call is of kind op ("": any) and its name, or the last
// part of it, matches glob as path.Match does. A malformed glob matches
// nothing.
func Match(c Call, op Op, glob string) bool {
	if op != "" && c.Op != op {
		return false
	}
	if glob == "*" {
		return true
	}
	whole, _ := path.Match(glob, c.Name)
	last, _ := path.Match(glob, path.Base(c.Name))
	return whole || last
}

// FullAfter lets n bytes be written and answers every write from then on with
// ENOSPC, the first of them torn.
func FullAfter(n int64) Rule {
	var left atomic.Int64
	left.Store(n)
	return func(c Call) Outcome {
		if c.Op != OpWrite {
			return Outcome{}
		}
		after := left.Add(-int64(c.Len))
		if after >= 0 {
			return Outcome{}
		}
		return Outcome{Err: syscall.ENOSPC, Short: int(max(0, after+int64(c.Len)))}
	}
}

// Odds are the chances, from 0 to 1 each, of what Random does to a call.
type Odds struct {
	// Fail is that a call of the kinds in Ops (none: all) fails with Err (nil:
	// EIO); a write is torn then.
	Fail float64
	Ops  []Op
	Err  error
	// Flip is that one bit of what is read is wrong.
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
			out.Err = o.Err
			if c.Op == OpWrite && c.Len > 0 {
				out.Short = r.IntN(c.Len)
			}
		}
		if r.Float64() < o.Flip && c.Op == OpRead && c.Len > 0 {
			out.FlipBit = 1 + r.IntN(8*c.Len)
		}
		return out
	}
}

// First asks several rules and takes the first outcome that does something.
// All of them count the call.
func First(rules ...Rule) Rule {
	return func(c Call) Outcome {
		var first Outcome
		for _, rule := range rules {
			if o := rule(c); first == (Outcome{}) {
				first = o
			}
		}
		return first
	}
}
