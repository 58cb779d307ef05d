package blob

import (
	"context"
	"errors"
	"sync"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// maxRepairs bounds the repairs that reads have started at a time; scrub finds
// what is left out.
const maxRepairs = 2

// BadName is what one drive holds of a segment.
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

// report tells of replicas and shards that are bad: not of those on drives that
// are away or do not answer, of which nothing can be said. Where another copy answered they are repaired in the
// background first.
func (s *Store) report(bad []BadReplica, repairable bool) {
	for _, b := range bad {
		if st := s.o.Drives.State(b.Drive); !st.Readable() || st == drive.Suspect || silent(b.Err) {
			continue
		}
		s.stats.badReplicas.Add(1)
		s.distrust(b)
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

// distrust drops what a cache in front of a drive holds of what turned out bad:
// the next read sees the drive.
func (s *Store) distrust(b BadReplica) {
	d, err := s.o.Drives.Drive(b.Drive)
	if err != nil {
		return
	}
	if f, ok := d.(drive.Forgetter); ok {
		f.Forget(SegmentName(b.Segment))
		f.Forget(ShardName(b.Segment, b.Shard))
	}
}

// silent reports whether an error says that a drive gave no answer, rather than
// what is wrong with a blob.
func silent(err error) bool {
	switch fsapi.KindOf(err) {
	case fsapi.NoDevice, fsapi.TimedOut, fsapi.Closed, fsapi.Interrupted:
		return true
	}
	return false
}

func (s *Store) tell(b BadReplica) {
	s.o.Log.Warn("bad replica", "segment", b.Segment, "drive", b.Drive, "repaired", b.Repaired, "err", b.Err)
	if s.o.Bad != nil {
		s.o.Bad(b)
	}
}

// Repair makes what a drive holds of a segment whole again, in its place: the
// same bytes, made from others all of which verify. What is whole already is
// left alone. fsapi.Corrupt where there is nothing good to make it from: then
// nothing is touched. A drive that fails to answer is its own error: what cannot
// be read now is not taken for bad.
func (s *Store) Repair(ctx context.Context, id fsapi.SegmentID, on fsapi.DriveID) error {
	seg, err := s.o.Index.Segment(ctx, id)
	if err != nil {
		return err
	}
	d, err := s.o.Drives.Drive(on)
	if err != nil {
		return err
	}
	for i := range seg.Copies {
		c := &seg.Copies[i]
		for n, at := range c.Drives {
			if at != on {
				continue
			}
			err := s.VerifyPart(ctx, &seg, c, n)
			switch {
			case err == nil:
				continue
			case !errors.Is(err, fsapi.Corrupt) && !errors.Is(err, fsapi.NotExist):
				return err
			}
			if err := s.remake(ctx, &seg, c, n, d); err != nil {
				return err
			}
			s.stats.repaired.Add(1)
		}
	}
	return nil
}
