package erasure

import (
	"context"
	"io"
	"slices"

	"github.com/klauspost/reedsolomon"

	"github.com/strakefs/strake/internal/fsapi"
)

// ReadFunc fills p with the bytes of shard's blob from off, or fails; fewer bytes
// than len(p) are an error (fsapi.NotExist: there is no such blob). It may be
// called concurrently. What it reads need not be right: everything is verified.
type ReadFunc func(ctx context.Context, shard int, off int64, p []byte) error

// Reader reads one segment from its shards, and rebuilds them. Safe for
// concurrent use.
type Reader struct {
	c     *Coder
	rs    reedsolomon.Encoder
	id    fsapi.SegmentID
	l     Layout
	seeds []uint32
	have  []int
	read  ReadFunc
}

// Open makes a Reader; it does no I/O. have lists the shards worth asking, the
// nearest first: of those that are not needed anyway, the first are read to
// reconstruct. A shard that is not in it is never read.
func (c *Coder) Open(id fsapi.SegmentID, l Layout, have []int, read ReadFunc) (*Reader, error) {
	rs, err := c.code(l)
	if err != nil {
		return nil, err
	}
	seen := make([]bool, l.Shards())
	for _, i := range have {
		if i < 0 || i >= l.Shards() || seen[i] {
			return nil, fsapi.Errorf(fsapi.Invalid, "segment %s: shard %d is not one of %d+%d, or is there twice", id, i, l.K, l.M)
		}
		seen[i] = true
	}
	return &Reader{c: c, rs: rs, id: id, l: l, seeds: seeds(id, l), have: slices.Clone(have), read: read}, nil
}

// ReadAt fills p with segment bytes from off. Every block was verified, and what
// had to be reconstructed too. Fewer bytes than len(p) come with io.EOF, at the
// segment's end. The faults met are returned also where the bytes are right.
//
// Errors: fsapi.Corrupt where fewer than K shards have verified blocks in a row
// that is needed and a block was bad; where reads failed alone, their kind; that
// of ctx.
func (r *Reader) ReadAt(ctx context.Context, p []byte, off int64) (int, []Fault, error) {
	if off < 0 {
		return 0, nil, fsapi.Errorf(fsapi.Invalid, "segment %s: read at %d", r.id, off)
	}
	pieces := r.l.Locate(off, int64(len(p)))
	parts, faults := make([][]byte, len(pieces)), make([][]Fault, len(pieces))
	rest := p
	for i, pc := range pieces {
		parts[i], rest = rest[:pc.Len], rest[pc.Len:]
	}
	read := func(i int) (err error) {
		faults[i], err = r.piece(ctx, pieces[i], parts[i])
		return err
	}
	var err error
	if len(pieces) == 1 {
		err = read(0)
	} else {
		err = each(len(pieces), read)
	}
	all := slices.Concat(faults...)
	switch {
	case err != nil:
		return 0, all, err
	case len(rest) > 0:
		return len(p) - len(rest), all, io.EOF
	}
	return len(p), all, nil
}

// piece reads a range of one data shard.
func (r *Reader) piece(ctx context.Context, pc Piece, p []byte) (faults []Fault, err error) {
	span := r.l.BlobRange(pc.Shard, pc.Off, pc.Len)
	step := r.c.stripRows(r.l)
	for first, end := span.First, span.First+span.Blocks; first < end; first += step {
		s := r.c.newStrip(r.rs, r.id, r.l, r.seeds)
		s.move(first, min(step, end-first))
		err := r.fill(ctx, s, []int{pc.Shard}, false)
		if err == nil {
			s.copy(p, pc.Shard, pc.Off)
		}
		faults = append(faults, s.faults...)
		s.free()
		if err != nil {
			return faults, err
		}
	}
	return faults, nil
}

// copy copies what the strip has of shard's payload bytes [off, off+len(p)).
func (s *strip) copy(p []byte, shard int, off int64) {
	for row := range s.rows {
		at := int64(s.first+row)*int64(s.l.BlockSize) - off // of the block in p
		block := s.slot(shard, row)[:s.l.BlockLen(shard, s.first+row)]
		copy(p[max(at, 0):], block[max(-at, 0):])
	}
}

// At is the segment as an io.ReaderAt for as long as ctx lasts, to lay it out
// anew with Encode. Faults are given to fault, unless that is nil, perhaps concurrently.
func (r *Reader) At(ctx context.Context, fault func(Fault)) io.ReaderAt {
	return readerAt{r: r, ctx: ctx, fault: fault}
}

// readerAt keeps a context: it lives no longer than the call it is made for.
type readerAt struct {
	r     *Reader
	ctx   context.Context
	fault func(Fault)
}

func (a readerAt) ReadAt(p []byte, off int64) (int, error) {
	n, faults, err := a.r.ReadAt(a.ctx, p, off)
	for _, f := range faults {
		if a.fault != nil {
			a.fault(f)
		}
	}
	return n, err
}
