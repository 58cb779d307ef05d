package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
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

// up are the places that lack nothing, and of which nothing is asked. REQUIRES
// busy.
func (s *Shipper) up() []*place {
	return slices.DeleteFunc(s.sorted(), func(p *place) bool { return p.behind || !p.idle() })
}

// tryAll runs fn for the drives of places at once, notes failures, and returns
// the places where it went well. Once it went well with one, the others get
// Patience more: those that do not answer are left behind. fn must not touch
// the place. REQUIRES busy.
func (s *Shipper) tryAll(ctx context.Context, list []*place, fn func(context.Context, *place) error) (good []*place) {
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		p   *place
		err error
	}
	back := make(chan answer, len(list))
	waiting := map[*place]bool{}
	for _, p := range list {
		waiting[p] = true
		p.start(&s.jobs, func() { back <- answer{p, fn(limited, p)} })
	}
	var late <-chan time.Time
	for len(waiting) > 0 {
		select {
		case a := <-back:
			delete(waiting, a.p)
			a.p.running = nil // it has ended but for closing its channel
			if a.err != nil {
				a.p.failed(a.err)
				continue
			}
			good = append(good, a.p)
			if late == nil {
				late = time.After(s.o.Patience)
			}
		case <-late:
			for p := range waiting {
				p.failed(slow(p.d))
			}
			return good
		}
	}
	return good
}

// slow is the error of a drive that holds up the others.
func slow(d drive.Drive) error {
	return fsapi.Errorf(fsapi.TimedOut, "drive %s is much slower than another or does not answer: it is brought up by itself", d.Info().Name)
}

// start runs fn in a goroutine; until it ends no other call is made for the
// place. REQUIRES busy.
func (p *place) start(jobs *sync.WaitGroup, fn func()) {
	done := make(chan struct{})
	p.running = done
	jobs.Go(func() {
		defer close(done)
		fn()
	})
}

// idle reports whether nothing is being done for the place. REQUIRES busy.
func (p *place) idle() bool {
	if p.running == nil {
		return true
	}
	select {
	case <-p.running:
		p.running = nil
		return true
	default:
		return false
	}
}

func (p *place) failed(err error) {
	p.behind, p.err = true, err
	p.pause = min(max(2*p.pause, firstPause), lastPause)
	p.retry = time.Now().Add(p.pause)
}

func (p *place) healed() {
	p.behind, p.err, p.pause, p.retry = false, nil, 0, time.Time{}
}

// catchUp starts to bring places that are behind, and whose time has come, up
// to what the log is, each by itself. It waits for them only while no other
// place could take a group, and then Patience after the first. REQUIRES busy.
func (s *Shipper) catchUp(ctx context.Context) {
	s.collect()
	for again := true; again; {
		wait := len(s.up()) == 0
		var running []*place
		for _, p := range s.sorted() {
			if p.behind && p.idle() && !time.Now().Before(p.retry) {
				s.launchCatchUp(p)
			}
			if p.job != nil {
				running = append(running, p)
			}
		}
		if wait {
			s.await(ctx, running)
		}
		s.collect()
		// What was running may have begun before the log became another.
		again = wait && len(s.up()) == 0 && ctx.Err() == nil && slices.ContainsFunc(running, func(p *place) bool { return p.idle() && p.err == nil })
	}
}

// await waits for the places' jobs, or Patience after the first that went well.
// REQUIRES busy.
func (s *Shipper) await(ctx context.Context, list []*place) {
	var late <-chan time.Time
	back := make(chan *place, len(list))
	stop := make(chan struct{})
	defer close(stop)
	for _, p := range list {
		done := p.running
		s.jobs.Go(func() {
			select {
			case <-done:
				back <- p
			case <-stop:
			}
		})
	}
	for range list {
		select {
		case p := <-back:
			if late == nil && p.job.err == nil {
				late = time.After(s.o.Patience)
			}
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}

// collect takes note of catch-ups that ended. A log that nobody has whole is
// restarted. REQUIRES busy.
func (s *Shipper) collect() {
	for _, p := range s.sorted() {
		if p.job == nil || !p.idle() {
			continue
		}
		j := p.job
		p.job = nil
		if j.keyring != nil {
			p.keyring = string(j.keyring)
		}
		want := s.wanted()
		switch {
		case errors.Is(j.err, errLost):
			if slices.Contains(want, j.lost) {
				s.restart("no drive has " + j.lost.name() + " whole")
			}
			p.retry = time.Time{}
		case j.err != nil:
			p.failed(j.err)
			if j.again {
				p.retry = time.Time{}
			}
			s.o.Log.Warn("metadata copy on a drive is behind", "drive", p.d.Info().Name, "err", j.err, "retry", p.pause)
		default:
			p.held = j.held
			if j.based {
				p.seq = j.seq
			}
			p.healed()
			p.behind = !slices.Equal(want, j.want)
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

// catchUpJob makes one drive hold what the log was when it began: blobs it lacks
// are copied from another drive; then, if there is a checkpoint, what is
// neither wanted nor kept of the past goes. The fields down to keyringNow are
// set before it starts, the others while it runs.
type catchUpJob struct {
	key        []byte
	d          drive.Drive
	others     []drive.Drive
	want       []object
	based      bool
	seq        kv.Seq // the newest batch in want
	keep       retention
	keyringWas string
	keyringNow []byte

	again   bool   // a Flush came while it ran: if it fails, it is tried again at once
	keyring []byte // what was set or found in place
	held    map[object]holding
	lost    object // with errLost
	err     error
}

// launchCatchUp starts the job of a place that is idle. REQUIRES busy.
func (s *Shipper) launchCatchUp(p *place) {
	j := &catchUpJob{
		key: s.o.Key, d: p.d, want: s.wanted(), based: s.base != nil, seq: s.shipped(), keep: s.retention(),
		keyringWas: p.keyring, held: maps.Clone(p.held),
	}
	if s.o.Keyring != nil {
		j.keyringNow = s.o.Keyring()
	}
	for _, o := range s.sorted() {
		if o != p {
			j.others = append(j.others, o.d)
		}
	}
	p.job, p.keyring = j, ""
	p.start(&s.jobs, func() { j.err = j.run(s.ctx) })
}

func (j *catchUpJob) run(ctx context.Context) error {
	have := map[object]int64{}
	if err := list(ctx, j.d, func(o object, size int64) { have[o] = size }); err != nil {
		return err
	}
	for _, o := range j.want {
		if _, ok := have[o]; ok {
			delete(have, o)
			continue
		}
		if err := j.fetch(ctx, o); err != nil {
			return err
		}
	}
	if j.based {
		if err := j.tidy(ctx, have); err != nil {
			return err
		}
	}
	return j.copyKeyring(ctx)
}

// tidy removes what is neither wanted nor kept of the past. unwanted are the
// blobs that are not wanted, with their sizes.
func (j *catchUpJob) tidy(ctx context.Context, unwanted map[object]int64) error {
	held := map[object]holding{}
	for o, size := range unwanted {
		h, known := j.held[o]
		if !known {
			h = holding{size: size}
			if !j.keep.nothing() {
				r, err := open(ctx, j.d, o, j.key)
				if err != nil && fsapi.KindOf(err) != fsapi.Corrupt {
					return err
				}
				if h.bad = err != nil; !h.bad {
					h.stamp = r.stamp
				}
			}
		}
		held[o] = h
	}
	var names []string
	for _, o := range j.keep.surplus(held) {
		names = append(names, o.name())
		delete(held, o)
	}
	j.held = held
	return drive.DeleteMany(ctx, j.d, names)
}

// fetch copies a blob to the drive from any other that has it whole. Where none
// has, the log is broken and a new checkpoint must be made.
func (j *catchUpJob) fetch(ctx context.Context, o object) error {
	var errs []error
	for _, from := range j.others {
		err := copyBlob(ctx, from, j.d, o, j.key)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if !onlyMissing(errs) {
		return errors.Join(errs...) // a drive that cannot be read now may have it
	}
	j.lost = o
	return errLost
}

// errLost says that the log was broken.
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
func copyBlob(ctx context.Context, from, to drive.Drive, o object, key []byte) error {
	if err := verify(ctx, from, o, key); err != nil {
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
	return verify(ctx, to, o, key)
}

// copyKeyring sets the drive's copy of the keyring where it is not the present
// one.
func (j *catchUpJob) copyKeyring(ctx context.Context) error {
	if j.keyringNow == nil {
		return nil
	}
	if j.keyringWas != string(j.keyringNow) {
		if err := j.d.Replace(ctx, nameKeyring, j.keyringNow); err != nil {
			return err
		}
	}
	j.keyring = j.keyringNow
	return nil
}

// list calls fn for every checkpoint and group on a drive, with its size.
func list(ctx context.Context, d drive.Drive, fn func(object, int64)) error {
	return d.List(ctx, Prefix, "", func(b drive.Blob) error {
		if o, ok := parseName(b.Name); ok {
			fn(o, b.Size)
		}
		return nil
	})
}
