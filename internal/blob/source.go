package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/erasure"
	"github.com/strakefs/strake/internal/fsapi"
)

// source is one way to a segment's bytes: a replica, or a copy's shards. Safe
// for concurrent use.
type source interface {
	// readAt fills p with the segment's bytes from off. What comes from a
	// replica is not verified yet. Errors name the drive.
	readAt(ctx context.Context, off int64, p []byte) error
	// stream is what readAt reads, as it arrives. The caller closes it.
	// fsapi.NotSupported: there is readAt only.
	stream(ctx context.Context, off, n int64) (drive.Stream, error)
	// size is the segment's size in bytes.
	size(ctx context.Context) (int64, error)
	// faults are the replicas and shards that were met bad so far.
	faults() []BadReplica
	// fail says that bytes which were read turned out to be wrong.
	fail(err error)
	// String names segment and drive.
	String() string
}

// replicaSource reads a replica.
type replicaSource struct {
	id fsapi.SegmentID
	on fsapi.DriveID
	d  drive.Drive // nil: err says why
	mu sync.Mutex
	// err is the first failure; guarded by mu.
	err error
}

func (r *replicaSource) readAt(ctx context.Context, off int64, p []byte) error {
	if r.d == nil {
		return r.err
	}
	err := readFull(ctx, r.d, SegmentName(r.id), off, p)
	if err != nil && ctx.Err() == nil {
		r.fail(err)
	}
	return err
}

func (r *replicaSource) stream(ctx context.Context, off, n int64) (drive.Stream, error) {
	if r.d == nil {
		return nil, r.err
	}
	return drive.OpenStream(ctx, r.d, SegmentName(r.id), off, n)
}

func (r *replicaSource) size(ctx context.Context) (int64, error) {
	if r.d == nil {
		return 0, r.err
	}
	st, err := r.d.Stat(ctx, SegmentName(r.id))
	return st.Size, err
}

func (r *replicaSource) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

func (r *replicaSource) faults() []BadReplica {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		return nil
	}
	return []BadReplica{{Segment: r.id, Drive: r.on, Err: r.err}}
}

func (r *replicaSource) String() string {
	if r.d == nil {
		return fmt.Sprintf("segment %v on drive %v", r.id, r.on)
	}
	i := r.d.Info()
	return fmt.Sprintf("segment blob %s on drive %s (%v)", SegmentName(r.id), i.Name, i.ID)
}

// shardSource reads a copy that is laid out as shards: the one that holds what
// is wanted, or enough others to compute it.
type shardSource struct {
	s     *Store
	id    fsapi.SegmentID
	bytes int64
	c     *fsapi.CopyPlace
	r     *erasure.Reader
	open  error // why there is no r

	mu  sync.Mutex
	bad map[int]error // by shard; guarded by mu
}

func (s *Store) shardSource(id fsapi.SegmentID, size int64, c *fsapi.CopyPlace) *shardSource {
	h := &shardSource{s: s, id: id, bytes: size, c: c}
	h.r, h.open = s.coder.Open(id, erasure.For(c.K, c.M, size), s.nearest(c), h.read)
	return h
}

// nearest are the shards of a copy that there are, those on drives that are well
// first.
func (s *Store) nearest(c *fsapi.CopyPlace) []int {
	var well, unwell []int
	for i, d := range c.Drives {
		switch st := s.o.Drives.State(d); {
		case d == 0:
		case st == drive.Suspect || !st.Readable():
			unwell = append(unwell, i)
		default:
			well = append(well, i)
		}
	}
	return append(well, unwell...)
}

// read is erasure.ReadFunc.
func (h *shardSource) read(ctx context.Context, shard int, off int64, p []byte) error {
	d, err := h.s.o.Drives.Drive(h.c.Drives[shard])
	if err != nil {
		return err
	}
	return readFull(ctx, d, ShardName(h.id, shard), off, p)
}

func (h *shardSource) readAt(ctx context.Context, off int64, p []byte) error {
	if h.open != nil {
		return h.open
	}
	n, faults, err := h.r.ReadAt(ctx, p, off)
	if ctx.Err() == nil {
		h.note(faults)
	}
	if errors.Is(err, io.EOF) {
		err = fsapi.Errorf(fsapi.Corrupt, "segment %v ends after %d of %d bytes at %d", h.id, n, len(p), off)
	}
	return err
}

func (h *shardSource) stream(context.Context, int64, int64) (drive.Stream, error) {
	return nil, fsapi.NotSupported
}

func (h *shardSource) note(faults []erasure.Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range faults {
		if h.bad == nil {
			h.bad = make(map[int]error)
		}
		if h.bad[f.Shard] == nil {
			h.bad[f.Shard] = f.Err
		}
	}
}

func (h *shardSource) size(context.Context) (int64, error) { return h.bytes, h.open }

// fail cannot tell which shard it was: every block agreed with its checksum.
func (h *shardSource) fail(error) {}

func (h *shardSource) faults() []BadReplica {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []BadReplica
	for shard, err := range h.bad {
		list = append(list, BadReplica{Segment: h.id, Drive: h.c.Drives[shard], Shard: shard, Err: err})
	}
	slices.SortFunc(list, func(a, b BadReplica) int { return a.Shard - b.Shard })
	return list
}

func (h *shardSource) String() string {
	return fmt.Sprintf("segment %v in %d+%d shards on tier %s", h.id, h.c.K, h.c.M, h.c.Tier)
}

// sources are the ways to a segment's bytes, the nearest first: hotter tiers,
// replicas before shards, drives that are awake before those that spin down, and
// those before drives that are not well. Among
// equals `spin` chooses, so that readers spread over replicas.
func (s *Store) sources(id fsapi.SegmentID, at *where, spin int) []source {
	var well, asleep, unwell []source
	for i := range at.copies {
		c := &at.copies[i]
		if c.Sharded() {
			if c.Readable() {
				well = append(well, s.shardSource(id, at.size, c))
			}
			continue
		}
		for n := range c.Drives {
			on := c.Drives[(n+spin)%len(c.Drives)]
			r := &replicaSource{id: id, on: on}
			r.d, r.err = s.o.Drives.Drive(on)
			switch st := s.o.Drives.State(on); {
			case r.d == nil || !st.Readable() || st == drive.Suspect:
				unwell = append(unwell, r)
			case r.d.Info().Spindown:
				asleep = append(asleep, r)
			default:
				well = append(well, r)
			}
		}
	}
	return append(append(well, asleep...), unwell...)
}
