package upkeep

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// Intervals of the watch.
const (
	watchTick  = 10 * time.Second // between looks at what is due
	watchAgain = 10 * time.Minute // before a job that failed for a drive is started again
)

// timetable is when jobs were last started by themselves and since when drives
// are away. It is kept as JSON in the setting scheduleSetting, so that a restart
// neither forgets nor repeats: times in milliseconds since the Unix epoch.
type timetable struct {
	Form int              `json:"form"` // 1
	Last map[string]int64 `json:"last"` // by name of the entry
	Away map[string]int64 `json:"away"` // by id of the drive
}

const (
	timetableForm   = 1
	scheduleSetting = "jobs/schedule"
)

// parseTimetable reads a timetable: fsapi.Corrupt. One of another form is empty.
func parseTimetable(b []byte) (timetable, error) {
	t := timetable{}
	if err := json.Unmarshal(b, &t); err != nil {
		return timetable{Form: timetableForm}, fsapi.Wrap(fsapi.Corrupt, err, "read the schedule of jobs")
	}
	if t.Form != timetableForm {
		t = timetable{}
	}
	t.Form = timetableForm
	return t, nil
}

// due is an entry of the schedule.
type due struct {
	name  string // stored
	every time.Duration
	kind  string
	args  []string
}

func (u *Upkeep) schedule() []due {
	return []due{
		{name: "orphans", every: u.o.OrphanEvery, kind: JobOrphans},
		{name: "scrub shallow", every: u.o.ScrubEvery, kind: JobScrub, args: []string{"shallow"}},
		{name: "scrub deep", every: u.o.DeepEvery, kind: JobScrub, args: []string{"deep"}},
	}
}

// watch is what DriveChanged said and what was made of it. Safe for concurrent
// use.
type watch struct {
	kick chan struct{} // holds a token when there is news

	mu   sync.Mutex
	news map[fsapi.DriveID]drive.State // not looked at yet; guarded by mu

	// The rest belongs to the goroutine of runWatch.
	table timetable
	wants map[fsapi.DriveID]drive.State // drives that need a job
	tried map[fsapi.DriveID]time.Time   // when one was last started
}

func newWatch() *watch {
	return &watch{
		kick: make(chan struct{}, 1), news: make(map[fsapi.DriveID]drive.State),
		wants: make(map[fsapi.DriveID]drive.State), tried: make(map[fsapi.DriveID]time.Time),
	}
}

// DriveChanged says that a drive has another state, after blob.DriveSet has. At
// the start it is called for every recorded drive that is not online. What
// follows is done by Run:
//
//	offline   what would not outlive another lost drive is made anew at once,
//	          the rest when the drive stays away for Options.RepairAfter
//	retired   all it held is made anew
//	draining  all it holds is moved elsewhere
//	else      the jobs for it are cancelled
//
// It does not block.
func (u *Upkeep) DriveChanged(id fsapi.DriveID, st drive.State) {
	w := u.watch
	w.mu.Lock()
	w.news[id] = st
	w.mu.Unlock()
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// runWatch starts jobs when they are due or a drive calls for them.
func (u *Upkeep) runWatch(ctx context.Context) {
	for ctx.Err() == nil {
		err := u.loadTimetable(ctx)
		if err == nil {
			break
		}
		u.o.Log.Error("the schedule of jobs cannot be read; trying again", "err", err)
		select {
		case <-ctx.Done():
		case <-u.o.Clock.After(watchTick):
		}
	}
	said := ""
	for ctx.Err() == nil {
		if err := u.attend(ctx); ctx.Err() == nil {
			said = u.say(said, err, "a job that is due could not be started; trying again")
		}
		select {
		case <-ctx.Done():
		case <-u.watch.kick:
		case <-u.o.Clock.After(watchTick):
		}
	}
}

func (u *Upkeep) loadTimetable(ctx context.Context) error {
	b, err := u.o.Meta.Setting(ctx, scheduleSetting)
	t := timetable{Form: timetableForm}
	if err == nil {
		t, err = parseTimetable(b)
	}
	if err != nil && !errors.Is(err, fsapi.NotExist) {
		return err
	}
	if t.Last == nil {
		t.Last = make(map[string]int64)
	}
	if t.Away == nil {
		t.Away = make(map[string]int64)
	}
	u.watch.table = t
	return nil
}

func (u *Upkeep) saveTimetable(ctx context.Context) error {
	b, err := json.Marshal(u.watch.table)
	if err != nil {
		return fsapi.Wrap(fsapi.Other, err, "keep the schedule of jobs")
	}
	return u.o.Meta.PutSetting(ctx, scheduleSetting, b)
}

// attend looks once at the news and at what is due.
func (u *Upkeep) attend(ctx context.Context) error {
	return errors.Join(u.heed(ctx), u.mind(ctx), u.startDue(ctx))
}

// startDue starts the entries of the schedule that are due. One that never was
// is due an interval from now.
func (u *Upkeep) startDue(ctx context.Context) error {
	now := u.o.Clock.Now()
	changed := false
	for _, d := range u.schedule() {
		last, ok := u.watch.table.Last[d.name]
		age := now.Sub(time.UnixMilli(last))
		if d.every < 0 || ok && age >= 0 && age < d.every {
			continue
		}
		if ok {
			if _, err := u.runner.Start(ctx, d.kind, d.args, false); err != nil {
				return err
			}
		}
		u.watch.table.Last[d.name], changed = now.UnixMilli(), true
	}
	if !changed {
		return nil
	}
	return u.saveTimetable(ctx)
}

// heed takes in what DriveChanged said.
func (u *Upkeep) heed(ctx context.Context) error {
	w := u.watch
	w.mu.Lock()
	news := w.news
	w.news = make(map[fsapi.DriveID]drive.State)
	w.mu.Unlock()
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(news)) {
		if err := u.heedDrive(ctx, id, news[id]); err != nil {
			errs = append(errs, err)
			w.mu.Lock()
			if _, newer := w.news[id]; !newer {
				w.news[id] = news[id] // again at the next look
			}
			w.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

func (u *Upkeep) heedDrive(ctx context.Context, id fsapi.DriveID, st drive.State) error {
	w := u.watch
	delete(w.tried, id)
	_, away := w.table.Away[id.String()]
	if st == drive.Offline != away {
		delete(w.table.Away, id.String())
		if st == drive.Offline {
			w.table.Away[id.String()] = u.o.Clock.Now().UnixMilli()
		}
		if err := u.saveTimetable(ctx); err != nil {
			return err
		}
	}
	if !st.Leaving() && st != drive.Offline {
		delete(w.wants, id)
		clear(w.tried) // there may be room now for what failed
		u.Kick()
		return u.cancelFor(ctx, id, JobRepair, JobEvacuate)
	}
	w.wants[id] = st
	if st == drive.Draining {
		return u.cancelFor(ctx, id, JobRepair)
	}
	if err := u.cancelFor(ctx, id, JobEvacuate); err != nil {
		return err
	}
	_, err := u.runner.Start(ctx, JobRescue, nil, true)
	return err
}

// cancelFor cancels the unfinished jobs of some kinds for a drive.
func (u *Upkeep) cancelFor(ctx context.Context, id fsapi.DriveID, kinds ...string) error {
	jobs, err := u.runner.Jobs(ctx)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.State.Ended() || !slices.Contains(kinds, j.Kind) || !slices.Equal(j.Args, []string{id.String()}) {
			continue
		}
		if _, err := u.runner.Cancel(ctx, j.ID); err != nil && !errors.Is(err, fsapi.Invalid) { // it has ended
			return err
		}
	}
	return nil
}

// mind starts jobs for the drives that need them.
func (u *Upkeep) mind(ctx context.Context) error {
	w := u.watch
	now := u.o.Clock.Now()
	var errs []error
	away := false
	for _, id := range slices.Sorted(maps.Keys(w.wants)) {
		away = away || !w.wants[id].Readable()
		kind, ready := JobRepair, true
		switch w.wants[id] {
		case drive.Draining:
			kind = JobEvacuate
		case drive.Offline:
			age := now.Sub(time.UnixMilli(w.table.Away[id.String()]))
			ready = u.o.RepairAfter >= 0 && age >= u.o.RepairAfter
		}
		if last, ok := w.tried[id]; !ready || ok && now.Sub(last) >= 0 && now.Sub(last) < watchAgain {
			continue
		}
		w.tried[id] = now
		errs = append(errs, u.startFor(ctx, kind, id))
	}
	if away {
		errs = append(errs, u.rescueAgain(ctx, now))
	}
	return errors.Join(append(errs, u.verifyAgain(ctx, now))...)
}

// rescueAgain starts the job that makes safe what is in danger again, where the
// last one could not.
func (u *Upkeep) rescueAgain(ctx context.Context, now time.Time) error {
	const noDrive = 0
	if last, ok := u.watch.tried[noDrive]; ok && now.Sub(last) >= 0 && now.Sub(last) < watchAgain {
		return nil
	}
	jobs, err := u.runner.Jobs(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(jobs, func(j job.Job) bool { return j.Kind == JobRescue })
	if i < 0 || jobs[i].State != job.Failed {
		return nil
	}
	u.watch.tried[noDrive] = now
	_, err = u.runner.Start(ctx, JobRescue, nil, false)
	return err
}

// startFor starts a job for a drive that holds anything, unless there is one that
// has not ended.
func (u *Upkeep) startFor(ctx context.Context, kind string, id fsapi.DriveID) error {
	jobs, err := u.runner.Jobs(ctx)
	if err != nil {
		return err
	}
	is := func(j job.Job) bool { return j.Kind == kind && slices.Equal(j.Args, []string{id.String()}) }
	if i := slices.IndexFunc(jobs, is); i >= 0 && !jobs[i].State.Ended() {
		return nil
	}
	found := false
	err = u.o.Meta.Segments(ctx, fsapi.SegmentID{}, func(s meta.SegmentUse) bool {
		found = s.Condemned.IsZero() && holds(&s.Segment, id)
		return !found && ctx.Err() == nil
	})
	if err != nil || !found {
		return err
	}
	_, err = u.runner.Start(ctx, kind, []string{id.String()}, false)
	return err
}
