package kv

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
)

// Follower is an Engine of batches that another engine committed: whoever reads
// that one's log gives them to Publish. Updates are refused with fsapi.ReadOnly.
type Follower struct{ e *engine }

var _ Engine = (*Follower)(nil)

// Follow makes a follower of a store. The follower owns the store.
func Follow(s Store, c Config) (*Follower, error) {
	e, err := NewEngine(s, c)
	if err != nil {
		return nil, err
	}
	return &Follower{e: e.(*engine)}, nil //nolint:forcetypeassert // NewEngine makes nothing else
}

// Publish applies the batch after the newest one and makes it visible.
// fsapi.Invalid where it is another. Concurrent calls take turns.
func (f *Follower) Publish(c Commit) error {
	f.e.commit.Lock()
	defer f.e.commit.Unlock()
	if want := f.e.LastSeq() + 1; c.Seq != want {
		return fsapi.Errorf(fsapi.Invalid, "kv: batch %d published where %d should be", c.Seq, want)
	}
	if err := f.e.store.Apply(c); err != nil {
		return err
	}
	n := len(c.Ops) - stateOp
	f.e.hlc.Observe(c.Stamp)
	entry := newEntry(Position{Seq: c.Seq, Stamp: c.Stamp}, c.Ops[:n:n])
	f.e.history.publish(entry)
	f.e.history.settled(entry)
	f.e.commits.Add(1)
	return nil
}

// Jump says that the store holds all batches up to p, which is not before the
// newest one, without having got them from Publish. Tails end with
// fsapi.NotExist, unless p is the newest one.
func (f *Follower) Jump(p Position) {
	f.e.commit.Lock()
	defer f.e.commit.Unlock()
	if p.Seq <= f.e.LastSeq() {
		return
	}
	f.e.hlc.Observe(p.Stamp)
	f.e.history.jump(p)
}

// View implements Engine.
func (f *Follower) View(ctx context.Context, fn func(r Reader) error) error { return f.e.View(ctx, fn) }

// Update implements Engine.
func (f *Follower) Update(context.Context, UpdateOptions, func(tx Tx) error) (Seq, error) {
	return 0, fsapi.Errorf(fsapi.ReadOnly, "kv: this engine follows another one: write there")
}

// Sync implements Engine: what is visible here is durable where it was read.
func (f *Follower) Sync(ctx context.Context) error {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	if err := f.e.enter(); err != nil {
		return err
	}
	f.e.leave()
	return nil
}

// LastSeq implements Engine.
func (f *Follower) LastSeq() Seq { return f.e.LastSeq() }

// DurableSeq implements Engine.
func (f *Follower) DurableSeq() Seq { return f.e.DurableSeq() }

// Tail implements Engine.
func (f *Follower) Tail(from Seq) (Tail, error) { return f.e.Tail(from) }

// Snapshot implements Engine.
func (f *Follower) Snapshot() (Snapshot, error) { return f.e.Snapshot() }

// Stats implements Engine.
func (f *Follower) Stats() Stats { return f.e.Stats() }

// Close implements Engine. No Publish may run.
func (f *Follower) Close() error { return f.e.Close() }
