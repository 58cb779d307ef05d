package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 4)) }

// present are the places that were not replaced.
func (w *world) present(want func(*place) bool) (list []*place) {
	for _, p := range w.places {
		if !p.gone && want(p) {
			list = append(list, p)
		}
	}
	return list
}

// harm makes a drive ill, if every segment outlives that.
func (w *world) harm() error {
	list := w.present(func(p *place) bool { return p.illness() == well })
	if len(list) == 0 {
		return nil
	}
	p, i := pick(w.rng, list), illness(1+w.rng.IntN(int(illnesses)-1))
	if p.bucket != nil && i == full {
		i = away
	}
	if i != full {
		if ok, err := w.bearable(func(at part) bool { return at.on == p.id }); err != nil || !ok {
			return err
		}
	}
	p.worn.set(nil)
	if i == lies || i == flaky {
		names, err := p.blobs(w.disk)
		if err != nil {
			return err
		}
		p.worn.set(names)
	}
	p.sicken(i)
	w.say("drive %s: %s", p, i)
	return nil
}

// heal makes a drive well again, with what it has.
func (w *world) heal() error {
	list := w.present(func(p *place) bool { return p.illness() != well })
	if len(list) == 0 {
		return nil
	}
	return w.cure(pick(w.rng, list))
}

func (w *world) cure(p *place) error {
	if err := w.audit(); err != nil { // while it is known which drives lie
		return err
	}
	if p.illness() != well {
		w.say("drive %s: was %s, is well", p, p.illness())
	}
	p.sicken(well)
	p.worn.set(nil)
	for range 8 {
		if err := w.settle(); err != nil {
			return err
		}
		if st := p.state(); st == p.wanted {
			return nil
		}
		time.Sleep(10 * time.Second)
	}
	return fmt.Errorf("drive %s is well, but remains %s", p, p.state())
}

// rot flips a bit of a stored part, or makes it vanish, if its segment outlives
// that.
func (w *world) rot() error {
	list, err := w.segments()
	if err != nil || len(list) == 0 {
		return err
	}
	s := pick(w.rng, list).Segment
	if len(s.Copies) == 0 {
		return nil
	}
	c := &s.Copies[w.rng.IntN(len(s.Copies))]
	n := w.rng.IntN(len(c.Drives))
	p := w.place(c.Drives[n])
	at := part{c.Drives[n], blob.PartName(s.ID, c, n)}
	if p == nil || p.gone || w.bad[at] != nil {
		return nil
	}
	if ok, err := w.bearable(func(o part) bool { return o == at }); err != nil || !ok {
		return err
	}
	data, err := p.raw(w.disk, at.name)
	if err != nil || len(data) == 0 {
		return err
	}
	if w.chance(3) {
		data = nil
		w.say("drive %s: %s vanishes", p, at.name)
	} else {
		bit := w.rng.IntN(8 * len(data))
		data = slices.Clone(data)
		data[bit/8] ^= 1 << (bit % 8)
		w.say("drive %s: %s has bit %d flipped", p, at.name, bit)
	}
	w.bad[at] = data
	return p.spoil(w.disk, at.name, data)
}

// replace wipes a drive: it is given up, and an empty one with another identity
// takes its place.
func (w *world) replace() error {
	list := w.present(func(p *place) bool { return true })
	p := pick(w.rng, list)
	if ok, err := w.bearable(func(at part) bool { return at.on == p.id }); err != nil || !ok {
		return err
	}
	next := w.addPlace(p.tier)
	w.say("drive %s is wiped; %s takes its place", p, next)
	if p.watch != nil {
		if _, err := w.s.Set.Remove(p.id); err != nil {
			return err
		}
		_ = p.close()
	}
	p.gone, p.wanted, p.watch = true, drive.Retired, nil
	if err := next.create(w.disk); err != nil {
		return err
	}
	return w.recordDrives()
}

// leave has an administrator drain a drive, retire it, make it read-only, or
// take all that back.
func (w *world) leave() error {
	p := pick(w.rng, w.present(func(*place) bool { return true }))
	next := pick(w.rng, []drive.State{drive.Online, drive.Online, drive.Draining, drive.Draining, drive.Retired, drive.ReadOnly})
	if next == p.wanted {
		return nil
	}
	if next == drive.Retired {
		if ok, err := w.bearable(func(at part) bool { return at.on == p.id }); err != nil || !ok {
			return err
		}
	}
	others := w.present(func(o *place) bool { return o.tier == p.tier && o.wanted != drive.Online })
	if next != drive.Online && len(others) > 1 {
		return nil // something must be left to write to
	}
	w.say("drive %s: %s is wanted", p, next)
	p.wanted = next
	return w.recordDrives()
}

// remove forgets a drive on which nothing is on record any more.
func (w *world) remove() error {
	for _, p := range w.places {
		if !p.gone {
			continue
		}
		n, _, err := w.s.Upkeep.HeldBy(w.ctx, p.id)
		if err != nil || n > 0 {
			return err
		}
		if err := w.s.Meta.DeleteDrive(w.ctx, p.id); err != nil && fsapi.KindOf(err) != fsapi.NotExist {
			return err
		}
	}
	return nil
}
