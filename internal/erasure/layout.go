package erasure

import (
	"math/bits"

	"github.com/strakefs/strake/internal/fsapi"
)

// Bounds of a layout.
const (
	MaxShards    = 32       // k+m
	MinBlock     = 512      // bytes
	MaxBlock     = 1 << 20  // bytes
	MaxSegment   = 1 << 36  // bytes
	MaxRows      = 1 << 16  // blocks in a shard
	DefaultBlock = 64 << 10 // bytes; what BlockFor gives large segments
)

// Layout says how a segment is cut into shards. It is a value: its methods are
// arithmetic, and may be called where Check returned nil. Shards 0 to K-1 hold
// data, K to K+M-1 parity.
type Layout struct {
	K, M        int
	SegmentSize int64 // bytes
	BlockSize   int   // bytes of payload under one checksum: a power of two
}

// For is the layout of a segment of size bytes with the block size that BlockFor
// gives.
func For(k, m int, size int64) Layout {
	return Layout{K: k, M: m, SegmentSize: size, BlockSize: BlockFor(size, k)}
}

// BlockFor is a block size for segments of size bytes in k data shards: 64 KiB,
// and less for small segments, so that what parity shards lose by rounding up
// stays under an eighth; at least 4 KiB.
func BlockFor(size int64, k int) int {
	per := uint64(size / int64(max(k, 1)) / 8)
	return min(max(1<<bits.Len64(per)>>1, 4<<10), DefaultBlock)
}

// Check refuses layouts out of bounds: fsapi.Invalid.
func (l Layout) Check() error {
	switch {
	case l.K < 1 || l.M < 0 || l.K > MaxShards || l.M > MaxShards || l.K+l.M > MaxShards:
		return fsapi.Errorf(fsapi.Invalid, "%d+%d shards: want at least 1+0, at most %d together", l.K, l.M, MaxShards)
	case l.SegmentSize < 1 || l.SegmentSize > MaxSegment:
		return fsapi.Errorf(fsapi.Invalid, "a segment of %d bytes cannot be cut into shards: want 1 to %d", l.SegmentSize, int64(MaxSegment))
	case l.BlockSize < MinBlock || l.BlockSize > MaxBlock || l.BlockSize&(l.BlockSize-1) != 0:
		return fsapi.Errorf(fsapi.Invalid, "blocks of %d bytes: want a power of two from %d to %d", l.BlockSize, MinBlock, MaxBlock)
	case l.ShardPayload()/int64(l.BlockSize) > MaxRows:
		return fsapi.Errorf(fsapi.Invalid, "blocks of %d bytes are too small for a shard of %d: want at most %d of them", l.BlockSize, l.ShardPayload(), MaxRows)
	}
	return nil
}

// Shards is K+M.
func (l Layout) Shards() int { return l.K + l.M }

// ShardPayload is S, the bytes of the segment in each data shard but the last
// ones: data shard i holds segment bytes [i*S, (i+1)*S). A multiple of BlockSize.
func (l Layout) ShardPayload() int64 {
	b := int64(l.BlockSize)
	return (ceil(l.SegmentSize, int64(l.K)) + b - 1) / b * b
}

// Payload is the bytes of segment or parity that shard index stores. What data
// shards lack at their end counts as zeros and is not stored; a parity shard is
// as long as shard 0, the longest.
func (l Layout) Payload(index int) int64 {
	s := l.ShardPayload()
	if index >= l.K {
		index = 0
	}
	return min(max(l.SegmentSize-int64(index)*s, 0), s)
}

// Rows is how many blocks the longest shard has. Row r is block r of every shard.
func (l Layout) Rows() int { return l.Blocks(0) }

// Blocks is how many blocks shard index stores.
func (l Layout) Blocks(index int) int { return int(ceil(l.Payload(index), int64(l.BlockSize))) }

// BlockLen is the bytes of a block that are stored: BlockSize, less for a shard's
// last, 0 past its end.
func (l Layout) BlockLen(index, block int) int {
	return int(min(max(l.Payload(index)-int64(block)*int64(l.BlockSize), 0), int64(l.BlockSize)))
}

// rowLen is the bytes of row's blocks for the code: shorter ones are padded with
// zeros to it.
func (l Layout) rowLen(row int) int { return l.BlockLen(0, row) }

// Piece is a range of one data shard's payload.
type Piece struct {
	Shard int
	Off   int64 // in the shard's payload
	Len   int64
}

// Locate says where segment bytes [off, off+n) lie, in order. What is past the
// segment's end is left out.
func (l Layout) Locate(off, n int64) []Piece {
	if off < 0 || off >= l.SegmentSize {
		return nil
	}
	n = min(n, l.SegmentSize-off)
	var pieces []Piece
	for s := l.ShardPayload(); n > 0; {
		p := Piece{Shard: int(off / s), Off: off % s}
		p.Len = min(n, s-p.Off)
		pieces = append(pieces, p)
		off, n = off+p.Len, n-p.Len
	}
	return pieces
}

// Span is a range of a shard's blob that begins and ends with whole blocks and
// their checksums.
type Span struct {
	Off, Len      int64 // in the blob
	First, Blocks int   // the blocks in it
}

// BlobRange is what must be read of shard index for its payload bytes
// [off, off+n), to verify them.
func (l Layout) BlobRange(index int, off, n int64) Span {
	b := int64(l.BlockSize)
	end := min(ceil(max(off+n, 0), b), int64(l.Blocks(index)))
	first := min(max(off, 0)/b, end)
	return l.span(index, int(first), int(end-first))
}

// span is the range of blocks that shard index stores among rows
// [first, first+rows).
func (l Layout) span(index, first, rows int) Span {
	have := l.Blocks(index)
	first = min(first, have)
	s := Span{Off: l.slot(first), First: first, Blocks: min(rows, have-first)}
	for b := s.First + s.Blocks - 1; b >= s.First; b = s.First - 1 { // all but the last are whole
		s.Len = int64(s.Blocks-1)*int64(l.BlockSize+sumSize) + int64(l.BlockLen(index, b)+sumSize)
	}
	return s
}

// slot is where a block begins in a blob.
func (l Layout) slot(block int) int64 { return HeaderSize + int64(block)*int64(l.BlockSize+sumSize) }

// tableOffset is where the table of checksums begins in shard index's blob.
func (l Layout) tableOffset(index int) int64 {
	return HeaderSize + l.Payload(index) + int64(l.Blocks(index))*sumSize
}

// tableRow is the bytes of one row of the table.
func (l Layout) tableRow() int { return (l.Shards() + 1) * sumSize }

// BlobSize is the bytes of shard index's whole blob.
func (l Layout) BlobSize(index int) int64 {
	return l.tableOffset(index) + int64(l.Rows())*int64(l.tableRow()) + HeaderSize
}

// Stored is the bytes of all blobs together.
func (l Layout) Stored() (n int64) {
	for i := range l.Shards() {
		n += l.BlobSize(i)
	}
	return n
}

func ceil(a, b int64) int64 { return (a + b - 1) / b }
