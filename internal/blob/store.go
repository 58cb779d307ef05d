package blob

import (
	"context"
	"io"
	"log/slog"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// Options of New. Index, Keys and Drives must be set; zero fields of the rest
// take the defaults named.
type Options struct {
	Index  Index
	Keys   Keys
	Drives Drives

	CacheBytes   int64 // decoded chunks kept in memory; 128 MiB
	SegmentBytes int64 // sealed bytes after which a segment is closed and the next begun; 64 MiB
	JournalMax   int64 // sealed bytes that one Auto batch may journal; 512 KiB
	InlineMax    int   // sealed bytes of an inline frame; 2048
	Workers      int   // goroutines that hash, compress and seal, for all batches; GOMAXPROCS
	Prefetch     int64 // bytes of chunks being prefetched at one time; 16 MiB

	Clock clock.Clock  // clock.Real
	Rand  io.Reader    // crypto/rand.Reader
	Log   *slog.Logger // discards

	// Bad, where set, is told of each bad replica found by a read, after the
	// attempt to repair it. It must not block.
	Bad func(BadReplica)
}

// BadReplica is a replica that could not be read or verified.
type BadReplica struct {
	Segment  fsapi.SegmentID
	Drive    fsapi.DriveID
	Err      error
	Repaired bool
}

// Store is the one door to file bytes. Safe for concurrent use.
type Store struct{}

// New makes a store. It starts its workers, which Close ends.
func New(o Options) (*Store, error) { panic("todo") }

// Close ends the workers and drops the caches. Batches in progress fail with
// fsapi.Closed. The drives are not closed.
func (s *Store) Close() error { panic("todo") }

// ReadExtent fills p with the extent's bytes from off, relative to the extent;
// [off, off+len(p)) lies within [0, ext.Len). Data and inline extents only.
func (s *Store) ReadExtent(ctx context.Context, vol fsapi.VolumeID, ext *fsapi.Extent, off int64, p []byte) error {
	panic("todo")
}

// Prefetch starts loading the chunks of extents into the cache, as many as
// Options.Prefetch allows; it does not block.
func (s *Store) Prefetch(vol fsapi.VolumeID, exts []fsapi.Extent) { panic("todo") }

// DropCaches forgets all decoded chunks.
func (s *Store) DropCaches() { panic("todo") }

// Stats are counters since New. All but the Cache* gauges only grow.
type Stats struct {
	ChunksAdded  uint64 // chunks cut, duplicates included
	BytesAdded   uint64 // their plaintext bytes
	ChunksDup    uint64 // found as duplicates
	BytesDup     uint64
	BytesZero    uint64 // left out as holes
	FramesSealed uint64
	BytesSealed  uint64 // sealed bytes of new frames
	BytesJournal uint64 // of these, to the journal
	BytesInline  uint64 // of these, inline
	Segments     uint64 // made durable
	SegmentBytes uint64 // written to drives, replicas counted each
	WriteFails   uint64 // drives that failed while a segment was written
	FramesRead   uint64 // read from drives or the journal and decoded
	BytesRead    uint64 // their sealed bytes
	BytesServed  uint64 // given to readers
	CacheHits    uint64
	CacheMisses  uint64
	Prefetched   uint64 // chunks
	BadReplicas  uint64
	Repaired     uint64
	CacheBytes   int64 // now in the cache
	CacheChunks  int64
}

// Stats reads the counters.
func (s *Store) Stats() Stats { panic("todo") }

// NewBatch starts a batch for one volume and class.
func (s *Store) NewBatch(ctx context.Context, vol fsapi.VolumeID, c Class) *Batch { panic("todo") }

// Batch gathers data of one volume. Not for concurrent use.
type Batch struct{}

// Add stores the bytes of ino's range that starts at off. Cuts start at
// data[0]; the end of data ends a chunk unless hold is true, in which case less
// than one largest chunk of trailing bytes may be left out: n is how many
// bytes were taken. data belongs to the batch until Finish or Abort has
// returned and must not change. Add blocks for back-pressure. A chunk of
// zeros becomes a hole: it gives no extent.
func (b *Batch) Add(ctx context.Context, ino fsapi.Ino, off int64, data []byte, hold bool) (n int, err error) {
	panic("todo")
}

// AddNew is Add without looking for duplicates in the index: for the second
// attempt after fsapi.Conflict from meta, when a duplicate was swept.
func (b *Batch) AddNew(ctx context.Context, ino fsapi.Ino, off int64, data []byte, hold bool) (n int, err error) {
	panic("todo")
}

// AddInline stores a whole small file as an inline frame, or as Add does where
// its frame is over Options.InlineMax.
func (b *Batch) AddInline(ctx context.Context, ino fsapi.Ino, data []byte) error { panic("todo") }

// Size is the sealed bytes so far, so that the caller can Finish at about
// Options.SegmentBytes.
func (b *Batch) Size() int64 { panic("todo") }

// Finish makes everything durable on its copies, or returns journal frames and
// inline extents that become durable with the caller's transaction. After an
// error nothing may be recorded; what was written is swept later. The result's
// slices belong to the caller. The batch is done either way.
func (b *Batch) Finish(ctx context.Context, mode Mode) (*fsapi.Stored, error) { panic("todo") }

// Abort drops what was added. It may be called after Finish, and does nothing
// then.
func (b *Batch) Abort() { panic("todo") }

// SegmentName is the name of a segment's blob on its drives.
func SegmentName(id fsapi.SegmentID) string {
	h := id.String()
	return "seg/" + h[len(h)-4:len(h)-2] + "/" + h
}

// DirEntry is one frame in a segment's directory.
type DirEntry struct {
	Chunk   fsapi.ChunkID
	Offset  uint32    // of the frame's header in the file
	Length  uint32    // of the whole frame
	Len     uint32    // plaintext bytes
	Ino     fsapi.Ino // the first owner, or 0 where it is not known
	FileOff int64     // where in the first owner's file
	Volume  fsapi.VolumeID
}

// SegmentReader reads one replica of a segment by what it says of itself.
// Safe for concurrent use.
type SegmentReader struct{}

// OpenSegment reads and verifies a segment's header, footer and directory on
// one drive. Errors: fsapi.NotExist, fsapi.Corrupt, and the drive's.
func OpenSegment(ctx context.Context, d drive.Drive, id fsapi.SegmentID, keys Keys) (*SegmentReader, error) {
	panic("todo")
}

// Directory is the entries in the order of their offsets. It must not be
// changed.
func (r *SegmentReader) Directory() []DirEntry { panic("todo") }

// Verify checks the segment; deep reads and opens every frame. fn, where not
// nil, is called for each frame with what is wrong with it or nil. The result
// is the first thing wrong.
func (r *SegmentReader) Verify(ctx context.Context, deep bool, fn func(DirEntry, error)) error {
	panic("todo")
}

// ReadFrame reads, opens and decodes one frame: the chunk's plaintext, which
// the caller owns.
func (r *SegmentReader) ReadFrame(ctx context.Context, e DirEntry) ([]byte, error) { panic("todo") }
