package objecttest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

func testIfAbsent(t *testing.T, s *suite) {
	if !s.caps.Has.IfAbsent {
		t.Skip("this store does not keep it")
	}
	first, err := object.PutBytes(s.ctx, s, "c/x", []byte("first"), object.IfAbsent())
	must(t, err)
	_, err = object.PutBytes(s.ctx, s, "c/x", []byte("second"), object.IfAbsent())
	wantKind(t, err, fsapi.Precondition, "c/x")
	if o := s.wantObject(t, "c/x", []byte("first")); o.Version != first {
		t.Errorf("version %q became %q", first, o.Version)
	}
	must(t, s.Delete(s.ctx, "c/x"))
	_, err = object.PutBytes(s.ctx, s, "c/x", nil, object.IfAbsent())
	must(t, err)
	s.wantObject(t, "c/x", nil)
}

func testIfVersion(t *testing.T, s *suite) {
	if !s.caps.Has.IfVersion {
		t.Skip("this store does not keep it")
	}
	first := s.put(t, "c/y", []byte("first"))
	second, err := object.PutBytes(s.ctx, s, "c/y", []byte("second"), object.IfVersion(first))
	must(t, err)
	_, err = object.PutBytes(s.ctx, s, "c/y", []byte("third"), object.IfVersion(first))
	wantKind(t, err, fsapi.Precondition, "c/y")
	if o := s.wantObject(t, "c/y", []byte("second")); o.Version != second {
		t.Errorf("version %q became %q", second, o.Version)
	}
	// The version that listings and reads tell is the one to use.
	var listed object.Version
	must(t, s.List(s.ctx, "c/y", "", func(o object.Object) error {
		listed = o.Version
		return nil
	}))
	third, err := object.PutBytes(s.ctx, s, "c/y", []byte("third"), object.IfVersion(listed))
	must(t, err)
	must(t, s.Delete(s.ctx, "c/y"))
	_, err = object.PutBytes(s.ctx, s, "c/y", []byte("fourth"), object.IfVersion(third))
	wantKind(t, err, fsapi.Precondition, "c/y")
	s.wantAbsent(t, "c/y")
}

// race runs n writers at once; exactly one of them may win.
func race(t *testing.T, key string, n int, write func(i int) (object.Version, error)) (winner int, v object.Version) {
	t.Helper()
	versions, errs := make([]object.Version, n), make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			versions[i], errs[i] = write(i)
		})
	}
	close(start)
	wg.Wait()
	winner = -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Fatalf("%d and %d both won", winner, i)
		case err == nil:
			winner = i
		default:
			wantKind(t, err, fsapi.Precondition, key)
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	return winner, versions[winner]
}

func testCreateRace(t *testing.T, s *suite) {
	if !s.caps.Has.IfAbsent {
		t.Skip("this store does not keep it")
	}
	for round := range 8 {
		key := fmt.Sprintf("race/%d", round)
		winner, v := race(t, key, 16, func(i int) (object.Version, error) {
			return object.PutBytes(s.ctx, s, key, Bytes(uint64(i), 1000+i), object.IfAbsent())
		})
		if o := s.wantObject(t, key, Bytes(uint64(winner), 1000+winner)); o.Version != v {
			t.Errorf("the winner was told version %q, the object has %q", v, o.Version)
		}
	}
}

func testCreateRaceParts(t *testing.T, s *suite) {
	if !s.caps.Has.IfAbsent || !s.caps.Has.Parts {
		t.Skip("this store does not keep it")
	}
	for round := range 3 {
		key := fmt.Sprintf("race/%d", round)
		winner, _ := race(t, key, 16, func(i int) (object.Version, error) {
			size := s.Info().PartSize + 1
			return s.stream(key, Bytes(uint64(i), 1000+i), size*int64(i%2), 600, object.IfAbsent())
		})
		s.wantObject(t, key, Bytes(uint64(winner), 1000+winner))
	}
	s.wantNoUploads(t)
}

// testSwapRace counts in an object, by reading and replacing what was read. No
// increment may be lost.
func testSwapRace(t *testing.T, s *suite) {
	if !s.caps.Has.IfVersion {
		t.Skip("this store does not keep it")
	}
	const workers, each = 6, 5
	s.put(t, "counter", []byte("0"))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				if err := s.increment(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.wantObject(t, "counter", []byte(strconv.Itoa(workers*each)))
}

func (s *suite) increment() error {
	for range 1000 {
		text, o, err := object.ReadAll(s.ctx, s, "counter", 0, 100)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(text))
		if err != nil {
			return err
		}
		_, err = object.PutBytes(s.ctx, s, "counter", []byte(strconv.Itoa(n+1)), object.IfVersion(o.Version))
		if !errors.Is(err, fsapi.Precondition) {
			return err
		}
	}
	return errors.New("1000 attempts and none was the first")
}

func testProbe(t *testing.T, s *suite) {
	got, err := object.Probe(s.ctx, s)
	must(t, err)
	if diff := cmp.Diff(s.caps.Has, got); diff != "" {
		t.Errorf("capabilities: %s", diff)
	}
	if left := s.list(t, "", ""); len(left) > 0 {
		t.Errorf("the probe leaves %v", left)
	}
	s.wantNoUploads(t)
}
