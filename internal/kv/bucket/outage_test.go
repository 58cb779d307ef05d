package bucket

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/osfs"
)

// fill writes n values of 4 KiB that do not compress, durably at the end.
func fill(t testing.TB, e kv.Engine, from, n int) {
	t.Helper()
	ctx := context.Background()
	for i := range n {
		_, err := e.Update(ctx, kv.UpdateOptions{}, func(tx kv.Tx) error {
			tx.Put(fmt.Appendf(nil, "f%06d", from+i), noise(randOf(from+i), 4096))
			return nil
		})
		must(t, err)
	}
	must(t, e.Sync(ctx))
}

func get(e kv.Engine, key string) (ok bool, err error) {
	err = e.View(context.Background(), func(r kv.Reader) error {
		_, ok, err = r.Get([]byte(key))
		return err
	})
	return ok, err
}

// TestOutage: while the store does not answer, what is cached is read, what is not
// is refused in time, writers go on up to a bound and then wait for as long as
// their context lets them, and everything goes on by itself afterwards.
func TestOutage(t *testing.T) {
	b := mem.New(mem.Options{})
	first := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
	e, err := Open(t.Context(), first)
	must(t, err)
	fill(t, e, 0, 3000)
	must(t, e.Checkpoint(t.Context()))
	must(t, e.Close())

	g := &gate{Store: opened(t, b)}
	o := small(g, osfs.NewMem(osfs.MemOptions{}))
	o.Clock, o.PendingBytes, o.CheckpointBytes, o.CheckpointObjects, o.still = &skewed{}, 64<<10, 1<<30, 1<<30, true
	e, err = Open(t.Context(), o)
	must(t, err)
	defer func() { must(t, e.Close()) }()
	cached := "f000000"
	if ok, err := get(e, cached); !ok || err != nil {
		t.Fatal(ok, err)
	}

	g.set(func(int, string, string) outcome { return outcome{err: errDown} })
	if ok, err := get(e, cached); !ok || err != nil {
		t.Errorf("what is cached: %v, %v", ok, err)
	}
	far := uncached(t, e, 3000)
	made := 0
	for err = nil; err == nil && made < 100; made++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err = e.Update(ctx, kv.UpdateOptions{}, func(tx kv.Tx) error {
			tx.Put(fmt.Appendf(nil, "o%06d", made), make([]byte, 4096))
			return nil
		})
		cancel()
	}
	if fsapi.KindOf(err) != fsapi.Interrupted || made < 10 || made > 40 {
		t.Errorf("after %d writes: %v", made, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := e.Sync(ctx); fsapi.KindOf(err) != fsapi.Interrupted {
		t.Errorf("Sync: %v", err)
	}
	if st := e.Status(); st.Down.IsZero() || !errors.Is(st.Err, errDown) || st.Pending < 64<<10 {
		t.Errorf("status in an outage: %+v", st)
	}

	g.set(nil)
	must(t, e.Sync(t.Context()))
	if st := e.Status(); !st.Down.IsZero() || st.Pending != 0 || e.DurableSeq() != e.LastSeq() {
		t.Errorf("status after the outage: %+v", st)
	}
	fill(t, e, 3000, 5)
	if ok, err := get(e, far); !ok || err != nil {
		t.Errorf("what was not cached: %v, %v", ok, err)
	}
}

// TestStatusDuringCheckpoint: a checkpoint that waits for a store which does not
// answer holds up nobody who asks how it is.
func TestStatusDuringCheckpoint(t *testing.T) {
	g := &gate{Store: opened(t, mem.New(mem.Options{}))}
	o := small(g, osfs.NewMem(osfs.MemOptions{}))
	o.Clock, o.still = &skewed{}, true
	e, err := Open(t.Context(), o)
	must(t, err)
	defer func() { must(t, e.Close()) }()
	fill(t, e, 0, 5)
	tried := make(chan struct{})
	var once sync.Once
	g.set(func(int, string, string) outcome {
		once.Do(func() { close(tried) })
		return outcome{err: errDown}
	})
	done := make(chan error, 1)
	go func() { done <- e.Checkpoint(context.Background()) }()
	<-tried
	asked := make(chan Status, 1)
	go func() { asked <- e.Status() }()
	select {
	case st := <-asked:
		if st.Manifest != 0 {
			t.Errorf("status during the checkpoint: %+v", st)
		}
	case <-time.After(5 * time.Second):
		t.Error("Status waits for the checkpoint")
	}
	g.set(nil)
	must(t, <-done)
	if st := e.Status(); st.Manifest != 1 || st.Tables == 0 {
		t.Errorf("status after it: %+v", st)
	}
}

// uncached is one of n keys that cannot be read now; others may, and are there.
func uncached(t *testing.T, e kv.Engine, n int) (far string) {
	t.Helper()
	for i := range n {
		key := fmt.Sprintf("f%06d", i)
		switch ok, err := get(e, key); {
		case err != nil && strings.Contains(err.Error(), "not cached"):
			far = key
		case err != nil || !ok:
			t.Errorf("%s: %v, %v", key, ok, err)
		}
	}
	if far == "" {
		t.Error("all is cached")
	}
	return far
}

// TestHangingStore: a store that takes requests and never answers holds up a read
// of what is not cached for ReadTimeout only.
func TestHangingStore(t *testing.T) {
	b := mem.New(mem.Options{})
	e, err := Open(t.Context(), small(opened(t, b), osfs.NewMem(osfs.MemOptions{})))
	must(t, err)
	fill(t, e, 0, 600)
	must(t, e.Checkpoint(t.Context()))
	must(t, e.Close())
	o := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
	o.ReadTimeout, o.still = 50*time.Millisecond, true
	e, err = Open(t.Context(), o)
	must(t, err)
	defer func() { must(t, e.Close()) }()
	b.SetRule(func(r mem.Request) mem.Outcome { return mem.Outcome{Hang: r.Op == mem.Get} })
	_, err = get(e, "f000300")
	if err == nil || fsapi.KindOf(err) != fsapi.TimedOut {
		t.Errorf("got %v", err)
	}
	b.SetRule(nil)
	if ok, err := get(e, "f000300"); !ok || err != nil {
		t.Errorf("after it answers again: %v, %v", ok, err)
	}
}

// TestCloseInOutage: Close gives up after CloseWait and says what that means.
func TestCloseInOutage(t *testing.T) {
	g := &gate{Store: opened(t, mem.New(mem.Options{}))}
	o := small(g, osfs.NewMem(osfs.MemOptions{}))
	o.Clock = &skewed{}
	e, err := Open(t.Context(), o)
	must(t, err)
	g.set(func(int, string, string) outcome { return outcome{err: errDown} })
	_, err = e.Update(t.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error { tx.Put([]byte("k"), nil); return nil })
	must(t, err)
	if err := e.Close(); err == nil {
		t.Error("Close said that all is durable")
	}
}

// TestCloseWithoutDirectory: a machine whose cache directory is gone, while the server
// runs, can end it: what was durable is in the bucket.
func TestCloseWithoutDirectory(t *testing.T) {
	b := mem.New(mem.Options{})
	o := small(opened(t, b), osfs.OS{})
	o.Dir, o.CloseWait = filepath.Join(t.TempDir(), "cache"), 50*time.Millisecond
	must(t, os.MkdirAll(o.Dir, 0o700))
	e, err := Open(t.Context(), o)
	must(t, err)
	fill(t, e, 0, 600)
	must(t, os.Rename(o.Dir, filepath.Join(t.TempDir(), "gone"))) // at once, whatever the engine is making in it
	last := 599
	for last < 659 { // until memory is full, which cannot be written to the directory
		_, err := e.Update(t.Context(), kv.UpdateOptions{Sync: true}, func(tx kv.Tx) error {
			tx.Put(fmt.Appendf(nil, "f%06d", last+1), noise(randOf(last+1), 4096))
			return nil
		})
		if err != nil {
			break
		}
		last++
	}
	closed := make(chan struct{})
	go func() {
		_ = e.Close() // whatever it says of the directory
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("Close does not return")
	}
	e, err = Open(t.Context(), small(opened(t, b), osfs.NewMem(osfs.MemOptions{})))
	must(t, err)
	defer func() { must(t, e.Close()) }()
	if ok, err := get(e, fmt.Sprintf("f%06d", last)); !ok || err != nil {
		t.Errorf("f%06d, which was durable: %v, %v", last, ok, err)
	}
}

// TestNoConditions: a store that pays no heed to conditions is refused, with the
// reason, and can be used with a lease, which keeps a second writer out while the
// first renews it.
func TestNoConditions(t *testing.T) {
	b := mem.New(mem.Options{IgnoreConditions: true})
	o := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
	_, err := Open(t.Context(), o)
	if fsapi.KindOf(err) != fsapi.NotSupported || !strings.Contains(err.Error(), "If-None-Match") {
		t.Fatalf("opened with %v", err)
	}
	o.Lease, o.Clock = &Lease{Term: time.Hour}, &scripted{after: []func(){func() {}}}
	e, err := Open(t.Context(), o)
	must(t, err)
	fill(t, e, 0, 10)
	second := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
	second.Lease = o.Lease
	second.Clock = &scripted{after: []func(){func() { must(t, e.s.lease.renew(t.Context())) }}}
	_, err = Open(t.Context(), second)
	if fsapi.KindOf(err) != fsapi.Busy {
		t.Fatalf("a second writer got %v", err)
	}
	fill(t, e, 10, 10)
	// Its clock stands still, so that it does not know that its term is over: it
	// must have nothing to do in the background.
	must(t, e.Checkpoint(t.Context()))
	// One that does not renew any more is waited for; one that ended is not.
	third := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
	third.Lease, third.Clock = o.Lease, &scripted{after: []func(){func() {}, func() {}}}
	f, err := Open(t.Context(), third)
	must(t, err)
	if ok, err := get(f, "f000019"); !ok || err != nil {
		t.Error(ok, err)
	}
	wantFenced(t, e.s.lease.renew(t.Context()))
	_ = e.Close()
	must(t, f.Close())
	second.Clock = &scripted{after: []func(){func() {}}}
	f, err = Open(t.Context(), second)
	must(t, err)
	must(t, f.Close())
}

// scripted is a clock on which the first waits end at once, after what the script
// says, and the others never.
type scripted struct {
	mu    sync.Mutex
	after []func()
}

func (*scripted) Now() time.Time { return time.Now() }

func (c *scripted) After(time.Duration) <-chan time.Time {
	ended := make(chan time.Time, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.after) > 0 {
		c.after[0]()
		c.after = c.after[1:]
		ended <- time.Now()
	}
	return ended
}

// TestLeaseLost: who finds another's lease writes no more.
func TestLeaseLost(t *testing.T) {
	b := mem.New(mem.Options{IgnoreConditions: true})
	s := opened(t, b)
	o := small(s, osfs.NewMem(osfs.MemOptions{}))
	o.Lease = &Lease{Term: 200 * time.Millisecond}
	e, err := Open(t.Context(), o)
	must(t, err)
	_, err = object.PutBytes(t.Context(), s, keyLease, []byte("another's lease, which is as long as ours"), object.Condition{})
	must(t, err)
	for err == nil {
		_, err = e.Update(t.Context(), kv.UpdateOptions{Sync: true}, func(tx kv.Tx) error { tx.Put([]byte("k"), nil); return nil })
	}
	wantFenced(t, err)
	_ = e.Close()
}

// TestIdle: an engine that nobody writes to makes no requests but the rare look at
// the head.
func TestIdle(t *testing.T) {
	s := opened(t, mem.New(mem.Options{}))
	o := small(s, osfs.NewMem(osfs.MemOptions{}))
	e, err := Open(t.Context(), o)
	must(t, err)
	defer func() { must(t, e.Close()) }()
	fill(t, e, 0, 3)
	before := s.Requests()
	for range 100 {
		must(t, e.Sync(t.Context()))
		_, err := get(e, "f000000")
		must(t, err)
	}
	if after := s.Requests(); after != before {
		t.Errorf("requests were made: %+v, before %+v", after, before)
	}
}

// TestSpill: much more than may wait is written though nobody ever syncs.
func TestSpill(t *testing.T) {
	o := small(opened(t, mem.New(mem.Options{})), osfs.NewMem(osfs.MemOptions{}))
	o.PendingBytes, o.ObjectBytes = 64<<10, 16<<10
	e, err := Open(t.Context(), o)
	must(t, err)
	defer func() { must(t, e.Close()) }()
	for i := range 200 {
		_, err := e.Update(t.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error {
			tx.Put(fmt.Appendf(nil, "f%06d", i), make([]byte, 4096))
			return nil
		})
		must(t, err)
	}
}

// TestSharedSync: callers that wait at once share objects.
func TestSharedSync(t *testing.T) {
	s := opened(t, mem.New(mem.Options{}))
	o := small(s, osfs.NewMem(osfs.MemOptions{}))
	o.CheckpointObjects, o.CheckpointBytes = 1<<30, 1<<30
	e, err := Open(t.Context(), o)
	must(t, err)
	defer func() { must(t, e.Close()) }()
	before := s.Requests().Puts
	fill(t, e, 0, 1000)
	if n := s.Requests().Puts - before; n != 1 {
		t.Errorf("1000 batches and one Sync made %d PUTs", n)
	}
}

// TestRefusedReads: a store that refuses every read at once, as one does whose
// credentials have run out, is not asked as fast as a machine can, by compactions,
// which Pebble makes again and again.
func TestRefusedReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New(mem.Options{})
		e, err := Open(t.Context(), small(opened(t, b), osfs.NewMem(osfs.MemOptions{})))
		must(t, err)
		fill(t, e, 0, 3000)
		time.Sleep(time.Minute) // in which all compactions end
		must(t, e.Checkpoint(t.Context()))
		must(t, e.Close())

		const most = 10_000 // then it is over, so that the test is, too
		e, err = Open(t.Context(), small(opened(t, b), osfs.NewMem(osfs.MemOptions{})))
		must(t, err)
		var asked atomic.Int64
		b.SetRule(func(r mem.Request) (o mem.Outcome) {
			if r.Op == mem.Get && strings.HasPrefix(r.Key, "meta/"+prefixTable) && asked.Load() < most {
				asked.Add(1)
				o.Err = fsapi.Errorf(fsapi.Access, "the credentials have run out")
			}
			return o
		})
		fill(t, e, 0, 1500) // all of it over what is there, so that compactions are due
		time.Sleep(time.Minute)
		// A compaction reads several tables; some run at once.
		if n := asked.Load(); n == 0 || n > 1000 {
			t.Errorf("it was asked %d times in a minute", n)
		}
		b.SetRule(nil)
		must(t, e.Close())
	})
}

// TestFullCache: a disk of the cache that takes nothing for a while ends nothing.
// Writers go on until memory is full, and are refused then; all goes on by itself
// afterwards, and what was durable is in the bucket.
func TestFullCache(t *testing.T) {
	t.Run("always", func(t *testing.T) { fullCache(t, 1) })
	t.Run("now and then", func(t *testing.T) { fullCache(t, 3) })
}

// fullCache has one of so many changes of the cache's disk refused.
func fullCache(t *testing.T, oneOf int64) {
	var full atomic.Bool
	var n atomic.Int64
	disk := osfs.NewFault(osfs.NewMem(osfs.MemOptions{}), func(c osfs.Call) (o osfs.Outcome) {
		switch c.Op {
		case osfs.OpWrite, osfs.OpOpen, osfs.OpRename, osfs.OpTruncate:
			if full.Load() && n.Add(1)%oneOf == 0 {
				o.Err = syscall.ENOSPC
			}
		default:
		}
		return o
	})
	b := mem.New(mem.Options{})
	o := small(opened(t, b), disk)
	o.Clock = &skewed{}
	e, err := Open(t.Context(), o)
	must(t, err)
	fill(t, e, 0, 300)
	must(t, e.Checkpoint(t.Context()))
	full.Store(true)
	last := 299
	for err = nil; err == nil && last < 1500; last++ {
		_, err = e.Update(t.Context(), kv.UpdateOptions{Sync: true}, func(tx kv.Tx) error {
			tx.Put(fmt.Appendf(nil, "f%06d", last+1), noise(randOf(last+1), 4096))
			return nil
		})
	}
	if err != nil && fsapi.KindOf(err) != fsapi.NoSpace || err == nil && oneOf == 1 || last < 320 {
		t.Errorf("after %d writes: %v", last-299, err)
	}
	full.Store(false)
	for n := 0; err != nil; n++ { // until it was tried again
		if n == 6000 {
			t.Fatalf("a minute after there is room again: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
		_, err = e.Update(t.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error { tx.Put([]byte("k"), nil); return nil })
	}
	fill(t, e, 2000, 300)
	must(t, e.Checkpoint(t.Context()))
	must(t, e.Close())
	e, err = Open(t.Context(), small(opened(t, b), osfs.NewMem(osfs.MemOptions{})))
	must(t, err)
	defer func() { must(t, e.Close()) }()
	for i := range last { // the last one may be there, or not
		if ok, err := get(e, fmt.Sprintf("f%06d", i)); !ok || err != nil {
			t.Fatalf("f%06d, which was durable: %v, %v", i, ok, err)
		}
	}
}
