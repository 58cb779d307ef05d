package vfs_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/vfs"
)

// held is an engine whose flushes of the log wait, and whose next updates fail.
type held struct {
	*counted
	hold  chan struct{}
	fails atomic.Int64
}

func (e *held) Sync(ctx context.Context) error {
	select {
	case <-e.hold:
		return e.counted.Sync(ctx)
	case <-ctx.Done():
		return fsapi.Wrap(fsapi.Interrupted, ctx.Err(), "flush the log")
	}
}

func (e *held) Update(ctx context.Context, o kv.UpdateOptions, fn func(kv.Tx) error) (kv.Seq, error) {
	if e.fails.Add(-1) >= 0 {
		return 0, fsapi.Errorf(fsapi.NoSpace, "injected")
	}
	return e.counted.Update(ctx, o, fn)
}

// TestBarriersGather holds the flush of one barrier until others have gathered,
// and counts what those cost together.
func TestBarriersGather(t *testing.T) {
	const files = 8
	for _, c := range []struct {
		name           string
		fails          int64 // of the updates that follow
		updates, syncs int64
		large, gone    bool // the last file is
	}{
		{name: "together", updates: 1, syncs: 1},
		{name: "a large file alone", updates: 2, syncs: 2, large: true},
		{name: "a file that has gone", updates: 1, syncs: 2, gone: true},
		{name: "each alone after a failure", fails: 1, updates: files, syncs: files},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &held{counted: newCounted(t), hold: make(chan struct{})}
				r := newRig(t, rigOptions{engine: e, options: idle})
				first := r.create("first")
				defer first.Close()
				r.write(first, noise(99, 4096), 0)
				var list []vfs.File
				size := func(i int) int {
					if c.large && i == files-1 {
						return 2 << 20
					}
					return 4096
				}
				for i := range files {
					f := r.create(fmt.Sprint(i))
					defer f.Close()
					r.write(f, noise(uint64(i), size(i)), 0)
					list = append(list, f)
				}
				var wg sync.WaitGroup
				barrier := func(f vfs.File) {
					wg.Go(func() {
						if err := f.Sync(r.ctx, false); err != nil {
							t.Error(err)
						}
					})
				}
				barrier(first)
				synctest.Wait()
				for _, f := range list {
					barrier(f)
				}
				synctest.Wait()
				u, s := e.updates.Load(), e.syncs.Load()+1 // the first one's is yet to be counted
				if c.gone {
					r.ok(r.fs.Unlink(r.ctx, fsapi.Root, fsapi.RootIno, fmt.Sprint(files-1)))
					u = e.updates.Load()
				}
				e.fails.Store(c.fails)
				close(e.hold)
				wg.Wait()
				if u, s := e.updates.Load()-u, e.syncs.Load()-s; u != c.updates || s > c.syncs {
					t.Errorf("%d transactions and %d log flushes, want %d and at most %d", u, s, c.updates, c.syncs)
				}
				r.ok(r.fs.DropCaches(r.ctx))
				for i, f := range list {
					if !c.gone && !bytes.Equal(r.read(f, 0, size(i)), noise(uint64(i), size(i))) {
						t.Errorf("file %d is not as written", i)
					}
				}
			})
		})
	}
}

// TestFailedBarrierIsToldToEach fails the log for a round: each of its callers
// is told, and succeeds once the log does.
func TestFailedBarrierIsToldToEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &held{counted: newCounted(t), hold: make(chan struct{})}
		r := newRig(t, rigOptions{engine: e, options: idle})
		first := r.create("first")
		defer first.Close()
		var list []vfs.File
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := first.Sync(r.ctx, false); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for i := range 4 {
			f := r.create(fmt.Sprint(i))
			defer f.Close()
			r.write(f, noise(uint64(i), 4096), 0)
			list = append(list, f)
			wg.Go(func() {
				if err := f.Sync(r.ctx, false); fsapi.KindOf(err) != fsapi.NoSpace {
					t.Errorf("fsync says %v, want %v", err, fsapi.NoSpace)
				}
			})
		}
		synctest.Wait()
		e.fails.Store(1 << 30)
		close(e.hold)
		wg.Wait()
		e.fails.Store(0)
		for i, f := range list {
			r.ok(f.Sync(r.ctx, false))
			r.wants(f, noise(uint64(i), 4096))
		}
	})
}

// TestInterruptedBarriers has callers give up while the log cannot be flushed: who
// serves a round, who waits in it, and who would have served the next. Each is told
// at once, and none of the others is told anything but that he is done.
func TestInterruptedBarriers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &held{counted: newCounted(t), hold: make(chan struct{})}
		r := newRig(t, rigOptions{engine: e, options: idle})
		type call struct {
			f    vfs.File
			stop context.CancelFunc
			said chan error
		}
		n := 0
		barrier := func() *call {
			n++
			f := r.create(fmt.Sprint(n))
			r.write(f, noise(uint64(n), 4096), 0)
			ctx, stop := context.WithCancel(r.ctx)
			c := &call{f, stop, make(chan error, 1)}
			go func() { c.said <- f.Sync(ctx, false) }()
			synctest.Wait()
			return c
		}
		givesUp := func(c *call) {
			t.Helper()
			c.stop()
			synctest.Wait()
			select {
			case err := <-c.said:
				if fsapi.KindOf(err) != fsapi.Interrupted {
					t.Errorf("fsync says %v, want %v", err, fsapi.Interrupted)
				}
			default:
				t.Fatal("fsync of who gave up waits on")
			}
		}
		first, second, third, fourth := barrier(), barrier(), barrier(), barrier()
		givesUp(third) // waits in the second round
		givesUp(first) // served the first: the second or the fourth serves the next
		for _, c := range []*call{second, fourth} {
			select {
			case err := <-c.said:
				t.Fatalf("fsync says %v before the log was flushed", err)
			default:
			}
		}
		givesUp(second) // whether it serves or not
		fifth := barrier()
		givesUp(fifth)
		sixth := barrier()
		close(e.hold)
		for _, c := range []*call{fourth, sixth} {
			r.ok(<-c.said)
		}
		// Nothing was lost of those who gave up: it is only not sure yet.
		for i, c := range []*call{first, second, third, fourth, fifth, sixth} {
			r.ok(c.f.Sync(r.ctx, false))
			r.wants(c.f, noise(uint64(i+1), 4096))
			c.stop()
			r.ok(c.f.Close())
		}
	})
}
