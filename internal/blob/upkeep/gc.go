package upkeep

import "context"

// GCOptions of GC and its steps.
type GCOptions struct {
	// Now leaves out the delays: for an administrator who asks for space, and
	// for tests. Segments under way in this process are never touched.
	Now bool
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
	give, err := u.ridding.take(ctx)
	if err != nil {
		return r, err
	}
	defer give()
	if r.Swept, err = u.sweep(ctx); err != nil {
		return r, err
	}
	if err = u.compact(ctx, &r.Compact); err != nil {
		return r, err
	}
	if err = u.collect(ctx, o, &r.Collect); err != nil {
		return r, err
	}
	if orphans {
		err = u.sweepOrphans(ctx, o, &r.Orphans)
	}
	return r, err
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
