package chaos

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/watch"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/test/workload"
)

// clients is how many there are at the same time.
const clients = 3

// cut is a kill: where the process ends in the middle of a step.
type cut struct {
	calls  int // of the file system, until then
	mode   osfs.CrashMode
	disk   *osfs.Mem // what is left; nil: it has not come to it yet
	cache  *osfs.Mem // what is left of the machine's cache, where all state is in a bucket
	text   string    // what became of it
	err    error     // of that
	before int64     // ticket: what was done by then was done
	after  int64     // ticket: what had not begun by then had not begun
}

// begin opens the store for the first time.
func (w *world) begin() error {
	if err := w.open(); err != nil {
		return err
	}
	a, err := w.s.Local.Mknod(w.ctx, fsapi.Root, fsapi.RootIno, workload.SharedName, vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
	if err != nil {
		return err
	}
	for id := range clients {
		c, err := workload.New(w.ctx, w.s.Local, workload.Options{
			ID: id, Seed: w.seed, Shared: a.Ino, Tickets: &w.tickets, Trash: w.options.Policy.Trash > 0,
		})
		if err != nil {
			return err
		}
		c.Tolerate, c.MustRead = w.tolerate, true
		w.clients = append(w.clients, c)
	}
	return w.s.Local.Syncfs(w.ctx)
}

// open opens the store on the disk, for a new life.
func (w *world) open() error {
	w.fault = osfs.NewFault(w.disk, w.calls.file(nil))
	w.outage.Store(nil)
	if err := w.openStack(); err != nil {
		return err
	}
	for _, p := range w.places {
		p.told = drive.Online
	}
	if err := w.recordDrives(); err != nil {
		return err
	}
	return w.settle()
}

func (w *world) recordDrives() error {
	for _, p := range w.places {
		if !p.gone {
			if err := w.s.Meta.PutDrive(w.ctx, meta.DriveRecord{ID: p.id, Name: p.String(), Kind: "dir", Where: p.dir(), Tier: p.tier, Domain: p.String(), State: p.wanted.String()}); err != nil {
				return err
			}
		}
	}
	return nil
}

// end closes the store and the drives, dirty or not.
func (w *world) end() error {
	err := w.s.Close()
	w.quiet()
	for _, p := range w.places {
		_ = p.close() // of a dead life, or away
	}
	// Questions for room are not counted, and may have been left behind.
	time.Sleep(longest)
	synctest.Wait()
	return err
}

// settle waits for what a step began, opens what answers again, and lets upkeep
// know of the drives' states, as a daemon does.
func (w *world) settle() error {
	w.quiet()
	for _, p := range w.places {
		if p.watch == nil && p.answers() && !p.gone {
			if d, err := p.open(w.fault, w.life); err == nil {
				if err := w.s.Set.Add(w.guard(d)); err != nil {
					return err
				}
			}
		}
		if p.watch != nil && p.watch.Status().State != watch.Online {
			probe, end := context.WithTimeout(w.ctx, time.Second)
			_ = p.watch.Probe(probe)
			end()
		}
		now := p.state()
		if now == p.told {
			continue
		}
		p.told = now
		_ = w.s.Set.SetState(p.id, now) // of one that is open
		w.s.Upkeep.DriveChanged(p.id, now)
	}
	w.quiet()
	w.collect()
	return nil
}

// collectEvery is how many calls there are between two collections of garbage.
const collectEvery = 20_000

// collect collects garbage now and then, when nothing goes on, if nobody else does: a
// collection at another time has goroutines run in another order.
func (w *world) collect() {
	if n, _ := w.calls.so(); w.collects && n-w.collected >= collectEvery {
		w.collected = n
		runtime.GC()
	}
}

// quiet waits until nothing goes on but what waits for a time that is to come: no
// call is under way in a drive, or none that was when it began.
func (w *world) quiet() {
	for end := time.Now().Add(longest); time.Now().Before(end); {
		synctest.Wait()
		var calls int32
		for _, p := range w.places {
			calls += p.calls.Load()
		}
		if calls == 0 {
			return
		}
		time.Sleep(time.Second)
	}
}

// arm has the process killed within the step that follows.
func (w *world) arm() {
	c := &cut{calls: w.rng.IntN(5 << w.rng.IntN(7)), mode: osfs.AnyCrash(w.rng)}
	w.cut = c
	disk, r := w.disk, w.rng.Uint64()
	fall := make(chan struct{}, 1) // of one: guards c
	tick := func() {
		fall <- struct{}{}
		defer func() { <-fall }()
		if c.disk == nil {
			if c.calls--; c.calls < 0 {
				w.take(c, disk, r)
			}
		}
	}
	w.life.asked.Store(&tick)
	w.fault.SetRule(w.calls.file(func(call osfs.Call) (o osfs.Outcome) {
		if !strings.Contains(call.Name, "/d") || call.Op != osfs.OpRead { // one of a drive changes nothing
			tick()
		}
		return w.outage.Load().outcome(call)
	}))
}

// take is the instant of a kill: from then on nothing that the process asks of a
// bucket happens, and what it does to the disk is on one that nobody sees.
func (w *world) take(c *cut, disk *osfs.Mem, seed uint64) {
	c.before = w.tickets.Load()
	r := newRand(seed)
	c.disk = disk.CrashClone(r, c.mode)
	if w.ledger != nil {
		c.cache, c.text, c.err = w.cacheLeft(r)
	}
	w.life.dead.Store(true)
	c.after = w.tickets.Load()
}

// revive kills the process, unless the armed kill has come, and opens the store
// on what is left: everything that was acknowledged must be there.
func (w *world) revive() error {
	w.fault.SetRule(w.calls.file(nil))
	c := w.cut
	w.cut = nil
	if c.disk == nil {
		w.take(c, w.disk, w.rng.Uint64())
	}
	w.say("killed (mode %d) between tickets %d and %d", c.mode, c.before, c.after)
	_ = w.end() // it says what could not be stored
	w.disk = c.disk
	if w.ledger != nil {
		w.say("      the next has %s", c.text)
		if c.err != nil {
			return c.err
		}
		w.ledger.disk = c.cache
		w.ledger.weather.Store(nil)
	}
	if err := w.open(); err != nil {
		return fmt.Errorf("open after a kill: %w", err)
	}
	if err := w.judge(c); err != nil {
		return err
	}
	return w.adopt()
}

// judge checks what is left after a kill against what clients did.
func (w *world) judge(c *cut) error {
	var verdicts []*workload.Verdict
	for _, cl := range w.clients {
		v := workload.Judge(w.clients, cl, c.before, c.after)
		found, err := cl.Found(w.ctx, w.s.Local)
		if err != nil {
			return err
		}
		if err := v.Names(found); err != nil {
			return err
		}
		if err := v.Contents(w.ctx, w.s.Local); err != nil {
			return err
		}
		verdicts = append(verdicts, v)
	}
	return workload.Order(verdicts)
}

// adopt makes what is there the world of all clients.
func (w *world) adopt() error {
	return w.each(func(c *workload.Client) error { return c.Adopt(w.ctx, w.s.Local) })
}

// each does something with each client, one after another.
func (w *world) each(do func(*workload.Client) error) error {
	for _, c := range w.clients {
		if err := do(c); err != nil {
			return err
		}
	}
	return nil
}

// reopen ends the process in order and starts it again.
func (w *world) reopen() error {
	if err := w.s.Local.Syncfs(w.ctx); err != nil {
		if w.tolerate(err) {
			return nil // it would not end in order
		}
		return err
	}
	if err := w.each((*workload.Client).CloseAll); err != nil {
		return err
	}
	if err := w.end(); err != nil && !w.tolerate(err) {
		return fmt.Errorf("close: %w", err)
	}
	if w.ledger != nil && w.chance(2) {
		w.say("      the next is another machine")
		w.ledger.disk = osfs.NewMem(osfs.MemOptions{})
	}
	if err := w.open(); err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	if err := w.exact(); err != nil {
		return err
	}
	return w.adopt()
}

// exact compares all that is there with what clients did.
func (w *world) exact() error {
	return w.each(func(c *workload.Client) error { return c.Exact(w.ctx, w.s.Local) })
}

// fails is an error of the store's that nothing which was done to it explains.
func (w *world) fails(what string, err error) error {
	if err == nil || w.tolerate(err) || errors.Is(err, fsapi.Busy) {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
