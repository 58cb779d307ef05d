package provider_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/object/objecttest"
	"github.com/strakefs/strake/internal/object/provider"
)

// quick repeats at once.
var quick = backoff.Policy{Attempts: 4}

func opened(t *testing.T, b *mem.Bucket, o provider.Options) *provider.Store {
	t.Helper()
	if o.Retry.Attempts == 0 {
		o.Retry = quick
	}
	s, err := b.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// first fails the first n requests of an operation.
func first(op mem.Op, n int64, o mem.Outcome) mem.Rule {
	var seen atomic.Int64
	return func(r mem.Request) mem.Outcome {
		if r.Op == op && seen.Add(1) <= n {
			return o
		}
		return mem.Outcome{}
	}
}

var broken = fsapi.Errorf(fsapi.IO, "connection reset")

// TestLateFailure lets writes take place and their answers be lost. The next
// attempt finds the condition broken, by the attempt before: that is success.
func TestLateFailure(t *testing.T) {
	writes := map[string]struct {
		op    mem.Op
		write func(s object.Store, c object.Condition) (object.Version, error)
	}{
		"put": {mem.Put, func(s object.Store, c object.Condition) (object.Version, error) {
			return object.PutBytes(t.Context(), s, "x", []byte("mine"), c)
		}},
		"in parts": {mem.Complete, func(s object.Store, c object.Condition) (object.Version, error) {
			w, err := s.Create(t.Context(), "x", 2<<20, c)
			if err != nil {
				return "", err
			}
			if _, err := io.WriteString(w, "mine"); err != nil {
				return "", err
			}
			return w.Commit(t.Context())
		}},
	}
	for name, w := range writes {
		for _, kind := range []fsapi.Kind{fsapi.IO, fsapi.TimedOut, fsapi.Busy, fsapi.Conflict} {
			b := mem.New(mem.Options{})
			s := opened(t, b, provider.Options{PartSize: 1 << 20})
			late := mem.Outcome{Err: fsapi.Errorf(kind, "no answer"), Late: true}
			b.SetRule(first(w.op, 1, late))
			v, err := w.write(s, object.IfAbsent())
			if err != nil {
				t.Fatalf("%s, %v: if absent: %v", name, kind, err)
			}
			b.SetRule(first(w.op, 2, late))
			v, err = w.write(s, object.IfVersion(v))
			if err != nil {
				t.Fatalf("%s, %v: if version: %v", name, kind, err)
			}
			if o, err := s.Stat(t.Context(), "x"); err != nil || o.Version != v {
				t.Errorf("%s, %v: told version %q, there is %+v, %v", name, kind, v, o, err)
			}
			if b.Uploads() != 0 {
				t.Errorf("%s, %v: %d uploads are left", name, kind, b.Uploads())
			}
		}
	}
}

// TestOthersObject is told Precondition where the first attempt did not take
// place and another's object came between.
func TestOthersObject(t *testing.T) {
	b := mem.New(mem.Options{})
	s := opened(t, b, provider.Options{})
	other := opened(t, b, provider.Options{})
	var seen atomic.Int64
	b.SetRule(func(r mem.Request) mem.Outcome {
		if r.Op != mem.Put || seen.Add(1) != 1 {
			return mem.Outcome{}
		}
		if _, err := object.PutBytes(t.Context(), other, "x", []byte("mine"), object.IfAbsent()); err != nil {
			t.Error(err)
		}
		return mem.Outcome{Err: broken}
	})
	_, err := object.PutBytes(t.Context(), s, "x", []byte("mine"), object.IfAbsent())
	if !errors.Is(err, fsapi.Precondition) {
		t.Errorf("another's object was taken for one's own: %v", err)
	}
}

// TestLostRefusal is told Precondition where the answer that said so is lost each
// time, and sends the body once only.
func TestLostRefusal(t *testing.T) {
	for name, c := range map[string]object.Condition{"if absent": object.IfAbsent(), "if version": object.IfVersion("17")} {
		b := mem.New(mem.Options{})
		s := opened(t, b, provider.Options{})
		if _, err := object.PutBytes(t.Context(), s, "x", []byte("another's"), object.Condition{}); err != nil {
			t.Fatal(err)
		}
		b.SetRule(first(mem.Put, 100, mem.Outcome{Err: broken}))
		before := s.Requests().Puts
		if _, err := object.PutBytes(t.Context(), s, "x", []byte("mine"), c); !errors.Is(err, fsapi.Precondition) {
			t.Errorf("%s: %v", name, err)
		}
		if n := s.Requests().Puts - before; n != 1 {
			t.Errorf("%s: the body was sent %d times", name, n)
		}
		if _, err := object.PutBytes(t.Context(), s, "none", []byte("mine"), object.IfVersion("17")); !errors.Is(err, fsapi.Precondition) {
			t.Errorf("an object that is not there: %v", err)
		}
	}
}

// TestLateArrival is an attempt that takes place only while the next one is made.
func TestLateArrival(t *testing.T) {
	b := mem.New(mem.Options{})
	s := opened(t, b, provider.Options{})
	var heads, puts atomic.Int64
	b.SetRule(func(r mem.Request) mem.Outcome {
		switch {
		case r.Op == mem.Put && puts.Add(1) == 1:
			return mem.Outcome{Err: broken, Late: true}
		case r.Op == mem.Head && heads.Add(1) == 1:
			return mem.Outcome{Err: fsapi.Errorf(fsapi.NotExist, "not yet")}
		}
		return mem.Outcome{}
	})
	v, err := object.PutBytes(t.Context(), s, "x", []byte("mine"), object.IfAbsent())
	if err != nil {
		t.Fatal(err)
	}
	if o, err := s.Stat(t.Context(), "x"); err != nil || o.Version != v {
		t.Errorf("told version %q, there is %+v, %v", v, o, err)
	}
}

// TestAttempts repeats what is transient, no more often than told, and nothing
// else.
func TestAttempts(t *testing.T) {
	calls := map[mem.Op]func(s object.Store) error{
		mem.Get: func(s object.Store) error {
			_, _, err := s.Get(t.Context(), "x", 0, make([]byte, 1))
			return err
		},
		mem.Head: func(s object.Store) error {
			_, err := s.Stat(t.Context(), "x")
			return err
		},
		mem.Put: func(s object.Store) error {
			_, err := object.PutBytes(t.Context(), s, "x", []byte("y"), object.Condition{})
			return err
		},
		mem.Delete: func(s object.Store) error { return s.Delete(t.Context(), "x") },
		mem.List: func(s object.Store) error {
			return s.List(t.Context(), "", "", func(object.Object) error { return nil })
		},
		mem.Begin: stream, mem.Part: stream, mem.Complete: stream,
	}
	for op, call := range calls {
		for kind, wants := range map[fsapi.Kind][2]bool{fsapi.IO: {true, false}, fsapi.Access: {false, false}} {
			for i, n := range []int64{3, 4} { // of 4 attempts
				b := mem.New(mem.Options{})
				s := opened(t, b, provider.Options{PartSize: 1 << 20, Parallel: 1})
				if _, err := object.PutBytes(t.Context(), s, "x", []byte("body"), object.Condition{}); err != nil {
					t.Fatal(err)
				}
				b.SetRule(first(op, n, mem.Outcome{Err: fsapi.Errorf(kind, "injected")}))
				before := s.Requests().Retries
				err := call(s)
				if (err == nil) != wants[i] || err != nil && fsapi.KindOf(err) != kind {
					t.Errorf("%s fails %d times with %q: %v", op, n, kind, err)
				}
				if made := s.Requests().Retries - before; kind == fsapi.Access && made != 0 || kind == fsapi.IO && made < 3 {
					t.Errorf("%s fails %d times with %q: %d repetitions", op, n, kind, made)
				}
				if b.Uploads() != 0 {
					t.Errorf("%s fails %d times with %q: %d uploads are left", op, n, kind, b.Uploads())
				}
			}
		}
	}
}

// stream writes an object of several parts and checks it.
func stream(s object.Store) error {
	ctx, data := context.Background(), bytes.Repeat([]byte("0123456789"), 350_000)
	w, err := s.Create(ctx, "big", 0, object.Condition{})
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	if _, err := w.Commit(ctx); err != nil {
		return err
	}
	got, _, err := object.ReadAll(ctx, s, "big", 0, 1<<30)
	if err == nil && !bytes.Equal(got, data) {
		return errors.New("other bytes")
	}
	return err
}

// TestListGoesOn breaks off each page once: every key is listed once.
func TestListGoesOn(t *testing.T) {
	b := mem.New(mem.Options{Page: 3})
	s := opened(t, b, provider.Options{})
	const keys = "abcdefghijklmnopqrstuvwxyz"
	for _, key := range strings.Split(keys, "") {
		if _, err := object.PutBytes(t.Context(), s, key, nil, object.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	var n atomic.Int64
	b.SetRule(func(r mem.Request) mem.Outcome {
		return mem.Outcome{Err: map[bool]error{true: broken}[r.Op == mem.List && n.Add(1)%2 == 1]}
	})
	var got string
	if err := s.List(t.Context(), "", "c", func(o object.Object) error {
		got += o.Key
		return nil
	}); err != nil || got != keys[3:] {
		t.Errorf("listed %q, %v", got, err)
	}
}

// TestNoAnswer ends an attempt that hangs, and makes another.
func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New(mem.Options{})
		s := opened(t, b, provider.Options{Timeout: time.Second})
		b.SetRule(first(mem.Put, 1, mem.Outcome{Hang: true}))
		if _, err := object.PutBytes(t.Context(), s, "x", []byte("y"), object.IfAbsent()); err != nil {
			t.Errorf("after one attempt that hung: %v", err)
		}
		b.SetRule(func(mem.Request) mem.Outcome { return mem.Outcome{Hang: true} })
		start := time.Now()
		_, err := s.Stat(t.Context(), "x")
		if !errors.Is(err, fsapi.TimedOut) || time.Since(start) != 4*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		b.SetRule(nil)
	})
}

// TestConnectionEnds does not take the end of a connection for the end of an
// object.
func TestConnectionEnds(t *testing.T) {
	b := mem.New(mem.Options{})
	s := opened(t, b, provider.Options{})
	b.SetRule(func(mem.Request) mem.Outcome {
		return mem.Outcome{Err: fsapi.Wrap(fsapi.IO, io.EOF, "connection closed")}
	})
	if _, _, err := s.Get(t.Context(), "x", 0, make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || fsapi.KindOf(err) != fsapi.IO {
		t.Errorf("get: %v", err)
	}
	if err := s.List(t.Context(), "", "", func(object.Object) error { return nil }); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("list: %v", err)
	}
}

// breaking gives bodies that break off, each where the next of ends says.
type breaking struct {
	*mem.Bucket
	ends []error
}

// Get implements provider.API.
func (b *breaking) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, object.Object, error) {
	body, o, err := b.Bucket.Get(ctx, key, off, n)
	if err != nil || len(b.ends) == 0 {
		return body, o, err
	}
	end := b.ends[0]
	b.ends = b.ends[1:]
	return io.NopCloser(io.MultiReader(io.LimitReader(body, n/2), iotest.ErrReader(end))), o, nil
}

// TestBodyBreaksOff asks again for what it was to have whole, and tells who reads
// as it arrives; neither takes it for the object's end.
func TestBodyBreaksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := []byte("0123456789")
		b := &breaking{Bucket: mem.New(mem.Options{})}
		s, err := provider.New(b, provider.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := object.PutBytes(t.Context(), s, "x", data, object.Condition{}); err != nil {
			t.Fatal(err)
		}
		for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET} {
			b.ends = []error{end}
			p := make([]byte, 10)
			if _, _, err := s.Get(t.Context(), "x", 0, p); err != nil || !bytes.Equal(p, data) {
				t.Errorf("%v, then whole: %q, %v", end, p, err)
			}
			b.ends = []error{end}
			body, _, err := s.Open(t.Context(), "x", 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(body)
			if string(got) != "01234" || fsapi.KindOf(err) != fsapi.IO || errors.Is(err, io.EOF) {
				t.Errorf("%v: read %q, %v", end, got, err)
			}
			body.Close()
		}
	})
}

// unordered lists from the end to the beginning.
type unordered struct{ *mem.Bucket }

// List implements provider.API.
func (u unordered) List(ctx context.Context, prefix, after, token string) (provider.Page, error) {
	page, err := u.Bucket.List(ctx, prefix, after, token)
	slices.Reverse(page.Objects)
	return page, err
}

func TestUnordered(t *testing.T) {
	b := mem.New(mem.Options{})
	s, err := provider.New(unordered{b}, provider.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b"} {
		if _, err := object.PutBytes(t.Context(), s, key, nil, object.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	err = s.List(t.Context(), "", "", func(object.Object) error { return nil })
	if !errors.Is(err, fsapi.NotSupported) {
		t.Errorf("a listing out of order: %v", err)
	}
}

func TestKindOfStatus(t *testing.T) {
	transient := map[int]bool{408: true, 409: true, 429: true, 500: true, 502: true, 503: true, 504: true}
	for status := 300; status < 600; status++ {
		if http.StatusText(status) == "" {
			continue
		}
		kind := provider.KindOfStatus(status)
		if want := transient[status] || status > 504 && status != 507; object.Transient(kind) != want {
			t.Errorf("%d is %q: transient is %v", status, kind, !want)
		}
	}
}

// taken is memory that was given to a writer, and how often it came back.
type taken struct {
	data []byte
	back int
}

// give makes an object of pieces, of which every third is written and not given.
func give(t *testing.T, s object.Store, key string, sizes []int) (want []byte, all []*taken, err error) {
	t.Helper()
	w, err := s.Create(t.Context(), key, 0, object.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for i, n := range sizes {
		p := objecttest.Bytes(uint64(i), n)
		want = append(want, p...)
		if i%3 == 2 {
			if _, err := w.Write(p); err != nil {
				return want, all, err
			}
			clear(p) // it is the caller's again
			continue
		}
		m := &taken{data: p}
		all = append(all, m)
		if err := w.Take(p, func() { m.back++; clear(m.data) }); err != nil {
			return want, all, err
		}
	}
	_, err = w.Commit(t.Context())
	return want, all, err
}

// TestTake makes objects of memory that is given to the writer, in one request and in
// parts, wherever these end; all of it comes back, once.
func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, sizes := range map[string][]int{
			"whole": {10, 0, 20, 30}, "one part": {60, 40}, "parts": {30, 30, 30, 30, 30, 30, 7}, "exact": {100, 100, 100, 100},
			"long": {250, 1, 1000, 50, 333}, "begins in the midst": {99, 202, 1, 399},
		} {
			for _, c := range []struct{ whole, hold int64 }{{0, 1000}, {500, 1000}, {500, 200}, {500, 0}, {2000, 3000}} {
				s := opened(t, mem.New(mem.Options{Whole: c.whole}), provider.Options{PartSize: 100, Hold: provider.NewMemory(c.hold)})
				want, all, err := give(t, s, "x", sizes)
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				p := make([]byte, len(want))
				if n, o, err := s.Get(t.Context(), "x", 0, p); n != len(p) || err != nil || o.Size != int64(n) || !bytes.Equal(p, want) {
					t.Errorf("%s, %+v: %d bytes of %d, %v", name, c, n, o.Size, err)
				}
				for i, m := range all {
					if m.back != 1 {
						t.Errorf("%s, %+v: memory %d came back %d times", name, c, i, m.back)
					}
				}
				size := int64(len(want))
				one := size <= 100 || size <= c.whole && size <= 100+c.hold
				if puts := s.Requests().Puts; one != (puts == 1) {
					t.Errorf("%s, %+v: %d requests for %d bytes", name, c, puts, size)
				}
			}
		}
	})
}

// TestTakeKeepsWhatMayBeRead does not give memory back that an attempt which ended
// without an answer may be reading.
func TestTakeKeepsWhatMayBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			op    mem.Op
			late  bool // it took place
			whole int64
			sizes []int
		}{
			{mem.Put, false, 0, []int{50}}, {mem.Put, true, 0, []int{50}}, {mem.Part, false, 0, []int{100, 100}},
			{mem.Put, false, 300, []int{100, 100}}, {mem.Put, true, 300, []int{100, 100}},
		} {
			op, sizes := c.op, c.sizes
			b := mem.New(mem.Options{Whole: c.whole})
			s := opened(t, b, provider.Options{PartSize: 100, Hold: provider.NewMemory(200)})
			var failed atomic.Bool // parts are sent at the same time
			b.SetRule(func(r mem.Request) mem.Outcome {
				if r.Op != op || failed.Swap(true) {
					return mem.Outcome{}
				}
				return mem.Outcome{Err: broken, Late: c.late}
			})
			want, all, err := give(t, s, "x", sizes)
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, len(want))
			if _, _, err := s.Get(t.Context(), "x", 0, p); err != nil || !bytes.Equal(p, want) {
				t.Errorf("%s: wrong bytes, %v", op, err)
			}
			kept := 0
			for _, m := range all {
				kept += 1 - m.back
			}
			if want := len(all); op == mem.Part && kept != 1 || op == mem.Put && kept != want {
				t.Errorf("%+v: %d of %d pieces of memory were kept", c, kept, want)
			}
		}
	})
}

// TestWholeWaits lets an object wait for the memory of one that is on its way, and
// not for one that is being written; whatever becomes of them, all of the memory is
// there again.
func TestWholeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New(mem.Options{Whole: 400})
		s := opened(t, b, provider.Options{PartSize: 100, Hold: provider.NewMemory(300)})
		begin := func(key string, n int) object.Writer {
			t.Helper()
			w, err := s.Create(t.Context(), key, 0, object.Condition{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(objecttest.Bytes(1, n)); err != nil {
				t.Fatal(err)
			}
			return w
		}
		puts := func(want int64) {
			t.Helper()
			if got := s.Requests().Puts; got != want {
				t.Fatalf("%d requests, not %d", got, want)
			}
		}
		commit := func(w object.Writer) {
			if _, err := w.Commit(t.Context()); err != nil {
				t.Error(err)
			}
		}
		// Both are being written: the second, for which there is no memory, goes in
		// parts and does not wait.
		one, two := begin("one", 400), begin("two", 400)
		commit(two)
		puts(1 + 4 + 1)
		// The first is on its way: the third waits.
		gate := make(chan struct{})
		b.SetRule(func(r mem.Request) mem.Outcome {
			if r.Op == mem.Put && r.Key == "one" {
				<-gate
			}
			return mem.Outcome{}
		})
		go commit(one)
		synctest.Wait()
		began := make(chan object.Writer, 1)
		go func() { began <- begin("three", 400) }()
		synctest.Wait()
		select {
		case <-began:
			t.Fatal("it did not wait")
		default:
		}
		close(gate)
		commit(<-began)
		puts(6 + 1 + 1)
		// Given up, and failed.
		begin("four", 400).Abort()
		b.SetRule(first(mem.Put, 1, mem.Outcome{Err: fsapi.Errorf(fsapi.Access, "no")}))
		if _, err := begin("five", 400).Commit(t.Context()); !errors.Is(err, fsapi.Access) {
			t.Fatal(err)
		}
		puts(8 + 1)
		commit(begin("six", 400))
		puts(9 + 1)
		p := make([]byte, 400)
		for _, key := range []string{"one", "two", "three", "six"} {
			if _, _, err := s.Get(t.Context(), key, 0, p); err != nil || !bytes.Equal(p, objecttest.Bytes(1, 400)) {
				t.Errorf("%s: wrong bytes, %v", key, err)
			}
		}
	})
}

// holding is a provider that takes a last part of odd size with the end of the
// upload only.
type holding struct {
	*mem.Bucket
	atEnd func()
}

// Begin implements provider.API.
func (h *holding) Begin(ctx context.Context, key string, o provider.PutOptions) (provider.Upload, error) {
	u, err := h.Bucket.Begin(ctx, key, o)
	return &heldUpload{Upload: u, h: h, partSize: o.PartSize}, err
}

type heldUpload struct {
	provider.Upload
	h        *holding
	partSize int64
	last     *io.SectionReader
}

// Part implements provider.Upload.
func (u *heldUpload) Part(ctx context.Context, n int, body *io.SectionReader) error {
	if body.Size() < u.partSize {
		u.last = body
		return nil
	}
	return u.Upload.Part(ctx, n, body)
}

// Complete implements provider.Upload.
func (u *heldUpload) Complete(ctx context.Context, n int) (object.Version, error) {
	if u.last != nil {
		u.h.atEnd()
		if err := u.Upload.Part(ctx, n-1, u.last); err != nil {
			return "", err
		}
	}
	return u.Upload.Complete(ctx, n)
}

// TestLastPartIsKept does not lend the memory of a last part to other writers, nor
// give it back, before the upload has ended.
func TestLastPartIsKept(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // or the pool may not find what it was given
	const part = 2 << 20
	h := &holding{Bucket: mem.New(mem.Options{}), atEnd: func() {}}
	s, err := provider.New(h, provider.Options{PartSize: part})
	if err != nil {
		t.Fatal(err)
	}
	h.atEnd = func() { // another writes meanwhile
		h.atEnd = func() {}
		for range 3 {
			w, err := s.Create(t.Context(), "other", part, object.Condition{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(make([]byte, part)); err != nil {
				t.Fatal(err)
			}
			w.Abort()
		}
	}
	want := objecttest.Bytes(1, part+part/2)
	w, err := s.Create(t.Context(), "x", int64(len(want)), object.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(want); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, len(want))
	if _, _, err := s.Get(t.Context(), "x", 0, p); err != nil || !bytes.Equal(p, want) {
		t.Errorf("what was written is not what is there, %v", err)
	}
	h.atEnd = func() {}
	if want, all, err := give(t, s, "y", []int{part, part / 2}); err != nil || all[1].back != 1 {
		t.Errorf("%v; memory came back %d times", err, all[1].back)
	} else if _, _, err := s.Get(t.Context(), "y", 0, p); err != nil || !bytes.Equal(p, want) {
		t.Errorf("what was given is not what is there, %v", err)
	}
}

// slow takes bodies piece by piece, and stops taking them where the line is cut.
type slow struct {
	*mem.Bucket
	rate int64 // bytes a second
	cut  int64 // bytes of a body after which nothing moves; 0: none
}

// take reads a body as the line lets it.
func (s *slow) take(ctx context.Context, body *io.SectionReader) error {
	const piece = 32 << 10
	for off := int64(0); off < body.Size(); off += piece {
		if s.cut > 0 && off >= s.cut {
			<-ctx.Done()
			return ctx.Err()
		}
		if _, err := body.ReadAt(make([]byte, min(piece, body.Size()-off)), off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		select {
		case <-time.After(piece * time.Second / time.Duration(s.rate)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *slow) Put(ctx context.Context, key string, body *io.SectionReader, o provider.PutOptions) (object.Version, error) {
	if err := s.take(ctx, body); err != nil {
		return "", err
	}
	return s.Bucket.Put(ctx, key, body, o)
}

func (s *slow) Begin(ctx context.Context, key string, o provider.PutOptions) (provider.Upload, error) {
	u, err := s.Bucket.Begin(ctx, key, o)
	return &slowUpload{u, s}, err
}

type slowUpload struct {
	provider.Upload
	s *slow
}

func (u *slowUpload) Part(ctx context.Context, n int, body *io.SectionReader) error {
	if err := u.s.take(ctx, body); err != nil {
		return err
	}
	return u.Upload.Part(ctx, n, body)
}

// TestSlowLine: an upload on a slow line is not given up while it moves, in one
// request or in parts, or it would never end; one that moves no more is.
func TestSlowLine(t *testing.T) {
	const size = 40 << 20
	body := make([]byte, size)
	ways := map[string]struct {
		whole int64
		write func(t *testing.T, s object.Store) error
	}{
		"put": {0, func(t *testing.T, s object.Store) error {
			_, err := object.PutBytes(t.Context(), s, "x", body, object.Condition{})
			return err
		}},
		"whole": {64 << 20, func(t *testing.T, s object.Store) error { return create(t, s, body) }},
		"parts": {0, func(t *testing.T, s object.Store) error { return create(t, s, body) }},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &slow{Bucket: mem.New(mem.Options{Whole: way.whole}), rate: 8 << 10}
				s, err := provider.New(api, provider.Options{Hold: provider.NewMemory(way.whole), Retry: backoff.Policy{Attempts: 1}})
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if err := way.write(t, s); err != nil {
					t.Errorf("after %v at %d bytes a second: %v", time.Since(start), api.rate, err)
				}
				api.cut, start = 8<<20, time.Now()
				err = way.write(t, s)
				moving := time.Duration(api.cut/api.rate) * time.Second
				if d := time.Since(start) - moving; !errors.Is(err, fsapi.TimedOut) || d > 10*time.Minute {
					t.Errorf("%v after the line was cut: %v", d, err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// create writes an object by a writer.
func create(t *testing.T, s object.Store, body []byte) error {
	w, err := s.Create(t.Context(), "x", int64(len(body)), object.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(body); err != nil {
		return err
	}
	_, err = w.Commit(t.Context())
	return err
}
