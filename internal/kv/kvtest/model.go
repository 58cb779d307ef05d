package kvtest

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/strakefs/strake/internal/kv"
)

// names are few and overlapping, so that histories collide. Counters start
// with n.
func names() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"a", "a\x00", "ab", "b", "b\xff", "c", "na", "nb", "nc", "z", "\xfe"})
}

func isCounter(k string) bool { return k[0] == 'n' }

// randomWrite makes one random write in the transaction and in the model.
func randomWrite(rt *rapid.T, tx kv.Tx, m map[string]string) {
	k := names().Draw(rt, "key")
	switch {
	case rapid.IntRange(0, 3).Draw(rt, "delete") == 0:
		tx.Delete([]byte(k))
		delete(m, k)
	case isCounter(k):
		d := rapid.Int64Range(-2, 2).Draw(rt, "delta")
		tx.Add([]byte(k), d)
		apply(m, kv.Batch{Ops: []kv.Op{{Kind: kv.OpAdd, Key: []byte(k), Delta: d}}})
	default:
		v := rapid.StringN(0, 8, 20).Draw(rt, "value")
		tx.Put([]byte(k), []byte(v))
		m[k] = v
	}
}

// wantModel compares a random range and a random key.
func wantModel(rt *rapid.T, r kv.Reader, m map[string]string) {
	from, to := rapid.OneOf(names(), rapid.Just("")).Draw(rt, "from"), rapid.OneOf(names(), rapid.Just("")).Draw(rt, "to")
	limit := rapid.IntRange(1, 12).Draw(rt, "limit")
	var want, got []pair
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k >= from && (to == "" || k < to) && len(want) < limit {
			want = append(want, pair{k, m[k]})
		}
	}
	var hi []byte
	if to != "" {
		hi = []byte(to)
	}
	err := r.Scan([]byte(from), hi, func(k, v []byte) (bool, error) {
		got = append(got, pair{string(k), string(v)})
		v2, ok, err := r.Get(k)
		if err != nil || !ok || string(v2) != string(v) {
			rt.Fatalf("Get(%q) inside a scan: %q, %v, %v; the scan shows %q", k, v2, ok, err, v)
		}
		return len(got) < limit, nil
	})
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		rt.Fatalf("scan [%q, %q) (-model +engine): %v\n%s", from, to, err, diff)
	}
	k := names().Draw(rt, "get")
	v, ok, err := r.Get([]byte(k))
	if mv, mok := m[k]; err != nil || ok != mok || string(v) != mv {
		rt.Fatalf("Get(%q) is %q, %v, %v; the model has %q, %v", k, v, ok, err, mv, mok)
	}
	if isCounter(k) {
		n, err := r.Counter([]byte(k))
		if err != nil || n != kv.DecodeCounter([]byte(m[k])) {
			rt.Fatalf("Counter(%q) is %d, %v", k, n, err)
		}
	}
}

// randomTransaction is a transaction of random reads and writes that may abort.
func randomTransaction(rt *rapid.T, e kv.Engine, m map[string]string) map[string]string {
	next := maps.Clone(m)
	abort := rapid.IntRange(0, 4).Draw(rt, "abort") == 0
	_, err := e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error {
		for range rapid.IntRange(0, 40).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "write") {
				randomWrite(rt, tx, next)
			} else {
				wantModel(rt, tx, next)
			}
		}
		if abort {
			return context.Canceled
		}
		return nil
	})
	if abort {
		return m
	}
	if err != nil {
		rt.Fatal(err)
	}
	return next
}

// clearAll empties an engine for the next history.
func clearAll(rt *rapid.T, e kv.Engine) {
	_, err := e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error {
		var keys [][]byte
		err := tx.Scan(nil, nil, func(k, v []byte) (bool, error) { keys = append(keys, slices.Clone(k)); return true, nil })
		for _, k := range keys {
			tx.Delete(k)
		}
		return err
	})
	if err != nil {
		rt.Fatal(err)
	}
}

func testModel(t *testing.T, e kv.Engine) {
	rapid.Check(t, func(rt *rapid.T) {
		clearAll(rt, e)
		m := map[string]string{}
		for range rapid.IntRange(1, 8).Draw(rt, "transactions") {
			m = randomTransaction(rt, e, m)
			err := e.View(context.Background(), func(r kv.Reader) error { wantModel(rt, r, m); return nil })
			if err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// program is a transaction in which every write depends on reads: step i adds
// what it finds under from (or in the range up to it) to what is under to.
type program []step

type step struct {
	from, to string
	ranged   bool
}

func programs() *rapid.Generator[program] {
	return rapid.Custom(func(rt *rapid.T) program {
		var p program
		for range rapid.IntRange(1, 5).Draw(rt, "steps") {
			p = append(p, step{
				from: names().Draw(rt, "from"), to: names().Filter(func(k string) bool { return !isCounter(k) }).Draw(rt, "to"),
				ranged: rapid.Bool().Draw(rt, "ranged"),
			})
		}
		return p
	})
}

func (s step) run(r func(from string, ranged bool) string, w func(to, value string)) {
	v := r(s.from, s.ranged) + "."
	if len(v) > 200 {
		v = v[:20] + v[len(v)-20:]
	}
	w(s.to, v)
}

func (p program) onModel(m map[string]string) {
	for _, s := range p {
		s.run(func(from string, ranged bool) string {
			if !ranged {
				return m[from]
			}
			all := ""
			for _, k := range slices.Sorted(maps.Keys(m)) {
				if k < from {
					all += k + m[k]
				}
			}
			return all
		}, func(to, value string) { m[to] = value })
	}
}

// onEngine runs p, and between in the middle of the first attempt.
func (p program) onEngine(rt *rapid.T, e kv.Engine, between func()) {
	first := true
	_, err := e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error {
		for i, s := range p {
			if i == len(p)/2+1 && first {
				first = false
				between()
			}
			s.run(func(from string, ranged bool) (got string) {
				if !ranged {
					v, _, err := tx.Get([]byte(from))
					if err != nil {
						rt.Fatal(err)
					}
					return string(v)
				}
				err := tx.Scan(nil, []byte(from), func(k, v []byte) (bool, error) { got += string(k) + string(v); return true, nil })
				if err != nil {
					rt.Fatal(err)
				}
				return got
			}, func(to, value string) { tx.Put([]byte(to), []byte(value)) })
		}
		if first {
			first = false
			between()
		}
		return nil
	})
	if err != nil {
		rt.Fatal(err)
	}
}

// testTransactionModel commits one transaction in the middle of another. What
// is left must be what one of the two orders leaves.
func testTransactionModel(t *testing.T, e kv.Engine) {
	rapid.Check(t, func(rt *rapid.T) {
		clearAll(rt, e)
		m := randomTransaction(rt, e, map[string]string{})
		outer, inner := programs().Draw(rt, "outer"), programs().Draw(rt, "inner")
		outerFirst, innerFirst, got := maps.Clone(m), maps.Clone(m), map[string]string{}
		outer.onModel(outerFirst)
		inner.onModel(outerFirst)
		inner.onModel(innerFirst)
		outer.onModel(innerFirst)
		outer.onEngine(rt, e, func() { inner.onEngine(rt, e, func() {}) })
		err := e.View(context.Background(), func(r kv.Reader) error {
			return r.Scan(nil, nil, func(k, v []byte) (bool, error) { got[string(k)] = string(v); return true, nil })
		})
		if err != nil {
			rt.Fatal(err)
		}
		if !maps.Equal(got, innerFirst) && !maps.Equal(got, outerFirst) {
			rt.Fatalf("neither order explains the state (-inner first +engine):\n%s", cmp.Diff(innerFirst, got))
		}
	})
}

// testReopenModel closes and opens between transactions.
func testReopenModel(t *testing.T, newPlace func(t *testing.T) Place) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPlace(t)
		m := map[string]string{}
		for range rapid.IntRange(1, 3).Draw(rt, "lives") {
			e := p.Open(t)
			for range rapid.IntRange(0, 4).Draw(rt, "transactions") {
				m = randomTransaction(rt, e, m)
			}
			if err := e.Close(); err != nil {
				rt.Fatal(err)
			}
		}
		e := p.Open(t)
		if err := e.View(context.Background(), func(r kv.Reader) error { wantModel(rt, r, m); return nil }); err != nil {
			rt.Fatal(err)
		}
		if err := e.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}
