package provider

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// What a connection on which nothing was sent for a time is allowed to have in the
// kernel still: the largest send buffer (tcp(7), tcp_wmem), on a line on which one of
// several uploads has as many bytes a second.
const (
	sendBuffer = 4 << 20
	slowest    = 16 << 10
)

// patience is how long nothing of a body of so many bytes may move.
func (s *Store) patience(size int64) time.Duration {
	return s.opts.Timeout + time.Duration(min(size, sendBuffer)/slowest)*time.Second
}

// upload is one attempt that sends a body of at most so many bytes, of which moved
// counts those that were taken. However long it takes on a slow line, it goes on while
// something moves: one that was ended after a time would begin anew, and again, and
// fill the line for ever.
func (s *Store) upload(ctx context.Context, counter, moved *atomic.Int64, size int64, call func(context.Context) error) error {
	one, cancel := context.WithCancel(ctx)
	defer cancel()
	limit := s.patience(size)
	var stuck atomic.Bool
	stop := watch(moved, limit, func() {
		stuck.Store(true)
		cancel()
	})
	counter.Add(1)
	err := call(one)
	stop()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case stuck.Load():
		return fsapi.Errorf(fsapi.TimedOut, "nothing moved for %v: %w", limit, err)
	}
	return err
}

// looks is how often one looks whether something moved, before it is said that
// nothing did.
const looks = 4

// watch calls stuck once moved has not changed for limit, or some more, unless stop
// was called before; it has returned by the end of stop.
func watch(moved *atomic.Int64, limit time.Duration, stuck func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(limit / looks)
		defer tick.Stop()
		for last, idle := moved.Load(), 0; idle < looks; {
			select {
			case <-tick.C:
			case <-quit:
				return
			}
			if now := moved.Load(); now != last {
				last, idle = now, 0
			} else {
				idle++
			}
		}
		stuck()
	}()
	return func() {
		close(quit)
		<-done
	}
}

// moving counts the bytes that are read.
type moving struct {
	io.ReaderAt
	moved atomic.Int64
}

func (m *moving) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.ReaderAt.ReadAt(p, off)
	m.moved.Add(int64(n))
	return n, err
}
