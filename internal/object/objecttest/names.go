package objecttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// listKeys sort differently by whole key than directory by directory.
func listKeys() []string {
	return []string{".s/probe", "A", "a-/x", "a.b", "a/b-c", "a/b.c", "a/b/c", "a/b/d", "a/b0", "a0", "b", "seg/00/1", "seg/01/2", "seg/ff/3", "seg2", "z/z/z/z"}
}

func testList(t *testing.T, s *suite) {
	all := listKeys()
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(len(all)) {
		s.put(t, all[i], []byte(all[i]))
	}
	marks := append([]string{"", "a", "a/", "a/b", "a/b/", "a/b/cc", "aa", "s", "seg/", "seg/0", "seg/01/3", "zz", "none", "0"}, all...)
	for _, prefix := range marks {
		for _, after := range marks {
			want := []string{}
			for _, key := range all {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			if diff := cmp.Diff(want, s.list(t, prefix, after)); diff != "" {
				t.Errorf("list of %q after %q: %s", prefix, after, diff)
			}
		}
	}
	must(t, s.List(s.ctx, "", "", func(o object.Object) error {
		stat, err := s.Stat(s.ctx, o.Key)
		must(t, err)
		if o.Key != stat.Key || o.Size != stat.Size || o.Version != stat.Version || o.Modified.Unix() != stat.Modified.Unix() {
			t.Errorf("listed as %+v, stat is %+v", o, stat)
		}
		return nil
	}))
	err := s.List(s.ctx, "a b", "", func(object.Object) error { return nil })
	wantKind(t, err, fsapi.Invalid, "a b")
}

// fill makes n objects at once and returns their keys in order.
func (s *suite) fill(t *testing.T, n int) (keys []string) {
	t.Helper()
	for i := range n {
		keys = append(keys, fmt.Sprintf("many/%02d/%05d", i*7/n, i))
	}
	work := make(chan string)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for key := range work {
				if _, err := object.PutBytes(s.ctx, s, key, []byte("x"), object.Condition{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, key := range keys {
		work <- key
	}
	close(work)
	wg.Wait()
	return keys
}

func testListMany(t *testing.T, s *suite) {
	keys := s.fill(t, s.caps.Keys)
	if diff := cmp.Diff(keys, s.list(t, "", "")); diff != "" {
		t.Errorf("list: %s", diff)
	}
	if diff := cmp.Diff(keys[len(keys)/2+1:], s.list(t, "many/", keys[len(keys)/2])); diff != "" {
		t.Errorf("list: %s", diff)
	}
	must(t, s.Delete(s.ctx, keys[1:]...))
	if diff := cmp.Diff(keys[:1], s.list(t, "", "")); diff != "" {
		t.Errorf("after deletion: %s", diff)
	}
}

func testListStops(t *testing.T, s *suite) {
	for _, key := range listKeys() {
		s.put(t, key, nil)
	}
	stop := errors.New("enough")
	for _, want := range []error{stop, io.EOF} {
		seen := 0
		err := s.List(s.ctx, "", "", func(object.Object) error {
			if seen++; seen == 6 {
				return want
			}
			return nil
		})
		if errors.Is(want, io.EOF) {
			must(t, err)
		} else if err != stop { //nolint:errorlint // the very error
			t.Errorf("list ended with %v", err)
		}
		if seen != 6 {
			t.Errorf("%d calls", seen)
		}
	}
}

func testDelete(t *testing.T, s *suite) {
	all := listKeys()
	for _, key := range all {
		s.put(t, key, []byte(key))
	}
	must(t, s.Delete(s.ctx, "a0"))
	s.wantAbsent(t, "a0")
	must(t, s.Delete(s.ctx, "a0"))
	must(t, s.Delete(s.ctx, "seg/00/1", "none", "seg/ff/3", "a/b/c", "a0", "b", "no/ne", ".s/probe"))
	if diff := cmp.Diff([]string{"A", "a-/x", "a.b", "a/b-c", "a/b.c", "a/b/d", "a/b0", "seg/01/2", "seg2", "z/z/z/z"}, s.list(t, "", "")); diff != "" {
		t.Errorf("left: %s", diff)
	}
	must(t, s.Delete(s.ctx))
	s.put(t, "a0", []byte("another"))
	s.wantObject(t, "a0", []byte("another"))
}

func testContext(t *testing.T, s *suite) {
	s.put(t, "c", []byte("x"))
	w, err := s.Create(s.ctx, "w", 0, object.Condition{})
	must(t, err)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err = s.Create(ctx, "n", 0, object.Condition{})
	wantKind(t, err, fsapi.Interrupted, "n")
	_, err = object.PutBytes(ctx, s, "n", nil, object.Condition{})
	wantKind(t, err, fsapi.Interrupted, "n")
	_, _, err = s.Get(ctx, "c", 0, make([]byte, 1))
	wantKind(t, err, fsapi.Interrupted, "c")
	_, err = s.Stat(ctx, "c")
	wantKind(t, err, fsapi.Interrupted, "c")
	wantKind(t, s.List(ctx, "", "", func(object.Object) error { return nil }), fsapi.Interrupted, "")
	wantKind(t, s.Delete(ctx, "c"), fsapi.Interrupted, "c")
	_, err = w.Commit(ctx)
	wantKind(t, err, fsapi.Interrupted, "w")
	s.wantAbsent(t, "w")
	s.wantObject(t, "c", []byte("x"))
	testContextStreams(t, s)
}

// testContextStreams ends a context in the midst of uploads and listings.
func testContextStreams(t *testing.T, s *suite) {
	for key, size := range map[string]int{"big": 2 * int(s.Info().PartSize), "small": 10} {
		ctx, cancel := context.WithCancel(s.ctx)
		w, err := s.Create(ctx, key, 0, object.Condition{})
		must(t, err)
		data := Bytes(9, size)
		_, err = w.Write(data)
		must(t, err)
		cancel()
		_, err = w.Write(data)
		wantKind(t, err, fsapi.Interrupted, key)
		if _, err = w.Commit(s.ctx); err == nil {
			t.Error("an upload whose context ended was committed")
		}
		s.wantAbsent(t, key)
		s.wantNoUploads(t)
	}

	s.put(t, "d", nil)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	seen := 0
	err := s.List(ctx, "", "", func(object.Object) error {
		seen++
		cancel()
		return nil
	})
	if wantKind(t, err, fsapi.Interrupted, ""); seen != 1 {
		t.Errorf("%d calls after the context ended", seen-1)
	}
}

func testRequests(t *testing.T, s *suite) {
	before := s.Requests()
	s.put(t, "x", Bytes(1, 1000))
	_, _, err := s.Get(s.ctx, "x", 0, make([]byte, 100))
	must(t, err)
	_, err = s.Stat(s.ctx, "x")
	must(t, err)
	s.list(t, "", "")
	must(t, s.Delete(s.ctx, "x"))
	got := s.Requests()
	want := object.Requests{
		Puts: before.Puts + 1, Gets: before.Gets + 1, Heads: before.Heads + 1, Lists: before.Lists + 1, Deletes: before.Deletes + 1,
		Sent: before.Sent + 1000, Read: before.Read + 100,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests: %s", diff)
	}
	if !s.caps.Billed {
		return
	}
	_, err = s.stream("big", Bytes(1, 3*int(s.Info().PartSize)), 0, 1<<20, object.Condition{})
	must(t, err)
	n := s.Requests().Puts - got.Puts
	if s.caps.Whole && n != 1 {
		t.Errorf("an object of three parts took %d PUTs: want one", n)
	}
	if !s.caps.Whole && n != 5 {
		t.Errorf("an object of three parts took %d PUTs: want a beginning, three parts, an end", n)
	}
}

func testClose(t *testing.T, s *suite) {
	s.put(t, "x", []byte("x"))
	w, err := s.Create(s.ctx, "w", 0, object.Condition{})
	must(t, err)
	_, err = w.Write(Bytes(6, int(s.Info().PartSize)+1))
	must(t, err)
	must(t, s.Close())
	must(t, s.Close())
	_, err = s.Create(s.ctx, "y", 0, object.Condition{})
	wantKind(t, err, fsapi.Closed, "y")
	_, err = object.PutBytes(s.ctx, s, "y", nil, object.Condition{})
	wantKind(t, err, fsapi.Closed, "y")
	_, _, err = s.Get(s.ctx, "x", 0, make([]byte, 1))
	wantKind(t, err, fsapi.Closed, "x")
	_, err = s.Stat(s.ctx, "x")
	wantKind(t, err, fsapi.Closed, "x")
	wantKind(t, s.List(s.ctx, "", "", func(object.Object) error { return nil }), fsapi.Closed, "")
	wantKind(t, s.Delete(s.ctx, "x"), fsapi.Closed, "x")
	_, err = w.Write([]byte("x"))
	wantKind(t, err, fsapi.Closed, "w")
	_, err = w.Commit(s.ctx)
	wantKind(t, err, fsapi.Closed, "w")
	w.Abort()
	s.wantNoUploads(t)
}
