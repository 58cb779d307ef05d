package watch

import (
	"context"
	"errors"
	"io"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// stream is watched. What it reads lies in memory of the stream below, so a call
// that is left behind writes to nothing that anybody uses, and nothing is copied.
// Once a call of it was left behind it is done: the goroutine of that call closes
// the one below when it comes back.
type stream struct {
	d      *Drive
	ctx    context.Context
	cancel context.CancelFunc // of what the stream below was told
	in     drive.Stream
	name   string
	lost   error // why it is done
}

var _ drive.Streamer = (*Drive)(nil)

// Stream implements drive.Streamer. Of a drive below that does not stream the
// whole range is read at once. Opening and each Next may take as long as a ReadAt.
func (d *Drive) Stream(ctx context.Context, name string, off, n int64) (drive.Stream, error) {
	s := &stream{d: d, name: name}
	s.ctx, s.cancel = context.WithCancel(ctx)
	c := call{d: d, op: Read, name: name, limit: d.opts.Read}
	in, err := run(ctx, c, func(context.Context) (drive.Stream, error) {
		// The stream outlives the call, and with it what it was told of ctx.
		in, err := drive.OpenStream(s.ctx, d.below, name, off, n)
		if errors.Is(err, fsapi.NotSupported) {
			return d.readWhole(s.ctx, name, off, n)
		}
		return in, err
	}, closeOrphan)
	if err != nil {
		s.cancel()
		return nil, err
	}
	s.in = in
	return s, nil
}

func closeOrphan(s drive.Stream) {
	if s != nil {
		s.Close()
	}
}

// Next implements drive.Stream.
func (s *stream) Next(n int) ([]byte, error) {
	c := call{d: s.d, op: Read, name: s.name, limit: s.d.opts.Read, part: true}
	if s.lost != nil {
		return nil, c.errorf(fsapi.Closed, "the stream is done: "+s.lost.Error())
	}
	p, gone, err := fly(s.ctx, c, func(context.Context) ([]byte, error) { return s.in.Next(n) }, func([]byte) { s.in.Close() })
	if gone {
		s.lost = err
		s.cancel()
		return nil, err
	}
	s.d.ops[Read].addBytes(len(p))
	return p, err
}

// Close implements drive.Stream. It returns in time.
func (s *stream) Close() {
	if s.lost != nil {
		return
	}
	s.lost = fsapi.Closed
	s.cancel()
	c := call{d: s.d, op: Read, name: s.name, limit: s.d.opts.Read, part: true}
	_, _ = run(context.WithoutCancel(s.ctx), c, func(context.Context) (none, error) {
		s.in.Close()
		return none{}, nil
	}, nil)
}

// readWhole reads a range at once, into memory that is the stream's.
func (d *Drive) readWhole(ctx context.Context, name string, off, n int64) (drive.Stream, error) {
	buf := d.buffer(int(n))
	k, err := d.below.ReadAt(ctx, name, off, *buf)
	if err != nil && !errors.Is(err, io.EOF) {
		d.buffers.Put(buf)
		return nil, err
	}
	return drive.Held((*buf)[:k], func() { d.buffers.Put(buf) }), nil
}
