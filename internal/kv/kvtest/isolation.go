package kvtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

func testViewStable(t *testing.T, e kv.Engine) {
	put(t, e, "a", "1")
	put(t, e, "b", "1")
	read(t, e, func(r kv.Reader) {
		first := get(t, r, "a")
		update(t, e, func(tx kv.Tx) { tx.Put([]byte("a"), []byte("2")); tx.Put([]byte("b"), []byte("2")) })
		if again, b := get(t, r, "a"), get(t, r, "b"); again != first || b != first {
			t.Fatalf("a view read a=%s, then a=%s b=%s", first, again, b)
		}
		if got := scan(t, r, "", ""); got[1].V != first {
			t.Fatalf("a view's scan shows a later write: %q", got)
		}
	})
}

func testSnapshotStable(t *testing.T, e kv.Engine) {
	seq := put(t, e, "a", "1")
	s, err := e.Snapshot()
	check(t, err)
	defer func() { check(t, s.Close()) }()
	update(t, e, func(tx kv.Tx) {
		for i := range 100 {
			tx.Put(fmt.Appendf(nil, "k%03d", i), []byte("x"))
		}
		tx.Put([]byte("a"), []byte("2"))
	})
	if s.Seq() != seq || s.Stamp() == 0 {
		t.Fatalf("snapshot has seq %d and stamp %d, want seq %d", s.Seq(), s.Stamp(), seq)
	}
	if got := scan(t, s, "", ""); len(got) != 1 || got[0].V != "1" {
		t.Fatalf("snapshot shows later writes: %d keys", len(got))
	}
}

// testBank moves money between accounts while scans add it up.
func testBank(t *testing.T, e kv.Engine) {
	const accounts, total, movers, moves = 8, 800, 4, 150
	key := func(i int) []byte { return fmt.Appendf(nil, "acct%d", i) }
	update(t, e, func(tx kv.Tx) {
		for i := range accounts {
			tx.Put(key(i), []byte(strconv.Itoa(total/accounts)))
		}
	})
	var wg sync.WaitGroup
	for m := range movers {
		rng := rand.New(rand.NewPCG(uint64(m), 7))
		wg.Go(func() {
			for range moves {
				from, to, amount := rng.IntN(accounts), rng.IntN(accounts), rng.IntN(20)
				update(t, e, func(tx kv.Tx) {
					a, _ := strconv.Atoi(get(t, tx, string(key(from))))
					b, _ := strconv.Atoi(get(t, tx, string(key(to))))
					if from == to || a < amount {
						return
					}
					tx.Put(key(from), []byte(strconv.Itoa(a-amount)))
					tx.Put(key(to), []byte(strconv.Itoa(b+amount)))
				})
			}
		})
	}
	wg.Go(func() {
		for range moves {
			read(t, e, func(r kv.Reader) { wantTotal(t, r, total) })
		}
	})
	wg.Wait()
	read(t, e, func(r kv.Reader) { wantTotal(t, r, total) })
}

func wantTotal(t *testing.T, r kv.Reader, total int) {
	t.Helper()
	sum := 0
	for _, p := range scan(t, r, "acct", "accu") {
		n, _ := strconv.Atoi(p.V)
		if n < 0 {
			t.Errorf("account %s is at %d", p.K, n)
		}
		sum += n
	}
	if sum != total {
		t.Errorf("accounts add up to %d, want %d", sum, total)
	}
}

// testWriteSkew: two doctors on call, each may leave only while the other
// stays. Each transaction reads both and writes one.
func testWriteSkew(t *testing.T, e kv.Engine) {
	for round := range 50 {
		a, b := fmt.Sprintf("a%d", round), fmt.Sprintf("b%d", round)
		update(t, e, func(tx kv.Tx) { tx.Put([]byte(a), []byte("on")); tx.Put([]byte(b), []byte("on")) })
		leave := func(me, other string, meet func()) {
			update(t, e, func(tx kv.Tx) {
				if get(t, tx, me)+get(t, tx, other) != "onon" {
					return
				}
				meet()
				tx.Put([]byte(me), []byte("off"))
			})
		}
		together(leave, a, b)
		read(t, e, func(r kv.Reader) {
			if got := get(t, r, a) + get(t, r, b); got != "offon" && got != "onoff" {
				t.Fatalf("round %d: both left: %s", round, got)
			}
		})
	}
}

// testPhantom: each transaction counts a range and inserts into it only where
// it is empty.
func testPhantom(t *testing.T, e kv.Engine) {
	for round := range 50 {
		p := fmt.Sprintf("p%02d/", round)
		claim := func(me, _ string, meet func()) {
			update(t, e, func(tx kv.Tx) {
				if len(scan(t, tx, p, p+"~")) > 0 {
					return
				}
				meet()
				tx.Put([]byte(p+me), nil)
			})
		}
		together(claim, "a", "b")
		read(t, e, func(r kv.Reader) {
			if got := scan(t, r, p, p+"~"); len(got) != 1 {
				t.Fatalf("round %d: %q claimed the range", round, got)
			}
		})
	}
}

// together runs fn for both sides and, on their first attempt, brings both to
// the same point after reading.
func together(fn func(me, other string, meet func()), a, b string) {
	var wg, both sync.WaitGroup
	both.Add(2)
	for _, s := range [][2]string{{a, b}, {b, a}} {
		var once sync.Once
		wg.Go(func() { fn(s[0], s[1], func() { once.Do(func() { both.Done(); both.Wait() }) }) })
	}
	wg.Wait()
}

// attempts runs a transaction into whose first attempt a rival commits, and
// counts its attempts.
func attempts(t *testing.T, e kv.Engine, fn, rival func(tx kv.Tx)) int {
	t.Helper()
	n := 0
	update(t, e, func(tx kv.Tx) {
		n++
		fn(tx)
		if n == 1 {
			update(t, e, rival)
		}
		tx.Put([]byte("result"), []byte{byte(n)})
	})
	return n
}

func testScanStops(t *testing.T, e kv.Engine) {
	update(t, e, func(tx kv.Tx) {
		for _, k := range []string{"s/b", "s/d", "s/f"} {
			tx.Put([]byte(k), nil)
		}
	})
	firstTwo := func(tx kv.Tx) {
		n := 0
		check(t, tx.Scan([]byte("s/"), []byte("s0"), func(k, v []byte) (bool, error) { n++; return n < 2, nil }))
	}
	for key, want := range map[string]int{"s/a": 2, "s/c": 2, "s/d": 2, "s/d\x00": 1, "s/e": 1, "s/f": 1, "r": 1, "s0": 1} {
		got := attempts(t, e, firstTwo, func(tx kv.Tx) { tx.Put([]byte(key), []byte("x")) })
		if got != want {
			t.Errorf("a write of %q against a scan up to s/d: %d attempts, want %d", key, got, want)
		}
		update(t, e, func(tx kv.Tx) {
			if key != "s/d" && key != "s/f" {
				tx.Delete([]byte(key))
			}
		})
	}
}

func testPeek(t *testing.T, e kv.Engine) {
	put(t, e, "k", "1")
	rival := func(tx kv.Tx) { tx.Put([]byte("k"), []byte("2")); tx.Add([]byte("n"), 1) }
	peek := func(tx kv.Tx) {
		_, _, err := tx.Peek([]byte("k"))
		check(t, err)
		_, err = tx.PeekCounter([]byte("n"))
		check(t, err)
		check(t, tx.PeekScan(nil, nil, func(k, v []byte) (bool, error) { return true, nil }))
	}
	if n := attempts(t, e, peek, rival); n != 1 {
		t.Fatalf("a transaction that only peeked took %d attempts", n)
	}
	if n := attempts(t, e, func(tx kv.Tx) { get(t, tx, "k") }, rival); n != 2 {
		t.Fatalf("a transaction whose read was overwritten took %d attempts, want 2", n)
	}
}

func testBlindAdds(t *testing.T, e kv.Engine) {
	const workers, adds = 8, 200
	before := e.Stats().Conflicts
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range adds {
				update(t, e, func(tx kv.Tx) { tx.Add([]byte("n"), int64(i%3)-1); tx.Add([]byte("m"), 1) })
			}
		})
	}
	wg.Wait()
	if c := e.Stats().Conflicts - before; c != 0 {
		t.Errorf("blind adds conflicted %d times", c)
	}
	read(t, e, func(r kv.Reader) {
		if n := counter(t, r, "m"); n != workers*adds {
			t.Errorf("counter is %d after %d adds of 1", n, workers*adds)
		}
	})
}

func testCounterConflict(t *testing.T, e kv.Engine) {
	n := attempts(t, e, func(tx kv.Tx) { counter(t, tx, "n") }, func(tx kv.Tx) { tx.Add([]byte("n"), 1) })
	if n != 2 {
		t.Fatalf("a counter that was read and then added to: %d attempts, want 2", n)
	}
}

// testHotKey: everybody increments one plain key.
func testHotKey(t *testing.T, e kv.Engine) {
	const workers, each = 8, 100
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				update(t, e, func(tx kv.Tx) {
					n, _ := strconv.Atoi(get(t, tx, "hot"))
					tx.Put([]byte("hot"), []byte(strconv.Itoa(n+1)))
				})
			}
		})
	}
	wg.Wait()
	read(t, e, func(r kv.Reader) {
		if got := get(t, r, "hot"); got != strconv.Itoa(workers*each) {
			t.Errorf("%d increments left %s", workers*each, got)
		}
	})
	// Somebody who would lose every time must win in the end.
	tries := 0
	_, err := e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error {
		get(t, tx, "hot")
		if tries++; tries <= 6 {
			put(t, e, "hot", strconv.Itoa(-tries))
		}
		tx.Put([]byte("hot"), []byte("won"))
		return nil
	})
	check(t, err)
	if tries != 7 {
		t.Errorf("committed at attempt %d, want 7", tries)
	}
}

// testStrictOrder: what returned before is seen by what starts later, and two
// counters always written together are never seen apart.
func testStrictOrder(t *testing.T, e kv.Engine) {
	const rounds = 300
	ready := make(chan int)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(ready)
		for i := range rounds {
			update(t, e, func(tx kv.Tx) {
				tx.Put([]byte("x"), []byte(strconv.Itoa(i)))
				tx.Put([]byte("y"), []byte(strconv.Itoa(i)))
			})
			ready <- i
		}
	})
	wg.Go(func() {
		for i := range ready {
			read(t, e, func(r kv.Reader) {
				x, _ := strconv.Atoi(get(t, r, "x"))
				y, _ := strconv.Atoi(get(t, r, "y"))
				if x != y || x < i {
					t.Errorf("after %d was committed a view shows x=%d y=%d", i, x, y)
				}
			})
		}
	})
	wg.Wait()
}

func testCloseBusy(t *testing.T, e kv.Engine) {
	var wg sync.WaitGroup
	started := make(chan struct{}, 4)
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				_, err := e.Update(context.Background(), kv.UpdateOptions{Sync: i%8 == 0}, func(tx kv.Tx) error {
					tx.Put(fmt.Appendf(nil, "%d/%d", w, i), nil)
					return nil
				})
				if i == 3 {
					started <- struct{}{}
				}
				if err != nil {
					if fsapi.KindOf(err) != fsapi.Closed {
						t.Errorf("Update while closing: %v", err)
					}
					return
				}
			}
		})
	}
	for range 4 {
		<-started
	}
	check(t, e.Close())
	wg.Wait()
}
