package history

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/test/stack"
)

// clients is how many work at once.
const clients = 6

// TestConcurrent has clients work at once, each in a subtree of its own with a
// model of its own, while upkeep runs all the time.
func TestConcurrent(t *testing.T) {
	ops := 300
	if long() {
		ops = 10_000
	}
	if *flagOps > 0 {
		ops = *flagOps
	}
	all := configs()
	for _, i := range []int{5, len(all)/2 + 17} {
		c := all[i]
		t.Run(c.name, func(t *testing.T) {
			s := stack.Start(t, c.o)
			together(t, s, *flagSeed*1000, ops)
			s.CheckClean(t)
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
			if err := s.CheckSpace(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// together runs the clients, and upkeep until they are done.
func together(t *testing.T, s *stack.Stack, seed uint64, ops int) {
	ctx, cancel := context.WithCancel(t.Context())
	var work, background sync.WaitGroup
	for i := range clients {
		a, err := s.Local.Mknod(ctx, fsapi.Root, fsapi.RootIno, fmt.Sprint("client", i), vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(ctx, s.Local, a.Ino, fmt.Sprint("/client", i), s.Policy.Atime)
		w.drop = func() error { return s.Local.DropCaches(ctx) }
		work.Go(func() {
			list := generate(seed+uint64(i), ops, opRestart, opUpkeep)
			for n, o := range list {
				if err := w.run(o); err != nil {
					t.Errorf("client %d, operation %d: %v\n%s", i, n, err, tail(w.trace, 30))
					return
				}
			}
			if err := w.closeAll(); err != nil {
				t.Error(err)
			}
		})
	}
	background.Go(func() {
		for ctx.Err() == nil {
			if err := sweep(ctx, s); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	work.Wait()
	cancel()
	background.Wait()
}

// sweep does what upkeep does in the background, at once and without delays.
func sweep(ctx context.Context, s *stack.Stack) error {
	if _, err := s.Upkeep.Pack(ctx); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	if _, err := s.Upkeep.GC(ctx, upkeep.GCOptions{Now: true}); err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	return nil
}
