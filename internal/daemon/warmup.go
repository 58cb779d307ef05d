package daemon

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
)

// warmupFailed is the last line of a warmup that could not go on.
func warmupFailed(err error) api.WarmupEvent { return api.WarmupEvent{End: true, Error: err.Error()} }

// warming is one warmup. What it did before is found done by the next one.
type warming struct {
	n    *Node
	req  api.Warmup
	emit func(api.WarmupEvent) error
	seen map[fsapi.SegmentID]bool
	sum  api.WarmupEvent
}

// warmup promotes each segment below a path to the hottest tier it should be on,
// or the one asked for, and brings those that stay on a drive with a disk cache
// into that.
func (n *Node) warmup(ctx context.Context, req api.Warmup, emit func(api.WarmupEvent) error) error {
	if req.Tier != "" && fsapi.TierRank(req.Tier) < 0 {
		return fsapi.Errorf(fsapi.Invalid, "tier %q is not hot, warm or cold", req.Tier)
	}
	p, err := n.find(ctx, api.PathReq{Volume: req.Volume, Path: req.Path})
	if err != nil {
		return err
	}
	w := &warming{n: n, req: req, emit: emit, seen: map[fsapi.SegmentID]bool{}}
	if err := n.eachFile(ctx, p, func(a *fsapi.Attr) error { return w.file(ctx, p.v, a.Ino) }); err != nil {
		return err
	}
	w.sum.End = true
	return emit(w.sum)
}

func (w *warming) file(ctx context.Context, v *volume, ino fsapi.Ino) error {
	w.sum.Files++
	_, _, err := w.n.segmentsOf(ctx, v, ino, func(s *fsapi.Segment) error {
		if w.seen[s.ID] {
			return nil
		}
		w.seen[s.ID] = true
		return w.segment(ctx, s)
	})
	return err
}

// segment brings one segment nearer and says so. What cannot be is reported and
// passed over.
func (w *warming) segment(ctx context.Context, s *fsapi.Segment) error {
	w.sum.Segments++
	moved, err := w.n.upkeep.PromoteUp(ctx, s.ID, w.req.Tier)
	w.sum.Promoted += moved
	if moved == 0 && ctx.Err() == nil {
		cached, cerr := w.n.blob.Warm(ctx, s)
		w.sum.Cached += cached
		if cached > 0 && cerr == nil && errors.Is(err, fsapi.NoSpace) {
			err = nil // it is near all the same
		}
		err = errors.Join(err, cerr)
	}
	if ctx.Err() != nil {
		return fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "warm up")
	}
	ev := w.sum
	if err != nil {
		w.sum.Failed++
		ev.Failed, ev.Problem = w.sum.Failed, err.Error()
	}
	return w.emit(ev)
}
