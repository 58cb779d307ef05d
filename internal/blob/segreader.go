package blob

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/blob/segment"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

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

// SegmentReader reads one replica of a segment, or one copy of it in shards, by
// what the segment says of itself. Safe for concurrent use.
type SegmentReader struct {
	src    source
	head   segment.Header
	foot   segment.Footer
	dir    []DirEntry
	keys   Keys
	codecs *frame.Codecs
}

// maxDirectory bounds a sealed directory in bytes.
const maxDirectory = segment.MaxFrames*segment.EntrySize + 64

// OpenSegment reads and verifies a segment's header, footer and directory on
// one drive. Errors: fsapi.NotExist; fsapi.Corrupt, which names segment and
// drive; the drive's.
func OpenSegment(ctx context.Context, d drive.Drive, id fsapi.SegmentID, keys Keys) (*SegmentReader, error) {
	codecs, err := frame.NewCodecs(1)
	if err != nil {
		return nil, err
	}
	return openSegment(ctx, &replicaSource{id: id, on: d.Info().ID, d: d}, id, keys, codecs)
}

// OpenSegment is the function of that name with the store's keys.
func (s *Store) OpenSegment(ctx context.Context, d drive.Drive, id fsapi.SegmentID) (*SegmentReader, error) {
	return openSegment(ctx, &replicaSource{id: id, on: d.Info().ID, d: d}, id, s.o.Keys, s.codecs)
}

// OpenShards is OpenSegment for a segment of size bytes in shards.
func (s *Store) OpenShards(ctx context.Context, id fsapi.SegmentID, size int64, c *fsapi.CopyPlace) (*SegmentReader, error) {
	return openSegment(ctx, s.shardSource(id, size, c), id, s.o.Keys, s.codecs)
}

// Open opens a segment by the first of its replicas and sharded copies that opens
// and agrees with its record.
func (s *Store) Open(ctx context.Context, seg *fsapi.Segment) (*SegmentReader, error) {
	var errs []error
	for _, src := range s.sources(seg.ID, whereOf(seg), 0) {
		r, err := openSegment(ctx, src, seg.ID, s.o.Keys, s.codecs)
		if err == nil {
			err = r.agrees(seg)
		}
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, fsapi.Errorf(fsapi.Corrupt, "segment %v has no copies on record", seg.ID)
	}
	return nil, fsapi.Wrap(fsapi.KindOf(errs[0]), errors.Join(errs...), "open segment "+seg.ID.String())
}

// agrees compares a segment with its record.
func (r *SegmentReader) agrees(seg *fsapi.Segment) error {
	if is := r.Record(); is.Volume != seg.Volume || is.Size != seg.Size || is.Payload != seg.Payload || is.Frames != seg.Frames {
		return r.wrap(fsapi.Errorf(fsapi.Corrupt, "it says volume %d, %d bytes, %d frames; its record says volume %d, %d bytes, %d frames",
			is.Volume, is.Size, is.Frames, seg.Volume, seg.Size, seg.Frames))
	}
	return nil
}

func openSegment(ctx context.Context, src source, id fsapi.SegmentID, keys Keys, codecs *frame.Codecs) (*SegmentReader, error) {
	r := &SegmentReader{src: src, keys: keys, codecs: codecs}
	if err := r.open(ctx, id); err != nil {
		return nil, r.wrap(err)
	}
	return r, nil
}

func (r *SegmentReader) wrap(err error) error {
	return fsapi.Wrap(fsapi.KindOf(err), err, r.src.String())
}

func (r *SegmentReader) open(ctx context.Context, id fsapi.SegmentID) error {
	size, err := r.src.size(ctx)
	if err != nil {
		return err
	}
	if size < segment.HeaderSize+segment.FooterSize || size > segment.MaxSize {
		return fsapi.Errorf(fsapi.Corrupt, "%d bytes are no segment: cut short or torn", size)
	}
	var head [segment.HeaderSize]byte
	if err = r.src.readAt(ctx, 0, head[:]); err != nil {
		return err
	}
	var foot [segment.FooterSize]byte
	if err = r.src.readAt(ctx, size-segment.FooterSize, foot[:]); err != nil {
		return err
	}
	if r.head, err = segment.ParseHeader(head[:]); err != nil {
		return err
	}
	if r.foot, err = segment.ParseFooter(foot[:], size); err != nil {
		return err
	}
	if r.head.ID != id || r.foot.ID != id || r.foot.HeaderCRC != binary.LittleEndian.Uint32(head[segment.HeaderSize-4:]) {
		return fsapi.Errorf(fsapi.Corrupt, "it is segment %v by its header, %v by its footer", r.head.ID, r.foot.ID)
	}
	return r.openDirectory(ctx, segment.Bound(head[:], foot[:]))
}

func (r *SegmentReader) openDirectory(ctx context.Context, bound []byte) error {
	if r.foot.DirLength > maxDirectory {
		return fsapi.Errorf(fsapi.Corrupt, "segment directory of %d bytes", r.foot.DirLength)
	}
	key, c, err := directoryKey(r.keys, r.head.ID)
	if err != nil {
		return err
	}
	if c != r.foot.Cipher {
		return fsapi.Errorf(fsapi.Corrupt, "segment directory sealed with %v, the store uses %v", r.foot.Cipher, c)
	}
	sealed := make([]byte, r.foot.DirLength)
	if err = r.src.readAt(ctx, int64(r.foot.DirOffset), sealed); err != nil {
		return err
	}
	plain, err := key.OpenBytes(nil, 0, bound, sealed)
	if err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, "open the segment directory")
	}
	entries, err := segment.ParseDirectory(plain, r.foot.Frames, int64(r.foot.DirOffset))
	if err != nil {
		return err
	}
	r.dir = make([]DirEntry, len(entries))
	for i, e := range entries {
		r.dir[i] = DirEntry{e.Chunk, e.Offset, e.Length, e.Len, e.Ino, e.FileOff, r.head.Volume}
	}
	return nil
}

// Header is what the segment's header says.
func (r *SegmentReader) Header() segment.Header { return r.head }

// Size is the bytes of the file.
func (r *SegmentReader) Size() int64 { return int64(r.foot.Size) }

// Record is the segment's record as far as the segment knows it: without
// copies. For rebuilding metadata.
func (r *SegmentReader) Record() fsapi.Segment {
	return fsapi.Segment{
		ID: r.head.ID, Volume: r.head.Volume, Size: r.Size(), Payload: r.foot.Payload(),
		Frames: r.foot.Frames, Created: r.head.Created,
	}
}

// Location is where an entry's frame lies.
func (r *SegmentReader) Location(e DirEntry) fsapi.Location {
	return fsapi.Location{Segment: r.head.ID, Offset: e.Offset, Length: e.Length}
}

// Directory is the entries in the order of their offsets. It must not be
// changed.
func (r *SegmentReader) Directory() []DirEntry { return r.dir }

// Verify checks the segment; deep reads and opens every frame. fn, where not
// nil, is called for each frame with what is wrong with it or nil. The result
// is the first thing wrong.
func (r *SegmentReader) Verify(ctx context.Context, deep bool, fn func(DirEntry, error)) error {
	if !deep {
		return nil // opening has checked the rest
	}
	var first error
	var mem frameMemory
	for _, e := range r.dir {
		if err := ctx.Err(); err != nil {
			return fsapi.Wrap(fsapi.KindOf(err), err, "verify "+r.src.String())
		}
		_, err := r.frame(ctx, e, &mem)
		if first == nil {
			first = err
		}
		if fn != nil {
			fn(e, err)
		}
	}
	return first
}

// ReadFrame reads, opens and decodes one frame: the chunk's plaintext, which
// the caller owns. The error names chunk, segment and drive.
func (r *SegmentReader) ReadFrame(ctx context.Context, e DirEntry) ([]byte, error) {
	return r.frame(ctx, e, &frameMemory{})
}

// frameMemory is where a frame is read and decoded. Verifying uses it again and
// again, so that it is made and cleared once.
type frameMemory struct{ sealed, plain []byte }

// sized is n bytes of undefined content, of b where it has room.
func sized(b []byte, n uint32) []byte {
	if uint32(cap(b)) >= n { //nolint:gosec // at most frame.MaxSize
		return b[:n]
	}
	return make([]byte, n)
}

// frame is ReadFrame into mem, which the result belongs to.
func (r *SegmentReader) frame(ctx context.Context, e DirEntry, mem *frameMemory) ([]byte, error) {
	out, err := r.readFrame(ctx, e, mem)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.KindOf(err), r.wrap(err), "chunk "+e.Chunk.String())
	}
	return out, nil
}

func (r *SegmentReader) readFrame(ctx context.Context, e DirEntry, mem *frameMemory) ([]byte, error) {
	if e.Length > frame.MaxSize || e.Len > policy.MaxChunk {
		return nil, fsapi.Errorf(fsapi.Corrupt, "frame of %d bytes", e.Length)
	}
	mem.sealed = sized(mem.sealed, e.Length)
	if err := r.src.readAt(ctx, int64(e.Offset), mem.sealed); err != nil {
		return nil, err
	}
	h, err := parseFrame(mem.sealed, want{r.head.Volume, r.head.ID, e.Chunk, e.Len})
	if err != nil {
		return nil, err
	}
	k, err := deriveKey(r.keys, keyName{h.Segment, h.Volume, h.Key, h.Cipher})
	if err != nil { // not NotExist: the frame is there
		return nil, fsapi.Wrap(fsapi.IO, err, "find the key of the frame")
	}
	mem.plain = sized(mem.plain, h.Len)
	return mem.plain, openFrame(r.codecs, k, mem.sealed, &h, mem.plain)
}
