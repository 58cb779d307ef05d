package segment

import (
	"encoding/binary"

	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// Entry is one frame in a segment's directory.
type Entry struct {
	Chunk   fsapi.ChunkID
	Offset  uint32    // of the frame's header in the file
	Length  uint32    // of the whole frame
	Len     uint32    // plaintext bytes
	Ino     fsapi.Ino // first owner, or 0
	FileOff int64     // where in the first owner's file
}

// PutDirectory writes entries to b[:len(entries)*EntrySize].
func PutDirectory(b []byte, entries []Entry) {
	for i := range entries {
		e, b := &entries[i], b[i*EntrySize:][:EntrySize]
		copy(b, e.Chunk[:])
		binary.LittleEndian.PutUint32(b[32:], e.Offset)
		binary.LittleEndian.PutUint32(b[36:], e.Length)
		binary.LittleEndian.PutUint32(b[40:], e.Len)
		binary.LittleEndian.PutUint32(b[44:], 0)
		binary.LittleEndian.PutUint64(b[48:], uint64(e.Ino))
		binary.LittleEndian.PutUint64(b[56:], uint64(e.FileOff))
	}
}

// ParseDirectory reads a directory whose frames fill [HeaderSize, end) without
// gaps. The error is fsapi.Corrupt.
func ParseDirectory(b []byte, frames uint32, end int64) ([]Entry, error) {
	if int64(len(b)) != int64(frames)*EntrySize {
		return nil, fsapi.Errorf(fsapi.Corrupt, "segment directory: %d bytes for %d frames", len(b), frames)
	}
	entries, at := make([]Entry, frames), int64(HeaderSize)
	for i := range entries {
		e, b := &entries[i], b[i*EntrySize:][:EntrySize]
		copy(e.Chunk[:], b)
		e.Offset = binary.LittleEndian.Uint32(b[32:])
		e.Length = binary.LittleEndian.Uint32(b[36:])
		e.Len = binary.LittleEndian.Uint32(b[40:])
		e.Ino = fsapi.Ino(binary.LittleEndian.Uint64(b[48:]))
		e.FileOff = int64(binary.LittleEndian.Uint64(b[56:]))
		if reserved := binary.LittleEndian.Uint32(b[44:]); reserved != 0 {
			return nil, fsapi.Errorf(fsapi.Corrupt, "segment directory: reserved bytes are set, by a newer program")
		}
		if int64(e.Offset) != at || e.Length < frame.HeaderSize || e.Length > frame.MaxSize || e.Len == 0 || e.Len > policy.MaxChunk {
			return nil, fsapi.Errorf(fsapi.Corrupt, "segment directory: frame %d of %d bytes at %d, want it at %d", i, e.Length, e.Offset, at)
		}
		at += int64(e.Length)
	}
	if at != end {
		return nil, fsapi.Errorf(fsapi.Corrupt, "segment directory: frames end at %d, the directory starts at %d", at, end)
	}
	return entries, nil
}
