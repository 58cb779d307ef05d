// Package frame is the stored form of a chunk: a header, and the body,
// compressed and sealed. FORMAT.md in the directory above specifies it.
//
// It owns: the header's bytes, compression, sealing. It must not know where
// frames lie. It is pure: no I/O.
package frame

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// HeaderSize is the length of a frame's header in bytes.
const HeaderSize = 80

// Version is the version of the frame format.
const Version = 1

// maxBody bounds the body of a frame in bytes: the largest chunk and what
// sealing adds. Compression never makes a body longer.
const maxBody = policy.MaxChunk + maxOverhead

// MaxSize bounds a whole frame in bytes.
const MaxSize = HeaderSize + maxBody

const (
	magic0, magic1 = 'S', 'F'
	aadSize        = HeaderSize - 4 // the checksum is left out
)

// crc is CRC-32C (RFC 3720, appendix B.4), as all checksums of headers.
func crc(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Header says what a frame is. All of it is bound to the body by the seal.
type Header struct {
	Codec   Codec
	Cipher  fsapi.Cipher
	Volume  fsapi.VolumeID
	Key     fsapi.KeyVersion
	Index   uint32 // of the frame in its segment: the nonce
	Len     uint32 // plaintext bytes of the chunk
	Body    uint32 // bytes after the header
	Segment fsapi.SegmentID
	Chunk   fsapi.ChunkID
}

// Size is the length of the whole frame in bytes.
func (h *Header) Size() int { return HeaderSize + int(h.Body) }

// Put writes the header to b[:HeaderSize].
func (h *Header) Put(b []byte) {
	_ = b[HeaderSize-1]
	b[0], b[1], b[2] = magic0, magic1, Version
	b[3], b[4] = byte(h.Codec), byte(h.Cipher)
	b[5], b[6], b[7] = 0, 0, 0
	binary.LittleEndian.PutUint32(b[8:], uint32(h.Volume))
	binary.LittleEndian.PutUint32(b[12:], uint32(h.Key))
	binary.LittleEndian.PutUint32(b[16:], h.Index)
	binary.LittleEndian.PutUint32(b[20:], h.Len)
	binary.LittleEndian.PutUint32(b[24:], h.Body)
	copy(b[28:], h.Segment[:])
	copy(b[44:], h.Chunk[:])
	binary.LittleEndian.PutUint32(b[aadSize:], crc(b[:aadSize]))
}

// Parse reads a header from the start of b. The error is fsapi.Corrupt and
// says what is wrong.
func Parse(b []byte) (Header, error) {
	var h Header
	switch {
	case len(b) < HeaderSize:
		return h, fsapi.Errorf(fsapi.Corrupt, "frame header: %d bytes of %d", len(b), HeaderSize)
	case b[0] != magic0 || b[1] != magic1:
		return h, fsapi.Errorf(fsapi.Corrupt, "frame header: wrong magic %02x%02x", b[0], b[1])
	case crc(b[:aadSize]) != binary.LittleEndian.Uint32(b[aadSize:]):
		return h, fsapi.Errorf(fsapi.Corrupt, "frame header: wrong checksum")
	case b[2] != Version || b[5]|b[6]|b[7] != 0:
		return h, fsapi.Errorf(fsapi.Corrupt, "frame header: version %d, this program reads version %d", b[2], Version)
	}
	h.Codec, h.Cipher = Codec(b[3]), fsapi.Cipher(b[4])
	h.Volume = fsapi.VolumeID(binary.LittleEndian.Uint32(b[8:]))
	h.Key = fsapi.KeyVersion(binary.LittleEndian.Uint32(b[12:]))
	h.Index = binary.LittleEndian.Uint32(b[16:])
	h.Len = binary.LittleEndian.Uint32(b[20:])
	h.Body = binary.LittleEndian.Uint32(b[24:])
	copy(h.Segment[:], b[28:])
	copy(h.Chunk[:], b[44:])
	return h, h.check()
}

// Find is where in b the first bytes are that may begin a header, those at its end
// included that may be continued: len(b) where there are none.
func Find(b []byte) int {
	for i := 0; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], magic0)
		if n < 0 {
			break
		}
		i += n
		if len(b) == i+1 || b[i+1] == magic1 && (len(b) == i+2 || b[i+2] == Version) {
			return i
		}
	}
	return len(b)
}

// check refuses lengths and numbers that no writer makes, before anything is
// allocated by them.
func (h *Header) check() error {
	over, ok := overhead(h.Cipher)
	switch {
	case !ok:
		return fsapi.Errorf(fsapi.Corrupt, "frame header: cipher %d is not known", h.Cipher)
	case h.Codec > CodecZstd:
		return fsapi.Errorf(fsapi.Corrupt, "frame header: compression %d is not known", h.Codec)
	case h.Len == 0 || h.Len > policy.MaxChunk:
		return fsapi.Errorf(fsapi.Corrupt, "frame header: chunk of %d bytes", h.Len)
	case h.Body < over || h.Body > h.Len+over:
		return fsapi.Errorf(fsapi.Corrupt, "frame header: body of %d bytes for a chunk of %d", h.Body, h.Len)
	case h.Codec == CodecNone && h.Body != h.Len+over:
		return fsapi.Errorf(fsapi.Corrupt, "frame header: plain body of %d bytes for a chunk of %d", h.Body, h.Len)
	}
	return nil
}
