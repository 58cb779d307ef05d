package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/osfs"
)

// long says whether the long campaigns run.
func long() bool { return os.Getenv("STRAKE_LONG") != "" }

// tiny makes memtables rotate, flush and compact within a short history.
func tiny(fs osfs.FS) Options {
	return Options{
		FS: fs, Dir: "/data/kv", MemTableBytes: 64 << 10, CacheBytes: 1 << 20, TailBytes: 256 << 10,
		Clock: quick{clock.Real}, Log: slog.New(slog.DiscardHandler),
	}
}

// history keeps every batch committed so far, from a tail of its own.
type history struct {
	mu      sync.Mutex
	batches []kv.Batch
}

func (r *history) follow(t *testing.T, e kv.Engine) (stop func()) {
	tl, err := e.Tail(1)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			b, err := tl.Next(context.Background())
			if err != nil {
				if fsapi.KindOf(err) != fsapi.Closed {
					t.Error(err)
				}
				return
			}
			r.mu.Lock()
			r.batches = append(r.batches, b)
			r.mu.Unlock()
		}
	}()
	return func() { <-done }
}

// state is what the first n batches leave.
func (r *history) state(t *testing.T, n kv.Seq) map[string]string {
	t.Helper()
	if int(n) > len(r.batches) {
		t.Fatalf("batch %d survived, but only %d were ever committed", n, len(r.batches))
	}
	m := map[string]string{}
	for _, b := range r.batches[:n] {
		for _, op := range b.Ops {
			switch k := string(op.Key); op.Kind {
			case kv.OpPut:
				m[k] = string(op.Value)
			case kv.OpDelete:
				delete(m, k)
			case kv.OpAdd:
				n := kv.DecodeCounter([]byte(m[k])) + op.Delta
				if m[k] = string(kv.AppendCounter(nil, n)); n == 0 {
					delete(m, k)
				}
			}
		}
	}
	return m
}

func dump(t *testing.T, e kv.Engine) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := e.View(context.Background(), func(r kv.Reader) error {
		return r.Scan(nil, nil, func(k, v []byte) (bool, error) { m[string(k)] = string(v); return true, nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// randomUpdate writes a few keys, sometimes large, sometimes durably. acked is
// told what was acknowledged as durable.
func randomUpdate(e kv.Engine, rng *rand.Rand, acked func(kv.Seq)) error {
	ctx := context.Background()
	sync := rng.IntN(4) == 0
	seq, err := e.Update(ctx, kv.UpdateOptions{Sync: sync}, func(tx kv.Tx) error {
		for range 1 + rng.IntN(6) {
			switch k := rng.IntN(200); rng.IntN(6) {
			case 0:
				tx.Delete(fmt.Appendf(nil, "k%d", k))
			case 1:
				tx.Add(fmt.Appendf(nil, "n%d", k%10), int64(rng.IntN(5))-2)
			case 2:
				tx.Delete(fmt.Appendf(nil, "n%d", k%10))
			case 3:
				tx.Put(fmt.Appendf(nil, "k%d", k), make([]byte, rng.IntN(6000)))
			default:
				tx.Put(fmt.Appendf(nil, "k%d", k), fmt.Appendf(nil, "v%d", rng.Uint32()))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !sync && rng.IntN(8) == 0 {
		if err := e.Sync(ctx); err != nil {
			return err
		}
		sync = true
	}
	if sync {
		acked(seq)
	}
	return nil
}

// crashPoint is a clone of the disk, and what was promised when it was taken.
type crashPoint struct {
	fs      *osfs.Mem
	durable kv.Seq
	at      osfs.Call
}

// TestCrash cuts the power at calls of the file system, chosen at random, while
// several writers run, and opens what is left.
func TestCrash(t *testing.T) {
	histories, points := 5, 12
	if long() {
		histories, points = 60, 40
	}
	for seed := range uint64(histories) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crashHistory(t, seed, points) })
	}
}

func crashHistory(t *testing.T, seed uint64, points int) {
	mem := osfs.NewMem(osfs.MemOptions{})
	fault := osfs.NewFault(mem, nil)
	o := tiny(fault)
	o.TailBytes = kv.DefaultTailBytes
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	var rec history
	stop := rec.follow(t, e)
	var (
		mu    sync.Mutex
		rng   = rand.New(rand.NewPCG(seed, 1))
		taken []crashPoint
		next  = rng.IntN(50)
		calls int
	)
	fault.SetRule(func(c osfs.Call) osfs.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls > next && len(taken) < points {
			next = calls + rng.IntN(60)
			// First what is promised, then the clone: the promise can only be older.
			d := e.DurableSeq()
			taken = append(taken, crashPoint{mem.CrashClone(rng, osfs.AnyCrash(rng)), d, c})
		}
		return osfs.Outcome{}
	})
	var wg sync.WaitGroup
	for w := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 100+w))
		wg.Go(func() {
			for range 400 {
				if err := randomUpdate(e, rng, func(kv.Seq) {}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	stop()
	if len(taken) < points {
		t.Errorf("only %d of %d crash points were reached in %d calls", len(taken), points, calls)
	}
	for i, p := range taken {
		checkSurvivor(t, fmt.Sprintf("crash %d at %s %s", i, p.at.Op, p.at.Name), p, &rec)
	}
}

// checkSurvivor opens what a crash left: a prefix of the batches with all the
// promised ones, followed by a tail that continues; and what it showed once it
// must show after another crash.
func checkSurvivor(t *testing.T, name string, p crashPoint, rec *history) {
	t.Helper()
	e, err := Open(tiny(p.fs))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	last := e.LastSeq()
	if last < p.durable {
		t.Fatalf("%s: batch %d was promised to be durable, only %d are left", name, p.durable, last)
	}
	want := rec.state(t, last)
	if got := dump(t, e); !maps.Equal(want, got) {
		t.Fatalf("%s: not the state after batch %d (-want +got):\n%s", name, last, cmp.Diff(want, got))
	}
	checkTail(t, name, e, rec)
	again := p.fs.CrashClone(rand.New(rand.NewPCG(1, 1)), osfs.CrashLose)
	if err := e.Close(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	e, err = Open(tiny(again))
	if err != nil {
		t.Fatalf("%s, and again: %v", name, err)
	}
	if e.LastSeq() != last {
		t.Fatalf("%s: opened at batch %d, after a second crash at %d", name, last, e.LastSeq())
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// checkTail compares what the tail still has with what was committed.
func checkTail(t *testing.T, name string, e kv.Engine, rec *history) {
	t.Helper()
	from := e.LastSeq() + 1
	var tl kv.Tail
	for ; from > 1; from-- {
		next, err := e.Tail(from - 1)
		if err != nil {
			break
		}
		if tl != nil {
			tl.Close()
		}
		tl = next
	}
	if tl == nil {
		return
	}
	defer tl.Close()
	for seq := from; seq <= e.LastSeq(); seq++ {
		b, err := tl.Next(context.Background())
		if err != nil {
			t.Fatalf("%s: tail: %v", name, err)
		}
		if want := rec.batches[seq-1]; !bytes.Equal(kv.AppendBatch(nil, want), kv.AppendBatch(nil, b)) {
			t.Fatalf("%s: tail gives another batch %d (-want +got):\n%s", name, seq, cmp.Diff(want, b))
		}
	}
}

// TestTailSurvivesReopen: what is in the log can be followed after a restart.
func TestTailSurvivesReopen(t *testing.T) {
	fs := osfs.NewMem(osfs.MemOptions{})
	o := tiny(fs)
	o.MemTableBytes = 4 << 20
	var want []kv.Batch
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	rec := history{}
	stop := rec.follow(t, e)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		if err := randomUpdate(e, rng, func(kv.Seq) {}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	stop()
	want = rec.batches
	e, err = Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	tl, err := e.Tail(1)
	if err != nil {
		t.Fatal(err)
	}
	defer tl.Close()
	for i := range want {
		b, err := tl.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[i], b); diff != "" {
			t.Fatalf("batch %d (-want +got):\n%s", i+1, diff)
		}
	}
}

// quick is the machine's clock without its patience.
type quick struct{ clock.Clock }

func (quick) After(time.Duration) <-chan time.Time { return time.After(time.Millisecond) }

// TestBusy: a directory has one engine.
func TestBusy(t *testing.T) {
	for _, fs := range []osfs.FS{osfs.NewMem(osfs.MemOptions{}), osfs.OS{}} {
		o := small(fs, t.TempDir()+"/kv")
		if _, ok := fs.(*osfs.Mem); ok {
			o.Dir = "/kv"
		}
		e, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(o); err == nil || fsapi.KindOf(err) != fsapi.Busy {
			t.Errorf("%T: opened twice: %v", fs, err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCrashWhileOpening cuts the power at every call of an opening that follows
// a crash: nothing may be lost then either.
func TestCrashWhileOpening(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 4))
		mem := osfs.NewMem(osfs.MemOptions{})
		e, err := Open(tiny(mem))
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			if err := randomUpdate(e, rng, func(kv.Seq) {}); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		last, want := e.LastSeq(), dump(t, e)
		crashed := mem.CrashClone(rng, osfs.AnyCrash(rng))
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var clones []*osfs.Mem
		e, err = Open(tiny(osfs.NewFault(crashed, func(osfs.Call) osfs.Outcome {
			mu.Lock()
			defer mu.Unlock()
			clones = append(clones, crashed.CrashClone(rng, osfs.CrashRandom))
			return osfs.Outcome{}
		})))
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		for i, c := range clones {
			e, err := Open(tiny(c))
			if err != nil {
				t.Fatalf("seed %d, crash %d while opening: %v", seed, i, err)
			}
			if got := dump(t, e); e.LastSeq() != last || !maps.Equal(got, want) {
				t.Fatalf("seed %d, crash %d while opening: batch %d instead of %d", seed, i, e.LastSeq(), last)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestNoMarker: a directory that lost what says which of its files count is not
// begun anew.
func TestNoMarker(t *testing.T) {
	fs := osfs.NewMem(osfs.MemOptions{})
	o := tiny(fs)
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		if err := randomUpdate(e, rng, func(kv.Seq) {}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := fs.ReadDir(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, manifestMarker) {
			if err := fs.Remove(o.Dir + "/" + name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := Open(o); !errors.Is(err, fsapi.Corrupt) {
		t.Fatalf("opened: %v", err)
	}
}
