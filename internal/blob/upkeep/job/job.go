// Package job runs long work that is kept on record: it can be paused, resumed
// and cancelled, shows how far it is, and goes on after a restart from where it
// last said it was.
//
// It owns: what a job is, its record (FORMAT.md), the order in which jobs run.
// It must not know what any job does: kinds of work are given to New.
//
// Runner.Run has one goroutine for each job that runs, and waits for them. The
// lock order is
//
//	entry.saving      one save of a job at a time, held while it is written
//	  Runner.mu       everything else; nothing is done under it
package job

import (
	"context"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// State is where a job stands. The numbers are stored: append only.
type State uint8

// The states. Queued, Running and Paused jobs are unfinished.
const (
	Queued    State = 1
	Running   State = 2
	Paused    State = 3
	Done      State = 4
	Failed    State = 5
	Cancelled State = 6
)

var stateText = map[State]string{
	Queued: "queued", Running: "running", Paused: "paused", Done: "done", Failed: "failed", Cancelled: "cancelled",
}

// String is the state's name, as on the command line.
func (s State) String() string {
	if t, ok := stateText[s]; ok {
		return t
	}
	return "unknown"
}

// Ended reports whether a job in this state will not run again.
func (s State) Ended() bool { return s == Done || s == Failed || s == Cancelled }

// Progress is how far a job is. A total of 0 is not known.
type Progress struct {
	Done, Total           int64 // items: segments, files, blobs
	DoneBytes, TotalBytes int64
}

// Job is a job as it is.
type Job struct {
	ID       uint64 // from 1, ever growing
	Kind     string
	Args     []string
	State    State
	Cursor   []byte // where to go on; its kind's own
	Progress Progress
	Created  time.Time
	Started  time.Time // first; zero before
	Updated  time.Time
	Ended    time.Time // zero while it is unfinished
	Err      string    // why it failed
	Note     string    // what it says for people
	Rate     int64     // bytes per second lately; not kept on record
}

// clone shares nothing with j.
func (j Job) clone() Job {
	j.Args, j.Cursor = slices.Clone(j.Args), slices.Clone(j.Cursor)
	return j
}

// Kind is a kind of work. One job of a kind runs at a time.
type Kind struct {
	Name  string
	Usage string // the arguments, as in "shallow|deep [DRIVE]"
	Help  string // a sentence
	// Urgent jobs do not wait for those of other kinds.
	Urgent bool
	// Check refuses wrong arguments and returns their one form: unfinished jobs
	// of a kind with the same arguments are one job. nil: no arguments.
	Check func(args []string) ([]string, error)
	// Run does the work from t.Cursor on, telling t what was done, and returns
	// soon after ctx ends, which is how it is paused, cancelled and interrupted.
	// What it did since its last Step may be done again.
	Run func(ctx context.Context, t *Task) error
}

func (k *Kind) check(args []string) ([]string, error) {
	if k.Check != nil {
		return k.Check(args)
	}
	if len(args) > 0 {
		return nil, fsapi.Errorf(fsapi.Invalid, "a job of kind %s takes no arguments", k.Name)
	}
	return nil, nil
}

// Task is a running job, seen by its Kind's Run. For one goroutine at a time.
type Task struct {
	r *Runner
	e *entry
	j Job // as it was when it began
}

// Args are the job's arguments. They must not be changed.
func (t *Task) Args() []string { return t.j.Args }

// Cursor is what the last Step of this job said, before a restart or pause; nil
// where it begins.
func (t *Task) Cursor() []byte { return t.j.Cursor }

// Total says how much there is to do in all; 0 is not known.
func (t *Task) Total(items, bytes int64) {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	t.e.job.Progress.Total, t.e.job.Progress.TotalBytes = items, bytes
}

// Note says something for people to see beside the job.
func (t *Task) Note(text string) {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	t.e.job.Note = clip(text)
}

// Step says that items and bytes were done since the last Step and that the job
// may go on from cursor. It returns the error of ctx when that has ended.
func (t *Task) Step(ctx context.Context, cursor []byte, items, bytes int64) error {
	if t.r.step(t.e, cursor, items, bytes) {
		if err := t.r.save(ctx, t.e); err != nil && ctx.Err() == nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, "job "+t.j.Kind)
	}
	return nil
}
