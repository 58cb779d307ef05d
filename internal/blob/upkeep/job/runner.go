package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
)

// Store keeps records; *meta.Store is one.
type Store interface {
	// PutSetting sets a record and returns when it is durable.
	PutSetting(ctx context.Context, name string, value []byte) error
	// DeleteSetting removes a record, there or not.
	DeleteSetting(ctx context.Context, name string) error
	// Settings calls fn for the records whose names start with prefix.
	Settings(ctx context.Context, prefix string, fn func(name string, value []byte) bool) error
}

// Prefix starts the names of the records of jobs.
const Prefix = "job/"

func recordName(id uint64) string { return fmt.Sprintf("%s%016x", Prefix, id) }

// maxUnfinished bounds the jobs that wait.
const maxUnfinished = 1000

// Options of New. Store and Kinds must be set; zero fields of the rest take the
// defaults named.
type Options struct {
	Store Store
	Kinds []Kind

	Running   int           // jobs that run at a time, urgent ones aside; 2
	History   int           // ended jobs that are remembered; 100
	SaveEvery time.Duration // between saves of a running job's progress; 5 seconds

	Clock clock.Clock  // clock.Real
	Log   *slog.Logger // discards
}

// Runner runs jobs. Safe for concurrent use. It reads the records when it is
// first asked for anything.
type Runner struct {
	o     Options
	kinds map[string]*Kind
	kick  chan struct{} // holds a token when there may be something to start

	mu      sync.Mutex
	loaded  bool              // guarded by mu
	jobs    map[uint64]*entry // guarded by mu
	last    uint64            // id given; guarded by mu
	changed chan struct{}     // closed at the next change of any job; guarded by mu
}

// entry is a job in memory.
type entry struct {
	saving sync.Mutex // held while the record is written

	// The rest is guarded by Runner.mu.
	job    Job
	stop   context.CancelCauseFunc // of a running one
	then   State                   // what a running job becomes that is being stopped; 0: what its ctx makes of it
	anew   bool                    // a running one is to begin again
	saved  time.Time
	window window
}

// errStopped ends the ctx of a job that is paused, cancelled or begun anew.
var errStopped = errors.New("the job was stopped")

// New makes a runner, which runs nothing before Run.
func New(o Options) (*Runner, error) {
	if o.Store == nil || len(o.Kinds) == 0 {
		return nil, fsapi.Errorf(fsapi.Invalid, "job: Store and Kinds must be given")
	}
	o.Running, o.History = cmp.Or(o.Running, 2), cmp.Or(o.History, 100)
	o.SaveEvery = cmp.Or(o.SaveEvery, 5*time.Second)
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Runner{o: o, kinds: make(map[string]*Kind), kick: make(chan struct{}, 1), jobs: make(map[uint64]*entry), changed: make(chan struct{})}
	for i := range o.Kinds {
		r.kinds[o.Kinds[i].Name] = &o.Kinds[i]
	}
	return r, nil
}

// Kinds are those given to New. They must not be changed.
func (r *Runner) Kinds() []Kind { return r.o.Kinds }

// load reads the records, once. A job that was running is queued, to go on.
func (r *Runner) load(ctx context.Context) error {
	r.mu.Lock()
	loaded := r.loaded
	r.mu.Unlock()
	if loaded {
		return nil
	}
	found := make(map[uint64]*entry)
	err := r.o.Store.Settings(ctx, Prefix, func(name string, value []byte) bool {
		j, err := parseJob(value)
		if err == nil && recordName(j.ID) != name {
			err = fsapi.Errorf(fsapi.Corrupt, "job %d is recorded under another name", j.ID)
		}
		if err != nil {
			r.o.Log.Error("the record of a job is passed over", "record", name, "err", err)
			return true
		}
		if j.State == Running {
			j.State = Queued
		}
		found[j.ID] = &entry{job: j}
		return true
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loaded {
		return nil
	}
	r.loaded, r.jobs = true, found
	for id := range found {
		r.last = max(r.last, id)
	}
	r.wake()
	return nil
}

// wake says that something changed. REQUIRES: mu is held.
func (r *Runner) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Start puts a job into the queue. Where an unfinished one of that kind has the
// same arguments it is that one which is returned; anew makes that begin from the
// start, where it is not cancelled. Errors: fsapi.Invalid names what is wrong
// with kind or arguments; fsapi.Busy while too many are unfinished.
func (r *Runner) Start(ctx context.Context, kind string, args []string, anew bool) (Job, error) {
	k := r.kinds[kind]
	if k == nil {
		return Job{}, fsapi.Errorf(fsapi.Invalid, "there is no kind of job %q", kind)
	}
	args, err := k.check(args)
	if err == nil {
		err = checkArgs(args)
	}
	if err == nil {
		err = r.load(ctx)
	}
	if err != nil {
		return Job{}, err
	}
	e, fresh, err := r.enter(kind, args, anew)
	if err != nil {
		return Job{}, err
	}
	if err := r.save(ctx, e); err != nil {
		if fresh {
			r.forget(e)
		}
		return Job{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake()
	return r.show(e), nil
}

func checkArgs(args []string) error {
	for _, a := range args {
		if len(a) > maxText {
			return fsapi.Errorf(fsapi.Invalid, "an argument of a job has %d bytes: at most %d", len(a), maxText)
		}
	}
	if len(args) > maxArgs {
		return fsapi.Errorf(fsapi.Invalid, "a job has %d arguments: at most %d", len(args), maxArgs)
	}
	return nil
}

// enter finds the unfinished job, or makes a new one.
func (r *Runner) enter(kind string, args []string, anew bool) (e *entry, fresh bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	unfinished := 0
	for _, e := range r.jobs {
		if e.job.State.Ended() {
			continue
		}
		unfinished++
		if e.job.Kind != kind || !slices.Equal(e.job.Args, args) || e.then == Cancelled {
			continue
		}
		if anew {
			r.beginAnew(e)
		}
		return e, false, nil
	}
	if unfinished >= maxUnfinished {
		return nil, false, fsapi.Errorf(fsapi.Busy, "%d jobs are unfinished: cancel some first", unfinished)
	}
	r.last++
	now := r.o.Clock.Now()
	e = &entry{job: Job{ID: r.last, Kind: kind, Args: args, State: Queued, Created: now, Updated: now}}
	r.jobs[e.job.ID] = e
	return e, true, nil
}

// beginAnew forgets how far an unfinished job is. REQUIRES: mu is held.
func (r *Runner) beginAnew(e *entry) {
	e.job.Cursor, e.job.Progress, e.job.Note = nil, Progress{}, ""
	if e.job.State == Running {
		e.anew = true
		e.stop(errStopped)
	}
}

// forget takes a job out that could not be saved.
func (r *Runner) forget(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.jobs, e.job.ID)
	r.wake()
}

// Jobs are all jobs that are remembered, the newest first.
func (r *Runner) Jobs(ctx context.Context) ([]Job, error) {
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Job, 0, len(r.jobs))
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(r.jobs))) {
		list = append(list, r.show(r.jobs[id]))
	}
	return list, nil
}

// Job is one job: fsapi.NotExist.
func (r *Runner) Job(ctx context.Context, id uint64) (Job, error) {
	if err := r.load(ctx); err != nil {
		return Job{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.jobs[id]
	if e == nil {
		return Job{}, fsapi.Errorf(fsapi.NotExist, "there is no job %d (strake job list shows them)", id)
	}
	return r.show(e), nil
}

// Wait returns a job when it has ended, or the error of ctx.
func (r *Runner) Wait(ctx context.Context, id uint64) (Job, error) {
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		j, err := r.Job(ctx, id)
		if err != nil || j.State.Ended() {
			return j, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return j, fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), fmt.Sprintf("wait for job %d", id))
		}
	}
}

// Pause stops a queued or running job until Resume: fsapi.NotExist, Invalid for
// one that has ended. A paused one stays so.
func (r *Runner) Pause(ctx context.Context, id uint64) (Job, error) { return r.move(ctx, id, Paused) }

// Resume lets a paused job go on: fsapi.NotExist, Invalid for one that has
// ended.
func (r *Runner) Resume(ctx context.Context, id uint64) (Job, error) { return r.move(ctx, id, Queued) }

// Cancel ends a job: fsapi.NotExist, Invalid for one that has ended.
func (r *Runner) Cancel(ctx context.Context, id uint64) (Job, error) {
	return r.move(ctx, id, Cancelled)
}

// move brings a job into another state. A running one gets there when its Run
// has returned, for which move waits.
func (r *Runner) move(ctx context.Context, id uint64, to State) (Job, error) {
	if _, err := r.Job(ctx, id); err != nil {
		return Job{}, err
	}
	r.mu.Lock()
	e := r.jobs[id]
	switch {
	case e == nil || e.job.State.Ended():
		r.mu.Unlock()
		return Job{}, fsapi.Errorf(fsapi.Invalid, "job %d has ended", id)
	case e.job.State == Running && to == Queued:
		if e.then == Paused {
			e.then = Queued
		}
	case e.job.State == Running:
		e.then = to
		e.stop(errStopped)
	default:
		r.become(e, to, "")
	}
	r.mu.Unlock()
	if err := r.save(ctx, e); err != nil {
		return Job{}, err
	}
	r.prune(ctx)
	return r.stopped(ctx, e)
}

// stopped waits until a job that is being stopped has stopped.
func (r *Runner) stopped(ctx context.Context, e *entry) (Job, error) {
	for {
		r.mu.Lock()
		j, changed, stopping := r.show(e), r.changed, e.job.State == Running && e.then != 0
		r.mu.Unlock()
		if !stopping {
			return j, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return j, fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "wait for a job to stop")
		}
	}
}

// become sets a job's state. REQUIRES: mu is held.
func (r *Runner) become(e *entry, s State, why string) {
	now := r.o.Clock.Now()
	e.job.State, e.job.Updated, e.job.Err = s, now, clip(why)
	if s == Running && e.job.Started.IsZero() {
		e.job.Started = now
	}
	if s.Ended() {
		e.job.Ended = now
	}
	r.wake()
}

// show is what others see of a job. REQUIRES: mu is held.
func (r *Runner) show(e *entry) Job {
	j := e.job.clone()
	if j.State == Running {
		j.Rate = e.window.rate(r.o.Clock.Now())
	}
	return j
}
