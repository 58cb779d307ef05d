package erasure

import (
	"encoding/binary"
	"sync"

	"github.com/klauspost/reedsolomon"

	"github.com/strakefs/strake/internal/fsapi"
)

// strip is some rows of a segment's shards in memory. A shard's part has the
// form it has in the blob: blocks, each followed by its checksum.
type strip struct {
	c           *Coder
	rs          reedsolomon.Encoder
	id          fsapi.SegmentID
	l           Layout
	seeds       []uint32
	first, rows int
	bufs        []*[]byte // by shard; nil where nothing was needed of it
	good        []bool    // [shard*rows+row]: the block is there and verified
	sums        []uint32  // [shard*rows+row]: its checksum, where good
	table       table
	zeros       []byte // a block that is not stored

	mu     sync.Mutex
	faults []Fault // guarded by mu
}

func (c *Coder) newStrip(rs reedsolomon.Encoder, id fsapi.SegmentID, l Layout, seeds []uint32) *strip {
	return &strip{c: c, rs: rs, id: id, l: l, seeds: seeds, bufs: make([]*[]byte, l.Shards())}
}

// move makes the strip stand for other rows. Buffers stay, so rows must not grow.
func (s *strip) move(first, rows int) {
	s.first, s.rows = first, rows
	s.good, s.sums = make([]bool, s.l.Shards()*rows), make([]uint32, s.l.Shards()*rows)
	s.table = newTable(s.l, rows)
}

// free gives the buffers back. The strip must not be used afterwards.
func (s *strip) free() {
	for _, p := range s.bufs {
		if p != nil {
			s.c.release(p)
		}
	}
}

// part is shard's rows as its blob has them, each in a slot of BlockSize and a
// checksum. Goroutines may ask for those of different shards at once.
func (s *strip) part(shard int) []byte {
	if s.bufs[shard] == nil {
		s.bufs[shard] = s.c.buffer(s.rows * (s.l.BlockSize + sumSize))
	}
	return *s.bufs[shard]
}

// stored is the bytes of shard's part that its blob has.
func (s *strip) stored(shard int) []byte {
	return s.part(shard)[:s.l.span(shard, s.first, s.rows).Len]
}

// slot is a block, padded or not, and room for its checksum. Row counts from the
// strip's first.
func (s *strip) slot(shard, row int) []byte {
	return s.part(shard)[row*(s.l.BlockSize+sumSize):][:s.l.BlockSize+sumSize]
}

// has reports whether a block's bytes are known: verified, or zeros that are not
// stored.
func (s *strip) has(shard, row int) bool {
	return s.good[shard*s.rows+row] || s.l.BlockLen(shard, s.first+row) == 0
}

// row is the blocks of a row for the code, nil where one is not known.
func (s *strip) row(row int) [][]byte {
	n, blocks := s.l.rowLen(s.first+row), make([][]byte, s.l.Shards())
	for i := range blocks {
		switch {
		case s.good[i*s.rows+row]:
			blocks[i] = s.slot(i, row)[:n]
		case s.has(i, row):
			blocks[i] = s.zeros[:n]
		}
	}
	return blocks
}

// pad fills a block up to its row's length with zeros, over its checksum.
func (s *strip) pad(shard, row int) {
	clear(s.slot(shard, row)[s.l.BlockLen(shard, s.first+row):s.l.rowLen(s.first+row)])
}

// sum is the checksum of a block in memory.
func (s *strip) sum(shard, row int) uint32 {
	return sum(s.seeds[shard], uint32(s.first+row), s.slot(shard, row)[:s.l.BlockLen(shard, s.first+row)])
}

// seal puts a block's checksum after it.
func (s *strip) seal(shard, row int, sum uint32) {
	binary.LittleEndian.PutUint32(s.slot(shard, row)[s.l.BlockLen(shard, s.first+row):], sum)
}

// accept verifies the blocks [lo, hi) of a shard's part as read, and pads them.
// All of them are stored.
func (s *strip) accept(shard, lo, hi int) {
	for r := lo; r < hi; r++ {
		got := s.sum(shard, r)
		if got != binary.LittleEndian.Uint32(s.slot(shard, r)[s.l.BlockLen(shard, s.first+r):]) {
			s.fault(shard, PartBlock, s.first+r, fsapi.Corrupt, "wrong checksum")
			continue
		}
		s.pad(shard, r)
		s.set(shard, r, got)
	}
}

// set says that a block is there, with that checksum.
func (s *strip) set(shard, row int, sum uint32) {
	s.good[shard*s.rows+row], s.sums[shard*s.rows+row] = true, sum
}

func (s *strip) fault(shard int, part Part, number int, kind fsapi.Kind, why any) {
	f := fault(Header{Segment: s.id, Layout: s.l, Index: shard}, part, number, kind, why)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
}
