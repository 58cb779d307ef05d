package bucket

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/osfs"
)

// long says whether the long campaigns run.
func long() bool { return os.Getenv("STRAKE_LONG") != "" }

// apply is what a batch does to a state.
func apply(m map[string]string, b kv.Batch) {
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

func contents(t testing.TB, e kv.Engine) map[string]string {
	t.Helper()
	m, err := read(e)
	must(t, err)
	return m
}

func read(e kv.Engine) (map[string]string, error) {
	m := map[string]string{}
	return m, e.View(context.Background(), func(r kv.Reader) error {
		return r.Scan(nil, nil, func(k, v []byte) (bool, error) { m[string(k)] = string(v); return true, nil })
	})
}

// story is every batch committed so far, and how far it was acknowledged.
type story struct {
	mu      sync.Mutex
	batches []kv.Batch
	acked   kv.Seq
}

// follow keeps the batches of an engine, until it is closed.
func (h *story) follow(t *testing.T, e kv.Engine) (done chan struct{}) {
	tl, err := e.Tail(e.LastSeq() + 1)
	must(t, err)
	done = make(chan struct{})
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
			h.mu.Lock()
			h.batches = append(h.batches, b)
			h.mu.Unlock()
		}
	}()
	return done
}

func (h *story) ack(seq kv.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acked = max(h.acked, seq)
}

// check compares an engine that was just opened, and forgets what was lost.
func (h *story) check(t *testing.T, e kv.Engine) {
	t.Helper()
	last := e.LastSeq()
	if last < h.acked || int(last) > len(h.batches) {
		t.Fatalf("opened at batch %d: %d was acknowledged, %d committed", last, h.acked, len(h.batches))
	}
	h.batches = h.batches[:last]
	want := map[string]string{}
	for _, b := range h.batches {
		apply(want, b)
	}
	if diff := cmp.Diff(want, contents(t, e)); diff != "" {
		t.Fatalf("at batch %d (-want +got):\n%.4000s", last, diff)
	}
}

// randomUpdate writes a few keys, sometimes large, sometimes durably.
func randomUpdate(ctx context.Context, e kv.Engine, rng *rand.Rand, acked func(kv.Seq)) error {
	durable := rng.IntN(4) == 0
	seq, err := e.Update(ctx, kv.UpdateOptions{Sync: durable}, func(tx kv.Tx) error {
		for range 1 + rng.IntN(6) {
			switch k := rng.IntN(200); rng.IntN(6) {
			case 0:
				tx.Delete(fmt.Appendf(nil, "k%d", k))
			case 1:
				tx.Add(fmt.Appendf(nil, "n%d", k%10), int64(rng.IntN(5))-2)
			case 2:
				tx.Delete(fmt.Appendf(nil, "n%d", k%10))
			case 3:
				tx.Put(fmt.Appendf(nil, "k%d", k), noise(rng, rng.IntN(6000)))
			default:
				tx.Put(fmt.Appendf(nil, "k%d", k), fmt.Appendf(nil, "v%d", rng.Uint32()))
			}
		}
		return nil
	})
	if err == nil && durable {
		acked(seq)
	}
	return err
}

func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestCrash ends the process at calls of the object store, chosen at random,
// before or after they take effect, while others fail, and opens what is left:
// on a new machine, on the old one, or on one whose disk did not keep the cache.
func TestCrash(t *testing.T) {
	seeds := 6
	if long() {
		seeds = 300
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crashes(t, rand.New(rand.NewPCG(uint64(seed), 7))) })
	}
}

func crashes(t *testing.T, rng *rand.Rand) {
	b := mem.New(mem.Options{})
	disk := osfs.NewMem(osfs.MemOptions{})
	h := &story{}
	checkpoints := 0
	for round := range 12 {
		g := &gate{Store: opened(t, b)}
		switch rng.IntN(3) {
		case 0:
			disk = osfs.NewMem(osfs.MemOptions{})
		case 1:
			spoil(t, disk, rng)
		}
		o := small(g, disk)
		o.Clock, o.CheckpointBytes, o.CheckpointObjects = &skewed{}, 16<<10, 8
		o.DiskBytes = int64(1+rng.IntN(4)) * 100 << 10
		if round%4 == 3 { // while it starts, too
			g.set(deadly(rng, rng.IntN(40)))
			if e, err := Open(t.Context(), o); err == nil {
				if g.set(nil); !g.gone() {
					h.check(t, e)
				}
				_ = e.Close()
			}
			g = &gate{Store: opened(t, b)}
			o.Objects = g
		}
		e, err := Open(t.Context(), o)
		must(t, err)
		h.check(t, e)
		checkpoints += int(e.s.chain.head.manifest.number)
		g.set(deadly(rng, 20+rng.IntN(150)))
		done := h.follow(t, e)
		live(e, g, rng, h)
		_ = e.Close()
		<-done
	}
	if checkpoints == 0 {
		t.Error("no checkpoint was ever made")
	}
}

// deadly ends the process at its n-th call, and lets others fail now and then.
func deadly(rng *rand.Rand, n int) func(int, string, string) outcome {
	rng = rand.New(rand.NewPCG(rng.Uint64(), 13)) // used by whoever calls
	start := -1
	return func(at int, _, _ string) outcome {
		if start < 0 {
			start = at
		}
		switch late := rng.IntN(2) == 0; {
		case at-start >= n:
			return outcome{kill: true, late: late}
		case rng.IntN(12) == 0:
			return outcome{err: errDown, late: late}
		}
		return outcome{}
	}
}

// live lets writers write until the process has ended. A read of what is not
// cached fails now and then.
func live(e kv.Engine, g *gate, rng *rand.Rand, h *story) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var writers sync.WaitGroup
	for range 3 {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 1))
		writers.Go(func() {
			for failures := 0; ctx.Err() == nil && failures < 1000; failures++ {
				if randomUpdate(ctx, e, rng, h.ack) == nil {
					failures = 0
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		writers.Wait()
	}()
	for { // nothing tells of the end of a process but that it is over
		select {
		case <-ended:
			return
		case <-time.After(time.Millisecond):
		}
		if g.gone() {
			cancel()
		}
	}
}

// spoil changes bytes of cached files.
func spoil(t *testing.T, disk *osfs.Mem, rng *rand.Rand) {
	names, err := disk.ReadDir("/cache/kv/cache")
	if err != nil {
		return
	}
	for _, name := range names {
		f, err := disk.OpenFile(path.Join("/cache/kv/cache", name), os.O_RDWR, 0)
		must(t, err)
		fi, err := f.Stat()
		must(t, err)
		for range 4 {
			_, err = f.WriteAt([]byte{byte(rng.Uint32())}, rng.Int64N(fi.Size()+1))
			must(t, err)
		}
		must(t, f.Close())
	}
}

func randOf(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 5)) }
