package upkeep

import (
	"context"
	"slices"
	"sync"

	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// The kinds of jobs.
const (
	JobRescue    = "rescue"    // make anew what would not outlive another lost drive
	JobRepair    = "repair"    // DRIVE: make anew all that a lost drive held
	JobEvacuate  = "evacuate"  // DRIVE: move all that a drive holds elsewhere
	JobRebalance = "rebalance" // [TIER]: move parts from full drives to empty ones
	JobRelayout  = "relayout"  // VOLUME INODE: give data the copies its policy asks for now
	JobScrub     = "scrub"     // shallow|deep [DRIVE]
	JobVerify    = "verify"    // DRIVE TIME: check what was written to a drive since a time
	JobOrphans   = "orphans"   // delete what no record knows
	JobReencrypt = "reencrypt" // VOLUME [VERSION]: encrypt anew what has an old data key
	JobGC        = "gc"        // sweep, compact, delete what is dead
	JobCompact   = "compact"   // move live frames out of segments that are mostly dead
)

// kinds is the registry of jobs: all there are.
func (u *Upkeep) kinds() []job.Kind {
	return []job.Kind{
		{Name: JobRescue, Urgent: true, Run: u.runRescue, Help: "Make parts anew of segments that would not outlive another lost drive."},
		{Name: JobRepair, Usage: "DRIVE", Check: checkDrive, Run: u.runRepair, Help: "Make anew what a lost or retired drive held."},
		{Name: JobEvacuate, Usage: "DRIVE", Check: checkDrive, Run: u.runEvacuate, Help: "Move what a draining drive holds to others."},
		{Name: JobRebalance, Usage: "[TIER]", Check: checkTier, Run: u.runRebalance, Help: "Move parts from the fullest drives of a tier to the emptiest."},
		{Name: JobRelayout, Usage: "VOLUME INODE", Check: checkTop, Run: u.runRelayout, Help: "Give data the copies that its policy asks for now."},
		{Name: JobScrub, Usage: "shallow|deep [DRIVE]", Check: checkScrub, Run: u.runScrub, Help: "Check that stored bytes are there (shallow) and right (deep), and repair what is not."},
		{Name: JobVerify, Usage: "DRIVE TIME", Check: checkVerify, Run: u.runVerify, Help: "Check what a drive was given since a time, and that the rest is there: of one that was not detached cleanly."},
		{Name: JobOrphans, Run: u.runOrphans, Help: "Delete stored bytes that no record knows, when they are proven dead."},
		{Name: JobReencrypt, Usage: "VOLUME", Check: u.checkReencrypt, Run: u.runReencrypt, Help: "Encrypt anew what is sealed with data keys before the last rotation, and drop those keys."},
		{Name: JobGC, Run: u.runGC, Help: "Release chunks without references, compact, delete dead segments."},
		{Name: JobCompact, Run: u.runCompact, Help: "Move live data out of segments that are mostly dead or small."},
	}
}

// JobKinds are the kinds of jobs there are. They must not be changed.
func (u *Upkeep) JobKinds() []job.Kind { return u.runner.Kinds() }

// StartJob puts a job into the queue and returns it; where one like it is
// unfinished, that one. A drive is given by its id as text, a volume and inode by
// their numbers. Errors: fsapi.Invalid, Busy; see job.Runner.Start.
func (u *Upkeep) StartJob(ctx context.Context, kind string, args ...string) (job.Job, error) {
	return u.runner.Start(ctx, kind, args, false)
}

// Jobs are the unfinished jobs and the last ones that ended, the newest first.
func (u *Upkeep) Jobs(ctx context.Context) ([]job.Job, error) { return u.runner.Jobs(ctx) }

// Job is one job: fsapi.NotExist.
func (u *Upkeep) Job(ctx context.Context, id uint64) (job.Job, error) { return u.runner.Job(ctx, id) }

// WaitJob returns a job when it has ended.
func (u *Upkeep) WaitJob(ctx context.Context, id uint64) (job.Job, error) {
	return u.runner.Wait(ctx, id)
}

// PauseJob stops a job until ResumeJob, over restarts too: fsapi.NotExist, or
// Invalid for one that has ended.
func (u *Upkeep) PauseJob(ctx context.Context, id uint64) (job.Job, error) {
	return u.runner.Pause(ctx, id)
}

// ResumeJob lets a paused job go on: fsapi.NotExist, or Invalid for one that has
// ended.
func (u *Upkeep) ResumeJob(ctx context.Context, id uint64) (job.Job, error) {
	return u.runner.Resume(ctx, id)
}

// CancelJob ends a job for good: fsapi.NotExist, or Invalid for one that has
// ended.
func (u *Upkeep) CancelJob(ctx context.Context, id uint64) (job.Job, error) {
	return u.runner.Cancel(ctx, id)
}

func checkDrive(args []string) ([]string, error) {
	if len(args) != 1 {
		return nil, fsapi.Errorf(fsapi.Invalid, "give one drive")
	}
	id, err := fsapi.ParseDriveID(args[0])
	return []string{id.String()}, err
}

// jobPage is how many segments a job looks at before it says where it is.
const jobPage = 64

// page reads the next segment records after one.
func (u *Upkeep) page(ctx context.Context, after fsapi.SegmentID) (page []meta.SegmentUse, err error) {
	err = u.o.Meta.Segments(ctx, after, func(s meta.SegmentUse) bool {
		page = append(page, s)
		return len(page) < jobPage
	})
	return page, err
}

// walk calls fn for the segments after the cursor, a page at a time, and notes
// after each how far it is, with what fn says was done. prefix stands before the
// segment's id in the cursor.
func (u *Upkeep) walk(ctx context.Context, t *job.Task, prefix []byte, after fsapi.SegmentID, fn func(page []meta.SegmentUse) (items, bytes int64, err error)) error {
	for {
		page, err := u.page(ctx, after)
		if err != nil || len(page) == 0 {
			return err
		}
		items, bytes, err := fn(page)
		if err != nil {
			return err
		}
		after = page[len(page)-1].ID
		if err := t.Step(ctx, append(slices.Clone(prefix), after[:]...), items, bytes); err != nil {
			return err
		}
	}
}

// cursorSegment is the id at the end of a cursor that walk made with a prefix of
// n bytes; another one is from elsewhere: begin anew.
func cursorSegment(cursor []byte, n int) (prefix []byte, id fsapi.SegmentID) {
	if len(cursor) != n+len(id) {
		return make([]byte, n), id
	}
	copy(id[:], cursor[n:])
	return slices.Clone(cursor[:n]), id
}

// together does fn for segments, up to Copiers at a time, and returns their
// errors by index.
func (u *Upkeep) together(segs []meta.SegmentUse, fn func(s *meta.SegmentUse) error) []error {
	errs := make([]error, len(segs))
	tokens := make(chan struct{}, u.o.Copiers)
	var wg sync.WaitGroup
	for i := range segs {
		tokens <- struct{}{}
		wg.Go(func() {
			errs[i] = fn(&segs[i])
			<-tokens
		})
	}
	wg.Wait()
	return errs
}

// holds is which drives of a segment's record are id.
func holds(s *fsapi.Segment, id fsapi.DriveID) bool {
	return slices.ContainsFunc(s.Copies, func(c fsapi.CopyPlace) bool { return slices.Contains(c.Drives, id) })
}

// total says how many segments and bytes match, before work on them begins.
func (u *Upkeep) total(ctx context.Context, t *job.Task, size func(s *meta.SegmentUse) int64) error {
	var items, bytes int64
	err := u.o.Meta.Segments(ctx, fsapi.SegmentID{}, func(s meta.SegmentUse) bool {
		if n := size(&s); n > 0 {
			items++
			bytes += n
		}
		return ctx.Err() == nil
	})
	if err == nil {
		t.Total(items, bytes)
	}
	return err
}
