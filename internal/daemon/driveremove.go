package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// evacuateDrive moves everything on a drive elsewhere: a job, which ends when
// nothing is left on it. The drive takes nothing new meanwhile and afterwards.
func (n *Node) evacuateDrive(ctx context.Context, req api.Named) (api.Drive, error) {
	return n.leaveDrive(ctx, req.Name, drive.Draining)
}

// removeDrive forgets a drive on which nothing lies. Of one that holds something
// it first makes sure that nothing would be lost with it, and gives it up: what
// it held is made anew elsewhere, by a job, after which it can be removed.
func (n *Node) removeDrive(ctx context.Context, req api.DriveRemove) (api.Drive, error) {
	id := n.drives.byName(req.Name)
	if id == 0 {
		return api.Drive{}, fsapi.Errorf(fsapi.NotExist, "there is no drive named %q", req.Name)
	}
	held, bytes, err := n.upkeep.HeldBy(ctx, id)
	if err != nil {
		return api.Drive{}, err
	}
	if held == 0 {
		return n.forgetDrive(ctx, id)
	}
	if !req.Lose {
		if err := n.refuseLoss(ctx, req.Name, id); err != nil {
			return api.Drive{}, err
		}
	}
	d, err := n.leaveDrive(ctx, req.Name, drive.Retired)
	if err != nil {
		return d, err
	}
	d.Error = fmt.Sprintf("it is retired: %d segments (%d bytes) on it are being made anew elsewhere; remove it again when the job has ended", held, bytes)
	return d, nil
}

// refuseLoss says what would be lost with a drive: fsapi.Busy, or nil.
func (n *Node) refuseLoss(ctx context.Context, name string, id fsapi.DriveID) error {
	only, err := n.onlyOn(ctx, id)
	if err != nil || only.Segments == 0 {
		return err
	}
	files := ""
	for _, s := range only.Listed {
		files += "\n  segment " + s.Segment + " of volume " + s.Volume + ": " + strings.Join(s.Files, ", ")
	}
	return fsapi.Errorf(fsapi.Busy,
		"drive %s holds the only readable copy of %d segments:%s\nuse 'strake drive evacuate %s' first, or 'strake drive remove --lose' to lose them", name, only.Segments, files, name)
}

// leaveDrive gives a drive a state in which everything leaves it.
func (n *Node) leaveDrive(ctx context.Context, name string, st drive.State) (api.Drive, error) {
	id := n.drives.byName(name)
	if id == 0 {
		return api.Drive{}, fsapi.Errorf(fsapi.NotExist, "there is no drive named %q", name)
	}
	n.drives.changing.Lock()
	defer n.drives.changing.Unlock()
	n.drives.mu.Lock()
	rec := n.drives.recs[id]
	n.drives.mu.Unlock()
	old := rec
	rec.State = st.String()
	if err := n.drives.apply(ctx, old, rec); err != nil {
		return api.Drive{}, err
	}
	return n.describeDrive(ctx, id)
}

// forgetDrive removes the record of an empty drive. Its identity and its copy of
// the metadata stay on it; another store may have it.
func (n *Node) forgetDrive(ctx context.Context, id fsapi.DriveID) (api.Drive, error) {
	n.drives.mu.Lock()
	rec := n.drives.recs[id]
	n.drives.mu.Unlock()
	if err := n.meta.DeleteDrive(ctx, id); err != nil {
		return api.Drive{}, err
	}
	err := n.drives.drop(id)
	if err != nil && !errors.Is(err, fsapi.NotExist) {
		return api.Drive{}, err
	}
	if err == nil { // it was there
		if err := n.drives.release(ctx, rec); err != nil {
			n.log.Warn("a drive that was removed is still claimed for this store: another takes it with 'strake drive add --take-over'", "drive", rec.Name, "err", err)
		}
	}
	return api.Drive{ID: id.String(), Name: rec.Name, Kind: rec.Kind, Where: rec.Where, Tier: rec.Tier, Domain: rec.Domain, State: "removed"}, nil
}

// driveReplicas lists what a drive holds of segments.
func (n *Node) driveReplicas(ctx context.Context, req api.ReplicasReq) (api.Replicas, error) {
	out := api.Replicas{Replicas: []api.Replica{}}
	id := n.drives.byName(req.Name)
	if id == 0 {
		return out, fsapi.Errorf(fsapi.NotExist, "there is no drive named %q", req.Name)
	}
	var after fsapi.SegmentID
	if req.After != "" {
		var err error
		if after, err = fsapi.ParseSegmentID(req.After); err != nil {
			return out, err
		}
	}
	if req.Limit == 0 {
		req.Limit = pendingPage
	}
	if req.Limit < 0 || req.Limit > pendingPageMax {
		return out, fsapi.Errorf(fsapi.Invalid, "limit %d: want 1 to %d", req.Limit, pendingPageMax)
	}
	err := n.meta.Segments(ctx, after, func(s meta.SegmentUse) bool {
		var held []api.Replica
		for i := range s.Copies {
			c := &s.Copies[i]
			for part, d := range c.Drives {
				if d == id {
					held = append(held, api.Replica{
						Segment: s.ID.String(), Blob: blob.PartName(s.ID, c, part), Bytes: blob.PartSize(s.Size, c, part), Live: s.Live, Survives: n.survives(&s.Segment),
					})
				}
			}
		}
		out.More = len(held) > 0 && len(out.Replicas) >= req.Limit
		if !out.More {
			out.Replicas = append(out.Replicas, held...)
		}
		return !out.More
	})
	return out, err
}
