package mem

import (
	"hash/maphash"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/kvtest"
)

func TestConformance(t *testing.T) {
	kvtest.Run(t, kvtest.Subject{
		Open: func(t *testing.T) kv.Engine {
			e, err := Open(Options{})
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		Faulty: func(t *testing.T) (kv.Engine, func(fsapi.Kind)) {
			s := &logged{store: store{seed: maphash.MakeSeed()}}
			e, err := kv.NewEngine(s, kv.Config{Clock: quick{clock.Real}})
			if err != nil {
				t.Fatal(err)
			}
			return e, func(k fsapi.Kind) { s.kind.Store(int64(k)) }
		},
	})
}

// quick is the machine's clock without its patience.
type quick struct{ clock.Clock }

func (quick) After(time.Duration) <-chan time.Time { return time.After(time.Millisecond) }

// logged is a store with what stands for a log: the tree as it was last synced,
// which is all that is left when a write fails.
type logged struct {
	store
	synced *node
	kind   atomic.Int64 // what writing fails with; fsapi.Other: not at all
}

var _ kv.Recoverer = (*logged)(nil)

func (s *logged) failure() error {
	if k := fsapi.Kind(s.kind.Load()); k != fsapi.Other {
		return fsapi.Errorf(k, "the log fails")
	}
	return nil
}

func (s *logged) Apply(c kv.Commit) error {
	if err := s.failure(); err != nil {
		return err
	}
	return s.store.Apply(c)
}

func (s *logged) Sync() error {
	if err := s.failure(); err != nil {
		return err
	}
	s.synced = s.root.Load()
	return nil
}

func (s *logged) Recover(missing func(after kv.Seq) iter.Seq2[kv.Commit, error]) error {
	left := store{seed: s.seed}
	left.root.Store(s.synced)
	var p kv.Position
	if v, ok := s.synced.get(kv.StateKey()); ok {
		var err error
		if p, err = kv.DecodePosition(v); err != nil {
			return err
		}
	}
	for c, err := range missing(p.Seq) {
		if err == nil {
			err = left.Apply(c)
		}
		if err != nil {
			return err
		}
	}
	if err := s.failure(); err != nil {
		return err
	}
	s.synced = left.root.Load()
	s.root.Store(s.synced)
	return nil
}

func BenchmarkMem(b *testing.B) {
	kvtest.Bench(b, func(b *testing.B) kv.Engine {
		e, err := Open(Options{})
		if err != nil {
			b.Fatal(err)
		}
		return e
	})
}
