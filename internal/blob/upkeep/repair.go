package upkeep

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// tolerance is how many more drives a segment surely outlives, one of them taken
// for lost already (0: none); -1: it cannot be read as it is.
func (u *Upkeep) tolerance(seg *fsapi.Segment, without fsapi.DriveID) int {
	n := 0
	for i := range seg.Copies {
		c := &seg.Copies[i]
		there := 0
		for _, d := range c.Drives {
			if d != 0 && d != without && u.o.Drives.State(d).Readable() {
				there++
			}
		}
		n += max(0, there-max(c.K, 1)+1)
	}
	return n - 1
}

// LostWithout calls fn for the segments with live data that could not be read any
// more if a drive were gone, until fn returns false: what must be copied before
// the drive may go. What cannot be read even with it is among them.
func (u *Upkeep) LostWithout(ctx context.Context, id fsapi.DriveID, fn func(meta.SegmentUse) bool) error {
	return u.o.Meta.Segments(ctx, fsapi.SegmentID{}, func(s meta.SegmentUse) bool {
		if s.Live == 0 || !holds(&s.Segment, id) || u.tolerance(&s.Segment, id) >= 0 {
			return ctx.Err() == nil
		}
		return fn(s)
	})
}

// HeldBy is how many segments have something recorded on a drive, and the bytes
// of these segments. A drive that holds nothing may be forgotten.
func (u *Upkeep) HeldBy(ctx context.Context, id fsapi.DriveID) (segments int, bytes int64, err error) {
	err = u.o.Meta.Segments(ctx, fsapi.SegmentID{}, func(s meta.SegmentUse) bool {
		if holds(&s.Segment, id) {
			segments++
			bytes += s.Size
		}
		return ctx.Err() == nil
	})
	return segments, bytes, err
}

// runRescue makes parts anew of segments that would not outlive another lost
// drive, whichever drives are away.
func (u *Upkeep) runRescue(ctx context.Context, t *job.Task) error {
	m := mover{u: u}
	_, after := cursorSegment(t.Cursor(), 0)
	if after.IsZero() {
		if err := u.total(ctx, t, func(s *meta.SegmentUse) int64 {
			if u.endangered(s) {
				return s.Size
			}
			return 0
		}); err != nil {
			return err
		}
	}
	err := u.walk(ctx, t, nil, after, func(page []meta.SegmentUse) (int64, int64, error) {
		return m.move(ctx, page, func(s *meta.SegmentUse) (bool, error) {
			if !u.endangered(s) {
				return false, nil
			}
			var errs []error
			for _, d := range u.gone(&s.Segment) {
				errs = append(errs, u.Leave(ctx, s.ID, d, 0))
			}
			return true, errors.Join(errs...)
		})
	})
	return m.verdict(err, "segments that would not outlive another lost drive could not be made safe")
}

// endangered reports whether a segment has lost something and would be lost with
// one drive more.
func (u *Upkeep) endangered(s *meta.SegmentUse) bool {
	return s.Condemned.IsZero() && u.tolerance(&s.Segment, 0) == 0 && len(u.gone(&s.Segment)) > 0
}

// The passes of a repair: what tolerates no further loss comes first.
const (
	passUrgent = iota // no further loss
	passNext          // one
	passRest          // more
	passes
)

// runRepair makes anew what a drive held that cannot be read, in the order of how
// little else there is. It ends when the drive is back.
func (u *Upkeep) runRepair(ctx context.Context, t *job.Task) error {
	id, err := fsapi.ParseDriveID(t.Args()[0])
	if err != nil {
		return err
	}
	prefix, after := cursorSegment(t.Cursor(), 1)
	if len(t.Cursor()) == 0 {
		if err := u.totalOn(ctx, t, id); err != nil {
			return err
		}
	}
	var m mover
	lost := new(atomic.Int64)
	for pass := int(prefix[0]); pass < passes; pass++ {
		m = mover{u: u} // what fails is tried in each pass; the last one counts
		err := u.walk(ctx, t, []byte{byte(pass)}, after, func(page []meta.SegmentUse) (int64, int64, error) {
			if u.o.Drives.State(id).Readable() {
				return 0, 0, errBack
			}
			return m.move(ctx, page, func(s *meta.SegmentUse) (bool, error) {
				n := u.tolerance(&s.Segment, 0)
				if !s.Condemned.IsZero() || !holds(&s.Segment, id) || n > pass && pass != passRest {
					return false, nil
				}
				if n < 0 {
					if pass == passRest {
						lost.Add(1)
					}
					return false, nil
				}
				return true, u.Leave(ctx, s.ID, id, 0)
			})
		})
		if errors.Is(err, errBack) {
			t.Note("the drive is back: the rest of what it holds needs no repair")
			return nil
		}
		if err != nil {
			return err
		}
		after = fsapi.SegmentID{}
	}
	if n := lost.Load(); n > 0 {
		return errors.Join(m.verdict(nil, "segments could not be repaired"),
			fsapi.Errorf(fsapi.Corrupt, "%d segments cannot be read without drive %v: bring it back", n, id))
	}
	return m.verdict(nil, "segments could not be repaired")
}

// errBack ends a repair whose drive is back.
var errBack = errors.New("the drive is back")

// totalOn says how much a drive holds.
func (u *Upkeep) totalOn(ctx context.Context, t *job.Task, id fsapi.DriveID) error {
	return u.total(ctx, t, func(s *meta.SegmentUse) int64 {
		if s.Condemned.IsZero() && holds(&s.Segment, id) {
			return s.Size
		}
		return 0
	})
}

// runEvacuate moves what a drive holds elsewhere, until it holds nothing.
func (u *Upkeep) runEvacuate(ctx context.Context, t *job.Task) error {
	id, err := fsapi.ParseDriveID(t.Args()[0])
	if err != nil {
		return err
	}
	_, after := cursorSegment(t.Cursor(), 0)
	if after.IsZero() {
		if err := u.totalOn(ctx, t, id); err != nil {
			return err
		}
	}
	for {
		if st := u.o.Drives.State(id); !st.Leaving() {
			return fsapi.Errorf(fsapi.Invalid, "drive %v is %v and would be filled again: 'strake drive evacuate' stops that and moves what it holds", id, st)
		}
		m := mover{u: u, paced: true}
		held := new(atomic.Int64)
		err := u.walk(ctx, t, nil, after, func(page []meta.SegmentUse) (int64, int64, error) {
			return m.move(ctx, page, func(s *meta.SegmentUse) (bool, error) {
				if !s.Condemned.IsZero() || !holds(&s.Segment, id) {
					return false, nil
				}
				held.Add(1)
				return true, u.Leave(ctx, s.ID, id, 0)
			})
		})
		whole := after.IsZero()
		if err := m.verdict(err, "segments could not be moved away"); err != nil || whole && held.Load() == 0 {
			return err
		}
		after = fsapi.SegmentID{} // until a look at all finds nothing
	}
}

// mover moves segments, some at a time, and counts those that would not go.
type mover struct {
	u      *Upkeep
	paced  bool // it goes at the rate of jobs: not where redundancy is missing meanwhile
	failed int
	why    error // of the first
}

// move does fn for each of a page, which says whether there was anything to do,
// and returns how many segments and bytes that was. Its errors are counted, but
// for that of ctx.
func (m *mover) move(ctx context.Context, page []meta.SegmentUse, fn func(s *meta.SegmentUse) (bool, error)) (items, bytes int64, err error) {
	var done, size atomic.Int64
	errs := m.u.together(page, func(s *meta.SegmentUse) error {
		did, err := fn(s)
		if !did {
			return err
		}
		if err == nil {
			done.Add(1)
			size.Add(s.Size)
		}
		if !m.paced {
			return err
		}
		return errors.Join(err, m.u.pace.wait(ctx, s.Size))
	})
	if err := ctx.Err(); err != nil {
		return 0, 0, fsapi.Wrap(fsapi.KindOf(err), err, "move segments")
	}
	for i, err := range errs {
		if err == nil || errors.Is(err, fsapi.NotExist) && !m.u.needed(ctx, page[i].ID) {
			continue
		}
		if m.failed++; m.why == nil {
			m.why = fmt.Errorf("segment %v: %w", page[i].ID, err)
		}
	}
	return done.Load(), size.Load(), nil
}

// verdict is the error of a job after its walk.
func (m *mover) verdict(err error, what string) error {
	if err != nil || m.failed == 0 {
		return err
	}
	return fsapi.Wrap(fsapi.KindOf(m.why), m.why, fmt.Sprintf("%d %s; the first", m.failed, what))
}
