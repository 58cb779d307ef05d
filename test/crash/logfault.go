package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/test/workload"
)

// logSteps is how many operations each client does before the log begins to
// fail, and afterwards at most.
const logSteps = 150

// failLog has the log of metadata fail from some write or sync on, while clients
// write and sync. By the engine's contract nothing is acknowledged any more,
// until the store is opened again: then all that was is there.
func failLog(ctx context.Context, seed uint64, errno syscall.Errno) error {
	h, disk, fault, err := begin(seed, nil)
	if err != nil {
		return err
	}
	err = h.populate(ctx)
	if err == nil {
		err = h.each(func(c *workload.Client) error {
			for range logSteps {
				if err := c.Step(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return errors.Join(err, h.s.Close())
	}
	var calls atomic.Int64
	from := h.rng.Int64N(60)
	fault.SetRule(func(c osfs.Call) (o osfs.Outcome) {
		if path.Base(path.Dir(c.Name)) != "meta" || path.Ext(c.Name) != ".log" || c.Op != osfs.OpWrite && c.Op != osfs.OpSync {
			return o
		}
		if calls.Add(1) > from {
			o.Err, o.Short = errno, c.Len/3
		}
		return o
	})
	err = h.each(func(c *workload.Client) error { return untilRefused(c, errno) })
	p := point{before: h.tickets.Load(), after: h.tickets.Load()}
	_ = h.s.Close() // it says what could not be stored
	if err != nil {
		return err
	}
	for i, mode := range []osfs.CrashMode{osfs.CrashKeep, osfs.CrashLose, osfs.CrashRandom} {
		p.n, p.disk = i, disk.CrashClone(rand.New(rand.NewPCG(seed, 6)), mode)
		if err := h.judge(ctx, &p); err != nil {
			return fmt.Errorf("opened again (crash mode %d): %w", mode, err)
		}
	}
	return nil
}

// each does something with every client at once.
func (h *history) each(do func(*workload.Client) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(h.clients))
	for i, c := range h.clients {
		wg.Go(func() { errs[i] = do(c) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// untilRefused writes and syncs until a sync is refused, after which every other
// must be.
func untilRefused(c *workload.Client, errno syscall.Errno) error {
	kind := fsapi.IO
	if errno == syscall.ENOSPC {
		kind = fsapi.NoSpace
	}
	refused := 0
	c.Calm = true
	c.Tolerate = func(err error) bool {
		refused++
		return errors.Is(err, kind)
	}
	for range logSteps {
		if err := c.Step(); err != nil {
			return err
		}
		if refused > 0 {
			break
		}
	}
	for range 3 {
		if err := c.Write(); err != nil {
			return err
		}
		was := refused
		if err := c.Syncfs(); err != nil {
			return err
		}
		if refused == was {
			return errors.New("the log fails, but a syncfs succeeds")
		}
	}
	return nil
}
