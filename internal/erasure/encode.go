package erasure

import (
	"context"
	"errors"
	"io"

	"github.com/strakefs/strake/internal/fsapi"
)

// Encode writes the blobs of a segment's shards to out, which has K+M writers; a
// nil one is a shard that is not wanted. src holds the segment (bytes.Reader for
// one in memory); it is read from the beginning of each shard at once, in parts
// of a strip. Writers of different shards are called concurrently. After an
// error what was written is not a shard; one writer's error ends the call, so a
// caller that goes on without a shard gives a writer that notes its failure.
//
// Errors: fsapi.Invalid for a layout or out that does not fit, fsapi.Corrupt
// where src ends before the segment does, those of src and out, and that of ctx,
// which is looked at between strips.
func (c *Coder) Encode(ctx context.Context, id fsapi.SegmentID, l Layout, src io.ReaderAt, out []io.Writer) error {
	rs, err := c.code(l)
	if err != nil {
		return err
	}
	if err := putHeaders(id, l, out); err != nil {
		return err
	}
	s := c.newStrip(rs, id, l, seeds(id, l))
	defer s.free()
	whole := newTable(l, l.Rows())
	for first, step := 0, c.stripRows(l); first < l.Rows(); first += step {
		if err := ended(ctx); err != nil {
			return err
		}
		s.move(first, min(step, l.Rows()-first))
		if err := s.encode(src, out); err != nil {
			return err
		}
		copy(whole.sums[first*l.Shards():], s.table.sums)
	}
	return putTails(id, &whole, out)
}

// encode reads, encodes and writes one strip.
func (s *strip) encode(src io.ReaderAt, out []io.Writer) error {
	if err := each(s.l.K, func(i int) error { return s.load(i, src) }); err != nil {
		return err
	}
	for i := s.l.K; i < s.l.Shards(); i++ {
		s.part(i)
	}
	if err := s.c.compute(s.rows, s.encodeRow); err != nil {
		return err
	}
	return s.write(out)
}

// load reads a data shard's part of the segment.
func (s *strip) load(shard int, src io.ReaderAt) error {
	sp := s.l.span(shard, s.first, s.rows)
	n := int(sp.Len) - sp.Blocks*sumSize
	part := s.part(shard)
	gap := sp.Blocks * sumSize // read at the end, then moved down to make room for checksums
	at := int64(shard)*s.l.ShardPayload() + int64(s.first)*int64(s.l.BlockSize)
	if got, err := readFull(src, part[gap:gap+n], at); err != nil {
		return fsapi.Errorf(kind(err), "encode segment %s: read %d bytes at %d, got %d: %w", s.id, n, at, got, err)
	}
	for r := range sp.Blocks {
		copy(s.slot(shard, r)[:s.l.BlockLen(shard, s.first+r)], part[gap+r*s.l.BlockSize:])
	}
	for r := range s.rows {
		s.pad(shard, r)
	}
	return nil
}

// kind is the kind of a failure to read the segment: one that ends early is torn.
func kind(err error) fsapi.Kind {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fsapi.Corrupt
	}
	return fsapi.KindOf(err)
}

func readFull(src io.ReaderAt, p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := src.ReadAt(p, off)
	switch {
	case n == len(p):
		return n, nil
	case err == nil || errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// encodeRow computes parity and checksums of a row.
func (s *strip) encodeRow(row int) error {
	n, blocks := s.l.rowLen(s.first+row), make([][]byte, s.l.Shards())
	for i := range blocks {
		blocks[i] = s.slot(i, row)[:n]
	}
	if err := s.rs.Encode(blocks); err != nil {
		return fsapi.Errorf(fsapi.Other, "encode row %d of segment %s: %w", s.first+row, s.id, err)
	}
	for i := range blocks {
		if s.l.BlockLen(i, s.first+row) > 0 {
			*s.table.at(row, i) = s.sum(i, row)
			s.seal(i, row, *s.table.at(row, i))
		}
	}
	return nil
}

// write gives each shard's part to its writer.
func (s *strip) write(out []io.Writer) error {
	return toEach(s.id, s.l, out, func(i int) []byte { return s.stored(i) })
}

func putHeaders(id fsapi.SegmentID, l Layout, out []io.Writer) error {
	if len(out) != l.Shards() {
		return fsapi.Errorf(fsapi.Invalid, "segment %s: %d writers for %d+%d shards", id, len(out), l.K, l.M)
	}
	return toEach(id, l, out, func(i int) []byte {
		b := make([]byte, HeaderSize)
		Header{Segment: id, Layout: l, Index: i}.Put(b)
		return b
	})
}

func putTails(id fsapi.SegmentID, t *table, out []io.Writer) error {
	return toEach(id, t.l, out, func(i int) []byte { return t.tail(Header{Segment: id, Layout: t.l, Index: i}) })
}

// toEach writes to each shard's writer at once what part says.
func toEach(id fsapi.SegmentID, l Layout, out []io.Writer, part func(i int) []byte) error {
	return each(len(out), func(i int) error {
		if out[i] == nil {
			return nil
		}
		b := part(i)
		if len(b) == 0 {
			return nil
		}
		if _, err := out[i].Write(b); err != nil {
			return fsapi.Wrap(fsapi.KindOf(err), err, "write "+name(id, l, i))
		}
		return nil
	})
}
