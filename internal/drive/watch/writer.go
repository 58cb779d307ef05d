package watch

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// piece bounds one Write to the drive below, in bytes.
const piece = 1 << 20

// writer is watched. Once a call of it was left behind it is done: the goroutine
// of that call aborts it when it comes back.
type writer struct {
	d    *Drive
	ctx  context.Context // of Create, for Write has none
	in   drive.Writer
	name string
	buf  []byte // of the writer below while it writes
	lost error  // why it is done
}

// Create implements drive.Drive.
func (d *Drive) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	c := call{d: d, op: Create, name: name, limit: d.opts.Other, idle: true, changes: []string{name}}
	in, err := run(ctx, c, func(below context.Context) (drive.Writer, error) {
		// The writer outlives the call, and with it what it was told of ctx.
		return d.below.Create(ctx, name, size)
	}, func(w drive.Writer) {
		if w != nil {
			w.Abort()
		}
	})
	if err != nil {
		return nil, err
	}
	return &writer{d: d, ctx: ctx, in: in, name: name}, nil
}

// do makes a call of the writer below.
func (w *writer) do(ctx context.Context, c call, below func(context.Context) (int, error)) (int, error) {
	if w.lost != nil {
		return 0, c.errorf(fsapi.Closed, "the writer is done: "+w.lost.Error())
	}
	n, gone, err := fly(ctx, c, below, func(int) { w.in.Abort() })
	if gone {
		w.lost, w.buf = err, nil
	}
	return n, err
}

// Write implements drive.Writer.
func (w *writer) Write(p []byte) (int, error) {
	done := 0
	for {
		k := min(len(p)-done, piece)
		w.buf = append(w.buf[:0], p[done:done+k]...)
		buf := w.buf
		n, err := w.do(w.ctx, call{d: w.d, op: Write, name: w.name, limit: orElse(w.d.opts.Upload, w.d.opts.Write), idle: true}, func(context.Context) (int, error) {
			return w.in.Write(buf)
		})
		done += n
		w.d.ops[Write].addBytes(n)
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

// Take implements drive.Taker. It may take as long as a Write for every piece.
func (w *writer) Take(p []byte, done func()) error {
	c := call{d: w.d, op: Write, name: w.name, limit: orElse(w.d.opts.Upload, w.d.opts.Write*time.Duration(1+len(p)/piece)), idle: true}
	_, err := w.do(w.ctx, c, func(context.Context) (int, error) { return 0, drive.Give(w.in, p, done) })
	if err == nil {
		w.d.ops[Write].addBytes(len(p))
	}
	return err
}

// Commit implements drive.Writer.
func (w *writer) Commit(ctx context.Context) error {
	_, err := w.do(ctx, call{d: w.d, op: Commit, name: w.name, limit: orElse(w.d.opts.Upload, w.d.opts.Commit), changes: []string{w.name}}, func(below context.Context) (int, error) {
		return 0, w.in.Commit(below)
	})
	if err != nil && w.lost == nil {
		w.Abort() // refused, perhaps, before it reached the writer
	}
	return err
}

// Abort implements drive.Writer. It returns in time.
func (w *writer) Abort() {
	if w.lost != nil {
		return
	}
	_, _ = w.do(context.WithoutCancel(w.ctx), call{d: w.d, op: Write, name: w.name, limit: w.d.opts.Write, idle: true, always: true}, func(context.Context) (int, error) {
		w.in.Abort()
		return 0, nil
	})
}
