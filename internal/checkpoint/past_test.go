package checkpoint

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/kv"
)

// What is too old goes.
func TestPastGoes(t *testing.T) {
	for _, keep := range []time.Duration{time.Hour, 0} {
		w := newWorld(t, 1)
		s := w.shipper(Options{GroupBytes: 2 << 10, CheckpointBytes: 6 << 10, Keep: keep})
		must(t, s.Flush(t.Context()))
		for range 12 {
			w.commits(20)
			must(t, s.Flush(t.Context()))
			must(t, s.checkpoint(t.Context()))
			must(t, s.Flush(t.Context()))
		}
		s.Close()
		if n := len(w.drives[0].names(prefixCheckpoint)); keep == 0 && n != 1 {
			t.Errorf("%d checkpoints where none of the past is kept", n)
		}
		spans, err := History(t.Context(), w.drives[0], storeKey) // the world's clock is in the past
		if err != nil || len(spans) != 1 || spans[0].Seq != w.last() {
			t.Fatalf("spans %+v, %v", spans, err)
		}
	}
}

// With the engine's stamps in the present, each batch can be gone back to.
func TestRestoreAtEachBatch(t *testing.T) {
	w := newWorld(t, 1)
	f := w.fork(5)
	s := f.shipper(Options{GroupBytes: 2 << 10, CheckpointBytes: 6 << 10, Keep: time.Hour})
	must(t, s.Flush(t.Context()))
	stamps := []clock.Stamp{0}
	for range 60 {
		f.commit()
		snap, err := f.e.Snapshot()
		must(t, err)
		stamps = append(stamps, snap.Stamp())
		must(t, snap.Close())
		must(t, s.Flush(t.Context()))
		must(t, s.checkpoint(t.Context()))
	}
	s.Close()
	for seq := 1; seq < len(stamps); seq++ {
		got := map[string]string{}
		r, err := RestoreAt(t.Context(), asDrives(f.drives), storeKey, stamps[seq].Time(), func(b kv.Batch) error {
			for _, op := range b.Ops {
				play(got, op)
			}
			return nil
		})
		must(t, err)
		if diff := cmp.Diff(f.states[r.Seq], got); int(r.Seq) != seq || diff != "" {
			t.Fatalf("as of batch %d came batch %d (-want +got):\n%s", seq, r.Seq, diff)
		}
	}
	r, err := RestoreAt(t.Context(), asDrives(f.drives), storeKey, time.UnixMilli(1), nil)
	if err != nil || r.Seq != 0 {
		t.Errorf("as of a moment before all: batch %d, %v", r.Seq, err)
	}
}

// A drive that never answers holds up no other, and is brought up when it does.
func TestHangingDrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		hung, release := w.drives[1], make(chan struct{})
		s := w.shipper(Options{GroupAge: time.Second, CheckpointBytes: 8 << 10})
		var hangs atomic.Bool
		slow := &hanging{Drive: hung, release: release}
		s.o.Drives = func() []drive.Drive {
			if hangs.Load() {
				return []drive.Drive{w.drives[0], slow}
			}
			return asDrives(w.drives)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Minute)
		hangs.Store(true)
		for range 20 {
			w.commits(10)
			time.Sleep(time.Minute)
			synctest.Wait()
			w.check(w.drives[:1], w.last())
		}
		close(release)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.check(w.drives[1:], w.last())
		cancel()
		must(t, <-done)
		s.Close()
		must(t, w.e.Close())
	})
}

// The only drive is being brought up, to a log that is another meanwhile, when
// everything is to be on it.
func TestFlushWaitsForTheOnlyDrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		release := make(chan struct{})
		slow := &hanging{Drive: w.drives[0], release: release}
		s := w.shipper(Options{})
		w.commits(10)
		must(t, s.Flush(t.Context()))
		s.o.Drives = func() []drive.Drive { return []drive.Drive{slow} }
		must(t, lock(t.Context(), s.busy))
		s.refresh()
		s.launchCatchUp(s.sorted()[0])
		must(t, s.begin(s.epoch, "for a test"))
		unlock(s.busy)
		w.commits(10)
		done := make(chan error)
		go func() { done <- s.Flush(t.Context()) }()
		synctest.Wait()
		close(release)
		must(t, <-done)
		w.check(w.drives, w.last())
		s.Close()
		must(t, w.e.Close())
	})
}

// hanging is a drive whose calls do not come back before release is closed.
type hanging struct {
	drive.Drive
	release chan struct{}
}

func (h *hanging) List(ctx context.Context, prefix, after string, fn func(drive.Blob) error) error {
	<-h.release
	return h.Drive.List(ctx, prefix, after, fn)
}

func (h *hanging) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	<-h.release
	return h.Drive.Create(ctx, name, size)
}

func (h *hanging) Delete(ctx context.Context, name string) error {
	<-h.release
	return h.Drive.Delete(ctx, name)
}
