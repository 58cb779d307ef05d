package daemon

import (
	"context"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// Bounds of a page of what is pending.
const (
	pendingPage    = 1000
	pendingPageMax = 10_000
)

// pending lists the segments whose copies are not those they should have.
func (n *Node) pending(ctx context.Context, req api.PendingReq) (api.PendingList, error) {
	out := api.PendingList{Backlog: backlogText(n.upkeep.Backlog()), Pending: []api.Pending{}}
	if req.Limit == 0 {
		req.Limit = pendingPage
	}
	if req.Limit < 0 || req.Limit > pendingPageMax {
		return out, fsapi.Errorf(fsapi.Invalid, "limit %d: want 1 to %d", req.Limit, pendingPageMax)
	}
	var after fsapi.SegmentID
	if req.After != "" {
		var err error
		if after, err = fsapi.ParseSegmentID(req.After); err != nil {
			return out, err
		}
	}
	var list []meta.Pending
	if err := n.meta.Pending(ctx, after, func(p meta.Pending) bool {
		out.More = len(list) == req.Limit
		if !out.More {
			list = append(list, p)
		}
		return !out.More
	}); err != nil {
		return out, err
	}
	tiers := map[string]bool{} // that something is owed to
	for _, p := range list {
		seg, err := n.meta.Segment(ctx, p.Segment)
		if err != nil { // done meanwhile
			continue
		}
		out.Pending = append(out.Pending, n.pendingText(p, &seg))
		for _, c := range seg.Owed() {
			tiers[c.Tier] = true
		}
	}
	out.Drives = n.drives.troubled(func(tier string) bool { return tiers[tier] })
	return out, nil
}

func (n *Node) pendingText(p meta.Pending, seg *fsapi.Segment) api.Pending {
	out := api.Pending{
		Segment: p.Segment.String(), Size: p.Size, Since: p.Since, Attempts: p.Attempts, Next: p.Next, Error: p.Err, Owed: []string{},
		Waits: n.upkeep.Waits(p),
	}
	for _, c := range seg.Owed() {
		out.Owed = append(out.Owed, c.Tier+":"+policy.Layout(c))
	}
	for _, c := range seg.Surplus() {
		out.Surplus = append(out.Surplus, c.Tier+":"+policy.Layout(fsapi.CopySpec{Replicas: len(c.Drives), K: c.K, M: c.M}))
	}
	return out
}

func backlogText(b upkeep.Backlog) api.Backlog {
	out := api.Backlog{Segments: int64(b.Segments), Bytes: b.Bytes, Failing: int64(b.Failing), Error: b.Err}
	if !b.Oldest.IsZero() {
		out.Oldest = &b.Oldest
	}
	return out
}

// copiesText is a list of wanted copies as a policy has it.
func copiesText(c []fsapi.CopySpec) string { return policy.Copies(c).String() }
