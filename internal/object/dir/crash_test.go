package dir_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/dir"
	"github.com/strakefs/strake/internal/object/objecttest"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/osfs"
)

// TestCrash cuts the power before every call of a history that reaches the file
// system: each object has its old body or its new one, whole, and the new one
// once its write was acknowledged.
func TestCrash(t *testing.T) {
	for seed := range uint64(4) {
		crashHistory(t, seed)
	}
}

// body of an object; nil: there is none.
type ledger map[string][][]byte

func (l ledger) check(t *testing.T, clone *osfs.Mem) {
	t.Helper()
	s := opened(t, dir.Options{FS: clone, Path: "/b"})
	defer s.Close()
	for key, allowed := range l {
		got, _, err := object.ReadAll(t.Context(), s, key, 0, 1<<20)
		if err != nil && !errors.Is(err, fsapi.NotExist) {
			t.Errorf("after a crash: %v", err)
		}
		ok := false
		for _, want := range allowed {
			ok = ok || want == nil && err != nil || want != nil && err == nil && bytes.Equal(want, got)
		}
		if !ok {
			t.Errorf("after a crash %s has %d bytes, %v: none of what is allowed", key, len(got), err)
		}
	}
	if err := s.List(t.Context(), "", "", func(o object.Object) error {
		if l[o.Key] == nil {
			t.Errorf("after a crash there is %s", o.Key)
		}
		return nil
	}); err != nil {
		t.Errorf("after a crash: %v", err)
	}
}

func crashHistory(t *testing.T, seed uint64) {
	m := osfs.NewMem(osfs.MemOptions{})
	r, crashes := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
	fsys := osfs.NewFault(m, nil)
	s := opened(t, dir.Options{FS: fsys, Path: "/b", Options: provider.Options{PartSize: 1 << 20}})
	l, n := ledger{}, 0
	fsys.SetRule(func(osfs.Call) osfs.Outcome {
		n++
		l.check(t, m.CrashClone(crashes, osfs.AnyCrash(crashes)))
		return osfs.Outcome{}
	})
	for i := range 25 {
		key := fmt.Sprintf("c/%d/%d", r.IntN(2), r.IntN(3))
		old := append(l[key], nil)[0]
		next := objecttest.Bytes(uint64(i), 1+r.IntN(5000))
		write := func(c object.Condition) {
			l[key] = [][]byte{old, next}
			if _, err := object.PutBytes(t.Context(), s, key, next, c); err != nil {
				t.Fatal(err)
			}
			l[key] = [][]byte{next}
		}
		switch o, err := s.Stat(t.Context(), key); {
		case err != nil:
			write(object.IfAbsent())
		case i%3 == 0:
			write(object.IfVersion(o.Version))
		case i%3 == 1:
			write(object.Condition{})
		default:
			l[key] = [][]byte{old, nil}
			if err := s.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			delete(l, key)
		}
		if t.Failed() {
			t.Fatalf("seed %d, step %d", seed, i)
		}
	}
	if n < 100 {
		t.Errorf("only %d calls", n)
	}
}
