package vfs

import (
	"context"
	"log/slog"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// Defaults of Options.
const (
	DefaultDirtyMax  = 256 << 20
	DefaultFlushAge  = 5 * time.Second
	DefaultFlushers  = 2
	DefaultSegment   = 64 << 20
	DefaultNodes     = 50_000
	DefaultReadAhead = 16 << 20
	DefaultInlineMax = 2048
)

// Options of New. Meta, Blob and Volume must be set; a zero field of the rest
// takes its default.
type Options struct {
	Meta   *meta.Store
	Blob   Blob
	Volume fsapi.VolumeID

	// Budget bounds dirty data in memory; volumes may share one. nil makes
	// one of DirtyMax bytes for this volume alone.
	Budget   *Budget
	DirtyMax int64 // bytes; DefaultDirtyMax

	FlushAge  time.Duration // age at which dirty data is written back; DefaultFlushAge
	Flushers  int           // goroutines that write back; DefaultFlushers
	Segment   int64         // bytes of one file that are streamed into one batch; DefaultSegment
	Nodes     int           // clean inodes kept in memory; DefaultNodes
	ReadAhead int64         // bytes prefetched ahead of a sequential reader; DefaultReadAhead; negative: none
	InlineMax int           // bytes of the largest file offered for inline storage; DefaultInlineMax; negative: none

	// ReadOnly opens a volume that another machine writes: everything that would
	// change it fails with fsapi.ReadOnly, and Refresh is to be called with what
	// changes. CatchUp, where set, makes the metadata show all that the other
	// machine had made durable by the time of the call.
	ReadOnly bool
	CatchUp  func(ctx context.Context) error

	// Available measures how many bytes the drives have room for; nil: not known,
	// and nothing is refused early.
	Available func(ctx context.Context) (int64, error)
	// Possible says what of a policy that is to be set cannot be done here: it
	// names a tier without drives, say; nil: everything can. holds is what will
	// hold with it, what is inherited included.
	Possible func(own, holds policy.Policy) error
	// Remote returns when everything that was durable here before the call is
	// also in a bucket, for the acknowledgement class remote of data with these
	// copies; it fails where none of them is sure to be in one. nil: there is no
	// bucket, and an fsync that asks for it fails with fsapi.NotSupported.
	Remote func(ctx context.Context, copies []policy.Copy) error
	// CopiesChanged, where set, is told that the policy of an inode asks for
	// other copies than before, after it was changed: of this inode and what
	// inherits from it. It may be called concurrently.
	CopiesChanged func(ino fsapi.Ino)
	// Virtual are the files of .strake besides stats and trash.
	Virtual []VirtualFile

	Clock clock.Clock  // clock.Real
	Log   *slog.Logger // discards
}

func (o *Options) setDefaults() error {
	if o.Meta == nil || o.Blob == nil || o.Volume == 0 {
		return fsapi.Errorf(fsapi.Invalid, "vfs: Meta, Blob and Volume must be set")
	}
	def(&o.DirtyMax, DefaultDirtyMax)
	def(&o.FlushAge, DefaultFlushAge)
	def(&o.Flushers, DefaultFlushers)
	def(&o.Segment, DefaultSegment)
	def(&o.Nodes, DefaultNodes)
	def(&o.ReadAhead, DefaultReadAhead)
	def(&o.InlineMax, DefaultInlineMax)
	if o.Budget == nil {
		o.Budget = NewBudget(o.DirtyMax)
	}
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Blob is what vfs needs of blob.Store. Safe for concurrent use.
type Blob interface {
	NewBatch(ctx context.Context, vol fsapi.VolumeID, c blob.Class) BlobBatch
	ReadExtent(ctx context.Context, vol fsapi.VolumeID, ext *fsapi.Extent, off int64, p []byte) error
	Prefetch(vol fsapi.VolumeID, exts []fsapi.Extent) int
	DropCaches()
}

// BlobBatch is what vfs needs of blob.Batch, with its contracts.
type BlobBatch interface {
	Add(ctx context.Context, ino fsapi.Ino, off int64, data []byte, hold bool) (int, error)
	AddNew(ctx context.Context, ino fsapi.Ino, off int64, data []byte, hold bool) (int, error)
	AddInline(ctx context.Context, ino fsapi.Ino, data []byte) error
	Size() int64
	Room() int64
	Finish(ctx context.Context, mode blob.Mode) (*fsapi.Stored, error)
	Abort()
}

// FromStore is a blob.Store as vfs wants it.
func FromStore(s *blob.Store) Blob { return store{s} }

type store struct{ *blob.Store }

func (s store) NewBatch(ctx context.Context, vol fsapi.VolumeID, c blob.Class) BlobBatch {
	return s.Store.NewBatch(ctx, vol, c)
}

var (
	_ Blob      = store{}
	_ BlobBatch = (*blob.Batch)(nil)
)
