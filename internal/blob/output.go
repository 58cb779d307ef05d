package blob

import (
	"github.com/strakefs/strake/internal/blob/segment"
)

// output is where a batch's frames get their places. It is used by the item
// that has the turn, and after the last one by Finish.
type output struct {
	b      *Batch
	staged []*item   // not yet placed: they may still go to the journal
	bytes  int64     // of the staged frames
	open   []sealing // placed by who has the turn, and to be sealed when it is over
	cur    *segWriter
	segs   []*segWriter // all, cur included
	tokens chan struct{}
}

// slot is a frame's place in a segment, reserved but not yet filled.
type slot struct {
	w     *segWriter
	blk   *block
	buf   []byte
	index uint32
}

// place gives an item its place: a slot to seal it into, or nil where it needs
// none or is staged. Errors fail the batch.
func (o *output) place(it *item) *slot {
	o.b.coming.Add(-o.b.mostSize(it))
	if it.same != nil || it.stored {
		return nil
	}
	n := int64(o.b.frameSize(it))
	o.b.size.Add(n)
	if o.cur == nil && it.from.IsZero() && o.bytes+n <= int64(o.b.st.o.JournalMax) {
		o.b.keep(it)
		o.staged = append(o.staged, it)
		o.bytes += n
		return nil
	}
	if err := o.unstage(); err != nil {
		o.b.fail(err)
		return nil
	}
	s, err := o.enter(it)
	if err != nil {
		o.b.fail(err)
		return nil
	}
	return s
}

// unstage puts what was staged into a segment.
func (o *output) unstage() error {
	staged := o.staged
	o.staged, o.bytes = nil, 0
	for _, it := range staged {
		s, err := o.enter(it)
		if err != nil {
			return err
		}
		if s != nil {
			s.seal(it)
		}
	}
	return nil
}

// enter is slot for an item that the index may not have been asked about; nil
// where the chunk is stored already.
func (o *output) enter(it *item) (*slot, error) {
	if err := o.b.lookup(it); err != nil || it.stored {
		return nil, err
	}
	return o.slot(it)
}

// slot reserves an item's place in the current segment, or in the next.
func (o *output) slot(it *item) (*slot, error) {
	n := o.b.frameSize(it)
	if o.cur != nil && o.cur.full(n) {
		if err := o.close(); err != nil {
			return nil, err
		}
	}
	if o.cur == nil {
		w, err := o.b.beginSegment(o.b.sizeHint(), nil)
		if err != nil {
			return nil, err
		}
		o.cur, o.segs = w, append(o.segs, w)
	}
	return o.cur.reserve(it, n), nil
}

// close ends the current segment; its drives go on writing it.
func (o *output) close() error {
	w := o.cur
	o.cur = nil
	if w == nil {
		return nil
	}
	return w.close()
}

// sizeHint is about how large the next segment will be, in bytes, for choosing
// drives: at least what is known so far.
func (b *Batch) sizeHint() int64 {
	return min(max(b.size.Load(), 1<<20), b.st.o.SegmentBytes)
}

// seal fills the slot.
func (s *slot) seal(it *item) {
	h := s.w.b.header(it, s.w.id, s.index)
	s.w.key.Seal(s.buf, &h, it.body)
	s.w.b.sealed(len(s.buf))
	s.blk.done()
}

// tailSize is the bytes behind the frames of a segment that has so many, and one more.
func tailSize(entries int) int64 { return int64(entries+1)*segment.EntrySize + segment.FooterSize + 64 }

// full reports whether a frame of n bytes should go to the next segment.
func (w *segWriter) full(n int) bool {
	tail := tailSize(len(w.entries))
	switch {
	case len(w.entries) == 0:
		return false
	case w.off+int64(n)+tail > w.b.st.o.SegmentBytes || len(w.entries) >= segment.MaxFrames:
		return true
	}
	// Gathered bytes are bounded: what is there makes a smaller segment.
	return w.img != nil && w.blk.used+n > len(w.blk.buf.B) && w.b.st.gathered.Load() > w.b.st.o.GatherBytes
}
