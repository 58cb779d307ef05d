package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// maxMoves is how often a chunk may move while it is being read.
const maxMoves = 8

// fetch fills out with a chunk's plaintext from where its extent's hint says,
// and from where its record says if that fails: the segment may have gone
// since (D4's delay covers only those who are reading already).
func (s *Store) fetch(ctx context.Context, vol fsapi.VolumeID, ext *fsapi.Extent, out []byte) error {
	loc := ext.Loc
	var first error
	for range maxMoves {
		err := s.fetchAt(ctx, vol, ext, loc, out)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if first == nil || errors.Is(first, fsapi.NotExist) {
			first = err
		}
		c, e := s.o.Index.Chunk(ctx, vol, ext.Chunk)
		switch {
		case e != nil && errors.Is(e, fsapi.NotExist) && !errors.Is(first, fsapi.NotExist):
			return first
		case e != nil:
			return fsapi.Wrap(fsapi.KindOf(e), e, "find chunk "+ext.Chunk.String())
		case c.Loc == loc && errors.Is(first, fsapi.NotExist):
			return fsapi.Errorf(fsapi.Corrupt, "chunk %v: its record says segment %v, which is not there: run fsck: %w", ext.Chunk, loc.Segment, first)
		case c.Loc == loc:
			return first
		}
		loc = c.Loc
	}
	return first
}

// fetchAt reads a frame at one place.
func (s *Store) fetchAt(ctx context.Context, vol fsapi.VolumeID, ext *fsapi.Extent, loc fsapi.Location, out []byte) error {
	w := want{vol, loc.Segment, ext.Chunk, ext.ChunkLen}
	if loc.Segment.IsJournal() {
		data, err := s.o.Index.JournalFrame(ctx, vol, loc)
		if err != nil {
			return err
		}
		if err = s.decode(data, w, out); err != nil {
			return fsapi.Wrap(fsapi.KindOf(err), err, fmt.Sprintf("chunk %v in journal frame %v/%d", ext.Chunk, loc.Segment, loc.Offset))
		}
		return nil
	}
	bad, err := s.fetchReplicas(ctx, loc, w, out)
	if err != nil && ctx.Err() == nil {
		s.places.drop(loc.Segment) // the replicas may have moved since they were remembered
		bad, err = s.fetchReplicas(ctx, loc, w, out)
	}
	s.report(bad, err == nil)
	return err
}

// fetchReplicas tries the drives of a segment in turn, and says which failed.
func (s *Store) fetchReplicas(ctx context.Context, loc fsapi.Location, w want, out []byte) (bad []BadReplica, err error) {
	drives, err := s.drivesOf(ctx, loc.Segment)
	if err != nil {
		return nil, err
	}
	for _, id := range drives {
		err := s.fetchDrive(ctx, id, loc, w, out)
		if err == nil {
			return bad, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		bad = append(bad, BadReplica{Segment: loc.Segment, Drive: id, Err: err})
	}
	if len(bad) == 0 {
		return nil, fsapi.Errorf(fsapi.Corrupt, "chunk %v: segment %v has no replicas on record: run fsck", w.chunk, loc.Segment)
	}
	return bad, bad[0].Err
}

// fetchDrive reads a frame from one replica. The error names chunk, segment
// and drive.
func (s *Store) fetchDrive(ctx context.Context, id fsapi.DriveID, loc fsapi.Location, w want, out []byte) error {
	name := id.String()
	d, err := s.o.Drives.Drive(id)
	if err == nil {
		name = d.Info().Name + " (" + name + ")"
		sealed := s.pool.Get(int(loc.Length))
		defer s.pool.Put(sealed)
		if err = readFull(ctx, d, SegmentName(loc.Segment), int64(loc.Offset), sealed.B); err == nil {
			err = s.decode(sealed.B, w, out)
		}
	}
	if err == nil {
		return nil
	}
	return fsapi.Wrap(fsapi.KindOf(err), err, fmt.Sprintf("chunk %v in segment %v on drive %s", w.chunk, loc.Segment, name))
}

// readFull fills p; a blob that ends too early is fsapi.Corrupt.
func readFull(ctx context.Context, d drive.Drive, name string, off int64, p []byte) error {
	n, err := d.ReadAt(ctx, name, off, p)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fsapi.Errorf(fsapi.Corrupt, "%s ends after %d of %d bytes at %d: cut short", name, n, len(p), off)
	}
	return err
}

// maxPlaces bounds the segments whose drives are remembered.
const maxPlaces = 8192

// places remembers which drives segments are on. Safe for concurrent use.
type places struct {
	mu sync.Mutex
	m  map[fsapi.SegmentID][]fsapi.DriveID // guarded by mu
}

// drop forgets a segment.
func (p *places) drop(id fsapi.SegmentID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.m, id)
}

// drivesOf are the drives with replicas of a segment, the first copy's first.
func (s *Store) drivesOf(ctx context.Context, id fsapi.SegmentID) ([]fsapi.DriveID, error) {
	p := &s.places
	p.mu.Lock()
	drives, ok := p.m[id]
	p.mu.Unlock()
	if ok {
		return drives, nil
	}
	seg, err := s.o.Index.Segment(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, c := range seg.Copies {
		drives = append(drives, c.Drives...)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.m) >= maxPlaces {
		for old := range p.m {
			delete(p.m, old)
			break
		}
	}
	p.m[id] = drives
	return drives, nil
}
