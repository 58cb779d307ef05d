package meta

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/policy"
)

// THE API. Being implemented: bodies move to files of their own.

// Store is the metadata of all volumes on one engine. Safe for concurrent use.
type Store struct{}

// Open prepares a store on an engine, which it does not close. An empty engine
// gets its format record.
func Open(ctx context.Context, e kv.Engine, o Options) (*Store, error) { panic("todo") }

// View runs fn on one snapshot of a volume.
func (s *Store) View(ctx context.Context, vol fsapi.VolumeID, fn func(tx *Tx) error) error {
	panic("todo")
}

// Update runs fn as one transaction on a volume; fn may run several times.
func (s *Store) Update(ctx context.Context, vol fsapi.VolumeID, o kv.UpdateOptions, fn func(tx *Tx) error) (kv.Seq, error) {
	panic("todo")
}

// Sync returns when everything committed before the call is durable.
func (s *Store) Sync(ctx context.Context) error { panic("todo") }

// NewIno reserves an inode number, never given out again.
func (s *Store) NewIno(ctx context.Context, vol fsapi.VolumeID) (fsapi.Ino, error) { panic("todo") }

// CreateVolume, Volumes, Volume, VolumeByName, SetVolume, DeleteVolume.
func (s *Store) CreateVolume(ctx context.Context, v Volume) (Volume, error)    { panic("todo") }
func (s *Store) Volumes(ctx context.Context) ([]Volume, error)                 { panic("todo") }
func (s *Store) Volume(ctx context.Context, id fsapi.VolumeID) (Volume, error) { panic("todo") }
func (s *Store) VolumeByName(ctx context.Context, name string) (Volume, error) { panic("todo") }
func (s *Store) SetVolume(ctx context.Context, v Volume) error                 { panic("todo") }

// DeleteVolume marks a volume as going; ReclaimVolume removes up to max records of it and says whether more are left.
func (s *Store) DeleteVolume(ctx context.Context, id fsapi.VolumeID) error { panic("todo") }
func (s *Store) ReclaimVolume(ctx context.Context, id fsapi.VolumeID, max int) (more bool, err error) {
	panic("todo")
}

// --- blob.Index ---

func (s *Store) Chunk(ctx context.Context, vol fsapi.VolumeID, id fsapi.ChunkID) (fsapi.Chunk, error) {
	panic("todo")
}
func (s *Store) Segment(ctx context.Context, id fsapi.SegmentID) (fsapi.Segment, error) {
	panic("todo")
}
func (s *Store) JournalFrame(ctx context.Context, vol fsapi.VolumeID, loc fsapi.Location) ([]byte, error) {
	panic("todo")
}

// --- upkeep (store-wide; each its own transaction) ---

// Segments calls fn for stored segments after `after` in order of id until fn returns false.
func (s *Store) Segments(ctx context.Context, after fsapi.SegmentID, fn func(SegmentUse) bool) error {
	panic("todo")
}

// JournalFrames lists up to max journalled frames of a volume, oldest first; JournalBytes is what all volumes hold.
func (s *Store) JournalFrames(ctx context.Context, vol fsapi.VolumeID, max int, maxBytes int64) ([]JournalChunk, error) {
	panic("todo")
}
func (s *Store) JournalBytes(ctx context.Context) (int64, error) { panic("todo") }

// JournalChunk is a journalled frame with the chunk it holds.
type JournalChunk struct {
	Chunk fsapi.ChunkID
	fsapi.JournalFrame
}

// Moved says that a chunk's frame was written anew.
type Moved struct {
	Chunk fsapi.ChunkID
	From  fsapi.Location
	To    fsapi.Location
}

// Relocate records new segments and points chunk records that still lie at From to To, in one transaction; journal
// frames at From are deleted. Records that no longer lie at From are left alone. Result: how many moved.
func (s *Store) Relocate(ctx context.Context, vol fsapi.VolumeID, segs []fsapi.Segment, moves []Moved) (int, error) {
	panic("todo")
}

// SweepChunks deletes up to max chunk records whose reference count fell to zero (and their journal frames).
func (s *Store) SweepChunks(ctx context.Context, max int) (swept int, more bool, err error) {
	panic("todo")
}

// Condemn stamps a segment in which nothing is live; Absolve takes the stamp off; DropSegment removes its record,
// refusing (fsapi.Busy) unless it is condemned and no chunk record of `chunks` (its directory) points to it.
func (s *Store) Condemn(ctx context.Context, id fsapi.SegmentID) error { panic("todo") }
func (s *Store) Absolve(ctx context.Context, id fsapi.SegmentID) error { panic("todo") }
func (s *Store) DropSegment(ctx context.Context, id fsapi.SegmentID, chunks []fsapi.ChunkID) error {
	panic("todo")
}

// Tx is a transaction on one volume. Not for concurrent use.
type Tx struct{}

// Volume is the volume's record (cached; policy and quota).
func (tx *Tx) Volume() Volume { panic("todo") }

// Inode reads an inode: fsapi.Stale where there is none.
func (tx *Tx) Inode(ino fsapi.Ino) (*Inode, error) { panic("todo") }

// SetInode writes back Mode, Uid, Gid, Rdev, Size, the times, and Flags of an inode read in this transaction, and
// increments Change. Nlink, Used, Parent and Name are kept by the other calls.
func (tx *Tx) SetInode(in *Inode) error { panic("todo") }

// Lookup finds a name: fsapi.NotExist.
func (tx *Tx) Lookup(dir fsapi.Ino, name string) (*Inode, error) { panic("todo") }

// Create makes an inode with a name. dir is from this transaction; its times, link count and Change are updated in
// place and stored. fsapi.Exist, Quota, TooManyLinks.
func (tx *Tx) Create(dir *Inode, name string, n NewInode) (*Inode, error) { panic("todo") }

// Link gives in (not a directory) another name. An orphan or trashed inode comes back to life.
func (tx *Tx) Link(dir *Inode, name string, in *Inode) error { panic("todo") }

// Unlink removes a name of a non-directory; in.Nlink goes down; at zero keep decides.
func (tx *Tx) Unlink(dir *Inode, name string, in *Inode, keep Keep) error { panic("todo") }

// Rmdir removes an empty directory: fsapi.NotEmpty. KeepTrash leaves a record so that paths below it can be restored.
func (tx *Tx) Rmdir(dir *Inode, name string, in *Inode, keep Keep) error { panic("todo") }

// Empty reports whether a directory has no names.
func (tx *Tx) Empty(dir fsapi.Ino) (bool, error) { panic("todo") }

// Rename moves from/fromName (in) to to/toName; from and to may be the same *Inode. victim is what to/toName names
// now, or nil; it is replaced (keep as in Unlink/Rmdir) or, with exchange, takes in's old name. The caller has checked
// types, emptiness and cycles. fsapi.CrossDevice where a directory would cross a quota boundary.
func (tx *Tx) Rename(from *Inode, fromName string, in *Inode, to *Inode, toName string, victim *Inode, exchange bool, keep Keep) error {
	panic("todo")
}

// ReadDir returns up to limit entries of a directory sorted by name after `after` ("" from the start), with
// attributes. Cookies are set.
func (tx *Tx) ReadDir(dir fsapi.Ino, after string, limit int) ([]fsapi.Dirent, error) { panic("todo") }

// NameAt finds the name that has a cookie (a scan): for resuming after a restart. fsapi.NotExist.
func (tx *Tx) NameAt(dir fsapi.Ino, cookie uint64) (string, error) { panic("todo") }

// IsAncestor reports whether a is ino or above it.
func (tx *Tx) IsAncestor(a, ino fsapi.Ino) (bool, error) { panic("todo") }

// Extents returns up to limit extents of a file that overlap [off, end), ascending.
func (tx *Tx) Extents(ino fsapi.Ino, off, end int64, limit int) ([]fsapi.Extent, error) {
	panic("todo")
}

// Record records stored data's segments, chunks and journal frames. Extents are set with SetExtents.
func (tx *Tx) Record(s *fsapi.Stored) error { panic("todo") }

// SetExtents replaces what [off, end) of a file holds by ext (within the range, ascending, not overlapping; none: a
// hole), splitting extents at the edges, keeping references, Used and usage. Each data extent's chunk must be recorded
// already or now: fsapi.Conflict names a chunk that is not (it was swept since it was found as a duplicate; store
// it anew). fsapi.Quota. in.Used and in.Change are updated in place and stored; in.Size is the caller's (SetInode).
// At most maxRemoved old extents are removed (0: no bound); done is the offset up to which the range was
// replaced when the bound was met from the end downwards: see TruncateExtents.
func (tx *Tx) SetExtents(in *Inode, off, end int64, ext []fsapi.Extent) error { panic("todo") }

// TruncateExtents removes up to max extents at the end of a file down to size, highest first, and returns the offset
// above which nothing is left: size when done.
func (tx *Tx) TruncateExtents(in *Inode, size int64, max int) (int64, error) { panic("todo") }

// ShiftExtents moves all extents at or after off by delta bytes (FALLOC_FL_COLLAPSE_RANGE, INSERT_RANGE). A collapsed
// range must be a hole already.
func (tx *Tx) ShiftExtents(in *Inode, off, delta int64) error { panic("todo") }

// NextData and NextHole are SEEK_DATA and SEEK_HOLE over stored extents within [off, end); end where there is none.
func (tx *Tx) NextData(ino fsapi.Ino, off, end int64) (int64, error) { panic("todo") }
func (tx *Tx) NextHole(ino fsapi.Ino, off, end int64) (int64, error) { panic("todo") }

// Xattrs. fsapi.NoAttr. SetXattr keeps Flags (HasXattr, HasACL...) of in and stores it.
func (tx *Tx) Xattr(ino fsapi.Ino, name string) ([]byte, error)    { panic("todo") }
func (tx *Tx) SetXattr(in *Inode, name string, value []byte) error { panic("todo") }
func (tx *Tx) RemoveXattr(in *Inode, name string) error            { panic("todo") }
func (tx *Tx) Xattrs(ino fsapi.Ino) ([]string, error)              { panic("todo") }

// Policy is an inode's own policy (zero where it has none); SetPolicy sets it (zero removes); EffectivePolicy is with
// everything inherited.
func (tx *Tx) Policy(ino fsapi.Ino) (policy.Policy, error)      { panic("todo") }
func (tx *Tx) SetPolicy(in *Inode, p policy.Policy) error       { panic("todo") }
func (tx *Tx) EffectivePolicy(in *Inode) (policy.Policy, error) { panic("todo") }

// Quota is the quota of a directory; SetQuota sets it (zero removes), counting the subtree as it stands: the caller
// keeps everybody else from changing the volume meanwhile. Usage is what a subtree with a quota, or (RootIno) the
// volume holds. NearestQuota finds the innermost directory at or above in that has a quota (or RootIno with the volume's).
func (tx *Tx) Quota(dir fsapi.Ino) (Quota, error)               { panic("todo") }
func (tx *Tx) SetQuota(dir *Inode, q Quota) error               { panic("todo") }
func (tx *Tx) Usage(dir fsapi.Ino) (fsapi.Usage, error)         { panic("todo") }
func (tx *Tx) NearestQuota(in *Inode) (fsapi.Ino, Quota, error) { panic("todo") }

// Orphans lists orphans after `after` (at start all are dropped: no handle survives a restart). DropOrphan hands an
// orphan to Reclaim.
func (tx *Tx) Orphans(after fsapi.Ino, limit int) ([]fsapi.Ino, error) { panic("todo") }
func (tx *Tx) DropOrphan(ino fsapi.Ino) error                          { panic("todo") }

// Reclaim removes up to max records of inodes waiting to be released; more says whether any are left.
func (tx *Tx) Reclaim(max int) (more bool, err error) { panic("todo") }

// Trash lists up to limit entries after (deleted-time order) `after`; nil starts. TrashDrop hands an entry to
// Reclaim; RestoreTrash gives it a name (dir from this transaction); TrashParents names the trashed
// directories an entry lay in, outermost first, so that they can be made again.
func (tx *Tx) Trash(after *TrashEntry, limit int) ([]TrashEntry, error)            { panic("todo") }
func (tx *Tx) TrashDrop(ino fsapi.Ino) error                                       { panic("todo") }
func (tx *Tx) RestoreTrash(ino fsapi.Ino, dir *Inode, name string) (*Inode, error) { panic("todo") }

// Note adds a change to the batch's events; Changes reads them back from a tailed batch.
func (tx *Tx) Note(c fsapi.Change)               { panic("todo") }
func Changes(b kv.Batch) ([]fsapi.Change, error) { panic("todo") }
