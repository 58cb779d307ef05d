package blob

import (
	"bytes"
	"errors"

	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/blob/slab"
	"github.com/strakefs/strake/internal/fsapi"
)

type slabBuf = slab.Buf

// run takes items through: id, duplicate, compression; then, in their turn,
// their places; then their seals.
func (b *Batch) run(r run) {
	for _, it := range r.items {
		if b.failed() == nil {
			b.compute(func() {
				if err := b.encode(it); err != nil {
					b.fail(err)
				}
			})
		}
	}
	if r.turn != nil {
		<-r.turn
	}
	for _, it := range r.items {
		if b.failed() != nil {
			break
		}
		if s := b.out.place(it); s != nil {
			b.out.open = append(b.out.open, sealing{s, it})
		}
	}
	open := b.out.open
	b.out.open = nil
	close(r.next)
	b.sealAll(open)
	for _, it := range r.items {
		b.release(it)
	}
}

// sealing is an item that has its slot.
type sealing struct {
	s  *slot
	it *item
}

func (b *Batch) sealAll(list []sealing) {
	for _, l := range list {
		b.compute(func() { l.s.seal(l.it) })
	}
}

// compute runs fn when a processor is free for it.
func (b *Batch) compute(fn func()) {
	b.st.cpu <- struct{}{}
	fn()
	<-b.st.cpu
}

// release gives back an item's scratch space.
func (b *Batch) release(it *item) {
	b.st.pool.Put(it.scratch)
	it.scratch = nil
}

// encode finds an item's id and whether it is stored already, and compresses it
// if not.
func (b *Batch) encode(it *item) error {
	id := b.hash.sum(it.data)
	if it.known && id != it.id {
		return fsapi.Errorf(fsapi.Corrupt, "chunk %v: its bytes have the id %v", it.id, id)
	}
	it.id = id
	if b.claim(it) {
		return nil
	}
	if b.size.Load() > int64(b.st.o.JournalMax) {
		if err := b.lookup(it); err != nil || it.stored {
			return err
		}
	}
	b.compress(it)
	return nil
}

// claim reports whether another item of the batch stores the same chunk.
func (b *Batch) claim(it *item) bool {
	b.mu.Lock()
	if f := b.first[it.id]; f != nil {
		it.same = f
	} else {
		b.first[it.id] = it
	}
	b.mu.Unlock()
	if it.same != nil {
		b.countDup(it)
	}
	return it.same != nil
}

// lookup asks the index for the chunk, once. What goes to the journal is not
// looked up: whoever records it finds out, in the same transaction.
func (b *Batch) lookup(it *item) error {
	if it.fresh {
		return nil
	}
	it.fresh = true
	c, err := b.st.o.Index.Chunk(b.ctx, b.vol, it.id)
	switch {
	case errors.Is(err, fsapi.NotExist):
		return nil
	case err != nil:
		return err
	case int(c.Len) != len(it.data):
		return fsapi.Errorf(fsapi.Corrupt, "chunk %v of volume %d: its record says %d bytes, its id was made of %d: run fsck", it.id, b.vol, c.Len, len(it.data))
	}
	had, ok, err := b.safe(c.Loc.Segment)
	if err != nil || !ok {
		it.from, it.had = c.Loc, had
		return err
	}
	it.loc, it.stored = c.Loc, true
	b.countDup(it)
	return nil
}

// safe reports whether what lies in a segment is as safe as the batch's class
// asks, and which copies the segment should have. Where it is not, the chunk is
// stored anew and its record follows, to a segment that has the copies of both:
// data shared by files of different policies is as safe as each of them asks.
func (b *Batch) safe(id fsapi.SegmentID) (had []fsapi.CopySpec, ok bool, err error) {
	if id.IsJournal() {
		return nil, true, nil
	}
	at, err := b.st.whereIs(b.ctx, id)
	if errors.Is(err, fsapi.NotExist) { // compacted since
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return at.want, fsapi.Covers(at.want, b.class.Copies), nil
}

func (b *Batch) countDup(it *item) {
	b.st.stats.chunksDup.Add(1)
	b.st.stats.bytesDup.Add(uint64(len(it.data)))
}

// compress sets an item's body, which is its data where compression does not
// pay.
func (b *Batch) compress(it *item) {
	n := b.comp.Bound(len(it.data))
	if n == 0 {
		it.body, it.codec = it.data, frame.CodecNone
		return
	}
	it.scratch = b.st.pool.Get(n)
	it.body, it.codec = b.comp.Compress(it.scratch.B, it.data)
	if it.codec == frame.CodecNone {
		b.release(it)
	}
}

// keep lets an item's body outlive its scratch space.
func (b *Batch) keep(it *item) {
	if it.scratch != nil {
		it.body = bytes.Clone(it.body)
		b.release(it)
	}
}

// header is an item's frame header at a place.
func (b *Batch) header(it *item, seg fsapi.SegmentID, index uint32) frame.Header {
	return frame.Header{
		Codec: it.codec, Volume: b.vol, Key: b.version, Index: index,
		Len: uint32(len(it.data)), Segment: seg, Chunk: it.id,
	}
}

// frameSize is the length of an item's frame in bytes.
func (b *Batch) frameSize(it *item) int {
	return frame.HeaderSize + len(it.body) + frame.Overhead(b.cipher)
}

// mostSize is the length that an item's frame has at most, in bytes.
func (b *Batch) mostSize(it *item) int64 {
	return int64(frame.HeaderSize + len(it.data) + frame.Overhead(b.cipher))
}

// sealed counts a frame.
func (b *Batch) sealed(n int) {
	b.st.stats.framesSealed.Add(1)
	b.st.stats.bytesSealed.Add(uint64(n))
}

// sealJournal makes a frame that travels in the metadata log.
func (b *Batch) sealJournal(it *item) ([]byte, error) {
	loc, err := b.st.journal.place(b.frameSize(it))
	if err != nil {
		return nil, err
	}
	k, err := b.st.keys.get(keyName{loc.Segment, b.vol, b.version, b.cipher})
	if err != nil {
		return nil, err
	}
	data := make([]byte, loc.Length)
	h := b.header(it, loc.Segment, loc.Offset)
	k.Seal(data, &h, it.body)
	it.loc = loc
	b.sealed(len(data))
	return data, nil
}

// inline makes an item an inline frame if that is small enough.
func (b *Batch) inline(it *item) (bool, error) {
	it.id = b.hash.sum(it.data)
	b.compress(it)
	defer b.release(it)
	if b.frameSize(it) > b.st.o.InlineMax {
		it.body = nil
		return false, nil
	}
	var err error
	if it.inline, err = b.sealJournal(it); err != nil {
		return false, err
	}
	it.body = nil
	b.size.Add(int64(len(it.inline)))
	b.st.stats.chunksAdded.Add(1)
	b.st.stats.bytesAdded.Add(uint64(len(it.data)))
	b.st.stats.bytesInline.Add(uint64(len(it.inline)))
	return true, nil
}
