package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/bucket"
	"github.com/strakefs/strake/internal/osfs"
)

// onlooker follows the metadata in the bucket, as a server does that only reads.
type onlooker struct {
	f *bucket.Follower
	w *world

	mu   sync.Mutex
	seen kv.Seq            // the newest state that was shown; guarded by mu
	sums map[kv.Seq]uint64 // of states, as the writer or the follower showed them; guarded by mu
}

// look has a follower show what clients and upkeep do: states that there were, each
// no older than the one before, and once asked for all that is durable.
func (w *world) look() error {
	l := newLife(w.calls)
	st, err := w.ledger.store(l)
	if err != nil {
		return err
	}
	o := w.engineOptions(st, osfs.NewMem(osfs.MemOptions{}))
	o.PollMin, o.PollMax = time.Duration(1+w.rng.IntN(1000))*time.Millisecond, time.Duration(1+w.rng.IntN(20))*time.Second
	f, err := bucket.Follow(w.ctx, o)
	if err != nil {
		return errors.Join(err, st.Close())
	}
	k := &onlooker{f: f, w: w, sums: map[kv.Seq]uint64{}}
	ctx, stop := context.WithCancel(w.ctx)
	var watch sync.WaitGroup
	var werr error
	every := time.Duration(1+w.rng.IntN(3000)) * time.Millisecond
	watch.Go(func() { werr = k.watch(ctx, every) })
	for range 1 + w.rng.IntN(4) {
		do := pick(w.rng, []func(*world) error{(*world).work, (*world).work, (*world).busy, (*world).pack, (*world).bucketFails, (*world).checkpointNow})
		if err = do(w); err != nil {
			break
		}
		if err = k.compare(); err != nil {
			break
		}
	}
	stop()
	watch.Wait()
	w.say("      a follower showed %d states, to batch %d", len(k.sums), k.seen)
	return errors.Join(err, werr, f.Close(), st.Close())
}

func (w *world) checkpointNow() error {
	if w.foul() {
		return nil
	}
	return w.ledger.engine.Checkpoint(w.ctx)
}

// watch looks again and again.
func (k *onlooker) watch(ctx context.Context, every time.Duration) error {
	for ctx.Err() == nil {
		time.Sleep(every)
		if _, err := k.show(k.f); err != nil && !transient(err) {
			return err
		}
	}
	return nil
}

// transient says of an error that the bucket may be why.
func transient(err error) bool {
	switch fsapi.KindOf(err) {
	case fsapi.IO, fsapi.TimedOut, fsapi.Busy:
		return true
	}
	return false
}

// show is a state of an engine, which was not shown otherwise before.
func (k *onlooker) show(e kv.Engine) (kv.Seq, error) {
	snap, err := e.Snapshot()
	if err != nil {
		return 0, err
	}
	defer func() { _ = snap.Close() }() // of a view that was only read
	sum := xxhash.New()
	if err := snap.Scan(nil, nil, func(key, value []byte) (bool, error) {
		fmt.Fprintf(sum, "%d %d ", len(key), len(value))
		_, _ = sum.Write(key)
		_, _ = sum.Write(value)
		return true, nil
	}); err != nil {
		return 0, err
	}
	at, now := snap.Seq(), k.w.s.KV.LastSeq()
	k.mu.Lock()
	defer k.mu.Unlock()
	if was, ok := k.sums[at]; ok && was != sum.Sum64() {
		return at, fmt.Errorf("two states after batch %d", at)
	}
	k.sums[at] = sum.Sum64()
	if e != kv.Engine(k.f) {
		return at, nil
	}
	if at < k.seen || at > now {
		return at, fmt.Errorf("a follower shows the state after batch %d, of %d, and has shown that after batch %d", at, now, k.seen)
	}
	k.seen = at
	return at, nil
}

// compare has the follower show all that is durable.
func (k *onlooker) compare() error {
	if err := k.w.durable(); err != nil {
		return err
	}
	want := k.w.s.KV.DurableSeq()
	if _, err := k.show(k.w.s.KV); err != nil {
		return fmt.Errorf("the writer: %w", err)
	}
	if err := k.f.CatchUp(k.w.ctx); err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	at, err := k.show(k.f)
	if err == nil && at < want {
		err = fmt.Errorf("a follower that was to catch up with batch %d shows %d", want, at)
	}
	return err
}
