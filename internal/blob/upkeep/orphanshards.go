package upkeep

import (
	"context"
	"errors"
	"slices"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/erasure"
	"github.com/strakefs/strake/internal/fsapi"
)

// shardGroup are all shards of a segment that lie anywhere.
type shardGroup struct {
	id       fsapi.SegmentID
	parts    []*part // by drive and index
	complete bool    // every drive there is was looked at
	layouts  []shardCopy
	strange  int // parts that do not say what they are
}

// shardCopy are those of one layout.
type shardCopy struct {
	fsapi.CopyPlace
	size int64 // of the segment
}

// orphanShards judges the shards of a segment without a record, all together,
// when it meets the first of them: the same on each sweep.
func (u *Upkeep) orphanShards(ctx context.Context, p *part, o GCOptions, r *OrphanReport) error {
	g, err := u.groupShards(ctx, p.id)
	if err != nil {
		return err
	}
	if len(g.parts) == 0 || g.parts[0].drive() != p.drive() || g.parts[0].index != p.index {
		return ctxErr(ctx)
	}
	for _, q := range g.parts {
		if !u.old(q.id, q.blob, o.Now) {
			r.Waiting += len(g.parts)
			return ctxErr(ctx)
		}
	}
	dead, err := u.proveShards(ctx, g)
	if err != nil {
		return u.unreadable(ctx, g.parts, err, o, r)
	}
	if !dead {
		r.Waiting += len(g.parts)
	}
	if !dead || r.look {
		return ctxErr(ctx)
	}
	for _, q := range g.parts {
		if err := u.unless(ctx, q, u.deletePartOf(ctx, q, r), r); err != nil {
			return err
		}
	}
	return nil
}

// groupShards finds all shards of a segment on the drives that can be read.
func (u *Upkeep) groupShards(ctx context.Context, id fsapi.SegmentID) (*shardGroup, error) {
	g := &shardGroup{id: id}
	var err error
	if g.complete, err = u.allReadable(ctx); err != nil {
		return nil, err
	}
	for _, d := range u.o.Drives.All() {
		if !u.o.Drives.State(d.Info().ID).Readable() {
			continue
		}
		err := d.List(ctx, blob.ShardNames(id), "", func(b drive.Blob) error {
			p := &part{d: d, blob: b}
			if err := p.parse(); err == nil && p.shard {
				g.parts = append(g.parts, p)
			}
			return nil
		})
		if err != nil {
			if e := ctxErr(ctx); e != nil {
				return nil, e
			}
			g.complete = false
		}
	}
	for _, p := range g.parts {
		h, err := u.o.Store.IdentifyShard(ctx, p.d, p.blob)
		switch {
		case err == nil:
			g.add(p, h)
		case errors.Is(err, fsapi.Corrupt):
			g.strange++
		default: // it may be good
			if e := ctxErr(ctx); e != nil {
				return nil, e
			}
			g.strange++
			g.complete = false
		}
	}
	return g, nil
}

// add puts a shard to those of its layout, on whichever tier.
func (g *shardGroup) add(p *part, h erasure.Header) {
	l := h.Layout
	i := slices.IndexFunc(g.layouts, func(c shardCopy) bool { return c.K == l.K && c.M == l.M && c.size == l.SegmentSize })
	if i < 0 {
		i = len(g.layouts)
		place := fsapi.CopyPlace{Tier: p.d.Info().Tier, K: l.K, M: l.M, Drives: make([]fsapi.DriveID, l.Shards())}
		g.layouts = append(g.layouts, shardCopy{place, l.SegmentSize})
	}
	if g.layouts[i].Drives[p.index] == 0 {
		g.layouts[i].Drives[p.index] = p.drive()
	}
}

// allReadable reports whether every drive that is recorded or there can be read.
func (u *Upkeep) allReadable(ctx context.Context) (bool, error) {
	recs, err := u.o.Meta.Drives(ctx)
	if err != nil {
		return false, err
	}
	for _, rec := range recs {
		if !u.o.Drives.State(rec.ID).Readable() {
			return false, nil
		}
	}
	for _, d := range u.o.Drives.All() {
		if !u.o.Drives.State(d.Info().ID).Readable() {
			return false, nil
		}
	}
	return true, nil
}

// few reports whether the shards are too few to read, whatever those are that do not
// say what they are.
func (g *shardGroup) few() bool {
	return len(g.layouts) > 0 && !slices.ContainsFunc(g.layouts, func(c shardCopy) bool { return c.Count()+g.strange >= c.K })
}

// openShards opens the segment from the first layout of which there are enough
// shards; nil and no error: there is none.
func (u *Upkeep) openShards(ctx context.Context, g *shardGroup) (r *blob.SegmentReader, err error) {
	var errs []error
	for i := range g.layouts {
		c := &g.layouts[i]
		if !c.Readable() {
			continue
		}
		r, err := u.o.Store.OpenShards(ctx, g.id, c.size, &c.CopyPlace)
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// proveShards reports whether the shards of a segment without a record are dead:
// its directory says so, or they are too few to read and no drive can hold more.
// An error is a doubt; neither: wait.
func (u *Upkeep) proveShards(ctx context.Context, g *shardGroup) (dead bool, err error) {
	for i := range g.layouts {
		c := &g.layouts[i]
		if !c.Readable() {
			continue
		}
		sr, err := u.o.Store.OpenShards(ctx, g.id, c.size, &c.CopyPlace)
		if err != nil {
			return false, err
		}
		if err := u.proveOrphan(ctx, g.id, sr.Directory()); err != nil {
			return false, err
		}
		dead = true
	}
	switch {
	case dead:
		return true, nil
	case !g.complete:
		return false, nil
	case !g.few():
		return false, fsapi.Errorf(fsapi.Corrupt, "%d of %d shards of segment %v, which has no record, do not say what they are", g.strange, len(g.parts), g.id)
	}
	return true, u.unrecorded(ctx, g.id)
}
