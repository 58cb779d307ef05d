package vfs_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/vfs"
)

// TestPressureDoesNotSpin has more than half of the room taken by a file that is
// just being written: until its writer goes on, or time passes, write-back has
// nothing to do, and does nothing. Where it did, the bubble would never be still.
func TestPressureDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{options: func(o *vfs.Options) { o.DirtyMax, o.Segment = 16<<20, 64<<20 }})
		f := r.create("f")
		defer f.Close()
		r.write(f, noise(1, 12<<20), 0)
		synctest.Wait()
		r.write(f, noise(2, 1000), 12<<20)
		synctest.Wait()
		time.Sleep(2 * vfs.DefaultFlushAge)
		synctest.Wait()
		if n := r.fs.Stats().DirtyBytes; n != 0 {
			t.Errorf("%d bytes are dirty still", n)
		}
		r.write(f, noise(3, 24<<20), 0) // more than there is room for
	})
}

// TestRoomForALargeWrite: a write that needs more than is free, where little is used,
// waits for what is dirty to be stored now, not for its age.
func TestRoomForALargeWrite(t *testing.T) {
	r := newRig(t, rigOptions{options: func(o *vfs.Options) {
		idle(o)
		o.DirtyMax = 256 << 10
	}})
	small, large := r.create("small"), r.create("large")
	r.write(small, noise(1, 64<<10), 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.write(large, noise(2, 1<<20), 0)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the write waits, and nothing is stored")
	}
	r.wants(large, noise(2, 1<<20))
	r.wants(small, noise(1, 64<<10))
	r.ok(small.Close())
	r.ok(large.Close())
}
