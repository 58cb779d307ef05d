package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/test/stack"
	"github.com/strakefs/strake/test/workload"
)

// judge opens what a crash left and checks all that was promised. A second
// crash hits some while they recover.
func (h *history) judge(ctx context.Context, p *point) error {
	r := rand.New(rand.NewPCG(h.seed, 1000+uint64(p.n)))
	disk := p.disk
	if r.IntN(3) == 0 {
		var err error
		if disk, err = h.again(ctx, r, disk); err != nil {
			return fmt.Errorf("first opening: %w", err)
		}
	}
	o := h.options
	o.FS = disk
	s, err := stack.Open(o)
	if err != nil {
		return err
	}
	err = h.examine(ctx, s, p)
	if err == nil {
		err = goOn(ctx, s, r, disk)
	}
	return errors.Join(err, s.Close())
}

// again cuts the power while the store is opening, or soon after.
func (h *history) again(ctx context.Context, r *rand.Rand, disk *osfs.Mem) (second *osfs.Mem, err error) {
	fault := osfs.NewFault(disk, nil)
	calls, at := 0, 1+r.IntN(150)
	take := make(chan struct{}, 1) // of one: guards calls, r and second
	fault.SetRule(func(osfs.Call) osfs.Outcome {
		take <- struct{}{}
		if calls++; calls == at {
			second = disk.CrashClone(r, osfs.AnyCrash(r))
		}
		<-take
		return osfs.Outcome{}
	})
	o := h.options
	o.FS = fault
	s, err := stack.Open(o)
	if err != nil {
		return nil, err
	}
	if _, err = s.Upkeep.Pack(ctx); err == nil {
		err = s.Local.Syncfs(ctx)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	if second == nil { // it took fewer calls
		second = disk.CrashClone(r, osfs.CrashLose)
	}
	return second, nil
}

// examine compares what is there with what clients did, checks all invariants,
// reclaims all space that can be, and compares again.
func (h *history) examine(ctx context.Context, s *stack.Stack, p *point) error {
	var verdicts []*workload.Verdict
	for _, c := range h.clients {
		v := workload.Judge(h.clients, c, p.before, p.after)
		found, err := c.Found(ctx, s.Local)
		if err != nil {
			return err
		}
		if err := v.Names(found); err != nil {
			return err
		}
		verdicts = append(verdicts, v)
	}
	if err := workload.Order(verdicts); err != nil {
		return err
	}
	if h.faults != nil {
		if err := heal(ctx, s); err != nil {
			return err
		}
	}
	for range 2 {
		for _, v := range verdicts {
			if err := v.Contents(ctx, s.Local); err != nil {
				return err
			}
		}
		if err := s.Check(ctx); err != nil {
			return fmt.Errorf("check: %w", err)
		}
		if err := s.CheckSpace(ctx); err != nil {
			return fmt.Errorf("space: %w", err)
		}
		if err := s.Local.DropCaches(ctx); err != nil {
			return err
		}
	}
	return nil
}

// goOn works with what is there: new files, a crash, everything deleted.
func goOn(ctx context.Context, s *stack.Stack, r *rand.Rand, disk *osfs.Mem) error {
	want := map[string][]byte{}
	for i := range 4 {
		name := fmt.Sprint("later", i)
		data := make([]byte, 1+r.IntN(50_000))
		for k := range data {
			data[k] = byte(r.Uint32())
		}
		if err := putFile(ctx, s.Local, name, data); err != nil {
			return fmt.Errorf("write after the crash: %w", err)
		}
		want[name] = data
	}
	ships, err := shipper(s)
	if err != nil {
		return err
	}
	if err := ships.Flush(ctx); err != nil {
		return fmt.Errorf("checkpoint after the crash: %w", err)
	}
	o := s.Options
	o.FS = disk.CrashClone(r, osfs.AnyCrash(r))
	again, err := stack.Open(o)
	if err != nil {
		return fmt.Errorf("open after another crash: %w", err)
	}
	return errors.Join(deleteAll(ctx, again, want), again.Close())
}

// putFile makes a file, durably.
func putFile(ctx context.Context, fs *vfs.Local, name string, data []byte) error {
	_, f, err := fs.Create(ctx, fsapi.Root, fsapi.RootIno, name, vfs.NewNode{Mode: 0o644}, vfs.OpenWrite)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(ctx, data, 0)
	if err == nil {
		err = f.Sync(ctx, false)
	}
	return errors.Join(err, f.Close())
}

// deleteAll compares some files, deletes everything and checks that nothing is
// left on any drive.
func deleteAll(ctx context.Context, s *stack.Stack, want map[string][]byte) error {
	for name, data := range want {
		a, err := s.Local.Lookup(ctx, fsapi.Root, fsapi.RootIno, name)
		if err != nil {
			return fmt.Errorf("%s after another crash: %w", name, err)
		}
		got, err := workload.ReadAll(ctx, s.Local, a.Ino)
		if err != nil || !bytes.Equal(got, data) {
			return errors.Join(fmt.Errorf("%s is not what it was before another crash", name), err)
		}
	}
	if err := workload.RemoveBelow(ctx, s.Local, fsapi.RootIno); err != nil {
		return err
	}
	if _, err := s.Local.EmptyTrash(ctx, 0, time.Time{}); err != nil {
		return err
	}
	if err := s.CheckSpace(ctx); err != nil {
		return fmt.Errorf("with everything deleted: %w", err)
	}
	if err := s.Check(ctx); err != nil {
		return fmt.Errorf("with everything deleted: %w", err)
	}
	return empty(ctx, s)
}

// empty checks that no segment is left, recorded or not.
func empty(ctx context.Context, s *stack.Stack) error {
	var errs []error
	err := s.Meta.Segments(ctx, fsapi.SegmentID{}, func(u meta.SegmentUse) bool {
		errs = append(errs, fmt.Errorf("everything is deleted, but segment %v is recorded, with %d live bytes", u.ID, u.Live))
		return true
	})
	errs = append(errs, err)
	for _, d := range s.Set.All() {
		errs = append(errs, d.List(ctx, blob.SegmentPrefix, "", func(b drive.Blob) error {
			return fmt.Errorf("everything is deleted, but drive %s holds %s", d.Info().Name, b.Name)
		}))
	}
	return errors.Join(errs...)
}
