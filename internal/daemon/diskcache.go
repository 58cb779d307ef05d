package daemon

import (
	"cmp"
	"path/filepath"
	"strings"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/diskcache"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// cached puts a drive behind its disk cache where it should have one. Without
// its cache a drive is slow, but works.
func (n *Node) cached(rec meta.DriveRecord, d drive.Drive) drive.Drive {
	if rec.Cache <= 0 {
		return d
	}
	c, err := diskcache.Open(diskcache.Options{
		Drive: d, Dir: n.cacheDir(rec.ID), Bytes: rec.Cache, Page: int(n.cfg.DiskCache.Page), WriteThrough: n.cfg.DiskCache.WriteThrough,
		Cache: immutable, FS: n.fs, Clock: n.clock, Log: n.log,
	})
	if err != nil {
		n.log.Error("a drive works without its disk cache", "drive", rec.Name, "err", err)
		return d
	}
	return c
}

// cacheDir is the directory of a drive's cache.
func (n *Node) cacheDir(id fsapi.DriveID) string {
	return filepath.Join(cmp.Or(n.cfg.DiskCache.Dir, n.at.cache()), id.String())
}

// immutable are the blobs whose bytes never change (D3).
func immutable(name string) bool {
	return strings.HasPrefix(name, blob.SegmentPrefix) || strings.HasPrefix(name, blob.ShardPrefix)
}

// cacheStats adds up the disk caches.
func (ds *drives) cacheStats() (sum diskcache.Stats) {
	for _, d := range ds.set.All() {
		c, ok := d.(*diskcache.Drive)
		if !ok {
			continue
		}
		s := c.Stats()
		sum.Hits, sum.HitBytes, sum.Misses = sum.Hits+s.Hits, sum.HitBytes+s.HitBytes, sum.Misses+s.Misses
		sum.Filled, sum.Bad, sum.Failures = sum.Filled+s.Filled, sum.Bad+s.Bad, sum.Failures+s.Failures
		sum.Pages, sum.PageBytes = sum.Pages+s.Pages, sum.PageBytes+s.PageBytes
	}
	return sum
}
