// Package blob turns file bytes into durable frames and back: chunking, ids,
// dedup, compression, sealing, segments, the journal's frames, placement on
// drives, reading through a cache of chunks.
//
// It owns: the formats of frames and segments (FORMAT.md), which drive holds
// what. It must not know names, paths or doors; metadata it asks for through
// Index.
//
// Goroutines: a Batch has one for each chunk under way (at most 2 × Workers + 2)
// and one for each replica of a segment being written; Finish and Abort wait
// for them. Store.cpu bounds how many compute. A Store has one for each
// prefetch and each repair that a read started; Close waits for them.
//
// Locks are leaves: none is held while another is taken or while I/O is done,
// except DriveSet's per drive while its capacity is measured. A batch's output
// (staged items, current segment) has no lock: it belongs to the item that has
// the turn (see item.turn), which alone may wait for a free block. Blocks become
// free because replicas write them without waiting for anybody's turn.
package blob

import (
	"context"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// Index is the metadata blob asks for. Safe for concurrent use.
type Index interface {
	// Chunk is a chunk's record; fsapi.NotExist where there is none.
	Chunk(ctx context.Context, vol fsapi.VolumeID, id fsapi.ChunkID) (fsapi.Chunk, error)
	// Segment is a segment's record; fsapi.NotExist where there is none.
	Segment(ctx context.Context, id fsapi.SegmentID) (fsapi.Segment, error)
	// JournalFrame is a sealed frame still in the log; fsapi.NotExist after it
	// was packed. The caller owns the slice.
	JournalFrame(ctx context.Context, vol fsapi.VolumeID, loc fsapi.Location) ([]byte, error)
}

// Cipher names an AEAD, as the keyring does.
type Cipher = fsapi.Cipher

// The ciphers.
const (
	CipherNone      = fsapi.CipherNone
	CipherAES256GCM = fsapi.CipherAES256GCM
	CipherXChaCha20 = fsapi.CipherXChaCha20
)

// Keys gives the keys of volumes. Safe for concurrent use. The slices must not
// be changed. Errors: fsapi.NotExist for an unknown volume or version.
type Keys interface {
	// Current is the version and cipher new frames of a volume are sealed
	// with; version 0 and CipherNone where the volume is not encrypted.
	Current(vol fsapi.VolumeID) (fsapi.KeyVersion, Cipher, error)
	// DataKey is the 32-byte key of one version, from which each segment's
	// own key is derived (HKDF-SHA-256, RFC 5869, with the segment id).
	DataKey(vol fsapi.VolumeID, v fsapi.KeyVersion) ([]byte, error)
	// IDKey is the 32-byte key of chunk ids, nil for plain SHA-256.
	IDKey(vol fsapi.VolumeID) ([]byte, error)
	// StoreKey is the 32-byte key of what belongs to no volume: segment
	// directories, checkpoints.
	StoreKey() []byte
}

// Drives is the set of drives there are. Safe for concurrent use.
type Drives interface {
	// Drive is one drive, or fsapi.NotExist.
	Drive(id fsapi.DriveID) (drive.Drive, error)
	// Place picks drives for replicas or shards: up to w.N, at least w.Min, as
	// many failure domains apart as possible, those with free space first.
	// fsapi.NoSpace where fewer than w.Min can take it; the error says what is
	// missing.
	Place(ctx context.Context, w Wish) ([]drive.Drive, error)
	// State says what may be done with a drive: drive.Offline where it is not
	// there.
	State(id fsapi.DriveID) drive.State
}

// Wish is what is asked of Drives.Place.
type Wish struct {
	Tier   string
	N, Min int   // drives wanted, and at least; Min ≥ 1
	Size   int64 // bytes for each
	// Avoid are drives not to be picked. Beside are drives that hold the same
	// copy already: not to be picked either, and to be kept apart from.
	Avoid, Beside []fsapi.DriveID
}

// Class is how a batch of data is to be stored: the part of a policy that blob
// obeys.
type Class struct {
	Copies      []policy.Copy // wanted; the first that can be placed is written at once
	Compression policy.Compression
	Chunking    policy.Chunking
}

// ClassOf is what blob obeys of a policy, whose slices the Class shares.
func ClassOf(p policy.Policy) Class {
	return Class{Copies: p.Copies, Compression: p.Compression, Chunking: p.Chunking}
}

// MaxChunk is the largest chunk in bytes.
const MaxChunk = policy.MaxChunk

// Mode says how Batch.Finish makes data durable.
type Mode uint8

// The modes.
const (
	// Auto journals what is small (at most Options.JournalMax sealed bytes)
	// and makes a segment of the rest.
	Auto Mode = iota
	// Segment always makes segments (bulk write-back, packing, compaction).
	Segment
)
