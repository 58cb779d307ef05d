package vfs

import "slices"

const (
	blockShift = 16
	blockSize  = 1 << blockShift
	blockMask  = blockSize - 1
)

// span is a range of bytes [lo, hi) within a block.
type span struct{ lo, hi int32 }

// block holds the newest bytes of a part of one file's 64 KiB block until they
// are stored: those in spans. All fields are guarded by the node's mu.
//
// A block is dirty (its bytes from done on must be put into a flight), or
// flying (all of its bytes are in leg). Either way readers take its bytes
// rather than stored ones.
type block struct {
	idx   int64
	dirty bool
	gone  bool  // no longer in the node's map
	done  int32 // bytes of a dirty block below it are in leg already
	leg   *leg  // the flight that last took bytes of it, until that is settled
	pg    *page
	off   int32 // in pg.mem of the byte base
	base  int32 // first byte of the block that pg has room for
	room  int32 // bytes of pg that are the block's
	lent  int32 // bytes of the block below it may be held by a flight: they are not changed where they are
	run   int32 // bytes written one after another up to the block's start, as far as is known
	spans []span
	one   [1]span // room for the usual single span
}

// bytes are the block's bytes [lo, hi), which it has room for.
func (b *block) bytes(lo, hi int32) []byte {
	return b.pg.mem[b.at(lo):b.at(hi):b.at(hi)]
}

// size is how many bytes the spans hold.
func (b *block) size() int64 {
	var n int64
	for _, s := range b.spans {
		n += int64(s.hi - s.lo)
	}
	return n
}

// fresh is how many of them are not in a flight, for a dirty block.
func (b *block) fresh() int64 {
	var n int64
	for _, s := range b.spans {
		n += int64(max(s.hi, b.done) - max(s.lo, b.done))
	}
	return n
}

// write puts p at byte lo.
func (b *block) write(ps *pages, lo int32, p []byte) {
	hi := lo + int32(len(p))
	b.reserve(ps, lo, hi)
	copy(b.bytes(lo, hi), p)
	b.cover(lo, hi)
}

// reserve makes [lo, hi) writable: with room, and in no flight.
func (b *block) reserve(ps *pages, lo, hi int32) {
	if b.pg != nil && lo >= max(b.base, b.lent) && hi <= b.base+b.room {
		return
	}
	newLo, newHi := lo, hi
	if len(b.spans) > 0 {
		newLo = min(lo, b.spans[0].lo)
		newHi = max(hi, b.spans[len(b.spans)-1].hi)
	}
	base := newLo &^ (minPage - 1)
	pg := ps.get(int(newHi - base))
	room := min(int32(len(pg.mem)), blockSize-base)
	for _, s := range b.spans {
		if s.lo >= lo && s.hi <= hi {
			continue
		}
		copy(pg.mem[s.lo-base:s.hi-base], b.bytes(s.lo, s.hi))
	}
	ps.put(b.pg)
	b.pg, b.off, b.base, b.room, b.lent = pg, 0, base, room, 0
}

// at is where in pg the block's byte lo lies.
func (b *block) at(lo int32) int32 { return b.off - b.base + lo }

// cover adds [lo, hi) to the spans, joining those that touch it.
func (b *block) cover(lo, hi int32) {
	if b.spans == nil {
		b.one[0] = span{lo, hi}
		b.spans = b.one[:1:1]
		return
	}
	i := 0
	for i < len(b.spans) && b.spans[i].hi < lo {
		i++
	}
	j := i
	for j < len(b.spans) && b.spans[j].lo <= hi {
		lo, hi = min(lo, b.spans[j].lo), max(hi, b.spans[j].hi)
		j++
	}
	b.spans = slices.Replace(b.spans, i, j, span{lo, hi})
}

// uncover takes [lo, hi) out of the spans; it reports whether any are left.
func (b *block) uncover(lo, hi int32) bool {
	kept := make([]span, 0, len(b.spans)+1)
	for _, s := range b.spans {
		if s.lo < lo {
			kept = append(kept, span{s.lo, min(s.hi, lo)})
		}
		if s.hi > hi {
			kept = append(kept, span{max(s.lo, hi), s.hi})
		}
	}
	b.spans = kept
	return len(kept) > 0
}
