package blob

import (
	"sync/atomic"

	"github.com/strakefs/strake/internal/blob/slab"
)

// blockSize is the bytes of a segment that are gathered before they are
// written, and maxBlocks how many such blocks a batch may have at a time: what
// bounds its memory.
const (
	blockSize = 2 << 20
	maxBlocks = 4
)

// block is a piece of a segment on its way to the drives. Frames are sealed
// into it by several goroutines; when the last is done each replica writes it.
type block struct {
	buf    *slab.Buf
	used   int          // bytes reserved; of whoever has the turn
	open   atomic.Int32 // slots not yet sealed, and one while more may come
	ready  chan struct{}
	refs   atomic.Int32 // replicas that have not written it
	queued atomic.Int32 // replicas that have not taken it
	pool   *slab.Pool
	tokens chan struct{} // nil: of an image, which gives the memory back
}

// newBlock waits until the batch may have another block.
func newBlock(pool *slab.Pool, tokens chan struct{}, n, replicas int) *block {
	if tokens != nil {
		tokens <- struct{}{}
	}
	b := &block{buf: pool.Get(max(n, blockSize)), ready: make(chan struct{}), pool: pool, tokens: tokens}
	b.open.Store(1)
	b.refs.Store(int32(replicas))
	b.queued.Store(int32(replicas))
	return b
}

// reserve takes the next n bytes, to be followed by done; false where they do
// not fit.
func (b *block) reserve(n int) ([]byte, bool) {
	if b.used+n > len(b.buf.B) {
		return nil, false
	}
	p := b.buf.B[b.used : b.used+n : b.used+n]
	b.used += n
	b.open.Add(1)
	return p, true
}

// done ends one reservation, or the chance of more.
func (b *block) done() {
	if b.open.Add(-1) == 0 {
		close(b.ready)
	}
}

// taken is called by each replica when the drive's writer has taken the block over:
// from then on that one bounds the memory.
func (b *block) taken() {
	if b.queued.Add(-1) == 0 {
		<-b.tokens
	}
}

// release is called for each replica when nobody reads the block for it any more,
// if that is known.
func (b *block) release() {
	if b.refs.Add(-1) == 0 {
		b.pool.Put(b.buf)
	}
}
