package kvtest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

func testSeqAndStamp(t *testing.T, e kv.Engine) {
	if e.LastSeq() != 0 || e.DurableSeq() != 0 {
		t.Fatalf("a new engine has LastSeq %d and DurableSeq %d", e.LastSeq(), e.DurableSeq())
	}
	tl, err := e.Tail(1)
	check(t, err)
	defer tl.Close()
	var last clock.Stamp
	for i := range 20 {
		if seq := put(t, e, "k", fmt.Sprint(i)); seq != kv.Seq(i+1) || e.LastSeq() != seq {
			t.Fatalf("update %d got seq %d, LastSeq %d", i, seq, e.LastSeq())
		}
		b, err := tl.Next(context.Background())
		check(t, err)
		if b.Stamp <= last {
			t.Fatalf("stamp %d follows %d", b.Stamp, last)
		}
		last = b.Stamp
	}
}

// testTailGapless follows from several goroutines while others commit, and
// rebuilds the state from what came.
func testTailGapless(t *testing.T, e kv.Engine) {
	const writers, each = 4, 200
	var wg sync.WaitGroup
	states := make([]map[string]string, 3)
	for i := range states {
		tl, err := e.Tail(1)
		check(t, err)
		wg.Go(func() {
			defer tl.Close()
			states[i] = replay(t, tl, writers*each)
		})
	}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				update(t, e, func(tx kv.Tx) {
					tx.Put(fmt.Appendf(nil, "k%d", i%17), fmt.Appendf(nil, "%d/%d", w, i))
					tx.Delete(fmt.Appendf(nil, "k%d", (i+5)%17))
					tx.Add(fmt.Appendf(nil, "n%d", i%3), int64(i%4)-1)
				})
			}
		})
	}
	wg.Wait()
	want := map[string]string{}
	read(t, e, func(r kv.Reader) {
		for _, p := range scan(t, r, "", "") {
			want[p.K] = p.V
		}
	})
	for i, s := range states {
		if diff := cmp.Diff(want, s); diff != "" {
			t.Errorf("tail %d leads to another state (-engine +tail):\n%s", i, diff)
		}
	}
}

// replay applies the batches 1 to n of a tail to an empty state.
func replay(t *testing.T, tl kv.Tail, n int) map[string]string {
	state := map[string]string{}
	for want := kv.Seq(1); want <= kv.Seq(n); want++ {
		b, err := tl.Next(context.Background())
		if err != nil || b.Seq != want {
			t.Errorf("tail gave batch %d and error %v, want batch %d", b.Seq, err, want)
			return nil
		}
		apply(state, b)
	}
	return state
}

// apply is what a batch does to a state.
func apply(state map[string]string, b kv.Batch) {
	for _, op := range b.Ops {
		switch k := string(op.Key); op.Kind {
		case kv.OpPut:
			state[k] = string(op.Value)
		case kv.OpDelete:
			delete(state, k)
		case kv.OpAdd:
			if n := kv.DecodeCounter([]byte(state[k])) + op.Delta; n != 0 {
				state[k] = string(kv.AppendCounter(nil, n))
			} else {
				delete(state, k)
			}
		}
	}
}

func testTailStates(t *testing.T, e kv.Engine) {
	ctx := context.Background()
	for i := range 5 {
		put(t, e, "k", fmt.Sprint(i))
	}
	_, err := e.Tail(0)
	wantKind(t, err, fsapi.NotExist)
	_, err = e.Tail(7)
	wantKind(t, err, fsapi.NotExist)
	tl, err := e.Tail(6)
	check(t, err)
	got := make(chan kv.Batch)
	go func() {
		b, err := tl.Next(ctx)
		if err != nil {
			t.Error(err)
		}
		got <- b
	}()
	put(t, e, "k", "six")
	if b := <-got; b.Seq != 6 || string(b.Ops[0].Value) != "six" {
		t.Fatalf("the waiting tail got %+v", b)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = tl.Next(canceled)
	wantKind(t, err, fsapi.Interrupted)
	errs := make(chan error)
	go func() { _, err := tl.Next(ctx); errs <- err }()
	tl.Close()
	wantKind(t, <-errs, fsapi.Closed)
	tl, err = e.Tail(7)
	check(t, err)
	go func() { _, err := tl.Next(ctx); errs <- err }()
	check(t, e.Close())
	wantKind(t, <-errs, fsapi.Closed)
}

func testSync(t *testing.T, e kv.Engine) {
	ctx := context.Background()
	check(t, e.Sync(ctx))
	seq := put(t, e, "k", "v")
	check(t, e.Sync(ctx))
	if d := e.DurableSeq(); d < seq {
		t.Fatalf("after Sync DurableSeq is %d, want at least %d", d, seq)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				seq, err := e.Update(ctx, kv.UpdateOptions{Sync: i%2 == 0}, func(tx kv.Tx) error {
					tx.Put(fmt.Appendf(nil, "%d/%d", w, i), nil)
					return nil
				})
				if i%2 == 1 {
					err = e.Sync(ctx)
				}
				if d := e.DurableSeq(); err != nil || d < seq {
					t.Errorf("batch %d acknowledged as durable at DurableSeq %d: %v", seq, d, err)
				}
			}
		})
	}
	wg.Wait()
}

// testSyncBeside syncs again and again beside others who write and wait for nothing.
func testSyncBeside(t *testing.T, e kv.Engine) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var syncers, writers sync.WaitGroup
	for range 2 {
		syncers.Go(func() {
			for ctx.Err() == nil {
				seq := e.LastSeq()
				if err := e.Sync(context.Background()); err != nil || e.DurableSeq() < seq {
					t.Errorf("DurableSeq is %d after Sync at %d: %v", e.DurableSeq(), seq, err)
					return
				}
			}
		})
	}
	for w := range 4 {
		writers.Go(func() {
			for i := range 2000 {
				put(t, e, fmt.Sprintf("%d/%d", w, i), "v")
			}
		})
	}
	writers.Wait()
	stop()
	syncers.Wait()
}

func testReopen(t *testing.T, p Place) {
	var stamp clock.Stamp
	for round := range 4 {
		e := p.Open(t)
		if e.LastSeq() != kv.Seq(3*round) || e.DurableSeq() != e.LastSeq() {
			t.Fatalf("opened at LastSeq %d, DurableSeq %d; want %d", e.LastSeq(), e.DurableSeq(), 3*round)
		}
		s, err := e.Snapshot()
		check(t, err)
		if s.Seq() != e.LastSeq() || s.Stamp() < stamp {
			t.Fatalf("opened at %d, %d after stamp %d", s.Seq(), s.Stamp(), stamp)
		}
		check(t, s.Close())
		for i := range 3 {
			update(t, e, func(tx kv.Tx) {
				tx.Put(fmt.Appendf(nil, "%d/%d", round, i), nil)
				tx.Add([]byte("n"), 1)
			})
		}
		read(t, e, func(r kv.Reader) {
			if n := counter(t, r, "n"); n != int64(3*round+3) {
				t.Fatalf("counter is %d in round %d", n, round)
			}
		})
		s, err = e.Snapshot()
		check(t, err)
		stamp = s.Stamp()
		check(t, s.Close())
		check(t, e.Close())
	}
	e := p.Open(t)
	defer func() { check(t, e.Close()) }()
	// The position "next" is good after every reopening.
	tl, err := e.Tail(e.LastSeq() + 1)
	check(t, err)
	defer tl.Close()
	seq := put(t, e, "k", "v")
	b, err := tl.Next(context.Background())
	check(t, err)
	if b.Seq != seq || b.Stamp <= stamp {
		t.Fatalf("after reopening came batch %d, %d; want %d and a stamp above %d", b.Seq, b.Stamp, seq, stamp)
	}
}
