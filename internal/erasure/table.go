package erasure

import "encoding/binary"

// table is the checksums of all blocks of all shards, row after row. Blocks that
// are not stored have 0.
type table struct {
	l     Layout
	sums  []uint32 // [row*shards+shard]
	known []bool   // by row
}

// newTable is a table of some rows; nothing in it is known.
func newTable(l Layout, rows int) table {
	return table{l: l, sums: make([]uint32, rows*l.Shards()), known: make([]bool, rows)}
}

func (t *table) at(row, shard int) *uint32 { return &t.sums[row*t.l.Shards()+shard] }

// append writes the rows to b as the shard with that seed stores them; first is
// the number of the first of them.
func (t *table) append(b []byte, seed uint32, first int) []byte {
	for r := range t.known {
		start := len(b)
		for i := range t.l.Shards() {
			b = binary.LittleEndian.AppendUint32(b, *t.at(r, i))
		}
		b = binary.LittleEndian.AppendUint32(b, sum(seed, rowMark|uint32(first+r), b[start:]))
	}
	return b
}

// parse takes rows that are not known yet out of b, where they verify, and
// returns the numbers of those that do not.
func (t *table) parse(b []byte, seed uint32, first int) (bad []int) {
	width := t.l.tableRow()
	for r := range t.known {
		row := b[r*width : (r+1)*width]
		body := row[:width-sumSize]
		if sum(seed, rowMark|uint32(first+r), body) != binary.LittleEndian.Uint32(row[len(body):]) {
			bad = append(bad, first+r)
			continue
		}
		if t.known[r] {
			continue
		}
		for i := range t.l.Shards() {
			*t.at(r, i) = binary.LittleEndian.Uint32(body[i*sumSize:])
		}
		t.known[r] = true
	}
	return bad
}

// tail is a shard's table and trailer.
func (t *table) tail(h Header) []byte {
	b := make([]byte, 0, len(t.known)*t.l.tableRow()+HeaderSize)
	b = t.append(b, h.seed(), 0)
	n := len(b)
	b = b[:n+HeaderSize]
	h.PutTrailer(b[n:])
	return b
}
