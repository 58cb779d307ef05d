package checkpoint

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Run follows the engine until ctx ends or the engine closes, and brings its
// batches to the drives: when there are GroupBytes of them, and when the oldest
// is GroupAge old. While nothing is committed it does nothing. Failures are
// logged, shown in Status, and tried again; Run returns nil.
func (s *Shipper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	pause := time.Duration(0)
	for {
		err := s.follow(ctx, &wg)
		switch {
		case ctx.Err() != nil || errors.Is(err, fsapi.Closed):
			return nil
		case err == nil:
			pause = 0
			continue
		}
		pause = min(max(2*pause, firstPause), lastPause)
		s.o.Log.Warn("metadata is not being copied to drives", "err", err, "retry", pause)
		if !s.note(ctx, err) || !sleep(ctx, pause) {
			return nil
		}
	}
}

// note shows an error in Status.
func (s *Shipper) note(ctx context.Context, err error) bool {
	if lock(ctx, s.busy) != nil {
		return false
	}
	defer unlock(s.busy)
	s.report(err)
	return true
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// follow reads the tail until something fails. It returns nil where it should
// be called again at once.
func (s *Shipper) follow(ctx context.Context, wg *sync.WaitGroup) error {
	next, err := s.start(ctx)
	if err != nil {
		return err
	}
	tail, err := s.o.Engine.Tail(next)
	if errors.Is(err, fsapi.NotExist) {
		return s.missed(ctx)
	}
	if err != nil {
		return err
	}
	defer tail.Close()
	for {
		wake, err := s.step(ctx, wg)
		if err != nil {
			return err
		}
		b, err := nextBatch(ctx, tail, wake)
		switch {
		case err == nil:
			if err := s.take(ctx, b); err != nil {
				return err
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fsapi.NotExist):
			return s.missed(ctx)
		case errors.Is(err, errWake):
		default:
			return err
		}
	}
}

// start resumes, and says which batch comes next.
func (s *Shipper) start(ctx context.Context) (kv.Seq, error) {
	if err := lock(ctx, s.busy); err != nil {
		return 0, err
	}
	defer unlock(s.busy)
	defer s.report(nil)
	if err := s.resume(ctx); err != nil {
		return 0, err
	}
	s.refresh()
	s.catchUp(ctx)
	return s.last + 1, nil
}

// missed restarts after the tail was lost.
func (s *Shipper) missed(ctx context.Context) error {
	if err := lock(ctx, s.busy); err != nil {
		return err
	}
	defer unlock(s.busy)
	s.restart("the engine no longer retains the batches to go on from")
	s.report(nil)
	return nil
}

// take adds a batch.
func (s *Shipper) take(ctx context.Context, b kv.Batch) error {
	if err := lock(ctx, s.busy); err != nil {
		return err
	}
	defer unlock(s.busy)
	if b.Seq > s.last+1 {
		s.restart("batches are missing in the engine's tail")
	}
	s.add(b)
	return nil
}

// step writes what is due, starts a checkpoint if one is, and says when to
// look again though no batch comes; the zero time is never.
func (s *Shipper) step(ctx context.Context, wg *sync.WaitGroup) (wake time.Time, err error) {
	if err := lock(ctx, s.busy); err != nil {
		return time.Time{}, err
	}
	defer unlock(s.busy)
	if err := s.resume(ctx); err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	full := int64(len(s.pend.data)) >= s.o.GroupBytes
	aged := len(s.pend.data) > 0 && now.Sub(s.pend.since) >= s.o.GroupAge
	if full || aged {
		err = s.ship(ctx)
		s.report(err)
	} else if retry, ok := s.retryAt(); ok && !now.Before(retry) {
		s.tend(ctx)
		s.report(nil)
	}
	if err == nil && s.due() {
		s.launch(ctx, wg)
	}
	return s.wake(), err
}

// wake is when there will be something to do though no batch comes; zero is
// never. REQUIRES busy.
func (s *Shipper) wake() (at time.Time) {
	first := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if len(s.pend.data) > 0 {
		first(s.pend.since.Add(s.o.GroupAge))
	}
	if retry, ok := s.retryAt(); ok {
		first(retry)
	}
	for _, p := range s.places {
		if p.job != nil || p.behind && !p.idle() { // look whether it ended
			first(time.Now().Add(time.Second))
		}
	}
	switch {
	case s.launched: // look what has become of it
		first(time.Now().Add(time.Second))
	case s.due():
		first(s.makeRetry)
	}
	return at
}

// retryAt is when a drive that is behind is to be tried again, the zero time
// being at once; ok is false where there is none of which nothing is asked.
// REQUIRES busy.
func (s *Shipper) retryAt() (at time.Time, ok bool) {
	for _, p := range s.places {
		if p.behind && p.idle() && (!ok || p.retry.Before(at)) {
			at, ok = p.retry, true
		}
	}
	return at, ok
}

// launch makes a checkpoint beside the groups, unless one is being made, or
// failed a short while ago. REQUIRES busy.
func (s *Shipper) launch(ctx context.Context, wg *sync.WaitGroup) {
	if s.launched || time.Now().Before(s.makeRetry) {
		return
	}
	s.launched = true
	wg.Go(func() {
		err := s.checkpoint(ctx)
		s.landed(ctx, err)
	})
}

// landed takes note of how a launched checkpoint ended.
func (s *Shipper) landed(ctx context.Context, err error) {
	s.busy <- struct{}{} // always: launched must be reset
	defer unlock(s.busy)
	s.launched = false
	if err == nil || ctx.Err() != nil {
		s.makePause = 0
		return
	}
	s.makePause = min(max(2*s.makePause, firstPause), lastPause)
	s.makeRetry = time.Now().Add(s.makePause)
	s.o.Log.Warn("metadata checkpoint failed", "err", err, "retry", s.makePause)
	s.report(err)
}

var errWake = errors.New("time to look again")

type tailer interface {
	Next(ctx context.Context) (kv.Batch, error)
}

// nextBatch waits for a batch until a time, then fails with errWake.
func nextBatch(ctx context.Context, t tailer, wake time.Time) (kv.Batch, error) {
	if wake.IsZero() {
		return t.Next(ctx)
	}
	limited, cancel := context.WithDeadline(ctx, wake)
	defer cancel()
	b, err := t.Next(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = errWake
	}
	return b, err
}
