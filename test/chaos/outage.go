package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/test/workload"
)

// outage is a time during which what the disk of the metadata log is asked to
// change fails now and then: torn, refused, or forgotten after it was taken. Tables
// are spared: Pebble tries them again after a time, for which those wait who hold
// locks, and a bubble's time would stand still.
type outage struct {
	errno syscall.Errno
	odds  float64 // of each call

	mu    sync.Mutex
	rng   *rand.Rand // guarded by mu
	after int        // calls before it begins; guarded by mu
	left  int        // calls it lasts; guarded by mu
	hits  int        // calls that failed; guarded by mu
}

func (w *world) newOutage() *outage {
	r := w.rng
	return &outage{
		errno: pick(r, []syscall.Errno{syscall.EIO, syscall.ENOSPC}), odds: pick(r, []float64{0.1, 0.5, 1}),
		rng: newRand(r.Uint64()), after: r.IntN(60), left: 1 + r.IntN(pick(r, []int{1, 5, 100})),
	}
}

// outcome is what becomes of a call of the file system; of a nil outage nothing.
func (o *outage) outcome(c osfs.Call) (out osfs.Outcome) {
	if o == nil || !strings.Contains(c.Name, "/meta") || strings.HasSuffix(c.Name, ".sst") {
		return out
	}
	switch c.Op {
	case osfs.OpWrite, osfs.OpSync, osfs.OpSyncDir, osfs.OpOpen, osfs.OpRename, osfs.OpRemove, osfs.OpSyncRange, osfs.OpTruncate:
	default:
		return out
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.after--; o.after > 0 || o.left == 0 {
		return out
	}
	if o.left--; o.rng.Float64() > o.odds {
		return out
	}
	o.hits++
	return osfs.Outcome{Err: o.errno, Short: o.rng.IntN(c.Len + 1), Forget: o.rng.IntN(2) == 0}
}

// logFails has clients work while the disk of the log fails. What is refused has
// not happened; when the fault ends the store goes on by itself, and whoever lost
// nothing is told of no loss a second time.
func (w *world) logFails() error {
	o := w.newOutage()
	w.outage.Store(o)
	if w.cut == nil {
		w.fault.SetRule(w.calls.file(o.outcome))
		defer w.fault.SetRule(w.calls.file(nil))
	}
	for range 3 {
		if err := w.work(); err != nil {
			return err
		}
	}
	o.mu.Lock()
	o.left = 0
	o.mu.Unlock()
	w.say("      %d calls failed with %v", o.hits, o.errno)
	time.Sleep(time.Minute) // in which the log is begun anew
	// Each handle says once that it could not be stored.
	if err := w.each((*workload.Client).SyncHandles); err != nil {
		return err
	}
	w.outage.Store(nil)
	if err := w.s.Local.Syncfs(w.ctx); err != nil && !w.tolerate(err) {
		return fmt.Errorf("syncfs after the fault: %w", err)
	}
	return w.each((*workload.Client).SyncHandles)
}
