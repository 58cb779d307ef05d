package checkpoint

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// catalog is what all drives together have.
type catalog struct {
	places map[object][]drive.Drive
	sizes  map[object]int64
	epoch  uint64 // the highest
	errs   []error
}

// catalogue lists drives. Those that cannot be listed are in errs.
func catalogue(ctx context.Context, drives []drive.Drive) *catalog {
	c := &catalog{places: map[object][]drive.Drive{}, sizes: map[object]int64{}}
	for _, d := range drives {
		err := list(ctx, d, func(o object, size int64) {
			c.places[o] = append(c.places[o], d)
			c.sizes[o] = size
			c.epoch = max(c.epoch, o.epoch)
		})
		if err != nil {
			c.errs = append(c.errs, fsapi.Wrap(fsapi.KindOf(err), err, "list drive "+d.Info().Name))
		}
	}
	return c
}

// groups are the groups of an epoch.
func (c *catalog) groups(epoch uint64) []object {
	var list []object
	for o := range c.places {
		if o.kind == kindGroup && o.epoch == epoch {
			list = append(list, o)
		}
	}
	return list
}

// newest is the newest checkpoint of an epoch, or nil.
func (c *catalog) newest(epoch uint64) *object {
	var best *object
	for o := range c.places {
		if o.kind == kindCheckpoint && o.epoch == epoch && (best == nil || o.last > best.last) {
			best = &o
		}
	}
	return best
}

// Anew has a new epoch begin, above all that the drives have and whatever history
// they have, with the next thing that is done: for when one was in use by a copy of
// the store, which may have written other batches of the same epoch and numbers. A
// drive that cannot be seen then may have a higher epoch yet; it goes when the drive
// is brought up. It does no I/O.
func (s *Shipper) Anew(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.anew = why
}

func (s *Shipper) askedAnew() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.anew
}

// begunAnew takes note of a new epoch, unless another is asked for since.
func (s *Shipper) begunAnew(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.anew == why {
		s.anew = ""
	}
}

// resume finds out, once and when it is asked to begin anew, where the drives are,
// and goes on from there if that is the engine's own history; otherwise it begins a
// new epoch. REQUIRES busy.
func (s *Shipper) resume(ctx context.Context) error {
	why := s.askedAnew()
	if s.resumed && why == "" {
		return nil
	}
	asked := why
	s.refresh()
	var drives []drive.Drive
	for _, p := range s.sorted() {
		drives = append(drives, p.d)
	}
	if len(drives) == 0 {
		return fsapi.Errorf(fsapi.NoSpace, "no drive is there to take the metadata")
	}
	c := catalogue(ctx, drives)
	if len(c.errs) == len(drives) {
		return errors.Join(c.errs...)
	}
	if asked == "" {
		why = s.pickUp(ctx, c)
	}
	if why != "" {
		if err := s.begin(max(s.epoch, c.epoch), why); err != nil {
			return err
		}
	}
	s.resumed = true
	s.begunAnew(asked)
	return nil
}

// pickUp goes on with the newest epoch there is, or says why it cannot.
// REQUIRES busy.
func (s *Shipper) pickUp(ctx context.Context, c *catalog) (why string) {
	if len(c.errs) > 0 {
		// A drive that cannot be seen may have a later epoch.
		return errors.Join(c.errs...).Error()
	}
	base := c.newest(c.epoch)
	if base == nil {
		return "the drives have none"
	}
	chain, end := cover(base.last, c.groups(c.epoch))
	newest := *base
	if len(chain) > 0 {
		newest = chain[len(chain)-1]
	}
	stamp, err := s.stampOf(ctx, newest, c.places[newest])
	if err != nil {
		return err.Error()
	}
	if !s.isHistory(ctx, end, stamp) {
		return "the drives have another history than the engine, or one too old to go on from"
	}
	if s.baseStamp, err = s.stampOf(ctx, *base, c.places[*base]); err != nil {
		return err.Error()
	}
	s.epoch, s.base, s.size = c.epoch, base, c.sizes[*base]
	s.last = end
	for _, o := range chain {
		s.groups = append(s.groups, group{object: o, size: c.sizes[o]})
		s.since += c.sizes[o]
	}
	return ""
}

// stampOf is the verified stamp of the last batch in a blob.
func (s *Shipper) stampOf(ctx context.Context, o object, drives []drive.Drive) (clock.Stamp, error) {
	var errs []error
	for _, d := range drives {
		r, err := open(ctx, d, o, s.o.Key)
		if err == nil {
			_, err = r.block(ctx) // it binds the header
		}
		if err == nil {
			return r.stamp, nil
		}
		errs = append(errs, err)
	}
	return 0, errors.Join(errs...)
}

// isHistory reports whether the engine's batch seq has that stamp, and the
// batches after it can be had.
func (s *Shipper) isHistory(ctx context.Context, seq kv.Seq, stamp clock.Stamp) bool {
	if s.o.Engine.LastSeq() < seq {
		return false
	}
	if snap, err := s.o.Engine.Snapshot(); err == nil {
		at, is := snap.Seq(), snap.Stamp()
		if snap.Close() == nil && at == seq { // nothing came after it
			return is == stamp
		}
	}
	if seq == 0 {
		return false
	}
	tail, err := s.o.Engine.Tail(seq)
	if err != nil {
		return false
	}
	defer tail.Close()
	b, err := tail.Next(ctx)
	return err == nil && b.Stamp == stamp
}
