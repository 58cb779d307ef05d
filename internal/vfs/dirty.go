package vfs

import (
	"cmp"
	"math"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
)

// noCut is the cut of a file whose stored extents all hold.
const noCut = math.MaxInt64

// dirty is what a regular file has in memory that is not stored. Guarded by
// the node's mu.
//
// W1: the newest bytes of any range are in a block if there is one with a span
// there, else what the stored extents hold below every cut, else zeros.
// W2: flights of a node commit in the order they were begun; when one fails,
// those after it fail too, and their blocks are dirty again.
type dirty struct {
	blocks map[int64]*block
	fresh  []*block // dirty blocks, in no order; may hold gone or flying ones
	bytes  int64    // dirty bytes not in a flight
	held   int64    // bytes in spans of blocks
	cut    int64    // stored extents from here on are gone for readers; the next flight removes them
}

func newDirty() *dirty { return &dirty{blocks: make(map[int64]*block, 1), cut: noCut} }

// write puts p at off.
func (d *dirty) write(ps *pages, p []byte, off int64) {
	for len(p) > 0 {
		lo := int32(off & blockMask)
		n := min(len(p), blockSize-int(lo))
		d.writeBlock(ps, off>>blockShift, lo, p[:n], len(p))
		p, off = p[n:], off+int64(n)
	}
}

// writeBlock puts p at byte lo of a block; more is how many bytes are written, p
// and what follows it.
func (d *dirty) writeBlock(ps *pages, idx int64, lo int32, p []byte, more int) {
	b := d.blocks[idx]
	if b == nil {
		b = &block{idx: idx}
		if lo == 0 {
			d.place(ps, b, more)
		}
		d.blocks[idx] = b
	}
	before := int64(0)
	if b.dirty {
		before = b.fresh()
	}
	if lo < b.done || !b.dirty {
		b.done = 0 // what is in a flight is written again with the rest
	}
	size := b.size()
	b.write(ps, lo, p)
	d.held += b.size() - size
	d.soil(b)
	d.bytes += b.fresh() - before
}

// place gives a block that is new, and is written from its start, memory behind
// that of the block before it, or in a new slab, where that is worth it: where the
// file is written from one end to the other. Otherwise it gives it none.
func (d *dirty) place(ps *pages, b *block, more int) {
	prev := d.blocks[b.idx-1]
	if prev != nil && (len(prev.spans) == 0 || prev.spans[len(prev.spans)-1].hi != blockSize) {
		prev = nil
	}
	if prev != nil {
		b.run = min(prev.run, maxSlab) + blockSize
		if pg, end := prev.pg, prev.at(blockSize); pg.used == end && int(end)+blockSize <= len(pg.mem) {
			pg.refs++
			pg.used += blockSize
			b.pg, b.off, b.room = pg, end, blockSize
			return
		}
	}
	want := min(int(b.run)+more, ps.budget.slab())
	if want < minSlab {
		return
	}
	pg := ps.get(want)
	if prev != nil && len(pg.mem) >= 4*slabHead {
		pg.head = slabHead
	}
	pg.used = pg.head + blockSize
	b.pg, b.off, b.room = pg, pg.head, blockSize
}

// soil makes b dirty without counting its bytes.
func (d *dirty) soil(b *block) {
	if !b.dirty {
		b.dirty = true
		d.fresh = append(d.fresh, b)
	}
}

// drop takes b out of the map.
func (d *dirty) drop(ps *pages, b *block) {
	if b.dirty {
		d.bytes -= b.fresh()
	}
	d.held -= b.size()
	b.gone, b.dirty = true, false
	delete(d.blocks, b.idx)
	ps.put(b.pg)
	b.pg = nil
}

// forget takes [off, end) out of all blocks: those bytes are not wanted.
func (d *dirty) forget(ps *pages, off, end int64) {
	if end-off > int64(len(d.blocks))<<blockShift {
		for _, b := range d.blocks {
			d.forgetIn(ps, b, off, end)
		}
		return
	}
	for idx := off >> blockShift; idx<<blockShift < end; idx++ {
		if b := d.blocks[idx]; b != nil {
			d.forgetIn(ps, b, off, end)
		}
	}
}

func (d *dirty) forgetIn(ps *pages, b *block, off, end int64) {
	start := b.idx << blockShift
	lo, hi := max(off-start, 0), min(end-start, blockSize)
	if lo >= hi {
		return
	}
	if lo == 0 && hi == blockSize {
		d.drop(ps, b)
		return
	}
	before := int64(0)
	if b.dirty {
		before = b.fresh()
	}
	size := b.size()
	if !b.uncover(int32(lo), int32(hi)) {
		d.bytes -= before
		d.held -= size
		b.dirty = false
		d.drop(ps, b)
		return
	}
	d.held += b.size() - size
	if b.dirty {
		d.bytes += b.fresh() - before
	}
}

// truncate makes the file end at size for readers of stored extents too.
func (d *dirty) truncate(ps *pages, size int64) {
	d.forget(ps, size, math.MaxInt64)
	d.cut = min(d.cut, size)
}

// clean reports whether nothing is held here.
func (d *dirty) clean() bool { return len(d.blocks) == 0 && d.cut == noCut }

// gap is a range of a file.
type gap struct{ off, end int64 }

// read copies into p, which starts at off, what blocks hold, and appends to
// gaps the ranges they do not.
func (d *dirty) read(p []byte, off int64, gaps []gap) []gap {
	end := off + int64(len(p))
	at := off // first byte not answered yet
	for idx := off >> blockShift; idx<<blockShift < end && len(d.blocks) > 0; idx++ {
		b := d.blocks[idx]
		if b == nil {
			continue
		}
		start := idx << blockShift
		for _, s := range b.spans {
			lo, hi := max(start+int64(s.lo), off), min(start+int64(s.hi), end)
			if lo >= hi {
				continue
			}
			if lo > at {
				gaps = append(gaps, gap{at, lo})
			}
			copy(p[lo-off:hi-off], b.bytes(int32(lo-start), int32(hi-start)))
			at = hi
		}
	}
	if at < end {
		gaps = append(gaps, gap{at, end})
	}
	return gaps
}

// ranges are the byte ranges that blocks hold within [off, end), ascending,
// joined where they touch.
func (d *dirty) ranges(off, end int64) []gap {
	idxs := make([]int64, 0, len(d.blocks))
	for idx := range d.blocks {
		if start := idx << blockShift; start < end && start+blockSize > off {
			idxs = append(idxs, idx)
		}
	}
	slices.Sort(idxs)
	var rs []gap
	for _, idx := range idxs {
		start := idx << blockShift
		for _, s := range d.blocks[idx].spans {
			rs = joinGap(rs, gap{max(start+int64(s.lo), off), min(start+int64(s.hi), end)})
		}
	}
	return rs
}

// joinGap appends g, which starts at or after the end of the last, to rs.
func joinGap(rs []gap, g gap) []gap {
	if g.off >= g.end {
		return rs
	}
	if n := len(rs); n > 0 && rs[n-1].end == g.off {
		rs[n-1].end = g.end
		return rs
	}
	return append(rs, g)
}

// takeFresh hands over the dirty blocks in order of offset.
func (d *dirty) takeFresh() []*block {
	bs := d.fresh[:0]
	for _, b := range d.fresh {
		if b.dirty && !b.gone {
			bs = append(bs, b)
		}
	}
	clear(d.fresh[len(bs):])
	d.fresh = nil
	slices.SortFunc(bs, func(a, b *block) int { return cmp.Compare(a.idx, b.idx) })
	return bs
}

// fields says which attributes of a node are newer than the stored ones.
type fields uint8

const (
	fSize fields = 1 << iota
	fMtime
	fCtime
	fAtime
)

// overlay puts the fields f of newer over in.
func overlay(in *fsapi.Attr, newer *fsapi.Attr, f fields) {
	if f&fSize != 0 {
		in.Size = newer.Size
	}
	if f&fMtime != 0 {
		in.Mtime = newer.Mtime
	}
	if f&fCtime != 0 && newer.Ctime.After(in.Ctime) {
		in.Ctime = newer.Ctime
	}
	if f&fAtime != 0 {
		in.Atime = newer.Atime
	}
}
