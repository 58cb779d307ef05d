package watch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/drive/fault"
	"github.com/strakefs/strake/internal/drive/mem"
	"github.com/strakefs/strake/internal/drive/watch"
	"github.com/strakefs/strake/internal/fsapi"
)

func TestConformance(t *testing.T) {
	drivetest.Run(t, func(*testing.T) drive.Drive { return watch.New(mem.New(mem.Options{}), watch.Options{}) }, drivetest.Capabilities{})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hanging is a drive that pays no heed to contexts, as a hard NFS mount does: it
// hangs from hang on until it is let go.
type hanging struct {
	drive.Drive
	mu  sync.Mutex
	let chan struct{} // nil: it does not hang; guarded by mu
}

func (h *hanging) hang() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.let = make(chan struct{})
}

func (h *hanging) letGo() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.let)
	h.let = nil
}

func (h *hanging) wait() {
	h.mu.Lock()
	let := h.let
	h.mu.Unlock()
	if let != nil {
		<-let
	}
}

func (h *hanging) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	h.wait()
	return h.Drive.ReadAt(context.WithoutCancel(ctx), name, off, p)
}

func (h *hanging) Stat(ctx context.Context, name string) (drive.Blob, error) {
	h.wait()
	return h.Drive.Stat(context.WithoutCancel(ctx), name)
}

func (h *hanging) Delete(ctx context.Context, name string) error {
	h.wait()
	return h.Drive.Delete(context.WithoutCancel(ctx), name)
}

func (h *hanging) Replace(ctx context.Context, name string, data []byte) error {
	h.wait()
	return h.Drive.Replace(context.WithoutCancel(ctx), name, data)
}

func (h *hanging) List(ctx context.Context, prefix, after string, fn func(drive.Blob) error) error {
	return h.Drive.List(context.WithoutCancel(ctx), prefix, after, func(b drive.Blob) error {
		h.wait()
		return fn(b)
	})
}

func (h *hanging) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	h.wait()
	w, err := h.Drive.Create(context.WithoutCancel(ctx), name, size)
	return &hangingWriter{w, h}, err
}

func (h *hanging) Capacity(ctx context.Context) (drive.Capacity, error) {
	h.wait()
	return h.Drive.Capacity(context.WithoutCancel(ctx))
}

func (h *hanging) Close() error {
	h.wait()
	return h.Drive.Close()
}

type hangingWriter struct {
	drive.Writer
	h *hanging
}

func (w *hangingWriter) Write(p []byte) (int, error) {
	w.h.wait()
	return w.Writer.Write(p)
}

func (w *hangingWriter) Commit(ctx context.Context) error {
	w.h.wait()
	return w.Writer.Commit(context.WithoutCancel(ctx))
}

func (w *hangingWriter) Abort() {
	w.h.wait()
	w.Writer.Abort()
}

// calls are one of each, and how long it may take.
func calls(ctx context.Context, o watch.Options) map[string]struct {
	limit time.Duration
	call  func(d drive.Drive) error
} {
	type row = struct {
		limit time.Duration
		call  func(d drive.Drive) error
	}
	return map[string]row{
		"read": {o.Read, func(d drive.Drive) error {
			_, err := d.ReadAt(ctx, "x", 0, make([]byte, 1))
			return err
		}},
		"stat": {o.Other, func(d drive.Drive) error {
			_, err := d.Stat(ctx, "x")
			return err
		}},
		"create": {o.Other, func(d drive.Drive) error {
			_, err := d.Create(ctx, "x", 0)
			return err
		}},
		"list":    {o.Other, func(d drive.Drive) error { return d.List(ctx, "", "", func(drive.Blob) error { return nil }) }},
		"delete":  {o.Other, func(d drive.Drive) error { return d.Delete(ctx, "x") }},
		"replace": {o.Commit, func(d drive.Drive) error { return d.Replace(ctx, "x", []byte("y")) }},
		"measure": {o.Other, func(d drive.Drive) error {
			_, err := d.Capacity(ctx)
			return err
		}},
		"close": {o.Commit, func(d drive.Drive) error { return d.Close() }},
	}
}

var short = watch.Options{Read: time.Second, Write: 2 * time.Second, Commit: 3 * time.Second, Other: 4 * time.Second}

// made is a watched drive with the blob "x".
func made(t *testing.T, o watch.Options) (*watch.Drive, *hanging) {
	t.Helper()
	h := &hanging{Drive: mem.New(mem.Options{Info: drive.Info{Name: "nas"}})}
	must(t, h.Replace(t.Context(), "x", []byte("x")))
	return watch.New(h, o), h
}

func TestHangsNobody(t *testing.T) {
	for name, c := range calls(context.Background(), short) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, h := made(t, short)
				h.hang()
				start := time.Now()
				err := c.call(d)
				if took := time.Since(start); took != c.limit || !errors.Is(err, fsapi.TimedOut) || !strings.Contains(err.Error(), "nas") {
					t.Errorf("after %v: %v", took, err)
				}
				if n := d.Status().Stuck; n != 1 {
					t.Errorf("%d calls are stuck", n)
				}
				h.letGo()
				synctest.Wait()
				if n := d.Status().Stuck; n != 0 {
					t.Errorf("%d calls are stuck after they came back", n)
				}
			})
		})
	}
}

// TestCallerGoesAway returns when the caller's context ends.
func TestCallerGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := made(t, short)
		h.hang()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := d.Stat(ctx, "x"); !errors.Is(err, fsapi.TimedOut) || time.Since(start) != time.Millisecond {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		h.letGo()
	})
}

// TestWriterHangs leaves a writer behind in the midst: nothing is committed, and
// nothing of it is left when the drive comes back.
func TestWriterHangs(t *testing.T) {
	for _, at := range []string{"write", "abort"} {
		synctest.Test(t, func(t *testing.T) {
			d, h := made(t, short)
			w, err := d.Create(t.Context(), "new", 0)
			must(t, err)
			p := []byte("mine")
			if at == "write" {
				h.hang()
			}
			_, err = w.Write(p)
			copy(p, "XXXX") // it is the caller's again
			if at == "write" != errors.Is(err, fsapi.TimedOut) {
				t.Errorf("write: %v", err)
			}
			if at == "abort" {
				h.hang()
				start := time.Now()
				w.Abort()
				if took := time.Since(start); took != short.Write {
					t.Errorf("abort took %v", took)
				}
			}
			if err := w.Commit(t.Context()); !errors.Is(err, fsapi.Closed) {
				t.Errorf("commit: %v", err)
			}
			h.letGo()
			synctest.Wait()
			if _, err := d.Stat(t.Context(), "new"); !errors.Is(err, fsapi.NotExist) {
				t.Errorf("stat: %v", err)
			}
			if c, err := d.Capacity(t.Context()); err != nil || c.Used != 1 {
				t.Errorf("%+v is left of it, %v", c, err)
			}
		})
	}
}

// TestUploadsHaveTheirOwnTime lets writers wait, where Upload says so, for longer than
// a write or commit may take, and nothing else.
func TestUploadsHaveTheirOwnTime(t *testing.T) {
	patient := short
	patient.Upload = time.Hour
	const wait = 30 * time.Minute
	write := func(t *testing.T, step string, call func(d *watch.Drive, w drive.Writer) error, want bool) {
		synctest.Test(t, func(t *testing.T) {
			d, h := made(t, patient)
			w, err := d.Create(t.Context(), "new", 0)
			must(t, err)
			h.hang()
			time.AfterFunc(wait, h.letGo)
			if err := call(d, w); err == nil != want {
				t.Errorf("%s after %v: %v", step, wait, err)
			}
			time.Sleep(wait)
		})
	}
	write(t, "write", func(_ *watch.Drive, w drive.Writer) error { _, err := w.Write([]byte("x")); return err }, true)
	write(t, "take", func(_ *watch.Drive, w drive.Writer) error { return drive.Give(w, []byte("x"), func() {}) }, true)
	write(t, "commit", func(_ *watch.Drive, w drive.Writer) error { return w.Commit(context.Background()) }, true)
	write(t, "replace", func(d *watch.Drive, _ drive.Writer) error { return d.Replace(context.Background(), "y", nil) }, false)
	write(t, "close", func(d *watch.Drive, _ drive.Writer) error { return d.Close() }, false)
}

// TestGivenMemoryStaysGiven does not give memory back while a call that was left
// behind may be reading it.
func TestGivenMemoryStaysGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := made(t, short)
		w, err := d.Create(t.Context(), "new", 0)
		must(t, err)
		back := 0
		must(t, drive.Give(w, make([]byte, 1<<20-1), func() { back++ }))
		if back != 1 {
			t.Errorf("memory that was written came back %d times", back)
		}
		h.hang()
		start := time.Now()
		err = drive.Give(w, make([]byte, 2<<20), func() { back++ })
		if took := time.Since(start); !errors.Is(err, fsapi.TimedOut) || took != 3*short.Write || back != 1 {
			t.Errorf("after %v: %v; memory came back %d times", took, err, back)
		}
		if err := w.Commit(t.Context()); !errors.Is(err, fsapi.Closed) {
			t.Errorf("commit: %v", err)
		}
		h.letGo()
		synctest.Wait()
		if back != 2 {
			t.Errorf("memory came back %d times in all", back)
		}
	})
}

// A deletion that nobody waits for any more may come after the blob was written
// again: nobody writes it until then.
func TestNothingOvertakesWhatWasLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		d, h := made(t, short)
		must(t, d.Replace(ctx, "other", []byte("one")))
		h.hang()
		if err := d.Delete(ctx, "x"); !errors.Is(err, fsapi.TimedOut) {
			t.Fatal(err)
		}
		h.mu.Lock()
		was := h.let
		h.let = nil // later calls answer
		h.mu.Unlock()
		for what, err := range map[string]error{
			"write":   drivetest.Put(ctx, d, "x", []byte("again"), 0, 2),
			"replace": d.Replace(ctx, "x", []byte("again")),
			"delete":  d.Delete(ctx, "x"),
			"deletes": d.DeleteMany(ctx, []string{"y", "x"}),
		} {
			if !errors.Is(err, fsapi.TimedOut) {
				t.Errorf("%s while a deletion is on its way: %v", what, err)
			}
		}
		must(t, d.Delete(ctx, "other"))
		close(was)
		synctest.Wait()
		must(t, drivetest.Put(ctx, d, "x", []byte("again"), 0, 2))
		p := make([]byte, 5)
		if n, err := d.ReadAt(ctx, "x", 0, p); n != 5 || err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// TestBufferIsTheCallers does not write into the buffer of a read that was given
// up.
func TestBufferIsTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := made(t, short)
		h.hang()
		p := []byte("p")
		if _, err := d.ReadAt(t.Context(), "x", 0, p); !errors.Is(err, fsapi.TimedOut) {
			t.Errorf("read: %v", err)
		}
		h.letGo()
		synctest.Wait()
		if p[0] != 'p' {
			t.Errorf("the buffer holds %q", p)
		}
	})
}

// TestStreamIsNobodyElses does not lend the memory of a stream that was left
// behind, while the drive may yet write to it.
func TestStreamIsNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := made(t, short)
		must(t, h.Replace(t.Context(), "x", []byte("late")))
		must(t, h.Replace(t.Context(), "y", []byte("mine")))
		h.hang()
		start := time.Now()
		if _, err := d.Stream(t.Context(), "x", 0, 4); !errors.Is(err, fsapi.TimedOut) || time.Since(start) != short.Read {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		h.mu.Lock()
		was := h.let
		h.let = nil // later calls answer
		h.mu.Unlock()
		in, err := d.Stream(t.Context(), "y", 0, 4)
		must(t, err)
		defer in.Close()
		p, err := in.Next(4)
		must(t, err)
		close(was)
		synctest.Wait()
		if string(p) != "mine" {
			t.Errorf("the bytes became %q", p)
		}
		if n := d.Status().Stuck; n != 0 {
			t.Errorf("%d calls are stuck after they came back", n)
		}
	})
}

// streaming is a drive whose streams hang as it does.
type streaming struct {
	*hanging
	closed int // streams
}

func (s *streaming) Stream(ctx context.Context, name string, off, n int64) (drive.Stream, error) {
	p := make([]byte, n)
	k, err := s.Drive.ReadAt(ctx, name, off, p)
	return &hangingStream{drive.Held(p[:k], func() { s.closed++ }), s}, err
}

type hangingStream struct {
	drive.Stream
	s *streaming
}

func (h *hangingStream) Next(n int) ([]byte, error) {
	h.s.wait()
	return h.Stream.Next(n)
}

// TestStreamHangs leaves a stream behind in the midst: its owner is done with it
// in time, and it is closed when it comes back.
func TestStreamHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := made(t, short)
		below := &streaming{hanging: h}
		d := watch.New(below, short)
		in, err := d.Stream(t.Context(), "x", 0, 1)
		must(t, err)
		h.hang()
		start := time.Now()
		if _, err := in.Next(1); !errors.Is(err, fsapi.TimedOut) || time.Since(start) != short.Read {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if _, err := in.Next(1); !errors.Is(err, fsapi.Closed) {
			t.Errorf("a stream that is done: %v", err)
		}
		in.Close()
		if s := d.Stats(watch.Read); s.Errors != 1 || below.closed != 0 {
			t.Errorf("%+v; closed %d times while a call of it runs", s, below.closed)
		}
		h.letGo()
		synctest.Wait()
		if n := d.Status().Stuck; n != 0 || below.closed != 1 {
			t.Errorf("%d calls are stuck after they came back; closed %d times", n, below.closed)
		}
	})
}

// TestStates takes a drive from online through suspect to offline and back.
func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		start := time.Now()
		o := watch.Options{
			Failures: 3, CoolDown: time.Second, MaxCoolDown: 4 * time.Second, OfflineAfter: 10 * time.Second,
			OnChange: func(c watch.Change) {
				log = append(log, fmt.Sprintf("%v %s %s %v", c.At.Sub(start), c.From, c.To, c.Why != nil))
			},
		}
		below := fault.New(mem.New(mem.Options{}), nil, nil)
		d := watch.New(below, o)
		reached := 0
		fail := func(fault.Call) fault.Outcome { reached++; return fault.Outcome{Err: fsapi.Errorf(fsapi.IO, "no")} }
		stat := func() error {
			_, err := d.Stat(t.Context(), "y")
			return err
		}
		below.SetRule(fail)
		// What is no failure of the drive's, and a success between, do not add up.
		for range 2 {
			stat()
			stat()
			below.SetRule(nil)
			if err := stat(); !errors.Is(err, fsapi.NotExist) {
				t.Fatal(err)
			}
			below.SetRule(fail)
		}
		if s := d.Status(); s.State != watch.Online || len(log) != 0 {
			t.Fatalf("%+v %v", s, log)
		}
		reached = 0
		for range 10 {
			stat()
		}
		if err := stat(); !errors.Is(err, fsapi.NoDevice) || reached != 3 {
			t.Errorf("%d calls reached a drive that fails, the last: %v", reached, err)
		}
		// Every 100 ms a call: those at 1, 3, 7, 11, 15 s try it.
		reached = 0
		for time.Since(start) < 16*time.Second {
			time.Sleep(100 * time.Millisecond) // in a bubble
			stat()
		}
		if reached != 5 {
			t.Errorf("%d calls tried the drive within 16 s, want 5", reached)
		}
		below.SetRule(nil)
		time.Sleep(4 * time.Second) // in a bubble
		must(t, d.Probe(t.Context()))
		must(t, d.Probe(t.Context()))
		want := []string{"0s online suspect true", "11s suspect offline true", "20s offline online false"}
		if !slices.Equal(log, want) {
			t.Errorf("changes %q, want %q", log, want)
		}
	})
}

// TestOneTries lets one call try a suspect drive, however many come.
func TestOneTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := short
		o.Failures, o.CoolDown = 1, time.Second
		d, h := made(t, o)
		h.hang()
		if _, err := d.Stat(t.Context(), "x"); !errors.Is(err, fsapi.TimedOut) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // in a bubble
		var wg sync.WaitGroup
		var mu sync.Mutex
		kinds := map[fsapi.Kind]int{}
		for range 20 {
			wg.Go(func() {
				_, err := d.Stat(t.Context(), "x")
				mu.Lock()
				defer mu.Unlock()
				kinds[fsapi.KindOf(err)]++
			})
		}
		wg.Wait()
		if kinds[fsapi.TimedOut] != 1 || kinds[fsapi.NoDevice] != 19 {
			t.Errorf("%v", kinds)
		}
		h.letGo()
	})
}

// TestStuckIsBounded leaves no more calls behind than told.
func TestStuckIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := short
		o.MaxStuck, o.Failures = 5, 1000
		d, h := made(t, o)
		h.hang()
		for range 20 {
			d.Stat(t.Context(), "x")
		}
		if n := d.Status().Stuck; n != 5 {
			t.Errorf("%d calls are stuck", n)
		}
		if _, err := d.Stat(t.Context(), "x"); !errors.Is(err, fsapi.NoDevice) {
			t.Errorf("stat: %v", err)
		}
		h.letGo()
		synctest.Wait()
		_, err := d.Stat(t.Context(), "x")
		must(t, err)
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := fault.New(mem.New(mem.Options{}), nil, nil)
		must(t, below.Replace(t.Context(), "x", make([]byte, 1000)))
		below.SetRule(func(c fault.Call) fault.Outcome {
			if c.Off == 9 {
				return fault.Outcome{Err: fsapi.Errorf(fsapi.IO, "no")}
			}
			return fault.Outcome{Delay: 10 * time.Millisecond}
		})
		d := watch.New(below, watch.Options{})
		for range 100 {
			_, err := d.ReadAt(t.Context(), "x", 0, make([]byte, 10))
			must(t, err)
		}
		d.ReadAt(t.Context(), "x", 9, make([]byte, 10))
		s := d.Stats(watch.Read)
		if s.Calls != 101 || s.Errors != 1 || s.Bytes != 1000 || s.Latency < 8*time.Millisecond || s.Latency > 10*time.Millisecond {
			t.Errorf("%+v", s)
		}
		if s.Took[0] != 1 || s.Took[8] != 100 { // 64 µs · 2^8 = 16 ms
			t.Errorf("histogram %v", s.Took)
		}
		must(t, drivetest.Put(t.Context(), d, "y", make([]byte, 3<<20), 0, 3<<20))
		if s := d.Stats(watch.Write); s.Bytes != 3<<20 {
			t.Errorf("%+v", s)
		}
		for _, o := range watch.Ops() {
			if o.String() == "" {
				t.Errorf("class %d has no name", o)
			}
		}
	})
}
