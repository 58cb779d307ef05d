package erasure

import (
	"encoding/binary"
	"io"

	"github.com/klauspost/reedsolomon"

	"github.com/strakefs/strake/internal/fsapi"
)

// Writer encodes a segment that arrives from its start to its end: data shards
// are written one after another as bytes come, parity and the ends of all shards
// by Close. It holds m shards' payload in memory (Layout.Payload × M), one block,
// and the table. Where the segment can be read at any offset, Encode needs far
// less. One goroutine at a time.
type Writer struct {
	rs     reedsolomon.Encoder
	id     fsapi.SegmentID
	l      Layout
	out    []io.Writer
	seeds  []uint32
	table  table
	parity [][]byte // by parity shard: its whole payload
	block  []byte   // the block that is being filled, capacity for its checksum
	pos    int64    // bytes of the segment that are in blocks already sealed
	err    error    // what ended it
}

// NewWriter starts a segment of l.SegmentSize bytes and writes headers. out is
// as Encode's, but is called by the caller's goroutine or, for headers and ends,
// concurrently.
func (c *Coder) NewWriter(id fsapi.SegmentID, l Layout, out []io.Writer) (*Writer, error) {
	rs, err := c.code(l)
	if err != nil {
		return nil, err
	}
	if err := putHeaders(id, l, out); err != nil {
		return nil, err
	}
	w := &Writer{rs: rs, id: id, l: l, out: out, seeds: seeds(id, l), table: newTable(l, l.Rows())}
	w.block = make([]byte, 0, l.BlockSize+sumSize)
	for range l.M {
		w.parity = append(w.parity, make([]byte, l.Payload(0)))
	}
	return w, nil
}

// Write takes the segment's next bytes. More than the segment's size is
// fsapi.Invalid. After an error every call returns it.
func (w *Writer) Write(p []byte) (n int, err error) {
	if int64(len(p)) > w.l.SegmentSize-w.pos-int64(len(w.block)) && w.err == nil {
		w.err = fsapi.Errorf(fsapi.Invalid, "segment %s: more than its %d bytes", w.id, w.l.SegmentSize)
	}
	for n < len(p) && w.err == nil {
		shard, block := w.place()
		room := w.l.BlockLen(shard, block) - len(w.block)
		m := min(room, len(p)-n)
		w.block = append(w.block, p[n:n+m]...)
		n += m
		if m == room {
			w.err = w.flush(shard, block)
		}
	}
	return n, w.err
}

// place is the shard and block that is being filled.
func (w *Writer) place() (shard, block int) {
	s := w.l.ShardPayload()
	return int(w.pos / s), int(w.pos % s / int64(w.l.BlockSize))
}

// flush writes the block and adds it to parity.
func (w *Writer) flush(shard, block int) error {
	n, at := len(w.block), int64(block)*int64(w.l.BlockSize)
	rows := make([][]byte, w.l.M)
	for i := range rows {
		rows[i] = w.parity[i][at:][:n]
	}
	if err := w.rs.EncodeIdx(w.block, shard, rows); err != nil {
		return fsapi.Errorf(fsapi.Other, "encode row %d of segment %s: %w", block, w.id, err)
	}
	if err := w.put(shard, block, w.block); err != nil {
		return err
	}
	w.block, w.pos = w.block[:0], w.pos+int64(n)
	return nil
}

// put writes a block, whose slice has room for its checksum, or not.
func (w *Writer) put(shard, block int, b []byte) error {
	sum := sum(w.seeds[shard], uint32(block), b)
	*w.table.at(block, shard) = sum
	if w.out[shard] == nil {
		return nil
	}
	if _, err := w.out[shard].Write(binary.LittleEndian.AppendUint32(b, sum)); err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, "write "+name(w.id, w.l, shard))
	}
	return nil
}

// Close writes parity and the ends of all shards. It does not close the writers.
// Fewer bytes than the segment's size are fsapi.Invalid. The Writer is of no use
// afterwards.
func (w *Writer) Close() error {
	switch {
	case w.err != nil:
		return w.err
	case w.pos != w.l.SegmentSize:
		w.err = fsapi.Errorf(fsapi.Invalid, "segment %s: %d of its %d bytes came", w.id, w.pos+int64(len(w.block)), w.l.SegmentSize)
		return w.err
	}
	w.err = w.finish()
	if err := w.err; err != nil {
		return err
	}
	w.err = fsapi.Errorf(fsapi.Closed, "segment %s: its shards are written", w.id)
	return nil
}

func (w *Writer) finish() error {
	for i, p := range w.parity {
		for r := range w.l.Rows() {
			at := r * w.l.BlockSize
			b := append(w.block[:0], p[at:at+w.l.BlockLen(w.l.K+i, r)]...)
			if err := w.put(w.l.K+i, r, b); err != nil {
				return err
			}
		}
	}
	return putTails(w.id, &w.table, w.out)
}
