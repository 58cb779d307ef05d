package blob

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// maxRepairs bounds the repairs that reads have started at a time; scrub finds
// what is left out.
const maxRepairs = 2

// BadName is one replica of a segment.
type BadName struct {
	Segment fsapi.SegmentID
	Drive   fsapi.DriveID
}

// repairs are those under way.
type repairs struct {
	mu   sync.Mutex
	busy map[BadName]bool // guarded by mu
}

func (r *repairs) begin(n BadName, limit int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[n] || len(r.busy) >= limit {
		return false
	}
	r.busy[n] = true
	return true
}

func (r *repairs) end(n BadName) {
	r.mu.Lock()
	delete(r.busy, n)
	r.mu.Unlock()
}

// report tells of replicas that failed. Where another answered they are
// repaired in the background first.
func (s *Store) report(bad []BadReplica, repairable bool) {
	for _, b := range bad {
		s.stats.badReplicas.Add(1)
		n := BadName{b.Segment, b.Drive}
		if !repairable || !s.repairs.begin(n, maxRepairs) {
			s.tell(b)
			continue
		}
		started := s.background(func() {
			defer s.repairs.end(n)
			if err := s.Repair(s.ctx, b.Segment, b.Drive); err != nil {
				s.o.Log.Error("a bad replica could not be repaired", "segment", b.Segment, "drive", b.Drive, "found", b.Err, "err", err)
			} else {
				b.Repaired = true
			}
			s.tell(b)
		})
		if !started {
			s.repairs.end(n)
			s.tell(b)
		}
	}
}

func (s *Store) tell(b BadReplica) {
	s.o.Log.Warn("bad replica", "segment", b.Segment, "drive", b.Drive, "repaired", b.Repaired, "err", b.Err)
	if s.o.Bad != nil {
		s.o.Bad(b)
	}
}

// Repair makes a segment's replica on a drive whole again: the same bytes, from
// another replica all of whose frames verify. Where the replica is whole
// already nothing is done. fsapi.Corrupt where there is no good replica: then
// nothing is touched.
func (s *Store) Repair(ctx context.Context, id fsapi.SegmentID, on fsapi.DriveID) error {
	seg, err := s.o.Index.Segment(ctx, id)
	if err != nil {
		return err
	}
	d, err := s.o.Drives.Drive(on)
	if err != nil {
		return err
	}
	if s.VerifySegment(ctx, d, id) == nil {
		return nil
	}
	var errs []error
	for _, c := range seg.Copies {
		for _, other := range c.Drives {
			if other == on {
				continue
			}
			err := s.repairFrom(ctx, id, other, d)
			if err == nil {
				s.stats.repaired.Add(1)
				return nil
			}
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return fsapi.Errorf(fsapi.Corrupt, "repair segment %v on drive %v: it has no other replica", id, on)
	}
	return fsapi.Wrap(fsapi.Corrupt, errors.Join(errs...), "repair segment "+id.String())
}

func (s *Store) repairFrom(ctx context.Context, id fsapi.SegmentID, from fsapi.DriveID, to drive.Drive) error {
	src, err := s.o.Drives.Drive(from)
	if err != nil {
		return err
	}
	if err := s.VerifySegment(ctx, src, id); err != nil {
		return err
	}
	return s.CopySegment(ctx, id, src, to)
}

// VerifySegment checks one replica, every frame of it.
func (s *Store) VerifySegment(ctx context.Context, d drive.Drive, id fsapi.SegmentID) error {
	r, err := s.OpenSegment(ctx, d, id)
	if err != nil {
		return err
	}
	return r.Verify(ctx, true, nil)
}

// copyBlock is the bytes copied at a time.
const copyBlock = 1 << 20

// CopySegment makes the replica on dst the same as that on src, which the
// caller has verified. All bytes are on dst before the one that was there goes.
func (s *Store) CopySegment(ctx context.Context, id fsapi.SegmentID, src, dst drive.Drive) error {
	name := SegmentName(id)
	st, err := src.Stat(ctx, name)
	if err != nil {
		return err
	}
	w, err := dst.Create(ctx, name, st.Size)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := s.copyBytes(ctx, name, src, w, st.Size); err != nil {
		return err
	}
	if err := dst.Delete(ctx, name); err != nil && !errors.Is(err, fsapi.NotExist) {
		return err
	}
	return w.Commit(ctx)
}

func (s *Store) copyBytes(ctx context.Context, name string, src drive.Drive, w io.Writer, size int64) error {
	buf := s.pool.Get(copyBlock)
	defer s.pool.Put(buf)
	for off := int64(0); off < size; {
		p := buf.B[:min(copyBlock, size-off)]
		if err := readFull(ctx, src, name, off, p); err != nil {
			return err
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}
