package upkeep

import (
	"context"
	"fmt"
	"time"

	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/fsapi"
)

// GCOptions of GC and its steps.
type GCOptions struct {
	// Now leaves out the delays: for an administrator who asks for space, and
	// for tests. Segments under way in this process are never touched.
	Now bool
	// Unreadable deletes also what is dead and does not say what is in it, since it
	// is damaged, once all metadata was searched and refers to none of it.
	Unreadable bool
}

// GCReport is what GC did.
type GCReport struct {
	Swept   int // chunk records without references
	Compact CompactReport
	Collect CollectReport
	Orphans OrphanReport
}

// Doubts is everything kept because of a doubt.
func (r *GCReport) Doubts() []Doubt {
	all := append([]Doubt(nil), r.Compact.Doubts...)
	return append(append(all, r.Collect.Doubts...), r.Orphans.Doubts...)
}

// sweepStep bounds the chunk records of one call of SweepChunks.
const sweepStep = 4096

// GC gives back what nothing needs: sweeps chunks without references, compacts,
// deletes dead segments, sweeps orphans.
func (u *Upkeep) GC(ctx context.Context, o GCOptions) (GCReport, error) {
	return u.gc(ctx, o, true)
}

func (u *Upkeep) gc(ctx context.Context, o GCOptions, orphans bool) (GCReport, error) {
	var r GCReport
	var err error
	if r.Swept, err = u.Sweep(ctx); err != nil {
		return r, err
	}
	if r.Compact, err = u.Compact(ctx, o.Now); err != nil {
		return r, err
	}
	give, err := u.ridding.take(ctx)
	if err != nil {
		return r, err
	}
	defer give()
	if err = u.collect(ctx, o, &r.Collect); err != nil {
		return r, err
	}
	if orphans {
		err = u.sweepOrphans(ctx, o, &r.Orphans)
	}
	return r, err
}

// compactQuiet is how long Run waits after a compaction that achieved nothing.
const compactQuiet = 10 * time.Minute

// tidy is the step of Run: it sweeps and deletes, which is short work, and starts
// a job where there is something to compact.
func (u *Upkeep) tidy(ctx context.Context) error {
	found, err := u.tidyUp(ctx)
	if err != nil || !found {
		return err
	}
	_, err = u.StartJob(ctx, JobCompact)
	return err
}

func (u *Upkeep) tidyUp(ctx context.Context) (sparse bool, err error) {
	give, err := u.ridding.take(ctx)
	if err != nil {
		return false, err
	}
	defer give()
	if _, err = u.sweep(ctx); err != nil {
		return false, err
	}
	var r CollectReport
	if err = u.collect(ctx, GCOptions{}, &r); err != nil {
		return false, err
	}
	if quiet := u.o.Clock.Now().Sub(time.Unix(0, u.futile.Load())); quiet >= 0 && quiet < compactQuiet {
		return false, nil
	}
	cands, _, err := u.sparse(ctx, fsapi.SegmentID{}, newest(), 1, false, new(CompactReport))
	return len(cands) > 0, err
}

// compacted notes whether a job that compacts achieved anything.
func (u *Upkeep) compacted(something bool) {
	if something {
		u.futile.Store(0)
	} else {
		u.futile.Store(u.o.Clock.Now().UnixNano())
	}
}

// runGC is GC as a job.
func (u *Upkeep) runGC(ctx context.Context, t *job.Task) error {
	r, err := u.gc(ctx, GCOptions{}, false)
	if err != nil {
		return err
	}
	t.Note(fmt.Sprintf("%d chunks released, %d segments compacted, %d deleted (%d bytes), %d wait for their delay",
		r.Swept, r.Compact.Segments, r.Collect.Deleted, r.Collect.Bytes, r.Collect.Waiting))
	return t.Step(ctx, nil, int64(r.Collect.Deleted), r.Collect.Bytes)
}

// Sweep deletes the records of chunks without references and says how many.
func (u *Upkeep) Sweep(ctx context.Context) (int, error) {
	give, err := u.ridding.take(ctx)
	if err != nil {
		return 0, err
	}
	defer give()
	return u.sweep(ctx)
}

func (u *Upkeep) sweep(ctx context.Context) (swept int, err error) {
	for more := true; more; {
		var n int
		n, more, err = u.o.Meta.SweepChunks(ctx, sweepStep)
		swept += n
		u.count.chunksSwept.Add(uint64(n))
		if err != nil {
			return swept, err
		}
		if err = ctx.Err(); err != nil {
			return swept, err
		}
	}
	return swept, nil
}
