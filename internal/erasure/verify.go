package erasure

import (
	"context"
	"encoding/binary"

	"github.com/strakefs/strake/internal/fsapi"
)

// BlobFunc fills p with a blob's bytes from off, or fails, as ReadFunc does.
type BlobFunc func(ctx context.Context, off int64, p []byte) error

// Identify says what a blob of size bytes is, by its header, or by its trailer
// where that cannot be read: what is needed to find out, from drives alone, which
// segments there are. The error is the header's.
func Identify(ctx context.Context, size int64, read BlobFunc) (Header, error) {
	h, err := ending(ctx, 0, read, ParseHeader)
	if err != nil && size >= 2*HeaderSize {
		if t, terr := ending(ctx, size-HeaderSize, read, ParseTrailer); terr == nil {
			return t, nil
		}
	}
	return h, err
}

func ending(ctx context.Context, off int64, read BlobFunc, parse func([]byte) (Header, error)) (Header, error) {
	b := make([]byte, HeaderSize)
	if err := read(ctx, off, b); err != nil {
		return Header{}, err
	}
	return parse(b)
}

// Verify reads a whole blob of size bytes, which should be want, alone, and says
// everything that is wrong with it, each bad block by its number; no fault is a
// healthy shard. Memory is that of one shard's share. It goes on after bad bytes
// and after reads that fail, so a sector that cannot be read costs its own block
// only.
//
// Errors: fsapi.Invalid for a want out of bounds; the read's where neither header
// nor trailer can be read: the blob or its drive is gone; that of ctx.
func (c *Coder) Verify(ctx context.Context, want Header, size int64, read BlobFunc) ([]Fault, error) {
	if err := want.Check(); err != nil {
		return nil, err
	}
	v := &verifier{want: want, size: size, read: read, sums: make([]uint32, want.Layout.Blocks(want.Index)), good: make([]bool, want.Layout.Blocks(want.Index))}
	if err := v.ends(ctx); err != nil {
		return nil, err
	}
	step := c.stripRows(want.Layout)
	l, seed := want.Layout, want.seed()
	v.walk(ctx, part{PartBlock, l.slot(0), l.BlockSize + sumSize, len(v.sums), step}, func(i int, b []byte) any {
		n := l.BlockLen(want.Index, i)
		v.sums[i] = sum(seed, uint32(i), b[:n])
		if v.sums[i] != binary.LittleEndian.Uint32(b[n:]) {
			return "wrong checksum"
		}
		v.good[i] = true
		return nil
	})
	rows := max(c.stripRows(l)*l.BlockSize/l.tableRow(), 1)
	v.walk(ctx, part{PartTable, l.tableOffset(want.Index), l.tableRow(), l.Rows(), rows}, func(i int, b []byte) any {
		t := newTable(l, 1)
		switch {
		case t.parse(b, seed, i) != nil:
			return "wrong checksum"
		case i < len(v.sums) && v.good[i] && *t.at(0, want.Index) != v.sums[i]:
			return "not that of the block"
		}
		return nil
	})
	return v.faults, ended(ctx)
}

// verifier collects what is wrong with one blob.
type verifier struct {
	want   Header
	size   int64
	read   BlobFunc
	sums   []uint32 // of the blocks
	good   []bool   // blocks that verified
	faults []Fault
}

func (v *verifier) fault(part Part, number int, kind fsapi.Kind, why any) {
	v.faults = append(v.faults, fault(v.want, part, number, kind, why))
}

// ends checks size, header and trailer.
func (v *verifier) ends(ctx context.Context) error {
	if n := v.want.Layout.BlobSize(v.want.Index); v.size != n {
		v.fault(PartBlob, 0, fsapi.Corrupt, fsapi.Errorf(fsapi.Corrupt, "it has %d bytes, want %d", v.size, n))
	}
	unread := 0
	for _, e := range []struct {
		part  Part
		off   int64
		parse func([]byte) (Header, error)
	}{{PartHeader, 0, ParseHeader}, {PartTrailer, v.want.Layout.BlobSize(v.want.Index) - HeaderSize, ParseTrailer}} {
		h, err := ending(ctx, e.off, v.bounded, e.parse)
		if err == nil && h != v.want {
			err = fsapi.Errorf(fsapi.Corrupt, "it is that of %s", name(h.Segment, h.Layout, h.Index))
		}
		if err == nil {
			continue
		}
		v.fault(e.part, 0, fsapi.KindOf(err), err)
		if k := fsapi.KindOf(err); k != fsapi.Corrupt && k != fsapi.NotSupported {
			unread++
		}
		if unread == 2 || fsapi.KindOf(err) == fsapi.NotExist {
			return fsapi.Wrap(fsapi.KindOf(err), err, "read "+name(v.want.Segment, v.want.Layout, v.want.Index))
		}
	}
	return ended(ctx)
}

// bounded reads, but not past the blob's end.
func (v *verifier) bounded(ctx context.Context, off int64, p []byte) error {
	if off+int64(len(p)) > v.size {
		return fsapi.Errorf(fsapi.Corrupt, "cut short: the blob ends at %d", v.size)
	}
	return v.read(ctx, off, p)
}

// part is a run of equal items in a blob, the last of which may be shorter, and
// how many to read at once.
type part struct {
	part       Part
	off        int64
	width      int // bytes of an item
	count, run int
}

// walk calls check for each item and notes what it says is wrong.
func (v *verifier) walk(ctx context.Context, p part, check func(i int, b []byte) any) {
	end := v.want.Layout.tableOffset(v.want.Index) // of blocks
	if p.part == PartTable {
		end = v.want.Layout.BlobSize(v.want.Index) - HeaderSize
	}
	b := make([]byte, min(p.run, p.count)*p.width)
	items := func(first, n int) error {
		off := p.off + int64(first)*int64(p.width)
		b := b[:min(int64(n)*int64(p.width), end-off)]
		if err := v.bounded(ctx, off, b); err != nil {
			return err
		}
		for i := range n {
			if why := check(first+i, b[i*p.width:min((i+1)*p.width, len(b))]); why != nil {
				v.fault(p.part, first+i, fsapi.Corrupt, why)
			}
		}
		return nil
	}
	for first := 0; first < p.count && ctx.Err() == nil; first += p.run {
		n := min(p.run, p.count-first)
		if items(first, n) == nil {
			continue
		}
		for i := first; i < first+n && ctx.Err() == nil; i++ { // which of them is it?
			if err := items(i, 1); err != nil {
				v.fault(p.part, i, fsapi.KindOf(err), err)
			}
		}
	}
}
