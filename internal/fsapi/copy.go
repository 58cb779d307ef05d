package fsapi

import (
	"slices"
	"time"
)

// Bounds of a copy.
const (
	MaxReplicas = 16 // whole replicas of one copy
	MaxShards   = 32 // data and parity shards of one copy together
)

// CopySpec is one copy that a policy asks for: a full representation of a
// segment on one tier, as whole replicas or, where K is not 0, as K data and M
// parity shards (Reed-Solomon), each replica or shard on a drive of its own.
type CopySpec struct {
	Tier     string // hot, warm, cold
	Replicas int    // 1 to MaxReplicas; 0 for shards
	K, M     int    // K ≥ 1, K+M ≤ MaxShards; 0 for replicas
	// Min is how many replicas or shards must be durable before the copy counts
	// as written; 0 is DefaultMin. The rest is owed.
	Min int
	// Evictable: the copy may go from its tier, for room or by EvictAfter, while
	// a colder pinned copy has been read back and verified (D5).
	Evictable bool
	// EvictAfter is how long after its last access an evictable copy goes; 0:
	// only when its drive needs room.
	EvictAfter time.Duration
}

// Width is how many drives the copy wants.
func (c CopySpec) Width() int { return c.Replicas + c.K + c.M }

// Need is how many replicas or shards make the copy count as written.
func (c CopySpec) Need() int {
	if c.Min > 0 {
		return c.Min
	}
	return c.DefaultMin()
}

// DefaultMin is Need where Min is 0: all but one of several replicas, so that
// one lost drive stops nobody; K shards, so that M lost ones do not.
func (c CopySpec) DefaultMin() int {
	if c.K > 0 {
		return c.K
	}
	return max(1, c.Replicas-1)
}

// Tolerates is how many drives of a complete copy may be lost without loss of
// data.
func (c CopySpec) Tolerates() int {
	if c.K > 0 {
		return c.M
	}
	return c.Replicas - 1
}

// SameLayout reports whether c and d lay a segment out alike on one tier.
func (c CopySpec) SameLayout(d CopySpec) bool {
	return c.Tier == d.Tier && c.Replicas == d.Replicas && c.K == d.K && c.M == d.M
}

// TierRank orders tiers from hot, 0, to cold, 2; -1 is none of them.
func TierRank(tier string) int { return slices.Index([]string{"hot", "warm", "cold"}, tier) }

// CopyPlace is one copy of a segment as it is.
type CopyPlace struct {
	Tier string
	K, M int // shards; both 0: replicas
	// Drives hold one whole replica each; or, of shards, Drives[i] holds shard
	// i, and is 0 where that shard is not there: always K+M of them.
	Drives []DriveID
	// Verified is when the whole copy was last read back and found right; zero:
	// never since it was last changed.
	Verified time.Time
}

// Sharded reports whether the copy is laid out as shards.
func (c *CopyPlace) Sharded() bool { return c.K > 0 }

// Count is how many replicas or shards there are.
func (c *CopyPlace) Count() int {
	n := 0
	for _, d := range c.Drives {
		if d != 0 {
			n++
		}
	}
	return n
}

// Readable reports whether the replicas or shards there are suffice to read the
// segment.
func (c *CopyPlace) Readable() bool { return c.Count() >= max(1, c.K) }

// Is reports whether the copy is laid out as s asks, complete or not.
func (c *CopyPlace) Is(s CopySpec) bool {
	if c.Tier != s.Tier || c.K != s.K || c.M != s.M {
		return false
	}
	return c.Sharded() || s.Replicas > 0
}

// Complete reports whether the copy has all that s asks for.
func (c *CopyPlace) Complete(s CopySpec) bool { return c.Is(s) && c.Count() >= s.Width() }

// Clone is a copy of c that shares nothing with it.
func (c CopyPlace) Clone() CopyPlace {
	c.Drives = slices.Clone(c.Drives)
	return c
}

// CloneCopies clones a list of copies.
func CloneCopies(list []CopyPlace) []CopyPlace {
	out := make([]CopyPlace, len(list))
	for i := range list {
		out[i] = list[i].Clone()
	}
	return out
}

// Copy is the place that is laid out as spec asks, nil where there is none.
func (s *Segment) Copy(spec CopySpec) *CopyPlace {
	for i := range s.Copies {
		if s.Copies[i].Is(spec) {
			return &s.Copies[i]
		}
	}
	return nil
}

// Names reports whether some copy has a replica on a drive, or with shard its n-th
// shard. Shards of two layouts with one number have one name there.
func (s *Segment) Names(shard bool, n int, on DriveID) bool {
	for i := range s.Copies {
		c := &s.Copies[i]
		for k, d := range c.Drives {
			if d == on && d != 0 && c.Sharded() == shard && (!shard || n == k) {
				return true
			}
		}
	}
	return false
}

// Owed are the wanted copies that are not complete. An evictable copy of which
// nothing is there is not owed while a pinned one is complete: it was evicted.
func (s *Segment) Owed() []CopySpec {
	var owed []CopySpec
	for _, w := range s.Want {
		c := s.Copy(w)
		if c != nil && c.Complete(w) || c == nil && w.Evictable && s.pinned() {
			continue
		}
		owed = append(owed, w)
	}
	return owed
}

// pinned reports whether a pinned copy is complete.
func (s *Segment) pinned() bool {
	return slices.ContainsFunc(s.Want, func(w CopySpec) bool {
		c := s.Copy(w)
		return !w.Evictable && c != nil && c.Complete(w)
	})
}

// Surplus are the places that no wanted copy asks for, or with more replicas
// than it asks for: what a changed policy leaves.
func (s *Segment) Surplus() []CopyPlace {
	var list []CopyPlace
	for i := range s.Copies {
		c := &s.Copies[i]
		if !slices.ContainsFunc(s.Want, func(w CopySpec) bool { return c.Is(w) && c.Count() <= w.Width() }) {
			list = append(list, *c)
		}
	}
	return list
}

// Settled reports whether the segment's copies are what is wanted.
func (s *Segment) Settled() bool { return len(s.Owed()) == 0 && len(s.Surplus()) == 0 }

// Covers reports whether data stored with `have` is as safe as `want` asks: for
// each wanted copy there is one on the same tier that outlives as many lost
// drives, and is pinned if that is.
func Covers(have, want []CopySpec) bool {
	for _, w := range want {
		if !slices.ContainsFunc(have, func(h CopySpec) bool {
			return h.Tier == w.Tier && h.Tolerates() >= w.Tolerates() && (w.Evictable || !h.Evictable)
		}) {
			return false
		}
	}
	return true
}

// JoinCopies is a list of copies that covers two others: of each tier the one that
// outlives more lost drives, and pinned if one of them is.
func JoinCopies(a, b []CopySpec) []CopySpec {
	out := slices.Clone(a)
	for _, w := range b {
		i := slices.IndexFunc(out, func(c CopySpec) bool { return c.Tier == w.Tier })
		if i < 0 {
			out = append(out, w)
			continue
		}
		pinned := !out[i].Evictable || !w.Evictable
		if w.Tolerates() > out[i].Tolerates() {
			out[i] = w
		}
		if pinned {
			out[i].Evictable, out[i].EvictAfter = false, 0
		}
	}
	return out
}
