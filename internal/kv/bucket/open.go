package bucket

import (
	"bytes"
	"context"
	"errors"
	"path"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/osfs"
)

// Engine is a kv.Engine whose state is in a bucket.
type Engine struct {
	kv.Engine
	s    *store
	once sync.Once
	err  error
}

var _ kv.Engine = (*Engine)(nil)

// Open takes over the state in the bucket, or begins one in an empty bucket, and
// opens an engine on it. A writer that has it now is refused from its next write
// on. fsapi.Fenced: yet another took over meanwhile. fsapi.NotSupported: the
// store does not keep conditions, and o.Lease is nil. fsapi.Corrupt: what is in
// the bucket does not verify, or is sealed with another key. fsapi.Busy: o.Dir is
// in use.
func Open(ctx context.Context, o Options) (*Engine, error) {
	o.setDefaults()
	s := newStore(o)
	e, err := s.start(ctx)
	if err != nil {
		s.cancel()
		return nil, errors.Join(err, s.abandon())
	}
	return e, nil
}

// startPatience is how many attempts a start makes of a write. The store has made
// its own for each; who starts is better told.
const startPatience = 3

// newStore is a store that is not open yet.
func newStore(o Options) *store {
	s := &store{o: o, log: o.Log, wake: make(chan struct{}, 1), spill: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.bg, s.stop = context.WithCancel(s.ctx)
	s.remote = &remote{Store: o.Objects, key: o.Key, clock: o.Clock, random: o.Random, waits: o.waits()}
	s.remote.outage.report, s.remote.patience = s.reportOutage, startPatience
	return s
}

func (s *store) reportOutage(since time.Time, err error) {
	if err != nil {
		s.log.Warn("the bucket does not take metadata: it is tried again until it does", "store", s.remote.Info().URL, "err", err)
		return
	}
	s.log.Info("the bucket takes metadata again", "store", s.remote.Info().URL, "waited", s.o.Clock.Now().Sub(since))
}

// start opens everything, in order.
func (s *store) start(ctx context.Context) (*Engine, error) {
	if err := s.lockDir(); err != nil {
		return nil, err
	}
	// 1. Only a store that keeps conditions can tell two writers apart.
	if err := s.secure(ctx); err != nil {
		return nil, err
	}
	// 2. From here on no earlier writer commits a manifest, so nothing that this
	// one needs is removed.
	if err := s.takeHead(ctx); err != nil {
		return nil, err
	}
	// 3. What the bucket holds, and the journal's end, which becomes ours.
	config, err := s.inherit(ctx)
	if err != nil {
		return nil, s.overtaken(ctx, err)
	}
	inner, err := kv.NewEngine(s, config)
	if err != nil {
		return nil, err
	}
	s.remote.patience = 0
	s.background.Go(s.checkpoints)
	s.background.Go(s.spills)
	if s.o.FenceCheck > 0 {
		s.background.Go(s.watchFence)
	}
	return &Engine{Engine: inner, s: s}, nil
}

// inherit opens the tables of the newest manifest, without reading them, applies
// what the journal has beyond them, and claims its end.
func (s *store) inherit(ctx context.Context) (kv.Config, error) {
	position, err := s.openTables(ctx)
	if err != nil {
		return kv.Config{}, err
	}
	return s.takeJournal(ctx, position)
}

// overtaken is why a start failed: that objects were gone, or another's, follows
// from another writer who took over meanwhile.
func (s *store) overtaken(ctx context.Context, why error) error {
	h, _, err := s.remote.loadHead(ctx)
	if err == nil && h.salt != s.chain.head.salt && fsapi.KindOf(why) != fsapi.Fenced {
		return fsapi.Errorf(fsapi.Fenced, "kv: %s: another writer took over while this one started: %w", s.remote.Info().URL, why)
	}
	return why
}

// lockDir makes the local directory this engine's own.
func (s *store) lockDir() error {
	if err := s.o.FS.MkdirAll(s.o.Dir, 0o700); err != nil {
		return fsapi.Wrap(fsapi.IO, err, "kv: make cache directory "+s.o.Dir)
	}
	lock, err := s.o.FS.Lock(path.Join(s.o.Dir, "lock"))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fsapi.Errorf(fsapi.Busy, "kv: cache directory %s is in use by another process", s.o.Dir)
	}
	if err != nil {
		return fsapi.Wrap(fsapi.IO, err, "kv: lock cache directory "+s.o.Dir)
	}
	s.unlock = lock.Close
	return nil
}

// secure refuses a store that keeps no conditions, unless a lease makes up for it.
func (s *store) secure(ctx context.Context) error {
	if s.o.Lease != nil {
		l, err := takeLease(ctx, s.remote, &s.o)
		if err != nil {
			return err
		}
		s.lease, s.remote.Store = l, l
		return nil
	}
	c, err := object.Probe(ctx, s.o.Objects)
	if err != nil {
		return err
	}
	missing := ""
	switch {
	case !c.IfAbsent && !c.IfVersion:
		missing = "If-None-Match and If-Match"
	case !c.IfAbsent:
		missing = "If-None-Match"
	case !c.IfVersion:
		missing = "If-Match"
	default:
		return nil
	}
	return fsapi.Errorf(fsapi.NotSupported, "kv: %s takes writes with %s whose condition does not hold, so it cannot keep a second writer out: use another store, or run with a single-writer lease if you make sure that no two machines serve it at once",
		s.o.Objects.Info().URL, missing)
}

// takeHead makes this writer the one who commits manifests.
func (s *store) takeHead(ctx context.Context) error {
	for {
		old, v, err := s.remote.loadHead(ctx)
		cond := object.IfVersion(v)
		switch {
		case errors.Is(err, fsapi.NotExist):
			old, cond = head{from: 1}, object.IfAbsent()
		case err != nil:
			return err
		}
		next := head{epoch: old.epoch + 1, holder: s.o.Holder, manifest: old.manifest, from: old.from}
		s.chain.unsure = s.headAttempt(next, cond)
		won, err := s.settleHead(ctx)
		if err != nil || won {
			s.journal.epoch = next.epoch
			return err
		}
		// Another did the same at the same time. It is his turn or ours: again.
	}
}

// loadHead reads the head. fsapi.NotExist: the bucket is empty.
func (r *remote) loadHead(ctx context.Context) (h head, v object.Version, err error) {
	hd, plain, o, err := r.load(ctx, keyHead, 0)
	if err != nil {
		return h, v, err
	}
	h, err = decodeHead(hd, plain)
	return h, o.Version, r.named(keyHead, err)
}

// headAttempt is a head to take the place of another.
func (s *store) headAttempt(h head, cond object.Condition) *attempt {
	h.salt = s.remote.newSalt()
	body := seal(s.remote.key, header{kind: kindHead, epoch: h.epoch, salt: h.salt}, h.encode())
	return &attempt{key: keyHead, body: body, cond: cond, head: h}
}

// settleHead finds out what becomes of the head on its way. After an error that
// is not known, and to be asked again. REQUIRES: chain.mu held.
func (s *store) settleHead(ctx context.Context) (won bool, err error) {
	a := s.chain.unsure
	var v object.Version
	err = s.remote.insist(ctx, func(ctx context.Context) (err error) {
		v, won, err = s.remote.claim(ctx, a.key, a.body, a.cond)
		return err
	})
	if err != nil {
		return false, err
	}
	s.chain.unsure = nil
	if !won {
		return false, nil
	}
	s.claimed()
	s.chain.head, s.chain.version = a.head, v
	if a.manifest != nil {
		s.chain.count(*a.manifest)
		s.journal.prune(a.manifest.from)
	}
	return true, nil
}

// loadManifest reads a manifest.
func (r *remote) loadManifest(ctx context.Context, at ref) (m manifest, err error) {
	key := at.manifest()
	h, plain, _, err := r.load(ctx, key, 256<<10)
	if err != nil {
		return m, err
	}
	m, err = decodeManifest(h, plain)
	if err == nil && m.ref != at {
		err = fsapi.Errorf(fsapi.Corrupt, "it is manifest %d of epoch %d", m.number, m.epoch)
	}
	return m, r.named(key, err)
}

// openTables opens the tables of the manifest that counts.
func (s *store) openTables(ctx context.Context) (p kv.Position, err error) {
	m := manifest{from: s.chain.head.from}
	if at := s.chain.head.manifest; at.number > 0 {
		if m, err = s.remote.loadManifest(ctx, at); err != nil {
			return p, err
		}
	}
	s.chain.count(m)
	local := unsynced{s.o.FS}
	s.cache = newCache(s.ctx, local, path.Join(s.o.Dir, "cache"), &s.o, s.remote)
	s.cache.fenced = s.checkFence
	if err := s.cache.adopt(m.tables); err != nil {
		return p, fsapi.Wrap(fsapi.IO, err, "kv: open the cache in "+s.o.Dir)
	}
	s.tier, s.Tables, p, err = openTier(&s.o, local, s.cache, &m, path.Join(s.o.Dir, "db"), s.o.still)
	return p, err
}

// openTier opens Pebble on the tables of a manifest, in a directory that is made
// anew.
func openTier(o *Options, local osfs.FS, c *cache, m *manifest, dir string, frozen bool) (*tier, *pebble.Tables, kv.Position, error) {
	small, err := layOut(local, dir, m.files)
	if err != nil {
		return nil, nil, kv.Position{}, fsapi.Wrap(fsapi.IO, err, "kv: make "+dir)
	}
	t := newTier(small, pebble.Adapt(local), c, m.tables)
	tables, p, err := pebble.OpenTables(pebble.Options{
		Dir: dir, Clock: o.Clock, CacheBytes: o.CacheBytes, MemTableBytes: o.MemTableBytes, Log: o.Log,
	}, pebble.TablesOptions{Files: t, Frozen: frozen, ManifestBytes: 1 << 20})
	return t, tables, p, err
}

// layOut makes a directory, in memory with the small files of a manifest, on the disk
// with nothing.
func layOut(disk osfs.FS, dir string, files []smallFile) (vfs.FS, error) {
	if err := errors.Join(disk.RemoveAll(dir), disk.MkdirAll(dir, 0o700)); err != nil {
		return nil, err
	}
	small := vfs.NewMem()
	if err := small.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, f := range files {
		w, err := small.Create(path.Join(dir, f.name), vfs.WriteCategoryUnspecified)
		if err != nil {
			return nil, err
		}
		_, err = w.Write(bytes.Clone(f.data)) // which it may change
		if err := errors.Join(err, w.Close()); err != nil {
			return nil, err
		}
	}
	return small, nil
}

// takeJournal applies the journal and claims its end.
func (s *store) takeJournal(ctx context.Context, p kv.Position) (kv.Config, error) {
	r := replay{s: s.Tables, last: p, limit: s.o.TailBytes}
	s.journal.next = s.chain.now.from
	for {
		err := s.remote.follow(ctx, s.journal.next, func(rec record) error {
			s.journal.next = rec.number + 1
			s.journal.add(rec.size, &s.o)
			return s.remote.named(journalKey(rec.number), r.take(ctx, rec, s.journal.epoch))
		})
		if err != nil {
			return kv.Config{}, err
		}
		won, err := s.claimJournal(ctx)
		if err != nil {
			return kv.Config{}, err
		}
		if won {
			break
		}
	}
	// An object that was there may have been removed, by one who took over after
	// us: then the number claimed is not the end.
	h, _, err := s.remote.loadHead(ctx)
	if err != nil {
		return kv.Config{}, err
	}
	if h.salt != s.chain.head.salt {
		return kv.Config{}, s.fenced(keyHead)
	}
	s.journal.fences = append(r.fences, s.journal.next-1)
	s.journal.journaled = r.last
	return kv.Config{
		Last: r.last, Recovered: r.batches, TailBytes: s.o.TailBytes, SlowSync: true, Clock: s.o.Clock, Rand: s.o.Rand,
	}, nil
}

// claimJournal writes the object that begins this writer's epoch; won false says
// that another object is there.
func (s *store) claimJournal(ctx context.Context) (won bool, err error) {
	won, err = s.settle(ctx, s.journal.attempt(s.remote, kindStart, []byte(s.o.Holder)))
	if won {
		s.journal.next++
	}
	return won, err
}

// shut closes what is local.
func (s *store) shut() error {
	var errs []error
	if s.Tables != nil {
		errs = append(errs, s.Tables.Close())
	}
	if s.tier != nil {
		errs = append(errs, s.tier.close())
	}
	if s.cache != nil {
		errs = append(errs, s.cache.close())
	}
	if s.lease != nil {
		errs = append(errs, s.lease.release())
	}
	if s.unlock != nil {
		errs = append(errs, s.unlock())
	}
	return fsapi.Wrap(fsapi.IO, errors.Join(errs...), "kv: close "+s.o.Dir)
}

// abandon closes a store that did not come to be opened.
func (s *store) abandon() error {
	s.stop()
	s.background.Wait()
	return s.shut()
}

// Close implements kv.Engine. Where the bucket does not answer for
// Options.CloseWait, it returns an error and what was not durable is lost.
func (e *Engine) Close() error {
	e.once.Do(func() {
		done := make(chan struct{})
		go func() {
			select {
			case <-e.s.o.Clock.After(e.s.o.CloseWait):
				e.s.cancel()
			case <-done:
			}
		}()
		e.err = e.Engine.Close()
		close(done)
	})
	return e.err
}
