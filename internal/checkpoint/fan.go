package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// laneBlocks is how many blocks of a checkpoint may wait for a drive.
const laneBlocks = 8

// fan writes one blob to several drives at once. Drives that fail drop out, and
// so do those for which the others would have to wait longer than Patience.
type fan struct {
	*made
	lanes    []*lane
	patience time.Duration
	began    time.Time
	cancel   context.CancelFunc // ends what is under way
}

// lane is the way to one drive: a goroutine that creates the blob, writes blocks
// until there are no more, commits and reads it back.
type lane struct {
	blocks chan []byte
	ended  chan struct{} // closed when err is set
	err    error
	out    error         // why it was dropped
	waited time.Duration // for it
}

func (s *Shipper) newFan(ctx context.Context, m *made) *fan {
	m.errs = make([]error, len(m.drives))
	f := &fan{made: m, patience: s.o.Patience, began: time.Now()}
	ctx, f.cancel = context.WithCancel(ctx)
	for _, d := range m.drives {
		l := &lane{blocks: make(chan []byte, laneBlocks), ended: make(chan struct{})}
		f.lanes = append(f.lanes, l)
		s.jobs.Go(func() {
			defer close(l.ended)
			l.err = l.run(ctx, d, m.object, s.o.Key)
		})
	}
	return f
}

func (l *lane) run(ctx context.Context, d drive.Drive, o object, key []byte) error {
	// One of the same name was never made use of, or it would be base.
	if err := drive.DeleteMany(ctx, d, []string{o.name()}); err != nil {
		return err
	}
	w, err := d.Create(ctx, o.name(), 0)
	if err != nil {
		return err
	}
	defer w.Abort()
	for {
		select {
		case b, more := <-l.blocks:
			if !more {
				if err := w.Commit(ctx); err != nil {
					return err
				}
				return verify(ctx, d, o, key)
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		case <-ctx.Done():
			return fsapi.Errorf(fsapi.Interrupted, "drive %s: %w", d.Info().Name, context.Cause(ctx))
		}
	}
}

// live are the lanes that have not dropped out.
func (f *fan) live() (list []*lane) {
	for i, l := range f.lanes {
		select {
		case <-l.ended:
			l.out = l.err
		default:
		}
		if f.errs[i] = l.out; l.out == nil {
			list = append(list, l)
		}
	}
	return list
}

func (f *fan) write(ctx context.Context, b []byte) error {
	f.size += int64(len(b))
	b = bytes.Clone(b) // the caller's is valid during the call only
	for _, l := range f.live() {
		f.give(ctx, l, b)
	}
	if len(f.live()) == 0 {
		return none(f.errs)
	}
	return ctx.Err()
}

// give hands a block to a lane, and drops the lane if it is too slow. The last
// one is never too slow.
func (f *fan) give(ctx context.Context, l *lane, b []byte) {
	select {
	case l.blocks <- b:
		return
	default:
	}
	start := time.Now()
	defer func() { l.waited += time.Since(start) }()
	var late <-chan time.Time
	if len(f.live()) > 1 {
		late = time.After(f.patience - l.waited)
	}
	select {
	case l.blocks <- b:
	case <-l.ended:
	case <-late:
		l.out = errSlow
	case <-ctx.Done():
	}
}

var errSlow = fsapi.Errorf(fsapi.TimedOut, "the drive is much slower than another or does not answer: it gets the checkpoint by itself")

// end waits until the blob is there and verified, on all drives or, when one has
// it, until as much time has gone by again, four times, and Patience.
func (f *fan) end() {
	defer f.cancel()
	live := f.live()
	for _, l := range live {
		close(l.blocks)
	}
	back := make(chan *lane, len(live))
	for _, l := range live {
		go func() { <-l.ended; back <- l }()
	}
	var late <-chan time.Time
	for range live {
		select {
		case l := <-back:
			if l.err == nil && late == nil {
				late = time.After(4*time.Since(f.began) + f.patience)
			}
			continue
		case <-late:
		}
		break
	}
	f.settle()
}

// settle notes for good how each lane ended; one that has not is too slow.
func (f *fan) settle() {
	for i, l := range f.lanes {
		select {
		case <-l.ended:
			f.errs[i] = l.err
		default:
			f.errs[i] = errSlow
		}
		if l.out != nil {
			f.errs[i] = l.out
		}
	}
}

// none is the error of a checkpoint that no drive took.
func none(errs []error) error {
	if err := errors.Join(errs...); err != nil {
		return fsapi.Wrap(fsapi.IO, err, "no drive takes the metadata checkpoint")
	}
	return fsapi.Errorf(fsapi.NoSpace, "no drive is there to take the metadata checkpoint")
}

// stop ends what is under way.
func (f *fan) stop() { f.cancel() }
