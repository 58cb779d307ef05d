package daemon

import (
	"cmp"
	"context"
	"errors"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob/heat"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// allTiers has the bit of every tier.
const allTiers = 1<<3 - 1

// newHeat makes the table of accesses.
func (n *Node) newHeat() *heat.Table {
	t := &n.cfg.Tiering
	return heat.New(heat.Options{Reads: t.PromoteReads, Window: t.PromoteWindow, Apart: t.PromoteApart, Clock: n.clock})
}

// tiering is the configuration as upkeep takes it.
func (n *Node) tiering() upkeep.Tiering {
	t := &n.cfg.Tiering
	own := func(high, low float64) upkeep.Watermarks {
		return upkeep.Watermarks{High: cmp.Or(high, t.High), Low: cmp.Or(low, t.Low)}
	}
	return upkeep.Tiering{
		Marks: own(0, 0), Tiers: map[string]upkeep.Watermarks{
			"hot": own(t.HotHigh, t.HotLow), "warm": own(t.WarmHigh, t.WarmLow), "cold": own(t.ColdHigh, t.ColdLow),
		},
		Weights: heat.Weights{Recency: t.RecencyWeight, Frequency: t.FrequencyWeight},
		MinAge:  t.MinAge, PromoteRate: int64(t.PromoteRate), Heat: n.heat,
	}
}

// noRoom is told of a tier on which a new segment found no room.
func (n *Node) noRoom(tier string) { n.upkeep.Room(tier) }

// backupDrives are the drives that hold copies of the metadata: those that may
// sleep are left alone while there is another.
func (n *Node) backupDrives() []drive.Drive {
	all := n.drives.set.All()
	var awake []drive.Drive
	for _, d := range all {
		if !d.Info().Spindown {
			awake = append(awake, d)
		}
	}
	if len(awake) == 0 {
		return all
	}
	return awake
}

// segmentsOf calls fn once for each segment that holds bytes of a file, and says
// how many bytes are in none: kept with the metadata, and not stored yet. A
// segment that an extent names holds the chunk if it is there at all.
func (n *Node) segmentsOf(ctx context.Context, v *volume, ino fsapi.Ino, fn func(*fsapi.Segment) error) (inMeta, dirty int64, err error) {
	x, err := v.local.Explain(ctx, ino)
	if err != nil {
		return 0, 0, err
	}
	seen := map[fsapi.SegmentID]bool{}
	for i := range x.Extents {
		e := &x.Extents[i]
		if e.Kind != fsapi.ExtentData {
			inMeta += e.Len
			continue
		}
		if seen[e.Loc.Segment] {
			continue
		}
		seg, err := n.segmentOf(ctx, v.id, e)
		switch {
		case err != nil:
			return inMeta, x.Dirty, err
		case seg == nil:
			inMeta += e.Len
			continue
		case seen[seg.ID]: // found by the chunk's record, not the extent's hint
			continue
		}
		seen[seg.ID] = true
		if err := fn(seg); err != nil {
			return inMeta, x.Dirty, err
		}
	}
	return inMeta, x.Dirty, nil
}

// segmentOf is the segment that holds an extent's chunk; nil where it is in the
// journal.
func (n *Node) segmentOf(ctx context.Context, vol fsapi.VolumeID, e *fsapi.Extent) (*fsapi.Segment, error) {
	loc := e.Loc
	for range 8 { // the chunk may be moved while it is looked for
		if !loc.Segment.IsJournal() {
			seg, err := n.meta.Segment(ctx, loc.Segment)
			if err == nil && seg.Condemned.IsZero() {
				return &seg, nil
			}
			if err != nil && !errors.Is(err, fsapi.NotExist) {
				return nil, err
			}
		}
		c, err := n.meta.Chunk(ctx, vol, e.Chunk)
		if err != nil || c.Loc.Segment.IsJournal() {
			return nil, err
		}
		loc = c.Loc
	}
	return nil, fsapi.Errorf(fsapi.Busy, "chunk %v is being moved", e.Chunk)
}

// tiersOf is the bitmask of tiers on which all bytes of a file can be read: bit 0
// hot, 1 warm, 2 cold. Bytes kept with the metadata, an empty file's among them,
// count as hot; bytes not stored yet are on no tier.
func (n *Node) tiersOf(ctx context.Context, v *volume, ino fsapi.Ino) (mask uint8, err error) {
	mask = allTiers
	found := false
	inMeta, dirty, err := n.segmentsOf(ctx, v, ino, func(s *fsapi.Segment) error {
		mask &= n.tierMask(s)
		found = true
		return nil
	})
	switch {
	case err != nil || dirty > 0:
		return 0, err
	case inMeta > 0 || !found:
		mask &= 1
	}
	return mask, nil
}

// tierMask are the tiers on which a segment can be read whole.
func (n *Node) tierMask(s *fsapi.Segment) (mask uint8) {
	for i := range s.Copies {
		c := &s.Copies[i]
		there := 0
		for _, d := range c.Drives {
			if d != 0 && n.drives.set.State(d).Readable() {
				there++
			}
		}
		if r := fsapi.TierRank(c.Tier); r >= 0 && there >= max(1, c.K) {
			mask |= 1 << r
		}
	}
	return mask
}

// volumeTiers is tiersOf for the REST door.
func (n *Node) volumeTiers(ctx context.Context, name string, ino fsapi.Ino) (uint8, error) {
	v, err := n.volumes.get(name)
	if err != nil {
		return 0, err
	}
	return n.tiersOf(ctx, v, ino)
}

// evict takes copies from a tier that a colder pinned one stands in for: those of
// what lies below a path, or all; without either it drops what is cached in
// memory.
func (n *Node) evict(ctx context.Context, req api.Evict) (api.EvictReport, error) {
	out := api.EvictReport{Kept: []string{}}
	if req.Path == "" && req.Tier == "" {
		for _, v := range n.volumes.all() {
			if err := v.local.DropCaches(ctx); err != nil {
				return out, err
			}
		}
		return out, nil
	}
	if req.Tier != "" && fsapi.TierRank(req.Tier) < 0 {
		return out, fsapi.Errorf(fsapi.Invalid, "tier %q is not hot, warm or cold", req.Tier)
	}
	if req.Path == "" {
		err := n.meta.Segments(ctx, fsapi.SegmentID{}, func(s meta.SegmentUse) bool {
			n.evictSegment(ctx, &s.Segment, req.Tier, &out)
			return ctx.Err() == nil
		})
		return out, errors.Join(err, ctx.Err())
	}
	p, err := n.find(ctx, api.PathReq{Volume: req.Volume, Path: req.Path})
	if err != nil {
		return out, err
	}
	seen := map[fsapi.SegmentID]bool{}
	return out, n.eachFile(ctx, p, func(a *fsapi.Attr) error {
		_, _, err := n.segmentsOf(ctx, p.v, a.Ino, func(s *fsapi.Segment) error {
			if !seen[s.ID] {
				seen[s.ID] = true
				n.evictSegment(ctx, s, req.Tier, &out)
			}
			return ctx.Err()
		})
		return err
	})
}

// maxKept bounds the reasons that are reported one by one.
const maxKept = 100

// evictSegment evicts the copies of a segment that may go from a tier, "" from
// any.
func (n *Node) evictSegment(ctx context.Context, s *fsapi.Segment, tier string, out *api.EvictReport) {
	for _, w := range s.Want {
		if !w.Evictable || tier != "" && w.Tier != tier || s.Copy(w) == nil {
			continue
		}
		err := n.upkeep.Evict(ctx, s.ID, w.Tier)
		switch {
		case err == nil:
			out.Copies++
			out.Bytes += s.Size
		case len(out.Kept) < maxKept:
			out.Kept = append(out.Kept, err.Error())
		}
	}
}

// eachFile calls fn for the regular files at and below a place.
func (n *Node) eachFile(ctx context.Context, p place, fn func(*fsapi.Attr) error) error {
	var failed error
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	err := walkTree(stop, p.v.local, p.attr, func(a *fsapi.Attr) {
		if a.Type != fsapi.TypeRegular || failed != nil {
			return
		}
		err := fn(a)
		if errors.Is(err, fsapi.NotExist) || errors.Is(err, fsapi.Stale) {
			return // removed meanwhile
		}
		if failed = err; failed != nil {
			cancel()
		}
	})
	if failed != nil {
		return failed
	}
	return err
}
