package kv

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// mending is a stub whose log can be begun anew.
type mending struct {
	stub
	recover func(missing func(after Seq) iter.Seq2[Commit, error]) error
}

func (s *mending) Recover(missing func(after Seq) iter.Seq2[Commit, error]) error {
	return s.recover(missing)
}

func collect(t *testing.T, missing iter.Seq2[Commit, error]) (seqs []Seq) {
	t.Helper()
	for c, err := range missing {
		if err != nil {
			t.Error(err)
			return seqs
		}
		ops, err := decodeOps(c.Ops)
		if err != nil {
			t.Error(err)
		}
		p, err := DecodePosition(ops[len(ops)-1].Value)
		if err != nil || p != (Position{Seq: c.Seq, Stamp: c.Stamp}) || string(ops[len(ops)-1].Key) != stateKey {
			t.Errorf("batch %d ends with %v, %v", c.Seq, ops[len(ops)-1], err)
		}
		seqs = append(seqs, c.Seq)
	}
	return seqs
}

// TestUnsettledIsKept: what is not durable is there to be written again, also
// where it is more than the history keeps otherwise.
func TestUnsettledIsKept(t *testing.T) {
	boom := fsapi.Errorf(fsapi.IO, "boom")
	var got []Seq
	s := &mending{recover: func(missing func(after Seq) iter.Seq2[Commit, error]) error {
		got = collect(t, missing(0))
		return nil
	}}
	e, err := NewEngine(s, Config{TailBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	big := func(inside func() error) error {
		_, err := e.Update(context.Background(), UpdateOptions{}, func(tx Tx) error {
			tx.Put([]byte("k"), make([]byte, 3<<10))
			return inside()
		})
		return err
	}
	// All three are let in while little is unsettled.
	err = big(func() error { return big(func() error { return big(func() error { return nil }) }) })
	if err != nil {
		t.Fatal(err)
	}
	s.sync = func() error { // fails once
		s.sync = nil
		return boom
	}
	if err := e.Sync(context.Background()); !errors.Is(err, boom) {
		t.Fatalf("Sync says %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []Seq{1, 2, 3}) {
		t.Errorf("written again: %v", got)
	}
}

// TestUnsettledIsBounded: writers who never sync do not fill the memory.
func TestUnsettledIsBounded(t *testing.T) {
	e, err := NewEngine(&mending{}, Config{TailBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for range 500 {
		if _, err := put(e, false); err != nil {
			t.Fatal(err)
		}
		if n := e.Stats().TailBytes; n > 4<<10 {
			t.Fatalf("%d bytes are kept, over the limit", n)
		}
	}
	if d := e.DurableSeq(); d < 400 {
		t.Errorf("batches to %d are durable", d)
	}
}

// TestRecoveryPauses: attempts come after growing pauses, and end with success,
// with Close, or at once where another has taken over.
func TestRecoveryPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Duration
		cause := fsapi.Errorf(fsapi.NoSpace, "full")
		start := time.Now()
		get := func() error { mu.Lock(); defer mu.Unlock(); return cause }
		set := func(err error) (attempts []time.Duration) { mu.Lock(); defer mu.Unlock(); cause = err; return at }
		s := &mending{recover: func(func(after Seq) iter.Seq2[Commit, error]) error {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(start))
			return cause
		}}
		s.sync, s.apply = get, func(Commit) error { return nil }
		e := newStubEngine(t, s)
		if _, err := put(e, true); !errors.Is(err, fsapi.NoSpace) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Hour)
		if a := set(nil); len(a) < 300 || len(a) > 400 || a[0] != 0 || a[1] != firstPause || a[2] != 3*firstPause {
			t.Errorf("%d attempts in an hour: %v", len(a), a)
		}
		time.Sleep(lastPause)
		synctest.Wait()
		if seq, err := put(e, true); err != nil || e.DurableSeq() != seq {
			t.Errorf("batch %d: %v", seq, err)
		}
		before := set(fsapi.Errorf(fsapi.Fenced, "fenced"))
		for range 3 {
			if _, err := put(e, true); !errors.Is(err, fsapi.Fenced) {
				t.Errorf("got %v", err)
			}
			time.Sleep(time.Hour)
		}
		if after := set(get()); len(after) != len(before) {
			t.Error("an engine that was fenced tries to go on")
		}
		if err := e.Close(); !errors.Is(err, fsapi.Fenced) {
			t.Errorf("Close says %v", err)
		}
	})
}

func newStubEngine(t *testing.T, s Store) Engine {
	t.Helper()
	e, err := NewEngine(s, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestRecoveryLacksBatches: a log that ends where this engine never was, or
// before what it remembers, is not gone on with.
func TestRecoveryLacksBatches(t *testing.T) {
	for _, after := range []Seq{0, 1000} {
		var got error
		s := &mending{recover: func(missing func(after Seq) iter.Seq2[Commit, error]) error {
			for _, err := range missing(after) {
				if err != nil {
					got = err
				}
			}
			return got
		}}
		e, err := NewEngine(s, Config{TailBytes: 1 << 10})
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if _, err := put(e, true); err != nil {
				t.Fatal(err)
			}
		}
		s.sync = func() error { return fsapi.Errorf(fsapi.IO, "boom") }
		if _, err = put(e, true); err == nil {
			t.Fatal("Update says nothing")
		}
		if err := e.Close(); !errors.Is(err, fsapi.Corrupt) || !errors.Is(got, fsapi.Corrupt) {
			t.Errorf("after %d: %v, Close says %v", after, got, err)
		}
	}
}
