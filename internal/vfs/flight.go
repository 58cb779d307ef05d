package vfs

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// flight carries dirty data to storage: one blob batch and one metadata
// transaction, for one node or for many small ones of one class. Who fills it
// holds fl of every node in it; once it is full, only its own goroutine
// touches it.
type flight struct {
	fs    *Local
	class *effective
	batch BlobBatch
	legs  []*leg
	bytes int64         // in pieces
	begun time.Time     // when the first piece was added
	prev  *flight       // of the same node, to be committed before; nil: none
	done  chan struct{} // closed when settled; err is valid then
	err   error
	quiet bool // an error is for the filler to report, not for settle
}

// leg is one node's part of a flight.
type leg struct {
	f      *flight
	n      *node
	cut    int64       // stored extents from here on are removed first; noCut: none
	set    fields      // which fields of attr are stored; guarded by n.mu
	attr   fsapi.Attr  // as of when the flight was full
	door   string      // for the change event
	pieces []piece     // ascending within what was staged at one time
	blocks []*block    // of which some bytes are carried; guarded by n.mu
	stored *meta.Inode // result of the transaction; nil: the inode is gone
}

// piece is a range of a file that blob has taken.
type piece struct {
	off  int64
	data []byte
	pg   *page // that data lies in, held
}

func (p *piece) end() int64 { return p.off + int64(len(p.data)) }

func (fs *Local) newFlight(class *effective) *flight {
	return &flight{
		fs: fs, class: class, begun: fs.now(), done: make(chan struct{}),
		batch: fs.o.Blob.NewBatch(fs.ctx, fs.vol, class.class),
	}
}

// board adds n to the flight. REQUIRES n.fl, n.mu.
func (f *flight) boardLocked(n *node) *leg {
	l := &leg{f: f, n: n, cut: noCut}
	f.legs = append(f.legs, l)
	n.flights = append(n.flights, l)
	return l
}

// stageResult says how far stageLocked got.
type stageResult uint8

const (
	stagedAll  stageResult = iota // nothing dirty is left
	stagedPart                    // call again
	stagedFull                    // what is left must go into another flight
)

// stageLocked moves up to one slab of dirty data from blocks into pieces,
// appended to the leg. REQUIRES n.fl, n.mu.
func (l *leg) stageLocked(ps *pages, slab int64) (staged []piece, res stageResult) {
	d := l.n.data
	if d == nil {
		return nil, stagedAll
	}
	if d.cut != noCut {
		if len(l.pieces) > 0 {
			return nil, stagedFull
		}
		l.cut, d.cut = min(l.cut, d.cut), noCut
	}
	blocks := d.takeFresh()
	s := stager{l: l, ps: ps, max: slab}
	i := 0
	for ; i < len(blocks); i++ {
		b := blocks[i]
		if b.leg == l && b.done == 0 {
			res = stagedFull
			break
		}
		if !s.take(b) {
			res = stagedPart
			break
		}
	}
	d.fresh = append(d.fresh, blocks[i:]...)
	s.flush()
	for _, b := range blocks[:i] {
		d.bytes -= b.fresh()
		b.dirty, b.leg = false, l
	}
	l.blocks = append(l.blocks, blocks[:i]...)
	l.pieces = append(l.pieces, s.out...)
	return s.out, res
}

// stager makes pieces of blocks, since blob wants what adjoins in one slice: one
// over bytes that lie side by side as they are, one over a copy of others.
type stager struct {
	l   *leg
	ps  *pages
	max int64
	out []piece
	sum int64  // bytes in out
	run []part // adjoining in the file
	len int64  // bytes in run
	// The last parts of run lie side by side in memory: those from side on, and
	// sideLen bytes.
	side    int
	sideLen int64
}

type part struct {
	b      *block
	lo, hi int32
}

func (p *part) off() int64 { return p.b.idx<<blockShift + int64(p.lo) }

func (p *part) len() int32 { return p.hi - p.lo }

// beside reports whether p begins in memory where q ends.
func (p *part) beside(q *part) bool { return p.b.pg == q.b.pg && p.b.at(p.lo) == q.b.at(q.hi) }

// take adds b's fresh bytes, or reports that there is no room, or that the run
// should end here: where it lies side by side so far, and would not with b. A
// block is taken whole or not at all.
func (s *stager) take(b *block) bool {
	if n := b.fresh(); s.sum+s.len > 0 && s.sum+s.len+n > s.max {
		return false
	}
	begun := false
	for _, sp := range b.spans {
		p := part{b, max(sp.lo, b.done), sp.hi}
		if p.lo >= p.hi {
			continue
		}
		adjoins := len(s.run) > 0 && s.run[0].off()+s.len == p.off()
		beside := adjoins && p.beside(&s.run[len(s.run)-1])
		if adjoins && !beside && !begun && s.sideLen >= s.max/2 {
			return false
		}
		if !adjoins {
			s.flush()
		}
		if !beside {
			s.side, s.sideLen = len(s.run), 0
		}
		s.run = append(s.run, p)
		s.len += int64(p.len())
		s.sideLen += int64(p.len())
		begun = true
	}
	return true
}

func (s *stager) flush() {
	if len(s.run) == 0 {
		return
	}
	pg, at := s.place()
	s.out = append(s.out, piece{off: s.run[0].off(), pg: pg, data: pg.mem[at : int64(at)+s.len : int64(at)+s.len]})
	s.sum += s.len
	s.run, s.len, s.side, s.sideLen = s.run[:0], 0, 0, 0
}

// place is a page, held for the piece, and where in it the run lies side by side.
func (s *stager) place() (pg *page, at int32) {
	last := &s.run[s.side]
	pg, at = last.b.pg, last.b.at(last.lo)
	before := int32(s.len - s.sideLen)
	switch {
	case before == 0:
		pg.refs++
	case at == pg.head && before <= at: // into the head of the slab
		pg.refs++
		pg.head -= before
		at -= before
		s.gather(s.run[:s.side], pg, at)
	default:
		pg, at = s.ps.get(int(s.len)), 0
		s.gather(s.run, pg, at)
		return pg, at
	}
	for _, p := range s.run[s.side:] {
		p.b.lent = p.hi
	}
	return pg, at
}

// gather copies parts into a slab, which takes the place of the pages of blocks
// that it holds all of, so that no byte is in memory twice.
func (s *stager) gather(parts []part, slab *page, at int32) {
	for _, p := range parts {
		n := p.len()
		copy(slab.mem[at:at+n], p.b.bytes(p.lo, p.hi))
		s.ps.moved.Add(int64(n))
		if len(p.b.spans) == 1 && p.lo == p.b.spans[0].lo {
			s.ps.put(p.b.pg)
			slab.refs++
			p.b.pg, p.b.off, p.b.base, p.b.room, p.b.lent = slab, at, p.lo, n, p.hi
		}
		at += n
	}
}

// giveBack makes dirty again what blob left out of the last piece: its bytes
// from n on.
func (l *leg) giveBack(ps *pages, n int) {
	nd := l.n
	nd.mu.Lock()
	defer nd.mu.Unlock()
	last := &l.pieces[len(l.pieces)-1]
	from := last.off + int64(n)
	kept := len(l.blocks)
	for kept > 0 {
		b := l.blocks[kept-1]
		start := b.idx << blockShift
		if start+blockSize <= from || start >= last.end() {
			break
		}
		whole := start+int64(b.firstByte()) >= from // none of it was taken
		b.lent = min(b.lent, int32(max(from-start, 0)))
		if !b.dirty && !b.gone {
			b.done = int32(max(from-start, 0))
			nd.data.soil(b)
			nd.data.bytes += b.fresh()
		}
		if !whole {
			break
		}
		b.leg = nil
		kept--
	}
	clear(l.blocks[kept:])
	l.blocks = l.blocks[:kept]
	last.data = last.data[:n]
	if n == 0 {
		ps.put(last.pg)
		l.pieces = l.pieces[:len(l.pieces)-1]
	}
}

func (b *block) firstByte() int32 {
	if len(b.spans) == 0 {
		return blockSize
	}
	return b.spans[0].lo
}

// sealLocked fixes the attributes that the flight stores. REQUIRES n.mu.
func (l *leg) sealLocked() {
	n := l.n
	l.set, l.attr, l.door = n.pend, n.in.Attr, n.door
	n.pend = 0
	if l.cut != noCut {
		l.set |= fSize // the cut takes the stored size down
	}
	if n.data == nil || l.set&fSize == 0 || n.data.bytes == 0 && n.data.cut == noCut {
		return
	}
	size := l.sizeBefore()
	for _, p := range l.pieces {
		size = max(size, p.end())
	}
	// Some data is not in this flight: store no size that covers it yet, or a
	// crash would leave zeros where there was to be data. The file was cut since
	// the flight was filled: what is stored beyond the cut goes with the next one
	// only, and so does the size, or a crash would leave it for a file that grows
	// again to show.
	if size < l.attr.Size || n.data.cut != noCut && size != l.attr.Size {
		l.attr.Size = size
		n.pend |= fSize
	}
}

// sizeBefore is the size that will be stored when all flights before l are
// settled, after l's cut.
func (l *leg) sizeBefore() int64 {
	size := l.n.ssize
	for _, p := range l.n.flights {
		size = min(size, p.cut)
		if p == l {
			break
		}
		if p.set&fSize != 0 {
			size = p.attr.Size
		}
	}
	return size
}

// empty reports whether the flight would store nothing.
func (f *flight) empty() bool {
	for _, l := range f.legs {
		if len(l.pieces) > 0 || l.set != 0 || l.cut != noCut {
			return false
		}
	}
	return true
}

// run makes the flight durable, as far as mode says, records it and settles
// its nodes.
func (f *flight) run(mode blob.Mode) {
	stored, err := f.batch.Finish(f.fs.ctx, mode)
	if f.prev != nil {
		<-f.prev.done
		if f.prev.err != nil && err == nil {
			err = f.prev.err
		}
		f.prev = nil
	}
	var seq kv.Seq
	if err == nil {
		seq, err = f.record(stored, mode)
	}
	f.err = err
	for _, l := range f.legs {
		f.fs.settle(l, seq, err)
	}
	close(f.done)
}

// record commits what was stored. Where a chunk that was found as a duplicate
// has been swept meanwhile, everything is stored anew.
func (f *flight) record(stored *fsapi.Stored, mode blob.Mode) (seq kv.Seq, err error) {
	for try := 0; ; try++ {
		seq, err = f.fs.commit(f.legs, stored)
		if err == nil || fsapi.KindOf(err) != fsapi.Conflict || try == 3 {
			return seq, err
		}
		if stored, err = f.again(mode); err != nil {
			return 0, err
		}
	}
}

// again stores all pieces once more, without looking for duplicates.
func (f *flight) again(mode blob.Mode) (*fsapi.Stored, error) {
	ctx := f.fs.ctx
	b := f.fs.o.Blob.NewBatch(ctx, f.fs.vol, f.class.class)
	defer b.Abort()
	for _, l := range f.legs {
		for _, p := range l.pieces {
			if _, err := b.AddNew(ctx, l.n.ino, p.off, p.data, false); err != nil {
				return nil, err
			}
		}
	}
	return b.Finish(ctx, mode)
}

// truncateStep is how many extents one transaction removes.
const truncateStep = 4096

// commit records stored data and attributes of all legs in one transaction.
func (fs *Local) commit(legs []*leg, stored *fsapi.Stored) (kv.Seq, error) {
	for _, l := range legs {
		if err := fs.cutSteps(l); err != nil {
			return 0, err
		}
	}
	byIno := map[fsapi.Ino][]fsapi.Extent{}
	for _, e := range stored.Extents {
		byIno[e.Ino] = append(byIno[e.Ino], e.Extent)
	}
	fs.gate.RLock()
	defer fs.gate.RUnlock()
	return fs.update(func(tx *meta.Tx) error {
		if err := tx.Record(stored); err != nil {
			return err
		}
		for _, l := range legs {
			l.stored = nil
			err := fs.commitLeg(tx, l, byIno[l.n.ino])
			if err != nil && fsapi.KindOf(err) != fsapi.Stale {
				return err
			}
		}
		return nil
	})
}

// cutSteps removes all but the last few extents above a cut in transactions of
// their own, so that no transaction grows with the file.
func (fs *Local) cutSteps(l *leg) error {
	if l.cut == noCut || l.n.storedSize()-l.cut <= truncateStep*minPage {
		return nil
	}
	for at := int64(math.MaxInt64); at > l.cut; {
		_, err := fs.updateShared(func(tx *meta.Tx) error {
			in, err := tx.Inode(l.n.ino)
			if err != nil {
				return err
			}
			if in.Used == 0 && in.Size <= l.cut {
				at = l.cut
				return nil
			}
			if at, err = tx.TruncateExtents(in, l.cut, truncateStep); err != nil || at <= l.cut {
				at = l.cut
				return errEnough // the last step goes with the rest, in commitLeg
			}
			in.Size = min(in.Size, at)
			return tx.SetInode(in)
		})
		switch {
		case errors.Is(err, errEnough), err != nil && fsapi.KindOf(err) == fsapi.Stale:
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

func (fs *Local) commitLeg(tx *meta.Tx, l *leg, exts []fsapi.Extent) error {
	in, err := tx.Inode(l.n.ino)
	if err != nil {
		return err
	}
	change := in.Change
	if l.cut != noCut {
		if _, err := tx.TruncateExtents(in, l.cut, math.MaxInt); err != nil {
			return err
		}
		in.Size = min(in.Size, l.cut)
	}
	ranges := l.ranges()
	slices.SortFunc(exts, func(a, b fsapi.Extent) int { return int(min(max(a.Off-b.Off, -1), 1)) })
	for _, r := range ranges {
		i := 0
		for i < len(exts) && exts[i].Off < r.end {
			i++
		}
		if err := tx.SetExtents(in, r.off, r.end, exts[:i]); err != nil {
			return err
		}
		exts = exts[i:]
	}
	overlay(&in.Attr, &l.attr, l.set)
	if l.set&(fSize|fMtime|fCtime) != 0 {
		in.Change = max(change, l.attr.Change-1) // SetInode adds 1
	}
	if err := tx.SetInode(in); err != nil {
		return err
	}
	if len(ranges) > 0 || l.cut != noCut {
		fs.note(tx, l.change(ranges))
	}
	l.stored = in
	return nil
}

// ranges are the pieces' ranges, ascending, joined where they touch.
func (l *leg) ranges() []gap {
	rs := make([]gap, 0, len(l.pieces))
	for _, p := range l.pieces {
		rs = append(rs, gap{p.off, p.end()})
	}
	slices.SortFunc(rs, func(a, b gap) int { return int(min(max(a.off-b.off, -1), 1)) })
	out := rs[:0]
	for _, r := range rs {
		out = joinGap(out, r)
	}
	return out
}

func (l *leg) change(ranges []gap) fsapi.Change {
	c := fsapi.Change{Kind: fsapi.ChangeContent, Ino: l.n.ino, Type: fsapi.TypeRegular, Door: l.door, Len: -1}
	if len(ranges) == 0 {
		c.Off = l.cut
		return c
	}
	c.Off = min(ranges[0].off, l.cut)
	if l.cut == noCut {
		c.Len = ranges[len(ranges)-1].end - c.Off
	}
	return c
}
