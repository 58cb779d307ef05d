package bucket

import (
	"context"
	"errors"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Follower is a read-only engine of what a writer puts into a bucket: it shows the
// batches of the journal, a little later than they got there, and never one that
// is not in it. It writes nothing into the bucket and takes nothing from the
// writer.
type Follower struct {
	*kv.Follower
	s     *store // what it shares with a writer; it has no journal of its own
	views *views

	look   chan struct{} // of one: held by who looks for new batches; before mu
	next   uint64        // journal object to be read next; guarded by look
	made   int           // generations; guarded by look
	looked time.Time     // at the head; guarded by look
	caught bool          // the last look went well, and looked at the head; guarded by look
	begun  atomic.Uint64 // looks; written with look held

	once sync.Once
	err  error

	mu      sync.Mutex
	failure error // of the last look, nil while all is well; guarded by mu
}

var _ kv.Engine = (*Follower)(nil)

// Follow opens a follower. fsapi.NotExist: nothing is in the bucket.
func Follow(ctx context.Context, o Options) (*Follower, error) {
	o.setDefaults()
	f := &Follower{s: newStore(o), views: &views{}, look: make(chan struct{}, 1)}
	if err := f.start(ctx); err != nil {
		f.s.cancel()
		if f.views.cur != nil {
			err = errors.Join(err, f.views.Close())
		}
		return nil, errors.Join(err, f.s.abandon())
	}
	f.s.background.Go(f.poll)
	return f, nil
}

func (f *Follower) start(ctx context.Context) error {
	s := f.s
	if err := s.lockDir(); err != nil {
		return err
	}
	if err := f.sweep(); err != nil {
		return fsapi.Wrap(fsapi.IO, err, "kv: clean "+s.o.Dir)
	}
	s.cache = newCache(s.ctx, unsynced{s.o.FS}, path.Join(s.o.Dir, "cache"), &s.o, s.remote)
	g, r, err := f.build(ctx)
	if err != nil {
		return err
	}
	f.views.replace(g)
	f.Follower, err = kv.Follow(f.views, kv.Config{Last: r.last, Recovered: r.batches, TailBytes: s.o.TailBytes, Clock: s.o.Clock, Rand: s.o.Rand})
	return err
}

// sweep removes what an earlier process left.
func (f *Follower) sweep() error {
	names, err := f.s.o.FS.ReadDir(f.s.o.Dir)
	var errs []error
	for _, name := range names {
		if name != "cache" && name != "lock" {
			errs = append(errs, f.s.o.FS.RemoveAll(path.Join(f.s.o.Dir, name)))
		}
	}
	return errors.Join(append(errs, err)...)
}

// rebuilds is how often a generation is begun anew because objects were removed
// while it was made.
const rebuilds = 5

// build opens the tables of the newest manifest and applies the journal to them.
func (f *Follower) build(ctx context.Context) (g *generation, r *replay, err error) {
	for range rebuilds {
		var h head
		if h, _, err = f.s.remote.loadHead(ctx); err != nil {
			return nil, nil, err
		}
		if g, r, err = f.buildAt(ctx, h); err == nil {
			var now head
			if now, _, err = f.s.remote.loadHead(ctx); err == nil && now.from <= f.next {
				return g, r, nil
			}
			// The end that was seen may be where objects had been removed.
			err = errors.Join(err, g.close(), fsapi.Errorf(fsapi.Busy, "kv: %s: checkpoints come faster than they can be read", f.s.remote.Info().URL))
		}
	}
	return nil, nil, err
}

func (f *Follower) buildAt(ctx context.Context, h head) (*generation, *replay, error) {
	m := manifest{from: h.from}
	if h.manifest.number > 0 {
		var err error
		if m, err = f.s.remote.loadManifest(ctx, h.manifest); err != nil {
			return nil, nil, err
		}
	}
	if f.made++; f.made == 1 {
		if err := f.s.cache.adopt(m.tables); err != nil {
			return nil, nil, fsapi.Wrap(fsapi.IO, err, "kv: open the cache in "+f.s.o.Dir)
		}
	}
	local := unsynced{f.s.o.FS}
	g := &generation{manifest: h.manifest, dir: generationDir(f.s.o.Dir, f.made), fs: local}
	var p kv.Position
	var err error
	if g.tier, g.tables, p, err = openTier(&f.s.o, local, f.s.cache, &m, g.dir, true); err != nil {
		return nil, nil, err
	}
	r := &replay{s: g.tables, last: p, limit: f.s.o.TailBytes}
	f.next = m.from
	err = f.s.remote.follow(ctx, f.next, func(rec record) error {
		f.next = rec.number + 1
		return f.s.remote.named(journalKey(rec.number), r.take(ctx, rec, ^uint64(0)))
	})
	if err != nil {
		return nil, nil, errors.Join(err, g.close())
	}
	return g, r, nil
}

// poll shows what comes, until the end. While nothing does it looks ever more
// rarely.
func (f *Follower) poll() {
	wait := f.s.o.PollMin
	for {
		select {
		case <-f.s.o.Clock.After(wait):
		case <-f.s.bg.Done():
			return
		}
		f.look <- struct{}{}
		found, err := f.lookLocked(f.s.bg, false)
		<-f.look
		f.note(err)
		if wait = min(2*wait, f.s.o.PollMax); found {
			wait = f.s.o.PollMin
		}
	}
}

// lookLocked shows what has come. It asks for newer tables now and then, or where
// head says so. REQUIRES look.
func (f *Follower) lookLocked(ctx context.Context, head bool) (found bool, err error) {
	f.begun.Add(1)
	f.caught = false
	found, err = f.advance(ctx)
	now := f.s.o.Clock.Now()
	if err == nil && (head || now.Sub(f.looked) >= f.s.o.PollMax || now.Before(f.looked)) {
		f.looked = now
		err = f.renew(ctx)
		f.caught = err == nil
	}
	return found, err
}

// CatchUp returns when everything is shown that was in the bucket when it was
// called: for who finds that what it read in the metadata is not there any more.
// Concurrent calls share a look. fsapi.Interrupted, fsapi.TimedOut: ctx has ended.
func (f *Follower) CatchUp(ctx context.Context) error {
	was := f.begun.Load()
	select {
	case f.look <- struct{}{}:
	case <-ctx.Done():
		return fsapi.Errorf(fsapi.KindOf(ctx.Err()), "kv: look for what is new in %s: %w", f.s.remote.Info().URL, context.Cause(ctx))
	}
	defer func() { <-f.look }()
	if f.begun.Load() > was && f.caught { // one that began after the call
		return nil
	}
	_, err := f.lookLocked(ctx, true)
	return err
}

// note keeps why the last look failed.
func (f *Follower) note(err error) {
	if f.s.bg.Err() != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if (err == nil) != (f.failure == nil) {
		f.s.log.Warn("following the metadata in the bucket", "store", f.s.remote.Info().URL, "err", err)
	}
	f.failure = err
}

// Failure is why the newest batches cannot be read now; nil while they can.
func (f *Follower) Failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failure
}

// advance publishes the journal objects that have come.
func (f *Follower) advance(ctx context.Context) (found bool, err error) {
	for {
		rec, ok, err := f.s.remote.readJournal(ctx, f.next)
		if err != nil || !ok {
			return found, err
		}
		found = true
		r := replay{s: publisher{f}, last: kv.Position{Seq: f.LastSeq()}}
		if err := r.take(ctx, rec, ^uint64(0)); err != nil {
			return found, f.s.remote.named(journalKey(rec.number), err)
		}
		f.next++
	}
}

// publisher gives replayed batches to the follower.
type publisher struct{ f *Follower }

func (p publisher) Apply(c kv.Commit) error         { return p.f.Publish(c) }
func (p publisher) Admit(ctx context.Context) error { return p.f.views.Admit(ctx) }

// renew takes over the tables of a newer manifest, where this one's objects may be
// removed soon, or the journal between was.
func (f *Follower) renew(ctx context.Context) error {
	h, _, err := f.s.remote.loadHead(ctx)
	if err != nil || h.manifest == f.views.current().manifest {
		return err
	}
	next := f.next
	g, r, err := f.build(ctx)
	if err != nil {
		f.next = next
		return err
	}
	if r.last.Seq < f.LastSeq() {
		f.next = next
		return errors.Join(fsapi.Errorf(fsapi.Corrupt, "kv: %s ends at batch %d, but batch %d was there", f.s.remote.Info().URL, r.last.Seq, f.LastSeq()), g.close())
	}
	// A batch that only the new tables have must not be seen before it counts, but
	// seeing it before its number does no harm: every view tells its own.
	f.views.replace(g)
	f.Jump(r.last)
	return nil
}

// Close implements kv.Engine.
func (f *Follower) Close() error {
	f.once.Do(func() {
		f.s.stop()
		f.s.background.Wait()
		f.s.cancel()
		f.err = errors.Join(f.Follower.Close(), f.s.shut())
	})
	return f.err
}
