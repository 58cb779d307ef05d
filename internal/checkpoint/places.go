package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// refresh takes note of drives that came or went. REQUIRES busy.
func (s *Shipper) refresh() {
	now := map[fsapi.DriveID]bool{}
	for _, d := range s.o.Drives() {
		id := d.Info().ID
		now[id] = true
		if p := s.places[id]; p == nil || p.d != d { // new, or opened again
			s.places[id] = &place{d: d, behind: true}
		}
	}
	for id := range s.places {
		if !now[id] {
			delete(s.places, id)
		}
	}
}

// sorted are the places in a fixed order. REQUIRES busy.
func (s *Shipper) sorted() []*place {
	list := make([]*place, 0, len(s.places))
	for _, p := range s.places {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *place) int { return cmp.Compare(a.d.Info().ID, b.d.Info().ID) })
	return list
}

// up are the places that lack nothing. REQUIRES busy.
func (s *Shipper) up() []*place {
	return slices.DeleteFunc(s.sorted(), func(p *place) bool { return p.behind })
}

// each runs fn for all drives at once; the errors are in their order.
func each[T any](list []T, fn func(T) error) []error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, t := range list {
		wg.Go(func() { errs[i] = fn(t) })
	}
	wg.Wait()
	return errs
}

// tryAll runs fn for all places at once, notes failures, and returns the
// places where it went well. REQUIRES busy.
func tryAll(list []*place, fn func(*place) error) (good []*place) {
	for i, err := range each(list, fn) {
		if err != nil {
			list[i].failed(err)
		} else {
			good = append(good, list[i])
		}
	}
	return good
}

func (p *place) failed(err error) {
	p.behind, p.err = true, err
	p.pause = min(max(2*p.pause, firstPause), lastPause)
	p.retry = time.Now().Add(p.pause)
}

func (p *place) healed() {
	p.behind, p.err, p.pause, p.retry = false, nil, 0, time.Time{}
}

// catchUp brings places that are behind, and whose time has come, up to what
// the log is. REQUIRES busy.
func (s *Shipper) catchUp(ctx context.Context) {
	for _, p := range s.sorted() {
		if !p.behind || time.Now().Before(p.retry) {
			continue
		}
		if err := s.reconcile(ctx, p); err != nil {
			p.failed(err)
			s.o.Log.Warn("metadata copy on a drive is behind", "drive", p.d.Info().Name, "err", err, "retry", p.pause)
		}
	}
}

// wanted are the blobs that make up the log. REQUIRES busy.
func (s *Shipper) wanted() []object {
	var list []object
	if s.base != nil {
		list = append(list, *s.base)
	}
	for _, g := range s.groups {
		list = append(list, g.object)
	}
	return list
}

// reconcile makes a drive hold what is wanted: blobs it lacks are copied from
// another drive; then, if there is a checkpoint, what is not wanted goes.
// REQUIRES busy.
func (s *Shipper) reconcile(ctx context.Context, p *place) error {
	have := map[object]bool{}
	if err := list(ctx, p.d, func(o object, _ int64) { have[o] = true }); err != nil {
		return err
	}
	want := map[object]bool{}
	for _, o := range s.wanted() {
		want[o] = true
		if have[o] {
			continue
		}
		err := s.fetch(ctx, p, o)
		if errors.Is(err, errLost) {
			return s.reconcile(ctx, p) // nothing is wanted now
		}
		if err != nil {
			return err
		}
	}
	if s.base != nil {
		var old []string
		for o := range have {
			if !want[o] {
				old = append(old, o.name())
			}
		}
		if err := drive.DeleteMany(ctx, p.d, old); err != nil {
			return err
		}
		p.seq = s.shipped()
	}
	if err := s.copyKeyring(ctx, p); err != nil {
		return err
	}
	p.healed()
	return nil
}

// fetch copies a blob to a drive from any other that has it whole. Where none
// has, the log is broken and a new checkpoint must be made. REQUIRES busy.
func (s *Shipper) fetch(ctx context.Context, to *place, o object) error {
	var errs []error
	for _, from := range s.sorted() {
		if from == to {
			continue
		}
		err := s.copyBlob(ctx, from.d, to.d, o)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if !onlyMissing(errs) {
		return errors.Join(errs...) // a drive that cannot be read now may have it
	}
	s.restart("no drive has " + o.name() + " whole")
	return errLost
}

// errLost says that the log was broken, and restarted.
var errLost = errors.New("no drive has a blob of the log")

// onlyMissing reports whether errs say that a blob is lost, and not that a
// drive cannot be reached.
func onlyMissing(errs []error) bool {
	for _, err := range errs {
		if !errors.Is(err, fsapi.NotExist) && !errors.Is(err, fsapi.Corrupt) {
			return false
		}
	}
	return true
}

const copyBytes = 1 << 20

// copyBlob copies a blob that verifies, and verifies the copy.
func (s *Shipper) copyBlob(ctx context.Context, from, to drive.Drive, o object) error {
	if err := verify(ctx, from, o, s.o.Key); err != nil {
		return err
	}
	b, err := from.Stat(ctx, o.name())
	if err != nil {
		return err
	}
	w, err := to.Create(ctx, o.name(), b.Size)
	if err != nil {
		return err
	}
	defer w.Abort()
	buf := make([]byte, min(copyBytes, b.Size))
	for off := int64(0); off < b.Size; off += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), b.Size-off)]
		if n, err := from.ReadAt(ctx, o.name(), off, part); n < len(part) {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	if err := w.Commit(ctx); err != nil {
		return err
	}
	return verify(ctx, to, o, s.o.Key)
}

// copyKeyring sets a drive's copy of the keyring where it is not the present
// one.
func (s *Shipper) copyKeyring(ctx context.Context, p *place) error {
	if s.o.Keyring == nil {
		return nil
	}
	now := s.o.Keyring()
	if p.keyring == string(now) {
		return nil
	}
	p.keyring = ""
	if err := p.d.Replace(ctx, nameKeyring, now); err != nil {
		return err
	}
	p.keyring = string(now)
	return nil
}

// list calls fn for every checkpoint and group on a drive, with its size.
func list(ctx context.Context, d drive.Drive, fn func(object, int64)) error {
	return d.List(ctx, prefix, "", func(b drive.Blob) error {
		if o, ok := parseName(b.Name); ok {
			fn(o, b.Size)
		}
		return nil
	})
}
