package blob

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/blob/chunker"
	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/blob/segment"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// Batch gathers data of one volume. Not for concurrent use; inside, chunks are
// hashed, compressed and sealed in parallel, and get their places in the order
// in which they were added: each run of them waits for its turn.
type Batch struct {
	st     *Store
	ctx    context.Context // ends with Abort, Finish, or Close of the store
	cancel context.CancelFunc
	unhook func() bool

	vol     fsapi.VolumeID
	class   Class
	cold    bool // rewritten in the background
	hash    *hasher
	cut     *chunker.Cutter
	comp    *frame.Compressor
	version fsapi.KeyVersion
	cipher  Cipher
	sealing bool // is counted in the store's versions, and guarded by their mu

	items    []*item
	deferred []*item       // the newest, not yet started: Finish does them without a goroutine
	pending  int           // bytes of data in deferred
	last     chan struct{} // closed when the newest started item has its place
	inflight chan struct{} // one token for each item under way
	wg       sync.WaitGroup
	done     bool
	size     atomic.Int64 // bytes of frames placed
	coming   atomic.Int64 // the most bytes of frames not placed yet
	out      output       // of whoever has the turn

	mu    sync.Mutex
	first map[fsapi.ChunkID]*item // which item stores a chunk; guarded by mu
	err   error                   // the first; guarded by mu
}

// item is one chunk of a batch.
type item struct {
	ino   fsapi.Ino
	off   int64
	data  []byte
	id    fsapi.ChunkID
	known bool // id was given
	fresh bool // the index is not asked, or was
	bare  bool // makes no extent

	loc    fsapi.Location
	from   fsapi.Location   // of a chunk that is known: where it lies less safely
	had    []fsapi.CopySpec // the copies it should have there
	inline []byte
	same   *item // the item of the batch that stores the same chunk
	stored bool  // loc is from the index

	body    []byte // compressed
	codec   frame.Codec
	scratch *slabBuf
}

// run is items that one goroutine takes through, one after another.
type run struct {
	items      []*item
	turn, next chan struct{} // closed when they may be placed, when they have been; a nil turn is now
}

// NewBatch starts a batch for one volume and class. Finish or Abort it.
func (s *Store) NewBatch(ctx context.Context, vol fsapi.VolumeID, c Class) *Batch {
	return s.newBatch(ctx, vol, c, false)
}

// NewRepack is NewBatch for data that is rewritten in the background: what is
// compressed automatically is compressed harder.
func (s *Store) NewRepack(ctx context.Context, vol fsapi.VolumeID, c Class) *Batch {
	return s.newBatch(ctx, vol, c, true)
}

func (s *Store) newBatch(ctx context.Context, vol fsapi.VolumeID, c Class, cold bool) *Batch {
	b := &Batch{st: s, vol: vol, class: c, cold: cold, first: make(map[fsapi.ChunkID]*item), inflight: make(chan struct{}, 2*s.o.Workers+2)}
	var cancel context.CancelFunc
	b.ctx, cancel = context.WithCancel(ctx)
	b.cancel = func() { cancel(); b.sealedLast() }
	b.unhook = context.AfterFunc(s.ctx, func() {
		b.fail(closed("store data"))
		b.cancel()
	})
	b.out.b = b
	b.out.tokens = make(chan struct{}, maxBlocks)
	if err := b.setup(cold); err != nil {
		b.fail(err)
	}
	return b
}

func (b *Batch) setup(cold bool) (err error) {
	s := b.st
	if s.ctx.Err() != nil {
		return closed("store data")
	}
	if len(b.class.Copies) == 0 || slices.ContainsFunc(b.class.Copies, func(c policy.Copy) bool { return c.Width() == 0 }) {
		return fsapi.Errorf(fsapi.Invalid, "store data: the policy asks for no copies")
	}
	if err := b.seals(); err != nil {
		return err
	}
	if b.hash, err = s.hasher(b.vol); err != nil {
		return err
	}
	if b.cut, err = s.cutter(b.vol, b.class.Chunking); err != nil {
		return err
	}
	b.comp, err = s.codecs.Compressor(b.class.Compression, cold)
	return err
}

// Add stores the bytes of ino's range that starts at off. Cuts start at
// data[0]; the end of data ends a chunk unless hold is true, in which case less
// than one largest chunk of trailing bytes may be left out: n is how many
// bytes were taken. data belongs to the batch until Finish or Abort has
// returned and must not change. Add blocks for back-pressure. A chunk of
// zeros becomes a hole: it gives no extent.
func (b *Batch) Add(ctx context.Context, ino fsapi.Ino, off int64, data []byte, hold bool) (n int, err error) {
	return b.add(ctx, item{ino: ino, off: off}, data, hold)
}

// AddNew is Add without looking for duplicates in the index: for the second
// attempt after fsapi.Conflict from meta, when a duplicate was swept.
func (b *Batch) AddNew(ctx context.Context, ino fsapi.Ino, off int64, data []byte, hold bool) (n int, err error) {
	return b.add(ctx, item{ino: ino, off: off, fresh: true}, data, hold)
}

// AddChunk stores a whole chunk that exists already, whose frame is to be
// written anew: it makes no extent, and is looked up nowhere. ino and off are
// its first owner's, for the directory. data that does not have this id fails
// the batch with fsapi.Corrupt.
func (b *Batch) AddChunk(ctx context.Context, id fsapi.ChunkID, ino fsapi.Ino, off int64, data []byte) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	if len(data) == 0 || len(data) > policy.MaxChunk {
		b.fail(fsapi.Errorf(fsapi.Corrupt, "chunk %v has %d bytes", id, len(data)))
		return b.failed()
	}
	return b.push(ctx, &item{ino: ino, off: off, id: id, known: true, fresh: true, bare: true, data: data})
}

// add cuts data. like is what the items share.
func (b *Batch) add(ctx context.Context, like item, data []byte, hold bool) (n int, err error) {
	if err := b.ready(ctx); err != nil {
		return 0, err
	}
	for n < len(data) {
		rest := data[n:]
		cut := b.cut.Cut(rest)
		if hold && cut == len(rest) && cut < b.cut.Max() {
			break
		}
		it := like
		it.off, it.data = like.off+int64(n), rest[:cut:cut]
		b.st.stats.chunksAdded.Add(1)
		b.st.stats.bytesAdded.Add(uint64(cut))
		if isZero(it.data) {
			b.st.stats.bytesZero.Add(uint64(cut))
		} else if err := b.push(ctx, &it); err != nil {
			return n, err
		}
		n += cut
	}
	return n, nil
}

// isZero compares data with itself one byte on, which runs as fast as memory.
func isZero(data []byte) bool {
	return len(data) > 0 && data[0] == 0 && bytes.Equal(data[1:], data[:len(data)-1])
}

// AddInline stores a whole small file as an inline frame, or as Add does where
// its frame is over Options.InlineMax.
func (b *Batch) AddInline(ctx context.Context, ino fsapi.Ino, data []byte) error {
	if err := b.ready(ctx); err != nil || len(data) == 0 {
		return err
	}
	if len(data) <= policy.MaxChunk && len(data) <= 64*b.st.o.InlineMax && !isZero(data) {
		it := &item{ino: ino, data: data}
		ok, err := b.inline(it)
		if err != nil {
			b.fail(err)
			return b.failed()
		}
		if ok {
			b.items = append(b.items, it)
			return nil
		}
	}
	_, err := b.Add(ctx, ino, 0, data, false)
	return err
}

// ready is why nothing can be added, or nil.
func (b *Batch) ready(ctx context.Context) error {
	if b.done {
		return fsapi.Errorf(fsapi.Invalid, "store data: the batch is finished")
	}
	if err := ctx.Err(); err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, "store data")
	}
	if b.st.ctx.Err() != nil { // what hooks on it may not have run yet
		return closed("store data")
	}
	return b.failed()
}

// deferMax is how many bytes of data are put off. What the switches between
// goroutines cost is then little beside the work.
const deferMax = 64 << 10

// push defers an item, and starts those deferred before where they are enough
// for a goroutine, so that a small batch needs none.
func (b *Batch) push(ctx context.Context, it *item) error {
	b.items = append(b.items, it)
	b.coming.Add(b.mostSize(it))
	if len(b.deferred) > 0 && b.pending+len(it.data) > deferMax {
		if err := b.start(ctx); err != nil {
			return err
		}
	}
	b.deferred = append(b.deferred, it)
	b.pending += len(it.data)
	return b.failed()
}

// start gives the deferred items to a goroutine.
func (b *Batch) start(ctx context.Context) error {
	select {
	case b.inflight <- struct{}{}:
	case <-ctx.Done():
		b.fail(fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "store data"))
		return b.failed()
	}
	run := b.takeDeferred()
	b.wg.Go(func() {
		b.run(run)
		<-b.inflight
	})
	return nil
}

// takeDeferred gives the deferred items their turn after those before them.
func (b *Batch) takeDeferred() run {
	r := run{items: b.deferred, turn: b.last, next: make(chan struct{})}
	b.deferred, b.pending, b.last = nil, 0, r.next
	return r
}

// Size is the bytes of frames so far, without those under way.
func (b *Batch) Size() int64 { return b.size.Load() }

// Room is how many bytes of frames surely fit yet into one segment with all that was
// added: what is under way counts as if it could not be compressed and there were no
// duplicates. 0 where there is more than a segment of it.
func (b *Batch) Room() int64 {
	return max(0, b.st.o.SegmentBytes-segment.HeaderSize-b.size.Load()-b.coming.Load()-tailSize(len(b.items)))
}

// fail keeps the first error, for failed.
func (b *Batch) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

func (b *Batch) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
