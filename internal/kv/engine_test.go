package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// stub is a Store of nothing whose calls a test decides.
type stub struct {
	apply  func(Commit) error
	sync   func() error
	reader func() // before each view
}

func (s *stub) NewReader() (StoreReader, error) {
	if s.reader != nil {
		s.reader()
	}
	return stubReader{}, nil
}
func (s *stub) Apply(c Commit) error {
	if s.apply == nil {
		return nil
	}
	return s.apply(c)
}
func (s *stub) Admit(context.Context) error { return nil }
func (s *stub) Sync() error {
	if s.sync == nil {
		return nil
	}
	return s.sync()
}
func (s *stub) Stats() Stats { return Stats{} }
func (s *stub) Close() error { return nil }

type stubReader struct{}

func (stubReader) Get([]byte) ([]byte, bool, error) { return nil, false, nil }
func (stubReader) Scan(_, _ []byte, _ func(k, v []byte) (bool, error)) error {
	return nil
}
func (stubReader) Close() error { return nil }

func newStub(t *testing.T, s *stub, c Config) Engine {
	t.Helper()
	e, err := NewEngine(s, c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func put(e Engine, sync bool) (Seq, error) {
	return e.Update(context.Background(), UpdateOptions{Sync: sync}, func(tx Tx) error {
		tx.Put([]byte("k"), []byte("v"))
		return nil
	})
}

// TestSyncsShare: while one flush runs, all who come share the next.
func TestSyncsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flushes atomic.Int64
		gate := make(chan struct{})
		e := newStub(t, &stub{sync: func() error { flushes.Add(1); <-gate; return nil }}, Config{})
		var wg sync.WaitGroup
		start := func() {
			wg.Go(func() {
				if seq, err := put(e, true); err != nil || e.DurableSeq() < seq {
					t.Errorf("batch %d: %v at DurableSeq %d", seq, err, e.DurableSeq())
				}
			})
		}
		start()
		synctest.Wait()
		for range 16 {
			start()
		}
		synctest.Wait()
		if e.DurableSeq() != 0 {
			t.Errorf("DurableSeq is %d before any flush ended", e.DurableSeq())
		}
		gate <- struct{}{}
		synctest.Wait()
		if d := e.DurableSeq(); d != 1 {
			t.Errorf("DurableSeq is %d; the flush that ended began after batch 1 and before 2", d)
		}
		gate <- struct{}{}
		wg.Wait()
		if n := flushes.Load(); n != 2 {
			t.Errorf("17 callers took %d flushes, want 2", n)
		}
		close(gate)
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestSyncInterrupted: who waits for a shared flush may leave; the others get
// it all the same.
func TestSyncInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		e := newStub(t, &stub{sync: func() error { <-gate; return nil }}, Config{})
		go put(e, true)
		synctest.Wait()
		if _, err := put(e, false); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		left := make(chan error, 2)
		go func() { left <- e.Sync(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-left; fsapi.KindOf(err) != fsapi.Interrupted {
			t.Errorf("Sync says %v", err)
		}
		close(gate)
		synctest.Wait()
		if e.DurableSeq() != 2 {
			t.Errorf("DurableSeq is %d, want 2", e.DurableSeq())
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// readThenWrite is a transaction that reads what put writes. It says how often it ran.
func readThenWrite(e Engine) (runs int, err error) {
	_, err = e.Update(context.Background(), UpdateOptions{}, func(tx Tx) error {
		runs++
		tx.Put([]byte("other"), nil)
		_, _, err := tx.Get([]byte("k"))
		return err
	})
	return runs, err
}

// TestCommitBeforeView: what is committed just before a transaction gets its view is
// a conflict: the view may be without it.
func TestCommitBeforeView(t *testing.T) {
	s := &stub{}
	e := newStub(t, s, Config{})
	defer e.Close()
	s.reader = func() {
		s.reader = nil
		if _, err := put(e, false); err != nil {
			t.Error(err)
		}
	}
	if runs, err := readThenWrite(e); runs != 2 || err != nil {
		t.Errorf("%d runs, %v", runs, err)
	}
}

// TestCommitWhileWaiting: a transaction that has waited for another to commit looks
// whether that wrote what it read.
func TestCommitWhileWaiting(t *testing.T) {
	applying, release := make(chan struct{}), make(chan struct{})
	s := &stub{apply: func(c Commit) error {
		if c.Seq == 1 {
			close(applying)
			<-release
		}
		return nil
	}}
	e := newStub(t, s, Config{})
	defer e.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := put(e, false); err != nil {
			t.Error(err)
		}
	})
	<-applying
	wg.Go(func() {
		if runs, err := readThenWrite(e); runs < 2 || err != nil {
			t.Errorf("%d runs, %v", runs, err)
		}
	})
	for !waits("(*engine).update") {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
}

// waits says whether a goroutine is in a function and waits for a lock there.
func waits(in string) bool {
	all := make([]byte, 1<<20)
	for g := range bytes.SplitSeq(all[:runtime.Stack(all, true)], []byte("\n\n")) {
		if bytes.Contains(g, []byte(in)) && bytes.Contains(g, []byte("sync.(*Mutex).Lock")) {
			return true
		}
	}
	return false
}

// TestFailsClosed: after the log of a store that does not recover failed,
// nothing is acknowledged any more, and the first error is told to everyone.
func TestFailsClosed(t *testing.T) {
	boom := errors.New("boom")
	for _, at := range []string{"apply", "sync"} {
		fail := false
		s := &stub{
			apply: func(Commit) error {
				if fail && at == "apply" {
					return fsapi.Wrap(fsapi.NoSpace, boom, "write")
				}
				return nil
			},
			sync: func() error {
				if fail && at == "sync" {
					return fsapi.Wrap(fsapi.NoSpace, boom, "flush")
				}
				return nil
			},
		}
		e := newStub(t, s, Config{})
		if _, err := put(e, true); err != nil {
			t.Fatal(err)
		}
		fail = true
		_, first := put(e, true)
		fail = false
		_, second := put(e, false)
		// Where nothing waits to be written, Sync has nothing to say.
		if err := e.Sync(context.Background()); (err == nil) != (e.DurableSeq() == e.LastSeq()) {
			t.Errorf("%s failed: batches to %d of %d are durable, and Sync says %v", at, e.DurableSeq(), e.LastSeq(), err)
		}
		for _, err := range []error{first, second, e.Close()} {
			if err == nil || !errors.Is(err, boom) || fsapi.KindOf(err) != fsapi.NoSpace {
				t.Errorf("%s failed: got %v", at, err)
			}
		}
		if e.DurableSeq() != 1 {
			t.Errorf("%s failed: DurableSeq is %d, want 1", at, e.DurableSeq())
		}
	}
}

// TestTailFallsBehind: a bounded history drops the oldest, tells those who
// needed it, and keeps what fits.
func TestTailFallsBehind(t *testing.T) {
	e := newStub(t, &stub{}, Config{TailBytes: 4 << 10})
	defer e.Close()
	slow, err := e.Tail(1)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err := put(e, false); err != nil {
			t.Fatal(err)
		}
	}
	if b := e.Stats().TailBytes; b > 4<<10 {
		t.Errorf("history holds %d bytes, over its limit", b)
	}
	if _, err := slow.Next(context.Background()); fsapi.KindOf(err) != fsapi.NotExist {
		t.Errorf("a tail that fell behind got %v", err)
	}
	if _, err := e.Tail(900); fsapi.KindOf(err) != fsapi.NotExist {
		t.Errorf("a tail from what is gone got %v", err)
	}
	near, err := e.Tail(995)
	if err != nil {
		t.Fatal(err)
	}
	for want := Seq(995); want <= 1000; want++ {
		if b, err := near.Next(context.Background()); err != nil || b.Seq != want {
			t.Errorf("got batch %d, %v; want %d", b.Seq, err, want)
		}
	}
}

// TestOldTransactionConflicts: one whose window is no longer retained must not
// commit on what it read.
func TestOldTransactionConflicts(t *testing.T) {
	e := newStub(t, &stub{}, Config{TailBytes: 1 << 10})
	defer e.Close()
	for _, read := range []func(tx Tx) error{
		func(tx Tx) error { _, _, err := tx.Get([]byte("k")); return err },
		func(tx Tx) error {
			return tx.Scan(nil, nil, func(k, v []byte) (bool, error) { return true, nil })
		},
	} {
		tries := 0
		_, err := e.Update(context.Background(), UpdateOptions{}, func(tx Tx) error {
			if err := read(tx); err != nil {
				return err
			}
			if tries++; tries == 1 {
				for range 100 {
					if _, err := put(e, false); err != nil {
						return err
					}
				}
			}
			tx.Put([]byte("other"), nil)
			return nil
		})
		if err != nil || tries != 2 {
			t.Errorf("committed after %d tries, %v; want 2", tries, err)
		}
	}
}

// TestRecoveredMustFit: a log with a gap, or one that ends elsewhere than the
// store, is not accepted.
func TestRecoveredMustFit(t *testing.T) {
	b := func(s Seq) Batch { return Batch{Seq: s, Ops: []Op{{Kind: OpDelete, Key: []byte("k")}}} }
	for _, c := range []Config{
		{Last: Position{Seq: 3}, Recovered: []Batch{b(1), b(3)}},
		{Last: Position{Seq: 3}, Recovered: []Batch{b(1), b(2)}},
		{Last: Position{Seq: 1}, Recovered: []Batch{b(1), b(2)}},
	} {
		if _, err := NewEngine(&stub{}, c); err == nil || fsapi.KindOf(err) != fsapi.Corrupt {
			t.Errorf("Last %d, %d recovered: %v", c.Last.Seq, len(c.Recovered), err)
		}
	}
}

// TestManyKeys: the index of a transaction's own writes, above and below the
// number from which there is a map.
func TestManyKeys(t *testing.T) {
	s := newStamps()
	for n := range 3 * indexFrom {
		var w writes
		for range 2 { // the second time after a reset
			w.reset()
			for i := range n {
				k := fmt.Appendf(nil, "k%d", i)
				w.put(s.hash(k), k, []byte("first"))
				w.put(s.hash(k), k, fmt.Appendf(nil, "v%d", i))
			}
			for i := range n + 1 {
				k := fmt.Appendf(nil, "k%d", i)
				got := w.find(s.hash(k), k)
				if (got != nil) != (i < n) || got != nil && string(got.val.of(w.enc)) != fmt.Sprintf("v%d", i) {
					t.Fatalf("%d keys: key %d is %v", n, i, got)
				}
			}
		}
	}
	// Two keys of one hash, in the map and not.
	var w writes
	for i := range 2 * indexFrom {
		k := fmt.Appendf(nil, "k%d", i)
		w.put(7, k, k)
		for j := range i + 1 {
			k := fmt.Appendf(nil, "k%d", j)
			if got := w.find(7, k); got == nil || string(got.val.of(w.enc)) != string(k) {
				t.Fatalf("%d keys of one hash: key %d is %v", i+1, j, got)
			}
		}
	}
}

// BenchmarkUpdate is the transaction layer alone, over a store of nothing: 3
// reads, 5 writes, as making a file does.
func BenchmarkUpdate(b *testing.B) {
	e, err := NewEngine(&stub{}, Config{})
	if err != nil {
		b.Fatal(err)
	}
	keys := make([][]byte, 8)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key-%d-of-some-length", i)
	}
	value := make([]byte, 120)
	run := func() {
		_, err := e.Update(context.Background(), UpdateOptions{}, func(tx Tx) error {
			for _, k := range keys[:3] {
				if _, _, err := tx.Get(k); err != nil {
					return err
				}
			}
			for _, k := range keys[3:6] {
				tx.Put(k, value)
			}
			tx.Add(keys[6], 1)
			tx.Add(keys[7], 1)
			return nil
		})
		if err != nil {
			b.Error(err)
		}
	}
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			run()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				run()
			}
		})
	})
}
