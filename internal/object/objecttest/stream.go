package objecttest

import (
	"fmt"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

func testStream(t *testing.T, s *suite) {
	part := int(s.Info().PartSize)
	for i, size := range []int{0, 1, 4096, part - 1, part, part + 1, 2 * part, 3*part + 5} {
		for _, step := range []int{64 << 10, 3<<20 + 1} {
			for _, hint := range []int64{0, int64(size), int64(size) + 10_000, int64(part) + 1} {
				if size > part && hint != 0 && hint != int64(size) {
					continue
				}
				key := fmt.Sprintf("st/%d-%d-%d", i, step, hint)
				data := Bytes(uint64(i), size)
				v, err := s.stream(key, data, hint, step, object.Condition{})
				must(t, err)
				if o := s.wantObject(t, key, data); o.Version != v {
					t.Errorf("commit says version %q, stat %q", v, o.Version)
				}
				must(t, s.Delete(s.ctx, key))
			}
		}
	}
	s.wantNoUploads(t)
}

// testStreamConditions commits under conditions, as one request and in parts.
func testStreamConditions(t *testing.T, s *suite) {
	if s.caps.Has != All() {
		t.Skip("this store does not keep them")
	}
	for _, size := range []int{1000, int(s.Info().PartSize) + 1000} {
		data, other := Bytes(1, size), Bytes(2, size)
		first, err := s.stream("x", data, 0, 1<<20, object.IfAbsent())
		must(t, err)
		_, err = s.stream("x", other, int64(size), 1<<20, object.IfAbsent())
		wantKind(t, err, fsapi.Precondition, "x")
		s.wantObject(t, "x", data)
		_, err = s.stream("x", other, 0, 1<<20, object.IfVersion(first))
		must(t, err)
		_, err = s.stream("x", data, 0, 1<<20, object.IfVersion(first))
		wantKind(t, err, fsapi.Precondition, "x")
		s.wantObject(t, "x", other)
		must(t, s.Delete(s.ctx, "x"))
		_, err = s.stream("x", data, 0, 1<<20, object.IfVersion(first))
		wantKind(t, err, fsapi.Precondition, "x")
		s.wantAbsent(t, "x")
	}
	s.wantNoUploads(t)
}

func testInvisible(t *testing.T, s *suite) {
	data := Bytes(2, 2*int(s.Info().PartSize)+1)
	w, err := s.Create(s.ctx, "a/b/c", 0, object.Condition{})
	must(t, err)
	defer w.Abort()
	s.wantAbsent(t, "a/b/c")
	_, err = w.Write(data)
	must(t, err)
	s.wantAbsent(t, "a/b/c")
	if got := s.list(t, "", ""); len(got) != 0 {
		t.Errorf("listed: %v", got)
	}
	_, err = w.Commit(s.ctx)
	must(t, err)
	s.wantObject(t, "a/b/c", data)
}

func testAbort(t *testing.T, s *suite) {
	for _, n := range []int{0, 10, 2*int(s.Info().PartSize) + 1} {
		w, err := s.Create(s.ctx, "aborted", int64(n), object.Condition{})
		must(t, err)
		_, err = w.Write(Bytes(3, n))
		must(t, err)
		w.Abort()
		s.wantAbsent(t, "aborted")
		w.Abort()
	}
	if got := s.list(t, "", ""); len(got) != 0 {
		t.Errorf("listed: %v", got)
	}
	s.wantNoUploads(t)
	w, err := s.Create(s.ctx, "kept", 0, object.Condition{})
	must(t, err)
	_, err = w.Commit(s.ctx)
	must(t, err)
	w.Abort()
	s.wantObject(t, "kept", nil)
}

func testWriterDone(t *testing.T, s *suite) {
	for _, end := range []func(w object.Writer){
		func(w object.Writer) { w.Abort() },
		func(w object.Writer) {
			_, err := w.Commit(s.ctx)
			must(t, err)
		},
	} {
		w, err := s.Create(s.ctx, "done", 0, object.Condition{})
		must(t, err)
		end(w)
		_, err = w.Write([]byte("x"))
		wantKind(t, err, fsapi.Closed, "done")
		_, err = w.Commit(s.ctx)
		wantKind(t, err, fsapi.Closed, "done")
	}
	s.wantObject(t, "done", nil)
}
