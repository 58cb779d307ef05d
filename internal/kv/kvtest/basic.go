package kvtest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

func testReadYourWrites(t *testing.T, e kv.Engine) {
	update(t, e, func(tx kv.Tx) {
		for _, k := range []string{"b", "d", "f"} {
			tx.Put([]byte(k), []byte("old"))
		}
		tx.Add([]byte("n"), 5)
	})
	update(t, e, func(tx kv.Tx) {
		tx.Put([]byte("a"), []byte("new"))
		tx.Put([]byte("d"), []byte("one"))
		tx.Put([]byte("d"), []byte("two"))
		tx.Delete([]byte("f"))
		tx.Put([]byte("g"), []byte("new"))
		tx.Delete([]byte("g"))
		tx.Add([]byte("n"), -2)
		tx.Add([]byte("n"), 4)
		tx.Delete([]byte("o"))
		tx.Add([]byte("o"), 9)
		want := []pair{{"a", "new"}, {"b", "old"}, {"d", "two"}, {"n", string(kv.AppendCounter(nil, 7))}, {"o", string(kv.AppendCounter(nil, 9))}}
		if diff := cmp.Diff(want, scan(t, tx, "", "")); diff != "" {
			t.Fatalf("scan inside the transaction (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[1:3], scan(t, tx, "b", "e")); diff != "" {
			t.Fatalf("bounded scan inside the transaction (-want +got):\n%s", diff)
		}
		if g := get(t, tx, "d") + get(t, tx, "f") + get(t, tx, "g"); g != "two--" {
			t.Fatalf("own writes read as %q", g)
		}
		if n := counter(t, tx, "n"); n != 7 {
			t.Fatalf("counter reads %d inside the transaction, want 7", n)
		}
	})
	read(t, e, func(r kv.Reader) {
		if got := scan(t, r, "", ""); len(got) != 5 {
			t.Fatalf("committed state is %q", got)
		}
		if n := counter(t, r, "n"); n != 7 {
			t.Fatalf("counter reads %d after commit, want 7", n)
		}
	})
	update(t, e, func(tx kv.Tx) { tx.Delete([]byte("n")); tx.Add([]byte("n"), 1) })
	read(t, e, func(r kv.Reader) {
		if n := counter(t, r, "n"); n != 1 {
			t.Fatalf("a deleted and re-added counter reads %d, want 1", n)
		}
	})
}

func testEmptyUpdate(t *testing.T, e kv.Engine) {
	put(t, e, "k", "v")
	before := e.LastSeq()
	seq := update(t, e, func(tx kv.Tx) { get(t, tx, "k") })
	if seq != 0 || e.LastSeq() != before {
		t.Fatalf("an update that wrote nothing got seq %d and moved LastSeq from %d to %d", seq, before, e.LastSeq())
	}
}

func testAbort(t *testing.T, e kv.Engine) {
	boom := errors.New("boom")
	_, err := e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error {
		tx.Put([]byte("k"), []byte("v"))
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("Update returned %v instead of fn's error", err)
	}
	read(t, e, func(r kv.Reader) {
		if got := get(t, r, "k"); got != "-" {
			t.Fatalf("aborted write is visible: %q", got)
		}
	})
}

func testPanic(t *testing.T, e kv.Engine) {
	for range 3 {
		func() {
			defer func() {
				if recover() != "boom" {
					t.Fatal("panic of fn was swallowed")
				}
			}()
			_, _ = e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error {
				tx.Put([]byte("k"), []byte("v"))
				get(t, tx, "k2")
				panic("boom")
			})
		}()
	}
	put(t, e, "k", "after")
	read(t, e, func(r kv.Reader) {
		if got := get(t, r, "k"); got != "after" {
			t.Fatalf("k is %q", got)
		}
	})
}

func testReservedKeys(t *testing.T, e kv.Engine) {
	put(t, e, "\xfe\xff", "last")
	for _, key := range [][]byte{nil, {}, {kv.Reserved}, kv.StateKey(), bytes.Repeat([]byte("k"), kv.MaxKey+1)} {
		_, err := e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error { tx.Put(key, nil); return nil })
		wantKind(t, err, fsapi.Invalid)
		_, err = e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error { tx.Add(key, 1); return nil })
		wantKind(t, err, fsapi.Invalid)
		err = e.View(context.Background(), func(r kv.Reader) error { _, _, err := r.Get(key); return err })
		wantKind(t, err, fsapi.Invalid)
	}
	read(t, e, func(r kv.Reader) {
		if diff := cmp.Diff([]pair{{"\xfe\xff", "last"}}, scan(t, r, "", "")); diff != "" {
			t.Fatalf("scan of everything shows more than user keys (-want +got):\n%s", diff)
		}
		if got := scan(t, r, "\xff", ""); got != nil {
			t.Fatalf("scan of the reserved range shows %q", got)
		}
	})
}

func testMisuse(t *testing.T, e kv.Engine) {
	put(t, e, "k", "v")
	_, err := e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error {
		return tx.Scan(nil, nil, func(k, v []byte) (bool, error) { tx.Delete(k); return true, nil })
	})
	wantKind(t, err, fsapi.Invalid)
	_, err = e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error {
		tx.Put([]byte("c"), []byte("v"))
		tx.Add([]byte("c"), 1)
		return nil
	})
	wantKind(t, err, fsapi.Invalid)
	_, err = e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error {
		tx.Put([]byte("big"), make([]byte, kv.MaxValue+1))
		return nil
	})
	wantKind(t, err, fsapi.TooBig)
	read(t, e, func(r kv.Reader) {
		if diff := cmp.Diff([]pair{{"k", "v"}}, scan(t, r, "", "")); diff != "" {
			t.Fatalf("misuse left something behind (-want +got):\n%s", diff)
		}
	})
}

func testContext(t *testing.T, e kv.Engine) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := e.Update(ctx, kv.UpdateOptions{}, func(tx kv.Tx) error { tx.Put([]byte("k"), nil); return nil })
	wantKind(t, err, fsapi.Interrupted)
	wantKind(t, e.View(ctx, func(kv.Reader) error { return nil }), fsapi.Interrupted)
	ctx, cancel = context.WithCancel(context.Background())
	_, err = e.Update(ctx, kv.UpdateOptions{}, func(tx kv.Tx) error {
		get(t, tx, "k")
		put(t, e, "k", "other") // makes this attempt lose
		cancel()
		tx.Put([]byte("k"), []byte("mine"))
		return nil
	})
	wantKind(t, err, fsapi.Interrupted)
	read(t, e, func(r kv.Reader) {
		if got := get(t, r, "k"); got != "other" {
			t.Fatalf("an interrupted update left %q", got)
		}
	})
}

func testCounterZero(t *testing.T, e kv.Engine) {
	update(t, e, func(tx kv.Tx) { tx.Add([]byte("a"), 3); tx.Add([]byte("b"), 1) })
	update(t, e, func(tx kv.Tx) { tx.Add([]byte("a"), -3) })
	want := []pair{{"b", string(kv.AppendCounter(nil, 1))}}
	read(t, e, func(r kv.Reader) {
		if diff := cmp.Diff(want, scan(t, r, "", "")); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if got := get(t, r, "a"); got != "-" {
			t.Fatalf("a counter of 0 reads as %q", got)
		}
	})
	update(t, e, func(tx kv.Tx) {
		tx.Add([]byte("b"), -1)
		if got := scan(t, tx, "", ""); got != nil {
			t.Fatalf("a counter of 0 shows inside the transaction: %q", got)
		}
	})
}

func testClosed(t *testing.T, e kv.Engine) {
	put(t, e, "k", "v")
	tl, err := e.Tail(1)
	check(t, err)
	check(t, e.Close())
	ctx := context.Background()
	_, err = e.Update(ctx, kv.UpdateOptions{}, func(tx kv.Tx) error { return nil })
	wantKind(t, err, fsapi.Closed)
	wantKind(t, e.View(ctx, func(kv.Reader) error { return nil }), fsapi.Closed)
	wantKind(t, e.Sync(ctx), fsapi.Closed)
	_, err = e.Snapshot()
	wantKind(t, err, fsapi.Closed)
	_, err = e.Tail(1)
	wantKind(t, err, fsapi.Closed)
	if b, err := tl.Next(ctx); err != nil || b.Seq != 1 {
		t.Fatalf("a tail must still give what was committed before Close: %v, %v", b.Seq, err)
	}
	_, err = tl.Next(ctx)
	wantKind(t, err, fsapi.Closed)
	if e.DurableSeq() != e.LastSeq() {
		t.Fatalf("Close left batches %d to %d not durable", e.DurableSeq()+1, e.LastSeq())
	}
}

func testLargeValues(t *testing.T, e kv.Engine) {
	tl, err := e.Tail(1)
	check(t, err)
	defer tl.Close()
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	update(t, e, func(tx kv.Tx) {
		for _, k := range []string{"a", "b", "c"} {
			tx.Put([]byte(k), []byte(k+big))
		}
		if get(t, tx, "b") != "b"+big {
			t.Fatal("a large value reads back wrong inside its transaction")
		}
	})
	update(t, e, func(tx kv.Tx) { tx.Delete([]byte("a")) })
	read(t, e, func(r kv.Reader) {
		if get(t, r, "a") != "-" || get(t, r, "b") != "b"+big || get(t, r, "c") != "c"+big {
			t.Fatal("large values read back wrong")
		}
	})
	b, err := tl.Next(context.Background())
	check(t, err)
	if len(b.Ops) != 3 || string(b.Ops[2].Value) != "c"+big {
		t.Fatal("large values arrive wrong in the tail")
	}
}
