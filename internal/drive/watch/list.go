package watch

import (
	"context"
	"errors"
	"io"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// errStopped ends a listing that nobody listens to any more.
var errStopped = errors.New("listing stopped")

// List implements drive.Drive. The drive lists in its goroutine, fn is called in
// the caller's and may take any time.
func (d *Drive) List(ctx context.Context, prefix, after string, fn func(drive.Blob) error) error {
	c := call{d: d, op: List, name: prefix, limit: d.opts.Other}
	if err := c.begin(ctx); err != nil {
		return err
	}
	below, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &listing{c: c, f: &flight{d: d}, blobs: make(chan drive.Blob), back: make(chan error, 1), stop: make(chan struct{})}
	go func() {
		err := d.below.List(below, prefix, after, l.pass)
		if l.f.land() {
			l.back <- err
		}
	}()
	return l.receive(ctx, fn)
}

// listing is one call of List.
type listing struct {
	c     call
	f     *flight
	blobs chan drive.Blob
	back  chan error    // the end of the call below
	stop  chan struct{} // closed when no more blobs are taken
}

// pass hands a blob to the caller; called by the drive below.
func (l *listing) pass(b drive.Blob) error {
	select {
	case l.blobs <- b:
		return nil
	case <-l.stop:
		return errStopped
	}
}

func (l *listing) receive(ctx context.Context, fn func(drive.Blob) error) error {
	defer close(l.stop)
	for {
		l.c.start = l.c.d.opts.Clock.Now()
		if err := ctx.Err(); err != nil {
			return l.leave(l.c.errorf(fsapi.KindOf(err), err.Error()))
		}
		select {
		case b := <-l.blobs:
			if err := fn(b); err != nil {
				l.f.leave() // it ends by itself
				l.c.end(nil)
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
		case err := <-l.back:
			l.c.end(err)
			return err
		case <-l.c.d.opts.Clock.After(l.c.limit):
			return l.leave(l.c.late())
		case <-ctx.Done():
			return l.leave(l.c.errorf(fsapi.KindOf(ctx.Err()), ctx.Err().Error()))
		}
	}
}

// leave leaves the call behind with an error.
func (l *listing) leave(err error) error {
	l.f.leave()
	l.c.end(err)
	return err
}
