// Package upkeep keeps stored bytes in order while nobody waits: it packs the
// journal into segments, sweeps chunks without references, compacts, deletes
// what is proven dead (D4), sweeps orphans and scrubs.
//
// It owns: when and how fast these run, and what must hold before anything is
// deleted. It must not know names, paths or key layout; metadata it asks for
// through Meta.
package upkeep

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// Meta is the metadata upkeep works on; *meta.Store is one.
type Meta interface {
	Chunk(ctx context.Context, vol fsapi.VolumeID, id fsapi.ChunkID) (fsapi.Chunk, error)
	Segment(ctx context.Context, id fsapi.SegmentID) (fsapi.Segment, error)
	Segments(ctx context.Context, after fsapi.SegmentID, fn func(meta.SegmentUse) bool) error
	Volumes(ctx context.Context) ([]meta.Volume, error)
	JournalFrames(ctx context.Context, vol fsapi.VolumeID, max int, maxBytes int64) ([]meta.JournalChunk, error)
	JournalBytes(ctx context.Context) (int64, error)
	Relocate(ctx context.Context, vol fsapi.VolumeID, segs []fsapi.Segment, moves []meta.Moved) (int, error)
	SweepChunks(ctx context.Context, max int) (swept int, more bool, err error)
	Condemn(ctx context.Context, id fsapi.SegmentID) error
	Absolve(ctx context.Context, id fsapi.SegmentID) error
	DropSegment(ctx context.Context, id fsapi.SegmentID, chunks []fsapi.ChunkID) error
}

var _ Meta = (*meta.Store)(nil)

// Drives is the drives as upkeep sees them: all of them.
type Drives interface {
	blob.Drives
}

// Options of New.
type Options struct {
	Delay time.Duration // between condemning a segment and deleting it; 10 minutes
}
