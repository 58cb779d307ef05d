package daemon

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
)

func apiSnapshot(s *vfs.Snapshot) api.Snapshot {
	return api.Snapshot{ID: uint32(s.ID), Name: s.Name, Created: s.Created, Until: s.Until, Auto: s.Auto, Deleting: s.Deleting, Held: s.Held}
}

func (n *Node) listSnapshots(ctx context.Context, req api.VolumeReq) (api.Snapshots, error) {
	out := api.Snapshots{Snapshots: []api.Snapshot{}}
	v, err := n.volumes.get(req.Volume)
	if err != nil {
		return out, err
	}
	list, err := v.local.Snapshots(ctx)
	for i := range list {
		out.Snapshots = append(out.Snapshots, apiSnapshot(&list[i]))
	}
	return out, err
}

func (n *Node) showSnapshot(ctx context.Context, req api.SnapshotReq) (api.Snapshot, error) {
	v, err := n.volumes.get(req.Volume)
	if err != nil {
		return api.Snapshot{}, err
	}
	s, err := v.local.Snapshot(ctx, req.Name)
	return apiSnapshot(&s), err
}

func (n *Node) createSnapshot(ctx context.Context, req api.SnapshotCreate) (api.Snapshot, error) {
	v, err := n.volumes.get(req.Volume)
	if err != nil {
		return api.Snapshot{}, err
	}
	s, err := v.local.CreateSnapshot(ctx, admin, vfs.Snapshot{Name: req.Name, Until: req.Until})
	return apiSnapshot(&s), err
}

func (n *Node) deleteSnapshot(ctx context.Context, req api.SnapshotReq) (api.Empty, error) {
	v, err := n.volumes.get(req.Volume)
	if err != nil {
		return api.Empty{}, err
	}
	return api.Empty{}, v.local.DeleteSnapshot(ctx, admin, req.Name)
}

func diffFailed(err error) api.Difference { return api.Difference{End: true, Error: err.Error()} }

func (n *Node) diffSnapshots(ctx context.Context, req api.SnapshotDiff, emit func(api.Difference) error) error {
	v, err := n.volumes.get(req.Volume)
	if err != nil {
		return err
	}
	err = v.local.DiffSnapshots(ctx, req.From, req.To, func(d vfs.Difference) error {
		return emit(api.Difference{Kind: string(d.Kind), Path: d.Path, From: d.From, Type: typeNames[d.Type], Ino: uint64(d.Ino)})
	})
	if err != nil {
		return err
	}
	return emit(api.Difference{End: true})
}

func copyFailed(err error) api.CopyEvent { return api.CopyEvent{End: true, Error: err.Error()} }

func copyEvent(p *vfs.CopyProgress) api.CopyEvent {
	return api.CopyEvent{Seen: p.Seen, Changed: p.Changed, Removed: p.Removed, Kept: p.Kept}
}

// follow passes progress on to who asked. Who does not listen any more stops
// the work.
func follow(ctx context.Context, emit func(api.CopyEvent) error) (context.Context, context.CancelFunc, func(vfs.CopyProgress)) {
	ctx, cancel := context.WithCancel(ctx)
	last := time.Now()
	return ctx, cancel, func(p vfs.CopyProgress) {
		if time.Since(last) < 200*time.Millisecond {
			return
		}
		last = time.Now()
		p.Kept = nil
		if emit(copyEvent(&p)) != nil {
			cancel()
		}
	}
}

func (n *Node) restoreSnapshot(ctx context.Context, req api.SnapshotRestore, emit func(api.CopyEvent) error) error {
	v, err := n.volumes.get(req.Volume)
	if err != nil {
		return err
	}
	ctx, cancel, progress := follow(ctx, emit)
	defer cancel()
	done, err := v.local.RestoreSnapshot(ctx, admin, vfs.RestoreSnapshot{Snapshot: req.Name, Path: req.Path, To: req.To}, progress)
	if err != nil {
		return err
	}
	e := copyEvent(&done.CopyProgress)
	e.Before, e.End = done.Before, true
	return emit(e)
}

func (n *Node) clone(ctx context.Context, req api.Clone, emit func(api.CopyEvent) error) error {
	v, err := n.volumes.get(req.Volume)
	if err != nil {
		return err
	}
	ctx, cancel, progress := follow(ctx, emit)
	defer cancel()
	done, err := v.local.Clone(ctx, admin, req.From, req.To, progress)
	if err != nil {
		return err
	}
	e := copyEvent(&done)
	e.End = true
	return emit(e)
}

func (n *Node) showRetention(ctx context.Context, req api.PathReq) (api.Retention, error) {
	p, err := n.find(ctx, req)
	if err != nil {
		return api.Retention{}, err
	}
	r, err := p.v.local.Retention(ctx, p.attr.Ino)
	return api.Retention{Path: p.path, Mode: string(r.Mode), Until: r.Until, Hold: r.Hold, Active: r.Active(n.meta.RetentionNow())}, err
}

func (n *Node) setRetention(ctx context.Context, req api.RetentionSet) (api.Retention, error) {
	at := api.PathReq{Volume: req.Volume, Path: req.Path}
	p, err := n.find(ctx, at)
	if err != nil {
		return api.Retention{}, err
	}
	r, err := p.v.local.Retention(ctx, p.attr.Ino)
	if err != nil {
		return api.Retention{}, err
	}
	switch mode := policy.RetentionMode(req.Mode); {
	case mode == policy.Governance || mode == policy.Compliance:
		if req.Until.IsZero() {
			return api.Retention{}, fsapi.Errorf(fsapi.Invalid, "say until when %s is to be retained", p.path)
		}
		if now := n.meta.RetentionNow(); !req.Until.After(now) {
			return api.Retention{}, fsapi.Errorf(fsapi.Invalid, "retention of %s until %s would hold nothing: the store's clock says %s",
				p.path, req.Until.UTC().Format(time.RFC3339), now.Format(time.RFC3339))
		}
		r.Mode, r.Until = mode, req.Until.UTC()
	case mode == "none":
		r.Mode, r.Until = "", time.Time{}
	case mode != "" || !req.Until.IsZero():
		return api.Retention{}, fsapi.Errorf(fsapi.Invalid, "retention mode %q: want governance, compliance or none", req.Mode)
	}
	if req.Hold != nil {
		r.Hold = *req.Hold
	}
	if _, err := policy.ParseRetained(r.String()); err != nil {
		return api.Retention{}, err
	}
	if err := p.v.local.SetRetention(ctx, admin, p.attr.Ino, r, req.Override); err != nil {
		return api.Retention{}, err
	}
	return n.showRetention(ctx, at)
}
