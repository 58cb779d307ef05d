package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/fault"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/test/stack"
)

// The places where calls fail.
const (
	inDrives = "drives" // at each drive's own calls
	inFiles  = "files"  // at the calls of the file system below the drives
	inLog    = "log"    // at those below the metadata engine
)

// faults make calls fail for a while, work for a while, and so on.
type faults struct {
	errno syscall.Errno // EIO or ENOSPC
	where string

	mu    sync.Mutex
	rng   *rand.Rand
	on    bool
	left  int // calls until on changes
	odds  float64
	ended bool
	count int // calls that failed
}

func newFaults(seed uint64, errno syscall.Errno, where string) *faults {
	return &faults{errno: errno, where: where, rng: rand.New(rand.NewPCG(seed, 8))}
}

// configure puts the faults where they belong.
func (f *faults) configure(o *stack.Options) {
	switch f.where {
	case inDrives:
		o.Drive = func(d drive.Drive) drive.Drive { return fault.New(d, f.rule, nil) }
	case inLog:
		set := o.PebbleOptions
		o.PebbleOptions = func(p *pebble.Options) {
			set(p)
			p.Clock = impatient{p.Clock} // how long the engine waits must not bound how much is tried
		}
	}
}

// impatient is a clock that does not let anyone wait for long.
type impatient struct{ clock.Clock }

// After implements clock.Clock.
func (impatient) After(time.Duration) <-chan time.Time { return time.After(time.Millisecond) }

// end lets everything go well from now on.
func (f *faults) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
}

// strike decides about one call.
func (f *faults) strike(writes bool) (fails bool, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false, 0
	}
	if f.left--; f.left < 0 {
		f.on, f.left, f.odds = !f.on, 20+f.rng.IntN(400), []float64{0.02, 0.2, 1}[f.rng.IntN(3)]
		if f.on && f.where == inLog {
			f.left = 1 + f.rng.IntN(40) // hardly anybody but the engine itself calls then
		}
	}
	if f.rng.IntN(200) == 0 {
		delay = time.Duration(f.rng.IntN(3000)) * time.Microsecond
	}
	if f.on && (writes || f.errno == syscall.EIO) && f.rng.Float64() < f.odds {
		f.count++
		return true, delay
	}
	return false, delay
}

// below is the rule for calls of the file system.
func (f *faults) below(c osfs.Call) (o osfs.Outcome) {
	switch {
	case f == nil || f.where == inDrives, f.where == inFiles && !strings.Contains(c.Name, "/drive"):
		return o
	case f.where == inLog:
		return f.belowLog(c)
	}
	writes := c.Op == osfs.OpWrite || c.Op == osfs.OpOpen || c.Op == osfs.OpSync || c.Op == osfs.OpLink || c.Op == osfs.OpRename
	fails, delay := f.strike(writes)
	o.Delay = delay
	if fails {
		o.Err = f.errno
		if c.Op == osfs.OpWrite && c.Len > 0 {
			f.mu.Lock()
			o.Short = f.rng.IntN(c.Len) &^ (osfs.DirectAlign - 1) // no disk tears what is written around the cache elsewhere
			f.mu.Unlock()
		}
	}
	return o
}

// belowLog is the rule for calls below the metadata engine: whatever changes
// something may fail.
func (f *faults) belowLog(c osfs.Call) (o osfs.Outcome) {
	if path.Base(path.Dir(c.Name)) != "meta" && path.Base(c.Name) != "meta" {
		return o
	}
	switch c.Op {
	case osfs.OpWrite, osfs.OpOpen, osfs.OpSync, osfs.OpSyncDir, osfs.OpRename, osfs.OpClose:
		fails, delay := f.strike(true)
		o.Delay = delay
		if fails {
			o.Err, o.Forget = f.errno, true
			f.mu.Lock()
			o.Short = f.rng.IntN(c.Len + 1)
			f.mu.Unlock()
		}
	}
	return o
}

// rule is the rule for calls of a drive.
func (f *faults) rule(c fault.Call) (o fault.Outcome) {
	fails, delay := f.strike(c.Op == fault.Create || c.Op == fault.Write || c.Op == fault.Commit)
	o.Delay = delay
	if fails {
		o.Err = f.errno
		f.mu.Lock()
		o.Late = f.rng.IntN(4) == 0
		f.mu.Unlock()
	}
	return o
}

// caused reports whether an error says what the faults are.
func (f *faults) caused(err error) bool {
	if f.errno == syscall.ENOSPC {
		return errors.Is(err, fsapi.NoSpace)
	}
	return errors.Is(err, fsapi.IO)
}

// settle checks, when the faults have ended, that everything is as if there had
// been none.
func (h *history) settle(ctx context.Context) error {
	if err := h.awaitEngine(ctx); err != nil {
		return err
	}
	if err := h.s.Local.Syncfs(ctx); err != nil {
		return fmt.Errorf("syncfs after the faults: %w", err)
	}
	if err := heal(ctx, h.s); err != nil {
		return fmt.Errorf("after the faults: %w", err)
	}
	if err := h.s.Check(ctx); err != nil {
		return fmt.Errorf("after the faults: %w", err)
	}
	if err := h.exact(ctx); err != nil {
		return fmt.Errorf("after the faults: %w", err)
	}
	for _, c := range h.clients {
		if err := c.CloseAll(); err != nil {
			return err
		}
	}
	if err := h.s.Restart(); err != nil {
		return fmt.Errorf("restart after the faults: %w", err)
	}
	if err := h.s.CheckSpace(ctx); err != nil {
		return fmt.Errorf("after the faults and a restart: %w", err)
	}
	if err := h.exact(ctx); err != nil {
		return fmt.Errorf("after the faults and a restart: %w", err)
	}
	return nil
}

// awaitEngine waits until the metadata engine has noticed that neither its log nor
// its tables fail any more. It is not opened again for that.
func (h *history) awaitEngine(ctx context.Context) error {
	for end := time.Now().Add(patience); ; {
		err := h.s.Local.Syncfs(ctx)
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("nothing fails any more, but after %v syncfs still says %w", patience, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// heal has a scrub repair replicas that could not be read for a while, were
// written again from another, and could not be written.
func heal(ctx context.Context, s *stack.Stack) error {
	r, err := s.Upkeep.Scrub(ctx, true)
	for _, b := range r.Bad {
		if !b.Repaired {
			err = errors.Join(err, fmt.Errorf("segment %v on drive %v is %w, and cannot be repaired: %w", b.Segment, b.Drive, b.Err, b.Repair))
		}
	}
	return err
}

// exact compares names and contents with what clients did.
func (h *history) exact(ctx context.Context) error {
	for _, c := range h.clients {
		if err := c.Exact(ctx, h.s.Local); err != nil {
			return err
		}
	}
	return nil
}
