package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv/bucket"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/test/stack"
	"github.com/strakefs/strake/test/workload"
)

// ghostName is the directory in the root in which a process works that is replaced
// while it does not know of it.
const ghostName = "ghost"

// ghost is a process that was stopped and goes on after another has taken its store
// over.
type ghost struct {
	life   *life
	s      *stack.Stack
	engine *bucket.Engine
	drives []drive.Drive // to be closed
	dir    fsapi.Ino
	stop   context.CancelFunc

	upkeep sync.WaitGroup
	worker sync.WaitGroup

	mu    sync.Mutex
	made  int             // names it began to make; guarded by mu
	acked map[string]bool // names it was told are durable; guarded by mu
	err   error           // that ended its work; guarded by mu
}

// takeover has another process take the store over while this one is stopped, or is
// about to be, in the middle of what it does; works with it; and lets the first go
// on, which must be refused, and of whose work nothing comes to be seen any more.
func (w *world) takeover() error {
	g, err := w.newGhost()
	if err != nil {
		return err
	}
	// 1. It is stopped at some request, while it works.
	asked := make(chan int, 1)
	asked <- w.rng.IntN(3 << w.rng.IntN(6))
	held := make(chan struct{})
	count := func() {
		n := <-asked
		if n == 0 {
			g.life.hold.begin()
			close(held)
		}
		asked <- n - 1
	}
	g.life.asked.Store(&count)
	w.tickets.Add(1)
	before := w.tickets.Load()
	g.haunt(w)
	select {
	case <-held:
	case <-time.After(time.Duration(1+w.rng.IntN(100)) * time.Second):
		g.life.hold.begin()
	}
	// 2. Another takes over, maybe while it comes to itself.
	c := &cut{before: before, after: w.tickets.Load(), mode: osfs.CrashKeep}
	early := w.chance(3)
	var awake sync.WaitGroup
	if early {
		d := time.Duration(w.rng.IntN(3000)) * time.Millisecond
		awake.Go(func() {
			time.Sleep(d)
			g.life.hold.end()
		})
	}
	w.say("the process is stopped; another takes over (the first goes on meanwhile: %v)", early)
	w.ledger.fork = newRand(w.rng.Uint64())
	var text string
	if w.ledger.disk, text, err = w.cacheLeft(w.rng); err != nil {
		return err
	}
	w.say("      it has %s", text)
	for _, p := range w.places {
		if p.base != nil {
			g.drives = append(g.drives, p.base)
			p.base, p.watch = nil, nil
		}
	}
	if err := w.open(); err != nil {
		return errors.Join(fmt.Errorf("take over: %w", err), g.end())
	}
	seen, err := w.haunted(g.dir)
	if err == nil {
		err = w.judge(c)
	}
	if err == nil {
		err = w.adopt()
	}
	if err == nil {
		err = w.audit()
	}
	// 3. It works for a while.
	for range w.rng.IntN(4) {
		if err == nil {
			err = w.do(pick(w.rng, w.quietSteps()))
		}
	}
	// 4. The first goes on.
	awake.Wait()
	g.life.hold.end()
	if err == nil {
		err = w.work()
	}
	if e := g.end(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	// 5. Of what it did everything is there that it was told of, and nothing has come
	// since the other took over.
	now, err := w.haunted(g.dir)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for name := range g.acked {
		if !seen[name] {
			return fmt.Errorf("the process that was replaced was told that %s is durable, which its successor has not: %v", name, seen)
		}
	}
	for name := range now {
		if !seen[name] {
			return fmt.Errorf("%s, made by a process that was replaced, came to be seen after its successor had begun", name)
		}
	}
	w.say("      the first made %d names, was told of %d, %d are there", g.made, len(g.acked), len(now))
	if err := w.removed(ghostName); err != nil {
		return err
	}
	return w.durable()
}

// quietSteps are those of a process beside one that is stopped.
func (w *world) quietSteps() (list []step) {
	for _, s := range w.stepsOf() {
		if s.mortal && s.name != bucketFailsName {
			for range s.weight {
				list = append(list, s)
			}
		}
	}
	return list
}

func (w *world) newGhost() (*ghost, error) {
	a, err := w.s.Local.Mknod(w.ctx, fsapi.Root, fsapi.RootIno, ghostName, vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	return &ghost{life: w.life, s: w.s, engine: w.ledger.engine, dir: a.Ino, acked: map[string]bool{}}, w.durable()
}

// haunt begins the work of a process that will be stopped.
func (g *ghost) haunt(w *world) {
	ctx, stop := context.WithCancel(w.ctx)
	g.stop = stop
	if w.chance(2) {
		g.upkeep.Go(func() { g.s.Upkeep.Run(ctx) })
	}
	if w.chance(3) {
		g.upkeep.Go(func() { _ = g.engine.Checkpoint(ctx) })
	}
	pause := time.Duration(w.rng.IntN(2000)) * time.Millisecond
	for range 2 {
		g.worker.Go(func() { g.work(ctx, pause) })
	}
}

// work makes names, each durably, until that fails.
func (g *ghost) work(ctx context.Context, pause time.Duration) {
	for {
		g.mu.Lock()
		g.made++
		name := fmt.Sprint("g", g.made)
		over := g.err != nil
		g.mu.Unlock()
		if over {
			return
		}
		_, err := g.s.Local.Mknod(ctx, fsapi.Root, g.dir, name, vfs.NewNode{Type: fsapi.TypeRegular, Mode: 0o644})
		if err == nil {
			err = g.s.Meta.Sync(ctx)
		}
		g.mu.Lock()
		switch {
		case err == nil:
			g.acked[name] = true
		case errors.Is(err, fsapi.Fenced) || ctx.Err() != nil:
			g.err = err
		}
		g.mu.Unlock()
		time.Sleep(pause)
	}
}

// end waits until the process knows that it was replaced, and ends it.
func (g *ghost) end() error {
	g.life.hold.end()
	done := make(chan struct{})
	go func() {
		g.worker.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
		g.mu.Lock()
		if !errors.Is(g.err, fsapi.Fenced) {
			err = fmt.Errorf("a process that was replaced was not fenced: %w", g.err)
		}
		g.mu.Unlock()
	case <-time.After(2 * time.Hour):
		err = errors.New("a process that was replaced did not learn of it within hours")
		g.life.dead.Store(true)
	}
	g.stop()
	g.worker.Wait()
	g.upkeep.Wait()
	began := time.Now()
	_ = g.s.Close() // it says what could not be stored
	if took := time.Since(began); took > time.Hour {
		err = errors.Join(err, fmt.Errorf("the end of a process that was replaced took %v", took))
	}
	g.life.dead.Store(true)
	for _, d := range g.drives {
		_ = d.Close()
	}
	return err
}

// haunted are the names that a process made that was replaced.
func (w *world) haunted(dir fsapi.Ino) (map[string]bool, error) {
	list, err := workload.List(w.ctx, w.s.Local, dir)
	names := map[string]bool{}
	for _, e := range list {
		names[e.Name] = true
	}
	return names, err
}
