package daemon

import (
	"context"
	"strings"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
)

func (n *Node) listTrash(ctx context.Context, req api.TrashList) (api.Trash, error) {
	out := api.Trash{Entries: []api.TrashEntry{}}
	v, err := n.volumes.get(req.Volume)
	if err != nil {
		return out, err
	}
	limit := req.Limit
	if limit <= 0 {
		limit = 1000
	}
	entries, more, err := v.local.Trash(ctx, limit)
	if err != nil {
		return out, err
	}
	out.More = more
	for _, e := range entries {
		out.Entries = append(out.Entries, api.TrashEntry{
			Ino: uint64(e.Ino), Path: "/" + strings.TrimPrefix(e.Path, "/"), Type: typeNames[e.Attr.Type], Size: e.Attr.Size, Deleted: e.Deleted, Expires: e.Expires,
		})
	}
	return out, nil
}

func (n *Node) restoreTrash(ctx context.Context, req api.TrashRestore) (api.PathReq, error) {
	v, err := n.volumes.get(req.Volume)
	if err != nil {
		return api.PathReq{}, err
	}
	path, err := v.local.RestoreTrash(ctx, admin, fsapi.Ino(req.Ino), req.To)
	if err != nil {
		return api.PathReq{}, err
	}
	return api.PathReq{Volume: v.name(), Path: path}, n.meta.Sync(ctx)
}

func (n *Node) emptyTrash(ctx context.Context, req api.TrashEmpty) (api.Count, error) {
	v, err := n.volumes.get(req.Volume)
	if err != nil {
		return api.Count{}, err
	}
	count, err := v.local.EmptyTrash(ctx, fsapi.Ino(req.Ino), req.Before)
	if err != nil {
		return api.Count{}, err
	}
	return api.Count{Count: int64(count)}, n.meta.Sync(ctx)
}
