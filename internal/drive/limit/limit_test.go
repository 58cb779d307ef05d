package limit_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/drive/fault"
	"github.com/strakefs/strake/internal/drive/limit"
	"github.com/strakefs/strake/internal/drive/mem"
	"github.com/strakefs/strake/internal/fsapi"
)

func TestConformance(t *testing.T) {
	for name, o := range map[string]limit.Options{
		"nothing": {}, "one call": {Calls: 1}, "bytes": {Calls: 3, Read: 1 << 40, Write: 1 << 40},
	} {
		t.Run(name, func(t *testing.T) {
			drivetest.Run(t, func(*testing.T) drive.Drive { return limit.New(mem.New(mem.Options{}), o) }, drivetest.Capabilities{})
		})
	}
}

// slow is a drive of which each call takes a second.
func slow(most *atomic.Int64) drive.Drive {
	d := mem.New(mem.Options{})
	var running atomic.Int64
	return fault.New(&counting{d, &running, most}, func(fault.Call) fault.Outcome { return fault.Outcome{} }, nil)
}

type counting struct {
	drive.Drive
	running, most *atomic.Int64
}

// Stat implements drive.Drive.
func (c *counting) Stat(context.Context, string) (drive.Blob, error) {
	n := c.running.Add(1)
	defer c.running.Add(-1)
	for old := c.most.Load(); n > old && !c.most.CompareAndSwap(old, n); old = c.most.Load() {
	}
	time.Sleep(time.Second) // in a bubble
	return drive.Blob{}, nil
}

// TestCalls lets no more run at once than told, and somebody's before upkeep's.
func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var most atomic.Int64
		d := limit.New(slow(&most), limit.Options{Calls: 4, BackgroundShare: 25})
		start := time.Now()
		var wg sync.WaitGroup
		ends := [2][]time.Duration{}
		var mu sync.Mutex
		for class, ctx := range []context.Context{t.Context(), drive.Background(t.Context())} {
			for range 12 {
				wg.Go(func() {
					if _, err := d.Stat(ctx, "x"); err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					ends[class] = append(ends[class], time.Since(start))
				})
			}
		}
		wg.Wait()
		if most.Load() != 4 {
			t.Errorf("%d calls ran at once, want 4", most.Load())
		}
		// 3 of 4 slots are for those who wait, all 4 never for upkeep.
		if last := ends[0][11]; last > 4*time.Second {
			t.Errorf("the last that somebody waited for ended after %v", last)
		}
		// Where nobody of upkeep was there yet, others may have all 4 for the first.
		if last := ends[1][11]; last != 12*time.Second && last != 13*time.Second {
			t.Errorf("the last of upkeep ended after %v, want one at a time", last)
		}
	})
}

// read reads n bytes k times and says how long it took.
func read(t *testing.T, ctx context.Context, d drive.Drive, n, k int) time.Duration {
	t.Helper()
	start := time.Now()
	for range k {
		if _, err := d.ReadAt(ctx, "x", 0, make([]byte, n)); err != nil {
			t.Error(err)
		}
	}
	return time.Since(start)
}

func TestBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mem.New(mem.Options{})
		if err := m.Replace(t.Context(), "x", make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		d := limit.New(m, limit.Options{Read: 1 << 20, Write: 1 << 20})
		near := func(what string, got, want time.Duration) {
			t.Helper()
			if got < want*8/10 || got > want*12/10 {
				t.Errorf("%s took %v, want about %v", what, got, want)
			}
		}
		near("10 MiB at 1 MiB/s", read(t, t.Context(), d, 1<<20, 11), 10*time.Second)
		start := time.Now()
		if err := drivetest.Put(t.Context(), d, "y", make([]byte, 5<<20), 0, 100_000); err != nil {
			t.Fatal(err)
		}
		near("5 MiB written at 1 MiB/s", time.Since(start), 5*time.Second)
		time.Sleep(time.Hour) // in a bubble: idle time is not saved up
		near("10 MiB after an hour", read(t, t.Context(), d, 1<<20, 11), 10*time.Second)

		// Both classes at once: upkeep has its tenth.
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		var background, foreground atomic.Int64
		until := func(ctx context.Context, n int, bytes *atomic.Int64) {
			for ctx.Err() == nil {
				if _, err := d.ReadAt(ctx, "x", 0, make([]byte, n)); err == nil {
					bytes.Add(int64(n))
				}
			}
		}
		wg.Go(func() { until(drive.Background(ctx), 10_000, &background) })
		for range 3 {
			wg.Go(func() { until(ctx, 100_000, &foreground) })
		}
		for range 30 {
			time.Sleep(time.Second)
		}
		total, share := background.Load()+foreground.Load(), float64(background.Load())/(30<<20)
		stop()
		wg.Wait()
		if total < 27<<20 || total > 33<<20 {
			t.Errorf("%d bytes in 30 s at 1 MiB/s", total)
		}
		if share < 0.05 || share > 0.2 {
			t.Errorf("upkeep had %.0f %% of the bytes, want about 10", share*100)
		}
	})
}

// TestGivesUp ends calls that wait when their context ends, and lets others in
// then.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var most atomic.Int64
		d := limit.New(slow(&most), limit.Options{Calls: 1})
		var wg sync.WaitGroup
		wg.Go(func() { d.Stat(t.Context(), "first") })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := d.Stat(ctx, "second"); !errors.Is(err, fsapi.TimedOut) {
			t.Errorf("second: %v", err)
		}
		start := time.Now()
		if _, err := d.Stat(t.Context(), "third"); err != nil || time.Since(start) > 2*time.Second {
			t.Errorf("third: %v after %v", err, time.Since(start))
		}
		wg.Wait()
	})
}
