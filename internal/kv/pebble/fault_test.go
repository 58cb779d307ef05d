package pebble

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/osfs"
)

// patience is how long anything may take before it counts as hanging.
const patience = 30 * time.Second

// TestFaults lets calls fail for a time, chosen at random, while writers run and
// the power is cut on the way. Nothing hangs; what is refused says why; when the
// fault ends writing goes on by itself with everything that was committed; and
// what was acknowledged as durable is in whatever a power cut leaves.
func TestFaults(t *testing.T) {
	n := 40
	if long() {
		n = 2000
	}
	for seed := range uint64(n) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { faultHistory(t, seed) })
	}
}

// changes says whether a call changes something.
func changes(op osfs.Op) bool {
	switch op {
	case osfs.OpWrite, osfs.OpSync, osfs.OpSyncDir, osfs.OpOpen, osfs.OpRename, osfs.OpRemove, osfs.OpClose, osfs.OpSyncRange, osfs.OpTruncate:
		return true
	}
	return false
}

// outage is a time during which calls fail.
type outage struct {
	mu    sync.Mutex
	rng   *rand.Rand
	errno syscall.Errno
	reads bool // calls that change nothing fail, too
	odds  float64
	after int // calls before it begins
	left  int // calls it lasts

	first  osfs.Call // that failed
	failed int
	clone  func(osfs.Call) // takes a crash point
	next   int             // calls until then
}

func newOutage(rng *rand.Rand) *outage {
	return &outage{
		rng: rng, errno: [...]syscall.Errno{syscall.EIO, syscall.ENOSPC}[rng.IntN(2)], reads: rng.IntN(3) == 0,
		odds: [...]float64{0.1, 0.5, 1}[rng.IntN(3)], after: rng.IntN(600), left: 1 + rng.IntN([...]int{1, 5, 300}[rng.IntN(3)]),
	}
}

// rule decides about one call.
func (o *outage) rule(c osfs.Call) (out osfs.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.next--; o.next <= 0 {
		o.next = 1 + o.rng.IntN(100)
		o.clone(c)
	}
	if !changes(c.Op) && !o.reads {
		return out
	}
	if o.after--; o.after > 0 || o.left == 0 {
		return out
	}
	o.left--
	if o.rng.Float64() > o.odds {
		return out
	}
	if o.failed++; o.failed == 1 {
		o.first = c
	}
	return osfs.Outcome{Err: o.errno, Short: o.rng.IntN(c.Len + 1), Forget: o.rng.IntN(2) == 0}
}

func faultHistory(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
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
	out := newOutage(rng)
	var points []crashPoint
	var acked atomic.Uint64
	out.clone = func(c osfs.Call) {
		if len(points) < 8 {
			// First what is promised, then the clone: the promise can only be older.
			d := max(e.DurableSeq(), kv.Seq(acked.Load()))
			points = append(points, crashPoint{mem.CrashClone(rng, osfs.AnyCrash(rng)), d, c})
		}
	}
	fault.SetRule(out.rule)
	var wg sync.WaitGroup
	for w := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 100+w))
		wg.Go(func() { writeOn(t, e, rng, &acked) })
	}
	wg.Wait()
	fault.SetRule(nil)
	name := fmt.Sprintf("%d calls failed with %v, first %s %s", out.failed, out.errno, out.first.Op, out.first.Name)
	checkReads(t, e)
	last := e.LastSeq()
	if err := e.Close(); err != nil {
		t.Errorf("%s: Close says %v", name, err)
	}
	stop()
	if int(last) != len(rec.batches) {
		t.Errorf("%s: batch %d is the last, but the tail ended at %d", name, last, len(rec.batches))
	}
	for _, mode := range []osfs.CrashMode{osfs.CrashKeep, osfs.CrashLose, osfs.CrashRandom} {
		points = append(points, crashPoint{mem.CrashClone(rng, mode), last, osfs.Call{Op: "end"}})
	}
	for i, p := range points {
		checkSurvivor(t, fmt.Sprintf("%s; crash %d at %s %s", name, i, p.at.Op, p.at.Name), p, &rec)
	}
}

// writeOn writes until enough was taken, however often it is refused.
func writeOn(t *testing.T, e kv.Engine, rng *rand.Rand, acked *atomic.Uint64) {
	for range 200 {
		for end := time.Now().Add(patience); ; {
			err := randomUpdate(e, rng, func(s kv.Seq) {
				for old := acked.Load(); uint64(s) > old && !acked.CompareAndSwap(old, uint64(s)); {
					old = acked.Load()
				}
			})
			if err == nil {
				break
			}
			if k := fsapi.KindOf(err); k != fsapi.IO && k != fsapi.NoSpace || time.Now().After(end) {
				t.Errorf("Update says %v", err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// checkReads: reading goes on. An open that was under way while the fault was
// there may still report it, once.
func checkReads(t *testing.T, e kv.Engine) {
	t.Helper()
	var err error
	for range 5 {
		err = e.View(context.Background(), func(r kv.Reader) error {
			return r.Scan(nil, nil, func(k, v []byte) (bool, error) { return true, nil })
		})
		if err == nil {
			return
		}
	}
	t.Errorf("reading after the fault ended: %v", err)
}

// TestTablesDoNotFit: as long as tables cannot be written, writers are told so
// once memory is full, and go on when it ends.
func TestTablesDoNotFit(t *testing.T) {
	fault := osfs.NewFault(osfs.NewMem(osfs.MemOptions{}), nil)
	e, err := Open(tiny(fault))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	fault.SetRule(func(c osfs.Call) osfs.Outcome {
		if c.Op == osfs.OpWrite && isTable(c.Name) {
			return osfs.Outcome{Err: syscall.ENOSPC}
		}
		return osfs.Outcome{}
	})
	rng := rand.New(rand.NewPCG(1, 1))
	for err = nil; err == nil; {
		err = randomUpdate(e, rng, func(kv.Seq) {})
	}
	if fsapi.KindOf(err) != fsapi.NoSpace {
		t.Fatalf("Update says %v, want NoSpace", err)
	}
	fault.SetRule(nil)
	deadline := time.Now().Add(10 * time.Second)
	for err != nil {
		if time.Now().After(deadline) {
			t.Fatalf("still refused after the fault ended: %v", err)
		}
		err = randomUpdate(e, rng, func(kv.Seq) {})
	}
	if err := e.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// waits is a clock that notes how long it is asked to wait, and does not.
type waits struct {
	quick
	mu   sync.Mutex
	seen []time.Duration
}

func (w *waits) After(d time.Duration) <-chan time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, d)
	return w.quick.After(d)
}

// await until one waited that long.
func (w *waits) await(t *testing.T, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		seen := slices.Clone(w.seen)
		w.mu.Unlock()
		if slices.Contains(seen, d) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("none of %d waits was one of %v", len(seen), d)
		}
	}
}

// TestAttemptsBecomeRarer: a disk that takes no tables is not written to ten times
// a second for as long as that lasts, and one that took some again is, at first.
func TestAttemptsBecomeRarer(t *testing.T) {
	fault := osfs.NewFault(osfs.NewMem(osfs.MemOptions{}), nil)
	clk := &waits{quick: quick{clock.Real}}
	o := tiny(fault)
	o.Clock = clk
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	rng := rand.New(rand.NewPCG(1, 9))
	full := func(c osfs.Call) osfs.Outcome {
		if c.Op == osfs.OpWrite && isTable(c.Name) {
			return osfs.Outcome{Err: syscall.ENOSPC}
		}
		return osfs.Outcome{}
	}
	for range 2 {
		fault.SetRule(full)
		for err = nil; err == nil; {
			err = randomUpdate(e, rng, func(kv.Seq) {})
		}
		clk.await(t, tableRetry)
		clk.await(t, maxTableRetry)
		fault.SetRule(nil)
		for end := time.Now().Add(patience); err != nil; err = randomUpdate(e, rng, func(kv.Seq) {}) {
			if time.Now().After(end) {
				t.Fatalf("still refused after the fault ended: %v", err)
			}
		}
		clk.mu.Lock()
		clk.seen = nil
		clk.mu.Unlock()
	}
}

// TestFullAndFrozen: where the log has failed in the background too, writers that
// find memory full are let through to hear of it, and the log is begun anew.
func TestFullAndFrozen(t *testing.T) {
	o := tiny(osfs.NewMem(osfs.MemOptions{}))
	o.setDefaults()
	if err := makeDir(o.FS, o.Dir); err != nil {
		t.Fatal(err)
	}
	s, err := newStore(o, adapter{o.FS})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := s.cur.Load()
	d.load.stale.Store(false)
	d.load.high.Store(true)
	d.load.failures, d.load.flushErr = flushPatience, syscall.ENOSPC
	if err := s.Admit(t.Context()); fsapi.KindOf(err) != fsapi.NoSpace {
		t.Errorf("full: Admit says %v, want NoSpace", err)
	}
	d.guard.fail(syscall.EIO)
	if err := s.Admit(t.Context()); err != nil {
		t.Errorf("full and frozen: Admit says %v", err)
	}
	if err := s.Apply(kv.Commit{Seq: 1}); fsapi.KindOf(err) != fsapi.IO {
		t.Errorf("frozen: Apply says %v", err)
	}
}

// TestFaultsWhileOpening lets each call of an opening fail in turn, once or from
// there on, after a crash that left much to do. Opening ends, with an error or
// without, and the directory opens afterwards with everything in it.
func TestFaultsWhileOpening(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 5))
	mem := osfs.NewMem(osfs.MemOptions{})
	o := tiny(mem)
	o.MemTableBytes = 1 << 20
	e, err := Open(o)
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
	crashed := func() *osfs.Mem { return mem.CrashClone(rand.New(rand.NewPCG(1, 6)), osfs.CrashLose) }
	ended := 0
	for _, times := range []int64{1, 1 << 40} {
		for n := int64(1); ; n++ {
			disk := crashed()
			var count atomic.Int64
			fault := osfs.NewFault(disk, func(c osfs.Call) osfs.Outcome {
				if i := count.Add(1); i >= n && i < n+times {
					return osfs.Outcome{Err: syscall.ENOSPC, Short: c.Len / 2, Forget: true}
				}
				return osfs.Outcome{}
			})
			timer := time.AfterFunc(patience, func() { panic(fmt.Sprintf("opening hangs where call %d fails", n)) })
			e, err := Open(tiny(fault))
			calls := count.Load()
			fault.SetRule(nil)
			if err == nil {
				err = e.Close()
			}
			timer.Stop()
			if err != nil {
				ended++
				if k := fsapi.KindOf(err); k != fsapi.NoSpace {
					t.Errorf("call %d failed: %v", n, err)
				}
			}
			if e, err = Open(tiny(disk)); err != nil {
				t.Fatalf("after call %d failed while opening: %v", n, err)
			}
			if got := dump(t, e); e.LastSeq() != last || !maps.Equal(want, got) {
				t.Fatalf("after call %d failed while opening: batch %d instead of %d (-want +got):\n%s", n, e.LastSeq(), last, cmp.Diff(want, got))
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if calls < n {
				break
			}
		}
	}
	if ended == 0 {
		t.Error("no opening failed")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAttemptsLeaveNothing: attempts to begin the log anew on a full disk do not
// fill what is left of it.
func TestAttemptsLeaveNothing(t *testing.T) {
	mem := osfs.NewMem(osfs.MemOptions{})
	fault := osfs.NewFault(mem, nil)
	o := tiny(fault)
	o.MemTableBytes = 1 << 20
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	rng := rand.New(rand.NewPCG(1, 7))
	for range 100 {
		if err := randomUpdate(e, rng, func(kv.Seq) {}); err != nil {
			t.Fatal(err)
		}
	}
	// Tables of what was in the log fit, the manifest that would name them does
	// not: each attempt makes some, and fails.
	var attempts atomic.Int64
	fault.SetRule(func(c osfs.Call) osfs.Outcome {
		manifest := strings.Contains(c.Name, "MANIFEST-")
		if c.Op == osfs.OpSync && manifest {
			attempts.Add(1)
		}
		if c.Op == osfs.OpSync && (manifest || strings.HasSuffix(c.Name, ".log")) {
			return osfs.Outcome{Err: syscall.ENOSPC}
		}
		return osfs.Outcome{}
	})
	if err := again(e); err != nil {
		t.Fatal(err)
	}
	if err := e.Sync(context.Background()); !errors.Is(err, fsapi.NoSpace) {
		t.Fatalf("Sync says %v", err)
	}
	awaitAttempts(t, &attempts, 3)
	few := allocated(t, mem)
	awaitAttempts(t, &attempts, 30)
	if many := allocated(t, mem); many > few+few/2 {
		t.Errorf("3 attempts left %d bytes in use, 30 left %d", few, many)
	}
	fault.SetRule(nil)
	for end := time.Now().Add(patience); again(e) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still refused: %v", again(e))
		}
	}
}

// again writes once more.
func again(e kv.Engine) error {
	_, err := e.Update(context.Background(), kv.UpdateOptions{}, func(tx kv.Tx) error { tx.Put([]byte("k"), nil); return nil })
	return err
}

func awaitAttempts(t *testing.T, attempts *atomic.Int64, n int64) {
	t.Helper()
	for end := time.Now().Add(patience); attempts.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("only %d attempts", attempts.Load())
		}
	}
}

// allocated is the bytes in use on a disk.
func allocated(t *testing.T, m *osfs.Mem) int64 {
	t.Helper()
	c, err := m.StatFS("/")
	if err != nil {
		t.Fatal(err)
	}
	return c.Total - c.Free
}
