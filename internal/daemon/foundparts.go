package daemon

import (
	"context"
	"errors"
	"slices"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// foundParts is what drives hold of one segment, whatever its record says.
type foundParts struct {
	whole  []drive.Drive
	shards []foundShard
}

type foundShard struct {
	d    drive.Drive
	blob drive.Blob
}

// findParts lists what drives hold, by segment. What has another name is left
// out.
func findParts(ctx context.Context, drives []drive.Drive) (map[fsapi.SegmentID]*foundParts, error) {
	found := map[fsapi.SegmentID]*foundParts{}
	of := func(id fsapi.SegmentID) *foundParts {
		if found[id] == nil {
			found[id] = &foundParts{}
		}
		return found[id]
	}
	for _, d := range drives {
		err := d.List(ctx, blob.SegmentPrefix, "", func(b drive.Blob) error {
			if id, err := blob.ParseSegmentName(b.Name); err == nil {
				of(id).whole = append(of(id).whole, d)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		err = d.List(ctx, blob.ShardPrefix, "", func(b drive.Blob) error {
			if id, _, err := blob.ParseShardName(b.Name); err == nil {
				of(id).shards = append(of(id).shards, foundShard{d, b})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// foundCopy is a copy put together from parts that were found.
type foundCopy struct {
	fsapi.CopyPlace
	size int64 // of the segment, where it is in shards
}

// copies puts the parts together: the replicas of each tier are a copy, and so
// are the shards of one layout, by what they say of themselves. Shards on several
// tiers are one copy, on the tier of the first. err says what was left out.
func (f *foundParts) copies(ctx context.Context, s *blob.Store) (list []foundCopy, err error) {
	at := func(c foundCopy) *foundCopy {
		i := slices.IndexFunc(list, func(o foundCopy) bool {
			return o.K == c.K && o.M == c.M && o.size == c.size && (c.K > 0 || o.Tier == c.Tier)
		})
		if i < 0 {
			c.Drives = make([]fsapi.DriveID, c.K+c.M)
			i, list = len(list), append(list, c)
		}
		return &list[i]
	}
	for _, d := range f.whole {
		c := at(foundCopy{CopyPlace: fsapi.CopyPlace{Tier: d.Info().Tier}})
		c.Drives = append(c.Drives, d.Info().ID)
	}
	var errs []error
	for _, sh := range f.shards {
		h, err := s.IdentifyShard(ctx, sh.d, sh.blob)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c := at(foundCopy{fsapi.CopyPlace{Tier: sh.d.Info().Tier, K: h.Layout.K, M: h.Layout.M}, h.Layout.SegmentSize})
		if c.Drives[h.Index] == 0 {
			c.Drives[h.Index] = sh.d.Info().ID
		}
	}
	return list, errors.Join(errs...)
}

// widened are the copies, with shards in the empty places that do not say what they
// are, or say something else: the checksums of their blocks tell what is in them.
func (f *foundParts) widened(copies []foundCopy) []foundCopy {
	list := slices.Clone(copies)
	for k := range list {
		c := &list[k]
		if !c.Sharded() {
			continue
		}
		c.CopyPlace = c.Clone()
		for _, sh := range f.shards {
			if _, i, err := blob.ParseShardName(sh.blob.Name); err == nil && i < len(c.Drives) && c.Drives[i] == 0 {
				c.Drives[i] = sh.d.Info().ID
			}
		}
	}
	return list
}

// want is the copy as a policy would ask for it.
func (c *foundCopy) want() fsapi.CopySpec {
	w := fsapi.CopySpec{Tier: c.Tier, K: c.K, M: c.M}
	if !c.Sharded() {
		w.Replicas = min(len(c.Drives), fsapi.MaxReplicas)
	}
	return w
}

// open reads the segment's directory from the first copy that has it.
func (f *foundParts) open(ctx context.Context, s *blob.Store, id fsapi.SegmentID, copies []foundCopy) (*blob.SegmentReader, error) {
	var errs []error
	for _, d := range f.whole {
		r, err := s.OpenSegment(ctx, d, id)
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
	}
	for i := range copies {
		c := &copies[i]
		if !c.Sharded() {
			continue
		}
		if !c.Readable() {
			errs = append(errs, fsapi.Errorf(fsapi.Corrupt, "only %d of %d+%d shards are there", c.Count(), c.K, c.M))
			continue
		}
		r, err := s.OpenShards(ctx, id, c.size, &c.CopyPlace)
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, fsapi.Errorf(fsapi.NotExist, "no part of segment %v says what it is", id)
	}
	return nil, fsapi.Wrap(fsapi.KindOf(errs[0]), errors.Join(errs...), "open segment "+id.String())
}
