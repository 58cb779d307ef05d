package segment

import (
	"encoding/binary"

	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/fsapi"
)

// Footer is the last FooterSize bytes of a segment.
type Footer struct {
	ID        fsapi.SegmentID
	DirOffset uint32 // of the sealed directory: the frames end there
	DirLength uint32 // bytes of the sealed directory
	Frames    uint32
	Size      uint32       // bytes of the whole file, this footer included
	HeaderCRC uint32       // the checksum in the segment's header
	Cipher    fsapi.Cipher // of the directory
}

// Payload is the bytes of the frames.
func (f *Footer) Payload() int64 { return int64(f.DirOffset) - HeaderSize }

// Put writes the footer to b[:FooterSize].
func (f *Footer) Put(b []byte) {
	clear(b[:FooterSize])
	copy(b, f.ID[:])
	binary.LittleEndian.PutUint32(b[16:], f.DirOffset)
	binary.LittleEndian.PutUint32(b[20:], f.DirLength)
	binary.LittleEndian.PutUint32(b[24:], f.Frames)
	binary.LittleEndian.PutUint32(b[28:], f.Size)
	binary.LittleEndian.PutUint32(b[32:], f.HeaderCRC)
	b[36] = byte(f.Cipher)
	binary.LittleEndian.PutUint32(b[52:], crc(b[:52]))
	copy(b[56:], footMagic)
}

// ParseFooter reads a footer from b[:FooterSize]; size is the file's. The error
// is fsapi.Corrupt; a file that was cut short has no footer at its end.
func ParseFooter(b []byte, size int64) (Footer, error) {
	var f Footer
	switch {
	case len(b) < FooterSize:
		return f, fsapi.Errorf(fsapi.Corrupt, "segment footer: %d bytes of %d", len(b), FooterSize)
	case string(b[56:64]) != footMagic:
		return f, fsapi.Errorf(fsapi.Corrupt, "segment footer: wrong magic: the file was cut short or torn")
	case crc(b[:52]) != binary.LittleEndian.Uint32(b[52:]):
		return f, fsapi.Errorf(fsapi.Corrupt, "segment footer: wrong checksum")
	case [15]byte(b[37:52]) != [15]byte{}:
		return f, fsapi.Errorf(fsapi.Corrupt, "segment footer: reserved bytes are set, by a newer program")
	}
	copy(f.ID[:], b)
	f.DirOffset = binary.LittleEndian.Uint32(b[16:])
	f.DirLength = binary.LittleEndian.Uint32(b[20:])
	f.Frames = binary.LittleEndian.Uint32(b[24:])
	f.Size = binary.LittleEndian.Uint32(b[28:])
	f.HeaderCRC = binary.LittleEndian.Uint32(b[32:])
	f.Cipher = fsapi.Cipher(b[36])
	return f, f.check(size)
}

// check refuses lengths that do not add up, before anything is allocated by
// them.
func (f *Footer) check(size int64) error {
	switch {
	case int64(f.Size) != size:
		return fsapi.Errorf(fsapi.Corrupt, "segment footer: it says %d bytes, the file has %d: cut short or torn", f.Size, size)
	case f.DirOffset < HeaderSize || int64(f.DirOffset)+int64(f.DirLength)+FooterSize != size:
		return fsapi.Errorf(fsapi.Corrupt, "segment footer: a directory of %d bytes at %d does not fit a file of %d", f.DirLength, f.DirOffset, size)
	case f.Frames > MaxFrames || int64(f.Frames)*EntrySize > int64(f.DirLength):
		return fsapi.Errorf(fsapi.Corrupt, "segment footer: %d frames in a directory of %d bytes", f.Frames, f.DirLength)
	case int64(f.Frames)*frame.HeaderSize > f.Payload():
		return fsapi.Errorf(fsapi.Corrupt, "segment footer: %d frames in %d bytes", f.Frames, f.Payload())
	}
	return nil
}

// Bound is what the directory's seal binds: the header and the footer up to
// its checksum, so that neither can be changed without the store's key.
func Bound(header, footer []byte) []byte {
	return append(append(make([]byte, 0, HeaderSize+52), header[:HeaderSize]...), footer[:52]...)
}
