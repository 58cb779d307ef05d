package erasure

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/strakefs/strake/internal/fsapi"
)

// HeaderSize is the bytes of a shard's header, and of the trailer that repeats it.
const HeaderSize = 64

// Version is the version of the shard format. Readers refuse versions they do
// not know; FORMAT.md has the ladder.
const Version = 1

const (
	headMagic = "strakeEC"
	tailMagic = "strakeED"
	sumSize   = 4 // bytes of a checksum
	headSum   = HeaderSize - sumSize
)

// codeVandermonde is the number of the code: systematic Reed-Solomon from a
// Vandermonde matrix over GF(2^8) with polynomial 0x11d. The numbers are stored:
// append only.
const codeVandermonde = 1

// castagnoli is the table of CRC-32C (RFC 3720, appendix B.4).
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header says what a blob is: shard Index of Segment, cut as Layout says. It
// determines the header's bytes, so whoever knows it need not read them.
type Header struct {
	Segment fsapi.SegmentID
	Layout  Layout
	Index   int // 0 to K-1 data, K to K+M-1 parity
}

// Put writes the header to b[:HeaderSize].
func (h Header) Put(b []byte) { h.put(b, headMagic) }

// PutTrailer writes the blob's last HeaderSize bytes, which repeat the header
// under a magic of their own, to b.
func (h Header) PutTrailer(b []byte) { h.put(b, tailMagic) }

func (h Header) put(b []byte, magic string) {
	clear(b[:HeaderSize])
	copy(b, magic)
	binary.LittleEndian.PutUint16(b[8:], Version)
	b[10] = codeVandermonde
	b[11], b[12], b[13] = byte(h.Layout.K), byte(h.Layout.M), byte(h.Index)
	copy(b[16:], h.Segment[:])
	binary.LittleEndian.PutUint64(b[32:], uint64(h.Layout.SegmentSize))
	binary.LittleEndian.PutUint32(b[40:], uint32(h.Layout.BlockSize))
	binary.LittleEndian.PutUint32(b[headSum:], crc32.Checksum(b[:headSum], castagnoli))
}

// ParseHeader reads the header at the start of a blob from b. The error is
// fsapi.Corrupt, or fsapi.NotSupported where a newer program wrote it.
func ParseHeader(b []byte) (Header, error) { return parse(b, headMagic, "header") }

// ParseTrailer reads a blob's last HeaderSize bytes: they say what the blob is
// where its header cannot be read. Errors as ParseHeader's.
func ParseTrailer(b []byte) (Header, error) { return parse(b, tailMagic, "trailer") }

func parse(b []byte, magic, what string) (h Header, err error) {
	switch {
	case len(b) < HeaderSize:
		return h, fsapi.Errorf(fsapi.Corrupt, "shard %s: %d bytes of %d", what, len(b), HeaderSize)
	case string(b[:8]) != magic:
		return h, fsapi.Errorf(fsapi.Corrupt, "shard %s: wrong magic", what)
	case crc32.Checksum(b[:headSum], castagnoli) != binary.LittleEndian.Uint32(b[headSum:]):
		return h, fsapi.Errorf(fsapi.Corrupt, "shard %s: wrong checksum", what)
	case binary.LittleEndian.Uint16(b[8:]) != Version:
		return h, fsapi.Errorf(fsapi.NotSupported, "shard %s: version %d, this program reads version %d", what, binary.LittleEndian.Uint16(b[8:]), Version)
	case b[10] != codeVandermonde:
		return h, fsapi.Errorf(fsapi.NotSupported, "shard %s: code %d, this program knows code %d", what, b[10], codeVandermonde)
	case b[14]|b[15] != 0 || [16]byte(b[44:60]) != [16]byte{}:
		return h, fsapi.Errorf(fsapi.NotSupported, "shard %s: reserved bytes are set, by a newer program", what)
	}
	copy(h.Segment[:], b[16:])
	h.Index = int(b[13])
	h.Layout = Layout{K: int(b[11]), M: int(b[12]), BlockSize: int(binary.LittleEndian.Uint32(b[40:]))}
	if size := binary.LittleEndian.Uint64(b[32:]); size <= MaxSegment {
		h.Layout.SegmentSize = int64(size) // else Check refuses the zero
	}
	if err := h.Check(); err != nil {
		return Header{}, fsapi.Errorf(fsapi.Corrupt, "shard %s: %w", what, err)
	}
	return h, nil
}

// Check refuses a layout or index out of bounds: fsapi.Invalid.
func (h Header) Check() error {
	if err := h.Layout.Check(); err != nil {
		return err
	}
	if h.Index < 0 || h.Index >= h.Layout.Shards() {
		return fsapi.Errorf(fsapi.Invalid, "shard %d of %d+%d", h.Index, h.Layout.K, h.Layout.M)
	}
	return nil
}

// seed is where the shard's checksums start from: that of the header, so that no
// block or row passes for one of another segment, shard or layout.
func (h Header) seed() uint32 {
	var b [HeaderSize]byte
	h.Put(b[:])
	return binary.LittleEndian.Uint32(b[headSum:])
}

// seeds are those of all shards of a segment.
func seeds(id fsapi.SegmentID, l Layout) []uint32 {
	s := make([]uint32, l.Shards())
	for i := range s {
		s[i] = Header{Segment: id, Layout: l, Index: i}.seed()
	}
	return s
}

// rowMark tells the numbers of table rows from those of blocks.
const rowMark = 1 << 31

// sum is the checksum of a block or table row: CRC-32C of the header up to its
// own checksum, the number, and the bytes.
func sum(seed, number uint32, b []byte) uint32 {
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], number)
	return crc32.Update(crc32.Update(seed, castagnoli, n[:]), castagnoli, b)
}
