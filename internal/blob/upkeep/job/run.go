package job

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// loadAgain is how long to wait where the records cannot be read.
const loadAgain = time.Second

// Run runs jobs until ctx ends, and waits for those that run. They go on at the
// next start.
func (r *Runner) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		var again <-chan time.Time
		if err := r.load(ctx); err != nil {
			r.o.Log.Error("the records of jobs cannot be read; trying again", "err", err)
			again = r.o.Clock.After(loadAgain)
		} else {
			r.dispatch(ctx, &wg)
		}
		select {
		case <-ctx.Done():
			return
		case <-r.kick:
		case <-again:
		}
	}
}

// dispatch starts the queued jobs that may run, the oldest first.
func (r *Runner) dispatch(ctx context.Context, wg *sync.WaitGroup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	busy := make(map[string]bool)
	plain := 0
	for _, e := range r.jobs {
		if e.job.State == Running {
			busy[e.job.Kind] = true
			if k := r.kinds[e.job.Kind]; !k.Urgent {
				plain++
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.jobs)) {
		e := r.jobs[id]
		k := r.kinds[e.job.Kind]
		if ctx.Err() != nil || e.job.State != Queued || busy[e.job.Kind] {
			continue
		}
		if k == nil {
			r.become(e, Failed, fmt.Sprintf("this version has no jobs of kind %s", e.job.Kind))
			continue
		}
		if !k.Urgent {
			if plain >= r.o.Running {
				continue
			}
			plain++
		}
		busy[e.job.Kind] = true
		r.launch(ctx, e, k, wg)
	}
}

// launch starts a job. REQUIRES: mu is held.
func (r *Runner) launch(ctx context.Context, e *entry, k *Kind, wg *sync.WaitGroup) {
	tctx, stop := context.WithCancelCause(ctx)
	e.stop, e.then, e.anew = stop, 0, false
	e.window = window{at: r.o.Clock.Now()}
	r.become(e, Running, "")
	t := &Task{r: r, e: e, j: e.job.clone()}
	wg.Go(func() {
		defer stop(nil)
		err := r.save(tctx, e)
		if err == nil || tctx.Err() == nil {
			err = k.Run(tctx, t)
		}
		r.settle(ctx, e, err, tctx.Err() != nil)
	})
}

// settle puts a job that has returned where it belongs.
func (r *Runner) settle(ctx context.Context, e *entry, err error, stopped bool) {
	r.mu.Lock()
	then, anew := e.then, e.anew
	e.then, e.anew, e.stop = 0, false, nil
	switch {
	case anew && then == Cancelled, then == Cancelled && err != nil:
		r.become(e, Cancelled, "")
	case then == Paused && (anew || err != nil):
		r.become(e, Paused, "")
	case anew:
		r.become(e, Queued, "")
	case err == nil:
		r.become(e, Done, "")
	case stopped: // by Run's end, or by a pause that was taken back
		r.become(e, Queued, "")
	default:
		r.become(e, Failed, err.Error())
		r.o.Log.Error("a job failed", "job", e.job.ID, "kind", e.job.Kind, "args", e.job.Args, "err", err)
	}
	r.mu.Unlock()
	ctx = context.WithoutCancel(ctx) // the last word is kept even at the end
	if err := r.save(ctx, e); err != nil {
		r.o.Log.Error("the state of a job could not be kept", "job", e.job.ID, "err", err)
	}
	r.prune(ctx)
}

// step notes progress and reports whether it is time to save it.
func (r *Runner) step(e *entry, cursor []byte, items, bytes int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.anew {
		return false
	}
	now := r.o.Clock.Now()
	e.job.Cursor = slices.Clone(cursor)
	e.job.Progress.Done += items
	e.job.Progress.DoneBytes += bytes
	e.job.Updated = now
	e.window.add(now, bytes)
	if age := now.Sub(e.saved); age >= 0 && age < r.o.SaveEvery {
		return false
	}
	return true
}

// save writes a job's record. Of those at the same time the last one written
// holds what is newest.
func (r *Runner) save(ctx context.Context, e *entry) error {
	e.saving.Lock()
	defer e.saving.Unlock()
	r.mu.Lock()
	j := e.job.clone()
	e.saved = r.o.Clock.Now()
	there := r.jobs[j.ID] == e
	r.mu.Unlock()
	if !there { // pruned meanwhile
		return nil
	}
	if len(j.Cursor) > maxCursor {
		return fsapi.Errorf(fsapi.TooBig, "job %d: a cursor of %d bytes, at most %d", j.ID, len(j.Cursor), maxCursor)
	}
	return r.o.Store.PutSetting(ctx, recordName(j.ID), encodeJob(&j))
}

// prune forgets the oldest of the ended jobs beyond the bound.
func (r *Runner) prune(ctx context.Context) {
	r.mu.Lock()
	var ended []*entry
	for _, e := range r.jobs {
		if e.job.State.Ended() {
			ended = append(ended, e)
		}
	}
	slices.SortFunc(ended, func(a, b *entry) int {
		return cmp.Or(a.job.Ended.Compare(b.job.Ended), cmp.Compare(a.job.ID, b.job.ID))
	})
	ended = ended[:max(0, len(ended)-r.o.History)]
	for _, e := range ended {
		delete(r.jobs, e.job.ID)
	}
	r.mu.Unlock()
	for _, e := range ended {
		if err := r.drop(ctx, e); err != nil {
			r.o.Log.Warn("the record of an old job could not be removed", "job", e.job.ID, "err", err)
		}
	}
}

// drop removes a record, after whoever is writing it.
func (r *Runner) drop(ctx context.Context, e *entry) error {
	e.saving.Lock()
	defer e.saving.Unlock()
	return r.o.Store.DeleteSetting(ctx, recordName(e.job.ID))
}

// windowLen is how long a rate is measured.
const windowLen = 10 * time.Second

// window measures bytes per second.
type window struct {
	at    time.Time // when it began
	bytes int64     // since then
	last  int64     // the rate in the one before, where had
	had   bool
}

func (w *window) add(now time.Time, bytes int64) {
	if d := now.Sub(w.at); d >= windowLen || d < 0 {
		w.last, w.had = w.now(now), true
		w.at, w.bytes = now, 0
	}
	w.bytes += bytes
}

func (w *window) now(now time.Time) int64 {
	d := now.Sub(w.at)
	if d <= 0 {
		return 0
	}
	return int64(float64(w.bytes) / d.Seconds())
}

// rate is that of the last whole window, or of the first one so far.
func (w *window) rate(now time.Time) int64 {
	if w.had && now.Sub(w.at) < windowLen {
		return w.last
	}
	return w.now(now)
}
