package bucket

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// condemn is the garbage of a manifest: what the one before it has, and what that
// one needs but the new one does not. It is removed after the new one counts, and
// from then on no manifest can need it: each takes over tables only from the one
// before it. REQUIRES: chain.mu held.
func (s *store) condemn(next *manifest) []garbage {
	old := &s.chain.now
	now := s.o.Clock.Now().UnixMilli()
	out := append([]garbage{}, old.garbage...)
	if old.number > 0 {
		out = append(out, garbage{since: now, key: old.manifest()})
	}
	kept := map[salt]bool{}
	for _, t := range next.tables {
		kept[t.ref.salt] = true
	}
	for _, t := range old.tables {
		if !kept[t.ref.salt] {
			out = append(out, garbage{since: now, key: t.ref.table()})
		}
	}
	return append(out, s.journal.condemn(old.from, next.from, now)...)
}

// condemn is the journal objects from..to-1 but for those that begin an epoch. An
// earlier writer that comes to itself again must find them, however late: they
// stay for ever.
func (j *journal) condemn(from, to uint64, now int64) (out []garbage) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, n := range j.fences {
		if n < from || n >= to {
			continue
		}
		if n > from {
			out = append(out, garbage{since: now, first: from, last: n - 1})
		}
		from = n + 1
	}
	if from < to {
		out = append(out, garbage{since: now, first: from, last: to - 1})
	}
	return out
}

// clean removes garbage that is old enough. What is removed leaves the list with
// the next manifest. REQUIRES: chain.mu held.
func (s *store) clean(ctx context.Context) error {
	if s.o.GarbageAge < 0 {
		return nil
	}
	if err := s.adoptOrphans(ctx); err != nil {
		return err
	}
	before := s.o.Clock.Now().Add(-s.o.GarbageAge).UnixMilli()
	var keys []string
	var left []garbage
	for _, g := range s.chain.now.garbage {
		if g.since > before {
			left = append(left, g)
			continue
		}
		keys = append(keys, g.keys()...)
	}
	if len(keys) == 0 {
		return nil
	}
	if err := s.remote.Delete(ctx, keys...); err != nil {
		return err
	}
	s.chain.now.garbage = left
	return nil
}

func (g *garbage) keys() []string {
	if g.key != "" {
		return []string{g.key}
	}
	var keys []string
	for n := g.first; n <= g.last; n++ {
		keys = append(keys, journalKey(n))
	}
	return keys
}

// adoptOrphans makes garbage, once, of the tables and manifests that earlier
// writers left which never came to count, or were made again by a request that
// arrived late: of an epoch before this writer's, and not in its manifest, which the
// manifests to come are made of; and of such journal objects. REQUIRES: chain.mu
// held, and a manifest of this writer counts.
func (s *store) adoptOrphans(ctx context.Context) error {
	if s.chain.orphans {
		return nil
	}
	known := map[string]bool{s.chain.now.manifest(): true}
	for _, t := range s.chain.now.tables {
		known[t.ref.table()] = true
	}
	for _, g := range s.chain.now.garbage {
		known[g.key] = true
	}
	strays, err := s.strays(ctx)
	if err != nil {
		return err
	}
	now := s.o.Clock.Now().UnixMilli()
	for _, n := range strays {
		s.chain.now.garbage = append(s.chain.now.garbage, garbage{since: now, first: n, last: n})
	}
	for _, prefix := range []string{prefixTable, prefixManifest} {
		err := s.remote.List(ctx, prefix, "", func(o object.Object) error {
			if r, ok := parseRef(o.Key); ok && r.epoch < s.journal.epoch && !known[o.Key] {
				s.chain.now.garbage = append(s.chain.now.garbage, garbage{since: now, key: o.Key})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	s.chain.orphans = true
	return nil
}

// oldJournal is how many journal objects before the manifest's `from` a writer reads,
// the newest of them: it finds what is among those of the last 256 starts. All that
// belong there, and are not garbage, are the beginnings of epochs, of which there are
// ever more.
const oldJournal = 256

// strays are journal objects with batches before the manifest's `from` that no
// garbage lists. They were there before, had come to be in tables, and were removed;
// then another request for the same object arrived, given up long ago. REQUIRES:
// chain.mu held, and a manifest of this writer counts.
func (s *store) strays(ctx context.Context) (strays []uint64, err error) {
	var old []uint64
	err = s.remote.List(ctx, prefixJournal, "", func(o object.Object) error {
		n, ok := parseJournal(o.Key)
		if ok && n >= s.chain.now.from {
			return io.EOF
		}
		if ok && !s.chain.now.condemned(n) {
			old = append(old, n)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	old = old[max(0, len(old)-oldJournal):]
	ctx, cancel := context.WithCancel(ctx)
	var reads sync.WaitGroup
	defer reads.Wait()
	defer cancel()
	for f := range s.remote.ahead(ctx, &reads, slices.Values(old)) {
		got := <-f
		switch {
		case errors.Is(got.err, fsapi.Corrupt): // it stays: it may begin an epoch
			s.log.Warn("an old object of the metadata's journal, which nothing needs, does not verify", "err", got.err)
		case got.err != nil:
			return nil, got.err
		case got.ok && got.rec.kind == kindBatches:
			strays = append(strays, got.rec.number)
		}
	}
	return strays, nil
}

// condemned says whether journal object n is listed as garbage.
func (m *manifest) condemned(n uint64) bool {
	return slices.ContainsFunc(m.garbage, func(g garbage) bool { return g.key == "" && g.first <= n && n <= g.last })
}

// watchFence looks now and then whether another writer took over, while this one
// writes nothing that would tell it.
func (s *store) watchFence() {
	every := s.o.FenceCheck
	for wait := every; ; {
		select {
		case <-s.o.Clock.After(wait):
		case <-s.bg.Done():
			return
		}
		idle := s.o.Clock.Now().Sub(time.Unix(0, s.lastClaim.Load()))
		if wait = every - idle; idle >= 0 && wait > 0 {
			continue
		}
		wait = every
		if err := s.checkFence(s.bg); err != nil && s.failure() != nil {
			return
		}
	}
}

// checkFence fails the store where the head is another writer's.
func (s *store) checkFence(ctx context.Context) error {
	h, _, err := s.remote.loadHead(ctx)
	switch {
	case errors.Is(err, fsapi.NotExist):
		return s.fail(fsapi.Errorf(fsapi.Corrupt, "kv: %s: the object %s is gone", s.remote.Info().URL, keyHead))
	case err != nil:
		return err
	case h.epoch > s.journal.epoch:
		return s.fail(s.fenced(keyHead))
	}
	s.claimed()
	return nil
}
