package provider

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// counts are what Requests tells.
type counts struct {
	puts, gets, heads, lists, deletes, retries, sent, read atomic.Int64
	free                                                   atomic.Int64 // parts that nobody counts
}

func (c *counts) requests() object.Requests {
	return object.Requests{
		Puts: c.puts.Load(), Gets: c.gets.Load(), Heads: c.heads.Load(), Lists: c.lists.Load(),
		Deletes: c.deletes.Load(), Retries: c.retries.Load(), Sent: c.sent.Load(), Read: c.read.Load(),
	}
}

// enter begins a call unless the store is closed or ctx has ended; leave ends
// it.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fsapi.Errorf(fsapi.Closed, "the store is closed")
	}
	s.calls++
	return nil
}

func (s *Store) enterKey(ctx context.Context, key string) error {
	if err := object.CheckKey(key); err != nil {
		return err
	}
	return s.enter(ctx)
}

func (s *Store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	if s.closed && s.calls == 0 {
		close(s.idle)
	}
}

// attempt makes attempts of one request, of whose answer size bytes are the body.
func (s *Store) attempt(ctx context.Context, counter *atomic.Int64, size int64, call func(context.Context) error) error {
	return s.retry(ctx, func() error { return s.once(ctx, counter, size, call) })
}

// once is one attempt.
func (s *Store) once(ctx context.Context, counter *atomic.Int64, size int64, call func(context.Context) error) error {
	one, cancel := context.WithTimeout(ctx, s.limit(size))
	defer cancel()
	counter.Add(1)
	return s.ended(ctx, one, size, call(one))
}

// retry makes attempts of which each ends in time.
func (s *Store) retry(ctx context.Context, attempt func() error) error {
	return s.opts.Retry.Do(ctx, object.Transient, func(n int) error {
		if n > 0 {
			s.counts.retries.Add(1)
		}
		return attempt()
	})
}

// limit is how long an attempt with an answer of so many bytes may take.
func (s *Store) limit(size int64) time.Duration {
	return s.opts.Timeout + time.Duration(size/minRate)*time.Second
}

// ended is the error of an attempt that was made with the context one, of ctx.
func (s *Store) ended(ctx, one context.Context, size int64, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case one.Err() != nil:
		return fsapi.Errorf(fsapi.TimedOut, "no answer within %v: %w", s.limit(size), err)
	}
	return err
}

// fail names store and key in an error. io.EOF is told apart from a connection
// that ended: only Get's own stays what it is.
func (s *Store) fail(verb, key string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // see above
		return err
	}
	if key != "" {
		verb += " " + key
	}
	if errors.Is(err, io.EOF) {
		return fsapi.Errorf(fsapi.KindOf(err), "%s: %s: %v", s.label, verb, err)
	}
	return fsapi.Errorf(fsapi.KindOf(err), "%s: %s: %w", s.label, verb, err)
}
