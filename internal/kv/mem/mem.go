// Package mem is a kv engine in memory, for tests and for state that need not
// survive. Its log is the history of the transaction layer alone; Sync does
// nothing.
//
// It owns: a persistent ordered map as a kv.Store. It must not know anything
// of transactions. It starts no goroutine; readers take no lock.
package mem

import (
	"bytes"
	"context"
	"hash/maphash"
	"sync/atomic"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/kv"
)

// Options of an engine. The zero value is usable.
type Options struct {
	// Clock stamps batches; nil is clock.Real.
	Clock clock.Clock
	// Rand jitters retries: a number below n. Nil is the runtime's source.
	Rand func(n int64) int64
	// TailBytes is as in kv.Config.
	TailBytes int64
}

// Open makes an empty engine.
func Open(o Options) (kv.Engine, error) {
	return kv.NewEngine(&store{seed: maphash.MakeSeed()}, kv.Config{Clock: o.Clock, Rand: o.Rand, TailBytes: o.TailBytes})
}

// store is the root of the newest tree. Trees are immutable.
type store struct {
	seed maphash.Seed
	root atomic.Pointer[node]
}

var _ kv.Store = (*store)(nil)

// NewReader implements kv.Store.
func (s *store) NewReader() (kv.StoreReader, error) { return reader{s.root.Load()}, nil }

// Apply implements kv.Store.
func (s *store) Apply(c kv.Commit) error {
	root := s.root.Load()
	ops := kv.ReadOps(c.Ops)
	for ops.Next() {
		root = s.apply(root, &ops.Op)
	}
	if err := ops.Err(); err != nil {
		return err
	}
	s.root.Store(root)
	return nil
}

func (s *store) apply(root *node, op *kv.Op) *node {
	var value []byte
	switch op.Kind {
	case kv.OpDelete:
		return root.without(op.Key)
	case kv.OpPut:
		value = append([]byte{}, op.Value...)
	case kv.OpAdd:
		old, _ := root.get(op.Key)
		n := kv.DecodeCounter(old) + op.Delta
		if n == 0 {
			return root.without(op.Key)
		}
		value = kv.AppendCounter(nil, n)
	}
	return root.with(&node{key: bytes.Clone(op.Key), value: value, rank: maphash.Bytes(s.seed, op.Key)})
}

// Admit implements kv.Store.
func (s *store) Admit(context.Context) error { return nil }

// Sync implements kv.Store.
func (s *store) Sync() error { return nil }

// Stats implements kv.Store.
func (s *store) Stats() kv.Stats { return kv.Stats{} }

// Close implements kv.Store.
func (s *store) Close() error { return nil }

// reader is one tree.
type reader struct{ root *node }

var _ kv.StoreReader = reader{}

// Get implements kv.StoreReader.
func (r reader) Get(key []byte) ([]byte, bool, error) {
	v, ok := r.root.get(key)
	return v, ok, nil
}

// Scan implements kv.StoreReader.
func (r reader) Scan(from, to []byte, fn func(key, value []byte) (bool, error)) error {
	_, err := r.root.scan(from, to, fn)
	return err
}

// Close implements kv.StoreReader.
func (r reader) Close() error { return nil }
