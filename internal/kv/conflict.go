package kv

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"
)

// stamps is a table of the newest write to any key of a hash, as in TL2 (Dice,
// Shalev, Shavit: "Transactional Locking II", 2006). It answers "was this key
// written since?" with no or perhaps, in fixed memory. Written under the commit
// lock before a batch becomes visible; read without a lock.
type stamps struct {
	seed  maphash.Seed
	slots [1 << 16]atomic.Uint64
}

func newStamps() *stamps { return &stamps{seed: maphash.MakeSeed()} }

func (s *stamps) hash(key []byte) uint64 { return maphash.Bytes(s.seed, key) }

func (s *stamps) slot(hash uint64) *atomic.Uint64 { return &s.slots[hash%uint64(len(s.slots))] }

func (s *stamps) mark(ws []write, seq Seq) {
	for i := range ws {
		s.slot(ws[i].hash).Store(uint64(seq))
	}
}

// reads is what a transaction depends on: hashes of keys, and ranges as far as
// they were scanned.
type reads struct {
	keys   []uint64
	ranges []keyRange
	arena  []byte // bounds of the ranges
}

type keyRange struct{ from, to span }

func (r *reads) reset() { r.keys, r.ranges, r.arena = r.keys[:0], r.ranges[:0], r.arena[:0] }

func (r *reads) addKey(hash uint64) { r.keys = append(r.keys, hash) }

// addRange records [from, to), or [from, to] where inclusive.
func (r *reads) addRange(from, to []byte, inclusive bool) {
	var kr keyRange
	kr.from.off = len(r.arena)
	r.arena = append(r.arena, from...)
	kr.from.end = len(r.arena)
	kr.to.off = len(r.arena)
	r.arena = append(r.arena, to...)
	if inclusive {
		r.arena = append(r.arena, 0)
	}
	kr.to.end = len(r.arena)
	r.ranges = append(r.ranges, kr)
}

func (r *reads) empty() bool { return len(r.keys)+len(r.ranges) == 0 }

// validate reports whether nothing in r was written by the batches after base
// up to and including head. Only what the table suspects is compared.
func (r *reads) validate(s *stamps, base, head *entry) bool {
	if base == head || r.empty() {
		return true
	}
	suspects := r.suspects(s, base.Seq)
	if suspects == 0 && len(r.ranges) == 0 {
		return true
	}
	for e := base; e != head; {
		next, ops, ok := e.after()
		if !ok || next == nil {
			return false
		}
		if r.hit(s, ops, suspects) {
			return false
		}
		e = next
	}
	return true
}

// suspects moves the keys that may have been written since to the front and
// counts them.
func (r *reads) suspects(s *stamps, since Seq) int {
	n := 0
	for i, h := range r.keys {
		if s.slot(h).Load() > uint64(since) {
			r.keys[i], r.keys[n] = r.keys[n], r.keys[i]
			n++
		}
	}
	return n
}

// hit reports whether one batch wrote anything in r.
func (r *reads) hit(s *stamps, ops []byte, suspects int) bool {
	for it := ReadOps(ops); it.Next(); {
		if suspects > 0 {
			h := s.hash(it.Op.Key)
			for _, k := range r.keys[:suspects] {
				if k == h {
					return true
				}
			}
		}
		for _, kr := range r.ranges {
			if bytes.Compare(it.Op.Key, kr.from.of(r.arena)) >= 0 && bytes.Compare(it.Op.Key, kr.to.of(r.arena)) < 0 {
				return true
			}
		}
	}
	return false
}
