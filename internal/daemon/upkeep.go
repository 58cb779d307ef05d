package daemon

import (
	"context"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob/upkeep"
)

func (n *Node) newUpkeep() (*upkeep.Upkeep, error) {
	return upkeep.New(upkeep.Options{
		Store: n.blob, Meta: n.meta, Drives: n.drives.set,
		Delay: n.cfg.GC.Delay, GCEvery: n.cfg.GC.Interval, LiveRatio: n.cfg.GC.Ratio,
		JournalMax: int64(n.cfg.Journal.Pack), JournalAge: n.cfg.Journal.PackAge,
		Clock: n.clock, Log: n.log,
	})
}

// gc is one pass of upkeep, asked for.
func (n *Node) gc(ctx context.Context, req api.GC) (api.GCReport, error) {
	out := api.GCReport{Kept: []string{}}
	for _, v := range n.volumes.all() {
		if err := v.local.Syncfs(ctx); err != nil {
			return out, err
		}
	}
	packed, err := n.upkeep.Pack(ctx)
	if err != nil {
		return out, err
	}
	r, err := n.upkeep.GC(ctx, upkeep.GCOptions{Now: req.Now})
	out.Packed, out.Swept, out.Compacted = int64(packed.Frames), int64(r.Swept), int64(r.Compact.Segments)
	out.Condemned, out.Deleted = int64(r.Collect.Condemned), int64(r.Collect.Deleted)
	out.Freed, out.Orphans = r.Collect.Bytes+r.Orphans.Bytes, int64(r.Orphans.Deleted)
	for _, d := range append(packed.Bad, r.Doubts()...) {
		out.Kept = append(out.Kept, d.String())
	}
	return out, err
}

// upkeepProblems is what upkeep found that an operator must see.
func (n *Node) upkeepProblems() []string { return nil }
