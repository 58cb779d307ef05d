package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/fsapi"
)

func (n *Node) newUpkeep() (*upkeep.Upkeep, error) {
	return upkeep.New(upkeep.Options{
		Store: n.blob, Meta: n.meta, Drives: n.drives.set, Keys: rekeys{n}, Settle: n.settle, Moves: n.moves,
		Delay: n.cfg.GC.Delay, GCEvery: n.cfg.GC.Interval, LiveRatio: n.cfg.GC.Ratio,
		JournalMax: int64(n.cfg.Journal.Pack), JournalAge: n.cfg.Journal.PackAge,
		GatherBytes: int64(n.cfg.Tiering.Gather), GatherTime: n.cfg.Tiering.GatherAge, Tiering: n.tiering(),
		ScrubEvery: orNever(n.cfg.Scrub.Shallow), DeepEvery: orNever(n.cfg.Scrub.Deep), OrphanEvery: orNever(n.cfg.Jobs.Orphans),
		RepairAfter: orNever(n.cfg.Repair.After), Jobs: n.cfg.Jobs.Running, Rate: orNever(int64(n.cfg.Jobs.Rate)),
		Clock: n.clock, Log: n.log,
	})
}

// settle stores what was written in a volume; one that is gone has nothing.
func (n *Node) settle(_ context.Context, vol fsapi.VolumeID) error {
	if v := n.volumes.byID(vol); v != nil {
		return v.local.Settle()
	}
	return nil
}

// moves counts what moved within a volume.
func (n *Node) moves(vol fsapi.VolumeID) uint64 {
	if v := n.volumes.byID(vol); v != nil {
		return v.local.Moves()
	}
	return 0
}

// orNever turns the configuration's 0, never or no bound, into upkeep's negative.
func orNever[T time.Duration | int64](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// gc is one pass of upkeep, asked for.
func (n *Node) gc(ctx context.Context, req api.GC) (api.GCReport, error) {
	out := api.GCReport{Kept: []string{}}
	for _, v := range n.volumes.all() {
		if err := v.local.Settle(); err != nil {
			return out, err
		}
	}
	packed, err := n.upkeep.Pack(ctx)
	if err != nil {
		return out, err
	}
	r, err := n.upkeep.GC(ctx, upkeep.GCOptions{Now: req.Now, Unreadable: req.Unreadable})
	out.Packed, out.Swept, out.Compacted = int64(packed.Frames), int64(r.Swept), int64(r.Compact.Segments)
	out.Condemned, out.Deleted = int64(r.Collect.Condemned), int64(r.Collect.Deleted)
	out.Freed, out.Orphans = r.Collect.Bytes+r.Orphans.Bytes, int64(r.Orphans.Deleted)
	out.Unreadable = int64(r.Orphans.Unreadable)
	for _, d := range append(packed.Bad, r.Doubts()...) {
		out.Kept = append(out.Kept, d.String())
	}
	if packed.Waiting > 0 {
		out.Kept = append(out.Kept, fmt.Sprintf("%d frames or more stay in the journal for now: %v", packed.Waiting, packed.Why))
	}
	if r.Compact.Waiting > 0 {
		out.Kept = append(out.Kept, fmt.Sprintf("%d segments are compacted later: %v", r.Compact.Waiting, r.Compact.Why))
	}
	return out, err
}

// maxProblems bounds how many bad replicas are remembered one by one.
const maxProblems = 100

// problems remembers what is wrong with stored bytes until it is mended. Safe
// for concurrent use.
type problems struct {
	mu  sync.Mutex
	bad map[string]string // by segment and drive; guarded by mu
}

// badReplica is told of each replica that a read found bad.
func (n *Node) badReplica(b blob.BadReplica) {
	n.log.Error("a stored replica is bad", "segment", b.Segment, "drive", b.Drive, "repaired", b.Repaired, "err", b.Err)
	p := &n.problems
	key := b.Segment.String() + b.Drive.String()
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.Repaired {
		delete(p.bad, key)
		return
	}
	if p.bad == nil {
		p.bad = map[string]string{}
	}
	if len(p.bad) < maxProblems {
		p.bad[key] = fmt.Sprintf("segment %v on drive %s: %v", b.Segment, n.drives.label(b.Drive), b.Err)
	}
}

// upkeepProblems is what an operator must see: bad replicas that could not be
// repaired, and what upkeep kept because of a doubt.
func (n *Node) upkeepProblems() []string {
	p := &n.problems
	p.mu.Lock()
	out := slices.Sorted(maps.Values(p.bad))
	p.mu.Unlock()
	u := n.upkeep.Progress()
	if left := u.Bad - u.Repaired; left > 0 {
		out = append(out, fmt.Sprintf("scrub found %d replicas missing or damaged and could repair %d: run strake fsck --online", u.Bad, u.Repaired))
	}
	if u.Doubts > 0 {
		out = append(out, fmt.Sprintf("upkeep kept %d things because of a doubt: strake gc names them", u.Doubts))
	}
	if b := n.upkeep.Backlog(); b.Failing > 0 {
		out = append(out, fmt.Sprintf("%d segments have not the copies they should have and the last attempt failed: strake pending names them: %s", b.Failing, b.Err))
	}
	out = append(out, n.jobProblems()...)
	if st := n.ships.Status(); st.Err != nil {
		out = append(out, fmt.Sprintf("the drives' copies of the metadata are not kept up: %v", st.Err))
	}
	return out
}
