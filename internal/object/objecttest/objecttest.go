// Package objecttest is what every object.Store must pass.
//
// It owns: the suite. It must not know how stores work.
package objecttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// Capabilities says what a store can do beside the seam, and how much to ask of
// it.
type Capabilities struct {
	// Has is what Probe must find; a store that keeps no conditions passes the
	// rest of the suite.
	Has object.Capabilities
	// Keys is the number of keys to list; 0: 2100, which is more than a page of
	// any provider's and little enough for a real server.
	Keys int
	// Unfinished counts uploads neither completed nor given up; nil: it cannot
	// be told.
	Unfinished func(t *testing.T) int
	// Billed: requests are counted one by one as a provider does.
	Billed bool
	// Whole: objects of a few parts are sent in one request.
	Whole bool
}

// All is what a store does that keeps every condition.
func All() object.Capabilities {
	return object.Capabilities{IfAbsent: true, IfVersion: true, Parts: true}
}

// Run tests the stores that open makes, each of them empty, with parts no larger
// than 6 MiB. The suite closes them.
func Run(t *testing.T, open func(t *testing.T) object.Store, caps Capabilities) {
	if caps.Keys == 0 {
		caps.Keys = 2100
	}
	cases := []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"info", testInfo}, {"round trip", testRoundTrip}, {"ranges", testRanges}, {"open", testOpen}, {"replace", testReplace},
		{"not exist", testNotExist}, {"keys", testKeys}, {"read all", testReadAll},
		{"if absent", testIfAbsent}, {"if version", testIfVersion}, {"create race", testCreateRace},
		{"create race in parts", testCreateRaceParts}, {"swap race", testSwapRace}, {"probe", testProbe},
		{"stream", testStream}, {"stream conditions", testStreamConditions}, {"invisible before commit", testInvisible},
		{"abort", testAbort}, {"writer is done", testWriterDone},
		{"delete", testDelete}, {"list", testList}, {"list many", testListMany}, {"list stops", testListStops},
		{"context", testContext}, {"whole while replaced", testWhole}, {"requests", testRequests}, {"close", testClose},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{Store: open(t), ctx: t.Context(), caps: caps}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			c.run(t, s)
		})
	}
}

// suite is one case's store.
type suite struct {
	object.Store
	ctx  context.Context
	caps Capabilities
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantKind checks an error's kind and that it names the key.
func wantKind(t *testing.T, err error, kind fsapi.Kind, key string) {
	t.Helper()
	if err == nil || !errors.Is(err, kind) || fsapi.KindOf(err) != kind {
		t.Errorf("error %v is not of kind %q", err, kind)
	} else if !strings.Contains(err.Error(), key) {
		t.Errorf("error %q does not name %q", err, key)
	}
}

// Bytes is n bytes that depend on seed and do not compress.
func Bytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

func (s *suite) put(t *testing.T, key string, data []byte) object.Version {
	t.Helper()
	v, err := object.PutBytes(s.ctx, s, key, data, object.Condition{})
	must(t, err)
	if v == "" {
		t.Fatalf("put of %s answers with no version", key)
	}
	return v
}

// stream writes an object through Create, in pieces of step bytes.
func (s *suite) stream(key string, data []byte, size int64, step int, cond object.Condition) (object.Version, error) {
	w, err := s.Create(s.ctx, key, size, cond)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	for rest := data; len(rest) > 0; {
		k := min(step, len(rest))
		n, err := w.Write(rest[:k])
		if err == nil && n != k {
			err = io.ErrShortWrite
		}
		if err != nil {
			return "", err
		}
		rest = rest[k:]
	}
	return w.Commit(s.ctx)
}

// wantObject checks the bytes and that Get and Stat agree.
func (s *suite) wantObject(t *testing.T, key string, want []byte) object.Object {
	t.Helper()
	stat, err := s.Stat(s.ctx, key)
	if err != nil {
		t.Errorf("stat: %v", err)
		return stat
	}
	p := make([]byte, len(want)+1)
	n, got, err := s.Get(s.ctx, key, 0, p)
	if !errors.Is(err, io.EOF) || n != len(want) || !bytes.Equal(p[:n], want) {
		t.Errorf("%s: get of %d bytes: %d, %v, equal %v", key, len(p), n, err, bytes.Equal(p[:n], want))
	}
	if stat.Key != key || stat.Size != int64(len(want)) || stat.Version == "" || stat.Modified.IsZero() {
		t.Errorf("%s: stat %+v", key, stat)
	}
	if diff := cmp.Diff(stat, got); diff != "" {
		t.Errorf("%s: get and stat differ: %s", key, diff)
	}
	return stat
}

func (s *suite) wantAbsent(t *testing.T, key string) {
	t.Helper()
	_, err := s.Stat(s.ctx, key)
	wantKind(t, err, fsapi.NotExist, key)
	_, _, err = s.Get(s.ctx, key, 0, make([]byte, 1))
	wantKind(t, err, fsapi.NotExist, key)
	_, _, err = s.Get(s.ctx, key, 0, nil)
	wantKind(t, err, fsapi.NotExist, key)
	for _, got := range s.list(t, key, "") {
		if got == key {
			t.Errorf("%s is listed", key)
		}
	}
}

func (s *suite) list(t *testing.T, prefix, after string) []string {
	t.Helper()
	keys := []string{}
	must(t, s.List(s.ctx, prefix, after, func(o object.Object) error {
		keys = append(keys, o.Key)
		return nil
	}))
	return keys
}

// wantNoUploads checks that nothing is left of uploads in parts.
func (s *suite) wantNoUploads(t *testing.T) {
	t.Helper()
	if s.caps.Unfinished == nil {
		return
	}
	if n := s.caps.Unfinished(t); n != 0 {
		t.Errorf("%d uploads are left unfinished", n)
	}
}
