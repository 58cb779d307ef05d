package fsapi

import "time"

// Chunk is the record of a chunk: where its frame lies now.
type Chunk struct {
	ID  ChunkID
	Len uint32 // plaintext bytes
	Loc Location
}

// Segment is the record of a stored segment.
type Segment struct {
	ID        SegmentID
	Volume    VolumeID
	Size      int64 // bytes of the segment file
	Payload   int64 // bytes of its frames
	Frames    uint32
	Created   time.Time
	Want      []CopySpec  // the copies it should have
	Copies    []CopyPlace // those it has
	Condemned time.Time   // when nothing live was found in it; zero while it is in use (D4)
}

// JournalFrame is a sealed frame that travels in the metadata log until it is
// packed into a segment.
type JournalFrame struct {
	Loc  Location // in a journal segment
	Data []byte   // the sealed frame
	// Want are the copies its segment is to have, and Ino and Off the first owner,
	// for when it is packed.
	Want []CopySpec
	Ino  Ino
	Off  int64
}

// FileExtent is an extent of a certain file.
type FileExtent struct {
	Ino Ino
	Extent
}

// Moved says that a chunk's frame was written anew.
type Moved struct {
	Chunk ChunkID
	From  Location
	To    Location
}

// Stored is what must be recorded, in one transaction, for data that blob made
// durable (or, for Journal, that the transaction itself makes durable).
type Stored struct {
	Segments []Segment
	Chunks   []Chunk // new ones; a chunk found as a duplicate is not here
	Moves    []Moved // known chunks that were stored anew, since what there was of them is not as safe as asked
	Journal  []JournalFrame
	Extents  []FileExtent // in the order they were added
}

// ChangeKind says what a Change is. The numbers cross the wire: append only.
type ChangeKind uint8

// The kinds of change.
const (
	ChangeCreate  ChangeKind = 1 // a name came to be, by create, link, mkdir, restore
	ChangeRemove  ChangeKind = 2 // a name went, by unlink or rmdir
	ChangeRename  ChangeKind = 3 // a name moved
	ChangeContent ChangeKind = 4 // bytes or size of a file
	ChangeAttr    ChangeKind = 5 // mode, owner, times, extended attributes, policy
	ChangeUnknown ChangeKind = 6 // changes were missed: anything may have happened; never stored
)

// Change is one thing that happened to the namespace.
type Change struct {
	Kind    ChangeKind
	Volume  VolumeID
	Ino     Ino
	Dir     Ino    // directory of the name; 0 for content and attr
	Name    string // in Dir
	FromDir Ino    // ChangeRename: where it was
	From    string
	Type    FileType
	Off     int64  // ChangeContent: first byte changed
	Len     int64  // ChangeContent: bytes changed; <0 to the end
	Door    string // who did it: a door leaves out its own
}
