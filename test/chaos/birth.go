package chaos

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// births is the parts of one segment that have a bit flipped as soon as they are
// written: what a drive does that says a write succeeded which did not.
type births struct {
	segment fsapi.SegmentID
	disk    *osfs.Mem

	mu    sync.Mutex
	left  int             // how many more; guarded by mu
	done  map[part][]byte // guarded by mu
	fails []error         // guarded by mu
}

// born is a part that is being written.
type born struct {
	drive.Writer
	p    *place
	name string
}

// Commit implements drive.Writer.
func (b *born) Commit(ctx context.Context) error {
	err := b.Writer.Commit(ctx)
	if bs := b.p.births.Load(); err == nil && bs != nil && strings.Contains(b.name, bs.segment.String()) {
		bs.spoil(b.p, b.name)
	}
	return err
}

func (bs *births) spoil(p *place, name string) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.left == 0 {
		return
	}
	data, err := p.raw(bs.disk, name)
	if err != nil || len(data) == 0 {
		bs.fails = append(bs.fails, err)
		return
	}
	bs.left--
	data = slices.Clone(data)
	data[len(data)/2] ^= 1
	bs.done[part{p.id, name}] = data
	bs.fails = append(bs.fails, p.spoil(bs.disk, name, data))
}

// birth has one segment take another layout, some parts of which are bad as soon
// as they are written. Until they have been read back they stand in for no other
// copy, and then they do not.
func (w *world) birth() error {
	list, err := w.segments()
	if err != nil || len(list) == 0 {
		return err
	}
	if ok, err := w.sure(); err != nil || !ok {
		return err
	}
	if ok, err := w.bearable(func(part) bool { return false }); err != nil || !ok {
		return err
	}
	id, want := pick(w.rng, list).ID, pick(w.rng, w.policies)
	if _, err := w.s.Meta.ChangeSegment(w.ctx, id, func(s *fsapi.Segment) error {
		s.Want = want
		return nil
	}); err != nil {
		return err
	}
	p, err := w.s.Meta.PendingOf(w.ctx, id)
	if err != nil {
		if errors.Is(err, fsapi.NotExist) { // it has that layout
			return nil
		}
		return err
	}
	bs := &births{segment: id, disk: w.disk, left: 1 + w.rng.IntN(3), done: map[part][]byte{}}
	w.eachPlace(func(p *place) { p.births.Store(bs) })
	err = w.s.Upkeep.Attempt(w.ctx, p)
	w.quiet()
	w.eachPlace(func(p *place) { p.births.Store(nil) })
	bs.mu.Lock()
	defer bs.mu.Unlock()
	for at, data := range bs.done {
		w.say("drive %s: %s is bad from the start", w.place(at.on), at.name)
		w.bad[at] = data
	}
	if err := errors.Join(bs.fails...); err != nil {
		return err
	}
	if err != nil && !w.attemptFails(err) {
		return err
	}
	return nil
}

func (w *world) eachPlace(do func(*place)) {
	for _, p := range w.places {
		do(p)
	}
}
