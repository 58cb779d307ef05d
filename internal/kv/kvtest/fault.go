package kvtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// faulty is an engine whose log a test can have fail.
type faulty struct {
	kv.Engine
	fail func(kind fsapi.Kind)
}

// runFaults runs what must hold while the log fails, and when that ends.
func runFaults(t *testing.T, s Subject) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, e faulty, kind fsapi.Kind)
	}{
		{"RefusesAndGoesOn", testRefusesAndGoesOn},
		{"KeepsWhatIsRead", testKeepsWhatIsRead},
		{"FailsAgain", testFailsAgain},
		{"WritersGoOn", testWritersGoOn},
		{"CloseWhileFailing", testCloseWhileFailing},
		{"CloseAfterwards", testCloseAfterwards},
	} {
		for _, kind := range []fsapi.Kind{fsapi.NoSpace, fsapi.IO} {
			t.Run(fmt.Sprintf("Log%s/%v", c.name, kind), func(t *testing.T) {
				e, fail := s.Faulty(t)
				c.test(t, faulty{e, fail}, kind)
			})
		}
	}
}

// patience is how long an engine may take to go on.
const patience = 20 * time.Second

// comeBack writes until that is taken, and checks what must hold then where the
// log had failed: all that was committed before is durable.
func (e faulty) comeBack(t *testing.T) kv.Seq {
	t.Helper()
	last := kv.Seq(0)
	if e.Stats().Failure != nil {
		last = e.LastSeq()
	}
	for end := time.Now().Add(patience); ; {
		seq, err := e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error {
			tx.Put([]byte("back"), nil)
			return nil
		})
		if err == nil {
			if d := e.DurableSeq(); d < last {
				t.Fatalf("batch %d is taken, but only %d of the %d before the failure are durable", seq, d, last)
			}
			return seq
		}
		if time.Now().After(end) {
			t.Fatalf("still refused, although the log does not fail any more: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
}

// notice has the engine find out that its log fails, with a batch that is
// visible and not durable.
func (e faulty) notice(t *testing.T, kind fsapi.Kind) {
	t.Helper()
	put(t, e, "pending", "v")
	e.fail(kind)
	wantKind(t, e.Sync(context.Background()), kind)
}

func (e faulty) end(t *testing.T) {
	t.Helper()
	e.fail(fsapi.Other)
	check(t, e.Close())
}

func testRefusesAndGoesOn(t *testing.T, e faulty, kind fsapi.Kind) {
	defer e.end(t)
	ctx := context.Background()
	put(t, e, "safe", "v")
	check(t, e.Sync(ctx))
	durable := e.DurableSeq()
	e.notice(t, kind)
	for range 20 {
		_, err := e.Update(ctx, kv.UpdateOptions{}, func(tx kv.Tx) error { tx.Put([]byte("refused"), nil); return nil })
		wantKind(t, err, kind)
		wantKind(t, e.Sync(ctx), kind)
	}
	if s := e.Stats(); s.LogFailures == 0 || s.Failure == nil || fsapi.KindOf(s.Failure) != kind {
		t.Errorf("stats tell of %d failures, now %v", s.LogFailures, s.Failure)
	}
	if e.DurableSeq() != durable || e.LastSeq() != durable+1 {
		t.Fatalf("batches to %d are there and to %d durable; want %d and %d", e.LastSeq(), e.DurableSeq(), durable+1, durable)
	}
	want := []pair{{"pending", "v"}, {"safe", "v"}}
	read(t, e, func(r kv.Reader) {
		if diff := cmp.Diff(want, scan(t, r, "", "")); diff != "" {
			t.Fatalf("while the log fails (-want +got):\n%s", diff)
		}
	})
	tl, err := e.Tail(durable + 1)
	check(t, err)
	defer tl.Close()
	e.fail(fsapi.Other)
	seq := e.comeBack(t)
	for want := durable + 1; want <= seq; want++ {
		b, err := tl.Next(ctx)
		check(t, err)
		if b.Seq != want {
			t.Fatalf("tail gives batch %d, want %d", b.Seq, want)
		}
	}
	check(t, e.Sync(ctx))
	read(t, e, func(r kv.Reader) {
		if diff := cmp.Diff(append([]pair{{"back", ""}}, want...), scan(t, r, "", "")); diff != "" {
			t.Fatalf("afterwards (-want +got):\n%s", diff)
		}
	})
	if s := e.Stats(); s.Failure != nil {
		t.Errorf("stats tell of a failure that has ended: %v", s.Failure)
	}
}

// testKeepsWhatIsRead: a view and a snapshot from before show the same after.
func testKeepsWhatIsRead(t *testing.T, e faulty, kind fsapi.Kind) {
	defer e.end(t)
	const keys = 3000
	for i := range keys {
		put(t, e, fmt.Sprintf("k%04d", i), string(make([]byte, 300)))
	}
	s, err := e.Snapshot()
	check(t, err)
	defer func() { _ = s.Close() }() // where the test fails: the engine waits for it
	count := func(r kv.Reader) (n int) {
		check(t, r.Scan(nil, nil, func(_, _ []byte) (bool, error) { n++; return true, nil }))
		return n
	}
	read(t, e, func(r kv.Reader) {
		if got := get(t, r, "k0000"); len(got) != 300 {
			t.Fatalf("value of %d bytes", len(got))
		}
		e.notice(t, kind)
		e.fail(fsapi.Other)
		e.comeBack(t)
		// What the new log has no use for goes; what is read must stay.
		for i := range keys {
			update(t, e, func(tx kv.Tx) { tx.Delete(fmt.Appendf(nil, "k%04d", i)) })
		}
		check(t, e.Sync(context.Background()))
		if n := count(r); n != keys {
			t.Errorf("the view from before the failure shows %d of %d keys", n, keys)
		}
		if n := count(s); n != keys {
			t.Errorf("the snapshot from before the failure shows %d of %d keys", n, keys)
		}
	})
	check(t, s.Close())
	read(t, e, func(r kv.Reader) {
		if n := count(r); n != 2 {
			t.Errorf("%d keys are left, want 2", n)
		}
	})
}

// testFailsAgain: counters and plain keys are right after one failure upon
// another.
func testFailsAgain(t *testing.T, e faulty, kind fsapi.Kind) {
	defer e.end(t)
	const rounds, each = 6, 20
	for round := range rounds {
		for i := range each {
			update(t, e, func(tx kv.Tx) {
				tx.Add([]byte("n"), 1)
				tx.Put(fmt.Appendf(nil, "%d/%d", round, i), nil)
			})
		}
		e.notice(t, kind)
		e.fail(fsapi.Other)
		e.comeBack(t)
	}
	read(t, e, func(r kv.Reader) {
		if n := counter(t, r, "n"); n != rounds*each {
			t.Errorf("the counter is %d, want %d", n, rounds*each)
		}
		if n := len(scan(t, r, "", "")); n != rounds*each+3 {
			t.Errorf("%d keys, want %d", n, rounds*each+3)
		}
	})
}

// testWritersGoOn: what was taken is there, what was refused is not, whoever
// wrote and synced meanwhile, and the tail tells the same story.
func testWritersGoOn(t *testing.T, e faulty, kind fsapi.Kind) {
	defer e.end(t)
	tl, err := e.Tail(1)
	check(t, err)
	defer tl.Close()
	const writers, each = 4, 300
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for on := false; ; on = !on {
			select {
			case <-done:
				return
			case <-time.After(3 * time.Millisecond):
			}
			if on {
				e.fail(fsapi.Other)
			} else {
				e.fail(kind)
			}
		}
	})
	var work sync.WaitGroup
	for w := range writers {
		work.Go(func() { e.write(t, kind, w, each) })
	}
	work.Wait()
	close(done)
	wg.Wait()
	e.fail(fsapi.Other)
	e.comeBack(t)
	want := map[string]string{}
	read(t, e, func(r kv.Reader) {
		for _, p := range scan(t, r, "", "") {
			want[p.K] = p.V
		}
		if n := counter(t, r, "n"); n != writers*each {
			t.Errorf("the counter is %d, want %d", n, writers*each)
		}
	})
	if diff := cmp.Diff(want, replay(t, tl, int(e.LastSeq()))); diff != "" {
		t.Errorf("the tail leads to another state (-engine +tail):\n%s", diff)
	}
}

// write commits n transactions, each as often as it takes.
func (e faulty) write(t *testing.T, kind fsapi.Kind, w, n int) {
	ctx := context.Background()
	for i := range n {
		for end := time.Now().Add(patience); ; {
			seq, err := e.Update(ctx, kv.UpdateOptions{Sync: i%5 == 0}, func(tx kv.Tx) error {
				tx.Put(fmt.Appendf(nil, "%d/%d", w, i), nil)
				tx.Add([]byte("n"), 1)
				return nil
			})
			if err == nil && i%5 == 0 && e.DurableSeq() < seq {
				t.Errorf("batch %d acknowledged as durable at DurableSeq %d", seq, e.DurableSeq())
			}
			if err == nil || seq != 0 {
				break
			}
			if fsapi.KindOf(err) != kind || time.Now().After(end) {
				t.Errorf("writer %d: %v", w, err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// testCloseWhileFailing: an engine that ends with what is not durable says so.
func testCloseWhileFailing(t *testing.T, e faulty, kind fsapi.Kind) {
	e.notice(t, kind)
	wantKind(t, e.Close(), kind)
	_, err := e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error { tx.Put([]byte("k"), nil); return nil })
	wantKind(t, err, fsapi.Closed)
}

// testCloseAfterwards: Close is an occasion to try again.
func testCloseAfterwards(t *testing.T, e faulty, kind fsapi.Kind) {
	e.notice(t, kind)
	e.fail(fsapi.Other)
	last := e.LastSeq()
	check(t, e.Close())
	if e.DurableSeq() != last {
		t.Errorf("closed without an error, with batches to %d of %d durable", e.DurableSeq(), last)
	}
}
