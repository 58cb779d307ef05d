// Package segment is the stored form of a segment: header, frames, directory,
// footer. FORMAT.md in the directory above specifies it.
//
// It owns: the bytes of header, directory and footer. It must not know frames'
// contents, keys' origin or drives. It is pure: no I/O.
package segment

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/strakefs/strake/internal/blob/chunker"
	"github.com/strakefs/strake/internal/fsapi"
)

// Sizes in bytes.
const (
	HeaderSize = 64
	FooterSize = 64
	EntrySize  = 64
)

// Bounds of a segment.
const (
	MaxSize   = 1 << 30 // bytes of the file: offsets have 32 bits
	MaxFrames = 1 << 18
)

// Version is the version of the segment format.
const Version = 1

const (
	headMagic = "strakeSG"
	footMagic = "strakeEN"
)

// Hash names the algorithm of chunk ids. The numbers are stored: append only.
type Hash uint8

// The algorithms.
const (
	SHA256     Hash = 1 // of the plaintext (FIPS 180-4)
	HMACSHA256 Hash = 2 // of the plaintext under the volume's id key (RFC 2104)
)

func crc(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Header is the first HeaderSize bytes of a segment.
type Header struct {
	ID      fsapi.SegmentID
	Volume  fsapi.VolumeID
	Key     fsapi.KeyVersion
	Cipher  fsapi.Cipher
	Hash    Hash
	Created time.Time // to the millisecond
	// The chunker that cut the chunks and its parameters in bytes.
	Chunker       chunker.Kind
	Min, Avg, Max uint32
}

// Put writes the header to b[:HeaderSize].
func (h *Header) Put(b []byte) {
	clear(b[:HeaderSize])
	copy(b, headMagic)
	binary.LittleEndian.PutUint16(b[8:], Version)
	b[10], b[11] = byte(h.Hash), byte(h.Cipher)
	binary.LittleEndian.PutUint32(b[12:], uint32(h.Volume))
	binary.LittleEndian.PutUint32(b[16:], uint32(h.Key))
	b[20] = byte(h.Chunker)
	copy(b[24:], h.ID[:])
	binary.LittleEndian.PutUint64(b[40:], uint64(h.Created.UnixMilli()))
	binary.LittleEndian.PutUint32(b[48:], h.Min)
	binary.LittleEndian.PutUint32(b[52:], h.Avg)
	binary.LittleEndian.PutUint32(b[56:], h.Max)
	binary.LittleEndian.PutUint32(b[60:], crc(b[:60]))
}

// ParseHeader reads a header from the start of b. The error is fsapi.Corrupt.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	switch {
	case len(b) < HeaderSize:
		return h, fsapi.Errorf(fsapi.Corrupt, "segment header: %d bytes of %d", len(b), HeaderSize)
	case string(b[:8]) != headMagic:
		return h, fsapi.Errorf(fsapi.Corrupt, "segment header: wrong magic")
	case crc(b[:60]) != binary.LittleEndian.Uint32(b[60:]):
		return h, fsapi.Errorf(fsapi.Corrupt, "segment header: wrong checksum")
	case binary.LittleEndian.Uint16(b[8:]) != Version || b[21]|b[22]|b[23] != 0:
		return h, fsapi.Errorf(fsapi.Corrupt, "segment header: version %d, this program reads version %d", binary.LittleEndian.Uint16(b[8:]), Version)
	}
	h.Hash, h.Cipher = Hash(b[10]), fsapi.Cipher(b[11])
	h.Volume = fsapi.VolumeID(binary.LittleEndian.Uint32(b[12:]))
	h.Key = fsapi.KeyVersion(binary.LittleEndian.Uint32(b[16:]))
	h.Chunker = chunker.Kind(b[20])
	copy(h.ID[:], b[24:])
	h.Created = time.UnixMilli(int64(binary.LittleEndian.Uint64(b[40:])))
	h.Min = binary.LittleEndian.Uint32(b[48:])
	h.Avg = binary.LittleEndian.Uint32(b[52:])
	h.Max = binary.LittleEndian.Uint32(b[56:])
	return h, nil
}
