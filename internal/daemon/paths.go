package daemon

import (
	"context"
	"fmt"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
)

// admin is who administration acts as.
var admin = &fsapi.Cred{Door: "admin"}

// place is a resolved path of a volume.
type place struct {
	v    *volume
	name string
	attr fsapi.Attr
	path string
}

// find resolves a request's path, not following a symlink at its end.
func (n *Node) find(ctx context.Context, req api.PathReq) (place, error) {
	v, err := n.volumes.get(req.Volume)
	if err != nil {
		return place{}, err
	}
	p := place{v: v, name: v.name()}
	if p.attr, err = vfs.Walk(ctx, v.local, admin, req.Path, false); err != nil {
		return p, err
	}
	if p.path, err = vfs.PathOf(ctx, v.local, p.attr.Ino); err != nil {
		p.path = req.Path
	}
	return p, nil
}

func (n *Node) showPolicy(ctx context.Context, req api.PathReq) (api.Policy, error) {
	p, err := n.find(ctx, req)
	if err != nil {
		return api.Policy{}, err
	}
	own, holds, err := p.v.local.EffectivePolicy(ctx, p.attr.Ino)
	if err != nil {
		return api.Policy{}, err
	}
	out := api.Policy{Path: p.path, Own: own.String(), Effective: holds.String(), Backlog: backlogText(n.upkeep.Backlog())}
	out.Relayouts, err = n.relayoutsOf(ctx, p)
	return out, err
}

func (n *Node) setPolicy(ctx context.Context, req api.PolicySet) (api.Policy, error) {
	at := api.PathReq{Volume: req.Volume, Path: req.Path}
	p, err := n.find(ctx, at)
	if err != nil {
		return api.Policy{}, err
	}
	want, err := policy.Parse(req.Policy)
	if err != nil {
		return api.Policy{}, err
	}
	if err := p.v.local.SetPolicy(ctx, admin, p.attr.Ino, want); err != nil {
		return api.Policy{}, err
	}
	if err := n.meta.Sync(ctx); err != nil {
		return api.Policy{}, err
	}
	return n.showPolicy(ctx, at)
}

func (n *Node) showQuota(ctx context.Context, req api.PathReq) (api.Quota, error) {
	p, err := n.find(ctx, req)
	if err != nil {
		return api.Quota{}, err
	}
	q, u, err := p.v.local.Quota(ctx, p.attr.Ino)
	return api.Quota{Path: p.path, Bytes: q.Bytes, Inodes: q.Inodes, UsedBytes: u.Bytes, UsedInodes: u.Inodes}, err
}

func (n *Node) setQuota(ctx context.Context, req api.QuotaSet) (api.Quota, error) {
	at := api.PathReq{Volume: req.Volume, Path: req.Path}
	p, err := n.find(ctx, at)
	if err != nil {
		return api.Quota{}, err
	}
	if err := p.v.local.SetQuota(ctx, admin, p.attr.Ino, vfs.Quota{Bytes: req.Bytes, Inodes: req.Inodes}); err != nil {
		return api.Quota{}, err
	}
	if err := n.meta.Sync(ctx); err != nil {
		return api.Quota{}, err
	}
	return n.showQuota(ctx, at)
}

// du walks a subtree. A file with several names counts once.
func (n *Node) du(ctx context.Context, req api.PathReq) (api.Du, error) {
	p, err := n.find(ctx, req)
	if err != nil {
		return api.Du{}, err
	}
	d := api.Du{Path: p.path}
	linked := map[fsapi.Ino]bool{}
	err = walkTree(ctx, p.v.local, p.attr, func(a *fsapi.Attr) {
		if a.Type == fsapi.TypeDirectory {
			d.Dirs++
			return
		}
		if a.Nlink > 1 {
			if linked[a.Ino] {
				return
			}
			linked[a.Ino] = true
		}
		d.Files++
		d.Bytes += a.Used
		d.Apparent += a.Size
	})
	return d, err
}

// walkTree calls fn for an inode and everything below it, parents first.
func walkTree(ctx context.Context, fs vfs.FS, a fsapi.Attr, fn func(*fsapi.Attr)) error {
	fn(&a)
	if a.Type != fsapi.TypeDirectory {
		return nil
	}
	dh, err := fs.OpenDir(ctx, admin, a.Ino)
	if err != nil {
		return err
	}
	defer dh.Close()
	var dirs []fsapi.Attr
	err = dh.Read(ctx, 0, true, func(e fsapi.Dirent) bool {
		switch {
		case e.Name == "." || e.Name == "..":
		case e.Type == fsapi.TypeDirectory:
			dirs = append(dirs, e.Attr)
		default:
			fn(&e.Attr)
		}
		return ctx.Err() == nil
	})
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if err := walkTree(ctx, fs, d, fn); err != nil {
			return err
		}
	}
	return ctx.Err()
}

var typeNames = map[fsapi.FileType]string{
	fsapi.TypeRegular: "file", fsapi.TypeDirectory: "directory", fsapi.TypeSymlink: "symlink",
	fsapi.TypeCharDev: "chardev", fsapi.TypeBlockDev: "blockdev", fsapi.TypeFIFO: "fifo", fsapi.TypeSocket: "socket",
}

func (n *Node) info(ctx context.Context, req api.PathReq) (api.Info, error) {
	p, err := n.find(ctx, req)
	if err != nil {
		return api.Info{}, err
	}
	_, holds, err := p.v.local.EffectivePolicy(ctx, p.attr.Ino)
	if err != nil {
		return api.Info{}, err
	}
	out := api.Info{
		Path: p.path, Ino: uint64(p.attr.Ino), Volume: p.name, Type: typeNames[p.attr.Type],
		Size: p.attr.Size, Used: p.attr.Used, Policy: holds.String(),
	}
	if p.attr.Type == fsapi.TypeDirectory {
		d, err := n.du(ctx, req)
		out.Files, out.Dirs, out.Size, out.Used = d.Files, d.Dirs, d.Apparent, d.Bytes
		return out, err
	}
	chunks := map[fsapi.ChunkID]bool{}
	x, err := p.v.local.Explain(ctx, p.attr.Ino)
	for i := range x.Extents {
		if x.Extents[i].Kind != fsapi.ExtentUnwritten {
			chunks[x.Extents[i].Chunk] = true
		}
	}
	out.Chunks = int64(len(chunks))
	return out, err
}

var extentNames = map[fsapi.ExtentKind]string{fsapi.ExtentData: "data", fsapi.ExtentInline: "inline", fsapi.ExtentUnwritten: "unwritten"}

// explain says where every byte of a file lies: by the chunk records, which are
// right even where an extent's hint is old.
func (n *Node) explain(ctx context.Context, req api.PathReq) (api.Explain, error) {
	p, err := n.find(ctx, req)
	if err != nil {
		return api.Explain{}, err
	}
	if p.attr.Type != fsapi.TypeRegular {
		return api.Explain{}, fsapi.Errorf(fsapi.Invalid, "%s is not a regular file: it has no bytes of its own", p.path)
	}
	found, err := p.v.local.Explain(ctx, p.attr.Ino)
	if err != nil {
		return api.Explain{}, err
	}
	out := api.Explain{
		Path: p.path, Ino: uint64(p.attr.Ino), Size: found.Attr.Size, Used: found.Attr.Used, Policy: found.Effective.String(), Dirty: found.Dirty,
		Extents: []api.ExplainExtent{}, Segments: []api.ExplainSegment{},
	}
	seen := map[fsapi.SegmentID]bool{}
	for i := range found.Extents {
		if err := n.explainExtent(ctx, p.v.id, &found.Extents[i], &out, seen); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (n *Node) explainExtent(ctx context.Context, vol fsapi.VolumeID, e *fsapi.Extent, out *api.Explain, seen map[fsapi.SegmentID]bool) error {
	x := api.ExplainExtent{Off: e.Off, Len: e.Len, Kind: extentNames[e.Kind], ChunkOff: e.ChunkOff, ChunkLen: e.ChunkLen}
	if e.Kind == fsapi.ExtentData {
		c, err := n.meta.Chunk(ctx, vol, e.Chunk)
		if err != nil {
			return err
		}
		x.Chunk, x.Segment, x.SegOff, x.Stored = e.Chunk.String(), c.Loc.Segment.String(), c.Loc.Offset, c.Loc.Length
		x.Journal = c.Loc.Segment.IsJournal()
		if !x.Journal && !seen[c.Loc.Segment] {
			seen[c.Loc.Segment] = true
			if err := n.explainSegment(ctx, c.Loc.Segment, out); err != nil {
				return err
			}
		}
	}
	out.Extents = append(out.Extents, x)
	return nil
}

func (n *Node) explainSegment(ctx context.Context, id fsapi.SegmentID, out *api.Explain) error {
	use, err := n.segmentUse(ctx, id)
	if err != nil {
		return err
	}
	x := api.ExplainSegment{ID: id.String(), Size: use.Size, Live: use.Live, Want: copiesText(use.Want), Survives: n.survives(&use.Segment)}
	for i := range use.Copies {
		x.Copies = append(x.Copies, n.explainCopy(&use.Copies[i]))
	}
	if !use.Settled() && use.Condemned.IsZero() {
		p, err := n.meta.PendingOf(ctx, id)
		if err != nil {
			return err
		}
		one := n.pendingText(p, &use.Segment)
		x.Pending = &one
	}
	out.Segments = append(out.Segments, x)
	return nil
}

func (n *Node) explainCopy(c *fsapi.CopyPlace) api.ExplainCopy {
	x := api.ExplainCopy{Tier: c.Tier, Layout: fmt.Sprint(len(c.Drives)), Drives: []string{}}
	if c.Sharded() {
		x.Layout = fmt.Sprintf("%d+%d", c.K, c.M)
	}
	for _, d := range c.Drives {
		name := ""
		if d != 0 {
			name = n.drives.label(d)
		}
		x.Drives = append(x.Drives, name)
	}
	if !c.Verified.IsZero() {
		x.Verified = &c.Verified
	}
	return x
}

// survives is how many drives of a segment may still fail, whichever they are:
// its copies are lost one after another, each by the fewest drives that do it.
// -1: it cannot be read now.
func (n *Node) survives(seg *fsapi.Segment) int {
	sum := -1
	for i := range seg.Copies {
		c, there := &seg.Copies[i], 0
		for _, d := range c.Drives {
			if d != 0 && n.drives.set.State(d).Readable() {
				there++
			}
		}
		if left := there - max(1, c.K); left >= 0 {
			sum += left + 1
		}
	}
	return sum
}

// segmentUse is a segment's record with what is live in it: the first one after
// the id just below.
func (n *Node) segmentUse(ctx context.Context, id fsapi.SegmentID) (use meta.SegmentUse, err error) {
	before := id
	for i := len(before) - 1; i >= 0; i-- {
		if before[i]--; before[i] != 0xff {
			break
		}
	}
	err = n.meta.Segments(ctx, before, func(u meta.SegmentUse) bool {
		use = u
		return false
	})
	if err == nil && use.ID != id {
		err = fsapi.Errorf(fsapi.NotExist, "segment %v has no record", id)
	}
	return use, err
}
