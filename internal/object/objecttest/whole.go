package objecttest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

func testInfo(t *testing.T, s *suite) {
	i := s.Info()
	if i.Kind == "" || i.URL == "" || i.PartSize <= 0 || i.PartSize > 6<<20 {
		t.Errorf("info %+v", i)
	}
	if diff := cmp.Diff(i, s.Info()); diff != "" {
		t.Errorf("info changes: %s", diff)
	}
}

func testRoundTrip(t *testing.T, s *suite) {
	for i, size := range []int{0, 1, 4095, 4096, 100_000, 1 << 20, 12<<20 + 7} {
		key := fmt.Sprintf("rt/%d", size)
		data := Bytes(uint64(i), size)
		v := s.put(t, key, data)
		if o := s.wantObject(t, key, data); o.Version != v {
			t.Errorf("put says version %q, stat %q", v, o.Version)
		}
	}
	// Of the reader no more than the size is taken, from its beginning.
	_, err := s.Put(s.ctx, "cut", strings.NewReader("0123456789"), 4, object.Condition{})
	must(t, err)
	s.wantObject(t, "cut", []byte("0123"))
	_, err = s.Put(s.ctx, "negative", strings.NewReader(""), -1, object.Condition{})
	wantKind(t, err, fsapi.Invalid, "negative")
}

func testRanges(t *testing.T, s *suite) {
	const size = 300_000
	data := Bytes(1, size)
	s.put(t, "a/ranges", data)
	s.put(t, "a/empty", nil)
	for _, r := range []struct{ off, n, want int }{
		{0, size, size}, {0, 1, 1}, {size - 1, 1, 1}, {4095, 2, 2}, {1000, 100_000, 100_000},
		{size - 1, 2, 1}, {size, 1, 0}, {size + 1, 10, 0}, {1 << 40, 10, 0}, {0, size + 1, size},
	} {
		p := make([]byte, r.n)
		n, o, err := s.Get(s.ctx, "a/ranges", int64(r.off), p)
		if n != r.want || (n < r.n) != (err == io.EOF) || n == r.n && err != nil { //nolint:errorlint // bare, by contract
			t.Errorf("get of %d at %d: %d, %v", r.n, r.off, n, err)
		} else if o.Size != size || !bytes.Equal(p[:n], data[min(r.off, size):min(r.off, size)+n]) {
			t.Errorf("get of %d at %d: wrong bytes, or %+v", r.n, r.off, o)
		}
	}
	if n, o, err := s.Get(s.ctx, "a/empty", 0, make([]byte, 5)); n != 0 || !errors.Is(err, io.EOF) || o.Size != 0 || o.Version == "" {
		t.Errorf("get of an empty object: %d, %+v, %v", n, o, err)
	}
	if n, o, err := s.Get(s.ctx, "a/ranges", 5, nil); n != 0 || err != nil || o.Size != size {
		t.Errorf("get of nothing: %d, %+v, %v", n, o, err)
	}
	_, _, err := s.Get(s.ctx, "a/ranges", -1, make([]byte, 1))
	wantKind(t, err, fsapi.Invalid, "a/ranges")
}

func testOpen(t *testing.T, s *suite) {
	const size = 300_000
	data := Bytes(2, size)
	s.put(t, "a/open", data)
	for _, r := range []struct{ off, n int }{
		{0, size}, {0, 1}, {size - 1, 1}, {4095, 2}, {1000, 100_000}, {size - 1, 2}, {size, 1}, {size + 1, 10}, {0, size + 1},
	} {
		want := data[min(r.off, size):min(r.off+r.n, size)]
		body, o, err := s.Open(s.ctx, "a/open", int64(r.off), int64(r.n))
		must(t, err)
		got, err := io.ReadAll(body)
		if err != nil || o.Size != size || o.Version == "" || !bytes.Equal(got, want) {
			t.Errorf("open of %d at %d: %d bytes, %+v, %v", r.n, r.off, len(got), o, err)
		}
		must(t, body.Close())
		must(t, body.Close())
	}
	_, _, err := s.Open(s.ctx, "a/none", 0, 1)
	wantKind(t, err, fsapi.NotExist, "a/none")
	for _, r := range [][2]int64{{-1, 1}, {0, 0}, {0, -1}} {
		_, _, err := s.Open(s.ctx, "a/open", r[0], r[1])
		wantKind(t, err, fsapi.Invalid, "a/open")
	}
	// One that is left in the midst holds up nobody, Close of the store neither.
	body, _, err := s.Open(s.ctx, "a/open", 0, size)
	must(t, err)
	_, err = io.ReadFull(body, make([]byte, 10))
	must(t, err)
	must(t, body.Close())
}

func testReplace(t *testing.T, s *suite) {
	seen := map[object.Version]bool{}
	for i, data := range []string{"one", "", "three", strings.Repeat("four", 50_000)} {
		v := s.put(t, "r/x", []byte(data))
		if seen[v] {
			t.Errorf("body %d has a version of an earlier one", i)
		}
		seen[v] = true
		s.wantObject(t, "r/x", []byte(data))
	}
	if got := s.list(t, "", ""); len(got) != 1 {
		t.Errorf("listed: %v", got)
	}
}

func testNotExist(t *testing.T, s *suite) {
	s.put(t, "dir/object", []byte("x"))
	for _, key := range []string{"none", "dir", "dir/none", "dir/object/none", "no/dir", "di", "dir/objec"} {
		s.wantAbsent(t, key)
		must(t, s.Delete(s.ctx, key))
	}
	s.wantObject(t, "dir/object", []byte("x"))
}

func testKeys(t *testing.T, s *suite) {
	part := strings.Repeat("k", 100)
	long := strings.Repeat(part+"/", 5)[:object.MaxKey-8]
	for _, key := range []string{"a", ".hidden/x", "A-Z_0.9=", "1/2/3/4/5/6", "x/a..b", "x/-", "%"[1:] + "y", long} {
		s.put(t, key, []byte(key))
		s.wantObject(t, key, []byte(key))
		if got := s.list(t, key, ""); len(got) != 1 || got[0] != key {
			t.Errorf("listed: %q", got)
		}
		must(t, s.Delete(s.ctx, key))
		s.wantAbsent(t, key)
	}
	for _, key := range []string{"", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a/.", "a b", "a%20b", "a+b", "a~", "ä", "a\x00", "a\\b", strings.Repeat("k", object.MaxKey+1)} {
		_, err := object.PutBytes(s.ctx, s, key, nil, object.Condition{})
		wantKind(t, err, fsapi.Invalid, "")
		_, err = s.Create(s.ctx, key, 0, object.Condition{})
		wantKind(t, err, fsapi.Invalid, "")
		_, err = s.Stat(s.ctx, key)
		wantKind(t, err, fsapi.Invalid, "")
		_, _, err = s.Get(s.ctx, key, 0, make([]byte, 1))
		wantKind(t, err, fsapi.Invalid, "")
		wantKind(t, s.Delete(s.ctx, "fine", key), fsapi.Invalid, "")
	}
}

func testReadAll(t *testing.T, s *suite) {
	data := Bytes(1, 50_000)
	s.put(t, "x", data)
	for _, guess := range []int64{0, 10, 50_000, 60_000} {
		got, o, err := object.ReadAll(s.ctx, s, "x", guess, 50_000)
		if err != nil || !bytes.Equal(got, data) || o.Size != 50_000 {
			t.Errorf("guess %d: %d bytes, %+v, %v", guess, len(got), o, err)
		}
	}
	_, _, err := object.ReadAll(s.ctx, s, "x", 0, 49_999)
	wantKind(t, err, fsapi.TooBig, "x")
	_, _, err = object.ReadAll(s.ctx, s, "y", 0, 10)
	wantKind(t, err, fsapi.NotExist, "y")
}

// testWhole reads whole bodies while they are being replaced.
func testWhole(t *testing.T, s *suite) {
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 20_000+i) }
	s.put(t, "ptr", content(0))
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			for i := range 15 {
				if _, err := object.PutBytes(s.ctx, s, "ptr", content(g*15+i), object.Condition{}); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			p := make([]byte, 30_000)
			for range 40 {
				n, o, err := s.Get(s.ctx, "ptr", 0, p)
				if !errors.Is(err, io.EOF) || n == 0 || int64(n) != o.Size || !bytes.Equal(p[:n], content(int(p[0]))) {
					t.Errorf("get of %d bytes of %+v, torn or not: %v", n, o, err)
				}
			}
		})
	}
	wg.Wait()
}
