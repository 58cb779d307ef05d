package fsapi

import (
	"encoding/hex"
	"fmt"
	"strconv"
)

// Ino is the number of an inode, unique within its volume and never reused.
// Zero is no inode. It is the st_ino of stat(2).
type Ino uint64

// RootIno is the inode of a volume's root directory.
const RootIno Ino = 1

// VirtualIno is the first inode number of the virtual .strake tree. Numbers
// from here up are never stored.
const VirtualIno Ino = 1 << 63

// SnapshotIno is the first number of an inode of a snapshot's tree, among those
// of the virtual tree. What such a number stands for never changes until its
// snapshot is deleted, and no other takes the number after that.
const SnapshotIno Ino = 3 << 62

// SnapshotID is the number of a snapshot, from 1 up within its volume, never
// reused. Zero is no snapshot: the volume as it is.
type SnapshotID uint32

// VolumeID is the number of a volume, never reused within a store. Zero is no
// volume.
type VolumeID uint32

// ChunkID is the address of a chunk: HMAC-SHA-256 of its plaintext under the
// volume's id key, or plain SHA-256 where the volume is not encrypted. Ids are
// comparable within one volume only.
type ChunkID [32]byte

// String is the id in lower-case hexadecimal.
func (c ChunkID) String() string { return hex.EncodeToString(c[:]) }

// ParseChunkID reads what ChunkID.String wrote.
func ParseChunkID(s string) (ChunkID, error) {
	var c ChunkID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(c) {
		return c, Errorf(Invalid, "%q is not a chunk id: want %d hexadecimal digits", s, 2*len(c))
	}
	copy(c[:], b)
	return c, nil
}

// SegmentID is the number of a segment: 48 bits of milliseconds since the Unix
// epoch, big-endian, then 80 random bits whose lowest tells journal from
// stored segments. Ids sort by time of creation and are never reused (D3).
type SegmentID [16]byte

// String is the id in lower-case hexadecimal.
func (s SegmentID) String() string { return hex.EncodeToString(s[:]) }

// IsZero reports whether s names no segment.
func (s SegmentID) IsZero() bool { return s == SegmentID{} }

// IsJournal reports whether s is the number of a journal segment, whose frames
// lie in the metadata log and not on drives.
func (s SegmentID) IsJournal() bool { return s[15]&1 == 1 }

// ParseSegmentID reads what SegmentID.String wrote.
func ParseSegmentID(str string) (SegmentID, error) {
	var s SegmentID
	b, err := hex.DecodeString(str)
	if err != nil || len(b) != len(s) {
		return s, Errorf(Invalid, "%q is not a segment id: want %d hexadecimal digits", str, 2*len(s))
	}
	copy(s[:], b)
	return s, nil
}

// DriveID is the number of a drive, random, fixed at its creation and written
// in its identity file. Zero is no drive.
type DriveID uint64

// String is the id as 16 hexadecimal digits.
func (d DriveID) String() string { return fmt.Sprintf("%016x", uint64(d)) }

// ParseDriveID reads what String wrote: Invalid.
func ParseDriveID(s string) (DriveID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || n == 0 || len(s) != 16 {
		return 0, Errorf(Invalid, "%q is not the id of a drive: want 16 hexadecimal digits", s)
	}
	return DriveID(n), nil
}

// KeyVersion counts a volume's data keys from 1. Zero is no encryption.
type KeyVersion uint32

// Fence is a fence token: a number that only grows and that storage checks
// (D7).
type Fence uint64

// Location says where a frame lies. In a stored segment Offset is the byte of
// the frame's header within the segment file and Length the frame's whole
// length, header included. In a journal segment Offset is the index of the
// frame.
type Location struct {
	Segment SegmentID
	Offset  uint32
	Length  uint32
}

// IsZero reports whether l is no place.
func (l Location) IsZero() bool { return l == Location{} }
